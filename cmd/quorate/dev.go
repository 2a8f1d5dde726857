package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/internal/datadir"
	"github.com/quorate/quorate/internal/settings"
	"github.com/quorate/quorate/raft"
)

// devPorts are the ports that three members begin with; etcd's own for the
// first, and those plus 20000 and 30000 for the others.
var devPorts = struct{ client, peer []int }{[]int{2379, 22379, 32379}, []int{2380, 22380, 32380}}

const (
	devHost  = "127.0.0.1"
	devToken = "quorate-dev"
	// devPoll is how often it is looked who leads, to say so.
	devPoll = 50 * time.Millisecond
)

type devOptions struct {
	data, logLevel          string
	temp                    bool
	portBase                int
	clientPorts, peerPorts  []int
	electionMs, heartbeatMs string
}

func newDev() *cobra.Command {
	o := &devOptions{electionMs: "500", heartbeatMs: "100"}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run three members in one process, to try quorate",
		Long: `Run a cluster of three members in one process, on 127.0.0.1, with real logs and
real connections between them. It is for trying and for tests of programs: one
machine that fails takes all three members with it.

Ctrl-C ends it; starting it again finds the data.`,
		Example: `  quorate dev
  quorate dev --temp                 # data in a temporary directory, removed at the end
  quorate dev --port-base 4000       # ports 4000 to 4005`,
		Args: usageErrors(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return dev(cmd.Context(), o, cmd.OutOrStdout(), cmd.Flags().Changed("data-dir"))
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&o.data, "data-dir", "quorate-data", "directory that holds the three members' directories")
	fs.BoolVar(&o.temp, "temp", false, "keep the data in a temporary directory and remove it at the end")
	fs.IntVar(&o.portBase, "port-base", 0, "use six ports from this one on: client and peer of each member in turn")
	fs.IntSliceVar(&o.clientPorts, "client-ports", devPorts.client, "ports for clients of the three members")
	fs.IntSliceVar(&o.peerPorts, "peer-ports", devPorts.peer, "ports between the three members")
	fs.StringVar(&o.logLevel, "log-level", "error", "debug, info, warn or error; the log goes to stderr")
	cmd.MarkFlagsMutuallyExclusive("port-base", "client-ports")
	cmd.MarkFlagsMutuallyExclusive("port-base", "peer-ports")
	return cmd
}

// dev runs three members until ctx ends or one of them fails.
func dev(ctx context.Context, o *devOptions, out io.Writer, dataGiven bool) error {
	if err := o.complete(dataGiven); err != nil {
		return &exitError{exitUsage, err}
	}
	if o.temp {
		dir, err := os.MkdirTemp("", "quorate-dev-")
		if err != nil {
			return &exitError{exitStart, err}
		}
		o.data = dir
		defer os.RemoveAll(dir)
	}
	c := &devCluster{}
	if err := c.start(o); err != nil {
		return &exitError{exitStart, errors.Join(err, c.close(context.Background()))}
	}
	failed := c.wait(ctx, o, out)
	fmt.Fprintln(out, "\nstopping")
	err := finish(slog.New(slog.DiscardHandler), failed, c.close)
	if err == nil && !o.temp {
		fmt.Fprintf(out, "stopped; the data is in %s\n", o.data)
	}
	return err
}

func (o *devOptions) complete(dataGiven bool) error {
	if o.temp && dataGiven {
		return errors.New("--temp and --data-dir exclude each other: leave one out")
	}
	if o.portBase != 0 {
		o.clientPorts, o.peerPorts = nil, nil
		for i := range devPorts.client {
			o.clientPorts = append(o.clientPorts, o.portBase+2*i)
			o.peerPorts = append(o.peerPorts, o.portBase+2*i+1)
		}
	}
	if len(o.clientPorts) != len(devPorts.client) || len(o.peerPorts) != len(devPorts.peer) {
		return fmt.Errorf("--client-ports and --peer-ports need %d ports each, one for each member", len(devPorts.client))
	}
	for _, ports := range [][]int{o.clientPorts, o.peerPorts} {
		for _, p := range ports {
			if p < 1 || p > 65535 {
				return fmt.Errorf("port %d is not between 1 and 65535: correct --port-base, --client-ports or --peer-ports", p)
			}
		}
	}
	return nil
}

func devName(i int) string { return fmt.Sprintf("dev%d", i+1) }

// settings of member i, from the same flags that serve takes.
func (o *devOptions) settings(i int) (*settings.Settings, error) {
	client := fmt.Sprintf("http://%s:%d", devHost, o.clientPorts[i])
	peer := func(i int) string { return fmt.Sprintf("http://%s:%d", devHost, o.peerPorts[i]) }
	cluster := ""
	for j := range o.peerPorts {
		if j > 0 {
			cluster += ","
		}
		cluster += devName(j) + "=" + peer(j)
	}
	return settings.Load(settings.Input{Flags: map[string]string{
		"name": devName(i), "data-dir": filepath.Join(o.data, devName(i)),
		"listen-client-urls": client, "advertise-client-urls": client,
		"listen-peer-urls": peer(i), "initial-cluster": cluster, "initial-cluster-token": devToken,
		"election-timeout": o.electionMs, "heartbeat-interval": o.heartbeatMs,
		"log-format": "console", "log-level": o.logLevel,
	}})
}

