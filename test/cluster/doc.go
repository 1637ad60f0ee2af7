// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a real Kubernetes control plane on this machine, with
// neither Docker nor downloads other than Go modules: etcd, kube-apiserver,
// kube-controller-manager, kwok, which plays a node and its pods, and
// metrics-server. Deployments, HorizontalPodAutoscalers, RBAC and the metrics
// API are the real thing; only the containers are not there. A pod becomes
// Running and Ready, and uses as much CPU as its annotation says.
//
// A test package uses it like this:
//
//	func TestMain(m *testing.M) { cluster.Main(m) }
//
//	func TestScaling(t *testing.T) {
//		c := cluster.ForTest(t)
//		namespace := c.Namespace(t)
//		err := c.Deploy(t.Context(), namespace, cluster.Workload{Name: "web", Replicas: 3, CPURequest: "100m", CPUUsage: "80m"})
//		...
//	}
//
// All tests of a package share one control plane, each in a namespace of its
// own; the first that asks starts it, which takes about five seconds. From the
// shell, `go run ./test/cmd/cluster up` starts one that stays.
//
// The programs are built once, which takes ten minutes on two cores, more than
// `go test` gives a package by default: on a new machine
// `go run ./test/cmd/cluster build` goes first.
package cluster
