package admission

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The stolen-token drill: requests with the accounts' own tokens and none of our code, generated from a seed over
// everything that the API server serves. What is accepted is judged by what it did to the object, in Go, from the table of
// roles in the design: nothing of it is shared with the policies or with the operator.
//
//	breadth    every resource and subresource that is served × every verb and kind of patch × every account
//	depth      changes of targets, revisions, pods and our own kinds, in every state of a rollback and every encoding
//	campaigns  real requests in a row by one account, by each pair and by all three; what the objects are then decides

var (
	attacks = flag.Int("attacks", 20_000, "requests of the stolen-token drill")
	seed    = flag.Uint64("seed", 0, "seed of the stolen-token drill; 0 takes one from the clock")
)

// account names whose token it is.
type account string

const (
	controller   account = "controller"
	investigator account = "investigator"
	executor     account = "executor"
)

var accounts = []account{controller, investigator, executor}

// mayWrite is the design's table: what an account may write at all, as group/resource/subresource. Of targets, revisions and
// pods/eviction the executor may make the changes that justified takes, and no other.
var mayWrite = map[account][]string{
	controller: {
		"backstop.dev/alerts", "backstop.dev/alerts/status", "backstop.dev/incidents", "backstop.dev/incidents/status",
		"backstop.dev/investigations", "backstop.dev/remediations", "backstop.dev/approvals/status",
		"backstop.dev/runbooks/status", "backstop.dev/policies/status", "backstop.dev/grants", "backstop.dev/ledgers",
		"backstop.dev/ledgers/status", "events.k8s.io/events", "coordination.k8s.io/leases",
	},
	investigator: {
		"backstop.dev/investigations/status", "backstop.dev/modelchains/status", "backstop.dev/ledgers",
		"backstop.dev/ledgers/status", "coordination.k8s.io/leases",
	},
	executor: {"backstop.dev/remediations/status"},
}

// aboutOneself is what every account of a cluster may ask about itself; nothing is stored.
var aboutOneself = []string{
	"authorization.k8s.io/selfsubjectaccessreviews", "authorization.k8s.io/selfsubjectrulesreviews",
	"authentication.k8s.io/selfsubjectreviews",
}

// shot is one request of the drill.
type shot struct {
	by    account
	about string // group/resource/subresource
	what  string // for people
	bench *bench // of a change of what is in it, else nil
	old   object // what it changes, when that is known
	request
}

// tally counts what became of the requests.
type tally struct {
	sync.Mutex
	sent, accepted map[string]int
	refused        map[string]int
	escapes        []string
}

func newTally() *tally {
	return &tally{sent: map[string]int{}, accepted: map[string]int{}, refused: map[string]int{}}
}

func (t *tally) count(who string, a answer) {
	t.Lock()
	defer t.Unlock()
	t.sent[who]++
	if a.accepted() {
		t.accepted[who]++
		return
	}
	by := refusedBy(a)
	if strings.HasPrefix(by, "the API server") {
		by = "the API server"
	}
	t.refused[by]++
}

func (t *tally) escaped(format string, args ...any) {
	t.Lock()
	defer t.Unlock()
	t.escapes = append(t.escapes, fmt.Sprintf(format, args...))
}

func sum(counts map[string]int) (all int) {
	for _, n := range counts {
		all += n
	}
	return all
}

// TestAttack is the drill: make attack. It has a release and namespaces of its own, as the admission suite has.
func TestAttack(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	fmt.Printf("attack: n=%d seed=%d\n", *attacks, *seed)
	s := shared
	all := newTally()
	chapter(t, "every right is in the golden file", s.everyRightIsInTheGoldenFile)
	chapter(t, "breadth: everything that is served, every verb, every account", func(t *testing.T) {
		for _, state := range []string{nsOpen, nsClosed} {
			shots, err := s.breadth(s.benches[state])
			if err != nil {
				t.Fatal(err)
			}
			s.fire(t, shots, all)
		}
	})
	chapter(t, "campaigns: each account, each pair, all three", func(t *testing.T) {
		for _, thieves := range subsets(accounts) {
			s.campaign(t, thieves, *attacks/100, all)
		}
	})
	chapter(t, "depth: every state, every encoding", func(t *testing.T) {
		s.fire(t, s.depth(max(0, *attacks-sum(all.sent)), *seed), all)
	})
	fmt.Print(all.table())
	report(t, sum(all.sent) >= *attacks, "%d requests were sent, of %d", sum(all.sent), *attacks)
	report(t, len(all.escapes) == 0, "%d escapes, among them:\n%s", len(all.escapes), strings.Join(all.escapes[:min(20, len(all.escapes))], "\n"))
	// A drill of which nothing is accepted tries nothing that could be.
	report(t, all.accepted[string(executor)] >= min(100, *attacks/200), "of the executor's requests %d were accepted: the drill does not reach what it may do", all.accepted[string(executor)])
	chapter(t, "planted defects are caught by the drill", s.drillCatchesDefects)
	fmt.Printf("attack: %d requests, %d escapes, seed %d\n", sum(all.sent), len(all.escapes), *seed)
}

