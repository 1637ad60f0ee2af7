// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// A single call that finds methods by name, such as a template's, has the linker
// keep all there are, which is megabytes in each autoscaler's memory.
func TestTheProgramIsSmall(t *testing.T) {
	t.Parallel()
	const most = 24 << 20
	file := filepath.Join(t.TempDir(), "custom-pod-autoscaler")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file,
		"github.com/custom-pod-autoscaler/custom-pod-autoscaler/cmd/custom-pod-autoscaler")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the program: %v\n%s", err, output)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if t.Logf("%d bytes", info.Size()); info.Size() > most {
		t.Errorf("that is more than %d: what was added?", most)
	}
}
