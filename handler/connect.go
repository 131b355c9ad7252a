package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/connect"
	"ticketbridge/handler/entra/graphapi"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/setup"
)

// connectCommand works on the tenant in Graph, as the person who signs in; it needs no settings of the function app.
type connectCommand struct {
	output
	Catalog  string   `required:"" placeholder:"NAME" help:"The catalog, by its id or name."`
	Policy   []string `sep:"none" placeholder:"NAME" help:"A policy that shall call out, by its id or name; may be repeated."`
	Package  []string `sep:"none" placeholder:"NAME" help:"An access package whose policies shall all call out, by its id or name; may be repeated."`
	Stage    []string `default:"approved,removed" help:"When: created, approved, granted, removed, 14-days, 1-day (before an assignment expires). A request waits for its ticket when it is created or approved, and at no other stage; =wait or =continue says otherwise, as in removed=wait."`
	Relay    string   `placeholder:"ID" help:"The resource id of the Logic App that relays callouts to the function."`
	RelayURL string   `name:"relay-url" placeholder:"URL" help:"The URL of its trigger: only when an application signs in instead of a person."`
	Function string   `placeholder:"URL" help:"The function's URL, with ?code= and its key: instead of a relay, where Graph lets entitlement management call it directly."`
	TestURL  string   `name:"test-url" placeholder:"URL" help:"Where the function takes callouts, as in https://<app>.azurewebsites.net/api/callout, for a connection test at the end (-function is tested by itself)."`

	Identity      string   `placeholder:"ID" help:"Object id (principal id) of the function's managed identity: gets the role Access package assignment manager of the catalog."`
	RelayIdentity string   `placeholder:"ID" help:"Object id of the relay's managed identity: gets the app role Callout.Send."`
	CloseCaller   []string `placeholder:"ID" help:"Object id of a service principal that reports closed tickets: gets the app role Ticket.Close; may be repeated."`
	App           string   `default:"ticketbridge" placeholder:"NAME" help:"The application for whose tokens the function asks; made when there is none of that name (${default})."`
	NoApp         bool     `help:"No application: the relay sends the function key, or there is one already."`
	Audience      string   `placeholder:"URI" help:"With -no-app and -function: for which application entitlement management brings a token."`

	Wait    string        `default:"P14D" placeholder:"TIME" help:"How long a request waits for its ticket: from PT5M to P14D (${default}, also as 14d or 36h)."`
	Timeout time.Duration `default:"2s" help:"How long Entra waits for an answer to a callout: from 200ms to 2s (${default})."`
	Retries int           `default:"1" help:"How often it repeats a callout: 0 or 1 (${default})."`
	Name    string        `default:"ticketbridge" help:"What the custom extensions are called (${default}; \"… without waiting\" and \"… before expiration\" where they are needed)."`
	Replace bool          `help:"Take the place of other custom extensions at these stages; -undo puts them back."`

	SignIn   string `name:"sign-in" default:"device-code" placeholder:"HOW" help:"device-code or browser: a person signs in; cli: who is signed in with the Azure CLI, whose tokens have no permission for entitlement management in most tenants; environment: AZURE_CLIENT_ID and AZURE_CLIENT_SECRET; managed-identity."`
	ClientID string `name:"client-id" placeholder:"ID" help:"The application with which a person signs in, when not Microsoft Graph Command Line Tools."`
	Tenant   string `placeholder:"ID" help:"The tenant, when not AZURE_TENANT_ID."`

	DryRun bool `help:"Only show the plan."`
	Undo   bool `help:"Remove what connect made for this -catalog, -name and -app, and put back what it replaced."`
	Yes    bool `help:"Do not ask."`
}

// Help is what --help says beside the flags.
func (*connectCommand) Help() string {
	return `Whoever signs in must be Catalog owner of the catalog or Identity Governance Administrator; for a relay also Logic App Contributor on it; for the application Application Administrator or Cloud Application Administrator.

It ends with 0 when all is done or there is nothing to do, and with 1 after an error, or when the plan has a problem. What was done before an error stays: run it again to go on. -undo wants the same -catalog, -name and -app.`
}

// connected is what the command says as JSON.
type connected struct {
	Plan    *connect.Plan    `json:"plan"`
	DryRun  bool             `json:"dryRun,omitempty"`
	Applied *connect.Applied `json:"applied,omitempty"`
	Error   string           `json:"error,omitempty"`
}

func (c *connectCommand) Run(p *program) error {
	wish, err := c.wish()
	if err != nil {
		return err
	}
	settings := setup.ReadRules(p.environ) // the tenant, the cloud; nothing need be set
	sign := connect.SignIn{How: c.SignIn, TenantID: c.Tenant, ClientID: c.ClientID, AuthorityHost: settings.AuthorityHost, Tell: p.stderr}
	if sign.TenantID == "" {
		sign.TenantID = settings.TenantID
	}
	if c.SignIn == connect.ManagedIdentity && sign.ClientID == "" {
		sign.ClientID = settings.ClientID
	}
	credential, err := sign.Credential(wish, c.Undo)
	if err != nil {
		return err
	}
	graph, err := graphapi.New(graphapi.Config{GraphURL: settings.GraphURL, Credential: credential, Timeout: settings.GraphTimeout})
	if err != nil {
		return err
	}
	connector := &connect.Connector{Graph: graph}
	plan, err := c.plan(p, connector, wish)
	if err != nil {
		return plain(err)
	}
	said := &connected{Plan: plan, DryRun: c.DryRun}
	err = c.apply(p, connector, said)
	if c.Output == "json" {
		if err != nil {
			said.Error = err.Error()
		}
		return errors.Join(err, printJSON(p.stdout, said))
	}
	return err
}

