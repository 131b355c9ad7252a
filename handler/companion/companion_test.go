package companion_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ticketbridge/handler/callers"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/simulator/servicenow"
)

var complete = servicenow.Closing{Outcome: servicenow.Complete}

// The ways in which the app proves its calls, with what our endpoint is set to ask for.
var proofs = map[string]struct {
	close      callers.Config
	properties map[string]string
}{
	"function key":         {callers.Config{}, map[string]string{"proof": "function_key"}},
	"signature":            {callers.Config{HMACKeys: hmacKey}, map[string]string{"proof": "hmac", "hmac_key": hmacKey}},
	"OAuth profile":        {callers.Config{Audience: audience, Callers: []string{closerID}}, map[string]string{"proof": "oauth", "oauth_profile": oauthProfile}},
	"nothing set but keys": {callers.Config{}, map[string]string{"proof": ""}},
}

func TestAClosedTicketResumesItsRequestByEachWayOfProof(t *testing.T) {
	t.Parallel()
	for name, p := range proofs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, p.close, func(w *world) {
				for name, value := range p.properties {
					w.set(name, value)
				}
				key, ticket := w.opened()
				w.instance.close(ticket.SysID, complete)
				w.want(w.instance.row(), map[string]string{
					"state": "acknowledged", "attempts": "1", "last_status": "202", "last_error": "",
					"ticket_table": "sc_request", "ticket_sys_id": ticket.SysID, "ticket_number": ticket.Number, "correlation_id": key.String(),
				})
				w.work()
				if w.resumed(key) != 1 || w.state(key) != correlation.Resumed {
					w.Errorf("resumed %d times, and it is %s", w.resumed(key), w.state(key))
				}
				w.pass(2 * time.Hour)
				if d := cmp.Diff([]int{202}, w.door.statuses()); d != "" {
					w.Errorf("the calls that came (- as it should be, + as it was):\n%s", d)
				}
			})
		})
	}
}

// The name of the class depends on the release and the scope.
func TestTheSignatureIsMadeByWhicheverClassTheInstanceHas(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{HMACKeys: hmacKey}, func(w *world) {
		w.set("proof", "hmac")
		w.set("hmac_key", hmacKey)
		w.instance.global = true
		_, ticket := w.opened()
		w.instance.close(ticket.SysID, complete)
		w.want(w.instance.row(), map[string]string{"state": "acknowledged"})
	})
}

func TestTheBodyIsWhatTheEndpointExpectsAndNotXMLEscaped(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{HMACKeys: hmacKey}, func(w *world) {
		w.set("proof", "hmac")
		w.set("hmac_key", hmacKey)
		id := "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11/c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77/2"
		sysID, err := w.instance.tickets.Insert("sc_request", map[string]string{"correlation_display": "ticketbridge", "correlation_id": id, "number": `R&D <"é€'>`})
		w.check(err)
		w.instance.close(sysID, complete)
		w.want(w.instance.row(), map[string]string{"state": "acknowledged", "last_status": "202"})
		if len(w.door.calls) != 1 {
			w.Fatalf("%d calls", len(w.door.calls))
		}
		got := w.door.calls[0]
		if want := `{"table":"sc_request","sys_id":"` + sysID + `","number":"R&D <\"\u00e9\u20ac'>","state":"3","correlation_id":"` + id + `"}`; got.body != want {
			w.Errorf("sent %s\nwant %s", got.body, want)
		}
		for name, want := range map[string]string{"Content-Type": "application/json", "Accept": "application/json", "X-Functions-Key": functionKey} {
			if got.header.Get(name) != want {
				w.Errorf("%s is %q, not %q", name, got.header.Get(name), want)
			}
		}
		if stamp := got.header.Get("X-Ticketbridge-Timestamp"); stamp != strconv.FormatInt(got.at.Unix(), 10) {
			w.Errorf("the timestamp is %s at %d", stamp, got.at.Unix())
		}
	})
}

