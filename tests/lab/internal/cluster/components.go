package cluster

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"backstop.dev/lab/internal/layout"
)

// component is one process of the lab.
type component struct {
	name string
	// path of the program, args with its name first.
	path string
	args []string
	// grace is how long it may take to end before it is killed.
	grace time.Duration
	// healthy returns nil once it serves.
	healthy func(context.Context) error
	// env is added to the environment of all components.
	env []string
}

// components returns all components of a cluster in the order of their start.
func (c *Cluster) components() []component {
	all := []component{c.etcd(), c.registry()}
	for _, node := range c.Paths.Nodes(c.Settings.Nodes) {
		all = append(all, c.containerd(node))
	}
	all = append(all, c.apiServer(), c.controllerManager(), c.scheduler(), c.proxy(), c.provisioner())
	for _, node := range c.Paths.Nodes(c.Settings.Nodes) {
		all = append(all, c.kubelet(node))
	}
	if c.Settings.DNS {
		all = append(all, c.coredns())
	}
	return all
}

// garbageCollection bounds what the components spend on collecting garbage: a
// quarter of what the API server computed in a storm of incidents, where the
// whole control plane shares two cores. It takes memory instead, up to a limit
// near which nothing else is computed; so where an API server has tens of
// thousands of objects, LAB_GOGC=100 is as Go does it by itself.
func garbageCollection() []string {
	if share := os.Getenv("LAB_GOGC"); share != "" {
		return []string{"GOGC=" + share}
	}
	return []string{"GOGC=400", "GOMEMLIMIT=2GiB"}
}

// kubernetes is a component out of the one Kubernetes binary.
func (c *Cluster) kubernetes(name, program string, healthy func(context.Context) error, flags ...string) component {
	return component{
		name: name, path: c.Paths.Kubernetes(c.Settings.Version),
		args: append([]string{program}, flags...), grace: 5 * time.Second, healthy: healthy,
		env: garbageCollection(),
	}
}

