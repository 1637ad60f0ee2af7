// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
)

// OwnName is the name of the objects that belong to the autoscaler of a target,
// such as its Lease: "custom-pod-autoscaler.web.deployment.apps". It is the
// same for every version and spelling of the target's kind, and cut to what
// Kubernetes allows.
func OwnName(ref autoscalingv2.CrossVersionObjectReference) string {
	parts := []string{"custom-pod-autoscaler", ref.Name, strings.ToLower(ref.Kind)}
	if version, err := schema.ParseGroupVersion(ref.APIVersion); err == nil && version.Group != "" {
		parts = append(parts, version.Group)
	}
	name := strings.Join(parts, ".")
	if len(name) <= validation.DNS1123SubdomainMaxLength {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	suffix := "-" + hex.EncodeToString(sum[:8])
	cut := validation.DNS1123SubdomainMaxLength - len(suffix)
	return strings.TrimRight(name[:cut], ".-") + suffix
}
