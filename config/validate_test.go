// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

func TestValidateReportsWhatIsMissing(t *testing.T) {
	wantFaults(t, config.Default().Validate(), []string{
		`evaluate: is required: the method that runs it, such as {type: shell, shell: {entrypoint: ...}}`,
		`metric: is required: the method that runs it, such as {type: shell, shell: {entrypoint: ...}}`,
		`scaleTargetRef: is required: apiVersion, kind and name of what is scaled`,
	})
}

func TestValidate(t *testing.T) {
	tests := map[string]struct {
		change func(*config.Config)
		// want lists the faults; none means that the value is valid.
		want []string
	}{
		"nothing changed": {change: func(*config.Config) {}},

		"target without apiVersion": {
			change: func(c *config.Config) { c.ScaleTargetRef.APIVersion = "" },
			want:   []string{"scaleTargetRef.apiVersion: is required, such as apps/v1"},
		},
		"target without kind": {
			change: func(c *config.Config) { c.ScaleTargetRef.Kind = "" },
			want:   []string{"scaleTargetRef.kind: is required, such as Deployment"},
		},
		"target without name": {
			change: func(c *config.Config) { c.ScaleTargetRef.Name = "" },
			want:   []string{"scaleTargetRef.name: is required"},
		},
		"target of the core group": {change: func(c *config.Config) { c.ScaleTargetRef.APIVersion = "v1" }},
		"target with a wrong apiVersion": {
			change: func(c *config.Config) { c.ScaleTargetRef.APIVersion = "apps/v1/deployments" },
			want:   []string{`scaleTargetRef.apiVersion: must be of the form group/version, such as apps/v1, got "apps/v1/deployments"`},
		},
		"target with dots in its name": {change: func(c *config.Config) { c.ScaleTargetRef.Name = "web.example" }},
		"target with a name nothing has": {
			change: func(c *config.Config) { c.ScaleTargetRef.Name = "deployment/web" },
			want:   []string{`scaleTargetRef.name: "deployment/web" is no name Kubernetes allows: ` + subdomainRule},
		},
		"no pods at once": {
			change: func(c *config.Config) { c.GatherConcurrency = -1 },
			want:   []string{"gatherConcurrency: must be from 0 to 1024, got -1"},
		},
		"too many pods at once": {
			change: func(c *config.Config) { c.GatherConcurrency = 1025 },
			want:   []string{"gatherConcurrency: must be from 0 to 1024, got 1025"},
		},
		"an unknown answer to a pod's failure": {
			change: func(c *config.Config) { c.OnPodFailure = "ignore" },
			want:   []string{`onPodFailure: must be "fail" or "skip", got "ignore"`},
		},
		"no namespace": {change: func(c *config.Config) { c.Namespace = "" }, want: []string{"namespace: must not be empty"}},
		"namespace with a name none has": {
			change: func(c *config.Config) { c.Namespace = "My Shop" },
			want:   []string{`namespace: "My Shop" is no name Kubernetes allows: ` + labelRule},
		},

		"fewest replicas 0": {change: func(c *config.Config) { c.MinReplicas = 0 }},
		"as few as most":    {change: func(c *config.Config) { c.MinReplicas, c.MaxReplicas = 10, 10 }},
		"fewer than none":   {change: func(c *config.Config) { c.MinReplicas = -1 }, want: []string{"minReplicas: must be at least 0, got -1"}},
		"at most none":      {change: func(c *config.Config) { c.MinReplicas, c.MaxReplicas = 0, 0 }},
		"fewest above the most": {
			change: func(c *config.Config) { c.MinReplicas = 11 },
			want:   []string{"minReplicas: must not be above maxReplicas: 11 is above 10"},
		},
		"run mode": {
			change: func(c *config.Config) { c.RunMode = "Per-Pod" },
			want:   []string{`runMode: must be "per-pod" or "per-resource", got "Per-Pod"`},
		},
		"no run mode": {change: func(c *config.Config) { c.RunMode = "" }, want: []string{`runMode: is required: "per-pod" or "per-resource"`}},

		"interval 1":          {change: func(c *config.Config) { c.Interval = 1 }},
		"interval 0":          {change: func(c *config.Config) { c.Interval = 0 }, want: []string{"interval: must be at least 1, got 0"}},
		"start time 0":        {change: func(c *config.Config) { c.StartTime = 0 }, want: []string{"startTime: must be at least 1, got 0"}},
		"longest interval":    {change: func(c *config.Config) { c.Interval = longestMilliseconds }},
		"interval too long":   {change: func(c *config.Config) { c.Interval = longestMilliseconds + 1 }, want: []string{"interval: must be at most 9223372036854, got 9223372036855"}},
		"start time too long": {change: func(c *config.Config) { c.StartTime = longestMilliseconds + 1 }, want: []string{"startTime: must be at most 9223372036854, got 9223372036855"}},
		"durations below 0": {
			change: func(c *config.Config) {
				c.DownscaleStabilization, c.InitialReadinessDelay, c.CPUInitializationPeriod = new(config.Seconds(-1)), -2, -3
			},
			want: []string{
				"cpuInitializationPeriod: must be at least 0, got -3",
				"downscaleStabilization: must be at least 0, got -1",
				"initialReadinessDelay: must be at least 0, got -2",
			},
		},
		"durations too long": {
			change: func(c *config.Config) {
				c.DownscaleStabilization, c.InitialReadinessDelay, c.CPUInitializationPeriod = new(config.Seconds(math.MaxInt64)), math.MaxInt64, math.MaxInt64
			},
			want: []string{
				"cpuInitializationPeriod: must be at most 9223372036, got 9223372036854775807",
				"downscaleStabilization: must be at most 9223372036, got 9223372036854775807",
				"initialReadinessDelay: must be at most 9223372036, got 9223372036854775807",
			},
		},
		"output of 64 MiB":   {change: func(c *config.Config) { c.MaxOutputBytes = 64 << 20 }},
		"output of a byte":   {change: func(c *config.Config) { c.MaxOutputBytes = 1 }},
		"output of nothing":  {change: func(c *config.Config) { c.MaxOutputBytes = 0 }, want: []string{"maxOutputBytes: must be from 1 to 67108864 (64 MiB), got 0"}},
		"output of too much": {change: func(c *config.Config) { c.MaxOutputBytes = 64<<20 + 1 }, want: []string{"maxOutputBytes: must be from 1 to 67108864 (64 MiB), got 67108865"}},
		"high verbosity":     {change: func(c *config.Config) { c.LogVerbosity = 100 }},
		"negative verbosity": {change: func(c *config.Config) { c.LogVerbosity = -1 }},
		"log format":         {change: func(c *config.Config) { c.LogFormat = "JSON" }, want: []string{`logFormat: must be "text" or "json", got "JSON"`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			wantFaults(t, with(test.change).Validate(), test.want)
		})
	}
}

