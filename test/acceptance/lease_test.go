// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/leader"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// Shorter than the defaults, long enough for a machine that is busy.
const (
	leaseDuration = 6 * time.Second
	renewDeadline = 4 * time.Second
	retryPeriod   = 500 * time.Millisecond
)

// network is a candidate's way to the API server, which a test may cut: then
// nothing comes back any more, as from a process that died or a node that is
// cut off.
type network struct {
	next http.RoundTripper

	mu  sync.Mutex
	cut bool
}

func (n *network) RoundTrip(request *http.Request) (*http.Response, error) {
	if n.isCut() {
		<-request.Context().Done()
		return nil, request.Context().Err()
	}
	response, err := n.next.RoundTrip(request)
	if n.isCut() && err == nil {
		_ = response.Body.Close()
		<-request.Context().Done()
		return nil, request.Context().Err()
	}
	return response, err
}

func (n *network) isCut() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut
}

func (n *network) setCut(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = cut
}

// wrap has the clients of the configuration use the network.
func (n *network) wrap(config *rest.Config) *rest.Config {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		n.next = next
		return n
	})
	return config
}

// candidate is an Elector that runs.
type candidate struct {
	*leader.Elector
	t       testing.TB
	name    string
	network *network
	log     *logBuffer
	stop    func()
}

// logBuffer may be read while it is written.
type logBuffer struct {
	mu      sync.Mutex
	content bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.content.String()
}

// campaign starts a candidate for the Lease web and stops it when the test
// ends.
func campaign(t testing.TB, config *rest.Config, namespace, name string) *candidate {
	t.Helper()
	c := &candidate{t: t, name: name, network: &network{}, log: &logBuffer{}}
	log := slog.New(slog.NewTextHandler(c.log, nil))
	clients, err := resource.Connect(c.network.wrap(config), "lease-test", log)
	if err != nil {
		t.Fatal(err)
	}
	c.Elector = leader.New(clients.Coordination, leader.Options{
		Namespace: namespace, Name: "web", Identity: name,
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod, Log: log,
	})
	c.stop = background(t, func(ctx context.Context) {
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log of %s:\n%s", name, c.log)
		}
	})
	return c
}

// background runs it until stop is called or the test ends.
func background(t testing.TB, run func(context.Context)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		run(ctx)
	}()
	stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(stop)
	return stop
}

// sees waits until the candidate knows who leads.
func (c *candidate) sees(identity string) {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		term := c.Term()
		if term.Leader == identity && term.Leading() == (identity == c.name) {
			return
		}
		select {
		case <-c.Changed():
		case <-timeout:
			c.t.Fatalf("%s does not see %q lead, but %+v", c.name, identity, term)
		}
	}
}

// neverTwo watches the candidates: no two of them lead at the same instant.
func neverTwo(t testing.TB, candidates ...*candidate) {
	t.Helper()
	background(t, func(ctx context.Context) {
		ticker := time.NewTicker(2 * time.Millisecond)
		defer ticker.Stop()
		for ctx.Err() == nil {
			for i, a := range candidates {
				for _, b := range candidates[i+1:] {
					// One may end and the other begin between two looks, but
					// not if the first still leads at a third one.
					before, other, after := a.Term(), b.Term(), a.Term()
					if other.Leading() && before.Leading() && before.ID == after.ID {
						t.Errorf("%s and %s lead at once", a.name, b.name)
						return
					}
				}
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
			}
		}
	})
}

func readLease(t testing.TB, client kubernetes.Interface, namespace string) *coordinationv1.Lease {
	t.Helper()
	lease, err := client.CoordinationV1().Leases(namespace).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return lease
}

// saysLease checks that the lease is held by whom and has changed hands so
// often.
func saysLease(t testing.TB, lease *coordinationv1.Lease, holder string, transitions int32) {
	t.Helper()
	spec := lease.Spec
	if *spec.HolderIdentity != holder || *spec.LeaseDurationSeconds != int32(leaseDuration/time.Second) || *spec.LeaseTransitions != transitions {
		t.Errorf("the lease is %s", spec.String())
	}
	if spec.AcquireTime.After(spec.RenewTime.Time) || spec.RenewTime.After(time.Now()) {
		t.Errorf("the times of the lease are %s and %s", spec.AcquireTime, spec.RenewTime)
	}
}

func TestALeaseChangesHands(t *testing.T) {
	c := cluster.ForTest(t)
	namespace := c.Namespace(t)
	a := campaign(t, c.RESTConfig(), namespace, "a")
	a.sees("a")
	b := campaign(t, c.RESTConfig(), namespace, "b")
	neverTwo(t, a, b)
	b.sees("a")
	saysLease(t, readLease(t, c.Client(), namespace), "a", 0)

	t.Log("a is stopped")
	a.stop()
	if spec := readLease(t, c.Client(), namespace).Spec; *spec.HolderIdentity == "a" {
		t.Errorf("the lease is not released: %s", spec.String())
	}
	b.sees("b")
	saysLease(t, readLease(t, c.Client(), namespace), "b", 1)

	t.Log("b is cut off")
	third := campaign(t, c.RESTConfig(), namespace, "c")
	neverTwo(t, b, third)
	third.sees("b")
	b.network.setCut(true)
	until := b.Term().Until
	third.sees("c")
	if now := time.Now(); now.Before(until) {
		t.Errorf("it leads %s before the term of b was to end", until.Sub(now))
	}
	saysLease(t, readLease(t, c.Client(), namespace), "c", 2)
	b.network.setCut(false)
	b.sees("c")

	t.Log("the lease is deleted")
	before := third.Term()
	if err := c.Client().CoordinationV1().Leases(namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another term", func(context.Context) error {
		if now := third.Term(); now.ID != before.ID+1 {
			return fmt.Errorf("it is %+v, and was %+v", now, before)
		}
		return nil
	})
	saysLease(t, readLease(t, c.Client(), namespace), "c", 0)
	b.sees("c")
}

