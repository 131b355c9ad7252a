// Package conformance is the suite that every storage must pass: each rule that workflow's Store and Queue promise, as a test of its own.
package conformance

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/workflow"
)

// A Store is what the workflow, the console and the commands use.
type Store interface {
	workflow.Store
	Open(ctx context.Context, cursor string, limit int) ([]correlation.Summary, string, error)
	Ended(ctx context.Context, day time.Time, cursor string, limit int) ([]correlation.Summary, string, error)
	Timeline(ctx context.Context, key correlation.Key) ([]correlation.Event, error)
	Stages(ctx context.Context, requestID string) ([]*correlation.Correlation, error)
	Mark(ctx context.Context) (workflow.Mark, error)
	SaveMark(ctx context.Context, m *workflow.Mark) error
	KeepUnreadable(ctx context.Context, u workflow.Unreadable) error
	Unreadable(ctx context.Context) ([]workflow.Unreadable, error)
	ForgetUnreadable(ctx context.Context, id string) error
	Purge(ctx context.Context, before time.Time, most int) (purged int, through time.Time, more bool, err error)
	Probe(ctx context.Context) error
}

// A Queue is what the workflow uses.
type Queue interface {
	workflow.Queue
	Poison(ctx context.Context, most int) ([]workflow.Poison, error)
	DropPoison(ctx context.Context, p workflow.Poison) error
	Probe(ctx context.Context) error
	Depth(ctx context.Context) (waiting, poison int, err error)
}

// Queues are the receiving side.
type Queues interface {
	Create(ctx context.Context, queue string) error
	Put(ctx context.Context, queue, text string, visibleIn time.Duration) error
	Get(ctx context.Context, queue string, most int, invisible time.Duration) ([]storage.QueueMessage, error)
	Extend(ctx context.Context, queue, id, popReceipt string, invisible time.Duration) (string, error)
	Delete(ctx context.Context, queue, id, popReceipt string) error
}

// A Backend is a storage to be tried: empty, and nobody else's.
type Backend struct {
	Store     Store
	Queue     Queue
	QueueName string
	Queues    Queues
	Names     storage.Names

	// Rows returns what the rows of a partition hold, by their keys, and SetRow changes some of it or makes a row, as another version of the handler
	// would.
	Rows   func(ctx context.Context, table, partition string) (map[string]map[string]any, error)
	SetRow func(ctx context.Context, table, partition, row string, props map[string]any) error
}

// properties returns what the row of a correlation holds.
func (b Backend) properties(t *testing.T, key correlation.Key) map[string]any {
	t.Helper()
	rows, err := b.Rows(t.Context(), b.Names.Correlations, key.Request)
	noError(t, err)
	return rows[key.Stage]
}

// Run tries the storage that open returns, a new one for each rule.
func Run(t *testing.T, open func(t *testing.T) Backend) {
	t.Helper()
	for _, rule := range rules {
		t.Run(strings.ReplaceAll(rule.says, " ", "_"), func(t *testing.T) {
			t.Parallel()
			rule.try(t, open(t))
		})
	}
}

var rules = []struct {
	says string
	try  func(t *testing.T, b Backend)
}{
	{"what was created is loaded as it was", createdIsLoaded},
	{"create lists what it stores as due", createLists},
	{"create of an existing key is Exists and changes nothing", createTwice},
	{"of fifty creates of one key exactly one wins", createAtOnce},
	{"create of what is too large is Invalid and leaves nothing", createTooLarge},
	{"create of what had ended does not list it as open", createOfEnded},
	{"create of what lives and was not listed lists it", createOfUnlisted},
	{"what does not exist is NotFound, or empty", missing},
	{"the callout comes back byte for byte", calloutBytes},
	{"what was saved is loaded as it was, what was emptied too", savedIsLoaded},
	{"a save moves the version on and the next needs no load", savesInRow},
	{"a save of what somebody else saved is Conflict and leaves nothing", saveStale},
	{"of fifty saves of one version exactly one wins", saveAtOnce},
	{"a save of what is too large is Invalid and leaves nothing", saveTooLarge},
	{"a save of what is gone from under it stores nothing", saveOfNothing},
	{"tickets may be long and become short again", longTickets},
	{"long sentences are clipped and do not keep anything from being stored", longSentences},
	{"what a newer version wrote is kept", newerVersion},
	{"texts of any kind come back", strangeTexts},
	{"times keep a tenth of a microsecond", preciseTimes},
	{"the timeline is in order and without gaps beyond one page", longTimeline},
	{"stage instances of one request do not mix", isolation},
	{"index moves what is settled to the day on which it ended", indexMoves},
	{"what ended and is not settled stays among the open ones", untoldStays},
	{"unlist takes off the list of open ones and may be repeated", unlist},
	{"postpone changes the due time of what is listed and nothing else", postpone},
	{"due returns what is due in the order of keys", due},
	{"pages go on behind the cursor whatever happens to the rows", pages},
	{"lists go beyond a thousand", manyOpen},
	{"a cursor that is none is Invalid", badCursor},
	{"a row of a list that cannot be read is listed as such and keeps no other from being listed", unreadableListing},
	{"what a newer version wrote about tickets and in lists is kept", newerTickets},
	{"an older and a newer version work on one storage and lose nothing", versionsTogether},
	{"the sweep's mark is loaded as it was saved, and by one sweep only", mark},
	{"of fifty saves of the mark exactly one wins", markAtOnce},
	{"messages that nobody can read are kept as they are, once", keepUnreadable},
	{"purge removes what ended on days before the given time and nothing else", purge},
	{"purge removes no more than it may and goes on where it stopped", purgeInParts},
	{"purge of what is long leaves nothing", purgeLong},
	{"purge removes nothing that is not settled and puts wrong lists right", purgeWrongLists},
	{"a call whose time is over is Unreachable", timeOver},
	{"a message is delivered as it was put, in base64", putAndGet},
	{"a message is not delivered before its delay", putDelayed},
	{"a message of 48 KiB fits and a longer one is Invalid", putLarge},
	{"a delay of more than seven days is Invalid", putTooLate},
	{"a message lives for seven days from when it can be seen", lifetime},
	{"a message that was received is hidden and comes back counted", redelivery},
	{"an extended message stays hidden and keeps its text", extend},
	{"only the last receiver may delete a message", receipts},
	{"receivers at once do not get the same message", receiversAtOnce},
	{"a queue that was not made is NotFound and may be made twice", queueMissing},
	{"poison messages are received as they were put and dropped once", poison},
	{"a probe makes tables and queue and leaves nothing in them", probe},
	{"the depth counts what waits, what is not due and what is poison", depth},
}

// base is a time that Table Storage keeps exactly.
var base = time.Date(2026, 11, 24, 9, 0, 0, 123456700, time.UTC)

func newKey() correlation.Key {
	return correlation.Key{Request: uuid.NewString(), Stage: uuid.NewString()}
}

func newCorrelation(key correlation.Key) *correlation.Correlation {
	c := correlation.New(key, base, "callout received", "invocation-1")
	c.Stage, c.RequestType, c.PackageName = "assignmentRequestApproved", "userAdd", "Sales tools"
	c.Deadline, c.Due = base.Add(14*24*time.Hour), base.Add(time.Minute)
	return c
}

