// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apiresource "k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// syncPeriod is how often both autoscalers decide. The windows and periods of
// the trajectories are odd numbers of seconds, so that each ends half a tick
// away from the ticks: on a multiple of the sync period the controller races
// with itself, since it remembers an event a moment after the tick.
const syncPeriod = 2 * time.Second

// attempts are how often a trajectory is taken at most.
const attempts = 3

// failing, as what is wanted, makes the metric of the one autoscaler and the
// hook of the other fail.
const failing = -1

// trajectory is what happens to a Deployment that is autoscaled.
type trajectory struct {
	name string
	// replicas are there at the start, min and max are the bounds; a max of 0
	// is 40.
	replicas, min, max int32
	// up and down are the two directions of `behavior`, inside of the braces.
	// Both get a tolerance of 0 if they name none.
	up, down string
	// wanted are the counts that are asked for, and for how many ticks each.
	wanted []wanted
	// edits are changes of the count by hand.
	edits []edit
	// counts are those that the Deployment goes through.
	counts []int32
}

type wanted struct {
	replicas, ticks int
}

// edit is made half a tick after the one of that number, counted from 0.
type edit struct {
	tick     int
	replicas int32
}

const (
	// atOnce lets a direction do as it likes.
	atOnce     = `stabilizationWindowSeconds: 0, policies: [{type: Percent, value: 1000, periodSeconds: 5}]`
	downAtOnce = `stabilizationWindowSeconds: 0, policies: [{type: Percent, value: 100, periodSeconds: 5}]`
)

