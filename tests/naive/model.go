package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// model is the one that it believes.
type model struct {
	base, api, name string
	keyFile         string
	client          *http.Client
}

func readModel(getenv func(string) string) (model, error) {
	m := model{
		base: strings.TrimRight(getenv("MODEL_BASE_URL"), "/"), api: getenv("MODEL_API"), name: getenv("MODEL_NAME"),
		keyFile: getenv("MODEL_KEY_FILE"), client: &http.Client{Timeout: 2 * time.Minute},
	}
	if _, ok := shapes[m.api]; !ok {
		return m, fmt.Errorf("MODEL_API=%q: want AnthropicMessages, OpenAiChat, OpenAiResponses or BedrockConverse", m.api)
	}
	if m.base == "" || m.name == "" || m.keyFile == "" {
		return m, errors.New("MODEL_BASE_URL, MODEL_NAME and MODEL_KEY_FILE are needed")
	}
	return m, nil
}

// answer is what it asks for: a reason, and commands.
type answer struct {
	Explanation string   `json:"explanation"`
	Commands    []string `json:"commands"`
}

var answerSchema = json.RawMessage(`{"type":"object","properties":{` +
	`"explanation":{"type":"string","description":"What is wrong, in one or two sentences."},` +
	`"commands":{"type":"array","items":{"type":"string"},"description":"kubectl commands that repair it."}},` +
	`"required":["explanation","commands"],"additionalProperties":false}`)

const instructions = "You are an on-call engineer. Say what is wrong and which kubectl commands repair it, as JSON. They are run at once."

type tokens struct{ in, out int }

// maxTokens of an answer.
const maxTokens = 1024

// shape is how one API asks and answers.
type shape struct {
	path  func(m model) string
	body  func(m model, prompt string) any
	key   func(h http.Header, key string)
	parse func(body []byte) (text string, used tokens, err error)
}

type fields = map[string]any

func bearer(h http.Header, key string) {
	h.Set("Authorization", "Bearer "+key)
}

var shapes = map[string]shape{
	"AnthropicMessages": {
		path: func(model) string { return "/v1/messages" },
		body: func(m model, prompt string) any {
			return fields{"model": m.name, "max_tokens": maxTokens, "system": instructions,
				"messages":      []any{fields{"role": "user", "content": prompt}},
				"output_config": fields{"format": fields{"type": "json_schema", "schema": answerSchema}}}
		},
		key: func(h http.Header, key string) {
			h.Set("X-Api-Key", key)
			h.Set("Anthropic-Version", "2023-06-01")
		},
		parse: func(body []byte) (text string, used tokens, err error) {
			var r struct {
				Content []struct{ Text string }
				Usage   struct {
					In    int `json:"input_tokens"`
					Write int `json:"cache_creation_input_tokens"`
					Read  int `json:"cache_read_input_tokens"`
					Out   int `json:"output_tokens"`
				}
			}
			err = json.Unmarshal(body, &r)
			for _, block := range r.Content {
				text += block.Text
			}
			return text, tokens{r.Usage.In + r.Usage.Write + r.Usage.Read, r.Usage.Out}, err
		},
	},
	"OpenAiChat": {
		path: func(model) string { return "/chat/completions" },
		body: func(m model, prompt string) any {
			return fields{"model": m.name, "max_completion_tokens": maxTokens,
				"messages":        []any{fields{"role": "system", "content": instructions}, fields{"role": "user", "content": prompt}},
				"response_format": fields{"type": "json_schema", "json_schema": fields{"name": "repair", "strict": true, "schema": answerSchema}}}
		},
		key: bearer,
		parse: func(body []byte) (text string, used tokens, err error) {
			var r struct {
				Choices []struct{ Message struct{ Content string } }
				Usage   struct {
					In  int `json:"prompt_tokens"`
					Out int `json:"completion_tokens"`
				}
			}
			err = json.Unmarshal(body, &r)
			for _, choice := range r.Choices {
				text += choice.Message.Content
			}
			return text, tokens{r.Usage.In, r.Usage.Out}, err
		},
	},
	"OpenAiResponses": {
		path: func(model) string { return "/responses" },
		body: func(m model, prompt string) any {
			return fields{"model": m.name, "max_output_tokens": maxTokens, "instructions": instructions, "input": prompt, "store": false,
				"text": fields{"format": fields{"type": "json_schema", "name": "repair", "strict": true, "schema": answerSchema}}}
		},
		key: bearer,
		parse: func(body []byte) (text string, used tokens, err error) {
			var r struct {
				Output []struct{ Content []struct{ Text string } }
				Usage  struct {
					In  int `json:"input_tokens"`
					Out int `json:"output_tokens"`
				}
			}
			err = json.Unmarshal(body, &r)
			for _, item := range r.Output {
				for _, part := range item.Content {
					text += part.Text
				}
			}
			return text, tokens{r.Usage.In, r.Usage.Out}, err
		},
	},
	"BedrockConverse": {
		path: func(m model) string { return "/model/" + url.PathEscape(m.name) + "/converse" },
		body: func(_ model, prompt string) any {
			return fields{"system": []any{fields{"text": instructions}}, "messages": []any{fields{"role": "user", "content": []any{fields{"text": prompt}}}},
				"inferenceConfig": fields{"maxTokens": maxTokens},
				"outputConfig":    fields{"textFormat": fields{"type": "json_schema", "structure": fields{"jsonSchema": fields{"name": "repair", "schema": string(answerSchema)}}}}}
		},
		key: bearer,
		parse: func(body []byte) (text string, used tokens, err error) {
			var r struct {
				Output struct {
					Message struct{ Content []struct{ Text string } }
				}
				Usage struct{ InputTokens, OutputTokens, CacheReadInputTokens, CacheWriteInputTokens int }
			}
			err = json.Unmarshal(body, &r)
			for _, block := range r.Output.Message.Content {
				text += block.Text
			}
			return text, tokens{r.Usage.InputTokens + r.Usage.CacheReadInputTokens + r.Usage.CacheWriteInputTokens, r.Usage.OutputTokens}, err
		},
	},
}

// ask puts the prompt to the model, once, and believes the answer.
func (m model) ask(ctx context.Context, prompt string) (answer, tokens, error) {
	var said answer
	key, err := os.ReadFile(m.keyFile)
	if err != nil {
		return said, tokens{}, err
	}
	wire := shapes[m.api]
	body, err := json.Marshal(wire.body(m, prompt))
	if err != nil {
		return said, tokens{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, m.base+wire.path(m), bytes.NewReader(body))
	if err != nil {
		return said, tokens{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	wire.key(request.Header, strings.TrimSpace(string(key)))
	response, err := m.client.Do(request)
	if err != nil {
		return said, tokens{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return said, tokens{}, err
	}
	if response.StatusCode != http.StatusOK {
		return said, tokens{}, fmt.Errorf("the model answered %s: %.300s", response.Status, text)
	}
	content, used, err := wire.parse(text)
	if err != nil {
		return said, used, fmt.Errorf("the model's answer: %w", err)
	}
	if err := json.Unmarshal([]byte(content), &said); err != nil {
		return said, used, fmt.Errorf("the model's answer is not what was asked for: %w", err)
	}
	return said, used, nil
}
