package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An app is what the host found in the app's folder.
type app struct {
	executable string
	arguments  []string
	proxying   bool
	forwarding bool
	prefix     string        // of the routes
	timeout    time.Duration // 0: none
	queue      queueOptions
	functions  []*function
	broken     error // the host does not run: every call gets 503
}

// queueOptions are extensions.queues of host.json.
type queueOptions struct {
	batch, threshold int
	maxDequeue       int64
	polling          time.Duration
	visibility       time.Duration
	base64           bool
}

// hostJSON is so much of host.json as the host looks at here.
type hostJSON struct {
	Version         string  `json:"version"`
	FunctionTimeout *string `json:"functionTimeout"`
	CustomHandler   *struct {
		Description *struct {
			DefaultExecutablePath string   `json:"defaultExecutablePath"`
			Arguments             []string `json:"arguments"`
		} `json:"description"`
		EnableForwardingHTTPRequest bool `json:"enableForwardingHttpRequest"`
		EnableProxyingHTTPRequest   bool `json:"enableProxyingHttpRequest"`
	} `json:"customHandler"`
	ExtensionBundle *struct{} `json:"extensionBundle"`
	Extensions      struct {
		HTTP struct {
			RoutePrefix *string `json:"routePrefix"`
		} `json:"http"`
		Queues struct {
			MaxPollingInterval string `json:"maxPollingInterval"`
			VisibilityTimeout  string `json:"visibilityTimeout"`
			BatchSize          *int   `json:"batchSize"`
			NewBatchThreshold  *int   `json:"newBatchThreshold"`
			MaxDequeueCount    *int64 `json:"maxDequeueCount"`
			MessageEncoding    string `json:"messageEncoding"`
		} `json:"queues"`
	} `json:"extensions"`
}

// cores is of the recorded machine: it multiplies how many messages are worked on at once.
const cores = 2

var errNoDescription = errors.New("Missing worker Description.") //nolint:staticcheck // the host's words

// readApp reads the app's folder. It always returns an app: what cannot be used says so in broken, and a function in its err.
func readApp(dir fs.FS, settings map[string]string) *app {
	a := &app{prefix: "api", timeout: 30 * time.Minute}
	var h hostJSON
	if err := readJSON(dir, "host.json", &h); err != nil {
		a.broken = fmt.Errorf("host.json: %w", err)
		return a
	}
	switch {
	case h.Version != "2.0":
		a.broken = errors.New("host.json: the version has to be 2.0")
	case h.CustomHandler == nil || h.CustomHandler.Description == nil || h.CustomHandler.Description.DefaultExecutablePath == "":
		a.broken = errNoDescription
	default:
		a.broken = a.configure(h)
	}
	if a.broken == nil {
		a.readFunctions(dir, settings, h.ExtensionBundle != nil)
	}
	return a
}

// configure takes over what host.json says.
func (a *app) configure(h hostJSON) error {
	a.executable, a.arguments = h.CustomHandler.Description.DefaultExecutablePath, h.CustomHandler.Description.Arguments
	a.proxying = h.CustomHandler.EnableProxyingHTTPRequest
	a.forwarding = h.CustomHandler.EnableForwardingHTTPRequest && !a.proxying
	if p := h.Extensions.HTTP.RoutePrefix; p != nil {
		a.prefix = strings.Trim(*p, "/")
	}
	var err error
	if t := h.FunctionTimeout; t != nil {
		if a.timeout, err = timeSpan(*t); *t == "-1" {
			a.timeout, err = 0, nil
		}
		if err != nil {
			return fmt.Errorf("functionTimeout: %w", err)
		}
	}
	q := h.Extensions.Queues
	a.queue = queueOptions{batch: 16, maxDequeue: 5, polling: time.Minute, base64: !strings.EqualFold(q.MessageEncoding, "none")}
	if q.BatchSize != nil {
		a.queue.batch = *q.BatchSize
	}
	a.queue.threshold = a.queue.batch / 2 * cores
	if q.NewBatchThreshold != nil {
		a.queue.threshold = *q.NewBatchThreshold
	}
	if q.MaxDequeueCount != nil {
		a.queue.maxDequeue = *q.MaxDequeueCount
	}
	if a.queue.batch < 1 || a.queue.batch > 32 || a.queue.threshold < 0 || a.queue.maxDequeue < 1 {
		return errors.New("extensions.queues: out of range")
	}
	for _, v := range []struct {
		text string
		to   *time.Duration
	}{{q.MaxPollingInterval, &a.queue.polling}, {q.VisibilityTimeout, &a.queue.visibility}} {
		if v.text == "" {
			continue
		}
		if *v.to, err = timeSpan(v.text); err != nil {
			return fmt.Errorf("extensions.queues: %w", err)
		}
	}
	a.queue.polling = max(a.queue.polling, minPolling)
	return nil
}