var trajectories = []trajectory{
	{
		name: "up by pods", replicas: 2, down: downAtOnce,
		up:     `policies: [{type: Pods, value: 3, periodSeconds: 5}]`,
		wanted: []wanted{{2, 3}, {14, 12}, {4, 4}},
		counts: []int32{2, 5, 8, 11, 14, 4},
	},
	{
		// In floating point 25 and 12% are a little more than 28.
		name: "up by percent, rounded up", replicas: 25, down: downAtOnce,
		up:     `policies: [{type: Percent, value: 12, periodSeconds: 5}]`,
		wanted: []wanted{{25, 3}, {100, 13}},
		counts: []int32{25, 29, 33, 37, 40},
	},
	{
		name: "down by pods", replicas: 12, up: atOnce,
		down:   `stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 2, periodSeconds: 7}]`,
		wanted: []wanted{{12, 3}, {3, 20}},
		counts: []int32{12, 10, 8, 6, 4, 3},
	},
	{
		// In floating point 30 less 90% are a little less than 3.
		name: "down by percent, truncated", replicas: 30, up: atOnce,
		down:   `stabilizationWindowSeconds: 0, policies: [{type: Percent, value: 90, periodSeconds: 5}]`,
		wanted: []wanted{{30, 3}, {1, 6}},
		counts: []int32{30, 2, 1},
	},
	{
		name: "up by the larger of two policies", replicas: 4, down: downAtOnce,
		up:     `policies: [{type: Pods, value: 2, periodSeconds: 5}, {type: Percent, value: 50, periodSeconds: 11}]`,
		wanted: []wanted{{4, 3}, {38, 23}},
		counts: []int32{4, 6, 8, 10, 12, 15, 18, 23, 27},
	},
	{
		name: "up by the smaller of two policies", replicas: 4, down: downAtOnce,
		up:     `selectPolicy: Min, policies: [{type: Pods, value: 5, periodSeconds: 5}, {type: Percent, value: 50, periodSeconds: 11}]`,
		wanted: []wanted{{4, 3}, {30, 23}},
		counts: []int32{4, 6, 9, 14, 19, 21},
	},
	{
		name: "down by the larger of two policies", replicas: 30, up: atOnce,
		down: `stabilizationWindowSeconds: 0, selectPolicy: Max,
			policies: [{type: Pods, value: 3, periodSeconds: 5}, {type: Percent, value: 40, periodSeconds: 11}]`,
		wanted: []wanted{{30, 3}, {2, 18}},
		counts: []int32{30, 18, 15, 10, 7, 4, 2},
	},
	{
		name: "down by the smaller of two policies", replicas: 30, up: atOnce,
		down: `stabilizationWindowSeconds: 0, selectPolicy: Min,
			policies: [{type: Pods, value: 8, periodSeconds: 5}, {type: Percent, value: 40, periodSeconds: 11}]`,
		wanted: []wanted{{30, 3}, {2, 26}},
		counts: []int32{30, 22, 18, 13, 10, 7, 6, 4, 3, 2},
	},
	{
		name: "up disabled", replicas: 6, up: `selectPolicy: Disabled`, down: downAtOnce,
		wanted: []wanted{{6, 3}, {12, 4}, {4, 4}, {9, 4}},
		edits:  []edit{{12, 8}},
		counts: []int32{6, 4, 8},
	},
	{
		name: "down disabled", replicas: 6, up: atOnce, down: `stabilizationWindowSeconds: 0, selectPolicy: Disabled`,
		wanted: []wanted{{6, 3}, {2, 4}, {9, 4}, {3, 4}},
		edits:  []edit{{8, 5}},
		counts: []int32{6, 9, 5, 9},
	},
	{
		name: "oscillation within the window down", replicas: 10, up: atOnce,
		down:   `stabilizationWindowSeconds: 7`,
		wanted: []wanted{{10, 3}, {4, 2}, {10, 2}, {4, 3}, {9, 1}, {4, 8}},
		counts: []int32{10, 9, 4},
	},
	{
		name: "spikes within the window up", replicas: 4, down: downAtOnce,
		up:     `stabilizationWindowSeconds: 7, policies: [{type: Percent, value: 1000, periodSeconds: 5}]`,
		wanted: []wanted{{4, 3}, {20, 2}, {4, 2}, {20, 3}, {6, 1}, {12, 2}, {20, 7}},
		counts: []int32{4, 6, 12, 20},
	},
	{
		name: "both windows", replicas: 8,
		up:     `stabilizationWindowSeconds: 5, policies: [{type: Percent, value: 1000, periodSeconds: 5}]`,
		down:   `stabilizationWindowSeconds: 11`,
		wanted: []wanted{{8, 3}, {14, 2}, {3, 2}, {14, 2}, {3, 2}, {14, 5}, {3, 9}, {6, 5}},
		counts: []int32{8, 14, 3, 6},
	},
	{
		name: "a spike that is left slowly", replicas: 3,
		up:     `policies: [{type: Pods, value: 6, periodSeconds: 5}]`,
		down:   `stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 1, periodSeconds: 5}]`,
		wanted: []wanted{{3, 3}, {20, 2}, {5, 16}, {12, 4}},
		counts: []int32{3, 9, 5, 11, 12},
	},
	{
		name: "a gap shorter than the window", replicas: 10, up: atOnce,
		down:   `stabilizationWindowSeconds: 11`,
		wanted: []wanted{{10, 3}, {failing, 4}, {3, 10}},
		counts: []int32{10, 3},
	},
	{
		name: "gaps on the way up", replicas: 2,
		up:     `policies: [{type: Pods, value: 2, periodSeconds: 5}]`,
		down:   `stabilizationWindowSeconds: 11`,
		wanted: []wanted{{2, 3}, {12, 2}, {failing, 3}, {12, 2}, {failing, 2}, {12, 8}, {failing, 3}, {5, 10}},
		counts: []int32{2, 4, 6, 8, 10, 12, 5},
	},
	{
		// The edit is no event: it does not give back what the policy allowed.
		name: "edited down after scaling up", replicas: 4, down: downAtOnce,
		up:     `policies: [{type: Pods, value: 4, periodSeconds: 21}]`,
		wanted: []wanted{{4, 3}, {8, 19}},
		edits:  []edit{{5, 2}},
		counts: []int32{4, 8, 2, 6},
	},
	{
		name: "edited within the bounds", replicas: 6, up: atOnce,
		down:   `stabilizationWindowSeconds: 7`,
		wanted: []wanted{{6, 16}},
		edits:  []edit{{3, 12}, {8, 2}, {11, 9}},
		counts: []int32{6, 12, 6, 2, 6, 9, 6},
	},
	{
		name: "edited above the bounds", replicas: 5, max: 10, up: atOnce,
		down:   `stabilizationWindowSeconds: 7, policies: [{type: Pods, value: 2, periodSeconds: 5}]`,
		wanted: []wanted{{5, 22}},
		edits:  []edit{{3, 15}},
		counts: []int32{5, 15, 10, 8, 6, 5},
	},
	{
		name: "edited below the bounds", replicas: 5, min: 3, down: downAtOnce,
		up:     `policies: [{type: Pods, value: 3, periodSeconds: 7}]`,
		wanted: []wanted{{5, 4}, {9, 10}},
		edits:  []edit{{3, 1}},
		counts: []int32{5, 1, 3, 4, 6, 7, 9},
	},
	{
		name: "edited to zero, which disables, and back", replicas: 5, up: atOnce,
		down:   `stabilizationWindowSeconds: 7`,
		wanted: []wanted{{5, 4}, {8, 14}},
		edits:  []edit{{3, 0}, {7, 2}, {12, 0}, {14, 12}},
		counts: []int32{5, 0, 2, 8, 0, 12, 8},
	},
	{
		name: "above the bounds at the start", replicas: 20, max: 10, up: atOnce,
		down:   `stabilizationWindowSeconds: 7`,
		wanted: []wanted{{4, 12}},
		counts: []int32{20, 10, 4},
	},
	{
		name: "below the bounds at the start", replicas: 1, min: 4, down: downAtOnce,
		up:     `policies: [{type: Pods, value: 2, periodSeconds: 5}]`,
		wanted: []wanted{{9, 16}},
		counts: []int32{1, 4, 6, 8, 9},
	},
	{
		// What is remembered for the windows is not what the bounds made of it.
		name: "beyond both bounds", replicas: 6, min: 3, max: 12,
		up:     `stabilizationWindowSeconds: 7, policies: [{type: Percent, value: 1000, periodSeconds: 5}]`,
		down:   `stabilizationWindowSeconds: 5`,
		wanted: []wanted{{6, 3}, {50, 5}, {8, 2}, {50, 2}, {0, 5}, {2, 4}, {7, 6}},
		counts: []int32{6, 12, 3, 7},
	},
	{
		// What came in one direction is allowed to go in the other besides.
		name: "limits in both directions", replicas: 10,
		up:     `policies: [{type: Pods, value: 5, periodSeconds: 11}]`,
		down:   `stabilizationWindowSeconds: 0, policies: [{type: Pods, value: 3, periodSeconds: 7}]`,
		wanted: []wanted{{10, 3}, {30, 2}, {1, 3}, {30, 7}, {1, 14}, {20, 9}},
		counts: []int32{10, 15, 7, 15, 20, 17, 14, 11, 8, 16, 20},
	},
	{
		name: "a longer period down than up", replicas: 4,
		up:     `policies: [{type: Pods, value: 9, periodSeconds: 5}]`,
		down:   `stabilizationWindowSeconds: 0, policies: [{type: Percent, value: 50, periodSeconds: 31}]`,
		wanted: []wanted{{4, 3}, {13, 8}, {1, 18}},
		counts: []int32{4, 13, 2, 1},
	},
	{
		// What came in the last 31 seconds may be taken back, and half of what
		// was there before. But an event is replaced by the next of its
		// direction that comes later than that direction's longest period,
		// here 5 seconds, whatever the other direction asks for.
		name: "several events in a longer period down than up", replicas: 4,
		up:     `policies: [{type: Pods, value: 3, periodSeconds: 5}]`,
		down:   `stabilizationWindowSeconds: 0, policies: [{type: Percent, value: 50, periodSeconds: 31}]`,
		wanted: []wanted{{4, 3}, {13, 8}, {1, 18}},
		counts: []int32{4, 7, 10, 13, 5, 2},
	},
	{
		name: "tolerance, up to its limit", replicas: 8,
		up:     `tolerance: "0.5", ` + atOnce,
		down:   `tolerance: "0.25", ` + downAtOnce,
		wanted: []wanted{{8, 3}, {12, 3}, {13, 3}, {10, 3}, {9, 3}, {6, 3}},
		counts: []int32{8, 13, 9, 6},
	},
	{
		// Up by 4 or by as many again in 15 seconds; a window down of five
		// minutes.
		name: "nothing but defaults", replicas: 1,
		wanted: []wanted{{1, 3}, {30, 26}, {2, 4}},
		counts: []int32{1, 5, 10, 20, 30},
	},
}

