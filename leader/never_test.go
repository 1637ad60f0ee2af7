// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package leader

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Many candidates, hours, and everything that can go wrong: never do two lead
// at the same instant.
func TestNeverTwoLeaders(t *testing.T) {
	seed := rand.Uint64() //nolint:gosec // It only has to differ.
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // It need not be secret.
	for _, many := range []int{2, 5} {
		for _, calm := range []float64{0.5, 0.9, 0.99} {
			t.Run(fmt.Sprintf("%d candidates, %g of the requests undisturbed", many, calm), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { neverTwo(t, many, calm, random) })
			})
		}
	}
}

func neverTwo(t *testing.T, many int, calm float64, random *rand.Rand) {
	t.Helper()
	var mu sync.Mutex // guards random
	upTo := func(most time.Duration) time.Duration { return time.Duration(random.Int64N(int64(most))) }
	l := &ledger{}
	outage := time.Now()
	var candidates []*candidate
	begin := func(name string) *candidate {
		var cutOff time.Time
		mu.Lock()
		through := &link{ledger: l, skew: upTo(20*time.Minute) - 10*time.Minute}
		mu.Unlock()
		through.troubled(func(string) (now trouble) {
			mu.Lock()
			defer mu.Unlock()
			now.there, now.back = upTo(20*time.Millisecond), upTo(20*time.Millisecond)
			if random.Float64() < calm {
				now.lostThere = time.Now().Before(outage) || time.Now().Before(cutOff)
				return now
			}
			switch random.IntN(8) {
			case 0:
				now.lostThere = true
			case 1:
				now.lostBack = true
			case 2:
				now.there = upTo(40 * time.Second)
			case 3:
				now.back = upTo(40 * time.Second)
			case 4:
				now.stuck = upTo(60 * time.Second)
			case 5:
				now.refused = apierrors.NewInternalError(errors.New("by chance"))
			case 6:
				cutOff = time.Now().Add(upTo(time.Minute))
			case 7:
				if random.IntN(4) == 0 {
					outage = time.Now().Add(upTo(time.Minute))
				}
			}
			return now
		})
		return campaignWith(t, through, name)
	}
	for i := range many {
		candidates = append(candidates, begin(fmt.Sprint("first", i)))
	}
	ever := slices.Clone(candidates)
	leading := 0
	const ticks = 3 * 60 * 60 / 5
	for i := range ticks {
		// A term begins at some instant within the tick, and is signalled then.
		tick := time.After(5 * time.Second)
		for ended := false; !ended; {
			ended = waitForAny(tick, candidates)
			synctest.Wait()
			var leaders []string
			for _, c := range ever {
				if c.Term().Leading() {
					leaders = append(leaders, c.o.Identity)
				}
			}
			if len(leaders) > 1 {
				t.Fatalf("after %s %v lead", time.Duration(i)*5*time.Second, leaders)
			}
			if ended {
				leading += len(leaders)
			}
		}
		if i%120 == 119 { // each ten minutes one is stopped and another one started
			mu.Lock()
			which := random.IntN(many)
			mu.Unlock()
			go candidates[which].stop()
			candidates[which] = begin(fmt.Sprint("later", i))
			ever = append(ever, candidates[which])
		}
	}
	t.Logf("somebody led for %.1f %% of the time, %d terms by the lease", 100*float64(leading)/ticks, l.read().transitions+1)
	if leading == 0 {
		t.Error("nobody ever led")
	}
}

// waitForAny waits for the tick or a change.
func waitForAny(tick <-chan time.Time, candidates []*candidate) (ticked bool) {
	var changed [5]<-chan struct{}
	for i, c := range candidates {
		changed[i] = c.Changed()
	}
	select {
	case <-tick:
		return true
	case <-changed[0]:
	case <-changed[1]:
	case <-changed[2]:
	case <-changed[3]:
	case <-changed[4]:
	}
	return false
}
