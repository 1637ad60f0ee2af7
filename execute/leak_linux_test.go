// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"
)

// These tests are not parallel: they count what the process holds.

// atOnce is how many calls are made at once.
const atOnce = 10

// holdings are what must not grow with the number of calls.
type holdings struct{ goroutines, files, sockets int }

// withoutCollection keeps the garbage collector from closing files that a call
// has forgotten.
func withoutCollection(t *testing.T) {
	t.Helper()
	before := debug.SetGCPercent(-1)
	t.Cleanup(func() { debug.SetGCPercent(before) })
}

func held(t *testing.T) holdings {
	t.Helper()
	descriptors, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	now := holdings{goroutines: runtime.NumGoroutine(), files: len(descriptors)}
	for _, descriptor := range descriptors {
		if target, err := os.Readlink("/proc/self/fd/" + descriptor.Name()); err == nil && strings.HasPrefix(target, "socket:") {
			now.sockets++
		}
	}
	return now
}

// atMost says whether nothing of h is more than in the other.
func (h holdings) atMost(other holdings) bool {
	return h.goroutines <= other.goroutines && h.files <= other.files && h.sockets <= other.sockets
}

// settles waits until no more is held than before.
func settles(t *testing.T, before holdings) {
	t.Helper()
	var now holdings
	defer func() { t.Logf("before %+v, after %+v", before, now) }()
	eventually(t, fmt.Sprintf("no more is held than %+v", before), func() bool {
		now = held(t)
		return now.atMost(before)
	})
}

// callMany makes calls, some of them at once.
func callMany(t *testing.T, executor Executor, number int, check func(Result, error)) {
	t.Helper()
	var calls sync.WaitGroup
	for range atOnce {
		calls.Go(func() {
			for range number / atOnce {
				check(executor.Execute(context.Background(), Call{Stage: StageMetric, Payload: []byte(payload)}))
			}
		})
	}
	calls.Wait()
}

func TestShellTimeoutsLeaveNothingBehind(t *testing.T) {
	withoutCollection(t)
	executor := newExecutor(t, shellMethod(20*time.Millisecond, "/bin/sh", "-c", "sleep 600 & sleep 600 | sleep 600"), newPool(t, PoolOptions{}))
	timesOut := func(_ Result, err error) {
		if failed := fault(t, err); failed.Kind != KindTimeout {
			t.Errorf("got %v", err)
		}
	}
	callMany(t, executor, 10, timesOut) // what is made once is made
	before := held(t)
	callMany(t, executor, 500, timesOut)
	settles(t, before)
}

func TestHTTPTimeoutsLeaveNothingBehind(t *testing.T) {
	withoutCollection(t)
	for _, scheme := range []string{"http://", "https://"} {
		address := listenOnly(t)
		method := httpMethod(scheme + address)
		method.Timeout = 20
		pool := newPool(t, PoolOptions{})
		executor := newExecutor(t, method, pool)
		before := held(t)
		callMany(t, executor, 500, func(_ Result, err error) {
			if failed := fault(t, err); failed.Kind != KindTimeout {
				t.Errorf("got %v", err)
			}
		})
		settles(t, before)
	}
}

func TestTLSCallsLeaveNothingBehind(t *testing.T) {
	withoutCollection(t)
	issuer := newAuthority(t, "issuer")
	files := material{t, t.TempDir()}
	files.write(map[string][]byte{"ca.crt": issuer.pem})
	files.writeClient(issuer.issue(t, "client"))
	server := serveMutual(t, issuer)
	pool := newPool(t, PoolOptions{})
	executor := newExecutor(t, files.method(server.URL), pool)
	answers := func(result Result, err error) {
		if err != nil || string(result.Output) != "client" {
			t.Errorf("got %q, %v", result.Output, err)
		}
	}
	before := held(t)
	callMany(t, executor, 500, answers)
	for range 50 { // and with new certificates each time
		files.writeClient(issuer.issue(t, "client"))
		answers(executor.Execute(t.Context(), Call{}))
	}
	// A few connections may be kept, of which both ends are ours.
	if during := held(t); during.sockets > before.sockets+2*atOnce || during.files > before.files+2*atOnce {
		t.Errorf("before %+v, after 550 calls %+v", before, during)
	}
	pool.Close()
	settles(t, before)
}
