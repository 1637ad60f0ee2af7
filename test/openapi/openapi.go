// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package openapi holds requests and answers to an OpenAPI document: what that
// does not describe is a fault, be it a path, a status, a header, a type of
// content or a field.
package openapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"sigs.k8s.io/yaml"
)

// Document is an OpenAPI document. It is safe for concurrent use.
type Document struct {
	spec *openapi3.T
}

// The responses that no operation can describe: those to other paths and
// methods than there are.
const (
	notFound         = "NotFound"
	methodNotAllowed = "MethodNotAllowed"
)

// Read reads a document, closes its schemas, and checks it with its examples.
// To close a schema is to allow no other properties than it has: the document
// leaves objects open, since later versions may answer with more.
func Read(content []byte) (*Document, error) {
	var document map[string]any
	if err := yaml.Unmarshal(content, &document); err != nil {
		return nil, err
	}
	closeObjects(document["components"])
	closed, err := json.Marshal(document)
	if err != nil {
		return nil, err
	}
	spec, err := openapi3.NewLoader().LoadFromData(closed)
	if err != nil {
		return nil, err
	}
	if err := spec.Validate(context.Background()); err != nil {
		return nil, err
	}
	for _, name := range []string{notFound, methodNotAllowed} {
		if spec.Components.Responses[name] == nil {
			return nil, fmt.Errorf("components.responses.%s: is required", name)
		}
	}
	return &Document{spec: spec}, nil
}

func closeObjects(node any) {
	switch node := node.(type) {
	case []any:
		for _, item := range node {
			closeObjects(item)
		}
	case map[string]any:
		_, described := node["properties"].(map[string]any)
		if _, decided := node["additionalProperties"]; node["type"] == "object" && described && !decided {
			node["additionalProperties"] = false
		}
		for key, value := range node {
			if key != "examples" && key != "example" {
				closeObjects(value)
			}
		}
	}
}

// Operation is a request that the document describes.
type Operation struct {
	ID, Method, Path, Tag, Summary string
	// Role is what x-role says, RoleWithoutAuth x-role-without-auth.
	Role, RoleWithoutAuth string
	// Parameters are those it takes, the path's among them.
	Parameters []Parameter
	// Fields are those of its body, such as behavior.scaleUp.policies[].type, and
	// Bodies examples of it; nil without one.
	Fields []string
	Bodies [][]byte
}

// Parameter is one that an operation takes.
type Parameter struct {
	Name string
	// In is "query", "header" or "path".
	In string
}

// Operations are those of the document, by tag, path and method, the tags in
// their order.
func (d *Document) Operations() []Operation {
	var operations []Operation
	for path, item := range d.spec.Paths.Map() {
		for method, o := range item.Operations() {
			role, _ := o.Extensions["x-role"].(string)
			without, _ := o.Extensions["x-role-without-auth"].(string)
			operation := Operation{
				ID: o.OperationID, Method: method, Path: path, Tag: o.Tags[0], Summary: o.Summary, Role: role, RoleWithoutAuth: without,
			}
			for _, parameter := range slices.Concat(item.Parameters, o.Parameters) {
				operation.Parameters = append(operation.Parameters, Parameter{Name: parameter.Value.Name, In: parameter.Value.In})
			}
			if o.RequestBody != nil {
				operation.Fields, operation.Bodies = body(o.RequestBody.Value.Content.Get("application/json"))
			}
			operations = append(operations, operation)
		}
	}
	tag := func(o Operation) int {
		return slices.IndexFunc(d.spec.Tags, func(t *openapi3.Tag) bool { return t.Name == o.Tag })
	}
	methods := []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}
	slices.SortFunc(operations, func(a, b Operation) int {
		return cmp.Or(
			cmp.Compare(tag(a), tag(b)),
			cmp.Compare(a.Path, b.Path),
			cmp.Compare(slices.Index(methods, a.Method), slices.Index(methods, b.Method)),
		)
	})
	return operations
}

// body is what a request may hold, and examples of it.
func body(content *openapi3.MediaType) (names []string, examples [][]byte) {
	names = fields(content.Schema.Value, "")
	slices.Sort(names)
	for _, name := range slices.Sorted(maps.Keys(content.Examples)) {
		// What was read from YAML can be written as JSON.
		example, _ := json.Marshal(content.Examples[name].Value.Value)
		examples = append(examples, example)
	}
	return names, examples
}

