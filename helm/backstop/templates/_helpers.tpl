{{/*
What names of objects begin with. Those of admission policies and their bindings are fixed, because the
executor looks for them by name, and so are those of the Leases: a cluster holds one release.
*/}}
{{- define "backstop.fullname" -}}
{{ .Values.fullnameOverride | default .Values.nameOverride | default "backstop" }}
{{- end -}}

{{/* Name of the objects of a role: (dict "root" $ "role" <role>). */}}
{{- define "backstop.account" -}}{{ include "backstop.fullname" .root }}-{{ .role }}{{- end -}}

{{- define "backstop.username" -}}system:serviceaccount:{{ .root.Release.Namespace }}:{{ include "backstop.account" . }}{{- end -}}

{{- define "backstop.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "backstop.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: backstop
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "backstop.selector" -}}
app.kubernetes.io/name: {{ .root.Values.nameOverride | default "backstop" }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .role }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "backstop.image" -}}
{{- with .Values.image -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "backstop.intakeSecret" -}}{{ .Values.intake.existingSecret | default (printf "%s-intake" (include "backstop.fullname" .)) }}{{- end -}}

{{- define "backstop.auditClaim" -}}
{{- with .Values.audit.persistentVolumeClaim -}}
{{ .existingClaim | default (ternary (printf "%s-audit" (include "backstop.fullname" $)) "" .create) }}
{{- end -}}
{{- end -}}

{{/* The upstreams of the chain, as a JSON list. */}}
{{- define "backstop.modelUpstreams" -}}
{{- $all := list -}}
{{- range (dig "chain" "rungs" list (.Values.models | default dict)) -}}
{{- range .upstreams -}}{{- $all = append $all . -}}{{- end -}}
{{- end -}}
{{ toJson $all }}
{{- end -}}

{{/* The Secrets that are mounted for models, as a JSON list: those that the chain names, and the others of the values. */}}
{{- define "backstop.modelSecrets" -}}
{{- $all := dig "secrets" list (.Values.models | default dict) -}}
{{- range include "backstop.modelUpstreams" . | fromJsonArray -}}
{{- with .credentials -}}{{- $all = append $all .secret -}}{{- end -}}
{{- end -}}
{{ $all | uniq | sortAlpha | toJson }}
{{- end -}}

{{/* Name of the volume of a Secret: its own name may be too long for one. */}}
{{- define "backstop.modelVolume" -}}model-{{ sha256sum . | trunc 10 }}{{- end -}}

