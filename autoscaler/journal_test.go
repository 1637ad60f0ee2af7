// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
)

// numbered is a record that began so many seconds after now.
func numbered(sequence uint64) Record {
	return Record{Sequence: sequence, Time: now.Add(time.Duration(sequence) * time.Second)} //nolint:gosec // small
}

func sequences(records []Record) (all []uint64) {
	for _, r := range records {
		all = append(all, r.Sequence)
	}
	return all
}

func TestJournalLatest(t *testing.T) {
	j := NewJournal()
	for i := range uint64(5) {
		j.Observe(numbered(i + 1))
	}
	for _, test := range []struct {
		limit int
		since time.Time
		want  []uint64
	}{
		{10, time.Time{}, []uint64{1, 2, 3, 4, 5}},
		{2, time.Time{}, []uint64{4, 5}},
		{10, now.Add(3 * time.Second), []uint64{4, 5}},
		{1, now.Add(3 * time.Second), []uint64{5}},
		{10, now.Add(time.Hour), nil},
	} {
		if diff := cmp.Diff(test.want, sequences(j.Latest(test.limit, test.since))); diff != "" {
			t.Errorf("%d since %s (-want +got):\n%s", test.limit, test.since, diff)
		}
	}
}

// However many records come and however large they are, the journal is small.
func TestJournalIsBounded(t *testing.T) {
	j := NewJournal()
	for i := range uint64(MaxRecords + 10) {
		j.Observe(numbered(i + 1))
	}
	if records := j.Latest(2*MaxRecords, time.Time{}); len(records) != MaxRecords || records[0].Sequence != 11 {
		t.Errorf("%d records from %d", len(records), records[0].Sequence)
	}
	large := Record{Time: now, Failure: &Failure{Stderr: strings.Repeat("e", 8<<10), Message: strings.Repeat("m", 1<<20)}}
	for range 1000 {
		large.Metrics = append(large.Metrics, metric.ResourceMetric{Resource: "pod", Value: strings.Repeat("ä", 1000)})
	}
	for range MaxRecords {
		j.Observe(large)
	}
	if j.size > maxJournalBytes || len(j.records) < 100 {
		t.Errorf("%d records of %d bytes", len(j.records), j.size)
	}
	kept := j.Latest(1, time.Time{})[0]
	if len(kept.Metrics) != maxCompactItems || len(kept.Metrics[0].Value) > maxCompactValue+3 || len(kept.Failure.Message) > maxCompactText+3 {
		t.Errorf("it keeps %d metrics of %d bytes", len(kept.Metrics), len(kept.Metrics[0].Value))
	}
	if len(large.Failure.Message) != 1<<20 || len(large.Metrics[0].Value) != 2000 {
		t.Error("it changed what it was shown")
	}
}

func TestFollow(t *testing.T) {
	j := NewJournal()
	for i := range uint64(3) {
		j.Observe(numbered(i + 1))
	}
	missed, f, err := j.Follow(new(uint64(1)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Stop()
	j.Observe(numbered(4))
	if diff := cmp.Diff([]uint64{2, 3, 4}, append(sequences(missed), (<-f.Records).Sequence)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// What another process numbered says nothing here.
	missed, other, err := j.Follow(new(uint64(1000)))
	if err != nil || len(missed) != 4 {
		t.Errorf("%d records, %v", len(missed), err)
	}
	other.Stop()
	if missed, other, err = j.Follow(nil); err != nil || len(missed) != 0 {
		t.Errorf("%d records, %v", len(missed), err)
	}
	other.Stop()
}

// One that does not keep up is given up, and keeps nobody waiting.
func TestAFollowerThatFallsBehind(t *testing.T) {
	j := NewJournal()
	_, slow, err := j.Follow(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(maxBehind + 1) {
		j.Observe(numbered(i + 1))
	}
	read := 0
	for range slow.Records {
		read++
	}
	if read != maxBehind {
		t.Errorf("it got %d records", read)
	}
	slow.Stop()
}

func TestTooManyFollowers(t *testing.T) {
	j := NewJournal()
	var followers []*Follower
	for range maxFollowers {
		_, f, err := j.Follow(nil)
		if err != nil {
			t.Fatal(err)
		}
		followers = append(followers, f)
	}
	if _, _, err := j.Follow(nil); !errors.Is(err, ErrFollowers) {
		t.Error(err)
	}
	followers[0].Stop()
	if _, _, err := j.Follow(nil); err != nil {
		t.Error(err)
	}
}

func TestJournalConcurrently(t *testing.T) {
	j := NewJournal()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 50 {
				_, f, err := j.Follow(new(uint64))
				if err != nil {
					t.Error(err)
					return
				}
				j.Latest(10, time.Time{})
				f.Stop()
			}
		})
	}
	for i := range uint64(500) {
		j.Observe(numbered(i + 1))
	}
	group.Wait()
}
