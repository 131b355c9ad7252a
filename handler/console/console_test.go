package console_test

import (
	"context"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/console"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

// open makes a console that lets in whoever is at this machine.
func open(t testing.TB, r console.Reader) http.Handler {
	t.Helper()
	return made(t, console.Config{Store: r, Auth: console.AuthNone})
}

func made(t testing.TB, c console.Config) http.Handler {
	t.Helper()
	h, err := console.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// An answer is what a console said.
type answer struct {
	*httptest.ResponseRecorder
	raw, text string // the page, and what people read of it
}

var (
	head = regexp.MustCompile(`(?s)<head>.*</head>`)
	tags = regexp.MustCompile(`<[^>]*>`)
	// packages finds the lines of the lists in their order.
	packages = regexp.MustCompile(`class="main" href="[^"]*"><bdi>([^<]*)</bdi>`)
	hrefs    = regexp.MustCompile(`(?:href|action|src)="([^"]*)"`)
)

func ask(t testing.TB, h http.Handler, method, target string, header ...string) answer {
	t.Helper()
	r := httptest.NewRequest(method, target, http.NoBody)
	r.Host = "localhost:7071"
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		} else {
			r.Header.Add(header[i], header[i+1])
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	text := html.UnescapeString(tags.ReplaceAllString(head.ReplaceAllString(w.Body.String(), ""), " "))
	text = strings.Join(strings.Fields(text), " ") // which takes no-break spaces for spaces
	return answer{w, w.Body.String(), strings.NewReplacer(" ,", ",", " .", ".").Replace(text)}
}

func get(t testing.TB, h http.Handler, path string, header ...string) answer {
	t.Helper()
	return ask(t, h, http.MethodGet, console.BasePath+path, header...)
}

func (a answer) want(t testing.TB, name string, status int, texts ...string) {
	t.Helper()
	if a.Code != status {
		t.Errorf("%s: status %d, want %d: %s", name, a.Code, status, a.text)
	}
	for _, text := range texts {
		if !strings.Contains(a.text, text) {
			t.Errorf("%s does not say %q: %s", name, text, a.text)
		}
	}
}

// lines returns the packages in the lists of a page.
func (a answer) lines() (out []string) {
	for _, m := range packages.FindAllStringSubmatch(a.raw, -1) {
		out = append(out, html.UnescapeString(m[1]))
	}
	return out
}

func at(n int) string { return "/requests/" + key(n).Request + "/" + key(n).Stage }

// noon is a time of which the tests know what day it is.
var noon = time.Date(2026, time.November, 25, 12, 0, 0, 0, time.UTC)

// atNoon runs a test at that time.
func atNoon(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(noon)) // of the bubble's time
		test(t)
	})
}

// readers are a morning's requests in the stand-in and in the storage that runs in this process.
func readers(t testing.TB) map[string]console.Reader {
	t.Helper()
	return map[string]console.Reader{"stand-in": aMorning(t, time.Now()), "embedded storage": aMorning(t, time.Now()).embedded(t)}
}

