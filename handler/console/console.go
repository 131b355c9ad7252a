// Package console shows operators what waits, why and for how long, what ended, and everything that happened to one request. It only
// reads, and it shows people's names: nobody sees it who was not let in.
package console

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

// A Reader reads what the storage has. Every error is a *fault.Error.
type Reader interface {
	// Open returns up to limit of the open ones in the order of their keys, beginning behind the cursor ("" is the beginning), and the
	// cursor of the next page ("" when there is none).
	Open(ctx context.Context, cursor string, limit int) (page []correlation.Summary, next string, err error)

	// Ended returns those that ended on the day of the given time, UTC; else as Open. A cursor that is not its own is fault.Invalid.
	Ended(ctx context.Context, day time.Time, cursor string, limit int) (page []correlation.Summary, next string, err error)

	// Stages returns all correlations of a request; none when there is no such request.
	Stages(ctx context.Context, requestID string) ([]*correlation.Correlation, error)

	// Timeline returns the events of a correlation in order.
	Timeline(ctx context.Context, key correlation.Key) ([]correlation.Event, error)

	// Callout returns the callout's body as it came, or fault.NotFound.
	Callout(ctx context.Context, key correlation.Key) ([]byte, error)

	// Mark returns what the sweep left there; the zero Mark when none has run.
	Mark(ctx context.Context) (workflow.Mark, error)

	// Unreadable returns the messages of the poison queue that are kept because they name no correlation.
	Unreadable(ctx context.Context) ([]workflow.Unreadable, error)
}

// BasePath is where the console is, as its function.json binds it.
const BasePath = "/api/console"

// Config says what a console shows, and to whom.
type Config struct {
	Store    Reader
	Auth     string // CONSOLE_AUTH: AuthNone, AuthEasyAuth, or "" for no console
	BasePath string // "" is BasePath

	// What Azure says of where we are; see the environment variables of these names.
	WebsiteHostname    string // WEBSITE_HOSTNAME; Core Tools sets it too, to localhost
	WebsiteInstanceID  string // WEBSITE_INSTANCE_ID, which a Flex Consumption app does not have
	WebsiteSKU         string // WEBSITE_SKU, "FlexConsumption" there; Core Tools does not set it
	WebsiteAuthEnabled string // WEBSITE_AUTH_ENABLED: "True" while App Service authentication is on

	TicketURL func(number string) string // where people find a ticket by its number; nil links lists to our own page of it
}

// How much one page shows, and how much of a list is read for it at most: 5 storage operations. Lists come in the order of keys, so that what
// concerns a person first is only known when all is read.
const (
	pageRows = 100
	lastRows = 10 // of what ended today, on the page of what waits
	readStep = 1000
	readMost = 5 * readStep
)

//go:embed pages
var files embed.FS

// New returns the console, nil when Auth is "". It is fault.Misconfigured when Auth is unknown, or is AuthNone in Azure.
func New(c Config) (http.Handler, error) {
	if c.Auth == "" {
		return nil, nil //nolint:nilnil // no console is what was asked for
	}
	g, err := newGuard(c)
	if err != nil {
		return nil, err
	}
	if c.BasePath == "" {
		c.BasePath = BasePath
	}
	style, err := files.ReadFile("pages/style.css")
	if err != nil {
		return nil, fmt.Errorf("read the console's style: %w", err)
	}
	sum := sha256.Sum256(style)
	h := &console{config: c, guard: g, style: style, stylePath: "/style-" + hex.EncodeToString(sum[:6]) + ".css"}
	h.pages, err = template.New("").Funcs(template.FuncMap{
		"when": when, "clock": clock, "date": date, "stamp": stamp, "sentence": sentence, "stateWord": stateWord, "stateTone": stateTone,
		"stage": stageWord, "requestType": requestTypeWord, "outcome": outcomeWord, "outcomeTone": outcomeTone, "reason": reasonWord,
		"kind": kindWord, "weblink": weblink,
	}).ParseFS(files, "pages/*.html")
	if err != nil {
		return nil, fmt.Errorf("read the console's pages: %w", err)
	}
	return h, nil
}

type console struct {
	config    Config
	guard     guard
	pages     *template.Template
	style     []byte
	stylePath string
}

