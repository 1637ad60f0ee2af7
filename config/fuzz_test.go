// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// FuzzLoad holds, for any file and any environment variable: either an error
// of one line a fault, or a valid configuration, which reads the same when it
// is written down and loaded again.
func FuzzLoad(f *testing.F) {
	for _, file := range []string{"", "{}", required, everything, requiredJSON(`"interval": 5`), "interval: abc", "metric:\n\ttype: x", bomb()} {
		f.Add(file, "", "")
	}
	f.Add(required, "apiConfig", `{"port": 5097}`)
	f.Add(required, "kubernetesMetricSpecs", `[{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization"}}}]`)
	f.Add(required, "metric", `{"type": "http", "http": {"url": "http://a", "successCodes": [200], "parameterMode": "body", "headers": {"a": "b"}}}`)
	f.Fuzz(func(t *testing.T, file, variable, value string) {
		path := filepath.Join(t.TempDir(), "config.yaml")
		loaded := fuzzLoad(t, path, file, environment{variable: value})
		if loaded == nil {
			return
		}
		if err := loaded.Validate(); err != nil {
			t.Fatalf("loaded, but invalid: %v", err)
		}
		written, err := json.Marshal(loaded)
		if err != nil {
			t.Fatalf("writing it down: %v", err)
		}
		again := fuzzLoad(t, path, string(written), nil)
		if again == nil {
			t.Fatalf("not accepted again: %s", written)
		}
		rewritten, err := json.Marshal(again)
		if err != nil {
			t.Fatalf("writing it down again: %v", err)
		}
		if diff := cmp.Diff(string(written), string(rewritten)); diff != "" {
			t.Errorf("reads differently when loaded again (-first +again):\n%s", diff)
		}
	})
}

// fuzzLoad loads a file that may be anything; nil when it is refused.
func fuzzLoad(t *testing.T, path, file string, env environment) *config.Config {
	t.Helper()
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(path, env.lookup)
	for _, warning := range loaded.Warnings {
		if strings.ContainsAny(warning, "\r\n") {
			t.Errorf("a warning of several lines: %q", warning)
		}
	}
	if err == nil {
		return &loaded.Config
	}
	if faults, ok := errors.AsType[config.Faults](err); ok {
		if len(faults) == 0 || strings.Count(err.Error(), "\n") != len(faults) {
			t.Errorf("%d faults in these lines: %q", len(faults), err)
		}
	}
	return nil
}
