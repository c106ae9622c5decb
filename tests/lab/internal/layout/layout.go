// Package layout knows where the lab keeps its files, and the addresses and
// ports that it takes on the machine.
//
// All state is in one folder, except what must have a short or well-known path
// (sockets, cgroups): that is under RunDir and carries the lab's own name.
package layout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// What a lab takes on the machine under a name of its own; Use chooses it.
var (
	// RunDir holds sockets. A Unix socket's path is limited to 107 bytes, and
	// the state folder may be deep in somebody's home.
	RunDir = "/run/backstop-lab"
	// Cgroup is the parent of each node's cgroups.
	Cgroup = "backstop-lab"
	// NetworkPrefix begins the CNI network names of the lab's nodes.
	NetworkPrefix = "backstop-lab-"
	// Namespace is the network namespace that the lab is in; empty for the
	// machine's own.
	Namespace string
	// stateFolder is its state folder in the clone.
	stateFolder = ".lab"
)

// Use is called before anything else. A lab with an instance is a further one
// beside that without: its addresses and ports are the same, in a network
// namespace of its own.
func Use(instance string) error {
	if instance == "" {
		return nil
	}
	if len(instance) != 1 || instance < "2" || instance > "9" {
		return fmt.Errorf("LAB_INSTANCE=%s: a further lab is one of 2 to 9", instance)
	}
	// No name begins with that of another lab and what follows it there.
	RunDir += instance
	Cgroup += instance
	NetworkPrefix = Cgroup + "-"
	Namespace = Cgroup
	stateFolder += "-" + instance
	return nil
}

// What the lab takes on the machine beside that. The values are its own so
// that a containerd, Docker or Kubernetes of the machine is not disturbed; they
// are the same for every clone, which is why only one lab can be up at a time
// in a network.
const (
	// Chain is the iptables chain that lets pods reach the outside.
	Chain = "BACKSTOP-LAB"
	// Bridge carries the nodes' addresses. No pod is attached to it: a bridge
	// is merely the one virtual interface that every container host can make.
	Bridge = "bslab0"

	ServiceCIDR = "10.96.0.0/16"
	PodCIDR     = "10.244.0.0/16"
	// APIServiceIP is the ClusterIP of the Service `kubernetes`.
	APIServiceIP = "10.96.0.1"
	// DNSServiceIP is what pods find in their resolv.conf.
	DNSServiceIP = "10.96.0.10"

	APIServerPort         = 17443
	EtcdClientPort        = 17379
	EtcdPeerPort          = 17380
	ControllerManagerPort = 17257
	SchedulerPort         = 17259
	ProxyHealthPort       = 17256
	ProxyMetricsPort      = 17249
	DNSPort               = 17053
	DNSHealthPort         = 17054
	DNSReadyPort          = 17055
	DNSMetricsPort        = 17056
	// RegistryPort is of a registry that has no image, PrivateRegistryPort of
	// one that lets nobody in.
	RegistryPort        = 17500
	PrivateRegistryPort = 17501

	// MaxNodes is bounded by the port plan of Node.
	MaxNodes = 5
)

// Paths are the folders of one lab.
type Paths struct {
	// Source is the clone: where `make` is run to build what is missing.
	Source string
	// Build holds binaries.
	Build string
	// State holds everything that `lab down` removes.
	State string
}

// Find returns the folders of the lab whose binary is executable: it lies in
// CLONE/.build, and the state beside it. LAB_SOURCE, LAB_BUILD and LAB_STATE,
// or the flag --state, say otherwise.
func Find(executable, stateFlag string, getenv func(string) string) (Paths, error) {
	build := firstOf(getenv("LAB_BUILD"), filepath.Dir(executable))
	source := firstOf(getenv("LAB_SOURCE"), filepath.Dir(build))
	state := firstOf(stateFlag, getenv("LAB_STATE"), filepath.Join(source, stateFolder))
	p := Paths{Source: source, Build: build, State: state}
	for _, dir := range []*string{&p.Source, &p.Build, &p.State} {
		absolute, err := filepath.Abs(*dir)
		if err != nil {
			return Paths{}, err
		}
		*dir = absolute
	}
	if p.State == "/" || p.State == p.Source {
		return Paths{}, fmt.Errorf("the state folder may not be %s: `lab down` removes it whole; choose another with --state or LAB_STATE", p.State)
	}
	return p, nil
}

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

func (p Paths) in(parts ...string) string {
	return filepath.Join(append([]string{p.State}, parts...)...)
}

// Kubeconfig is the administrator's.
func (p Paths) Kubeconfig() string { return p.in("kubeconfig") }

// Kubeconfigs is the folder of the components' kubeconfigs.
func (p Paths) Kubeconfigs() string { return p.in("kubeconfigs") }

