// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// intentTimeout bounds keeping an intent, and before it the wait for the write
// that is under way.
const intentTimeout = 12 * time.Second

// ErrIntent says that what an operator asks for makes no sense.
var ErrIntent = errors.New("this cannot be asked for")

// Pause stops scaling, at the count that is there or at a fixed one, until
// Resume. A second pause replaces the first.
//
// It is kept at once, not behind the run under way, which heeds it before it
// writes; a write that is on its way is waited for. A run that begins right
// after brings the count. The error is one of
// ErrIntent, a *StandbyError, or of the store: then nothing is changed. The
// same holds for the other intents; all are safe for concurrent use.
func (a *Autoscaler) Pause(ctx context.Context, by Caller, pause scale.Pause) error {
	if pause.Replicas != nil && *pause.Replicas < 0 {
		return fmt.Errorf("%w: replicas must be at least 0, got %d", ErrIntent, *pause.Replicas)
	}
	return a.intend(ctx, by, "pause", func(i *scale.Intents) { i.Pause = &pause })
}

// Resume ends a pause, if there is one.
func (a *Autoscaler) Resume(ctx context.Context, by Caller) error {
	return a.intend(ctx, by, "resume", func(i *scale.Intents) { i.Pause = nil })
}

// Hold keeps a count, within the bounds in force, until its time is over; nil
// ends a hold.
func (a *Autoscaler) Hold(ctx context.Context, by Caller, hold *scale.Hold) error {
	if hold != nil {
		if err := validate(*hold); err != nil {
			return err
		}
	}
	return a.intend(ctx, by, "hold", func(i *scale.Intents) { i.Hold = hold })
}

func validate(hold scale.Hold) error {
	switch {
	case hold.Replicas < 0:
		return fmt.Errorf("%w: replicas must be at least 0, got %d", ErrIntent, hold.Replicas)
	case !hold.Until.After(time.Now()):
		return fmt.Errorf("%w: until must be in the future, got %s", ErrIntent, hold.Until.Format(time.RFC3339))
	}
	return nil
}

// Preview says what a hold would come to by now, from the count as it is: the
// bounds limit it, and a pause or a disabled target counts for more. It changes
// nothing. The error is one of ErrIntent, a *StandbyError, or of reading the
// count.
func (a *Autoscaler) Preview(ctx context.Context, hold scale.Hold) (scale.Decision, error) {
	if err := validate(hold); err != nil {
		return scale.Decision{}, err
	}
	if term := a.leadership.Term(); !term.Leading() {
		return scale.Decision{}, &StandbyError{Leader: term.Leader}
	}
	live, err := a.deps.Reader.Scale(ctx)
	if err != nil {
		return scale.Decision{}, err
	}
	now := time.Now()
	kept, _ := a.memory.read()
	kept.Hold = &hold
	situation := scale.Situation{Now: now, Current: live.Replicas, Bounds: a.limits().InForce(now, kept.Override), Kept: kept}
	if last := a.published.Load().decided; last != nil {
		situation.Evaluation = last.Evaluation
	}
	return a.rules().Decide(situation), nil
}

// Override replaces the bounds, until it expires if it does; nil ends it.
func (a *Autoscaler) Override(ctx context.Context, by Caller, override *bounds.Override) error {
	if override == nil {
		return a.intend(ctx, by, "override", func(i *scale.Intents) { i.Override = nil })
	}
	least, most := override.MinReplicas, override.MaxReplicas
	switch {
	case least == nil && most == nil:
		return fmt.Errorf("%w: minReplicas or maxReplicas is required", ErrIntent)
	case least != nil && *least < 0:
		return fmt.Errorf("%w: minReplicas must be at least 0, got %d", ErrIntent, *least)
	case most != nil && *most < 0:
		return fmt.Errorf("%w: maxReplicas must be at least 0, got %d", ErrIntent, *most)
	case least != nil && most != nil && *least > *most:
		return fmt.Errorf("%w: minReplicas must not be above maxReplicas: %d is above %d", ErrIntent, *least, *most)
	case !override.ExpiresAt.IsZero() && !override.ExpiresAt.After(time.Now()):
		return fmt.Errorf("%w: expiresAt must be in the future, got %s", ErrIntent, override.ExpiresAt.Format(time.RFC3339))
	}
	return a.intend(ctx, by, "override", func(i *scale.Intents) { i.Override = override })
}

// intend changes the intents and has the loop heed them.
func (a *Autoscaler) intend(ctx context.Context, by Caller, what string, change func(*scale.Intents)) error {
	term := a.leadership.Term()
	if !term.Leading() {
		return &StandbyError{Leader: term.Leader}
	}
	ctx, cancel := context.WithTimeout(ctx, intentTimeout)
	defer cancel()
	ctx, cancel = within(ctx, term)
	defer cancel()
	before, after, err := a.memory.intend(ctx, time.Now(), term.ID, change)
	if err == nil {
		by.Audit(a.log, what, before, after)
	}
	if now := a.leadership.Term(); now.ID != term.ID {
		return &StandbyError{Leader: now.Leader}
	}
	if err != nil {
		return err
	}
	select {
	case a.intended <- struct{}{}:
	default:
	}
	return nil
}