// fields are the names in an object, and those within them.
func fields(schema *openapi3.Schema, within string) (names []string) {
	for name, property := range schema.Properties {
		path := strings.TrimPrefix(within+"."+name, ".")
		names = append(names, path)
		for _, one := range append(openapi3.SchemaRefs{property}, property.Value.AnyOf...) {
			names = append(names, fields(one.Value, path)...)
			if one.Value.Items != nil {
				names = append(names, fields(one.Value.Items.Value, path+"[]")...)
			}
		}
	}
	return names
}

// Example is the one of that name, as JSON.
func (d *Document) Example(name string) ([]byte, error) {
	example, ok := d.spec.Components.Examples[name]
	if !ok {
		return nil, fmt.Errorf("there is no example %q", name)
	}
	return json.Marshal(example.Value.Value)
}

// Exchange is a request and what came back.
type Exchange struct {
	Request *http.Request
	// RequestBody is what was sent; nil leaves it unchecked, for the one who
	// answered has read it.
	RequestBody []byte
	Status      int
	Header      http.Header
	Body        []byte
}

// short is the error without the whole schema and value, which go on for pages.
func short(err error) error {
	fault, ok := errors.AsType[*openapi3.SchemaError](err)
	if !ok {
		return err
	}
	where := "/" + strings.Join(fault.JSONPointer(), "/")
	if request, ok := errors.AsType[*openapi3filter.RequestError](err); ok && request.Parameter != nil {
		where = request.Parameter.Name
	}
	if response, ok := errors.AsType[*openapi3filter.ResponseError](err); ok {
		where = response.Reason + " " + where
	}
	reason := fault.Reason
	if reason == "" {
		reason = fmt.Sprintf("breaks the rule %q", fault.SchemaField)
	}
	return fmt.Errorf("%s: %s", where, reason)
}

// Check says what about an exchange the document does not describe. The request
// must be as described if the answer is a success.
func (d *Document) Check(e Exchange) error {
	path := d.path(e.Request.URL.Path)
	if path == "" {
		return d.checkRefusal(e, http.StatusNotFound, notFound)
	}
	item := d.spec.Paths.Value(path)
	operation := item.GetOperation(e.Request.Method)
	if operation == nil {
		allowed := strings.Join(slices.Sorted(maps.Keys(item.Operations())), ", ")
		if allow := strings.Split(e.Header.Get("Allow"), ", "); strings.Join(slices.Sorted(slices.Values(allow)), ", ") != allowed {
			return fmt.Errorf("allow is %q, but the methods of %s are %s", e.Header.Get("Allow"), path, allowed)
		}
		return d.checkRefusal(e, http.StatusMethodNotAllowed, methodNotAllowed)
	}
	route := &routers.Route{Spec: d.spec, Path: path, PathItem: item, Method: e.Request.Method, Operation: operation}
	if e.Status/100 == 2 {
		if err := d.checkRequest(e, route); err != nil {
			return fmt.Errorf("the request: %w", err)
		}
	}
	return d.checkResponse(e, route)
}

// path is the described one that leads there.
func (d *Document) path(asked string) string {
	if d.spec.Paths.Value(asked) != nil {
		return asked
	}
	for path := range d.spec.Paths.Map() {
		folder, _, varies := strings.Cut(path, "{")
		if rest, below := strings.CutPrefix(asked, folder); varies && below && rest != "" && !strings.Contains(rest, "/") {
			return path
		}
	}
	return ""
}

// checkRefusal checks the answer to what the document does not describe.
func (d *Document) checkRefusal(e Exchange, status int, response string) error {
	if e.Status != status {
		return fmt.Errorf("%s %s: this is not described, so it must be answered with %d, not %d", e.Request.Method, e.Request.URL.Path, status, e.Status)
	}
	operation := &openapi3.Operation{Responses: openapi3.NewResponses(openapi3.WithStatus(status, d.spec.Components.Responses[response]))}
	return d.checkResponse(e, &routers.Route{Spec: d.spec, Path: e.Request.URL.Path, Method: e.Request.Method, Operation: operation})
}

