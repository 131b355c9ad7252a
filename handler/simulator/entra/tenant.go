package entra

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// A User is a person of the directory.
type User struct {
	ObjectID      string // the user's object id; made up when empty
	SubjectID     string // entitlement management's own id of the person; made up when empty
	Name          string
	Email         string
	PrincipalName string
	Organization  *Organization // the connected organization that a guest comes from; nil for the tenant's own people
	Roles         []string      // directory roles, as GovernanceAdministrator
	LogicApps     []string      // names of the relays on which the person is Logic App Contributor
}

// An Organization is a connected organization.
type Organization struct{ ID, Name, Description string }

// A Catalog holds access packages and the extensions that they may use.
type Catalog struct {
	ID, Name, Description string
	created               time.Time
}

// A Package is an access package.
type Package struct {
	ID, CatalogID, Name, Description string
	created                          time.Time
}

// A Policy says who may request a package, and what happens then.
type Policy struct {
	ID, PackageID, Name, Description string

	Approval  bool              // requests wait for Approve or Reject
	NoExpiry  bool              // assignments last for ever: the stages before expiration cannot be used
	Guests    bool              // open to all external users
	Questions []string          // asked of the requestor
	Stages    map[string]string // stage → id of the extension that is called then
	Extra     map[string]any    // properties that this stand-in's schema does not have, of Config.PolicyProperties
}

// A Kind is one of the two sorts of custom workflow extensions.
type Kind string

// The two kinds.
const (
	// RequestKind is called at the stages of a request, and may make it wait.
	RequestKind Kind = "#microsoft.graph.accessPackageAssignmentRequestWorkflowExtension"
	// AssignmentKind is called before an assignment expires, and never waits.
	AssignmentKind Kind = "#microsoft.graph.accessPackageAssignmentWorkflowExtension"
)

// An Extension is a custom workflow extension: whom to call, how long to wait for the answer, and whether the request waits for a
// callback. Exactly one of URL and Relay says where the callout goes.
type Extension struct {
	ID, CatalogID, Name, Description string

	Kind     Kind          // default RequestKind
	URL      string        // direct: the function's address, with ?code= where it wants a key
	Resource string        // direct: the application whose tokens the function takes, "api://…" or its id; "" sends no token
	Relay    string        // the name of a Relay of the directory
	Wait     time.Duration // launch and wait this long for the callback; 0 is launch and continue
	Patience time.Duration // clientConfiguration.timeoutInMilliseconds; default 1 s
	Retries  int           // clientConfiguration.maximumRetries: 0 or 1
}

// The stages at which an extension is called, in the spelling of Graph v1.0.
const (
	StageCreated      = "assignmentRequestCreated"
	StageApproved     = "assignmentRequestApproved"
	StageGranted      = "assignmentRequestGranted"
	StageRemoved      = "assignmentRequestRemoved"
	StageFourteenDays = "assignmentFourteenDaysBeforeExpiration"
	StageOneDay       = "assignmentOneDayBeforeExpiration"
)

func expiring(stage string) bool { return stage == StageFourteenDays || stage == StageOneDay }

// extension and policy are kept as Graph shows them: what a PUT leaves out, keeps or clears is a matter of single properties.
type extension struct {
	id, catalog string
	body        map[string]any // without id
}

type policy struct {
	id, pkg   string
	body      map[string]any // structural properties, without id
	questions []string
	stages    []stageSetting
}

type stageSetting struct{ id, stage, extension string }

// AddUser puts a person in the directory and returns them with the ids they got.
func (d *Directory) AddUser(u User) User {
	d.mu.Lock()
	defer d.mu.Unlock()
	u.ObjectID, u.SubjectID = orNew(u.ObjectID), orNew(u.SubjectID)
	d.users = append(d.users, &u)
	return u
}

// AddCatalog puts a catalog in the directory and returns its id.
func (d *Directory) AddCatalog(c Catalog) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	c.ID, c.created = orNew(c.ID), time.Now()
	d.catalogs = append(d.catalogs, &c)
	return c.ID
}

