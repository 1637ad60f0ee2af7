// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
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

// faultyWorker is a worker in sh, which starts quickly, that does what its
// request says.
const faultyWorker = `
while read -r line; do
  id=${line#*'"id":'} id=${id%%,*}
  case $line in
    *crash*) exit 3 ;;
    *print*) echo 'a stray print' ;;
    *unasked*) id=99 ;;
    *twice*) printf '{"jsonrpc":"2.0","id":%s,"result":"5"}\n' "$id" ;;
    *mute*) exec >&- && read -r line ;;
    *fork*) sleep 600 & exit 3 ;;
    *flood*) while :; do echo; done ;;
    *endless*) exec cat /dev/zero ;;
    *hang*) sleep 600 ;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,"result":"5"}\n' "$id"
done`

func TestWorkerFaultsLeaveNothingBehind(t *testing.T) {
	withoutCollection(t)
	pool := newPool(t, PoolOptions{MaxOutputBytes: 4096})
	method := config.Method{Type: config.MethodWorker, Timeout: 100, Worker: &config.Worker{
		Entrypoint: "/bin/sh", Command: []string{"-c", faultyWorker}, Processes: 2,
	}}
	executor := newExecutor(t, method, pool)
	children := childrenOf(t)
	ask := func(deed string) error {
		_, err := executor.Execute(t.Context(), Call{Stage: StagePreScale, Payload: []byte(`"` + deed + `"`)})
		return err
	}
	deeds := []string{"crash", "print", "unasked", "twice", "mute", "fork", "flood", "endless", "hang"}
	fail := func(number int) (failed int) {
		for i := range number {
			if ask(deeds[i%len(deeds)]) != nil {
				failed++
			}
			// It is asked something else in between: one that never answers
			// would be started less and less often.
			for tries := 0; ask("answer") != nil && tries < 100; tries++ {
				t.Log("a worker that was just started did not answer in time")
			}
		}
		return failed
	}
	fail(2 * len(deeds)) // what is made once is made
	before := held(t)
	const number = 1000
	// An answer that comes twice is no fault of its request.
	if failed := fail(number); failed < number*(len(deeds)-1)/len(deeds) {
		t.Errorf("%d of %d requests failed", failed, number)
	}
	settles(t, before)
	pool.Close()
	eventually(t, "no process is left", func() bool { return childrenOf(t) <= children })
}

// childrenOf counts the processes that descend from this one or were orphaned,
// zombies too.
func childrenOf(t *testing.T) (count int) {
	t.Helper()
	processes, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		stat, err := os.ReadFile("/proc/" + process.Name() + "/stat")
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		command, _ := os.ReadFile("/proc/" + process.Name() + "/cmdline")
		if fields[1] == strconv.Itoa(os.Getpid()) || strings.Contains(string(command), "sleep\x00600") && fields[1] == "1" {
			count++
		}
	}
	return count
}
