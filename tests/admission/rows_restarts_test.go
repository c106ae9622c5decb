package admission

import (
	"strings"
	"testing"
	"time"
)

const (
	// restartedAt is the annotation of a pod template by which kubectl restarts.
	restartedAt = "kubectl.kubernetes.io/restartedAt"
	// restartTime is the time that the tests grant.
	restartTime = "2026-03-01T12:00:00Z"
)

// restartOf is a template with this text where the time of a restart is.
func restartOf(template any, text string) object {
	after := copied(template).(object)
	metadata := after["metadata"].(object)
	if metadata["annotations"] == nil {
		metadata["annotations"] = object{}
	}
	metadata["annotations"].(object)[restartedAt] = text
	return after
}

// mayRestart is the open part of a right Grant for a restart of `api`, valid for a minute.
func (b *bench) mayRestart(text string) object {
	api := b.workload("api")
	before := at(api, "spec", "template")
	open := b.open(object{"field": object{"path": "/spec/template", "before": before, "after": restartOf(before, text)}}, at(api, "metadata", "uid"))
	open["action"] = "rollout-restart"
	return open
}

// A way to change more than the time of a restart.
type excess struct {
	name   string
	change func(template object)
	// defaulted: the API server adds to it, so that no Grant can name exactly what is stored.
	defaulted bool
}

func beyondARestart() []excess {
	container := func(key string, value any) func(object) {
		return func(t object) { at(t, "spec", "containers").([]any)[0].(object)[key] = value }
	}
	return []excess{
		{name: "another image", change: container("image", "evil:1")},
		{name: "a command", change: container("command", []any{"sh"})},
		{name: "an environment variable", change: container("env", []any{object{"name": "X", "value": "1"}})},
		{name: "another limit", change: container("resources", object{"limits": object{"cpu": "2", "memory": "64Mi"}})},
		{name: "a second container", defaulted: true, change: func(t object) {
			spec := t["spec"].(object)
			spec["containers"] = append(spec["containers"].([]any), object{"name": "e", "image": "evil:1"})
		}},
		{name: "hostPID", change: func(t object) { t["spec"].(object)["hostPID"] = true }},
		{name: "a ServiceAccount", change: func(t object) {
			// The API server writes the old name of the field too.
			t["spec"].(object)["serviceAccountName"], t["spec"].(object)["serviceAccount"] = "admin", "admin"
		}},
		{name: "a label on the pods", change: func(t object) { at(t, "metadata", "labels").(object)["x"] = "y" }},
		{name: "another annotation on the pods", change: func(t object) { at(t, "metadata", "annotations").(object)["x"] = "y" }},
		{name: "another value of an annotation", change: func(t object) { at(t, "metadata", "annotations").(object)["note"] = "changed" }},
		{name: "an annotation less", change: func(t object) { delete(at(t, "metadata", "annotations").(object), "note") }},
		{name: "a finalizer on the pods", change: func(t object) { t["metadata"].(object)["finalizers"] = []any{"evil.dev/hold"} }},
		{name: "a word for a time", change: func(t object) { at(t, "metadata", "annotations").(object)[restartedAt] = "now" }},
		{name: "more than a time", change: func(t object) { at(t, "metadata", "annotations").(object)[restartedAt] = restartTime + " and more" }},
		{name: "another form of a time", change: func(t object) {
			at(t, "metadata", "annotations").(object)[restartedAt] = "2026-03-01T12:00:00+00:00"
		}},
		{name: "no time", change: func(t object) { at(t, "metadata", "annotations").(object)[restartedAt] = "" }},
		{name: "a long text for a time", change: func(t object) {
			at(t, "metadata", "annotations").(object)[restartedAt] = strings.Repeat("x", 4096)
		}},
	}
}

