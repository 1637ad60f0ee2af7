// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	stdcmp "cmp"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// everything is a configuration that uses every key, one by one.
const everything = `
scaleTargetRef:
  apiVersion: argoproj.io/v1alpha1
  kind: rollout
  name: web.example
namespace: shop
metric:
  type: http
  timeout: 2500
  http:
    method: POST
    url: https://metrics.example:8443/value?of=web
    headers: {X-Team: shop, x-count: 5, x-on: yes}
    successCodes: [200, 202]
    parameterMode: query
    caCert: /ca.pem
    clientCert: /client.pem
    clientKey: /client-key.pem
evaluate:
  type: shell
  timeout: 100
  shell:
    entrypoint: python
    command: [/evaluate.py, -n, 5, 1.5, true, null, ""]
    logStderr: true
preMetric: &hook {type: shell, timeout: 1, shell: {entrypoint: hook}}
postMetric: *hook
preEvaluate: *hook
postEvaluate:
  type: worker
  timeout: 3
  worker: {entrypoint: worker, command: [-u, 7], processes: 2, maxInFlight: 8, maxRequests: 1000}
preScale: *hook
postScale: {<<: *hook, timeout: 2}
interval: 10000
startTime: 60000
runMode: per-resource
gatherConcurrency: 12
onPodFailure: skip
minReplicas: 0
maxReplicas: 2147483647
downscaleStabilization: 300
behavior:
  scaleUp:
    stabilizationWindowSeconds: 30
    selectPolicy: Disabled
    policies: [{type: Pods, value: 2, periodSeconds: 60}, {type: Percent, value: 10, periodSeconds: 1800}]
    tolerance: 0.05
  scaleDown:
    stabilizationWindowSeconds: 3600
    selectPolicy: Min
    policies: [{type: Pods, value: 1, periodSeconds: 1}]
    tolerance: 5m
schedules:
- name: night
  start: 0 22 * * *
  end: "@daily"
  timezone: America/Sao_Paulo
  minReplicas: 0
  maxReplicas: 1
  priority: -2
- {name: day, start: "@hourly", end: 30 * * * *, maxReplicas: 5}
fallback: {failureThreshold: 3, replicas: 4, behavior: currentReplicasIfLower}
dryRun: true
state: {store: file, path: /state.json}
kubernetesMetricSpecs:
- type: Resource
  resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}
- type: ContainerResource
  containerResource: {name: memory, container: app, target: {type: AverageValue, averageValue: 10Mi}}
- type: Pods
  pods:
    metric: {name: hits, selector: {matchLabels: {App: a}, matchExpressions: [{key: tier, operator: In, values: [x, z]}]}}
    target: {type: AverageValue, averageValue: 100}
- type: Object
  object:
    describedObject: {kind: Service, name: web}
    metric: {name: hits}
    target: {type: Value, value: 0.5}
- type: External
  external: {metric: {name: queue}, target: {type: Value}}
requireKubernetesMetrics: true
initialReadinessDelay: 10
cpuInitializationPeriod: 20
maxOutputBytes: 1024
logVerbosity: 3
logFormat: json
leaderElection: {enabled: true, leaseDuration: 30, renewDeadline: 20, retryPeriod: 5}
apiConfig: {enabled: true, useHTTPS: true, port: 8443, host: "[::1]", certFile: /cert.pem, keyFile: /key.pem,
  clientCAFile: /clients.pem, page: false, rateLimit: {perCaller: 60, total: 0}, auth: {
  token: {readFile: /read, operateFile: /operate, configureFile: /configure}, kubernetes: {enabled: true, audiences: [autoscaler]},
  certificates: [{name: grafana, role: read}, {name: "*", role: operate}]}}
`

