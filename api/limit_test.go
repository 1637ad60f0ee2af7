// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/auth"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// guarded is a server behind limits whose callers are token:a, token:b and so
// on, by the tokens a, b and so on.
type guarded struct {
	t       *testing.T
	handler http.Handler
	limits  *limits
	// asked counts whose credentials were looked at, served who got through.
	asked, served atomic.Int32
}

func guard(t *testing.T, perCaller, total int) *guarded {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tokens")
	writeFile(t, file, []byte("a a\nb b\nc c\n"))
	authenticator := authenticate(t, config.API{Auth: config.Auth{Token: config.TokenAuth{ReadFile: file}}})
	g := &guarded{t: t, limits: newLimits(config.RateLimit{PerCaller: &perCaller, Total: &total}, writeFailure)}
	g.handler = g.limits.identify(func(r *http.Request) (auth.Caller, error) {
		g.asked.Add(1)
		return authenticator.Identify(r)
	})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.limits.count(w, r) {
			return
		}
		g.served.Add(1)
		fmt.Fprint(w, auth.CallerFrom(r.Context()).Name())
	}))
	return g
}

// writeFailure answers as handler.fail does.
func writeFailure(w http.ResponseWriter, code int, message string) {
	w.WriteHeader(code)
	fmt.Fprintf(w, `{"message":%q,"code":%d}`, message, code)
}

func authenticate(t testing.TB, c config.API) *auth.Authenticator {
	t.Helper()
	a, err := auth.New(c, auth.Target{Namespace: "shop", Name: "web"}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// ask makes a request; without a token it is anonymous.
func (g *guarded) ask(address, token string) *httptest.ResponseRecorder {
	g.t.Helper()
	r := httptest.NewRequestWithContext(g.t.Context(), http.MethodGet, "/api/v1/status", nil)
	r.RemoteAddr = address
	r.Header.Set("X-Forwarded-For", fmt.Sprintf("10.9.8.%d", g.asked.Load()%256))
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	w := httptest.NewRecorder()
	g.handler.ServeHTTP(w, r)
	return w
}

// count is how many of so many requests were answered with each status.
func (g *guarded) count(requests int, address, token string) map[int]int {
	g.t.Helper()
	statuses := map[int]int{}
	for range requests {
		statuses[g.ask(address, token).Code]++
	}
	return statuses
}

func (g *guarded) wantCount(moment string, requests int, address, token string, want map[int]int) {
	g.t.Helper()
	if diff := cmp.Diff(want, g.count(requests, address, token)); diff != "" {
		g.t.Errorf("%s (-want +got):\n%s", moment, diff)
	}
}

func TestLimits(t *testing.T) {
	const one, other = "192.0.2.1:1000", "192.0.2.2:1000"
	for name, test := range map[string]struct {
		perCaller, total int
		story            func(g *guarded)
	}{
		"a caller is counted by name, wherever from": {10, 0, func(g *guarded) {
			g.wantCount("at one place", 6, one, "a", map[int]int{200: 6})
			g.wantCount("at another", 6, other, "a", map[int]int{200: 4, 429: 2})
			g.wantCount("another caller there", 10, other, "b", map[int]int{200: 10})
		}},
		"who is anonymous is counted by address": {10, 0, func(g *guarded) {
			g.wantCount("from one port", 6, one, "", map[int]int{200: 6})
			g.wantCount("from another", 6, "192.0.2.1:2000", "", map[int]int{200: 4, 429: 2})
			g.wantCount("from elsewhere", 10, other, "", map[int]int{200: 10})
		}},
		"IPv6 is counted by /64": {10, 0, func(g *guarded) {
			for i := range 20 {
				want := http.StatusOK
				if i >= 10 {
					want = http.StatusTooManyRequests
				}
				if got := g.ask(fmt.Sprintf("[2001:db8::%x%%eth0]:1", i), "").Code; got != want {
					g.t.Errorf("request %d: got %d, want %d", i, got, want)
				}
			}
			g.wantCount("the next /64", 10, "[2001:db8:0:1::1]:1", "", map[int]int{200: 10})
			g.wantCount("IPv4 in IPv6", 6, "[::ffff:192.0.2.1]:1", "", map[int]int{200: 6})
			g.wantCount("is IPv4", 6, one, "", map[int]int{200: 4, 429: 2})
		}},
		"wrong credentials are not looked at without end": {10, 0, func(g *guarded) {
			g.wantCount("wrong", 30, one, "x", map[int]int{401: 10, 429: 20})
			if asked := g.asked.Load(); asked != 10 {
				g.t.Errorf("looked at %d credentials, want 10", asked)
			}
			g.wantCount("nor right ones from there", 1, one, "a", map[int]int{429: 1})
			g.wantCount("but from elsewhere", 10, other, "a", map[int]int{200: 10})
		}},
		"right ones do not count to their address": {10, 0, func(g *guarded) {
			for _, token := range []string{"a", "b", "c"} {
				g.wantCount(token, 10, one, token, map[int]int{200: 10})
			}
			g.wantCount("nobody", 11, one, "", map[int]int{200: 10, 429: 1})
		}},
		"all count to the total, but who is refused": {10, 25, func(g *guarded) {
			g.wantCount("wrong", 10, other, "x", map[int]int{401: 10})
			g.wantCount("a", 30, one, "a", map[int]int{200: 10, 429: 20})
			g.wantCount("b", 10, one, "b", map[int]int{200: 10})
			g.wantCount("c", 10, one, "c", map[int]int{200: 5, 429: 5})
			if got := g.ask("192.0.2.3:1", "").Body.String(); got != `{"message":"`+tooManyInAll+`","code":429}` {
				g.t.Errorf("got %s", got)
			}
		}},
		"0 is without a limit": {0, 0, func(g *guarded) {
			g.wantCount("a", 5000, one, "a", map[int]int{200: 5000})
			g.wantCount("nobody", 5000, one, "", map[int]int{200: 5000})
			g.wantCount("wrong", 5000, one, "x", map[int]int{401: 5000})
		}},
		"time passes": {10, 0, func(g *guarded) {
			g.wantCount("at first", 11, one, "a", map[int]int{200: 10, 429: 1})
			time.Sleep(90 * time.Second)
			g.wantCount("half of it back", 11, one, "a", map[int]int{200: 5, 429: 6})
			time.Sleep(2 * time.Minute)
			g.wantCount("all", 11, one, "a", map[int]int{200: 10, 429: 1})
			time.Sleep(time.Hour)
			g.wantCount("much later", 11, one, "a", map[int]int{200: 10, 429: 1})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test.story(guard(t, test.perCaller, test.total)) })
		})
	}
}

