package process

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestAStatLineIsReadWhateverTheCommandIsCalled(t *testing.T) {
	fields := " S 1 2 3 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 987654 1000 10"
	for name, line := range map[string]string{
		"plain":                  "42 (etcd)" + fields,
		"with a space":           "42 (kube proxy)" + fields,
		"with a parenthesis":     "42 (a) S 1)" + fields,
		"with a trailing return": "42 (etcd)" + fields + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat([]byte(line))
			if err != nil {
				t.Fatal(err)
			}
			if want := (stat{code: 'S', startTicks: 987654}); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestAStatLineThatIsCutShortIsAnError(t *testing.T) {
	for _, line := range []string{"", "42", "42 (etcd)", "42 (etcd) S 1 2 3", "42 (etcd) S 1 2 3 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 soon 1"} {
		if got, err := parseStat([]byte(line)); err == nil {
			t.Errorf("%q was read as %+v", line, got)
		}
	}
}

// started starts a shell script as a component and ends it with the test.
func started(t *testing.T, name, script string) Record {
	t.Helper()
	dir := t.TempDir()
	record, err := Start(Spec{
		Name: name, Path: "/bin/sh", Args: []string{"sh", "-c", script},
		Env: []string{"PATH=/usr/bin:/bin"}, Dir: dir, Log: filepath.Join(dir, "log"),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := record.Stop(context.Background(), 0); err != nil {
			t.Error(err)
		}
	})
	return record
}

func TestAStartedProcessIsAliveUntilItIsStopped(t *testing.T) {
	record := started(t, "sleeper", "exec sleep 600")
	if !record.Alive() {
		t.Fatal("the process is not alive after Start")
	}
	if err := record.Stop(context.Background(), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if record.Alive() {
		t.Error("the process is alive after Stop")
	}
}

func TestAProcessThatIgnoresTheRequestToEndIsKilled(t *testing.T) {
	record := started(t, "stubborn", "trap '' TERM; echo ready; while :; do sleep 0.05; done")
	if err := record.Stop(context.Background(), 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if record.Alive() {
		t.Error("the process outlived Stop")
	}
}

func TestAProcessThatEndedByItselfIsNotAliveEvenBeforeItIsReaped(t *testing.T) {
	cmd := exec.Command("/bin/true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	state, err := readStat(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := bootID()
	if err != nil {
		t.Fatal(err)
	}
	record := Record{Name: "zombie", PID: cmd.Process.Pid, StartTicks: state.startTicks, BootID: boot}
	if err := waitUntil(context.Background(), 5*time.Second, func() bool { return !record.Alive() }); err != nil {
		t.Errorf("a process that is only waiting to be reaped counts as alive: %v", err)
	}
}

func TestAnotherProcessWithTheSamePidIsNeverStopped(t *testing.T) {
	for name, change := range map[string]func(*Record){
		"started at another time": func(r *Record) { r.StartTicks-- },
		"started in another boot": func(r *Record) { r.BootID = "00000000-0000-0000-0000-000000000000" },
	} {
		t.Run(name, func(t *testing.T) {
			innocent := started(t, "innocent", "exec sleep 600")
			stale := innocent
			change(&stale)
			if stale.Alive() {
				t.Error("the stale record counts as alive")
			}
			if err := stale.Stop(context.Background(), 0); err != nil {
				t.Fatal(err)
			}
			if !innocent.Alive() {
				t.Error("a process that the record does not name was ended")
			}
		})
	}
}

func TestAComponentRunsInASessionOfItsOwnAndInheritsNothing(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy.example:3128")
	record := started(t, "clean", "exec sleep 600")
	session, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(record.PID), 0, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	if int(session) != record.PID {
		t.Errorf("its session is %d, want its own pid %d", session, record.PID)
	}
	environment, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(record.PID), "environ"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(environment), "PROXY") {
		t.Errorf("the caller's environment leaked: %q", environment)
	}
}
