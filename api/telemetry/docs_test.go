// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

const (
	page   = "../../docs/metrics.md"
	begins = "<!-- what follows is made from the code by `go generate ./api/telemetry` -->\n"
	ends   = "<!-- end of what is made from the code -->\n"
)

// families are all metrics there are, but for the standard ones.
func families(t *testing.T) []*dto.MetricFamily {
	t.Helper()
	all, err := whole(t).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return !strings.HasPrefix(f.GetName(), prefix) })
}

// table is the one of the page.
func table(all []*dto.MetricFamily) string {
	var text strings.Builder
	text.WriteString("| name | type | labels | what it is |\n| --- | --- | --- | --- |\n")
	for _, f := range all {
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels["`"+l.GetName()+"`"] = true
			}
		}
		fmt.Fprintf(&text, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()),
			strings.Join(slices.Sorted(maps.Keys(labels)), " "), f.GetHelp())
	}
	return text.String()
}

func TestPageIsCurrent(t *testing.T) {
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), begins)
	got, after, ended := strings.Cut(rest, ends)
	if !found || !ended {
		t.Fatal("docs/metrics.md has no place for the table")
	}
	want := "\n" + table(families(t)) + "\n"
	if *update {
		if err := os.WriteFile(page, []byte(before+begins+want+ends+after), 0o644); err != nil {
			t.Fatal(err)
		}
		got = want
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("docs/metrics.md is stale, run `go generate ./api/telemetry` (-want +got):\n%s", diff)
	}
}

// The page's table is taken from the story, so that nothing may be missing in it.
func TestStoryIsWhole(t *testing.T) {
	shown := map[string]bool{}
	for _, f := range families(t) {
		shown[f.GetName()] = true
	}
	described := make(chan *prometheus.Desc)
	go func() {
		defer close(described)
		whole(t).registry.Describe(described)
	}()
	name := regexp.MustCompile(`fqName: "(` + prefix + `[^"]*)"`)
	for d := range described {
		if found := name.FindStringSubmatch(d.String()); found != nil && !shown[found[1]] {
			t.Errorf("the story does not show %s", found[1])
		}
	}
}

// Examples, alerts and queries only speak of what there is.
func TestPageNamesWhatThereIs(t *testing.T) {
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	scrape := whole(t).scrape()
	for _, name := range regexp.MustCompile(prefix+`[a-z_]+`).FindAllString(string(content), -1) {
		if !strings.Contains(scrape, "\n"+name+"{") && !strings.Contains(scrape, "\n"+name+" ") && !strings.Contains(scrape, "# TYPE "+name+" ") {
			t.Errorf("the page speaks of %s", name)
		}
	}
}

// The alerts do what they say.
func TestAlerts(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Fatalf("promtool, of Debian's prometheus, tries the alerts: %v", err)
	}
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile("(?s)```yaml\n(groups:.*?)```").FindStringSubmatch(string(content))
	if rules == nil {
		t.Fatal("docs/metrics.md shows no rules")
	}
	story, err := os.ReadFile(filepath.Join("testdata", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for name, text := range map[string]string{"rules.yaml": rules[1], "alerts.yaml": string(story)} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	test := exec.CommandContext(t.Context(), promtool, "test", "rules", "alerts.yaml")
	test.Dir = folder
	if output, err := test.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}
