// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/autoscaler"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/execute"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/resource"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// run wires the parts of the process, and runs them until the context ends or
// one of them fails.
func run(ctx context.Context, loaded config.Loaded, kubeconfig string, logTo *os.File) error {
	log := newLog(loaded.Config.Process, logTo)
	// client-go's own verbose lines hold whole objects, which are never logged.
	klog.SetSlogLogger(newLog(config.Process{LogFormat: loaded.Config.LogFormat}, logTo).With("component", "client-go"))
	for _, warning := range loaded.Warnings {
		log.Warn("Part of the configuration has no effect", "warning", warning)
	}

	clientConfig, err := resource.ClientConfig(kubeconfig)
	if err != nil {
		return err
	}
	clients, err := resource.Connect(clientConfig, "custom-pod-autoscaler/"+version, log.With("component", "kubernetes"))
	if err != nil {
		return err
	}
	pool := execute.NewPool(execute.PoolOptions{Log: log.With("component", "hook"), MaxOutputBytes: loaded.Config.MaxOutputBytes})
	defer pool.Close()
	scaler, err := newAutoscaler(loaded.Config.Autoscaler, clients, pool, log)
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
	group.Go(func() error { return scaler.Run(ctx) })
	group.Go(func() error {
		if err := pool.Reap(ctx); err != nil {
			log.Error("Orphaned processes are not reaped any more", "error", err)
		}
		return nil
	})
	err = group.Wait()
	log.Info("Stopped")
	return err
}

// newAutoscaler wires one target's journey.
func newAutoscaler(c config.Autoscaler, clients *resource.Clients, pool *execute.Pool, log *slog.Logger) (*autoscaler.Autoscaler, error) {
	hooks, err := execute.NewHooks(c, pool)
	if err != nil {
		return nil, err
	}
	id := fmt.Sprintf("%s/%s/%s", c.Namespace, strings.ToLower(c.ScaleTargetRef.Kind), c.ScaleTargetRef.Name)
	log.Info("Starting", "version", version, "autoscaler", id, "runMode", string(c.RunMode), "interval", c.Interval.Duration(),
		"minReplicas", c.MinReplicas, "maxReplicas", c.MaxReplicas)
	target := resource.NewTarget(clients, c.ScaleTargetRef, c.Namespace)
	reader := resource.NewReader(target, c.RunMode == config.PerPod)
	return autoscaler.New(autoscaler.Spec{ID: id, Config: c}, autoscaler.Deps{
		Reader: reader,
		KubernetesMetrics: metric.NewKubernetes(clients, reader, metric.KubernetesOptions{
			Specs:                   c.KubernetesMetricSpecs,
			Namespace:               c.Namespace,
			InitialReadinessDelay:   c.InitialReadinessDelay.Duration(),
			CPUInitializationPeriod: c.CPUInitializationPeriod.Duration(),
		}),
		Hooks:    hooks,
		Writer:   scale.NewAPIWriter(target),
		Observer: autoscaler.LogObserver{Log: log},
		Log:      log,
	})
}
