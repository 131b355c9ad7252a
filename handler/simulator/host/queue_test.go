package host

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"ticketbridge/handler/storage"
)

// ledger are queues that know how many messages each of them has, hidden ones too, and keep the texts.
type ledger struct {
	Queues
	mu   sync.Mutex
	left map[string][]string
	ids  map[string]string // by id: the text
}

func newLedger(t *testing.T) *ledger {
	t.Helper()
	_, q, err := storage.NewEmbedded("test")
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{Queues: Account(q.Queues()), left: map[string][]string{}, ids: map[string]string{}}
	if err := l.Create(t.Context(), "advance"); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *ledger) Put(ctx context.Context, queue, text string, visibleIn time.Duration) error {
	err := l.Queues.Put(ctx, queue, text, visibleIn)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.left[queue] = append(l.left[queue], text)
	}
	return err
}

func (l *ledger) Get(ctx context.Context, queue string, most int, invisible time.Duration) ([]Message, error) {
	got, err := l.Queues.Get(ctx, queue, most, invisible)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range got {
		l.ids[m.ID] = m.Text
	}
	return got, err
}

func (l *ledger) Delete(ctx context.Context, queue, id, popReceipt string) error {
	err := l.Queues.Delete(ctx, queue, id, popReceipt)
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.left[queue], l.ids[id]); err == nil && i >= 0 {
		l.left[queue] = slices.Delete(l.left[queue], i, i+1)
	}
	return err
}

func (l *ledger) texts(queue string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.left[queue])
}

// queueApp is the app of the queue recordings: polled as in development.
func queueApp(more string) fstest.MapFS {
	return appOf(map[string]string{
		"host.json":             hostFile("", `,"extensions":{"queues":{"maxPollingInterval":"00:00:02"}}`+more),
		"advance/function.json": advanceJSON,
	})
}

// queueCase is a case of queue-messages.json and queue-answers.json.
type queueCase struct {
	Text       string `json:"sent_text"`
	Sent       string
	Ctl        *struct{ Rules []rule }
	Deliveries json.RawMessage
	Requests   []struct {
		T       string
		Method  string
		URL     string
		Headers []string
		Chunked bool
		Body    string
	}
	Log        []string
	QueueCount string `json:"queue_count"`
	Poison     string
}

// insertedOn is when the recorded message was put.
func (c queueCase) insertedOn(t *testing.T) time.Time {
	var sent struct{ InsertedOn time.Time }
	if err := json.Unmarshal([]byte(c.Sent), &sent); err != nil {
		t.Fatal(err)
	}
	return sent.InsertedOn
}

// recordedDelivery is one of queue-answers.json.
type recordedDelivery struct {
	T       time.Time
	Dequeue string
	Next    time.Time
}

var durationPattern = regexp.MustCompile(`Duration=\d+ms`)

// told are the lines of a log that say what happened to messages and functions, without ids and times.
func told(log []string, beginnings ...string) []string {
	var all []string
	for _, l := range log {
		if slices.ContainsFunc(beginnings, func(b string) bool { return strings.HasPrefix(l, b) }) {
			all = append(all, durationPattern.ReplaceAllString(plain(l), "Duration={time}"))
		}
	}
	return all
}

var queueLines = []string{"Executing ", "Executed ", "Trigger Details", "Message has reached"}

// sameLog compares a log with a recorded one, which was cut after so many lines.
func sameLog(t *testing.T, got, recorded []string, cut int, beginnings ...string) {
	t.Helper()
	want := told(recorded, beginnings...)
	if sameBeginning(t, got, want); len(recorded) < cut && len(got) > len(want) {
		t.Errorf("the log goes on with\n%s\nrecorded\n%s", strings.Join(got[len(want):], "\n"), strings.Join(want, "\n"))
	}
}

