// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package execute runs a user's hook inside a deadline: a program (shell), one
// that stays (worker), or a request (HTTP). A hook cannot hurt its caller: it runs in a process group of
// its own that is killed whole, its output is bounded, and every failure comes
// back as an *Error that says what went wrong and shows the end of stderr.
package execute

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// Call is one question to a hook.
type Call struct {
	// Stage is the step of the run that asks, such as StageMetric.
	Stage Stage
	// Subject is what the question is about: a pod's name in the stage metric
	// of the run mode per-pod, else empty.
	Subject string
	// Payload is the JSON handed to the hook.
	Payload []byte

	// allowance is what the run may still answer; nil is without a bound.
	allowance *allowance
}

// Result is a hook's answer.
type Result struct {
	// Output is all the hook printed to stdout, or the response's body,
	// untrimmed.
	Output []byte
}

// Executor runs one method. It is safe for concurrent use.
type Executor interface {
	// Execute asks the hook and waits for its answer, at most the method's
	// timeout; a worker's counts from the sending, its turn is waited for as
	// long, and what is asked once more takes as long again. Its error is an
	// *Error. After a failure everything has been killed that the call started
	// and that is still in its process group, unless it is a worker that can go
	// on; after a success what the hook left running is left alone.
	Execute(ctx context.Context, call Call) (Result, error)
}

// Kind says in what way a call failed.
type Kind string

// The kinds of failure.
const (
	// KindStart: the program could not be started, or the request not be made.
	KindStart Kind = "start"
	// KindExit: the program ended with a status other than 0.
	KindExit Kind = "exit"
	// KindSignal: the program was ended by a signal that was not ours.
	KindSignal Kind = "signal"
	// KindTimeout: the deadline passed.
	KindTimeout Kind = "timeout"
	// KindCanceled: the caller gave up, as on shutdown.
	KindCanceled Kind = "canceled"
	// KindOutput: the hook answered with more than is allowed.
	KindOutput Kind = "output"
	// KindStatus: the response's status is not one that means success.
	KindStatus Kind = "status"
	// KindTransport: the request got no, or no whole, response.
	KindTransport Kind = "transport"
	// KindAnswer: the hook answered, but with something that cannot be used.
	KindAnswer Kind = "answer"
	// KindReported: the hook answered that it failed.
	KindReported Kind = "reported"
)

// Error is a failed call.
type Error struct {
	Kind    Kind
	Stage   Stage
	Subject string
	// Message says what went wrong, such as "exit status 4".
	Message string
	// Stderr is the last 8 KiB a program wrote to stderr, or the beginning of
	// a refused response's body. Empty when stderr went to the log.
	Stderr string
	// Err is the cause, if there is one.
	Err error
}

// Error is the message alone: the stage and the subject are told beside it.
func (e *Error) Error() string { return e.Message }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// fault is an Error of the call.
func (c Call) fault(kind Kind, err error, format string, args ...any) *Error {
	return &Error{Kind: kind, Stage: c.Stage, Subject: c.Subject, Message: fmt.Sprintf(format, args...), Err: err}
}

// PoolOptions are what calls have in common.
type PoolOptions struct {
	// Log receives what programs write to stderr, if their method says so.
	// Without it that is thrown away.
	Log *slog.Logger
	// MaxOutputBytes is the most that one call may answer; 0 takes the
	// configuration's default.
	MaxOutputBytes int64
}

// Pool holds what calls share and what outlives a call: connections to HTTP
// hooks, workers, and which processes are hooks. It is safe for concurrent use.
// Close it when no call is under way any more.
type Pool struct {
	log      *slog.Logger
	limit    int64
	children children
	meter    *meter

	mu      sync.Mutex
	clients []*client
	crews   map[crewKey]*crew
}

// NewPool makes a pool.
func NewPool(options PoolOptions) *Pool {
	return &Pool{
		log:   cmp.Or(options.Log, slog.New(slog.DiscardHandler)),
		limit: cmp.Or(options.MaxOutputBytes, config.Default().MaxOutputBytes),
		meter: newMeter(),
		crews: map[crewKey]*crew{},
	}
}