func (c *Cluster) etcd() component {
	client := fmt.Sprintf("http://127.0.0.1:%d", layout.EtcdClientPort)
	peer := fmt.Sprintf("http://127.0.0.1:%d", layout.EtcdPeerPort)
	return c.kubernetes("etcd", "etcd", getOK(client+"/readyz"),
		"--name=lab", "--data-dir="+c.Paths.Data("etcd"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=lab="+peer,
		// The data need not survive a crash of the machine, only of a process.
		"--unsafe-no-fsync", "--log-level=warn", "--quota-backend-bytes=4294967296",
		"--auto-compaction-mode=periodic", "--auto-compaction-retention=30m")
}

func (c *Cluster) apiServer() component {
	p, node := c.Paths, c.Paths.Node(1)
	return c.kubernetes("kube-apiserver", "kube-apiserver", c.apiReady,
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", layout.EtcdClientPort),
		"--bind-address="+node.IP(), "--advertise-address="+node.IP(), fmt.Sprintf("--secure-port=%d", layout.APIServerPort),
		"--service-cluster-ip-range="+layout.ServiceCIDR,
		"--client-ca-file="+p.PKI("ca.crt"),
		"--tls-cert-file="+p.PKI("apiserver.crt"), "--tls-private-key-file="+p.PKI("apiserver.key"),
		"--kubelet-client-certificate="+p.PKI("apiserver-kubelet-client.crt"), "--kubelet-client-key="+p.PKI("apiserver-kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-key-file="+p.PKI("sa.pub"), "--service-account-signing-key-file="+p.PKI("sa.key"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--proxy-client-cert-file="+p.PKI("front-proxy-client.crt"), "--proxy-client-key-file="+p.PKI("front-proxy-client.key"),
		"--requestheader-client-ca-file="+p.PKI("front-proxy-ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-", "--requestheader-group-headers=X-Remote-Group", "--requestheader-username-headers=X-Remote-User",
		// kube-proxy's rules exist on this host only for pods that are ready;
		// aggregated APIs are reached at their endpoints directly.
		"--enable-aggregator-routing=true",
		"--audit-policy-file="+p.Config("audit-policy.yaml"), "--audit-log-path="+p.AuditLog(),
		"--audit-log-maxsize=100", "--audit-log-maxbackup=40", "--audit-log-mode=blocking-strict",
		// A restart of the API server is a test case: it shall take seconds.
		"--shutdown-delay-duration=0s", "--shutdown-watch-termination-grace-period=1s",
		"--profiling=false", "--event-ttl=6h")
}

func (c *Cluster) controllerManager() component {
	p := c.Paths
	config := p.KubeconfigOf("controller-manager")
	return c.kubernetes("kube-controller-manager", "kube-controller-manager", getOK(fmt.Sprintf("https://127.0.0.1:%d/healthz", layout.ControllerManagerPort)),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", layout.ControllerManagerPort),
		"--kubeconfig="+config, "--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config,
		"--client-ca-file="+p.PKI("ca.crt"), "--requestheader-client-ca-file="+p.PKI("front-proxy-ca.crt"),
		"--root-ca-file="+p.PKI("ca.crt"), "--service-account-private-key-file="+p.PKI("sa.key"), "--use-service-account-credentials=true",
		"--cluster-signing-cert-file="+p.PKI("ca.crt"), "--cluster-signing-key-file="+p.PKI("ca.key"),
		"--flex-volume-plugin-dir="+p.Data("volume-plugins"),
		"--leader-elect=false", "--profiling=false",
		// Above the defaults, which a suite that makes a namespace per test
		// would spend its time waiting for.
		"--kube-api-qps=300", "--kube-api-burst=600",
		"--concurrent-deployment-syncs=20", "--concurrent-replicaset-syncs=20", "--concurrent-statefulset-syncs=20",
		"--concurrent-namespace-syncs=30", "--concurrent-gc-syncs=40", "--concurrent-serviceaccount-token-syncs=20",
		// A stopped kubelet shows as NotReady after 20 s, not 50.
		"--node-monitor-period=2s", "--node-monitor-grace-period=20s")
}

func (c *Cluster) scheduler() component {
	config := c.Paths.KubeconfigOf("scheduler")
	return c.kubernetes("kube-scheduler", "kube-scheduler", getOK(fmt.Sprintf("https://127.0.0.1:%d/healthz", layout.SchedulerPort)),
		"--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", layout.SchedulerPort),
		"--kubeconfig="+config, "--authentication-kubeconfig="+config, "--authorization-kubeconfig="+config,
		"--leader-elect=false", "--profiling=false", "--kube-api-qps=200", "--kube-api-burst=400")
}

// proxy is one for all nodes: they share the machine's network.
func (c *Cluster) proxy() component {
	return c.kubernetes("kube-proxy", "kube-proxy", getOK(fmt.Sprintf("http://127.0.0.1:%d/healthz", layout.ProxyHealthPort)),
		"--config="+c.Paths.Config("kube-proxy.yaml"), "--hostname-override="+c.Paths.Node(1).Name())
}

func (c *Cluster) containerd(node layout.Node) component {
	return component{
		name: node.Component("containerd"), path: "/usr/bin/containerd", grace: 5 * time.Second,
		args:    []string{"containerd", "--config=" + node.Dir("containerd.toml"), "--log-level=warn"},
		healthy: listens("unix", node.Socket()),
	}
}

func (c *Cluster) kubelet(node layout.Node) component {
	return c.kubernetes(node.Component("kubelet"), "kubelet", getOK(fmt.Sprintf("http://127.0.0.1:%d/healthz", node.KubeletHealthPort())),
		"--config="+node.Dir("kubelet.yaml"), "--kubeconfig="+c.Paths.KubeconfigOf(node.Name()),
		"--root-dir="+node.Dir("kubelet"), "--cert-dir="+node.Dir("kubelet-pki"),
		"--hostname-override="+node.Name(), "--node-ip="+node.IP(),
		// For the container metrics of cAdvisor, which would ask the machine's
		// own containerd.
		"--containerd="+node.Socket())
}

func (c *Cluster) coredns() component {
	node := c.Paths.Node(1)
	return component{
		name: "coredns", path: c.Paths.Part("coredns"), grace: 2 * time.Second,
		args:    []string{"coredns", "-conf=" + c.Paths.Config("Corefile")},
		healthy: getOK(fmt.Sprintf("http://%s:%d/ready", node.IP(), layout.DNSReadyPort)),
	}
}

// registry is this program itself, as the registry of the lab's image names: a
// pull of what was not loaded fails at once and the way it does in the world.
func (c *Cluster) registry() component {
	ip := c.Paths.Node(1).IP()
	return component{
		name: "registry", path: c.Paths.Part("lab"), grace: 2 * time.Second,
		args: []string{"lab", "serve-registry",
			"--empty=" + net.JoinHostPort(ip, strconv.Itoa(layout.RegistryPort)),
			"--private=" + net.JoinHostPort(ip, strconv.Itoa(layout.PrivateRegistryPort))},
		healthy: getOK(fmt.Sprintf("http://%s:%d/v2/", ip, layout.RegistryPort)),
	}
}

// provisioner is this program itself, too.
func (c *Cluster) provisioner() component {
	return component{
		name: "provisioner", path: c.Paths.Part("lab"), grace: 2 * time.Second,
		args:    []string{"lab", "serve-volumes", "--kubeconfig=" + c.Paths.KubeconfigOf("provisioner"), "--dir=" + c.Paths.Data("volumes")},
		healthy: func(context.Context) error { return nil },
	}
}

// probe asks the lab's own components for their health. Their certificates are
// self-signed, and nothing is sent that would need protection.
var probe = &http.Client{
	Timeout: 3 * time.Second,
	Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DisableKeepAlives: true,
	},
}

// getOK is healthy when a GET answers 200.
func getOK(url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := probe.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", url, response.Status)
		}
		return nil
	}
}

// listens is healthy when something accepts connections.
func listens(network, address string) func(context.Context) error {
	return func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return err
		}
		return conn.Close()
	}
}

// resolves is healthy when the cluster's DNS answers for the API server's
// Service with the right address, asked the way a pod asks.
func resolves(ctx context.Context) error {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(layout.DNSServiceIP, strconv.Itoa(53)))
	}}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	const name = "kubernetes.default.svc.cluster.local."
	addresses, err := resolver.LookupHost(ctx, name)
	if err != nil {
		return err
	}
	for _, address := range addresses {
		if address == layout.APIServiceIP {
			return nil
		}
	}
	return fmt.Errorf("%s is %v, expected %s", name, addresses, layout.APIServiceIP)
}
