// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"fmt"
	"strings"
	"testing"
)

func TestACountIsCommitted(t *testing.T) {
	repository := bare(t)
	r := open(t, settings(repository), Options{})
	if err := r.Write(t.Context(), decision(3, 5)); err != nil {
		t.Fatal(err)
	}
	if got, want := show(t, repository, manifestPath), strings.Replace(manifest, "replicas: 3", "replicas: 5", 1); got != want {
		t.Errorf("the file is\n%s", got)
	}
	if got := run(t, repository, "git", "diff", "--name-only", "main~1", "main"); got != manifestPath+"\n" {
		t.Errorf("the commit touches %s", got)
	}
	message := run(t, repository, "git", "log", "-1", "--format=%an <%ae>%n%B", "main")
	id := trailer(message, trailerDecision)
	want := "The autoscaler <cpa@example.com>\nScale shop/deployment/web: replicas 3 -> 5\n\n" +
		"CPA-Object: shop/deployment/web\nCPA-Decision-Id: " + id + "\nCPA-Reason: evaluated 5 (900 jobs wait)\nCPA-Replicas: 3 -> 5\n\n"
	if message != want || id == "" {
		t.Errorf("the commit says\n%s", message)
	}
	sound(t, repository)
	status := r.Status()
	if tip := strings.TrimSpace(run(t, repository, "git", "rev-parse", "main")); status.LastCommit != tip || status.Pending != nil || status.LastError != "" {
		t.Errorf("status %+v", status)
	}
}

func TestCommitting(t *testing.T) {
	for name, start := range everywhere {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			r := open(t, p.settings, Options{})
			for i, step := range []struct {
				from, to int32
				commits  int
				between  string
			}{
				{from: 3, to: 5, commits: 2},
				{from: 3, to: 5, commits: 2}, // It is there already.
				{from: 5, to: 7, commits: 4, between: "apps/other/y.yaml"},
				{from: 7, to: 0, commits: 5},
			} {
				if step.between != "" {
					commitFiles(t, p.repository, "Meanwhile", map[string]string{step.between: "a: 1\n"})
				}
				if err := r.Write(t.Context(), decision(step.from, step.to)); err != nil {
					t.Fatalf("step %d: %v", i, err)
				}
				if got := commits(t, p.repository); got != step.commits {
					t.Errorf("step %d: %d commits, want %d", i, got, step.commits)
				}
				if got := show(t, p.repository, manifestPath); !strings.Contains(got, fmt.Sprintf("replicas: %d # as many", step.to)) {
					t.Errorf("step %d: the file is\n%s", i, got)
				}
			}
			sound(t, p.repository)
		})
	}
}
