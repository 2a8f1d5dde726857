package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/lab"
)

func init() { commands = append(commands, newLab) }

func newLab() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Questions of the papers on Raft, put to the code that production runs",
		Long: `Scenarios that pose a question of the papers and show its answer, once as
shipped and once without the protection that the question is about.`,
		Example: `  quorate lab list
  quorate lab run figure-8
  quorate lab run figure-8 --without own-term-commit
  quorate lab serve`,
		Args: usageErrors(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLabList(), newLabRun(), newLabServe())
	return cmd
}

func newLabList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "Name the scenarios and their questions",
		Example: "  quorate lab list",
		Args:    usageErrors(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			all, err := lab.LoadAll()
			if err != nil {
				return &exitError{exitUsage, err}
			}
			for _, s := range all {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%-26s %s\n", s.Name, s.Question); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

type labRun struct {
	without  []string
	html     string
	messages bool
}

func newLabRun() *cobra.Command {
	var o labRun
	cmd := &cobra.Command{
		Use:   "run NAME|FILE",
		Short: "Run a scenario and show what happens",
		Long: `Run one arm of a scenario: as shipped, or without the protections named. The
argument is the name of a scenario, or the path of a file: what ends in .txt or
has a slash in it.

Exit codes:
  0  what the arm expects was observed
  1  it was not, or the run was interrupted
  2  the file cannot be read, there is no such scenario or arm, or the page cannot
     be written`,
		Example: `  quorate lab run split-brain
  quorate lab run stale-read --without read-quorum
  quorate lab run figure-8 --html out.html`,
		Args: usageErrors(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.Context(), cmd.OutOrStdout(), args[0]) },
	}
	cmd.Flags().StringSliceVar(&o.without, "without", nil, "the protections to switch off, as an arm of the scenario names them")
	cmd.Flags().StringVar(&o.html, "html", "", "write a page with the space-time diagram to this file")
	cmd.Flags().BoolVar(&o.messages, "messages", false, "show the messages too, but for heartbeats")
	return cmd
}

func (o *labRun) run(ctx context.Context, w io.Writer, name string) error {
	s, err := loadScenario(name)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	arm, err := s.Arm(o.without)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	res, err := lab.Run(ctx, s, arm)
	if err := labError(ctx, err); err != nil {
		return err
	}
	if err := lab.WriteText(w, res, lab.TextOptions{Color: colorful(w), Letters: o.messages}); err != nil {
		return err
	}
	if o.html != "" {
		if err := o.page(ctx, s, arm, res); err != nil {
			return err
		}
	}
	if !res.Observed {
		return &exitError{exitFailed, fmt.Errorf("%s, %s: what is expected was not observed", s.Name, arm.Title())}
	}
	return nil
}

// labError is the error of a run: one that was interrupted has shown nothing, and
// anything else is wrong with the scenario.
func labError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return &exitError{exitFailed, fmt.Errorf("interrupted: %w", err)}
	}
	return &exitError{exitUsage, err}
}

// loadScenario takes a name of the lab's own, or a file.
func loadScenario(name string) (*lab.Scenario, error) {
	if !strings.HasSuffix(name, ".txt") && !strings.ContainsRune(name, filepath.Separator) {
		return lab.Load(name)
	}
	b, err := readScenario(name)
	if errors.Is(err, fs.ErrNotExist) && slices.Contains(lab.Names(), strings.TrimSuffix(name, ".txt")) {
		err = fmt.Errorf("%w; the scenario of the lab is called %s", err, strings.TrimSuffix(name, ".txt"))
	}
	if err != nil {
		return nil, err
	}
	return lab.Parse(strings.TrimSuffix(filepath.Base(name), ".txt"), string(b))
}

// readScenario reads no more than it takes to see that a file is too long: some
// never end.
func readScenario(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, lab.SourceBytesMax+1))
}

func (o *labRun) page(ctx context.Context, s *lab.Scenario, arm *lab.Arm, res *lab.Result) error {
	arms, err := lab.RunAll(ctx, s, arm, nil)
	if err := labError(ctx, err); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := lab.WritePage(&b, res, arms, ""); err != nil {
		return err
	}
	if err := os.WriteFile(o.html, b.Bytes(), 0o644); err != nil { //nolint:gosec // to be shown to others
		return &exitError{exitUsage, fmt.Errorf("the page cannot be written: %w", err)}
	}
	return nil
}

// colorful says whether w is a terminal that takes colours (no-color.org).
func colorful(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

func newLabServe() *cobra.Command {
	listen := "127.0.0.1:0"
	cmd := &cobra.Command{
		Use:     "serve",
		Short:   "Show all scenarios in a browser",
		Example: "  quorate lab serve\n  quorate lab serve --listen 127.0.0.1:8080",
		Args:    usageErrors(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serveLab(cmd.Context(), cmd.OutOrStdout(), listen)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", listen, "the address to serve on; port 0 takes a free one")
	return cmd
}

func serveLab(ctx context.Context, w io.Writer, listen string) error {
	h, err := lab.Handler()
	if err != nil {
		return &exitError{exitUsage, err}
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return &exitError{exitStart, fmt.Errorf("cannot listen: %w", err)}
	}
	fmt.Fprintf(w, "the lab is at http://%s/ (Ctrl-C ends it)\n", l.Addr())
	srv := &http.Server{Handler: h, BaseContext: func(net.Listener) context.Context { return ctx }, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
