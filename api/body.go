// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	// maxBodyBytes bounds a request's body.
	maxBodyBytes = 64 << 10
	// maxReason bounds the reason of an intent, in characters: it is told in
	// every line of the log for as long as that lasts.
	maxReason = 256
	// maxDuration is the longest that an intent may be asked for.
	maxDuration = 365 * 24 * time.Hour
)

// read is a request's body, at most so many bytes of it. If there is more, or
// if it does not come, it answers the request itself, and ok is false.
func (h *handler) read(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, ok bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err == nil {
		return body, true
	}
	status := http.StatusBadRequest
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		status = http.StatusRequestEntityTooLarge
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("it did not come in time, which is %s", readTimeout) // the error has addresses
	}
	h.fail(w, status, fmt.Sprintf("reading the body: %v", err))
	return nil, false
}

// receive decodes a request's body, which is one JSON object, or nothing, into a
// struct. If it cannot, it answers the request itself, and ok is false.
func (h *handler) receive(w http.ResponseWriter, r *http.Request, into any) (ok bool) {
	body, ok := h.read(w, r, maxBodyBytes)
	if !ok {
		return false
	}
	if err := decode(body, into); err != nil {
		h.fail(w, http.StatusBadRequest, err.Error())
		return false
	}
	return true
}

func decode(body []byte, into any) error {
	body = bytes.Trim(body, " \t\r\n") // what JSON calls space
	if len(body) == 0 {
		return nil
	}
	if body[0] != '{' {
		return errors.New("the body must be a JSON object, with the fields " + strings.Join(fieldsOf(into), ", "))
	}
	if !utf8.Valid(body) {
		return errors.New("the body must be UTF-8")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := checkNames(json.NewDecoder(bytes.NewReader(body)), fieldsOf(into)); err != nil {
		return err
	}
	if err := decoder.Decode(into); err != nil {
		return explain(err)
	}
	if decoder.InputOffset() != int64(len(body)) {
		return errors.New("the body must end after the JSON object")
	}
	return nil
}

// checkNames looks at the names in an object: encoding/json takes them in any
// case, and each any number of times.
func checkNames(decoder *json.Decoder, fields []string) error {
	seen := map[string]bool{}
	if _, err := decoder.Token(); err != nil {
		return explain(err)
	}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return explain(err)
		}
		name, _ := token.(string)
		switch {
		case !slices.Contains(fields, name):
			return fmt.Errorf("%q: unknown field; the fields are %s", shorten(name), strings.Join(fields, ", "))
		case seen[name]:
			return fmt.Errorf("%s: given twice", name)
		}
		seen[name] = true
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return explain(err)
		}
	}
	return nil
}

// fieldsOf are the names of a struct's fields as JSON.
func fieldsOf(pointer any) []string {
	var names []string
	for _, field := range reflect.VisibleFields(reflect.TypeOf(pointer).Elem()) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// shorten cuts what would make a message unreadable.
func shorten(text string) string { return cut(text, 64) }

func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}

// legible is text of somebody else's that can stand in a message: not too long,
// and without what would forge the words around it.
func legible(text string) string {
	const most = 256
	return cut(strings.Map(func(r rune) rune {
		if forges(r) {
			return utf8.RuneError
		}
		return r
	}, text), most)
}

// forges says whether a character ends a line, controls a terminal, or has the
// text around it shown in another order.
func forges(r rune) bool {
	return unicode.IsControl(r) || unicode.In(r, unicode.Zl, unicode.Zp, unicode.Bidi_Control)
}

// explain says in the caller's words what encoding/json did not like.
func explain(err error) error {
	mistyped, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return fmt.Errorf("the body must be JSON: %w", err)
	}
	got := shorten(mistyped.Value)
	switch mistyped.Type.Kind() { //nolint:exhaustive // the others are not in any body
	case reflect.Int32:
		return fmt.Errorf("%s: must be a whole number from 0 to %d, got %s", mistyped.Field, math.MaxInt32, got)
	case reflect.Bool:
		return fmt.Errorf("%s: must be true or false, got %s", mistyped.Field, got)
	}
	return fmt.Errorf("%s: must be text, got %s", mistyped.Field, got)
}

// checkReason refuses a reason that is too long, or that would forge what it is
// shown in: it stands in lines of the log and of a terminal.
func checkReason(reason string) error {
	if length := utf8.RuneCountInString(reason); length > maxReason {
		return fmt.Errorf("reason: must be at most %d characters, got %d", maxReason, length)
	}
	if strings.ContainsFunc(reason, forges) {
		return errors.New("reason: must be one line, without control characters")
	}
	return nil
}

// lasting reads how long something is to last.
func lasting(text string) (time.Duration, error) {
	duration, err := time.ParseDuration(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("duration: must be such as 30m or 2h45m, got %q", shorten(text))
	case duration <= 0 || duration > maxDuration:
		return 0, fmt.Errorf("duration: must be above 0 and at most %s, got %s", "8760h", shorten(text))
	}
	return duration, nil
}

// until is when that is over: whole seconds are what an end is told in, and none
// of the time is taken away.
func until(now time.Time, duration time.Duration) time.Time {
	return now.Add(duration + time.Second - 1).Truncate(time.Second)
}

// momentText is a time of RFC 3339.
var momentText = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$`)

// moment reads a time, strictly: by itself Go takes offsets of 24 hours, which
// it can then write into no answer.
func moment(name, text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || !momentText.MatchString(text) {
		return t, fmt.Errorf("%s: must be such as 2006-01-02T15:04:05Z, got %q", name, shorten(text))
	}
	return t, nil
}
