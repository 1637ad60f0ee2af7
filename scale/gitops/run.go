// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/storer"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// pending is what is yet to be committed.
type pending struct {
	Wanted
	// term is the one in which it was decided, and is committed or not at all.
	term  uint64
	since time.Time
	// uncertain says that an earlier push may have been done.
	uncertain bool
	// results are told what becomes of it.
	results []chan error
}

// settle tells who waits, for whoever holds the lock.
func (p *pending) settle(err error) {
	if p == nil {
		return
	}
	for _, result := range p.results {
		result <- err
	}
	p.results = nil
}

// update is a request to commit a file.
type update struct {
	File
	ctx    context.Context //nolint:containedctx // It is the caller's, who waits.
	id     string
	result chan updated
}

type updated struct {
	Outcome
	err error
}

// Run commits what is wanted, until the context ends. It owns the copy of the
// repository, and removes it in the end.
func (r *Repository) Run(ctx context.Context) error {
	defer r.stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case u := <-r.updates:
			outcome, err := r.update(ctx, u)
			u.result <- updated{outcome, err}
		case <-r.changed:
		case <-timer.C:
		}
		if ctx.Err() != nil {
			return nil
		}
		r.tend(ctx)
		if wait, some := r.next(); some {
			timer.Reset(wait)
		}
	}
}

var errStopped = errors.New("the process is stopping")

func (r *Repository) stop() {
	r.stops.Do(func() { close(r.stopped) })
	r.mu.Lock()
	r.pending.settle(errors.New("the process is stopping: nothing was pushed that had not been by now"))
	r.mu.Unlock()
	for {
		select {
		case u := <-r.updates:
			u.result <- updated{err: errStopped}
		default:
			if r.remote != nil {
				_ = r.remote.close()
				r.remote = nil
			}
			return
		}
	}
}

// due is when the next count may be committed, for whoever holds the lock.
func (r *Repository) due() time.Time {
	if r.lastCommit.IsZero() {
		return time.Time{}
	}
	return r.lastCommit.Add(r.config.Interval())
}

// next is how long there is nothing to do; some says whether there will be.
func (r *Repository) next() (wait time.Duration, some bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if r.pending != nil {
		some = true
		wait = max(r.due().Sub(now), r.retry.Sub(now), 0)
	}
	if r.dry != nil {
		dry := max(r.lastDry.Add(r.config.Interval()).Sub(now), r.retry.Sub(now), 0)
		if !some || dry < wait {
			wait = dry
		}
		some = true
	}
	return wait, some
}

// tend does what is due.
func (r *Repository) tend(ctx context.Context) {
	r.begin(ctx)
	r.mu.Lock()
	r.enter()
	now := r.now()
	rests := now.Before(r.retry)
	p, dry := r.pending, r.dry
	if rests || now.Before(r.due()) {
		p = nil
	}
	if rests || now.Before(r.lastDry.Add(r.config.Interval())) {
		dry = nil
	}
	r.mu.Unlock()
	if p != nil {
		r.try(ctx, p)
	}
	if dry != nil {
		r.preview(ctx, *dry)
	}
}

// try pushes what is pending, once it is known what is on its way.
func (r *Repository) try(ctx context.Context, p *pending) {
	r.mu.Lock()
	unread, uncertain := r.unread, p.uncertain
	r.mu.Unlock()
	if unread {
		if err := r.learn(ctx); err != nil {
			r.settled(p, done{err: err, uncertain: uncertain})
			return
		}
		r.mu.Lock()
		given := r.pending != p
		r.mu.Unlock()
		if given {
			return // up
		}
	}
	r.settled(p, r.push(ctx, p))
}

// done is what became of a push.
type done struct {
	commit  plumbing.Hash
	changed bool
	// uncertain says that it may have been done in spite of the error.
	uncertain bool
	changes   []change
	err       error
}

