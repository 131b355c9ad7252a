package servicenow

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/misbehave"
	standin "ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/ticket"
)

func TestCreateReturnsTheTicketAsServiceNowHasIt(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	rec := s.create()
	have, err := s.Ticket(rec.SysID)
	if err != nil {
		t.Fatal(err)
	}
	if have.Table != "sc_request" || have.CorrelationID != correlationID || have.Number != rec.Number || rec.Table != "sc_request" || rec.CorrelationID != correlationID {
		t.Errorf("created %+v, returned %+v", have, rec)
	}
	for _, column := range []string{"short_description", "description", "correlation_display", "requested_for"} {
		if have.Fields[column] != draft.Fields[column] {
			t.Errorf("%s is %q, want %q", column, have.Fields[column], draft.Fields[column])
		}
	}
	if _, kept := draft.Fields["correlation_id"]; kept {
		t.Error("the draft was changed")
	}
	if want := "https://instance.example/nav_to.do?uri=%2Fsc_request.do%3Fsys_id%3D" + rec.SysID; rec.Link != want {
		t.Errorf("link %s, want %s", rec.Link, want)
	}
	found, err := s.Find(t.Context(), "sc_request", correlationID)
	if diff := cmp.Diff([]ticket.Record{rec}, found); err != nil || diff != "" {
		t.Errorf("found another than was created: %v\n%s", err, diff)
	}
}

func TestATicketNeedsNoFields(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	if rec, err := s.Create(t.Context(), ticket.Draft{Table: "incident"}, correlationID); err != nil || len(s.ByCorrelation(correlationID)) != 1 || !strings.HasPrefix(rec.Number, "INC") {
		t.Errorf("created %+v, %v", rec, err)
	}
}

// Each of these is repeated by the workflow only after a look, so the number of records that exist must be known to the test.
func TestCreateIsUnclearUnlessTheOutcomeIsCertain(t *testing.T) {
	t.Parallel()
	post := "POST " + requests
	for name, tc := range map[string]struct {
		fault   misbehave.Fault
		created int
		detail  string
	}{
		"202, which drops the call":             {misbehave.Fault{Match: post, Status: 202}, 0, "201 is expected"},
		"200 in place of 201":                   {misbehave.Fault{Match: post, Status: 200, TakeEffect: true, Body: `{"result":{"sys_id":"` + aliceID + `"}}`}, 1, "201 is expected"},
		"201 without a record":                  {misbehave.Fault{Match: post, Status: 201, TakeEffect: true, Body: `{"result":[]}`}, 1, "not one of the Table API"},
		"201 without JSON":                      {misbehave.Fault{Match: post, Status: 201, TakeEffect: true, Body: `{"result":{"sys_id":"`}, 1, "not one of the Table API"},
		"201 with an error behind the record":   {misbehave.Fault{Match: post, Status: 201, TakeEffect: true, Body: `{"result":{"sys_id":"` + aliceID + `"},"error":{"message":"Transaction cancelled"},"status":"failure"}`}, 1, "Transaction cancelled"},
		"201 with an error that is a text":      {misbehave.Fault{Match: post, Status: 201, TakeEffect: true, Body: `{"result":{"sys_id":"` + aliceID + `"},"error":"cut"}`}, 1, "cut"},
		"a cancelled transaction that was done": {standin.CancelledTransaction(post, 0, true), 1, "Transaction cancelled"},
		"a cancelled transaction":               {standin.CancelledTransaction(post, 0, false), 0, "Transaction cancelled"},
		"a lost answer":                         {misbehave.Fault{Match: post, LoseAnswer: true}, 1, "cut"},
		"a cut connection":                      {misbehave.Fault{Match: post, DropCall: true}, 0, "cut"},
		"a gateway that gave up":                {misbehave.Fault{Match: post, Status: 504, TakeEffect: true, ContentType: "text/html", Body: "<html>Gateway Time-out</html>"}, 1, ""},
		"500 after it was done":                 {misbehave.Fault{Match: post, Status: 500, TakeEffect: true}, 1, ""},
		"maintenance":                           {standin.Maintenance(0), 0, ""},
		"an instance asleep":                    {standin.Hibernating(), 0, "a page for people"},
		"an answer that is too large":           {misbehave.Fault{Match: post, Status: 201, TakeEffect: true, Body: `{"result":{"x":"` + strings.Repeat("x", maxAnswer) + `"}}`}, 1, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, nil)
			s.Faults.Add(tc.fault)
			_, err := s.Create(t.Context(), draft, correlationID)
			failed(t, err, fault.Unclear, tc.detail)
			if n := s.Calls()[post]; n != 1 {
				t.Errorf("sent %d times, want once", n)
			}
			s.Faults.Clear()
			found, err := s.Find(t.Context(), "sc_request", correlationID)
			if err != nil || len(found) != tc.created || s.Creations()[correlationID] != tc.created {
				t.Errorf("found %d (%v), want %d", len(found), err, tc.created)
			}
		})
	}
}

