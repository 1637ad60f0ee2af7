// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package state keeps what must survive a restart: nowhere, in a file, or in a
// ConfigMap.
package state

import (
	"context"
	"errors"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// Version is that of the records written.
const Version = 1

// Record is what is kept.
type Record struct {
	// Version of the record's form.
	Version int `json:"version"`
	// Kept is what deciding needs again.
	scale.Kept
	// Window is the exact history, handed over by a clean stop.
	Window *scale.Window `json:"window,omitempty"`
}

// Why a record could not be loaded or saved.
var (
	// ErrUnreadable: there is a record, but it is corrupt or of a newer
	// version. Saving replaces it.
	ErrUnreadable = errors.New("the record cannot be read")
	// ErrConflict: somebody else saved a record since this store loaded or
	// saved one. Load again.
	ErrConflict = errors.New("somebody else has saved a record")
)

// Store keeps one record. A Store has one owner: it is not safe for concurrent
// use.
type Store interface {
	// Load returns the record, the zero Record if there is none.
	Load(ctx context.Context) (Record, error)
	// Save replaces it.
	Save(ctx context.Context, record Record) error
}
