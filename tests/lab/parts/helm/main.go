// Command helm is Helm 4, built from its Go module so that the lab and the
// demo install the chart with the real tool and need no download besides Go
// modules. It lives in a module of its own because Helm follows a newer
// client-go than the lab's Kubernetes.
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
