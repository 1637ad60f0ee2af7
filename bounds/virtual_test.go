// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package bounds_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
)

// TestAYearOfTimers sleeps, in virtual time, from change to change through the
// year 2000, at whose beginning synctest's clock starts, and notes when it
// finds the schedule to have begun or ended. What it should find is worked out
// from when the clocks were changed, without a timezone.
func TestAYearOfTimers(t *testing.T) {
	for _, test := range []struct {
		timezone         string
		start, end       string
		standard         time.Duration // The offset in winter.
		forward, back    string        // When summer time began and ended.
		opening, closing time.Duration // Start and end, from midnight, most days.
		inGap, inFold    [2]string     // The window on the days of the change.
	}{
		{
			timezone: "Europe/Berlin", start: "30 2 * * *", end: "30 3 * * *",
			standard: time.Hour, forward: "2000-03-26T01:00:00Z", back: "2000-10-29T01:00:00Z",
			opening: 2*time.Hour + 30*time.Minute, closing: 3*time.Hour + 30*time.Minute,
			inGap:  [2]string{"2000-03-26T01:00:00Z", "2000-03-26T01:30:00Z"}, // 03:00 to 03:30 in summer.
			inFold: [2]string{"2000-10-29T00:30:00Z", "2000-10-29T02:30:00Z"}, // 02:30 in summer to 03:30 in winter.
		},
		{
			timezone: "America/New_York", start: "15 1 * * *", end: "45 2 * * *",
			standard: -5 * time.Hour, forward: "2000-04-02T07:00:00Z", back: "2000-10-29T06:00:00Z",
			opening: 75 * time.Minute, closing: 165 * time.Minute,
			inGap:  [2]string{"2000-04-02T06:15:00Z", "2000-04-02T07:00:00Z"}, // 01:15 in winter to 03:00 in summer.
			inFold: [2]string{"2000-10-29T05:15:00Z", "2000-10-29T07:45:00Z"}, // 01:15 in summer to 02:45 in winter.
		},
	} {
		t.Run(test.timezone, func(t *testing.T) {
			forward, back := instant(t, test.forward), instant(t, test.back)
			var want []string
			for day := time.Date(2000, time.January, 2, 0, 0, 0, 0, time.UTC); day.Year() == 2000; day = day.AddDate(0, 0, 1) {
				switch day.Format(time.DateOnly) {
				case forward.Format(time.DateOnly):
					want = append(want, test.inGap[0]+" on", test.inGap[1]+" off")
					continue
				case back.Format(time.DateOnly):
					want = append(want, test.inFold[0]+" on", test.inFold[1]+" off")
					continue
				}
				offset := test.standard
				if day.After(forward) && day.Before(back) {
					offset += time.Hour
				}
				want = append(want,
					day.Add(test.opening-offset).Format(time.RFC3339)+" on",
					day.Add(test.closing-offset).Format(time.RFC3339)+" off")
			}
			limits := newLimits(t, window(test.start, test.end, test.timezone))
			synctest.Test(t, func(t *testing.T) {
				from := time.Date(2000, time.January, 2, 0, 0, 0, 0, time.UTC)
				<-time.After(time.Until(from))
				got := sleepThrough(t, limits, from.AddDate(0, 0, 365))
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			})
		})
	}
}

func instant(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// sleepThrough wakes at each next change until the end, and tells when the
// schedule has begun or ended by then.
func sleepThrough(t *testing.T, limits *bounds.Limits, end time.Time) []string {
	t.Helper()
	var told []string
	active := limits.InForce(time.Now(), nil).Temporary
	for {
		next := limits.InForce(time.Now(), nil).NextChange
		if !next.After(time.Now()) {
			t.Fatalf("the change after %s is at %s", time.Now(), next)
		}
		if !next.Before(end) {
			return told
		}
		<-time.After(time.Until(next))
		if now := limits.InForce(time.Now(), nil).Temporary; now != active {
			active = now
			told = append(told, time.Now().UTC().Format(time.RFC3339Nano)+map[bool]string{true: " on", false: " off"}[now])
		}
	}
}
