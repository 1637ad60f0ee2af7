// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package bounds_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/robfig/cron/v3"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

func location(t testing.TB, name string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// window is a schedule whose being active shows as Bounds.Temporary.
func window(start, end, timezone string) config.Schedule {
	return config.Schedule{Name: "s", Start: start, End: end, Timezone: timezone, MinReplicas: new(int32(2))}
}

// changes follows NextChange from one moment to another, and tells whenever
// the schedule begins or ends, after how it stands at first.
func changes(t *testing.T, limits *bounds.Limits, from, to time.Time) []string {
	t.Helper()
	state := map[bool]string{true: "on", false: "off"}
	b := limits.InForce(from, nil)
	told := []string{state[b.Temporary]}
	for now := b.NextChange; now.Before(to); now = b.NextChange {
		before := b.Temporary
		b = limits.InForce(now, nil)
		if b.Temporary != before {
			told = append(told, now.Format(time.RFC3339)+" "+state[b.Temporary])
		}
		if !b.NextChange.After(now) {
			t.Fatalf("the change after %s is at %s", now, b.NextChange)
		}
	}
	return told
}

func TestWindows(t *testing.T) {
	for _, test := range []struct {
		name                 string
		timezone, start, end string
		from                 string
		days                 int
		want                 []string
	}{
		{
			name: "a day's", start: "0 8 * * *", end: "0 18 * * *", from: "2026-07-15", days: 1,
			want: []string{"off", "2026-07-15T08:00:00Z on", "2026-07-15T18:00:00Z off"},
		},
		{
			name: "over midnight", start: "0 22 * * *", end: "0 6 * * *", from: "2026-07-15", days: 2,
			want: []string{
				"on", "2026-07-15T06:00:00Z off", "2026-07-15T22:00:00Z on",
				"2026-07-16T06:00:00Z off", "2026-07-16T22:00:00Z on",
			},
		},
		{
			name: "a weekend", timezone: "Asia/Kolkata", start: "30 17 * * fri", end: "0 7 * * mon", from: "2026-07-15", days: 7,
			want: []string{"off", "2026-07-17T17:30:00+05:30 on", "2026-07-20T07:00:00+05:30 off"},
		},
		{
			name: "a week and a day", start: "0 0 1 * *", end: "0 0 9 * *", from: "2026-07-05", days: 30,
			want: []string{"on", "2026-07-09T00:00:00Z off", "2026-08-01T00:00:00Z on"},
		},
		{
			name: "@daily and the like", start: "@weekly", end: "0 12 * * 0", from: "2026-07-15", days: 7,
			want: []string{"off", "2026-07-19T00:00:00Z on", "2026-07-19T12:00:00Z off"},
		},
		{
			name: "the leap days around 2100", start: "0 0 29 2 *", end: "0 12 29 2 *", from: "2096-01-01", days: 9 * 365,
			want: []string{
				"off", "2096-02-29T00:00:00Z on", "2096-02-29T12:00:00Z off",
				"2104-02-29T00:00:00Z on", "2104-02-29T12:00:00Z off",
			},
		},
		{
			name: "an end and a start at once", start: "0 8 * * *", end: "0 8 * * *", from: "2026-07-15", days: 3,
			want: []string{"off"},
		},
		{
			name: "several starts before an end: from the last", start: "0 8-10 * * *", end: "0 18 * * *", from: "2026-07-15", days: 1,
			want: []string{"off", "2026-07-15T10:00:00Z on", "2026-07-15T18:00:00Z off"},
		},
		{
			name: "several ends before a start: to the last", start: "0 8 * * 1-5", end: "0 18 * * *", from: "2026-07-17", days: 4,
			want: []string{
				"off", "2026-07-17T08:00:00Z on", "2026-07-19T18:00:00Z off",
				"2026-07-20T08:00:00Z on", "2026-07-20T18:00:00Z off",
			},
		},

		// Berlin's clock goes from 02:00 to 03:00, and from 03:00 to 02:00.
		{
			name: "a start in a gap", timezone: "Europe/Berlin", start: "30 2 * * *", end: "0 4 * * *", from: "2024-03-30", days: 3,
			want: []string{
				"off", "2024-03-30T02:30:00+01:00 on", "2024-03-30T04:00:00+01:00 off",
				"2024-03-31T03:00:00+02:00 on", "2024-03-31T04:00:00+02:00 off",
				"2024-04-01T02:30:00+02:00 on", "2024-04-01T04:00:00+02:00 off",
			},
		},
		{
			name: "an end in a gap", timezone: "Europe/Berlin", start: "0 1 * * *", end: "30 2 * * *", from: "2024-03-31", days: 1,
			want: []string{"off", "2024-03-31T01:00:00+01:00 on", "2024-03-31T03:00:00+02:00 off"},
		},
		{
			name: "a window within a gap", timezone: "Europe/Berlin", start: "10 2 * * *", end: "50 2 * * *", from: "2024-03-31", days: 2,
			want: []string{"off", "2024-04-01T02:10:00+02:00 on", "2024-04-01T02:50:00+02:00 off"},
		},
		{
			name: "all but within a gap", timezone: "Europe/Berlin", start: "50 2 * * *", end: "10 2 * * *", from: "2024-03-31", days: 2,
			want: []string{"on", "2024-04-01T02:10:00+02:00 off", "2024-04-01T02:50:00+02:00 on"},
		},
		{
			name: "up to a gap's end", timezone: "Europe/Berlin", start: "30 2 * * *", end: "0 3 * * *", from: "2024-03-31", days: 2,
			want: []string{"off", "2024-04-01T02:30:00+02:00 on", "2024-04-01T03:00:00+02:00 off"},
		},
		{
			name: "a start in a fold", timezone: "Europe/Berlin", start: "30 2 * * *", end: "15 3 * * *", from: "2024-10-27", days: 1,
			want: []string{"off", "2024-10-27T02:30:00+02:00 on", "2024-10-27T03:15:00+01:00 off"},
		},
		{
			name: "an end in a fold", timezone: "Europe/Berlin", start: "0 1 * * *", end: "30 2 * * *", from: "2024-10-27", days: 1,
			want: []string{"off", "2024-10-27T01:00:00+02:00 on", "2024-10-27T02:30:00+02:00 off"},
		},
		{
			name: "a window within a fold", timezone: "Europe/Berlin", start: "10 2 * * *", end: "50 2 * * *", from: "2024-10-27", days: 1,
			want: []string{"off", "2024-10-27T02:10:00+02:00 on", "2024-10-27T02:50:00+02:00 off"},
		},
		{
			name: "beginning with a fold", timezone: "Europe/Berlin", start: "0 2 * * *", end: "0 3 * * *", from: "2024-10-27", days: 1,
			want: []string{"off", "2024-10-27T02:00:00+02:00 on", "2024-10-27T03:00:00+01:00 off"},
		},

		{
			name: "New York's gap", timezone: "America/New_York", start: "0 22 * * *", end: "30 2 * * *", from: "2024-03-10", days: 1,
			want: []string{"on", "2024-03-10T03:00:00-04:00 off", "2024-03-10T22:00:00-04:00 on"},
		},
		{
			name: "New York's fold", timezone: "America/New_York", start: "30 1 * * *", end: "0 2 * * *", from: "2024-11-03", days: 1,
			want: []string{"off", "2024-11-03T01:30:00-04:00 on", "2024-11-03T02:00:00-05:00 off"},
		},
		{
			name: "a gap of half an hour", timezone: "Australia/Lord_Howe", start: "15 2 * * *", end: "0 3 * * *", from: "2024-10-06", days: 1,
			want: []string{"off", "2024-10-06T02:30:00+11:00 on", "2024-10-06T03:00:00+11:00 off"},
		},
		{
			name: "a fold of half an hour", timezone: "Australia/Lord_Howe", start: "45 1 * * *", end: "15 2 * * *", from: "2024-04-07", days: 1,
			want: []string{"off", "2024-04-07T01:45:00+11:00 on", "2024-04-07T02:15:00+10:30 off"},
		},
		{
			name: "no midnight in Santiago", timezone: "America/Santiago", start: "@daily", end: "0 6 * * *", from: "2024-09-07", days: 2,
			want: []string{
				"on", "2024-09-07T06:00:00-04:00 off",
				"2024-09-08T01:00:00-03:00 on", "2024-09-08T06:00:00-03:00 off",
			},
		},
		{
			name: "two evenings in Santiago", timezone: "America/Santiago", start: "30 23 * * *", end: "@daily", from: "2024-04-06", days: 2,
			want: []string{
				"off", "2024-04-06T23:30:00-03:00 on", "2024-04-07T00:00:00-04:00 off",
				"2024-04-07T23:30:00-04:00 on",
			},
		},
		{
			name: "no midnight in Beirut", timezone: "Asia/Beirut", start: "0 0 * * 0", end: "0 0 * * 1", from: "2024-03-30", days: 3,
			want: []string{"off", "2024-03-31T01:00:00+03:00 on", "2024-04-01T00:00:00+03:00 off"},
		},
		{
			name: "no midnight in Cairo", timezone: "Africa/Cairo", start: "0 20 * * *", end: "30 0 * * *", from: "2024-04-25", days: 2,
			want: []string{"on", "2024-04-25T00:30:00+02:00 off", "2024-04-25T20:00:00+02:00 on", "2024-04-26T01:00:00+03:00 off", "2024-04-26T20:00:00+03:00 on"},
		},
		{
			name: "a day that Samoa skipped", timezone: "Pacific/Apia", start: "0 9 * * *", end: "0 17 * * *", from: "2011-12-29", days: 3,
			want: []string{
				"off", "2011-12-29T09:00:00-10:00 on", "2011-12-29T17:00:00-10:00 off",
				"2011-12-31T09:00:00+14:00 on", "2011-12-31T17:00:00+14:00 off",
			},
		},
		{
			name: "a start on it", timezone: "Pacific/Apia", start: "0 9 30 12 *", end: "0 17 31 12 *", from: "2011-12-29", days: 3,
			want: []string{"off", "2011-12-31T00:00:00+14:00 on", "2011-12-31T17:00:00+14:00 off"},
		},
		{
			name: "a leap year's last day, past the table of transitions", timezone: "Europe/Berlin",
			start: "30 7 * * *", end: "30 8 * * *", from: "2040-12-30", days: 3,
			want: []string{
				"off", "2040-12-30T07:30:00+01:00 on", "2040-12-30T08:30:00+01:00 off",
				"2040-12-31T07:30:00+01:00 on", "2040-12-31T08:30:00+01:00 off",
				"2041-01-01T07:30:00+01:00 on", "2041-01-01T08:30:00+01:00 off",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			from, err := time.ParseInLocation(time.DateOnly, test.from, location(t, test.timezone))
			if err != nil {
				t.Fatal(err)
			}
			limits := newLimits(t, window(test.start, test.end, test.timezone))
			got := changes(t, limits, from, from.AddDate(0, 0, test.days))
			if diff := gocmp.Diff(test.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// clock is a record of when a location's clock first showed each wall time,
// written in UTC and counted in seconds, made by watching it step by step. A
// wall time that it jumped over counts when it landed; one that it shows again
// does not count again.
type clock map[int64]time.Time

func watch(l *time.Location, from, to time.Time, step time.Duration) clock {
	c := clock{}
	var before time.Time
	for t := from; t.Before(to); t = t.Add(step) {
		year, month, day := t.In(l).Date()
		hour, minute, second := t.In(l).Clock()
		shown := time.Date(year, month, day, hour, minute, second, 0, time.UTC)
		jumped := shown
		if !before.IsZero() && before.Add(step).Before(shown) {
			jumped = before.Add(step)
		}
		for ; !jumped.After(shown); jumped = jumped.Add(step) {
			if _, again := c[jumped.Unix()]; !again {
				c[jumped.Unix()] = t
			}
		}
		before = shown
	}
	return c
}

// event is a start or an end of a schedule, or both at one wall time.
type event struct {
	wall       int64
	at         time.Time
	start, end bool
}

// events are a schedule's by the clock, in order.
func (c clock) events(t *testing.T, s config.Schedule, from, to time.Time) []event {
	t.Helper()
	var events []event
	for i, expression := range []string{s.Start, s.End} {
		spec, err := cron.ParseStandard(expression)
		if err != nil {
			t.Fatal(err)
		}
		for wall := spec.Next(from); wall.Before(to); wall = spec.Next(wall) {
			events = append(events, event{wall: wall.Unix(), at: c[wall.Unix()], start: i == 0, end: i == 1})
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.wall, b.wall) })
	for i := 1; i < len(events); i++ {
		if a, b := &events[i-1], &events[i]; a.wall == b.wall {
			a.end, b.start = true, true
		}
	}
	return events
}

// TestAgainstTheClock holds the minutes of the days around a change of the
// clock against a record of what the clock showed.
func TestAgainstTheClock(t *testing.T) {
	windows := [][2]string{
		{"0 22 * * *", "0 6 * * *"},
		{"30 2 * * *", "30 3 * * *"},
		{"30 1 * * *", "30 2 * * *"},
		{"15 2 * * *", "45 2 * * *"},
		{"45 2 * * *", "15 2 * * *"},
		{"0 2 * * *", "0 3 * * *"},
		{"0 3 * * *", "0 2 * * *"},
		{"30 23 * * *", "15 0 * * *"},
		{"0 0 * * *", "0 1 * * *"},
		{"*/20 * * * *", "10-59/20 * * * *"},
		{"* * * * *", "30 2 * * *"},
		{"30 2 * * *", "* * * * *"},
		{"@daily", "@hourly"},
		{"0 8 * * 1-5", "0 18 * * *"},
		{"0 0 * * 0", "0 0 * * 3"},
		{"@weekly", "@daily"},
	}
	for _, test := range []struct {
		timezone, day string
		shift         time.Duration // How far the clock is put on that day.
		watch, ask    time.Duration // How often.
	}{
		{"Europe/Berlin", "2024-03-31", time.Hour, time.Minute, time.Minute},
		{"Europe/Berlin", "2024-10-27", -time.Hour, time.Minute, time.Minute},
		{"America/New_York", "2024-03-10", time.Hour, time.Minute, time.Minute},
		{"America/New_York", "2024-11-03", -time.Hour, time.Minute, time.Minute},
		{"Australia/Lord_Howe", "2024-04-07", -30 * time.Minute, time.Minute, 7 * time.Minute},
		{"Australia/Lord_Howe", "2024-10-06", 30 * time.Minute, time.Minute, 7 * time.Minute},
		{"America/Santiago", "2024-04-06", -time.Hour, time.Minute, 7 * time.Minute},
		{"America/Santiago", "2024-09-08", time.Hour, time.Minute, 7 * time.Minute},
		{"Asia/Beirut", "2024-03-31", time.Hour, time.Minute, 7 * time.Minute},
		{"Asia/Beirut", "2024-10-26", -time.Hour, time.Minute, 7 * time.Minute},
		{"Africa/Cairo", "2024-04-26", time.Hour, time.Minute, 7 * time.Minute},
		{"Africa/Cairo", "2024-10-31", -time.Hour, time.Minute, 7 * time.Minute},
		{"Africa/Casablanca", "2024-03-10", -time.Hour, time.Minute, 7 * time.Minute},
		{"Antarctica/Troll", "2024-03-31", 2 * time.Hour, time.Minute, 7 * time.Minute},
		{"Antarctica/Troll", "2024-10-27", -2 * time.Hour, time.Minute, 7 * time.Minute},
		{"Pacific/Apia", "2011-12-30", 24 * time.Hour, time.Minute, 7 * time.Minute},
		{"Pacific/Kwajalein", "1969-09-30", -23 * time.Hour, time.Minute, 7 * time.Minute},
		{"Africa/Monrovia", "1972-01-07", 44*time.Minute + 30*time.Second, 30 * time.Second, 7 * time.Minute},
		{"Europe/Berlin", "2040-12-31", 0, time.Minute, 7 * time.Minute},
		{"Asia/Kolkata", "2024-02-29", 0, time.Minute, 7 * time.Minute},
		{"UTC", "2024-02-29", 0, time.Minute, 7 * time.Minute},
	} {
		t.Run(test.timezone+" "+test.day, func(t *testing.T) {
			t.Parallel()
			l := location(t, test.timezone)
			day, err := time.Parse(time.DateOnly, test.day)
			if err != nil {
				t.Fatal(err)
			}
			// Offsets are less than a day, so a day on either side sees the whole
			// one, and a few more see the next event.
			from, to, until := day.AddDate(0, 0, -1), day.AddDate(0, 0, 2), day.AddDate(0, 0, 8)
			_, before := from.In(l).Zone()
			_, after := to.In(l).Zone()
			if shift := time.Duration(after-before) * time.Second; shift != test.shift {
				t.Fatalf("the clock is put by %s: the zone data differ from what this test was written for", shift)
			}
			c := watch(l, from.AddDate(0, 0, -2), until.AddDate(0, 0, 2), test.watch)
			for _, w := range windows {
				s := window(w[0], w[1], test.timezone)
				holdAgainst(t, s, c.events(t, s, from.AddDate(0, 0, -1), until), from, to, test.ask)
			}
		})
	}
}

// holdAgainst holds a schedule against its events, by limits that are asked
// step by step and by such as are asked for the first time, as after a restart.
func holdAgainst(t *testing.T, s config.Schedule, events []event, from, to time.Time, step time.Duration) {
	t.Helper()
	going := newLimits(t, s)
	for i, now := 0, from; now.Before(to); i, now = i+1, now.Add(step) {
		for len(events) > 0 && !events[0].at.After(now) {
			events = events[1:]
		}
		if len(events) == 0 {
			t.Fatalf("%s to %s: no event is left at %s", s.Start, s.End, now)
		}
		next := events[0]
		asked := []*bounds.Limits{going}
		if i%97 == 0 {
			asked = append(asked, newLimits(t, s))
		}
		for _, limits := range asked {
			got := limits.InForce(now, nil)
			if active := next.end && !next.start; got.Temporary != active || !got.NextChange.Equal(next.at) {
				t.Fatalf("%s to %s: at %s active is %t until %s, want %t until %s (restarted: %t)", s.Start, s.End,
					now, got.Temporary, got.NextChange, active, next.at, limits != going)
			}
		}
	}
}

func ExampleLimits_InForce() {
	limits, err := bounds.New(config.Autoscaler{MinReplicas: 2, MaxReplicas: 10, Schedules: []config.Schedule{
		{Name: "nights", Start: "0 22 * * *", End: "0 6 * * *", Timezone: "Europe/Berlin", MaxReplicas: new(int32(4))},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	b := limits.InForce(time.Date(2026, time.July, 15, 23, 0, 0, 0, time.UTC), nil)
	fmt.Println("from", b.Min, "to", b.Max, "until", b.NextChange.Format(time.DateTime))
	// Output: from 2 to 4, by schedule nights until 2026-07-16 04:00:00
}
