package workflow

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
)

// What a neighbour is asked for. Each has a gate of its own: ServiceNow limits the rate of creating apart from that of reading.
const (
	opCreate = "ServiceNow: create tickets"
	opRead   = "ServiceNow: read"
	opNote   = "ServiceNow: update tickets"
	opAnswer = "Graph: resume requests"
	opAsk    = "Graph: read requests"
)

const (
	gateShuts  = 3               // calls in a row that were not served, for more than one request
	firstPause = 5 * time.Second // then as long as this, and twice as long after each trial that was not served
	maxPause   = 5 * time.Minute
	apart      = 250 * time.Millisecond // between those that are told to come back: when calls are served again they must not all come at once
	maxAsked   = time.Hour              // a Retry-After is kept by all requests up to this, and by the one that got it to its end
)

// shortRetries are the pauses before a call that changes nothing is made again.
var shortRetries = []time.Duration{300 * time.Millisecond, time.Second}

// A Memory is what one process remembers of how its neighbours served it, and of when it last looked after the sweep. It makes a wide outage
// cheap and decides nothing: without it, or with an empty one after a restart, each request finds out for itself. It may be used at the same
// time; copies of a Workflow share it. A nil Memory remembers nothing.
type Memory struct {
	mu    sync.Mutex
	gates map[string]*gate

	sweepSeen time.Time // when the sweep's mark was last looked at
}

// NewMemory returns one that has seen nothing.
func NewMemory() *Memory { return &Memory{gates: map[string]*gate{}} }

// A gate stands before one kind of call for all requests of this process. When a few calls in a row, not all for one request, were not served it shuts: from then on one
// call is let through from time to time as a trial, and the others are told how long to stay away. A call that is served opens it.
type gate struct {
	failed int       // calls in a row that were not served, while open
	first  any       // whom the first of them was for
	others bool      // and whether the others were for anybody else
	trials int       // trials that were not served, while shut
	since  time.Time // when it shut; zero while it is open
	until  time.Time // no trial before
	trying time.Time // a trial is on its way, and has this long
	turned int       // away since the last trial ended
	reason fault.Reason
	advice string
}

// read makes a call that changes nothing, as through does, and repeats it twice within seconds when a failure was quick: a cut connection, a server that
// restarts. The context bounds them together. What has failed before is not repeated at once.
func (m *Memory) read(ctx context.Context, op string, most time.Duration, call func() error) error {
	call = counted(ctx, op, call)
	return m.gated(ctx, op, most, func() error {
		for _, pause := range shortRetries {
			start := time.Now()
			err := call()
			reason, asked := fault.ReasonOf(err), fault.After(err)
			quick := time.Since(start) < 2*time.Second && asked <= 2*time.Second
			if (reason != fault.Unreachable && reason != fault.Throttled) || !quick || m.failing(op) || !hasTime(ctx, pause+asked) {
				return err
			}
			select {
			case <-time.After(max(pause, asked)):
			case <-ctx.Done():
				return err
			}
		}
		return call()
	})
}

// failing says whether the last call of the kind was not served.
func (m *Memory) failing(op string) bool {
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.gates[op]
	return g != nil && (g.failed > 0 || !g.since.IsZero())
}

// through makes a call if the gate lets it. A call that is not let through is fault.Paused, and After says for how long to stay away.
func (m *Memory) through(ctx context.Context, op string, most time.Duration, call func() error) error {
	return m.gated(ctx, op, most, counted(ctx, op, call))
}

func (m *Memory) gated(ctx context.Context, op string, most time.Duration, call func() error) error {
	if m == nil {
		return call()
	}
	if err := m.enter(op, most); err != nil {
		return err
	}
	err := call()
	m.leave(ctx, op, err)
	return err
}

func (m *Memory) enter(op string, most time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, now := m.gates[op], time.Now()
	if g == nil {
		g = &gate{}
		m.gates[op] = g
	}
	if err := g.refusal(op, now); err != nil {
		g.turned++
		return err
	}
	if !g.since.IsZero() {
		g.trying = now.Add(most)
	}
	return nil
}

// refusal is what a call is told that is not let through now; nil when it is.
func (g *gate) refusal(op string, now time.Time) error {
	wait := max(g.until.Sub(now), g.trying.Sub(now))
	if g.since.IsZero() || wait <= 0 {
		return nil
	}
	return &fault.Error{
		Op: op, Reason: fault.Paused, After: wait + time.Duration(g.turned)*apart,
		Detail: fmt.Sprintf("not tried: nobody was served since %s (%s)", g.since.UTC().Format(time.RFC3339), g.reason),
		Advice: cmp.Or(g.advice, "Nothing is lost: it goes on by itself when calls are served again."),
	}
}

