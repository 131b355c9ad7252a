package entra

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"ticketbridge/handler/simulator/entra/csdl"
)

// An entity is what Graph shows of a thing: values by property name, and functions in place of navigation properties, which are
// only followed when somebody asks. The name "" holds the id of the catalog that the thing belongs to.
type entity map[string]any

// read follows a path through the tenant and answers what is at its end, as the query wants it. The caller holds d.mu.
func (d *Directory) read(t *csdl.Target, q csdl.Query, who caller) graphAnswer {
	if t.Operation != nil {
		return refusal(http.StatusMethodNotAllowed, "BadRequest", "%s is an action: POST it.", t.Operation.Name)
	}
	var at any = d.root()
	catalog, keyed := "", false
	for _, step := range t.Steps {
		if step.Key != "" {
			list, _ := at.([]entity)
			i := slices.IndexFunc(list, func(e entity) bool { id, _ := e["id"].(string); return strings.EqualFold(id, step.Key) })
			if i < 0 {
				if !d.mayRead(t, who, "") {
					return forbidden() // nobody learns what exists
				}
				return refusal(http.StatusNotFound, "ResourceNotFound", "The resource '%s' was not found.", step.Key)
			}
			at = list[i]
			if c, ok := list[i][""].(string); ok && !keyed {
				catalog, keyed = c, true
			}
			continue
		}
		e, _ := at.(entity)
		at = follow(e, step.Name)
	}
	if !d.mayRead(t, who, catalog) && !(t.Ref.Collection && !keyed && d.mayReadSome(t, who)) {
		return forbidden()
	}
	if list, ok := at.([]entity); ok || t.Ref.Collection {
		if !keyed && !d.mayRead(t, who, "") {
			list = slices.DeleteFunc(slices.Clone(list), func(e entity) bool {
				c, _ := e[""].(string)
				return !d.mayRead(t, who, c)
			})
		}
		return d.list(t, list, q)
	}
	e, ok := at.(entity)
	if !ok {
		return refusal(http.StatusNotFound, "ResourceNotFound", "Nothing is there.")
	}
	body := d.project(t.Ref.Type, e, q)
	body["@odata.context"] = d.context(t, "/$entity")
	return graphAnswer{status: http.StatusOK, body: body}
}

func forbidden() graphAnswer {
	return refusal(http.StatusForbidden, "UnAuthorized", "User is not authorized to perform the operation.")
}

func (d *Directory) context(t *csdl.Target, suffix string) string {
	return d.base + graphPath + "/$metadata#" + strings.TrimPrefix(strings.ReplaceAll(t.Template, "/{id}", "('{id}')"), "/") + suffix
}

// mayRead says whether a caller may see what belongs to a catalog, or with "" all there is at such a path.
func (d *Directory) mayRead(t *csdl.Target, who caller, catalog string) bool {
	switch t.Steps[0].Name {
	case "identityGovernance":
		return who.has(readAll, readWriteAll) || catalog != "" && who.entitlements && d.hasCatalogRole(who.object, catalog, catalogRoles...)
	case "roleManagement":
		return catalog != "" && who.entitlements && d.hasCatalogRole(who.object, catalog, roleCatalogOwner) || who.has(readAll, readWriteAll, "RoleManagement.Read.All", "RoleManagement.Read.Directory", "RoleManagement.ReadWrite.Directory")
	case "users":
		return who.has("User.Read.All", "User.ReadBasic.All", "Directory.Read.All")
	default:
		return who.has("Directory.Read.All", "Application.Read.All", "Application.ReadWrite.All", "Organization.Read.All", "User.Read")
	}
}

// mayReadSome says whether a caller without rights to everything has a role in any catalog.
func (d *Directory) mayReadSome(t *csdl.Target, who caller) bool {
	return (t.Steps[0].Name == "identityGovernance" || t.Steps[0].Name == "roleManagement") && slices.ContainsFunc(d.catalogs, func(c *Catalog) bool {
		return d.mayRead(t, who, c.ID)
	})
}

