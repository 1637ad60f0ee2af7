// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package resource

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/util/validation"
)

func TestOwnName(t *testing.T) {
	long := strings.Repeat("a", 240)
	for name, test := range map[string]struct {
		ref  autoscalingv2.CrossVersionObjectReference
		want string
	}{
		"Deployment":      {reference("apps/v1", "Deployment", "web"), `custom-pod-autoscaler\.web\.deployment\.apps`},
		"another version": {reference("apps/v1beta1", "Deployment", "web"), `custom-pod-autoscaler\.web\.deployment\.apps`},
		"another spelling of the kind": {
			reference("apps/v1", "deployment", "web"), `custom-pod-autoscaler\.web\.deployment\.apps`,
		},
		"core group": {
			reference("v1", "ReplicationController", "web"), `custom-pod-autoscaler\.web\.replicationcontroller`,
		},
		"custom resource": {
			reference("argoproj.io/v1alpha1", "Rollout", "web"), `custom-pod-autoscaler\.web\.rollout\.argoproj\.io`,
		},
		"dots in the name": {
			reference("apps/v1", "Deployment", "web.example"), `custom-pod-autoscaler\.web\.example\.deployment\.apps-[0-9a-f]{16}`,
		},
		"too long":          {reference("apps/v1", "Deployment", long), `custom-pod-autoscaler\.a{214}-[0-9a-f]{16}`},
		"cut at a dash":     {reference("apps/v1", "Deployment", long[:213]+"--"+long[:30]), `custom-pod-autoscaler\.a{213}-[0-9a-f]{16}`},
		"no name at all":    {reference("", "", ""), `custom-pod-autoscaler-[0-9a-f]{16}`},
		"no version":        {reference("a/b/c", "Deployment", "web"), `custom-pod-autoscaler-[0-9a-f]{16}`},
		"long and no name":  {reference("apps/v1", "Deployment", long+"Ä/"+long), `custom-pod-autoscaler\.a{214}-[0-9a-f]{16}`},
		"beginning with no": {reference("apps/v1", "Deployment", "/"+long), `custom-pod-autoscaler-[0-9a-f]{16}`},
	} {
		t.Run(name, func(t *testing.T) {
			got := OwnName(test.ref)
			if !regexp.MustCompile("^" + test.want + "$").MatchString(got) {
				t.Errorf("got %q (%d long), want %s", got, len(got), test.want)
			}
		})
	}
}

// Two targets that would share an autoscaler's objects would share its Lease
// and its pause.
func TestOwnNameIsNobodyElses(t *testing.T) {
	long := strings.Repeat("a", 250)
	for name, pair := range map[string][2]autoscalingv2.CrossVersionObjectReference{
		"names":  {reference("apps/v1", "Deployment", "web"), reference("apps/v1", "Deployment", "api")},
		"kinds":  {reference("apps/v1", "Deployment", "web"), reference("apps/v1", "ReplicaSet", "web")},
		"groups": {reference("apps/v1", "Deployment", "web"), reference("example.com/v1", "Deployment", "web")},
		"dots that could belong to name or kind": {
			reference("z.io/v1", "Y", "web.x"), reference("y.z.io/v1", "X", "web"),
		},
		"dots in both names": {
			reference("z.io/v1", "Y", "web.w.x"), reference("y.z.io/v1", "X", "web.w"),
		},
		"long names":                  {reference("apps/v1", "Deployment", long+"b"), reference("apps/v1", "Deployment", long+"c")},
		"kinds of a long name":        {reference("apps/v1", "Deployment", long), reference("apps/v1", "ReplicaSet", long)},
		"what is cut, with its group": {reference("apps/v1", "Deployment", long), reference("example.com/v1", "Deployment", long)},
		"names that are none":         {reference("apps/v1", "Deployment", "WEB"), reference("apps/v1", "Deployment", "API")},
	} {
		t.Run(name, func(t *testing.T) {
			if first, second := OwnName(pair[0]), OwnName(pair[1]); first == second {
				t.Errorf("%v and %v are both %s", pair[0], pair[1], first)
			}
		})
	}
}

// For any reference, over few letters so that they meet: the name is valid, and
// nobody else's.
func TestOwnNameOfAnyReference(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // A failure must come again.
	word := func(letters string, length int) string {
		var b strings.Builder
		for range random.IntN(length + 1) {
			b.WriteByte(letters[random.IntN(len(letters))])
		}
		return b.String()
	}
	names := map[string]autoscalingv2.CrossVersionObjectReference{}
	for i := range 5_000 {
		letters, length := "ab.", 4
		switch i % 8 {
		case 1:
			letters = "aB.-/ \"\x00\xff"
		case 2:
			length = 300
		}
		ref := reference(word(letters, length)+"/v1", word(letters, length), word(letters, length))
		name := OwnName(ref)
		if faults := validation.IsDNS1123Subdomain(name); len(faults) > 0 {
			t.Fatalf("%q of %q: %v", name, ref, faults)
		}
		ref.Kind = strings.ToLower(ref.Kind)
		if other, taken := names[name]; taken && other != ref {
			t.Fatalf("%q is that of %q and of %q", name, ref, other)
		}
		names[name] = ref
	}
}

func reference(apiVersion, kind, name string) autoscalingv2.CrossVersionObjectReference {
	return autoscalingv2.CrossVersionObjectReference{APIVersion: apiVersion, Kind: kind, Name: name}
}