// decoded is what everything says.
func decoded() config.Config {
	hook := func(timeout config.Milliseconds) *config.Method {
		return &config.Method{Type: config.MethodShell, Timeout: timeout, Shell: &config.Shell{Entrypoint: "hook"}}
	}
	return config.Config{
		Process: config.Process{
			APIConfig: config.API{
				Enabled: true, UseHTTPS: true, Port: 8443, Host: "::1", CertFile: "/cert.pem", KeyFile: "/key.pem",
				ClientCAFile: "/clients.pem", Page: new(false), RateLimit: config.RateLimit{PerCaller: new(60), Total: new(0)},
				Auth: config.Auth{
					Token:        config.TokenAuth{ReadFile: "/read", OperateFile: "/operate", ConfigureFile: "/configure"},
					Kubernetes:   config.KubernetesAuth{Enabled: true, Audiences: []string{"autoscaler"}},
					Certificates: []config.CertificateAuth{{Name: "grafana", Role: config.RoleRead}, {Name: "*", Role: config.RoleOperate}},
				},
			},
			LogVerbosity:   3,
			LogFormat:      config.LogJSON,
			LeaderElection: config.LeaderElection{Enabled: true, LeaseDuration: 30, RenewDeadline: 20, RetryPeriod: 5},
		},
		Autoscaler: config.Autoscaler{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{
				APIVersion: "argoproj.io/v1alpha1", Kind: "rollout", Name: "web.example",
			},
			Namespace: "shop",
			Metric: &config.Method{Type: config.MethodHTTP, Timeout: 2500, HTTP: &config.HTTP{
				Method: "POST", URL: "https://metrics.example:8443/value?of=web",
				Headers:      map[string]string{"X-Team": "shop", "x-count": "5", "x-on": "true"},
				SuccessCodes: []int{200, 202}, ParameterMode: config.ParameterQuery,
				CACert: "/ca.pem", ClientCert: "/client.pem", ClientKey: "/client-key.pem",
			}},
			Evaluate: &config.Method{Type: config.MethodShell, Timeout: 100, Shell: &config.Shell{
				Entrypoint: "python", Command: []string{"/evaluate.py", "-n", "5", "1.5", "true", "", ""}, LogStderr: true,
			}},
			PreMetric: hook(1), PostMetric: hook(1), PreEvaluate: hook(1),
			PostEvaluate: &config.Method{Type: config.MethodWorker, Timeout: 3, Worker: &config.Worker{
				Entrypoint: "worker", Command: []string{"-u", "7"}, Processes: 2, MaxInFlight: 8, MaxRequests: 1000,
			}},
			PreScale: hook(1), PostScale: hook(2),
			Interval: 10000, StartTime: 60000, RunMode: config.PerResource,
			GatherConcurrency: 12, OnPodFailure: config.PodFailureSkip,
			MinReplicas: 0, MaxReplicas: 2147483647, DownscaleStabilization: new(config.Seconds(300)),
			KubernetesMetricSpecs:    everySpec(),
			RequireKubernetesMetrics: true,
			InitialReadinessDelay:    10, CPUInitializationPeriod: 20,
			MaxOutputBytes: 1024,
			Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{
				ScaleUp: &autoscalingv2.HPAScalingRules{
					StabilizationWindowSeconds: new(int32(30)),
					SelectPolicy:               new(autoscalingv2.DisabledPolicySelect),
					Policies:                   []autoscalingv2.HPAScalingPolicy{pods(2, 60), percent(10, 1800)},
					Tolerance:                  new(resource.MustParse("0.05")),
				},
				ScaleDown: &autoscalingv2.HPAScalingRules{
					StabilizationWindowSeconds: new(int32(3600)),
					SelectPolicy:               new(autoscalingv2.MinChangePolicySelect),
					Policies:                   []autoscalingv2.HPAScalingPolicy{pods(1, 1)},
					Tolerance:                  new(resource.MustParse("0.005")),
				},
			},
			Schedules: []config.Schedule{
				{
					Name: "night", Start: "0 22 * * *", End: "@daily", Timezone: "America/Sao_Paulo",
					MinReplicas: new(int32(0)), MaxReplicas: new(int32(1)), Priority: -2,
				},
				{Name: "day", Start: "@hourly", End: "30 * * * *", Timezone: "UTC", MaxReplicas: new(int32(5))},
			},
			Fallback: &config.Fallback{FailureThreshold: 3, Replicas: new(int32(4)), Behavior: config.FallbackCurrentIfLower},
			DryRun:   true,
			State:    config.State{Store: config.StateFile, Path: "/state.json"},
		},
	}
}

func TestLoadDecodesEveryKey(t *testing.T) {
	loaded, err := load(t, everything, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(decoded(), loaded.Config); diff != "" {
		t.Errorf("unexpected configuration (-want +got):\n%s", diff)
	}
	if len(loaded.Warnings) != 3 || !strings.HasPrefix(loaded.Warnings[2], "state.store: a file cannot tell") {
		t.Errorf("unexpected warnings: %q", loaded.Warnings)
	}
	if got := loaded.Config.Interval.Duration(); got != 10*time.Second {
		t.Errorf("the interval is %s, want 10s", got)
	}
	if got := loaded.Config.DownscaleStabilization.Duration(); got != 5*time.Minute {
		t.Errorf("the window is %s, want 5m", got)
	}
}

func TestLoadDecodesEveryKeyFromTheEnvironment(t *testing.T) {
	loaded, err := load(t, "{}", variables(t, everything))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(decoded(), loaded.Config); diff != "" {
		t.Errorf("unexpected configuration (-want +got):\n%s", diff)
	}
}

// variables is a file as environment variables, named as the reference says.
func variables(t *testing.T, file string) environment {
	t.Helper()
	var keys map[string]any
	if err := yaml.Unmarshal([]byte(file), &keys); err != nil {
		t.Fatal(err)
	}
	env := environment{}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[config.Config]()) {
		key := field.Tag.Get("json")
		value, ok := keys[key]
		if !ok {
			continue
		}
		name := stdcmp.Or(field.Tag.Get("env"), key)
		if text, ok := value.(string); ok {
			env[name] = text
			continue
		}
		written, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		env[name] = string(written)
	}
	if len(env) != len(keys) {
		t.Fatalf("%d variables for %d keys", len(env), len(keys))
	}
	return env
}

