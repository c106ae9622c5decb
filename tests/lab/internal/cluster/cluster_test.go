package cluster

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"backstop.dev/lab/internal/layout"
)

func TestAClusterOnlyGrows(t *testing.T) {
	one := Settings{Version: "v1.34.4", Nodes: 1, DNS: true}
	full := Settings{Version: "v1.34.4", Nodes: 3, DNS: true, Monitoring: true}
	bare := Settings{Version: "v1.34.4", Nodes: 1}
	for name, test := range map[string]struct{ have, want, result Settings }{
		"from nothing":       {Settings{}, one, one},
		"the same again":     {one, one, one},
		"more is added":      {one, full, full},
		"less removes none":  {full, bare, full},
		"bare gets its DNS":  {bare, one, one},
		"bare after it does": {one, bare, one},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := Merge(test.have, test.want); err != nil || got != test.result {
				t.Errorf("got %+v, %v, want %+v", got, err, test.result)
			}
		})
	}
}

func TestAClusterDoesNotChangeItsVersion(t *testing.T) {
	_, err := Merge(Settings{Version: "v1.34.4", Nodes: 1}, Settings{Version: "v1.35.0", Nodes: 1})
	if err == nil || !strings.Contains(err.Error(), "lab down") {
		t.Errorf("got %v, want an error that says what to do", err)
	}
}

func TestTheVersionIsThatOfGoModUnlessToldOtherwise(t *testing.T) {
	for name, test := range map[string]struct {
		goMod, environment, want string // want empty: an error
	}{
		"one requirement":       {"module m\n\nrequire k8s.io/kubernetes v1.34.4\n", "", "v1.34.4"},
		"a block":               {"require (\n\tk8s.io/klog/v2 v2.1.0\n\tk8s.io/kubernetes v1.35.2\n)\n", "", "v1.35.2"},
		"the environment wins":  {"require k8s.io/kubernetes v1.34.4\n", "v1.33.1", "v1.33.1"},
		"without the v":         {"require k8s.io/kubernetes v1.34.4\n", "1.33.1", ""},
		"no requirement":        {"module m\n", "", ""},
		"only something nearby": {"require k8s.io/kubernetes-csi v1.0.0\n", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			source := t.TempDir()
			dir := filepath.Join(source, "tests/lab/kubernetes")
			if err := os.MkdirAll(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(test.goMod), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := KubernetesVersion(layout.Paths{Source: source}, func(string) string { return test.environment })
			if got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
		})
	}
}

func names(s Settings) []string {
	var found []string
	for _, comp := range New(layout.Paths{State: "/state", Build: "/build"}, s, io.Discard).components() {
		found = append(found, comp.name)
	}
	return found
}

func TestEachNodeAddsItsOwnKubeletAndContainerd(t *testing.T) {
	one := names(Settings{Version: "v1.34.4", Nodes: 1, DNS: true})
	two := names(Settings{Version: "v1.34.4", Nodes: 2, DNS: true})
	for _, name := range []string{"kubelet-2", "containerd-2"} {
		if slices.Contains(one, name) || !slices.Contains(two, name) {
			t.Errorf("%s is in %v and %v", name, one, two)
		}
	}
	if len(two) != len(one)+2 {
		t.Errorf("two nodes have the components %v, one node %v", two, one)
	}
}

func TestNothingButTheDNSIsMissingFromABareCluster(t *testing.T) {
	full := names(Settings{Version: "v1.34.4", Nodes: 1, DNS: true})
	bare := names(Settings{Version: "v1.34.4", Nodes: 1})
	if want := slices.DeleteFunc(full, func(name string) bool { return name == "coredns" }); !slices.Equal(bare, want) {
		t.Errorf("got %v, want %v", bare, want)
	}
}

func TestAnUnknownComponentIsAnErrorThatNamesThoseThatExist(t *testing.T) {
	_, err := New(layout.Paths{State: "/state"}, Settings{Nodes: 1}, io.Discard).find("kubelet-2")
	if err == nil || !strings.Contains(err.Error(), "kube-apiserver") {
		t.Errorf("got %v", err)
	}
}

func TestOnlyImagesThatANodeLacksAreCopiedAndByNameOnly(t *testing.T) {
	got := lacking("backstop.local/pause:1\nbackstop.local/shop:dev\nsha256:1234\n", "backstop.local/pause:1\nsha256:9\n")
	if want := []string{"backstop.local/shop:dev"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTheEndOfALogIsShown(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, []byte("a\nb\nc\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for lines, want := range map[int]string{1: "c", 2: "b\nc", 9: "a\nb\nc"} {
		if got := tail(file, lines); got != want {
			t.Errorf("%d lines: got %q, want %q", lines, got, want)
		}
	}
}