// push commits what is pending.
func (r *Repository) push(ctx context.Context, p *pending) done {
	r.mu.Lock()
	w, uncertain := p.Wanted, p.uncertain
	r.mu.Unlock()
	var changes []change
	d := r.commit(ctx, edition{
		id: w.ID, path: r.config.File, uncertain: uncertain, guard: func() bool { return r.term() == p.term },
		make: func(before []byte, there bool) (after []byte, message string, err error) {
			if !there {
				return nil, "", fmt.Errorf("%s: %w: write it once, by hand", r.config.File, errAbsent)
			}
			if after, changes, err = edit(before, r.wishes(w)); err != nil {
				return nil, "", fmt.Errorf("%s: %w", r.config.File, err)
			}
			return after, r.message(w, changes), nil
		},
	})
	d.changes = changes
	return d
}

// wishes are the numbers that have a path.
func (r *Repository) wishes(w Wanted) []wish {
	var wishes []wish
	for _, number := range []struct {
		name, text string
		value      *int32
	}{{nameReplicas, r.config.Replicas, w.Replicas}, {nameMin, r.config.MinReplicas, w.Min}, {nameMax, r.config.MaxReplicas, w.Max}} {
		if path, ok := r.paths[number.name]; ok && number.value != nil {
			wishes = append(wishes, wish{name: number.name, path: path, text: number.text, value: *number.value})
		}
	}
	return wishes
}

// settled takes in what became of a push.
func (r *Repository) settled(p *pending, d done) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if r.enter() != p.term || errors.Is(d.err, errNotLeading) {
		p.settle(errNotLeading)
		if r.pending == p {
			r.pending = nil
		}
		if d.err == nil && d.changed {
			r.lastCommit = now
			r.committed(d)
		}
		return
	}
	if d.err != nil {
		err := fmt.Errorf("committing to %s: %w", r.status.Repository, d.err)
		p.uncertain = d.uncertain
		r.failed(err)
		r.rest() // It may have been withdrawn meanwhile.
		p.settle(err)
		return
	}
	r.failures, r.retry, r.status.LastError, r.status.Diff = 0, time.Time{}, "", ""
	if d.changed {
		r.lastCommit = now
		r.committed(d)
		r.log.Info("Committed", "autoscaler", r.id, "commit", d.commit.String(), "file", r.config.File, "changes", words(d.changes))
	}
	if r.config.Mode == config.GitInstead && p.Replicas != nil {
		r.arrives(p.From, *p.Replicas)
	} else {
		r.recorded = &p.Wanted
	}
	p.settle(nil)
	if r.pending == p {
		r.pending = nil
	}
}

func words(changes []change) string {
	texts := make([]string, len(changes))
	for i, c := range changes {
		texts[i] = c.String()
	}
	return strings.Join(texts, ", ")
}

// committed notes a commit, for whoever holds the lock.
func (r *Repository) committed(d done) {
	now := r.now()
	r.status.LastCommit, r.status.LastCommitTime = d.commit.String(), &now
	r.status.Commits++
}

// failed notes a failure, for whoever holds the lock.
func (r *Repository) failed(err error) {
	r.failures++
	r.status.Failures++
	wait := min(r.pace.first<<min(r.failures-1, 16), r.pace.last)
	wait = wait*3/4 + rand.N(wait/2+1) //nolint:gosec // jitter
	r.retry = r.now().Add(wait)
	if text := err.Error(); text != r.status.LastError {
		r.log.Error("Committing to the repository failed, and is tried again", "autoscaler", r.id, "error", text, "in", wait.Round(time.Second))
		r.status.LastError = text
	}
}

// preview shows what a dry run would change.
func (r *Repository) preview(ctx context.Context, w Wanted) {
	diff, err := r.diff(ctx, w)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastDry = r.now()
	if err != nil {
		r.failed(fmt.Errorf("reading %s: %w", r.status.Repository, err))
		return
	}
	if r.pending == nil {
		r.failures, r.retry, r.status.LastError = 0, time.Time{}, ""
	}
	r.status.Diff = diff
	if r.dry != nil && r.dry.same(w) {
		r.dry = nil
	}
}

func (r *Repository) diff(ctx context.Context, w Wanted) (string, error) {
	tip, store, err := r.fetch(ctx, 1)
	if err != nil {
		return "", err
	}
	at, err := openSnapshot(store, tip)
	if err != nil {
		return "", err
	}
	before, err := at.read(r.config.File, maxEditBytes)
	if err != nil {
		return "", err
	}
	after, _, err := edit(before, r.wishes(w))
	if err != nil {
		return "", fmt.Errorf("%s: %w", r.config.File, err)
	}
	return lineDiff(r.config.File, before, after), nil
}

