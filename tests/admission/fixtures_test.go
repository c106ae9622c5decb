package admission

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// Objects of ours with the least that their definitions ask for.

func ours(kind, name string, spec object) object {
	return object{"apiVersion": "backstop.dev/v1alpha1", "kind": kind, "metadata": object{"name": name}, "spec": spec}
}

const (
	requestID = "0123456789abcdef0123456789abcdef"
	digest    = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

// remediation has the least that the chart's definition of it asks for: no policy reads it.
func remediation(name string) object {
	raw, err := os.ReadFile(chartDir + "/files/crds/remediations.backstop.dev.yaml")
	var definition object
	if err == nil {
		err = yaml.Unmarshal(raw, &definition)
	}
	if err != nil {
		panic(err)
	}
	version := at(definition, "spec", "versions").([]any)[0]
	schema := at(version, "schema", "openAPIV3Schema", "properties", "spec").(object)
	return ours("Remediation", name, least(schema, "spec").(object))
}

// least is the smallest value that fits a structural schema, as far as ours go.
func least(schema object, path string) any {
	if values, ok := schema["enum"].([]any); ok {
		return values[0]
	}
	switch schema["type"] {
	case "string":
		candidates := []string{"a", requestID, digest, "2026-01-01T00:00:00Z", "/spec/template"}
		pattern, _ := schema["pattern"].(string)
		for _, text := range candidates {
			fits := schema["format"] != "date-time" || strings.HasSuffix(text, "Z")
			if length, ok := schema["minLength"].(float64); fits && (!ok || len(text) >= int(length)) && regexp.MustCompile(pattern).MatchString(text) {
				return text
			}
		}
		panic(path + ": no text at hand fits " + pattern)
	case "integer", "number":
		if minimum, ok := schema["minimum"]; ok {
			return minimum
		}
		return 1
	case "boolean":
		return false
	case "array":
		return []any{}
	}
	value := object{}
	required, _ := schema["required"].([]any)
	if alternatives, ok := schema["oneOf"].([]any); ok {
		more, _ := at(alternatives[0], "required").([]any)
		required = append(slices.Clone(required), more...)
	}
	for _, key := range required {
		value[key.(string)] = least(at(schema, "properties", key.(string)).(object), path+"."+key.(string))
	}
	return value
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

// with is an Approval, or another object of ours, whose spec says this too.
func with(o object, field string, value any) object {
	o["spec"].(object)[field] = value
	return o
}

// policy is a Policy of this mode, whose spec says these fields too.
func policy(name, mode string, more object) object {
	spec := object{"mode": mode}
	for field, value := range more {
		spec[field] = value
	}
	return ours("Policy", name, spec)
}

// exception lifts the windows of these Policies.
func exception(name string, policies ...any) object {
	return ours("PolicyException", name, object{
		"reason": "a release", "expiresAt": inSeconds(600), "policies": policies, "lifts": []any{"Windows"},
	})
}

// makeFixtures makes what the rows about other kinds refer to.
func makeFixtures(b *bench) {
	core := "/api/v1/namespaces/" + b.ns
	post := func(path string, body any) {
		// What an earlier run left behind in the system namespace is as good.
		if a, err := b.admin.do(request{method: "POST", path: path, body: body}); err != nil || !a.accepted() && a.code != 409 {
			panic(path + ": " + a.message)
		}
	}
	post(core+"/pods", object{"apiVersion": "v1", "kind": "Pod", "metadata": object{"name": "p"}, "spec": object{
		"nodeSelector": object{"backstop.dev/nowhere": "true"}, "containers": []any{object{"name": "c", "image": "backstop.local/pause:1"}}}})
	post(core+"/secrets", object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": "s"}})
	post(core+"/configmaps", object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": "c"}})
	post(core+"/services", object{"apiVersion": "v1", "kind": "Service", "metadata": object{"name": "s"}, "spec": object{"ports": []any{object{"port": 80}}}})
	post(ourPath(system, "ledgers", ""), ours("Ledger", "known-good."+nsOpen, object{"purpose": "KnownGood"}))
	for _, t := range targets {
		body := object{"apiVersion": "apps/v1", "kind": t.revision, "metadata": object{"name": "bare", "labels": object{"app": "bare"}}}
		if t == deployments {
			body["spec"] = t.new("bare")["spec"]
		} else {
			body["revision"], body["data"] = 1, object{}
		}
		post(appsPath(t.ns(nsOpen), t.revisions, ""), body)
	}
	for _, ns := range []string{nsOpen, statefulSets.ns(nsOpen), daemonSets.ns(nsOpen), nsOff} {
		post(ourPath(ns, "remediations", ""), remediation("rem-1"))
		post(ourPath(ns, "incidents", ""), incident("inc-1"))
	}
}
