package servicenow

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/misbehave"
	standin "ticketbridge/handler/simulator/servicenow"
)

// dial makes a stand-in on a real address, below a base path, and a client that reaches it with its own transport.
func dial(t *testing.T, cfg Config) *site {
	t.Helper()
	instance := instanceOf(t, func(c *standin.Config) { c.BasePath = "/itsm" })
	url, stop, err := instance.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	cfg.URL = url + "/"
	c := client(t, cfg)
	t.Cleanup(c.transport.(*http.Transport).CloseIdleConnections)
	return &site{instance, c, t}
}

func TestOverTheWireBelowABasePath(t *testing.T) {
	t.Parallel()
	s := dial(t, clientCredentials)
	rec := s.create()
	if found, err := s.Find(t.Context(), "sc_request", correlationID); err != nil || len(found) != 1 || found[0].SysID != rec.SysID {
		t.Errorf("found %v, %v", found, err)
	}
	if err := s.Note(t.Context(), "sc_request", rec.SysID, "x"); err != nil {
		t.Error(err)
	}
	if id, found, err := s.FindUser(t.Context(), "alice@example.com", ""); err != nil || !found || id != aliceID {
		t.Errorf("found %q, %v", id, err)
	}
	if !strings.HasPrefix(rec.Link, s.base.String()+"/nav_to.do?") || !strings.HasSuffix(s.base.Path, "/itsm") {
		t.Errorf("link %s", rec.Link)
	}
	s.Faults.Add(misbehave.Fault{Match: "POST " + requests, Times: 1, LoseAnswer: true})
	_, err := s.Create(t.Context(), draft, otherID)
	failed(t, err, fault.Unclear)
	s.Faults.Add(misbehave.Fault{Match: "POST " + requests, Times: 1, DropCall: true})
	_, err = s.Create(t.Context(), draft, otherID+"/2")
	failed(t, err, fault.Unclear)
	if s.Creations()[otherID] != 1 || s.Creations()[otherID+"/2"] != 0 || s.Calls()["POST "+requests] != 3 {
		t.Errorf("created %v in %v", s.Creations(), s.Calls())
	}
}

func TestWithoutAConnectionItIsCertainThatNothingHappened(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := listener.Addr().String()
	_ = listener.Close()
	_, err = client(t, Config{URL: "http://" + closed}).Create(t.Context(), draft, correlationID)
	failed(t, err, fault.Unreachable, "cannot connect to "+closed, "refused", "SERVICENOW_URL")

	_, err = client(t, Config{URL: "https://name.invalid"}).Create(t.Context(), draft, correlationID)
	failed(t, err, fault.Unreachable, "cannot connect to name.invalid")

	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("called in spite of its certificate") }))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	_, err = client(t, Config{URL: secure.URL}).Create(t.Context(), draft, correlationID)
	failed(t, err, fault.Unreachable, "certificate")

	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("called without TLS") }))
	t.Cleanup(plain.Close)
	_, err = client(t, Config{URL: strings.Replace(plain.URL, "http:", "https:", 1)}).Create(t.Context(), draft, correlationID)
	failed(t, err, fault.Unreachable, "cannot connect")

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = dial(t, Config{}).Create(ended, draft, correlationID)
	failed(t, err, fault.Unreachable)
}

// silent takes connections and never says a word.
func silent(t *testing.T) (url string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return "https://" + listener.Addr().String()
}

func TestATimeoutIsUnclearOnlyWhenSomethingWasSent(t *testing.T) {
	t.Parallel()
	// The handshake of TLS never ends: no connection, nothing sent.
	_, err := client(t, Config{URL: silent(t), Timeout: 50 * time.Millisecond}).Create(t.Context(), draft, correlationID)
	failed(t, err, fault.Unreachable, "no connection in time")

	s := dial(t, Config{Timeout: time.Second})
	release := make(chan struct{})
	s.Faults.Add(misbehave.Fault{Match: "POST", AfterHandle: func() { <-release }})
	t.Cleanup(func() { close(release) })
	_, err = s.Create(t.Context(), draft, correlationID)
	failed(t, err, fault.Unclear, "no answer in time")
	if s.Creations()[correlationID] != 1 {
		t.Error("it was not created")
	}

	// Whoever stops while the call is under way does not know either.
	ctx, cancel := context.WithCancel(t.Context())
	s.Faults.Clear()
	s.Faults.Add(misbehave.Fault{Match: "POST", AfterHandle: func() { cancel(); <-release }})
	_, err = s.Create(ctx, draft, otherID)
	failed(t, err, fault.Unclear, "given up")
}

