// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package config holds the one validated value that the rest of the program is
// built from. It is read once, from a file and the environment (Load), brought
// to its defaults (Default), and checked as a whole (Config.Validate), so that
// every later package may trust what it is given.
package config

//go:generate go test -run=^TestReferenceIsCurrent$ . -update

import (
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

// Config is the whole configuration. Process and Autoscaler share one flat
// file; they are apart because one process may come to run many autoscalers.
type Config struct {
	Process
	Autoscaler
}

// Process configures the program itself, whatever it scales.
type Process struct {
	// Where the [REST API](#apiconfig) listens, and whether it does.
	APIConfig API `json:"apiConfig"`

	// How much is logged: 0 is one line a run, 1 adds the detail of each
	// stage, 2 and more add the requests to the API server.
	LogVerbosity int32 `json:"logVerbosity" live:"yes"`

	// [Which of several replicas](#leaderelection) of this process runs, when
	// there is more than one.
	LeaderElection LeaderElection `json:"leaderElection" env:"CPA_leaderElection"`

	// How log lines, which go to standard error, are written: `text` is
	// key=value for people, `json` is for programs.
	LogFormat LogFormat `json:"logFormat" env:"CPA_logFormat"`
}

// Autoscaler configures the scaling of one target.
type Autoscaler struct {
	// [What is scaled](#scaletargetref): anything namespaced that has a scale
	// subresource.
	ScaleTargetRef autoscalingv2.CrossVersionObjectReference `json:"scaleTargetRef"`

	// The namespace of the target and of its pods.
	Namespace string `json:"namespace"`

	// The user's logic that gathers a value: once per pod in the run mode
	// `per-pod`, once per run in `per-resource`. What it prints is the value.
	Metric *Method `json:"metric"`

	// The user's logic that turns the gathered values into a replica count:
	// it prints JSON with a whole number `targetReplicas`.
	Evaluate *Method `json:"evaluate"`

	// Runs before metrics are gathered. A failure ends the run.
	PreMetric *Method `json:"preMetric"`

	// Runs after metrics were gathered. A failure ends the run.
	PostMetric *Method `json:"postMetric"`

	// Runs before the evaluation. A failure ends the run.
	PreEvaluate *Method `json:"preEvaluate"`

	// Runs after the evaluation. A failure ends the run.
	PostEvaluate *Method `json:"postEvaluate"`

	// Runs before the replica count is written, also when it stays the same.
	// A failure ends the run and nothing is scaled.
	PreScale *Method `json:"preScale"`

	// Runs after the replica count was written, also when it stayed the same.
	// A failure reports the run as failed, but what was scaled stays scaled.
	PostScale *Method `json:"postScale"`

	// The time from the start of one run to the start of the next. A run that
	// takes longer delays the next; runs never overlap.
	Interval Milliseconds `json:"interval" live:"yes"`

	// The first interval begins at the next multiple of this many
	// milliseconds since the epoch: 60000 starts on the full minute.
	StartTime Milliseconds `json:"startTime"`

	// Whether `metric` runs once for every pod of the target (`per-pod`) or
	// once for the target (`per-resource`).
	RunMode RunMode `json:"runMode"`

	// In the run mode `per-pod`, how many pods `metric` is asked about at once,
	// up to 1024. 0 takes a number by the type of the method: as many as the
	// process may use CPUs (GOMAXPROCS), 4 at most, for `shell`, 64 for `http`, and for
	// `worker` as many as its processes answer at once, which is also the most
	// that counts there.
	GatherConcurrency int `json:"gatherConcurrency" env:"CPA_gatherConcurrency"`

	// What becomes of a run, in the run mode `per-pod`, when `metric` fails for
	// a pod: `fail` ends it as failed, `skip` leaves the pod out of the metrics
	// and warns. When it fails for every pod the run fails in any case.
	OnPodFailure PodFailure `json:"onPodFailure" env:"CPA_onPodFailure"`

	// The fewest replicas to scale to. 0 allows scaling to and from zero; with
	// any other value a target at 0 replicas is left alone.
	MinReplicas int32 `json:"minReplicas" live:"yes"`

	// The most replicas to scale to.
	MaxReplicas int32 `json:"maxReplicas" live:"yes"`

	// Scale down only to the highest count that was evaluated in this many
	// seconds. 0, as when unset, scales down at once. With `behavior` it is the
	// window of `behavior.scaleDown` where that sets none; unset it is 300 then.
	DownscaleStabilization *Seconds `json:"downscaleStabilization" live:"yes"`

	// [How fast it may scale](#behavior), as the field of that name of a
	// HorizontalPodAutoscaler. Without it only `downscaleStabilization` limits.
	Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior `json:"behavior" env:"CPA_behavior" live:"yes"`

	// [Other bounds at certain times](#schedules).
	Schedules []Schedule `json:"schedules" env:"CPA_schedules" live:"yes"`

	// [How many replicas to run](#fallback) when the hooks keep failing.
	// Without it a failing run leaves the count as it is.
	Fallback *Fallback `json:"fallback" env:"CPA_fallback" live:"yes"`

	// Whether to do everything but write: the log and the records say what
	// would have been scaled. `preScale` and `postScale` do not run.
	DryRun bool `json:"dryRun" env:"CPA_dryRun" live:"yes"`

	// [Where to keep](#state) what must survive a restart.
	State State `json:"state" env:"CPA_state"`

	// [Writes counts to a Git repository](#gitops), instead of scaling or as a
	// record of it.
	GitOps *GitOps `json:"gitOps" env:"CPA_gitOps"`

	// [Metrics that Kubernetes knows](#kubernetesmetricspecs) (CPU, memory,
	// custom and external ones) to gather before each run and hand to the
	// hooks as `kubernetesMetrics`.
	KubernetesMetricSpecs []autoscalingv2.MetricSpec `json:"kubernetesMetricSpecs"`

	// Whether a run fails, before preMetric, when any of
	// `kubernetesMetricSpecs` cannot be gathered. Otherwise the hooks get the
	// others.
	RequireKubernetesMetrics bool `json:"requireKubernetesMetrics"`

	// For the metric `cpu`: how long after its start a pod that never became
	// ready is still taken to be starting, as the HorizontalPodAutoscaler's
	// controller flag of that name.
	InitialReadinessDelay Seconds `json:"initialReadinessDelay"`

	// For the metric `cpu`: how long after its start a pod's samples may be
	// skipped because it is still initialising, as the
	// HorizontalPodAutoscaler's controller flag of that name.
	CPUInitializationPeriod Seconds `json:"cpuInitializationPeriod"`

	// The most that one call of a hook may answer with, in bytes, up to 64 MiB.
	// More is an error of that call, and the hook is ended.
	MaxOutputBytes int64 `json:"maxOutputBytes" env:"CPA_maxOutputBytes"`
}

// API configures the REST API.
type API struct {
	// Whether the API is served.
	Enabled bool `json:"enabled"`
	// Whether it is served over HTTPS, with `certFile` and `keyFile`.
	UseHTTPS bool `json:"useHTTPS"`
	// The port it listens on; 0 takes a free one, which is logged.
	Port int `json:"port"`
	// The address it listens on. Empty is every address.
	Host string `json:"host"`
	// The file of the PEM certificate, with its chain, for HTTPS. Read again
	// when it changes, with its key.
	CertFile string `json:"certFile"`
	// The file of the PEM private key for HTTPS.
	KeyFile string `json:"keyFile"`
	// A file of PEM certificates: of the authorities whose client certificates
	// are accepted, for `auth.certificates`. It needs `useHTTPS`. Read again
	// when it changes.
	ClientCAFile string `json:"clientCAFile"`
	// Whether the web page is served. Unset is `true`, also where a variable
	// replaces the whole block.
	Page *bool `json:"page"`
	// [How many requests](#ratelimit) it takes.
	RateLimit RateLimit `json:"rateLimit"`
	// [Who may do what](#auth). Without it everybody may read and ask for a run,
	// and nobody may do more.
	Auth Auth `json:"auth"`
}

// ServesPage says whether the web page is served.
func (a API) ServesPage() bool { return a.Page == nil || *a.Page }

// RateLimit bounds the requests in a minute. What is unset has its default: a
// variable that replaces the whole block must not lift the limits.
type RateLimit struct {
	// How many requests a caller may make in a minute; 0 is any number. A
	// caller without credentials is an IP address, or a /64 of IPv6.
	PerCaller *int `json:"perCaller"`
	// How many all callers may make together; 0 is any number.
	Total *int `json:"total"`
}

// Auth says who may do what over the REST API. It is configured when any of
// the three ways is; a request needs one of them then.
type Auth struct {
	// [Tokens in files](#authtoken).
	Token TokenAuth `json:"token"`
	// [Tokens that the API server knows](#authkubernetes), such as those of
	// service accounts.
	Kubernetes KubernetesAuth `json:"kubernetes"`
	// [Client certificates](#authcertificates) of an authority in
	// `clientCAFile`. One that several entries name has the highest of the roles.
	Certificates []CertificateAuth `json:"certificates"`
}

// TokenAuth names the files of the tokens. Each holds one token a line, which
// may be followed by a space and the name of who holds it.
type TokenAuth struct {
	// The file of the tokens with the role `read`. Read again when it changes,
	// as are the others.
	ReadFile string `json:"readFile"`
	// The file of those with the role `operate`.
	OperateFile string `json:"operateFile"`
	// The file of those with the role `configure`.
	ConfigureFile string `json:"configureFile"`
}

// KubernetesAuth has the API server review tokens, and what they allow.
type KubernetesAuth struct {
	// Whether the API server is asked whose a token is, and what that user may
	// do.
	Enabled bool `json:"enabled"`
	// The audiences of which a token must have one. Empty is the API server's
	// own.
	Audiences []string `json:"audiences"`
}

// CertificateAuth gives a role to client certificates.
type CertificateAuth struct {
	// The certificate's common name, or one of its DNS names or URIs; `*` is
	// any certificate.
	Name string `json:"name"`
	// What its holder may do.
	Role Role `json:"role"`
}

// AuthConfigured says whether requests need credentials.
func (a API) AuthConfigured() bool {
	return a.Auth.Token != (TokenAuth{}) || a.Auth.Kubernetes.Enabled || len(a.Auth.Certificates) > 0
}

// Role is what a caller of the REST API may do. Each includes those before it.
type Role string

// The roles.
const (
	RoleRead      Role = "read"
	RoleOperate   Role = "operate"
	RoleConfigure Role = "configure"
)

// Includes says whether who has this role may do what needs the other. None,
// the empty role, is included in all. What is no role includes none, and is
// included in none.
func (r Role) Includes(needed Role) bool {
	return needed == "" || needed.rank() >= 0 && r.rank() >= needed.rank()
}

func (r Role) rank() int {
	return slices.Index([]Role{RoleRead, RoleOperate, RoleConfigure}, r)
}

// Method says how one of the user's hooks is run. The block named after the
// type is required.
type Method struct {
	// How the hook is run: `shell` starts a program for each call, `worker`
	// asks one that stays, `http` makes a request.
	Type MethodType `json:"type"`
	// How long one call may take. At the deadline a program is killed with
	// everything it started, and a request is given up. 0 takes the default.
	Timeout Milliseconds `json:"timeout"`
	// The [program](#shell), for the type `shell`.
	Shell *Shell `json:"shell,omitempty"`
	// The [program that stays](#worker), for the type `worker`.
	Worker *Worker `json:"worker,omitempty"`
	// The [request](#http), for the type `http`.
	HTTP *HTTP `json:"http,omitempty"`
}

// Shell is a program that reads its payload on stdin and answers on stdout.
type Shell struct {
	// The program, as a path or found in PATH. No shell is put in between.
	Entrypoint string `json:"entrypoint"`
	// Its arguments, handed over as they are: without a shell there are no
	// variables, pipes or wildcards.
	Command []string `json:"command"`
	// Whether what it writes to stderr is logged line by line, up to 1000 lines
	// a call. Otherwise the last 8 KiB are logged when it fails.
	LogStderr bool `json:"logStderr"`
}

// Worker is a program that stays and answers one request after another, as
// JSON-RPC 2.0, a line each, on stdin and stdout. Methods with the same
// entrypoint and command share the processes; what else they set must be equal.
type Worker struct {
	// The program, as a path or found in PATH. No shell is put in between.
	Entrypoint string `json:"entrypoint"`
	// Its arguments, handed over as they are.
	Command []string `json:"command"`
	// How many processes there are at most, up to 64. Each is started when it
	// is first needed. 0 takes the default.
	Processes int `json:"processes"`
	// How many requests a process is sent before it has answered the first, up
	// to 1024. 0 takes the default.
	MaxInFlight int `json:"maxInFlight"`
	// After how many requests a process is replaced; 0 is never.
	MaxRequests int `json:"maxRequests"`
}

// HTTP is a request that carries the payload and whose response body is the
// answer.
type HTTP struct {
	// The request's method.
	Method string `json:"method"`
	// Where it goes, beginning with `http://` or `https://`.
	URL string `json:"url"`
	// Headers to send. Their names stay as they are written.
	Headers map[string]string `json:"headers"`
	// The status codes, after redirects, that mean success.
	SuccessCodes []int `json:"successCodes"`
	// Where the payload is put: `query` adds `value=<JSON>` to the URL, `body`
	// sends it as the body.
	ParameterMode ParameterMode `json:"parameterMode"`
	// A file of PEM certificates to trust, instead of the system's. Read
	// again when it changes.
	CACert string `json:"caCert"`
	// The file of the PEM certificate to authenticate with; it needs
	// `clientKey`. Read again when it changes.
	ClientCert string `json:"clientCert"`
	// The file of that certificate's PEM key. Read again when it changes.
	ClientKey string `json:"clientKey"`
}

// Schedule puts other bounds in force during a window that comes again and
// again. At least one of them is required.
type Schedule struct {
	// What the schedule is called in logs, events and records.
	Name string `json:"name"`
	// When the window begins: a cron expression of five fields (minute, hour,
	// day of month, month, day of week) or `@daily` and the like.
	Start string `json:"start"`
	// When it ends, as another such expression. The window is in force
	// whenever its next end comes before its next start, so it may span
	// midnight or a week. Starts and ends should take turns: with a start on
	// weekdays and an end on every day it is in force all weekend.
	End string `json:"end"`
	// The timezone of both, a name of the IANA time zone database such as
	// `Europe/Berlin`.
	Timezone string `json:"timezone"`
	// The fewest replicas in the window, instead of the top-level
	// `minReplicas`.
	MinReplicas *int32 `json:"minReplicas"`
	// The most replicas in the window, instead of the top-level `maxReplicas`.
	MaxReplicas *int32 `json:"maxReplicas"`
	// Which schedule counts where windows overlap: the highest, for each of
	// the two bounds by itself. Among equals the larger `minReplicas` and the
	// smaller `maxReplicas` count.
	Priority int32 `json:"priority"`
}

// Fallback is what to do when the hooks keep failing.
type Fallback struct {
	// How many runs must fail in a row, gathering or evaluating. One that
	// succeeds ends the fallback.
	FailureThreshold int32 `json:"failureThreshold"`
	// The count to fall back to, within the top-level bounds. It is limited
	// by everything that limits an evaluation. Only `currentReplicas` can do
	// without.
	Replicas *int32 `json:"replicas"`
	// How that count is used: `static` takes it, `currentReplicas` stays at
	// the current count, and `currentReplicasIfHigher` and
	// `currentReplicasIfLower` take whichever of the two is higher or lower.
	Behavior FallbackBehavior `json:"behavior"`
}

// FallbackBehavior is how a fallback's count is used.
type FallbackBehavior string

// The fallback behaviours, named as in KEDA.
const (
	FallbackStatic          FallbackBehavior = "static"
	FallbackCurrent         FallbackBehavior = "currentReplicas"
	FallbackCurrentIfHigher FallbackBehavior = "currentReplicasIfHigher"
	FallbackCurrentIfLower  FallbackBehavior = "currentReplicasIfLower"
)

// State says where to keep what must survive a restart: the scale events that
// policies count, a pause, a manual hold, an override, the fallback.
type State struct {
	// `none`, `file` or `configMap`, which is a ConfigMap beside the target
	// whose name derives from it.
	Store StateStore `json:"store"`
	// The file, for `file`; its folder must exist and outlive the container.
	Path string `json:"path"`
}

// StateStore is where state is kept.
type StateStore string

// The stores.
const (
	StateNone      StateStore = "none"
	StateFile      StateStore = "file"
	StateConfigMap StateStore = "configMap"
)

// LeaderElection has one of several replicas of this process run the
// autoscaler, the holder of a Lease in the target's namespace, while the others
// stand by.
type LeaderElection struct {
	// Whether to elect a leader. Without it one replica must run at most.
	Enabled bool `json:"enabled"`
	// How long a leader that is not heard of keeps the lease, up to 3600. 0
	// takes the default, here and below.
	LeaseDuration Seconds `json:"leaseDuration"`
	// How long a leader that cannot renew the lease goes on; less than
	// `leaseDuration`.
	RenewDeadline Seconds `json:"renewDeadline"`
	// How often the lease is renewed, or tried for; less than
	// `renewDeadline`.
	RetryPeriod Seconds `json:"retryPeriod"`
}

// MethodType is how a hook is run.
type MethodType string

// The method types.
const (
	MethodShell  MethodType = "shell"
	MethodWorker MethodType = "worker"
	MethodHTTP   MethodType = "http"
)

// ParameterMode is where an HTTP hook's payload is put.
type ParameterMode string

// The parameter modes.
const (
	ParameterQuery ParameterMode = "query"
	ParameterBody  ParameterMode = "body"
)

// RunMode is what the metric hook runs for.
type RunMode string

// The run modes.
const (
	PerPod      RunMode = "per-pod"
	PerResource RunMode = "per-resource"
)

// PodFailure is what becomes of a run when the metric hook fails for a pod.
type PodFailure string

// The answers to a pod's failure.
const (
	PodFailureFail PodFailure = "fail"
	PodFailureSkip PodFailure = "skip"
)

// LogFormat is how log lines are written.
type LogFormat string

// The log formats.
const (
	LogText LogFormat = "text"
	LogJSON LogFormat = "json"
)

// Milliseconds is a duration that the file gives as a whole number of
// milliseconds.
type Milliseconds int64

// Duration is m as a time.Duration.
func (m Milliseconds) Duration() time.Duration { return time.Duration(m) * time.Millisecond }

// Seconds is a duration that the file gives as a whole number of seconds.
type Seconds int64

// Duration is s as a time.Duration.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }
