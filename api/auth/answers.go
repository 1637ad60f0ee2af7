// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"time"

	"golang.org/x/sync/singleflight"
	"k8s.io/utils/lru"
)

// answers remembers what was asked for a short while. Who asks the same at the
// same time shares one question. It is safe for concurrent use.
type answers struct {
	kept  *lru.Cache
	asked singleflight.Group
}

// answer is what counts until then.
type answer struct {
	value any
	until time.Time
}

func newAnswers() *answers { return &answers{kept: lru.New(maxRemembered)} }

func (a *answers) get(key string) (value any, ok bool) {
	found, _ := a.kept.Get(key)
	kept, ok := found.(answer)
	if !ok || !time.Now().Before(kept.until) {
		return nil, false
	}
	return kept.value, true
}

func (a *answers) add(key string, value any, lasts time.Duration) {
	a.kept.Add(key, answer{value: value, until: time.Now().Add(lasts)})
}

// ask is what is remembered, or what the question answers, which says how long
// that counts. An error is not remembered. The question has reviewTimeout; a
// caller who leaves does not end it for the others.
func (a *answers) ask(ctx context.Context, key string, question func(context.Context) (any, time.Duration, error)) (any, error) {
	if value, ok := a.get(key); ok {
		return value, nil
	}
	result := a.asked.DoChan(key, func() (any, error) {
		// It may have been answered since.
		if value, ok := a.get(key); ok {
			return value, nil
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reviewTimeout)
		defer cancel()
		value, lasts, err := question(ctx)
		if err == nil && lasts > 0 {
			a.add(key, value, lasts)
		}
		return value, err
	})
	select {
	case r := <-result:
		return r.Val, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
