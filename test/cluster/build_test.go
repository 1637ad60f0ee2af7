// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestBuildOnceUsesReadyProgramsFirst(t *testing.T) {
	assets, cache := programsInAssets(t), t.TempDir()
	t.Setenv(CacheVariable, cache)
	// Two at the same time, as `go test ./...` does with two packages.
	var progress [2]bytes.Buffer
	var found [2]Binaries
	var builds sync.WaitGroup
	for i := range found {
		builds.Go(func() {
			var err error
			if found[i], err = Build(t.Context(), &progress[i]); err != nil {
				t.Error(err)
			}
		})
	}
	builds.Wait()
	if diff := cmp.Diff(found[0], found[1]); diff != "" {
		t.Errorf("the two builds differ:\n%s", diff)
	}
	for _, name := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kwok", "metrics-server"} {
		if want := filepath.Join(assets, name); found[0][name] != want {
			t.Errorf("%s is %q, want the ready %q", name, found[0][name], want)
		}
	}
	for _, name := range []string{kwokCRDs, kwokStages} {
		content, err := os.ReadFile(found[0][name])
		if err != nil || !strings.HasPrefix(found[0][name], cache) || !bytes.Contains(content, []byte("kwok.x-k8s.io")) {
			t.Errorf("%s is at %q (%v) with %d bytes, want kwok's configuration in the cache", name, found[0][name], err, len(content))
		}
	}
	both := progress[0].String() + progress[1].String()
	for _, line := range []string{"building " + kwokCRDs + " v0.8.0 (1 of 2)\n", "built " + kwokCRDs + " in ", "building " + kwokStages} {
		if strings.Count(both, line) != 1 {
			t.Errorf("%q is shown %d times, want once, in:\n%s", line, strings.Count(both, line), both)
		}
	}
	var again bytes.Buffer
	if _, err := Build(t.Context(), &again); err != nil || again.Len() != 0 {
		t.Errorf("building again ended with %v and did %s", err, &again)
	}
}

// programsInAssets points KUBEBUILDER_ASSETS at a directory with a file for
// every program, so that only kwok's configuration is missing.
func programsInAssets(t *testing.T) string {
	t.Helper()
	assets := t.TempDir()
	for _, part := range parts {
		if part.args != nil {
			continue
		}
		if err := os.WriteFile(filepath.Join(assets, part.name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv(AssetsVariable, assets)
	return assets
}

func TestABuildThatIsCutShortSaysWhatToDo(t *testing.T) {
	programsInAssets(t)
	t.Setenv(CacheVariable, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Build(ctx, nil)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "go run ./test/cmd/cluster build") {
		t.Errorf("a cancelled build ended with %v", err)
	}
	if b, err := Build(t.Context(), nil); err != nil || b[kwokCRDs] == "" {
		t.Errorf("the build after it ended with %v", err)
	}
}

func TestAFailedBuildShowsTheCompiler(t *testing.T) {
	programsInAssets(t)
	t.Setenv(CacheVariable, t.TempDir())
	root := copyOfModule(t)
	if err := os.WriteFile(filepath.Join(root, binariesModule, "kwokconfig", "main.go"), []byte("package main\n\nfunc main() { nonsense }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	_, err := Build(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "building kwok-crds.yaml v0.8.0 (1 of 2): go run: ") || !strings.Contains(err.Error(), "undefined: nonsense") {
		t.Errorf("a broken program built with %v", err)
	}
}

func TestBuildOutsideTheRepository(t *testing.T) {
	t.Chdir(t.TempDir())
	if _, err := Build(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "run this from within the repository") {
		t.Errorf("building elsewhere ended with %v", err)
	}
}

func TestBuildWithoutGo(t *testing.T) {
	programsInAssets(t)
	t.Setenv(CacheVariable, t.TempDir())
	t.Setenv("PATH", t.TempDir())
	if _, err := Build(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "install Go, or point KUBEBUILDER_ASSETS at ready programs") {
		t.Errorf("building without Go ended with %v", err)
	}
}

func TestACacheBelongsToItsVersions(t *testing.T) {
	t.Setenv(CacheVariable, t.TempDir())
	root := copyOfModule(t)
	before, err := newBuilder(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := before.versions["k8s.io/kubernetes"]+" "+before.versions["sigs.k8s.io/kwok"], "v1.36.3 v0.8.0"; got != want {
		t.Errorf("the pinned versions are %s, want %s", got, want)
	}
	if !strings.Contains(strings.Join(before.flags, " "), "gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 "+
		"-X k8s.io/component-base/version.gitMinor=36") {
		t.Errorf("the flags do not carry the version: %q", before.flags)
	}
	for _, name := range []string{"go.mod", "go.sum", "kwokconfig/main.go"} {
		changed := copyOfModule(t)
		f, err := os.OpenFile(filepath.Join(changed, binariesModule, name), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString("\n")
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		after, err := newBuilder(changed, nil)
		if err != nil {
			t.Fatal(err)
		}
		if after.cache == before.cache {
			t.Errorf("a changed %s leaves the cache at %s", name, after.cache)
		}
	}
}

// copyOfModule copies the module of the programs below a new root.
func copyOfModule(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	if err := os.CopyFS(filepath.Join(root, binariesModule), os.DirFS("binaries")); err != nil {
		t.Fatal(err)
	}
	return root
}
