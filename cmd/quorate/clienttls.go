package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// clientTLS are the flags of TLS for commands that are clients.
type clientTLS struct {
	caFile, certFile, keyFile string
	insecure                  bool
}

func (c *clientTLS) flags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&c.caFile, "cacert", "", "authority of the servers' certificates, for https:// endpoints")
	fs.StringVar(&c.certFile, "cert", "", "certificate of this client")
	fs.StringVar(&c.keyFile, "key", "", "its key")
	fs.BoolVar(&c.insecure, "insecure-skip-tls-verify", false, "take any certificate: for tests alone")
}

// config is for https:// endpoints; it is there in any case, and without files
// trusts the system's authorities.
func (c *clientTLS) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.insecure}
	if c.caFile != "" {
		pem, err := os.ReadFile(c.caFile)
		if err != nil {
			return nil, fmt.Errorf("--cacert: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--cacert %s: no certificate in PEM form is in it", c.caFile)
		}
	}
	if c.certFile != "" || c.keyFile != "" {
		pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
		if err != nil {
			return nil, fmt.Errorf("--cert and --key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}