// TestDecidesLikeTheHorizontalPodAutoscaler has each trajectory taken twice, by
// the HorizontalPodAutoscaler's own controller and by the program, and compares
// how they scaled. The controller takes the average that it is to reach, one,
// of an external metric: so the metric's value is the count that it wants, as
// the evaluation is for the program.
//
// The two tick at the same pace but not at the same moments, and the
// controller's pace is slower by the time that each of its runs takes. So each
// has a clock of its own, which counts the ticks, and is told what is wanted by
// that. A count must come in the same tick; one beside it is what a busy machine
// makes of that.
func TestDecidesLikeTheHorizontalPodAutoscaler(t *testing.T) {
	c, err := cluster.Start(t.Context(), cluster.Options{WithoutMetrics: true, WithoutPods: true, HPASyncPeriod: syncPeriod})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	feed := &feed{takers: map[string]*taker{}}
	feed.serveMetric(t, c)
	hooks := httptest.NewServer(http.HandlerFunc(feed.serveHook))
	t.Cleanup(hooks.Close)

	// All at once, however few processors there are: they mostly wait.
	var all sync.WaitGroup
	for _, tr := range trajectories {
		all.Go(func() {
			t.Run(tr.name, func(t *testing.T) { tr.test(t, c, feed, hooks.URL) })
		})
	}
	all.Wait()
}

