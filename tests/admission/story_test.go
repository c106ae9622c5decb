package admission

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

// The one granted sequence, as the executor goes about it, and every way of
// doing it twice.
func theGrantedSequenceIsAccepted(t *testing.T) {
	for _, target := range targets {
		t.Run(target.kind, func(t *testing.T) { theGrantedSequence(t, shared.benches[target.ns(nsOpen)]) })
	}
}

func theGrantedSequence(t *testing.T, b *bench) {
	s := shared
	if err := b.grant(b.granted()); err != nil {
		t.Fatal(err)
	}
	s.rollBack(t, b)
	refusedAfter := func(what string, ops []any) {
		a, err := s.executor.do(b.patch("api", ops))
		report(t, err == nil && !a.accepted(), "%s was accepted", what)
	}
	refusedAfter("the same fire again", fireOps(b.recorded("api")))
	refusedAfter("the same fire again, without what is gone", []any{op("add", receiptPtr, actionID), op("replace", "/spec/template", b.recorded("other"))})
	refusedAfter("arming again with the same Grant", armOps())
	if err := b.grant(nil); err != nil {
		t.Fatal(err)
	}
	refusedAfter("arming with the Grant closed", armOps())
	b.unmark("api")
	a, err := s.person().do(b.personPatch("api", mergePatch, object{"metadata": object{"annotations": object{"seen": "after"}}}))
	report(t, err == nil && a.accepted(), "a person's write afterwards: %v %s", err, a.message)
}

// rollBack goes from an open Grant and a marked revision to a fired rollback.
func (s *suite) rollBack(t *testing.T, b *bench) {
	t.Helper()
	before := b.workload("api")
	step := func(what string, dryRun bool, ops []any) object {
		req := b.patch("api", ops)
		if dryRun {
			req.path += "&dryRun=All"
		}
		a, err := s.executor.do(req)
		report(t, err == nil && a.accepted(), "%s: %v %s", what, err, a.message)
		return a.body
	}
	step("arm", false, armOps())
	wrong := b.recorded("api")
	at(wrong, "spec", "containers").([]any)[0].(object)["image"] = "evil:1"
	req := b.patch("api", fireOps(wrong))
	req.path += "&dryRun=All"
	a, err := s.executor.do(req)
	report(t, err == nil && !a.accepted(), "a dry-run with a wrong value was accepted")
	right := step("a dry-run of the right fire", true, fireOps(b.recorded("api")))
	report(t, same(at(right, "spec", "template"), b.recorded("api")), "the dry-run shows another template than the granted one")
	fired := step("fire", false, fireOps(b.recorded("api")))
	expected := copied(before["spec"]).(object)
	expected["template"] = b.recorded("api")
	report(t, same(fired["spec"], expected), "the spec after is not the spec before with the granted template")
	labels := at(fired, "metadata", "labels").(object)
	report(t, labels["backstop.dev/armed"] == nil, "it is still armed")
}

func same(x, y any) bool {
	return reflect.DeepEqual(copied(x), copied(y))
}

// The marked revision is gone and the kill switch is pulled, in the middle of a
// rollback: everybody's write to the armed object is refused until the
// executor marks whatever revision is left, disarms and unmarks.
func aLeftoverIsFreedAfterTheKillSwitch(t *testing.T) {
	for _, target := range targets {
		t.Run(target.kind, func(t *testing.T) { aLeftover(t, shared.benches[target.ns(nsObserve)]) })
	}
}

func aLeftover(t *testing.T, b *bench) {
	s := shared
	b.unmark("api")
	write := peopleRow{req: b.personPatch("api", mergePatch, object{"metadata": object{"annotations": object{"seen": "yes"}}})}
	err := eventually("the provenance policy misses its parameter", func() bool {
		by, _, err := s.tryPeople(write)
		return err == nil && by == b.provenance
	})
	report(t, err == nil, "%v", err)
	if err := b.mark("other", "2"); err != nil {
		report(t, false, "mark what is left: %v", err)
		return
	}
	by, a, err := s.tryPeople(write)
	report(t, err == nil && by == "nobody", "a person's write: refused by %s: %v %s", by, err, a.message)
	a, err = s.executor.do(b.patch("api", disarmOps()))
	report(t, err == nil && a.accepted(), "disarm: %v %s", err, a.message)
	a, err = s.executor.do(request{method: "PATCH", kind: jsonPatch, path: b.setPath("other", "2") + manager, body: []any{op("remove", undoToPtr, nil)}})
	report(t, err == nil && a.accepted(), "unmark: %v %s", err, a.message)
	by, a, err = s.tryPeople(write)
	report(t, err == nil && by == "nobody", "a person's write afterwards: refused by %s: %v %s", by, err, a.message)
}

// Finalizers of a foreground deletion are removed by an update, which meets the
// policies while the marked revision and the Grant go away.
func aNamespaceIsDeletedWhileArmed(t *testing.T) {
	s := shared
	begin := time.Now()
	// Within the namespace's deletion a foreground deletion is under way, the
	// worst order of things: its dependants go first, the marked revision among them.
	err := inParallel(s.namespaces(func(b *bench) bool { return b.state == nsDelete || b.state == nsArmed }), func(ns string) error {
		b := s.benches[ns]
		s.admin.must(request{method: "DELETE", path: b.path("api"), body: object{"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}})
		if b.state == nsDelete {
			s.admin.must(request{method: "DELETE", path: "/api/v1/namespaces/" + ns})
			return eventually("the namespace is gone", func() bool { return s.admin.exists("/api/v1/namespaces/"+ns) == nil })
		}
		// Without the namespace: the way out that the docs name.
		a, err := s.person().do(request{method: "DELETE", path: b.path("api"), body: object{"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}})
		if err != nil || !a.accepted() && a.code != 404 {
			return fmt.Errorf("a background deletion of an armed %s: %w %s", b.kind, err, a.message)
		}
		return eventually("the armed "+b.kind+" is gone", func() bool { return s.admin.exists(b.path("api")) == nil })
	})
	report(t, err == nil, "%v", err)
	t.Logf("took %.1fs", time.Since(begin).Seconds())
}
