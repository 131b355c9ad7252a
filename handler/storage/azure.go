package storage

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/data/aztables"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue"

	"ticketbridge/handler/fault"
)

// azureTables are the tables of a storage account.
type azureTables struct{ service *aztables.ServiceClient }

// do makes a call on a table. A call that writes makes the table when it is not there; another finds the table empty.
func (a *azureTables) do(ctx context.Context, op, table string, writes bool, call func(context.Context, *aztables.Client) error) error {
	client := a.service.NewClient(table)
	ctx, sendings := counted(ctx)
	err := call(ctx, client)
	if r := refusalOf(err); writes && r != nil && r.code == string(aztables.TableNotFound) {
		if _, err := client.CreateTable(ctx, nil); err != nil {
			if err := faultOf("make table "+table, err); !fault.Is(err, fault.Exists) { // somebody else made it just now
				return err
			}
		}
		sendings.Store(0)
		err = call(ctx, client)
	}
	return repeated(faultOf(op, err), int(sendings.Load()))
}

// repeated marks what may be the answer to an earlier sending of the same call.
func repeated(err error, sendings int) error {
	if sendings > 1 && (fault.Is(err, fault.Exists) || fault.Is(err, fault.Conflict)) {
		e := *err.(*fault.Error) //nolint:errorlint,forcetypeassert // the drivers return nothing else
		e.Err = errRepeated
		return &e
	}
	return err
}

func (a *azureTables) get(ctx context.Context, table, pk, row string) (out entity, err error) {
	err = a.do(ctx, "get entity", table, false, func(ctx context.Context, c *aztables.Client) error {
		resp, err := c.GetEntity(ctx, pk, row, nil)
		if err != nil {
			return err
		}
		out, err = decode(resp.Value)
		if resp.ETag != "" {
			out.etag = string(resp.ETag)
		}
		return err
	})
	return out, err
}

func (a *azureTables) insert(ctx context.Context, table string, e entity) error {
	return a.do(ctx, "insert entity", table, true, func(ctx context.Context, c *aztables.Client) error {
		b, err := encode(e)
		if err == nil {
			_, err = c.AddEntity(ctx, b, nil)
		}
		return err
	})
}

func (a *azureTables) merge(ctx context.Context, table string, e entity) error {
	return a.do(ctx, "merge entity", table, false, func(ctx context.Context, c *aztables.Client) error {
		b, err := encode(e)
		if err == nil {
			_, err = c.UpdateEntity(ctx, b, &aztables.UpdateEntityOptions{UpdateMode: aztables.UpdateModeMerge, IfMatch: to.Ptr(azcore.ETagAny)})
		}
		return err
	})
}

func (a *azureTables) put(ctx context.Context, table string, e entity) error {
	return a.do(ctx, "merge or insert entity", table, true, func(ctx context.Context, c *aztables.Client) error {
		b, err := encode(e)
		if err == nil {
			_, err = c.UpsertEntity(ctx, b, &aztables.UpsertEntityOptions{UpdateMode: aztables.UpdateModeMerge})
		}
		return err
	})
}

func (a *azureTables) remove(ctx context.Context, table, pk, row string) error {
	return a.do(ctx, "delete entity", table, false, func(ctx context.Context, c *aztables.Client) error {
		_, err := c.DeleteEntity(ctx, pk, row, nil)
		return err
	})
}