// test takes the trajectory, and takes it again if the two differ in it after
// one of them was not on time: on a machine that is busy for a second a window
// ends before another tick than it would have.
func (tr trajectory) test(t *testing.T, c *cluster.Cluster, feed *feed, hooks string) {
	t.Helper()
	tr.min, tr.max = max(tr.min, 1), orElse(tr.max, 40)
	for range attempts - 1 {
		controller, program := tr.take(t, c, feed, hooks)
		difference := tr.compare(controller, program)
		if difference == "" {
			return
		}
		if controller.late+program.late == 0 {
			t.Fatal(difference)
		}
		t.Logf("again, since the controller was late by up to %s, the program by %s:\n%s", controller.late, program.late, difference)
	}
	if difference := tr.compare(tr.take(t, c, feed, hooks)); difference != "" {
		t.Fatal(difference)
	}
}

// take has both autoscalers take the trajectory.
func (tr trajectory) take(t *testing.T, c *cluster.Cluster, feed *feed, hooks string) (controller, program *taker) {
	t.Helper()
	namespace := c.Namespace(t)
	controller, program = newTaker(tr, c, namespace, "controller"), newTaker(tr, c, namespace, "program")
	feed.add(controller)
	feed.add(program)
	defer watchCounts(t, c, namespace, controller, program)()

	for _, taker := range []*taker{controller, program} {
		taker.deploy(t)
	}
	tr.autoscale(t, c, namespace, controller.name)
	p := start(t, settings{
		cluster: c, namespace: namespace, config: tr.config(program.name, hooks+"/"+program.key()),
		environment: []string{fmt.Sprintf("interval=%d", syncPeriod.Milliseconds())},
	})
	var drives sync.WaitGroup
	drives.Go(func() { controller.drive(t) })
	drives.Go(func() { program.drive(t) })
	drives.Wait()
	p.stop(syscall.SIGTERM)
	t.Logf("controller %v\nprogram    %v", controller.changes, program.changes)
	return controller, program
}

// compare says how what the two did differs, and from what the trajectory is
// for.
func (tr trajectory) compare(controller, program *taker) string {
	if diff := cmp.Diff(tr.counts, counts(controller.changes)); diff != "" {
		return "the controller's counts (-want +got):\n" + diff
	}
	if diff := cmp.Diff(tr.counts, counts(program.changes)); diff != "" {
		return "counts (-controller +program):\n" + diff
	}
	for i, change := range program.changes {
		if late := change.tick - controller.changes[i].tick; late < -1 || late > 1 {
			return fmt.Sprintf("the program's count number %d, %d, came %d ticks after the controller's", i, change.replicas, late)
		}
	}
	return ""
}

// behavior is that of both autoscalers.
func (tr trajectory) behavior() string {
	direction := func(rules string) string {
		if !strings.Contains(rules, "tolerance") {
			rules = `tolerance: "0", ` + rules
		}
		return "{" + rules + "}"
	}
	return "{scaleUp: " + direction(tr.up) + ", scaleDown: " + direction(tr.down) + "}"
}

