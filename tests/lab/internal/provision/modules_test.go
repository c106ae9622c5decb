package provision

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/modfile"
)

// versions are the modules that a go.mod requires, replacements applied.
func versions(t *testing.T, folder string) map[string]string {
	t.Helper()
	path := filepath.Join("..", "..", folder, "go.mod")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := modfile.Parse(path, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, require := range file.Require {
		found[require.Mod.Path] = require.Mod.Version
	}
	for _, replace := range file.Replace {
		found[replace.Old.Path] = replace.New.Version
	}
	return found
}

// Go compiles a package once for each set of versions below it. With one set, what Kubernetes took minutes for is
// there when CoreDNS and Helm are built: on two cores a cold `make demo` is two minutes shorter.
func TestWhatTheDemoBuildsSharesItsModules(t *testing.T) {
	kubernetes := versions(t, "kubernetes")
	for _, part := range []string{"parts/coredns", "parts/helm"} {
		shared := 0
		for module, version := range versions(t, part) {
			wanted, known := kubernetes[module]
			if !known {
				continue
			}
			shared++
			if wanted != version {
				t.Errorf("%s wants %s %s and kubernetes %s: raise the older one with `go get %s`, then `go mod tidy` in both",
					part, module, version, wanted, module)
			}
		}
		if shared == 0 {
			t.Errorf("%s shares no module with kubernetes: is this the right file?", part)
		}
	}
}
