package entra

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	abstractions "github.com/microsoft/kiota-abstractions-go"
	"github.com/microsoftgraph/msgraph-sdk-go/identitygovernance"
	"github.com/microsoftgraph/msgraph-sdk-go/models"

	"ticketbridge/handler/callout"
	"ticketbridge/handler/correlation"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/workflow"
)

const (
	opReadMany = "read requests in Graph"
	opPeople   = "look people up in Graph"

	// maxBatch is how many steps Graph takes in one batch.
	maxBatch = 20
)

// A step is one request of a batch, as Graph documents JSON batching; an outcome is its answer. They come in any order, and some may be missing.
type (
	step struct {
		ID     string `json:"id"`
		Method string `json:"method"`
		URL    string `json:"url"` // relative to the version
	}
	outcome struct {
		ID      string            `json:"id"`
		Status  int               `json:"status"`
		Headers map[string]string `json:"headers"`
		Body    json.RawMessage   `json:"body"`
	}
)

// ReadMany asks for up to twenty requests in one batch. Its error is that of the call, or of the first step that was turned away because there were too many.
func (c *Client) ReadMany(ctx context.Context, keys []correlation.Key) (map[correlation.Key]workflow.RequestStatus, error) {
	if len(keys) == 0 || len(keys) > maxBatch {
		return nil, &fault.Error{Op: opReadMany, Reason: fault.Internal, Detail: "a batch has 1 to " + strconv.Itoa(maxBatch) + " requests"}
	}
	var body struct {
		Requests []step `json:"requests"`
	}
	for i, key := range keys {
		id, err := pathID(opReadMany, key)
		if err != nil {
			return nil, err
		}
		body.Requests = append(body.Requests, step{
			ID: strconv.Itoa(i), Method: http.MethodGet,
			URL: "/identityGovernance/entitlementManagement/assignmentRequests/" + id + "?$select=" + strings.Join(properties, ","),
		})
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	var answer []byte
	seen, err := c.call(ctx, func(ctx context.Context) error {
		info := abstractions.NewRequestInformation()
		info.Method, info.UrlTemplate = abstractions.POST, "{+baseurl}/$batch"
		info.SetStreamContentAndContentType(encoded, "application/json")
		info.Headers.Add("Accept", "application/json")
		got, err := c.adapter.SendPrimitive(ctx, info, "[]byte", nil)
		answer, _ = got.([]byte)
		return err
	})
	if err != nil || seen.status != http.StatusOK {
		return nil, seen.fault(opReadMany, fault.Unreachable, err)
	}
	var said struct {
		Responses []outcome `json:"responses"`
	}
	if err := json.Unmarshal(answer, &said); err != nil {
		return nil, seen.fault(opReadMany, fault.Unreachable, errors.New("the batch's answer is not JSON"))
	}
	stand := map[correlation.Key]workflow.RequestStatus{}
	var throttled error
	for _, o := range said.Responses {
		i, err := strconv.Atoi(o.ID)
		if err != nil || i < 0 || i >= len(keys) {
			continue
		}
		if st, ok := o.status(keys[i]); ok {
			stand[keys[i]] = st
			continue
		}
		if o.Status == http.StatusTooManyRequests && throttled == nil {
			header := http.Header{}
			for name, value := range o.Headers {
				header.Set(name, value)
			}
			throttled = (&exchange{tried: true, status: o.Status, header: header, body: o.Body}).fault(opReadMany, fault.Unreachable, nil)
		}
	}
	return stand, throttled
}

// status reads what a step says of the request; ok is false when it does not.
func (o outcome) status(key correlation.Key) (out workflow.RequestStatus, ok bool) {
	var r struct {
		ID        string `json:"id"`
		State     string `json:"state"`
		Status    string `json:"status"`
		Instances []struct {
			ID     string `json:"id"`
			Status string `json:"status"`
		} `json:"customExtensionCalloutInstances"`
	}
	if o.Status != http.StatusOK || json.Unmarshal(o.Body, &r) != nil || !strings.EqualFold(r.ID, key.Request) {
		return workflow.RequestStatus{}, false
	}
	out = workflow.RequestStatus{State: r.State, Status: r.Status}
	for _, i := range r.Instances {
		if strings.EqualFold(strings.TrimSpace(i.ID), key.Stage) {
			out.Instance = cmp.Or(i.Status, unknownStatus)
		}
	}
	return out, true
}

// People returns the requestor and the target of the request's assignment. Both are entitlement management's own records of people (accessPackageSubject), for which the right to
// read the request is enough; the directory itself is not asked.
func (c *Client) People(ctx context.Context, key correlation.Key) ([]callout.Person, error) {
	id, err := pathID(opPeople, key)
	if err != nil {
		return nil, err
	}
	type (
		query  = identitygovernance.EntitlementManagementAssignmentRequestsAccessPackageAssignmentRequestItemRequestBuilderGetQueryParameters
		config = identitygovernance.EntitlementManagementAssignmentRequestsAccessPackageAssignmentRequestItemRequestBuilderGetRequestConfiguration
	)
	var r models.AccessPackageAssignmentRequestable
	seen, err := c.call(ctx, func(ctx context.Context) (err error) {
		r, err = c.graph.ByAccessPackageAssignmentRequestId(id).Get(ctx, &config{
			QueryParameters: &query{Select: []string{"id"}, Expand: []string{"requestor", "assignment($expand=target)"}},
		})
		return err
	})
	if err != nil || seen.status != http.StatusOK || r == nil || !strings.EqualFold(deref(r.GetId()), id) {
		return nil, seen.fault(opPeople, fault.Unreachable, err)
	}
	subjects := []models.AccessPackageSubjectable{r.GetRequestor()}
	if a := r.GetAssignment(); a != nil {
		subjects = append(subjects, a.GetTarget())
	}
	var out []callout.Person
	for _, s := range subjects {
		if s != nil {
			out = append(out, callout.Person{
				ID: deref(s.GetId()), ObjectID: deref(s.GetObjectId()), Name: deref(s.GetDisplayName()), Email: deref(s.GetEmail()), PrincipalName: deref(s.GetPrincipalName()),
			})
		}
	}
	return out, nil
}
