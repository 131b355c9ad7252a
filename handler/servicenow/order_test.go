package servicenow

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/misbehave"
	standin "ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/ticket"
)

const (
	reqItems = "/api/now/v2/table/sc_req_item"
	orderNow = "POST /api/sn_sc/servicecatalog/items/{sys_id}/order_now"
)

// order is a draft like ordered, changed.
func order(change func(*ticket.Item)) ticket.Draft {
	d, item := ordered, *ordered.Item
	item.Variables = maps.Clone(item.Variables)
	if d.Item = &item; change != nil {
		change(&item)
	}
	return d
}

func TestAnOrderIsTheRequestedItemWithItsCorrelationIDFieldsAndVariables(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	draft := order(func(i *ticket.Item) {
		i.Quantity, i.RequestedFor = 2, &ticket.Person{PrincipalName: "alice@example.com"}
	})
	rec, err := s.Create(t.Context(), draft, correlationID)
	if err != nil {
		t.Fatal(err)
	}
	have, err := s.Ticket(rec.SysID)
	if err != nil {
		t.Fatal(err)
	}
	if rec.Table != "sc_req_item" || have.Table != "sc_req_item" || !strings.HasPrefix(rec.Number, "RITM") || rec.CorrelationID != correlationID || have.CorrelationID != correlationID {
		t.Errorf("ordered %+v, returned %+v", have, rec)
	}
	for name, want := range map[string]string{
		"short_description": draft.Fields["short_description"], "correlation_display": "ticketbridge", "quantity": "2", "requested_for": aliceID, "cat_item": s.CatalogItemID("Access to an application"),
	} {
		if have.Fields[name] != want {
			t.Errorf("%s is %q, want %q", name, have.Fields[name], want)
		}
	}
	if got := s.Variables(rec.SysID); got["access_package"] != "Sales to Alice Example" || got["justification"] != "line <2>" || got["correlation_id"] != correlationID {
		t.Errorf("the variables are %v", got)
	}
	if n := len(s.Tickets("sc_request")); n != 1 || s.Calls()[orderNow] != 1 {
		t.Errorf("%d requests, %v", n, s.Calls())
	}
	found, err := s.Find(t.Context(), "sc_req_item", correlationID)
	if err != nil || len(found) != 1 || found[0].SysID != rec.SysID {
		t.Errorf("found %v, %v", found, err)
	}
	if _, kept := draft.Item.Variables["correlation_id"]; kept {
		t.Error("the draft was changed")
	}
}

func TestAnOrderIsForTheIntegrationUserWhenNobodyElseIsFound(t *testing.T) {
	t.Parallel()
	for name, person := range map[string]*ticket.Person{"nobody named": nil, "nobody found": {PrincipalName: "nobody@example.com", Email: "nobody@example.com"}, "nobody at all": {}} {
		s := open(t, nil)
		rec, err := s.Create(t.Context(), order(func(i *ticket.Item) { i.RequestedFor = person }), correlationID)
		if err != nil {
			t.Fatal(name, err)
		}
		bridge, _, err := s.FindUser(t.Context(), "bridge", "")
		if have, _ := s.Ticket(rec.SysID); err != nil || have.Fields["requested_for"] != bridge {
			t.Errorf("%s: for %q, want %q (%v)", name, have.Fields["requested_for"], bridge, err)
		}
	}
	// Whom it is for may be known in a minute: that is worth waiting for.
	s := open(t, nil)
	s.Faults.Add(misbehave.Fault{Match: "GET /api/now/v2/table/sys_user", Status: 503})
	_, err := s.Create(t.Context(), order(func(i *ticket.Item) { i.RequestedFor = &ticket.Person{PrincipalName: "alice@example.com"} }), correlationID)
	failed(t, err, fault.Unreachable)
	if s.Calls()[orderNow] != 0 {
		t.Error("it was ordered for nobody")
	}
}

