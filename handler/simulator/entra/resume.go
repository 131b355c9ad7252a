package entra

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"ticketbridge/handler/simulator/entra/csdl"
)

// A Resume is one call of the resume action that was understood, accepted or not: what Graph was told. It is the truth that
// others' records are compared with.
type Resume struct {
	At            time.Time
	Request       string
	StageInstance string // as the body says
	Stage         string
	State         string // "" grants; Denied or Canceled
	Detail        string
	Source        string
	Caller        string // object id
	Status        int    // what was answered
	Accepted      bool   // it moved the request; a repetition that was answered with 204 did not
	Problem       string // why it was refused
}

// Grants says whether the resume, if accepted, let the request go on.
func (r Resume) Grants() bool { return r.State == "" }

// Resumes returns what Graph was told about a request, oldest first; with "" about every one.
func (d *Directory) Resumes(request string) []Resume {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []Resume
	for _, r := range d.resumes {
		if request == "" || strings.EqualFold(r.Request, request) {
			out = append(out, r)
		}
	}
	return out
}

const (
	callbackType = "microsoft.graph.accessPackageAssignmentRequestCallbackData"
	stageType    = "microsoft.graph.accessPackageCustomExtensionStage."
)

// resume continues or denies a request that waits for a callback.
func (d *Directory) resume(t *csdl.Target, body map[string]any, who caller) graphAnswer {
	id := lastKey(t)
	r := d.request(id)
	if r == nil && who.has(readWriteAll) {
		return refusal(http.StatusNotFound, "ResourceNotFound", "The assignment request '%s' was not found.", id)
	}
	if r == nil || !d.mayManage(who, r.Catalog, roleCatalogOwner, roleAssignmentManager) {
		return forbidden()
	}
	text := func(from map[string]any, name string) string { s, _ := from[name].(string); return s }
	data, _ := body["data"].(map[string]any)
	told := Resume{
		At: time.Now(), Request: r.ID, StageInstance: text(data, "customExtensionStageInstanceId"), Stage: text(data, "stage"),
		State: text(data, "state"), Detail: text(data, "customExtensionStageInstanceDetail"), Source: text(body, "source"), Caller: who.object,
	}
	answer, accepted := d.takeCallback(r, &told, text(body, "type"), strings.TrimPrefix(text(data, "@odata.type"), "#"))
	told.Status, told.Accepted = answer.status, accepted
	if inner, ok := answer.body.(map[string]any); ok {
		told.Problem = fmt.Sprint(inner["error"].(map[string]any)["message"])
	}
	d.resumes = append(d.resumes, told)
	d.notify()
	return answer
}

// takeCallback checks a callback's preconditions and lets it act. What a second resume or a wrong stage gets is not documented: 400
// here, or what Config says.
func (d *Directory) takeCallback(r *request, told *Resume, typ, dataType string) (graphAnswer, bool) {
	bad := func(format string, args ...any) (graphAnswer, bool) {
		return refusal(http.StatusBadRequest, "BadRequest", format, args...), false
	}
	switch {
	case dataType != callbackType:
		return bad("The data of the callback must be of the type %s.", callbackType)
	case told.StageInstance == "" || told.Stage == "":
		return bad("The stage and the customExtensionStageInstanceId are required.")
	case typ != stageType+told.Stage:
		return bad("The type '%s' does not name the stage '%s'.", typ, told.Stage)
	case told.State != "" && !strings.EqualFold(told.State, "Denied") && !strings.EqualFold(told.State, "Canceled"):
		return bad("The state '%s' is not valid for a callback.", told.State)
	}
	c := find(r.callouts, func(c *callout) bool { return strings.EqualFold(c.ID, told.StageInstance) })
	switch {
	case c == nil || c.Stage != told.Stage:
		return bad("The custom extension stage instance does not match the request.")
	case c.Status == StatusReceived:
		switch d.cfg.SecondResume {
		case http.StatusNoContent:
			return graphAnswer{status: http.StatusNoContent}, false
		case http.StatusNotFound:
			return refusal(http.StatusNotFound, "ResourceNotFound", "There is no callout that waits for a callback."), false
		default:
			return bad("The request is not waiting for a callback.")
		}
	case r.Over || !c.Waits || c.Status != StatusWaiting && c.Status != StatusSent:
		return bad("The request is not waiting for a callback.")
	case told.State != "" && slices.Contains(d.cfg.RefuseDenialAt, c.Stage):
		return bad("The request cannot be denied at the stage '%s'.", c.Stage)
	}
	c.Status, c.Detail = StatusReceived, told.Detail
	switch {
	case strings.EqualFold(told.State, "Denied"):
		d.close(r, StateDenied, "Denied", "")
	case strings.EqualFold(told.State, "Canceled"):
		d.close(r, StateCanceled, "Canceled", "")
	}
	close(c.done)
	return graphAnswer{status: http.StatusNoContent}, true
}

// cancelRequest is the action "cancel": documented for requests that have not been decided yet.
func (d *Directory) cancelRequest(t *csdl.Target, _ map[string]any, who caller) graphAnswer {
	r := d.request(lastKey(t))
	switch {
	case r == nil && who.has(readWriteAll):
		return refusal(http.StatusNotFound, "ResourceNotFound", "The assignment request '%s' was not found.", lastKey(t))
	case r == nil || !d.mayManage(who, r.Catalog, roleCatalogOwner, roleAssignmentManager):
		return forbidden()
	case r.State != StateSubmitted && r.State != StatePendingApproval:
		return refusal(http.StatusBadRequest, "BadRequest", "A request in the state '%s' cannot be canceled.", r.State)
	}
	d.cancel(r)
	return graphAnswer{status: http.StatusNoContent}
}

func lastKey(t *csdl.Target) string {
	for _, s := range slices.Backward(t.Steps) {
		if s.Key != "" {
			return s.Key
		}
	}
	return ""
}
