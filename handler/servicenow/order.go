package servicenow

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/ticket"
)

// orderedTable holds what was ordered from the Service Catalog.
const orderedTable = "sc_req_item"

// A CatalogItem is an item of the Service Catalog that may be ordered.
type CatalogItem struct {
	SysID, Name string
	Variables   []Variable // those of its variable sets as well
}

// A Variable is a question of a catalog item.
type Variable struct {
	Name, Label string
	Mandatory   bool
}

// Item looks a catalog item up, by its sys_id or by its name. It is fault.Misconfigured when there is none that is active and may be ordered by us, or
// several of the name. What was found is remembered for ten minutes, and that there is none for one.
func (c *Client) Item(ctx context.Context, idOrName string) (CatalogItem, error) {
	const op = "find catalog item"
	item, found, err := c.items.get(ctx, op, itemKey(idOrName), func(ctx context.Context) (CatalogItem, bool, error) {
		ctx, cancel := context.WithTimeout(ctx, c.timeout)
		defer cancel()
		return c.loadItem(ctx, op, idOrName)
	})
	if err == nil && !found {
		err = &fault.Error{
			Op: op, Reason: fault.Misconfigured, Field: "item", Detail: "there is no active catalog item of that name or sys_id that is shown to us",
			Advice: "Check the item's name in the rule, and that it is active; let the integration user read sc_cat_item, or name the item by its sys_id.",
		}
	}
	return item, err
}

func itemKey(idOrName string) string { return strings.ToLower(idOrName) }

func (c *Client) loadItem(ctx context.Context, op, idOrName string) (item CatalogItem, found bool, err error) {
	id := idOrName
	if !validSysID(id) {
		if !queryableName(idOrName) {
			return item, false, nil
		}
		ids, err := c.lookUp(ctx, op, "sc_cat_item", "name", idOrName)
		switch {
		case err != nil || len(ids) == 0:
			return item, false, err
		case len(ids) > 1:
			return item, false, &fault.Error{
				Op: op, Reason: fault.Misconfigured, Field: "item", Detail: "there is more than one active catalog item of that name", Advice: "Name the item by its sys_id.",
			}
		}
		id = ids[0]
	}
	a, err := c.exchange(ctx, call{op: op, method: http.MethodGet, table: "sc_cat_item", path: itemPath(id), success: http.StatusOK, about: idOrName})
	if err != nil {
		return item, false, err
	}
	if s := a.said(); s.own && (a.status == http.StatusBadRequest || a.status == http.StatusNotFound) && !strings.Contains(s.message, "does not represent any resource") {
		return item, false, &fault.Error{
			Op: op, Reason: fault.Misconfigured, Field: "item", Status: a.status, Detail: "the catalog item cannot be ordered by us: " + a.clean(s.message),
			Advice: "Check that the item is active and in a catalog, and that it is available for the integration user (its user criteria).",
		}
	}
	if err := a.check(); err != nil {
		return item, false, err
	}
	var in struct {
		Result *struct {
			SysID     json.RawMessage `json:"sys_id"`
			Name      json.RawMessage `json:"name"`
			Type      json.RawMessage `json:"type"`
			Variables json.RawMessage `json:"variables"`
		} `json:"result"`
	}
	if json.Unmarshal(a.body, &in) != nil || in.Result == nil || !strings.EqualFold(value(in.Result.SysID), id) {
		return item, false, a.notUsable()
	}
	if kind := value(in.Result.Type); slices.Contains([]string{"record_producer", "order_guide", "content_item"}, kind) {
		return item, false, &fault.Error{
			Op: op, Reason: fault.Misconfigured, Field: "item", Detail: "the item is a " + strings.ReplaceAll(kind, "_", " ") + ", which cannot be ordered as an item", Status: a.status,
			Advice: "Name a catalog item.",
		}
	}
	item = CatalogItem{SysID: id, Name: value(in.Result.Name)}
	item.add(in.Result.Variables, 0)
	err = c.addSets(ctx, op, &item)
	return item, err == nil, err
}

func itemPath(id string) string { return "/api/sn_sc/servicecatalog/items/" + id }