func (t *tally) table() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%-40s %9s %9s\n", "stolen", "requests", "accepted")
	for _, who := range slices.Sorted(maps.Keys(t.sent)) {
		fmt.Fprintf(&out, "%-40s %9d %9d\n", who, t.sent[who], t.accepted[who])
	}
	for _, by := range slices.Sorted(maps.Keys(t.refused)) {
		fmt.Fprintf(&out, "refused by %-29s %9d\n", by, t.refused[by])
	}
	return out.String()
}

// subsets are all but the empty one.
func subsets(of []account) (all [][]account) {
	for bits := 1; bits < 1<<len(of); bits++ {
		var some []account
		for i, one := range of {
			if bits&(1<<i) != 0 {
				some = append(some, one)
			}
		}
		all = append(all, some)
	}
	return all
}

func (s *suite) stolen(who account) *client {
	switch who {
	case controller:
		return s.controller
	case investigator:
		return s.investigator
	default:
		return s.executor
	}
}

// fire sends every request as a dry-run, some at once, and judges what is accepted.
func (s *suite) fire(t *testing.T, shots []shot, all *tally) {
	t.Helper()
	var group sync.WaitGroup
	next := make(chan shot)
	for range 12 {
		group.Go(func() {
			for one := range next {
				if err := s.fireOne(one, all); err != nil {
					report(t, false, "%s: %v", one.what, err)
				}
			}
		})
	}
	for _, one := range shots {
		next <- one
	}
	close(next)
	group.Wait()
}

func (s *suite) fireOne(one shot, all *tally) error {
	req := one.request
	if req.method != "GET" && !strings.Contains(req.path, "dryRun") {
		req.path += map[bool]string{true: "&", false: "?"}[strings.Contains(req.path, "?")] + "dryRun=All"
	}
	if b := one.bench; b != nil && !b.opened.IsZero() {
		b.trying.Lock()
		err := b.keepOpen()
		b.trying.Unlock()
		if err != nil {
			return err
		}
	}
	a, err := s.stolen(one.by).do(req)
	if err != nil {
		// Whoever resets a connection or ends it early did not accept.
		all.count(string(one.by), answer{code: 599, message: err.Error()})
		return nil
	}
	all.count(string(one.by), a)
	if !a.accepted() {
		return nil
	}
	if why := one.unjustified(a.body); why != "" {
		all.escaped("%s: %s %s: %s", one.by, req.method, req.path, why)
	}
	return nil
}

// unjustified says why a request must not have been accepted; "" when it may be.
func (one shot) unjustified(after object) string {
	resource, _, _ := strings.Cut(strings.TrimPrefix(one.about, "/"), "/")
	if one.method == "GET" {
		if resource == "secrets" || strings.HasSuffix(one.about, "/exec") || strings.HasSuffix(one.about, "/proxy") {
			return "it reads what nobody of ours may"
		}
		return ""
	}
	if slices.Contains(aboutOneself, one.about) || slices.Contains(mayWrite[one.by], one.about) {
		return ""
	}
	if one.by == executor && one.bench != nil {
		return one.bench.unjustified(one.about, one.path, one.old, one.body, after)
	}
	return "the account may not write " + one.about
}

