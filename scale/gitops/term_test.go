// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// pair are two replicas of which one leads at a time.
type pair struct {
	terms [2]atomic.Uint64
	last  uint64
}

// lead has one of them lead, in a term of its own.
func (p *pair) lead(which int) {
	p.last++
	p.terms[1-which].Store(0)
	p.terms[which].Store(p.last)
}

// A records, B leads and records, A leads again: what A committed in its first
// term is not what is there.
func TestRecordingInAnotherTerm(t *testing.T) {
	repository := bare(t)
	c := settings(repository)
	c.Mode = config.GitRecord
	var p pair
	p.lead(0)
	a, b := open(t, c, Options{Term: p.terms[0].Load}), open(t, c, Options{Term: p.terms[1].Load})
	for i, step := range []struct {
		which    int
		from, to int32
		text     string
	}{{0, 3, 5, "replicas: 5"}, {1, 5, 7, "replicas: 7"}, {0, 7, 5, "replicas: 5"}} {
		p.lead(step.which)
		[]*Repository{a, b}[step.which].Record(Wanted{Replicas: new(step.to), From: step.from})
		eventually(t, "it is committed", func() bool { return commits(t, repository) == 2+i })
		if got := show(t, repository, manifestPath); !strings.Contains(got, step.text) {
			t.Errorf("step %d: the file is\n%s", i, got)
		}
	}
}

// A pushes, B leads and pushes, A leads again: what A waited for in its first
// term does not come any more.
func TestWaitingInAnotherTerm(t *testing.T) {
	repository := bare(t)
	var p pair
	p.lead(0)
	a := open(t, settings(repository), Options{Term: p.terms[0].Load})
	b := open(t, settings(repository), Options{Term: p.terms[1].Load})
	if got := a.Current(t.Context(), 3); got != 3 {
		t.Errorf("current is %d", got)
	}
	if err := a.Write(t.Context(), decision(3, 5)); err != nil {
		t.Fatal(err)
	}
	p.lead(1)
	b.Current(t.Context(), 5)
	if err := b.Write(t.Context(), decision(5, 3)); err != nil {
		t.Fatal(err)
	}
	p.lead(0)
	if got := a.Current(t.Context(), 3); got != 3 {
		t.Errorf("current is %d", got)
	}
	if status := a.Status(); status.Arriving != nil || status.Pending != nil {
		t.Errorf("status %+v", status)
	}
}

// What failed in one term is neither pending nor waited for in the next.
func TestFailuresOfAnotherTerm(t *testing.T) {
	server := overHTTPSServer(t)
	var p pair
	p.lead(0)
	r := open(t, server.settings, Options{Term: p.terms[0].Load})
	server.interfere.set(func(i *interference) { i.down = true })
	if err := r.Write(t.Context(), decision(3, 5)); err == nil || r.Status().LastError == "" {
		t.Fatalf("got %v", err)
	}
	server.interfere.set(func(i *interference) { i.down = false })
	p.lead(0)
	if status := r.Status(); status.Pending != nil || status.LastError != "" {
		t.Errorf("status %+v", status)
	}
	if err := r.Write(t.Context(), decision(3, 6)); err != nil {
		t.Error(err)
	}
	if got := commits(t, server.repository); got != 2 {
		t.Errorf("%d commits", got)
	}
}

// fetched is a repository that tells when something was fetched from it.
type fetched struct {
	local
	tell func()
}

func (f *fetched) fetch(ctx context.Context, depth int) (plumbing.Hash, storer.EncodedObjectStorer, error) {
	defer f.tell()
	return f.local.fetch(ctx, depth)
}

// The term ends between the fetch and the push, and another begins at once or
// not: nothing is pushed.
func TestATermThatEndsBeforeThePush(t *testing.T) {
	for name, next := range map[string]uint64{"nobody": 0, "another term": 2} {
		t.Run(name, func(t *testing.T) {
			repository := bare(t)
			var term atomic.Uint64
			term.Store(1)
			r := made(t, settings(repository), Options{Term: term.Load})
			var fetches atomic.Bool
			r.connect = func() (remote, error) {
				return &fetched{local: local{path: repository, branch: "refs/heads/main"}, tell: func() {
					if fetches.Load() {
						term.Store(next)
					}
				}}, nil
			}
			begin(t, r)
			r.Current(t.Context(), 3)
			fetches.Store(true)
			if err := r.Write(t.Context(), decision(3, 5)); !errors.Is(err, errNotLeading) {
				t.Errorf("got %v", err)
			}
			if commits(t, repository) != 1 || r.Status().Pending != nil {
				t.Errorf("%d commits, pending %+v", commits(t, repository), r.Status().Pending)
			}
		})
	}
}
