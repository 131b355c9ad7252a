package servicenow_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"ticketbridge/handler/simulator/servicenow"
)

// site is an instance on a real address and a caller who logs in with a password.
type site struct {
	*servicenow.Instance
	t      *testing.T
	url    string
	user   string
	client *http.Client
	header http.Header
}

const (
	aliceID = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	itemID  = "cccccccccccccccccccccccccccccccc"
)

func start(t *testing.T, change ...func(*servicenow.Config)) *site {
	t.Helper()
	cfg := servicenow.Config{
		Users: []servicenow.User{
			{UserName: "bridge", Password: "secret", Name: "Ticket Bridge", WebServiceAccessOnly: true},
			{UserName: "alice@example.com", Name: "Requester One", Email: "alice@example.com", SysID: aliceID},
		},
		Groups: []string{"Access team"},
		Catalog: []servicenow.CatalogItem{{
			SysID: itemID, Name: "Application access", ShortDescription: "Access to an application",
			Variables: []servicenow.Variable{{Name: "stage_instance_id", Mandatory: true}, {Name: "package"}}, Tasks: []string{"Set up", "Verify"},
		}},
	}
	for _, f := range change {
		f(&cfg)
	}
	instance, err := servicenow.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	url, stop, err := instance.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &site{
		Instance: instance, t: t, url: url, user: "bridge", client: &http.Client{Transport: transport},
		header: http.Header{"Accept": {"application/json"}, "Content-Type": {"application/json"}},
	}
}

type answer struct {
	t      *testing.T
	status int
	header http.Header
	text   string
}

func (s *site) do(method, path string, body any) answer {
	s.t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	default:
		text, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	r, err := http.NewRequest(method, s.url+path, reader)
	if err != nil {
		s.t.Fatal(err)
	}
	for name, values := range s.header {
		r.Header[name] = values
	}
	if s.user != "" && r.Header.Get("Authorization") == "" {
		r.SetBasicAuth(s.user, "secret")
	}
	got, err := s.client.Do(r)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{s.t, got.StatusCode, got.Header, string(text)}
}

func (a answer) want(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("answered %d, want %d: %s", a.status, status, a.text)
	}
	return a
}

// fails checks the shape of an error and returns its message and detail.
func (a answer) fails(status int) (message string, detail any) {
	a.t.Helper()
	a.want(status)
	var body struct {
		Error struct {
			Message string
			Detail  any
		}
		Status string
	}
	if err := json.Unmarshal([]byte(a.text), &body); err != nil || body.Status != "failure" || body.Error.Message == "" {
		a.t.Errorf("not the shape of an error: %s", a.text)
	}
	return body.Error.Message, body.Error.Detail
}

func (a answer) result() map[string]any {
	a.t.Helper()
	var body struct{ Result map[string]any }
	if err := json.Unmarshal([]byte(a.text), &body); err != nil {
		a.t.Fatalf("%v: %s", err, a.text)
	}
	return body.Result
}

func (a answer) list() []map[string]any {
	a.t.Helper()
	var body struct{ Result []map[string]any }
	if err := json.Unmarshal([]byte(a.text), &body); err != nil {
		a.t.Fatalf("%v: %s", err, a.text)
	}
	return body.Result
}

func (s *site) create(table string, fields map[string]string) map[string]any {
	s.t.Helper()
	if fields == nil {
		fields = map[string]string{}
	}
	return s.do("POST", "/api/now/v2/table/"+table, fields).want(201).result()
}

func (s *site) query(table, query string, more ...string) []map[string]any {
	s.t.Helper()
	params := url.Values{"sysparm_query": {query}}
	for n := 0; n < len(more); n += 2 {
		params.Set(more[n], more[n+1])
	}
	return s.do("GET", "/api/now/v2/table/"+table+"?"+params.Encode(), nil).want(200).list()
}

