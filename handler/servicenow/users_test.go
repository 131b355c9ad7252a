package servicenow

import (
	"net/http"
	"strings"
	"testing"

	"ticketbridge/handler/fault"
	standin "ticketbridge/handler/simulator/servicenow"
)

func TestFindUserTakesTheOneWhoHasTheNameOrElseTheAddress(t *testing.T) {
	t.Parallel()
	id := func(letter string) string { return strings.Repeat(letter, 32) }
	s := open(t, func(c *standin.Config) {
		c.Users = append(c.Users,
			standin.User{UserName: "bob", Email: "bob@example.com", SysID: id("b")},
			standin.User{UserName: "carol@example.com", Email: "carol@example.com", SysID: id("c"), Inactive: true},
			standin.User{UserName: "dave", Email: "shared@example.com", SysID: id("d")},
			standin.User{UserName: "erin", Email: "shared@example.com", SysID: id("e")},
			standin.User{UserName: "o'hara_frank-1@example.com", SysID: id("f")},
			standin.User{UserName: "alice_example.com#EXT#@tenant.example", SysID: id("0")},
			standin.User{UserName: "gerd@example.com", Email: "g@example.com", SysID: id("1")},
			standin.User{UserName: "g", Email: "gerd@example.com", SysID: id("2")},
		)
	})
	for _, tc := range []struct{ name, principal, email, want string }{
		{"by name", "alice@example.com", "", aliceID},
		{"in another case", "ALICE@example.COM", "", aliceID},
		{"by address", "", "alice@example.com", aliceID},
		{"by address when the name is nobody's", "robert@example.com", "bob@example.com", id("b")},
		{"the name goes before the address", "gerd@example.com", "gerd@example.com", id("1")},
		{"nobody", "nobody@example.com", "nobody@example.com", ""},
		{"nothing to look for", "", "", ""},
		{"somebody inactive", "carol@example.com", "carol@example.com", ""},
		{"an address of two", "nobody@example.com", "shared@example.com", ""},
		{"an apostrophe, a line and a digit", "o'hara_frank-1@example.com", "", id("f")},
		{"a guest", "alice_example.com#EXT#@tenant.example", "", id("0")},
	} {
		got, found, err := s.FindUser(t.Context(), tc.principal, tc.email)
		if err != nil || got != tc.want || found != (tc.want != "") {
			t.Errorf("%s: %q, %v, %v; want %q", tc.name, got, found, err, tc.want)
		}
	}
}

func TestFindGroupTakesTheOneActiveGroupOfTheName(t *testing.T) {
	t.Parallel()
	s := open(t, func(c *standin.Config) {
		c.Groups = []string{"Service Desk", "Twins", "Twins", "Access (EU): first & second line, R&D/IT", "Zugänge – Büro"}
	})
	for name, want := range map[string]bool{
		"Service Desk": true, "service desk": true, "Twins": false, "Access (EU): first & second line, R&D/IT": true, "Zugänge – Büro": true, "Nobody": false, "": false,
		" Service Desk": false, "x^ORnameISNOTEMPTY": false, "javascript:gs.getUserID()": false, "JavaScript:1": false, "a\nb": false, strings.Repeat("a", 201): false,
	} {
		id, found, err := s.FindGroup(t.Context(), name)
		if err != nil || found != want || found != validSysID(id) {
			t.Errorf("%q: %q, %v, %v; want %v", name, id, found, err, want)
		}
	}
	if n := s.Calls()["GET /api/now/v2/table/sys_user_group"]; n != 5 {
		t.Errorf("%d calls for five names that can be asked for, of which one was asked for in two ways", n)
	}
}