func TestWhileTheEndpointIsDownTheOutboxTriesAgainLessAndLessOften(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(w *world){
		"calls answer with the status 0": func(*world) {},
		"calls throw":                    func(w *world) { w.instance.throws = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, callers.Config{}, func(w *world) {
				change(w)
				key, ticket := w.opened()
				w.door.down = true
				w.instance.close(ticket.SysID, complete)
				w.want(w.instance.row(), map[string]string{"state": "waiting", "attempts": "1", "last_status": "0"})
				if w.instance.row()["last_error"] == "" {
					w.Error("the row does not say why")
				}
				// Attempts after 1, 2, 4, 8, 16, 32 and then every 60 minutes: seven in the first hour and a bit, and one each hour.
				w.pass(64 * time.Minute)
				w.want(w.instance.row(), map[string]string{"state": "waiting", "attempts": "7"})
				w.pass(3 * time.Hour)
				w.want(w.instance.row(), map[string]string{"state": "waiting", "attempts": "10"})
				w.work()
				if w.resumed(key) != 0 {
					w.Error("resumed, although nobody was told")
				}
				w.door.down = false
				w.pass(time.Hour)
				w.want(w.instance.row(), map[string]string{"state": "acknowledged", "attempts": "11", "last_status": "202", "last_error": ""})
				w.work()
				w.pass(2 * time.Hour)
				if w.resumed(key) != 1 || len(w.door.calls) != 1 {
					w.Errorf("resumed %d times after %v", w.resumed(key), w.door.statuses())
				}
			})
		})
	}
}

// Whoever dies between the row and the call, or in the call, leaves a row that the scheduled script finds.
func TestARowWhoseSenderDiedIsSentByTheScheduledScript(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{}, func(w *world) {
		key, ticket := w.opened()
		w.check(w.instance.tickets.Close(ticket.SysID, complete))
		after := w.instance.ticket(ticket.SysID)
		w.instance.run("new TicketbridgeOutbox().enqueue(current);", &after, nil)
		w.want(w.instance.row(), map[string]string{"state": "waiting", "attempts": "0"})
		w.instance.job("Ticketbridge: send again") // at once: the sender may still be at work
		w.want(w.instance.row(), map[string]string{"state": "waiting", "attempts": "0"})
		w.pass(time.Minute)
		w.want(w.instance.row(), map[string]string{"state": "acknowledged", "attempts": "1"})
		w.work()
		if w.resumed(key) != 1 {
			w.Errorf("resumed %d times", w.resumed(key))
		}
	})
}

func TestARowWhoseSenderDiesInTheCallIsTriedAgainLessAndLessOften(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{}, func(w *world) {
		_, ticket := w.opened()
		w.instance.dies = true
		w.instance.close(ticket.SysID, complete)
		w.pass(30 * time.Minute)
		w.want(w.instance.row(), map[string]string{"state": "waiting", "attempts": "5"}) // after 1, 3, 7, 15 minutes
		w.instance.dies = false
		w.pass(time.Minute)
		w.want(w.instance.row(), map[string]string{"state": "acknowledged", "attempts": "6"})
	})
}

func TestARefusalIsVisibleInTheOutboxAndEndsAsFailed(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{}, func(w *world) {
		w.set("function_key", "an old key")
		w.set("max_attempts", "4")
		key, ticket := w.opened()
		w.instance.close(ticket.SysID, complete)
		w.want(w.instance.row(), map[string]string{"state": "waiting", "attempts": "1", "last_status": "401"})
		w.pass(2 * time.Hour)
		w.want(w.instance.row(), map[string]string{"state": "failed", "attempts": "4", "last_status": "401"})
		if len(w.instance.errors) != 1 || !strings.Contains(w.instance.errors[0], ticket.Number) {
			w.Errorf("logged %q", w.instance.errors)
		}
		if d := cmp.Diff([]int{401, 401, 401, 401}, w.door.statuses()); d != "" {
			w.Errorf("the calls (- as they should be, + as they were):\n%s", d)
		}
		// Somebody mends the key, and sets the row to Waiting again.
		w.set("function_key", functionKey)
		w.instance.row()["state"], w.instance.row()["attempts"] = "waiting", "0"
		w.pass(time.Minute)
		w.want(w.instance.row(), map[string]string{"state": "acknowledged", "last_status": "202"})
		w.work()
		if w.resumed(key) != 1 {
			w.Errorf("resumed %d times", w.resumed(key))
		}
	})
}

