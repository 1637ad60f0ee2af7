// Copyright The Custom Pod Autoscaler Authors.
// SPDX-License-Identifier: Apache-2.0

package page_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"go.uber.org/goleak"
)

// patience is how long a test waits for what must happen.
const patience = 60 * time.Second

func TestMain(m *testing.M) { goleak.VerifyTestMain(withBrowser{m}) }

// withBrowser closes the browser after the tests, before leaks are looked for.
type withBrowser struct{ *testing.M }

func (m withBrowser) Run() int {
	defer func() {
		if stopBrowser != nil {
			stopBrowser()
		}
	}()
	return m.M.Run()
}

// browser is started by the first test that needs it. It may run as root.
var browser = sync.OnceValues(func() (context.Context, error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox, chromedp.WSURLReadTimeout(patience))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	stopBrowser = func() {
		cancel()
		stop()
	}
	return ctx, chromedp.Do(ctx)
})

var stopBrowser func()

// tab is a tab that shows the page of a server.
type tab struct {
	testing.TB
	ctx context.Context

	mu sync.Mutex
	// faults are what the browser complains about: errors of the script, what
	// it was told by the console, and what the policy of the page forbids.
	faults []string
	// asked are the requests.
	asked []string
}

// screen is what a tab is like. Refusals says that requests will fail, of which
// a browser tells by itself.
type screen struct {
	width    int64
	dark     bool
	refusals bool
}

// open opens the page of a server in a tab. At the end of the test nothing may
// have gone wrong, and nobody else may have been asked for anything.
func open(t testing.TB, s *server, like screen) *tab {
	t.Helper()
	parent, err := browser()
	if err != nil {
		t.Fatalf("starting a browser: %v; install the Debian package chromium (.ci/install chromium does) or what brings it elsewhere", err)
	}
	ctx, cancel := chromedp.NewContext(parent)
	t.Cleanup(cancel)
	b := &tab{TB: t, ctx: ctx}
	// This makes the tab, which would not outlive a context with a deadline.
	if err := chromedp.Listen(ctx, func(event any) { b.hear(event, like.refusals) }); err != nil {
		t.Fatal(err)
	}
	b.do(func(ctx context.Context) error {
		if _, err := chromedp.Call(ctx, log.Enable, struct{}{}); err != nil {
			return err
		}
		if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
			return err
		}
		scheme := "light"
		if like.dark {
			scheme = "dark"
		}
		media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
		if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, media); err != nil {
			return err
		}
		if _, err := chromedp.Call(ctx, emulation.SetTimezoneOverride, emulation.SetTimezoneOverrideParams{TimezoneID: "Europe/Berlin"}); err != nil {
			return err
		}
		if _, err := chromedp.Call(ctx, emulation.SetLocaleOverride, emulation.SetLocaleOverrideParams{Locale: "en-GB"}); err != nil {
			return err
		}
		width := like.width
		if width == 0 {
			width = 1280
		}
		return chromedp.Do(ctx, chromedp.EmulateViewport(width, 900), chromedp.Navigate(s.URL))
	})
	t.Cleanup(func() { b.check(s) })
	return b
}

func (b *tab) hear(event any, refusals bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.faults = append(b.faults, fmt.Sprintf("exception: %+v", e.ExceptionDetails))
	case *runtime.EventConsoleAPICalled:
		b.faults = append(b.faults, fmt.Sprintf("console: %+v", e.Args))
	case *log.EventEntryAdded:
		if e.Entry.Source != "network" || !refusals {
			b.faults = append(b.faults, fmt.Sprintf("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL))
		}
	case *network.EventRequestWillBeSent:
		b.asked = append(b.asked, e.Request.Method+" "+e.Request.URL)
	}
}

func (b *tab) check(s *server) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, fault := range b.faults {
		b.Errorf("the browser complains: %s", fault)
	}
	for _, asked := range b.asked {
		if !strings.HasPrefix(asked, "GET "+s.URL) && !strings.HasPrefix(asked, "GET data:image/svg") {
			b.Errorf("the page asks %s", asked)
		}
	}
	if len(b.asked) == 0 {
		b.Error("the page asks for nothing")
	}
}

// do does something within patience.
func (b *tab) do(what func(context.Context) error) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := what(ctx); err != nil {
		b.Fatal(err)
	}
}

// run runs a statement.
func (b *tab) run(script string) {
	b.Helper()
	b.do(func(ctx context.Context) error { return chromedp.Do(ctx, chromedp.Evaluate[chromedp.Void](script)) })
}

// value is what an expression is, or what it promises.
func value[T any](b *tab, expression string) T {
	b.Helper()
	var result T
	b.do(func(ctx context.Context) error {
		text, err := chromedp.Run(ctx, chromedp.Evaluate[string](
			"Promise.resolve("+expression+").then((result) => JSON.stringify(result))", chromedp.EvalAwaitPromise))
		if err != nil {
			return fmt.Errorf("%s: %w", expression, err)
		}
		return json.Unmarshal([]byte(text), &result)
	})
	return result
}

// until waits for a condition, and fails the test with what is shown if it
// never holds.
func (b *tab) until(condition string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	poll := chromedp.Poll[bool]("Boolean("+condition+")", chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(patience))
	if _, err := chromedp.Run(ctx, poll); err != nil {
		b.Fatalf("waiting for %s: %v; shown is:\n%s", condition, err, value[string](b, "document.body.innerText"))
	}
}

// untilText waits until the element of an ID says something.
func (b *tab) untilText(id, text string) {
	b.Helper()
	b.until(fmt.Sprintf("document.getElementById(%q).innerText.includes(%s)", id, quote(text)))
}

func (b *tab) text(id string) string {
	b.Helper()
	return value[string](b, fmt.Sprintf("document.getElementById(%q).innerText", id))
}

// key presses a key where the focus is.
func (b *tab) key(name string) {
	b.Helper()
	b.do(func(ctx context.Context) error { return chromedp.Do(ctx, chromedp.KeyEvent(name)) })
}

// module is a module of the page, to be used in an expression.
func module(name, function string, arguments ...any) string {
	quoted := make([]string, len(arguments))
	for i, argument := range arguments {
		quoted[i] = quote(argument)
	}
	return fmt.Sprintf("import('/page/%s.js').then((m) => m.%s(%s))", url.PathEscape(name), function, strings.Join(quoted, ", "))
}

// quote is a value as JavaScript, which JSON is.
func quote(v any) string {
	encoded, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(encoded)
}