func TestEachPageSaysWhatIsOnRecord(t *testing.T) {
	atNoon(t, func(t *testing.T) {
		for kind, r := range readers(t) {
			h := open(t, r)
			for _, p := range []struct {
				name, path string
				status     int
				want       []string
			}{
				{"list", "", 200, []string{
					"Needs you 2", "Waiting 9", "1 Held", "1 Failed", "4 Ticket open", "1 being tried again", "Oldest 13 d 4 h Payroll clerk, for Noor Example",
					"Next deadline in 20 h Payroll clerk", "Going on by themselves 7", "Ended today 5",
					"Held REQ0010020 closed as request_state=closed_duplicate, which nobody mapped What to do: Look at the ticket, then resume or deny the request.",
					"Treasury payments for Charlie Example Finance Request approved asked for by the user REQ0010020 2 d like this for 1 h in 12 d 7 Dec, 12:00",
					"Opening ticket Tried 3 times, and will be again: the other side is not there for now Create ticket: unreachable, status 503: the instance is hibernating",
					"Contractor badge for Alex Example Facilities Expires in 14 days changed by a rule REQ0010031 5 h none",
					"Resumed Graph took the answer: resume Package 1 for Sam Example Catalog Request approved asked for by the user REQ0010050 12:00:00 0 s ago 20 min",
					"All times are UTC. This page was made at 12:00:00", "On this machine, no sign-in",
				}},
				{"list with a slash", "/", 200, []string{"Needs you 2"}},
				{"ended", "/ended", 200, []string{"Ended today", "1 Resumed", "1 Denied", "1 Done", "1 Expired", "1 Withdrawn", "Package 5", "24 min"}},
				{"ended on that day", "/ended?day=2026-11-25", 200, []string{"Ended today", "1 Resumed"}},
				{"ended on another day", "/ended?day=2026-11-24", 200, []string{"Ended on Tuesday, 24 November 2026", "Nothing ended on this day.", "25 Nov →"}},
				{"a day to come", "/ended?day=2026-12-24", 200, []string{"This day is still to come."}},
				{"no day", "/ended?day=yesterday", 400, []string{"This is not a day"}},
				{"held", at(30), 200, []string{
					"← Waiting Treasury payments for Charlie Example · Request approved Held for 1 h deadline in 12 d", "It waits for a person to decide how it goes on.",
					"What to do: Look at the ticket", "Tickets 1", "REQ0010020 sc_request Unclear request_state=closed_duplicate request", "Timeline 6",
					"Monday, 23 November 2026 12:00:00 Received Callout received: assignmentRequestApproved, userAdd; the request waits for a resume invocation acd6b61f",
					"Wednesday, 25 November 2026 10:59:00 1 d 22 h later Seen ServiceNow says that REQ0010020 closed",
					"Answers For what do you need it? The quarter's closing, with Robin Until when? no answer", "For Charlie Example Asked for by Morgan Example",
					"Policy Everybody, with approval", "Came 23 Nov 2026, 12:00 2 d ago Deadline 7 Dec 2026, 12:00 in 12 d", "Kind Launch and wait",
					"Rule built-in a ticket that is not done denies the request", "Request id " + key(30).Request, "Stage instance id " + key(30).Stage,
					`The callout as it came { "AccessPackage": {`,
				}},
				{"tried again", at(2), 200, []string{"Opening ticket for 2 min deadline in 13 d 23 h Tried 3 times, and will be again", "Attempt the other side is not there for now Attempt 1 did not work: create ticket: unreachable", "No ticket is planned yet."}},
				{"failed", at(31), 200, []string{"Failed for 1 d 5 h", "It cannot go on by itself until somebody mends what is wrong.", "it was turned down", "What to do: Give the rule an assignment_group, then retry."}},
				{"continues", at(20), 200, []string{"Kind Launch and continue nothing waits for the answer"}},
				{"resumed", at(50), 200, []string{"← Ended on 2026-11-25", "Resumed 0 s ago, after 20 min Graph took the answer: resume Entra was told to go on with the request, and took it."}},
				{"upper-case ids", strings.ToUpper(at(50)[len("/requests"):]), 404, nil},
				{"upper-case ids", "/requests" + strings.ToUpper(at(50)[len("/requests"):]), 200, []string{"Resumed 0 s ago"}},
			} {
				a := get(t, h, p.path)
				a.want(t, kind+", "+p.name, p.status, p.want...)
				if !strings.HasPrefix(a.raw, "<!DOCTYPE html>") || a.Header().Get("Content-Type") != "text/html; charset=utf-8" {
					t.Errorf("%s, %s is no page", kind, p.name)
				}
			}
		}
	})
}

func TestWhatNeedsAPersonComesFirstAndThenTheNearestDeadline(t *testing.T) {
	atNoon(t, func(t *testing.T) {
		want := []string{
			"Treasury payments", "Research cluster", // held, failed
			"Payroll clerk", "Data centre access, building 7", "Warehouse scanner", "SAP Finance reader", "Customer records", "Engineering laptops",
			"Contractor badge", // no deadline
			"Package 1", "Package 2", "Package 3", "Package 4", "Package 5",
		}
		for kind, r := range readers(t) {
			if got := get(t, open(t, r), "").lines(); !slices.Equal(got, want) {
				t.Errorf("%s: %q", kind, got)
			}
		}
		// The nearest deadline, whichever came first.
		s := &store{}
		for i, left := range []time.Duration{72 * time.Hour, -time.Hour, 24 * time.Hour} {
			s.put(i, time.Now().Add(-time.Duration(i)*time.Hour), func(c *correlation.Correlation) {
				c.PackageName, c.Deadline = "in "+left.String(), time.Now().Add(left)
			})
		}
		if got, want := get(t, open(t, s), "").lines(), []string{"in -1h0m0s", "in 24h0m0s", "in 72h0m0s"}; !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		// Without deadlines, the longest waiting; what has ended and is still to be told comes last, however old.
		s = &store{}
		for i, age := range []time.Duration{3 * time.Hour, 50 * time.Hour, 90 * time.Hour, time.Minute} {
			s.put(i, time.Now().Add(-age), func(c *correlation.Correlation) {
				c.PackageName, c.Deadline = "after "+age.String(), time.Time{}
				if age > 80*time.Hour {
					must(c.Move(correlation.Opening, c.Created, "a ticket is to be opened", ""))
					must(c.Move(correlation.Open, c.Created, "opened", ""))
					s.ticket(c, 1, correlation.Pending, "request_state=requested")
					must(c.Move(correlation.Expired, time.Now(), "the deadline passed", ""))
				}
			})
		}
		a := get(t, open(t, s), "")
		a.want(t, "list", 200, "Expired The deadline passed Its open tickets are still to be told so.", "took 3 d 18 h")
		if got, want := a.lines(), []string{"after 50h0m0s", "after 3h0m0s", "after 1m0s", "after 90h0m0s"}; !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	})
}

// many puts n requests into a store, each of which came later than the one before.
func many(n int, build func(i int, c *correlation.Correlation)) *store {
	s := &store{}
	for i := range n {
		s.put(i, time.Now().Add(time.Duration(i-n)*time.Minute), func(c *correlation.Correlation) {
			c.PackageName = fmt.Sprintf("P%04d", i)
			build(i, c)
		})
	}
	return s
}

