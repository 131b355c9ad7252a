package connect

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"ticketbridge/handler/entra/graphapi"
	"ticketbridge/handler/fault"
)

// planApp compares the application with the wish, and returns its audience; "" when it has to be made first.
func (c *Connector) planApp(ctx context.Context, p *Plan) (audience string, err error) {
	w := p.wish
	if w.App == "" {
		return w.Audience, nil
	}
	found, err := c.applications(ctx, w.App)
	if err != nil {
		return "", err
	}
	if len(found) > 1 {
		var list []Named
		for _, a := range found {
			list = append(list, Named{a.ID, a.DisplayName})
		}
		p.problem("there are %d applications %q: %s (object ids). Delete those that are not used, or choose another -app", len(found), w.App, ids(list))
		return "", nil
	}
	if len(found) == 0 {
		p.Steps = append(p.Steps, Step{
			Do: Make, Kind: "application", Name: w.App, run: func(ctx context.Context, at *state) error { return c.makeApp(ctx, w.App, at) },
			Details: []string{
				"whoever calls the function brings a token for it, api://<its id>; it is of this tenant only, and has no secret",
				"app roles " + RoleSend + " and " + RoleClose,
			},
		})
	}
	var a *application
	if len(found) == 1 {
		a = &found[0]
	}
	return c.planExistingApp(ctx, p, a)
}

// planExistingApp plans what an application needs beyond being there; nil is one that will be made.
func (c *Connector) planExistingApp(ctx context.Context, p *Plan, a *application) (audience string, err error) {
	w := p.wish
	var sp *principal
	changes := []string{"identifier URI api://<its id>"}
	foreign := false
	if a != nil {
		audience = "api://" + a.AppID
		_, ours := readRecord(a.Notes)
		foreign = !ours
		changes = a.missing()
		if sp, err = c.principalOf(ctx, a.AppID); err != nil {
			return "", err
		}
		step := Step{Do: Exists, Kind: "application", Name: w.App, ID: a.AppID, run: func(_ context.Context, at *state) error {
			at.app, at.object = a.AppID, a.ID
			return nil
		}}
		p.Steps = append(p.Steps, step)
		if foreign && (len(changes) > 0 || sp == nil) {
			if sp == nil {
				changes = append(changes, "a service principal")
			}
			p.problem("an application %q (%s) exists, connect did not make it, and it lacks: %s. It is left alone; choose another -app, or add what it lacks", w.App, a.AppID, strings.Join(changes, ", "))
			return audience, nil
		}
	}
	if len(changes) > 0 {
		p.Steps = append(p.Steps, Step{Do: Change, Kind: "application", Name: w.App, Details: changes, run: func(ctx context.Context, at *state) error {
			body := map[string]any{"identifierUris": []string{"api://" + at.app}, "api": map[string]any{"requestedAccessTokenVersion": 2}}
			if a != nil {
				body["identifierUris"] = union(a.URIs, "api://"+at.app)
				if slices.ContainsFunc(changes, func(s string) bool { return strings.HasPrefix(s, "app role") }) {
					body["appRoles"] = shownRoles() // connect made it: it has no others
				}
			}
			return c.patiently(ctx, at, func() error {
				return advise(c.Graph.Patch(ctx, "change the application", graphapi.Path("applications", at.object), body, nil), partApp)
			})
		}})
	}
	step := Step{Do: Exists, Kind: "service principal", Name: w.App}
	if sp != nil {
		step.ID = sp.ID
		step.run = func(_ context.Context, at *state) error { at.principal = sp.ID; return nil }
	} else {
		step.Do, step.Details = Make, []string{"so that Entra issues tokens for the application"}
		step.run = func(ctx context.Context, at *state) error { return c.makePrincipal(ctx, at) }
	}
	p.Steps = append(p.Steps, step)
	assigned := map[[2]string]bool{}
	if sp != nil {
		if assigned, err = c.assigned(ctx, sp.ID); err != nil {
			return "", err
		}
	}
	if w.RelayIdentity != "" {
		if err := c.planAppRole(ctx, p, "relay-identity", w.RelayIdentity, RoleSend, assigned, foreign); err != nil {
			return "", err
		}
	}
	for _, id := range w.CloseCallers {
		if err := c.planAppRole(ctx, p, "close-caller", id, RoleClose, assigned, foreign); err != nil {
			return "", err
		}
	}
	return audience, nil
}

