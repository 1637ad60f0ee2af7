// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

const cronForm = `a cron expression such as "30 8 * * 1-5" (minute, hour, day of month, month, day of week), or @daily and the like`

func TestValidateSchedules(t *testing.T) {
	const (
		night = "{name: night, start: 0 22 * * *, end: 0 6 * * *, minReplicas: 1}"
		times = "name: a, start: 0 8 * * *, end: 0 9 * * *"
		zone  = "[0].timezone: must be a name of the IANA time zone database, such as Europe/Berlin, got "
	)
	tests := map[string]struct {
		schedules string
		want      []string
	}{
		"none":                    {schedules: ""},
		"night":                   {schedules: night},
		"only a max":              {schedules: "{" + times + ", maxReplicas: 0}"},
		"as few as most":          {schedules: "{" + times + ", minReplicas: 7, maxReplicas: 7}"},
		"above the base's bounds": {schedules: "{" + times + ", minReplicas: 50}"},
		"an empty one": {
			schedules: "{}",
			want: []string{
				"[0]: must give minReplicas, maxReplicas or both: they are what it puts in force",
				"[0].end: is required: " + cronForm,
				"[0].name: is required: what logs and events call the schedule",
				"[0].start: is required: " + cronForm,
			},
		},
		"the same name twice": {
			schedules: night + "," + night + "," + night,
			want: []string{
				`[1].name: must be its own: schedules[0] is called "night" too`,
				`[2].name: must be its own: schedules[0] is called "night" too`,
			},
		},
		"a blank name": {
			schedules: `{name: " ", start: 0 8 * * *, end: 0 9 * * *, minReplicas: 1}`,
			want:      []string{"[0].name: is required: what logs and events call the schedule"},
		},
		"the longest name": {schedules: "{name: " + strings.Repeat("é", 63) + ", start: 0 8 * * *, end: 0 9 * * *, minReplicas: 1}"},
		"a name too long": {
			schedules: "{name: " + strings.Repeat("n", 65) + ", start: 0 8 * * *, end: 0 9 * * *, minReplicas: 1}",
			want:      []string{`[0].name: must be at most 63 letters long, got "` + strings.Repeat("n", 64) + `..."`},
		},
		"a name of two lines": {
			schedules: `{name: "a\nb", start: 0 8 * * *, end: 0 9 * * *, minReplicas: 1}`,
			want:      []string{"[0].name: must not hold line breaks or other control characters"},
		},
		"an end at the start": {
			schedules: `{name: a, start: 0 0 * * *, end: "@daily", minReplicas: 1}`,
			want:      []string{"[0].end: must not be the times of start: the window would end as it begins"},
		},
		"a timezone":      {schedules: "{" + times + ", minReplicas: 1, timezone: Pacific/Chatham}"},
		"UTC":             {schedules: "{" + times + ", minReplicas: 1, timezone: UTC}"},
		"no timezone":     {schedules: "{" + times + `, minReplicas: 1, timezone: ""}`},
		"the machine's":   {schedules: "{" + times + ", minReplicas: 1, timezone: Local}", want: []string{zone + `"Local"`}},
		"a region":        {schedules: "{" + times + ", minReplicas: 1, timezone: Europe}", want: []string{zone + `"Europe"`}},
		"an offset":       {schedules: "{" + times + `, minReplicas: 1, timezone: "+02:00"}`, want: []string{zone + `"+02:00"`}},
		"a path":          {schedules: "{" + times + ", minReplicas: 1, timezone: ../../etc/localtime}", want: []string{zone + `"../../etc/localtime"`}},
		"a long timezone": {schedules: "{" + times + ", minReplicas: 1, timezone: " + strings.Repeat("z", 70) + "}", want: []string{zone + `"` + strings.Repeat("z", 64) + `..."`}},
		"bounds below 0": {
			schedules: "{" + times + ", minReplicas: -1, maxReplicas: -2}",
			want:      []string{"[0].maxReplicas: must be at least 0, got -2", "[0].minReplicas: must be at least 0, got -1"},
		},
		"its own bounds crossed": {
			schedules: "{" + times + ", minReplicas: 5, maxReplicas: 4}",
			want:      []string{"[0].minReplicas: must not be above maxReplicas: 5 is above 4"},
		},
		"too many": {schedules: strings.Repeat("{},", 101), want: []string{": must hold at most 100 elements, got 101"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var want []string
			for _, fault := range test.want {
				want = append(want, "schedules"+fault)
			}
			_, err := load(t, required+"schedules: ["+test.schedules+"]", nil)
			wantFaults(t, err, want)
		})
	}
}

func TestTheMostSchedules(t *testing.T) {
	var list strings.Builder
	for i := range 100 {
		fmt.Fprintf(&list, "{name: n%d, start: 0 8 * * *, end: 0 9 * * *, timezone: Asia/Tokyo, minReplicas: 1},", i)
	}
	loaded, err := load(t, required+"schedules: ["+list.String()+"]", nil)
	if err != nil || len(loaded.Config.Schedules) != 100 {
		t.Errorf("got %d schedules and the error %v", len(loaded.Config.Schedules), err)
	}
}

