// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"hash/maphash"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/go-chi/httprate"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/auth"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// limitWindow is the time that limits are given for. Of the requests of the
// window before, the part counts that lies less than that ago.
const limitWindow = time.Minute

const (
	tooManyOfCaller = "too many requests of this caller (apiConfig.rateLimit.perCaller): try again later"
	tooManyInAll    = "too many requests in all (apiConfig.rateLimit.total): try again later"
)

// refusal answers a request that is not served.
type refusal func(w http.ResponseWriter, code int, message string)

// limits hold the callers to their number of requests. They are safe for
// concurrent use. A limit that is not set is nil.
type limits struct {
	refuse refusal
	// addresses counts who is not identified, or not yet; attempts is its
	// counter. callers counts the others.
	addresses, callers, total *httprate.RateLimiter
	attempts                  *counter
}

func newLimits(c config.RateLimit, refuse refusal) *limits {
	l := &limits{refuse: refuse, attempts: newCounter()}
	perCaller, total := config.DefaultPerCaller, config.DefaultTotal
	if c.PerCaller != nil {
		perCaller = *c.PerCaller
	}
	if c.Total != nil {
		total = *c.Total
	}
	if perCaller > 0 {
		l.addresses, l.callers = newLimiter(perCaller, l.attempts), newLimiter(perCaller, newCounter())
	}
	if total > 0 {
		l.total = newLimiter(total, newCounter())
	}
	return l
}

func newLimiter(limit int, counts *counter) *httprate.RateLimiter {
	return httprate.NewRateLimiter(limit, limitWindow, httprate.WithLimitCounter(counts),
		httprate.WithResponseHeaders(httprate.ResponseHeaders{RetryAfter: "Retry-After"}))
}

// identify has every request tell who makes it, within the limits, and puts that
// into its context, where auth.CallerFrom finds it.
//
// A request counts to its address before anything is asked, so that nobody tries
// credentials without end; when they are right it counts to the caller instead,
// since many callers may share an address. An address is that of the connection:
// what headers say of it, anybody can write.
func (l *limits) identify(who func(*http.Request) (auth.Caller, error)) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			address := addressOf(r.RemoteAddr)
			if !l.admit(w, r, l.addresses, address, tooManyOfCaller) {
				return
			}
			caller, err := who(r)
			if err != nil {
				l.refuseCaller(w, err)
				return
			}
			if !caller.Anonymous() {
				l.attempts.giveBack(address)
				if !l.admit(w, r, l.callers, caller.Name(), tooManyOfCaller) {
					return
				}
			}
			next.ServeHTTP(w, r.WithContext(auth.WithCaller(r.Context(), caller)))
		})
	}
}

// count counts a request to the total, or answers it with 429.
func (l *limits) count(w http.ResponseWriter, r *http.Request) bool {
	return l.admit(w, r, l.total, "", tooManyInAll)
}

// admit counts a request, or answers it with 429 and a Retry-After.
func (l *limits) admit(w http.ResponseWriter, r *http.Request, limit *httprate.RateLimiter, key, message string) bool {
	if limit == nil || !limit.OnLimit(w, r, key) {
		return true
	}
	l.refuse(w, http.StatusTooManyRequests, message)
	return false
}

// refuseCaller answers a request whose caller is not let in, or may not do what
// was asked for.
func (l *limits) refuseCaller(w http.ResponseWriter, err error) {
	refused, ok := errors.AsType[*auth.Error](err)
	if !ok {
		refused = &auth.Error{Status: http.StatusInternalServerError, Message: "the caller could not be identified"}
	}
	if refused.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", auth.Challenge)
	}
	l.refuse(w, refused.Status, refused.Message)
}

// addressOf is what an address is counted by: IPv4 as it is, IPv6 by its first
// 64 bits, within which one host may take any address.
func addressOf(remote string) string {
	from, err := netip.ParseAddrPort(remote)
	if err != nil {
		return remote
	}
	address := from.Addr().Unmap().WithZone("")
	if address.Is4() {
		return address.String()
	}
	prefix, _ := address.Prefix(64) // 64 bits fit into IPv6
	return prefix.String()
}

const (
	// maxCounted is how many keys are counted one by one in a window.
	maxCounted = 1 << 14
	// sharedCounts is how many counts those beyond share.
	sharedCounts = 1 << 10
)

// counter counts requests by key in this window and the one before, in
// bounded memory: beyond maxCounted keys in a window the others share counts,
// and with them their limit. It is an httprate.LimitCounter. It never fails, and
// is safe for concurrent use.
type counter struct {
	seed maphash.Seed

	mu            sync.Mutex
	window        time.Time
	length        time.Duration
	latest, older counts
}

// counts are those of one window.
type counts struct {
	own    map[uint64]int
	shared [sharedCounts]int
}

var _ httprate.LimitCounter = (*counter)(nil)

func newCounter() *counter {
	return &counter{seed: maphash.MakeSeed(), latest: counts{own: map[uint64]int{}}, older: counts{own: map[uint64]int{}}}
}

// Config sets the length of a window.
func (c *counter) Config(_ int, length time.Duration) { c.length = length }

// Increment counts a request.
func (c *counter) Increment(key string, window time.Time) error { return c.IncrementBy(key, window, 1) }

// IncrementBy counts some requests.
func (c *counter) IncrementBy(key string, window time.Time, amount int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn(window)
	c.latest.add(maphash.String(c.seed, key), amount)
	return nil
}

// Get is how many requests there were in this window and the one before.
func (c *counter) Get(key string, window, _ time.Time) (now, before int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn(window)
	hash := maphash.String(c.seed, key)
	return c.latest.get(hash), c.older.get(hash), nil
}

// giveBack takes back one request, of the window before if there is none in this.
func (c *counter) giveBack(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	hash := maphash.String(c.seed, key)
	switch {
	case c.latest.get(hash) > 0:
		c.latest.add(hash, -1)
	case c.older.get(hash) > 0:
		c.older.add(hash, -1)
	}
}

// turn begins a window. Who comes late with the one before counts to this one;
// after a clock was set, all begins anew.
func (c *counter) turn(window time.Time) {
	switch window.Sub(c.window) {
	case 0, -c.length:
		return
	case c.length:
		c.latest, c.older = c.older, c.latest
	default:
		c.older.clear()
	}
	c.latest.clear()
	c.window = window
}

func (n *counts) get(hash uint64) int {
	if count, ok := n.own[hash]; ok || len(n.own) < maxCounted {
		return count
	}
	return n.shared[hash%sharedCounts]
}

func (n *counts) add(hash uint64, amount int) {
	if _, ok := n.own[hash]; ok || len(n.own) < maxCounted {
		if n.own[hash] += amount; n.own[hash] == 0 {
			delete(n.own, hash)
		}
		return
	}
	n.shared[hash%sharedCounts] += amount
}

func (n *counts) clear() {
	clear(n.own)
	n.shared = [sharedCounts]int{}
}