// unjustified judges what the executor changed in this state: a target may be armed for and changed to what is granted, and
// be disarmed; the mark of a revision may be set and taken off; the granted pod may be evicted.
func (b *bench) unjustified(about, path string, old object, sent any, after object) string {
	switch {
	case about == "/pods/eviction":
		if !b.evicts() || b.ns != nsEvict && b.ns != nsEvictEvil {
			return "no eviction is granted here"
		}
		if !strings.HasPrefix(path, podPath(b.ns, "stuck")+"/eviction") {
			return "another pod is granted"
		}
		if uid := at(sent, "deleteOptions", "preconditions", "uid"); uid != b.pods["stuck"] {
			return fmt.Sprintf("the pod's uid is %v", uid)
		}
		return ""
	case about == "apps/"+b.plural:
		return b.unjustifiedTarget(old, after)
	case about == "apps/"+b.revisions:
		labels, notes := delta(old, after, "labels"), delta(old, after, "annotations")
		if !within(labels, "backstop.dev/undo-to") || len(notes) > 0 || !equal(at(old, "spec"), at(after, "spec")) || !b.isSameElse(old, after) {
			return fmt.Sprintf("of a revision more than the mark changes: %v %v", labels, notes)
		}
		return ""
	}
	return "the executor may not write " + about
}

func (b *bench) unjustifiedTarget(old, after object) string {
	labels, notes := delta(old, after, "labels"), delta(old, after, "annotations")
	if !within(labels, "backstop.dev/armed") || !within(notes, "backstop.dev/action", "backstop.dev/last-action", "deprecated.daemonset.template.generation") {
		return fmt.Sprintf("foreign labels or annotations change: %v %v", labels, notes)
	}
	armedBefore, armed := label(old), label(after)
	sameSpec := equal(at(old, "spec"), at(after, "spec"))
	if !b.isSameElse(old, after) {
		return "more than labels, annotations and the spec changes"
	}
	open := slices.Contains([]string{nsOpen, nsArmed, nsLong}, b.state)
	switch {
	case armedBefore == "" && armed != "":
		if !sameSpec || !open || at(after, "metadata", "name") != "api" || armed != "rollout-undo" || note(after, "action") != actionID {
			return "it arms what is not granted"
		}
	case armedBefore != "" && armed == "" && sameSpec:
		if note(after, "last-action") != note(old, "last-action") {
			return "it writes a receipt without the change"
		}
	case armedBefore != "" && armed == "":
		want := copied(at(old, "spec")).(object)
		want["template"] = b.recorded("api")
		if b.state != nsArmed || !equal(want, at(after, "spec")) {
			return "it changes the spec to what is not granted"
		}
	case armedBefore == armed && sameSpec && len(notes) == 0 && len(labels) == 0:
		// Nothing changes but what the API server counts.
	default:
		return "neither armed, changed as granted nor disarmed"
	}
	return ""
}

// isSameElse is whether nothing beside labels, annotations, spec and what the API server writes differs.
func (b *bench) isSameElse(old, after object) bool {
	rest := func(o object) object {
		all := copied(o).(object)
		for _, key := range []string{"spec", "status"} {
			delete(all, key)
		}
		for _, key := range []string{"labels", "annotations", "managedFields", "resourceVersion", "generation"} {
			delete(all["metadata"].(object), key)
		}
		return all
	}
	return equal(rest(old), rest(after))
}

func label(o object) string {
	value, _ := at(o, "metadata", "labels", "backstop.dev/armed").(string)
	return value
}

func note(o object, key string) string {
	value, _ := at(o, "metadata", "annotations", "backstop.dev/"+key).(string)
	return value
}

// delta are the keys of a map of the metadata that differ.
func delta(old, after object, of string) (keys []string) {
	one, _ := at(old, "metadata", of).(object)
	other, _ := at(after, "metadata", of).(object)
	for key := range one {
		if _, ok := other[key]; !ok {
			keys = append(keys, key)
		}
	}
	for key, value := range other {
		if one[key] != value {
			keys = append(keys, key)
		}
	}
	return keys
}

func within(keys []string, allowed ...string) bool {
	return !slices.ContainsFunc(keys, func(key string) bool { return !slices.Contains(allowed, key) })
}

// equal compares JSON values.
func equal(one, other any) bool { return text(one) == text(other) }

