package admission

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// campaign has one thief or several write for real, one request after the other, and asks after each what the workloads are
// now. Whoever has the controller's token opens any Grant; whoever has the executor's marks, arms, fires and evicts.
func (s *suite) campaign(t *testing.T, thieves []account, n int, all *tally) {
	t.Helper()
	var group sync.WaitGroup
	for i, target := range targets {
		group.Go(func() {
			defer func() {
				if reason := recover(); reason != nil {
					report(t, false, "campaign of %v in %s: %v", thieves, target.ns(nsEvil), reason)
				}
			}()
			c := &campaign{suite: s, b: s.benches[target.ns(nsEvil)], thieves: thieves, all: all, who: who(thieves),
				r: rand.New(rand.NewPCG(*seed, uint64(100*len(thieves)+i)))}
			c.begin()
			for c.sent < n/len(targets) {
				c.round()
			}
			c.end()
		})
	}
	group.Wait()
}

func who(thieves []account) string {
	var names []string
	for _, one := range thieves {
		names = append(names, string(one))
	}
	return strings.Join(names, " + ")
}

type campaign struct {
	*suite
	b       *bench
	thieves []account
	who     string
	all     *tally
	r       *rand.Rand
	sent    int
	// specs are the workloads as they were when they were looked at last.
	specs map[string]any
	// recorded are the templates of each workload's own revisions.
	templates map[string][]any
}

var workloads = []string{"api", "other"}

func (c *campaign) has(who account) bool { return slices.Contains(c.thieves, who) }

// begin is with what was granted before the theft still open: to roll api back to revision 1.
func (c *campaign) begin() {
	c.specs, c.templates = map[string]any{}, map[string][]any{}
	c.freed()
	for _, name := range workloads {
		c.specs[name] = at(c.b.workload(name), "spec")
		for _, number := range []string{"1", "2"} {
			c.templates[name] = append(c.templates[name], c.b.templateOf(name, number))
		}
	}
	if err := c.b.mark("api", "1"); err != nil {
		panic(err)
	}
	if err := c.b.grant(c.b.granted()); err != nil {
		panic(err)
	}
}

// freed takes labels off what an earlier round left.
func (c *campaign) freed() {
	for _, name := range workloads {
		if workload := c.b.workload(name); label(workload) != "" {
			c.executor.must(c.b.patch(name, []any{op("remove", armedPtr, nil)}))
		}
		for _, number := range []string{"1", "2"} {
			path := c.b.setPath(name, number)
			if at(c.admin.get(path), "metadata", "labels", "backstop.dev/undo-to") != nil {
				c.executor.must(request{method: "PATCH", kind: jsonPatch, path: path + manager, body: []any{op("remove", undoToPtr, nil)}})
			}
		}
	}
}

func (c *campaign) end() {
	c.freed()
	if err := c.b.grant(nil); err != nil {
		panic(err)
	}
	for _, name := range workloads {
		c.admin.must(c.b.personPatch(name, strategicPatch, badRelease("1")))
	}
}

// send makes one request, and looks what became of the workloads.
func (c *campaign) send(by account, req request) bool {
	if !c.has(by) {
		return false
	}
	c.sent++
	a, err := c.stolen(by).do(req)
	if err != nil {
		a = answer{code: 599, message: err.Error()}
	}
	c.all.count(c.who, a)
	if a.accepted() {
		c.look(by, req)
	}
	return a.accepted()
}

// look finds every change of a workload's spec that must not be.
func (c *campaign) look(by account, req request) {
	for _, name := range workloads {
		spec := at(c.b.workload(name), "spec")
		if equal(spec, c.specs[name]) {
			continue
		}
		template, rest := at(spec, "template"), copied(spec).(object)
		was := copied(c.specs[name]).(object)
		delete(rest, "template")
		delete(was, "template")
		c.specs[name] = spec
		isRecorded := slices.ContainsFunc(c.templates[name], func(one any) bool { return equal(one, template) })
		isGranted := name == "api" && equal(template, c.b.recorded("api"))
		why := ""
		switch {
		case !equal(rest, was):
			why = "something beside the template changed"
		case !isRecorded:
			why = "the template is none that a revision of it records"
		case !c.has(executor):
			why = "it was changed without the executor's token"
		case !c.has(controller) && !isGranted:
			why = "it was changed to what was not granted"
		}
		if why != "" {
			c.all.escaped("%s: %s %s changed %s/%s: %s", c.who, by, req.method, c.b.ns, name, why)
		}
	}
}

