package admission

// evict is the eviction of a pod as the executor makes it, after a change.
func (b *bench) evict(pod string, change func(eviction object)) request {
	eviction := object{
		"apiVersion": "policy/v1", "kind": "Eviction",
		"metadata": object{
			"name": pod, "namespace": b.ns,
			"labels":      object{"backstop.dev/armed": "rollout-undo"},
			"annotations": object{"backstop.dev/action": actionID},
		},
		"deleteOptions": object{"preconditions": object{"uid": b.pods[pod]}},
	}
	if change != nil {
		change(eviction)
	}
	return request{method: "POST", path: podPath(b.ns, pod) + "/eviction" + manager, body: eviction}
}

func podPath(ns, name string) string { return "/api/v1/namespaces/" + ns + "/pods/" + name }

// mayEvict is the open part of a Grant for the eviction of pod `stuck`.
func (b *bench) mayEvict() object {
	pod := object{"apiVersion": "v1", "kind": "Pod", "namespace": b.ns, "name": "stuck", "uid": b.pods["stuck"]}
	return b.open(object{"evict": object{"pod": pod}}, at(b.workload("api"), "metadata", "uid"))
}

// makePods makes pods that no node takes: `stuck`, which a Grant may name, and `other`.
func (b *bench) makePods() {
	// Without it no pod is let in, and a controller makes it a moment after the namespace.
	if err := eventually("the namespace has its service account", func() bool {
		return b.admin.exists("/api/v1/namespaces/"+b.ns+"/serviceaccounts/default") != nil
	}); err != nil {
		panic(b.ns + ": " + err.Error())
	}
	for _, name := range []string{"stuck", "other"} {
		made := b.admin.must(request{method: "POST", path: podPath(b.ns, ""), body: object{"apiVersion": "v1", "kind": "Pod",
			"metadata": object{"name": name},
			"spec":     object{"nodeSelector": object{"backstop.dev/nowhere": "true"}, "containers": []any{object{"name": "c", "image": "backstop.local/pause:1"}}}}})
		b.pods[name] = at(made, "metadata", "uid").(string)
	}
}

