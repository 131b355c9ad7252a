// Package connect sets up Entra's side: the custom extensions of a catalog, the stages of its policies, the role of the function's identity, and the
// application for whose tokens the function asks. It reads the tenant first and makes a plan in words; applying the plan can be interrupted at any
// call and run again, and what it made can be undone. It is the only writer of what it made, and touches nothing else.
package connect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/entra/graphapi"
	"ticketbridge/handler/fault"
)

// DefaultName is what connect calls things unless it is told otherwise.
const DefaultName = "ticketbridge"

// The app roles of the application.
const (
	RoleSend  = "Callout.Send" // to send callouts
	RoleClose = "Ticket.Close" // to say that a ticket closed
)

// A Wish is what shall be. Its zero values are not defaults: the command's flags are.
type Wish struct {
	Name     string   // begins the names of the extensions
	Catalog  string   // id or name
	Policies []string // ids or names
	Packages []string // ids or names: all their policies
	Stages   []Stage

	// Exactly one of these is where callouts go.
	Relay    string // the ARM resource id of a Consumption Logic App
	Function string // the function's URL, with ?code=… where it wants a key

	RelayURL string        // of the relay's trigger, when an application signs in
	Wait     time.Duration // how long a request waits for its ticket: 5 minutes to 14 days
	Timeout  time.Duration // of the callout: 200 ms to 2 s
	Retries  int           // of the callout: 0 or 1
	Replace  bool          // other extensions at the stages may be replaced

	Identity      string   // object id of the function's identity; "" gives no role
	App           string   // name of the application to make; "" makes none
	Audience      string   // of an application that exists; with a Function and without an App
	RelayIdentity string   // object id of the relay's identity, which gets RoleSend; "" for none
	CloseCallers  []string // object ids of service principals that get RoleClose
}

// A Stage is where a policy shall call out.
type Stage struct {
	Name  string // as Graph spells it
	Waits bool   // the request waits until its ticket is closed
}

// stages are those of Graph, in their order, with short names; waits is what is sensible at each.
var stages = []struct {
	short, name string
	waits       bool
}{
	{"created", "assignmentRequestCreated", true},
	{"approved", "assignmentRequestApproved", true},
	{"granted", "assignmentRequestGranted", false},               // access is there already
	{"removed", "assignmentRequestRemoved", false},               // it shall not stay because a ticket does
	{"14-days", "assignmentFourteenDaysBeforeExpiration", false}, // never can
	{"1-day", "assignmentOneDayBeforeExpiration", false},
}

// ParseStage reads a stage as a person writes it: a short name or Graph's, with =wait or =continue where the usual is not meant.
func ParseStage(text string) (Stage, error) {
	name, how, given := strings.Cut(strings.TrimSpace(text), "=")
	for _, s := range stages {
		if !strings.EqualFold(name, s.short) && !strings.EqualFold(name, s.name) {
			continue
		}
		out := Stage{Name: s.name, Waits: s.waits}
		switch {
		case !given:
		case strings.EqualFold(how, "continue"):
			out.Waits = false
		case strings.EqualFold(how, "wait") && expiring(s.name):
			return Stage{}, misconfigured("stage", fmt.Sprintf("holds %q: nothing can wait before an expiration, Entra only tells of it", text))
		case strings.EqualFold(how, "wait"):
			out.Waits = true
		default:
			return Stage{}, misconfigured("stage", fmt.Sprintf("holds %q; after = it must say wait or continue", text))
		}
		return out, nil
	}
	var names []string
	for _, s := range stages {
		names = append(names, s.short)
	}
	return Stage{}, misconfigured("stage", fmt.Sprintf("holds %q; it must hold one of %s, or Graph's name of it", text, strings.Join(names, ", ")))
}

func expiring(stage string) bool {
	return stage == "assignmentFourteenDaysBeforeExpiration" || stage == "assignmentOneDayBeforeExpiration"
}

func misconfigured(flag, detail string) error {
	return &fault.Error{Op: "connect", Reason: fault.Misconfigured, Field: "-" + flag, Detail: detail}
}

// relayID is an ARM resource id of a Consumption Logic App.
var relayID = regexp.MustCompile(`(?i)^/subscriptions/([0-9a-f-]{36})/resourceGroups/([^/]+)/providers/Microsoft\.Logic/workflows/([^/]+)$`)

// maxRelayID is the longest resource id that the portal takes for a custom extension.
const maxRelayID = 150

