package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/quorate/quorate/internal/settings"
)

// newLogger makes the logger that the settings ask for. closeLog closes the
// files that it writes to.
func newLogger(s *settings.Settings) (log *slog.Logger, closeLog func() error, err error) {
	var writers []io.Writer
	var files []*os.File
	closeLog = func() error {
		var errs []error
		for _, f := range files {
			errs = append(errs, f.Close())
		}
		return errors.Join(errs...)
	}
	for _, out := range s.LogOutputs {
		switch out {
		case "stderr":
			writers = append(writers, os.Stderr)
		case "stdout":
			writers = append(writers, os.Stdout)
		default:
			f, err := os.OpenFile(out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				return nil, nil, errors.Join(fmt.Errorf("--log-outputs: %w", err), closeLog())
			}
			writers, files = append(writers, f), append(files, f)
		}
	}
	w := io.MultiWriter(writers...)
	options := &slog.HandlerOptions{Level: s.LogLevel}
	if s.LogConsole {
		return slog.New(slog.NewTextHandler(w, options)), closeLog, nil
	}
	return slog.New(slog.NewJSONHandler(w, options)), closeLog, nil
}
