package servicenow

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/misbehave"
	standin "ticketbridge/handler/simulator/servicenow"
)

const users = "GET /api/now/v2/table/sys_user"

func TestWhoWasFoundIsRememberedForTenMinutesAndThatNobodyWasForOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, nil)
		look := func(name string, want bool, wantCalls int) {
			t.Helper()
			_, found, err := s.FindUser(t.Context(), name, "")
			if n := s.Calls()[users]; err != nil || found != want || n != wantCalls {
				t.Errorf("%s: found %v, %v, after %d calls; want %v, %d", name, found, err, n, want, wantCalls)
			}
		}
		look("alice@example.com", true, 1)
		look("Alice@Example.com", true, 1)
		look("bob@example.com", false, 2)
		if err := s.AddUser(standin.User{UserName: "bob@example.com"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute - time.Second)
		look("bob@example.com", false, 2)
		time.Sleep(time.Second)
		look("bob@example.com", true, 3)
		time.Sleep(9*time.Minute - time.Second)
		look("alice@example.com", true, 3)
		time.Sleep(time.Second)
		look("alice@example.com", true, 4)

		// The same text is another question as a group's name, and as an address.
		if err := s.AddUser(standin.User{UserName: "c", Email: "carol@example.com"}); err != nil {
			t.Fatal(err)
		}
		if _, found, err := s.FindUser(t.Context(), "carol@example.com", "carol@example.com"); err != nil || !found {
			t.Errorf("found %v, %v", found, err)
		}
		if _, found, err := s.FindGroup(t.Context(), "alice@example.com"); err != nil || found {
			t.Errorf("found %v, %v", found, err)
		}
		if _, found, err := s.FindUser(t.Context(), "Service Desk", ""); err != nil || found {
			t.Errorf("found %v, %v", found, err)
		}
		if _, found, err := s.FindGroup(t.Context(), "Service Desk"); err != nil || !found {
			t.Errorf("found %v, %v", found, err)
		}
		if _, err := s.Item(t.Context(), "Service Desk"); !fault.Is(err, fault.Misconfigured) {
			t.Errorf("an item: %v", err)
		}
		before := len(s.Calls())
		_, _, _ = s.FindGroup(t.Context(), "Service Desk")
		_, _ = s.Item(t.Context(), "Service Desk")
		if c := s.Calls(); len(c) != before || c["GET /api/now/v2/table/sys_user_group"] != 2 || c["GET /api/now/v2/table/sc_cat_item"] != 1 {
			t.Errorf("asked again: %v", c)
		}
	})
}

func TestHoweverManyAskAtOnceItIsLookedUpOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, nil)
		s.Faults.Add(misbehave.Fault{Match: "GET", Delay: time.Second})
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if id, found, err := s.FindUser(t.Context(), "alice@example.com", ""); err != nil || !found || id != aliceID {
					t.Errorf("found %q, %v, %v", id, found, err)
				}
			})
		}
		wg.Wait()
		if n := s.Calls()[users]; n != 1 {
			t.Errorf("%d calls, want 1", n)
		}
	})
}

func TestWhoeverGivesUpTakesNobodyWithHim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, nil)
		s.Faults.Add(misbehave.Fault{Match: "GET", Delay: time.Second})
		var wg sync.WaitGroup
		look := func(patience time.Duration, words ...string) {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				_, found, err := s.FindUser(ctx, "alice@example.com", "")
				if len(words) > 0 {
					failed(t, err, fault.Unreachable, words...)
				} else if err != nil || !found {
					t.Errorf("found %v, %v", found, err)
				}
			})
			synctest.Wait()
		}
		look(500*time.Millisecond, "no answer in time") // the first, who calls
		look(400*time.Millisecond, "no answer in the time that was left")
		for range 5 {
			look(time.Minute)
		}
		wg.Wait()
		if n := s.Calls()[users]; n != 2 {
			t.Errorf("%d calls, want that of the first and one more", n)
		}
	})
}

// A panic in a look-up is its caller's, and the next one asks again.
func TestALookUpThatDiesIsNotRemembered(t *testing.T) {
	t.Parallel()
	var l lookups[int]
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		_, _, _ = l.get(t.Context(), "find", "a", func(context.Context) (int, bool, error) { panic("killed") })
	}()
	if v, found, err := l.get(t.Context(), "find", "a", func(context.Context) (int, bool, error) { return 7, true, nil }); v != 7 || !found || err != nil {
		t.Errorf("%d, %v, %v", v, found, err)
	}
}

