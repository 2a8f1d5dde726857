package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
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
	"github.com/quorate/quorate/snapshot"
)

func newSnapshot() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Save, look at and restore backups",
		Example: `  quorate snapshot save backup.db --endpoints 127.0.0.1:2379
  quorate snapshot status backup.db
  quorate snapshot restore backup.db --name a --data-dir /var/lib/quorate \
    --initial-cluster a=http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380`,
		Args: usageErrors(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newSnapshotSave(), newSnapshotStatus(), newSnapshotRestore())
	return cmd
}

// checker verifies a backup as its bytes come: the blocks, and what the state
// says of itself.
type checker struct {
	snapshot.Verifier
	keys *kv.Inspector
}

func newChecker() *checker {
	c := &checker{keys: kv.NewInspector()}
	c.State = c.keys
	return c
}

// finish returns what the backup holds, or what is wrong with it.
func (c *checker) finish() (kv.Summary, error) {
	if err := c.Finish(); err != nil {
		return kv.Summary{}, err
	}
	sum, err := c.keys.Finish()
	if err != nil {
		return sum, err
	}
	if h := c.Head(); h.Index != sum.Applied || h.Digest != sum.Digest {
		return sum, fmt.Errorf("the state is at %d with digest %x, the head says %d and %x: %w", sum.Applied, sum.Digest, h.Index, h.Digest, kv.ErrDigest)
	}
	return sum, nil
}

func describe(w io.Writer, sum kv.Summary, bytes int64) {
	fmt.Fprintf(w, "digest    %x\nrevision  %d\ncompacted %d\nkeys      %d\nsize      %d bytes\nindex     %d\n",
		sum.Digest, sum.Revision, max(sum.CompactRevision, 0), sum.Keys, bytes, sum.Applied)
}

type saveOptions struct {
	endpoints         []string
	caCert, cert, key string
	timeout           time.Duration
}

func newSnapshotSave() *cobra.Command {
	o := &saveOptions{}
	cmd := &cobra.Command{
		Use:   "save FILE",
		Short: "Save a backup of a running cluster",
		Long: `Save a backup of a running cluster: one consistent state, with all that was
acknowledged before the call as long as the member reaches a quorum. It is
verified as it is written, and FILE is there whole or not at all. The endpoints
are tried in their order.`,
		Args: usageErrors(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return save(cmd.Context(), o, args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	fs := cmd.Flags()
	fs.StringSliceVar(&o.endpoints, "endpoints", []string{"127.0.0.1:2379"}, "where members serve clients")
	fs.StringVar(&o.caCert, "cacert", "", "certificates of the authorities that the members' are of")
	fs.StringVar(&o.cert, "cert", "", "certificate to show to the members")
	fs.StringVar(&o.key, "key", "", "its key")
	fs.DurationVar(&o.timeout, "dial-timeout", 5*time.Second, "how long to try to reach a member")
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
	describe(out, sum, bytes)
	return nil
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
	for _, endpoint := range o.endpoints {
		if err := f.Truncate(0); err != nil {
			return kv.Summary{}, 0, err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return kv.Summary{}, 0, err
		}
		sum, bytes, err := o.stream(ctx, endpoint, f, progress)
		if err == nil {
			return sum, bytes, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", endpoint, err))
	}
	return kv.Summary{}, 0, errors.Join(errs...)
}

func (o *saveOptions) credentials(endpoint string) (credentials.TransportCredentials, error) {
	if !strings.HasPrefix(endpoint, "https://") && o.caCert == "" && o.cert == "" {
		return insecure.NewCredentials(), nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.caCert != "" {
		pem, err := os.ReadFile(o.caCert)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", o.caCert)
		}
	}
	if o.cert != "" {
		pair, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return credentials.NewTLS(c), nil
}

func (o *saveOptions) stream(ctx context.Context, endpoint string, f io.Writer, progress io.Writer) (kv.Summary, int64, error) {
	creds, err := o.credentials(endpoint)
	if err != nil {
		return kv.Summary{}, 0, err
	}
	addr := strings.TrimPrefix(strings.TrimPrefix(endpoint, "https://"), "http://")
	conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
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
		if err != nil {
			return kv.Summary{}, 0, err
		}
		if _, err := check.Write(resp.Blob); err != nil {
			return kv.Summary{}, 0, fmt.Errorf("what came is no backup: %w", err)
		}
		if _, err := f.Write(resp.Blob); err != nil {
			return kv.Summary{}, 0, err
		}
		if time.Since(shown) >= time.Second {
			shown = time.Now()
			fmt.Fprintf(progress, "%d MiB saved, about %d MiB to go\n", check.Bytes()>>20, resp.RemainingBytes>>20)
		}
	}
	sum, err := check.finish()
	if err != nil {
		return sum, 0, fmt.Errorf("what came is no backup: %w", err)
	}
	return sum, check.Bytes(), nil
}

func newSnapshotStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status FILE",
		Short: "Verify a backup and say what it holds",
		Long: `Verify a backup, every byte and every key of it, and say what it holds. Exit
codes: 0 it is whole, 1 it is not, 3 it cannot be read.`,
		Args: usageErrors(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			sum, bytes, err := verifyBackup(args[0], nil)
			if err != nil {
				return err
			}
			describe(cmd.OutOrStdout(), sum, bytes)
			return nil
		},
	}
}

// verifyBackup reads a backup to its end. also, if not nil, is given its state.
func verifyBackup(file string, also io.Writer) (kv.Summary, int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return kv.Summary{}, 0, &exitError{exitStart, err}
	}
	defer f.Close()
	check := newChecker()
	if also != nil {
		check.State = io.MultiWriter(check.keys, also)
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{check}, struct{ io.Reader }{f}, make([]byte, snapshot.BlockBytes))
	var sum kv.Summary
	if err == nil {
		sum, err = check.finish()
	}
	if err != nil {
		return sum, 0, &exitError{exitFailed, fmt.Errorf("%s is not a whole backup: %w", file, err)}
	}
	return sum, check.Bytes(), nil
}
