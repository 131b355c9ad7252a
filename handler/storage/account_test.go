package storage

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
)

type transport func(*http.Request) (*http.Response, error)

func (f transport) Do(req *http.Request) (*http.Response, error) { return f(req) }

// addresses returns the addresses that a storage with the connection string calls.
func addresses(t *testing.T, connection string) (tables, queues string, err error) {
	t.Helper()
	var seen []string
	s, q, err := NewAzure(Settings{
		ConnectionString: connection, Prefix: "p", Retry: policy.RetryOptions{MaxRetries: -1},
		Transport: transport(func(r *http.Request) (*http.Response, error) {
			auth, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
			u := *r.URL
			u.Path, _, _ = strings.Cut(u.Path, "(")
			u.RawPath = ""
			seen = append(seen, strings.TrimSpace(auth+" "+u.String()))
			return &http.Response{StatusCode: 500, Body: io.NopCloser(strings.NewReader("")), Request: r}, nil
		}),
	})
	if err != nil {
		return "", "", err
	}
	_, _ = s.Load(context.Background(), correlation.Key{Request: "r", Stage: "s"})
	_ = q.Queues().Create(context.Background(), "q")
	if len(seen) != 2 {
		t.Fatalf("called %q", seen)
	}
	return seen[0], seen[1], nil
}

func TestAConnectionStringLeadsToItsAccount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ connection, tables, queues string }{
		{
			"DefaultEndpointsProtocol=https;AccountName=abc;AccountKey=a2V5;EndpointSuffix=core.windows.net",
			"SharedKeyLite https://abc.table.core.windows.net/pcorrelations", "SharedKey https://abc.queue.core.windows.net/q",
		},
		{
			"AccountName=abc; AccountKey=a2V5==;",
			"", "",
		},
		{
			" accountname=abc ; ACCOUNTKEY=a2V5a2V5 ;;",
			"SharedKeyLite https://abc.table.core.windows.net/pcorrelations", "SharedKey https://abc.queue.core.windows.net/q",
		},
		{
			"AccountName=abc;AccountKey=a2V5;EndpointSuffix=core.chinacloudapi.cn",
			"SharedKeyLite https://abc.table.core.chinacloudapi.cn/pcorrelations", "SharedKey https://abc.queue.core.chinacloudapi.cn/q",
		},
		{
			"UseDevelopmentStorage=true",
			"SharedKeyLite http://127.0.0.1:10002/devstoreaccount1/pcorrelations", "SharedKey http://127.0.0.1:10001/devstoreaccount1/q",
		},
		{
			"UseDevelopmentStorage=True;DevelopmentStorageProxyUri=http://azurite/",
			"SharedKeyLite http://azurite:10002/devstoreaccount1/pcorrelations", "SharedKey http://azurite:10001/devstoreaccount1/q",
		},
		{
			"AccountName=devstoreaccount1;AccountKey=a2V5;TableEndpoint=http://127.0.0.1:21002/devstoreaccount1/;QueueEndpoint=http://127.0.0.1:21001/devstoreaccount1",
			"SharedKeyLite http://127.0.0.1:21002/devstoreaccount1/pcorrelations", "SharedKey http://127.0.0.1:21001/devstoreaccount1/q",
		},
		{
			"BlobEndpoint=https://b/;QueueEndpoint=https://q.example/;TableEndpoint=https://t.example/;SharedAccessSignature=sv=1&sig=a%3D",
			"https://t.example/pcorrelations?sig=a%3D&sv=1", "https://q.example/q?sig=a%3D&sv=1",
		},
		{
			"AccountName=abc;SharedAccessSignature=?sv=1&sig=x",
			"https://abc.table.core.windows.net/pcorrelations?sig=x&sv=1", "https://abc.queue.core.windows.net/q?sig=x&sv=1",
		},
	} {
		tables, queues, err := addresses(t, c.connection)
		if c.tables == "" {
			if !fault.Is(err, fault.Misconfigured) {
				t.Errorf("%s: %v", c.connection, err)
			}
			continue
		}
		if err != nil || tables != c.tables || queues != c.queues {
			t.Errorf("%s\nleads to %s, %s, %v", c.connection, tables, queues, err)
		}
	}
}

