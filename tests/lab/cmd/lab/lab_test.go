package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"backstop.dev/lab/internal/layout"
)

func TestImagesAreGivenAsNameAndPath(t *testing.T) {
	flags := imageFlags{entrypoint: []string{"/bin/server"}, user: "0:0"}
	specs, err := flags.specs([]string{"backstop.local/shop:dev=.build/shop", "backstop.local/a:1=/x=y"})
	if err != nil {
		t.Fatal(err)
	}
	if specs[0].Ref != "backstop.local/shop:dev" || specs[0].Path != ".build/shop" || specs[0].User != "0:0" {
		t.Errorf("got %+v", specs[0])
	}
	if specs[1].Path != "/x=y" {
		t.Errorf("a path with an equals sign became %q", specs[1].Path)
	}
	for _, wrong := range []string{"", "shop", "=path", "name="} {
		if got, err := flags.specs([]string{wrong}); err == nil {
			t.Errorf("%q was read as %+v", wrong, got)
		}
	}
}

func TestAToolSeesAllFlagsButOurOwnInFront(t *testing.T) {
	for name, test := range map[string]struct {
		args, want []string
		state      string
	}{
		"none":                  {[]string{"get", "pods"}, []string{"get", "pods"}, ""},
		"two words":             {[]string{"--state", "/s", "get"}, []string{"get"}, "/s"},
		"one word":              {[]string{"--state=/s", "get"}, []string{"get"}, "/s"},
		"later it is the tools": {[]string{"get", "--state=/s"}, []string{"get", "--state=/s"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := &app{}
			if got := a.takeState(test.args); !slices.Equal(got, test.want) || a.state != test.state {
				t.Errorf("got %v and state %q, want %v and %q", got, a.state, test.want, test.state)
			}
		})
	}
}

func TestAToolSeesTheLabsKubeconfigAndLeavesNothingInTheCallersHome(t *testing.T) {
	got := toolEnvironment([]string{"A=1", "KUBECONFIG=/production", "HELM_CACHE_HOME=/home/me", "B=2"}, layout.Paths{State: "/lab"})
	for _, want := range []string{"A=1", "B=2", "KUBECONFIG=/lab/kubeconfig", "HELM_CACHE_HOME=/lab/data/helm/cache", "KUBECACHEDIR=/lab/data/kubectl-cache"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not in %v", want, got)
		}
	}
	for _, entry := range got {
		if strings.Contains(entry, "/production") || strings.Contains(entry, "/home/me") {
			t.Errorf("%s is the caller's", entry)
		}
	}
}

func TestWithoutALabTheErrorSaysHowToStartOne(t *testing.T) {
	command := root(&bytes.Buffer{})
	command.SetArgs([]string{"kubectl", "--state", filepath.Join(t.TempDir(), "none"), "get", "pods"})
	if err := command.Execute(); err == nil || !strings.Contains(err.Error(), "lab up") {
		t.Errorf("got %v", err)
	}
}

func TestAPullFailsTheWayItDoesInTheWorld(t *testing.T) {
	for name, test := range map[string]struct {
		handler http.Handler
		want    int
		header  string
	}{
		"a tag that does not exist":      {registry.New(), http.StatusNotFound, ""},
		"a registry that lets nobody in": {http.HandlerFunc(unauthorized), http.StatusUnauthorized, "Www-Authenticate"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(test.handler)
			defer server.Close()
			response, err := http.Get(server.URL + "/v2/shop/manifests/bad?ns=backstop.local")
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if response.StatusCode != test.want {
				t.Errorf("got %s, want %d", response.Status, test.want)
			}
			if test.header != "" && response.Header.Get(test.header) == "" {
				t.Errorf("no header %s in %v", test.header, response.Header)
			}
		})
	}
}
