// Demo is the whole path in one process: ticketbridge under a stand-in Functions host on storage that is gone with the process, with stand-ins for
// Entra, Graph and ServiceNow that speak the real ones' protocols. It plays a morning of access requests, says in plain words what happens, and
// then stays, for a person to close and reject tickets.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"ticketbridge/handler/simulator/entra"
	"ticketbridge/handler/simulator/host"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "demo: "+err.Error())
		os.Exit(1)
	}
}

// longest is how long the morning may take; it takes half a minute.
const longest = 3 * time.Minute

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	once := flags.Bool("once", false, "play a morning of requests, print what became of each, and exit: 0 when all ended as they should")
	only := flags.Bool("stand-ins", false, "run only the stand-ins for Entra with Graph and for ServiceNow, on fixed ports, beside Core Tools and Azurite")
	logs := flags.Bool("logs", false, "write the app's log and that of its host to stderr as well")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *once && *only {
		return fmt.Errorf("-once, -stand-ins and -logs are what can be said; -once and -stand-ins not together")
	}
	if *only {
		return runStandIns(ctx, stdout)
	}

	stand, err := startStandIns(false)
	if err != nil {
		return err
	}
	defer stand.stop()
	log := func(host.Entry) {}
	if *logs {
		log = func(e host.Entry) { fmt.Fprintf(stderr, "%s %s %s\n", e.Level, e.Category, e.Text) }
	}
	b, err := startBridge(ctx, stand, log)
	if err != nil {
		return err
	}
	defer b.host.Stop()

	fmt.Fprintf(stdout, "ticketbridge on stand-ins for Entra, Graph, ServiceNow and the Functions host; all of it is in this process.\n\n"+
		"  console of ticketbridge   %s/api/console/\n  tickets in ServiceNow     %s/\n\n", b.url, stand.serviceNowURL)
	story := newNarrator(stand, b.store, stdout, colored(stdout))
	told, enough := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() { defer close(over); story.run(told) }()
	stopTelling := func() { enough(); <-over }
	defer stopTelling()

	p := &play{stand: stand, story: story, pause: 600 * time.Millisecond}
	playing, cancel := context.WithTimeout(ctx, longest)
	err = p.run(playing)
	if err == nil {
		err = b.settled(playing, p)
	}
	cancel()
	if ctx.Err() != nil {
		return nil // a person has seen enough
	}
	if *once {
		stopTelling()
	}
	wrong := p.summary(stdout)
	departures := stand.entra.Violations() // known only to builds that have Graph's schema to compare with
	for _, v := range departures {
		fmt.Fprintln(stdout, "not as Graph's schema says: "+v)
	}
	switch {
	case err != nil:
		return fmt.Errorf("the morning could not be played to its end: %w", err)
	case wrong > 0:
		return fmt.Errorf("%d requests did not end as they should", wrong)
	case len(departures) > 0:
		return fmt.Errorf("%d calls of Graph were not as its schema says", len(departures))
	case *once:
		return nil
	}
	if err := stay(ctx, stand, b, stdout); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-b.host.Done():
		return fmt.Errorf("the Functions host ended: %s", b.host.Wait().Reason)
	}
}

// settled waits until the app has nothing left to do for what was played.
func (b *bridge) settled(ctx context.Context, p *play) error {
	return p.until(ctx, "the app to have nothing open", func() bool {
		open, _, err := b.store.Open(ctx, "", 1)
		return err == nil && len(open) == 0
	})
}

// stay leaves two requests for the person who watches.
func stay(ctx context.Context, stand *standIns, b *bridge, stdout io.Writer) error {
	s := stand.sample
	for _, r := range []entra.NewRequest{
		{Policy: s.LedgerPolicy, Target: s.Sasha.ObjectID, Answers: []entra.Answer{{Question: "Which region?", Value: "APAC"}}},
		{Policy: s.PayrollPolicy, Target: s.Kim.ObjectID},
	} {
		if _, err := stand.entra.Submit(r); err != nil {
			return err
		}
	}
	fmt.Fprintf(stdout, `
Now it is your turn. Two more requests are waiting:
  close or reject their tickets in ServiceNow   %[1]s/
  see what waits, why, and what happened        %[2]s/api/console/
  ask for something yourself                    curl -d '{"package": "Ledger reader", "target": "robin.marsh@example.com"}' %[3]s/_simulator/requests
  let ServiceNow refuse calls for a while       curl -d '{"match": "POST /api/now/", "times": 2, "status": 503}' %[1]s/_simulator/faults
  end                                           Ctrl-C

`, stand.serviceNowURL, b.url, stand.entra.BaseURL())
	return ctx.Err()
}

// runStandIns runs Entra with Graph, and ServiceNow, until ctx ends: what the app under Core Tools talks to.
func runStandIns(ctx context.Context, stdout io.Writer) error {
	stand, err := startStandIns(true)
	if err != nil {
		return err
	}
	defer stand.stop()
	stand.callOut(coreToolsURL, "", false)
	fmt.Fprintf(stdout, `stand-ins for ServiceNow on %[1]s and for Entra with Graph on %[2]s, for an app on %[3]s
  ask for something          curl -d '{"package": "Ledger reader", "target": "robin.marsh@example.com"}' %[2]s/_simulator/requests
  close or reject a ticket   %[1]s/
  see what waits             %[3]s/api/console/
`, stand.serviceNowURL, stand.entra.BaseURL(), coreToolsURL)
	newNarrator(stand, nil, stdout, colored(stdout)).run(ctx)
	return nil
}

// colored says whether w is a terminal whose user has not turned colors off (https://no-color.org).
func colored(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
