// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strings"
)

// Live are values of top-level keys that were changed while the program runs,
// each in the place of the file's and the environment's. Nobody may change one.
type Live map[string]any

// LiveKeys are the top-level keys that can change while the program runs: those
// that say when to run and how to decide, and how much is logged.
func LiveKeys() []string {
	var keys []string
	for _, f := range fieldsOf(reflect.TypeFor[Config]()) {
		if f.live {
			keys = append(keys, f.name)
		}
	}
	slices.Sort(keys)
	return keys
}

// ParseLive reads values for some of the LiveKeys, a JSON object, strictly: its
// keys are spelt exactly. What the values are worth shows when they are loaded
// with the other Layers. Its error is of the type Faults where it is about a key.
func ParseLive(data []byte) (Live, error) {
	tree, size, ok := parseJSON(data)
	object, isObject := tree.(map[string]any)
	if !ok || !isObject || strings.TrimSpace(string(data[size:])) != "" {
		return nil, errors.New(`the configuration's changes must be one JSON object, such as {"maxReplicas": 20}`)
	}
	if repeated := repeatedJSON(data[:size]); repeated != "" {
		return nil, fmt.Errorf("%s: give each key once", repeated)
	}
	var d decoder
	fields := fieldsOf(reflect.TypeFor[Config]())
	for _, name := range slices.Sorted(maps.Keys(object)) {
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		switch {
		case i < 0:
			d.strict = true
			d.unknown(under("", name), name, fields)
		case !fields[i].live:
			d.fault(name, "cannot change while the program runs: change it in the file, and restart; what can is %s", strings.Join(LiveKeys(), ", "))
		}
	}
	return object, d.faults.err()
}

// repeatedJSON is a key that an object within sound JSON has twice; empty if none
// has. YAML's parser, which tells of those in a file, reads JSON in its own way.
func repeatedJSON(data []byte) (key string) {
	type level struct {
		seen map[string]bool
		// value says that a value comes next, not a key.
		value bool
	}
	var levels []level
	decoder := json.NewDecoder(bytes.NewReader(data))
	for token, err := decoder.Token(); err == nil; token, err = decoder.Token() {
		delimiter, _ := token.(json.Delim)
		if delimiter == '}' || delimiter == ']' {
			levels = levels[:len(levels)-1]
			continue
		}
		if len(levels) > 0 {
			inside := &levels[len(levels)-1]
			name, isText := token.(string)
			switch {
			case inside.seen == nil: // a list
			case inside.value:
				inside.value = false
			case isText && inside.seen[name]:
				return under("", name)
			default:
				inside.seen[name], inside.value = true, true
			}
		}
		switch delimiter {
		case '{':
			levels = append(levels, level{seen: map[string]bool{}})
		case '[':
			levels = append(levels, level{})
		}
	}
	return ""
}

// With is these values with others over them. A null takes the key back, so that
// the file's and the environment's value is in force again.
func (l Live) With(others Live) Live {
	with := maps.Clone(l)
	if with == nil {
		with = Live{}
	}
	for key, value := range others {
		if value == nil {
			delete(with, key)
		} else {
			with[key] = value
		}
	}
	return with
}

// live replaces the top-level keys that were changed, whole, and strictly.
func (d *decoder) live(config reflect.Value, live Live) {
	d.strict = true
	defer func() { d.strict = false }()
	for _, f := range fieldsOf(config.Type()) {
		value, ok := live[f.name]
		if !ok {
			continue
		}
		d.forget(f.name)
		into := config.FieldByIndex(f.index)
		into.SetZero()
		d.value(f.name, value, into)
	}
}

// Adopt is the configuration with the values that another one has for the
// LiveKeys.
func (c Config) Adopt(other Config) Config {
	to, from := reflect.ValueOf(&c).Elem(), reflect.ValueOf(other)
	for _, f := range fieldsOf(to.Type()) {
		if f.live {
			to.FieldByIndex(f.index).Set(from.FieldByIndex(f.index))
		}
	}
	return c
}

// Differences are the top-level keys in which two configurations differ, those
// that can change while the program runs and the others.
func (c Config) Differences(other Config) (live, others []string) {
	one, two := reflect.ValueOf(c), reflect.ValueOf(other)
	for _, f := range fieldsOf(one.Type()) {
		if reflect.DeepEqual(one.FieldByIndex(f.index).Interface(), two.FieldByIndex(f.index).Interface()) {
			continue
		}
		if f.live {
			live = append(live, f.name)
		} else {
			others = append(others, f.name)
		}
	}
	return live, others
}

// Values are the values of all top-level keys, without secrets.
func (c Config) Values() map[string]any {
	values := map[string]any{}
	redacted := c.redacted()
	from := reflect.ValueOf(redacted)
	for _, f := range fieldsOf(from.Type()) {
		values[f.name] = from.FieldByIndex(f.index).Interface()
	}
	return values
}

// redactedText stands for a secret.
const redactedText = "(redacted)"

// redacted is the configuration without what may be a secret in it: the
// arguments of hooks' programs, the headers of their requests, and what URLs hold
// besides the host.
func (c Config) redacted() Config {
	for _, method := range []**Method{
		&c.Metric, &c.Evaluate, &c.PreMetric, &c.PostMetric, &c.PreEvaluate, &c.PostEvaluate, &c.PreScale, &c.PostScale,
	} {
		if *method != nil {
			redacted := (*method).redacted()
			*method = &redacted
		}
	}
	return c
}

func (m Method) redacted() Method {
	if m.Shell != nil {
		shell := *m.Shell
		shell.Command = redactAll(shell.Command)
		m.Shell = &shell
	}
	if m.Worker != nil {
		worker := *m.Worker
		worker.Command = redactAll(worker.Command)
		m.Worker = &worker
	}
	if m.HTTP != nil {
		request := *m.HTTP
		request.Headers = maps.Clone(request.Headers)
		for name := range request.Headers {
			request.Headers[name] = redactedText
		}
		request.URL = redactURL(request.URL)
		m.HTTP = &request
	}
	return m
}

// redactAll leaves how many there are.
func redactAll(texts []string) []string { return slices.Repeat([]string{redactedText}, len(texts)) }

// redactURL leaves the scheme and the host.
func redactURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return redactedText
	}
	return u.Scheme + "://" + u.Host + "/" + redactedText
}
