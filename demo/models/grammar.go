package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// How a schema is handed to the server of llama.cpp (llama-cpp-python), which holds a
// model to it as to a grammar.
const (
	// grammarFree lets the model name whatever it likes.
	grammarFree = "free"
	// grammarRestricted lets it name only objects, revisions and facts that the prompt shows: each lie is plausible then.
	grammarRestricted = "restricted"
)

// An answer has to end: a grammar without bounds lets a small model go on until its tokens are used up.
const (
	mostClaims = 4
	mostCites  = 3
	mostText   = 160
)

// asGrammar puts a chat request into the words of llama.cpp's server: the schema beside `json_object`, because it answers
// `json_schema` with 500, and the most tokens under their older name.
func asGrammar(fields map[string]json.RawMessage, q question, form string) error {
	if most := fields["max_completion_tokens"]; most != nil {
		delete(fields, "max_completion_tokens")
		fields["max_tokens"] = most
	}
	if q.schema == nil {
		return nil
	}
	var root schema
	if err := json.Unmarshal(q.schema, &root); err != nil {
		return fmt.Errorf("the schema of the request: %w", err)
	}
	bounded(root, "")
	if form == grammarRestricted {
		restricted(root, q.user)
	}
	fields["response_format"] = encode(object{"type": "json_object", "schema": root})
	return nil
}

// bounded gives every list and every text of a schema a greatest length.
func bounded(node schema, name string) {
	switch {
	case node["type"] == "array" && name == "cites":
		node["maxItems"] = mostCites
	case node["type"] == "array":
		node["maxItems"] = mostClaims
	case node["type"] == "string" && node["enum"] == nil:
		node["maxLength"] = mostText
	}
	if items, ok := node["items"].(schema); ok {
		bounded(items, "")
	}
	properties, _ := node["properties"].(schema)
	for name, child := range properties {
		if child, ok := child.(schema); ok {
			bounded(child, name)
		}
	}
}

// restricted leaves in a schema of Backstop's only the names and numbers that the prompt shows.
func restricted(root schema, prompt string) {
	facts, kinds, names := []any{}, map[string]bool{"": true}, map[string]bool{"": true}
	for _, m := range factLine.FindAllStringSubmatch(prompt, -1) {
		facts, kinds[m[2]], names[m[3]] = append(facts, m[1]), true, true
	}
	revisions := []any{0}
	for _, number := range slices.Sorted(maps.Keys(readFacts(prompt).revisions)) {
		revisions = append(revisions, number)
	}
	sorted := func(words map[string]bool) (all []any) {
		for _, word := range slices.Sorted(maps.Keys(words)) {
			all = append(all, word)
		}
		return all
	}
	allow(root, sorted(kinds), "suspect", "kind")
	allow(root, sorted(names), "suspect", "name")
	allow(root, revisions, "suspect", "revision")
	allow(root, revisions, "proposal", "toRevision")
	allow(root, revisions, "claims", "revision")
	if len(facts) > 0 {
		allow(root, facts, "claims", "cites")
	}
}

// allow sets the values of the field at a path; lists are gone through to their items.
func allow(node schema, values []any, path ...string) {
	for _, name := range path {
		properties, _ := node["properties"].(schema)
		child, ok := properties[name].(schema)
		if !ok {
			return
		}
		if items, ok := child["items"].(schema); ok {
			child = items
		}
		node = child
	}
	delete(node, "maxLength")
	node["enum"] = values
}
