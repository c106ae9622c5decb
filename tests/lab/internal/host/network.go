package host

import (
	"fmt"
	"os/exec"
	"strings"

	"backstop.dev/lab/internal/layout"
)

// run runs a command and returns an error with its output.
func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

func succeeds(name string, args ...string) bool {
	return exec.Command(name, args...).Run() == nil
}

// rule is an iptables rule without -A or -D.
type rule struct {
	table, chain string
	spec         []string
	first        bool // before the rules that are there already
}

// rules let pods reach the outside and be reached, also where the machine
// forwards nothing by default (Docker sets that policy).
//
// What is addressed to a Service and was not sent on to a pod must end here:
// kube-proxy changes one table after the other, and in the moment between them
// a connection would leave the machine, where anything may answer it.
func rules() []rule {
	return []rule{
		{"nat", layout.Chain, []string{"-s", layout.PodCIDR, "!", "-d", layout.PodCIDR, "-j", "MASQUERADE"}, false},
		{"nat", "POSTROUTING", []string{"-j", layout.Chain}, false},
		{"filter", layout.Chain, []string{"-d", layout.ServiceCIDR, "-j", "REJECT"}, true},
		{"filter", layout.Chain, []string{"-s", layout.PodCIDR, "-j", "ACCEPT"}, false},
		{"filter", layout.Chain, []string{"-d", layout.PodCIDR, "-j", "ACCEPT"}, false},
		// Before whatever the machine's own chains reject.
		{"filter", "FORWARD", []string{"-j", layout.Chain}, true},
	}
}

// ForeignProxy returns an error when another kube-proxy manages this machine's
// iptables: both would write the same chains.
func ForeignProxy() error {
	if succeeds("iptables", "-w", "-t", "nat", "-S", "KUBE-SERVICES") {
		return fmt.Errorf("the iptables of this machine already have the chain KUBE-SERVICES: another Kubernetes runs here, or one that ended without cleaning up.\n" +
			"Stop it; if none runs, remove its chains with `iptables-save | grep -v KUBE- | iptables-restore`, then try again")
	}
	return nil
}

// NetworkUp makes the interface with the nodes' addresses and the rules; doing
// it twice changes nothing.
func NetworkUp(nodes []layout.Node) error {
	if !succeeds("ip", "link", "show", layout.Bridge) {
		if err := run("ip", "link", "add", layout.Bridge, "type", "bridge"); err != nil {
			return err
		}
	}
	if err := run("ip", "link", "set", layout.Bridge, "up"); err != nil {
		return err
	}
	for _, node := range nodes {
		if err := run("ip", "addr", "replace", node.IP()+"/32", "dev", layout.Bridge); err != nil {
			return err
		}
	}
	for _, table := range []string{"nat", "filter"} {
		if !succeeds("iptables", "-w", "-t", table, "-S", layout.Chain) {
			if err := run("iptables", "-w", "-t", table, "-N", layout.Chain); err != nil {
				return err
			}
		}
	}
	for _, r := range rules() {
		args := append([]string{"-w", "-t", r.table, "-C", r.chain}, r.spec...)
		if succeeds("iptables", args...) {
			continue
		}
		args[3] = "-A"
		if r.first {
			args[3] = "-I"
		}
		if err := run("iptables", args...); err != nil {
			return err
		}
	}
	return nil
}

// NetworkDown removes the interface and all chains of the lab, of kube-proxy,
// of the kubelet and of the CNI's port mapping.
func NetworkDown() error {
	if succeeds("ip", "link", "show", layout.Bridge) {
		if err := run("ip", "link", "delete", layout.Bridge); err != nil {
			return err
		}
	}
	for _, family := range []string{"iptables", "ip6tables"} {
		dump, err := exec.Command(family + "-save").Output()
		if err != nil {
			return fmt.Errorf("%s-save: %w", family, err)
		}
		script := removal(string(dump), ours)
		if script == "" {
			continue
		}
		restore := exec.Command(family+"-restore", "-w", "--noflush")
		restore.Stdin = strings.NewReader(script)
		if out, err := restore.CombinedOutput(); err != nil {
			return fmt.Errorf("cannot remove the lab's chains with %s-restore: %w: %s", family, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// ours tells whether a chain was made by or for the lab.
func ours(chain string) bool {
	return chain == layout.Chain || strings.HasPrefix(chain, "KUBE-") ||
		strings.HasPrefix(chain, "CNI-HOSTPORT-") || strings.HasPrefix(chain, "CNI-DN-") || strings.HasPrefix(chain, "CNI-SN-")
}

// removal returns the input of iptables-restore that removes the chains for
// which drop is true, and the rules elsewhere that jump to them, given the
// output of iptables-save. It is empty when there is nothing to remove.
func removal(dump string, drop func(chain string) bool) string {
	var script strings.Builder
	var flush, jumps, deletes []string
	table := ""
	for line := range strings.Lines(dump) {
		line = strings.TrimRight(line, "\n")
		switch {
		case strings.HasPrefix(line, "*"):
			table = line
			flush, jumps, deletes = nil, nil, nil
		case strings.HasPrefix(line, ":"):
			if chain, _, _ := strings.Cut(line[1:], " "); drop(chain) {
				// Declaring a chain flushes it.
				flush = append(flush, ":"+chain+" - [0:0]")
				deletes = append(deletes, "-X "+chain)
			}
		case strings.HasPrefix(line, "-A "):
			fields := strings.Fields(line)
			if len(fields) > 1 && !drop(fields[1]) && drop(jumpTarget(fields)) {
				jumps = append(jumps, "-D "+strings.TrimPrefix(line, "-A "))
			}
		case line == "COMMIT" && len(deletes) > 0:
			script.WriteString(strings.Join(append(append(append([]string{table}, flush...), jumps...), deletes...), "\n"))
			script.WriteString("\nCOMMIT\n")
		}
	}
	return script.String()
}

// jumpTarget returns where a rule jumps to, "" if nowhere.
func jumpTarget(fields []string) string {
	for i := len(fields) - 2; i >= 0; i-- {
		if fields[i] == "-j" || fields[i] == "-g" {
			return fields[i+1]
		}
	}
	return ""
}
