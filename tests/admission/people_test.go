package admission

import (
	"strings"
	"testing"
)

// person is somebody with the role `edit` in the test's namespaces.
func (s *suite) person() *client {
	return s.admin.as(map[string]string{"Impersonate-User": "adm-person", "Impersonate-Group": "adm-people"})
}

// The role `edit` has no rights on ControllerRevisions; who has, a backup tool for one, meets the
// policies as well.
const (
	revisionRole    = "/apis/rbac.authorization.k8s.io/v1/clusterroles/adm-people"
	revisionBinding = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/adm-people"
)

func (s *suite) giveRevisions() {
	create := func(path string, body object) {
		body["apiVersion"], body["metadata"] = "rbac.authorization.k8s.io/v1", object{"name": "adm-people"}
		if s.admin.exists(path) == nil {
			s.admin.must(request{method: "POST", path: strings.TrimSuffix(path, "/adm-people"), body: body})
		}
	}
	create(revisionRole, object{"kind": "ClusterRole", "rules": []any{
		object{"apiGroups": []any{"apps"}, "resources": []any{"controllerrevisions"}, "verbs": []any{"*"}},
		// As whoever is on call has it, of another Ledger: the suite has no controller that would make `actions`.
		object{"apiGroups": []any{"backstop.dev"}, "resources": []any{"ledgers"}, "verbs": []any{"get", "patch"}},
	}})
	create(revisionBinding, object{"kind": "ClusterRoleBinding",
		"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "adm-people"},
		"subjects": []any{object{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "adm-people"}}})
}

func (s *suite) dropPeopleRights() {
	for _, path := range []string{revisionBinding, revisionRole} {
		if s.admin.exists(path) != nil {
			s.admin.must(request{method: "DELETE", path: path})
		}
	}
}

// giveEdit binds `edit` to the person, once per namespace.
func (s *suite) giveEdit() error {
	s.giveRevisions()
	for ns := range s.benches {
		path := "/apis/rbac.authorization.k8s.io/v1/namespaces/" + ns + "/rolebindings"
		if s.admin.exists(path+"/people") == nil {
			s.admin.must(request{method: "POST", path: path, body: object{
				"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": object{"name": "people"},
				"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
				"subjects": []any{object{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "adm-people"}},
			}})
		}
	}
	// Bindings and aggregated roles are read from caches.
	return eventually("the person may edit", func() bool {
		a, err := s.person().do(request{method: "POST", path: ourPath(nsPeople, "alerts", "") + "?dryRun=All", body: alert("x", nil)})
		revisions, _ := s.person().do(request{method: "GET", path: "/apis/apps/v1/controllerrevisions?limit=1"})
		return err == nil && a.accepted() && revisions.accepted()
	})
}

// peopleRow is a request of the person's; want names the policy that must
// refuse it ("" = accepted), says is a part of the sentence it must say.
type peopleRow struct {
	name string
	want string
	says string
	// unclear: the object gets the armed label, so the grant and provenance policies look for
	// their parameters too, and the API server names whichever policy comes first.
	unclear bool
	req     request
}

func (b *bench) personPatch(name, kind string, body any) request {
	return request{method: "PATCH", kind: kind, path: b.path(name) + "?fieldManager=person", body: body}
}

