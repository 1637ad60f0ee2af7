// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// shared is the control plane of all tests of a package.
var shared struct {
	mutex sync.Mutex
	// open is true while Run runs the tests; after it nobody would stop what
	// is started.
	open    bool
	cluster *Cluster
	err     error
}

// Main is the TestMain of a package whose tests use ForTest: it runs the tests,
// stops the control plane if one was started, fails when goroutines are left,
// and exits.
func Main(m *testing.M) {
	os.Exit(Run(m))
}

// Run is Main for a TestMain that has more to do: it returns the exit status.
func Run(m interface{ Run() int }) int {
	shared.mutex.Lock()
	shared.open = true
	shared.mutex.Unlock()
	status := m.Run()
	stopShared()
	if status != 0 {
		return status
	}
	if err := goleak.Find(); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines outlive the tests:", err)
		return 1
	}
	return 0
}

func stopShared() {
	shared.mutex.Lock()
	defer shared.mutex.Unlock()
	if shared.cluster != nil {
		shared.cluster.Stop()
	}
	shared.open, shared.cluster = false, nil
}

// ForTest returns the control plane that all tests of the package share,
// starting it, and building it on a new machine, for the first that asks. The
// test fails when that fails. The package's TestMain must call Main or Run. A
// test of faults that would disturb others starts its own with Start.
func ForTest(tb testing.TB) *Cluster {
	tb.Helper()
	shared.mutex.Lock()
	defer shared.mutex.Unlock()
	if !shared.open {
		tb.Fatal("this package's TestMain does not call cluster.Main, which would stop the control plane")
	}
	if shared.cluster == nil && shared.err == nil {
		ctx, cancel := withinDeadline(tb)
		defer cancel()
		shared.cluster, shared.err = Start(ctx, Options{Progress: os.Stderr})
	}
	if shared.err != nil {
		tb.Fatal(shared.err)
	}
	return shared.cluster
}

// withinDeadline returns the context of a test that ends shortly before `go
// test` gives up on the package, so that a start that is too slow says so.
func withinDeadline(tb testing.TB) (context.Context, context.CancelFunc) {
	tb.Helper()
	if limited, ok := tb.(interface{ Deadline() (time.Time, bool) }); ok {
		if deadline, ok := limited.Deadline(); ok {
			return context.WithDeadlineCause(tb.Context(), deadline.Add(-15*time.Second), errors.New("the tests' deadline (go test -timeout) is near"))
		}
	}
	return context.WithCancel(tb.Context())
}

var notInNames = regexp.MustCompile(`[^a-z0-9]+`)

// Namespace creates a namespace for a test, named after it, and deletes it when
// the test ends.
func (c *Cluster) Namespace(tb testing.TB) string {
	tb.Helper()
	name := strings.Trim(notInNames.ReplaceAllString(strings.ToLower(tb.Name()), "-"), "-")
	namespaces := c.client.CoreV1().Namespaces()
	created, err := namespaces.Create(tb.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: fmt.Sprintf("%.40s-", name)},
	}, metav1.CreateOptions{})
	if err != nil {
		tb.Fatalf("creating the namespace of the test: %v", err)
	}
	tb.Cleanup(func() {
		// The test's own context has ended by now.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), 30*time.Second)
		defer cancel()
		if err := namespaces.Delete(ctx, created.Name, metav1.DeleteOptions{}); err != nil {
			tb.Errorf("deleting the namespace of the test: %v", err)
		}
	})
	if err := c.wait(tb.Context(), "the service account of the namespace "+created.Name, func(ctx context.Context) error {
		return c.namespaceReady(ctx, created.Name)
	}); err != nil {
		tb.Fatal(err)
	}
	return created.Name
}
