// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// required is what every configuration must say.
const required = `
scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
metric: {type: shell, shell: {entrypoint: metric}}
evaluate: {type: shell, shell: {entrypoint: evaluate}}
`

// minimal is the configuration that required makes.
func minimal() config.Config {
	c := config.Default()
	c.ScaleTargetRef = autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}
	c.Metric = shell("metric")
	c.Evaluate = shell("evaluate")
	return c
}

func shell(entrypoint string, args ...string) *config.Method {
	return &config.Method{
		Type:    config.MethodShell,
		Timeout: config.DefaultTimeout,
		Shell:   &config.Shell{Entrypoint: entrypoint, Command: args},
	}
}

// with is the minimal configuration with something changed.
func with(change func(*config.Config)) config.Config {
	c := minimal()
	change(&c)
	return c
}

type environment map[string]string

func (e environment) lookup(name string) (string, bool) {
	value, ok := e[name]
	return value, ok
}

func load(t *testing.T, file string, env environment) (config.Loaded, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(path, env.lookup)
}

func TestLoadTakesDefaultsThenFileThenEnvironment(t *testing.T) {
	api := config.Default().APIConfig
	tests := []struct {
		name string
		file string
		env  environment
		want config.Config
	}{
		{name: "defaults", file: required, want: minimal()},
		{
			name: "file over defaults", file: required + "interval: 500",
			want: with(func(c *config.Config) { c.Interval = 500 }),
		},
		{
			name: "environment over file", file: required + "interval: 500", env: environment{"interval": "700"},
			want: with(func(c *config.Config) { c.Interval = 700 }),
		},
		{
			name: "the file merges a block with its defaults", file: required + "apiConfig: {port: 5097}",
			want: with(func(c *config.Config) { c.APIConfig = config.API{Enabled: true, Port: 5097, Host: api.Host} }),
		},
		{
			name: "the environment replaces a block whole", file: required + "apiConfig: {certFile: a}",
			env:  environment{"apiConfig": `{"port":5097}`},
			want: with(func(c *config.Config) { c.APIConfig = config.API{Port: 5097} }),
		},
		{
			name: "the environment replaces a method whole", file: required,
			env:  environment{"metric": "type: shell\nshell:\n  entrypoint: other\n  command: [a]"},
			want: with(func(c *config.Config) { c.Metric = shell("other", "a") }),
		},
		{
			name: "everything from the environment", file: "# nothing here",
			env: environment{
				"scaleTargetRef": `{"kind":"Deployment","name":"web","apiVersion":"apps/v1"}`,
				"metric":         `{"type":"shell","shell":{"entrypoint":"metric"}}`,
				"evaluate":       `{"type":"shell","shell":{"entrypoint":"evaluate"}}`,
			},
			want: minimal(),
		},
		{
			name: "text from the environment is raw", file: required, env: environment{"namespace": "123"},
			want: with(func(c *config.Config) { c.Namespace = "123" }),
		},
		{
			name: "null in the environment unsets what is optional", file: required + "preScale: {type: shell, shell: {entrypoint: x}}",
			env:  environment{"preScale": "null"},
			want: minimal(),
		},
		{
			name: "null in the file leaves the default", file: required + "interval:\napiConfig: ~\npreScale: null",
			want: minimal(),
		},
		{
			name: "names in the environment are matched exactly", file: required,
			env:  environment{"INTERVAL": "1", "minreplicas": "7", "Namespace": "x"},
			want: minimal(),
		},
		{
			name: "our own keys are not read from the environment by their plain name", file: required,
			env:  environment{"logFormat": "json", "maxOutputBytes": "1"},
			want: minimal(),
		},
		{
			name: "our own keys have a prefix in the environment", file: required,
			env: environment{"CPA_logFormat": "json", "CPA_maxOutputBytes": "1024"},
			want: with(func(c *config.Config) {
				c.LogFormat = config.LogJSON
				c.MaxOutputBytes = 1024
			}),
		},
		{
			name: "a fault of the file is forgotten when the environment replaces the key", file: required + "interval: often",
			env:  environment{"interval": "700"},
			want: with(func(c *config.Config) { c.Interval = 700 }),
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			loaded, err := load(t, test.file, test.env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, loaded.Config); diff != "" {
				t.Errorf("unexpected configuration (-want +got):\n%s", diff)
			}
			if len(loaded.Warnings) > 0 {
				t.Errorf("unexpected warnings: %q", loaded.Warnings)
			}
		})
	}
}

func TestLoadReportsAllFaultsTogether(t *testing.T) {
	_, err := load(t, `
scaleTargetRef: {kind: Deployment}
metric: {type: shel, timeout: soon}
interval: "abc"
`, environment{"maxReplicas": "-1", "minReplicas": ""})
	want := []string{
		`evaluate: is required: the method that runs it, such as {type: shell, shell: {entrypoint: ...}}`,
		`interval: must be a whole number of milliseconds, got the text "abc"`,
		`maxReplicas: must be at least 1, got -1 (from the environment variable maxReplicas)`,
		`metric.timeout: must be a whole number of milliseconds, got the text "soon"`,
		`metric.type: must be "shell" or "http", got "shel"`,
		`minReplicas: is set but empty: unset it, or give it a value (from the environment variable minReplicas)`,
		`scaleTargetRef.apiVersion: is required, such as apps/v1`,
		`scaleTargetRef.name: is required`,
	}
	var faults config.Faults
	if !errors.As(err, &faults) {
		t.Fatalf("got %v, want Faults", err)
	}
	var got []string
	for _, fault := range faults {
		got = append(got, fault.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unexpected faults (-want +got):\n%s", diff)
	}
	if text := err.Error(); !strings.Contains(text, "config.yaml: the configuration is invalid:\n  evaluate: is required") {
		t.Errorf("the message does not begin with the file and the first fault:\n%s", text)
	}
}
