package admission

import "strings"

// revisionPatch is a JSON patch on a recorded revision.
func revisionPatch(b *bench, name, number string, ops ...any) request {
	return request{method: "PATCH", kind: jsonPatch, path: b.setPath(name, number) + manager, body: ops}
}

func revisions(t *target) []row {
	on := func(name string, ops ...any) row {
		return row{name: "on a revision: " + name, ns: nsOpen, want: static, make: func(b *bench) request { return revisionPatch(b, "api", "2", ops...) }}
	}
	mark, unmark := op("add", undoToPtr, "true"), op("remove", undoToPtr, nil)
	// The data of a ControllerRevision never changes: the API server's own validation sees to it.
	content := op("replace", "/revision", 9)
	if t == deployments {
		content = op("replace", "/spec/replicas", 3)
	}
	allowed := on("mark it", mark)
	allowed.name, allowed.want = "ALLOWED: mark a revision", nil
	table := []row{
		allowed,
		on("change its content", content),
		on("mark it and change its content", mark, content),
		on("mark it with another value", op("add", undoToPtr, "yes")),
		on("mark it and add a label", mark, op("add", "/metadata/labels/x", "y")),
		on("mark it and add the armed label", mark, op("add", armedPtr, "rollout-undo")),
		on("mark it and add an annotation", mark, op("add", "/metadata/annotations/x", "y")),
		on("mark it and change an annotation", mark, op("replace", "/metadata/annotations/team", "y")),
		on("mark it and add one of our annotations", mark, op("add", receiptPtr, actionID)),
		on("mark it and take its owner away", mark, op("remove", "/metadata/ownerReferences", nil)),
		on("mark it and add a finalizer", mark, op("add", "/metadata/finalizers", []any{"evil.dev/hold"})),
		on("mark it and drop the writers", mark, op("replace", "/metadata/managedFields", []any{object{}})),
		on("add a label", op("add", "/metadata/labels/x", "y")),
		{name: "mark a revision that no target owns", ns: nsOpen, want: static, make: func(b *bench) request {
			return request{method: "PATCH", kind: jsonPatch, path: appsPath(b.ns, t.revisions, "bare") + manager, body: []any{op("add", "/metadata/labels", object{"app": "bare", "backstop.dev/undo-to": "true"})}}
		}},
		{name: "mark a revision as another field manager", ns: nsOpen, want: static, make: func(b *bench) request {
			req := revisionPatch(b, "api", "2", mark)
			req.path = strings.Replace(req.path, manager, "?fieldManager=kubectl", 1)
			return req
		}},
		{name: "mark a revision where nothing is enrolled", ns: nsOff, want: static, rbac: true, make: func(b *bench) request { return revisionPatch(b, "api", "1", mark) }},
		{name: "unmark and change the revision's content", ns: nsOpen, want: static, make: func(b *bench) request { return revisionPatch(b, "api", "1", unmark, content) }},
		{name: "unmark and add a label", ns: nsOpen, want: static, make: func(b *bench) request {
			return revisionPatch(b, "api", "1", unmark, op("add", "/metadata/labels/x", "y"))
		}},
		{name: "delete a revision", ns: nsOpen, want: static, rbac: true, make: func(b *bench) request {
			return request{method: "DELETE", path: b.setPath("api", "2")}
		}},
	}
	if t != deployments {
		return table
	}
	// Only a ReplicaSet has a template of its own, a number beside it, and a status.
	return append(table,
		on("mark it and change the image", mark, op("replace", "/spec/template/spec/containers/0/image", "evil:1")),
		on("mark it and change its number", mark, op("replace", "/metadata/annotations/deployment.kubernetes.io~1revision", "9")),
		row{name: "mark a revision by its status", ns: nsOpen, want: static, rbac: true, make: func(b *bench) request {
			req := revisionPatch(b, "api", "2", mark)
			req.path = strings.Replace(req.path, manager, "/status"+manager, 1)
			return req
		}})
}

// thieves are rows in which judge and hands are both stolen: the Grant itself
// names what is wrong, and only provenance (and the static layer) is left.
func thieves() []row {
	stolen := func(name string, want []string, change func(open, field, template object)) row {
		var after object
		return row{name: "judge and hands stolen: " + name, ns: nsEvil, want: want,
			before: func(b *bench) error {
				open := b.granted()
				field := at(open, "write", "field").(object)
				after = field["after"].(object)
				change(open, field, after)
				return b.grant(open)
			},
			make: func(b *bench) request { return b.patch("api", fireOps(after)) },
		}
	}
	return []row{
		stolen("another image", provenance, func(_, _, t object) {
			at(t, "spec", "containers").([]any)[0].(object)["image"] = "evil:1"
		}),
		stolen("hostPID", provenance, func(_, _, t object) { t["spec"].(object)["hostPID"] = true }),
		stolen("a ServiceAccount", provenance, func(_, _, t object) {
			// The API server writes the old name of the field too.
			t["spec"].(object)["serviceAccountName"], t["spec"].(object)["serviceAccount"] = "admin", "admin"
		}),
		stolen("a label on the template", provenance, func(_, _, t object) { at(t, "metadata", "labels").(object)["x"] = "y" }),
		stolen("a hash label on the template", provenance, func(_, _, t object) { at(t, "metadata", "labels").(object)["pod-template-hash"] = "x" }),
		stolen("an annotation on the template", provenance, func(_, _, t object) { at(t, "metadata", "annotations").(object)["x"] = "y" }),
		stolen("no annotation on the template", provenance, func(_, _, t object) { delete(t["metadata"].(object), "annotations") }),
		stolen("a finalizer on the template", provenance, func(_, _, t object) {
			t["metadata"].(object)["finalizers"] = []any{"evil.dev/hold"}
		}),
		stolen("another field than the template", []string{"grant"}, func(_, field, _ object) { field["path"] = "/spec/replicas" }),
		stolen("a part of the template", []string{"grant"}, func(_, field, _ object) { field["path"] = "/spec/template/spec" }),
		stolen("another kind of action", []string{"grant"}, func(open, _, _ object) { open["action"] = "scale-to" }),
		stolen("open for an hour", []string{"grant"}, func(open, _, _ object) { open["notAfter"] = inSeconds(3600) }),
		stolen("expired an hour ago", []string{"grant"}, func(open, _, _ object) { open["notAfter"] = inSeconds(-3600) }),
		stolen("the uid of another object", []string{"grant"}, func(open, _, _ object) { open["uid"] = "00000000-0000-0000-0000-000000000000" }),
		stolen("another state before", []string{"grant"}, func(_, field, t object) { field["before"] = t }),
		stolen("the action of another", []string{"grant"}, func(open, _, _ object) { open["actionId"] = otherID }),
		on(nsWrong, "hands stolen: a real revision, but not the granted one", grantOnly, func(b *bench) []any {
			return fireOps(b.templateOf("api", "2"))
		}),
		{name: "judge and hands stolen: a revision of another workload", ns: nsForeign, want: provenance, make: func(b *bench) request {
			return b.patch("api", fireOps(at(b.admin.get(ourPath(b.ns, "grants", "active")), "spec", "open", "write", "field", "after")))
		}},
	}
}
