// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// commandVariable makes this test binary the command.
const commandVariable = "CPA_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(commandVariable) != "" {
		os.Exit(run())
	}
	goleak.VerifyTestMain(m)
}

// shell runs the command against one directory of state, as a person would.
type shell struct {
	t         *testing.T
	directory string
}

// newShell makes the state for a test, and sees to it that nothing runs on.
func newShell(t *testing.T) *shell {
	t.Helper()
	s := &shell{t: t, directory: filepath.Join(t.TempDir(), "it's here")}
	t.Cleanup(func() {
		down := s.command(context.WithoutCancel(t.Context()), "down")
		if output, err := down.CombinedOutput(); err != nil {
			t.Errorf("down at the end of the test: %v: %s", err, output)
		}
	})
	return s
}

func (s *shell) command(ctx context.Context, verb string) *exec.Cmd {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	command := exec.CommandContext(ctx, self, verb, "--state", s.directory)
	command.Env = append(os.Environ(), commandVariable+"=1")
	return command
}

// run runs a subcommand and checks its exit status.
func (s *shell) run(verb string, wantStatus int) (output, messages string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Minute)
	defer cancel()
	command := s.command(ctx, verb)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	_ = command.Run()
	if status := command.ProcessState.ExitCode(); status != wantStatus {
		s.t.Fatalf("%s ended with status %d, want %d; it said:\n%s%s", verb, status, wantStatus, &stdout, &stderr)
	}
	return stdout.String(), stderr.String()
}

func (s *shell) kubeconfig() string { return filepath.Join(s.directory, "kubeconfig") }

// nothingLeft checks that no server answers any more and what was written for
// others is gone.
func (s *shell) nothingLeft(server string) {
	s.t.Helper()
	for _, file := range []string{"kubeconfig", "state.json"} {
		if _, err := os.Stat(filepath.Join(s.directory, file)); !errors.Is(err, fs.ErrNotExist) {
			s.t.Errorf("%s is there (%v)", file, err)
		}
	}
	s.until("the API server to end", func() error {
		connection, err := (&net.Dialer{}).DialContext(s.t.Context(), "tcp", strings.TrimPrefix(server, "https://"))
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		if err == nil {
			err = connection.Close()
		}
		return errors.Join(errors.New("it answers"), err)
	})
}

// until asks again and again, half a minute at most.
func (s *shell) until(what string, probe func() error) {
	s.t.Helper()
	ticker, deadline := time.NewTicker(20*time.Millisecond), time.NewTimer(30*time.Second)
	defer ticker.Stop()
	defer deadline.Stop()
	for {
		err := probe()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			s.t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

func TestUpAndDown(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	if output, _ := s.run("status", 1); output != "no control plane is running\n" {
		t.Errorf("status before up says %q", output)
	}

	output, messages := s.run("up", 0)
	if want := "export KUBECONFIG='" + strings.ReplaceAll(s.kubeconfig(), "'", `'\''`) + "'\n"; output != want {
		t.Errorf("up printed %q, want %q", output, want)
	}
	evaluated, err := exec.CommandContext(t.Context(), "sh", "-c", output+`printf %s "$KUBECONFIG"`).Output()
	if err != nil || string(evaluated) != s.kubeconfig() {
		t.Errorf("the shell sees KUBECONFIG=%s (%v), want %s", evaluated, err, s.kubeconfig())
	}
	server := reach(t, s.kubeconfig())
	if !strings.Contains(messages, "the control plane runs at "+server+"\n") {
		t.Errorf("up does not name %s:\n%s", server, messages)
	}

	again, messages := s.run("up", 0)
	if again != output || !strings.HasPrefix(messages, cluster.ErrRunning.Error()) {
		t.Errorf("a second up printed %q and said %q", again, messages)
	}

	status, _ := s.run("status", 0)
	kill(t, programID(t, status, "kwok"))
	s.until("status to show that kwok ended", func() error {
		if status := s.description(); strings.Contains(status, "kwok: ended; see ") {
			return nil
		}
		return errors.New("it does not")
	})
	s.run("status", 1)
	reach(t, s.kubeconfig())

	if output, _ := s.run("down", 0); output != "the control plane is stopped and removed\n" {
		t.Errorf("down says %q", output)
	}
	s.nothingLeft(server)
	if output, _ := s.run("down", 0); output != "no control plane is running\n" {
		t.Errorf("a second down says %q", output)
	}
}

// description is what status says.
func (s *shell) description() string {
	s.t.Helper()
	detached, err := cluster.NewDetached(s.directory)
	if err != nil {
		s.t.Fatal(err)
	}
	description, _, err := detached.Status()
	if err != nil {
		s.t.Fatal(err)
	}
	return description
}

// reach uses the API of a kubeconfig and returns its server.
func reach(t *testing.T, kubeconfig string) string {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	defer httpClient.CloseIdleConnections()
	client, err := kubernetes.NewForConfigAndClient(config, httpClient)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Nodes().Get(t.Context(), cluster.NodeName, metav1.GetOptions{}); err != nil {
		t.Fatal(err)
	}
	return config.Host
}

// programID finds the process of a program in what status says.
func programID(t *testing.T, status, name string) int {
	t.Helper()
	match := regexp.MustCompile(`(?m)^` + name + `: process (\d+)$`).FindStringSubmatch(status)
	if match == nil {
		t.Fatalf("status does not show %s:\n%s", name, status)
	}
	pid, err := strconv.Atoi(match[1])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func TestDownCleansUpAfterAKilledServer(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	s.run("up", 0)
	server := reach(t, s.kubeconfig())
	content, err := os.ReadFile(filepath.Join(s.directory, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(content))
	if err != nil {
		t.Fatal(err)
	}
	kill(t, pid)
	s.until("status to notice", func() error {
		if status := s.description(); status == "no control plane is running\n" {
			return nil
		}
		return errors.New("it has not")
	})
	if output, _ := s.run("down", 0); output != "no control plane is running\n" {
		t.Errorf("down says %q", output)
	}
	s.nothingLeft(server)
}

func TestInterruptedUpLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newShell(t)
	up := s.command(t.Context(), "up")
	var messages bytes.Buffer
	up.Stderr = &messages
	if err := up.Start(); err != nil {
		t.Fatal(err)
	}
	// The server has the lock and is not ready yet.
	s.until("the server to start", func() error {
		if status := s.description(); strings.HasPrefix(status, "the control plane is starting; see ") {
			return nil
		}
		return errors.New("it has not")
	})
	if err := up.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := up.Wait(); up.ProcessState.ExitCode() != 1 || !strings.Contains(messages.String(), "starting the control plane: interrupt signal received") {
		t.Errorf("the interrupted up ended with %v and said:\n%s", err, &messages)
	}
	if output, _ := s.run("status", 1); output != "no control plane is running\n" {
		t.Errorf("status afterwards says %q", output)
	}
}

func TestAFailedUpSaysWhy(t *testing.T) {
	assets := t.TempDir()
	if err := os.WriteFile(filepath.Join(assets, "etcd"), []byte("#!/bin/sh\necho this etcd is broken\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(cluster.AssetsVariable, assets)
	s := newShell(t)
	_, messages := s.run("up", 1)
	for _, want := range []string{"starting the control plane: ", "etcd ended: exit status 3", "this etcd is broken"} {
		if !strings.Contains(messages, want) {
			t.Errorf("up does not say %q:\n%s", want, messages)
		}
	}
	s.run("status", 1)
}
