package admission

import (
	"strings"
	"testing"
)

// The granted eviction, as the executor goes about it, and every way of doing it twice.
func theGrantedEvictionIsMade(t *testing.T) {
	s := shared
	b := s.benches[nsEvict]
	if err := b.grant(b.mayEvict()); err != nil {
		t.Fatal(err)
	}
	try := func(what string, want bool, req request, dryRun bool) answer {
		if dryRun {
			req.path += "&dryRun=All"
		}
		a, err := s.executor.do(req)
		report(t, err == nil && a.accepted() == want, "%s: %v %d %s", what, err, a.code, a.message)
		return a
	}
	uid := func() any { return at(s.admin.exists(podPath(b.ns, "stuck")), "metadata", "uid") }
	try("a dry-run of another pod's eviction", false, b.evict("other", nil), true)
	try("a dry-run of the granted eviction", true, b.evict("stuck", nil), true)
	report(t, uid() == b.pods["stuck"], "a dry-run evicted the pod")
	try("the granted eviction", true, b.evict("stuck", nil), false)
	err := eventually("the pod is gone", func() bool { return uid() == nil })
	report(t, err == nil, "%v", err)
	report(t, s.admin.exists(podPath(b.ns, "other")) != nil, "another pod is gone")

	// Its successor has the same name, as a pod of a StatefulSet has.
	a := try("the same eviction again", false, b.evict("stuck", nil), false)
	report(t, a.code == 404, "the same eviction again: %d %s", a.code, a.message)
	before := b.pods["stuck"]
	s.admin.must(request{method: "DELETE", path: podPath(b.ns, "other") + "?gracePeriodSeconds=0"})
	b.makePods()
	// Without a resourceVersion the API server tries for ten seconds more before it says so.
	again := b.evict("stuck", func(e object) {
		e["deleteOptions"] = object{"preconditions": object{"uid": before, "resourceVersion": "1"}}
	})
	a = try("the same eviction again, with a successor there", false, again, false)
	report(t, a.code == 409 && strings.Contains(a.message, "UID"), "the same eviction again, with a successor there: %d %s", a.code, a.message)
	a = try("the successor's eviction", false, b.evict("stuck", nil), false)
	report(t, refusedBy(a) == "grant", "the successor's eviction: %s", a.message)
	if err := b.grant(nil); err != nil {
		t.Fatal(err)
	}
	try("an eviction with the Grant closed", false, b.evict("stuck", nil), true)
	report(t, uid() == b.pods["stuck"], "the successor was evicted")
}
