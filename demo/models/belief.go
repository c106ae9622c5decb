package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// belief is what a model thinks is wrong, before it is put into words of the
// schema that it was asked for.
type belief struct {
	hypothesis string
	cause      string // as Backstop names causes; a schema that has no field for it does not get it
	advice     string
	confidence float64 // 0 to 1

	kind, namespace, name string // the suspect; empty: none
	revision              int    // the one at fault; 0: none
	sha                   string // the commit at fault; empty: none

	action     string // empty: a person should look
	toRevision int
	everything bool // it wants the action for all that there is

	claims []claim
}

type claim struct {
	kind     string
	revision int    // 0: none
	failure  string // how pods fail; empty: does not matter
	cites    []string
	text     string
}

// Backstop's prompts say what an incident is about, and begin each fact with a
// line of their own: number, object, source, and in brackets what was measured.
// Lines of anybody else begin with "| ", and are never taken for one.
var (
	targetLine = regexp.MustCompile(`(?m)^Target: (\S+) (\S+) in namespace (\S+)$`)
	factLine   = regexp.MustCompile(`(?m)^(f\d{1,3}) (\S+) (\S+) \((\w+), seen \S+\)(?: \[([^\]\n]*)\])?$`)
	changeLine = regexp.MustCompile(`(?m)^\| (/\S+?): `)
)

// reading is what a prompt's facts say, as far as this model understands them.
type reading struct {
	kind, namespace, name string
	workload              string // number of the fact
	wanted, ready         int
	current               int
	pods                  []podSeen
	revisions             map[int]revisionSeen
	diffs                 map[int]diffSeen // by the earlier revision
	configs               []string         // of which it is known when they changed
}

type podSeen struct {
	id       string
	revision int
	ready    bool
	failure  string
}

type revisionSeen struct {
	id    string
	ready int
}

type diffSeen struct {
	id, path string
}

func integer(text string) int {
	n, _ := strconv.Atoi(text) // digits, as the expressions have it; too many of them are no revision
	return n
}

func readFacts(prompt string) reading {
	r := reading{revisions: map[int]revisionSeen{}, diffs: map[int]diffSeen{}}
	if m := targetLine.FindStringSubmatch(prompt); m != nil {
		r.kind, r.name, r.namespace = m[1], m[2], m[3]
	}
	lines := factLine.FindAllStringSubmatchIndex(prompt, -1)
	for i, at := range lines {
		group := func(n int) string {
			if at[2*n] < 0 {
				return ""
			}
			return prompt[at[2*n]:at[2*n+1]]
		}
		body := prompt[at[1]:]
		if i+1 < len(lines) {
			body = prompt[at[1]:lines[i+1][0]]
		}
		id, source := group(1), group(4)
		measured := map[string]string{}
		for word := range strings.FieldsSeq(group(5)) {
			name, value, _ := strings.Cut(word, "=")
			measured[name] = value
		}
		number := integer(measured["revision"])
		switch {
		case source == "Workload" && measured["desired"] != "" && r.workload == "":
			r.workload, r.current = id, number
			r.wanted, r.ready = integer(measured["desired"]), integer(measured["ready"])
		case source == "Pods" && measured["failure"] != "":
			r.pods = append(r.pods, podSeen{id, number, measured["ready"] == "true", measured["failure"]})
		case source == "RolloutHistory" && measured["current"] != "":
			r.revisions[number] = revisionSeen{id, integer(measured["ready"])}
			if measured["current"] == "true" {
				r.current = number
			}
		case source == "RolloutHistory" && measured["from"] != "":
			if measured["changes"] != "0" && measured["restartOnly"] == "false" {
				seen := diffSeen{id: id, path: "the template"}
				if m := changeLine.FindStringSubmatch(body); m != nil {
					seen.path = m[1]
				}
				r.diffs[integer(measured["from"])] = seen
			}
		case source == "ConfigReferences" && measured["changedAt"] != "" && measured["changedAt"] != "unknown":
			r.configs = append(r.configs, id)
		}
	}
	return r
}

// failing are the pods of the current revision that fail, in the way that the
// first of them does.
func (r reading) failing() (ids []string, failure string) {
	for _, pod := range r.pods {
		if pod.failure == "None" || pod.failure == "Starting" || pod.revision != r.current {
			continue
		}
		if failure == "" {
			failure = pod.failure
		}
		if pod.failure == failure {
			ids = append(ids, pod.id)
		}
	}
	return ids, failure
}

