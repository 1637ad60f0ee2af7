// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package gitops

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
)

func wishFor(t testing.TB, path string, value int32) wish {
	t.Helper()
	parsed, err := config.ParseYAMLPath(path)
	if err != nil {
		t.Fatal(err)
	}
	return wish{name: nameReplicas, path: parsed, text: path, value: value}
}

func TestEditing(t *testing.T) {
	for _, test := range []struct{ name, path, before, after string }{
		{"a comment stays", "spec.replicas", "spec:\n  replicas: 3   # three\n", "spec:\n  replicas: 5   # three\n"},
		{"double quotes stay", "replicas", "replicas: \"3\"\n", "replicas: \"5\"\n"},
		{"single quotes stay", "replicas", "replicas:   '3'\n", "replicas:   '5'\n"},
		{"no line end", "replicas", "replicas: 3", "replicas: 5"},
		{"CRLF", "spec.replicas", "a: 1\r\nspec:\r\n  # x\r\n  replicas: 3\r\nb: 2\r\n", "a: 1\r\nspec:\r\n  # x\r\n  replicas: 5\r\nb: 2\r\n"},
		{"a byte order mark", "replicas", "\ufeffreplicas: 3\n", "\ufeffreplicas: 5\n"},
		{"a byte order mark and a comment", "replicas", "\ufeff# x\nreplicas: 3\n", "\ufeff# x\nreplicas: 5\n"},
		{"flow style", "spec.replicas", "spec: {name: ä, replicas: 3, x: [3, 3]}\n", "spec: {name: ä, replicas: 5, x: [3, 3]}\n"},
		{"JSON", "spec.replicas", "{\n  \"spec\": {\"a\": 3, \"replicas\": 3}\n}\n", "{\n  \"spec\": {\"a\": 3, \"replicas\": 5}\n}\n"},
		{"JSON with tabs", "spec.replicas", "{\n\t\"spec\": {\n\t\t\"replicas\": 3\n\t}\n}\n", "{\n\t\"spec\": {\n\t\t\"replicas\": 5\n\t}\n}\n"},
		{"unicode before it in the line", "a.replicas", "a: {\"ключ\": \"😀\", replicas: 3}\n", "a: {\"ключ\": \"😀\", replicas: 5}\n"},
		{"line separators in a text", "replicas", "a: \"x\u2028y\u0085z\"\nreplicas: 3\n", "a: \"x\u2028y\u0085z\"\nreplicas: 5\n"},
		{"block scalars that look alike", "replicas", "a: |\n  replicas: 3\nb: >-\n  replicas: 3\nreplicas: 3\n", "a: |\n  replicas: 3\nb: >-\n  replicas: 3\nreplicas: 5\n"},
		{"a tab in a comment", "replicas", "#\tx\nreplicas: 3\t#\ty\n", "#\tx\nreplicas: 5\t#\ty\n"},
		{"a list by name", "replicas[name=web].count", "replicas:\n- name: api\n  count: 3\n- name: web\n  count: 3\n", "replicas:\n- name: api\n  count: 3\n- name: web\n  count: 5\n"},
		{"a list by index", "a[1][0]", "a: [[3], [3]]\n", "a: [[3], [5]]\n"},
		{"a quoted key", `metadata.annotations."example.com/replicas"`, "metadata: {annotations: {example.com/replicas: \"3\"}}\n", "metadata: {annotations: {example.com/replicas: \"5\"}}\n"},
		{"a key that is a number", "a.8080", "a:\n  8080: 3\n", "a:\n  8080: 5\n"},
		{"one of several documents has it", "spec.replicas", "kind: Service\n---\nspec: {replicas: 3}\n---\n# nothing\n", "kind: Service\n---\nspec: {replicas: 5}\n---\n# nothing\n"},
		{
			"one of several documents is chosen", "[kind=Deployment,metadata.name=web]spec.replicas",
			"kind: Deployment\nmetadata: {name: api}\nspec: {replicas: 3}\n---\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 3}\n",
			"kind: Deployment\nmetadata: {name: api}\nspec: {replicas: 3}\n---\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 5}\n",
		},
		{"anchors and merges elsewhere", "web.replicas", "base: &base {replicas: 3, x: 1}\nweb:\n  <<: *base\n  replicas: 3\n", "base: &base {replicas: 3, x: 1}\nweb:\n  <<: *base\n  replicas: 5\n"},
		{"in a block with an anchor that nobody uses", "web.replicas", "web: &web\n  replicas: 3\n", "web: &web\n  replicas: 5\n"},
		{"directives", "replicas", "%YAML 1.1\n---\nreplicas: 3\n...\n", "%YAML 1.1\n---\nreplicas: 5\n...\n"},
		{"a complex key elsewhere", "replicas", "? [a, b]\n: 3\nreplicas: 3\n", "? [a, b]\n: 3\nreplicas: 5\n"},
		{"on the line below", "replicas", "replicas:\n  3\n", "replicas:\n  5\n"},
		{"a large number", "replicas", "replicas: 4294967296\n", "replicas: 5\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			edited, changes, err := edit([]byte(test.before), []wish{wishFor(t, test.path, 5)})
			if err != nil {
				t.Fatal(err)
			}
			if string(edited) != test.after || len(changes) != 1 {
				t.Errorf("got %q, %v", edited, changes)
			}
			again, changes, err := edit(edited, []wish{wishFor(t, test.path, 5)})
			if err != nil || !bytes.Equal(again, edited) || len(changes) > 0 {
				t.Errorf("edited again: %q, %v, %v", again, changes, err)
			}
		})
	}
}