// AddPackage puts an access package in its catalog and returns its id. It panics when there is no such catalog.
func (d *Directory) AddPackage(p Package) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.catalog(p.CatalogID) == nil {
		panic(fmt.Sprintf("entra: no catalog %q", p.CatalogID))
	}
	p.ID, p.created = orNew(p.ID), time.Now()
	d.packages = append(d.packages, &p)
	return p.ID
}

// AddExtension puts an extension in its catalog, past the limits that Graph sets, and returns its id: a Wait may be milliseconds. It
// panics when there is no such catalog or relay.
func (d *Directory) AddExtension(x Extension) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.catalog(x.CatalogID) == nil {
		panic(fmt.Sprintf("entra: no catalog %q", x.CatalogID))
	}
	if x.Kind == "" {
		x.Kind = RequestKind
	}
	if x.Patience == 0 {
		x.Patience = time.Second
	}
	now := stamp(time.Now())
	body := map[string]any{
		"@odata.type": string(x.Kind), "displayName": x.Name, "description": x.Description,
		"createdBy": "stand-in", "createdDateTime": now, "lastModifiedBy": "stand-in", "lastModifiedDateTime": now,
		"clientConfiguration": map[string]any{
			"timeoutInMilliseconds": x.Patience.Milliseconds(), "maximumRetries": x.Retries,
		},
		"callbackConfiguration": nil,
	}
	if x.Wait > 0 {
		body["callbackConfiguration"] = map[string]any{
			"@odata.type": "#microsoft.graph.customExtensionCallbackConfiguration", "timeoutDuration": isoDuration(x.Wait),
		}
	}
	if x.Relay != "" {
		r := d.relay(x.Relay)
		if r == nil {
			panic(fmt.Sprintf("entra: no relay %q", x.Relay))
		}
		body["endpointConfiguration"] = map[string]any{
			"@odata.type": "#microsoft.graph.logicAppTriggerEndpointConfiguration", "subscriptionId": r.Subscription,
			"resourceGroupName": r.ResourceGroup, "logicAppWorkflowName": r.Name,
		}
		body["authenticationConfiguration"] = map[string]any{"@odata.type": "#microsoft.graph.azureAdPopTokenAuthentication"}
	} else {
		body["endpointConfiguration"] = map[string]any{"@odata.type": "#microsoft.graph.httpRequestEndpoint", "targetUrl": x.URL}
		body["authenticationConfiguration"] = nil
		if x.Resource != "" {
			body["authenticationConfiguration"] = map[string]any{
				"@odata.type": "#microsoft.graph.azureAdTokenAuthentication", "resourceId": x.Resource,
			}
		}
	}
	e := &extension{id: orNew(x.ID), catalog: x.CatalogID, body: body}
	d.extensions = append(d.extensions, e)
	return e.id
}

