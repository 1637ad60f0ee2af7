// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package execute

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// All hooks of a run together answer 64 MiB at most, however many are asked at
// once and however they are run.
func TestARunHasABoundForItsOutput(t *testing.T) {
	t.Parallel()
	const size, calls = 4 << 20, 20
	flood := serve(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, strings.Repeat("x", size)) })
	for name, method := range map[string]config.Method{
		"shell": shellMethod(patience, "head", "-c", strconv.Itoa(size), "/dev/zero"),
		"http":  httpMethod(flood.URL),
		"worker": {Type: config.MethodWorker, Timeout: config.Milliseconds(patience.Milliseconds()), Worker: &config.Worker{
			Entrypoint: "/bin/sh", Processes: 4, Command: []string{"-c", fmt.Sprintf(
				`while read -r line; do id=${line#*'"id":'}; printf '{"jsonrpc":"2.0","id":%%s,"result":"' "${id%%%%,*}"; head -c %d /dev/zero | tr '\0' x; echo '"}'; done`, size)},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := NewRun(RunScaler, Hooks{StageMetric: newExecutor(t, method, newPool(t, PoolOptions{}))}, func() {})
			var group sync.WaitGroup
			var answered atomic.Int32
			for range calls {
				group.Go(func() {
					output, err := run.Ask(t.Context(), StageMetric, Question{})
					if err == nil && len(output) == size {
						answered.Add(1)
						return
					}
					want := "the hooks of this run have printed more than 64 MiB together"
					if failed := fault(t, err); failed.Kind != KindOutput || !strings.HasPrefix(failed.Message, want) {
						t.Errorf("got kind %q, message %q", failed.Kind, failed.Message)
					}
				})
			}
			group.Wait()
			if n := answered.Load(); n < 1 || n > maxRunOutput/size {
				t.Errorf("%d of %d calls were answered", n, calls)
			}
		})
	}
}

// Times of one stage that overlap count once.
func TestStagesAreTimed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		run := NewRun(RunScaler, Hooks{}, func() {})
		pass := func(d time.Duration) { <-time.After(d) }
		first := run.Time(StageMetric)
		pass(time.Second)
		second := run.Time(StageMetric)
		pass(time.Second)
		first()
		pass(time.Second)
		second()
		pass(time.Second)
		third := run.Time(StageMetric)
		pass(time.Second)
		third()
		run.Time(StageEvaluate)()
		want := map[Stage]time.Duration{StageMetric: 4 * time.Second, StageEvaluate: 0}
		if diff := cmp.Diff(want, run.Durations()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestTheResourceStandsInItsPlace(t *testing.T) {
	t.Parallel()
	type payload struct {
		Before   []string `json:"before,omitempty"`
		Resource Resource `json:"resource"`
		After    string   `json:"after,omitempty"`
	}
	for _, test := range []struct {
		payload any
		want    string
	}{
		{payload{}, `{"resource":{"a":1}}`},
		{payload{Before: []string{`"resource":0`}}, `{"before":["\"resource\":0"],"resource":{"a":1}}`},
		{payload{After: `{"resource":0}`}, `{"resource":{"a":1},"after":"{\"resource\":0}"}`},
	} {
		frame, err := NewFrame(test.payload)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // a frame is used more than once
			if got := (Question{Frame: frame, Resource: json.RawMessage(`{"a":1}`)}).payload(); string(got) != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		}
	}
	for _, payload := range []any{struct{}{}, func() {}} {
		if _, err := NewFrame(payload); err == nil {
			t.Errorf("%T became a payload", payload)
		}
	}
}
