package correlation

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ticketbridge/handler/fault"
)

const (
	request = "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11"
	stage   = "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77"
)

func TestKeysAreGUIDsInOneSpelling(t *testing.T) {
	t.Parallel()
	k, err := NewKey(" "+strings.ToUpper(request)+" ", stage)
	if err != nil || k.String() != request+"/"+stage || len(k.String()) != 73 {
		t.Fatalf("got %q, %v", k, err)
	}
	for _, bad := range []string{"", "x", "{" + request + "}", strings.ReplaceAll(request, "-", ""), request[:35] + "g", request + "'", "../" + request[3:]} {
		if _, err := NewKey(bad, stage); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "AccessPackageAssignmentRequestId") {
			t.Errorf("%q: %v", bad, err)
		}
		if _, err := NewKey(request, bad); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "CustomExtensionStageInstanceId") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestATicketsIdLeadsBackToItsCorrelation(t *testing.T) {
	t.Parallel()
	k, _ := NewKey(request, stage)
	seen := map[string]bool{}
	for i := range 20 {
		id := k.TicketID(i)
		if seen[id] || len(id) > 100 {
			t.Errorf("ticket %d has id %q", i, id)
		}
		seen[id] = true
		if back, err := ParseTicketID(id); err != nil || back != k {
			t.Errorf("%q: %v, %v", id, back, err)
		}
	}
	for _, bad := range []string{"", request, request + "/", "a/b", stage + "^active=true/" + request} {
		if _, err := ParseTicketID(bad); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestNoMoveLeavesAnEndAndOnlyAFulfilledPathResumes(t *testing.T) {
	t.Parallel()
	for _, from := range States {
		for _, to := range States {
			may := from.MayBecome(to)
			if from.Ended() && may {
				t.Errorf("%s is an end, and may become %s", from, to)
			}
			if (to == Resumed || to == Denied) && may && from != Resuming {
				t.Errorf("%s may become %s without an intent on record", from, to)
			}
			if !from.Ended() && from != to && (to == Expired || to == Withdrawn) && !may {
				t.Errorf("%s cannot become %s, though Entra may say so at any time", from, to)
			}
		}
	}
}

func TestTheTimelineHasNoGapsWhateverHappens(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		now := time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)
		k, _ := NewKey(request, stage)
		c := New(k, now, "received", "i")
		var all []Event
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Second)
			before := c.State
			switch rapid.IntRange(0, 4).Draw(t, "what") {
			case 0:
				to := rapid.SampledFrom(States).Draw(t, "to")
				err := c.Move(to, now, "moved", "i")
				if legal := before.MayBecome(to); legal != (err == nil) {
					t.Fatalf("%s to %s: %v", before, to, err)
				}
				if err != nil && c.State != before {
					t.Fatal("a refused move changed the state")
				}
				if err == nil && (c.LeaseOwner != "" || c.Attempts != 0) {
					t.Fatal("a move kept the lease or the attempts of the step before")
				}
			case 1:
				c.Attempted(now, now.Add(time.Minute), &fault.Error{Reason: fault.Unreachable}, "i")
			case 2:
				c.Note(now, "seen", "i")
			case 3:
				c.Lease("w", now.Add(time.Minute))
			case 4:
				all = append(all, c.Pending()...)
				c.Flushed("v")
			}
		}
		all = append(all, c.Pending()...)
		if len(all) != c.Events {
			t.Fatalf("%d events, counted %d", len(all), c.Events)
		}
		state := State("")
		for i, e := range all {
			if e.Seq != i+1 {
				t.Fatalf("event %d has number %d", i+1, e.Seq)
			}
			if e.From != state {
				t.Fatalf("event %d leaves %q, but the state was %q", e.Seq, e.From, state)
			}
			state = e.To
		}
		if state != c.State {
			t.Fatalf("the timeline ends in %s, the state is %s", state, c.State)
		}
	})
}

