package storage_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/storage"
	"ticketbridge/handler/workflow"
)

// transport is a function that makes HTTP calls.
type transport func(*http.Request) (*http.Response, error)

func (f transport) Do(req *http.Request) (*http.Response, error) { return f(req) }

// credential gives out one token, and counts how often it was asked.
type credential struct {
	asked  atomic.Int32
	scopes []string
	err    error
}

func (c *credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.asked.Add(1)
	c.scopes = o.Scopes
	return azcore.AccessToken{Token: "the-token", ExpiresOn: time.Now().Add(time.Hour)}, c.err
}

// answering is a storage whose account is a server that does as told.
func answering(t *testing.T, h http.HandlerFunc) (*storage.Store, *storage.Queue) {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	s, q, err := storage.NewAzure(storage.Settings{
		TableServiceURI: server.URL + "/account/", QueueServiceURI: server.URL + "/account", Credential: &credential{}, Prefix: "test",
		Retry: policy.RetryOptions{MaxRetries: -1},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, q
}

func TestWhatTheStorageAnswersBecomesAReason(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		code   string
		after  string
		want   fault.Reason
		wait   time.Duration
	}{
		{404, "ResourceNotFound", "", fault.NotFound, 0},
		{404, "TableNotFound", "", fault.NotFound, 0},
		{404, "", "", fault.Unreachable, 0}, // a proxy's, not the storage's
		{400, "", "", fault.Unreachable, 0},
		{302, "", "", fault.Unreachable, 0},
		{200, "", "", fault.Unreachable, 0}, // no JSON
		{400, "InvalidInput", "", fault.Internal, 0},
		{400, "PropertyValueTooLarge", "", fault.Invalid, 0},
		{400, "EntityTooLarge", "", fault.Invalid, 0},
		{413, "RequestBodyTooLarge", "", fault.Invalid, 0},
		{413, "", "", fault.Invalid, 0},
		{401, "InvalidAuthenticationInfo", "", fault.Unauthorized, 0},
		{401, "", "", fault.Unauthorized, 0},
		{403, "AuthenticationFailed", "", fault.Unauthorized, 0},
		{403, "AuthorizationFailure", "", fault.Forbidden, 0},
		{403, "AuthorizationPermissionMismatch", "", fault.Forbidden, 0},
		{403, "KeyBasedAuthenticationNotPermitted", "", fault.Misconfigured, 0},
		{409, "EntityAlreadyExists", "", fault.Exists, 0},
		{409, "TableBeingDeleted", "", fault.Unreachable, 0},
		{412, "UpdateConditionNotSatisfied", "", fault.Conflict, 0},
		{429, "", "7", fault.Throttled, 7 * time.Second},
		{500, "OperationTimedOut", "", fault.Unreachable, 0},
		{500, "InternalError", "", fault.Unreachable, 0},
		{502, "", "", fault.Unreachable, 0},
		{503, "ServerBusy", "3", fault.Throttled, 3 * time.Second},
		{503, "", "2", fault.Unreachable, 2 * time.Second},
	} {
		t.Run(fmt.Sprintf("%d %s", c.status, c.code), func(t *testing.T) {
			t.Parallel()
			s, q := answering(t, func(w http.ResponseWriter, _ *http.Request) {
				if c.code != "" {
					w.Header().Set("x-ms-error-code", c.code)
				}
				if c.after != "" {
					w.Header().Set("Retry-After", c.after)
				}
				w.Header().Set("x-ms-request-id", "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11")
				w.WriteHeader(c.status)
				_, _ = w.Write([]byte(`<p>somebody's name</p>`))
			})
			check := func(call string, err error) {
				t.Helper()
				if err == nil {
					t.Errorf("%s: no error", call)
					return
				}
				if !fault.Is(err, c.want) || fault.After(err) != c.wait || strings.Contains(err.Error(), "somebody") || strings.Contains(err.Error(), "the-token") {
					t.Errorf("%s: %v, to wait %s", call, err, fault.After(err))
				}
				e, _ := errors.AsType[*fault.Error](err)
				if c.status >= 400 && (e.Status != c.status || !strings.Contains(err.Error(), "7d1f0a52-")) {
					t.Errorf("%s: %v does not say the status and the request id", call, err)
				}
			}
			_, err := s.Load(t.Context(), newCorrelation().Key)
			check("load", err)
			if c.want != fault.NotFound {
				check("unlist", s.Unlist(t.Context(), newCorrelation().Key))
				_, err = s.Timeline(t.Context(), newCorrelation().Key)
				check("timeline", err)
			}
			if c.want != fault.Exists && c.status != 200 && c.code != "TableNotFound" {
				check("create", s.Create(t.Context(), newCorrelation(), nil))
			}
			if !strings.HasPrefix(c.code, "Table") && c.status != 200 {
				check("put", q.Put(t.Context(), "x", 0))
			}
		})
	}
}

func TestANetworkThatFailsIsUnreachableAndShowsNoSignature(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(nil)
	server.Close()
	s, q, err := storage.NewAzure(storage.Settings{
		ConnectionString: "TableEndpoint=" + server.URL + "/;QueueEndpoint=" + server.URL + ";SharedAccessSignature=sv=2024-08-04&sig=secretsecret",
		Prefix:           "test", Retry: policy.RetryOptions{MaxRetries: -1},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Load(t.Context(), newCorrelation().Key)
	for _, err := range []error{err, q.Put(t.Context(), "x", 0), s.Create(t.Context(), newCorrelation(), nil)} {
		if !fault.Is(err, fault.Unreachable) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v", err)
		}
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	t.Parallel()
	hung := make(chan struct{})
	t.Cleanup(func() { close(hung) })
	s, _ := answering(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hung:
		case <-r.Context().Done():
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := s.Load(ctx, newCorrelation().Key)
	if !fault.Is(err, fault.Unreachable) || !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 5*time.Second {
		t.Errorf("after %s: %v", time.Since(began), err)
	}
}

// batchAnswer writes the answer to a transaction as the service does, one part for each operation it answers.
func batchAnswer(parts ...string) string {
	var b strings.Builder
	b.WriteString("--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_2\r\n\r\n")
	for _, p := range parts {
		b.WriteString("--changesetresponse_2\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n" + p + "\r\n")
	}
	b.WriteString("--changesetresponse_2--\r\n--batchresponse_1--\r\n")
	return b.String()
}

func TestTheAnswerToATransactionIsReadWhole(t *testing.T) {
	t.Parallel()
	done := func(etag string) string {
		return "HTTP/1.1 204 No Content\r\nX-Content-Type-Options: nosniff\r\nDataServiceVersion: 1.0;\r\nETag: W/\"datetime'" + etag + "'\"\r\n\r\n\r\n"
	}
	refused := func(status, code string) string {
		return "HTTP/1.1 " + status + "\r\nContent-Type: application/json;odata=minimalmetadata;charset=utf-8\r\n\r\n" +
			`{"odata.error":{"code":"` + code + `","message":{"lang":"en-US","value":"0:…\nRequestId:1"}}}` + "\r\n"
	}
	all := batchAnswer(done("1"), done("2"), done("3"))
	for name, c := range map[string]struct {
		body string
		want fault.Reason
	}{
		"done":             {all, ""},
		"exists":           {batchAnswer(refused("409 Conflict", "EntityAlreadyExists")), fault.Exists},
		"changed":          {batchAnswer(refused("412 Precondition Failed", "UpdateConditionNotSatisfied")), fault.Conflict},
		"gone":             {batchAnswer(refused("404 Not Found", "ResourceNotFound")), fault.NotFound},
		"too large":        {batchAnswer(refused("400 Bad Request", "PropertyValueTooLarge")), fault.Invalid},
		"busy":             {batchAnswer(refused("503 Service Unavailable", "ServerBusy")), fault.Throttled},
		"timed out":        {batchAnswer(refused("500 Internal Server Error", "OperationTimedOut")), fault.Unreachable},
		"no code":          {batchAnswer("HTTP/1.1 404 Not Found\r\n\r\n"), fault.Unreachable},
		"cut off":          {all[:len(all)/2], fault.Unreachable},
		"empty":            {"", fault.Unreachable},
		"a page":           {"<html></html>", fault.Unreachable},
		"JSON":             {`{"odata.error":{"code":"InvalidInput"}}`, fault.Unreachable},
		"too few":          {batchAnswer(done("1")), fault.Unreachable},
		"without versions": {batchAnswer("HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n"), fault.Unreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := answering(t, func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, "/$batch") {
					w.Header().Set("ETag", "W/\"i\"")
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(http.StatusCreated)
					_, _ = w.Write([]byte("{}"))
					return
				}
				w.Header().Set("Content-Type", "multipart/mixed; boundary=batchresponse_1")
				w.WriteHeader(http.StatusAccepted)
				_, _ = w.Write([]byte(c.body))
			})
			cor := newCorrelation()
			cor.Flushed("W/\"0\"")
			cor.Note(base, "seen", "")
			cor.Note(base, "seen", "")
			err := s.Save(t.Context(), cor)
			want := c.want
			if want == fault.Exists {
				want = fault.Conflict // of events: somebody else wrote the same place of the timeline
			}
			if fault.ReasonOf(err) != want {
				t.Errorf("save: %v", err)
			}
			if c.want == "" && (cor.Version != "W/\"datetime'1'\"" || len(cor.Pending()) != 0) {
				t.Errorf("flushed as %q, %d pending", cor.Version, len(cor.Pending()))
			}
			if c.want != "" {
				if err := s.Create(t.Context(), newCorrelation(), nil); fault.ReasonOf(err) != c.want {
					t.Errorf("create: %v", err)
				}
			}
		})
	}
}

// shake is a transport to Azurite that loses calls or answers.
type shake struct {
	match      func(*http.Request) bool
	loseCall   atomic.Int32 // so many matching calls never arrive
	loseAnswer atomic.Int32 // so many arrive, and the answer is lost
	between    func()       // called after a loss
	sent       atomic.Int32 // matching calls, lost ones included
}

func (s *shake) Do(req *http.Request) (*http.Response, error) {
	if !s.match(req) {
		return http.DefaultClient.Do(req)
	}
	s.sent.Add(1)
	if s.loseCall.Add(-1) >= 0 {
		s.lost()
		return nil, errors.New("connection reset by peer")
	}
	resp, err := http.DefaultClient.Do(req)
	if err == nil && s.loseAnswer.Add(-1) >= 0 {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		s.lost()
		return nil, io.ErrUnexpectedEOF
	}
	return resp, err
}

func (s *shake) lost() {
	if s.between != nil {
		s.between()
	}
}

func batches(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/$batch") }

func inserts(r *http.Request) bool {
	return r.Method == http.MethodPost && !batches(r) && !strings.HasSuffix(r.URL.Path, "/Tables") && !strings.Contains(r.URL.Path, "messages")
}

func TestACallWhoseAnswerWasLostIsRecognised(t *testing.T) {
	t.Parallel()
	azurite(t)
	t.Run("create", func(t *testing.T) {
		t.Parallel()
		wire := &shake{match: batches}
		s, _ := azure(t, wire)
		create(t, s, newCorrelation()) // makes the tables
		for lost := range int32(3) {
			wire.loseAnswer.Store(lost)
			wire.sent.Store(0)
			c := create(t, s, newCorrelation())
			if wire.sent.Load() != lost+1 {
				t.Errorf("%d answers lost, sent %d times", lost, wire.sent.Load())
			}
			c.Note(base, "seen", "")
			if err := s.Save(t.Context(), c); err != nil {
				t.Errorf("%d answers lost, and the version is wrong: %v", lost, err)
			}
			events, err := s.Timeline(t.Context(), c.Key)
			if err != nil || len(events) != 2 {
				t.Errorf("%d events, %v", len(events), err)
			}
		}
	})
	t.Run("the listing of a create", func(t *testing.T) {
		t.Parallel()
		wire := &shake{match: inserts}
		s, _ := azure(t, wire)
		wire.loseAnswer.Store(1)
		c := create(t, s, newCorrelation())
		if page, _, err := s.Open(t.Context(), "", 0); err != nil || len(page) != 1 || page[0].Key != c.Key {
			t.Errorf("%v, %v", page, err)
		}
	})
	t.Run("the listing of a create of what had ended", func(t *testing.T) {
		t.Parallel()
		wire := &shake{match: inserts}
		s, _ := azure(t, wire)
		c := create(t, s, newCorrelation())
		if err := errors.Join(c.Move(correlation.Expired, base, "", ""), s.Save(t.Context(), c), s.Index(t.Context(), c)); err != nil {
			t.Fatal(err)
		}
		again := newCorrelation()
		again.Key = c.Key
		wire.loseAnswer.Store(1)
		if err := s.Create(t.Context(), again, nil); !fault.Is(err, fault.Exists) {
			t.Error(err)
		}
		if page, _, err := s.Open(t.Context(), "", 0); err != nil || len(page) != 0 {
			t.Errorf("listed as open: %v, %v", page, err)
		}
	})
	t.Run("save", func(t *testing.T) {
		t.Parallel()
		wire := &shake{match: batches}
		s, _ := azure(t, wire)
		c := create(t, s, newCorrelation())
		for lost := range int32(3) {
			wire.loseAnswer.Store(lost)
			c.Note(base, "seen", "")
			if err := s.Save(t.Context(), c); err != nil || len(c.Pending()) != 0 {
				t.Errorf("%d answers lost: %v, %d pending", lost, err, len(c.Pending()))
			}
		}
		if got, err := s.Load(t.Context(), c.Key); err != nil || got.Version != c.Version || got.Events != 4 {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("all answers to a create", func(t *testing.T) {
		t.Parallel()
		wire := &shake{match: batches}
		s, _ := azure(t, wire)
		create(t, s, newCorrelation()) // makes the tables
		wire.loseAnswer.Store(100)
		c := newCorrelation()
		if err := s.Create(t.Context(), c, []byte("{}")); !fault.Is(err, fault.Unreachable) || c.Version != "" {
			t.Errorf("%v, version %q", err, c.Version)
		}
		wire.loseAnswer.Store(0)
		if err := s.Create(t.Context(), c, []byte("{}")); !fault.Is(err, fault.Exists) {
			t.Errorf("the caller's repetition: %v", err)
		}
	})
	t.Run("all answers to a save", func(t *testing.T) {
		t.Parallel()
		wire := &shake{match: batches}
		s, _ := azure(t, wire)
		c := create(t, s, newCorrelation())
		c.Note(base, "seen", "")
		wire.loseAnswer.Store(100)
		if err := s.Save(t.Context(), c); !fault.Is(err, fault.Unreachable) || len(c.Pending()) != 1 {
			t.Errorf("%v, %d pending", err, len(c.Pending()))
		}
		wire.loseAnswer.Store(0)
		if err := s.Save(t.Context(), c); !fault.Is(err, fault.Conflict) {
			t.Errorf("the caller's repetition: %v", err)
		}
		got, err := s.Load(t.Context(), c.Key)
		if err != nil || got.Events != 2 {
			t.Errorf("%+v, %v", got, err)
		}
	})
	t.Run("not mistaken for that of somebody else", func(t *testing.T) {
		t.Parallel()
		wire := &shake{match: batches}
		s, _ := azure(t, wire)
		theirs := newCorrelation()
		mine := newCorrelation()
		mine.Key = theirs.Key
		var once sync.Once
		wire.between = func() { once.Do(func() { create(t, s, theirs) }) }
		wire.loseCall.Store(1)
		if err := s.Create(t.Context(), mine, nil); !fault.Is(err, fault.Exists) || mine.Version != "" {
			t.Errorf("create: %v", err)
		}
		mine, err := s.Load(t.Context(), theirs.Key)
		if err != nil {
			t.Fatal(err)
		}
		once = sync.Once{}
		wire.between = func() {
			once.Do(func() {
				theirs.Note(base, "theirs", "")
				if err := s.Save(t.Context(), theirs); err != nil {
					t.Error(err)
				}
			})
		}
		mine.Note(base, "mine", "")
		wire.loseCall.Store(1)
		if err := s.Save(t.Context(), mine); !fault.Is(err, fault.Conflict) || len(mine.Pending()) != 1 {
			t.Errorf("save: %v", err)
		}
	})
}

func TestTablesAndQueueAreMadeByWhoeverComesFirst(t *testing.T) {
	t.Parallel()
	s, q := azure(t, nil)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := errors.Join(s.Create(t.Context(), newCorrelation(), nil), q.Put(t.Context(), "x", 0)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	page, _, err := s.Open(t.Context(), "", 0)
	if err != nil || len(page) != 20 {
		t.Errorf("%d, %v", len(page), err)
	}
}

// TestEachMethodTakesItsNumberOfStorageOperations fixes what a request costs, and so how docs/performance.md counts it.
func TestEachMethodTakesItsNumberOfStorageOperations(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var calls []string
	s, q := azure(t, transport(func(r *http.Request) (*http.Response, error) {
		resp, err := http.DefaultClient.Do(r)
		mu.Lock()
		defer mu.Unlock()
		if resp != nil {
			calls = append(calls, fmt.Sprintf("%s %s %d", r.Method, r.URL.Path, resp.StatusCode))
		}
		return resp, err
	}))
	took := func(what string, want int) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		t.Logf("%-40s %d", what, len(calls))
		if len(calls) != want {
			t.Errorf("%s took %d calls, want %d:\n%s", what, len(calls), want, strings.Join(calls, "\n"))
		}
		calls = nil
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	c := create(t, s, newCorrelation())
	took("the very first Create", 6)
	ok(q.Put(t.Context(), "x", 0))
	took("the very first Put", 3)
	create(t, s, newCorrelation())
	took("Create", 2)
	ok(q.Put(t.Context(), "x", 0))
	took("Put", 1)
	again := newCorrelation()
	again.Key = c.Key
	if err := s.Create(t.Context(), again, nil); !fault.Is(err, fault.Exists) {
		t.Fatal(err)
	}
	took("Create of what exists", 2)
	_, err := s.Load(t.Context(), c.Key)
	ok(err)
	took("Load", 1)
	_, err = s.Callout(t.Context(), c.Key)
	ok(err)
	took("Callout", 1)
	c.Note(base, "seen", "")
	ok(s.Save(t.Context(), c))
	took("Save", 1)
	ok(s.Index(t.Context(), c))
	took("Index", 1)
	ok(s.Postpone(t.Context(), c.Key, base))
	took("Postpone", 1)
	_, _, err = s.Due(t.Context(), base.Add(time.Hour), "", 200)
	ok(err)
	took("Due", 1)
	_, _, err = s.Open(t.Context(), "", 200)
	ok(err)
	took("Open", 1)
	_, err = s.Timeline(t.Context(), c.Key)
	ok(err)
	took("Timeline", 1)
	_, err = s.Stages(t.Context(), c.Key.Request)
	ok(err)
	took("Stages", 1)
	ok(c.Move(correlation.Expired, base, "", ""))
	ok(s.Save(t.Context(), c))
	took("Save", 1)
	ok(s.Index(t.Context(), c))
	took("Index of what is settled", 2)
	_, _, err = s.Ended(t.Context(), base, "", 200)
	ok(err)
	took("Ended", 1)
	if err := s.Create(t.Context(), again, nil); !fault.Is(err, fault.Exists) {
		t.Fatal(err)
	}
	took("Create of what had ended", 4)
	ok(s.Unlist(t.Context(), c.Key))
	took("Unlist", 1)
	mark, err := s.Mark(t.Context())
	ok(err)
	took("Mark", 1)
	for range 2 {
		ok(s.SaveMark(t.Context(), &mark))
		took("SaveMark", 1)
	}
	ok(s.KeepUnreadable(t.Context(), workflow.Unreadable{ID: "x"}))
	took("KeepUnreadable", 1)
	_, err = s.Unreadable(t.Context())
	ok(err)
	took("Unreadable", 1)
	ok(s.ForgetUnreadable(t.Context(), "x"))
	took("ForgetUnreadable", 1)
	for _, want := range []int{1, 0} {
		n, _, _, err := s.Purge(t.Context(), base.Add(24*time.Hour), 10)
		ok(err)
		if n != want {
			t.Errorf("purged %d", n)
		}
		took(fmt.Sprintf("Purge of %d", want), 1+4*want)
	}
	_, err = q.Poison(t.Context(), 10)
	ok(err)
	took("Poison without a queue", 1)
	ok(q.DropPoison(t.Context(), workflow.Poison{ID: "x", Receipt: "x"}))
	took("DropPoison", 1)
}

func TestAnIdentitySendsItsTokenToTheAccount(t *testing.T) {
	t.Parallel()
	var seen []string
	cred := &credential{}
	s, q, err := storage.NewAzure(storage.Settings{
		AccountName: "contosostore", Credential: cred, Prefix: "test",
		Transport: transport(func(r *http.Request) (*http.Response, error) {
			seen = append(seen, r.Method+" "+r.URL.Scheme+"://"+r.URL.Host+r.URL.EscapedPath())
			if got := r.Header.Get("Authorization"); got != "Bearer the-token" {
				t.Errorf("authorization %q", got)
			}
			if !slices.ContainsFunc(slices.Collect(maps.Keys(r.Header)), func(h string) bool { return strings.EqualFold(h, "x-ms-version") }) {
				t.Error("no x-ms-version, without which tokens are not taken")
			}
			h := http.Header{"X-Ms-Error-Code": {"ResourceNotFound"}}
			return &http.Response{StatusCode: 404, Header: h, Body: io.NopCloser(&bytes.Buffer{}), Request: r}, nil
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	key := correlation.Key{Request: "7d1f0a52-6c1e-4e0b-9a3c-0d8f5f2b7a11", Stage: "c0a6e2d4-52f7-4a9e-8f0e-1b6f9d3c2e77"}
	if _, err := s.Load(t.Context(), key); !fault.Is(err, fault.NotFound) {
		t.Error(err)
	}
	_ = q.Queues().Delete(t.Context(), "test-advance", "id", "receipt")
	want := []string{
		"GET https://contosostore.table.core.windows.net/testcorrelations(PartitionKey='" + key.Request + "',RowKey='" + key.Stage + "')",
		"DELETE https://contosostore.queue.core.windows.net/test-advance/messages/id",
	}
	if !slices.Equal(seen, want) {
		t.Errorf("called\n%s\nwant\n%s", strings.Join(seen, "\n"), strings.Join(want, "\n"))
	}
	if n := cred.asked.Load(); n != 1 || !slices.Equal(cred.scopes, []string{"https://storage.azure.com/.default"}) {
		t.Errorf("asked %d times for %v", n, cred.scopes)
	}
}

func TestATokenGoesOverHTTPToThisMachineOnly(t *testing.T) {
	t.Parallel()
	var tokens []string
	s, q := answering(t, func(w http.ResponseWriter, r *http.Request) {
		tokens = append(tokens, r.Header.Get("Authorization"))
		if !strings.HasPrefix(r.URL.Path, "/account/test") {
			t.Errorf("called %s", r.URL.Path)
		}
		w.Header().Set("x-ms-error-code", "InternalError")
		w.WriteHeader(500)
	})
	_, _ = s.Load(t.Context(), newCorrelation().Key)
	_ = q.Put(t.Context(), "x", 0)
	if !slices.Equal(tokens, []string{"Bearer the-token", "Bearer the-token"}) {
		t.Errorf("sent %q", tokens)
	}
	for _, uri := range []string{"http://contosostore.table.core.windows.net", "http://10.0.0.4/x", "ftp://127.0.0.1", "https://user@host", "https://h/?sig=x", "x"} {
		for setting, set := range map[string]storage.Settings{
			"AzureWebJobsStorage__tableServiceUri": {TableServiceURI: uri, QueueServiceURI: "https://a.queue.core.windows.net"},
			"AzureWebJobsStorage__queueServiceUri": {TableServiceURI: "https://a.table.core.windows.net", QueueServiceURI: uri},
		} {
			set.Prefix, set.Credential = "test", &credential{}
			_, _, err := storage.NewAzure(set)
			if !fault.Is(err, fault.Misconfigured) || !strings.Contains(err.Error(), setting) || !strings.Contains(err.Error(), uri) {
				t.Errorf("%s: %v", uri, err)
			}
		}
	}
}

func TestAnIdentityWithoutATokenIsUnauthorized(t *testing.T) {
	t.Parallel()
	s, q, err := storage.NewAzure(storage.Settings{AccountName: "contosostore", Credential: &credential{err: errors.New("no identity here")}, Prefix: "test"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Load(t.Context(), newCorrelation().Key)
	for _, err := range []error{err, q.Put(t.Context(), "x", 0), s.Create(t.Context(), newCorrelation(), nil)} {
		if !fault.Is(err, fault.Unauthorized) || !strings.Contains(err.Error(), "no identity here") || fault.Advice(err) == "" {
			t.Errorf("%v", err)
		}
	}
}