func TestAnItemIsLookedUpOnceForManyOrders(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	byID := s.CatalogItemID("Access to an application")
	for n := range 4 {
		if _, err := s.Create(t.Context(), order(func(i *ticket.Item) {
			if n%2 == 1 {
				i.Item = byID
			}
		}), fmt.Sprintf("%s/%d", correlationID, n+2)); err != nil {
			t.Fatal(err)
		}
	}
	if c := s.Calls(); c["GET /api/now/v2/table/sc_cat_item"] != 1 || c["GET /api/sn_sc/servicecatalog/items/{sys_id}"] != 2 || c[orderNow] != 4 || c["GET "+reqItems] != 4 || c["PATCH "+reqItems+"/{sys_id}"] != 4 {
		t.Errorf("called %v", c)
	}
}

func TestAnItemThatCannotBeOrderedOrFoundAgainIsNotOrdered(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		catalog standin.CatalogItem
		change  func(*ticket.Draft)
		denied  []standin.Denial
		words   []string
	}{
		"no variable for the reference": {
			catalog: standin.CatalogItem{Variables: []standin.Variable{{Name: "access_package"}}}, words: []string{"no variable correlation_id", "Single Line Text"},
		},
		"the variable is in a set that may not be read": {
			catalog: standin.CatalogItem{Variables: []standin.Variable{{Name: "correlation_id", Set: "reference"}}},
			denied:  []standin.Denial{{Table: "item_option_new", Operation: standin.Read}}, words: []string{"none that is shown to us"},
		},
		"no reference in the rule": {
			catalog: standin.SampleItem(), change: func(d *ticket.Draft) { d.Item.Reference = "" }, words: []string{"which variable", "Name the variable"},
		},
		"another table in the rule": {
			catalog: standin.SampleItem(), change: func(d *ticket.Draft) { d.Table = "sc_request" }, words: []string{"another table", "sc_req_item"},
		},
		"no such name":         {catalog: standin.CatalogItem{Name: "Other"}, words: []string{"no active catalog item", "by its sys_id"}},
		"no such sys_id":       {catalog: standin.SampleItem(), change: func(d *ticket.Draft) { d.Item.Item = aliceID }, words: []string{"cannot be ordered by us", "active", "user criteria"}},
		"a name with a query":  {catalog: standin.SampleItem(), change: func(d *ticket.Draft) { d.Item.Item = "x^ORnameISNOTEMPTY" }, words: []string{"no active catalog item"}},
		"an inactive item":     {catalog: standin.CatalogItem{Inactive: true}, words: []string{"no active catalog item"}},
		"not for us":           {catalog: standin.CatalogItem{Restricted: true}, words: []string{"cannot be ordered by us", "user criteria"}},
		"a record producer":    {catalog: standin.CatalogItem{RecordProducer: true, Variables: standin.SampleItem().Variables}, words: []string{"a record producer"}},
		"two of the same name": {catalog: standin.SampleItem(), change: func(d *ticket.Draft) { d.Item.Item = "Twin" }, words: []string{"more than one", "by its sys_id"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.catalog.Name == "" {
				tc.catalog.Name = "Access to an application"
			}
			s := open(t, func(c *standin.Config) {
				c.Catalog = []standin.CatalogItem{tc.catalog, {Name: "Twin"}, {Name: "Twin"}}
			})
			s.SetDenied("bridge", tc.denied...)
			d := order(nil)
			if tc.change != nil {
				tc.change(&d)
			}
			_, err := s.Create(t.Context(), d, correlationID)
			if e := failed(t, err, fault.Misconfigured, tc.words...); e.Advice == "" {
				t.Errorf("%v says not what to do", e)
			}
			if s.Calls()[orderNow] != 0 || len(s.Tickets("task")) != 0 {
				t.Errorf("ordered: %v", s.Calls())
			}
		})
	}
}

