package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// event is one line of the API server's audit log.
type event struct {
	Verb                     string
	RequestURI               string
	RequestReceivedTimestamp time.Time
	User                     struct{ Username string }
	ObjectRef                struct{ Resource, Namespace, Name, Subresource, APIGroup string }
	ResponseStatus           struct{ Code int }
	ResponseObject           struct {
		Metadata meta
		Spec     json.RawMessage
	}
}

// witness asks the API server's audit log, which does not depend on anything
// that Backstop says, what was written to workloads and by whom: one change is
// expected, in this namespace.
func (d *demo) witness(namespace string) ([]row, error) {
	const what = "audit log: fires of the executor"
	if d.auditLog == "" {
		d.t.say("\n  The API server's audit log cannot be read on this cluster, so only what the objects show was checked.")
		return nil, nil
	}
	events, err := readAudit(d.auditLog, d.started)
	if err != nil {
		return nil, err
	}
	fires, others := judgeEvents(events)
	want := map[string]int{namespace: 1}
	ok := len(fires) == 1 && fires[namespace] == 1
	return []row{
		{what, fmt.Sprint(want), fmt.Sprint(fires), 0, ok},
		{"audit log: other writes to workloads", "none by Backstop", none(others), 0, len(others) == 0},
	}, nil
}

func none(list []string) string {
	if len(list) == 0 {
		return "none by Backstop"
	}
	return strings.Join(list, ", ")
}

// accounts begins the user names of Backstop's ServiceAccounts.
const accounts = "system:serviceaccount:" + system + ":backstop-"

// judgeEvents counts the changes of spec that the executor made to
// Deployments, by namespace, and lists every other write of Backstop to
// anything that runs. The generation would not do: an annotation raises that of
// a Deployment too, and arming sets one.
func judgeEvents(events []event) (fires map[string]int, others []string) {
	fires = map[string]int{}
	specs := map[string]string{}
	slices.SortStableFunc(events, func(a, b event) int { return a.RequestReceivedTimestamp.Compare(b.RequestReceivedTimestamp) })
	for _, e := range events {
		writes := slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, e.Verb)
		if !writes || e.ResponseStatus.Code >= 300 || strings.Contains(e.RequestURI, "dryRun=") {
			continue
		}
		isDeployment := e.ObjectRef.APIGroup == "apps" && e.ObjectRef.Resource == "deployments" && e.ObjectRef.Subresource == ""
		ours := strings.HasPrefix(e.User.Username, accounts)
		switch {
		case isDeployment:
			uid, spec := e.ResponseObject.Metadata.UID, string(e.ResponseObject.Spec)
			before, known := specs[uid]
			specs[uid] = spec
			executor := e.User.Username == accounts+"executor"
			if executor && known && spec != before {
				fires[e.ObjectRef.Namespace]++
			} else if ours && (!executor || !known && e.Verb != "patch") {
				others = append(others, e.User.Username+" "+e.Verb+" "+e.RequestURI)
			}
		case ours && e.ObjectRef.APIGroup == "apps" && e.ObjectRef.Resource == "replicasets" && e.Verb == "patch" && e.User.Username == accounts+"executor":
			// The label on the revision to return to.
		case ours && (slices.Contains([]string{"apps", "batch"}, e.ObjectRef.APIGroup) ||
			e.ObjectRef.APIGroup == "" && e.ObjectRef.Resource != "events"):
			others = append(others, e.User.Username+" "+e.Verb+" "+e.RequestURI)
		}
	}
	return fires, others
}

// readAudit reads the events since a moment from the log and what was rotated
// away from it.
func readAudit(path string, since time.Time) ([]event, error) {
	base := strings.TrimSuffix(path, filepath.Ext(path))
	files, err := filepath.Glob(base + "*" + filepath.Ext(path))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no audit log at %s", path)
	}
	var events []event
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if info.ModTime().Before(since) {
			continue
		}
		if err := readEvents(name, since, &events); err != nil {
			return nil, err
		}
	}
	return events, nil
}

func readEvents(name string, since time.Time, events *[]event) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	lines := bufio.NewReaderSize(file, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil // a line without an end is still being written
		}
		if err != nil {
			return err
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("%s: a line that is no JSON: %w", name, err)
		}
		if e.RequestReceivedTimestamp.After(since) {
			*events = append(*events, e)
		}
	}
}
