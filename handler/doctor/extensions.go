package doctor

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/fault"
)

// extensions looks at how each extension that calls us is set up, and at the policies that use it.
func (x *examination) extensions(_ context.Context, r *report) {
	if !x.found.read() {
		r.skip("", "not checked, because catalog is not right")
		return
	}
	ours, unread := 0, 0
	for _, c := range x.found.catalogs {
		if c.unread != nil {
			unread++
			if c.roleless {
				r.skip(c.name(), "not checked, because catalog is not right")
			} else if fault.Is(c.unread, fault.Forbidden) {
				r.warn(c.name(), "Run this as an owner or a reader of the catalog, or let the identity read it (the role Catalog reader).", "its extensions or its policies may not be read")
			} else {
				x.graphFault(r, c.name(), c.unread, "its extensions or its policies cannot be read", "Try again.")
			}
			continue
		}
		for _, e := range c.extensions {
			if !x.ours(e) {
				continue
			}
			ours++
			of := c.name() + ": " + e.Name
			before := len(r.lines)
			x.endpoint(r, of, c, e)
			x.patience(r, of, c, e)
			uses := x.uses(r, of, c, e)
			if len(r.lines) == before {
				r.ok(of, "%s, within %d ms, %s; called at %s", x.way(e), e.timeout(), e.waits(), strings.Join(uses, ", "))
			}
		}
	}
	if ours == 0 && unread == 0 {
		r.fail("", "Set one up: handler connect; or by hand in the Microsoft Entra admin center, under Identity Governance, Catalogs, Custom extensions.",
			"no extension of the catalogs calls a function of ours: nobody will ever be told of a request")
	}
}

func (c *catalog) name() string { return cmp.Or(c.Name, c.ID) }

// ours says whether an extension calls a function like ours, or a Logic App of which nobody knows whom it calls.
func (x *examination) ours(e *extension) bool {
	if !e.relayed() {
		return calls(e.Endpoint.URL)
	}
	v := x.found.relays[strings.ToLower(e.workflowID())]
	return v == nil || v.workflow == nil || len(v.forwards()) > 0
}

func (x *examination) way(e *extension) string {
	if e.relayed() {
		return "through the Logic App " + e.Endpoint.Workflow
	}
	return "directly to " + host(e.Endpoint.URL)
}

// timeout is how long entitlement management waits for the answer: one second when the extension does not say.
func (e *extension) timeout() int {
	if e.Client.Timeout == nil {
		return 1000
	}
	return *e.Client.Timeout
}

func (e *extension) retries() int {
	if e.Client.Retries == nil {
		return 0
	}
	return *e.Client.Retries
}

// wait is how long a request waits for a callback; 0 when it does not, or nobody understands it.
func (e *extension) wait() time.Duration {
	if e.Callback == nil {
		return 0
	}
	d, _ := callout.ParseDuration(cmp.Or(e.Callback.Timeout, e.Callback.Duration))
	return d
}

func (e *extension) waits() string {
	if e.Callback == nil {
		return "without waiting"
	}
	return "waiting " + cmp.Or(e.Callback.Timeout, e.Callback.Duration, "as long as Entra does")
}

// change is the command that changes an extension: what its body leaves out stays as it is.
func (x *examination) change(c *catalog, e *extension, body string) string {
	return fmt.Sprintf(`az rest --method PUT --url %s%s/catalogs/%s/customWorkflowExtensions/%s --body '{"@odata.type":"%s",%s}'`, x.GraphURL, management, c.ID, e.ID, e.Type, body)
}

// endpoint looks at whom the extension calls, and how it proves itself.
func (x *examination) endpoint(r *report, of string, c *catalog, e *extension) {
	auth := strings.TrimPrefix(e.Authentication.Type, "#microsoft.graph.")
	if e.relayed() {
		if auth != "azureAdPopTokenAuthentication" {
			r.fail(of, x.change(c, e, `"authenticationConfiguration":{"@odata.type":"#microsoft.graph.azureAdPopTokenAuthentication"}`),
				"it calls a Logic App, and does not prove itself with a proof-of-possession token (%s)", cmp.Or(auth, "none"))
		}
		return
	}
	u, _ := url.Parse(e.Endpoint.URL)
	redirect := fmt.Sprintf(`"endpointConfiguration":{"@odata.type":"#microsoft.graph.httpRequestEndpoint","targetUrl":"https://%s%s?code=<key of the function callout>"}`, cmp.Or(x.app(), u.Host), calloutPath)
	if app := x.app(); app != "" && !strings.EqualFold(u.Host, app) {
		r.warn(of, x.change(c, e, redirect), "it calls %s, and the app is %s", u.Host, app)
	}
	if !u.Query().Has("code") {
		r.fail(of, x.change(c, e, redirect), "its URL has no function key (?code=…), and the host answers 401")
	}
	if x.CalloutAudience == "" {
		return
	}
	token := fmt.Sprintf(`"authenticationConfiguration":{"@odata.type":"#microsoft.graph.azureAdTokenAuthentication","resourceId":"%s"}`, x.CalloutAudience)
	switch {
	case auth != "azureAdTokenAuthentication":
		r.fail(of, x.change(c, e, token), "it sends no token (%s), and the callout asks for one (CALLOUT_AUDIENCE)", cmp.Or(auth, "none"))
	case bare(e.Authentication.Resource) != bare(x.CalloutAudience):
		r.fail(of, x.change(c, e, token), "its token is for %s, and CALLOUT_AUDIENCE holds %s", e.Authentication.Resource, x.CalloutAudience)
	}
}

