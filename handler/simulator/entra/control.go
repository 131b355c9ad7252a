package entra

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"ticketbridge/handler/simulator/misbehave"
)

// controlPath is where a person, or a test in another process, steers the stand-in. Nothing of it exists at Microsoft's.
const controlPath = "/_simulator"

// control serves what the Go API does, for curl:
//
//	GET  /_simulator/requests                     every request, with what Graph was told about it
//	POST /_simulator/requests                     {"package": "Ledger reader", "target": "robin.marsh@example.com"}
//	POST /_simulator/requests/{id}/{action}       withdraw, expire, approve, reject, repeat, warn (?stage=…)
//	GET  /_simulator/calls                        how often each route was called
//	GET  /_simulator/tenant                       all that is set up in the tenant
//	     /_simulator/{service}/faults             the faults of graph, authority, identity or callouts
func (d *Directory) control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+controlPath+"/requests", func(w http.ResponseWriter, _ *http.Request) {
		views := []requestView{}
		for _, r := range d.Requests() {
			views = append(views, d.view(r))
		}
		writeJSON(w, http.StatusOK, views)
	})
	mux.HandleFunc("GET "+controlPath+"/requests/{id}", func(w http.ResponseWriter, r *http.Request) {
		d.answerView(w, http.StatusOK, r.PathValue("id"))
	})
	mux.HandleFunc("POST "+controlPath+"/requests", d.controlSubmit)
	mux.HandleFunc("POST "+controlPath+"/requests/{id}/{action}", d.controlAct)
	mux.HandleFunc("GET "+controlPath+"/calls", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, d.Calls())
	})
	mux.HandleFunc("GET "+controlPath+"/tenant", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write(d.Configuration())
	})
	for service, desk := range map[string]*misbehave.Desk{
		"graph": d.GraphFaults, "authority": d.AuthorityFaults, "identity": d.IdentityFaults, "callouts": d.CalloutFaults,
	} {
		prefix := controlPath + "/" + service
		faults := desk.Handler()
		serve := func(w http.ResponseWriter, r *http.Request) {
			inner := r.Clone(r.Context())
			inner.URL.Path = controlPath + strings.TrimPrefix(r.URL.Path, prefix)
			faults.ServeHTTP(w, inner)
		}
		mux.HandleFunc(prefix+"/faults", serve)
		mux.HandleFunc(prefix+"/faults/{id}", serve)
	}
	return mux
}

// requestView is a request as the control shows it.
type requestView struct {
	ID       string        `json:"id"`
	Type     string        `json:"type"`
	Package  string        `json:"package"`
	Target   string        `json:"target"`
	State    string        `json:"state"`
	Status   string        `json:"status"`
	MyAccess string        `json:"myAccess"`
	Over     bool          `json:"over"`
	Callouts []calloutView `json:"callouts"`
	Resumes  []resumeView  `json:"resumes"`
}

type calloutView struct {
	ID       string     `json:"id"`
	Stage    string     `json:"stage"`
	Status   string     `json:"status"`
	Waits    bool       `json:"waits"`
	Deadline *time.Time `json:"deadline,omitempty"`
	Answers  []string   `json:"answers"` // to each call, "202" or why there was none
}

type resumeView struct {
	At       time.Time `json:"at"`
	Stage    string    `json:"stage"`
	State    string    `json:"state,omitempty"`
	Detail   string    `json:"detail,omitempty"`
	Status   int       `json:"status"`
	Accepted bool      `json:"accepted"`
	Problem  string    `json:"problem,omitempty"`
}

func (d *Directory) view(r Request) requestView {
	v := requestView{
		ID: r.ID, Type: r.Type, Package: r.PackageName, Target: r.Target.Name, State: r.State, Status: r.Status, MyAccess: r.MyAccess,
		Over: r.Over, Callouts: []calloutView{}, Resumes: []resumeView{},
	}
	for _, c := range r.Callouts {
		cv := calloutView{ID: c.ID, Stage: c.Stage, Status: c.Status, Waits: c.Waits}
		if c.Waits {
			cv.Deadline = &c.Deadline
		}
		for _, a := range c.Attempts {
			answer := a.Err
			if answer == "" {
				answer = fmt.Sprint(a.Status)
			}
			cv.Answers = append(cv.Answers, answer)
		}
		v.Callouts = append(v.Callouts, cv)
	}
	for _, told := range d.Resumes(r.ID) {
		v.Resumes = append(v.Resumes, resumeView{told.At, told.Stage, told.State, told.Detail, told.Status, told.Accepted, told.Problem})
	}
	return v
}

func (d *Directory) answerView(w http.ResponseWriter, status int, id string) {
	r, ok := d.Request(id)
	if !ok {
		http.Error(w, "there is no such request", http.StatusNotFound)
		return
	}
	writeJSON(w, status, d.view(r))
}

// controlSubmit takes a package or policy by name or id, and a person by principal name or object id.
func (d *Directory) controlSubmit(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Type      string   `json:"type"`
		Package   string   `json:"package"`
		Policy    string   `json:"policy"`
		Target    string   `json:"target"`
		Requestor string   `json:"requestor"`
		Answers   []Answer `json:"answers"`
	}
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&in); err != nil {
		http.Error(w, "reading the request: "+err.Error(), http.StatusBadRequest)
		return
	}
	d.mu.Lock()
	if in.Policy == "" {
		p := find(d.policies, func(p *policy) bool { return strings.EqualFold(p.pkg, in.Package) || d.pkg(p.pkg).Name == in.Package })
		if p != nil {
			in.Policy = p.id
		}
	}
	person := func(name string) string {
		if u := find(d.users, func(u *User) bool { return strings.EqualFold(u.PrincipalName, name) }); u != nil {
			return u.ObjectID
		}
		return name
	}
	in.Target, in.Requestor = person(in.Target), person(in.Requestor)
	d.mu.Unlock()
	id, err := d.Submit(NewRequest{Type: in.Type, Policy: in.Policy, Target: in.Target, Requestor: in.Requestor, Answers: in.Answers})
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	d.answerView(w, http.StatusCreated, id)
}

func (d *Directory) controlAct(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	var err error
	switch r.PathValue("action") {
	case "withdraw":
		err = d.Withdraw(id)
	case "expire":
		err = d.Expire(id)
	case "approve":
		err = d.Approve(id)
	case "reject":
		err = d.Reject(id)
	case "warn":
		_, err = d.WarnExpiring(id, r.URL.Query().Get("stage"))
	case "repeat":
		request, ok := d.Request(id)
		if err = ErrUnknown; ok && len(request.Callouts) > 0 {
			_, err = d.RepeatCallout(request.Callouts[len(request.Callouts)-1].ID)
		}
	default:
		http.NotFound(w, r)
		return
	}
	switch {
	case errors.Is(err, ErrUnknown):
		http.Error(w, err.Error(), http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusConflict)
	default:
		d.answerView(w, http.StatusOK, id)
	}
}
