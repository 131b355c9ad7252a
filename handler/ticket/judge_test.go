package ticket

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ticketbridge/handler/correlation"
)

type fields = map[string]string

func TestFieldsMeanWhatTheyMeanInServiceNow(t *testing.T) {
	t.Parallel()
	const pending, done, notDone, unknown = correlation.Pending, correlation.Fulfilled, correlation.Rejected, correlation.Unknown
	for _, c := range []struct {
		table  string
		fields fields
		want   correlation.Outcome
		state  string
	}{
		{"incident", fields{"state": "1", "active": "true"}, pending, "state=1"},
		{"incident", fields{"state": "3", "active": "true"}, pending, "state=3"}, // On Hold, not Closed Complete
		{"incident", fields{"state": "6", "active": "true"}, done, "state=6"},
		{"incident", fields{"state": "7", "active": "false"}, done, "state=7"},
		{"incident", fields{"state": "8", "active": "false"}, notDone, "state=8"},
		{"incident", fields{"state": "6", "active": "true", "close_code": "Solution provided"}, done, "state=6"},
		{"incident", fields{"state": "7", "active": "false", "close_code": "Not Solved (Too Costly)"}, notDone, "state=7, close_code=Not Solved (Too Costly)"},
		{"incident", fields{"state": "7", "active": "false", "close_code": "No resolution provided"}, notDone, "state=7, close_code=No resolution provided"},
		{"incident", fields{"state": "2", "active": "false"}, unknown, "state=2, active=false"},
		{"incident", fields{"state": "16", "active": "false"}, unknown, "state=16, active=false"},
		{"incident", fields{"state": "16", "active": "true"}, pending, "state=16"},

		{"sc_request", fields{"request_state": "requested", "state": "1", "active": "true"}, pending, "request_state=requested"},
		{"sc_request", fields{"request_state": "in_process", "active": "true", "approval": "approved"}, pending, "request_state=in_process"},
		{"sc_request", fields{"request_state": "in_process"}, pending, "request_state=in_process"},
		{"sc_request", fields{"request_state": "closed_complete", "state": "3", "active": "false"}, done, "request_state=closed_complete"},
		{"sc_request", fields{"request_state": "closed_complete", "state": "1", "active": "false"}, done, "request_state=closed_complete"},
		{"sc_request", fields{"request_state": "closed_complete", "state": "4", "active": "false"}, unknown, "request_state=closed_complete, state=4"},
		{"sc_request", fields{"request_state": "closed_complete", "active": "false", "approval": "rejected"}, unknown, "request_state=closed_complete, approval=rejected"},
		{"sc_request", fields{"request_state": "closed_incomplete", "active": "false"}, notDone, "request_state=closed_incomplete"},
		{"sc_request", fields{"request_state": "closed_incomplete", "state": "3", "active": "false"}, notDone, "request_state=closed_incomplete"},
		{"sc_request", fields{"request_state": "closed_cancelled", "active": "false"}, notDone, "request_state=closed_cancelled"},
		{"sc_request", fields{"request_state": "closed_rejected", "active": "false", "approval": "rejected"}, notDone, "request_state=closed_rejected, approval=rejected"},
		{"sc_request", fields{"request_state": "requested", "active": "true", "approval": "rejected"}, notDone, "request_state=requested, approval=rejected"},
		{"sc_request", fields{"request_state": "in_process", "state": "3", "active": "true"}, pending, "request_state=in_process"},
		{"sc_request", fields{"request_state": "in_process", "state": "3", "active": "false"}, unknown, "request_state=in_process, active=false"},
		{"sc_request", fields{"request_state": "", "state": "3", "active": "false"}, done, "state=3"},
		{"sc_request", fields{"request_state": "", "state": "4", "active": "false"}, notDone, "state=4"},
		{"sc_request", fields{"request_state": "u_half_done", "active": "false"}, unknown, "request_state=u_half_done, active=false"},
		{"sc_request", fields{"request_state": "u_half_done", "state": "3", "active": "false"}, unknown, "request_state=u_half_done, active=false"},
		{"sc_request", fields{"active": "true"}, pending, "no state to be read"},
		{"sc_request", fields{"active": "false"}, unknown, "active=false"},
		{"sc_request", fields{}, unknown, "no state to be read"},
		{"sc_request", nil, unknown, "no state to be read"},

		{"sc_req_item", fields{"state": "3", "active": "false"}, done, "state=3"},
		{"sc_req_item", fields{"state": "4", "active": "false"}, notDone, "state=4"},
		{"sc_req_item", fields{"state": "7", "active": "false"}, notDone, "state=7"},
		{"sc_req_item", fields{"state": "2", "active": "true", "approval": "rejected"}, notDone, "state=2, approval=rejected"},
		{"sc_task", fields{"state": "3", "active": "false"}, done, "state=3"},
		{"sc_task", fields{"state": "-5", "active": "true"}, pending, "state=-5"},
		{"sc_task", fields{"state": "4"}, notDone, "state=4"},
		{"sc_task", fields{"state": "7"}, notDone, "state=7"},

		{"change_request", fields{"state": "-1", "active": "true"}, pending, "state=-1"},
		{"change_request", fields{"state": "0", "active": "true"}, pending, "state=0"},
		{"change_request", fields{"state": "3", "active": "false", "close_code": "successful"}, done, "state=3"},
		{"change_request", fields{"state": "3", "active": "false", "close_code": "successful_issues"}, done, "state=3"},
		{"change_request", fields{"state": "3", "active": "false", "close_code": "unsuccessful"}, notDone, "state=3, close_code=unsuccessful"},
		{"change_request", fields{"state": "3", "active": "false", "close_code": "u_rolled_back"}, unknown, "state=3, close_code=u_rolled_back"},
		{"change_request", fields{"state": "3", "active": "false"}, unknown, "state=3, close_code=(empty)"},
		{"change_request", fields{"state": "4", "active": "false"}, notDone, "state=4"},

		// A table that nobody mapped: the base table's states, and only of what is no longer active.
		{"u_access_work", fields{"state": "3", "active": "false"}, done, "state=3"},
		{"u_access_work", fields{"state": "3", "active": "true"}, pending, "state=3, active=true"},
		{"u_access_work", fields{"state": "3"}, unknown, "state=3, active cannot be read"},
		{"u_access_work", fields{"state": "4", "active": "true"}, pending, "state=4, active=true"},
		{"u_access_work", fields{"state": "4", "active": "false"}, notDone, "state=4"},
		{"u_access_work", fields{"state": "10", "active": "false"}, unknown, "state=10, active=false"},

		// Read through the parent table.
		{"task", fields{"sys_class_name": "incident", "state": "3", "active": "true"}, pending, "state=3"},
		{"task", fields{"sys_class_name": "incident", "state": "6", "active": "true"}, done, "state=6"},
		{"task", fields{"sys_class_name": "task", "state": "3", "active": "false"}, done, "state=3"},
	} {
		if got := BuiltIn().Judge("grant", c.table, c.fields); got.Outcome != c.want || got.State != c.state {
			t.Errorf("%s %v: %s %q, want %s %q", c.table, c.fields, got.Outcome, got.State, c.want, c.state)
		}
	}
}