func TestEachRequestIsOnOnePageOfTheList(t *testing.T) {
	atNoon(t, func(t *testing.T) {
		const n = 250
		var oldest []string
		for i := range n {
			oldest = append(oldest, fmt.Sprintf("P%04d", i))
		}
		newest := slices.Clone(oldest)
		slices.Reverse(newest)
		waiting := open(t, many(n, func(i int, c *correlation.Correlation) {
			if i == n-1 { // the last by its key, and the first to need a person
				must(c.Fail(time.Now(), "it failed", "mend it", fault.Refused, ""))
			}
		}))
		ended := open(t, many(n, func(_ int, c *correlation.Correlation) {
			must(c.Move(correlation.Withdrawn, c.Created, "gone", ""))
		}))
		day := "/ended?day=2026-11-25&page=%s"
		for _, list := range []struct {
			name string
			h    http.Handler
			path string
			want []string
		}{
			{"waiting", waiting, "?page=%s", append([]string{"P0249"}, oldest[:n-1]...)},
			{"those of one package name", waiting, "?q=p0&state=received&page=%s", oldest[:n-1]},
			{"ended", ended, day, newest},
		} {
			total := len(list.want)
			for page, want := range map[string][]string{
				"1": list.want[:100], "2": list.want[100:200], "3": list.want[200:], "4": list.want[200:], "999999999": list.want[200:],
				"0": list.want[:100], "-1": list.want[:100], "x": list.want[:100], "9999999999999999999999": list.want[200:],
			} {
				a := get(t, list.h, fmt.Sprintf(list.path, page))
				if got := a.lines(); !slices.Equal(got, want) {
					t.Errorf("%s, page %s: %d lines, from %q to %q", list.name, page, len(got), got[0], got[len(got)-1])
				}
				from := slices.Index(list.want, want[0])
				a.want(t, list.name+", page "+page, 200, fmt.Sprintf("%d to %d of %d", from+1, from+len(want), total))
				if got, want := strings.Contains(a.raw, `rel="next"`), from+len(want) < total; got != want {
					t.Errorf("%s, page %s: a next page %v", list.name, page, got)
				}
				if got, want := strings.Contains(a.raw, `rel="prev"><span aria-hidden="true">←</span> Before`), from > 0; got != want {
					t.Errorf("%s, page %s: a page before %v", list.name, page, got)
				}
			}
		}
		get(t, waiting, "").want(t, "waiting", 200, "Needs you 1", "Waiting 250", "Going on by themselves 249")
		get(t, ended, "").want(t, "waiting", 200, "Nothing is waiting.", "nothing that was remembered is unfinished", "Ended today 250", "All 250 that ended today")
		if got := get(t, ended, "").lines(); !slices.Equal(got, newest[:10]) {
			t.Errorf("the last that ended are %q", got)
		}
		get(t, ended, "/ended").want(t, "ended", 200, "250 Withdrawn") // and not 100
	})
}

func TestALongListIsCutAndSaysSo(t *testing.T) {
	atNoon(t, func(t *testing.T) {
		s := many(5001, func(i int, c *correlation.Correlation) {
			if i == 5000 {
				must(c.Fail(time.Now(), "it failed", "mend it", fault.Refused, ""))
			}
		})
		get(t, open(t, s), "").want(t, "waiting", 200, "More than 5000 requests are waiting; only the first 5000 by id are looked at here.", "Needs you 0 so far none of those that were looked at", "Waiting 5000+")
		if len(s.asked) != 8 {
			t.Errorf("it took %q", s.asked)
		}
		s = many(5001, func(_ int, c *correlation.Correlation) { must(c.Move(correlation.Withdrawn, time.Now(), "gone", "")) })
		get(t, open(t, s), "").want(t, "waiting", 200, "Ended today 5000+ They are on a page of their own.")
		get(t, open(t, s), "/ended").want(t, "ended", 200, "5000+ Withdrawn", "More than 5000 requests ended on this day")
	})
}

func TestAPageTakesFewReads(t *testing.T) {
	s := aMorning(t, time.Now())
	h := open(t, s)
	for path, want := range map[string][]string{
		"": {"Open", "Ended", "Mark", "Unreadable"}, "?q=payroll&state=open": {"Open", "Ended", "Mark", "Unreadable"}, "/ended": {"Ended"}, at(30): {"Stages", "Timeline", "Callout"},
		"/requests/" + key(30).Request: {"Stages"}, "/nothing": nil, "/requests/x": nil, "/requests/x/y": nil, "?q=" + key(50).Request: {"Open", "Ended", "Mark", "Unreadable", "Stages"},
	} {
		if s.asked = nil; get(t, h, path).Code >= 500 || !slices.Equal(s.asked, want) {
			t.Errorf("%q reads %q", path, s.asked)
		}
	}
}

