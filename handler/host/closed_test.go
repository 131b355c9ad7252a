package host

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"html"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
	"ticketbridge/handler/workflow"
)

func decoded(t testing.TB, text string) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const ticketID = requestID + "/" + stageID

func TestACloseNotificationIsUnderstoodInEveryForm(t *testing.T) {
	t.Parallel()
	byID := workflow.Closed{CorrelationID: ticketID}
	byColumns := workflow.Closed{RequestID: requestID, StageInstanceID: stageID}
	byTicket := workflow.Closed{Table: "sc_request", SysID: sysid}
	companion := `{"table":"sc_request","sys_id":"` + sysid + `","number":"REQ0010012","state":"3","correlation_id":"` + ticketID + `"}`
	tutorial := `{"AccessPackageAssignmentRequestId":"` + requestID + `","AccessPackageAssignmentStage":"assignmentRequestApproved","StageInstanceId":"` + stageID + `"}`
	resume := `{"data":{"@odata.type":"#microsoft.graph.accessPackageAssignmentRequestCallbackData","customExtensionStageInstanceDetail":"Resuming-Assignment for user",` +
		`"customExtensionStageInstanceId":"` + stageID + `","stage":"assignmentRequestApproved"},"source":"ServiceNow","type":"microsoft.graph.accessPackageCustomExtensionStage.assignmentRequestApproved"}`
	inString, _ := json.Marshal(companion)
	for name, c := range map[string]struct {
		body, query string
		want        workflow.Closed
	}{
		"the companion app's":                {companion, "", byID},
		"the ticket's second place":          {`{"correlation_id":"` + ticketID + `/2"}`, "", byID},
		"in capitals":                        {`{"correlation_id":"` + strings.ToUpper(ticketID) + `"}`, "", byID},
		"with a byte order mark and blanks":  {"\xef\xbb\xbf \n" + companion + "\n", "", byID},
		"table and sys_id":                   {`{"table":"sc_request","sys_id":"` + sysid + `"}`, "", byTicket},
		"sys_id in capitals":                 {`{"table":"sc_request","sys_id":"` + strings.ToUpper(sysid) + `"}`, "", byTicket},
		"another's correlation_id":           {`{"correlation_id":"INC-42","table":"sc_request","sys_id":"` + sysid + `"}`, "", byTicket},
		"an empty correlation_id":            {`{"correlation_id":"","table":"sc_request","sys_id":"` + sysid + `"}`, "", byTicket},
		"a null correlation_id":              {`{"correlation_id":null,"table":"sc_request","sys_id":"` + sysid + `"}`, "", byTicket},
		"the tutorial's columns":             {tutorial, "", byColumns},
		"the columns in lower case":          {strings.ToLower(tutorial), "", byColumns},
		"the columns as ServiceNow has them": {`{"u_accesspackageassignmentrequestid":"` + requestID + `","u_stageinstanceid":"` + stageID + `"}`, "", byColumns},
		"the columns with separators":        {`{"u_stage_instance_id":"` + stageID + `","request_id":"` + requestID + `"}`, "", byColumns},
		"the columns as camel case":          {`{"requestId":"` + requestID + `","customExtensionStageInstanceId":"` + stageID + `"}`, "", byColumns},
		"the resume body":                    {resume, "requestId=" + requestID, byColumns},
		"the resume body, by the column":     {resume, "code=secret&AccessPackageAssignmentRequestId=" + requestID, byColumns},
		"only the query":                     {"", "correlation_id=" + url.QueryEscape(ticketID), byID},
		"the query does not replace":         {companion, "correlation_id=x&table=incident", byID},
		"a Table API answer":                 {`{"result":` + companion + `}`, "", byID},
		"a record with objects":              {`{"record":{"correlation_id":{"display_value":"x","value":"` + ticketID + `"}}}`, "", byID},
		"a list of one":                      {`[` + companion + `]`, "", byID},
		"JSON in a string":                   {string(inString), "", byID},
		"escaped by setStringParameter":      {html.EscapeString(companion), "", byID},
		"escaped with &quot;":                {strings.ReplaceAll(companion, `"`, "&quot;"), "", byID},
		"a string, escaped":                  {html.EscapeString(string(inString)), "", byID},
		"a form":                             {"table=sc_request&sys_id=" + sysid, "", byTicket},
		"a form, encoded":                    {"correlation_id=" + url.QueryEscape(ticketID) + "&number=REQ1", "", byID},
		"columns beside a foreign key":       {`{"correlation_id":"x","u_accesspackageassignmentrequestid":"` + requestID + `","u_stageinstanceid":"` + stageID + `"}`, "", byColumns},
		"the outer counts":                   {`{"table":"sc_request","sys_id":"` + sysid + `","data":{"table":"incident","sys_id":"ffffffffffffffffffffffffffffffff"}}`, "", byTicket},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &work{}
			address, log := server(t, Config{Work: w})
			target := "/api/ticket-closed"
			if c.query != "" {
				target += "?" + c.query
			}
			a := send(t, address, post(target, c.body))
			if a.StatusCode != http.StatusAccepted || a.body != `{"state":"accepted"}` {
				t.Fatalf("%d %s", a.StatusCode, a.body)
			}
			if w.tickets[0] != c.want {
				t.Errorf("understood %+v", w.tickets[0])
			}
			line := log.lines(t, "invocation")[0]
			if c.want != byTicket && (line["requestId"] != requestID || line["stageInstanceId"] != stageID) {
				t.Errorf("logged %v", line)
			}
		})
	}
}