func TestAWrongSignatureIsRefusedAndResumesNothing(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{HMACKeys: hmacKey}, func(w *world) {
		w.set("proof", "hmac")
		w.set("hmac_key", otherKey)
		key, ticket := w.opened()
		w.instance.close(ticket.SysID, complete)
		w.want(w.instance.row(), map[string]string{"state": "waiting", "last_status": "401"})
		if !strings.Contains(w.instance.row()["last_error"], "X-Ticketbridge-Signature") {
			w.Errorf("the row does not say what is wrong: %s", w.instance.row()["last_error"])
		}
		w.work()
		if w.resumed(key) != 0 || w.state(key) != correlation.Open {
			w.Errorf("resumed %d times, and it is %s", w.resumed(key), w.state(key))
		}
	})
}

// The new key is added on our side, then set on the instance, then the old one is removed.
func TestTheSigningKeyIsReplacedWithoutALostCall(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{HMACKeys: hmacKey + " " + otherKey}, func(w *world) {
		w.set("proof", "hmac")
		for _, key := range []string{hmacKey, otherKey} {
			w.set("hmac_key", key)
			_, ticket := w.opened()
			w.instance.close(ticket.SysID, complete)
		}
		if d := cmp.Diff([]int{202, 202}, w.door.statuses()); d != "" {
			w.Errorf("the calls (- as they should be, + as they were):\n%s", d)
		}
	})
}

func TestATokenOfSomebodyElseIsRefused(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{Audience: audience, Callers: []string{bridgeID}}, func(w *world) {
		w.set("proof", "oauth")
		w.set("oauth_profile", oauthProfile)
		key, ticket := w.opened()
		w.instance.close(ticket.SysID, complete)
		w.want(w.instance.row(), map[string]string{"state": "waiting", "last_status": "403"})
		w.work()
		if w.resumed(key) != 0 {
			w.Error("resumed")
		}
	})
}

func TestNothingIsSentWhileAPropertyIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ property, value, says string }{
		"no URL":            {"close_url", "", "x_tkbr_bridge.close_url"},
		"a URL of http":     {"close_url", "http://ticketbridge.example/api/ticket-closed", "x_tkbr_bridge.close_url"},
		"no function key":   {"function_key", "", "x_tkbr_bridge.function_key"},
		"no signing key":    {"proof", "hmac", "x_tkbr_bridge.hmac_key"},
		"no OAuth profile":  {"proof", "oauth", "x_tkbr_bridge.oauth_profile"},
		"an unknown proof":  {"proof", "trust me", "x_tkbr_bridge.proof"},
		"blanks for a key":  {"function_key", "  ", "x_tkbr_bridge.function_key"},
		"nothing but a key": {"close_url", "ticketbridge.example", "x_tkbr_bridge.close_url"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, callers.Config{}, func(w *world) {
				w.set(c.property, c.value)
				_, ticket := w.opened()
				w.instance.close(ticket.SysID, complete)
				w.want(w.instance.row(), map[string]string{"state": "waiting", "last_status": "-1"})
				if !strings.Contains(w.instance.row()["last_error"], c.says) || len(w.door.calls) != 0 {
					w.Errorf("%d calls; the row says %q", len(w.door.calls), w.instance.row()["last_error"])
				}
				w.set("close_url", closeURL)
				w.set("function_key", functionKey)
				w.set("proof", "function_key")
				w.pass(time.Minute)
				w.want(w.instance.row(), map[string]string{"state": "acknowledged"})
			})
		})
	}
}

func TestABusyEndpointIsGivenTheTimeItAsksFor(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{}, func(w *world) {
		_, ticket := w.opened()
		w.door.status, w.door.after = http.StatusServiceUnavailable, "600"
		w.instance.close(ticket.SysID, complete)
		w.door.status = 0
		w.pass(9 * time.Minute)
		w.want(w.instance.row(), map[string]string{"state": "waiting", "attempts": "1", "last_status": "503"})
		w.pass(time.Minute)
		w.want(w.instance.row(), map[string]string{"state": "acknowledged", "attempts": "2"})
	})
}

