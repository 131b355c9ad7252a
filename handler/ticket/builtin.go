package ticket

import (
	"slices"
	"strings"
	"text/template"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
)

// BuiltIn returns the rules that apply without a tickets file: one sc_request for each callout, requested for the assignment's target, with a text
// for its stage and request type.
//
// A grant whose work was not done is denied. Everything else whose work was not done is held for a person, because there is nothing to deny that
// would be true: at the stage "granted" the access is there already, a removal that did not happen must be told to Entra neither as done nor as
// taken back, and of a stage that nobody knows nobody knows what denying it does. Held requests stay paused, and fail at their deadline.
func BuiltIn() *Rules {
	target := func(c *callout.Callout) callout.Person { return c.Assigned.Target }
	sc := func(short, intro string) []entry {
		return []entry{{name: "ticket", table: "sc_request", fields: columns(short, intro), users: map[string]func(*callout.Callout) callout.Person{"requested_for": target}}}
	}
	removing := (*callout.Callout).Removing
	stage := func(stages ...string) func(*callout.Callout) bool {
		return func(c *callout.Callout) bool { return slices.Contains(stages, c.Stage) }
	}
	both := func(a, b func(*callout.Callout) bool) func(*callout.Callout) bool {
		return func(c *callout.Callout) bool { return a(c) && b(c) }
	}
	typed := func(ending string) func(*callout.Callout) bool {
		return func(c *callout.Callout) bool { return strings.HasSuffix(c.RequestType, ending) }
	}
	always := func(*callout.Callout) bool { return true }

	return &Rules{
		rules: []rule{
			{name: "expires-in-14-days", matches: stage(callout.StageFourteenDays), onRejected: OnRejectedHold, tickets: sc(
				"Access ends in 14 days: {{.Package}} for {{.Who}}",
				"The assignment below ends in 14 days, unless it is extended in Microsoft Entra. Nothing has been taken away yet.")},
			{name: "expires-in-1-day", matches: stage(callout.StageOneDay), onRejected: OnRejectedHold, tickets: sc(
				"Access ends in one day: {{.Package}} for {{.Who}}",
				"The assignment below ends in one day, unless it is extended in Microsoft Entra. Get ready to take the access away by then.")},
			{name: "removal", matches: stage(callout.StageRemoved), onRejected: OnRejectedHold, tickets: sc(
				"Remove access: {{.Package}} from {{.Who}}",
				"The assignment below has ended in Microsoft Entra. Take away what was set up for it by hand.")},
			{name: "removal-requested", matches: both(removing, stage(callout.StageCreated, callout.StageApproved, callout.StageGranted)), onRejected: OnRejectedHold, tickets: sc(
				"Remove access: {{.Package}} from {{.Who}}",
				"The removal of the assignment below was asked for in Microsoft Entra. Take away what was set up for it by hand.")},

			{name: "update-requested", matches: both(stage(callout.StageCreated), typed("Update")), onRejected: OnRejectedDeny, tickets: sc(
				"Check change of access: {{.Package}} for {{.Who}}",
				"A change of the assignment below was asked for, and is not yet approved. Check what has to be checked before; nothing is to be set up yet.")},
			{name: "extension-requested", matches: both(stage(callout.StageCreated), typed("Extend")), onRejected: OnRejectedDeny, tickets: sc(
				"Check extension of access: {{.Package}} for {{.Who}}",
				"An extension of the assignment below was asked for, and is not yet approved. Check what has to be checked before; nothing is to be set up yet.")},
			{name: "request", matches: stage(callout.StageCreated), onRejected: OnRejectedDeny, tickets: sc(
				"Check access request: {{.Package}} for {{.Who}}",
				"The access below was asked for, and is not yet approved. Check what has to be checked before; nothing is to be set up yet.")},

			{name: "update", matches: both(stage(callout.StageApproved), typed("Update")), onRejected: OnRejectedDeny, tickets: sc(
				"Change access: {{.Package}} for {{.Who}}",
				"A change of the assignment below is approved. Bring what was set up for it by hand in line with the request.")},
			{name: "extension", matches: both(stage(callout.StageApproved), typed("Extend")), onRejected: OnRejectedDeny, tickets: sc(
				"Extend access: {{.Package}} for {{.Who}}",
				"An extension of the assignment below is approved. Extend what was set up for it by hand.")},
			{name: "grant", matches: stage(callout.StageApproved), onRejected: OnRejectedDeny, tickets: sc(
				"Give access: {{.Package}} to {{.Who}}",
				"The access below is approved. Set up by hand what it needs.")},

			{name: "granted", matches: stage(callout.StageGranted), onRejected: OnRejectedHold, tickets: sc(
				"Access given: {{.Package}} to {{.Who}}",
				"Microsoft Entra has {{if eq .Family \"update\"}}changed{{else if eq .Family \"extend\"}}extended{{else}}given{{end}} the access below. Do by hand what remains to be done.")},

			{name: "default", matches: always, onRejected: OnRejectedHold, tickets: sc(
				"Access request: {{.Package}} for {{.Who}}",
				"Microsoft Entra asks for work on the request below, at a stage for which no text is written (see Stage). Look at the request in Entra before you act.")},
		},
		meanings: tables,
		others:   task,
	}
}