// leave learns from a call that was let through.
func (m *Memory) leave(ctx context.Context, op string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g, now := m.gates[op], time.Now()
	reason, asked := fault.ReasonOf(err), min(fault.After(err), maxAsked)
	log := zerolog.Ctx(ctx).With().Str("call", op).Logger()
	switch {
	case served(err):
		if !g.since.IsZero() {
			log.Info().Str("event", "served").Dur("after", now.Sub(g.since)).Msg("served again: calls are no longer held back")
		}
		*g = gate{}
		return
	case g.since.IsZero():
		who := ctx.Value(correlationKey)
		if g.failed++; g.failed == 1 {
			g.first = who
		}
		g.others = g.others || who != g.first
		if (g.failed < gateShuts || !g.others) && asked == 0 {
			return
		}
		g.advice = fault.Advice(err)
		g.since, g.reason, g.until = now, reason, now.Add(max(firstPause, asked))
		log.Warn().Str("event", "paused").Str("reason", string(reason)).Dur("for", g.until.Sub(now)).Msg("nobody is served: calls are held back")
	case !g.trying.IsZero():
		g.trials++
		g.advice = fault.Advice(err)
		g.reason, g.trying, g.turned = reason, time.Time{}, 0
		g.until = now.Add(max(min(firstPause<<min(g.trials, 20), maxPause), asked))
		log.Warn().Str("event", "paused").Str("reason", string(reason)).Dur("for", g.until.Sub(now)).Msg("a trial was not served: calls are still held back")
	default: // it was on its way when the gate shut
		g.until = later(g.until, now.Add(asked))
	}
}

// served says whether the other side did its part, whatever it answered.
func served(err error) bool {
	reason := fault.ReasonOf(err)
	return err == nil || !reason.Temporary() || reason == fault.Conflict
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// paused returns what a call would be told that is not let through, or nil. It makes no trial.
func (m *Memory) paused(op string) error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.gates[op]; g != nil {
		if err := g.refusal(op, time.Now()); err != nil {
			g.turned++
			return err
		}
	}
	return nil
}

// holdsBack says whether such a call would not be let through.
func (m *Memory) holdsBack(op string) bool { return m.paused(op) != nil }

// spread returns a part of d that differs from key to key and from n to n, and is the same each time: those that wait for the same thing do not
// come back at the same moment.
func spread(key correlation.Key, n int, d time.Duration) time.Duration {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d", key, n)
	x := h.Sum64()
	x = (x ^ x>>33) * 0xff51afd7ed558ccd // FNV leaves what differs at the end of the text in its low bits: without this every n had nearly the same part
	x ^= x >> 33
	return time.Duration(float64(x>>11) / (1 << 53) * float64(d))
}

// gatedTickets are Tickets behind the gates.
type gatedTickets struct {
	Tickets
	memory *Memory
	most   time.Duration // the longest that one call takes
}

func (t gatedTickets) Find(ctx context.Context, table, id string) (found []ticket.Record, err error) {
	err = t.memory.read(ctx, opRead, t.most, func() (err error) { found, err = t.Tickets.Find(ctx, table, id); return err })
	return found, err
}

func (t gatedTickets) Create(ctx context.Context, d ticket.Draft, id string) (rec ticket.Record, err error) {
	err = t.memory.through(ctx, opCreate, t.most, func() (err error) { rec, err = t.Tickets.Create(ctx, d, id); return err })
	return rec, err
}

func (t gatedTickets) Read(ctx context.Context, table, sysID string) (rec ticket.Record, err error) {
	err = t.memory.read(ctx, opRead, t.most, func() (err error) { rec, err = t.Tickets.Read(ctx, table, sysID); return err })
	return rec, err
}

func (t gatedTickets) Note(ctx context.Context, table, sysID, text string) error {
	return t.memory.through(ctx, opNote, t.most, func() error { return t.Tickets.Note(ctx, table, sysID, text) })
}

func (t gatedTickets) FindUser(ctx context.Context, principalName, email string) (sysID string, found bool, err error) {
	err = t.memory.read(ctx, opRead, t.most, func() (err error) { sysID, found, err = t.Tickets.FindUser(ctx, principalName, email); return err })
	return sysID, found, err
}

func (t gatedTickets) FindGroup(ctx context.Context, name string) (sysID string, found bool, err error) {
	err = t.memory.read(ctx, opRead, t.most, func() (err error) { sysID, found, err = t.Tickets.FindGroup(ctx, name); return err })
	return sysID, found, err
}

func (t gatedTickets) Update(ctx context.Context, table, sysID string, fields map[string]string) error {
	return t.memory.through(ctx, opNote, t.most, func() error { return t.Tickets.Update(ctx, table, sysID, fields) })
}

// gatedRequests are Requests behind the gates.
type gatedRequests struct {
	Requests
	memory *Memory
	most   time.Duration
}

func (r gatedRequests) Answer(ctx context.Context, key correlation.Key, stage string, d Decision, detail string) error {
	return r.memory.through(ctx, opAnswer, r.most, func() error { return r.Requests.Answer(ctx, key, stage, d, detail) })
}

func (r gatedRequests) Read(ctx context.Context, key correlation.Key) (st RequestStatus, err error) {
	err = r.memory.read(ctx, opAsk, r.most, func() (err error) { st, err = r.Requests.Read(ctx, key); return err })
	return st, err
}

func (r gatedRequests) ReadMany(ctx context.Context, keys []correlation.Key) (stand map[correlation.Key]RequestStatus, err error) {
	err = r.memory.through(ctx, opAsk, r.most, func() (err error) { stand, err = r.Requests.ReadMany(ctx, keys); return err })
	return stand, err
}

func (r gatedRequests) People(ctx context.Context, key correlation.Key) (people []callout.Person, err error) {
	err = r.memory.read(ctx, opAsk, r.most, func() (err error) { people, err = r.Requests.People(ctx, key); return err })
	return people, err
}

func (w *Workflow) tickets() Tickets {
	return gatedTickets{w.Tickets, w.Memory, w.Policy.withDefaults().CallTimeout}
}

func (w *Workflow) requests() Requests {
	return gatedRequests{w.Requests, w.Memory, w.Policy.withDefaults().GraphTimeout}
}