// doneStates are the only values that may ever count as done, by table and the column that decides. They are written out here again on purpose.
var doneStates = map[string]map[string][]string{
	"incident":       {"state": {"6", "7"}},
	"sc_request":     {"request_state": {"closed_complete"}, "state": {"3"}},
	"sc_req_item":    {"state": {"3"}},
	"sc_task":        {"state": {"3"}},
	"change_request": {"state": {"3"}},
	"":               {"state": {"3"}},
}

func TestNothingOutsideTheMappedStatesIsEverDone(t *testing.T) {
	t.Parallel()
	rules := BuiltIn()
	value := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
		"", "1", "2", "3", "4", "6", "7", "8", "-5", "0", "true", "false", "closed_complete", "closed_incomplete", "in_process", "rejected", "approved",
		"successful", "unsuccessful", "Not Solved (Not Reproducible)", "incident", "sc_request", " 3", "3 ", "Closed Complete",
	}))
	rapid.Check(t, func(t *rapid.T) {
		table := rapid.OneOf(rapid.SampledFrom([]string{"incident", "sc_request", "sc_req_item", "sc_task", "change_request", "task", "u_any"}), rapid.String()).Draw(t, "table")
		f := rapid.MapOf(rapid.SampledFrom([]string{"state", "request_state", "active", "approval", "close_code", "sys_class_name", "incident_state", "stage"}), value).Draw(t, "fields")
		got := rules.Judge(rapid.SampledFrom([]string{"grant", "removal", "gone", ""}).Draw(t, "rule"), table, f)
		if !slices.Contains([]correlation.Outcome{correlation.Pending, correlation.Fulfilled, correlation.Rejected, correlation.Unknown}, got.Outcome) {
			t.Fatalf("outcome %q", got.Outcome)
		}
		if got.State == "" || strings.ContainsAny(got.State, "\n\r") {
			t.Fatalf("state text %q", got.State)
		}
		if got.Outcome != correlation.Fulfilled {
			return
		}
		if table == "task" && f["sys_class_name"] != "" {
			table = f["sys_class_name"]
		}
		allowed, ok := doneStates[table]
		if !ok {
			allowed = doneStates[""]
			if f["active"] != "false" && f["active"] != "0" && !strings.EqualFold(f["active"], "false") {
				t.Fatalf("done in a table that nobody mapped, while it may be active: %v", f)
			}
		}
		column := "state"
		if table == "sc_request" && f["request_state"] != "" {
			column = "request_state"
		}
		if !slices.Contains(allowed[column], strings.ToLower(f[column])) {
			t.Fatalf("done by %s=%q", column, f[column])
		}
		if strings.EqualFold(f["approval"], "rejected") {
			t.Fatal("done although the approval was rejected")
		}
	})
}