// sameBeginning compares a log with the beginning of one that was recorded.
func sameBeginning(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Errorf("the log says\n%s\nrecorded\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// replayMessages replays how queue messages are delivered.
func replayMessages(t *testing.T, file string) {
	t.Helper()
	bubble(t, "2026-11-24T05:02:16Z", func(t *testing.T) {
		q := newLedger(t)
		st := begin(t, &script{}, Config{App: queueApp(""), Queues: q})
		defer st.Stop()
		for _, e := range ordered(t, file) {
			var c queueCase
			if err := json.Unmarshal(e.raw, &c); err != nil {
				t.Fatal(err)
			}
			replayed.Store(file+"/"+e.name, true)
			log := st.playMessage(q, c)
			calls := st.script.calls()
			var want int
			if err := json.Unmarshal(c.Deliveries, &want); err != nil {
				t.Fatal(err)
			}
			if len(calls) != want || len(c.Requests) > want {
				t.Fatalf("%s: delivered %d times, recorded %d times", e.name, len(calls), want)
			}
			for i, r := range c.Requests {
				got := calls[i]
				if got.head.method != r.Method || got.head.target != r.URL || got.head.framing.chunked != r.Chunked {
					t.Errorf("%s: %s %s", e.name, got.head.method, got.head.target)
				}
				if g, w := sorted(headLines(got.head.fields)), sorted(r.Headers); !slices.Equal(g, w) {
					t.Errorf("%s: the handler got %q, recorded %q", e.name, g, w)
				}
				sameJSON(t, e.name, got.body, r.Body)
			}
			sameLog(t, log, c.Log, 12, queueLines...)
			if n := len(q.texts("advance")); strconv.Itoa(n) != c.QueueCount {
				t.Errorf("%s: %d messages are left, recorded %s", e.name, n, c.QueueCount)
			}
			if got := len(q.texts("advance-poison")); strconv.Itoa(got) != c.Poison {
				t.Errorf("%s: %d messages are poison, recorded %s", e.name, got, c.Poison)
			}
		}
	})
}

// playMessage puts the message of a case when it was put, waits until nothing more can come of it, and returns what was logged of it.
func (st *stage) playMessage(q *ledger, c queueCase) []string {
	st.t.Helper()
	var rules []rule
	if c.Ctl != nil {
		rules = c.Ctl.Rules
	}
	before := len(told(st.lines(), queueLines...))
	time.Sleep(time.Until(c.insertedOn(st.t)))
	st.script.play(rules...)
	if err := q.Put(st.t.Context(), "advance", c.Text, 0); err != nil {
		st.t.Fatal(err)
	}
	time.Sleep(2900 * time.Millisecond) // the next case was 3 s later, or more
	synctest.Wait()
	return told(st.lines(), queueLines...)[before:]
}

// replayAnswers replays how answers to queue messages are taken.
func replayAnswers(t *testing.T, file string) {
	t.Helper()
	bubble(t, "2026-11-24T05:03:54Z", func(t *testing.T) {
		q := newLedger(t)
		st := begin(t, &script{}, Config{App: queueApp(""), Queues: q})
		for _, e := range ordered(t, file) {
			replayed.Store(file+"/"+e.name, true)
			if e.name == "stop_with_hung" {
				var want [2]float64
				if err := json.Unmarshal(e.raw, &want); err != nil {
					t.Fatal(err)
				}
				stopAsRecorded(t, st, want)
				continue
			}
			var c queueCase
			if err := json.Unmarshal(e.raw, &c); err != nil {
				t.Fatal(err)
			}
			replayAnswer(t, st, q, e.name, c)
		}
	})
}

// stopAsRecorded stops the host and compares the exit code and the seconds that it took.
func stopAsRecorded(t *testing.T, st *stage, want [2]float64) {
	t.Helper()
	start := time.Now()
	if e := st.Stop(); e.Code != int(want[0]) {
		t.Errorf("the host ended with %d, recorded %v", e.Code, want[0])
	}
	took, recorded := time.Since(start), time.Duration(want[1]*float64(time.Second))
	if took > recorded || took < recorded-500*time.Millisecond {
		t.Errorf("the host needed %v to stop, recorded %v", took, recorded)
	}
}

func replayAnswer(t *testing.T, st *stage, q *ledger, name string, c queueCase) {
	var want []recordedDelivery
	if err := json.Unmarshal(c.Deliveries, &want); err != nil {
		t.Fatal(err)
	}
	log := st.playMessage(q, c)
	calls := slices.DeleteFunc(st.script.calls(), func(d delivery) bool { return d.head.target != "/advance" })
	if len(calls) != len(want) {
		t.Fatalf("%s: delivered %d times, recorded %d times", name, len(calls), len(want))
	}
	for i, w := range want {
		var got struct {
			Metadata struct {
				DequeueCount    string
				NextVisibleTime time.Time
			}
		}
		if err := json.Unmarshal([]byte(calls[i].body), &got); err != nil {
			t.Fatal(err)
		}
		if got.Metadata.DequeueCount != w.Dequeue {
			t.Errorf("%s: DequeueCount %s, recorded %s", name, got.Metadata.DequeueCount, w.Dequeue)
		}
		// Hidden for ten minutes.
		if g, r := got.Metadata.NextVisibleTime.Sub(calls[i].at), w.Next.Sub(w.T); (g - r).Abs() > 1100*time.Millisecond {
			t.Errorf("%s: hidden for %v, recorded %v", name, g, r)
		}
		if i > 0 {
			if g, r := calls[i].at.Sub(calls[i-1].at), w.T.Sub(want[i-1].T); g > r || r-g > 150*time.Millisecond {
				t.Errorf("%s: delivery %d came %v after the one before, recorded %v", name, i+1, g, r)
			}
		}
	}
	sameLog(t, log, c.Log, 14, queueLines...)
	if n := len(q.texts("advance")); strconv.Itoa(n) != c.QueueCount {
		t.Errorf("%s: %d messages are left, recorded %s", name, n, c.QueueCount)
	}
	var poison []struct{ MessageText string }
	if err := json.Unmarshal([]byte(c.Poison), &poison); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, p := range poison {
		texts = append(texts, p.MessageText)
	}
	if got := q.texts("advance-poison"); !slices.Equal(got, texts) {
		t.Errorf("%s: %q is poison, recorded %q", name, got, texts)
	}
	q.mu.Lock()
	delete(q.left, "advance-poison") // the recorder emptied it
	q.mu.Unlock()
}

// withQueues is a host.json with these options for queues.
func withQueues(options string) string { return hostFile("", `,"extensions":{"queues":{`+options+`}}`) }

// queueStage begins a host whose queue function gets messages by these options.
func queueStage(t *testing.T, s *script, q *ledger, options string) *stage {
	t.Helper()
	st := begin(t, s, Config{App: appOf(map[string]string{"host.json": withQueues(options), "advance/function.json": advanceJSON}), Queues: q})
	<-st.Ready()
	return st
}

func (l *ledger) fill(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		if err := l.Put(t.Context(), "advance", base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `{"k":%d}`, i)), 0); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSoManyMessagesAreInWorkAtOnceAsHostJSONSays(t *testing.T) {
	busy := rule{Match: "advance", Status: 200, Headers: wellDone.Headers, Body: "{}", DelayMs: 10_000}
	for options, most := range map[string]int{
		``:                                    32, // by default, as recorded on two cores
		`"batchSize":1`:                       1,
		`"batchSize":8,"newBatchThreshold":4`: 4 + 12, // eight, and when four of them are over, eight more
		`"batchSize":4,"newBatchThreshold":0`: 4,
	} {
		t.Run(options, func(t *testing.T) {
			bubble(t, "", func(t *testing.T) {
				q := newLedger(t)
				q.fill(t, 100)
				s := &script{rules: []rule{busy}}
				if strings.Contains(options, `"newBatchThreshold":4`) {
					quick := busy
					quick.Times, quick.DelayMs = 4, 2_000
					s.rules = []rule{quick, busy}
				}
				st := queueStage(t, s, q, options)
				time.Sleep(9 * time.Second)
				if n := len(s.calls()); n != most {
					t.Errorf("%d messages were taken, want %d", n, most)
				}
				if options == `"batchSize":1` {
					time.Sleep(12 * time.Second)
					calls := s.calls()
					for i := range calls[1:] {
						if d := calls[i+1].at.Sub(calls[i].at); d < 10*time.Second || d > 10*time.Second+minPolling {
							t.Errorf("the next message came after %v", d)
						}
					}
				}
				st.Stop()
			})
		})
	}
}

func TestAnIdleQueueIsAskedLessAndLess(t *testing.T) {
	for options, most := range map[string]time.Duration{``: time.Minute, `"maxPollingInterval":"00:00:02"`: 2 * time.Second} {
		t.Run(options, func(t *testing.T) {
			bubble(t, "", func(t *testing.T) {
				q := newLedger(t)
				st := queueStage(t, &script{}, q, options)
				defer st.Stop()
				time.Sleep(10*time.Minute + most/2 + 777*time.Millisecond) // at no time when the queue is asked
				q.fill(t, 1)
				put := time.Now()
				time.Sleep(most)
				calls := st.script.calls()
				if len(calls) != 1 {
					t.Fatalf("%d deliveries after %v", len(calls), most)
				}
				if calls[0].at.Sub(put) < most/10 {
					t.Errorf("the message came at once, after %v", calls[0].at.Sub(put))
				}
			})
		})
	}
}

func TestAFailedMessageComesAgainAfterTheVisibilityTimeout(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		q := newLedger(t)
		s := &script{rules: []rule{{Match: "advance", Status: 500}}}
		st := queueStage(t, s, q, `"maxPollingInterval":"00:00:02","visibilityTimeout":"00:00:05","maxDequeueCount":3`)
		defer st.Stop()
		q.fill(t, 1)
		time.Sleep(time.Minute)
		calls := s.calls()
		if len(calls) != 3 || len(q.texts("advance")) != 0 || len(q.texts("advance-poison")) != 1 {
			t.Fatalf("%d deliveries, %q left, %q poison", len(calls), q.texts("advance"), q.texts("advance-poison"))
		}
		if d := calls[1].at.Sub(calls[0].at); d < 5*time.Second || d > 7*time.Second {
			t.Errorf("it came again after %v, recorded 6 s", d)
		}
	})
}

