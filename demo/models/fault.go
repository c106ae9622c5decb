package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fault is one thing that goes wrong with a call.
type fault struct {
	// Kind is one of faultKinds, or `random`: one of Kinds, or of all.
	Kind  string   `json:"kind"`
	Kinds []string `json:"kinds,omitempty"`

	Status  int               `json:"status,omitempty"`  // status, errorEvent; default 500
	Code    string            `json:"code,omitempty"`    // the API's own word for it, such as insufficient_quota
	Headers map[string]string `json:"headers,omitempty"` // status: such as Retry-After
	Millis  int               `json:"millis,omitempty"`  // slowHead, slowBody: the pause; default 1000
	After   int               `json:"after,omitempty"`   // truncated, cut, errorEvent, stall: pieces before it happens; default: half
}

// faultKinds say what each does.
var faultKinds = map[string]string{
	"status":        "answers with an error of the API: status, code, headers",
	"reset":         "resets the connection before the head",
	"close":         "closes the connection before the head",
	"halfHead":      "closes the connection in the middle of the head",
	"hang":          "takes the request and never answers",
	"slowHead":      "waits before the head",
	"slowBody":      "waits before each piece of the body",
	"stall":         "sends the first pieces of the body, and then nothing for as long as the caller waits",
	"endless":       "sends a body that does not end",
	"truncated":     "ends the body too early, in good order",
	"cut":           "breaks the connection in the middle of the body",
	"empty":         "answers 200 and nothing",
	"html":          "answers 200 and a page in HTML",
	"errorBody":     "answers 200 and an error as the body",
	"errorEvent":    "sends an error in the middle of a stream; where nothing streams, like errorBody",
	"large":         "answers 200 and 10 MB of text",
	"invalidUtf8":   "puts bytes into the answer that are no UTF-8",
	"duplicateKeys": "answers with an object that has the same keys twice",
	"prose":         "answers with prose where JSON was asked for",
	"notOfSchema":   "answers with JSON of another schema",
}

