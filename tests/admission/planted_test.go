package admission

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A table that passes proves nothing unless it fails when a wall is missing.
// So each policy is taken away, each of its sentences is made to say yes, and
// some expressions are weakened as a careless edit would; and every time some
// request must get through that did not before.

// The policies about the executor's own writes.
var aboutTheExecutor = []string{"static", "grant", deployments.provenance, statefulSets.provenance}

// A defect is one change to a policy.
type defect struct {
	policy string
	name   string
	plant  func(spec object)
}

const letsEverythingThrough = "the policy lets everything through"

const admissionAPI = "/apis/admissionregistration.k8s.io/v1/"

func plantedDefectsAreCaught(t *testing.T) {
	s := shared
	if err := s.giveExtraRights(); err != nil {
		t.Fatal(err)
	}
	defer s.dropExtraRights()
	people := ourKinds(s.benches[nsPeople])
	for _, target := range targets {
		people = append(people, carried(s.benches[target.ns(nsClosed)])...)
	}
	// One line of work for each policy, side by side: a defect counts as caught only by a request
	// that its policy alone refuses, so what is planted in another one makes no difference.
	lines := map[string][]defect{}
	for _, d := range s.defects() {
		lines[d.policy] = append(lines[d.policy], d)
	}
	var group sync.WaitGroup
	for policy, defects := range lines {
		group.Go(func() {
			for _, d := range defects {
				by, err := s.catch(d, people)
				s.count(t, d, by, err)
			}
			report(t, s.putRight(policy) == nil, "put backstop-%s right again", policy)
		})
	}
	group.Wait()
}

// count counts one planted defect and what caught it.
func (s *suite) count(t *testing.T, d defect, by string, err error) {
	t.Helper()
	report(t, err == nil && by != "", "planted in backstop-%s: %s: nothing in the table noticed (%v)", d.policy, d.name, err)
	t.Logf("backstop-%s: %s: caught by %q", d.policy, d.name, by)
	counting.Lock()
	defer counting.Unlock()
	planted++
	if err == nil && by != "" {
		caught++
	}
}

// defects lists all that is planted, from the policies as they are installed.
func (s *suite) defects() []defect {
	var all []defect
	s.original = map[string]any{}
	for _, policy := range append(slices.Clone(aboutTheExecutor), "guard", "approval", "alert", "exception", "ledger", "breaker-reset", "ledger-kept") {
		spec := s.admin.get(admissionAPI + "validatingadmissionpolicies/backstop-" + policy)["spec"].(object)
		s.original[policy] = spec
		all = append(all, defect{policy, letsEverythingThrough, func(spec object) {
			spec["matchConditions"] = []any{object{"name": "never", "expression": canaryOr(policy, "false")}}
		}})
		for i, v := range spec["validations"].([]any) {
			expression := at(v, "expression").(string)
			if strings.Contains(expression, "'self-test-") {
				continue // says no to the self-test only
			}
			all = append(all, defect{policy, fmt.Sprintf("sentence %d (%.60s…) says yes", i+1, strings.Join(strings.Fields(expression), " ")), func(spec object) {
				spec["validations"].([]any)[i].(object)["expression"] = "true"
			}})
		}
	}
	return append(all, weakened()...)
}

// edit replaces a part of a policy's expressions, as a careless hand would.
func edit(policy, name, from, to string) defect {
	return defect{policy, name, func(spec object) {
		found := false
		for _, list := range []string{"variables", "validations", "matchConditions"} {
			entries, _ := spec[list].([]any)
			for _, entry := range entries {
				e := entry.(object)
				text := strings.Join(strings.Fields(e["expression"].(string)), " ")
				if strings.Contains(text, from) {
					e["expression"], found = strings.ReplaceAll(text, from, to), true
				}
			}
		}
		if !found {
			panic(fmt.Sprintf("policy backstop-%s has no expression with %q: adapt the planted defect %q", policy, from, name))
		}
	}}
}