func TestThatNoSweepRunsAndThatMessagesCannotBeReadIsSaidFirst(t *testing.T) {
	atNoon(t, func(t *testing.T) {
		ago := func(d time.Duration) workflow.Mark { return workflow.Mark{Begun: time.Now().Add(-d), Version: "1"} }
		for name, c := range map[string]struct {
			mark       workflow.Mark
			unreadable int
			open       bool
			says, not  string
		}{
			"swept":              {ago(2 * time.Minute), 0, true, "Waiting", "weep"},
			"not for long":       {ago(26 * time.Hour), 0, false, "No sweep has run for 1 d 2 h. Tickets that close", "ever run"},
			"never, some wait":   {workflow.Mark{}, 0, true, "No sweep has ever run.", "has run for"},
			"never, nobody does": {workflow.Mark{}, 0, false, "Waiting", "weep"},
			"one message":        {ago(0), 1, true, "1 message is kept that nobody can read: look at it with handler requests list --unreadable", "weep"},
			"two messages":       {ago(0), 2, true, "2 messages are kept", "weep"},
		} {
			s := &store{mark: c.mark, unreadable: make([]workflow.Unreadable, c.unreadable)}
			if c.open {
				s.all = append(s.all, correlation.New(key(1), time.Now().Add(-time.Hour), "callout received", ""))
			}
			a := get(t, open(t, s), "")
			a.want(t, name, 200, c.says)
			if strings.Contains(a.text, c.not) {
				t.Errorf("%s: the page says %q: %s", name, c.not, a.text)
			}
		}
	})
}

func TestAnEmptyStorageSaysThatNothingWaits(t *testing.T) {
	for kind, r := range map[string]console.Reader{"stand-in": &store{}, "embedded storage": (&store{}).embedded(t)} {
		h := open(t, r)
		a := get(t, h, "")
		a.want(t, kind, 200, "Nothing is waiting. Requests appear here as soon as Entra calls out for them.", "Needs you 0 nothing is held, nothing has failed", "Nothing has ended yet today. Look at yesterday.")
		if strings.Contains(a.text, "Oldest") || strings.Contains(a.text, "Next deadline") || strings.Contains(a.raw, "<svg class=\"bar\"") {
			t.Errorf("%s: of what is the oldest said? %s", kind, a.text)
		}
		get(t, h, "?q=payroll").want(t, kind, 200, "Nothing that waits matches.")
		get(t, h, "/ended").want(t, kind, 200, "Ended today", "Nothing has ended yet today.")
		get(t, h, at(1)).want(t, kind, 404, "There is no such page")
	}
}

func TestWhatIsMissingIsLeftOutOrSaidToBe(t *testing.T) {
	s := &store{}
	c := correlation.New(key(1), time.Now(), "callout received", "")
	s.all = append(s.all, c)
	h := open(t, s)
	get(t, h, "").want(t, "list", 200, "Request without a package No stage given none known")
	a := get(t, h, at(1))
	a.want(t, "detail", 200, "Request without a package No stage given", "No ticket is planned yet.", "Nothing is on record.", "The callout as it came It is not stored any more.")
	for _, word := range []string{"Answers", "Asked for by", "Deadline", "deadline", "Other stages", "Policy"} {
		if strings.Contains(a.text, word) {
			t.Errorf("of what is there a word of %q? %s", word, a.text)
		}
	}
	s.callouts = map[correlation.Key][]byte{c.Key: []byte(`{"Answers":"x","Requestor":{"DisplayName":"Morgan`)}
	get(t, h, at(1)).want(t, "a callout that is no JSON", 200, `{"Answers":"x","Requestor":{"DisplayName":"Morgan`)
	s.callouts[c.Key] = []byte("\xff\xfe{\x00")
	get(t, h, at(1)).want(t, "a callout that is no text", 200, "�")
	s.callouts[c.Key] = []byte("\xef\xbb\xbf" + `{"answers":"x","REQUESTOR":{"displayname":"Morgan Example"}}`)
	get(t, h, at(1)).want(t, "a callout with odd parts", 200, "Asked for by Morgan Example", "Parts of a shape that was not expected, taken as absent: Answers")
}

