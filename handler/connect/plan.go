package connect

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"ticketbridge/handler/callers"
	"ticketbridge/handler/callout"
	"ticketbridge/handler/entra/graphapi"
	"ticketbridge/handler/fault"
)

// What a step does.
const (
	Exists = "exists" // nothing: it is as it shall be
	Make   = "make"
	Change = "change"
	Remove = "remove"
)

// A Step is one thing of the set-up, and what is done with it.
type Step struct {
	Do      string   `json:"do"`                // Exists, Make, Change or Remove
	Kind    string   `json:"kind"`              // as "custom extension"
	Name    string   `json:"name"`              // how a person knows it
	Of      string   `json:"of,omitempty"`      // of a policy: its access package
	ID      string   `json:"id,omitempty"`      // of what exists, or was made
	Details []string `json:"details,omitempty"` // what it is like, or what changes, in words

	run func(context.Context, *state) error // one write, or none
}

// A Plan says what exists, what will be made and what will be changed.
type Plan struct {
	Catalog  Named    `json:"catalog"`
	Undo     bool     `json:"undo,omitempty"`
	Steps    []Step   `json:"steps"`
	Problems []string `json:"problems,omitempty"` // why it cannot be applied; then nothing of it is
	Notes    []string `json:"notes,omitempty"`    // what a person should know
	// Settings are those of the function app that belong to it, as NAME=value; with "…" for what is known only when it was made.
	Settings []string `json:"settings,omitempty"`
	// ByHand is what connect does not do; with "…" likewise.
	ByHand []string `json:"byHand,omitempty"`

	wish Wish
}

// Writes is how many things will be made, changed or removed.
func (p *Plan) Writes() (n int) {
	for _, s := range p.Steps {
		if s.Do != Exists {
			n++
		}
	}
	return n
}

// state is what is known of ids while a plan is applied.
type state struct {
	app       string                // the application's id for its clients
	object    string                // its object id
	principal string                // its service principal
	fresh     bool                  // it was made just now, and not everybody in Entra knows it yet
	refs      map[variant]reference // the custom extensions
	catalog   string                // id
	made      func(id string)       // puts the id of what was made into the step
}

// variant is one of the custom extensions that connect makes.
type variant int

const (
	waiting variant = iota
	goingOn
	beforeExpiration
)

var allVariants = []variant{waiting, goingOn, beforeExpiration}

// variants are those that the stages need, in a fixed order: the first has on record what does not belong to one of them.
func (w Wish) variants() []variant {
	var out []variant
	for _, v := range allVariants {
		if slices.ContainsFunc(w.Stages, func(s Stage) bool { return s.variant() == v }) {
			out = append(out, v)
		}
	}
	return out
}

func (s Stage) variant() variant {
	switch {
	case expiring(s.Name):
		return beforeExpiration
	case s.Waits:
		return waiting
	default:
		return goingOn
	}
}

// extensionName is what a variant is called.
func (w Wish) extensionName(v variant) string {
	return w.Name + map[variant]string{waiting: "", goingOn: " without waiting", beforeExpiration: " before expiration"}[v]
}

func (v variant) kind() string {
	if v == beforeExpiration {
		return assignmentKind
	}
	return requestKind
}

// Plan reads the tenant and says what has to be done. It writes nothing.
func (c *Connector) Plan(ctx context.Context, w Wish) (*Plan, error) {
	if err := w.Check(); err != nil {
		return nil, err
	}
	catalog, err := c.catalog(ctx, w.Catalog)
	if err != nil {
		return nil, err
	}
	p := &Plan{Catalog: catalog, wish: w}
	packages, err := c.packages(ctx, catalog.ID)
	if err != nil {
		return nil, err
	}
	policies, err := w.choose(packages)
	if err != nil {
		return nil, err
	}
	audience, err := c.planApp(ctx, p)
	if err != nil {
		return nil, err
	}
	extensions, err := c.extensions(ctx, catalog.ID)
	if err != nil {
		return nil, err
	}
	mine, records := p.ours(extensions)
	theirs := func(id string) bool { // an extension that is not connect's, under this name
		return !slices.ContainsFunc(extensions, func(x extension) bool {
			_, made := readRecord(x.Description)
			return made && strings.EqualFold(x.ID, id) && slices.ContainsFunc(allVariants, func(v variant) bool { return strings.EqualFold(x.DisplayName, w.extensionName(v)) })
		})
	}
	var changes []Step
	for _, chosen := range policies {
		step, err := c.planPolicy(ctx, p, chosen, mine, theirs, records)
		if err != nil {
			return nil, err
		}
		changes = append(changes, step)
	}
	role, err := c.planRole(ctx, p, records)
	if err != nil {
		return nil, err
	}
	for _, v := range w.variants() {
		p.Steps = append(p.Steps, c.planExtension(p, v, mine[v], *records[v], audience))
	}
	p.Steps = append(append(p.Steps, role...), changes...)
	p.settle(ctx, c, audience)
	return p, nil
}

