package host

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// stderrLines are the lines of output.json that the recording handler wrote to stderr; the others went to stdout.
var stderrLines = []string{
	"plain err line", "something warning", "an error here", "it failed", "severe problem", "Unhandled exception. X", `{"level":"info"}`,
	"LanguageWorkerConsoleLog[debug] tagged err", "warn: error both",
}

// notSeen are lines that the recorder did not find again in its log: nothing is known of them.
var notSeen = []string{"ERROR on stdout", "line during invocation"}

// replayOutput replays how what the handler writes is logged.
func replayOutput(t *testing.T, file string) {
	t.Helper()
	each(t, file, func(t *testing.T, _ string, c map[string][]string) {
		bubble(t, "", func(t *testing.T) {
			writes := writer{}
			for line := range c {
				if slices.Contains(stderrLines, line) {
					writes.stderr = append(writes.stderr, line)
				} else {
					writes.stdout = append(writes.stdout, line)
				}
			}
			st := begin(t, &script{}, Config{App: webApp("proxying", nil), Worker: writes})
			time.Sleep(time.Second)
			for line, want := range c {
				if want == nil {
					if !slices.Contains(notSeen, line) {
						t.Errorf("%q was recorded as not logged, and is not accounted for", line)
					}
					continue
				}
				head := guidPattern.ReplaceAllString(strings.TrimSuffix(want[0], "[0]"), "{id}")
				text := want[1]
				if strings.HasPrefix(line, "xxx") {
					text = line // the record shows more of it than its name
				}
				found := slices.ContainsFunc(st.entries(), func(e Entry) bool {
					return guidPattern.ReplaceAllString(fmt.Sprintf("%s: %s", e.Level, e.Category), "{id}") == head && e.Text == text
				})
				if !found {
					t.Errorf("%q is not logged as %s: %s", line, head, text)
				}
			}
			st.Crash()
		})
	})
}

// writer is a Worker whose handler writes lines and ends.
type writer struct{ stdout, stderr []string }

func (w writer) Start(l Launch) (Process, error) {
	for _, line := range w.stdout {
		_, _ = io.WriteString(l.Stdout, line[:1])
		_, _ = io.WriteString(l.Stdout, line[1:]+"\r\n")
	}
	_, _ = io.WriteString(l.Stderr, strings.Join(w.stderr, "\n")) // the last line has no end
	p, err := (&script{}).Start(l)
	p.(*scripted).end(0)
	return p, err
}
