// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

// change is one scalar of a file that got another value.
type change struct {
	// name is what the scalar is: replicas, minReplicas or maxReplicas.
	name     string
	from, to int64
}

// String is the change in words: "replicas 3 -> 5".
func (c change) String() string { return fmt.Sprintf("%s %d -> %d", c.name, c.from, c.to) }

// wish is a value that a scalar is to have.
type wish struct {
	// name is what the scalar is, and the key of gitOps that holds its path.
	name  string
	path  config.YAMLPath
	text  string
	value int32
}

// maxEditBytes is the largest file that is edited.
const maxEditBytes = 4 << 20

// edit makes scalars of a YAML file have the wished values, by replacing their
// digits and nothing else. The changes are those that were needed. It refuses a
// file in which the result would not differ in exactly those scalars.
func edit(content []byte, wishes []wish) (edited []byte, changes []change, err error) {
	before, err := parse(content)
	if err != nil {
		return nil, nil, err
	}
	var nodes []*yaml.Node
	var cuts []cut
	for _, w := range wishes {
		node, err := before.find(w.path)
		if err != nil {
			return nil, nil, fmt.Errorf("gitOps.%s is %s: %w", w.name, w.text, err)
		}
		if slices.Contains(nodes, node) {
			return nil, nil, fmt.Errorf("gitOps.%s is %s: another path leads to the same value; leave one of them out", w.name, w.text)
		}
		nodes = append(nodes, node)
		from, err := strconv.ParseInt(node.Value, 10, 64)
		if err != nil {
			return nil, nil, fmt.Errorf("gitOps.%s is %s: the value in line %d is too large", w.name, w.text, node.Line)
		}
		if from == int64(w.value) {
			continue
		}
		c, err := before.cut(node, strconv.Itoa(int(w.value)))
		if err != nil {
			return nil, nil, fmt.Errorf("gitOps.%s is %s: %w", w.name, w.text, err)
		}
		cuts = append(cuts, c)
		changes = append(changes, change{name: w.name, from: from, to: int64(w.value)})
		node.Value = c.digits
	}
	if len(cuts) == 0 {
		return content, nil, nil
	}
	edited = apply(content, cuts)
	after, err := parse(edited)
	if err != nil {
		return nil, nil, fmt.Errorf("the edited file would be none any more: %w", err)
	}
	// The wished values stand in before by now: all the rest must be equal.
	if !slices.EqualFunc(before.documents, after.documents, sameNode) {
		return nil, nil, errors.New("replacing the number would change something else too: write it on a line of its own")
	}
	return edited, changes, nil
}

// cut is a piece of a file that is replaced.
type cut struct {
	begin, end int
	digits     string
}

func apply(content []byte, cuts []cut) []byte {
	slices.SortFunc(cuts, func(a, b cut) int { return a.begin - b.begin })
	var edited []byte
	end := 0
	for _, c := range cuts {
		edited = append(append(edited, content[end:c.begin]...), c.digits...)
		end = c.end
	}
	return append(edited, content[end:]...)
}

// file is a parsed YAML file.
type file struct {
	content   []byte
	documents []*yaml.Node
	// lines are the offsets at which lines begin, as the parser counts them.
	lines []int
}

const byteOrderMark = "\ufeff"

func parse(content []byte) (f file, err error) {
	switch {
	case len(content) > maxEditBytes:
		return file{}, fmt.Errorf("the file is larger than %d bytes", maxEditBytes)
	case !utf8.Valid(content):
		return file{}, errors.New("the file must be UTF-8 text")
	}
	// The parser panics at some texts that are no YAML.
	defer func() {
		if cause := recover(); cause != nil {
			f, err = file{}, fmt.Errorf("the file must be YAML: %v", cause)
		}
	}()
	f = file{content: content, lines: lines(content)}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return file{}, fmt.Errorf("the file must be YAML: %w", err)
		}
		f.documents = append(f.documents, &document)
	}
	if len(f.documents) == 0 {
		return file{}, errors.New("the file holds no YAML document")
	}
	return f, nil
}

// lineEnd is what the parser takes for the end of a line.
var lineEnd = regexp.MustCompile("\r\n|\r|\n|\u0085|\u2028|\u2029")

// lines are the offsets at which lines begin.
func lines(content []byte) []int {
	offsets := []int{0}
	if bytes.HasPrefix(content, []byte(byteOrderMark)) {
		offsets[0] = len(byteOrderMark)
	}
	for _, end := range lineEnd.FindAllIndex(content, -1) {
		offsets = append(offsets, end[1])
	}
	return offsets
}

// errMissing says that a document has nothing at a path.
var errMissing = errors.New("there is no such value in the file; write it there once, by hand")

// find is the scalar at a path. It is a whole number that is nothing else's
// too.
func (f file) find(path config.YAMLPath) (*yaml.Node, error) {
	var found *yaml.Node
	for _, document := range f.documents {
		if !chosen(document, path.Document) {
			continue
		}
		node, err := walk(document, path.Steps)
		if errors.Is(err, errMissing) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if found != nil {
			return nil, errors.New("several documents of the file have that: choose one, as [kind=Deployment,metadata.name=web]spec.replicas does")
		}
		found = node
	}
	if found == nil {
		return nil, errMissing
	}
	return found, nil
}

// chosen says whether a document meets the conditions in front of a path.
func chosen(document *yaml.Node, conditions []config.YAMLCondition) bool {
	return len(document.Content) > 0 && meets(document.Content[0], conditions)
}