func TestWhatIsNotEdited(t *testing.T) {
	for _, test := range []struct{ name, path, file, fault string }{
		{"no such key", "spec.replicas", "spec: {}\n", "there is no such value in the file"},
		{"no value", "replicas", "replicas:\n", "there is no value"},
		{"null", "replicas", "replicas: ~\n", "there is no value"},
		{"not a number", "replicas", "replicas: many\n", `no plain whole number, such as 3, but "many"`},
		{"a fraction", "replicas", "replicas: 3.0\n", "no plain whole number"},
		{"a negative number", "replicas", "replicas: -3\n", "no plain whole number"},
		{"an octal number", "replicas", "replicas: 03\n", "no plain whole number"},
		{"a hexadecimal number", "replicas", "replicas: 0x3\n", "no plain whole number"},
		{"a template", "replicas", "replicas: '{{ .Values.replicas }}'\n", "no plain whole number"},
		{"a template that is no YAML", "replicas", "replicas: {{ .Values.replicas }}\n", "is a block"},
		{"a block", "spec", "spec: {replicas: 3}\n", "is a block, not a number"},
		{"a block scalar", "replicas", "replicas: |-\n  3\n", "no plain whole number"},
		{"an alias", "replicas", "a: &n 3\nreplicas: *n\n", "an alias, *n"},
		{"an anchor", "replicas", "replicas: &n 3\n", "an anchor, &n"},
		{"an anchor that is used", "replicas", "replicas: &n 3\na: *n\n", "an anchor, &n, and is used elsewhere"},
		{"in a block that is used elsewhere", "a.replicas", "a: &a {replicas: 3}\nb: *a\n", "an anchor, &a, and is used elsewhere"},
		{"behind an alias", "b.replicas", "a: &a {replicas: 3}\nb: *a\n", "an alias, *a"},
		{"merged", "b.replicas", "a: &a {replicas: 3}\nb: {<<: *a}\n", "there is no such value"},
		{"a tag", "replicas", "replicas: !!int 3\n", "has a tag"},
		{"an escape", "replicas", `replicas: "\x33"` + "\n", "is not found there"},
		{"twice", "replicas", "replicas: 3\nreplicas: 4\n", "there are 2 of that"},
		{"two elements", "a[name=x].n", "a: [{name: x, n: 1}, {name: x, n: 2}]\n", "there are 2 of that"},
		{"no element", "a[name=y].n", "a: [{name: x, n: 1}]\n", "there is no such value"},
		{"beyond the end", "a[1]", "a: [1]\n", "there is no such value"},
		{"an index into a mapping", "a[0]", "a: {0: 1}\n", "there is no such value"},
		{"several documents", "replicas", "replicas: 3\n---\nreplicas: 3\n", "several documents of the file have that"},
		{"no document is chosen", "[kind=X]replicas", "kind: Y\nreplicas: 3\n", "there is no such value"},
		{"two documents are chosen", "[kind=X]replicas", "kind: X\nreplicas: 3\n---\nkind: X\nreplicas: 3\n", "several documents"},
		{"no YAML", "replicas", "a: [\n", "must be YAML"},
		{"no UTF-8", "replicas", "replicas: 3 # \xff\n", "must be UTF-8"},
		{"UTF-16", "replicas", "\xff\xfer\x00:\x00 \x003\x00", "must be UTF-8"},
		{"empty", "replicas", "", "no YAML document"},
		{"too large a number", "replicas", "replicas: 99999999999999999999\n", "too large"},
		{"too large a file", "replicas", "replicas: 3\n#" + strings.Repeat("x", maxEditBytes), "larger than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			edited, _, err := edit([]byte(test.file), []wish{wishFor(t, test.path, 5)})
			if err == nil || !strings.Contains(err.Error(), test.fault) {
				t.Errorf("got %q, %v", edited, err)
			}
		})
	}
}

