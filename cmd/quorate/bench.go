package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/internal/load"
)

func init() { commands = append(commands, newBench) }

// benchFlags are what of the flags is not load.Options as it stands.
type benchFlags struct {
	output string
	tls    clientTLS
}

func newBench() *cobra.Command {
	var o load.Options
	var f benchFlags
	c := &cobra.Command{
		Use:   "bench [flags] " + workNames("|"),
		Short: "Load a server of etcd's API and measure it",
		Long: `Load a server of etcd's API, quorate or etcd, and measure its rate and latencies.

Each client has one request in flight. put writes keys drawn at random; range
reads them, one at a time and linearizably, after writing all of them once; mixed
does nine ranges for each put. The keys that it leaves behind begin with
--prefix.

Put each member's endpoint once: the connections are dealt out to them in turns.
Exit codes: 0 measured, 1 nothing was answered, 2 wrong flags.`,
		Example: `  quorate bench put --endpoints 127.0.0.1:2379
  quorate bench mixed --endpoints 10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379 --for 30s -o json`,
		Args:      usageErrors(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		ValidArgs: strings.Split(workNames(" "), " "),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Work = load.Work(args[0])
			return runBench(cmd, o, &f)
		},
	}
	fs := c.Flags()
	fs.StringSliceVar(&o.Endpoints, "endpoints", []string{"127.0.0.1:2379"}, "addresses of the members")
	fs.IntVar(&o.Clients, "clients", 256, "clients, each with one request in flight")
	fs.IntVar(&o.Conns, "conns", 16, "connections that they share")
	fs.IntVar(&o.ValueBytes, "size", 128, "bytes of a value")
	fs.IntVar(&o.KeyBytes, "key-size", 16, "bytes of a key")
	fs.IntVar(&o.Keys, "keys", 10000, "how many keys there are")
	fs.StringVar(&o.Prefix, "prefix", "bench/", "what all keys begin with")
	fs.DurationVar(&o.Window, "for", 10*time.Second, "length of the window that is measured")
	fs.DurationVar(&o.Warm, "warm", time.Second, "time under load before it")
	fs.DurationVar(&o.RequestTimeout, "timeout", 0, "bound of a request; 0: none, as most clients")
	fs.BoolVar(&o.Serializable, "serializable", false, "ranges read what the member happens to have, without asking the others")
	fs.Uint64Var(&o.Seed, "seed", 1, "seed of the choice of keys")
	fs.StringVarP(&f.output, "output", "o", "text", "text or json")
	f.tls.flags(c)
	return c
}

func workNames(separator string) string {
	var names []string
	for _, w := range load.Works() {
		names = append(names, string(w))
	}
	return strings.Join(names, separator)
}

func runBench(cmd *cobra.Command, o load.Options, f *benchFlags) error {
	if f.output != "text" && f.output != "json" {
		return &exitError{exitUsage, fmt.Errorf("--output %q; there are text and json", f.output)}
	}
	var err error
	if o.TLS, err = f.tls.config(); err != nil {
		return &exitError{exitUsage, err}
	}
	bar := newProgressBar(cmd.ErrOrStderr())
	if bar != nil {
		o.Progress = bar.draw
	}
	r, err := load.Run(cmd.Context(), o)
	bar.clear()
	if errors.Is(err, load.ErrOptions) {
		return &exitError{exitUsage, err}
	}
	if err != nil {
		return err
	}
	if f.output == "json" {
		e := json.NewEncoder(cmd.OutOrStdout())
		e.SetIndent("", "  ")
		err = e.Encode(r)
	} else {
		err = r.WriteText(cmd.OutOrStdout())
	}
	if err == nil && r.Ops == 0 {
		err = unanswered(r, o.Window)
	}
	return err
}

// unanswered says why there is nothing to report.
func unanswered(r *load.Report, window time.Duration) error {
	why := fmt.Sprintf("no request was answered within %v", window)
	for _, code := range slices.Sorted(maps.Keys(r.Errors)) {
		why += fmt.Sprintf("; %d failed with %s", r.Errors[code], code)
	}
	for _, endpoint := range slices.Sorted(maps.Keys(r.Unreachable)) {
		why += fmt.Sprintf("; %s cannot be reached: %s", endpoint, r.Unreachable[endpoint])
	}
	return errors.New(why)
}

// progressBar draws one line on a terminal, over and over.
type progressBar struct{ w io.Writer }

// newProgressBar returns nil if w is no terminal.
func newProgressBar(w io.Writer) *progressBar {
	file, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if st, err := file.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return &progressBar{w}
}

// progressCells is the width of the bar.
const progressCells = 30

func (b *progressBar) draw(p load.Progress) {
	cells := min(progressCells, int(progressCells*p.Elapsed/p.Window))
	fmt.Fprintf(b.w, "\r\x1b[K[%s%s] %.1f s of %v, %.0f/s, %d errors", strings.Repeat("#", cells), strings.Repeat(".", progressCells-cells),
		p.Elapsed.Seconds(), p.Window, float64(p.Ops)/p.Elapsed.Seconds(), p.Errors)
}

func (b *progressBar) clear() {
	if b != nil {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
