// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package autoscaler

import (
	"encoding/json"
	"log/slog"
	"reflect"
)

// Caller is who asks for a change.
type Caller struct {
	// Name is who, as far as that is known.
	Name string
	// Request identifies the request.
	Request string
}

// Audit writes the one line that tells of a change: who made it, in which
// request, what it was about, and what that was before and after. What changes
// nothing is not told of.
func (c Caller) Audit(log *slog.Logger, what string, before, after any) {
	if reflect.DeepEqual(before, after) {
		return
	}
	log.Info("Audit", "what", what, "who", c.Name, "request", c.Request, "before", encode(before), "after", encode(after))
}

// encode is a value as JSON. What is audited can be encoded.
func encode(value any) string {
	encoded, _ := json.Marshal(value)
	return string(encoded)
}