func TestWhatARefusalSays(t *testing.T) {
	g := guard(t, 1, 0)
	w := g.ask("192.0.2.1:1", "wrong")
	if w.Code != http.StatusUnauthorized || w.Header().Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("got %d with %v", w.Code, w.Header())
	}
	w = g.ask("192.0.2.1:1", "a")
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "60" ||
		w.Body.String() != `{"message":"too many requests of this caller (apiConfig.rateLimit.perCaller): try again later","code":429}` {
		t.Errorf("got %d with %v: %s", w.Code, w.Header(), w.Body)
	}
	for header := range w.Header() {
		if strings.HasPrefix(header, "X-Ratelimit") {
			t.Errorf("the answer has a header %s", header)
		}
	}
}

func TestAnErrorOfAnotherKindSaysNothing(t *testing.T) {
	l := newLimits(config.RateLimit{}, writeFailure)
	w := httptest.NewRecorder()
	l.refuseCaller(w, errors.New("secret"))
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}

func TestUnsetLimitsAreTheDefaults(t *testing.T) {
	if l := newLimits(config.RateLimit{}, writeFailure); l.addresses == nil || l.callers == nil || l.total == nil {
		t.Errorf("got %+v", l)
	}
}

// However many addresses there are, no more than so many are kept.
func TestTheCounterIsBounded(t *testing.T) {
	c := newCounter()
	c.Config(1, time.Minute)
	first := time.Unix(0, 0)
	count := func(window time.Time, from, to int) {
		for i := from; i < to; i++ {
			if err := c.Increment(fmt.Sprintf("2001:db8:%x:%x::/64", i>>16, i&0xffff), window); err != nil {
				t.Fatal(err)
			}
		}
	}
	get := func(window time.Time, key string) [2]int {
		now, before, err := c.Get(key, window, window.Add(-time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		return [2]int{now, before}
	}
	count(first, 0, 200_000)
	count(first.Add(time.Minute), 0, 200_000)
	if len(c.latest.own) != maxCounted || len(c.older.own) != maxCounted {
		t.Errorf("keeps %d and %d", len(c.latest.own), len(c.older.own))
	}
	known := "2001:db8:0:0::/64"
	if got := get(first.Add(time.Minute), known); got != [2]int{1, 1} {
		t.Errorf("one of the first has %v", got)
	}
	// Some 180 of the others share each count.
	if got := get(first.Add(time.Minute), "2001:db8:2:1::/64"); got[0] < 50 || got[1] < 50 {
		t.Errorf("one of the last shares %v", got)
	}
	late := first.Add(time.Minute - 1).Truncate(time.Minute)
	if got := get(late, known); got != [2]int{1, 1} {
		t.Errorf("who comes late has %v", got)
	}
	c.giveBack(known)
	c.giveBack(known)
	c.giveBack(known)
	if got := get(first.Add(time.Minute), known); got != [2]int{} {
		t.Errorf("given back, it has %v", got)
	}
	if got := get(first.Add(-time.Hour), known); got != [2]int{} {
		t.Errorf("with the clock set back it has %v", got)
	}
}

func TestTheCounterIsSafe(t *testing.T) {
	l := newLimits(config.RateLimit{PerCaller: new(100), Total: new(0)}, writeFailure)
	handler := l.identify(func(*http.Request) (auth.Caller, error) { return auth.Local(), nil })(
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	var served atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 50 {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
				if w.Code == http.StatusOK {
					served.Add(1)
				}
			}
		})
	}
	group.Wait()
	// Twice as many where a minute began in between.
	if got := served.Load(); got < 100 || got > 200 {
		t.Errorf("served %d, want 100", got)
	}
}

func FuzzAddressOf(f *testing.F) {
	for _, address := range []string{"192.0.2.1:1", "[::1]:2", "[fe80::1%eth0]:3", "", "@", "[::ffff:1.2.3.4]:5"} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, address string) {
		if got := addressOf(address); got == "" && address != "" {
			t.Errorf("%q is counted as nothing", address)
		}
	})
}
