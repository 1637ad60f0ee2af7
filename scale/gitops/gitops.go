// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gitops writes counts to a file in a Git repository, from which
// something else applies them, or in which they are a record.
//
// Every commit is made from the tip of the branch as it is at that moment: the
// numbers are replaced in the file as it stands there, and nothing else. It is
// pushed without force; when somebody else was faster it is made anew.
package gitops

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// Errors of Update, and of a file that cannot be written.
var (
	// ErrNotEnabled says that gitOps.update is not enabled.
	ErrNotEnabled = errors.New("files cannot be committed: set gitOps.update.enabled and gitOps.update.allowedPath")
	// ErrRefused says that what was asked for will not be done, however often
	// it is tried.
	ErrRefused = errors.New("refused")
)

// refusal is an ErrRefused in its own words.
type refusal struct{ message string }

func (r *refusal) Error() string        { return r.message }
func (r *refusal) Is(target error) bool { return target == ErrRefused }

func refused(format string, args ...any) error {
	return &refusal{message: fmt.Sprintf(format, args...)}
}

// The names of what a file may hold, which are also the keys of gitOps with
// their paths.
const (
	nameReplicas = "replicas"
	nameMin      = "minReplicas"
	nameMax      = "maxReplicas"
)

// Wanted is what the file is to say.
type Wanted struct {
	// Replicas, Min and Max are the numbers; nil leaves one as it is.
	Replicas, Min, Max *int32
	// From is the replica count before.
	From int32
	// Reason is why, in words.
	Reason string
	// ID names the decision, in the trailer CPA-Decision-Id. Empty makes one.
	ID string
	// DryRun commits nothing: Status shows what would change.
	DryRun bool
}

// same says whether two want the same numbers.
func (w Wanted) same(other Wanted) bool {
	return equal(w.Replicas, other.Replicas) && equal(w.Min, other.Min) && equal(w.Max, other.Max)
}

func equal(a, b *int32) bool { return a == b || a != nil && b != nil && *a == *b }

// Options are what a Repository needs beside its configuration.
type Options struct {
	// ID names the autoscaler, in commits.
	ID string
	// Log is told of commits and of failures.
	Log *slog.Logger
	// Term is the term in which this process leads, another one each time, and 0
	// while it does not: then it commits no counts. What it knows of one term it
	// forgets in another. nil is always 1.
	Term func() uint64
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Dir is where the temporary copy of the repository is made; empty is the
	// system's place for such.
	Dir string
}

// Repository commits to one branch of one repository. Run does the work; all
// else is safe for concurrent use.
type Repository struct {
	id      string
	config  config.GitOps
	place   config.GitPlace
	log     *slog.Logger
	term    func() uint64
	now     func() time.Time
	paths   map[string]config.YAMLPath
	connect func() (remote, error)
	pace    pace

	// remote is Run's alone, and so is hanging, which ends with an exchange that
	// was left to itself.
	remote  remote
	hanging chan struct{}
	// updates are those that wait for Run.
	updates chan *update
	// changed has Run look at what is pending.
	changed chan struct{}
	// stopped ends when Run has.
	stopped chan struct{}
	stops   sync.Once

	mu sync.Mutex
	// entered is the term of which what follows is; others commit in another.
	entered uint64
	// pending is the count that is to be committed, dry the one of which only
	// the difference is to be shown.
	pending *pending
	dry     *Wanted
	// unread says that nobody has read yet in this term, in the mode instead,
	// whether a count is on its way; reading is there, and ends, while that is
	// waited for.
	unread  bool
	reading chan struct{}
	// recorded is what was committed last, in the mode record.
	recorded *Wanted
	// lastCommit is when a count was committed last, lastDry when a difference
	// was made.
	lastCommit, lastDry time.Time
	// failures counts those in a row; retry is when to try again.
	failures int
	retry    time.Time
	// live is the count of the target as it was seen last, and arriving what
	// was pushed and is not there yet.
	live     int32
	arriving *arriving
	status   Status
}

// pace is how often is tried what fails.
type pace struct {
	// again is the pause before the same push is tried again, first and last
	// that before a failed one is, at first and at most.
	again, first, last time.Duration
	// patience is how long Write waits.
	patience time.Duration
}

var _ scale.Writer = (*Repository)(nil)

// maxPushes is how often one count is pushed in a row when others push too.
const maxPushes = 5

