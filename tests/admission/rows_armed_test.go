package admission

import (
	"slices"
)

func armed(t *target) []row {
	// with changes a copy of the right template.
	with := func(change func(template object)) func(b *bench) []any {
		return func(b *bench) []any {
			template := b.recorded("api")
			change(template)
			return fireOps(template)
		}
	}
	pod := func(key string, value any) func(b *bench) []any {
		return with(func(t object) { at(t, "spec").(object)[key] = value })
	}
	container := func(key string, value any) func(b *bench) []any {
		return with(func(t object) { at(t, "spec", "containers").([]any)[0].(object)[key] = value })
	}
	also := func(extra ...any) func(b *bench) []any {
		return func(b *bench) []any { return fireOps(b.recorded("api"), extra...) }
	}
	without := func(ptr string) func(b *bench) []any {
		return func(b *bench) []any {
			return slices.DeleteFunc(fireOps(b.recorded("api")), func(o any) bool { return o.(object)["path"] == ptr })
		}
	}
	table := []row{
		on(nsArmed, "ALLOWED: fire what is granted", nil, also()),
		on(nsArmed, "ALLOWED: disarm", nil, fixed(disarmOps()...)),
		on(nsArmed, "ALLOWED: disarm and leave the action's name", nil, fixed(op("remove", armedPtr, nil))),
		on(nsArmed, "fire with another image", anyPolicy, container("image", "evil:1")),
		on(nsArmed, "fire with a command", anyPolicy, container("command", []any{"sh"})),
		on(nsArmed, "fire with an environment variable", anyPolicy, container("env", []any{object{"name": "X", "value": "1"}})),
		on(nsArmed, "fire with a kernel capability", anyPolicy, container("securityContext", object{"capabilities": object{"add": []any{"SYS_ADMIN"}}})),
		on(nsArmed, "fire with a limit written otherwise", anyPolicy, container("resources", object{"limits": object{"cpu": "501m", "memory": "64Mi"}})),
		on(nsArmed, "fire with a second container", anyPolicy, with(func(t object) {
			spec := t["spec"].(object)
			spec["containers"] = append(spec["containers"].([]any), object{"name": "e", "image": "evil:1"})
		})),
		on(nsArmed, "fire with hostPID", anyPolicy, pod("hostPID", true)),
		on(nsArmed, "fire with hostNetwork", anyPolicy, pod("hostNetwork", true)),
		on(nsArmed, "fire with another serviceAccountName", anyPolicy, pod("serviceAccountName", "backstop-executor")),
		on(nsArmed, "fire with a host path", anyPolicy, pod("volumes", []any{object{"name": "v", "hostPath": object{"path": "/"}}})),
		on(nsArmed, "fire with a node selector", anyPolicy, pod("nodeSelector", object{"x": "y"})),
		on(nsArmed, "fire with a label on the template", anyPolicy, with(func(t object) { at(t, "metadata", "labels").(object)["x"] = "y" })),
		on(nsArmed, "fire with an annotation on the template", anyPolicy, with(func(t object) { at(t, "metadata", "annotations").(object)["x"] = "y" })),
		on(nsArmed, "fire without an annotation of the template", anyPolicy, with(func(t object) { delete(t["metadata"].(object), "annotations") })),
		on(nsArmed, "fire with the value from before", anyPolicy, func(b *bench) []any { return fireOps(at(b.workload("api"), "spec", "template")) }),
		on(nsArmed, "fire and add a label", static, also(op("add", "/metadata/labels/x", "y"))),
		on(nsArmed, "fire and remove a label", static, also(op("remove", "/metadata/labels/app", nil))),
		on(nsArmed, "fire and add an annotation", static, also(op("add", "/metadata/annotations/x", "y"))),
		on(nsArmed, "fire and add a finalizer", static, also(op("add", "/metadata/finalizers", []any{"evil.dev/hold"}))),
		on(nsArmed, "fire and forge a writer", static, also(op("add", "/metadata/managedFields/-", object{"manager": "argocd", "operation": "Update", "apiVersion": "apps/v1", "time": "2020-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": object{"f:spec": object{"f:paused": object{}}}}))),
		on(nsArmed, "fire without a receipt", granted, without(receiptPtr)),
		on(nsArmed, "fire with another's receipt", granted, also(op("add", receiptPtr, otherID))),
		on(nsArmed, "fire and stay armed", granted, without(armedPtr)),
		on(nsArmed, "fire and leave the action's name", static, without(actionPtr)),
		on(nsArmed, "fire and arm for the next", granted, func(b *bench) []any {
			return []any{op("replace", actionPtr, otherID), op("add", receiptPtr, actionID), op("replace", "/spec/template", b.recorded("api"))}
		}),
		on(nsArmed, "disarm and add a label", static, fixed(disarmOps(op("add", "/metadata/labels/x", "y"))...)),
		on(nsArmed, "disarm and add an annotation", static, fixed(disarmOps(op("add", "/metadata/annotations/x", "y"))...)),
		on(nsArmed, "disarm and add a finalizer", static, fixed(disarmOps(op("add", "/metadata/finalizers", []any{"evil.dev/hold"}))...)),
		on(nsArmed, "disarm and forge a receipt", static, fixed(disarmOps(op("add", receiptPtr, actionID))...)),
		on(nsArmed, "disarm and write another action's name", static, fixed(op("remove", armedPtr, nil), op("replace", actionPtr, otherID))),
		on(nsArmed, "change the armed label", granted, fixed(op("replace", armedPtr, "restart"))),
		on(nsArmed, "change the action while armed", granted, fixed(op("replace", actionPtr, otherID))),
		on(nsArmed, "add a label while armed", static, fixed(op("add", "/metadata/labels/x", "y"))),
		{name: "fire as another field manager", ns: nsArmed, want: granted, make: func(b *bench) request {
			return request{method: "PATCH", kind: jsonPatch, path: b.path("api") + "?fieldManager=kubectl", body: fireOps(b.recorded("api"))}
		}},
		{name: "fire by server-side apply", ns: nsArmed, want: anyPolicy, make: func(b *bench) request {
			return applied(b, object{"annotations": object{"backstop.dev/last-action": actionID}}, object{"selector": object{"matchLabels": object{"app": "api"}}, "template": b.recorded("api")})
		}},
		{name: "arm a second object while one is armed", ns: nsArmed, want: grantOnly, make: func(b *bench) request { return b.patch("other", armOps()) }},
		{name: "delete an armed object", ns: nsArmed, want: static, rbac: true, make: func(b *bench) request {
			return request{method: "DELETE", path: b.path("api")}
		}},
	}
	for _, c := range t.changes() {
		table = append(table, on(nsArmed, "fire and "+c.name, granted, also(c.op)), on(nsArmed, "disarm and "+c.name, anyPolicy, fixed(disarmOps(c.op)...)))
	}
	return table
}

