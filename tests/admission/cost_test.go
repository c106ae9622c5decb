package admission

// What the policies cost the API server. Not a test: `make measure-policies` prints figures, and nothing fails by them.

import (
	"bufio"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// writes are those of one measurement; the first tenth of them warms up and is not counted.
const writes = 4000

const nsCost = "adm-cost"

// cost measures writes of a Lease, which is what every node and every controller writes all the time, in each state of an
// installation, and the memory for ReplicaSets that the provenance policy has the API server keep.
func cost() (err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	admin, err := newAdmin(kubeconfig())
	if err != nil {
		return err
	}
	if admin.exists("/api/v1/namespaces/"+system+"/serviceaccounts/backstop-controller") != nil {
		return fmt.Errorf("release %q is installed: uninstall it first", release)
	}
	sets, err := strconv.Atoi(os.Getenv("REPLICASETS"))
	if err != nil {
		return fmt.Errorf("REPLICASETS: %w", err)
	}
	s := &suite{admin: admin}
	if err := s.removeNamespaces(); err != nil {
		return err
	}
	defer func() {
		if admin.exists("/api/v1/namespaces/"+system+"/serviceaccounts/backstop-controller") != nil {
			if gone := uninstall(); err == nil {
				err = gone
			}
		}
		if gone := s.removeNamespaces(); err == nil {
			err = gone
		}
	}()
	admin.must(request{method: "POST", path: "/api/v1/namespaces", body: object{"apiVersion": "v1", "kind": "Namespace",
		"metadata": object{"name": nsCost, "labels": object{"backstop.dev/mode": "auto", "backstop-test": "admission"}}}})
	leases := "/apis/coordination.k8s.io/v1/namespaces/" + nsCost + "/leases"
	lease := admin.must(request{method: "POST", path: leases, body: object{"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
		"metadata": object{"name": "cost"}, "spec": object{"holderIdentity": "cost", "leaseDurationSeconds": 40}}})

	fmt.Println("| state | Lease writes | p50, ms | p99, ms |")
	fmt.Println("|---|---|---|---|")
	measure := func(state string) {
		took := make([]float64, 0, writes)
		for i := range writes {
			at(lease, "spec").(object)["renewTime"] = time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
			begin := time.Now()
			lease = admin.must(request{method: "PUT", path: leases + "/cost", body: lease})
			if i >= writes/10 {
				took = append(took, float64(time.Since(begin).Microseconds())/1000)
			}
		}
		slices.Sort(took)
		at := func(share float64) float64 { return took[int(math.Ceil(share*float64(len(took))))-1] }
		fmt.Printf("| %s | %d | %.2f | %.2f |\n", state, len(took), at(0.5), at(0.99))
	}
	measure("without Backstop")
	if err := install(nil); err != nil {
		return err
	}
	time.Sleep(3 * time.Second)
	measure("observe mode")
	before := memory(admin)
	informer := admin.exists(admissionAPI+"validatingadmissionpolicies/backstop-provenance") != nil
	for i := range sets {
		admin.must(request{method: "POST", path: appsPath(nsCost, "replicasets", ""), body: replicaSet(i)})
	}
	stored := memory(admin)
	if err := install([]string{nsCost}); err != nil {
		return err
	}
	if err := s.inForceFor(leases + "/cost"); err != nil {
		return err
	}
	measure("one namespace enrolled")
	policies := memory(admin)
	if err := uninstall(); err != nil {
		return err
	}
	time.Sleep(3 * time.Second)
	measure("uninstalled")
	fmt.Println()
	fmt.Printf("%d ReplicaSets: the API server's heap grew by %.0f MiB when they were stored", sets, stored-before)
	if informer {
		fmt.Println("; what the provenance policy adds cannot be told here, because it was there before")
		return nil
	}
	fmt.Printf(", and by %.0f MiB more when the provenance policy came\n", policies-stored)
	return nil
}

// inForceFor waits until the static policy looks at writes: it refuses the executor one that RBAC would let through.
func (s *suite) inForceFor(path string) error {
	s.executor = s.admin.account(system, "backstop-executor")
	defer s.dropExtraRights()
	if err := s.giveExtraRights(); err != nil {
		return err
	}
	return eventually("the static policy is in force", func() bool {
		a, err := s.executor.do(request{method: "PATCH", kind: mergePatch, path: path + "?dryRun=All", body: object{"metadata": object{"labels": object{"a": "b"}}}})
		return err == nil && refusedBy(a) == "static"
	})
}

// replicaSet is one without pods and of the usual size.
func replicaSet(i int) object {
	id := fmt.Sprintf("cost-%05d", i)
	var env []any
	for j := range 40 {
		env = append(env, object{"name": fmt.Sprintf("SETTING_%d", j), "value": strings.Repeat("x", 60)})
	}
	labels := object{"app": id}
	return object{"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": object{"name": id, "labels": labels},
		"spec": object{"replicas": 0, "selector": object{"matchLabels": labels}, "template": object{"metadata": object{"labels": labels},
			"spec": object{"containers": []any{object{"name": "c", "image": "backstop.local/pause:1", "env": env}}}}}}
}

// memory is the smallest heap of the API server that is seen in a while, in MiB: what is left after a collection.
func memory(c *client) float64 {
	least := math.Inf(1)
	for range 30 {
		a, err := c.do(request{method: "GET", path: "/metrics", headers: map[string]string{"Accept": "text/plain"}})
		if err != nil || !a.accepted() {
			panic(fmt.Sprintf("metrics of the API server: %v %s", err, a.message))
		}
		lines := bufio.NewScanner(strings.NewReader(a.message))
		lines.Buffer(nil, 1<<24)
		for lines.Scan() {
			if value, ok := strings.CutPrefix(lines.Text(), "go_memstats_heap_alloc_bytes "); ok {
				bytes, err := strconv.ParseFloat(value, 64)
				if err != nil {
					panic(err)
				}
				least = min(least, bytes/(1<<20))
			}
		}
		time.Sleep(2 * time.Second)
	}
	return least
}
