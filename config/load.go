// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Where the file is found.
const (
	// PathVariable is the environment variable that names the file.
	PathVariable = "configPath"
	// DefaultPath is the file when nothing names one.
	DefaultPath = "/config.yaml"
	// MaxFileBytes is the largest file read: what fits into a ConfigMap.
	MaxFileBytes = 1 << 20
)

// Loaded is what Load found.
type Loaded struct {
	// Config is valid when Load returned no error.
	Config Config
	// Layers are what it was made of.
	Layers Layers
	// Sources says where the value of each top-level key comes from: "default",
	// "file", "environment NAME" or "live".
	Sources map[string]string
	// Warnings tell of what is probably a mistake but can be lived with, such
	// as unknown keys, a line each. They are there even when Load failed, but
	// then not those about how values that are valid work together.
	Warnings []string
}

// Load reads the configuration: the defaults, over them the file, over that
// the environment, whose variables each replace a whole top-level key. It
// reports everything that is wrong at once, as an error that wraps Faults.
//
// lookupEnv is os.LookupEnv, or stands in for it. A variable counts when it is
// there, even empty: only text can be empty, anything else is then a fault,
// since a number that was meant to be given must not turn into a zero.
func Load(path string, lookupEnv func(string) (string, bool)) (Loaded, error) {
	file, err := Read(path)
	if err != nil {
		return Loaded{}, fmt.Errorf("reading the configuration file: %w", err)
	}
	loaded, err := Layers{File: file, LookupEnv: lookupEnv}.Load()
	if err != nil {
		return loaded, fmt.Errorf("loading %s: %w", path, err)
	}
	return loaded, nil
}

// Layers are what a configuration is made of, one over the other.
type Layers struct {
	// File is the content of the file.
	File []byte
	// LookupEnv finds a variable of the environment, as os.LookupEnv does.
	LookupEnv func(string) (string, bool)
	// Live is what was changed while the program runs (ParseLive).
	Live Live
}

// Read reads a configuration file. It must not be empty, nor larger than
// MaxFileBytes.
func Read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: put it there, or name another with --config or the environment variable %s", err, PathVariable)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // Nothing was written.
	data, err := io.ReadAll(io.LimitReader(file, MaxFileBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > MaxFileBytes:
		return nil, fmt.Errorf("%s is larger than %d bytes", path, MaxFileBytes)
	case strings.TrimSpace(string(data)) == "":
		return nil, fmt.Errorf("%s is empty: it must at least say {}, if everything comes from the environment", path)
	}
	return data, nil
}

// Load is Load of what was read already.
func (l Layers) Load() (Loaded, error) {
	tree, repeated, err := parse(l.File)
	if err != nil {
		return Loaded{}, err
	}
	if tree == nil {
		tree = map[string]any{}
	}
	inFile, ok := tree.(map[string]any)
	if !ok {
		return Loaded{}, fmt.Errorf("the file must hold a mapping of keys to values, such as \"interval: 15000\"; it holds %s", describeKind(tree))
	}
	var d decoder
	d.repeated(repeated)
	config := Default()
	d.object("", tree, reflect.ValueOf(&config).Elem())
	authInFile := config.APIConfig.AuthConfigured()
	fromEnv := d.environment(reflect.ValueOf(&config).Elem(), l.LookupEnv)
	d.live(reflect.ValueOf(&config).Elem(), l.Live)
	config.complete()
	faults := config.faults(d.faults)
	for i, fault := range faults {
		key := topLevel(fault.Key)
		if variable, ok := fromEnv[key]; ok && l.Live[key] == nil {
			faults[i].Message += fmt.Sprintf(" (from the environment variable %s)", variable)
		}
	}
	if len(faults) == 0 {
		config.warn(&d)
		config.warnOpened(&d, authInFile)
	}
	return Loaded{Config: config, Layers: l, Sources: l.sources(inFile, fromEnv), Warnings: d.warnings}, faults.err()
}

// sources says of every top-level key where its value comes from.
func (l Layers) sources(inFile map[string]any, fromEnv map[string]string) map[string]string {
	fields := fieldsOf(reflect.TypeFor[Config]())
	sources := make(map[string]string, len(fields))
	for _, f := range fields {
		sources[f.name] = "default"
	}
	for name := range inFile {
		if f, ok := find(fields, name); ok {
			sources[f.name] = "file"
		}
	}
	for name, variable := range fromEnv {
		sources[name] = "environment " + variable
	}
	for name := range l.Live {
		sources[name] = "live"
	}
	return sources
}