func TestARecordIsCreatedReadChangedAndDeleted(t *testing.T) {
	t.Parallel()
	s := start(t)
	created := s.create("incident", map[string]string{"short_description": "one", "correlation_id": "a/b"})
	if n, _ := created["number"].(string); !strings.HasPrefix(n, "INC00") || created["state"] != "1" || created["active"] != "true" ||
		created["sys_class_name"] != "incident" || created["sys_created_by"] != "bridge" || created["sys_mod_count"] != "0" {
		t.Errorf("the created record lacks what an instance fills in: %v", created)
	}
	for name, value := range created {
		switch value.(type) {
		case string, map[string]any:
		default:
			t.Errorf("%s is %T; a scalar is a string", name, value)
		}
	}
	path := fmt.Sprintf("/api/now/v2/table/incident/%s", created["sys_id"])
	if got := s.do("GET", path, nil).want(200).result(); got["number"] != created["number"] {
		t.Errorf("read %v", got)
	}
	if got := s.do("GET", strings.Replace(path, "incident", "task", 1), nil).want(200).result(); got["sys_class_name"] != "incident" {
		t.Errorf("read through the parent table: %v", got)
	}
	s.do("GET", strings.Replace(path, "incident", "sc_request", 1), nil).fails(404)
	if got := s.do("PATCH", path, map[string]any{"state": 2, "urgency": "1"}).want(200).result(); got["state"] != "2" || got["urgency"] != "1" || got["short_description"] != "one" || got["sys_mod_count"] != "1" {
		t.Errorf("patched %v", got)
	}
	if got := s.do("PUT", path, map[string]any{"short_description": "two"}).want(200).result(); got["short_description"] != "two" || got["state"] != "2" {
		t.Errorf("put %v; PUT changes only what it names", got)
	}
	if s.do("DELETE", path, nil).want(204).text != "" {
		t.Error("a deletion has a body")
	}
	message, detail := s.do("GET", path, nil).fails(404)
	if message != "No Record found" || detail != "Record doesn't exist or ACL restricts the record retrieval" {
		t.Errorf("%q %q", message, detail)
	}
	s.do("DELETE", path, nil).fails(404)
	if len(s.Tickets("task")) != 0 || s.Creations()["a/b"] != 1 {
		t.Errorf("own records: %v %v", s.Tickets("task"), s.Creations())
	}
	if got := s.Calls(); got["GET /api/now/v2/table/incident/{sys_id}"] != 2 || got["POST /api/now/v2/table/incident"] != 1 {
		t.Errorf("calls: %v", got)
	}
}

func TestHeadersAreRequired(t *testing.T) {
	t.Parallel()
	s := start(t)
	for name, c := range map[string]struct {
		method, accept, contentType, body string
		status                            int
	}{
		"no Accept":          {"GET", "", "", "", 400},
		"no Accept on POST":  {"POST", "", "application/json", "{}", 400},
		"no Content-Type":    {"POST", "application/json", "", "{}", 400},
		"any Accept":         {"GET", "*/*", "", "", 200},
		"wrong Accept":       {"GET", "image/png", "", "", 406},
		"wrong Content-Type": {"POST", "application/json", "text/plain", "{}", 415},
		"with a charset":     {"POST", "application/json", "application/json; charset=utf-8", "{}", 201},
		"not JSON":           {"POST", "application/json", "application/json", "{", 400},
		"a number":           {"POST", "application/json", "application/json", "1", 400},
		"of several one":     {"POST", "application/json", "application/json", `[{"state":"2"},{"state":"3"}]`, 201},
		"no method":          {"PATCH", "application/json", "application/json", "{}", 405},
	} {
		s.header = http.Header{}
		if c.accept != "" {
			s.header.Set("Accept", c.accept)
		}
		if c.contentType != "" {
			s.header.Set("Content-Type", c.contentType)
		}
		got := s.do(c.method, "/api/now/v2/table/incident", c.body)
		if got.status != c.status {
			t.Errorf("%s: answered %d, want %d: %s", name, got.status, c.status, got.text)
		} else if c.status >= 400 {
			got.fails(c.status)
		}
	}
	s.header = http.Header{"Accept": {"application/json"}}
	if message, detail := s.do("GET", "/api/now/v2/table/nonesuch", nil).fails(400); message != "Invalid table nonesuch" || detail != nil {
		t.Errorf("an unknown table: %q %v", message, detail)
	}
	s.do("GET", "/api/now/v2/tables/incident", nil).fails(400)
	s.do("GET", "/api/now/v3/table/incident", nil).fails(400)
}