func TestParseSchedule(t *testing.T) {
	// A Monday.
	from := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		text string
		next string
		want string
	}{
		"every minute":         {text: "* * * * *", next: "2026-03-02 12:01"},
		"question marks":       {text: "0 0 ? * ?", next: "2026-03-03 00:00"},
		"a range of names":     {text: "30 7 * JAN-mar Tue-fri", next: "2026-03-03 07:30"},
		"lists and steps":      {text: "0,30 8-18/2,20 * * *", next: "2026-03-02 12:30"},
		"an open step":         {text: "50/5 * * * *", next: "2026-03-02 12:50"},
		"either day":           {text: "0 0 13 * 5", next: "2026-03-06 00:00"},
		"a word":               {text: "@weekly", next: "2026-03-08 00:00"},
		"another word":         {text: "@yearly", next: "2027-01-01 00:00"},
		"the leap day":         {text: "0 0 29 2 *", next: "2028-02-29 00:00"},
		"space around":         {text: "  0  13\t* * *\n", next: "2026-03-02 13:00"},
		"a word and a newline": {text: "@daily\n", next: "2026-03-03 00:00"},

		"nothing":              {text: "", want: "start: is required: " + cronForm},
		"a time of day":        {text: "22:00", want: "start: must be " + cronForm + `, got "22:00"`},
		"four fields":          {text: "0 22 * *", want: "start: must be " + cronForm + `, got "0 22 * *"`},
		"seconds":              {text: "0 0 22 * * *", want: "start: must be " + cronForm + `, got "0 0 22 * * *"`},
		"an empty list":        {text: ", 22 * * *", want: "start: must be " + cronForm + `, got ", 22 * * *"`},
		"a list that goes on":  {text: "0 22, * * *", want: "start: must be " + cronForm + `, got "0 22, * * *"`},
		"a star in a range":    {text: "0 *-5 * * *", want: "start: must be " + cronForm + `, got "0 *-5 * * *"`},
		"a negative number":    {text: "0 -5 * * *", want: "start: must be " + cronForm + `, got "0 -5 * * *"`},
		"the last day":         {text: "0 0 L * *", want: "start: must be " + cronForm + ": failed to parse int from L: strconv.Atoi: parsing \"L\": invalid syntax"},
		"an hour too many":     {text: "0 24 * * *", want: "start: must be " + cronForm + ": end of range (24) above maximum (23): 24"},
		"a range backwards":    {text: "0 22-6 * * *", want: "start: must be " + cronForm + ": beginning of range (22) beyond end of range (6): 22-6"},
		"a step of 0":          {text: "*/0 * * * *", want: "start: must be " + cronForm + ": step of range should be a positive number: */0"},
		"a word that is none":  {text: "@noon", want: "start: must be " + cronForm + ": unrecognized descriptor: @noon"},
		"an interval":          {text: "@every 5m", want: "start: must name times of day, which @every does not: it must be " + cronForm},
		"a timezone":           {text: "TZ=Europe/Berlin 0 22 * * *", want: "start: must not name a timezone: put it into the schedule's key timezone"},
		"a timezone of cron's": {text: "CRON_TZ=UTC @daily", want: "start: must not name a timezone: put it into the schedule's key timezone"},
		"nothing but a prefix": {text: "TZ=0", want: "start: must not name a timezone: put it into the schedule's key timezone"},
		"a day that never is":  {text: "0 0 30 2 *", want: `start: never comes, since no such month has such a day: "0 0 30 2 *"`},
		"days that never are":  {text: "* * 31 2,4,6,9,11 *", want: `start: never comes, since no such month has such a day: "* * 31 2,4,6,9,11 *"`},
		"too long":             {text: strings.Repeat("0,", 128) + "0 * * * *", want: "start: must be at most 256 letters long, got 265"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			window, err := config.Schedule{Start: test.text, End: "0 9 * * *"}.Parse()
			if test.want != "" {
				if err == nil || err.Error() != test.want {
					t.Errorf("got the error %v, want %s", err, test.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if next := window.Start.Next(from).Format("2006-01-02 15:04"); next != test.next {
				t.Errorf("the next start is %s, want %s", next, test.next)
			}
		})
	}
}

func TestParseScheduleNamesItsPart(t *testing.T) {
	fine := config.Schedule{Start: "0 8 * * *", End: "0 9 * * *", Timezone: "Asia/Tokyo"}
	window, err := fine.Parse()
	if err != nil || window.Location.String() != "Asia/Tokyo" {
		t.Errorf("got the location %v and the error %v", window.Location, err)
	}
	for part, broken := range map[string]config.Schedule{
		"start":    {End: fine.End},
		"end":      {Start: fine.Start},
		"timezone": {Start: fine.Start, End: fine.End, Timezone: "Local"},
	} {
		if _, err := broken.Parse(); err == nil || !strings.HasPrefix(err.Error(), part+": ") {
			t.Errorf("%s: got the error %v", part, err)
		}
	}
}

// FuzzParseSchedule holds, for any text: either an error of one line, or times
// that come, one after the other.
func FuzzParseSchedule(f *testing.F) {
	for _, text := range []string{
		"", "0 8 * * 1-5", "@daily", "@every 1s", "TZ=0", "CRON_TZ=UTC * * * * *", "0 0 30 2 *", ", , , , ,",
		"*/9223372036854775807 */2 1-31/9223372036854775807 ? *", "*-5 ?-0 1,,2 jan-dec sun-sat", "@a\nb", "\xff",
	} {
		f.Add(text, "UTC")
	}
	f.Add("@daily", "../../dev/zero")
	f.Add("@daily", "Europe/Berlin")
	f.Fuzz(func(t *testing.T, text, timezone string) {
		window, err := config.Schedule{Start: text, End: "@daily", Timezone: timezone}.Parse()
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("an error of several lines: %q", err)
			}
			return
		}
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		for range 5 {
			next := window.Start.Next(at)
			if !next.After(at) {
				t.Fatalf("after %s comes %s", at, next)
			}
			at = next
		}
	})
}