// missing says what an application lacks.
func (a *application) missing() []string {
	var out []string
	if !slices.Contains(a.URIs, "api://"+a.AppID) {
		out = append(out, "identifier URI api://"+a.AppID)
	}
	for _, r := range appRoles {
		if !slices.ContainsFunc(a.Roles, func(has struct {
			ID    string `json:"id"`
			Value string `json:"value"`
		},
		) bool {
			return strings.EqualFold(has.ID, r.id) && has.Value == r.value
		}) {
			out = append(out, "app role "+r.value)
		}
	}
	if _, ours := readRecord(a.Notes); ours && (a.API.Version == nil || *a.API.Version != 2) {
		out = append(out, "tokens of version 2")
	}
	return out
}

func union(list []string, one string) []string {
	if slices.Contains(list, one) {
		return list
	}
	return append(slices.Clone(list), one)
}

func shownRoles() []any {
	var out []any
	for _, r := range appRoles {
		out = append(out, map[string]any{
			"id": r.id, "value": r.value, "displayName": r.name, "description": r.description, "allowedMemberTypes": []string{"Application"}, "isEnabled": true,
		})
	}
	return out
}

func (c *Connector) makeApp(ctx context.Context, name string, at *state) error {
	const op = "make the application"
	var made application
	err := c.Graph.Post(ctx, op, "/applications", map[string]any{
		"displayName": name, "description": "Whose tokens the ServiceNow ticket bridge takes.", "notes": appNotes(), "signInAudience": "AzureADMyOrg",
		"api": map[string]any{"requestedAccessTokenVersion": 2}, "appRoles": shownRoles(),
	}, &made)
	if err != nil {
		return advise(err, partApp)
	}
	if made.ID == "" || made.AppID == "" {
		return &fault.Error{Op: op, Reason: fault.Unclear, Detail: "Graph did not say its id", Advice: adviseAgain}
	}
	at.app, at.object, at.fresh = made.AppID, made.ID, true
	at.made(made.AppID)
	return nil
}

func (c *Connector) makePrincipal(ctx context.Context, at *state) error {
	var made principal
	err := c.patiently(ctx, at, func() error {
		return advise(c.Graph.Post(ctx, "make the service principal", "/servicePrincipals", map[string]any{"appId": at.app}, &made), partApp)
	})
	if fault.Is(err, fault.Exists) { // somebody was quicker, or the answer was lost and the call repeated on the way
		there, err := c.principalOf(ctx, at.app)
		if err != nil {
			return err
		}
		if there != nil {
			made = *there
		}
	} else if err != nil {
		return err
	}
	if made.ID == "" {
		return &fault.Error{Op: "make the service principal", Reason: fault.Unclear, Detail: "Graph did not say its id", Advice: adviseAgain}
	}
	at.principal = made.ID
	at.made(made.ID)
	return nil
}

// planAppRole compares who has an app role with the wish.
func (c *Connector) planAppRole(ctx context.Context, p *Plan, flag, id, role string, assigned map[[2]string]bool, foreign bool) error {
	who, err := c.principal(ctx, flag, id)
	if err != nil {
		return err
	}
	step := Step{Do: Exists, Kind: "app role", Name: role + ", for " + who.DisplayName}
	if !assigned[[2]string{strings.ToLower(who.ID), roleID(role)}] {
		if foreign {
			p.problem("%s (%s) does not have the app role %s of the application %q, which connect did not make. Give it that role by hand, or choose another -app", who.DisplayName, who.ID, role, p.wish.App)
			return nil
		}
		step.Do, step.Details = Make, []string{"for the service principal " + who.ID}
		step.run = func(ctx context.Context, at *state) error {
			err := c.patiently(ctx, at, func() error {
				return c.Graph.Post(ctx, "give the app role", graphapi.Path("servicePrincipals", at.principal, "appRoleAssignedTo"), map[string]any{
					"principalId": who.ID, "resourceId": at.principal, "appRoleId": roleID(role),
				}, nil)
			})
			if alreadyThere(err) {
				return nil
			}
			return advise(err, partAppRole)
		}
	}
	p.Steps = append(p.Steps, step)
	return nil
}

// freshTries is how often something is tried that hangs on an application that was made just now: not all of Entra knows it at once, and says then that
// it does not exist. Nothing has happened when it says so.
const freshTries = 10

func (c *Connector) patiently(ctx context.Context, at *state, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		unknown := fault.Is(err, fault.NotFound) || fault.Is(err, fault.Refused) && graphapi.Code(err) == "Request_BadRequest" && !alreadyThere(err)
		if !unknown || !at.fresh || try == freshTries {
			return err
		}
		if late := pause(ctx, time.Duration(try)*time.Second); late != nil {
			return fmt.Errorf("%w; before that: %w", late, err)
		}
	}
}
