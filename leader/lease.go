// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package leader

import (
	"context"
	"fmt"
	"math"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// leases reads and writes the one Lease. An update must fail with a conflict
// when the Lease is not the one that was read any more.
type leases interface {
	get(ctx context.Context) (*coordinationv1.Lease, error)
	create(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error)
	update(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error)
}

// restLeases asks the API server.
type restLeases struct {
	client          rest.Interface
	namespace, name string
}

func (r restLeases) get(ctx context.Context) (*coordinationv1.Lease, error) {
	return r.do(ctx, "getting", r.client.Get().Name(r.name))
}

func (r restLeases) create(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return r.do(ctx, "creating", r.client.Post().Body(lease))
}

func (r restLeases) update(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return r.do(ctx, "updating", r.client.Put().Name(r.name).Body(lease))
}

func (r restLeases) do(ctx context.Context, doing string, request *rest.Request) (*coordinationv1.Lease, error) {
	lease := &coordinationv1.Lease{}
	if err := request.Namespace(r.namespace).Resource("leases").Do(ctx).Into(lease); err != nil {
		return nil, fmt.Errorf("%s the lease: %w", doing, err)
	}
	return lease, nil
}

// record is what a Lease says, made comparable: when it differs, the Lease was
// renewed or changed hands. Other changes, such as of a label, do not count.
type record struct {
	// holder is empty when the lease was released or never held.
	holder string
	// seconds is for how long it is held, not positive when it does not say.
	seconds     int32
	transitions int32
	// acquired and renewed are in microseconds, as precise as they are sent.
	acquired, renewed int64
}

// recordOf reads a Lease, of which any field may be missing.
func recordOf(lease *coordinationv1.Lease) record {
	spec := lease.Spec
	return record{
		holder: valueOf(spec.HolderIdentity), seconds: valueOf(spec.LeaseDurationSeconds), transitions: valueOf(spec.LeaseTransitions),
		acquired: micros(spec.AcquireTime), renewed: micros(spec.RenewTime),
	}
}

func valueOf[T any](p *T) (value T) {
	if p != nil {
		value = *p
	}
	return value
}

func micros(t *metav1.MicroTime) int64 {
	if t == nil {
		return 0
	}
	return t.UnixMicro()
}

// held is the Lease as this process holds it, as of now; another one when there
// is none. What others put into the object stays.
func held(lease *coordinationv1.Lease, o Options) *coordinationv1.Lease {
	now := new(metav1.NewMicroTime(time.Now()))
	if lease == nil {
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name}}
		lease.Spec.AcquireTime, lease.Spec.LeaseTransitions = now, new(int32(0))
	} else if lease = lease.DeepCopy(); valueOf(lease.Spec.HolderIdentity) != o.Identity {
		lease.Spec.AcquireTime, lease.Spec.LeaseTransitions = now, new(next(valueOf(lease.Spec.LeaseTransitions)))
	}
	lease.Spec.HolderIdentity = &o.Identity
	lease.Spec.LeaseDurationSeconds = new(wholeSeconds(o.LeaseDuration))
	lease.Spec.RenewTime = now
	return lease
}

// next counts a transition. A count that could not go on starts again: the API
// server would refuse it.
func next(transitions int32) int32 {
	if transitions < 0 || transitions == math.MaxInt32 {
		return 0
	}
	return transitions + 1
}

// wholeSeconds rounds up: nobody may wait less than the duration.
func wholeSeconds(d time.Duration) int32 {
	return int32(min(math.Ceil(d.Seconds()), math.MaxInt32))
}

// released is the Lease, held by nobody as of now.
func released(lease *coordinationv1.Lease) *coordinationv1.Lease {
	now := new(metav1.NewMicroTime(time.Now()))
	lease = lease.DeepCopy()
	// The API server wants a positive duration.
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = new(""), new(int32(1))
	lease.Spec.AcquireTime, lease.Spec.RenewTime = now, now
	return lease
}
