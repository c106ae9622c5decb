package admission

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// text is the canonical JSON of a value.
func text(value any) string {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// served is one resource or subresource that the API server has.
type served struct {
	group, version, resource, sub string
	kind                          string
	namespaced                    bool
}

// about is group/resource/subresource, as mayWrite has it.
func (r served) about() string {
	about := r.group + "/" + r.resource
	if r.sub != "" {
		about += "/" + r.sub
	}
	return about
}

// path of all of them in a namespace, or of one; the namespace is left out where they are in none.
func (r served) path(ns, name string) string {
	path := "/apis/" + r.group + "/" + r.version
	if r.group == "" {
		path = "/api/" + r.version
	}
	if r.namespaced {
		path += "/namespaces/" + ns
	}
	path += "/" + r.resource
	if name != "" {
		path += "/" + name
		if r.sub != "" {
			path += "/" + r.sub
		}
	}
	return path
}

// discover asks the API server for all that it serves, aggregated APIs and every version included.
func (s *suite) discover() []served {
	versions := []string{"v1"}
	for _, group := range s.admin.get("/apis")["groups"].([]any) {
		for _, version := range at(group, "versions").([]any) {
			versions = append(versions, at(version, "groupVersion").(string))
		}
	}
	var all []served
	for _, groupVersion := range versions {
		path := "/apis/" + groupVersion
		group, version, grouped := strings.Cut(groupVersion, "/")
		if !grouped {
			path, group, version = "/api/v1", "", groupVersion
		}
		for _, item := range s.admin.get(path)["resources"].([]any) {
			resource, sub, _ := strings.Cut(at(item, "name").(string), "/")
			namespaced, _ := at(item, "namespaced").(bool)
			all = append(all, served{group, version, resource, sub, at(item, "kind").(string), namespaced})
		}
	}
	return all
}

// breadth is every verb on all that is served, in one state of a rollback, by every account.
func (s *suite) breadth(b *bench) (shots []shot, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	names := map[string]object{}
	for _, r := range s.discover() {
		// An object that exists, where there is one: what does not exist is refused for that.
		found, ok := names[r.group+"/"+r.resource]
		if !ok {
			found = s.someObject(b, r)
			names[r.group+"/"+r.resource] = found
		}
		name, ns := "evil", b.ns
		if found != nil {
			name, _ = at(found, "metadata", "name").(string)
			if of, _ := at(found, "metadata", "namespace").(string); of != "" {
				ns = of
			}
		}
		for _, by := range accounts {
			add := func(what, method, path, kind string, body any) {
				one := shot{by: by, about: r.about(), what: what + " " + r.about(), old: found, request: request{method: method, path: path, kind: kind, body: body}}
				if found != nil && ns == b.ns && (r.group == "apps" && r.sub == "" && (r.resource == b.plural || r.resource == b.revisions)) {
					one.bench = b
				}
				shots = append(shots, one)
			}
			for _, one := range s.verbs(r, found, ns, name) {
				add(one.what, one.method, one.path, one.kind, one.body)
			}
		}
	}
	return shots, nil
}

// someObject is an object of that kind in the namespace, or else anywhere; nil when there is none or it cannot be listed.
func (s *suite) someObject(b *bench, r served) object {
	list := func(path string) object {
		a, err := s.admin.do(request{method: "GET", path: path})
		items, ok := a.body["items"].([]any)
		if err != nil || !ok || len(items) == 0 {
			return nil
		}
		one := items[0].(object)
		one["kind"], one["apiVersion"] = r.kind, r.version
		if r.group != "" {
			one["apiVersion"] = r.group + "/" + r.version
		}
		return one
	}
	main := r
	main.sub = ""
	for _, ns := range []string{b.ns, system} {
		if found := list(main.path(ns, "") + "?limit=1"); found != nil {
			return found
		}
	}
	return nil
}

type sent struct {
	what string
	request
}

// verbs are all that HTTP has for it: reading, creating, replacing, the four kinds of patch, deleting one and all, and
// what opens a connection.
func (s *suite) verbs(r served, found object, ns, name string) []sent {
	var all []sent
	add := func(what, method, path, kind string, body any) {
		all = append(all, sent{what, request{method: method, path: path, kind: kind, body: body}})
	}
	one := r.path(ns, name)
	label := object{"metadata": object{"labels": object{"evil.dev/x": "y"}}}
	whole := object{"apiVersion": strings.TrimPrefix(r.group+"/"+r.version, "/"), "kind": r.kind, "metadata": object{"name": name}}
	if found != nil && r.sub == "" {
		whole = copied(found).(object)
		meta := whole["metadata"].(object)
		labels, _ := meta["labels"].(object)
		if labels == nil {
			labels = object{}
		}
		labels["evil.dev/x"] = "y"
		meta["labels"] = labels
	}
	made := copied(whole).(object)
	meta := made["metadata"].(object)
	for _, key := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields"} {
		delete(meta, key)
	}
	applied := copied(made).(object)
	if r.sub == "" {
		meta["name"] = "evil"
	}
	delete(applied["metadata"].(object), "managedFields")
	switch {
	case r.sub == "":
		add("list", "GET", r.path(ns, "")+"?limit=1", "", nil)
		add("create", "POST", r.path(ns, "")+"?fieldManager=evil", "", made)
		add("delete all", "DELETE", r.path(ns, ""), "", nil)
		add("delete", "DELETE", one, "", nil)
	case slices.Contains([]string{"exec", "attach", "portforward", "proxy"}, r.sub):
		// Not a dry-run, of which they know nothing: whatever it opens is counted.
		add("connect", "POST", one+"?dryRun=All&command=id&container=c&stdout=true", "", nil)
	case r.sub == "log":
	default:
		add("create", "POST", one, "", made)
		add("delete", "DELETE", one, "", nil)
	}
	add("read", "GET", one, "", nil)
	add("replace", "PUT", one, "", whole)
	add("patch by JSON patch", "PATCH", one, jsonPatch, []any{op("add", "/metadata/annotations", object{"evil.dev/x": "y"})})
	add("patch by merge", "PATCH", one, mergePatch, label)
	add("patch by strategic merge", "PATCH", one, strategicPatch, label)
	add("apply", "PATCH", one+"?fieldManager=evil&force=true", applyPatch, applied)
	return all
}

