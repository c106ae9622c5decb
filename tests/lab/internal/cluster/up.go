package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"backstop.dev/lab/image"
	"backstop.dev/lab/internal/config"
	"backstop.dev/lab/internal/host"
	"backstop.dev/lab/internal/layout"
	"backstop.dev/lab/internal/process"
)

// Up brings the cluster to what the settings say; what is there already stays.
// The caller has checked that the machine is one that can run it.
func (c *Cluster) Up(ctx context.Context) error {
	begin := time.Now()
	if err := c.own(ctx); err != nil {
		return err
	}
	built, err := c.prepareMachine(ctx)
	if err != nil {
		return err
	}
	if built > time.Second {
		fmt.Fprintf(c.Out, "installed and built what was missing in %.0f s\n", built.Seconds())
	}
	startBegin := time.Now()
	if err := c.Paths.Ensure(); err != nil {
		return err
	}
	if err := c.Settings.save(c.Paths); err != nil {
		return err
	}
	if _, err := host.Keep(c.Paths.HostFiles()); err != nil {
		return err
	}
	nodes := c.Paths.Nodes(c.Settings.Nodes)
	if err := host.NetworkUp(nodes); err != nil {
		return err
	}
	for _, node := range nodes {
		if err := host.CgroupUp(node.Cgroup()); err != nil {
			return fmt.Errorf("cannot make the cgroup of %s: %w", node.Name(), err)
		}
	}
	if err := c.render(); err != nil {
		return err
	}
	if err := c.credentials(ctx); err != nil {
		return err
	}
	if err := c.startAll(ctx); err != nil {
		return err
	}
	what, err := c.awaitReady(ctx)
	if err != nil {
		return err
	}
	if c.Settings.Monitoring {
		if err := c.monitor(ctx); err != nil {
			return err
		}
		what += ", monitoring ready"
	}
	fmt.Fprintf(c.Out, "Kubernetes %s with %d node(s): %s after %.1f s", c.Settings.Version, c.Settings.Nodes, what, time.Since(startBegin).Seconds())
	if built > time.Second {
		fmt.Fprintf(c.Out, " (%.0f s with installing and building)", time.Since(begin).Seconds())
	}
	fmt.Fprintf(c.Out, "\nkubeconfig: %s\naudit log:  %s\n", c.Paths.Kubeconfig(), c.Paths.AuditLog())
	return nil
}

// prepareMachine has make install and build what is missing, and returns how
// long that took.
func (c *Cluster) prepareMachine(ctx context.Context) (time.Duration, error) {
	machine := host.ThisMachine()
	targets := []string{"lab-deps", "lab-kubernetes", "KUBERNETES_VERSION=" + c.Settings.Version}
	complete := len(machine.Missing(host.Packages)) == 0 && exists(c.Paths.Kubernetes(c.Settings.Version))
	for _, part := range c.parts() {
		targets = append(targets, "lab-"+part)
		complete = complete && exists(c.Paths.Part(part))
	}
	// In a clone make is asked always: it also sees what is out of date.
	if complete && !exists(filepath.Join(c.Paths.Source, "make/lab.mk")) {
		return 0, nil
	}
	begin := time.Now()
	err := Make(ctx, c.Paths, c.Out, targets...)
	return time.Since(begin), err
}

