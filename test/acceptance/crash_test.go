// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// blur is how far apart the moments are that a test sees and the program goes
// by: a run, on a busy machine.
const blur = 1200 * time.Millisecond

// The program is killed 200 times, wherever it happens to be, while what is
// wanted jumps about. Whatever the moment: the count is never outside the
// bounds, never falls below what was wanted within the window, and never rises
// faster than the policy allows.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		store string
		kills int
		// limited: the policy holds across restarts.
		limited bool
	}{
		{store: "file", kills: 100, limited: true},
		{store: "configMap", kills: 50, limited: true},
		{store: "none", kills: 50},
	} {
		t.Run(test.store, func(t *testing.T) {
			t.Parallel()
			const least, most, window, step, period = 2, 20, 3 * time.Second, 3, 5 * time.Second
			d := deploy(t, cluster.ForTest(t), 5)
			changes := d.watch()
			directory := t.TempDir()
			config := fmt.Sprintf(`
scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
runMode: per-resource
metric: {type: shell, shell: {entrypoint: "true"}}
evaluate:
  type: shell
  shell:
    entrypoint: sh
    command: [-c, 'read -r wanted <%[1]s/wanted; echo "$(date +%%s%%N) $wanted" >>%[1]s/evaluations; echo "{\"targetReplicas\": $wanted}"']
minReplicas: %[2]d
maxReplicas: %[3]d
behavior:
  scaleUp: {policies: [{type: Pods, value: %[4]d, periodSeconds: %[5]d}]}
  scaleDown: {stabilizationWindowSeconds: %[6]d}
state: {store: %[7]s%[8]s}
`, directory, least, most, step, period/time.Second, window/time.Second, test.store,
				map[string]string{"file": ", path: " + filepath.Join(directory, "state.json")}[test.store])

			random := rand.New(rand.NewPCG(3, 3)) //nolint:gosec // moments, not secrets
			for range test.kills {
				wanted := strconv.Itoa(random.IntN(most + 4))
				write(t, filepath.Join(directory, "new"), wanted+"\n")
				if err := os.Rename(filepath.Join(directory, "new"), filepath.Join(directory, "wanted")); err != nil {
					t.Fatal(err)
				}
				p := d.start(config, "interval=50")
				// Most lives are short; some see the window out.
				life := time.Duration(random.IntN(400)) * time.Millisecond
				if random.IntN(5) == 0 {
					life = window + time.Duration(random.IntN(1500))*time.Millisecond
				}
				<-time.After(life)
				p.stop(syscall.SIGKILL)
			}

			history, evaluations := changes(), readEvaluations(t, filepath.Join(directory, "evaluations"))
			downs := 0
			for i, c := range history {
				if c.replicas < least || c.replicas > most {
					t.Errorf("%s: %d replicas are outside the bounds", c.at.Format(time.TimeOnly), c.replicas)
				}
				if i == 0 {
					continue
				}
				switch before := history[i-1]; {
				case c.replicas < before.replicas:
					downs++
					for _, e := range evaluations {
						if e.at.Before(c.at) && e.at.After(c.at.Add(blur-window)) && e.replicas > c.replicas {
							t.Errorf("%s: down from %d to %d, though %d was wanted %s before",
								c.at.Format(time.TimeOnly), before.replicas, c.replicas, e.replicas, c.at.Sub(e.at))
						}
					}
				case test.limited:
					if start := highestAround(history, c.at.Add(-period)); c.replicas > start+step {
						t.Errorf("%s: up from %d to %d, though there were at most %d one period before",
							c.at.Format(time.TimeOnly), before.replicas, c.replicas, start)
					}
				}
			}
			t.Logf("%d kills, %d evaluations, %d changes, %d of them down", test.kills, len(evaluations), len(history)-1, downs)
			if downs == 0 || len(history) < 10 {
				t.Errorf("%d changes, %d of them down: too little happened to tell anything", len(history)-1, downs)
			}
		})
	}
}

// counted is a count at a moment.
type counted struct {
	at       time.Time
	replicas int32
}

// watch follows the count from now on. What it returns ends that, and tells
// every count there was with the moment it was seen.
func (d deployment) watch() (changes func() []counted) {
	d.t.Helper()
	deployments := d.client.AppsV1().Deployments(d.namespace)
	watch, err := deployments.Watch(d.t.Context(), metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", "web").String()})
	if err != nil {
		d.t.Fatal(err)
	}
	var mu sync.Mutex
	var seen []counted
	go func() {
		for event := range watch.ResultChan() {
			object, ok := event.Object.(*appsv1.Deployment)
			if !ok {
				continue
			}
			mu.Lock()
			if len(seen) == 0 || seen[len(seen)-1].replicas != *object.Spec.Replicas {
				seen = append(seen, counted{at: time.Now(), replicas: *object.Spec.Replicas})
			}
			mu.Unlock()
		}
	}()
	return func() []counted {
		last := d.replicas()
		eventually(d.t, "the watch to catch up", func(ctx context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			if len(seen) == 0 || seen[len(seen)-1].replicas != last {
				return fmt.Errorf("it has not seen %d", last)
			}
			return ctx.Err()
		})
		watch.Stop()
		mu.Lock()
		defer mu.Unlock()
		return seen
	}
}

// highestAround is the highest count there was at about a moment.
func highestAround(history []counted, moment time.Time) int32 {
	highest := int32(0)
	for i, c := range history {
		begins, ends := c.at, time.Now()
		if i == 0 {
			begins = time.Time{}
		}
		if i+1 < len(history) {
			ends = history[i+1].at
		}
		if begins.Before(moment.Add(blur)) && ends.After(moment.Add(-blur)) {
			highest = max(highest, c.replicas)
		}
	}
	return highest
}

func readEvaluations(t testing.TB, file string) []counted {
	t.Helper()
	content, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = content.Close() }()
	var all []counted
	lines := bufio.NewScanner(content)
	for lines.Scan() {
		at, wanted, _ := strings.Cut(lines.Text(), " ")
		nanoseconds, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		replicas, err := strconv.ParseInt(wanted, 10, 32)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, counted{at: time.Unix(0, nanoseconds), replicas: int32(replicas)})
	}
	return all
}
