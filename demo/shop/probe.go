package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// tally counts the answers of a probe.
type tally struct {
	checked, failed int
	outage          time.Duration // the longest run of failures
	down            time.Time     // start of the current run, or zero
}

// add counts one answer and tells whether it began or ended an outage.
func (t *tally) add(at time.Time, ok bool) (changed bool) {
	t.checked++
	if ok {
		changed = !t.down.IsZero()
		t.close(at)
		return changed
	}
	t.failed++
	if t.down.IsZero() {
		t.down, changed = at, true
	}
	return changed
}

// close ends the current outage, if there is one.
func (t *tally) close(at time.Time) {
	if !t.down.IsZero() {
		t.outage = max(t.outage, at.Sub(t.down))
		t.down = time.Time{}
	}
}

func (t *tally) String() string {
	return fmt.Sprintf("probe: %d checked, %d failed, longest outage %.1fs", t.checked, t.failed, t.outage.Seconds())
}

// probe requests a URL at a steady pace, prints each change between working
// and failing, and ends with one line of counts: the customer's view of an
// incident.
func probe(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("probe", flag.ContinueOnError)
	every := flags.Duration("every", 100*time.Millisecond, "time between two requests")
	length := flags.Duration("for", 0, "how long to go on (0: until interrupted)")
	load := flags.Bool("load", false, "count only: failed requests do not fail the probe")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 || *every <= 0 {
		return fmt.Errorf("probe needs one URL and a positive --every, such as: shop probe --for 30s http://web.shop:8080/")
	}
	target := flags.Arg(0)
	if *length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *length)
		defer cancel()
	}

	// A new connection each time, as new customers have: a kept one would stick
	// to one pod and hide the others.
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var counts tally
	tick := time.NewTicker(*every)
	defer tick.Stop()
	for start := time.Now(); ctx.Err() == nil; {
		at := time.Now()
		why := request(ctx, client, target)
		if ctx.Err() != nil {
			break // interrupted in the middle: not an answer
		}
		if counts.add(at, why == "") {
			state := "working again"
			if why != "" {
				state = "failing: " + why
			}
			fmt.Fprintf(out, "%6.1fs %s\n", at.Sub(start).Seconds(), state)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	counts.close(time.Now())
	fmt.Fprintln(out, &counts)
	if counts.failed > 0 && !*load {
		return fmt.Errorf("%s failed %d of %d requests", target, counts.failed, counts.checked)
	}
	return nil
}

// request says why a request failed; nothing if it did not.
func request(ctx context.Context, client *http.Client, target string) string {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return err.Error()
	}
	response, err := client.Do(r)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 300))
	if err != nil {
		return err.Error()
	}
	if response.StatusCode != http.StatusOK {
		return response.Status + ": " + strings.TrimSpace(string(body))
	}
	return ""
}
