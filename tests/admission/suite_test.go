// Package admission tries the chart's admission policies and rights against a
// real API server with the executor's own token, and none of our code.
//
// It takes the cluster of KUBECONFIG (default: the lab), installs the chart
// there as the release `backstop`, works in namespaces of its own that start
// with adm-, and removes all of it again.
package admission

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// A suite is what all tests share.
type suite struct {
	admin        *client
	executor     *client
	investigator *client
	controller   *client
	benches      map[string]*bench
	original     map[string]any // policies, before something was planted in them
}

var (
	shared          *suite
	checked, failed int
	planted, caught int
	counting        sync.Mutex
)

// report counts one checked expectation.
func report(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	counting.Lock()
	defer counting.Unlock()
	checked++
	if !ok {
		failed++
		t.Errorf(format, args...)
	}
}

func TestMain(m *testing.M) {
	if os.Getenv("REPLICASETS") != "" {
		if err := cost(); err != nil {
			fmt.Fprintln(os.Stderr, "measure:", err)
			os.Exit(1)
		}
		return
	}
	code := run(m)
	fmt.Printf("planted: %d of %d caught\n", caught, planted)
	fmt.Printf("admission: %d checked, %d failed\n", checked, failed)
	os.Exit(code)
}

func run(m *testing.M) (code int) {
	begin := time.Now()
	s, err := setUp()
	if s != nil {
		defer func() {
			if err := s.tearDown(); err != nil {
				fmt.Fprintln(os.Stderr, "clean up:", err)
				code = 1
			}
		}()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "set up:", err)
		failed++
		return 1
	}
	shared = s
	fmt.Printf("set up in %.1fs\n", time.Since(begin).Seconds())
	return m.Run()
}

func setUp() (s *suite, err error) {
	// A step that prepares panics with what the API server said.
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	admin, err := newAdmin(kubeconfig())
	if err != nil {
		return nil, err
	}
	if other := admin.exists("/api/v1/namespaces/" + system + "/serviceaccounts/backstop-controller"); other != nil {
		return nil, fmt.Errorf("release %q is installed in namespace %s: this suite installs its own; run `helm uninstall %s -n %s` first", release, system, release, system)
	}
	s = &suite{admin: admin}
	s.benches = s.newBenches()
	if err := s.removeNamespaces(); err != nil {
		return s, err
	}
	// The namespaces first: the Roles of the chart go into them.
	all := s.namespaces(everyBench)
	if err := inParallel(all, func(ns string) error { s.benches[ns].prepare("auto"); return nil }); err != nil {
		return s, err
	}
	if err := install(s.namespaces(enrolled)); err != nil {
		return s, err
	}
	s.executor = admin.account(system, "backstop-executor")
	s.controller = admin.account(system, "backstop-controller")
	s.investigator = admin.account(system, "backstop-investigator")
	if err := inParallel(all, func(ns string) error { return s.benches[ns].secondRevision() }); err != nil {
		return s, err
	}
	for _, t := range targets {
		if err := s.benches[t.ns(nsOpen)].inForce(); err != nil {
			return s, err
		}
	}
	// The API server serves a definition a moment after it was made.
	for _, plural := range []string{"approvals", "policies", "ledgers", "remediations", "incidents", "alerts"} {
		if err := eventually(plural+" are served", func() bool {
			a, err := admin.do(request{method: "GET", path: ourPath(system, plural, "")})
			return err == nil && a.accepted()
		}); err != nil {
			return s, err
		}
	}
	makeFixtures(s.benches[nsOpen])
	return s, inParallel(all, func(ns string) error { return s.benches[ns].reach() })
}

func (s *suite) removeNamespaces() error {
	list := s.admin.get("/api/v1/namespaces?labelSelector=backstop-test%3Dadmission")
	for _, item := range list["items"].([]any) {
		name := at(item, "metadata", "name").(string)
		if b := s.benches[name]; b != nil && b.state == nsHeld && s.admin.exists(b.path("api")) != nil {
			s.admin.must(request{method: "PATCH", kind: mergePatch, path: b.path("api"), body: object{"metadata": object{"finalizers": nil}}})
		}
		if _, err := s.admin.do(request{method: "DELETE", path: "/api/v1/namespaces/" + name}); err != nil {
			return err
		}
	}
	return eventually("the test's namespaces are gone", func() bool {
		list := s.admin.get("/api/v1/namespaces?labelSelector=backstop-test%3Dadmission")
		return len(list["items"].([]any)) == 0
	})
}

// tearDown removes the release and the namespaces. What the chart keeps stays,
// for the next install to adopt.
func (s *suite) tearDown() (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	var problems []error
	s.dropExtraRights()
	s.dropPeopleRights()
	if s.admin.exists("/api/v1/namespaces/"+system+"/serviceaccounts/backstop-controller") != nil {
		problems = append(problems, uninstall())
	}
	if path := ourPath(system, "ledgers", "known-good."+nsOpen); s.admin.exists(path) != nil {
		s.admin.must(request{method: "DELETE", path: path})
	}
	problems = append(problems, s.removeNamespaces())
	return errors.Join(problems...)
}

const extraRights = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/adm-executor-may-everything"

// giveExtraRights makes the executor's account a cluster administrator: then
// only admission stands between its token and the cluster.
func (s *suite) giveExtraRights() error {
	s.admin.must(request{method: "POST", path: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", body: object{
		"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
		"metadata": object{"name": "adm-executor-may-everything"},
		"roleRef":  object{"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
		"subjects": []any{object{"kind": "ServiceAccount", "name": "backstop-executor", "namespace": system}},
	}})
	return eventually("the executor's account has every right", func() bool {
		a, err := s.executor.do(request{method: "GET", path: "/api/v1/secrets?limit=1"})
		return err == nil && a.accepted()
	})
}

func (s *suite) dropExtraRights() {
	if s.admin.exists(extraRights) != nil {
		s.admin.must(request{method: "DELETE", path: extraRights})
	}
}

// inParallel runs one step for each name, some at once, to spend the waiting time once.
func inParallel(names []string, step func(string) error) error {
	problems := make([]error, len(names))
	var group sync.WaitGroup
	turn := make(chan struct{}, 12)
	for i, name := range names {
		group.Go(func() {
			turn <- struct{}{}
			defer func() {
				if reason := recover(); reason != nil {
					problems[i] = fmt.Errorf("%s: %v", name, reason)
				}
				<-turn
			}()
			problems[i] = step(name)
		})
	}
	group.Wait()
	return errors.Join(problems...)
}

// refusedBy names who refused: a policy, rbac, or the API server itself.
func refusedBy(a answer) string {
	if a.accepted() {
		return "nobody"
	}
	if _, rest, ok := strings.Cut(a.message, "ValidatingAdmissionPolicy 'backstop-"); ok {
		name, _, _ := strings.Cut(rest, "'")
		return name
	}
	if a.code == 403 && (strings.Contains(a.message, "is forbidden: User ") || strings.Contains(a.message, " cannot ")) {
		return "rbac"
	}
	return fmt.Sprintf("the API server (%d %s)", a.code, a.message)
}
