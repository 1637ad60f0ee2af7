// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// ids counts the commits of main by the decisions they name.
func ids(t *testing.T, repository string) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for line := range strings.Lines(run(t, repository, "git", "log", "--format=%(trailers:key=CPA-Decision-Id,valueonly)", "main")) {
		if id := strings.TrimSpace(line); id != "" {
			counts[id]++
		}
	}
	return counts
}

// Two that push at the same time lose nothing and double nothing.
func TestTwoWriters(t *testing.T) {
	for name, start := range everywhere {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			each := 100
			if p.settings.SSH != nil {
				each = 10 // An sshd for each exchange takes its time.
			}
			var writing sync.WaitGroup
			acknowledged := make([][]string, 2)
			for i := range 2 {
				r := open(t, p.settings, Options{ID: fmt.Sprintf("writer-%d", i)})
				writing.Go(func() {
					for n := range each {
						// A push may be outrun five times: then its caller tries again.
						for {
							content := fmt.Sprintf("%d of %d", n, i)
							outcome, err := r.Update(t.Context(), File{Path: fmt.Sprintf("apps/%d.txt", i), Content: content, Message: "Say " + content, By: "token:ops"})
							if err == nil && outcome.Changed {
								acknowledged[i] = append(acknowledged[i], outcome.OID)
								break
							}
							if err == nil || !errors.Is(err, errMoved) {
								t.Errorf("%s: %+v, %v", content, outcome, err)
								return
							}
						}
					}
				})
			}
			writing.Wait()
			history := map[string]bool{}
			for hash := range strings.FieldsSeq(run(t, p.repository, "git", "rev-list", "main")) {
				history[hash] = true
			}
			for i, hashes := range acknowledged {
				if len(hashes) != each {
					t.Errorf("writer %d was acknowledged %d commits", i, len(hashes))
				}
				for _, hash := range hashes {
					if !history[hash] {
						t.Errorf("%s was acknowledged and is not there", hash)
					}
				}
			}
			if len(history) != 1+2*each || len(ids(t, p.repository)) != 2*each {
				t.Errorf("there are %d commits of %d decisions, want %d", len(history)-1, len(ids(t, p.repository)), 2*each)
			}
			for id, count := range ids(t, p.repository) {
				if count != 1 {
					t.Errorf("%s was committed %d times", id, count)
				}
			}
			sound(t, p.repository)
		})
	}
}

// The server is down: the count stays pending for all to see, and is pushed
// once when it is back.
func TestAServerThatIsDown(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			var log locked
			r := open(t, p.settings, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
			p.interfere.set(func(i *interference) { i.down = true })
			err := r.Write(t.Context(), decision(3, 5))
			if err == nil || errors.Is(err, scale.ErrDeferred) {
				t.Fatalf("got %v", err)
			}
			if again := r.Write(t.Context(), decision(3, 5)); again == nil || errors.Is(again, scale.ErrDeferred) {
				t.Errorf("written again: %v", again)
			}
			if line := log.String(); !strings.Contains(line, "Committing to the repository failed, and is tried again") {
				t.Errorf("the log says\n%s", line)
			}
			status := r.Status()
			if p := status.Pending; p == nil || p.From != 3 || *p.To != 5 || p.Since.IsZero() || p.Reason != "evaluated 5 (900 jobs wait)" || status.LastError == "" {
				t.Errorf("status %+v, pending %+v", status, p)
			}
			if r.Current(t.Context(), 3) != 3 {
				t.Error("a count that is not pushed is current")
			}
			p.interfere.set(func(i *interference) { i.down = false })
			eventually(t, "it is pushed", func() bool { return r.Status().Pending == nil })
			if got := r.Current(t.Context(), 3); got != 5 {
				t.Errorf("current is %d", got)
			}
			if r.Status().LastError != "" || commits(t, p.repository) != 2 {
				t.Errorf("status %+v, %d commits", r.Status(), commits(t, p.repository))
			}
			sound(t, p.repository)
		})
	}
}

// locked is a log that several may write to.
type locked struct {
	mu sync.Mutex
	to bytes.Buffer
}

