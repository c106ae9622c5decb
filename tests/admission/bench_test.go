package admission

import (
	"fmt"
	"strings"
	"time"
)

// A bench is a namespace with two Deployments of two revisions each, in one
// state of a rollback. Nothing runs in them: admission looks at objects.
type bench struct {
	*suite
	ns string
	// sets names the ReplicaSet of each revision as "api 1": after a rollback
	// the Deployment controller counts the old one as the newest.
	sets map[string]string
	// first is the template of each Deployment's revision 1, which never changes.
	first map[string]any
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

func deploymentPath(ns, name string) string {
	return "/apis/apps/v1/namespaces/" + ns + "/deployments/" + name
}
func replicaSetPath(ns, name string) string {
	return "/apis/apps/v1/namespaces/" + ns + "/replicasets/" + name
}
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

// newDeployment is a Deployment with no pods, whose object has labels and
// annotations so that JSON patches may add to them.
func newDeployment(name string) object { return deploymentOf(name, name, "backstop.local/pause:1") }

func deploymentOf(name, app, image string) object {
	return object{
		"apiVersion": "apps/v1", "kind": "Deployment",
		"metadata": object{"name": name, "labels": object{"app": app}, "annotations": object{"team": "shop"}},
		"spec": object{
			"replicas": 0,
			"selector": object{"matchLabels": object{"app": app}},
			"template": object{
				"metadata": object{"labels": object{"app": app}, "annotations": object{"note": "kept"}},
				"spec": object{"containers": []any{object{
					"name": "c", "image": image,
					"resources": object{"limits": object{"cpu": "0.5", "memory": "64Mi"}},
				}}},
			},
		},
	}
}

// prepare makes the namespace, both Deployments and their second revisions.
func (b *bench) prepare(mode string) {
	b.admin.must(request{method: "POST", path: "/api/v1/namespaces", body: object{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": object{"name": b.ns, "labels": object{"backstop.dev/mode": mode, "backstop-test": "admission"}},
	}})
	other := newDeployment("other")
	if b.ns == nsForeign {
		// Its revisions fit api's selector: only who owns them tells them from api's own.
		other = deploymentOf("other", "api", "backstop.local/pause:2")
	}
	for _, deployment := range []object{newDeployment("api"), other} {
		b.admin.must(request{method: "POST", path: "/apis/apps/v1/namespaces/" + b.ns + "/deployments", body: deployment})
	}
}

// secondRevision ships a bad release of both Deployments.
func (b *bench) secondRevision() error {
	for _, name := range []string{"api", "other"} {
		if err := eventually("revision 1 of "+name+" exists", 20*time.Second, func() bool { return b.revision(name, "1") != nil }); err != nil {
			return err
		}
		b.admin.must(request{method: "PATCH", kind: strategicPatch, path: deploymentPath(b.ns, name), body: badRelease("1")})
	}
	for _, name := range []string{"api", "other"} {
		if err := eventually("revision 2 of "+name+" is noted on the Deployment", 20*time.Second, func() bool {
			return b.revision(name, "2") != nil &&
				at(b.deployment(name), "metadata", "annotations", "deployment.kubernetes.io/revision") == "2"
		}); err != nil {
			return err
		}
	}
	sets := map[string]string{}
	for _, key := range []string{"api 1", "api 2", "other 1", "other 2"} {
		name, number, _ := strings.Cut(key, " ")
		sets[key] = at(b.revision(name, number), "metadata", "name").(string)
	}
	b.sets = sets
	return nil
}

func (b *bench) deployment(name string) object { return b.admin.get(deploymentPath(b.ns, name)) }

// revision is the ReplicaSet of a Deployment with that revision number.
func (b *bench) revision(name, number string) object {
	if set := b.sets[name+" "+number]; set != "" {
		return b.admin.get(replicaSetPath(b.ns, set))
	}
	list := b.admin.get("/apis/apps/v1/namespaces/" + b.ns + "/replicasets")
	for _, item := range list["items"].([]any) {
		owners, _ := at(item, "metadata", "ownerReferences").([]any)
		if len(owners) == 1 && at(owners[0], "name") == name && at(item, "metadata", "annotations", "deployment.kubernetes.io/revision") == number {
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

// templateOf is the template of a revision as the Deployment had it.
func (b *bench) templateOf(name, number string) object {
	template := copied(at(b.revision(name, number), "spec", "template")).(object)
	delete(at(template, "metadata", "labels").(object), "pod-template-hash")
	return template
}

// setPath is the path of a revision's ReplicaSet.
func (b *bench) setPath(name, number string) string {
	set := b.sets[name+" "+number]
	if set == "" {
		set = at(b.revision(name, number), "metadata", "name").(string)
	}
	return replicaSetPath(b.ns, set)
}

// granted is the open part of a right Grant for `api`, valid for a minute.
func (b *bench) granted() object {
	api := b.deployment("api")
	return object{
		"actionId": actionID, "action": "rollout-undo", "remediation": "rem-1", "epoch": 1,
		"uid": at(api, "metadata", "uid"), "path": "/spec/template",
		"before": at(api, "spec", "template"), "after": b.recorded("api"),
		"notAfter": inSeconds(60),
	}
}

func inSeconds(n int) string {
	return time.Now().UTC().Add(time.Duration(n) * time.Second).Format(time.RFC3339)
}

// grant writes the namespace's Grant as the controller's account and waits
// until the grant policy sees it. open is nil for a closed one.
func (b *bench) grant(open object) error {
	path := ourPath(b.ns, "grants", "active")
	spec := object{}
	if open != nil {
		spec["open"] = open
	}
	var version string
	if b.admin.exists(path) == nil {
		made := b.controller.must(request{method: "POST", path: ourPath(b.ns, "grants", ""), body: object{
			"apiVersion": "backstop.dev/v1alpha1", "kind": "Grant", "metadata": object{"name": "active"}, "spec": spec,
		}})
		version = at(made, "metadata", "resourceVersion").(string)
	} else {
		// Replaced whole, as the controller does it: `after` is not merged.
		grant := b.admin.get(path)
		grant["spec"] = spec
		version = at(b.controller.must(request{method: "PUT", path: path, body: grant}), "metadata", "resourceVersion").(string)
	}
	var last answer
	err := eventually("the grant policy sees the Grant", 5*time.Second, func() bool {
		last, _ = b.executor.do(selfTest("grant", b.ns, "other"))
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

// mark labels a revision of a Deployment as the one to return to, and waits
// until the provenance policy sees it. It is asked about Deployment other, which
// is never armed: on an armed one the static policy refuses too, and the API
// server names whichever refusal it meets first.
func (b *bench) mark(name, number string) error {
	path := b.setPath(name, number)
	b.executor.must(request{method: "PATCH", kind: jsonPatch, path: path + manager, body: []any{op("add", undoToPtr, "true")}})
	var last answer
	err := eventually("the provenance policy sees the marked revision", 5*time.Second, func() bool {
		last, _ = b.executor.do(selfTest("provenance", b.ns, "other"))
		return strings.Contains(last.message, "self-test: in force")
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

func armOps(extra ...any) []any {
	return append([]any{op("add", armedPtr, "rollout-undo"), op("add", actionPtr, actionID)}, extra...)
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

// patch is a JSON patch on a Deployment as field manager backstop-executor.
func (b *bench) patch(name string, ops []any) request {
	return request{method: "PATCH", kind: jsonPatch, path: deploymentPath(b.ns, name) + manager, body: ops}
}

// pullKillSwitch sets the mode to observe and waits until the static policy
// reads it: it alone refuses the granted fire then.
func (b *bench) pullKillSwitch() error {
	b.admin.must(request{method: "PATCH", kind: mergePatch, path: "/api/v1/namespaces/" + b.ns,
		body: object{"metadata": object{"labels": object{"backstop.dev/mode": "observe"}}}})
	fire := b.patch("api", fireOps(b.recorded("api")))
	fire.path += "&dryRun=All"
	var last answer
	err := eventually("the static policy reads mode observe", 5*time.Second, func() bool {
		last, _ = b.executor.do(fire)
		return strings.Contains(last.message, "mode of namespace "+b.ns+" is observe")
	})
	if err != nil {
		return fmt.Errorf("%s: %w: %s", b.ns, err, last.message)
	}
	return nil
}
