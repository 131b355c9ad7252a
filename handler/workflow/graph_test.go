package workflow_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

// graph is a small client of Graph: workflow.Requests without Microsoft's SDK, which takes minutes to compile. Its errors are those of handler/entra.
type graph struct {
	http  *http.Client
	url   string
	token string
}

var _ workflow.Requests = (*graph)(nil)

func (g *graph) Answer(ctx context.Context, key correlation.Key, stage string, d workflow.Decision, detail string) error {
	data := map[string]any{
		"@odata.type": "#microsoft.graph.accessPackageAssignmentRequestCallbackData", "stage": stage,
		"customExtensionStageInstanceId": key.Stage, "customExtensionStageInstanceDetail": detail,
	}
	switch d {
	case workflow.Resume:
	case workflow.Deny:
		data["state"] = "Denied"
	case workflow.Cancel:
		data["state"] = "Canceled"
	default:
		return &fault.Error{Op: "answer", Reason: fault.Internal, Detail: fmt.Sprintf("there is no decision %q", d)}
	}
	body, err := json.Marshal(map[string]any{"source": "ServiceNow", "type": "microsoft.graph.accessPackageCustomExtensionStage." + stage, "data": data})
	if err != nil {
		return err
	}
	_, err = g.call(ctx, http.MethodPost, requestsPath+"/"+key.Request+"/resume", body, http.StatusNoContent, fault.Unclear)
	return err
}

const requestsPath = "/identityGovernance/entitlementManagement/assignmentRequests"

func (g *graph) Read(ctx context.Context, key correlation.Key) (workflow.RequestStatus, error) {
	answer, err := g.call(ctx, http.MethodGet, requestsPath+"/"+key.Request+"?"+selected, nil, http.StatusOK, fault.Unreachable)
	if err != nil {
		return workflow.RequestStatus{}, err
	}
	return statusOf(answer, key)
}

const selected = "$select=id,state,status,customExtensionCalloutInstances"

func (g *graph) ReadMany(ctx context.Context, keys []correlation.Key) (map[correlation.Key]workflow.RequestStatus, error) {
	var steps []map[string]any
	for i, key := range keys {
		steps = append(steps, map[string]any{"id": strconv.Itoa(i), "method": "GET", "url": requestsPath + "/" + key.Request + "?" + selected})
	}
	body, err := json.Marshal(map[string]any{"requests": steps})
	if err != nil {
		return nil, err
	}
	answer, err := g.call(ctx, http.MethodPost, "/$batch", body, http.StatusOK, fault.Unreachable)
	if err != nil {
		return nil, err
	}
	var said struct {
		Responses []struct {
			ID     string
			Status int
			Body   json.RawMessage
		}
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return nil, &fault.Error{Op: "read many", Reason: fault.Unreachable, Detail: "what answered does not answer as Graph does"}
	}
	stand := map[correlation.Key]workflow.RequestStatus{}
	for _, r := range said.Responses {
		i, err := strconv.Atoi(r.ID)
		if err != nil || r.Status != http.StatusOK {
			continue
		}
		if st, err := statusOf(r.Body, keys[i]); err == nil {
			stand[keys[i]] = st
		}
	}
	return stand, nil
}

func (g *graph) People(ctx context.Context, key correlation.Key) ([]callout.Person, error) {
	answer, err := g.call(ctx, http.MethodGet, requestsPath+"/"+key.Request+"?$select=id&$expand=requestor,assignment($expand=target)", nil, http.StatusOK, fault.Unreachable)
	if err != nil {
		return nil, err
	}
	type subject struct{ ObjectID, Email, PrincipalName string }
	var r struct {
		Requestor  *subject
		Assignment *struct{ Target *subject }
	}
	if err := json.Unmarshal(answer, &r); err != nil {
		return nil, &fault.Error{Op: "people", Reason: fault.Unreachable, Detail: "what answered does not answer as Graph does"}
	}
	all := []*subject{r.Requestor}
	if r.Assignment != nil {
		all = append(all, r.Assignment.Target)
	}
	var out []callout.Person
	for _, s := range all {
		if s != nil {
			out = append(out, callout.Person{ObjectID: s.ObjectID, Email: s.Email, PrincipalName: s.PrincipalName})
		}
	}
	return out, nil
}

func statusOf(answer []byte, key correlation.Key) (workflow.RequestStatus, error) {
	var r struct {
		State, Status                   string
		CustomExtensionCalloutInstances []struct{ ID, Status string }
	}
	if err := json.Unmarshal(answer, &r); err != nil {
		return workflow.RequestStatus{}, &fault.Error{Op: "read", Reason: fault.Unreachable, Detail: "what answered does not answer as Graph does"}
	}
	out := workflow.RequestStatus{State: r.State, Status: r.Status}
	for _, i := range r.CustomExtensionCalloutInstances {
		if strings.EqualFold(i.ID, key.Stage) {
			out.Instance = i.Status
		}
	}
	return out, nil
}

// call makes one call; lost is the reason of one that may have arrived and has no usable answer.
func (g *graph) call(ctx context.Context, method, path string, body []byte, success int, lost fault.Reason) ([]byte, error) {
	e := &fault.Error{Op: "call Graph"}
	req, err := http.NewRequestWithContext(ctx, method, g.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+g.token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := g.http.Do(req)
	if err != nil {
		e.Reason, e.Detail = lost, "the call was sent, and no whole answer came"
		return nil, e
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		e.Reason = lost
		return nil, e
	}
	if resp.StatusCode == success {
		return answer, nil
	}
	var said struct {
		Error struct{ Code, Message string }
	}
	_ = json.Unmarshal(answer, &said)
	e.Status, e.Detail = resp.StatusCode, said.Error.Code
	if n, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.After = time.Duration(n) * time.Second
	}
	switch s := resp.StatusCode; {
	case s < 400, s >= 500, s == http.StatusRequestTimeout, s == http.StatusNotFound && said.Error.Code == "":
		e.Reason = lost
	case s == http.StatusTooManyRequests:
		e.Reason = fault.Throttled
	case s == http.StatusUnauthorized:
		e.Reason = fault.Unauthorized
	case s == http.StatusForbidden:
		e.Reason, e.Advice = fault.Forbidden, "Give the function's identity the role."
	case said.Error.Code == "UnknownError" && said.Error.Message == "":
		e.Reason = lost
	case s == http.StatusNotFound:
		e.Reason = fault.NotFound
	default:
		e.Reason = fault.Refused
	}
	return nil, e
}