func TestEditingSeveral(t *testing.T) {
	least, most := wishFor(t, "spec.minReplicas", 2), wishFor(t, "spec.maxReplicas", 200)
	least.name, most.name = nameMin, nameMax
	const before = "spec: {maxReplicas: 10, minReplicas: 1} # bounds\n"
	edited, changes, err := edit([]byte(before), []wish{least, most})
	if err != nil || string(edited) != "spec: {maxReplicas: 200, minReplicas: 2} # bounds\n" || words(changes) != "minReplicas 1 -> 2, maxReplicas 10 -> 200" {
		t.Errorf("got %q, %q, %v", edited, words(changes), err)
	}
	same := wishFor(t, "spec.minReplicas", 3)
	if _, _, err := edit([]byte(before), []wish{least, same}); err == nil || !strings.Contains(err.Error(), "another path leads to the same value") {
		t.Errorf("got %v", err)
	}
}

// garden grows YAML files with one number that is to be found, among
// everything that makes that hard.
type garden struct {
	random *rand.Rand
	text   strings.Builder
	eol    string
}

func (g *garden) pick(from ...string) string { return from[g.random.IntN(len(from))] }

func (g *garden) line(indent int, text string) {
	g.text.WriteString(strings.Repeat(" ", indent) + text + g.pick("", "", " # 3", "  #\treplicas: 3", " # ünï → 😀") + g.eol)
}

// noise is an entry of a mapping that is not the one looked for.
func (g *garden) noise(indent, n int) {
	key := fmt.Sprintf("%s%d", g.pick("a", "replicas", `"quoted: key `, "ключ"), n)
	if strings.HasPrefix(key, `"`) {
		key += `"`
	}
	switch g.random.IntN(9) {
	case 0:
		g.line(indent, key+": "+g.pick("3", `"3"`, "'it''s'", "true", "~", `"\u00e9\n"`, "3.0", "0x3", "*none"[1:]))
	case 1:
		g.text.WriteString(strings.Repeat(" ", indent) + key + ": |" + g.pick("", "-", "+") + g.eol)
		g.text.WriteString(strings.Repeat(" ", indent+2) + "replicas: 3" + g.eol + g.eol + strings.Repeat(" ", indent+2) + "# no comment" + g.eol)
	case 2:
		g.text.WriteString(strings.Repeat(" ", indent) + key + ": >" + g.eol + strings.Repeat(" ", indent+3) + "spec: 3" + g.eol)
	case 3:
		g.line(indent, key+": {replicas: 3, b: [3, '3', {c: \"3\"}]}")
	case 4:
		g.line(indent, fmt.Sprintf("%s: &anchor%d [3, {replicas: 3}]", key, n))
		g.line(indent, fmt.Sprintf("alias%d: *anchor%d", n, n))
	case 5:
		g.text.WriteString(g.eol + "# replicas: 3" + g.eol)
	case 6:
		g.line(indent, key+":")
		g.line(indent+g.random.IntN(3), "- 3")
	case 7:
		g.text.WriteString(strings.Repeat(" ", indent) + key + ": \"one" + g.eol + g.eol + strings.Repeat(" ", indent+1) + "two 3\"" + g.eol)
	case 8:
		g.text.WriteString(strings.Repeat(" ", indent) + "# \t spec" + g.eol)
	}
}