// foreign is client-go's own candidate.
type foreign struct {
	name    string
	network *network
	stop    func()
}

// campaignForeign starts client-go's leader election for the same Lease.
func campaignForeign(t testing.TB, config *rest.Config, namespace, name string) foreign {
	t.Helper()
	f := foreign{name: name, network: &network{}}
	client, err := kubernetes.NewForConfig(f.network.wrap(config))
	if err != nil {
		t.Fatal(err)
	}
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web"}, Client: client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: name},
		},
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod, ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{OnStartedLeading: func(context.Context) {}, OnStoppedLeading: func() {}},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.stop = background(t, elector.Run)
	return f
}

// Ours and client-go's compete for one Lease, and each takes over from the
// other, after a stop and after a crash.
func TestALeaseIsSharedWithClientGo(t *testing.T) {
	c := cluster.ForTest(t)
	namespace := c.Namespace(t)
	lease := func() *coordinationv1.Lease { return readLease(t, c.Client(), namespace) }
	waitForHolder := func(holder string) {
		t.Helper()
		eventually(t, holder+" to hold the lease", func(ctx context.Context) error {
			lease, err := c.Client().CoordinationV1().Leases(namespace).Get(ctx, "web", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if *lease.Spec.HolderIdentity != holder {
				return errors.New("it is " + *lease.Spec.HolderIdentity)
			}
			return nil
		})
	}

	theirs := campaignForeign(t, c.RESTConfig(), namespace, "theirs")
	waitForHolder("theirs")
	ours := campaign(t, c.RESTConfig(), namespace, "ours")
	ours.sees("theirs")

	t.Log("theirs is stopped")
	theirs.stop()
	ours.sees("ours")
	saysLease(t, lease(), "ours", 1)

	t.Log("ours is stopped")
	theirs = campaignForeign(t, c.RESTConfig(), namespace, "theirs again")
	ours.stop()
	waitForHolder("theirs again")
	saysLease(t, lease(), "theirs again", 2)

	t.Log("theirs dies")
	ours = campaign(t, c.RESTConfig(), namespace, "ours again")
	ours.sees("theirs again")
	theirs.network.setCut(true)
	ours.sees("ours again")
	saysLease(t, lease(), "ours again", 3)
	theirs.stop()

	t.Log("ours dies")
	campaignForeign(t, c.RESTConfig(), namespace, "theirs at last")
	ours.network.setCut(true)
	until := ours.Term().Until
	waitForHolder("theirs at last")
	if now := time.Now(); now.Before(until) || ours.Term().Leading() {
		t.Errorf("client-go's leads %s before our term was to end", until.Sub(now))
	}
	ours.network.setCut(false)
	ours.sees("theirs at last")
}

// What the service account may not do is named, once, and what is named is all
// it needs.
func TestALeaseThatIsForbidden(t *testing.T) {
	c := cluster.ForTest(t)
	namespace := c.Namespace(t)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := c.WriteServiceAccountKubeconfig(t.Context(), kubeconfig, namespace, "autoscaler"); err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	a := campaign(t, config, namespace, "a")
	eventually(t, "the log", func(context.Context) error {
		if !strings.Contains(a.log.String(), `level=ERROR msg="The leader election is forbidden: allow the service account the verbs get, `+
			`create and update on leases.coordination.k8s.io in the lease's namespace"`) {
			return errors.New(a.log.String())
		}
		return nil
	})
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "autoscaler"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "create", "update"}}},
	}
	if _, err := c.Client().RbacV1().Roles(namespace).Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "autoscaler"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "autoscaler"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "autoscaler"}},
	}
	if _, err := c.Client().RbacV1().RoleBindings(namespace).Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	a.sees("a")
	a.stop()
	if spec := readLease(t, c.Client(), namespace).Spec; *spec.HolderIdentity != "" {
		t.Errorf("the lease is not released: %s", spec.String())
	}
	if errs := strings.Count(a.log.String(), "level=ERROR"); errs != 1 {
		t.Errorf("%d errors in the log:\n%s", errs, a.log)
	}
}

// The API server hangs for all: the term ends by itself, nobody leads, and when
// it is back somebody does, in another term.
func TestALeaseWhileTheAPIServerHangs(t *testing.T) {
	// It is a control plane of its own: the other tests need theirs.
	c, err := cluster.Start(t.Context(), cluster.Options{WithoutMetrics: true, WithoutPods: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	a, b := campaign(t, c.RESTConfig(), "default", "a"), campaign(t, c.RESTConfig(), "default", "b")
	neverTwo(t, a, b)
	term := func() leader.Term {
		if term := a.Term(); term.Leading() {
			return term
		}
		return b.Term()
	}
	var before leader.Term
	eventually(t, "a leader", func(context.Context) error {
		if before = term(); !before.Leading() {
			return errors.New("there is none")
		}
		return nil
	})
	if err := c.PauseAPIServer(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the term", func(context.Context) error {
		if now := term(); now.Leading() {
			return fmt.Errorf("%s leads until %s", now.Leader, now.Until)
		}
		return nil
	})
	if err := c.ResumeAPIServer(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another term", func(context.Context) error {
		now := term()
		if !now.Leading() {
			return errors.New("nobody leads")
		}
		if now.Leader == before.Leader && now.ID <= before.ID {
			t.Errorf("it is %+v, and was %+v", now, before)
		}
		return nil
	})
}
