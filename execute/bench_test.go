// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"

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

// pythonWorker answers each request, whose line the argument tells how to read.
const pythonWorker = `
import json, os, sys
answers = os.fdopen(os.dup(1), "wb", 0)
prefix = len(b'{"jsonrpc":"2.0","id":')
parsed = sys.argv[1] == "parsed"
for line in sys.stdin.buffer:
    id = json.loads(line)["id"] if parsed else int(line[prefix:prefix + 12].split(b",")[0])
    answers.write(b'{"jsonrpc":"2.0","id":%d,"result":"5"}\n' % id)
`

// BenchmarkWorker is the round trip of a payload of 5 kB through one python
// process, one after another and with several in flight: when it parses the
// whole of it, which is most of the time, and when it looks at the ID alone,
// which leaves what is ours.
func BenchmarkWorker(b *testing.B) {
	python, err := exec.CommandContext(b.Context(), "python3", "-c", "import sys; print(sys.executable, end='')").Output()
	if err != nil {
		b.Fatalf("this needs python3: %v", err)
	}
	for _, reading := range []string{"parsed", "id"} {
		for _, inFlight := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/inFlight=%d", reading, inFlight), func(b *testing.B) {
				benchInFlight(b, inFlight, newExecutor(b, config.Method{Type: config.MethodWorker, Worker: &config.Worker{
					Entrypoint: string(python), Command: []string{"-c", pythonWorker, reading}, MaxInFlight: inFlight,
				}}, newPool(b, PoolOptions{})))
			})
		}
	}
}

// benchInFlight asks b.N times, several at once.
func benchInFlight(b *testing.B, inFlight int, executor Executor) {
	b.Helper()
	call := Call{Stage: StageMetric, Payload: podOf5kB(b)}
	b.ReportAllocs()
	b.SetBytes(int64(len(call.Payload)))
	var left atomic.Int64
	left.Store(int64(b.N))
	var callers sync.WaitGroup
	for range inFlight {
		callers.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := executor.Execute(b.Context(), call); err != nil {
					b.Error(err)
				}
			}
		})
	}
	callers.Wait()
}

// BenchmarkPayload is what a question about a pod costs, once the pod and what
// is the same for all pods are encoded.
func BenchmarkPayload(b *testing.B) {
	frame, err := NewFrame(struct {
		Resource Resource `json:"resource"`
		RunType  RunType  `json:"runType"`
	}{RunType: RunScaler})
	if err != nil {
		b.Fatal(err)
	}
	question := Question{Frame: frame, Resource: podOf5kB(b)}
	b.ReportAllocs()
	for b.Loop() {
		_ = question.payload()
	}
}

// podOf5kB is a pod as it comes from an API server, about that long.
func podOf5kB(b *testing.B) []byte {
	b.Helper()
	content, err := os.ReadFile("../autoscaler/testdata/captured/per-pod.metric.json")
	if err != nil {
		b.Fatal(err)
	}
	var payload struct {
		Resource corev1.Pod `json:"resource"`
	}
	if err := json.Unmarshal(content, &payload); err != nil {
		b.Fatal(err)
	}
	// The captured one is of a fake node; the kubelet sets more conditions, and
	// manages their fields.
	payload.Resource.Status.Conditions = slices.Repeat(payload.Resource.Status.Conditions, 32)
	encoded, err := json.Marshal(payload)
	if err != nil {
		b.Fatal(err)
	}
	return encoded
}
