package chart

// A cluster as far as Helm asks one: discovery, and some objects to look up.

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// served is what the cluster serves: plural and kind by API version; cluster-scoped ones with a !.
var served = map[string]string{
	"v1":                              "namespaces!Namespace secrets/Secret configmaps/ConfigMap services/Service serviceaccounts/ServiceAccount persistentvolumeclaims/PersistentVolumeClaim",
	"apps/v1":                         "deployments/Deployment",
	"batch/v1":                        "jobs/Job",
	"networking.k8s.io/v1":            "networkpolicies/NetworkPolicy",
	"rbac.authorization.k8s.io/v1":    "roles/Role rolebindings/RoleBinding clusterroles!ClusterRole clusterrolebindings!ClusterRoleBinding",
	"admissionregistration.k8s.io/v1": "validatingadmissionpolicies!ValidatingAdmissionPolicy validatingadmissionpolicybindings!ValidatingAdmissionPolicyBinding",
	"apiextensions.k8s.io/v1":         "customresourcedefinitions!CustomResourceDefinition",
}

func resources(version string) object {
	var all []any
	for _, word := range strings.Fields(served[version]) {
		plural, kind, namespaced := strings.Cut(word, "/")
		if !namespaced {
			plural, kind, _ = strings.Cut(word, "!")
		}
		all = append(all, object{"name": plural, "singularName": strings.ToLower(kind), "namespaced": namespaced, "kind": kind,
			"verbs": []string{"get", "list", "create", "patch", "delete"}})
	}
	return object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": all}
}