func everySpec() []autoscalingv2.MetricSpec {
	return []autoscalingv2.MetricSpec{
		{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
			Name:   corev1.ResourceCPU,
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(50))},
		}},
		{Type: autoscalingv2.ContainerResourceMetricSourceType, ContainerResource: &autoscalingv2.ContainerResourceMetricSource{
			Name: corev1.ResourceMemory, Container: "app",
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("10Mi"))},
		}},
		{Type: autoscalingv2.PodsMetricSourceType, Pods: &autoscalingv2.PodsMetricSource{
			Metric: autoscalingv2.MetricIdentifier{Name: "hits", Selector: &metav1.LabelSelector{
				MatchLabels:      map[string]string{"App": "a"},
				MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "tier", Operator: metav1.LabelSelectorOpIn, Values: []string{"x", "z"}}},
			}},
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: new(resource.MustParse("100"))},
		}},
		{Type: autoscalingv2.ObjectMetricSourceType, Object: &autoscalingv2.ObjectMetricSource{
			DescribedObject: autoscalingv2.CrossVersionObjectReference{Kind: "Service", Name: "web"},
			Metric:          autoscalingv2.MetricIdentifier{Name: "hits"},
			Target:          autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType, Value: new(resource.MustParse("0.5"))},
		}},
		{Type: autoscalingv2.ExternalMetricSourceType, External: &autoscalingv2.ExternalMetricSource{
			Metric: autoscalingv2.MetricIdentifier{Name: "queue"},
			Target: autoscalingv2.MetricTarget{Type: autoscalingv2.ValueMetricType},
		}},
	}
}

