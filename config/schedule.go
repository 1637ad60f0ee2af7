// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // Images need not have the zone data.
	"unicode"
	"unicode/utf8"

	"github.com/robfig/cron/v3"
)

// Limits on schedules, which a hostile file must not make slow.
const (
	maxSchedules    = 100
	maxScheduleName = 63
	maxCronText     = 256
	maxTimezone     = 64
)

// Window is a Schedule's time, parsed. The cron schedules know of no timezone:
// ask them about wall clock times, written as UTC. They look five years ahead:
// Next is zero only for a leap day that is further away, as after 2096.
type Window struct {
	Start, End cron.Schedule
	Location   *time.Location
}

// Parse reads the schedule's cron expressions and its timezone, UTC if it names
// none.
func (s Schedule) Parse() (Window, error) {
	start, err := parseCron(s.Start)
	if err != nil {
		return Window{}, fmt.Errorf("start: %w", err)
	}
	end, err := parseCron(s.End)
	if err != nil {
		return Window{}, fmt.Errorf("end: %w", err)
	}
	location, err := parseTimezone(s.Timezone)
	if err != nil {
		return Window{}, fmt.Errorf("timezone: %w", err)
	}
	return Window{Start: start, End: end, Location: location}, nil
}

// cronForm is what a cron expression looks like.
const cronForm = `a cron expression such as "30 8 * * 1-5" (minute, hour, day of month, month, day of week), or @daily and the like`

// cronText is what may be handed to cron's parser. Left to itself that takes
// "*-5" for "*" and an empty list for a time that never comes, and panics at
// some texts.
var cronText = func() *regexp.Regexp {
	const (
		item  = `(?:[*?]|[0-9A-Za-z]+(?:-[0-9A-Za-z]+)?)(?:/[0-9]+)?`
		field = item + `(?:,` + item + `)*`
	)
	return regexp.MustCompile(`^(?:@[A-Za-z]+|` + field + `(?:\s+` + field + `){4})$`)
}()

func parseCron(text string) (cron.Schedule, error) {
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return nil, errors.New("is required: " + cronForm)
	case len(text) > maxCronText:
		return nil, fmt.Errorf("must be at most %d letters long, got %d", maxCronText, len(text))
	case strings.Contains(text, "TZ="):
		return nil, errors.New("must not name a timezone: put it into the schedule's key timezone")
	case strings.HasPrefix(text, "@every"):
		return nil, errors.New("must name times of day, which @every does not: it must be " + cronForm)
	case !cronText.MatchString(text):
		return nil, fmt.Errorf("must be %s, got %q", cronForm, shorten(text))
	}
	schedule, err := cron.ParseStandard(text)
	if err != nil {
		return nil, fmt.Errorf("must be %s: %w", cronForm, err)
	}
	// Next gives up after five years; the first of these is a leap year.
	if schedule.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("never comes, since no such month has such a day: %q", shorten(text))
	}
	return schedule, nil
}

func parseTimezone(name string) (*time.Location, error) {
	if name != time.Local.String() && len(name) <= maxTimezone {
		if location, err := time.LoadLocation(name); err == nil {
			return location, nil
		}
	}
	return nil, fmt.Errorf("must be a name of the IANA time zone database, such as Europe/Berlin, got %q", shorten(name))
}

func (v *validator) schedules(key string, schedules []Schedule) {
	if !v.atMost(key, len(schedules), maxSchedules) {
		return
	}
	firstOf := map[string]string{}
	for i, s := range schedules {
		key := at(key, i)
		v.schedule(key, s)
		if first, taken := firstOf[s.Name]; taken && s.Name != "" {
			v.fault(under(key, "name"), "must be its own: %s is called %q too", first, shorten(s.Name))
			continue
		}
		firstOf[s.Name] = key
	}
}

func (v *validator) schedule(key string, s Schedule) {
	v.scheduleName(under(key, "name"), s.Name)
	start, startErr := parseCron(s.Start)
	if startErr != nil {
		v.fault(under(key, "start"), "%v", startErr)
	}
	end, endErr := parseCron(s.End)
	if endErr != nil {
		v.fault(under(key, "end"), "%v", endErr)
	}
	if startErr == nil && endErr == nil && sameTimes(start, end) {
		v.fault(under(key, "end"), "must not be the times of start: the window would end as it begins")
	}
	if _, err := parseTimezone(s.Timezone); err != nil {
		v.fault(under(key, "timezone"), "%v", err)
	}
	v.scheduleBounds(key, s)
}

// scheduleName checks a name that people are to recognise in a line of a log.
func (v *validator) scheduleName(key, name string) {
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	switch {
	case strings.TrimSpace(name) == "":
		v.fault(key, "is required: what logs and events call the schedule")
	case utf8.RuneCountInString(name) > maxScheduleName:
		v.fault(key, "must be at most %d letters long, got %q", maxScheduleName, shorten(name))
	case strings.ContainsFunc(name, unprintable):
		v.fault(key, "must not hold line breaks or other control characters")
	}
}

func (v *validator) scheduleBounds(key string, s Schedule) {
	leastKey, mostKey := under(key, "minReplicas"), under(key, "maxReplicas")
	if s.MinReplicas == nil && s.MaxReplicas == nil && !v.mistyped(leastKey) && !v.mistyped(mostKey) {
		v.fault(key, "must give minReplicas, maxReplicas or both: they are what it puts in force")
	}
	if s.MinReplicas != nil {
		v.atLeast(leastKey, int64(*s.MinReplicas), 0)
	}
	if s.MaxReplicas != nil {
		v.atLeast(mostKey, int64(*s.MaxReplicas), 0)
	}
	if s.MinReplicas != nil && s.MaxReplicas != nil && *s.MinReplicas > *s.MaxReplicas && *s.MaxReplicas >= 0 && !v.mistyped(mostKey) {
		v.fault(leastKey, "must not be above maxReplicas: %d is above %d", *s.MinReplicas, *s.MaxReplicas)
	}
}

// sameTimes says whether two expressions name the same times, however they are
// written.
func sameTimes(a, b cron.Schedule) bool {
	one, ok := a.(*cron.SpecSchedule)
	other, too := b.(*cron.SpecSchedule)
	return ok && too && *one == *other
}
