package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// wires are the APIs, each with the paths it answers at.
var wires = []wire{anthropic{}, chat{}, responses{}, bedrock{}}

// maxBody is what a request may have.
const maxBody = 8 << 20

// server is the model server: four APIs, the journal, and the script.
type server struct {
	*director
	keys     secrets
	upstream *upstream // where it stands in front of a real model
	log      func(format string, args ...any)
}

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	for path, w := range map[string]wire{
		"/v1/messages":                   anthropic{},
		"/v1/chat/completions":           chat{},
		"/chat/completions":              chat{},
		"/v1/responses":                  responses{},
		"/responses":                     responses{},
		"/model/{model}/converse":        bedrock{},
		"/model/{model}/converse-stream": bedrock{},
	} {
		mux.HandleFunc("POST "+path, func(out http.ResponseWriter, r *http.Request) { s.answer(out, r, w) })
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /control", func(w http.ResponseWriter, _ *http.Request) { show(w, s.shown()) })
	mux.HandleFunc("POST /control", s.control)
	mux.HandleFunc("GET /journal", func(w http.ResponseWriter, r *http.Request) {
		after, _ := strconv.Atoi(r.URL.Query().Get("after")) // absent: all
		s.settle()
		show(w, s.director.read(after, r.URL.Query().Get("texts") != ""))
	})
	return mux
}

func show(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(v) // a client that has gone away
}

// control starts over with the script that was posted, and empties the journal.
func (s *server) control(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var next script
	if err == nil {
		next, err = jsonScript(body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.direct(next)
	show(w, s.shown())
}

func (s *server) answer(out http.ResponseWriter, r *http.Request, w wire) {
	began := time.Now()
	n, under := s.arrived()
	id := fmt.Sprintf("%024d", n)
	e := entry{N: n, At: began.UTC(), API: w.name()}
	defer func() {
		e.Millis = time.Since(began).Milliseconds()
		s.record(e, under)
		s.log("%d %s %s key %s: %d %s%s%s%s", e.N, e.API, e.Model, e.Key, e.Status, e.Answer, note(" lie ", e.Lie), note(" fault ", e.Fault), note(" refused: ", e.Refused))
	}()
	refuse := func(refused *refusal) {
		e.Status, e.Refused = refused.status, refused.message
		w.head(out.Header(), refused.status, id)
		out.Header().Set("Content-Type", "application/json")
		body := w.failure(out.Header(), *refused, id)
		out.WriteHeader(refused.status)
		_, _ = out.Write(body) // a client that has gone away
	}
	body, err := io.ReadAll(http.MaxBytesReader(out, r.Body, maxBody))
	if err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		refuse(&refusal{status: status, message: "the body cannot be read"})
		return
	}
	key, refused := w.authenticate(r, body, s.keys)
	if refused != nil {
		refuse(refused)
		return
	}
	e.Key = fingerprint(key)
	q, refused := w.read(r, body)
	e.Model, e.Stream, e.Schema, e.Tool, e.MaxTokens = q.model, q.stream, q.schema != nil, q.tool, q.maxTokens
	e.System, e.User = q.system, q.user
	if refused != nil {
		refuse(refused)
		return
	}
	q.key = key
	chosen := s.decide(w.name(), q)
	a := reply{id: id, model: q.model, stop: stopEnd, millis: 5}
	if s.upstream != nil {
		answered, passed, err := s.upstream.ask(r, w, q, body)
		switch {
		case err != nil:
			refuse(&refusal{status: http.StatusBadGateway, message: "the model behind this proxy cannot be reached"})
			s.log("upstream: %v", err)
			return
		case passed != nil: // its error is the caller's to deal with
			e.Status, e.Answer = passed.status, "upstream"
			passed.write(out)
			return
		}
		a.model, a.text, a.stop, a.usage = answered.model, answered.text, answered.stop, answered.usage
	}
	e.Answer, a.text = s.says(chosen, q, a.text)
	if chosen.Fault != nil {
		e.Fault = chosen.Fault.Kind
		a.text = chosen.Fault.answerText(a.text)
	}
	if chosen.Served != "" {
		a.model = chosen.Served
	}
	if chosen.Stop != "" {
		a.stop = chosen.Stop
	}
	if q.maxTokens > 0 && tokens(a.text) > q.maxTokens {
		a.text, a.stop = a.text[:q.maxTokens*4], stopLength
	} else if chosen.Stop == stopLength {
		a.text = a.text[:len(a.text)/2]
	}
	if s.upstream == nil {
		a.usage = s.bill(w.name(), q, a.text)
	}
	e.Usage, e.Text = a.usage, a.text
	if !sleep(r.Context(), time.Duration(chosen.DelayMillis)*time.Millisecond) {
		return
	}
	sent := response{status: http.StatusOK, header: http.Header{}}
	w.head(sent.header, http.StatusOK, id)
	if q.stream {
		sent.header.Set("Content-Type", w.streamType())
		sent.header.Set("Cache-Control", "no-cache")
		sent.pieces = w.events(q, a)
	} else {
		sent.header.Set("Content-Type", "application/json")
		sent.pieces = [][]byte{w.whole(q, a)}
	}
	sent.body = func(refused refusal) []byte { return w.failure(sent.header, refused, id) }
	sent.event = w.failureEvent
	var f fault
	if chosen.Fault != nil {
		f = *chosen.Fault
	}
	e.Status = http.StatusOK
	switch f.Kind {
	case "status":
		e.Status = f.Status
	case "reset", "close", "halfHead", "hang":
		e.Status = 0
	}
	if send(r.Context(), out, sent, f) && e.Answer == "lie" && a.stop == stopEnd {
		e.Lie = chosen.Lie
		if e.Lie == "" {
			e.Lie = "poisoned"
		}
	}
}

func note(what, text string) string {
	if text == "" {
		return ""
	}
	return what + text
}

// says is what the model says, and of which kind that is.
func (s *server) says(chosen rule, q question, upstream string) (kind, text string) {
	schema := q.schema
	if schema == nil {
		schema = schemaIn(q.system + "\n" + q.user)
	}
	kind = chosen.Answer
	if kind == "" {
		if kind = "grounded"; s.upstream != nil {
			kind = "upstream"
		}
	}
	switch kind {
	case "text":
		return kind, chosen.Text
	case "upstream":
		if s.upstream != nil {
			return kind, upstream
		}
		kind = "grounded"
	}
	b := grounded(q.user)
	if kind == "lie" {
		b = lied(q.user, chosen.Lie)
	}
	if schema == nil {
		return kind, b.hypothesis
	}
	return kind, inWords(b, schema)
}
