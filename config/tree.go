// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// parse reads the first document of YAML or JSON text as a tree of
// map[string]any, []any, string, json.Number, bool and nil. It also returns
// the keys that are given twice, a line each: the last one counts.
func parse(data []byte) (tree any, repeated []string, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		if tree, size, ok := parseJSON(data); ok {
			return tree, repeatedKeys(data[:size]), nil
		}
	}
	asJSON, err := yaml.YAMLToJSON(data)
	if err != nil {
		return nil, nil, explain(err, data)
	}
	tree, _, ok := parseJSON(asJSON)
	if !ok {
		return nil, nil, errors.New("the text is neither YAML nor JSON")
	}
	return tree, repeatedKeys(data), nil
}

// parseJSON reads one JSON value and says how much of the text it took. It
// declines what may be YAML or is no UTF-8, which YAML's parser reports better.
func parseJSON(data []byte) (tree any, size int64, ok bool) {
	if !utf8.Valid(data) {
		return nil, 0, false
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&tree); err != nil {
		return nil, 0, false
	}
	return tree, decoder.InputOffset(), true
}

// repeatedLine is how YAML's parser reports a key that is given twice.
var repeatedLine = regexp.MustCompile(`line \d+: key .* already set in map`)

func repeatedKeys(document []byte) []string {
	// The parser also complains of a key that overrides a merged one, which is
	// what merging is for.
	if bytes.Contains(document, []byte("<<")) {
		return nil
	}
	_, err := yaml.YAMLToJSONStrict(document)
	if err == nil {
		return nil
	}
	return repeatedLine.FindAllString(err.Error(), -1)
}

// explain puts right which line an error of YAML's parser names, and adds the
// remedy where the error does not suggest it.
func explain(err error, data []byte) error {
	var notFinite *json.UnsupportedValueError
	message := err.Error()
	switch {
	case errors.As(err, &notFinite):
		return fmt.Errorf("a value is %s: numbers must be finite", notFinite.Str)
	case strings.HasPrefix(message, "unsupported map key"):
		return errors.New("a key is null or not a word: keys must be text")
	case strings.Contains(message, "cannot start any token") && bytes.ContainsRune(data, '\t'):
		message += ": indent with spaces, not with tabs"
	}
	return errors.New(rightLine(message))
}

// parserLine is how YAML's parser begins an error. It leaves out the line when
// it is the first, and counts from 0 where it did not find what it expected.
var parserLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(did not find expected|found |mapping values )`)

func rightLine(message string) string {
	found := parserLine.FindStringSubmatch(message)
	if found == nil {
		return message
	}
	line, _ := strconv.Atoi(found[1])
	if found[1] == "" || strings.HasPrefix(found[2], "did not") {
		line++
	}
	return fmt.Sprintf("line %d: %s%s", line, found[2], message[len(found[0]):])
}
