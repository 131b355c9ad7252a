package simulation

import (
	"context"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"ticketbridge/handler/storage"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

const (
	callTimeout  = 30 * time.Second
	graphTimeout = 30 * time.Second
)

// A world is everything of one seed.
type world struct {
	rng   *rand.Rand
	began time.Time
	calm  time.Time // from here on nothing fails any more

	// The scheduler.
	agenda  agenda
	running *worker
	back    chan struct{}
	workers int
	steps   int
	over    bool

	// The record of what happened.
	hash       hash.Hash64
	line       [512]byte
	whole      bool // keep every line of it
	lines      []string
	last       map[string]*tail
	faults     map[string]int
	ends       map[string]int
	logged     int
	violations []string
	broken     string // the correlation of the first
	views      map[string]view
	dirty      []string
	log        zerolog.Logger

	// The handler.
	store      *storage.Store
	queue      *storage.Queue
	rules      rules
	policy     workflow.Policy
	instances  []*instance
	desks      []*instance // operators' processes that are at work
	launched   int
	skew       time.Duration
	sweepEvery time.Duration
	sweeping   int
	visibility time.Duration
	littered   int

	// Its neighbours.
	storage, servicenow, graph neighbour
	stages                     map[string]*stage // by correlation
	begun                      []*stage
	requests                   []*request
	lastDeadline               time.Time
	relay, noRole              bool
	byID                       map[string][]*record // by correlation_id
	bySysID                    map[string]*record
	records                    []*record
	numbers                    int
	mostNotes                  int           // the same one on one ticket
	operators                  time.Duration // the longest between two looks of theirs
}

// A result is what came of a seed.
type result struct {
	Seed       uint64
	Requests   int
	Lifecycles int
	Steps      int
	Days       float64
	Logged     int
	MostNotes  int
	Faults     map[string]int
	Ends       map[string]int
	Trace      uint64
	Violations []string
	Story      string

	lines []string
}

// simulate lives through the days of a seed.
func simulate(t *testing.T, seed uint64, skew time.Duration, whole bool) result {
	t.Helper()
	var out result
	source := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // not a secret
	uuid.SetRand(reader{source})             // the ids that the handler makes come from the seed as well
	defer uuid.SetRand(nil)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, skew)
		w.whole = whole
		w.live()
		out = result{
			Seed: seed, Requests: len(w.requests), Lifecycles: len(w.begun), Steps: w.steps, Days: time.Since(w.began).Hours() / 24, Logged: w.logged, MostNotes: w.mostNotes,
			Faults: w.faults, Ends: w.ends, Violations: w.violations, Trace: w.hash.Sum64(), lines: w.lines,
		}
		if w.broken != "" {
			out.Story = w.story(w.broken)
		}
		w.stop()
	})
	return out
}

// reader gives out what the seed says.
type reader struct{ from *rand.Rand }

func (r reader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.from.Uint32())
	}
	return len(p), nil
}

func newWorld(t *testing.T, seed uint64, skew time.Duration) *world {
	t.Helper()
	w := &world{
		rng: rand.New(rand.NewPCG(seed, 2)), began: time.Now(), back: make(chan struct{}), hash: fnv.New64a(), //nolint:gosec // not a secret
		last: map[string]*tail{}, faults: map[string]int{}, ends: map[string]int{}, views: map[string]view{}, stages: map[string]*stage{},
		byID: map[string][]*record{}, bySysID: map[string]*record{}, rules: rules{ticket.BuiltIn()}, skew: skew,
	}
	w.log = zerolog.New(log{w})
	var err error
	if w.store, w.queue, err = storage.NewEmbeddedThrough(storage.DefaultPrefix, w.through); err != nil {
		t.Fatal(err)
	}
	return w
}

// live draws what kind of days these are, and lets them pass.
func (w *world) live() {
	busy := pick(w, time.Hour, 6*time.Hour, 24*time.Hour, 3*24*time.Hour) // the time in which requests are made
	w.calm = w.began.Add(busy + w.between(time.Hour, 2*24*time.Hour))
	w.lastDeadline = w.calm
	w.newNeighbours()
	w.policy = workflow.Policy{
		CallTimeout: callTimeout, GraphTimeout: graphTimeout, CheckInterval: pick(w, 10*time.Minute, 30*time.Minute, time.Hour, 3*time.Hour),
	}
	if w.chance(0.3) {
		w.policy.Retention = 3 * 24 * time.Hour
	}
	w.sweepEvery = pick(w, time.Minute, time.Minute, 5*time.Minute)
	w.visibility = pick(w, 0, 10*time.Second)
	w.relay = w.chance(0.3)
	w.operators = pick(w, time.Hour, 6*time.Hour, 24*time.Hour)

	for range w.rng.IntN(3) + 1 {
		w.launch()
	}
	for range w.rng.IntN(30) + 12 {
		w.after(w.between(0, busy), w.newRequest)
	}
	for range w.rng.IntN(6) {
		w.after(w.between(0, w.calm.Sub(w.began)), w.forge)
		w.after(w.between(0, w.calm.Sub(w.began)), func() {
			if in := w.some(); in != nil {
				w.kill(in)
			}
		})
	}
	for range w.rng.IntN(3) {
		w.after(w.between(0, w.calm.Sub(w.began)), w.litter)
	}
	if w.chance(0.1) {
		w.after(w.between(0, busy), func() { w.noRole = true })
		w.at(w.calm, func() { w.noRole = false })
	}
	w.after(w.sweepEvery, w.timer)
	w.after(time.Hour, w.look)

	quiet := false
	var ask func()
	ask = func() { // whether there is anything left that could happen
		quiet = !slices.ContainsFunc(w.begun, func(s *stage) bool { return !w.resting(s) })
		quiet = quiet && !slices.ContainsFunc(w.requests, func(r *request) bool { return !r.over && r.at < len(r.stages) })
		w.after(6*time.Hour, ask)
	}
	w.at(w.calm.Add(5*24*time.Hour), ask) // what the retries take at the most, and a little
	w.play(func() bool { return quiet || time.Now().After(w.lastDeadline.Add(6*24*time.Hour)) })
	if len(w.violations) == 0 {
		w.finish()
	}
}

// stop ends all goroutines of the seed.
func (w *world) stop() {
	w.over = true
	for _, in := range slices.Clone(w.instances) {
		w.kill(in)
	}
	for _, in := range w.desks {
		w.kill(in)
	}
}

func (w *world) invocation(k *worker) context.Context {
	return workflow.WithInvocation(w.log.WithContext(context.Background()), fmt.Sprintf("invocation-%d", k.number))
}

func (w *world) count(what string) { w.faults[what]++ }

// chance says yes with the given probability.
func (w *world) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// troubled is chance while the storm lasts, and counts.
func (w *world) troubled(what string, p float64) bool {
	if !time.Now().Before(w.calm) || !w.chance(p) {
		return false
	}
	w.count(what)
	return true
}

// between returns a time from a up to b.
func (w *world) between(a, b time.Duration) time.Duration {
	if b <= a {
		return a
	}
	return a + time.Duration(w.rng.Int64N(int64(b-a)))
}

func pick[T any](w *world, from ...T) T { return from[w.rng.IntN(len(from))] }

// guid returns an id of Entra's.
func (w *world) guid() string {
	a, b := w.rng.Uint64(), w.rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", uint32(a), uint16(a>>32), uint16(a>>48)&0xfff, uint16(b>>48)&0xfff, b&0xffffffffffff)
}