func create(t *testing.T, b Backend, c *correlation.Correlation) *correlation.Correlation {
	t.Helper()
	if err := b.Store.Create(t.Context(), c, []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	return c
}

func load(t *testing.T, b Backend, key correlation.Key) *correlation.Correlation {
	t.Helper()
	c, err := b.Store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func timeline(t *testing.T, b Backend, key correlation.Key) []correlation.Event {
	t.Helper()
	events, err := b.Store.Timeline(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func opened(t *testing.T, b Backend) []correlation.Summary {
	t.Helper()
	page, next, err := b.Store.Open(t.Context(), "", 0)
	if err != nil || next != "" {
		t.Fatalf("next %q, %v", next, err)
	}
	return page
}

func same(t *testing.T, want, got any) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(correlation.Correlation{}), cmpopts.EquateEmpty()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func is(t *testing.T, err error, want fault.Reason) {
	t.Helper()
	if !fault.Is(err, want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func noError(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill gives every exported field of v a value of its own, the same each time.
func fill(v reflect.Value, path string, seed int) {
	name := path[strings.LastIndexByte(path, '.')+1:]
	n := seed + int(crc32.ChecksumIEEE([]byte(path))%50_000)
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(base.Add(time.Duration(n) * time.Hour)))
	case v.Kind() == reflect.String:
		v.SetString(fmt.Sprintf("%s %d", name, n))
	case v.Kind() == reflect.Bool:
		v.SetBool(true)
	case v.Kind() == reflect.Int:
		v.SetInt(int64(n))
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				fill(v.Field(i), path+"."+f.Name, seed)
			}
		}
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), path, seed)
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range 2 {
			fill(v.Index(i), fmt.Sprint(path, i), seed)
		}
	case v.Kind() == reflect.Map:
		text := reflect.ValueOf(fmt.Sprintf(`"%s %d"`, name, n)) // JSON, where it must be
		v.Set(reflect.MakeMap(v.Type()))
		for _, k := range []string{"short_description", "u_field"} {
			v.SetMapIndex(reflect.ValueOf(k), text.Convert(v.Type().Elem()))
		}
	default:
		panic("cannot fill a " + v.Type().String())
	}
}

// Full returns a correlation with a value of its own in every field, and one pending event.
func Full(key correlation.Key, seed int) *correlation.Correlation {
	c := newCorrelation(key)
	events := c.Events
	fill(reflect.ValueOf(c).Elem(), "", seed)
	c.Key, c.Version, c.Events = key, "", events
	return c
}

func createdIsLoaded(t *testing.T, b Backend) {
	for _, c := range []*correlation.Correlation{Full(newKey(), 100), newCorrelation(newKey()), correlation.New(newKey(), base, "", "")} {
		events := c.Pending()
		create(t, b, c)
		if c.Version == "" || len(c.Pending()) != 0 {
			t.Error("it was not flushed")
		}
		got := load(t, b, c.Key)
		same(t, c, got)
		same(t, events, timeline(t, b, c.Key))
		if len(got.Pending()) != 0 {
			t.Error("what was loaded has pending events")
		}
	}
}

func createLists(t *testing.T, b Backend) {
	c := create(t, b, Full(newKey(), 500))
	same(t, []correlation.Summary{c.Summary()}, opened(t, b))
	page, _, err := b.Store.Due(t.Context(), c.Due, "", 10)
	noError(t, err)
	same(t, []correlation.Summary{c.Summary()}, page)
}

func createTwice(t *testing.T, b Backend) {
	key := newKey()
	first := create(t, b, newCorrelation(key))
	noError(t, first.Move(correlation.Opening, base.Add(time.Second), "about to open", "invocation-2"))
	noError(t, b.Store.Save(t.Context(), first))
	noError(t, b.Store.Index(t.Context(), first))

	again := newCorrelation(key)
	again.PackageName = "another"
	is(t, b.Store.Create(t.Context(), again, []byte(`{"other":1}`)), fault.Exists)
	if again.Version != "" || len(again.Pending()) != 1 {
		t.Error("what was not stored was flushed")
	}
	same(t, first, load(t, b, key))
	body, err := b.Store.Callout(t.Context(), key)
	noError(t, err)
	same(t, "{}", string(body))
	if n := len(timeline(t, b, key)); n != 2 {
		t.Errorf("%d events", n)
	}
	same(t, []correlation.Summary{first.Summary()}, opened(t, b))
}

// atOnce runs n calls at the same time and returns their errors.
func atOnce(n int, call func(i int) error) []error {
	errs := make([]error, n)
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range n {
		done.Go(func() {
			start.Wait()
			errs[i] = call(i)
		})
	}
	start.Done()
	done.Wait()
	return errs
}

// oneWins says which call had no error; all others must have the reason.
func oneWins(t *testing.T, errs []error, others fault.Reason) int {
	t.Helper()
	won := -1
	for i, err := range errs {
		switch {
		case err == nil && won < 0:
			won = i
		case err == nil:
			t.Errorf("%d and %d both won", won, i)
		default:
			is(t, err, others)
		}
	}
	if won < 0 {
		t.Fatal("none won")
	}
	return won
}

func createAtOnce(t *testing.T, b Backend) {
	key := newKey()
	all := make([]*correlation.Correlation, 50)
	won := oneWins(t, atOnce(len(all), func(i int) error {
		all[i] = newCorrelation(key)
		all[i].Rule = fmt.Sprint("rule ", i)
		return b.Store.Create(t.Context(), all[i], fmt.Appendf(nil, "body %d", i))
	}), fault.Exists)
	same(t, all[won], load(t, b, key))
	body, err := b.Store.Callout(t.Context(), key)
	noError(t, err)
	same(t, fmt.Sprint("body ", won), string(body))
	if events, list := timeline(t, b, key), opened(t, b); len(events) != 1 || len(list) != 1 {
		t.Errorf("%d events, listed %d times", len(events), len(list))
	}
}

func createTooLarge(t *testing.T, b Backend) {
	long := newCorrelation(newKey())
	long.PackageName = strings.Repeat("x", 32<<10+1)
	pairs := newCorrelation(newKey())
	pairs.PackageName = strings.Repeat("𝄞", 16<<10+1) // each takes two UTF-16 units
	events := newCorrelation(newKey())
	for range 110 {
		events.Note(base, "seen", "")
	}
	tickets := newCorrelation(newKey())
	tickets.Tickets = []correlation.Ticket{{Fields: map[string]string{"description": strings.Repeat("x", 300_000)}}}
	early := newCorrelation(newKey())
	early.Deadline = time.Date(1500, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]*correlation.Correlation{"name": long, "pairs": pairs, "events": events, "tickets": tickets, "early": early} {
		if err := b.Store.Create(t.Context(), c, nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
		_, err := b.Store.Load(t.Context(), c.Key)
		is(t, err, fault.NotFound)
	}
	large := newCorrelation(newKey())
	err := b.Store.Create(t.Context(), large, make([]byte, storage.MaxCallout+1))
	if e, ok := errors.AsType[*fault.Error](err); !ok || e.Reason != fault.Invalid || e.Field != "body" {
		t.Errorf("a callout that is too large: %v", err)
	}
	_, err = b.Store.Load(t.Context(), large.Key)
	is(t, err, fault.NotFound)
	if n := len(opened(t, b)); n != 0 {
		t.Errorf("%d are listed", n)
	}

	fits := newCorrelation(newKey())
	fits.PackageName = strings.Repeat("x", 32<<10)
	fits.TargetName = strings.Repeat("𝄞", 16<<10)
	create(t, b, fits)
	same(t, fits, load(t, b, fits.Key))
}

// end stores that c expired with nothing left to do.
func end(t *testing.T, b Backend, c *correlation.Correlation, at time.Time) {
	t.Helper()
	noError(t, c.Move(correlation.Expired, at, "too late", ""))
	noError(t, b.Store.Save(t.Context(), c))
	noError(t, b.Store.Index(t.Context(), c))
}

func createOfEnded(t *testing.T, b Backend) {
	key := newKey()
	end(t, b, create(t, b, newCorrelation(key)), base.Add(time.Hour))
	is(t, b.Store.Create(t.Context(), newCorrelation(key), nil), fault.Exists)
	if list := opened(t, b); len(list) != 0 {
		t.Errorf("listed as open: %v", list)
	}
	page, _, err := b.Store.Ended(t.Context(), base, "", 0)
	noError(t, err)
	if len(page) != 1 {
		t.Errorf("%d on the list of the ended", len(page))
	}
}

func createOfUnlisted(t *testing.T, b Backend) {
	key := newKey()
	create(t, b, newCorrelation(key))
	noError(t, b.Store.Unlist(t.Context(), key))
	is(t, b.Store.Create(t.Context(), newCorrelation(key), nil), fault.Exists)
	if list := opened(t, b); len(list) != 1 {
		t.Errorf("%d are listed", len(list))
	}
}

func missing(t *testing.T, b Backend) {
	try := func() {
		_, err := b.Store.Load(t.Context(), newKey())
		is(t, err, fault.NotFound)
		_, err = b.Store.Callout(t.Context(), newKey())
		is(t, err, fault.NotFound)
		if events := timeline(t, b, newKey()); len(events) != 0 {
			t.Errorf("%d events of nothing", len(events))
		}
		stages, err := b.Store.Stages(t.Context(), uuid.NewString())
		noError(t, err)
		page, _, err := b.Store.Due(t.Context(), base, "", 10)
		noError(t, err)
		ended, _, err := b.Store.Ended(t.Context(), base, "", 10)
		noError(t, err)
		if len(stages)+len(page)+len(ended) != 0 {
			t.Errorf("%d stages, %d due, %d ended", len(stages), len(page), len(ended))
		}
		noError(t, b.Store.Unlist(t.Context(), newKey()))
		noError(t, b.Store.Postpone(t.Context(), newKey(), base))
	}
	try() // before anything was ever written
	key := create(t, b, newCorrelation(newKey())).Key
	noError(t, b.Store.Unlist(t.Context(), key))
	try()
	_, err := b.Store.Load(t.Context(), correlation.Key{Request: key.Request, Stage: uuid.NewString()})
	is(t, err, fault.NotFound)
	_, err = b.Store.Stages(t.Context(), "x")
	is(t, err, fault.Invalid)
}

func calloutBytes(t *testing.T, b Backend) {
	for _, n := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, callout.MaxBytes, storage.MaxCallout} {
		body := make([]byte, n)
		for i := range body {
			body[i] = byte(i * 7 / 3)
		}
		c := newCorrelation(newKey())
		noError(t, b.Store.Create(t.Context(), c, body))
		got, err := b.Store.Callout(t.Context(), c.Key)
		noError(t, err)
		if string(got) != string(body) {
			t.Errorf("%d bytes came back as %d others", n, len(got))
		}
	}
}

func savedIsLoaded(t *testing.T, b Backend) {
	c := create(t, b, Full(newKey(), 100))
	for seed := range 2 {
		next := Full(c.Key, 1000*(seed+1))
		next.Version, next.Events = c.Version, c.Events
		next.Flushed(c.Version)
		next.Note(base.Add(time.Minute), "changed", "invocation-3")
		noError(t, b.Store.Save(t.Context(), next))
		if len(next.Pending()) != 0 || next.Version == c.Version {
			t.Error("it was not flushed")
		}
		same(t, next, load(t, b, c.Key))
		c = next
	}
	empty := &correlation.Correlation{Key: c.Key, Version: c.Version}
	noError(t, b.Store.Save(t.Context(), empty))
	same(t, empty, load(t, b, c.Key))
}

func savesInRow(t *testing.T, b Backend) {
	c := create(t, b, newCorrelation(newKey()))
	seen := map[string]bool{c.Version: true}
	for i := range 5 {
		c.Note(base.Add(time.Duration(i)*time.Second), fmt.Sprint("step ", i), "")
		noError(t, b.Store.Save(t.Context(), c))
		if seen[c.Version] {
			t.Errorf("version %s came twice", c.Version)
		}
		seen[c.Version] = true
	}
	noError(t, b.Store.Save(t.Context(), c)) // with no event
	same(t, c, load(t, b, c.Key))
	if n := len(timeline(t, b, c.Key)); n != 6 {
		t.Errorf("%d events", n)
	}
}

func saveStale(t *testing.T, b Backend) {
	key := create(t, b, newCorrelation(newKey())).Key
	mine, theirs := load(t, b, key), load(t, b, key)
	noError(t, theirs.Move(correlation.Opening, base, "theirs", ""))
	noError(t, b.Store.Save(t.Context(), theirs))
	for _, change := range []func(){func() {}, func() { mine.Note(base, "mine", "") }, func() { mine.Note(base, "mine, too", "") }} {
		change()
		version, events := mine.Version, len(mine.Pending())
		is(t, b.Store.Save(t.Context(), mine), fault.Conflict)
		if mine.Version != version || len(mine.Pending()) != events {
			t.Error("what was not stored was flushed")
		}
	}
	same(t, theirs, load(t, b, key))
	for _, e := range timeline(t, b, key) {
		if strings.HasPrefix(e.Text, "mine") {
			t.Errorf("an event of the save that was refused is stored: %v", e)
		}
	}
}

func saveAtOnce(t *testing.T, b Backend) {
	key := create(t, b, newCorrelation(newKey())).Key
	all := make([]*correlation.Correlation, 50)
	for i := range all {
		all[i] = load(t, b, key)
		all[i].Note(base, fmt.Sprint("by ", i), "")
		all[i].Rule = fmt.Sprint("rule ", i)
	}
	won := oneWins(t, atOnce(len(all), func(i int) error { return b.Store.Save(t.Context(), all[i]) }), fault.Conflict)
	same(t, all[won], load(t, b, key))
	events := timeline(t, b, key)
	if len(events) != 2 || events[1].Text != fmt.Sprint("by ", won) {
		t.Errorf("%d won, the timeline says %v", won, events)
	}
}

func saveTooLarge(t *testing.T, b Backend) {
	c := create(t, b, newCorrelation(newKey()))
	before := load(t, b, c.Key)
	c.TargetName = strings.Repeat("x", 32<<10+1)
	c.Note(base, "too large", "")
	is(t, b.Store.Save(t.Context(), c), fault.Invalid)
	same(t, before, load(t, b, c.Key))
	if n := len(timeline(t, b, c.Key)); n != 1 {
		t.Errorf("%d events", n)
	}
}

func saveOfNothing(t *testing.T, b Backend) {
	create(t, b, newCorrelation(newKey()))
	is(t, b.Store.Save(t.Context(), newCorrelation(newKey())), fault.Internal)
	c := newCorrelation(newKey())
	c.Version = load(t, b, opened(t, b)[0].Key).Version
	is(t, b.Store.Save(t.Context(), c), fault.NotFound)
	if events := timeline(t, b, c.Key); len(events) != 0 {
		t.Errorf("stored: %v", events)
	}
}

func longTickets(t *testing.T, b Backend) {
	ticket := func(n int) []correlation.Ticket {
		return []correlation.Ticket{{Entry: "e", Table: "sc_request", Fields: map[string]string{"description": strings.Repeat("a<é\"𝄞", n)}}}
	}
	c := newCorrelation(newKey())
	c.Tickets = ticket(15_000)
	create(t, b, c)
	for _, n := range []int{5, 12_000, 0, 6_000} {
		same(t, c.Tickets, load(t, b, c.Key).Tickets)
		c.Tickets = ticket(n)
		if n == 0 {
			c.Tickets = nil
		}
		noError(t, b.Store.Save(t.Context(), c))
	}
	same(t, c.Tickets, load(t, b, c.Key).Tickets)
	c.Tickets = ticket(1)
	noError(t, b.Store.Save(t.Context(), c))
	for name, v := range b.properties(t, c.Key) {
		if s, ok := v.(string); ok && strings.HasPrefix(name, "Tickets") && len(s) > 1000 {
			t.Errorf("%s still holds %d bytes of what was planned", name, len(s))
		}
	}
}

func longSentences(t *testing.T, b Backend) {
	c := newCorrelation(newKey())
	c.LastError, c.Reason, c.Advice = strings.Repeat("é", 100_000), strings.Repeat("𝄞", 100_000), strings.Repeat("x", 100_000)
	c.Note(base, strings.Repeat("y", 100_000), "")
	create(t, b, c)
	got := load(t, b, c.Key)
	for _, s := range []string{got.LastError, got.Reason, got.Advice, timeline(t, b, c.Key)[1].Text} {
		if n := len([]rune(s)); n < 7000 || n > 16000 || !strings.HasSuffix(s, "…") {
			t.Errorf("clipped to %d: …%q", n, s[len(s)-10:])
		}
	}
	noError(t, b.Store.Save(t.Context(), c))
	noError(t, b.Store.Index(t.Context(), c))
	if n := len(opened(t, b)); n != 1 {
		t.Errorf("%d are listed", n)
	}
}

func newerVersion(t *testing.T, b Backend) {
	key := create(t, b, newCorrelation(newKey())).Key
	newer := map[string]any{
		"Schema": int32(9), "State": "paused", "NewText": "text", "NewFlag": true, "NewNumber": int32(-5), "NewLarge": int64(1) << 60,
		"NewTime": base, "NewBytes": []byte{0, 1, 255},
	}
	noError(t, b.SetRow(t.Context(), b.Names.Correlations, key.Request, key.Stage, newer))
	c := load(t, b, key)
	if c.Schema != 9 || c.State != "paused" {
		t.Errorf("schema %d, state %s", c.Schema, c.State)
	}
	c.Note(base, "seen", "")
	c.Rule = "changed"
	noError(t, b.Store.Save(t.Context(), c))
	got := b.properties(t, key)
	for name, want := range newer {
		if d := cmp.Diff(want, got[name]); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
	same(t, "changed", got["Rule"])
}

func strangeTexts(t *testing.T, b Backend) {
	for _, s := range []string{
		"O'Brien's \"tools\" & <b>more</b>; 100 % \\ / ? #", "line\r\nline\n\tend ", "é ü ß 漢字 \u200b \u2028 👩‍💻", "null", "0012", " ",
		"--changeset_1\r\nHTTP/1.1 409 Conflict\r\nETag: W/\"x\"\r\n\r\n{\"odata.error\":{\"code\":\"EntityAlreadyExists\"}}",
		"POST http://127.0.0.1/$batch HTTP/1.1", "{}", "}{", "2026-11-24T09:00:00Z", "PartitionKey eq 'x' or true",
	} {
		c := newCorrelation(newKey())
		c.PackageName, c.TargetName, c.Reason = s, s, s
		c.Tickets = []correlation.Ticket{{Entry: s, Fields: map[string]string{s: s}}}
		c.Note(base, s, s)
		create(t, b, c)
		got := load(t, b, c.Key)
		same(t, c, got)
		same(t, s, timeline(t, b, c.Key)[1].Text)
		got.Rule = s
		got.Note(base, s, s)
		noError(t, b.Store.Save(t.Context(), got))
		same(t, got, load(t, b, c.Key))
		noError(t, b.Store.Index(t.Context(), got))
	}
	for _, sum := range opened(t, b) {
		same(t, sum.PackageName, sum.TargetName)
	}

	c := newCorrelation(newKey())
	c.PackageName = "a\x00b\x1b\xffc\ufffe"
	create(t, b, c)
	same(t, "a\ufffdb\ufffd\ufffdc\ufffd", load(t, b, c.Key).PackageName)
}

func preciseTimes(t *testing.T, b Backend) {
	c := newCorrelation(newKey())
	c.Since = time.Date(2026, 7, 1, 23, 59, 59, 999999999, time.FixedZone("", 2*3600))
	c.Deadline = time.Date(9999, 12, 31, 0, 0, 0, 100, time.UTC)
	c.LeaseUntil = time.Date(1700, 1, 1, 0, 0, 0, 0, time.UTC)
	create(t, b, c)
	got := load(t, b, c.Key)
	same(t, time.Date(2026, 7, 1, 21, 59, 59, 999999900, time.UTC), got.Since)
	same(t, c.Deadline, got.Deadline)
	same(t, c.LeaseUntil, got.LeaseUntil)
	if got.Since.Location() != time.UTC {
		t.Errorf("in %v", got.Since.Location())
	}
}

func longTimeline(t *testing.T, b Backend) {
	c := create(t, b, newCorrelation(newKey()))
	for range 11 {
		for range 98 {
			c.Note(base.Add(time.Duration(c.Events)*time.Second), fmt.Sprint("event ", c.Events+1), "")
		}
		noError(t, b.Store.Save(t.Context(), c))
	}
	events := timeline(t, b, c.Key)
	if len(events) != 1+11*98 {
		t.Fatalf("%d events", len(events))
	}
	for i, e := range events {
		if e.Seq != i+1 || (i > 0 && e.Text != fmt.Sprint("event ", i+1)) {
			t.Fatalf("event %d is %v", i+1, e)
		}
	}
	stages, err := b.Store.Stages(t.Context(), c.Key.Request)
	noError(t, err)
	same(t, []*correlation.Correlation{c}, stages)
}

func isolation(t *testing.T, b Backend) {
	request := uuid.NewString()
	// Neighbours in the order of row keys.
	stages := []string{"c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e76", "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77", "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e78"}
	want := make([]*correlation.Correlation, len(stages))
	for i, stage := range stages {
		want[i] = newCorrelation(correlation.Key{Request: request, Stage: stage})
		want[i].Rule = stage
		noError(t, b.Store.Create(t.Context(), want[i], []byte(stage)))
		want[i].Note(base, stage, "")
		noError(t, b.Store.Save(t.Context(), want[i]))
	}
	other := create(t, b, newCorrelation(correlation.Key{Request: uuid.NewString(), Stage: stages[0]}))
	for i, stage := range stages {
		key := want[i].Key
		same(t, want[i], load(t, b, key))
		body, err := b.Store.Callout(t.Context(), key)
		noError(t, err)
		same(t, stage, string(body))
		if events := timeline(t, b, key); len(events) != 2 || events[1].Text != stage {
			t.Errorf("the timeline of %s is %v", stage, events)
		}
	}
	got, err := b.Store.Stages(t.Context(), request)
	noError(t, err)
	same(t, want, got)
	got, err = b.Store.Stages(t.Context(), strings.ToUpper(other.Key.Request))
	noError(t, err)
	same(t, []*correlation.Correlation{other}, got)
}

func indexMoves(t *testing.T, b Backend) {
	c := create(t, b, newCorrelation(newKey()))
	stays := create(t, b, newCorrelation(newKey()))
	noError(t, c.Move(correlation.Opening, base, "", ""))
	c.Tickets = []correlation.Ticket{{Number: "REQ1"}, {Number: "REQ2"}}
	c.Due = base.Add(3 * time.Hour)
	noError(t, b.Store.Index(t.Context(), c))
	for _, s := range opened(t, b) {
		if s.Key == c.Key {
			same(t, c.Summary(), s)
		}
	}
	night := time.Date(2026, 11, 24, 23, 59, 59, 0, time.FixedZone("", -3600)) // the 25th, UTC
	noError(t, c.Move(correlation.Withdrawn, night, "withdrawn", ""))
	c.Tickets = nil
	for range 2 {
		noError(t, b.Store.Index(t.Context(), c))
		same(t, []correlation.Summary{stays.Summary()}, opened(t, b))
		page, next, err := b.Store.Ended(t.Context(), time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), "", 1)
		noError(t, err)
		want := c.Summary()
		want.Since = want.Since.UTC()
		same(t, []correlation.Summary{want}, page)
		same(t, "", next)
		page, _, err = b.Store.Ended(t.Context(), base, "", 0)
		noError(t, err)
		same(t, 0, len(page))
	}
}

func untoldStays(t *testing.T, b Backend) {
	c := create(t, b, newCorrelation(newKey()))
	c.Tickets = []correlation.Ticket{{SysID: "1", Number: "REQ1", Outcome: correlation.Pending}}
	end(t, b, c, base)
	same(t, []correlation.Summary{c.Summary()}, opened(t, b))
	c.Tickets[0].Told = true
	noError(t, b.Store.Index(t.Context(), c))
	same(t, 0, len(opened(t, b)))
}

func unlist(t *testing.T, b Backend) {
	c, stays := create(t, b, newCorrelation(newKey())), create(t, b, newCorrelation(newKey()))
	for range 2 {
		noError(t, b.Store.Unlist(t.Context(), c.Key))
		same(t, []correlation.Summary{stays.Summary()}, opened(t, b))
	}
	same(t, c, load(t, b, c.Key))
}

func postpone(t *testing.T, b Backend) {
	c := create(t, b, Full(newKey(), 900))
	to := base.Add(72 * time.Hour)
	for range 2 {
		noError(t, b.Store.Postpone(t.Context(), c.Key, to))
		want := c.Summary()
		want.Due = to
		same(t, []correlation.Summary{want}, opened(t, b))
	}
	noError(t, b.Store.Postpone(t.Context(), newKey(), to))
	same(t, 1, len(opened(t, b)))
	same(t, c, load(t, b, c.Key))
}

// list indexes n new correlations, due one second after the other, and returns them in the order of their keys.
func list(t *testing.T, b Backend, n int) []correlation.Summary {
	t.Helper()
	out := make([]correlation.Summary, n)
	const workers = 8
	for _, err := range atOnce(workers, func(w int) error {
		for i := w; i < n; i += workers {
			c := newCorrelation(correlation.Key{Request: fmt.Sprintf("%08x-0000-4000-8000-000000000000", i*7919), Stage: uuid.NewString()})
			c.Due = base.Add(time.Duration(i) * time.Second)
			if err := b.Store.Index(context.WithoutCancel(t.Context()), c); err != nil {
				return err
			}
			out[i] = c.Summary()
		}
		return nil
	}) {
		noError(t, err)
	}
	return out
}

func due(t *testing.T, b Backend) {
	all := list(t, b, 20)
	never := newCorrelation(correlation.Key{Request: "ffffffff-0000-4000-8000-000000000000", Stage: uuid.NewString()})
	never.Due = time.Time{}
	noError(t, b.Store.Index(t.Context(), never))
	end(t, b, create(t, b, newCorrelation(newKey())), base)

	page, next, err := b.Store.Due(t.Context(), base.Add(7*time.Second), "", 100)
	noError(t, err)
	same(t, append(all[:8:8], never.Summary()), page)
	same(t, "", next)
	page, _, err = b.Store.Due(t.Context(), base.Add(7*time.Second-time.Millisecond), "", 100)
	noError(t, err)
	same(t, 8, len(page))
}

func pages(t *testing.T, b Backend) {
	all := list(t, b, 20)
	at := base.Add(time.Hour)
	var got []correlation.Summary
	for cursor, n := "", 0; ; n++ {
		page, next, err := b.Store.Due(t.Context(), at, cursor, 5)
		noError(t, err)
		got = append(got, page...)
		for _, s := range page { // what the sweep does between two pages
			noError(t, b.Store.Postpone(t.Context(), s.Key, at.Add(time.Hour)))
		}
		if len(page) > 0 {
			noError(t, b.Store.Unlist(t.Context(), page[len(page)-1].Key))
		}
		if next == "" {
			same(t, 3, n)
			break
		}
		cursor = next
	}
	same(t, all, got)

	page, next, err := b.Store.Open(t.Context(), "", 16)
	noError(t, err)
	same(t, 16, len(page))
	same(t, "", next)
	_, next, err = b.Store.Open(t.Context(), "", 15)
	noError(t, err)
	page, next, err = b.Store.Open(t.Context(), next, 15)
	noError(t, err)
	same(t, 1, len(page))
	same(t, "", next)
}

func manyOpen(t *testing.T, b Backend) {
	const n = 1150
	all := list(t, b, n)
	for _, limit := range []int{n + 1, n, 1000, 400} {
		var got []correlation.Summary
		for cursor := ""; ; {
			page, next, err := b.Store.Due(t.Context(), base.Add(time.Hour), cursor, limit)
			noError(t, err)
			if len(page) > limit || (next != "" && len(page) < limit) {
				t.Errorf("a page of %d with a limit of %d", len(page), limit)
			}
			got = append(got, page...)
			if next == "" {
				break
			}
			cursor = next
		}
		same(t, len(all), len(got))
		same(t, all, got)
	}
	// Few that are due behind many that are not.
	page, next, err := b.Store.Due(t.Context(), base.Add(time.Second), "", 10)
	noError(t, err)
	same(t, all[:2], page)
	same(t, "", next)
	late := newCorrelation(correlation.Key{Request: "ffffffff-0000-4000-8000-000000000000", Stage: uuid.NewString()})
	late.Due = base
	noError(t, b.Store.Index(t.Context(), late))
	page, next, err = b.Store.Due(t.Context(), base, "", 10)
	noError(t, err)
	same(t, []correlation.Summary{all[0], late.Summary()}, page)
	same(t, "", next)
}

func badCursor(t *testing.T, b Backend) {
	for _, cursor := range []string{"x", "' or true or RowKey eq '", strings.Repeat("a", 73)} {
		_, _, err := b.Store.Open(t.Context(), cursor, 10)
		is(t, err, fault.Invalid)
	}
}

func timeOver(t *testing.T, b Backend) {
	c := create(t, b, newCorrelation(newKey()))
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err := b.Store.Load(late, c.Key)
	is(t, err, fault.Unreachable)
	is(t, b.Store.Create(late, newCorrelation(newKey()), nil), fault.Unreachable)
	is(t, b.Store.Save(late, c), fault.Unreachable)
	is(t, b.Store.Index(late, c), fault.Unreachable)
	is(t, b.Store.Unlist(late, c.Key), fault.Unreachable)
	is(t, b.Store.Postpone(late, c.Key, base), fault.Unreachable)
	_, _, err = b.Store.Due(late, base, "", 1)
	is(t, err, fault.Unreachable)
	_, err = b.Store.Mark(late)
	is(t, err, fault.Unreachable)
	is(t, b.Store.SaveMark(late, &workflow.Mark{}), fault.Unreachable)
	is(t, b.Store.KeepUnreadable(late, workflow.Unreadable{ID: "x"}), fault.Unreachable)
	_, err = b.Store.Unreadable(late)
	is(t, err, fault.Unreachable)
	is(t, b.Store.ForgetUnreadable(late, "x"), fault.Unreachable)
	_, _, more, err := b.Store.Purge(late, base, 10)
	is(t, err, fault.Unreachable)
	same(t, true, more)
	is(t, b.Queue.Put(late, "{}", 0), fault.Unreachable)
	_, err = b.Queue.Poison(late, 1)
	is(t, err, fault.Unreachable)
	is(t, b.Queue.DropPoison(late, workflow.Poison{ID: "x", Receipt: "x"}), fault.Unreachable)
	same(t, c, load(t, b, c.Key))
}

func unreadableListing(t *testing.T, b Backend) {
	var want []correlation.Summary
	for i, wrong := range []map[string]any{
		nil, {"Attempts": "three"}, nil, {"Since": "yesterday", "TargetName": int64(5)}, {"State": false}, nil,
	} {
		c := create(t, b, newCorrelation(correlation.Key{Request: fmt.Sprintf("%08x-0000-4000-8000-000000000000", i), Stage: uuid.NewString()}))
		noError(t, b.SetRow(t.Context(), b.Names.Index, "open", c.Key.Request+"_"+c.Key.Stage, wrong))
		want = append(want, c.Summary())
	}
	for _, row := range []string{"0", "00000002-0000-4000-8000-000000000000", "x", "zzz"} { // between the others, and behind them
		noError(t, b.SetRow(t.Context(), b.Names.Index, "open", row, map[string]any{"Due": base}))
	}
	read := func(limit int) []correlation.Summary {
		var got []correlation.Summary
		for cursor, pages := "", 0; ; pages++ {
			page, next, err := b.Store.Due(t.Context(), base.Add(time.Hour), cursor, limit)
			noError(t, err)
			if got = append(got, page...); next == "" {
				return got
			}
			if cursor = next; pages > len(want) {
				t.Fatal("there is no end")
			}
		}
	}
	for limit := range len(want) + 2 {
		got := read(limit)
		same(t, len(want), len(got))
		for i, sum := range got {
			if wrong := i == 1 || i == 3 || i == 4; wrong != (sum.LastReason == fault.Internal && strings.Contains(sum.Reason, "cannot be read")) || sum.Key != want[i].Key {
				t.Errorf("with a limit of %d: %+v", limit, sum)
			}
		}
	}
	page, _, err := b.Store.Open(t.Context(), "", 0)
	noError(t, err)
	same(t, len(want), len(page))

	for _, sum := range want { // what the sweep and then Advance do
		noError(t, b.Store.Postpone(t.Context(), sum.Key, base.Add(2*time.Hour)))
		noError(t, b.Store.Index(t.Context(), load(t, b, sum.Key)))
	}
	same(t, want, read(0))
}

func newerTickets(t *testing.T, b Backend) {
	c := newCorrelation(newKey())
	c.Tickets = []correlation.Ticket{{Entry: "first", SysID: "1"}, {Entry: "second"}}
	create(t, b, c)
	theirs := `[{"entry":"first","table":"sc_request","sysId":"1","priority":{"level":[1,2.50,null]},"Watchers":["a b"]},{"entry":"second","table":"incident"},` +
		`{"entry":"third","table":"change_request","approved":true,"a":12345678901234567890}]`
	noError(t, b.SetRow(t.Context(), b.Names.Correlations, c.Key.Request, c.Key.Stage, map[string]any{"Tickets": theirs, "Schema": int32(2)}))
	list := map[string]any{"Owner": "somebody", "Urgent": true}
	row := c.Key.Request + "_" + c.Key.Stage
	noError(t, b.SetRow(t.Context(), b.Names.Index, "open", row, list))

	got := load(t, b, c.Key)
	same(t, 3, len(got.Tickets))
	for i := range got.Tickets {
		got.Tickets[i].State, got.Tickets[i].Outcome = "state=closed", correlation.Fulfilled
	}
	noError(t, b.Store.Save(t.Context(), got))
	same(t, got, load(t, b, c.Key))
	var before, after []map[string]any
	noError(t, json.Unmarshal([]byte(theirs), &before))
	text, _ := b.properties(t, c.Key)["Tickets"].(string)
	noError(t, json.Unmarshal([]byte(text), &after))
	for i := range before {
		before[i]["state"], before[i]["outcome"] = "state=closed", "fulfilled"
	}
	same(t, before, after)
	if !strings.Contains(text, "12345678901234567890") || !strings.Contains(text, "2.50") {
		t.Errorf("numbers are not as they were: %s", text)
	}

	noError(t, b.Store.Index(t.Context(), got))
	noError(t, b.Store.Postpone(t.Context(), c.Key, base.Add(time.Hour)))
	rows, err := b.Rows(t.Context(), b.Names.Index, "open")
	noError(t, err)
	for name, v := range list {
		same(t, v, rows[row][name])
	}
}

// versionsTogether lets this version and one that has more states, kinds of events, properties, rows and lists take turns on one correlation.
func versionsTogether(t *testing.T, b Backend) {
	c := create(t, b, Full(newKey(), 300))
	list := c.Key.Request + "_" + c.Key.Stage
	theirs := map[string]map[string]any{} // by partition and row: what the newer version wrote last
	write := func(table, partition, row string, props map[string]any) {
		t.Helper()
		noError(t, b.SetRow(t.Context(), table, partition, row, props))
		if theirs[partition+" "+row] == nil {
			theirs[partition+" "+row] = map[string]any{}
		}
		maps.Copy(theirs[partition+" "+row], props)
	}
	write(b.Names.Correlations, c.Key.Request, c.Key.Stage+"_x_1", map[string]any{"Record": "attachment", "Bytes": []byte{0, 255}})
	write(b.Names.Correlations, c.Key.Request, c.Key.Stage+"_c", map[string]any{"Compressed": false})
	write(b.Names.Index, "people", "somebody", map[string]any{"Open": int32(3)})
	write(b.Names.Index, "ended-", "all", map[string]any{"Count": int64(1) << 40})
	for round := range 3 {
		old := load(t, b, c.Key) // read before the newer version writes
		events := old.Events
		write(b.Names.Correlations, c.Key.Request, c.Key.Stage, map[string]any{
			"Schema": int32(7), "State": "awaitingApproval", "Approvers": fmt.Sprint("round ", round), "ApproveUntil": base.Add(time.Duration(round) * time.Hour), "Events": int32(events + 1), //nolint:gosec // few
		})
		write(b.Names.Correlations, c.Key.Request, fmt.Sprintf("%s_t_%08d", c.Key.Stage, events+1), map[string]any{
			"Record": "event", "Seq": int32(events + 1), "Kind": "approval", "At": base, "Text": "asked", "Level": int32(round), //nolint:gosec // few
		})
		write(b.Names.Index, "open", list, map[string]any{"State": "awaitingApproval", "Approvers": "two", "Round": int64(round)})
		old.Note(base, "too late", "")
		is(t, b.Store.Save(t.Context(), old), fault.Conflict)

		got := load(t, b, c.Key)
		same(t, correlation.State("awaitingApproval"), got.State)
		got.Note(base.Add(time.Minute), fmt.Sprint("seen in round ", round), "")
		got.LastError = fmt.Sprint("round ", round)
		noError(t, b.Store.Save(t.Context(), got))
		noError(t, b.Store.Index(t.Context(), got))
		noError(t, b.Store.Postpone(t.Context(), c.Key, base.Add(time.Hour)))
		same(t, got, load(t, b, c.Key))
		delete(theirs[c.Key.Request+" "+c.Key.Stage], "Events") // this version wrote one more

		for at, props := range theirs {
			partition, row, _ := strings.Cut(at, " ")
			table := b.Names.Index
			if partition == c.Key.Request {
				table = b.Names.Correlations
			}
			rows, err := b.Rows(t.Context(), table, partition)
			noError(t, err)
			for name, v := range props {
				if d := cmp.Diff(v, rows[row][name]); d != "" {
					t.Errorf("%s of %s: %s", name, at, d)
				}
			}
		}
		events = got.Events
		line := timeline(t, b, c.Key)
		if len(line) != events || line[events-2].Kind != "approval" || line[events-1].Text != fmt.Sprint("seen in round ", round) {
			t.Errorf("round %d: %d events: %+v", round, events, line)
		}
		page, _, err := b.Store.Due(t.Context(), base.Add(time.Hour), "", 10)
		noError(t, err)
		want := got.Summary()
		want.Due = base.Add(time.Hour)
		same(t, []correlation.Summary{want}, page)
		stages, err := b.Store.Stages(t.Context(), c.Key.Request)
		noError(t, err)
		same(t, []*correlation.Correlation{got}, stages)
		n, _, more, err := b.Store.Purge(t.Context(), base.Add(1000*24*time.Hour), 10)
		noError(t, err)
		if n != 0 || more {
			t.Errorf("purged %d, more: %t", n, more)
		}
	}
	body, err := b.Store.Callout(t.Context(), c.Key)
	noError(t, err)
	same(t, "{}", string(body))
}

func mark(t *testing.T, b Backend) {
	m, err := b.Store.Mark(t.Context())
	noError(t, err)
	same(t, workflow.Mark{}, m)
	first := workflow.Mark{Cursor: "here", Begun: base, Ended: base.Add(time.Hour), Purged: base.Add(2 * time.Hour)}
	noError(t, b.Store.SaveMark(t.Context(), &first))
	is(t, b.Store.SaveMark(t.Context(), &workflow.Mark{Cursor: "elsewhere"}), fault.Conflict)
	stale := first
	noError(t, b.SetRow(t.Context(), b.Names.Index, "sweep", "sweep", map[string]any{"Newer": "kept"}))
	is(t, b.Store.SaveMark(t.Context(), &first), fault.Conflict)
	same(t, stale, first)
	for _, next := range []workflow.Mark{{}, {Cursor: "there", Begun: base.Add(3 * time.Hour)}} {
		m, err = b.Store.Mark(t.Context())
		noError(t, err)
		if m.Version == "" || m.Version == stale.Version {
			t.Errorf("version %q after %q", m.Version, stale.Version)
		}
		next.Version = m.Version
		noError(t, b.Store.SaveMark(t.Context(), &next))
		got, err := b.Store.Mark(t.Context())
		noError(t, err)
		same(t, next, got)
		noError(t, b.Store.SaveMark(t.Context(), &got)) // the next needs no load
	}
	rows, err := b.Rows(t.Context(), b.Names.Index, "sweep")
	noError(t, err)
	same(t, "kept", rows["sweep"]["Newer"])
	same(t, 0, len(opened(t, b)))
}

func markAtOnce(t *testing.T, b Backend) {
	for range 2 {
		m, err := b.Store.Mark(t.Context())
		noError(t, err)
		all := make([]workflow.Mark, 50)
		won := oneWins(t, atOnce(len(all), func(i int) error {
			all[i] = m
			all[i].Cursor = fmt.Sprint(i)
			return b.Store.SaveMark(t.Context(), &all[i])
		}), fault.Conflict)
		m, err = b.Store.Mark(t.Context())
		noError(t, err)
		same(t, all[won], m)
	}
}

func keepUnreadable(t *testing.T, b Backend) {
	all := []workflow.Unreadable{
		{ID: uuid.NewString(), Text: `{"not":"ours"}`, InsertedOn: base, KeptOn: base.Add(time.Hour), Reason: "it names nothing"},
		{ID: "a/b\\c#d?\x00", Text: strings.Repeat("x", 64<<10), InsertedOn: base.Add(time.Second), KeptOn: base},
		{ID: strings.Repeat("é", 2000), Text: "\x00\xff\ufffe\x1b" + strings.Repeat("\xf0\x9d\x84", 20_000), InsertedOn: base.Add(2 * time.Second), Reason: "é𝄞" + strings.Repeat("x", 80_000)}, // ASCII where it is long: Azurite 3.37 answers in pieces of 64 kB, and replaces a character that it cuts in two
		{ID: "", Text: "", InsertedOn: base.Add(3 * time.Second)},
	}
	got, err := b.Store.Unreadable(t.Context())
	noError(t, err)
	same(t, 0, len(got))
	for _, i := range []int{2, 0, 3, 1} {
		noError(t, b.Store.KeepUnreadable(t.Context(), all[i]))
		again := all[i]
		again.KeptOn, again.Reason = base.Add(100*time.Hour), "again"
		noError(t, b.Store.KeepUnreadable(t.Context(), again))
	}
	got, err = b.Store.Unreadable(t.Context())
	noError(t, err)
	if n := len(got); n != len(all) || !strings.HasPrefix(all[2].Reason, strings.TrimSuffix(got[2].Reason, "…")) || len(got[2].Reason) < 16_000 {
		t.Fatalf("%d are kept; of the reason %d of %d bytes", n, len(got[2].Reason), len(all[2].Reason))
	}
	all[2].Reason = got[2].Reason // clipped
	same(t, all, got)
	is(t, b.Store.KeepUnreadable(t.Context(), workflow.Unreadable{ID: "large", Text: strings.Repeat("x", 1<<20)}), fault.Invalid)
	for range 2 {
		noError(t, b.Store.ForgetUnreadable(t.Context(), all[1].ID))
		got, err = b.Store.Unreadable(t.Context())
		noError(t, err)
		same(t, append(all[:1:1], all[2:]...), got)
	}
	same(t, 0, len(opened(t, b)))
}

// stored says which rows of a request there are, and on which days its correlations are listed as ended.
func stored(t *testing.T, b Backend, request string, days ...time.Time) (rows, lists []string) {
	t.Helper()
	all, err := b.Rows(t.Context(), b.Names.Correlations, request)
	noError(t, err)
	for _, day := range days {
		page, _, err := b.Store.Ended(t.Context(), day, "", 0)
		noError(t, err)
		for _, sum := range page {
			if sum.Key.Request == request {
				lists = append(lists, day.Format(time.DateOnly)+" "+sum.Key.Stage)
			}
		}
	}
	return slices.Sorted(maps.Keys(all)), lists
}

const aDay = 24 * time.Hour

// midnight begins the day of base.
var midnight = base.Truncate(aDay)

func purge(t *testing.T, b Backend) {
	through := func(before time.Time, want int, last time.Time) {
		t.Helper()
		n, day, more, err := b.Store.Purge(t.Context(), before, 10)
		noError(t, err)
		if n != want || more || !day.Equal(last) {
			t.Errorf("before %s: %d purged, through %s, more: %t", before, n, day, more)
		}
	}
	through(base, 0, midnight.Add(-aDay)) // nothing was ever written

	request := uuid.NewString()
	stage := func() *correlation.Correlation {
		return create(t, b, newCorrelation(correlation.Key{Request: request, Stage: uuid.NewString()}))
	}
	early, old, late, today, opn := stage(), stage(), stage(), stage(), stage()
	end(t, b, early, midnight.Add(-400*aDay))
	end(t, b, old, midnight.Add(-2*aDay))
	end(t, b, late, midnight.Add(-100*time.Nanosecond))
	end(t, b, today, midnight)
	untold := stage()
	untold.Tickets = []correlation.Ticket{{SysID: "1", Outcome: correlation.Pending}}
	end(t, b, untold, midnight.Add(-50*aDay))
	days := []time.Time{midnight.Add(-400 * aDay), midnight.Add(-50 * aDay), midnight.Add(-2 * aDay), midnight.Add(-aDay), midnight}
	rows, lists := stored(t, b, request, days...)
	same(t, 4*5+3, len(rows)) // with state, callout and two events each; one event of what is open
	same(t, 4, len(lists))

	gone := func(cs ...*correlation.Correlation) {
		t.Helper()
		for _, c := range cs {
			rows = slices.DeleteFunc(rows, func(row string) bool { return strings.HasPrefix(row, c.Key.Stage) })
			lists = slices.DeleteFunc(lists, func(l string) bool { return strings.HasSuffix(l, c.Key.Stage) })
		}
		gotRows, gotLists := stored(t, b, request, days...)
		same(t, rows, gotRows)
		same(t, lists, gotLists)
	}
	through(midnight.Add(-500*aDay), 0, midnight.Add(-501*aDay))
	gone()
	through(midnight.Add(-time.Nanosecond), 2, midnight.Add(-2*aDay)) // yesterday is not over
	gone(early, old)
	through(midnight, 1, midnight.Add(-aDay))
	gone(late)
	for range 2 {
		through(base, 0, midnight.Add(-aDay))
		gone()
	}
	same(t, today, load(t, b, today.Key))
	same(t, opn, load(t, b, opn.Key))
	same(t, untold, load(t, b, untold.Key))
	same(t, 2, len(opened(t, b)))
	_, err := b.Store.Load(t.Context(), old.Key)
	is(t, err, fault.NotFound)
	is(t, b.Store.Save(t.Context(), old), fault.NotFound)
}

func purgeInParts(t *testing.T, b Backend) {
	for day := range 3 {
		for range 4 {
			end(t, b, create(t, b, newCorrelation(newKey())), midnight.Add(time.Duration(day-10)*aDay))
		}
	}
	before := midnight.Add(-8 * aDay)
	for _, want := range []struct {
		most, purged int
		through      time.Duration
		more         bool
	}{{0, 0, -11 * aDay, true}, {3, 3, -11 * aDay, true}, {1, 1, -10 * aDay, true}, {3, 3, -10 * aDay, true}, {1, 1, -9 * aDay, false}, {3, 0, -9 * aDay, false}} {
		n, through, more, err := b.Store.Purge(t.Context(), before, want.most)
		noError(t, err)
		if n != want.purged || !through.Equal(midnight.Add(want.through)) || more != want.more {
			t.Errorf("purged %d of %d, through %s, more: %t; want %+v", n, want.most, through, more, want)
		}
	}
	page, _, err := b.Store.Ended(t.Context(), before, "", 0)
	noError(t, err)
	same(t, 4, len(page))
}

func purgeLong(t *testing.T, b Backend) {
	c := create(t, b, newCorrelation(newKey()))
	for c.Events < 1100 {
		for range 97 {
			c.Note(base, "seen", "")
		}
		noError(t, b.Store.Save(t.Context(), c))
	}
	end(t, b, c, midnight.Add(-aDay))
	n, _, more, err := b.Store.Purge(t.Context(), midnight, 10)
	noError(t, err)
	rows, lists := stored(t, b, c.Key.Request, midnight.Add(-aDay))
	if n != 1 || more || len(rows)+len(lists) != 0 {
		t.Errorf("purged %d, more: %t; left %v, %v", n, more, rows, lists)
	}
}

func purgeWrongLists(t *testing.T, b Backend) {
	before := base.Add(-2 * aDay)
	days := []time.Time{midnight.Add(-9 * aDay), midnight.Add(-8 * aDay), midnight.Add(-2 * aDay)}
	old := func() *correlation.Correlation {
		c := newCorrelation(newKey())
		c.Since = days[0]
		return create(t, b, c)
	}
	listed := func(c *correlation.Correlation) *correlation.Correlation {
		t.Helper()
		noError(t, b.SetRow(t.Context(), b.Names.Index, "ended-"+days[0].Format(time.DateOnly), c.Key.Request+"_"+c.Key.Stage, map[string]any{"State": "done"}))
		return c
	}
	opn := listed(old())
	noError(t, b.Store.Unlist(t.Context(), opn.Key))
	newer := listed(old())
	noError(t, b.SetRow(t.Context(), b.Names.Correlations, newer.Key.Request, newer.Key.Stage, map[string]any{"State": "archived"}))
	late := create(t, b, newCorrelation(newKey()))
	end(t, b, late, days[2])
	listed(late)
	otherDay := create(t, b, newCorrelation(newKey()))
	end(t, b, otherDay, days[1])
	listed(otherDay)
	broken := create(t, b, newCorrelation(newKey()))
	end(t, b, broken, days[0])
	noError(t, b.SetRow(t.Context(), b.Names.Correlations, broken.Key.Request, broken.Key.Stage, map[string]any{"Since": "long ago"}))
	gone := listed(newCorrelation(newKey())) // what a purge leaves that is interrupted
	noError(t, b.SetRow(t.Context(), b.Names.Index, "ended-"+days[0].Format(time.DateOnly), "x", nil))

	for _, want := range []int{3, 0} { // what ended on another day is found on both lists
		n, through, more, err := b.Store.Purge(t.Context(), before, 10)
		noError(t, err)
		if n != want || more || !through.Equal(midnight.Add(-3*aDay)) {
			t.Errorf("purged %d, through %s, more: %t", n, through, more)
		}
		for _, c := range []*correlation.Correlation{opn, newer, late, broken} {
			rows, _ := stored(t, b, c.Key.Request)
			if len(rows) < 3 {
				t.Errorf("of %+v only %v is left", c.Summary(), rows)
			}
		}
		for _, c := range []*correlation.Correlation{otherDay, gone} {
			rows, lists := stored(t, b, c.Key.Request, days...)
			if len(rows)+len(lists) != 0 {
				t.Errorf("left: %v, %v", rows, lists)
			}
		}
		var keys []correlation.Key
		for _, sum := range opened(t, b) {
			keys = append(keys, sum.Key)
		}
		if len(keys) != 2 || !slices.Contains(keys, opn.Key) || !slices.Contains(keys, newer.Key) {
			t.Errorf("open: %v", keys)
		}
		_, lists := stored(t, b, late.Key.Request, days...)
		same(t, []string{days[2].Format(time.DateOnly) + " " + late.Key.Stage}, lists)
		same(t, late, load(t, b, late.Key))
	}
}

// receive waits until a message can be received.
func receive(t *testing.T, b Backend, invisible time.Duration) storage.QueueMessage {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) { // a queue can only be polled
		got, err := b.Queues.Get(t.Context(), b.QueueName, 1, invisible)
		noError(t, err)
		if len(got) > 0 {
			return got[0]
		}
	}
	t.Fatal("no message came")
	return storage.QueueMessage{}
}

