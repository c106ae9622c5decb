package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"backstop.dev/lab/internal/host"
	"backstop.dev/lab/internal/layout"
	"backstop.dev/lab/internal/process"
)

const containerdLimit = 30 * time.Second

// Down ends every process of the lab and removes everything that it made.
func (c *Cluster) Down(ctx context.Context) error {
	owner, err := readOwner()
	if err != nil {
		return err
	}
	if owner != "" && owner != c.Paths.State {
		// The copies under RunDir belong to the other lab.
		c.store = process.Store{Dirs: []string{c.Paths.Records()}}
		if !exists(c.Paths.SettingsFile()) {
			fmt.Fprintf(c.Out, "no lab is up in %s (the one that is up has its state in %s)\n", c.Paths.State, owner)
			return nil
		}
	}
	records, err := c.store.Load()
	if err != nil {
		return err
	}
	if owner == "" && len(records) == 0 && !exists(c.Paths.SettingsFile()) {
		fmt.Fprintln(c.Out, "no lab is up")
		return nil
	}
	begin := time.Now()
	// First the kubelets, which would start again what is removed next.
	if err := c.stopAll(ctx, records, "kubelet"); err != nil {
		return err
	}
	if owner == c.Paths.State {
		if err := c.removePods(ctx); err != nil {
			// Not the end: what is left of them is removed the hard way below.
			fmt.Fprintln(c.Out, "pods could not be removed in order:", err)
		}
	}
	for _, prefix := range []string{"", "etcd"} {
		if err := c.stopAll(ctx, records, prefix); err != nil {
			return err
		}
	}
	if owner == c.Paths.State {
		if err := c.clearMachine(); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(c.Paths.State); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "the lab is gone after %.1f s\n", time.Since(begin).Seconds())
	return nil
}

// stopAll ends the recorded processes whose name begins with the prefix; with
// no prefix, all but etcd.
func (c *Cluster) stopAll(ctx context.Context, records []process.Record, prefix string) error {
	var work []func() error
	for _, r := range records {
		if !strings.HasPrefix(r.Name, prefix) || (prefix == "" && r.Name == "etcd") {
			continue
		}
		work = append(work, func() error {
			if err := r.Stop(ctx, 5*time.Second); err != nil {
				return err
			}
			return c.store.Delete(r.Name)
		})
	}
	return together(work...)
}

// removePods has each node's containerd remove its pods, with their networks
// and mounts.
func (c *Cluster) removePods(ctx context.Context) error {
	var work []func() error
	for _, node := range c.Paths.Nodes(max(1, c.Settings.Nodes)) {
		record, found, err := c.store.Find(node.Component("containerd"))
		if err != nil {
			return err
		}
		if !found || !record.Alive() {
			continue
		}
		work = append(work, func() error {
			ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
			defer cancel()
			_, err := c.command(ctx, "remove-pods", "unix://"+node.Socket())
			return err
		})
	}
	return together(work...)
}

// clearMachine removes what is outside the state folder.
func (c *Cluster) clearMachine() error {
	var sockets []string
	for _, node := range c.Paths.Nodes(layout.MaxNodes) {
		sockets = append(sockets, node.Socket())
	}
	if err := host.KillShims(sockets); err != nil {
		return err
	}
	if err := host.CgroupDown(); err != nil {
		return fmt.Errorf("cannot remove the lab's cgroups: %w", err)
	}
	if err := host.Unmount(layout.RunDir, c.Paths.State); err != nil {
		return err
	}
	before, _, err := host.LoadBefore(c.Paths.HostFiles())
	if err != nil {
		return err
	}
	return errors.Join(host.NetworkDown(), before.Restore(c.Paths.State), os.RemoveAll(layout.RunDir))
}
