package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// restartedAt is the annotation on a pod template that `kubectl rollout restart` writes, and Backstop too.
const restartedAt = "kubectl.kubernetes.io/restartedAt"

// Since how long every process hangs before a new one is started, and how long
// that one has to work before it shows what a restart cures.
const (
	hangsFor = 20 * time.Second
	worksFor = 65 * time.Second
)

// restartAct shows processes that hang, where a new one works: there is no
// revision to return to, and a restart is the whole repair.
func (d *demo) restartAct(ctx context.Context) error {
	d.started = time.Now()
	d.t.title("Processes that hang: Backstop restarts them, once a new one shows that this helps")
	if err := d.applyIn(ctx, hanging, "demo/shop/prices.yaml"); err != nil {
		return err
	}
	const catalog = "demo/shop/cases/catalog-address.yaml"
	d.t.say("  %s: catalog reads once, when a pod starts, where its prices are", catalog)
	if err := d.applyIn(ctx, hanging, catalog); err != nil {
		return err
	}
	for _, name := range []string{"prices", "catalog"} {
		if err := d.rolledOut(ctx, hanging, name); err != nil {
			return err
		}
	}
	if err := d.movePrices(ctx); err != nil {
		return err
	}
	old, err := d.catalogPods(ctx)
	if err != nil {
		return err
	}
	if err := d.replaceOne(ctx, old); err != nil {
		return err
	}
	before, err := d.template(ctx, hanging, "catalog")
	if err != nil {
		return err
	}
	status, err := d.fire(ctx, replicasMismatch(hanging, "catalog"))
	if err != nil {
		return err
	}
	d.t.say("  KubeDeploymentReplicasMismatch, posted to the intake as Alertmanager posts it, with the token: %s", status)
	end, err := d.told(ctx, hanging, "catalog")
	if err != nil {
		return err
	}
	rows, err := d.restarted(ctx, before, old, end)
	if err != nil {
		return err
	}
	witnessed, err := d.witness(hanging)
	if err != nil {
		return err
	}
	return d.t.table(append(rows, witnessed...))
}

// movePrices gives prices another address, and waits until every pod of catalog hangs on to the former one.
func (d *demo) movePrices(ctx context.Context) error {
	const now = "demo/shop/cases/prices-now.yaml"
	d.t.say("\n  prices moves: a new Service, its address in the ConfigMap, the former Service gone, its pods replaced")
	if err := d.applyIn(ctx, hanging, now); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"patch", "configmap", "addresses", "--type=merge", `--patch={"data":{"SHOP_PRICES_URL":"http://prices-now:8080"}}`},
		{"delete", "service", "prices-before"},
		// What is connected stays so without a Service, as long as the pod behind it lives.
		{"delete", "pod", "--selector=app.kubernetes.io/name=prices"},
	} {
		args = append([]string{"--namespace=" + hanging}, args...)
		d.t.say("  $ kubectl %s", strings.Join(args, " "))
		if _, err := d.kube.run(ctx, args...); err != nil {
			return err
		}
	}
	if err := d.rolledOut(ctx, hanging, "prices"); err != nil {
		return err
	}
	return d.t.wait(ctx, fmt.Sprintf("every pod of catalog hangs for %.0f s", hangsFor.Seconds()), 3*time.Minute, func(ctx context.Context) (bool, error) {
		pods, err := d.catalogPods(ctx)
		hangs := func(p servingPod) bool { return p.readyFor(time.Now()) < -hangsFor }
		return err == nil && len(pods) == 3 && !slices.ContainsFunc(pods, func(p servingPod) bool { return !hangs(p) }), err
	})
}

// replaceOne is what the on-call would try, or a drained node does: one new pod, which works.
func (d *demo) replaceOne(ctx context.Context, old []servingPod) error {
	args := []string{"--namespace=" + hanging, "delete", "pod", old[0].Metadata.Name}
	d.t.say("\n  one pod is replaced, as a drain of its node would, and works; the others go on hanging\n  $ kubectl %s", strings.Join(args, " "))
	if _, err := d.kube.run(ctx, args...); err != nil {
		return err
	}
	return d.t.wait(ctx, "the new pod works for longer than the others did", 4*time.Minute, func(ctx context.Context) (bool, error) {
		pods, err := d.catalogPods(ctx)
		if err != nil {
			return false, err
		}
		now, longest := time.Now(), worksFor
		for _, p := range pods {
			if p.readyFor(now) < 0 {
				longest = max(longest, now.Add(p.readyFor(now)).Sub(p.Metadata.CreationTimestamp))
			}
		}
		return slices.ContainsFunc(pods, func(p servingPod) bool { return p.readyFor(now) > longest }), nil
	})
}

