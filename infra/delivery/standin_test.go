package delivery

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// azure takes the place of az and func: it writes down what it is asked, with the folder below which it was asked, and fails where it is told to.
const azure = `#!/usr/bin/env bash
asked="$(basename "$0") $*"
printf '%s\n' "$asked" >>"$ASKED"
if [ "${0##*/}" = func ]; then
    cp -R . "$PUBLISHED"
    printf 'in %s\n' "${PWD#"$BELOW"/}" >>"$ASKED"
fi
if [ -n "${REFUSED-}" ] && [[ "$asked" == "$REFUSED"* ]]; then
    echo "refused: $asked" >&2
    exit 3
fi
if [[ "$asked" == "az deployment group create "* ]]; then
    printf '%s\n%s\n' "${APP_IN_AZURE-ticketbridge-x1y2}" "${RELAY_IN_AZURE-/subscriptions/s/relay}"
fi
`

// A desk is where the stand-ins' records lie.
type desk struct {
	bin, asked, published string
}

// newDesk makes stand-ins of these commands.
func newDesk(t *testing.T, commands ...string) desk {
	t.Helper()
	dir := t.TempDir()
	d := desk{filepath.Join(dir, "bin"), filepath.Join(dir, "asked"), filepath.Join(dir, "published")}
	check(t, os.Mkdir(d.bin, 0o700))
	for _, name := range commands {
		check(t, os.WriteFile(filepath.Join(d.bin, name), []byte(azure), 0o700)) //nolint:gosec // it is to be run
	}
	return d
}

// environ tells commands that run below a folder where the records are.
func (d desk) environ(below string) []string {
	return []string{"ASKED=" + d.asked, "PUBLISHED=" + d.published, "BELOW=" + below}
}

// calls is what was asked, in order.
func (d desk) calls(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(d.asked)
	if os.IsNotExist(err) {
		return nil
	}
	check(t, err)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// with returns the environment with these settings before its own.
func with(settings ...string) []string { return append(os.Environ(), settings...) }

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// said runs a command in a folder and returns all that it says.
func said(t *testing.T, dir string, environ []string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, environ
	out, err := cmd.CombinedOutput()
	return string(out), err
}
