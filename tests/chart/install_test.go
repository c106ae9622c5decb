package chart

// How the chart fits into clusters that are not like ours: ids, nodes, meshes, names, upgrades.

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func pods(objects []object) map[string]any {
	all := map[string]any{}
	for _, o := range ofKind(objects, "Deployment", "Job") {
		all[fmt.Sprint(at(o, "metadata", "labels", "app.kubernetes.io/component"))] = at(o, "spec", "template")
	}
	return all
}

func TestIdsCanBeLeftToTheCluster(t *testing.T) {
	objects := render(t, "--set", "executor.namespaces={shop}", "--set", "podSecurityContext.runAsUser=null,podSecurityContext.runAsGroup=null,podSecurityContext.fsGroup=null")
	found := pods(objects)
	check(t, len(found) == 4, "%d pods, want three roles and the Job", len(found))
	for role, pod := range found {
		security := at(pod, "spec", "securityContext").(object)
		for _, id := range []string{"runAsUser", "runAsGroup", "fsGroup"} {
			_, there := security[id]
			check(t, !there, "%s: %s is still %v", role, id, security[id])
		}
		check(t, security["runAsNonRoot"] == true && at(security, "seccompProfile", "type") == "RuntimeDefault", "%s: the rest of the profile is gone too: %v", role, security)
	}
	for role, pod := range pods(render(t, "--set", "executor.namespaces={shop}", "--set", "podSecurityContext.fsGroup=null,podSecurityContext.runAsUser=1000690000")) {
		security := at(pod, "spec", "securityContext").(object)
		check(t, fmt.Sprint(security["runAsUser"]) == "1.00069e+09" && fmt.Sprint(security["runAsGroup"]) == "65532" && security["fsGroup"] == nil, "%s: %v", role, security)
	}
	out, _, err := helm("template", "backstop", chartDir, "--namespace", system, "--set", "podSecurityContext.runAsUser=1000690000")
	check(t, err == nil && strings.Contains(out, "runAsUser: 1000690000\n"), "a large id is written as a float")
}

func TestTheDisarmJobRunsWhereverTheExecutorDoes(t *testing.T) {
	found := pods(render(t, "--set", "executor.namespaces={shop}", "--set", "executor.nodeSelector.pool=infra", "--set-string", `executor.nodeSelector.kubernetes\.io/arch=amd64`,
		"--set-json", `executor.tolerations=[{"key":"dedicated","operator":"Equal","value":"infra","effect":"NoSchedule"}]`,
		"--set-json", `executor.affinity={"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"a","operator":"Exists"}]}]}}}`,
		"--set-json", `imagePullSecrets=[{"name":"pull"}]`, "--set", "priorityClassName=high", "--set", "podSecurityContext.runAsUser=7"))
	for _, field := range []string{"nodeSelector", "tolerations", "affinity", "imagePullSecrets", "priorityClassName", "securityContext", "serviceAccountName"} {
		executor, disarm := at(found["executor"], "spec", field), at(found["disarm"], "spec", field)
		check(t, executor != nil && fmt.Sprint(executor) == fmt.Sprint(disarm), "%s: the executor has %v, the Job has %v", field, executor, disarm)
	}
	check(t, fmt.Sprint(at(found["controller"], "spec", "tolerations")) == "<nil>", "a setting of the executor reached the controller")
}

func TestPodsAreForLinuxUnlessSomebodySaysOtherwise(t *testing.T) {
	for topology, objects := range topologies(t) {
		for role, pod := range pods(objects) {
			check(t, at(pod, "spec", "nodeSelector", "kubernetes.io/os") == "linux", "%s: %s may land on another operating system: %v", topology, role, at(pod, "spec", "nodeSelector"))
		}
	}
	for role, pod := range pods(render(t, "--set-string", `controller.nodeSelector.kubernetes\.io/os=`, "--set-string", `investigator.nodeSelector.kubernetes\.io/os=windows`)) {
		want := map[string]any{"controller": nil, "investigator": "windows"}[role]
		check(t, at(pod, "spec", "nodeSelector", "kubernetes.io/os") == want, "%s: %v", role, at(pod, "spec", "nodeSelector"))
	}
}

