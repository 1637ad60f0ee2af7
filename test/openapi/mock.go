// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"
)

// Mock answers as the document says: with an example of a success, the one that
// chosen has for the operation's ID, or else the first by name. The stream has
// the records of the example `records`, and ends.
func (d *Document) Mock(chosen map[string]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var operation *openapi3.Operation
		if path := d.path(r.URL.Path); path != "" {
			operation = d.spec.Paths.Value(path).GetOperation(r.Method)
		}
		w.Header().Set("X-Request-Id", "mock-1")
		if operation == nil {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = fmt.Fprintf(w, `{"message":"Resource '%s' not found","code":404}`, r.URL.Path)
			return
		}
		response := operation.Responses.Status(http.StatusOK).Value
		if response.Headers["ETag"] != nil {
			w.Header().Set("ETag", `"5d41402abc4b2a76"`)
		}
		for media, content := range response.Content {
			w.Header().Set("Content-Type", media)
			w.WriteHeader(http.StatusOK)
			_, _ = w.Write(d.mocked(media, content, chosen[operation.OperationID]))
			return
		}
	})
}

func (d *Document) mocked(media string, content *openapi3.MediaType, example string) []byte {
	switch {
	case media == "text/event-stream":
		return d.events()
	case len(content.Examples) == 0:
		return fmt.Append(nil, content.Example)
	case example == "":
		example = slices.Sorted(maps.Keys(content.Examples))[0]
	}
	encoded, err := d.Example(example)
	if err != nil {
		encoded = []byte(err.Error())
	}
	return encoded
}

func (d *Document) events() (stream []byte) {
	var example struct {
		Records []json.RawMessage `json:"records"`
	}
	encoded, err := d.Example("records")
	if err == nil {
		err = json.Unmarshal(encoded, &example)
	}
	if err != nil {
		return []byte(err.Error())
	}
	stream = []byte(": ping\n\n")
	for _, record := range example.Records {
		var numbered struct {
			Sequence int `json:"sequence"`
		}
		_ = json.Unmarshal(record, &numbered)
		stream = fmt.Appendf(stream, "id: %d\nevent: record\ndata: %s\n\n", numbered.Sequence, record)
	}
	return stream
}

// Properties are the names of those that a component has, sorted; path leads to
// an object within it.
func (d *Document) Properties(component string, path ...string) []string {
	schema := d.spec.Components.Schemas[component]
	for _, name := range path {
		if schema != nil {
			schema = schema.Value.Properties[name]
		}
	}
	if schema == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(schema.Value.Properties))
}
