package servicenow

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/fault"
	standin "ticketbridge/handler/simulator/servicenow"
)

func TestFindReturnsTheRecordsWithExactlyTheCorrelationIDOldestFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, nil)
		var ours []string
		for n := range 12 {
			if n < 6 { // the first six in six seconds, the rest in the seventh
				time.Sleep(time.Second)
			}
			ours = append(ours, s.insert("sc_request", map[string]string{"correlation_id": correlationID, "state": "2"}))
			s.insert("sc_request", map[string]string{"correlation_id": otherID})
			s.insert("incident", map[string]string{"correlation_id": correlationID})
		}
		found, err := s.Find(t.Context(), "sc_request", correlationID)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(ours[5:]) // ServiceNow's times are of whole seconds, so of those of one second the order is only the same each time
		var got []string
		for _, rec := range found {
			got = append(got, rec.SysID)
			if rec.Table != "sc_request" || rec.CorrelationID != correlationID || !strings.HasPrefix(rec.Number, "REQ") || rec.Fields["state"] != "2" || rec.Fields["request_state"] != "requested" {
				t.Errorf("found %+v", rec)
			}
		}
		if !slices.Equal(got, ours[:findLimit]) {
			t.Errorf("found %v, want %v", got, ours[:findLimit])
		}
	})
}

func TestFindReturnsNoneWhenThereIsNone(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.insert("sc_request", map[string]string{"correlation_id": otherID})
	if found, err := s.Find(t.Context(), "sc_request", correlationID); err != nil || len(found) != 0 {
		t.Errorf("found %v, %v", found, err)
	}
	if n := s.Calls()["GET "+requests]; n != 1 {
		t.Errorf("%d calls, want 1", n)
	}
}

// Otherwise the bridge would adopt somebody else's ticket, or open another one each time.
func TestFindTakesAnIgnoredConditionNeitherForAMatchNorForNone(t *testing.T) {
	t.Parallel()
	t.Run("the table has no correlation_id", func(t *testing.T) {
		t.Parallel()
		found, err := open(t, nil).Find(t.Context(), "sys_user", correlationID)
		if e := failed(t, err, fault.Misconfigured, "sys_user", "without correlation_id"); e.Field != "correlation_id" || len(found) != 0 {
			t.Errorf("found %v, %v", found, e)
		}
	})
	t.Run("correlation_id may not be read", func(t *testing.T) {
		t.Parallel()
		s := open(t, nil)
		s.insert("sc_request", map[string]string{"correlation_id": correlationID})
		s.SetDenied("bridge", standin.Denial{Table: "sc_request", Operation: standin.Read, Field: "correlation_id"})
		_, err := s.Find(t.Context(), "sc_request", correlationID)
		failed(t, err, fault.Misconfigured, "may not read it")
	})
	t.Run("correlation_id may be read and not queried", func(t *testing.T) {
		t.Parallel()
		c := answered(t, says(200, `{"result":[{"sys_id":"`+aliceID+`","correlation_id":""},{"sys_id":"`+aliceID+`","correlation_id":"`+otherID+`"}]}`))
		_, err := c.Find(t.Context(), "sc_request", correlationID)
		failed(t, err, fault.Misconfigured, "was ignored")
	})
	t.Run("ours is among the others", func(t *testing.T) {
		t.Parallel()
		c := answered(t, says(200, `{"result":[{"sys_id":"`+strings.Repeat("b", 32)+`","correlation_id":""},{"sys_id":"`+aliceID+`","correlation_id":"`+correlationID+`"}]}`))
		if found, err := c.Find(t.Context(), "sc_request", correlationID); err != nil || len(found) != 1 || found[0].SysID != aliceID {
			t.Errorf("found %v, %v", found, err)
		}
	})
	t.Run("ours comes without a usable sys_id", func(t *testing.T) {
		t.Parallel()
		c := answered(t, says(200, `{"result":[{"sys_id":"../../x","correlation_id":"`+correlationID+`"}]}`))
		_, err := c.Find(t.Context(), "sc_request", correlationID)
		failed(t, err, fault.Misconfigured)
	})
	t.Run("an instance that lets unknown columns match nothing", func(t *testing.T) {
		t.Parallel()
		s := open(t, func(c *standin.Config) { c.InvalidQueryReturnsNoRows = true })
		if found, err := s.Find(t.Context(), "sys_user", correlationID); err != nil || len(found) != 0 {
			t.Errorf("found %v, %v", found, err)
		}
	})
}

