package servicenow_test

import (
	"fmt"
	"testing"

	"ticketbridge/handler/simulator/servicenow"
)

const orderNow = "/api/sn_sc/servicecatalog/items/" + itemID + "/order_now"

func order(variables map[string]any) map[string]any {
	return map[string]any{"sysparm_quantity": "1", "sysparm_requested_for": aliceID, "variables": variables}
}

func TestAnOrderAnswersWithTheRequestAndMakesTheItemAndItsTasks(t *testing.T) {
	t.Parallel()
	s := start(t)
	result := s.do("POST", orderNow, order(map[string]any{"stage_instance_id": "stage", "bogus": "x"})).want(200).result()
	if result["table"] != "sc_request" || result["request_id"] != result["sys_id"] || result["request_number"] != "REQ0010001" {
		t.Errorf("%v", result)
	}
	items := s.query("sc_req_item", fmt.Sprintf("request=%s", result["request_id"]), "sysparm_fields", "sys_id,number,state,active,cat_item,requested_for,variables.stage_instance_id,variables.bogus", "sysparm_exclude_reference_link", "true")
	if len(items) != 1 || items[0]["cat_item"] != itemID || items[0]["requested_for"] != aliceID || items[0]["variables.stage_instance_id"] != "stage" || items[0]["variables.bogus"] != "" {
		t.Fatalf("%v", items)
	}
	if tasks := s.query("sc_task", fmt.Sprintf("request_item=%s", items[0]["sys_id"])); len(tasks) != 2 {
		t.Errorf("%d tasks", len(tasks))
	}
	got := s.do("PATCH", fmt.Sprintf("/api/now/v2/table/sc_req_item/%s", items[0]["sys_id"]), map[string]string{"correlation_id": "a/b"}).want(200).result()
	if got["correlation_id"] != "a/b" || s.Creations()["a/b"] != 1 {
		t.Errorf("%v %v", got["correlation_id"], s.Creations())
	}
}

func TestAnOrderHasOddRequirements(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *servicenow.Config) {
		c.Catalog = append(c.Catalog, servicenow.CatalogItem{Name: "Gone", Inactive: true})
	})
	good := map[string]any{"stage_instance_id": "stage"}
	for name, spoil := range map[string]func(map[string]any){
		"no quantity":           func(o map[string]any) { delete(o, "sysparm_quantity") },
		"a quantity not a text": func(o map[string]any) { o["sysparm_quantity"] = 1 },
		"no mandatory variable": func(o map[string]any) { o["variables"] = map[string]any{} },
		"an unknown user":       func(o map[string]any) { o["sysparm_requested_for"] = "alice" },
	} {
		body := order(good)
		spoil(body)
		if got := s.do("POST", orderNow, body); got.status != 400 {
			t.Errorf("%s: %d", name, got.status)
		} else {
			got.fails(400)
		}
	}
	s.do("POST", "/api/sn_sc/servicecatalog/items/"+s.CatalogItemID("Gone")+"/order_now", order(good)).fails(404)
	s.do("POST", "/api/sn_sc/v1/servicecatalog/items/nonesuch/order_now", order(good)).fails(404)
	if n := len(s.Tickets("task")); n != 0 {
		t.Errorf("%d tickets", n)
	}
	if list := s.do("GET", "/api/sn_sc/servicecatalog/items", nil).want(200).list(); len(list) != 1 || list[0]["sys_id"] != itemID {
		t.Errorf("%v", list)
	}
	if list := s.do("GET", "/api/sn_sc/servicecatalog/items?sysparm_text=nothing", nil).want(200).list(); len(list) != 0 {
		t.Errorf("%v", list)
	}
	item := s.do("GET", "/api/sn_sc/servicecatalog/items/"+itemID, nil).want(200).result()
	if variables, _ := item["variables"].([]any); len(variables) != 2 {
		t.Errorf("%v", item)
	}
}

func TestTheFlowClosesTheItemWhenItsTasksAreClosedEvenIncomplete(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.do("POST", orderNow, order(map[string]any{"stage_instance_id": "stage"})).want(200)
	tasks := s.Tickets("sc_task")
	if err := s.Close(tasks[0].SysID, servicenow.Closing{Outcome: servicenow.Complete}); err != nil {
		t.Fatal(err)
	}
	if item := s.Tickets("sc_req_item")[0]; !item.Active {
		t.Error("the item closed before its last task")
	}
	if err := s.Close(tasks[1].SysID, servicenow.Closing{Outcome: servicenow.Incomplete}); err != nil {
		t.Fatal(err)
	}
	if item := s.Tickets("sc_req_item")[0]; item.Active || item.Fields["state"] != "3" {
		t.Errorf("the item: %v", item.Fields)
	}
	if request := s.Tickets("sc_request")[0]; request.Active || request.Fields["request_state"] != "closed_complete" {
		t.Errorf("the request: %v", request.Fields)
	}
}

func TestAnItemInsertedThroughTheTableAPIStartsNoFlow(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.create("sc_req_item", map[string]string{"cat_item": itemID})
	if all := s.Tickets("task"); len(all) != 1 {
		t.Errorf("%d records, want the item alone", len(all))
	}
}

