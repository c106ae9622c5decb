package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// cluster is the API server, reached with the rights of the pod.
type cluster struct {
	url, token, namespace string
	client                *http.Client
}

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func inCluster(getenv func(string) string) (cluster, error) {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return cluster{}, err
	}
	namespace, err := os.ReadFile(account + "namespace")
	if err != nil {
		return cluster{}, err
	}
	authority, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return cluster{}, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority) {
		return cluster{}, errors.New(account + "ca.crt holds no certificate")
	}
	host, port := getenv("KUBERNETES_SERVICE_HOST"), getenv("KUBERNETES_SERVICE_PORT")
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return cluster{
		url: "https://" + host + ":" + port, token: string(token), namespace: string(namespace),
		client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}},
	}, nil
}

type meta struct {
	Name            string
	UID             string
	Annotations     map[string]string
	OwnerReferences []struct{ UID string }
}

type deployment struct {
	Metadata meta
	Spec     struct {
		Replicas int
		Template json.RawMessage
	}
	Status struct{ ReadyReplicas int }
}

type replicaSet struct {
	Metadata meta
	Spec     struct{ Template json.RawMessage }
}

const revisionKey = "deployment.kubernetes.io/revision"

func (m meta) revision() int {
	n, _ := strconv.Atoi(m.Annotations[revisionKey]) // one without is older than all
	return n
}

func (c cluster) call(ctx context.Context, method, path, kind string, body []byte, v any) error {
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if kind != "" {
		request.Header.Set("Content-Type", kind)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %.300s", method, path, response.Status, text)
	}
	return json.Unmarshal(text, v)
}

func (c cluster) apps(what string) string {
	return "/apis/apps/v1/namespaces/" + c.namespace + "/" + what
}

func (c cluster) deployments(ctx context.Context) ([]deployment, error) {
	var list struct{ Items []deployment }
	err := c.call(ctx, http.MethodGet, c.apps("deployments"), "", nil, &list)
	slices.SortFunc(list.Items, func(a, b deployment) int { return cmp.Compare(a.Metadata.Name, b.Metadata.Name) })
	return list.Items, err
}

// pods are listed as `kubectl get pods` does.
func (c cluster) pods(ctx context.Context) (string, error) {
	var list struct {
		Items []struct {
			Metadata meta
			Status   struct {
				Phase             string
				ContainerStatuses []struct {
					Ready        bool
					RestartCount int
					State        struct{ Waiting *struct{ Reason string } }
				}
			}
		}
	}
	if err := c.call(ctx, http.MethodGet, "/api/v1/namespaces/"+c.namespace+"/pods", "", nil, &list); err != nil {
		return "", err
	}
	var text strings.Builder
	for _, pod := range list.Items {
		state, restarts := pod.Status.Phase, 0
		for _, container := range pod.Status.ContainerStatuses {
			restarts += container.RestartCount
			if waiting := container.State.Waiting; waiting != nil {
				state = waiting.Reason
			}
		}
		fmt.Fprintf(&text, "%s: %s, %d restarts\n", pod.Metadata.Name, state, restarts)
	}
	return text.String(), nil
}

// command is a rollback as it was told to do.
type command struct {
	name     string // empty: every Deployment, as kubectl does
	revision int    // 0: the one before
}

// readCommand understands what kubectl would make of it, for rollbacks.
func readCommand(line string) (command, error) {
	var c command
	words := strings.Fields(line)
	var rest []string
	for i := 0; i < len(words); i++ {
		switch word := words[i]; {
		case word == "-n" || word == "--namespace":
			i++ // there is only its own
		case strings.HasPrefix(word, "--namespace=") || strings.HasPrefix(word, "-n="):
		case strings.HasPrefix(word, "--to-revision="):
			n, err := strconv.Atoi(strings.TrimPrefix(word, "--to-revision="))
			if err != nil {
				return c, fmt.Errorf("%q: %w", line, err)
			}
			c.revision = n
		default:
			rest = append(rest, word)
		}
	}
	if len(rest) < 4 || !slices.Equal(rest[:3], []string{"kubectl", "rollout", "undo"}) {
		return c, fmt.Errorf("%q: it only knows kubectl rollout undo", line)
	}
	kind, name, _ := strings.Cut(rest[3], "/")
	if len(rest) == 5 && name == "" {
		name = rest[4]
	}
	if !slices.Contains([]string{"deployment", "deployments", "deploy", "deployment.apps", "deployments.apps"}, kind) || len(rest) > 5 {
		return c, fmt.Errorf("%q: it only knows Deployments", line)
	}
	c.name = name
	return c, nil
}

// undo does what `kubectl rollout undo` does, and says each write.
func (c cluster) undo(ctx context.Context, what command, wrote func(string)) error {
	deployments, err := c.deployments(ctx)
	if err != nil {
		return err
	}
	var sets struct{ Items []replicaSet }
	if err := c.call(ctx, http.MethodGet, c.apps("replicasets"), "", nil, &sets); err != nil {
		return err
	}
	var problems []error
	found := false
	for _, d := range deployments {
		if what.name != "" && what.name != d.Metadata.Name {
			continue
		}
		found = true
		to := revisionToReturnTo(d, sets.Items, what.revision)
		if to == nil {
			problems = append(problems, fmt.Errorf("deployment %s: no rollout history found", d.Metadata.Name))
			continue
		}
		template, err := withoutHash(to.Spec.Template)
		if err != nil {
			return err
		}
		patch, err := json.Marshal([]fields{{"op": "replace", "path": "/spec/template", "value": template}})
		if err != nil {
			return err
		}
		var after deployment
		if err := c.call(ctx, http.MethodPatch, c.apps("deployments/"+d.Metadata.Name), "application/json-patch+json", patch, &after); err != nil {
			problems = append(problems, err)
			continue
		}
		wrote(fmt.Sprintf("deployment %s: revision %d rolled back to %d", d.Metadata.Name, d.Metadata.revision(), to.Metadata.revision()))
	}
	if !found && what.name != "" {
		problems = append(problems, fmt.Errorf("deployment %s not found", what.name))
	}
	return errors.Join(problems...)
}

// revisionToReturnTo is the one that was asked for, or the one before.
func revisionToReturnTo(d deployment, sets []replicaSet, wanted int) *replicaSet {
	var best *replicaSet
	for i, set := range sets {
		owned := slices.ContainsFunc(set.Metadata.OwnerReferences, func(o struct{ UID string }) bool { return o.UID == d.Metadata.UID })
		number := set.Metadata.revision()
		if !owned || number >= d.Metadata.revision() || wanted > 0 && number != wanted {
			continue
		}
		if best == nil || number > best.Metadata.revision() {
			best = &sets[i]
		}
	}
	return best
}

// withoutHash is a template as the Deployment had it: the label is the ReplicaSet's.
func withoutHash(raw json.RawMessage) (map[string]any, error) {
	var template map[string]any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&template); err != nil {
		return nil, err
	}
	if metadata, ok := template["metadata"].(map[string]any); ok {
		if labels, ok := metadata["labels"].(map[string]any); ok {
			delete(labels, "pod-template-hash")
		}
	}
	return template, nil
}
