// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"errors"
	"fmt"
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
			want: with(func(c *config.Config) {
				c.APIConfig = config.API{Enabled: true, Port: 5097, Host: api.Host, Page: api.Page, RateLimit: api.RateLimit}
			}),
		},
		{
			name: "the file merges blocks in blocks", file: required + "apiConfig: {rateLimit: {total: 0}, page: false}",
			want: with(func(c *config.Config) { c.APIConfig.RateLimit.Total, c.APIConfig.Page = new(0), new(false) }),
		},
		{
			name: "null is the default", file: required + "apiConfig: {rateLimit: {total: }, page: ~, auth: null}",
			want: minimal(),
		},
		{
			name: "a block of the environment lifts no limit that it leaves out", file: required,
			env: environment{"apiConfig": `{"port":5097,"rateLimit":{"perCaller":0}}`},
			want: with(func(c *config.Config) {
				c.APIConfig = config.API{
					Port: 5097, Page: api.Page, RateLimit: config.RateLimit{PerCaller: new(0), Total: api.RateLimit.Total},
				}
			}),
		},
		{
			name: "the environment replaces a block whole", file: required + "apiConfig: {certFile: a}",
			env:  environment{"apiConfig": `{"port":5097}`},
			want: with(func(c *config.Config) { c.APIConfig = config.API{Port: 5097, Page: api.Page, RateLimit: api.RateLimit} }),
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
			env: environment{
				"logFormat": "json", "maxOutputBytes": "1", "behavior": "{}", "dryRun": "true", "state": "{store: configMap}",
				"schedules": "[{name: a, start: '@daily', end: '@hourly', minReplicas: 5}]", "fallback": "{failureThreshold: 1, replicas: 5}",
				"leaderElection": "{enabled: true}",
			},
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
			name: "zeroes of a block from the environment become defaults", file: required,
			env: environment{"CPA_leaderElection": "{enabled: true, leaseDuration: 60}", "CPA_state": "{store: configMap}"},
			want: with(func(c *config.Config) {
				c.LeaderElection = config.LeaderElection{Enabled: true, LeaseDuration: 60, RenewDeadline: 10, RetryPeriod: 2}
				c.State = config.State{Store: config.StateConfigMap}
			}),
		},
		{
			name: "empty blocks from the environment", file: required + "state: {store: file, path: /state}\nleaderElection: {enabled: true}",
			env: environment{"CPA_state": "{}", "CPA_leaderElection": "{}"}, want: minimal(),
		},
		{
			name: "null in the environment unsets decisions", file: required + "behavior: {}\nfallback: {failureThreshold: 1, replicas: 2}\nschedules: [{}]",
			env:  environment{"CPA_behavior": "null", "CPA_fallback": "null", "CPA_schedules": "null"},
			want: minimal(),
		},
		{
			name: "a fallback is static unless it says otherwise", file: required + "fallback: {failureThreshold: 1, replicas: 2}",
			want: with(func(c *config.Config) {
				c.Fallback = &config.Fallback{FailureThreshold: 1, Replicas: new(int32(2)), Behavior: config.FallbackStatic}
			}),
		},
		{
			name: "a worker is one process that is asked one thing at a time", file: required + "preScale: {type: worker, worker: {entrypoint: x}}",
			want: with(func(c *config.Config) {
				c.PreScale = &config.Method{
					Type: config.MethodWorker, Timeout: config.DefaultTimeout,
					Worker: &config.Worker{Entrypoint: "x", Processes: 1, MaxInFlight: 1},
				}
			}),
		},
		{
			name: "a schedule is in UTC unless it says otherwise",
			file: required + "schedules: [{name: a, start: '@daily', end: 0 6 * * *, minReplicas: 5}]",
			want: with(func(c *config.Config) {
				c.Schedules = []config.Schedule{{Name: "a", Start: "@daily", End: "0 6 * * *", Timezone: "UTC", MinReplicas: new(int32(5))}}
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
		`maxReplicas: must be at least 0, got -1 (from the environment variable maxReplicas)`,
		`metric.timeout: must be a whole number of milliseconds, got the text "soon"`,
		`metric.type: must be "shell", "worker" or "http", got "shel"`,
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

func TestLoadTakesTheFirstDocument(t *testing.T) {
	tests := map[string]string{
		"YAML":                              required + "interval: 500",
		"a second document":                 required + "interval: 500\n---\ninterval: 900",
		"a second document that is broken":  required + "interval: 500\n---\ninterval: [",
		"a marker before it":                "---\n" + required + "interval: 500\n---\ninterval: 900",
		"a comment and a marker before it":  "# The first.\n---\n" + required + "interval: 500\n---\n{}",
		"an end marker":                     required + "interval: 500\n...\nnothing of interest",
		"a byte order mark":                 "\ufeff" + strings.TrimSpace(required) + "\ninterval: 500",
		"keys in any case":                  strings.Replace(required, "apiVersion", "APIVERSION", 1) + "INTERVAL: 500",
		"a number with a zero fraction":     required + "interval: 500.0",
		"a number with an exponent":         required + "interval: 5e2",
		"a number with an underscore":       required + "interval: 5_00",
		"an alias and a merge":              required + "<<: &more\n  interval: 500",
		"Windows line ends":                 strings.ReplaceAll(required, "\n", "\r\n") + "interval: 500",
		"flow YAML":                         "{" + strings.Join(strings.Split(strings.TrimSpace(required), "\n"), ",\n") + ", interval: 500}",
		"the largest file":                  largest(required + "interval: 500\n#"),
		"JSON":                              requiredJSON(`"interval": 500`),
		"JSON with text behind it":          requiredJSON(`"interval": 500`) + ` {"interval": 900}`,
		"JSON indented with tabs":           "\n" + requiredJSON("\n\t\t\"interval\":\t500"),
		"JSON with a trailing comma (YAML)": requiredJSON(`"interval": 500,`),
	}
	want := with(func(c *config.Config) { c.Interval = 500 })
	for name, file := range tests {
		t.Run(name, func(t *testing.T) {
			loaded, err := load(t, file, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, loaded.Config); diff != "" {
				t.Errorf("unexpected configuration (-want +got):\n%s", diff)
			}
			if len(loaded.Warnings) > 0 {
				t.Errorf("unexpected warnings: %q", loaded.Warnings)
			}
		})
	}
}

// largest fills a file up to the largest size.
func largest(file string) string {
	return file + strings.Repeat("x", config.MaxFileBytes-len(file))
}

// requiredJSON is required as JSON, with one more member.
func requiredJSON(member string) string {
	return `{"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
"metric": {"type": "shell", "shell": {"entrypoint": "metric"}},
"evaluate": {"type": "shell", "shell": {"entrypoint": "evaluate"}},
` + member + "}"
}

func TestLoadRefusesAFileItCannotRead(t *testing.T) {
	folder := t.TempDir()
	tests := map[string]struct {
		file string
		want string
	}{
		"empty":           {file: "", want: "is empty: it must at least say {}"},
		"white space":     {file: " \n\n", want: "is empty: it must at least say {}"},
		"too large":       {file: "# " + strings.Repeat("x", config.MaxFileBytes), want: "is larger than 1048576 bytes"},
		"a list":          {file: "- interval: 5", want: `must hold a mapping of keys to values, such as "interval: 15000"; it holds a list`},
		"a word":          {file: "interval", want: "it holds text"},
		"tabs":            {file: "metric:\n\ttype: shell", want: "line 2: found character that cannot start any token: indent with spaces, not with tabs"},
		"broken YAML":     {file: "interval: 5\nmetric: [}\nmaxReplicas: 5", want: "line 2: did not find expected node content"},
		"broken JSON":     {file: "{\n\"interval\": 5\n\"startTime\": 5\n}", want: "line 3: did not find expected ',' or '}'"},
		"a wrong indent":  {file: "metric:\n  type: shell\n timeout: 5", want: "line 3: did not find expected key"},
		"the first line":  {file: "interval: 5: 6", want: "line 1: mapping values are not allowed in this context"},
		"a null key":      {file: "~: 5", want: "a key is null or not a word: keys must be text"},
		"not UTF-8":       {file: "namespace: \"\xff\"", want: "yaml: invalid leading UTF-8 octet"},
		"not a number":    {file: "interval: .nan", want: "a value is NaN: numbers must be finite"},
		"unknown alias":   {file: "interval: *other", want: "yaml: unknown anchor 'other' referenced"},
		"a bomb of alias": {file: bomb(), want: "yaml: document contains excessive aliasing"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(folder, "config.yaml")
			if err := os.WriteFile(path, []byte(test.file), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := config.Load(path, environment{}.lookup)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got the error %v, want %s and %q in it", err, path, test.want)
			}
		})
	}
}

// bomb is the billion laughs in YAML.
func bomb() string {
	var text strings.Builder
	text.WriteString("a0: &a0 [x, x, x, x, x, x, x, x, x]\n")
	for i := range 8 {
		last := fmt.Sprintf("*a%d", i)
		fmt.Fprintf(&text, "a%d: &a%d [%s%s]\n", i+1, i+1, strings.Repeat(last+", ", 8), last)
	}
	return text.String()
}

func TestLoadSaysWhereAMissingFileShouldBe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "absent.yaml")
	_, err := config.Load(path, environment{}.lookup)
	want := "reading the configuration file: open " + path +
		": no such file or directory: put it there, or name another with --config or the environment variable configPath"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if !errors.Is(err, os.ErrNotExist) {
		t.Error("the error does not wrap os.ErrNotExist")
	}
}

