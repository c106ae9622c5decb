{{/*
What the judge and the mind read about the cluster. No Secrets, in no form: even metadata-only
requests need the full right. No wildcard: a kind added to the cluster later is not covered.
*/}}
{{- define "backstop.rules.readCluster" -}}
# The workloads themselves, their revisions and who owns whom: a decision rests on a fresh read of them.
- apiGroups: [apps]
  resources: [deployments, replicasets, statefulsets, daemonsets, controllerrevisions]
  verbs: [get, list, watch]
# Jobs and CronJobs are targets of alerts, and owners of pods.
- apiGroups: [batch]
  resources: [jobs, cronjobs]
  verbs: [get, list, watch]
# Pods: states, restart counts, waiting reasons. Nodes: is it the node's fault? Namespaces: mode
# label, enrolment, deletion. Services: which pods does an alert about a service mean?
# ResourceQuotas: would new pods be let in?
- apiGroups: [""]
  resources: [pods, nodes, namespaces, services, resourcequotas]
  verbs: [get, list, watch]
# A Deployment that is scaled by an autoscaler must not be judged by its replica count.
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch]
# Disruption budgets bound what may be taken away at once.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch]
# Events: facts (failed mounts, image pulls, probes, quota), in both APIs that serve them.
- apiGroups: [""]
  resources: [events]
  verbs: [get, list, watch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [get, list, watch]
{{- end -}}

{{- define "backstop.rules.lease" -}}
# Leader election: one Lease of its own. `create` cannot be bound to a name.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [{{ . }}]
  verbs: [get, list, watch, update, patch]
{{- end -}}