func TestAMessageInWorkStaysHidden(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		q := newLedger(t)
		s := &script{rules: []rule{{Match: "advance", Status: 200, Headers: wellDone.Headers, Body: "{}", DelayMs: 25 * 60 * 1000}}}
		st := queueStage(t, s, q, `"maxPollingInterval":"00:00:02"`)
		defer st.Stop()
		q.fill(t, 1)
		time.Sleep(28 * time.Minute)
		if n := len(s.calls()); n != 1 {
			t.Errorf("%d deliveries of one message", n)
		}
		if left := q.texts("advance"); len(left) != 0 {
			t.Error("the message was not deleted, so its receipt was an old one")
		}
	})
}

func TestAMessageThatCrashesTheHandlerEndsTheHostAndIsPoisonUnderTheNext(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		q := newLedger(t)
		s := &script{rules: []rule{{Match: "advance", Action: "exit", Code: 2}}}
		st := queueStage(t, s, q, `"maxPollingInterval":"00:00:02"`)
		q.fill(t, 1)
		start := time.Now()
		e := st.Wait()
		if took := time.Since(start); took > 2*time.Second || !strings.Contains(e.Reason, "three times") {
			t.Errorf("the host ended after %v, recorded 1.4 s: %v", took, e)
		}
		if n := len(s.calls()); n != 3 {
			t.Errorf("%d deliveries, recorded 3", n)
		}
		next := queueStage(t, s, q, `"maxPollingInterval":"00:00:02"`)
		time.Sleep(10 * time.Second)
		if n := len(s.calls()); n != 5 {
			t.Errorf("%d deliveries under both hosts, recorded 5", n)
		}
		if n := len(q.texts("advance-poison")); n != 1 {
			t.Errorf("%d messages are poison", n)
		}
		next.Stop()
	})
}