// ours finds the custom extensions by their names, and what is on record in them.
func (p *Plan) ours(all []extension) (mine map[variant]*extension, records map[variant]*record) {
	mine, records = map[variant]*extension{}, map[variant]*record{}
	for _, v := range p.wish.variants() {
		records[v] = &record{}
		name := p.wish.extensionName(v)
		var found []extension
		for _, x := range all {
			if strings.EqualFold(x.DisplayName, name) {
				found = append(found, x)
			}
		}
		switch {
		case len(found) > 1:
			var list []Named
			for _, x := range found {
				list = append(list, Named{x.ID, x.DisplayName})
			}
			p.problem("there are %d custom extensions %q in the catalog: %s. Entra tells them apart by their ids only; delete those that are not used, or choose another -name",
				len(found), name, ids(list))
		case len(found) == 1:
			x := found[0]
			r, made := readRecord(x.Description)
			switch {
			case !made:
				p.problem("a custom extension %q (%s) exists, and connect did not make it: it is left alone. Choose another -name, or delete it", name, x.ID)
			case x.Type != v.kind():
				p.problem("the custom extension %q (%s) is of another type, which cannot be changed. Choose another -name, or delete it", name, x.ID)
			default:
				mine[v], records[v] = &x, &r
			}
		}
	}
	return mine, records
}

func (p *Plan) problem(format string, args ...any) {
	p.Problems = append(p.Problems, fmt.Sprintf(format, args...))
}

// planPolicy compares a policy's stages with the wish.
func (c *Connector) planPolicy(ctx context.Context, p *Plan, chosen chosen, mine map[variant]*extension, theirs func(id string) bool, records map[variant]*record) (Step, error) {
	saw, err := c.policy(ctx, chosen.ID)
	if err != nil {
		return Step{}, err
	}
	w := p.wish
	step := Step{Do: Exists, Kind: "policy", Name: saw.name, Of: chosen.pkg.Name, ID: saw.id}
	type move struct {
		stage string
		v     variant
	}
	var moves []move
	for _, s := range w.Stages {
		name := w.extensionName(s.variant())
		if expiring(s.Name) && !saw.expires {
			p.problem("the policy %q (%s) has assignments that never expire, so nothing is called before their expiration. Leave the stage %s out, or give the policy an expiration", saw.name, saw.id, s.Name)
			continue
		}
		now, x := saw.at(s.Name), mine[s.variant()]
		switch {
		case now != nil && x != nil && strings.EqualFold(now.ext.ID, x.ID):
			step.Details = append(step.Details, fmt.Sprintf("%s: calls %q", s.Name, name))
			continue
		case now == nil:
			step.Details = append(step.Details, fmt.Sprintf("%s: nothing is called → %q", s.Name, name))
		default:
			others := theirs(now.ext.ID)
			if others && !w.Replace {
				step.Details = append(step.Details, fmt.Sprintf("%s: calls %q, which is left alone", s.Name, now.name))
				p.problem("the policy %q (%s) calls %q (%s) at the stage %s, which connect did not make under the name %q. It is not overwritten; -replace puts %q in its place, until -undo",
					saw.name, saw.id, now.name, now.ext.ID, s.Name, w.Name, name)
				continue
			}
			step.Details = append(step.Details, fmt.Sprintf("%s: calls %q → %q", s.Name, now.name, name))
			if others {
				records[s.variant()].add(replaced{Policy: saw.id, Stage: s.Name, Extension: now.ext.ID, Type: now.ext.Type})
			}
		}
		moves = append(moves, move{s.Name, s.variant()})
	}
	if slices.Contains([]string{"allExternalUsers", "allConfiguredConnectedOrganizationUsers", "specificConnectedOrganizationUsers"}, saw.scope) {
		p.Notes = append(p.Notes, fmt.Sprintf("The policy %q is open to guests: Graph takes custom extensions on it only when the tenant is linked to a subscription for guest governance.", saw.name))
	}
	if len(moves) > 0 {
		step.Do = Change
		step.run = func(ctx context.Context, at *state) error {
			return c.putPolicy(ctx, saw, func(settings []setting) []setting {
				for _, m := range moves {
					settings = with(settings, m.stage, at.refs[m.v])
				}
				return settings
			})
		}
	}
	return step, nil
}

