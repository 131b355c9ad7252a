package servicenow

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// CatalogItem is an item that can be ordered.
type CatalogItem struct {
	// SysID is chosen when empty, and then found through [Instance.CatalogItemID].
	SysID            string
	Name             string
	ShortDescription string
	Inactive         bool
	Variables        []Variable
	// Restricted is an item that is not for the caller ("available for"): it can be looked up as a record, and neither seen in the catalog nor ordered.
	Restricted bool
	// RecordProducer is an item that makes a record of another table: it cannot be ordered.
	RecordProducer bool
	// Tasks are the short descriptions of the sc_task records that the item's flow opens.
	Tasks []string
}

// Variable is a question of a catalog item.
type Variable struct {
	Name, Label string
	Mandatory   bool
	// Set is the name of the variable set that it comes in; empty is the item itself. What is in a set is not listed with the item.
	Set string

	sysID string
}

func (i *Instance) addCatalogItem(item *CatalogItem) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.records[item.SysID] != nil {
		return fmt.Errorf("the catalog item %q has a sys_id that is taken", item.Name)
	}
	rec := i.insert(i.tables["sc_cat_item"], map[string]string{
		"name": item.Name, "short_description": item.ShortDescription,
		"active": strconv.FormatBool(!item.Inactive),
	}, systemUser)
	if item.SysID == "" {
		item.SysID = rec.id()
	}
	delete(i.records, rec.id())
	rec.fields["sys_id"] = item.SysID
	i.records[item.SysID] = rec
	item.Variables = slices.Clone(item.Variables)
	sets := map[string]string{}
	for n := range item.Variables {
		v := &item.Variables[n]
		values := map[string]string{"name": v.Name, "question_text": v.label(), "mandatory": strconv.FormatBool(v.Mandatory)}
		if v.Set == "" {
			values["cat_item"] = item.SysID
		} else {
			if sets[v.Set] == "" {
				sets[v.Set] = i.insert(i.tables["item_option_new_set"], map[string]string{"internal_name": v.Set}, systemUser).id()
				i.insert(i.tables["io_set_item"], map[string]string{"sc_cat_item": item.SysID, "variable_set": sets[v.Set]}, systemUser)
			}
			values["variable_set"] = sets[v.Set]
		}
		v.sysID = i.insert(i.tables["item_option_new"], values, systemUser).id()
	}
	return nil
}

func (v Variable) label() string { return cmp.Or(v.Label, label(v.Name)) }

// CatalogItemID is the sys_id of the catalog item of that name, or empty.
func (i *Instance) CatalogItemID(name string) string {
	for _, item := range i.cfg.Catalog {
		if item.Name == name {
			return item.SysID
		}
	}
	return ""
}

// Variables are the answers to the questions of a requested item, by name; nil for one that was not ordered from the catalog.
func (i *Instance) Variables(sysID string) map[string]string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if rec := i.records[sysID]; rec != nil {
		return maps.Clone(rec.variables)
	}
	return nil
}

func (i *Instance) serveCatalog(c *call, path []string) *apiError {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(path) == 0 {
		if c.r.Method != http.MethodGet {
			return errMethod
		}
		result := []any{}
		search := strings.ToLower(c.r.URL.Query().Get("sysparm_text"))
		for _, item := range i.cfg.Catalog {
			if i.orderable(item) && strings.Contains(strings.ToLower(item.Name+" "+item.ShortDescription), search) {
				result = append(result, describe(item))
			}
		}
		writeJSON(c.w, http.StatusOK, map[string]any{"result": result})
		return nil
	}
	n := slices.IndexFunc(i.cfg.Catalog, func(item CatalogItem) bool { return item.SysID == path[0] && i.orderable(item) })
	if n < 0 {
		return &apiError{http.StatusNotFound, "Invalid Item", "The catalog item does not exist or is not available: " + path[0]}
	}
	item := i.cfg.Catalog[n]
	if item.Restricted {
		return &apiError{http.StatusBadRequest, "Security constraints prevent ordering of Item", ""}
	}
	switch {
	case len(path) == 1 && c.r.Method == http.MethodGet:
		writeJSON(c.w, http.StatusOK, map[string]any{"result": describe(item)})
		return nil
	case len(path) == 2 && path[1] == "order_now" && item.RecordProducer:
		return &apiError{http.StatusNotFound, "Invalid Request", ""}
	case len(path) == 2 && path[1] == "order_now":
		if c.r.Method != http.MethodPost {
			return errMethod
		}
		return i.order(c, item)
	}
	return errNoResource
}

