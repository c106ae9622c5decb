package admission

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A bench is a namespace with two workloads of one kind and of two revisions
// each, in one state of a rollback. Nothing runs in them: admission looks at objects.
type bench struct {
	*suite
	*target
	ns    string
	state string
	// sets names the object of each revision as "api 1": after a rollback the
	// old one is counted as the newest.
	sets map[string]string
	// first is the template of each workload's revision 1, which never changes.
	first map[string]any
	// pods are the uids of the namespace's pods.
	pods map[string]string
	// trying is held while a row is tried: some write the Grant first.
	trying sync.Mutex
	// opened is when its Grant was opened last; zero when no row needs it open.
	opened time.Time
}

// Action ids of the tests.
const (
	actionID = "0123456789abcdef0123456789abcdef"
	otherID  = "fedcba9876543210fedcba9876543210"
)

// JSON Pointers into our labels and annotations.
const (
	armedPtr   = "/metadata/labels/backstop.dev~1armed"
	undoToPtr  = "/metadata/labels/backstop.dev~1undo-to"
	actionPtr  = "/metadata/annotations/backstop.dev~1action"
	receiptPtr = "/metadata/annotations/backstop.dev~1last-action"
)

func ourPath(ns, plural, name string) string {
	path := "/apis/backstop.dev/v1alpha1/namespaces/" + ns + "/" + plural
	if name != "" {
		path += "/" + name
	}
	return path
}

// op is one operation of a JSON patch.
func op(kind, path string, value any) object {
	o := object{"op": kind, "path": path}
	if kind != "remove" {
		o["value"] = value
	}
	return o
}

// path is where a workload of this kind and namespace is.
func (b *bench) path(name string) string { return b.target.path(b.ns, name) }

// prepare makes the namespace, both workloads and whatever pods it is to have.
func (b *bench) prepare(mode string) {
	b.admin.must(request{method: "POST", path: "/api/v1/namespaces", body: object{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": object{"name": b.ns, "labels": object{"backstop.dev/mode": mode, "backstop-test": "admission"}},
	}})
	other := b.new("other")
	if b.state == nsForeign {
		// Its revisions fit api's selector: only who owns them tells them from api's own.
		other = b.target.workload("other", "api", "backstop.local/pause:2")
	}
	for _, workload := range []object{b.new("api"), other} {
		b.admin.must(request{method: "POST", path: b.path(""), body: workload})
	}
	if b.pods != nil {
		b.makePods()
	}
}

// secondRevision ships a bad release of both workloads.
func (b *bench) secondRevision() error {
	for _, name := range []string{"api", "other"} {
		if err := eventually("revision 1 of "+name+" exists", func() bool { return b.find(name, "1") != nil }); err != nil {
			return err
		}
		b.admin.must(request{method: "PATCH", kind: strategicPatch, path: b.path(name), body: badRelease("1")})
	}
	for _, name := range []string{"api", "other"} {
		if err := eventually("revision 2 of "+name+" is there and its workload settled", func() bool {
			return b.find(name, "2") != nil && b.settled(b.workload(name))
		}); err != nil {
			return err
		}
	}
	sets := map[string]string{}
	for _, key := range []string{"api 1", "api 2", "other 1", "other 2"} {
		name, number, _ := strings.Cut(key, " ")
		sets[key] = at(b.find(name, number), "metadata", "name").(string)
	}
	b.sets = sets
	return nil
}

func (b *bench) workload(name string) object { return b.admin.get(b.path(name)) }

// find is the revision of a workload that has that number now.
func (b *bench) find(name, number string) object {
	list := b.admin.get(appsPath(b.ns, b.revisions, ""))
	for _, item := range list["items"].([]any) {
		owners, _ := at(item, "metadata", "ownerReferences").([]any)
		if len(owners) == 1 && at(owners[0], "name") == name && b.number(item) == number {
			return item.(object)
		}
	}
	return nil
}

// recorded is the template of revision 1: the value after a rollback.
func (b *bench) recorded(name string) object {
	if b.first == nil {
		b.first = map[string]any{}
	}
	if b.first[name] == nil {
		b.first[name] = b.templateOf(name, "1")
	}
	return copied(b.first[name]).(object)
}

// templateOf is the template of a revision as the workload had it.
func (b *bench) templateOf(name, number string) object {
	return b.recordedIn(b.admin.get(b.setPath(name, number)))
}

// setPath is the path of a revision, by the number that it had at first.
func (b *bench) setPath(name, number string) string {
	return appsPath(b.ns, b.revisions, b.sets[name+" "+number])
}

// granted is the open part of a right Grant for `api`, valid for a minute.
func (b *bench) granted() object {
	api := b.workload("api")
	return b.open(object{"field": object{"path": "/spec/template", "before": at(api, "spec", "template"), "after": b.recorded("api")}}, at(api, "metadata", "uid"))
}

// open is the open part of a Grant for that write.
func (b *bench) open(write object, uid any) object {
	return object{
		"actionId": actionID, "action": "rollout-undo", "remediation": "rem-1", "epoch": 1,
		"uid": uid, "write": write, "notAfter": inSeconds(60),
	}
}

// inSeconds is a time in whole seconds, as the controller writes it: two openings may well end at the same one.
func inSeconds(n int) string {
	return time.Now().UTC().Add(time.Duration(n) * time.Second).Format(time.RFC3339)
}