// nothing makes sure that no message can be received now.
func nothing(t *testing.T, b Backend) {
	t.Helper()
	got, err := b.Queues.Get(t.Context(), b.QueueName, 32, time.Minute)
	noError(t, err)
	if len(got) != 0 {
		t.Errorf("received %d messages", len(got))
	}
}

func plain(t *testing.T, m storage.QueueMessage) string {
	t.Helper()
	text, err := base64.StdEncoding.DecodeString(m.Text)
	noError(t, err)
	return string(text)
}

func putAndGet(t *testing.T, b Backend) {
	for _, text := range []string{`{"key":"é <&> ]]>"}`, "", "x\x00\xff"} {
		noError(t, b.Queue.Put(t.Context(), text, 0))
		m := receive(t, b, time.Minute)
		same(t, text, plain(t, m))
		if m.ID == "" || m.PopReceipt == "" || m.DequeueCount != 1 || m.InsertedOn.IsZero() {
			t.Errorf("%+v", m)
		}
		noError(t, b.Queues.Delete(t.Context(), b.QueueName, m.ID, m.PopReceipt))
	}
	nothing(t, b)
}

func putDelayed(t *testing.T, b Backend) {
	began := time.Now()
	noError(t, b.Queue.Put(t.Context(), "later", 1100*time.Millisecond))
	noError(t, b.Queue.Put(t.Context(), "now", -time.Hour))
	same(t, "now", plain(t, receive(t, b, time.Minute)))
	same(t, "later", plain(t, receive(t, b, time.Minute)))
	if waited := time.Since(began); waited < 1100*time.Millisecond {
		t.Errorf("came after %s", waited)
	}
}

