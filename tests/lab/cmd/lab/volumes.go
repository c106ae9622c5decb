package main

import (
	"github.com/spf13/cobra"

	"backstop.dev/lab/internal/kube"
	"backstop.dev/lab/internal/provision"
)

// serveVolumes is the component `provisioner`.
func (a *app) serveVolumes() *cobra.Command {
	var kubeconfig, dir string
	command := &cobra.Command{
		Use:    "serve-volumes",
		Short:  "Give PersistentVolumeClaims folders of this machine",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			api, err := kube.FromKubeconfig(kubeconfig)
			if err != nil {
				return err
			}
			return provision.Provisioner{API: api, Dir: dir}.Run(cmd.Context())
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "the provisioner's kubeconfig")
	command.Flags().StringVar(&dir, "dir", "", "folder of the volumes")
	return command
}