func (i *Instance) orderable(item CatalogItem) bool {
	rec := i.records[item.SysID]
	return rec != nil && rec.active()
}

func describe(item CatalogItem) map[string]any {
	variables := []any{}
	sets := map[string]bool{}
	for _, v := range item.Variables {
		if v.Set == "" {
			variables = append(variables, map[string]any{"name": v.Name, "label": v.label(), "mandatory": v.Mandatory, "type": 6, "value": ""})
		} else if !sets[v.Set] {
			sets[v.Set] = true
			variables = append(variables, map[string]any{"name": v.Set, "label": label(v.Set), "mandatory": false, "type": 24})
		}
	}
	kind := "catalog_item"
	if item.RecordProducer {
		kind = "record_producer"
	}
	return map[string]any{
		"sys_id": item.SysID, "name": item.Name, "short_description": item.ShortDescription, "type": kind,
		"order": 0, "show_price": false, "mandatory_attachment": false, "variables": variables,
	}
}

// order is order_now: it makes a request, an item and the tasks of the item's flow, and answers 200 with the request.
func (i *Instance) order(c *call, item CatalogItem) *apiError {
	text, _ := c.body["sysparm_quantity"].(string) // a number is not taken
	quantity, err := strconv.Atoi(text)
	if err != nil || quantity < 1 {
		return &apiError{http.StatusBadRequest, "Invalid Quantity value", "sysparm_quantity is required and is a number in a string"}
	}
	by := c.user.fields["user_name"]
	forUser := c.user.id()
	if id, _ := c.body["sysparm_requested_for"].(string); id != "" {
		if u := i.records[id]; u == nil || u.table.name != "sys_user" {
			return &apiError{http.StatusBadRequest, "Invalid requested for", "There is no user with the sys_id of sysparm_requested_for"}
		}
		forUser = id
	}
	given, _ := c.body["variables"].(map[string]any)
	variables := map[string]string{}
	missing := false
	for _, v := range item.Variables {
		text := ""
		if value := given[v.Name]; value != nil {
			text = fmt.Sprint(value)
		}
		if v.Mandatory && text == "" {
			missing = true
		}
		variables[v.Name] = text
	}
	if missing {
		return &apiError{http.StatusBadRequest, "Mandatory Variables are required", ""} // and does not say which
	}
	for _, name := range []string{"sc_request", "sc_req_item"} {
		t := i.tables[name]
		if !i.may(c.user, Create, &record{table: t, fields: map[string]string{}}) {
			return errACL("Insert")
		}
		if refusal := i.policy(t, Create, nil, nil); refusal != nil {
			return refusal
		}
	}

	request := i.insert(i.tables["sc_request"], map[string]string{
		"requested_for": forUser, "request_state": "in_process", "approval": "approved",
		"short_description": item.Name,
	}, by)
	rec := i.insert(i.tables["sc_req_item"], map[string]string{
		"request": request.id(), "parent": request.id(), "cat_item": item.SysID,
		"requested_for": forUser, "quantity": strconv.Itoa(quantity), "state": "2", "approval": "approved", "stage": "fulfillment",
		"short_description": item.ShortDescription,
	}, by)
	rec.variables = maps.Clone(variables)
	for _, v := range item.Variables {
		option := i.insert(i.tables["sc_item_option"], map[string]string{"item_option_new": v.sysID, "value": variables[v.Name]}, by)
		i.insert(i.tables["sc_item_option_mtom"], map[string]string{"request_item": rec.id(), "sc_item_option": option.id()}, by)
	}
	request.ordered, rec.ordered = true, true
	for _, description := range item.Tasks {
		task := i.insert(i.tables["sc_task"], map[string]string{
			"request": request.id(), "request_item": rec.id(), "parent": rec.id(),
			"short_description": description,
		}, by)
		task.ordered = true
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"result": map[string]any{
		"sys_id": request.id(), "number": request.fields["number"], "request_id": request.id(), "request_number": request.fields["number"],
		"parent_id": nil, "parent_table": "task", "table": "sc_request",
	}})
	return nil
}
