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
	// found: nobody wanted it that is known; it was there at the start.
	found bool
}

// how the recommendation came about.
func (r recommendation) how() string {
	if r.found {
		return "found at the start"
	}
	return "wanted"
}

// NewHistory makes a history that looks back one window. A window of 0
// remembers nothing.
func NewHistory(window time.Duration) *History { return &History{window: window} }

// Seed remembers the count that a process finds when it starts, once: it does
// not know what was recommended before, only what came of it, so that a restart
// never scales down earlier than the window allows.
func (h *History) Seed(now time.Time, current int32) {
	if h.seeded {
		return
	}
	h.seeded = true
	h.record(recommendation{count: current, at: now, found: true})
}

// Record remembers what the decision recommends.
func (h *History) Record(now time.Time, d Decision) {
	if !d.Disabled {
		h.record(recommendation{count: d.recommendation, at: now})
	}
}

func (h *History) record(latest recommendation) {
	if h.window <= 0 {
		return
	}
	h.recommendations = slices.DeleteFunc(h.recommendations, func(r recommendation) bool {
		return r.count <= latest.count || h.expired(latest.at, r)
	})
	h.recommendations = append(h.recommendations, latest)
}

// highest is the highest recommendation of the window that ends now.
func (h *History) highest(now time.Time) (highest recommendation, ok bool) {
	for _, r := range h.recommendations {
		if !h.expired(now, r) {
			return r, true
		}
	}
	return recommendation{}, false
}

// Clone is a copy, for deciding without consequences.
func (h *History) Clone() *History {
	clone := *h
	clone.recommendations = slices.Clone(h.recommendations)
	return &clone
}

// expired: what is exactly one window old is out.
func (h *History) expired(now time.Time, r recommendation) bool { return now.Sub(r.at) >= h.window }
