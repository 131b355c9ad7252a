package entra

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestThePersonWithCurlSteersTheStandIn(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	send := func(want int, method, path, body string) requestView {
		t.Helper()
		req, err := http.NewRequest(method, f.BaseURL()+controlPath+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != want {
			t.Fatalf("%s %s: %s %s", method, path, resp.Status, raw)
		}
		var v requestView
		if len(raw) > 0 && raw[0] == '{' {
			if err := json.Unmarshal(raw, &v); err != nil {
				t.Fatalf("%s: %v", raw, err)
			}
		}
		return v
	}
	made := send(201, "POST", "/requests", `{"package":"Ledger reader","target":"kim.stone@example.com","answers":[{"question":"Which region?","value":"EMEA"}]}`)
	f.await(made.ID, IsWaiting)
	if v := send(200, "GET", "/requests/"+made.ID, ""); v.Target != "Kim Stone" || len(v.Callouts) != 1 || v.Callouts[0].Answers[0] != "202" || v.Callouts[0].Deadline == nil {
		t.Errorf("request %+v", v)
	}
	if v := send(200, "POST", "/requests/"+made.ID+"/repeat", ""); len(v.Callouts[0].Answers) != 2 {
		t.Errorf("repeated %+v", v)
	}
	r, _ := f.Request(made.ID)
	f.resumeAs(204, r, "")
	f.await(made.ID, IsOver)
	if v := send(200, "GET", "/requests/"+made.ID, ""); !v.Over || len(v.Resumes) != 1 || !v.Resumes[0].Accepted {
		t.Errorf("request %+v", v)
	}
	if v := send(200, "POST", "/requests/"+made.ID+"/warn?stage="+StageOneDay, ""); len(v.Callouts) != 2 || v.Callouts[1].Waits {
		t.Errorf("warned %+v", v)
	}
	for action, want := range map[string]string{"withdraw": StateCanceled, "expire": StateDeliveryFailed} {
		id := f.waiting().ID
		if v := send(200, "POST", "/requests/"+id+"/"+action, ""); v.State != want {
			t.Errorf("%s: %+v", action, v)
		}
		send(409, "POST", "/requests/"+id+"/"+action, "")
	}
	for action, want := range map[string]string{"approve": StateDelivering, "reject": StateDenied} {
		id := f.submit(NewRequest{Policy: f.sample.ClusterPolicy})
		f.await(id, func(r Request) bool { return r.State == StatePendingApproval })
		send(200, "POST", "/requests/"+id+"/"+action, "")
		f.await(id, func(r Request) bool { return r.State == want })
	}
	send(200, "GET", "/requests", "")
	send(200, "GET", "/calls", "")
	send(404, "GET", "/requests/nobody", "")
	send(404, "POST", "/requests/nobody/withdraw", "")
	send(404, "POST", "/requests/"+made.ID+"/celebrate", "")
	send(400, "POST", "/requests", `{"package":"Ledger reader","target":"nobody"}`)
	send(400, "POST", "/requests", `{"pakage":"Ledger reader"}`)
	send(201, "POST", "/graph/faults", `{"status":503,"times":1}`)
	f.want(503, "GET", requestPath(r), "")
	send(200, "DELETE", "/graph/faults", "")
}

func TestTheControlShowsAllThatIsSetUp(t *testing.T) {
	t.Parallel()
	f := start(t, Config{})
	resp, err := http.Get(f.BaseURL() + "/_simulator/tenant")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || !bytes.Equal(got, f.Configuration()) {
		t.Errorf("%v: %s", err, got)
	}
	for _, want := range []string{`"Ledger reader"`, `"Which region?"`, f.sample.WaitFinance, `"assignmentRequestApproved"`, `"policies": [`} {
		if !bytes.Contains(got, []byte(want)) {
			t.Errorf("%s is not in it", want)
		}
	}
}
