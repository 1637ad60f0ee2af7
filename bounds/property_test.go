// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package bounds_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

var timezones = []string{
	"", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Santiago", "Asia/Beirut", "Africa/Cairo",
	"Africa/Casablanca", "Antarctica/Troll", "Asia/Kolkata", "Pacific/Apia", "Pacific/Kwajalein",
}

// invention makes up configurations and moments.
type invention struct{ *rand.Rand }

func invent(seed uint64) invention {
	return invention{rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // A failure must come again.
}

func (r invention) of(choices ...string) string { return choices[r.IntN(len(choices))] }

// expression is mostly of small hours, where clocks are changed.
func (r invention) expression() string {
	if r.IntN(10) == 0 {
		return r.of("@hourly", "@daily", "@weekly", "@monthly", "@yearly")
	}
	return strings.Join([]string{
		r.of("0", "30", strconv.Itoa(r.IntN(60)), "*/20", "*"),
		r.of("0", "1", "2", "3", strconv.Itoa(r.IntN(24)), "22-23", "*/6", "*"),
		r.of("*", "*", "*", "*", "1", "29", "*/10"),
		r.of("*", "*", "*", "*", "2", "3,10", "12"),
		r.of("*", "*", "*", "1-5", "0", "6"),
	}, " ")
}

func (r invention) count() *int32 {
	if r.IntN(3) == 0 {
		return nil
	}
	return new(r.Int32N(20))
}

func (r invention) schedule(name string, priority int32) config.Schedule {
	return config.Schedule{
		Name: name, Start: r.expression(), End: r.expression(), Timezone: r.of(timezones...),
		MinReplicas: r.count(), MaxReplicas: r.count(), Priority: priority,
	}
}

// autoscaler has schedules of which some are of the same priority, or of a
// different one each.
func (r invention) autoscaler(distinct bool) config.Autoscaler {
	least := r.Int32N(10)
	c := config.Autoscaler{MinReplicas: least, MaxReplicas: least + r.Int32N(10)}
	for i := range r.Int32N(5) {
		priority := i
		if !distinct {
			priority = r.Int32N(3)
		}
		c.Schedules = append(c.Schedules, r.schedule("s"+strconv.Itoa(int(i)), priority))
	}
	return c
}

// moment is one within fifty years, every other time within a day of a change
// of some clock.
func (r invention) moment(t testing.TB) time.Time {
	t.Helper()
	now := time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(r.Int64N(int64(50 * 365 * 24 * time.Hour))))
	if r.IntN(2) == 0 {
		if _, change := now.In(location(t, r.of(timezones...))).ZoneBounds(); !change.IsZero() {
			now = change.Add(time.Duration(r.Int64N(int64(48*time.Hour))) - 24*time.Hour).UTC()
		}
	}
	return now.Truncate([]time.Duration{1, time.Second, time.Minute, time.Hour}[r.IntN(4)])
}

func (r invention) override(now time.Time) *bounds.Override {
	if r.IntN(2) == 0 {
		return nil
	}
	o := &bounds.Override{MinReplicas: r.count(), MaxReplicas: r.count()}
	if r.IntN(3) > 0 {
		o.ExpiresAt = now.Add(time.Duration(r.Int64N(int64(4*time.Hour))) - time.Hour)
	}
	return o
}

func (r invention) between(from, to time.Time) time.Time {
	return from.Add(time.Duration(r.Int64N(int64(to.Sub(from)))))
}

// hold checks what holds for any bounds: in order, from where they say, and
// the same until the next change, by limits that have been asked before and by
// such as have not.
func hold(t *testing.T, r invention, c config.Autoscaler, limits *bounds.Limits, now time.Time, o *bounds.Override) {
	t.Helper()
	got := limits.InForce(now, o)
	where := fmt.Sprintf("at %s with %+v", now.Format(time.RFC3339Nano), c.Schedules)
	if got.Min.Replicas > got.Max.Replicas || got.BaseMin != c.MinReplicas {
		t.Fatalf("%s: %+v", where, got)
	}
	for _, l := range []bounds.Limit{got.Min, got.Max} {
		if _, contradicted, moved := strings.Cut(l.Source, ", "); moved {
			// The one it gave way to is where it says; it is there itself.
			if got.Conflict == "" || got.Min.Replicas != got.Max.Replicas || !strings.Contains(contradicted, " by ") {
				t.Fatalf("%s: moved, though nothing contradicts it: %+v", where, got)
			}
			continue
		}
		if !slices.Contains(sources(c, o)[l.Source], l.Replicas) {
			t.Fatalf("%s: no such limit: %+v", where, l)
		}
	}
	fresh, err := bounds.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fresh.InForce(now, o), got); diff != "" {
		t.Fatalf("%s: differs when asked before (-fresh +before):\n%s", where, diff)
	}
	if got.NextChange.IsZero() {
		return
	}
	if !got.NextChange.After(now) {
		t.Fatalf("%s: the next change is in the past: %+v", where, got)
	}
	for _, later := range []time.Time{now, r.between(now, got.NextChange), r.between(now, got.NextChange), got.NextChange.Add(-1)} {
		if diff := cmp.Diff(got, fresh.InForce(later, o)); diff != "" {
			t.Fatalf("%s: changes before the next change, at %s (-want +got):\n%s", where, later, diff)
		}
	}
}

