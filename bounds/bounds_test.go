// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package bounds_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// noon is a Wednesday's.
var noon = time.Date(2026, time.July, 15, 12, 0, 0, 0, time.UTC)

// newLimits are the bounds 1 to 10 under some schedules.
func newLimits(t testing.TB, schedules ...config.Schedule) *bounds.Limits {
	t.Helper()
	limits, err := bounds.New(config.Autoscaler{MinReplicas: 1, MaxReplicas: 10, Schedules: schedules})
	if err != nil {
		t.Fatal(err)
	}
	return limits
}

// byDay is in force from 8 to 18 o'clock; a count of -1 leaves the bound alone.
func byDay(name string, priority, least, most int32) config.Schedule {
	s := config.Schedule{Name: name, Start: "0 8 * * *", End: "0 18 * * *", Priority: priority}
	if least >= 0 {
		s.MinReplicas = &least
	}
	if most >= 0 {
		s.MaxReplicas = &most
	}
	return s
}

// byNight is the same while byDay is not in force.
func byNight(name string, priority, least, most int32) config.Schedule {
	s := byDay(name, priority, least, most)
	s.Start, s.End = s.End, s.Start
	return s
}

func limit(replicas int32, source string) bounds.Limit {
	return bounds.Limit{Replicas: replicas, Source: source}
}

