package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"
)

// audit writes down what is run.
type audit struct {
	file string // opened for every line, so that it may be moved away
	log  *slog.Logger
}

func (a audit) write(ctx context.Context, event string, who account, q Request, more ...slog.Attr) (err error) {
	handler := a.log.Handler()
	if a.file != "" {
		f, err := os.OpenFile(a.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		handler = slog.NewJSONHandler(f, nil)
	}
	record := slog.NewRecord(time.Now(), slog.LevelInfo, "command "+event, 0)
	record.AddAttrs(slog.String("mission", q.Mission), slog.String("step", q.Step), slog.Any("argv", q.Argv), slog.String("user", who.name))
	record.AddAttrs(more...)
	if err := handler.Handle(ctx, record); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}
