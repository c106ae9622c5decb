// Package cluster brings the lab's Kubernetes up and down.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"backstop.dev/lab/internal/kube"
	"backstop.dev/lab/internal/layout"
	"backstop.dev/lab/internal/process"
)

// Cluster is the lab of one state folder.
type Cluster struct {
	Paths    layout.Paths
	Settings Settings
	// Out receives what is told to the user.
	Out io.Writer

	store process.Store
	// api is made when first needed: its kubeconfig comes late in `up`.
	api *kube.Client
}

// New returns the lab of these folders.
func New(p layout.Paths, s Settings, out io.Writer) *Cluster {
	return &Cluster{Paths: p, Settings: s, Out: out, store: process.Store{Dirs: []string{p.Records(), p.RecordsCopy()}}}
}

func (c *Cluster) client() (*kube.Client, error) {
	if c.api == nil {
		client, err := kube.FromKubeconfig(c.Paths.KubeconfigOf("super-admin"))
		if err != nil {
			return nil, err
		}
		c.api = client
	}
	return c.api, nil
}

func (c *Cluster) apiReady(ctx context.Context) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	return client.Ready(ctx)
}

// Lock makes sure that one command at a time changes this lab. The returned
// function gives the lock back; so does the end of the process.
func (c *Cluster) Lock() (func(), error) {
	if err := os.MkdirAll(c.Paths.State, 0o755); err != nil {
		return nil, err
	}
	file, err := os.Open(c.Paths.State)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		fmt.Fprintln(c.Out, "waiting for another lab command to finish")
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
			file.Close()
			return nil, err
		}
	}
	return func() {
		// A command that refused leaves no empty folder; one with state stays.
		_ = os.Remove(c.Paths.State)
		file.Close()
	}, nil
}

// environment of all components: nothing of the caller's.
func (c *Cluster) environment(extra []string) []string {
	return append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + c.Paths.State,
	}, extra...)
}

// find returns the component of this name.
func (c *Cluster) find(name string) (component, error) {
	var names []string
	for _, component := range c.components() {
		if component.name == name {
			return component, nil
		}
		names = append(names, component.name)
	}
	return component{}, fmt.Errorf("%q is not a component of this lab; there are: %s", name, strings.Join(names, ", "))
}

// start starts a component unless it runs already as it should. It returns
// whether it was started.
func (c *Cluster) start(ctx context.Context, comp component) (bool, error) {
	config, err := c.digest(comp)
	if err != nil {
		return false, err
	}
	record, found, err := c.store.Find(comp.name)
	if err != nil {
		return false, err
	}
	if found && record.Alive() {
		if record.Config == config {
			return false, nil
		}
		fmt.Fprintf(c.Out, "%s: its configuration changed, restarting\n", comp.name)
		if err := record.Stop(ctx, comp.grace); err != nil {
			return false, err
		}
	}
	record, err = process.Start(process.Spec{
		Name: comp.name, Path: comp.path, Args: comp.args, Env: c.environment(comp.env),
		Dir: c.Paths.State, Log: c.Paths.Log(comp.name), Config: config,
	})
	if err != nil {
		return false, err
	}
	return true, c.store.Save(record)
}

// awaitHealthy waits until a component serves. It gives up at once when the
// process ends, and says what it said last.
func (c *Cluster) awaitHealthy(ctx context.Context, comp component, limit time.Duration) error {
	var last error
	err := poll(ctx, limit, func() (bool, error) {
		if last = comp.healthy(ctx); last == nil {
			return true, nil
		}
		record, found, err := c.store.Find(comp.name)
		if err != nil {
			return false, err
		}
		if !found || !record.Alive() {
			return false, fmt.Errorf("%s ended while starting; the end of %s:\n%s", comp.name, c.Paths.Log(comp.name), tail(c.Paths.Log(comp.name), 8))
		}
		return false, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s is not healthy after %s: %w; the end of %s:\n%s", comp.name, limit, last, c.Paths.Log(comp.name), tail(c.Paths.Log(comp.name), 8))
	}
	return err
}

// poll asks until done, an error or the limit.
func poll(ctx context.Context, limit time.Duration, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// tail returns the last lines of a file.
func tail(file string, lines int) string {
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// StopComponent ends one component and keeps the rest.
func (c *Cluster) StopComponent(ctx context.Context, name string) error {
	comp, err := c.find(name)
	if err != nil {
		return err
	}
	record, found, err := c.store.Find(name)
	if err != nil {
		return err
	}
	if !found || !record.Alive() {
		fmt.Fprintf(c.Out, "%s: not running\n", name)
		return c.store.Delete(name)
	}
	if err := record.Stop(ctx, comp.grace); err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "%s: stopped (pid %d)\n", name, record.PID)
	return c.store.Delete(name)
}

// StartComponent starts one component and waits until it serves.
func (c *Cluster) StartComponent(ctx context.Context, name string) error {
	comp, err := c.find(name)
	if err != nil {
		return err
	}
	if err := c.requireOwner(); err != nil {
		return err
	}
	begin := time.Now()
	started, err := c.start(ctx, comp)
	if err != nil {
		return err
	}
	if err := c.awaitHealthy(ctx, comp, time.Minute); err != nil {
		return err
	}
	if !started {
		fmt.Fprintf(c.Out, "%s: already running\n", name)
		return nil
	}
	fmt.Fprintf(c.Out, "%s: serving after %.1f s\n", name, time.Since(begin).Seconds())
	return nil
}

// requireOwner returns an error unless this lab is the one that is up.
func (c *Cluster) requireOwner() error {
	owner, err := readOwner()
	if err != nil {
		return err
	}
	if owner != c.Paths.State {
		return fmt.Errorf("the lab of %s is not up; run `lab up` first", c.Paths.State)
	}
	return nil
}

// readOwner returns the state folder of the lab that is up, "" when none is.
func readOwner() (string, error) {
	data, err := os.ReadFile(layout.OwnerFile())
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(data)), err
}

// command runs a Kubernetes program to its end and returns its output.
func (c *Cluster) command(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.Paths.Kubernetes(c.Settings.Version))
	cmd.Args = args
	cmd.Env = c.environment(nil)
	var errors strings.Builder
	cmd.Stderr = &errors
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errors.String()))
	}
	return out, nil
}

// Make builds or installs what a make target stands for.
func Make(ctx context.Context, p layout.Paths, out io.Writer, targets ...string) error {
	if _, err := os.Stat(filepath.Join(p.Source, "make/lab.mk")); err != nil {
		return fmt.Errorf("%s is needed but not there, and %s is not a clone to make it in: set LAB_SOURCE to the clone", strings.Join(targets, ", "), p.Source)
	}
	cmd := exec.CommandContext(ctx, "make", append([]string{"--no-print-directory", "--silent", "-f", "make/lab.mk", "BUILD=" + p.Build}, targets...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.Source, out, out
	// Flags of an outer make (its job server above all) are not for this one.
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "MAKEFLAGS=") && !strings.HasPrefix(entry, "MAKELEVEL=") && !strings.HasPrefix(entry, "MFLAGS=") {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make %s: %w", strings.Join(targets, " "), err)
	}
	return nil
}

// RestartComponent stops a component and starts it again.
func (c *Cluster) RestartComponent(ctx context.Context, name string) error {
	if err := c.StopComponent(ctx, name); err != nil {
		return err
	}
	return c.StartComponent(ctx, name)
}
