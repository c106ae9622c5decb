package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// openai is what both of OpenAI's APIs have in common.
type openai struct{}

func (openai) streamType() string { return "text/event-stream; charset=utf-8" }

func (openai) authenticate(r *http.Request, _ []byte, keys secrets) (string, *refusal) {
	return bearer(r, keys)
}

func (openai) head(h http.Header, status int, id string) {
	h.Set("X-Request-Id", "req_"+id)
	if status != http.StatusOK {
		return
	}
	h.Set("Openai-Processing-Ms", "5")
	for name, limit := range map[string]int{"requests": 500, "tokens": 200000} {
		h.Set("X-Ratelimit-Limit-"+name, strconv.Itoa(limit))
		h.Set("X-Ratelimit-Remaining-"+name, strconv.Itoa(limit-1))
	}
	h.Set("X-Ratelimit-Reset-Requests", "120ms")
	h.Set("X-Ratelimit-Reset-Tokens", "6m0s")
}

// openaiKinds are type and code of the errors that belong to a status.
var openaiKinds = map[int][2]any{
	401: {"invalid_request_error", "invalid_api_key"},
	403: {"invalid_request_error", "unsupported_country_region_territory"},
	404: {"invalid_request_error", "model_not_found"},
	429: {"requests", "rate_limit_exceeded"},
}

func (openai) envelope(refused refusal) object {
	kind, code := any("invalid_request_error"), any(nil)
	if refused.status >= 500 {
		kind = "server_error"
	}
	if known, ok := openaiKinds[refused.status]; ok {
		kind, code = known[0], known[1]
	}
	switch refused.kind {
	case "":
	case "insufficient_quota", "credit_balance_exhausted":
		kind, code = "insufficient_quota", refused.kind
	default:
		code = refused.kind
	}
	return object{"message": refused.message, "type": kind, "param": nil, "code": code}
}

func (w openai) failure(_ http.Header, refused refusal, _ string) []byte {
	return encode(object{"error": w.envelope(refused)})
}

// schemaFormat reads the fields that name a schema, which both APIs write down
// at different depths.
func (s *strict) schemaFormat(path string, format map[string]json.RawMessage, q *question) {
	s.toolName(path+".name", format["name"])
	s.text(path+".description", format["description"])
	q.schema = format["schema"]
	if s.flag(path+".strict", format["strict"]) {
		s.supported(path+".schema", q.schema, openaiKeywords)
	}
}

// chat is Chat Completions: POST /chat/completions below the base URL.
type chat struct{ openai }

func (chat) name() string { return "OpenAiChat" }

