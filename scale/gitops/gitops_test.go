// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
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
