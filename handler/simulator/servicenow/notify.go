package servicenow

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sendTimeout is how long an asynchronous send waits at most.
const sendTimeout = 30 * time.Second

// Body is what a notification says.
type Body string

// The bodies a notification can have.
const (
	// CompanionBody is that of the companion app: table, sys_id, number, state, correlation_id.
	CompanionBody Body = "companion"
	// TutorialBody is the three columns of Microsoft's tutorial.
	TutorialBody Body = "tutorial"
	// ResumeBody is the REST message of Microsoft's tutorial as it is printed there, for a set-up that only changed the URL.
	ResumeBody Body = "resume"
	// MinimalBody is table and sys_id.
	MinimalBody Body = "minimal"
)

// Notification is a rule that calls a URL when a ticket with a correlation id closes: when it becomes inactive, or an
// incident is resolved. It is sent asynchronously, after the change.
type Notification struct {
	// URL is called by POST; ${AccessPackageAssignmentRequestId}, ${Stage} and ${StageInstanceId} stand for the tutorial's columns.
	URL    string
	Header http.Header
	Body   Body // default CompanionBody
	// Tables limits the rule to records of these tables; empty is every task.
	Tables []string
	// EveryUpdate notifies of each later change of a closed ticket again, as the tutorial's trigger does.
	EveryUpdate bool
	// HMACKey, in base64, signs as the companion app does: X-Ticketbridge-Timestamp is the time of sending in seconds since 1970, and X-Ticketbridge-Signature
	// the base64 of HMAC-SHA256 over "<timestamp>.<body>", as GlideCertificateEncryption.generateMac makes it of that key.
	HMACKey string
	// Token, when set, gives the bearer token to send, as an OAuth profile does.
	Token func(context.Context) (string, error)
	// Retries is how often a send is repeated that was not answered 2xx; ServiceNow itself never does.
	Retries    int
	RetryDelay time.Duration
	// Client sends; default a client with no connection kept.
	Client *http.Client
}

// Misdelivery is what happens to one notification.
type Misdelivery struct {
	Lose   bool          // never sent
	Copies int           // sent this many times more
	Delay  time.Duration // sent later
}

// Sent is a notification that was sent, or lost.
type Sent struct {
	At                                       time.Time
	URL, Table, SysID, Number, CorrelationID string
	Body                                     []byte
	Attempt                                  int // from 1
	Status                                   int // 0 without an answer
	Err                                      error
}

type notifier struct {
	mu      sync.Mutex
	rules   []Notification
	client  *http.Client
	pending int
	changed chan struct{} // closed and replaced when pending falls
	plan    []Misdelivery
	held    bool
	waiting []job
	log     []Sent
}

type job struct {
	rule Notification
	sent Sent
	by   Misdelivery
}

func (n *notifier) init(rules []Notification) {
	n.rules = slices.Clone(rules)
	n.changed = make(chan struct{})
	n.client = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
}

// SetNotifications replaces the rules that notify.
func (i *Instance) SetNotifications(rules ...Notification) {
	i.notifier.mu.Lock()
	defer i.notifier.mu.Unlock()
	i.notifier.rules = slices.Clone(rules)
}

// MisdeliverNext says what happens to the next notifications, one after the other.
func (i *Instance) MisdeliverNext(plan ...Misdelivery) {
	i.notifier.mu.Lock()
	defer i.notifier.mu.Unlock()
	i.notifier.plan = append(i.notifier.plan, plan...)
}

// HoldNotifications keeps notifications back until [Instance.ReleaseNotifications].
func (i *Instance) HoldNotifications() {
	i.notifier.mu.Lock()
	defer i.notifier.mu.Unlock()
	i.notifier.held = true
}

// ReleaseNotifications sends what was kept back, one at a time, the last first when reverse is set.
func (i *Instance) ReleaseNotifications(reverse bool) {
	n := &i.notifier
	n.mu.Lock()
	jobs := n.waiting
	n.waiting, n.held = nil, false
	n.mu.Unlock()
	if reverse {
		slices.Reverse(jobs)
	}
	go func() {
		for _, j := range jobs {
			n.deliver(j)
		}
	}()
}

// AwaitNotifications waits until every notification was sent, and answered or given up, or lost. Those kept back count.
func (i *Instance) AwaitNotifications(ctx context.Context) error {
	n := &i.notifier
	for {
		n.mu.Lock()
		pending, changed := n.pending, n.changed
		n.mu.Unlock()
		if pending == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %d notifications: %w", pending, ctx.Err())
		}
	}
}

// Notifications lists what was sent and lost, in the order in which it was answered, given up or lost.
func (i *Instance) Notifications() []Sent {
	i.notifier.mu.Lock()
	defer i.notifier.mu.Unlock()
	return slices.Clone(i.notifier.log)
}

