// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package leader

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// candidate is an Elector that runs in the background of a synctest bubble.
type candidate struct {
	*Elector
	link *link
	log  *strings.Builder
	stop func()
}

func campaign(t *testing.T, l *ledger, name string) *candidate {
	t.Helper()
	return campaignWith(t, &link{ledger: l}, name)
}

func campaignWith(t *testing.T, through *link, name string) *candidate {
	t.Helper()
	c := &candidate{link: through, log: &strings.Builder{}}
	c.Elector = newElector(through, Options{
		Namespace: "shop", Name: "web", Identity: name,
		LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		Log: slog.New(slog.NewTextHandler(c.log, nil)),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := c.Run(ctx); err != nil {
			t.Error(err)
		}
		through.arriving.Wait()
	}()
	c.stop = func() {
		cancel()
		<-ended
	}
	t.Cleanup(c.stop)
	synctest.Wait()
	return c
}

// becomes waits until the candidate leads or does not, for a minute at most,
// and returns how long that took.
func (c *candidate) becomes(t *testing.T, leading bool) time.Duration {
	t.Helper()
	began := time.Now()
	for synctest.Wait(); c.Term().Leading() != leading; {
		if time.Since(began) > time.Minute {
			t.Fatalf("leading is %t for a minute", !leading)
		}
		elapse(10 * time.Millisecond)
	}
	return time.Since(began)
}

func (c *candidate) logs(t *testing.T, lines ...string) {
	t.Helper()
	log := c.log.String()
	for _, line := range lines {
		if strings.Count(log, line) != 1 {
			t.Errorf("the log does not say %q once:\n%s", line, log)
		}
	}
}

func TestTheFirstLeadsAndTheSecondStandsBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		began := time.Now()
		a := campaign(t, l, "a")
		if diff := cmp.Diff(Term{ID: 1, Leader: "a", Until: began.Add(renewDeadline)}, a.Term()); diff != "" {
			t.Error("at first (-want +got):\n" + diff)
		}
		want := record{holder: "a", seconds: 15, acquired: began.UnixMicro(), renewed: began.UnixMicro()}
		if got := l.read(); got != want {
			t.Errorf("the lease is %+v, want %+v", got, want)
		}
		b := campaign(t, l, "b")
		if diff := cmp.Diff(Term{Leader: "a"}, b.Term()); diff != "" {
			t.Error("the second (-want +got):\n" + diff)
		}

		elapse(time.Hour)
		term := a.Term()
		if left := time.Until(term.Until); term.ID != 1 || left < renewDeadline-retryPeriod || left > renewDeadline {
			t.Errorf("an hour later: %+v, for another %s", term, left)
		}
		got := l.read()
		want.renewed = got.renewed
		if got != want || time.Since(time.UnixMicro(got.renewed)) > retryPeriod {
			t.Errorf("the lease is %+v, want %+v, and renewed", got, want)
		}
		// At most a fifth more than one each period.
		if most := int(time.Hour/retryPeriod) * 5 / 4; a.link.requests() > most || b.link.requests() > most {
			t.Errorf("%d and %d requests in an hour, want %d at most", a.link.requests(), b.link.requests(), most)
		}
		if diff := cmp.Diff(Term{Leader: "a"}, b.Term()); diff != "" {
			t.Error("the second (-want +got):\n" + diff)
		}
		a.logs(t, `msg="Gained the leadership" lease=shop/web identity=a`)
		b.logs(t, `msg="Another replica leads" lease=shop/web leader=a`)
		if lines := strings.Count(a.log.String()+b.log.String(), "\n"); lines != 2 {
			t.Errorf("%d lines in the logs", lines)
		}
	})
}

func TestACleanStopHandsOverWithinARetryPeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		a, b := campaign(t, l, "a"), campaign(t, l, "b")
		elapse(31 * time.Second)
		stopped := time.Now()
		a.stop()
		want := record{seconds: 1, acquired: stopped.UnixMicro(), renewed: stopped.UnixMicro()}
		if got := l.read(); got != want {
			t.Errorf("the lease is %+v, want %+v", got, want)
		}
		if term := a.Term(); term != (Term{}) {
			t.Errorf("it stopped with %+v", term)
		}
		if took := b.becomes(t, true); took > retryPeriod {
			t.Errorf("it took %s", took)
		}
		if got := l.read(); got.holder != "b" || got.transitions != 1 || got.seconds != 15 {
			t.Errorf("the lease is %+v", got)
		}
		a.logs(t, `msg="Lost the leadership" lease=shop/web identity=a reason="this process stops"`)
	})
}

