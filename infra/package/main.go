// Command package makes the zip that is deployed from the app's folder as `make build` leaves it: the same bytes for the same files, wherever and
// whenever it runs, with the run bit on the handler alone. Into the folder, and so into the zip, it first writes what is linked into the handler,
// as an SBOM (SPDX 2.3 in JSON), and the licences of all of it. The SBOM is also left beside the zip, for those who look at a package without
// opening it.
//
// What says when, says so of the commit: nothing here looks at the clock, the locale, the umask or the machine.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What the package holds beside host.json, the rules file and a folder with one function.json for each function.
const (
	handler  = "handler" // the one entry that Azure starts; host.json names it
	sbom     = "sbom.spdx.json"
	licences = "LICENSES.txt"
)

func main() {
	if err := run(context.Background(), os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "package:", err)
		os.Exit(1)
	}
}

// run carries out the command line. It is run in the module's folder: `go list` says there where the linked modules are.
func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("package", flag.ContinueOnError)
	version := flags.String("version", "", "the version that the handler was built with")
	commit := flags.Int64("time", -1, "when the commit was made, in seconds since 1970: the SBOM's date")
	check := flags.String("check", "", "only look at this FILE.zip: is it a package that Azure can run?")
	flags.Usage = func() {
		_, _ = fmt.Fprintln(flags.Output(), "usage: package -version VERSION -time SECONDS FOLDER FILE.zip, or package -check FILE.zip")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *check != "" {
		system, err := judge(*check, stdout)
		if err == nil && system != "linux/amd64" {
			err = fmt.Errorf("%s is for %s, and Flex Consumption runs linux/amd64 only: make package, without GOARCH, makes one", *check, system)
		}
		return err
	}
	switch {
	case flags.NArg() != 2:
		return fmt.Errorf("there are %d arguments; it takes two, the app's folder and the zip to make", flags.NArg())
	case *version == "":
		return errors.New("-version is not set; it must be what the handler was built with, as in -X main.version=…")
	case *commit < 0:
		return errors.New("-time is not set; it must be when the commit was made, as in git log -1 --format=%ct")
	}
	dir, name := flags.Arg(0), flags.Arg(1)
	if filepath.Ext(name) != ".zip" {
		return fmt.Errorf("%s is no name for a zip; it must end in .zip", name)
	}
	if err := complete(os.DirFS(dir)); err != nil {
		return err
	}
	a, err := look(ctx, filepath.Join(dir, handler), *version, time.Unix(*commit, 0).UTC())
	if err != nil {
		return err
	}
	var texts, document bytes.Buffer
	if err := a.writeLicences(&texts); err != nil {
		return err
	}
	if err := a.writeSBOM(&document); err != nil {
		return err
	}
	beside := strings.TrimSuffix(name, ".zip") + ".spdx.json"
	for file, content := range map[string][]byte{filepath.Join(dir, licences): texts.Bytes(), filepath.Join(dir, sbom): document.Bytes(), beside: document.Bytes()} {
		if err := os.WriteFile(file, content, 0o644); err != nil { //nolint:gosec // for everybody to read
			return fmt.Errorf("write the package's papers: %w", err)
		}
	}
	if err := pack(dir, name); err != nil {
		return err
	}
	_, err = judge(name, stdout)
	return err
}
