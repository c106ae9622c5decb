package cluster

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"backstop.dev/lab/monitoring"
)

// monitor brings kube-state-metrics, Prometheus and Alertmanager into the
// cluster, as pods, and waits until they are ready.
func (c *Cluster) monitor(ctx context.Context) error {
	folder := filepath.Join(c.Paths.Build, "monitoring")
	programs, err := monitoring.Unpack(ctx, folder)
	if err != nil {
		// A machine that never fetched its package lists, or long ago, knows no
		// file to download.
		if out, updateErr := exec.CommandContext(ctx, "apt-get", "update", "--quiet").CombinedOutput(); updateErr != nil {
			return fmt.Errorf("%w\napt-get update: %w: %s", err, updateErr, strings.TrimSpace(string(out)))
		}
		if programs, err = monitoring.Unpack(ctx, folder); err != nil {
			return err
		}
	}
	if err := c.Load(ctx, programs.Images(c.Paths.Part("kube-state-metrics"))...); err != nil {
		return err
	}
	dir := c.Paths.Config("monitoring")
	if err := monitoring.WriteManifests(dir); err != nil {
		return err
	}
	if err := c.kubectl(ctx, nil, "apply", "--server-side", "--kustomize="+dir); err != nil {
		return err
	}
	kubelets := map[string]string{}
	for _, node := range c.Paths.Nodes(c.Settings.Nodes) {
		kubelets[node.Name()] = net.JoinHostPort(node.IP(), strconv.Itoa(node.KubeletPort()))
	}
	targets, err := monitoring.Targets(kubelets)
	if err != nil {
		return err
	}
	if err := c.kubectl(ctx, targets, "apply", "--server-side", "--filename=-"); err != nil {
		return err
	}
	var work []func() error
	for _, name := range monitoring.Deployments {
		work = append(work, func() error {
			return c.kubectl(ctx, nil, "--namespace=monitoring", "rollout", "status", "deployment/"+name, "--timeout=3m")
		})
	}
	return together(work...)
}

// kubectl runs kubectl as the administrator.
func (c *Cluster) kubectl(ctx context.Context, input []byte, args ...string) error {
	cmd := exec.CommandContext(ctx, c.Paths.Kubernetes(c.Settings.Version))
	cmd.Args = append([]string{"kubectl", "--kubeconfig=" + c.Paths.KubeconfigOf("super-admin")}, args...)
	cmd.Env = c.environment(nil)
	cmd.Dir = os.TempDir()
	cmd.Stdin = bytes.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