func TestAVariableOfASetIsFound(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *standin.Config) {
		c.Catalog = []standin.CatalogItem{
			{Name: "Access to an application", Variables: []standin.Variable{{Name: "access_package"}, {Name: "justification"}, {Name: "correlation_id", Set: "reference", Mandatory: true}, {Name: "more", Set: "reference"}}},
			{Name: "Other", Variables: []standin.Variable{{Name: "foreign", Set: "foreign"}}},
		}
	})
	rec, err := s.Create(t.Context(), ordered, correlationID)
	if err != nil || s.Variables(rec.SysID)["correlation_id"] != correlationID {
		t.Errorf("ordered %+v, %v", rec, err)
	}
	item, err := s.Item(t.Context(), "Access to an application")
	if err != nil || item.Name != "Access to an application" || !item.has("more") || item.has("foreign") {
		t.Errorf("the item is %+v, %v", item, err)
	}
	nested := answered(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/items/") {
			says(200, `{"result":{"sys_id":"`+aliceID+`","variables":[{"type":"19","name":"","children":[{"name":"a","mandatory":true},{"name":"box","children":[{"name":"b","label":"B"}]}]}]}}`)(w, r)
			return
		}
		says(403, `{"error":{"message":"User Not Authorized"},"status":"failure"}`)(w, r)
	})
	if item, err := nested.Item(t.Context(), aliceID); err != nil || !item.has("a") || !item.Variables[0].Mandatory || !item.has("b") {
		t.Errorf("the item with containers is %+v, %v", item, err)
	}
}

func TestAnOrderThatIsTurnedDownSaysWhy(t *testing.T) {
	t.Parallel()
	own := func(message string) string {
		return `{"error":{"message":"` + message + `","detail":null},"status":"failure"}`
	}
	for name, tc := range map[string]struct {
		status int
		body   string
		want   fault.Reason
		words  []string
	}{
		"mandatory variables":       {400, own("Mandatory Variables are required"), fault.Refused, []string{"without a value are cost_centre", "every mandatory variable"}},
		"not for us":                {400, own("Security constraints prevent ordering of Item"), fault.Forbidden, []string{"user criteria"}},
		"something wrong inside":    {404, own("Invalid Request"), fault.Unclear, []string{"Invalid Request", "instance's log"}},
		"an item that is gone":      {404, own("Invalid Item"), fault.Misconfigured, []string{"no longer there"}},
		"a quantity":                {400, own("Invalid Quantity value"), fault.Refused, []string{"Invalid Quantity value"}},
		"a right":                   {403, own("ACL Exception Insert Failed due to security constraints"), fault.Forbidden, []string{"lacks a right"}},
		"nothing at this address":   {404, "<html>", fault.Misconfigured, []string{"SERVICENOW_URL"}},
		"throttled":                 {429, "", fault.Throttled, nil},
		"created in place of 200":   {201, `{"result":{"request_id":"` + aliceID + `"}}`, fault.Unclear, []string{"200 is expected"}},
		"202, which drops the call": {202, "", fault.Unclear, nil},
		"no request":                {200, `{"result":{"request_number":"REQ1"}}`, fault.Unclear, []string{"does not name the request"}},
		"a list":                    {200, `{"result":[]}`, fault.Unclear, nil},
		"a page":                    {200, "<html>", fault.Unclear, []string{"a page for people"}},
		"a cancelled transaction":   {200, `{"result":{"request_id":"` + aliceID + `"},"error":{"message":"Transaction cancelled"},"status":"failure"}`, fault.Unclear, nil},
		"a gateway":                 {504, "", fault.Unclear, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, func(c *standin.Config) {
				item := standin.SampleItem()
				item.Variables = append(item.Variables, standin.Variable{Name: "cost_centre", Mandatory: true})
				c.Catalog = []standin.CatalogItem{item}
			})
			s.Faults.Add(misbehave.Fault{Match: "POST", Status: tc.status, Body: tc.body})
			_, err := s.Create(t.Context(), ordered, correlationID)
			failed(t, err, tc.want, tc.words...)
			if n := s.Calls()[orderNow]; n != 1 {
				t.Errorf("ordered %d times, want once", n)
			}
		})
	}
}

func TestAnItemIsLookedUpAnewAfterAnOrderWasTurnedDown(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.Faults.Add(misbehave.Fault{Match: "POST", Times: 1, Status: 404, Body: `{"error":{"message":"Invalid Item"},"status":"failure"}`})
	_, err := s.Create(t.Context(), ordered, correlationID)
	failed(t, err, fault.Misconfigured)
	if _, err := s.Create(t.Context(), ordered, correlationID); err != nil || s.Calls()["GET /api/sn_sc/servicecatalog/items/{sys_id}"] != 2 {
		t.Errorf("%v, called %v", err, s.Calls())
	}
}

