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
