package main

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWhatChangedIsNamedByItsPath(t *testing.T) {
	const before = `{"metadata":{"labels":{"app":"catalog"}},"spec":{"containers":[{"name":"catalog"}]}}`
	for name, one := range map[string]struct {
		after string
		want  []string
	}{
		"nothing":       {before, nil},
		"an annotation": {strings.Replace(before, `"labels"`, `"annotations":{"kubectl.kubernetes.io/restartedAt":"now"},"labels"`, 1), []string{"/metadata/annotations/kubectl.kubernetes.io/restartedAt"}},
		"a container":   {strings.Replace(before, `{"name":"catalog"}`, `{"name":"other"}`, 1), []string{"/spec/containers"}},
		"what is gone":  {strings.Replace(before, `"app":"catalog"`, ``, 1), []string{"/metadata/labels/app"}},
	} {
		got, err := changes(before, one.after)
		if err != nil || !slices.Equal(got, one.want) {
			t.Errorf("%s: %v, %v, want %v", name, got, err, one.want)
		}
	}
	if _, err := changes(before, "{"); err == nil {
		t.Error("what is no JSON was compared")
	}
}

func TestAPodIsReadyOrNotSinceItsLastChange(t *testing.T) {
	now := time.Now()
	var p servingPod
	if got := p.readyFor(now); got != 0 {
		t.Errorf("one that says nothing: %v", got)
	}
	p.Status.Conditions = append(p.Status.Conditions, struct {
		Type, Status       string
		LastTransitionTime time.Time
	}{"Ready", "False", now.Add(-time.Minute)})
	if got := p.readyFor(now); got != -time.Minute {
		t.Errorf("one that is not ready for a minute: %v", got)
	}
	p.Status.Conditions[0].Status = "True"
	if got := p.readyFor(now); got != time.Minute {
		t.Errorf("one that is ready for a minute: %v", got)
	}
}

func TestActsAreNamed(t *testing.T) {
	for act, want := range map[string]string{"": "1 2", "1": "1", "2": "2", "restart": "restart", "all": "1 2 restart"} {
		o := options{act: act}
		if err := o.check(); err != nil {
			t.Errorf("ACT=%s: %v", act, err)
		}
		var plays []string
		for _, one := range []string{breakAndRepair, theLie, restart} {
			if o.plays(one) {
				plays = append(plays, one)
			}
		}
		if got := strings.Join(plays, " "); got != want {
			t.Errorf("ACT=%s plays %q, want %q", act, got, want)
		}
	}
	for _, bad := range []options{{act: "3"}, {act: "Restart"}, {act: restart, monitoring: true}, {act: everyAct, monitoring: true}} {
		if bad.check() == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}