// depth is n changes of what the executor has rights on, by all accounts: in every state of a rollback, several edits at a
// time, in every encoding.
func (s *suite) depth(n int, seed uint64) []shot {
	r := rand.New(rand.NewPCG(seed, 1))
	var benches []*bench
	for _, name := range s.namespaces(func(b *bench) bool {
		return slices.Contains([]string{nsOpen, nsArmed, nsClosed, nsExpired, nsReplay, nsHeld, nsObserve, nsForeign, nsWrong, nsOff}, b.state) || b.evicts() && b.ns != nsEvictEvil
	}) {
		benches = append(benches, s.benches[name])
	}
	objects := map[string]object{}
	read := func(path string) object {
		if objects[path] == nil {
			objects[path] = s.admin.get(path)
		}
		return objects[path]
	}
	shots := make([]shot, 0, n)
	for range n {
		b := randomOf(r, benches)
		// Mostly the executor: the others have no rights here, and that is soon shown.
		by := randomOf(r, []account{executor, executor, executor, executor, executor, executor, executor, controller, investigator})
		shots = append(shots, s.randomShot(r, b, by, read))
	}
	return shots
}

func (s *suite) randomShot(r *rand.Rand, b *bench, by account, read func(string) object) shot {
	if b.pods != nil && (b.evicts() || r.IntN(4) == 0) {
		return randomEviction(r, b, by)
	}
	if r.IntN(5) == 0 {
		path := b.setPath(randomOf(r, []string{"api", "api", "other"}), randomOf(r, []string{"1", "2"}))
		return encoded(r, b, by, "apps/"+b.revisions, path, read(path), randomEdits(r, revisionEdits(b)))
	}
	path := b.path(randomOf(r, []string{"api", "api", "api", "other"}))
	return encoded(r, b, by, "apps/"+b.plural, path, read(path), randomEdits(r, targetEdits(r, b)))
}

// An edit changes an object as a thief would like to.
type objectEdit = func(o object)

func setIn(of, key string, value any) objectEdit {
	return func(o object) {
		meta := o["metadata"].(object)
		in, _ := meta[of].(object)
		if in == nil {
			in = object{}
			meta[of] = in
		}
		if value == nil {
			delete(in, key)
		} else {
			in[key] = value
		}
	}
}

func setSpec(value any, path ...string) objectEdit {
	return func(o object) {
		var in any = o
		for _, key := range path[:len(path)-1] {
			in = at(in, key)
		}
		if in, ok := in.(object); ok {
			in[path[len(path)-1]] = value
		}
	}
}

