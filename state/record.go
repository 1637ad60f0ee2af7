// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// Version is that of the records written.
const Version = 1

// maxSize of an encoded record: what a ConfigMap can hold.
const maxSize = 1 << 20

// encode refuses what decode would: a record that is saved can be loaded.
func encode(record Record) ([]byte, error) {
	record.Version = Version
	if err := record.validate(); err != nil {
		return nil, err
	}
	content, err := json.Marshal(record)
	if err == nil && len(content) > maxSize {
		err = fmt.Errorf("the record takes %d bytes, more than %d (1 MiB)", len(content), maxSize)
	}
	return content, err
}

// decode reads a record of this version, which may have keys that are unknown
// here. Its errors are ErrUnreadable.
func decode(content []byte) (Record, error) {
	var record Record
	if err := decodeInto(&record, content); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrUnreadable, err)
	}
	return record, nil
}

func decodeInto(record *Record, content []byte) error {
	if len(content) > maxSize {
		return fmt.Errorf("it is larger than %d bytes (1 MiB)", maxSize)
	}
	// First the version alone: the rest of a newer one may be of any form.
	var form struct {
		Version *int `json:"version"`
	}
	if err := json.Unmarshal(content, &form); err != nil {
		return err
	}
	switch {
	case form.Version == nil || *form.Version < 1:
		return errors.New("it has no version")
	case *form.Version > Version:
		return fmt.Errorf("it is of version %d, this program reads version %d", *form.Version, Version)
	}
	if err := json.Unmarshal(content, record); err != nil {
		return err
	}
	return record.validate()
}

// validate finds what makes no sense and must not reach deciding.
func (r Record) validate() error {
	var c checker
	if p := r.Pause; p != nil {
		c.count(p.Replicas, "pause.replicas")
	}
	if h := r.Hold; h != nil {
		c.count(&h.Replicas, "hold.replicas")
	}
	if o := r.Override; o != nil {
		c.count(o.MinReplicas, "override.minReplicas")
		c.count(o.MaxReplicas, "override.maxReplicas")
	}
	if p := r.Pending; p != nil {
		c.time(p.At, "pending.at")
		c.count(&p.From, "pending.from")
		c.count(&p.To, "pending.to")
	}
	for i, e := range r.Events {
		c.time(e.At, "events[%d].at", i)
		c.check(e.Change != math.MinInt32, "is between no two counts", "events[%d].change", i)
	}
	for i, w := range r.Window {
		c.time(w.At, "window[%d].at", i)
		c.count(&w.Replicas, "window[%d].replicas", i)
	}
	return c.err
}

// checker keeps the first fault.
type checker struct{ err error }

func (c *checker) check(good bool, fault, key string, index ...any) {
	if !good && c.err == nil {
		c.err = fmt.Errorf("%s %s", fmt.Sprintf(key, index...), fault)
	}
}

func (c *checker) count(replicas *int32, key string, index ...any) {
	c.check(replicas == nil || *replicas >= 0, "is below 0", key, index...)
}

func (c *checker) time(at time.Time, key string, index ...any) {
	c.check(!at.IsZero(), "is missing", key, index...)
}
