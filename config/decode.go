// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// decoder fills typed values from a parsed tree. Unlike encoding/json, whose
// rules it follows, it goes on after a fault, so that all are reported with
// their keys, and it notes unknown keys.
type decoder struct {
	faults   Faults
	warnings []string
	// strict makes an unknown key a fault, one in another case among them, and
	// what is no text where there should be some.
	strict bool
}

func (d *decoder) fault(key, format string, args ...any) {
	d.faults = append(d.faults, Fault{Key: key, Message: fmt.Sprintf(format, args...)})
}

func (d *decoder) warn(key, format string, args ...any) {
	d.warnings = append(d.warnings, Fault{Key: key, Message: fmt.Sprintf(format, args...)}.String())
}

// repeated warns of keys given twice, which YAML's parser found.
func (d *decoder) repeated(lines []string) {
	for _, line := range lines {
		d.warnings = append(d.warnings, line+"; the last one counts")
	}
}

// value decodes one node. A null leaves a value as it is, and unsets what is
// optional.
func (d *decoder) value(key string, node any, into reflect.Value) {
	if node == nil {
		switch into.Kind() { //nolint:exhaustive // Only these kinds can be unset.
		case reflect.Pointer, reflect.Slice, reflect.Map:
			into.SetZero()
		}
		return
	}
	if leaf, ok := reflect.TypeAssert[json.Unmarshaler](into.Addr()); ok {
		d.leaf(key, node, leaf)
		return
	}
	switch into.Kind() {
	case reflect.Pointer:
		if into.IsNil() {
			into.Set(reflect.New(into.Type().Elem()))
		}
		d.value(key, node, into.Elem())
	case reflect.Struct:
		d.object(key, node, into)
	case reflect.Map:
		d.entries(key, node, into)
	case reflect.Slice:
		d.list(key, node, into)
	case reflect.String:
		d.text(key, node, into)
	case reflect.Bool:
		d.boolean(key, node, into)
	case reflect.Int, reflect.Int32, reflect.Int64:
		d.integer(key, node, into)
	default:
		d.fault(key, "cannot be configured: the program does not decode %s", into.Type())
	}
}

// object decodes a mapping into a struct. Keys match in any case. Given in
// several, they are all decoded, in the order of their letters.
func (d *decoder) object(key string, node any, into reflect.Value) {
	given, ok := node.(map[string]any)
	if !ok {
		d.fault(key, "must be a mapping of keys to values, got %s", describeKind(node))
		return
	}
	fields := fieldsOf(into.Type())
	spellings := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		f, ok := find(fields, name)
		if !ok || d.strict && f.name != name {
			d.unknown(under(key, name), name, fields)
			continue
		}
		if other, twice := spellings[f.name]; twice {
			d.warn(under(key, name), "given again, in another case, as %s; this one counts", other)
		}
		spellings[f.name] = name
		d.value(under(key, f.name), given[name], into.FieldByIndex(f.index))
	}
}

func (d *decoder) unknown(key, name string, fields []field) {
	known := make([]string, len(fields))
	for i, f := range fields {
		known[i] = f.name
	}
	tell, message := d.warn, "unknown key, ignored"
	if d.strict {
		tell, message = d.fault, "unknown key"
	}
	if meant := nearest(name, known); meant != "" {
		message += "; did you mean " + meant + "?"
	}
	tell(key, "%s", message)
}

// entries decodes a mapping whose keys are the user's own.
func (d *decoder) entries(key string, node any, into reflect.Value) {
	given, ok := node.(map[string]any)
	if !ok {
		d.fault(key, "must be a mapping of names to values, got %s", describeKind(node))
		return
	}
	entries := reflect.MakeMapWithSize(into.Type(), len(given))
	for _, name := range slices.Sorted(maps.Keys(given)) {
		entry := reflect.New(into.Type().Elem()).Elem()
		d.value(under(key, name), given[name], entry)
		entries.SetMapIndex(reflect.ValueOf(name).Convert(into.Type().Key()), entry)
	}
	into.Set(entries)
}

func (d *decoder) list(key string, node any, into reflect.Value) {
	given, ok := node.([]any)
	if !ok {
		d.fault(key, "must be a list, got %s", describeKind(node))
		return
	}
	elements := reflect.MakeSlice(into.Type(), len(given), len(given))
	for i := range given {
		d.value(at(key, i), given[i], elements.Index(i))
	}
	into.Set(elements)
}

