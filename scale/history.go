// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"slices"
	"time"
)

// History remembers what was recommended lately, for the downscale
// stabilisation. It has one owner: it is not safe for concurrent use.
type History struct {
	window time.Duration
	seeded bool
	// recommendations have falling counts and rising times: one that is
	// followed by an equal or higher one can never be the highest of a window
	// again. So there are never more than there are counts, however short the
	// interval.
	recommendations []recommendation
}

type recommendation struct {
	count int32
	at    time.Time
}

// NewHistory makes a history that looks back one window. A window of 0
// remembers nothing.
func NewHistory(window time.Duration) *History { return &History{window: window} }

// Window is how far the history looks back.
func (h *History) Window() time.Duration { return h.window }

// Seed remembers the count that a process finds when it starts, once: it does
// not know what was recommended before, only what came of it, so that a restart
// never scales down earlier than the window allows.
func (h *History) Seed(now time.Time, current int32) {
	if h.seeded {
		return
	}
	h.seeded = true
	h.record(now, current)
}

// Record remembers what the decision recommends.
func (h *History) Record(now time.Time, d Decision) {
	if !d.Disabled {
		h.record(now, d.recommendation)
	}
}

func (h *History) record(now time.Time, count int32) {
	if h.window <= 0 {
		return
	}
	h.recommendations = slices.DeleteFunc(h.recommendations, func(r recommendation) bool {
		return r.count <= count || h.expired(now, r)
	})
	h.recommendations = append(h.recommendations, recommendation{count: count, at: now})
}

// Highest is the highest count recommended within the window that ends now,
// and when that was.
func (h *History) Highest(now time.Time) (count int32, at time.Time, ok bool) {
	for _, r := range h.recommendations {
		if !h.expired(now, r) {
			return r.count, r.at, true
		}
	}
	return 0, time.Time{}, false
}

// Clone is a copy, for deciding without consequences.
func (h *History) Clone() *History {
	clone := *h
	clone.recommendations = slices.Clone(h.recommendations)
	return &clone
}

// expired: what is exactly one window old is out.
func (h *History) expired(now time.Time, r recommendation) bool { return now.Sub(r.at) >= h.window }
