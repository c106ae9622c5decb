package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// kube runs kubectl, or another program that is used like it.
type kube struct {
	command string
}

func (k kube) cmd(ctx context.Context, args ...string) *exec.Cmd {
	words := append(strings.Fields(k.command), args...)
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	// A signal that ends the demo ends what it started, gently.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run returns what it wrote.
func (k kube) run(ctx context.Context, args ...string) (string, error) {
	return k.feed(ctx, "", args...)
}

// feed also gives it something to read.
func (k kube) feed(ctx context.Context, input string, args ...string) (string, error) {
	cmd := k.cmd(ctx, args...)
	cmd.Stdin = strings.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", k.command, strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

// get reads an object, or a list, into v.
func (k kube) get(ctx context.Context, v any, args ...string) error {
	out, err := k.run(ctx, append([]string{"get", "--output=json"}, args...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), v)
}

// applyIn applies a manifest that was written for the namespace shop in another
// one, with the images as they are named here.
func (d *demo) applyIn(ctx context.Context, namespace, file string, replace ...string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	filled := strings.NewReplacer(replace...).Replace(string(text))
	_, err = d.kube.feed(ctx, moved(filled, namespace, d.manifestImages()), "apply", "--filename=-")
	return err
}

type meta struct {
	Name, Namespace, UID string
	CreationTimestamp    time.Time
	DeletionTimestamp    *time.Time
	Generation           int64
	Labels, Annotations  map[string]string
	OwnerReferences      []struct{ Kind, Name, UID string }
}

type deployment struct {
	Metadata meta
	Spec     struct {
		Replicas int
		Template json.RawMessage
	}
	Status struct {
		ObservedGeneration                                  int64
		Replicas, UpdatedReplicas, ReadyReplicas            int
		AvailableReplicas, UnavailableReplicas, Terminating int
	}
}

type containerState struct {
	Waiting    *struct{ Reason, Message string }
	Terminated *struct {
		Reason   string
		ExitCode int
	}
}

type pod struct {
	Metadata meta
	Status   struct {
		ContainerStatuses []struct {
			Name             string
			Ready            bool
			RestartCount     int
			State, LastState containerState
		}
	}
}

// failure is how a pod fails, as a monitoring rule would see it.
func (p pod) failure() (container, how string) {
	if p.Metadata.DeletionTimestamp != nil {
		return "", ""
	}
	for _, c := range p.Status.ContainerStatuses {
		if w := c.State.Waiting; w != nil {
			switch w.Reason {
			case "CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "CreateContainerConfigError", "CreateContainerError":
				return c.Name, w.Reason
			}
		}
		for _, s := range []containerState{c.State, c.LastState} {
			if s.Terminated != nil && s.Terminated.ExitCode != 0 {
				return c.Name, fmt.Sprintf("container ended with exit code %d", s.Terminated.ExitCode)
			}
		}
	}
	return "", ""
}

// failingPod finds a pod of a service that fails.
func (k kube) failingPod(ctx context.Context, namespace, service string) (name, container, how string, err error) {
	var pods struct{ Items []pod }
	err = k.get(ctx, &pods, "--namespace="+namespace, "pods", "--selector=app.kubernetes.io/name="+service)
	for _, p := range pods.Items {
		if container, how := p.failure(); how != "" {
			return p.Metadata.Name, container, how, nil
		}
	}
	return "", "", "", err
}