// KubeconfigOf is the kubeconfig of one component.
func (p Paths) KubeconfigOf(name string) string { return p.in("kubeconfigs", name+".conf") }

// PKI is the folder of certificates and keys.
func (p Paths) PKI(parts ...string) string { return p.in(append([]string{"pki"}, parts...)...) }

// Config is the folder of rendered configuration files.
func (p Paths) Config(name string) string { return p.in("config", name) }

// Data is the folder in which a component keeps its data.
func (p Paths) Data(name string) string { return p.in("data", name) }

// AuditLog is the API server's audit log; its rotated files lie beside it.
func (p Paths) AuditLog() string { return p.in("audit", "audit.log") }

// Log is the output of one component.
func (p Paths) Log(name string) string { return p.in("log", name+".log") }

// Records is the folder of process records.
func (p Paths) Records() string { return p.in("run") }

// RecordsCopy is a second copy of the process records: with it a lab whose
// state folder was deleted while it ran can still be ended.
func (p Paths) RecordsCopy() string { return filepath.Join(RunDir, "processes") }

// SettingsFile records what the lab was asked to be.
func (p Paths) SettingsFile() string { return p.in("lab.json") }

// HostFiles record what the machine was like before the lab: one survives a
// restart of the machine, the other the loss of the state folder.
func (p Paths) HostFiles() []string {
	return []string{p.in("host.json"), filepath.Join(RunDir, "host.json")}
}

// OwnerFile names the state folder of the lab that is up on this machine.
func OwnerFile() string { return filepath.Join(RunDir, "owner") }

// Kubernetes is the binary that is every Kubernetes program.
func (p Paths) Kubernetes(version string) string {
	return filepath.Join(p.Build, "kubernetes-"+version, "kubernetes")
}

// Part is a binary that is built when first needed.
func (p Paths) Part(name string) string { return filepath.Join(p.Build, name) }

// Node is one node: node 1 is there always, the others with `--nodes`.
type Node struct {
	paths Paths
	// Number counts from 1.
	Number int
}

// Node returns the node with this number.
func (p Paths) Node(number int) Node { return Node{p, number} }

// Nodes returns the first count nodes.
func (p Paths) Nodes(count int) []Node {
	nodes := make([]Node, count)
	for i := range nodes {
		nodes[i] = p.Node(i + 1)
	}
	return nodes
}

// Network names the node's CNI network.
func (n Node) Network() string { return NetworkPrefix + strconv.Itoa(n.Number) }

// Name is the name of the Node object.
func (n Node) Name() string { return "lab-" + strconv.Itoa(n.Number) }

// Component names the node's own instance of a component: `kubelet` on node 1,
// `kubelet-2` on node 2.
func (n Node) Component(name string) string {
	if n.Number == 1 {
		return name
	}
	return name + "-" + strconv.Itoa(n.Number)
}

// IP is the node's address on the lab's own interface, so that the cluster
// does not depend on the machine's network.
func (n Node) IP() string { return fmt.Sprintf("172.30.243.%d", n.Number) }

// PodCIDR is the range of the node's pods.
func (n Node) PodCIDR() string { return fmt.Sprintf("10.244.%d.0/24", n.Number) }

// KubeletPort is where the API server reaches the kubelet.
func (n Node) KubeletPort() int { return 17300 + 10*n.Number }

// KubeletHealthPort is the kubelet's own health endpoint.
func (n Node) KubeletHealthPort() int { return n.KubeletPort() + 1 }

// RunDir holds the node's sockets and containerd's runtime state.
func (n Node) RunDir() string { return filepath.Join(RunDir, "node-"+strconv.Itoa(n.Number)) }

// Socket is where the node's containerd listens.
func (n Node) Socket() string { return filepath.Join(n.RunDir(), "containerd.sock") }

// Dir is a folder of the node in the state folder.
func (n Node) Dir(name string) string {
	return n.paths.in("node-"+strconv.Itoa(n.Number), name)
}

// Cgroup is the node's own cgroup, below which are only its pods.
func (n Node) Cgroup() string { return Cgroup + "/node-" + strconv.Itoa(n.Number) }

// CheckNodes tells whether the lab can have so many nodes.
func CheckNodes(count int) error {
	if count < 1 || count > MaxNodes {
		return errors.New("--nodes must be between 1 and " + strconv.Itoa(MaxNodes))
	}
	return nil
}

// Ensure makes the folders that several components write to.
func (p Paths) Ensure() error {
	for _, dir := range []string{p.in("log"), p.in("audit"), p.in("config"), p.in("data"), p.Records(), p.Kubeconfigs(), RunDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}