// notifyIfClosed sends what the rules ask for when this change closed the ticket. The instance's lock is held.
func (i *Instance) notifyIfClosed(rec *record, before map[string]string, wasActive, inserting bool) {
	if inserting || !rec.closed() {
		return
	}
	f := rec.fields
	justClosed := wasActive && (!rec.active() || f["state"] != before["state"])
	if f["correlation_id"] == "" && f["u_stageinstanceid"] == "" {
		return
	}
	n := &i.notifier
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, rule := range n.rules {
		if !justClosed && !rule.EveryUpdate || len(rule.Tables) > 0 && !slices.ContainsFunc(rule.Tables, rec.table.is) {
			continue
		}
		j := job{rule: rule, sent: Sent{
			URL: tutorialURL(rule.URL, f), Table: rec.table.name, SysID: rec.id(), Number: f["number"], CorrelationID: f["correlation_id"],
			Body: rule.body(rec),
		}}
		if len(n.plan) > 0 {
			j.by, n.plan = n.plan[0], n.plan[1:]
		}
		n.pending++
		if n.held {
			n.waiting = append(n.waiting, j)
		} else {
			go n.deliver(j)
		}
	}
}

func tutorialURL(template string, f map[string]string) string {
	return strings.NewReplacer(
		"${AccessPackageAssignmentRequestId}", url.PathEscape(f["u_accesspackageassignmentrequestid"]),
		"${Stage}", url.PathEscape(f["u_accesspackageassignmentstage"]),
		"${StageInstanceId}", url.PathEscape(f["u_stageinstanceid"]),
	).Replace(template)
}

func (rule Notification) body(rec *record) []byte {
	f := rec.fields
	var body any
	switch rule.Body {
	case TutorialBody:
		body = map[string]string{
			"AccessPackageAssignmentRequestId": f["u_accesspackageassignmentrequestid"],
			"AccessPackageAssignmentStage":     f["u_accesspackageassignmentstage"],
			"StageInstanceId":                  f["u_stageinstanceid"],
		}
	case ResumeBody:
		body = map[string]any{
			"data": map[string]string{
				"@odata.type":                        "#microsoft.graph.accessPackageAssignmentRequestCallbackData",
				"customExtensionStageInstanceDetail": "Resuming-Assignment for user",
				"customExtensionStageInstanceId":     f["u_stageinstanceid"],
				"stage":                              f["u_accesspackageassignmentstage"],
			},
			"source": "ServiceNow",
			"type":   "microsoft.graph.accessPackageCustomExtensionStage." + f["u_accesspackageassignmentstage"],
		}
	case MinimalBody:
		body = map[string]string{"table": rec.table.name, "sys_id": rec.id()}
	default:
		body = map[string]string{"table": rec.table.name, "sys_id": rec.id(), "number": f["number"], "state": f["state"], "correlation_id": f["correlation_id"]}
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // strings always marshal
	}
	return text
}

// deliver sends one notification as its plan says.
func (n *notifier) deliver(j job) {
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.pending--
		close(n.changed)
		n.changed = make(chan struct{})
	}()
	if j.by.Lose {
		j.sent.Err = fmt.Errorf("lost on request")
		n.record(j.sent)
		return
	}
	time.Sleep(j.by.Delay)
	for range 1 + j.by.Copies {
		for attempt := 1; ; attempt++ {
			j.sent.Attempt = attempt
			j.sent.Status, j.sent.Err = n.send(j)
			n.record(j.sent)
			if j.sent.Status/100 == 2 || attempt > j.rule.Retries {
				break
			}
			time.Sleep(j.rule.RetryDelay)
		}
	}
}

func (n *notifier) record(s Sent) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s.At = time.Now()
	n.log = append(n.log, s)
}

func (n *notifier) send(j job) (status int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), sendTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, j.sent.URL, bytes.NewReader(j.sent.Body))
	if err != nil {
		return 0, fmt.Errorf("notifying: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "ServiceNow/1.0")
	for name, values := range j.rule.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if j.rule.HMACKey != "" {
		key, err := base64.StdEncoding.DecodeString(j.rule.HMACKey)
		if err != nil {
			return 0, fmt.Errorf("notifying: the signing key is not base64: %w", err)
		}
		stamp := strconv.FormatInt(time.Now().Unix(), 10)
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(stamp + "."))
		mac.Write(j.sent.Body)
		req.Header.Set("X-Ticketbridge-Timestamp", stamp)
		req.Header.Set("X-Ticketbridge-Signature", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	if j.rule.Token != nil {
		token, err := j.rule.Token(ctx)
		if err != nil {
			return 0, fmt.Errorf("notifying: getting a token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	client := n.client
	if j.rule.Client != nil {
		client = j.rule.Client
	}
	answer, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("notifying: %w", err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 1<<20))
	return answer.StatusCode, nil
}
