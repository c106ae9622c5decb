// Package kube is the little of a Kubernetes client that bringing a cluster up
// needs: is it ready, get, and server-side apply. client-go would make the lab
// take minutes to build.
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// Client talks to one API server.
type Client struct {
	server string
	http   *http.Client
}

// kubeconfig is the part of a kubeconfig that kubeadm fills in.
type kubeconfig struct {
	Clusters []struct {
		Cluster struct {
			Server string `json:"server"`
			CA     string `json:"certificate-authority-data"`
		} `json:"cluster"`
	} `json:"clusters"`
	Users []struct {
		User struct {
			Certificate string `json:"client-certificate-data"`
			Key         string `json:"client-key-data"`
		} `json:"user"`
	} `json:"users"`
}

// FromKubeconfig returns a client for a kubeconfig that kubeadm wrote.
func FromKubeconfig(file string) (*Client, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var config kubeconfig
	if err := yaml.Unmarshal(data, &config); err != nil {
		return nil, fmt.Errorf("%s is not a kubeconfig: %w", file, err)
	}
	if len(config.Clusters) != 1 || len(config.Users) != 1 {
		return nil, fmt.Errorf("%s: expected one cluster and one user, as kubeadm writes them", file)
	}
	var pem [3][]byte
	for i, text := range []string{config.Clusters[0].Cluster.CA, config.Users[0].User.Certificate, config.Users[0].User.Key} {
		if pem[i], err = base64.StdEncoding.DecodeString(text); err != nil {
			return nil, fmt.Errorf("%s: a certificate or key is not base64: %w", file, err)
		}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem[0]) {
		return nil, fmt.Errorf("%s: no CA certificate inside", file)
	}
	pair, err := tls.X509KeyPair(pem[1], pem[2])
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return &Client{
		server: config.Clusters[0].Cluster.Server,
		http: &http.Client{
			Timeout: 10 * time.Second,
			// No proxy, whatever the environment says: the server is local.
			Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}},
		},
	}, nil
}

// StatusError is an answer other than success.
type StatusError struct {
	Method, Path string
	Code         int
	Body         string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: %d %s", e.Method, e.Path, e.Code, strings.TrimSpace(e.Body))
}

// IsNotFound tells whether the object does not exist.
func IsNotFound(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Code == http.StatusNotFound
}

func (c *Client) do(ctx context.Context, method, path, contentType string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.server+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode/100 != 2 {
		return nil, &StatusError{method, path, response.StatusCode, string(answer)}
	}
	return answer, nil
}

// Ready asks the API server whether it is ready.
func (c *Client) Ready(ctx context.Context) error {
	_, err := c.do(ctx, http.MethodGet, "/readyz", "", nil)
	return err
}

// Get reads what is at an API path.
func (c *Client) Get(ctx context.Context, path string, into any) error {
	data, err := c.do(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}

// Create creates an object, unless it exists already.
func (c *Client) Create(ctx context.Context, path string, object []byte) error {
	_, err := c.do(ctx, http.MethodPost, path, "application/json", object)
	var status *StatusError
	if errors.As(err, &status) && status.Code == http.StatusConflict {
		return nil
	}
	return err
}

// Exists tells whether there is something at an API path.
func (c *Client) Exists(ctx context.Context, path string) error {
	_, err := c.do(ctx, http.MethodGet, path, "", nil)
	return err
}

// Delete deletes the object at an API path, if there is one.
func (c *Client) Delete(ctx context.Context, path string) error {
	if _, err := c.do(ctx, http.MethodDelete, path, "", nil); err != nil && !IsNotFound(err) {
		return err
	}
	return nil
}

// Node is what matters of a Node object.
type Node struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Taints []struct {
			Key string `json:"key"`
		} `json:"taints"`
	} `json:"spec"`
	Status struct {
		Conditions []struct {
			Type, Status, Message string
		} `json:"conditions"`
	} `json:"status"`
}

// Ready returns whether pods can run on the node, and if not, why.
func (n Node) Ready() (bool, string) {
	for _, condition := range n.Status.Conditions {
		if condition.Type != "Ready" {
			continue
		}
		if condition.Status != "True" {
			return false, condition.Message
		}
		// The condition turns before the taint goes, and until then the
		// scheduler places nothing.
		for _, taint := range n.Spec.Taints {
			if strings.HasPrefix(taint.Key, "node.kubernetes.io/") {
				return false, "tainted " + taint.Key
			}
		}
		return true, ""
	}
	return false, "no status yet"
}

// Nodes lists the nodes.
func (c *Client) Nodes(ctx context.Context) ([]Node, error) {
	var list struct {
		Items []Node `json:"items"`
	}
	err := c.Get(ctx, "/api/v1/nodes", &list)
	return list.Items, err
}

// Apply applies a file of YAML documents as field manager `backstop-lab`.
func (c *Client) Apply(ctx context.Context, manifest []byte) error {
	for _, document := range bytes.Split(manifest, []byte("\n---\n")) {
		path, err := pathOf(document)
		if err != nil {
			return err
		}
		if _, err := c.do(ctx, http.MethodPatch, path+"?fieldManager=backstop-lab&force=true", "application/apply-patch+yaml", document); err != nil {
			return err
		}
	}
	return nil
}

// plurals of the kinds that the lab applies. There is no discovery here on
// purpose: it would cost more requests than the apply.
var plurals = map[string]string{
	"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings",
	"StorageClass": "storageclasses", "Service": "services", "EndpointSlice": "endpointslices",
}

// pathOf returns the API path of the object in a document.
func pathOf(document []byte) (string, error) {
	var object struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
		Metadata   struct{ Name, Namespace string }
	}
	if err := yaml.Unmarshal(document, &object); err != nil {
		return "", err
	}
	plural, known := plurals[object.Kind]
	if !known {
		return "", fmt.Errorf("kind %q is not one that the lab applies", object.Kind)
	}
	path := "/apis/" + object.APIVersion
	if !strings.Contains(object.APIVersion, "/") {
		path = "/api/" + object.APIVersion
	}
	if object.Metadata.Namespace != "" {
		path += "/namespaces/" + object.Metadata.Namespace
	}
	return path + "/" + plural + "/" + object.Metadata.Name, nil
}
