package monitoring

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"backstop.dev/lab/image"
)

// unpack keeps the programs between runs, where the lab looks for them, too.
func unpack(t *testing.T) Programs {
	t.Helper()
	programs, err := Unpack(t.Context(), "../../../.build/monitoring")
	if err != nil {
		t.Fatal(err)
	}
	return programs
}

func TestTheConfigurationIsAcceptedAndTheAlertsFireAsDescribed(t *testing.T) {
	dir := t.TempDir()
	if err := WriteManifests(dir); err != nil {
		t.Fatal(err)
	}
	config, programs := filepath.Join(dir, "config"), unpack(t)
	for _, check := range [][]string{
		{"promtool", "check", "config", "--syntax-only", "prometheus.yml"},
		{"promtool", "check", "rules", "rules.yml"},
		{"promtool", "test", "rules", "rules_test.yml"},
		{"amtool", "check-config", "alertmanager.yml"},
	} {
		command := exec.CommandContext(t.Context(), programs.Path(check[0]), check[1:]...)
		command.Dir = config
		if out, err := command.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", strings.Join(check, " "), err, out)
		}
	}
}

func TestTheManifestsNameTheImagesThatAreMade(t *testing.T) {
	for _, spec := range unpack(t).Images(unpack(t).Path("promtool")) {
		name := strings.TrimSuffix(strings.TrimPrefix(spec.Ref, "backstop.local/"), ":dev")
		manifest, err := manifests.ReadFile(name + ".yaml")
		if err != nil || !strings.Contains(string(manifest), "image: "+spec.Ref) {
			t.Errorf("%s.yaml does not use %s (%v)", name, spec.Ref, err)
		}
		if _, err := image.Build(spec); err != nil {
			t.Errorf("%s: %v", spec.Ref, err)
		}
	}
}

func TestKubeletTargetsAreAConfigMapWithAFileOfTargets(t *testing.T) {
	object, err := Targets(map[string]string{"node-1": "10.0.0.1:10250"})
	if err != nil {
		t.Fatal(err)
	}
	var configMap struct{ Data map[string]string }
	if err := json.Unmarshal(object, &configMap); err != nil {
		t.Fatal(err)
	}
	if got, want := configMap.Data["kubelets.json"], `[{"targets":["10.0.0.1:10250"],"labels":{"node":"node-1"}}]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := Targets(nil); err == nil {
		t.Error("no kubelets, no error: Prometheus would silently scrape nothing")
	}
}

func TestAFailedDownloadSaysWhatToDo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := Unpack(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "apt-get update") {
		t.Errorf("got %v", err)
	}
	dir := t.TempDir()
	if _, err := Unpack(t.Context(), dir); err == nil {
		t.Error("a second attempt succeeded without a download")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