func TestAnErrorIsNotRemembered(t *testing.T) {
	t.Parallel()
	s := open(t, nil)
	s.Faults.Add(misbehave.Fault{Match: "GET", Times: 3, Status: 503})
	for range 2 {
		_, _, err := s.FindUser(t.Context(), "alice@example.com", "")
		failed(t, err, fault.Unreachable)
	}
	_, err := s.Item(t.Context(), "Access to an application")
	failed(t, err, fault.Unreachable)
	if _, found, err := s.FindUser(t.Context(), "alice@example.com", ""); err != nil || !found {
		t.Errorf("found %v, %v", found, err)
	}
	if _, err := s.Item(t.Context(), "Access to an application"); err != nil {
		t.Error(err)
	}
}

func TestNoMoreThanAThousandAnswersAreKept(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l lookups[int]
		fetched := 0
		get := func(key string) {
			t.Helper()
			if _, found, err := l.get(t.Context(), "look", key, func(context.Context) (int, bool, error) { fetched++; return fetched, true, nil }); err != nil || !found {
				t.Fatal(found, err)
			}
			synctest.Wait()
		}
		for n := range keepAtMost + 100 {
			get(fmt.Sprint(n))
			time.Sleep(time.Millisecond)
		}
		if len(l.kept) != keepAtMost || fetched != keepAtMost+100 {
			t.Errorf("%d kept of %d", len(l.kept), fetched)
		}
		get(fmt.Sprint(keepAtMost + 99))
		get("100") // the oldest that is still there
		if fetched != keepAtMost+100 {
			t.Error("one that was kept was fetched again")
		}
		get("99")
		if fetched != keepAtMost+101 || len(l.kept) != keepAtMost {
			t.Errorf("%d kept of %d", len(l.kept), fetched)
		}
		time.Sleep(keepFound)
		get("new")
		if len(l.kept) != 1 {
			t.Errorf("%d kept, of which all but one are out of date", len(l.kept))
		}
	})
}

func TestWhatIsUnderWayIsNeitherForgottenNorInTheWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var l lookups[int]
		release := make(chan struct{})
		var wg sync.WaitGroup
		for n := range keepAtMost + 5 {
			wg.Go(func() {
				if v, found, err := l.get(t.Context(), "look", fmt.Sprint(n), func(context.Context) (int, bool, error) { <-release; return n, true, nil }); v != n || !found || err != nil {
					t.Error(v, found, err)
				}
			})
		}
		synctest.Wait()
		l.forget("3")
		if len(l.kept) != keepAtMost+5 {
			t.Errorf("%d under way are kept", len(l.kept))
		}
		close(release)
		wg.Wait()
		synctest.Wait()
		l.forget("3")
		if _, ok := l.kept["3"]; ok {
			t.Error("it was not forgotten")
		}
		_, found, err := l.get(t.Context(), "look", "3", func(context.Context) (int, bool, error) { return 0, false, errors.New("failed") })
		if found || err == nil || l.kept["3"] != nil {
			t.Errorf("%v, %v", found, err)
		}
	})
}

// A group whose name is remembered must not be mistaken for another one, whatever is in the name.
func FuzzGroupNames(f *testing.F) {
	instance, err := standin.New(standin.Config{Users: []standin.User{{UserName: "bridge", Password: password}}, Groups: []string{"Service Desk", "A^B", "R&D (x) = y, z"}})
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"Service Desk", "^ORnameISNOTEMPTY", "A^B", "R&D (x) = y, z", "javascript:1", "x^NQactive=true", "=", "!=x", "\x00", "ſervice Desk", " "} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		c := client(t, Config{HTTPClient: instance.Client()})
		_, found, err := c.FindGroup(t.Context(), name)
		if err != nil {
			t.Fatalf("%q: %v", name, err)
		}
		if found && !strings.EqualFold(name, "Service Desk") && !strings.EqualFold(name, "R&D (x) = y, z") {
			t.Errorf("%q found a group", name)
		}
		if item, err := c.Item(t.Context(), name); err == nil {
			t.Errorf("%q found %+v in an empty catalog", name, item)
		}
	})
}

// Whatever the catalog answers, a name is known once, and what has no name is no variable.
func FuzzItems(f *testing.F) {
	for _, list := range []string{
		`[]`, `[{"name":"a","mandatory":true}]`, `[{"name":"a","children":[{"name":"a"},{"name":"b","children":[]}]}]`, `{}`, `null`, `[null,3,"x",{"name":{"value":"c"}}]`, strings.Repeat(`[{"children":`, 50) + `[]` + strings.Repeat(`}]`, 50),
	} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		c := answered(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, "/items/") {
				says(200, `{"result":{"sys_id":"`+aliceID+`","variables":`+list+`}}`)(w, r)
				return
			}
			says(200, `{"result":[]}`)(w, r)
		})
		item, err := c.Item(t.Context(), aliceID)
		if err != nil {
			return
		}
		known := map[string]bool{"": true}
		for _, v := range item.Variables {
			if known[v.Name] {
				t.Errorf("%q gives %q twice, or nameless", list, v.Name)
			}
			known[v.Name] = true
		}
	})
}