func TestVersionOneAnswers404WhereVersionTwoAnswersAnEmptyList(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("GET", "/api/now/table/incident?sysparm_query=number=none", nil).fails(404)
	s.do("GET", "/api/now/v1/table/incident?sysparm_query=number=none", nil).fails(404)
	got := s.do("GET", "/api/now/v2/table/incident?sysparm_query=number=none", nil).want(200)
	if strings.TrimSpace(got.text) != `{"result":[]}` || got.header.Get("X-Total-Count") != "0" {
		t.Errorf("%s %v", got.text, got.header)
	}
}

func TestAReferenceIsAnObjectUnlessAskedOtherwise(t *testing.T) {
	t.Parallel()
	s := start(t)
	created := s.create("sc_request", map[string]string{"requested_for": aliceID})
	link := s.url + "/api/now/v2/table/sys_user/" + aliceID
	if got := created["requested_for"]; fmt.Sprint(got) != fmt.Sprint(map[string]any{"link": link, "value": aliceID}) {
		t.Errorf("a reference in an answer: %v", got)
	}
	if created["assigned_to"] != "" {
		t.Errorf("a reference that is not set: %#v", created["assigned_to"])
	}
	path := fmt.Sprintf("/api/now/v2/table/sc_request/%s?sysparm_fields=requested_for,request_state,assigned_to,requested_for.email,assigned_to.email,nonesuch", created["sys_id"])
	for params, want := range map[string]map[string]any{
		"":                                     {"requested_for": map[string]any{"link": link, "value": aliceID}, "request_state": "requested"},
		"&sysparm_exclude_reference_link=true": {"requested_for": aliceID, "request_state": "requested"},
		"&sysparm_display_value=true":          {"requested_for": map[string]any{"link": link, "display_value": "Requester One"}, "request_state": "Pending Approval"},
		"&sysparm_display_value=all": {
			"requested_for": map[string]any{"link": link, "display_value": "Requester One", "value": aliceID},
			"request_state": map[string]any{"display_value": "Pending Approval", "value": "requested"},
		},
		"&sysparm_display_value=true&sysparm_exclude_reference_link=true": {"requested_for": "Requester One", "request_state": "Pending Approval"},
	} {
		got := s.do("GET", path+params, nil).want(200).result()
		for name, value := range want {
			if fmt.Sprint(got[name]) != fmt.Sprint(value) {
				t.Errorf("%q: %s is %v, want %v", params, name, got[name], value)
			}
		}
		if len(got) != 5 {
			t.Errorf("%q: %v; a field that is not there is left out", params, got)
		}
		if !strings.Contains(params, "all") && (got["requested_for.email"] != "alice@example.com" || got["assigned_to.email"] != "") {
			t.Errorf("%q: through a reference: %v", params, got)
		}
	}
	s.do("GET", "/api/now/v2/table/sys_user/"+aliceID, nil).want(200)
}

func TestReferencesTakeDisplayValuesOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	s := start(t)
	fields := map[string]string{"requested_for": "requester one", "assignment_group": "Access team", "request_state": "Approved"}
	got := s.do("POST", "/api/now/v2/table/sc_request?sysparm_input_display_value=true&sysparm_exclude_reference_link=true", fields).want(201).result()
	if got["requested_for"] != aliceID || len(got["assignment_group"].(string)) != 32 || got["request_state"] != "in_process" {
		t.Errorf("with display values: %v", got)
	}
	got = s.do("POST", "/api/now/v2/table/sc_request?sysparm_exclude_reference_link=true", fields).want(201).result()
	if got["requested_for"] != "requester one" || got["request_state"] != "Approved" {
		t.Errorf("without, the text itself is kept: %v", got)
	}
	got = s.do("POST", "/api/now/v2/table/sc_request?sysparm_input_display_value=true", map[string]string{"requested_for": "nobody"}).want(201).result()
	if got["requested_for"] != "" {
		t.Errorf("a name that nobody has: %v", got["requested_for"])
	}
}

