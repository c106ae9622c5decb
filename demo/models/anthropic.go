package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// anthropic is the Messages API: POST /v1/messages.
type anthropic struct{}

func (anthropic) name() string       { return "AnthropicMessages" }
func (anthropic) streamType() string { return "text/event-stream; charset=utf-8" }

func (anthropic) authenticate(r *http.Request, _ []byte, keys secrets) (string, *refusal) {
	key := r.Header.Get("X-Api-Key")
	if key == "" { // as newer SDKs send it
		key = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	if key == "" {
		return "", &refusal{status: http.StatusUnauthorized, message: "x-api-key header is required"}
	}
	if !keys.accepts(key) {
		return "", &refusal{status: http.StatusUnauthorized, message: "invalid x-api-key"}
	}
	return key, nil
}

var versions = regexp.MustCompile(`^20\d\d-\d\d-\d\d$`)

func (anthropic) read(r *http.Request, body []byte) (question, *refusal) {
	var q question
	if refused := isJSON(r); refused != nil {
		return q, refused
	}
	if version := r.Header.Get("Anthropic-Version"); !versions.MatchString(version) {
		return q, badRequest(fmt.Errorf("anthropic-version: %q is not a valid version", version))
	}
	s := &strict{}
	top := s.object("", body, "model!", "max_tokens!", "messages!", "system", "stream", "tools", "tool_choice", "output_config",
		"temperature", "top_p", "top_k", "stop_sequences", "metadata", "thinking", "service_tier", "cache_control")
	q.model = s.text("model", top["model"])
	q.maxTokens = s.number("max_tokens", top["max_tokens"])
	q.stream = s.flag("stream", top["stream"])
	if s.err == nil && q.maxTokens < 1 {
		s.fail("max_tokens", "must be greater than or equal to 1")
	}
	q.cached = top["cache_control"] != nil
	if raw := top["system"]; raw != nil {
		q.system = anthropicText(s, "system", raw, &q)
	}
	messages := s.list("messages", top["messages"])
	if len(messages) == 0 {
		s.fail("messages", "at least one message is required")
	}
	for i, raw := range messages {
		path := fmt.Sprintf("messages.%d", i)
		message := s.object(path, raw, "role!", "content!")
		role := s.oneOf(path+".role", message["role"], "user", "assistant")
		if i == 0 && s.err == nil && role != "user" {
			s.fail(path+".role", "the first message must use the user role")
		}
		text := anthropicText(s, path+".content", message["content"], &q)
		if role == "user" {
			q.user = joined(q.user, text)
		}
	}
	if raw := top["output_config"]; raw != nil {
		config := s.object("output_config", raw, "format", "effort")
		s.oneOf("output_config.effort", config["effort"], "low", "medium", "high", "xhigh", "max")
		if raw := config["format"]; raw != nil {
			format := s.object("output_config.format", raw, "type!", "schema!")
			s.oneOf("output_config.format.type", format["type"], "json_schema")
			q.schema = format["schema"]
			s.supported("output_config.format.schema", q.schema, anthropicKeywords)
		}
	}
	tools := map[string]json.RawMessage{}
	for i, raw := range s.list("tools", top["tools"]) {
		path := fmt.Sprintf("tools.%d", i)
		tool := s.object(path, raw, "name!", "input_schema!", "description", "strict", "type", "cache_control")
		s.oneOf(path+".type", tool["type"], "custom")
		name := s.toolName(path+".name", tool["name"])
		if s.flag(path+".strict", tool["strict"]) {
			s.supported(path+".input_schema", tool["input_schema"], anthropicKeywords)
		}
		tools[name] = tool["input_schema"]
	}
	if raw := top["tool_choice"]; raw != nil {
		choice := s.object("tool_choice", raw, "type!", "name", "disable_parallel_tool_use")
		switch s.oneOf("tool_choice.type", choice["type"], "auto", "any", "tool", "none") {
		case "tool":
			q.tool = s.text("tool_choice.name", choice["name"])
			s.chosen("tool_choice.name", &q, tools)
		case "any":
			s.only("tool_choice", &q, tools)
		}
	}
	if s.err != nil {
		return q, badRequest(s.err)
	}
	return q, nil
}

// anthropicText reads a string, or blocks of text.
func anthropicText(s *strict, path string, raw json.RawMessage, q *question) string {
	if isText(raw) {
		return s.text(path, raw)
	}
	var all string
	for i, block := range s.list(path, raw) {
		path := fmt.Sprintf("%s.%d", path, i)
		fields := s.object(path, block, "type!", "text", "cache_control", "citations", "id", "name", "input", "tool_use_id", "content", "is_error")
		switch s.oneOf(path+".type", fields["type"], "text", "tool_use", "tool_result") {
		case "text":
			text := s.text(path+".text", fields["text"])
			if s.err == nil && text == "" {
				s.fail(path+".text", "text content blocks must be non-empty")
			}
			all = joined(all, text)
		case "tool_result":
			if isText(fields["content"]) {
				all = joined(all, s.text(path+".content", fields["content"]))
			}
		}
		if control := fields["cache_control"]; control != nil {
			kind := s.object(path+".cache_control", control, "type!", "ttl")
			s.oneOf(path+".cache_control.type", kind["type"], "ephemeral")
			q.cached = true
		}
	}
	return all
}

func (anthropic) head(h http.Header, status int, id string) {
	h.Set("Request-Id", "req_"+id)
	if status != http.StatusOK {
		return
	}
	reset := time.Now().UTC().Add(time.Minute).Format(time.RFC3339)
	for name, limit := range map[string]int{"requests": 1000, "input-tokens": 450000, "output-tokens": 90000} {
		h.Set("Anthropic-Ratelimit-"+name+"-Limit", strconv.Itoa(limit))
		h.Set("Anthropic-Ratelimit-"+name+"-Remaining", strconv.Itoa(limit-1))
		h.Set("Anthropic-Ratelimit-"+name+"-Reset", reset)
	}
}

func (anthropic) stopReason(q question, a reply) string {
	switch {
	case a.stop == stopLength:
		return "max_tokens"
	case a.stop == stopRefusal || a.stop == stopFiltered:
		return "refusal"
	case q.tool != "":
		return "tool_use"
	default:
		return "end_turn"
	}
}

func (w anthropic) message(q question, a reply) object {
	m := object{
		"id": "msg_" + a.id, "type": "message", "role": "assistant", "model": a.model, "content": []any{},
		"stop_reason": w.stopReason(q, a), "stop_sequence": nil,
		"usage": object{
			"input_tokens": a.usage.Input, "cache_creation_input_tokens": a.usage.CacheWrite,
			"cache_read_input_tokens": a.usage.CacheRead, "output_tokens": a.usage.Output, "service_tier": "standard",
		},
	}
	if m["stop_reason"] == "refusal" {
		m["stop_details"] = object{"type": "refusal", "category": "cyber", "explanation": "This request was declined."}
	}
	return m
}

func (w anthropic) whole(q question, a reply) []byte {
	m := w.message(q, a)
	switch {
	case m["stop_reason"] == "refusal":
	case q.tool != "" && json.Valid([]byte(a.text)):
		m["content"] = []any{object{"type": "tool_use", "id": "toolu_" + a.id, "name": q.tool, "input": json.RawMessage(a.text)}}
	case q.tool != "": // cut off: the provider closes the object
		m["content"] = []any{object{"type": "tool_use", "id": "toolu_" + a.id, "name": q.tool, "input": object{}}}
	default:
		m["content"] = []any{object{"type": "text", "text": a.text}}
	}
	return encode(m)
}

func (w anthropic) events(q question, a reply) [][]byte {
	start := w.message(q, a)
	end := start["usage"].(object)
	start["stop_reason"] = nil
	delete(start, "stop_details")
	first := object{"input_tokens": a.usage.Input, "cache_creation_input_tokens": a.usage.CacheWrite, "cache_read_input_tokens": a.usage.CacheRead, "output_tokens": 1, "service_tier": "standard"}
	start["usage"] = first
	all := [][]byte{event("message_start", object{"type": "message_start", "message": start})}
	if reason := w.stopReason(q, a); reason != "refusal" {
		block, kind, key := object{"type": "text", "text": ""}, "text_delta", "text"
		if q.tool != "" {
			block, kind, key = object{"type": "tool_use", "id": "toolu_" + a.id, "name": q.tool, "input": object{}}, "input_json_delta", "partial_json"
		}
		all = append(all,
			event("content_block_start", object{"type": "content_block_start", "index": 0, "content_block": block}),
			event("ping", object{"type": "ping"}))
		for _, piece := range pieces(a.text) {
			all = append(all, event("content_block_delta", object{"type": "content_block_delta", "index": 0, "delta": object{"type": kind, key: piece}}))
		}
		all = append(all, event("content_block_stop", object{"type": "content_block_stop", "index": 0}))
	}
	delta := object{"stop_reason": w.stopReason(q, a), "stop_sequence": nil}
	if delta["stop_reason"] == "refusal" {
		delta["stop_details"] = object{"type": "refusal", "category": "cyber", "explanation": "This request was declined."}
	}
	return append(all,
		event("message_delta", object{"type": "message_delta", "delta": delta, "usage": end}),
		event("message_stop", object{"type": "message_stop"}))
}

var anthropicKinds = map[int]string{
	401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error", 409: "conflict_error",
	413: "request_too_large", 429: "rate_limit_error", 504: "timeout_error", 529: "overloaded_error",
}

func (anthropic) envelope(refused refusal) object {
	kind := refused.kind
	var details object
	switch kind {
	case "ramp_limit_exceeded", "enforced_spend_limit_reached", "contract_spend_limit_reached":
		kind, details = "rate_limit_error", object{"error_code": kind}
	case "":
		if kind = anthropicKinds[refused.status]; kind == "" {
			kind = "invalid_request_error"
			if refused.status >= 500 {
				kind = "api_error"
			}
		}
	}
	e := object{"type": kind, "message": refused.message}
	if details != nil {
		e["details"] = details
	}
	return object{"type": "error", "error": e}
}

func (w anthropic) failure(_ http.Header, refused refusal, id string) []byte {
	e := w.envelope(refused)
	e["request_id"] = "req_" + id
	return encode(e)
}

func (w anthropic) failureEvent(refused refusal) []byte {
	return event("error", w.envelope(refused))
}
