package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// script is what `POST /control` sets: what each model says, and what goes
// wrong on the way. The first rule that fits a call and is not used up counts;
// where none does, a model answers truthfully (or, in front of an upstream, what
// the upstream says).
type script struct {
	// Seed makes chances and random choices repeat.
	Seed  uint64 `json:"seed"`
	Rules []rule `json:"rules"`
}

// rule is for calls that fit all of its first fields; an empty one fits every call.
type rule struct {
	Model string `json:"model,omitempty"`
	API   string `json:"api,omitempty"` // as in a ModelChain: AnthropicMessages, OpenAiChat, …
	Key   string `json:"key,omitempty"` // the caller's key itself; it is not shown again

	Times  int     `json:"times,omitempty"`  // how many calls; 0: all
	Chance float64 `json:"chance,omitempty"` // of the calls that fit, how many of one; 0: all

	Answer      string `json:"answer,omitempty"` // grounded, lie, text, upstream
	Lie         string `json:"lie,omitempty"`    // which; see lies.go. Empty: poisoned. random: one of them
	Text        string `json:"text,omitempty"`   // the answer, word by word
	Stop        stop   `json:"stop,omitempty"`   // end, length, refusal, filtered
	Served      string `json:"served,omitempty"` // the model that the answer names, to play a silent swap
	DelayMillis int    `json:"delayMillis,omitempty"`
	Fault       *fault `json:"fault,omitempty"`

	used int
}

func (s script) check() error {
	for i, r := range s.Rules {
		at := func(field, format string, args ...any) error {
			return fmt.Errorf("rules.%d.%s: %s", i, field, fmt.Sprintf(format, args...))
		}
		switch {
		case r.API != "" && !slices.ContainsFunc(wires, func(w wire) bool { return w.name() == r.API }):
			return at("api", "%q is none of the four", r.API)
		case r.Times < 0:
			return at("times", "is negative")
		case r.Chance < 0 || r.Chance > 1:
			return at("chance", "want 0 to 1")
		case r.DelayMillis < 0:
			return at("delayMillis", "is negative")
		case !slices.Contains([]string{"", "grounded", "lie", "text", "upstream"}, r.Answer):
			return at("answer", "%q is none of grounded, lie, text, upstream", r.Answer)
		case r.Answer == "text" && r.Text == "" && r.Fault == nil:
			return at("text", "is empty")
		case r.Answer != "text" && r.Text != "":
			return at("text", "belongs to answer: text")
		case r.Lie != "" && r.Answer != "lie":
			return at("lie", "belongs to answer: lie")
		case r.Lie != "" && r.Lie != "random" && lieNamed(r.Lie) == nil:
			return at("lie", "%q is none of %s", r.Lie, strings.Join(lieNames(), ", "))
		case !slices.Contains([]stop{"", stopEnd, stopLength, stopRefusal, stopFiltered}, r.Stop):
			return at("stop", "%q is none of end, length, refusal, filtered", r.Stop)
		}
		if r.Fault != nil {
			if err := r.Fault.check(); err != nil {
				return at("fault", "%v", err)
			}
		}
	}
	return nil
}

// entry is one request in the journal. It holds no key.
type entry struct {
	N         int       `json:"n"`
	At        time.Time `json:"at"`
	API       string    `json:"api"`
	Model     string    `json:"model,omitempty"`
	Key       string    `json:"key,omitempty"` // its fingerprint: the first 12 hex digits of its SHA-256
	Stream    bool      `json:"stream"`
	Schema    bool      `json:"schema"`
	Tool      string    `json:"tool,omitempty"`
	MaxTokens int       `json:"maxTokens,omitempty"`
	Status    int       `json:"status"` // 0: nothing was answered
	Refused   string    `json:"refused,omitempty"`
	Answer    string    `json:"answer,omitempty"`
	Lie       string    `json:"lie,omitempty"` // which lie was told to the end
	Fault     string    `json:"fault,omitempty"`
	Usage     usage     `json:"usage"`
	Millis    int64     `json:"millis"`
	System    string    `json:"system,omitempty"` // of the last 50 requests only, and only when asked for
	User      string    `json:"user,omitempty"`
	Text      string    `json:"text,omitempty"`
}

