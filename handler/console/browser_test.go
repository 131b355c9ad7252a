package console_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"ticketbridge/handler/console"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

var shots = flag.String("shots", "", "a folder to write screenshots to")

// browser starts a headless Chromium. It is wanted: a test that passes without one would say nothing.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{
		"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless-shell", "chrome",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome", "/Applications/Chromium.app/Contents/MacOS/Chromium",
	} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Fatal("neither Chromium nor Google Chrome is here; .ci/chromium installs it or says how")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.DisableGPU)
	if os.Geteuid() == 0 { // whom Chromium's sandbox refuses
		options = append(options, chromedp.NoSandbox)
	}
	alloc, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 10*time.Minute) // a machine that is busy with other tests takes its time
	t.Cleanup(cancel)
	return ctx
}

// page is what a script found on a page.
type page struct {
	Title, Text string
	Overflow    int      // pixels that it is wider than the window
	Unreadable  []string // text whose contrast is below 4.5 : 1 (WCAG 2.2, 1.4.3)
	Spilled     []string // what is wider than the box that it is in
	Unnamed     []string // links, buttons and fields that a screen reader cannot name
	Headings    int      // of the first level
	Scripts     int
	Styled      bool
}

// look finds out. Backgrounds are those of the nearest ancestor that has one.
const look = `(() => {
  const rgb = c => { const m = c.match(/[\d.]+/g).map(Number); return c.startsWith('color(srgb') ? [m[0]*255, m[1]*255, m[2]*255, m[3] ?? 1] : [m[0], m[1], m[2], m[3] ?? 1] };
  const light = ([r, g, b]) => { const f = v => { v /= 255; return v <= .04045 ? v/12.92 : ((v+.055)/1.055)**2.4 }; return .2126*f(r) + .7152*f(g) + .0722*f(b) };
  const ground = e => { const over = []; for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c[3] > 0) { over.push(c); if (c[3] === 1) break } }
    let out = [255, 255, 255]; for (const c of over.reverse()) out = out.map((v, i) => v*(1-c[3]) + c[i]*c[3]); return out };
  document.querySelectorAll('details').forEach(d => d.open = true);
  const unreadable = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n; n = walk.nextNode();) {
    if (!n.data.trim()) continue;
    const e = n.parentElement, s = getComputedStyle(e);
    if (s.clipPath !== 'none' || e.closest('.skip, option')) continue;
    const a = light(rgb(s.color)), b = light(ground(e)), ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) unreadable.push(n.data.trim().slice(0, 40) + ' ' + ratio.toFixed(2) + ' ' + s.color);
  }
  const spilled = [...document.querySelectorAll('main *, header *, footer *')].filter(e => e instanceof HTMLElement && e.clientWidth > 1 &&
    e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === 'visible').map(e => e.outerHTML.slice(0, 80));
  const unnamed = [...document.querySelectorAll('a, button, input:not([type=hidden]), select, summary')].filter(e =>
    !(e.textContent.trim() && !e.matches('select')) && !(e.labels && [...e.labels].some(l => [...l.childNodes].some(n => n !== e && n.textContent.trim())))).map(e => e.outerHTML.slice(0, 80));
  return { Title: document.title, Text: document.body.innerText, Overflow: document.documentElement.scrollWidth - innerWidth, Unreadable: unreadable, Spilled: spilled, Unnamed: unnamed,
    Headings: document.querySelectorAll('h1').length, Scripts: document.scripts.length,
    Styled: getComputedStyle(document.querySelector('.top')).backgroundColor !== 'rgba(0, 0, 0, 0)' };
})()`