// earlier is the revision to return to: the newest that differs, and better one
// that has ready pods.
func (r reading) earlier() (number int, found bool) {
	for candidate := range r.diffs {
		better := r.revisions[candidate].ready > 0
		best := r.revisions[number].ready > 0
		if candidate != r.current && (!found || better && !best || better == best && candidate > number) {
			number, found = candidate, true
		}
	}
	return number, found
}

// grounded is what the facts really support.
func grounded(prompt string) belief {
	r := readFacts(prompt)
	b := belief{kind: r.kind, namespace: r.namespace, name: r.name, confidence: 0.86}
	pods, failure := r.failing()
	say := func(kind string, revision int, text string, cites ...string) {
		cites = slices.DeleteFunc(cites, func(id string) bool { return id == "" })
		b.claims = append(b.claims, claim{kind: kind, revision: revision, cites: cites, text: text})
	}
	if len(pods) == 0 {
		if r.workload != "" && r.ready >= r.wanted {
			b.cause, b.hypothesis = "Recovered", fmt.Sprintf("Every replica of %s is ready and no pod fails.", r.name)
			b.advice = "Nothing to repair. Watch whether the alert ends."
			cites := []string{r.workload}
			for _, pod := range r.pods {
				cites = append(cites, pod.id)
			}
			say("NothingFails", 0, "all replicas are ready", cites...)
			return b
		}
		b.cause, b.hypothesis, b.confidence = "Unknown", "The facts do not show what is wrong.", 0.2
		b.kind, b.namespace, b.name = "", "", ""
		b.advice = "Look at the pods and their events."
		return b
	}
	b.revision = r.current
	say("PodsFailing", 0, fmt.Sprintf("%d pods fail: %s", len(pods), failure), pods...)
	b.claims[0].failure = failure
	say("FailingPodsRunRevision", r.current, fmt.Sprintf("the failing pods run revision %d", r.current), pods...)
	to, differs := r.earlier()
	switch {
	case differs:
		diff := r.diffs[to]
		b.cause, b.action, b.toRevision = "BadRollout", "RolloutUndo", to
		b.hypothesis = fmt.Sprintf("Revision %d of %s broke it: it changed %s, and its pods fail (%s).", r.current, r.name, diff.path, failure)
		b.advice = fmt.Sprintf("Return to revision %d, then correct %s.", to, diff.path)
		say("TemplateChanged", to, fmt.Sprintf("revision %d changed %s", r.current, diff.path), diff.id, r.revisions[r.current].id, r.revisions[to].id)
		if earlier := r.revisions[to]; earlier.ready > 0 {
			say("RevisionReady", to, fmt.Sprintf("revision %d has %d ready replicas", to, earlier.ready), earlier.id)
		}
	case len(r.revisions) == 1:
		b.cause, b.hypothesis = "NeverWorked", fmt.Sprintf("%s fails (%s) and has no earlier revision.", r.name, failure)
		b.advice = "Correct the manifest: there is nothing to return to."
		say("OnlyOneRevision", r.current, "it is the only revision", r.revisions[r.current].id)
	default:
		b.cause, b.hypothesis = "ConfigurationChanged", fmt.Sprintf("%s fails (%s) with a template that worked before.", r.name, failure)
		b.advice = "Look at its configuration and at what it depends on."
		b.revision = 0
		say("TemplateUnchanged", r.current, "its template is one that worked", append([]string{r.revisions[r.current].id}, r.configs...)...)
	}
	return b
}

// commands are what a shell would have to run: for agents that ask for that.
func (b belief) commands() []string {
	switch {
	case b.action == "":
		return nil
	case b.everything:
		return []string{"kubectl rollout undo deployment"} // without a name: every one
	case b.toRevision > 0:
		return []string{fmt.Sprintf("kubectl rollout undo %s/%s --to-revision=%d", strings.ToLower(b.kind), b.name, b.toRevision)}
	default:
		return []string{fmt.Sprintf("kubectl rollout undo %s/%s", strings.ToLower(b.kind), b.name)}
	}
}
