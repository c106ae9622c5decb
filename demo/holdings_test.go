package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	mine   = map[string]string{demoLabel: "true"}
	theirs = map[string]string{"team": "sales", demoLabel: "false"}
)

func TestOnlyNamespacesWithTheLabelAreOurs(t *testing.T) {
	h := sortOut([]meta{
		{Name: shop, Labels: mine}, {Name: argo, Labels: theirs}, {Name: configMap},
		{Name: "sales", Labels: mine}, {Name: system, Labels: mine},
	})
	if !slices.Equal(h.ours, []string{shop}) || !slices.Equal(h.foreign, []string{argo, configMap}) || !h.systemIsOurs() {
		t.Errorf("%+v", h)
	}
	err := h.mayInstall(true)
	if err == nil || !strings.Contains(err.Error(), "delete namespace "+argo+" "+configMap+";") {
		t.Errorf("namespaces of somebody else would be replaced: %v", err)
	}
	r, err := h.removal()
	if err != nil || !slices.Equal(r.namespaces, []string{shop}) || !r.backstop || !r.definitions {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestABackstopOfSomebodyElseIsNeitherReplacedNorRemoved(t *testing.T) {
	h := sortOut([]meta{{Name: system}, {Name: shop, Labels: mine}})
	if err := h.mayInstall(false); err == nil || !strings.Contains(err.Error(), system) {
		t.Errorf("replaced: %v", err)
	}
	if err := h.mayInstall(true); err != nil {
		t.Errorf("not taken over in a cluster that is thrown away: %v", err)
	}
	r, err := h.removal()
	if err == nil || r.backstop || r.definitions || !slices.Equal(r.namespaces, []string{shop}) {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestARerunIsAlwaysPossible(t *testing.T) {
	ending := time.Now()
	for name, all := range map[string][]meta{
		"nothing there":       nil,
		"a run before":        {{Name: shop, Labels: mine}, {Name: argo, Labels: mine}, {Name: system, Labels: mine}},
		"interrupted early":   {{Name: shop, Labels: mine}},
		"interrupted by Helm": {{Name: system, Labels: mine}},
		"still being removed": {{Name: system, Labels: mine, DeletionTimestamp: &ending}},
	} {
		h := sortOut(all)
		if err := h.mayInstall(false); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := h.removal(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDefinitionsThatWereThereBeforeStay(t *testing.T) {
	h := sortOut([]meta{{Name: system, Labels: mine, Annotations: map[string]string{keepsDefinitions: "true"}}})
	if r, err := h.removal(); err != nil || !r.backstop || r.definitions {
		t.Errorf("%+v, %v", r, err)
	}
	// Without the system namespace nobody knows whose they are.
	if r, err := sortOut(nil).removal(); err != nil || r.backstop || r.definitions {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestANamespaceIsMadeWithTheLabel(t *testing.T) {
	text, err := namespace(shop, map[string]string{"backstop.dev/mode": "auto"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ Metadata meta }
	if err := json.Unmarshal([]byte(text), &made); err != nil {
		t.Fatal(err)
	}
	if made.Metadata.Name != shop || !isOurs(made.Metadata) || made.Metadata.Labels["backstop.dev/mode"] != "auto" {
		t.Error(text)
	}
}

func TestWhatHelmLeftInTheMiddleIsKnown(t *testing.T) {
	for status, want := range map[string]bool{"pending-install": true, "pending-upgrade": true, "uninstalling": true, "deployed": false, "failed": false, "": false} {
		if unfinished(status) != want {
			t.Error(status)
		}
	}
}
