package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheScriptedCastHasTwoModelsOfTheCluster(t *testing.T) {
	c, err := realModel{}.cast()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c.values())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`"onUngrounded":"large"`, `"url":"http://models.demo-models.svc:8080/v1"`, `"url":"http://models.demo-models.svc:8080"`,
		`"api":"OpenAiChat"`, `"api":"AnthropicMessages"`, `"credentials":{"secret":"demo-model"}`, `"intervalSeconds":0`,
	} {
		if !strings.Contains(string(text), part) {
			t.Errorf("no %s in %s", part, text)
		}
	}
	if strings.Contains(string(text), "demo-key") {
		t.Errorf("a key stands in the values: %s", text)
	}
	if script, _ := json.Marshal(c.script()); string(script) != `{"rules":[{"answer":"lie","lie":"poisoned","model":"small-1"}]}` {
		t.Errorf("%s", script)
	}
}

func TestARealModelStandsBehindTheLieAndAfterIt(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("secret-key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := realModel{"https://api.example.com/v1/", "OpenAiChat", "gpt", key, "2.50/10"}
	if err := m.check(); err != nil {
		t.Fatal(err)
	}
	c, err := m.cast()
	if err != nil {
		t.Fatal(err)
	}
	if c.first.url != modelService+"/v1" || c.stronger.url != "https://api.example.com/v1" || c.first.model != "gpt" || c.keys[naiveShop] != "secret-key" {
		t.Errorf("%+v", c)
	}
	if got, want := c.serverArgs(), `args: ["--listen=:8080", "--upstream=https://api.example.com/v1"]`; got != want {
		t.Errorf("%s", got)
	}
	if text, _ := json.Marshal(c.values()); strings.Contains(string(text), "secret-key") {
		t.Errorf("the key stands in the values: %s", text)
	}
	m.api, m.url = "BedrockConverse", "https://bedrock-runtime.eu-central-1.amazonaws.com"
	if c, err = m.cast(); err != nil {
		t.Fatal(err)
	}
	if text, _ := json.Marshal(c.values()); strings.Count(string(text), `"region":"eu-central-1"`) != 2 {
		t.Errorf("%s", text)
	}
	for _, bad := range []realModel{
		{"https://api.example.com", "", "gpt", key, "1/2"},
		{"https://api.example.com", "Gopher", "gpt", key, "1/2"},
		{"https://api.example.com", "OpenAiChat", "gpt", "", "1/2"},
		{"https://api.example.com", "OpenAiChat", "gpt", key, "1"},
		{"https://api.example.com", "OpenAiChat", "gpt", key, "0/2"},
		{"https://api.example.com", "OpenAiChat", "gpt", key + "-none", "1/2"},
		{"", "OpenAiChat", "gpt", key, "1/2"},
	} {
		if err := bad.check(); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
	if (realModel{}).check() != nil {
		t.Error("the scripted model needs nothing")
	}
}

func TestMoneyIsExactAndRoundedUp(t *testing.T) {
	p := player{input: "0.25", output: "1.25"}
	if got := p.cost(usage{Input: 1000, CacheRead: 10, Output: 100}); got != 1010*250+100*1250 {
		t.Errorf("%d", got)
	}
	p.input = "0.000001"
	if got := p.cost(usage{Input: 1}); got != 1 {
		t.Errorf("a thousandth of a nano-dollar is %d", got)
	}
	for nano, want := range map[int64]string{0: "$0.000000", 1: "$0.000001", 377_500: "$0.000378", 2_500_000_000: "$2.500000", 999_999_999: "$1.000000"} {
		if got := dollars(nano); got != want {
			t.Errorf("%d: %s, want %s", nano, got, want)
		}
	}
}

// played is an act as it should go.
func played(t *testing.T) outcome {
	t.Helper()
	c, err := realModel{}.cast()
	if err != nil {
		t.Fatal(err)
	}
	o := outcome{
		cast: c, audited: true, spent: 1000*250 + 100*1250 + 1500*3000 + 500*3750 + 200*15000,
		naive:     report{Said: "x", Commands: []string{"kubectl rollout undo deployment"}},
		customers: map[string]tally{naiveShop: {checked: 600, failed: 400, down: true, downFor: 40 * time.Second}, guardedShop: {checked: 600}},
		changed:   map[string]int{naiveShop: 3, guardedShop: 1},
		writes:    map[string]int{naiveShop: 3, guardedShop: 1},
		journal: []call{
			{"small-1", fingerprint("demo-key-naive"), "poisoned", 200, usage{Input: 500, Output: 50}},
			{"small-1", fingerprint("demo-key-backstop"), "poisoned", 200, usage{Input: 1000, Output: 100}},
			{"large-1", fingerprint("demo-key-backstop"), "", 200, usage{Input: 1500, CacheWrite: 500, Output: 200}},
		},
	}
	text := `{"status":{"phase":"Resolved","reason":"Recovered","diagnosis":{"diagnoser":"large"}}}`
	if err := json.Unmarshal([]byte(text), &o.incident); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestAnActThatWentAsItShouldHoldsEveryExpectation(t *testing.T) {
	for _, r := range played(t).rows() {
		if !r.ok {
			t.Errorf("%+v", r)
		}
	}
}

// Each of these breaks one promise, and exactly that has to be seen.
func TestEveryBrokenPromiseIsSeen(t *testing.T) {
	for what, plant := range map[string]func(*outcome){
		"the naive agent wrote nothing":               func(o *outcome) { o.changed[naiveShop], o.writes[naiveShop] = 0, 0 },
		"the naive agent's shop came back":            func(o *outcome) { o.customers[naiveShop] = tally{checked: 600} },
		"the naive agent was not lied to":             func(o *outcome) { o.journal[0].Lie = "" },
		"Backstop was not lied to":                    func(o *outcome) { o.journal[1].Lie = "" },
		"the liar's answer counted":                   func(o *outcome) { o.incident.Status.Diagnosis.Diagnoser = "small" },
		"the rules had to decide":                     func(o *outcome) { o.incident.Status.Diagnosis.Diagnoser = "rules" },
		"Backstop escalated":                          func(o *outcome) { o.incident.Status.Phase = "Escalated" },
		"Backstop wrote twice":                        func(o *outcome) { o.writes[guardedShop] = 2 },
		"Backstop changed another Deployment":         func(o *outcome) { o.changed[guardedShop] = 2 },
		"Backstop's shop was down":                    func(o *outcome) { o.customers[guardedShop] = tally{checked: 600, failed: 30, downFor: 3 * time.Second} },
		"its cost is not what the models sold":        func(o *outcome) { o.spent /= 2 },
		"an account of Backstop wrote something else": func(o *outcome) { o.others = []string{"controller patch x"} },
	} {
		o := played(t)
		plant(&o)
		failed := 0
		for _, r := range o.rows() {
			if !r.ok {
				failed++
			}
		}
		if failed != 1 {
			t.Errorf("%s: %d expectations failed", what, failed)
		}
	}
}

func TestWritesAreCountedByWhoMadeThem(t *testing.T) {
	deployment := func(second int, user, namespace, uid, verb string, replicas int) string {
		uri := "/apis/apps/v1/namespaces/" + namespace + "/deployments/x"
		text := line(second, user, verb, uri, "apps", "deployments", namespace, replicas)
		return strings.Replace(text, `"uid":"u-`+namespace, `"uid":"`+uid, 1)
	}
	naive, executor := "system:serviceaccount:"+naiveShop+":naive", accounts+"executor"
	var events []event
	for _, text := range []string{
		deployment(1, "admin", naiveShop, "catalog", "patch", 1), deployment(2, "admin", guardedShop, "catalog-b", "patch", 1),
		deployment(3, naive, naiveShop, "catalog", "patch", 0), deployment(4, naive, naiveShop, "web", "patch", 5),
		deployment(5, executor, guardedShop, "catalog-b", "patch", 1), // armed: the spec stays
		deployment(6, executor, guardedShop, "catalog-b", "patch", 0), deployment(7, "admin", naiveShop, "web", "patch", 6),
	} {
		var e event
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	got := specWrites(events, map[string]string{naiveShop: naive, guardedShop: executor})
	if got[naiveShop] != 2 || got[guardedShop] != 1 {
		t.Errorf("%v", got)
	}
}

func TestRequestsOfAPodThatIsNewOrGoneAreCountedOnce(t *testing.T) {
	before := counts{"a": {100, 0}, "b": {50, 1}}
	served, failed := counts{"a": {107, 2}, "c": {3, 4}}.since(before)
	if served != 10 || failed != 6 {
		t.Errorf("%d served, %d failed", served, failed)
	}
	if served, failed := (counts{"a": {2, 0}}).since(before); served != 0 || failed != 0 {
		t.Errorf("a pod that restarted: %d, %d", served, failed)
	}
}

func TestBarsShowWhatIsServedAndWhatFails(t *testing.T) {
	for want, rates := range map[string][2]float64{
		"██████████··": {9.8, 0}, "xxxxxxxxxx··": {0, 10.2}, "█████xxxxx··": {5, 5}, "············": {0, 0}, "████████████": {40, 9},
	} {
		if got := bar(rates[0], rates[1]); got != want {
			t.Errorf("%v: %s, want %s", rates, got, want)
		}
	}
}

func TestCountsAreReadFromEachPodOfWeb(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/namespaces/shop-naive/pods":
			if r.URL.Query().Get("labelSelector") != "app.kubernetes.io/name=web" {
				t.Errorf("asked for %s", r.URL.RawQuery)
			}
			fmt.Fprint(w, `{"items":[{"metadata":{"name":"web-1"}},{"metadata":{"name":"web-2"}}]}`)
		case "/api/v1/namespaces/shop-naive/pods/web-1:8080/proxy/metrics":
			fmt.Fprint(w, "# TYPE shop_requests_total counter\nshop_requests_total{service=\"web\",outcome=\"served\"} 12\nshop_requests_total{service=\"web\",outcome=\"failed\"} 3\n")
		default:
			http.Error(w, "starting", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	got, err := readCounts(context.Background(), &apiProxy{base: server.URL, client: server.Client()}, naiveShop)
	if err != nil || len(got) != 1 || got["web-1"] != [2]int{12, 3} {
		t.Errorf("%v, %v", got, err)
	}
}

func TestSecondsDownAreAddedUpAndTheLastGoesToTheEnd(t *testing.T) {
	now := time.Date(2026, 11, 27, 10, 0, 0, 0, time.UTC)
	log := &customerLog{say: func(string) {}, now: func() time.Time { return now }}
	at := func(second int, text string) {
		now = time.Date(2026, 11, 27, 10, 0, second, 0, time.UTC)
		if _, err := log.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	at(1, "   1.0s failing: 502 Bad Gateway: x\n")
	at(4, "   4.0s work")
	at(4, "ing again\n")
	at(10, "  10.0s failing: 502 Bad Gateway: x\n")
	at(30, "probe: 300 checked, 230 failed, longest outage 20.0s\n")
	got, err := log.count()
	if err != nil || got.downFor != 23*time.Second || !got.down || got.failed != 230 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTheNamespacesOfTheSecondActAreTheDemosToo(t *testing.T) {
	h := sortOut([]meta{{Name: naiveShop}, {Name: modelServer, Labels: map[string]string{demoLabel: "true"}}})
	if len(h.foreign) != 1 || h.foreign[0] != naiveShop || len(h.ours) != 1 {
		t.Errorf("%+v", h)
	}
	for _, name := range enrolled {
		if name == naiveShop || name == modelServer {
			t.Errorf("%s is enrolled: Backstop could write there", name)
		}
	}
}

// A real model that is up and wrong takes the place of the first one that Backstop asks, and of nothing else.
func TestSmolLM2IsAskedFirstByBackstopAlone(t *testing.T) {
	scripted, err := realModel{}.cast()
	if err != nil {
		t.Fatal(err)
	}
	c := scripted.withSmolLM2("http://10.0.0.1:8099/v1")
	if c.first != scripted.first || c.stronger != scripted.stronger || c.serverArgs() != scripted.serverArgs() {
		t.Errorf("the naive agent and the stronger model are as ever: %+v", c)
	}
	if want := `args: ["--listen=:8080", "--upstream=http://10.0.0.1:8099/v1", "--grammar=restricted"]`; c.smolArgs() != want {
		t.Errorf("%s", c.smolArgs())
	}
	text, err := json.Marshal(c.values())
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{`"url":"http://smollm2.demo-models.svc:8080/v1"`, `"onUngrounded":"large"`, `"model":"smollm2"`} {
		if !strings.Contains(string(text), part) {
			t.Errorf("no %s in %s", part, text)
		}
	}
	if strings.Contains(string(text), "small-1") || strings.Count(string(text), `"prices":{"input":"0","output":"0"}`) != 1 {
		t.Errorf("the liar is in the chain, or SmolLM2 does not say that it costs nothing: %s", text)
	}
	o := played(t)
	o.cast, o.firstAsked, o.journal = c, 1, nil
	o.incident.Status.Diagnosis.Diagnoser = "rules"
	for _, r := range o.smolRows() {
		if !r.ok {
			t.Errorf("%+v", r)
		}
	}
	o.changed[guardedShop], o.writes[guardedShop] = 2, 2
	if rows := o.smolRows(); rows[2].ok {
		t.Error("two Deployments were rolled back, and that is shown as well")
	}
}
