// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package live changes the configuration of a running process: when its file
// changes, as that of a ConfigMap does, and when somebody who may asks for it.
// Either is checked as a whole and put in force between two runs, or not at all.
package live

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

const (
	// lookEvery is how often the file is looked at. A ConfigMap takes up to a
	// minute to reach a pod anyway.
	lookEvery = 2 * time.Second
	// applyTimeout bounds the wait for the run under way.
	applyTimeout = time.Minute
)

// Lasts says how long a change lasts that somebody asked for.
const Lasts = "until a restart, a change of the configuration file, or until another replica leads"

// Why a change was refused.
var (
	// ErrConflict: the configuration is not the one that the caller saw.
	ErrConflict = errors.New("the configuration has changed since: get it again")
	// ErrRefused: what was asked for is not valid. Nothing was changed.
	ErrRefused = errors.New("nothing was changed")
)

// Apply puts a configuration in force that differs from the one before in
// config.LiveKeys alone, or leaves everything as it is and says why.
type Apply func(ctx context.Context, c config.Config) error

// Options are what a Settings is made of.
type Options struct {
	// Path is the configuration file.
	Path string
	// Loaded is what is in force.
	Loaded config.Loaded
	Apply  Apply
	// Term is the one in which this process leads, 0 while it does not: what was
	// changed while running ends with it. It may be nil: then nobody else leads.
	Term func() uint64
	Log  *slog.Logger
}

// Settings are the configuration in force. They are safe for concurrent use.
type Settings struct {
	options Options
	// turn holds a token for whoever changes what follows: a change waits for the
	// run under way, so a mutex would know no deadline.
	turn chan struct{}

	// loaded is the configuration in force.
	loaded config.Loaded
	// needsRestart are the keys that the file changed and that are in force with
	// a restart only.
	needsRestart []string
	// seen is the content of the file that was met last, good or bad, and found
	// the one that was there at the last look.
	seen, found []byte
	// term is the one in which something was changed.
	term atomic.Uint64

	// view and notes are for everybody to read.
	view  atomic.Pointer[View]
	notes atomic.Pointer[Notes]
	// unreadable says that the file could not be read the last time, and refusal
	// why what was seen is not in force, if it is not; Run's alone.
	unreadable bool
	refusal    error
}

// Notes tell of what is in force but for the file.
type Notes struct {
	// Live are the keys that somebody changed while running.
	Live []string `json:"live,omitempty"`
	// NeedsRestart are the keys of the file that come into force with a restart.
	NeedsRestart []string `json:"needsRestart,omitempty"`
	// FileError is why the file, as it is by now, is not in force.
	FileError string `json:"fileError,omitempty"`
}

// View is the configuration in force.
type View struct {
	// Config has every top-level key, without secrets.
	Config map[string]any `json:"config"`
	// Sources says where each value comes from: "default", "file",
	// "environment NAME" or "live".
	Sources map[string]string `json:"sources"`
	// Live are the keys that can change while the program runs.
	Live []string `json:"live"`
	// NeedsRestart are the keys that the file has other values for by now, which
	// come into force with a restart.
	NeedsRestart []string `json:"needsRestart,omitempty"`
	// Lasts says how long a change of a live key lasts.
	Lasts string `json:"lasts"`
	// ETag identifies the configuration.
	ETag string `json:"-"`
}

// Change is what a change did.
type Change struct {
	// Changed are the top-level keys whose value changed.
	Changed map[string]Values `json:"changed"`
	// Lasts says how long that lasts.
	Lasts string `json:"lasts"`
	// ETag identifies the configuration in force now.
	ETag string `json:"etag"`
}

// Values are those of a key before and after a change.
type Values struct {
	Before any `json:"before"`
	After  any `json:"after"`
}

// New makes Settings of what was loaded.
func New(o Options) *Settings {
	if o.Term == nil {
		o.Term = func() uint64 { return 1 }
	}
	s := &Settings{options: o, turn: make(chan struct{}, 1), loaded: o.Loaded, seen: o.Loaded.Layers.File}
	s.notes.Store(&Notes{})
	s.publish()
	return s
}

// Notes tell of what is not as the file says. They wait for nothing.
func (s *Settings) Notes() Notes { return *s.notes.Load() }

// note brings the notes up to date.
func (s *Settings) note(change func(*Notes)) {
	for {
		before := s.notes.Load()
		after := *before
		change(&after)
		if s.notes.CompareAndSwap(before, &after) {
			return
		}
	}
}