// ordinary is what people and machines do to workloads all day.
func ordinary(b *bench) []peopleRow {
	whole := b.workload("api")
	delete(whole["metadata"].(object), "managedFields")
	revision := b.setPath("api", "2")
	applied := b.new("api")
	applied["metadata"] = object{"name": "api", "labels": object{"team": "x"}}
	table := []peopleRow{
		{name: "annotate", req: b.personPatch("api", mergePatch, object{"metadata": object{"annotations": object{"seen": "yes"}}})},
		{name: "label", req: b.personPatch("api", mergePatch, object{"metadata": object{"labels": object{"seen": "yes"}}})},
		{name: "set another image", req: b.personPatch("api", strategicPatch, object{"spec": object{"template": object{"spec": object{"containers": []any{object{"name": "c", "image": "backstop.local/pause:3"}}}}}})},
		{name: "restart", req: b.personPatch("api", mergePatch, object{"spec": object{"template": object{"metadata": object{"annotations": object{"kubectl.kubernetes.io/restartedAt": "now"}}}}})},
		{name: "replace the whole object", req: request{method: "PUT", path: b.path("api") + "?fieldManager=person", body: whole}},
		{name: "apply a manifest", req: request{method: "PATCH", kind: applyPatch, path: b.path("api") + "?fieldManager=person&force=true", body: applied}},
		{name: "undo a rollout, which copies a revision's annotations back", req: b.personPatch("api", jsonPatch, []any{
			op("replace", "/spec/template", b.recorded("api")),
			op("replace", "/metadata/annotations", object{"backstop.dev/action": otherID, "backstop.dev/last-action": otherID, "team": "shop"})})},
		{name: "annotate a revision", req: request{method: "PATCH", kind: mergePatch, path: revision, body: object{"metadata": object{"annotations": object{"backstop.dev/last-action": otherID}}}}},
		{name: "create another", req: request{method: "POST", path: b.path(""), body: b.new("another")}},
		{name: "delete it", req: request{method: "DELETE", path: b.path("api")}},
		{name: "delete a revision", req: request{method: "DELETE", path: revision}},
	}
	for _, c := range b.changes() {
		table = append(table, peopleRow{name: c.name, req: b.personPatch("api", jsonPatch, []any{c.op})})
	}
	if b.target != daemonSets {
		table = append(table, peopleRow{name: "scale", req: request{method: "PATCH", kind: mergePatch, path: b.path("api") + "/scale", body: object{"spec": object{"replicas": 0}}}})
	}
	if b.pods != nil {
		plain := func(e object) { delete(e["metadata"].(object), "labels") }
		evict := b.evict("stuck", plain)
		evict.path = podPath(b.ns, "stuck") + "/eviction?fieldManager=person"
		table = append(table, peopleRow{name: "evict a pod, as a drain does", req: evict})
	}
	return table
}

// carried are manifests that carry our labels and annotations, as copies and
// backups do.
func carried(b *bench) []peopleRow {
	with := func(metadata object, template object) object {
		d := b.new("copy")
		for key, value := range metadata {
			d["metadata"].(object)[key] = value
		}
		for key, value := range template {
			at(d, "spec", "template", "metadata", "labels").(object)[key] = value
		}
		return d
	}
	armedLabel := object{"labels": object{"app": "copy", "backstop.dev/armed": "rollout-undo"}}
	set := object{"apiVersion": "apps/v1", "kind": b.revision, "metadata": object{"name": "copy", "labels": object{"backstop.dev/undo-to": "true"}}}
	if b.target == deployments {
		set["spec"] = b.new("copy")["spec"]
	} else {
		set["revision"], set["data"] = 1, object{}
	}
	bareSet := copied(set).(object)
	delete(bareSet["metadata"].(object), "labels")
	post := func(body object) request { return request{method: "POST", path: b.path(""), body: body} }
	postSet := func(body object) request {
		return request{method: "POST", path: appsPath(b.ns, b.revisions, ""), body: body}
	}
	const says = "remove them from the manifest"
	return []peopleRow{
		{name: "create a workload with the armed label", want: "guard", says: says, req: post(with(armedLabel, nil))},
		{name: "add the armed label", want: "guard", says: says, unclear: true, req: b.personPatch("other", mergePatch, object{"metadata": object{"labels": object{"backstop.dev/armed": "rollout-undo"}}})},
		{name: "add the armed label by apply", want: "guard", says: says, req: request{method: "PATCH", kind: applyPatch, path: b.path("copy") + "?fieldManager=person", body: with(armedLabel, nil)}},
		{name: "create a workload with the armed label in its template", want: "guard", says: "remove them from the pod template", req: post(with(nil, object{"backstop.dev/armed": "rollout-undo"}))},
		{name: "create a workload with the mark in its template", want: "guard", says: "remove them from the pod template", req: post(with(nil, object{"backstop.dev/undo-to": "true"}))},
		{name: "create a revision with the mark", want: "guard", says: says, req: postSet(set)},
		{name: "mark a revision", want: "guard", says: says, req: request{method: "PATCH", kind: mergePatch, path: b.setPath("other", "2"), body: object{"metadata": object{"labels": object{"backstop.dev/undo-to": "true"}}}}},
		{name: "create a workload with our annotations", req: post(with(object{"annotations": object{"backstop.dev/action": otherID, "backstop.dev/last-action": otherID}}, nil))},
		{name: "create the same without our labels", req: post(with(nil, nil))},
		{name: "create a revision without the mark", req: postSet(bareSet)},
	}
}

