// Package chart checks what the Helm chart renders, by reading the objects and
// not the templates: which rights there are, where, and for whom.
package chart

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

type object = map[string]any

const (
	chartDir = "../../helm/backstop"
	system   = "backstop-system"
)

var checked, failed int

func TestMain(m *testing.M) {
	code := m.Run()
	fmt.Printf("chart: %d checked, %d failed\n", checked, failed)
	os.Exit(code)
}

func check(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	checked++
	if !ok {
		failed++
		t.Errorf(format, args...)
	}
}

func helm(args ...string) (stdout, stderr string, err error) {
	program := os.Getenv("HELM")
	if program == "" {
		program, _ = filepath.Abs("../../.build/helm")
	}
	cmd := exec.Command(program, args...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	err = cmd.Run()
	return out.String(), problems.String(), err
}

// render is the chart's objects for the given arguments.
func render(t *testing.T, args ...string) []object {
	t.Helper()
	out, problems, err := helm(append([]string{"template", "backstop", chartDir, "--namespace", system}, args...)...)
	if err != nil {
		t.Fatalf("helm template %v: %v\n%s", args, err, problems)
	}
	return parse(t, out)
}

// parse is the objects of a rendered text.
func parse(t *testing.T, out string) []object {
	t.Helper()
	var objects []object
	for _, document := range regexp.MustCompile(`(?m)^---\s*$`).Split(out, -1) {
		var o object
		if err := yaml.UnmarshalStrict([]byte(document), &o); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		if o != nil {
			objects = append(objects, o)
		}
	}
	return objects
}

func topologies(t *testing.T) map[string][]object {
	t.Helper()
	files, err := filepath.Glob(chartDir + "/ci/*-values.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no values in %s/ci: %v", chartDir, err)
	}
	all := map[string][]object{"no values": render(t)}
	for _, file := range files {
		all[filepath.Base(file)] = render(t, "-f", file)
	}
	return all
}

func at(value any, path ...string) any {
	for _, key := range path {
		m, ok := value.(object)
		if !ok {
			return nil
		}
		value = m[key]
	}
	return value
}

func list(value any) []any { l, _ := value.([]any); return l }

func texts(value any) []string {
	var all []string
	for _, v := range list(value) {
		all = append(all, fmt.Sprint(v))
	}
	return all
}

func name(o object) string {
	return fmt.Sprintf("%v %v/%v", o["kind"], at(o, "metadata", "namespace"), at(o, "metadata", "name"))
}

func ofKind(objects []object, kinds ...string) []object {
	var found []object
	for _, o := range objects {
		if slices.Contains(kinds, o["kind"].(string)) {
			found = append(found, o)
		}
	}
	return found
}

func TestPodsAreRestricted(t *testing.T) {
	for topology, objects := range topologies(t) {
		user := map[string]string{"everything-values.yaml": "1000", "openshift-values.yaml": "<nil>"}[topology]
		if user == "" {
			user = "65532"
		}
		for _, o := range ofKind(objects, "Deployment", "Job") {
			pod := at(o, "spec", "template", "spec")
			what := topology + ": " + name(o)
			check(t, at(pod, "securityContext", "runAsNonRoot") == true && fmt.Sprint(at(pod, "securityContext", "runAsUser")) == user, "%s may run as root", what)
			check(t, at(pod, "securityContext", "seccompProfile", "type") == "RuntimeDefault", "%s has no seccomp profile", what)
			for _, c := range list(at(pod, "containers")) {
				check(t, at(c, "securityContext", "readOnlyRootFilesystem") == true, "%s writes to its root filesystem", what)
				check(t, at(c, "securityContext", "allowPrivilegeEscalation") == false, "%s may gain privileges", what)
				check(t, slices.Equal(texts(at(c, "securityContext", "capabilities", "drop")), []string{"ALL"}), "%s keeps capabilities", what)
				check(t, at(c, "resources", "limits", "memory") != nil, "%s has no memory limit", what)
				if o["kind"] == "Deployment" {
					check(t, at(c, "livenessProbe", "httpGet", "path") == "/healthz" && at(c, "readinessProbe", "httpGet", "path") == "/readyz", "%s lacks a probe", what)
				}
			}
			for _, v := range list(at(pod, "volumes")) {
				check(t, at(v, "hostPath") == nil, "%s mounts a path of the node", what)
			}
		}
	}
}