// maxEntries bounds the journal, and maxTexts those of them that keep their texts.
const (
	maxEntries = 20000
	maxTexts   = 50
)

// director holds the script and the journal.
type director struct {
	mu       sync.Mutex
	script   script
	random   *rand.Rand
	journal  []entry
	requests int
	scripts  int             // how many there were: a call belongs to the one that it came under
	open     int             // requests that are not in the journal yet
	prefixes map[string]bool // what is in the provider's cache
}

func newDirector() *director {
	d := &director{}
	d.direct(script{})
	return d
}

// direct starts over with another script.
func (d *director) direct(s script) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script, d.random = s, rand.New(rand.NewPCG(s.Seed, 9))
	d.journal, d.requests, d.prefixes = nil, 0, map[string]bool{}
	d.scripts++
}

// decide picks the rule for a call, with every random choice made.
func (d *director) decide(api string, q question) rule {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.script.Rules {
		r := &d.script.Rules[i]
		fits := (r.Model == "" || r.Model == q.model) && (r.API == "" || r.API == api) && (r.Key == "" || r.Key == q.key)
		if !fits || r.Times > 0 && r.used >= r.Times || r.Chance > 0 && d.random.Float64() >= r.Chance {
			continue
		}
		r.used++
		chosen := *r
		if chosen.Lie == "random" {
			names := lieNames()
			chosen.Lie = names[d.random.IntN(len(names))]
		}
		if chosen.Fault != nil {
			one := chosen.Fault.chosen(d.random)
			chosen.Fault = &one
		}
		return chosen
	}
	return rule{}
}

// shown is the script without what is secret.
func (d *director) shown() script {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := script{Seed: d.script.Seed, Rules: slices.Clone(d.script.Rules)}
	for i := range s.Rules {
		if s.Rules[i].Key != "" {
			s.Rules[i].Key = fingerprint(s.Rules[i].Key)
		}
	}
	return s
}

// arrived numbers a request, and tells under which script it came.
func (d *director) arrived() (number, under int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open++
	d.requests++
	return d.requests, d.scripts
}

// settle gives a moment to calls that have their answer already and are not in
// the journal yet. One that hangs is not waited for.
func (d *director) settle() {
	for deadline := time.Now().Add(250 * time.Millisecond); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		d.mu.Lock()
		open := d.open
		d.mu.Unlock()
		if open == 0 {
			return
		}
	}
}

// record puts a call into the journal, unless that was started over meanwhile.
func (d *director) record(e entry, under int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	if under != d.scripts {
		return
	}
	d.journal = append(d.journal, e)
	if last := len(d.journal) - 1 - maxTexts; last >= 0 {
		d.journal[last].System, d.journal[last].User, d.journal[last].Text = "", "", ""
	}
	if len(d.journal) > maxEntries {
		d.journal = slices.Clone(d.journal[len(d.journal)-maxEntries:])
	}
}

// read returns the journal after the entry with a number.
func (d *director) read(after int, texts bool) []entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := []entry{}
	for _, e := range d.journal {
		if e.N <= after {
			continue
		}
		if !texts {
			e.System, e.User, e.Text = "", "", ""
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b entry) int { return a.N - b.N })
	return all
}

// tokens of a text: about four bytes each.
func tokens(text string) int {
	return (len(text) + 3) / 4
}

// bill counts what a call took. A prefix that is marked for the cache is written
// once, and read by later calls of the same model.
func (d *director) bill(api string, q question, text string) usage {
	system, user := tokens(q.system), tokens(q.user)+tokens(string(q.schema))
	u := usage{Input: system + user, Output: tokens(text)}
	automatic := strings.HasPrefix(api, "OpenAi")
	if !q.cached || system == 0 || automatic && system+user < 1024 {
		return u
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	prefix := q.model + "\x00" + q.system
	switch {
	case d.prefixes[prefix]:
		u.Input, u.CacheRead = user, system
	case automatic: // written for nothing, and not counted
	default:
		u.Input, u.CacheWrite = user, system
	}
	d.prefixes[prefix] = true
	return u
}

// jsonScript reads a script, strictly.
func jsonScript(body []byte) (script, error) {
	var s script
	decoder := json.NewDecoder(strings.NewReader(string(body)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil {
		return s, err
	}
	return s, s.check()
}
