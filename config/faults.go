// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"
	"strconv"
	"strings"
)

// Fault is one thing wrong with the configuration.
type Fault struct {
	// Key is where, such as "metric.shell.entrypoint" or
	// "kubernetesMetricSpecs[0].type".
	Key string
	// Message is what is wrong and what would be right.
	Message string
}

// String is the fault as one line.
func (f Fault) String() string { return f.Key + ": " + f.Message }

// Faults is everything wrong with the configuration, ordered by key.
type Faults []Fault //nolint:errname // It is a list of faults first; that it is also an error is how it travels.

// Error lists all faults, one a line.
func (f Faults) Error() string {
	var text strings.Builder
	text.WriteString("the configuration is invalid:")
	for _, fault := range f {
		text.WriteString("\n  " + fault.String())
	}
	return text.String()
}

// err is the faults as an error: nil when there are none.
func (f Faults) err() error {
	if len(f) == 0 {
		return nil
	}
	slices.SortStableFunc(f, func(a, b Fault) int { return strings.Compare(a.Key, b.Key) })
	return f
}

// under is the key of a field or map entry within another.
func under(parent, name string) string {
	if !plain(name) {
		name = strconv.Quote(shorten(name))
	}
	if parent == "" {
		return name
	}
	return parent + "." + name
}

// at is the key of an element within a list.
func at(parent string, index int) string {
	return parent + "[" + strconv.Itoa(index) + "]"
}

// within says whether a key is another or lies below it.
func within(key, ancestor string) bool {
	rest, ok := strings.CutPrefix(key, ancestor)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// topLevel is the top-level key that a key lies below.
func topLevel(key string) string {
	if end := strings.IndexAny(key, ".["); end >= 0 {
		return key[:end]
	}
	return key
}

// plain says whether a name can stand in a key as it is.
func plain(name string) bool {
	for _, r := range name {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		digit := '0' <= r && r <= '9'
		if !letter && !digit && r != '_' && r != '-' {
			return false
		}
	}
	return name != "" && len(name) <= maxShown
}

// maxShown is how much of a value a message shows, in bytes.
const maxShown = 64

// shorten cuts what would make a message unreadable.
func shorten(text string) string {
	if len(text) <= maxShown {
		return text
	}
	return strings.ToValidUTF8(text[:maxShown], "") + "..."
}