// A ticket that cannot be found again must end the attempts, else each makes one more.
func TestCreateNamesATicketThatCannotBeFoundAgain(t *testing.T) {
	t.Parallel()
	field := func(op standin.Operation, name string) []standin.Denial {
		return []standin.Denial{{Table: "task", Operation: op, Field: name}}
	}
	for name, tc := range map[string]struct {
		table  string
		denied []standin.Denial
		reason fault.Reason
		words  []string
	}{
		"correlation_id was cut":         {"u_short", nil, fault.Misconfigured, []string{"TASK", "cut to 40 of 73 characters", correlationID}},
		"correlation_id was dropped":     {"sc_request", field(standin.Write, "correlation_id"), fault.Misconfigured, []string{"REQ", "is empty", correlationID}},
		"correlation_id may not be read": {"sc_request", field(standin.Read, "correlation_id"), fault.Misconfigured, []string{"REQ", "without a correlation_id that we can read", correlationID}},
		"the record may not be read":     {"sc_request", field(standin.Read, "sys_id"), fault.Forbidden, []string{"does not show it"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, nil)
			s.SetDenied("bridge", tc.denied...)
			_, err := s.Create(t.Context(), ticket.Draft{Table: tc.table}, correlationID)
			if e := failed(t, err, tc.reason, tc.words...); e.Reason.Temporary() {
				t.Error("it would be tried again")
			}
			if n := len(s.Tickets("task")); n != 1 {
				t.Errorf("%d tickets, want 1", n)
			}
		})
	}
	c := answered(t, says(201, `{"result":{"sys_id":"`+aliceID+`","correlation_id":"somebody else's"}}`))
	_, err := c.Create(t.Context(), draft, correlationID)
	failed(t, err, fault.Misconfigured, aliceID, "15 characters other than the 73 sent")
}

func TestARuleOfTheInstanceRefusesAndARightForbids(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.SetPolicies(standin.Policy{Table: "sc_request", Operation: standin.Create, Abort: "Access needs a manager"})
	_, err := s.Create(t.Context(), draft, correlationID)
	failed(t, err, fault.Refused, "business rule Access needs a manager said no", "Operation Failed")
	s.SetPolicies(standin.Policy{Table: "sc_request", Operation: standin.Create, Mandatory: []string{"close_notes", "due_date"}})
	_, err = s.Create(t.Context(), draft, correlationID)
	failed(t, err, fault.Refused, "a data policy wants Close notes, Due date")
	s.SetPolicies()
	s.SetDenied("bridge", standin.Denial{Table: "task", Operation: standin.Create})
	_, err = s.Create(t.Context(), draft, correlationID)
	failed(t, err, fault.Forbidden, "lacks a right on sc_request")
	if n := len(s.Tickets("task")); n != 0 {
		t.Errorf("%d tickets", n)
	}

	_, err = s.Create(t.Context(), ticket.Draft{Table: "u_gone"}, correlationID)
	failed(t, err, fault.Misconfigured, "Invalid table u_gone")
	_, err = answered(t, says(403, `{"error":{"message":"Forbidden","detail":null},"status":"failure"}`)).Create(t.Context(), draft, correlationID)
	failed(t, err, fault.Forbidden, "Give the integration user the roles")
	_, err = answered(t, says(403, `<html>IP address not allowed</html>`)).Create(t.Context(), draft, correlationID)
	failed(t, err, fault.Forbidden, "turned away before the API was reached")
}