func TestLoadReportsValuesOfTheWrongType(t *testing.T) {
	const spec = "kubernetesMetricSpecs: [{type: Pods, pods: {metric: {name: a}, target: {type: AverageValue, averageValue: "
	tests := []struct {
		file string
		env  environment
		want []string
	}{
		{file: `interval: "abc"`, want: []string{`interval: must be a whole number of milliseconds, got the text "abc"`}},
		{file: `interval: "5000"`, want: []string{`interval: must be a whole number of milliseconds, got the text "5000": write it without quotes`}},
		{file: `interval: 1.5`, want: []string{`interval: must be a whole number of milliseconds, got 1.5`}},
		{file: `interval: [5]`, want: []string{`interval: must be a whole number of milliseconds, got a list`}},
		{file: `interval: {ms: 5}`, want: []string{`interval: must be a whole number of milliseconds, got a mapping`}},
		{file: `interval: true`, want: []string{`interval: must be a whole number of milliseconds, got true`}},
		{file: `interval: 1e30`, want: []string{`interval: must be from -9223372036854775808 to 9223372036854775807, got 1e+30`}},
		{file: `interval: 9223372036854775808`, want: []string{`interval: must be from -9223372036854775808 to 9223372036854775807, got 9223372036854775808`}},
		{file: `downscaleStabilization: 5m`, want: []string{`downscaleStabilization: must be a whole number of seconds, got the text "5m"`}},
		{file: `minReplicas: 2147483648`, want: []string{`minReplicas: must be from -2147483648 to 2147483647, got 2147483648`}},
		{file: `maxReplicas: 2147483648`, want: []string{`maxReplicas: must be from -2147483648 to 2147483647, got 2147483648`}},
		{file: "minReplicas: 20\nmaxReplicas: many", want: []string{`maxReplicas: must be a whole number, got the text "many"`}},
		{file: `requireKubernetesMetrics: 1`, want: []string{`requireKubernetesMetrics: must be true or false, got 1`}},
		{file: `requireKubernetesMetrics: "true"`, want: []string{`requireKubernetesMetrics: must be true or false, got the text "true": write it without quotes`}},
		{file: `namespace: [a]`, want: []string{`namespace: must be text, got a list`}},
		{file: `namespace: !!binary //8=`, want: []string{`namespace: must be UTF-8 text`}},
		{file: `apiConfig: yes`, want: []string{`apiConfig: must be a mapping of keys to values, got true or false`}},
		{file: `scaleTargetRef: deployment/web`, want: []string{`scaleTargetRef: must be a mapping of keys to values, got text`}},
		{file: `metric: metric.py`, want: []string{`metric: must be a mapping of keys to values, got text`}},
		{file: `metric: {type: shell, shell: metric.py}`, want: []string{`metric.shell: must be a mapping of keys to values, got text`}},
		{
			file: `metric: {type: shell, timeout: 5s, shell: {entrypoint: [a], command: a b, logStderr: maybe}}`,
			want: []string{
				`metric.shell.command: must be a list, got text`,
				`metric.shell.entrypoint: must be text, got a list`,
				`metric.shell.logStderr: must be true or false, got the text "maybe"`,
				`metric.timeout: must be a whole number of milliseconds, got the text "5s"`,
			},
		},
		{
			file: `metric: {type: http, http: {url: "http://a", parameterMode: body, headers: [a], successCodes: [OK, 200, 20]}}`,
			want: []string{
				`metric.http.headers: must be a mapping of names to values, got a list`,
				`metric.http.successCodes[0]: must be a whole number, got the text "OK"`,
				`metric.http.successCodes[2]: must be a status code from 100 to 599, got 20`,
			},
		},
		{
			file: `metric: {type: http, http: {url: "http://a", parameterMode: body, successCodes: [200], headers: {"a b": [x], c: {}}}}`,
			want: []string{
				`metric.http.headers."a b": must be text, got a list`,
				`metric.http.headers.c: must be text, got a mapping`,
			},
		},
		{
			file: "behavior: {scaleUp: fast, scaleDown: {stabilizationWindowSeconds: 5m, selectPolicy: [Max], tolerance: some, " +
				"policies: [one, {type: Pods, value: 10%, periodSeconds: 0}]}}",
			want: []string{
				`behavior.scaleDown.policies[0]: must be a mapping of keys to values, got text`,
				`behavior.scaleDown.policies[1].periodSeconds: must be from 1 to 1800, got 0`,
				`behavior.scaleDown.policies[1].value: must be a whole number, got the text "10%"`,
				`behavior.scaleDown.selectPolicy: must be text, got a list`,
				`behavior.scaleDown.stabilizationWindowSeconds: must be a whole number, got the text "5m"`,
				`behavior.scaleDown.tolerance: cannot be read: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$', got the text "some"`,
				`behavior.scaleUp: must be a mapping of keys to values, got text`,
			},
		},
		{
			file: "schedules: [night, {name: [a], start: {}, end: {}, timezone: [], minReplicas: few, priority: high}]",
			want: []string{
				`schedules[0]: must be a mapping of keys to values, got text`,
				`schedules[1].end: must be text, got a mapping`,
				`schedules[1].minReplicas: must be a whole number, got the text "few"`,
				`schedules[1].name: must be text, got a list`,
				`schedules[1].priority: must be a whole number, got the text "high"`,
				`schedules[1].start: must be text, got a mapping`,
				`schedules[1].timezone: must be text, got a list`,
			},
		},
		{
			file: `fallback: {failureThreshold: three, replicas: many, behavior: []}`,
			want: []string{
				`fallback.behavior: must be text, got a list`,
				`fallback.failureThreshold: must be a whole number, got the text "three"`,
				`fallback.replicas: must be a whole number, got the text "many"`,
			},
		},
		{file: "minReplicas: few\nfallback: {failureThreshold: 1, replicas: 0}", want: []string{`minReplicas: must be a whole number, got the text "few"`}},
		{file: `dryRun: 1`, want: []string{`dryRun: must be true or false, got 1`}},
		{file: `state: configMap`, want: []string{`state: must be a mapping of keys to values, got text`}},
		{
			file: `leaderElection: {enabled: "true", leaseDuration: 15s}`,
			want: []string{
				`leaderElection.enabled: must be true or false, got the text "true": write it without quotes`,
				`leaderElection.leaseDuration: must be a whole number of seconds, got the text "15s"`,
			},
		},
		{file: `kubernetesMetricSpecs: {type: Resource}`, want: []string{`kubernetesMetricSpecs: must be a list, got a mapping`}},
		{file: `kubernetesMetricSpecs: [cpu]`, want: []string{`kubernetesMetricSpecs[0]: must be a mapping of keys to values, got text`}},
		{
			file: spec + "much}}}]",
			want: []string{`kubernetesMetricSpecs[0].pods.target.averageValue: cannot be read: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$', got the text "much"`},
		},
		{
			file: spec + "[5]}}}]",
			want: []string{`kubernetesMetricSpecs[0].pods.target.averageValue: cannot be read: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$', got a list`},
		},
		{
			file: spec + `"1e-2147483648"}}}]`,
			want: []string{`kubernetesMetricSpecs[0].pods.target.averageValue: cannot be read: the number is too large or too precise, got the text "1e-2147483648"`},
		},
		{
			env: environment{"interval": "often", "metric": "{type: shell, shell: 5}", "kubernetesMetricSpecs": "[}", "apiConfig": "null"},
			want: []string{
				`apiConfig: has no value: unset it, or give it one (from the environment variable apiConfig)`,
				`interval: must be a whole number of milliseconds, got the text "often" (from the environment variable interval)`,
				`kubernetesMetricSpecs: must be YAML or JSON: line 1: did not find expected node content (from the environment variable kubernetesMetricSpecs)`,
				`metric.shell: must be a mapping of keys to values, got a number (from the environment variable metric)`,
			},
		},
		{
			env: environment{"CPA_schedules": "night", "CPA_behavior": "{scaleUp: {policies: []}}", "CPA_state": `{"path":"x"}`, "CPA_dryRun": ""},
			want: []string{
				`behavior.scaleUp.policies: must hold at least one policy: leave the key out for the default, or set selectPolicy to Disabled not to scale this way (from the environment variable CPA_behavior)`,
				`dryRun: is set but empty: unset it, or give it a value (from the environment variable CPA_dryRun)`,
				`schedules: must be a list, got text (from the environment variable CPA_schedules)`,
				`state.store: is required: "none", "file" or "configMap" (from the environment variable CPA_state)`,
			},
		},
		{
			env: environment{"interval": "", "metric": "", "apiConfig": " ", "namespace": "", "CPA_maxOutputBytes": "", "requireKubernetesMetrics": ""},
			want: []string{
				`apiConfig: is set but empty: unset it, or give it a value (from the environment variable apiConfig)`,
				`interval: is set but empty: unset it, or give it a value (from the environment variable interval)`,
				`maxOutputBytes: is set but empty: unset it, or give it a value (from the environment variable CPA_maxOutputBytes)`,
				`metric: is set but empty: unset it, or give it a value (from the environment variable metric)`,
				`namespace: must not be empty (from the environment variable namespace)`,
				`requireKubernetesMetrics: is set but empty: unset it, or give it a value (from the environment variable requireKubernetesMetrics)`,
			},
		},
	}
	for _, test := range tests {
		t.Run(test.file, func(t *testing.T) {
			_, err := load(t, base(test.file)+test.file, test.env)
			wantFaults(t, err, test.want)
		})
	}
}