func (c *connectCommand) plan(p *program, connector *connect.Connector, wish connect.Wish) (*connect.Plan, error) {
	if c.Undo {
		return connector.PlanUndo(p.ctx, wish)
	}
	return connector.Plan(p.ctx, wish)
}

// apply shows the plan, asks, does it, and tells.
func (c *connectCommand) apply(p *program, connector *connect.Connector, said *connected) error {
	plan, text := said.Plan, c.Output != "json"
	writes := plan.Writes() > 0
	asks := writes && !c.DryRun && !c.Yes && len(plan.Problems) == 0
	if text {
		fmt.Fprint(p.stdout, plan.Text())
	}
	switch {
	case len(plan.Problems) == 1:
		return errors.New("nothing was done, because of the problem above")
	case len(plan.Problems) > 1:
		return errors.New("nothing was done, because of the problems above")
	case c.DryRun:
		return nil
	case asks:
		question := "This will be done in the tenant, as whoever signed in."
		if !text {
			question = plan.Text() + question
		}
		if err := p.confirm(question); err != nil {
			return err
		}
	}
	applied, err := connector.Apply(p.ctx, plan, func(s connect.Step) {
		if text {
			fmt.Fprintln(p.stdout, s.Done())
		}
	})
	said.Applied = applied
	if err != nil {
		err = plain(err)
		if len(applied.Steps) > 0 {
			err = fmt.Errorf("%w\nWhat was done before that stays. Run connect again to go on, or with -undo to remove it", err)
		}
		return err
	}
	if !c.Undo {
		c.test(p, connector, applied)
	}
	if text {
		c.close(p, applied, writes)
	}
	return nil
}

// test has the function answer a connection test.
func (c *connectCommand) test(p *program, connector *connect.Connector, applied *connect.Applied) {
	target := c.TestURL
	if target == "" {
		target = c.Function
	}
	if target == "" {
		return
	}
	if said, ok := connector.Test(p.ctx, target); ok {
		applied.Checks = append(applied.Checks, said)
	} else {
		applied.Warnings = append(applied.Warnings, said)
	}
}

// close says how it ended.
func (c *connectCommand) close(p *program, applied *connect.Applied, writes bool) {
	for _, s := range applied.Checks {
		fmt.Fprintln(p.stdout, "ok: "+s)
	}
	for _, s := range applied.Warnings {
		fmt.Fprintln(p.stdout, "warning: "+s)
	}
	switch {
	case !writes:
	case c.Undo:
		fmt.Fprintln(p.stdout, "Done: Entra is as it was before connect.")
	default:
		fmt.Fprintln(p.stdout, "Done. The function app's settings that go with it:")
		for _, s := range applied.Settings {
			fmt.Fprintln(p.stdout, "  "+s)
		}
		fmt.Fprintln(p.stdout, "CATALOG_IDS holds the ids of all catalogs that are connected, separated by commas.")
		for _, s := range applied.ByHand {
			fmt.Fprintln(p.stdout, "Left to do: "+s)
		}
	}
}

// wish reads the flags.
func (c *connectCommand) wish() (connect.Wish, error) {
	w := connect.Wish{
		Name: c.Name, Catalog: c.Catalog, Policies: c.Policy, Packages: c.Package, Relay: c.Relay, RelayURL: c.RelayURL, Function: c.Function,
		Timeout: c.Timeout, Retries: c.Retries, Replace: c.Replace, Identity: c.Identity, App: c.App, Audience: c.Audience,
		RelayIdentity: c.RelayIdentity, CloseCallers: c.CloseCaller,
	}
	if c.NoApp {
		w.App = ""
	}
	var errs []error
	var err error
	if w.Wait, err = waitOf(c.Wait); err != nil {
		errs = append(errs, err)
	}
	for _, text := range c.Stage {
		s, err := connect.ParseStage(text)
		if err != nil {
			errs = append(errs, err)
		}
		w.Stages = append(w.Stages, s)
	}
	if len(errs) == 0 && !c.Undo {
		errs = append(errs, w.Check())
	}
	return w, errors.Join(errs...)
}

// waitOf reads a duration: P14D, 14d, 36h.
func waitOf(text string) (time.Duration, error) {
	if d, err := callout.ParseDuration(text); err == nil {
		return d, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n < 1000 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil {
		return d, nil
	}
	return 0, &fault.Error{Op: "connect", Reason: fault.Misconfigured, Field: "-wait", Detail: fmt.Sprintf("holds %q; it must hold a time as in P14D, 14d or 36h", text)}
}
