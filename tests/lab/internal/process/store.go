package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Store keeps one file per record, in each of its folders.
type Store struct{ Dirs []string }

// Save writes a record; it replaces the one of the same name.
func (s Store) Save(r Record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	for _, dir := range s.Dirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		// Renamed into place: a half-written record would orphan a process.
		file := filepath.Join(dir, r.Name+".json")
		if err := os.WriteFile(file+".new", append(data, '\n'), 0o644); err != nil {
			return err
		}
		if err := os.Rename(file+".new", file); err != nil {
			return err
		}
	}
	return nil
}

// Delete forgets a record.
func (s Store) Delete(name string) error {
	for _, dir := range s.Dirs {
		if err := os.Remove(filepath.Join(dir, name+".json")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Load returns all records, by name. Where folders disagree (one was deleted
// and the lab started anew), a record of a living process wins.
func (s Store) Load() ([]Record, error) {
	byName := map[string]Record{}
	for _, dir := range s.Dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.json"))
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			r, err := read(file)
			if err != nil {
				return nil, err
			}
			if known, ok := byName[r.Name]; !ok || (!known.Alive() && r.Alive()) {
				byName[r.Name] = r
			}
		}
	}
	records := make([]Record, 0, len(byName))
	for _, r := range byName {
		records = append(records, r)
	}
	sort.Slice(records, func(i, j int) bool { return records[i].Name < records[j].Name })
	return records, nil
}

// Find returns the record of a component, whether or not it lives.
func (s Store) Find(name string) (Record, bool, error) {
	records, err := s.Load()
	if err != nil {
		return Record{}, false, err
	}
	for _, r := range records {
		if r.Name == name {
			return r, true, nil
		}
	}
	return Record{}, false, nil
}

func read(file string) (Record, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Record{}, err
	}
	var r Record
	if err := json.Unmarshal(data, &r); err != nil {
		return Record{}, fmt.Errorf("%s is not a process record: %w; delete it if the process that it named is gone", file, err)
	}
	if want := strings.TrimSuffix(filepath.Base(file), ".json"); r.Name != want {
		return Record{}, fmt.Errorf("%s names the component %q, expected %q", file, r.Name, want)
	}
	return r, nil
}