func weakened() []defect {
	return []defect{
		edit("static", "any namespace counts as enrolled", "has(request.namespace) && request.namespace in", "true || request.namespace in"),
		edit("static", "any revision may be marked", "object.metadata.?ownerReferences.orValue([]).exists(o, (o.apiVersion + ' ' + o.kind) in variables.owners && o.?controller.orValue(false))", "true"),
		edit("static", "an object with a finalizer may be armed", "object.metadata.?finalizers.orValue([]).size() == 0", "true"),
		edit("static", "arming may write the receipt", "variables.newAction.matches('^[0-9a-f]{32}$') && variables.newReceipt == variables.oldReceipt", "variables.newAction.matches('^[0-9a-f]{32}$')"),
		edit("static", "disarming may write the receipt", "variables.newAction in ['', variables.oldAction] && variables.newReceipt == variables.oldReceipt", "variables.newAction in ['', variables.oldAction]"),
		edit("static", "firing may leave the action's name", "variables.newAction == '' && variables.newReceipt", "variables.newReceipt"),
		edit("static", "firing need not change the receipt", "&& variables.oldReceipt != variables.oldAction", ""),
		edit("static", "any annotation with our prefix may change", "k in variables.ownNotes ||", "k.startsWith('backstop.dev/') ||"),
		edit("static", "the mark may have any value", "variables.newLabels[?'backstop.dev/undo-to'].orValue('') == 'true'", "'backstop.dev/undo-to' in variables.newLabels"),
		edit("static", "a status is taken for its object", "&& variables.subresource == ''", ""),
		edit("static", "any status may be written", "request.resource.resource == 'remediations' &&", ""),
		edit("static", "a Remediation itself may be written", "request.resource.resource == 'remediations' && variables.subresource == 'status'", "request.resource.resource == 'remediations'"),
		edit("static", "what is beside the spec may change", "variables.revision && variables.same &&", "variables.revision &&"),
		edit("static", "an Eviction may carry other labels", "variables.newLabels.size() == 1 &&", ""),
		edit("static", "an Eviction may carry any armed label", "variables.newLabels.size() == 1 && variables.now in ['rollout-undo', 'rollout-restart']", "variables.newLabels.size() == 1"),
		edit("static", "a restart may change what runs", "dyn(object.spec.template).all(k, k == 'metadata' ||", "dyn(object.spec.template).all(k, true ||"),
		edit("static", "a restart may change labels of the pods", "dyn(object.spec.template.metadata).all(k, k == 'annotations' ||", "dyn(object.spec.template.metadata).all(k, true ||"),
		edit("static", "a restart may change any annotation of the pods", "k == 'kubectl.kubernetes.io/restartedAt' ||", "true ||"),
		edit("static", "a restart may take annotations away", "oldObject.spec.template.metadata.?annotations.orValue({}).all(k, k in object.spec.template.metadata.?annotations.orValue({}))", "true"),
		edit("static", "a restart may write any text", ".matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$')", " != ''"),
		edit("static", "an Eviction may carry other annotations", "variables.newNotes.size() == 1 &&", ""),
		edit("static", "an Eviction may have a grace period", "k in ['preconditions', 'dryRun']", "k in ['preconditions', 'dryRun', 'gracePeriodSeconds']"),
		edit("static", "evictions are none of the kill switch's business", "!(variables.target || variables.eviction) || variables.disarm", "!variables.target || variables.disarm"),
		edit("grant", "any pod may be evicted under the granted uid", "request.name == variables.evict.?pod.?name.orValue('') &&", ""),
		edit("grant", "the granted pod may be evicted under any uid", "&& dyn(object).?deleteOptions.?preconditions.?uid.orValue('') == variables.evict.?pod.?uid.orValue('none')", ""),
		edit("grant", "the end of a Grant is not for evictions", "variables.writers.exists(w", "variables.evicting || variables.writers.exists(w"),
		edit("provenance", "a hash label may be in the template", "!('pod-template-hash' in variables.newLabels) &&", ""),
		edit(statefulSets.provenance, "labels may be added to the template", "variables.newLabels.all(k, k in variables.oldLabels)", "true"),
		edit(statefulSets.provenance, "the revision of any owner will do", "o.uid == object.metadata.uid &&", ""),
		edit("provenance", "labels may be added to the template", "variables.newLabels.all(k, k in variables.oldLabels)", "true"),
		edit("breaker-reset", "whoever writes an entry", "!(r in variables.before)", "false"),
		edit("ledger-kept", "any field of the spec may change", "dyn(object).spec[k] == dyn(oldObject).spec[k]", "true"),
		edit("alert", "the exporter's label is not looked at", "['namespace', 'exported_namespace']", "['namespace']"),
	}
}

