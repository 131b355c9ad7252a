package servicenow

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxBody is how large a request body may be, in bytes: 10 MB, ServiceNow's default.
const maxBody = 10 << 20

// apiError is an answer in the shape {"error":{"message":…,"detail":…},"status":"failure"}.
type apiError struct {
	status  int
	message string
	detail  string // empty is null
}

func (e *apiError) Error() string { return e.message + ": " + e.detail }

func (e *apiError) write(w http.ResponseWriter) {
	var detail any
	if e.detail != "" {
		detail = e.detail
	}
	writeJSON(w, e.status, map[string]any{"error": map[string]any{"message": e.message, "detail": detail}, "status": "failure"})
}

// The messages are those that instances are known to send.
var (
	errNotAuthenticated = &apiError{http.StatusUnauthorized, "User Not Authenticated", "Required to provide Auth information"}
	errNoRecord         = &apiError{http.StatusNotFound, "No Record found", "Record doesn't exist or ACL restricts the record retrieval"}
	errNoResource       = &apiError{http.StatusBadRequest, "Requested URI does not represent any resource", ""}
	errMethod           = &apiError{http.StatusMethodNotAllowed, "Method not supported", ""}
	errPayload          = &apiError{http.StatusBadRequest, "Exception while reading request", "The payload is not valid JSON."}
)

func errACL(operation string) *apiError {
	return &apiError{http.StatusForbidden, "Operation Failed", "ACL Exception " + operation + " Failed due to security constraints"}
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(body)
}

// call is one authenticated call of an API.
type call struct {
	w    http.ResponseWriter
	r    *http.Request
	user *record
	body map[string]any
}

func (i *Instance) serveAPI(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	i.mu.Lock()
	dropped := i.overloaded && sendsSession(r)
	i.mu.Unlock()
	if dropped {
		w.WriteHeader(http.StatusAccepted)
		return
	}
	user, ok := i.auth.login(i, r)
	if !ok {
		w.Header().Set("WWW-Authenticate", `BASIC realm="Service-now"`)
		errNotAuthenticated.write(w)
		return
	}
	i.auth.adopt(r, user.fields["user_name"])
	i.setSession(w, r)
	if refusal := i.limit(w, r, user); refusal != nil {
		refusal.write(w)
		return
	}
	c := &call{w: w, r: r, user: user}
	if refusal := c.negotiate(); refusal != nil {
		refusal.write(w)
		return
	}
	if refusal := i.route(c); refusal != nil {
		refusal.write(w)
	}
}

// negotiate checks the Accept and Content-Type headers and reads the body.
func (c *call) negotiate() *apiError {
	accept := c.r.Header.Get("Accept")
	if accept == "" {
		return &apiError{http.StatusBadRequest, "Invalid header", "The Accept header is required"}
	}
	if !slices.ContainsFunc(strings.Split(accept, ","), func(kind string) bool {
		kind, _, _ = mime.ParseMediaType(strings.TrimSpace(kind))
		return kind == "application/json" || kind == "application/*" || kind == "*/*"
	}) {
		return &apiError{http.StatusNotAcceptable, "Not acceptable", "The Accept header names no supported format: " + accept}
	}
	switch c.r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
	default:
		return nil
	}
	contentType := c.r.Header.Get("Content-Type")
	if contentType == "" {
		return &apiError{http.StatusBadRequest, "Invalid header", "The Content-Type header is required"}
	}
	if kind, _, err := mime.ParseMediaType(contentType); err != nil || kind != "application/json" {
		return &apiError{http.StatusUnsupportedMediaType, "Unsupported media type", "The Content-Type is not supported: " + contentType}
	}
	text, err := io.ReadAll(c.r.Body)
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		return &apiError{http.StatusRequestEntityTooLarge, "Request entity too large", ""}
	} else if err != nil {
		panic(http.ErrAbortHandler)
	}
	if len(text) == 0 {
		c.body = map[string]any{}
		return nil
	}
	var body any
	if err := json.Unmarshal(text, &body); err != nil {
		return errPayload
	}
	// Of several records only the first is taken.
	if list, ok := body.([]any); ok && len(list) > 0 {
		body = list[0]
	}
	object, ok := body.(map[string]any)
	if !ok {
		return errPayload
	}
	c.body = object
	return nil
}

