// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// workerConfig is one worker for metric and evaluate: the metric is the pod's
// name, the evaluation what the file `wanted` holds. Each process leaves a file
// with its ID as its name, and asks for a run when it finds the file `push`.
const workerConfig = `
scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
maxReplicas: 100
metric: &worker
  type: worker
  timeout: 30000
  worker: {entrypoint: python3, command: [-c, "exec(open('worker.py').read())"], processes: 2}
evaluate: *worker
`

const workerProgram = `
import json, os, sys, threading, time
answers = os.fdopen(os.dup(1), "wb", 0)
os.dup2(2, 1)
lock = threading.Lock()
os.makedirs("processes", exist_ok=True)
open("processes/%d" % os.getpid(), "w").close()

def send(message):
    with lock:
        answers.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

def watch():
    while True:
        time.sleep(0.005)
        try:
            os.rename("push", "pushed")
        except FileNotFoundError:
            continue
        send({"method": "trigger", "params": {"reason": "the queue grew"}})

threading.Thread(target=watch, daemon=True).start()
for line in sys.stdin.buffer:
    request = json.loads(line)
    try:
        if request["method"] == "metric":
            result = request["params"]["resource"]["metadata"]["name"]
            print("a stray print")
        else:
            result = json.load(open("wanted"))
        send({"id": request["id"], "result": result})
    except Exception as error:
        send({"id": request["id"], "error": {"code": 1, "message": str(error)}})
`

// startWorker starts the program with the worker.
func (d deployment) startWorker(more string, environment ...string) *process {
	d.t.Helper()
	p := d.start(workerConfig+more, environment...)
	write(d.t, p.file("worker.py"), workerProgram)
	return p
}

// workers are the IDs of the worker's processes so far.
func (p *process) workers() (ids []int) {
	p.t.Helper()
	entries, err := os.ReadDir(p.file("processes"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.t.Fatal(err)
	}
	for _, entry := range entries {
		id, err := strconv.Atoi(entry.Name())
		if err != nil {
			p.t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// running says whether a process is there.
func running(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestWorkersStay(t *testing.T) {
	const pods = 20
	d := deploy(t, cluster.ForTest(t), pods)
	p := d.startWorker("")
	p.wants(fmt.Sprintf(`{"targetReplicas": %d}`, pods))
	for range 3 {
		p.waitForLine(p.mark(), `msg="Nothing to scale" .*reason="evaluated 20"`)
	}
	// Two at most, for 20 pods and an evaluation in each run.
	before := p.workers()
	if len(before) < 1 || len(before) > 2 {
		t.Errorf("there were %d processes, want one or two", len(before))
	}

	status, body := p.request(http.MethodGet, "/api/v1/metrics?dry_run=true")
	var got []metric.ResourceMetric
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != http.StatusOK {
		t.Fatalf("it answered %d %s", status, body)
	}
	list, err := d.client.CoreV1().Pods(d.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != pods || len(got) != pods {
		t.Fatalf("%d metrics of %d pods, %v", len(got), len(list.Items), err)
	}
	for i, m := range got {
		if name := list.Items[i].Name; m.Resource != name || m.Value != name {
			t.Errorf("metric %d is %+v, want that of %s", i, m, name)
		}
	}

	// Killed from outside, they are replaced, and no run fails for that.
	for _, pid := range before {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	p.waitForLine(0, `msg="A worker is replaced" .*reason="the worker ended (before it answered|while it was idle): killed by SIGKILL`)
	for range 3 {
		p.waitForLine(p.mark(), `msg="Nothing to scale" .*reason="evaluated 20"`)
	}
	if log := strings.Join(p.log(), "\n"); strings.Contains(log, "Run failed") || !strings.Contains(log, `line="a stray print"`) {
		t.Error("a run failed, or stderr is not logged")
	}

	// They end with the program.
	after := p.workers()
	if status, took := p.stop(syscall.SIGTERM); status != 0 || took.Seconds() > 3 {
		t.Errorf("exit status %d after %s", status, took)
	}
	for _, pid := range after {
		if running(pid) {
			t.Errorf("the worker %d is still there", pid)
		}
	}
}

// A worker ends with the program even if that is killed.
func TestWorkersEndWithAKilledProgram(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	p := d.startWorker("")
	p.wants(`{"targetReplicas": 2}`)
	p.waitForLine(0, `msg="Nothing to scale"`)
	p.stop(syscall.SIGKILL)
	for _, pid := range p.workers() {
		eventually(t, "the worker ends", func(context.Context) error {
			if running(pid) {
				return fmt.Errorf("process %d is there", pid)
			}
			return nil
		})
	}
}

// A worker learns something: it is acted on at once, long before the interval
// is over.
func TestPush(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	p := d.startWorker("", "interval=3600000")
	p.wants(`{"targetReplicas": 2}`)
	// The first run starts the worker.
	if status, body := p.request(http.MethodPost, "/api/v1/evaluation"); status != http.StatusOK {
		t.Fatalf("it answered %d %s", status, body)
	}
	for _, want := range []int32{5, 3} {
		mark := p.mark()
		p.wants(fmt.Sprintf(`{"targetReplicas": %d}`, want))
		p.touch("push")
		p.waitForLine(mark, fmt.Sprintf(`msg=Scaled .*to=%d .*runType=scaler trigger=push triggerReason="the queue grew"`, want))
		d.waitForReplicas(want)
	}
}

// What one pod's hook fails with is reported with the pod, and ends the run or
// not.
func TestAPodFails(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 12)
	list, err := d.client.CoreV1().Pods(d.namespace).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	bad := list.Items[7].Name
	config := func(more string) string {
		return fmt.Sprintf(`
scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
maxReplicas: 100
gatherConcurrency: 5
metric: {type: shell, shell: {entrypoint: sh, command: [-c, 'if grep -q "\"name\":\"%s\""; then echo unwell >&2; exit 4; fi; echo 1']}}
evaluate: {type: shell, shell: {entrypoint: sh, command: [-c, 'echo "{\"targetReplicas\": $(grep -o "value" | wc -l)}"']}}
%s`, bad, more)
	}
	p := d.start(config(""))
	p.waitForLine(0, `msg="Run failed" .*from=12 to=12 .*stage=metric pod=`+bad+` error="exit status 4" stderr="unwell\\n"`)
	p.stop(syscall.SIGTERM)

	p = d.start(config("onPodFailure: skip"))
	p.waitForLine(0, `msg="Pods were left out, since their metric hook failed" .*pods=1 names=`+bad+` error="exit status 4" stderr="unwell\\n"`)
	p.waitForLine(0, `msg=Scaled .*from=12 to=11 reason="evaluated 11" skippedPods=1`)
}