func putLarge(t *testing.T, b Backend) {
	text := strings.Repeat("x", 48<<10)
	noError(t, b.Queue.Put(t.Context(), text, 0))
	if got := plain(t, receive(t, b, time.Minute)); got != text {
		t.Errorf("%d bytes came back as %d others", len(text), len(got))
	}
	is(t, b.Queue.Put(t.Context(), text+"x", 0), fault.Invalid)
	nothing(t, b)
}

func putTooLate(t *testing.T, b Backend) {
	week := 7 * 24 * time.Hour
	is(t, b.Queue.Put(t.Context(), "x", week+1), fault.Invalid)
	noError(t, b.Queue.Put(t.Context(), "x", week))
	nothing(t, b)
}

func lifetime(t *testing.T, b Backend) {
	noError(t, b.Queue.Put(t.Context(), "x", time.Second))
	m := receive(t, b, time.Minute)
	if got := m.ExpiresOn.Sub(m.InsertedOn); got < 7*24*time.Hour+time.Second || got > 7*24*time.Hour+2*time.Second {
		t.Errorf("expires after %s", got)
	}
}

func redelivery(t *testing.T, b Backend) {
	noError(t, b.Queue.Put(t.Context(), "x", 0))
	first := receive(t, b, time.Second)
	nothing(t, b)
	second := receive(t, b, time.Minute)
	if second.ID != first.ID || second.DequeueCount != 2 || second.Text != first.Text || !second.InsertedOn.Equal(first.InsertedOn) {
		t.Errorf("%+v came back as %+v", first, second)
	}
	if hidden := time.Until(second.NextVisibleOn); hidden < 50*time.Second || hidden > 70*time.Second {
		t.Errorf("hidden for %s", hidden)
	}
}

