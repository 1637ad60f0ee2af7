// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
)

// What a compact Record holds at most; texts in bytes.
const (
	maxCompactItems = 20
	maxCompactValue = 256
	maxCompactText  = 2048
)

// Compact is the record with the first few of its metrics and skipped pods, and
// the beginning of what is long: many are kept.
func (r Record) Compact() Record {
	metrics := make([]metric.ResourceMetric, 0, min(len(r.Metrics), maxCompactItems))
	for _, m := range r.Metrics[:cap(metrics)] {
		metrics = append(metrics, metric.ResourceMetric{Resource: m.Resource, Value: cut(m.Value, maxCompactValue)})
	}
	skipped := slices.Clone(r.SkippedPods[:min(len(r.SkippedPods), maxCompactItems)])
	for i := range skipped {
		skipped[i].Error = cut(skipped[i].Error, maxCompactValue)
	}
	r.Metrics, r.SkippedPods = metrics, skipped
	if r.Failure != nil {
		failure := *r.Failure
		failure.Message = cut(failure.Message, maxCompactText)
		r.Failure = &failure
	}
	return r
}

// cut is the beginning of a text, of its own memory: what it is cut from may be
// as large as a hook's whole output.
func cut(text string, length int) string {
	if len(text) <= length {
		return text
	}
	return strings.ToValidUTF8(strings.Clone(text[:length]), "") + "..."
}

// size is about how many bytes a compact record takes.
func (r Record) size() int {
	const fixed, perItem = 2048, 64
	size := fixed
	for _, m := range r.Metrics {
		size += perItem + len(m.Resource) + len(m.Value)
	}
	for _, pod := range r.SkippedPods {
		size += perItem + len(pod.Name) + len(pod.Error) + len(pod.Stderr)
	}
	if r.Decision != nil {
		for _, constraint := range r.Decision.Constraints {
			size += perItem + len(constraint.Detail)
		}
	}
	if r.Failure != nil {
		size += len(r.Failure.Message) + len(r.Failure.Stderr)
	}
	return size
}

// How much a Journal keeps.
const (
	// MaxRecords is how many records.
	MaxRecords = 1000
	// maxJournalBytes is how much they take together, about.
	maxJournalBytes = 4 << 20
	// maxFollowers is how many follow it at once, and maxBehind how many records
	// each may be behind.
	maxFollowers = 32
	maxBehind    = 64
)

// ErrFollowers says that too many follow a Journal already.
var ErrFollowers = errors.New("too many follow the records already; try again later")

// Journal is an Observer that keeps the latest records of an autoscaler,
// compact, and shows them to those who follow it. It is safe for concurrent use.
type Journal struct {
	mu        sync.Mutex
	records   []Record
	size      int
	followers map[*Follower]struct{}
}

// Follower receives the records that come.
type Follower struct {
	// Records is closed when the follower stops, or fell too far behind.
	Records <-chan Record

	records chan Record
	journal *Journal
}

// NewJournal makes an empty Journal.
func NewJournal() *Journal { return &Journal{followers: map[*Follower]struct{}{}} }

// Observe keeps a record and shows it to the followers. It does not wait for
// them: one that is too far behind is given up.
func (j *Journal) Observe(r Record) {
	r = r.Compact()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.records, j.size = append(j.records, r), j.size+r.size()
	drop := 0
	for len(j.records)-drop > MaxRecords || j.size > maxJournalBytes {
		j.size -= j.records[drop].size()
		drop++
	}
	j.records = slices.Delete(j.records, 0, drop)
	for f := range j.followers {
		select {
		case f.records <- r:
		default:
			j.remove(f)
		}
	}
}

// Latest are the records that began after a moment, but the latest limit of them
// at most; the oldest comes first.
func (j *Journal) Latest(limit int, since time.Time) []Record {
	j.mu.Lock()
	defer j.mu.Unlock()
	var found []Record
	for _, r := range slices.Backward(j.records) {
		if len(found) == limit {
			break
		}
		if r.Time.After(since) {
			found = append(found, r)
		}
	}
	slices.Reverse(found)
	return found
}

// Follow begins to follow the records. It also returns those kept that came
// after the one with this Sequence, none if that is nil. The error is
// ErrFollowers. Stop the Follower in the end.
func (j *Journal) Follow(after *uint64) (missed []Record, f *Follower, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.followers) == maxFollowers {
		return nil, nil, ErrFollowers
	}
	if after != nil {
		if last := len(j.records) - 1; last >= 0 && *after > j.records[last].Sequence {
			*after = 0 // that of an earlier process
		}
		for _, r := range j.records {
			if r.Sequence > *after {
				missed = append(missed, r)
			}
		}
	}
	records := make(chan Record, maxBehind)
	f = &Follower{Records: records, records: records, journal: j}
	j.followers[f] = struct{}{}
	return missed, f, nil
}

// Stop ends it. It may be called again.
func (f *Follower) Stop() {
	f.journal.mu.Lock()
	defer f.journal.mu.Unlock()
	f.journal.remove(f)
}

// remove is for whoever holds the lock.
func (j *Journal) remove(f *Follower) {
	if _, ok := j.followers[f]; ok {
		delete(j.followers, f)
		close(f.records)
	}
}
