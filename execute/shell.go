// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// shell runs a program for each call: the payload is its stdin, what it prints
// to stdout is the answer.
type shell struct {
	config.Shell
	timeout time.Duration
	pool    *Pool
}

// Execute starts the program, waits until it has ended and nothing holds its
// stdout and stderr any more, and kills its process group when anything about
// that is not as it should be.
func (s *shell) Execute(ctx context.Context, call Call) (Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout, errTimeout)
	defer cancel()
	if ctx.Err() != nil {
		return Result{}, call.interrupted(ctx, s.timeout, "not started")
	}
	running, err := startGroup(&s.pool.children, s.Entrypoint, s.Command)
	if err != nil {
		return Result{}, call.fault(KindStart, err, "%s", startFault(s.Entrypoint, err))
	}
	var answer answer
	var keep tail
	running.converse(
		func(stdin io.Writer) { _, _ = stdin.Write(call.Payload) }, // a hook may ignore its stdin
		func(stdout io.Reader) { answer.output, answer.err = call.readAtMost(stdout, s.pool.limit) },
		s.stderrSink(ctx, call, &keep),
	)
	fault := s.await(ctx, call, running, &answer)
	if fault == nil {
		running.end(ctx)
		return Result{Output: answer.output}, nil
	}
	running.kill()
	if ended := running.end(ctx); !ended {
		fault.Message += "; it could not be killed and is still there"
	}
	fault.Stderr = keep.String()
	return Result{}, fault
}

// answer is what a program has printed by the end of its stdout.
type answer struct {
	output []byte
	err    error
}

// await waits until the program has exited with status 0 and its stdout and
// stderr have ended, or returns the first thing that stands against it.
func (s *shell) await(ctx context.Context, call Call, running *group, answer *answer) *Error {
	exited, stdoutEnded, stderrEnded := running.exited, running.stdoutEnded, running.stderrEnded
	for exited != nil || stdoutEnded != nil || stderrEnded != nil {
		select {
		case <-exited:
			exited = nil
			if kind, why := exitFault(running.status, running.waitErr); why != "" {
				return call.fault(kind, running.waitErr, "%s", why)
			}
		case <-stdoutEnded:
			stdoutEnded = nil
			if errors.Is(answer.err, errRunOutput) {
				return call.fault(KindOutput, errRunOutput, "%v; killed", errRunOutput)
			}
			if errors.Is(answer.err, errTooMuch) {
				return call.fault(KindOutput, errTooMuch, "printed more than %d bytes, the limit set by maxOutputBytes; killed", s.pool.limit)
			}
			if answer.err != nil {
				return call.fault(KindTransport, answer.err, "reading its stdout: %v", answer.err)
			}
		case <-stderrEnded:
			stderrEnded = nil
		case <-ctx.Done():
			fault := call.interrupted(ctx, s.timeout, unfinished(exited == nil, stdoutEnded == nil))
			fault.Message += "; killed with its process group"
			return fault
		}
	}
	return nil
}

// unfinished says what a call was still waiting for.
func unfinished(exited, stdoutEnded bool) string {
	switch {
	case !exited:
		return "no answer"
	case !stdoutEnded:
		return "exited, but a process it started holds its stdout open: no end of the answer"
	default:
		return "exited, but a process it started holds its stderr open: no end of that"
	}
}

// stderrSink is what reads the program's stderr: line by line into the log, or
// keeping its end.
func (s *shell) stderrSink(ctx context.Context, call Call, keep *tail) func(io.Reader) {
	if !s.LogStderr {
		return func(stderr io.Reader) { _, _ = io.Copy(keep, stderr) }
	}
	log := s.pool.log.With("stage", string(call.Stage))
	if call.Subject != "" {
		log = log.With("pod", call.Subject)
	}
	return func(stderr io.Reader) {
		lines := 0
		forEachLine(stderr, func(line string) {
			if lines++; lines <= maxLogged {
				log.InfoContext(ctx, "hook wrote to stderr", "line", line)
			}
		})
		if lines > maxLogged {
			log.WarnContext(ctx, "hook wrote more to stderr than is logged of a call", "lines", lines, "logged", maxLogged)
		}
	}
}
