// Handler is the program that is deployed: a custom handler of the Azure Functions host between Microsoft Entra entitlement management and
// ServiceNow. Without an argument it serves on FUNCTIONS_CUSTOMHANDLER_PORT; its commands look into the same storage.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"ticketbridge/handler/host"
	"ticketbridge/handler/setup"
)

// version is set when the program is built (see Makefile).
var version = "unknown"

func main() {
	// When the host is gone, so is whoever reads what we write: that must not kill us with work in hand, as SIGPIPE would at the next line.
	signal.Ignore(syscall.SIGPIPE)
	// stdout becomes log entries of the level Information, stderr of the level Error: for what an operator must see.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ticketbridge: "+err.Error())
		os.Exit(1) // never 0 after serving: the host does not restart a handler that ended with 0
	}
}

// commands are what the command line takes.
type commands struct {
	Serve    serveCommand    `cmd:"" default:"1" help:"Serve the Azure Functions host on FUNCTIONS_CUSTOMHANDLER_PORT (what no argument means)."`
	Requests requestsCommand `cmd:"" help:"What the storage knows of access requests, and what an operator may do with them."`
	Doctor   doctorCommand   `cmd:"" help:"Look at all that the app needs, and say of what is wrong how to mend it."`
	Tickets  ticketsCommand  `cmd:"" help:"The rules that choose the tickets: whether the file is right, and what they make of a callout."`
	Connect  connectCommand  `cmd:"" help:"Set up Entra's side: custom extensions, policies, the role of the function's identity, the application for tokens. Shows a plan and asks first; can be run again, and undone."`
	Version  versionCommand  `cmd:"" help:"Print the version."`
}

// program is what every command gets.
type program struct {
	ctx     context.Context
	environ []string
	stdin   *os.File
	stdout  io.Writer
	stderr  io.Writer // questions, warnings and counts beside what was asked for
}

// errExit ends the parsing of a command line that asked for help only.
var errExit = errors.New("help was printed")

// run is the whole program: it reads the command line and does what that says.
func run(ctx context.Context, args, environ []string, stdin *os.File, stdout, stderr io.Writer) (err error) {
	defer func() { // kong ends the program after --help; here that is its way out
		if v := recover(); v == errExit { //nolint:errorlint // the very value
			err = nil
		} else if v != nil {
			panic(v)
		}
	}()
	parser, err := kong.New(&commands{}, kong.Name("handler"), kong.Writers(stdout, stdout), kong.Exit(func(int) { panic(errExit) }),
		kong.Description("ticketbridge: access requests of Microsoft Entra entitlement management, fulfilled by ServiceNow tickets."))
	if err != nil {
		return err
	}
	args = slices.Clone(args)
	names := longFlags(parser.Model.Node)
	for i := range args {
		name, _, _ := strings.Cut(args[i], "=")
		if name, dashed := strings.CutPrefix(name, "-"); dashed && len(name) > 1 && names[name] { // kong takes one dash for letters only
			args[i] = "-" + args[i]
		}
	}
	command, err := parser.Parse(args)
	if err != nil {
		return fmt.Errorf("%w; see --help", err)
	}
	return command.Run(&program{ctx: ctx, environ: environ, stdin: stdin, stdout: stdout, stderr: stderr})
}

// longFlags are the names of all flags of all commands.
func longFlags(n *kong.Node) map[string]bool {
	names := map[string]bool{}
	for _, f := range n.Flags {
		names[f.Name] = true
	}
	for _, child := range n.Children {
		maps.Copy(names, longFlags(child))
	}
	return names
}

type versionCommand struct{}

func (versionCommand) Run(p *program) error {
	_, err := fmt.Fprintln(p.stdout, "ticketbridge "+version)
	return err
}

type serveCommand struct{}

// Run serves until the host is gone; it never returns nil. It listens before it builds anything: the host waits for an answer, not for
// a listener.
func (serveCommand) Run(p *program) error {
	settings, err := setup.Read(p.environ)
	if err != nil {
		return fmt.Errorf("the settings are not right:\n%w", err)
	}
	if settings.Port == 0 {
		return errors.New("FUNCTIONS_CUSTOMHANDLER_PORT is not set: the Functions host sets it when it starts this program (`func start`, `make start`); see --help for the commands")
	}
	listener, err := host.Listen(strconv.Itoa(settings.Port))
	if err != nil {
		return err
	}
	defer listener.Close()

	log := settings.Logger(p.stdout, version)
	store, queue, err := setup.Storage(settings)
	if err != nil {
		return err
	}
	parts, err := setup.Build(settings, store, queue)
	if err != nil {
		return err
	}
	server := parts.Server(log)
	log.Info().Str("event", "started").Int("pid", os.Getpid()).Int("port", settings.Port).Msg("serving")
	err = server.Serve(p.ctx, listener)
	log.Info().Str("event", "ended").AnErr("why", err).Msg("no longer serving")
	return err
}