func (l *locked) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(text)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.String()
}

// The server takes a push, and the connection ends before it says so. It is
// found in the history, also below what others have pushed since.
func TestALostAnswer(t *testing.T) {
	p := overHTTPSServer(t)
	r := open(t, p.settings, Options{})
	for i, to := range []int32{5, 6, 7} {
		p.interfere.set(func(i *interference) { i.cut = 1 })
		if err := r.Write(t.Context(), decision(to-1, to)); err != nil {
			t.Fatal(err)
		}
		if got := commits(t, p.repository); got != i+2 {
			t.Fatalf("%d commits, want %d", got, i+2)
		}
	}
	if tip := strings.TrimSpace(run(t, p.repository, "git", "rev-parse", "main")); r.Status().LastCommit != tip {
		t.Errorf("the last commit is %s, want %s", r.Status().LastCommit, tip)
	}
	outcome := func() Outcome {
		p.interfere.set(func(i *interference) { i.cut = 1 })
		outcome, err := r.Update(t.Context(), File{Path: "apps/x.txt", Content: "x", Message: "Add x"})
		if err != nil {
			t.Fatal(err)
		}
		return outcome
	}()
	if tip := strings.TrimSpace(run(t, p.repository, "git", "rev-parse", "main")); outcome.OID != tip || !outcome.Changed {
		t.Errorf("%+v, want %s", outcome, tip)
	}
	for id, count := range ids(t, p.repository) {
		if count != 1 {
			t.Errorf("%s was committed %d times", id, count)
		}
	}
}

// The program that takes a push is killed as soon as the branch has moved.
func TestAServerThatIsKilled(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			once := filepath.Join(t.TempDir(), "once")
			script := fmt.Sprintf("#!/bin/sh\n[ \"$1\" = committed ] && mkdir %s && kill -9 $PPID\nexit 0\n", once)
			if err := os.WriteFile(filepath.Join(p.repository, "hooks", "reference-transaction"), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			r := open(t, p.settings, Options{})
			if err := r.Write(t.Context(), decision(3, 5)); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(once); err != nil {
				t.Error("nothing was killed")
			}
			if got := commits(t, p.repository); got != 2 || len(ids(t, p.repository)) != 1 {
				t.Errorf("%d commits", got)
			}
			if err := r.Write(t.Context(), decision(5, 6)); err != nil {
				t.Error(err)
			}
			sound(t, p.repository)
		})
	}
}

// The answer is lost, and the server is down; others push, one of them another
// count, before it is back. The commit is found, and not made again.
func TestALostAnswerBelowOtherCommits(t *testing.T) {
	p := overHTTPSServer(t)
	r := open(t, p.settings, Options{})
	p.interfere.set(func(i *interference) { i.cut, i.downAfterCut = 1, true })
	if err := r.Write(t.Context(), decision(3, 5)); err == nil {
		t.Fatal("it was acknowledged")
	}
	{
		for n := range 20 {
			commitFiles(t, p.repository, "Meanwhile", map[string]string{"README.md": strconv.Itoa(n)})
		}
		commitFiles(t, p.repository, "Scale by hand", map[string]string{manifestPath: strings.Replace(manifest, "3", "9", 1)})
	}
	p.interfere.set(func(i *interference) { i.down = false })
	eventually(t, "it is known to be pushed", func() bool { return r.Status().Pending == nil })
	if got := commits(t, p.repository); got != 1+1+20+1 {
		t.Errorf("%d commits", got)
	}
	if !strings.Contains(show(t, p.repository, manifestPath), "replicas: 9") {
		t.Error("what somebody committed since was overwritten")
	}
}