// follow returns the value of a property; a navigation property is followed.
func follow(e entity, name string) any {
	v := e[name]
	if f, ok := v.(func() any); ok {
		v = f()
	}
	if nested, ok := v.(entity); ok && nested == nil {
		return nil
	}
	return v
}

func (d *Directory) list(t *csdl.Target, list []entity, q csdl.Query) graphAnswer {
	kept := arrange(list, q)
	if t.Count {
		return graphAnswer{status: http.StatusOK, body: len(kept)}
	}
	body := map[string]any{"@odata.context": d.context(t, "")}
	if q.Count {
		body["@odata.count"] = len(kept)
	}
	from := q.Skip
	if q.Token != "" {
		n, err := strconv.Atoi(q.Token)
		if err != nil || n < 0 {
			return refusal(http.StatusBadRequest, "BadRequest", "Skip token is invalid.")
		}
		from = n
	}
	kept = kept[min(from, len(kept)):]
	size := d.cfg.PageSize
	if q.Top >= 0 {
		size = min(size, q.Top)
	}
	if size > 0 && len(kept) > size { // like Graph, a page of $top leads to the next one
		body["@odata.nextLink"] = d.nextLink(t, q, from+size)
	}
	values := []any{}
	for _, e := range kept[:min(size, len(kept))] {
		values = append(values, d.project(t.Ref.Type, e, q))
	}
	body["value"] = values
	return graphAnswer{status: http.StatusOK, body: body}
}

// nextLink repeats the query with the place where the next page begins.
func (d *Directory) nextLink(t *csdl.Target, q csdl.Query, from int) string {
	path := ""
	for _, s := range t.Steps {
		path += "/" + url.PathEscape(s.Name+s.Key)
	}
	values := url.Values{}
	for name, list := range q.Raw {
		if name != "$skip" && name != "$skiptoken" {
			values[name] = list
		}
	}
	values.Set("$skiptoken", strconv.Itoa(from))
	return d.base + graphPath + path + "?" + values.Encode()
}

// arrange filters and orders.
func arrange(list []entity, q csdl.Query) []entity {
	var out []entity
	for _, e := range list {
		if q.Filter == nil || truth(evaluate(q.Filter, e, nil)) {
			out = append(out, e)
		}
	}
	if len(q.OrderBy) > 0 {
		slices.SortStableFunc(out, func(a, b entity) int {
			for _, o := range q.OrderBy {
				c := cmp.Compare(fmt.Sprint(reach(a, o.Path)), fmt.Sprint(reach(b, o.Path)))
				if o.Descending {
					c = -c
				}
				if c != 0 {
					return c
				}
			}
			return 0
		})
	}
	return out
}

// project shows what of an entity is asked for: its structural properties, or those in $select, and what $expand names.
func (d *Directory) project(typ string, e entity, q csdl.Query) map[string]any {
	out := map[string]any{}
	for name, v := range e {
		if _, navigation := v.(func() any); navigation || name == "" {
			continue
		}
		all := len(q.Select) == 0 || slices.Contains(q.Select, "*")
		if name == "@odata.type" || all || slices.ContainsFunc(q.Select, func(s string) bool { return s == name || strings.HasPrefix(s, name+"/") }) {
			out[name] = v
		}
	}
	if actual, ok := e["@odata.type"].(string); ok {
		typ = strings.TrimPrefix(actual, "#")
	}
	for _, x := range q.Expand {
		name := x.Name[strings.LastIndex(x.Name, "/")+1:]
		p, _, _ := d.schema.Property(typ, name)
		switch v := follow(e, name).(type) {
		case []entity:
			values := []any{}
			for _, item := range arrange(v, x.Query) {
				values = append(values, d.project(p.Ref.Type, item, x.Query))
			}
			out[name] = values
		case entity:
			out[name] = d.project(p.Ref.Type, v, x.Query)
		default:
			if out[name] = nil; p.Ref.Collection {
				out[name] = []any{}
			}
		}
	}
	return out
}