// add reads the variables of an item as the catalog lists them; those within a container are its children.
func (i *CatalogItem) add(list json.RawMessage, depth int) {
	var rows []map[string]json.RawMessage
	if depth > 10 || json.Unmarshal(list, &rows) != nil {
		return
	}
	for _, row := range rows {
		i.put(Variable{value(row["name"]), value(row["label"]), value(row["mandatory"]) == "true"})
		i.add(row["children"], depth+1)
	}
}

func (i *CatalogItem) put(v Variable) {
	if v.Name != "" && !i.has(v.Name) {
		i.Variables = append(i.Variables, v)
	}
}

func (i *CatalogItem) has(variable string) bool {
	return slices.ContainsFunc(i.Variables, func(v Variable) bool { return v.Name == variable })
}

// addSets adds the variables of the item's variable sets, of which the catalog names no more than the set. Where these tables may not be read, the item is taken
// as the catalog shows it.
func (c *Client) addSets(ctx context.Context, op string, item *CatalogItem) error {
	list := func(table, query, fields string, limit int) ([]map[string]string, error) {
		rows, _, err := c.all(ctx, op, table, query, fields, limit)
		if err != nil && !fault.ReasonOf(err).Temporary() {
			return nil, nil
		}
		return rows, err
	}
	rows, err := list("io_set_item", "sc_cat_item="+item.SysID, "sc_cat_item,variable_set", 100)
	if err != nil {
		return err
	}
	var sets []string
	for _, row := range rows {
		if strings.EqualFold(row["sc_cat_item"], item.SysID) && validSysID(row["variable_set"]) {
			sets = append(sets, row["variable_set"])
		}
	}
	if len(sets) == 0 {
		return nil
	}
	rows, err = list("item_option_new", "variable_setIN"+strings.Join(sets, ",")+"^active=true", "name,question_text,mandatory,variable_set", 500)
	for _, row := range rows {
		if slices.Contains(sets, row["variable_set"]) {
			item.put(Variable{row["name"], row["question_text"], row["mandatory"] == "true"})
		}
	}
	return err
}

