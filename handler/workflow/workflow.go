// Package workflow is what happens: Accept remembers a callout, Advance takes a correlation as far as it can go, TicketClosed takes the
// hint that a ticket closed, Sweep finds what nobody reported. It talks to the storage, ServiceNow and Entra through the small
// interfaces it declares in ports.go.
package workflow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
)

// A Policy holds the workflow's times. The zero value of a field stands for its default.
type Policy struct {
	CallTimeout   time.Duration // the longest that one call to ServiceNow takes (SERVICENOW_TIMEOUT; default 30 s)
	Settle        time.Duration // how long after an unclear create ServiceNow may still be finishing it (SERVICENOW_SETTLE; default 65 s: its transactions end after about 60 s)
	GraphTimeout  time.Duration // the longest that one call to Graph takes (default 30 s)
	CheckInterval time.Duration // how often the sweep looks at a waiting ticket and its request (CHECK_INTERVAL; default 10 min)
	Forgotten     time.Duration // how long a remembered callout waits for its message before the sweep sends another (default 1 min)
	DefaultWait   time.Duration // how long a request waits whose callout does not say (default 14 days, Entra's longest)
	Grace         time.Duration // how long after the deadline Entra is asked whether it has given up (default 5 min: clocks differ)

	// Backoff is the delay before each further attempt of a step; a step fails when it is used up (default: from 5 s to hourly, for three days).
	// Each is varied by a fifth, differently for each request.
	Backoff []time.Duration

	// Retention is how long what has ended is kept (RETENTION_DAYS; default 0: for ever).
	Retention time.Duration
}

func (p Policy) withDefaults() Policy {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&p.CallTimeout, 30*time.Second)
	def(&p.Settle, 65*time.Second)
	def(&p.GraphTimeout, 30*time.Second)
	def(&p.CheckInterval, 10*time.Minute)
	def(&p.Forgotten, time.Minute)
	def(&p.DefaultWait, 14*24*time.Hour)
	def(&p.Grace, 5*time.Minute)
	if len(p.Backoff) == 0 {
		p.Backoff = backoff
	}
	return p
}

// backoff grows to an hour, so that a step which has failed for long still goes on soon after what failed was mended, and ends after three days: a
// weekend, and a day to mend it.
var backoff = append([]time.Duration{
	5 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 30 * time.Minute,
}, slices.Repeat([]time.Duration{time.Hour}, 71)...)

// A Workflow does the work. Its methods may be called at the same time, in several processes.
type Workflow struct {
	Store    Store
	Queue    Queue
	Tickets  Tickets
	Requests Requests
	Rules    Rules
	Policy   Policy
	Catalogs []string // CATALOG_IDS: when not empty, callouts for other catalogs are refused
	Memory   *Memory  // of this process; nil remembers nothing
	NoLookUp bool     // DIRECTORY_LOOKUP is false: Graph is not asked for what a callout does not say of its people
}

// A Receipt is the answer to a callout.
type Receipt struct {
	RequestID       string
	StageInstanceID string
	State           correlation.State
	Duplicate       bool // it was remembered before; this call changed nothing
	Test            bool // it was a connection test; nothing was remembered
}

// Accept remembers a callout: when it returns without an error, the callout is durable and will be worked on, whatever happens to this
// process. A repeated call gets the same answer and changes nothing. Errors: fault.Invalid names the field; fault.Forbidden for a catalog that
// is not ours; the storage's.
func (w *Workflow) Accept(ctx context.Context, body []byte) (Receipt, error) {
	in, err := callout.Parse(body)
	if err != nil {
		return Receipt{}, err
	}
	if in.Test {
		zerolog.Ctx(ctx).Info().Str("event", "connectionTest").Msg("connection test answered")
		return Receipt{Test: true}, nil
	}
	key, err := correlation.NewKey(in.RequestID, in.StageInstanceID)
	if err != nil {
		return Receipt{}, err
	}
	ctx = withKey(ctx, key)
	if err := w.ourCatalog(in); err != nil {
		return Receipt{}, err
	}

	p := w.Policy.withDefaults()
	now := w.now()
	c := correlation.New(key, now, receivedText(in), invocation(ctx))
	for _, odd := range in.Problems {
		c.Note(now, "a part of the callout was read as absent: "+odd, invocation(ctx))
	}
	sum := sha256.Sum256(body)
	c.CalloutHash = hex.EncodeToString(sum[:])
	c.Stage, c.RequestType = in.Stage, in.RequestType
	c.Waits, c.MayWait = in.WaitsForResume(), !in.Waits && !in.Expiring()
	if c.Waits {
		wait := in.Wait
		if wait <= 0 {
			wait = p.DefaultWait
		}
		c.Deadline = now.Add(wait)
	}
	c.PackageID, c.PackageName = in.Package.ID, in.Package.Name
	c.CatalogID, c.CatalogName = in.Catalog.ID, in.Catalog.Name
	c.TargetName = in.Assigned.Target.Name
	c.Due = now.Add(p.Forgotten)

	receipt := Receipt{RequestID: key.Request, StageInstanceID: key.Stage, State: correlation.Received}
	switch err := w.Store.Create(ctx, c, body); {
	case fault.Is(err, fault.Exists):
		receipt.Duplicate = true
		old, err := w.Store.Load(ctx, key)
		if err != nil {
			return Receipt{}, err
		}
		receipt.State = old.State
		zerolog.Ctx(ctx).Info().Str("event", "duplicate").Str("state", string(old.State)).Bool("sameBody", old.CalloutHash == c.CalloutHash).Msg("callout repeated")
		if old.State != correlation.Received {
			return receipt, nil
		}
		// The call before this one may have ended between remembering and sending: send, Advance does not mind a second message.
	case err != nil:
		return Receipt{}, err
	default:
		zerolog.Ctx(ctx).Info().Str("event", "received").Str("stage", c.Stage).Str("requestType", c.RequestType).Bool("waits", c.Waits).Msg("callout remembered")
	}
	if err := w.send(ctx, Message{Key: key, Why: WhyCallout}, 0); err != nil {
		return Receipt{}, err
	}
	return receipt, nil
}

