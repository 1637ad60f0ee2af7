// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package page_test

import (
	"compress/gzip"
	"context"
	"io"
	"io/fs"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/google/go-cmp/cmp"

	"github.com/custom-pod-autoscaler/custom-pod-autoscaler/api/page"
)

// get asks the handler itself.
func get(t testing.TB, method, path string, header http.Header) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), method, path, http.NoBody)
	maps.Copy(request.Header, header)
	recorder := httptest.NewRecorder()
	page.Handler().ServeHTTP(recorder, request)
	return recorder
}

func TestHandler(t *testing.T) {
	for _, test := range []struct {
		method, path string
		code         int
		contentType  string
	}{
		{"GET", "/", 200, "text/html; charset=utf-8"},
		{"HEAD", "/", 200, "text/html; charset=utf-8"},
		{"GET", "/page/app.js", 200, "text/javascript; charset=utf-8"},
		{"GET", "/page/style.css", 200, "text/css; charset=utf-8"},
		{"GET", "/page/", 404, "application/json; charset=utf-8"},
		{"GET", "/page/index.html", 404, "application/json; charset=utf-8"},
		{"GET", "/page/../page.go", 404, "application/json; charset=utf-8"},
		{"POST", "/", 405, "application/json; charset=utf-8"},
	} {
		t.Run(test.method+test.path, func(t *testing.T) {
			response := get(t, test.method, test.path, nil)
			if response.Code != test.code {
				t.Errorf("the status is %d, want %d", response.Code, test.code)
			}
			want := map[string]string{
				"Content-Type": test.contentType,
				"Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
					"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
				"X-Content-Type-Options": "nosniff",
				"Referrer-Policy":        "no-referrer",
			}
			for key, value := range want {
				if got := response.Header().Get(key); got != value {
					t.Errorf("%s is %q, want %q", key, got, value)
				}
			}
		})
	}
}

func TestHandlerKnowsWhatABrowserHas(t *testing.T) {
	first := get(t, "GET", "/page/app.js", nil)
	etag := first.Header().Get("ETag")
	if etag == "" || first.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("the headers are %v, want an ETag, and that it is asked for", first.Header())
	}
	second := get(t, "GET", "/page/app.js", http.Header{"If-None-Match": {etag}})
	if second.Code != http.StatusNotModified {
		t.Errorf("the status is %d, want 304", second.Code)
	}
}

// A part of a file, or a condition that only a change has, is asked of none.
func TestHandlerAnswersWithTheWholeFile(t *testing.T) {
	for name, value := range map[string]string{
		"Range": "bytes=99999999-", "range": "bytes=0-1", "If-Match": `"x"`, "If-Unmodified-Since": "Mon, 02 Mar 1998 00:00:00 GMT",
	} {
		got := get(t, http.MethodGet, "/page/app.js", http.Header{http.CanonicalHeaderKey(name): {value}})
		if got.Code != http.StatusOK || got.Body.Len() < 1000 {
			t.Errorf("%s: %s: got %d %.100s", name, value, got.Code, got.Body)
		}
	}
	if got := get(t, http.MethodGet, "http://localhost", nil); got.Code != http.StatusOK {
		t.Errorf("without a path: got %d %s", got.Code, got.Body)
	}
}

func TestHandlerCompresses(t *testing.T) {
	plain := get(t, "GET", "/page/app.js", http.Header{"Accept-Encoding": {"gzip;q=0, br"}})
	small := get(t, "GET", "/page/app.js", http.Header{"Accept-Encoding": {"br, gzip"}})
	if small.Header().Get("Content-Encoding") != "gzip" || plain.Header().Get("Content-Encoding") != "" || small.Header().Get("ETag") == plain.Header().Get("ETag") {
		t.Fatalf("the headers are %v with gzip and %v without", small.Header(), plain.Header())
	}
	reader, err := gzip.NewReader(small.Body)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plain.Body.String(), string(content)); diff != "" {
		t.Errorf("the content differs (-plain +gzip):\n%s", diff)
	}
}