func extend(t *testing.T, b Backend) {
	noError(t, b.Queue.Put(t.Context(), "text", 0))
	m := receive(t, b, time.Second)
	receipt, err := b.Queues.Extend(t.Context(), b.QueueName, m.ID, m.PopReceipt, 3*time.Second)
	noError(t, err)
	began := time.Now()
	again := receive(t, b, time.Minute)
	if waited := time.Since(began); waited < 1500*time.Millisecond {
		t.Errorf("came back after %s", waited)
	}
	same(t, "text", plain(t, again))
	is(t, b.Queues.Delete(t.Context(), b.QueueName, m.ID, receipt), fault.NotFound)
	if _, err = b.Queues.Extend(t.Context(), b.QueueName, again.ID, again.PopReceipt, 0); err != nil {
		t.Fatal(err)
	}
	same(t, int64(3), receive(t, b, time.Minute).DequeueCount)
}

func receipts(t *testing.T, b Backend) {
	noError(t, b.Queue.Put(t.Context(), "x", 0))
	first := receive(t, b, time.Second)
	second := receive(t, b, time.Minute)
	is(t, b.Queues.Delete(t.Context(), b.QueueName, first.ID, first.PopReceipt), fault.NotFound)
	_, err := b.Queues.Extend(t.Context(), b.QueueName, first.ID, first.PopReceipt, time.Second)
	is(t, err, fault.NotFound)
	noError(t, b.Queues.Delete(t.Context(), b.QueueName, second.ID, second.PopReceipt))
	is(t, b.Queues.Delete(t.Context(), b.QueueName, second.ID, second.PopReceipt), fault.NotFound)
}

