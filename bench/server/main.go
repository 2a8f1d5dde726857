// Server measures quorate and etcd as servers, side by side: three processes on
// this machine, real files, and this process beside them as the client.
//
//	go run ./server -repeats 3 -json out.json
//	go run ./server -only "put 16 B" -systems quorate,echo -profile DIR
//	go run ./server -failovers 10 -repeats 0
//	go run ./server -restarts 3 -repeats 0
//
// Each window has a cluster of its own with new, empty directories, and the
// systems take turns, so that a busy neighbour hurts all of them. Processor time
// is read from /proc for the three servers together. README.md says the rest.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/bench/internal/report"
	"github.com/quorate/quorate/internal/load"
)

type options struct {
	systems   string
	variants  variants
	only      string
	window    time.Duration
	warm      time.Duration
	repeats   int
	failovers int
	restarts  int
	entries   int
	markdown  bool
	into      string
	conns     int
	keys      int
	leader    bool
	json      string
	dir       string
	profile   string
	bin       map[string]*string
	echo      string
}

// variants are further programs that are quorate: name=path[ flag…].
type variants []string

func (v *variants) String() string { return strings.Join(*v, ", ") }

func (v *variants) Set(s string) error {
	if name, path, ok := strings.Cut(s, "="); !ok || name == "" || path == "" {
		return errors.New("want name=path")
	}
	*v = append(*v, s)
	return nil
}