// The canary is an object name (or a self-test) that a planted policy refuses
// with a number of its own: that is how the test knows the API server has it.
const canary = "adm-canary"

// canaryOr is a match condition that lets the canary in beside what it says.
func canaryOr(policy, condition string) string { return condition + " || " + isCanary(policy) }

func isCanary(policy string) string {
	switch policy {
	case "grant", deployments.provenance, statefulSets.provenance:
		label, _, _ := strings.Cut(policy, "-")
		return "object.metadata.?labels[?'backstop.dev/armed'].orValue('') == 'self-test-" + label + "'"
	case "ledger-kept":
		// It looks at changes alone, so the canary is a label on a Ledger that exists.
		return "object.metadata.?labels[?'" + canary + "'].orValue('') == 'true'"
	default:
		return "request.name == '" + canary + "'"
	}
}

// callCanary makes the request that the canary's sentence refuses.
func (s *suite) callCanary(policy string) (answer, error) {
	switch policy {
	case "grant", deployments.provenance:
		return s.executor.do(s.benches[nsOpen].selfTest(policy))
	case statefulSets.provenance:
		return s.executor.do(s.benches[statefulSets.ns(nsOpen)].selfTest(policy))
	case "static":
		return s.executor.do(request{method: "POST", path: "/api/v1/namespaces/" + nsOpen + "/configmaps?dryRun=All",
			body: object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": canary}}})
	case "guard":
		return s.admin.do(request{method: "POST", path: deployments.path(nsOpen, "") + "?dryRun=All", body: deployments.new(canary)})
	case "approval":
		return s.person().do(request{method: "POST", path: ourPath(nsOpen, "approvals", "") + "?dryRun=All", body: approval(canary, "adm-person")})
	case "ledger":
		return s.controller.do(request{method: "POST", path: ourPath(system, "ledgers", "") + "?dryRun=All", body: ours("Ledger", canary, object{"purpose": "Actions"})})
	case "breaker-reset":
		return s.admin.do(request{method: "POST", path: ourPath(system, "ledgers", "") + "?dryRun=All", body: ours("Ledger", canary, object{"purpose": "Actions"})})
	case "ledger-kept":
		return s.person().do(request{method: "PATCH", kind: mergePatch, path: ourPath(system, "ledgers", "known-good."+nsOpen) + "?dryRun=All",
			body: object{"metadata": object{"labels": object{canary: "true"}}}})
	case "exception":
		return s.person().do(request{method: "POST", path: ourPath(nsOpen, "policyexceptions", "") + "?dryRun=All", body: exception(canary, object{"name": "hours"})})
	default:
		return s.person().do(request{method: "POST", path: ourPath(nsOpen, "alerts", "") + "?dryRun=All", body: alert(canary, nil)})
	}
}

// plant puts one defect into a policy and waits until the API server has it.
// What a failed preparation says is an error.
func (s *suite) plant(d defect) (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	path := admissionAPI + "validatingadmissionpolicies/backstop-" + d.policy
	spec := copied(s.original[d.policy]).(object)
	d.plant(spec)
	sentence := fmt.Sprintf("canary %x.", sha256.Sum256([]byte(d.policy+d.name)))
	refusal := object{"expression": "!(" + isCanary(d.policy) + ")", "message": sentence}
	if d.policy == "grant" {
		// The tests read from this sentence which Grant the policy sees.
		refusal["messageExpression"] = "'" + sentence + " (grant resourceVersion ' + params.metadata.resourceVersion + ')'"
	}
	spec["validations"] = append([]any{refusal}, spec["validations"].([]any)...)
	s.admin.must(request{method: "PATCH", kind: jsonPatch, path: path, body: []any{op("replace", "/spec", spec)}})
	return eventually("the API server has the planted policy", func() bool {
		a, err := s.callCanary(d.policy)
		return err == nil && strings.Contains(a.message, sentence)
	})
}

// catch plants one defect and tries the table until something gets through.
// What is planted in other policies at the same time makes no difference.
func (s *suite) catch(d defect, people []peopleRow) (by string, err error) {
	if err := s.plant(d); err != nil {
		return "", err
	}
	if slices.Contains(aboutTheExecutor, d.policy) {
		return s.firstAccepted(func(r row) bool { return r.alone(d.policy) })
	}
	for _, row := range people {
		if row.want != d.policy {
			continue
		}
		if by, _, err := s.tryPeople(row); err == nil && by == "nobody" {
			return row.name, nil
		}
	}
	return "", nil
}

// putRight undoes what was planted in a policy.
func (s *suite) putRight(policy string) error {
	path := admissionAPI + "validatingadmissionpolicies/backstop-" + policy
	s.admin.must(request{method: "PATCH", kind: jsonPatch, path: path, body: []any{op("replace", "/spec", s.original[policy])}})
	return eventually("the API server has the right policy again", func() bool {
		a, err := s.callCanary(policy)
		return err == nil && !strings.Contains(a.message, "canary ")
	})
}

// firstAccepted is one of the forbidden rows that nobody refuses now, if there is any. The policies
// say the same about every kind of target, so the rows about one kind are likely to be enough.
func (s *suite) firstAccepted(want func(row) bool) (by string, err error) {
	for _, likely := range []bool{true, false} {
		by, err = s.oneAccepted(only(rows(), func(r row) bool {
			later := strings.HasPrefix(r.name, statefulSets.kind) || strings.HasPrefix(r.name, daemonSets.kind)
			return want(r) && likely == !later
		}))
		if by != "" || err != nil {
			break
		}
	}
	return by, err
}

func (s *suite) oneAccepted(table []row) (by string, err error) {
	var lock sync.Mutex
	problem := s.inTurn(table, func(r row) error {
		lock.Lock()
		done := by != ""
		lock.Unlock()
		if done {
			return nil
		}
		refused, _, err := r.try(s, true)
		if err == nil && refused == "nobody" {
			lock.Lock()
			by = r.name
			lock.Unlock()
		}
		return err
	})
	return by, problem
}

// alone is a row that this policy alone refuses. Opening a connection is tried
// for real elsewhere; here a dry-run must do.
func (r row) alone(policy string) bool {
	return !r.once && !r.real && len(r.want) == 1 && r.want[0] == policy
}

// The static policy must hold with the judge and the hands both stolen, so with
// whatever Grant they write: it is tried with the other policies letting
// everything through, and with defects of its own that only the Grant hides else.
func theStaticPolicyHoldsAlone(t *testing.T) {
	s := shared
	if err := s.giveExtraRights(); err != nil {
		t.Fatal(err)
	}
	defer s.dropExtraRights()
	others := aboutTheExecutor[1:]
	for _, d := range s.defects() {
		if slices.Contains(others, d.policy) && d.name == letsEverythingThrough {
			if err := s.plant(d); err != nil {
				t.Fatal(err)
			}
		}
	}
	both := func(r row) bool {
		return !r.once && !r.real && !strings.Contains(r.name, "self-test") && (r.alone("static") || slices.Equal(r.want, granted) && !r.clock)
	}
	table := only(rows(), both)
	err := s.inTurn(table, func(r row) error {
		by, a, err := r.try(s, true)
		report(t, err == nil && by == "static", "%s: refused by %s, not by the static policy: %v %s", r.name, by, err, a.message)
		return nil
	})
	report(t, err == nil, "%v", err)
	fmt.Printf("%d requests refused by the static policy alone\n", len(table))
	for _, d := range hidden() {
		err := s.plant(d)
		by := ""
		if err == nil {
			by, err = s.firstAccepted(both)
		}
		s.count(t, d, by, err)
	}
	for _, policy := range aboutTheExecutor {
		report(t, s.putRight(policy) == nil, "put backstop-%s right again", policy)
	}
}

// hidden are defects of the static policy that a Grant makes up for.
func hidden() []defect {
	return []defect{
		edit("static", "any change of the spec is a fire", "variables.was == 'rollout-undo' && (", "variables.was == 'rollout-undo' && (true || "),
		edit("static", "firing may write any receipt", "variables.newReceipt == variables.oldAction &&", ""),
		edit("static", "any label arms", "variables.now in variables.actions", "variables.now != ''"),
		edit("static", "any action id will do", "variables.newAction.matches('^[0-9a-f]{32}$') && variables.newReceipt", "variables.newReceipt"),
	}
}