// A crash is a process that hears no answer, or never asks. Whatever it is that does not come, the next process looks first, and finds the order or orders.
func TestACrashAtAnyPointOfAnOrderLeavesOneOrderThatIsFound(t *testing.T) {
	t.Parallel()
	calls := []string{"POST /api/sn_sc/*/order_now", "GET " + reqItems, "PATCH " + reqItems + "/*"}
	points := map[string]struct {
		fault      misbehave.Fault
		ordered    int // requests that exist when it is over
		correlated bool
	}{}
	for n, match := range calls {
		before, done := 1, n == 2
		if n == 0 {
			before = 0
		}
		for how, f := range map[string]misbehave.Fault{
			"never arrives": {DropCall: true}, "loses its answer": {LoseAnswer: true}, "is answered by a gateway that gave up": {Status: 504, TakeEffect: true},
			"is throttled": {Status: 429, RetryAfter: "30"}, "is refused by an instance that restarts": {Status: 503}, "is cut off as a transaction": {Status: 200, TakeEffect: true, Body: `{"error":{"message":"Transaction cancelled"},"status":"failure"}`},
		} {
			f.Match, f.Times = match, 1
			takes := f.LoseAnswer || f.TakeEffect
			p := points[match+" "+how]
			if p.fault, p.ordered, p.correlated = f, before, done && takes; n == 0 && takes {
				p.ordered = 1
			}
			points[match+" "+how] = p
		}
	}
	for name, p := range points {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, nil)
			s.Faults.Add(p.fault)
			_, err := s.Create(t.Context(), ordered, correlationID)
			e := failed(t, err, fault.ReasonOf(err))
			switch throttled := p.fault.Status == 429; {
			case throttled && p.ordered == 0:
				failed(t, err, fault.Throttled)
			default:
				failed(t, err, fault.Unclear)
			}
			if p.fault.RetryAfter != "" && e.After != 30*time.Second {
				t.Errorf("after %s", e.After)
			}
			if strings.HasPrefix(p.fault.Match, "POST") == strings.Contains(err.Error(), "was ordered") {
				t.Errorf("%v does not say whether it was ordered", err)
			}
			if n := len(s.Tickets("sc_req_item")); n != p.ordered || s.Creations()[correlationID] == 1 != p.correlated {
				t.Fatalf("%d orders, correlated %v", n, s.Creations())
			}

			// Another process comes upon the intent.
			next := s.with(Config{})
			found, err := next.Find(t.Context(), "sc_req_item", correlationID)
			if err != nil || len(found) != p.ordered {
				t.Fatalf("found %v, %v", found, err)
			}
			var rec ticket.Record
			if p.ordered == 1 {
				rec = found[0]
			} else if rec, err = next.Create(t.Context(), ordered, correlationID); err != nil {
				t.Fatal(err)
			}
			if rec.CorrelationID != correlationID || rec.Table != "sc_req_item" || rec.Fields["correlation_id"] != correlationID || !strings.HasPrefix(rec.Number, "RITM") {
				t.Errorf("it is %+v", rec)
			}
			again, err := next.Find(t.Context(), "sc_req_item", correlationID)
			if n := len(s.Tickets("sc_request")); err != nil || len(again) != 1 || again[0].SysID != rec.SysID || n != 1 || len(s.ByCorrelation(correlationID)) != 1 {
				t.Errorf("%d requests; found %v, %v", n, again, err)
			}
		})
	}
}