// ServeHTTP shows a page.
func (c *console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")

	path, ours := strings.CutPrefix(r.URL.Path, c.config.BasePath)
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	if ours && reads && path == c.stylePath { // shows nothing, and whoever is refused gets a page too
		h.Set("Content-Type", "text/css; charset=utf-8")
		h.Set("Cache-Control", "private, max-age=31536000, immutable") // its name is its content's
		_, _ = w.Write(c.style)
		return
	}
	v := view{Base: c.config.BasePath, Style: c.config.BasePath + c.stylePath, Now: time.Now().UTC(), Refresh: refresh(r.URL.Query())}
	who, err := c.guard.admit(r)
	if err != nil {
		c.refuse(w, r, v, err)
		return
	}
	v.Who = who
	if !reads {
		v.Refresh = 0
		h.Set("Allow", "GET, HEAD")
		c.message(w, r, v, http.StatusMethodNotAllowed, "This page only shows things", "Nothing can be changed here.")
		return
	}
	path = strings.TrimSuffix(path, "/")
	parts := strings.Split(path, "/")
	switch {
	case !ours:
		c.missing(w, r, v, "It may have been a link that somebody mistyped.")
	case path == "":
		c.list(w, r, v)
	case path == "/ended":
		c.ended(w, r, v)
	case len(parts) == 3 && parts[1] == "requests":
		c.request(w, r, v, parts[2])
	case len(parts) == 4 && parts[1] == "requests":
		c.detail(w, r, v, parts[2], parts[3])
	default:
		c.missing(w, r, v, "It may have been a link that somebody mistyped.")
	}
}

// A view is what every page has.
type view struct {
	Title   string
	Base    string
	Style   string
	Now     time.Time
	Who     string // who is signed in; "" when nobody is asked to
	Section string // "waiting" or "ended"
	Refresh int    // seconds after which the page loads itself again; 0 for never
	Page    any
}

func (c *console) show(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	var b bytes.Buffer
	if err := c.pages.ExecuteTemplate(&b, name, v); err != nil {
		zerolog.Ctx(r.Context()).Error().Str("event", "console").Err(err).Msg("a page cannot be made")
		http.Error(w, "This page cannot be made; the log says why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes())
}

type message struct {
	Heading, Text, Advice string
	Link, LinkText        string
}

func (c *console) message(w http.ResponseWriter, r *http.Request, v view, status int, heading, text string) {
	v.Title, v.Page = heading, message{Heading: heading, Text: text, Link: v.Base, LinkText: "All that waits"}
	c.show(w, r, status, "message", v)
}

func (c *console) missing(w http.ResponseWriter, r *http.Request, v view, text string) {
	c.message(w, r, v, http.StatusNotFound, "There is no such page", text)
}

// unknown answers for a request, or a stage of one, that is not stored.
func (c *console) unknown(w http.ResponseWriter, r *http.Request, v view) {
	c.missing(w, r, v, "No request with this id is remembered here. Perhaps Entra never called out for it, or the link is cut short.")
}

// refuse answers somebody who may not see anything. It shows no navigation.
func (c *console) refuse(w http.ResponseWriter, r *http.Request, v view, err error) {
	m := message{Heading: "You cannot see this", Text: "The console does not know you."}
	if e, ok := errors.AsType[*fault.Error](err); ok {
		m.Text, m.Advice = e.Detail, e.Advice
	}
	if fault.Is(err, fault.Unauthorized) {
		back := v.Base
		if strings.HasPrefix(r.URL.Path, v.Base+"/") {
			back = r.URL.Path
		}
		m.Heading = "Please sign in"
		m.Link, m.LinkText = "/.auth/login/aad?post_login_redirect_uri="+url.QueryEscape(back), "Sign in"
	}
	zerolog.Ctx(r.Context()).Warn().Str("event", "console").Str("reason", string(fault.ReasonOf(err))).Msg("somebody was not let in")
	v.Title, v.Base, v.Refresh, v.Page = m.Heading, "", 0, m
	c.show(w, r, fault.Status(err), "message", v)
}

// failed answers a call for which the storage did not serve.
func (c *console) failed(w http.ResponseWriter, r *http.Request, v view, err error) {
	reason := fault.ReasonOf(err)
	zerolog.Ctx(r.Context()).Error().Str("event", "console").Str("reason", string(reason)).Err(err).Msg("the storage cannot be read")
	status := http.StatusInternalServerError
	if reason.Temporary() || errors.Is(err, context.DeadlineExceeded) {
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", strconv.Itoa(max(5, int(math.Ceil(fault.After(err).Seconds())))))
	}
	v.Title = "The storage cannot be read"
	v.Page = message{
		Heading: v.Title, Text: "Nothing can be shown until it can be (" + reasonWord(reason) + "). What was remembered stays remembered.",
		Advice: fault.Advice(err), Link: r.URL.RequestURI(), LinkText: "Try again",
	}
	c.show(w, r, status, "message", v)
}