// environment replaces the top-level keys that have a variable, whole, and
// returns those with their variables.
func (d *decoder) environment(config reflect.Value, lookupEnv func(string) (string, bool)) map[string]string {
	replaced := map[string]string{}
	for _, f := range fieldsOf(config.Type()) {
		text, ok := lookupEnv(f.env)
		if !ok {
			continue
		}
		replaced[f.name] = f.env
		// What was wrong with the file's value no longer matters.
		d.forget(f.name)
		into := config.FieldByIndex(f.index)
		if into.Kind() == reflect.String {
			into.SetString(text)
			continue
		}
		into.SetZero()
		d.variable(f.name, text, into)
	}
	return replaced
}

// variable decodes an environment variable's text into a zero value.
func (d *decoder) variable(key, text string, into reflect.Value) {
	if strings.TrimSpace(text) == "" {
		d.fault(key, "is set but empty: unset it, or give it a value")
		return
	}
	tree, repeated, err := parse([]byte(text))
	if err != nil {
		d.fault(key, "must be YAML or JSON: %v", err)
		return
	}
	optional := into.Kind() == reflect.Pointer || into.Kind() == reflect.Slice
	if tree == nil && !optional {
		d.fault(key, "has no value: unset it, or give it one")
		return
	}
	warned := len(d.warnings)
	d.repeated(repeated)
	d.value(key, tree, into)
	for i := warned; i < len(d.warnings); i++ {
		d.warnings[i] += " (in the environment)"
	}
}

// Stray tells of variables of the environment, in the form of os.Environ, that
// look as if they configured something and do not, a line each: names with the
// prefix that no key has, and keys that are only read with it.
func Stray(environ []string) (warnings []string) {
	fields := fieldsOf(reflect.TypeFor[Config]())
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = f.env
	}
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		switch i := slices.IndexFunc(fields, func(f field) bool { return f.name == name }); {
		case slices.Contains(known, name):
		case i >= 0:
			warnings = append(warnings, fmt.Sprintf("the environment variable %s is not read: if it is meant for the configuration, name it %s",
				name, known[i]))
		case strings.HasPrefix(name, "CPA_"):
			warning := fmt.Sprintf("the environment variable %s is unknown, and not read", shorten(name))
			if meant := nearest(name, known); meant != "" {
				warning += "; did you mean " + meant + "?"
			}
			warnings = append(warnings, warning)
		}
	}
	return warnings
}

// forget drops the faults of a key.
func (d *decoder) forget(key string) {
	var kept Faults
	for _, fault := range d.faults {
		if !within(fault.Key, key) {
			kept = append(kept, fault)
		}
	}
	d.faults = kept
}

// complete takes the brackets off an IPv6 address to listen on. What is unset
// gets the default that a variable, which replaces the whole block, left out.
func (a *API) complete() {
	if address, ok := strings.CutPrefix(a.Host, "["); ok {
		a.Host = strings.TrimSuffix(address, "]")
	}
	standard := Default().APIConfig
	a.Page = cmp.Or(a.Page, standard.Page)
	a.RateLimit.PerCaller = cmp.Or(a.RateLimit.PerCaller, standard.RateLimit.PerCaller)
	a.RateLimit.Total = cmp.Or(a.RateLimit.Total, standard.RateLimit.Total)
}

// complete fills in what blocks leave out, which has no place in Default.
func (c *Config) complete() {
	c.APIConfig.complete()
	for _, hook := range c.hooks() {
		method := hook.method
		if method == nil {
			continue
		}
		if method.Timeout == 0 {
			method.Timeout = DefaultTimeout
		}
		if method.HTTP != nil && method.HTTP.Method == "" {
			method.HTTP.Method = "GET"
		}
		if worker := method.Worker; worker != nil {
			worker.Processes = cmp.Or(worker.Processes, 1)
			worker.MaxInFlight = cmp.Or(worker.MaxInFlight, 1)
		}
	}
	c.completeBehavior()
	for i, schedule := range c.Schedules {
		c.Schedules[i].Timezone = cmp.Or(schedule.Timezone, time.UTC.String())
	}
	if c.Fallback != nil {
		c.Fallback.Behavior = cmp.Or(c.Fallback.Behavior, FallbackStatic)
	}
	c.GitOps.complete()
	// A path alone is not completed: it was meant to be used.
	if c.State == (State{}) {
		c.State.Store = StateNone
	}
	standard := Default().LeaderElection
	c.LeaderElection.LeaseDuration = cmp.Or(c.LeaderElection.LeaseDuration, standard.LeaseDuration)
	c.LeaderElection.RenewDeadline = cmp.Or(c.LeaderElection.RenewDeadline, standard.RenewDeadline)
	c.LeaderElection.RetryPeriod = cmp.Or(c.LeaderElection.RetryPeriod, standard.RetryPeriod)
}
