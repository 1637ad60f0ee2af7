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
func (a *Autoscaler) Pause(ctx context.Context, pause scale.Pause) error {
	if pause.Replicas != nil && *pause.Replicas < 0 {
		return fmt.Errorf("%w: replicas must be at least 0, got %d", ErrIntent, *pause.Replicas)
	}
	what := "paused"
	if pause.Replicas != nil {
		what = fmt.Sprintf("paused at %d replicas", *pause.Replicas)
	}
	return a.intend(ctx, what, pause.Reason, func(i *scale.Intents) { i.Pause = &pause })
}

// Resume ends a pause, if there is one.
func (a *Autoscaler) Resume(ctx context.Context) error {
	return a.intend(ctx, "resumed", "", func(i *scale.Intents) { i.Pause = nil })
}

// Hold keeps a count, within the bounds in force, until its time is over; nil
// ends a hold.
func (a *Autoscaler) Hold(ctx context.Context, hold *scale.Hold) error {
	if hold == nil {
		return a.intend(ctx, "ended the manual hold", "", func(i *scale.Intents) { i.Hold = nil })
	}
	switch {
	case hold.Replicas < 0:
		return fmt.Errorf("%w: replicas must be at least 0, got %d", ErrIntent, hold.Replicas)
	case !hold.Until.After(time.Now()):
		return fmt.Errorf("%w: until must be in the future, got %s", ErrIntent, hold.Until.Format(time.RFC3339))
	}
	what := fmt.Sprintf("holds %d replicas until %s", hold.Replicas, hold.Until.Format(time.RFC3339))
	return a.intend(ctx, what, hold.Reason, func(i *scale.Intents) { i.Hold = hold })
}

// Override replaces the bounds, until it expires if it does; nil ends it.
func (a *Autoscaler) Override(ctx context.Context, override *bounds.Override) error {
	if override == nil {
		return a.intend(ctx, "ended the override of the bounds", "", func(i *scale.Intents) { i.Override = nil })
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
	return a.intend(ctx, "overrides the bounds", override.Reason, func(i *scale.Intents) { i.Override = override })
}

// intend changes the intents and has the loop heed them.
func (a *Autoscaler) intend(ctx context.Context, what, reason string, change func(*scale.Intents)) error {
	term := a.leadership.Term()
	if !term.Leading() {
		return &StandbyError{Leader: term.Leader}
	}
	ctx, cancel := context.WithTimeout(ctx, intentTimeout)
	defer cancel()
	ctx, cancel = within(ctx, term)
	defer cancel()
	err := a.memory.intend(ctx, time.Now(), term.ID, change)
	if now := a.leadership.Term(); now.ID != term.ID {
		return &StandbyError{Leader: now.Leader}
	}
	if err != nil {
		return err
	}
	attributes := []any{"change", what}
	if reason != "" {
		attributes = append(attributes, "reason", reason)
	}
	a.log.Info("An operator stepped in", attributes...)
	select {
	case a.intended <- struct{}{}:
	default:
	}
	return nil
}