func TestFindSaysThatItsRecordsAreHidden(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.create()
	s.SetDenied("bridge", standin.Denial{Table: "task", Operation: standin.Read})
	_, err := s.Find(t.Context(), "sc_request", correlationID)
	failed(t, err, fault.Forbidden, "does not show them", "sc_request")

	s.SetDenied("bridge", standin.Denial{Table: "task", Operation: standin.Read, Query: "correlation_id=" + otherID})
	s.insert("sc_request", map[string]string{"correlation_id": otherID})
	if found, err := s.Find(t.Context(), "sc_request", correlationID); err != nil || len(found) != 1 {
		t.Errorf("found %v, %v: what is hidden of others is no matter", found, err)
	}
}

func TestFindPutsNothingButAnIDIntoTheQuery(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.insert("sc_request", nil)
	for _, id := range []string{
		"", correlationID + "^ORactive=true", "^NQactive=true", "javascript:gs.getUserID()", "a=b", "a b", "a%5Eb", "a\nb", "ä", strings.Repeat("a", 101), "a_b", "a,b",
	} {
		_, err := s.Find(t.Context(), "sc_request", id)
		failed(t, err, fault.Internal)
		_, err = s.Create(t.Context(), draft, id)
		failed(t, err, fault.Internal)
	}
	if len(s.Calls()) != 0 {
		t.Errorf("called %v", s.Calls())
	}
}

func TestFindAsksForValuesAndComparesThem(t *testing.T) {
	t.Parallel()
	c := answered(t, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.URL.Path != requests || q.Get("sysparm_query") != "correlation_id="+correlationID+"^ORDERBYsys_created_on^ORDERBYsys_id" ||
			q.Get("sysparm_display_value") != "false" || q.Get("sysparm_exclude_reference_link") != "true" || q.Get("sysparm_limit") != "10" {
			t.Errorf("asked %s", r.URL)
		}
		for _, column := range []string{"sys_id", "number", "correlation_id", "state", "active", "approval", "request_state"} {
			if !slices.Contains(strings.Split(q.Get("sysparm_fields"), ","), column) {
				t.Errorf("%s is not among the fields %s", column, q.Get("sysparm_fields"))
			}
		}
		says(200, `{"result":[{"sys_id":{"value":"`+aliceID+`"},"correlation_id":{"display_value":"x","value":"`+correlationID+`"},"active":true,"state":3}]}`)(w, r)
	})
	found, err := c.Find(t.Context(), "sc_request", correlationID)
	if err != nil || len(found) != 1 || found[0].Fields["active"] != "true" || found[0].Fields["state"] != "3" {
		t.Errorf("found %+v, %v", found, err)
	}
}

func TestNoCallGoesToWhatCannotBeATable(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	for _, table := range []string{"", "sc_request/../sys_user", "sc_request?x=1", "Sc_request", "1x", "sc request", "sc.request", strings.Repeat("a", 81), "ü"} {
		_, err := s.Find(t.Context(), table, correlationID)
		failed(t, err, fault.Misconfigured)
		_, err = s.Read(t.Context(), table, aliceID)
		failed(t, err, fault.Misconfigured)
	}
	for _, id := range []string{"", "x", aliceID + "a", strings.Repeat("/", 32), strings.Repeat("ä", 16), "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa?"} {
		_, err := s.Read(t.Context(), "sc_request", id)
		failed(t, err, fault.Invalid)
		failed(t, s.Note(t.Context(), "sc_request", id, "x"), fault.Invalid)
	}
	if len(s.Calls()) != 0 {
		t.Errorf("called %v", s.Calls())
	}
}