func breakerReset(by string) object {
	return object{"namespace": nsOpen, "upTo": "2026-01-01T00:00:00Z", "by": by, "why": "looked at it"}
}

// ourKinds is what people may write of Backstop's own kinds.
func ourKinds(b *bench) []peopleRow {
	post := func(plural string, body object) request {
		return request{method: "POST", path: ourPath(b.ns, plural, ""), body: body}
	}
	ledger := func(role, name string) request {
		return request{method: "POST", path: ourPath(system, "ledgers", ""),
			body:    ours("Ledger", name, object{"purpose": "Actions"}),
			headers: map[string]string{"Impersonate-User": "system:serviceaccount:" + system + ":backstop-" + role}}
	}
	madeWithReset := func() request {
		made := ledger("controller", "adm-reset")
		made.body.(object)["spec"].(object)["resets"] = []any{breakerReset("adm-person")}
		return made
	}
	const robot = "system:serviceaccount:" + system + ":robot"
	reset := func(who, by string) request {
		return request{method: "PATCH", kind: mergePatch, path: ourPath(system, "ledgers", "known-good."+nsOpen),
			body:    object{"spec": object{"resets": []any{breakerReset(by)}}},
			headers: map[string]string{"Impersonate-User": who}}
	}
	// What whoever may write the spec may send too.
	onLedger := func(body object) request {
		return request{method: "PATCH", kind: mergePatch, path: ourPath(system, "ledgers", "known-good."+nsOpen), body: body}
	}
	nobody := object{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "00000000-0000-4000-8000-000000000000"}
	// What the controller's account would send, and what somebody might who has its token.
	grant := func(path string, change func(object)) request {
		body := b.admin.get(ourPath(b.ns, "grants", "active"))
		body["spec"] = object{"open": b.granted()}
		change(body["metadata"].(object))
		return request{method: "PUT", path: ourPath(b.ns, "grants", "active") + path, body: body,
			headers: map[string]string{"Impersonate-User": "system:serviceaccount:" + system + ":backstop-controller"}}
	}
	writer := func(name, operation string) func(object) {
		return func(metadata object) {
			writers, _ := metadata["managedFields"].([]any)
			metadata["managedFields"] = append(writers, object{"manager": name, "operation": operation, "apiVersion": "backstop.dev/v1alpha1",
				"time": "2099-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": object{"f:metadata": object{"f:labels": object{"f:x": object{}}}}})
		}
	}
	asItIs := func(object) {}
	conditional := object{"matchConditions": []any{object{"name": "c", "expression": "true"}}}
	also := func(o object, field string, value any) object {
		o = copied(o).(object)
		o[field] = value
		return o
	}
	service := approval("robot", "system:serviceaccount:"+b.ns+":default")
	return []peopleRow{
		{name: "approve in one's own name", req: post("approvals", approval("mine", "adm-person"))},
		{name: "approve in another's name", want: "approval", says: "must be the account", req: post("approvals", approval("hers", "somebody-else"))},
		{name: "approve in an account's name", want: "approval", req: post("approvals", service)},
		{name: "approve as an account of the cluster", want: "approval", says: "given by a person", req: request{
			method: "POST", path: ourPath(b.ns, "approvals", ""), body: service,
			headers: map[string]string{"Impersonate-User": "system:serviceaccount:" + b.ns + ":default"}}},
		{name: "approve as one of one's own group", req: post("approvals", with(approval("group", "adm-person"), "groups", []any{"adm-people"}))},
		{name: "approve as one of another group", want: "approval", says: "adm-person is not in all of them", req: post("approvals", with(approval("group", "adm-person"), "groups", []any{"adm-people", "system:masters"}))},
		{name: "deny in one's own name", req: post("approvals", with(approval("no", "adm-person"), "answer", "Deny"))},
		{name: "deny in another's name", want: "approval", says: "must be the account", req: post("approvals", with(approval("no", "somebody-else"), "answer", "Deny"))},
		{name: "answer maybe", want: invalid, says: "spec.answer: Unsupported value: \"Maybe\"", req: post("approvals", with(approval("maybe", "adm-person"), "answer", "Maybe"))},
		{name: "approve what is no digest", want: invalid, says: "spec.digest", req: post("approvals", with(approval("digest", "adm-person"), "digest", "latest"))},
		{name: "approve for ever", want: invalid, says: "spec.expiresAt", req: post("approvals", with(approval("ever", "adm-person"), "expiresAt", nil))},
		{name: "write a Policy", req: post("policies", policy("own", "approve", object{"approvals": object{"required": 2, "groups": []any{"sre"}}}))},
		{name: "write a Policy of no mode", want: invalid, says: "spec.mode", req: post("policies", policy("mode", "yolo", nil))},
		{name: "write a Policy that nobody can approve", want: invalid, says: "spec.approvals.required", req: post("policies", policy("nobody", "approve", object{"approvals": object{"required": 11}}))},
		{name: "write a Policy that needs no approval in mode approve", want: invalid, says: "spec.approvals.required", req: post("policies", policy("zero", "approve", object{"approvals": object{"required": 0}}))},
		{name: "lower the mode under a condition", want: invalid, says: "beside matchConditions, mode has to be auto", req: post("policies", policy("conditional", "observe", conditional))},
		{name: "ask for approvals under a condition", want: invalid, says: "modelChain, allowHelm and approvals have to be absent", req: post("policies", policy("asking", "auto", also(conditional, "approvals", object{"required": 2})))},
		{name: "limit to fewer than none", want: invalid, says: "spec.limits.maxPods", req: post("policies", policy("pods", "auto", object{"limits": object{"maxPods": -1}}))},
		{name: "open a window for a second", want: invalid, says: "durationSeconds", req: post("policies", policy("window", "auto", object{"windows": []any{object{"kind": "allow", "schedule": "0 9 * * *", "durationSeconds": 1}}}))},
		{name: "let a model act alone", want: invalid, says: "spec.modelMode: Unsupported value: \"auto\"", req: post("policies", policy("model", "auto", object{"modelMode": "auto"}))},
		{name: "lift for no reason", want: invalid, says: "spec.reason", req: post("policyexceptions", with(exception("silent", object{"name": "hours"}), "reason", ""))},
		{name: "lift for ever", want: invalid, says: "spec.expiresAt", req: post("policyexceptions", with(exception("ever", object{"name": "hours"}), "expiresAt", nil))},
		{name: "lift the mode", want: invalid, says: "spec.lifts[0]: Unsupported value: \"Mode\"", req: post("policyexceptions", with(exception("mode", object{"name": "hours"}), "lifts", []any{"Mode"}))},
		{name: "lift no Policy", want: invalid, says: "spec.policies", req: post("policyexceptions", with(exception("none"), "policies", []any{}))},
		{name: "send an alert about one's own namespace", req: post("alerts", alert("own", object{"namespace": b.ns}))},
		{name: "send an alert about no namespace", req: post("alerts", alert("none", nil))},
		{name: "send an alert about another namespace", want: "alert", says: "may only name that namespace", req: post("alerts", alert("foreign", object{"namespace": "kube-system"}))},
		{name: "send an alert about another namespace by the exporter's label", want: "alert", req: post("alerts", alert("exported", object{"namespace": b.ns, "exported_namespace": "kube-system"}))},
		{name: "lift a Policy of one's own namespace", req: post("policyexceptions", exception("own", object{"name": "hours"}))},
		{name: "lift a Policy of one's own namespace by its name", req: post("policyexceptions", exception("named", object{"namespace": b.ns, "name": "hours"}))},
		{name: "lift a Policy of another namespace", want: "exception", says: "of that namespace only", req: post("policyexceptions", exception("foreign", object{"name": "hours"}, object{"namespace": system, "name": "ceilings"}))},
		{name: "count the cost of models as the investigator", req: ledger("investigator", "models.adm")},
		{name: "count actions as the investigator", want: "ledger", says: "written by the investigator", req: ledger("investigator", "adm")},
		{name: "count actions as the controller", req: ledger("controller", "adm")},
		{name: "count the cost of models as the controller", want: "ledger", req: ledger("controller", "models.adm")},
		{name: "make a Ledger with a reset as the controller", want: "ledger", says: "is for people", req: madeWithReset()},
		{name: "reset a breaker in one's own name", req: reset("adm-person", "adm-person")},
		{name: "reset a breaker in another's name", want: "breaker-reset", says: "who writes it", req: reset("adm-person", "somebody-else")},
		{name: "reset a breaker as an account of the cluster", want: "breaker-reset", says: "by a person", req: reset(robot, robot)},
		{name: "label a Ledger", req: onLedger(object{"metadata": object{"labels": object{"team": "sre"}}})},
		{name: "give a Ledger an owner that does not exist", want: "ledger-kept", says: "has no owner", req: onLedger(object{"metadata": object{"ownerReferences": []any{nobody}}})},
		{name: "give a Ledger a finalizer", want: "ledger-kept", says: "finalizers", req: onLedger(object{"metadata": object{"finalizers": []any{"example.com/kept"}}})},
		{name: "change what a Ledger is for", want: "ledger-kept", says: "`resets` alone", req: onLedger(object{"spec": object{"purpose": "Models"}})},
		{name: "add a field to the spec of a Ledger", want: "ledger-kept", says: "`resets` alone", req: onLedger(object{"spec": object{"chain": "mine"}})},
		{name: "delete a Ledger", want: "rbac", req: request{method: "DELETE", path: ourPath(system, "ledgers", "known-good."+nsOpen)}},
		{name: "open a Grant as the controller", req: grant(ofController, asItIs)},
		{name: "open a Grant as another field manager", want: "grant-times", says: "as field manager", req: grant("?fieldManager=kubectl", asItIs)},
		{name: "open a Grant and forge a writer", want: "grant-times", says: "was not there", req: grant(ofController, writer("argocd", "Update"))},
		{name: "open a Grant and forge a writer of the same name", want: "grant-times", says: "was not there", req: grant(ofController, writer("backstop-controller", "Apply"))},
		{name: "open a Grant", want: "rbac", req: request{method: "PATCH", kind: mergePatch, path: ourPath(b.ns, "grants", "active"), body: object{"spec": object{}}}},
		{name: "delete a Grant", want: "rbac", req: request{method: "DELETE", path: ourPath(b.ns, "grants", "active")}},
		{name: "create a Remediation", want: "rbac", req: post("remediations", remediation("mine"))},
		{name: "create an Incident", want: "rbac", req: post("incidents", incident("mine"))},
		{name: "create an Investigation", want: "rbac", req: post("investigations", ours("Investigation", "mine", object{}))},
		{name: "write a Remediation's status", want: "rbac", req: request{method: "PATCH", kind: mergePatch, path: ourPath(nsOpen, "remediations", "rem-1") + "/status", body: object{"status": object{}}}},
		{name: "read incidents", req: request{method: "GET", path: ourPath(b.ns, "incidents", "")}},
		{name: "read the Grant", req: request{method: "GET", path: ourPath(b.ns, "grants", "active")}},
	}
}

