{{/*
Names are fixed: the admission policies are cluster-scoped and name the accounts, so a cluster
holds one release, and an override of a name could only break what the policies protect.
*/}}
{{- define "backstop.account" -}}backstop-{{ . }}{{- end -}}

{{- define "backstop.username" -}}system:serviceaccount:{{ .root.Release.Namespace }}:backstop-{{ .role }}{{- end -}}

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
app.kubernetes.io/name: backstop
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

{{- define "backstop.intakeSecret" -}}{{ .Values.intake.existingSecret | default "backstop-intake" }}{{- end -}}

{{- define "backstop.auditClaim" -}}
{{- with .Values.audit.persistentVolumeClaim -}}
{{ .existingClaim | default (ternary "backstop-audit" "" .create) }}
{{- end -}}
{{- end -}}

{{/* "true" when the audit trail outlives the pod, or its loss was accepted in so many words. */}}
{{- define "backstop.auditDurable" -}}
{{- if or (include "backstop.auditClaim" .) .Values.audit.ephemeral }}true{{ else }}false{{ end -}}
{{- end -}}

{{/* The enrolled namespaces as a CEL list. Names were checked by the schema: no quoting problem. */}}
{{- define "backstop.celNamespaces" -}}
[{{ range $i, $n := .Values.executor.namespaces }}{{ if $i }}, {{ end }}'{{ $n }}'{{ end }}]
{{- end -}}

{{/* What the schema cannot say. */}}
{{- define "backstop.check" -}}
{{- if has .Release.Namespace .Values.executor.namespaces }}
{{- fail (printf "executor.namespaces contains %q, the release's own namespace: Backstop must not be able to write to itself. Remove it from the list, or install Backstop in a namespace of its own." .Release.Namespace) }}
{{- end }}
{{- if and .Values.audit.persistentVolumeClaim.create .Values.audit.persistentVolumeClaim.existingClaim }}
{{- fail "audit.persistentVolumeClaim has both create and existingClaim: set one of them." }}
{{- end }}
{{- if and (gt (int .Values.controller.replicas) 1) (include "backstop.auditClaim" .) }}
{{- fail (printf "controller.replicas is %d, and the audit trail is on a claim (audit.persistentVolumeClaim): one process at a time may open its file, so every further pod would crash at its start, again and again. Set controller.replicas to 1; the Deployment starts another pod when this one ends." (int .Values.controller.replicas)) }}
{{- end }}
{{- end -}}

{{/* The pod of a role: security, probes and mounts that all three share. */}}
{{- define "backstop.pod" -}}
metadata:
  labels:
    {{- include "backstop.labels" . | nindent 4 }}
  annotations:
    # A changed setting restarts the roles; they read their settings once.
    checksum/config: {{ include "backstop.config" .root | sha256sum }}
    kubectl.kubernetes.io/default-container: {{ .role }}
    {{- with .root.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "backstop.account" .role }}
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
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
  volumes:
    - name: config
      configMap: {name: backstop}
    {{- if eq .role "controller" }}
    - name: audit
      {{- with include "backstop.auditClaim" .root }}
      persistentVolumeClaim: {claimName: {{ . }}}
      {{- else }}
      emptyDir: {}
      {{- end }}
    - name: intake
      secret: {secretName: {{ include "backstop.intakeSecret" .root }}, defaultMode: 0440}
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
  {{- with .settings.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .settings.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .settings.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "backstop.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
# Lets the process write to a claim and read the mounted tokens.
fsGroup: 65532
seccompProfile: {type: RuntimeDefault}
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
namespaces: {{ toJson .Values.executor.namespaces }}
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
budgets:
  {{- range $k, $v := .Values.budgets }}
  {{ $k }}: {{ int64 $v }}
  {{- end }}
timings:
  {{- range $k, $v := .Values.timings }}
  {{ $k }}: {{ int64 $v }}
  {{- end }}
retention:
  {{- range $k, $v := .Values.retention }}
  {{ $k }}: {{ int64 $v }}
  {{- end }}
{{- end -}}