// TestFiles holds every file to what keeps the page small and safe.
func TestFiles(t *testing.T) {
	files := os.DirFS("web")
	sum := 0
	err := fs.WalkDir(files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		text := strings.ReplaceAll(string(content), "http://www.w3.org/2000/svg", "")
		for _, word := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage", "http://", "https://"} {
			if strings.Contains(text, word) {
				t.Errorf("%s has %s in it", path, word)
			}
		}
		if !strings.Contains(text, "SPDX-License-Identifier: Apache-2.0") {
			t.Errorf("%s names no licence", path)
		}
		name := "/page/" + path
		if path == "index.html" {
			name = "/"
		}
		response := get(t, "GET", name, http.Header{"Accept-Encoding": {"gzip"}})
		sum += response.Body.Len()
		if response.Code != http.StatusOK {
			t.Errorf("%s is not served", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if most := 30 << 10; sum > most {
		t.Errorf("the page has %d bytes compressed, want at most %d", sum, most)
	}
}

func TestShows(t *testing.T) {
	last := recordOf(2, 0, 3, 14, 10)
	status := statusOf(last)
	status["bounds"] = object{
		"min": object{"replicas": 1}, "max": object{"replicas": 10, "source": "schedule nights"},
		"temporary": true, "nextChange": time.Now().Add(150 * time.Minute).Format(time.RFC3339),
	}
	status["leader"] = object{"leading": true, "identity": "web-1_x"}
	status["pause"] = object{"replicas": 5, "reason": "release 4.2"}
	status["hold"] = object{"replicas": 7, "until": time.Now().Add(time.Hour).Format(time.RFC3339), "reason": "load test"}
	status["override"] = object{"minReplicas": 4, "reason": "sale"}
	status["dryRun"], status["fallback"], status["failures"] = true, true, 4
	status["git"] = object{
		"repository": "git.example.com/deploy", "branch": "main", "file": "web.yaml", "mode": "instead", "lastCommit": "3f9c2a7b11d0e5c4",
		"lastError": "protected branch",
		"pending": object{
			"from": 3, "to": 10, "since": time.Now().Format(time.RFC3339), "due": "2026-01-02T03:04:05Z", "reason": "evaluated 14",
		},
		"arriving": object{"replicas": 2, "live": 6, "since": time.Now().Add(-40 * time.Second).Format(time.RFC3339)},
	}
	status["config"] = object{
		"live": []string{"maxReplicas", "interval"}, "needsRestart": []string{"apiConfig.port"},
		"fileError": "minReplicas is 5, more than maxReplicas\nand more",
	}
	b := open(t, newServer(t, status, recordOf(1, 15*time.Second, 3, 3, 3), last), screen{})
	b.until("document.getElementById('link').dataset.state === 'live'")

	for id, want := range map[string][]string{
		"target":      {"web"},
		"about":       {"Deployment in shop", "leading", "dry run", "paused", "on hold", "override", "fallback", "4 failed runs"},
		"counts":      {"3\ncurrent", "10\ndesired", "14\nevaluated"},
		"explanation": {"evaluated 14, capped to 10 (maxReplicas is 10)"},
		"notices": {
			"Paused at 5 replicas: release 4.2", "On hold at 7 replicas until", "Override: min 4: sale", "Fallback:", "Git: protected branch",
			"Pushed 2; the target still has 6, for 4", " s: waiting for whoever applies the repository",
			"is not valid and left aside: minReplicas is 5, more than maxReplicas", "Changed while it runs: maxReplicas, interval", "Changed, but needs a restart: apiConfig.port",
		},
		"facts": {
			"1 – 10", "min: configuration, max: schedule nights", "in 2 h ", "this one", "web-1_x", "commits instead of scaling", "web.yaml on main of git.example.com/deploy", "last commit 3f9c2a7b11",
			"to be committed: 3 → 10, since ", "tried at 2 Jan, 04:04:05: evaluated 14",
		},
		"next-run": {"in "},
		"last-run": {" ago"},
		"runs":     {"3 → 10", "evaluated 14, capped to 10", "scaled", "210 ms", "kept", "interval"},
		"version":  {"Custom Pod Autoscaler 1.2"},
	} {
		text := b.text(id)
		for _, part := range want {
			if !strings.Contains(text, part) {
				t.Errorf("#%s is %q, which lacks %q", id, text, part)
			}
		}
	}
	if title := value[string](b, "document.title"); title != "3 → 10 · web" {
		t.Errorf("the title is %q", title)
	}
}

// chart is how a chart drew its axes.
type chart struct {
	from, to, low, high, end float64
	left, right, top, bottom float64
}

func chartOf(domain, plot []float64) chart {
	return chart{domain[0], domain[1], domain[2], domain[3], domain[4], plot[0], plot[1], plot[2], plot[3]}
}

// x and y are where a time in ms and a value are.
func (c chart) x(at float64) string {
	return pixel(c.left+(at-c.from)/(c.to-c.from)*(c.right-c.left), c.left, c.right)
}

func (c chart) y(v float64) string {
	return pixel(c.bottom-(v-c.low)/(c.high-c.low)*(c.bottom-c.top), c.top, c.bottom)
}

func pixel(at, low, high float64) string {
	return strconv.FormatFloat(math.Round(min(high, max(low, at))*10)/10, 'f', -1, 64)
}

// steps is the path of values that begin at times and hold until the next.
func (c chart) steps(at, values []float64) string {
	parts := make([]string, len(values))
	for i, value := range values {
		next := c.end
		if i+1 < len(at) {
			next = at[i+1]
		}
		parts[i] = c.y(value) + "H" + c.x(next)
	}
	return "M" + c.x(at[0]) + " " + strings.Join(parts, "V")
}

func TestDrawsTheLines(t *testing.T) {
	var records []object
	var at []float64
	current := []float64{3, 3, 10, 10, 4}
	evaluated := []float64{3, 14, 14, 4, 4}
	desired := []float64{3, 10, 10, 4, 4}
	var metric []float64
	for i := range current {
		record := recordOf(i+1, time.Duration(4-i)*time.Minute, int(current[i]), int(evaluated[i]), int(desired[i]))
		records = append(records, record)
		at = append(at, float64(timeOf(record).UnixMilli()))
		metric = append(metric, 7*evaluated[i])
	}
	b := open(t, newServer(t, statusOf(records[4]), records...), screen{})
	b.until("document.getElementById('metric-chart')")

	// The charts are drawn anew every few seconds: axes and paths are read as one.
	type drawn struct {
		Domain, Plot             []float64
		MetricDomain, MetricPlot []float64
		Paths                    map[string]string
		Wrote, Failed            int
	}
	got := value[drawn](b, `(() => {
		const [counts, metric] = ['counts-chart', 'metric-chart'].map((id) => document.getElementById(id));
		const d = (svg, name) => svg.querySelector('path.' + name).getAttribute('d');
		return {
			domain: JSON.parse(counts.dataset.domain), plot: JSON.parse(counts.dataset.plot),
			metricDomain: JSON.parse(metric.dataset.domain), metricPlot: JSON.parse(metric.dataset.plot),
			paths: {current: d(counts, 'current'), evaluated: d(counts, 'evaluated'), desired: d(counts, 'desired'), band: d(counts, 'band'), metric: d(metric, 'metric')},
			wrote: counts.querySelectorAll('path.wrote').length, failed: counts.querySelectorAll('path.failed').length,
		};
	})()`)
	counts, below := chartOf(got.Domain, got.Plot), chartOf(got.MetricDomain, got.MetricPlot)
	if counts.low != 0 || counts.high != 15 || counts.from != below.from || counts.to != below.to {
		t.Errorf("the axes are %+v and %+v, want counts from 0 to 15 over the same time", counts, below)
	}
	want := map[string]string{
		"current":   counts.steps(at, current),
		"evaluated": counts.steps(at, evaluated),
		"desired":   counts.steps(at, desired),
		"band":      "M" + counts.x(at[0]) + " " + counts.y(10) + "H" + counts.x(counts.end) + "V" + counts.y(1) + "H" + counts.x(at[0]) + "Z",
		"metric":    below.steps(at, metric),
	}
	if diff := cmp.Diff(want, got.Paths); diff != "" {
		t.Errorf("the paths differ (-want +got):\n%s", diff)
	}
	if got.Wrote != 2 || got.Failed != 0 {
		t.Errorf("there are %d marks of writes and %d of failures, want 2 and none", got.Wrote, got.Failed)
	}
}

// A run that somebody asked for to be told what it would do is no decision, and
// not in the lines; that of an autoscaler which only tells is.
func TestDrawsNoQuestions(t *testing.T) {
	first, last := recordOf(1, time.Minute, 3, 4, 4).with("dryRun", true).with("written", false), recordOf(3, 0, 3, 4, 4).with("dryRun", true).with("written", false)
	question := recordOf(2, 30*time.Second, 3, 9, 9).with("dryRun", true).with("written", false).
		with("trigger", object{"kind": "request", "runType": "api_dry_run", "through": "scale", "dryRun": true})
	b := open(t, newServer(t, statusOf(last), first, question, last), screen{})
	b.until("document.getElementById('counts-chart')")
	for _, line := range []string{"desired", "evaluated", "current"} {
		if path := value[string](b, "document.querySelector('#counts-chart path."+line+"').getAttribute('d')"); strings.Count(path, "H") != 2 || strings.Count(path, "V") != 1 {
			t.Errorf("the line %s is %q, want two steps at one height", line, path)
		}
	}
	b.untilText("runs", "3 → 9")
	b.untilText("runs", "dry run, not drawn above")
	if rows := value[int](b, "document.querySelectorAll('#runs .badge').length"); rows != 3 {
		t.Errorf("the table has %d runs, want 3", rows)
	}
}

// A commit is marked when it is seen: it comes later than its run.
func TestMarksCommits(t *testing.T) {
	first := recordOf(1, 30*time.Second, 3, 3, 3)
	git := object{"repository": "git.example.com/deploy", "branch": "main", "file": "web.yaml", "mode": "record"}
	s := newServer(t, statusOf(first).with("git", git), first)
	b := open(t, s, screen{})
	b.untilText("facts", "records what is scaled")
	b.untilText("counts-legend", "◆ committed")
	if n := value[int](b, "document.querySelectorAll('path.committed').length"); n != 0 {
		t.Errorf("there are %d marks of commits, want none", n)
	}
	next := recordOf(2, 10*time.Second, 3, 8, 8)
	s.run(next, statusOf(next).with("git", git.with("lastCommit", "3f9c2a7b11d0e5c4").with("lastCommitTime", began.Format(time.RFC3339Nano))))
	b.until("document.querySelectorAll('path.committed').length === 1")
}

// TestBelowAPath loads the page as a proxy serves it.
func TestBelowAPath(t *testing.T) {
	record := recordOf(1, 0, 3, 3, 3)
	s := newServer(t, statusOf(record), record)
	s.URL += "some/proxy/"
	b := open(t, s, screen{})
	b.untilText("link", "Live")
	b.untilText("counts", "3\ndesired")
}

func TestFollowsTheStream(t *testing.T) {
	first := recordOf(1, 15*time.Second, 3, 3, 3)
	s := newServer(t, statusOf(first), first)
	b := open(t, s, screen{})
	b.untilText("link", "Live")
	b.untilText("counts", "3\ndesired")

	next := recordOf(2, 0, 3, 8, 8)
	s.run(next, statusOf(next))
	b.until("document.getElementById('runs').firstChild.innerText.includes('3 → 8')")
	b.untilText("counts", "8\ndesired")
	b.untilText("explanation", "evaluated 8")
	b.untilText("counts-legend", "desired 8")
	if n := s.count("/api/v1/records"); n != 1 {
		t.Errorf("the records were asked for %d times, want once", n)
	}
}

func TestSaysThatItIsNotConnected(t *testing.T) {
	first := recordOf(1, 30*time.Second, 3, 3, 3)
	s := newServer(t, statusOf(first), first)
	b := open(t, s, screen{refusals: true})
	b.untilText("link", "Live")

	s.fail(http.StatusServiceUnavailable)
	b.untilText("link", "Not connected since")
	b.untilText("link", "the autoscaler is not ready; retrying")
	b.until("document.body.classList.contains('stale')")
	b.untilText("next-run", "–")

	missed := recordOf(2, 15*time.Second, 3, 9, 9)
	s.run(missed, statusOf(missed))
	s.fail(0)
	b.untilText("link", "Live")
	b.until("!document.body.classList.contains('stale')")
	b.untilText("runs", "3 → 9")
}

func TestAsksWithoutAStream(t *testing.T) {
	first := recordOf(1, 30*time.Second, 3, 3, 3)
	s := newServer(t, statusOf(first), first)
	s.refuseStreams()
	b := open(t, s, screen{refusals: true})
	b.untilText("link", "No stream (there are 32 already), asking every 15 s")
	b.untilText("counts", "3\ndesired")
	b.until("!document.body.classList.contains('stale')")
}

func TestAsksForAToken(t *testing.T) {
	first := recordOf(1, 15*time.Second, 3, 3, 3)
	s := newServer(t, statusOf(first), first)
	s.ask("secret-of-readers")
	b := open(t, s, screen{refusals: true})
	b.until("!document.getElementById('ask').hidden && document.getElementById('data').hidden")
	b.untilText("ask-why", "give a token that may read")
	enter := func(token string) {
		b.run("document.getElementById('bearer').value = " + quote(token) + "; document.getElementById('ask').requestSubmit()")
	}

	enter("two words")
	b.untilText("ask-why", "without spaces")
	enter("wrong")
	b.untilText("ask-why", "The token is not accepted")
	enter("secret-of-readers")
	b.untilText("link", "Live")
	b.untilText("counts", "3\ndesired")
	b.until("document.getElementById('ask').hidden")
	if kept := value[string](b, "JSON.stringify([Object.values(sessionStorage), localStorage.length, document.cookie, document.getElementById('bearer').value])"); kept != `[["secret-of-readers"],0,"",""]` {
		t.Errorf("kept is %s", kept)
	}

	// It is taken back while the page is open.
	s.ask("another")
	b.until("!document.getElementById('ask').hidden && document.body.classList.contains('stale')")

	b.do(func(ctx context.Context) error {
		_, err := chromedp.RunResponse(ctx, chromedp.Evaluate[chromedp.Void]("document.getElementById('forget').click()"))
		return err
	})
	b.until("sessionStorage.length === 0 && !document.getElementById('ask').hidden && document.getElementById('data').hidden")
	b.untilText("ask-why", "give a token that may read")
}

func TestHostileWordsStayWords(t *testing.T) {
	evil := "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\u202egnp.exe\x00\x1b[31m\u0085" +
		strings.Repeat("W", 300) + strings.Repeat("e\u0301\u0301\u0301", 20)
	record := recordOf(1, 0, 3, 3, 3).with("explanation", evil).with("deferred", evil)
	record["metrics"] = []object{{"resource": evil, "value": evil}}
	record["failure"] = object{"stage": evil, "subject": evil, "kind": evil, "message": evil, "stderr": strings.Repeat(evil, 20)[:8192]}
	record["skippedPods"] = []object{{"name": evil, "error": evil, "stderr": evil}}
	record["trigger"] = object{"kind": evil, "runType": evil, "through": "scale", "reason": evil}
	record["durationSeconds"] = object{evil: 1, "__proto__": 1, "metric": 0.5}
	record["decision"].(object)["constraints"] = []object{{"name": evil, "from": 1, "to": 2, "detail": evil}}
	status := statusOf(record)
	status["id"], status["version"] = evil, evil
	status["target"] = object{"kind": evil, "namespace": evil, "name": evil}
	status["bounds"] = object{"min": object{"replicas": 1, "source": evil}, "max": object{"replicas": 2, "source": evil}, "conflict": evil}
	status["pause"], status["leader"] = object{"reason": evil}, object{"leading": false, "identity": evil}
	status["hold"], status["override"] = object{"replicas": 1, "reason": evil}, object{"reason": evil}
	status["git"] = object{"repository": evil, "branch": evil, "file": evil, "lastCommit": evil, "lastError": evil, "diff": evil, "pending": object{"reason": evil}}
	status["git"].(object)["mode"], status["git"].(object)["arriving"] = evil, object{"since": evil}
	status["config"] = object{"live": list{evil, evil}, "needsRestart": list{evil}, "fileError": evil}
	for _, width := range []int64{1280, 360} {
		t.Run(strconv.FormatInt(width, 10), func(t *testing.T) {
			b := open(t, newServer(t, status, record), screen{width: width})
			b.untilText("link", "Live")
			b.until("document.querySelector('#runs .toggle')")
			b.run("document.querySelector('#runs .toggle').click()")
			b.until("document.querySelector('#runs .details pre')")
			got := value[object](b, `{
				scripts: document.scripts.length,
				images: document.images.length,
				handlers: document.querySelectorAll('[onerror],[onclick],[style*=url]').length,
				owned: document.title === 'owned',
				shown: document.querySelector('#runs pre').textContent.startsWith('<script>document.title='),
				turned: /[\0\x1b\u0085\u202a-\u202e\u2066-\u2069]/.test(document.body.textContent),
				tooWide: document.documentElement.scrollWidth > innerWidth,
			}`)
			want := object{"scripts": 1., "images": 0., "handlers": 0., "owned": false, "shown": true, "turned": false, "tooWide": false}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the page differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFailingHooks(t *testing.T) {
	failed := recordOf(2, 0, 3, 3, 3).with("evaluation", nil)
	failed["decision"] = object{"current": 3, "desired": 3, "direction": "none"}
	failed["explanation"] = "not evaluated, held at 3"
	failed["failure"] = object{"stage": "metric", "subject": "web-x2", "kind": "exit", "message": "exit status 3", "stderr": "Traceback\n  refused"}
	before := failed.with("sequence", 1).with("time", began.Add(-time.Minute).Format(time.RFC3339Nano)).
		with("failure", object{"stage": "metric", "kind": "exit", "message": "exit status 4"})
	b := open(t, newServer(t, statusOf(failed).with("failures", 2), before, failed), screen{})
	b.untilText("link", "Live")
	b.untilText("notices", "The last run failed in metric: web-x2: exit status 3")
	b.until("document.querySelectorAll('#counts-chart path.failed').length === 2")
	b.run("document.querySelectorAll('#runs .toggle').forEach((toggle) => toggle.click())")
	b.untilText("runs", "Traceback\n  refused")
	b.untilText("runs", "shown only with credentials")
	if path := value[string](b, "document.querySelector('#counts-chart path.evaluated').getAttribute('d')"); path != "" {
		t.Errorf("the line of what was evaluated is %q, want none", path)
	}
}

func TestDark(t *testing.T) {
	record := recordOf(1, 0, 3, 3, 3)
	ground := func(dark bool) string {
		b := open(t, newServer(t, statusOf(record), record), screen{dark: dark})
		b.untilText("link", "Live")
		return value[string](b, "getComputedStyle(document.body).backgroundColor")
	}
	if light, dark := ground(false), ground(true); light != "rgb(245, 246, 248)" || dark != "rgb(15, 19, 25)" {
		t.Errorf("the background is %s, and %s in the dark", light, dark)
	}
}

func TestFitsAPhone(t *testing.T) {
	record := recordOf(1, 0, 2147483647, 2147483647, 2147483647).with("bounds", boundsOf(0, 2147483647)).
		with("explanation", strings.Repeat("evaluated 14, capped to 10 ", 22))
	b := open(t, newServer(t, statusOf(record), record), screen{width: 360})
	b.untilText("link", "Live")
	b.until("document.querySelector('#runs .toggle')")
	b.run("document.querySelector('#runs .toggle').click()")
	b.until("document.querySelector('#runs .stages')")
	if width := value[int](b, "document.documentElement.scrollWidth"); width > 360 {
		t.Errorf("the page is %d pixels wide", width)
	}
	boxes := value[[]string](b, "[...document.querySelectorAll('#runs *, #words, #words *')].filter((e) => e.scrollHeight > e.clientHeight + 1 && getComputedStyle(e).overflowY === 'auto').map((e) => e.className)")
	if len(boxes) > 0 {
		t.Errorf("there are boxes to be scrolled within the page: %q", boxes)
	}
}

func TestNothingYet(t *testing.T) {
	b := open(t, newServer(t, statusOf(nil)), screen{})
	b.untilText("link", "Live")
	b.untilText("explanation", "Nothing has been decided yet.")
	b.untilText("when", "No runs yet.")
	b.untilText("no-runs", "No runs yet.")
	b.untilText("last-run", "none yet")
}

func TestManyRuns(t *testing.T) {
	var records []object
	for i := range 1000 {
		records = append(records, recordOf(i+1, time.Duration(1000-i)*15*time.Second, i%7, i%9, i%7))
	}
	s := newServer(t, statusOf(records[999]), records...)
	b := open(t, s, screen{})
	b.untilText("link", "Live")
	if rows := value[int](b, "document.querySelectorAll('#runs > tr').length"); rows != 2*50 {
		t.Errorf("there are %d rows, want two for each of 50 runs", rows)
	}
	b.run("document.querySelector('[name=range][value=\"0\"]').click()")
	if path := value[string](b, "document.querySelector('#counts-chart path.desired').getAttribute('d')"); strings.Count(path, "H") != 1000 {
		t.Errorf("the line has %d steps, want 1000", strings.Count(path, "H"))
	}
	next := recordOf(1001, 0, 3, 8, 8)
	s.run(next, statusOf(next))
	b.untilText("runs", "3 → 8")
	if path := value[string](b, "document.querySelector('#counts-chart path.desired').getAttribute('d')"); strings.Count(path, "H") != 1000 {
		t.Errorf("the line has %d steps after one more, want 1000", strings.Count(path, "H"))
	}
	b.run("document.getElementById('more').click()")
	b.until("document.querySelectorAll('#runs > tr').length === 2 * 150")
}

func TestCrosshairByKeyboard(t *testing.T) {
	records := []object{recordOf(1, time.Minute, 3, 4, 4), recordOf(2, 30*time.Second, 4, 5, 5), recordOf(3, 0, 5, 6, 6)}
	b := open(t, newServer(t, statusOf(records[2]), records...), screen{})
	b.until("document.getElementById('counts-chart')")
	b.run("document.getElementById('timeline').focus()")
	b.key(kb.ArrowLeft)
	b.key(kb.ArrowLeft)
	b.untilText("counts-legend", "desired 5")
	b.until("document.getElementById('pointed').textContent.includes('desired 5, current 4, evaluated 5, bounds 1 to 10')")
	b.until("document.querySelectorAll('.cross line').length === 2 && document.querySelectorAll('#counts-chart .dot').length === 3")
	b.key(kb.Escape)
	b.untilText("when", "Latest")
	b.until("document.querySelectorAll('.cross line').length === 0")
}

func TestRestsWhileNotInView(t *testing.T) {
	record := recordOf(1, 30*time.Second, 3, 3, 3)
	s := newServer(t, statusOf(record), record)
	b := open(t, s, screen{})
	b.untilText("link", "Live")
	look := func(state string) {
		b.run("Object.defineProperty(document, 'visibilityState', {value: " + quote(state) + ", configurable: true}); document.dispatchEvent(new Event('visibilitychange'))")
	}
	look("hidden")
	b.untilText("link", "Paused while not in view")
	meanwhile := recordOf(2, 0, 3, 7, 7)
	s.run(meanwhile, statusOf(meanwhile))
	look("visible")
	b.untilText("link", "Live")
	b.untilText("runs", "3 → 7")
}
