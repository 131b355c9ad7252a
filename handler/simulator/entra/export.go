package entra

import (
	"bytes"
	"encoding/json"
	"maps"
)

// Configuration returns what is set up in the tenant, as indented JSON: catalogs, access packages, policies with their stages and questions, custom
// extensions, roles for catalogs, applications with their service principals and app roles. Left out is what Graph notes of every
// write by itself and nobody can put back: when a policy was changed last, and the ids of its stage settings.
func (d *Directory) Configuration() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	plain := func(e entity) map[string]any {
		out := map[string]any{}
		for name, v := range e {
			if _, navigation := v.(func() any); !navigation && name != "" {
				out[name] = v
			}
		}
		return out
	}
	all := func(list any) []any {
		out := []any{}
		for _, e := range list.([]entity) {
			out = append(out, plain(e))
		}
		return out
	}
	policies := []any{}
	for _, p := range d.policies {
		shown := plain(d.showPolicy(p))
		maps.DeleteFunc(shown, func(name string, _ any) bool { return name == "modifiedDateTime" })
		var stages []any
		for _, s := range p.stages {
			stages = append(stages, map[string]any{"stage": s.stage, "extension": s.extension})
		}
		shown["stages"], shown["questions"], shown["accessPackage"] = stages, p.questions, p.pkg
		policies = append(policies, shown)
	}
	grants := []any{}
	for _, g := range d.grants {
		grants = append(grants, plain(d.showGrant(g)))
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err := encoder.Encode(map[string]any{
		"catalogs": all(each(&d.catalogs, d.showCatalog)()), "accessPackages": all(each(&d.packages, d.showPackage)()), "policies": policies,
		"extensions": all(each(&d.extensions, d.showExtension)()), "roleAssignments": all(each(&d.roles, d.showRoleAssignment)()),
		"applications": all(each(&d.apps, showApplication)()), "servicePrincipals": all(d.showServicePrincipals()), "appRoleAssignments": grants,
	})
	if err != nil {
		panic(err)
	}
	return b.Bytes()
}
