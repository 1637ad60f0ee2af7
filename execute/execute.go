// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package execute runs a user's hook inside a deadline: a program (shell) or a
// request (HTTP). A hook cannot hurt its caller: it runs in a process group of
// its own that is killed whole, its output is bounded, and every failure comes
// back as an *Error that says what went wrong and shows the end of stderr.
package execute

import (
	"context"
	"fmt"
	"log/slog"

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
	// timeout. Its error is an *Error. When it returns, whatever the call
	// started and still belongs to its process group after a failure is dead
	// and reaped.
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

// Pool holds what calls share and what outlives a call: connections to HTTP
// hooks. Close it when no call is under way any more.
type Pool struct {
	log            *slog.Logger
	maxOutputBytes int64
}

// New makes the executor of a validated method.
func New(method config.Method, pool *Pool) (Executor, error) {
	return nil, fmt.Errorf("method type %q is unknown", method.Type)
}
