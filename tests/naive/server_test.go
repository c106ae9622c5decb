package main

import (
	"bufio"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The scripted model server is as strict as the providers are: what it takes,
// they take.
func TestTheScriptedServerTakesItsRequestsAndItsLieIsUnderstood(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "models")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Dir = "../../demo/models"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	server := exec.Command(binary, "--listen=127.0.0.1:0")
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	address, found := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !found {
		t.Fatalf("%q, %v", line, err)
	}
	response, err := http.Post("http://"+address+"/control", "application/json", strings.NewReader(`{"rules":[{"answer":"lie"}]}`))
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response, err)
	}
	response.Body.Close()
	key := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(key, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for api := range shapes {
		base := "http://" + address
		if strings.HasPrefix(api, "OpenAi") {
			base += "/v1"
		}
		env := map[string]string{"MODEL_BASE_URL": base, "MODEL_API": api, "MODEL_NAME": "eu.small-1:0", "MODEL_KEY_FILE": key}
		m, err := readModel(func(name string) string { return env[name] })
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		said, used, err := m.ask(ctx, "Alert KubePodCrashLooping")
		cancel()
		if err != nil || !slices.Equal(said.Commands, []string{"kubectl rollout undo deployment"}) || used.in == 0 || used.out == 0 {
			t.Errorf("%s: %+v, %+v, %v", api, said, used, err)
			continue
		}
		if _, err := readCommand(said.Commands[0]); err != nil {
			t.Errorf("%s: %v", api, err)
		}
	}
}