func inTemplate(change func(container object)) objectEdit {
	return func(o object) {
		if containers, ok := at(o, "spec", "template", "spec", "containers").([]any); ok {
			change(containers[0].(object))
		}
	}
}

// The writes that exist: arm, fire and disarm.
func arms(label, action any) objectEdit {
	return func(o object) {
		setIn("labels", "backstop.dev/armed", label)(o)
		setIn("annotations", "backstop.dev/action", action)(o)
	}
}

func fires(receipt any, template any) objectEdit {
	return func(o object) {
		arms(nil, nil)(o)
		setIn("annotations", "backstop.dev/last-action", receipt)(o)
		if template != nil {
			o["spec"].(object)["template"] = copied(template)
		}
	}
}

func targetEdits(r *rand.Rand, b *bench) []objectEdit {
	ids := []any{actionID, actionID, otherID, "a1", nil}
	labels := []any{"rollout-undo", "rollout-undo", "rollout-restart", "self-test-grant", "", nil}
	template := b.templateFor(r)
	return []objectEdit{
		arms(randomOf(r, labels), randomOf(r, ids)),
		arms("rollout-undo", actionID),
		fires(randomOf(r, ids), template),
		fires(actionID, b.recorded("api")),
		arms(nil, nil),
		setIn("labels", "backstop.dev/armed", randomOf(r, labels)),
		setIn("annotations", "backstop.dev/action", randomOf(r, ids)),
		setIn("annotations", "backstop.dev/last-action", randomOf(r, ids)),
		setIn("annotations", "backstop.dev/before", "5"),
		setIn("labels", "backstop.dev/undo-to", "true"),
		setIn("labels", "x", "y"),
		setIn("labels", "app", nil),
		setIn("annotations", "team", "evil"),
		setSpec(template, "spec", "template"),
		setSpec(randomOf(r, []any{0, 1, 3, 1000}), "spec", "replicas"),
		setSpec(true, "spec", "paused"),
		setSpec(9, "spec", "minReadySeconds"),
		setSpec(object{"type": "OnDelete"}, "spec", "updateStrategy"),
		setSpec(object{"type": "Recreate"}, "spec", "strategy"),
		setSpec("evil", "spec", "template", "spec", "serviceAccountName"),
		setSpec(true, "spec", "template", "spec", "hostNetwork"),
		setSpec(object{"evil": "true"}, "spec", "template", "metadata", "annotations"),
		inTemplate(func(c object) { c["image"] = "evil:1" }),
		inTemplate(func(c object) { c["command"] = []any{"sh", "-c", "id"} }),
		inTemplate(func(c object) { c["resources"] = object{"limits": object{"memory": "64Gi"}} }),
		inTemplate(func(c object) { c["securityContext"] = object{"privileged": true} }),
		setSpec([]any{"evil.dev/hold"}, "metadata", "finalizers"),
		setSpec([]any{object{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "1"}}, "metadata", "ownerReferences"),
		setSpec([]any{object{}}, "metadata", "managedFields"),
	}
}

