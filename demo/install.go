package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// install installs Backstop with Helm, with write rights in the demo's
// namespaces and nowhere else.
func (d *demo) install(ctx context.Context) error {
	d.t.title("Install Backstop")
	for _, image := range []string{d.shopImage, d.modelsImage, d.naiveImage} {
		if _, _, err := splitImage(image); err != nil {
			return err
		}
	}
	here, err := d.holdings(ctx)
	if err != nil {
		return err
	}
	// Before anything is changed.
	if err := here.mayInstall(d.throwaway); err != nil {
		return err
	}
	if err := d.freshNamespaces(ctx, here.ours); err != nil {
		return err
	}
	if err := d.ownSystem(ctx, here); err != nil {
		return err
	}
	if err := d.forgetEarlierRun(ctx); err != nil {
		return err
	}
	if err := d.helmInstall(ctx, "Helm installs and waits until all three roles are ready"); err != nil {
		return err
	}
	// What people know about a release that does not come up: what may be done, and what the person who is called reads.
	const runbook = "runbooks/bad-rollout/runbook.yaml"
	d.t.say("  $ kubectl apply --filename=%s", runbook)
	if _, err := d.kube.run(ctx, "apply", "--filename="+runbook); err != nil || !d.monitoring {
		return err
	}
	return d.introduce(ctx)
}

// forgetEarlierRun removes what an earlier run left: the chain of models of its second act, which the first act does not
// have, and what Backstop counted. The same release taken back twice within half an hour would be a storm.
func (d *demo) forgetEarlierRun(ctx context.Context) error {
	kinds, err := d.ourKinds(ctx)
	if err != nil {
		return err
	}
	for _, one := range []struct{ kind, name string }{{"modelchains.backstop.dev", "default"}, {"ledgers.backstop.dev", "actions"}} {
		if !slices.Contains(kinds, one.kind) {
			continue
		}
		if _, err := d.kube.run(ctx, "--namespace="+system, "delete", one.kind, one.name, "--ignore-not-found"); err != nil {
			return err
		}
	}
	return nil
}

// helmInstall installs the release, or changes what `more` says of it.
func (d *demo) helmInstall(ctx context.Context, what string, more ...string) error {
	images, err := imageValues(d.operatorImage)
	if err != nil {
		return err
	}
	args := []string{
		"upgrade", "--install", release, "helm/backstop",
		"--namespace=" + system, "--wait", "--timeout=3m",
		"--set=executor.namespaces={" + strings.Join(enrolled, ",") + "}",
		"--set=clusterName=" + d.clusterName(),
		// The demo's cluster is thrown away, and with it its audit trail.
		"--set=audit.ephemeral=true",
		// A demo does not wait half a minute where ten seconds show the same.
		"--set=timings.knownGoodSeconds=10",
		"--set=timings.verifySettleSeconds=5",
		"--set=timings.evidenceWaitSeconds=30",
	}
	if d.operatorImage != chartImage {
		args = append(args, images...)
	}
	if image, err := os.ReadFile(d.image); err == nil {
		// The tag stays the same, so a new image needs a reason to be started.
		args = append(args, fmt.Sprintf("--set-string=podAnnotations.image-sha256=%x", sha256.Sum256(image)))
	}
	args = append(args, more...)
	d.t.say("  $ helm %s", strings.Join(args, " "))
	helm := strings.Fields(d.helm)
	return d.t.long(ctx, what, helm[0], append(helm[1:], args...)...)
}

// clusterName is what alerts have to carry as their label `cluster`, if they
// carry one: the intake refuses those of another cluster. It is an external
// label of the lab's Prometheus.
func (d *demo) clusterName() string {
	if d.monitoring {
		return "lab"
	}
	return "demo"
}

