package lifecycle

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/host"
	"ticketbridge/handler/simulator/misbehave"
	"ticketbridge/handler/simulator/servicenow"
)

// What the thousand are: so many callouts, each sent to each of so many hosts at once, whose handlers are killed for so long.
const (
	thousand  = 1000
	instances = 3
	killing   = time.Minute
)

// A crowd is what the thousand came to, as those saw it who called.
type crowd struct {
	w       *world
	header  http.Header
	slots   [instances]atomic.Pointer[host.Host]
	turn    chan struct{} // as many callouts are under way at once
	calls   atomic.Int64
	taken   atomic.Int64 // 202
	refused sync.Map     // by status, or 0 for a connection that broke: *atomic.Int64
}

// take sends a callout to every host at the same time; each caller goes on until somebody has taken it.
func (c *crowd) take(body []byte) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-c.w.ctx.Done():
		return c.w.ctx.Err()
	}
	errs := make([]error, instances)
	var callers sync.WaitGroup
	for first := range instances {
		callers.Go(func() { errs[first] = c.call(first, body) })
	}
	callers.Wait()
	return errors.Join(errs...)
}

// call sends a callout to one host, and to the next in turn when that one does not take it.
func (c *crowd) call(first int, body []byte) error {
	pause := time.NewTicker(20 * time.Millisecond) // between calls, lest those to a host that is gone are all that the machine does
	defer pause.Stop()
	for n := first; ; n++ {
		c.calls.Add(1)
		h := c.slots[n%instances].Load()
		status, _, text, err := c.w.send(h.URL()+"/api/callout?code="+url.QueryEscape(c.w.keys.Default), c.header, body)
		switch {
		case err == nil && status == http.StatusAccepted:
			c.taken.Add(1)
			return nil
		case err == nil && status != http.StatusServiceUnavailable && status != http.StatusInternalServerError:
			return fmt.Errorf("answered %d: %s", status, text)
		}
		count, _ := c.refused.LoadOrStore(status, new(atomic.Int64))
		count.(*atomic.Int64).Add(1)
		select {
		case <-pause.C:
		case <-c.w.ctx.Done():
			return c.w.ctx.Err()
		}
	}
}

// A verdict is how a ticket of the thousand is closed; its correlation alone says.
func verdict(key string) (how servicenow.Closing, access string, state correlation.State) {
	how = servicenow.Closing{Outcome: servicenow.Complete, Silent: strings.ContainsAny(key[:1], "02468ace")}
	if strings.ContainsAny(key[1:2], "0123") {
		how.Outcome = servicenow.Incomplete
		return how, "Denied", correlation.Denied
	}
	return how, "Delivered", correlation.Resumed
}

// closeAll closes each ticket as it opens, until the context ends. It returns how many it closed, and how many without a word.
func (w *world) closeAll(ctx context.Context, created <-chan struct{}) (closed, silent int) {
	done := map[string]bool{}
	for {
		select {
		case <-created:
		case <-ctx.Done():
			return closed, silent
		}
		for key := range w.serviceNow.Creations() {
			if done[key] {
				continue
			}
			done[key] = true
			how, _, _ := verdict(key)
			for _, t := range w.serviceNow.ByCorrelation(key) {
				if err := w.serviceNow.Close(t.SysID, how); err != nil {
					w.Error(err)
				}
			}
			if closed++; how.Silent {
				silent++
			}
		}
	}
}

// anotherAzurite starts one for this test alone, and returns its connection string: the thousand keep an Azurite busy for a minute or two, and the tests
// of other packages may want theirs.
func anotherAzurite(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(context.Background(), "../../.ci/with-azurite", "sh", "-c", `echo "$AZURITE_CONNECTION_STRING" && exec cat`)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close() // it ends with its command
		_ = cmd.Wait()
	})
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "DefaultEndpointsProtocol=") {
			return lines.Text()
		}
	}
	t.Fatal("Azurite does not start")
	return ""
}

