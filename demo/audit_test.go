package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// line is an event as the API server writes it.
func line(second int, user, verb, uri, group, resource, namespace string, spec int) string {
	return fmt.Sprintf(`{"verb":%q,"requestURI":%q,"requestReceivedTimestamp":"2026-11-21T10:00:%02d.000000Z","user":{"username":%q},`+
		`"objectRef":{"resource":%q,"namespace":%q,"name":"catalog","apiGroup":%q},"responseStatus":{"code":200},`+
		`"responseObject":{"metadata":{"uid":"u-%s"},"spec":{"minReadySeconds":%d}}}`+"\n", verb, uri, second, user, resource, namespace, group, namespace, spec)
}

func judge(t *testing.T, lines ...string) (map[string]int, []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
	events, err := readAudit(path, time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	return judgeEvents(events)
}

const (
	executor   = accounts + "executor"
	controller = accounts + "controller"
	uri        = "/apis/apps/v1/namespaces/shop/deployments/catalog"
)

// released is somebody's bad release; armed is the executor's label.
var (
	released = line(1, "admin", "patch", uri, "apps", "deployments", "shop", 2)
	armed    = line(2, executor, "patch", uri, "apps", "deployments", "shop", 2)
	fired    = line(3, executor, "patch", uri, "apps", "deployments", "shop", 3)
)

func TestOnlyAChangeOfSpecIsAFire(t *testing.T) {
	dryRun := line(2, executor, "patch", uri+"?dryRun=All", "apps", "deployments", "shop", 3)
	fires, others := judge(t, released, armed, dryRun, fired)
	if fires["shop"] != 1 || len(fires) != 1 || len(others) != 0 {
		t.Errorf("fires %v, others %v: want one fire", fires, others)
	}
}

func TestPlantedDefectsAreSeen(t *testing.T) {
	twice := line(4, executor, "patch", uri, "apps", "deployments", "shop", 4)
	if fires, _ := judge(t, released, armed, fired, twice); fires["shop"] != 2 {
		t.Errorf("a second fire is not counted: %v", fires)
	}
	elsewhere := line(4, executor, "update", uri, "apps", "deployments", "other", 9)
	if _, others := judge(t, released, armed, fired, elsewhere); len(others) != 1 {
		t.Errorf("a write to an object that was never armed is not seen: %v", others)
	}
	for name, write := range map[string]string{
		"the judge writes a Deployment": line(4, controller, "patch", uri, "apps", "deployments", "shop", 3),
		"the judge deletes a pod":       line(4, controller, "delete", "/api/v1/namespaces/shop/pods/catalog", "", "pods", "shop", 0),
		"the hands write a ConfigMap":   line(4, executor, "patch", "/api/v1/namespaces/shop/configmaps/x", "", "configmaps", "shop", 0),
		"the hands delete a ReplicaSet": line(4, executor, "delete", "/apis/apps/v1/namespaces/shop/replicasets/x", "apps", "replicasets", "shop", 0),
	} {
		if _, others := judge(t, released, armed, fired, write); len(others) != 1 {
			t.Errorf("%s, and it is not seen: %v", name, others)
		}
	}
}

func TestAnUnfinishedLineIsNotRead(t *testing.T) {
	fires, _ := judge(t, released, armed, strings.TrimSuffix(fired, "}\n"))
	if fires["shop"] != 0 {
		t.Errorf("half a line was counted: %v", fires)
	}
}

func TestTheCustomersCountIsReadToItsEnd(t *testing.T) {
	log := &customerLog{say: func(string) {}, now: time.Now}
	if _, err := log.Write([]byte("   3.1s failing: 502 Bad Gateway\n   7.4s working again\nprobe: 90 checked, 4")); err != nil {
		t.Fatal(err)
	}
	if _, err := log.count(); err == nil {
		t.Error("a count without an end was taken for one")
	}
	if _, err := log.Write([]byte("3 failed, longest outage 4.3s\n")); err != nil {
		t.Fatal(err)
	}
	count, err := log.count()
	if err != nil || count.checked != 90 || count.failed != 43 || count.outage != 4.3 || count.down {
		t.Errorf("%+v, %v", count, err)
	}
}
