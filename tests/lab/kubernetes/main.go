// Command kubernetes is every Kubernetes program that the lab runs, and etcd,
// in one binary: the name it is called by chooses the program, as busybox does.
// One binary links the shared code once, which saves minutes of build time and
// a gigabyte of disk.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubeadm "k8s.io/kubernetes/cmd/kubeadm/app/cmd"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// programs maps the name of each program to the function that runs it and
// returns its exit code.
var programs = map[string]func() int{
	"etcd": func() int { etcdmain.Main(os.Args); return 0 },
	"kube-apiserver": func() int {
		return run(apiserver.NewAPIServerCommand())
	},
	"kube-controller-manager": func() int {
		return run(controllermanager.NewControllerManagerCommand())
	},
	"kube-scheduler": func() int {
		return run(scheduler.NewSchedulerCommand())
	},
	"kube-proxy": func() int {
		return run(proxy.NewProxyCommand())
	},
	"remove-pods": func() int { return removePods(os.Args[1:]) },
	"kubelet": func() int {
		return run(kubelet.NewKubeletCommand(context.Background()))
	},
	"kubeadm": func() int {
		return run(kubeadm.NewKubeadmCommand(os.Stdin, os.Stdout, os.Stderr))
	},
	"kubectl": func() int {
		// kubectl prints its own errors, in the words that users know.
		if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
			kubectlutil.CheckErr(err)
		}
		return 0
	},
}

func run(c *cobra.Command) int { return cli.Run(c) }

// choose returns the program to run and the arguments it shall see. A program
// is chosen by the name of the binary, or by the first argument when the
// binary goes by another name.
func choose(args []string) (string, []string) {
	name := filepath.Base(args[0])
	if _, known := programs[name]; known || len(args) == 1 {
		return name, args
	}
	return args[1], args[1:]
}

func main() {
	name, args := choose(os.Args)
	program, known := programs[name]
	if !known {
		names := make([]string, 0, len(programs))
		for n := range programs {
			names = append(names, n)
		}
		slices.Sort(names)
		fmt.Fprintf(os.Stderr, "%q is not a program of this binary; call it as one of: %s\n", name, strings.Join(names, ", "))
		os.Exit(2)
	}
	os.Args = args
	os.Exit(program())
}