// restarts are rows about an object that is armed for a granted restart.
func restarts(t *target) []row {
	right := func(extra ...any) func(b *bench) []any {
		return func(b *bench) []any {
			return fireOps(restartOf(at(b.workload("api"), "spec", "template"), restartTime), extra...)
		}
	}
	table := []row{
		on(nsRestart, "ALLOWED: fire the granted restart", nil, right()),
		on(nsRestart, "ALLOWED: disarm instead of a restart", nil, fixed(disarmOps()...)),
		on(nsRestart, "restart at another time", grantOnly, func(b *bench) []any {
			return fireOps(restartOf(at(b.workload("api"), "spec", "template"), "2026-03-01T12:00:01Z"))
		}),
		on(nsRestart, "roll back while armed for a restart", granted, func(b *bench) []any { return fireOps(b.recorded("api")) }),
		on(nsRestart, "fire a restart that changes nothing", granted, func(b *bench) []any {
			return fireOps(at(b.workload("api"), "spec", "template"))
		}),
		on(nsRestart, "restart and add a label", static, right(op("add", "/metadata/labels/x", "y"))),
		on(nsRestart, "restart and add an annotation", static, right(op("add", "/metadata/annotations/x", "y"))),
		on(nsRestart, "restart and add an owner", static, right(op("add", "/metadata/ownerReferences", []any{object{"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "1"}}))),
		on(nsRestart, "restart and arm for a rollback", anyPolicy, func(b *bench) []any {
			return []any{op("replace", armedPtr, "rollout-undo"), op("add", receiptPtr, actionID), op("replace", "/spec/template", restartOf(at(b.workload("api"), "spec", "template"), restartTime))}
		}),
		on(nsRestart, "turn into a rollback while armed", anyPolicy, fixed(op("replace", armedPtr, "rollout-undo"))),
	}
	for _, more := range beyondARestart() {
		table = append(table, on(nsRestart, "restart with "+more.name, granted, func(b *bench) []any {
			template := restartOf(at(b.workload("api"), "spec", "template"), restartTime)
			more.change(template)
			return fireOps(template)
		}))
	}
	for _, c := range t.changes() {
		table = append(table, on(nsRestart, "restart and "+c.name, granted, right(c.op)))
	}
	return table
}

// restartsByThieves are rows in which judge and hands are both stolen: the Grant itself names more than a restart, and
// only the static policy is left.
func restartsByThieves() []row {
	stolen := func(name string, want []string, change func(template object)) row {
		var after object
		return row{name: name, ns: nsRaze, want: want,
			before: func(b *bench) error {
				open := b.mayRestart(restartTime)
				after = at(open, "write", "field", "after").(object)
				change(after)
				return b.grant(open)
			},
			make: func(b *bench) request { return b.patch("api", fireOps(after)) },
		}
	}
	table := []row{
		// What is left to such thieves.
		stolen("ALLOWED: judge and hands stolen: a restart", nil, func(object) {}),
		stolen("ALLOWED: judge and hands stolen: a restart at any time", nil, func(t object) {
			at(t, "metadata", "annotations").(object)[restartedAt] = "1999-12-31T23:59:59Z"
		}),
	}
	for _, more := range beyondARestart() {
		want := static
		if more.defaulted {
			want = granted
		}
		table = append(table, stolen("judge and hands stolen: a restart with "+more.name, want, more.change))
	}
	return table
}

// The one granted restart, and every way of doing it twice.
func theGrantedRestartIsMade(t *testing.T) {
	for _, target := range targets {
		t.Run(target.kind, func(t *testing.T) {
			b := shared.benches[target.ns(nsRestart)]
			if err := b.grant(b.mayRestart(restartTime)); err != nil {
				t.Fatal(err)
			}
			before := b.workload("api")
			expected := copied(before["spec"]).(object)
			expected["template"] = restartOf(expected["template"], restartTime)
			fire := fireOps(expected["template"])
			a, err := shared.executor.do(b.patch("api", fire))
			report(t, err == nil && a.accepted(), "fire: %v %s", err, a.message)
			report(t, same(a.body["spec"], expected), "the spec after is not the spec before with the time of the restart")
			report(t, at(a.body, "metadata", "labels", "backstop.dev/armed") == nil, "it is still armed")
			a, err = shared.executor.do(b.patch("api", fire))
			report(t, err == nil && !a.accepted(), "the same fire again was accepted")
			a, err = shared.executor.do(b.patch("api", armOpsAs("rollout-restart")))
			report(t, err == nil && !a.accepted(), "arming again with the same Grant was accepted")
			report(t, b.grant(nil) == nil, "close the Grant")
			err = eventually("its controller has seen the restart", func() bool { return b.settled(b.workload("api")) })
			report(t, err == nil, "%v", err)
			b.opened = time.Time{}
		})
	}
}
