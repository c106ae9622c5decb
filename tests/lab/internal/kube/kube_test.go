package kube

import (
	"encoding/json"
	"testing"
)

func TestTheAPIPathFollowsFromTheObject(t *testing.T) {
	for document, want := range map[string]string{
		"{apiVersion: v1, kind: Service, metadata: {name: kube-dns, namespace: kube-system}}":                              "/api/v1/namespaces/kube-system/services/kube-dns",
		"{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: standard}}":                                  "/apis/storage.k8s.io/v1/storageclasses/standard",
		"{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: \"system:coredns\"}}":              "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:coredns",
		"{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: kube-dns-lab, namespace: kube-system}}\n": "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns-lab",
	} {
		if got, err := pathOf([]byte(document)); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", document, got, err, want)
		}
	}
}

func TestAKindThatTheLabDoesNotApplyIsAnError(t *testing.T) {
	if got, err := pathOf([]byte("{apiVersion: v1, kind: Secret, metadata: {name: a}}")); err == nil {
		t.Errorf("got %s", got)
	}
}

func TestANodeIsReadyOnlyWhenPodsAreScheduledToIt(t *testing.T) {
	for name, test := range map[string]struct {
		object string
		ready  bool
		why    string
	}{
		"ready":             {`{"status":{"conditions":[{"type":"MemoryPressure","status":"False"},{"type":"Ready","status":"True"}]}}`, true, ""},
		"not ready":         {`{"status":{"conditions":[{"type":"Ready","status":"False","message":"no network"}]}}`, false, "no network"},
		"stopped":           {`{"status":{"conditions":[{"type":"Ready","status":"Unknown","message":"stopped posting"}]}}`, false, "stopped posting"},
		"ready but tainted": {`{"spec":{"taints":[{"key":"node.kubernetes.io/not-ready"}]},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`, false, "tainted node.kubernetes.io/not-ready"},
		"tainted by a user": {`{"spec":{"taints":[{"key":"example.com/gpu"}]},"status":{"conditions":[{"type":"Ready","status":"True"}]}}`, true, ""},
		"just registered":   {`{}`, false, "no status yet"},
	} {
		t.Run(name, func(t *testing.T) {
			var node Node
			if err := json.Unmarshal([]byte(test.object), &node); err != nil {
				t.Fatal(err)
			}
			if ready, why := node.Ready(); ready != test.ready || why != test.why {
				t.Errorf("got %v %q, want %v %q", ready, why, test.ready, test.why)
			}
		})
	}
}