func TestAConnectionStringThatIsNoneIsNamedAndNotShown(t *testing.T) {
	t.Parallel()
	for _, connection := range []string{
		"secret", "AccountName=secret", "AccountKey=c2VjcmV0", "AccountName=a;AccountKey=!secret", "UseDevelopmentStorage=false;x=secret",
		"AccountName=a;AccountKey=c2VjcmV0;TableEndpoint=secret", "AccountName=a;AccountKey=c2VjcmV0;QueueEndpoint=ftp://secret", "SharedAccessSignature=secret",
		"AccountName=a;SharedAccessSignature=secret;DefaultEndpointsProtocol=http", ";", "=;=",
	} {
		_, _, err := NewAzure(Settings{ConnectionString: connection, Prefix: "p"})
		if !fault.Is(err, fault.Misconfigured) || !strings.Contains(err.Error(), "AzureWebJobsStorage") || strings.Contains(err.Error(), "ecret") || strings.Contains(err.Error(), "c2Vj") {
			t.Errorf("%s: %v", connection, err)
		}
	}
	for _, s := range []Settings{{}, {AccountName: "abc"}, {AccountName: "A_B", Credential: identity{}}, {TableServiceURI: "https://t", Credential: identity{}}} {
		s.Prefix = "p"
		if _, _, err := NewAzure(s); !fault.Is(err, fault.Misconfigured) || !strings.Contains(err.Error(), "AzureWebJobsStorage") {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func TestAPrefixGivesLegalNamesOrIsRefused(t *testing.T) {
	t.Parallel()
	for _, p := range []string{"ticketbridge", "a", "t1", strings.Repeat("x", 48)} {
		n, err := NamesFor(p)
		if err != nil {
			t.Errorf("%s: %v", p, err)
		}
		for _, name := range []string{n.Correlations, n.Index, n.Queue, n.Queue + "-poison"} {
			if len(name) < 3 || len(name) > 63 || !strings.HasPrefix(name, p) {
				t.Errorf("%q is not a legal name", name)
			}
		}
		if err := checkQueueName(n.Queue); err != nil {
			t.Error(err)
		}
	}
	for _, p := range []string{"", "A", "Ticket", "1a", "a-b", "a_b", "ä", " a", strings.Repeat("x", 49)} {
		for _, open := range []func() error{
			func() error { _, _, err := NewEmbedded(p); return err },
			func() error {
				_, _, err := NewAzure(Settings{ConnectionString: "UseDevelopmentStorage=true", Prefix: p})
				return err
			},
		} {
			err := open()
			if !fault.Is(err, fault.Misconfigured) || !strings.Contains(err.Error(), "STORAGE_PREFIX") || (p != "" && !strings.Contains(err.Error(), fmt.Sprintf("%q", p))) ||
				!strings.Contains(err.Error(), "lower-case") {
				t.Errorf("%q: %v", p, err)
			}
		}
	}
}

func FuzzAConnectionString(f *testing.F) {
	f.Add("DefaultEndpointsProtocol=https;AccountName=abc;AccountKey=a2V5;EndpointSuffix=core.windows.net")
	f.Add("UseDevelopmentStorage=true")
	f.Add("TableEndpoint=https://t/;QueueEndpoint=https://q;SharedAccessSignature=sig=x")
	f.Fuzz(func(t *testing.T, s string) {
		_, _, err := NewAzure(Settings{ConnectionString: s, Prefix: "p"})
		if err != nil && !fault.Is(err, fault.Misconfigured) {
			t.Error(err)
		}
	})
}

func FuzzTheAnswerToATransaction(f *testing.F) {
	f.Add([]byte("--b\r\n\r\n--c\r\n\r\nHTTP/1.1 204 No Content\r\nETag: W/\"1\"\r\n\r\n\r\n--c--\r\n--b--"))
	f.Add([]byte("HTTP/1.1 409 Conflict\r\n\r\n{\"odata.error\":{\"code\":\"EntityAlreadyExists\"}}"))
	f.Fuzz(func(t *testing.T, body []byte) {
		etags, err := parseBatch(body, http.Header{})
		if err == nil && len(etags) == 0 {
			t.Error("neither an answer nor an error")
		}
		if err != nil && fault.ReasonOf(faultOf("x", err)) == "" {
			t.Error("an error without a reason")
		}
	})
}
