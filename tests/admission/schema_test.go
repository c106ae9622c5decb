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
// warning is an expression that fails when it is needed.
func theTypeCheckerHasNothingToSay(t *testing.T) {
	for _, item := range shared.admin.get(admissionAPI + "validatingadmissionpolicies")["items"].([]any) {
		name := at(item, "metadata", "name").(string)
		if !strings.HasPrefix(name, "backstop-") {
			continue
		}
		err := eventually("policy "+name+" is checked", func() bool {
			policy := shared.admin.get(admissionAPI + "validatingadmissionpolicies/" + name)
			return fmt.Sprint(at(policy, "status", "observedGeneration")) == fmt.Sprint(at(policy, "metadata", "generation"))
		})
		warnings := at(shared.admin.get(admissionAPI+"validatingadmissionpolicies/"+name), "status", "typeChecking", "expressionWarnings")
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