// View is the configuration in force, and what that was made of. It waits for
// nothing. Nobody may change it.
func (s *Settings) View() View { return *s.view.Load() }

// publish brings the view up to date, for whoever has the turn.
func (s *Settings) publish() {
	v := View{
		Config: s.loaded.Config.Values(), Sources: s.loaded.Sources, Live: config.LiveKeys(), NeedsRestart: s.needsRestart, Lasts: Lasts,
	}
	v.ETag = etag(v)
	s.view.Store(&v)
}

// Put changes live keys: those that are named, the others stay; a null takes one
// back to what the file and the environment say. It answers
// ErrConflict unless ifMatch, the headers If-Match of a request, are none or name
// the configuration's ETag. Any error says that nothing was changed.
func (s *Settings) Put(ctx context.Context, by autoscaler.Caller, body []byte, ifMatch []string) (Change, error) {
	values, err := config.ParseLive(body)
	if err != nil {
		return Change{}, refused(err)
	}
	return s.change(ctx, by, ifMatch, func(live config.Live) config.Live { return live.With(values) })
}

// Reset takes back what was changed with Put, in the same way.
func (s *Settings) Reset(ctx context.Context, by autoscaler.Caller, ifMatch []string) (Change, error) {
	return s.change(ctx, by, ifMatch, func(config.Live) config.Live { return nil })
}

func (s *Settings) change(ctx context.Context, by autoscaler.Caller, ifMatch []string, change func(config.Live) config.Live) (Change, error) {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	if err := s.take(ctx); err != nil {
		return Change{}, err
	}
	defer s.give()
	if !matches(ifMatch, s.View().ETag) {
		return Change{}, ErrConflict
	}
	s.term.Store(s.options.Term())
	layers := s.loaded.Layers
	layers.Live = change(layers.Live)
	changed, err := s.apply(ctx, layers)
	if err != nil {
		return Change{}, err
	}
	s.audit(by, changed)
	return Change{Changed: changed, Lasts: Lasts, ETag: s.View().ETag}, nil
}

// apply puts in force what the layers say of the live keys, and says what that
// changed.
func (s *Settings) apply(ctx context.Context, layers config.Layers) (map[string]Values, error) {
	next, err := layers.Load()
	if err != nil {
		return nil, refused(err)
	}
	_, needsRestart := s.loaded.Config.Differences(next.Config)
	before, changed := s.loaded.Config, map[string]Values{}
	after := before.Adopt(next.Config)
	if err := after.Validate(); err != nil {
		return nil, refused(err)
	}
	keys, _ := before.Differences(after)
	if len(keys) > 0 {
		if err := s.options.Apply(ctx, after); err != nil {
			return nil, err
		}
	}
	old, current := before.Values(), after.Values()
	for _, key := range keys {
		changed[key] = Values{Before: old[key], After: current[key]}
	}
	for _, key := range needsRestart {
		next.Sources[key] = s.loaded.Sources[key]
	}
	next.Config, next.Layers = after, layers
	s.loaded, s.needsRestart = next, needsRestart
	s.publish()
	s.note(func(n *Notes) {
		n.Live, n.NeedsRestart = slices.Sorted(maps.Keys(layers.Live)), needsRestart
	})
	return changed, nil
}

func (s *Settings) audit(by autoscaler.Caller, changed map[string]Values) {
	before, after := map[string]any{}, map[string]any{}
	for key, values := range changed {
		before[key], after[key] = values.Before, values.After
	}
	by.Audit(s.options.Log, "configuration", before, after)
}

func (s *Settings) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for another change of the configuration: %w", context.Cause(ctx))
	}
}

func (s *Settings) give() { <-s.turn }

// refused makes an error ErrRefused.
func refused(err error) error { return fmt.Errorf("%w: %w", ErrRefused, err) }

// matches says whether headers If-Match (RFC 9110, 13.1.1) are met.
func matches(ifMatch []string, etag string) bool {
	if len(ifMatch) == 0 {
		return true
	}
	return slices.ContainsFunc(strings.Split(strings.Join(ifMatch, ","), ","), func(tag string) bool {
		tag = strings.TrimSpace(tag)
		return tag == "*" || tag == etag
	})
}

// etag is a strong one, of what anybody is shown.
func etag(v View) string {
	// What was decoded can be encoded.
	encoded, _ := json.Marshal(v)
	sum := sha256.Sum256(encoded)
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}
