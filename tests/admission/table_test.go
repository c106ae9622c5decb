package admission

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A row is one request with the executor's token.
type row struct {
	name string
	ns   string
	// want is who may refuse it. Several policies may: the API server names
	// one of them. Empty: it must be accepted.
	want []string
	// rbac: the account has no right to do this, so that RBAC refuses it before
	// any policy sees it. want then says who refuses it with every right.
	rbac bool
	// before brings a part of the state that belongs to this row alone.
	before func(b *bench) error
	// once: not in the dry-run passes, where it would mean something else.
	once bool
	// real: never as a dry-run; the API server knows none for it.
	real bool
	make func(b *bench) request
}

var (
	static     = []string{"static"}
	grantOnly  = []string{"grant"}
	provenance = []string{"provenance"}
	granted    = []string{"static", "grant"}
	anyPolicy  = []string{"static", "grant", "provenance"}
)

func (r row) request(b *bench, dryRun bool) request {
	req := r.make(b)
	if dryRun && !r.real {
		if strings.Contains(req.path, "?") {
			req.path += "&dryRun=All"
		} else {
			req.path += "?dryRun=All"
		}
	}
	return req
}

// try makes the row's request and says who refused it.
func (r row) try(s *suite, dryRun bool) (string, answer, error) {
	b := s.benches[r.ns]
	if r.before != nil {
		if err := r.before(b); err != nil {
			return "", answer{}, err
		}
	}
	a, err := s.executor.do(r.request(b, dryRun))
	return refusedBy(a), a, err
}

func (r row) right(by string, withRights bool) bool {
	switch {
	case len(r.want) == 0 && !r.rbac:
		return by == "nobody"
	case r.rbac && !withRights:
		return by == "rbac"
	default:
		return slices.Contains(r.want, by)
	}
}

// TestAdmission is one story with one state: its chapters run in order.
func TestAdmission(t *testing.T) {
	chapter(t, "the rendered chart fits the schemas", theRenderedChartFitsTheSchemas)
	chapter(t, "every forbidden request is refused with the executor's token", everyForbiddenRequestIsRefused)
	chapter(t, "the right requests are accepted", theRightRequestsAreAccepted)
	chapter(t, "other people are never hindered", otherPeopleAreNeverHindered)
	chapter(t, "controllers are never hindered", controllersAreNeverHindered)
	chapter(t, "admission holds with every right", admissionHoldsWithEveryRight)
	chapter(t, "planted defects are caught", plantedDefectsAreCaught)
	chapter(t, "the granted sequence is accepted, once", theGrantedSequenceIsAccepted)
	chapter(t, "a leftover is freed after the kill switch", aLeftoverIsFreedAfterTheKillSwitch)
	chapter(t, "a namespace is deleted while armed", aNamespaceIsDeletedWhileArmed)
	chapter(t, "the release is deleted and installed again", theReleaseIsDeletedAndInstalledAgain)
}

// chapter runs one part. A step that prepares panics with what the API server
// said; that fails the part, and the release is still removed afterwards.
func chapter(t *testing.T, name string, part func(*testing.T)) {
	begin := time.Now()
	t.Run(name, func(t *testing.T) {
		defer func() {
			if reason := recover(); reason != nil {
				report(t, false, "%v", reason)
			}
		}()
		part(t)
	})
	fmt.Printf("%5.1fs  %s\n", time.Since(begin).Seconds(), name)
}

// With the rights that the chart gives: the requests are real. Whatever was
// accepted by mistake would change an object, so that is looked at as well.
func everyForbiddenRequestIsRefused(t *testing.T) {
	s := shared
	refused := 0
	for _, r := range rows() {
		if len(r.want) == 0 && !r.rbac {
			continue
		}
		before := s.state(r.ns)
		by, a, err := r.try(s, false)
		report(t, err == nil && r.right(by, false), "%s: refused by %s (want %v, rbac %v): %v %s", r.name, by, r.want, r.rbac, err, a.message)
		report(t, s.state(r.ns) == before, "%s: an object changed", r.name)
		refused++
	}
	t.Logf("%d forbidden requests", refused)
}

// Right requests are accepted from the very same states: the table does not
// pass because everything is refused.
func theRightRequestsAreAccepted(t *testing.T) {
	s := shared
	for _, r := range rows() {
		if len(r.want) != 0 || r.rbac {
			continue
		}
		by, a, err := r.try(s, true)
		report(t, err == nil && r.right(by, false), "%s: refused by %s: %v %s", r.name, by, err, a.message)
	}
}

// With every right that a cluster can give, admission alone must hold.
func admissionHoldsWithEveryRight(t *testing.T) {
	s := shared
	if err := s.giveExtraRights(); err != nil {
		t.Fatal(err)
	}
	defer s.dropExtraRights()
	if err := s.refresh(); err != nil {
		t.Fatal(err)
	}
	for _, r := range rows() {
		if r.once || len(r.want) == 0 {
			continue
		}
		by, a, err := r.try(s, true)
		report(t, err == nil && r.right(by, true), "%s: refused by %s (want %v): %v %s", r.name, by, r.want, err, a.message)
	}
}

// state is what must not change while forbidden requests are made.
func (s *suite) state(ns string) string {
	var versions []string
	for _, name := range []string{"api", "other"} {
		meta := s.benches[ns].deployment(name)["metadata"].(object)
		versions = append(versions, meta["resourceVersion"].(string))
	}
	list := s.admin.get("/apis/apps/v1/namespaces/" + ns + "/replicasets")
	for _, item := range list["items"].([]any) {
		versions = append(versions, at(item, "metadata", "resourceVersion").(string))
	}
	return strings.Join(versions, " ")
}
