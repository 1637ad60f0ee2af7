// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// The window as a story: 8 is wanted, then 2; 8 is kept until the window has
// passed, and what was wanted meanwhile counts from when it was wanted.
func TestDownscaleWaitsForTheWindow(t *testing.T) {
	history, current := newHistory(30*time.Second), int32(8)
	history.Seed(epoch, current)
	for _, step := range []struct {
		at                time.Duration
		evaluated, expect int32
	}{
		{0, 8, 8},
		{10 * time.Second, 2, 8},
		{20 * time.Second, 5, 8},
		{30 * time.Second, 2, 5},
		{40 * time.Second, 2, 5},
		{50 * time.Second, 2, 2},
		{60 * time.Second, 9, 9},
		{61 * time.Second, 1, 9},
	} {
		now := epoch.Add(step.at)
		decision := decide(now, current, step.evaluated, between(1, 10), history)
		history.Record(now, decision)
		if decision.Desired != step.expect {
			t.Fatalf("at %s: %d replicas, want %d (%s)", step.at, decision.Desired, step.expect, decision.Explain())
		}
		current = decision.Desired
	}
}

func TestARestartKeepsWhatItFinds(t *testing.T) {
	history := newHistory(time.Minute)
	history.Seed(epoch, 7)
	history.Seed(epoch, 9)
	later := epoch.Add(10 * time.Second)
	want := "evaluated 1, held at 7 (7 was found at the start 10s ago, within the downscaleStabilization of 1m0s)"
	if d := decide(later, 7, 1, between(1, 10), history); d.Desired != 7 || d.Explain() != want {
		t.Errorf("just after the start: %d replicas (%s), want the 7 it found", d.Desired, d.Explain())
	}
	if d := decide(epoch.Add(time.Minute), 7, 1, between(1, 10), history); d.Desired != 1 {
		t.Errorf("one window later: %d replicas, want 1", d.Desired)
	}
}

func TestACloneChangesNothing(t *testing.T) {
	history := newHistory(time.Minute)
	history.record(Recommendation{Replicas: 5, At: epoch})
	clone := history.Clone()
	clone.Seed(epoch, 9)
	clone.record(Recommendation{Replicas: 7, At: epoch})
	history.Seed(epoch, 4)
	if highest, _ := history.highest(epoch); highest.Replicas != 5 {
		t.Errorf("highest is %d, want 5", highest.Replicas)
	}
}

func newHistories(up, down int32) *History {
	return NewHistory(config.Autoscaler{Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{
		ScaleUp:   &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &up},
		ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &down},
	}})
}

// Over random counts the history answers as a list of all of them, keeps few,
// and survives a hand-over as it is, through JSON and all.
func TestHistoryAgainstAPlainList(t *testing.T) {
	for seed := range uint64(40) {
		r := roll(seed)
		up, down := pick(r, int32(0), 20, 60, 200), pick(r, int32(0), 20, 60, 200)
		h, now := newHistories(up, down), epoch
		var all []sample
		for range 400 {
			now = now.Add(time.Duration(r.IntN(20)) * time.Second / 2)
			count := r.count(40)
			h.record(Recommendation{Replicas: count, At: now})
			all = append(all, sample{now, int64(count)})

			later := now.Add(time.Duration(r.IntN(90)) * time.Second)
			highest, isHigh := h.highest(later)
			lowest, isLow := h.lowest(later)
			wantHigh, wantLow := int64(-1), int64(1000)
			for _, one := range all {
				if one.at.After(later.Add(-time.Duration(down) * time.Second)) {
					wantHigh = max(wantHigh, one.value)
				}
				if one.at.After(later.Add(-time.Duration(up) * time.Second)) {
					wantLow = min(wantLow, one.value)
				}
			}
			if isHigh != (wantHigh != -1) || isHigh && int64(highest.Replicas) != wantHigh {
				t.Fatalf("seed %d: the highest is %v (%t), want %d", seed, highest, isHigh, wantHigh)
			}
			if isLow != (wantLow != 1000) || isLow && int64(lowest.Replicas) != wantLow {
				t.Fatalf("seed %d: the lowest is %v (%t), want %d", seed, lowest, isLow, wantLow)
			}
		}
		if len(h.highs.recommendations) > 40 || len(h.lows.recommendations) > 40 {
			t.Fatalf("seed %d: more is kept than there are counts", seed)
		}
	}
}

