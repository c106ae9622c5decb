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

// The states of a rollback, one namespace each.
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
	nsForeign = "adm-foreign" // armed, the marked revision is another Deployment's
	nsWrong   = "adm-wrong"   // armed, the marked revision is the object's own but not the granted one
	nsOff     = "adm-off"     // not enrolled
	nsPeople  = "adm-people"  // other people's writes
	nsDelete  = "adm-delete"  // deleted while armed
	nsRelease = "adm-release" // armed while the release is deleted
)

var enrolled = []string{nsOpen, nsArmed, nsClosed, nsNone, nsExpired, nsReplay, nsLong, nsHeld, nsObserve, nsEvil, nsForeign, nsWrong, nsPeople, nsDelete, nsRelease}

// A suite is what all tests share.
type suite struct {
	admin      *client
	executor   *client
	controller *client
	benches    map[string]*bench
	original   map[string]any // policies, before something was planted in them
	refreshed  time.Time
}

var (
	shared          *suite
	checked, failed int
	planted, caught int
)

// report counts one checked expectation.
func report(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	checked++
	if !ok {
		failed++
		t.Errorf(format, args...)
	}
}

func TestMain(m *testing.M) {
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
	s = &suite{admin: admin, benches: map[string]*bench{}}
	if err := s.removeNamespaces(); err != nil {
		return s, err
	}
	for _, ns := range append([]string{nsOff}, enrolled...) {
		b := &bench{suite: s, ns: ns}
		s.benches[ns] = b
		b.prepare("auto")
	}
	if err := install(enrolled); err != nil {
		return s, err
	}
	s.executor = admin.account(system, "backstop-executor")
	s.controller = admin.account(system, "backstop-controller")
	err = inParallel(append([]string{nsOff}, enrolled...), func(ns string) error { return s.benches[ns].secondRevision() })
	if err != nil {
		return s, err
	}
	if err := inForce(s.executor, nsOpen, "other"); err != nil {
		return s, err
	}
	return s, s.reachStates()
}

// reachStates brings each namespace into its state, by the granted sequence:
// what is forbidden is tried later, from there.
func (s *suite) reachStates() error {
	makeFixtures(s.benches[nsOpen])
	if err := s.benches[nsClosed].grant(nil); err != nil {
		return err
	}
	err := inParallel([]string{nsOpen, nsArmed, nsObserve, nsEvil, nsForeign, nsExpired, nsReplay, nsPeople, nsDelete, nsRelease, nsLong, nsHeld, nsWrong}, func(ns string) error {
		b := s.benches[ns]
		number := "1"
		if ns == nsWrong {
			number = "2"
			s.admin.must(b.personPatch("api", strategicPatch, badRelease("3")))
		}
		open := b.granted()
		if ns == nsLong {
			open["notAfter"] = inSeconds(3600)
		}
		marked := "api"
		if ns == nsForeign {
			marked = "other"
			open["after"] = b.recorded("other")
		}
		if err := b.mark(marked, number); err != nil {
			return err
		}
		if err := b.grant(open); err != nil {
			return err
		}
		switch ns {
		case nsOpen, nsLong:
			return nil
		case nsHeld:
			s.admin.must(request{method: "PATCH", kind: mergePatch, path: deploymentPath(ns, "api"), body: object{"metadata": object{"finalizers": []any{"backstop.test/hold"}}}})
			return nil
		case nsReplay:
			s.executor.must(b.patch("api", armOps()))
			s.executor.must(b.patch("api", fireOps(b.recorded("api"))))
			s.admin.must(b.personPatch("api", strategicPatch, badRelease("2")))
			if err := b.grant(b.granted()); err != nil {
				return err
			}
		}
		s.executor.must(b.patch("api", armOps()))
		return nil
	})
	if err != nil {
		return err
	}
	if err := s.benches[nsObserve].pullKillSwitch(); err != nil {
		return err
	}
	// Everything so far was written in time; from a second after notAfter on nothing is (the server
	// writes whole seconds).
	end := inSeconds(1)
	for _, ns := range []string{nsExpired, nsReplay} {
		open := at(s.admin.get(ourPath(ns, "grants", "active")), "spec", "open").(object)
		open["notAfter"] = end
		if err := s.benches[ns].grant(open); err != nil {
			return err
		}
	}
	last, err := time.Parse(time.RFC3339, end)
	if err != nil {
		return err
	}
	time.Sleep(time.Until(last.Add(time.Second)))
	return nil
}

// refresh opens the Grants again that a row may use: they are short-lived.
func (s *suite) refresh() error {
	if time.Since(s.refreshed) < 25*time.Second {
		return nil
	}
	s.refreshed = time.Now()
	for _, ns := range []string{nsOpen, nsArmed, nsObserve, nsForeign, nsHeld, nsWrong} {
		b := s.benches[ns]
		open := at(s.admin.get(ourPath(ns, "grants", "active")), "spec", "open").(object)
		open["notAfter"] = inSeconds(60)
		if err := b.grant(open); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) removeNamespaces() error {
	list := s.admin.get("/api/v1/namespaces?labelSelector=backstop-test%3Dadmission")
	for _, item := range list["items"].([]any) {
		name := at(item, "metadata", "name").(string)
		if name == nsHeld && s.admin.exists(deploymentPath(name, "api")) != nil {
			s.admin.must(request{method: "PATCH", kind: mergePatch, path: deploymentPath(name, "api"), body: object{"metadata": object{"finalizers": nil}}})
		}
		if _, err := s.admin.do(request{method: "DELETE", path: "/api/v1/namespaces/" + name}); err != nil {
			return err
		}
	}
	return eventually("the test's namespaces are gone", 60*time.Second, func() bool {
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
	if s.admin.exists("/api/v1/namespaces/"+system+"/serviceaccounts/backstop-controller") != nil {
		problems = append(problems, uninstall())
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
	return eventually("the executor's account has every right", 10*time.Second, func() bool {
		a, err := s.executor.do(request{method: "GET", path: "/api/v1/secrets?limit=1"})
		return err == nil && a.accepted()
	})
}

func (s *suite) dropExtraRights() {
	if s.admin.exists(extraRights) != nil {
		s.admin.must(request{method: "DELETE", path: extraRights})
	}
}

// inParallel runs one step per namespace at once, to spend the waiting time once.
func inParallel(names []string, step func(string) error) error {
	problems := make([]error, len(names))
	var group sync.WaitGroup
	for i, name := range names {
		group.Go(func() {
			defer func() {
				if reason := recover(); reason != nil {
					problems[i] = fmt.Errorf("%s: %v", name, reason)
				}
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