// add puts what was replaced on record, once.
func (r *record) add(one replaced) {
	for _, old := range r.Replaced {
		if old.Policy == one.Policy && old.Stage == one.Stage {
			return // what was there first is what has to come back
		}
	}
	r.Replaced = append(r.Replaced, one)
}

// planRole compares the role of the function's identity on the catalog with the wish.
func (c *Connector) planRole(ctx context.Context, p *Plan, records map[variant]*record) ([]Step, error) {
	w := p.wish
	if w.Identity == "" {
		p.Notes = append(p.Notes, "Without -identity nobody gets the role that resuming requests takes: the function's identity must have it, or the application permission EntitlementManagement.ReadWrite.All.")
		return nil, nil
	}
	who, err := c.principal(ctx, "identity", w.Identity)
	if err != nil {
		return nil, err
	}
	assigned, err := c.managers(ctx, p.Catalog.ID, w.Identity)
	if err != nil {
		return nil, err
	}
	step := Step{Do: Exists, Kind: "role", Name: "Access package assignment manager of the catalog, for " + who.DisplayName}
	if len(assigned) > 0 {
		step.ID = assigned[0]
		return []Step{step}, nil
	}
	step.Do, step.Details = Make, []string{"for the service principal " + who.ID, "so that the function may read and resume requests of this catalog, and of no other"}
	first := records[w.variants()[0]]
	if !slices.ContainsFunc(first.Managers, func(id string) bool { return strings.EqualFold(id, w.Identity) }) {
		first.Managers = append(first.Managers, strings.ToLower(w.Identity))
	}
	step.run = func(ctx context.Context, at *state) error {
		var made struct{ ID string }
		err := c.Graph.Post(ctx, "give the role", "/roleManagement/entitlementManagement/roleAssignments", map[string]any{
			"@odata.type": "#microsoft.graph.unifiedRoleAssignment", "principalId": w.Identity, "roleDefinitionId": roleManager, "appScopeId": scopeOf(p.Catalog.ID),
		}, &made)
		if alreadyThere(err) {
			return nil
		}
		at.made(made.ID)
		return advise(err, partRole)
	}
	return []Step{step}, nil
}

// alreadyThere says whether Graph turned something down because it is there: somebody was quicker, or an earlier answer was lost.
func alreadyThere(err error) bool {
	return fault.Is(err, fault.Exists) || fault.Is(err, fault.Refused) && strings.Contains(strings.ToLower(graphapi.Message(err)), "already exist")
}