func TestARequestWithSeveralStagesListsThem(t *testing.T) {
	atNoon(t, func(t *testing.T) {
		s := &store{}
		for i, stage := range []string{"assignmentRequestGranted", "assignmentRequestApproved"} {
			c := s.put(10+i, time.Now().Add(time.Duration(-i)*time.Hour), func(c *correlation.Correlation) {
				c.Stage, c.PackageName = stage, "Payroll clerk"
				if i == 1 {
					must(c.Move(correlation.Withdrawn, time.Now(), "gone", ""))
				}
			})
			c.Key.Request = key(10).Request
			s.events[c.Key], s.callouts[c.Key] = c.Pending(), nil
		}
		a := get(t, open(t, s), "/requests/"+key(10).Request)
		a.want(t, "request", 200, "Request "+key(10).Request+" Its stages 2", "Withdrawn Gone Payroll clerk Request approved", "took 1 h", "Received Remembered.")
		if strings.Index(a.text, "Request approved") > strings.Index(a.text, "Access granted") {
			t.Errorf("what came first does not come first: %s", a.text)
		}
		get(t, open(t, s), at(10)).want(t, "one stage", 200, "Payroll clerk Access granted", "Other stages of this request Withdrawn Request approved came 25 Nov 2026, 11:00")

		a = get(t, open(t, aMorning(t, time.Now())), "/requests/"+key(30).Request)
		if a.Code != http.StatusSeeOther || a.Header().Get("Location") != console.BasePath+at(30) {
			t.Errorf("a request with one stage leads to %d %q", a.Code, a.Header().Get("Location"))
		}
	})
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	for kind, r := range readers(t) {
		h := open(t, r)
		for _, path := range []string{
			at(999), "/requests/" + key(999).Request, "/requests/" + key(30).Request + "/" + key(31).Stage, "/requests/" + key(30).Stage + "/" + key(30).Request,
			"/requests", "/requests/", "/requests/x", "/requests/x/y", at(30) + "/z", "/requests/" + key(30).Request + "/..", "/requests/7d1f0a526c1e4e0b9a3c000000000030",
			"/requests/{" + key(30).Request + "}", "/nothing", "/ended/2026-11-25", "/ended/x", "x", "-other", "/style-000000000000.css", "/pages/style.css", "/..", "/../callout", "/.auth/me",
			"/requests/%2e%2e/advance", "/requests/" + key(30).Request + "%27%20or%201%20eq%201/" + key(30).Stage, "/requests/%00/%ff",
		} {
			a := get(t, h, path)
			a.want(t, kind+", "+path, 404, "There is no such page", "All that waits")
		}
		for _, path := range []string{"/", "/api", "/api/other", "/ended", at(30), "/API/console"} {
			ask(t, h, http.MethodGet, path).want(t, kind+", elsewhere", 404, "There is no such page")
		}
	}
}

func TestAStorageThatDoesNotServeIsSaidSo(t *testing.T) {
	s := aMorning(t, time.Now())
	h := open(t, s)
	for method, paths := range map[string][]string{
		"Open": {"", "?q=payroll", "?refresh=10"}, "Ended": {"", "/ended", "/ended?day=2026-11-24"}, "Stages": {at(30), "/requests/" + key(30).Request, "?q=" + key(999).Request},
		"Timeline": {at(30)}, "Callout": {at(30)}, "Mark": {"", "?q=payroll", "?refresh=10"}, "Unreadable": {"", "?refresh=10"},
	} {
		for _, c := range []struct {
			err    error
			status int
			retry  string
			want   string
		}{
			{&fault.Error{Op: "read list", Reason: fault.Unreachable, Status: 500, Err: errors.New("dial tcp: secret.example: refused")}, 503, "5", "the other side is not there for now"},
			{&fault.Error{Op: "read list", Reason: fault.Throttled, After: 90 * time.Second}, 503, "90", "we were asked to slow down"},
			{fmt.Errorf("read: %w", &fault.Error{Op: "read list", Reason: fault.Unreachable, Err: context.DeadlineExceeded}), 503, "5", "the other side is not there for now"},
			{context.DeadlineExceeded, 503, "5", "Nothing can be shown"},
			{&fault.Error{Op: "read list", Reason: fault.Forbidden, Status: 403, Advice: "Give the app the role Storage Table Data Contributor."}, 500, "", "What to do: Give the app the role"},
			{&fault.Error{Op: "read list", Reason: fault.Internal}, 500, "", "a bug of ours"},
		} {
			s.down = map[string]error{method: c.err}
			for _, path := range paths {
				a := get(t, h, path)
				a.want(t, fmt.Sprintf("%s ends in %v, %q", method, c.err, path), c.status, "The storage cannot be read", "What was remembered stays remembered.", "Try again", c.want)
				if got := a.Header().Get("Retry-After"); got != c.retry {
					t.Errorf("%s ends in %v: Retry-After %q, want %q", method, c.err, got, c.retry)
				}
				for _, word := range []string{"Nothing is waiting", "Nothing ended", "There is no such", "Nothing that waits", "secret.example", "Payroll", "Treasury"} {
					if strings.Contains(a.text, word) {
						t.Errorf("%s ends in %v, and the page says %q: %s", method, c.err, word, a.text)
					}
				}
				if refreshes := strings.Contains(a.raw, `http-equiv="refresh" content="10"`); refreshes != strings.Contains(path, "refresh") {
					t.Errorf("%q refreshes %v: a page on a wall must come back by itself", path, refreshes)
				}
			}
		}
	}
	s.down = map[string]error{"Callout": &fault.Error{Op: "read callout", Reason: fault.NotFound}}
	get(t, h, at(30)).want(t, "no callout", 200, "It is not stored any more.")
}

// reach brings a correlation into a state by legal moves.
func reach(t testing.TB, c *correlation.Correlation, s correlation.State) {
	t.Helper()
	way := []correlation.State{correlation.Received, correlation.Opening, correlation.Open, correlation.Closed, correlation.Resuming, s}
	if i := slices.Index(way, s); i >= 0 {
		way = way[:i+1]
	}
	if s == correlation.Done || s == correlation.Held {
		way = []correlation.State{"", correlation.Opening, correlation.Open, correlation.Closed, s}
	}
	for _, to := range way[1:] {
		if err := c.Move(to, time.Now(), "it went on", ""); err != nil {
			t.Fatal(err)
		}
	}
	c.Reason = "" // so that the page says what the state means
}

