// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Command kwokconfig writes the configuration that kwok's own module ships: `kwokconfig crds` prints the custom resource definitions kwok
// needs in the API server, `kwokconfig stages` the life cycle of fake nodes and pods and the metrics of fake containers. Reading them
// from the module at build time keeps them in step with the kwok that is built and keeps copies of them out of this repository.
package main

import (
	"fmt"
	"os"
	"strings"

	"sigs.k8s.io/kwok/kustomize/crd"
	"sigs.k8s.io/kwok/kustomize/metrics/resource"
	"sigs.k8s.io/kwok/kustomize/metrics/usage"
	"sigs.k8s.io/kwok/kustomize/stage/node/fast"
	"sigs.k8s.io/kwok/kustomize/stage/node/heartbeat"
	pod "sigs.k8s.io/kwok/kustomize/stage/pod/fast"
)

func main() {
	documents := map[string][]string{
		"crds": {string(crd.Stage), string(crd.Metric), string(crd.ClusterResourceUsage)},
		"stages": {
			fast.DefaultNodeInit, heartbeat.DefaultNodeHeartbeat,
			pod.DefaultPodReady, pod.DefaultPodComplete, pod.DefaultPodDelete,
			resource.DefaultMetricsResource, usage.DefaultUsageFromAnnotation,
		},
	}
	if len(os.Args) != 2 || documents[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: kwokconfig crds|stages")
		os.Exit(2)
	}
	fmt.Println(strings.Join(documents[os.Args[1]], "\n---\n"))
}
