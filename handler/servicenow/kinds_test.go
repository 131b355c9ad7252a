package servicenow

import (
	"testing"
	"testing/synctest"
	"time"

	"ticketbridge/handler/entra/identity"
	"ticketbridge/handler/fault"
	"ticketbridge/handler/simulator/entra"
	standin "ticketbridge/handler/simulator/servicenow"
	"ticketbridge/handler/ticket"
)

func TestEachKindOfTicketIsCreatedFoundReadNotedAndCancelledOverTheWire(t *testing.T) {
	t.Parallel()
	for _, kind := range []struct {
		draft  ticket.Draft
		number string
		cancel map[string]string
	}{
		{ticket.Draft{Table: "incident"}, "INC0010001", map[string]string{"state": "8"}},
		{ticket.Draft{Table: "sc_request"}, "REQ0010001", map[string]string{"request_state": "closed_cancelled"}},
		{order(nil), "RITM0010001", map[string]string{"state": "7"}},
		{ticket.Draft{Table: "sc_task"}, "SCTASK0010001", map[string]string{"state": "7"}},
		{ticket.Draft{Table: "change_request"}, "CHG0030001", map[string]string{"state": "4"}},
		{ticket.Draft{Table: "u_access_request"}, "ACC0001001", map[string]string{"state": "9"}},
	} {
		t.Run(kind.draft.Table, func(t *testing.T) {
			t.Parallel()
			instance := instanceOf(t, func(c *standin.Config) {
				c.BasePath = "/itsm"
				c.Tables = append(c.Tables, standin.Table{Name: "u_access_request", Prefix: "ACC", Closed: []string{"3", "9"}})
			})
			url, stop, err := instance.Start("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(stop)
			cfg := clientCredentials
			cfg.URL = url
			c := client(t, cfg)
			group, found, err := c.FindGroup(t.Context(), standin.SampleGroup)
			if err != nil || !found {
				t.Fatal(found, err)
			}
			draft := kind.draft
			draft.Fields = map[string]string{"short_description": "Access: Sales", "assignment_group": group, "correlation_display": "ticketbridge"}
			made, err := c.Create(t.Context(), draft, correlationID)
			if err != nil {
				t.Fatal(err)
			}
			if made.Number != kind.number || made.Table != draft.Table || made.Fields["sys_class_name"] != draft.Table || made.Fields["active"] != "true" {
				t.Errorf("created %+v", made)
			}
			found1, err := c.Find(t.Context(), draft.Table, correlationID)
			if err != nil || len(found1) != 1 || found1[0].SysID != made.SysID || found1[0].Number != kind.number {
				t.Errorf("found %+v, %v", found1, err)
			}
			if err := c.Note(t.Context(), draft.Table, made.SysID, "The deadline is near."); err != nil {
				t.Error(err)
			}
			if err := c.Update(t.Context(), draft.Table, made.SysID, kind.cancel); err != nil {
				t.Error(err)
			}
			read, err := c.Read(t.Context(), draft.Table, made.SysID)
			if err != nil || read.Fields["active"] != "false" || read.CorrelationID != correlationID {
				t.Errorf("read %+v, %v", read, err)
			}
			have, err := instance.Ticket(made.SysID)
			if err != nil || have.Fields["assignment_group"] != group || have.Fields["short_description"] != "Access: Sales" || len(have.Notes) != 1 || have.Active {
				t.Errorf("it is %+v, %v", have, err)
			}
			for column, want := range kind.cancel {
				if have.Fields[column] != want {
					t.Errorf("%s is %q, want %q", column, have.Fields[column], want)
				}
			}
			if instance.Creations()[correlationID] != 1 {
				t.Errorf("created %v", instance.Creations())
			}
		})
	}
}

// The token comes from an identity endpoint as App Service has it, through azidentity, and the instance checks it with the tenant's keys.
func TestAManagedIdentityIsLetInOverTheWireWithoutAnySecret(t *testing.T) {
	directory := entra.New(entra.Config{IdentityHeader: "header"})
	t.Cleanup(directory.Close)
	stop, err := directory.Start("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	const audience = "api://servicenow"
	directory.AddApp(entra.App{Name: "ServiceNow", URIs: []string{audience}})
	me := directory.AddIdentity(entra.Identity{Name: "ticketbridge", UserAssigned: true})
	for name, value := range directory.Environment(me.ClientID) {
		t.Setenv(name, value)
	}
	credential, err := identity.NewCredential(identity.Settings{ClientID: me.ClientID, Endpoint: directory.Environment(me.ClientID)["IDENTITY_ENDPOINT"]})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		user string // whom the instance knows
		want fault.Reason
	}{"its user is there": {me.ObjectID, ""}, "another user is there": {"11111111-2222-3333-4444-555555555555", fault.Unauthorized}} {
		t.Run(name, func(t *testing.T) {
			instance := instanceOf(t, func(c *standin.Config) {
				c.Users = append(c.Users, standin.User{UserName: tc.user, WebServiceAccessOnly: true})
				c.OIDCProviders = []standin.OIDCProvider{{Issuer: directory.Issuer(1), JWKSURL: directory.BaseURL() + "/" + directory.TenantID() + "/discovery/v2.0/keys", ClientID: audience}}
			})
			url, stop, err := instance.Start("127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(stop)
			rec, err := client(t, Config{URL: url, Auth: AuthEntra, Audience: audience, Credential: credential}).Create(t.Context(), draft, correlationID)
			if tc.want != "" {
				failed(t, err, tc.want, "User Not Authenticated")
				return
			}
			if have, _ := instance.Ticket(rec.SysID); err != nil || have.Fields["sys_created_by"] != me.ObjectID {
				t.Errorf("%v, created by %q", err, have.Fields["sys_created_by"])
			}
		})
	}
}

func TestAnInstanceThatThrottlesForAnHourIsLeftAloneForAsLongAsItSays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, nil)
		c := s.with(clientCredentials)
		rec, err := c.Create(t.Context(), draft, correlationID)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(7 * time.Minute) // past the hour, on which the bubble begins
		s.SetRateRules(standin.RateRule{PerHour: 0})
		throttled := 0
		for wait := time.Duration(0); wait < 53*time.Minute; wait += 10 * time.Minute {
			for _, op := range operations {
				err := op.call(t, c)
				if e := failed(t, err, fault.Throttled); e.After != 53*time.Minute-wait {
					t.Errorf("%s after %s: asked to wait %s", op.name, wait, e.After)
				}
				throttled++
			}
			time.Sleep(10 * time.Minute)
		}
		s.SetRateRules()
		if found, err := c.Find(t.Context(), "sc_request", correlationID); err != nil || len(found) != 1 || found[0].SysID != rec.SysID {
			t.Errorf("found %v, %v", found, err)
		}
		if n := len(s.Tickets("task")); n != 1 || throttled != 6*len(operations) {
			t.Errorf("%d tickets after %d calls", n, throttled)
		}
	})
}
