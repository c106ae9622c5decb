package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// formOf is a schema with the fields of Backstop's that matter here.
const formOf = `{"type":"object","additionalProperties":false,"required":["claims","hypothesis","proposal","suspect"],"properties":{
	"claims":{"type":"array","items":{"type":"object","additionalProperties":false,"required":["cites","revision"],"properties":{
		"cites":{"type":"array","items":{"type":"string"}},"revision":{"type":"integer"}}}},
	"hypothesis":{"type":"string"},
	"proposal":{"type":"object","additionalProperties":false,"required":["action","toRevision"],"properties":{
		"action":{"type":"string","enum":["HandOver","RolloutUndo","RolloutRestart"]},"toRevision":{"type":"integer"}}},
	"suspect":{"type":"object","additionalProperties":false,"required":["kind","name","revision"],"properties":{
		"kind":{"type":"string"},"name":{"type":"string"},"revision":{"type":"integer"}}}}}`

// asked sends one chat request through a proxy of this form, and returns what arrived behind it.
func asked(t *testing.T, form string) map[string]json.RawMessage {
	t.Helper()
	var got map[string]json.RawMessage
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &got); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"model":"smol","choices":[{"message":{"content":"{}"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":2}}`)
	}))
	t.Cleanup(behind.Close)
	next, err := newUpstream(behind.URL + "/v1")
	if err != nil {
		t.Fatal(err)
	}
	next.grammar = form
	front := start(t, &server{upstream: next})
	body := encode(object{
		"model": "smol", "max_completion_tokens": 512, "stream": true,
		"messages": []object{{"role": "system", "content": "diagnose"}, {"role": "user", "content": facts}},
		"response_format": object{"type": "json_schema", "json_schema": object{"name": "diagnosis", "strict": true,
			"schema": json.RawMessage(formOf)}},
	})
	request, err := http.NewRequest(http.MethodPost, front.URL+"/v1/chat/completions", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer any")
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, _ := io.ReadAll(response.Body); response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", response.Status, text)
	}
	return got
}

// at is the field at a path of a schema, through lists.
func at(t *testing.T, fields map[string]json.RawMessage, path ...string) schema {
	t.Helper()
	var format struct {
		Type   string
		Schema schema
	}
	if err := json.Unmarshal(fields["response_format"], &format); err != nil || format.Type != "json_object" {
		t.Fatalf("response_format %s: %v", fields["response_format"], err)
	}
	node := format.Schema
	for _, name := range path {
		properties, _ := node["properties"].(schema)
		child, _ := properties[name].(schema)
		if items, ok := child["items"].(schema); ok && name != path[len(path)-1] {
			child = items
		}
		node = child
	}
	return node
}

func TestLlamaCppGetsTheSchemaAsAGrammarThatEnds(t *testing.T) {
	got := asked(t, grammarFree)
	if string(got["max_tokens"]) != "512" || got["max_completion_tokens"] != nil || got["stream"] != nil {
		t.Errorf("max_tokens %s, max_completion_tokens %s, stream %s", got["max_tokens"], got["max_completion_tokens"], got["stream"])
	}
	if most := at(t, got, "claims")["maxItems"]; most != float64(mostClaims) {
		t.Errorf("claims: %v", most)
	}
	if most := at(t, got, "claims", "cites")["maxItems"]; most != float64(mostCites) {
		t.Errorf("cites: %v", most)
	}
	if most := at(t, got, "hypothesis")["maxLength"]; most != float64(mostText) {
		t.Errorf("hypothesis: %v", most)
	}
	if name := at(t, got, "suspect", "name"); name["enum"] != nil {
		t.Errorf("names are free: %v", name)
	}
	if action := at(t, got, "proposal", "action"); len(action["enum"].([]any)) != 3 || action["maxLength"] != nil {
		t.Errorf("an enumeration stays as it is: %v", action)
	}
}

func TestARestrictedGrammarHasOnlyWhatThePromptShows(t *testing.T) {
	got := asked(t, grammarRestricted)
	values := func(path ...string) []any {
		list, _ := at(t, got, path...)["enum"].([]any)
		return list
	}
	names := values("suspect", "name")
	if !slices.Contains(names, any("catalog")) || !slices.Contains(names, any("")) || slices.Contains(names, any("evil")) {
		t.Errorf("names %v", names)
	}
	for _, path := range [][]string{{"suspect", "revision"}, {"proposal", "toRevision"}, {"claims", "revision"}} {
		if all := values(path...); !slices.Equal(all, []any{0.0, 1.0, 2.0}) {
			t.Errorf("%v: %v", path, all)
		}
	}
	items, _ := at(t, got, "claims", "cites")["items"].(schema)
	if list, _ := items["enum"].([]any); !slices.Contains(list, any("f1")) || slices.Contains(list, any("f9")) {
		t.Errorf("cites %v: f9 stands in a log", list)
	}
}
