package setup

import (
	"io"
	"time"

	"github.com/rs/zerolog"
)

// Logger returns the logger of a program: one JSON line for each entry. Levels below LOG_LEVEL are left out.
func (s *Settings) Logger(w io.Writer, version string) zerolog.Logger {
	level, err := zerolog.ParseLevel(s.LogLevel)
	if err != nil { // Read has refused it
		level = zerolog.InfoLevel
	}
	return zerolog.New(w).Level(level).Hook(stamp{}).With().Str("version", version).Logger()
}

// stamp puts the time on each line, to the millisecond.
type stamp struct{}

func (stamp) Run(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00"))
}