// Close closes the connections that are kept for the next call, and ends the
// workers: those that do not end by themselves are killed a moment later.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, client := range p.clients {
		client.close()
	}
	var ending sync.WaitGroup
	for _, crew := range p.crews {
		ending.Go(crew.close)
	}
	ending.Wait()
}

// New makes the executor of a validated method. The pool counts its calls.
func New(method config.Method, pool *Pool) (Executor, error) {
	executor, err := unmetered(method, pool)
	if err != nil {
		return nil, err
	}
	return metered{Executor: executor, meter: pool.meter}, nil
}

// unmetered is the executor itself.
func unmetered(method config.Method, pool *Pool) (Executor, error) {
	timeout := cmp.Or(method.Timeout, config.DefaultTimeout).Duration()
	switch {
	case method.Type == config.MethodShell && method.Shell != nil:
		return &shell{Shell: *method.Shell, timeout: timeout, pool: pool}, nil
	case method.Type == config.MethodWorker && method.Worker != nil:
		return &worker{timeout: timeout, crew: pool.crew(*method.Worker)}, nil
	case method.Type == config.MethodHTTP && method.HTTP != nil:
		return newRequest(*method.HTTP, timeout, pool)
	case slices.Contains([]config.MethodType{config.MethodShell, config.MethodWorker, config.MethodHTTP}, method.Type):
		return nil, fmt.Errorf("the method has the type %q but no block %q", method.Type, method.Type)
	default:
		return nil, fmt.Errorf("the method's type %q is unknown", method.Type)
	}
}

// newClient makes a client that Close knows.
func (p *Pool) newClient(method config.HTTP, timeout time.Duration) *client {
	p.mu.Lock()
	defer p.mu.Unlock()
	added := newClient(method, timeout)
	p.clients = append(p.clients, added)
	return added
}

// errTimeout is why a call's context ends at the method's timeout. It tells
// that from the caller's own reasons.
var errTimeout = errors.New("timeout")

// interrupted is the Error of a call whose context ended: what says how far it
// had come.
func (c Call) interrupted(ctx context.Context, timeout time.Duration, what string) *Error {
	cause := context.Cause(ctx)
	switch {
	case errors.Is(cause, errTimeout):
		return c.fault(KindTimeout, context.DeadlineExceeded, "%s within %s (timeout)", what, timeout)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return c.fault(KindTimeout, cause, "%s before the caller's deadline%s", what, because(cause))
	default:
		return c.fault(KindCanceled, cause, "%s before the call was cancelled: %v", what, cause)
	}
}

// because is the cause of a deadline as the end of a phrase, if it has one.
func because(cause error) string {
	if errors.Is(cause, context.DeadlineExceeded) {
		return ""
	}
	return ": " + cause.Error()
}

// errTooMuch says that there was more to read than is allowed.
var errTooMuch = errors.New("too much output")

// readAtMost reads to the end, or fails with errTooMuch when there is more than
// limit, and with errRunOutput when the run has no more to answer. It takes
// memory only as the answer grows.
func (c Call) readAtMost(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(c.allowance.counting(r), min(limit, math.MaxInt64-1)+1))
	if int64(len(data)) > limit {
		return nil, errTooMuch
	}
	return data, err
}

// maxRunOutput bounds what all the hooks of one run print together, in bytes.
const maxRunOutput = 64 << 20

// errRunOutput says that there was more than that.
var errRunOutput = fmt.Errorf("the hooks of this run have printed more than %d MiB together", maxRunOutput>>20)

// allowance is what the hooks of a run may still print. It is counted as it is
// read, since many are asked at once. It is safe for concurrent use; nil is
// without a bound.
type allowance struct{ left atomic.Int64 }

func newAllowance() *allowance {
	var a allowance
	a.left.Store(maxRunOutput)
	return &a
}

// take uses some of it up.
func (a *allowance) take(bytes int) error {
	if a != nil && a.left.Add(-int64(bytes)) < 0 {
		return errRunOutput
	}
	return nil
}

// counting is a reader that takes what is read.
func (a *allowance) counting(r io.Reader) io.Reader { return countingReader{r, a} }

type countingReader struct {
	io.Reader
	allowance *allowance
}

// Read reads, unless nothing is left of the allowance.
func (r countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if tooMuch := r.allowance.take(n); tooMuch != nil {
		return n, tooMuch
	}
	return n, err
}
