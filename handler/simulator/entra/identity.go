package entra

import (
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

// identityPath is the path of the App Service identity endpoint.
const identityPath = "/msi/token"

// Environment returns the variables that App Service sets for an app with this managed identity, and those that point at the
// stand-in's authority and Graph. The client id is "" for the system-assigned identity. azidentity itself takes an authority only
// over https; nothing needs one that uses a managed identity.
func (d *Directory) Environment(clientID string) map[string]string {
	env := map[string]string{
		"IDENTITY_ENDPOINT": d.BaseURL() + identityPath, "IDENTITY_HEADER": d.cfg.IdentityHeader, "AZURE_TENANT_ID": d.cfg.TenantID,
		"AZURE_AUTHORITY_HOST": d.BaseURL(), "GRAPH_URL": d.GraphURL(),
	}
	if clientID != "" {
		env["AZURE_CLIENT_ID"] = clientID
	}
	return env
}

// serveIdentity is the App Service identity endpoint, api-version 2019-08-01.
func (d *Directory) serveIdentity(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	refuse := func(status int, message string) {
		writeJSON(w, status, map[string]any{"statusCode": status, "message": message, "correlationId": uuid.NewString()})
	}
	if subtle.ConstantTimeCompare([]byte(r.Header.Get("X-IDENTITY-HEADER")), []byte(d.cfg.IdentityHeader)) != 1 {
		refuse(http.StatusUnauthorized, "The X-IDENTITY-HEADER is missing or wrong.")
		return
	}
	if v := q.Get("api-version"); v != "2019-08-01" {
		refuse(http.StatusBadRequest, fmt.Sprintf("The api-version '%s' is not supported.", v))
		return
	}
	resource := q.Get("resource")
	if resource == "" {
		refuse(http.StatusBadRequest, "The parameter 'resource' is missing.")
		return
	}
	d.mu.Lock()
	identity := find(d.identities, func(i *Identity) bool {
		switch {
		case q.Has("client_id"):
			return i.UserAssigned && strings.EqualFold(i.ClientID, q.Get("client_id"))
		case q.Has("principal_id"):
			return i.UserAssigned && strings.EqualFold(i.ObjectID, q.Get("principal_id"))
		case q.Has("object_id"):
			return i.UserAssigned && strings.EqualFold(i.ObjectID, q.Get("object_id"))
		default:
			return !i.UserAssigned
		}
	})
	d.mu.Unlock()
	if identity == nil {
		refuse(http.StatusBadRequest, "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.")
		return
	}
	token, err := d.identityToken(identity.ClientID, resource)
	if err != nil {
		refuse(http.StatusBadRequest, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"access_token": token, "expires_on": fmt.Sprint(time.Now().Add(identityTokenLifetime).Unix()), "resource": resource,
		"token_type": "Bearer", "client_id": strings.ToUpper(identity.ClientID),
	})
}