func TestReadReturnsTheRecordAsItIsNow(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	rec := s.create()
	if err := s.Close(rec.SysID, standin.Closing{Outcome: standin.Complete}); err != nil {
		t.Fatal(err)
	}
	now, err := s.Read(t.Context(), "sc_request", rec.SysID)
	if err != nil || now.Fields["request_state"] != "closed_complete" || now.Fields["state"] != "3" || now.Fields["active"] != "false" || now.Number != rec.Number || now.CorrelationID != correlationID {
		t.Errorf("read %+v, %v", now, err)
	}
	if now, err = s.Read(t.Context(), "task", rec.SysID); err != nil || now.Fields["sys_class_name"] != "sc_request" {
		t.Errorf("read as a task: %+v, %v", now, err)
	}
}

func TestWhatMayNotBeSeenAndWhatWasDeletedIsNotFound(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	rec := s.create()
	absent := func(table string) {
		t.Helper()
		_, err := s.Read(t.Context(), table, rec.SysID)
		failed(t, err, fault.NotFound)
		failed(t, s.Note(t.Context(), table, rec.SysID, "x"), fault.NotFound)
	}
	absent("incident")
	s.SetDenied("bridge", standin.Denial{Table: "sc_request", Operation: standin.Read})
	absent("sc_request")
	s.SetDenied("bridge")
	if err := s.Delete(rec.SysID); err != nil {
		t.Fatal(err)
	}
	absent("sc_request")

	// What a gateway or a wrong address answers is not the end of a ticket.
	for name, body := range map[string]string{
		"nothing": "", "a page": "<html>Not found</html>", "JSON": `{"message":"no Route matched"}`, "an error of another shape": `{"error":{"code":"404","message":"No Record found"}}`,
		"no such resource": `{"error":{"message":"Requested URI does not represent any resource","detail":null},"status":"failure"}`,
	} {
		c := answered(t, says(404, body))
		_, err := c.Read(t.Context(), "sc_request", rec.SysID)
		if e := failed(t, err, fault.Misconfigured, "SERVICENOW_URL"); e.Status != 404 {
			t.Errorf("%s: %v", name, e)
		}
	}
	_, err := s.Read(t.Context(), "u_gone", rec.SysID)
	failed(t, err, fault.Misconfigured, "Invalid table u_gone")
}

func TestReadTakesAFieldAsAStringOrAnObject(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ sent, want string }{
		"a string":                    {`"closed_complete"`, "closed_complete"},
		"an empty string":             {`""`, ""},
		"null":                        {`null`, ""},
		"a reference":                 {`{"link":"https://x/api/now/v2/table/sys_user/` + aliceID + `","value":"` + aliceID + `"}`, aliceID},
		"a reference by display":      {`{"display_value":"Alice","link":"https://x/api/now/v2/table/sys_user/` + aliceID + `?a=/b"}`, aliceID},
		"all":                         {`{"display_value":"Closed Complete","value":"3"}`, "3"},
		"all, unset":                  {`{"display_value":"","value":""}`, ""},
		"all, null":                   {`{"display_value":null,"value":null}`, ""},
		"all, a number":               {`{"display_value":"x","value":3}`, "3"},
		"a display value alone":       {`{"display_value":"Closed Complete"}`, ""}, // never taken for a value
		"a number":                    {`3`, "3"},
		"a boolean":                   {`true`, "true"},
		"a list":                      {`["3"]`, ""},
		"an object in an object":      {`{"value":{"value":"3"}}`, ""},
		"an object of another kind":   {`{"a":1}`, ""},
		"a link that is no text":      {`{"link":3}`, ""},
		"a link that is no URL":       {`{"link":"%zz"}`, ""},
		"text with an escaped letter": {`"\u00e9\n\"x"`, "é\n\"x"},
	} {
		c := answered(t, says(200, `{"result":{"sys_id":"`+aliceID+`","request_state":`+tc.sent+`}}`))
		if rec, err := c.Read(t.Context(), "sc_request", aliceID); err != nil || rec.Fields["request_state"] != tc.want {
			t.Errorf("%s: %s is read as %q (%v), want %q", name, tc.sent, rec.Fields["request_state"], err, tc.want)
		}
	}
}

