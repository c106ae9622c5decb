package admission

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Every right of our accounts, asked of the API server itself: each account × verb × resource × subresource, in the
// system namespace, an enrolled one, another one, and in all at once. testdata/rbac.golden was read by a person; write it
// anew with GOLDEN=write make attack.

const rbacGolden = "testdata/rbac.golden"

// The verbs of the API server, those that RBAC asks for only where rights are given away, and that of impersonation.
var rbacVerbs = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "bind", "escalate", "impersonate"}

// named are objects that a right may be bound to.
func named(r served, enrolledNS string) []string {
	switch r.resource {
	case "leases":
		return []string{"backstop-controller", "backstop-investigator"}
	case "namespaces":
		return []string{enrolledNS, nsOff}
	case "ledgers":
		return []string{"known-good." + enrolledNS, "actions"}
	case "grants":
		return []string{"active"}
	}
	return nil
}

// may is what a SubjectAccessReview says.
func (s *suite) may(who account, verb, group, resource, sub, ns, name string) bool {
	attributes := object{"verb": verb, "group": group, "version": "*", "resource": resource, "subresource": sub, "namespace": ns}
	if name != "" {
		attributes["name"] = name
	}
	review := s.admin.must(request{method: "POST", path: "/apis/authorization.k8s.io/v1/subjectaccessreviews", body: object{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
		"spec": object{
			"user":   "system:serviceaccount:" + system + ":backstop-" + string(who),
			"groups": []any{"system:serviceaccounts", "system:serviceaccounts:" + system, "system:authenticated"}, "resourceAttributes": attributes},
	}})
	allowed, _ := at(review, "status", "allowed").(bool)
	return allowed
}

func (s *suite) everyRightIsInTheGoldenFile(t *testing.T) {
	resources := map[string]served{}
	for _, r := range s.discover() {
		resources[r.about()] = r
	}
	// What there is to impersonate is in no namespace and served nowhere.
	for _, virtual := range []served{{resource: "users"}, {resource: "groups"}, {resource: "uids", group: "authentication.k8s.io"}} {
		resources[virtual.about()] = virtual
	}
	// A right in all namespaces is one in each, and one on all objects is one on each: those are told, and asked about, once.
	places := []struct{ name, ns string }{{"everywhere", ""}, {"system", system}, {"enrolled", nsOpen}, {"another", nsOff}}
	var lines []string
	var asked int
	var lock sync.Mutex
	err := inParallel(slices.Sorted(maps.Keys(resources)), func(about string) error {
		r := resources[about]
		for _, who := range accounts {
			everywhere := map[string]bool{}
			for _, place := range places {
				if !r.namespaced && place.ns != "" {
					continue
				}
				known := maps.Clone(everywhere)
				for _, name := range append([]string{""}, named(r, nsOpen)...) {
					var allowed []string
					for _, verb := range rbacVerbs {
						if known[verb] {
							continue
						}
						lock.Lock()
						asked++
						lock.Unlock()
						if !s.may(who, verb, r.group, r.resource, r.sub, place.ns, name) {
							continue
						}
						allowed = append(allowed, verb)
						if name == "" {
							known[verb] = true
						}
						if name == "" && place.ns == "" {
							everywhere[verb] = true
						}
					}
					if len(allowed) == 0 {
						continue
					}
					lock.Lock()
					lines = append(lines, fmt.Sprintf("%-12s  %-10s  %-44s  %-20s  %s", who, place.name, about, cmp.Or(name, "-"), strings.Join(allowed, " ")))
					lock.Unlock()
				}
			}
		}
		return nil
	})
	report(t, err == nil, "%v", err)
	slices.Sort(lines)
	seen := strings.Join(lines, "\n") + "\n"
	fmt.Printf("%d rights were asked about, %d lines are granted\n", asked, len(lines))
	for _, line := range lines {
		fields := strings.Fields(line)
		report(t, !strings.HasPrefix(fields[2], "/secrets"), "an account may do something with Secrets: %s", line)
		for _, verb := range []string{"bind", "escalate", "impersonate", "deletecollection"} {
			report(t, !slices.Contains(fields[4:], verb), "an account may %s: %s", verb, line)
		}
		for _, about := range []string{"/serviceaccounts/token", "/nodes/proxy", "/pods/exec", "/pods/attach", "/pods/portforward", "/pods/proxy", "/pods/ephemeralcontainers", "/services/proxy"} {
			report(t, fields[2] != about, "an account may use %s: %s", about, line)
		}
		report(t, !strings.HasPrefix(fields[2], "rbac.authorization.k8s.io/") && !strings.HasPrefix(fields[2], "admissionregistration.k8s.io/"), "an account may use %s: %s", fields[2], line)
	}
	s.noRoleHasAWildcard(t)
	if golden {
		if err := os.WriteFile(rbacGolden, []byte(seen), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(rbacGolden)
	report(t, err == nil && string(want) == seen, "the rights are not those of %s (GOLDEN=write writes it): %v\n%s", rbacGolden, err, differing(string(want), seen))
}

// differing are the lines that only one of them has.
func differing(want, seen string) string {
	var out []string
	one, other := strings.Split(want, "\n"), strings.Split(seen, "\n")
	for _, line := range one {
		if !slices.Contains(other, line) {
			out = append(out, "- "+line)
		}
	}
	for _, line := range other {
		if !slices.Contains(one, line) {
			out = append(out, "+ "+line)
		}
	}
	return strings.Join(out, "\n")
}

// noRoleHasAWildcard looks at every role of the chart: a star would cover kinds that come later.
func (s *suite) noRoleHasAWildcard(t *testing.T) {
	var found int
	for _, kind := range []string{"clusterroles", "roles"} {
		for _, item := range s.admin.get("/apis/rbac.authorization.k8s.io/v1/" + kind + "?labelSelector=app.kubernetes.io%2Fname%3Dbackstop")["items"].([]any) {
			found++
			rules, _ := at(item, "rules").([]any)
			report(t, !strings.Contains(text(rules), `"*"`), "%s %v has a wildcard", kind, at(item, "metadata", "name"))
		}
	}
	report(t, found > 0, "no role of the chart was found")
}
