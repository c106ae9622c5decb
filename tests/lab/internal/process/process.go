// Package process starts components that outlive the command that starts them,
// and remembers them well enough to end them later and nothing else.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Record identifies a process that the lab started. A pid alone would not do:
// it is used again after the process ends. Pid, start time and boot together
// name one process for good.
type Record struct {
	Name string   `json:"name"`
	PID  int      `json:"pid"`
	Args []string `json:"args"`
	// StartTicks is field 22 of /proc/PID/stat: clock ticks since boot.
	StartTicks uint64 `json:"startTicks"`
	BootID     string `json:"bootID"`
	// Config is a digest of the configuration that it was started with.
	Config string `json:"config,omitempty"`
}

// Spec says how to start a component.
type Spec struct {
	// Name of the component.
	Name string
	// Path of the program; Args[0] may differ from it.
	Path string
	Args []string
	// Env is the whole environment: nothing is inherited, so that a proxy or a
	// KUBECONFIG of the caller's shell does not leak into the cluster.
	Env []string
	// Dir is the working directory.
	Dir string
	// Log receives stdout and stderr.
	Log string
	// Config is kept in the record.
	Config string
}

// Start starts a component in a session of its own, so that neither the end of
// the caller nor a signal to its terminal reaches it.
func Start(spec Spec) (Record, error) {
	if err := keepOneOldLog(spec.Log); err != nil {
		return Record{}, err
	}
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return Record{}, err
	}
	defer log.Close()
	cmd := &exec.Cmd{
		Path: spec.Path, Args: spec.Args, Env: spec.Env, Dir: spec.Dir,
		Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		return Record{}, fmt.Errorf("cannot start %s: %w", spec.Name, err)
	}
	record := Record{Name: spec.Name, PID: cmd.Process.Pid, Args: spec.Args, Config: spec.Config}
	if record.BootID, err = bootID(); err != nil {
		return Record{}, err
	}
	state, err := readStat(record.PID)
	if err != nil {
		return Record{}, fmt.Errorf("cannot read the start time of %s: %w", spec.Name, err)
	}
	record.StartTicks = state.startTicks
	// Reaps the process if it ends while this command still runs.
	go func() { _ = cmd.Wait() }()
	return record, nil
}

func keepOneOldLog(log string) error {
	err := os.Rename(log, log+".1")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Alive tells whether the recorded process, and not another with its pid, runs.
func (r Record) Alive() bool {
	boot, err := bootID()
	if err != nil || boot != r.BootID {
		return false
	}
	state, err := readStat(r.PID)
	return err == nil && state.startTicks == r.StartTicks && state.code != 'Z' && state.code != 'X'
}

// Stop asks the process to end, waits for at most grace, then kills it.
func (r Record) Stop(ctx context.Context, grace time.Duration) error {
	for _, step := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, grace}, {syscall.SIGKILL, 10 * time.Second}} {
		if !r.Alive() {
			return nil
		}
		if err := syscall.Kill(r.PID, step.signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("cannot end %s (pid %d): %w", r.Name, r.PID, err)
		}
		if err := waitUntil(ctx, step.wait, func() bool { return !r.Alive() }); err == nil {
			return nil
		} else if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return fmt.Errorf("%s (pid %d) is still there after SIGKILL; look for it in uninterruptible sleep with `ps -o stat,wchan -p %d`", r.Name, r.PID, r.PID)
}

func waitUntil(ctx context.Context, limit time.Duration, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if done() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// RSS is the resident memory of the process in bytes, 0 when it cannot be read.
func (r Record) RSS() int64 {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(r.PID), "statm"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

// stat is what the lab needs of /proc/PID/stat.
type stat struct {
	code       byte
	startTicks uint64
}

func readStat(pid int) (stat, error) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return stat{}, err
	}
	return parseStat(data)
}

// parseStat reads a line of /proc/PID/stat. The command name, in parentheses,
// may itself hold spaces and parentheses: fields are counted from the last one.
func parseStat(line []byte) (stat, error) {
	end := bytes.LastIndexByte(line, ')')
	if end < 0 {
		return stat{}, fmt.Errorf("no command name in %q", line)
	}
	fields := strings.Fields(string(line[end+1:]))
	const stateField, startField = 3 - 3, 22 - 3
	if len(fields) <= startField {
		return stat{}, fmt.Errorf("expected at least 22 fields, got %q", line)
	}
	ticks, err := strconv.ParseUint(fields[startField], 10, 64)
	if err != nil {
		return stat{}, fmt.Errorf("the start time in %q is not a number: %w", line, err)
	}
	return stat{code: fields[stateField][0], startTicks: ticks}, nil
}

func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(data)), err
}