func TestLayers(t *testing.T) {
	six := noon.Add(6 * time.Hour)
	for _, test := range []struct {
		name      string
		schedules []config.Schedule
		override  *bounds.Override
		want      bounds.Bounds
	}{
		{
			name: "the configuration's own",
			want: bounds.Bounds{Min: limit(1, ""), Max: limit(10, "")},
		},
		{
			name: "a schedule", schedules: []config.Schedule{byDay("days", 0, 3, 20)},
			want: bounds.Bounds{Min: limit(3, "schedule days"), Max: limit(20, "schedule days"), Temporary: true, NextChange: six},
		},
		{
			name: "a schedule that is not active", schedules: []config.Schedule{byNight("nights", 0, 3, 20)},
			want: bounds.Bounds{Min: limit(1, ""), Max: limit(10, ""), NextChange: six},
		},
		{
			name: "one field only", schedules: []config.Schedule{byDay("days", 0, -1, 20)},
			want: bounds.Bounds{Min: limit(1, ""), Max: limit(20, "schedule days"), Temporary: true, NextChange: six},
		},
		{
			name:      "the highest priority for each field, negative ones too",
			schedules: []config.Schedule{byDay("a", -1, 2, 30), byDay("b", 1, -1, 20), byDay("c", 0, 3, 40), byNight("d", 9, 9, 9)},
			want:      bounds.Bounds{Min: limit(3, "schedule c"), Max: limit(20, "schedule b"), Temporary: true, NextChange: six},
		},
		{
			name:      "the lowest priority there is",
			schedules: []config.Schedule{byDay("a", -1<<31, 2, 30)},
			want:      bounds.Bounds{Min: limit(2, "schedule a"), Max: limit(30, "schedule a"), Temporary: true, NextChange: six},
		},
		{
			name:      "among equals the larger minimum and the smaller maximum",
			schedules: []config.Schedule{byDay("a", 1, 2, 20), byDay("b", 1, 4, 30), byDay("c", 1, 3, 25)},
			want:      bounds.Bounds{Min: limit(4, "schedule b"), Max: limit(20, "schedule a"), Temporary: true, NextChange: six},
		},
		{
			name:      "a lower bound than the configuration's",
			schedules: []config.Schedule{byDay("days", 0, 0, 5)},
			want:      bounds.Bounds{Min: limit(0, "schedule days"), Max: limit(5, "schedule days"), Temporary: true, NextChange: six},
		},
		{
			name:      "an override above the highest priority",
			schedules: []config.Schedule{byDay("days", 1<<31-1, 3, 20)}, override: &bounds.Override{MinReplicas: new(int32(5))},
			want: bounds.Bounds{Min: limit(5, "override"), Max: limit(20, "schedule days"), Temporary: true, NextChange: six},
		},
		{
			name:     "an override for ever",
			override: &bounds.Override{MinReplicas: new(int32(5)), MaxReplicas: new(int32(6))},
			want:     bounds.Bounds{Min: limit(5, "override"), Max: limit(6, "override"), Temporary: true},
		},
		{
			name:      "an override that expires before the schedule ends",
			schedules: []config.Schedule{byDay("days", 0, 3, 20)},
			override:  &bounds.Override{MaxReplicas: new(int32(6)), ExpiresAt: noon.Add(1)},
			want:      bounds.Bounds{Min: limit(3, "schedule days"), Max: limit(6, "override"), Temporary: true, NextChange: noon.Add(1)},
		},
		{
			name:      "an override that expires after the schedule ends",
			schedules: []config.Schedule{byDay("days", 0, 3, 20)},
			override:  &bounds.Override{MaxReplicas: new(int32(6)), ExpiresAt: six.Add(1)},
			want:      bounds.Bounds{Min: limit(3, "schedule days"), Max: limit(6, "override"), Temporary: true, NextChange: six},
		},
		{
			name:     "an override that expires now",
			override: &bounds.Override{MaxReplicas: new(int32(6)), ExpiresAt: noon},
			want:     bounds.Bounds{Min: limit(1, ""), Max: limit(10, "")},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.want.BaseMin = 1
			if diff := cmp.Diff(test.want, newLimits(t, test.schedules...).InForce(noon, test.override)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestConflicts(t *testing.T) {
	for _, test := range []struct {
		name      string
		schedules []config.Schedule
		override  *bounds.Override
		min, max  bounds.Limit
		conflict  string
	}{
		{
			name: "a schedule's minimum moves the configuration's maximum", schedules: []config.Schedule{byDay("days", 0, 20, -1)},
			min: limit(20, "schedule days"), max: limit(20, "the configuration, raised from 10 by schedule days"),
			conflict: "minReplicas 20, by schedule days, is above maxReplicas 10, by the configuration: " +
				"maxReplicas counts less and is raised to 20",
		},
		{
			name: "a schedule's maximum moves the configuration's minimum", schedules: []config.Schedule{byDay("days", 0, -1, 0)},
			min: limit(0, "the configuration, lowered from 1 by schedule days"), max: limit(0, "schedule days"),
			conflict: "minReplicas 1, by the configuration, is above maxReplicas 0, by schedule days: " +
				"minReplicas counts less and is lowered to 0",
		},
		{
			name: "the higher priority stays", schedules: []config.Schedule{byDay("a", 2, -1, 5), byDay("b", 1, 7, -1)},
			min: limit(5, "schedule b, lowered from 7 by schedule a"), max: limit(5, "schedule a"),
			conflict: "minReplicas 7, by schedule b, is above maxReplicas 5, by schedule a: minReplicas counts less and is lowered to 5",
		},
		{
			name: "among equals the maximum moves", schedules: []config.Schedule{byDay("a", 1, -1, 5), byDay("b", 1, 7, -1)},
			min: limit(7, "schedule b"), max: limit(7, "schedule a, raised from 5 by schedule b"),
			conflict: "minReplicas 7, by schedule b, is above maxReplicas 5, by schedule a: both count the same, so maxReplicas is raised to 7",
		},
		{
			name: "an override's maximum moves a schedule's minimum", schedules: []config.Schedule{byDay("days", 1<<31-1, 20, 30)},
			override: &bounds.Override{MaxReplicas: new(int32(4))},
			min:      limit(4, "schedule days, lowered from 20 by override"), max: limit(4, "override"),
			conflict: "minReplicas 20, by schedule days, is above maxReplicas 4, by override: minReplicas counts less and is lowered to 4",
		},
		{
			name: "an override against itself", override: &bounds.Override{MinReplicas: new(int32(5)), MaxReplicas: new(int32(4))},
			min: limit(5, "override"), max: limit(5, "override, raised from 4 by override"),
			conflict: "minReplicas 5, by override, is above maxReplicas 4, by override: both count the same, so maxReplicas is raised to 5",
		},
		{
			name: "equal is none", schedules: []config.Schedule{byDay("days", 0, 10, -1)},
			min: limit(10, "schedule days"), max: limit(10, ""),
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := newLimits(t, test.schedules...).InForce(noon, test.override)
			if got.Min != test.min || got.Max != test.max || got.Conflict != test.conflict {
				t.Errorf("got %+v to %+v, %q\nwant %+v to %+v, %q", got.Min, got.Max, got.Conflict, test.min, test.max, test.conflict)
			}
			if got.BaseMin != 1 {
				t.Errorf("the configuration's own minimum is %d", got.BaseMin)
			}
		})
	}
}

// TestLocation holds that the next change reads as now does, whatever timezones
// the schedules have.
func TestLocation(t *testing.T) {
	berlin := location(t, "Europe/Berlin")
	s := byDay("days", 0, 3, 20)
	s.Timezone = "America/New_York"
	const want = "2026-07-15T14:00:00+02:00"
	if got := newLimits(t, s).InForce(noon.Add(-time.Hour).In(berlin), nil).NextChange.Format(time.RFC3339); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*config.Schedule)
		want   string
	}{
		{"a start that is no expression", func(s *config.Schedule) { s.Start = "8 o'clock" }, "schedules[1].start: "},
		{"an end that is no expression", func(s *config.Schedule) { s.End = "" }, "schedules[1].end: "},
		{"an unknown timezone", func(s *config.Schedule) { s.Timezone = "Europe/Atlantis" }, "schedules[1].timezone: "},
		{"a start that never comes", func(s *config.Schedule) { s.Start = "0 0 30 2 *" }, "schedules[1].start: never comes"},
		{"an end that never comes", func(s *config.Schedule) { s.End = "0 0 31 4,6,9,11 *" }, "schedules[1].end: never comes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := byDay("b", 0, 1, 2)
			test.change(&s)
			_, err := bounds.New(config.Autoscaler{Schedules: []config.Schedule{byDay("a", 0, 1, 2), s}})
			if err == nil || !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("got %v, want %s...", err, test.want)
			}
		})
	}
}

func TestJSON(t *testing.T) {
	for _, test := range []struct {
		bounds bounds.Bounds
		want   string
	}{
		{newLimits(t).InForce(noon, nil), `{"min":{"replicas":1},"max":{"replicas":10}}`},
		{
			newLimits(t, byDay("days", 0, -1, 20)).InForce(noon, nil),
			`{"min":{"replicas":1},"max":{"replicas":20,"source":"schedule days"},"temporary":true,"nextChange":"2026-07-15T18:00:00Z"}`,
		},
	} {
		got, err := json.Marshal(test.bounds)
		if err != nil || string(got) != test.want {
			t.Errorf("got %s, %v\nwant %s", got, err, test.want)
		}
	}
}