func TestValidateFallback(t *testing.T) {
	tests := map[string]struct {
		fallback config.Fallback
		want     []string
	}{
		"as few as allowed":   {fallback: config.Fallback{FailureThreshold: 1, Replicas: new(int32(2)), Behavior: config.FallbackStatic}},
		"as many as allowed":  {fallback: config.Fallback{FailureThreshold: 9, Replicas: new(int32(8)), Behavior: config.FallbackCurrentIfHigher}},
		"without a count":     {fallback: config.Fallback{FailureThreshold: 1, Behavior: config.FallbackCurrent}},
		"with a count anyway": {fallback: config.Fallback{FailureThreshold: 1, Replicas: new(int32(5)), Behavior: config.FallbackCurrent}},
		"nothing given": {
			want: []string{
				`fallback.behavior: is required: "static", "currentReplicas", "currentReplicasIfHigher" or "currentReplicasIfLower"`,
				"fallback.failureThreshold: is required: how many runs in a row must fail, such as 3",
				"fallback.replicas: is required: the count to fall back to, from minReplicas to maxReplicas",
			},
		},
		"a count that is missing": {
			fallback: config.Fallback{FailureThreshold: 1, Behavior: config.FallbackCurrentIfLower},
			want:     []string{"fallback.replicas: is required: the count to fall back to, from minReplicas to maxReplicas"},
		},
		"too few": {
			fallback: config.Fallback{FailureThreshold: 1, Replicas: new(int32(1)), Behavior: config.FallbackStatic},
			want:     []string{"fallback.replicas: must be from 2 to 8, which are minReplicas and maxReplicas, got 1"},
		},
		"too many, though it does not matter": {
			fallback: config.Fallback{FailureThreshold: 1, Replicas: new(int32(9)), Behavior: config.FallbackCurrent},
			want:     []string{"fallback.replicas: must be from 2 to 8, which are minReplicas and maxReplicas, got 9"},
		},
		"unknown": {
			fallback: config.Fallback{FailureThreshold: -1, Replicas: new(int32(5)), Behavior: "Static"},
			want: []string{
				`fallback.behavior: must be "static", "currentReplicas", "currentReplicasIfHigher" or "currentReplicasIfLower", got "Static"`,
				"fallback.failureThreshold: must be at least 1, got -1",
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			wantFaults(t, with(func(c *config.Config) { c.MinReplicas, c.MaxReplicas, c.Fallback = 2, 8, &test.fallback }).Validate(), test.want)
		})
	}
}