func evictions() []row {
	labels := func(e object) object { return at(e, "metadata", "labels").(object) }
	notes := func(e object) object { return at(e, "metadata", "annotations").(object) }
	options := func(e object) object { return e["deleteOptions"].(object) }
	forged := func(time string) any {
		return []any{object{"manager": "backstop-executor", "operation": "Update", "apiVersion": "policy/v1", "subresource": "eviction",
			"time": time, "fieldsType": "FieldsV1", "fieldsV1": object{"f:metadata": object{"f:labels": object{"f:backstop.dev/armed": object{}}}}}}
	}
	evict := func(ns, name, pod string, want []string, change func(e object)) row {
		return row{name: "evict: " + name, ns: ns, want: want, make: func(b *bench) request { return b.evict(pod, change) }}
	}
	stuck := func(name string, want []string, change func(e object)) row {
		return evict(nsEvict, name, "stuck", want, change)
	}
	allowed := func(name string, change func(e object)) row {
		r := stuck("", nil, change)
		r.name = "ALLOWED: evict " + name
		return r
	}
	asManager := func(ns, name, query string) row {
		r := evict(ns, name, "stuck", granted, nil)
		r.make = func(b *bench) request {
			req := b.evict("stuck", nil)
			req.path = podPath(b.ns, "stuck") + "/eviction" + query
			return req
		}
		return r
	}
	// stolen has the judge write the Grant.
	stolen := func(name string, change func(open object)) row {
		r := evict(nsEvictEvil, "judge and hands stolen: "+name, "stuck", grantOnly, nil)
		r.before = func(b *bench) error {
			open := b.mayEvict()
			change(open)
			return b.grant(open)
		}
		return r
	}
	anyUid := stolen("a pod of any uid", func(open object) { at(open, "write", "evict", "pod").(object)["uid"] = "" })
	anyUid.want, anyUid.make = static, func(b *bench) request {
		return b.evict("stuck", func(e object) { options(e)["preconditions"] = object{} })
	}
	notEnrolled := evict(nsOff, "where nothing is enrolled", "stuck", static, nil)
	notEnrolled.rbac = true
	return []row{
		allowed("the granted pod", nil),
		allowed("the granted pod, as a dry-run by the options of the deletion", func(e object) { options(e)["dryRun"] = []any{"All"} }),
		stuck("with another pod's uid", grantOnly, func(e object) { at(e, "deleteOptions", "preconditions").(object)["uid"] = digest }),
		evict(nsEvict, "a pod that is not granted", "other", grantOnly, nil),
		{name: "evict: a pod that is not granted, with the uid of the granted one", ns: nsEvict, want: grantOnly, make: func(b *bench) request {
			return b.evict("other", func(e object) { at(e, "deleteOptions", "preconditions").(object)["uid"] = b.pods["stuck"] })
		}},
		stuck("without a uid", granted, func(e object) { options(e)["preconditions"] = object{} }),
		stuck("with an empty uid", granted, func(e object) { at(e, "deleteOptions", "preconditions").(object)["uid"] = "" }),
		stuck("without preconditions", granted, func(e object) { e["deleteOptions"] = object{} }),
		stuck("without options", granted, func(e object) { delete(e, "deleteOptions") }),
		stuck("by its resourceVersion only", granted, func(e object) { options(e)["preconditions"] = object{"resourceVersion": "1"} }),
		stuck("at once", static, func(e object) { options(e)["gracePeriodSeconds"] = 0 }),
		stuck("with a longer grace period", static, func(e object) { options(e)["gracePeriodSeconds"] = 600 }),
		stuck("in the foreground", static, func(e object) { options(e)["propagationPolicy"] = "Foreground" }),
		stuck("and orphan what it owns", static, func(e object) { options(e)["propagationPolicy"] = "Orphan" }),
		stuck("without the armed label", static, func(e object) { delete(labels(e), "backstop.dev/armed") }),
		stuck("without labels", static, func(e object) { delete(e["metadata"].(object), "labels") }),
		stuck("as another kind of action", granted, func(e object) { labels(e)["backstop.dev/armed"] = "restart" }),
		stuck("with an empty armed label", granted, func(e object) { labels(e)["backstop.dev/armed"] = "" }),
		stuck("with the label of the grant's self-test", granted, func(e object) { labels(e)["backstop.dev/armed"] = "self-test-grant" }),
		stuck("with the label of the provenance's self-test", static, func(e object) { labels(e)["backstop.dev/armed"] = "self-test-provenance" }),
		stuck("with another label", static, func(e object) { labels(e)["x"] = "y" }),
		stuck("without naming an action", granted, func(e object) { delete(notes(e), "backstop.dev/action") }),
		stuck("without annotations", granted, func(e object) { delete(e["metadata"].(object), "annotations") }),
		stuck("with an action id of another form", granted, func(e object) { notes(e)["backstop.dev/action"] = "a1" }),
		stuck("for an action that is not granted", grantOnly, func(e object) { notes(e)["backstop.dev/action"] = otherID }),
		stuck("with another annotation", static, func(e object) { notes(e)["x"] = "y" }),
		stuck("with a receipt", static, func(e object) { notes(e)["backstop.dev/last-action"] = actionID }),
		stuck("by the older version of the API, without the armed label", static, func(e object) {
			e["apiVersion"] = "policy/v1beta1"
			delete(labels(e), "backstop.dev/armed")
		}),
		stuck("by the older version of the API, with another's uid", grantOnly, func(e object) {
			e["apiVersion"] = "policy/v1beta1"
			at(e, "deleteOptions", "preconditions").(object)["uid"] = digest
		}),
		asManager(nsEvict, "as another field manager", "?fieldManager=kubectl"),
		asManager(nsEvict, "with no field manager", ""),
		evict(statefulSets.ns(nsOpen), "with a Grant for a field", "stuck", grantOnly, nil),
		evict(statefulSets.ns(nsArmed), "with a Grant for a field, while armed", "stuck", grantOnly, nil),
		evict(statefulSets.ns(nsClosed), "with the Grant closed", "stuck", grantOnly, nil),
		evict(statefulSets.ns(nsNone), "with no Grant at all", "stuck", grantOnly, nil),
		notEnrolled,
		evict(nsEvictOff, "after the kill switch", "stuck", static, nil),
		{name: "arm with a Grant for an eviction", ns: nsEvict, want: []string{"grant", statefulSets.provenance}, make: func(b *bench) request { return b.patch("api", armOps()) }},
		evict(nsEvictLate, "with an expired Grant", "stuck", grantOnly, nil),
		evict(nsEvictLate, "with an expired Grant, the writers reset", "stuck", grantOnly, func(e object) { e["metadata"].(object)["managedFields"] = []any{object{}} }),
		evict(nsEvictLate, "with an expired Grant, the time forged", "stuck", grantOnly, func(e object) { e["metadata"].(object)["managedFields"] = forged("2020-01-01T00:00:00Z") }),
		asManager(nsEvictLate, "with an expired Grant as another field manager", "?fieldManager=kubectl"),
		anyUid,
		stolen("open for an hour", func(open object) { open["notAfter"] = inSeconds(3600) }),
		stolen("expired an hour ago", func(open object) { open["notAfter"] = inSeconds(-3600) }),
		stolen("another pod of the same name", func(open object) {
			at(open, "write", "evict", "pod").(object)["uid"] = "00000000-0000-0000-0000-000000000000"
		}),
		stolen("the uid under another name", func(open object) { at(open, "write", "evict", "pod").(object)["name"] = "other" }),
		stolen("another kind of action", func(open object) { open["action"] = "evict-pod" }),
		stolen("the action of another", func(open object) { open["actionId"] = otherID }),
	}
}