// A hook that rejects: told in its words, pending, and done once it no longer
// does.
func TestAHookThatRejects(t *testing.T) {
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			hook := filepath.Join(p.repository, "hooks", "pre-receive")
			if err := os.WriteFile(hook, []byte("#!/bin/sh\necho 'No deployments on Fridays.' >&2\nexit 1\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			r := open(t, p.settings, Options{})
			err := r.Write(t.Context(), decision(3, 5))
			if err == nil || !strings.Contains(err.Error(), "the server refuses the push: pre-receive hook declined") || !strings.Contains(err.Error(), "No deployments on Fridays.") {
				t.Errorf("got %v", err)
			}
			if err := os.Remove(hook); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it is pushed", func() bool { return r.Status().Pending == nil })
			if commits(t, p.repository) != 2 {
				t.Errorf("%d commits", commits(t, p.repository))
			}
		})
	}
}

// A pending count that is superseded or withdrawn is never committed.
func TestAPendingCountThatIsNotWantedAnyMore(t *testing.T) {
	p := overHTTPSServer(t)
	r := open(t, p.settings, Options{})
	p.interfere.set(func(i *interference) { i.down = true })
	for _, to := range []int32{5, 6} {
		if err := r.Write(t.Context(), decision(3, to)); err == nil {
			t.Fatal("it was acknowledged")
		}
	}
	p.interfere.set(func(i *interference) { i.down = false })
	eventually(t, "the latest is pushed", func() bool { return r.Status().Pending == nil })
	if got := commits(t, p.repository); got != 2 || !strings.Contains(show(t, p.repository, manifestPath), "replicas: 6") {
		t.Errorf("%d commits", got)
	}
	p.interfere.set(func(i *interference) { i.down = true })
	if err := r.Write(t.Context(), decision(6, 7)); err == nil {
		t.Fatal("it was acknowledged")
	}
	r.Withdraw()
	p.interfere.set(func(i *interference) { i.down = false })
	if status := r.Status(); status.Pending != nil {
		t.Errorf("pending %+v", status.Pending)
	}
	// An update goes through, so nothing else waits.
	if _, err := r.Update(t.Context(), File{Path: "apps/x.txt", Content: "x", Message: "Add x"}); err != nil {
		t.Fatal(err)
	}
	if got := commits(t, p.repository); got != 3 {
		t.Errorf("%d commits", got)
	}
}

// What cannot be committed is withdrawn: nothing is at fault any more, and
// another count is tried at once.
func TestAFailureThatIsWithdrawn(t *testing.T) {
	for _, mode := range []config.GitMode{config.GitInstead, config.GitRecord} {
		t.Run(string(mode), func(t *testing.T) {
			p := overHTTPSServer(t)
			p.settings.Mode = mode
			r := made(t, p.settings, Options{})
			r.pace.first, r.pace.last = time.Hour, time.Hour
			begin(t, r)
			write := func(from, to int32) {
				if mode == config.GitInstead {
					_ = r.Write(t.Context(), decision(from, to))
				} else {
					r.Record(Wanted{Replicas: &to, From: from})
				}
			}
			write(3, 5)
			eventually(t, "it is committed", func() bool { return r.Status().LastCommit != "" && r.Status().Pending == nil })
			p.interfere.set(func(i *interference) { i.down = true })
			write(5, 6)
			eventually(t, "it fails", func() bool { return r.Status().LastError != "" })
			p.interfere.set(func(i *interference) { i.down = false })
			if mode == config.GitInstead {
				r.Withdraw()
			} else {
				write(6, 5)
			}
			if status := r.Status(); status.Pending != nil || status.LastError != "" || status.Failures != 1 {
				t.Errorf("status %+v", status)
			}
			write(5, 7)
			eventually(t, "it is committed", func() bool { return commits(t, p.repository) == 3 })
		})
	}
}

// An update that nobody is there to do any more, or that nobody has done in
// three times the timeout of an exchange, is not waited for.
func TestUpdatesThatNobodyDoes(t *testing.T) {
	c := settings(bare(t))
	r := made(t, c, Options{})
	stop := begin(t, r)
	stop()
	if _, err := r.Update(t.Context(), File{Path: "apps/x", Content: "x", Message: "m"}); !errors.Is(err, errStopped) {
		t.Errorf("got %v", err)
	}
	c.Timeout = 20
	r = made(t, c, Options{})
	if _, err := r.Update(t.Context(), File{Path: "apps/x", Content: "x", Message: "m"}); err == nil || !strings.Contains(err.Error(), "not done within 60ms") {
		t.Errorf("got %v", err)
	}
}