// reach follows a path of names from an entity.
func reach(v any, path []string) any {
	for _, name := range path {
		switch at := v.(type) {
		case entity:
			v = follow(at, name)
		case map[string]any:
			v = at[name]
		default:
			return nil
		}
	}
	return v
}

// evaluate computes a $filter that was checked against the schema.
func evaluate(e csdl.Expr, on any, scope map[string]any) any {
	switch e := e.(type) {
	case csdl.Literal:
		return e.Value
	case csdl.Path:
		if v, ok := scope[e.Names[0]]; ok {
			return reach(v, e.Names[1:])
		}
		return reach(on, e.Names)
	case csdl.Not:
		return !truth(evaluate(e.Of, on, scope))
	case csdl.Logic:
		left := truth(evaluate(e.Left, on, scope))
		if e.Op == "and" {
			return left && truth(evaluate(e.Right, on, scope))
		}
		return left || truth(evaluate(e.Right, on, scope))
	case csdl.Compare:
		return compare(e.Op, evaluate(e.Left, on, scope), evaluate(e.Right, on, scope))
	case csdl.Call:
		return applyFunction(e, on, scope)
	case csdl.Lambda:
		return quantify(e, on, scope)
	}
	return nil
}

func truth(v any) bool { b, _ := v.(bool); return b }

// compare compares as Graph does: strings without regard to case.
func compare(op string, a, b any) bool {
	if a == nil || b == nil {
		switch op {
		case "eq":
			return a == nil && b == nil
		case "ne":
			return (a == nil) != (b == nil)
		}
		return false
	}
	var c int
	if ta, tb := moment(a), moment(b); !ta.IsZero() && !tb.IsZero() {
		c = ta.Compare(tb)
	} else if na, nb := json.Number(fmt.Sprint(a)), json.Number(fmt.Sprint(b)); isNumber(na) && isNumber(nb) {
		fa, _ := na.Float64()
		fb, _ := nb.Float64()
		c = cmp.Compare(fa, fb)
	} else {
		c = cmp.Compare(strings.ToLower(fmt.Sprint(a)), strings.ToLower(fmt.Sprint(b)))
	}
	switch op {
	case "eq":
		return c == 0
	case "ne":
		return c != 0
	case "gt":
		return c > 0
	case "ge":
		return c >= 0
	case "lt":
		return c < 0
	default:
		return c <= 0
	}
}

func isNumber(n json.Number) bool { _, err := n.Float64(); return err == nil }

func moment(v any) time.Time {
	switch v := v.(type) {
	case time.Time:
		return v
	case string:
		t, _ := time.Parse(time.RFC3339Nano, v)
		return t
	}
	return time.Time{}
}

func applyFunction(c csdl.Call, on any, scope map[string]any) any {
	var args []string
	for _, arg := range c.Args {
		v := evaluate(arg, on, scope)
		if v == nil {
			return nil
		}
		args = append(args, strings.ToLower(fmt.Sprint(v)))
	}
	switch c.Name {
	case "startswith":
		return strings.HasPrefix(args[0], args[1])
	case "endswith":
		return strings.HasSuffix(args[0], args[1])
	case "contains":
		return strings.Contains(args[0], args[1])
	case "toupper":
		return strings.ToUpper(args[0])
	default:
		return args[0]
	}
}

func quantify(l csdl.Lambda, on any, scope map[string]any) bool {
	var items []any
	switch list := evaluate(l.Over, on, scope).(type) {
	case []entity:
		for _, e := range list {
			items = append(items, e)
		}
	case []any:
		items = list
	}
	if l.Of == nil {
		return len(items) > 0
	}
	for _, item := range items {
		inner := map[string]any{l.Var: item}
		for name, v := range scope {
			if name != l.Var {
				inner[name] = v
			}
		}
		if truth(evaluate(l.Of, on, inner)) != l.All {
			return !l.All
		}
	}
	return l.All
}