// planExtension compares a custom extension with the wish.
func (c *Connector) planExtension(p *Plan, v variant, x *extension, r record, audience string) Step {
	w := p.wish
	step := Step{Do: Make, Kind: "custom extension", Name: w.extensionName(v)}
	step.Details = w.describe(v)
	path := management + graphapi.Path("catalogs", p.Catalog.ID, "customWorkflowExtensions")
	body := func(at *state) map[string]any {
		if at.app != "" {
			audience = "api://" + at.app
		}
		return w.body(v, x, r, audience)
	}
	if x == nil {
		step.run = func(ctx context.Context, at *state) error {
			var made extension
			wanted := body(at)
			if wanted["callbackConfiguration"] == nil {
				delete(wanted, "callbackConfiguration")
			}
			if err := c.Graph.Post(ctx, "make the custom extension", path, wanted, &made); err != nil {
				return advise(err, w.part())
			}
			if made.ID == "" && made.Wrapped != nil {
				made = *made.Wrapped
			}
			if made.ID == "" {
				return &fault.Error{Op: "make the custom extension", Reason: fault.Unclear, Detail: "Graph did not say its id", Advice: adviseAgain}
			}
			return c.readBack(ctx, p.Catalog.ID, made.ID, v, w, at)
		}
		return step
	}
	step.ID = x.ID
	changes := w.differences(v, *x, audience)
	if x.Description != r.text() {
		changes = append(changes, "what -undo has to put back is written into its description")
	}
	if len(changes) == 0 {
		step.Do, step.run = Exists, func(_ context.Context, at *state) error {
			at.refs[v] = reference{v.kind(), x.ID}
			return nil
		}
		return step
	}
	step.Do, step.Details = Change, changes
	step.run = func(ctx context.Context, at *state) error {
		if err := c.Graph.Put(ctx, "change the custom extension", path+graphapi.Path(x.ID), body(at), nil); err != nil {
			return advise(err, w.part())
		}
		return c.readBack(ctx, p.Catalog.ID, x.ID, v, w, at)
	}
	return step
}

// readBack reads a custom extension that was written, before any policy calls it: one that lost its callback configuration would let requests go on
// without their tickets.
func (c *Connector) readBack(ctx context.Context, catalog, id string, v variant, w Wish, at *state) error {
	const op = "read back the custom extension"
	var x extension
	if err := c.Graph.Get(ctx, op, management+graphapi.Path("catalogs", catalog, "customWorkflowExtensions", id), nil, &x); err != nil {
		return advise(err, w.part())
	}
	if x.ID == "" && x.Wrapped != nil {
		x = *x.Wrapped
	}
	at.made(id)
	if v == waiting && x.Callback.wait() == "" {
		return &fault.Error{
			Op: op, Reason: fault.Refused, Detail: fmt.Sprintf("Graph took %q (%s) and dropped its callback configuration: it is launch and continue, so requests would go on without waiting for their tickets. "+
				"No policy was made to call it", w.extensionName(v), id),
			Advice: "In the Entra admin center open the catalog, Custom extensions, this one, and choose \"Launch and wait\"; then run connect again. Or remove all of it with -undo.",
		}
	}
	at.refs[v] = reference{v.kind(), id}
	return nil
}

// body is a custom extension as it is written. A PUT keeps what it does not hold: what shall not be is null.
func (w Wish) body(v variant, x *extension, r record, audience string) map[string]any {
	end, auth := w.endpoint(), authentication{Type: "#microsoft.graph.azureAdPopTokenAuthentication"}
	if end.Workflow == "" {
		auth = authentication{Type: "#microsoft.graph.azureAdTokenAuthentication", Resource: audience}
	} else if x != nil && end.URL == "" {
		end.URL = x.Endpoint.URL
	}
	out := map[string]any{
		"@odata.type": v.kind(), "displayName": w.extensionName(v), "description": r.text(), "endpointConfiguration": end, "authenticationConfiguration": auth,
		"clientConfiguration": clientConfig{Timeout: int(w.Timeout.Milliseconds()), Retries: w.Retries}, "callbackConfiguration": nil,
	}
	if v == waiting {
		out["callbackConfiguration"] = callbackConfig{Type: "#microsoft.graph.customExtensionCallbackConfiguration", Timeout: isoDuration(w.Wait)}
	}
	return out
}

func (w Wish) part() part {
	if w.Relay != "" {
		return partExtension
	}
	return partDirect
}

func (w Wish) endpoint() endpoint {
	if m := relayID.FindStringSubmatch(w.Relay); m != nil {
		return endpoint{Type: "#microsoft.graph.logicAppTriggerEndpointConfiguration", Subscription: m[1], ResourceGroup: m[2], Workflow: m[3], URL: w.RelayURL}
	}
	return endpoint{Type: "#microsoft.graph.httpRequestEndpoint", Target: w.Function}
}

