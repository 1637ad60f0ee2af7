// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/auth"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/telemetry"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/leader"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/live"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale/gitops"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/state"
)

// run wires the parts of the process, and runs them until the context ends or
// one of them fails.
func run(ctx context.Context, loaded config.Loaded, path, kubeconfig string, logTo *os.File) error {
	level := &slog.LevelVar{}
	level.Set(levelOf(loaded.Config.LogVerbosity))
	log := newLog(loaded.Config.LogFormat, level, logTo)
	// client-go's own verbose lines hold whole objects, which are never logged.
	klog.SetSlogLogger(newLog(loaded.Config.LogFormat, slog.LevelInfo, logTo).With("component", "client-go"))
	for _, warning := range loaded.Warnings {
		log.Warn("The configuration may not do what it is meant to", "warning", warning)
	}

	limitMemory(memlimit.FromCgroup, log)
	clientConfig, err := resource.ClientConfig(kubeconfig)
	if err != nil {
		return err
	}
	clients, err := resource.Connect(clientConfig, "custom-pod-autoscaler/"+version, log.With("component", "kubernetes"))
	if err != nil {
		return err
	}
	watches := resource.NewWatches(clients, log.With("component", "watch"))
	defer watches.Close()
	pool := execute.NewPool(execute.PoolOptions{Log: log.With("component", "hook"), MaxOutputBytes: loaded.Config.MaxOutputBytes})
	defer pool.Close()
	id, own := names(loaded.Config.Autoscaler)
	p := parts{
		id: id, own: own, clients: clients, watches: watches, pool: pool, elector: newElector(loaded.Config, clients, own, log),
		target:  resource.NewTarget(clients, loaded.Config.ScaleTargetRef, loaded.Config.Namespace),
		events:  autoscaler.NewEventObserver(clients.Core, log.With("component", "events")),
		journal: autoscaler.NewJournal(),
		metrics: telemetry.New(telemetry.Options{
			Version: version, Hooks: pool.Usage, Requests: clients.Traffic, Log: log.With("component", "metrics"),
		}),
		log: log,
	}
	if p.git, err = newGit(loaded.Config.GitOps, p); err != nil {
		return err
	}
	scaler, err := newAutoscaler(ctx, loaded.Config.Autoscaler, p)
	if err != nil {
		return err
	}
	defer p.metrics.Add(id, metricsSource(scaler, p))()
	settings := live.New(live.Options{
		Path: path, Loaded: loaded, Term: term(p.elector), Log: log.With("component", "config"),
		Apply: func(ctx context.Context, c config.Config) error {
			if err := scaler.Configure(ctx, c.Autoscaler); err != nil {
				return err
			}
			level.Set(levelOf(c.LogVerbosity))
			return nil
		},
	})
	servers, err := listen(context.WithoutCancel(ctx), loaded.Config.APIConfig, newBackend(scaler, settings, p), p)
	if err != nil {
		return err
	}

	group, ctx := errgroup.WithContext(ctx)
	for _, server := range servers {
		group.Go(func() error { return server.Run(ctx) })
	}
	group.Go(func() error { return settings.Run(ctx) })
	// What the autoscaler needs until its end stops after it.
	serving, served := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error {
		defer served()
		return scaler.Run(ctx)
	})
	if p.git != nil {
		group.Go(func() error { return p.git.Run(serving) })
	}
	group.Go(func() error { return p.events.Run(serving) })
	if p.elector != nil {
		group.Go(func() error { return p.elector.Run(serving) })
	}
	group.Go(func() error {
		if err := pool.Reap(ctx); err != nil {
			log.Error("Orphaned processes are not reaped any more", "error", err)
		}
		return nil
	})
	err = group.Wait()
	pool.Close() // what that has to say comes before the last word
	log.Info("Stopped")
	return err
}

// parts are what the process is wired of.
type parts struct {
	// id is the autoscaler's, and own the name of the objects that belong to it.
	id, own string
	clients *resource.Clients
	watches *resource.Watches
	target  *resource.Target
	pool    *execute.Pool
	// elector is nil without leader election.
	elector *leader.Elector
	// git is nil without gitOps.
	git     *gitops.Repository
	events  *autoscaler.EventObserver
	journal *autoscaler.Journal
	metrics *telemetry.Metrics
	log     *slog.Logger
}

// names are the ID of a target's autoscaler and the name of the objects that
// belong to it.
func names(c config.Autoscaler) (id, own string) {
	return fmt.Sprintf("%s/%s/%s", c.Namespace, strings.ToLower(c.ScaleTargetRef.Kind), c.ScaleTargetRef.Name),
		resource.OwnName(c.ScaleTargetRef)
}

