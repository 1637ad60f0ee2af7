// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"context"
	"fmt"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// settings are a configuration and what is made of it. They are never changed,
// only replaced, by the owner.
type settings struct {
	config config.Autoscaler
	rules  scale.Rules
	limits *bounds.Limits
}

func newSettings(c config.Autoscaler) (*settings, error) {
	limits, err := bounds.New(c)
	if err != nil {
		return nil, err
	}
	return &settings{config: c, rules: scale.NewRules(c), limits: limits}, nil
}

func (a *Autoscaler) config() *config.Autoscaler { return &a.settings.Load().config }

func (a *Autoscaler) rules() scale.Rules { return a.settings.Load().rules }

func (a *Autoscaler) limits() *bounds.Limits { return a.settings.Load().limits }

// change is a configuration on its way to the owner.
type change struct {
	settings *settings
	done     chan struct{}
}

// Configure puts another validated configuration in force, between two runs, and
// has one follow at once. It must differ from the one in force only in what says
// when to run and how to decide (config.LiveKeys): the hooks, the target and
// what else an Autoscaler was made of stay. It waits for the run under way; when
// the context ends first, or the Autoscaler stops, nothing is changed. It is
// safe for concurrent use.
func (a *Autoscaler) Configure(ctx context.Context, c config.Autoscaler) error {
	next, err := newSettings(c)
	if err != nil {
		return err
	}
	change := change{settings: next, done: make(chan struct{})}
	select {
	case a.changes <- change:
		<-change.done
		return nil
	case <-a.stopped:
		return ErrStopping
	case <-ctx.Done():
		return fmt.Errorf("nothing was changed: waiting for the run under way: %w", context.Cause(ctx))
	}
}

// reconfigure replaces the settings.
func (a *Autoscaler) reconfigure(c change, now time.Time) {
	defer close(c.done)
	a.settings.Store(c.settings)
	if a.history != nil {
		current := a.published.Load().current()
		a.history = a.history.Resize(c.settings.config, now, current)
	}
}
