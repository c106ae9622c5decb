package main

import (
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"backstop.dev/lab/internal/cluster"
)

func (a *app) kubectl() *cobra.Command {
	return a.tool("kubectl", "Run kubectl against the lab", func(c *cluster.Cluster, _ *cobra.Command) (string, error) {
		return c.Paths.Kubernetes(c.Settings.Version), nil
	})
}

func (a *app) helm() *cobra.Command {
	return a.tool("helm", "Run Helm against the lab; it is built when first used", func(c *cluster.Cluster, cmd *cobra.Command) (string, error) {
		helm := c.Paths.Part("helm")
		if _, err := os.Stat(helm); err == nil {
			return helm, nil
		}
		return helm, cluster.Make(cmd.Context(), c.Paths, os.Stderr, "lab-helm")
	})
}

// tool is a command that becomes another program, with the lab's kubeconfig.
// All flags are that program's, except --state before the tool's name.
func (a *app) tool(name, short string, find func(*cluster.Cluster, *cobra.Command) (string, error)) *cobra.Command {
	return &cobra.Command{
		Use:                name + " ...",
		Short:              short,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			args = a.takeState(args)
			c, err := a.running()
			if err != nil {
				return err
			}
			path, err := find(c, cmd)
			if err != nil {
				return err
			}
			return syscall.Exec(path, append([]string{name}, args...), withKubeconfig(os.Environ(), c.Paths.Kubeconfig()))
		},
	}
}

// takeState takes our own flag out of the front of a tool's arguments: cobra
// hands over everything when it is told not to parse flags.
func (a *app) takeState(args []string) []string {
	switch {
	case len(args) >= 2 && args[0] == "--state":
		a.state = args[1]
		return args[2:]
	case len(args) >= 1 && strings.HasPrefix(args[0], "--state="):
		a.state = strings.TrimPrefix(args[0], "--state=")
		return args[1:]
	}
	return args
}

// withKubeconfig replaces KUBECONFIG in an environment.
func withKubeconfig(environment []string, file string) []string {
	kept := make([]string, 0, len(environment)+1)
	for _, entry := range environment {
		if !strings.HasPrefix(entry, "KUBECONFIG=") {
			kept = append(kept, entry)
		}
	}
	return append(kept, "KUBECONFIG="+file)
}
