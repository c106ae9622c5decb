package admission

import (
	"slices"
)

// rows is the table: what the executor's token must not do, from every state
// of a rollback of every kind of target, and the few things that it may.
func rows() []row {
	var table []row
	for _, t := range targets {
		for _, r := range slices.Concat(unarmed(t), revisions(t), armed(t), withoutGrant(), thieves(), restarts(t), restartsByThieves()) {
			table = append(table, t.named(r))
		}
	}
	return slices.Concat(table, evictions(), otherKinds(), reads())
}

// on is a row about a JSON patch on Deployment api.
func on(ns, name string, want []string, ops func(b *bench) []any) row {
	return row{name: name, ns: ns, want: want, make: func(b *bench) request { return b.patch("api", ops(b)) }}
}

func fixed(ops ...any) func(*bench) []any { return func(*bench) []any { return ops } }

func unarmed(t *target) []row {
	finalizer := op("add", "/metadata/finalizers", []any{"evil.dev/hold"})
	owner := op("add", "/metadata/ownerReferences", []any{object{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "1"}})
	fire := func(b *bench) []any { return []any{op("replace", "/spec/template", b.recorded("api"))} }
	table := []row{
		on(nsOpen, "ALLOWED: arm what is granted", nil, func(*bench) []any { return armOps() }),
		on(nsOpen, "fire without arming", static, fire),
		on(nsOpen, "fire without arming, with a receipt", static, func(b *bench) []any { return append(fire(b), op("add", receiptPtr, actionID)) }),
		on(nsOpen, "change the image", static, fixed(op("replace", "/spec/template/spec/containers/0/image", "evil:1"))),
		on(nsOpen, "restart", static, fixed(op("add", "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt", "now"))),
		on(nsOpen, "add a label", static, fixed(op("add", "/metadata/labels/x", "y"))),
		on(nsOpen, "add an annotation", static, fixed(op("add", "/metadata/annotations/x", "y"))),
		on(nsOpen, "add an annotation with our prefix", static, fixed(op("add", "/metadata/annotations/backstop.dev~1evil", "y"))),
		on(nsOpen, "forge a receipt", static, fixed(op("add", receiptPtr, actionID))),
		on(nsOpen, "add a finalizer", static, fixed(finalizer)),
		on(nsOpen, "add an owner", static, fixed(owner)),
		on(nsOpen, "change nothing", static, fixed(op("test", "/metadata/name", "api"))),
		on(nsOpen, "arm as another kind of action", granted, fixed(op("add", armedPtr, "restart"), op("add", actionPtr, actionID))),
		on(nsOpen, "arm as another action of the catalogue", grantOnly, fixed(armOpsAs("rollout-restart")...)),
		on(nsOpen, "arm with the label of a self-test", granted, fixed(op("add", armedPtr, "self-test-grant"), op("add", actionPtr, actionID))),
		on(nsOpen, "arm without naming an action", granted, fixed(op("add", armedPtr, "rollout-undo"))),
		on(nsOpen, "arm with an action id of another form", granted, fixed(op("add", armedPtr, "rollout-undo"), op("add", actionPtr, "a1"))),
		on(nsOpen, "arm for an action that is not granted", grantOnly, fixed(op("add", armedPtr, "rollout-undo"), op("add", actionPtr, otherID))),
		on(nsOpen, "arm and change the image", anyPolicy, fixed(armOps(op("replace", "/spec/template/spec/containers/0/image", "evil:1"))...)),
		on(nsOpen, "arm and fire at once", anyPolicy, func(b *bench) []any { return append(armOps(), fire(b)...) }),
		on(nsOpen, "arm and add a label", static, fixed(armOps(op("add", "/metadata/labels/x", "y"))...)),
		on(nsOpen, "arm and remove a label", static, fixed(armOps(op("remove", "/metadata/labels/app", nil))...)),
		on(nsOpen, "arm and add an annotation", static, fixed(armOps(op("add", "/metadata/annotations/x", "y"))...)),
		on(nsOpen, "arm and change an annotation", static, fixed(armOps(op("replace", "/metadata/annotations/team", "y"))...)),
		on(nsOpen, "arm and remove an annotation", static, fixed(armOps(op("remove", "/metadata/annotations/team", nil))...)),
		on(nsOpen, "arm and add an annotation with our prefix", static, fixed(armOps(op("add", "/metadata/annotations/backstop.dev~1before", "y"))...)),
		on(nsOpen, "arm with the receipt already written", static, fixed(armOps(op("add", receiptPtr, actionID))...)),
		on(nsOpen, "arm and add a finalizer", static, fixed(armOps(finalizer)...)),
		on(nsOpen, "arm and add an owner", static, fixed(armOps(owner)...)),
		on(nsOpen, "arm and name a pattern for names", static, fixed(armOps(op("add", "/metadata/generateName", "evil-"))...)),
		on(nsOpen, "arm and forge a writer", static, func(b *bench) []any {
			return armOps(op("add", "/metadata/managedFields/-", object{"manager": "argocd", "operation": "Update", "apiVersion": "apps/v1", "time": "2020-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": object{"f:spec": object{"f:paused": object{}}}}))
		}),
		on(nsOpen, "arm and drop the other writers", granted, func(b *bench) []any {
			return armOps(op("replace", "/metadata/managedFields", []any{object{"manager": "backstop-executor", "operation": "Update", "apiVersion": "apps/v1", "time": "2020-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": object{"f:spec": object{"f:paused": object{}}}}}))
		}),
		on(nsOpen, "arm and reset the writers", granted, fixed(armOps(op("replace", "/metadata/managedFields", []any{object{}}))...)),
		{name: "arm as another field manager", ns: nsOpen, want: granted, make: func(b *bench) request {
			return request{method: "PATCH", kind: jsonPatch, path: b.path("api") + "?fieldManager=kubectl", body: armOps()}
		}},
		{name: "arm with no field manager", ns: nsOpen, want: granted, make: func(b *bench) request {
			return request{method: "PATCH", kind: jsonPatch, path: b.path("api"), body: armOps()}
		}},
		{name: "arm by server-side apply", ns: nsOpen, want: static, make: func(b *bench) request {
			return applied(b, object{"labels": object{"backstop.dev/armed": "rollout-undo"}, "annotations": object{"backstop.dev/action": actionID}}, nil)
		}},
		{name: "change a field by server-side apply", ns: nsOpen, want: static, make: func(b *bench) request {
			return applied(b, object{}, object{"minReadySeconds": 9})
		}},
		{name: "change the image by strategic merge", ns: nsOpen, want: static, make: func(b *bench) request {
			return request{method: "PATCH", kind: strategicPatch, path: b.path("api") + manager, body: object{"spec": object{"template": object{"spec": object{"containers": []any{object{"name": "c", "image": "evil:1"}}}}}}}
		}},
		{name: "change the image by merge", ns: nsOpen, want: static, make: func(b *bench) request {
			return request{method: "PATCH", kind: mergePatch, path: b.path("api") + manager, body: object{"spec": object{"template": object{"spec": object{"containers": []any{object{"name": "c", "image": "evil:1"}}}}}}}
		}},
		{name: "arm by merge, a new value in the same patch", ns: nsOpen, want: anyPolicy, make: func(b *bench) request {
			return request{method: "PATCH", kind: mergePatch, path: b.path("api") + manager, body: object{"metadata": object{"labels": object{"backstop.dev/armed": "rollout-undo"}, "annotations": object{"backstop.dev/action": actionID}}, "spec": object{"template": object{"spec": object{"hostPID": true}}}}}
		}},
		{name: "arm an object that is not granted", ns: nsOpen, want: grantOnly, make: func(b *bench) request { return b.patch("other", armOps()) }},
		on(nsHeld, "arm an object with a finalizer", static, fixed(armOps()...)),
		{name: "ALLOWED: write a receipt", ns: nsOpen, make: func(b *bench) request {
			return request{method: "PATCH", kind: mergePatch, path: ourPath(b.ns, "remediations", "rem-1") + "/status" + manager, body: object{"status": object{}}}
		}},
	}
	for _, c := range t.changes() {
		table = append(table, on(nsOpen, c.name, static, fixed(c.op)), on(nsOpen, "arm and "+c.name, anyPolicy, fixed(armOps(c.op)...)))
	}
	return table
}

// applied is a server-side apply of api's metadata and spec.
func applied(b *bench, metadata, spec object) request {
	body := object{"apiVersion": "apps/v1", "kind": b.kind, "metadata": metadata}
	if spec != nil {
		body["spec"] = spec
	}
	return request{method: "PATCH", kind: applyPatch, path: b.path("api") + manager + "&force=true", body: body}
}