func TestWhoeverNeverHeldTheLeaseReleasesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		a, b := campaign(t, l, "a"), campaign(t, l, "b")
		before, asked := l.read(), b.link.requests()
		b.stop()
		if l.read() != before || b.link.requests() != asked || !a.Term().Leading() {
			t.Errorf("the lease is %+v, %d requests more", l.read(), b.link.requests()-asked)
		}
	})
}

// A leader that dies is replaced when nobody has heard of it for the lease
// duration: whoever looks last after its last renewal heard of it a retry
// period later.
func TestACrashHandsOverWhenTheLeaseHasRunOut(t *testing.T) {
	for i := range 50 {
		synctest.Test(t, func(t *testing.T) {
			l := &ledger{}
			a, b := campaign(t, l, "a"), campaign(t, l, "b")
			elapse(time.Minute + time.Duration(i)*50*time.Millisecond)
			a.link.cut()
			crashed, renewed := time.Now(), time.UnixMicro(l.read().renewed)
			b.becomes(t, true)
			if took := time.Since(renewed); took < leaseDuration || took > leaseDuration+retryPeriod {
				t.Errorf("%s after the last renewal, %s after the crash", took, time.Since(crashed))
			}
		})
	}
}

// The API server is away for a leader, but not for the other: the term ends on
// time by itself, before the other's begins.
func TestALeaderThatIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		a, b := campaign(t, l, "a"), campaign(t, l, "b")
		elapse(time.Minute)
		drain(a)
		drain(b)
		until := a.Term().Until
		a.link.cut()
		a.becomes(t, false)
		if now := time.Now(); now.Before(until) || now.Sub(until) > 10*time.Millisecond {
			t.Errorf("the term ended %s after its end", now.Sub(until))
		}
		if !drain(a) {
			t.Error("no signal that the term ended")
		}
		if term := a.Term(); term != (Term{}) {
			t.Errorf("nobody is known to lead, got %+v", term)
		}
		b.becomes(t, true)
		if !drain(b) {
			t.Error("no signal that a term began")
		}
		a.link.troubled(nil)
		elapse(renewDeadline)
		if term := a.Term(); term != (Term{Leader: "b"}) || !drain(a) {
			t.Errorf("back again: %+v", term)
		}
		a.logs(t,
			`msg="Lost the leadership" lease=shop/web identity=a reason="the lease could not be renewed within 10s: context deadline exceeded"`,
			`level=WARN msg="The leader election fails; trying again" lease=shop/web every=2s error="context deadline exceeded"`,
			`msg="Another replica leads" lease=shop/web leader=b`)
		// A follower that is cut off knows the leader for as long as it must lead.
		a.link.cut()
		elapse(leaseDuration + retryPeriod)
		if term := a.Term(); term != (Term{}) || !drain(a) {
			t.Errorf("cut off: %+v", term)
		}
	})
}

func drain(c *candidate) (changed bool) {
	select {
	case <-c.Changed():
		return true
	default:
		return false
	}
}

// The API server is away for all: nobody leads, and the lease still names the
// old leader when it is back. That is another term.
func TestAnAPIServerThatIsAwayEndsTheTerm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		a := campaign(t, l, "a")
		a.link.cut()
		a.becomes(t, false)
		elapse(time.Hour)
		a.link.troubled(nil)
		a.becomes(t, true)
		if term := a.Term(); term.ID != 2 {
			t.Errorf("got %+v, want term 2", term)
		}
		if got := l.read(); got.transitions != 0 {
			t.Errorf("the lease is %+v, which has not changed hands", got)
		}
	})
}

// The term goes on when less than that goes wrong.
func TestAShortFailureDoesNotEndTheTerm(t *testing.T) {
	for name, what := range map[string]trouble{
		"a request is lost":            {lostThere: true},
		"an answer is lost":            {lostBack: true},
		"an answer is late":            {back: 6 * time.Second},
		"a request is late":            {there: 6 * time.Second},
		"an error":                     {refused: apierrors.NewInternalError(errors.New("etcd has no leader"))},
		"a conflict":                   {refused: apierrors.NewConflict(resourceName, "web", errors.New("said by chance"))},
		"all take a second each way":   {there: time.Second, back: time.Second},
		"the process stands for a bit": {stuck: 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &ledger{}
				a, b := campaign(t, l, "a"), campaign(t, l, "b")
				for range 20 {
					elapse(20 * time.Second)
					once := true
					a.link.troubled(func(string) (now trouble) {
						if once || strings.HasPrefix(name, "all") {
							now = what
						}
						once = false
						return now
					})
				}
				if term := a.Term(); term.ID != 1 || b.Term() != (Term{Leader: "a"}) {
					t.Errorf("got %+v and %+v", term, b.Term())
				}
			})
		})
	}
}

