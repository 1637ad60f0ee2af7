// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/bounds"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// A caller who leaves does not end what they asked for: an intent would be half
// kept. The store has a deadline.

// paused is the pause in force; null is none.
type paused struct {
	Pause *scale.Pause `json:"pause"`
}

// held is the manual hold in force; null is none.
type held struct {
	Hold *scale.Hold `json:"hold"`
}

// holding is what a hold comes to.
type holding struct {
	Hold        scale.Hold     `json:"hold"`
	Decision    scale.Decision `json:"decision"`
	Explanation string         `json:"explanation"`
	Bounds      bounds.Bounds  `json:"bounds"`
	DryRun      bool           `json:"dryRun"`
}

// overridden is the override in force, null if there is none, and the bounds
// that result.
type overridden struct {
	Override *bounds.Override `json:"override"`
	Bounds   bounds.Bounds    `json:"bounds"`
}

func (h *handler) getPause(w http.ResponseWriter, _ *http.Request) {
	h.write(w, http.StatusOK, paused{h.Autoscaler.Status().Intents.Pause})
}

func (h *handler) pause(w http.ResponseWriter, r *http.Request) {
	var pause scale.Pause
	if !h.receive(w, r, &pause) {
		return
	}
	if err := checkReason(pause.Reason); err != nil {
		h.fail(w, http.StatusBadRequest, err.Error())
		return
	}
	if h.intend(w, h.Autoscaler.Pause(context.WithoutCancel(r.Context()), callerOf(r), pause)) {
		h.write(w, http.StatusOK, paused{&pause})
	}
}

// resume has no use for a body, and reads none.
func (h *handler) resume(w http.ResponseWriter, r *http.Request) {
	if h.intend(w, h.Autoscaler.Resume(context.WithoutCancel(r.Context()), callerOf(r))) {
		h.write(w, http.StatusOK, paused{})
	}
}

func (h *handler) getHold(w http.ResponseWriter, _ *http.Request) {
	h.write(w, http.StatusOK, held{h.Autoscaler.Status().Intents.Hold})
}

// scaling asks for a manual hold.
type scaling struct {
	Replicas  *int32 `json:"replicas"`
	Duration  string `json:"duration"`
	Reason    string `json:"reason"`
	DryRun    bool   `json:"dryRun"`
	Resource  string `json:"resource"`
	Namespace string `json:"namespace"`
}

// hold makes a hold of it that begins now.
func (s scaling) hold(now time.Time) (scale.Hold, error) {
	switch {
	case s.Replicas == nil:
		return scale.Hold{}, errors.New("replicas: is required: the count to hold")
	case *s.Replicas < 0:
		return scale.Hold{}, fmt.Errorf("replicas: must be at least 0, got %d", *s.Replicas)
	case s.Duration == "":
		return scale.Hold{}, errors.New("duration: is required: how long to hold the count, such as 30m")
	}
	duration, err := lasting(s.Duration)
	if err != nil {
		return scale.Hold{}, err
	}
	return scale.Hold{Replicas: *s.Replicas, Until: until(now, duration), Reason: s.Reason}, checkReason(s.Reason)
}

func (h *handler) scale(w http.ResponseWriter, r *http.Request) {
	var asked scaling
	if !h.receive(w, r, &asked) {
		return
	}
	if message := h.isOther(asked); message != "" {
		h.fail(w, http.StatusNotFound, message)
		return
	}
	hold, err := asked.hold(time.Now())
	if err != nil {
		h.fail(w, http.StatusBadRequest, err.Error())
		return
	}
	ctx := context.WithoutCancel(r.Context())
	decision, err := h.Autoscaler.Preview(ctx, hold)
	if err == nil && !asked.DryRun {
		err = h.Autoscaler.Hold(ctx, callerOf(r), &hold)
	}
	if h.intend(w, err) {
		h.write(w, http.StatusOK, holding{
			Hold: hold, Decision: decision, Explanation: decision.Explain(), Bounds: h.Autoscaler.Status().Bounds, DryRun: asked.DryRun,
		})
	}
}

