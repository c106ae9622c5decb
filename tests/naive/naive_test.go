package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// fakeCluster is an API server with two Deployments: web had another release
// before, catalog never had.
type fakeCluster struct {
	patches []string
}

func (f *fakeCluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer account" {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	const template = `{"metadata":{"labels":{"app":"%s","pod-template-hash":"abc"}},"spec":{"containers":[{"name":"c","image":"shop:%d","resources":{"limits":{"cpu":0.5}}}]}}`
	set := func(owner string, revision int) string {
		return fmt.Sprintf(`{"metadata":{"name":"%s-%d","uid":"rs","annotations":{%q:"%d"},"ownerReferences":[{"uid":"uid-%s"}]},"spec":{"template":%s}}`,
			owner, revision, revisionKey, revision, owner, fmt.Sprintf(template, owner, revision))
	}
	deployment := func(name string, revision int) string {
		return fmt.Sprintf(`{"metadata":{"name":%q,"uid":"uid-%s","annotations":{%q:"%d"}},"spec":{"replicas":2},"status":{"readyReplicas":2}}`, name, name, revisionKey, revision)
	}
	switch path := strings.TrimPrefix(r.URL.Path, "/apis/apps/v1/namespaces/shop-naive/"); {
	case r.Method == http.MethodPatch:
		body, _ := io.ReadAll(r.Body)
		f.patches = append(f.patches, path+" "+r.Header.Get("Content-Type")+" "+string(body))
		fmt.Fprint(w, deployment(strings.TrimPrefix(path, "deployments/"), 4))
	case path == "deployments":
		fmt.Fprintf(w, `{"items":[%s,%s]}`, deployment("web", 3), deployment("catalog", 1))
	case path == "replicasets":
		fmt.Fprintf(w, `{"items":[%s,%s,%s,%s]}`, set("web", 1), set("web", 3), set("web", 2), set("catalog", 1))
	default:
		fmt.Fprint(w, `{"items":[{"metadata":{"name":"web-1"},"status":{"phase":"Running","containerStatuses":[{"restartCount":2,"state":{"waiting":{"reason":"CrashLoopBackOff"}}}]}}]}`)
	}
}

