// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package bounds_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// BenchmarkInForce asks every 15 seconds of virtual time, as a loop does, and
// back and forth by a day, where each answer must be worked out.
func BenchmarkInForce(b *testing.B) {
	for _, count := range []int{0, 1, 20} {
		var schedules []config.Schedule
		for i := range count {
			s := window(fmt.Sprintf("%d 22 * * *", i), fmt.Sprintf("%d 6 * * *", i), "Europe/Berlin")
			s.Priority = int32(i % 5)
			schedules = append(schedules, s)
		}
		limits := newLimits(b, schedules...)
		for name, step := range map[string]func(time.Time, int) time.Time{
			"forward": func(t time.Time, _ int) time.Time { return t.Add(15 * time.Second) },
			"to and fro": func(t time.Time, i int) time.Time {
				return t.Add(time.Duration(1-2*(i%2)) * 24 * time.Hour)
			},
		} {
			b.Run(fmt.Sprintf("%d schedules, %s", count, name), func(b *testing.B) {
				b.ReportAllocs()
				now := noon
				for i := 0; b.Loop(); i++ {
					limits.InForce(now, nil)
					now = step(now, i)
				}
			})
		}
	}
}
