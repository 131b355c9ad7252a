package servicenow

import (
	"net/http"
	"strings"
)

// A session is one of the user interface's, which the instance knows by a cookie. What speaks for its user beside the cookie is its token, in the header
// X-UserToken: ServiceNow's own command line works this way.
type session struct{ user, token string }

// sessionCookie is the cookie that names a session.
const sessionCookie = "JSESSIONID"

// maxSessions bounds what is remembered of people who never come back.
const maxSessions = 1000

// newSession begins a session of the user, "" for nobody yet, and sets its cookies.
func (i *Instance) newSession(w http.ResponseWriter, user string) {
	id := i.setCookies(w)
	a := i.auth
	a.mu.Lock()
	defer a.mu.Unlock()
	for old := range a.sessions {
		if len(a.sessions) < maxSessions {
			break
		}
		delete(a.sessions, old)
	}
	a.sessions[id] = session{user, newID() + newID()}
}

// sessionOf is the session that the call's cookie names.
func (a *authority) sessionOf(r *http.Request) (id string, s session, known bool) {
	cookie, err := r.Cookie(sessionCookie)
	if err != nil {
		return "", session{}, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s, known = a.sessions[cookie.Value]
	return cookie.Value, s, known
}

// adopt makes the session of the call, if it has one, that of the user whom the call proved to be.
func (a *authority) adopt(r *http.Request, user string) {
	id, s, known := a.sessionOf(r)
	if !known || s.user != "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	s.user = user
	a.sessions[id] = s
}

// serveAngular is /angular.do, as far as a program logs in with it.
func (i *Instance) serveAngular(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	switch r.URL.Query().Get("sysparm_type") {
	case "view_form.login":
		i.serveLogin(w, r)
	case "get_user":
		i.serveUser(w, r)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// serveLogin logs in with a password. That it failed stands in the body; a user with web service access only cannot log in.
func (i *Instance) serveLogin(w http.ResponseWriter, r *http.Request) {
	name := ""
	if r.ParseForm() == nil && r.PostForm.Get("sysparm_type") == "login" {
		name = i.auth.byPassword(r.PostForm.Get("user_name"), r.PostForm.Get("user_password"))
	}
	i.mu.Lock()
	user := i.userNamed(name)
	ok := user != nil && user.active() && user.fields["locked_out"] != "true" && user.fields["web_service_access_only"] != "true"
	i.mu.Unlock()
	if !ok {
		writeJSON(w, http.StatusOK, map[string]any{"status": "error", "message": "User name or password invalid"})
		return
	}
	i.newSession(w, user.fields["user_name"])
	writeJSON(w, http.StatusOK, map[string]any{"status": "success"})
}

// serveUser says who is logged in. Without the session's token it answers a session that has a user with 401, and gives the token in a header.
func (i *Instance) serveUser(w http.ResponseWriter, r *http.Request) {
	_, s, known := i.auth.sessionOf(r)
	switch {
	case !known:
		i.newSession(w, "")
	case s.user != "" && !same(s.token, r.Header.Get("X-UserToken")):
		w.Header().Set("X-UserToken-Response", s.token)
		errNotAuthenticated.write(w)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"user_name": s.user})
}

// byPassword is the User ID whose password that is, or "".
func (a *authority) byPassword(user, password string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if want, known := a.passwords[strings.ToLower(user)]; known && same(want, password) {
		return user
	}
	return ""
}
