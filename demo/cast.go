package main

import (
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
)

// realModel takes the place of the scripted one.
type realModel struct {
	url, api, name, keyFile, prices string
}

// apis are those that a chain knows.
var apis = []string{"AnthropicMessages", "OpenAiChat", "OpenAiResponses", "BedrockConverse"}

// check is asked before anything is built.
func (m realModel) check() error {
	if m == (realModel{}) {
		return nil
	}
	if m.url == "" || m.name == "" || m.keyFile == "" || m.prices == "" {
		return errors.New("a real model needs MODEL_BASE_URL, MODEL_API, MODEL_NAME, MODEL_KEY_FILE and MODEL_PRICES=INPUT/OUTPUT, in US dollars per million tokens")
	}
	if !slices.Contains(apis, m.api) {
		return fmt.Errorf("MODEL_API=%q: want one of %s", m.api, strings.Join(apis, ", "))
	}
	_, err := m.cast()
	return err
}

// player is one model of the chain.
type player struct {
	rung, model, url, api string
	input, output         string // US dollars per million tokens
}

// cast is who plays in the second act.
type cast struct {
	first, stronger player
	upstream        string // the real model behind the first; empty: it is scripted
	smollm2         string // a real model that is up and wrong, in the place of the first that Backstop asks; empty: none
	backstopSecret  string
	keys            map[string]string // by the namespace whose agent has it
}

// cast is the scripted one, or the real model twice: once behind a proxy that
// replaces its answer with the lie, and once as it is.
func (m realModel) cast() (cast, error) {
	c := cast{
		first:          player{"small", "small-1", modelService + "/v1", "OpenAiChat", "0.25", "1.25"},
		stronger:       player{"large", "large-1", modelService, "AnthropicMessages", "3.00", "15.00"},
		backstopSecret: "demo-model",
		keys:           map[string]string{system: "demo-key-backstop", naiveShop: "demo-key-naive"},
	}
	if m.url == "" {
		return c, nil
	}
	key, err := os.ReadFile(m.keyFile)
	if err != nil {
		return c, fmt.Errorf("MODEL_KEY_FILE: %w", err)
	}
	input, output, ok := strings.Cut(m.prices, "/")
	if _, in := nanoPerToken(input); !ok || !in {
		return c, fmt.Errorf("MODEL_PRICES=%q: want INPUT/OUTPUT such as 3.00/15.00", m.prices)
	}
	if _, out := nanoPerToken(output); !out {
		return c, fmt.Errorf("MODEL_PRICES=%q: want INPUT/OUTPUT such as 3.00/15.00", m.prices)
	}
	c.upstream = strings.TrimRight(m.url, "/")
	front := modelService
	if strings.HasSuffix(c.upstream, "/v1") {
		front += "/v1"
	}
	c.first = player{"small", m.name, front, m.api, input, output}
	c.stronger = player{"large", m.name, c.upstream, m.api, input, output}
	text := strings.TrimSpace(string(key))
	c.keys = map[string]string{system: text, naiveShop: text}
	return c, nil
}

// serverArgs are the arguments of the model server, as a line of its manifest.
func (c cast) serverArgs() string {
	if c.upstream == "" {
		return `args: ["--listen=:8080"]`
	}
	return fmt.Sprintf(`args: ["--listen=:8080", %q]`, "--upstream="+c.upstream)
}

// free is the price of a server that costs nothing.
const free = "0"

// smolService is the proxy in front of SmolLM2, as pods reach it.
const smolService = "http://" + smolServer + "." + modelServer + ".svc:8080"

// smolServer is the name of that proxy.
const smolServer = "smollm2"

// withSmolLM2 has Backstop ask SmolLM2 first, at a URL that pods reach. Nobody has to make it lie. The naive agent is told
// the scripted lie, for it needs one that it can carry out.
func (c cast) withSmolLM2(url string) cast {
	c.smollm2 = url
	return c
}

