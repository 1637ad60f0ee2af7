// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package bounds

import (
	"sync/atomic"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// window is a schedule with what it puts in force. It is active when its next
// end comes before its next start: so the answer for a moment needs no memory
// of how that moment was reached, and a restart in the middle of a window knows
// where it is. A start that comes with an end begins nothing.
//
// Both are found on the wall clock, as times written in UTC, because the cron
// library leaves out what daylight saving skips. A wall time comes when the
// clock first shows it or a later one: what a gap skips comes at the gap's end,
// what a fold shows twice comes once.
type window struct {
	config.Window
	least, most *claim

	// span is the latest answer. It holds for every moment within it, so it
	// may serve any of them, whoever asks and in whatever order.
	span atomic.Pointer[span]
}

// span is what a window is from one moment, included, until another, which is
// its next start or end.
type span struct {
	from, until time.Time
	active      bool
}

func newWindow(s config.Schedule) (*window, error) {
	parsed, err := s.Parse()
	if err != nil {
		return nil, err
	}
	w := &window{Window: parsed}
	source, rank := "schedule "+s.Name, int64(s.Priority)
	if s.MinReplicas != nil {
		w.least = &claim{Limit{*s.MinReplicas, source}, rank}
	}
	if s.MaxReplicas != nil {
		w.most = &claim{Limit{*s.MaxReplicas, source}, rank}
	}
	return w, nil
}

// at is the span that the moment is in.
func (w *window) at(now time.Time) span {
	if s := w.span.Load(); s != nil && !now.Before(s.from) && now.Before(s.until) {
		return *s
	}
	mark := highWater(now.In(w.Location))
	start, end := next(w.Start, mark), next(w.End, mark)
	s := span{from: now, until: instant(start, w.Location), active: end.Before(start)}
	if s.active {
		s.until = instant(end, w.Location)
	}
	w.span.Store(&s)
	return s
}

// next is the first wall time after another that the expression names. Each
// names some, or it would not have been parsed, but the cron library looks no
// further than five years ahead, and the leap days around 2100 are eight apart.
func next(schedule cron.Schedule, after time.Time) time.Time {
	if t := schedule.Next(after); !t.IsZero() {
		return t
	}
	return schedule.Next(after.AddDate(5, 0, 0))
}

// day is longer than any offset from UTC, and than any clock was ever put back.
const day = 25 * time.Hour

// wall is what the clock shows at a moment in its location, written in UTC.
func wall(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// highWater is the latest that the wall clock has shown by now. That is more
// than it shows now while it repeats what it was put back by.
func highWater(now time.Time) time.Time {
	latest := wall(now)
	for t := now; now.Sub(t) < day; {
		begin, _ := t.ZoneBounds()
		if begin.IsZero() || begin.After(t) {
			break
		}
		t = begin.Add(-1)
		if before := wall(t); before.After(latest) {
			latest = before
		}
	}
	return latest
}

// instant is when the location's clock first shows a wall time or a later one.
func instant(shown time.Time, location *time.Location) time.Time {
	t := shown.Add(-day).In(location) // The clock shows less here.
	for {
		_, offset := t.Zone()
		exact := shown.Add(-time.Duration(offset) * time.Second).In(location)
		end := offsetEnd(t)
		switch {
		case !end.IsZero() && !exact.Before(end):
			t = end
		case exact.Before(t):
			return t // The gap before t skips it.
		default:
			return exact
		}
	}
}

// offsetEnd is a moment after t up to which the offset at t holds; zero if it
// always does.
func offsetEnd(t time.Time) time.Time {
	_, end := t.ZoneBounds()
	if end.IsZero() || end.After(t) {
		return end
	}
	// In the years after a location's table of transitions ZoneBounds ends each
	// after 365 days, so on the last day of a leap year it answers with the
	// past. The offset holds until the year ends, in UTC.
	return t.UTC().Truncate(24 * time.Hour).Add(24 * time.Hour).In(t.Location())
}