func TestEachStateHasAWordAndAnExplanationAndClaimsNoLaterOne(t *testing.T) {
	status := regexp.MustCompile(`(?s)<section class="status ([a-z]+)".*?</section>`)
	words, meanings := map[string]correlation.State{}, map[string]correlation.State{}
	states := append(slices.Clone(correlation.States), "paused") // of a newer version
	ends := []string{"Resumed", "Denied", "Done", "Expired", "Withdrawn", "took it", "granted", "Granted"}
	for _, state := range states {
		s := &store{}
		s.put(1, time.Now(), func(c *correlation.Correlation) {
			if !state.Known() {
				c.State = state
				return
			}
			reach(t, c, state)
		})
		h := open(t, s)
		a := get(t, h, at(1))
		section := status.FindStringSubmatch(a.raw)
		if section == nil || a.Code != 200 {
			t.Fatalf("%s: %d %s", state, a.Code, a.text)
		}
		parts := regexp.MustCompile(`<span class="pill ([a-z]+)">([^<]+)</span>|<p class="reason">([^<]+)</p>`).FindAllStringSubmatch(section[0], -1)
		word, meaning := parts[0][2], html.UnescapeString(parts[1][3])
		if other, taken := words[word]; taken || word == "" {
			t.Errorf("%s and %s are both %q", state, other, word)
		}
		if other, taken := meanings[meaning]; taken || len(meaning) < 20 || !strings.HasSuffix(meaning, ".") {
			t.Errorf("%s and %s both mean %q", state, other, meaning)
		}
		words[word], meanings[meaning] = state, state
		if needs := section[1] == "bad"; needs != state.NeedsPerson() {
			t.Errorf("%s is in the colour %q", state, section[1])
		}
		if good := section[1] == "good"; good != (state == correlation.Resumed) { // only then something is known to have gone well
			t.Errorf("%s is in the colour %q", state, section[1])
		}
		for _, end := range ends {
			if !state.Ended() && strings.Contains(a.text, end) {
				t.Errorf("%s is said to be %q: %s", state, end, a.text)
			}
		}
		if list := get(t, h, ""); !state.Ended() {
			list.want(t, string(state), 200, word+" "+meaning)
		} else {
			list.want(t, string(state), 200, "Ended today 1", word+" "+meaning)
		}
	}
}

func TestATicketIsClaimedOnlyWhenItIsKnownToExist(t *testing.T) {
	s := &store{}
	s.put(1, time.Now(), func(c *correlation.Correlation) {
		must(c.Move(correlation.Opening, time.Now(), "about to open 2 tickets", ""))
		s.ticket(c, 7, correlation.Pending, "request_state=requested")
		c.Tickets = append(c.Tickets, correlation.Ticket{Entry: "second", Table: "incident", Number: "INC0000001", Link: "https://example.service-now.com/"})
	})
	a := get(t, open(t, s), at(1))
	a.want(t, "detail", 200, "REQ0000007 sc_request Open request_state=requested request", "not known to exist yet incident nothing yet second")
	if strings.Contains(a.text, "INC0000001") {
		t.Errorf("a ticket without a sys_id is shown: %s", a.text)
	}
}

func TestWhatHasEndedIsNotSaidToWait(t *testing.T) {
	s := aMorning(t, time.Now())
	behind := s.all[len(s.all)-1].Summary() // on the list of what ended, and not yet off the other
	behind.State = correlation.Open
	s.behind = []correlation.Summary{behind}
	a := get(t, open(t, s), "")
	a.want(t, "list", 200, "Waiting 9", "Ended today 5")
	if n := strings.Count(a.text, behind.PackageName); n != 1 {
		t.Errorf("%s is there %d times", behind.PackageName, n)
	}
	if again := get(t, open(t, s), "?q="+url.QueryEscape(behind.PackageName)); strings.Contains(again.text, "Ticket open Waits") {
		t.Errorf("it is found as waiting: %s", again.text)
	}
}

func TestTheListIsSearchedAndFiltered(t *testing.T) {
	h := open(t, aMorning(t, time.Now()))
	for query, want := range map[string][]string{
		"q=payroll": {"Payroll clerk"}, "q=NOOR": {"Payroll clerk"}, "q=req0010014": {"Payroll clerk"}, "q=" + key(12).Stage: {"Payroll clerk"},
		"q=" + strings.ToUpper(key(12).Request): {"Payroll clerk"}, "q=" + key(12).String(): {"Payroll clerk"}, "q=finance+hibernating": {"SAP Finance reader"}, "q=finance+zzz": nil,
		"state=held": {"Treasury payments"}, "state=needs-you": {"Treasury payments", "Research cluster"}, "state=retrying": {"SAP Finance reader"},
		"state=nonsense": nil, "state=held&q=payroll": nil, "q=++++": get(t, h, "").lines(), "q=%27%20or%201": nil, "q=%ff%fe": nil,
	} {
		if got := get(t, h, "?"+query).lines(); !slices.Equal(got, want) {
			t.Errorf("%s finds %q", query, got)
		}
	}
	for _, query := range []string{key(50).Request, key(50).String(), key(50).String() + "/2", "+" + strings.ToUpper(key(50).Request) + "+"} {
		a := get(t, h, "?q="+query)
		if a.Code != http.StatusSeeOther || a.Header().Get("Location") != console.BasePath+"/requests/"+key(50).Request {
			t.Errorf("the id %q of what ended leads to %d %q", query, a.Code, a.Header().Get("Location"))
		}
	}
	get(t, h, "?q=pay%22roll&state=held").want(t, "what was chosen", 200, "Clear")
	if a := get(t, h, "?q=pay%22roll&state=held"); !strings.Contains(a.raw, `value="pay&#34;roll"`) || !strings.Contains(a.raw, `<option value="held" selected>`) {
		t.Error("the form does not keep what was asked for")
	}
	for n, want := range map[string]string{"10": "10", "2": "2", "3600": "3600", "1": "", "0": "", "-5": "", "3601": "", "x": "", "1e3": "", "10;url=//evil": ""} {
		got := regexp.MustCompile(`http-equiv="refresh" content="([^"]*)"`).FindStringSubmatch(get(t, h, "?refresh="+url.QueryEscape(n)).raw)
		if (want == "") != (got == nil) || (got != nil && got[1] != want) {
			t.Errorf("refresh=%s gives %q", n, got)
		}
	}
}

