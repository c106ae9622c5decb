package admission

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A table that passes proves nothing unless it fails when a wall is missing.
// So each policy is taken away, each of its sentences is made to say yes, and
// some expressions are weakened as a careless edit would; and every time some
// request must get through that did not before.

// A defect is one change to a policy.
type defect struct {
	policy string
	name   string
	plant  func(spec object)
}

const admissionAPI = "/apis/admissionregistration.k8s.io/v1/"

func plantedDefectsAreCaught(t *testing.T) {
	s := shared
	if err := s.giveExtraRights(); err != nil {
		t.Fatal(err)
	}
	defer s.dropExtraRights()
	people := append(carried(s.benches[nsClosed]), ourKinds(s.benches[nsPeople])...)
	// Two lines of work side by side: what guards people's writes has nothing to do with the rest.
	lines := map[bool][]defect{}
	for _, d := range s.defects() {
		mine := slices.Contains([]string{"static", "grant", "provenance"}, d.policy)
		lines[mine] = append(lines[mine], d)
	}
	var group sync.WaitGroup
	var lock sync.Mutex
	for _, defects := range lines {
		group.Go(func() {
			for i, d := range defects {
				by, err := s.catchOrSay(d, people)
				if i+1 == len(defects) || defects[i+1].policy != d.policy {
					err = errors.Join(err, s.putRight(d.policy))
				}
				lock.Lock()
				planted++
				ok := err == nil && by != ""
				if ok {
					caught++
				}
				report(t, ok, "planted in backstop-%s: %s: nothing in the table noticed (%v)", d.policy, d.name, err)
				t.Logf("backstop-%s: %s: caught by %q", d.policy, d.name, by)
				lock.Unlock()
			}
		})
	}
	group.Wait()
}

// catchOrSay is catch, with what a failed preparation said as an error.
func (s *suite) catchOrSay(d defect, people []peopleRow) (by string, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	return s.catch(d, people)
}

