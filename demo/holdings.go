package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// demoLabel marks the namespaces that the demo made. Nothing without it is
// ever deleted: the cluster may be somebody's own.
const demoLabel = "backstop.dev/demo"

// keepsDefinitions is an annotation on the system namespace: definitions of
// Backstop were in the cluster before the demo, and so may be objects.
const keepsDefinitions = "backstop.dev/demo-keeps-definitions"

// holdings are the namespaces in a cluster that have the demo's names.
type holdings struct {
	ours, foreign []string // those of the cases
	system        *meta    // nil: it does not exist
}

func isOurs(namespace meta) bool {
	return namespace.Labels[demoLabel] == "true"
}

func (h holdings) systemIsOurs() bool {
	return h.system != nil && isOurs(*h.system)
}

func sortOut(all []meta) holdings {
	var h holdings
	for _, namespace := range all {
		switch {
		case namespace.Name == system:
			h.system = &namespace
		case !slices.Contains(namespaces, namespace.Name):
		case isOurs(namespace):
			h.ours = append(h.ours, namespace.Name)
		default:
			h.foreign = append(h.foreign, namespace.Name)
		}
	}
	return h
}

// mayInstall tells what in the cluster is not the demo's and in its way. In a
// cluster that was made for this and is thrown away, a Backstop that was
// installed by hand or by the tests is taken over.
func (h holdings) mayInstall(throwaway bool) error {
	var problems []error
	if len(h.foreign) > 0 {
		list := strings.Join(h.foreign, " ")
		problems = append(problems, fmt.Errorf("the demo needs the namespaces %s for itself; here already, and not made by it (no label %s=true): %s\n"+
			"      next: if nothing in them is needed, kubectl delete namespace %s; else use another cluster, such as CLUSTER=lab or CLUSTER=kind",
			strings.Join(namespaces, " "), demoLabel, list, list))
	}
	if h.system != nil && !h.systemIsOurs() && !throwaway {
		problems = append(problems, fmt.Errorf("namespace %[1]s exists and the demo did not make it (no label %[2]s=true), so a Backstop in it is not replaced\n"+
			"      next: use another cluster, such as CLUSTER=lab or CLUSTER=kind; or remove that Backstop (docs/operations.md, Remove it for good)\n"+
			"      and its namespace; or, if an older version of this demo made it: kubectl label namespace %[1]s %[2]s=true", system, demoLabel))
	}
	return errors.Join(problems...)
}

// removal is what `--clean` may do.
type removal struct {
	namespaces  []string
	backstop    bool // the release, and at the end its namespace
	definitions bool // and what else an uninstall keeps
}

func (h holdings) removal() (removal, error) {
	r := removal{namespaces: h.ours, backstop: h.systemIsOurs()}
	r.definitions = r.backstop && h.system.Annotations[keepsDefinitions] == ""
	if h.system != nil && !r.backstop {
		return r, fmt.Errorf("namespace %[1]s was not made by the demo (no label %[2]s=true), so Backstop, its definitions and its policies stay\n"+
			"      next: to remove that Backstop, see docs/operations.md, Remove it for good; if an older version of this demo made it:\n"+
			"      kubectl label namespace %[1]s %[2]s=true, and once more", system, demoLabel)
	}
	return r, nil
}

func (d *demo) holdings(ctx context.Context) (holdings, error) {
	var list struct{ Items []struct{ Metadata meta } }
	if err := d.kube.get(ctx, &list, "namespaces"); err != nil {
		return holdings{}, err
	}
	all := make([]meta, 0, len(list.Items))
	for _, item := range list.Items {
		all = append(all, item.Metadata)
	}
	return sortOut(all), nil
}

// namespace is one of the demo's, as it is created.
func namespace(name string, labels, annotations map[string]string) (string, error) {
	all := map[string]string{demoLabel: "true"}
	for key, value := range labels {
		all[key] = value
	}
	text, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Namespace",
		"metadata": map[string]any{"name": name, "labels": all, "annotations": annotations},
	})
	return string(text), err
}

// create fails when the namespace exists: by then it is somebody else's.
func (d *demo) create(ctx context.Context, name string, labels, annotations map[string]string) error {
	text, err := namespace(name, labels, annotations)
	if err != nil {
		return err
	}
	_, err = d.kube.feed(ctx, text, "create", "--filename=-")
	return err
}

// ownSystem makes Backstop's namespace, with the demo's label from its first
// moment: an install that is interrupted right after it is known as the demo's.
func (d *demo) ownSystem(ctx context.Context, h holdings) error {
	if h.system != nil && h.system.DeletionTimestamp != nil {
		if _, err := d.kube.run(ctx, "wait", "--for=delete", "namespace/"+system, "--timeout=90s"); err != nil {
			return err
		}
		h.system = nil
	}
	if h.system == nil {
		kinds, err := d.ourKinds(ctx)
		if err != nil {
			return err
		}
		var annotations map[string]string
		if len(kinds) > 0 {
			annotations = map[string]string{keepsDefinitions: "true"}
		}
		return d.create(ctx, system, nil, annotations)
	}
	if !h.systemIsOurs() {
		if _, err := d.kube.run(ctx, "label", "namespace", system, demoLabel+"=true"); err != nil {
			return err
		}
	}
	status, err := d.releaseStatus(ctx)
	if err != nil || !unfinished(status) {
		return err
	}
	return d.uninstall(ctx, "Helm was interrupted ("+status+"): what it had begun is removed", false)
}

// unfinished tells whether Helm was ended in the middle of something: then it
// refuses every upgrade.
func unfinished(status string) bool {
	return strings.HasPrefix(status, "pending-") || status == "uninstalling"
}

// releaseStatus is Helm's word for the state of the release; empty when there is none.
func (d *demo) releaseStatus(ctx context.Context) (string, error) {
	helm := kube{command: d.helm}
	out, err := helm.run(ctx, "status", release, "--namespace="+system, "--output=json")
	if err != nil {
		if strings.Contains(err.Error(), "release: not found") {
			return "", nil
		}
		return "", err
	}
	var found struct{ Info struct{ Status string } }
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		return "", fmt.Errorf("helm status: %w", err)
	}
	return found.Info.Status, nil
}

// uninstall runs the hook, which disarms what is in flight, only if the
// operator runs: without its image the hook would wait until its deadline.
func (d *demo) uninstall(ctx context.Context, what string, hooks bool) error {
	helm := strings.Fields(d.helm)
	args := append(helm[1:], "uninstall", release, "--namespace="+system, "--ignore-not-found", "--wait", "--timeout=2m")
	if !hooks {
		args = append(args, "--no-hooks")
	}
	return d.t.long(ctx, what, helm[0], args...)
}
