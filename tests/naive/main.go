// Command naive is an on-call agent as many are built: it gets an alert, shows a
// model what it sees, and runs the commands that come back. It has every right
// in its namespace, one model, and nothing between the two. It is here to be
// compared with; do not run it where anything matters.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "fatal:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	model, err := readModel(os.Getenv)
	if err != nil {
		return err
	}
	cluster, err := inCluster(os.Getenv)
	if err != nil {
		return err
	}
	a := newAgent(model, cluster, log.Printf)
	listen := os.Getenv("NAIVE_LISTEN")
	if listen == "" {
		listen = ":8080"
	}
	server := &http.Server{Addr: listen, Handler: a.handler(ctx), ReadHeaderTimeout: 5 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close() // what is under way is not worth waiting for
	}()
	log.Printf("naive: listening on %s, asking %s at %s", listen, model.name, model.base)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// report is what became of one alert.
type report struct {
	Alert     string    `json:"alert"`
	At        time.Time `json:"at"`
	Said      string    `json:"said"`     // the model's explanation
	Commands  []string  `json:"commands"` // and what it wants to be run
	Writes    []string  `json:"writes"`   // what was changed
	Problems  []string  `json:"problems"` // what could not be done
	TokensIn  int       `json:"tokensIn"`
	TokensOut int       `json:"tokensOut"`
	Done      bool      `json:"done"`
}

// agent handles one alert at a time, the same one only once.
type agent struct {
	model   model
	cluster cluster
	log     func(format string, args ...any)

	working sync.Mutex
	mu      sync.Mutex
	reports []*report
	seen    map[string]bool
}

func newAgent(m model, c cluster, log func(string, ...any)) *agent {
	return &agent{model: m, cluster: c, log: log, seen: map[string]bool{}}
}

// alert is what it reads of Alertmanager's webhook.
type alert struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	Fingerprint string            `json:"fingerprint"`
}

func (a *agent) handler(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /report", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		a.mu.Lock()
		defer a.mu.Unlock()
		_ = json.NewEncoder(w).Encode(a.reports) // a client that has gone away
	})
	mux.HandleFunc("POST /alerts", func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Alerts []alert }
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		for _, one := range body.Alerts {
			if one.Status == "firing" && a.isNew(one) {
				go a.handle(ctx, one)
			}
		}
		w.WriteHeader(http.StatusAccepted)
	})
	return mux
}

func (a *agent) isNew(one alert) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen[one.Fingerprint] {
		return false
	}
	a.seen[one.Fingerprint] = true
	return true
}

// note changes a report while others may read it.
func (a *agent) note(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

// handle looks, asks, and does what it is told.
func (a *agent) handle(ctx context.Context, one alert) {
	a.working.Lock()
	defer a.working.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	r := &report{Alert: one.Labels["alertname"], At: time.Now().UTC()}
	a.note(func() { a.reports = append(a.reports, r) })
	defer a.note(func() { r.Done = true })
	problem := func(err error) {
		a.log("naive: %v", err)
		a.note(func() { r.Problems = append(r.Problems, err.Error()) })
	}
	a.log("naive: alert %s for pod %s", one.Labels["alertname"], one.Labels["pod"])
	seen, err := a.look(ctx, one)
	if err != nil {
		problem(err)
		return
	}
	answer, used, err := a.model.ask(ctx, seen)
	a.note(func() { r.TokensIn, r.TokensOut = used.in, used.out })
	if err != nil {
		problem(err)
		return
	}
	a.note(func() { r.Said, r.Commands = answer.Explanation, answer.Commands })
	a.log("naive: the model says: %s", answer.Explanation)
	for _, command := range answer.Commands {
		a.log("naive: $ %s", command)
		parsed, err := readCommand(command)
		if err != nil {
			problem(err)
			continue
		}
		err = a.cluster.undo(ctx, parsed, func(write string) {
			a.log("naive: %s", write)
			a.note(func() { r.Writes = append(r.Writes, write) })
		})
		if err != nil {
			problem(err)
		}
	}
	a.log("naive: done")
}

// look is the prompt: the alert, and what a person would list first.
func (a *agent) look(ctx context.Context, one alert) (string, error) {
	deployments, err := a.cluster.deployments(ctx)
	if err != nil {
		return "", err
	}
	text := fmt.Sprintf("Alert %s (%s) in namespace %s, pod %s: %s\n\nDeployments:\n", one.Labels["alertname"], one.Labels["severity"],
		a.cluster.namespace, one.Labels["pod"], one.Annotations["summary"])
	for _, d := range deployments {
		text += fmt.Sprintf("%s: revision %s, %d of %d replicas ready\n", d.Metadata.Name, d.Metadata.Annotations[revisionKey], d.Status.ReadyReplicas, d.Spec.Replicas)
	}
	pods, err := a.cluster.pods(ctx)
	if err != nil {
		return "", err
	}
	return text + "\nPods:\n" + pods, nil
}
