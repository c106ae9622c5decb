package admission

import (
	"flag"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

var tries = flag.Int("tries", 500, "how often TestKillSwitch sets the mode to observe")

const (
	// grace is how long after the label has changed a write may still be accepted: the API server's informer of
	// namespaces has to see it.
	grace = 100 * time.Millisecond
	// watched is how long writes go on after that.
	watched = 300 * time.Millisecond
	// writers send at the same time.
	writers = 4
)

// TestKillSwitch has the executor's account make a granted write without pause, sets the namespace to observe meanwhile, and
// looks at what the API server accepted after it had answered that. The writes are dry-runs: they pass the same
// admission, and the object stays armed for the next try.
func TestKillSwitch(t *testing.T) {
	s := shared
	b := s.benches[nsArmed]
	fire := b.patch("api", fireOps(b.recorded("api")))
	fire.path += "&dryRun=All"
	mode := func(word string) {
		s.admin.must(request{method: "PATCH", kind: mergePatch, path: "/api/v1/namespaces/" + b.ns,
			body: object{"metadata": object{"labels": object{"backstop.dev/mode": word}}}})
	}
	defer mode("auto")
	var lags []time.Duration
	late, sent := 0, 0
	for try := range *tries {
		if err := b.keepOpen(); err != nil {
			t.Fatal(err)
		}
		if err := eventually("the granted write is accepted", func() bool {
			a, err := s.executor.do(fire)
			return err == nil && a.accepted()
		}); err != nil {
			t.Fatalf("try %d: %v", try, err)
		}
		begun := s.fireUntil(fire)
		mode("observe")
		changed := time.Now()
		time.Sleep(grace + watched)
		all := begun.stop()
		sent += len(all)
		lag := time.Duration(0)
		for _, write := range all {
			if after := write.at.Sub(changed); write.accepted && after > lag {
				lag = after
			}
		}
		after := slices.ContainsFunc(all, func(w write) bool { return w.at.Sub(changed) > grace })
		report(t, after, "try %d: no write was sent after the first %s: nothing was measured", try, grace)
		report(t, lag <= grace, "try %d: a write that was sent %s after the label had changed was accepted", try, lag)
		if lag > grace {
			late++
		}
		lags = append(lags, lag)
		mode("auto")
	}
	slices.Sort(lags)
	at := func(share int) time.Duration {
		return lags[min(len(lags)-1, len(lags)*share/100)].Round(10 * time.Microsecond)
	}
	fmt.Printf("kill switch: %d tries, %d writes sent, %d tries with a write accepted more than %s after the label had changed\n", len(lags), sent, late, grace)
	fmt.Printf("kill switch: latest accepted write after the label had changed: p50 %s, p99 %s, most %s\n", at(50), at(99), lags[len(lags)-1].Round(10*time.Microsecond))
}

// A write, by the time at which it was sent.
type write struct {
	at       time.Time
	accepted bool
}

// A barrage of writes.
type barrage struct {
	over   chan struct{}
	done   sync.WaitGroup
	lock   sync.Mutex
	writes []write
}

// fireUntil sends the write again and again until stop.
func (s *suite) fireUntil(fire request) *barrage {
	b := &barrage{over: make(chan struct{})}
	for range writers {
		b.done.Go(func() {
			for {
				select {
				case <-b.over:
					return
				default:
				}
				sent := time.Now()
				a, err := s.executor.do(fire)
				b.lock.Lock()
				// No answer: it may have been accepted.
				b.writes = append(b.writes, write{sent, err != nil || a.accepted()})
				b.lock.Unlock()
			}
		})
	}
	return b
}

func (b *barrage) stop() []write {
	close(b.over)
	b.done.Wait()
	return b.writes
}
