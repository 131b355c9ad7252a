package csdl

import (
	"net/url"
	"os"
	"strings"
	"testing"
)

func read(t *testing.T, path string) *Model {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	m, err := Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEveryKindOfDepartureIsFoundWhereItIs(t *testing.T) {
	t.Parallel()
	m := read(t, "testdata/library.csdl")
	const answer = `{"value":[]}`
	for name, c := range map[string]struct {
		e    Exchange
		want string // the beginning of the one violation; "" for none
	}{
		"list":                      {Exchange{Method: "GET", Path: "/books", Status: 200, Answer: []byte(`{"@odata.context":"x","@odata.count":1,"value":[{"id":"1","title":null,"pages":3,"kind":"novel"}]}`)}, ""},
		"entity":                    {Exchange{Method: "GET", Path: "/books/1", Status: 200, Answer: []byte(`{"@odata.context":"x","id":"1","isbn":"c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77","printed":"2026-08-01T10:00:00.5Z","loan":"P14D","day":"2026-08-01"}`)}, ""},
		"key in parentheses":        {Exchange{Method: "DELETE", Path: "/books('1')", Status: 204}, ""},
		"singleton, contained":      {Exchange{Method: "GET", Path: "/desk/readers/7/lent", Status: 200, Answer: []byte(answer)}, ""},
		"expanded":                  {Exchange{Method: "GET", Path: "/books/1", Query: url.Values{"$expand": {"author($select=name)"}}, Status: 200, Answer: []byte(`{"id":"1","author":{"name":"x"}}`)}, ""},
		"derived":                   {Exchange{Method: "POST", Path: "/books", Request: []byte(`{"@odata.type":"#example.library.atlas","maps":2,"cover":{"@odata.type":"#example.library.leather","colour":"red"}}`), Status: 201, Answer: []byte(`{"@odata.type":"#example.library.atlas","id":"1","maps":2}`)}, ""},
		"open type":                 {Exchange{Method: "GET", Path: "/desk/readers/7", Status: 200, Answer: []byte(`{"id":"7","anything":{"goes":1}}`)}, ""},
		"action":                    {Exchange{Method: "POST", Path: "/books/1/lend", Request: []byte(`{"to":"x","days":14,"cover":{"@odata.type":"example.library.leather"}}`), Status: 204}, ""},
		"action, full name":         {Exchange{Method: "POST", Path: "/books/1/example.library.lend", Request: []byte(`{}`), Status: 204}, ""},
		"bound to a base":           {Exchange{Method: "POST", Path: "/books/1/discard", Status: 204}, ""},
		"function":                  {Exchange{Method: "GET", Path: "/books/overdue(since='x')", Status: 200, Answer: []byte(answer)}, ""},
		"bind":                      {Exchange{Method: "POST", Path: "/books", Request: []byte(`{"author@odata.bind":"authors/1"}`), Status: 201, Answer: []byte(`{"id":"1"}`)}, ""},
		"filter":                    {Exchange{Method: "GET", Path: "/books", Query: url.Values{"$filter": {"kind eq 'novel' and not (pages gt 3 or startswith(tolower(title),'a''b')) and author/name ne null and tags/any(t:t/word eq 'x') and isbn eq c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77 and printed ge 2026-01-01T00:00:00Z and lent eq false"}}, Status: 200, Answer: []byte(answer)}, ""},
		"refused as it should be":   {Exchange{Method: "GET", Path: "/books/1", Status: 404, Answer: []byte(`{"error":{"code":"x","message":"","innerError":{"date":"y"}}}`)}, ""},
		"type of a cut-down schema": {Exchange{Method: "GET", Path: "/books/1", Status: 200, Answer: []byte(`{"shelf":{"what":"ever"}}`)}, ""},

		"unknown path":                {Exchange{Method: "GET", Path: "/films", Status: 200, Answer: []byte(answer)}, "path"},
		"unknown property in a path":  {Exchange{Method: "GET", Path: "/books/1/film", Status: 200, Answer: []byte(answer)}, "path"},
		"unknown action":              {Exchange{Method: "POST", Path: "/books/1/burn", Status: 204}, "path"},
		"action of another type":      {Exchange{Method: "POST", Path: "/desk/readers/7/lend", Status: 204}, "path"},
		"GET of an action":            {Exchange{Method: "GET", Path: "/books/1/lend", Status: 204}, "method"},
		"DELETE of a collection":      {Exchange{Method: "DELETE", Path: "/books", Status: 204}, "method"},
		"POST to an entity":           {Exchange{Method: "POST", Path: "/books/1", Request: []byte("{}"), Status: 204}, "method"},
		"unknown property":            {post(`{"titel":"x"}`), "request.titel"},
		"the wrong case":              {post(`{"Title":"x"}`), "request.Title"},
		"unknown nested property":     {post(`{"tags":[{"word":"x"},{"wort":"x"}]}`), "request.tags[1].wort"},
		"number for a string":         {post(`{"title":1}`), "request.title"},
		"string for a number":         {post(`{"pages":"1"}`), "request.pages"},
		"fraction":                    {post(`{"pages":1.5}`), "request.pages"},
		"too large":                   {post(`{"pages":3000000000}`), "request.pages"},
		"string for a boolean":        {post(`{"lent":"true"}`), "request.lent"},
		"object for a string":         {post(`{"title":{}}`), "request.title"},
		"object for a collection":     {post(`{"tags":{}}`), "request.tags"},
		"null for a collection":       {post(`{"tags":null}`), "request.tags"},
		"null in a collection":        {post(`{"tags":[null]}`), "request.tags[0]"},
		"null where it may not be":    {post(`{"kind":null}`), "request.kind"},
		"unknown member":              {post(`{"kind":"film"}`), "request.kind"},
		"member in the wrong case":    {post(`{"kind":"Novel"}`), "request.kind"},
		"number for a member":         {post(`{"kind":1}`), "request.kind"},
		"not a GUID":                  {post(`{"isbn":"1"}`), "request.isbn"},
		"not a time":                  {post(`{"printed":"yesterday"}`), "request.printed"},
		"a time without a zone":       {post(`{"printed":"2026-08-01T10:00:00"}`), "request.printed"},
		"not a date":                  {post(`{"day":"2026-08-01T10:00:00Z"}`), "request.day"},
		"not a duration":              {post(`{"loan":"14.00:00:00"}`), "request.loan"},
		"a duration in weeks":         {post(`{"loan":"P2W"}`), "request.loan"},
		"a duration in years":         {post(`{"loan":"P1Y"}`), "request.loan"},
		"an empty duration":           {post(`{"loan":"PT"}`), "request.loan"},
		"abstract without a type":     {post(`{"cover":{"colour":"red"}}`), "request.cover"},
		"abstract type":               {post(`{"cover":{"@odata.type":"#example.library.cover"}}`), "request.cover"},
		"unknown type":                {post(`{"cover":{"@odata.type":"#example.library.paper"}}`), "request.cover.@odata.type"},
		"type of another family":      {post(`{"cover":{"@odata.type":"#example.library.tag"}}`), "request.cover.@odata.type"},
		"property of a sibling":       {post(`{"maps":2}`), "request.maps"},
		"unknown annotation":          {post(`{"title@remark":"x"}`), "request.title@remark"},
		"annotation of nothing":       {post(`{"film@odata.bind":"x"}`), "request.film@odata.bind"},
		"bind of a property":          {post(`{"title@odata.bind":"x"}`), "request.title@odata.bind"},
		"no JSON":                     {post(`{`), "request"},
		"two JSON values":             {post(`{}{}`), "request"},
		"a list for an entity":        {post(`[]`), "request"},
		"no body":                     {post(``), "request"},
		"a body of a GET":             {Exchange{Method: "GET", Path: "/books", Request: []byte("{}"), Status: 200, Answer: []byte(answer)}, "request"},
		"unknown parameter":           {Exchange{Method: "POST", Path: "/books/1/lend", Request: []byte(`{"for":"x"}`), Status: 204}, "request.for"},
		"parameter of the wrong type": {Exchange{Method: "POST", Path: "/books/1/lend", Request: []byte(`{"days":"14"}`), Status: 204}, "request.days"},
		"parameters for none":         {Exchange{Method: "POST", Path: "/books/1/discard", Request: []byte(`{"why":"x"}`), Status: 204}, "request.why"},
		"unknown property answered":   {get(200, `{"titel":"x"}`), "answer.titel"},
		"wrong type answered":         {get(200, `{"pages":"x"}`), "answer.pages"},
		"unknown member answered":     {get(200, `{"kind":"film"}`), "answer.kind"},
		"nothing answered":            {get(200, ``), "answer"},
		"204 with a body":             {get(204, `{}`), "answer"},
		"a bare list":                 {Exchange{Method: "GET", Path: "/books", Status: 200, Answer: []byte("[]")}, "answer"},
		"a list without value":        {Exchange{Method: "GET", Path: "/books", Status: 200, Answer: []byte("{}")}, "answer.value"},
		"a list with more":            {Exchange{Method: "GET", Path: "/books", Status: 200, Answer: []byte(`{"value":[],"total":3}`)}, "answer.total"},
		"an action that answers":      {Exchange{Method: "POST", Path: "/books/1/lend", Request: []byte(`{}`), Status: 200, Answer: []byte("{}")}, "answer"},
		"an error without a code":     {get(400, `{"error":{"message":"x"}}`), "answer.error.code"},
		"an error of another shape":   {get(400, `{"error":{"code":"x","message":"y","hint":"z"}}`), "answer.error.hint"},
		"an error that is no JSON":    {get(502, `Bad Gateway`), "answer"},

		"unknown option":                {query("$frob", "1"), "$frob"},
		"unknown in $select":            {query("$select", "id,film"), "$select"},
		"unknown in $expand":            {query("$expand", "film"), "$expand"},
		"property in $expand":           {query("$expand", "title"), "$expand"},
		"unknown in nested select":      {query("$expand", "author($select=name,film)"), "$expand=author($select)"},
		"nested option":                 {query("$expand", "author($frob=1)"), "$frob"},
		"open parenthesis":              {query("$expand", "author($select=name"), "$expand"},
		"unknown in $orderby":           {query("$orderby", "film desc"), "$orderby"},
		"$top":                          {query("$top", "ten"), "$top"},
		"unknown in $filter":            {query("$filter", "film eq 'x'"), "$filter"},
		"unknown nested":                {query("$filter", "author/film eq 'x'"), "$filter"},
		"unknown in any":                {query("$filter", "tags/any(t:t/film eq 'x')"), "$filter"},
		"unknown member in filter":      {query("$filter", "kind eq 'film'"), "$filter"},
		"member without quotes":         {query("$filter", "kind eq 1"), "$filter"},
		"string for a number in filter": {query("$filter", "pages eq '1'"), "$filter"},
		"GUID in quotes":                {query("$filter", "isbn eq 'c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77'"), "$filter"},
		"collection compared":           {query("$filter", "tags eq 'x'"), "$filter"},
		"any of no collection":          {query("$filter", "title/any(t:t eq 'x')"), "$filter"},
		"no condition":                  {query("$filter", "title"), "$filter"},
		"half a condition":              {query("$filter", "title eq"), "$filter"},
		"open quote":                    {query("$filter", "title eq 'x"), "$filter"},
		"unknown function":              {query("$filter", "soundex(title) eq 'x'"), "$filter"},
		"too few arguments":             {query("$filter", "contains(title)"), "$filter"},
		"rubbish after it":              {query("$filter", "pages eq 1 2"), "$filter"},
		"filter of one":                 {Exchange{Method: "GET", Path: "/books/1", Query: url.Values{"$filter": {"pages eq 1"}}, Status: 200, Answer: []byte("{}")}, "$filter"},
	} {
		found := m.Check(c.e)
		switch {
		case c.want == "" && len(found) > 0:
			t.Errorf("%s: %v", name, found)
		case c.want != "" && (len(found) == 0 || found[0].At != c.want):
			t.Errorf("%s: found %v, want one at %s", name, found, c.want)
		}
	}
}

func post(body string) Exchange {
	return Exchange{Method: "POST", Path: "/books", Request: []byte(body), Status: 201, Answer: []byte(`{"id":"1"}`)}
}

func get(status int, answer string) Exchange {
	return Exchange{Method: "GET", Path: "/books/1", Status: status, Answer: []byte(answer)}
}

func query(name, value string) Exchange {
	return Exchange{Method: "GET", Path: "/books", Query: url.Values{name: {value}}, Status: 200, Answer: []byte(`{"value":[]}`)}
}

func TestAnAbstractTypeCanBeAllowed(t *testing.T) {
	t.Parallel()
	m := read(t, "testdata/library.csdl")
	m.AllowAbstract("cover")
	if found := m.Check(post(`{"cover":{"@odata.type":"#example.library.cover"}}`)); len(found) != 0 {
		t.Errorf("found %v", found)
	}
	if found := m.Check(post(`{"cover":{"colour":"red"}}`)); len(found) != 1 || found[0].At != "request.cover.colour" {
		t.Errorf("found %v", found)
	}
}

func TestATemplateHasAPlaceForEveryKey(t *testing.T) {
	t.Parallel()
	m := read(t, "testdata/library.csdl")
	for path, want := range map[string]string{
		"/desk/readers/7/lent/1": "/desk/readers/{id}/lent/{id}", "books('a%2Fb')/author": "/books/{id}/author",
		"/books/1/lend": "/books/{id}/lend", "/books/$count": "/books/$count",
	} {
		target, err := m.Resolve(path)
		if err != nil || target.Template != want {
			t.Errorf("%s: %v %v", path, target, err)
		}
	}
	for _, path := range []string{"", "/", "/books//", "/books/1/lend/x", "/desk('x')", "/books/%zz"} {
		if target, err := m.Resolve(path); err == nil {
			t.Errorf("%q leads to %s", path, target.Template)
		}
	}
}

func TestWhatIsNoSchemaIsRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "<x/>", "<Edmx><DataServices><Schema Namespace='n'/></DataServices></Edmx>", "<Edmx>"} {
		if _, err := Parse(strings.NewReader(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{"a eq 'b'", "not (a/b ne null or contains(c,'d'))", "a/any(x:x/y eq 1)", "((((", "a eq 'b''c'", "any("} {
		f.Add(s)
	}
	m := New("n")
	m.Add(Type{Name: "t", Kind: Entity, Properties: Properties("a String, b []u, c Int32")})
	m.Add(Type{Name: "u", Kind: Complex, Properties: Properties("d String")})
	f.Fuzz(func(_ *testing.T, s string) {
		if e, err := ParseFilter(s); err == nil {
			m.CheckQuery(Ref{Type: "t", Collection: true}, Query{Filter: e})
		}
	})
}

func FuzzCheck(f *testing.F) {
	f.Add("/books/1/lend", "$expand=author($select=name)", `{"to":"x"}`)
	f.Fuzz(func(t *testing.T, path, query, body string) {
		m := read(t, "testdata/library.csdl")
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		m.Check(Exchange{Method: "POST", Path: path, Query: values, Request: []byte(body), Status: 200, Answer: []byte(body)})
	})
}
