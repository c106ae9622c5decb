package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"backstop.dev/lab/internal/layout"
)

// sysctls that Kubernetes changes on a machine.
var sysctls = []string{
	"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/route_localnet",
	"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes",
}

// wellKnown are folders that Kubernetes and containerd make outside the state
// folder, with no option against it. Deeper ones come later.
var wellKnown = []string{
	"/var/lib/kubelet", "/var/lib/kubelet/device-plugins", "/var/lib/kubelet/pod-resources",
	"/var/log/containers", "/var/lib/cni", "/var/lib/cni/results", "/var/lib/cni/networks", "/var/run/netns",
	"/run/containerd", "/run/containerd/s", "/run/containerd/fifo", "/run/containerd/runc", "/run/containerd/runc/k8s.io",
	"/run/runc", "/opt/containerd", "/etc/cni", "/etc/cni/net.d", "/etc/kubernetes", "/etc/kubernetes/manifests",
	"/usr/libexec/kubernetes", "/usr/libexec/kubernetes/kubelet-plugins", "/usr/libexec/kubernetes/kubelet-plugins/volume",
	"/usr/libexec/kubernetes/kubelet-plugins/volume/exec",
}

// Before is what the machine was like before the lab.
type Before struct {
	Sysctls map[string]string `json:"sysctls"`
	// Absent are the well-known folders that did not exist.
	Absent []string `json:"absent"`
}

// Look records what the lab is about to change.
func Look() (Before, error) {
	before := Before{Sysctls: map[string]string{}}
	for _, name := range sysctls {
		value, err := os.ReadFile(filepath.Join("/proc/sys", name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return before, err
		}
		before.Sysctls[name] = strings.TrimSpace(string(value))
	}
	for _, dir := range wellKnown {
		if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
			before.Absent = append(before.Absent, dir)
		}
	}
	return before, nil
}

// Keep returns the record in the first of the files that has one, or else what
// the machine is like now, and makes sure that all files have it. The first look
// is the true one: later ones see the lab's own changes.
func Keep(files []string) (Before, error) {
	before, found, err := LoadBefore(files)
	if err != nil {
		return before, err
	}
	if !found {
		if before, err = Look(); err != nil {
			return before, err
		}
	}
	data, err := json.MarshalIndent(before, "", "  ")
	if err != nil {
		return before, err
	}
	for _, file := range files {
		if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
			return before, err
		}
	}
	return before, nil
}

// LoadBefore reads the record from the first of the files that is there.
func LoadBefore(files []string) (before Before, found bool, err error) {
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return Before{}, false, err
		}
		if err := json.Unmarshal(data, &before); err != nil {
			return Before{}, false, fmt.Errorf("%s: %w", file, err)
		}
		return before, true, nil
	}
	return Before{}, false, nil
}

// Restore sets the kernel settings back and removes what was left in the
// well-known folders: the kubelet's sockets, links to logs in the state folder,
// and the folders that did not exist and are empty.
func (b Before) Restore(state string) error {
	for name, value := range b.Sysctls {
		file := filepath.Join("/proc/sys", name)
		now, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(now)) == value {
			continue
		}
		if err := os.WriteFile(file, []byte(value), 0o644); err != nil {
			return err
		}
	}
	if err := removeLinksInto("/var/log/containers", state); err != nil {
		return err
	}
	// Left by pods that were not removed in order.
	if err := removeDeadSockets("/run/containerd/s"); err != nil {
		return err
	}
	if err := removeNetworkResults("/var/lib/cni/results"); err != nil {
		return err
	}
	for i := len(b.Absent) - 1; i >= 0; i-- {
		dir := b.Absent[i]
		for _, leftover := range []string{"kubelet.sock", "DEPRECATION", "kubelet_internal_checkpoint"} {
			if err := os.Remove(filepath.Join(dir, leftover)); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
				return err
			}
		}
		if err := syscall.Rmdir(dir); err != nil && err != syscall.ENOENT && err != syscall.ENOTEMPTY && err != syscall.EEXIST && err != syscall.ENOTDIR {
			return err
		}
	}
	return nil
}

// removeDeadSockets removes the sockets in a folder at which nobody listens. The
// names of shims' sockets are hashes that do not tell whose they were.
func removeDeadSockets(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		socket := filepath.Join(dir, entry.Name())
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
			continue
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			continue
		}
		if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeNetworkResults removes what the CNI library remembers of the lab's pods:
// NETWORK-SANDBOX-eth0, and for each sandbox one of the loopback, whose network
// has the same name everywhere.
func removeNetworkResults(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, layout.NetworkPrefix+"*"))
	if err != nil {
		return err
	}
	for _, file := range files {
		parts := strings.Split(filepath.Base(file), "-")
		loopback := filepath.Join(dir, "cni-loopback-"+parts[max(0, len(parts)-2)]+"-lo")
		for _, name := range []string{file, loopback} {
			if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// removeLinksInto removes the symbolic links in a folder that point into state.
func removeLinksInto(dir, state string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		link := filepath.Join(dir, entry.Name())
		target, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(target, state+"/") {
			continue
		}
		if err := os.Remove(link); err != nil {
			return err
		}
	}
	return nil
}
