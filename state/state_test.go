// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"testing"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

func TestNone(t *testing.T) {
	store, err := New(t.Context(), config.State{Store: config.StateNone}, nil, "", "")
	if err != nil {
		t.Fatal(err)
	}
	save(t, store, everything())
	wantRecord(t, load(t, store), Record{})
}

func TestNoSuchStore(t *testing.T) {
	_, err := New(t.Context(), config.State{Store: "etcd"}, nil, "", "")
	wantError(t, err, `state.store: there is no store "etcd"`)
}
