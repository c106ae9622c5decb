package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// terminal prints lines, never more than one writer at a time, and with
// colours only where somebody looks.
type terminal struct {
	mu      sync.Mutex
	out     *os.File
	colours bool
}

func newTerminal(out *os.File) *terminal {
	info, err := out.Stat()
	isTerminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return &terminal{out: out, colours: isTerminal && os.Getenv("NO_COLOR") == ""}
}

func (t *terminal) say(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, format+"\n", args...)
}

func (t *terminal) paint(code, text string) string {
	if !t.colours {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// title begins a part of the demo.
func (t *terminal) title(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	t.say("\n%s", t.paint("1", text+"\n"+strings.Repeat("=", utf8.RuneCountInString(text))))
}

// aside is a line that belongs between those of the timeline.
func (t *terminal) aside(who, format string, args ...any) {
	t.say("%s            %-12s  %s", time.Now().UTC().Format("15:04:05.000"), who, fmt.Sprintf(format, args...))
}

// beat is how often a long step says that it is still alive.
const beat = 10 * time.Second

// wait polls until done says so, and says meanwhile what is waited for.
func (t *terminal) wait(ctx context.Context, what string, atMost time.Duration, done func(context.Context) (bool, error)) error {
	start, last := time.Now(), time.Now()
	deadline, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	var why error
	for {
		ok, err := done(deadline)
		if ok {
			t.say("  %s: yes, after %.1f s", what, time.Since(start).Seconds())
			return nil
		}
		if err != nil {
			why = err
		}
		if time.Since(last) >= beat {
			last = time.Now()
			t.say("  %s: not yet, %.0f s", what, time.Since(start).Seconds())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.Done():
			return errors.Join(fmt.Errorf("%s: still not so after %s", what, atMost), why)
		case <-tick.C:
		}
	}
}

// long runs a command that may take minutes: its output goes to a buffer, its
// last line and the elapsed seconds to the terminal, and all of it when it fails.
func (t *terminal) long(ctx context.Context, what, command string, args ...string) error {
	start := time.Now()
	t.say("%s", t.paint("1", what))
	output := &lastLine{}
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Stdout, cmd.Stderr = output, output
	// Helm notes an install that was interrupted, if it is given the time.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.say("  %4.0f s  %s", time.Since(start).Seconds(), output.last())
		case err := <-ended:
			if err != nil {
				t.say("%s", output.tail(60))
				return fmt.Errorf("%s %s: %w", command, strings.Join(args, " "), err)
			}
			t.say("  done in %.0f s", time.Since(start).Seconds())
			return nil
		}
	}
}

// lastLine keeps what was written, and knows its end.
type lastLine struct {
	mu   sync.Mutex
	text bytes.Buffer
}

var _ io.Writer = (*lastLine)(nil)

func (l *lastLine) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lastLine) tail(lines int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := strings.Split(strings.TrimSpace(l.text.String()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func (l *lastLine) last() string {
	line := []rune(strings.TrimSpace(l.tail(1)))
	return string(line[:min(len(line), 100)])
}

// row is one expectation.
type row struct {
	what, expected, seen string
	seconds              float64 // 0: not timed
	ok                   bool
}

// table ends the demo.
func (t *terminal) table(rows []row) error {
	t.title("What was expected, and what was seen")
	cells := [][]string{{"case", "expected", "seen", "seconds", "ok"}}
	failed := 0
	for _, r := range rows {
		seconds, ok := "", t.paint("32", "yes")
		if r.seconds > 0 {
			seconds = fmt.Sprintf("%.1f", r.seconds)
		}
		if !r.ok {
			ok = t.paint("31", "NO")
			failed++
		}
		cells = append(cells, []string{r.what, r.expected, r.seen, seconds, ok})
	}
	widths := make([]int, 4)
	for _, line := range cells {
		for i := range widths {
			widths[i] = max(widths[i], utf8.RuneCountInString(line[i]))
		}
	}
	for i, line := range cells {
		text := ""
		for column, width := range widths {
			text += line[column] + strings.Repeat(" ", width-utf8.RuneCountInString(line[column])+2)
		}
		t.say("%s%s", text, line[4])
		if i == 0 {
			t.say("%s", strings.Repeat("-", len(text)+3))
		}
	}
	t.say("\ndemo: %d checked, %d failed", len(rows), failed)
	if failed > 0 {
		return errExpectation
	}
	return nil
}