func TestAMessageOfACrashedHostComesBackAfterTenMinutes(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		q := newLedger(t)
		s := &script{rules: []rule{{Match: "advance", Times: 1, DelayMs: 60_000}}}
		st := queueStage(t, s, q, `"maxPollingInterval":"00:00:02"`)
		q.fill(t, 1)
		time.Sleep(5 * time.Second)
		st.Crash()
		s.last.end(0)
		next := queueStage(t, s, q, `"maxPollingInterval":"00:00:02"`)
		defer next.Stop()
		time.Sleep(9 * time.Minute)
		if n := len(s.calls()); n != 1 {
			t.Fatalf("%d deliveries before ten minutes had passed", n)
		}
		time.Sleep(time.Minute)
		if calls := s.calls(); len(calls) != 2 || !strings.Contains(calls[1].body, `"DequeueCount":"2"`) {
			t.Errorf("%d deliveries after ten minutes", len(calls))
		}
	})
}

func TestAMessageIsDeliveredAgainOnRequest(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		q := newLedger(t)
		st := queueStage(t, &script{}, q, `"maxPollingInterval":"00:00:02"`)
		defer st.Stop()
		st.Redeliver("advance", 2)
		q.fill(t, 1)
		time.Sleep(10 * time.Second)
		calls := st.script.calls()
		if len(calls) != 3 || !strings.Contains(calls[2].body, `"DequeueCount":"3"`) || len(q.texts("advance")) != 0 {
			t.Errorf("%d deliveries, %q left", len(calls), q.texts("advance"))
		}
	})
}

