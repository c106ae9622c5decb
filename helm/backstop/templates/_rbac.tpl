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

{{- define "backstop.rules.grants" -}}
# Opens and closes the Grant of an enrolled namespace, and makes a missing one (closed). Never
# deletes it: the grant policy refuses every write to an armed object while its Grant is missing.
- apiGroups: [backstop.dev]
  resources: [grants]
  verbs: [create, update]
# Before a rollback: does what the earlier template names still exist? Metadata-only requests, `get` alone, and only
# where it may roll back. The account of a pod is one of those names. Value: controller.readConfigMaps.
- apiGroups: [""]
  resources: [serviceaccounts]
  verbs: [get]
# How far a write would reach: which Services lose endpoints, and what disruption budgets allow. Lists, and only where
# it may write.
- apiGroups: [""]
  resources: [services]
  verbs: [list]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [list]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list]
# Why pods of a StatefulSet or DaemonSet are not made: nothing but Events says it. Asked for where pods are missing, and
# only where it may roll back.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [list]
{{- if dig "readConfigMaps" true .Values.controller }}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get]
{{- end }}
{{- end -}}

{{/* What the executor may do where it is enrolled. The same in a Role of each namespace and, with enrolBySelector, in one ClusterRole. */}}
{{- define "backstop.rules.executor" -}}
{{- $kinds := concat (include "backstop.targets" . | fromJsonArray) (include "backstop.revisions" . | fromJsonArray) -}}
# What it is to do, and what it may do now. Typed values and no prose.
- apiGroups: [backstop.dev]
  resources: [remediations, grants]
  verbs: [get, list, watch]
# Claims a Remediation and leaves its receipts.
- apiGroups: [backstop.dev]
  resources: [remediations/status]
  verbs: [patch]
# In mode approve it looks for the Approval itself, and for the mode that Policies leave.
- apiGroups: [backstop.dev]
  resources: [approvals, policies]
  verbs: [list]
# Proves the need on its own reading before it arms.
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list]
# Arm, fire and disarm a target; mark the one revision that a rollback returns to. No `update`,
# `create` or `delete`, no subresource.
{{- include "backstop.roleRules" (dict "kinds" $kinds "verbs" (list "get" "list" "patch")) }}
{{- if include "backstop.evicting" . | fromJsonArray }}
# Has a pod that hinders its own replacement evicted: disruption budgets hold, unlike for `delete`.
# Value: executor.evictPods.
- apiGroups: [""]
  resources: [pods/eviction]
  verbs: [create]
{{- end }}
{{- end -}}