func TestNoMeshHoldsTheDisarmJobUp(t *testing.T) {
	job := pods(render(t, "--set", "executor.namespaces={shop}", "--set-string", `podLabels.sidecar\.istio\.io/inject=true`, "--set-string", `podAnnotations.linkerd\.io/inject=enabled`))["disarm"]
	for what, want := range map[string]string{"labels sidecar.istio.io/inject": "false", "annotations sidecar.istio.io/inject": "false", "annotations linkerd.io/inject": "disabled",
		"labels kuma.io/sidecar-injection": "disabled", "annotations consul.hashicorp.com/connect-inject": "false"} {
		which, key, _ := strings.Cut(what, " ")
		check(t, at(job, "metadata", which, key) == want, "%s is %v", what, at(job, "metadata", which, key))
	}
	for role, pod := range pods(render(t, "--set", "executor.namespaces={shop}", "--set-string", "podLabels.mesh=off", "--set-string", "podAnnotations.note=yes")) {
		check(t, at(pod, "metadata", "labels", "mesh") == "off" && at(pod, "metadata", "annotations", "note") == "yes", "%s: %v", role, at(pod, "metadata"))
	}
}

// Nothing looks at other people's writes before a namespace is enrolled.
func TestObserveModeHasNoPolicyAboutWritesOfOthers(t *testing.T) {
	for _, o := range ofKind(render(t), "ValidatingAdmissionPolicy") {
		for _, rule := range list(at(o, "spec", "matchConstraints", "resourceRules")) {
			check(t, slices.Equal(texts(at(rule, "apiGroups")), []string{"backstop.dev"}), "%s looks at %v", name(o), rule)
		}
	}
	static := func(args ...string) bool {
		return slices.ContainsFunc(ofKind(render(t, args...), "ValidatingAdmissionPolicy"), func(o object) bool { return at(o, "metadata", "name") == "backstop-static" })
	}
	check(t, static("--set", "executor.namespaces={shop}") && static("--set-string", `executor.enrolBySelector.backstop\.dev/enrol=true`), "the static policy is not there when a namespace is enrolled")
}

// The table in the chart's README is what is rendered: every policy, where it is, and whether observe mode has it.
func TestTheReadmeListsEveryPolicyAndWhetherObserveModeHasIt(t *testing.T) {
	text, err := os.ReadFile("../../helm/backstop/README.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| \\[`(backstop-[a-z-]+)`\\]\\((templates/admission/[a-z]+\\.yaml)\\) \\| (yes|no) \\|")
	listed := map[string]bool{}
	for _, found := range row.FindAllStringSubmatch(string(text), -1) {
		listed[found[1]] = found[3] == "yes"
		template, err := os.ReadFile("../../helm/backstop/" + found[2])
		check(t, err == nil && strings.Contains(string(template), "kind: ValidatingAdmissionPolicy"), "%s: no policy in %s", found[1], found[2])
	}
	policies := func(args ...string) map[string]bool {
		names := map[string]bool{}
		for _, policy := range ofKind(render(t, args...), "ValidatingAdmissionPolicy") {
			names[at(policy, "metadata", "name").(string)] = true
		}
		return names
	}
	observing, enrolled := policies(), policies("--set", "executor.namespaces={shop}")
	for policy := range enrolled {
		here, found := listed[policy]
		check(t, found, "%s is not in the table of helm/backstop/README.md", policy)
		check(t, here == observing[policy], "%s: README says in observe mode %v, rendered is %v", policy, here, observing[policy])
	}
	check(t, len(enrolled) > 10 && len(listed) == len(enrolled), "%d policies, %d rows", len(enrolled), len(listed))
}

