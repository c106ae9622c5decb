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
	var objects []object
	for _, document := range regexp.MustCompile(`(?m)^---\s*$`).Split(out, -1) {
		var o object
		if err := yaml.UnmarshalStrict([]byte(document), &o); err != nil {
			t.Fatalf("helm template %v: %v\n%s", args, err, document)
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

var reading = []string{"get", "list", "watch"}

// A right is one rule of one role.
type right struct {
	role      object
	groups    []string
	resources []string
	verbs     []string
	names     []string
}

func (r right) writes() bool {
	return slices.ContainsFunc(r.verbs, func(v string) bool { return !slices.Contains(reading, v) })
}

func rights(objects []object) []right {
	var all []right
	for _, role := range ofKind(objects, "Role", "ClusterRole") {
		for _, rule := range list(role["rules"]) {
			all = append(all, right{role, texts(at(rule, "apiGroups")), texts(at(rule, "resources")), texts(at(rule, "verbs")), texts(at(rule, "resourceNames"))})
		}
	}
	return all
}

func TestWithoutValuesNothingMayWriteToAWorkload(t *testing.T) {
	objects := render(t)
	for _, r := range rights(objects) {
		if !r.writes() {
			continue
		}
		for _, group := range r.groups {
			ours := group == "backstop.dev"
			events := group == "events.k8s.io" && slices.Equal(r.resources, []string{"events"}) && slices.Equal(r.verbs, []string{"create", "patch"})
			lease := group == "coordination.k8s.io" && r.role["kind"] == "Role" && slices.Equal(r.resources, []string{"leases"})
			check(t, ours || events || lease, "%s may %v %v in group %q", name(r.role), r.verbs, r.resources, group)
		}
		check(t, !slices.Contains(r.resources, "grants"), "%s may write Grants though nothing is enrolled", name(r.role))
	}
	for _, o := range objects {
		check(t, !strings.Contains(fmt.Sprint(at(o, "metadata", "name")), "executor"), "%s is rendered in observe mode", name(o))
		if ns := at(o, "metadata", "namespace"); ns != nil {
			check(t, ns == system, "%s is outside the release's namespace", name(o))
		}
	}
	for _, policy := range []string{"backstop-grant", "backstop-provenance", "backstop-guard"} {
		for _, o := range ofKind(objects, "ValidatingAdmissionPolicyBinding") {
			check(t, at(o, "metadata", "name") != policy, "binding %s is rendered though nothing is enrolled", policy)
		}
	}
}

func TestExecutorNamespacesGiveRolesThereAndNowhereElse(t *testing.T) {
	objects := render(t, "--set", "executor.namespaces={shop,pay}")
	where := map[string][]string{}
	for _, o := range ofKind(objects, "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding") {
		for _, subject := range list(o["subjects"]) {
			who := fmt.Sprint(at(subject, "name"))
			where[who] = append(where[who], fmt.Sprintf("%v", at(o, "metadata", "namespace")))
			check(t, at(subject, "namespace") == system && at(subject, "kind") == "ServiceAccount", "%s binds %v", name(o), subject)
		}
	}
	check(t, slices.Equal(where["backstop-executor"], []string{"shop", "pay"}), "the executor has bindings in %v", where["backstop-executor"])
	for _, r := range rights(objects) {
		if at(r.role, "metadata", "name") != "backstop-executor" {
			check(t, !r.writes() || !slices.Contains(r.groups, "apps"), "%s may write to workloads", name(r.role))
			continue
		}
		for _, resource := range r.resources {
			allowed := map[string][]string{
				"remediations": reading, "grants": reading, "remediations/status": {"patch"},
				"deployments": {"get", "list", "patch"}, "replicasets": {"get", "list", "patch"},
			}[resource]
			check(t, allowed != nil && slices.Equal(r.verbs, allowed), "%s may %v %s", name(r.role), r.verbs, resource)
		}
	}
	for _, o := range ofKind(objects, "ValidatingAdmissionPolicyBinding") {
		switch at(o, "metadata", "name") {
		case "backstop-grant", "backstop-provenance", "backstop-guard":
			selectors := list(at(o, "spec", "matchResources", "namespaceSelector", "matchExpressions"))
			check(t, len(selectors) == 1 && at(selectors[0], "key") == "kubernetes.io/metadata.name" && slices.Equal(texts(at(selectors[0], "values")), []string{"shop", "pay"}), "%s selects %v", name(o), selectors)
		}
	}
	for _, d := range ofKind(objects, "Deployment") {
		if at(d, "metadata", "name") == "backstop-executor" {
			check(t, fmt.Sprint(at(d, "spec", "replicas")) == "1" && at(d, "spec", "strategy", "type") == "Recreate", "the executor must be one pod, never two at once")
		}
	}
}

// readCluster is what the judge and the mind both read.
const readCluster = `
 nodes: get
 namespaces: get
 persistentvolumeclaims: get
 pods: get list
 replicationcontrollers: get
 resourcequotas: get
apps daemonsets: get
apps deployments: get
apps replicasets: get list
apps statefulsets: get
autoscaling horizontalpodautoscalers: get
batch cronjobs: get
batch jobs: get
policy poddisruptionbudgets: get
`

// allowed is every role and every rule, one line for each resource: its API
// group, the resource, the names that it is bound to, and the verbs.
var allowed = map[string]string{
	"ClusterRole backstop-controller": readCluster + `
 resourcequotas: list
backstop.dev alerts: get list watch create patch delete
backstop.dev alerts/status: patch
backstop.dev approvals: list watch
backstop.dev approvals/status: patch
backstop.dev grants: get
backstop.dev incidents: get list watch create patch delete
backstop.dev incidents/status: update
backstop.dev investigations: get list watch create
backstop.dev policies: list watch
backstop.dev policies/status: patch
backstop.dev remediations: get list watch create
backstop.dev runbooks: list watch
backstop.dev runbooks/status: patch
events.k8s.io events: create patch
`,
	"Role backstop-system/backstop-controller": `
backstop.dev ledgers: get create
backstop.dev ledgers/status: update
coordination.k8s.io leases [backstop-controller]: get update
coordination.k8s.io leases: create
`,
	"Role shop/backstop-controller": `
apps deployments: list watch
backstop.dev grants: create update
`,
	"ClusterRole backstop-investigator": readCluster + `
 configmaps: get
 pods/log: get
backstop.dev investigations: get list watch
backstop.dev investigations/status: patch
events.k8s.io events: list
`,
	"Role backstop-system/backstop-investigator": `
coordination.k8s.io leases [backstop-investigator]: get update
coordination.k8s.io leases: create
`,
	"Role shop/backstop-executor": `
apps deployments: get list patch
apps replicasets: get list patch
backstop.dev grants: get list watch
backstop.dev remediations: get list watch
backstop.dev remediations/status: patch
`,
	"ClusterRole backstop-view": `
backstop.dev alerts: get list watch
backstop.dev approvals: get list watch
backstop.dev grants: get list watch
backstop.dev incidents: get list watch
backstop.dev investigations: get list watch
backstop.dev policies: get list watch
backstop.dev remediations: get list watch
backstop.dev runbooks: get list watch
`,
	"ClusterRole backstop-edit": `
backstop.dev alerts: create update patch delete
backstop.dev approvals: create update patch delete
backstop.dev policies: create update patch delete
backstop.dev runbooks: create update patch delete
`,
}

// lines of a text, sorted, without the empty ones.
func lines(text string) []string {
	all := slices.DeleteFunc(strings.Split(text, "\n"), func(line string) bool { return line == "" })
	slices.Sort(all)
	return all
}

// A wider rule fails, and so does a narrower one: the operator asks for all of these and for no more.
func TestEveryRoleHasExactlyTheseRules(t *testing.T) {
	written := func(r right) string {
		where := ""
		if ns := at(r.role, "metadata", "namespace"); ns != nil {
			where = fmt.Sprint(ns, "/")
		}
		return fmt.Sprintf("%v %s%v", r.role["kind"], where, at(r.role, "metadata", "name"))
	}
	found := map[string]string{}
	for _, r := range rights(render(t, "--set", "executor.namespaces={shop}")) {
		for _, group := range r.groups {
			for _, resource := range r.resources {
				names := ""
				if len(r.names) > 0 {
					names = fmt.Sprintf(" %v", r.names)
				}
				found[written(r)] += fmt.Sprintf("%s %s%s: %s\n", group, resource, names, strings.Join(r.verbs, " "))
			}
		}
	}
	for role, rules := range allowed {
		want, got := lines(rules), lines(found[role])
		for _, line := range got {
			check(t, slices.Contains(want, line), "%s has a rule that is not in the table: %q", role, line)
		}
		for _, line := range want {
			check(t, slices.Contains(got, line), "%s lacks a rule of the table: %q", role, line)
		}
		check(t, len(want) == len(got), "%s has %d rules, want %d", role, len(got), len(want))
	}
	for role := range found {
		check(t, allowed[role] != "", "%s is not in the table", role)
	}
	for _, r := range rights(render(t, "--set", "investigator.readConfigMaps=false")) {
		check(t, !slices.Contains(r.resources, "configmaps"), "%s may read ConfigMaps though that was switched off", name(r.role))
	}
}

// Every account has the roles of its own name, and no others.
func TestAccountsAreBoundToTheirOwnRoles(t *testing.T) {
	for _, o := range ofKind(render(t, "--set", "executor.namespaces={shop}"), "RoleBinding", "ClusterRoleBinding") {
		subjects := list(o["subjects"])
		check(t, len(subjects) == 1 && at(subjects[0], "name") == at(o, "roleRef", "name"), "%s binds %v to %v", name(o), subjects, o["roleRef"])
	}
}

// An owner that may not be read ends an incident as ClusterUnreadable, so
// every kind that the operator follows owners through has a line above.
func TestEveryKindThatIsFollowedMayBeRead(t *testing.T) {
	raw, err := os.ReadFile("../../src/cluster/raw.rs")
	if err != nil {
		t.Fatal(err)
	}
	plurals := regexp.MustCompile(`(?:namespaced\("[^"]*", "[^"]*", |plural: )"([a-z]+)"`).FindAllStringSubmatch(string(raw), -1)
	check(t, len(plurals) > 10, "%d kinds found in src/cluster/raw.rs", len(plurals))
	for _, plural := range plurals {
		switch plural[1] {
		case "configmaps", "events": // Sources of the mind, not owners.
			continue
		}
		check(t, strings.Contains(readCluster, " "+plural[1]+": get"), "%s is read by the operator, and no rule allows it", plural[1])
	}
}

func TestNobodyReadsSecretsOrHasAWildcard(t *testing.T) {
	for topology, objects := range topologies(t) {
		for _, r := range rights(objects) {
			for _, resource := range r.resources {
				check(t, !strings.HasPrefix(resource, "secrets"), "%s: %s may %v secrets", topology, name(r.role), r.verbs)
				check(t, !slices.Contains([]string{"pods/exec", "pods/attach", "pods/portforward", "nodes/proxy", "serviceaccounts/token", "pods/ephemeralcontainers"}, resource), "%s: %s may %v %s", topology, name(r.role), r.verbs, resource)
			}
			for _, word := range slices.Concat(r.groups, r.resources, r.verbs) {
				check(t, word != "*", "%s: %s has a wildcard", topology, name(r.role))
			}
			for _, verb := range r.verbs {
				check(t, !slices.Contains([]string{"impersonate", "escalate", "bind"}, verb), "%s: %s may %s", topology, name(r.role), verb)
			}
			if slices.Contains(r.resources, "pods/log") {
				check(t, at(r.role, "metadata", "name") == "backstop-investigator", "%s: %s may read logs", topology, name(r.role))
			}
			if slices.Contains(r.resources, "configmaps") {
				check(t, at(r.role, "metadata", "name") == "backstop-investigator" && slices.Equal(r.verbs, []string{"get"}), "%s: %s may %v ConfigMaps", topology, name(r.role), r.verbs)
			}
			if slices.ContainsFunc(r.resources, func(x string) bool { return x == "grants" || x == "ledgers" }) {
				check(t, !slices.Contains(r.verbs, "delete"), "%s: %s may delete %v", topology, name(r.role), r.resources)
			}
		}
	}
}

func TestPeopleGetNoRightToWriteWhatTheAccountsWrite(t *testing.T) {
	seen := 0
	for _, r := range rights(render(t)) {
		labels, _ := at(r.role, "metadata", "labels").(object)
		for label := range labels {
			if strings.HasPrefix(label, "rbac.authorization.k8s.io/aggregate-to-") {
				seen++
				for _, kind := range []string{"grants", "incidents", "investigations", "remediations", "ledgers"} {
					check(t, !r.writes() || !slices.Contains(r.resources, kind), "%s may %v %s", name(r.role), r.verbs, kind)
				}
			}
		}
	}
	check(t, seen == 2, "%d aggregated rules, want one for view and one for edit", seen)
}

func TestPodsAreRestricted(t *testing.T) {
	for topology, objects := range topologies(t) {
		for _, o := range ofKind(objects, "Deployment", "Job") {
			pod := at(o, "spec", "template", "spec")
			what := topology + ": " + name(o)
			check(t, at(pod, "securityContext", "runAsNonRoot") == true && fmt.Sprint(at(pod, "securityContext", "runAsUser")) == "65532", "%s may run as root", what)
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
	check(t, slices.Equal(kept, []string{"backstop-audit", "backstop-provenance", "backstop-provenance-anchor"}), "kept: %v", kept)
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
	check(t, fmt.Sprint(at(c, "timings", "grantSeconds")) == "60" && fmt.Sprint(at(c, "budgets", "actionsPerHour")) == "20", "defaults: %v", c)
	for setting, durable := range map[string]bool{"audit.ephemeral=true": true, "audit.persistentVolumeClaim.create=true": true, "audit.persistentVolumeClaim.existingClaim=mine": true, "audit.ephemeral=false": false} {
		c := config("--set", "executor.namespaces={shop}", "--set", setting)
		check(t, c["auditDurable"] == durable, "%s: auditDurable is %v", setting, c["auditDurable"])
	}
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
		"executor.namespaces={shop'\\] || true}":  "namespaces",
		"executor.namespaces={" + system + "}":    "own namespace",
		"executor.replicas=2":                     "replicas",
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
		"nameOverride=x": "nameOverride",
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
	for _, o := range ofKind(render(t, "--set", "executor.namespaces={shop}"), "ValidatingAdmissionPolicy", "ServiceAccount", "Deployment", "Service") {
		check(t, strings.HasPrefix(fmt.Sprint(at(o, "metadata", "name")), "backstop-"), "%s", name(o))
	}
	out, problems, err := helm("template", "another", chartDir, "--namespace", "elsewhere", "--set", "executor.namespaces={shop}")
	check(t, err == nil && strings.Contains(out, "system:serviceaccount:elsewhere:backstop-executor"), "another release name: %v %s", err, problems)
	check(t, !strings.Contains(out, "system:serviceaccount:"+system), "the release's namespace is not followed")
}
