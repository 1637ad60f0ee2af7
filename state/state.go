// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package state keeps what must survive a restart: nowhere, in a file, or in a
// ConfigMap.
package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// timeout bounds every Load and Save, whatever the caller's context says.
const timeout = resource.RequestTimeout

// Record is what is kept.
type Record struct {
	// Version of the record's form. Save sees to it; 0 in a loaded record says
	// that there was none.
	Version int `json:"version"`
	// Kept is what deciding needs again.
	scale.Kept
	// Window is the exact history, handed over by a clean stop; otherwise empty.
	Window scale.Window `json:"window,omitempty"`
}

// Why a record could not be loaded or saved.
var (
	// ErrUnreadable: there is a record, but it is corrupt or of a newer
	// version. Saving replaces it.
	ErrUnreadable = errors.New("the record cannot be read")
	// ErrConflict: somebody else saved a record since this store loaded or
	// saved one. Load again. Only a ConfigMap knows: a file is one process's.
	ErrConflict = errors.New("somebody else has saved a record")
)

// Store keeps one record. A Store has one owner: it is not safe for concurrent
// use. Load and Save return at the latest when their context ends or after 10
// seconds; after a Save that failed in this way, the old record may be there or
// the new one.
type Store interface {
	// Load returns the record, the zero Record if there is none.
	Load(ctx context.Context) (Record, error)
	// Save replaces it.
	Save(ctx context.Context, record Record) error
}

// New makes the store that a validated configuration asks for. Namespace and
// name are those of the ConfigMap, if it is one: the target's namespace, and
// resource.OwnName of the target. Nothing is asked of the API server yet, but a
// file that could not be written is refused here.
func New(ctx context.Context, c config.State, clients *resource.Clients, namespace, name string) (Store, error) {
	switch c.Store {
	case config.StateNone:
		return none{}, nil
	case config.StateFile:
		return newFile(ctx, c.Path)
	case config.StateConfigMap:
		return &configMap{core: clients.Core, namespace: namespace, name: name}, nil
	}
	return nil, fmt.Errorf("state.store: there is no store %q, only none, file and configMap", c.Store)
}

// none keeps nothing.
type none struct{}

func (none) Load(context.Context) (Record, error) { return Record{}, nil }

func (none) Save(context.Context, Record) error { return nil }