func TestReadTakesNoOtherAnswerForTheRecord(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"another record": `{"result":{"sys_id":"` + strings.Repeat("b", 32) + `"}}`, "none": `{"result":{}}`, "null": `{"result":null}`, "no result": `{}`,
		"a list": `{"result":[{"sys_id":"` + aliceID + `"}]}`, "a text": `{"result":"x"}`, "nothing": ``, "half": `{"result":{"sys_id":"` + aliceID + `"`,
		"an error": `{"result":{"sys_id":"` + aliceID + `"},"error":{"message":"Transaction cancelled"}}`,
	} {
		_, err := answered(t, says(200, body)).Read(t.Context(), "sc_request", aliceID)
		failed(t, err, fault.Unreachable)
		t.Log(name, err)
	}
	upper := answered(t, says(200, `{"result":{"sys_id":"`+strings.ToUpper(aliceID)+`"}}`))
	if _, err := upper.Read(t.Context(), "sc_request", aliceID); err != nil {
		t.Errorf("a sys_id in capitals: %v", err)
	}
}

func TestNoteWritesAWorkNote(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	rec := s.create()
	if err := s.Note(t.Context(), "sc_request", rec.SysID, "Entra no longer waits.\n\"é\""); err != nil {
		t.Fatal(err)
	}
	have, err := s.Ticket(rec.SysID)
	if err != nil || len(have.Notes) != 1 || have.Notes[0].Element != "work_notes" || have.Notes[0].Text != "Entra no longer waits.\n\"é\"" {
		t.Errorf("the notes are %+v, %v", have.Notes, err)
	}
	if have.Fields["short_description"] != draft.Fields["short_description"] || have.CorrelationID != correlationID {
		t.Errorf("something else was changed: %+v", have)
	}
	long := strings.Repeat("é", noteLimit)
	for _, sent := range []string{long, long + "x"} {
		if err := s.Note(t.Context(), "sc_request", rec.SysID, sent); err != nil {
			t.Fatal(err)
		}
	}
	have, err = s.Ticket(rec.SysID)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[string]bool{}
	for _, n := range have.Notes {
		kept[n.Text] = true
	}
	if !kept[long] || !kept[strings.Repeat("é", noteLimit-1)+"…"] {
		t.Error("a note of the longest length was changed, or a longer one not cut")
	}
}

func TestANoteWhoseAnswerIsLostIsUnclearAndNotSentAgain(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	rec := s.create()
	s.Faults.Add(misbehave.Fault{Match: "PATCH", Times: 1, LoseAnswer: true})
	failed(t, s.Note(t.Context(), "sc_request", rec.SysID, "once"), fault.Unclear)
	if have, err := s.Ticket(rec.SysID); err != nil || len(have.Notes) != 1 {
		t.Errorf("the notes are %+v, %v", have.Notes, err)
	}
	s.SetDenied("bridge", standin.Denial{Table: "task", Operation: standin.Write})
	failed(t, s.Note(t.Context(), "sc_request", rec.SysID, "x"), fault.Forbidden, "lacks a right")
	s.SetDenied("bridge")
	s.SetPolicies(standin.Policy{Table: "task", Operation: standin.Write, Abort: "Closed tickets stay"})
	failed(t, s.Note(t.Context(), "sc_request", rec.SysID, "x"), fault.Refused, "Closed tickets stay")
	failed(t, answered(t, says(200, `{}`)).Note(t.Context(), "sc_request", aliceID, "x"), fault.Unclear)
}

func TestALinkLeadsIntoTheInstanceWithItsBasePath(t *testing.T) {
	t.Parallel()
	c := client(t, Config{URL: "https://proxy.example/itsm/"})
	if got, want := c.Link("incident", aliceID), "https://proxy.example/itsm/nav_to.do?uri=%2Fincident.do%3Fsys_id%3D"+aliceID; got != want {
		t.Errorf("link %s, want %s", got, want)
	}
}

// SERVICENOW_SETTLE counts from when we gave up.
func TestACreateIsGivenUpAfterTheTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, nil)
		began := time.Now()
		s.Faults.Add(misbehave.Fault{Match: "POST", Times: 1, DelayAnswer: time.Hour})
		_, err := s.Create(t.Context(), draft, correlationID)
		failed(t, err, fault.Unclear, "no answer in time")
		if d := time.Since(began); d != 30*time.Second || s.Creations()[correlationID] != 1 {
			t.Errorf("given up after %s, %v", d, s.Creations())
		}
		s.Faults.Add(misbehave.Fault{Match: "GET", Times: 1, Delay: time.Hour})
		_, err = s.Find(t.Context(), "sc_request", correlationID)
		failed(t, err, fault.Unreachable, "no answer in time")
		_, err = answered(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }).Find(t.Context(), "sc_request", correlationID)
		failed(t, err, fault.Unreachable, "cut")
	})
}