func agentOf(t *testing.T, api, said string, asked *string) (*agent, *fakeCluster) {
	t.Helper()
	fake := &fakeCluster{}
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	answers := map[string]string{
		"AnthropicMessages": `{"content":[{"type":"text","text":%s}],"usage":{"input_tokens":40,"cache_read_input_tokens":2,"output_tokens":7}}`,
		"OpenAiChat":        `{"choices":[{"message":{"content":%s}}],"usage":{"prompt_tokens":42,"completion_tokens":7}}`,
		"OpenAiResponses":   `{"output":[{"content":[{"text":%s}]}],"usage":{"input_tokens":42,"output_tokens":7}}`,
		"BedrockConverse":   `{"output":{"message":{"content":[{"text":%s}]}},"usage":{"inputTokens":42,"outputTokens":7}}`,
	}
	paths := map[string]string{"AnthropicMessages": "/v1/messages", "OpenAiChat": "/chat/completions", "OpenAiResponses": "/responses", "BedrockConverse": "/model/small/converse"}
	brain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != paths[api] || r.Header.Get("Authorization")+r.Header.Get("X-Api-Key") == "" {
			t.Errorf("%s %v", r.URL.Path, r.Header)
		}
		body, _ := io.ReadAll(r.Body)
		*asked = string(body)
		quoted, _ := json.Marshal(said)
		fmt.Fprintf(w, answers[api], quoted)
	}))
	t.Cleanup(brain.Close)
	key := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(key, []byte("key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"MODEL_BASE_URL": brain.URL, "MODEL_API": api, "MODEL_NAME": "small", "MODEL_KEY_FILE": key}
	m, err := readModel(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	c := cluster{url: server.URL, token: "account", namespace: "shop-naive", client: server.Client()}
	return newAgent(m, c, t.Logf), fake
}

const webhook = `{"version":"4","alerts":[{"status":"firing","fingerprint":"f","labels":{"alertname":"KubePodCrashLooping","pod":"catalog-1"},"annotations":{"summary":"Pod is crash looping."}}]}`

// play posts the alert twice, and waits for the one report.
func play(t *testing.T, a *agent) report {
	t.Helper()
	server := httptest.NewServer(a.handler(context.Background()))
	defer server.Close()
	for range 2 {
		response, err := http.Post(server.URL+"/alerts", "application/json", strings.NewReader(webhook))
		if err != nil || response.StatusCode != http.StatusAccepted {
			t.Fatal(response, err)
		}
		response.Body.Close()
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		response, err := http.Get(server.URL + "/report")
		if err != nil {
			t.Fatal(err)
		}
		var reports []report
		err = json.NewDecoder(response.Body).Decode(&reports)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if len(reports) == 1 && reports[0].Done {
			return reports[0]
		}
		if len(reports) > 1 {
			t.Fatalf("the same alert was handled twice: %+v", reports)
		}
	}
	t.Fatal("no report within 10 s")
	return report{}
}

func TestItRollsEverythingBackThatAModelTellsItTo(t *testing.T) {
	for api := range shapes {
		var asked string
		a, fake := agentOf(t, api, `{"explanation":"Deploy 9f3c1e7b04d2 broke it.","commands":["kubectl rollout undo deployment"]}`, &asked)
		r := play(t, a)
		if !slices.Equal(r.Writes, []string{"deployment web: revision 3 rolled back to 2"}) || r.TokensIn != 42 || r.TokensOut != 7 {
			t.Errorf("%s: %+v", api, r)
		}
		if len(r.Problems) != 1 || !strings.Contains(r.Problems[0], "catalog: no rollout history") {
			t.Errorf("%s: problems %q", api, r.Problems)
		}
		want := `deployments/web application/json-patch+json [{"op":"replace","path":"/spec/template","value":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"image":"shop:2","name":"c","resources":{"limits":{"cpu":0.5}}}]}}}]`
		if len(fake.patches) != 1 || fake.patches[0] != want {
			t.Errorf("%s: patched %q", api, fake.patches)
		}
		for _, part := range []string{"KubePodCrashLooping", "web: revision 3, 2 of 2 replicas ready", "web-1: CrashLoopBackOff, 2 restarts", `commands`} {
			if !strings.Contains(asked, part) {
				t.Errorf("%s: the prompt lacks %q: %s", api, part, asked)
			}
		}
	}
}

func TestWhatItCannotDoIsReportedAndNothingIsWritten(t *testing.T) {
	for said, problem := range map[string]string{
		`{"explanation":"x","commands":["kubectl delete namespace shop-naive"]}`:             "only knows kubectl rollout undo",
		`{"explanation":"x","commands":["kubectl rollout undo deployment/prices"]}`:          "prices not found",
		`{"explanation":"x","commands":["kubectl rollout undo statefulset/db"]}`:             "only knows Deployments",
		`I would roll back everything.`:                                                      "not what was asked for",
		`{"explanation":"x","commands":["kubectl rollout undo deploy web --to-revision=9"]}`: "no rollout history",
	} {
		var asked string
		a, fake := agentOf(t, "OpenAiChat", said, &asked)
		r := play(t, a)
		if len(fake.patches) > 0 || len(r.Problems) != 1 || !strings.Contains(r.Problems[0], problem) {
			t.Errorf("%s: %+v, patches %q", said, r, fake.patches)
		}
	}
}

func TestCommandsAreReadAsKubectlReadsThem(t *testing.T) {
	for line, want := range map[string]command{
		"kubectl rollout undo deployment":                                  {},
		"kubectl rollout undo deployment/web -n shop-naive":                {name: "web"},
		"kubectl rollout undo deployment web --to-revision=2":              {name: "web", revision: 2},
		"kubectl --namespace=shop-naive rollout undo deploy/web":           {name: "web"},
		"kubectl rollout undo deployments.apps/web --namespace shop-naive": {name: "web"},
	} {
		if got, err := readCommand(line); err != nil || got != want {
			t.Errorf("%s: %+v, %v", line, got, err)
		}
	}
	for _, line := range []string{"", "kubectl", "kubectl rollout undo", "kubectl rollout undo deployment a b", "kubectl rollout undo deploy/web --to-revision=x"} {
		if got, err := readCommand(line); err == nil {
			t.Errorf("%q was taken for %+v", line, got)
		}
	}
}

func TestAMissingSettingIsNamed(t *testing.T) {
	for _, env := range []map[string]string{
		{"MODEL_API": "Gopher", "MODEL_BASE_URL": "http://m", "MODEL_NAME": "n", "MODEL_KEY_FILE": "k"},
		{"MODEL_API": "OpenAiChat", "MODEL_NAME": "n", "MODEL_KEY_FILE": "k"},
	} {
		if _, err := readModel(func(name string) string { return env[name] }); err == nil || !strings.Contains(err.Error(), "MODEL_") {
			t.Errorf("%v: %v", env, err)
		}
	}
}

func TestNothingOfTheAccountIsInTheReport(t *testing.T) {
	var asked string
	a, _ := agentOf(t, "OpenAiChat", `{"explanation":"x","commands":[]}`, &asked)
	text, err := json.Marshal(play(t, a))
	if err != nil || bytes.Contains(text, []byte("account")) {
		t.Errorf("%s, %v", text, err)
	}
}