func (i *Instance) route(c *call) *apiError {
	rest := strings.TrimPrefix(c.r.URL.Path, "/api/")
	space, rest, _ := strings.Cut(rest, "/")
	version := ""
	if head, tail, _ := strings.Cut(rest, "/"); len(head) > 1 && head[0] == 'v' && strings.Trim(head[1:], "0123456789") == "" {
		version, rest = head, tail
	}
	if version != "" && version != "v1" && version != "v2" {
		return errNoResource
	}
	parts := strings.Split(rest, "/")
	switch {
	case space == "now" && parts[0] == "table" && (len(parts) == 2 || len(parts) == 3) && parts[1] != "":
		id := ""
		if len(parts) == 3 {
			id = parts[2]
		}
		return i.serveTable(c, version, parts[1], id)
	case space == "sn_sc" && version != "v2" && parts[0] == "servicecatalog" && len(parts) >= 2 && parts[1] == "items":
		return i.serveCatalog(c, parts[2:])
	}
	return errNoResource
}

// serveTable is the Table API. Version 1, which is also that of the path without a version, answers 404 where version 2
// answers 200 with an empty list.
func (i *Instance) serveTable(c *call, version, name, id string) *apiError {
	i.mu.Lock()
	defer i.mu.Unlock()
	t := i.tables[name]
	if t == nil {
		return &apiError{http.StatusBadRequest, "Invalid table " + name, ""}
	}
	show := i.presentation(c.r, version)
	if id == "" {
		switch c.r.Method {
		case http.MethodGet:
			return i.listRecords(c, t, version, show)
		case http.MethodPost:
			return i.createRecord(c, t, show)
		}
		return errMethod
	}
	rec := i.records[id]
	if rec == nil || !rec.table.is(t.name) || !i.may(c.user, Read, rec) {
		return errNoRecord
	}
	switch c.r.Method {
	case http.MethodGet:
		writeJSON(c.w, http.StatusOK, map[string]any{"result": i.render(c.user, rec, show)})
	case http.MethodPatch, http.MethodPut:
		if !i.may(c.user, Write, rec) || t.virtual {
			return errACL("Update")
		}
		values := i.values(c, rec.table)
		if refusal := i.policy(rec.table, Write, rec, values); refusal != nil {
			return refusal
		}
		i.change(rec, values, c.user.fields["user_name"], false, false)
		writeJSON(c.w, http.StatusOK, map[string]any{"result": i.render(c.user, rec, show)})
	case http.MethodDelete:
		if !i.may(c.user, Delete, rec) || t.virtual {
			return errACL("Delete")
		}
		if refusal := i.policy(rec.table, Delete, rec, nil); refusal != nil {
			return refusal
		}
		i.remove(rec)
		c.w.WriteHeader(http.StatusNoContent)
	default:
		return errMethod
	}
	return nil
}

func (i *Instance) createRecord(c *call, t *table, show presentation) *apiError {
	if t.virtual || !i.may(c.user, Create, &record{table: t, fields: map[string]string{}}) {
		return errACL("Insert")
	}
	values := i.values(c, t)
	if refusal := i.policy(t, Create, nil, values); refusal != nil {
		return refusal
	}
	rec := i.insert(t, values, c.user.fields["user_name"])
	c.w.Header().Set("Location", fmt.Sprintf("%s/api/now/%stable/%s/%s", show.base, show.version, t.name, rec.id()))
	writeJSON(c.w, http.StatusCreated, map[string]any{"result": i.render(c.user, rec, show)})
	return nil
}

func (i *Instance) listRecords(c *call, t *table, version string, show presentation) *apiError {
	params := c.r.URL.Query()
	text := params.Get("sysparm_query")
	// Any parameter that is not the API's own is a condition.
	for name, values := range params {
		if !strings.HasPrefix(name, "sysparm_") && !strings.HasPrefix(name, "sys_param") {
			text = strings.TrimPrefix(text+"^"+name+"="+values[0], "^")
		}
	}
	limit, offset := 10000, 0
	for _, p := range []struct {
		name string
		into *int
	}{{"sysparm_limit", &limit}, {"sysparm_offset", &offset}} {
		if n, err := strconv.Atoi(params.Get(p.name)); err == nil && n >= 0 {
			*p.into = n
		}
	}
	found := i.find(t, text, i.cfg.InvalidQueryReturnsNoRows)
	if len(found) == 0 && version != "v2" {
		return errNoRecord
	}
	if params.Get("sysparm_no_count") != "true" {
		c.w.Header().Set("X-Total-Count", strconv.Itoa(len(found)))
	}
	if params.Get("sysparm_suppress_pagination_header") != "true" {
		c.w.Header().Set("Link", pageLinks(show.base, c.r.URL, limit, offset, len(found)))
	}
	result := []any{}
	for _, rec := range found[min(offset, len(found)):min(offset+limit, len(found))] {
		// Records that the caller may not see are left out of the page, though they were counted.
		if i.may(c.user, Read, rec) {
			result = append(result, i.render(c.user, rec, show))
		}
	}
	writeJSON(c.w, http.StatusOK, map[string]any{"result": result})
	return nil
}