// A server that accepts connections and says nothing: the timeout holds, and
// so does the end of the process.
func TestASilentServer(t *testing.T) {
	address := silent(t)
	secure := overSSHServer(t)
	for name, change := range map[string]func(c *config.GitOps){
		"https": func(c *config.GitOps) { c.Repository = "https://" + address + "/repo.git" },
		"ssh": func(c *config.GitOps) {
			c.Repository, c.SSH = "ssh://git@"+address+"/repo.git", &config.GitSSH{
				PrivateKeyFile: secure.settings.SSH.PrivateKeyFile,
				KnownHostsFile: file600(t, "known", "["+strings.Replace(address, ":", "]:", 1)+" "+publicKey(t, secure.settings.SSH.PrivateKeyFile)),
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := settings("")
			change(&c)
			c.Timeout = 300
			r := open(t, c, Options{})
			began := time.Now()
			err := r.Write(t.Context(), decision(3, 5))
			if err == nil || !strings.Contains(err.Error(), "has not answered within the gitOps.timeout of 300ms") || time.Since(began) > 20*time.Second {
				t.Errorf("after %s: %v", time.Since(began), err)
			}
		})
	}
}

// A write that takes long is left to Run.
func TestAPushThatTakesLong(t *testing.T) {
	c := settings("https://" + silent(t) + "/repo.git")
	r := made(t, c, Options{})
	r.pace.patience = 50 * time.Millisecond
	begin(t, r)
	if err := r.Write(t.Context(), decision(3, 5)); !errors.Is(err, scale.ErrDeferred) || r.Status().Pending == nil {
		t.Errorf("got %v, pending %+v", err, r.Status().Pending)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the term is over"))
	if err := r.Write(ctx, decision(3, 5)); err == nil || !strings.Contains(err.Error(), "the term is over") {
		t.Errorf("got %v", err)
	}
}

// Within minInterval of the last commit a count waits; the latest is committed
// when the time has come.
func TestTheTimeBetweenTwoCommits(t *testing.T) {
	repository := bare(t)
	c := settings(repository)
	c.MinInterval = new(config.Seconds(60))
	clock := &clock{now: time.Now()}
	r := open(t, c, Options{Now: clock.read})
	if err := r.Write(t.Context(), decision(3, 5)); err != nil {
		t.Fatal(err)
	}
	clock.pass(20 * time.Second)
	for _, to := range []int32{6, 7} {
		err := r.Write(t.Context(), decision(5, to))
		if !errors.Is(err, scale.ErrDeferred) || !strings.Contains(err.Error(), "gitOps.minInterval after the commit before") {
			t.Errorf("got %v", err)
		}
	}
	if commits(t, repository) != 2 || *r.Status().Pending.To != 7 {
		t.Errorf("%d commits, pending %+v", commits(t, repository), r.Status().Pending)
	}
	clock.pass(41 * time.Second)
	r.wake()
	eventually(t, "it is pushed", func() bool { return r.Status().Pending == nil })
	if commits(t, repository) != 3 || !strings.Contains(show(t, repository, manifestPath), "replicas: 7") {
		t.Errorf("%d commits\n%s", commits(t, repository), show(t, repository, manifestPath))
	}
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Only the leader commits.
func TestWhoDoesNotLead(t *testing.T) {
	p := overHTTPSServer(t)
	var term atomic.Uint64
	term.Store(1)
	r := open(t, p.settings, Options{Term: term.Load})
	p.interfere.set(func(i *interference) { i.down = true })
	if err := r.Write(t.Context(), decision(3, 5)); err == nil {
		t.Fatal("it was acknowledged")
	}
	term.Store(0)
	p.interfere.set(func(i *interference) { i.down = false })
	eventually(t, "it is given up", func() bool { return r.Status().Pending == nil })
	if err := r.Write(t.Context(), decision(3, 5)); !errors.Is(err, errNotLeading) {
		t.Errorf("got %v", err)
	}
	r.Record(Wanted{Replicas: new(int32(5))})
	if commits(t, p.repository) != 1 || r.Status().Pending != nil {
		t.Errorf("%d commits, pending %+v", commits(t, p.repository), r.Status().Pending)
	}
}

func TestCurrent(t *testing.T) {
	repository := bare(t)
	clock := &clock{now: time.Now()}
	r := open(t, settings(repository), Options{Now: clock.read})
	write := func(from, to int32) {
		t.Helper()
		if err := r.Write(t.Context(), decision(from, to)); err != nil {
			t.Fatal(err)
		}
	}
	current := func(live, want int32) {
		t.Helper()
		if got := r.Current(t.Context(), live); got != want {
			t.Errorf("with %d live it is %d, want %d", live, got, want)
		}
	}
	current(3, 3)
	write(3, 5)
	current(3, 5)
	current(3, 5)
	write(5, 8)
	current(3, 8)
	current(5, 8) // The first has arrived.
	current(8, 8) // The second, too.
	current(3, 3) // Somebody else scales.
	write(3, 4)
	current(3, 4)
	current(6, 6) // Somebody else scales meanwhile.
	current(3, 3)
	write(3, 9)
	current(3, 9)
	clock.pass(arrival)
	current(3, 3) // It does not arrive.
	write(3, 9)   // The file says so already, so it is waited for again.
	current(3, 9)
}

func TestRecording(t *testing.T) {
	for name, start := range everywhere {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			c := p.settings
			c.Mode, c.File, c.Replicas, c.MinReplicas, c.MaxReplicas = config.GitRecord, "apps/web/hpa.yaml", "status.replicas", "spec.minReplicas", "spec.maxReplicas"
			commitFiles(t, p.repository, "Add", map[string]string{c.File: "spec: {minReplicas: 1, maxReplicas: 10}\nstatus: {replicas: 3}\n"})
			r := open(t, c, Options{})
			r.Record(Wanted{Replicas: new(int32(4)), Min: new(int32(2)), Max: new(int32(10)), From: 3, ID: "decision-1", Reason: "x\nCPA-Object: forged\u2028CPA-Replicas: 1 -> 100"})
			eventually(t, "it is committed", func() bool { return r.Status().LastCommit != "" && r.Status().Pending == nil })
			if got := show(t, p.repository, c.File); got != "spec: {minReplicas: 2, maxReplicas: 10}\nstatus: {replicas: 4}\n" {
				t.Errorf("the file is %s", got)
			}
			message := run(t, p.repository, "git", "log", "-1", "--format=%B", "main")
			for name, want := range map[string]string{"CPA-Object": "shop/deployment/web", "CPA-Decision-Id": "decision-1", "CPA-Replicas": "3 -> 4", "CPA-Min-Replicas": "1 -> 2", "CPA-Max-Replicas": "", "CPA-Reason": "x CPA-Object: forged CPA-Replicas: 1 -> 100"} {
				got := run(t, p.repository, "git", "log", "-1", "--format=%(trailers:key="+name+",valueonly)", "main")
				if strings.TrimSpace(got) != want {
					t.Errorf("%s is %q in\n%s", name, got, message)
				}
			}
			before := commits(t, p.repository)
			r.Record(Wanted{Replicas: new(int32(4)), Min: new(int32(2)), Max: new(int32(10))})
			if r.Status().Pending != nil {
				t.Error("the same is pending again")
			}
			r.Record(Wanted{Replicas: new(int32(4)), Min: new(int32(2)), Max: new(int32(20)), DryRun: true})
			eventually(t, "the difference is shown", func() bool { return r.Status().Diff != "" })
			if want := "--- a/apps/web/hpa.yaml\n+++ b/apps/web/hpa.yaml\n@@ -1 +1 @@\n-spec: {minReplicas: 2, maxReplicas: 10}\n+spec: {minReplicas: 2, maxReplicas: 20}\n"; r.Status().Diff != want {
				t.Errorf("the difference is\n%s", r.Status().Diff)
			}
			if commits(t, p.repository) != before {
				t.Error("a dry run has committed")
			}
		})
	}
}
