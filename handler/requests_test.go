package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os/user"
	"reflect"
	"strings"
	"testing"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/storage"
)

// Whatever a correlation has comes out of an export: each field is given a value that nothing else has, and looked for.
func TestAnExportHoldsEveryFieldOfACorrelation(t *testing.T) {
	t.Parallel()
	c := correlation.New(correlation.Key{Request: "the request", Stage: "the stage instance"}, time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), "received", "i")
	want := map[string]string{}
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch {
		case !v.Type().Field(i).IsExported() || name == "Key":
		case f.Type() == reflect.TypeFor[time.Time]():
			at := time.Date(2000+i, 1, 1, 0, 0, 0, 0, time.UTC)
			f.Set(reflect.ValueOf(at))
			want[name] = at.Format(`"2006-01-02T15:04:05Z"`)
		case f.Kind() == reflect.String:
			f.SetString("value of " + name)
			want[name] = `"value of ` + name + `"`
		case f.Kind() == reflect.Int:
			f.SetInt(int64(7700 + i))
			want[name] = fmt.Sprint(7700 + i)
		case f.Kind() == reflect.Bool:
			f.SetBool(true)
			want[name] = fmt.Sprintf(`"%s":true`, strings.ToLower(name[:1])+name[1:])
		case name == "Tickets":
			c.Tickets = []correlation.Ticket{{Number: "REQ77", Fields: map[string]string{"short_description": "for Ada"}}}
			want[name] = `"REQ77"`
		default:
			t.Errorf("this test gives no value to %s, a %s", name, f.Type())
		}
	}
	if len(want) < 30 {
		t.Errorf("only %d fields were looked at", len(want))
	}
	b, err := json.Marshal(exportOf(c, []correlation.Event{{Seq: 1, Text: "an event", By: "kim"}}, []byte(`{"a": 1}`)))
	if err != nil {
		t.Fatal(err)
	}
	want["Key"], want["the stage"], want["the timeline"], want["the callout"] = `"the request"`, `"the stage instance"`, `"an event"`, `"callout":{"a":1}`
	for name, value := range want {
		if !bytes.Contains(b, []byte(value)) {
			t.Errorf("%s is not in it, as %s:\n%s", name, value, b)
		}
	}
}

func TestACalloutThatIsNoJSONIsExportedByteByByte(t *testing.T) {
	t.Parallel()
	c := correlation.New(correlation.Key{Request: "r", Stage: "s"}, time.Now(), "received", "i")
	for _, body := range []string{"", "\xef\xbb\xbf{}", `{"a":`, "{\"a\":\"\xff\"}", "a=b"} {
		b, err := json.Marshal(exportOf(c, nil, []byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatal(err)
		}
		text, _ := got["calloutBase64"].(string)
		back, err := base64.StdEncoding.DecodeString(text)
		if _, embedded := got["callout"]; err != nil || embedded || string(back) != body {
			t.Errorf("%q comes out as %s", body, b)
		}
	}
	for _, body := range []string{`{"a":"<é&>","a":[1.0,1e2]}`, `null`, ` [ 1 ] `} {
		b, err := json.Marshal(exportOf(c, nil, []byte(body)))
		var got struct{ Callout, CalloutBase64 json.RawMessage }
		if err != nil || json.Unmarshal(b, &got) != nil || got.CalloutBase64 != nil {
			t.Errorf("%q comes out as %s, %v", body, b, err)
		}
		var was, is any
		if json.Unmarshal([]byte(body), &was) != nil || json.Unmarshal(got.Callout, &is) != nil || !reflect.DeepEqual(was, is) {
			t.Errorf("%q comes out as %s", body, got.Callout)
		}
	}
}

// However many there are: one is held at a time, and a page of their listings.
func TestAnExportOfManyIsEachOnceAndReadBackAsJSON(t *testing.T) {
	t.Parallel()
	store, _, err := storage.NewEmbedded(storage.DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	const many = 2500
	for i := range many {
		key := correlation.Key{Request: fmt.Sprintf("7d1f0a52-6c1e-4e0b-9a3c-%012d", i), Stage: "c0a6e2d4-52f7-4a9e-8f0e-000000000001"}
		if err := store.Create(t.Context(), correlation.New(key, time.Now(), "received", "i"), []byte(`{"n":1}`)); err != nil {
			t.Fatal(err)
		}
	}
	for _, array := range []bool{false, true} {
		var out, said bytes.Buffer
		x := &exporter{program: &program{ctx: t.Context(), stderr: &said}, store: store, out: &out, array: array}
		if err := errors.Join(x.begin(), x.list(func(cursor string) ([]correlation.Summary, string, error) { return store.Open(t.Context(), cursor, 0) }), x.end()); err != nil {
			t.Fatal(err)
		}
		var list []exported
		if array {
			err = json.Unmarshal(out.Bytes(), &list)
		} else {
			for d := json.NewDecoder(&out); d.More() && err == nil; {
				var e exported
				err = d.Decode(&e)
				list = append(list, e)
			}
		}
		seen := map[string]bool{}
		for _, e := range list {
			seen[e.RequestID] = true
		}
		if err != nil || len(list) != many || len(seen) != many || said.String() != "exported 2500 stage instances\n" {
			t.Errorf("array %v: %v, %d of which %d differ; said %q", array, err, len(list), len(seen), said.String())
		}
	}
}

func TestWhoGaveAnOrderIsNeverLeftOpen(t *testing.T) {
	t.Parallel()
	system := func(name string, err error) func() (*user.User, error) {
		return func() (*user.User, error) { return &user.User{Username: name}, err }
	}
	for _, c := range []struct {
		by   string
		user func() (*user.User, error)
		want string
	}{
		{"kim", system("root", nil), "kim"}, {"", system("robin", nil), "robin"}, {"", system("", nil), ""}, {"", system("x", errors.New("no such user")), ""},
	} {
		o := ordering{By: c.by}
		err := o.who(c.user)
		if o.By != c.want || (err == nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), "--by") {
			t.Errorf("--by %q: %q, %v", c.by, o.By, err)
		}
	}
}
