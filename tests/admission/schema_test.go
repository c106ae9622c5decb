package admission

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// What the chart renders, with every set of values in its ci/ folder, must fit
// the API server's schemas: unknown and doubled fields are errors there.
func theRenderedChartFitsTheSchemas(t *testing.T) {
	s := shared
	files, err := filepath.Glob(chartDir + "/ci/*-values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no values in %s/ci: %v", chartDir, err)
	}
	plurals := s.plurals()
	for _, file := range files {
		rendered, err := helm("template", release, chartDir, "--namespace", system, "-f", file)
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range regexp.MustCompile(`(?m)^---\s*$`).Split(rendered, -1) {
			var o object
			if err := yaml.Unmarshal([]byte(document), &o); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if o == nil {
				continue
			}
			what := filepath.Base(file) + ": " + o["kind"].(string) + " " + at(o, "metadata", "name").(string)
			place, known := plurals[o["apiVersion"].(string)+" "+o["kind"].(string)]
			report(t, known, "%s: the API server does not serve %v", what, o["apiVersion"])
			if !known {
				continue
			}
			path := place.prefix
			if place.namespaced {
				// The namespaces of the values need not exist here.
				at(o, "metadata").(object)["namespace"] = nsOff
				path += "/namespaces/" + nsOff
			}
			path += "/" + place.plural + "/" + at(o, "metadata", "name").(string)
			a, err := s.admin.do(request{method: "PATCH", kind: applyPatch, body: o,
				path: path + "?dryRun=All&force=true&fieldManager=chart-schema&fieldValidation=Strict"})
			report(t, err == nil && a.accepted(), "%s: %v %s", what, err, a.message)
		}
	}
}

// The API server checks types of policies about known kinds beside their work; a
// warning is an expression that fails when it is needed. It checks a policy once,
// right after it is written: the chart's own may come before the API server knows
// the schema of the chart's CRDs, and would be warned about for that. So each is
// checked as a copy, which nothing binds, written when all of them are served.
func theTypeCheckerHasNothingToSay(t *testing.T) {
	const policies = admissionAPI + "validatingadmissionpolicies"
	for _, item := range shared.admin.get(policies)["items"].([]any) {
		name := at(item, "metadata", "name").(string)
		if !strings.HasPrefix(name, "backstop-") {
			continue
		}
		copied := policies + "/type-check-" + name
		shared.admin.must(request{method: "POST", path: policies, body: object{
			"apiVersion": "admissionregistration.k8s.io/v1",
			"kind":       "ValidatingAdmissionPolicy",
			"metadata":   object{"name": "type-check-" + name},
			"spec":       at(item, "spec"),
		}})
		var warnings any
		err := eventually("policy "+name+" is checked", func() bool {
			status := at(shared.admin.get(copied), "status")
			warnings = at(status, "typeChecking", "expressionWarnings")
			return fmt.Sprint(at(status, "observedGeneration")) == "1"
		})
		shared.admin.must(request{method: "DELETE", path: copied})
		report(t, err == nil && warnings == nil, "%s: %v %v", name, err, warnings)
	}
}

// A place is where objects of a kind are served.
type place struct {
	prefix     string
	plural     string
	namespaced bool
}

// plurals asks the API server what it serves, by "apiVersion kind".
func (s *suite) plurals() map[string]place {
	all := map[string]place{}
	for _, version := range []string{"v1", "apps/v1", "batch/v1", "rbac.authorization.k8s.io/v1", "networking.k8s.io/v1", "admissionregistration.k8s.io/v1", "apiextensions.k8s.io/v1", "backstop.dev/v1alpha1"} {
		prefix := "/apis/" + version
		if version == "v1" {
			prefix = "/api/v1"
		}
		for _, item := range s.admin.get(prefix)["resources"].([]any) {
			r := item.(object)
			if name := r["name"].(string); !strings.Contains(name, "/") {
				all[version+" "+r["kind"].(string)] = place{prefix, name, r["namespaced"].(bool)}
			}
		}
	}
	return all
}