func (s *suite) tryPeople(row peopleRow) (string, answer, error) {
	headers := map[string]string{"Impersonate-Group": "adm-people"}
	who := "adm-person"
	if other := row.req.headers["Impersonate-User"]; other != "" {
		who = other
	}
	headers["Impersonate-User"] = who
	req := row.req
	req.headers = nil
	if req.method != "GET" {
		separator := "?"
		if strings.Contains(req.path, "?") {
			separator = "&"
		}
		req.path += separator + "dryRun=All"
	}
	a, err := s.admin.as(headers).do(req)
	return refusedBy(a), a, err
}

// invalid is what the API server says by itself, from the definition of the kind.
const invalid = "the definition"

func (row peopleRow) right(by string, a answer) bool {
	if row.want == invalid {
		return a.code == 422 && strings.Contains(a.message, row.says)
	}
	if row.want == "" {
		return by == "nobody"
	}
	if row.unclear && (by == "grant" || strings.HasPrefix(by, "provenance")) {
		return true
	}
	return by == row.want && strings.Contains(a.message, row.says)
}

// Every state of a rollback is looked at; the requests are dry-runs, so that
// all of them meet the same state.
func otherPeopleAreNeverHindered(t *testing.T) {
	s := shared
	if err := s.giveEdit(); err != nil {
		t.Fatal(err)
	}
	when := map[string]string{
		nsArmed: "while something is armed", nsClosed: "while the Grant is closed", nsNone: "while there is no Grant",
		nsExpired: "while the Grant has expired", nsObserve: "after the kill switch", nsOff: "where nothing is enrolled",
	}
	err := inParallel(s.namespaces(func(b *bench) bool { return when[b.state] != "" }), func(ns string) error {
		b := s.benches[ns]
		table := ordinary(b)
		if b.state != nsOff {
			table = append(table, carried(b)...)
		}
		for _, row := range table {
			by, a, err := s.tryPeople(row)
			report(t, err == nil && row.right(by, a), "%s: %s %s: refused by %s (want %q %q): %v %s", b.kind, row.name, when[b.state], by, row.want, row.says, err, a.message)
		}
		return nil
	})
	report(t, err == nil, "%v", err)
	for _, row := range ourKinds(s.benches[nsPeople]) {
		by, a, err := s.tryPeople(row)
		report(t, err == nil && row.right(by, a), "%s: refused by %s (want %q %q): %v %s", row.name, by, row.want, row.says, err, a.message)
	}
	// Taking our label off an object in flight is everybody's right.
	for _, target := range targets {
		b := s.benches[target.ns(nsArmed)]
		by, a, err := s.tryPeople(peopleRow{req: b.personPatch("api", mergePatch, object{"metadata": object{"labels": object{"backstop.dev/armed": nil}}})})
		report(t, err == nil && by == "nobody", "%s: a person takes the armed label off: refused by %s: %v %s", b.kind, by, err, a.message)
	}
}

