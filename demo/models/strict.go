package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// strict reads JSON as the providers' own validators do: an unknown field, a
// field twice, one of another case or a missing one is an error, and it is
// named with its path. The first error is kept, so that a reader of a request
// is one list of fields from top to bottom.
type strict struct {
	err error
}

func (s *strict) fail(path, format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("%s: %s", strings.TrimPrefix(path, "."), fmt.Sprintf(format, args...))
	}
}

// object reads an object with these fields and no others. A name that ends with
// an exclamation mark is required.
func (s *strict) object(path string, raw json.RawMessage, fields ...string) map[string]json.RawMessage {
	found := map[string]json.RawMessage{}
	if s.err != nil {
		return found
	}
	pairs, err := fieldsOf(raw)
	if err != nil {
		s.fail(path, "%v", err)
		return found
	}
	for _, pair := range pairs {
		if !slices.Contains(fields, pair.name) && !slices.Contains(fields, pair.name+"!") {
			s.fail(path+"."+pair.name, "extra inputs are not permitted")
			return found
		}
		if _, twice := found[pair.name]; twice {
			s.fail(path+"."+pair.name, "the field is there twice")
			return found
		}
		found[pair.name] = pair.value
	}
	for _, field := range fields {
		name, required := strings.CutSuffix(field, "!")
		if _, there := found[name]; required && !there {
			s.fail(path+"."+name, "field required")
		}
	}
	return found
}

// field is one field of an object, in the order of the text.
type field struct {
	name  string
	value json.RawMessage
}

func fieldsOf(raw json.RawMessage) ([]field, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if first, err := decoder.Token(); err != nil || first != json.Delim('{') {
		return nil, errors.New("want an object")
	}
	var pairs []field
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, fmt.Errorf("not JSON: %w", err)
		}
		pairs = append(pairs, field{fmt.Sprint(name), value})
	}
	if _, err := decoder.Token(); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	return pairs, nil
}

// list reads an array.
func (s *strict) list(path string, raw json.RawMessage) []json.RawMessage {
	var items []json.RawMessage
	s.into(path, raw, &items, "a list")
	return items
}

func (s *strict) text(path string, raw json.RawMessage) string {
	var text string
	s.into(path, raw, &text, "a string")
	return text
}

func (s *strict) number(path string, raw json.RawMessage) int {
	var number int
	s.into(path, raw, &number, "a whole number")
	return number
}

func (s *strict) flag(path string, raw json.RawMessage) bool {
	var flag bool
	s.into(path, raw, &flag, "true or false")
	return flag
}

// oneOf reads a string of a closed set.
func (s *strict) oneOf(path string, raw json.RawMessage, allowed ...string) string {
	text := s.text(path, raw)
	if raw != nil && s.err == nil && !slices.Contains(allowed, text) {
		s.fail(path, "is %q, want one of %s", text, strings.Join(allowed, ", "))
	}
	return text
}

// into leaves what is absent as it is.
func (s *strict) into(path string, raw json.RawMessage, v any, want string) {
	if s.err != nil || raw == nil {
		return
	}
	if bytes.Equal(raw, []byte("null")) || json.Unmarshal(raw, v) != nil {
		s.fail(path, "want %s", want)
	}
}

// isText tells a string from everything else.
func isText(raw json.RawMessage) bool {
	return bytes.HasPrefix(bytes.TrimSpace(raw), []byte(`"`))
}
