// Command models is a scripted model server: it speaks the APIs of Anthropic
// (Messages), OpenAI (Chat Completions and Responses) and AWS Bedrock (Converse),
// whole and streamed, and answers as a script says: with what the facts in the
// prompt support, with a lie, or with a fault. It is as strict about requests as
// the providers are. The demo and the tests use it; it needs no key of anybody.
//
// With --upstream it stands in front of a real model instead, asks it with the
// caller's own key, and the script may replace what it said.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fatal:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("models", flag.ContinueOnError)
	listen := flags.String("listen", ":8080", "address to listen on; port 0 takes a free one")
	path := flags.String("script", "", "file with the script to begin with, as POST /control takes it")
	keys := flags.String("keys", "", "the only keys that are accepted, separated by commas (empty: any)")
	aws := flags.String("aws-keys", "", "AWS access keys as KEY=SECRET, separated by commas: their signatures are verified")
	real := flags.String("upstream", "", "base URL of a real model to ask")
	grammar := flags.String("grammar", "", "the upstream is a server of llama.cpp, which takes the schema as a grammar: free, or restricted to names that the prompt shows")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *grammar != "" && (*real == "" || *grammar != grammarFree && *grammar != grammarRestricted) {
		return fmt.Errorf("--grammar %q: want %s or %s, and an --upstream", *grammar, grammarFree, grammarRestricted)
	}
	accepted, err := readSecrets(*keys, *aws)
	if err != nil {
		return err
	}
	s := &server{director: newDirector(), keys: accepted, log: log.Printf}
	if *real != "" {
		if s.upstream, err = newUpstream(*real); err != nil {
			return err
		}
		s.upstream.grammar = *grammar
	}
	if *path != "" {
		text, err := os.ReadFile(*path)
		if err != nil {
			return err
		}
		first, err := jsonScript(text)
		if err != nil {
			return fmt.Errorf("%s: %w", *path, err)
		}
		s.direct(first)
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		return err
	}
	// On stdout and alone, for a test that took a free port.
	fmt.Printf("listening on %s\n", listener.Addr())
	return serve(ctx, listener, s.handler())
}

func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := server.Shutdown(last); err != nil {
			_ = server.Close() // a fault that hangs does so to the end
		}
		stopped <- nil
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

func readSecrets(keys, aws string) (secrets, error) {
	s := secrets{any: keys == "", keys: map[string]bool{}, aws: map[string]string{}, now: time.Now}
	for _, key := range strings.FieldsFunc(keys, func(r rune) bool { return r == ',' }) {
		s.keys[key] = true
	}
	for _, pair := range strings.FieldsFunc(aws, func(r rune) bool { return r == ',' }) {
		key, secret, ok := strings.Cut(pair, "=")
		if !ok || key == "" || secret == "" {
			return s, errors.New("--aws-keys: want KEY=SECRET")
		}
		s.aws[key] = secret
	}
	return s, nil
}