func main() {
	o := options{bin: map[string]*string{}}
	flag.StringVar(&o.systems, "systems", "etcd,quorate,quorate-lease,echo", "what to measure; quorate-lease is with --leader-lease, for works with reads; echo is a server that does nothing: the limit of gRPC")
	flag.Var(&o.variants, "variant", "another program that is quorate, as name=path or \"name=path --flag …\"; may be repeated")
	flag.StringVar(&o.only, "only", "", "only works whose name contains this, e.g. \"put 16 B, 256\"")
	flag.DurationVar(&o.window, "for", 5*time.Second, "length of a window")
	flag.DurationVar(&o.warm, "warm", time.Second, "time under load before it")
	flag.IntVar(&o.repeats, "repeats", 3, "windows of each system and work; the medians are printed")
	flag.IntVar(&o.failovers, "failovers", 0, "kill the leader so many times and measure how long until the next write")
	flag.IntVar(&o.restarts, "restarts", 0, "kill all members so many times and measure how long until all serve again")
	flag.IntVar(&o.entries, "entries", 200_000, "writes before the first restart")
	flag.BoolVar(&o.markdown, "markdown", false, "print the tables as Markdown")
	flag.StringVar(&o.into, "into", "", "page whose section \"server\" is to be replaced, e.g. ../docs/performance.md")
	flag.IntVar(&o.conns, "conns", 16, "connections of the clients")
	flag.IntVar(&o.keys, "keys", 10000, "keys of 16 bytes")
	flag.BoolVar(&o.leader, "leader", false, "all clients at the leader, not at all members in turns")
	flag.StringVar(&o.json, "json", "", "file to write the figures to")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "directory for the data, on the disk to measure")
	flag.StringVar(&o.profile, "profile", "", "directory for profiles of every member and window: processor time and allocations")
	o.bin["etcd"] = flag.String("etcd-bin", "", "etcd's program; default: built from ../e2e/cmd/etcdref")
	o.bin["quorate"] = flag.String("quorate-bin", "", "quorate's program; default: built from ..")
	flag.StringVar(&o.echo, "echo-at", "", "internal: be the echo server at this address")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if o.echo != "" {
		err = serveEcho(ctx, o.echo)
	} else {
		err = run(ctx, &o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run measures what is asked for and prints it.
func run(ctx context.Context, o *options) error {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "quorate-bench-server-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	systems, err := prepare(ctx, o, dir)
	if err != nil {
		return err
	}
	where, before := report.Machine(), report.LoadAverage()
	t := &table{}
	for r := range o.repeats {
		for _, w := range works {
			if !strings.Contains(w.String(), o.only) {
				continue
			}
			for _, s := range systems {
				if s.reads && w.Work == load.Put {
					continue
				}
				m, err := measure(ctx, o, dir, s, w, r)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil {
					fmt.Fprintf(os.Stderr, "%s, %v: %v\n", s.name, w, err)
					continue
				}
				fmt.Fprintf(os.Stderr, "%d/%d %-24s %-12s %s\n", r+1, o.repeats, w, s.name, m)
				t.record(s.name, w, m)
			}
		}
	}
	if err := runFailovers(ctx, o, dir, systems, t); err != nil {
		return err
	}
	if err := runRestarts(ctx, o, dir, systems, t); err != nil {
		return err
	}
	t.finish()
	machine := report.Table{Notes: []string{fmt.Sprintf("%s; load average %s before and %s after.", where, before, report.LoadAverage())}}
	return o.write(t, append(t.tables(), machine))
}

// write writes the figures wherever they are wanted.
func (o *options) write(t *table, all []report.Table) error {
	print := report.Text
	if o.markdown {
		print = report.Markdown
	}
	if err := print(os.Stdout, all); err != nil {
		return err
	}
	if o.into != "" {
		if err := report.Into(o.into, "server", all); err != nil {
			return err
		}
	}
	if o.json == "" {
		return nil
	}
	b, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(o.json, append(b, '\n'), 0o644)
}

// measure runs one window on a cluster of its own.
func measure(ctx context.Context, o *options, dir string, s system, w work, repeat int) (m measured, err error) {
	c, err := startCluster(ctx, dir, s)
	if err != nil {
		return m, err
	}
	defer c.stop()
	endpoints, err := c.leaderFirst(ctx)
	if err != nil {
		return m, err
	}
	if o.leader {
		endpoints = endpoints[:1]
	}
	var u usage
	profiles := func() {}
	r, err := load.Run(ctx, load.Options{
		Work: w.Work, Endpoints: endpoints, Clients: w.Clients, Conns: o.conns,
		KeyBytes: 16, ValueBytes: w.ValueBytes, Keys: o.keys, Prefix: "k",
		Warm: o.warm, Window: o.window, Seed: uint64(repeat),
		OnWindow: func(open bool) {
			if open {
				profiles = c.startProfiles(o, fmt.Sprintf("%s-%s-%d-%d-%d", s.name, w.Work, w.ValueBytes, w.Clients, repeat))
				u.begin(c)
			} else {
				u.end(c)
			}
		},
	})
	profiles()
	if err != nil {
		return m, err
	}
	if c.deadMember() != "" {
		return m, fmt.Errorf("%s has exited:\n%s", c.deadMember(), c.tail())
	}
	if r.Ops == 0 || u.err != nil {
		return m, errors.Join(fmt.Errorf("%d operations, errors %v", r.Ops, r.Errors), u.err)
	}
	m = measured{
		OpsPerS: r.OpsPerSecond, P50Ms: r.Latency.P50Ms, P99Ms: r.Latency.P99Ms, P999Ms: r.Latency.P999Ms,
		ServerCPU: u.cpu.Seconds() / float64(r.Ops) * 1e5, ClientCPU: r.ClientCPUSecondsPer100k,
		AllocBytes: u.allocated / float64(r.Ops), RSSMiB: u.rssMiB, LoadAverage: report.LoadAverage(),
	}
	for _, n := range r.Errors {
		m.Errors += n
	}
	return m, nil
}

// selected are the names that are asked for, variants included, in order.
func (o *options) selected() []string {
	names := slices.DeleteFunc(strings.Split(o.systems, ","), func(s string) bool { return s == "" })
	for _, v := range o.variants {
		name, _, _ := strings.Cut(v, "=")
		names = append(names, name)
	}
	return names
}
