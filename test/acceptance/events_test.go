// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package acceptance

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

// events are ours about the Deployment, found the way kubectl describe does,
// oldest first.
func (d deployment) events(ctx context.Context) ([]corev1.Event, error) {
	about, err := d.client.AppsV1().Deployments(d.namespace).Get(ctx, "web", metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	list, err := d.client.CoreV1().Events(d.namespace).SearchWithContext(ctx, scheme.Scheme, about)
	if err != nil {
		return nil, err
	}
	ours := slices.DeleteFunc(list.Items, func(e corev1.Event) bool { return e.ReportingController != "custom-pod-autoscaler" })
	slices.SortStableFunc(ours, func(a, b corev1.Event) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return ours, nil
}

// waitForEvents waits until the Deployment has these, "type reason xCOUNT
// message", and returns all there are.
func (d deployment) waitForEvents(want ...string) []corev1.Event {
	d.t.Helper()
	var events []corev1.Event
	eventually(d.t, "events", func(ctx context.Context) (err error) {
		if events, err = d.events(ctx); err != nil {
			return err
		}
		got := make([]string, 0, len(events))
		for _, e := range events {
			got = append(got, fmt.Sprintf("%s %s x%d %s", e.Type, e.Reason, e.Count, e.Message))
		}
		for _, line := range want {
			if !slices.Contains(got, line) {
				return fmt.Errorf("no %q in\n%s", line, strings.Join(got, "\n"))
			}
		}
		return nil
	})
	return events
}

func TestEventsTellWhatChanges(t *testing.T) {
	d := deploy(t, cluster.ForTest(t), 2)
	p := d.start(wantsConfig(""))

	d.waitForEvents("Warning RunFailed x1 evaluate: exit status 1")
	p.wants(`{"targetReplicas": 4, "reason": "it is noon"}`)
	d.waitForEvents(
		"Normal SuccessfulRescale x1 New size: 4; reason: evaluated 4 (it is noon)",
		"Normal RunRecovered x1 Runs succeed again",
	)
	p.wants(`{"targetReplicas": 14}`)
	d.waitForEvents(
		"Normal SuccessfulRescale x1 New size: 10; reason: evaluated 14, capped to 10 (maxReplicas is 10)",
		"Normal ScalingLimited x1 evaluated 14, capped to 10 (maxReplicas is 10)",
	)
	mark := p.mark()
	p.wants(`fourteen`)
	for range 20 {
		mark = p.waitForLineAfter(mark, `msg="Run failed"`)
	}
	events := d.waitForEvents()
	if len(events) > 6 { // five, and a minute after the first failure the other one
		t.Errorf("%d events", len(events))
	}
	for _, e := range events {
		if !strings.HasPrefix(e.Name, "web.") || e.Source.Component != "custom-pod-autoscaler" || e.ReportingInstance == "" ||
			time.Since(e.LastTimestamp.Time) > time.Hour || e.FirstTimestamp.IsZero() {
			t.Errorf("%+v", e)
		}
	}
}

// waitForLineAfter waits for a line after the mark that matches, and returns
// the mark behind it.
func (p *process) waitForLineAfter(mark int, pattern string) int {
	p.t.Helper()
	line := p.waitForLine(mark, pattern)
	return mark + slices.Index(p.log()[mark:], line) + 1
}

// Nothing but a Deployment's Events is different without the right to make
// them, as with the Roles of the original.
func TestEventsMayBeForbidden(t *testing.T) {
	c := cluster.ForTest(t)
	d := deploy(t, c, 2)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	if err := c.WriteServiceAccountKubeconfig(t.Context(), kubeconfig, d.namespace, "scaler"); err != nil {
		t.Fatal(err)
	}
	d.grant("scaler",
		rbacv1.PolicyRule{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: []string{"get"}},
		rbacv1.PolicyRule{APIGroups: []string{"apps"}, Resources: []string{"deployments/scale"}, Verbs: []string{"get", "patch"}},
		rbacv1.PolicyRule{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"list"}},
	)
	p := start(t, settings{cluster: c, namespace: d.namespace, kubeconfig: kubeconfig, config: wantsConfig("")})
	for i := range int32(6) {
		p.wants(fmt.Sprintf(`{"targetReplicas": %d}`, 3+i))
		d.waitForReplicas(3 + i)
	}
	p.waitForLine(0, `level=WARN msg="No Events are made: the service account may not\. Grant it the verbs create and patch on the resource events `)
	if count := strings.Count(strings.Join(p.log(), "\n"), "No Events are made"); count != 1 {
		t.Errorf("%d warnings", count)
	}
	if events := d.waitForEvents(); len(events) > 0 {
		t.Errorf("there are %v", events)
	}
}

// grant lets a service account do something in the namespace.
func (d deployment) grant(account string, rules ...rbacv1.PolicyRule) {
	d.t.Helper()
	meta := metav1.ObjectMeta{Name: account}
	_, err := d.client.RbacV1().Roles(d.namespace).Create(d.t.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{})
	if err == nil {
		_, err = d.client.RbacV1().RoleBindings(d.namespace).Create(d.t.Context(), &rbacv1.RoleBinding{
			ObjectMeta: meta,
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: account},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: d.namespace, Name: account}},
		}, metav1.CreateOptions{})
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// An hour of failing runs, told to a real API server: one Event that is
// brought up to date, and made anew when it has gone.
func TestEventsAreRefreshed(t *testing.T) {
	c := cluster.ForTest(t)
	d := deploy(t, c, 1)
	about, err := d.client.AppsV1().Deployments(d.namespace).Get(t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var requests atomic.Int32
	to := c.RESTConfig()
	to.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			requests.Add(1)
			return next.RoundTrip(r)
		})
	})
	clients, err := resource.Connect(to, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { clients.Core.(*rest.RESTClient).Client.CloseIdleConnections() })
	observer := autoscaler.NewEventObserver(clients.Core, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- observer.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})

	began := time.Now().Add(-time.Hour).Truncate(time.Second)
	failing := func(from, to time.Duration, message string) {
		for at := from; at < to; at += time.Second {
			observer.Observe(autoscaler.Record{
				ID: "web", Time: began.Add(at), Trigger: autoscaler.Trigger{RunType: execute.RunScaler, Through: autoscaler.ThroughScale},
				Target:   corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: d.namespace, Name: "web", UID: about.UID},
				Failure:  &autoscaler.Failure{Stage: execute.StageEvaluate, Kind: execute.KindExit, Message: message},
				Decision: &scale.Decision{Current: 1, Desired: 1},
			})
		}
	}
	failing(0, 30*time.Minute, "exit status 4")
	d.waitForEvents("Warning RunFailed x1 evaluate: exit status 4")
	long := strings.Repeat("\u00e4\xff", 1000)
	failing(30*time.Minute, 60*time.Minute, long)
	cut := "evaluate: " + strings.Repeat("\u00e4?", 337) + "..."
	events := d.waitForEvents("Warning RunFailed x1801 " + cut)
	if requests.Load() != 2 {
		t.Errorf("%d requests", requests.Load())
	}
	if len(events) != 1 || !events[0].FirstTimestamp.Equal(new(metav1.NewTime(began))) ||
		!events[0].LastTimestamp.Equal(new(metav1.NewTime(began.Add(30*time.Minute)))) {
		t.Errorf("%+v", events)
	}

	if err := d.client.CoreV1().Events(d.namespace).Delete(t.Context(), events[0].Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	failing(60*time.Minute, 61*time.Minute, "exit status 4")
	d.waitForEvents("Warning RunFailed x3601 evaluate: exit status 4")
}

// roundTrip makes requests.
type roundTrip func(*http.Request) (*http.Response, error)

func (r roundTrip) RoundTrip(request *http.Request) (*http.Response, error) { return r(request) }