// A fallback cannot be held to bounds that are wrong themselves.
func TestValidateReportsCrossedBoundsOnce(t *testing.T) {
	c := with(func(c *config.Config) {
		c.MinReplicas, c.MaxReplicas = 5, 4
		c.Fallback = &config.Fallback{FailureThreshold: 1, Replicas: new(int32(4)), Behavior: config.FallbackStatic}
	})
	wantFaults(t, c.Validate(), []string{"minReplicas: must not be above maxReplicas: 5 is above 4"})
}

func TestValidateState(t *testing.T) {
	tests := map[string]struct {
		state config.State
		want  []string
	}{
		"none":           {state: config.State{Store: config.StateNone}},
		"a file":         {state: config.State{Store: config.StateFile, Path: "/not/yet/there"}},
		"a ConfigMap":    {state: config.State{Store: config.StateConfigMap}},
		"unknown":        {state: config.State{Store: "configmap"}, want: []string{`state.store: must be "none", "file" or "configMap", got "configmap"`}},
		"nowhere":        {state: config.State{Path: "/state"}, want: []string{`state.store: is required: "none", "file" or "configMap"`}},
		"no path":        {state: config.State{Store: config.StateFile}, want: []string{"state.path: is required with the store file: the file to write"}},
		"a path to none": {state: config.State{Store: config.StateNone, Path: "/a"}, want: []string{"state.path: must be left out with the store none: it is for the store file"}},
		"a path beside a ConfigMap": {
			state: config.State{Store: config.StateConfigMap, Path: "/a"},
			want:  []string{"state.path: must be left out with the store configMap: it is for the store file"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			wantFaults(t, with(func(c *config.Config) { c.State = test.state }).Validate(), test.want)
		})
	}
}

func TestValidateLeaderElection(t *testing.T) {
	tests := map[string]struct {
		leases config.LeaderElection
		want   []string
	}{
		"the shortest": {leases: config.LeaderElection{Enabled: true, LeaseDuration: 3, RenewDeadline: 2, RetryPeriod: 1}},
		"the longest":  {leases: config.LeaderElection{Enabled: true, LeaseDuration: 3600, RenewDeadline: 3599, RetryPeriod: 3598}},
		"all the same": {
			leases: config.LeaderElection{Enabled: true, LeaseDuration: 5, RenewDeadline: 5, RetryPeriod: 5},
			want: []string{
				"leaderElection.leaseDuration: must be above renewDeadline: 5 is not above 5",
				"leaderElection.renewDeadline: must be above retryPeriod: 5 is not above 5",
			},
		},
		"a retry below 1": {
			leases: config.LeaderElection{Enabled: true, LeaseDuration: 15, RenewDeadline: 10, RetryPeriod: -2},
			want:   []string{"leaderElection.retryPeriod: must be at least 1, got -2"},
		},
		"too long": {
			leases: config.LeaderElection{Enabled: true, LeaseDuration: 3601, RenewDeadline: 10, RetryPeriod: 2},
			want:   []string{"leaderElection.leaseDuration: must be at most 3600, got 3601"},
		},
		"switched off, nothing matters": {leases: config.LeaderElection{LeaseDuration: -5, RenewDeadline: math.MaxInt64}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			wantFaults(t, with(func(c *config.Config) { c.LeaderElection = test.leases }).Validate(), test.want)
		})
	}
}

const (
	longestMilliseconds = math.MaxInt64 / 1_000_000

	labelRule = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an " +
		"alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
	subdomainRule = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end " +
		"with an alphanumeric character (e.g. 'example.com', regex used for validation is " +
		`'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`
)

