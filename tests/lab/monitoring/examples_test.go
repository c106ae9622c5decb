package monitoring

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"backstop.dev/lab/image"
	"sigs.k8s.io/yaml"
)

// examples are the configurations of Alertmanager that the documents offer.
func examples(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../../docs/examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files = slices.DeleteFunc(files, func(file string) bool { return parse(t, file)["route"] == nil })
	if len(files) == 0 {
		t.Fatal("docs/examples has no configuration of Alertmanager")
	}
	return files
}

func parse(t *testing.T, file string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var content map[string]any
	if err := yaml.Unmarshal(text, &content); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return content
}

// severities are the usual ones, one that nobody knows, and none.
var severities = []string{"none", "info", "warning", "error", "critical", "page", "P1", ""}

func TestTheExampleSendsEveryAlertToThePagerToo(t *testing.T) {
	amtool := unpack(t).Path("amtool")
	receivers := func(file string, labels ...string) string {
		args := append([]string{"config", "routes", "test", "--config.file", file}, labels...)
		out, err := exec.CommandContext(t.Context(), amtool, args...).Output()
		if err != nil {
			t.Fatalf("amtool %v: %v", args, err)
		}
		return strings.TrimSpace(string(out))
	}
	for _, file := range examples(t) {
		if out, err := exec.CommandContext(t.Context(), amtool, "check-config", file).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
		for _, severity := range severities {
			for _, more := range []string{"namespace=shop", "team=payments", "cluster=other"} {
				if got := receivers(file, "alertname=X", "severity="+severity, more); got != "backstop,pager" {
					t.Errorf("%s: severity %q, %s goes to %q, want backstop,pager", file, severity, more, got)
				}
			}
		}
		if got := receivers(file, "alertname=Watchdog", "severity=none"); got != "backstop,pager" {
			t.Errorf("%s: Watchdog goes to %q, want backstop,pager", file, got)
		}
	}
}

func TestTheExampleRepeatsTheWatchdogBeforeItIsMissed(t *testing.T) {
	// The rule BackstopHearsNothing waits 15 minutes.
	const missed = 15 * time.Minute
	for _, file := range examples(t) {
		root := parse(t, file)["route"].(map[string]any)
		repeated := time.Duration(0)
		for _, entry := range root["routes"].([]any) {
			route := entry.(map[string]any)
			if route["receiver"] == "backstop" && fmt.Sprint(route["matchers"]) == `[alertname="Watchdog"]` {
				interval, err := time.ParseDuration(fmt.Sprint(route["repeat_interval"]))
				if err != nil {
					t.Fatal(err)
				}
				repeated = interval
			}
		}
		if repeated == 0 || 2*repeated >= missed {
			t.Errorf("%s: Watchdog is repeated every %s: it is missed after %s", file, repeated, missed)
		}
	}
}

// receiver is a webhook that remembers what it was sent.
type receiver struct {
	mu     sync.Mutex
	answer []int // One for each request; 202 after the last.
	bodies [][]byte
	tokens []string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bodies = append(r.bodies, body)
	r.tokens = append(r.tokens, request.Header.Get("Authorization"))
	code := http.StatusAccepted
	if len(r.answer) > 0 {
		code, r.answer = r.answer[0], r.answer[1:]
	}
	w.WriteHeader(code)
}

func (r *receiver) received() ([][]byte, []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.bodies), slices.Clone(r.tokens)
}