// order orders the draft's item and gives what was ordered its correlation_id and fields. Between the two calls it is found by the variable that carries the
// correlation_id: see findOrdered. So an item without that variable is not ordered at all.
//
// The whole takes no longer than one call may: whoever finds the intent when its lease has ended must find the order, too.
func (c *Client) order(ctx context.Context, d ticket.Draft, correlationID string) (ticket.Record, error) {
	const op = "order catalog item"
	wrong := func(detail, advice string) error {
		return &fault.Error{Op: op, Reason: fault.Misconfigured, Field: "item", Detail: detail, Advice: advice}
	}
	switch {
	case d.Table != orderedTable:
		return ticket.Record{}, wrong("what is ordered is a record of "+orderedTable+", and the rule says another table", "Let the rule's table be "+orderedTable+".")
	case d.Item.Reference == "":
		return ticket.Record{}, wrong("the rule does not say which variable of the item carries the correlation_id", "Name the variable in the rule: without it an order could not be found again.")
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	ends, _ := ctx.Deadline()
	patience := time.Until(ends)

	item, err := c.Item(ctx, d.Item.Item)
	if err != nil {
		return ticket.Record{}, err
	}
	if !item.has(d.Item.Reference) {
		c.items.forget(itemKey(d.Item.Item)) // whoever adds it need not wait
		return ticket.Record{}, wrong("the catalog item has no variable "+d.Item.Reference+", or none that is shown to us: its order could not be found again",
			"Add a variable of the type Single Line Text with this name to the item, or name another one in the rule.")
	}
	payload := map[string]any{"sysparm_quantity": strconv.Itoa(max(1, d.Item.Quantity))}
	body := map[string]string{}
	maps.Copy(body, d.Item.Variables)
	body[d.Item.Reference] = correlationID
	payload["variables"] = maps.Clone(body)
	if p := d.Item.RequestedFor; p != nil {
		user, found, err := c.FindUser(ctx, p.PrincipalName, p.Email)
		if err != nil && fault.ReasonOf(err).Temporary() {
			return ticket.Record{}, err
		}
		if found {
			payload["sysparm_requested_for"] = user
		}
	}
	if time.Until(ends) < patience/2 {
		return ticket.Record{}, &fault.Error{Op: op, Reason: fault.Unreachable, Detail: "not sent: looking the item up took too long", Err: context.DeadlineExceeded}
	}
	a, err := c.exchange(ctx, call{
		op: op, method: http.MethodPost, table: orderedTable, path: itemPath(item.SysID) + "/order_now", success: http.StatusOK, changes: true, body: body, payload: payload,
	})
	if err != nil {
		return ticket.Record{}, err
	}
	if err := a.check(); err != nil {
		return ticket.Record{}, c.notOrdered(a, item, d.Item, err)
	}
	row, err := a.record()
	if err != nil {
		return ticket.Record{}, err
	}
	if !validSysID(row["request_id"]) {
		return ticket.Record{}, a.unusable("the answer does not name the request that was made")
	}
	rec, err := c.correlate(ctx, op, row["request_id"], item.SysID, d.Fields, correlationID)
	if err == nil {
		return rec, nil
	}
	return rec, afterOrder(err, row["request_number"])
}

// notOrdered says why an order was turned down.
func (c *Client) notOrdered(a *answer, item CatalogItem, wanted *ticket.Item, err error) error {
	e, ok := errors.AsType[*fault.Error](err)
	s := a.said()
	if !ok || !s.own || a.status != http.StatusBadRequest && a.status != http.StatusNotFound {
		return err
	}
	c.items.forget(itemKey(wanted.Item)) // it may have changed since it was looked up
	switch message := strings.ToLower(s.message); {
	case strings.Contains(message, "mandatory variable"):
		var missing []string
		for _, v := range item.Variables {
			if v.Mandatory && wanted.Variables[v.Name] == "" && v.Name != wanted.Reference {
				missing = append(missing, v.Name)
			}
		}
		e.Reason, e.Advice = fault.Refused, "Let the rule give every mandatory variable of the item a value; then retry."
		if len(missing) > 0 {
			e.Detail += "; without a value are " + strings.Join(missing, ", ")
		}
	case strings.Contains(message, "security constraints"):
		e.Reason, e.Advice = fault.Forbidden, "Let the item be available for the integration user (its user criteria); then retry."
	case strings.Contains(message, "invalid request"):
		// The catalog says this of whatever goes wrong while it makes the request and its items, however far it came.
		e.Reason, e.Advice = fault.Unclear, "See the instance's log: the catalog says no more than that the order failed, and it may be there."
	case a.status == http.StatusNotFound:
		e.Reason, e.Detail = fault.Misconfigured, "the catalog item is no longer there, or no longer for us"
		e.Advice = "Check that the item is active and in a catalog, and that it is available for the integration user (its user criteria); then retry."
	}
	return e
}

// afterOrder says that the order was made: what time may mend is fault.Unclear, so that the order is looked for.
func afterOrder(err error, request string) error {
	e, ok := errors.AsType[*fault.Error](err)
	if !ok {
		return err
	}
	out := *e
	if out.Reason.Temporary() {
		out.Reason = fault.Unclear
	}
	if !number.MatchString(request) {
		request = "the item"
	}
	out.Detail = request + " was ordered, and then: " + out.Detail
	if out.Reason != fault.Unclear {
		out.Advice = strings.TrimSpace(out.Advice + " A retry finds the order and does not order again.")
	}
	return &out
}

// correlate finds the requested item of a request and gives it its fields and its correlation_id.
func (c *Client) correlate(ctx context.Context, op, request, item string, fields map[string]string, correlationID string) (ticket.Record, error) {
	rows, a, err := c.all(ctx, op, orderedTable, "request="+request+"^ORDERBYsys_created_on^ORDERBYsys_id", "sys_id,request,cat_item", 100)
	if err != nil {
		return ticket.Record{}, err
	}
	ordered := ""
	for _, row := range rows {
		if strings.EqualFold(row["request"], request) && validSysID(row["sys_id"]) && (ordered == "" || strings.EqualFold(row["cat_item"], item)) {
			ordered = row["sys_id"]
			if strings.EqualFold(row["cat_item"], item) {
				break
			}
		}
	}
	switch {
	case ordered != "":
		return c.mark(ctx, op, ordered, fields, correlationID)
	case len(rows) > 0 || a.hidden():
		return ticket.Record{}, &fault.Error{
			Op: op, Reason: fault.Forbidden, Status: a.status, Detail: "ServiceNow does not show us the requested item",
			Advice: "Let the integration user read the records of " + orderedTable + " that it orders, and their column request.",
		}
	}
	return ticket.Record{}, &fault.Error{Op: op, Reason: fault.Unclear, Status: a.status, Detail: "the request has no item yet"}
}

// mark gives a requested item its fields and its correlation_id, and returns it. It may be repeated.
func (c *Client) mark(ctx context.Context, op, sysID string, fields map[string]string, correlationID string) (ticket.Record, error) {
	body := map[string]string{}
	maps.Copy(body, fields)
	body["correlation_id"] = correlationID
	a, err := c.do(ctx, call{
		op: op, method: http.MethodPatch, table: orderedTable, sysID: sysID, success: http.StatusOK, changes: true, query: c.asking(orderedTable), body: body,
	})
	if err != nil {
		return ticket.Record{}, err
	}
	row, err := a.record()
	if err != nil {
		return ticket.Record{}, err
	}
	if !strings.EqualFold(row["sys_id"], sysID) {
		return ticket.Record{}, a.unusable("the answer is not the record that was changed")
	}
	return c.carrying(a, row, correlationID, "ordered")
}

// findOrdered finds the requested items of which a variable holds the correlation_id, gives them their correlation_id, and returns them: the process that
// ordered them came no further, or heard no answer. ServiceNow keeps the variables of what was ordered in sc_item_option, which sc_item_option_mtom
// joins to the requested item.
//
// None is none for certain only if these tables can be read: what is not shown, or not compared, is an error as in Find.
func (c *Client) findOrdered(ctx context.Context, correlationID string) ([]ticket.Record, error) {
	const op, table, column = "find ticket", "sc_item_option_mtom", "sc_item_option.value"
	rows, a, err := c.list(ctx, op, table, column+"="+correlationID+"^ORDERBYsys_created_on^ORDERBYsys_id", "request_item,request_item.sys_id,"+column, findLimit)
	if err != nil {
		return nil, err
	}
	const advice = "Let the integration user read sc_item_option and sc_item_option_mtom: an order of which nobody heard the answer is found by its variable. Then retry."
	var ordered []string
	matching := 0
	for _, row := range rows {
		if row[column] != correlationID {
			continue
		}
		matching++
		id, shown := row["request_item.sys_id"]
		if !shown {
			id = row["request_item"]
		}
		if validSysID(id) && !slices.Contains(ordered, id) { // "": the item was deleted
			ordered = append(ordered, id)
		}
	}
	switch {
	case matching < len(rows) && len(ordered) == 0:
		return nil, &fault.Error{Op: op, Reason: fault.Misconfigured, Status: a.status, Detail: "the condition on the variables of requested items was ignored, or they come without their values", Advice: advice}
	case len(rows) == 0 && a.hidden():
		return nil, &fault.Error{Op: op, Reason: fault.Forbidden, Status: a.status, Detail: "ServiceNow has an order with this correlation_id among its variables, and does not show it to us", Advice: advice}
	}
	var found []ticket.Record
	for _, id := range ordered {
		rec, err := c.mark(ctx, op, id, nil, correlationID)
		switch {
		case fault.Is(err, fault.NotFound):
			return nil, &fault.Error{
				Op: op, Reason: fault.Forbidden, Detail: "an order with this correlation_id among its variables is there, and ServiceNow does not show us the requested item",
				Advice: "Let the integration user read and write the records of " + orderedTable + " that it orders; then retry.",
			}
		case fault.Is(err, fault.Unclear): // what was asked is not known; that it was marked or not does no harm
			e, _ := errors.AsType[*fault.Error](err)
			out := *e
			out.Reason = fault.Unreachable
			return nil, &out
		case err != nil:
			return nil, err
		}
		found = append(found, rec)
	}
	return found, nil
}
