package chart

// Rights: which there are, where, and for whom.

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

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
	for _, o := range ofKind(objects, "ValidatingAdmissionPolicyBinding") {
		check(t, !narrow(o), "%s is rendered though nothing is enrolled", name(o))
	}
}

// narrow is whether a binding must select the enrolled namespaces and no other.
func narrow(binding object) bool {
	name := fmt.Sprint(at(binding, "metadata", "name"))
	return slices.Contains([]string{"backstop-grant", "backstop-guard"}, name) ||
		strings.HasPrefix(name, "backstop-provenance") && !strings.HasSuffix(name, "-anchor")
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
	slices.Sort(where["backstop-executor"])
	check(t, slices.Equal(where["backstop-executor"], []string{"<nil>", system, "pay", "shop"}), "the executor has bindings in %v", where["backstop-executor"])
	for _, r := range rights(objects) {
		if at(r.role, "metadata", "name") != "backstop-executor" {
			check(t, !r.writes() || !slices.Contains(r.groups, "apps") && !slices.Contains(r.resources, "pods/eviction"), "%s may write to workloads", name(r.role))
			continue
		}
		check(t, !r.writes() || r.role["kind"] == "Role" && at(r.role, "metadata", "namespace") != system, "%s may %v %v", name(r.role), r.verbs, r.resources)
		check(t, r.role["kind"] == "Role" || slices.Equal(r.resources, []string{"namespaces"}) && len(r.names) > 0, "%s is more than a look at the enrolled namespaces: %v %v", name(r.role), r.verbs, r.resources)
	}
	bindings := 0
	for _, o := range ofKind(objects, "ValidatingAdmissionPolicyBinding") {
		if narrow(o) {
			bindings++
			selectors := list(at(o, "spec", "matchResources", "namespaceSelector", "matchExpressions"))
			check(t, len(selectors) == 1 && at(selectors[0], "key") == "kubernetes.io/metadata.name" && slices.Equal(texts(at(selectors[0], "values")), []string{"shop", "pay"}), "%s selects %v", name(o), selectors)
		}
	}
	check(t, bindings == 4, "%d bindings select the enrolled namespaces, want grant, guard and two of provenance", bindings)
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
apps controllerrevisions: get list
apps daemonsets: get
apps deployments: get
apps replicasets: get list
apps statefulsets: get
autoscaling horizontalpodautoscalers: get
batch cronjobs: get
batch jobs: get
policy poddisruptionbudgets: get
`

// executorRules is what the executor may do where it is enrolled.
const executorRules = `
 pods: get list
 pods/eviction: create
apps controllerrevisions: get list patch
apps daemonsets: get list patch
apps deployments: get list patch
apps replicasets: get list patch
apps statefulsets: get list patch
backstop.dev approvals: list
backstop.dev grants: get list watch
backstop.dev policies: list
backstop.dev remediations: get list watch
backstop.dev remediations/status: patch
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
apps daemonsets: list watch
apps deployments: list watch
apps statefulsets: list watch
backstop.dev grants: get list watch
backstop.dev incidents: get list watch create patch delete
backstop.dev incidents/status: update
backstop.dev investigations: get list watch create
backstop.dev policies: get list watch
backstop.dev policies/status: patch
backstop.dev policyexceptions: list watch
backstop.dev policyexceptions/status: patch
backstop.dev remediations: get list watch create
backstop.dev runbooks: get list watch
backstop.dev runbooks/status: patch
events.k8s.io events: create patch
`,
	"Role backstop-system/backstop-controller": `
backstop.dev modelchains: list watch
backstop.dev ledgers: get list watch create
backstop.dev ledgers/status: update
coordination.k8s.io leases [backstop-controller]: get update
coordination.k8s.io leases: create
`,
	"Role shop/backstop-controller": `
 configmaps: get
 serviceaccounts: get
 services: list
backstop.dev grants: create update
discovery.k8s.io endpointslices: list
events.k8s.io events: list
policy poddisruptionbudgets: list
`,
	"ClusterRole backstop-investigator": readCluster + `
 configmaps: get
 pods/log: get
backstop.dev investigations: get list watch
backstop.dev investigations/status: patch
events.k8s.io events: list
`,
	"Role backstop-system/backstop-investigator": `
backstop.dev ledgers: get create
backstop.dev ledgers/status: update
backstop.dev modelchains: get list watch
backstop.dev modelchains/status: patch
coordination.k8s.io leases [backstop-investigator]: get update
coordination.k8s.io leases: create
`,
	"Role backstop-system/backstop-executor": `
backstop.dev ledgers [known-good.shop]: get
backstop.dev policies: list
`,
	"ClusterRole backstop-executor": `
 namespaces [shop]: get
`,
	"Role shop/backstop-executor": executorRules,
	"Role backstop-system/backstop-breaker": `
backstop.dev ledgers [actions]: get patch
`,
	"ClusterRole backstop-view": `
backstop.dev alerts: get list watch
backstop.dev approvals: get list watch
backstop.dev grants: get list watch
backstop.dev incidents: get list watch
backstop.dev investigations: get list watch
backstop.dev modelchains: get list watch
backstop.dev policies: get list watch
backstop.dev policyexceptions: get list watch
backstop.dev remediations: get list watch
backstop.dev runbooks: get list watch
`,
	"ClusterRole backstop-edit": `
backstop.dev alerts: create update patch delete
backstop.dev approvals: create update patch delete
backstop.dev policies: create update patch delete
backstop.dev policyexceptions: create update patch delete
backstop.dev runbooks: create update patch delete
`,
}

// bySelector is what enrolment by a label changes: no Role in any other namespace, and one ClusterRole in their place.
var bySelector = map[string]string{
	"ClusterRole backstop-controller": allowed["ClusterRole backstop-controller"] + `
 namespaces: list watch
 configmaps: get
 serviceaccounts: get
 services: list
backstop.dev grants: create update
discovery.k8s.io endpointslices: list
events.k8s.io events: list
policy poddisruptionbudgets: list
`,
	"Role shop/backstop-controller": "",
	"ClusterRole backstop-executor": executorRules + `
 namespaces: get list watch
`,
	"Role shop/backstop-executor": "",
	"Role backstop-system/backstop-executor": `
backstop.dev ledgers: get
backstop.dev policies: list
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
	exactly(t, allowed, "--set", "executor.namespaces={shop}")
	selected := maps.Clone(allowed)
	maps.Copy(selected, bySelector)
	maps.DeleteFunc(selected, func(_, rules string) bool { return rules == "" })
	exactly(t, selected, "--set-string", `executor.enrolBySelector.backstop\.dev/enrol=true`)
	without := render(t, "--set", "executor.namespaces={shop}", "--set", "executor.evictPods=false")
	for _, r := range rights(without) {
		check(t, !slices.Contains(r.resources, "pods/eviction"), "%s may have pods evicted though that was switched off", name(r.role))
	}
	for _, o := range ofKind(without, "ValidatingAdmissionPolicy") {
		if at(o, "metadata", "name") == "backstop-static" {
			for _, v := range list(at(o, "spec", "variables")) {
				check(t, at(v, "name") != "eviction" || strings.HasPrefix(fmt.Sprint(at(v, "expression")), "false && "), "the static policy lets evictions through though they were switched off: %v", v)
			}
		}
	}
	for _, r := range rights(render(t, "--set", "executor.namespaces={shop}", "--set", "investigator.readConfigMaps=false", "--set", "controller.readConfigMaps=false")) {
		check(t, !slices.Contains(r.resources, "configmaps"), "%s may read ConfigMaps though that was switched off", name(r.role))
	}
}

