package admission

import (
	"slices"
	"strings"
	"time"
)

// The states of a rollback, and of a restart. Each kind of target has a namespace for each of them: of Deployments the name
// below, of the others with a suffix.
const (
	nsOpen    = "adm-open"    // Grant open, revision marked, nothing armed
	nsArmed   = "adm-armed"   // the same, and armed
	nsClosed  = "adm-closed"  // Grant closed
	nsNone    = "adm-none"    // no Grant at all
	nsExpired = "adm-expired" // armed, the Grant has expired
	nsReplay  = "adm-replay"  // the same, and the same action was done on it before
	nsHeld    = "adm-held"    // Grant open, revision marked, the object has a finalizer
	nsLong    = "adm-long"    // Grant open for an hour
	nsObserve = "adm-observe" // armed, then the kill switch
	nsEvil    = "adm-evil"    // armed; the rows write the Grant: judge and hands stolen
	nsForeign = "adm-foreign" // armed, the marked revision is another workload's
	nsWrong   = "adm-wrong"   // armed, the marked revision is the object's own but not the granted one
	nsOff     = "adm-off"     // not enrolled
	nsPeople  = "adm-people"  // other people's writes
	nsDelete  = "adm-delete"  // deleted while armed
	nsRelease = "adm-release" // armed while the release is deleted
	nsRestart = "adm-restart" // armed for a restart, its Grant open
	nsRaze    = "adm-raze"    // the same; the rows write the Grant: judge and hands stolen
)

var states = []string{nsOpen, nsArmed, nsClosed, nsNone, nsExpired, nsReplay, nsHeld, nsLong, nsObserve, nsEvil, nsForeign, nsWrong, nsOff, nsPeople, nsDelete, nsRelease, nsRestart, nsRaze}

// The states of an eviction, one namespace each.
const (
	nsEvict     = "adm-evict"         // Grant open for the eviction of pod `stuck`
	nsEvictLate = "adm-evict-late"    // the same, expired
	nsEvictOff  = "adm-evict-observe" // the same, then the kill switch
	nsEvictEvil = "adm-evict-evil"    // the rows write the Grant: judge and hands stolen
)

// newBenches are all namespaces of the tests, by name.
func (s *suite) newBenches() map[string]*bench {
	benches := map[string]*bench{}
	for _, t := range targets {
		for _, state := range states {
			benches[t.ns(state)] = &bench{suite: s, target: t, ns: t.ns(state), state: state}
		}
	}
	for _, ns := range []string{nsEvict, nsEvictLate, nsEvictOff, nsEvictEvil} {
		benches[ns] = &bench{suite: s, target: statefulSets, ns: ns, state: ns}
	}
	for _, ns := range []string{nsEvict, nsEvictLate, nsEvictOff, nsEvictEvil, nsOff, statefulSets.ns(nsOpen), statefulSets.ns(nsArmed), statefulSets.ns(nsClosed), statefulSets.ns(nsNone)} {
		benches[ns].pods = map[string]string{}
	}
	return benches
}

// namespaces are the names of the benches that a predicate takes.
func (s *suite) namespaces(want func(*bench) bool) []string {
	var names []string
	for ns, b := range s.benches {
		if want(b) {
			names = append(names, ns)
		}
	}
	slices.Sort(names)
	return names
}

func everyBench(*bench) bool  { return true }
func enrolled(b *bench) bool  { return b.state != nsOff }
func (b *bench) evicts() bool { return strings.HasPrefix(b.ns, nsEvict) }

// reach brings a namespace into its state, by the granted sequence: what is
// forbidden is tried later, from there.
func (b *bench) reach() error {
	if b.evicts() {
		return b.reachEviction()
	}
	switch b.state {
	case nsOff, nsNone:
		return nil
	case nsClosed:
		return b.grant(nil)
	case nsRestart, nsRaze:
		if err := b.grant(b.mayRestart(restartTime)); err != nil {
			return err
		}
		b.executor.must(b.patch("api", armOpsAs("rollout-restart")))
		if b.state == nsRestart {
			b.opened = time.Now()
		}
		return nil
	}
	number := "1"
	if b.state == nsWrong {
		number = "2"
		b.admin.must(b.personPatch("api", strategicPatch, badRelease("3")))
	}
	open := b.granted()
	if b.state == nsLong {
		open["notAfter"] = inSeconds(3600)
	}
	marked := "api"
	if b.state == nsForeign {
		marked = "other"
		at(open, "write", "field").(object)["after"] = b.recorded("other")
	}
	if err := b.mark(marked, number); err != nil {
		return err
	}
	if err := b.grant(open); err != nil {
		return err
	}
	switch b.state {
	case nsOpen:
		b.opened = time.Now()
		return nil
	case nsLong:
		return nil
	case nsHeld:
		b.admin.must(request{method: "PATCH", kind: mergePatch, path: b.path("api"), body: object{"metadata": object{"finalizers": []any{"backstop.test/hold"}}}})
		b.opened = time.Now()
		return nil
	case nsReplay:
		b.executor.must(b.patch("api", armOps()))
		b.executor.must(b.patch("api", fireOps(b.recorded("api"))))
		b.admin.must(b.personPatch("api", strategicPatch, badRelease("2")))
		if err := b.grant(b.granted()); err != nil {
			return err
		}
	}
	b.executor.must(b.patch("api", armOps()))
	switch b.state {
	case nsArmed, nsForeign, nsWrong:
		b.opened = time.Now()
	case nsObserve:
		b.opened = time.Now()
		return b.pullKillSwitch(b.patch("api", fireOps(b.recorded("api"))))
	case nsExpired, nsReplay:
		return b.expire()
	}
	return nil
}

func (b *bench) reachEviction() error {
	if err := b.grant(b.mayEvict()); err != nil {
		return err
	}
	switch b.ns {
	case nsEvictLate:
		return b.expire()
	case nsEvictEvil:
		return nil
	case nsEvictOff:
		b.opened = time.Now()
		return b.pullKillSwitch(b.evict("stuck", nil))
	}
	b.opened = time.Now()
	return nil
}

// expire has the Grant end: everything so far was written in time, and from a
// second after notAfter on nothing is (the server writes whole seconds).
func (b *bench) expire() error {
	end := inSeconds(1)
	open := at(b.admin.get(ourPath(b.ns, "grants", "active")), "spec", "open").(object)
	open["notAfter"] = end
	if err := b.grant(open); err != nil {
		return err
	}
	last, err := time.Parse(time.RFC3339, end)
	if err != nil {
		return err
	}
	time.Sleep(time.Until(last.Add(time.Second)))
	return nil
}
