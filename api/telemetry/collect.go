// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

// What the gauges of an autoscaler are called.
var (
	currentDesc     = desc("current_replicas", "Replica count that the last decision left: the one it wrote, else the one it found; the same as replicas.current of the status.", "autoscaler")
	evaluatedDesc   = desc("evaluated_replicas", "Replica count that the evaluate hook asked for in the last decision; absent if it was taken without one.", "autoscaler")
	desiredDesc     = desc("desired_replicas", "Replica count that the last decision came to.", "autoscaler")
	minDesc         = desc("bounds_min_replicas", "Minimum in force, by the configuration, a schedule or an override.", "autoscaler")
	maxDesc         = desc("bounds_max_replicas", "Maximum in force, by the configuration, a schedule or an override.", "autoscaler")
	nextChangeDesc  = desc("bounds_next_change_timestamp_seconds", "When the bounds may change next, by a schedule or the end of an override; absent if they will not.", "autoscaler")
	constraintDesc  = desc("constraint_in_force", "1 for what changed the count in the last decision, 0 for every other constraint.", "autoscaler", "constraint")
	pausedDesc      = desc("paused", "1 while paused by an operator.", "autoscaler")
	heldDesc        = desc("manual_hold", "1 while an operator has it hold a count.", "autoscaler")
	overriddenDesc  = desc("bounds_override", "1 while an operator overrides the bounds.", "autoscaler")
	dryRunDesc      = desc("dry_run", "1 if changes are only told of, not written (dryRun).", "autoscaler")
	fallbackDesc    = desc("fallback_active", "1 while the fallback stands in for the hooks, which have failed too often.", "autoscaler")
	leaderDesc      = desc("leader", "1 if this process runs the autoscaler, 0 if it stands by; absent without leader election.", "autoscaler")
	failuresDesc    = desc("consecutive_failed_runs", "How many runs have failed since the last one that succeeded, without those that a worker asked for (push).", "autoscaler")
	lastRunDesc     = desc("last_run_timestamp_seconds", "When the last run ended, whatever came of it.", "autoscaler")
	lastSuccessDesc = desc("last_success_timestamp_seconds", "When the last run ended that succeeded.", "autoscaler")
	gitPendingDesc  = desc("git_pending", "1 while something is yet to be committed; absent without gitOps, as the others of Git are.", "autoscaler")
	gitFailingDesc  = desc("git_failing", "1 while the last try to commit has failed.", "autoscaler")
	lastCommitDesc  = desc("git_last_commit_timestamp_seconds", "When something was committed last; absent if nothing was since the start.", "autoscaler")
	commitsDesc     = desc("git_commits_total", "Commits that were pushed.", "autoscaler")
	gitFailuresDesc = desc("git_failures_total", "Tries to commit that failed.", "autoscaler")
)

// states is the collector of the autoscalers' gauges: those of one autoscaler
// are all of the same run.
type states struct{ *Metrics }

// Describe tells what there may be.
func (s states) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		currentDesc, evaluatedDesc, desiredDesc, minDesc, maxDesc, nextChangeDesc, constraintDesc, pausedDesc, heldDesc,
		overriddenDesc, dryRunDesc, fallbackDesc, leaderDesc, failuresDesc, lastRunDesc, lastSuccessDesc,
		gitPendingDesc, gitFailingDesc, lastCommitDesc, commitsDesc, gitFailuresDesc,
	} {
		to <- d
	}
}

// Collect tells what there is.
func (s states) Collect(to chan<- prometheus.Metric) {
	for id, a := range s.known() {
		a.collect(gauges{to: to, autoscaler: id})
	}
}

// known copies the accounts, so that no run waits for a scrape. What they point
// to is not changed any more.
func (m *Metrics) known() map[string]account {
	m.mu.Lock()
	defer m.mu.Unlock()
	known := make(map[string]account, len(m.accounts))
	for id, a := range m.accounts {
		known[id] = *a
	}
	return known
}

// collect tells the gauges of an autoscaler. In a process that stands by, what
// it decided last is history.
func (a *account) collect(g gauges) {
	var git *Git
	if a.source.Git != nil {
		git = new(a.source.Git())
		g.to <- counter(commitsDesc, float64(git.Commits), g.autoscaler)
		g.to <- counter(gitFailuresDesc, float64(git.Failures), g.autoscaler)
	}
	if a.source.Leading != nil {
		leading := a.source.Leading()
		g.flag(leaderDesc, leading)
		if !leading {
			return
		}
	}
	if git != nil {
		g.flag(gitPendingDesc, git.Pending)
		g.flag(gitFailingDesc, git.Failing)
		g.time(lastCommitDesc, git.LastCommit)
	}
	if i, known := a.intents(); known {
		g.flag(pausedDesc, i.Paused)
		g.flag(heldDesc, i.Held)
		g.flag(overriddenDesc, i.Overridden)
	}
	if a.lastRun.IsZero() {
		return
	}
	g.time(lastRunDesc, a.lastRun)
	g.time(lastSuccessDesc, a.lastSuccess)
	g.set(failuresDesc, float64(a.failures))
	g.flag(dryRunDesc, a.dryRun)
	if a.bounds != nil {
		g.count(minDesc, &a.bounds.Min.Replicas)
		g.count(maxDesc, &a.bounds.Max.Replicas)
		g.time(nextChangeDesc, a.bounds.NextChange)
	}
	if a.decision != nil {
		a.decision.collect(g)
	}
}

