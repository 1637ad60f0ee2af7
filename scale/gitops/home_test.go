// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const testHome = "TEST_GITOPS_HOME"

// A process is killed while it has the folder: meanwhile another gets one of its
// own, and the next removes what was left.
func TestAFolderWhoseProcessIsKilled(t *testing.T) {
	if parent := os.Getenv(testHome); parent != "" { // the process that is killed
		h, err := openHome(parent, "home")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(h.path, "pack"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(parent, "ready"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		return
	}
	parent := t.TempDir()
	process := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAFolderWhoseProcessIsKilled$") //nolint:gosec // this test
	process.Env = append(os.Environ(), testHome+"="+parent)
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it has the folder", func() bool { _, err := os.Stat(filepath.Join(parent, "ready")); return err == nil })
	other, err := openHome(parent, "home")
	if err != nil || other.path == filepath.Join(parent, "home") {
		t.Fatalf("%+v, %v", other, err)
	}
	if err := other.close(); err != nil {
		t.Error(err)
	}
	if err := process.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = process.Wait()
	if _, err := os.Stat(filepath.Join(parent, "home", "pack")); err != nil {
		t.Fatalf("it left nothing: %v", err)
	}
	h, err := openHome(parent, "home")
	if err != nil || h.path != filepath.Join(parent, "home") {
		t.Fatalf("%+v, %v", h, err)
	}
	if left, err := os.ReadDir(h.path); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if info, err := os.Stat(h.path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	if err := h.close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 1 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// A folder that others can write to, or a link, in its place is not used.
func TestAFolderThatIsNotOurs(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"a link":          func(path string) error { return os.Symlink(t.TempDir(), path) },
		"open to all":     func(path string) error { return os.Mkdir(path, 0o755) },
		"a file":          func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"a dangling link": func(path string) error { return os.Symlink("nowhere", path) },
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			path := filepath.Join(parent, "home")
			if err := make(path); err != nil {
				t.Fatal(err)
			}
			h, err := openHome(parent, "home")
			if err != nil || !strings.HasPrefix(h.path, path+"-") {
				t.Fatalf("%+v, %v", h, err)
			}
			if err := h.close(); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := openHome("/nowhere", "home"); err == nil || !strings.Contains(err.Error(), "TMPDIR says where") {
		t.Errorf("got %v", err)
	}
}
