package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/internal/datadir"
	"github.com/quorate/quorate/internal/settings"
)

// closeTimeout bounds a clean shutdown; past it the process ends regardless.
// What was acknowledged is on disk either way.
const closeTimeout = 15 * time.Second

func newServe() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run one member of a cluster, with etcd's flags",
		Long: `Run one member of a cluster.

Settings have etcd's names and come from flags, from ETCD_* environment variables
(a flag wins), or from a YAML file with --config-file (which then counts alone).
Settings of etcd's that quorate does not have are refused if something would
depend on them, and else accepted with a warning; docs/operations.md lists them.

SIGINT or SIGTERM hands leadership over, lets requests end and stops; a second
one stops at once.`,
		Example: `  quorate serve --name a --data-dir /var/lib/quorate \
    --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380 \
    --listen-peer-urls http://0.0.0.0:2380 --initial-advertise-peer-urls http://10.0.0.1:2380 \
    --listen-client-urls http://0.0.0.0:2379 --advertise-client-urls http://10.0.0.1:2379`,
		Args: usageErrors(cobra.NoArgs),
	}
	given := map[string]string{}
	addServeFlags(cmd, given)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := settings.Load(settings.Input{Flags: given, Environ: os.Environ()})
		if err != nil {
			return &exitError{exitUsage, err}
		}
		return serve(cmd.Context(), s)
	}
	return cmd
}

// serve runs a member until ctx ends or the member fails.
func serve(ctx context.Context, s *settings.Settings) error {
	log, closeLog, err := newLogger(s)
	if err != nil {
		return &exitError{exitStart, err}
	}
	defer closeLog()
	for _, w := range s.Warnings {
		log.Warn(w.Text, "setting", w.Source.String())
	}
	tuneCollector()
	var r *replica
	doors, err := openDoors(s)
	if err == nil {
		r, err = startReplica(s, wanted(s), doors, log)
	}
	if err != nil {
		log.Error("could not start", "err", err)
		return &exitError{exitStart, err}
	}
	log.Info("serving", "version", quorateVersion(), "name", s.Name, "member", hexID(uint64(r.dir.Identity.Member)), "cluster", hexID(r.dir.Identity.Cluster),
		"clients", settings.Join(s.ListenClient), "peers", s.ListenPeer.String(), "data", s.DataDir, "new", r.dir.New)
	failed := r.wait(ctx)
	if failed == nil {
		log.Info("stopping: a signal came")
	}
	return finish(log, failed, func(ctx context.Context) error { return r.close(ctx, failed == nil) })
}

// finish runs a clean shutdown with a deadline. failed, if not nil, is why it
// stops, and what it returns.
func finish(log *slog.Logger, failed error, shutdown func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- shutdown(ctx) }()
	var err error
	select {
	case err = <-done:
	case <-time.After(closeTimeout + time.Second):
		err = fmt.Errorf("not stopped within %v; ending without a clean close, which loses nothing that was acknowledged", closeTimeout)
	}
	switch {
	case failed != nil:
		log.Error("stopped", "err", failed)
		return failed
	case err != nil:
		log.Error("stopped uncleanly", "err", err)
		return err
	}
	log.Info("stopped")
	return nil
}

// wanted is what the settings lead to: the identity that the data directory
// must have or is given.
func wanted(s *settings.Settings) datadir.Request {
	id := datadir.Identity{
		Cluster: settings.ClusterID(s.Members, s.Token),
		Member:  settings.MemberID(s.AdvertisePeer, s.Token),
		Name:    s.Name,
	}
	for _, m := range s.Members {
		id.Members = append(id.Members, datadir.Member{ID: settings.MemberID(m.PeerURL, s.Token), Name: m.Name, PeerURL: m.PeerURL.String()})
	}
	return datadir.Request{Identity: id, Remembered: !s.MembersGiven, Joining: s.Joining}
}

// addServeFlags adds every flag of etcd's; those that are set go to given. What
// they mean is decided by package settings.
func addServeFlags(cmd *cobra.Command, given map[string]string) {
	fs := cmd.Flags()
	add := func(name, usage string, boolean, hidden bool) {
		f := fs.VarPF(&rawFlag{name: name, given: given, boolean: boolean}, name, "", usage)
		f.Hidden = hidden
		if boolean {
			f.NoOptDefVal = "true"
		}
	}
	for _, f := range settings.Flags() {
		add(f.Name, f.Usage, f.Bool, false)
	}
	add("config-file", "YAML file with all settings; flags and environment variables are then ignored", false, false)
	settings.ForeignNames(func(name string, boolean bool) {
		if fs.Lookup(name) == nil {
			add(name, "", boolean, true)
		}
	})
	cmd.SetUsageFunc(func(cmd *cobra.Command) error {
		fmt.Fprint(cmd.OutOrStderr(), serveUsage(cmd))
		return nil
	})
}

func serveUsage(cmd *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s [flags]\n\nExample:\n%s\n", cmd.CommandPath(), cmd.Example)
	section := ""
	for _, f := range settings.Flags() {
		if f.Section != section {
			section = f.Section
			fmt.Fprintf(&b, "\n%s:\n", section)
		}
		fmt.Fprintf(&b, "  --%-29s %s", f.Name, f.Usage)
		if f.Default != "" && f.Default != "false" {
			fmt.Fprintf(&b, " (default %s)", f.Default)
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "\nAll in one file:\n  --%-29s %s\n", "config-file", "YAML file with all settings; flags and environment are then ignored")
	return b.String()
}

// rawFlag notes what was given, as text.
type rawFlag struct {
	name    string
	given   map[string]string
	boolean bool
}

func (f *rawFlag) String() string { return "" }

func (f *rawFlag) Set(v string) error {
	f.given[f.name] = v
	return nil
}

func (f *rawFlag) Type() string {
	if f.boolean {
		return "bool"
	}
	return "string"
}

// hexID formats an id as etcd does.
func hexID(id uint64) string { return fmt.Sprintf("%x", id) }