// isOther says which target is scaled, if another one is asked for.
func (h *handler) isOther(asked scaling) string {
	target := h.Autoscaler.Status().Target
	name := asked.Resource
	if kind, after, ok := strings.Cut(name, "/"); ok && strings.EqualFold(kind, target.Kind) {
		name = after
	}
	if (asked.Resource == "" || name == target.Name) && (asked.Namespace == "" || asked.Namespace == target.Namespace) {
		return ""
	}
	return fmt.Sprintf("this autoscaler scales %s/%s in the namespace %s, and nothing else",
		strings.ToLower(target.Kind), target.Name, target.Namespace)
}

func (h *handler) release(w http.ResponseWriter, r *http.Request) {
	if h.intend(w, h.Autoscaler.Hold(context.WithoutCancel(r.Context()), callerOf(r), nil)) {
		h.write(w, http.StatusOK, held{})
	}
}

func (h *handler) getOverride(w http.ResponseWriter, _ *http.Request) { h.answerOverride(w) }

func (h *handler) answerOverride(w http.ResponseWriter) {
	status := h.Autoscaler.Status()
	h.write(w, http.StatusOK, overridden{Override: status.Intents.Override, Bounds: status.Bounds})
}

// overriding asks for other bounds.
type overriding struct {
	MinReplicas *int32 `json:"minReplicas"`
	MaxReplicas *int32 `json:"maxReplicas"`
	// ExpiresAt and Duration are nil where it is to last. Empty they are a
	// mistake.
	ExpiresAt *string `json:"expiresAt"`
	Duration  *string `json:"duration"`
	Reason    string  `json:"reason"`
}

// override makes an override of it.
func (o overriding) override(now time.Time) (bounds.Override, error) {
	override := bounds.Override{MinReplicas: o.MinReplicas, MaxReplicas: o.MaxReplicas, Reason: o.Reason}
	switch {
	case o.ExpiresAt != nil && o.Duration != nil:
		return override, errors.New("duration: cannot be given together with expiresAt")
	case o.ExpiresAt != nil:
		expires, err := moment("expiresAt", *o.ExpiresAt)
		if err != nil {
			return override, err
		}
		if expires.Sub(now) > maxDuration {
			return override, fmt.Errorf("expiresAt: must be within a year, got %s", shorten(*o.ExpiresAt))
		}
		override.ExpiresAt = expires
	case o.Duration != nil:
		duration, err := lasting(*o.Duration)
		if err != nil {
			return override, err
		}
		override.ExpiresAt = until(now, duration)
	}
	return override, checkReason(o.Reason)
}

func (h *handler) putOverride(w http.ResponseWriter, r *http.Request) {
	var asked overriding
	if !h.receive(w, r, &asked) {
		return
	}
	override, err := asked.override(time.Now())
	if err != nil {
		h.fail(w, http.StatusBadRequest, err.Error())
		return
	}
	if h.intend(w, h.Autoscaler.Override(context.WithoutCancel(r.Context()), callerOf(r), &override)) {
		h.answerOverride(w)
	}
}

func (h *handler) deleteOverride(w http.ResponseWriter, r *http.Request) {
	if h.intend(w, h.Autoscaler.Override(context.WithoutCancel(r.Context()), callerOf(r), nil)) {
		h.answerOverride(w)
	}
}

// intend says whether an intent is kept. If it is not, it answers the request.
func (h *handler) intend(w http.ResponseWriter, err error) (kept bool) {
	if err == nil {
		return true
	}
	message := err.Error()
	if standby, ok := errors.AsType[*autoscaler.StandbyError](err); ok {
		if standby.Leader == "" {
			message += ": try again in a moment"
		} else {
			message += ": run this in its pod"
		}
	}
	h.fail(w, statusOf(err), message)
	return false
}
