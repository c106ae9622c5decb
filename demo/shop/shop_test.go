package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// start runs a service in this process with the settings given as NAME=value.
func start(t *testing.T, name string, settings ...string) *httptest.Server {
	t.Helper()
	c, err := readConfig(name, env(settings...))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(newService(c).handler())
	t.Cleanup(server.Close)
	return server
}

func env(settings ...string) func(string) string {
	return func(name string) string {
		for _, s := range settings {
			if key, value, _ := strings.Cut(s, "="); key == name {
				return value
			}
		}
		return ""
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestThePageComesFromAllThreeServices(t *testing.T) {
	prices := start(t, "prices", "SHOP_TAX_RATE=0.5", "SHOP_CURRENCY=CHF", "SHOP_VERSION=v3")
	catalog := start(t, "catalog", "SHOP_PRICES_URL="+prices.URL)
	web := start(t, "web", "SHOP_CATALOG_URL="+catalog.URL)

	status, page := get(t, web.URL+"/")
	if status != http.StatusOK || !strings.Contains(page, "espresso beans      19.35 CHF") || !strings.Contains(page, "prices v3") {
		t.Errorf("%d\n%s", status, page)
	}
	_, body := get(t, web.URL+"/chain")
	var chain reply
	if err := json.Unmarshal([]byte(body), &chain); err != nil {
		t.Fatal(err)
	}
	var names []string
	for hop := &chain; hop != nil; hop = hop.Next {
		names = append(names, hop.Service)
	}
	if got := strings.Join(names, " → "); got != "web → catalog → prices" {
		t.Errorf("chain %s", got)
	}
	if _, metrics := get(t, web.URL+"/metrics"); !strings.Contains(metrics, `shop_requests_total{service="web",outcome="served"} 2`) {
		t.Errorf("metrics:\n%s", metrics)
	}
}

func TestABrokenServiceIsNamedAndTheOthersStayReady(t *testing.T) {
	prices := start(t, "prices")
	catalog := start(t, "catalog", "SHOP_PRICES_URL="+prices.URL, "SHOP_TIMEOUT=500ms")
	web := start(t, "web", "SHOP_CATALOG_URL="+catalog.URL)
	prices.Close()

	status, page := get(t, web.URL+"/")
	if status != http.StatusBadGateway || !strings.Contains(page, "catalog: Get \""+prices.URL) {
		t.Errorf("%d\n%s", status, page)
	}
	for _, server := range []*httptest.Server{web, catalog} {
		if status, _ := get(t, server.URL+"/healthz"); status != http.StatusOK {
			t.Errorf("readiness answers %d because another service is down", status)
		}
	}
}

func TestAMalformedSettingIsRefusedAtStartAndNamed(t *testing.T) {
	for _, c := range []struct{ service, setting string }{
		{"prices", "SHOP_TAX_RATE=19%"},
		{"prices", "SHOP_TAX_RATE=19"},
		{"catalog", "SHOP_TIMEOUT=2"},
		{"catalog", "SHOP_CACHE_SIZE=lots"},
		{"catalog", "SHOP_PRICES_URL=prices:8080"},
		{"web", "SHOP_DRAIN=-1s"},
	} {
		name, value, _ := strings.Cut(c.setting, "=")
		_, err := readConfig(c.service, env(c.setting))
		if want := fmt.Sprintf("setting %s=%q is malformed", name, value); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s with %s: want an error with %q, got %v", c.service, c.setting, want, err)
		}
	}
	if _, err := readConfig("web", env("SHOP_TAX_RATE=19%")); err != nil {
		t.Errorf("a setting of another service is refused: %v", err)
	}
}

func TestANegativeCacheSizePassesTheStartAndPanicsLater(t *testing.T) {
	c, err := readConfig("catalog", env("SHOP_CACHE_SIZE=-1", "SHOP_CACHE_REFRESH=1ms"))
	if err != nil {
		t.Fatalf("refused at start, so the release would never get ready: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("no panic: this release would not break")
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	newService(c).refreshCache(ctx)
}

func TestTheServiceServesOnWhileItStops(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := readConfig("prices", env("SHOP_LISTEN="+address, "SHOP_DRAIN=700ms"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, c) }()
	status := func() int {
		response, err := http.Get("http://" + address + "/healthz")
		if err != nil {
			return 0
		}
		defer response.Body.Close()
		return response.StatusCode
	}
	until(t, "ready", func() bool { return status() == http.StatusOK })
	stop()
	until(t, "unready", func() bool { return status() == http.StatusServiceUnavailable })
	if code, _ := get(t, "http://"+address+"/chain"); code != http.StatusOK {
		t.Errorf("a request while stopping got %d", code)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %s within 10 s", what)
		}
	}
}

func TestTheProbeCountsWhatFailed(t *testing.T) {
	requests := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests++; requests > 2 && requests <= 5 {
			http.Error(w, "broken release", http.StatusBadGateway)
		}
	}))
	defer server.Close()
	for _, load := range []bool{false, true} {
		requests = 0
		var out bytes.Buffer
		args := []string{"--every=10ms", "--for=500ms", server.URL}
		if load {
			args = append([]string{"--load"}, args...)
		}
		err := probe(context.Background(), args, &out)
		if (err == nil) != load {
			t.Errorf("--load=%v: error %v", load, err)
		}
		for _, want := range []string{"failing: 502 Bad Gateway: broken release", "working again", " checked, 3 failed, longest outage "} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in\n%s", want, out.String())
			}
		}
	}
}

func TestTheLongestOutageIsKept(t *testing.T) {
	var counts tally
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	for _, answer := range []struct {
		ms int
		ok bool
	}{{0, true}, {100, false}, {200, false}, {400, true}, {500, false}, {600, true}} {
		counts.add(at(answer.ms), answer.ok)
	}
	counts.add(at(700), false)
	counts.close(at(750))
	if got, want := counts.String(), "probe: 7 checked, 4 failed, longest outage 0.3s"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
