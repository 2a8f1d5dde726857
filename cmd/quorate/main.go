// Command quorate is a replicated key-value store that speaks etcd's v3 API,
// and the tools around it.
//
//	quorate dev       three members in one process, to try it
//	quorate serve     one member of a cluster, with etcd's flags
//	quorate check     what a data directory holds, and whether it is whole
//	quorate log       the records of a data directory's log
//	quorate bench     loads any server with etcd's API
//	quorate sim       searches seeds for violations
//	quorate lab       the papers' questions, as runs of the real code
//	quorate snapshot  save, look at and restore backups
//	quorate version   the versions
//
// Exit codes:
//
//	0  done; serve and dev: or ended by SIGINT or SIGTERM
//	1  failed while running, or interrupted; check: damage was found
//	2  wrong flags, settings or arguments: nothing was started
//	3  could not start: the data directory or an address cannot be used
//
// The way a member is put together is in replica.go.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

const (
	exitFailed = 1
	exitUsage  = 2
	exitStart  = 3
)

// commands make the subcommands. A file that adds one appends to it in init.
var commands = []func() *cobra.Command{newServe, newDev, newCheck, newLog, newSnapshot, newVersion}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		// A second signal ends the process at once.
		<-ctx.Done()
		stop()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run executes a command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "quorate",
		Short: "A replicated key-value store that speaks etcd's v3 API",
		Example: `  quorate dev                       # three members in one process, data in ./quorate-data
  etcdctl --endpoints=127.0.0.1:2379 put greeting hello`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exitError{exitUsage, fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	for _, c := range commands {
		root.AddCommand(c())
	}
	root.SetArgs(doubleDashes(args))
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(stderr, "quorate: %s\n", strings.TrimSuffix(line, "\n"))
	}
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	if strings.HasPrefix(err.Error(), "unknown command") {
		return exitUsage
	}
	return exitFailed
}

// exitError is an error with the exit code that it leads to.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// usageErrors makes what a check of arguments returns a usage error.
func usageErrors(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &exitError{exitUsage, fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
		}
		return nil
	}
}

// doubleDashes gives the long flags of serve that have one dash their second:
// etcd takes both, and scripts use both.
func doubleDashes(args []string) []string {
	if len(args) == 0 || args[0] != "serve" {
		return args
	}
	out := []string{"serve"}
	for _, a := range args[1:] {
		if len(a) > 2 && a[0] == '-' && a[1] != '-' {
			a = "-" + a
		}
		out = append(out, a)
	}
	return out
}