// AddPolicy puts a policy on its package and returns its id. It panics when the package or an extension does not exist.
func (d *Directory) AddPolicy(p Policy) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pkg(p.PackageID) == nil {
		panic(fmt.Sprintf("entra: no access package %q", p.PackageID))
	}
	scope, expiration := "allMemberUsers", map[string]any{"type": "afterDuration", "duration": "P365D", "endDateTime": nil}
	if p.Guests {
		scope = "allExternalUsers"
	}
	if p.NoExpiry {
		expiration = map[string]any{"type": "noExpiration", "duration": nil, "endDateTime": nil}
	}
	now := stamp(time.Now())
	stored := &policy{id: orNew(p.ID), pkg: p.PackageID, questions: p.Questions, body: map[string]any{
		"displayName": p.Name, "description": p.Description, "allowedTargetScope": scope, "expiration": expiration,
		"createdDateTime": now, "modifiedDateTime": now, "specificAllowedTargets": []any{}, "reviewSettings": nil,
		"automaticRequestSettings": nil,
		"notificationSettings":     map[string]any{"isAssignmentNotificationDisabled": false},
		"requestorSettings": map[string]any{
			"enableTargetsToSelfAddAccess": true, "enableTargetsToSelfUpdateAccess": true, "enableTargetsToSelfRemoveAccess": true,
			"allowCustomAssignmentSchedule": true, "enableOnBehalfRequestorsToAddAccess": false,
			"enableOnBehalfRequestorsToUpdateAccess": false, "enableOnBehalfRequestorsToRemoveAccess": false, "onBehalfRequestors": []any{},
		},
		"requestApprovalSettings": map[string]any{
			"isApprovalRequiredForAdd": p.Approval, "isApprovalRequiredForUpdate": false, "isRequestorJustificationRequired": false,
			"stages": []any{},
		},
	}}
	maps.Copy(stored.body, p.Extra)
	for _, stage := range []string{StageCreated, StageApproved, StageGranted, StageRemoved, StageFourteenDays, StageOneDay} {
		id, ok := p.Stages[stage]
		if !ok {
			continue
		}
		if d.extension(id) == nil {
			panic(fmt.Sprintf("entra: no extension %q", id))
		}
		stored.stages = append(stored.stages, stageSetting{id: uuid.NewString(), stage: stage, extension: id})
	}
	d.policies = append(d.policies, stored)
	return stored.id
}

// A Sample names what AddSample put in the directory.
type Sample struct {
	Robin, Kim, Sasha User // two of the tenant's people and a guest

	Finance, Engineering string // catalogs

	Ledger, Payroll, Cluster, Badge string // packages: two in each catalog
	// Policies of the packages, each calling out where its comment says.
	LedgerPolicy  string // approved and removed: launch and wait; 14 days and 1 day before expiration; one question
	PayrollPolicy string // created, approved and removed: launch and wait
	ClusterPolicy string // needs an approval; approved: launch and wait; granted: launch and continue
	BadgePolicy   string // granted and removed: launch and continue

	WaitFinance, WaitEngineering, ContinueEngineering, ExpiryFinance string // extensions
}

