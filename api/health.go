// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// checkTimeout bounds all the checks together.
	checkTimeout = 5 * time.Second
	// checkEvery is how long their outcome is good for: probes are many.
	checkEvery = 5 * time.Second
)

// Check is something that must hold.
type Check struct {
	Name string
	// Fails is why it does not hold, nil if it does.
	Fails func(ctx context.Context) error
}

// Checks are what must hold for a process to do its work. Their outcome is
// remembered for checkEvery. They are safe for concurrent use.
type Checks struct {
	log    *slog.Logger
	checks []Check

	mu       sync.Mutex
	at       time.Time
	outcomes []error
	// told is what failed when that was logged last.
	told string
}

// NewChecks makes Checks, whose failures are logged.
func NewChecks(log *slog.Logger, checks ...Check) *Checks { return &Checks{log: log, checks: checks} }

// look returns what each check says. Who comes while it is looked waits for the
// same outcome.
func (c *Checks) look(ctx context.Context) []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.outcomes != nil && time.Since(c.at) < checkEvery {
		return c.outcomes
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	c.outcomes = make([]error, len(c.checks))
	for i, check := range c.checks {
		c.outcomes[i] = check.Fails(ctx)
	}
	c.at = time.Now()
	c.tell()
	return c.outcomes
}

// tell logs what fails, once for as long as it is the same.
func (c *Checks) tell() {
	err := errors.Join(c.outcomes...)
	switch {
	case err == nil && c.told != "":
		c.told = ""
		c.log.Info("Ready again")
	case err != nil && err.Error() != c.told:
		c.told = err.Error()
		c.log.Warn("Not ready", "error", err)
	}
}

// loopCheck is whether the autoscaler gets on.
const loopCheck = "loop"

// livez says whether the process is worth keeping.
func (h *handler) livez(w http.ResponseWriter, r *http.Request) {
	h.probe(w, r, []string{loopCheck}, []error{h.Autoscaler.Alive()})
}

// readyz says whether it can do its work.
func (h *handler) readyz(w http.ResponseWriter, r *http.Request) {
	names, outcomes := []string{loopCheck}, append([]error{h.Autoscaler.Alive()}, h.Ready.look(r.Context())...)
	for _, check := range h.Ready.checks {
		names = append(names, check.Name)
	}
	h.probe(w, r, names, outcomes)
}

// probe answers with what failed, or with ?verbose of each check what became of
// it, as the API server of Kubernetes does; why is for the log and for those who
// act for the operator, since everybody may ask.
func (h *handler) probe(w http.ResponseWriter, r *http.Request, names []string, outcomes []error) {
	var detail, failures strings.Builder
	status, text := http.StatusOK, "ok\n"
	for i, err := range outcomes {
		if err == nil {
			fmt.Fprintf(&detail, "[+]%s ok\n", names[i])
			continue
		}
		why := err.Error()
		if h.auth != nil && names[i] != loopCheck {
			why = "reason withheld, see the log"
		}
		fmt.Fprintf(&detail, "[-]%s failed: %s\n", names[i], why)
		fmt.Fprintf(&failures, "failed: %s: %s\n", names[i], why)
		status, text = http.StatusServiceUnavailable, failures.String()
	}
	if r.URL.Query().Has("verbose") {
		text = detail.String()
	}
	h.send(w, status, "text/plain; charset=utf-8", []byte(text))
}

// healthy is the answer of /health.
type healthy struct {
	Status    string    `json:"status"`
	Timestamp time.Time `json:"timestamp"`
}

func (h *handler) health(w http.ResponseWriter, _ *http.Request) {
	if h.Autoscaler.Alive() != nil {
		h.write(w, http.StatusServiceUnavailable, healthy{Status: "failing", Timestamp: time.Now()})
		return
	}
	h.write(w, http.StatusOK, healthy{Status: "ok", Timestamp: time.Now()})
}