// alertmanager starts a real one with a configuration, in a folder that it takes
// for its root: it reads its templates from a fixed place. Returns its address.
func alertmanager(t *testing.T, config map[string]any) string {
	t.Helper()
	programs, root := unpack(t), t.TempDir()
	program := programs.Path("prometheus-alertmanager")
	files := map[string]string{"/alertmanager": program}
	libraries, err := image.Libraries(program)
	if err != nil {
		t.Fatal(err)
	}
	for _, library := range libraries {
		files[library.Target] = library.Source
	}
	for _, template := range templates {
		files[template] = filepath.Join(programs.root, template)
	}
	for target, source := range files {
		content, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, target), content)
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(root, "alertmanager.yml"), text)
	write(t, filepath.Join(root, tokenFile), []byte("a-token\n"))

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	command := exec.Command("/alertmanager", "--config.file=/alertmanager.yml", "--storage.path=/data",
		"--web.listen-address="+address, "--cluster.listen-address=")
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	if os.Getuid() != 0 {
		command.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	var log bytes.Buffer
	command.Stdout, command.Stderr = &log, &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("Alertmanager:\n%s", log.String())
		}
	})
	await(t, "Alertmanager is ready", func() bool {
		response, err := http.Get("http://" + address + "/-/ready")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return "http://" + address
}

func write(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o755); err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !holds() {
		select {
		case <-ctx.Done():
			t.Fatalf("after 30 s it is not so that %s", what)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tokenFile is where the example reads the intake's token from.
const tokenFile = "/etc/alertmanager/secrets/backstop-intake/token"

// payload is what a webhook is sent.
type payload struct {
	Version string
	Status  string
	Alerts  []struct {
		Status      string
		Labels      map[string]string
		Fingerprint string
	}
	TruncatedAlerts int
}

func TestARealAlertmanagerWithTheExampleTellsBothAndAsksAgainAfter503(t *testing.T) {
	for _, file := range examples(t) {
		config := parse(t, file)
		backstop, pager := &receiver{answer: []int{http.StatusServiceUnavailable}}, &receiver{}
		redirect(t, config, "backstop", backstop)
		redirect(t, config, "pager", pager)
		// Only how long it waits is changed, so that the test is quick.
		config["route"].(map[string]any)["group_wait"] = "1s"
		config["route"].(map[string]any)["group_interval"] = "1s"
		address := alertmanager(t, config)

		var alerts []map[string]any
		for number := range 600 {
			alerts = append(alerts, map[string]any{
				"labels": map[string]string{
					"alertname": "KubeDeploymentReplicasMismatch", "namespace": "shop", "deployment": fmt.Sprintf("app-%d", number),
					"severity": severities[number%len(severities)],
				},
				"annotations":  map[string]string{"description": strings.Repeat("What to check first. ", 100)},
				"startsAt":     time.Now().Add(-time.Minute),
				"generatorURL": "http://prometheus.example/graph?g0.expr=up",
			})
		}
		post(t, address, alerts)
		told := func(receiver *receiver) func() bool {
			return func() bool {
				bodies, _ := receiver.received()
				return len(bodies) > 0 && count(t, bodies[len(bodies)-1]) == len(alerts)
			}
		}
		await(t, "the pager was told of every alert", told(pager))
		await(t, "Backstop was told of every alert", told(backstop))
		await(t, "Backstop was asked again after a 503", func() bool { bodies, _ := backstop.received(); return len(bodies) >= 2 })

		bodies, tokens := backstop.received()
		first, again := decode(t, bodies[0]), decode(t, bodies[1])
		if len(again.Alerts) < len(first.Alerts) {
			t.Errorf("%s: %d alerts in the first request and %d in its repetition", file, len(first.Alerts), len(again.Alerts))
		}
		last := bodies[len(bodies)-1]
		if got := decode(t, last); got.Version != "4" || got.TruncatedAlerts != 0 || len(last) < 1<<20 {
			t.Errorf("%s: version %s, %d truncated, %d bytes: want version 4, none truncated, over 1 MiB in one request",
				file, got.Version, got.TruncatedAlerts, len(last))
		}
		for _, token := range tokens {
			if token != "Bearer a-token" {
				t.Errorf("%s: Authorization %q", file, token)
			}
		}

		alerts = alerts[:2]
		alerts[1]["endsAt"] = time.Now()
		post(t, address, alerts)
		await(t, "an end was told", func() bool {
			bodies, _ := backstop.received()
			return strings.Contains(string(bodies[len(bodies)-1]), `"status":"resolved"`)
		})
	}
}

// redirect has a receiver of the configuration post to a server of the test.
func redirect(t *testing.T, config map[string]any, name string, handler http.Handler) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	for _, one := range config["receivers"].([]any) {
		receiver := one.(map[string]any)
		if receiver["name"] != name {
			continue
		}
		webhooks, _ := receiver["webhook_configs"].([]any)
		if webhooks == nil {
			webhooks = []any{map[string]any{}}
			receiver["webhook_configs"] = webhooks
		}
		webhooks[0].(map[string]any)["url"] = server.URL
		return
	}
	t.Fatalf("no receiver %s", name)
}

func post(t *testing.T, address string, alerts []map[string]any) {
	t.Helper()
	body, err := json.Marshal(alerts)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.Post(address+"/api/v2/alerts", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(response.Body)
		t.Fatalf("Alertmanager: %s: %s", response.Status, text)
	}
}

func decode(t *testing.T, body []byte) payload {
	t.Helper()
	var content payload
	if err := json.Unmarshal(body, &content); err != nil {
		t.Fatal(err)
	}
	return content
}

func count(t *testing.T, body []byte) int { return len(decode(t, body).Alerts) }
