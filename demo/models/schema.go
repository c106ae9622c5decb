package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
)

// keywords are those of JSON Schema that a provider's strict mode takes; what
// is not among them it refuses.
type keywords struct {
	names []string
	// every field of an object has to be listed in `required`
	allRequired bool
}

// As documented by the providers for structured outputs.
var (
	common            = []string{"type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs", "definitions", "description", "title", "default", "format"}
	anthropicKeywords = keywords{names: append([]string{"allOf", "minItems", "$schema"}, common...)}
	bedrockKeywords   = anthropicKeywords
	openaiKeywords    = keywords{
		names:       append([]string{"pattern", "multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "$schema"}, common...),
		allRequired: true,
	}
)

// supported refuses a schema that strict mode would refuse.
func (s *strict) supported(path string, raw json.RawMessage, allowed keywords) {
	if s.err != nil {
		return
	}
	var root schema
	if json.Unmarshal(raw, &root) != nil || root["type"] != "object" {
		s.fail(path, "the root of a schema must be an object")
		return
	}
	s.supportedAt(path, root, root, allowed, 0)
}

type schema = map[string]any

func (s *strict) supportedAt(path string, node, root schema, allowed keywords, depth int) {
	if depth > 10 {
		s.fail(path, "nested too deeply, or refers to itself")
		return
	}
	for name, value := range node {
		if s.err != nil {
			return
		}
		if !slices.Contains(allowed.names, name) {
			s.fail(path+"."+name, "is not supported in a strict schema")
			return
		}
		switch name {
		case "properties", "$defs", "definitions":
			each, _ := value.(schema)
			for key, child := range each {
				s.supportedChild(path+"."+name+"."+key, child, root, allowed, depth)
			}
		case "items":
			s.supportedChild(path+".items", value, root, allowed, depth)
		case "anyOf", "allOf":
			list, _ := value.([]any)
			for i, child := range list {
				s.supportedChild(fmt.Sprintf("%s.%s.%d", path, name, i), child, root, allowed, depth)
			}
		case "$ref":
			target, ok := resolve(root, node)
			if !ok {
				s.fail(path+".$ref", "leads nowhere: %v", value)
				return
			}
			s.supportedAt(path, target, root, allowed, depth+1)
		case "minItems":
			if n, _ := value.(float64); n > 1 && !allowed.allRequired {
				s.fail(path+".minItems", "only 0 and 1 are supported")
			}
		}
	}
	if node["type"] != "object" {
		return
	}
	if node["additionalProperties"] != false {
		s.fail(path+".additionalProperties", "must be false")
	}
	properties, _ := node["properties"].(schema)
	required, _ := node["required"].([]any)
	for name := range properties {
		if allowed.allRequired && !slices.Contains(required, any(name)) {
			s.fail(path+".required", "must list every property; %s is missing", name)
		}
	}
}

func (s *strict) supportedChild(path string, child any, root schema, allowed keywords, depth int) {
	node, ok := child.(schema)
	if !ok {
		s.fail(path, "want a schema")
		return
	}
	s.supportedAt(path, node, root, allowed, depth+1)
}

var references = regexp.MustCompile(`^#/(\$defs|definitions)/(.+)$`)

// resolve follows a reference within the schema.
func resolve(root, node schema) (schema, bool) {
	ref, isRef := node["$ref"].(string)
	if !isRef {
		return node, true
	}
	parts := references.FindStringSubmatch(ref)
	if parts == nil {
		return nil, false
	}
	definitions, _ := root[parts[1]].(schema)
	target, ok := definitions[parts[2]].(schema)
	return target, ok
}

var toolNames = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)

func (s *strict) toolName(path string, raw json.RawMessage) string {
	name := s.text(path, raw)
	if s.err == nil && !toolNames.MatchString(name) {
		s.fail(path, "%q does not match %s", name, toolNames)
	}
	return name
}

// chosen makes the tool that was named the way to answer.
func (s *strict) chosen(path string, q *question, tools map[string]json.RawMessage) {
	schema, known := tools[q.tool]
	if !known {
		s.fail(path, "tool %q is not among the tools", q.tool)
		return
	}
	q.schema = schema
}

// only makes the one tool there is the way to answer.
func (s *strict) only(path string, q *question, tools map[string]json.RawMessage) {
	if len(tools) == 0 {
		s.fail(path, "asks for a tool, and there are no tools")
	}
	for name, schema := range tools {
		if q.tool == "" || name < q.tool {
			q.tool, q.schema = name, schema
		}
	}
}