// defects lists all that is planted, from the policies as they are installed.
func (s *suite) defects() []defect {
	var all []defect
	s.original = map[string]any{}
	for _, policy := range []string{"static", "grant", "provenance", "guard", "approval", "alert"} {
		spec := s.admin.get(admissionAPI + "validatingadmissionpolicies/backstop-" + policy)["spec"].(object)
		s.original[policy] = spec
		all = append(all, defect{policy, "the policy lets everything through", func(spec object) {
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
	all = append(all, weakened()...)
	// One policy after the other: it is put right once, after its last defect.
	slices.SortStableFunc(all, func(x, y defect) int { return strings.Compare(x.policy, y.policy) })
	return all
}

// weakened replaces a part of one expression.
func weakened() []defect {
	edit := func(policy, name, from, to string) defect {
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
	return []defect{
		edit("static", "any namespace counts as enrolled", "has(request.namespace) && request.namespace in", "true || request.namespace in"),
		edit("static", "any ReplicaSet may be marked", "object.metadata.?ownerReferences.orValue([]).exists(o, o.kind == 'Deployment' && o.apiVersion == 'apps/v1' && o.?controller.orValue(false))", "true"),
		edit("static", "an object with a finalizer may be armed", "object.metadata.?finalizers.orValue([]).size() == 0", "true"),
		edit("static", "arming may write the receipt", "variables.newAction.matches('^[0-9a-f]{32}$') && variables.newReceipt == variables.oldReceipt", "variables.newAction.matches('^[0-9a-f]{32}$')"),
		edit("static", "disarming may write the receipt", "variables.newAction in ['', variables.oldAction] && variables.newReceipt == variables.oldReceipt", "variables.newAction in ['', variables.oldAction]"),
		edit("static", "firing may leave the action's name", "variables.newAction == '' && variables.newReceipt", "variables.newReceipt"),
		edit("static", "firing need not change the receipt", "&& variables.oldReceipt != variables.oldAction", ""),
		edit("static", "any annotation with our prefix may change", "k in variables.ownNotes ||", "k.startsWith('backstop.dev/') ||"),
		edit("static", "the mark may have any value", "variables.newLabels[?'backstop.dev/undo-to'].orValue('') == 'true'", "'backstop.dev/undo-to' in variables.newLabels"),
		edit("static", "a status is taken for its object", "variables.subresource == '' &&", ""),
		edit("static", "any status may be written", "request.resource.resource == 'remediations' &&", ""),
		edit("static", "a Remediation itself may be written", "request.resource.resource == 'remediations' && variables.subresource == 'status'", "request.resource.resource == 'remediations'"),
		edit("provenance", "a hash label may be in the template", "!('pod-template-hash' in variables.newLabels) &&", ""),
		edit("provenance", "labels may be added to the template", "variables.newLabels.all(k, k in variables.oldLabels)", "true"),
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
	case "grant", "provenance":
		return "object.metadata.?labels[?'backstop.dev/armed'].orValue('') == 'self-test-" + policy + "'"
	default:
		return "request.name == '" + canary + "'"
	}
}

// callCanary makes the request that the canary's sentence refuses.
func (s *suite) callCanary(policy string) (answer, error) {
	switch policy {
	case "grant", "provenance":
		return s.executor.do(selfTest(policy, nsOpen, "other"))
	case "static":
		return s.executor.do(request{method: "POST", path: "/api/v1/namespaces/" + nsOpen + "/configmaps?dryRun=All",
			body: object{"apiVersion": "v1", "kind": "ConfigMap", "metadata": object{"name": canary}}})
	case "guard":
		return s.admin.do(request{method: "POST", path: "/apis/apps/v1/namespaces/" + nsOpen + "/deployments?dryRun=All", body: newDeployment(canary)})
	case "approval":
		return s.person().do(request{method: "POST", path: ourPath(nsOpen, "approvals", "") + "?dryRun=All", body: approval(canary, "adm-person")})
	default:
		return s.person().do(request{method: "POST", path: ourPath(nsOpen, "alerts", "") + "?dryRun=All", body: alert(canary, nil)})
	}
}

// catch plants one defect and tries the table until something gets through.
func (s *suite) catch(d defect, people []peopleRow) (by string, err error) {
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
	err = eventually("the API server has the planted policy", 10*time.Second, func() bool {
		a, err := s.callCanary(d.policy)
		return err == nil && strings.Contains(a.message, sentence)
	})
	if err != nil {
		return "", err
	}
	switch d.policy {
	case "static", "grant", "provenance":
		if err := s.refresh(); err != nil {
			return "", err
		}
		return s.firstAccepted(d)
	default:
		for _, row := range people {
			if row.want != d.policy {
				continue
			}
			if by, _, err := s.tryPeople(row); err == nil && by == "nobody" {
				return row.name, nil
			}
		}
	}
	return "", nil
}

// putRight undoes what was planted in a policy.
func (s *suite) putRight(policy string) error {
	path := admissionAPI + "validatingadmissionpolicies/backstop-" + policy
	s.admin.must(request{method: "PATCH", kind: jsonPatch, path: path, body: []any{op("replace", "/spec", s.original[policy])}})
	return eventually("the API server has the right policy again", 10*time.Second, func() bool {
		a, err := s.callCanary(policy)
		return err == nil && !strings.Contains(a.message, "canary ")
	})
}

// firstAccepted is the first forbidden row that nobody refuses now. Those come
// first that one policy alone refuses: with it weakened, they are the likely ones.
func (s *suite) firstAccepted(d defect) (string, error) {
	table := rows()
	slices.SortStableFunc(table, func(x, y row) int { return len(x.want) - len(y.want) })
	for _, r := range table {
		// Opening a connection is tried for real elsewhere; here a dry-run must do.
		if r.once || r.real || !slices.Contains(r.want, d.policy) {
			continue
		}
		by, _, err := r.try(s, true)
		if err != nil {
			return "", err
		}
		if by == "nobody" {
			return r.name, nil
		}
	}
	return "", nil
}
