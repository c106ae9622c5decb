package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestARecordIsFoundAgainInAnyOfTheFolders(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	store := Store{Dirs: []string{first, second}}
	want := Record{Name: "etcd", PID: 42, Args: []string{"etcd", "--name=lab"}, StartTicks: 7, BootID: "b"}
	if err := store.Save(want); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(first); err != nil {
		t.Fatal(err)
	}
	got, found, err := store.Find("etcd")
	if err != nil || !found {
		t.Fatalf("found %v, %v", found, err)
	}
	if got.PID != want.PID || got.StartTicks != want.StartTicks || len(got.Args) != 2 {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestTheRecordOfALivingProcessWinsOverAStaleOne(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	living := started(t, "kubelet", "exec sleep 600")
	stale := living
	stale.StartTicks--
	for dir, record := range map[string]Record{first: stale, second: living} {
		if err := (Store{Dirs: []string{dir}}).Save(record); err != nil {
			t.Fatal(err)
		}
	}
	got, _, err := (Store{Dirs: []string{first, second}}).Find("kubelet")
	if err != nil {
		t.Fatal(err)
	}
	if !got.Alive() {
		t.Error("the stale record was returned")
	}
}

func TestADeletedRecordIsGoneFromAllFoldersAndMayBeDeletedAgain(t *testing.T) {
	store := Store{Dirs: []string{t.TempDir(), t.TempDir()}}
	if err := store.Save(Record{Name: "etcd"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := store.Delete("etcd"); err != nil {
			t.Fatal(err)
		}
	}
	if records, err := store.Load(); err != nil || len(records) != 0 {
		t.Errorf("got %v, %v", records, err)
	}
}

func TestAFileThatIsNotARecordIsAnErrorThatNamesIt(t *testing.T) {
	for name, content := range map[string]string{
		"cut short":                    `{"name": "et`,
		"the record of something else": `{"name": "kubelet"}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "etcd.json")
			if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := (Store{Dirs: []string{dir}}).Load()
			if err == nil || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v, want an error that names %s", err, file)
			}
		})
	}
}
