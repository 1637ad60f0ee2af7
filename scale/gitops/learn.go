// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// known waits, at the start of a term, until Run has read whether a count is on
// its way that was pushed in an earlier one. When that takes too long the live
// count is gone on with.
func (r *Repository) known(ctx context.Context, reading <-chan struct{}) {
	if reading == nil {
		return
	}
	patience := time.NewTimer(r.pace.patience)
	defer patience.Stop()
	select {
	case <-reading:
	case <-r.stopped:
	case <-ctx.Done():
	case <-patience.C:
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.reading == reading {
			r.read()
			r.log.Warn("The repository has not answered whether a count that was pushed earlier is on its way: going on with the live one",
				"autoscaler", r.id, "waited", r.pace.patience)
		}
	}
}

// read lets go who waits in known, for whoever holds the lock.
func (r *Repository) read() {
	if r.reading != nil {
		close(r.reading)
		r.reading = nil
	}
}

// begin learns, at the start of a term, what was pushed earlier. What fails is
// done before the first push.
func (r *Repository) begin(ctx context.Context) {
	r.mu.Lock()
	begins := r.enter() != 0 && r.reading != nil
	r.mu.Unlock()
	if !begins {
		return
	}
	if err := r.learn(ctx); err != nil {
		r.log.Warn("The repository does not tell whether a count that was pushed earlier is on its way: going on with the live one",
			"autoscaler", r.id, "error", err)
	}
}

// learn has a count that was pushed in an earlier term, perhaps by another
// process, be waited for. What was decided without knowing of it is to be
// decided again.
func (r *Repository) learn(ctx context.Context) error {
	r.mu.Lock()
	term := r.entered
	r.mu.Unlock()
	count, since, ours, err := r.pushed(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.enter() != term {
		return nil
	}
	r.read()
	if err != nil {
		return err
	}
	r.unread = false
	now := r.now()
	if since.After(now) { // by another clock
		since = now
	}
	if !ours || !now.Before(since.Add(arrival)) {
		return nil
	}
	r.arriving = &arriving{count: count, since: since, until: since.Add(arrival)}
	if p := r.pending; p != nil && p.From != count {
		p.settle(fmt.Errorf("%w: %d replicas were pushed at %s, and are on their way", scale.ErrRefused, count, since.Format(time.TimeOnly)))
		r.pending = nil
	}
	return nil
}

// pushed reads the count that the file holds, and when it was committed if this
// autoscaler did it, as far as the history that is there tells. What is wrong
// with the file is left to a push to tell.
func (r *Repository) pushed(ctx context.Context) (count int32, since time.Time, ours bool, err error) {
	tip, store, err := r.fetch(ctx, 1)
	if err != nil {
		r.corrupt(err)
		return 0, time.Time{}, false, err
	}
	count, err = r.count(store, tip)
	if errors.Is(err, errCorrupt) {
		r.corrupt(err)
		return 0, time.Time{}, false, err
	}
	if err != nil {
		return 0, time.Time{}, false, nil //nolint:nilerr // see above
	}
	hash := tip
	for range historyDepth {
		commit, err := object.GetCommit(store, hash)
		if err != nil {
			break // beyond what was fetched
		}
		if to, is := r.committedCount(commit.Message); is {
			return count, commit.Committer.When, to == count, nil
		}
		if len(commit.ParentHashes) == 0 || !r.untouched(store, hash, commit.ParentHashes[0]) {
			break // It is somebody else's.
		}
		hash = commit.ParentHashes[0]
	}
	return 0, time.Time{}, false, nil //nolint:nilerr // a commit that was not fetched is somebody else's
}

// count is the one in the file of a commit.
func (r *Repository) count(store storer.EncodedObjectStorer, tip plumbing.Hash) (int32, error) {
	at, err := openSnapshot(store, tip)
	if err != nil {
		return 0, err
	}
	content, err := at.read(r.config.File, maxEditBytes)
	if err != nil {
		return 0, err
	}
	parsed, err := parse(content)
	if err != nil {
		return 0, err
	}
	node, err := parsed.find(r.paths[nameReplicas])
	if err != nil {
		return 0, err
	}
	count, err := strconv.ParseInt(node.Value, 10, 32)
	return int32(count), err
}

// committedCount is the count of a commit of this autoscaler.
func (r *Repository) committedCount(message string) (count int32, is bool) {
	if trailer(message, trailerObject) != oneLine(r.id) {
		return 0, false
	}
	_, to, is := strings.Cut(trailer(message, trailerReplicas), " -> ")
	number, err := strconv.ParseInt(to, 10, 32)
	return int32(number), is && err == nil
}

// untouched says whether the file is the same in two commits, both of which are
// there.
func (r *Repository) untouched(store storer.EncodedObjectStorer, one, other plumbing.Hash) bool {
	var blobs [2]plumbing.Hash
	for i, hash := range []plumbing.Hash{one, other} {
		at, err := openSnapshot(store, hash)
		if err != nil {
			return false
		}
		if blobs[i], err = at.find(r.config.File); err != nil {
			return false
		}
	}
	return blobs[0] == blobs[1]
}