func TestAThousandCalloutsThroughThreeHandlersThatAreKilledAtRandom(t *testing.T) {
	// Not beside other tests: it is work enough for a machine.
	const seed = 1
	began := time.Now()
	w := newWorld(t, plan{
		hosts: instances, patience: 6 * time.Minute, azurite: anotherAzurite(t),
		app: func(hostJSON map[string]any) {
			soonAgain(hostJSON)
			hostJSON["extensions"].(map[string]any)["queues"].(map[string]any)["maxPollingInterval"] = "00:00:01"
		},
		settings: map[string]string{
			"LOG_LEVEL": "info", "CHECK_INTERVAL": "20s", "SWEEP_SCHEDULE": "*/5 * * * * *",
			"SERVICENOW_TIMEOUT": "5s", "SERVICENOW_SETTLE": "2s", "GRAPH_TIMEOUT": "3s",
		},
	})
	c := &crowd{w: w, turn: make(chan struct{}, 3)}
	c.header = http.Header{"Authorization": {"Bearer " + w.entra.IssueToken(entra.Token{Audience: audience, AppID: entra.CallerID, Lifetime: time.Hour})}}
	for n := range instances {
		c.slots[n].Store(w.host(n))
	}
	created := make(chan struct{}, thousand*2)
	w.serviceNow.Faults.Add(misbehave.Fault{Match: creation, AfterHandle: func() { created <- struct{}{} }})
	closing, stopClosing := context.WithCancel(w.ctx)
	defer stopClosing()
	var people sync.WaitGroup
	var closed, silent int
	people.Go(func() { closed, silent = w.closeAll(closing, created) })

	// The callouts come one after the other, so that they are everywhere on their way for as long as there are kills.
	policy := w.intermediary(c.take)
	people.Go(func() {
		next := time.NewTicker(killing * 3 / 4 / thousand)
		defer next.Stop()
		for range thousand {
			if _, err := w.entra.Submit(entra.NewRequest{Policy: policy, Target: w.sample.Robin.ObjectID}); err != nil {
				w.Error(err)
			}
			select {
			case <-next.C:
			case <-closing.Done():
				return
			}
		}
	})

	kills, restarts := c.havoc(seed)
	w.every(time.Second, "all to end", func() bool {
		told := 0
		for _, r := range w.entra.Resumes("") {
			if r.Accepted {
				told++
			}
		}
		return told >= thousand
	})
	ended := time.Since(began)
	w.every(time.Second, "the last to be on record as ended", func() bool {
		open, _, err := w.store.Open(w.ctx, "", 0)
		w.check(err)
		return len(open) == 0
	})
	stopClosing()
	people.Wait()

	resumed, denied := w.judgeThousand()
	var refusals []string
	c.refused.Range(func(status, n any) bool {
		refusals = append(refusals, fmt.Sprintf("%d × %d", n.(*atomic.Int64).Load(), status))
		return true
	})
	t.Logf("counts: %d callouts × %d hosts: %d calls, %d answered 202, else %s (0: the connection broke)", thousand, instances, c.calls.Load(), c.taken.Load(), strings.Join(refusals, ", "))
	t.Logf("counts: %d kills in %v (seed %d), %d hosts ended and were replaced; %d tickets closed, %d of them without a word", kills, killing, seed, restarts, closed, silent)
	t.Logf("counts: %d resumed, %d denied, none doubled; all had ended after %v, all was judged after %v", resumed, denied, ended.Round(time.Second), time.Since(began).Round(time.Second))
}

// havoc kills handlers at random for a minute, and puts a new host in the place of one that ends, as Azure does.
func (c *crowd) havoc(seed uint64) (kills, restarts int) {
	w := c.w
	r := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // kills that can be repeated
	over := time.NewTimer(killing)
	defer over.Stop()
	for {
		next := time.NewTimer(time.Duration(200+r.IntN(1600)) * time.Millisecond)
		select {
		case <-next.C:
			c.slots[r.IntN(instances)].Load().Kill()
			kills++
		case <-over.C:
			next.Stop()
			restarts += c.replace()
			if kills < 30 || restarts < 3 {
				w.Errorf("%d kills and %d hosts that ended: that is no havoc", kills, restarts)
			}
			return kills, restarts
		}
		restarts += c.replace()
	}
}

// replace puts a new host in the place of each that has ended.
func (c *crowd) replace() (replaced int) {
	for n := range instances {
		select {
		case <-c.slots[n].Load().Done():
			c.slots[n].Store(c.w.start())
			replaced++
		default:
		}
	}
	return replaced
}

// judgeThousand compares the stand-ins' records with what they must be: each request ended as its ticket did, none has two of anything.
func (w *world) judgeThousand() (resumed, denied int) {
	w.Helper()
	took := map[string]int{}
	for _, r := range w.entra.Resumes("") {
		if r.Accepted {
			took[fmtKey(r.Request, r.StageInstance)]++
		}
	}
	created := w.serviceNow.Creations()
	if len(created) != thousand {
		w.Errorf("tickets for %d callouts, not for %d", len(created), thousand)
	}
	type mine struct {
		key   correlation.Key
		state correlation.State
	}
	records := make(chan mine)
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			for m := range records {
				w.judgeRecord(m.key, m.state)
			}
		})
	}
	for _, r := range w.entra.Requests() {
		key := fmtKey(r.ID, r.Callouts[0].ID)
		_, access, state := verdict(key)
		if r.MyAccess != access {
			w.Errorf("%s: My Access shows %q, and its ticket says %q", key, r.MyAccess, access)
		}
		if created[key] != 1 || took[key] != 1 {
			w.Errorf("%s: %d tickets were created, Graph took %d answers", key, created[key], took[key])
		}
		if state == correlation.Resumed {
			resumed++
		} else {
			denied++
		}
		records <- mine{correlation.Key{Request: r.ID, Stage: r.Callouts[0].ID}, state}
	}
	close(records)
	readers.Wait()
	return resumed, denied
}

// judgeRecord says what is wrong with the handler's own record.
func (w *world) judgeRecord(key correlation.Key, state correlation.State) {
	c, err := w.store.Load(w.ctx, key)
	if err != nil || c.State != state {
		w.Errorf("%s is not on record as %s: %+v (%v)", key, state, c, err)
		return
	}
	if !strings.HasPrefix(key.Request, "7") { // Azurite reads a whole table for each timeline: one of sixteen is looked at
		return
	}
	events, err := w.store.Timeline(w.ctx, key)
	if err != nil {
		w.Error(err)
		return
	}
	s := stage{State: string(c.State)}
	for _, e := range events {
		s.Timeline = append(s.Timeline, event{Seq: e.Seq, At: e.At, Kind: e.Kind, From: string(e.From), To: string(e.To), Text: e.Text})
	}
	for _, wrong := range gaps(s) {
		w.Errorf("the timeline of %s: %s", key, wrong)
	}
}