// readJSON reads a file as the host does: a byte order mark and unknown members are nothing to it.
func readJSON(dir fs.FS, name string, v any) error {
	b, err := fs.ReadFile(dir, name)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(strings.TrimPrefix(string(b), "\ufeff")), v)
}

// timeSpanPattern is [-][d.]hh:mm[:ss[.fffffff]] of .NET.
var timeSpanPattern = regexp.MustCompile(`^(?:(\d+)\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,7}))?)?$`)

// timeSpan reads a duration as .NET writes it.
func timeSpan(s string) (time.Duration, error) {
	m := timeSpanPattern.FindStringSubmatch(s)
	if m == nil {
		return 0, fmt.Errorf("%q is no duration like 00:05:00", s)
	}
	var n [4]int64 // days, hours, minutes, seconds
	for i := range n {
		n[i], _ = strconv.ParseInt("0"+m[i+1], 10, 32)
	}
	if n[1] > 23 || n[2] > 59 || n[3] > 59 {
		return 0, fmt.Errorf("%q is out of range", s)
	}
	ticks, _ := strconv.ParseInt((m[5] + "0000000")[:7], 10, 64)
	return time.Duration(((n[0]*24+n[1])*60+n[2])*60+n[3])*time.Second + time.Duration(ticks)*100, nil
}

// kind is what calls a function.
type kind int

const (
	httpKind kind = iota
	queueKind
	timerKind
)

// A function is one folder with a function.json.
type function struct {
	name    string
	kind    kind
	binding string // of the trigger
	err     error  // it is in error, and never called

	// Of an HTTP function:
	level   string // anonymous, function or admin
	methods []string
	route   *route
	output  string // the binding of the answer; "" is none

	queue  string // of a queue function
	timer  timerOptions
	config json.RawMessage // function.json, as the list of functions shows it
}

// whole says whether the handler gets the caller's request itself.
func (a *app) whole(f *function) bool {
	return f.kind == httpKind && f.output != "" && (a.proxying || a.forwarding)
}