func meets(node *yaml.Node, conditions []config.YAMLCondition) bool {
	for _, c := range conditions {
		at := resolve(node)
		for _, key := range c.Keys {
			values := entries(at, key)
			if len(values) != 1 {
				return false
			}
			at = resolve(values[0])
		}
		if at.Kind != yaml.ScalarNode || at.Value != c.Value {
			return false
		}
	}
	return true
}

// resolve follows an alias, for reading only.
func resolve(node *yaml.Node) *yaml.Node {
	if node.Kind == yaml.AliasNode && node.Alias != nil {
		return node.Alias
	}
	return node
}

// entries are the values of a key of a mapping; none in anything else.
func entries(node *yaml.Node, key string) []*yaml.Node {
	if node.Kind != yaml.MappingNode {
		return nil
	}
	var values []*yaml.Node
	for i := 0; i+1 < len(node.Content); i += 2 {
		if k := node.Content[i]; k.Kind == yaml.ScalarNode && k.Value == key {
			values = append(values, node.Content[i+1])
		}
	}
	return values
}

func walk(document *yaml.Node, steps []config.YAMLStep) (*yaml.Node, error) {
	aliased := map[*yaml.Node]bool{}
	aliases(document, aliased)
	if len(document.Content) == 0 {
		return nil, errMissing
	}
	node := document.Content[0]
	for i := 0; ; i++ {
		if node.Kind == yaml.AliasNode {
			return nil, fmt.Errorf("in line %d there is an alias, *%s: write the value out there", node.Line, node.Value)
		}
		if aliased[node] {
			return nil, fmt.Errorf("what is in line %d has an anchor, &%s, and is used elsewhere too: give this place a value of its own", node.Line, node.Anchor)
		}
		if i == len(steps) {
			return node, number(node)
		}
		below, err := down(node, steps[i])
		if err != nil {
			return nil, err
		}
		node = below
	}
}

// aliases collects what aliases lead to.
func aliases(node *yaml.Node, into map[*yaml.Node]bool) {
	if node.Kind == yaml.AliasNode {
		into[node.Alias] = true
		return
	}
	for _, below := range node.Content {
		aliases(below, into)
	}
}

func down(node *yaml.Node, step config.YAMLStep) (*yaml.Node, error) {
	var values []*yaml.Node
	switch {
	case !step.List:
		values = entries(node, step.Key)
	case node.Kind != yaml.SequenceNode:
	case step.Conditions == nil:
		if step.Index < len(node.Content) {
			values = node.Content[step.Index : step.Index+1]
		}
	default:
		for _, element := range node.Content {
			if meets(element, step.Conditions) {
				values = append(values, element)
			}
		}
	}
	switch len(values) {
	case 0:
		return nil, errMissing
	case 1:
		return values[0], nil
	}
	return nil, fmt.Errorf("in what begins in line %d there are %d of that: leave one", node.Line, len(values))
}

// plainNumber is how a whole number must be written to be replaced.
var plainNumber = regexp.MustCompile(`^(?:0|[1-9][0-9]*)$`)

func number(node *yaml.Node) error {
	switch {
	case node.Kind != yaml.ScalarNode:
		return fmt.Errorf("what is in line %d is a block, not a number: lead the path to the number", node.Line)
	case node.Anchor != "":
		return fmt.Errorf("the value in line %d has an anchor, &%s: remove that", node.Line, node.Anchor)
	case node.Style&yaml.TaggedStyle != 0:
		return fmt.Errorf("the value in line %d has a tag, %s: remove that", node.Line, node.Tag)
	case node.Tag == "!!null":
		return fmt.Errorf("in line %d there is no value: write a number there once, by hand", node.Line)
	case node.Style&^(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0, !plainNumber.MatchString(node.Value):
		return fmt.Errorf("the value in line %d is no plain whole number, such as 3, but %q", node.Line, shorten(node.Value))
	}
	return nil
}

// cut is where the digits of a scalar stand.
func (f file) cut(node *yaml.Node, digits string) (cut, error) {
	moved := fmt.Errorf("the number that is to be in line %d is not found there: write it as plain digits", node.Line)
	if node.Line < 1 || node.Line > len(f.lines) {
		return cut{}, moved
	}
	begin := f.lines[node.Line-1]
	for range node.Column - 1 {
		_, size := utf8.DecodeRune(f.content[begin:])
		begin += size
	}
	quote := ""
	switch node.Style { //nolint:exhaustive // number lets only these pass.
	case yaml.SingleQuotedStyle:
		quote = "'"
	case yaml.DoubleQuotedStyle:
		quote = `"`
	}
	if !bytes.HasPrefix(f.content[begin:], []byte(quote+node.Value+quote)) {
		return cut{}, moved
	}
	begin += len(quote)
	return cut{begin: begin, end: begin + len(node.Value), digits: digits}, nil
}

// sameNode says whether two nodes are equal in everything but where they stand.
func sameNode(a, b *yaml.Node) bool {
	if a.Kind == yaml.AliasNode || b.Kind == yaml.AliasNode {
		return a.Kind == b.Kind && a.Value == b.Value
	}
	return a.Kind == b.Kind && a.Style == b.Style && a.Tag == b.Tag && a.Value == b.Value && a.Anchor == b.Anchor &&
		a.HeadComment == b.HeadComment && a.LineComment == b.LineComment && a.FootComment == b.FootComment &&
		slices.EqualFunc(a.Content, b.Content, sameNode)
}

// shorten cuts what would make a message unreadable.
func shorten(text string) string {
	const most = 64
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "..."
}
