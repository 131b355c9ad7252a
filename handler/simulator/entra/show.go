package entra

import (
	"maps"
	"slices"
	"time"
)

// How the tenant looks through Graph. Every function is called with d.mu held; navigation properties are functions.

func (d *Directory) root() entity {
	return entity{
		"identityGovernance": entity{
			"entitlementManagement": entity{
				"id":                 "entitlementManagement",
				"catalogs":           each(&d.catalogs, d.showCatalog),
				"accessPackages":     each(&d.packages, d.showPackage),
				"assignmentPolicies": each(&d.policies, d.showPolicy),
				"assignmentRequests": each(&d.requests, d.showRequest),
				"assignments":        each(&d.assignments, d.showAssignment),
			},
		},
		"roleManagement": entity{
			"entitlementManagement": entity{
				"id":              "entitlementManagement",
				"roleAssignments": each(&d.roles, d.showRoleAssignment),
				"roleDefinitions": func() any { return showRoleDefinitions() },
			},
		},
		"organization": func() any {
			return []entity{{
				"id": d.cfg.TenantID, "displayName": "Example", "tenantType": "AAD", "deletedDateTime": nil,
				"verifiedDomains": []any{map[string]any{"name": "example.com", "isDefault": true, "isInitial": false, "type": "Managed", "capabilities": "Email"}},
			}}
		},
		"users": each(&d.users, func(u *User) entity {
			kind := "Member"
			if u.Organization != nil {
				kind = "Guest"
			}
			return entity{
				"id": u.ObjectID, "displayName": u.Name, "mail": orNull(u.Email), "userPrincipalName": u.PrincipalName, "userType": kind,
				"accountEnabled": true,
			}
		}),
		"servicePrincipals": func() any { return d.showServicePrincipals() },
		"applications":      each(&d.apps, showApplication),
	}
}

func each[T any](list *[]*T, show func(*T) entity) func() any {
	return func() any {
		out := []entity{}
		for _, item := range *list {
			out = append(out, show(item))
		}
		return out
	}
}

func (d *Directory) showCatalog(c *Catalog) entity {
	return entity{
		"": c.ID, "id": c.ID, "displayName": c.Name, "description": c.Description, "catalogType": "userManaged", "state": "published",
		"isExternallyVisible": true, "createdDateTime": stamp(c.created), "modifiedDateTime": stamp(c.created),
		"accessPackages": func() any {
			out := []entity{}
			for _, p := range d.packages {
				if p.CatalogID == c.ID {
					out = append(out, d.showPackage(p))
				}
			}
			return out
		},
		"customWorkflowExtensions": func() any {
			out := []entity{}
			for _, x := range d.extensions {
				if x.catalog == c.ID {
					out = append(out, d.showExtension(x))
				}
			}
			return out
		},
	}
}

func (d *Directory) showPackage(p *Package) entity {
	return entity{
		"": p.CatalogID, "id": p.ID, "displayName": p.Name, "description": p.Description, "isHidden": false,
		"createdDateTime": stamp(p.created), "modifiedDateTime": stamp(p.created),
		"catalog": func() any { return d.showCatalog(d.catalog(p.CatalogID)) },
		"assignmentPolicies": func() any {
			out := []entity{}
			for _, policy := range d.policies {
				if policy.pkg == p.ID {
					out = append(out, d.showPolicy(policy))
				}
			}
			return out
		},
	}
}

func (d *Directory) showPolicy(p *policy) entity {
	e := entity{"": d.catalogOfPackage(p.pkg), "id": p.id}
	maps.Copy(e, p.body)
	e["accessPackage"] = func() any { return d.showPackage(d.pkg(p.pkg)) }
	e["catalog"] = func() any { return d.showCatalog(d.catalog(d.catalogOfPackage(p.pkg))) }
	e["questions"] = func() any {
		out := []entity{}
		for i, q := range p.questions {
			out = append(out, question(q, i))
		}
		return out
	}
	e["customExtensionStageSettings"] = func() any {
		out := []entity{}
		for _, s := range p.stages {
			out = append(out, entity{
				"id": s.id, "stage": s.stage, "customExtension": func() any {
					if x := d.extension(s.extension); x != nil {
						return d.showExtension(x)
					}
					return nil
				},
			})
		}
		return out
	}
	return e
}