// Below this Entra may give up before an answer of ours that is in time by our own measure, and somebody may be too late for the ticket.
const (
	shortAnswer = 1000 // ms
	shortWait   = 24 * time.Hour
)

func (x *examination) patience(r *report, of string, c *catalog, e *extension) {
	if ms := e.timeout(); ms < shortAnswer {
		r.warn(of, x.change(c, e, fmt.Sprintf(`"clientConfiguration":{"timeoutInMilliseconds":2000,"maximumRetries":%d}`, e.retries())),
			"Entra waits %d ms for the answer; the app answers within 800 ms, the network not included", ms)
	}
	if e.retries() < 1 {
		r.warn(of, x.change(c, e, fmt.Sprintf(`"clientConfiguration":{"timeoutInMilliseconds":%d,"maximumRetries":1}`, e.timeout())),
			"Entra does not repeat a callout that nobody took: it is lost")
	}
	if wait := e.wait(); e.Callback != nil && wait < shortWait {
		r.warn(of, x.change(c, e, callback), "requests wait %s for their tickets, and then fail", cmp.Or(e.Callback.Timeout, e.Callback.Duration, "no time that is known"))
	}
}

const callback = `"callbackConfiguration":{"@odata.type":"#microsoft.graph.customExtensionCallbackConfiguration","timeoutDuration":"P14D"}`

var knownStages = map[string]bool{
	callout.StageCreated: true, callout.StageApproved: true, callout.StageGranted: true, callout.StageRemoved: true, callout.StageFourteenDays: true, callout.StageOneDay: true,
	"assignmentRequestDeterminingApprovalRequirements": true,
}

// uses looks at the policies that call the extension, and returns where they do.
func (x *examination) uses(r *report, of string, c *catalog, e *extension) []string {
	var out []string
	var unwaited []string
	for _, p := range c.policies {
		for _, s := range p.Stages {
			if !strings.EqualFold(s.Extension.ID, e.ID) {
				continue
			}
			where := fmt.Sprintf("%s of %s (%s)", s.Stage, p.packageName, p.Name)
			out = append(out, where)
			if !knownStages[s.Stage] {
				r.warn(of, "See what the rules make of it: handler tickets render <a callout of that stage>.", "it is called at the stage %s, which is not known here: the rules treat it as any other", where)
			}
			if e.Callback == nil && (s.Stage == callout.StageApproved || s.Stage == callout.StageCreated) {
				unwaited = append(unwaited, where)
			}
			if e.Callback != nil {
				x.rule(r, of, where, c, p, s.Stage, e.wait())
			}
		}
	}
	if len(unwaited) > 0 {
		r.warn(of, x.change(c, e, callback), "it has no callback configuration: at %s access is granted before anybody has done the work", strings.Join(unwaited, ", "))
	}
	if len(out) == 0 {
		r.warn(of, "Name it in a policy: handler connect; or in the Microsoft Entra admin center, in the access package's policy, under Custom extensions.", "no policy calls it")
	}
	return out
}

// rule looks whether the rules open a ticket for a request that waits for one.
func (x *examination) rule(r *report, of, where string, c *catalog, p policy, stage string, wait time.Duration) {
	if x.Rules == nil {
		return
	}
	kind := "userAdd"
	if stage == callout.StageRemoved {
		kind = "userRemove"
	}
	in := &callout.Callout{
		Stage: stage, RequestType: kind, Waits: true, Wait: wait, Catalog: callout.Named{ID: c.ID, Name: c.Name},
		Package: callout.Named{ID: p.packageID, Name: p.packageName}, Assigned: callout.Assignment{Policy: callout.Named{ID: p.ID, Name: p.Name}},
	}
	file := cmp.Or(x.RulesFile, "tickets.yaml")
	if looked := x.Rules.Explain(in); len(looked) > 0 && looked[len(looked)-1].WhyNot != "" {
		r.fail(of, "Add a rule for it to "+file+".", "at %s requests wait, and no rule matches: they would fail", where)
		return
	}
	choice, err := x.Rules.Choose(in, time.Now().Add(wait))
	if err == nil && len(choice.Drafts) == 0 {
		r.warn(of, "Give the rule "+choice.Rule+" a ticket in "+file+", or take the extension off that stage of the policy.",
			"at %s requests wait for a ticket, and the rule %s opens none: they would fail at their deadline", where, choice.Rule)
	}
}
