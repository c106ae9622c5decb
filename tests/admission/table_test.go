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
	// clock: it is the Grant's end that is in the way; to the static policy it is an ordinary fire.
	clock bool
	make  func(b *bench) request
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
	b.trying.Lock()
	defer b.trying.Unlock()
	if err := b.keepOpen(); err != nil {
		return "", answer{}, err
	}
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
	chapter(t, "the API server's type checker has nothing to say", theTypeCheckerHasNothingToSay)
	chapter(t, "every forbidden request is refused with the executor's token", everyForbiddenRequestIsRefused)
	chapter(t, "the right requests are accepted", theRightRequestsAreAccepted)
	chapter(t, "other people are never hindered", otherPeopleAreNeverHindered)
	chapter(t, "controllers are never hindered", controllersAreNeverHindered)
	chapter(t, "admission holds with every right", admissionHoldsWithEveryRight)
	chapter(t, "planted defects are caught", plantedDefectsAreCaught)
	chapter(t, "the static policy holds alone", theStaticPolicyHoldsAlone)
	chapter(t, "the granted sequence is accepted, once", theGrantedSequenceIsAccepted)
	chapter(t, "the granted eviction is made, once", theGrantedEvictionIsMade)
	chapter(t, "the granted restart is made, once", theGrantedRestartIsMade)
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

// inTurn tries rows, those of one namespace one after the other, and hands on
// what became of each.
func (s *suite) inTurn(table []row, try func(r row) error) error {
	byNamespace := map[string][]row{}
	var names []string
	for _, r := range table {
		if byNamespace[r.ns] == nil {
			names = append(names, r.ns)
		}
		byNamespace[r.ns] = append(byNamespace[r.ns], r)
	}
	return inParallel(names, func(ns string) error {
		for _, r := range byNamespace[ns] {
			if err := try(r); err != nil {
				return fmt.Errorf("%s: %w", r.name, err)
			}
		}
		return nil
	})
}

func (r row) forbidden() bool { return len(r.want) != 0 || r.rbac }

// only are the rows that a predicate takes.
func only(table []row, want func(row) bool) []row {
	return slices.DeleteFunc(table, func(r row) bool { return !want(r) })
}

// With the rights that the chart gives: the requests are real. Whatever was
// accepted by mistake would change an object, so that is looked at as well.
func everyForbiddenRequestIsRefused(t *testing.T) {
	s := shared
	table := only(rows(), row.forbidden)
	err := s.inTurn(table, func(r row) error {
		before := s.state(r.ns)
		by, a, err := r.try(s, false)
		report(t, err == nil && r.right(by, false), "%s: refused by %s (want %v, rbac %v): %v %s", r.name, by, r.want, r.rbac, err, a.message)
		report(t, s.state(r.ns) == before, "%s: an object changed", r.name)
		return nil
	})
	report(t, err == nil, "%v", err)
	fmt.Printf("%d forbidden requests\n", len(table))
	report(t, len(table) >= 400, "%d forbidden requests: the table has lost some", len(table))
}

// Right requests are accepted from the very same states: the table does not
// pass because everything is refused.
func theRightRequestsAreAccepted(t *testing.T) {
	s := shared
	table := only(rows(), func(r row) bool { return !r.forbidden() })
	err := s.inTurn(table, func(r row) error {
		by, a, err := r.try(s, true)
		report(t, err == nil && r.right(by, false), "%s: refused by %s: %v %s", r.name, by, err, a.message)
		return nil
	})
	report(t, err == nil, "%v", err)
	fmt.Printf("%d right requests\n", len(table))
}

// With every right that a cluster can give, admission alone must hold.
func admissionHoldsWithEveryRight(t *testing.T) {
	s := shared
	if err := s.giveExtraRights(); err != nil {
		t.Fatal(err)
	}
	defer s.dropExtraRights()
	table := only(rows(), func(r row) bool { return !r.once && len(r.want) != 0 })
	err := s.inTurn(table, func(r row) error {
		by, a, err := r.try(s, true)
		report(t, err == nil && r.right(by, true), "%s: refused by %s (want %v): %v %s", r.name, by, r.want, err, a.message)
		return nil
	})
	report(t, err == nil, "%v", err)
}

// state is what must not change while forbidden requests are made.
func (s *suite) state(ns string) string {
	b := s.benches[ns]
	paths := []string{b.path(""), appsPath(ns, b.revisions, "")}
	if b.pods != nil {
		paths = append(paths, podPath(ns, ""))
	}
	var versions []string
	for _, path := range paths {
		for _, item := range s.admin.get(path)["items"].([]any) {
			versions = append(versions, at(item, "metadata", "name").(string), at(item, "metadata", "resourceVersion").(string))
		}
	}
	return strings.Join(versions, " ")
}