func question(text string, sequence int) entity {
	return entity{
		"@odata.type": "#microsoft.graph.accessPackageTextInputQuestion", "id": text, "text": text, "sequence": sequence,
		"isRequired": true, "isAnswerEditable": true, "isSingleLineQuestion": true, "regexPattern": nil, "localizations": []any{},
	}
}

func (d *Directory) showExtension(x *extension) entity {
	e := entity{"": x.catalog, "id": x.id}
	maps.Copy(e, x.body)
	return e
}

func (d *Directory) showRequest(r *request) entity {
	given := []any{}
	for i, a := range r.Answers {
		given = append(given, map[string]any{
			"@odata.type": "#microsoft.graph.accessPackageAnswerString", "displayValue": a.Value, "value": a.Value,
			"answeredQuestion": map[string]any(question(a.Question, i)),
		})
	}
	return entity{
		"": r.Catalog, "id": r.ID, "requestType": r.Type, "state": r.State, "status": r.Status, "justification": nil, "answers": given,
		"createdDateTime": stamp(r.Created), "completedDateTime": orNullTime(r.Completed), "schedule": nil,
		"customExtensionCalloutInstances": showCallouts(r.callouts),
		"accessPackage":                   func() any { return d.showPackage(d.pkg(r.Package)) },
		"assignment": func() any {
			if a := d.assignment(r.Assignment); a != nil {
				return d.showAssignment(a)
			}
			return nil
		},
		"requestor": func() any { return showSubject(&r.Requestor) },
	}
}

func showCallouts(list []*callout) []any {
	out := []any{}
	for _, c := range list {
		out = append(out, map[string]any{
			"id": c.ID, "customExtensionId": c.Extension, "status": c.Status, "detail": c.Detail, "externalCorrelationId": "",
		})
	}
	return out
}

func (d *Directory) showAssignment(a *assignment) entity {
	var expired any
	if a.state == "expired" {
		expired = stamp(time.Now())
	}
	return entity{
		"": d.catalogOfPackage(a.pkg), "id": a.id, "state": a.state, "status": a.status, "expiredDateTime": expired,
		"customExtensionCalloutInstances": showCallouts(a.callouts),
		"schedule": map[string]any{
			"startDateTime": nil, "expiration": map[string]any{"type": "afterDateTime", "endDateTime": stamp(a.expires), "duration": nil},
		},
		"accessPackage":    func() any { return d.showPackage(d.pkg(a.pkg)) },
		"assignmentPolicy": func() any { return d.showPolicy(d.policy(a.policy)) },
		"target": func() any {
			if u := d.user(a.target); u != nil {
				return showSubject(u)
			}
			return nil
		},
	}
}

func showSubject(u *User) entity {
	return entity{
		"id": u.SubjectID, "objectId": u.ObjectID, "displayName": u.Name, "email": orNull(u.Email), "principalName": orNull(u.PrincipalName),
		"subjectType": "user", "subjectLifecycle": "governed", "onPremisesSecurityIdentifier": nil,
	}
}

func (d *Directory) showServicePrincipals() []entity {
	out := []entity{}
	for _, a := range d.apps {
		if a.ObjectID != "" {
			out = append(out, d.showAppPrincipal(a))
		}
	}
	for _, i := range d.identities {
		out = append(out, showPrincipal(i.ObjectID, i.ClientID, i.Name, "ManagedIdentity", nil))
	}
	out = append(out, showPrincipal(d.callerObject, CallerID, "Azure AD Identity Governance - Entitlement Management", "Application", nil))
	return slices.Clip(out)
}

func strings2any(list []string) []any {
	out := []any{}
	for _, s := range list {
		out = append(out, s)
	}
	return out
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func orNullTime(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return stamp(t)
}
