package admission

import (
	"slices"
	"strings"
	"time"
)

// rows is the table: what the executor's token must not do, from every state
// of a rollback, and the few things that it may.
func rows() []row {
	return slices.Concat(unarmed(), revisions(), armed(), withoutGrant(), thieves(), otherKinds())
}

// verb is a row about a main resource or subresource that is none of the executor's business.
func verb(name, method, path, kind string, body any) row {
	return row{name: name, ns: nsOpen, want: static, rbac: true, make: func(*bench) request {
		return request{method: method, path: path, kind: kind, body: body}
	}}
}

// connect is a row about a subresource that opens a connection; it knows no dry-run.
func connect(name, path string) row {
	r := verb(name, "POST", path, "", nil)
	r.real = true
	return r
}

func otherKinds() []row {
	core := "/api/v1/namespaces/" + nsOpen
	apps := "/apis/apps/v1/namespaces/" + nsOpen
	rbac := "/apis/rbac.authorization.k8s.io/v1"
	label := object{"metadata": object{"labels": object{"x": "y"}}}
	pod := object{"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": "evil"}, "spec": object{"containers": []any{object{"name": "c", "image": "evil:1"}}}}
	meta := func(api, kind, name string, more object) object {
		o := object{"apiVersion": api, "kind": kind, "metadata": object{"name": name}}
		for k, v := range more {
			o[k] = v
		}
		return o
	}
	evil := newDeployment("evil")
	table := []row{
		verb("create a Deployment", "POST", apps+"/deployments", "", evil),
		verb("delete a Deployment", "DELETE", apps+"/deployments/api", "", nil),
		verb("delete all Deployments at once", "DELETE", apps+"/deployments", "", nil),
		verb("create a ReplicaSet", "POST", apps+"/replicasets", "", meta("apps/v1", "ReplicaSet", "evil", object{"spec": evil["spec"]})),
		verb("delete all ReplicaSets at once", "DELETE", apps+"/replicasets", "", nil),
		verb("create a StatefulSet", "POST", apps+"/statefulsets", "", meta("apps/v1", "StatefulSet", "evil", object{"spec": evil["spec"]})),
		verb("create a DaemonSet", "POST", apps+"/daemonsets", "", meta("apps/v1", "DaemonSet", "evil", object{"spec": object{"selector": at(evil, "spec", "selector"), "template": at(evil, "spec", "template")}})),
		verb("create a ControllerRevision", "POST", apps+"/controllerrevisions", "", meta("apps/v1", "ControllerRevision", "evil", object{"revision": 1, "data": object{}})),
		verb("create a Job", "POST", "/apis/batch/v1/namespaces/"+nsOpen+"/jobs", "", meta("batch/v1", "Job", "evil", object{"spec": object{"template": object{"spec": object{"restartPolicy": "Never", "containers": []any{object{"name": "c", "image": "evil:1"}}}}}})),
		verb("create a Pod", "POST", core+"/pods", "", pod),
		verb("delete a Pod", "DELETE", core+"/pods/p", "", nil),
		verb("delete all Pods at once", "DELETE", core+"/pods", "", nil),
		verb("label a Pod", "PATCH", core+"/pods/p", mergePatch, label),
		connect("exec into a Pod", core+"/pods/p/exec?command=id"),
		connect("attach to a Pod", core+"/pods/p/attach"),
		connect("forward a port of a Pod", core+"/pods/p/portforward"),
		connect("proxy to a Pod", core+"/pods/p/proxy"),
		verb("add an ephemeral container", "PATCH", core+"/pods/p/ephemeralcontainers", strategicPatch, object{"spec": object{"ephemeralContainers": []any{object{"name": "e", "image": "evil:1"}}}}),
		verb("evict a Pod", "POST", core+"/pods/p/eviction", "", meta("policy/v1", "Eviction", "p", nil)),
		verb("bind a Pod to a node", "POST", core+"/pods/p/binding", "", meta("v1", "Binding", "p", object{"target": object{"kind": "Node", "name": "n"}})),
		verb("write a Pod's status", "PATCH", core+"/pods/p/status", mergePatch, object{"status": object{"phase": "Failed"}}),
		verb("create a Secret", "POST", core+"/secrets", "", meta("v1", "Secret", "evil", nil)),
		verb("change a Secret", "PATCH", core+"/secrets/s", mergePatch, label),
		verb("delete a Secret", "DELETE", core+"/secrets/s", "", nil),
		verb("create a ConfigMap", "POST", core+"/configmaps", "", meta("v1", "ConfigMap", "evil", nil)),
		verb("change a ConfigMap", "PATCH", core+"/configmaps/c", mergePatch, object{"data": object{"k": "v"}}),
		verb("change a Service", "PATCH", core+"/services/s", mergePatch, object{"spec": object{"selector": object{"x": "y"}}}),
		verb("create a PersistentVolumeClaim", "POST", core+"/persistentvolumeclaims", "", meta("v1", "PersistentVolumeClaim", "evil", object{"spec": object{"accessModes": []any{"ReadWriteOnce"}, "resources": object{"requests": object{"storage": "1Gi"}}}})),
		verb("make a token of the controller", "POST", "/api/v1/namespaces/"+system+"/serviceaccounts/backstop-controller/token", "", object{"spec": object{}}),
		verb("make a token of its own", "POST", "/api/v1/namespaces/"+system+"/serviceaccounts/backstop-executor/token", "", object{"spec": object{}}),
		verb("create a ServiceAccount", "POST", core+"/serviceaccounts", "", meta("v1", "ServiceAccount", "evil", nil)),
		verb("create an Event", "POST", core+"/events", "", meta("v1", "Event", "evil", object{"involvedObject": object{"namespace": nsOpen}})),
		verb("create a Lease", "POST", "/apis/coordination.k8s.io/v1/namespaces/"+nsOpen+"/leases", "", meta("coordination.k8s.io/v1", "Lease", "evil", nil)),
		verb("create a Role", "POST", rbac+"/namespaces/"+nsOpen+"/roles", "", meta("rbac.authorization.k8s.io/v1", "Role", "evil", nil)),
		verb("widen its own Role", "PATCH", rbac+"/namespaces/"+nsOpen+"/roles/backstop-executor", jsonPatch, []any{op("add", "/rules/-", object{"apiGroups": []any{"*"}, "resources": []any{"*"}, "verbs": []any{"*"}})}),
		verb("bind itself to a Role", "POST", rbac+"/namespaces/"+nsOpen+"/rolebindings", "", meta("rbac.authorization.k8s.io/v1", "RoleBinding", "evil", object{"roleRef": object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"}})),
		verb("bind itself to cluster-admin", "POST", rbac+"/clusterrolebindings", "", meta("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "evil", object{"roleRef": object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}})),
		verb("raise a namespace's mode", "PATCH", "/api/v1/namespaces/"+nsObserve, mergePatch, object{"metadata": object{"labels": object{"backstop.dev/mode": "auto"}}}),
		verb("delete a namespace", "DELETE", "/api/v1/namespaces/"+nsClosed, "", nil),
		verb("change a definition", "PATCH", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/grants.backstop.dev", mergePatch, label),
		verb("create an autoscaler", "POST", "/apis/autoscaling/v2/namespaces/"+nsOpen+"/horizontalpodautoscalers", "", meta("autoscaling/v2", "HorizontalPodAutoscaler", "evil", object{"spec": object{"maxReplicas": 9, "scaleTargetRef": object{"kind": "Deployment", "name": "api", "apiVersion": "apps/v1"}}})),
		verb("create a disruption budget", "POST", "/apis/policy/v1/namespaces/"+nsOpen+"/poddisruptionbudgets", "", meta("policy/v1", "PodDisruptionBudget", "evil", object{"spec": object{"maxUnavailable": 0}})),
		verb("create a NetworkPolicy", "POST", "/apis/networking.k8s.io/v1/namespaces/"+nsOpen+"/networkpolicies", "", meta("networking.k8s.io/v1", "NetworkPolicy", "evil", object{"spec": object{"podSelector": object{}}})),
		verb("scale by the subresource", "PATCH", apps+"/deployments/api/scale", mergePatch, object{"spec": object{"replicas": 5}}),
		verb("scale a ReplicaSet by the subresource", "PATCH", apps+"/replicasets/bare/scale", mergePatch, object{"spec": object{"replicas": 5}}),
		// The status endpoint also writes annotations.
		verb("write a Deployment's status", "PATCH", apps+"/deployments/api/status", mergePatch, object{"metadata": object{"annotations": object{"backstop.dev/last-action": actionID}}}),
		verb("write a ReplicaSet's status", "PATCH", apps+"/replicasets/bare/status", mergePatch, object{"status": object{"replicas": 1}}),

		// Its orders are written by the judge.
		verb("open the Grant", "PATCH", ourPath(nsClosed, "grants", "active"), mergePatch, object{"spec": object{"closedBecause": "x"}}),
		verb("make a Grant", "POST", ourPath(nsNone, "grants", ""), "", meta("backstop.dev/v1alpha1", "Grant", "active", object{"spec": object{}})),
		verb("delete a Grant", "DELETE", ourPath(nsClosed, "grants", "active"), "", nil),
		verb("delete all Grants at once", "DELETE", ourPath(nsClosed, "grants", ""), "", nil),
		verb("change a Remediation's spec", "PATCH", ourPath(nsOpen, "remediations", "rem-1"), mergePatch, label),
		verb("create a Remediation", "POST", ourPath(nsOpen, "remediations", ""), "", remediation("evil")),
		verb("delete a Remediation", "DELETE", ourPath(nsOpen, "remediations", "rem-1"), "", nil),
		verb("create an Incident", "POST", ourPath(nsOpen, "incidents", ""), "", incident("evil")),
		verb("write an Incident's status", "PATCH", ourPath(nsOpen, "incidents", "inc-1")+"/status", mergePatch, object{"status": object{}}),
		verb("create an Alert", "POST", ourPath(nsOpen, "alerts", ""), "", alert("evil", nil)),
		verb("create an Approval", "POST", ourPath(nsOpen, "approvals", ""), "", approval("evil", "system:serviceaccount:"+system+":backstop-executor")),
		verb("create a Ledger", "POST", ourPath(system, "ledgers", ""), "", meta("backstop.dev/v1alpha1", "Ledger", "evil", object{"spec": object{"purpose": "Actions"}})),
		verb("create a Policy", "POST", ourPath(nsOpen, "policies", ""), "", meta("backstop.dev/v1alpha1", "Policy", "evil", object{"spec": object{"mode": "auto"}})),
		verb("write receipts where nothing is enrolled", "PATCH", ourPath(nsOff, "remediations", "rem-1")+"/status", mergePatch, object{"status": object{}}),
	}
	for i := range table {
		if table[i].name == "create an Approval" {
			table[i].want = []string{"static", "approval"}
		}
	}
	// Not seen by admission at all; RBAC is the one wall.
	for _, r := range []row{
		verb("read a Secret", "GET", core+"/secrets/s", "", nil),
		verb("list all Secrets", "GET", "/api/v1/secrets", "", nil),
		verb("read a Pod", "GET", core+"/pods/p", "", nil),
		verb("read a Pod's log", "GET", core+"/pods/p/log", "", nil),
		verb("exec into a Pod by GET", "GET", core+"/pods/p/exec?command=id", "", nil),
		verb("read ConfigMaps", "GET", core+"/configmaps", "", nil),
		verb("read Deployments where nothing is enrolled", "GET", "/apis/apps/v1/namespaces/"+nsOff+"/deployments", "", nil),
		verb("list Deployments of all namespaces", "GET", "/apis/apps/v1/deployments", "", nil),
		verb("list nodes", "GET", "/api/v1/nodes", "", nil),
		verb("review another's token", "POST", "/apis/authentication.k8s.io/v1/tokenreviews", "", object{"spec": object{"token": "x"}}),
		verb("review another's access", "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", "", object{"spec": object{"user": "x"}}),
		verb("delete the static policy", "DELETE", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/backstop-static", "", nil),
		verb("delete the static binding", "DELETE", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/backstop-static", "", nil),
		verb("weaken the grant binding", "PATCH", "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/backstop-grant", mergePatch, object{"spec": object{"validationActions": []any{"Audit"}}}),
		verb("create a webhook", "POST", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", "", meta("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "evil", nil)),
		{name: "replace a Deployment by PUT", ns: nsOpen, rbac: true, make: func(b *bench) request {
			return request{method: "PUT", path: deploymentPath(b.ns, "api") + manager, body: b.deployment("api")}
		}},
		{name: "act as the administrator by impersonation", ns: nsOpen, rbac: true, make: func(b *bench) request {
			return request{method: "GET", path: deploymentPath(b.ns, "api"), headers: map[string]string{"Impersonate-User": "admin", "Impersonate-Group": "system:masters"}}
		}},
		{name: "act as the controller by impersonation", ns: nsOpen, rbac: true, make: func(b *bench) request {
			return request{method: "GET", path: ourPath(b.ns, "grants", "active"), headers: map[string]string{"Impersonate-User": "system:serviceaccount:" + system + ":backstop-controller"}}
		}},
	} {
		r.want, r.once = nil, true
		table = append(table, r)
	}
	return table
}

// on is a row about a JSON patch on Deployment api.
func on(ns, name string, want []string, ops func(b *bench) []any) row {
	return row{name: name, ns: ns, want: want, make: func(b *bench) request { return b.patch("api", ops(b)) }}
}

func fixed(ops ...any) func(*bench) []any { return func(*bench) []any { return ops } }

func unarmed() []row {
	finalizer := op("add", "/metadata/finalizers", []any{"evil.dev/hold"})
	owner := op("add", "/metadata/ownerReferences", []any{object{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "1"}})
	fire := func(b *bench) []any { return []any{op("replace", "/spec/template", b.recorded("api"))} }
	return []row{
		on(nsOpen, "ALLOWED: arm what is granted", nil, func(*bench) []any { return armOps() }),
		on(nsOpen, "fire without arming", static, fire),
		on(nsOpen, "fire without arming, with a receipt", static, func(b *bench) []any { return append(fire(b), op("add", receiptPtr, actionID)) }),
		on(nsOpen, "change the image", static, fixed(op("replace", "/spec/template/spec/containers/0/image", "evil:1"))),
		on(nsOpen, "change replicas", static, fixed(op("replace", "/spec/replicas", 3))),
		on(nsOpen, "pause", static, fixed(op("add", "/spec/paused", true))),
		on(nsOpen, "restart", static, fixed(op("add", "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt", "now"))),
		on(nsOpen, "add a label", static, fixed(op("add", "/metadata/labels/x", "y"))),
		on(nsOpen, "add an annotation", static, fixed(op("add", "/metadata/annotations/x", "y"))),
		on(nsOpen, "add an annotation with our prefix", static, fixed(op("add", "/metadata/annotations/backstop.dev~1evil", "y"))),
		on(nsOpen, "forge a receipt", static, fixed(op("add", receiptPtr, actionID))),
		on(nsOpen, "add a finalizer", static, fixed(finalizer)),
		on(nsOpen, "add an owner", static, fixed(owner)),
		on(nsOpen, "change nothing", static, fixed(op("test", "/metadata/name", "api"))),
		on(nsOpen, "arm as another kind of action", granted, fixed(op("add", armedPtr, "restart"), op("add", actionPtr, actionID))),
		on(nsOpen, "arm with the label of a self-test", granted, fixed(op("add", armedPtr, "self-test-grant"), op("add", actionPtr, actionID))),
		on(nsOpen, "arm without naming an action", granted, fixed(op("add", armedPtr, "rollout-undo"))),
		on(nsOpen, "arm with an action id of another form", granted, fixed(op("add", armedPtr, "rollout-undo"), op("add", actionPtr, "a1"))),
		on(nsOpen, "arm for an action that is not granted", grantOnly, fixed(op("add", armedPtr, "rollout-undo"), op("add", actionPtr, otherID))),
		on(nsOpen, "arm and change replicas", anyPolicy, fixed(armOps(op("replace", "/spec/replicas", 3))...)),
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
			return request{method: "PATCH", kind: jsonPatch, path: deploymentPath(b.ns, "api") + "?fieldManager=kubectl", body: armOps()}
		}},
		{name: "arm with no field manager", ns: nsOpen, want: granted, make: func(b *bench) request {
			return request{method: "PATCH", kind: jsonPatch, path: deploymentPath(b.ns, "api"), body: armOps()}
		}},
		{name: "arm by server-side apply", ns: nsOpen, want: static, make: func(b *bench) request {
			return applied(b, object{"labels": object{"backstop.dev/armed": "rollout-undo"}, "annotations": object{"backstop.dev/action": actionID}}, nil)
		}},
		{name: "change replicas by server-side apply", ns: nsOpen, want: static, make: func(b *bench) request {
			return applied(b, object{}, object{"replicas": 3})
		}},
		{name: "change the image by strategic merge", ns: nsOpen, want: static, make: func(b *bench) request {
			return request{method: "PATCH", kind: strategicPatch, path: deploymentPath(b.ns, "api") + manager, body: object{"spec": object{"template": object{"spec": object{"containers": []any{object{"name": "c", "image": "evil:1"}}}}}}}
		}},
		{name: "change the image by merge", ns: nsOpen, want: static, make: func(b *bench) request {
			return request{method: "PATCH", kind: mergePatch, path: deploymentPath(b.ns, "api") + manager, body: object{"spec": object{"template": object{"spec": object{"containers": []any{object{"name": "c", "image": "evil:1"}}}}}}}
		}},
		{name: "arm by merge, a new value in the same patch", ns: nsOpen, want: anyPolicy, make: func(b *bench) request {
			return request{method: "PATCH", kind: mergePatch, path: deploymentPath(b.ns, "api") + manager, body: object{"metadata": object{"labels": object{"backstop.dev/armed": "rollout-undo"}, "annotations": object{"backstop.dev/action": actionID}}, "spec": object{"template": object{"spec": object{"hostPID": true}}}}}
		}},
		{name: "arm an object that is not granted", ns: nsOpen, want: grantOnly, make: func(b *bench) request { return b.patch("other", armOps()) }},
		on(nsHeld, "arm an object with a finalizer", static, fixed(armOps()...)),
		{name: "ALLOWED: write a receipt", ns: nsOpen, make: func(b *bench) request {
			return request{method: "PATCH", kind: mergePatch, path: ourPath(b.ns, "remediations", "rem-1") + "/status" + manager, body: object{"status": object{}}}
		}},
	}
}

// applied is a server-side apply of api's metadata and spec.
func applied(b *bench, metadata, spec object) request {
	body := object{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
	if spec != nil {
		body["spec"] = spec
	}
	return request{method: "PATCH", kind: applyPatch, path: deploymentPath(b.ns, "api") + manager + "&force=true", body: body}
}

func armed() []row {
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
	return []row{
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
		on(nsArmed, "fire with the value from before", anyPolicy, func(b *bench) []any { return fireOps(at(b.deployment("api"), "spec", "template")) }),
		on(nsArmed, "fire and change replicas", granted, also(op("replace", "/spec/replicas", 3))),
		on(nsArmed, "fire and pause", granted, also(op("add", "/spec/paused", true))),
		on(nsArmed, "fire and change the strategy", granted, also(op("replace", "/spec/strategy", object{"type": "Recreate"}))),
		on(nsArmed, "fire and change the history limit", granted, also(op("replace", "/spec/revisionHistoryLimit", 0))),
		on(nsArmed, "fire and change minReadySeconds", granted, also(op("add", "/spec/minReadySeconds", 9))),
		on(nsArmed, "fire and drop a field of the spec", granted, also(op("remove", "/spec/progressDeadlineSeconds", nil), op("add", "/spec/progressDeadlineSeconds", 1))),
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
		on(nsArmed, "disarm and change replicas", anyPolicy, fixed(disarmOps(op("replace", "/spec/replicas", 3))...)),
		on(nsArmed, "disarm and add a label", static, fixed(disarmOps(op("add", "/metadata/labels/x", "y"))...)),
		on(nsArmed, "disarm and add an annotation", static, fixed(disarmOps(op("add", "/metadata/annotations/x", "y"))...)),
		on(nsArmed, "disarm and add a finalizer", static, fixed(disarmOps(op("add", "/metadata/finalizers", []any{"evil.dev/hold"}))...)),
		on(nsArmed, "disarm and forge a receipt", static, fixed(disarmOps(op("add", receiptPtr, actionID))...)),
		on(nsArmed, "disarm and write another action's name", static, fixed(op("remove", armedPtr, nil), op("replace", actionPtr, otherID))),
		on(nsArmed, "change the armed label", granted, fixed(op("replace", armedPtr, "restart"))),
		on(nsArmed, "change the action while armed", granted, fixed(op("replace", actionPtr, otherID))),
		on(nsArmed, "add a label while armed", static, fixed(op("add", "/metadata/labels/x", "y"))),
		{name: "fire as another field manager", ns: nsArmed, want: granted, make: func(b *bench) request {
			return request{method: "PATCH", kind: jsonPatch, path: deploymentPath(b.ns, "api") + "?fieldManager=kubectl", body: fireOps(b.recorded("api"))}
		}},
		{name: "fire by server-side apply", ns: nsArmed, want: anyPolicy, make: func(b *bench) request {
			return applied(b, object{"annotations": object{"backstop.dev/last-action": actionID}}, object{"selector": object{"matchLabels": object{"app": "api"}}, "template": b.recorded("api")})
		}},
		{name: "arm a second object while one is armed", ns: nsArmed, want: grantOnly, make: func(b *bench) request { return b.patch("other", armOps()) }},
		{name: "delete an armed object", ns: nsArmed, want: static, rbac: true, make: func(b *bench) request {
			return request{method: "DELETE", path: deploymentPath(b.ns, "api")}
		}},
		{name: "scale an armed object by the subresource", ns: nsArmed, want: static, rbac: true, make: func(b *bench) request {
			return request{method: "PATCH", kind: mergePatch, path: deploymentPath(b.ns, "api") + "/scale", body: object{"spec": object{"replicas": 3}}}
		}},
	}
}

func withoutGrant() []row {
	late := func(extra ...any) func(b *bench) []any {
		return func(b *bench) []any { return fireOps(b.recorded("api"), extra...) }
	}
	return []row{
		on(nsClosed, "arm with the Grant closed", []string{"grant", "provenance"}, fixed(armOps()...)),
		on(nsNone, "arm with no Grant at all", []string{"grant", "provenance"}, fixed(armOps()...)),
		{name: "arm where nothing is enrolled", ns: nsOff, want: static, rbac: true, make: func(b *bench) request { return b.patch("api", armOps()) }},
		on(nsLong, "arm with a Grant that is open for an hour", grantOnly, fixed(armOps()...)),
		on(nsExpired, "fire with an expired Grant", grantOnly, late()),
		on(nsExpired, "ALLOWED: disarm with an expired Grant", nil, fixed(disarmOps()...)),
		on(nsExpired, "fire with an expired Grant, the writers reset", granted, late(op("replace", "/metadata/managedFields", []any{object{}}))),
		on(nsExpired, "fire with an expired Grant, the times forged", granted, func(b *bench) []any {
			entries := copied(at(b.deployment("api"), "metadata", "managedFields")).([]any)
			for _, e := range entries {
				e.(object)["time"] = "2020-01-01T00:00:00Z"
			}
			return fireOps(b.recorded("api"), op("replace", "/metadata/managedFields", entries))
		}),
		on(nsExpired, "fire with an expired Grant, the times removed", granted, func(b *bench) []any {
			entries := copied(at(b.deployment("api"), "metadata", "managedFields")).([]any)
			for _, e := range entries {
				delete(e.(object), "time")
			}
			return fireOps(b.recorded("api"), op("replace", "/metadata/managedFields", entries))
		}),
		{name: "fire with an expired Grant as another field manager", ns: nsExpired, want: granted, make: func(b *bench) request {
			return request{method: "PATCH", kind: jsonPatch, path: deploymentPath(b.ns, "api") + "?fieldManager=kubectl", body: fireOps(b.recorded("api"))}
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

// thieves are rows in which judge and hands are both stolen: the Grant itself
// names what is wrong, and only provenance (and the static layer) is left.
func thieves() []row {
	stolen := func(name string, want []string, change func(open, template object)) row {
		var after object
		return row{name: "judge and hands stolen: " + name, ns: nsEvil, want: want,
			before: func(b *bench) error {
				open := b.granted()
				after = open["after"].(object)
				change(open, after)
				return b.grant(open)
			},
			make: func(b *bench) request { return b.patch("api", fireOps(after)) },
		}
	}
	return []row{
		stolen("another image", provenance, func(_, t object) {
			at(t, "spec", "containers").([]any)[0].(object)["image"] = "evil:1"
		}),
		stolen("hostPID", provenance, func(_, t object) { t["spec"].(object)["hostPID"] = true }),
		stolen("a ServiceAccount", provenance, func(_, t object) {
			// The API server writes the old name of the field too.
			t["spec"].(object)["serviceAccountName"], t["spec"].(object)["serviceAccount"] = "admin", "admin"
		}),
		stolen("a label on the template", provenance, func(_, t object) { at(t, "metadata", "labels").(object)["x"] = "y" }),
		stolen("a hash label on the template", provenance, func(_, t object) { at(t, "metadata", "labels").(object)["pod-template-hash"] = "x" }),
		stolen("an annotation on the template", provenance, func(_, t object) { at(t, "metadata", "annotations").(object)["x"] = "y" }),
		stolen("no annotation on the template", provenance, func(_, t object) { delete(t["metadata"].(object), "annotations") }),
		stolen("a finalizer on the template", provenance, func(_, t object) {
			t["metadata"].(object)["finalizers"] = []any{"evil.dev/hold"}
		}),
		stolen("another field than the template", []string{"grant"}, func(open, _ object) { open["path"] = "/spec/replicas" }),
		stolen("another kind of action", []string{"grant"}, func(open, _ object) { open["action"] = "scale-to" }),
		stolen("open for an hour", []string{"grant"}, func(open, _ object) { open["notAfter"] = inSeconds(3600) }),
		stolen("expired an hour ago", []string{"grant"}, func(open, _ object) { open["notAfter"] = inSeconds(-3600) }),
		stolen("the uid of another object", []string{"grant"}, func(open, _ object) { open["uid"] = "00000000-0000-0000-0000-000000000000" }),
		stolen("another state before", []string{"grant"}, func(open, t object) { open["before"] = t }),
		stolen("the action of another", []string{"grant"}, func(open, _ object) { open["actionId"] = otherID }),
		on(nsWrong, "hands stolen: a real revision, but not the granted one", grantOnly, func(b *bench) []any {
			return fireOps(b.templateOf("api", "2"))
		}),
		{name: "judge and hands stolen: a revision of another Deployment", ns: nsForeign, want: provenance, make: func(b *bench) request {
			return b.patch("api", fireOps(at(b.admin.get(ourPath(b.ns, "grants", "active")), "spec", "open", "after")))
		}},
	}
}

// revisionPatch is a JSON patch on a ReplicaSet.
func revisionPatch(b *bench, name, number string, ops ...any) request {
	return request{method: "PATCH", kind: jsonPatch, path: b.setPath(name, number) + manager, body: ops}
}

func revisions() []row {
	rs := func(name string, ops ...any) row {
		return row{name: "on a ReplicaSet: " + name, ns: nsOpen, want: static, make: func(b *bench) request { return revisionPatch(b, "api", "2", ops...) }}
	}
	mark := op("add", undoToPtr, "true")
	allowed := rs("ALLOWED: mark it", mark)
	allowed.want = nil
	return []row{
		allowed,
		rs("change replicas", op("replace", "/spec/replicas", 3)),
		rs("mark it and change replicas", mark, op("replace", "/spec/replicas", 3)),
		rs("mark it and change the image", mark, op("replace", "/spec/template/spec/containers/0/image", "evil:1")),
		rs("mark it with another value", op("add", undoToPtr, "yes")),
		rs("mark it and add a label", mark, op("add", "/metadata/labels/x", "y")),
		rs("mark it and add the armed label", mark, op("add", armedPtr, "rollout-undo")),
		rs("mark it and add an annotation", mark, op("add", "/metadata/annotations/x", "y")),
		rs("mark it and add one of our annotations", mark, op("add", receiptPtr, actionID)),
		rs("mark it and change its revision number", mark, op("replace", "/metadata/annotations/deployment.kubernetes.io~1revision", "9")),
		rs("mark it and take its owner away", mark, op("remove", "/metadata/ownerReferences", nil)),
		rs("mark it and add a finalizer", mark, op("add", "/metadata/finalizers", []any{"evil.dev/hold"})),
		rs("mark it and drop the writers", mark, op("replace", "/metadata/managedFields", []any{object{}})),
		rs("add a label", op("add", "/metadata/labels/x", "y")),
		{name: "mark a ReplicaSet that no Deployment owns", ns: nsOpen, want: static, make: func(b *bench) request {
			return request{method: "PATCH", kind: jsonPatch, path: replicaSetPath(b.ns, "bare") + manager, body: []any{op("add", "/metadata/labels", object{"app": "bare", "backstop.dev/undo-to": "true"})}}
		}},
		{name: "mark a ReplicaSet by its status", ns: nsOpen, want: static, rbac: true, make: func(b *bench) request {
			req := revisionPatch(b, "api", "2", mark)
			req.path = strings.Replace(req.path, manager, "/status"+manager, 1)
			return req
		}},
		{name: "mark a ReplicaSet as another field manager", ns: nsOpen, want: static, make: func(b *bench) request {
			req := revisionPatch(b, "api", "2", mark)
			req.path = req.path[:len(req.path)-len(manager)] + "?fieldManager=kubectl"
			return req
		}},
		{name: "mark a ReplicaSet where nothing is enrolled", ns: nsOff, want: static, rbac: true, make: func(b *bench) request { return revisionPatch(b, "api", "1", mark) }},
		{name: "unmark and change replicas", ns: nsOpen, want: static, make: func(b *bench) request {
			return revisionPatch(b, "api", "1", op("remove", undoToPtr, nil), op("replace", "/spec/replicas", 3))
		}},
		{name: "unmark and add a label", ns: nsOpen, want: static, make: func(b *bench) request {
			return revisionPatch(b, "api", "1", op("remove", undoToPtr, nil), op("add", "/metadata/labels/x", "y"))
		}},
	}
}

// Objects of ours with the least that their definitions ask for.

func ours(kind, name string, spec object) object {
	return object{"apiVersion": "backstop.dev/v1alpha1", "kind": kind, "metadata": object{"name": name}, "spec": spec}
}

const (
	requestID = "0123456789abcdef0123456789abcdef"
	digest    = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func remediation(name string) object {
	action := object{"kind": "RolloutUndo", "rolloutUndo": object{"toRevision": 1, "revision": object{"kind": "ReplicaSet", "name": "api-1"}}}
	return ours("Remediation", name, object{
		"action": action, "actionId": actionID, "digest": digest, "kind": "RolloutUndo", "incident": "inc-1", "path": "/spec/template",
		"requestId": requestID, "before": object{}, "after": object{}, "target": object{"kind": "Deployment", "name": "api", "uid": "u"},
		"undo": object{"action": action}, "verify": object{"settleSeconds": 10, "timeoutSeconds": 300},
	})
}

func incident(name string) object {
	now := time.Now().UTC().Format(time.RFC3339)
	return ours("Incident", name, object{
		"alerts":   []any{object{"name": "al-1", "namespace": nsOpen, "startsAt": now}},
		"openedAt": now, "requestId": requestID,
	})
}

func alert(name string, labels object) object {
	all := object{"alertname": "KubePodCrashLooping"}
	for k, v := range labels {
		all[k] = v
	}
	return ours("Alert", name, object{
		"source": "Manual", "fingerprint": "f1", "labels": all, "annotations": object{},
		"startsAt": time.Now().UTC().Format(time.RFC3339),
	})
}

func approval(name, approver string) object {
	return ours("Approval", name, object{
		"approver": approver, "digest": digest, "incident": "inc-1", "expiresAt": inSeconds(600),
	})
}

// makeFixtures makes what the rows about other kinds refer to.
func makeFixtures(b *bench) {
	core := "/api/v1/namespaces/" + b.ns
	post := func(path string, body any) { b.admin.must(request{method: "POST", path: path, body: body}) }
	post(core+"/pods", object{"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": "p"}, "spec": object{
		"nodeSelector": object{"backstop.dev/nowhere": "true"}, "containers": []any{object{"name": "c", "image": "backstop.local/pause:1"}}}})
	post(core+"/secrets", object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": "s"}})
	post(core+"/configmaps", object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": "c"}})
	post(core+"/services", object{"apiVersion": "v1", "kind": "Service", "metadata": object{"name": "s"}, "spec": object{"ports": []any{object{"port": 80}}}})
	bare := newDeployment("bare")
	post("/apis/apps/v1/namespaces/"+b.ns+"/replicasets", object{"apiVersion": "apps/v1", "kind": "ReplicaSet",
		"metadata": object{"name": "bare", "labels": object{"app": "bare"}}, "spec": bare["spec"].(object)})
	for _, ns := range []string{nsOpen, nsOff} {
		post(ourPath(ns, "remediations", ""), remediation("rem-1"))
		post(ourPath(ns, "incidents", ""), incident("inc-1"))
	}
}
