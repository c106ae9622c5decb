package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"backstop.dev/lab/internal/layout"
)

// Settings are what the lab was asked to be. They are kept, so that `lab up`
// without flags and `lab start` mean the same cluster.
type Settings struct {
	// Version of Kubernetes, such as v1.34.4.
	Version string `json:"version"`
	// Nodes is how many nodes there are.
	Nodes int `json:"nodes"`
	// DNS is whether CoreDNS runs.
	DNS bool `json:"dns"`
	// Monitoring is whether kube-state-metrics, Prometheus and Alertmanager run.
	Monitoring bool `json:"monitoring"`
}

// Merge returns what a cluster that is `have` becomes when `want` is asked for.
// A cluster only grows: a test that needs one node is happy with two.
func Merge(have, want Settings) (Settings, error) {
	if have.Version == "" {
		return want, nil
	}
	if have.Version != want.Version {
		return Settings{}, fmt.Errorf("the lab's state is of Kubernetes %s, %s was asked for: run `lab down` first", have.Version, want.Version)
	}
	return Settings{
		Version: have.Version, Nodes: max(have.Nodes, want.Nodes),
		DNS: have.DNS || want.DNS, Monitoring: have.Monitoring || want.Monitoring,
	}, nil
}

// LoadSettings returns the kept settings; zero when there is no lab.
func LoadSettings(p layout.Paths) (Settings, error) {
	data, err := os.ReadFile(p.SettingsFile())
	if errors.Is(err, os.ErrNotExist) {
		return Settings{}, nil
	}
	if err != nil {
		return Settings{}, err
	}
	var s Settings
	if err := json.Unmarshal(data, &s); err != nil {
		return Settings{}, fmt.Errorf("%s: %w", p.SettingsFile(), err)
	}
	return s, nil
}

func (s Settings) save(p layout.Paths) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(p.SettingsFile(), append(data, '\n'), 0o644)
}

var requirement = regexp.MustCompile(`(?m)^\s*(?:require\s+)?k8s\.io/kubernetes (v\d+\.\d+\.\d+)\b`)

// KubernetesVersion is KUBERNETES_VERSION, or else the version that the go.mod
// of tests/lab/kubernetes requires.
func KubernetesVersion(p layout.Paths, getenv func(string) string) (string, error) {
	if version := getenv("KUBERNETES_VERSION"); version != "" {
		if !regexp.MustCompile(`^v\d+\.\d+\.\d+$`).MatchString(version) {
			return "", fmt.Errorf("KUBERNETES_VERSION is %q, expected one like v1.34.4", version)
		}
		return version, nil
	}
	file := filepath.Join(p.Source, "tests/lab/kubernetes/go.mod")
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("cannot tell the Kubernetes version: %w; set LAB_SOURCE to the clone, or KUBERNETES_VERSION", err)
	}
	found := requirement.FindSubmatch(data)
	if found == nil {
		return "", fmt.Errorf("%s does not require k8s.io/kubernetes", file)
	}
	return string(found[1]), nil
}
