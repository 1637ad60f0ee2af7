// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package evaluate

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for _, test := range []struct {
		name, output string
		want         int32
		fault        string
	}{
		{name: "plain", output: `{"targetReplicas": 3}`, want: 3},
		{name: "white space around", output: "\n {\"targetReplicas\": 3} \n", want: 3},
		{name: "other fields", output: `{"note": [1], "targetReplicas": 3}`, want: 3},
		{name: "another case", output: `{"TARGETREPLICAS": 3}`, want: 3},
		{name: "zero", output: `{"targetReplicas": 0}`, want: 0},
		{name: "negative", output: `{"targetReplicas": -1}`, want: -1},
		{name: "largest", output: `{"targetReplicas": 2147483647}`, want: 2147483647},

		{name: "overflow", output: `{"targetReplicas": 2147483648}`, fault: "must be a whole number from -2147483648 to 2147483647, not a number 2147483648"},
		{name: "fraction", output: `{"targetReplicas": 3.0}`, fault: "not a number 3.0"},
		{name: "string", output: `{"targetReplicas": "3"}`, fault: "not a string"},
		{name: "bare number", output: `3`, fault: `a JSON number is not an evaluation; print an object such as {"targetReplicas": 3}`},
		{name: "list", output: `[3]`, fault: "a JSON array is not an evaluation"},
		{name: "trailing text", output: `{"targetReplicas": 3} done`, fault: "invalid character 'd' after top-level value"},
		{name: "two values", output: `{"targetReplicas": 3}{"targetReplicas": 4}`, fault: "after top-level value"},
		{name: "nothing", output: ``, fault: "nothing was printed"},
		{name: "a line break", output: "\n", fault: "nothing was printed"},
		{name: "half of it", output: `{"targetReplicas"`, fault: "unexpected end of JSON input"},
		{name: "null", output: `null`, fault: "it has no number `targetReplicas`"},
		{name: "empty object", output: `{}`, fault: "got '{}': it has no number `targetReplicas`"},
		{name: "null number", output: `{"targetReplicas": null}`, fault: "it has no number `targetReplicas`"},
		{name: "text", output: `three`, fault: "got 'three': invalid character"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Parse([]byte(test.output))
			if test.fault == "" {
				if err != nil || got.TargetReplicas != test.want {
					t.Fatalf("got %v, %v; want %d", got, err, test.want)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.fault) {
				t.Fatalf("got %v, %v; want an error with %q", got, err, test.fault)
			}
		})
	}
}

func TestParseReadsWhyAndWhetherThereIsWork(t *testing.T) {
	for _, test := range []struct {
		name, output string
		want         Evaluation
	}{
		{
			name: "both", output: `{"targetReplicas": 3, "reason": "the queue holds 42", "active": true}`,
			want: Evaluation{TargetReplicas: 3, Reason: "the queue holds 42", Active: new(true)},
		},
		{name: "one line", output: `{"targetReplicas": 3, "reason": " two\n\tlines "}`, want: Evaluation{TargetReplicas: 3, Reason: "two lines"}},
		{
			name: "a long one", output: `{"targetReplicas": 3, "reason": "` + strings.Repeat("é", 200) + `"}`,
			want: Evaluation{TargetReplicas: 3, Reason: strings.Repeat("é", 128) + "..."},
		},
		{
			name: "of another meaning", output: `{"targetReplicas": 3, "reason": {"code": 5}, "active": [1]}`,
			want: Evaluation{TargetReplicas: 3},
		},
		{name: "null", output: `{"targetReplicas": 3, "reason": null, "active": null}`, want: Evaluation{TargetReplicas: 3}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Parse([]byte(test.output))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error("evaluation (-want +got):\n" + diff)
			}
		})
	}
}

func TestLongOutputIsShortened(t *testing.T) {
	_, err := Parse([]byte(strings.Repeat("x", 10_000)))
	if err == nil || len(err.Error()) > 500 || !strings.Contains(err.Error(), "...' (10000 bytes)") {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{"targetReplicas": 3}`, `{}`, `null`, `3`, "\xff\xfe", strings.Repeat("é", 300)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, output []byte) {
		evaluation, err := Parse(output)
		switch {
		case err != nil && evaluation != Evaluation{}:
			t.Errorf("an error and %v", evaluation)
		case err != nil && len(err.Error()) > 2048:
			t.Errorf("an error of %d bytes", len(err.Error()))
		case err == nil && !strings.Contains(strings.ToLower(string(output)), "target") && !strings.Contains(string(output), `\u`):
			t.Errorf("%q was read as %v", output, evaluation)
		}
	})
}