func receiversAtOnce(t *testing.T, b Backend) {
	const n = 60
	for _, err := range atOnce(6, func(w int) error {
		for i := range n / 6 {
			if err := b.Queue.Put(t.Context(), fmt.Sprint(w, "-", i), 0); err != nil {
				return err
			}
		}
		return nil
	}) {
		noError(t, err)
	}
	var mu sync.Mutex
	seen := map[string]int{}
	for _, err := range atOnce(6, func(int) error {
		for {
			got, err := b.Queues.Get(t.Context(), b.QueueName, 4, time.Minute)
			if err != nil || len(got) == 0 {
				return err
			}
			if len(got) > 4 {
				return fmt.Errorf("%d messages at once", len(got))
			}
			mu.Lock()
			for _, m := range got {
				seen[m.Text]++
			}
			mu.Unlock()
		}
	}) {
		noError(t, err)
	}
	same(t, n, len(seen))
	for text, times := range seen {
		if times != 1 {
			t.Errorf("%s was received %d times", text, times)
		}
	}
}

func queueMissing(t *testing.T, b Backend) {
	other := b.QueueName + "-poison"
	_, err := b.Queues.Get(t.Context(), other, 1, time.Minute)
	is(t, err, fault.NotFound)
	is(t, b.Queues.Put(t.Context(), other, "x", 0), fault.NotFound)
	for range 2 {
		noError(t, b.Queues.Create(t.Context(), other))
	}
	noError(t, b.Queues.Put(t.Context(), other, "not base64", 0))
	got, err := b.Queues.Get(t.Context(), other, 100, time.Minute)
	noError(t, err)
	if len(got) != 1 || got[0].Text != "not base64" {
		t.Errorf("%v", got)
	}
}

