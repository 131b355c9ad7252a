package ticketbridge_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ticketbridge"
	"ticketbridge/handler/setup"
)

// A binding of a function.json, with every property that ours have.
type binding struct {
	Type      string `json:"type"`
	Direction string `json:"direction"`
	Name      string `json:"name"`

	AuthLevel string   `json:"authLevel,omitempty"`
	Methods   []string `json:"methods,omitempty"`
	Route     string   `json:"route,omitempty"`

	QueueName  string `json:"queueName,omitempty"`
	Connection string `json:"connection,omitempty"`

	Schedule     string `json:"schedule,omitempty"`
	RunOnStartup *bool  `json:"runOnStartup,omitempty"`
	UseMonitor   *bool  `json:"useMonitor,omitempty"`
}

// An HTTP function gets the request itself only with exactly one httpTrigger and one http out binding. A handler asked for by anybody, by a
// queue and by a timer knows its data by the binding's name.
func TestTheFunctionsHaveTheirRoutesKeysAndBindings(t *testing.T) {
	t.Parallel()
	no, yes := false, true
	http := func(route, authLevel string, methods ...string) []binding {
		return []binding{
			{Type: "httpTrigger", Direction: "in", Name: "request", AuthLevel: authLevel, Methods: methods, Route: route},
			{Type: "http", Direction: "out", Name: "response"},
		}
	}
	want := map[string][]binding{
		"callout":      http("callout", "function", "post"),
		"ticketclosed": http("ticket-closed", "function", "post"),
		"console":      http("console/{*path}", "anonymous", "get", "post"),
		"advance": {{
			Type: "queueTrigger", Direction: "in", Name: "msg", QueueName: "%STORAGE_PREFIX%-advance", Connection: "AzureWebJobsStorage",
		}},
		"sweep": {{
			Type: "timerTrigger", Direction: "in", Name: "timer", Schedule: "%SWEEP_SCHEDULE%", RunOnStartup: &no, UseMonitor: &yes,
		}},
	}
	got := map[string][]binding{}
	for _, name := range functionFiles(t) {
		var f struct {
			Bindings []binding `json:"bindings"`
		}
		decode(t, name, &f)
		got[path.Base(path.Dir(name))] = f.Bindings
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("the functions (- as they should be, + as they are):\n%s", d)
	}
}

type hostFile struct {
	Version         string `json:"version"`
	FunctionTimeout string `json:"functionTimeout"`
	CustomHandler   struct {
		Description struct {
			DefaultExecutablePath string `json:"defaultExecutablePath"`
		} `json:"description"`
		EnableProxyingHTTPRequest bool `json:"enableProxyingHttpRequest"`
	} `json:"customHandler"` // "http" and "port" must not be there: routes exclude queues and timers, a port forces sequential restarts
	ExtensionBundle struct {
		ID      string `json:"id"`
		Version string `json:"version"`
	} `json:"extensionBundle"`
	Extensions struct {
		Queues struct {
			MaxPollingInterval string `json:"maxPollingInterval"`
			VisibilityTimeout  string `json:"visibilityTimeout"`
			BatchSize          int    `json:"batchSize"`
			NewBatchThreshold  int    `json:"newBatchThreshold"`
			MaxDequeueCount    int    `json:"maxDequeueCount"`
			MessageEncoding    string `json:"messageEncoding"`
		} `json:"queues"`
	} `json:"extensions"`
	Logging json.RawMessage `json:"logging"`
}

