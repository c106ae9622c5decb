package admission

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The whole release is deleted while something is armed, and installed again,
// with the API server that saw it go.
func theReleaseIsDeletedAndInstalledAgain(t *testing.T) {
	s := shared
	begin := time.Now()
	err := uninstall()
	report(t, err == nil, "uninstall: %v", err)
	report(t, time.Since(begin) < time.Minute, "uninstall took %s", time.Since(begin))
	var names []string
	for _, plural := range []string{"validatingadmissionpolicies", "validatingadmissionpolicybindings"} {
		for _, item := range s.admin.get(admissionAPI + plural)["items"].([]any) {
			if name := at(item, "metadata", "name").(string); strings.HasPrefix(name, "backstop-") {
				names = append(names, name)
			}
		}
	}
	report(t, same(names, []string{"backstop-provenance", "backstop-provenance-controllerrevisions",
		"backstop-provenance-anchor", "backstop-provenance-controllerrevisions-anchor"}), "left behind: %v", names)

	released := s.namespaces(func(b *bench) bool { return b.state == nsRelease })
	err = inParallel(released, func(ns string) error { return s.benches[ns].nothingIsFrozen(t) })
	report(t, err == nil, "%v", err)

	err = install(s.namespaces(func(b *bench) bool { return enrolled(b) && b.state != nsDelete }))
	report(t, err == nil, "install again: %v", err)
	if err != nil {
		return
	}
	s.executor = s.admin.account(system, "backstop-executor")
	s.controller = s.admin.account(system, "backstop-controller")
	err = inParallel(released, func(ns string) error { return s.benches[ns].startsOver(t) })
	report(t, err == nil, "after installing again: %v", err)
	fmt.Printf("deleted, looked at, installed again and rolled back in %.1fs\n", time.Since(begin).Seconds())
}

// nothingIsFrozen is about the time without the release: neither what was in
// flight is, nor a manifest with our label. The API server looks at its
// policies once a second, and a part of them may be gone before the rest.
func (b *bench) nothingIsFrozen(t *testing.T) error {
	set := b.setPath("api", "1")
	b.person().must(request{method: "PATCH", kind: mergePatch, path: set, body: object{"metadata": object{"labels": object{"backstop.dev/undo-to": nil}}}})
	label := object{"metadata": object{"labels": object{"seen": "yes"}}}
	armed := object{"metadata": object{"labels": object{"backstop.dev/armed": "rollout-undo"}}}
	for what, req := range map[string]request{
		"provenance policy": b.personPatch("api", mergePatch, label),
		"guard":             b.personPatch("other", mergePatch, armed),
	} {
		if err := eventually("the binding of the "+what+" is forgotten", func() bool {
			by, _, err := b.tryPeople(peopleRow{req: req})
			return err == nil && by == "nobody"
		}); err != nil {
			return err
		}
	}
	for _, row := range ordinary(b) {
		by, a, err := b.tryPeople(row)
		report(t, err == nil && by == "nobody", "%s: %s after the uninstall: refused by %s: %v %s", b.kind, row.name, by, err, a.message)
	}
	return nil
}

// startsOver is about the release that came after: what was in flight is still
// armed; the executor takes its mark off and goes the whole way again.
func (b *bench) startsOver(t *testing.T) error {
	if err := b.inForce(); err != nil {
		return err
	}
	if err := b.mark("api", "1"); err != nil {
		return err
	}
	if err := b.grant(nil); err != nil {
		return err
	}
	b.executor.must(b.patch("api", disarmOps()))
	if err := b.grant(b.granted()); err != nil {
		return err
	}
	b.rollBack(t, b)
	return nil
}