func kindNames() []string {
	names := make([]string, 0, len(faultKinds))
	for name := range faultKinds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (f fault) check() error {
	known := func(kind string) bool { _, ok := faultKinds[kind]; return ok }
	switch {
	case f.Kind != "random" && !known(f.Kind):
		return fmt.Errorf("kind %q is none of random, %s", f.Kind, strings.Join(kindNames(), ", "))
	case f.Kind != "random" && len(f.Kinds) > 0:
		return errors.New("kinds belongs to kind random")
	case f.Status != 0 && (f.Status < 400 || f.Status > 599):
		return fmt.Errorf("status %d is no error", f.Status)
	case f.Millis < 0 || f.After < 0:
		return errors.New("millis and after cannot be negative")
	}
	for _, kind := range f.Kinds {
		if !known(kind) {
			return fmt.Errorf("kinds: %q is none of %s", kind, strings.Join(kindNames(), ", "))
		}
	}
	return nil
}

// chosen settles what is random.
func (f fault) chosen(random *rand.Rand) fault {
	if f.Kind == "random" {
		kinds := f.Kinds
		if len(kinds) == 0 {
			kinds = kindNames()
		}
		f.Kind = kinds[random.IntN(len(kinds))]
		if f.Kind == "status" && f.Status == 0 {
			statuses := []int{408, 429, 500, 502, 503, 504, 529}
			f.Status = statuses[random.IntN(len(statuses))]
		}
	}
	if f.Status == 0 {
		f.Status = http.StatusInternalServerError
	}
	if f.Millis == 0 {
		f.Millis = 1000
	}
	return f
}

func (f fault) pause() time.Duration {
	return time.Duration(f.Millis) * time.Millisecond
}

// answerText is what the model says when the fault is in its answer.
func (f fault) answerText(text string) string {
	switch f.Kind {
	case "invalidUtf8":
		return strings.Replace(text, " ", " "+notUTF8+" ", 1)
	case "duplicateKeys":
		if inner, ok := strings.CutPrefix(text, "{"); ok {
			return "{" + strings.TrimSuffix(inner, "}") + "," + inner
		}
	case "prose":
		return "Certainly! Based on the facts, the latest release looks suspicious. I would roll everything back."
	case "notOfSchema":
		return `{"verdict":"roll back","confident":true,"targets":["*"]}`
	}
	return text
}

// response is what is about to be sent, in pieces.
type response struct {
	status int
	header http.Header
	pieces [][]byte
	// broken makes an error of the API, for the faults that need one.
	body  func(refusal) []byte
	event func(refusal) []byte
}

// send writes a response with a fault in it, and tells whether it was sent whole.
func send(ctx context.Context, w http.ResponseWriter, r response, f fault) (whole bool) {
	failed := refusal{status: f.Status, kind: f.Code, message: "scripted fault"}
	half := max(1, len(r.pieces)/2)
	if f.After > 0 {
		half = min(f.After, len(r.pieces))
	}
	switch f.Kind {
	case "reset", "close", "halfHead":
		breakConnection(w, f.Kind)
		return false
	case "hang":
		<-ctx.Done()
		return false
	case "slowHead":
		if !sleep(ctx, f.pause()) {
			return false
		}
	case "status":
		r.status = f.Status
		r.header.Set("Content-Type", "application/json")
		r.pieces = [][]byte{r.body(failed)}
		for name, value := range f.Headers {
			r.header.Set(name, value)
		}
	case "empty":
		r.pieces = nil
	case "html":
		r.header.Set("Content-Type", "text/html; charset=utf-8")
		r.pieces = [][]byte{[]byte("<!DOCTYPE html><html><head><title>504</title></head><body><h1>Gateway</h1></body></html>\n")}
	case "errorBody":
		r.header.Set("Content-Type", "application/json")
		r.pieces = [][]byte{r.body(failed)}
	case "errorEvent":
		if len(r.pieces) == 1 {
			r.pieces = [][]byte{r.body(failed)}
		} else {
			r.pieces = append(slices.Clone(r.pieces[:half]), r.event(failed))
		}
	case "truncated", "cut", "stall":
		if len(r.pieces) == 1 {
			body := r.pieces[0]
			r.pieces = [][]byte{body[:len(body)/4], body[len(body)/4 : len(body)/2]}
		} else {
			r.pieces = r.pieces[:half]
		}
	case "large":
		r.pieces = append(slices.Clone(r.pieces[:half]), bytes.Repeat([]byte("x"), 10<<20))
	}
	if len(r.pieces) == 1 && f.Kind != "slowBody" && f.Kind != "endless" {
		r.header.Set("Content-Length", strconv.Itoa(len(r.pieces[0])))
	}
	for name, values := range r.header {
		w.Header()[name] = values
	}
	w.WriteHeader(r.status)
	control := http.NewResponseController(w)
	if f.Kind == "slowBody" && len(r.pieces) == 1 {
		body := r.pieces[0]
		r.pieces = [][]byte{body[:len(body)/2], body[len(body)/2:]}
	}
	for i, piece := range r.pieces {
		if f.Kind == "slowBody" {
			if i == 0 && control.Flush() != nil || !sleep(ctx, f.pause()) {
				return false
			}
		}
		if _, err := w.Write(piece); err != nil {
			return false
		}
		if control.Flush() != nil {
			return false
		}
	}
	switch f.Kind {
	case "cut":
		panic(http.ErrAbortHandler) // how net/http breaks a response off
	case "stall":
		<-ctx.Done()
		return false
	case "endless":
		for ctx.Err() == nil {
			if _, err := w.Write([]byte(": and so on and so forth\n\n")); err != nil {
				return false
			}
			if control.Flush() != nil {
				return false
			}
			sleep(ctx, time.Millisecond)
		}
		return false
	}
	return f.Kind == "" || f.Kind == "slowHead" || f.Kind == "slowBody" || isAnswer(f.Kind)
}

// isAnswer is for faults in what the model says; the response itself is whole.
func isAnswer(kind string) bool {
	return slices.Contains([]string{"invalidUtf8", "duplicateKeys", "prose", "notOfSchema"}, kind)
}

// breakConnection ends a connection below HTTP.
func breakConnection(w http.ResponseWriter, how string) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer conn.Close()
	switch how {
	case "reset":
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a failure here only makes it a `close`
		}
	case "halfHead":
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: applica"))
	}
}

// sleep tells whether the caller is still there.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
