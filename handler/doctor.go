package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/mattn/go-isatty"

	"ticketbridge/handler/correlation"
	"ticketbridge/handler/doctor"
	"ticketbridge/handler/setup"
)

// doctorCommand looks at all that the app needs, with the settings of the environment: where they are the app's own, as the app itself.
type doctorCommand struct {
	output
	URL        string `name:"url" placeholder:"URL" help:"The function app, as in https://<app>.azurewebsites.net: it is sent a connection test, as Entra sends one, and the time it takes is held against Entra's. The function's key is read from CALLOUT_KEY."`
	Key        bool   `help:"Ask for the function's key on the terminal, which does not show it, in place of CALLOUT_KEY."`
	Create     bool   `help:"Create a ticket in each table of the rules, and write on it, to see whether the integration user may: nothing else shows it. Close or delete them afterwards."`
	Principal  string `placeholder:"OBJECT-ID" help:"The object id of the app's identity, when this does not run as it: its roles are looked at, not yours."`
	Management string `placeholder:"URL" help:"Where Azure Resource Manager is, which shows the relay. Default: that of the cloud."`
}

// Help is shown below the command's options.
func (doctorCommand) Help() string {
	return `One line for each thing that is looked at: ok, warning, failure, or not checked, because of another line; what was seen; and the command or the click that mends it. What is wrong is named once: what depends on it is not checked.

It ends with 0 when nothing failed, and with 1 when something did. Nothing is changed but a row and a message of its own in the storage, which nothing else reads, unless -create asks for tickets; and neither secrets nor names of people are shown. It takes a minute and a half at most.

Where the app runs it sees what the app sees. Elsewhere give it the app's settings (az functionapp config appsettings list), sign in with az login, and name the app's identity with -principal.

  settings, rules       what is wrong with them
  doors                 what the endpoints ask of whoever calls them
  identity              the token for Graph: which identity, of which tenant
  storage tables, queue whether they are there or can be made, and the rights
  sweep, messages       when the last sweep began; what nobody can read; how much waits
  clock                 the clocks of Graph, ServiceNow and the storage against this one's
  ServiceNow, tables    the sign-in; tables, columns, groups and items of the rules
  tickets               with -create: whether tickets may be created and written
  catalog               the identity's role in each catalog (CATALOG_IDS)
  relay                 the Logic App: enabled, access signatures off, its policy, its call
  extension             where it calls, how it proves itself, how long it waits, which policies use it
  keys of the tenant    whether tokens of callers can be checked
  callout               with -url: a connection test`
}

// examined is what the doctor found, as JSON has it.
type examined struct {
	OK         bool          `json:"ok"`
	Failures   int           `json:"failures"`
	Warnings   int           `json:"warnings"`
	NotChecked int           `json:"notChecked"`
	Lines      []doctor.Line `json:"lines"`
}

func (c *doctorCommand) Run(p *program) error {
	cfg, err := c.config(p)
	if err != nil {
		return err
	}
	out := examined{Lines: doctor.Run(p.ctx, cfg)}
	for _, l := range out.Lines {
		switch l.Kind {
		case doctor.Failure:
			out.Failures++
		case doctor.Warning:
			out.Warnings++
		case doctor.NotChecked:
			out.NotChecked++
		}
	}
	out.OK = out.Failures == 0
	if c.Output == "json" {
		if err := printJSON(p.stdout, out); err != nil {
			return err
		}
	} else if err := out.print(p.stdout); err != nil {
		return err
	}
	if !out.OK {
		return fmt.Errorf("%s", plural(out.Failures, "failure"))
	}
	return nil
}

func (e *examined) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range e.Lines {
		kind, text := string(l.Kind), l.Saw
		if l.Kind == doctor.NotChecked {
			kind = "-"
		}
		if l.Of != "" {
			text = l.Of + ": " + text
		}
		if l.Remedy != "" {
			text += ". Mend it: " + l.Remedy
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", kind, l.Check, text)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s, %s, %s not checked, %s ok\n", plural(e.Failures, "failure"), plural(e.Warnings, "warning"), fmt.Sprint(e.NotChecked),
		fmt.Sprint(len(e.Lines)-e.Failures-e.Warnings-e.NotChecked))
	return err
}

