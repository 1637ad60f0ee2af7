// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // Images need not have the zone data.

	"github.com/robfig/cron/v3"
)

// Window is a Schedule's time, parsed. The cron schedules know of no timezone:
// ask them about wall clock times, written as UTC.
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

func parseCron(text string) (cron.Schedule, error) {
	if strings.Contains(text, "TZ=") {
		return nil, errors.New("must not name a timezone: put it into the schedule's key timezone")
	}
	schedule, err := cron.ParseStandard(text)
	if err != nil {
		return nil, err
	}
	if _, ok := schedule.(cron.ConstantDelaySchedule); ok {
		return nil, errors.New("@every has no time of day: write a cron expression")
	}
	return schedule, nil
}

func parseTimezone(name string) (*time.Location, error) {
	if name == time.Local.String() {
		return nil, errors.New("must be a name of the IANA time zone database, such as Europe/Berlin")
	}
	return time.LoadLocation(name)
}