func TestEachPageCanBeReadInABrowser(t *testing.T) {
	ctx := browser(t)
	serve := func(h http.Handler) string {
		srv := httptest.NewServer(h)
		t.Cleanup(srv.Close)
		return srv.URL + console.BasePath
	}
	morning := serve(open(t, aMorning(t, time.Now())))
	stages := aMorning(t, time.Now())
	stages.all[1].Key.Request = stages.all[0].Key.Request
	pages := []struct {
		name, url string
		want      []string
	}{
		{"list", morning, []string{"Needs you", "Oldest", "13 d", "Payroll clerk", "for Noor Example", "closed_duplicate", "What to do: Look at the ticket", "REQ0010012", "Ended today", "Graph took the answer: deny"}},
		{"search", morning + "?q=payroll+REQ0010014&state=open", []string{"Payroll clerk", "Clear"}},
		{"nothing", morning + "?q=zzz", []string{"Nothing that waits matches."}},
		{"held", morning + at(30), []string{"Treasury payments", "Held", "What to do:", "REQ0010020", "Unclear", "Launch and wait", key(30).Request, "The callout as it came", "For what do you need it?", `"TextString"`}},
		{"trying", morning + at(2), []string{"Opening ticket", "Tried 3 times", "hibernating"}},
		{"ending", morning + at(50), []string{"Resumed", "Graph took the answer: resume", "About to tell Graph"}},
		{"ended", morning + "/ended", []string{"Ended today", "Resumed", "Denied", "Expired", "Withdrawn", "Done"}},
		{"no-day", morning + "/ended?day=2026-01-01", []string{"Nothing ended on this day."}},
		{"missing", morning + "/nothing", []string{"There is no such page"}},
		{"empty", serve(open(t, &store{})), []string{"Nothing is waiting.", "Nothing has ended yet today."}},
		{"pages", serve(open(t, many(101, func(int, *correlation.Correlation) {}))), []string{"1 to 100 of 101", "More"}},
		{"stages", serve(open(t, stages)) + "/requests/" + stages.all[0].Key.Request, []string{"Its stages 2"}},
		{"hostile-list", serve(open(t, anAttack())), []string{"<script>alert(1)</script>"}},
		{"hostile", serve(open(t, anAttack())) + at(2), []string{"<script>alert(1)</script>"}},
		{"down", serve(open(t, &store{down: map[string]error{"Open": &fault.Error{Reason: fault.Unreachable, Advice: "See whether the storage account is there."}}})), []string{"The storage cannot be read", "What to do:"}},
		{"sign-in", serve(made(t, console.Config{Store: &store{}, Auth: console.AuthEasyAuth, WebsiteAuthEnabled: "True"})), []string{"Please sign in"}},
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, width := range []int64{1280, 375} {
			media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}
			set := chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
				_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, media)
				return err
			})
			if err := chromedp.Do(ctx, set, chromedp.EmulateViewport(width, 900)); err != nil {
				t.Fatal(err)
			}
			for _, p := range pages {
				name := fmt.Sprintf("%s-%s-%d", p.name, scheme, width)
				if err := chromedp.Do(ctx, chromedp.Navigate(p.url)); err != nil {
					t.Fatal(name, err)
				}
				got, err := chromedp.Run(ctx, chromedp.Evaluate[page](look))
				if err != nil {
					t.Fatal(name, err)
				}
				for _, want := range p.want {
					if !strings.Contains(strings.ReplaceAll(got.Text, "\u00a0", " "), want) {
						t.Errorf("%s does not say %q:\n%s", name, want, got.Text)
					}
				}
				if got.Overflow > 0 || got.Headings != 1 || got.Scripts != 0 || !got.Styled || !strings.HasSuffix(got.Title, " · ticketbridge") {
					t.Errorf("%s: %d pixels too wide, %d first headings, %d scripts, styled %v, title %q", name, got.Overflow, got.Headings, got.Scripts, got.Styled, got.Title)
				}
				for _, text := range slices.Concat(got.Unreadable, got.Spilled, got.Unnamed) {
					t.Errorf("%s: cannot be read, does not fit, or has no name: %s", name, text)
				}
				if *shots != "" {
					png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(*shots, name+".png"), png, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	// The keyboard reaches what the page offers, first of all its content.
	if err := chromedp.Do(ctx, chromedp.Navigate(morning), chromedp.KeyEvent("\t")); err != nil {
		t.Fatal(err)
	}
	if first, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.activeElement.textContent`)); err != nil || first != "Skip to the content" {
		t.Errorf("the first stop is %q, %v", first, err)
	}
}
