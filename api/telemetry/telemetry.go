// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package telemetry shows what the autoscalers of a process do as Prometheus
// metrics. It counts the Records that it observes, and asks at each scrape for
// what no Record tells.
//
// A gauge of something that is not known is absent, not 0: before the first
// run, and in a process that stands by while another one decides.
package telemetry

import (
	"log/slog"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// Options are what is shown beside Records. What is nil is not shown. The
// functions are called at each scrape, several at once, and must not keep it
// waiting.
type Options struct {
	// Version is the program's own.
	Version string
	// Hooks is what the hooks have been up to: execute.Pool.Usage.
	Hooks func() execute.Usage
	// Requests is what the API server was asked: resource.Clients.Traffic.
	Requests func() resource.Traffic
	// Log gets what goes wrong with a scrape; nil is nowhere.
	Log *slog.Logger
}

// Source tells what is true of an autoscaler between its runs. What is nil is
// taken from Records, if they tell. The functions are called at each scrape,
// several at once, and must not keep it waiting.
type Source struct {
	// Leading says whether this process runs the autoscaler; nil without leader
	// election.
	Leading func() bool
	// Intents are what operators ask for; false while that is not known, as
	// before the first run has recalled it.
	Intents func() (Intents, bool)
	// Git is what became of the commits; nil without gitOps.
	Git func() Git
}

// Intents say which intents of an operator are in force.
type Intents struct{ Paused, Held, Overridden bool }

// Git says what became of what an autoscaler commits.
type Git struct {
	// Pending says that something is yet to be pushed, Failing that the last try
	// of that failed.
	Pending, Failing bool
	// LastCommit is when something was pushed last; zero if nothing was.
	LastCommit time.Time
	// Commits and Failures count what was pushed and the tries that failed, since
	// the start of the process.
	Commits, Failures uint64
}

// Metrics are the metrics of all the autoscalers of a process, told apart by
// the label autoscaler. It is an autoscaler.Observer, and safe for concurrent
// use.
type Metrics struct {
	registry *prometheus.Registry
	log      *slog.Logger
	scrapes  chan struct{}

	runs, runFailures, scalings, skippedPods, restRequests *prometheus.CounterVec
	runSeconds, stageSeconds                               *prometheus.HistogramVec

	mu sync.Mutex
	// accounts are those of the autoscalers by ID.
	accounts map[string]*account
}

// New makes Metrics without an autoscaler, on a registry of their own.
func New(o Options) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(), log: o.Log, scrapes: make(chan struct{}, maxScrapes), accounts: map[string]*account{},
		runs:         counters("runs_total", "Runs by result (success, failure, canceled when the process stopped, standby when another one leads) and by what asked for them.", "autoscaler", "result", "trigger"),
		runFailures:  counters("run_failures_total", "Runs that failed, by the stage that failed.", "autoscaler", "stage"),
		scalings:     counters("scalings_total", "Changes of the replica count that were written, by direction.", "autoscaler", "direction"),
		skippedPods:  counters("skipped_pods_total", "Pods that were left out of the metrics because their metric hook failed (onPodFailure: skip).", "autoscaler"),
		restRequests: counters("rest_requests_total", "Requests to the REST API that were answered, by the path as it is documented (none for others), method and status.", "path", "method", "code"),
		runSeconds:   histograms("run_duration_seconds", "How long runs took.", "autoscaler"),
		stageSeconds: histograms("stage_duration_seconds", "How long the stages of runs took, all of a stage's hooks together.", "autoscaler", "stage"),
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: prefix + "build_info", Help: "1, with the version of the program and of the Go that built it.",
		ConstLabels: prometheus.Labels{"version": o.Version, "goversion": runtime.Version()},
	})
	build.Set(1)
	// It only fails for names that are taken.
	m.registry.MustRegister(build, m.runs, m.runFailures, m.scalings, m.skippedPods, m.restRequests, m.runSeconds, m.stageSeconds, states{m},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if o.Hooks != nil {
		m.registry.MustRegister(hooks(o.Hooks))
	}
	if o.Requests != nil {
		m.registry.MustRegister(requests(o.Requests))
	}
	return m
}

//go:generate go test -run=^(TestStory|TestPageIsCurrent)$ . -update

const prefix = "custom_pod_autoscaler_"

// buckets are the upper bounds of durations, in seconds. Hooks time out after 5 s
// unless they are told otherwise.
var buckets = []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, labels)
}

func histograms(name, help string, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + name, Help: help, Buckets: buckets}, labels)
}

// Request counts a request to the REST API that was answered.
func (m *Metrics) Request(method, path string, code int) {
	m.restRequests.WithLabelValues(path, method, strconv.Itoa(code)).Inc()
}

// Add shows an autoscaler before its first run: its counters are there from 0
// on, so that the first failure is an increase. The function that it returns
// takes the autoscaler away, with all that was counted of it; call it when the
// autoscaler has ended.
func (m *Metrics) Add(id string, source Source) (remove func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.account(id).source = source
	return func() { m.remove(id) }
}

// remove forgets an autoscaler.
func (m *Metrics) remove(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.accounts, id)
	its := prometheus.Labels{"autoscaler": id}
	for _, vector := range []interface{ DeletePartialMatch(prometheus.Labels) int }{
		m.runs, m.runFailures, m.scalings, m.skippedPods, m.runSeconds, m.stageSeconds,
	} {
		vector.DeletePartialMatch(its)
	}
}

// account is that of the autoscaler with the ID, which is made if it is not
// there. The lock is held.
func (m *Metrics) account(id string) *account {
	a := m.accounts[id]
	if a != nil {
		return a
	}
	a = &account{}
	m.accounts[id] = a
	for _, result := range []string{success, failure, canceled, standby} {
		m.runs.WithLabelValues(id, result, string(autoscaler.KindInterval))
	}
	for _, stage := range stages {
		m.runFailures.WithLabelValues(id, string(stage))
	}
	for _, direction := range directions {
		m.scalings.WithLabelValues(id, string(direction))
	}
	m.skippedPods.WithLabelValues(id)
	m.runSeconds.WithLabelValues(id)
	return a
}
