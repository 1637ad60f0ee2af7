// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

var benchCall = Call{Stage: StageMetric, Subject: "pod-1", Payload: bytes.Repeat([]byte("x"), 8<<10)}

func BenchmarkShell(b *testing.B) {
	bench(b, newExecutor(b, shellMethod(patience, "true"), newPool(b, PoolOptions{})))
}

func BenchmarkHTTP(b *testing.B) {
	bench(b, newExecutor(b, httpMethod(serve(b, echo).URL), newPool(b, PoolOptions{})))
}

func BenchmarkTLS(b *testing.B) {
	issuer := newAuthority(b, "issuer")
	files := material{b, b.TempDir()}
	files.write(map[string][]byte{"ca.crt": issuer.pem})
	files.writeClient(issuer.issue(b, "client"))
	bench(b, newExecutor(b, files.method(serveMutual(b, issuer).URL), newPool(b, PoolOptions{})))
}

func bench(b *testing.B, executor Executor) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := executor.Execute(b.Context(), benchCall); err != nil {
			b.Fatal(err)
		}
	}
}

// pythonWorker reads all of each request and answers it.
const pythonWorker = `
import json, os, sys
answers = os.fdopen(os.dup(1), "wb", 0)
for line in sys.stdin.buffer:
    request = json.loads(line)
    answers.write(b'{"jsonrpc":"2.0","id":%d,"result":"5"}\n' % request["id"])
`

// BenchmarkWorker is the round trip of a payload of 5 kB through one python
// process: one after another, and with several in flight.
func BenchmarkWorker(b *testing.B) {
	python, err := exec.Command("python3", "-c", "import sys; print(sys.executable, end='')").Output()
	if err != nil {
		b.Fatalf("this needs python3: %v", err)
	}
	pod := podOf5kB(b)
	for _, inFlight := range []int{1, 16} {
		b.Run(fmt.Sprintf("inFlight=%d", inFlight), func(b *testing.B) {
			executor := newExecutor(b, config.Method{Type: config.MethodWorker, Worker: &config.Worker{
				Entrypoint: string(python), Command: []string{"-c", pythonWorker}, MaxInFlight: inFlight,
			}}, newPool(b, PoolOptions{}))
			b.ReportAllocs()
			b.SetBytes(int64(len(pod)))
			var left atomic.Int64
			left.Store(int64(b.N))
			var callers sync.WaitGroup
			for range inFlight {
				callers.Go(func() {
					for left.Add(-1) >= 0 {
						if _, err := executor.Execute(b.Context(), Call{Stage: StageMetric, Payload: pod}); err != nil {
							b.Error(err)
						}
					}
				})
			}
			callers.Wait()
		})
	}
}

// podOf5kB is a pod as it comes from an API server, about that long.
func podOf5kB(b *testing.B) []byte {
	b.Helper()
	content, err := os.ReadFile("../autoscaler/testdata/captured/per-pod.metric.json")
	if err != nil {
		b.Fatal(err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, content); err != nil {
		b.Fatal(err)
	}
	return compact.Bytes()
}
