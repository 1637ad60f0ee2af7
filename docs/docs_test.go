// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

// Package docs_test holds the pages to what they say: links lead somewhere, and
// what is shown as a configuration, a payload or a file is one.
package docs_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/config"
	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/metric"
)

const root = ".."

// page is a Markdown file, taken apart.
type page struct {
	// prose is its text without code, headings its headings.
	prose    string
	headings []string
	blocks   []block
}

// block is fenced code. A title, as in
//
//	```yaml title="config.yaml"
//
// says what it claims to be.
type block struct {
	language, title, text string
}

var (
	fence      = regexp.MustCompile("^( *)```(\\S*)(?: title=\"([^\"]+)\")?")
	codeSpan   = regexp.MustCompile("``.*?``|`[^`]*`")
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	atxHeading = regexp.MustCompile(`^#{1,6} +(.*)$`)
)

func readPage(t *testing.T, path string) page {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var p page
	var prose, code strings.Builder
	var open []string // the fence that is open
	for line := range strings.Lines(string(content)) {
		if open != nil {
			if strings.TrimSpace(line) == "```" {
				p.blocks = append(p.blocks, block{language: open[2], title: open[3], text: code.String()})
				code.Reset()
				open = nil
				continue
			}
			code.WriteString(strings.TrimPrefix(line, open[1]))
			continue
		}
		if open = fence.FindStringSubmatch(line); open != nil {
			continue
		}
		if heading := atxHeading.FindStringSubmatch(strings.TrimSpace(line)); heading != nil {
			p.headings = append(p.headings, heading[1])
		}
		prose.WriteString(codeSpan.ReplaceAllString(line, ""))
	}
	if open != nil {
		t.Errorf("%s: a block of code has no end", path)
	}
	p.prose = prose.String()
	return p
}

// pages are all Markdown files of the repository by path.
func pages(t *testing.T) map[string]page {
	t.Helper()
	all := map[string]page{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "bin" || name == "dist"):
			return fs.SkipDir
		case filepath.Ext(name) == ".md":
			all[path] = readPage(t, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestLinks(t *testing.T) {
	all := pages(t)
	for path, p := range all {
		for _, found := range link.FindAllStringSubmatch(p.prose, -1) {
			target, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := path
			if target != "" {
				file = filepath.Join(filepath.Dir(path), target)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s: the link %s leads nowhere", path, found[1])
				continue
			}
			if anchor != "" && !hasAnchor(all[file], anchor) {
				t.Errorf("%s: the link %s leads to no heading of %s", path, found[1], file)
			}
		}
	}
}

func hasAnchor(p page, anchor string) bool {
	for _, heading := range p.headings {
		if slug(heading) == anchor {
			return true
		}
	}
	return false
}

// slug is a heading's anchor, as GitHub makes it.
func slug(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		default:
			return -1
		}
	}, heading)
}

func TestBlocks(t *testing.T) {
	for path, p := range pages(t) {
		for _, b := range p.blocks {
			t.Run(filepath.Base(path)+"/"+b.language+"/"+b.title, func(t *testing.T) { b.check(t) })
		}
	}
}

func (b block) check(t *testing.T) {
	t.Helper()
	switch b.language {
	case "yaml":
		for document := range strings.SplitSeq(b.text, "\n---\n") {
			if err := yaml.Unmarshal([]byte(document), new(any)); err != nil {
				t.Errorf("%v in\n%s", err, document)
			}
		}
	case "json":
		b.checkJSON(t)
	}
	switch {
	case b.title == "":
	case b.title == "config.yaml":
		b.checkConfig(t)
	case b.language == "json":
		b.checkPayload(t)
	default:
		content, err := os.ReadFile(filepath.Join(root, b.title))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(content), b.text); diff != "" {
			t.Errorf("this is not %s (-file +page):\n%s", b.title, diff)
		}
	}
}

// checkConfig loads what is shown as a whole configuration.
func (b block) checkConfig(t *testing.T) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
		t.Fatal(err)
	}
	loaded, err := config.Load(file, func(string) (string, bool) { return "", false })
	if err != nil {
		t.Error(err)
	}
	for _, warning := range loaded.Warnings {
		t.Error(warning)
	}
}

// checkJSON parses the text. What looks like one of the kubernetesMetrics must
// have all of its keys and no other.
func (b block) checkJSON(t *testing.T) {
	t.Helper()
	shown := parse(t, []byte(b.text))
	if object, ok := shown.(map[string]any); !ok || object["current_replicas"] == nil {
		return
	}
	decoder := json.NewDecoder(strings.NewReader(b.text))
	decoder.DisallowUnknownFields()
	var value metric.KubernetesMetric
	if err := decoder.Decode(&value); err != nil {
		t.Fatal(err)
	}
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(parse(t, encoded), shown); diff != "" {
		t.Errorf("this is not what a hook is given (-given +page):\n%s", diff)
	}
}

// checkPayload compares a payload with the golden one that the title names, but
// for the contents of the resource, which a page may shorten.
func (b block) checkPayload(t *testing.T) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, b.title))
	if err != nil {
		t.Fatal(err)
	}
	var payloads [2]map[string]any
	for i, text := range [][]byte{content, []byte(b.text)} {
		payload, ok := parse(t, text).(map[string]any)
		if _, given := payload["resource"]; !ok || !given {
			t.Fatalf("%s is no payload", text)
		}
		payload["resource"] = nil
		payloads[i] = payload
	}
	if diff := cmp.Diff(payloads[0], payloads[1]); diff != "" {
		t.Errorf("this is not %s (-file +page):\n%s", b.title, diff)
	}
}

func parse(t *testing.T, text []byte) (value any) {
	t.Helper()
	if err := json.Unmarshal(bytes.TrimSpace(text), &value); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return value
}
