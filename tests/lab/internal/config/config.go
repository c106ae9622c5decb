// Package config renders the configuration files of the lab's components from
// the templates beside it.
package config

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"backstop.dev/lab/internal/layout"
)

//go:embed templates
var files embed.FS

var templates = template.Must(template.New("").Option("missingkey=error").Funcs(template.FuncMap{
	// A Go string literal is also a YAML and a TOML string, which keeps spaces
	// and quotes in a clone's path harmless.
	"quote": strconv.Quote,
	"json": func(v any) (string, error) {
		data, err := json.Marshal(v)
		return string(data), err
	},
}).ParseFS(files, "templates/*.tmpl"))

// Values are what the templates see.
type Values struct {
	Node        layout.Node
	Version     string
	PKI         string
	ServiceCIDR string
	PodCIDR     string
	PauseImage  string
	CNIBin      string
	MTU         int
	ResolvConf  string
	// Nameservers are the machine's.
	Nameservers []string
	// NodeUsers are the user names of all kubelets.
	NodeUsers []string

	// Registries is the folder of hosts.toml files, Registry the one to render.
	Registries string
	Registry   Registry

	DNSServiceIP    string
	ProxyKubeconfig string
	DNSKubeconfig   string

	APIServerPort, ProxyHealthPort, ProxyMetricsPort     int
	DNSPort, DNSHealthPort, DNSReadyPort, DNSMetricsPort int
}

// Registry says where containerd looks for images of one name.
type Registry struct{ Name, URL string }

// Registries are the names that the lab answers for. Every way in which a pull
// fails in the world has one, and none of them needs the world.
var Registries = []Registry{
	// "not found": the tag does not exist.
	{"backstop.local", fmt.Sprintf("http://%s:%d", layout.Paths{}.Node(1).IP(), layout.RegistryPort)},
	// "401 Unauthorized": the pull secret is missing or wrong.
	{"private.backstop.local", fmt.Sprintf("http://%s:%d", layout.Paths{}.Node(1).IP(), layout.PrivateRegistryPort)},
	// "connection refused": the registry is down.
	{"down.backstop.local", fmt.Sprintf("http://%s:1", layout.Paths{}.Node(1).IP())},
}

// PauseImage is what every pod sandbox runs.
const PauseImage = "backstop.local/pause:1"

// DebianCNI is where the package containernetworking-plugins puts its programs.
const DebianCNI = "/usr/lib/cni"

// For returns the values for one node.
func For(p layout.Paths, node layout.Node, version string) Values {
	users := make([]string, 0, layout.MaxNodes)
	for _, n := range p.Nodes(layout.MaxNodes) {
		users = append(users, "system:node:"+n.Name())
	}
	return Values{
		Node: node, Version: version, PKI: p.PKI(),
		ServiceCIDR: layout.ServiceCIDR, PodCIDR: layout.PodCIDR,
		PauseImage: PauseImage, CNIBin: DebianCNI, MTU: 1400,
		ResolvConf: p.Config("resolv.conf"), Registries: p.Config("registries"), NodeUsers: users,
		DNSServiceIP:    layout.DNSServiceIP,
		ProxyKubeconfig: p.KubeconfigOf("kube-proxy"), DNSKubeconfig: p.KubeconfigOf("coredns"),
		APIServerPort: layout.APIServerPort, ProxyHealthPort: layout.ProxyHealthPort, ProxyMetricsPort: layout.ProxyMetricsPort,
		DNSPort: layout.DNSPort, DNSHealthPort: layout.DNSHealthPort, DNSReadyPort: layout.DNSReadyPort, DNSMetricsPort: layout.DNSMetricsPort,
	}
}

// Render renders one template, named without its .tmpl.
func Render(name string, v Values) ([]byte, error) {
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, name+".tmpl", v); err != nil {
		return nil, fmt.Errorf("cannot render %s: %w", name, err)
	}
	return out.Bytes(), nil
}

// Write renders a template into a file and makes the file's folder. A file that
// is right already is not touched: kube-proxy ends when its own is written to.
func Write(file, name string, v Values) error {
	data, err := Render(name, v)
	if err != nil {
		return err
	}
	if present, err := os.ReadFile(file); err == nil && bytes.Equal(present, data) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o644)
}

// Nameservers returns the addresses that a resolv.conf names. Search domains
// are dropped on purpose: a name in a test shall not mean something else on a
// machine within somebody's company network.
func Nameservers(resolvConf string) []string {
	var found []string
	for line := range strings.Lines(resolvConf) {
		if fields := strings.Fields(line); len(fields) >= 2 && fields[0] == "nameserver" {
			found = append(found, fields[1])
		}
	}
	return found
}