func poison(t *testing.T, b Backend) {
	got, err := b.Queue.Poison(t.Context(), 10)
	noError(t, err)
	same(t, 0, len(got))
	noError(t, b.Queue.DropPoison(t.Context(), workflow.Poison{ID: uuid.NewString(), Receipt: "x"}))

	queue := b.QueueName + "-poison"
	noError(t, b.Queues.Create(t.Context(), queue))
	for _, wire := range []string{"eyJrZXkiOjF9", "not base64", "eyJrZXkiOjF9eyJ"} {
		noError(t, b.Queues.Put(t.Context(), queue, wire, 0))
	}
	texts := map[string]workflow.Poison{}
	for len(texts) < 3 {
		some, err := b.Queue.Poison(t.Context(), 2)
		noError(t, err)
		if len(some) == 0 || len(some) > 2 {
			t.Fatalf("received %d after %v", len(some), texts)
		}
		for _, p := range some {
			texts[p.Text] = p
			if p.ID == "" || p.Receipt == "" || p.InsertedOn.IsZero() {
				t.Errorf("%+v", p)
			}
		}
	}
	same(t, []string{"eyJrZXkiOjF9eyJ", "not base64", `{"key":1}`}, slices.Sorted(maps.Keys(texts)))
	hidden, err := b.Queue.Poison(t.Context(), 32)
	noError(t, err)
	same(t, 0, len(hidden))

	first := texts["not base64"]
	_, err = b.Queues.Extend(t.Context(), queue, first.ID, first.Receipt, 0)
	noError(t, err)
	again, err := b.Queue.Poison(t.Context(), 32)
	noError(t, err)
	same(t, 1, len(again))
	noError(t, b.Queue.DropPoison(t.Context(), first)) // it is the other receiver's now
	_, err = b.Queues.Extend(t.Context(), queue, again[0].ID, again[0].Receipt, 0)
	noError(t, err)
	again, err = b.Queue.Poison(t.Context(), 32)
	noError(t, err)
	same(t, 1, len(again))
	for range 2 {
		noError(t, b.Queue.DropPoison(t.Context(), again[0]))
	}
	is(t, b.Queues.Delete(t.Context(), queue, again[0].ID, again[0].Receipt), fault.NotFound)
}

