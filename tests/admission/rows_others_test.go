package admission

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
	evil := deployments.new("evil")
	var table []row
	for _, t := range targets {
		post := verb("create a "+t.kind, "POST", appsPath(nsOpen, t.plural, ""), "", t.new("evil"))
		drop := verb("delete all "+t.plural+" at once", "DELETE", appsPath(t.ns(nsOpen), t.plural, ""), "", nil)
		table = append(table, post, drop, t.named(row{name: "delete it", ns: nsOpen, want: static, rbac: true, make: func(b *bench) request {
			return request{method: "DELETE", path: b.path("api")}
		}}), t.named(row{name: "write its status", ns: nsOpen, want: static, rbac: true, make: func(b *bench) request {
			// The status endpoint also writes annotations.
			return request{method: "PATCH", kind: mergePatch, path: b.path("api") + "/status", body: object{"metadata": object{"annotations": object{"backstop.dev/last-action": actionID}}}}
		}}), t.named(row{name: "replace it by PUT", ns: nsOpen, rbac: true, once: true, make: func(b *bench) request {
			return request{method: "PUT", path: b.path("api") + manager, body: b.workload("api")}
		}}))
		for _, state := range []string{nsOpen, nsArmed} {
			if t != daemonSets {
				table = append(table, t.named(row{name: "scale it by the subresource in " + state, ns: state, want: static, rbac: true, make: func(b *bench) request {
					return request{method: "PATCH", kind: mergePatch, path: b.path("api") + "/scale", body: object{"spec": object{"replicas": 5}}}
				}}))
			}
		}
	}
	table = append(table, []row{
		verb("create a ReplicaSet", "POST", apps+"/replicasets", "", meta("apps/v1", "ReplicaSet", "evil", object{"spec": evil["spec"]})),
		verb("delete all ReplicaSets at once", "DELETE", apps+"/replicasets", "", nil),
		verb("create a ControllerRevision", "POST", apps+"/controllerrevisions", "", meta("apps/v1", "ControllerRevision", "evil", object{"revision": 1, "data": object{}})),
		verb("delete all ControllerRevisions at once", "DELETE", appsPath(statefulSets.ns(nsOpen), "controllerrevisions", ""), "", nil),
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
		verb("scale a ReplicaSet by the subresource", "PATCH", apps+"/replicasets/bare/scale", mergePatch, object{"spec": object{"replicas": 5}}),
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
	}...)
	for i := range table {
		if table[i].name == "create an Approval" {
			table[i].want = []string{"static", "approval"}
		}
	}
	return table
}

// reads are not seen by admission at all; RBAC is the one wall.
func reads() []row {
	core := "/api/v1/namespaces/" + nsOpen
	read := func(name, path string) row { return verb(name, "GET", path, "", nil) }
	post := func(name, path string, body any) row { return verb(name, "POST", path, "", body) }
	policies := admissionAPI + "validatingadmissionpolicies/"
	bindings := admissionAPI + "validatingadmissionpolicybindings/"
	forbidden := []row{
		read("read a Secret", core+"/secrets/s"),
		read("list all Secrets", "/api/v1/secrets"),
		read("read a Pod where nothing is enrolled", podPath(nsOff, "stuck")),
		read("list the Pods of all namespaces", "/api/v1/pods"),
		read("watch Pods", core+"/pods?watch=true&timeoutSeconds=1"),
		read("read a Pod's log", core+"/pods/p/log"),
		read("exec into a Pod by GET", core+"/pods/p/exec?command=id"),
		read("read ConfigMaps", core+"/configmaps"),
		read("read a namespace that is not enrolled", "/api/v1/namespaces/"+nsOff),
		read("list namespaces", "/api/v1/namespaces"),
		read("read Deployments where nothing is enrolled", appsPath(nsOff, "deployments", "")),
		read("list Deployments of all namespaces", "/apis/apps/v1/deployments"),
		read("read another Ledger", ourPath(system, "ledgers", "actions")),
		read("read the known-good marks of a namespace that is not enrolled", ourPath(system, "ledgers", "known-good."+nsOff)),
		read("list Ledgers", ourPath(system, "ledgers", "")),
		read("read an Incident", ourPath(nsOpen, "incidents", "inc-1")),
		read("read an Investigation", ourPath(nsOpen, "investigations", "x")),
		read("list Policies where nothing is enrolled", ourPath(nsOff, "policies", "")),
		read("list Approvals of the system namespace", ourPath(system, "approvals", "")),
		read("list nodes", "/api/v1/nodes"),
		post("review another's token", "/apis/authentication.k8s.io/v1/tokenreviews", object{"spec": object{"token": "x"}}),
		post("review another's access", "/apis/authorization.k8s.io/v1/subjectaccessreviews", object{"spec": object{"user": "x"}}),
		verb("delete the static policy", "DELETE", policies+"backstop-static", "", nil),
		verb("delete the static binding", "DELETE", bindings+"backstop-static", "", nil),
		verb("weaken the grant binding", "PATCH", bindings+"backstop-grant", mergePatch, object{"spec": object{"validationActions": []any{"Audit"}}}),
		post("create a webhook", admissionAPI+"mutatingwebhookconfigurations", object{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": object{"name": "evil"}}),
		{name: "act as the administrator by impersonation", ns: nsOpen, make: func(b *bench) request {
			return request{method: "GET", path: b.path("api"), headers: map[string]string{"Impersonate-User": "admin", "Impersonate-Group": "system:masters"}}
		}},
		{name: "act as the controller by impersonation", ns: nsOpen, make: func(b *bench) request {
			return request{method: "GET", path: ourPath(b.ns, "grants", "active"), headers: map[string]string{"Impersonate-User": "system:serviceaccount:" + system + ":backstop-controller"}}
		}},
	}
	for i := range forbidden {
		forbidden[i].want, forbidden[i].rbac, forbidden[i].once = nil, true, true
	}
	allowed := []row{
		read("ALLOWED: read a Pod", core+"/pods/p"),
		read("ALLOWED: list Pods", core+"/pods"),
		read("ALLOWED: read its enrolled namespace", "/api/v1/namespaces/"+nsOpen),
		read("ALLOWED: list Approvals", ourPath(nsOpen, "approvals", "")),
		read("ALLOWED: list Policies", ourPath(nsOpen, "policies", "")),
		read("ALLOWED: list Policies of the system namespace", ourPath(system, "policies", "")),
		read("ALLOWED: read the known-good marks of an enrolled namespace", ourPath(system, "ledgers", "known-good."+nsOpen)),
	}
	for _, t := range targets {
		allowed = append(allowed, read("ALLOWED: list "+t.plural, appsPath(nsOpen, t.plural, "")), read("ALLOWED: list "+t.revisions, appsPath(nsOpen, t.revisions, "")))
	}
	for i := range allowed {
		allowed[i].want, allowed[i].rbac, allowed[i].once = nil, false, true
	}
	return append(forbidden, allowed...)
}
