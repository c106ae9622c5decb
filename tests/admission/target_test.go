package admission

import (
	"fmt"
	"slices"
	"strings"
)

// A target is a kind of workload that an action may write to, with the kind
// that records its revisions.
type target struct {
	plural, kind        string
	revisions, revision string
	// suffix tells its namespaces from those of the other kinds.
	suffix string
	// provenance is the policy about its revisions, without `backstop-`.
	provenance string
}

var (
	deployments  = &target{"deployments", "Deployment", "replicasets", "ReplicaSet", "", "provenance"}
	statefulSets = &target{"statefulsets", "StatefulSet", "controllerrevisions", "ControllerRevision", "-sts", "provenance-controllerrevisions"}
	daemonSets   = &target{"daemonsets", "DaemonSet", "controllerrevisions", "ControllerRevision", "-ds", "provenance-controllerrevisions"}
	targets      = []*target{deployments, statefulSets, daemonSets}
)

// ns is the namespace in which this kind is in a state of a rollback.
func (t *target) ns(state string) string { return state + t.suffix }

func (t *target) path(ns, name string) string { return appsPath(ns, t.plural, name) }

func appsPath(ns, plural, name string) string {
	path := "/apis/apps/v1/namespaces/" + ns + "/" + plural
	if name != "" {
		path += "/" + name
	}
	return path
}

// workload is an object of this kind with no pods, with labels and annotations
// so that JSON patches may add to them.
func (t *target) workload(name, app, image string) object {
	template := object{
		"metadata": object{"labels": object{"app": app}, "annotations": object{"note": "kept"}},
		"spec": object{"containers": []any{object{
			"name": "c", "image": image,
			"resources": object{"limits": object{"cpu": "0.5", "memory": "64Mi"}},
		}}},
	}
	spec := object{"selector": object{"matchLabels": object{"app": app}}, "template": template}
	switch t {
	case daemonSets:
		template["spec"].(object)["nodeSelector"] = object{"backstop.dev/nowhere": "true"}
	case statefulSets:
		spec["serviceName"], spec["replicas"] = name, 0
	default:
		spec["replicas"] = 0
	}
	return object{
		"apiVersion": "apps/v1", "kind": t.kind,
		"metadata": object{"name": name, "labels": object{"app": app}, "annotations": object{"team": "shop"}},
		"spec":     spec,
	}
}

func (t *target) new(name string) object { return t.workload(name, name, "backstop.local/pause:1") }

// A change is a write to a field of the spec that is not the template.
type change struct {
	name string
	op   any
}

// changes are those that the API server itself would take.
func (t *target) changes() []change {
	all := []change{
		{"change the history limit", op("replace", "/spec/revisionHistoryLimit", 0)},
		{"change minReadySeconds", op("add", "/spec/minReadySeconds", 9)},
	}
	switch t {
	case deployments:
		return append(all,
			change{"change replicas", op("replace", "/spec/replicas", 3)},
			change{"pause", op("add", "/spec/paused", true)},
			change{"change the strategy", op("replace", "/spec/strategy", object{"type": "Recreate"})},
			change{"change the deadline", op("replace", "/spec/progressDeadlineSeconds", 1)})
	case statefulSets:
		return append(all,
			change{"change replicas", op("replace", "/spec/replicas", 3)},
			change{"let nothing be updated", op("replace", "/spec/updateStrategy", object{"type": "OnDelete"})},
			change{"update a part only", op("replace", "/spec/updateStrategy/rollingUpdate/partition", 1)},
			change{"have volumes deleted", op("replace", "/spec/persistentVolumeClaimRetentionPolicy/whenScaled", "Delete")},
			change{"count pods otherwise", op("add", "/spec/ordinals", object{"start": 5})})
	default:
		return append(all,
			change{"let nothing be updated", op("replace", "/spec/updateStrategy", object{"type": "OnDelete"})},
			change{"update all at once", op("replace", "/spec/updateStrategy/rollingUpdate/maxUnavailable", "100%")})
	}
}

// recordedIn is the template that a revision holds, as the workload had it.
func (t *target) recordedIn(revision object) object {
	if t == deployments {
		template := copied(at(revision, "spec", "template")).(object)
		delete(at(template, "metadata", "labels").(object), "pod-template-hash")
		return template
	}
	template := copied(at(revision, "data", "spec", "template")).(object)
	delete(template, "$patch")
	return template
}

// number is a revision's place in its workload's history.
func (t *target) number(revision any) string {
	if t == deployments {
		number, _ := at(revision, "metadata", "annotations", "deployment.kubernetes.io/revision").(string)
		return number
	}
	return fmt.Sprint(at(revision, "revision"))
}

// settled is whether the workload's controller has seen all of it.
func (t *target) settled(workload object) bool {
	if fmt.Sprint(at(workload, "status", "observedGeneration")) != fmt.Sprint(at(workload, "metadata", "generation")) {
		return false
	}
	return t != deployments || at(workload, "metadata", "annotations", "deployment.kubernetes.io/revision") != nil
}

// named puts a row that was written for all kinds into this kind's namespace and words.
func (t *target) named(r row) row {
	r.ns = t.ns(r.ns)
	kind := t.kind + ": "
	if rest, ok := strings.CutPrefix(r.name, "ALLOWED: "); ok {
		kind, r.name = "ALLOWED: "+kind, rest
	}
	r.name = kind + r.name
	r.want = slices.Clone(r.want)
	for i, want := range r.want {
		if want == "provenance" {
			r.want[i] = t.provenance
		}
	}
	return r
}
