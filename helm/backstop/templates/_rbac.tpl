{{/*
What the controller and the investigator read about the cluster. No Secrets, in no form: even metadata-only
requests need the full right. No wildcard: a kind added to the cluster later is not covered.
*/}}
{{- define "backstop.rules.readCluster" -}}
# A target with all that belongs to it, read afresh: the workload by name, its revisions and its
# pods by selector (src/cluster/snapshot.rs). An owner is a workload by name as well.
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
  verbs: [get]
- apiGroups: [apps]
  resources: [replicasets, controllerrevisions]
  verbs: [get, list]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list]
# From what an alert names up to the workload that owns it: metadata, one object by name. These and
# those above are the table BUILT_IN in src/cluster/api.rs.
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: [get]
- apiGroups: [""]
  resources: [replicationcontrollers, persistentvolumeclaims, resourcequotas, nodes, namespaces]
  verbs: [get]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get]
{{- end -}}

{{- define "backstop.rules.lease" -}}
# Leader election: one Lease of its own. `create` cannot be bound to a name.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ . }}]
  verbs: [get, update]
{{- end -}}
