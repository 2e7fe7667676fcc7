// Package logging makes the logger that Sluice's programs share, from what their
// flags say.
package logging

import (
	"fmt"
	"io"
	"log/slog"
)

// New returns a logger that writes to w. format is text or json, level debug, info,
// warn or error; an error names the flag.
func New(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q: use text or json", format)
}