// parts are the binaries that this cluster needs besides Kubernetes; make knows
// how to build each as lab-NAME.
func (c *Cluster) parts() []string {
	parts := []string{"pause"}
	if c.Settings.DNS {
		parts = append(parts, "coredns")
	}
	if c.Settings.Monitoring {
		parts = append(parts, "kube-state-metrics")
	}
	return parts
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// own takes the machine for this lab, or says which lab has it.
func (c *Cluster) own(ctx context.Context) error {
	owner, err := readOwner()
	if err != nil {
		return err
	}
	if owner == c.Paths.State && !exists(c.Paths.SettingsFile()) {
		// What runs has certificates that nobody has any more.
		fmt.Fprintln(c.Out, "the state folder was deleted while the lab was up; ending what is left of it")
		left := New(c.Paths, Settings{Version: c.Settings.Version, Nodes: layout.MaxNodes}, c.Out)
		if err := left.Down(ctx); err != nil {
			return err
		}
		owner = ""
	}
	if owner != "" && owner != c.Paths.State {
		records, err := (process.Store{Dirs: []string{c.Paths.RecordsCopy()}}).Load()
		if err != nil {
			return err
		}
		for _, r := range records {
			if r.Alive() {
				return fmt.Errorf("another lab is up on this machine, with its state in %s, and both would use the same ports and network.\n"+
					"End it first: lab down --state %s", owner, owner)
			}
		}
		// Its processes are gone (a reboot, for one); what they left is removed
		// here, because no other command will.
		if err := New(layout.Paths{State: owner}, Settings{}, c.Out).clearMachine(); err != nil {
			return err
		}
		owner = ""
	}
	if owner == "" {
		if err := host.ForeignProxy(); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(layout.RunDir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(layout.OwnerFile(), []byte(c.Paths.State+"\n"), 0o644)
}

// render writes all configuration files.
func (c *Cluster) render() error {
	values := config.For(c.Paths, c.Paths.Node(1), c.Settings.Version)
	resolvConf, err := machineResolvConf()
	if err != nil {
		return err
	}
	values.Nameservers = config.Nameservers(resolvConf)
	for _, name := range []string{"audit-policy.yaml", "kube-proxy.yaml", "resolv.conf", "Corefile"} {
		if err := config.Write(c.Paths.Config(name), name, values); err != nil {
			return err
		}
	}
	for _, registry := range config.Registries {
		values.Registry = registry
		file := filepath.Join(c.Paths.Config("registries"), registry.Name, "hosts.toml")
		if err := config.Write(file, "hosts.toml", values); err != nil {
			return err
		}
	}
	for _, node := range c.Paths.Nodes(c.Settings.Nodes) {
		values.Node = node
		for file, name := range map[string]string{
			c.kubeadmConfig(node):                             "kubeadm.yaml",
			node.Dir("containerd.toml"):                       "containerd.toml",
			node.Dir("kubelet.yaml"):                          "kubelet.yaml",
			filepath.Join(node.Dir("cni"), "10-lab.conflist"): "cni.conflist",
		} {
			if err := config.Write(file, name, values); err != nil {
				return err
			}
		}
		for _, dir := range []string{node.RunDir(), node.Dir("kubelet"), node.Dir("pod-logs")} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cluster) kubeadmConfig(node layout.Node) string {
	return c.Paths.Config("kubeadm-" + node.Name() + ".yaml")
}

// machineResolvConf prefers the true servers over systemd-resolved's stub,
// which listens on the machine's loopback and so not for pods.
func machineResolvConf() (string, error) {
	for _, file := range []string{"/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"} {
		data, err := os.ReadFile(file)
		if err == nil {
			return string(data), nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}

// credentials has kubeadm make certificates and kubeconfigs, those that are
// not there yet.
func (c *Cluster) credentials(ctx context.Context) error {
	first := c.kubeadmConfig(c.Paths.Node(1))
	if !exists(c.Paths.PKI("sa.key")) {
		if _, err := c.command(ctx, "kubeadm", "init", "phase", "certs", "all", "--config="+first); err != nil {
			return err
		}
	}
	var work []func() error
	for _, phase := range []string{"admin", "super-admin", "controller-manager", "scheduler"} {
		if !exists(c.Paths.KubeconfigOf(phase)) {
			work = append(work, func() error {
				_, err := c.command(ctx, "kubeadm", "init", "phase", "kubeconfig", phase, "--config="+first, "--kubeconfig-dir="+c.Paths.Kubeconfigs())
				return err
			})
		}
	}
	for _, node := range c.Paths.Nodes(c.Settings.Nodes) {
		work = append(work, c.userKubeconfig(ctx, node.Name(), "system:node:"+node.Name(), "system:nodes"))
	}
	work = append(work,
		c.userKubeconfig(ctx, "kube-proxy", "system:kube-proxy", ""),
		c.userKubeconfig(ctx, "provisioner", "backstop-lab:provisioner", ""))
	if c.Settings.DNS {
		work = append(work, c.userKubeconfig(ctx, "coredns", "system:coredns", ""))
	}
	if err := together(work...); err != nil {
		return err
	}
	admin, err := os.ReadFile(c.Paths.KubeconfigOf("admin"))
	if err != nil {
		return err
	}
	return os.WriteFile(c.Paths.Kubeconfig(), admin, 0o600)
}

// userKubeconfig makes the kubeconfig of a user of the cluster.
func (c *Cluster) userKubeconfig(ctx context.Context, name, user, group string) func() error {
	return func() error {
		file := c.Paths.KubeconfigOf(name)
		if exists(file) {
			return nil
		}
		args := []string{"kubeadm", "kubeconfig", "user", "--client-name=" + user, "--validity-period=87600h", "--config=" + c.kubeadmConfig(c.Paths.Node(1))}
		if group != "" {
			args = append(args, "--org="+group)
		}
		out, err := c.command(ctx, args...)
		if err != nil {
			return err
		}
		return os.WriteFile(file, out, 0o600)
	}
}

// together runs functions side by side and returns all their errors.
func together(work ...func() error) error {
	failures := make([]error, len(work))
	var group sync.WaitGroup
	for i, f := range work {
		group.Go(func() { failures[i] = f() })
	}
	group.Wait()
	return errors.Join(failures...)
}

// startAll starts what does not run, in two waves: what the API server needs
// and what needs the API server.
func (c *Cluster) startAll(ctx context.Context) error {
	const limit = 2 * time.Minute
	var late []component
	var early []func() error
	for _, comp := range c.components() {
		name, _, _ := strings.Cut(comp.name, "-")
		if name != "etcd" && name != "containerd" && comp.name != "kube-apiserver" {
			late = append(late, comp)
			continue
		}
		// The API server waits for etcd by itself.
		if _, err := c.start(ctx, comp); err != nil {
			return err
		}
		early = append(early, func() error { return c.awaitHealthy(ctx, comp, limit) })
	}
	if err := c.loadPause(ctx); err != nil {
		return err
	}
	if err := c.shareImages(ctx); err != nil {
		return err
	}
	if err := together(early...); err != nil {
		return err
	}
	if err := c.applyBasics(ctx); err != nil {
		return err
	}
	var healthy []func() error
	for _, comp := range late {
		if _, err := c.start(ctx, comp); err != nil {
			return err
		}
		healthy = append(healthy, func() error { return c.awaitHealthy(ctx, comp, limit) })
	}
	return together(healthy...)
}

// applyBasics applies the objects that a cluster has before anything else.
func (c *Cluster) applyBasics(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	names := []string{"rbac.yaml", "storage.yaml"}
	if c.Settings.DNS {
		names = append(names, "dns.yaml")
	}
	values := config.For(c.Paths, c.Paths.Node(1), c.Settings.Version)
	for _, name := range names {
		manifest, err := config.Render(name, values)
		if err != nil {
			return err
		}
		if err := client.Apply(ctx, manifest); err != nil {
			return fmt.Errorf("cannot apply %s: %w", name, err)
		}
	}
	return nil
}

// loadPause imports the image of every pod's sandbox.
func (c *Cluster) loadPause(ctx context.Context) error {
	return c.Load(ctx, image.Spec{Ref: config.PauseImage, Path: c.Paths.Part("pause")})
}

// awaitReady waits until pods can be started and find Services, and returns
// what it waited for.
func (c *Cluster) awaitReady(ctx context.Context) (string, error) {
	client, err := c.client()
	if err != nil {
		return "", err
	}
	why := ""
	err = poll(ctx, 2*time.Minute, func() (bool, error) {
		if err := client.Exists(ctx, "/api/v1/namespaces/default/serviceaccounts/default"); err != nil {
			why = "the default ServiceAccount: " + err.Error()
			return false, nil
		}
		nodes, err := client.Nodes(ctx)
		if err != nil {
			why = err.Error()
			return false, nil
		}
		ready := 0
		for _, node := range nodes {
			ok, message := node.Ready()
			if ok {
				ready++
			} else {
				why = node.Metadata.Name + ": " + message
			}
		}
		if len(nodes) < c.Settings.Nodes {
			why = fmt.Sprintf("%d of %d nodes registered", len(nodes), c.Settings.Nodes)
		}
		return ready == c.Settings.Nodes, nil
	})
	if err != nil {
		return "", fmt.Errorf("the cluster is not ready: %s (%w); see the logs in %s", why, err, filepath.Dir(c.Paths.Log("any")))
	}
	if !c.Settings.DNS {
		return "node Ready", nil
	}
	err = poll(ctx, time.Minute, func() (bool, error) {
		err := resolves(ctx)
		if err != nil {
			why = err.Error()
		}
		return err == nil, nil
	})
	if err != nil {
		return "", fmt.Errorf("the cluster's DNS does not answer at %s: %s; see %s", layout.DNSServiceIP, why, c.Paths.Log("coredns"))
	}
	return "node Ready and DNS answering", nil
}

// digest is a digest of everything that a component is started with: program,
// flags and the configuration files that the flags name.
func (c *Cluster) digest(comp component) (string, error) {
	program, err := os.Stat(comp.path)
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	fmt.Fprintf(hash, "%q %d %d %q %q\n", comp.path, program.Size(), program.ModTime().UnixNano(), comp.args, comp.env)
	for _, arg := range comp.args {
		_, file, ok := strings.Cut(arg, "=")
		if !ok || !c.rendered(file) {
			continue
		}
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		hash.Write(data)
	}
	return hex.EncodeToString(hash.Sum(nil))[:16], nil
}

// rendered tells whether a file is a configuration file that the lab wrote.
func (c *Cluster) rendered(file string) bool {
	if filepath.Dir(file) == filepath.Dir(c.Paths.Config("x")) {
		return true
	}
	for _, node := range c.Paths.Nodes(c.Settings.Nodes) {
		if filepath.Dir(file) == node.Dir("") {
			return strings.HasSuffix(file, ".yaml") || strings.HasSuffix(file, ".toml")
		}
	}
	return false
}