func TestTextIsTakenAsItIsWhenHostJSONSaysSo(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		q := newLedger(t)
		st := queueStage(t, &script{}, q, `"maxPollingInterval":"00:00:02","messageEncoding":"none"`)
		defer st.Stop()
		if err := q.Put(t.Context(), "advance", "as it is", 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if calls := st.script.calls(); len(calls) != 1 || !strings.Contains(calls[0].body, `{"msg":"\"as it is\""}`) {
			t.Errorf("%v", calls)
		}
	})
}

func TestWhatTheHandlerSaysInAnAnswerIsLoggedWhenTheAnswerIsASuccess(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		q := newLedger(t)
		says := rule{Match: "advance", Times: 1, Status: 500, Headers: wellDone.Headers, Body: `{"Logs":["of a failure"]}`}
		well := rule{Match: "advance", Status: 201, Headers: wellDone.Headers, Body: `{"Logs":["first","second é"]}`}
		st := queueStage(t, &script{rules: []rule{says, well}}, q, `"maxPollingInterval":"00:00:02"`)
		defer st.Stop()
		q.fill(t, 1)
		time.Sleep(5 * time.Second)
		var got []string
		for _, e := range st.entries() {
			if e.Category == "Function.advance.User" && e.Level == Information {
				got = append(got, e.Text)
			}
		}
		if !slices.Equal(got, []string{"first", "second é"}) {
			t.Errorf("logged %q", got)
		}
	})
}

func TestAHostThatStopsTakesNoMessageAnyMore(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		q := newLedger(t)
		s := &script{rules: []rule{{Match: "console", DelayMs: 20_000}}}
		app := webApp("proxying", map[string]string{"advance/function.json": advanceJSON, "sweep/function.json": sweepJSON})
		st := begin(t, s, Config{App: app, Queues: q, Settings: map[string]string{"SWEEP_SCHEDULE": "*/5 * * * * *"}})
		<-st.Ready()
		inFlight := make(chan seen, 1)
		go func() {
			inFlight <- st.call("GET /api/console/x HTTP/1.1", []string{"Host: localhost:7071"}, "", time.Hour)
		}()
		time.Sleep(time.Second)
		stopped := make(chan Exit, 1)
		go func() { stopped <- st.Stop() }()
		synctest.Wait()
		q.fill(t, 1)
		if e := <-stopped; e.Code != 0 {
			t.Errorf("the host ended with %v", e)
		}
		if got := <-inFlight; got.line != "HTTP/1.1 200 OK" {
			t.Errorf("the call in flight: %s", got)
		}
		if n := len(s.calls()); n != 1 {
			t.Errorf("%d calls besides the one in flight", n-1)
		}
	})
}
