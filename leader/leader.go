// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package leader elects which of several replicas of this process runs, by a
// Lease.
//
// It does what client-go's leader election does with the same object, so that
// the two may compete for one Lease, and tells besides until when a replica may
// be sure that it leads (docs/decisions/0005-own-leader-election.md):
//
//   - The leader renews the Lease each RetryPeriod. Its term goes on until
//     RenewDeadline after it sent the last request that succeeded.
//   - Another replica takes over when it has seen no change of the Lease for
//     the LeaseDuration that is written in it, by its own clock. The times
//     written in it are for people: clocks may differ.
//   - Every update carries the resource version of what was read, so that of
//     several that try at once, however late their requests arrive, one wins.
//
// RenewDeadline is less than LeaseDuration, so nobody else leads before the
// leader has stopped being sure. Two things it cannot know: clocks must not
// run at rates that differ by more than LeaseDuration to RenewDeadline, nor
// stand still while the machine is suspended; and whoever deletes the Lease by
// hand lets a replica that just started lead at once.
package leader

import (
	"crypto/rand"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/client-go/rest"
)

// Term is who leads, at a moment.
type Term struct {
	// ID is the term in which this process leads: another one each time it
	// becomes the leader. 0 when it does not lead.
	ID uint64
	// Leader is the identity of whoever leads; empty when nobody is known to.
	Leader string
	// Until is when this process stops being sure that it leads, unless it
	// renews the lease: what it writes must be done by then. Zero when it does
	// not lead.
	Until time.Time
}

// Leading says whether this process leads.
func (t Term) Leading() bool { return t.ID != 0 }

// Options say for which Lease an Elector campaigns, and how. All of them are
// required.
type Options struct {
	// Namespace and Name are the Lease's. It is created when it is not there.
	Namespace, Name string
	// Identity is this process's own, which no other candidate ever has had:
	// see Identity.
	Identity string
	// LeaseDuration is how long others wait for a leader that they do not hear
	// of. In the Lease it is rounded up to whole seconds.
	LeaseDuration time.Duration
	// RenewDeadline is how long a leader that cannot renew the Lease goes on;
	// less than LeaseDuration.
	RenewDeadline time.Duration
	// RetryPeriod is how often the Lease is renewed, or tried for; less than
	// RenewDeadline.
	RetryPeriod time.Duration
	// Log gets one line when the leadership is gained and lost, and when
	// somebody else is seen to lead.
	Log *slog.Logger
}

// Identity makes an identity for this process: the name of its host, which in
// a pod is the pod's, and something random, so that a process that is started
// again never takes itself for the one before it.
func Identity() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	return host + "_" + strings.ToLower(rand.Text()[:10])
}

// Elector campaigns for a Lease and knows who leads. Term and Changed may be
// called at any time from anywhere; Run runs once at a time.
type Elector struct {
	leases  leases
	o       Options
	changed chan struct{}

	mu sync.Mutex
	// term is the latest one of this process, and until its end.
	term  uint64
	until time.Time
	// seen is what the Lease said last, and since when it says so.
	seen  record
	since time.Time

	// What follows belongs to Run. lease is the object as it was last read or
	// written, nil when there is none; a write is based on it.
	lease *coordinationv1.Lease
	// claimed says that the Lease may name this process: a write that says so
	// was sent, and its answer may have been lost.
	claimed bool
	// announced is the Term that was last logged and signalled, lost the reason
	// why it ended before its time, and failure the last failure there was.
	announced Term
	lost      string
	failure   failure
}

// New makes an Elector that uses the client of coordination.k8s.io
// (resource.Clients.Coordination). It needs get, create and update on leases.
func New(client rest.Interface, o Options) *Elector {
	return newElector(restLeases{client: client, namespace: o.Namespace, name: o.Name}, o)
}

func newElector(l leases, o Options) *Elector {
	o.Log = o.Log.With("lease", o.Namespace+"/"+o.Name)
	return &Elector{leases: l, o: o, changed: make(chan struct{}, 1)}
}

// Term is who leads now. It compares with the clock, so it ends with Until even
// when Run hangs, or when the process was stopped meanwhile.
func (e *Elector) Term() Term {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if now.Before(e.until) {
		return Term{ID: e.term, Leader: e.o.Identity, Until: e.until}
	}
	if e.seen.holder != e.o.Identity && now.Before(e.expiry()) {
		return Term{Leader: e.seen.holder}
	}
	return Term{}
}

// Changed receives when a term of this process began or ended, or somebody else
// leads: ask Term who. It is for one receiver, and changes that follow one
// another before it receives are one. It says that a term ended soon after it
// did; Term knows at once.
func (e *Elector) Changed() <-chan struct{} { return e.changed }

// expiry is when the lease runs out that was last seen, unless it changes; the
// past when there is none. e.mu is held.
func (e *Elector) expiry() time.Time {
	if e.seen.holder == "" {
		return time.Time{}
	}
	if e.seen.seconds <= 0 {
		// It does not say how long; as long as ours would be.
		return e.since.Add(e.o.LeaseDuration)
	}
	return e.since.Add(time.Duration(e.seen.seconds) * time.Second)
}