// describe says in words what a custom extension is like.
func (w Wish) describe(v variant) []string {
	out := []string{"calls " + w.target()}
	if v == waiting {
		out = append(out, "the request waits for its ticket, up to "+words(w.Wait)+"; then it fails")
	} else {
		out = append(out, "nothing waits: Entra goes on at once")
	}
	return append(out, fmt.Sprintf("an answer is expected within %s, and the call repeated %s", w.Timeout, times(w.Retries)))
}

func times(n int) string {
	if n == 0 {
		return "never"
	}
	return "once"
}

// target is where callouts go, without the keys that a URL may have.
func (w Wish) target() string {
	if w.Relay != "" {
		e := w.endpoint()
		return fmt.Sprintf("the Logic App %s (resource group %s, subscription %s), with a proof-of-possession token", e.Workflow, e.ResourceGroup, e.Subscription)
	}
	return plainURL(w.Function) + ", with a token for the application"
}

// plainURL is a URL without what may be a key.
func plainURL(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "a URL"
	}
	if u.RawQuery != "" {
		u.RawQuery = ""
		return u.String() + "?…"
	}
	return u.String()
}

// differences says in words what of a custom extension is not as it shall be.
func (w Wish) differences(v variant, x extension, audience string) []string {
	var out []string
	want := w.endpoint()
	fold := strings.EqualFold
	switch {
	case x.Endpoint.Type != want.Type || !fold(x.Endpoint.Subscription, want.Subscription) || !fold(x.Endpoint.ResourceGroup, want.ResourceGroup) || !fold(x.Endpoint.Workflow, want.Workflow):
		out = append(out, "calls "+x.Endpoint.words()+" → "+w.target())
	case x.Endpoint.Target != want.Target || want.URL != "" && x.Endpoint.URL != "" && x.Endpoint.URL != want.URL:
		out = append(out, "calls "+x.Endpoint.words()+" → "+w.target()+" (its address, or the key in it, differs)")
	}
	auth := "#microsoft.graph.azureAdPopTokenAuthentication"
	if want.Workflow == "" {
		auth = "#microsoft.graph.azureAdTokenAuthentication"
	}
	if x.Auth.Type != auth || want.Workflow == "" && audience != "" && x.Auth.Resource != audience {
		out = append(out, "how it proves who is calling")
	}
	client := clientConfig{Timeout: 1000}
	if x.Client != nil {
		client = *x.Client
	}
	if ms := int(w.Timeout.Milliseconds()); client.Timeout != ms {
		out = append(out, fmt.Sprintf("an answer is expected within %s → %s", time.Duration(client.Timeout)*time.Millisecond, w.Timeout))
	}
	if client.Retries != w.Retries {
		out = append(out, fmt.Sprintf("the call is repeated %s → %s", times(client.Retries), times(w.Retries)))
	}
	switch has := x.Callback.wait(); {
	case v != waiting && x.Callback != nil:
		out = append(out, "waits → does not wait")
	case v == waiting && has == "":
		out = append(out, "does not wait (launch and continue) → the request waits for its ticket, up to "+words(w.Wait))
	case v == waiting:
		if d, err := callout.ParseDuration(has); err != nil || d != w.Wait {
			out = append(out, "the request waits up to "+has+" → "+isoDuration(w.Wait))
		}
	}
	return out
}

func (e endpoint) words() string {
	if e.Workflow != "" {
		return "the Logic App " + e.Workflow
	}
	return plainURL(e.Target)
}

// settle adds the settings of the function app, when there is nothing in the way.
func (p *Plan) settle(ctx context.Context, c *Connector, audience string) {
	w := p.wish
	p.Settings = []string{"CATALOG_IDS=" + p.Catalog.ID}
	if audience == "" && w.App != "" {
		audience = "api://…"
	}
	if audience == "" {
		return
	}
	p.Settings = append(p.Settings, "CALLOUT_AUDIENCE="+audience)
	if w.RelayIdentity != "" {
		p.ByHand = append(p.ByHand, "In the Logic App's HTTP action: authentication by managed identity, with the audience "+audience+".")
		p.Settings = append(p.Settings, callers.RelaySetting+"="+strings.ToLower(w.RelayIdentity), "CALLOUT_ROLE="+RoleSend)
	}
	var apps []string
	for _, id := range w.CloseCallers {
		if who, err := c.principal(ctx, "close-caller", id); err == nil {
			apps = append(apps, who.AppID)
		}
	}
	if len(apps) > 0 {
		p.Settings = append(p.Settings, "CLOSE_AUDIENCE="+audience, "CLOSE_CALLERS="+strings.Join(apps, ","), "CLOSE_ROLE="+RoleClose)
	}
}

