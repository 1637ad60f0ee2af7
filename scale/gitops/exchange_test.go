// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// What answers over HTTPS is no git server, or sends us elsewhere.
func TestAnswersThatAreNoneOfGits(t *testing.T) {
	asked := false
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	t.Cleanup(elsewhere.Close)
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		fault  string
	}{
		{"a page", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write([]byte("<p>Sign in</p>"))
		}, `answers with "text/html" and not as a git server`},
		{"forbidden", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "answers 403"},
		{"broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }, "answers 502 Bad Gateway"},
		{"busy", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTooManyRequests) }, "answers 429"},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.RequestURI(), http.StatusMovedPermanently) //nolint:gosec // a test's
		}, "which gets no credentials: name it in gitOps.repository"},
		{"in circles", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.RequestURI(), http.StatusFound) //nolint:gosec // a test's
		}, "sends us on and on"},
		{"nothing", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		}, "the server closed the connection"},
		{"an error in git's words", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			_, _ = w.Write([]byte("0018ERR access\ndenied!\n\n"))
		}, "the server says: access denied!"},
		{"nonsense", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			_, _ = w.Write([]byte("hello, world"))
		}, "reading what the server has"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewTLSServer(test.answer)
			t.Cleanup(server.Close)
			c := settings(server.URL + "/r")
			c.HTTPS = &config.GitHTTPS{Username: "cpa", PasswordFile: file600(t, "password", password), CAFile: file600(t, "ca.pem",
				string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))}
			err := open(t, c, Options{}).Write(t.Context(), decision(3, 5))
			if err == nil || !strings.Contains(err.Error(), test.fault) || strings.Contains(err.Error(), password) {
				t.Errorf("got %v", err)
			}
		})
	}
	if asked {
		t.Error("a host was asked that is not the repository's")
	}
	c := settings(elsewhere.URL + "/r")
	if err := open(t, c, Options{}).Write(t.Context(), decision(3, 5)); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody vouches for: %v", err)
	}
}

// stuck is a repository whose exchanges do not end when they are told to.
type stuck struct {
	local
	fetching, pushing bool
	exchanges         atomic.Int32
	release           chan struct{}
}

func (s *stuck) fetch(ctx context.Context, depth int) (plumbing.Hash, storer.EncodedObjectStorer, error) {
	if s.fetching {
		s.exchanges.Add(1)
		<-s.release
	}
	return s.local.fetch(ctx, depth)
}

func (s *stuck) push(ctx context.Context, tip, commit plumbing.Hash, d *draft) error {
	err := s.local.push(ctx, tip, commit, d)
	if s.pushing {
		s.exchanges.Add(1)
		<-s.release
	}
	return err
}

// hangs has the first copy hang, until it is released.
func hangs(r *Repository, s *stuck) {
	s.local, s.release = local{path: r.place.Path, branch: "refs/heads/main"}, make(chan struct{})
	way, first := r.connect, true
	r.connect = func() (remote, error) {
		if !first {
			return way()
		}
		first = false
		return s, nil
	}
}

// A fetch that does not end is left to itself. There is no other until it does,
// however often one is asked for; then all goes on, with another copy.
func TestAFetchThatHangs(t *testing.T) {
	repository := bare(t)
	c := settings(repository)
	c.Timeout = 300
	r := made(t, c, Options{})
	s := &stuck{fetching: true}
	hangs(r, s)
	r.pace.first, r.pace.last = time.Millisecond, time.Millisecond
	begin(t, r)
	if err := r.Write(t.Context(), decision(3, 5)); !errors.Is(err, errStuck) {
		t.Errorf("got %v", err)
	}
	eventually(t, "it is tried again and again", func() bool { return r.Status().Failures > 20 })
	if got := s.exchanges.Load(); got != 1 {
		t.Errorf("%d exchanges hang", got)
	}
	close(s.release)
	eventually(t, "it is pushed", func() bool { return r.Status().Pending == nil })
	if got := commits(t, repository); got != 2 {
		t.Errorf("%d commits", got)
	}
}

// A push hangs that was done: it is found, and not done again over what somebody
// else has pushed since.
func TestAPushThatHangs(t *testing.T) {
	repository := bare(t)
	c := settings(repository)
	c.Timeout = 300
	r := made(t, c, Options{})
	s := &stuck{pushing: true}
	hangs(r, s)
	begin(t, r)
	if err := r.Write(t.Context(), decision(3, 5)); !errors.Is(err, errStuck) {
		t.Errorf("got %v", err)
	}
	commitFiles(t, repository, "Scale by hand", map[string]string{manifestPath: strings.Replace(manifest, "3", "9", 1)})
	close(s.release)
	eventually(t, "it is known to be pushed", func() bool { return r.Status().Pending == nil })
	if got := commits(t, repository); got != 3 || !strings.Contains(show(t, repository, manifestPath), "replicas: 9") {
		t.Errorf("%d commits\n%s", got, show(t, repository, manifestPath))
	}
}

func TestWhatAPushThatIsRefusedMeans(t *testing.T) {
	for status, moved := range map[string]bool{
		"failed to update ref": true, "non-fast-forward": true, "fetch first": true, "cannot lock ref 'refs/heads/main': is at x but expected y": true,
		"pre-receive hook declined": false, "protected branch hook declined": false, "branch is currently checked out": false, "deny updating a hidden ref": false,
	} {
		if err := pushRefused(status, ""); errors.Is(err, errMoved) != moved {
			t.Errorf("%s: %v", status, err)
		}
	}
}

func TestMessages(t *testing.T) {
	r := &Repository{id: "shop/deployment/web", config: config.GitOps{
		Message: "{id}: {from} to {to}\n\nBecause {reason}.\n{change}, {}\ncpa-object: forged", SkipCI: true,
	}}
	got := r.message(Wanted{From: 3, Replicas: new(int32(5)), Reason: "a\r\nb\u2028{id}\x00\u202ec", ID: "ID"}, []change{{nameReplicas, 4, 5}, {nameMax, 9, 10}})
	want := `shop/deployment/web: 3 to 5 [skip ci]

Because a b {id} c.
replicas 4 -> 5, maxReplicas 9 -> 10, {}
> cpa-object: forged

CPA-Object: shop/deployment/web
CPA-Decision-Id: ID
CPA-Reason: a b {id} c
CPA-Replicas: 3 -> 5
CPA-Max-Replicas: 9 -> 10
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error("-want +got:\n" + diff)
	}
	if got := oneLine(strings.Repeat("ä", 600)); got != strings.Repeat("ä", 500)+"..." {
		t.Errorf("a long reason is %q", got)
	}
	for message, want := range map[string]string{
		"a\n\nCPA-Decision-Id: x\n": "x", "a\n\nCPA-Decision-Id: x\n\nSigned-off-by: y\n": "", "CPA-Decision-Id: x": "x", "": "",
	} {
		if got := trailer(message, trailerDecision); got != want {
			t.Errorf("%q names %q", message, got)
		}
	}
}

func TestQuoting(t *testing.T) {
	for path, want := range map[string]string{
		"/org/repo.git": "'/org/repo.git'", "/it's": `'/it'\''s'`, "/$(x)!": `'/$(x)'\!''`, "~/r": "~/'r'", "~me/a b": "~me/'a b'", "~$(x)/r": "'~$(x)/r'",
	} {
		if got := quote(path); got != want {
			t.Errorf("%s becomes %s, want %s", path, got, want)
		}
	}
}
