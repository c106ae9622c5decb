package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"backstop.dev/lab/image"
	"backstop.dev/lab/internal/cluster"
)

// imageFlags say what an image is like beyond its name and its content.
type imageFlags struct {
	entrypoint []string
	user       string
	env        []string
}

func (f *imageFlags) register(command *cobra.Command) {
	command.Flags().StringSliceVar(&f.entrypoint, "entrypoint", nil, "what the container runs (default: the binary; needed for a folder)")
	command.Flags().StringVar(&f.user, "user", "", "user and group, numeric (default "+image.NonRoot+")")
	command.Flags().StringArrayVar(&f.env, "env", nil, "NAME=value in the container's environment; may be repeated")
}

// specs reads arguments of the form NAME=PATH.
func (f *imageFlags) specs(args []string) ([]image.Spec, error) {
	specs := make([]image.Spec, 0, len(args))
	for _, arg := range args {
		name, path, ok := strings.Cut(arg, "=")
		if !ok || name == "" || path == "" {
			return nil, fmt.Errorf("%q is not NAME=PATH, such as backstop.local/shop:dev=.build/shop", arg)
		}
		specs = append(specs, image.Spec{Ref: name, Path: path, Entrypoint: f.entrypoint, User: f.user, Env: f.env})
	}
	return specs, nil
}

func (a *app) load() *cobra.Command {
	var flags imageFlags
	command := &cobra.Command{
		Use:   "load NAME=PATH...",
		Short: "Make images from binaries or folders and import them into every node",
		Example: `  lab load backstop.local/shop:dev=.build/shop
  lab load backstop.local/site:1=./site --entrypoint=/bin/server`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			specs, err := flags.specs(args)
			if err != nil {
				return err
			}
			return a.locked(func(c *cluster.Cluster) error {
				if err := c.Load(cmd.Context(), specs...); err != nil {
					return err
				}
				for _, spec := range specs {
					fmt.Fprintf(a.out, "loaded %s into %d node(s)\n", spec.Ref, c.Settings.Nodes)
				}
				return nil
			})
		},
	}
	flags.register(command)
	return command
}

func (a *app) image() *cobra.Command {
	var flags imageFlags
	var output string
	command := &cobra.Command{
		Use:     "image NAME=PATH --output FILE",
		Short:   "Write an image of a binary or folder as an archive; needs neither root nor a cluster",
		Example: `  lab image backstop.local/backstop:dev=target/release/backstop --output .build/backstop.tar`,
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			specs, err := flags.specs(args)
			if err != nil {
				return err
			}
			built, err := image.Build(specs[0])
			if err != nil {
				return err
			}
			if err := built.WriteArchiveFile(output); err != nil {
				return err
			}
			fmt.Fprintf(a.out, "wrote %s as %s\n", built.Ref(), output)
			return nil
		},
	}
	flags.register(command)
	command.Flags().StringVarP(&output, "output", "o", "", "the archive to write")
	if err := command.MarkFlagRequired("output"); err != nil {
		panic(err)
	}
	return command
}

func (a *app) importArchives() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE...",
		Short: "Import image archives (OCI or docker save) into every node",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, files []string) error {
			return a.locked(func(c *cluster.Cluster) error {
				for _, file := range files {
					if err := c.Import(cmd.Context(), file); err != nil {
						return err
					}
					fmt.Fprintf(a.out, "imported %s into %d node(s)\n", file, c.Settings.Nodes)
				}
				return nil
			})
		},
	}
}
