// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bytes"
	"testing"
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

// echoWorker answers each request with 5, after it has read all of it.
const echoWorker = `
import json, os, sys
out = os.fdopen(os.dup(1), "wb", 0); os.dup2(2, 1)
for line in sys.stdin.buffer:
    request = json.loads(line)
    out.write(b'{"jsonrpc":"2.0","id":%d,"result":"5"}\n' % request["id"])
`