func TestACloseNotificationThatNamesNoTicketIsRefused(t *testing.T) {
	t.Parallel()
	for body, field := range map[string]string{
		"":                            "correlation_id",
		"{}":                          "correlation_id",
		"null":                        "correlation_id",
		"[]":                          "correlation_id",
		"42":                          "correlation_id",
		"{nope":                       "correlation_id",
		"hello":                       "correlation_id",
		`{"number":"REQ0010012"}`:     "correlation_id",
		`{"correlation_id":"INC-42"}`: "correlation_id",
		`{"correlation_id":["` + ticketID + `"]}`:                                                         "correlation_id",
		`{"requested_for":{"correlation_id":"` + ticketID + `"}}`:                                         "correlation_id",
		`{"data":{"customExtensionStageInstanceId":"` + stageID + `","stage":"x"},"source":"ServiceNow"}`: "AccessPackageAssignmentRequestId",
		`{"requestId":"` + requestID + `"}`:                                                               "StageInstanceId",
		`{"requestId":"x","StageInstanceId":"` + stageID + `"}`:                                           "AccessPackageAssignmentRequestId",
		`{"requestId":"` + requestID + `","StageInstanceId":"x"}`:                                         "StageInstanceId",
		`{"table":"sc_request"}`:                                                                          "sys_id",
		`{"sys_id":"` + sysid + `"}`:                                                                      "table",
		`{"table":"sc_request","sys_id":"123"}`:                                                           "sys_id",
		`{"table":"sc_request","sys_id":"` + strings.Repeat("z", 32) + `"}`:                               "sys_id",
		`{"table":"sc_request^ORactive=true","sys_id":"` + sysid + `"}`:                                   "table",
		`{"table":"../sys_user","sys_id":"` + sysid + `"}`:                                                "table",
		`{"table":"SC_REQUEST","sys_id":"` + sysid + `"}`:                                                 "table",
		`{"table":"` + strings.Repeat("a", 81) + `","sys_id":"` + sysid + `"}`:                            "table",
		`{"table":"1table","sys_id":"` + sysid + `"}`:                                                     "table",
		`[{"table":"sc_request","sys_id":"` + sysid + `"},{"table":"sc_request"}]`:                        "correlation_id",
	} {
		w := &work{}
		address, _ := server(t, Config{Work: w})
		a := send(t, address, post("/api/ticket-closed", body))
		if p := problemIn(t, a); a.StatusCode != http.StatusBadRequest || p.Field != field || w.asked() != 0 {
			t.Errorf("%.90s: %d, field %q", body, a.StatusCode, p.Field)
		}
	}
}

func TestACloseNotificationIsAnsweredByWhatBecameOfIt(t *testing.T) {
	t.Parallel()
	for status, err := range map[int]error{
		503: &fault.Error{Reason: fault.Unreachable}, 500: errors.New("x"), 400: &fault.Error{Reason: fault.Invalid, Field: "x", Detail: "y"},
	} {
		a := failed(err)
		if a.status != status {
			t.Errorf("%v: %d", err, a.status)
		}
	}
}