func TestTimesAreInUTCWhereverWeAre(t *testing.T) {
	atNoon(t, func(t *testing.T) {
		zone := time.FixedZone("far", 13*3600)
		s := &store{}
		s.put(1, time.Now().Add(-25*time.Hour).In(zone), func(c *correlation.Correlation) {
			c.PackageName, c.Deadline = "Payroll clerk", time.Date(2027, 1, 2, 1, 30, 0, 0, zone)
		})
		s.put(2, time.Now().Add(-time.Hour).In(zone), func(c *correlation.Correlation) { c.Deadline = time.Now().Add(-30 * time.Minute).In(zone) })
		h := open(t, s)
		a := get(t, h, "")
		a.want(t, "list", 200, "1 d 1 h in 37 d 1 Jan 2027, 12:30", "1 h passed 30 min ago 25 Nov, 11:30")
		for _, want := range []string{`datetime="2027-01-01T12:30:00Z" title="1 Jan 2027, 12:30 UTC"`, `datetime="2026-11-24T11:00:00Z" title="24 Nov 2026, 11:00 UTC"`, `<time class="bad" datetime="2026-11-25T11:30:00Z"`} {
			if !strings.Contains(a.raw, want) {
				t.Errorf("the list has no %s", want)
			}
		}
		get(t, h, at(1)).want(t, "detail", 200, "Came 24 Nov 2026, 11:00 1 d 1 h ago Deadline 1 Jan 2027, 12:30 in 37 d", "Tuesday, 24 November 2026 11:00:00")
		get(t, h, at(2)).want(t, "a deadline that has passed", 200, "deadline passed 30 min ago")
	})
}

// hostile is a text that would do something on a page that took it for its own, of letters that turn the rest around and of more than a line.
const hostile = "</title></bdi></pre>\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{.}}&lt;\u202e\u2066 " +
	"LongerThanAnyLineLongerThanAnyLineLongerThanAnyLineLongerThanAnyLineLongerThanAnyLineLongerThanAnyLineLongerThanAnyLineLongerThanAnyLine"

// anAttack is a store in which every text is hostile.
func anAttack() *store {
	s := &store{}
	for i := range 3 {
		s.put(1+i, time.Now().Add(-time.Hour), func(c *correlation.Correlation) {
			c.PackageName, c.CatalogName, c.TargetName, c.PackageID, c.CatalogID = hostile, hostile, hostile, hostile, hostile
			c.Stage, c.RequestType, c.Rule, c.OnRejected = hostile, hostile, hostile, hostile
			for _, link := range []string{"javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,<script>alert(1)</script>", "//evil.example/", `https://evil.example/"onmouseover="alert(1)`} {
				c.Tickets = append(c.Tickets, correlation.Ticket{Entry: hostile, Table: hostile, SysID: hostile, Number: hostile, Link: link, State: hostile, Outcome: hostile})
			}
			c.Note(time.Now(), hostile, hostile)
			c.Attempted(time.Now(), time.Now().Add(time.Hour), &fault.Error{Op: hostile, Reason: hostile, Detail: hostile, Advice: hostile}, hostile)
			switch i {
			case 1:
				must(c.Fail(time.Now(), hostile, hostile, hostile, hostile))
			case 2:
				c.Tickets = nil
				must(c.Move(correlation.Withdrawn, time.Now(), hostile, hostile))
			}
		})
		events := s.events[key(1+i)]
		events[0].By, events[0].Kind = hostile, hostile
		s.callouts[key(1+i)] = []byte(fmt.Sprintf(`{"Answers":[{"AnsweredQuestion":{"TextString":%[1]q},"Value":%[1]q}],"Requestor":{"DisplayName":%[1]q},"Assignment":{"AssignmentPolicy":{"DisplayName":%[1]q}},%[1]q:1}`,
			strings.NewReplacer("\u202e", "", "\u2066", "").Replace(hostile)))
	}
	return s
}

