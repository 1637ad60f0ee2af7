// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package scale

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
)

// ErrRefused says that nothing was written because the count is not the one
// the decision was taken from, or the API server objects to the new one: read
// the count again to know which.
var ErrRefused = errors.New("the API server refused the patch")

// ErrDeferred says that nothing was written yet: the Writer does it later by
// itself, unless it is told otherwise by then. Its words say why it waits.
var ErrDeferred = errors.New("the count is written later")

// Writer writes a replica count.
type Writer interface {
	// Write changes the count from what is current to what is desired. It
	// answers ErrRefused, and writes nothing, when the count is another by now,
	// and ErrDeferred when it is to wait.
	Write(ctx context.Context, d Decision) error
	// Withdraw gives up what an earlier Write left undone, if anything: the
	// count is to stay as it is.
	Withdraw()
}

// APIWriter writes through the scale subresource. It is safe for concurrent
// use.
type APIWriter struct {
	target *resource.Target
}

// NewAPIWriter makes a Writer of the target's scale.
func NewAPIWriter(target *resource.Target) *APIWriter { return &APIWriter{target: target} }

// Write sends one JSON patch that tests the count and replaces it, so that the
// API server itself does both or neither.
func (w *APIWriter) Write(ctx context.Context, d Decision) error {
	from, to := d.Current, d.Desired
	patch, err := json.Marshal([]operation{
		{Op: "test", Path: "/spec/replicas", Value: stored(from)},
		{Op: "replace", Path: "/spec/replicas", Value: to},
	})
	if err != nil {
		return fmt.Errorf("encoding the patch of the scale: %w", err)
	}
	err = w.target.PatchScale(ctx, patch)
	if apierrors.IsInvalid(err) || apierrors.IsConflict(err) {
		return fmt.Errorf("scaling from %d to %d: %w: %w", from, to, ErrRefused, err)
	}
	if err != nil {
		return fmt.Errorf("scaling from %d to %d: %w", from, to, err)
	}
	return nil
}

// Withdraw does nothing: Write leaves nothing undone.
func (*APIWriter) Withdraw() {}

// operation is one step of a JSON patch (RFC 6902).
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// stored is how a count stands in a scale: 0 is left out of it, and what is
// left out is tested for with null.
func stored(count int32) any {
	if count == 0 {
		return nil
	}
	return count
}