// cluster serves objects by path and writes a kubeconfig for it.
func cluster(t *testing.T, objects map[string]object) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer := object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found"}
		code := http.StatusNotFound
		found := func(o object) { answer, code = o, http.StatusOK }
		switch path := strings.TrimSuffix(r.URL.Path, "/"); {
		case path == "/version":
			found(object{"major": "1", "minor": "34", "gitVersion": "v1.34.0"})
		case path == "/api":
			found(object{"kind": "APIVersions", "versions": []string{"v1"}})
		case path == "/apis":
			var groups []any
			for version := range served {
				if group, v, ok := strings.Cut(version, "/"); ok {
					one := object{"groupVersion": version, "version": v}
					groups = append(groups, object{"name": group, "versions": []any{one}, "preferredVersion": one})
				}
			}
			found(object{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
		case served[strings.TrimPrefix(strings.TrimPrefix(path, "/apis/"), "/api/")] != "":
			found(resources(strings.TrimPrefix(strings.TrimPrefix(path, "/apis/"), "/api/")))
		case path == "/api/v1/namespaces":
			var items []any
			for at, o := range objects {
				if rest, ok := strings.CutPrefix(at, "/api/v1/namespaces/"); ok && !strings.Contains(rest, "/") {
					items = append(items, o)
				}
			}
			found(object{"kind": "NamespaceList", "apiVersion": "v1", "metadata": object{}, "items": items})
		case objects[path] != nil:
			found(objects[path])
		}
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	config := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":%q}}],"users":[{"name":"c","user":{}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"c"}}]}`, server.URL)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// in renders the chart as `helm install` does in that cluster.
func in(kubeconfig string, args ...string) (stdout, stderr string, err error) {
	return helm(append([]string{"template", "backstop", chartDir, "--namespace", system, "--dry-run=server", "--disable-openapi-validation", "--kubeconfig", kubeconfig}, args...)...)
}

func namespace(name string) object {
	return object{"apiVersion": "v1", "kind": "Namespace", "metadata": object{"name": name, "labels": object{"kubernetes.io/metadata.name": name}}}
}

// namespaces are those of a cluster that has these beside its own.
func namespaces(names ...string) map[string]object {
	all := map[string]object{}
	for _, name := range append(names, "kube-system", "default", system) {
		all["/api/v1/namespaces/"+name] = namespace(name)
	}
	return all
}

const intakeSecret = "/api/v1/namespaces/" + system + "/secrets/backstop-intake"

func token(t *testing.T, out string) any {
	t.Helper()
	for _, o := range ofKind(parse(t, out), "Secret") {
		return at(o, "data", "token")
	}
	return nil
}

func TestTheTokenOfTheIntakeIsMadeOnceAndNeverWithoutACluster(t *testing.T) {
	for range 2 {
		check(t, len(ofKind(render(t), "Secret")) == 0, "a render without a cluster makes a token, and the next one another")
	}
	fresh := cluster(t, namespaces())
	first, problems, err := in(fresh)
	check(t, err == nil && token(t, first) != nil, "`helm install` makes no token: %v %s", err, problems)
	objects := namespaces()
	objects[intakeSecret] = object{"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": "backstop-intake", "namespace": system},
		"data": object{"token": "b2xk", "token-previous": "b2xkZXI=", "tenant-shop": "c2hvcA=="}}
	again, problems, err := in(cluster(t, objects), "--is-upgrade", "--set", "intake.tenants={shop,pay}")
	check(t, err == nil && token(t, again) == "b2xk", "an upgrade changes the token: %v %s", err, problems)
	for _, o := range ofKind(parse(t, again), "Secret") {
		check(t, at(o, "data", "tenant-shop") == "c2hvcA==" && at(o, "data", "tenant-pay") != nil && at(o, "data", "token-previous") == "b2xkZXI=", "tokens after an upgrade: %v", o["data"])
	}
	for _, o := range ofKind(render(t), "Deployment") {
		for _, v := range list(at(o, "spec", "template", "spec", "volumes")) {
			check(t, at(v, "secret") == nil || at(v, "secret", "optional") == true, "%s does not start while a Secret is missing that the chart did not make", name(o))
		}
	}
}

func TestANamespaceThatIsMissingKeepsNoOtherFromBeingEnrolled(t *testing.T) {
	ending := namespaces("shop", "pay", "ending")
	ending["/api/v1/namespaces/ending"]["metadata"].(object)["deletionTimestamp"] = "2026-01-01T00:00:00Z"
	out, problems, err := in(cluster(t, ending), "--set", "executor.namespaces={shop,later,pay,ending}")
	check(t, err == nil, "%v %s", err, problems)
	objects := parse(t, out)
	found := map[any]int{}
	for _, o := range ofKind(objects, "Role", "RoleBinding") {
		found[at(o, "metadata", "namespace")]++
	}
	check(t, found["shop"] == 4 && found["pay"] == 4 && found["later"] == 0 && found["ending"] == 0, "Roles and RoleBindings: %v", found)
	// What is cluster-scoped knows it already: nothing but its Roles is missing once it is there.
	for _, o := range ofKind(objects, "ValidatingAdmissionPolicyBinding") {
		if narrow(o) {
			check(t, strings.Contains(fmt.Sprint(o["spec"]), "[shop later pay ending]"), "%s does not select all: %v", name(o), o["spec"])
		}
	}
	notes, problems, err := helm("install", "backstop", chartDir, "--namespace", system, "--dry-run=server", "--disable-openapi-validation",
		"--kubeconfig", cluster(t, ending), "--set", "executor.namespaces={shop,later}")
	check(t, err == nil && strings.Contains(notes, "NOT THERE YET: later"), "the notes do not name what is missing: %v %s", err, problems)
	check(t, len(ofKind(render(t, "--set", "executor.namespaces={shop,later}"), "Role")) == 2*2+4, "without a cluster nobody knows what is missing, so all are there")
}

func TestASecondInstallationIsRefusedWithASentence(t *testing.T) {
	const path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/backstop-approval"
	binding := func(release, namespace string) object {
		return object{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": object{"name": "backstop-approval",
			"annotations": object{"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace}, "labels": object{"app.kubernetes.io/managed-by": "Helm"}}}
	}
	for other, refused := range map[string]bool{"backstop/" + system: false, "backstop/elsewhere": true, "second/" + system: true} {
		objects := namespaces()
		release, where, _ := strings.Cut(other, "/")
		objects[path] = binding(release, where)
		// Another name for its objects does not help: the walls are one.
		_, problems, err := in(cluster(t, objects), "--set", "fullnameOverride=other")
		check(t, (err != nil) == refused && strings.Contains(problems, "in this cluster already") == refused, "release %s is there: %v %s", other, err, problems)
		check(t, !refused || strings.Contains(problems, "helm uninstall "+release+" --namespace "+where), "%s", problems)
	}
}
