// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

// DefaultTimeout is how long one call of a method may take that sets no
// timeout.
const DefaultTimeout Milliseconds = 5000

// How many requests a minute the REST API takes, from a caller and in all.
const (
	DefaultPerCaller = 1200
	DefaultTotal     = 6000
)

// Default is the configuration before anything is read. It is not valid by
// itself: scaleTargetRef, metric and evaluate have no defaults.
func Default() Config {
	return Config{
		Process: Process{
			APIConfig: API{
				Enabled: true, Port: 5000, Host: "0.0.0.0", Page: new(true),
				RateLimit: RateLimit{PerCaller: new(DefaultPerCaller), Total: new(DefaultTotal)},
			},
			LogFormat:      LogText,
			LeaderElection: LeaderElection{LeaseDuration: 15, RenewDeadline: 10, RetryPeriod: 2},
		},
		Autoscaler: Autoscaler{
			Namespace:               "default",
			Interval:                15000,
			StartTime:               1,
			RunMode:                 PerPod,
			OnPodFailure:            PodFailureFail,
			MinReplicas:             1,
			MaxReplicas:             10,
			InitialReadinessDelay:   30,
			CPUInitializationPeriod: 300,
			MaxOutputBytes:          8 << 20,
			State:                   State{Store: StateNone},
		},
	}
}
