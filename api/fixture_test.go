// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"testing"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/live"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// unasked is an autoscaler that is alive, and must be asked nothing else.
type unasked struct{}

var errUnasked = errors.New("this was not to be asked")

func (unasked) Status() autoscaler.Status { return autoscaler.Status{} }
func (unasked) Alive() error              { return nil }

func (unasked) Submit(context.Context, autoscaler.Trigger) (autoscaler.Record, error) {
	return autoscaler.Record{}, errUnasked
}

func (unasked) Preview(context.Context, scale.Hold) (scale.Decision, error) {
	return scale.Decision{}, errUnasked
}

func (unasked) Pause(context.Context, autoscaler.Caller, scale.Pause) error { return errUnasked }
func (unasked) Resume(context.Context, autoscaler.Caller) error             { return errUnasked }
func (unasked) Hold(context.Context, autoscaler.Caller, *scale.Hold) error  { return errUnasked }

func (unasked) Override(context.Context, autoscaler.Caller, *bounds.Override) error {
	return errUnasked
}

// runs is an autoscaler whose runs end in a Record of its own making.
type runs struct {
	unasked
	run func(ctx context.Context, trigger autoscaler.Trigger) (autoscaler.Record, error)
}

func answers(run func(ctx context.Context, trigger autoscaler.Trigger) (autoscaler.Record, error)) Autoscaler {
	return runs{run: run}
}

func (a runs) Submit(ctx context.Context, trigger autoscaler.Trigger) (autoscaler.Record, error) {
	record, err := a.run(ctx, trigger)
	record.Trigger = trigger
	return record, err
}

// operated is an autoscaler that notes what an operator asks for.
type operated struct {
	runs
	err error

	mu      sync.Mutex
	pauses  []scale.Pause
	resumes int
}

func (o *operated) Pause(ctx context.Context, _ autoscaler.Caller, pause scale.Pause) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pauses = append(o.pauses, pause)
	return errors.Join(ctx.Err(), o.err)
}

func (o *operated) Resume(ctx context.Context, _ autoscaler.Caller) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.resumes++
	return errors.Join(ctx.Err(), o.err)
}

// backend is one with an autoscaler that has run nothing yet.
func backend(t testing.TB, a Autoscaler) Backend {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	return Backend{
		Autoscaler: a,
		Journal:    autoscaler.NewJournal(),
		Settings:   live.New(live.Options{Loaded: config.Loaded{Config: config.Default()}, Log: log}),
		Ready:      NewChecks(log),
		Metrics:    http.NotFoundHandler(),
		Version:    "1.2.3",
		Log:        log,
	}
}

// port is what answers on the port.
func port(t *testing.T, c config.API, a Autoscaler) http.Handler {
	t.Helper()
	return newHandler(c, backend(t, a), authenticate(t, c), nil)
}

// refusedWithoutAuth is said to who would change something.
const refusedWithoutAuth = "{\"message\":\"this needs the role operate, and the API asks nobody who they are: configure apiConfig.auth, " +
	"or run `custom-pod-autoscaler <command>` beside the autoscaler, such as with kubectl exec in its pod\",\"code\":403}"