var validName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,127}$`)

// binding is one of function.json.
type binding struct {
	Type, Direction, Name string
	Route                 *string
	AuthLevel             json.RawMessage
	Methods               []string
	QueueName, Connection string
	Schedule              string
	RunOnStartup          bool
	UseMonitor            *bool
}

func (a *app) readFunctions(dir fs.FS, settings map[string]string, bundle bool) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		a.broken = err
		return
	}
	slices.SortStableFunc(entries, func(x, y fs.DirEntry) int {
		if c := strings.Compare(strings.ToLower(x.Name()), strings.ToLower(y.Name())); c != 0 {
			return c
		}
		return strings.Compare(y.Name(), x.Name()) // recorded: callout before Callout
	})
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		b, err := fs.ReadFile(dir, path.Join(e.Name(), "function.json"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		f := &function{name: e.Name(), err: err}
		if err == nil {
			var disabled bool
			if disabled, f.err = f.read(b, settings, a.prefix, bundle); disabled {
				continue
			}
		}
		a.conflict(f)
		a.functions = append(a.functions, f)
	}
}

// conflict puts a function in error whose route another one has already.
func (a *app) conflict(f *function) {
	if f.route == nil || f.err != nil {
		return
	}
	for _, o := range a.functions {
		if o.route != nil && o.err == nil && strings.EqualFold(o.route.text, f.route.text) {
			f.err = fmt.Errorf("The route specified conflicts with the route defined by function '%s'.", o.name) //nolint:staticcheck // the host's words
		}
	}
}

// notLoadedError is that of a function that the host does not even count.
type notLoadedError struct{ error }

// read reads function.json. Errors are in the host's words, where it was recorded.
func (f *function) read(b []byte, settings map[string]string, prefix string, bundle bool) (disabled bool, err error) {
	var c struct {
		Disabled bool
		Bindings []binding
	}
	if !validName.MatchString(f.name) {
		return false, notLoadedError{fmt.Errorf("'%s' is not a valid function name.", f.name)} //nolint:staticcheck // the host's words
	}
	if err := json.Unmarshal(b, &c); err != nil {
		return false, notLoadedError{err}
	}
	f.config = b
	if len(c.Bindings) == 0 {
		return false, notLoadedError{errors.New("At least one binding must be declared.")} //nolint:staticcheck // the host's words
	}
	if c.Disabled || settings["AzureWebJobs."+f.name+".Disabled"] == "true" || settings["AzureWebJobs."+f.name+".Disabled"] == "1" {
		return true, nil
	}
	var unknown []string
	triggers := 0
	for _, b := range c.Bindings {
		switch {
		case b.Type == "httpTrigger", b.Type == "timerTrigger", b.Type == "queueTrigger" && bundle:
			triggers++
		case b.Type != "http":
			unknown = append(unknown, b.Type)
		}
	}
	if len(unknown) > 0 {
		return false, fmt.Errorf("The binding type(s) '%s' are not registered. Please ensure the type is correct and the binding extension is installed.", //nolint:staticcheck // the host's words
			strings.Join(unknown, ", "))
	}
	if triggers != 1 {
		return false, errors.New("one trigger is needed")
	}
	for _, b := range c.Bindings {
		if err := f.bind(b, settings, prefix); err != nil {
			return false, err
		}
	}
	return false, nil
}

// bind takes one binding.
func (f *function) bind(b binding, settings map[string]string, prefix string) error {
	if b.Type == "http" {
		if f.output = b.Name; f.output == "" {
			f.output = "$return"
		}
		return nil
	}
	f.binding = b.Name
	switch b.Type {
	case "httpTrigger":
		f.kind = httpKind
		level := "function"
		if len(b.AuthLevel) > 0 && (json.Unmarshal(b.AuthLevel, &level) != nil || !slices.Contains([]string{"anonymous", "function", "admin"}, strings.ToLower(level))) {
			return errors.New("Error parsing function.json: Invalid value specified for binding property 'authLevel' of enum type AuthorizationLevel.") //nolint:staticcheck // the host's words
		}
		f.level = strings.ToLower(level)
		for _, m := range b.Methods {
			f.methods = append(f.methods, strings.ToUpper(m))
		}
		text := f.name
		if b.Route != nil && *b.Route != "" {
			text = *b.Route
		}
		var err error
		f.route, err = parseRoute(strings.TrimPrefix(prefix+"/"+text, "/"))
		return err
	case "queueTrigger":
		f.kind = queueKind
		name, err := resolve(b.QueueName, settings)
		f.queue = name
		return f.indexing("Microsoft.Azure.WebJobs.Host", err)
	default:
		f.kind = timerKind
		text, err := resolve(b.Schedule, settings)
		if err != nil {
			return f.indexing("Microsoft.Azure.WebJobs.Host", err)
		}
		f.timer.onStartup = b.RunOnStartup
		f.timer.schedule, err = parseSchedule(text)
		f.timer.monitor = (b.UseMonitor == nil || *b.UseMonitor) && err == nil && f.timer.schedule.minutely(time.Now())
		return f.indexing("Microsoft.Azure.WebJobs.Extensions", err)
	}
}

// indexing says of an error in a binding what the host says.
func (f *function) indexing(source string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("Microsoft.Azure.WebJobs.Host: Error indexing method 'Functions.%s'. %s: %w", f.name, source, err)
}

var settingPattern = regexp.MustCompile(`%[^%]*%`)

// resolve puts app settings in place of their names.
func resolve(s string, settings map[string]string) (string, error) {
	var missing string
	s = settingPattern.ReplaceAllStringFunc(s, func(name string) string {
		v := settings[strings.Trim(name, "%")]
		if v == "" && missing == "" {
			missing = name
		}
		return v
	})
	if missing != "" {
		return "", fmt.Errorf("'%s' does not resolve to a value.", missing) //nolint:staticcheck // the host's words
	}
	return s, nil
}
