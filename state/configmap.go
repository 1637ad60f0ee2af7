// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// key of the record in the ConfigMap.
const key = "state"

// configMap keeps the record under one key of a ConfigMap, whose other keys and
// labels are whoever's put them there.
type configMap struct {
	core            rest.Interface
	namespace, name string

	// seen is the ConfigMap as it was last loaded or saved; nil if there was
	// none. A save replaces this one and no other.
	seen *corev1.ConfigMap
	// unanswered is what was sent last if it is not known whether it arrived,
	// else empty.
	unanswered string
}

// Load gets the ConfigMap; without anything under the key there is no record.
func (c *configMap) Load(ctx context.Context) (Record, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	found, err := c.get(ctx)
	if err != nil {
		return Record{}, c.explain("loading the state from", err)
	}
	c.seen, c.unanswered = found, ""
	content := stored(found)
	if content == "" {
		return Record{}, nil
	}
	record, err := decode([]byte(content))
	return record, c.explain("loading the state from", err)
}

// Save creates or updates the ConfigMap. One that was deleted since is created
// again.
func (c *configMap) Save(ctx context.Context, record Record) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	content, err := encode(record)
	if err == nil {
		err = c.save(ctx, string(content))
	}
	return c.explain("saving the state in", err)
}

// save replaces the ConfigMap that was seen, unless somebody else did.
//
// If an answer is lost, the API server may have saved what was sent, or may do
// so yet, and then has a ConfigMap that was never seen here. It would refuse
// every later save, as if somebody else had saved. So after a lost answer, and
// after a refusal, the ConfigMap is read: what holds exactly what was sent last
// is our own, and is replaced.
func (c *configMap) save(ctx context.Context, content string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.unanswered != "" {
		if err := c.look(ctx, c.unanswered); err != nil {
			return err
		}
	}
	err := c.send(ctx, content)
	if !conflicts(err) {
		return err
	}
	// Something came in between: perhaps, late, what was sent earlier; perhaps
	// the client repeated a request that had arrived; perhaps somebody changed
	// a label, and not the record.
	if err := c.look(ctx, c.unanswered, content, stored(c.seen)); err != nil {
		return err
	}
	return c.send(ctx, content)
}

// look sees the ConfigMap as it is now, unless it holds what somebody else has
// saved, which is ErrConflict.
func (c *configMap) look(ctx context.Context, ours ...string) error {
	found, err := c.get(ctx)
	if err != nil {
		return err
	}
	known := found == nil || c.seen != nil && found.ResourceVersion == c.seen.ResourceVersion
	for _, content := range ours {
		known = known || content != "" && content == stored(found)
	}
	if !known {
		return ErrConflict
	}
	c.seen = found
	return nil
}

// send saves, and notes whether that is certain.
func (c *configMap) send(ctx context.Context, content string) error {
	saved, err := c.replace(ctx, content)
	var refusal apierrors.APIStatus
	switch {
	case err == nil:
		c.seen, c.unanswered = saved, ""
	case !errors.As(err, &refusal) || refusal.Status().Code >= http.StatusInternalServerError:
		c.unanswered = content
	}
	return err
}

func (c *configMap) replace(ctx context.Context, content string) (*corev1.ConfigMap, error) {
	if c.seen != nil {
		saved, err := c.update(ctx, content)
		if !apierrors.IsNotFound(err) {
			return saved, err
		}
		// Somebody deleted it, and with it what was kept: not a reason to stop.
	}
	return c.create(ctx, content)
}

// get returns nil if there is none.
func (c *configMap) get(ctx context.Context) (*corev1.ConfigMap, error) {
	var found corev1.ConfigMap
	err := c.core.Get().Namespace(c.namespace).Resource("configmaps").Name(c.name).Do(ctx).Into(&found)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return &found, err
}

func (c *configMap) create(ctx context.Context, content string) (*corev1.ConfigMap, error) {
	wanted := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: c.namespace, Name: c.name,
			Labels: map[string]string{"app.kubernetes.io/managed-by": "custom-pod-autoscaler"},
		},
		Data: map[string]string{key: content},
	}
	var created corev1.ConfigMap
	return &created, c.core.Post().Namespace(c.namespace).Resource("configmaps").Body(wanted).Do(ctx).Into(&created)
}

// update fails unless the ConfigMap is as it was seen: its resourceVersion goes
// along.
func (c *configMap) update(ctx context.Context, content string) (*corev1.ConfigMap, error) {
	wanted := c.seen.DeepCopy()
	if wanted.Data == nil {
		wanted.Data = map[string]string{}
	}
	wanted.Data[key] = content
	delete(wanted.BinaryData, key)
	var updated corev1.ConfigMap
	return &updated, c.core.Put().Namespace(c.namespace).Resource("configmaps").Name(c.name).Body(wanted).Do(ctx).Into(&updated)
}

// stored is what a ConfigMap, which may be nil, holds under the key. What is no
// text is among its binary data, if somebody put it there.
func stored(found *corev1.ConfigMap) string {
	if found == nil {
		return ""
	}
	if content, ok := found.Data[key]; ok {
		return content
	}
	return string(found.BinaryData[key])
}

// conflicts says that there is another ConfigMap than the one that was seen.
func conflicts(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }

func (c *configMap) explain(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case conflicts(err):
		err = ErrConflict
	case apierrors.IsForbidden(err):
		err = fmt.Errorf("%w (the service account needs the verbs get, create and update on configmaps in this namespace; "+
			"to do without them set state.store to none)", err)
	}
	return fmt.Errorf("%s the ConfigMap %s/%s: %w", doing, c.namespace, c.name, err)
}
