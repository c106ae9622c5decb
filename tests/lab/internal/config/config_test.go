package config

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"backstop.dev/lab/internal/layout"
)

// awkward is a path that breaks whatever is not quoted.
const awkward = `/home/me/my "lab": #1/.lab`

func values() Values {
	p := layout.Paths{Source: "/clone", Build: "/clone/.build", State: awkward}
	v := For(p, p.Node(2), "v1.34.4")
	v.Nameservers = []string{"192.0.2.53"}
	v.Registry = Registries[0]
	return v
}

func render(t *testing.T, name string) string {
	t.Helper()
	data, err := Render(name, values())
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestEveryTemplateRendersAndWhatIsYAMLParses(t *testing.T) {
	names, err := fs.Glob(files, "templates/*.tmpl")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) < 10 {
		t.Fatalf("only %d templates were found", len(names))
	}
	for _, name := range names {
		name = strings.TrimSuffix(filepath.Base(name), ".tmpl")
		t.Run(name, func(t *testing.T) {
			text := render(t, name)
			if strings.Contains(text, "<no value>") {
				t.Errorf("a value is missing:\n%s", text)
			}
			if filepath.Ext(name) != ".yaml" {
				return
			}
			for document := range strings.SplitSeq(text, "\n---\n") {
				var object struct{ APIVersion, Kind string }
				if err := yaml.Unmarshal([]byte(document), &object); err != nil {
					t.Errorf("%v in\n%s", err, document)
				} else if object.APIVersion == "" || object.Kind == "" {
					t.Errorf("no apiVersion and kind in\n%s", document)
				}
			}
		})
	}
}

func TestTheKubeletIsConfinedToItsNode(t *testing.T) {
	var kubelet struct {
		CgroupRoot, ContainerRuntimeEndpoint, PodLogsDir string
		Port                                             int
	}
	if err := yaml.Unmarshal([]byte(render(t, "kubelet.yaml")), &kubelet); err != nil {
		t.Fatal(err)
	}
	node := layout.Paths{State: awkward}.Node(2)
	if kubelet.CgroupRoot != "/backstop-lab/node-2" || kubelet.ContainerRuntimeEndpoint != "unix://"+node.Socket() ||
		kubelet.PodLogsDir != node.Dir("pod-logs") || kubelet.Port != node.KubeletPort() {
		t.Errorf("got %+v", kubelet)
	}
}

func TestTheNetworkOfANodeIsItsOwnRange(t *testing.T) {
	var network struct {
		Plugins []struct {
			IPAM struct {
				DataDir string
				Ranges  [][]struct{ Subnet string }
			}
		}
	}
	if err := json.Unmarshal([]byte(render(t, "cni.conflist")), &network); err != nil {
		t.Fatal(err)
	}
	if got := network.Plugins[0].IPAM.Ranges[0][0].Subnet; got != "10.244.2.0/24" {
		t.Errorf("node 2 has the range %s", got)
	}
	if got := network.Plugins[0].IPAM.DataDir; !strings.HasPrefix(got, awkward) {
		t.Errorf("addresses are kept in %s, outside the state folder", got)
	}
}

// The audit log is what the tests believe: a rule that comes too early would
// blind them.
func TestTheAuditPolicyHidesNoWriteButTheHeartbeatsOfNodes(t *testing.T) {
	var policy struct {
		Rules []struct {
			Level      string
			Users      []string
			UserGroups []string
			Verbs      []string
			Resources  []struct{ Group string }
		}
	}
	if err := yaml.Unmarshal([]byte(render(t, "audit-policy.yaml")), &policy); err != nil {
		t.Fatal(err)
	}
	for i, rule := range policy.Rules {
		if rule.Level == "RequestResponse" {
			if len(rule.Users)+len(rule.UserGroups)+len(rule.Resources) > 0 || len(rule.Verbs) != 5 {
				t.Errorf("the rule for writes is not for all writes: %+v", rule)
			}
			return
		}
		leasesOfNodes := len(rule.Users) == layout.MaxNodes && len(rule.Resources) == 1 && rule.Resources[0].Group == "coordination.k8s.io"
		if !leasesOfNodes {
			t.Errorf("rule %d comes before the rule for writes and hides %+v", i, rule)
		}
	}
	t.Error("no rule logs writes with their bodies")
}

func TestOnlyNameserversAreTakenFromTheMachine(t *testing.T) {
	got := Nameservers("# comment\nsearch corp.example\nnameserver 192.0.2.1\noptions ndots:1\nnameserver   2001:db8::1  \nnameserver\n")
	if want := "192.0.2.1 2001:db8::1"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestAFileThatIsRightIsNotWrittenAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config", "kube-proxy.yaml")
	if err := Write(file, "kube-proxy.yaml", values()); err != nil {
		t.Fatal(err)
	}
	old := time.Unix(1_000_000_000, 0)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	if err := Write(file, "kube-proxy.yaml", values()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if !info.ModTime().Equal(old) {
		t.Error("the file was written although its content is the same")
	}
}
