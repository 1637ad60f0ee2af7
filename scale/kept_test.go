// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// slow are rules that ask for the events of half an hour.
var slow = NewRules(config.Autoscaler{Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{
	ScaleUp: threePods(1800), ScaleDown: threePods(1800),
}})

func threePods(periodSeconds int32) *autoscalingv2.HPAScalingRules {
	return &autoscalingv2.HPAScalingRules{Policies: []autoscalingv2.HPAScalingPolicy{
		{Type: autoscalingv2.PodsScalingPolicy, Value: 3, PeriodSeconds: periodSeconds},
	}}
}

func at(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }

func TestAWriteBecomesAnEvent(t *testing.T) {
	var k Kept
	k.Begin(Write{At: at(0), From: 2, To: 5})
	slow.Acknowledge(&k, at(1))
	slow.Acknowledge(&k, at(2))
	k.Begin(Write{At: at(10), From: 5, To: 0})
	slow.Acknowledge(&k, at(11))
	want := Kept{Events: []Event{{at(1), 3}, {at(11), -5}}, OwnZero: true}
	if diff := cmp.Diff(want, k); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	k.Begin(Write{At: at(20), From: 0, To: 4})
	slow.Acknowledge(&k, at(1802))
	want = Kept{Events: []Event{{at(1802), 4}, {at(11), -5}}}
	if diff := cmp.Diff(want, k); diff != "" {
		t.Errorf("kept half an hour later (-want +got):\n%s", diff)
	}
}

// The controller's place for an event, by which a longer period of the other
// direction may lack one (TestDecidesLikeTheHorizontalPodAutoscaler has it
// confirm this).
func TestAnEventReplacesOneThatIsOver(t *testing.T) {
	rules := NewRules(config.Autoscaler{Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{
		ScaleUp: threePods(5), ScaleDown: threePods(31),
	}})
	var k Kept
	for _, write := range []struct {
		at       int
		from, to int32
		want     []Event
	}{
		{0, 4, 7, []Event{{at(0), 3}}},
		{5, 7, 6, []Event{{at(0), 3}, {at(5), -1}}},
		{5, 6, 9, []Event{{at(0), 3}, {at(5), -1}, {at(5), 3}}}, // exactly one period is not over yet
		{11, 9, 10, []Event{{at(0), 3}, {at(5), -1}, {at(11), 1}}},
		{12, 10, 12, []Event{{at(12), 2}, {at(5), -1}, {at(11), 1}}},
		{36, 12, 11, []Event{{at(12), 2}, {at(5), -1}, {at(11), 1}, {at(36), -1}}},
		{37, 11, 10, []Event{{at(12), 2}, {at(37), -1}, {at(11), 1}, {at(36), -1}}},
	} {
		k.Begin(Write{At: at(write.at), From: write.from, To: write.to})
		rules.Acknowledge(&k, at(write.at))
		if diff := cmp.Diff(write.want, k.Events); diff != "" {
			t.Errorf("at %ds (-want +got):\n%s", write.at, diff)
		}
	}
}

func TestSettle(t *testing.T) {
	pending := func(from, to int32) *Write { return &Write{At: at(0), From: from, To: to} }
	for _, test := range []struct {
		name    string
		kept    Kept
		live    int32
		want    Kept
		changed bool
	}{
		{"nothing to settle", Kept{}, 5, Kept{}, false},
		{"not done", Kept{Pending: pending(2, 5)}, 2, Kept{}, true},
		{"done", Kept{Pending: pending(2, 5)}, 5, Kept{Events: []Event{{at(0), 3}}}, true},
		{"done, and changed by somebody since", Kept{Pending: pending(2, 5)}, 9, Kept{Events: []Event{{at(0), 3}}}, true},
		{"scaled to 0", Kept{Pending: pending(2, 0)}, 0, Kept{Events: []Event{{at(0), -2}}, OwnZero: true}, true},
		{"scaled to 0, and up by somebody since", Kept{Pending: pending(2, 0)}, 1, Kept{Events: []Event{{at(0), -2}}}, true},
		{"to 0 by somebody", Kept{Pending: pending(5, 3)}, 0, Kept{Events: []Event{{at(0), -2}}}, true},
		{"still at our own 0", Kept{OwnZero: true}, 0, Kept{OwnZero: true}, false},
		{"our own 0 could not be left", Kept{OwnZero: true, Pending: pending(0, 3)}, 0, Kept{OwnZero: true}, true},
		{"our own 0 is over", Kept{OwnZero: true}, 3, Kept{}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.kept
			if changed := slow.Settle(&got, test.live); changed != test.changed {
				t.Errorf("changed: %t", changed)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
		})
	}
}

