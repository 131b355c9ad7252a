package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// object is a JSON object whose members keep their order.
type object []member

type member struct {
	name  string
	value any
}

// set puts a member in, in place of one of the same name in any case, which keeps its own spelling.
func (o *object) set(name string, value any) {
	for i := range *o {
		if strings.EqualFold((*o)[i].name, name) {
			(*o)[i].value = value
			return
		}
	}
	*o = append(*o, member{name, value})
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(encode(m.name))
		b.WriteByte(':')
		b.Write(encode(m.value))
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// encode writes JSON as the host does, which leaves <, > and & as they are. What cannot be written is null.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return []byte("null")
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// quoted is a text as the host puts it into an envelope: as JSON, which then is a text of its own.
func quoted(s string) string { return string(encode(s)) }

// spread puts the top-level properties of a JSON object into the metadata of a call, where they win over what has their name.
func spread(metadata *object, text string) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') || !json.Valid([]byte(text)) {
		return
	}
	for d.More() {
		name, _ := d.Token()
		var v any
		if d.Decode(&v) != nil {
			return
		}
		switch v := v.(type) {
		case nil, []any: // left out
		case map[string]any:
			metadata.set(name.(string), v)
		case bool:
			metadata.set(name.(string), quoted(strings.ToUpper(strconv.FormatBool(v)[:1])+strconv.FormatBool(v)[1:]))
		case json.Number:
			metadata.set(name.(string), quoted(v.String()))
		case string:
			if at, err := time.Parse(time.RFC3339Nano, v); err == nil { // recorded: what looks like a date is rewritten
				v = at.UTC().Format("01/02/2006 15:04:05")
			}
			metadata.set(name.(string), quoted(v))
		}
	}
}

// sys is what the host says of the call itself.
func sys(f *function) object {
	return object{{"MethodName", f.name}, {"UtcNow", time.Now().UTC().Format("2006-01-02T15:04:05.9999999Z07:00")}, {"RandGuid", uuid.NewString()}}
}

// offsetTime writes a time as .NET's DateTimeOffset.
func offsetTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.9999999-07:00") }

// envelope is a call of a function that does not get a request of its own.
func envelope(f *function, data any, metadata object) []byte {
	return encode(object{{"Data", object{{f.binding, data}}}, {"Metadata", metadata}})
}

// A result is what the handler answers to an envelope.
type result struct {
	Outputs     map[string]json.RawMessage
	Logs        []string
	ReturnValue json.RawMessage
}

const maxRedirects = 50

// post calls the handler with an envelope and reads its result. An answer without a result is waited for, until the function has run too long.
func (h *Host) post(ctx context.Context, f *function, id string, body []byte) (*result, error) {
	method, target, content := http.MethodPost, "/"+f.name, true
	for redirects := 0; ; redirects++ {
		out := &outgoing{method: method, target: target}
		out.fields = append(append(fields{{"Host", h.workerHost()}}, hostFields(id)...), field{"User-Agent", "Azure-Functions-Host/" + Version})
		if content {
			out.body, out.chunked = bytes.NewReader(body), true
			out.fields = append(out.fields, field{"Transfer-Encoding", "chunked"}, field{"Content-Type", "application/json; charset=utf-8"})
		}
		a, err := h.exchange(ctx, out, 0)
		if err != nil {
			return nil, err
		}
		to := redirection(a, target)
		if to == "" || redirects == maxRedirects {
			defer a.close()
			return h.result(ctx, f, a)
		}
		a.close()
		target = to
		if a.status != http.StatusTemporaryRedirect && a.status != http.StatusPermanentRedirect {
			method, content = http.MethodGet, false
		}
	}
}

// redirection is where an answer sends the host, on the same server; "" is nowhere.
func redirection(a *answer, from string) string {
	switch a.status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return ""
	}
	base, err := url.Parse(from)
	if err != nil {
		return ""
	}
	to, err := base.Parse(a.fields.get("Location"))
	if err != nil || a.fields.get("Location") == "" {
		return ""
	}
	return to.RequestURI()
}

// result reads the handler's answer to an envelope.
func (h *Host) result(ctx context.Context, f *function, a *answer) (*result, error) {
	var body []byte
	if a.body != nil {
		var err error
		if body, err = io.ReadAll(a.body); err != nil {
			return nil, err
		}
	}
	if a.status < 200 || a.status > 299 {
		return nil, fmt.Errorf("System.Net.Http.HttpRequestException: Response status code does not indicate success: %d (%s).", a.status, http.StatusText(a.status)) //nolint:staticcheck // the host's words
	}
	contentType := a.fields.get("Content-Type")
	media, _, _ := mime.ParseMediaType(contentType)
	if len(body) > 0 && media != "application/json" && media != "text/json" {
		return nil, fmt.Errorf("System.InvalidOperationException: Invalid HttpResponseMessage: no MediaTypeFormatter for %q", contentType)
	}
	if len(body) == 0 || string(bytes.TrimSpace(body)) == "null" {
		<-ctx.Done() // recorded: the host waits for a result that does not come
		return nil, ctx.Err()
	}
	var r result
	if err := json.Unmarshal(body, &r); err != nil {
		return nil, fmt.Errorf("System.InvalidOperationException: Invalid HttpResponseMessage: %w", err)
	}
	for _, l := range r.Logs {
		h.log(Information, "Function."+f.name+".User", "%s", l)
	}
	return &r, nil
}