func TestATicketThatIsNotOursIsNotSent(t *testing.T) {
	t.Parallel()
	const ours = "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11/c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77"
	for name, fields := range map[string]map[string]string{
		"no correlation":        {},
		"another system's":      {"correlation_display": "monitoring", "correlation_id": "alert/42"},
		"another kind of id":    {"correlation_display": "ticketbridge", "correlation_id": "INC-42"},
		"an id with more in it": {"correlation_display": "ticketbridge", "correlation_id": ours + "/2x"},
		"no id":                 {"correlation_display": "ticketbridge"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, callers.Config{}, func(w *world) {
				for _, table := range []string{"sc_request", "incident"} {
					sysID, err := w.instance.tickets.Insert(table, fields)
					w.check(err)
					w.instance.close(sysID, complete)
				}
				w.pass(2 * time.Minute)
				if len(w.instance.outbox) != 0 || len(w.door.calls) != 0 {
					w.Errorf("%v, and %d calls", w.instance.outbox, len(w.door.calls))
				}
			})
		})
	}
}

// Each kind of ticket closes in its own way; changes of an open one are nobody's business.
func TestEveryKindOfTicketIsNoticedWhenItClosesAndNotBefore(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{}, func(w *world) {
		n := 0
		for _, table := range []string{"sc_request", "sc_req_item", "sc_task", "incident", "change_request", "task"} {
			for _, how := range []servicenow.Outcome{servicenow.Complete, servicenow.Incomplete, servicenow.Cancelled, servicenow.Rejected} {
				n++
				id := "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11/c0a6e2d4-52f7-4a9e-8f0e-" + strings.Repeat("0", 9) + strconv.Itoa(100+n)
				sysID, err := w.instance.tickets.Insert(table, map[string]string{"correlation_id": id}) // what else is in it is for tickets.yaml to say
				w.check(err)
				w.instance.close(sysID, servicenow.Closing{Fields: map[string]string{"state": "2", "short_description": "being worked on"}})
				w.instance.close(sysID, servicenow.Closing{Notes: "nearly"})
				if len(w.door.calls) != n-1 {
					w.Fatalf("%s: told before it was closed", table)
				}
				w.instance.close(sysID, servicenow.Closing{Outcome: how})
				w.instance.close(sysID, servicenow.Closing{Notes: "later"}) // closed already, and nothing that matters changes
				if len(w.door.calls) != n {
					w.Fatalf("%s %s: %d calls, not %d", table, how, len(w.door.calls), n)
				}
				var said map[string]string
				w.check(json.Unmarshal([]byte(w.door.calls[n-1].body), &said))
				if said["table"] != table || said["sys_id"] != sysID || said["correlation_id"] != id {
					w.Errorf("%s: said %v", table, said)
				}
			}
		}
	})
}

// An item whose approval was rejected may stay active, until its flow or nobody ends it.
func TestARejectionIsToldAlthoughTheTicketStaysActive(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{}, func(w *world) {
		id := "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11/c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77"
		sysID, err := w.instance.tickets.Insert("sc_req_item", map[string]string{"correlation_display": "ticketbridge", "correlation_id": id})
		w.check(err)
		w.instance.close(sysID, servicenow.Closing{Fields: map[string]string{"approval": "rejected"}})
		if !w.instance.ticket(sysID).Active {
			w.Fatal("the stand-in ended the ticket: it shows nothing here")
		}
		w.want(w.instance.row(), map[string]string{"state": "acknowledged"})
	})
}

func TestAnIncidentIsToldWhenResolvedAndAgainWhenClosed(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{}, func(w *world) {
		id := "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11/c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77"
		sysID, err := w.instance.tickets.Insert("incident", map[string]string{"correlation_display": "ticketbridge", "correlation_id": id})
		w.check(err)
		w.instance.close(sysID, complete)
		w.instance.close(sysID, servicenow.Closing{Fields: map[string]string{"state": "7"}})
		if d := cmp.Diff([]int{202, 202}, w.door.statuses()); d != "" || !strings.Contains(w.door.calls[0].body, `"state":"6"`) || !strings.Contains(w.door.calls[1].body, `"state":"7"`) {
			w.Errorf("%v", w.door.calls)
		}
	})
}

