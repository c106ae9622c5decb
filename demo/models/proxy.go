package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// upstream is a real model behind this server: it is asked with the caller's own
// key, it is paid, and then the script may replace what it said.
type upstream struct {
	base   string
	client *http.Client
	// grammar is how the schema is handed on to a server of llama.cpp; empty: as it came.
	grammar string
}

func newUpstream(base string) (*upstream, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("upstream %q: want a URL such as https://api.example.com/v1, without user and query", base)
	}
	// What a provider redirects to would get the key.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &upstream{base: strings.TrimRight(base, "/"), client: &http.Client{Timeout: 5 * time.Minute, CheckRedirect: stay}}, nil
}

// passed is a response that is handed on as it is.
type passed struct {
	status int
	header http.Header
	body   []byte
}

func (p passed) write(w http.ResponseWriter) {
	for _, name := range []string{"Content-Type", "Retry-After", "Request-Id", "X-Request-Id", "X-Should-Retry", "X-Amzn-Requestid", "X-Amzn-Errortype"} {
		if value := p.header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	w.WriteHeader(p.status)
	_, _ = w.Write(p.body) // a client that has gone away
}

// reader takes a whole answer apart, the reverse of wire.whole.
type reader interface {
	parse(body []byte, q question) (reply, error)
}

// ask puts the caller's question to the model. It never streams: what comes back
// is read whole, and streamed to the caller from here if they asked for that.
func (u *upstream) ask(r *http.Request, w wire, q question, body []byte) (reply, *passed, error) {
	if signed := r.Header.Get("Authorization"); strings.HasPrefix(signed, "AWS4-") {
		return reply{}, &passed{status: http.StatusBadRequest, header: http.Header{"Content-Type": {"application/json"}},
			body: encode(object{"message": "a signed request cannot be passed on: use a bearer token"})}, nil
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil {
		return reply{}, nil, err
	}
	delete(fields, "stream")
	delete(fields, "stream_options")
	if _, isChat := w.(chat); isChat && u.grammar != "" {
		if err := asGrammar(fields, q, u.grammar); err != nil {
			return reply{}, nil, err
		}
	}
	path := strings.TrimSuffix(r.URL.EscapedPath(), "-stream")
	if strings.HasSuffix(u.base, "/v1") {
		path = strings.TrimPrefix(path, "/v1")
	}
	request, err := http.NewRequestWithContext(r.Context(), http.MethodPost, u.base+path, bytes.NewReader(encode(fields)))
	if err != nil {
		return reply{}, nil, err
	}
	for _, name := range []string{"Authorization", "X-Api-Key", "Anthropic-Version", "Anthropic-Beta", "Openai-Organization", "Openai-Project"} {
		if value := r.Header.Get(name); value != "" {
			request.Header.Set(name, value)
		}
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := u.client.Do(request)
	if err != nil {
		return reply{}, nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return reply{}, nil, err
	}
	handedOn := &passed{status: response.StatusCode, header: response.Header, body: text}
	if response.StatusCode != http.StatusOK {
		return reply{}, handedOn, nil
	}
	parser, ok := w.(reader)
	if !ok {
		return reply{}, nil, fmt.Errorf("%s cannot be read", w.name())
	}
	a, err := parser.parse(text, q)
	return a, nil, err
}

func (anthropic) parse(body []byte, _ question) (reply, error) {
	var m struct {
		Type, Model string
		Content     []struct {
			Type, Text string
			Input      json.RawMessage
		}
		StopReason string `json:"stop_reason"`
		Usage      struct {
			Input  int `json:"input_tokens"`
			Write  int `json:"cache_creation_input_tokens"`
			Read   int `json:"cache_read_input_tokens"`
			Output int `json:"output_tokens"`
		}
	}
	if err := json.Unmarshal(body, &m); err != nil || m.Type != "message" {
		return reply{}, errors.Join(errors.New("not a message"), err)
	}
	a := reply{model: m.Model, stop: stopEnd, usage: usage{Input: m.Usage.Input, CacheWrite: m.Usage.Write, CacheRead: m.Usage.Read, Output: m.Usage.Output}}
	for _, block := range m.Content {
		a.text += block.Text
		if block.Type == "tool_use" {
			a.text = string(block.Input)
		}
	}
	switch m.StopReason {
	case "max_tokens":
		a.stop = stopLength
	case "refusal":
		a.stop = stopRefusal
	}
	return a, nil
}

func (chat) parse(body []byte, _ question) (reply, error) {
	var m struct {
		Model   string
		Choices []struct {
			Message struct {
				Content, Refusal string
				ToolCalls        []struct {
					Function struct{ Arguments string }
				} `json:"tool_calls"`
			}
			FinishReason string `json:"finish_reason"`
		}
		Usage struct {
			Input  int `json:"prompt_tokens"`
			Output int `json:"completion_tokens"`
			In     struct {
				Cached int `json:"cached_tokens"`
			} `json:"prompt_tokens_details"`
			Out struct {
				Reasoning int `json:"reasoning_tokens"`
			} `json:"completion_tokens_details"`
		}
	}
	if err := json.Unmarshal(body, &m); err != nil || len(m.Choices) == 0 {
		return reply{}, errors.Join(errors.New("not a chat completion"), err)
	}
	one := m.Choices[0]
	a := reply{model: m.Model, text: one.Message.Content, stop: stopEnd,
		usage: usage{Input: m.Usage.Input - m.Usage.In.Cached, CacheRead: m.Usage.In.Cached, Output: m.Usage.Output, Reasoning: m.Usage.Out.Reasoning}}
	if len(one.Message.ToolCalls) > 0 {
		a.text = one.Message.ToolCalls[0].Function.Arguments
	}
	switch {
	case one.Message.Refusal != "":
		a.stop = stopRefusal
	case one.FinishReason == "length":
		a.stop = stopLength
	case one.FinishReason == "content_filter":
		a.stop = stopFiltered
	}
	return a, nil
}

func (responses) parse(body []byte, _ question) (reply, error) {
	var m struct {
		Object, Model, Status string
		Output                []struct {
			Type, Arguments string
			Content         []struct{ Type, Text, Refusal string }
		}
		Incomplete *struct{ Reason string } `json:"incomplete_details"`
		Usage      struct {
			Input  int `json:"input_tokens"`
			Output int `json:"output_tokens"`
			In     struct {
				Cached int `json:"cached_tokens"`
			} `json:"input_tokens_details"`
			Out struct {
				Reasoning int `json:"reasoning_tokens"`
			} `json:"output_tokens_details"`
		}
	}
	if err := json.Unmarshal(body, &m); err != nil || m.Object != "response" || m.Status == "failed" {
		return reply{}, errors.Join(errors.New("not a response"), err)
	}
	a := reply{model: m.Model, stop: stopEnd,
		usage: usage{Input: m.Usage.Input - m.Usage.In.Cached, CacheRead: m.Usage.In.Cached, Output: m.Usage.Output, Reasoning: m.Usage.Out.Reasoning}}
	for _, item := range m.Output {
		a.text += item.Arguments
		for _, part := range item.Content {
			a.text += part.Text
			if part.Refusal != "" {
				a.stop = stopRefusal
			}
		}
	}
	if m.Incomplete != nil {
		if a.stop = stopLength; m.Incomplete.Reason == "content_filter" {
			a.stop = stopFiltered
		}
	}
	return a, nil
}

func (bedrock) parse(body []byte, q question) (reply, error) {
	var m struct {
		Output *struct {
			Message struct {
				Content []struct {
					Text    string
					ToolUse *struct{ Input json.RawMessage }
				}
			}
		}
		StopReason string
		Usage      struct{ InputTokens, OutputTokens, CacheReadInputTokens, CacheWriteInputTokens int }
	}
	if err := json.Unmarshal(body, &m); err != nil || m.Output == nil {
		return reply{}, errors.Join(errors.New("not a Converse response"), err)
	}
	u := m.Usage
	a := reply{model: q.model, stop: stopEnd, usage: usage{Input: u.InputTokens, CacheWrite: u.CacheWriteInputTokens, CacheRead: u.CacheReadInputTokens, Output: u.OutputTokens}}
	for _, block := range m.Output.Message.Content {
		a.text += block.Text
		if block.ToolUse != nil {
			a.text = string(block.ToolUse.Input)
		}
	}
	switch m.StopReason {
	case "max_tokens":
		a.stop = stopLength
	case "content_filtered":
		a.stop = stopRefusal
	case "guardrail_intervened":
		a.stop = stopFiltered
	}
	return a, nil
}