// config makes of the settings what can be made of them: what is wrong with them is looked at like all else.
func (c *doctorCommand) config(p *program) (doctor.Config, error) {
	settings, err := setup.Read(p.environ)
	cfg := doctor.Config{
		TenantID: settings.TenantID, AuthorityHost: settings.AuthorityHost, GraphURL: settings.GraphURL, ManagementURL: c.Management, CatalogIDs: settings.CatalogIDs,
		ClientID: settings.ClientID, Managed: settings.IdentityEndpoint != "",
		ServiceNowURL: settings.ServiceNowURL, ServiceNowAuth: settings.ServiceNowAuth, ServiceNowTimeout: settings.ServiceNowTimeout,
		CalloutAudience: settings.CalloutAudience, RelayPrincipal: settings.RelayPrincipal, CloseAudience: settings.CloseAudience, CloseSigned: settings.CloseHMACKey != "",
		AppHost: settings.WebsiteHostname, SweepSchedule: p.env("SWEEP_SCHEDULE"),
	}
	problem := func(err error) { cfg.Problems = append(cfg.Problems, err) }
	if err != nil {
		problem(err)
	}
	if store, queue, err := setup.Storage(settings); err != nil {
		problem(err)
	} else {
		cfg.Store, cfg.Queue = store, queue
	}
	if settings.StorageConnection == "" {
		cfg.StorageAccount = cmp.Or(settings.StorageAccount, accountOf(settings.StorageTables), "<account>")
	}
	if credential, err := settings.Credential(); err != nil {
		problem(err)
	} else {
		cfg.Credential = credential
	}
	if rules, err := settings.Rules(); err != nil {
		cfg.RulesError = err
	} else {
		cfg.Rules = rules
		if file, found := p.rulesFile(""); found {
			cfg.RulesFile = file
		}
		if client, err := settings.ServiceNow(rules); err != nil {
			problem(err)
		} else {
			cfg.ServiceNow = client
		}
	}
	if _, _, err := settings.Callers(); err != nil {
		problem(err)
	}
	return cfg, c.options(p, &cfg)
}

// accountOf is the storage account of the address of its tables.
func accountOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(u.Hostname(), ".")
	return name
}

// options reads those of the command line.
func (c *doctorCommand) options(p *program, cfg *doctor.Config) error {
	if c.Principal != "" {
		id, ok := correlation.GUID(c.Principal)
		if !ok {
			return fmt.Errorf("-principal holds %q; it must hold an object id (a GUID)", c.Principal)
		}
		cfg.Principal = id
	}
	for name, value := range map[string]string{"-url": c.URL, "-management": c.Management} {
		u, err := url.Parse(value)
		local := err == nil && slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname())
		if value != "" && (err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Scheme != "https" && (u.Scheme != "http" || !local)) {
			return errors.New(name + " must hold an https URL, without a key in it (http is taken for this machine only)")
		}
	}
	cfg.CreateTickets = c.Create
	cfg.AppURL, cfg.AppKey = c.URL, p.env("CALLOUT_KEY")
	if !c.Key {
		return nil
	}
	if c.URL == "" {
		return errors.New("-key goes with -url only")
	}
	var err error
	cfg.AppKey, err = p.secret("The key of the function callout: ")
	return err
}

// env is a variable of the environment.
func (p *program) env(name string) (value string) {
	for _, line := range p.environ {
		if n, v, _ := strings.Cut(line, "="); n == name {
			value = strings.TrimSpace(v)
		}
	}
	return value
}

// secret asks for something on the terminal that is not shown there.
func (p *program) secret(question string) (string, error) {
	unseen := errors.New("the terminal cannot be told not to show what is typed; put the key into CALLOUT_KEY")
	if !isatty.IsTerminal(p.stdin.Fd()) {
		return "", unseen
	}
	stty := func(how string) error {
		cmd := exec.CommandContext(p.ctx, "stty", how)
		cmd.Stdin = p.stdin
		return cmd.Run()
	}
	if stty("-echo") != nil {
		return "", unseen
	}
	defer func() {
		cmd := exec.Command("stty", "echo") // also when it was interrupted
		cmd.Stdin = p.stdin
		_ = cmd.Run()
		fmt.Fprintln(p.stderr)
	}()
	fmt.Fprint(p.stderr, question)
	answer := make(chan string, 1)
	go func() { answer <- p.line() }()
	select {
	case said := <-answer:
		return strings.TrimSpace(said), nil
	case <-p.ctx.Done():
		return "", errors.New("interrupted")
	}
}