func (chat) read(r *http.Request, body []byte) (question, *refusal) {
	var q question
	if refused := isJSON(r); refused != nil {
		return q, refused
	}
	s := &strict{}
	top := s.object("", body, "model!", "messages!", "response_format", "tools", "tool_choice", "stream", "stream_options",
		"max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "n", "stop", "user", "store", "metadata",
		"parallel_tool_calls", "reasoning_effort", "service_tier", "safety_identifier", "prompt_cache_key", "verbosity",
		"presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "logit_bias")
	q.model = s.text("model", top["model"])
	q.cached = true // by itself, from a certain length on
	if top["max_tokens"] != nil && top["max_completion_tokens"] != nil {
		s.fail("max_tokens", "not together with max_completion_tokens")
	}
	for _, name := range []string{"max_tokens", "max_completion_tokens"} {
		if raw := top[name]; raw != nil {
			if q.maxTokens = s.number(name, raw); s.err == nil && q.maxTokens < 1 {
				s.fail(name, "must be at least 1")
			}
		}
	}
	q.stream = s.flag("stream", top["stream"])
	if raw := top["stream_options"]; raw != nil {
		options := s.object("stream_options", raw, "include_usage", "include_obfuscation")
		q.usage = s.flag("stream_options.include_usage", options["include_usage"])
		if !q.stream {
			s.fail("stream_options", "only allowed when stream is true")
		}
	}
	messages := s.list("messages", top["messages"])
	if len(messages) == 0 {
		s.fail("messages", "at least one message is required")
	}
	for i, raw := range messages {
		path := fmt.Sprintf("messages.%d", i)
		message := s.object(path, raw, "role!", "content!", "name", "refusal", "tool_calls", "tool_call_id")
		role := s.oneOf(path+".role", message["role"], "system", "developer", "user", "assistant", "tool")
		text := openaiText(s, path+".content", message["content"], role, "text")
		switch role {
		case "system", "developer":
			q.system = joined(q.system, text)
		case "user", "tool":
			q.user = joined(q.user, text)
		}
	}
	if raw := top["response_format"]; raw != nil {
		// `schema` beside `json_object` is how llama.cpp wants it.
		format := s.object("response_format", raw, "type!", "json_schema", "schema")
		switch s.oneOf("response_format.type", format["type"], "text", "json_object", "json_schema") {
		case "json_object":
			q.schema = format["schema"]
		case "json_schema":
			s.schemaFormat("response_format.json_schema", s.object("response_format.json_schema", format["json_schema"], "name!", "schema!", "strict", "description"), &q)
		}
	}
	tools := map[string]json.RawMessage{}
	for i, raw := range s.list("tools", top["tools"]) {
		path := fmt.Sprintf("tools.%d", i)
		tool := s.object(path, raw, "type!", "function!")
		s.oneOf(path+".type", tool["type"], "function")
		function := s.object(path+".function", tool["function"], "name!", "description", "parameters!", "strict")
		name := s.toolName(path+".function.name", function["name"])
		if s.flag(path+".function.strict", function["strict"]) {
			s.supported(path+".function.parameters", function["parameters"], openaiKeywords)
		}
		tools[name] = function["parameters"]
	}
	if raw := top["tool_choice"]; raw != nil && isText(raw) {
		if s.oneOf("tool_choice", raw, "none", "auto", "required") == "required" {
			s.only("tool_choice", &q, tools)
		}
	} else if raw != nil {
		choice := s.object("tool_choice", raw, "type!", "function!")
		s.oneOf("tool_choice.type", choice["type"], "function")
		q.tool = s.text("tool_choice.function.name", s.object("tool_choice.function", choice["function"], "name!")["name"])
		s.chosen("tool_choice.function.name", &q, tools)
	}
	if s.err != nil {
		return q, badRequest(s.err)
	}
	return q, nil
}

// openaiText reads a string, or parts of text.
func openaiText(s *strict, path string, raw json.RawMessage, role string, kinds ...string) string {
	if string(raw) == "null" && role == "assistant" {
		return ""
	}
	if isText(raw) {
		return s.text(path, raw)
	}
	var all string
	for i, part := range s.list(path, raw) {
		path := fmt.Sprintf("%s.%d", path, i)
		fields := s.object(path, part, "type!", "text!", "annotations", "logprobs")
		s.oneOf(path+".type", fields["type"], kinds...)
		all = joined(all, s.text(path+".text", fields["text"]))
	}
	return all
}

func (chat) finish(q question, a reply) string {
	switch {
	case a.stop == stopLength:
		return "length"
	case a.stop == stopFiltered:
		return "content_filter"
	default: // a refusal, and a tool that was named, end like an answer
		return "stop"
	}
}

func (w chat) usage(a reply) object {
	u := a.usage
	in := u.Input + u.CacheRead + u.CacheWrite
	return object{
		"prompt_tokens": in, "completion_tokens": u.Output, "total_tokens": in + u.Output,
		"prompt_tokens_details":     object{"cached_tokens": u.CacheRead, "audio_tokens": 0},
		"completion_tokens_details": object{"reasoning_tokens": u.Reasoning, "audio_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
	}
}

const refusedText = "I'm sorry, I can't help with that."

func (w chat) whole(q question, a reply) []byte {
	message := object{"role": "assistant", "content": a.text, "refusal": nil, "annotations": []any{}}
	switch {
	case a.stop == stopRefusal:
		message["content"], message["refusal"] = nil, refusedText
	case a.stop == stopFiltered:
		message["content"] = ""
	case q.tool != "":
		message["content"] = nil
		message["tool_calls"] = []any{object{"id": "call_" + a.id, "type": "function", "function": object{"name": q.tool, "arguments": a.text}}}
	}
	return encode(object{
		"id": "chatcmpl-" + a.id, "object": "chat.completion", "created": created, "model": a.model, "service_tier": "default",
		"system_fingerprint": nil,
		"choices":            []any{object{"index": 0, "message": message, "logprobs": nil, "finish_reason": w.finish(q, a)}},
		"usage":              w.usage(a),
	})
}

// created is the same for every answer: goldens of it stay the same.
const created = 1790000000

func (w chat) events(q question, a reply) [][]byte {
	chunk := func(delta object, finish any) object {
		c := object{
			"id": "chatcmpl-" + a.id, "object": "chat.completion.chunk", "created": created, "model": a.model,
			"system_fingerprint": nil,
			"choices":            []any{object{"index": 0, "delta": delta, "logprobs": nil, "finish_reason": finish}},
		}
		if q.usage {
			c["usage"] = nil
		}
		return c
	}
	first := object{"role": "assistant", "content": "", "refusal": nil}
	if q.tool != "" && a.stop != stopRefusal {
		first = object{"role": "assistant", "content": nil, "tool_calls": []any{object{
			"index": 0, "id": "call_" + a.id, "type": "function", "function": object{"name": q.tool, "arguments": ""}}}}
	}
	all := [][]byte{event("", chunk(first, nil))}
	text := a.text
	switch a.stop {
	case stopRefusal:
		text = refusedText
	case stopFiltered:
		text = ""
	}
	for _, piece := range pieces(text) {
		delta := object{"content": piece}
		switch {
		case a.stop == stopRefusal:
			delta = object{"refusal": piece}
		case q.tool != "":
			delta = object{"tool_calls": []any{object{"index": 0, "function": object{"arguments": piece}}}}
		}
		all = append(all, event("", chunk(delta, nil)))
	}
	all = append(all, event("", chunk(object{}, w.finish(q, a))))
	if q.usage {
		last := chunk(nil, nil)
		last["choices"], last["usage"] = []any{}, w.usage(a)
		all = append(all, event("", last))
	}
	return append(all, []byte("data: [DONE]\n\n"))
}

func (w chat) failureEvent(refused refusal) []byte {
	return event("", object{"error": w.envelope(refused)})
}

// responses is the Responses API: POST /responses below the base URL.
type responses struct{ openai }

func (responses) name() string { return "OpenAiResponses" }

func (responses) read(r *http.Request, body []byte) (question, *refusal) {
	var q question
	if refused := isJSON(r); refused != nil {
		return q, refused
	}
	s := &strict{}
	top := s.object("", body, "model!", "input!", "instructions", "text", "max_output_tokens", "stream", "store", "tools",
		"tool_choice", "temperature", "top_p", "reasoning", "metadata", "include", "parallel_tool_calls", "previous_response_id",
		"truncation", "user", "service_tier", "safety_identifier", "prompt_cache_key", "stream_options", "background", "top_logprobs")
	q.model = s.text("model", top["model"])
	q.cached = true
	q.usage = true
	q.system = s.text("instructions", top["instructions"])
	q.stream = s.flag("stream", top["stream"])
	s.flag("store", top["store"])
	if raw := top["max_output_tokens"]; raw != nil {
		if q.maxTokens = s.number("max_output_tokens", raw); s.err == nil && q.maxTokens < 16 {
			s.fail("max_output_tokens", "must be at least 16")
		}
	}
	if raw := top["stream_options"]; raw != nil {
		s.object("stream_options", raw, "include_obfuscation")
	}
	if raw := top["reasoning"]; raw != nil {
		reasoning := s.object("reasoning", raw, "effort", "summary", "generate_summary")
		s.oneOf("reasoning.effort", reasoning["effort"], "none", "minimal", "low", "medium", "high", "xhigh")
	}
	if raw := top["input"]; isText(raw) {
		q.user = s.text("input", raw)
	} else {
		items := s.list("input", raw)
		if len(items) == 0 {
			s.fail("input", "is empty")
		}
		for i, raw := range items {
			path := fmt.Sprintf("input.%d", i)
			item := s.object(path, raw, "type", "role!", "content!", "id", "status", "phase")
			s.oneOf(path+".type", item["type"], "message")
			role := s.oneOf(path+".role", item["role"], "system", "developer", "user", "assistant")
			text := openaiText(s, path+".content", item["content"], role, "input_text", "output_text")
			switch role {
			case "user":
				q.user = joined(q.user, text)
			case "system", "developer":
				q.system = joined(q.system, text)
			}
		}
	}
	if raw := top["text"]; raw != nil {
		text := s.object("text", raw, "format", "verbosity")
		if raw := text["format"]; raw != nil {
			format := s.object("text.format", raw, "type!", "name", "schema", "strict", "description")
			if s.oneOf("text.format.type", format["type"], "text", "json_object", "json_schema") == "json_schema" {
				s.object("text.format", raw, "type!", "name!", "schema!", "strict", "description")
				s.schemaFormat("text.format", format, &q)
			}
		}
	}
	tools := map[string]json.RawMessage{}
	for i, raw := range s.list("tools", top["tools"]) {
		path := fmt.Sprintf("tools.%d", i)
		// Not like Chat: no object `function` around it, and `strict` has to be there.
		tool := s.object(path, raw, "type!", "name!", "parameters!", "strict!", "description")
		s.oneOf(path+".type", tool["type"], "function")
		name := s.toolName(path+".name", tool["name"])
		if s.flag(path+".strict", tool["strict"]) {
			s.supported(path+".parameters", tool["parameters"], openaiKeywords)
		}
		tools[name] = tool["parameters"]
	}
	if raw := top["tool_choice"]; raw != nil && isText(raw) {
		if s.oneOf("tool_choice", raw, "none", "auto", "required") == "required" {
			s.only("tool_choice", &q, tools)
		}
	} else if raw != nil {
		choice := s.object("tool_choice", raw, "type!", "name!")
		s.oneOf("tool_choice.type", choice["type"], "function")
		q.tool = s.text("tool_choice.name", choice["name"])
		s.chosen("tool_choice.name", &q, tools)
	}
	if s.err != nil {
		return q, badRequest(s.err)
	}
	return q, nil
}

// item is what the model says, as an entry of the response's `output`.
func (responses) item(q question, a reply, text, status string) object {
	switch {
	case q.tool != "" && a.stop != stopRefusal:
		return object{"id": "fc_" + a.id, "type": "function_call", "status": status, "call_id": "call_" + a.id, "name": q.tool, "arguments": text}
	default:
		return object{"id": "msg_" + a.id, "type": "message", "status": status, "role": "assistant", "content": []any{}}
	}
}

func (responses) part(a reply, text string) object {
	if a.stop == stopRefusal {
		return object{"type": "refusal", "refusal": text}
	}
	return object{"type": "output_text", "text": text, "annotations": []any{}, "logprobs": []any{}}
}

// said is the text in the answer; nothing when a filter took it.
func (responses) said(a reply) string {
	switch a.stop {
	case stopRefusal:
		return refusedText
	case stopFiltered:
		return ""
	default:
		return a.text
	}
}

func (responses) state(a reply) (status string, details any) {
	switch a.stop {
	case stopLength:
		return "incomplete", object{"reason": "max_output_tokens"}
	case stopFiltered:
		return "incomplete", object{"reason": "content_filter"}
	default:
		return "completed", nil
	}
}

func (responses) object(q question, a reply, status string, details any, output []any, usage any) object {
	return object{
		"id": "resp_" + a.id, "object": "response", "created_at": created, "status": status, "background": false, "error": nil,
		"incomplete_details": details, "instructions": nil, "max_output_tokens": nil, "metadata": object{}, "model": a.model,
		"output": output, "parallel_tool_calls": true, "previous_response_id": nil, "reasoning": object{"effort": nil, "summary": nil},
		"service_tier": "default", "store": false, "temperature": 1.0, "text": object{"format": object{"type": "text"}},
		"tool_choice": "auto", "tools": []any{}, "top_p": 1.0, "truncation": "disabled", "usage": usage, "user": nil,
	}
}

func (responses) usage(a reply) object {
	u := a.usage
	in := u.Input + u.CacheRead + u.CacheWrite
	return object{
		"input_tokens": in, "input_tokens_details": object{"cached_tokens": u.CacheRead},
		"output_tokens": u.Output, "output_tokens_details": object{"reasoning_tokens": u.Reasoning}, "total_tokens": in + u.Output,
	}
}

func (w responses) finished(q question, a reply) object {
	status, details := w.state(a)
	item := w.item(q, a, w.said(a), status)
	if item["type"] == "message" {
		item["content"] = []any{w.part(a, w.said(a))}
	}
	return w.object(q, a, status, details, []any{item}, w.usage(a))
}

func (w responses) whole(q question, a reply) []byte {
	return encode(w.finished(q, a))
}

func (w responses) events(q question, a reply) [][]byte {
	var all [][]byte
	send := func(name string, fields object) {
		fields["type"], fields["sequence_number"] = name, len(all)
		all = append(all, event(name, fields))
	}
	send("response.created", object{"response": w.object(q, a, "in_progress", nil, []any{}, nil)})
	send("response.in_progress", object{"response": w.object(q, a, "in_progress", nil, []any{}, nil)})
	item := w.item(q, a, "", "in_progress")
	at := func(fields object) object {
		fields["item_id"], fields["output_index"] = item["id"], 0
		return fields
	}
	send("response.output_item.added", object{"output_index": 0, "item": item})
	text := w.said(a)
	status, _ := w.state(a)
	end := w.item(q, a, text, status)
	if item["type"] == "message" {
		kind, key := "response.output_text", "text"
		if a.stop == stopRefusal {
			kind, key = "response.refusal", "refusal"
		}
		send("response.content_part.added", at(object{"content_index": 0, "part": w.part(a, "")}))
		for _, piece := range pieces(text) {
			send(kind+".delta", at(object{"content_index": 0, "delta": piece, "logprobs": []any{}}))
		}
		send(kind+".done", at(object{"content_index": 0, key: text, "logprobs": []any{}}))
		send("response.content_part.done", at(object{"content_index": 0, "part": w.part(a, text)}))
		end["content"] = []any{w.part(a, text)}
	} else {
		for _, piece := range pieces(text) {
			send("response.function_call_arguments.delta", at(object{"delta": piece}))
		}
		send("response.function_call_arguments.done", at(object{"name": q.tool, "arguments": text}))
	}
	send("response.output_item.done", object{"output_index": 0, "item": end})
	send("response."+status, object{"response": w.finished(q, a)})
	return all
}

func (w responses) failureEvent(refused refusal) []byte {
	e := w.envelope(refused)
	if e["code"] == nil {
		e["code"] = "server_error"
	}
	return event("error", object{"type": "error", "code": e["code"], "message": e["message"], "param": nil, "sequence_number": 99})
}
