package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
)

// apiProxy reaches the API server through one `kubectl proxy`, so that reading
// often costs no process each.
type apiProxy struct {
	base   string
	client *http.Client
}

var proxyAddress = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// openAPI starts the proxy, and returns what ends it.
func (d *demo) openAPI(ctx context.Context) (*apiProxy, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	proxy := d.kube.cmd(ctx, "proxy", "--port=0")
	out, err := proxy.StdoutPipe()
	if err != nil {
		cancel()
		return nil, nil, err
	}
	var errs bytes.Buffer
	proxy.Stderr = &errs
	if err := proxy.Start(); err != nil {
		cancel()
		return nil, nil, err
	}
	lines := bufio.NewReader(out)
	first, err := lines.ReadString('\n')
	address := proxyAddress.FindString(first)
	if err != nil || address == "" {
		cancel()
		return nil, nil, fmt.Errorf("kubectl proxy said %q: %s", strings.TrimSpace(first), errs.String())
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, lines)
		_ = proxy.Wait()
	}()
	return &apiProxy{base: "http://" + address, client: &http.Client{Timeout: 5 * time.Second}}, func() { cancel(); <-ended }, nil
}

// serviceOf is the path of a Service of the demo behind the API server.
func serviceOf(namespace, name, path string) string {
	return "/api/v1/namespaces/" + namespace + "/services/" + name + ":8080/proxy" + path
}

func (a *apiProxy) get(ctx context.Context, path string) ([]byte, error) {
	return a.call(ctx, http.MethodGet, path, nil)
}

func (a *apiProxy) post(ctx context.Context, path string, body []byte) ([]byte, error) {
	return a.call(ctx, http.MethodPost, path, body)
}

func (a *apiProxy) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %s: %.300s", method, path, response.Status, text)
	}
	return text, nil
}

// counts are the requests that a shop's web served and failed, by pod.
type counts map[string][2]int

var requestLine = regexp.MustCompile(`(?m)^shop_requests_total\{service="web",outcome="(served|failed)"\} (\d+)$`)

// readCounts asks each pod of web. One that cannot be asked now is left out, and
// so is its share of this second.
func readCounts(ctx context.Context, api *apiProxy, namespace string) (counts, error) {
	text, err := api.get(ctx, "/api/v1/namespaces/"+namespace+"/pods?labelSelector=app.kubernetes.io%2Fname%3Dweb")
	if err != nil {
		return nil, err
	}
	var pods struct{ Items []struct{ Metadata meta } }
	if err := json.Unmarshal(text, &pods); err != nil {
		return nil, err
	}
	now := counts{}
	for _, pod := range pods.Items {
		metrics, err := api.get(ctx, "/api/v1/namespaces/"+namespace+"/pods/"+pod.Metadata.Name+":8080/proxy/metrics")
		if err != nil {
			continue
		}
		var both [2]int
		for _, m := range requestLine.FindAllStringSubmatch(string(metrics), -1) {
			n, err := strconv.Atoi(m[2])
			if err != nil {
				return nil, err
			}
			if m[1] == "failed" {
				both[1] = n
			} else {
				both[0] = n
			}
		}
		now[pod.Metadata.Name] = both
	}
	return now, nil
}

// since is how many requests there were after an earlier look. A pod that was
// not there then began at nothing.
func (c counts) since(before counts) (served, failed int) {
	for pod, now := range c {
		was := before[pod]
		served += max(0, now[0]-was[0])
		failed += max(0, now[1]-was[1])
	}
	return served, failed
}

// barWidth is the customer's ten requests a second, and some room.
const barWidth = 12

// bar draws requests per second: served ones are full, failed ones crossed.
func bar(served, failed float64) string {
	full, crossed := int(served+0.5), int(failed+0.5)
	full = min(full, barWidth)
	crossed = min(crossed, barWidth-full)
	return strings.Repeat("█", full) + strings.Repeat("x", crossed) + strings.Repeat("·", barWidth-full-crossed)
}

// drawing is the picture of both shops, a line a second.
type drawing struct {
	once   sync.Once
	cancel context.CancelFunc
	ended  chan struct{}
}

func (d *drawing) stop() {
	d.once.Do(func() {
		d.cancel()
		<-d.ended
	})
}

// draw begins to draw.
func (d *demo) draw(ctx context.Context, api *apiProxy) *drawing {
	ctx, cancel := context.WithCancel(ctx)
	picture := &drawing{cancel: cancel, ended: make(chan struct{})}
	d.t.say("\n  Requests per second, as web counts them: █ served, x failed\n")
	go func() {
		defer close(picture.ended)
		last := map[string]counts{}
		at := map[string]time.Time{}
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			line := ""
			for _, shop := range []struct{ namespace, label string }{{naiveShop, "naive agent"}, {guardedShop, "Backstop"}} {
				now, err := readCounts(ctx, api, shop.namespace)
				read := time.Now()
				if ctx.Err() != nil {
					return
				}
				before, known := last[shop.namespace]
				passed := read.Sub(at[shop.namespace]).Seconds()
				if err == nil {
					last[shop.namespace], at[shop.namespace] = now, read
				}
				if err != nil || !known {
					line += fmt.Sprintf("  %-11s %s    ?/s    ", shop.label, strings.Repeat(" ", barWidth))
					continue
				}
				served, failed := now.since(before)
				per := func(n int) float64 { return float64(n) / passed }
				line += fmt.Sprintf("  %-11s %s %4.1f/s    ", shop.label, d.t.paintBar(bar(per(served), per(failed)), failed > 0), per(served))
			}
			d.t.say("%s", strings.TrimRight(time.Now().UTC().Format("15:04:05")+line, " "))
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return picture
}

func (t *terminal) paintBar(text string, bad bool) string {
	if bad {
		return t.paint("31", text)
	}
	return t.paint("32", text)
}