func TestUnknownFieldsAreDroppedWithoutAWord(t *testing.T) {
	t.Parallel()
	fields := map[string]string{"u_stageinstanceid": "stage", "bogus": "x", "sys_id": strings.Repeat("0", 32), "sys_class_name": "task"}
	s := start(t)
	got := s.create("sc_request", fields)
	for _, name := range []string{"u_stageinstanceid", "bogus"} {
		if _, there := got[name]; there {
			t.Errorf("%s was kept on an instance without it", name)
		}
	}
	if got["sys_id"] == fields["sys_id"] || got["sys_class_name"] != "sc_request" {
		t.Errorf("read-only fields were written: %v", got)
	}
	s = start(t, func(c *servicenow.Config) { c.TutorialColumns = true })
	for _, table := range []string{"sc_request", "sc_req_item", "sc_task"} {
		if got := s.create(table, fields); got["u_stageinstanceid"] != "stage" {
			t.Errorf("%s lacks the tutorial's column: %v", table, got)
		}
	}
	if got := s.create("incident", fields); got["u_stageinstanceid"] != nil {
		t.Errorf("the tutorial's column is on incident: %v", got)
	}
}

func TestAnUnknownFieldInAQueryMatchesEveryRecord(t *testing.T) {
	t.Parallel()
	s := start(t)
	for range 3 {
		s.create("sc_request", map[string]string{"correlation_id": "x"})
	}
	for query, want := range map[string]int{
		"u_stageinstanceid=something":           3,
		"u_stageinstanceid=1^correlation_id=y":  0,
		"u_stageinstanceid=1^correlation_id=x":  3,
		"correlation_id=y^ORu_stageinstanceid=": 0,
		"requested_for.bogus=1":                 3,
		"correlation_idBOGUSx":                  3,
	} {
		if got := s.query("sc_request", query); len(got) != want {
			t.Errorf("%s: %d records, want %d", query, len(got), want)
		}
	}
	s = start(t, func(c *servicenow.Config) { c.InvalidQueryReturnsNoRows = true })
	s.create("sc_request", nil)
	if got := s.query("sc_request", "u_stageinstanceid=something"); len(got) != 0 {
		t.Errorf("with the property set: %d records", len(got))
	}
}

func TestEncodedQueries(t *testing.T) {
	t.Parallel()
	s := start(t)
	for n, fields := range []map[string]string{
		{"short_description": "Alpha one", "correlation_id": "a", "priority": "10", "requested_for": aliceID},
		{"short_description": "beta TWO", "correlation_id": "b", "priority": "2"},
		{"short_description": "alpha three", "priority": "3"},
	} {
		fields["description"] = strconv.Itoa(n)
		s.create("sc_request", fields)
	}
	for query, want := range map[string]string{
		"":                                    "012",
		"correlation_id=a":                    "0",
		"correlation_id=A":                    "0", // without regard to case
		"correlation_id=":                     "2",
		"correlation_id!=a":                   "12",
		"correlation_idISEMPTY":               "2",
		"correlation_idISNOTEMPTY":            "01",
		"correlation_idINa,b":                 "01",
		"correlation_idNOT INa,b":             "2",
		"short_descriptionLIKEtwo":            "1",
		"short_descriptionNOT LIKEalpha":      "1",
		"short_descriptionSTARTSWITHalpha":    "02",
		"short_descriptionENDSWITHthree":      "2",
		"priority>2":                          "02", // as numbers
		"priority<=3":                         "12",
		"priority<3":                          "1",
		"priority>=10":                        "0",
		"correlation_id=a^ORcorrelation_id=b": "01",
		"correlation_id=a^ORcorrelation_id=b^priority=2":    "1",
		"correlation_id=a^priority=2":                       "",
		"correlation_id=a^NQcorrelation_id=b":               "01",
		"requested_for=" + aliceID:                          "0",
		"requested_for.email=alice@example.com":             "0",
		"active=true":                                       "012",
		"ORDERBYpriority":                                   "120!",
		"ORDERBYDESCpriority":                               "021!",
		"correlation_idISNOTEMPTY^ORDERBYshort_description": "01!",
	} {
		ids := ""
		for _, rec := range s.query("sc_request", query) {
			ids += rec["description"].(string)
		}
		want, ordered := strings.CutSuffix(want, "!")
		if !ordered {
			ids = sorted(ids)
		}
		if ids != want {
			t.Errorf("%q found %q, want %q", query, ids, want)
		}
	}
	if got := s.do("GET", "/api/now/v2/table/sc_request?correlation_id=b&sysparm_fields=description", nil).want(200).list(); len(got) != 1 || got[0]["description"] != "1" || len(got[0]) != 1 {
		t.Errorf("a field as a parameter: %v", got)
	}
}