// introduce gives the cluster's Alertmanager the token of the intake.
func (d *demo) introduce(ctx context.Context) error {
	const monitoring = "monitoring"
	token, err := d.kube.run(ctx, "--namespace="+system, "get", "secret", "backstop-intake", "--output=jsonpath={.data.token}")
	if err != nil {
		return err
	}
	secret := fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"backstop-intake","namespace":%q},"data":{"token":%q}}`, monitoring, token)
	if _, err := d.kube.feed(ctx, secret, "apply", "--filename=-"); err != nil {
		return err
	}
	// The kubelet would bring a new Secret into a running pod, but takes its time.
	if _, err := d.kube.run(ctx, "--namespace="+monitoring, "rollout", "restart", "deployment/alertmanager"); err != nil {
		return err
	}
	return d.rolledOut(ctx, monitoring, "alertmanager")
}

// freshNamespaces makes every run begin with nothing.
func (d *demo) freshNamespaces(ctx context.Context, old []string) error {
	if len(old) > 0 {
		if _, err := d.kube.run(ctx, append([]string{"delete", "namespace", "--ignore-not-found", "--timeout=90s"}, old...)...); err != nil {
			return err
		}
		d.t.say("  removed the namespaces of an earlier run: %s", strings.Join(old, ", "))
	}
	for _, name := range namespaces {
		labels := map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}
		if slices.Contains(enrolled, name) {
			labels["backstop.dev/mode"] = "auto"
		}
		if err := d.create(ctx, name, labels, nil); err != nil {
			return err
		}
	}
	d.t.say("  namespaces %s, labelled backstop.dev/mode=auto", strings.Join(enrolled, ", "))
	return nil
}

// deploy brings up the shop, and what the other cases need before they break.
func (d *demo) deploy(ctx context.Context) error {
	d.t.title("Deploy the shop: web → catalog → prices")
	for _, file := range []string{"prices", "catalog", "web"} {
		if err := d.applyIn(ctx, shop, "demo/shop/"+file+".yaml"); err != nil {
			return err
		}
	}
	if err := d.applyIn(ctx, argo, "demo/shop/cases/argocd-owned.yaml"); err != nil {
		return err
	}
	if err := d.applyIn(ctx, configMap, "demo/shop/prices.yaml"); err != nil {
		return err
	}
	if err := d.rolledOut(ctx, configMap, "prices"); err != nil {
		return err
	}
	// A second good release: without one there would be nothing to return to
	// anyway, and the case would show something else.
	if _, err := d.kube.run(ctx, "--namespace="+configMap, "set", "env", "deployment/prices", "SHOP_VERSION=v2"); err != nil {
		return err
	}
	for _, name := range []string{"prices", "catalog", "web"} {
		if err := d.rolledOut(ctx, shop, name); err != nil {
			return err
		}
	}
	page, err := d.page(ctx)
	if err != nil {
		return err
	}
	if err := d.applyIn(ctx, shop, "demo/customer.yaml"); err != nil {
		return err
	}
	d.t.say("  a real request to web, answered through all three services:\n\n%s", indent(page))
	for _, which := range [][2]string{{shop, "catalog"}, {configMap, "prices"}, {argo, "recommendations"}} {
		if err := d.knownGood(ctx, which[0], which[1]); err != nil {
			return err
		}
	}
	return nil
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n    ") + "\n"
}

// page requests the shop's page as a browser would.
func (d *demo) page(ctx context.Context) (string, error) {
	return d.kube.run(ctx, "get", "--raw", "/api/v1/namespaces/"+shop+"/services/web:8080/proxy/")
}

func (d *demo) rolledOut(ctx context.Context, namespace, name string) error {
	return d.t.wait(ctx, fmt.Sprintf("%s/%s is rolled out", namespace, name), 2*time.Minute, func(ctx context.Context) (bool, error) {
		var object deployment
		if err := d.kube.get(ctx, &object, "--namespace="+namespace, "deployment", name); err != nil {
			return false, err
		}
		s := object.Status
		return s.ObservedGeneration >= object.Metadata.Generation && s.UpdatedReplicas == object.Spec.Replicas &&
			s.ReadyReplicas == object.Spec.Replicas && s.Replicas == object.Spec.Replicas, nil
	})
}

// knownGood waits until Backstop has seen the current revision healthy for long
// enough to note it: only such a revision is worth returning to.
func (d *demo) knownGood(ctx context.Context, namespace, name string) error {
	what := fmt.Sprintf("Backstop has noted the running revision of %s/%s as known good", namespace, name)
	return d.t.wait(ctx, what, 90*time.Second, func(ctx context.Context) (bool, error) {
		var object deployment
		if err := d.kube.get(ctx, &object, "--namespace="+namespace, "deployment", name); err != nil {
			return false, err
		}
		var sets struct{ Items []struct{ Metadata meta } }
		if err := d.kube.get(ctx, &sets, "--namespace="+namespace, "replicasets.apps", "--selector=app.kubernetes.io/name="+name); err != nil {
			return false, err
		}
		var ledger struct {
			Status struct {
				KnownGood []struct{ WorkloadUID, RevisionUID string }
			}
		}
		if err := d.kube.get(ctx, &ledger, "--namespace="+system, "ledgers.backstop.dev", "known-good."+namespace); err != nil {
			return false, err
		}
		const revision = "deployment.kubernetes.io/revision"
		for _, set := range sets.Items {
			if set.Metadata.Annotations[revision] != object.Metadata.Annotations[revision] {
				continue
			}
			for _, mark := range ledger.Status.KnownGood {
				if mark.WorkloadUID == object.Metadata.UID && mark.RevisionUID == set.Metadata.UID {
					return true, nil
				}
			}
		}
		return false, nil
	})
}

// clean removes what the demo installed: for clusters that stay. The system
// namespace goes last, because its label says whose all the rest is.
func (d *demo) clean(ctx context.Context) error {
	d.t.title("Remove the demo")
	here, err := d.holdings(ctx)
	if err != nil {
		return err
	}
	may, refused := here.removal()
	if len(here.foreign) > 0 {
		d.t.say("  left alone, because the demo did not make it: namespace %s", strings.Join(here.foreign, ", "))
	}
	if may.backstop {
		status, err := d.releaseStatus(ctx)
		if err != nil {
			return err
		}
		if err := d.uninstall(ctx, "Helm uninstalls Backstop", status == "deployed"); err != nil {
			return err
		}
	}
	var steps [][]string
	if len(may.namespaces) > 0 {
		steps = append(steps, append([]string{"namespace"}, may.namespaces...))
	}
	if may.definitions {
		kinds, err := d.ourKinds(ctx)
		if err != nil {
			return err
		}
		// Kept by the uninstall on purpose, see docs/operations.md.
		steps = append(steps,
			[]string{"validatingadmissionpolicybinding", "backstop-provenance-anchor", "backstop-provenance-controllerrevisions-anchor"},
			[]string{"validatingadmissionpolicy", "backstop-provenance", "backstop-provenance-controllerrevisions"})
		if len(kinds) > 0 {
			steps = append(steps, append([]string{"customresourcedefinition"}, kinds...))
		}
	}
	if may.backstop {
		steps = append(steps, []string{"namespace", system})
	}
	for _, what := range steps {
		if _, err := d.kube.run(ctx, append([]string{"delete", "--ignore-not-found", "--timeout=90s"}, what...)...); err != nil {
			return err
		}
		d.t.say("  deleted %s", strings.Join(what, " "))
	}
	switch {
	case refused != nil:
		return refused
	case may.definitions:
		d.t.say("  Should Backstop be installed here again, restart the API server first: docs/operations.md, Remove it for good, says why.")
	case may.backstop:
		d.t.say("  Definitions of Backstop were here before the demo: they stay, and so do the policies backstop-provenance and backstop-provenance-controllerrevisions.")
	case len(steps) == 0:
		d.t.say("  nothing of the demo is here")
	}
	return nil
}

func (d *demo) ourKinds(ctx context.Context) ([]string, error) {
	out, err := d.kube.run(ctx, "get", "customresourcedefinitions", "--output=name")
	if err != nil {
		return nil, err
	}
	var kinds []string
	for _, line := range strings.Fields(out) {
		if name, ours := strings.CutPrefix(line, "customresourcedefinition.apiextensions.k8s.io/"); ours && strings.HasSuffix(name, ".backstop.dev") {
			kinds = append(kinds, name)
		}
	}
	return kinds, nil
}

// compact tells whether two JSON texts hold the same.
func compact(raw json.RawMessage) (string, error) {
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		return "", errors.Join(errors.New("not JSON"), err)
	}
	return out.String(), nil
}
