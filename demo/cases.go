package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// incident is what the demo needs of one.
type incident struct {
	Metadata meta
	Spec     struct {
		Target   *struct{ Kind, Name string }
		OpenedAt time.Time
	}
	Status struct {
		Phase, Reason, Message string
		Times                  struct{ Fired, Healthy, Ended *time.Time }
		Diagnosis              *struct{ Diagnoser string }
		Escalation             *struct{ Reason string }
	}
}

// told shows an incident's timeline until it ends.
func (d *demo) told(ctx context.Context, namespace, service string) (incident, error) {
	return d.toldTo(ctx, namespace, service, os.Stdout)
}

func (d *demo) toldTo(ctx context.Context, namespace, service string, out io.Writer) (incident, error) {
	var found incident
	err := d.t.wait(ctx, "an Incident about "+namespace+"/"+service+" is there", time.Minute, func(ctx context.Context) (bool, error) {
		var list struct{ Items []incident }
		if err := d.kube.get(ctx, &list, "--namespace="+namespace, "incidents.backstop.dev"); err != nil {
			return false, err
		}
		for _, one := range list.Items {
			if one.Spec.Target != nil && one.Spec.Target.Name == service {
				found = one
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return found, err
	}
	args := []string{"timeline", found.Metadata.Name, "--namespace=" + namespace, "--follow", "--timeout=240"}
	if d.full {
		args = append(args, "--full")
	}
	d.t.say("\n  $ backstop %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, d.backstop, args...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	if err := cmd.Run(); err != nil {
		return found, fmt.Errorf("backstop timeline: %w", err)
	}
	err = d.kube.get(ctx, &found, "--namespace="+namespace, "incidents.backstop.dev", found.Metadata.Name)
	return found, err
}

// badRelease ships a release that crashes, and expects the one before it back.
func (d *demo) badRelease(ctx context.Context) ([]row, error) {
	d.t.title("1. A bad release: Backstop returns to the one before it")
	before, err := d.template(ctx, shop, "catalog")
	if err != nil {
		return nil, err
	}
	customer := d.customer(ctx, shop)
	const patch = "demo/shop/releases/catalog-panic.yaml"
	d.t.say("  %s: starts, gets ready, and panics two seconds later\n  $ kubectl --namespace=%s patch deployment catalog --patch-file=%s", patch, shop, patch)
	if _, err := d.kube.run(ctx, "--namespace="+shop, "patch", "deployment", "catalog", "--patch-file="+patch); err != nil {
		return nil, err
	}
	broken := time.Now()
	if err := d.detect(ctx, shop, "catalog"); err != nil {
		return nil, err
	}
	end, err := d.told(ctx, shop, "catalog")
	if err != nil {
		return nil, err
	}
	after, err := d.template(ctx, shop, "catalog")
	if err != nil {
		return nil, err
	}
	page, pageErr := d.page(ctx)
	count, countErr := customer(ctx)
	if pageErr != nil || countErr != nil {
		d.t.say("  the shop's page: %v; the customer: %v", pageErr, countErr)
	} else {
		d.t.say("\n  the shop's page now:\n\n%s", indent(page))
	}
	s := end.Status
	healthy := 0.0
	if s.Times.Healthy != nil {
		healthy = s.Times.Healthy.Sub(broken).Seconds()
		d.t.say("  from the bad release to a healthy shop: %.1f s; meanwhile %d of %d requests of the customer failed", healthy, count.failed, count.checked)
	}
	return []row{
		{"a bad release", "Resolved: Recovered", s.Phase + ": " + s.Reason, healthy, s.Phase == "Resolved" && s.Reason == "Recovered"},
		{"  its pod template", "exactly the one before", same(before == after), 0, before == after},
		{"  the shop's page", "served by three services", lines(page), 0, pageErr == nil && strings.Contains(page, "catalog v1")},
		{"  its customer", "served again at the end", count.String(), 0, countErr == nil && count.checked > 0 && !count.down},
	}, nil
}

func same(equal bool) string {
	if equal {
		return "exactly the one before"
	}
	return "another one"
}

func lines(page string) string {
	return fmt.Sprintf("%d lines", strings.Count(page, "\n"))
}

// template is a Deployment's pod template.
func (d *demo) template(ctx context.Context, namespace, name string) (string, error) {
	var object deployment
	if err := d.kube.get(ctx, &object, "--namespace="+namespace, "deployment", name); err != nil {
		return "", err
	}
	return compact(object.Spec.Template)
}

func (d *demo) onlyOneRevision(ctx context.Context) ([]row, error) {
	d.t.title("2. Do not act: there is no earlier revision")
	const file = "demo/shop/cases/first-release.yaml"
	d.t.say("  %s: a service whose very first release crashes", file)
	if err := d.applyIn(ctx, newcomer, file); err != nil {
		return nil, err
	}
	return d.refuses(ctx, newcomer, "newsletter", "only revision 1 exists", "OnlyOneRevision")
}

func (d *demo) ownedByArgoCD(ctx context.Context) ([]row, error) {
	d.t.title("3. Do not act: Argo CD owns the object and would revert the write")
	d.t.say("  $ kubectl --namespace=%s set env deployment/recommendations SHOP_TAX_RATE=19%%", argo)
	if _, err := d.kube.run(ctx, "--namespace="+argo, "set", "env", "deployment/recommendations", "SHOP_TAX_RATE=19%"); err != nil {
		return nil, err
	}
	return d.refuses(ctx, argo, "recommendations", "owned by Argo CD", "ManagedByGitOps")
}

func (d *demo) configMapEdited(ctx context.Context) ([]row, error) {
	d.t.title("4. Do not act: a ConfigMap was edited in place, the template did not change")
	const patch = "demo/shop/releases/prices-config-edit.yaml"
	d.t.say("  $ kubectl --namespace=%s patch configmap prices --patch-file=%s\n  $ kubectl --namespace=%s delete pod --selector=app.kubernetes.io/name=prices", configMap, patch, configMap)
	if _, err := d.kube.run(ctx, "--namespace="+configMap, "patch", "configmap", "prices", "--patch-file="+patch); err != nil {
		return nil, err
	}
	if _, err := d.kube.run(ctx, "--namespace="+configMap, "delete", "pod", "--selector=app.kubernetes.io/name=prices", "--wait=false"); err != nil {
		return nil, err
	}
	return d.refuses(ctx, configMap, "prices", "a ConfigMap was edited in place", "TemplateUnchanged")
}

// refuses follows a case to its escalation.
func (d *demo) refuses(ctx context.Context, namespace, service, what, reason string) ([]row, error) {
	before, err := d.template(ctx, namespace, service)
	if err != nil {
		return nil, err
	}
	if err := d.detect(ctx, namespace, service); err != nil {
		return nil, err
	}
	end, err := d.told(ctx, namespace, service)
	if err != nil {
		return nil, err
	}
	after, err := d.template(ctx, namespace, service)
	if err != nil {
		return nil, err
	}
	s := end.Status
	seconds := 0.0
	if s.Times.Ended != nil {
		seconds = s.Times.Ended.Sub(end.Spec.OpenedAt).Seconds()
	}
	seen := s.Phase + ": " + s.Reason
	if before != after {
		seen += ", and the template changed"
	}
	return []row{{what, "Escalated: " + reason, seen, seconds, s.Phase == "Escalated" && s.Reason == reason && before == after}}, nil
}

// tally is what the customer counted.
type tally struct {
	checked, failed int
	outage          float64
	down            bool
	downFor         time.Duration // all outages together
}

func (t tally) String() string {
	return fmt.Sprintf("%d requests, %d failed within %.1f s", t.checked, t.failed, t.outage)
}

// customer shows what the customer pod sees while the demo goes on, and returns
// what ends it and reads its count.
func (d *demo) customer(ctx context.Context, namespace string) func(context.Context) (tally, error) {
	logs := d.kube.cmd(ctx, "--namespace="+namespace, "logs", "--follow", "pod/customer")
	out := &customerLog{say: func(change string) { d.t.aside(customerOf(namespace), "%s", change) }, now: time.Now}
	logs.Stdout = out
	err := logs.Start()
	return func(ctx context.Context) (tally, error) {
		if err != nil {
			return tally{}, err
		}
		// Ended, it says its count.
		if _, err := d.kube.run(ctx, "--namespace="+namespace, "delete", "pod", "customer", "--wait=false"); err != nil {
			return tally{}, err
		}
		if err := logs.Wait(); err != nil {
			return tally{}, fmt.Errorf("the customer's log: %w", err)
		}
		return out.count()
	}
}

// customerLog shows each change between working and failing as it is seen.
type customerLog struct {
	say  func(change string)
	now  func() time.Time
	rest string
	end  string
	// Since when it is down; zero: it is not. And how long it was, before that.
	down    time.Time
	downFor time.Duration
}

func (c *customerLog) Write(p []byte) (int, error) {
	c.rest += string(p)
	for {
		line, rest, whole := strings.Cut(c.rest, "\n")
		if !whole {
			return len(p), nil
		}
		c.rest = rest
		_, change, timed := strings.Cut(line, "s ")
		switch {
		case strings.HasPrefix(line, "probe: "):
			c.end = line
			c.change(false)
		case timed:
			c.change(strings.HasPrefix(change, "failing"))
			c.say(change)
		}
	}
}

// change notes when an outage begins and ends. The end of the probe ends none: it
// is down to the end.
func (c *customerLog) change(failing bool) {
	switch {
	case failing && c.down.IsZero():
		c.down = c.now()
	case !failing && !c.down.IsZero():
		c.downFor += c.now().Sub(c.down)
		if c.end == "" {
			c.down = time.Time{}
		}
	}
}

// customerOf names a shop's customer in the lines of the demo.
func customerOf(namespace string) string {
	switch namespace {
	case naiveShop:
		return "customer (n)"
	case guardedShop:
		return "customer (B)"
	default:
		return "customer"
	}
}

var counted = regexp.MustCompile(`probe: (\d+) checked, (\d+) failed, longest outage ([0-9.]+)s`)

func (c *customerLog) count() (tally, error) {
	m := counted.FindStringSubmatch(c.end)
	if m == nil {
		return tally{}, fmt.Errorf("the customer ended without a count: %q", c.end)
	}
	var t tally
	var errs [3]error
	t.checked, errs[0] = strconv.Atoi(m[1])
	t.failed, errs[1] = strconv.Atoi(m[2])
	t.outage, errs[2] = strconv.ParseFloat(m[3], 64)
	t.down, t.downFor = !c.down.IsZero(), c.downFor
	for _, err := range errs {
		if err != nil {
			return t, err
		}
	}
	return t, nil
}
