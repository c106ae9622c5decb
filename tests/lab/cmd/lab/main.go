// Command lab runs a real Kubernetes on this machine for tests: no Docker, no
// registry, all of it built from Go modules, and gone without a trace after
// `lab down`.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"backstop.dev/lab/internal/cluster"
	"backstop.dev/lab/internal/host"
	"backstop.dev/lab/internal/layout"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := errors.Join(layout.Use(os.Getenv("LAB_INSTANCE")), host.Enter()); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
	if err := root(os.Stdout).ExecuteContext(ctx); err != nil {
		// status has said everything already.
		if !errors.Is(err, cluster.ErrNotUp) {
			fmt.Fprintln(os.Stderr, "lab:", err)
		}
		os.Exit(1)
	}
}

// app is what all commands share.
type app struct {
	state string
	out   io.Writer
}

func root(out io.Writer) *cobra.Command {
	a := &app{out: out}
	command := &cobra.Command{
		Use:   "lab",
		Short: "A real Kubernetes on this machine, for tests",
		Long: `lab runs a real Kubernetes on this machine: etcd, API server, controller
manager, scheduler, kube-proxy, CoreDNS, and per node a kubelet and a containerd.

It needs root and Debian. State is in one folder (--state, LAB_STATE, or .lab in
the clone), which ` + "`lab down`" + ` removes together with everything else. All labs use
the same ports and addresses: a further one (LAB_INSTANCE=2, state in .lab-2) is
in a network namespace of its own, where ` + "`lab exec`" + ` runs what has to reach it.

  .lab/kubeconfig        the administrator's kubeconfig
  .lab/audit/audit.log   every write that the API server was asked for
  .lab/log/              the output of each component`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	command.SetOut(out)
	command.PersistentFlags().StringVar(&a.state, "state", "", "folder of all state (default LAB_STATE, or .lab in the clone)")
	command.AddCommand(a.up(), a.down(), a.status(), a.load(), a.image(), a.importArchives(), a.kubectl(), a.helm(), a.exec(), a.serveRegistry(), a.serveVolumes())
	command.AddCommand(a.components()...)
	return command
}

func (a *app) paths() (layout.Paths, error) {
	executable, err := os.Executable()
	if err != nil {
		return layout.Paths{}, err
	}
	return layout.Find(executable, a.state, os.Getenv)
}

// cluster returns the lab as its kept settings describe it.
func (a *app) cluster() (*cluster.Cluster, error) {
	paths, err := a.paths()
	if err != nil {
		return nil, err
	}
	settings, err := cluster.LoadSettings(paths)
	if err != nil {
		return nil, err
	}
	return cluster.New(paths, settings, a.out), nil
}

// running returns the lab and an error when there is none.
func (a *app) running() (*cluster.Cluster, error) {
	c, err := a.cluster()
	if err != nil {
		return nil, err
	}
	if c.Settings.Version == "" {
		return nil, fmt.Errorf("no lab in %s: start one with `lab up`, or name its folder with --state", c.Paths.State)
	}
	return c, nil
}

// locked runs a change of a lab that is there, alone and as root.
func (a *app) locked(change func(*cluster.Cluster) error) error {
	if err := host.ThisMachine().CheckBasics(); err != nil {
		return err
	}
	c, err := a.running()
	if err != nil {
		return err
	}
	unlock, err := c.Lock()
	if err != nil {
		return err
	}
	defer unlock()
	return change(c)
}

func (a *app) up() *cobra.Command {
	var bare, monitoring bool
	var nodes int
	command := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster, or what of it does not run",
		Long: `Start a cluster, or what of it does not run. What is missing is installed and
built first, with make.

A cluster that is up only grows: --nodes and --monitoring add to it, and without
them it stays what it is. With more than one node each has its own kubelet,
containerd, addresses and cgroups, and can fail on its own:

  lab up --nodes 2
  lab stop kubelet-2      # node lab-2 is NotReady after 20 s
  lab start kubelet-2`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := layout.CheckNodes(nodes); err != nil {
				return err
			}
			if err := host.ThisMachine().CheckBasics(); err != nil {
				return err
			}
			c, err := a.cluster()
			if err != nil {
				return err
			}
			unlock, err := c.Lock()
			if err != nil {
				return err
			}
			defer unlock()
			want := cluster.Settings{Version: c.Settings.Version, Nodes: nodes, DNS: !bare, Monitoring: monitoring}
			// The version of a lab that is up stays, unless another is asked for.
			if want.Version == "" || os.Getenv("KUBERNETES_VERSION") != "" {
				if want.Version, err = cluster.KubernetesVersion(c.Paths, os.Getenv); err != nil {
					return err
				}
			}
			if c.Settings, err = cluster.Merge(c.Settings, want); err != nil {
				return err
			}
			return c.Up(cmd.Context())
		},
	}
	command.Flags().IntVar(&nodes, "nodes", 1, "how many nodes")
	command.Flags().BoolVar(&monitoring, "monitoring", false, "also kube-state-metrics, Prometheus and Alertmanager")
	command.Flags().BoolVar(&bare, "bare", false, "no cluster DNS")
	return command
}

func (a *app) down() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End every process of the lab and remove everything it made",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := host.ThisMachine().CheckBasics(); err != nil {
				return err
			}
			c, err := a.cluster()
			if err != nil {
				return err
			}
			if _, err := os.Stat(c.Paths.State); err == nil {
				unlock, err := c.Lock()
				if err != nil {
					return err
				}
				defer unlock()
			}
			if err := c.Down(cmd.Context()); err != nil {
				return err
			}
			return host.Leave()
		},
	}
}

func (a *app) status() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show components with their memory, and nodes; fails unless all is well",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.cluster()
			if err != nil {
				return err
			}
			return c.Status(cmd.Context())
		},
	}
}

func (a *app) components() []*cobra.Command {
	of := func(verb, short string, do func(*cluster.Cluster, context.Context, string) error) *cobra.Command {
		return &cobra.Command{
			Use:   verb + " COMPONENT...",
			Short: short,
			Long: short + `.

Components are named as in ` + "`lab status`" + `: etcd, kube-apiserver, kubelet and so on,
and kubelet-2 or containerd-2 on node lab-2.`,
			Args: cobra.MinimumNArgs(1),
			RunE: func(cmd *cobra.Command, names []string) error {
				return a.locked(func(c *cluster.Cluster) error {
					for _, name := range names {
						if err := do(c, cmd.Context(), name); err != nil {
							return err
						}
					}
					return nil
				})
			},
		}
	}
	return []*cobra.Command{
		of("stop", "Stop components, as if they had failed", (*cluster.Cluster).StopComponent),
		of("start", "Start stopped components and wait until they serve", (*cluster.Cluster).StartComponent),
		of("restart", "Stop components and start them again", (*cluster.Cluster).RestartComponent),
	}
}
