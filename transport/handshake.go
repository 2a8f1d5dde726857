package transport

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
)

// The versions of the protocol that this package speaks.
const versionMin, versionMax uint16 = 1, 1

const (
	helloBytes = 52
	magic      = "QUORATE\n"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// verdict is what the accepting side says to a hello. The numbers are part of
// the protocol.
type verdict byte

const (
	accepted         verdict = 0
	refusedVersion   verdict = 1
	refusedCluster   verdict = 2
	refusedWrongPeer verdict = 3
	refusedNotMember verdict = 4
)

// hello is what both sides say first; see the package comment.
type hello struct {
	versionMin, versionMax uint16
	cluster                uint64
	from, to               uint64
	nonce                  uint64
	verdict                verdict
	class                  class
}

func (h *hello) encode() []byte {
	b := make([]byte, 0, helloBytes)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint16(b, h.versionMin)
	b = binary.LittleEndian.AppendUint16(b, h.versionMax)
	b = binary.LittleEndian.AppendUint64(b, h.cluster)
	b = binary.LittleEndian.AppendUint64(b, h.from)
	b = binary.LittleEndian.AppendUint64(b, h.to)
	b = binary.LittleEndian.AppendUint64(b, h.nonce)
	b = append(b, byte(h.verdict), byte(h.class), 0, 0)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeHello reads a hello. Its error wraps ErrNotQuorate.
func decodeHello(b *[helloBytes]byte) (h hello, err error) {
	if !bytes.HasPrefix(b[:], []byte(magic)) {
		return h, notQuorate(b[:len(magic)])
	}
	if got := crc32.Checksum(b[:helloBytes-4], castagnoli); got != binary.LittleEndian.Uint32(b[helloBytes-4:]) {
		return h, fmt.Errorf("%w: its hello does not match its checksum", ErrNotQuorate)
	}
	return hello{
		versionMin: binary.LittleEndian.Uint16(b[8:]),
		versionMax: binary.LittleEndian.Uint16(b[10:]),
		cluster:    binary.LittleEndian.Uint64(b[12:]),
		from:       binary.LittleEndian.Uint64(b[20:]),
		to:         binary.LittleEndian.Uint64(b[28:]),
		nonce:      binary.LittleEndian.Uint64(b[36:]),
		verdict:    verdict(b[44]),
		class:      class(b[45]),
	}, nil
}

// notQuorate names what began to speak with the given bytes.
func notQuorate(first []byte) error {
	what := "something else"
	switch {
	case bytes.HasPrefix(first, []byte("HTTP/")), bytes.HasPrefix(first, []byte("GET ")), bytes.HasPrefix(first, []byte("POST ")), bytes.HasPrefix(first, []byte("PRI * ")):
		what = "HTTP"
	case len(first) > 2 && (first[0] == 0x15 || first[0] == 0x16) && first[1] == 3:
		what = "TLS, and this host does not"
	}
	return fmt.Errorf("%w: it speaks %s (its first bytes are %q); check the address and the TLS settings", ErrNotQuorate, what, first)
}

// readHello reads a hello. It looks at the magic before it waits for the rest,
// which somebody else would never send.
func readHello(c net.Conn) (h hello, err error) {
	var b [helloBytes]byte
	if n, err := io.ReadFull(c, b[:len(magic)]); err != nil {
		if n > 0 && errors.Is(err, io.ErrUnexpectedEOF) {
			return h, notQuorate(b[:n])
		}
		return h, fmt.Errorf("read hello: %w", err)
	}
	if !bytes.HasPrefix(b[:], []byte(magic)) {
		return h, notQuorate(b[:len(magic)])
	}
	if _, err := io.ReadFull(c, b[len(magic):]); err != nil {
		return h, fmt.Errorf("read hello: %w", err)
	}
	return decodeHello(&b)
}

// commonVersion returns the version to speak with the other side, or zero.
func commonVersion(h *hello) uint16 {
	v := min(versionMax, h.versionMax)
	if v < max(versionMin, h.versionMin) {
		return 0
	}
	return v
}

func newNonce() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// greet is the handshake of the side that dialled addr to reach the host to.
func (t *Transport) greet(c net.Conn, addr string, to uint64, kind class) error {
	mine := hello{versionMin: versionMin, versionMax: versionMax, cluster: t.cfg.Cluster, from: t.cfg.ID, to: to, nonce: newNonce(), class: kind}
	if _, err := c.Write(mine.encode()); err != nil {
		return fmt.Errorf("send hello to %s: %w", addr, err)
	}
	h, err := readHello(c)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("handshake with %s: it closed the connection without an answer (%w); it is stopping, or uses TLS while this host does not, or is no quorate host", addr, err)
	}
	if err != nil {
		return fmt.Errorf("handshake with %s: %w", addr, err)
	}
	switch {
	case commonVersion(&h) == 0:
		return versionError(addr, &h)
	case h.cluster != t.cfg.Cluster:
		return t.clusterError(addr, &h)
	case h.from != to:
		return fmt.Errorf("%w: the host at %s is %x, and %x was expected there; check the addresses of the members", ErrWrongPeer, addr, h.from, to)
	case h.nonce != mine.nonce || h.to != t.cfg.ID:
		return fmt.Errorf("%w: the answer from %s is not to this host's hello", ErrNotQuorate, addr)
	}
	return verdictError(h.verdict, addr)
}

func versionError(addr string, h *hello) error {
	return fmt.Errorf("%w: the host at %s speaks versions %d to %d, this one %d to %d; upgrade the older one step by step", ErrVersion, addr, h.versionMin, h.versionMax, versionMin, versionMax)
}

func (t *Transport) clusterError(addr string, h *hello) error {
	return fmt.Errorf("%w: peer at %s belongs to cluster %x, this host to %x: check --initial-cluster-token, and that both began empty or were restored from the same backup", ErrClusterMismatch, addr, h.cluster, t.cfg.Cluster)
}

// verdictError says what the accepting side found that this one did not.
func verdictError(v verdict, addr string) error {
	switch v {
	case accepted:
		return nil
	case refusedVersion:
		return fmt.Errorf("%w: the host at %s refuses this host's version", ErrVersion, addr)
	case refusedCluster:
		return fmt.Errorf("%w: the host at %s refuses this host's cluster", ErrClusterMismatch, addr)
	case refusedWrongPeer:
		return fmt.Errorf("%w: the host at %s is not the one that was dialled", ErrWrongPeer, addr)
	case refusedNotMember:
		return fmt.Errorf("%w: the host at %s does not know this host as a member; add it there, or wait until it has learnt of it", ErrNotMember, addr)
	}
	return fmt.Errorf("%w: the host at %s refuses with the unknown verdict %d", ErrVersion, addr, v)
}

// welcome is the handshake of the side that accepted. It returns the peer that
// has connected.
func (t *Transport) welcome(c net.Conn) (*peer, error) {
	addr := c.RemoteAddr().String()
	h, err := readHello(c)
	if err != nil {
		return nil, fmt.Errorf("connection from %s: %w", addr, err)
	}
	p, v, err := t.judge(addr, &h)
	mine := hello{versionMin: versionMin, versionMax: versionMax, cluster: t.cfg.Cluster, from: t.cfg.ID, to: h.from, nonce: h.nonce, verdict: v, class: h.class}
	if _, werr := c.Write(mine.encode()); werr != nil && err == nil {
		err = fmt.Errorf("answer hello from %s: %w", addr, werr)
	}
	return p, err
}

// judge decides on a hello that came from addr.
func (t *Transport) judge(addr string, h *hello) (*peer, verdict, error) {
	switch {
	case commonVersion(h) == 0 || h.class > classMax:
		return nil, refusedVersion, versionError(addr, h)
	case h.cluster != t.cfg.Cluster:
		return nil, refusedCluster, t.clusterError(addr, h)
	case h.to != t.cfg.ID:
		return nil, refusedWrongPeer, fmt.Errorf("%w: host %x at %s dialled this address for host %x, and this is host %x; check the addresses of the members there", ErrWrongPeer, h.from, addr, h.to, t.cfg.ID)
	}
	p := t.peer(h.from)
	if p == nil {
		return nil, refusedNotMember, fmt.Errorf("%w: host %x at %s is not known here; add it as a member first", ErrNotMember, h.from, addr)
	}
	if h.class == classBulk {
		p = p.bulkPeer(false)
	}
	return p, accepted, nil
}

// secureClient does TLS's handshake as the side that dialled, if TLS is wanted.
func (t *Transport) secureClient(ctx context.Context, c net.Conn, addr string) (net.Conn, error) {
	if t.cfg.TLS == nil {
		return c, nil
	}
	cfg := t.cfg.TLS
	if cfg.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf("address %q of a peer: %w", addr, err)
		}
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	return secured(ctx, tls.Client(c, cfg), addr)
}

// secureServer does it as the side that accepted.
func (t *Transport) secureServer(ctx context.Context, c net.Conn) (net.Conn, error) {
	if t.cfg.TLS == nil {
		return c, nil
	}
	return secured(ctx, tls.Server(c, t.cfg.TLS), c.RemoteAddr().String())
}

func secured(ctx context.Context, c *tls.Conn, addr string) (net.Conn, error) {
	err := c.HandshakeContext(ctx)
	if err == nil {
		return c, nil
	}
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) {
		return nil, fmt.Errorf("%w: %s does not speak TLS (%w); use TLS on all hosts or on none", ErrNotQuorate, addr, err)
	}
	return nil, fmt.Errorf("TLS handshake with %s: %w; check the certificates of both hosts", addr, err)
}