func TestArriveAfterTheClockWasSetBack(t *testing.T) {
	pending := &Write{At: at(7200), From: 1, To: 2}
	loaded := Kept{
		Events:  []Event{{at(3600), 4}, {at(-10), -1}, {at(-1800), 2}, {at(-1799), 3}, {at(-5), 0}},
		Pending: pending,
	}
	events := loaded.Events
	loaded.Arrive(epoch)
	want := Kept{Events: []Event{{at(-1799), 3}, {at(-10), -1}, {at(0), 4}}, Pending: &Write{At: epoch, From: 1, To: 2}}
	if diff := cmp.Diff(want, loaded); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if pending.At != at(7200) || events[0].At != at(3600) {
		t.Error("what a copy shares is changed")
	}
}

func TestExpire(t *testing.T) {
	k := Kept{Intents: Intents{
		Pause: &Pause{}, Hold: &Hold{Until: at(10)}, Override: &bounds.Override{ExpiresAt: at(20)},
	}}
	for _, step := range []struct {
		at             int
		changed        bool
		hold, override bool
	}{
		{9, false, true, true}, {10, true, false, true}, {11, false, false, true}, {20, true, false, false}, {21, false, false, false},
	} {
		if changed := k.Expire(at(step.at)); changed != step.changed {
			t.Errorf("at %ds: changed: %t", step.at, changed)
		}
		if (k.Hold != nil) != step.hold || (k.Override != nil) != step.override {
			t.Errorf("at %ds: the hold is %v, the override %v", step.at, k.Hold, k.Override)
		}
	}
	k.Override = &bounds.Override{}
	if k.Expire(at(1<<30)) || k.Override == nil || k.Pause == nil {
		t.Error("a pause, or an override without an end, has ended")
	}
}

// Copies of a Kept are read, and written to a store, while the original goes on.
func TestACopyOfKeptStaysAsItIs(t *testing.T) {
	k := Kept{Events: make([]Event, 0, 16)}
	var copies []Kept
	for i := range 8 {
		k.Begin(Write{At: at(i), From: 1, To: 2})
		slow.Acknowledge(&k, at(i))
		copies = append(copies, k)
		branch := k
		branch.Begin(Write{At: at(i), From: 9, To: 1})
		slow.Acknowledge(&branch, at(i))
	}
	for i, one := range copies {
		for j, event := range one.Events {
			if len(one.Events) != i+1 || event != (Event{at(j), 1}) {
				t.Fatalf("copy %d has become %v", i, one.Events)
			}
		}
	}
}

// Of more writes than anybody does the oldest become one, and none is
// forgotten.
func TestEventsAreBounded(t *testing.T) {
	for seed := range uint64(3) {
		r := roll(seed)
		var k Kept
		var ups, downs int64
		for i := range 3 * maxEvents {
			change := r.count(20) - 10
			if change > 0 {
				ups += int64(change)
			} else {
				downs += int64(change)
			}
			k.Begin(Write{From: 10, To: 10 + change})
			slow.Acknowledge(&k, epoch.Add(time.Duration(i)*10*time.Millisecond))
		}
		var last time.Time
		for _, event := range k.Events {
			if event.At.Before(last) {
				t.Fatal("the events are out of order")
			}
			last = event.At
			if event.Change > 0 {
				ups -= int64(event.Change)
			} else {
				downs -= int64(event.Change)
			}
		}
		if len(k.Events) != maxEvents || ups != 0 || downs != 0 {
			t.Fatalf("seed %d: %d events, which lack %d up and %d down", seed, len(k.Events), ups, downs)
		}
	}
}

func TestMerged(t *testing.T) {
	for _, test := range []struct{ events, want []Event }{
		{[]Event{{at(1), 1}, {at(2), 2}, {at(3), -3}}, []Event{{at(2), 3}, {at(3), -3}}},
		{[]Event{{at(1), 1}, {at(2), -2}, {at(3), 3}}, []Event{{at(2), -2}, {at(3), 4}}},
		{[]Event{{at(1), 1}, {at(2), -2}, {at(3), -3}}, []Event{{at(1), 1}, {at(3), -5}}},
		{[]Event{{at(1), -1}, {at(2), math.MinInt32}, {at(3), 3}}, []Event{{at(2), math.MinInt32}, {at(3), 3}}},
	} {
		if diff := cmp.Diff(test.want, merged(test.events)); diff != "" {
			t.Errorf("merged (-want +got):\n%s", diff)
		}
	}
}
