// Command kube-state-metrics is the lab's source of metrics about Kubernetes
// objects, built from its Go module. It takes the usual flags, except that it
// does not reload its configuration when a file changes.
package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"k8s.io/kube-state-metrics/v2/pkg/app"
	"k8s.io/kube-state-metrics/v2/pkg/options"
)

func main() {
	opts := options.NewOptions()
	command := options.InitCommand
	command.Run = func(_ *cobra.Command, _ []string) {
		if err := app.RunKubeStateMetricsWrapper(context.Background(), opts); err != nil {
			klog.ErrorS(err, "kube-state-metrics failed")
			klog.FlushAndExit(klog.ExitFlushTimeout, 1)
		}
	}
	opts.AddFlags(command)
	if err := opts.Parse(); err != nil {
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
	if err := opts.Validate(); err != nil {
		klog.ErrorS(err, "invalid flags")
		os.Exit(1)
	}
}
