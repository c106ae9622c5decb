// Package monitoring brings real metrics and alerts into a lab cluster:
// kube-state-metrics, Prometheus and Alertmanager as pods in the namespace
// monitoring. This folder is at the same time a kustomization, so that
// `kubectl apply -k` works on any cluster that has the images.
package monitoring

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"backstop.dev/lab/image"
)

//go:embed *.yaml config
var manifests embed.FS

// debianPackages are downloaded and unpacked, never installed: installing them
// would create users and start services on the machine.
var debianPackages = []string{"prometheus", "prometheus-alertmanager"}

// Programs is a folder with Debian's Prometheus and Alertmanager unpacked.
type Programs struct{ root string }

// Unpack downloads and unpacks the programs into dir unless they are there.
func Unpack(ctx context.Context, dir string) (Programs, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return Programs{}, err
	}
	programs := Programs{root: filepath.Join(dir, "root")}
	if programs.complete() {
		return programs, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Programs{}, err
	}
	fresh, err := os.MkdirTemp(dir, "unpack-*")
	if err != nil {
		return Programs{}, err
	}
	defer os.RemoveAll(fresh)

	download := exec.CommandContext(ctx, "apt-get", append([]string{"download", "--quiet"}, debianPackages...)...)
	download.Dir = fresh
	if out, err := download.CombinedOutput(); err != nil {
		return Programs{}, fmt.Errorf("monitoring: cannot download the Debian packages %v: %w: run `apt-get update` and try again\n%s", debianPackages, err, out)
	}
	packages, err := filepath.Glob(filepath.Join(fresh, "*.deb"))
	if err != nil {
		return Programs{}, err
	}
	for _, file := range packages {
		extract := exec.CommandContext(ctx, "dpkg-deb", "--extract", file, filepath.Join(fresh, "root"))
		if out, err := extract.CombinedOutput(); err != nil {
			return Programs{}, fmt.Errorf("monitoring: cannot unpack %s: %w\n%s", filepath.Base(file), err, out)
		}
	}
	if !(Programs{root: filepath.Join(fresh, "root")}).complete() {
		return Programs{}, fmt.Errorf("monitoring: the Debian packages %v lack a program that is expected in them", debianPackages)
	}
	if err := os.RemoveAll(programs.root); err != nil {
		return Programs{}, err
	}
	return programs, os.Rename(filepath.Join(fresh, "root"), programs.root)
}

// Path is where a program, such as promtool, was unpacked.
func (p Programs) Path(program string) string { return filepath.Join(p.root, "usr/bin", program) }

// templates are the files without which Alertmanager does not start.
var templates = []string{
	"/usr/share/prometheus/alertmanager/default.tmpl",
	"/usr/share/prometheus/alertmanager/email.tmpl",
}

func (p Programs) complete() bool {
	files := []string{p.Path("prometheus"), p.Path("promtool"), p.Path("prometheus-alertmanager"), p.Path("amtool")}
	for _, template := range templates {
		files = append(files, filepath.Join(p.root, template))
	}
	for _, file := range files {
		if _, err := os.Stat(file); err != nil {
			return false
		}
	}
	return true
}

// Images says how to make the images that the manifests name; the binary of
// kube-state-metrics is built from tests/lab/parts.
func (p Programs) Images(kubeStateMetrics string) []image.Spec {
	further := map[string]string{}
	for _, template := range templates {
		further[template] = filepath.Join(p.root, template)
	}
	return []image.Spec{
		{Ref: "backstop.local/kube-state-metrics:dev", Path: kubeStateMetrics},
		{Ref: "backstop.local/prometheus:dev", Path: p.Path("prometheus")},
		{Ref: "backstop.local/alertmanager:dev", Path: p.Path("prometheus-alertmanager"), Files: further},
	}
}

// WriteManifests writes the kustomization to dir, ready for `kubectl apply -k`.
func WriteManifests(dir string) error {
	return fs.WalkDir(manifests, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(dir, filepath.FromSlash(file))
		if d.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		content, err := manifests.ReadFile(file)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	})
}

// Deployments are what is ready when monitoring is up.
var Deployments = []string{"kube-state-metrics", "prometheus", "alertmanager"}

// Targets is the ConfigMap that tells Prometheus where the kubelets listen:
// node name to address and port. It is separate from the kustomization because
// only the cluster knows.
func Targets(kubelets map[string]string) ([]byte, error) {
	type target struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	if len(kubelets) == 0 {
		return nil, errors.New("monitoring: no kubelets to scrape were given")
	}
	targets := make([]target, 0, len(kubelets))
	for node, address := range kubelets {
		targets = append(targets, target{Targets: []string{address}, Labels: map[string]string{"node": node}})
	}
	list, err := json.Marshal(targets)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"apiVersion": "v1",
		"kind":       "ConfigMap",
		"metadata":   map[string]string{"name": "prometheus-targets", "namespace": "monitoring"},
		"data":       map[string]string{"kubelets.json": string(list)},
	})
}
