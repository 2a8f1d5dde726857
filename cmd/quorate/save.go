package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/quorate/quorate/kv"
)

// endpoint is where a member serves clients.
type endpoint struct {
	name   string // as it was given
	addr   string // host:port
	secure bool
}

// endpoints reads what --endpoints says: one at least, and all of them addresses.
func endpoints(given []string) (all []endpoint, err error) {
	for _, name := range given {
		e := endpoint{name: strings.TrimSpace(name)}
		e.addr, e.secure = strings.CutPrefix(e.name, "https://")
		e.addr = strings.TrimSuffix(strings.TrimPrefix(e.addr, "http://"), "/")
		_, port, err := net.SplitHostPort(e.addr)
		if err != nil || port == "" || strings.Contains(e.addr, "/") {
			return nil, fmt.Errorf("--endpoints: %q is no address; give host:port, http://host:port or https://host:port", name)
		}
		all = append(all, e)
	}
	if len(all) == 0 {
		return nil, errors.New("--endpoints is empty; name where a member serves clients, as host:port")
	}
	return all, nil
}

type saveOptions struct {
	endpoints        []string // as given
	from             []endpoint
	tls              clientTLS
	secure           *tls.Config
	timeout, silence time.Duration
}

func newSnapshotSave() *cobra.Command {
	o := &saveOptions{}
	cmd := &cobra.Command{
		Use:   "save FILE",
		Short: "Save a backup of a running cluster",
		Long: `Save a backup of a running cluster: one consistent state, with all that was
acknowledged before the call as long as the member reaches a quorum. It is
verified as it is written, and FILE is there whole or not at all. The endpoints
are tried in their order; a member that falls silent on the way is given up, and
the next one asked from the beginning.`,
		Args: usageErrors(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err, badTLS error
			o.from, err = endpoints(o.endpoints)
			o.secure, badTLS = o.tls.config()
			if err = errors.Join(err, badTLS); err != nil {
				return &exitError{exitUsage, err}
			}
			return save(cmd.Context(), o, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	fs.StringSliceVar(&o.endpoints, "endpoints", []string{"127.0.0.1:2379"}, "where members serve clients")
	o.tls.flags(cmd)
	fs.DurationVar(&o.timeout, "dial-timeout", 5*time.Second, "how long to try to reach a member")
	fs.DurationVar(&o.silence, "silence-timeout", 30*time.Second, "how long a member may send nothing before the next one is asked")
	return cmd
}

// save writes the backup aside, and gives it its name when it is whole, verified
// and synced.
func save(ctx context.Context, o *saveOptions, file string, out, progress io.Writer) error {
	part := file + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return &exitError{exitStart, err}
	}
	sum, bytes, err := o.fetch(ctx, f, progress)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(part, file)
	}
	if err == nil {
		err = syncDir(filepath.Dir(file))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("no backup was saved: %w", err), os.Remove(part))
	}
	fmt.Fprintf(out, "saved %s\n", file)
	return describe(out, sum, bytes)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// fetch streams a backup from the first member that gives one.
func (o *saveOptions) fetch(ctx context.Context, f *os.File, progress io.Writer) (kv.Summary, int64, error) {
	var errs []error
	for _, e := range o.from {
		if err := f.Truncate(0); err != nil {
			return kv.Summary{}, 0, err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return kv.Summary{}, 0, err
		}
		sum, bytes, err := o.stream(ctx, e, f, progress)
		if err == nil {
			return sum, bytes, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", e.name, err))
	}
	if len(errs) == 0 {
		return kv.Summary{}, 0, errors.New("there is no endpoint to ask")
	}
	return kv.Summary{}, 0, errors.Join(errs...)
}

func (o *saveOptions) credentials(e endpoint) credentials.TransportCredentials {
	// host:port with a certificate's flag is meant to be secure, as etcdctl takes it.
	if !e.secure && (strings.Contains(e.name, "://") || o.tls.caFile == "" && o.tls.certFile == "" && !o.tls.insecure) {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(o.secure)
}

// stream writes the backup that one member sends to f. A member that says nothing
// for o.silence is given up: it may be stopped, or its machine gone, without the
// connection ending.
func (o *saveOptions) stream(ctx context.Context, from endpoint, f, progress io.Writer) (kv.Summary, int64, error) {
	conn, err := grpc.NewClient("passthrough:///"+from.addr, grpc.WithTransportCredentials(o.credentials(from)), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return kv.Summary{}, 0, err
	}
	defer conn.Close()
	reached, cancel := context.WithTimeout(ctx, o.timeout)
	_, err = pb.NewMaintenanceClient(conn).Status(reached, &pb.StatusRequest{})
	cancel()
	if err != nil {
		return kv.Summary{}, 0, err
	}
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	silence := fmt.Errorf("the member has sent nothing for %v", o.silence)
	watch := time.AfterFunc(o.silence, func() { giveUp(silence) })
	defer watch.Stop()
	in, err := pb.NewMaintenanceClient(conn).Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		return kv.Summary{}, 0, err
	}
	check, shown := newChecker(), time.Now()
	for {
		resp, err := in.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil && errors.Is(context.Cause(ctx), silence) {
			return kv.Summary{}, 0, fmt.Errorf("after %d bytes: %w", check.Bytes(), silence)
		}
		if err != nil {
			return kv.Summary{}, 0, err
		}
		watch.Stop() // this side's disk may take its time
		if _, err := io.MultiWriter(backupWriter{check}, f).Write(resp.Blob); err != nil {
			return kv.Summary{}, 0, err
		}
		if time.Since(shown) >= time.Second {
			shown = time.Now()
			fmt.Fprintf(progress, "%d MiB saved, about %d MiB to go\n", check.Bytes()>>20, resp.RemainingBytes>>20)
		}
		watch.Reset(o.silence)
	}
	sum, err := check.finish()
	if err != nil {
		return sum, 0, fmt.Errorf("what came is no backup: %w", err)
	}
	return sum, check.Bytes(), nil
}

// backupWriter says of the checker's errors what they are about.
type backupWriter struct{ *checker }

func (w backupWriter) Write(p []byte) (int, error) {
	n, err := w.checker.Write(p)
	if err != nil {
		err = fmt.Errorf("what came is no backup: %w", err)
	}
	return n, err
}