// AddSample puts a small, sensible tenant in the directory whose extensions are all like "to": its URL, Resource, Relay, Wait,
// Patience and Retries are used, its Wait (default 14 days) where the request waits.
func (d *Directory) AddSample(to Extension) Sample {
	if to.Wait == 0 {
		to.Wait = 14 * 24 * time.Hour
	}
	add := func(catalog, name string, kind Kind, wait time.Duration) string {
		x := to
		x.ID, x.CatalogID, x.Name, x.Kind, x.Wait = "", catalog, name, kind, wait
		return d.AddExtension(x)
	}
	var s Sample
	s.Robin = d.AddUser(User{Name: "Robin Marsh", Email: "robin.marsh@example.com", PrincipalName: "robin.marsh@example.com"})
	s.Kim = d.AddUser(User{Name: "Kim Stone", Email: "kim.stone@example.com", PrincipalName: "kim.stone@example.com"})
	s.Sasha = d.AddUser(User{
		Name: "Sasha Field", Email: "sasha.field@partner.example", PrincipalName: "sasha.field_partner.example#EXT#@example.com",
		Organization: &Organization{ID: uuid.NewString(), Name: "Partner", Description: "A connected organization"},
	})
	s.Finance = d.AddCatalog(Catalog{Name: "Finance", Description: "Systems of the finance department"})
	s.Engineering = d.AddCatalog(Catalog{Name: "Engineering", Description: "Systems of the engineering department"})
	s.Ledger = d.AddPackage(Package{CatalogID: s.Finance, Name: "Ledger reader", Description: "Reads the general ledger"})
	s.Payroll = d.AddPackage(Package{CatalogID: s.Finance, Name: "Payroll clerk", Description: "Enters hours and pay"})
	s.Cluster = d.AddPackage(Package{CatalogID: s.Engineering, Name: "Cluster operator", Description: "Runs the build cluster"})
	s.Badge = d.AddPackage(Package{CatalogID: s.Engineering, Name: "Laboratory badge", Description: "Opens the laboratory's doors"})
	s.WaitFinance = add(s.Finance, "Ticket and wait", RequestKind, to.Wait)
	s.ExpiryFinance = add(s.Finance, "Ticket before expiration", AssignmentKind, 0)
	s.WaitEngineering = add(s.Engineering, "Ticket and wait", RequestKind, to.Wait)
	s.ContinueEngineering = add(s.Engineering, "Ticket", RequestKind, 0)
	s.LedgerPolicy = d.AddPolicy(Policy{
		PackageID: s.Ledger, Name: "Everybody", Description: "All members", Questions: []string{"Which region?"},
		Stages: map[string]string{
			StageApproved: s.WaitFinance, StageRemoved: s.WaitFinance, StageFourteenDays: s.ExpiryFinance, StageOneDay: s.ExpiryFinance,
		},
	})
	s.PayrollPolicy = d.AddPolicy(Policy{
		PackageID: s.Payroll, Name: "Everybody", Description: "All members",
		Stages: map[string]string{StageCreated: s.WaitFinance, StageApproved: s.WaitFinance, StageRemoved: s.WaitFinance},
	})
	s.ClusterPolicy = d.AddPolicy(Policy{
		PackageID: s.Cluster, Name: "With approval", Description: "All members", Approval: true,
		Stages: map[string]string{StageApproved: s.WaitEngineering, StageGranted: s.ContinueEngineering},
	})
	s.BadgePolicy = d.AddPolicy(Policy{
		PackageID: s.Badge, Name: "Everybody", Description: "All members",
		Stages: map[string]string{StageGranted: s.ContinueEngineering, StageRemoved: s.ContinueEngineering},
	})
	return s
}

// Look-ups; the caller holds d.mu. Ids are compared without regard to case, as Graph does.

func (d *Directory) user(objectID string) *User {
	return find(d.users, func(u *User) bool { return strings.EqualFold(u.ObjectID, objectID) })
}

func (d *Directory) catalog(id string) *Catalog {
	return find(d.catalogs, func(c *Catalog) bool { return strings.EqualFold(c.ID, id) })
}

func (d *Directory) pkg(id string) *Package {
	return find(d.packages, func(p *Package) bool { return strings.EqualFold(p.ID, id) })
}

func (d *Directory) policy(id string) *policy {
	return find(d.policies, func(p *policy) bool { return strings.EqualFold(p.id, id) })
}

func (d *Directory) extension(id string) *extension {
	return find(d.extensions, func(x *extension) bool { return strings.EqualFold(x.id, id) })
}

func (d *Directory) catalogOfPackage(id string) string {
	if p := d.pkg(id); p != nil {
		return p.CatalogID
	}
	return ""
}

func find[T any](list []*T, is func(*T) bool) *T {
	if i := slices.IndexFunc(list, is); i >= 0 {
		return list[i]
	}
	return nil
}

func orNew(id string) string {
	if id == "" {
		return uuid.NewString()
	}
	return id
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.9999999Z") }

// isoDuration writes d as ISO 8601, in days where it is whole days: "P14D", "PT5M", "PT0.25S".
func isoDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("P%dD", d/day)
	}
	var b strings.Builder
	b.WriteString("P")
	if d >= day {
		fmt.Fprintf(&b, "%dD", d/day)
		d %= day
	}
	b.WriteString("T")
	if h := d / time.Hour; h > 0 {
		fmt.Fprintf(&b, "%dH", h)
		d %= time.Hour
	}
	if m := d / time.Minute; m > 0 {
		fmt.Fprintf(&b, "%dM", m)
		d %= time.Minute
	}
	if d > 0 {
		b.WriteString(strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "S")
	}
	return b.String()
}