// sources are the counts that each source can give.
func sources(c config.Autoscaler, o *bounds.Override) map[string][]int32 {
	known := map[string][]int32{"": {c.MinReplicas, c.MaxReplicas}}
	add := func(source string, counts ...*int32) {
		for _, count := range counts {
			if count != nil {
				known[source] = append(known[source], *count)
			}
		}
	}
	for _, s := range c.Schedules {
		add("schedule "+s.Name, s.MinReplicas, s.MaxReplicas)
	}
	if o != nil {
		add("override", o.MinReplicas, o.MaxReplicas)
	}
	return known
}

func TestProperties(t *testing.T) {
	for seed := range uint64(100) {
		r := invent(seed)
		c := r.autoscaler(false)
		limits, err := bounds.New(c)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			now := r.moment(t)
			o := r.override(now)
			for range 5 { // One change after another, so that time goes on.
				hold(t, r, c, limits, now, o)
				if now = limits.InForce(now, o).NextChange; now.IsZero() {
					break
				}
			}
		}
	}
}

func TestOrderOfSchedules(t *testing.T) {
	for seed := range uint64(100) {
		r := invent(seed)
		c := r.autoscaler(true)
		shuffled := c
		shuffled.Schedules = slices.Clone(c.Schedules)
		r.Shuffle(len(c.Schedules), func(i, j int) {
			s := shuffled.Schedules
			s[i], s[j] = s[j], s[i]
		})
		a, err := bounds.New(c)
		if err != nil {
			t.Fatal(err)
		}
		b, err := bounds.New(shuffled)
		if err != nil {
			t.Fatal(err)
		}
		for range 30 {
			now := r.moment(t)
			o := r.override(now)
			if diff := cmp.Diff(a.InForce(now, o), b.InForce(now, o)); diff != "" {
				t.Fatalf("seed %d: at %s (-in order +shuffled):\n%s", seed, now, diff)
			}
		}
	}
}

// TestConcurrently asks the same limits from several goroutines, each about
// times of its own.
func TestConcurrently(t *testing.T) {
	r := invent(1)
	c := config.Autoscaler{MinReplicas: 1, MaxReplicas: 10}
	for i := range int32(5) {
		c.Schedules = append(c.Schedules, r.schedule("s"+strconv.Itoa(int(i)), i))
	}
	shared, err := bounds.New(c)
	if err != nil {
		t.Fatal(err)
	}
	var goroutines sync.WaitGroup
	for seed := range uint64(4) {
		goroutines.Go(func() {
			r := invent(seed)
			own, err := bounds.New(c)
			if err != nil {
				t.Error(err)
				return
			}
			near := r.moment(t)
			for range 2000 {
				now := near.Add(time.Duration(r.Int64N(int64(48 * time.Hour))))
				if alone, together := own.InForce(now, nil), shared.InForce(now, nil); alone != together {
					t.Errorf("at %s (-alone +together):\n%s", now, cmp.Diff(alone, together))
					return
				}
			}
		})
	}
	goroutines.Wait()
}

// FuzzInForce holds the same for any expression and any year.
func FuzzInForce(f *testing.F) {
	f.Add("0 22 * * *", "0 6 * * *", "Europe/Berlin", int64(1711846800), int64(0))
	f.Add("* * * * *", "@daily", "Pacific/Apia", int64(1325239200), int64(1))
	f.Add("0 0 29 2 *", "0 0 1 3 *", "America/Santiago", int64(4e9), int64(2))
	f.Add("*/7 2 1,15 */2 1-5", "@yearly", "Pacific/Kwajalein", int64(-7e6), int64(3))
	f.Fuzz(func(t *testing.T, start, end, timezone string, seconds, nanoseconds int64) {
		c := config.Autoscaler{MinReplicas: 1, MaxReplicas: 10, Schedules: []config.Schedule{window(start, end, timezone)}}
		limits, err := bounds.New(c)
		if err != nil {
			return
		}
		// Years of four digits, which is what a record can be written with.
		now := time.Unix(seconds%(200*365*86400), nanoseconds%1e9).UTC()
		r := invent(1)
		for range 3 {
			hold(t, r, c, limits, now, nil)
			now = limits.InForce(now, nil).NextChange
		}
	})
}
