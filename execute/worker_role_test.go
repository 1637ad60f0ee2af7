// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// order is the params of a request to the worker that this test binary is in
// the role "worker": what it is to do.
type order struct {
	// Do is echo, unless it is another name of deeds.
	Do string
	// Text is what it is done with.
	Text string
	// Once names a file: when that is there already, it is echoed instead, so
	// that a question that is put again succeeds.
	Once string
	// Gate names a file that the answer waits for.
	Gate string
}

func (o order) call(stage Stage) Call {
	payload, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return Call{Stage: stage, Subject: o.Text, Payload: payload}
}

// obedient is a worker that does as it is told.
type obedient struct {
	mu  sync.Mutex
	out *os.File
}

func (w *obedient) print(text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.out.WriteString(text)
	must(err)
}

func (w *obedient) answer(id json.RawMessage, result any) {
	encoded, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": id, "result": result})
	must(err)
	w.print(string(encoded) + "\n")
}

// deeds are what a worker can be told to do instead of echoing. Those that
// return have the request answered all the same.
var deeds = map[string]func(w *obedient, id json.RawMessage, text string){
	"crash":   func(*obedient, json.RawMessage, string) { fmt.Fprintln(os.Stderr, "on my way"); os.Exit(3) },
	"exit":    func(*obedient, json.RawMessage, string) { os.Exit(0) },
	"kill":    func(*obedient, json.RawMessage, string) { must(syscall.Kill(os.Getpid(), syscall.SIGKILL)) },
	"print":   func(w *obedient, _ json.RawMessage, text string) { w.print(text + "\n") },
	"half":    func(w *obedient, _ json.RawMessage, text string) { w.print(text); os.Exit(3) },
	"unasked": func(w *obedient, _ json.RawMessage, _ string) { w.answer(json.RawMessage("99"), "x") },
	"twice":   func(w *obedient, id json.RawMessage, text string) { w.answer(id, text) },
	"flood":   flood,
	"endless": func(w *obedient, _ json.RawMessage, _ string) { endless(w) },
	"mute":    func(w *obedient, _ json.RawMessage, _ string) { must(w.out.Close()); forever() },
	"hang":    func(*obedient, json.RawMessage, string) { forever() },
	"fork":    func(*obedient, json.RawMessage, string) { fork(); os.Exit(3) },
	"stderr":  func(_ *obedient, _ json.RawMessage, text string) { fmt.Fprintln(os.Stderr, text) },
	"trigger": func(w *obedient, _ json.RawMessage, text string) { w.print(trigger(text)) },
	"neither": func(w *obedient, id json.RawMessage, _ string) {
		w.print(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s}`+"\n", id))
		forever()
	},
	"error":      func(w *obedient, id json.RawMessage, text string) { w.fail(string(id), text); select {} },
	"confused":   func(w *obedient, _ json.RawMessage, text string) { w.fail("null", text); select {} },
	"descendant": func(*obedient, json.RawMessage, string) { fork() },
}

func (w *obedient) fail(id, text string) {
	w.print(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":%q,"data":{"at":"the door"}}}`+"\n", id, text))
}

func trigger(reason string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","method":"trigger","params":{"reason":%q}}`+"\n", reason)
}

func flood(w *obedient, _ json.RawMessage, text string) {
	for range 1_000_000 {
		w.print(strings.ReplaceAll(text, "~", "\n"))
	}
	forever()
}

func endless(w *obedient) {
	for {
		w.print(strings.Repeat("x", 1<<16))
	}
}

// forever is longer than any test waits. The standard library would take a
// program without running goroutines for dead.
func forever() { time.Sleep(time.Hour) }

// fork leaves a process behind that holds stdout, and tells its ID on stderr.
func fork() {
	left := exec.CommandContext(context.Background(), "sleep", "600")
	left.Stdout = os.Stdout
	must(left.Start())
	fmt.Fprintln(os.Stderr, left.Process.Pid)
}

// beWorker answers requests until its stdin ends. Its argument is a folder in
// which each process leaves a file with its ID as its name.
func beWorker(args []string) {
	if len(args) > 0 {
		must(os.WriteFile(filepath.Join(args[0], strconv.Itoa(os.Getpid())), nil, 0o600))
	}
	w := &obedient{out: os.Stdout}
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var request struct {
			ID     json.RawMessage
			Method string
			Params order
		}
		must(json.Unmarshal(line, &request))
		go w.serve(request.ID, request.Method, request.Params)
	}
}

func (w *obedient) serve(id json.RawMessage, method string, o order) {
	for o.Gate != "" {
		if _, err := os.Stat(o.Gate); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	deed := deeds[o.Do]
	if o.Once != "" {
		file, err := os.OpenFile(o.Once, os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			deed = nil
		} else {
			must(file.Close())
		}
	}
	if deed != nil {
		deed(w, id, o.Text)
	}
	w.answer(id, method+" "+o.Text)
}

// workerMethod is a worker that this test binary is. Its processes leave their
// IDs in the folder.
func workerMethod(t testing.TB, timeout time.Duration, folder string, settings config.Worker) config.Method {
	t.Helper()
	settings.Entrypoint, settings.Command = self(t), []string{"worker", folder}
	return config.Method{Type: config.MethodWorker, Timeout: config.Milliseconds(timeout.Milliseconds()), Worker: &settings}
}
