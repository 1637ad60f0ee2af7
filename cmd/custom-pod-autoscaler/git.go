// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/telemetry"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/leader"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale/gitops"
)

// newGit is the repository that counts are committed to, nil without gitOps.
func newGit(c *config.GitOps, p parts) (*gitops.Repository, error) {
	if c == nil {
		return nil, nil //nolint:nilnil // gitOps is optional
	}
	return gitops.New(*c, gitops.Options{ID: p.id, Log: p.log.With("component", "git"), Term: term(p.elector)})
}

// leading says whether this process leads; nil without leader election.
func leading(elector *leader.Elector) func() bool {
	if elector == nil {
		return nil
	}
	return func() bool { return elector.Term().Leading() }
}

// term is the term in which this process leads; nil without leader election.
func term(elector *leader.Elector) func() uint64 {
	if elector == nil {
		return nil
	}
	return func() uint64 { return elector.Term().ID }
}

// throughGit has an autoscaler scale through a repository, or record in it what
// it scaled.
func throughGit(deps *autoscaler.Deps, c *config.GitOps, git *gitops.Repository) {
	if c.Mode == config.GitInstead {
		deps.Writer, deps.Reader = git, pushedReader{Reader: deps.Reader, git: git}
	}
	deps.Observer = autoscaler.Observers{deps.Observer, gitRecorder{git: git, records: c.Mode == config.GitRecord}}
}

// pushedReader reads the counts that were pushed and are still on their way to
// the cluster as if they had arrived: otherwise they would be pushed again.
type pushedReader struct {
	autoscaler.Reader
	git *gitops.Repository
}

// Read takes a snapshot.
func (r pushedReader) Read(ctx context.Context) (resource.Snapshot, error) {
	snapshot, err := r.Reader.Read(ctx)
	if err == nil {
		snapshot.Scale.Replicas = r.git.Current(ctx, snapshot.Scale.Replicas)
	}
	return snapshot, err
}

// Scale reads the scale.
func (r pushedReader) Scale(ctx context.Context) (resource.Scale, error) {
	scale, err := r.Reader.Scale(ctx)
	if err == nil {
		scale.Replicas = r.git.Current(ctx, scale.Replicas)
	}
	return scale, err
}

// gitRecorder is an Observer that has the repository keep up with what the
// records tell: the count that there is after a run, whoever made it, and the
// bounds in force; of a dry run, what would change.
type gitRecorder struct {
	git *gitops.Repository
	// records says that the repository records; else it is what scales.
	records bool
}

// Observe takes note of a record.
func (g gitRecorder) Observe(r autoscaler.Record) {
	d := r.Decision
	if d == nil || r.Trigger.DryRun || !g.records && !r.DryRun {
		return
	}
	wanted := gitops.Wanted{
		Replicas: &d.Current, Min: &r.Bounds.Min.Replicas, Max: &r.Bounds.Max.Replicas, From: d.Current, Reason: d.Explain(), DryRun: r.DryRun,
	}
	if r.Written || r.DryRun {
		wanted.Replicas = &d.Desired
	}
	g.git.Record(wanted)
}

// gitMetrics are what the metrics tell of a repository.
func gitMetrics(s gitops.Status) telemetry.Git {
	git := telemetry.Git{Pending: s.Pending != nil, Failing: s.LastError != "", Commits: s.Commits, Failures: s.Failures}
	if s.LastCommitTime != nil {
		git.LastCommit = *s.LastCommitTime
	}
	return git
}
