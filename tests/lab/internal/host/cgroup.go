package host

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"backstop.dev/lab/internal/layout"
)

// hierarchies returns the mount points of all cgroup hierarchies: several with
// version 1, one with version 2. Where both are mounted, version 1 is what the
// kubelet uses, but the lab's groups are made and removed in all.
func hierarchies(mounts string) []string {
	var found []string
	for _, m := range parseMounts(mounts) {
		if m.kind == "cgroup" || m.kind == "cgroup2" {
			found = append(found, m.path)
		}
	}
	return found
}

func currentHierarchies() ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	return hierarchies(string(data)), err
}

// CgroupUp makes a node's cgroup in every hierarchy.
func CgroupUp(cgroup string) error {
	roots, err := currentHierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := root
		for _, part := range strings.Split(cgroup, "/") {
			parent := dir
			dir = filepath.Join(dir, part)
			// Version 2: what is not enabled in the parent does not exist in
			// the child. Before mkdir or after makes no difference.
			if err := enableControllers(parent); err != nil {
				return err
			}
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
				return err
			}
			// Version 1: a cpuset without CPUs and memory nodes takes no process.
			for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
				if err := inheritCpuset(parent, dir, file); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func enableControllers(dir string) error {
	controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range strings.Fields(string(controllers)) {
		// Controllers with processes of their own in the parent refuse (cpu
		// with real-time processes, for one); the kubelet names what it lacks.
		err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+name), 0o644)
		if err != nil && !errors.Is(err, syscall.EBUSY) && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
			return err
		}
	}
	return nil
}

func inheritCpuset(parent, dir, file string) error {
	if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
		return nil // version 2 inherits by itself
	}
	value, err := os.ReadFile(filepath.Join(parent, file))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, file), value, 0o644)
}

// CgroupDown kills whatever is still in the lab's cgroups, which can only be
// containers of its pods, and removes the groups.
func CgroupDown() error {
	roots, err := currentHierarchies()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(15 * time.Second)
	for _, root := range roots {
		for {
			err := removeTree(filepath.Join(root, layout.Cgroup))
			if err == nil {
				break
			}
			if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
				return err
			}
			// Killed processes leave their group a moment later.
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	procs, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ENODEV) {
		return err
	}
	for _, field := range strings.Fields(string(procs)) {
		pid, err := strconv.Atoi(field)
		if err != nil || pid <= 0 {
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
		return err
	}
	return nil
}