// callEnvelope calls an HTTP function that gets an envelope, and makes an answer out of its result.
func (h *Host) callEnvelope(ctx context.Context, f *function, in *incoming, id string) (*answer, error) {
	var body []byte
	if in.body != nil {
		var err error
		if body, err = io.ReadAll(in.body); err != nil {
			return nil, err
		}
	}
	r, err := h.post(ctx, f, id, in.envelope(f, body))
	if err != nil {
		return nil, err
	}
	a, err := r.answer(f)
	return &answer{a, func() {}}, err
}

// envelope makes the envelope of a caller's request.
func (in *incoming) envelope(f *function, body []byte) []byte {
	var query, headers, heads, params, metadata object
	spread(&metadata, string(body))
	address := "http://" + in.fields.get("Host") + in.path
	if in.query != "" {
		address += "?" + in.query
	}
	for _, p := range parseQuery(in.query) {
		v := strings.Join(p.values, ",")
		query = append(query, member{p.key, v})
		if !strings.EqualFold(p.key, "code") {
			metadata.set(p.key, quoted(v))
		}
	}
	for _, p := range in.params {
		params = append(params, member{p.name, p.value})
		metadata.set(p.name, quoted(p.value))
	}
	for _, h := range in.fields.joined() {
		headers = append(headers, member{h.name, []string{h.value}})
		heads = append(heads, member{h.name, h.value})
	}
	metadata.set("Query", query)
	metadata.set("Headers", heads)
	metadata.set("sys", sys(f))
	data := object{
		{"Url", address},
		{"Method", in.method},
		{"Query", query},
		{"Headers", headers},
		{"Params", params},
		{"Identities", []object{in.granted.identity()}},
	}
	if in.body != nil {
		data = append(data, member{"Body", string(body)})
	}
	return envelope(f, data, metadata)
}

// identity is whom the host takes the caller for.
func (g grant) identity() object {
	level, key := "", ""
	switch g {
	case oneOfMany:
		level, key = "Function", "default"
	case master:
		level, key = "Admin", "master"
	}
	claims := []object{}
	kind := any(nil)
	if g != nothing {
		kind = "WebJobsAuthLevel"
		const claim = "http://schemas.microsoft.com/2017/07/functions/claims/"
		for _, c := range []field{{"authlevel", level}, {"invoke", "true"}, {"keyid", key}} {
			claims = append(claims, object{
				{"Issuer", "LOCAL AUTHORITY"},
				{"OriginalIssuer", "LOCAL AUTHORITY"},
				{"Properties", object{}},
				{"Type", claim + c.name},
				{"Value", c.value},
				{"ValueType", "http://www.w3.org/2001/XMLSchema#string"},
			})
		}
	}
	return object{
		{"AuthenticationType", kind},
		{"IsAuthenticated", g != nothing},
		{"Actor", nil},
		{"BootstrapContext", nil},
		{"Claims", claims},
		{"Label", nil},
		{"Name", nil},
		{"NameClaimType", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name"},
		{"RoleClaimType", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"},
	}
}

// answer makes a caller's answer out of a result.
func (r *result) answer(f *function) (*response, error) {
	if f.output == "" || r.Outputs == nil {
		return &response{status: http.StatusNoContent}, nil
	}
	out, ok := r.Outputs[f.output]
	if !ok {
		return textAnswer(http.StatusOK, nil, string(encode(r.Outputs))), nil
	}
	var res struct {
		StatusCode json.RawMessage
		Headers    map[string]string
		Body       json.RawMessage
	}
	if err := json.Unmarshal(out, &res); err != nil {
		return nil, err
	}
	status := http.StatusOK
	var n int
	if json.Unmarshal(res.StatusCode, &n) == nil && n != 0 { // recorded: "status" and texts are not looked at
		status = n
	}
	var text string
	if json.Unmarshal(res.Body, &text) != nil {
		var b bytes.Buffer
		if err := json.Indent(&b, res.Body, "", "  "); err != nil && len(res.Body) > 0 {
			return nil, errors.Join(errMalformed, err)
		}
		text = b.String()
	}
	return textAnswer(status, res.Headers, text), nil
}

// textAnswer is an answer that the host writes itself.
func textAnswer(status int, headers map[string]string, text string) *response {
	contentType := "text/plain"
	var f fields
	for k, v := range headers {
		if strings.EqualFold(k, "Content-Type") {
			contentType = v
			continue
		}
		f = append(f, field{k, v})
	}
	if !strings.Contains(contentType, "charset") {
		contentType += "; charset=utf-8"
	}
	f = append(f, field{"Content-Type", contentType})
	return &response{status: status, fields: f, framing: framing{chunked: true, length: -1}, body: strings.NewReader(text)}
}