func TestTheHostStartsTheHandlerAndHandsItTheRequestsThemselves(t *testing.T) {
	t.Parallel()
	var h hostFile
	decode(t, "host.json", &h)
	// Only the zip entry of exactly this name gets its run bit.
	if got := h.CustomHandler.Description.DefaultExecutablePath; got != "handler" {
		t.Errorf("the host starts %q, not the built handler", got)
	}
	if !h.CustomHandler.EnableProxyingHTTPRequest {
		t.Error("the host does not proxy: chunked requests would be refused")
	}
	if h.Version != "2.0" || h.FunctionTimeout != "00:02:00" {
		t.Errorf("version %q and functionTimeout %q, not 2.0 and two minutes", h.Version, h.FunctionTimeout)
	}
	if h.ExtensionBundle.ID != "Microsoft.Azure.Functions.ExtensionBundle" || h.ExtensionBundle.Version != "[4.*, 5.0.0)" {
		t.Errorf("extension bundle %+v has no queue trigger", h.ExtensionBundle)
	}
}

func TestAFailedMessageWaitsBeforeItIsDeliveredAgain(t *testing.T) {
	t.Parallel()
	var h hostFile
	decode(t, "host.json", &h)
	q := h.Extensions.Queues
	wait, err := time.Parse(time.TimeOnly, q.VisibilityTimeout)
	if err != nil {
		t.Fatal(err)
	}
	// The host's default is none: five deliveries in 0.6 s and then poison.
	if wait.Second() < 5 || wait.Minute() != 0 || wait.Hour() != 0 || q.MaxDequeueCount != 5 {
		t.Errorf("%d deliveries %s apart; there should be 5, at least five seconds apart", q.MaxDequeueCount, q.VisibilityTimeout)
	}
	if q.MessageEncoding != "base64" || q.MaxPollingInterval != "00:00:02" {
		t.Errorf("messages as %q every %s, not base64 every two seconds", q.MessageEncoding, q.MaxPollingInterval)
	}
	// More at once than a ServiceNow instance has connections would only wait there.
	if most := q.BatchSize + q.NewBatchThreshold; q.BatchSize < 1 || most > 20 {
		t.Errorf("up to %d messages at once", most)
	}
}

func TestTheExampleSettingsStartTheHandlerAndFillTheBindings(t *testing.T) {
	t.Parallel()
	settings := exampleSettings(t)
	if settings["FUNCTIONS_WORKER_RUNTIME"] != "custom" || settings["AzureWebJobsStorage"] != "UseDevelopmentStorage=true" {
		t.Error("the example is not for a custom handler on Azurite")
	}
	// The host puts a function in error whose %SETTING% is not set, and runs on without it.
	placeholder := regexp.MustCompile(`%([^%]+)%`)
	for _, name := range functionFiles(t) {
		for _, m := range placeholder.FindAllStringSubmatch(read(t, name), -1) {
			if settings[m[1]] == "" {
				t.Errorf("%s names the setting %s, which the example does not set", name, m[1])
			}
		}
	}
	environ := []string{"FUNCTIONS_CUSTOMHANDLER_PORT=7072"}
	for name, value := range settings {
		environ = append(environ, name+"="+value)
	}
	if _, err := setup.Read(environ); err != nil {
		t.Errorf("the handler refuses the example: %v", err)
	}
}

// exampleSettings returns the Values of local.settings.json.example.
func exampleSettings(t *testing.T) map[string]string {
	t.Helper()
	var file struct {
		IsEncrypted bool
		Values      map[string]string
		Host        struct{ LocalHTTPPort int }
	}
	text, err := os.ReadFile("local.settings.json.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := strict(string(text), &file); err != nil {
		t.Fatal(err)
	}
	return file.Values
}

// functionFiles returns the paths of all that is below functions/, each a function.json one folder deep: the host looks nowhere else.
func functionFiles(t *testing.T) []string {
	t.Helper()
	var names []string
	err := fs.WalkDir(ticketbridge.App, "functions", func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if path.Base(name) != "function.json" || strings.Count(name, "/") != 2 {
			t.Errorf("%s does not belong into the app", name)
		}
	}
	slices.Sort(names)
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := fs.ReadFile(ticketbridge.App, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// decode reads a file of the app; a property that v does not have is an error.
func decode(t *testing.T, name string, v any) {
	t.Helper()
	if err := strict(read(t, name), v); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func strict(text string, v any) error {
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(v)
}