// The answer to a claim is lost: the next try finds that it arrived.
func TestALostAnswerToTheFirstClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		once := true
		a := campaignWith(t, &link{ledger: l, trouble: func(verb string) (now trouble) {
			if verb == "create" && once {
				once, now.lostBack = false, true
			}
			return now
		}}, "a")
		if a.Term().Leading() {
			t.Error("it leads, and cannot know")
		}
		if took := a.becomes(t, true); took > renewDeadline/3+retryPeriod {
			t.Errorf("it took %s", took)
		}
	})
}

// A claim arrives when the process has been told to stop: it is undone.
func TestAStopInTheMiddleOfAClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		a := campaignWith(t, &link{ledger: l, trouble: func(verb string) (now trouble) {
			if verb == "create" {
				now.back = time.Minute
			}
			return now
		}}, "a")
		elapse(time.Second)
		a.stop()
		if got := l.read(); got.holder != "" {
			t.Errorf("the lease is %+v", got)
		}
	})
}

func TestAStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := campaign(t, &ledger{}, "a")
		a.link.cut()
		began := time.Now()
		a.stop()
		if took := time.Since(began); took > releaseTimeout {
			t.Errorf("it took %s", took)
		}
		a.logs(t, `level=WARN msg="Releasing the lease failed: another replica leads when it has run out" lease=shop/web after=15s`)
	})
}

// Term compares with the clock: whatever became of Run.
func TestATermEndsWhileRunHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		a := campaign(t, l, "a")
		until := a.Term().Until
		a.link.troubled(func(string) trouble { return trouble{stuck: time.Hour} })
		elapse(retryPeriod)
		// The renewal arrived, but its answer is read an hour later.
		elapse(time.Until(until) - 1)
		if term := a.Term(); !term.Leading() {
			t.Error("the term ended too soon")
		}
		elapse(1)
		if term := a.Term(); term.Leading() {
			t.Errorf("it leads on: %+v", term)
		}
		b := campaign(t, l, "b")
		b.becomes(t, true)
		a.link.troubled(nil)
		elapse(time.Hour)
		if term := a.Term(); term != (Term{Leader: "b"}) {
			t.Errorf("an hour later: %+v", term)
		}
	})
}

func TestALeaseThatIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		a, b := campaign(t, l, "a"), campaign(t, l, "b")
		for range 20 {
			elapse(19 * time.Second)
			l.delete()
			elapse(retryPeriod)
			if !a.Term().Leading() || b.Term() != (Term{Leader: "a"}) || l.read().holder != "a" {
				t.Fatalf("got %+v, %+v, %+v", a.Term(), b.Term(), l.read())
			}
		}
		// Another term each time: somebody may have led in between.
		if term := a.Term(); term.ID != 21 {
			t.Errorf("got %+v", term)
		}
		// Its holder is cut off: it may lead until it could not any more.
		a.link.cut()
		until := a.Term().Until
		elapse(1)
		l.delete()
		b.becomes(t, true)
		if time.Now().Before(until) {
			t.Errorf("it leads %s before the other's term ends", time.Until(until))
		}
	})
}

// What others write into the Lease is taken as it is.
func TestALeaseThatSomebodyElseWrote(t *testing.T) {
	now := new(metav1.NewMicroTime(time.Now()))
	for _, test := range []struct {
		name string
		spec coordinationv1.LeaseSpec
		// waits is how long it is respected, want what is written then.
		waits time.Duration
		want  record
	}{
		{name: "nothing at all", want: record{holder: "a", seconds: 15, transitions: 1}},
		{
			name: "released", spec: coordinationv1.LeaseSpec{HolderIdentity: new(""), LeaseDurationSeconds: new(int32(3600)), LeaseTransitions: new(int32(4))},
			want: record{holder: "a", seconds: 15, transitions: 5},
		},
		{
			name: "held, without a duration", spec: coordinationv1.LeaseSpec{HolderIdentity: new("x")},
			waits: leaseDuration, want: record{holder: "a", seconds: 15, transitions: 1},
		},
		{
			name: "held, for a negative duration", spec: coordinationv1.LeaseSpec{HolderIdentity: new("x"), LeaseDurationSeconds: new(int32(-5))},
			waits: leaseDuration, want: record{holder: "a", seconds: 15, transitions: 1},
		},
		{
			name: "held for longer than ours, since the far future",
			spec: coordinationv1.LeaseSpec{
				HolderIdentity: new("x"), LeaseDurationSeconds: new(int32(40)), RenewTime: new(metav1.NewMicroTime(now.AddDate(100, 0, 0))),
			},
			waits: 40 * time.Second, want: record{holder: "a", seconds: 15, transitions: 1},
		},
		{
			name:  "held, since long ago",
			spec:  coordinationv1.LeaseSpec{HolderIdentity: new("x"), LeaseDurationSeconds: new(int32(5)), RenewTime: new(metav1.MicroTime{})},
			waits: 5 * time.Second, want: record{holder: "a", seconds: 15, transitions: 1},
		},
		{
			name: "as many transitions as there can be", spec: coordinationv1.LeaseSpec{LeaseTransitions: new(int32(math.MaxInt32))},
			want: record{holder: "a", seconds: 15},
		},
		{name: "fewer transitions than none", spec: coordinationv1.LeaseSpec{LeaseTransitions: new(int32(-7))}, want: record{holder: "a", seconds: 15}},
		{
			name: "ours already", spec: coordinationv1.LeaseSpec{HolderIdentity: new("a"), LeaseTransitions: new(int32(3)), AcquireTime: now},
			want: record{holder: "a", seconds: 15, transitions: 3, acquired: now.UnixMicro()},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &ledger{}
				l.at(func(spec *coordinationv1.LeaseSpec) { *spec = test.spec })
				l.lease.Labels = map[string]string{"team": "shop"}
				a := campaign(t, l, "a")
				if took := a.becomes(t, true); took != test.waits {
					t.Errorf("it waited %s, want %s", took, test.waits)
				}
				got := l.read()
				test.want.renewed = time.Now().UnixMicro()
				if test.want.acquired == 0 {
					test.want.acquired = test.want.renewed
				}
				if got != test.want {
					t.Errorf("the lease is %+v, want %+v", got, test.want)
				}
				if l.lease.Labels["team"] != "shop" {
					t.Error("the label is gone")
				}
			})
		})
	}
}