func TestValidateAPI(t *testing.T) {
	tests := map[string]struct {
		api  config.API
		want []string
	}{
		"as it is":         {api: config.Default().APIConfig},
		"a free port":      {api: config.API{Enabled: true}},
		"the highest port": {api: config.API{Enabled: true, Port: 65535}},
		"a port too high":  {api: config.API{Enabled: true, Port: 65536}, want: []string{"apiConfig.port: must be a port from 1 to 65535, or 0 for a free one, got 65536"}},
		"a negative port":  {api: config.API{Enabled: true, Port: -1}, want: []string{"apiConfig.port: must be a port from 1 to 65535, or 0 for a free one, got -1"}},
		"IPv6":             {api: config.API{Enabled: true, Host: "::1"}},
		"IPv6 in brackets": {api: config.API{Enabled: true, Host: "[fe80::1%eth0]"}},
		"a name":           {api: config.API{Enabled: true, Host: "localhost"}},
		"a host with a port": {
			api:  config.API{Enabled: true, Host: "127.0.0.1:80"},
			want: []string{`apiConfig.host: must be an IP address or a host name, without a port, got "127.0.0.1:80"`},
		},
		"a URL": {
			api:  config.API{Enabled: true, Host: "http://localhost"},
			want: []string{`apiConfig.host: must be an IP address or a host name, without a port, got "http://localhost"`},
		},
		"HTTPS": {api: config.API{Enabled: true, UseHTTPS: true, CertFile: "/not/yet/there", KeyFile: "/nor/this"}},
		"HTTPS without files": {
			api: config.API{Enabled: true, UseHTTPS: true},
			want: []string{
				"apiConfig.certFile: is required with useHTTPS: the file of the certificate",
				"apiConfig.keyFile: is required with useHTTPS: the file of the certificate's key",
			},
		},
		"client certificates": {api: config.API{
			Enabled: true, UseHTTPS: true, CertFile: "a", KeyFile: "b", ClientCAFile: "c",
			Auth: config.Auth{Certificates: []config.CertificateAuth{{Name: "*", Role: config.RoleRead}, {Name: "grafana", Role: config.RoleConfigure}}},
		}},
		"client certificates without HTTPS": {
			api:  config.API{Enabled: true, ClientCAFile: "c"},
			want: []string{"apiConfig.clientCAFile: needs useHTTPS, without which no client shows a certificate"},
		},
		"client certificates of nobody": {
			api: config.API{Enabled: true, Auth: config.Auth{Certificates: []config.CertificateAuth{
				{Name: "a", Role: "admin"}, {Role: config.RoleRead}, {Name: "b"}, {Name: "a", Role: config.RoleRead},
			}}},
			want: []string{
				"apiConfig.auth.certificates: needs apiConfig.clientCAFile: the file of the authorities that issue the certificates",
				`apiConfig.auth.certificates[0].role: must be "read", "operate" or "configure", got "admin"`,
				"apiConfig.auth.certificates[1].name: is required: the common name, a DNS name or a URI of a certificate, or * for any",
				`apiConfig.auth.certificates[2].role: is required: "read", "operate" or "configure"`,
				"apiConfig.auth.certificates[3].name: must be in one entry only: it is that of apiConfig.auth.certificates[0], too",
			},
		},
		"too many client certificates": {
			api: config.API{
				Enabled: true, UseHTTPS: true, CertFile: "a", KeyFile: "b", ClientCAFile: "c",
				Auth: config.Auth{Certificates: make([]config.CertificateAuth, 1001)},
			},
			want: []string{"apiConfig.auth.certificates: must hold at most 1000 elements, got 1001"},
		},
		"audiences": {api: config.API{Enabled: true, Auth: config.Auth{Kubernetes: config.KubernetesAuth{Enabled: true, Audiences: []string{"a"}}}}},
		"audiences of nothing": {
			api: config.API{Enabled: true, Auth: config.Auth{Kubernetes: config.KubernetesAuth{Audiences: []string{"a", ""}}}},
			want: []string{
				"apiConfig.auth.kubernetes.audiences: needs kubernetes.enabled: true, without which no token is reviewed",
				"apiConfig.auth.kubernetes.audiences[1]: must not be empty",
			},
		},
		"no limits": {api: config.API{Enabled: true, RateLimit: config.RateLimit{PerCaller: new(0), Total: new(0)}}},
		"limits below 0": {
			api: config.API{Enabled: true, RateLimit: config.RateLimit{PerCaller: new(-1), Total: new(math.MaxInt32 + 1)}},
			want: []string{
				"apiConfig.rateLimit.perCaller: must be from 0 to 2147483647, got -1",
				"apiConfig.rateLimit.total: must be from 0 to 2147483647, got 2147483648",
			},
		},
		"switched off, nothing matters": {api: config.API{Port: -1, Host: "a b", UseHTTPS: true, Auth: config.Auth{
			Certificates: []config.CertificateAuth{{}},
		}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			wantFaults(t, with(func(c *config.Config) { c.APIConfig = test.api }).Validate(), test.want)
		})
	}
}