// Whether a 404 is ServiceNow's own stands in its body: half of one does not end a ticket.
func TestHalfAnAnswerDecidesNothing(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 201, 302, 400, 401, 403, 404, 429, 500} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			w.Header().Set("Retry-After", "3")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"error":{"message":"No Record found"`)
		}))
		c := client(t, Config{URL: srv.URL})
		_, err := c.Read(t.Context(), "sc_request", aliceID)
		failed(t, err, fault.Unreachable, "cut")
		_, err = c.Create(t.Context(), draft, correlationID)
		if e := failed(t, err, fault.Unclear, "cut"); e.Status != status || e.After != 3*time.Second {
			t.Errorf("%d: %+v", status, e)
		}
		srv.Close()
	}
}

func TestAnAnswerIsReadUpToItsLimit(t *testing.T) {
	t.Parallel()
	var extra atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		const before, behind = `{"result":[],"x":"`, `"}`
		_, _ = io.WriteString(w, before+strings.Repeat("x", maxAnswer-len(before)-len(behind)+int(extra.Load()))+behind)
	}))
	t.Cleanup(srv.Close)
	c := client(t, Config{URL: srv.URL})
	if _, err := c.Find(t.Context(), "sc_request", correlationID); err != nil {
		t.Errorf("an answer of the largest size: %v", err)
	}
	extra.Store(1)
	_, err := c.Find(t.Context(), "sc_request", correlationID)
	failed(t, err, fault.Unreachable, "larger than 1048576 bytes")
}

func TestNoMoreCallsAreUnderWayThanAllowed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var under, most, all atomic.Int32
		c := client(t, Config{Concurrency: 3, HTTPClient: &http.Client{Transport: misbehave.Transport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			all.Add(1)
			most.Store(max(most.Load(), under.Add(1)))
			defer under.Add(-1)
			time.Sleep(time.Second)
			says(200, `{"result":[]}`)(w, r)
		}))}})
		began := time.Now()
		var wg sync.WaitGroup
		for range 9 {
			wg.Go(func() {
				if _, err := c.Find(t.Context(), "sc_request", correlationID); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most.Load() != 3 || all.Load() != 9 || time.Since(began) != 3*time.Second {
			t.Errorf("at most %d at once, %d in all, in %s", most.Load(), all.Load(), time.Since(began))
		}
	})
}

// A create that begins with little time left ends as unclear.
func TestACallThatWaitedHalfItsTimeForItsTurnIsNotSent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, nil)
		c := client(t, Config{Concurrency: 1, HTTPClient: s.Instance.Client()})
		s.Faults.Add(misbehave.Fault{Match: "GET", Delay: time.Hour})
		first := make(chan error, 1)
		go func() {
			_, err := c.Find(t.Context(), "sc_request", correlationID)
			first <- err
		}()
		synctest.Wait()
		began := time.Now()
		_, err := c.Create(t.Context(), draft, correlationID)
		failed(t, err, fault.Unreachable, "not sent: 1 calls to ServiceNow are under way")
		if d := time.Since(began); d != 15*time.Second || s.Creations()[correlationID] != 0 {
			t.Errorf("given up after %s, %v", d, s.Creations())
		}
		failed(t, <-first, fault.Unreachable)
		if _, err := c.Create(t.Context(), draft, correlationID); err != nil {
			t.Errorf("the place was not given back: %v", err)
		}
	})
}

// TestMain lets the test of the proxy run this program again with another environment, since Go reads that once in a process.
func TestMain(m *testing.M) {
	if url := os.Getenv("SERVICENOW_TEST_FIND"); url != "" {
		c, err := New(Config{URL: url, Auth: AuthBasic, Username: "bridge", Password: password, Timeout: 20 * time.Second})
		if err == nil {
			_, err = c.Find(context.Background(), "sc_request", correlationID)
		}
		_, _ = fmt.Fprintln(os.Stdout, err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestTheProxyOfTheEnvironmentIsUsed(t *testing.T) {
	t.Parallel()
	instance := httptest.NewTLSServer(instanceOf(t, nil))
	t.Cleanup(instance.Close)
	certificate := filepath.Join(t.TempDir(), "instance.pem")
	if err := os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: instance.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Pointer[string]
	refuse := atomic.Bool{}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := r.Method + " " + r.Host + " " + r.Header.Get("Proxy-Authorization")
		asked.Store(&line)
		if refuse.Load() {
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		to, err := net.Dial("tcp", instance.Listener.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer to.Close()
		from, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer from.Close()
		_, _ = io.WriteString(from, "HTTP/1.1 200 Connected\r\n\r\n")
		go func() { _, _ = io.Copy(to, buffered) }()
		_, _ = io.Copy(from, to)
	}))
	t.Cleanup(proxy.Close)
	at := func(host, proxyURL, noProxy string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), os.Args[0]) //nolint:gosec // this very program
		cmd.Env = append(os.Environ(), "SERVICENOW_TEST_FIND=https://"+host, "HTTPS_PROXY="+proxyURL, "NO_PROXY="+noProxy, "SSL_CERT_FILE="+certificate)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatal(err, string(out))
		}
		return string(out)
	}
	find := func(proxyURL string) string { t.Helper(); return at("example.com", proxyURL, "") }
	withPassword := strings.Replace(proxy.URL, "http://", "http://us:hush%40@", 1)
	if out := find(withPassword); out != "<nil>\n" {
		t.Errorf("through the proxy: %s", out)
	}
	if line := asked.Load(); line == nil || *line != "CONNECT example.com:443 Basic dXM6aHVzaEA=" {
		t.Errorf("the proxy was asked %v", line)
	}
	if out := at("name.invalid", withPassword, "other.invalid,.invalid"); !strings.Contains(out, "unreachable: cannot connect to name.invalid") || *asked.Load() != "CONNECT example.com:443 Basic dXM6aHVzaEA=" {
		t.Errorf("past the proxy: %s, and the proxy was asked %s", out, *asked.Load())
	}
	refuse.Store(true)
	if out := find(withPassword); !strings.Contains(out, "unreachable: cannot connect to example.com: Proxy Authentication Required") || strings.Contains(out, "hush") {
		t.Errorf("refused by the proxy: %s", out)
	}
	if out := find("http://us:hush@127.0.0.1:1"); !strings.Contains(out, "unreachable: cannot connect to example.com: proxyconnect") || strings.Contains(out, "hush") {
		t.Errorf("without the proxy: %s", out)
	}
	if out := find("http://us:hush@%zz"); strings.Contains(out, "hush") || strings.Contains(out, "<nil>") {
		t.Errorf("a proxy that cannot be one: %s", out)
	}
}