// Check says what is wrong with a wish, all of it.
func (w Wish) Check() error {
	var errs []error
	wrong := func(flag, format string, args ...any) {
		errs = append(errs, misconfigured(flag, fmt.Sprintf(format, args...)))
	}
	if strings.TrimSpace(w.Name) == "" {
		wrong("name", "is empty; it must hold what the custom extensions shall be called")
	}
	if strings.TrimSpace(w.Catalog) == "" {
		wrong("catalog", "is missing; it must hold the id or the name of the catalog")
	}
	if len(w.Policies)+len(w.Packages) == 0 {
		wrong("policy", "is missing, and -package is; name the policies that shall call out, or access packages for all their policies")
	}
	switch {
	case w.Relay == "" && w.Function == "":
		wrong("relay", "is missing, and -function is; it must hold the resource id of the Logic App that relays the callouts (or -function the function's URL, where Graph lets entitlement management call it directly)")
	case w.Relay != "" && w.Function != "":
		wrong("relay", "is given, and -function is; callouts go to one of them")
	case w.Relay != "" && !relayID.MatchString(w.Relay):
		wrong("relay", "holds %q; it must hold a resource id as in /subscriptions/<id>/resourceGroups/<group>/providers/Microsoft.Logic/workflows/<name>", w.Relay)
	case len(w.Relay) > maxRelayID:
		wrong("relay", "holds a resource id of %d characters; custom extensions take at most %d: give the Logic App or its resource group a shorter name", len(w.Relay), maxRelayID)
	case w.Function != "":
		u, err := url.Parse(w.Function)
		if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && !local(u) {
			wrong("function", "does not hold a https URL as in https://<app>.azurewebsites.net/api/callout?code=<function key>") // may hold a key
		}
		if w.App == "" && w.Audience == "" {
			wrong("audience", "is missing, and no application is made; direct callouts want to know whose tokens to bring: api://<application id>")
		}
	}
	if w.RelayURL != "" && (w.Relay == "" || !strings.HasPrefix(w.RelayURL, "https://")) {
		wrong("relay-url", "must hold the https URL of the Logic App's trigger, beside -relay")
	}
	if w.Wait < 5*time.Minute || w.Wait > 14*24*time.Hour {
		wrong("wait", "holds %s; Entra waits from 5 minutes (PT5M) to 14 days (P14D)", isoDuration(w.Wait))
	}
	if w.Timeout < 200*time.Millisecond || w.Timeout > 2*time.Second {
		wrong("timeout", "holds %s; Entra waits for an answer from 200ms to 2s", w.Timeout)
	}
	if w.Retries < 0 || w.Retries > 1 {
		wrong("retries", "holds %d; Entra repeats a callout 0 or 1 times", w.Retries)
	}
	ids := map[string][]string{"identity": {w.Identity}, "relay-identity": {w.RelayIdentity}, "close-caller": w.CloseCallers}
	for _, flag := range []string{"identity", "relay-identity", "close-caller"} {
		for _, id := range ids[flag] {
			if _, ok := correlation.GUID(id); id != "" && !ok {
				wrong(flag, "holds %q; it must hold the object id (a GUID) of a service principal", id)
			}
		}
	}
	if w.App == "" && (w.RelayIdentity != "" || len(w.CloseCallers) > 0) {
		wrong("relay-identity", "or -close-caller is given, and no application is made: app roles belong to one")
	}
	if w.App != "" && w.Audience != "" {
		wrong("audience", "is given, and -app is; the application exists, or is made")
	}
	seen := map[string]bool{}
	for _, s := range w.Stages {
		if seen[s.Name] {
			wrong("stage", "names %s twice", s.Name)
		}
		seen[s.Name] = true
	}
	if len(w.Stages) == 0 {
		wrong("stage", "is missing")
	}
	return errors.Join(errs...)
}

func local(u *url.URL) bool {
	return u.Scheme == "http" && slices.Contains([]string{"127.0.0.1", "localhost", "::1"}, u.Hostname())
}

// Graph is what connect asks of Microsoft Graph; *graphapi.Client is one. Its errors are graphapi's.
type Graph interface {
	Get(ctx context.Context, op, path string, query url.Values, into any) error
	List(ctx context.Context, op, path string, query url.Values) ([]json.RawMessage, error)
	Post(ctx context.Context, op, path string, body, into any) error
	Put(ctx context.Context, op, path string, body, into any) error
	Patch(ctx context.Context, op, path string, body, into any) error
	Delete(ctx context.Context, op, path string) error
}

var _ Graph = (*graphapi.Client)(nil)

// A Connector reads and changes one tenant.
type Connector struct {
	Graph Graph
	// Transport is for the connection test of a Function; nil is Go's default.
	Transport http.RoundTripper
}

const management = "/identityGovernance/entitlementManagement"

// roleManager is the role definition "Access package assignment manager".
const roleManager = "e2182095-804a-4656-ae11-64734e9b7ae5"

// The kinds of custom extensions.
const (
	requestKind    = "#microsoft.graph.accessPackageAssignmentRequestWorkflowExtension"
	assignmentKind = "#microsoft.graph.accessPackageAssignmentWorkflowExtension"
)

// Ids of the application's roles: they are its own, and the same in every tenant.
var appRoles = []struct{ id, value, name, description string }{
	{"5b8c0d0e-7a52-4c3b-9d3a-2f6a41f3c0a1", RoleSend, "Send callouts", "May send callouts of entitlement management to the ticket bridge."},
	{"5b8c0d0e-7a52-4c3b-9d3a-2f6a41f3c0a2", RoleClose, "Report closed tickets", "May tell the ticket bridge that a ticket has closed."},
}

func roleID(value string) string {
	for _, r := range appRoles {
		if r.value == value {
			return r.id
		}
	}
	return ""
}
