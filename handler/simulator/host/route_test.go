package host

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

func TestPathsAreReadAsTheHostsServerReadsThem(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]struct{ path, proxied, forwarded string }{
		"/api/console/a%2Fb/c%20d/%2e%2e/e%25f/%C3%A9": {"/api/console/a%2Fb/e%f/é", "/api/console/a%252Fb/e%25f/%C3%A9", "/api/console/a%2Fb/e%25f/%C3%A9"},
		"/api/console/..%2fcallout":                    {"/api/console/..%2fcallout", "/api/console/..%252fcallout", "/api/console/..%2fcallout"},
		"/api/console/%2e%2e%2f%2e%2e%2fadvance":       {"/api/console/..%2f..%2fadvance", "/api/console/..%252f..%252fadvance", "/api/console/..%2f..%2fadvance"},
		"/api/console/../callout":                      {"/api/callout", "/api/callout", "/api/callout"},
		"/api/console/%2e%2e/callout":                  {"/api/callout", "/api/callout", "/api/callout"},
		"/api/console/a/../b//c":                       {"/api/console/b//c", "/api/console/b//c", "/api/console/b//c"},
		"/../../x":                                     {"/x", "/x", "/x"},
		"/a/./b/.":                                     {"/a/b/", "/a/b/", "/a/b/"},
		"/a/b/..":                                      {"/a/", "/a/", "/a/"},
		"/a/.b/..c/...":                                {"/a/.b/..c/...", "/a/.b/..c/...", "/a/.b/..c/..."},
		"/%ff/%C3":                                     {"/%ff/%C3", "/%25ff/%25C3", "/%ff/%C3"},
		"/a%zz/b%2":                                    {"/a%zz/b%2", "/a%25zz/b%252", "/a%25zz/b%252"},
		"/a%20b\"<>":                                   {"/a b\"<>", "/a%20b%22%3C%3E", "/a%20b%22%3C%3E"},
		"/~$&'()*+,;=:@-._":                            {"/~$&'()*+,;=:@-._", "/~$&'()*+,;=:@-._", "/~$&'()*+,;=:@-._"},
	} {
		path, ok := decodePath(raw)
		if !ok || path != want.path || proxiedPath(path) != want.proxied || forwardedPath(path) != want.forwarded {
			t.Errorf("%s:\n got %s %s %s\nwant %s %s %s", raw, path, proxiedPath(path), forwardedPath(path), want.path, want.proxied, want.forwarded)
		}
	}
	for _, raw := range []string{"/a%00b", "/a\x00b", "/a\tb", "/\u00e9"} {
		if _, ok := decodePath(raw); ok {
			t.Errorf("%q was taken", raw)
		}
	}
}

func TestRoutesMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		route, path string
		want        []param
		ok          bool
	}{
		{"api/callout", "/api/callout", nil, true},
		{"api/callout", "/API/CallOut/", nil, true},
		{"api/callout", "/api/callout//", nil, false},
		{"api/callout", "/api//callout", nil, false},
		{"api/callout", "//api/callout", nil, false},
		{"api/callout", "/api/callout/x", nil, false},
		{"api/callout", "/api", nil, false},
		{"api/console/{*path}", "/api/console", nil, true},
		{"api/console/{*path}", "/api/console/", nil, true},
		{"api/console/{*path}", "/api/console/a/B//c", []param{{"path", "a/B//c"}}, true},
		{"api/console/{*path}", "/api/consolex", nil, false},
		{"t/{id}", "/t/1", []param{{"id", "1"}}, true},
		{"t/{id}", "/t/", nil, false},
		{"t/{id?}", "/t", nil, true},
		{"t/{id?}", "/t/2/", []param{{"id", "2"}}, true},
		{"t/{id}/x", "/t/1", nil, false},
	} {
		r, err := parseRoute(c.route)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := r.match(c.path)
		if ok != c.ok || ok && !slices.Equal(got, c.want) {
			t.Errorf("%s on %s: %v %v, want %v %v", c.route, c.path, got, ok, c.want, c.ok)
		}
	}
	for _, text := range []string{"a/{x:int}", "a/{*x}/b", "a/{}", "a//b", "a/{x", "a/{x?}/b", "a/{x}y", ""} {
		if _, err := parseRoute(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestTheMoreExactRouteWins(t *testing.T) {
	t.Parallel()
	one := func(route string) string {
		return `{"bindings":[{"type":"httpTrigger","authLevel":"anonymous","name":"r","direction":"in","route":"` + route + `"}]}`
	}
	a := readApp(appOf(map[string]string{
		"host.json": hostFile("", ""), "a/function.json": one("{*all}"), "b/function.json": one("t/{id}"), "c/function.json": one("t/new"),
	}), nil)
	for path, want := range map[string]string{"/api/x": "a", "/api/t/1": "b", "/api/T/New": "c", "/api/t/1/2": "a"} {
		if f, _ := a.find(http.MethodGet, path); f == nil || f.name != want {
			t.Errorf("%s goes to %v, want %s", path, f, want)
		}
	}
}

// FuzzPaths holds what no path may do: reach another function than the one that its escaped spelling names, or be other than a path afterwards.
func FuzzPaths(f *testing.F) {
	for _, s := range []string{"/api/console/..%2fcallout", "/api/console/%2e%2e/callout", "/%ff%2f/..//", "/a%C3%A9%zz%0", "/./../."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if !strings.HasPrefix(raw, "/") {
			return
		}
		path, ok := decodePath(raw)
		if !ok {
			return
		}
		if !strings.HasPrefix(path, "/") {
			t.Fatalf("%q became %q", raw, path)
		}
		for _, segment := range strings.Split(path, "/") {
			if segment == ".." || segment == "." {
				t.Fatalf("%q still has dot segments: %q", raw, path)
			}
		}
		if slashes := strings.Count(path, "/"); slashes > strings.Count(raw, "/") {
			t.Fatalf("%q has more slashes than %q: one was decoded", path, raw)
		}
		for name, out := range map[string]string{"proxied": proxiedPath(path), "forwarded": forwardedPath(path)} {
			if strings.Trim(out, inPath+"%") != "" || strings.ContainsAny(out, " ?#\r\n\x00") {
				t.Fatalf("%s: %q", name, out)
			}
			if again, ok := decodePath(out); !ok || strings.Count(again, "/") != strings.Count(path, "/") {
				t.Fatalf("%s: %q is read as %q, not %q", name, out, again, path)
			}
		}
		if again, err := url.PathUnescape(proxiedPath(path)); err != nil || again != path {
			t.Fatalf("proxied %q is read as %q, not %q", proxiedPath(path), again, path)
		}
	})
}
