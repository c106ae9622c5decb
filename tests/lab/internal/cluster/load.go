package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"backstop.dev/lab/image"
	"backstop.dev/lab/internal/layout"
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
			_, err := c.images(ctx, node, "import", file)
			return err
		})
	}
	return together(work...)
}

// images runs `ctr images` on a node.
func (c *Cluster) images(ctx context.Context, node layout.Node, args ...string) (string, error) {
	if err := c.awaitHealthy(ctx, c.containerd(node), containerdLimit); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "ctr", append([]string{"--address=" + node.Socket(), "--namespace=k8s.io", "images"}, args...)...)
	cmd.Env = c.environment(nil)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: ctr images %s: %w: %s", node.Name(), args[0], err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// shareImages brings the images of the first node to nodes that joined later:
// there is no registry from which these could pull them.
func (c *Cluster) shareImages(ctx context.Context) error {
	if c.Settings.Nodes == 1 {
		return nil
	}
	first := c.Paths.Node(1)
	listed, err := c.images(ctx, first, "list", "--quiet")
	if err != nil {
		return err
	}
	for _, node := range c.Paths.Nodes(c.Settings.Nodes)[1:] {
		present, err := c.images(ctx, node, "list", "--quiet")
		if err != nil {
			return err
		}
		lacks := lacking(listed, present)
		if len(lacks) == 0 {
			continue
		}
		file := filepath.Join(c.Paths.State, "share.tar")
		if _, err := c.images(ctx, first, append([]string{"export", file}, lacks...)...); err != nil {
			return err
		}
		_, err = c.images(ctx, node, "import", file)
		if err := os.Remove(file); err != nil {
			return err
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lacking returns the image names of one list, a name per line, that are not in
// the other. The runtime also lists images by digest alone; these follow from
// their names.
func lacking(listed, present string) []string {
	have := strings.Fields(present)
	var lacks []string
	for _, name := range strings.Fields(listed) {
		if !strings.HasPrefix(name, "sha256:") && !slices.Contains(have, name) {
			lacks = append(lacks, name)
		}
	}
	return lacks
}
