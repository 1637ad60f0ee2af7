// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// commitHuge commits so many zero bytes in place of the manifest.
func commitHuge(t *testing.T, repository string, size int64) {
	t.Helper()
	work := t.TempDir()
	run(t, "", "git", "clone", "--quiet", repository, work)
	if err := os.Truncate(filepath.Join(work, manifestPath), size); err != nil {
		t.Fatal(err)
	}
	run(t, work, "git", "commit", "--quiet", "--all", "--message", "Grow")
	run(t, work, "git", "push", "--quiet", "origin", "HEAD:main")
}

// peak watches how large the heap becomes.
func peak() (stop func() (bytes uint64)) {
	var most atomic.Uint64
	done, ended := make(chan struct{}), make(chan struct{})
	look := func() {
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		most.Store(max(most.Load(), stats.HeapAlloc))
	}
	runtime.GC()
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			look()
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		close(done)
		<-ended
		return most.Load()
	}
}

// A file of 200 MB, which are few when compressed, is refused without being read
// into memory.
func TestAHugeFile(t *testing.T) {
	p := onThisMachine(t)
	commitHuge(t, p.repository, 200<<20)
	r := open(t, p.settings, Options{})
	stop := peak()
	err := r.Write(t.Context(), decision(3, 5))
	if err == nil || !strings.Contains(err.Error(), "apps/web/deployment.yaml is larger than") {
		t.Errorf("got %v", err)
	}
	if most := stop(); most > 64<<20 {
		t.Errorf("the heap grew to %d MB", most>>20)
	}
}

// What is fetched is bounded, and nothing of what is too much is left.
func TestARepositoryThatIsTooLarge(t *testing.T) {
	p := overHTTPSServer(t)
	commitFiles(t, p.repository, "Grow", map[string]string{"large.bin": incompressible(1 << 20)})
	dir := t.TempDir()
	r := made(t, p.settings, Options{Dir: dir})
	connect := r.connect
	r.connect = func() (remote, error) {
		way, err := connect()
		if err == nil {
			way.(*server).clone.most = 1 << 20
		}
		return way, err
	}
	begin(t, r)
	err := r.Write(t.Context(), decision(3, 5))
	if !errors.Is(err, errTooLarge) || !strings.Contains(err.Error(), "use a smaller repository for the file") {
		t.Errorf("got %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