func TestTheColumnsAskedForAreAllThatIsLookedAt(t *testing.T) {
	t.Parallel()
	for table, want := range map[string][]string{
		"sc_request":     {"active", "approval", "request_state", "state", "sys_class_name"},
		"incident":       {"active", "approval", "close_code", "state", "sys_class_name"},
		"change_request": {"active", "approval", "close_code", "state", "sys_class_name"},
		"sc_task":        {"active", "approval", "state", "sys_class_name"},
		"u_any":          {"active", "approval", "state", "sys_class_name"},
		"task":           {"active", "approval", "close_code", "request_state", "state", "sys_class_name"},
	} {
		got := BuiltIn().Columns(table)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", table, got, want)
		}
	}
}

func TestARulesOwnMeaningGoesBeforeTheTables(t *testing.T) {
	t.Parallel()
	r := BuiltIn()
	own := meaning{decide: []reading{{column: "u_phase", means: map[string]correlation.Outcome{"provisioned": correlation.Fulfilled}}}, inactive: true}
	r.rules = append([]rule{{name: "own", meanings: map[string]meaning{"sc_request": own}}}, r.rules...)
	f := fields{"u_phase": "provisioned", "request_state": "closed_complete", "active": "true"}
	if got := r.Judge("own", "sc_request", f); got.Outcome != correlation.Pending {
		t.Errorf("own: %+v", got)
	}
	f["active"] = "false"
	if got := r.Judge("own", "sc_request", f); got.Outcome != correlation.Fulfilled || got.State != "u_phase=provisioned" {
		t.Errorf("own: %+v", got)
	}
	if got := r.Judge("grant", "sc_request", f); got.State != "request_state=closed_complete" {
		t.Errorf("another rule: %+v", got)
	}
	if !slices.Contains(r.Columns("sc_request"), "u_phase") {
		t.Error("the rule's column is not asked for")
	}
}