// collect tells the gauges of a decision.
func (d *decision) collect(g gauges) {
	g.count(currentDesc, &d.current)
	g.count(evaluatedDesc, d.evaluated)
	g.count(desiredDesc, &d.desired)
	g.flag(fallbackDesc, d.fallback)
	for _, name := range scale.ConstraintNames() {
		g.flag(constraintDesc, slices.Contains(d.constraints, name), string(name))
	}
}

// gauges are those of one autoscaler on their way to a scrape.
type gauges struct {
	to         chan<- prometheus.Metric
	autoscaler string
}

func (g gauges) set(d *prometheus.Desc, value float64, labels ...string) {
	g.to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, append([]string{g.autoscaler}, labels...)...)
}

func (g gauges) flag(d *prometheus.Desc, is bool, labels ...string) {
	value := 0.0
	if is {
		value = 1
	}
	g.set(d, value, labels...)
}

// count leaves out what is not known.
func (g gauges) count(d *prometheus.Desc, replicas *int32) {
	if replicas != nil {
		g.set(d, float64(*replicas))
	}
}

// time leaves out what never was, or never will be.
func (g gauges) time(d *prometheus.Desc, t time.Time) {
	if !t.IsZero() {
		g.set(d, float64(t.UnixMilli())/1000)
	}
}

// What is counted of hooks is called. It has no label autoscaler: a worker may
// be that of several.
var (
	callsDesc     = desc("hook_calls_total", "Questions to hooks that ended, by stage; in per-pod the metric hook has one for each pod.", "stage")
	faultsDesc    = desc("hook_failures_total", "Those of them that failed, by stage and kind.", "stage", "kind")
	outputDesc    = desc("hook_output_bytes_total", "What hooks answered, by stage.", "stage")
	restartsDesc  = desc("worker_restarts_total", "Worker processes that ended and are replaced, by why: a kind of failure, or requests when one had its number of them.", "reason")
	processesDesc = desc("hook_processes", "Hook programs that run now, without what they have started themselves.")
)

// hooks is the collector of what hooks do.
type hooks func() execute.Usage

// Describe tells what there may be.
func (hooks) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{callsDesc, faultsDesc, outputDesc, restartsDesc, processesDesc} {
		to <- d
	}
}

// Collect tells what there is.
func (h hooks) Collect(to chan<- prometheus.Metric) {
	u := h()
	for stage, s := range u.Stages {
		to <- counter(callsDesc, float64(s.Calls), string(stage))
		to <- counter(outputDesc, float64(s.OutputBytes), string(stage))
		for kind, count := range s.Failures {
			to <- counter(faultsDesc, float64(count), string(stage), string(kind))
		}
	}
	for kind, count := range u.Restarts {
		to <- counter(restartsDesc, float64(count), string(kind))
	}
	to <- prometheus.MustNewConstMetric(processesDesc, prometheus.GaugeValue, float64(u.Processes))
}

// What is counted of requests to the API server is called.
var (
	requestsDesc = desc("kubernetes_requests_total", "Requests to the API server by verb and status code, which is none if there was no answer.", "verb", "code")
	waitsDesc    = desc("kubernetes_request_waits_total", "Requests to the API server that waited more than 0.1 s for their turn: this process makes more than it may.")
	waitedDesc   = desc("kubernetes_request_wait_seconds_total", "How long they waited together.")
)

// requests is the collector of what the API server is asked.
type requests func() resource.Traffic

// Describe tells what there may be.
func (requests) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requestsDesc, waitsDesc, waitedDesc} {
		to <- d
	}
}

// Collect tells what there is.
func (r requests) Collect(to chan<- prometheus.Metric) {
	t := r()
	for kind, count := range t.Requests {
		to <- counter(requestsDesc, float64(count), kind.Verb, kind.Code)
	}
	to <- counter(waitsDesc, float64(t.Waits))
	to <- counter(waitedDesc, t.Waited.Seconds())
}

func counter(d *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
}
