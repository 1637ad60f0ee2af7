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
// intents at any time. It is safe for concurrent use: what it holds can always
// be read at once, however long the store takes.
type memory struct {
	store state.Store
	log   *slog.Logger
	// turn holds a token for whoever uses the store, or writes the count: an
	// operator's intent is not kept between a decision and its write.
	turn chan struct{}

	mu     sync.Mutex
	loaded bool
	// term is the one in which it was loaded.
	term uint64
	kept scale.Kept
	// window is what another process handed over and nobody has taken yet.
	window scale.Window
	// intended counts the changes of the intents.
	intended int
	// dirty says that the store may lag behind.
	dirty bool
}

func newMemory(store state.Store, log *slog.Logger) *memory {
	return &memory{store: store, log: log, turn: make(chan struct{}, 1)}
}

// take waits for the turn to use the store, until the context ends.
func (m *memory) take(ctx context.Context) error {
	select {
	case m.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for what is under way: %w", context.Cause(ctx))
	}
}

// give ends a turn.
func (m *memory) give() { <-m.turn }

// recall loads what was kept, unless that was done in this term: in another
// one, another process may have changed it. It returns the window that another
// process handed over, if one did, once.
func (m *memory) recall(ctx context.Context, now time.Time, term uint64) (scale.Window, error) {
	if err := m.take(ctx); err != nil {
		return nil, err
	}
	defer m.give()
	if err := m.load(ctx, now, term); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	window := m.window
	m.window = nil
	return window, nil
}

// load is for whoever has the turn.
func (m *memory) load(ctx context.Context, now time.Time, term uint64) error {
	if m.knows(term) {
		return nil
	}
	record, err := m.store.Load(ctx)
	if errors.Is(err, state.ErrUnreadable) {
		m.log.Warn("What was kept from earlier cannot be used: beginning anew, and a pause, a hold or an override is over", "error", err)
		record, err = state.Record{}, nil
	}
	if err != nil {
		return fmt.Errorf("loading what was kept: %w", err)
	}
	record.Arrive(now)
	if len(record.Window) > 0 {
		// A window is good for one start: after a crash it would lack what was
		// recommended since.
		if err := m.store.Save(ctx, state.Record{Kept: record.Kept}); err != nil {
			m.log.Warn("The window that was handed over is not used, because it cannot be removed from the store", "error", err)
			record.Window = nil
		}
	}
	if record.Pause != nil {
		m.log.Info("A pause from earlier goes on", "pause", record.Pause.String())
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kept, m.window, m.dirty = record.Kept, record.Window, false
	m.loaded, m.term = true, term
	return nil
}

func (m *memory) knows(term uint64) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.loaded && m.term == term
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

// begin keeps a write that is about to be sent, for whoever has the turn. It
// answers errIntended, and keeps nothing, when the intents have changed since
// they were read. A store that fails is no reason not to scale: what it would
// protect is a limit on the speed after a restart
// (docs/decisions/0006-state-before-the-write.md). Only one that somebody else
// writes to is, who then scales as well.
func (m *memory) begin(ctx context.Context, intended int, write scale.Write) error {
	if _, now := m.read(); now != intended {
		return errIntended
	}
	m.note(func(k *scale.Kept) bool { k.Begin(write); return true })
	err := m.save(ctx, nil)
	if errors.Is(err, state.ErrConflict) {
		return err
	}
	return nil
}

// intend changes the intents and saves them; it returns them as they were and
// as they are. If they cannot be saved they are not changed; what the store
// holds then is put right with the next run.
func (m *memory) intend(ctx context.Context, now time.Time, term uint64, change func(*scale.Intents)) (before, after scale.Intents, err error) {
	if err := m.take(ctx); err != nil {
		return before, after, fmt.Errorf("nothing was changed: %w", err)
	}
	defer m.give()
	if err := m.load(ctx, now, term); err != nil {
		return before, after, fmt.Errorf("nothing was changed: %w", err)
	}
	kept, _ := m.read()
	kept.Expire(now)
	before = kept.Intents
	change(&kept.Intents)
	err = m.put(ctx, state.Record{Kept: kept})
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		return before, after, fmt.Errorf("nothing was changed, because it could not be kept: %w", err)
	}
	m.kept.Intents = kept.Intents
	m.intended++
	return before, kept.Intents, nil
}

// flush saves what is not saved yet, unless somebody uses the store: then it is
// done after the next run.
func (m *memory) flush(ctx context.Context) {
	select {
	case m.turn <- struct{}{}:
		defer m.give()
		_ = m.save(ctx, nil) // It is tried again after the next run.
	default:
	}
}

// handOver saves everything with the window, for the next process.
func (m *memory) handOver(ctx context.Context, window scale.Window) {
	if err := m.take(ctx); err != nil {
		m.log.Warn("What is known could not be handed over: the next process begins with the count it finds", "error", err)
		return
	}
	defer m.give()
	_ = m.save(ctx, window) // It says so, and there is no next run.
}

// save saves what is kept if that is needed, and says so if it fails.
func (m *memory) save(ctx context.Context, window scale.Window) error {
	m.mu.Lock()
	kept, needed := m.kept, m.loaded && (m.dirty || len(window) > 0)
	m.mu.Unlock()
	if !needed {
		return nil
	}
	err := m.put(ctx, state.Record{Kept: kept, Window: window})
	if err != nil {
		m.log.Warn("What must survive a restart could not be saved", "error", err)
	}
	return err
}

// put saves a record. Where somebody else has saved one, theirs counts, and is
// loaded by the next run.
func (m *memory) put(ctx context.Context, record state.Record) error {
	m.mu.Lock()
	m.dirty = false
	m.mu.Unlock()
	err := m.store.Save(ctx, record)
	if err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		// The new record may be there all the same.
		m.dirty = true
		m.loaded = m.loaded && !errors.Is(err, state.ErrConflict)
	}
	return err
}
