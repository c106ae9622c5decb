package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// mount is one line of mountinfo.
type mount struct{ path, kind string }

// parseMounts reads /proc/PID/mountinfo.
func parseMounts(mountinfo string) []mount {
	var found []mount
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) == 0 {
			continue
		}
		found = append(found, mount{unescape(fields[4]), kind[0]})
	}
	return found
}

// unescape undoes the octal escapes of mountinfo (\040 is a space).
func unescape(path string) string {
	var out strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '\\' && i+3 < len(path) {
			if code, err := strconv.ParseUint(path[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(code))
				i += 3
				continue
			}
		}
		out.WriteByte(path[i])
	}
	return out.String()
}

// below returns the mounts in the folders, latest first: the order in which
// they can be unmounted.
func below(mounts []mount, folders []string) []string {
	var found []string
	for i := len(mounts) - 1; i >= 0; i-- {
		for _, folder := range folders {
			if mounts[i].path == folder || strings.HasPrefix(mounts[i].path, folder+"/") {
				found = append(found, mounts[i].path)
				break
			}
		}
	}
	return found
}

// Unmount unmounts everything below the folders.
func Unmount(folders ...string) error {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, path := range below(parseMounts(string(data)), folders) {
		// Detached: a process that just died may hold it a moment longer.
		if err := syscall.Unmount(path, syscall.MNT_DETACH); err != nil && err != syscall.EINVAL && err != syscall.ENOENT {
			return fmt.Errorf("cannot unmount %s: %w", path, err)
		}
	}
	return nil
}

// KillShims kills the containerd shims that serve the lab's containerds. A
// shim's command line names the socket of its containerd, which is the lab's
// alone.
func KillShims(sockets []string) error {
	deadline := time.Now().Add(10 * time.Second)
	for {
		alive := 0
		files, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return err
		}
		for _, file := range files {
			cmdline, err := os.ReadFile(file)
			if err != nil || !isShimOf(strings.Split(string(cmdline), "\x00"), sockets) {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				return err
			}
			alive++
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				return fmt.Errorf("cannot end the containerd shim with pid %d: %w", pid, err)
			}
		}
		if alive == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d containerd shims are still there after SIGKILL", alive)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// isShimOf tells whether a command line is that of a shim of one of the sockets.
func isShimOf(args []string, sockets []string) bool {
	if !strings.HasPrefix(filepath.Base(args[0]), "containerd-shim") {
		return false
	}
	for i, arg := range args[:len(args)-1] {
		if arg != "-address" {
			continue
		}
		for _, socket := range sockets {
			if args[i+1] == socket {
				return true
			}
		}
	}
	return false
}