func TestFindUserPutsNoConditionIntoTheQuery(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	for _, name := range []string{
		"x^ORuser_name=bridge", "^NQactive=true", "alice@example.com^active=true", "javascript:gs.getUserName()", "x\ny", "a=b", "x,y", "(x)", "<x>", "a b", "%5E", "*", "\x00", "", strings.Repeat("a", 201),
	} {
		if id, found, err := s.FindUser(t.Context(), name, name); err != nil || found {
			t.Errorf("%q found %q, %v", name, id, err)
		}
	}
	if len(s.Calls()) != 0 {
		t.Errorf("called %v", s.Calls())
	}
}

func TestFindUserTakesNobodyWhoWasNotAskedFor(t *testing.T) {
	t.Parallel()
	row := func(id, name, active string) string {
		return `{"sys_id":"` + strings.Repeat(id, 32) + `","user_name":"` + name + `","active":` + active + `}`
	}
	for name, tc := range map[string]struct {
		rows    string
		found   bool
		ignored bool
	}{
		"the one":                                {rows: row("a", "alice", `"true"`), found: true},
		"active may not be read":                 {rows: `{"sys_id":"` + aliceID + `","user_name":"alice"}`, found: true},
		"two anybodies":                          {rows: row("b", "bridge", `"true"`) + "," + row("c", "carol", `"true"`), ignored: true},
		"the one among others":                   {rows: row("a", "alice", `"true"`) + "," + row("c", "carol", `"true"`), ignored: true},
		"the column may not be read":             {rows: `{"sys_id":"` + aliceID + `","active":"true"},{"sys_id":"` + strings.Repeat("b", 32) + `","active":"true"}`, ignored: true},
		"two of the name":                        {rows: row("a", "alice", `"true"`) + "," + row("c", "Alice", `"true"`)},
		"the active of two, which was not asked": {rows: row("a", "alice", `"true"`) + "," + row("c", "alice", `"false"`), ignored: true},
		"one other, spelled alike":               {rows: row("a", "alicé", `"true"`)},
		"one who is inactive":                    {rows: row("a", "alice", `"false"`)},
		"one without a usable sys_id":            {rows: `{"sys_id":"../x","user_name":"alice","active":"true"}`},
		"none":                                   {rows: ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, found, err := answered(t, says(200, `{"result":[`+tc.rows+`]}`)).FindUser(t.Context(), "alice", "")
			if tc.ignored {
				failed(t, err, fault.Misconfigured, "the condition was ignored")
				return
			}
			if err != nil || found != tc.found || found && id != aliceID {
				t.Errorf("found %q, %v, %v", id, found, err)
			}
		})
	}
}

func TestFindUserIgnoredByTheInstanceIsMisconfigured(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.SetDenied("bridge", standin.Denial{Table: "sys_user", Operation: standin.Read, Field: "user_name"}, standin.Denial{Table: "sys_user", Operation: standin.Read, Field: "email"})
	// The stand-in, as ServiceNow, still finds by a column that may not be read; the one record then does not say what was asked for.
	if id, found, err := s.FindUser(t.Context(), "alice@example.com", "alice@example.com"); err != nil || found {
		t.Errorf("found %q, %v, though the record did not say who it is", id, err)
	}
	s.SetDenied("bridge", standin.Denial{Table: "sys_user", Operation: standin.Read})
	if id, found, err := s.with(Config{}).FindUser(t.Context(), "alice@example.com", ""); err != nil || found {
		t.Errorf("found %q, %v, who is hidden", id, err)
	}
}

func TestFindUserSendsTheNameAsItIs(t *testing.T) {
	t.Parallel()
	const name = "o'hara+x&y#EXT#@tenant.example"
	c := answered(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query().Get("sysparm_query"); got != "user_name="+name+"^active=true" {
			t.Errorf("asked %q", got)
		}
		says(200, `{"result":[]}`)(w, r)
	})
	if _, _, err := c.FindUser(t.Context(), name, ""); err != nil {
		t.Error(err)
	}
	failed(t, func() error {
		_, _, err := answered(t, says(500, "")).FindUser(t.Context(), "alice", "a@example.com")
		return err
	}(), fault.Unreachable)
}