func TestTogetherTicketsAreFulfilledOnlyWhenEachIs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		outcomes := rapid.SliceOfN(rapid.SampledFrom([]Outcome{Pending, Fulfilled, Rejected, Unknown, ""}), 0, 5).Draw(t, "outcomes")
		var tickets []Ticket
		count := map[Outcome]int{}
		for _, o := range outcomes {
			tickets = append(tickets, Ticket{Outcome: o})
			count[o]++
		}
		got := Judge(tickets)
		switch {
		case len(outcomes) == 0:
			if got != Unknown {
				t.Fatalf("no ticket is %s", got)
			}
		case count[Pending]+count[""] > 0:
			if got != Pending {
				t.Fatalf("%v is %s", outcomes, got)
			}
		case (got == Fulfilled) != (count[Fulfilled] == len(outcomes)):
			t.Fatalf("%v is %s", outcomes, got)
		}
	})
}

func TestALeaseKeepsOthersOutUntilItEnds(t *testing.T) {
	t.Parallel()
	now := time.Now()
	k, _ := NewKey(request, stage)
	c := New(k, now, "received", "i")
	c.Lease("a", now.Add(time.Minute))
	if c.LeasedBy("a", now) != 0 || c.LeasedBy("b", now) != time.Minute || c.LeasedBy("b", now.Add(time.Minute)) != 0 {
		t.Error("the lease does not hold as it should")
	}
}

func TestNothingIsSettledBeforeItsTicketsKnowIt(t *testing.T) {
	t.Parallel()
	k, _ := NewKey(request, stage)
	ended := func(to State, tickets ...Ticket) *Correlation {
		c := New(k, time.Now(), "received", "i")
		c.State, c.Tickets = to, tickets
		return c
	}
	open := Ticket{SysID: "1", Outcome: Pending}
	for _, to := range States {
		c := ended(to, Ticket{SysID: "1", Outcome: Fulfilled}, open, Ticket{Outcome: Pending}, Ticket{SysID: "3", Outcome: Rejected, Noted: to})
		c.Owe()
		if !c.Tickets[0].Owed || c.Tickets[1].Owed || c.Tickets[2].Owed || c.Tickets[3].Owed {
			t.Errorf("%s: owed %+v", to, c.Tickets)
		}
		if now := len(c.Owing()) == 1 && c.Owing()[0] == 0; now != (to.Ended() || to == Held) || !now && len(c.Owing()) > 0 {
			t.Errorf("%s: owing %v", to, c.Owing())
		}
		if left := len(c.Untold()) == 1; left != (to.Ended() && to != Done) || left && c.Untold()[0] != 1 {
			t.Errorf("%s: untold %v", to, c.Untold())
		}
		if c.Settled() {
			t.Errorf("%s: settled, and a ticket is owed a note", to)
		}
		c.Tickets[1].Told = true
		if c.Settled() {
			t.Errorf("%s: settled, and a closed ticket is owed a note", to)
		}
		c.Forgive()
		if c.Settled() != to.Ended() {
			t.Errorf("%s: settled %t", to, c.Settled())
		}
	}
}

// What a person has to decide is not hidden by a note that does not work.
func TestTheAdviceOfAHeldOneIsNotThatOfItsNotes(t *testing.T) {
	t.Parallel()
	k, _ := NewKey(request, stage)
	now := time.Now()
	c := New(k, now, "received", "i")
	c.State = Open
	if err := c.Hold(now, "odd", "decide", "i"); err != nil {
		t.Fatal(err)
	}
	away := &fault.Error{Reason: fault.Unreachable, Advice: "wait"}
	c.Attempted(now, now.Add(time.Minute), away, "i")
	c.Paused(now, now.Add(time.Minute), &fault.Error{Reason: fault.Paused, Advice: "wait"}, "i")
	if c.Advice != "decide" || c.Attempts != 1 || c.LastReason != fault.Paused {
		t.Errorf("%q, %d, %s", c.Advice, c.Attempts, c.LastReason)
	}
	c.Recovered(now, "i")
	if c.Advice != "decide" || c.Reason != "odd" || c.Attempts != 0 || c.LastReason != "" || !c.NextAttempt.IsZero() {
		t.Errorf("%q, %q, %d, %s", c.Advice, c.Reason, c.Attempts, c.LastReason)
	}
}
