package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// question is what a request asks, whatever API it came through.
type question struct {
	model     string
	system    string
	user      string
	schema    json.RawMessage // absent: any text will do
	tool      string          // the tool that has to be called, for its arguments to be the answer
	maxTokens int
	stream    bool
	usage     bool // stream_options.include_usage
	cached    bool // the prefix is marked for the provider's cache
	key       string
}

// stop is why an answer ended.
type stop string

const (
	stopEnd      stop = "end"
	stopLength   stop = "length"
	stopRefusal  stop = "refusal"
	stopFiltered stop = "filtered"
)

// usage is what the answer took, in tokens.
type usage struct {
	Input      int `json:"input"` // neither written to nor read from the cache
	CacheWrite int `json:"cacheWrite"`
	CacheRead  int `json:"cacheRead"`
	Output     int `json:"output"` // reasoning included
	Reasoning  int `json:"reasoning"`
}

// reply is one answer of a model.
type reply struct {
	id     string
	model  string
	text   string
	stop   stop
	usage  usage
	millis int64
}

// refusal is a request that is not answered.
type refusal struct {
	status  int
	kind    string // the API's own word; empty: what belongs to the status
	message string
}

func badRequest(err error) *refusal {
	return &refusal{status: http.StatusBadRequest, message: err.Error()}
}

// wire is one API: how it asks and how it answers.
type wire interface {
	// name as a ModelChain writes it in `api`.
	name() string
	// authenticate finds the caller's key, or says why there is none.
	authenticate(r *http.Request, body []byte, keys secrets) (key string, refused *refusal)
	// read takes a request apart. Everything that the provider would refuse is refused.
	read(r *http.Request, body []byte) (question, *refusal)
	// head sets the headers that a response has beside its type.
	head(h http.Header, status int, id string)
	// whole is the body of an answer that does not stream.
	whole(q question, a reply) []byte
	// events are the pieces of one that does, in order.
	events(q question, a reply) [][]byte
	// streamType is the content type of a stream.
	streamType() string
	// failure is the body of an error, and what its headers need.
	failure(h http.Header, refused refusal, id string) []byte
	// failureEvent is an error in the middle of a stream.
	failureEvent(refused refusal) []byte
}

// secrets are the keys that are accepted.
type secrets struct {
	// any tells that every key is good, as long as there is one.
	any  bool
	keys map[string]bool
	// AWS access keys: with a secret, signatures are verified.
	aws map[string]string
	now func() time.Time // signatures age
}

func (s secrets) accepts(key string) bool {
	return key != "" && (s.any || s.keys[key])
}

// fingerprint names a key in the journal, which must not hold it.
func fingerprint(key string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(key)))[:12]
}

// bearer reads the header that all but one API use.
func bearer(r *http.Request, keys secrets) (string, *refusal) {
	const prefix = "Bearer "
	header := r.Header.Get("Authorization")
	if len(header) <= len(prefix) || header[:len(prefix)] != prefix {
		return "", &refusal{status: http.StatusUnauthorized, message: "header Authorization with a bearer token is required"}
	}
	if key := header[len(prefix):]; keys.accepts(key) {
		return key, nil
	}
	return "", &refusal{status: http.StatusUnauthorized, message: "incorrect API key provided"}
}

// isJSON holds a request to its content type.
func isJSON(r *http.Request) *refusal {
	if kind := r.Header.Get("Content-Type"); kind != "application/json" && kind != "application/json; charset=utf-8" {
		return &refusal{status: http.StatusUnsupportedMediaType, message: fmt.Sprintf("content type %q, want application/json", kind)}
	}
	return nil
}

// encode is JSON without the escapes that are meant for HTML.
func encode(v any) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic(err) // maps, strings and numbers of ours
	}
	return bytes.ReplaceAll(bytes.TrimRight(out.Bytes(), "\n"), []byte(notUTF8), []byte("\xff\xfe\xfd"))
}

// notUTF8 stands in an answer for bytes that are no UTF-8: it becomes them when
// the answer is encoded, which would repair them otherwise.
const notUTF8 = "\uE000"

// event is one server-sent event.
func event(name string, v any) []byte {
	if name == "" {
		return fmt.Appendf(nil, "data: %s\n\n", encode(v))
	}
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, encode(v))
}

// pieces cuts an answer as models produce it, a few characters at a time, and
// never in the middle of one.
func pieces(text string) []string {
	const size = 24
	var all []string
	var piece []rune
	for _, r := range text {
		if piece = append(piece, r); len(piece) == size {
			all, piece = append(all, string(piece)), nil
		}
	}
	if len(piece) > 0 {
		all = append(all, string(piece))
	}
	return all
}

type object = map[string]any

// joined adds a paragraph.
func joined(text, more string) string {
	if text == "" || more == "" {
		return text + more
	}
	return text + "\n\n" + more
}