// grow is a file, the same with another number, and the path.
func grow(seed uint64) (before, after, path string) {
	g := &garden{random: rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // a test's
	g.eol = g.pick("\n", "\n", "\r\n")
	g.text.WriteString(g.pick("", "", byteOrderMark))
	path = "spec.replicas"
	documents := 1 + g.random.IntN(3)
	at := g.random.IntN(documents)
	if g.random.IntN(2) == 0 {
		path = "[kind=Deployment,metadata.name=web]" + path
	}
	const mark = "@NUMBER@"
	for i := range documents {
		if i > 0 || g.random.IntN(2) == 0 {
			g.text.WriteString("---" + g.pick("", " # 3") + g.eol)
		}
		kind := "Service"
		if i == at {
			kind = "Deployment"
		}
		g.line(0, "kind: "+g.pick(kind, `"`+kind+`"`))
		g.line(0, g.pick("metadata: {name: web}", "metadata: {x: 3, \"name\": 'web'}"))
		for n := range g.random.IntN(4) {
			g.noise(0, n)
		}
		if i != at {
			continue
		}
		number := g.pick(mark, "'"+mark+"'", `"`+mark+`"`)
		switch g.random.IntN(3) {
		case 0:
			g.line(0, "spec: {a: 3, \"ä\": '😀', replicas: "+number+", b: [3]}")
		case 1:
			g.line(0, "spec: {\"replicas\" : "+number+"}")
		default:
			g.line(0, "spec:")
			for n := range g.random.IntN(4) {
				g.noise(2, n)
			}
			g.line(2, g.pick("replicas: ", "replicas:   ", `"replicas": `, "'replicas' : ")+number)
			for n := range g.random.IntN(4) {
				g.noise(2, 10+n)
			}
		}
		for n := range g.random.IntN(4) {
			g.noise(0, 20+n)
		}
	}
	text := g.text.String()
	return strings.Replace(text, mark, "3", 1), strings.Replace(text, mark, "57", 1), path
}

// Whatever surrounds the number: it changes, and no other byte.
func TestEditsChangeOneNumber(t *testing.T) {
	done := 0
	for seed := range uint64(4000) {
		before, after, path := grow(seed)
		edited, changes, err := edit([]byte(before), []wish{wishFor(t, path, 57)})
		if err != nil {
			// What the generator makes is not always YAML to begin with, nor is
			// it always unequivocal.
			if !strings.Contains(err.Error(), "must be YAML") && !strings.Contains(err.Error(), "several documents") {
				t.Fatalf("seed %d: %v\n%s", seed, err, before)
			}
			continue
		}
		done++
		if string(edited) != after || len(changes) != 1 {
			t.Fatalf("seed %d: %v\n%q\n%q", seed, changes, before, edited)
		}
	}
	if done < 3000 {
		t.Errorf("only %d of the files were edited", done)
	}
}

// Whatever the file: if it is edited, the result says what was wished, and
// differs in one run of digits.
func FuzzEdit(f *testing.F) {
	for seed := range uint64(50) {
		before, _, path := grow(seed)
		f.Add([]byte(before), path)
	}
	f.Add([]byte("a: &x [*x]\n"), "a[0]")
	f.Fuzz(func(t *testing.T, content []byte, path string) {
		parsed, err := config.ParseYAMLPath(path)
		if err != nil {
			t.Skip()
		}
		edited, changes, err := edit(content, []wish{{name: nameReplicas, path: parsed, text: path, value: 57}})
		if err != nil || len(changes) == 0 {
			return
		}
		was, one := []byte(strconv.FormatInt(changes[0].from, 10)), false
		for at := range len(content) - len(was) + 1 {
			one = one || bytes.HasPrefix(content[at:], was) &&
				bytes.Equal(slices.Concat(content[:at], []byte("57"), content[at+len(was):]), edited)
		}
		if !one {
			t.Errorf("%q became %q", content, edited)
		}
		var node yaml.Node
		if err := yaml.Unmarshal(edited, &node); err != nil {
			t.Errorf("%q became %q: %v", content, edited, err)
		}
		_, changes, err = edit(edited, []wish{{name: nameReplicas, path: parsed, text: path, value: 57}})
		if err != nil || len(changes) > 0 {
			t.Errorf("%q is edited again: %v, %v", edited, changes, err)
		}
	})
}