func TestAnAdoptionThatFailsIsMadeAgainAndNothingIsOrderedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault  misbehave.Fault
		denied []standin.Denial
		want   fault.Reason
	}{
		"the order's variables cannot be asked for": {fault: misbehave.Fault{Match: "GET /api/now/v2/table/sc_item_option_mtom", Status: 503}, want: fault.Unreachable},
		"the answer is lost":                        {fault: misbehave.Fault{Match: "PATCH", LoseAnswer: true}, want: fault.Unreachable},
		"it never arrives":                          {fault: misbehave.Fault{Match: "PATCH", DropCall: true}, want: fault.Unreachable},
		"throttled":                                 {fault: misbehave.Fault{Match: "PATCH", Status: 429}, want: fault.Throttled},
		"the variables are not shown":               {denied: []standin.Denial{{Table: "sc_item_option_mtom", Operation: standin.Read}}, want: fault.Forbidden},
		"their values are not shown":                {denied: []standin.Denial{{Table: "sc_item_option", Operation: standin.Read, Field: "value"}}, want: fault.Misconfigured},
		"the item may not be written":               {denied: []standin.Denial{{Table: "sc_req_item", Operation: standin.Write}}, want: fault.Forbidden},
		"its correlation_id may not be written":     {denied: []standin.Denial{{Table: "sc_req_item", Operation: standin.Write, Field: "correlation_id"}}, want: fault.Misconfigured},
		"the item is not shown":                     {denied: []standin.Denial{{Table: "sc_req_item", Operation: standin.Read}}, want: fault.Forbidden},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, nil)
			remove := s.Faults.Add(misbehave.Fault{Match: "GET " + reqItems, DropCall: true})
			_, err := s.Create(t.Context(), ordered, correlationID)
			failed(t, err, fault.Unclear, "REQ0010001 was ordered")
			remove()
			if tc.fault.Match != "" {
				remove = s.Faults.Add(tc.fault)
			}
			s.SetDenied("bridge", tc.denied...)
			found, err := s.Find(t.Context(), "sc_req_item", correlationID)
			if e := failed(t, err, tc.want); len(found) != 0 || e.Reason == fault.Forbidden && e.Advice == "" {
				t.Errorf("found %v, advice %q", found, e.Advice)
			}
			remove()
			s.SetDenied("bridge")
			if found, err = s.Find(t.Context(), "sc_req_item", correlationID); err != nil || len(found) != 1 || found[0].CorrelationID != correlationID || len(s.Tickets("sc_request")) != 1 {
				t.Errorf("found %v, %v", found, err)
			}
		})
	}
}

func TestNothingIsAdoptedThatIsNotOurs(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	remove := s.Faults.Add(misbehave.Fault{Match: "GET " + reqItems, DropCall: true})
	_, err := s.Create(t.Context(), ordered, correlationID)
	failed(t, err, fault.Unclear)
	remove()
	// Another one's, and one that was deleted.
	if found, err := s.Find(t.Context(), "sc_req_item", correlationID+"/2"); err != nil || len(found) != 0 {
		t.Errorf("found %v, %v", found, err)
	}
	if err := s.Delete(s.Tickets("sc_req_item")[0].SysID); err != nil {
		t.Fatal(err)
	}
	if found, err := s.Find(t.Context(), "sc_req_item", correlationID); err != nil || len(found) != 0 {
		t.Errorf("found %v, which was deleted, %v", found, err)
	}
	if n := s.Calls()["PATCH "+reqItems+"/{sys_id}"]; n != 0 {
		t.Errorf("%d records were changed", n)
	}
	// An instance that ignores the condition answers with anybody's.
	ignored := answered(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/sc_req_item"):
			says(200, `{"result":[]}`)(w, r)
		case r.Method == http.MethodGet:
			says(200, `{"result":[{"request_item":"`+aliceID+`","sc_item_option.value":"`+otherID+`"}]}`)(w, r)
		default:
			t.Errorf("%s %s", r.Method, r.URL.Path)
		}
	})
	_, err = ignored.Find(t.Context(), "sc_req_item", correlationID)
	failed(t, err, fault.Misconfigured, "was ignored")
}

