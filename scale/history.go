// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"fmt"
	"slices"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// History remembers what was recommended lately, for the stabilisation. It has
// one owner: it is not safe for concurrent use.
type History struct {
	// highs hold back scaling down, and lows, with behavior, scaling up.
	highs, lows extremes
	seeded      bool
	missed      bool
}

// Recommendation is a count that was wanted at a moment.
type Recommendation struct {
	At       time.Time `json:"at"`
	Replicas int32     `json:"replicas"`
	// Found: nobody wanted it that is known; it was there at the start, or
	// after a gap.
	Found bool `json:"found,omitempty"`
	// AfterGap: it was found after a gap in the recommendations, and holds
	// back scaling down alone.
	AfterGap bool `json:"afterGap,omitempty"`
}

// Window is a history on its way from one process to the next, oldest first.
type Window []Recommendation

// told is the recommendation in words.
func (r Recommendation) told(now time.Time) string {
	how := "wanted"
	switch {
	case r.AfterGap:
		how = "found after a gap in the evaluations"
	case r.Found:
		how = "found at the start"
	}
	return fmt.Sprintf("%d was %s %s ago", r.Replicas, how, max(0, now.Sub(r.At)).Round(time.Second))
}

// NewHistory makes an empty history that looks as far back as the configuration
// needs.
func NewHistory(c config.Autoscaler) *History {
	h := &History{lows: extremes{lowest: true}}
	switch {
	case c.Behavior != nil:
		h.highs.window, h.lows.window = window(c.Behavior.ScaleDown), window(c.Behavior.ScaleUp)
	case c.DownscaleStabilization != nil:
		h.highs.window = c.DownscaleStabilization.Duration()
	}
	return h
}

// Prepare readies the history for a decision: it seeds it (Seed) if the run
// came to an evaluation or if this is the first decision of all, and otherwise
// notes that the run recommends nothing (Miss). What stands in for a failed
// evaluation is not seeded anew: a fallback to fewer replicas must be able to
// go there. A disabled target is like a run that was missed: whoever enables it
// again, by hand, finds the count they set.
func (h *History) Prepare(s Situation) {
	if s.Disabled() {
		h.Miss()
		return
	}
	if s.Evaluation != nil || !h.seeded {
		h.Seed(s.Now, s.Current)
	}
	if s.Evaluation == nil {
		h.Miss()
	}
}

// Seed remembers the count that a process finds when it starts, once: it does
// not know what was recommended before, only what came of it, so that a restart
// never scales down earlier than the window allows. Later it does so again
// after a gap in which runs were missed (Miss) and that is longer than the
// window: the empty window would otherwise let the first low evaluation scale
// down at once. That must not hold back scaling up as well, and so counts for
// scaling down alone.
func (h *History) Seed(now time.Time, current int32) {
	if !h.seeded {
		h.seeded = true
		h.record(Recommendation{Replicas: current, At: now, Found: true})
	} else if _, ok := h.highest(now); h.missed && !ok {
		h.record(Recommendation{Replicas: current, At: now, Found: true, AfterGap: true})
	}
	h.missed = false
}

// Miss notes a run that recommends nothing although one was due. Without it an
// interval that is longer than the window, which is nobody's failure, would
// look like a gap, and the count would never go down.
func (h *History) Miss() { h.missed = true }

// Record remembers what the decision recommends.
func (h *History) Record(now time.Time, d Decision) {
	if d.recommendation != nil {
		h.record(Recommendation{Replicas: *d.recommendation, At: now})
	}
}

// Window is what the history holds, for Restore.
func (h *History) Window() Window {
	w := slices.Concat(h.highs.recommendations, h.lows.recommendations)
	slices.SortStableFunc(w, older)
	return slices.CompactFunc(w, func(a, b Recommendation) bool {
		a.At, b.At = a.At.Round(0).UTC(), b.At.Round(0).UTC()
		return a == b
	})
}

// Restore fills an empty history with what another process handed over, if it
// did. What is from the future, because the clock was set back since, counts
// from now. The time from then to now is a gap like any other (Seed).
func (h *History) Restore(now time.Time, w Window) {
	if len(w) == 0 {
		return
	}
	h.seeded, h.missed = true, true
	w = slices.Clone(w)
	slices.SortStableFunc(w, older)
	for _, r := range w {
		r.At = arrived(now, r.At)
		h.record(r)
	}
}

