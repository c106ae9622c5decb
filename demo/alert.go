package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// intake is the way to the operator's webhook.
type intake struct {
	url, token string
}

// openIntake reads the webhook's token, and reaches its Service through a port-forward.
func (d *demo) openIntake(ctx context.Context) error {
	if d.intake.url != "" {
		return nil
	}
	encoded, err := d.kube.run(ctx, "--namespace="+system, "get", "secret", "backstop-intake", "--output=jsonpath={.data.token}")
	if err != nil {
		return err
	}
	token, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return fmt.Errorf("secret backstop-intake, key token: %w", err)
	}
	forward := d.kube.cmd(ctx, "--namespace="+system, "port-forward", "service/backstop-controller", ":8080")
	out, err := forward.StdoutPipe()
	if err != nil {
		return err
	}
	var errs bytes.Buffer
	forward.Stderr = &errs
	if err := forward.Start(); err != nil {
		return err
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	port := regexp.MustCompile(`127\.0\.0\.1:(\d+)`).FindStringSubmatch(first)
	if err != nil || port == nil {
		return fmt.Errorf("kubectl port-forward said %q: %s", strings.TrimSpace(first), errs.String())
	}
	go func() {
		// It says a line for each connection; unread lines would block it.
		_, _ = io.Copy(io.Discard, lines)
		_ = forward.Wait()
	}()
	d.intake = intake{url: "http://127.0.0.1:" + port[1] + "/v1/intake/alertmanager", token: string(token)}
	return nil
}

// alert is one alert in Alertmanager's webhook format, version 4.
type alert struct {
	Status       string            `json:"status"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	GeneratorURL string            `json:"generatorURL"`
	Fingerprint  string            `json:"fingerprint"`
}

// webhook is an alert as Alertmanager posts it.
func (a alert) webhook() ([]byte, error) {
	return json.Marshal(map[string]any{
		"version": "4", "groupKey": "{}:{alertname=\"" + a.Labels["alertname"] + "\"}", "truncatedAlerts": 0,
		"status": a.Status, "receiver": "backstop", "externalURL": "http://alertmanager.example:9093",
		"groupLabels":  map[string]string{"alertname": a.Labels["alertname"]},
		"commonLabels": a.Labels, "commonAnnotations": a.Annotations, "alerts": []alert{a},
	})
}

// crashLooping is what fires for a pod that fails.
func crashLooping(namespace, pod, container string) alert {
	return firing("Pod is crash looping.", map[string]string{
		"alertname": "KubePodCrashLooping", "severity": "critical",
		"namespace": namespace, "pod": pod, "container": container,
	})
}

// replicasMismatch is what fires for a Deployment that has not the replicas that it asks for.
func replicasMismatch(namespace, deployment string) alert {
	return firing("Deployment has not matched the expected number of replicas.", map[string]string{
		"alertname": "KubeDeploymentReplicasMismatch", "severity": "critical",
		"namespace": namespace, "deployment": deployment,
	})
}

func firing(summary string, labels map[string]string) alert {
	now := time.Now().UTC()
	return alert{
		Status:       "firing",
		Labels:       labels,
		Annotations:  map[string]string{"summary": summary},
		StartsAt:     now,
		GeneratorURL: "http://prometheus.example:9090/graph",
		Fingerprint:  fmt.Sprintf("%016x", now.UnixNano()),
	}
}

// send posts an alert exactly as Alertmanager would.
func (d *demo) send(ctx context.Context, a alert) (string, error) {
	body, err := a.webhook()
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.intake.url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+d.intake.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusAccepted {
		return "", fmt.Errorf("the intake answered %s: %s", response.Status, strings.TrimSpace(string(text)))
	}
	return response.Status, nil
}

// detect waits until a pod of a service fails, and lets the alert fire: with
// monitoring in the cluster that is Alertmanager's work, else the demo sends
// what Alertmanager would send.
func (d *demo) detect(ctx context.Context, namespace, service string) error {
	var name, container, how string
	err := d.t.wait(ctx, fmt.Sprintf("a pod of %s/%s fails", namespace, service), time.Minute, func(ctx context.Context) (bool, error) {
		var err error
		name, container, how, err = d.kube.failingPod(ctx, namespace, service)
		return how != "", err
	})
	if err != nil {
		return err
	}
	d.t.say("  pod %s: %s", name, how)
	if d.monitoring {
		d.t.say("  Prometheus and Alertmanager in the cluster will see it and send the alert.")
		return nil
	}
	status, err := d.fire(ctx, crashLooping(namespace, name, container))
	if err != nil {
		return err
	}
	d.t.say("  The demo plays the monitoring here (MONITORING=1 uses a real one): KubePodCrashLooping for that")
	d.t.say("  pod, posted to the intake as Alertmanager posts it, with the token: %s", status)
	return nil
}

// fire lets an alert fire, and returns what the intake answered.
func (d *demo) fire(ctx context.Context, a alert) (string, error) {
	if err := d.openIntake(ctx); err != nil {
		return "", err
	}
	return d.send(ctx, a)
}
