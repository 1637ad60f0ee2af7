// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/test/cluster"
)

const (
	namespace  = "default"
	deployment = "web"
)

// fewPods is the size of the Deployments that the programs scale.
const fewPods = 10

// session is one call of the bench.
type session struct {
	options
	directory string
	control   *cluster.Cluster
	hooks     *hooks
	subjects  []*subject
	report    report
}

// bench measures what the options say, and reports.
func bench(ctx context.Context, o options, to io.Writer) error {
	directory, err := os.MkdirTemp("", "bench-")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(directory) }()
	binaries, err := findBinaries(ctx, o.binaries, directory)
	if err != nil {
		return err
	}
	s := &session{options: o, directory: directory}
	s.report = report{CPUs: runtime.NumCPU(), Programs: map[string]binary{}}
	for i, b := range binaries {
		s.report.Programs[labels[i]] = b
	}
	if err := s.measureRuns(ctx); err != nil {
		return err
	}
	if s.only.MatchString("decisions") {
		s.report.Decisions = measureDecisions(o.decisions)
	}
	if s.report.empty() {
		return errNothing
	}
	if err := s.report.print(to); err != nil {
		return fmt.Errorf("printing the report: %w", err)
	}
	return s.report.write(o.json)
}

var errNothing = fmt.Errorf("nothing was measured: the messages above say why, or --only finds none of %s; start, push, status, decisions", kindNames())

// measureRuns measures all that takes a control plane, if anything does: first
// what takes few pods, while it is quiet.
func (s *session) measureRuns(ctx context.Context) error {
	starts, push, status, sizes := s.only.MatchString(startName), s.only.MatchString(pushName), s.only.MatchString(statusName), s.plan()
	if !starts && !push && !status && len(sizes) == 0 {
		return nil
	}
	defer s.close()
	if err := s.open(ctx); err != nil {
		return err
	}
	if starts {
		if err := s.measureStarts(ctx); err != nil {
			return fmt.Errorf("measuring starts: %w", err)
		}
	}
	if push {
		if err := s.measurePushes(ctx); err != nil {
			return fmt.Errorf("measuring pushes: %w", err)
		}
	}
	if status {
		if err := s.measureStatus(ctx); err != nil {
			return fmt.Errorf("measuring requests for the status: %w", err)
		}
	}
	for _, size := range sizes {
		if err := s.measureSize(ctx, size); err != nil {
			return fmt.Errorf("measuring with %d pods: %w", size.pods, err)
		}
	}
	return nil
}

// size is what is measured with so many pods.
type size struct {
	pods  int
	kinds []kind
}

// plan says what is measured at each size. What does not depend on the pods is
// measured at the smallest.
func (s *session) plan() []size {
	var sizes []size
	for i, pods := range s.pods {
		planned := size{pods: pods}
		for _, k := range kinds {
			if s.only.MatchString(k.name) && (k.perPod || i == 0) {
				planned.kinds = append(planned.kinds, k)
			}
		}
		if planned.kinds != nil {
			sizes = append(sizes, planned)
		}
	}
	return sizes
}

// open starts everything around the programs.
func (s *session) open(ctx context.Context) (err error) {
	if s.control, err = cluster.Start(ctx, cluster.Options{WithoutMetrics: true, Progress: os.Stderr}); err != nil {
		return err
	}
	if s.hooks, err = newHooks(ctx, s.directory); err != nil {
		return err
	}
	found := findAccess(ctx, s.directory)
	s.report.Access = found.String()
	for _, label := range labels[:len(s.report.Programs)] {
		p, err := startProxy(ctx, s.control.RESTConfig())
		if err != nil {
			return err
		}
		subject, err := newSubject(label, s.report.Programs[label], s.directory, found, p)
		if err != nil {
			p.stop()
			return err
		}
		s.subjects = append(s.subjects, subject)
		own := cluster.Workload{Name: subject.deployment, Replicas: fewPods}
		if err := s.control.Deploy(ctx, namespace, own); err != nil {
			return err
		}
	}
	return s.control.Deploy(ctx, namespace, cluster.Workload{Name: deployment, Replicas: 1})
}

func (s *session) close() {
	for _, subject := range s.subjects {
		subject.proxy.stop()
	}
	if s.hooks != nil {
		s.hooks.stop()
	}
	if s.control != nil {
		s.control.Stop()
	}
}

// measureSize measures the kinds of one size.
func (s *session) measureSize(ctx context.Context, size size) error {
	if err := s.grow(ctx, size.pods); err != nil {
		return err
	}
	list, err := s.measurePodList(ctx)
	if err != nil {
		return err
	}
	measured := sizeReport{Pods: size.pods, PodList: list}
	for _, k := range size.kinds {
		s.say("measuring %s, %d pods", k.name, size.pods)
		r, err := s.measure(ctx, k, size.pods)
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		measured.Rows = append(measured.Rows, r)
	}
	measured.Targets = targets(measured)
	s.report.Sizes = append(s.report.Sizes, measured)
	return nil
}

// podsAtOnce is how many pods are waited for at a time: a control plane on a
// busy machine makes more than that within the wait's deadline.
const podsAtOnce = 500

// grow gives the Deployment that many pods.
func (s *session) grow(ctx context.Context, pods int) error {
	s.say("waiting for %d running pods", pods)
	have := 1
	if n := len(s.report.Sizes); n > 0 {
		have = s.report.Sizes[n-1].Pods
	}
	for have < pods {
		have = min(have+podsAtOnce, pods)
		if err := s.reset(ctx, deployment, have); err != nil {
			return err
		}
	}
	return nil
}

// reset gives a Deployment that many pods, and waits for them.
func (s *session) reset(ctx context.Context, deployment string, pods int) error {
	replicas := int32(pods) //nolint:gosec // at most mostPods
	if err := s.control.Scale(ctx, namespace, deployment, replicas); err != nil {
		return err
	}
	return s.control.WaitForReplicas(ctx, namespace, deployment, replicas)
}

// podList is what a list of the Deployment's pods is, as it travels, in bytes.
type podList struct {
	Protobuf int64 `json:"protobufBytes"`
	JSON     int64 `json:"jsonBytes"`
}

// measurePodList asks through a proxy, while no program runs.
func (s *session) measurePodList(ctx context.Context) (list podList, err error) {
	if list.Protobuf, err = s.podListBytes(ctx, "application/vnd.kubernetes.protobuf"); err != nil {
		return list, err
	}
	list.JSON, err = s.podListBytes(ctx, "application/json")
	return list, err
}

func (s *session) podListBytes(ctx context.Context, accept string) (int64, error) {
	p := s.subjects[0].proxy
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	path := "/api/v1/namespaces/" + namespace + "/pods?labelSelector=app.kubernetes.io/name%3D" + deployment
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url()+path, nil)
	if err != nil {
		return 0, err
	}
	r.Header.Set("Accept", accept)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: p.identity.trust(), DisableKeepAlives: true}}
	before := p.bytes.Load()
	response, err := client.Do(r)
	if err != nil {
		return 0, fmt.Errorf("listing the pods: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("listing the pods: %s, %w", response.Status, err)
	}
	return p.bytes.Load() - before, nil
}

// say tells who waits what is going on.
func (s *session) say(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
}

// note keeps for the report why something was not measured.
func (s *session) note(subject *subject, what string, why error) {
	n := note{Program: subject.label, What: what, Why: why.Error()}
	s.say("%s of %s is not measured: %v", what, subject.label, why)
	s.report.Notes = append(s.report.Notes, n)
}