// lineDiff shows the lines that differ, as a patch without context. An edit
// adds and removes none.
func lineDiff(path string, before, after []byte) string {
	if bytes.Equal(before, after) {
		return ""
	}
	was, is := strings.Split(string(before), "\n"), strings.Split(string(after), "\n")
	var text strings.Builder
	fmt.Fprintf(&text, "--- a/%s\n+++ b/%s\n", path, path)
	for i := range min(len(was), len(is)) {
		if was[i] != is[i] {
			fmt.Fprintf(&text, "@@ -%d +%d @@\n-%s\n+%s\n", i+1, i+1, was[i], is[i])
		}
	}
	return text.String()
}

// update commits a file for whoever waits for it.
func (r *Repository) update(ctx context.Context, u *update) (Outcome, error) {
	if err := u.ctx.Err(); err != nil {
		return Outcome{}, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(u.ctx, func() { cancel(context.Cause(u.ctx)) }) //nolint:contextcheck // It is the caller's.
	defer stop()
	d := r.commit(ctx, edition{
		id: u.id, path: u.Path,
		make: func([]byte, bool) ([]byte, string, error) {
			trailers := []string{trailerObject + ": " + oneLine(r.id), trailerDecision + ": " + u.id, trailerBy + ": " + oneLine(u.By)}
			return []byte(u.Content), r.compose(printable(u.Message), trailers), nil
		},
	})
	if d.err != nil {
		return Outcome{}, fmt.Errorf("committing %s: %w", u.Path, d.err)
	}
	if d.changed {
		r.mu.Lock()
		r.committed(d)
		r.mu.Unlock()
		r.log.Info("Committed a file", "autoscaler", r.id, "commit", d.commit.String(), "file", u.Path)
	}
	return Outcome{OID: d.commit.String(), Changed: d.changed}, nil
}

// edition is a change of one file.
type edition struct {
	// id names it in the trailer, by which it is found again.
	id   string
	path string
	// make makes the new content of the old, from what the branch has now.
	make func(before []byte, there bool) (after []byte, message string, err error)
	// guard says whether it may still be pushed.
	guard func() bool
	// uncertain says that it may have been pushed already.
	uncertain bool
}

// commit makes a commit upon the tip of the branch and pushes it. When somebody
// else was faster, it is made anew upon theirs; never merged, never forced.
func (r *Repository) commit(ctx context.Context, e edition) done {
	d := done{uncertain: e.uncertain}
	for try := range maxPushes {
		if try > 0 && !r.pause(ctx, try) {
			return d
		}
		var again bool
		if again, d.err = r.attempt(ctx, e, &d); !again {
			return d
		}
	}
	d.err = fmt.Errorf("pushed %d times in vain: %w", maxPushes, d.err)
	return d
}

// pause waits before another try, longer each time, and not as long as others
// that wait for the same.
func (r *Repository) pause(ctx context.Context, try int) bool {
	longest := r.pace.again << try
	timer := time.NewTimer(rand.N(longest) + 1) //nolint:gosec // jitter
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// attempt fetches, edits and pushes once.
func (r *Repository) attempt(ctx context.Context, e edition, d *done) (again bool, err error) {
	depth := 1
	if d.uncertain {
		depth = historyDepth
	}
	tip, store, err := r.fetch(ctx, depth)
	if err != nil {
		return errors.Is(err, errCorrupt), err
	}
	if d.uncertain {
		found, there, err := search(store, tip, e.id)
		if err != nil {
			return r.corrupt(err), err
		}
		if there {
			d.commit, d.changed, d.uncertain = found, true, false
			return false, nil
		}
	}
	commit, draft, err := r.draft(e, tip, store)
	if err != nil {
		return r.corrupt(err), err
	}
	if draft == nil {
		d.commit, d.changed, d.uncertain = tip, false, false
		return false, nil
	}
	if e.guard != nil && !e.guard() {
		return false, errNotLeading
	}
	err = r.bounded(ctx, func(ctx context.Context, to remote) error { return to.push(ctx, tip, commit, draft) })
	switch {
	case err == nil:
		d.commit, d.changed, d.uncertain = commit, true, false
		return false, nil
	case errors.Is(err, errUncertain), errors.Is(err, errStuck):
		d.uncertain = true
		return true, err
	}
	return errors.Is(err, errMoved), err
}

// corrupt has the copy made anew if that is what is wrong.
func (r *Repository) corrupt(err error) bool {
	if !errors.Is(err, errCorrupt) {
		return false
	}
	if r.remote != nil {
		r.remote.forget()
	}
	return true
}

// draft makes the commit; nil when nothing changes.
func (r *Repository) draft(e edition, tip plumbing.Hash, store storer.EncodedObjectStorer) (plumbing.Hash, *draft, error) {
	at, err := openSnapshot(store, tip)
	if err != nil {
		return plumbing.ZeroHash, nil, err
	}
	before, err := at.read(e.path, maxReadBytes)
	there := err == nil
	if err != nil && !errors.Is(err, errAbsent) {
		return plumbing.ZeroHash, nil, err
	}
	after, message, err := e.make(before, there)
	if err != nil {
		return plumbing.ZeroHash, nil, err
	}
	if there && bytes.Equal(before, after) {
		return plumbing.ZeroHash, nil, nil
	}
	sign, err := newSigner(r.config.Signing, r.now())
	if err != nil {
		return plumbing.ZeroHash, nil, err
	}
	made, err := at.write(e.path, after)
	if err != nil {
		return plumbing.ZeroHash, nil, err
	}
	commit, err := made.commit(tip, r.who(), message, sign)
	return commit, made, err
}

// maxReadBytes is the largest file that is read.
const maxReadBytes = 32 << 20

func (r *Repository) fetch(ctx context.Context, depth int) (tip plumbing.Hash, store storer.EncodedObjectStorer, err error) {
	// An exchange that is left to itself must not write to what is read here.
	got := new(struct {
		tip   plumbing.Hash
		store storer.EncodedObjectStorer
	})
	err = r.bounded(ctx, func(ctx context.Context, from remote) (err error) {
		got.tip, got.store, err = from.fetch(ctx, depth)
		return err
	})
	if err != nil {
		return plumbing.ZeroHash, nil, err
	}
	return got.tip, got.store, nil
}

// bounded does one exchange, within gitOps.timeout. One that does not end then
// is left to itself, with the copy it uses; until it does there is no other.
func (r *Repository) bounded(ctx context.Context, exchange func(context.Context, remote) error) error {
	select {
	case <-r.hanging:
		r.hanging = nil
	default:
		if r.hanging != nil {
			return fmt.Errorf("%w, and has not ended yet", errStuck)
		}
	}
	if r.remote == nil {
		made, err := r.connect()
		if err != nil {
			return err
		}
		r.remote = made
	}
	timeout := r.config.Timeout.Duration()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the repository has not answered within the gitOps.timeout of %s", timeout))
	defer cancel()
	with, ended := r.remote, make(chan error, 1)
	go func() { ended <- exchange(ctx, with) }()
	select {
	case err := <-ended:
		return timely(ctx, err)
	case <-ctx.Done():
	}
	grace := time.NewTimer(stuckGrace)
	defer grace.Stop()
	select {
	case err := <-ended:
		return timely(ctx, err)
	case <-grace.C:
		r.remote = nil
		over := make(chan struct{})
		r.hanging = over
		go func() {
			defer close(over)
			err := <-ended
			_ = with.close()
			r.log.Debug("An exchange that was left to itself has ended", "autoscaler", r.id, "error", err)
		}()
		return fmt.Errorf("%w: %w", errStuck, context.Cause(ctx))
	}
}

// errStuck says that an exchange did not end when it was told to.
var errStuck = errors.New("the exchange hangs and was left to itself")

// stuckGrace is how long an exchange may take to notice that its time is over.
const stuckGrace = 2 * time.Second

// timely puts the reason in front of an error that came of the time.
func timely(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

// printable takes control characters but line breaks out of a message.
func printable(text string) string {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(strings.Map(func(r rune) rune {
			if oneLine(string(r)) == "" && r != ' ' {
				return ' '
			}
			return r
		}, line), " ")
	}
	return strings.Join(lines, "\n")
}
