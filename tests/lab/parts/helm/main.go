// Command helm is Helm 4, built from its Go module so that the lab and the
// demo install the chart with the real tool and need no download besides Go
// modules. It is a module of its own so that only targets that need Helm build
// it. What it shares with the lab's Kubernetes it has in the same version, and
// Helm is the newest that takes that: Go compiles those packages once.
package main

import (
	"errors"
	"fmt"
	"os"

	// Credential plugins, so that CLUSTER=current works with any kubeconfig.
	_ "k8s.io/client-go/plugin/pkg/client/auth"

	"helm.sh/helm/v4/pkg/cmd"
	"helm.sh/helm/v4/pkg/kube"
)

func main() {
	// Helm derives its field manager from the name of the binary; fixing it
	// keeps managedFields the same wherever the binary is put.
	kube.ManagedFieldsManager = "helm"

	root, err := cmd.NewRootCmd(os.Stdout, os.Args[1:], cmd.SetupLogging)
	if err != nil {
		fmt.Fprintln(os.Stderr, "helm:", err)
		os.Exit(1)
	}
	if err := root.Execute(); err != nil {
		var exit cmd.CommandError
		if errors.As(err, &exit) {
			os.Exit(exit.ExitCode)
		}
		os.Exit(1)
	}
}
