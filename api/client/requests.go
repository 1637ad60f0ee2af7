// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/evaluate"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/scale"
)

// The paths of the API.
const (
	PathMetrics    = "/api/v1/metrics"
	PathEvaluation = "/api/v1/evaluation"
	PathStatus     = "/api/v1/status"
	PathRecords    = "/api/v1/records"
	PathStream     = "/api/v1/records/stream"
	PathScale      = "/api/v1/scale"
	PathOverride   = "/api/v1/override"
	PathPause      = "/api/v1/pause"
	PathResume     = "/api/v1/resume"
	PathConfig     = "/api/v1/config"
	PathGitUpdate  = "/api/v1/git/update"
)

// Metrics has the metrics gathered now; nil if the target has no pods.
func (c *Client) Metrics(ctx context.Context, dryRun bool) (metrics []metric.ResourceMetric, err error) {
	_, err = c.call(ctx, Request{Path: PathMetrics, Query: trial(dryRun)}, &metrics)
	return metrics, err
}

// Evaluate has it evaluate and scale now. In a dry run the answer is what the
// hook wants, else what was decided.
func (c *Client) Evaluate(ctx context.Context, dryRun bool) (evaluation evaluate.Evaluation, err error) {
	_, err = c.call(ctx, Request{Method: http.MethodPost, Path: PathEvaluation, Query: trial(dryRun)}, &evaluation)
	return evaluation, err
}

func trial(dryRun bool) url.Values {
	if !dryRun {
		return nil
	}
	return url.Values{"dry_run": {"true"}}
}

// Status is what it does at the moment, and why.
func (c *Client) Status(ctx context.Context) (status Status, err error) {
	_, err = c.call(ctx, Request{Path: PathStatus}, &status)
	return status, err
}

// RecordsOptions select records.
type RecordsOptions struct {
	// Limit is how many at most, the newest; 0 leaves it to the autoscaler.
	Limit int
	// Since leaves out the runs that began before it or at it, unless it is zero.
	Since time.Time
}

// Request is the one for these records.
func (o RecordsOptions) Request() Request {
	query := url.Values{}
	if o.Limit != 0 {
		query.Set("limit", strconv.Itoa(o.Limit))
	}
	if !o.Since.IsZero() {
		query.Set("since", o.Since.Format(time.RFC3339Nano))
	}
	return Request{Path: PathRecords, Query: query}
}

// Records are the latest runs, the oldest first.
func (c *Client) Records(ctx context.Context, o RecordsOptions) ([]Record, error) {
	var answer Records
	_, err := c.call(ctx, o.Request(), &answer)
	return answer.Records, err
}

// Hold is the manual hold in force, nil if there is none.
func (c *Client) Hold(ctx context.Context) (*scale.Hold, error) {
	var answer holding
	_, err := c.call(ctx, Request{Path: PathScale}, &answer)
	return answer.Hold, err
}

// Scale keeps a count for a while.
func (c *Client) Scale(ctx context.Context, s Scale) (held Held, err error) {
	_, err = c.call(ctx, Request{Method: http.MethodPost, Path: PathScale, Body: s}, &held)
	return held, err
}

// EndHold ends the manual hold, if there is one.
func (c *Client) EndHold(ctx context.Context) error {
	_, err := c.call(ctx, Request{Method: http.MethodDelete, Path: PathScale}, &holding{})
	return err
}

// Override is the override in force, and the bounds.
func (c *Client) Override(ctx context.Context) (overridden Overridden, err error) {
	_, err = c.call(ctx, Request{Path: PathOverride}, &overridden)
	return overridden, err
}

// SetOverride replaces the bounds for a while.
func (c *Client) SetOverride(ctx context.Context, o SetOverride) (overridden Overridden, err error) {
	_, err = c.call(ctx, Request{Method: http.MethodPut, Path: PathOverride, Body: o}, &overridden)
	return overridden, err
}

// EndOverride ends the override, if there is one.
func (c *Client) EndOverride(ctx context.Context) (overridden Overridden, err error) {
	_, err = c.call(ctx, Request{Method: http.MethodDelete, Path: PathOverride}, &overridden)
	return overridden, err
}

// Paused is the pause in force, nil if there is none.
func (c *Client) Paused(ctx context.Context) (*scale.Pause, error) {
	var answer pausing
	_, err := c.call(ctx, Request{Path: PathPause}, &answer)
	return answer.Pause, err
}

// Pause stops scaling; it returns the pause that is in force.
func (c *Client) Pause(ctx context.Context, pause scale.Pause) (*scale.Pause, error) {
	var answer pausing
	_, err := c.call(ctx, Request{Method: http.MethodPost, Path: PathPause, Body: pause}, &answer)
	return answer.Pause, err
}

// Resume ends a pause, if there is one.
func (c *Client) Resume(ctx context.Context) error {
	_, err := c.call(ctx, Request{Method: http.MethodPost, Path: PathResume}, &pausing{})
	return err
}

// Config is the configuration in force.
func (c *Client) Config(ctx context.Context) (view ConfigView, err error) {
	header, err := c.call(ctx, Request{Path: PathConfig}, &view)
	view.ETag = header.Get("ETag")
	return view, err
}

// ChangeConfig replaces the values of keys; what encodes to an object of them is
// fine. With an ETag it fails with an *Error of the code 412 if the
// configuration is another one by now.
func (c *Client) ChangeConfig(ctx context.Context, keys any, etag string) (change ConfigChange, err error) {
	_, err = c.call(ctx, Request{Method: http.MethodPut, Path: PathConfig, Body: keys, IfMatch: etag}, &change)
	return change, err
}

// ResetConfig takes back every change made while it ran; the ETag is as in
// ChangeConfig.
func (c *Client) ResetConfig(ctx context.Context, etag string) (change ConfigChange, err error) {
	_, err = c.call(ctx, Request{Method: http.MethodDelete, Path: PathConfig, IfMatch: etag}, &change)
	return change, err
}

// GitUpdate commits a file.
func (c *Client) GitUpdate(ctx context.Context, u GitUpdate) (updated GitUpdated, err error) {
	_, err = c.call(ctx, Request{Method: http.MethodPost, Path: PathGitUpdate, Body: u}, &updated)
	return updated, err
}
