// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// replica is one of two replicas of the program. It wants odd counts or even
// ones, so that a count tells who wrote it.
type replica struct {
	*process
	odd      bool
	identity string
}

// replicaConfig wants two counts in turn, a second each.
const replicaConfig = `
scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
runMode: per-resource
metric: {type: shell, shell: {entrypoint: "true"}}
evaluate:
  type: shell
  shell: {entrypoint: sh, command: [-c, 'echo "{\"targetReplicas\": $(($(date +%%s) %% 2 * 2 + %d))}"']}
leaderElection: {enabled: true, leaseDuration: 3, renewDeadline: 2, retryPeriod: 1}
state: {store: configMap}
`

func (d deployment) startReplica(odd bool) *replica {
	least := map[bool]int{true: 3, false: 4}[odd]
	return &replica{odd: odd, process: d.start(fmt.Sprintf(replicaConfig, least), "interval=100")}
}

var gained = regexp.MustCompile(`msg="Gained the leadership" .*identity=(\S+)`)

// waitToLead waits until it leads, after the mark.
func (r *replica) waitToLead(mark int) {
	r.t.Helper()
	r.identity = gained.FindStringSubmatch(r.waitForLine(mark, gained.String()))[1]
}

// waitToWrite waits until the count is one of its own.
func (d deployment) waitToWrite(r *replica) {
	d.t.Helper()
	eventually(d.t, "a count of the leader's", func(ctx context.Context) error {
		scale, err := d.client.AppsV1().Deployments(d.namespace).GetScale(ctx, "web", metav1.GetOptions{})
		if err == nil && (scale.Spec.Replicas%2 == 1) != r.odd {
			err = fmt.Errorf("it is %d", scale.Spec.Replicas)
		}
		return err
	})
}

func TestTwoReplicas(t *testing.T) {
	t.Parallel()
	d := deploy(t, cluster.ForTest(t), 2)
	one := d.startReplica(true)
	one.waitToLead(0)
	other := d.startReplica(false)
	other.waitForLine(0, `msg="Another replica leads" .*leader=`+one.identity)
	d.waitToWrite(one)

	for _, request := range [][2]string{{http.MethodPost, "/api/v1/evaluation"}, {http.MethodGet, "/api/v1/metrics"}} {
		status, body := other.request(request[0], request[1])
		if status != http.StatusServiceUnavailable || !strings.Contains(body, one.identity+" leads") {
			t.Errorf("%v of the one that stands by answered %d %s", request, status, body)
		}
	}
	if status, body := one.request(http.MethodPost, "/api/v1/evaluation"); status != http.StatusOK {
		t.Errorf("a POST to the leader answered %d %s", status, body)
	}

	if status, _ := one.stop(syscall.SIGTERM); status != 0 {
		t.Errorf("exit status %d", status)
	}
	other.waitToLead(0)
	d.waitToWrite(other)
	if before, _, _ := strings.Cut(strings.Join(other.log(), "\n"), "Gained the leadership"); strings.Contains(before, "runType=") {
		t.Error("the one that stood by ran")
	}
	lease, err := d.client.CoordinationV1().Leases(d.namespace).Get(t.Context(), "custom-pod-autoscaler.web.deployment.apps", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if holder := *lease.Spec.HolderIdentity; holder != other.identity {
		t.Errorf("the lease is held by %s", holder)
	}
}

// The leader is stopped with SIGSTOP at random moments, the other one takes
// over, and the first is continued: it must not write what it was about to. The
// API server's resource versions tell in what order leases and counts changed.
func TestAStoppedLeaderNeverWritesAgain(t *testing.T) {
	t.Parallel()
	d := deploy(t, cluster.ForTest(t), 2)
	counts := versions(t, d.client.AppsV1().Deployments(d.namespace), func(object any) (string, bool) {
		deployment, ok := object.(*appsv1.Deployment)
		if !ok {
			return "", false
		}
		return strconv.Itoa(int(*deployment.Spec.Replicas)), true
	})
	holders := versions(t, d.client.CoordinationV1().Leases(d.namespace), func(object any) (string, bool) {
		lease, ok := object.(*coordinationv1.Lease)
		if !ok || lease.Spec.HolderIdentity == nil {
			return "", false
		}
		return *lease.Spec.HolderIdentity, true
	})
	leading := d.startReplica(true)
	leading.waitToLead(0)
	standing := d.startReplica(false)
	standing.waitForLine(0, `msg="Another replica leads"`)
	odd := map[string]bool{leading.identity: true}

	random := rand.New(rand.NewPCG(7, 7)) //nolint:gosec // moments, not secrets
	for range 12 {
		d.waitToWrite(leading)
		<-time.After(time.Duration(random.IntN(1200)) * time.Millisecond)
		taken, lost := standing.mark(), leading.mark()
		signalTo(t, leading, syscall.SIGSTOP)
		standing.waitToLead(taken)
		odd[standing.identity] = standing.odd
		d.waitToWrite(standing)
		signalTo(t, leading, syscall.SIGCONT)
		leading.waitForLine(lost, `msg="Lost the leadership"`)
		leading, standing = standing, leading
	}
	d.waitToWrite(leading)

	held := holders()
	for i, count := range counts() {
		n, err := strconv.Atoi(count.value)
		if err != nil || i == 0 {
			continue // The first was there before.
		}
		after, _ := slices.BinarySearchFunc(held, count.version, func(h version, v uint64) int { return cmp.Compare(h.version, v) })
		if after == 0 {
			t.Errorf("%d was written when nobody held the lease", n)
		} else if holder := held[after-1].value; (n%2 == 1) != odd[holder] {
			t.Errorf("%d was written while %s held the lease", n, holder)
		}
	}
}

func signalTo(t testing.TB, r *replica, signal syscall.Signal) {
	t.Helper()
	if err := r.command.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
}

// version is a value that an object took with a resource version.
type version struct {
	version uint64
	value   string
}

// versions watches objects from now on. What it returns ends that, and tells the
// values they took, in order.
func versions(t testing.TB, client interface {
	Watch(ctx context.Context, options metav1.ListOptions) (watch.Interface, error)
}, read func(object any) (value string, ok bool),
) (values func() []version) {
	t.Helper()
	events, err := client.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var seen []version
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for event := range events.ResultChan() {
			value, ok := read(event.Object)
			if !ok {
				continue
			}
			object, _ := event.Object.(metav1.Object)
			number, err := strconv.ParseUint(object.GetResourceVersion(), 10, 64)
			if err != nil {
				continue
			}
			mu.Lock()
			if len(seen) == 0 || seen[len(seen)-1].value != value {
				seen = append(seen, version{version: number, value: value})
			}
			mu.Unlock()
		}
	}()
	return func() []version {
		events.Stop()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Fatal(errors.New("the watch does not end"))
		}
		return seen
	}
}
