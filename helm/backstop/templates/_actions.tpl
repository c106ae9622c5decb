{{/*
What rights and admission policies ask of files/actions.yaml. A template can only return text, so
these return JSON: `include … | fromJsonArray`. Resources are named group/version/resource, as the
static policy puts them together from a request.
*/}}

{{- define "backstop.actions" -}}
{{ .Files.Get "files/actions.yaml" | fromYamlArray | toJson }}
{{- end -}}

{{/*
Every kind of target once: apiVersion, group, version, resource, kind, path (group/version/resource),
the labels of the actions on it, and the annotations that the API server changes beside them.
*/}}
{{- define "backstop.targets" -}}
{{- $found := dict -}}
{{- range $action := include "backstop.actions" . | fromJsonArray -}}
{{- range $action.targets -}}
{{- $entry := include "backstop.resource" . | fromJson -}}
{{- $entry = get $found $entry.path | default (merge $entry (dict "labels" list "annotations" list)) -}}
{{- $_ := set $entry "labels" (append $entry.labels $action.label) -}}
{{- $_ := set $entry "annotations" (concat $entry.annotations (.annotations | default list) | uniq) -}}
{{- $_ := set $found $entry.path $entry -}}
{{- end -}}
{{- end -}}
{{- $all := list -}}
{{- range $found }}{{ $all = append $all . }}{{ end -}}
{{ toJson $all }}
{{- end -}}

{{/*
Every kind that records revisions once, with the targets that it records revisions of, the labels of
the actions that need one, its policy, where it keeps the template, and the label that its controller
adds to that template.
*/}}
{{- define "backstop.revisions" -}}
{{- $kept := dict
  "apps/v1/replicasets" (dict "policy" "backstop-provenance" "template" "params.spec.template" "hash" "pod-template-hash")
  "apps/v1/controllerrevisions" (dict "policy" "backstop-provenance-controllerrevisions" "template" "params.data.spec.template" "hash" "") -}}
{{- $found := dict -}}
{{- range $action := include "backstop.actions" . | fromJsonArray -}}
{{- range $target := $action.targets -}}
{{- with $target.revisions -}}
{{- $entry := include "backstop.resource" . | fromJson -}}
{{- $how := get $kept $entry.path | required (printf "files/actions.yaml: nothing is known about revisions in %s" $entry.path) -}}
{{- $entry = get $found $entry.path | default (merge $entry $how (dict "labels" list "targets" list)) -}}
{{- $_ := set $entry "labels" (append $entry.labels $action.label | uniq) -}}
{{- $_ := set $entry "targets" (append $entry.targets (include "backstop.resource" $target | fromJson) | uniq) -}}
{{- $_ := set $found $entry.path $entry -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $all := list -}}
{{- range $found }}{{ $all = append $all . }}{{ end -}}
{{ toJson $all }}
{{- end -}}

{{- define "backstop.resource" -}}
{{- $parts := splitList "/" .apiVersion -}}
{{- $group := ternary (first $parts) "" (eq (len $parts) 2) -}}
{{ dict "path" (printf "%s/%s/%s" $group (last $parts) .resource) "apiVersion" .apiVersion "group" $group "version" (last $parts) "resource" .resource "kind" .kind | toJson }}
{{- end -}}

{{/* Labels of the actions that may have pods evicted, as a JSON list; empty when executor.evictPods is false. */}}
{{- define "backstop.evicting" -}}
{{- $labels := list -}}
{{- if .Values.executor.evictPods -}}
{{- range include "backstop.actions" . | fromJsonArray -}}
{{- if .evicts }}{{ $labels = append $labels .label }}{{ end -}}
{{- end -}}
{{- end -}}
{{ toJson $labels }}
{{- end -}}

{{/* A list of strings as a CEL list. */}}
{{- define "backstop.celList" -}}
[{{ range $i, $s := . }}{{ if $i }}, {{ end }}'{{ $s }}'{{ end }}]
{{- end -}}

{{/* The `path`s of a list of kinds, as a CEL list. */}}
{{- define "backstop.celPaths" -}}
{{- $paths := list -}}
{{- range . }}{{ $paths = append $paths .path }}{{ end -}}
{{ include "backstop.celList" $paths }}
{{- end -}}

{{/* Names of kinds that are served in one place, as a JSON list: for a sentence in a message. */}}
{{- define "backstop.kinds" -}}
{{- $kinds := list -}}
{{- range . }}{{ $kinds = append $kinds .kind }}{{ end -}}
{{ join ", " $kinds }}
{{- end -}}

{{/* Resource rules of a policy: (dict "kinds" <list> "operations" <list>). */}}
{{- define "backstop.resourceRules" -}}
{{- $byVersion := dict -}}
{{- range .kinds -}}
{{- $_ := set $byVersion .apiVersion (append (get $byVersion .apiVersion | default list) .) -}}
{{- end -}}
{{- range $byVersion }}
- {apiGroups: [{{ (first .).group | quote }}], apiVersions: [{{ (first .).version }}], operations: {{ toJson $.operations }}, resources: {{ include "backstop.resourceNames" . }}}
{{- end -}}
{{- end -}}

{{/* Rules of a Role: (dict "kinds" <list> "verbs" <list>). */}}
{{- define "backstop.roleRules" -}}
{{- $byGroup := dict -}}
{{- range .kinds -}}
{{- $_ := set $byGroup .group (append (get $byGroup .group | default list) .) -}}
{{- end -}}
{{- range $byGroup }}
- apiGroups: [{{ (first .).group | quote }}]
  resources: {{ include "backstop.resourceNames" . }}
  verbs: {{ toJson $.verbs }}
{{- end -}}
{{- end -}}

{{- define "backstop.resourceNames" -}}
{{- $names := list -}}
{{- range . }}{{ $names = append $names .resource }}{{ end -}}
{{ toJson $names }}
{{- end -}}

{{/* A JSON pointer below an object in CEL; null where there is nothing: (dict "of" "object" "path" "/spec/template"). */}}
{{- define "backstop.celAt" -}}
dyn({{ .of }}){{ range trimPrefix "/" .path | splitList "/" }}.?{{ . }}{{ end }}.orValue(null)
{{- end -}}
