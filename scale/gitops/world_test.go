// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

func TestMain(m *testing.M) {
	// sshd stands where not everybody's PATH leads.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin"); err != nil {
		panic(err)
	}
	for _, name := range []string{"git", "sshd", "ssh-keygen", "gpg"} {
		if _, err := exec.LookPath(name); err != nil {
			fmt.Fprintln(os.Stderr, "These tests need git, sshd, ssh-keygen and gpg: run `.ci/install git gpg ssh-keygen sshd`.", err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

const manifest = `# The shop.
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 3 # as many as are needed
`

const manifestPath = "apps/web/deployment.yaml"

// bare makes a bare repository with the manifest on main.
func bare(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo.git")
	run(t, "", "git", "init", "--quiet", "--bare", "--initial-branch=main", dir)
	commitFiles(t, dir, "Begin", map[string]string{manifestPath: manifest, "README.md": "# The shop\n", "apps/other/x.yaml": "a: 1\n"})
	return dir
}

// commitFiles commits files to main as a person would.
func commitFiles(t *testing.T, repository, message string, files map[string]string) {
	t.Helper()
	work := t.TempDir()
	run(t, "", "git", "clone", "--quiet", repository, work)
	run(t, work, "git", "checkout", "--quiet", "-B", "main")
	for name, content := range files {
		path := filepath.Join(work, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, work, "git", "add", "--all")
	run(t, work, "git", "commit", "--quiet", "--message", message)
	run(t, work, "git", "push", "--quiet", "origin", "HEAD:main")
}

// run runs a program, and answers what it prints.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_TERMINAL_PROMPT=0",
		"GIT_AUTHOR_NAME=A Person", "GIT_AUTHOR_EMAIL=person@example.com", "GIT_COMMITTER_NAME=A Person", "GIT_COMMITTER_EMAIL=person@example.com")
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, output, stderr.String())
	}
	return string(output)
}

func show(t *testing.T, repository, path string) string {
	t.Helper()
	return run(t, repository, "git", "show", "main:"+path)
}

// commits counts those of main.
func commits(t *testing.T, repository string) int {
	t.Helper()
	return strings.Count(run(t, repository, "git", "rev-list", "main"), "\n")
}

func sound(t *testing.T, repository string) {
	t.Helper()
	run(t, repository, "git", "fsck", "--full", "--strict")
}

func settings(repository string) config.GitOps {
	return config.GitOps{
		Repository: repository, Branch: "main", Mode: config.GitInstead, File: manifestPath, Replicas: "spec.replicas",
		Message: "Scale {id}: {change}", Author: config.GitAuthor{Name: "The autoscaler", Email: "cpa@example.com"},
		MinInterval: new(config.Seconds(0)), Timeout: 20000,
		Update: config.GitUpdate{Enabled: true, AllowedPath: "apps", MaxBytes: 1 << 20},
	}
}

// open makes a Repository and runs it until the test ends.
func open(t *testing.T, c config.GitOps, o Options) *Repository {
	t.Helper()
	r := made(t, c, o)
	begin(t, r)
	return r
}

func made(t *testing.T, c config.GitOps, o Options) *Repository {
	t.Helper()
	if o.ID == "" {
		o.ID = "shop/deployment/web"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	r, err := New(c, o)
	if err != nil {
		t.Fatal(err)
	}
	r.pace.first, r.pace.last, r.pace.again = 50*time.Millisecond, 200*time.Millisecond, 20*time.Millisecond
	return r
}

func begin(t *testing.T, r *Repository) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func decision(from, to int32) scale.Decision {
	return scale.Decision{Current: from, Desired: to, Evaluated: &to, Reason: "900 jobs wait"}
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !so(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 30 seconds: %s", what)
		}
	}
}