// epochs counts the openings of Grants: the controller opens none twice for the same claim.
var epochs atomic.Int64

// grant writes the namespace's Grant as the controller's account and waits
// until the grant policy sees it. open is nil for a closed one.
func (b *bench) grant(open object) error {
	path := ourPath(b.ns, "grants", "active")
	spec := object{}
	if open != nil {
		open["epoch"] = epochs.Add(1)
		spec["open"] = open
	}
	var version string
	if b.admin.exists(path) == nil {
		made := b.controller.must(request{method: "POST", path: ourPath(b.ns, "grants", "") + ofController, body: object{
			"apiVersion": "backstop.dev/v1alpha1", "kind": "Grant", "metadata": object{"name": "active"}, "spec": spec,
		}})
		version = at(made, "metadata", "resourceVersion").(string)
	} else {
		// Replaced whole, as the controller does it: `after` is not merged.
		grant := b.admin.get(path)
		grant["spec"] = spec
		version = at(b.controller.must(request{method: "PUT", path: path + ofController, body: grant}), "metadata", "resourceVersion").(string)
	}
	var last answer
	err := eventually("the grant policy sees the Grant", func() bool {
		last, _ = b.executor.do(b.selfTest("grant"))
		return strings.Contains(last.message, "(grant resourceVersion "+version+")")
	})
	if err != nil {
		return fmt.Errorf("%s: %w: %s", b.ns, err, last.message)
	}
	return nil
}

// badRelease is a strategic merge patch that ships another bad release.
func badRelease(value string) object {
	return object{"spec": object{"template": object{"spec": object{"containers": []any{
		object{"name": "c", "env": []any{object{"name": "BAD", "value": value}}},
	}}}}}
}

// mark labels a revision of a workload as the one to return to, and waits
// until the provenance policy sees it. It is asked about `other`, which
// is never armed: on an armed one the static policy refuses too, and the API
// server names whichever refusal it meets first.
func (b *bench) mark(name, number string) error {
	path := b.setPath(name, number)
	b.executor.must(request{method: "PATCH", kind: jsonPatch, path: path + manager, body: []any{op("add", undoToPtr, "true")}})
	var last answer
	err := eventually("the provenance policy sees the marked revision", func() bool {
		last, _ = b.executor.do(b.selfTest(b.provenance))
		// A policy with a planted defect says its canary's sentence instead.
		return strings.Contains(last.message, "self-test: in force") || strings.Contains(last.message, "canary ")
	})
	if err != nil {
		return fmt.Errorf("%s: %w: %s", b.ns, err, last.message)
	}
	return nil
}

// unmark removes the label again.
func (b *bench) unmark(name string) {
	path := b.setPath(name, "1")
	b.executor.must(request{method: "PATCH", kind: jsonPatch, path: path + manager, body: []any{op("remove", undoToPtr, nil)}})
}

// manager is the query that every write of the executor carries.
const manager = "?fieldManager=backstop-executor"

// ofController is the same for the controller's writes of Grants.
const ofController = "?fieldManager=backstop-controller"

func armOps(extra ...any) []any { return armOpsAs("rollout-undo", extra...) }

// armOpsAs arms for the action of this label.
func armOpsAs(label string, extra ...any) []any {
	return append([]any{op("add", armedPtr, label), op("add", actionPtr, actionID)}, extra...)
}

func fireOps(template any, extra ...any) []any {
	return append([]any{
		op("remove", armedPtr, nil), op("remove", actionPtr, nil),
		op("add", receiptPtr, actionID), op("replace", "/spec/template", template),
	}, extra...)
}

func disarmOps(extra ...any) []any {
	return append([]any{op("remove", armedPtr, nil), op("remove", actionPtr, nil)}, extra...)
}

// patch is a JSON patch on a workload as field manager backstop-executor.
func (b *bench) patch(name string, ops []any) request {
	return request{method: "PATCH", kind: jsonPatch, path: b.path(name) + manager, body: ops}
}

// pullKillSwitch sets the mode to observe and waits until the static policy
// reads it: it alone refuses the granted write then.
func (b *bench) pullKillSwitch(granted request) error {
	b.admin.must(request{method: "PATCH", kind: mergePatch, path: "/api/v1/namespaces/" + b.ns,
		body: object{"metadata": object{"labels": object{"backstop.dev/mode": "observe"}}}})
	granted.path += "&dryRun=All"
	var last answer
	err := eventually("the static policy reads mode observe", func() bool {
		last, _ = b.executor.do(granted)
		return strings.Contains(last.message, "mode of namespace "+b.ns+" is observe")
	})
	if err != nil {
		return fmt.Errorf("%s: %w: %s", b.ns, err, last.message)
	}
	return nil
}

// keepOpen opens the Grant again when it was opened a while ago: Grants are short-lived.
func (b *bench) keepOpen() error {
	if b.opened.IsZero() || time.Since(b.opened) < 25*time.Second {
		return nil
	}
	open := at(b.admin.get(ourPath(b.ns, "grants", "active")), "spec", "open").(object)
	open["notAfter"] = inSeconds(60)
	b.opened = time.Now()
	return b.grant(open)
}
