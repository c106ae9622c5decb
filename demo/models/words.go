package main

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
)

// inWords puts a belief into the schema that was asked for, as a model does: it
// fills the fields that there are, and what has no field cannot be said.
func inWords(b belief, raw json.RawMessage) string {
	var root schema
	if json.Unmarshal(raw, &root) != nil {
		return b.hypothesis
	}
	w := words{belief: b, root: root}
	var out strings.Builder
	w.write(&out, w.value("", root, nil, 0))
	return out.String()
}

type words struct {
	belief belief
	root   schema
}

// ordered is an object whose fields keep the order of the schema's `required`.
type ordered []struct {
	name  string
	value any
}

func (w words) write(out *strings.Builder, value any) {
	switch v := value.(type) {
	case ordered:
		out.WriteByte('{')
		for i, pair := range v {
			if i > 0 {
				out.WriteByte(',')
			}
			out.Write(encode(pair.name))
			out.WriteByte(':')
			w.write(out, pair.value)
		}
		out.WriteByte('}')
	case []any:
		out.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				out.WriteByte(',')
			}
			w.write(out, item)
		}
		out.WriteByte(']')
	default:
		out.Write(encode(v))
	}
}

// plain is a name without case and punctuation.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		default:
			return -1
		}
	}, name)
}

// variants are the schemas that a value may have, null apart.
func (w words) variants(node schema) (all []schema, nullable bool) {
	node, ok := resolve(w.root, node)
	if !ok {
		return nil, true
	}
	for _, key := range []string{"anyOf", "oneOf", "allOf"} {
		list, _ := node[key].([]any)
		for _, item := range list {
			child, _ := item.(schema)
			more, null := w.variants(child)
			all, nullable = append(all, more...), nullable || null
		}
	}
	if len(all) > 0 {
		return all, nullable
	}
	if types, ok := node["type"].([]any); ok {
		for _, kind := range types {
			if kind == "null" {
				nullable = true
				continue
			}
			one := schema{}
			for key, value := range node {
				one[key] = value
			}
			one["type"] = kind
			all = append(all, one)
		}
		return all, nullable
	}
	if node["type"] == "null" {
		return nil, true
	}
	return []schema{node}, false
}

// value is what the belief has to say in a place of the schema.
func (w words) value(name string, node schema, about *claim, depth int) any {
	variants, nullable := w.variants(node)
	if len(variants) == 0 || depth > 10 {
		return nil
	}
	said, known := w.said(plain(name), about)
	if known && said == nil && nullable {
		return nil
	}
	chosen := variants[0]
	if len(variants) > 1 {
		// One variant for each action, for example: that which names it.
		for _, variant := range variants {
			if text := string(encode(variant)); w.belief.action != "" && strings.Contains(plain(text), plain(w.belief.action)) {
				chosen = variant
				break
			}
			if w.belief.action == "" && variant["type"] == "object" && strings.Contains(plain(string(encode(variant))), "handover") {
				chosen = variant
				break
			}
		}
	}
	if constant, is := chosen["const"]; is {
		return constant
	}
	if list, is := chosen["enum"].([]any); is && len(list) > 0 {
		return w.oneOf(list, said, nullable)
	}
	switch chosen["type"] {
	case "object":
		return w.object(chosen, about, depth)
	case "array":
		return w.array(name, chosen, said, about, depth)
	case "string":
		text, _ := said.(string)
		return text
	case "boolean":
		flag, _ := said.(bool)
		return flag
	case "integer", "number":
		return number(said, chosen)
	default:
		return said
	}
}

// said is what fits a field of this name, whatever its type; known tells that
// the name means something.
func (w words) said(name string, about *claim) (value any, known bool) {
	b := w.belief
	text := func(s string) (any, bool) {
		if s == "" {
			return nil, true
		}
		return s, true
	}
	count := func(n int) (any, bool) {
		if n == 0 {
			return nil, true
		}
		return n, true
	}
	if about != nil {
		switch name {
		case "kind", "claim", "type":
			return text(about.kind)
		case "revision":
			return count(about.revision)
		case "failure":
			return text(about.failure)
		case "cites", "facts", "citations", "evidence", "factnumbers", "factids":
			return about.cites, true
		case "text", "statement", "sentence":
			return text(about.text)
		}
		return nil, false
	}
	switch name {
	case "hypothesis", "explanation", "reason", "summary":
		return text(b.hypothesis)
	case "cause", "rootcause":
		return text(b.cause)
	case "advice", "next", "nextsteps", "recommendation":
		return text(b.advice)
	case "confidence":
		return b.confidence, true
	case "kind", "suspectkind", "suspectedkind":
		return text(b.kind)
	case "namespace":
		return text(b.namespace)
	case "name", "suspectname", "suspectedname":
		return text(b.name)
	case "suspect", "suspectedresource", "suspectedobject", "resource":
		if b.name == "" {
			return nil, true
		}
		return b.kind + " " + b.namespace + "/" + b.name, true
	case "revision", "suspectedrevision", "badrevision":
		return count(b.revision)
	case "torevision", "rollbackto", "returnto", "earlierrevision", "targetrevision":
		return count(b.toRevision)
	case "sha", "commit", "suspectedsha", "suspectedcommit", "deploy", "change":
		return text(b.sha)
	case "action", "proposal", "proposedaction", "type", "actiontype":
		return text(b.action)
	case "everything", "all":
		return b.everything, true
	case "commands":
		return b.commands(), true
	case "claims":
		return b.claims, true
	case "ok", "ready", "alive":
		return true, true
	}
	return nil, false
}

