package chart

// Models: the chain from values, where its keys are mounted, and where the investigator may go.

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const everything = chartDir + "/ci/everything-values.yaml"

func TestWithoutAChainNothingOfModelsIsRendered(t *testing.T) {
	objects := render(t, "-f", chartDir+"/ci/repair-values.yaml")
	check(t, len(ofKind(objects, "ModelChain")) == 0, "a ModelChain is rendered though there are no rungs")
	for _, o := range ofKind(objects, "Deployment") {
		check(t, !strings.Contains(fmt.Sprint(o), "/etc/backstop/models"), "%s mounts keys of models", name(o))
	}
	for _, o := range ofKind(objects, "NetworkPolicy") {
		if at(o, "metadata", "name") == "backstop-investigator" {
			rules := list(at(o, "spec", "egress"))
			check(t, len(rules) == 2, "the investigator reaches more than the API server and DNS: %v", rules)
		}
	}
}

// Helm looks every kind up before it makes anything: in the release that brings the definition the chain is a hook, and
// the next release has to be able to take it over.
func TestAChainComesAfterItsDefinition(t *testing.T) {
	chain := func(args ...string) object {
		all := ofKind(render(t, append([]string{"-f", everything}, args...)...), "ModelChain")
		if len(all) != 1 {
			t.Fatalf("%d ModelChains, want one", len(all))
		}
		return all[0]
	}
	first := chain("--set", "crds.install=true")
	notes, _ := at(first, "metadata", "annotations").(object)
	check(t, notes["helm.sh/hook"] == "post-install,post-upgrade", "the chain comes before its definition: %v", notes)
	check(t, notes["meta.helm.sh/release-name"] == "backstop" && notes["meta.helm.sh/release-namespace"] == system && at(first, "metadata", "labels", "app.kubernetes.io/managed-by") == "Helm", "the next release cannot take the chain over: %v", first["metadata"])
	for what, later := range map[string]object{
		"the kind is served":           chain("--set", "crds.install=true", "--api-versions", "backstop.dev/v1alpha1/ModelChain"),
		"others apply the definitions": chain(),
	} {
		check(t, at(later, "metadata", "annotations") == nil, "%s, and the chain is still a hook", what)
		check(t, fmt.Sprint(later["spec"]) == fmt.Sprint(first["spec"]), "%s: another spec", what)
	}
	check(t, at(first, "metadata", "name") == "default" && at(first, "metadata", "namespace") == system && at(first, "spec", "rungs") != nil, "%v", first)
}

func TestTheInvestigatorAloneHasTheKeysOfModels(t *testing.T) {
	for _, o := range ofKind(render(t, "-f", everything), "Deployment", "Job") {
		pod := at(o, "spec", "template", "spec")
		secrets := map[string]string{}
		for _, v := range list(at(pod, "volumes")) {
			if strings.HasPrefix(fmt.Sprint(at(v, "name")), "model-") {
				secrets[fmt.Sprint(at(v, "name"))] = fmt.Sprint(at(v, "secret", "secretName"))
				check(t, at(v, "secret", "optional") == true && fmt.Sprint(at(v, "secret", "defaultMode")) == "288", "%s: %v", name(o), v)
			}
		}
		var mounted []string
		for _, c := range list(at(pod, "containers")) {
			for _, m := range list(at(c, "volumeMounts")) {
				if secret, ours := secrets[fmt.Sprint(at(m, "name"))]; ours {
					mounted = append(mounted, secret)
					check(t, at(m, "mountPath") == "/etc/backstop/models/"+secret && at(m, "readOnly") == true, "%s: %v", name(o), m)
				}
			}
		}
		slices.Sort(mounted)
		want := []string(nil)
		if at(o, "metadata", "name") == "sre-backstop-investigator" {
			want = []string{"another", "anthropic", "aws", "gateway.key"}
		}
		check(t, slices.Equal(mounted, want) && len(secrets) == len(want), "%s has the keys %v, want %v", name(o), mounted, want)
	}
}

func TestProxyAndAuthoritiesOfModelsReachTheInvestigatorAlone(t *testing.T) {
	const path = "/etc/backstop/model-ca"
	for _, set := range []bool{true, false} {
		args := []string{"-f", everything}
		if !set {
			args = append(args, "--set", "models.proxyUrl=,models.caBundle=null")
		}
		objects := render(t, args...)
		for _, o := range ofKind(objects, "Deployment", "Job") {
			pod := at(o, "spec", "template", "spec")
			has := strings.Contains(fmt.Sprint(at(pod, "containers")), path)
			check(t, has == (set && at(o, "metadata", "name") == "sre-backstop-investigator"), "%s, authorities set: %v, mounted: %v", name(o), set, has)
			for _, v := range list(at(pod, "volumes")) {
				if at(v, "name") == "authorities" {
					check(t, fmt.Sprint(at(v, "configMap")) == "map[items:[map[key:bundle.pem path:ca.crt]] name:authorities]", "%v", v)
				}
			}
		}
		for _, o := range ofKind(objects, "ConfigMap") {
			config := fmt.Sprint(at(o, "data", "config.yaml"))
			if !strings.Contains(config, "auditDir") {
				continue
			}
			check(t, strings.Contains(config, `proxyUrl: "http://proxy.example:3128"`) == set && strings.Contains(config, `caFile: "`+path+`/ca.crt"`) == set, "set: %v\n%s", set, config)
		}
	}
}

