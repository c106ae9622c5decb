package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"backstop.dev/lab/internal/layout"
)

// inside says in the environment that the process is in the lab's network
// namespace already.
const inside = "LAB_NETNS"

// outward is an interface that leads nowhere: with it the namespace has the
// default route from which the kubelet and kube-proxy learn their address.
const outward = "bslabout"

// Enter has the process go on in the lab's network namespace, which it makes if
// there is none and the lab is to come up. It returns where there is none.
func Enter() error {
	name := layout.Namespace
	if name == "" || os.Getenv(inside) == name {
		return nil
	}
	if err := ThisMachine().CheckBasics(); err != nil {
		return err
	}
	if _, err := os.Stat("/run/netns/" + name); errors.Is(err, os.ErrNotExist) {
		if len(os.Args) < 2 || os.Args[1] != "up" {
			return nil
		}
		for _, args := range [][]string{
			{"netns", "add", name},
			{"-n", name, "link", "set", "lo", "up"},
			{"-n", name, "link", "add", outward, "type", "bridge"},
			{"-n", name, "addr", "add", "192.0.2.1/24", "dev", outward},
			{"-n", name, "link", "set", outward, "up"},
			{"-n", name, "route", "add", "default", "dev", outward},
		} {
			if err := run("ip", args...); err != nil {
				return err
			}
		}
	}
	nsenter, err := exec.LookPath("nsenter")
	if err != nil {
		return fmt.Errorf("a further lab needs nsenter, of Debian's util-linux: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := append([]string{"nsenter", "--net=/run/netns/" + name, self}, os.Args[1:]...)
	return syscall.Exec(nsenter, args, append(os.Environ(), inside+"="+name))
}

// Leave removes the lab's network namespace. What is still in it, the caller
// among it, stays there until it ends.
func Leave() error {
	if layout.Namespace == "" || os.Getenv(inside) == "" {
		return nil
	}
	return run("ip", "netns", "delete", layout.Namespace)
}