// devIdentity is what wanted would say if the ports were the default ones: a
// member keeps its identity, and its data, when its ports are changed.
func devIdentity(s *settings.Settings) datadir.Request {
	want := wanted(s)
	var canonical []settings.Member
	for i, m := range want.Identity.Members {
		u := settings.URL{Addr: fmt.Sprintf("%s:%d", devHost, devPorts.peer[i])}
		canonical = append(canonical, settings.Member{Name: m.Name, PeerURL: u})
		want.Identity.Members[i].ID = settings.MemberID(u, devToken)
		if m.Name == s.Name {
			want.Identity.Member = want.Identity.Members[i].ID
		}
	}
	want.Identity.Cluster = settings.ClusterID(canonical, devToken)
	return want
}

// devCluster is the three members.
type devCluster struct {
	settings []*settings.Settings
	doors    []*doors
	replicas []*replica // those that were started
}

func (c *devCluster) start(o *devOptions) error {
	tuneCollector()
	for i := range o.clientPorts {
		s, err := o.settings(i)
		if err != nil {
			return err
		}
		d, err := openDoors(s)
		if err != nil {
			return fmt.Errorf("member %s: %w%s", s.Name, err, portHint(err))
		}
		c.settings, c.doors = append(c.settings, s), append(c.doors, d)
	}
	// All ports are open now: each member finds the others at its first try.
	for i, s := range c.settings {
		log, _, err := newLogger(s) // writes to stderr: there is nothing to close
		if err != nil {
			return err
		}
		r, err := startReplica(s, devIdentity(s), c.doors[i], log.With("member", s.Name))
		if err != nil {
			return fmt.Errorf("member %s: %w", s.Name, err)
		}
		c.replicas = append(c.replicas, r)
	}
	return nil
}

// portHint names dev's own flags where the error names serve's.
func portHint(err error) string {
	var listen *listenError
	if errors.As(err, &listen) {
		return " (with quorate dev: --port-base, or --client-ports and --peer-ports)"
	}
	return ""
}

// leader is the member that leads, as it says itself; nil if none does.
func (c *devCluster) leader() *replica {
	for _, r := range c.replicas {
		if r.group.Status().Role == raft.Leader {
			return r
		}
	}
	return nil
}

// announce prints what there is to know, now that lead leads.
func (c *devCluster) announce(o *devOptions, lead *replica, out io.Writer) {
	first := func(r *replica) string { return r.settings.ListenClient[0].Addr }
	where := o.data
	if o.temp {
		where += ", removed at the end"
	}
	fmt.Fprintf(out, "three members in one process; data in %s\n\n", where)
	for _, r := range c.replicas {
		role := ""
		if r == lead {
			role = "  leads"
		}
		fmt.Fprintf(out, "  %s  http://%s%s\n", r.settings.Name, first(r), role)
	}
	fmt.Fprintf(out, `
try:
  etcdctl --endpoints=%s put greeting hello
  etcdctl --endpoints=%s get greeting
or without etcdctl:
  curl http://%s/health

Ctrl-C ends it.
`, first(c.replicas[0]), first(c.replicas[1]), first(c.replicas[0]))
}

// wait returns nil once ctx ends, or why a member cannot go on. It announces the
// cluster when there is a leader, and says when another member leads.
func (c *devCluster) wait(ctx context.Context, o *devOptions, out io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := make(chan error, len(c.replicas))
	var waits sync.WaitGroup
	defer waits.Wait()
	defer cancel()
	for _, r := range c.replicas {
		waits.Go(func() {
			if err := r.wait(ctx); err != nil {
				failed <- fmt.Errorf("member %s: %w", r.settings.Name, err)
			}
		})
	}
	ticker := time.NewTicker(devPoll)
	defer ticker.Stop()
	var last *replica
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-ticker.C:
			now := c.leader()
			switch {
			case now == nil || now == last:
				continue
			case last == nil:
				c.announce(o, now, out)
			default:
				fmt.Fprintf(out, "%s leads now, in term %d\n", now.settings.Name, now.group.Status().Term)
			}
			last = now
		}
	}
}

// close stops all members at once. Nobody hands over: there is nobody to take.
func (c *devCluster) close(ctx context.Context) error {
	errs := make([]error, len(c.replicas))
	var wait sync.WaitGroup
	for i, r := range c.replicas {
		wait.Go(func() { errs[i] = r.close(ctx, false) })
	}
	wait.Wait()
	for _, d := range c.doors {
		d.close() // those of members that were not started
	}
	return errors.Join(errs...)
}