{{/*
Egress to the upstreams of the chain, as a JSON list of rules. A NetworkPolicy knows the ports of pods, and not those of
Services: a namespace of the cluster is opened as a whole.
*/}}
{{- define "backstop.modelEgress" -}}
{{- $ports := dict -}}
{{- $namespaces := dict -}}
{{- range include "backstop.modelUpstreams" . | fromJsonArray -}}
{{- $url := urlParse .url -}}
{{- $host := regexReplaceAll ":[0-9]+$" $url.host "" -}}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "80" "443" (eq $url.scheme "http")) -}}
{{- $service := $host | trimSuffix ".svc.cluster.local" | trimSuffix ".svc" -}}
{{- if or (eq $host "localhost") (eq $host "127.0.0.1") -}}
{{- else if not (contains "." $host) -}}
{{- $_ := set $namespaces $.Release.Namespace true -}}
{{- else if ne $service $host -}}
{{- $_ := set $namespaces (splitList "." $service | last) true -}}
{{- else -}}
{{- $_ := set $ports $port true -}}
{{- end -}}
{{- end -}}
{{- $rules := list -}}
{{- if $ports -}}
{{- $allowed := list -}}
{{- range keys $ports | sortAlpha -}}{{- $allowed = append $allowed (dict "port" (int .) "protocol" "TCP") -}}{{- end -}}
{{- $rules = append $rules (dict "to" .Values.models.egress.to "ports" $allowed) -}}
{{- end -}}
{{- range keys $namespaces | sortAlpha -}}
{{- $peer := dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" .)) -}}
{{- $rules = append $rules (dict "to" (list $peer) "ports" (list (dict "protocol" "TCP"))) -}}
{{- end -}}
{{ toJson $rules }}
{{- end -}}

{{/* "true" when the audit trail outlives the pod, or its loss was accepted in so many words. */}}
{{- define "backstop.auditDurable" -}}
{{- if or (include "backstop.auditClaim" .) .Values.audit.ephemeral }}true{{ else }}false{{ end -}}
{{- end -}}

{{/* "true" when namespaces are enrolled, by name or by label. */}}
{{- define "backstop.enrols" -}}
{{- if or .Values.executor.namespaces .Values.executor.enrolBySelector }}true{{ end -}}
{{- end -}}

{{/*
The enrolled namespaces that can have a Role now, as a JSON list. Helm cannot make an object in a namespace that does not
exist, and would fail as a whole. Without a cluster (`helm template`, Argo CD) nobody knows, and all are taken.
*/}}
{{- define "backstop.namespacesToBind" -}}
{{- $all := .Values.executor.namespaces | default list -}}
{{- $existing := list -}}
{{- if $all -}}
{{- range (lookup "v1" "Namespace" "" "").items -}}
{{- if not .metadata.deletionTimestamp }}{{ $existing = append $existing .metadata.name }}{{ end -}}
{{- end -}}
{{- end -}}
{{- if not $existing -}}
{{ toJson $all }}
{{- else -}}
{{- $found := list -}}
{{- range $all }}{{ if has . $existing }}{{ $found = append $found . }}{{ end }}{{ end -}}
{{ toJson $found }}
{{- end -}}
{{- end -}}

{{/* Namespaces that are never enrolled, whatever labels they have, as a JSON list. */}}
{{- define "backstop.neverEnrolled" -}}
{{ list .Release.Namespace "kube-system" "kube-public" "kube-node-lease" | toJson }}
{{- end -}}

{{/* Selects the enrolled namespaces in a binding. */}}
{{- define "backstop.namespaceSelector" -}}
{{- if .Values.executor.enrolBySelector -}}
matchLabels: {{ toJson .Values.executor.enrolBySelector }}
matchExpressions:
  - {key: kubernetes.io/metadata.name, operator: NotIn, values: {{ include "backstop.neverEnrolled" . }}}
{{- else -}}
matchExpressions:
  - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson .Values.executor.namespaces }}}
{{- end -}}
{{- end -}}

{{/* The same in CEL, about the namespace of a request. Names and labels were checked by the schema: no quoting problem. */}}
{{- define "backstop.celEnrolled" -}}
{{- if .Values.executor.enrolBySelector -}}
has(request.namespace) && namespaceObject != null && !(request.namespace in {{ include "backstop.celList" (include "backstop.neverEnrolled" . | fromJsonArray) }})
{{- range $key, $value := .Values.executor.enrolBySelector }} && namespaceObject.metadata.?labels[?'{{ $key }}'].orValue('') == '{{ $value }}'{{ end -}}
{{- else -}}
has(request.namespace) && request.namespace in {{ include "backstop.celList" .Values.executor.namespaces }}
{{- end -}}
{{- end -}}

{{/* What the schema cannot say. */}}
{{- define "backstop.check" -}}
{{- with lookup "admissionregistration.k8s.io/v1" "ValidatingAdmissionPolicyBinding" "" "backstop-approval" }}
{{- $release := get (.metadata.annotations | default dict) "meta.helm.sh/release-name" }}
{{- $namespace := get (.metadata.annotations | default dict) "meta.helm.sh/release-namespace" }}
{{- if and $release (or (ne $release $.Release.Name) (ne $namespace $.Release.Namespace)) }}
{{- fail (printf "Backstop is in this cluster already, as release %q in namespace %q. Its admission policies are cluster-scoped and name the accounts of one release, so a second one beside it would take the first one's walls down. Upgrade that release, or uninstall it first: helm uninstall %s --namespace %s" $release $namespace $release $namespace) }}
{{- end }}
{{- end }}
{{- if and .Values.executor.namespaces .Values.executor.enrolBySelector }}
{{- fail "executor has both namespaces and enrolBySelector: set one of them." }}
{{- end }}
{{- if and .Values.executor.enrolBySelector (hasKey .Values.executor.enrolBySelector "kubernetes.io/metadata.name") }}
{{- fail "executor.enrolBySelector selects one namespace by its name: list it in executor.namespaces, which gives rights in that namespace only." }}
{{- end }}
{{- if has .Release.Namespace (.Values.executor.namespaces | default list) }}
{{- fail (printf "executor.namespaces contains %q, the release's own namespace: Backstop must not be able to write to itself. Remove it from the list, or install Backstop in a namespace of its own." .Release.Namespace) }}
{{- end }}
{{- if and .Values.audit.persistentVolumeClaim.create .Values.audit.persistentVolumeClaim.existingClaim }}
{{- fail "audit.persistentVolumeClaim has both create and existingClaim: set one of them." }}
{{- end }}
{{- if and (gt (int .Values.controller.replicas) 1) (include "backstop.auditClaim" .) }}
{{- fail (printf "controller.replicas is %d, and the audit log is on a claim (audit.persistentVolumeClaim): one process at a time may open its file, and with ReadWriteOnce a pod on another node waits for the volume without end. Set controller.replicas to 1; the Deployment starts another pod when this one ends." (int .Values.controller.replicas)) }}
{{- end }}
{{- end -}}