// config is that of the program.
func (tr trajectory) config(target, hook string) string {
	return fmt.Sprintf(`
scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: %s}
runMode: per-resource
minReplicas: %d
maxReplicas: %d
metric: {type: shell, shell: {entrypoint: "true"}}
evaluate: {type: http, http: {method: POST, url: %q, successCodes: [200], parameterMode: body}}
behavior: %s
`, target, tr.min, tr.max, hook, tr.behavior())
}

// autoscale makes the HorizontalPodAutoscaler of a Deployment.
func (tr trajectory) autoscale(t *testing.T, c *cluster.Cluster, namespace, target string) {
	t.Helper()
	var behavior autoscalingv2.HorizontalPodAutoscalerBehavior
	if err := yaml.UnmarshalStrict([]byte(tr.behavior()), &behavior); err != nil {
		t.Fatal(err)
	}
	one := apiresource.MustParse("1")
	_, err := c.Client().AutoscalingV2().HorizontalPodAutoscalers(namespace).Create(t.Context(), &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: target},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: target},
			MinReplicas:    &tr.min, MaxReplicas: tr.max, Behavior: &behavior,
			Metrics: []autoscalingv2.MetricSpec{{
				Type: autoscalingv2.ExternalMetricSourceType,
				External: &autoscalingv2.ExternalMetricSource{
					Metric: autoscalingv2.MetricIdentifier{Name: target},
					Target: autoscalingv2.MetricTarget{Type: autoscalingv2.AverageValueMetricType, AverageValue: &one},
				},
			}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// feed tells each taker of a trajectory what is wanted.
type feed struct {
	mu     sync.Mutex
	takers map[string]*taker
}

func (f *feed) add(t *taker) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.takers[t.key()] = t
}

// ask is what is wanted of a taker now; not ok if it is to fail.
func (f *feed) ask(key string) (replicas int, ok bool) {
	f.mu.Lock()
	taker := f.takers[key]
	f.mu.Unlock()
	if taker == nil {
		return 0, false
	}
	replicas = taker.ask(time.Now())
	return replicas, replicas != failing
}

// serveMetric serves external metrics, named after their takers.
func (f *feed) serveMetric(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	const api = "external.metrics.k8s.io/v1beta1"
	register := serveMetrics(t, c, metav1.NamespaceDefault, func(path string) (string, bool) {
		path, _, _ = strings.Cut(path, "?")
		replicas, ok := f.ask(strings.TrimPrefix(path, api+"/namespaces/"))
		return fmt.Sprintf(`{"kind": "ExternalMetricValueList", "apiVersion": %q, "metadata": {}, "items": [
			{"metricName": "wanted", "metricLabels": {}, "timestamp": %q, "value": "%d"}]}`, api, time.Now().Format(time.RFC3339), replicas), ok
	})
	register("external.metrics.k8s.io", "v1beta1")
	eventually(t, "external metrics to be served", func(ctx context.Context) error {
		_, err := c.Client().Discovery().RESTClient().Get().AbsPath("/apis/" + api).DoRaw(ctx)
		return err
	})
}

// serveHook answers the evaluate hook.
func (f *feed) serveHook(w http.ResponseWriter, r *http.Request) {
	replicas, ok := f.ask(strings.TrimPrefix(r.URL.Path, "/"))
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	fmt.Fprintf(w, `{"targetReplicas": %d}`, replicas)
}

// taker is one of the two Deployments of a trajectory and its clock.
type taker struct {
	cluster         *cluster.Cluster
	namespace, name string
	trajectory      trajectory
	// started is closed in the first tick of its autoscaler.
	started chan struct{}

	mu sync.Mutex
	// asked is when its autoscaler last asked what is wanted, or came to its
	// first count, tick the number of that tick, from 0, and over says that the
	// last has passed.
	asked   time.Time
	tick    int
	over    bool
	changes []change
	// late is how late its autoscaler or its driver was at worst, where that
	// is too much.
	late time.Duration
}

// change is a count that a Deployment came to, and in which tick.
type change struct {
	replicas int32
	tick     int
}

func (c change) String() string { return fmt.Sprintf("%d@%d", c.replicas, c.tick) }

func counts(changes []change) (counts []int32) {
	for _, c := range changes {
		counts = append(counts, c.replicas)
	}
	return counts
}

