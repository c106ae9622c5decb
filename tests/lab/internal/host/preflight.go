// Package host prepares the machine for the lab and later returns it to what
// it was: network, cgroups, mounts, kernel settings.
package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Packages are the Debian packages without which there is no node.
var Packages = []string{"containerd", "runc", "containernetworking-plugins", "iptables", "conntrack"}

// kindHint is the way for everybody whom the lab cannot serve.
const kindHint = "Where that is not possible but Docker is there, use kind instead: add CLUSTER=kind to the make target, e.g. `make test CLUSTER=kind`."

// Machine is what the checks look at.
type Machine struct {
	UID       int
	OSRelease string
	// Installed tells whether a Debian package is installed.
	Installed func(string) bool
}

// ThisMachine looks at the machine that the command runs on.
func ThisMachine() Machine {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		release = nil
	}
	return Machine{UID: os.Geteuid(), OSRelease: string(release), Installed: installed}
}

func installed(name string) bool {
	out, err := exec.Command("dpkg-query", "-W", "-f=${Status}", name).Output()
	return err == nil && strings.HasSuffix(string(out), " ok installed")
}

// CheckBasics returns an error that names what the machine lacks and cannot be
// installed: root, Debian.
func (m Machine) CheckBasics() error {
	var lacks []string
	if m.UID != 0 {
		lacks = append(lacks, fmt.Sprintf("it must run as root (containers, network and mounts), but runs as user %d: use `sudo`", m.UID))
	}
	if !m.isDebian() {
		lacks = append(lacks, "it needs Debian 12 or a system derived from it, for the packages "+strings.Join(Packages, ", "))
	}
	if len(lacks) == 0 {
		return nil
	}
	return errors.New("this machine cannot run the lab: " + strings.Join(lacks, "; ") + ".\n" + kindHint)
}

// Missing returns the packages among the wanted that are not installed.
func (m Machine) Missing(wanted []string) []string {
	var missing []string
	for _, name := range wanted {
		if !m.Installed(name) {
			missing = append(missing, name)
		}
	}
	return missing
}

func (m Machine) isDebian() bool {
	for line := range strings.Lines(m.OSRelease) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key != "ID" && key != "ID_LIKE" {
			continue
		}
		for _, id := range strings.Fields(strings.Trim(value, `"`)) {
			if id == "debian" {
				return true
			}
		}
	}
	return false
}
