package main

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/servicenow"
)

// Where the stand-ins are beside Core Tools, as local.settings.json.example says; the demo takes these ports too while they are free.
const (
	serviceNowAddress = "127.0.0.1:8081"
	entraAddress      = "127.0.0.1:8082"
	coreToolsURL      = "http://127.0.0.1:7071"
)

// The credentials in local.settings.json.example: of stand-ins that nobody but this machine reaches.
const (
	clientID       = "ticketbridge"
	clientSecret   = "local-development-only"
	identityHeader = "local-development"
	audience       = "api://ticketbridge"
)

// standIns are Entra with Graph, and ServiceNow.
type standIns struct {
	entra         *entra.Directory
	serviceNow    *servicenow.Instance
	serviceNowURL string
	sample        entra.Sample // set by callOut
	expense       string       // the policies of the catalog that tickets.yaml has rules for; set by callOut
	warehouse     string
	stops         []func()
}

// startStandIns starts both. With fixed set they are on their own ports or not at all.
func startStandIns(fixed bool) (*standIns, error) {
	s := &standIns{entra: entra.New(entra.Config{IdentityHeader: identityHeader})}
	s.stops = append(s.stops, s.entra.Close)
	if err := s.start(fixed); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *standIns) start(fixed bool) error {
	if err := listen(entraAddress, fixed, func(address string) error {
		stop, err := s.entra.Start(address)
		if err == nil {
			s.stops = append(s.stops, stop)
		}
		return err
	}); err != nil {
		return fmt.Errorf("start the stand-in for Entra and Graph: %w", err)
	}
	var err error
	s.serviceNow, err = servicenow.New(servicenow.Config{
		Name: "Example Ltd",
		Users: []servicenow.User{
			{UserName: "ticketbridge", Name: "ticketbridge (integration)", WebServiceAccessOnly: true},
			{UserName: "robin.marsh@example.com", Name: "Robin Marsh", Email: "robin.marsh@example.com"},
			{UserName: "kim.stone@example.com", Name: "Kim Stone", Email: "kim.stone@example.com"},
		},
		Groups: []string{servicenow.SampleGroup}, Catalog: []servicenow.CatalogItem{servicenow.SampleItem()},
		TutorialColumns: true,
		OAuthClients:    []servicenow.OAuthClient{{ID: clientID, Secret: clientSecret, User: "ticketbridge"}},
	})
	if err != nil {
		return fmt.Errorf("set up the stand-in for ServiceNow: %w", err)
	}
	if err := listen(serviceNowAddress, fixed, func(address string) error {
		url, stop, err := s.serviceNow.Start(address)
		if err == nil {
			s.serviceNowURL = url
			s.stops = append(s.stops, stop)
		}
		return err
	}); err != nil {
		return fmt.Errorf("start the stand-in for ServiceNow: %w", err)
	}
	return nil
}

// listen takes the address, or any free port when the address is in use and need not be that one.
func listen(address string, fixed bool, start func(address string) error) error {
	err := start(address)
	if !fixed && errors.Is(err, syscall.EADDRINUSE) {
		host, _, _ := net.SplitHostPort(address)
		err = start(net.JoinHostPort(host, "0"))
	}
	return err
}

// callOut sets the tenant up so that its access packages call the app, and ServiceNow so that it tells the app of closed tickets. key is the
// function key, "" where the host asks for none; with a token, Entra sends one for the app's audience.
func (s *standIns) callOut(app, key string, token bool) {
	query := ""
	if key != "" {
		query = "?code=" + key
	}
	to := entra.Extension{URL: app + "/api/callout" + query, Retries: 1}
	if token {
		s.entra.AddApp(entra.App{Name: "ticketbridge", URIs: []string{audience}})
		to.Resource = audience
	}
	s.sample = s.entra.AddSample(to)
	me := s.entra.AddIdentity(entra.Identity{Name: "ticketbridge"})
	s.entra.AssignManager(me.ObjectID, s.sample.Finance)
	s.entra.AssignManager(me.ObjectID, s.sample.Engineering)
	s.entra.AssignManager(me.ObjectID, s.showcase(to))
	s.serviceNow.SetNotifications(servicenow.Notification{URL: app + "/api/ticket-closed" + query, Retries: 2, RetryDelay: time.Second})
}

// showcase adds the catalog that tickets.yaml has rules for, and returns its id.
func (s *standIns) showcase(to entra.Extension) string {
	catalog := s.entra.AddCatalog(entra.Catalog{Name: "Showcase", Description: "What the rules of tickets.yaml can do"})
	to.CatalogID, to.Name, to.Kind, to.Wait = catalog, "Ticket and wait", entra.RequestKind, 14*24*time.Hour
	wait := s.entra.AddExtension(to)
	policy := func(name, description, question string) string {
		return s.entra.AddPolicy(entra.Policy{
			PackageID: s.entra.AddPackage(entra.Package{CatalogID: catalog, Name: name, Description: description}),
			Name:      "Everybody", Description: "All members", Questions: []string{question},
			Stages: map[string]string{entra.StageApproved: wait},
		})
	}
	s.expense = policy("Expense approver", "Approves expenses", "Why is it needed?")
	s.warehouse = policy("Warehouse scanner", "Books goods in and out", "Which gate?")
	return catalog
}

func (s *standIns) stop() {
	for i := len(s.stops) - 1; i >= 0; i-- {
		s.stops[i]()
	}
}
