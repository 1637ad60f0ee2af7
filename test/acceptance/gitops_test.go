// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// sh runs a shell script in a folder and returns what it printed.
func sh(t testing.TB, folder, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	command := exec.CommandContext(ctx, "sh", "-ec", script)
	command.Dir = folder
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, output)
	}
	return strings.TrimSpace(string(output))
}

// inGit is the count that the repository's file holds.
func inGit(t testing.TB, bare string) string {
	t.Helper()
	return sh(t, bare, "git show main:apps/web/values.yaml")
}

// waitForGit waits until the repository's file holds the count.
func waitForGit(t testing.TB, bare string, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("the repository says %d", want), func(ctx context.Context) error {
		output, err := exec.CommandContext(ctx, "git", "-C", bare, "show", "main:apps/web/values.yaml").Output()
		if got := strings.TrimSpace(string(output)); err != nil || got != fmt.Sprintf("replicas: %d", want) {
			return fmt.Errorf("it says %s (%w)", got, err)
		}
		return nil
	})
}

// commits are how many there are on the branch.
func commits(t testing.TB, bare string) string {
	t.Helper()
	return sh(t, bare, "git rev-list --count main")
}

func gitConfig(bare, mode string) string {
	return wantsConfig(fmt.Sprintf("gitOps: {repository: %s, mode: %s, file: apps/web/values.yaml, replicas: replicas, minInterval: 1}", bare, mode))
}

// As a record: the target is scaled, and the repository follows, whoever scaled;
// while it cannot be pushed to, scaling goes on, and the latest count is pushed
// once it can.
func TestGitRecords(t *testing.T) {
	folder := t.TempDir()
	bare := bareRepository(t, folder)
	d := deploy(t, cluster.ForTest(t), 2)
	p := d.start(gitConfig(bare, "record"), temporary(t))
	p.wants(`{"targetReplicas": 4, "reason": "queue of 42"}`)
	d.waitForReplicas(4)
	waitForGit(t, bare, 4)
	if message := sh(t, bare, "git log -1 --format=%B main"); !strings.Contains(message, "CPA-Reason: evaluated 4 (queue of 42)") {
		t.Errorf("the message is %s", message)
	}
	hook := filepath.Join(bare, "objects")
	if err := os.Rename(hook, hook+".away"); err != nil {
		t.Fatal(err)
	}
	mark := p.mark()
	p.wants(`{"targetReplicas": 6}`)
	d.waitForReplicas(6)
	p.waitForLine(mark, `component=git .*error=`)
	p.wants(`{"targetReplicas": 7}`)
	d.waitForReplicas(7)
	if status, printed, _ := p.run("status"); status != 0 || !strings.Contains(printed, "7") || !strings.Contains(strings.ToLower(printed), "pending") {
		t.Errorf("the status does not show what is pending:\n%s", printed)
	}
	if err := os.Rename(hook+".away", hook); err != nil {
		t.Fatal(err)
	}
	waitForGit(t, bare, 7)
	if got := commits(t, bare); got != "3" {
		t.Errorf("%s commits, want that of the beginning, 4 and 7", got)
	}
}

// Instead of the scale call: nothing is scaled but by who applies the repository,
// and until that has happened the pushed count is the one that counts. A process
// that is killed in between pushes nothing twice.
func TestGitInsteadOfScaling(t *testing.T) {
	folder := t.TempDir()
	bare := bareRepository(t, folder)
	d := deploy(t, cluster.ForTest(t), 2)
	here := temporary(t)
	p := d.start(gitConfig(bare, "instead"), here)
	p.wants(`{"targetReplicas": 5}`)
	waitForGit(t, bare, 5)
	mark := p.mark()
	p.waitForLine(mark, `msg="Nothing to scale" .*from=5 to=5`)
	if got := d.replicas(); got != 2 {
		t.Errorf("the target was scaled to %d", got)
	}
	p.stop(syscall.SIGKILL)
	p = d.start(gitConfig(bare, "instead"), here)
	p.wants(`{"targetReplicas": 5}`)
	p.waitForLine(0, `msg="Nothing to scale" .*from=5 to=5`)
	if got := commits(t, bare); got != "2" {
		t.Errorf("%s commits, want that of the beginning and one", got)
	}
	// What applies the repository does so now.
	count, err := strconv.Atoi(strings.TrimPrefix(inGit(t, bare), "replicas: "))
	if err != nil {
		t.Fatal(err)
	}
	d.scale(int32(count)) //nolint:gosec // it is 5
	mark = p.mark()
	p.wants(`{"targetReplicas": 3}`)
	p.waitForLine(mark, `msg=Scaled .*from=5 to=3`)
	waitForGit(t, bare, 3)
	if status, _ := p.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