// Applied is what came of a plan.
type Applied struct {
	Steps    []Step   `json:"steps"` // those that were done, with the ids of what was made
	Checks   []string `json:"checks,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	Settings []string `json:"settings,omitempty"`
	ByHand   []string `json:"byHand,omitempty"`
}

// Apply does what a plan says, in its order, and tells of each write. When it is interrupted, whatever is done stays, and a new plan has the rest.
func (c *Connector) Apply(ctx context.Context, p *Plan, tell func(Step)) (*Applied, error) {
	if len(p.Problems) > 0 {
		return nil, &fault.Error{Op: "connect", Reason: fault.Refused, Detail: "the plan has problems: " + strings.Join(p.Problems, "; ")}
	}
	out := &Applied{Steps: []Step{}, Settings: slices.Clone(p.Settings), ByHand: slices.Clone(p.ByHand)}
	at := &state{refs: map[variant]reference{}, catalog: p.Catalog.ID}
	for i := range p.Steps {
		step := p.Steps[i]
		at.made = func(id string) {
			if id != "" {
				step.ID = id
			}
		}
		if step.run == nil {
			continue
		}
		if err := step.run(ctx, at); err != nil {
			return out, err
		}
		if step.Do != Exists {
			out.Steps = append(out.Steps, step)
			tell(step)
		}
	}
	if at.app != "" {
		for _, list := range [][]string{out.Settings, out.ByHand} {
			for i := range list {
				list[i] = strings.ReplaceAll(list[i], "api://…", "api://"+at.app)
			}
		}
	}
	if len(out.Steps) == 0 || p.Undo {
		return out, nil
	}
	return out, c.verify(ctx, p, out)
}

// verifyTries is how often the tenant is read again until it shows what was written: not all of Entra knows at once.
const verifyTries = 5

// verify reads everything back.
func (c *Connector) verify(ctx context.Context, p *Plan, out *Applied) error {
	var left []string
	for try := range verifyTries {
		if try > 0 {
			if err := pause(ctx, time.Duration(try)*2*time.Second); err != nil {
				return err
			}
		}
		again, err := c.Plan(ctx, p.wish)
		if err != nil {
			return err
		}
		left = nil
		for _, s := range again.Steps {
			if s.Do != Exists {
				left = append(left, fmt.Sprintf("%s %s %q", s.Do, s.Kind, s.Name))
			}
		}
		if left = append(left, again.Problems...); len(left) == 0 {
			out.Checks = append(out.Checks, "read back: Graph shows all of it as it shall be")
			return nil
		}
	}
	out.Warnings = append(out.Warnings, "Graph does not show yet what was written; a new plan would still: "+strings.Join(left, "; ")+". "+adviseAgain)
	return nil
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return errors.Join(&fault.Error{Op: "connect", Reason: fault.Unreachable, Detail: "interrupted", Advice: adviseAgain}, ctx.Err())
	}
}

// isoDuration writes a duration as Graph takes it: in days where it is whole days.
func isoDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d%day == 0 && d > 0 {
		return fmt.Sprintf("P%dD", d/day)
	}
	text := strings.ToUpper(d.Round(time.Second).String())
	for _, zero := range []string{"M0S", "H0M"} {
		if short, ok := strings.CutSuffix(text, zero); ok {
			text = short + zero[:1]
		}
	}
	return "PT" + text
}

// words is a duration for people.
func words(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == day:
		return "1 day"
	case d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	case d%time.Hour == 0:
		return fmt.Sprintf("%d hours", d/time.Hour)
	default:
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
}
