package entra

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Who may do what when a person calls: never more than the token's scopes say, and never more than the person may.

// Directory roles that a User may have.
const (
	GovernanceAdministrator  = "Identity Governance Administrator"
	ApplicationAdministrator = "Application Administrator"
)

// AzureCLI is the application id of the Azure CLI, whose tokens for Graph have no scope for entitlement management
// (github.com/Azure/azure-cli/issues/32733).
const AzureCLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"

// delegated is what a person's token allows. The caller holds d.mu.
func (d *Directory) delegated(object string, scopes []string) (roles []string, entitlements bool) {
	u := d.user(object)
	is := func(role string) bool { return u != nil && slices.Contains(u.Roles, role) }
	for _, s := range scopes {
		switch s {
		case readWriteAll, readAll:
			entitlements = true
			if is(GovernanceAdministrator) {
				roles = append(roles, s)
			}
		case applicationsWrite:
			roles = append(roles, "Application.Read.All")
			if is(ApplicationAdministrator) {
				roles = append(roles, s)
			}
		case appRolesWrite:
			if is(ApplicationAdministrator) {
				roles = append(roles, s)
			}
		default:
			roles = append(roles, s)
		}
	}
	return roles, entitlements
}

// SignInAs says who answers the device codes that are asked for from now on, by object id; "" lets them wait.
func (d *Directory) SignInAs(object string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.person = object
}

// deviceCode is a sign-in that somebody has to finish elsewhere.
type deviceCode struct{ client, scope string }

// serveDeviceCode begins a sign-in by device code.
func (d *Directory) serveDeviceCode(w http.ResponseWriter, r *http.Request) {
	if !d.knownTenant(w, r) {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if err := r.ParseForm(); err != nil || r.PostForm.Get("client_id") == "" {
		tokenError(w, http.StatusBadRequest, "invalid_request", 900144, "The request body must contain the following parameter: 'client_id'.")
		return
	}
	code := uuid.NewString()
	d.mu.Lock()
	d.codes[code] = deviceCode{r.PostForm.Get("client_id"), r.PostForm.Get("scope")}
	base := d.base
	d.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]any{
		"user_code": "ABCD1234E", "device_code": code, "verification_uri": base + "/device", "expires_in": 900, "interval": 1,
		"message": "To sign in, use a web browser to open the page " + base + "/device and enter the code ABCD1234E to authenticate.",
	})
}

// redeem answers who asks whether somebody has signed in.
func (d *Directory) redeem(w http.ResponseWriter, r *http.Request) {
	id := r.PostForm.Get("device_code")
	d.mu.Lock()
	code, ok := d.codes[id]
	person := d.user(d.person)
	if ok && person != nil {
		delete(d.codes, id)
	}
	d.mu.Unlock()
	switch {
	case !ok:
		tokenError(w, http.StatusBadRequest, "bad_verification_code", 501481, "The Code_Verifier does not match.")
		return
	case person == nil:
		tokenError(w, http.StatusBadRequest, "authorization_pending", 70016, "OAuth 2.0 device flow error. Authorization is pending. Continue polling.")
		return
	}
	var scopes []string
	for s := range strings.FieldsSeq(code.scope) {
		if name, ok := strings.CutPrefix(s, graphResource+"/"); ok && name != ".default" {
			scopes = append(scopes, name)
		}
	}
	token := d.PersonToken(person.ObjectID, code.client, scopes...)
	writeJSON(w, http.StatusOK, map[string]any{
		"token_type": "Bearer", "scope": code.scope, "expires_in": 3600, "ext_expires_in": 3600, "access_token": token,
		"id_token": d.IssueToken(Token{Audience: code.client, Version: 2, ObjectID: person.ObjectID, Claims: map[string]any{
			"preferred_username": person.PrincipalName, "name": person.Name, "idtyp": nil,
		}}),
		"client_info": clientInfo(person.ObjectID, d.cfg.TenantID),
	})
}

// PersonToken is a token for Graph of a person, who uses an application, with scopes as EntitlementManagement.ReadWrite.All. The Azure CLI's are its own.
func (d *Directory) PersonToken(object, client string, scopes ...string) string {
	if client == AzureCLI {
		scopes = []string{"Application.ReadWrite.All", "AppRoleAssignment.ReadWrite.All", "Directory.AccessAsUser.All", "User.Read.All"}
	}
	return d.IssueToken(Token{Audience: graphResource, AppID: client, ObjectID: object, Lifetime: time.Hour, Claims: map[string]any{
		"scp": strings.Join(scopes, " "), "idtyp": "user",
	}})
}

func clientInfo(object, tenant string) string {
	return encodePart(fmt.Sprintf(`{"uid":%q,"utid":%q}`, object, tenant))
}
