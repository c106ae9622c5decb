package layout

import (
	"strings"
	"testing"
)

func getenv(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

func TestTheFoldersFollowFromTheBinaryUnlessToldOtherwise(t *testing.T) {
	for name, test := range map[string]struct {
		flag        string
		environment map[string]string
		want        Paths
	}{
		"nothing said": {
			want: Paths{Source: "/clone", Build: "/clone/.build", State: "/clone/.lab"},
		},
		"state by environment": {
			environment: map[string]string{"LAB_STATE": "/var/tmp/lab"},
			want:        Paths{Source: "/clone", Build: "/clone/.build", State: "/var/tmp/lab"},
		},
		"the flag wins over the environment": {
			flag:        "/flag",
			environment: map[string]string{"LAB_STATE": "/var/tmp/lab"},
			want:        Paths{Source: "/clone", Build: "/clone/.build", State: "/flag"},
		},
		"source elsewhere": {
			environment: map[string]string{"LAB_SOURCE": "/src"},
			want:        Paths{Source: "/src", Build: "/clone/.build", State: "/src/.lab"},
		},
		"build elsewhere": {
			environment: map[string]string{"LAB_BUILD": "/cache/build", "LAB_SOURCE": "/src"},
			want:        Paths{Source: "/src", Build: "/cache/build", State: "/src/.lab"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Find("/clone/.build/lab", test.flag, getenv(test.environment))
			if err != nil {
				t.Fatal(err)
			}
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestAStateFolderWhoseRemovalWouldHurtIsRefused(t *testing.T) {
	for _, state := range []string{"/", "/clone", "/clone/", "/clone/.build/.."} {
		if got, err := Find("/clone/.build/lab", state, getenv(nil)); err == nil {
			t.Errorf("--state %s was accepted as %s", state, got.State)
		}
	}
}

func TestEveryPortAndAddressIsTakenOnce(t *testing.T) {
	seen := map[int]string{}
	take := func(port int, by string) {
		if other, taken := seen[port]; taken {
			t.Errorf("port %d is of %s and of %s", port, other, by)
		}
		seen[port] = by
	}
	for by, port := range map[string]int{
		"API server": APIServerPort, "etcd clients": EtcdClientPort, "etcd peers": EtcdPeerPort,
		"controller manager": ControllerManagerPort, "scheduler": SchedulerPort,
		"proxy health": ProxyHealthPort, "proxy metrics": ProxyMetricsPort,
		"DNS": DNSPort, "DNS health": DNSHealthPort, "DNS ready": DNSReadyPort, "DNS metrics": DNSMetricsPort,
		"registry": RegistryPort, "private registry": PrivateRegistryPort,
	} {
		take(port, by)
	}
	ranges := map[string]bool{}
	for _, node := range (Paths{State: "/state"}).Nodes(MaxNodes) {
		take(node.KubeletPort(), node.Name())
		take(node.KubeletHealthPort(), node.Name()+" health")
		for _, own := range []string{node.IP(), node.PodCIDR(), node.Socket(), node.Cgroup(), node.Dir("kubelet"), node.Component("kubelet")} {
			if ranges[own] {
				t.Errorf("%s shares %s with another node", node.Name(), own)
			}
			ranges[own] = true
		}
	}
}

func TestSocketPathsStayShortHoweverDeepTheClone(t *testing.T) {
	deep := Paths{State: "/" + strings.Repeat("very-long-folder-name/", 20) + ".lab"}
	for _, node := range deep.Nodes(MaxNodes) {
		if len(node.Socket()) > 80 {
			t.Errorf("%s is too long for a socket", node.Socket())
		}
	}
}

func TestOnlyAPossibleNumberOfNodesIsAccepted(t *testing.T) {
	for count, ok := range map[int]bool{-1: false, 0: false, 1: true, 2: true, MaxNodes: true, MaxNodes + 1: false} {
		if err := CheckNodes(count); (err == nil) != ok {
			t.Errorf("--nodes %d: %v", count, err)
		}
	}
}

func TestAFurtherLabSharesNoNameWithAnother(t *testing.T) {
	type names struct{ run, cgroup, network, namespace, state string }
	now := func() names { return names{RunDir, Cgroup, NetworkPrefix, Namespace, stateFolder} }
	first := now()
	use := func(to names) {
		RunDir, Cgroup, NetworkPrefix, Namespace, stateFolder = to.run, to.cgroup, to.network, to.namespace, to.state
	}
	t.Cleanup(func() { use(first) })
	if err := Use("2"); err != nil {
		t.Fatal(err)
	}
	second := now()
	use(first)
	for _, pair := range [][2]string{
		{first.run + "/", second.run + "/"}, {first.cgroup + "/", second.cgroup + "/"},
		{first.network, second.network}, {first.state + "/", second.state + "/"},
	} {
		if strings.HasPrefix(pair[0], pair[1]) || strings.HasPrefix(pair[1], pair[0]) {
			t.Errorf("what is removed under %q and %q is the same", pair[0], pair[1])
		}
	}
	if first.namespace != "" || second.namespace == "" {
		t.Errorf("network namespaces are %q and %q", first.namespace, second.namespace)
	}
	for _, wrong := range []string{"1", "10", "x", "2/..", "-"} {
		if Use(wrong) == nil {
			t.Errorf("instance %q is taken", wrong)
		}
	}
	if err := Use(""); err != nil || now() != first {
		t.Errorf("without an instance it is %v, %v", now(), err)
	}
}