func TestNamesCanBeChangedAndThoseOfTheWallsCannot(t *testing.T) {
	for _, args := range [][]string{{"fullnameOverride=sre"}, {"nameOverride=sre"}, {"nameOverride=other,fullnameOverride=sre"}} {
		objects := render(t, "--set", "executor.namespaces={shop}", "--set", "audit.persistentVolumeClaim.create=true", "--set", strings.Join(args, ","))
		accounts := map[string]bool{}
		for _, o := range ofKind(objects, "ServiceAccount") {
			accounts[fmt.Sprint(at(o, "metadata", "name"))] = true
		}
		check(t, accounts["sre-controller"] && accounts["sre-investigator"] && accounts["sre-executor"], "accounts: %v", accounts)
		for _, o := range objects {
			id := fmt.Sprint(at(o, "metadata", "name"))
			switch o["kind"] {
			case "CustomResourceDefinition":
			case "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding":
				check(t, strings.HasPrefix(id, "backstop-"), "%s: the executor looks for the name of the policy", name(o))
				check(t, !strings.Contains(fmt.Sprint(o["spec"]), "serviceaccount:"+system+":backstop-"), "%s still names an account that does not exist", name(o))
			default:
				check(t, id == "sre" || strings.HasPrefix(id, "sre-"), "%s has its old name", name(o))
			}
			for _, subject := range list(o["subjects"]) {
				check(t, accounts[fmt.Sprint(at(subject, "name"))], "%s binds %v", name(o), subject)
			}
			if role := at(o, "roleRef", "name"); role != nil {
				check(t, role == id, "%s refers to %v", name(o), role)
			}
		}
		// Whatever selects pods selects those that there are.
		all := pods(objects)
		for _, o := range ofKind(objects, "Deployment", "Service") {
			selector, _ := at(o, "spec", "selector", "matchLabels").(object)
			if selector == nil {
				selector, _ = at(o, "spec", "selector").(object)
			}
			labels := at(all[fmt.Sprint(selector["app.kubernetes.io/component"])], "metadata", "labels")
			for key, value := range selector {
				check(t, at(labels, key) == value, "%s selects %s=%v, its pods have %v", name(o), key, value, at(labels, key))
			}
		}
		for _, o := range ofKind(objects, "Deployment") {
			pod := at(o, "spec", "template", "spec")
			check(t, accounts[fmt.Sprint(at(pod, "serviceAccountName"))], "%s runs as %v", name(o), at(pod, "serviceAccountName"))
			for _, v := range list(at(pod, "volumes")) {
				for _, found := range []any{at(v, "configMap", "name"), at(v, "secret", "secretName"), at(v, "persistentVolumeClaim", "claimName")} {
					check(t, found == nil || strings.HasPrefix(fmt.Sprint(found), "sre"), "%s mounts %v", name(o), found)
				}
			}
		}
	}
}

// `--reuse-values` keeps the values of the release before, in which those of this chart that are new are missing.
func TestAnUpgradeWithTheValuesOfTheChartBefore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "backstop")
	if err := os.CopyFS(dir, os.DirFS(chartDir)); err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile("testdata/values-before.yaml")
	if err == nil {
		err = os.WriteFile(dir+"/values.yaml", old, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--namespace", system, "--set", "executor.namespaces={shop},audit.persistentVolumeClaim.create=true"}
	before, problems, err := helm(append([]string{"template", "backstop", dir}, args...)...)
	check(t, err == nil, "values of the chart before: %v %s", err, problems)
	after, problems, err := helm(append([]string{"template", "backstop", chartDir}, args...)...)
	check(t, err == nil && before == after, "the values of the chart before give other objects than the defaults do now: %v %s", err, problems)
	// What is never changed in place.
	for _, o := range ofKind(parse(t, after), "Deployment") {
		check(t, fmt.Sprint(at(o, "spec", "selector", "matchLabels")) == fmt.Sprintf("map[app.kubernetes.io/component:%s app.kubernetes.io/instance:backstop app.kubernetes.io/name:backstop]", at(o, "metadata", "labels", "app.kubernetes.io/component")), "%s: the selector changed: an upgrade fails", name(o))
	}
	for _, o := range ofKind(parse(t, after), "PersistentVolumeClaim") {
		check(t, fmt.Sprint(o["spec"]) == "map[accessModes:[ReadWriteOnce] resources:map[requests:map[storage:1Gi]]]", "%s: the spec of a claim does not change: %v", name(o), o["spec"])
	}
}

func TestTheChartIsForKubernetesThatHasWhatItNeeds(t *testing.T) {
	for version, ok := range map[string]bool{"1.29.9": false, "v1.30.4-eks-abc": true, "v1.30.0-gke.1": true, "1.34.4+rke2r1": true, "1.36.0": true} {
		_, problems, err := helm("template", "backstop", chartDir, "--namespace", system, "--kube-version", version)
		check(t, (err == nil) == ok, "%s: %v %s", version, err, problems)
	}
}

func TestOptionsOfTheAuditClaim(t *testing.T) {
	for _, o := range ofKind(render(t, "-f", chartDir+"/ci/openshift-values.yaml", "--set", "audit.persistentVolumeClaim.volumeName=mine"), "PersistentVolumeClaim") {
		check(t, slices.Equal(texts(at(o, "spec", "accessModes")), []string{"ReadWriteOncePod"}) && at(o, "spec", "volumeName") == "mine", "%v", o["spec"])
		notes := at(o, "metadata", "annotations").(object)
		check(t, notes["backup.example/policy"] == "daily" && notes["helm.sh/resource-policy"] == "keep", "annotations: %v", notes)
	}
}