// Resize is the history as another configuration needs it. A window that grew
// knows nothing of the time before its old length, but that a count, if it is
// known, is there now: as after a start, that holds back scaling down.
func (h *History) Resize(c config.Autoscaler, now time.Time, current *int32) *History {
	resized := NewHistory(c)
	resized.seeded, resized.missed = h.seeded, h.missed
	for _, r := range h.Window() {
		resized.record(r)
	}
	if h.seeded && current != nil && resized.highs.window > h.highs.window {
		resized.record(Recommendation{Replicas: *current, At: now, Found: true, AfterGap: true})
	}
	return resized
}

// Clone is a copy, for deciding without consequences.
func (h *History) Clone() *History {
	clone := *h
	clone.highs.recommendations = slices.Clone(h.highs.recommendations)
	clone.lows.recommendations = slices.Clone(h.lows.recommendations)
	return &clone
}

func (h *History) record(latest Recommendation) {
	h.highs.record(latest)
	if !latest.AfterGap {
		h.lows.record(latest)
	}
}

// highest is the highest recommendation of the window that ends now, and of
// equals the latest.
func (h *History) highest(now time.Time) (Recommendation, bool) {
	if h == nil {
		return Recommendation{}, false
	}
	return h.highs.first(now)
}

// lowest is the lowest of its window, and of equals the latest.
func (h *History) lowest(now time.Time) (Recommendation, bool) {
	if h == nil {
		return Recommendation{}, false
	}
	return h.lows.first(now)
}

func older(a, b Recommendation) int { return a.At.Compare(b.At) }

// extremes answer what the highest (or the lowest) recommendation of a window
// is, as a list of all of them would, but fast: they keep those alone that can
// still become it. One that is followed by an equal or higher one never can. So
// the times rise and the counts fall strictly; each comes in at the end and
// goes at either end once.
type extremes struct {
	window          time.Duration
	lowest          bool
	recommendations []Recommendation
}

// maxExtremes is how many a window holds at most, about: see sameSlot. Written
// out, as for a hand-over, they come to less than 300 kB.
const maxExtremes = 2048

func (e *extremes) record(latest Recommendation) {
	if e.window <= 0 {
		return
	}
	kept := e.recommendations
	// Those from the future, if the clock was set back, count from now.
	for i := len(kept) - 1; i >= 0 && kept[i].At.After(latest.At); i-- {
		kept[i].At = latest.At
	}
	for len(kept) > 0 && e.atLeast(latest.Replicas, kept[len(kept)-1].Replicas) {
		kept = kept[:len(kept)-1]
	}
	for len(kept) > 0 && e.expired(latest.At, kept[0]) {
		kept = kept[1:]
	}
	if end := len(kept) - 1; end >= 0 && e.sameSlot(kept[end].At, latest.At) {
		kept[end].At = latest.At
	} else {
		kept = append(kept, latest)
	}
	e.recommendations = kept
}

// first is the most extreme one that has not expired.
func (e *extremes) first(now time.Time) (Recommendation, bool) {
	i, _ := slices.BinarySearchFunc(e.recommendations, now, func(r Recommendation, now time.Time) int {
		if e.expired(now, r) {
			return -1
		}
		return 1
	})
	if i == len(e.recommendations) {
		return Recommendation{}, false
	}
	return e.recommendations[i], true
}

// atLeast says whether one count is as extreme as another.
func (e *extremes) atLeast(one, other int32) bool {
	if e.lowest {
		return one <= other
	}
	return one >= other
}

// expired: what is exactly one window old is out.
func (e *extremes) expired(now time.Time, r Recommendation) bool { return now.Sub(r.At) >= e.window }

// sameSlot bounds what is kept, whatever the interval: of recommendations that
// are that close to each other only the most extreme is kept, as if it had been
// the latest of them. A change is held back longer by it, never shorter, and by
// a 2048th of the window at most.
func (e *extremes) sameSlot(before, after time.Time) bool {
	slot := e.window / maxExtremes
	return after.Sub(before) < slot && after.Truncate(slot).Equal(before.Truncate(slot))
}