// restarted is what has to be so at the end.
func (d *demo) restarted(ctx context.Context, before string, old []servingPod, end incident) ([]row, error) {
	after, err := d.template(ctx, hanging, "catalog")
	if err != nil {
		return nil, err
	}
	changed, err := changes(before, after)
	if err != nil {
		return nil, err
	}
	s := end.Status
	if s.Phase == "Resolved" {
		if err := d.rolledOut(ctx, hanging, "catalog"); err != nil {
			return nil, err
		}
	}
	pods, err := d.catalogPods(ctx)
	if err != nil {
		return nil, err
	}
	working, kept := 0, 0
	for _, p := range pods {
		// One that says nothing of its readiness does not work.
		if p.readyFor(time.Now()) > 0 {
			working++
		}
		if slices.ContainsFunc(old, func(o servingPod) bool { return o.Metadata.UID == p.Metadata.UID }) {
			kept++
		}
	}
	seconds := 0.0
	if s.Times.Healthy != nil {
		seconds = s.Times.Healthy.Sub(end.Spec.OpenedAt).Seconds()
	}
	return []row{
		{"processes that hang", "Resolved: Recovered", s.Phase + ": " + s.Reason, seconds, s.Phase == "Resolved" && s.Reason == "Recovered"},
		{"  its pod template", "the restart annotation, nothing else", strings.Join(changed, ", "), 0, slices.Equal(changed, []string{"/metadata/annotations/" + restartedAt})},
		{"  its pods", "3 work, none of the old", fmt.Sprintf("%d work, %d of the old", working, kept), 0, working == 3 && kept == 0},
	}, nil
}

// servingPod is a pod with what its readiness says.
type servingPod struct {
	Metadata meta
	Status   struct {
		Conditions []struct {
			Type, Status       string
			LastTransitionTime time.Time
		}
	}
}

// readyFor is since when it is ready, and with a minus sign since when it is not.
func (p servingPod) readyFor(now time.Time) time.Duration {
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" && c.Status == "True" {
			return now.Sub(c.LastTransitionTime)
		}
		if c.Type == "Ready" {
			return -now.Sub(c.LastTransitionTime)
		}
	}
	return 0
}

func (d *demo) catalogPods(ctx context.Context) ([]servingPod, error) {
	var all struct{ Items []servingPod }
	if err := d.kube.get(ctx, &all, "--namespace="+hanging, "pods", "--selector=app.kubernetes.io/name=catalog"); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all.Items, func(p servingPod) bool { return p.Metadata.DeletionTimestamp != nil }), nil
}

// changes are the paths at which two JSON texts differ, in order.
func changes(before, after string) ([]string, error) {
	var a, b any
	if err := json.Unmarshal([]byte(before), &a); err != nil {
		return nil, err
	}
	if err := json.Unmarshal([]byte(after), &b); err != nil {
		return nil, err
	}
	var paths []string
	compare(a, b, "", &paths)
	slices.Sort(paths)
	return paths, nil
}

func compare(a, b any, path string, paths *[]string) {
	left, isMap := a.(map[string]any)
	right, both := b.(map[string]any)
	switch {
	// An absent map is an empty one: what is in the other is the change.
	case isMap && both, isMap && b == nil, both && a == nil:
		keys := map[string]bool{}
		for key := range left {
			keys[key] = true
		}
		for key := range right {
			keys[key] = true
		}
		for key := range keys {
			compare(left[key], right[key], path+"/"+key, paths)
		}
	default:
		one, _ := json.Marshal(a)
		other, _ := json.Marshal(b)
		if string(one) != string(other) {
			*paths = append(*paths, path)
		}
	}
}