// The controllers of the cluster copy a workload's annotations, ours included,
// to its revisions: they must go on working while something is armed.
func controllersAreNeverHindered(t *testing.T) {
	s := shared
	err := inParallel(s.namespaces(func(b *bench) bool { return b.state == nsPeople }), func(ns string) error {
		b := s.benches[ns]
		spec := object{"template": object{"spec": object{"containers": []any{object{"name": "c", "image": "backstop.local/pause:3"}}}}}
		if b.target != daemonSets {
			spec["replicas"] = 1
		}
		s.admin.must(b.personPatch("api", strategicPatch, object{"spec": spec}))
		if err := eventually("revision 3 of an armed "+b.kind+" is recorded", func() bool {
			third := b.find("api", "3")
			return third != nil && b.settled(b.workload("api")) && at(third, "metadata", "annotations", "backstop.dev/action") == actionID
		}); err != nil || b.target == daemonSets {
			return err // No node takes the pods of the DaemonSet.
		}
		return eventually("the new revision's pod is made", func() bool {
			for _, pod := range s.admin.get(podPath(ns, ""))["items"].([]any) {
				if at(pod, "spec", "containers").([]any)[0].(object)["image"] == "backstop.local/pause:3" {
					return true
				}
			}
			return false
		})
	})
	report(t, err == nil, "%v", err)
}