func TestLoadWarns(t *testing.T) {
	const (
		known         = required + "apiConfig: {port: 5000}\n"
		authenticated = "apiConfig: {host: 127.0.0.1, auth: {token: {readFile: /read}}}\n"
		tenPercent    = "{type: Percent, value: 10, periodSeconds: 5}"
		atNight       = "{name: night, start: 0 22 * * *, end: 0 6 * * *, "
		inTheMorning  = "{name: morning, start: 0 6 * * *, end: 0 12 * * *, "
		forgotten     = "after a restart at 0 replicas the target is taken for disabled, since the top-level minReplicas is 1, " +
			"and never scaled up again: set state.store"
	)
	tests := []struct {
		name string
		file string
		env  environment
		want []string
	}{
		{name: "unknown key", file: required + "minReplica: 5", want: []string{"minReplica: unknown key, ignored; did you mean minReplicas?"}},
		{name: "other case", file: required + "MINREPLICA: 5", want: []string{"MINREPLICA: unknown key, ignored; did you mean minReplicas?"}},
		{name: "swapped letters", file: required + "intreval: 5", want: []string{"intreval: unknown key, ignored; did you mean interval?"}},
		{name: "swapped letters of a short word", file: required + "apiConfig: {prot: 5000}", want: []string{"apiConfig.prot: unknown key, ignored; did you mean port?"}},
		{name: "nothing near", file: required + "colour: red", want: []string{"colour: unknown key, ignored"}},
		{name: "a strange key", file: required + `"a b\n": 1`, want: []string{`"a b\n": unknown key, ignored`}},
		{name: "a long key", file: required + `"` + strings.Repeat("k", 100) + `": 1`, want: []string{`"` + strings.Repeat("k", 64) + `...": unknown key, ignored`}},
		{
			name: "within a method", file: strings.Replace(required, "entrypoint: metric", "entrypoint: metric, args: [a]", 1),
			want: []string{"metric.shell.args: unknown key, ignored"},
		},
		{
			name: "within a metric spec",
			file: required + "kubernetesMetricSpecs:\n- type: Resource\n  resource: {name: cpu, target: {type: Utilization, averageUtilisation: 5}}",
			want: []string{"kubernetesMetricSpecs[0].resource.target.averageUtilisation: unknown key, ignored; did you mean averageUtilization?"},
		},
		{
			name: "in the environment", file: known, env: environment{"apiConfig": "{enable: true}"},
			want: []string{"apiConfig.enable: unknown key, ignored; did you mean enabled? (in the environment)"},
		},
		{
			name: "authentication that a variable forgets", file: required + authenticated, env: environment{"apiConfig": "{enabled: true}"},
			want: []string{"apiConfig.auth: what the file says of it does not count, since the environment variable apiConfig replaces the whole block: say it there, too"},
		},
		{name: "no API to authenticate for", file: required + authenticated, env: environment{"apiConfig": "{enabled: false}"}},
		{name: "tokens over the loopback", file: required + authenticated},
		{
			name: "tokens over the network", file: required + "apiConfig: {auth: {kubernetes: {enabled: true}}}",
			want: []string{"apiConfig.auth: tokens cross the network as plain text: set useHTTPS, or the host to 127.0.0.1 behind something that speaks HTTPS"},
		},
		{
			name: "an authority without certificates", file: required + "apiConfig: {useHTTPS: true, certFile: a, keyFile: b, clientCAFile: c}",
			want: []string{"apiConfig.clientCAFile: has no effect without auth.certificates, which says what the holders of the certificates may do"},
		},
		{name: "repeated", file: required + "interval: 4\ninterval: 500", want: []string{`line 6: key "interval" already set in map; the last one counts`}},
		{name: "overriding what was merged is no repetition", file: required + "<<: {interval: 4}\ninterval: 500"},
		{name: "repeated in JSON", file: requiredJSON("\"interval\": 4,\n\"interval\": 500"), want: []string{`line 5: key "interval" already set in map; the last one counts`}},
		{name: "repeated in another case", file: required + "interval: 500\nINTERVAL: 4", want: []string{"interval: given again, in another case, as INTERVAL; this one counts"}},
		{
			name: "percentages alone do not leave 0", file: required + "minReplicas: 0\nbehavior: {scaleUp: {policies: [" + tenPercent + "]}}",
			want: []string{"behavior.scaleUp.policies: never scale up from 0, which minReplicas allows, since a percentage of 0 is 0: use the type Pods"},
		},
		{
			name: "the least of percentages and pods does not leave 0", file: required + "minReplicas: 0\nbehavior: {scaleUp: {selectPolicy: Min}}",
			want: []string{"behavior.scaleUp.policies: never scale up from 0, which minReplicas allows, since a percentage of 0 is 0: use the type Pods"},
		},
		{
			name: "percentages do not leave a schedule's 0",
			file: required + "state: {store: configMap}\nbehavior: {scaleUp: {policies: [" + tenPercent + "]}}\nschedules: [" + atNight + "minReplicas: 0}]",
			want: []string{"behavior.scaleUp.policies: never scale up from 0, which schedules[0].minReplicas allows, since a percentage of 0 is 0: use the type Pods"},
		},
		{name: "pods leave 0", file: required + "minReplicas: 0\nbehavior: {scaleUp: {policies: [{type: Pods, value: 1, periodSeconds: 5}, " + tenPercent + "]}}"},
		{name: "nothing has to leave 0", file: required + "behavior: {scaleUp: {policies: [" + tenPercent + "]}}"},
		{name: "nothing is to scale up", file: required + "minReplicas: 0\nbehavior: {scaleUp: {selectPolicy: Disabled, policies: [" + tenPercent + "]}}"},
		{
			name: "a schedule's end leaves 0",
			file: required + "state: {store: configMap}\nbehavior: {scaleUp: {policies: [" + tenPercent + "]}}\n" +
				"schedules: [" + atNight + "minReplicas: 0, maxReplicas: 0}]",
		},
		{
			name: "a schedule's 0 is forgotten", file: required + "schedules: [" + inTheMorning + "minReplicas: 2}, " + atNight + "minReplicas: 0}]",
			want: []string{"schedules[1]: " + forgotten},
		},
		{
			name: "a schedule's 0 as the most is forgotten", file: required + "schedules: [" + atNight + "maxReplicas: 0}]",
			want: []string{"schedules[0]: " + forgotten},
		},
		{
			name: "that is said once", file: required + "schedules: [" + atNight + "maxReplicas: 0}, " + inTheMorning + "minReplicas: 0}]",
			want: []string{"schedules[0]: " + forgotten},
		},
		{name: "a schedule's 0 is kept", file: required + "state: {store: file, path: /state}\nschedules: [" + atNight + "minReplicas: 0}]"},
		{name: "0 is never taken for disabled", file: required + "minReplicas: 0\nschedules: [" + atNight + "maxReplicas: 0}]"},
		{
			name: "leaders that know nothing of each other", file: required + "leaderElection: {enabled: true}",
			want: []string{
				"leaderElection: a new leader does not know of the pause, hold or override, nor of the scale events, of the one before: " +
					"set state.store to configMap",
			},
		},
		{
			name: "leaders that share a file", file: required + "leaderElection: {enabled: true}\nstate: {store: file, path: /shared/state}",
			want: []string{
				"state.store: a file cannot tell that another replica has written it, if they share it at all: with leaderElection use configMap",
			},
		},
		{
			name: "schedules that do not take turns",
			file: required + `
schedules:
- {name: a, start: 30 7 * * mon-fri, end: 0 19 * * *, minReplicas: 3}
- {name: b, start: 0 7-9 * * *, end: 0 19 * * *, minReplicas: 3}
- {name: c, start: 0 0 * * 1-5, end: 0 0 * * 2-6, minReplicas: 3}
- {name: d, start: 30 7 * * mon-fri, end: 0 19 * * mon-fri, minReplicas: 3}
- {name: e, start: 0 22 * * *, end: 0 6 * * *, minReplicas: 3}
- {name: f, start: 0 18 * * fri, end: 0 8 * * mon, minReplicas: 3}
- {name: g, start: "@monthly", end: 0 0 8 * *, minReplicas: 3}
- {name: h, start: "0 8,18 * * *", end: "0 12,22 * * *", minReplicas: 3}
- {name: i, start: "0 0 29 2 *", end: "0 0 1 3 *", minReplicas: 3}
`,
			want: []string{
				"schedules[0]: ends twice after one start, as on Fri 5 Jan 19:00 and Sat 6 Jan 19:00: it is in force until the last; give every end a start",
				"schedules[1]: begins twice before it ends, as on Mon 1 Jan 07:00 and Mon 1 Jan 08:00: it is in force from the last only; give every start an end",
				"schedules[2]: begins when it ends, as on Tue 2 Jan 00:00, and so does not begin then: let it end a minute later, or not at all",
				"schedules[8]: ends twice after one start, as on Fri 1 Mar 00:00 and Sat 1 Mar 00:00: it is in force until the last; give every end a start",
			},
		},
		{
			name: "unknown keys in the new blocks",
			file: required + "behavior: {scaleup: {stabilisationWindowSeconds: 5}}\nschedules: [" + atNight + "minReplicas: 2, cron: a}]\nstate: {stor: none}",
			want: []string{
				"behavior.scaleUp.stabilisationWindowSeconds: unknown key, ignored; did you mean stabilizationWindowSeconds?",
				"schedules[0].cron: unknown key, ignored",
				"state.stor: unknown key, ignored; did you mean store?",
			},
		},
		{
			name: "more pods at once than a worker answers",
			file: required + "metric: {type: worker, worker: {entrypoint: x, processes: 2, maxInFlight: 3}}\ngatherConcurrency: 7",
			want: []string{
				"line 5: key \"metric\" already set in map; the last one counts",
				"gatherConcurrency: 7 is more than the 6 that metric.worker answers at once (processes times maxInFlight), which count",
			},
		},
		{
			name: "what is about pods, in per-resource",
			file: required + "runMode: per-resource\ngatherConcurrency: 5\nonPodFailure: skip",
			want: []string{
				"gatherConcurrency: has no effect with the runMode per-resource, which asks once",
				"onPodFailure: has no effect with the runMode per-resource, which asks about no pod",
			},
		},
		{
			name: "the whole repository for everybody who may commit files",
			file: required + "gitOps: {repository: /r, mode: instead, file: f, replicas: r, update: {enabled: true, allowedPath: .}}",
			want: []string{"gitOps.update.allowedPath: the whole repository, with .gitmodules and the workflows of its CI, may be committed to: name a folder, such as apps"},
		},
		{
			name: "a folder of it",
			file: required + "gitOps: {repository: /r, mode: instead, file: f, replicas: r, update: {enabled: true, allowedPath: apps}}",
		},
		{
			name: "the user's own keys are none of ours",
			file: required + `
preMetric: {type: http, http: {method: GET, url: "http://a", successCodes: [200], parameterMode: body, headers: {X-Token: a, x-token: b}}}
kubernetesMetricSpecs:
- type: External
  external: {metric: {name: queue, selector: {matchLabels: {App: a, app: b, minReplica: c}}}, target: {type: Value}}`,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			loaded, err := load(t, test.file, test.env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, loaded.Warnings); diff != "" {
				t.Errorf("unexpected warnings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWarningsComeWithFaults(t *testing.T) {
	loaded, err := load(t, "minReplica: 5\nleaderElection: {enabled: true}", nil)
	if err == nil || len(loaded.Warnings) != 1 {
		t.Errorf("got %q and the error %v, want a warning beside the faults", loaded.Warnings, err)
	}
}

func TestTheLastOfRepeatedKeysCounts(t *testing.T) {
	for name, file := range map[string]string{
		"YAML":            required + "interval: 4\ninterval: 5",
		"JSON":            requiredJSON(`"interval": 4, "interval": 5`),
		"in another case": required + "interval: 5\nINTERVAL: 4",
	} {
		t.Run(name, func(t *testing.T) {
			loaded, err := load(t, file, nil)
			if err != nil || loaded.Config.Interval != 5 {
				t.Errorf("got the interval %d and the error %v, want 5", loaded.Config.Interval, err)
			}
		})
	}
}

func TestStrayVariables(t *testing.T) {
	got := config.Stray([]string{
		"PATH=/bin", "minReplicas=3", "CPA_dryRun=true", "CPA_maxOutputBytes=5", "CPA", "=x",
		"dryRun=true", "CPA_dryrun=true", "CPA_minReplicas=2", "CPA_colour=red",
	})
	want := []string{
		"the environment variable dryRun is not read: if it is meant for the configuration, name it CPA_dryRun",
		"the environment variable CPA_dryrun is unknown, and not read; did you mean CPA_dryRun?",
		"the environment variable CPA_minReplicas is unknown, and not read; did you mean minReplicas?",
		"the environment variable CPA_colour is unknown, and not read",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("warnings (-want +got):\n" + diff)
	}
}