func TestTheVariablesOfAnOrderAreFoundInTheTablesThatKeepThem(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *servicenow.Config) {
		c.Catalog[0].Variables = append(c.Catalog[0].Variables, servicenow.Variable{Name: "cost_centre", Set: "accounting"}, servicenow.Variable{Name: "room", Set: "accounting"})
	})
	s.do("POST", orderNow, order(map[string]any{"stage_instance_id": "first", "cost_centre": "4711"})).want(200)
	s.do("POST", orderNow, order(map[string]any{"stage_instance_id": "second"})).want(200)
	kept := func(query string) []map[string]any {
		return s.query("sc_item_option_mtom", query, "sysparm_fields", "request_item,request_item.number,sc_item_option.value,sc_item_option.item_option_new.name", "sysparm_exclude_reference_link", "true")
	}
	rows := kept("sc_item_option.value=first")
	if len(rows) != 1 || rows[0]["request_item.number"] != "RITM0010001" || rows[0]["sc_item_option.item_option_new.name"] != "stage_instance_id" {
		t.Fatalf("%v", rows)
	}
	if got := s.Variables(rows[0]["request_item"].(string)); got["stage_instance_id"] != "first" || got["cost_centre"] != "4711" {
		t.Errorf("%v", got)
	}
	if rows := kept("request_item=" + rows[0]["request_item"].(string)); len(rows) != 4 {
		t.Errorf("%d variables, want 4: %v", len(rows), rows)
	}
	s.do("POST", "/api/now/v2/table/sc_item_option_mtom", map[string]string{}).fails(403) // the instance alone writes these
	if s.Variables("nonesuch") != nil {
		t.Error("variables of nothing")
	}
}

func TestWhatIsInAVariableSetIsNotListedWithTheItem(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *servicenow.Config) {
		c.Catalog[0].Variables = append(c.Catalog[0].Variables, servicenow.Variable{Name: "cost_centre", Set: "accounting", Mandatory: true})
	})
	var names []string
	for _, v := range s.do("GET", "/api/sn_sc/servicecatalog/items/"+itemID, nil).want(200).result()["variables"].([]any) {
		names = append(names, v.(map[string]any)["name"].(string))
	}
	if fmt.Sprint(names) != "[stage_instance_id package accounting]" {
		t.Errorf("listed are %v", names)
	}
	sets := s.query("io_set_item", "sc_cat_item="+itemID, "sysparm_exclude_reference_link", "true")
	if len(sets) != 1 {
		t.Fatalf("%v", sets)
	}
	if got := s.query("item_option_new", fmt.Sprintf("variable_set=%s", sets[0]["variable_set"])); len(got) != 1 || got[0]["name"] != "cost_centre" || got[0]["mandatory"] != "true" {
		t.Errorf("%v", got)
	}
	if message, detail := s.do("POST", orderNow, order(map[string]any{"stage_instance_id": "x"})).fails(400); message != "Mandatory Variables are required" || detail != nil {
		t.Errorf("%q, %v: the catalog does not say which", message, detail)
	}
}

func TestWhatMayNotBeOrderedIsRefused(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *servicenow.Config) {
		c.Catalog = append(c.Catalog, servicenow.CatalogItem{Name: "Not for you", Restricted: true}, servicenow.CatalogItem{Name: "Report a fault", RecordProducer: true})
	})
	item := func(name string) string { return "/api/sn_sc/servicecatalog/items/" + s.CatalogItemID(name) }
	for _, call := range [][2]string{{"GET", item("Not for you")}, {"POST", item("Not for you") + "/order_now"}} {
		if message, _ := s.do(call[0], call[1], order(nil)).fails(400); message != "Security constraints prevent ordering of Item" {
			t.Errorf("%v: %s", call, message)
		}
	}
	if got := s.do("GET", item("Report a fault"), nil).want(200).result(); got["type"] != "record_producer" {
		t.Errorf("%v", got)
	}
	if message, _ := s.do("POST", item("Report a fault")+"/order_now", order(nil)).fails(404); message != "Invalid Request" {
		t.Error(message)
	}
	if n := len(s.Tickets("task")); n != 0 {
		t.Errorf("%d records", n)
	}
}

func TestTheSampleItemCanBeOrderedWithItsReference(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *servicenow.Config) {
		c.Catalog, c.Groups = append(c.Catalog, servicenow.SampleItem()), []string{servicenow.SampleGroup}
	})
	path := "/api/sn_sc/servicecatalog/items/" + s.CatalogItemID(servicenow.SampleItem().Name) + "/order_now"
	s.do("POST", path, order(map[string]any{"correlation_id": "a/b"})).fails(400)
	s.do("POST", path, order(map[string]any{"correlation_id": "a/b", "access_package": "Sales"})).want(200)
	if got := s.query("sys_user_group", "name="+servicenow.SampleGroup); len(got) != 1 || got[0]["active"] != "true" {
		t.Errorf("%v", got)
	}
	if n := len(s.Tickets("sc_task")); n != 2 {
		t.Errorf("%d tasks", n)
	}
}
