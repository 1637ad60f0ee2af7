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
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/telemetry"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/leader"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/state"
)

// run wires the parts of the process, and runs them until the context ends or
// one of them fails.
func run(ctx context.Context, loaded config.Loaded, kubeconfig string, logTo *os.File) error {
	log := newLog(loaded.Config.Process, logTo)
	// client-go's own verbose lines hold whole objects, which are never logged.
	klog.SetSlogLogger(newLog(config.Process{LogFormat: loaded.Config.LogFormat}, logTo).With("component", "client-go"))
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
	elector := newElector(loaded.Config, clients, own, log)
	metrics := telemetry.New(telemetry.Options{
		Version: version, Hooks: pool.Usage, Requests: clients.Traffic, Log: log.With("component", "metrics"),
	})
	defer metrics.Add(id, metricsSource(elector))()
	events := autoscaler.NewEventObserver(clients.Core, log.With("component", "events"))
	scaler, err := newAutoscaler(ctx, loaded.Config.Autoscaler, id, parts{
		clients: clients, watches: watches, pool: pool, store: own, elector: elector, events: events, metrics: metrics, log: log,
	})
	if err != nil {
		return err
	}

	group, ctx := errgroup.WithContext(ctx)
	if loaded.Config.APIConfig.Enabled {
		// A signal at this moment is no fault of the port's.
		server, err := api.Listen(context.WithoutCancel(ctx), loaded.Config.APIConfig, scaler, log.With("component", "api"))
		if err != nil {
			return err
		}
		group.Go(func() error { return server.Run(ctx) })
	}
	if control := listenControl(context.WithoutCancel(ctx), id, scaler, log); control != nil {
		group.Go(func() error { return control.Run(ctx) })
	}
	// What the autoscaler needs until its end stops after it.
	serving, served := context.WithCancel(context.WithoutCancel(ctx))
	group.Go(func() error {
		defer served()
		return scaler.Run(ctx)
	})
	group.Go(func() error { return events.Run(serving) })
	if elector != nil {
		group.Go(func() error { return elector.Run(serving) })
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
func metricsSource(elector *leader.Elector) telemetry.Source {
	if elector == nil {
		return telemetry.Source{}
	}
	return telemetry.Source{Leading: func() bool { return elector.Term().Leading() }}
}

// parts are what an autoscaler is wired of.
type parts struct {
	clients *resource.Clients
	watches *resource.Watches
	pool    *execute.Pool
	// store is the name of the object that keeps its state.
	store   string
	elector *leader.Elector
	events  *autoscaler.EventObserver
	metrics *telemetry.Metrics
	log     *slog.Logger
}

// newAutoscaler wires one target's journey.
func newAutoscaler(ctx context.Context, c config.Autoscaler, id string, p parts) (*autoscaler.Autoscaler, error) {
	hooks, err := execute.NewHooks(c, p.pool)
	if err != nil {
		return nil, err
	}
	store, err := state.New(ctx, c.State, p.clients, c.Namespace, p.store)
	if err != nil {
		return nil, err
	}
	p.log.Info("Starting", "version", version, "autoscaler", id, "runMode", string(c.RunMode), "interval", c.Interval.Duration(),
		"minReplicas", c.MinReplicas, "maxReplicas", c.MaxReplicas, "dryRun", c.DryRun)
	target := resource.NewTarget(p.clients, c.ScaleTargetRef, c.Namespace)
	reader := resource.NewReader(target, p.watches, c.RunMode == config.PerPod)
	deps := autoscaler.Deps{
		Reader: reader,
		KubernetesMetrics: metric.NewKubernetes(p.clients, reader, metric.KubernetesOptions{
			Specs:                   c.KubernetesMetricSpecs,
			Namespace:               c.Namespace,
			InitialReadinessDelay:   c.InitialReadinessDelay.Duration(),
			CPUInitializationPeriod: c.CPUInitializationPeriod.Duration(),
		}),
		Hooks:    hooks,
		Writer:   scale.NewAPIWriter(target),
		Store:    store,
		Observer: autoscaler.Observers{autoscaler.LogObserver{Log: p.log}, p.events, p.metrics},
		Log:      p.log,
	}
	if p.elector != nil {
		deps.Leadership = p.elector
	}
	return autoscaler.New(autoscaler.Spec{ID: id, Config: c}, deps)
}