// pageLinks is the Link header.
func pageLinks(base string, at *url.URL, limit, offset, total int) string {
	var links []string
	add := func(rel string, offset int) {
		q := at.Query()
		q.Set("sysparm_offset", strconv.Itoa(offset))
		q.Set("sysparm_limit", strconv.Itoa(limit))
		links = append(links, fmt.Sprintf(`<%s%s?%s>;rel="%s"`, base, at.Path, q.Encode(), rel))
	}
	add("first", 0)
	if limit > 0 {
		if offset > 0 {
			add("prev", max(0, offset-limit))
		}
		if offset+limit < total {
			add("next", offset+limit)
		}
		add("last", max(0, (total-1)/limit*limit))
	}
	return strings.Join(links, ",")
}

// values turns a body into strings, as every scalar is. With sysparm_input_display_value a reference or a choice may be
// given as people see it; without, whatever text is given becomes the value, record or not.
func (i *Instance) values(c *call, t *table) map[string]string {
	display := c.r.URL.Query().Get("sysparm_input_display_value") == "true"
	values := map[string]string{}
	for name, given := range c.body {
		var text string
		switch v := given.(type) {
		case nil:
		case string:
			text = v
		case bool:
			text = strconv.FormatBool(v)
		case float64:
			text = strconv.FormatFloat(v, 'f', -1, 64)
		default:
			continue
		}
		if column := t.columns[name]; display && column != nil && text != "" {
			text = i.fromDisplay(column, text)
		}
		if i.mayField(c.user, Write, t, name) {
			values[name] = text
		}
	}
	return values
}

func (i *Instance) fromDisplay(c *Column, text string) string {
	if c.Kind == Reference {
		if to := i.records[text]; to != nil && to.table.is(c.Refers) {
			return text
		}
		refers := i.tables[c.Refers]
		for _, rec := range i.records {
			if rec.table.is(refers.name) && strings.EqualFold(rec.fields[refers.display], text) {
				return rec.id()
			}
		}
		return ""
	}
	for _, choice := range c.Choices {
		if strings.EqualFold(choice.Label, text) {
			return choice.Value
		}
	}
	return text
}

// presentation is how a caller wants records shown.
type presentation struct {
	base         string // of links: scheme, host and base path
	version      string // of links: "v2/" or none
	display      string // "true", "all" or "false"
	excludeLinks bool
	fields       []string // empty is all
}

func (i *Instance) presentation(r *http.Request, version string) presentation {
	params := r.URL.Query()
	show := presentation{
		base: "http://" + r.Host + i.cfg.BasePath, display: params.Get("sysparm_display_value"),
		excludeLinks: params.Get("sysparm_exclude_reference_link") == "true",
	}
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		show.base = "https" + strings.TrimPrefix(show.base, "http")
	}
	if version != "" {
		show.version = version + "/"
	}
	for field := range strings.SplitSeq(params.Get("sysparm_fields"), ",") {
		if field = strings.TrimSpace(field); field != "" {
			show.fields = append(show.fields, field)
		}
	}
	return show
}

// render is a record as the Table API shows it. Fields that are not there, or that the caller may not read, are left
// out without a word.
func (i *Instance) render(user *record, rec *record, show presentation) map[string]any {
	fields := show.fields
	if len(fields) == 0 {
		fields = rec.table.order
	}
	out := map[string]any{}
	for _, field := range fields {
		if name, ok := strings.CutPrefix(field, "variables."); ok && rec.ordered {
			out[field] = rec.variables[name]
			continue
		}
		if !i.hasField(rec.table, field) {
			continue
		}
		at, name := i.follow(rec, field)
		if at == nil {
			out[field] = ""
			continue
		}
		if i.mayField(user, Read, at.table, name) {
			out[field] = i.renderField(at, name, show)
		}
	}
	return out
}

func (i *Instance) renderField(rec *record, name string, show presentation) any {
	c, value := rec.table.columns[name], rec.fields[name]
	link := ""
	if c.Kind == Reference && value != "" {
		link = show.base + "/api/now/" + show.version + "table/" + c.Refers + "/" + value
	}
	switch show.display {
	case "all":
		out := map[string]any{"value": value, "display_value": i.displayOf(rec, name)}
		if link != "" && !show.excludeLinks {
			out["link"] = link
		}
		return out
	case "true":
		if link != "" && !show.excludeLinks {
			return map[string]any{"display_value": i.displayOf(rec, name), "link": link}
		}
		return i.displayOf(rec, name)
	}
	if link != "" && !show.excludeLinks {
		return map[string]any{"link": link, "value": value}
	}
	return value
}