func (d *Document) checkRequest(e Exchange, route *routers.Route) error {
	ctx := e.Request.Context()
	request := e.Request.Clone(ctx)
	if len(e.RequestBody) > 0 {
		// It is read as JSON, whatever it is called.
		request.Header.Set("Content-Type", "application/json")
	}
	request.Body = io.NopCloser(bytes.NewReader(e.RequestBody))
	for name := range request.URL.Query() {
		if route.Operation.Parameters.GetByInAndName("query", name) == nil {
			return fmt.Errorf("the query parameter %q is not described", name)
		}
	}
	var names map[string]string
	if folder, name, varies := strings.Cut(route.Path, "{"); varies {
		names = map[string]string{strings.TrimSuffix(name, "}"): strings.TrimPrefix(request.URL.Path, folder)}
	}
	return short(openapi3filter.ValidateRequest(ctx, &openapi3filter.RequestValidationInput{
		Request: request, PathParams: names, Route: route,
		Options: &openapi3filter.Options{
			AuthenticationFunc:                openapi3filter.NoopAuthenticationFunc,
			ExcludeRequestBody:                e.RequestBody == nil,
			RejectWhenRequestBodyNotSpecified: len(e.RequestBody) > 0,
			SkipSettingDefaults:               true,
		},
	}))
}

// transport are headers that belong to HTTP and to every answer.
var transport = []string{
	"Accept-Ranges", "Cache-Control", "Connection", "Content-Encoding", "Content-Length", "Content-Security-Policy", "Content-Type",
	"Cross-Origin-Opener-Policy", "Cross-Origin-Resource-Policy", "Date", "Referrer-Policy", "Strict-Transport-Security",
	"Transfer-Encoding", "Vary", "X-Accel-Buffering", "X-Content-Type-Options", "X-Frame-Options",
}

func (d *Document) checkResponse(e Exchange, route *routers.Route) error {
	described := route.Operation.Responses.Status(e.Status)
	if described == nil {
		return fmt.Errorf("the status %d is not described", e.Status)
	}
	known := slices.Clone(transport)
	for name := range described.Value.Headers {
		known = append(known, http.CanonicalHeaderKey(name))
	}
	for name := range e.Header {
		if !slices.Contains(known, name) {
			return fmt.Errorf("the header %s is not described for the status %d", name, e.Status)
		}
	}
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: e.Request, Route: route},
		Status:                 e.Status, Header: e.Header, Body: io.NopCloser(bytes.NewReader(e.Body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}
	media, _, _ := strings.Cut(e.Header.Get("Content-Type"), ";")
	if media == "application/json" {
		return short(openapi3filter.ValidateResponse(e.Request.Context(), input))
	}
	// Of text nothing is described but that it is some.
	if nothing := len(described.Value.Content) == 0 && media == "" && len(e.Body) == 0; !nothing && described.Value.Content.Get(media) == nil {
		return fmt.Errorf("the content type %q is not described for the status %d", media, e.Status)
	}
	input.Options.ExcludeResponseBody = true
	err := openapi3filter.ValidateResponse(e.Request.Context(), input)
	if media == "text/event-stream" {
		err = errors.Join(err, d.checkEvents(e.Body))
	}
	return err
}

// checkEvents checks a stream: the records in it, and the form. What comes after
// the last empty line was cut off.
func (d *Document) checkEvents(stream []byte) error {
	events := strings.Split(string(stream), "\n\n")
	for _, event := range events[:len(events)-1] {
		fields := map[string]string{}
		for line := range strings.SplitSeq(strings.Trim(event, "\n"), "\n") {
			name, value, ok := strings.Cut(line, ":")
			if _, twice := fields[name]; !ok || twice {
				return fmt.Errorf("this is no event: %q", event)
			}
			fields[name] = strings.TrimPrefix(value, " ")
		}
		delete(fields, "") // a comment
		if len(fields) == 0 {
			continue
		}
		if names := slices.Sorted(maps.Keys(fields)); !slices.Equal(names, []string{"data", "event", "id"}) || fields["event"] != "record" {
			return fmt.Errorf("an event must have data, id and the event record, this has not: %q", event)
		}
		if err := d.CheckSchema("Record", []byte(fields["data"])); err != nil {
			return err
		}
		var record struct {
			Sequence json.Number `json:"sequence"`
		}
		if err := json.Unmarshal([]byte(fields["data"]), &record); err != nil || record.Sequence.String() != fields["id"] {
			return fmt.Errorf("the event %q has the record %s, %w", fields["id"], record.Sequence, err)
		}
	}
	return nil
}

// CheckSchema checks JSON against the component of that name.
func (d *Document) CheckSchema(name string, content []byte) error {
	schema, ok := d.spec.Components.Schemas[name]
	if !ok {
		return fmt.Errorf("there is no schema %q", name)
	}
	var value any
	if err := json.Unmarshal(content, &value); err != nil {
		return err
	}
	return short(schema.Value.VisitJSON(value, openapi3.EnableJSONSchema2020()))
}