func TestWhatAnUninstallKeeps(t *testing.T) {
	kept := []string{}
	definitions := 0
	for _, o := range render(t, "-f", chartDir+"/ci/repair-values.yaml") {
		if at(o, "metadata", "annotations", "helm.sh/resource-policy") != "keep" {
			check(t, o["kind"] != "CustomResourceDefinition", "%s is deleted with the release, and every object of its kind with it", name(o))
			continue
		}
		if o["kind"] == "CustomResourceDefinition" {
			definitions++
			continue
		}
		kept = append(kept, fmt.Sprint(at(o, "metadata", "name")))
	}
	slices.Sort(kept)
	check(t, slices.Equal(kept, []string{"backstop-audit", "backstop-provenance", "backstop-provenance-anchor",
		"backstop-provenance-controllerrevisions", "backstop-provenance-controllerrevisions-anchor"}), "kept: %v", kept)
	files, err := filepath.Glob("../../crds/*.yaml")
	check(t, err == nil && definitions == len(files) && definitions > 0, "%d definitions rendered, %d files in crds/: run `make chart-crds`", definitions, len(files))
}

// The chart carries a copy of crds/, because Helm cannot read files outside it.
func TestTheCopiesOfTheDefinitionsAreCurrent(t *testing.T) {
	for _, file := range []string{"../../crds", chartDir + "/files/crds"} {
		entries, err := os.ReadDir(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			original, err1 := os.ReadFile("../../crds/" + e.Name())
			copied, err2 := os.ReadFile(chartDir + "/files/crds/" + e.Name())
			check(t, err1 == nil && err2 == nil && bytes.Equal(original, copied), "crds/%s and its copy in the chart differ: run `make chart-crds`", e.Name())
		}
	}
	// The rendered definition is the file with our metadata, and nothing else changed.
	for _, o := range ofKind(render(t), "CustomResourceDefinition") {
		raw, err := os.ReadFile(fmt.Sprintf("../../crds/%v.yaml", at(o, "metadata", "name")))
		var original object
		if err == nil {
			err = yaml.Unmarshal(raw, &original)
		}
		check(t, err == nil && fmt.Sprint(original["spec"]) == fmt.Sprint(o["spec"]), "%s differs from its file: %v", name(o), err)
	}
}

func TestNetworkPolicies(t *testing.T) {
	egress := func(o object) bool { return slices.Contains(texts(at(o, "spec", "policyTypes")), "Egress") }
	for _, o := range ofKind(render(t), "NetworkPolicy") {
		check(t, !egress(o), "%s restricts egress without the API server's address: the role would be cut off", name(o))
	}
	found := 0
	for _, o := range ofKind(render(t, "-f", chartDir+"/ci/repair-values.yaml"), "NetworkPolicy") {
		found++
		check(t, egress(o), "%s does not restrict egress", name(o))
		if at(o, "metadata", "name") == "backstop-executor" {
			rules := list(at(o, "spec", "egress"))
			check(t, len(rules) == 1 && fmt.Sprint(at(rules[0], "to")) == "[map[ipBlock:map[cidr:192.0.2.1/32]]]", "the executor reaches more than the API server: %v", rules)
		}
	}
	check(t, found == 3, "%d NetworkPolicies, want one for each role", found)
}

func TestSettingsReachTheConfiguration(t *testing.T) {
	config := func(args ...string) object {
		for _, o := range ofKind(render(t, args...), "ConfigMap") {
			var c object
			if err := yaml.UnmarshalStrict([]byte(at(o, "data", "config.yaml").(string)), &c); err != nil {
				t.Fatal(err)
			}
			return c
		}
		t.Fatal("no ConfigMap")
		return nil
	}
	c := config()
	check(t, len(list(c["namespaces"])) == 0 && c["auditDurable"] == false, "observe mode: %v", c)
	check(t, c["evictPods"] == true && config("--set", "executor.evictPods=false")["evictPods"] == false, "evictPods: %v", c)
	check(t, fmt.Sprint(at(c, "timings", "grantSeconds")) == "60" && fmt.Sprint(at(c, "budgets", "actionsPerHour")) == "20", "defaults: %v", c)
	for setting, durable := range map[string]bool{"audit.ephemeral=true": true, "audit.persistentVolumeClaim.create=true": true, "audit.persistentVolumeClaim.existingClaim=mine": true, "audit.ephemeral=false": false} {
		c := config("--set", "executor.namespaces={shop}", "--set", setting)
		check(t, c["auditDurable"] == durable, "%s: auditDurable is %v", setting, c["auditDurable"])
	}
	c = config("--set-string", `executor.enrolBySelector.backstop\.dev/enrol=true`)
	check(t, len(list(c["namespaces"])) == 0 && at(c, "enrolBySelector", "backstop.dev/enrol") == "true", "enrolled by a label: %v", c)
	c = config("-f", chartDir+"/ci/everything-values.yaml")
	check(t, at(c, "escalationWebhook", "tokenFile") == "/etc/backstop/escalation/token" && c["clusterName"] == "prod-1", "everything: %v", c)
}

