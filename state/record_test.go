// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

func TestDecodeWhatWasEncoded(t *testing.T) {
	for name, record := range map[string]Record{"nothing": {Version: Version}, "everything": everything()} {
		t.Run(name, func(t *testing.T) {
			content, err := encode(record)
			if err != nil {
				t.Fatal(err)
			}
			got, err := decode(content)
			if err != nil {
				t.Fatal(err)
			}
			wantRecord(t, got, record)
		})
	}
}

// What is written down must be understood by the versions to come.
func TestTheFormOfARecord(t *testing.T) {
	const form = `{"version":1,` +
		`"pause":{"replicas":0,"reason":"migration \u003c1\u003e"},` +
		`"hold":{"replicas":4,"until":"2026-06-01T13:00:00Z","reason":"a sale"},` +
		`"override":{"minReplicas":2,"maxReplicas":8,"expiresAt":"2026-06-01T12:00:00Z","reason":"launch"},` +
		`"events":[{"at":"2026-06-01T12:00:00Z","change":3},{"at":"2026-06-01T12:00:00.000000001Z","change":-2}],` +
		`"pending":{"at":"2026-06-01T12:00:00Z","from":5,"to":0},` +
		`"ownZero":true,"fallback":true,` +
		`"window":[{"at":"2026-06-01T12:00:00Z","replicas":5,"found":true},{"at":"2026-06-01T12:01:00Z","replicas":3}]}`
	got, err := decode([]byte(form))
	if err != nil {
		t.Fatal(err)
	}
	wantRecord(t, got, everything())
}

func TestDecode(t *testing.T) {
	for name, test := range map[string]struct{ content, want string }{
		"key of a later program": {content: `{"version": 1, "more": [1]}`},
		"fields that are null":   {content: `{"version": 1, "pause": null, "events": null, "window": null}`},

		"nothing":               {``, "unexpected end of JSON input"},
		"cut":                   {`{"version": 1, "events": [{"at": "2026-06-01T12:`, "unexpected end of JSON input"},
		"cut in its version":    {`{"vers`, "unexpected end of JSON input"},
		"zeros":                 {strings.Repeat("\x00", 100), "invalid character"},
		"two in one":            {`{"version": 1}{"version": 1}`, "invalid character"},
		"too large":             {`{"version": 1, "more": "` + strings.Repeat("x", maxSize) + `"}`, "larger than 1048576 bytes (1 MiB)"},
		"null":                  {`null`, "it has no version"},
		"list":                  {`[]`, "cannot unmarshal array"},
		"deep":                  {strings.Repeat(`{"version":`, 20_000), "exceeded max depth"},
		"no version":            {`{"pause": {}}`, "it has no version"},
		"version 0":             {`{"version": 0}`, "it has no version"},
		"version that is text":  {`{"version": "1"}`, "cannot unmarshal string"},
		"version out of range":  {`{"version": 1e40}`, "cannot unmarshal number"},
		"newer, of other types": {`{"version": 2, "events": "none"}`, "it is of version 2, this program reads version 1"},
		"text for a list":       {`{"version": 1, "events": "none"}`, "cannot unmarshal string"},
		"no time":               {`{"version": 1, "pending": {"at": "noon"}}`, `parsing time`},
		"fraction of a replica": {`{"version": 1, "pause": {"replicas": 1.5}}`, "cannot unmarshal number 1.5"},
		"too many replicas":     {`{"version": 1, "pause": {"replicas": 2147483648}}`, "cannot unmarshal number 2147483648"},

		"pause below 0":         {`{"version": 1, "pause": {"replicas": -1}}`, "pause.replicas is below 0"},
		"hold below 0":          {`{"version": 1, "hold": {"replicas": -2}}`, "hold.replicas is below 0"},
		"override's min":        {`{"version": 1, "override": {"minReplicas": -3}}`, "override.minReplicas is below 0"},
		"override's max":        {`{"version": 1, "override": {"maxReplicas": -4}}`, "override.maxReplicas is below 0"},
		"pending without time":  {`{"version": 1, "pending": {"from": 1, "to": 2}}`, "pending.at is missing"},
		"pending from below 0":  {`{"version": 1, "pending": {"at": "2026-06-01T12:00:00Z", "from": -1}}`, "pending.from is below 0"},
		"pending to below 0":    {`{"version": 1, "pending": {"at": "2026-06-01T12:00:00Z", "to": -1}}`, "pending.to is below 0"},
		"change beyond counts":  {`{"version": 1, "events": [{"at": "2026-06-01T12:00:00Z", "change": -2147483648}]}`, "events[0].change is between no two counts"},
		"absurdly many events":  {`{"version": 1, "events": [` + strings.Repeat("{},", 30_000) + `{}]}`, "events[0].at is missing"},
		"absurdly long window":  {`{"version": 1, "window": [` + strings.Repeat("{},", 30_000) + `{}]}`, "window[0].at is missing"},
		"window with less than": {`{"version": 1, "window": [{"at": "2026-06-01T12:00:00Z", "replicas": -5}]}`, "window[0].replicas is below 0"},
	} {
		t.Run(name, func(t *testing.T) {
			record, err := decode([]byte(test.content))
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, test.want)
			if !errors.Is(err, ErrUnreadable) {
				t.Errorf("got the error %v, want ErrUnreadable", err)
			}
			wantRecord(t, record, Record{})
		})
	}
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	long := make([]scale.Event, 30_000)
	for i := range long {
		long[i] = scale.Event{At: noon, Change: math.MaxInt32}
	}
	for want, kept := range map[string]scale.Kept{
		"pause.replicas is below 0": {Intents: scale.Intents{Pause: &scale.Pause{Replicas: new(int32(-1))}}},
		"more than 1048576":         {Events: long},
		"outside of range [0,9999":  {Events: []scale.Event{{At: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}}},
	} {
		_, err := encode(Record{Kept: kept})
		wantError(t, err, want)
	}
}

// FuzzDecode holds, for any content: either ErrUnreadable, or a record that
// reads the same when it is written down and loaded again.
func FuzzDecode(f *testing.F) {
	full, err := encode(everything())
	if err != nil {
		f.Fatal(err)
	}
	for _, content := range []string{
		"", "null", "{}", `{"version": 1}`, `{"version": 2}`, `{"version": 1, "VERSION": 1}`, string(full), string(full[:len(full)/2]),
		`{"version": 1, "events": [{"at": "0000-01-01T00:00:00+23:59", "change": -1}]}`,
		`{"version": 1, "pause": {}, "hold": {}, "override": {}, "pending": {}}`, `{"version": 1, "window": [{}]}`,
	} {
		f.Add([]byte(content))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		record, err := decode(content)
		if err != nil {
			if !errors.Is(err, ErrUnreadable) {
				t.Fatalf("not ErrUnreadable: %v", err)
			}
			return
		}
		written, err := encode(record)
		if err != nil {
			t.Fatalf("writing it down: %v", err)
		}
		again, err := decode(written)
		if err != nil {
			t.Fatalf("not accepted again: %v\n%s", err, written)
		}
		rewritten, err := encode(again)
		if err != nil {
			t.Fatalf("writing it down again: %v", err)
		}
		if diff := cmp.Diff(string(written), string(rewritten)); diff != "" {
			t.Errorf("reads differently when loaded again (-first +again):\n%s", diff)
		}
	})
}
