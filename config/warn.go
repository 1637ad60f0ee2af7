// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"
	"time"
)

// shortestInterval is what nobody sets who knows that it is milliseconds.
const shortestInterval Milliseconds = 100

// warn tells of what is allowed but will surprise, in a valid and complete
// configuration.
func (c *Config) warn(d *decoder) {
	c.warnStuckAtZero(d)
	c.warnForgottenZero(d)
	c.warnPlainTokens(d)
	c.warnUnusedAuthority(d)
	c.warnWholeRepository(d)
	if c.Interval < shortestInterval {
		d.warn("interval", "%d is so many milliseconds: if seconds were meant, write %d", c.Interval, 1000*c.Interval)
	}
	for i, s := range c.Schedules {
		warnTurns(d, at("schedules", i), s)
	}
	if c.RunMode == PerResource {
		c.warnPerResource(d)
	}
	if most := c.Metric.atOnce(); c.RunMode == PerPod && c.Metric.Type == MethodWorker && c.GatherConcurrency > most {
		d.warn("gatherConcurrency", "%d is more than the %d that metric.worker answers at once (processes times maxInFlight), which count",
			c.GatherConcurrency, most)
	}
	if c.LeaderElection.Enabled && c.State.Store == StateNone {
		d.warn("leaderElection", "a new leader does not know of the pause, hold or override, nor of the scale events, of the one before: "+
			"set state.store to configMap")
	}
	if c.LeaderElection.Enabled && c.State.Store == StateFile {
		d.warn("state.store", "a file cannot tell that another replica has written it, if they share it at all: with leaderElection use configMap")
	}
}

// warnPerResource tells of what is about pods that are not asked about.
func (c *Config) warnPerResource(d *decoder) {
	if c.GatherConcurrency > 0 {
		d.warn("gatherConcurrency", "has no effect with the runMode per-resource, which asks once")
	}
	if c.OnPodFailure == PodFailureSkip {
		d.warn("onPodFailure", "has no effect with the runMode per-resource, which asks about no pod")
	}
}

// warnOpened tells of a variable that does without the authentication which the
// file has.
func (c *Config) warnOpened(d *decoder, authInFile bool) {
	if authInFile && c.APIConfig.Enabled && !c.APIConfig.AuthConfigured() {
		d.warn("apiConfig.auth", "what the file says of it does not count, since the environment variable apiConfig replaces the whole block: "+
			"say it there, too")
	}
}

// warnPlainTokens tells of tokens that everybody on the way can read.
func (c *Config) warnPlainTokens(d *decoder) {
	a := c.APIConfig
	if !a.Enabled || a.UseHTTPS || isLoopback(a.Host) || a.Auth.Token == (TokenAuth{}) && !a.Auth.Kubernetes.Enabled {
		return
	}
	d.warn("apiConfig.auth", "tokens cross the network as plain text: set useHTTPS, or the host to 127.0.0.1 behind something that speaks HTTPS")
}

func isLoopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && address.IsLoopback()
}

// warnUnusedAuthority tells of client certificates that have no role.
func (c *Config) warnUnusedAuthority(d *decoder) {
	if a := c.APIConfig; a.Enabled && a.ClientCAFile != "" && len(a.Auth.Certificates) == 0 {
		d.warn("apiConfig.clientCAFile", "has no effect without auth.certificates, which says what the holders of the certificates may do")
	}
}

// warnWholeRepository tells of what callers may commit that runs or fetches
// something.
func (c *Config) warnWholeRepository(d *decoder) {
	if g := c.GitOps; g != nil && g.Update.Enabled && g.Update.AllowedPath == "." {
		d.warn("gitOps.update.allowedPath", "the whole repository, with .gitmodules and the workflows of its CI, may be committed to: name a folder, such as apps")
	}
}

// warnStuckAtZero tells of a target that may be scaled to 0, but not back.
func (c *Config) warnStuckAtZero(d *decoder) {
	key := c.zeroToLeave()
	if key == "" || c.Behavior == nil || !stuckAtZero(c.Behavior.ScaleUp) {
		return
	}
	d.warn("behavior.scaleUp.policies", "never scale up from 0, which %s allows, since a percentage of 0 is 0: use the type Pods", key)
}

// zeroToLeave is the first key that allows 0 replicas beside others; empty when
// none does.
func (c *Config) zeroToLeave() string {
	if c.MinReplicas == 0 {
		return "minReplicas"
	}
	for i, s := range c.Schedules {
		if isZero(s.MinReplicas) && !isZero(s.MaxReplicas) {
			return under(at("schedules", i), "minReplicas")
		}
	}
	return ""
}

// warnForgottenZero tells of a 0 that nobody remembers to be the autoscaler's
// own.
func (c *Config) warnForgottenZero(d *decoder) {
	if c.MinReplicas == 0 || c.State.Store != StateNone {
		return
	}
	for i, s := range c.Schedules {
		if !isZero(s.MinReplicas) && !isZero(s.MaxReplicas) {
			continue
		}
		d.warn(at("schedules", i), "after a restart at 0 replicas the target is taken for disabled, since the top-level minReplicas is %d, "+
			"and never scaled up again: set state.store", c.MinReplicas)
		return
	}
}

func isZero(replicas *int32) bool { return replicas != nil && *replicas == 0 }

// aYear is one with a leap day, in which the turns of a schedule are looked at.
var aYear = time.Date(2024, time.January, 1, 0, 0, 0, 0, time.UTC)

// maxTurns bounds how many of them are.
const maxTurns = 500

// warnTurns tells of a schedule that begins or ends twice in a row. It is in
// force whenever its next end comes before its next start, which is rarely what
// was meant then.
func warnTurns(d *decoder, key string, s Schedule) {
	window, err := s.Parse()
	if err != nil {
		return
	}
	var last, starts bool
	for at, turn := aYear, 0; turn < maxTurns; turn++ {
		start, end := window.Start.Next(at), window.End.Next(at)
		if start.IsZero() || end.IsZero() {
			return
		}
		before := at
		last, starts, at = starts, start.Before(end), earlier(start, end)
		const day = "Mon 2 Jan 15:04"
		if start.Equal(end) {
			d.warn(key, "begins when it ends, as on %s, and so does not begin then: let it end a minute later, or not at all", at.Format(day))
			return
		}
		if turn == 0 || last != starts {
			continue
		}
		if starts {
			d.warn(key, "begins twice before it ends, as on %s and %s: it is in force from the last only; give every start an end",
				before.Format(day), at.Format(day))
		} else {
			d.warn(key, "ends twice after one start, as on %s and %s: it is in force until the last; give every end a start",
				before.Format(day), at.Format(day))
		}
		return
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