func TestRoles(t *testing.T) {
	ranked := []config.Role{"", config.RoleRead, config.RoleOperate, config.RoleConfigure}
	for i, role := range ranked {
		for j, needed := range ranked {
			if got := role.Includes(needed); got != (i >= j) {
				t.Errorf("%q includes %q: got %t", role, needed, got)
			}
		}
	}
	if config.Role("root").Includes(config.RoleRead) {
		t.Error("an unknown role may read")
	}
	if config.RoleConfigure.Includes("root") {
		t.Error("an unknown role is included in one")
	}
}

func TestAuthConfigured(t *testing.T) {
	for name, test := range map[string]struct {
		auth config.Auth
		want bool
	}{
		"not":                {auth: config.Auth{}},
		"an empty list":      {auth: config.Auth{Certificates: []config.CertificateAuth{}}},
		"one file of tokens": {auth: config.Auth{Token: config.TokenAuth{ConfigureFile: "a"}}, want: true},
		"Kubernetes":         {auth: config.Auth{Kubernetes: config.KubernetesAuth{Enabled: true}}, want: true},
		"certificates":       {auth: config.Auth{Certificates: []config.CertificateAuth{{}}}, want: true},
	} {
		if got := (config.API{Auth: test.auth}).AuthConfigured(); got != test.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}

func TestServesPage(t *testing.T) {
	if !(config.API{}).ServesPage() || (config.API{Page: new(false)}).ServesPage() || !(config.API{Page: new(true)}).ServesPage() {
		t.Error("the page must be served unless page is false")
	}
}

func TestValidateMethod(t *testing.T) {
	request := func(change func(*config.HTTP)) config.Method {
		http := &config.HTTP{Method: "GET", URL: "http://a", SuccessCodes: []int{200}, ParameterMode: config.ParameterBody}
		change(http)
		return config.Method{Type: config.MethodHTTP, HTTP: http}
	}
	worker := func(w config.Worker) config.Method {
		w.Entrypoint = "a"
		return config.Method{Type: config.MethodWorker, Worker: &w}
	}
	const wholeURL = "url: must be a whole URL: http:// or https://, then a host"
	tests := map[string]struct {
		method config.Method
		want   []string
	}{
		"no type":              {method: config.Method{}, want: []string{`type: is required: "shell", "worker" or "http"`}},
		"unknown type":         {method: config.Method{Type: "Shell", Shell: &config.Shell{Entrypoint: "a"}}, want: []string{`type: must be "shell", "worker" or "http", got "Shell"`}},
		"shell without block":  {method: config.Method{Type: "shell", HTTP: &config.HTTP{}}, want: []string{"shell: is required for a method of the type shell; there is a block http: rename it, or correct the type"}},
		"http without block":   {method: config.Method{Type: "http", Shell: &config.Shell{}}, want: []string{"http: is required for a method of the type http; there is a block shell: rename it, or correct the type"}},
		"worker without block": {method: config.Method{Type: "worker", Shell: &config.Shell{}}, want: []string{"worker: is required for a method of the type worker; there is a block shell: rename it, or correct the type"}},
		"a worker":             {method: worker(config.Worker{Processes: 64, MaxInFlight: 1024, MaxRequests: 1 << 30})},
		"a worker without a program": {
			method: config.Method{Type: "worker", Worker: &config.Worker{}}, want: []string{"worker.entrypoint: is required: the program to run"},
		},
		"a worker that would be a crowd": {
			method: worker(config.Worker{Processes: 65, MaxInFlight: 1025, MaxRequests: -1}),
			want: []string{
				"worker.maxInFlight: must be from 0 to 1024, got 1025",
				"worker.maxRequests: must be at least 0, got -1",
				"worker.processes: must be from 0 to 64, got 65",
			},
		},
		"another type's block": {
			method: config.Method{Type: "shell", Shell: &config.Shell{Entrypoint: "a"}, HTTP: &config.HTTP{URL: "nonsense"}},
		},
		"negative timeout": {
			method: config.Method{Type: "shell", Timeout: -1, Shell: &config.Shell{Entrypoint: "a"}},
			want:   []string{"timeout: must be at least 0, got -1"},
		},
		"timeout too long": {
			method: config.Method{Type: "shell", Timeout: longestMilliseconds + 1, Shell: &config.Shell{Entrypoint: "a"}},
			want:   []string{"timeout: must be at most 9223372036854, got 9223372036855"},
		},
		"no entrypoint": {
			method: config.Method{Type: "shell", Shell: &config.Shell{Command: []string{"a"}}},
			want:   []string{"shell.entrypoint: is required: the program to run"},
		},
		"NUL in the entrypoint": {
			method: config.Method{Type: "shell", Shell: &config.Shell{Entrypoint: "a\x00"}},
			want:   []string{"shell.entrypoint: must not hold a NUL character, which no program can be given"},
		},
		"NUL in an argument": {
			method: config.Method{Type: "shell", Shell: &config.Shell{Entrypoint: "a", Command: []string{"b", "\x00"}}},
			want:   []string{"shell.command[1]: must not hold a NUL character, which no program can be given"},
		},

		"a request":         {method: request(func(*config.HTTP) {})},
		"method left out":   {method: request(func(h *config.HTTP) { h.Method = "" })},
		"method of its own": {method: request(func(h *config.HTTP) { h.Method = "purge" })},
		"no method": {
			method: request(func(h *config.HTTP) { h.Method = "GET /" }),
			want:   []string{`http.method: must be a request method such as GET or POST, got "GET /"`},
		},
		"no URL":               {method: request(func(h *config.HTTP) { h.URL = "" }), want: []string{"http.url: is required"}},
		"URL without scheme":   {method: request(func(h *config.HTTP) { h.URL = "user:secret@a/b" }), want: []string{"http." + wholeURL}},
		"URL of another kind":  {method: request(func(h *config.HTTP) { h.URL = "ftp://a" }), want: []string{"http." + wholeURL}},
		"URL without host":     {method: request(func(h *config.HTTP) { h.URL = "http:///a" }), want: []string{"http." + wholeURL}},
		"URL that is none":     {method: request(func(h *config.HTTP) { h.URL = "http://user:secret@[a" }), want: []string{"http.url: must be a URL: missing ']' in host"}},
		"scheme in upper case": {method: request(func(h *config.HTTP) { h.URL = "HTTPS://a:8443/b?c=d" })},
		"headers":              {method: request(func(h *config.HTTP) { h.Headers = map[string]string{"X-A": "b\tc d"} })},
		"a wrong header": {
			method: request(func(h *config.HTTP) { h.Headers = map[string]string{"X A": "b"} }),
			want:   []string{`http.headers."X A": is no name a header can have`},
		},
		"a header over two lines": {
			method: request(func(h *config.HTTP) { h.Headers = map[string]string{"X-A": "b\nX-C: d"} }),
			want:   []string{`http.headers.X-A: must not hold line breaks or other control characters`},
		},
		"a header with a control character": {
			method: request(func(h *config.HTTP) { h.Headers = map[string]string{"X-A": "b\x7f"} }),
			want:   []string{`http.headers.X-A: must not hold line breaks or other control characters`},
		},
		"no success": {
			method: request(func(h *config.HTTP) { h.SuccessCodes = nil }),
			want:   []string{"http.successCodes: is required: the status codes that mean success, such as [200]"},
		},
		"the first and last codes": {method: request(func(h *config.HTTP) { h.SuccessCodes = []int{100, 599} })},
		"codes that are none": {
			method: request(func(h *config.HTTP) { h.SuccessCodes = []int{200, 99, 600} }),
			want: []string{
				"http.successCodes[1]: must be a status code from 100 to 599, got 99",
				"http.successCodes[2]: must be a status code from 100 to 599, got 600",
			},
		},
		"no parameter mode": {
			method: request(func(h *config.HTTP) { h.ParameterMode = "" }),
			want:   []string{`http.parameterMode: is required: "query" or "body"`},
		},
		"unknown parameter mode": {
			method: request(func(h *config.HTTP) { h.ParameterMode = "header" }),
			want:   []string{`http.parameterMode: must be "query" or "body", got "header"`},
		},
		"certificates that are not there yet": {
			method: request(func(h *config.HTTP) { h.CACert, h.ClientCert, h.ClientKey = "/ca", "/cert", "/key" }),
		},
		"certificate without key": {
			method: request(func(h *config.HTTP) { h.ClientCert = "/cert" }),
			want:   []string{"http.clientKey: is required with clientCert: the file of the certificate's key"},
		},
		"key without certificate": {
			method: request(func(h *config.HTTP) { h.ClientKey = "/key" }),
			want:   []string{"http.clientCert: is required with clientKey: the file of the certificate"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var want []string
			for _, fault := range test.want {
				want = append(want, "preScale."+fault)
			}
			wantFaults(t, with(func(c *config.Config) { c.PreScale = &test.method }).Validate(), want)
		})
	}
}

// Methods whose command is the same have the same processes, and so must agree
// on them.
func TestValidateSharedWorkers(t *testing.T) {
	worker := func(command string, processes, inFlight, requests int) *config.Method {
		return &config.Method{Type: config.MethodWorker, Worker: &config.Worker{
			Entrypoint: "python3", Command: []string{command}, Processes: processes, MaxInFlight: inFlight, MaxRequests: requests,
		}}
	}
	c := with(func(c *config.Config) {
		c.Metric = worker("a.py", 2, 3, 4)
		c.Evaluate = worker("a.py", 2, 3, 4)
		c.PreScale = worker("b.py", 5, 6, 7)
	})
	wantFaults(t, c.Validate(), nil)
	c.PostScale = worker("b.py", 1, 6, 8)
	const shared = ", whose processes it shares since their commands are the same; got "
	wantFaults(t, c.Validate(), []string{
		"postScale.worker.maxRequests: must be that of preScale.worker.maxRequests, 7" + shared + "8",
		"postScale.worker.processes: must be that of preScale.worker.processes, 5" + shared + "1",
	})
}

func TestConcurrency(t *testing.T) {
	cpus := runtime.GOMAXPROCS(64)
	defer runtime.GOMAXPROCS(cpus)
	worker := func(processes, inFlight int) *config.Method {
		return &config.Method{Type: config.MethodWorker, Worker: &config.Worker{Processes: processes, MaxInFlight: inFlight}}
	}
	for name, test := range map[string]struct {
		metric *config.Method
		asked  int
		want   int
	}{
		"a few programs":                           {metric: shell("a"), want: 4},
		"programs that wait":                       {metric: shell("a"), asked: 50, want: 50},
		"one after another":                        {metric: shell("a"), asked: 1, want: 1},
		"requests":                                 {metric: &config.Method{Type: config.MethodHTTP}, want: 64},
		"fewer requests":                           {metric: &config.Method{Type: config.MethodHTTP}, asked: 2, want: 2},
		"what a worker answers":                    {metric: worker(2, 8), want: 16},
		"no more than what a worker answers":       {metric: worker(2, 8), asked: 17, want: 16},
		"less than what a worker would answer too": {metric: worker(2, 8), asked: 3, want: 3},
	} {
		c := with(func(c *config.Config) { c.Metric, c.GatherConcurrency = test.metric, test.asked })
		if got := c.Concurrency(); got != test.want {
			t.Errorf("%s: %d at once, want %d", name, got, test.want)
		}
	}
}

func TestValidateChecksEveryMethod(t *testing.T) {
	broken := func() *config.Method { return &config.Method{Type: "none"} }
	c := config.Default()
	c.ScaleTargetRef = minimal().ScaleTargetRef
	c.Metric, c.Evaluate, c.PreMetric, c.PostMetric = broken(), broken(), broken(), broken()
	c.PreEvaluate, c.PostEvaluate, c.PreScale, c.PostScale = broken(), broken(), broken(), broken()
	var want []string
	for _, key := range []string{"evaluate", "metric", "postEvaluate", "postMetric", "postScale", "preEvaluate", "preMetric", "preScale"} {
		want = append(want, key+`.type: must be "shell", "worker" or "http", got "none"`)
	}
	wantFaults(t, c.Validate(), want)
}

func TestValidateMetricSpec(t *testing.T) {
	const (
		averages = `must be "Value" or "AverageValue", got `
		ofPods   = `must be "Utilization" or "AverageValue", got `
	)
	tests := map[string]struct {
		spec string
		want []string
	}{
		"resource":                {spec: "type: Resource, resource: {name: cpu, target: {type: Utilization}}"},
		"resource, average":       {spec: "type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 1Gi}}"},
		"container resource":      {spec: "type: ContainerResource, containerResource: {name: cpu, container: app, target: {type: Utilization}}"},
		"pods":                    {spec: "type: Pods, pods: {metric: {name: hits}, target: {type: AverageValue}}"},
		"object":                  {spec: "type: Object, object: {describedObject: {kind: Service, name: web}, metric: {name: hits}, target: {type: Value}}"},
		"object, average":         {spec: "type: Object, object: {describedObject: {kind: Service, name: web}, metric: {name: hits}, target: {type: AverageValue}}"},
		"external":                {spec: "type: External, external: {metric: {name: queue}, target: {type: Value}}"},
		"external, average":       {spec: "type: External, external: {metric: {name: queue}, target: {type: AverageValue}}"},
		"no type":                 {spec: "resource: {name: cpu}", want: []string{`type: is required: "Resource", "ContainerResource", "Pods", "Object" or "External"`}},
		"unknown type":            {spec: "type: resource", want: []string{`type: must be "Resource", "ContainerResource", "Pods", "Object" or "External", got "resource"`}},
		"resource without block":  {spec: "type: Resource, pods: {}", want: []string{"resource: is required for a metric of the type Resource"}},
		"container without block": {spec: "type: ContainerResource", want: []string{"containerResource: is required for a metric of the type ContainerResource"}},
		"pods without block":      {spec: "type: Pods", want: []string{"pods: is required for a metric of the type Pods"}},
		"object without block":    {spec: "type: Object", want: []string{"object: is required for a metric of the type Object"}},
		"external without block":  {spec: "type: External", want: []string{"external: is required for a metric of the type External"}},
		"resource, wrong target":  {spec: "type: Resource, resource: {name: cpu, target: {type: Value}}", want: []string{"resource.target.type: " + ofPods + `"Value"`}},
		"pods, wrong target":      {spec: "type: Pods, pods: {metric: {name: a}, target: {type: Value}}", want: []string{`pods.target.type: must be "AverageValue", got "Value"`}},
		"object, wrong target":    {spec: "type: Object, object: {describedObject: {kind: a, name: b}, metric: {name: a}, target: {type: Utilization}}", want: []string{"object.target.type: " + averages + `"Utilization"`}},
		"external, wrong target":  {spec: "type: External, external: {metric: {name: a}, target: {type: Utilization}}", want: []string{"external.target.type: " + averages + `"Utilization"`}},
		"an empty resource block": {spec: "type: Resource, resource: {}", want: []string{"resource.name: is required: the name of the metric", `resource.target.type: is required: "Utilization" or "AverageValue"`}},
		"an empty container block": {
			spec: "type: ContainerResource, containerResource: {}",
			want: []string{
				"containerResource.container: is required: the name of the container",
				"containerResource.name: is required: the name of the metric",
				`containerResource.target.type: is required: "Utilization" or "AverageValue"`,
			},
		},
		"an empty pods block": {
			spec: "type: Pods, pods: {}",
			want: []string{"pods.metric.name: is required: the name of the metric", `pods.target.type: is required: "AverageValue"`},
		},
		"an empty object block": {
			spec: "type: Object, object: {}",
			want: []string{
				"object.describedObject.kind: is required, such as Deployment",
				"object.describedObject.name: is required",
				"object.metric.name: is required: the name of the metric",
				`object.target.type: is required: "Value" or "AverageValue"`,
			},
		},
		"an empty external block": {
			spec: "type: External, external: {}",
			want: []string{"external.metric.name: is required: the name of the metric", `external.target.type: is required: "Value" or "AverageValue"`},
		},
		"a selector that is none": {
			spec: "type: Pods, pods: {metric: {name: a, selector: {matchExpressions: [{key: a, operator: Like}]}}, target: {type: AverageValue}}",
			want: []string{`pods.metric.selector: must be a label selector: "Like" is not a valid label selector operator`},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var want []string
			for _, fault := range test.want {
				want = append(want, "kubernetesMetricSpecs[1]."+fault)
			}
			fine := "{type: Resource, resource: {name: cpu, target: {type: Utilization}}}"
			_, err := load(t, required+fmt.Sprintf("kubernetesMetricSpecs: [%s, {%s}]", fine, test.spec), nil)
			wantFaults(t, err, want)
		})
	}
}

func TestFaultsShortenWhatTheyShow(t *testing.T) {
	c := with(func(c *config.Config) { c.RunMode = config.RunMode(strings.Repeat("é", 100)) })
	wantFaults(t, c.Validate(), []string{`runMode: must be "per-pod" or "per-resource", got "` + strings.Repeat("é", 32) + `..."`})
}

func TestValidateDoesNotChangeTheConfiguration(t *testing.T) {
	c := with(func(c *config.Config) {
		c.Metric.Timeout = 0
		c.KubernetesMetricSpecs = []autoscalingv2.MetricSpec{{}}
	})
	if err := c.Validate(); err == nil {
		t.Error("an empty metric spec is valid")
	}
	if c.Metric.Timeout != 0 {
		t.Errorf("the timeout became %d", c.Metric.Timeout)
	}
}
