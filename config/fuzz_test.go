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
	autoscalingv2 "k8s.io/api/autoscaling/v2"

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
	for key, value := range map[string]string{
		"CPA_behavior":       `{"scaleUp": {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 60}], "tolerance": "100m"}, "scaleDown": {}}`,
		"CPA_schedules":      `[{"name": "night", "start": "0 22 * * *", "end": "@daily", "timezone": "Europe/Berlin", "minReplicas": 0}]`,
		"CPA_fallback":       `{"failureThreshold": 3, "replicas": 4, "behavior": "static"}`,
		"CPA_state":          `{"store": "file", "path": "/state.json"}`,
		"CPA_leaderElection": `{"enabled": true, "leaseDuration": 30}`,
	} {
		f.Add(required, key, value)
	}
	f.Add(required+"downscaleStabilization: 86400", "CPA_behavior", "{}")
	f.Fuzz(func(t *testing.T, file, variable, value string) {
		path := filepath.Join(t.TempDir(), "config.yaml")
		loaded := fuzzLoad(t, path, file, environment{variable: value})
		if loaded == nil {
			return
		}
		if err := loaded.Validate(); err != nil {
			t.Fatalf("loaded, but invalid: %v", err)
		}
		wantUsable(t, loaded)
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

// wantUsable wants that nothing which later packages rely on is missing.
func wantUsable(t *testing.T, c *config.Config) {
	t.Helper()
	if c.Behavior != nil {
		for _, rules := range []*autoscalingv2.HPAScalingRules{c.Behavior.ScaleUp, c.Behavior.ScaleDown} {
			if rules == nil || rules.StabilizationWindowSeconds == nil || rules.SelectPolicy == nil || len(rules.Policies) == 0 {
				t.Errorf("incomplete rules: %v", rules)
			}
		}
	}
	for _, schedule := range c.Schedules {
		if _, err := schedule.Parse(); err != nil {
			t.Errorf("a valid schedule cannot be parsed: %v", err)
		}
	}
	if c.Fallback != nil && c.Fallback.Replicas == nil && c.Fallback.Behavior != config.FallbackCurrent {
		t.Errorf("a fallback %s without replicas", c.Fallback.Behavior)
	}
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
