package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"backstop.dev/lab/image"
)

// Load builds images and imports them into every node.
func (c *Cluster) Load(ctx context.Context, specs ...image.Spec) error {
	dir, err := os.MkdirTemp(c.Paths.State, "load-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for i, spec := range specs {
		built, err := image.Build(spec)
		if err != nil {
			return err
		}
		file := filepath.Join(dir, fmt.Sprintf("%d.tar", i))
		if err := built.WriteArchiveFile(file); err != nil {
			return err
		}
		if err := c.Import(ctx, file); err != nil {
			return fmt.Errorf("cannot load %s: %w", spec.Ref, err)
		}
	}
	return nil
}

// Import imports an image archive into every node.
func (c *Cluster) Import(ctx context.Context, file string) error {
	var work []func() error
	for _, node := range c.Paths.Nodes(c.Settings.Nodes) {
		work = append(work, func() error {
			if err := c.awaitHealthy(ctx, c.containerd(node), containerdLimit); err != nil {
				return err
			}
			cmd := exec.CommandContext(ctx, "ctr", "--address="+node.Socket(), "--namespace=k8s.io", "images", "import", file)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: ctr images import: %w: %s", node.Name(), err, strings.TrimSpace(string(out)))
			}
			return nil
		})
	}
	return together(work...)
}