func newTaker(tr trajectory, c *cluster.Cluster, namespace, name string) *taker {
	return &taker{cluster: c, namespace: namespace, name: name, trajectory: tr, started: make(chan struct{})}
}

func (t *taker) key() string { return t.namespace + "/" + t.name }

// ask is a tick: it returns what is wanted in it.
func (t *taker) ask(now time.Time) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.begin(now)
	// Ticks in which nobody asked are counted.
	since := now.Sub(t.asked)
	ticks := since.Round(syncPeriod)
	t.tick += int(ticks / syncPeriod)
	t.delayed((since - ticks).Abs())
	t.asked = now
	last := 0
	for _, w := range t.trajectory.wanted {
		if last += w.ticks; t.tick < last {
			return w.replicas
		}
	}
	return t.trajectory.wanted[len(t.trajectory.wanted)-1].replicas
}

// begin starts the clock, once.
func (t *taker) begin(now time.Time) {
	if t.asked.IsZero() {
		t.asked = now
		close(t.started)
	}
}

// delayed notes a delay. With up to a quarter of a tick, the windows and
// periods still end in the half that they should.
func (t *taker) delayed(by time.Duration) {
	if by > syncPeriod/4 && !t.over {
		t.late = max(t.late, by)
	}
}

// see notes the count that the Deployment has.
func (t *taker) see(replicas int32, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.changes); t.over || n > 0 && t.changes[n-1].replicas == replicas {
		return
	}
	tick := 0
	if len(t.changes) > 0 {
		// While the count is outside the bounds the controller does not ask.
		t.begin(now)
		// What is seen up to three quarters of a tick after it belongs to it:
		// edits come in the middle.
		tick = t.tick + int((now.Sub(t.asked)+syncPeriod/4)/syncPeriod)
	}
	t.changes = append(t.changes, change{replicas: replicas, tick: tick})
}

// deploy makes the Deployment. Nobody runs its pods: those that are wanted are
// there at once, and that is all the controller looks at.
func (t *taker) deploy(tb testing.TB) {
	tb.Helper()
	labels := map[string]string{"app": t.name}
	_, err := t.cluster.Client().AppsV1().Deployments(t.namespace).Create(tb.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: t.name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &t.trajectory.replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "none"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		tb.Fatal(err)
	}
}

// drive makes the edits in their time and returns when the trajectory is over.
func (t *taker) drive(tb testing.TB) {
	tb.Helper()
	select {
	case <-t.started:
	case <-time.After(patience):
		tb.Errorf("the %s does not tick", t.name)
		return
	}
	for _, e := range t.trajectory.edits {
		t.wait(tb.Context(), e.tick)
		if err := t.cluster.Scale(tb.Context(), t.namespace, t.name, e.replicas); err != nil {
			tb.Error(err)
		}
	}
	end := -1
	for _, w := range t.trajectory.wanted {
		end += w.ticks
	}
	t.wait(tb.Context(), end)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
}

// wait waits for the middle between a tick and the next.
func (t *taker) wait(ctx context.Context, tick int) {
	for {
		t.mu.Lock()
		due := t.asked.Add(time.Duration(tick-t.tick)*syncPeriod + syncPeriod/2)
		left := time.Until(due)
		if left <= 0 {
			t.delayed(-left)
		}
		t.mu.Unlock()
		if left <= 0 {
			return
		}
		select {
		// It may have become later by then.
		case <-time.After(left):
		case <-ctx.Done():
			return
		}
	}
}

// watchCounts notes the counts of the takers' Deployments until it is stopped.
func watchCounts(t *testing.T, c *cluster.Cluster, namespace string, takers ...*taker) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	watch, err := c.Client().AppsV1().Deployments(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for event := range watch.ResultChan() {
			d, ok := event.Object.(*appsv1.Deployment)
			switch {
			case ctx.Err() != nil:
				return
			case !ok:
				t.Errorf("watching the Deployments: %v", event.Object)
				return
			}
			for _, taker := range takers {
				if taker.name == d.Name {
					taker.see(*d.Spec.Replicas, time.Now())
				}
			}
		}
	}()
	return func() {
		cancel()
		watch.Stop()
		<-ended
	}
}

func orElse(value, otherwise int32) int32 {
	if value == 0 {
		return otherwise
	}
	return value
}