func withoutGrant() []row {
	late := func(extra ...any) func(b *bench) []any {
		return func(b *bench) []any { return fireOps(b.recorded("api"), extra...) }
	}
	reset := on(nsExpired, "fire with an expired Grant, the writers reset", granted, late(op("replace", "/metadata/managedFields", []any{object{}})))
	reset.clock = true
	return []row{
		on(nsClosed, "arm with the Grant closed", []string{"grant", "provenance"}, fixed(armOps()...)),
		on(nsNone, "arm with no Grant at all", []string{"grant", "provenance"}, fixed(armOps()...)),
		{name: "arm where nothing is enrolled", ns: nsOff, want: static, rbac: true, make: func(b *bench) request { return b.patch("api", armOps()) }},
		on(nsLong, "arm with a Grant that is open for an hour", grantOnly, fixed(armOps()...)),
		on(nsExpired, "fire with an expired Grant", grantOnly, late()),
		on(nsExpired, "ALLOWED: disarm with an expired Grant", nil, fixed(disarmOps()...)),
		reset,
		on(nsExpired, "fire with an expired Grant, the times forged", granted, func(b *bench) []any {
			entries := copied(at(b.workload("api"), "metadata", "managedFields")).([]any)
			for _, e := range entries {
				e.(object)["time"] = "2020-01-01T00:00:00Z"
			}
			return fireOps(b.recorded("api"), op("replace", "/metadata/managedFields", entries))
		}),
		on(nsExpired, "fire with an expired Grant, the times removed", granted, func(b *bench) []any {
			entries := copied(at(b.workload("api"), "metadata", "managedFields")).([]any)
			for _, e := range entries {
				delete(e.(object), "time")
			}
			return fireOps(b.recorded("api"), op("replace", "/metadata/managedFields", entries))
		}),
		{name: "fire with an expired Grant as another field manager", ns: nsExpired, want: granted, make: func(b *bench) request {
			return request{method: "PATCH", kind: jsonPatch, path: b.path("api") + "?fieldManager=kubectl", body: fireOps(b.recorded("api"))}
		}},
		// The receipt is there already, from the first time, and the rollback only takes something
		// away: the write owns no field, so the server writes no time for it and the end would never come.
		on(nsReplay, "fire after the end, in a way that leaves no time", static, func(b *bench) []any {
			return []any{op("remove", armedPtr, nil), op("remove", actionPtr, nil), op("replace", "/spec/template", b.recorded("api"))}
		}),
		on(nsObserve, "fire after the kill switch", static, late()),
		on(nsObserve, "ALLOWED: disarm after the kill switch", nil, fixed(disarmOps()...)),
		on(nsObserve, "arm after the kill switch", granted, func(b *bench) []any {
			return []any{op("replace", armedPtr, "rollout-undo"), op("replace", actionPtr, otherID)}
		}),
		// Marking may be what it takes to disarm, so it is possible as long as disarming is.
		{name: "ALLOWED: mark a revision after the kill switch", ns: nsObserve, make: func(b *bench) request {
			return revisionPatch(b, "other", "2", op("add", undoToPtr, "true"))
		}},
		{name: "ALLOWED: unmark after the kill switch", ns: nsObserve, make: func(b *bench) request {
			return revisionPatch(b, "api", "1", op("remove", undoToPtr, nil))
		}},
	}
}