// What changes before ticketbridge has heard is said once, as it is then.
func TestATicketThatChangesWhileItsRowWaitsHasOneRow(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{}, func(w *world) {
		key, ticket := w.opened()
		w.door.down = true
		w.instance.close(ticket.SysID, servicenow.Closing{Outcome: servicenow.Incomplete})
		w.instance.close(ticket.SysID, complete)
		w.want(w.instance.row(), map[string]string{"state": "waiting", "attempts": "2", "ticket_state": "3"})
		w.door.down = false
		w.pass(time.Hour)
		w.want(w.instance.row(), map[string]string{"state": "acknowledged"})
		w.work()
		if len(w.door.calls) != 1 || w.resumed(key) != 1 {
			w.Errorf("%d calls, resumed %d times", len(w.door.calls), w.resumed(key))
		}
	})
}

// Each call that nobody answers takes its time-out: a run of the scheduled script must not take as long as the outbox is full.
func TestARunEndsAfterAFewSilentCallsAndGetsToEveryRowInTime(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{}, func(w *world) {
		w.door.down = true
		for n := range 20 {
			id := "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11/c0a6e2d4-52f7-4a9e-8f0e-" + strings.Repeat("0", 9) + strconv.Itoa(100+n)
			sysID, err := w.instance.tickets.Insert("sc_task", map[string]string{"correlation_display": "ticketbridge", "correlation_id": id})
			w.check(err)
			w.instance.close(sysID, complete)
		}
		attempts := func() int {
			sum := 0
			for _, row := range w.instance.outbox {
				sum += number(row["attempts"])
			}
			return sum
		}
		before := attempts()
		w.pass(time.Minute)
		if made := attempts() - before; made != 3 {
			w.Errorf("%d attempts in a run without any answer", made)
		}
		w.door.down = false
		w.pass(3 * time.Minute)
		for _, row := range w.instance.outbox {
			w.want(row, map[string]string{"state": "acknowledged"})
		}
	})
}

func TestWhatWasAcknowledgedLongAgoIsRemovedAndWhatFailedStays(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{}, func(w *world) {
		w.set("keep_days", "10")
		_, first := w.opened()
		w.instance.close(first.SysID, complete)
		w.set("max_attempts", "1")
		_, second := w.opened()
		w.door.status = http.StatusBadRequest
		w.instance.close(second.SysID, complete)
		states := func() []string {
			w.instance.job("Ticketbridge: remove what was acknowledged long ago")
			var out []string
			for _, row := range w.instance.outbox {
				out = append(out, row["state"])
			}
			return out
		}
		time.Sleep(9 * 24 * time.Hour)
		if got := states(); !slices.Equal(got, []string{"acknowledged", "failed"}) {
			w.Errorf("after nine days: %v", got)
		}
		time.Sleep(365 * 24 * time.Hour)
		if got := states(); !slices.Equal(got, []string{"failed"}) {
			w.Errorf("after a year: %v", got)
		}
	})
}

// The instance's own test, which the package brings along, holds here as well.
func TestThePackagesOwnTestHolds(t *testing.T) {
	t.Parallel()
	inWorld(t, callers.Config{}, func(w *world) {
		_, err := w.instance.tickets.Insert("incident", map[string]string{
			"correlation_display": "ticketbridge",
			"correlation_id":      "00000000-0000-4000-8000-000000000001/00000000-0000-4000-8000-000000000002",
		})
		w.check(err)
		asserted := 0
		w.instance.run(w.instance.app.scripts()["test step"], nil, map[string]any{
			"outputs": map[string]any{}, "steps": nil, "params": map[string]any{}, "stepResult": map[string]any{},
			"assertEqual": func(a map[string]any) {
				asserted++
				if a["value"] != a["shouldbe"] {
					w.Errorf("%s: %v, not %v", a["name"], a["value"], a["shouldbe"])
				}
			},
		})
		if asserted != 7 || len(w.door.calls) != 0 {
			w.Errorf("%d assertions, %d calls", asserted, len(w.door.calls))
		}
	})
}
