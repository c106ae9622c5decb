package chart

// The map of actions, files/actions.yaml: that it is well-formed, and that it
// is all that a new action touches.

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

func actions(t *testing.T) []object {
	t.Helper()
	raw, err := os.ReadFile(chartDir + "/files/actions.yaml")
	var all []object
	if err == nil {
		err = yaml.UnmarshalStrict(raw, &all)
	}
	if err != nil || len(all) == 0 {
		t.Fatalf("files/actions.yaml: %v", err)
	}
	return all
}

func TestTheMapOfActionsIsWellFormed(t *testing.T) {
	for _, a := range actions(t) {
		for key := range a {
			check(t, slices.Contains([]string{"kind", "label", "path", "delta", "targets", "evicts"}, key), "%v: key %q is not explained in files/actions.yaml", a["kind"], key)
		}
		check(t, strings.HasPrefix(fmt.Sprint(a["path"]), "/spec/") && a["delta"] != nil && a["label"] != nil, "%v: %v", a["kind"], a)
		check(t, !strings.HasPrefix(fmt.Sprint(a["label"]), "self-test-"), "%v: its label is that of a self-test", a["kind"])
		resources := []string{}
		for _, target := range list(a["targets"]) {
			resources = append(resources, fmt.Sprint(at(target, "resource")))
		}
		for _, resource := range texts(a["evicts"]) {
			check(t, slices.Contains(resources, resource), "%v evicts pods of %s, which is no target of it", a["kind"], resource)
		}
	}
}

// A made-up action on a kind that the chart has nowhere else: rights and
// policies follow from its entry, and no template was touched.
func TestANewActionIsAnEntryInTheMapAndNothingElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "backstop")
	if err := os.CopyFS(dir, os.DirFS(chartDir)); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(dir+"/files/actions.yaml", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.WriteString(`
- kind: SuspendCronJob
  label: suspend
  path: /spec/suspend
  delta: object.spec.suspend == true && oldObject.spec.schedule == object.spec.schedule
  targets:
    - {apiVersion: batch/v1, resource: cronjobs, kind: CronJob}
- kind: RolloutPause
  label: pause
  path: /spec/paused
  delta: object.spec.paused == true
  targets:
    - {apiVersion: apps/v1, resource: deployments, kind: Deployment}
`)
	if err != nil || file.Close() != nil {
		t.Fatal(err)
	}
	out, problems, err := helm("template", "backstop", dir, "--namespace", system, "--set", "executor.namespaces={shop}")
	check(t, err == nil, "helm template: %v %s", err, problems)
	objects := parse(t, out)
	rules := map[string][]string{}
	for _, r := range rights(objects) {
		for _, resource := range r.resources {
			if resource == "cronjobs" && at(r.role, "kind") == "Role" {
				rules[name(r.role)] = append(rules[name(r.role)], slices.Concat(r.groups, r.verbs)...)
			}
		}
	}
	check(t, slices.Equal(rules["Role shop/backstop-executor"], []string{"batch", "get", "list", "patch"}), "rights on CronJobs: %v", rules)
	says := map[string][]string{
		"backstop-static": {"'batch/v1/cronjobs': ['suspend']", "'apps/v1/deployments': ['rollout-undo', 'rollout-restart', 'pause']",
			"variables.was == 'suspend' && (object.spec.suspend == true &&"},
		"backstop-grant": {"variables.label == 'suspend' ? dyn(object).?spec.?suspend.orValue(null)", "variables.field.?path.orValue('') == '/spec/paused'",
			"apiGroups:[batch] apiVersions:[v1] operations:[UPDATE] resources:[cronjobs]"},
		"backstop-guard":      {"apiGroups:[batch] apiVersions:[v1] operations:[CREATE UPDATE] resources:[cronjobs]"},
		"backstop-provenance": {"values:[rollout-undo self-test-provenance]"},
	}
	for _, o := range ofKind(objects, "ValidatingAdmissionPolicy") {
		policy := fmt.Sprint(at(o, "metadata", "name"))
		text := strings.Join(strings.Fields(fmt.Sprint(o["spec"])), " ")
		for _, want := range says[policy] {
			check(t, strings.Contains(text, want), "%s does not say %q: %s", policy, want, text)
		}
		delete(says, policy)
	}
	check(t, len(says) == 0, "policies that are not rendered: %v", says)
}
