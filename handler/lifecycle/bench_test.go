package lifecycle

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
)

// BenchmarkCallout is what a callout takes as its caller sees it: through the host to the built handler, whose storage is Azurite, with function key
// and token. Nothing else works meanwhile: queue and timer are not bound. p50-ms and p99-ms are of single calls; busy/op is the share of those that
// were answered 503, "send the same call again".
func BenchmarkCallout(b *testing.B) {
	for _, mode := range []struct {
		name string
		app  func(map[string]any)
	}{{"proxying", nil}, {"forwarding", forwarding}} {
		b.Run(mode.name, func(b *testing.B) {
			w := newWorld(b, plan{app: mode.app, functions: []string{"callout"}})
			token := w.entra.IssueToken(entra.Token{Audience: audience, AppID: entra.CallerID})
			header := http.Header{"Authorization": {"Bearer " + token}, "X-Functions-Key": {w.keys.Default}}
			address := w.host(0).URL() + "/api/callout"
			r, ok := w.entra.Request(w.asked(entra.NewRequest{Policy: w.sample.LedgerPolicy})) // it makes the tables, too
			if !ok {
				b.Fatal("Entra does not know its own request")
			}
			body := string(r.Callouts[0].Body)
			call := func(took *times, body string) {
				start := time.Now()
				status, _, text, err := w.send(address, header, []byte(body))
				took.add(time.Since(start), status == http.StatusServiceUnavailable)
				if err != nil || status != http.StatusAccepted && status != http.StatusServiceUnavailable {
					b.Errorf("answered %d %s (%v)", status, text, err)
				}
			}
			another := func() string {
				return strings.NewReplacer(r.ID, uuid.NewString(), r.Callouts[0].ID, uuid.NewString()).Replace(body)
			}
			b.Run("new", func(b *testing.B) {
				var took times
				for b.Loop() {
					call(&took, another())
				}
				took.report(b)
			})
			b.Run("repeated", func(b *testing.B) {
				var took times
				for b.Loop() {
					call(&took, body)
				}
				took.report(b)
			})
			b.Run("eight at once", func(b *testing.B) {
				var took times
				b.SetParallelism(max(1, 8/2))
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						call(&took, another())
					}
				})
				took.report(b)
			})
		})
	}
}

// BenchmarkLifecycle is a request from its submission to the resume, with nobody waiting in between: the ticket is closed as soon as it is there. The
// calls that one costs are counted at the stand-ins and before Azurite; the host's own polling of its queue is not among them.
func BenchmarkLifecycle(b *testing.B) {
	var storage counter
	desk := misbehave.New()
	desk.Add(misbehave.Fault{OnHit: storage.add})
	// Sweeps would add calls that belong to no request.
	w := newWorld(b, plan{
		settings: map[string]string{"SWEEP_SCHEDULE": "0 0 0 1 1 *"},
		storage:  func(t testing.TB, azurite string) string { return beforeAzurite(t, azurite, desk) },
	})
	live := func() {
		request := w.asked(entra.NewRequest{Policy: w.sample.LedgerPolicy})
		w.closeTicket(request, 0, servicenow.Closing{Outcome: servicenow.Complete})
		if r := w.over(request); r.MyAccess != "Delivered" {
			b.Errorf("My Access shows %q", r.MyAccess)
		}
	}
	settled := func(lives int) {
		ended := func(l line) bool {
			return l.str("function") == "advance" && l.str("event") == "invocation" && l.str("why") == "closed"
		}
		if err := w.log.await(w.ctx, lives, ended); err != nil {
			b.Fatal(err)
		}
	}
	live() // makes the tables, and has the tokens fetched
	settled(1)
	before, storageBefore, tokens := sum(w.entra.Calls()), storage.count(), sum(w.serviceNow.Calls())
	lives := 0
	for b.Loop() {
		live()
		lives++
	}
	settled(lives + 1)
	n := float64(lives)
	b.ReportMetric(float64(storage.count()-storageBefore)/n, "storage-calls/op")
	b.ReportMetric(float64(sum(w.serviceNow.Calls())-tokens)/n, "servicenow-calls/op")
	b.ReportMetric(float64(sum(w.entra.Calls())-before)/n, "graph-calls/op")
}

func sum(calls map[string]int) (n int) {
	for c := range maps.Values(calls) {
		n += c
	}
	return n
}

type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) add() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
}

func (c *counter) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// times are how long single calls took.
type times struct {
	mu   sync.Mutex
	all  []time.Duration
	busy int
}

func (t *times) add(d time.Duration, busy bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, d)
	if busy {
		t.busy++
	}
}

func (t *times) report(b *testing.B) {
	slices.SortFunc(t.all, cmp.Compare[time.Duration])
	at := func(share float64) float64 {
		return float64(t.all[int(share*float64(len(t.all)-1))].Microseconds()) / 1000
	}
	b.ReportMetric(at(0.5), "p50-ms")
	b.ReportMetric(at(0.99), "p99-ms")
	b.ReportMetric(float64(t.busy)/float64(len(t.all)), "busy/op")
}
