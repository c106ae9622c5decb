package main

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"backstop.dev/lab/internal/cluster"
	"backstop.dev/lab/internal/layout"
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

func (a *app) exec() *cobra.Command {
	return &cobra.Command{
		Use:                "exec PROGRAM ...",
		Short:              "Run a program in the lab's network, with its kubeconfig",
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			args = a.takeState(args)
			if len(args) == 0 {
				return errors.New("exec needs a program")
			}
			c, err := a.running()
			if err != nil {
				return err
			}
			path, err := exec.LookPath(args[0])
			if err != nil {
				return err
			}
			return syscall.Exec(path, args, toolEnvironment(os.Environ(), c.Paths))
		},
	}
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
			return syscall.Exec(path, append([]string{name}, args...), toolEnvironment(os.Environ(), c.Paths))
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

// toolEnvironment is the caller's environment, with the lab's kubeconfig in place
// of the caller's, and caches in the state folder in place of the caller's home.
func toolEnvironment(environment []string, p layout.Paths) []string {
	own := [][2]string{
		{"KUBECONFIG", p.Kubeconfig()},
		{"KUBECACHEDIR", p.Data("kubectl-cache")},
		{"HELM_CACHE_HOME", p.Data("helm/cache")},
		{"HELM_CONFIG_HOME", p.Data("helm/config")},
		{"HELM_DATA_HOME", p.Data("helm/data")},
	}
	var result []string
	for _, entry := range environment {
		name, _, _ := strings.Cut(entry, "=")
		if !slices.ContainsFunc(own, func(o [2]string) bool { return o[0] == name }) {
			result = append(result, entry)
		}
	}
	for _, o := range own {
		result = append(result, o[0]+"="+o[1])
	}
	return result
}
