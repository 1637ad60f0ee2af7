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
			run := NewRun(RunScaler, Hooks{StageMetric: newExecutor(t, method, newPool(t, PoolOptions{}))})
			var group sync.WaitGroup
			var answered atomic.Int32
			for range calls {
				group.Go(func() {
					output, err := run.Ask(t.Context(), StageMetric, Question{Resource: json.RawMessage("{}"), Rest: struct{}{}})
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
		run := NewRun(RunScaler, Hooks{})
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

func TestPayloadsAreTheResourceAndTheRest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rest any
		want string
	}{
		{struct{}{}, `{"resource":{"a":1}}`},
		{map[string]int{"b": 2}, `{"resource":{"a":1},"b":2}`},
		{json.RawMessage(`{"b":3}`), `{"resource":{"a":1},"b":3}`},
	} {
		payload, err := Question{Resource: json.RawMessage(`{"a":1}`), Rest: test.rest}.payload()
		if err != nil || string(payload) != test.want {
			t.Errorf("got %s, %v; want %s", payload, err, test.want)
		}
	}
}