// exactly holds what the chart renders for these arguments to a table.
func exactly(t *testing.T, table map[string]string, args ...string) {
	t.Helper()
	written := func(r right) string {
		where := ""
		if ns := at(r.role, "metadata", "namespace"); ns != nil {
			where = fmt.Sprint(ns, "/")
		}
		return fmt.Sprintf("%v %s%v", r.role["kind"], where, at(r.role, "metadata", "name"))
	}
	found := map[string]string{}
	for _, r := range rights(render(t, args...)) {
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
	for role, rules := range table {
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
		check(t, table[role] != "", "%s is not in the table", role)
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
	raw, err := os.ReadFile("../../src/cluster/api.rs")
	if err != nil {
		t.Fatal(err)
	}
	plurals := regexp.MustCompile(`(?:namespaced\("[^"]*", "[^"]*", |plural: )"([a-z]+)"`).FindAllStringSubmatch(string(raw), -1)
	check(t, len(plurals) > 10, "%d kinds found in src/cluster/api.rs", len(plurals))
	for _, plural := range plurals {
		switch plural[1] {
		case "configmaps", "serviceaccounts", "events", "services", "endpointslices": // What a template names, a source of the mind, what a write reaches: not owners.
			continue
		}
		check(t, strings.Contains(readCluster, " "+plural[1]+": get"), "%s is read by the operator, and no rule allows it", plural[1])
	}
}

// With enrolment by a label RBAC says nothing about where: the policies have to.
func TestEnrolmentByALabelIsInEveryPolicyAboutTheExecutor(t *testing.T) {
	objects := render(t, "--set-string", `executor.enrolBySelector.backstop\.dev/enrol=true`, "--set-string", "executor.enrolBySelector.tier=web")
	selected := 0
	for _, o := range ofKind(objects, "ValidatingAdmissionPolicyBinding") {
		if !narrow(o) {
			continue
		}
		selected++
		selector := at(o, "spec", "matchResources", "namespaceSelector")
		check(t, fmt.Sprint(at(selector, "matchLabels")) == "map[backstop.dev/enrol:true tier:web]", "%s selects %v", name(o), selector)
		but := list(at(selector, "matchExpressions"))
		check(t, len(but) == 1 && at(but[0], "operator") == "NotIn" && slices.Equal(texts(at(but[0], "values")), []string{system, "kube-system", "kube-public", "kube-node-lease"}), "%s selects namespaces of the system: %v", name(o), but)
	}
	check(t, selected == 4, "%d bindings select, want grant, guard and two of provenance", selected)
	for _, o := range ofKind(objects, "ValidatingAdmissionPolicy") {
		if at(o, "metadata", "name") == "backstop-static" {
			want := "has(request.namespace) && namespaceObject != null && !(request.namespace in ['backstop-system', 'kube-system', 'kube-public', 'kube-node-lease']) && namespaceObject.metadata.?labels[?'backstop.dev/enrol'].orValue('') == 'true' && namespaceObject.metadata.?labels[?'tier'].orValue('') == 'web'"
			for _, v := range list(at(o, "spec", "variables")) {
				check(t, at(v, "name") != "enrolled" || at(v, "expression") == want, "the static policy: %v", v)
			}
		}
	}
	for _, o := range ofKind(objects, "Job") {
		for _, c := range list(at(o, "spec", "template", "spec", "containers")) {
			check(t, slices.Equal(texts(at(c, "args")), []string{"disarm", "--namespace-selector", "backstop.dev/enrol=true,tier=web"}), "the disarm Job: %v", at(c, "args"))
		}
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
				check(t, at(r.role, "metadata", "labels", "app.kubernetes.io/component") == "investigator", "%s: %s may read logs", topology, name(r.role))
			}
			if slices.Contains(r.resources, "configmaps") {
				component := at(r.role, "metadata", "labels", "app.kubernetes.io/component")
				check(t, (component == "investigator" || component == "controller") && slices.Equal(r.verbs, []string{"get"}), "%s: %s may %v ConfigMaps", topology, name(r.role), r.verbs)
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
				for _, kind := range []string{"grants", "incidents", "investigations", "remediations", "ledgers", "modelchains"} {
					check(t, !r.writes() || !slices.Contains(r.resources, kind), "%s may %v %s", name(r.role), r.verbs, kind)
				}
			}
		}
	}
	check(t, seen == 2, "%d aggregated rules, want one for view and one for edit", seen)
}
