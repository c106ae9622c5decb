package admission

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Where the chart goes. Names of policies and accounts are fixed, so a
// cluster holds one release and this one must be the only one.
const (
	system   = "backstop-system"
	release  = "backstop"
	chartDir = "../../helm/backstop"
)

var roles = []string{"controller", "investigator", "executor"}

// helm runs Helm against the cluster under test.
func helm(args ...string) (string, error) {
	program := os.Getenv("HELM")
	if program == "" {
		program, _ = filepath.Abs("../../.build/helm")
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("helm %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func kubeconfig() string {
	if path := os.Getenv("KUBECONFIG"); path != "" {
		return path
	}
	path, _ := filepath.Abs("../../.lab/kubeconfig")
	return path
}

// install puts the chart in with the given enrolled namespaces; with none, in observe mode. Its pods find
// no node: what is tested here are the walls around the accounts, with nobody
// of ours behind them.
func install(namespaces []string) error {
	args := []string{"upgrade", "--install", release, chartDir, "--namespace", system, "--create-namespace",
		// The definitions may be there already, from `kubectl apply -f crds/`.
		"--take-ownership",
		"--set", "audit.ephemeral=true"}
	if len(namespaces) > 0 {
		args = append(args, "--set", "executor.namespaces={"+strings.Join(namespaces, ",")+"}")
	}
	for _, role := range roles {
		args = append(args, "--set-string", role+`.nodeSelector.backstop\.dev/nowhere=true`)
	}
	_, err := helm(args...)
	return err
}

// uninstall leaves the pre-delete Job out: it needs the operator's image, and
// an uninstall must leave nothing frozen without it too.
func uninstall() error {
	_, err := helm("uninstall", release, "--namespace", system, "--no-hooks")
	return err
}

// inForce waits until the executor's readiness self-test passes in a
// namespace: each policy refuses the one dry-run that no other one refuses. The
// guard is not about the executor: it refuses a label that somebody else sets.
func (b *bench) inForce() error {
	for _, policy := range []string{"static", "grant", b.provenance, "guard"} {
		who := b.executor
		if policy == "guard" {
			who = b.admin
		}
		var last answer
		err := eventually("policy backstop-"+policy+" refuses its self-test", func() bool {
			last, _ = who.do(b.selfTest(policy))
			return refusedBy(last) == policy
		})
		if err != nil {
			return fmt.Errorf("%s: %w; last answer: %d %s", b.ns, err, last.code, last.message)
		}
	}
	return nil
}

// selfTest is a dry-run on `other` that the named policy must refuse, and no other.
func (b *bench) selfTest(policy string) request {
	label, _, _ := strings.Cut(policy, "-")
	metadata := object{"labels": object{"backstop.dev/armed": "self-test-" + label}}
	switch policy {
	case "guard":
		// Not the armed label: the grant policy would look at it too, and either may be named.
		metadata = object{"labels": object{"backstop.dev/undo-to": "true"}}
	case "static":
		metadata = object{"annotations": object{"backstop.dev/self-test": "static"}}
	}
	return request{method: "PATCH", kind: mergePatch, path: b.path("other") + manager + "&dryRun=All", body: object{"metadata": metadata}}
}