// text decodes a string. A number or truth value that YAML made of an unquoted
// word is taken as its text, as the arguments of a command often need.
func (d *decoder) text(key string, node any, into reflect.Value) {
	if _, ok := node.(string); d.strict && !ok {
		d.fault(key, "must be text, got %s", describeKind(node))
		return
	}
	switch node := node.(type) {
	case string:
		if strings.ContainsRune(node, utf8.RuneError) {
			d.fault(key, "must be UTF-8 text")
			return
		}
		into.SetString(node)
	case json.Number:
		into.SetString(node.String())
	case bool:
		into.SetString(strconv.FormatBool(node))
	default:
		d.fault(key, "must be text, got %s", describeKind(node))
	}
}

func (d *decoder) boolean(key string, node any, into reflect.Value) {
	if value, ok := node.(bool); ok {
		into.SetBool(value)
		return
	}
	hint := ""
	if node == "true" || node == "false" {
		hint = withoutQuotes
	}
	d.fault(key, "must be true or false, got %s%s", describe(node), hint)
}

// integer decodes a whole number, also one written as 5000.0 or 5e3.
func (d *decoder) integer(key string, node any, into reflect.Value) {
	hint := ""
	if text, ok := node.(string); ok {
		if _, err := strconv.ParseInt(text, 10, 64); err == nil {
			hint = withoutQuotes
		}
	}
	number, ok := node.(json.Number)
	value, whole, fits := wholeNumber(number)
	switch {
	case !ok || !whole:
		d.fault(key, "must be a whole number%s, got %s%s", unit(into.Type()), describe(node), hint)
	case !fits || into.OverflowInt(value):
		most := int64(math.MaxInt64) >> (64 - into.Type().Bits())
		d.fault(key, "must be from %d to %d, got %s", -most-1, most, describe(node))
	default:
		into.SetInt(value)
	}
}

// withoutQuotes is the remedy for a value that would be right if it were no
// text.
const withoutQuotes = ": write it without quotes"

// wholeNumber is a number's value, whether it is a whole number, and whether
// it fits into 64 bits.
func wholeNumber(number json.Number) (value int64, whole, fits bool) {
	value, err := strconv.ParseInt(number.String(), 10, 64)
	if err == nil {
		return value, true, true
	}
	float, err := number.Float64()
	if err != nil || float < -1<<63 || float >= 1<<63 {
		return 0, true, false
	}
	return int64(float), float == math.Trunc(float), true
}

// vastExponent is one that resource.Quantity would spend hours and gigabytes on.
var vastExponent = regexp.MustCompile(`[eE][+-]?\d{3}`)

// leaf decodes a value of a type that has its own notation, such as a
// quantity.
func (d *decoder) leaf(key string, node any, into json.Unmarshaler) {
	raw, err := json.Marshal(node)
	if err == nil && (len(raw) > maxShown || vastExponent.Match(raw)) {
		err = errors.New("the number is too large or too precise")
	}
	if err == nil {
		err = into.UnmarshalJSON(raw)
	}
	if err != nil {
		d.fault(key, "cannot be read: %v, got %s", err, describe(node))
	}
}

// unit is what a whole number counts, as the end of a phrase.
func unit(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Milliseconds]():
		return " of milliseconds"
	case reflect.TypeFor[Seconds]():
		return " of seconds"
	}
	return ""
}

// describe shows what was found where something else was expected.
func describe(node any) string {
	switch node := node.(type) {
	case map[string]any:
		return "a mapping"
	case []any:
		return "a list"
	case string:
		return "the text " + strconv.Quote(shorten(node))
	case json.Number:
		return shorten(node.String())
	}
	return fmt.Sprint(node)
}

// describeKind shows only of what kind the found is, where its value, perhaps a
// secret, would not help.
func describeKind(node any) string {
	switch node.(type) {
	case string:
		return "text"
	case json.Number:
		return "a number"
	case bool:
		return "true or false"
	}
	return describe(node)
}

// field is a key of a block and where its value goes.
type field struct {
	name  string
	index []int
	// env is the environment variable of a top-level key, and live says whether
	// that can change while the program runs.
	env  string
	live bool
}

// fieldsOf lists the keys of a block, those of embedded blocks among them.
func fieldsOf(t reflect.Type) []field {
	var fields []field
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			continue
		}
		env := f.Tag.Get("env")
		if env == "" {
			env = name
		}
		fields = append(fields, field{name: name, index: f.Index, env: env, live: f.Tag.Get("live") != ""})
	}
	return fields
}

// find looks a key up, first as it is spelt and then in any case.
func find(fields []field, name string) (field, bool) {
	for _, same := range []func(field) bool{
		func(f field) bool { return f.name == name },
		func(f field) bool { return strings.EqualFold(f.name, name) },
	} {
		if i := slices.IndexFunc(fields, same); i >= 0 {
			return fields[i], true
		}
	}
	return field{}, false
}