// drillCatchesDefects takes a wall away and looks whether the drill gets through. Walls behind which another stands are not
// among them: a right of the executor to write ConfigMaps, say, opens nothing while the static policy is there.
func (s *suite) drillCatchesDefects(t *testing.T) {
	rights := []struct {
		name string
		who  account
		rule object
	}{
		{"the executor may read Secrets", executor, rule("", "secrets", "get", "list")},
		{"the controller may patch workloads", controller, rule("apps", "deployments", "patch")},
		{"the controller may delete pods", controller, rule("", "pods", "delete")},
		{"the controller may write receipts", controller, rule("backstop.dev", "remediations/status", "patch", "update")},
		{"the controller may change namespaces, and so their mode", controller, rule("", "namespaces", "patch")},
		{"the investigator may open Grants", investigator, rule("backstop.dev", "grants", "patch", "update")},
		{"the investigator may change ConfigMaps", investigator, rule("", "configmaps", "patch", "update")},
		{"the investigator may change Services", investigator, rule("", "services", "patch")},
	}
	for _, right := range rights {
		err := s.giveRight(right.who, right.rule)
		caught := false
		if err == nil {
			caught, err = s.drillFinds(right.who, nsOpen)
		}
		err = errors.Join(err, s.takeRight())
		s.countDrill(t, right.name, caught, err)
	}
	for _, d := range s.defects() {
		if !slices.Contains(aboutTheExecutor, d.policy) || d.name != letsEverythingThrough {
			continue
		}
		var err error
		if d.policy == "static" {
			// It is the one wall for whoever has every right.
			err = s.giveExtraRights()
		}
		if err == nil {
			err = s.plant(d)
		}
		caught := false
		if err == nil && strings.HasPrefix(d.policy, "provenance") {
			// Only whoever opens Grants as well gets this far.
			found := newTally()
			s.campaign(t, []account{controller, executor}, 600, found)
			caught = len(found.escapes) > 0
		} else if err == nil {
			caught, err = s.drillFinds(executor, "")
		}
		err = errors.Join(err, s.putRight(d.policy))
		s.dropExtraRights()
		s.countDrill(t, d.policy+": "+d.name, caught, err)
	}
}

// drillFinds is whether some of the drill's requests of this account get through that must not.
func (s *suite) drillFinds(who account, state string) (bool, error) {
	var shots []shot
	if state != "" {
		all, err := s.breadth(s.benches[state])
		if err != nil {
			return false, err
		}
		shots = slices.DeleteFunc(all, func(one shot) bool { return one.by != who })
	} else {
		shots = s.depth(6000, *seed)
	}
	found := newTally()
	for part := range slices.Chunk(shots, 400) {
		for _, one := range part {
			if err := s.fireOne(one, found); err != nil {
				return false, err
			}
			if len(found.escapes) > 0 {
				return true, nil
			}
		}
	}
	return false, nil
}

func (s *suite) countDrill(t *testing.T, name string, found bool, err error) {
	t.Helper()
	counting.Lock()
	planted++
	if found && err == nil {
		caught++
	}
	counting.Unlock()
	report(t, err == nil && found, "planted defect not caught by the drill: %s %v", name, err)
	if found {
		fmt.Printf("       caught: %s\n", name)
	}
}

func rule(group, resource string, verbs ...string) object {
	list := []any{}
	for _, verb := range verbs {
		list = append(list, verb)
	}
	return object{"apiGroups": []any{group}, "resources": []any{resource}, "verbs": list}
}

const extraRole = "/apis/rbac.authorization.k8s.io/v1/clusterroles/adm-extra"
const extraBinding = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/adm-extra"

// giveRight gives an account one more right than the chart does.
func (s *suite) giveRight(who account, rule object) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	api := object{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": object{"name": "adm-extra"}, "rules": []any{rule}}
	s.admin.must(request{method: "POST", path: strings.TrimSuffix(extraRole, "/adm-extra"), body: api})
	s.admin.must(request{method: "POST", path: strings.TrimSuffix(extraBinding, "/adm-extra"), body: object{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": object{"name": "adm-extra"},
		"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "adm-extra"},
		"subjects": []any{object{"kind": "ServiceAccount", "name": "backstop-" + string(who), "namespace": system}},
	}})
	resource, sub, _ := strings.Cut(rule["resources"].([]any)[0].(string), "/")
	return eventually("the extra right is in force", func() bool {
		return s.may(who, rule["verbs"].([]any)[0].(string), rule["apiGroups"].([]any)[0].(string), resource, sub, nsOpen, "")
	})
}

func (s *suite) takeRight() (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	for _, path := range []string{extraBinding, extraRole} {
		if s.admin.exists(path) != nil {
			s.admin.must(request{method: "DELETE", path: path})
		}
	}
	return nil
}

// randomOf is one of them.
func randomOf[T any](r *rand.Rand, all []T) T { return all[r.IntN(len(all))] }

// golden is whether golden files are written instead of compared.
var golden = os.Getenv("GOLDEN") == "write"