func TestAHandOverIsExact(t *testing.T) {
	for seed := range uint64(500) {
		r := roll(seed)
		up, down := pick(r, int32(0), 5, 60, 3600), pick(r, int32(0), 5, 60, 3600)
		h, now := newHistories(up, down), epoch
		for range r.IntN(200) {
			now = now.Add(time.Duration(r.IntN(pick(r, 10, 1000, 30_000))) * time.Millisecond)
			switch r.IntN(30) {
			case 0:
				h.Miss()
				now = now.Add(time.Hour)
			case 1:
				h.Seed(now, r.count(40))
			default:
				h.record(Recommendation{Replicas: r.count(40), At: now})
			}
		}
		text, err := json.Marshal(h.Window())
		if err != nil {
			t.Fatal(err)
		}
		var w Window
		if err := json.Unmarshal(text, &w); err != nil {
			t.Fatal(err)
		}
		restored := newHistories(up, down)
		restored.Restore(now, w)
		for _, part := range []struct{ was, is extremes }{{h.highs, restored.highs}, {h.lows, restored.lows}} {
			if len(part.was.recommendations)+len(part.is.recommendations) == 0 {
				continue
			}
			if diff := cmp.Diff(part.was.recommendations, part.is.recommendations); diff != "" {
				t.Fatalf("seed %d: the hand-over of %s changes (-was +is):\n%s", seed, text, diff)
			}
		}
	}
}

// An evaluation every millisecond, always lower than the one before it, would
// be kept in full. What is kept instead is bounded, and errs on the safe side.
func TestAHistoryIsBounded(t *testing.T) {
	const window, steps = 60, 200_000
	h := newHistories(window, window)
	at := func(step int) time.Time { return epoch.Add(time.Duration(step) * time.Millisecond) }
	for step := range steps {
		h.record(Recommendation{Replicas: int32(steps - step), At: at(step)})
		if step%1000 != 0 {
			continue
		}
		oldest := max(0, step-window*1000+1)
		got, _ := h.highest(at(step))
		want := int32(steps - oldest)
		slot := int32(window*1000/maxExtremes + 2)
		if got.Replicas < want || got.Replicas > want+slot {
			t.Fatalf("step %d: the highest is %d, want %d, or up to %d more", step, got.Replicas, want, slot)
		}
	}
	if n := len(h.highs.recommendations); n > maxExtremes+2 {
		t.Errorf("%d recommendations are kept", n)
	}
	if text, _ := json.Marshal(h.Window()); len(text) > 300_000 {
		t.Errorf("the hand-over takes %d bytes", len(text))
	}
}

// Trap 6: the HorizontalPodAutoscaler forgets everything in an outage of the
// metrics, and scales down at the first low one.
func TestAGapIsNotTheEndOfTheWindow(t *testing.T) {
	h := newHistories(60, 60)
	h.Seed(epoch, 8)
	h.record(Recommendation{Replicas: 8, At: epoch})
	later := epoch.Add(5 * time.Minute)

	h.Seed(later, 8)
	if _, ok := h.highest(later); ok {
		t.Error("an interval longer than the window counts as a gap")
	}
	h.Miss()
	h.Seed(later, 8)
	if r, ok := h.highest(later); !ok || r.told(later.Add(time.Second)) != "8 was found after a gap in the evaluations 1s ago" {
		t.Errorf("after a gap the highest is %v", r)
	}
	if r, ok := h.lowest(later); ok {
		t.Errorf("after a gap %v holds back scaling up", r)
	}
	h.Miss()
	h.Seed(later.Add(59*time.Second), 20)
	if r, _ := h.highest(later.Add(59 * time.Second)); r.Replicas != 8 {
		t.Errorf("a gap shorter than the window is seeded: %v", r)
	}
}