func (a *azureTables) transact(ctx context.Context, table string, ops []operation) ([]string, error) {
	actions := make([]aztables.TransactionAction, len(ops))
	for i, o := range ops {
		b, err := encode(o.entity)
		if err != nil {
			return nil, faultOf("transaction", err)
		}
		actions[i] = aztables.TransactionAction{ActionType: aztables.TransactionTypeAdd, Entity: b}
		switch o.does {
		case merges:
			actions[i].ActionType, actions[i].IfMatch = aztables.TransactionTypeUpdateMerge, to.Ptr(azcore.ETag(o.etag))
		case deletes:
			actions[i].ActionType, actions[i].IfMatch = aztables.TransactionTypeDelete, to.Ptr(azcore.ETagAny)
			if o.etag != "" {
				actions[i].IfMatch = to.Ptr(azcore.ETag(o.etag))
			}
		}
	}
	var answer batch
	err := a.do(context.WithValue(ctx, batchKey{}, &answer), "transaction", table, true, func(ctx context.Context, c *aztables.Client) error {
		_, err := c.SubmitTransaction(ctx, actions, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(answer.etags) != len(ops) || (answer.etags[0] == "" && ops[0].does != deletes) {
		// Stored, but under which version? Whoever needs to know reads it again.
		return nil, &fault.Error{Op: "transaction", Reason: fault.Unreachable, Detail: fmt.Sprintf("%d answers to %d operations", len(answer.etags), len(ops)), Advice: adviseURL}
	}
	return answer.etags, nil
}

func (a *azureTables) query(ctx context.Context, table string, q query) (page []entity, next string, err error) {
	filter := []string{"PartitionKey eq " + quoted(q.partition)}
	if q.partition == "" {
		filter = []string{"PartitionKey ge " + quoted(q.first), "PartitionKey lt " + quoted(q.end)}
	}
	and := func(format, value string) {
		if value != "" {
			filter = append(filter, format+quoted(value))
		}
	}
	and("RowKey ge ", q.from)
	and("RowKey lt ", q.below)
	and("RowKey gt ", q.after)
	and("Record eq ", q.record)
	if !q.due.IsZero() {
		filter = append(filter, "Due le datetime'"+instant(q.due).Format(time.RFC3339Nano)+"'")
	}
	options := &aztables.ListEntitiesOptions{Filter: to.Ptr(strings.Join(filter, " and ")), Top: to.Ptr(int32(min(q.top, pageSize)))} //nolint:gosec // at most 1000
	if q.keys {
		options.Select = to.Ptr("PartitionKey,RowKey")
	}
	if pk, row, ok := strings.Cut(q.next, "\n"); ok {
		options.NextPartitionKey, options.NextRowKey = &pk, &row
	}
	err = a.do(ctx, "query entities", table, false, func(ctx context.Context, c *aztables.Client) error {
		pager := c.NewListEntitiesPager(options)
		resp, err := pager.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, b := range resp.Entities {
			e, err := decode(b)
			if err != nil {
				return err
			}
			if q.keys {
				e.props = nil
			}
			page = append(page, e)
		}
		if pager.More() {
			next = value(resp.NextPartitionKey) + "\n" + value(resp.NextRowKey)
		}
		return nil
	})
	if fault.Is(err, fault.NotFound) { // the table was never written to
		return nil, "", nil
	}
	return page, next, err
}

func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// encode writes e as the JSON that Table Storage reads.
func encode(e entity) ([]byte, error) {
	props := make(map[string]any, len(e.props))
	for name, v := range e.props {
		switch v := v.(type) {
		case time.Time:
			props[name] = aztables.EDMDateTime(instant(v))
		case []byte:
			props[name] = aztables.EDMBinary(v)
		case int64:
			props[name] = aztables.EDMInt64(v)
		default:
			props[name] = v
		}
	}
	return json.Marshal(aztables.EDMEntity{Entity: aztables.Entity{PartitionKey: e.partition, RowKey: e.row}, Properties: props})
}

func decode(b []byte) (entity, error) {
	var in aztables.EDMEntity
	if err := json.Unmarshal(b, &in); err != nil {
		return entity{}, &fault.Error{Op: "read entity", Reason: fault.Unreachable, Detail: "what answered does not answer as storage does", Advice: adviseURL}
	}
	out := entity{partition: in.PartitionKey, row: in.RowKey, etag: in.ETag, props: in.Properties}
	for name, v := range out.props {
		switch v := v.(type) {
		case aztables.EDMDateTime:
			out.props[name] = time.Time(v).UTC()
		case aztables.EDMBinary:
			out.props[name] = []byte(v)
		case aztables.EDMInt64:
			out.props[name] = int64(v)
		case aztables.EDMGUID:
			out.props[name] = string(v)
		}
	}
	return out, nil
}

// azureQueues are the queues of a storage account.
type azureQueues struct{ service *azqueue.ServiceClient }

func (a *azureQueues) create(ctx context.Context, queue string) error {
	_, err := a.service.NewQueueClient(queue).Create(ctx, nil)
	if err := faultOf("create queue", err); !fault.Is(err, fault.Exists) {
		return err
	}
	return nil
}

func (a *azureQueues) put(ctx context.Context, queue, text string, visibleIn, ttl time.Duration) error {
	_, err := a.service.NewQueueClient(queue).EnqueueMessage(ctx, text, &azqueue.EnqueueMessageOptions{
		VisibilityTimeout: whole(visibleIn), TimeToLive: whole(ttl),
	})
	return faultOf("put message", err)
}

func (a *azureQueues) get(ctx context.Context, queue string, most int, invisible time.Duration) ([]QueueMessage, error) {
	resp, err := a.service.NewQueueClient(queue).DequeueMessages(ctx, &azqueue.DequeueMessagesOptions{
		NumberOfMessages: to.Ptr(int32(most)), VisibilityTimeout: whole(invisible), //nolint:gosec // at most 32
	})
	if err != nil {
		return nil, faultOf("get messages", err)
	}
	var out []QueueMessage
	for _, m := range resp.Messages {
		out = append(out, QueueMessage{
			ID: value(m.MessageID), PopReceipt: value(m.PopReceipt), Text: value(m.MessageText), DequeueCount: value(m.DequeueCount),
			InsertedOn: value(m.InsertionTime), ExpiresOn: value(m.ExpirationTime), NextVisibleOn: value(m.TimeNextVisible),
		})
	}
	return out, nil
}

func (a *azureQueues) extend(ctx context.Context, queue, id, popReceipt string, invisible time.Duration) (string, error) {
	ctx = context.WithValue(ctx, keepTextKey{}, true)
	resp, err := a.service.NewQueueClient(queue).UpdateMessage(ctx, id, popReceipt, "", &azqueue.UpdateMessageOptions{VisibilityTimeout: whole(invisible)})
	return value(resp.PopReceipt), faultOf("extend message", err)
}

func (a *azureQueues) remove(ctx context.Context, queue, id, popReceipt string) error {
	_, err := a.service.NewQueueClient(queue).DeleteMessage(ctx, id, popReceipt, nil)
	return faultOf("delete message", err)
}

func (a *azureQueues) depth(ctx context.Context, queue string) (int, error) {
	resp, err := a.service.NewQueueClient(queue).GetProperties(ctx, nil)
	return int(value(resp.ApproximateMessagesCount)), faultOf("count messages", err)
}

// whole is d in seconds.
func whole(d time.Duration) *int32 { return to.Ptr(int32(d / time.Second)) } //nolint:gosec // at most 14 days

// keepText takes the body off a call that would otherwise empty a message's text: an update without one leaves it as it is.
func keepText(req *policy.Request) (*http.Response, error) {
	if req.Raw().Context().Value(keepTextKey{}) != nil {
		if err := req.SetBody(streaming.NopCloser(bytes.NewReader(nil)), ""); err != nil {
			return nil, err
		}
		req.Raw().GetBody = nil
	}
	return req.Next()
}
