package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"time"

	"ticketbridge"
	handlerhost "ticketbridge/handler/host"
	"ticketbridge/handler/setup"
	"ticketbridge/handler/simulator/host"
	"ticketbridge/handler/storage"
)

// A bridge is the app under the stand-in Functions host, in this process, on storage that is gone with it.
type bridge struct {
	host  *host.Host
	store *storage.Store
	url   string
	key   string // the functions' key
}

// appAddress is where the app is, while the port is free.
const appAddress = "127.0.0.1:7071"

// startBridge starts the app beside the stand-ins. The app has its settings from an environment, as in Azure; only its storage is handed to it.
func startBridge(ctx context.Context, stand *standIns, log func(host.Entry)) (*bridge, error) {
	store, queue, err := storage.NewEmbedded(storage.DefaultPrefix)
	if err != nil {
		return nil, err
	}
	var listener net.Listener
	if err := listen(appAddress, false, func(address string) (err error) {
		listener, err = net.Listen("tcp", address)
		return err
	}); err != nil {
		return nil, err
	}
	b := &bridge{store: store, url: "http://" + listener.Addr().String(), key: "demo-key"}
	stand.callOut(b.url, b.key, true)
	settings := map[string]string{
		"STORAGE_PREFIX": storage.DefaultPrefix,
		"SWEEP_SCHEDULE": "*/3 * * * * *", "CHECK_INTERVAL": "3s",
		"SERVICENOW_URL": stand.serviceNowURL, "SERVICENOW_CLIENT_ID": clientID, "SERVICENOW_CLIENT_SECRET": clientSecret,
		"SERVICENOW_TIMEOUT": "5s", "SERVICENOW_SETTLE": "5s",
		"CALLOUT_AUDIENCE": audience, "CONSOLE_AUTH": "none", "LOG_LEVEL": "debug",
	}
	for name, value := range stand.entra.Environment("") {
		settings[name] = value
		if name == "IDENTITY_ENDPOINT" || name == "IDENTITY_HEADER" { // azidentity looks into the environment of the process itself
			if err := os.Setenv(name, value); err != nil {
				return nil, err
			}
		}
	}
	app, err := appFolder()
	if err != nil {
		return nil, err
	}
	if settings["TICKETS_FILE"], err = rulesFile(); err != nil {
		return nil, err
	}
	defer os.Remove(settings["TICKETS_FILE"]) // it is read once, when the app starts
	b.host, err = host.Start(ctx, host.Config{
		App: app, Settings: settings, Queues: host.Account(queue.Queues()), Listener: listener, Log: log,
		Keys: host.Keys{Default: b.key},
		Worker: host.Func(func(ctx context.Context, l host.Launch) int {
			err := serve(ctx, l, store, queue)
			fmt.Fprintln(l.Stderr, "ticketbridge: "+err.Error())
			return 1
		}),
	})
	if err != nil {
		return nil, fmt.Errorf("start the stand-in for the Functions host: %w", err)
	}
	select {
	case <-b.host.Ready():
		return b, nil
	case <-b.host.Done():
		return nil, fmt.Errorf("the Functions host ended: %s", b.host.Wait().Reason)
	case <-time.After(30 * time.Second):
		return nil, fmt.Errorf("the app does not answer the Functions host")
	}
}

// serve is what the deployed program does without an argument, but for its storage.
func serve(ctx context.Context, l host.Launch, store *storage.Store, queue *storage.Queue) error {
	settings, err := setup.Read(l.Env)
	if err != nil {
		return err
	}
	listener, err := handlerhost.Listen(strconv.Itoa(settings.Port))
	if err != nil {
		return err
	}
	defer listener.Close()
	parts, err := setup.Build(settings, store, queue)
	if err != nil {
		return err
	}
	return parts.Server(settings.Logger(l.Stdout, "demo")).Serve(ctx, listener)
}

// rulesFile writes the shipped rules to a file of its own: the demo runs in whatever folder.
func rulesFile() (string, error) {
	f, err := os.CreateTemp("", "tickets-*.yaml")
	if err != nil {
		return "", err
	}
	_, err = f.Write(ticketbridge.TicketRules)
	return f.Name(), errors.Join(err, f.Close())
}

// appFolder is the app's folder as `make build` lays it out: each function's folder beside host.json.
func appFolder() (fs.FS, error) {
	functions, err := fs.Sub(ticketbridge.App, "functions")
	if err != nil {
		return nil, err
	}
	return folder{functions}, nil
}

// folder shows host.json among the functions' folders.
type folder struct{ functions fs.FS }

func (f folder) Open(name string) (fs.File, error) {
	if name == "host.json" {
		return ticketbridge.App.Open(name)
	}
	return f.functions.Open(name)
}
