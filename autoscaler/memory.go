// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/state"
)

// errIntended says that an operator stepped in since the decision was taken.
var errIntended = errors.New("an operator has stepped in")

// memory holds what an autoscaler knows from earlier runs, and keeps it in the
// store. The owner changes it between and in runs; operators change their
// intents at any time. It is safe for concurrent use; a change waits for the
// store, whose requests have deadlines.
type memory struct {
	store state.Store
	log   *slog.Logger

	mu     sync.Mutex
	loaded bool
	// term is the one in which it was loaded.
	term uint64
	kept scale.Kept
	// window is what another process handed over and nobody has taken yet.
	window scale.Window
	// intended counts the changes of the intents.
	intended int
	// dirty says that the store lags behind.
	dirty bool
}

// recall loads what was kept, unless that was done in this term: in another
// one, another process may have changed it. It returns the window that another
// process handed over, if one did, once.
func (m *memory) recall(ctx context.Context, now time.Time, term uint64) (scale.Window, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.load(ctx, now, term); err != nil {
		return nil, err
	}
	window := m.window
	m.window = nil
	return window, nil
}

func (m *memory) load(ctx context.Context, now time.Time, term uint64) error {
	if m.loaded && m.term == term {
		return nil
	}
	m.loaded = false
	record, err := m.store.Load(ctx)
	if errors.Is(err, state.ErrUnreadable) {
		m.log.Warn("What was kept from earlier cannot be used: beginning anew", "error", err)
		record, err = state.Record{}, nil
	}
	if err != nil {
		return fmt.Errorf("loading what was kept: %w", err)
	}
	m.kept, m.window, m.dirty = record.Kept, record.Window, false
	m.kept.Arrive(now)
	if len(m.window) > 0 {
		// A window is good for one start: after a crash it would lack what was
		// recommended since.
		if err := m.store.Save(ctx, state.Record{Version: state.Version, Kept: m.kept}); err != nil {
			m.log.Warn("The window that was handed over is not used, because it cannot be removed from the store", "error", err)
			m.window = nil
		}
	}
	m.loaded, m.term = true, term
	return nil
}

// read is what is kept, and how often operators have changed their intents.
func (m *memory) read() (kept scale.Kept, intended int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept, m.intended
}

// note changes what is kept; it is saved later.
func (m *memory) note(change func(*scale.Kept) (changed bool)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if change(&m.kept) {
		m.dirty = true
	}
}

// begin keeps a write that is about to be sent. It answers errIntended, and
// keeps nothing, when the intents have changed since they were read. A store
// that fails is no reason not to scale: what it would protect is a limit on the
// speed after a restart (docs/decisions/0006-state-before-the-write.md). Only
// one that somebody else writes to is, who then scales as well.
func (m *memory) begin(ctx context.Context, intended int, write scale.Write) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if intended != m.intended {
		return errIntended
	}
	m.kept.Begin(write)
	m.dirty = true
	err := m.save(ctx)
	if errors.Is(err, state.ErrConflict) {
		return err
	}
	return nil
}

// intend changes the intents and saves them, or does neither.
func (m *memory) intend(ctx context.Context, now time.Time, term uint64, change func(*scale.Intents)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.load(ctx, now, term); err != nil {
		return err
	}
	before := m.kept
	change(&m.kept.Intents)
	if err := m.store.Save(ctx, state.Record{Version: state.Version, Kept: m.kept}); err != nil {
		m.kept = before
		if errors.Is(err, state.ErrConflict) {
			m.loaded = false
		}
		return fmt.Errorf("nothing was changed, because it could not be kept: %w", err)
	}
	m.dirty = false
	m.intended++
	return nil
}

// flush saves what is not saved yet.
func (m *memory) flush(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = m.save(ctx) // It is tried again after the next run.
}

// handOver saves everything with the window, for the next process.
func (m *memory) handOver(ctx context.Context, window scale.Window) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.loaded || len(window) == 0 && !m.dirty {
		return
	}
	if err := m.store.Save(ctx, state.Record{Version: state.Version, Kept: m.kept, Window: window}); err != nil {
		m.log.Warn("What is known could not be handed over: the next process begins with the count it finds", "error", err)
	}
}

func (m *memory) save(ctx context.Context) error {
	if !m.dirty {
		return nil
	}
	err := m.store.Save(ctx, state.Record{Version: state.Version, Kept: m.kept})
	switch {
	case err == nil:
		m.dirty = false
	case errors.Is(err, state.ErrConflict):
		// Theirs counts: the next run loads it.
		m.loaded = false
		fallthrough
	default:
		m.log.Warn("What must survive a restart could not be saved", "error", err)
	}
	return err
}
