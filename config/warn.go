// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

// warn tells of what is allowed but will surprise, in a valid and complete
// configuration.
func (c *Config) warn(d *decoder) {
	c.warnStuckAtZero(d)
	c.warnForgottenZero(d)
	if c.LeaderElection.Enabled && c.State.Store == StateNone {
		d.warn("leaderElection", "a new leader does not know of the pause, hold or override, nor of the scale events, of the one before: "+
			"set state.store to configMap")
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