func TestWhatSomebodyWroteIsNeverTakenForThePage(t *testing.T) {
	tag := regexp.MustCompile(`<[a-zA-Z!/][^>]*>`)
	for _, auth := range []string{console.AuthNone, console.AuthEasyAuth} {
		h := made(t, console.Config{Store: anAttack(), Auth: auth, WebsiteAuthEnabled: "True", TicketURL: func(string) string { return "javascript:alert(1)" }})
		header := []string{"X-MS-CLIENT-PRINCIPAL", principal(hostile)}
		for _, path := range []string{
			"", "/ended", at(1), at(2), at(3), "?q=" + url.QueryEscape(hostile), "?state=" + url.QueryEscape(hostile), "/" + url.PathEscape(hostile), "/ended?day=" + url.QueryEscape(hostile),
			"/requests/" + url.PathEscape(hostile),
		} {
			a := get(t, h, path, header...)
			if a.Code >= 500 {
				t.Errorf("%q: %d", path, a.Code)
			}
			for _, part := range tag.FindAllString(a.raw, -1) {
				if name := strings.ToLower(part); strings.HasPrefix(name, "<script") || strings.HasPrefix(name, "<img") || regexp.MustCompile(`\son[a-z]+=`).MatchString(regexp.MustCompile(`"[^"]*"`).ReplaceAllString(name, `""`)) {
					t.Errorf("%q has %s", path, part)
				}
			}
			for _, m := range hrefs.FindAllStringSubmatch(a.raw, -1) {
				u, err := url.Parse(html.UnescapeString(m[1]))
				ours := err == nil && m[1] != "#ZgotmplZ" && (u.Scheme == "" && (u.Host == "" && (u.Path == "" || strings.HasPrefix(u.Path, console.BasePath) || strings.HasPrefix(u.Path, "/.auth/"))) || u.Scheme == "data" && strings.HasPrefix(u.Opaque, "image/svg+xml,"))
				if !ours && !strings.HasPrefix(m[1], "https://evil.example/%22onmouseover=%22alert%281%29") {
					t.Errorf("%q leads to %s", path, m[1])
				}
			}
		}
		if a := get(t, h, at(2), header...); !strings.Contains(a.text, "<script>alert(1)</script>") {
			t.Error("the page does not show what was written")
		}
	}
}

func TestEveryLinkLeadsToAPage(t *testing.T) {
	for kind, r := range readers(t) {
		h := open(t, r)
		todo, seen := []string{console.BasePath}, map[string]bool{}
		for len(todo) > 0 && len(seen) < 300 {
			next := todo[0]
			todo = todo[1:]
			path, fragment, _ := strings.Cut(next, "#")
			a := ask(t, h, http.MethodGet, path)
			switch {
			case a.Code == http.StatusSeeOther:
				todo = append(todo, a.Header().Get("Location"))
			case a.Code != http.StatusOK:
				t.Errorf("%s: %s leads to %d", kind, next, a.Code)
			case fragment != "" && !strings.Contains(a.raw, `id="`+fragment+`"`):
				t.Errorf("%s: %s has no such part", kind, next)
			}
			if strings.Contains(path, "/ended?day=") && path != console.BasePath+"/ended?day="+time.Now().UTC().Format(time.DateOnly) {
				continue // there is a day before each
			}
			for _, m := range hrefs.FindAllStringSubmatch(a.raw, -1) {
				link := html.UnescapeString(m[1])
				if strings.HasPrefix(link, "#") {
					link = path + link
				}
				if strings.HasPrefix(link, "/") && !seen[link] {
					seen[link] = true
					todo = append(todo, link)
				}
			}
		}
		if len(seen) < 25 || len(seen) >= 300 {
			t.Errorf("%s: %d links were found", kind, len(seen))
		}
		there := made(t, console.Config{Store: r, Auth: console.AuthNone, TicketURL: func(number string) string { return "https://example.service-now.com/" + number }})
		if a := get(t, there, ""); !strings.Contains(a.raw, `href="https://example.service-now.com/REQ0010014"`) {
			t.Errorf("%s: the list does not lead to ServiceNow", kind)
		}
		if a := get(t, h, at(12)); !strings.Contains(a.raw, `href="https://example.service-now.com/sc_request.do?sys_id=`) {
			t.Errorf("%s: a ticket does not lead to ServiceNow", kind)
		}
	}
}

func FuzzAnyTargetGetsAPage(f *testing.F) {
	for _, target := range []string{"", "/", "?q=x&state=y&page=2&refresh=5", "/ended?day=2026-11-25&page=2", at(30), at(30)[:40], "/%2e%2e/callout", "?q=%ff%00;&q", "//x", "/ended?day=0000-01-01", "/ended?day=9999-12-31"} {
		f.Add(target)
	}
	h := open(f, aMorning(f, time.Now()).embedded(f))
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.Parse(console.BasePath + target)
		if err != nil || u.Host != "" {
			return
		}
		r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
		r.URL, r.Host = u, "localhost"
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if !slices.Contains([]int{200, 303, 400, 404}, w.Code) {
			t.Fatalf("%q: %d %s", target, w.Code, w.Body)
		}
		if location := w.Header().Get("Location"); w.Code == 303 && !strings.HasPrefix(location, console.BasePath+"/requests/") {
			t.Fatalf("%q leads to %q", target, location)
		}
	})
}