func FuzzCloseBody(f *testing.F) {
	f.Add(`{"table":"sc_request","sys_id":"`+sysid+`","correlation_id":"`+ticketID+`"}`, "")
	f.Add(`{"data":{"customExtensionStageInstanceId":"`+stageID+`"}}`, "requestId="+requestID)
	f.Add(`{&quot;correlation_id&quot;:&quot;`+ticketID+`&quot;}`, "")
	f.Add(`"{\"u_stageinstanceid\":\"`+stageID+`\"}"`, "u_accesspackageassignmentrequestid="+requestID)
	f.Add("table=incident&sys_id="+sysid, "%zz")
	f.Add(`[[[{"data":{"data":{"data":{}}}}]]]`, "a=b")
	f.Fuzz(func(t *testing.T, body, rawQuery string) {
		query, _ := url.ParseQuery(rawQuery)
		n, err := readClosed([]byte(body), query)
		if err != nil {
			e, ok := errors.AsType[*fault.Error](err)
			if !ok || e.Reason != fault.Invalid || e.Field == "" || e.Detail == "" || n != (workflow.Closed{}) {
				t.Fatalf("%v with %+v", err, n)
			}
			return
		}
		// One naming, in the one spelling that is stored and put into queries.
		switch {
		case n.CorrelationID != "":
			key, err := correlation.ParseTicketID(n.CorrelationID)
			if err != nil || key.String() != n.CorrelationID || n != (workflow.Closed{CorrelationID: n.CorrelationID}) {
				t.Fatalf("%+v: %v", n, err)
			}
		case n.RequestID != "":
			key, err := correlation.NewKey(n.RequestID, n.StageInstanceID)
			if err != nil || n != (workflow.Closed{RequestID: key.Request, StageInstanceID: key.Stage}) {
				t.Fatalf("%+v: %v", n, err)
			}
		default:
			if !ticket.ValidTable(n.Table) || !ticket.ValidSysID(n.SysID) || strings.ToLower(n.SysID) != n.SysID || strings.ContainsAny(n.Table+n.SysID, "^/%&?=") {
				t.Fatalf("%+v", n)
			}
		}
	})
}

func FuzzEnvelope(f *testing.F) {
	for _, r := range recordings(f) {
		if r.Mode == "trigger" {
			f.Add(r.Body)
		}
	}
	f.Add(queued(aMessage().Text()))
	f.Add(`{"Data":{"msg":{"ticketbridge":{}}}}`)
	f.Fuzz(func(t *testing.T, body string) {
		pastDue([]byte(body))
		text, dequeued, err := message([]byte(body))
		if len(dequeued) > 5 || strings.Trim(dequeued, "0123456789") != "" {
			t.Fatalf("dequeued %q", dequeued)
		}
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Fatal(err)
		}
		// Whatever was sent comes out as it was, but for bytes that JSON cannot hold.
		if got, _, err := message([]byte(queued(string(text)))); err != nil || string(got) != string([]rune(string(text))) {
			t.Fatalf("%q came back as %q: %v", text, got, err)
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, r := range recordings(f) {
		f.Add(r.Target)
	}
	f.Add("/api/console/..%252f..%252fadvance?x")
	f.Fuzz(func(t *testing.T, target string) {
		fn, rest := route(target)
		path, _, _ := strings.Cut(target, "?")
		switch fn {
		case nil:
		case probe, advance, sweep:
			if path != map[*function]string{probe: "/", advance: "/advance", sweep: "/sweep"}[fn] {
				t.Fatalf("%q is %s", target, fn.name)
			}
		case calloutFn, ticketClosed:
			if strings.ToLower(path) != map[*function]string{calloutFn: "/api/callout", ticketClosed: "/api/ticket-closed"}[fn] {
				t.Fatalf("%q is %s", target, fn.name)
			}
		case console:
			if !strings.HasPrefix(strings.ToLower(path), consolePath) || path[len(consolePath):] != rest {
				t.Fatalf("%q is the console's %q", target, rest)
			}
			// It means the same to whoever decodes and cleans it.
			if strings.ContainsAny(rest, `%\;`) || strings.Contains(rest, "//") || strings.Contains(rest+"/", "/../") || strings.Contains(rest+"/", "/./") {
				t.Fatalf("the console gets %q", rest)
			}
		}
	})
}