// base is the lines of required whose keys a file does not give itself.
func base(file string) string {
	var lines strings.Builder
	for line := range strings.Lines(required) {
		if key, _, _ := strings.Cut(line, ":"); !strings.HasPrefix(file, key+":") {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

func wantFaults(t *testing.T, err error, want []string) {
	t.Helper()
	var faults config.Faults
	if err != nil && !errors.As(err, &faults) {
		t.Fatalf("got the error %v, want Faults", err)
	}
	var got []string
	for _, fault := range faults {
		got = append(got, fault.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("unexpected faults (-want +got):\n%s", diff)
	}
}

// The decoder knows the kinds of values that the configuration has; a new field
// of another kind must not be met by a user first.
func TestEveryFieldCanBeDecoded(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(path string, kind reflect.Type)
	walk = func(path string, kind reflect.Type) {
		if seen[kind] || kind == reflect.TypeFor[resource.Quantity]() {
			return
		}
		seen[kind] = true
		switch kind.Kind() {
		case reflect.Struct:
			for _, field := range reflect.VisibleFields(kind) {
				if field.Anonymous {
					continue
				}
				if field.Tag.Get("json") == "" {
					t.Errorf("%s.%s has no json tag, so it cannot be configured", path, field.Name)
				}
				walk(path+"."+field.Name, field.Type)
			}
		case reflect.Map:
			if kind.Key().Kind() != reflect.String {
				t.Errorf("%s has keys of the kind %s", path, kind.Key().Kind())
			}
			walk(path, kind.Elem())
		case reflect.Pointer, reflect.Slice:
			walk(path, kind.Elem())
		case reflect.String, reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64:
		default:
			t.Errorf("%s is of the kind %s, which the decoder does not know", path, kind.Kind())
		}
	}
	walk("Config", reflect.TypeFor[config.Config]())
}
