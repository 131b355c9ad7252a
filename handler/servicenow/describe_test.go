package servicenow

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"ticketbridge/handler/fault"
	standin "ticketbridge/handler/simulator/servicenow"
)

func TestATableIsDescribedWithTheColumnsOfWhatItExtends(t *testing.T) {
	t.Parallel()
	// The dictionary comes in no order: with several, one that is taken from the wrong table is seen.
	redefined := []string{"description", "number", "close_notes", "contact_type", "correlation_display", "comments", "approval", "due_date"}
	s := open(t, func(c *standin.Config) {
		defer func() {
			for _, name := range redefined {
				own := &c.Tables[len(c.Tables)-1].Columns
				*own = append(*own, standin.Column{Name: name, Max: 31})
			}
		}()
		c.Tables = append(c.Tables, standin.Table{Name: "u_access", Label: "Access request", Extends: "sc_task", Columns: []standin.Column{
			{Name: "u_package", Label: "Access package", Max: 80, Mandatory: true}, {Name: "u_owner", Kind: standin.Reference, Refers: "sys_user"}, {Name: "short_description", Label: "Title", Max: 30},
		}})
	})
	got, err := s.Describe(t.Context(), "u_access")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range redefined {
		if got.Columns[name].MaxLength != 31 {
			t.Errorf("%s is described as its parent has it: %+v", name, got.Columns[name])
		}
	}
	if got.Name != "u_access" || got.Label != "Access request" || !slices.Equal(got.Extends, []string{"sc_task", "task"}) || got.Records != None {
		t.Errorf("described as %+v", got)
	}
	for _, want := range []Column{
		{Name: "u_package", Label: "Access package", Type: "string", MaxLength: 80, Mandatory: true},
		{Name: "u_owner", Label: "Owner", Type: "reference", MaxLength: 40, Reference: "sys_user"},
		{Name: "short_description", Label: "Title", Type: "string", MaxLength: 30},
		{Name: "request_item", Label: "Request item", Type: "reference", MaxLength: 40, Reference: "sc_req_item"},
		{Name: "correlation_id", Label: "Correlation ID", Type: "string", MaxLength: 100},
		{Name: "work_notes", Label: "Work notes", Type: "journal_input", MaxLength: 4000},
		{Name: "sys_created_on", Label: "Created", Type: "glide_date_time", MaxLength: 40, ReadOnly: true},
	} {
		if have := got.Columns[want.Name]; have != want {
			t.Errorf("%s is %+v, want %+v", want.Name, have, want)
		}
	}
	for _, name := range []string{"caller_id", ""} {
		if have, ok := got.Columns[name]; ok {
			t.Errorf("it has the column %+v of another table", have)
		}
	}
	if c := s.Calls(); len(s.Tickets("task")) != 0 || c["GET /api/now/v2/table/sys_db_object"] != 3 || c["GET /api/now/v2/table/sys_dictionary"] != 1 || len(c) != 3 {
		t.Errorf("called %v", c)
	}
	if base, err := s.Describe(t.Context(), "task"); err != nil || len(base.Extends) != 0 || base.Columns["short_description"].MaxLength != 160 {
		t.Errorf("task is %+v, %v", base.Columns["short_description"], err)
	}
}

func TestWhatIsSeenOfATablesRecordsIsSaid(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	id := s.insert("incident", map[string]string{"short_description": "somebody else's"})
	if got, err := s.Describe(t.Context(), "incident"); err != nil || got.Records != Shown {
		t.Errorf("%q, %v", got.Records, err)
	}
	s.SetDenied("bridge", standin.Denial{Table: "incident", Operation: standin.Read})
	if got, err := s.Describe(t.Context(), "incident"); err != nil || got.Records != Hidden {
		t.Errorf("%q, %v", got.Records, err)
	}
	if err := s.Delete(id); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Describe(t.Context(), "incident"); err != nil || got.Records != None {
		t.Errorf("%q, %v", got.Records, err)
	}
}

func TestWhatCannotBeDescribedSaysWhatToDo(t *testing.T) {
	t.Parallel()
	denied := func(table string) func(*site) {
		return func(s *site) {
			s.SetDenied("bridge", standin.Denial{Table: table, Operation: standin.Read})
		}
	}
	for name, tc := range map[string]struct {
		table string
		setUp func(*site)
		want  fault.Reason
		words []string
	}{
		"no such table":               {"u_nonesuch", nil, fault.Misconfigured, []string{"Invalid table u_nonesuch", "name of the table"}},
		"what cannot be a table":      {"sc_request?x=y", nil, fault.Misconfigured, []string{"cannot be the name of a table"}},
		"the tables are not shown":    {"incident", denied("sys_db_object"), fault.Forbidden, []string{"does not show us incident", "sys_db_object and sys_dictionary", "personalize_dictionary"}},
		"the dictionary is not shown": {"incident", denied("sys_dictionary"), fault.Forbidden, []string{"no columns of incident", "personalize_dictionary"}},
		"the parent is not shown": {"incident", func(s *site) {
			s.SetDenied("bridge", standin.Denial{Table: "sys_db_object", Operation: standin.Read, Query: "name=task"})
		}, fault.Forbidden, []string{"or what it extends"}},
		"its names are not shown": {"incident", func(s *site) {
			s.SetDenied("bridge", standin.Denial{Table: "sys_dictionary", Operation: standin.Read, Field: "name"})
		}, fault.Forbidden, []string{"no columns"}},
		"an instance that is sleeping": {"incident", func(s *site) { s.Faults.Add(standin.Hibernating()) }, fault.Unreachable, []string{"wake it up"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, nil)
			if tc.setUp != nil {
				tc.setUp(s)
			}
			_, err := s.Describe(t.Context(), tc.table)
			if e := failed(t, err, tc.want, tc.words...); e.Advice == "" && tc.want != fault.Misconfigured {
				t.Errorf("%v says not what to do", e)
			}
		})
	}
}

func TestADescriptionThatIsNotCompleteOrGoesInCirclesIsNone(t *testing.T) {
	t.Parallel()
	row := `{"name":"incident","element":"x","sys_id":"` + aliceID + `","super_class":"` + aliceID + `"}`
	many := answered(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/sys_dictionary") {
			says(200, `{"result":[`+strings.Repeat(`{"name":"incident","element":"x"},`, maxColumns-1)+row+`]}`)(w, r)
			return
		}
		says(200, `{"result":[`+row+`]}`)(w, r)
	})
	_, err := many.Describe(t.Context(), "incident")
	failed(t, err, fault.Unreachable, "more records of sys_dictionary than are read")

	circle := answered(t, says(200, `{"result":[`+row+`]}`))
	got, err := circle.Describe(t.Context(), "incident")
	if err != nil || len(got.Extends) >= maxParents {
		t.Errorf("it extends %d tables, %v", len(got.Extends), err)
	}
}
