package doctor

import (
	"context"
	"fmt"
	"time"

	"ticketbridge/handler/fault"
)

func (x *examination) tables(ctx context.Context, r *report) {
	if err := x.Store.Probe(ctx); err != nil {
		x.noStorage = !fault.Is(err, fault.Forbidden)
		x.storageFault(r, err, "Storage Table Data Contributor")
		return
	}
	r.ok("", "a row was written, read and deleted in each")
}

func (x *examination) queue(ctx context.Context, r *report) {
	if x.noStorage {
		r.skip("", "not checked, because storage tables is not right")
		return
	}
	if err := x.Queue.Probe(ctx); err != nil {
		x.storageFault(r, err, "Storage Queue Data Contributor")
		return
	}
	r.ok("", "%s is there, and a message was put, received and deleted in one beside it", x.Queue.Name())
}

// storageFault says what is wrong with a service of the storage, and which role is missing where that is it.
func (x *examination) storageFault(r *report, err error, role string) {
	remedy := "Check the AzureWebJobsStorage settings, and the network rules of the storage account."
	if fault.Is(err, fault.Forbidden) {
		saw, _ := describe(err)
		switch {
		case x.StorageAccount != "":
			r.fail("", x.giveRole(role), "the identity lacks the role %s: %s", role, saw)
		default:
			r.fail("", "Use a connection string with the account's key, or with a shared access signature that may add, read, update, delete and process; and check the network rules of the storage account.",
				"the connection string does not allow it: %s", saw)
		}
		return
	}
	r.failErr("", err, remedy)
}

// giveRole is the command that gives the app's identity a role on the storage account.
func (x *examination) giveRole(role string) string {
	assignee := "<object id of the app's identity>"
	if id := x.principal(); id != "" {
		assignee = id
	}
	return fmt.Sprintf("az role assignment create --role %q --assignee-object-id %s --assignee-principal-type ServicePrincipal --scope $(az storage account show -n %s --query id -o tsv)",
		role, assignee, x.StorageAccount)
}

const remedySweep = "Set when it runs, and see that the function app does: az functionapp config appsettings set -g <group> -n <app> --settings 'SWEEP_SCHEDULE=0 * * * * *'"

// sweep looks when the sweep last began: the function is not there at all when the host finds no SWEEP_SCHEDULE.
func (x *examination) sweep(ctx context.Context, r *report) {
	mark, err := x.Store.Mark(ctx)
	if err != nil {
		r.failErr("", err, remedySweep)
		return
	}
	unset := ""
	if x.SweepSchedule == "" {
		unset = "; SWEEP_SCHEDULE is not set here"
	}
	now := time.Now().Add(x.Store.Ahead())
	switch ago := now.Sub(mark.Begun).Round(time.Second); {
	case mark.Begun.IsZero():
		r.warn("", remedySweep, "none has ever run%s", unset)
	case mark.Overdue(now):
		r.fail("", remedySweep, "the last one began %s ago, and what nobody reports waits for one%s", ago, unset)
	default:
		r.ok("", "the last one began %s ago", max(0, ago))
	}
}

// crowded is how many messages are more than a queue has that is kept up with.
const crowded = 2000

func (x *examination) messages(ctx context.Context, r *report) {
	kept, err := x.Store.Unreadable(ctx)
	if err != nil {
		r.failErr("", err, "Check the storage account.")
		return
	}
	waiting, poison, err := x.Queue.Depth(ctx)
	switch {
	case err != nil:
		r.failErr("", err, "Check the storage account.")
	case len(kept) > 0:
		r.warn("", "Look at what was sent: handler requests list --unreadable", "%s that nobody can read", plural(len(kept), "message"))
	case poison > 0:
		r.warn("", "See that the function sweep runs, which takes them, and what the function advance logs.", "the host has given up on %s", plural(poison, "message"))
	case waiting > crowded:
		r.warn("", "See that the function advance runs, and what it logs: az functionapp show -g <group> -n <app> --query state", "%s wait", plural(waiting, "message"))
	default:
		r.ok("", "%s in the queue, none that nobody can read", plural(waiting, "message"))
	}
}