// Status is what became of it all.
type Status struct {
	// Repository is its address, which holds no credentials.
	Repository string         `json:"repository"`
	Branch     string         `json:"branch"`
	File       string         `json:"file"`
	Mode       config.GitMode `json:"mode"`
	// LastCommit is the hash of the last commit, and LastCommitTime when it was
	// pushed.
	LastCommit     string     `json:"lastCommit,omitempty"`
	LastCommitTime *time.Time `json:"lastCommitTime,omitempty"`
	// Commits and Failures are how many there were in this process.
	Commits  uint64 `json:"commits"`
	Failures uint64 `json:"failures"`
	// Pending is what is yet to be pushed.
	Pending *Pending `json:"pending,omitempty"`
	// Arriving is what was pushed instead of scaling, and is yet to arrive.
	Arriving *Arriving `json:"arriving,omitempty"`
	// LastError is why that has failed; empty once it has not.
	LastError string `json:"lastError,omitempty"`
	// Diff is what a dry run would have changed in the file.
	Diff string `json:"diff,omitempty"`
}

// Pending is what is yet to be pushed. To, Min and Max are nil where they are
// left as they are.
type Pending struct {
	From  int32     `json:"from"`
	To    *int32    `json:"to,omitempty"`
	Min   *int32    `json:"minReplicas,omitempty"`
	Max   *int32    `json:"maxReplicas,omitempty"`
	Since time.Time `json:"since"`
	// Due is when that is tried; zero is at once.
	Due    time.Time `json:"due,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// Arriving is a count that was pushed and that the target does not have yet:
// what applies the repository is waited for.
type Arriving struct {
	Replicas int32 `json:"replicas"`
	// Live is what the target has.
	Live  int32     `json:"live"`
	Since time.Time `json:"since"`
}

// Outcome is what became of an Update.
type Outcome struct {
	// OID is the hash of the commit, or of the branch's tip if nothing changed.
	OID string
	// Changed says whether there was anything to commit.
	Changed bool
}

// New makes a Repository. It reads the files of keys and passwords, to tell at
// once of those that cannot be used, and reaches for nothing else.
func New(c config.GitOps, o Options) (*Repository, error) {
	place, err := c.Place()
	if err != nil {
		return nil, fmt.Errorf("gitOps.repository: %w", err)
	}
	r := &Repository{
		id: o.ID, config: c, place: place, log: o.Log, term: o.Term, now: o.Now, paths: map[string]config.YAMLPath{},
		pace:    pace{again: 200 * time.Millisecond, first: 2 * time.Second, last: 5 * time.Minute, patience: 10 * time.Second},
		updates: make(chan *update, maxUpdates), changed: make(chan struct{}, 1), stopped: make(chan struct{}),
		status: Status{Repository: place.String(), Branch: c.Branch, File: c.File, Mode: c.Mode},
	}
	if r.term == nil {
		r.term = func() uint64 { return 1 }
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	for name, text := range map[string]string{nameReplicas: c.Replicas, nameMin: c.MinReplicas, nameMax: c.MaxReplicas} {
		if text == "" {
			continue
		}
		if r.paths[name], err = config.ParseYAMLPath(text); err != nil {
			return nil, fmt.Errorf("gitOps.%s: %w", name, err)
		}
	}
	if _, err := newSigner(c.Signing, r.now()); err != nil {
		return nil, err
	}
	return r, r.reach(o.Dir)
}

// reach chooses the way to the repository.
func (r *Repository) reach(dir string) error {
	branch := plumbing.NewBranchReferenceName(r.config.Branch)
	if r.place.Scheme == "file" {
		r.connect = func() (remote, error) { return &local{path: r.place.Path, branch: branch}, nil }
		return (&local{path: r.place.Path, branch: branch}).check()
	}
	var way interface {
		transport
		check() error
	}
	if r.place.Scheme == "ssh" {
		if r.config.SSH == nil {
			return errors.New("gitOps.ssh: is required for a repository over SSH")
		}
		way = &overSSH{place: r.place, access: *r.config.SSH}
	} else {
		access := config.GitHTTPS{}
		if r.config.HTTPS != nil {
			access = *r.config.HTTPS
		}
		way = &overHTTPS{base: strings.TrimSuffix(r.place.String(), "/"), access: access}
	}
	r.connect = func() (remote, error) {
		return &server{transport: way, branch: branch, clone: &clone{parent: dir, name: homeName(r.id, r.status.Repository)}}, nil
	}
	return way.check()
}

// Write commits a decision, and waits until it is pushed. What fails stays
// pending: Run tries again until Write or Withdraw say otherwise, or another
// process leads. It answers scale.ErrDeferred where it leaves it to Run: soon
// after another commit, and when a push takes long.
func (r *Repository) Write(ctx context.Context, d scale.Decision) error {
	to := d.Desired
	result := make(chan error, 1)
	r.mu.Lock()
	if r.enter() == 0 {
		r.mu.Unlock()
		return errNotLeading
	}
	p := r.want(Wanted{Replicas: &to, From: d.Current, Reason: d.Explain()})
	switch now := r.now(); {
	case r.failures > 0 && now.Before(r.retry):
		err := fmt.Errorf("committing %d replicas: %s (it is tried again at %s)", to, r.status.LastError, r.retry.Format(time.TimeOnly))
		r.mu.Unlock()
		return err
	case now.Before(r.due()):
		due := r.due()
		r.mu.Unlock()
		r.wake()
		return fmt.Errorf("%w: at %s, gitOps.minInterval after the commit before", scale.ErrDeferred, due.Format(time.TimeOnly))
	}
	p.results = append(p.results, result)
	r.mu.Unlock()
	r.wake()
	patience := time.NewTimer(r.pace.patience)
	defer patience.Stop()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return fmt.Errorf("committing %d replicas: %w", to, context.Cause(ctx))
	case <-patience.C:
		return fmt.Errorf("%w: the push has not ended after %s, and goes on", scale.ErrDeferred, r.pace.patience)
	}
}

var (
	errNotLeading = errors.New("another replica leads by now, so nothing is committed")
	errWithdrawn  = errors.New("another count is wanted by now")
)

// want makes what is wanted pending, unless it is already, for whoever holds
// the lock.
func (r *Repository) want(w Wanted) *pending {
	if p := r.pending; p != nil && p.same(w) {
		return p
	}
	if w.ID == "" {
		w.ID = rand.Text()
	}
	r.pending.settle(errWithdrawn)
	r.pending = &pending{Wanted: w, term: r.entered, since: r.now()}
	return r.pending
}

// enter forgets what is of another term than this one, which it returns, for
// whoever holds the lock.
func (r *Repository) enter() uint64 {
	term := r.term()
	if term == r.entered {
		return term
	}
	r.pending.settle(errNotLeading)
	r.entered, r.pending, r.recorded, r.arriving = term, nil, nil, nil
	r.failures, r.retry, r.status.LastError = 0, time.Time{}, ""
	r.read()
	if r.unread = term != 0 && r.config.Mode == config.GitInstead; r.unread {
		r.reading = make(chan struct{})
		r.wake()
	}
	return term
}

// Withdraw gives up what is pending: the count is to stay as it is. A push that
// is on its way is not called back.
func (r *Repository) Withdraw() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.config.Mode == config.GitInstead && r.pending != nil {
		r.giveUp()
	}
}

// giveUp is for whoever holds the lock. With what is pending goes why that has
// failed.
func (r *Repository) giveUp() {
	r.pending.settle(errWithdrawn)
	r.pending = nil
	r.rest()
}

// rest forgets failures when nothing is left that would be tried again, for
// whoever holds the lock.
func (r *Repository) rest() {
	if r.pending == nil && r.dry == nil {
		r.failures, r.retry, r.status.LastError = 0, time.Time{}, ""
	}
}

// Record has what is wanted committed by and by; the latest counts. What was
// committed last is not committed again, also when somebody else has changed
// the file since.
func (r *Repository) Record(w Wanted) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.wake()
	leads := r.enter() != 0
	switch {
	case w.DryRun:
		r.dry = &w
	case r.recorded != nil && r.recorded.same(w):
		r.giveUp()
	case leads:
		r.want(w)
	}
}

// arriving is a count that was pushed and that the target does not have yet.
type arriving struct {
	count int32
	// from are the counts that the target may still have: the one it had, and
	// those that were pushed before. nil, after it was read at the start of a
	// term, until it is known which it has.
	from []int32
	// since is when it was pushed, and until when it is not waited for any
	// longer.
	since, until time.Time
}

// arrival is how long whatever applies the repository may take. After that the
// count that is there counts again, so that a commit which somebody has taken
// back does not leave the target alone for ever.
const arrival = 15 * time.Minute

// Current is the replica count to decide from, in the mode instead: the live
// one, but from a push on the pushed one until the live one has become that. A
// live count that is another altogether means that somebody else scaled: it
// counts. At the start of a term it waits, for a while, until Run has read what
// was pushed in earlier ones.
func (r *Repository) Current(ctx context.Context, live int32) int32 {
	r.mu.Lock()
	r.enter()
	reading := r.reading
	r.mu.Unlock()
	r.known(ctx, reading)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live = live
	a := r.arriving
	if a == nil {
		return live
	}
	if a.from == nil {
		a.from = []int32{live}
		if live != a.count {
			r.log.Info("Waiting for a count that was pushed earlier", "autoscaler", r.id, "pushed", a.count, "live", live, "since", a.since)
		}
	}
	expected := slices.Contains(a.from, live)
	late := !r.now().Before(a.until)
	if live == a.count || !expected || late {
		r.arriving = nil
		if late && live != a.count {
			r.log.Warn("A count that was pushed has not reached the target, and is not waited for any longer: does anything apply the repository?",
				"autoscaler", r.id, "pushed", a.count, "live", live, "waited", arrival)
		}
		return live
	}
	return a.count
}

// maxArriving is how many counts are remembered that may be on their way.
const maxArriving = 16

// arrives notes a pushed count, for whoever holds the lock.
func (r *Repository) arrives(before, count int32) {
	from := []int32{r.live, before}
	if a := r.arriving; a != nil {
		from = slices.Concat(a.from, []int32{a.count})
		from = from[max(0, len(from)-maxArriving):]
	}
	if count == r.live && r.arriving == nil {
		return
	}
	r.arriving = &arriving{count: count, from: from, since: r.now(), until: r.now().Add(arrival)}
}

// Status is how things are.
func (r *Repository) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.enter()
	status := r.status
	if p := r.pending; p != nil {
		status.Pending = &Pending{From: p.From, To: p.Replicas, Min: p.Min, Max: p.Max, Since: p.since, Due: r.due(), Reason: oneLine(p.Reason)}
		if r.failures > 0 {
			status.Pending.Due = r.retry
		}
	}
	if a := r.arriving; a != nil && a.from != nil {
		status.Arriving = &Arriving{Replicas: a.count, Live: r.live, Since: a.since}
	}
	return status
}

// maxUpdates is how many updates wait at most, and maxExchanges for how many
// exchanges that do not end.
const (
	maxUpdates   = 16
	maxExchanges = 3
)

// File is a file that somebody wants committed.
type File struct {
	// Path is within the repository.
	Path    string
	Content string
	// Message is the commit's, and By who asks for it, in the trailer
	// CPA-Requested-By.
	Message, By string
}

// Update commits a file, below gitOps.update.allowedPath, as it is; one that is
// not there is made. It waits until that is pushed. Its error is ErrNotEnabled,
// ErrRefused for what cannot be done that way, or of the repository.
func (r *Repository) Update(ctx context.Context, f File) (Outcome, error) {
	if err := r.checkUpdate(f); err != nil {
		return Outcome{}, err
	}
	timeout := maxExchanges * r.config.Timeout.Duration()
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("not done within %s", timeout))
	defer cancel()
	u := &update{File: f, ctx: ctx, id: rand.Text(), result: make(chan updated, 1)}
	select {
	case r.updates <- u:
	default:
		return Outcome{}, fmt.Errorf("%d updates wait already: try again later", maxUpdates)
	}
	select {
	case done := <-u.result:
		return done.Outcome, done.err
	case <-r.stopped:
		return Outcome{}, fmt.Errorf("committing %s: %w", f.Path, errStopped)
	case <-ctx.Done():
		return Outcome{}, fmt.Errorf("committing %s: %w", f.Path, context.Cause(ctx))
	}
}

func (r *Repository) checkUpdate(f File) error {
	allowed := strings.TrimSuffix(r.config.Update.AllowedPath, "/")
	switch {
	case !r.config.Update.Enabled:
		return ErrNotEnabled
	case allowed != "." && !strings.HasPrefix(f.Path, allowed+"/"):
		return refused("file_path: must lie below %s (gitOps.update.allowedPath), got %q", allowed, shorten(f.Path))
	case int64(len(f.Content)) > r.config.Update.MaxBytes:
		return refused("new_content: must be at most %d bytes (gitOps.update.maxBytes), got %d", r.config.Update.MaxBytes, len(f.Content))
	case strings.TrimSpace(f.Message) == "":
		return refused("commit_message: is required")
	case len(f.Message) > maxMessage || !utf8.ValidString(f.Message):
		return refused("commit_message: must be UTF-8 text of at most %d bytes", maxMessage)
	case strings.ContainsFunc(f.Message, func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune("\t\r\n", r) }):
		return refused("commit_message: must be text without control characters, but for the ends of lines")
	}
	if err := config.CheckGitPath(f.Path); err != nil {
		return refused("file_path: %v", err)
	}
	return nil
}

// maxMessage is the longest message of an update, in bytes.
const maxMessage = 4096

// who commits.
func (r *Repository) who() object.Signature {
	return object.Signature{Name: r.config.Author.Name, Email: r.config.Author.Email, When: r.now()}
}

// wake has Run look.
func (r *Repository) wake() {
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// Limit is the largest file that Update takes, in bytes; 0 if it takes none.
func (r *Repository) Limit() int64 {
	if !r.config.Update.Enabled {
		return 0
	}
	return r.config.Update.MaxBytes
}
