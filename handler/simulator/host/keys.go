package host

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

// makeKeys makes up the keys that are not set.
func (h *Host) makeKeys() Keys {
	k := h.c.Keys
	k.Functions = maps.Clone(k.Functions)
	if k.Functions == nil {
		k.Functions = map[string]string{}
	}
	for _, to := range []*string{&k.Master, &k.Default} {
		if *to == "" {
			*to = newKey()
		}
	}
	for _, f := range h.app.functions {
		if f.kind == httpKind && k.Functions[f.name] == "" {
			k.Functions[f.name] = newKey()
		}
	}
	return k
}

func newKey() string { return strings.ReplaceAll(uuid.NewString()+uuid.NewString(), "-", "") }

// grant is what a caller's key is worth.
type grant int

const (
	nothing   grant = iota
	oneOfMany       // the key of a function, or the host's
	master
)

func (g grant) opens(level string) bool {
	switch level {
	case "anonymous":
		return true
	case "function":
		return g >= oneOfMany
	default:
		return g == master
	}
}

// grant says what the key of a call is worth for a function, or for the host itself when f is nil. The header wins, even when it is wrong.
func (h *Host) grant(in *incoming, f *function) grant {
	key, ok := in.fields.find("x-functions-key")
	if !ok {
		for _, p := range parseQuery(in.query) {
			if strings.EqualFold(p.key, "code") {
				key = p.values[0]
			}
		}
	}
	switch {
	case key == "":
		return nothing
	case key == h.keys.Master:
		return master
	case key == h.keys.Default, f != nil && key == h.keys.Functions[f.name]:
		return oneOfMany
	}
	if f == nil {
		for _, k := range h.keys.Functions {
			if k == key {
				return oneOfMany
			}
		}
	}
	return nothing
}

// own answers the calls that are for the host itself, and returns nil for all others.
func (h *Host) own(in *incoming) *response {
	path := strings.ToLower(in.path)
	switch {
	case path == "/" && in.method == http.MethodGet:
		return page("text/html", "<!DOCTYPE html>\n<html>\n<head>\n    <title>Your Azure Function App is up and running.</title>\n</head>\n</html>\n")
	case path == "/admin/host/ping":
		return &response{status: http.StatusOK, fields: fields{{"Cache-Control", "no-store,no-cache"}, {"Pragma", "no-cache"}}}
	case !strings.HasPrefix(path, "/admin/") && !strings.HasPrefix(path, "/runtime/webhooks/"):
		return nil
	}
	if !h.keys.Off {
		switch h.grant(in, nil) {
		case nothing:
			return &response{status: http.StatusUnauthorized, fields: fields{{"WWW-Authenticate", "Bearer"}}}
		case oneOfMany:
			return &response{status: http.StatusForbidden}
		}
	}
	name, isFunction := strings.CutPrefix(path, "/admin/functions/")
	switch {
	case path == "/admin/host/status" && in.method == http.MethodGet:
		return asJSON(map[string]any{
			"id": "app", "state": "Running", "version": Version, "versionDetails": Version, "platformVersion": "", "instanceId": "",
			"computerName": "", "processUptime": time.Since(h.started).Milliseconds(), "functionAppContentEditingState": "Unknown",
		})
	case path == "/admin/functions" && in.method == http.MethodGet:
		return asJSON(h.list())
	case isFunction && in.method == http.MethodPost:
		for _, f := range h.app.functions {
			if f.err == nil && strings.EqualFold(f.name, name) {
				return h.adminInvoke(f, in)
			}
		}
	}
	return &response{status: http.StatusNotFound}
}

// list is the host's list of its functions.
func (h *Host) list() []map[string]any {
	var all []map[string]any
	for _, f := range h.app.functions {
		m := map[string]any{"name": f.name, "href": h.URL() + "/admin/functions/" + f.name, "language": nil, "config": f.config}
		if f.kind == httpKind && f.route != nil {
			m["invoke_url_template"] = h.URL() + "/" + strings.ToLower(f.route.text)
		}
		all = append(all, m)
	}
	return all
}

// adminInvoke runs a function for an operator, who is answered before it has run.
func (h *Host) adminInvoke(f *function, in *incoming) *response {
	var order struct{ Input *string }
	if in.body != nil {
		b, err := io.ReadAll(io.LimitReader(in.body, 1<<20))
		if err != nil || json.Unmarshal(b, &order) != nil {
			return &response{status: http.StatusBadRequest}
		}
	}
	switch f.kind {
	case httpKind: // recorded: the host takes it, and the handler never hears of it
	case queueKind:
		text := ""
		if order.Input != nil {
			text = *order.Input
		}
		h.trigger(func(ctx context.Context) { _ = h.runQueue(ctx, f, adminMessage(text), programmatically) })
	default:
		h.trigger(func(ctx context.Context) { _ = h.runTimer(ctx, f, false, order.Input, programmatically) })
	}
	return &response{status: http.StatusAccepted}
}

// trigger runs a queue or timer call beside everything else.
func (h *Host) trigger(run func(context.Context)) {
	h.triggers.add(1)
	h.running.Go(func() {
		defer h.triggers.add(-1)
		run(h.alive)
	})
}

func page(contentType, body string) *response {
	return &response{status: http.StatusOK, fields: fields{{"Content-Type", contentType}}, framing: framing{length: int64(len(body))}, body: strings.NewReader(body)}
}

func asJSON(v any) *response { return page("application/json; charset=utf-8", string(encode(v))) }
