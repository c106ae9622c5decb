package cluster

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
)

// ErrNotUp is what Status returns when something that should run does not.
var ErrNotUp = errors.New("the lab is not up")

// Status prints components and nodes.
func (c *Cluster) Status(ctx context.Context) error {
	if c.Settings.Version == "" {
		fmt.Fprintf(c.Out, "no lab in %s; start one with `lab up`\n", c.Paths.State)
		return ErrNotUp
	}
	table := tabwriter.NewWriter(c.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "COMPONENT\tPID\tRSS MiB\tSTATE")
	var total int64
	var result error
	for _, comp := range c.components() {
		record, found, err := c.store.Find(comp.name)
		if err != nil {
			return err
		}
		if !found || !record.Alive() {
			state := "stopped"
			if found {
				state = "ended by itself, see " + c.Paths.Log(comp.name)
			}
			fmt.Fprintf(table, "%s\t-\t-\t%s\n", comp.name, state)
			result = ErrNotUp
			continue
		}
		state := "healthy"
		if err := comp.healthy(ctx); err != nil {
			state, result = "unhealthy: "+err.Error(), ErrNotUp
		}
		total += record.RSS()
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\n", comp.name, record.PID, record.RSS()>>20, state)
	}
	fmt.Fprintf(table, "total\t\t%d\t\n", total>>20)
	if err := table.Flush(); err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	nodes, err := client.Nodes(ctx)
	if err != nil {
		fmt.Fprintln(c.Out, "nodes: unknown:", err)
		return ErrNotUp
	}
	for _, node := range nodes {
		ready, why := node.Ready()
		if ready {
			fmt.Fprintf(c.Out, "node %s: Ready\n", node.Metadata.Name)
			continue
		}
		fmt.Fprintf(c.Out, "node %s: not Ready: %s\n", node.Metadata.Name, why)
		result = ErrNotUp
	}
	return result
}
