package admission

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// The one granted sequence, as the executor goes about it, and every way of
// doing it twice.
func theGrantedSequenceIsAccepted(t *testing.T) {
	s := shared
	b := s.benches[nsOpen]
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
	before := b.deployment("api")
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
	s := shared
	b := s.benches[nsObserve]
	b.unmark("api")
	write := peopleRow{req: b.personPatch("api", mergePatch, object{"metadata": object{"annotations": object{"seen": "yes"}}})}
	err := eventually("the provenance policy misses its parameter", 5*time.Second, func() bool {
		by, _, err := s.tryPeople(write)
		return err == nil && by == "provenance"
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
	for _, ns := range []string{nsDelete, nsArmed} {
		s.admin.must(request{method: "DELETE", path: deploymentPath(ns, "api"), body: object{"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Foreground"}})
	}
	s.admin.must(request{method: "DELETE", path: "/api/v1/namespaces/" + nsDelete})
	err := eventually("the namespace is gone", 60*time.Second, func() bool { return s.admin.exists("/api/v1/namespaces/"+nsDelete) == nil })
	report(t, err == nil, "namespace deletion while armed: %v", err)
	// Without the namespace: the way out that the docs name.
	a, err := s.person().do(request{method: "DELETE", path: deploymentPath(nsArmed, "api"), body: object{"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}})
	report(t, err == nil && (a.accepted() || a.code == 404), "a background deletion of an armed object: %v %s", err, a.message)
	err = eventually("the Deployment is gone", 30*time.Second, func() bool { return s.admin.exists(deploymentPath(nsArmed, "api")) == nil })
	report(t, err == nil, "%v", err)
	t.Logf("took %.1fs", time.Since(begin).Seconds())
}

// The whole release is deleted while something is armed, and installed again.
func theReleaseIsDeletedAndInstalledAgain(t *testing.T) {
	s := shared
	b := s.benches[nsRelease]
	begin := time.Now()
	err := uninstall()
	report(t, err == nil, "uninstall: %v", err)
	report(t, time.Since(begin) < time.Minute, "uninstall took %s", time.Since(begin))
	var names []string
	for _, plural := range []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"} {
		list := s.admin.get("/apis/admissionregistration.k8s.io/v1/" + plural)
		for _, item := range list["items"].([]any) {
			if name := at(item, "metadata", "name").(string); strings.HasPrefix(name, "backstop-") {
				names = append(names, name)
			}
		}
	}
	report(t, same(names, []string{"backstop-provenance", "backstop-provenance-anchor"}), "left behind: %v", names)

	// Nothing is frozen: neither what was in flight, nor a manifest with our label. The API server
	// looks at its policies once a second, and a part of them may be gone before the rest.
	b.unmarkAsPerson("api")
	err = eventually("the binding of the provenance policy is forgotten", 5*time.Second, func() bool {
		by, _, err := s.tryPeople(peopleRow{req: b.personPatch("api", mergePatch, object{"metadata": object{"labels": object{"seen": "yes"}}})})
		return err == nil && by == "nobody"
	})
	report(t, err == nil, "%v", err)
	err = eventually("the binding of the guard is forgotten", 5*time.Second, func() bool {
		by, _, err := s.tryPeople(peopleRow{req: b.personPatch("other", mergePatch, object{"metadata": object{"labels": object{"backstop.dev/armed": "rollout-undo"}}})})
		return err == nil && by == "nobody"
	})
	report(t, err == nil, "%v", err)
	for _, row := range ordinary(b) {
		by, a, err := s.tryPeople(row)
		report(t, err == nil && by == "nobody", "%s after the uninstall: refused by %s: %v %s", row.name, by, err, a.message)
	}
	// Again, with the API server that saw it go.
	err = install(enrolledButDeleted())
	report(t, err == nil, "install again: %v", err)
	if err != nil {
		return
	}
	s.executor = s.admin.account(system, "backstop-executor")
	s.controller = s.admin.account(system, "backstop-controller")
	err = inForce(s.executor, b.ns, "other")
	report(t, err == nil, "after installing again: %v", err)
	// What was in flight is still armed; the executor takes its mark off and starts over.
	if err := b.mark("api", "1"); err != nil {
		report(t, false, "after installing again: %v", err)
		return
	}
	if err := b.grant(nil); err != nil {
		report(t, false, "after installing again: %v", err)
		return
	}
	disarmed, err := s.executor.do(b.patch("api", disarmOps()))
	report(t, err == nil && disarmed.accepted(), "disarm after installing again: %v %s", err, disarmed.message)
	if err := b.grant(b.granted()); err != nil {
		report(t, false, "after installing again: %v", err)
		return
	}
	s.rollBack(t, b)
	t.Logf("deleted, looked at, installed again and rolled back in %.1fs", time.Since(begin).Seconds())
}

func (b *bench) unmarkAsPerson(name string) {
	path := b.setPath(name, "1")
	b.person().must(request{method: "PATCH", kind: mergePatch, path: path, body: object{"metadata": object{"labels": object{"backstop.dev/undo-to": nil}}}})
}

// enrolledButDeleted are the namespaces that are left.
func enrolledButDeleted() []string {
	var left []string
	for _, ns := range enrolled {
		if ns != nsDelete {
			left = append(left, ns)
		}
	}
	return left
}