// oneOf finds what was meant among the words that are allowed. What is not
// among them cannot be said: then a person should look.
func (w words) oneOf(allowed []any, said any, nullable bool) any {
	if share, is := said.(float64); is {
		return nearest(allowed, share)
	}
	if n, is := said.(int); is {
		said = float64(n) // as JSON numbers are read
	}
	if i := slices.Index(allowed, said); said != nil && i >= 0 {
		return allowed[i]
	}
	text, _ := said.(string)
	for _, word := range append([]string{text}, "handover", "none", "any", "escalate", "unknown") {
		i := slices.IndexFunc(allowed, func(item any) bool {
			name, is := item.(string)
			return is && word != "" && plain(name) == plain(word)
		})
		if i >= 0 {
			return allowed[i]
		}
	}
	if nullable || slices.Contains(allowed, nil) {
		return nil
	}
	return allowed[0]
}

// nearest is the number that comes closest to a share, be it one or percent.
func nearest(allowed []any, share float64) any {
	best, distance := allowed[0], math.Inf(1)
	percent := slices.ContainsFunc(allowed, func(item any) bool { n, is := item.(float64); return is && n > 1 })
	if percent {
		share *= 100
	}
	for _, item := range allowed {
		if n, is := item.(float64); is && math.Abs(n-share) < distance {
			best, distance = item, math.Abs(n-share)
		}
	}
	return best
}

func (w words) object(node schema, about *claim, depth int) any {
	properties, _ := node["properties"].(schema)
	var names []string
	required, _ := node["required"].([]any)
	for _, item := range required {
		if name, is := item.(string); is {
			names = append(names, name)
		}
	}
	var optional []string
	for name := range properties {
		if !slices.Contains(names, name) {
			optional = append(optional, name)
		}
	}
	slices.Sort(optional)
	out := ordered{}
	add := func(name string, value any) {
		out = append(out, struct {
			name  string
			value any
		}{name, value})
	}
	for _, name := range names {
		child, _ := properties[name].(schema)
		add(name, w.value(name, child, about, depth+1))
	}
	for _, name := range optional {
		child, _ := properties[name].(schema)
		if said, known := w.said(plain(name), about); known && said != nil {
			add(name, w.value(name, child, about, depth+1))
		}
	}
	return out
}

func (w words) array(name string, node schema, said any, about *claim, depth int) any {
	items, _ := node["items"].(schema)
	out := []any{}
	switch list := said.(type) {
	case []claim:
		for i := range list {
			out = append(out, w.value("", items, &list[i], depth+1))
		}
	case []string:
		variants, _ := w.variants(items)
		for _, text := range list {
			if len(variants) > 0 && variants[0]["type"] == "integer" {
				out = append(out, integer(strings.TrimLeft(text, "f")))
			} else {
				out = append(out, text)
			}
		}
	default:
		least, _ := node["minItems"].(float64)
		if text, is := said.(string); is {
			out = append(out, text)
		}
		for len(out) < int(least) {
			out = append(out, w.value(name, items, about, depth+1))
		}
	}
	return out
}

// number fits a share into percent where the schema wants whole ones.
func number(said any, node schema) any {
	most, bounded := node["maximum"].(float64)
	description, _ := node["description"].(string)
	percent := node["type"] == "integer" || bounded && most > 1 || strings.Contains(description, "100")
	switch n := said.(type) {
	case float64:
		if percent {
			return int(math.Round(n * 100))
		}
		return n
	case int:
		return n
	}
	least, _ := node["minimum"].(float64)
	return int(math.Ceil(least))
}

// schemaIn finds a schema that stands in a prompt, for servers that take none
// apart from it.
func schemaIn(prompt string) json.RawMessage {
	for at := 0; ; {
		next := strings.IndexByte(prompt[at:], '{')
		if next < 0 {
			return nil
		}
		at += next
		var node schema
		decoder := json.NewDecoder(strings.NewReader(prompt[at:]))
		if decoder.Decode(&node) == nil {
			if _, is := node["properties"].(schema); is && node["type"] == "object" {
				return json.RawMessage(prompt[at : at+int(decoder.InputOffset())])
			}
			at += int(decoder.InputOffset())
			continue
		}
		at++
	}
}