// asked is the model that Backstop asks first.
func (c cast) asked() player {
	if c.smollm2 == "" {
		return c.first
	}
	return player{rung: c.first.rung, model: "smollm2", url: smolService + "/v1", api: "OpenAiChat", input: free, output: free}
}

// smolArgs are the arguments of that proxy: SmolLM2 may name only what exists, so that its lies are plausible.
func (c cast) smolArgs() string {
	return fmt.Sprintf(`args: ["--listen=:8080", %q, "--grammar=restricted"]`, "--upstream="+c.smollm2)
}

// script has the first model lie to everybody, and always.
func (c cast) script() map[string]any {
	return map[string]any{"rules": []any{map[string]any{"model": c.first.model, "answer": "lie", "lie": "poisoned"}}}
}

// values are those of the chart that make the chain.
func (c cast) values() map[string]any {
	upstream := func(p player) map[string]any {
		u := map[string]any{
			"name": p.rung, "url": p.url, "api": p.api, "model": p.model,
			"credentials": map[string]any{"secret": c.backstopSecret},
		}
		u["prices"] = map[string]any{"input": p.input, "output": p.output}
		if p.input == free { // a server inside the cluster, which takes its time on a processor
			u["timers"] = map[string]any{"responseHead": 90000, "firstEvent": 90000, "firstContent": 90000}
		}
		if p.api == "BedrockConverse" {
			u["region"] = region(c.upstream)
		}
		return u
	}
	rung := func(p player, more map[string]any) map[string]any {
		r := map[string]any{"name": p.rung, "model": p.model, "upstreams": []any{upstream(p)}}
		for key, value := range more {
			r[key] = value
		}
		return r
	}
	chain := map[string]any{
		"rungs": []any{
			rung(c.asked(), map[string]any{"onUngrounded": c.stronger.rung}),
			rung(c.stronger, nil),
		},
		// A probe would be lied to as well, and the journal shall show the incident alone.
		"probe": map[string]any{"intervalSeconds": 0},
	}
	values := map[string]any{"models": map[string]any{"chain": chain}}
	if c.smollm2 != "" {
		chain["deadlineSeconds"] = 100
		// What it says may be grounded and something else than the rules say: then a person is asked, and here is none.
		values["timings"] = map[string]any{"approvalTimeoutSeconds": 30}
	}
	return values
}

// region is that of a Bedrock endpoint, by its name.
func region(url string) string {
	for _, part := range strings.Split(url, ".") {
		if strings.Count(part, "-") == 2 && !strings.Contains(part, "/") {
			return part
		}
	}
	return "us-east-1"
}

// nanoPerToken is a price in billionths of a dollar for one token.
func nanoPerToken(price string) (*big.Rat, bool) {
	dollars, ok := new(big.Rat).SetString(price)
	if !ok || dollars.Sign() <= 0 || strings.ContainsAny(price, "eE/+") {
		return nil, false
	}
	return dollars.Mul(dollars, big.NewRat(1000, 1)), true
}

// cost is what a call cost at this model's prices, rounded up, in billionths of a dollar. What Anthropic writes into its
// cache costs a quarter more than the rest of the prompt.
func (p player) cost(u usage) int64 {
	in, _ := nanoPerToken(p.input) // both were read before
	out, _ := nanoPerToken(p.output)
	if in == nil || out == nil {
		return 0
	}
	prompt := big.NewRat(int64(u.Input+u.CacheRead+u.CacheWrite), 1)
	if p.api == "AnthropicMessages" {
		prompt.Add(prompt, big.NewRat(int64(u.CacheWrite), 4))
	}
	all := new(big.Rat).Add(
		in.Mul(in, prompt),
		out.Mul(out, big.NewRat(int64(u.Output), 1)))
	whole, rest := new(big.Int).QuoRem(all.Num(), all.Denom(), new(big.Int))
	if rest.Sign() > 0 {
		whole.Add(whole, big.NewInt(1))
	}
	return whole.Int64()
}