// The schema and the chart's own checks turn down what would be a mistake.
func TestWrongValuesAreTurnedDown(t *testing.T) {
	for setting, says := range map[string]string{
		"excutor.namespaces={shop}":               "excutor",
		"executor.namespace=shop":                 "namespace",
		"executor.namespaces=shop":                "namespaces",
		"executor.namespaces={Shop}":              "namespaces",
		"executor.namespaces={shop,shop}":         "namespaces",
		"executor.namespaces={kube-system}":       "namespaces",
		"executor.namespaces={shop'\\] || 2 > 1}": "namespaces",
		"executor.namespaces={" + system + "}":    "own namespace",
		"executor.replicas=2":                     "replicas",
		"executor.evictPods=sometimes":            "evictPods",
		"timings.grantSeconds=61":                 "grantSeconds",
		"timings.grantSeconds=soon":               "grantSeconds",
		"budgets.actionsPerHour=-1":               "actionsPerHour",
		"budgets.everything=1":                    "everything",
		"retention.days=0":                        "days",
		"logFormat=xml":                           "logFormat",
		"image.pullPolicy=Sometimes":              "pullPolicy",
		"image.digest=latest":                     "digest",
		"prometheusUrl=prometheus":                "prometheusUrl",
		"networkPolicy.apiServer.cidrs={1.2.3.4}": "cidrs",
		"networkPolicy.apiServer.ports={0}":       "ports",
		"audit.persistentVolumeClaim.create=true,audit.persistentVolumeClaim.existingClaim=x": "both",
		"nameOverride=Other":                                                   "nameOverride",
		"fullnameOverride=1st":                                                 "fullnameOverride",
		"podSecurityContext.runAsUser=0":                                       "runAsUser",
		"podSecurityContext.runAsNonRoot=false":                                "runAsNonRoot",
		"podSecurityContext.seccompProfile.type=Unconfined":                    "seccompProfile",
		"executor.enrolBySelector=shop":                                        "enrolBySelector",
		"executor.enrolBySelector.enrol=it's":                                  "enrolBySelector",
		"executor.enrolBySelector.enrol=":                                      "enrolBySelector",
		"executor.enrolBySelector.enrol=yes,executor.namespaces={shop}":        "set one of them",
		`executor.enrolBySelector.kubernetes\.io/metadata\.name=shop`:          "executor.namespaces",
		"audit.persistentVolumeClaim.accessModes={ReadOnlyMany}":               "accessModes",
		"controller.replicas=2,audit.persistentVolumeClaim.create=true":        "Set controller.replicas to 1",
		"controller.replicas=2,audit.persistentVolumeClaim.existingClaim=mine": "Set controller.replicas to 1",
	} {
		_, problems, err := helm("template", "backstop", chartDir, "--namespace", system, "--set", setting)
		check(t, err != nil && strings.Contains(problems, says), "--set %s: want a refusal that says %q, got %v: %s", setting, says, err, problems)
	}
}

// Every value has a comment beside it and a place in the schema.
func TestEveryValueIsExplained(t *testing.T) {
	raw, err := os.ReadFile(chartDir + "/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(raw), "\n")
	leaf := regexp.MustCompile(`^\s*[a-zA-Z]+: \S`)
	for i, line := range lines {
		if !leaf.MatchString(line) || strings.Contains(line, "requests:") || strings.Contains(line, "limits:") {
			continue
		}
		check(t, i > 0 && strings.HasPrefix(strings.TrimSpace(lines[i-1]), "#"), "values.yaml:%d: %q has no comment above it", i+1, strings.TrimSpace(line))
	}
}

// Names of policies and accounts are part of the contract with the operator.
func TestNamesAreFixed(t *testing.T) {
	for _, o := range ofKind(render(t, "--set", "executor.namespaces={shop}"), "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "ServiceAccount", "Deployment", "Service") {
		check(t, strings.HasPrefix(fmt.Sprint(at(o, "metadata", "name")), "backstop-"), "%s", name(o))
	}
	out, problems, err := helm("template", "another", chartDir, "--namespace", "elsewhere", "--set", "executor.namespaces={shop}")
	check(t, err == nil && strings.Contains(out, "system:serviceaccount:elsewhere:backstop-executor"), "another release name: %v %s", err, problems)
	check(t, !strings.Contains(out, "system:serviceaccount:"+system), "the release's namespace is not followed")
}