func sorted(s string) string {
	b := []byte(s)
	for i := range b {
		for j := i; j > 0 && b[j] < b[j-1]; j-- {
			b[j], b[j-1] = b[j-1], b[j]
		}
	}
	return string(b)
}

func TestListsArePagedAndCounted(t *testing.T) {
	t.Parallel()
	s := start(t)
	for range 5 {
		s.create("incident", nil)
	}
	got := s.do("GET", "/api/now/v2/table/incident?sysparm_limit=2&sysparm_offset=2&sysparm_fields=number&sysparm_query=ORDERBYnumber", nil).want(200)
	if list := got.list(); len(list) != 2 || list[0]["number"] != "INC0010003" {
		t.Errorf("the page: %v", list)
	}
	if got.header.Get("X-Total-Count") != "5" {
		t.Errorf("X-Total-Count %q", got.header.Get("X-Total-Count"))
	}
	for _, rel := range []string{"first", "prev", "next", "last"} {
		if !strings.Contains(got.header.Get("Link"), `rel="`+rel+`"`) {
			t.Errorf("the Link header lacks %s: %s", rel, got.header.Get("Link"))
		}
	}
	got = s.do("GET", "/api/now/v2/table/incident?sysparm_no_count=true&sysparm_suppress_pagination_header=true&sysparm_offset=9", nil).want(200)
	if len(got.list()) != 0 || got.header.Get("X-Total-Count") != "" || got.header.Get("Link") != "" {
		t.Errorf("%v %s", got.header, got.text)
	}
}

func TestALongCorrelationIDIsCutOffSoThatItIsNotFoundAgain(t *testing.T) {
	t.Parallel()
	s := start(t)
	long := strings.Repeat("é", 101)
	got := s.create("incident", map[string]string{"correlation_id": long, "description": strings.Repeat("x", 5000)})
	if got["correlation_id"] != strings.Repeat("é", 100) {
		t.Errorf("kept %d bytes", len(got["correlation_id"].(string)))
	}
	if len(got["description"].(string)) != 5000 {
		t.Error("above 255 the length is not enforced")
	}
	if len(s.query("incident", "correlation_id="+long)) != 0 {
		t.Error("the whole value was found")
	}
}

