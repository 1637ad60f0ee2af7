// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
)

const ownPrefix = "custom-pod-autoscaler"

// OwnName is the name of the objects that belong to the autoscaler of a target,
// such as its Lease: "custom-pod-autoscaler.web.deployment.apps". It is the
// same for every version and spelling of the target's kind, another one for
// every other target of the namespace, and always a valid name: one that would
// be too long, or that two targets could share, ends in a hash of the target.
func OwnName(ref autoscalingv2.CrossVersionObjectReference) string {
	kind, group := strings.ToLower(ref.Kind), ref.APIVersion
	if version, err := schema.ParseGroupVersion(ref.APIVersion); err == nil {
		group = version.Group
	}
	name := strings.Join([]string{ownPrefix, ref.Name, kind}, ".")
	if group != "" {
		name += "." + group
	}
	// A group has dots as a rule. If a name or kind has some as well, where one
	// ends and the next begins is anyone's guess: "web.x" of the kind Y in z.io
	// reads like "web" of the kind X in y.z.io.
	if validName(name) && !strings.Contains(ref.Name+kind, ".") {
		return name
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", ref.Name, kind, group))
	suffix := "-" + hex.EncodeToString(sum[:8])
	name = name[:min(len(name), validation.DNS1123SubdomainMaxLength-len(suffix))]
	if name = strings.TrimRight(name, ".-") + suffix; validName(name) {
		return name
	}
	return ownPrefix + suffix
}

func validName(name string) bool { return len(validation.IsDNS1123Subdomain(name)) == 0 }