// The whole story: a fallback goes down while the hooks fail, and when they are
// back the count that there is by then is kept for a window.
func TestAGapWithAFallback(t *testing.T) {
	w := newWorld(config.Autoscaler{
		DownscaleStabilization: new(config.Seconds(60)),
		Fallback:               &config.Fallback{FailureThreshold: 1, Replicas: new(int32(4)), Behavior: config.FallbackStatic},
	}, 9, between(1, 10))
	w.kept.Fallback = true
	for _, step := range []struct {
		after   time.Duration
		wanted  *int32
		desired int32
	}{
		{0, new(int32(9)), 9},
		{30 * time.Second, nil, 9},
		{30 * time.Second, nil, 4},
		{10 * time.Minute, nil, 4},
		{15 * time.Second, new(int32(1)), 4},
		{59 * time.Second, new(int32(1)), 4},
		{1 * time.Second, new(int32(1)), 1},
		{10 * time.Minute, new(int32(7)), 7},
		{10 * time.Minute, new(int32(2)), 2},
	} {
		w.now = w.now.Add(step.after)
		d := w.evaluated(step.wanted)
		w.write(d)
		if d.Desired != step.desired {
			t.Fatalf("at %s: %d replicas (%s), want %d", w.now.Sub(epoch), d.Desired, d.Explain(), step.desired)
		}
	}
}

func TestThePrepareOfAFirstRunThatFails(t *testing.T) {
	w := newWorld(config.Autoscaler{DownscaleStabilization: new(config.Seconds(60))}, 9, between(1, 10))
	w.evaluated(nil)
	w.now = w.now.Add(59 * time.Second)
	if d := w.evaluated(new(int32(2))); d.Desired != 9 {
		t.Errorf("59s after the first run: %s", d.Explain())
	}
	w.now = w.now.Add(time.Second)
	if d := w.evaluated(new(int32(2))); d.Desired != 2 {
		t.Errorf("a window after the first run: %s", d.Explain())
	}
}

// Somebody enables a target again, by hand: the count they set is held for a
// window, like one found at the start.
func TestATargetThatIsEnabledAgain(t *testing.T) {
	w := newWorld(config.Autoscaler{DownscaleStabilization: new(config.Seconds(60))}, 0, between(1, 10))
	w.evaluated(new(int32(2)))
	w.current = 7
	for _, step := range []struct {
		after   time.Duration
		desired int32
	}{{time.Second, 7}, {59 * time.Second, 7}, {time.Second, 2}} {
		w.now = w.now.Add(step.after)
		if d := w.evaluated(new(int32(2))); d.Desired != step.desired {
			t.Errorf("at %s: %s", w.now.Sub(epoch), d.Explain())
		}
	}
}

// A process that takes over long after the hand-over finds a window that is
// over: the count there is holds for another.
func TestALateHandOver(t *testing.T) {
	h := newHistories(60, 60)
	h.Restore(epoch.Add(time.Hour), Window{{Replicas: 3, At: epoch}})
	h.Seed(epoch.Add(time.Hour), 8)
	if r, ok := h.highest(epoch.Add(time.Hour)); !ok || r.Replicas != 8 {
		t.Errorf("the highest is %v", r)
	}
	fresh := newHistories(60, 60)
	fresh.Restore(epoch, nil)
	fresh.Seed(epoch, 5)
	if r, ok := fresh.lowest(epoch); !ok || r.Replicas != 5 {
		t.Error("nothing was handed over, and nothing is seeded")
	}
}

// The clock was set back: what seems to come from the future counts from now,
// and is neither kept for ever nor in the way.
func TestAClockThatWasSetBack(t *testing.T) {
	handed := Window{{Replicas: 9, At: epoch.Add(2 * time.Hour)}, {Replicas: 7, At: epoch.Add(time.Hour)}}
	restored := newHistories(60, 60)
	restored.Restore(epoch, handed)
	if handed[0].At != epoch.Add(2*time.Hour) {
		t.Error("what was handed over is changed")
	}
	running := newHistories(60, 60)
	running.record(Recommendation{Replicas: 9, At: epoch.Add(time.Hour)})
	running.record(Recommendation{Replicas: 2, At: epoch})
	for name, h := range map[string]*History{"restored": restored, "running": running} {
		for _, ago := range []time.Duration{0, 59 * time.Second} {
			if r, ok := h.highest(epoch.Add(ago)); !ok || r.Replicas != 9 {
				t.Errorf("%s: after %s the highest is %v", name, ago, r)
			}
		}
		if r, ok := h.highest(epoch.Add(time.Minute)); ok {
			t.Errorf("%s: after the window it still holds %v", name, r)
		}
	}
}