func TestStatesDecideWhetherATicketIsActive(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *servicenow.Config) {
		c.Tables = []servicenow.Table{{Name: "u_access", Prefix: "ACC", Closed: []string{"9"}, Columns: []servicenow.Column{{Name: "u_system", Max: 100}}}}
	})
	for _, c := range []struct{ table, field, value, active, number, state string }{
		{"task", "state", "2", "true", "TASK", "2"},
		{"task", "state", "3", "false", "TASK", "3"},
		{"incident", "state", "6", "true", "INC", "6"},
		{"incident", "incident_state", "7", "false", "INC", "7"},
		{"incident", "state", "8", "false", "INC", "8"},
		{"incident", "state", "3", "true", "INC", "3"},
		{"sc_request", "request_state", "closed_complete", "false", "REQ", "3"},
		{"sc_request", "request_state", "closed_rejected", "false", "REQ", "4"},
		{"sc_request", "request_state", "in_process", "true", "REQ", "1"},
		{"sc_req_item", "state", "4", "false", "RITM", "4"},
		{"sc_task", "state", "7", "false", "SCTASK", "7"},
		{"change_request", "state", "-1", "true", "CHG", "-1"},
		{"change_request", "state", "4", "false", "CHG", "4"},
		{"change_request", "state", "7", "true", "CHG", "7"},
		{"u_access", "state", "9", "false", "ACC", "9"},
		{"u_access", "state", "3", "true", "ACC", "3"},
		{"task", "active", "false", "false", "TASK", "1"}, // inactive in a state that says nothing
	} {
		rec := s.create(c.table, nil)
		got := s.do("PATCH", fmt.Sprintf("/api/now/v2/table/%s/%s", c.table, rec["sys_id"]), map[string]string{c.field: c.value}).want(200).result()
		if got["active"] != c.active || got["state"] != c.state || !strings.HasPrefix(got["number"].(string), c.number+"0") {
			t.Errorf("%+v: %v %v %v", c, got["active"], got["state"], got["number"])
		}
		if (got["closed_at"] != "") != (c.active == "false") {
			t.Errorf("%+v: closed_at %q", c, got["closed_at"])
		}
	}
	rec := s.create("task", map[string]string{"state": "3"})
	if got := s.do("PATCH", fmt.Sprintf("/api/now/v2/table/task/%s", rec["sys_id"]), map[string]string{"state": "2"}).result(); got["active"] != "true" || got["closed_at"] != "" {
		t.Errorf("reopened: %v", got)
	}
}

func TestWorkNotesAppendAndReadAsEmpty(t *testing.T) {
	t.Parallel()
	s := start(t)
	rec := s.create("incident", map[string]string{"work_notes": "first"})
	path := fmt.Sprintf("/api/now/v2/table/incident/%s", rec["sys_id"])
	if got := s.do("PATCH", path, map[string]string{"work_notes": "second"}).want(200).result(); got["work_notes"] != "" {
		t.Errorf("work_notes reads as %q", got["work_notes"])
	}
	notes := s.query("sys_journal_field", fmt.Sprintf("element_id=%s^element=work_notes", rec["sys_id"]))
	if len(notes) != 2 {
		t.Errorf("the journal: %v", notes)
	}
	shown := s.do("GET", path+"?sysparm_display_value=true&sysparm_fields=work_notes", nil).result()["work_notes"].(string)
	if !strings.Contains(shown, "first") || !strings.Contains(shown, "second") || !strings.Contains(shown, "bridge (Work notes)") {
		t.Errorf("shown as %q", shown)
	}
	ticket, err := s.Ticket(rec["sys_id"].(string))
	if err != nil || len(ticket.Notes) != 2 || ticket.Notes[0].Text != "second" {
		t.Errorf("own records: %v %v", ticket.Notes, err)
	}
}

func TestTheDictionarySaysWhichColumnsThereAre(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *servicenow.Config) {
		c.TutorialColumns = true
		c.Columns = map[string][]servicenow.Column{"task": {{Name: "x_app_key", Max: 73}}}
	})
	if got := s.query("sys_dictionary", "name=sc_request^element=u_stageinstanceid"); len(got) != 1 || got[0]["max_length"] != "40" {
		t.Errorf("%v", got)
	}
	if got := s.query("sys_dictionary", "element=x_app_key"); len(got) != 1 || got[0]["name"] != "task" {
		t.Errorf("an inherited column is listed once, under its own table: %v", got)
	}
	if got := s.create("incident", map[string]string{"x_app_key": "k"}); got["x_app_key"] != "k" {
		t.Errorf("an added column is not inherited: %v", got)
	}
	if got := s.query("sys_choice", "name=sc_request^element=request_state^value=closed_complete"); len(got) != 1 || got[0]["label"] != "Closed Complete" {
		t.Errorf("%v", got)
	}
	s.do("POST", "/api/now/v2/table/sys_dictionary", map[string]string{"name": "x"}).fails(403)
}