{{/* The pod of a role: security, probes and mounts that all three share. */}}
{{- define "backstop.pod" -}}
metadata:
  labels:
    {{- include "backstop.labels" . | nindent 4 }}
    {{- with .root.Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A changed setting restarts the roles; they read their settings once.
    checksum/config: {{ include "backstop.config" .root | sha256sum }}
    kubectl.kubernetes.io/default-container: {{ .role }}
    {{- with .root.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "backstop.account" . }}
  {{- include "backstop.placement" . | nindent 2 }}
  # No environment variables of other Services: the pod needs the API server's alone.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .settings.terminationGracePeriodSeconds }}
  securityContext:
    {{- include "backstop.podSecurity" . | nindent 4 }}
  containers:
    - name: {{ .role }}
      image: {{ include "backstop.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      args: [{{ .role }}, --config, /etc/backstop/config.yaml]
      env:
        # Each decision has a thread of its own: with an arena of the allocator for each, what is freed may be kept many times.
        - {name: MALLOC_ARENA_MAX, value: "2"}
        {{- include "backstop.env" . | nindent 8 }}
      ports:
        - {name: http, containerPort: 8080}
      livenessProbe:
        httpGet: {path: /healthz, port: http}
        periodSeconds: 10
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: /readyz, port: http}
        periodSeconds: 2
        failureThreshold: 3
      securityContext:
        {{- include "backstop.containerSecurity" . | nindent 8 }}
      resources:
        {{- toYaml .settings.resources | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/backstop/config.yaml, subPath: config.yaml, readOnly: true}
        {{- if eq .role "controller" }}
        - {name: audit, mountPath: /var/lib/backstop/audit}
        - {name: intake, mountPath: /etc/backstop/intake, readOnly: true}
        {{- if .root.Values.escalationWebhook.existingSecret }}
        - {name: escalation, mountPath: /etc/backstop/escalation, readOnly: true}
        {{- end }}
        {{- end }}
        {{- if eq .role "investigator" }}
        {{- range include "backstop.modelSecrets" .root | fromJsonArray }}
        - {name: {{ include "backstop.modelVolume" . }}, mountPath: /etc/backstop/models/{{ . }}, readOnly: true}
        {{- end }}
        {{- if ((.root.Values.models | default dict).caBundle | default dict).configMap }}
        - {name: authorities, mountPath: /etc/backstop/model-ca, readOnly: true}
        {{- end }}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "backstop.fullname" .root }}}
    {{- if eq .role "controller" }}
    - name: audit
      {{- with include "backstop.auditClaim" .root }}
      persistentVolumeClaim: {claimName: {{ . }}}
      {{- else }}
      emptyDir: {}
      {{- end }}
    - name: intake
      # Until it is there the intake answers 503, and alerts that are objects are worked on all the same.
      secret: {secretName: {{ include "backstop.intakeSecret" .root }}, defaultMode: 0440, optional: true}
    {{- with .root.Values.escalationWebhook }}
    {{- if .existingSecret }}
    - name: escalation
      secret:
        secretName: {{ .existingSecret }}
        defaultMode: 0440
        items: [{key: {{ .existingSecretKey }}, path: token}]
    {{- end }}
    {{- end }}
    {{- end }}
    {{- if eq .role "investigator" }}
    {{- range include "backstop.modelSecrets" .root | fromJsonArray }}
    - name: {{ include "backstop.modelVolume" . }}
      # Until it is there its upstreams are not asked, and the rules answer.
      secret: {secretName: {{ . }}, defaultMode: 0440, optional: true}
    {{- end }}
    {{- with (.root.Values.models | default dict).caBundle }}
    {{- if .configMap }}
    - name: authorities
      configMap: {name: {{ .configMap }}, items: [{key: {{ .key }}, path: ca.crt}]}
    {{- end }}
    {{- end }}
    {{- end }}
{{- end -}}

{{/* Where a pod runs, and who may pull its image: the disarm Job has to fit wherever the executor does. */}}
{{- define "backstop.placement" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
# The image is Linux's. Another value of the same key wins, and "" takes it out.
nodeSelector:
  {{- $selector := dict "kubernetes.io/os" "linux" }}
  {{- range $key, $value := .settings.nodeSelector }}
  {{- $_ := set $selector $key $value }}
  {{- if not $value }}{{ $_ := unset $selector $key }}{{ end }}
  {{- end }}
  {{- toYaml $selector | nindent 2 }}
{{- with .settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "backstop.podSecurity" -}}
runAsNonRoot: true
seccompProfile: {type: RuntimeDefault}
{{- /* Values of a release from before podSecurityContext, kept by --reuse-values, do not have it. */}}
{{- $ids := dict "runAsUser" 65532 "runAsGroup" 65532 "fsGroup" 65532 }}
{{- range $key, $value := (hasKey .root.Values "podSecurityContext" | ternary .root.Values.podSecurityContext $ids) | default dict }}
{{- if not (kindIs "invalid" $value) }}
{{ $key }}: {{ kindIs "float64" $value | ternary (int64 $value) $value | toJson }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "backstop.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{- define "backstop.env" -}}
# The pod's name is the holder's id of its Lease and of its claims.
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- end -}}

{{/* The settings file of all three roles. */}}
{{- define "backstop.config" -}}
namespaces: {{ toJson (.Values.executor.namespaces | default list) }}
{{- with .Values.executor.enrolBySelector }}
enrolBySelector: {{ toJson . }}
{{- end }}
evictPods: {{ .Values.executor.evictPods }}
clusterName: {{ .Values.clusterName | quote }}
logFormat: {{ .Values.logFormat }}
logLevel: {{ .Values.logLevel | quote }}
auditDir: /var/lib/backstop/audit
auditDurable: {{ include "backstop.auditDurable" . }}
intakeTokensDir: /etc/backstop/intake
prometheusUrl: {{ .Values.prometheusUrl | quote }}
escalationWebhook:
  url: {{ .Values.escalationWebhook.url | quote }}
  tokenFile: {{ ternary "/etc/backstop/escalation/token" "" (not (empty .Values.escalationWebhook.existingSecret)) | quote }}
{{- /* Values of a release from before these, kept by --reuse-values, do not have them. */}}
{{- $models := .Values.models | default dict }}
models:
  proxyUrl: {{ $models.proxyUrl | default "" | quote }}
  caFile: {{ ternary "/etc/backstop/model-ca/ca.crt" "" (not (empty ($models.caBundle | default dict).configMap)) | quote }}
{{- /* What earlier charts did not have is named here too, for upgrades with --reuse-values. A 0 that was set stays one. */}}
{{- $budgets := dict "actionsPerKindPerHour" 15 "actionsPerNodePerHour" 10 "actionsPerTargetPerDay" 4 "heldAfterFailureSeconds" 21600 "workloadsPercentPerNamespacePerHour" 50 "workloadsPercentPerHour" 20 "endpointsPercent" 50 }}
{{- range $k, $v := .Values.budgets }}{{ $_ := set $budgets $k $v }}{{ end }}
budgets:
  {{- range $k, $v := $budgets }}
  {{ $k }}: {{ int64 $v }}
  {{- end }}
timings:
  {{- range $k, $v := merge (dict) .Values.timings (dict "watchSeconds" 900 "alertGoesOnSeconds" 600) }}
  {{ $k }}: {{ int64 $v }}
  {{- end }}
retention:
  {{- range $k, $v := merge (dict) .Values.retention (dict "alertSilenceHours" 72 "alertsPerNamespace" 5000) }}
  {{ $k }}: {{ int64 $v }}
  {{- end }}
watchdogSeconds: {{ int64 (default 300 .Values.watchdogSeconds) }}
{{- end -}}