func TestAnOrderWhoseItemCannotBeCorrelatedIsNamedAndNotMadeAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		denied   []standin.Denial
		policies []standin.Policy
		want     fault.Reason
		words    []string
	}{
		"the item may not be written": {denied: []standin.Denial{{Table: "sc_req_item", Operation: standin.Write}}, want: fault.Forbidden, words: []string{"lacks a right on sc_req_item"}},
		"the item is not shown":       {denied: []standin.Denial{{Table: "sc_req_item", Operation: standin.Read}}, want: fault.Forbidden, words: []string{"does not show us the requested item"}},
		"correlation_id is dropped":   {denied: []standin.Denial{{Table: "sc_req_item", Operation: standin.Write, Field: "correlation_id"}}, want: fault.Misconfigured, words: []string{"RITM", "is empty"}},
		"a data policy":               {policies: []standin.Policy{{Table: "sc_req_item", Operation: standin.Write, Mandatory: []string{"assignment_group"}}}, want: fault.Refused, words: []string{"a data policy wants Assignment group"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, nil)
			s.SetDenied("bridge", tc.denied...)
			s.SetPolicies(tc.policies...)
			_, err := s.Create(t.Context(), ordered, correlationID)
			if e := failed(t, err, tc.want, append(tc.words, "REQ0010001 was ordered", "does not order again")...); e.Reason.Temporary() {
				t.Error("it would be tried again by itself")
			}
			s.SetDenied("bridge")
			s.SetPolicies()
			if found, err := s.Find(t.Context(), "sc_req_item", correlationID); err != nil || len(found) != 1 || len(s.Tickets("sc_request")) != 1 {
				t.Errorf("found %v, %v", found, err)
			}
		})
	}
}

// Whoever takes over after the lease must find what was ordered, so an order begins early in the time that one call has, or not at all.
func TestAnOrderTakesNoLongerThanOneCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, nil)
		s.Faults.Add(misbehave.Fault{Match: "GET /api/now/v2/table/sc_cat_item", Delay: 16 * time.Second})
		began := time.Now()
		_, err := s.Create(t.Context(), ordered, correlationID)
		failed(t, err, fault.Unreachable, "looking the item up took too long")
		if d := time.Since(began); d != 16*time.Second || s.Calls()[orderNow] != 0 {
			t.Errorf("given up after %s, called %v", d, s.Calls())
		}
		// It is known now. The order and what follows share the time.
		s.Faults.Clear()
		s.Faults.Add(misbehave.Fault{Match: "POST", DelayAnswer: 20 * time.Second})
		s.Faults.Add(misbehave.Fault{Match: "GET " + reqItems, Delay: time.Hour})
		began = time.Now()
		_, err = s.Create(t.Context(), ordered, correlationID)
		failed(t, err, fault.Unclear, "was ordered", "no answer in time")
		if d := time.Since(began); d != 30*time.Second {
			t.Errorf("given up after %s", d)
		}
		// Whoever has less time than a call gets the same share of it.
		s.Faults.Clear()
		s.Faults.Add(misbehave.Fault{Match: "GET /api/now/v2/table/sc_cat_item", Delay: 3 * time.Second})
		short, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, err = s.with(Config{}).Create(short, ordered, otherID)
		failed(t, err, fault.Unreachable, "looking the item up took too long")
	})
}

func TestOfSeveralItemsOfARequestTheOneThatWasOrderedIsTaken(t *testing.T) {
	t.Parallel()
	const other, ours, item = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "cccccccccccccccccccccccccccccccc", aliceID
	for name, tc := range map[string]struct {
		rows string
		want string
	}{
		"the second":    {`{"sys_id":"` + other + `","request":"` + item + `","cat_item":"` + other + `"},{"sys_id":"` + ours + `","request":"` + item + `","cat_item":"` + item + `"}`, ours},
		"the only one":  {`{"sys_id":"` + ours + `","request":"` + item + `","cat_item":""}`, ours},
		"not another's": {`{"sys_id":"` + other + `","request":"` + other + `","cat_item":"` + item + `"}`, ""},
	} {
		var changed string
		c := answered(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.Method {
			case http.MethodPost:
				says(200, `{"result":{"request_id":"`+item+`","request_number":"REQ1"}}`)(w, r)
			case http.MethodGet:
				says(200, `{"result":[`+tc.rows+`]}`)(w, r)
			default:
				changed = r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
				says(200, `{"result":{"sys_id":"`+changed+`","number":"RITM1","correlation_id":"`+correlationID+`"}}`)(w, r)
			}
		})
		knowing(c)
		rec, err := c.Create(t.Context(), ordered, correlationID)
		if tc.want == "" {
			failed(t, err, fault.Forbidden, "REQ1 was ordered")
		} else if err != nil || rec.SysID != tc.want {
			t.Errorf("%s: %+v, %v", name, rec, err)
		}
		if changed != tc.want {
			t.Errorf("%s: changed %q, want %q", name, changed, tc.want)
		}
	}
}