func probe(t *testing.T, b Backend) {
	for range 2 {
		noError(t, b.Store.Probe(t.Context()))
		noError(t, b.Queue.Probe(t.Context()))
	}
	for _, table := range []string{b.Names.Correlations, b.Names.Index} {
		rows, err := b.Rows(t.Context(), table, "probe")
		noError(t, err)
		same(t, 0, len(rows))
	}
	got, err := b.Queues.Get(t.Context(), b.QueueName, 32, time.Second) // it is there, and empty
	noError(t, err)
	same(t, 0, len(got))
	got, err = b.Queues.Get(t.Context(), strings.TrimSuffix(b.QueueName, "-advance")+"-probe", 32, time.Second)
	noError(t, err)
	same(t, 0, len(got))
}

func depth(t *testing.T, b Backend) {
	counts := func(wantWaiting, wantPoison int) {
		t.Helper()
		waiting, poison, err := b.Queue.Depth(t.Context())
		noError(t, err)
		same(t, [2]int{wantWaiting, wantPoison}, [2]int{waiting, poison})
	}
	counts(0, 0) // no queue
	noError(t, b.Queue.Put(t.Context(), "{}", 0))
	noError(t, b.Queue.Put(t.Context(), "{}", time.Hour))
	counts(2, 0)
	noError(t, b.Queues.Create(t.Context(), b.QueueName+"-poison"))
	noError(t, b.Queues.Put(t.Context(), b.QueueName+"-poison", "x", 0))
	counts(2, 1)
	_, err := b.Queues.Get(t.Context(), b.QueueName, 1, time.Hour) // received, and not done with
	noError(t, err)
	counts(2, 1)
}
