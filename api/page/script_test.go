// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package page_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// list is a JSON array, as the browser gives it.
type list = []any

// TestScript asks the functions of the page that only compute, in the browser:
// there they have to work.
func TestScript(t *testing.T) {
	row := func(at, sequence int, more object) object {
		row := object{"at": at, "sequence": sequence, "key": at, "gap": false, "until": nil}
		maps.Copy(row, more)
		return row
	}
	metric := func(value any) object { return object{"resource": "web", "value": value} }
	untilOf := func(rows ...object) string {
		return module("data", "withGaps", rows) + ".then((rows) => rows.map((r) => [r.gap, r.until]))"
	}
	domainOf := func(rows ...object) string { return module("chart", "countDomain", append([]object{}, rows...)) }
	events := func(pieces ...string) string {
		return "import('/page/data.js').then((m) => { const all = []; const feed = m.parser((e) => all.push([e.type, e.data, e.id])); " +
			quote(pieces) + ".forEach((piece) => feed(piece)); return all; })"
	}
	path := func(rows []object) string {
		return "import('/page/chart.js').then((m) => m.stepPath(" + quote(rows) + ".map((r) => ('v' in r ? r : {...r, v: undefined})), (r) => r.v, m.scale(0, 10, 0, 100), m.scale(0, 10, 50, 0), 9))"
	}

	tests := []struct {
		name, expression string
		want             any
	}{
		{"a number", module("data", "numberOf", " 5\n"), 5.},
		{"a number with an exponent", module("data", "numberOf", "-1.5e3"), -1500.},
		{"nothing is no number", module("data", "numberOf", " \n"), nil},
		{"infinity is no number", module("data", "numberOf", "1e999"), nil},
		{"hexadecimal is no number", module("data", "numberOf", "0x10"), nil},
		{"JSON with one number", module("data", "numberOf", `{"queue":"q","size":{"ready":7}}`), 7.},
		{"JSON with two numbers", module("data", "numberOf", `[1,2]`), nil},
		{"JSON with none", module("data", "numberOf", `{"a":"1"}`), nil},
		{"half of JSON", module("data", "numberOf", `{"a":1`), nil},
		{"words", module("data", "numberOf", "five"), nil},
		{"no metrics", module("data", "metricOf", list{}, 0), nil},
		{
			"a mean and a band", module("data", "metricOf", list{metric("4"), metric("x"), metric("8\n")}, 1000),
			object{"given": 3., "total": 1000., "text": "4", "numbers": 2., "mean": 6., "low": 4., "high": 8.},
		},
		{"no numbers", module("data", "metricOf", list{metric("x")}, 1), object{"given": 1., "total": 1., "text": "x", "mean": nil}},

		{"colours are left out", module("data", "plain", "\x1b[31mred\x1b[0m"), "red"},
		{"controls are named", module("data", "plain", "a\x00\x1b\u202eb\tc\r\nd"), "a⟨U+0000⟩⟨U+001B⟩⟨U+202E⟩b\tc\nd"},
		{"the long is cut", module("data", "plain", strings.Repeat("x", 20), 5), "xxxxx … (15 more)"},
		{"one line", module("data", "line", " a\n  b "), "a b"},

		{"milliseconds", module("data", "span", 0.34), "340 ms"},
		{"next to nothing", module("data", "span", 0.0001), "< 1 ms"},
		{"seconds", module("data", "span", 12.4), "12 s"},
		{"minutes", module("data", "span", 300), "5 min"},
		{"hours", module("data", "span", 9000), "2 h 30 min"},
		{"days", module("data", "span", 10*86400), "10 days"},
		{"ago", module("data", "ago", 0.7), "0 s"},
		{"a large count", module("data", "number", 2147483647), "2,147,483,647"},
		{"an unknown count", module("data", "number", nil), "–"},
		{"a large label", module("data", "label", 2147483647), "2.1B"},

		{"an event", events("id: 1\nevent: record\ndata: {}\n\n"), list{list{"record", "{}", "1"}}},
		{"an event in pieces", events("id: 1\nev", "ent: record\nda", "ta: {}\n", "\n"), list{list{"record", "{}", "1"}}},
		{"lines of data", events("data: a\ndata:b\ndata\n\n"), list{list{"message", "a\nb\n", ""}}},
		{"pings and nothing", events(": ping\n\n", "event: record\n\n"), list{}},
		{"returns", events("data: a\r", "\n\r\ndata: b\r\r", "\n"), list{list{"message", "a", ""}, list{"message", "b", ""}}},
		{"half an event", events("data: a\n"), list{}},
		{
			"too large an event",
			"import('/page/data.js').then((m) => { try { m.parser(() => {}, 10)('data: 0123456789'); } catch (err) { return err.message; } })",
			"an event of the stream is too large",
		},

		{"merged once, in order, the newest", "import('/page/data.js').then((m) => m.merge(m.merge([], [3, 1].map((n) => ({sequence: n, time: `2026-01-01T00:00:0${n}Z`}))), [1, 2, 3].map((n) => ({sequence: n, time: `2026-01-01T00:00:0${n}Z`})), 2).map((r) => r.sequence))", list{2., 3.}},
		{"a record without a time is none", module("data", "merge", list{}, list{object{"time": "soon"}}), list{}},
		{"without gaps", untilOf(row(0, 1, nil), row(15e3, 2, nil), row(31e3, 3, nil)), list{list{false, 15e3}, list{false, 31e3}, list{false, nil}}},
		{
			"a long pause", untilOf(row(0, 1, nil), row(15e3, 2, nil), row(400e3, 3, nil), row(415e3, 4, nil)),
			list{list{false, 15e3}, list{true, 30e3}, list{false, 415e3}, list{false, nil}},
		},
		{
			"a restart", untilOf(row(0, 7, nil), row(15e3, 8, nil), row(20e3, 1, nil), row(35e3, 2, nil)),
			list{list{false, 15e3}, list{true, 20e3}, list{false, 35e3}, list{false, nil}},
		},
		{"a quiet time after a burst", untilOf(row(0, 1, nil), row(100, 2, nil), row(15e3, 3, nil), row(15100, 4, nil)), list{list{false, 100.}, list{false, 15e3}, list{false, 15100.}, list{false, nil}}},

		{"an outcome: scaled", module("data", "outcomeOf", object{"written": true}), list{"good", "scaled"}},
		{"scaled before it failed", module("data", "outcomeOf", object{"written": true, "failure": object{}}), list{"bad", "scaled, then failed"}},
		{"failed", module("data", "outcomeOf", object{"failure": object{}, "deferred": "x"}), list{"bad", "failed"}},
		{"waits", module("data", "outcomeOf", object{"deferred": "x", "decision": object{}}), list{"note", "waits"}},
		{"gathered", module("data", "outcomeOf", object{}), list{"plain", "gathered"}},
		{"kept", module("data", "outcomeOf", object{"decision": object{"desired": 3, "current": 3, "disabled": true}}), list{"plain", "kept"}},
		{"a dry run", module("data", "outcomeOf", object{"decision": object{"desired": 4, "current": 3}, "dryRun": true}), list{"note", "dry run"}},
		{"a dry run of what is so", module("data", "outcomeOf", object{"decision": object{"desired": 3, "current": 3}, "trigger": object{"dryRun": true}}), list{"plain", "dry run"}},

		{"ticks", module("chart", "ticks", 0, 1, 4), list{0., 0.5, 1.}},
		{"whole ticks", module("chart", "ticks", 0, 1, 4, true), list{0., 1.}},
		{"large ticks", module("chart", "ticks", 0, 2147483647, 4, true), list{0., 1e9, 2e9}},
		{"no counts", domainOf(), list{0., 1.}},
		{"zero within zero", domainOf(object{"desired": 0, "current": 0, "min": 0, "max": 0}), list{0., 1.}},
		{"bounds nearby", domainOf(object{"desired": 3, "current": 3, "min": 1, "max": 10}), list{0., 10.}},
		{"a maximum that is no limit", domainOf(object{"desired": 3, "current": 4, "min": 1, "max": 2147483647}), list{0., 4.}},
		{"a wild evaluation", domainOf(object{"desired": 10, "current": 10, "evaluated": 2147483647, "max": 10}), list{0., 10.}},
		{"huge counts", domainOf(object{"desired": 2147483647, "current": 2147483647}), list{0., 3e9}},
		{"far above zero", domainOf(object{"desired": 1010, "current": 1000}), list{995., 1010.}},
		{"a metric that stays", module("chart", "metricDomain", list{object{"metric": object{"mean": 0, "low": 0, "high": 0}}}), list{0., 1.}},
		{"no metric", module("chart", "metricDomain", list{object{"metric": nil}}), nil},
		{
			"round times of the day", "import('/page/chart.js').then((m) => m.timeTicks(Date.parse('2026-06-01T10:03:00Z'), Date.parse('2026-06-01T10:18:00Z'), 3).map((t) => t.text))",
			list{"12:05", "12:10", "12:15"},
		},
		{
			"a clock that is put back", "import('/page/chart.js').then((m) => m.timeTicks(Date.parse('2026-10-24T21:30:00Z'), Date.parse('2026-10-25T04:30:00Z'), 8).map((t) => t.text))",
			list{"25 Oct", "01:00", "02:00", "02:00", "03:00", "04:00", "05:00"},
		},

		{"steps", path([]object{row(1, 1, object{"v": 2, "until": 3}), row(3, 2, object{"v": 4})}), "M10 40H30V30H90"},
		{"a step of nobody", path([]object{row(1, 1, object{"v": 2, "until": 3}), row(3, 2, object{"v": nil, "until": 5}), row(5, 3, object{"v": 4})}), "M10 40H30M50 30H90"},
		{"a step that is not about it", path([]object{row(1, 1, object{"v": 2, "until": 3}), row(3, 2, nil)}), "M10 40H30H90"},
		{"steps around a gap", path([]object{row(1, 1, object{"v": 2, "until": 3, "gap": true}), row(6, 2, object{"v": 2})}), "M10 40H30M60 40H90"},
		{"the row in force", module("chart", "nearest", list{object{"at": 1}, object{"at": 5}, object{"at": 9}}, 6), 1.},
		{"before all rows", module("chart", "nearest", list{object{"at": 1}, object{"at": 5}}, 0), 0.},

		{"backoff", "import('/page/connect.js').then((m) => [0, 1, 9].map((tries) => m.backoff(tries, 0.5)))", list{1000., 2000., 30000.}},
	}
	b := open(t, newServer(t, statusOf(nil)), screen{})
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inside := &tab{TB: t, ctx: b.ctx}
			if diff := cmp.Diff(normal(test.want), normal(value[any](inside, test.expression))); diff != "" {
				t.Errorf("%s differs (-want +got):\n%s", test.expression, diff)
			}
		})
	}
}

// normal has objects be of one type.
func normal(v any) any {
	if o, ok := v.(object); ok {
		return map[string]any(o)
	}
	return v
}
