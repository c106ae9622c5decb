package admission

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// object is a Kubernetes object as the API server sent it: no typed struct may
// drop or rewrite a field.
type object = map[string]any

// The content types of the API server.
const (
	jsonBody       = "application/json"
	jsonPatch      = "application/json-patch+json"
	mergePatch     = "application/merge-patch+json"
	strategicPatch = "application/strategic-merge-patch+json"
	applyPatch     = "application/apply-patch+yaml"
)

// request is one HTTP request to the API server.
type request struct {
	method  string
	path    string // with query
	kind    string // content type of the body
	body    any
	headers map[string]string
}

// answer is what came back.
type answer struct {
	code    int
	body    object
	message string // status.message, when it was refused
}

func (a answer) accepted() bool { return a.code >= 200 && a.code < 300 }

// client talks HTTP to one API server as one account.
type client struct {
	server  string
	http    *http.Client
	token   string
	headers map[string]string
}

func (c *client) do(r request) (answer, error) {
	var body io.Reader
	if r.body != nil {
		raw, err := json.Marshal(r.body)
		if err != nil {
			return answer{}, err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(r.method, c.server+r.path, body)
	if err != nil {
		return answer{}, err
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if r.kind == "" {
		r.kind = jsonBody
	}
	req.Header.Set("Content-Type", r.kind)
	req.Header.Set("Accept", jsonBody)
	for name, value := range c.headers {
		req.Header.Set(name, value)
	}
	for name, value := range r.headers {
		req.Header.Set(name, value)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{code: res.StatusCode}
	if json.Unmarshal(raw, &a.body) != nil {
		a.message = string(raw)
	} else if !a.accepted() {
		a.message, _ = a.body["message"].(string)
	}
	return a, nil
}

// must does the request and fails the run when it is not accepted: for the
// steps that prepare a test, not for those that are tested.
func (c *client) must(r request) object {
	a, err := c.do(r)
	if err == nil && !a.accepted() {
		err = errors.New(a.message)
	}
	if err != nil {
		panic(fmt.Sprintf("%s %s: %v", r.method, r.path, err))
	}
	return a.body
}

func (c *client) get(path string) object { return c.must(request{method: "GET", path: path}) }

// exists reads the object at path, or nil when there is none.
func (c *client) exists(path string) object {
	a, err := c.do(request{method: "GET", path: path})
	if err != nil {
		panic(err)
	}
	if a.code == http.StatusNotFound {
		return nil
	}
	if !a.accepted() {
		panic(path + ": " + a.message)
	}
	return a.body
}

// as is the same client with further headers, for impersonation.
func (c *client) as(headers map[string]string) *client {
	other := *c
	other.headers = maps.Clone(headers)
	return &other
}

// newAdmin reads the current context of a kubeconfig.
func newAdmin(path string) (*client, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig of a cluster to test on (set KUBECONFIG): %w", err)
	}
	var file struct {
		CurrentContext string `json:"current-context"`
		Contexts       []struct {
			Name    string
			Context struct{ Cluster, User string }
		}
		Clusters []struct {
			Name    string
			Cluster struct {
				Server                string
				CA                    string `json:"certificate-authority"`
				CAData                string `json:"certificate-authority-data"`
				InsecureSkipTLSVerify bool   `json:"insecure-skip-tls-verify"`
			}
		}
		Users []struct {
			Name string
			User struct {
				Token    string
				Cert     string `json:"client-certificate"`
				Key      string `json:"client-key"`
				CertData string `json:"client-certificate-data"`
				KeyData  string `json:"client-key-data"`
			}
		}
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// Data in the file wins over a file name beside it, as in kubectl.
	load := func(data, name string) ([]byte, error) {
		if data != "" {
			return base64.StdEncoding.DecodeString(data)
		}
		if name == "" {
			return nil, nil
		}
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(path), name)
		}
		return os.ReadFile(name)
	}
	for _, ctx := range file.Contexts {
		if ctx.Name != file.CurrentContext {
			continue
		}
		c := &client{}
		settings := &tls.Config{}
		for _, cluster := range file.Clusters {
			if cluster.Name != ctx.Context.Cluster {
				continue
			}
			c.server = strings.TrimSuffix(cluster.Cluster.Server, "/")
			settings.InsecureSkipVerify = cluster.Cluster.InsecureSkipTLSVerify
			ca, err := load(cluster.Cluster.CAData, cluster.Cluster.CA)
			if err != nil {
				return nil, err
			}
			if ca != nil {
				settings.RootCAs = x509.NewCertPool()
				settings.RootCAs.AppendCertsFromPEM(ca)
			}
		}
		for _, user := range file.Users {
			if user.Name != ctx.Context.User {
				continue
			}
			c.token = user.User.Token
			cert, err := load(user.User.CertData, user.User.Cert)
			if err != nil {
				return nil, err
			}
			key, err := load(user.User.KeyData, user.User.Key)
			if err != nil {
				return nil, err
			}
			if cert != nil {
				pair, err := tls.X509KeyPair(cert, key)
				if err != nil {
					return nil, err
				}
				settings.Certificates = []tls.Certificate{pair}
			}
		}
		c.http = &http.Client{Transport: &http.Transport{TLSClientConfig: settings, MaxIdleConnsPerHost: 32}, Timeout: 30 * time.Second}
		return c, nil
	}
	return nil, fmt.Errorf("%s has no current context", path)
}

// account is a client with a fresh token of a ServiceAccount, as a thief of
// that token would be: no certificate of the administrator, none of our code.
func (c *client) account(namespace, name string) *client {
	made := c.must(request{
		method: "POST",
		path:   "/api/v1/namespaces/" + namespace + "/serviceaccounts/" + name + "/token",
		body:   object{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": object{"expirationSeconds": 3600}},
	})
	transport := c.http.Transport.(*http.Transport).Clone()
	transport.TLSClientConfig.Certificates = nil
	return &client{
		server: c.server,
		http:   &http.Client{Transport: transport, Timeout: c.http.Timeout},
		token:  at(made, "status", "token").(string),
	}
}

// at walks into nested maps; nil when something on the way is missing.
func at(value any, path ...string) any {
	for _, key := range path {
		m, ok := value.(object)
		if !ok {
			return nil
		}
		value = m[key]
	}
	return value
}

// copied is a deep copy.
func copied(value any) any {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	var other any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if err := decoder.Decode(&other); err != nil {
		panic(err)
	}
	return other
}

// patience is for a machine that does something else as well: it makes the tests slow, never red.
const patience = 2 * time.Minute

// eventually waits until the condition holds: policies, parameters and
// namespace labels reach the API server's caches a moment after the write.
func eventually(what string, condition func() bool) error {
	pause := 10 * time.Millisecond
	for end := time.Now().Add(patience); ; time.Sleep(pause) {
		// Not so often as to be what the API server is busy with.
		pause = min(pause*3/2, 100*time.Millisecond)
		if condition() {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited %s in vain until %s", patience, what)
		}
	}
}