// templateFor is a recorded template, or one that differs from it in one place.
func (b *bench) templateFor(r *rand.Rand) any {
	template := b.recorded(randomOf(r, []string{"api", "api", "other"}))
	container := at(template, "spec", "containers").([]any)[0].(object)
	switch r.IntN(8) {
	case 0:
		container["image"] = "evil:1"
	case 1:
		container["env"] = []any{object{"name": "X", "value": "y"}}
	case 2:
		container["resources"] = object{"limits": object{"cpu": "500m", "memory": "64Mi"}}
	case 3:
		template["spec"].(object)["hostPID"] = true
	case 4:
		template["metadata"].(object)["labels"].(object)["evil"] = "true"
	case 5:
		template["metadata"].(object)["annotations"] = object{"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}
	}
	return template
}

func revisionEdits(b *bench) []objectEdit {
	edits := []objectEdit{
		setIn("labels", "backstop.dev/undo-to", "true"),
		setIn("labels", "backstop.dev/undo-to", nil),
		setIn("labels", "backstop.dev/undo-to", "yes"),
		setIn("labels", "backstop.dev/armed", "rollout-undo"),
		setIn("labels", "x", "y"),
		setIn("annotations", "backstop.dev/last-action", actionID),
		setIn("annotations", "deployment.kubernetes.io/revision", "9"),
		setSpec([]any{"evil.dev/hold"}, "metadata", "finalizers"),
		setSpec(nil, "metadata", "ownerReferences"),
	}
	if b.target == deployments {
		return append(edits, inTemplate(func(c object) { c["image"] = "evil:1" }), setSpec(3, "spec", "replicas"))
	}
	return append(edits, setSpec(9, "revision"))
}

// randomEdits are one to three of them, one after the other.
func randomEdits(r *rand.Rand, edits []objectEdit) []objectEdit {
	var some []objectEdit
	for range 1 + min(r.IntN(4), 2) {
		some = append(some, randomOf(r, edits))
	}
	return some
}

// encoded makes the change a request in one of the five ways of writing an object.
func encoded(r *rand.Rand, b *bench, by account, about, path string, old object, edits []objectEdit) shot {
	after := copied(old).(object)
	for _, edit := range edits {
		edit(after)
	}
	query := randomOf(r, []string{manager, manager, manager, manager, "", "?fieldManager=kubectl", ofController})
	one := shot{by: by, about: about, what: "change " + about, bench: b, old: old, request: request{path: path + query}}
	delete(after["metadata"].(object), "resourceVersion")
	switch r.IntN(6) {
	case 0:
		after["metadata"].(object)["resourceVersion"] = at(old, "metadata", "resourceVersion")
		one.method, one.body = "PUT", after
	case 1:
		one.method, one.kind, one.body = "PATCH", strategicPatch, mergeOf(old, after)
	case 2:
		one.method, one.kind, one.body = "PATCH", mergePatch, mergeOf(old, after)
	case 3:
		meta := after["metadata"].(object)
		delete(meta, "managedFields")
		delete(after, "status")
		one.path = path + randomOf(r, []string{manager + "&force=true", "?fieldManager=evil&force=true"})
		one.method, one.kind, one.body = "PATCH", applyPatch, after
	default:
		one.method, one.kind, one.body = "PATCH", jsonPatch, operationsOf(old, after, "")
	}
	return one
}

// mergeOf is the JSON merge patch from one to the other.
func mergeOf(old, after object) object {
	patch := object{}
	for key, value := range after {
		was, there := old[key]
		if there && equal(was, value) {
			continue
		}
		one, isObject := value.(object)
		other, wasObject := was.(object)
		if isObject && wasObject {
			patch[key] = mergeOf(other, one)
		} else {
			patch[key] = value
		}
	}
	for key := range old {
		if _, there := after[key]; !there && key != "resourceVersion" {
			patch[key] = nil
		}
	}
	return patch
}

// operationsOf is a JSON patch from one to the other.
func operationsOf(old, after object, under string) []any {
	ops := []any{}
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	for key, value := range after {
		path := under + "/" + escape.Replace(key)
		was, there := old[key]
		one, isObject := value.(object)
		other, wasObject := was.(object)
		switch {
		case there && equal(was, value):
		case isObject && wasObject:
			ops = append(ops, operationsOf(other, one, path)...)
		default:
			ops = append(ops, op("add", path, value))
		}
	}
	for key := range old {
		if _, there := after[key]; !there && key != "resourceVersion" {
			ops = append(ops, op("remove", under+"/"+escape.Replace(key), nil))
		}
	}
	return ops
}

func randomEviction(r *rand.Rand, b *bench, by account) shot {
	pod := randomOf(r, []string{"stuck", "stuck", "other"})
	uid := randomOf(r, []any{b.pods["stuck"], b.pods["stuck"], b.pods["other"], "0", nil})
	label := randomOf(r, []any{"rollout-undo", "rollout-undo", "rollout-undo", "evict", nil})
	id := randomOf(r, []any{actionID, actionID, actionID, otherID, nil})
	req := b.evict(pod, func(e object) {
		setIn("labels", "backstop.dev/armed", label)(e)
		setIn("annotations", "backstop.dev/action", id)(e)
		if r.IntN(6) == 0 {
			setIn("labels", "x", "y")(e)
		}
		options := object{"preconditions": object{"uid": uid}}
		if uid == nil {
			options = object{}
		}
		if r.IntN(6) == 0 {
			options["gracePeriodSeconds"] = 0
		}
		e["deleteOptions"] = options
	})
	if r.IntN(6) == 0 {
		req.path = strings.Replace(req.path, manager, "?fieldManager=kubectl", 1)
	}
	return shot{by: by, about: "/pods/eviction", what: "evict a pod", bench: b, request: req}
}