func (w *Workflow) ourCatalog(in *callout.Callout) error {
	if len(w.Catalogs) == 0 || slices.ContainsFunc(w.Catalogs, func(id string) bool { return strings.EqualFold(id, in.Catalog.ID) }) {
		return nil
	}
	return &fault.Error{
		Op: "accept callout", Reason: fault.Forbidden, Field: "AccessPackageCatalog.Id", Detail: "callouts for this catalog are not taken here",
		Advice: "Add the catalog's id to CATALOG_IDS, or take the extension out of this catalog's policies.",
	}
}

func receivedText(in *callout.Callout) string {
	stage, kind := in.Stage, in.RequestType
	if stage == "" {
		stage = "no stage"
	}
	if kind == "" {
		kind = "no request type"
	}
	waits := "does not wait"
	if in.WaitsForResume() {
		waits = "waits for a resume"
	}
	return fmt.Sprintf("callout received: %s, %s; the request %s", stage, kind, waits)
}

// Closed is what ServiceNow says when a ticket closes, as far as it says it. Any of the three ways to name the ticket will do.
type Closed struct {
	CorrelationID   string // "<request id>/<stage instance id>", perhaps with the ticket's place
	RequestID       string // with StageInstanceID: the tutorial's columns
	StageInstanceID string
	Table           string // with SysID
	SysID           string
}

// TicketClosed takes the hint that a ticket closed. It believes none of it: Advance reads the ticket. It returns when the hint is durable.
// Errors: fault.Invalid naming the field; the queue's.
func (w *Workflow) TicketClosed(ctx context.Context, n Closed) error {
	m := Message{Why: WhyClosed}
	switch {
	case n.CorrelationID != "":
		key, err := correlation.ParseTicketID(n.CorrelationID)
		if err != nil {
			return err
		}
		m.Key = key
	case n.RequestID != "" || n.StageInstanceID != "":
		key, err := correlation.NewKey(n.RequestID, n.StageInstanceID)
		if err != nil {
			return err
		}
		m.Key = key
	case !ticket.ValidTable(n.Table):
		return &fault.Error{Op: "read notification", Reason: fault.Invalid, Field: "table", Detail: "send correlation_id, or table and sys_id, or the request id and the stage instance id"}
	case !ticket.ValidSysID(n.SysID):
		return &fault.Error{Op: "read notification", Reason: fault.Invalid, Field: "sys_id", Detail: "must be 32 hexadecimal digits"}
	default:
		m.Table, m.SysID = n.Table, strings.ToLower(n.SysID)
	}
	if !m.Key.IsZero() {
		ctx = withKey(ctx, m.Key)
	}
	zerolog.Ctx(ctx).Info().Str("event", "closeNotified").Msg("told that a ticket closed")
	if err := w.send(ctx, m, 0); err != nil || m.Key.IsZero() {
		return err
	}
	// A message whose host dies lies hidden for ten minutes: let the sweep come sooner. Without this it would come at the next look at the ticket.
	if err := w.Store.Postpone(ctx, m.Key, w.now().Add(w.Policy.withDefaults().Forgotten)); err != nil {
		zerolog.Ctx(ctx).Warn().Err(err).Msg("the sweep comes at its usual time, should the message get lost")
	}
	return nil
}

// now is the time by the storage's clock.
func (w *Workflow) now() time.Time { return time.Now().Add(w.Store.Ahead()).UTC() }

func (w *Workflow) send(ctx context.Context, m Message, delay time.Duration) error {
	m.Origin, m.Sent = invocation(ctx), w.now()
	if err := w.Queue.Put(ctx, m.Text(), delay); err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	return nil
}

// delay returns how long to wait before attempt n (from 1) of a step for the key: the policy's, varied, and longer than the other side asked for, also
// for a message that comes a second early. ok is false when there is no further attempt.
func (p Policy) delay(key correlation.Key, n int, asked time.Duration) (d time.Duration, ok bool) {
	if n > len(p.Backoff) {
		return 0, false
	}
	d = p.Backoff[n-1]
	d += spread(key, n, 2*d/5) - d/5
	if asked > 0 {
		d = max(d, asked+2*time.Second)
	}
	return d, true
}

type contextKey int

const (
	invocationKey  contextKey = 0
	correlationKey contextKey = 1
	callsKey       contextKey = 2
)

// WithInvocation puts the host's invocation id into the context: it goes on the timeline and into messages.
func WithInvocation(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, invocationKey, id)
}

func invocation(ctx context.Context) string {
	id, _ := ctx.Value(invocationKey).(string)
	return id
}

// withKey puts the ids on every log line from here on, and lets the gates see whom a call is for.
func withKey(ctx context.Context, key correlation.Key) context.Context {
	ctx = context.WithValue(ctx, correlationKey, key)
	return zerolog.Ctx(ctx).With().Str("requestId", key.Request).Str("stageInstanceId", key.Stage).Logger().WithContext(ctx)
}