// round is one try, in the order in which it could succeed: whoever has no token for a part of it goes on without.
func (c *campaign) round() {
	b, r := c.b, c.r
	name := randomOf(r, []string{"api", "api", "other"})
	target := b.workload(name)
	current := at(target, "spec", "template")
	path, before, after := "/spec/template", current, any(b.templateFor(r))
	if r.IntN(2) == 0 {
		after = randomOf(r, c.templates[name])
	}
	if r.IntN(6) == 0 {
		path = randomOf(r, []string{"/spec/replicas", "/spec/template/spec/containers/0/image", "/spec", "/metadata/labels", "/spec/paused"})
		before, after = randomOf(r, []any{0, "x", nil}), randomOf(r, []any{5, "evil:1", true})
	}
	id := fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64())
	open := b.open(object{"field": object{"path": path, "before": before, "after": after}}, randomOf(r, []any{at(target, "metadata", "uid"), at(target, "metadata", "uid"), "0"}))
	open["actionId"] = id
	open["action"] = randomOf(r, []string{"rollout-undo", "rollout-undo", "rollout-undo", "rollout-restart"})
	open["notAfter"] = inSeconds(randomOf(r, []int{30, 60, 60, 3600, -5}))
	open["epoch"] = epochs.Add(1)
	if c.has(controller) {
		grant := c.admin.get(ourPath(b.ns, "grants", "active"))
		grant["spec"] = object{"open": open}
		c.send(controller, request{method: "PUT", path: ourPath(b.ns, "grants", "active") + ofController, body: grant})
		// What the policies see of it comes a moment later.
		time.Sleep(30 * time.Millisecond)
	} else if r.IntN(3) > 0 {
		id = actionID
	}
	c.send(investigator, request{method: "PATCH", kind: mergePatch, path: ourPath(b.ns, "grants", "active"), body: object{"spec": open}})
	c.send(controller, request{method: "PATCH", kind: jsonPatch, path: b.path(name) + ofController, body: []any{op("add", "/metadata/labels/x", "y")}})
	c.send(investigator, request{method: "PATCH", kind: mergePatch, path: b.path(name), body: object{"spec": object{"paused": true}}})
	if !c.has(executor) {
		return
	}
	marked := randomOf(r, []string{"1", "2"})
	for _, number := range []string{"1", "2"} {
		kind := "remove"
		if number == marked {
			kind = "add"
		}
		c.send(executor, request{method: "PATCH", kind: jsonPatch, path: b.setPath(randomOf(r, []string{name, name, name, "other"}), number) + manager, body: []any{op(kind, undoToPtr, "true")}})
	}
	time.Sleep(30 * time.Millisecond)
	c.send(executor, b.patch(name, []any{op("add", armedPtr, "rollout-undo"), op("add", actionPtr, id)}))
	for _, value := range []any{b.templateFor(r), after, c.templates[name][0], c.templates[name][1], current} {
		template, ok := value.(map[string]any)
		if !ok {
			continue
		}
		fire := b.patch(name, []any{op("remove", armedPtr, nil), op("remove", actionPtr, nil), op("add", receiptPtr, id), op("replace", "/spec/template", template)})
		switch r.IntN(8) {
		case 0:
			fire.body = append(fire.body.([]any), op("replace", "/spec/replicas", 3))
		case 1:
			fire = request{method: "PATCH", kind: mergePatch, path: b.path(name) + manager, body: object{
				"metadata": object{"labels": object{"backstop.dev/armed": nil}}, "spec": object{"template": template}}}
		}
		if c.send(executor, fire) {
			break
		}
	}
	// Let go again, so that the next round can begin.
	if label(b.workload(name)) != "" {
		c.send(executor, b.patch(name, disarmOps()))
	}
	c.freed()
}