// Somebody hands the lease over by hand, or takes it away.
func TestALeaseThatIsTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		a := campaign(t, l, "a")
		l.at(func(spec *coordinationv1.LeaseSpec) { spec.HolderIdentity = new("x") })
		elapse(retryPeriod)
		if term := a.Term(); term != (Term{Leader: "x"}) {
			t.Errorf("got %+v", term)
		}
		a.logs(t, `msg="Lost the leadership" lease=shop/web identity=a reason="x took the lease"`, `msg="Another replica leads" lease=shop/web leader=x`)
		a.becomes(t, true)
		l.at(func(spec *coordinationv1.LeaseSpec) { spec.HolderIdentity = nil })
		elapse(retryPeriod)
		if term := a.Term(); term.ID != 3 {
			t.Errorf("got %+v, want another term", term)
		}
		a.logs(t, `reason="the lease was released by somebody else"`)
	})
}

// A change that is no renewal, such as a label that somebody sets again and
// again, does not keep a dead leader in office.
func TestOnlyTheRecordCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		l.at(func(spec *coordinationv1.LeaseSpec) {
			spec.HolderIdentity, spec.LeaseDurationSeconds = new("x"), new(int32(15))
		})
		a := campaign(t, l, "a")
		for range 14 {
			elapse(time.Second)
			l.at(func(*coordinationv1.LeaseSpec) {})
		}
		if took := a.becomes(t, true); took > time.Second {
			t.Errorf("it took %s more", took)
		}
	})
}

func TestForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		forbidden := apierrors.NewForbidden(resourceName, "web", errors.New(`User "x" cannot get resource`))
		a := campaignWith(t, &link{ledger: &ledger{}, trouble: func(string) trouble { return trouble{refused: forbidden} }}, "a")
		elapse(time.Hour)
		const says = `level=ERROR msg="The leader election is forbidden: allow the service account the verbs get, create and update on ` +
			`leases.coordination.k8s.io in the lease's namespace" lease=shop/web error="leases.coordination.k8s.io \"web\" is forbidden: ` +
			`User \"x\" cannot get resource"`
		a.logs(t, says)
		if lines := strings.Count(a.log.String(), "\n"); lines != 1 {
			t.Errorf("%d lines in the log", lines)
		}
		a.link.troubled(nil)
		if took := a.becomes(t, true); took > retryPeriod {
			t.Errorf("it took %s", took)
		}
		// It is news again, and not the same as before.
		a.link.troubled(func(string) trouble { return trouble{refused: errors.New("away")} })
		elapse(time.Minute)
		a.link.troubled(func(string) trouble { return trouble{refused: forbidden} })
		elapse(time.Minute)
		if got := strings.Count(a.log.String(), says); got != 2 {
			t.Errorf("%d times in the log:\n%s", got, a.log.String())
		}
		a.logs(t, `msg="The leader election fails; trying again" lease=shop/web every=2s error=away`)
	})
}

func TestIdentityIsUnique(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		identity := Identity()
		if seen[identity] || !strings.Contains(identity, "_") {
			t.Fatalf("got %q", identity)
		}
		seen[identity] = true
	}
}