// newElector is nil without leader election.
func newElector(c config.Config, clients *resource.Clients, lease string, log *slog.Logger) *leader.Elector {
	election := c.LeaderElection
	if !election.Enabled {
		return nil
	}
	return leader.New(clients.Coordination, leader.Options{
		Namespace:     c.Namespace,
		Name:          lease,
		Identity:      leader.Identity(),
		LeaseDuration: election.LeaseDuration.Duration(),
		RenewDeadline: election.RenewDeadline.Duration(),
		RetryPeriod:   election.RetryPeriod.Duration(),
		Log:           log.With("component", "leader"),
	})
}

// metricsSource tells the metrics what no Record does.
func metricsSource(scaler *autoscaler.Autoscaler, p parts) telemetry.Source {
	source := telemetry.Source{Leading: leading(p.elector), Intents: func() (telemetry.Intents, bool) {
		status := scaler.Status()
		in := status.Intents
		return telemetry.Intents{Paused: in.Pause != nil, Held: in.Hold != nil, Overridden: in.Override != nil}, status.Last != nil && status.Term.Leading()
	}}
	if p.git != nil {
		source.Git = func() telemetry.Git { return gitMetrics(p.git.Status()) }
	}
	return source
}

// newAutoscaler wires one target's journey.
func newAutoscaler(ctx context.Context, c config.Autoscaler, p parts) (*autoscaler.Autoscaler, error) {
	hooks, err := execute.NewHooks(c, p.pool)
	if err != nil {
		return nil, err
	}
	store, err := state.New(ctx, c.State, p.clients, c.Namespace, p.own)
	if err != nil {
		return nil, err
	}
	p.log.Info("Starting", "version", version, "autoscaler", p.id, "runMode", string(c.RunMode), "interval", c.Interval.Duration(),
		"minReplicas", c.MinReplicas, "maxReplicas", c.MaxReplicas, "dryRun", c.DryRun)
	reader := resource.NewReader(p.target, p.watches, c.RunMode == config.PerPod)
	deps := autoscaler.Deps{
		Reader: reader,
		KubernetesMetrics: metric.NewKubernetes(p.clients, reader, metric.KubernetesOptions{
			Specs:                   c.KubernetesMetricSpecs,
			Namespace:               c.Namespace,
			InitialReadinessDelay:   c.InitialReadinessDelay.Duration(),
			CPUInitializationPeriod: c.CPUInitializationPeriod.Duration(),
		}),
		Hooks:    hooks,
		Writer:   scale.NewAPIWriter(p.target),
		Store:    store,
		Observer: autoscaler.Observers{autoscaler.LogObserver{Log: p.log}, p.journal, p.events, p.metrics},
		Log:      p.log,
	}
	if p.git != nil {
		throughGit(&deps, c.GitOps, p.git)
	}
	if p.elector != nil {
		deps.Leadership = p.elector
	}
	return autoscaler.New(autoscaler.Spec{ID: p.id, Config: c}, deps)
}

// newBackend wires what the API is a face of.
func newBackend(scaler *autoscaler.Autoscaler, settings *live.Settings, p parts) api.Backend {
	b := api.Backend{
		Autoscaler: scaler,
		Journal:    p.journal,
		Settings:   settings,
		Ready: api.NewChecks(p.log.With("component", "api"), api.Check{Name: "target", Fails: func(ctx context.Context) error {
			_, err := p.target.Scale(ctx)
			return err
		}}),
		Metrics:  p.metrics.Handler(),
		Requests: p.metrics.Request,
		Version:  version,
		Log:      p.log.With("component", "api"),
	}
	if p.git != nil {
		b.Git = p.git
	}
	return b
}

// listen opens the port of the API, if that is served, and the control socket.
func listen(ctx context.Context, c config.API, b api.Backend, p parts) (servers []*api.Server, err error) {
	if c.Enabled {
		target := b.Autoscaler.Status().Target
		callers, err := auth.New(c, auth.Target{Namespace: target.Namespace, Name: target.Name}, p.clients, b.Log)
		if err != nil {
			return nil, err
		}
		server, err := api.Listen(ctx, c, b, callers)
		if err != nil {
			return nil, err
		}
		servers = append(servers, server)
	}
	b.Log = p.log.With("component", "control")
	if control := listenControl(ctx, p.id, b); control != nil {
		servers = append(servers, control)
	}
	return servers, nil
}

// listenControl opens the control socket. Without one the autoscaler runs as
// well, so it is nil then, and the log says what that means.
func listenControl(ctx context.Context, id string, b api.Backend) *api.Server {
	server, err := api.ListenControl(ctx, id, b)
	if err != nil {
		b.Log.Warn("Commands such as status and pause will not reach this process", "error", err)
		return nil
	}
	return server
}
