// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestBurn runs what a pod runs, until it has used some of the CPU, and sees
// that it took no more than it was given.
func TestBurn(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "cpu")
	if err := os.WriteFile(file, []byte("300m"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	pod := exec.CommandContext(ctx, "/bin/sh", "-c", "ulimit -t 1\n"+burn, "burn", file)
	began := time.Now() // The limit ends it by a signal.
	err := pod.Run()
	took := time.Since(began)
	if status, ok := pod.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || ctx.Err() != nil {
		t.Fatalf("it ended with %v, want it to burn until it is stopped", err)
	}
	used := pod.ProcessState.UserTime() + pod.ProcessState.SystemTime()
	if most := took*3/10 + 300*time.Millisecond; used > most {
		t.Errorf("it used %s in %s, want %s at most", used, took, most)
	}
}