func TestRightsAreDeniedAsAnInstanceDeniesThem(t *testing.T) {
	t.Parallel()
	s := start(t)
	mine := s.create("sc_request", map[string]string{"correlation_id": "mine"})
	other := s.create("sc_request", map[string]string{"correlation_id": "other"})
	path := func(rec map[string]any) string { return fmt.Sprintf("/api/now/v2/table/sc_request/%s", rec["sys_id"]) }

	s.SetDenied("bridge", servicenow.Denial{Table: "task", Operation: servicenow.Read, Query: "correlation_id=other"})
	s.do("GET", path(mine), nil).want(200)
	s.do("GET", path(other), nil).fails(404)
	s.do("PATCH", path(other), map[string]string{"state": "2"}).fails(404)
	list := s.do("GET", "/api/now/v2/table/sc_request", nil).want(200)
	if len(list.list()) != 1 || list.header.Get("X-Total-Count") != "2" {
		t.Errorf("a record that may not be seen: %s %v", list.text, list.header)
	}

	s.SetDenied("bridge", servicenow.Denial{Table: "sc_request", Operation: servicenow.Create}, servicenow.Denial{Table: "sc_request", Operation: servicenow.Write},
		servicenow.Denial{Table: "sc_request", Operation: servicenow.Delete})
	if _, detail := s.do("POST", "/api/now/v2/table/sc_request", "{}").fails(403); detail != "ACL Exception Insert Failed due to security constraints" {
		t.Error(detail)
	}
	s.do("PATCH", path(mine), "{}").fails(403)
	s.do("DELETE", path(mine), nil).fails(403)
	s.create("incident", nil)

	s.SetDenied("bridge", servicenow.Denial{Table: "task", Operation: servicenow.Write, Field: "correlation_id"},
		servicenow.Denial{Table: "task", Operation: servicenow.Read, Field: "request_state"})
	got := s.create("sc_request", map[string]string{"correlation_id": "dropped"})
	if got["correlation_id"] != "" {
		t.Error("a field that may not be written was")
	}
	if _, there := got["request_state"]; there {
		t.Error("a field that may not be read was")
	}
}

func TestPoliciesRefuseWith403(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *servicenow.Config) {
		c.Policies = []servicenow.Policy{{Table: "incident", Operation: servicenow.Create, Mandatory: []string{"short_description"}}}
	})
	if _, detail := s.do("POST", "/api/now/v2/table/incident", "{}").fails(403); !strings.Contains(detail.(string), "Short description") {
		t.Error(detail)
	}
	s.create("incident", map[string]string{"short_description": "x"})
	s.create("sc_request", nil)
	s.SetPolicies(servicenow.Policy{Table: "task", Operation: servicenow.Create, Abort: "Abort without group"})
	if _, detail := s.do("POST", "/api/now/v2/table/sc_request", "{}").fails(403); !strings.Contains(detail.(string), "was aborted by Business Rule 'Abort without group'") {
		t.Error(detail)
	}
	if n := len(s.Tickets("sc_request")); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestACallWithASessionCookieIsDroppedWhenTheQueueIsTooLong(t *testing.T) {
	t.Parallel()
	s := start(t)
	jar, _ := cookiejar.New(nil)
	s.client.Jar = jar
	s.create("incident", nil) // the cookies of this answer are kept
	if u, _ := url.Parse(s.url); len(jar.Cookies(u)) < 3 {
		t.Fatalf("the instance sets no session cookies: %v", jar.Cookies(u))
	}
	s.create("incident", nil)
	s.SetOverloaded(true)
	if got := s.do("POST", "/api/now/v2/table/incident", "{}").want(202); got.text != "" {
		t.Errorf("the dropped call says %q", got.text)
	}
	if n := len(s.Tickets("incident")); n != 2 {
		t.Errorf("%d incidents, want 2", n)
	}
	s.client.Jar = nil
	s.create("incident", nil)
	s.SetOverloaded(false)
	s.client.Jar = jar
	s.create("incident", nil)
}