// columns are the fields of the built-in rules' tickets. The last three are those that Microsoft's tutorial adds to the request tables;
// ServiceNow drops what a table does not have.
func columns(short, intro string) map[string]*template.Template {
	out := map[string]*template.Template{}
	for column, text := range map[string]string{
		"short_description":                  short,
		"description":                        intro + body,
		"correlation_display":                "ticketbridge",
		"u_accesspackageassignmentrequestid": "{{.RequestID}}",
		"u_accesspackageassignmentstage":     "{{.Stage}}",
		"u_stageinstanceid":                  "{{.StageInstanceID}}",
	} {
		out[column] = template.Must(template.New(column).Option("missingkey=error").Parse(text))
	}
	return out
}

// body follows the first sentence of each description.
const body = `

{{with .For}}For: {{.}}
{{end}}{{with .Organization}}Organization: {{.}}
{{end}}Access package: {{.Package}}{{with .PackageText}} ({{.}}){{end}}
{{with .Catalog}}Catalog: {{.}}
{{end}}{{with .Policy}}Policy: {{.}}
{{end}}{{with .By}}Requested by: {{.}}{{if $.OnBehalf}} (on behalf){{end}}
{{end}}{{with .RequestType}}Request type: {{.}}
{{end}}{{with .Stage}}Stage: {{.}}
{{end}}{{with .Answers}}
Answers:
{{.}}
{{end}}
{{with .Deadline}}Deadline: {{.}}. Microsoft Entra then stops waiting, and the request fails.
{{end}}{{.Effect}}

Access package assignment request: {{.RequestID}}
Stage instance: {{.StageInstanceID}}`

// What the values of ServiceNow's own tables mean, as they come. approval=rejected is a no to whatever was asked for; beside a state that
// says "done" it is a contradiction that a person has to look at.
var (
	rejectedApproval = veto{column: "approval", values: []string{"rejected"}, done: correlation.Unknown, rejects: true}

	taskStates = map[string]correlation.Outcome{
		"-5": correlation.Pending, "1": correlation.Pending, "2": correlation.Pending,
		"3": correlation.Fulfilled, "4": correlation.Rejected, "7": correlation.Rejected,
	}

	// task is what the base table's states mean. Tables that extend it may give the numbers another meaning (3 is "On Hold" of an incident), so that of a
	// table nobody mapped "done" is believed only of a record that is no longer active.
	task = meaning{decide: []reading{{column: "state", means: taskStates}}, veto: []veto{rejectedApproval}, inactive: true}

	tables = map[string]meaning{
		"incident": {
			decide: []reading{{column: "state", means: map[string]correlation.Outcome{
				"1": correlation.Pending, "2": correlation.Pending, "3": correlation.Pending, "4": correlation.Pending, "5": correlation.Pending,
				"6": correlation.Fulfilled, "7": correlation.Fulfilled, "8": correlation.Rejected,
			}}},
			// Resolved only says that nobody works on it any more; the resolution code says when there was no solution.
			veto: []veto{rejectedApproval, {column: "close_code", values: []string{"not solved*", "no resolution provided"}, done: correlation.Rejected}},
		},
		"sc_request": {
			decide: []reading{
				{column: "request_state", means: map[string]correlation.Outcome{
					"draft": correlation.Pending, "submitted": correlation.Pending, "requested": correlation.Pending, "in_process": correlation.Pending,
					"closed_complete": correlation.Fulfilled, "closed_incomplete": correlation.Rejected,
					"closed_cancelled": correlation.Rejected, "closed_rejected": correlation.Rejected,
				}},
				{column: "state", means: taskStates},
			},
			veto: []veto{rejectedApproval, {column: "state", values: []string{"4", "7"}, done: correlation.Unknown}},
		},
		"sc_req_item": {decide: []reading{{column: "state", means: taskStates}}, veto: []veto{rejectedApproval}},
		"sc_task":     {decide: []reading{{column: "state", means: taskStates}}, veto: []veto{rejectedApproval}},
		"change_request": {
			decide: []reading{{column: "state", means: map[string]correlation.Outcome{
				"-5": correlation.Pending, "-4": correlation.Pending, "-3": correlation.Pending, "-2": correlation.Pending,
				"-1": correlation.Pending, "0": correlation.Pending, "3": correlation.Fulfilled, "4": correlation.Rejected,
			}}},
			// A change is closed whether or not it succeeded.
			veto: []veto{rejectedApproval, {column: "close_code", values: []string{"unsuccessful"}, done: correlation.Rejected}},
			need: []needed{{"close_code", []string{"successful", "successful_issues", "unsuccessful"}}},
		},
	}
)
