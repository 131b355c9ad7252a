package connect

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"ticketbridge/handler/entra/graphapi"
	"ticketbridge/handler/fault"
)

// PlanUndo says what has to be done for the tenant to be as it was before connect, of a catalog, a name and an application. It writes nothing.
func (c *Connector) PlanUndo(ctx context.Context, w Wish) (*Plan, error) {
	catalog, err := c.catalog(ctx, w.Catalog)
	if err != nil {
		return nil, err
	}
	p := &Plan{Catalog: catalog, Undo: true, wish: w}
	all, err := c.extensions(ctx, catalog.ID)
	if err != nil {
		return nil, err
	}
	var mine []extension
	records := map[string]record{} // by extension id
	for _, v := range []variant{goingOn, beforeExpiration, waiting} {
		for _, x := range all {
			if r, made := readRecord(x.Description); made && strings.EqualFold(x.DisplayName, w.extensionName(v)) {
				mine, records[x.ID] = append(mine, x), r
			}
		}
	}
	if len(mine) > 0 {
		if err := c.undoPolicies(ctx, p, all, records); err != nil {
			return nil, err
		}
		if err := c.undoRoles(ctx, p, records); err != nil {
			return nil, err
		}
	}
	if err := c.undoApp(ctx, p); err != nil {
		return nil, err
	}
	for _, x := range mine { // last: they have on record what else there is to do
		p.Steps = append(p.Steps, c.removal("custom extension", x.DisplayName, x.ID, management+graphapi.Path("catalogs", catalog.ID, "customWorkflowExtensions", x.ID), partExtension))
	}
	return p, nil
}

// removal is a step that deletes something; that it is gone already is as good.
func (c *Connector) removal(kind, name, id, path string, of part) Step {
	return Step{Do: Remove, Kind: kind, Name: name, ID: id, run: func(ctx context.Context, _ *state) error {
		if err := c.Graph.Delete(ctx, "remove the "+kind, path); err != nil && !fault.Is(err, fault.NotFound) {
			return advise(err, of)
		}
		return nil
	}}
}

// undoPolicies takes our extensions out of every policy of the catalog, and puts back what they replaced.
func (c *Connector) undoPolicies(ctx context.Context, p *Plan, all []extension, records map[string]record) error {
	packages, err := c.packages(ctx, p.Catalog.ID)
	if err != nil {
		return err
	}
	for _, pkg := range packages {
		for _, n := range pkg.Policies {
			saw, err := c.policy(ctx, n.ID)
			if err != nil {
				return err
			}
			if step, needed := c.undoPolicy(p, pkg, saw, all, records); needed {
				p.Steps = append(p.Steps, step)
			}
		}
	}
	return nil
}

func (c *Connector) undoPolicy(p *Plan, pkg accessPackage, saw *policy, all []extension, records map[string]record) (Step, bool) {
	step := Step{Do: Change, Kind: "policy", Name: saw.name, Of: pkg.Name, ID: saw.id}
	settings := saw.settings
	for _, s := range saw.settings {
		if _, ours := records[s.ext.ID]; !ours {
			continue
		}
		back := ""
		if was, ok := replacedBy(records, saw.id, s.stage); ok {
			for _, x := range all {
				if strings.EqualFold(x.ID, was.Extension) {
					back = x.DisplayName
					settings = with(settings, s.stage, reference{was.Type, was.Extension})
				}
			}
			if back == "" {
				p.Notes = append(p.Notes, fmt.Sprintf("The policy %q called the custom extension %s at the stage %s before; that is gone, so nothing will be called there.", saw.name, was.Extension, s.stage))
			}
		}
		if back == "" {
			settings = without(settings, s.stage)
			step.Details = append(step.Details, fmt.Sprintf("%s: calls %q → nothing is called", s.stage, s.name))
		} else {
			step.Details = append(step.Details, fmt.Sprintf("%s: calls %q → %q, as before", s.stage, s.name, back))
		}
	}
	step.run = func(ctx context.Context, _ *state) error {
		return c.putPolicy(ctx, saw, func([]setting) []setting { return settings })
	}
	return step, len(step.Details) > 0
}

// replacedBy finds what ours took the place of; a stage may have gone from one of ours to another since.
func replacedBy(records map[string]record, policy, stage string) (replaced, bool) {
	for _, r := range records {
		for _, was := range r.Replaced {
			if strings.EqualFold(was.Policy, policy) && strings.EqualFold(was.Stage, stage) {
				return was, true
			}
		}
	}
	return replaced{}, false
}

func (c *Connector) undoRoles(ctx context.Context, p *Plan, records map[string]record) error {
	var principals []string
	for _, r := range records {
		principals = append(principals, r.Managers...)
	}
	slices.Sort(principals)
	for _, id := range slices.Compact(principals) {
		assigned, err := c.managers(ctx, p.Catalog.ID, id)
		if err != nil {
			return err
		}
		for _, a := range assigned {
			p.Steps = append(p.Steps, c.removal("role", "Access package assignment manager of the catalog, for the service principal "+id, a,
				graphapi.Path("roleManagement", "entitlementManagement", "roleAssignments", a), partRole))
		}
	}
	return nil
}

// undoApp removes the application, unless connect's extensions in other catalogs need it.
func (c *Connector) undoApp(ctx context.Context, p *Plan) error {
	if p.wish.App == "" {
		return nil
	}
	found, err := c.applications(ctx, p.wish.App)
	if err != nil {
		return err
	}
	for _, a := range found {
		if _, ours := readRecord(a.Notes); !ours {
			continue
		}
		others, err := c.elsewhere(ctx, p)
		if err != nil {
			return err
		}
		if len(others) > 0 {
			p.Notes = append(p.Notes, fmt.Sprintf("The application %q stays: catalogs that are still connected may need it: %s.", p.wish.App, strings.Join(others, ", ")))
			return nil
		}
		step := c.removal("application", a.DisplayName, a.AppID, graphapi.Path("applications", a.ID), partApp)
		step.Details = []string{"its service principal and its app roles go with it", "for 30 days Entra keeps it among the deleted applications, from where it can be restored"}
		p.Steps = append(p.Steps, step)
	}
	return nil
}

// elsewhere returns the other catalogs that have extensions of connect.
func (c *Connector) elsewhere(ctx context.Context, p *Plan) ([]string, error) {
	catalogs, err := named(c.Graph.List(ctx, opRead, management+"/catalogs", nil))
	if err != nil {
		return nil, advise(err, partCatalog)
	}
	var out []string
	for _, n := range catalogs {
		if strings.EqualFold(n.ID, p.Catalog.ID) {
			continue
		}
		extensions, err := c.extensions(ctx, n.ID)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(extensions, func(x extension) bool { _, made := readRecord(x.Description); return made }) {
			out = append(out, n.String())
		}
	}
	return out, nil
}
