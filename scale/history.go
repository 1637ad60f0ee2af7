// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"slices"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// History remembers what was recommended lately, for the stabilisation. It has
// one owner: it is not safe for concurrent use.
type History struct {
	window time.Duration
	seeded bool
	// recommendations have falling counts and rising times: one that is
	// followed by an equal or higher one can never be the highest of a window
	// again. So there are never more than there are counts, however short the
	// interval.
	recommendations []Recommendation
}

// Recommendation is a count that was wanted at a moment.
type Recommendation struct {
	At       time.Time `json:"at"`
	Replicas int32     `json:"replicas"`
	// Found: nobody wanted it that is known; it was there at the start.
	Found bool `json:"found,omitempty"`
}

// Window is a history on its way from one process to the next, oldest first.
type Window []Recommendation

// how the recommendation came about.
func (r Recommendation) how() string {
	if r.Found {
		return "found at the start"
	}
	return "wanted"
}

// NewHistory makes an empty history that looks as far back as the configuration
// needs.
func NewHistory(c config.Autoscaler) *History {
	h := &History{}
	if c.DownscaleStabilization != nil {
		h.window = c.DownscaleStabilization.Duration()
	}
	return h
}

// Seed remembers the count that a process finds when it starts, once: it does
// not know what was recommended before, only what came of it, so that a restart
// never scales down earlier than the window allows. Later it does so again
// after a gap in which runs were missed (Miss) and that is longer than the
// window: the empty window would otherwise let the first low evaluation scale
// down at once.
func (h *History) Seed(now time.Time, current int32) {
	if h.seeded {
		return
	}
	h.seeded = true
	h.record(Recommendation{Replicas: current, At: now, Found: true})
}

// Miss notes a run that recommends nothing although one was due.
func (h *History) Miss() {}

// Record remembers what the decision recommends.
func (h *History) Record(now time.Time, d Decision) {
	if d.recommendation != nil {
		h.record(Recommendation{Replicas: *d.recommendation, At: now})
	}
}

// Window is what the history holds, for Restore.
func (h *History) Window() Window { return slices.Clone(h.recommendations) }

// Restore fills an empty history with what another process handed over.
func (h *History) Restore(w Window) {
	h.seeded = true
	for _, r := range w {
		h.record(r)
	}
}

func (h *History) record(latest Recommendation) {
	if h.window <= 0 {
		return
	}
	h.recommendations = slices.DeleteFunc(h.recommendations, func(r Recommendation) bool {
		return r.Replicas <= latest.Replicas || h.expired(latest.At, r)
	})
	h.recommendations = append(h.recommendations, latest)
}

// highest is the highest recommendation of the window that ends now.
func (h *History) highest(now time.Time) (highest Recommendation, ok bool) {
	for _, r := range h.recommendations {
		if !h.expired(now, r) {
			return r, true
		}
	}
	return Recommendation{}, false
}

// Clone is a copy, for deciding without consequences.
func (h *History) Clone() *History {
	clone := *h
	clone.recommendations = slices.Clone(h.recommendations)
	return &clone
}

// expired: what is exactly one window old is out.
func (h *History) expired(now time.Time, r Recommendation) bool { return now.Sub(r.At) >= h.window }