func TestEgressToModelsFollowsFromTheChain(t *testing.T) {
	for _, o := range ofKind(render(t, "-f", everything), "NetworkPolicy") {
		rules := list(at(o, "spec", "egress"))
		if at(o, "metadata", "name") != "sre-backstop-investigator" {
			check(t, !strings.Contains(fmt.Sprint(rules), "203.0.113.0"), "%s reaches models: %v", name(o), rules)
			continue
		}
		var got []string
		for _, rule := range rules[3:] {
			raw, err := json.Marshal(rule)
			check(t, err == nil, "%v", err)
			got = append(got, string(raw))
		}
		inside := func(namespace string) string {
			return `{"ports":[{"protocol":"TCP"}],"to":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"` + namespace + `"}}}]}`
		}
		want := []string{
			`{"ports":[{"port":443,"protocol":"TCP"},{"port":8443,"protocol":"TCP"}],"to":[{"ipBlock":{"cidr":"203.0.113.0/24"}}]}`,
			inside(system), inside("models"), inside("more-models"),
		}
		check(t, slices.Equal(got, want), "the investigator may go to\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWrongChainsAreTurnedDownBeforeTheyReachTheCluster(t *testing.T) {
	for setting, says := range map[string]string{
		"models.chain.rungs[0].name=Big":                            "name",
		"models.chain.rungs[0].ceiling=auto":                        "ceiling",
		"models.chain.rungs[0].onUngroundd=own":                     "onUngroundd",
		"models.chain.rungs[0].upstreams[0].url=ftp://a":            "url",
		"models.chain.rungs[0].upstreams[0].api=Gemini":             "api",
		"models.chain.rungs[0].upstreams[0].weight=1001":            "weight",
		"models.chain.rungs[0].upstreams[0].credentials.secret=a/b": "secret",
		"models.chain.rungs[0].upstreams[0].prices.input=cheap":     "input",
		"models.chain.deadlineSeconds=1000":                         "deadlineSeconds",
		"models.chain.breaker.failures=1":                           "failures",
		"models.chain.rungs[0].upstreams[0].servedAs={two words}":   "servedAs",
		"models.chains=x":                          "chains",
		"models.secrets={../a}":                    "secrets",
		"models.egress.to=everywhere":              "to",
		"models.proxyUrl=http://user:secret@proxy": "proxyUrl",
		"models.caBundle.configMap=a/b":            "configMap",
	} {
		_, problems, err := helm("template", "backstop", chartDir, "--namespace", system, "-f", everything, "--set", setting)
		check(t, err != nil && strings.Contains(problems, says), "--set %s: want a refusal that says %q, got %v: %s", setting, says, err, problems)
	}
}

// The schema of the values repeats that of the definition, because Helm sends fields that nobody knows and the API server
// drops them without a word.
func TestTheSchemaOfTheChainIsThatOfItsDefinition(t *testing.T) {
	raw, err := os.ReadFile("../../crds/modelchains.backstop.dev.yaml")
	var definition object
	if err == nil {
		err = yaml.Unmarshal(raw, &definition)
	}
	if err != nil {
		t.Fatal(err)
	}
	versions := list(at(definition, "spec", "versions"))
	want := plain(at(versions[0], "schema", "openAPIV3Schema", "properties", "spec")).(object)
	delete(want, "required")
	raw, err = os.ReadFile(chartDir + "/values.schema.json")
	var schema object
	if err == nil {
		err = json.Unmarshal(raw, &schema)
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(at(schema, "properties", "models", "properties", "chain"))
	check(t, err == nil, "%v", err)
	expected, err := json.Marshal(want)
	check(t, err == nil && string(got) == string(expected), "properties.models.properties.chain of values.schema.json has to be\n%s", expected)
}

// plain is a schema without what a JSON schema of values has no use for, and without room for unknown fields.
func plain(schema any) any {
	s := schema.(object)
	out := object{}
	for key, value := range s {
		switch key {
		case "description", "default", "format", "nullable", "x-kubernetes-validations":
		case "items":
			out[key] = plain(value)
		case "properties":
			properties := object{}
			for name, property := range value.(object) {
				properties[name] = plain(property)
			}
			out[key] = properties
		default:
			out[key] = value
		}
	}
	if out["properties"] != nil {
		out["additionalProperties"] = false
	}
	return out
}
