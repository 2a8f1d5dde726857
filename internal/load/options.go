package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Work is what the clients ask for.
type Work string

const (
	// Put writes a key that is drawn at random.
	Put Work = "put"
	// Range reads one, linearizably unless Options.Serializable.
	Range Work = "range"
	// Mixed does nine ranges for each put.
	Mixed Work = "mixed"
)

// Works are all there are.
func Works() []Work { return []Work{Put, Range, Mixed} }

// mixedRanges is the number of ranges for each put of Mixed.
const mixedRanges = 9

// ErrOptions is wrapped by every error about Options.
var ErrOptions = errors.New("bad options")

// Options of a run. What is not optional is required.
type Options struct {
	Work Work
	// Endpoints are addresses (host:port, with or without http:// or https://).
	// The connections are dealt out to them in turns.
	Endpoints []string
	// TLS for endpoints with https://. Optional.
	TLS *tls.Config
	// Clients each have one request in flight, over Conns connections; of more
	// connections than clients the rest stays unused.
	Clients, Conns int
	// KeyBytes is the length of a key, at least keyBytesMin; ValueBytes that of
	// a value; Keys how many keys there are.
	KeyBytes, ValueBytes, Keys int
	// Prefix begins every key. Optional.
	Prefix string
	// Serializable makes ranges read what the server happens to have.
	Serializable bool
	// Warm is how long the load runs unmeasured; Window how long it is measured.
	Warm, Window time.Duration
	// RequestTimeout bounds a request. Optional: a timer for each request costs
	// client and server something, and most clients of etcd set none.
	RequestTimeout time.Duration
	// Seed of the choice of keys.
	Seed uint64
	// OnWindow, if set, is called when the window is about to open, and with
	// false when it has closed. The load goes on meanwhile.
	OnWindow func(open bool)
	// Progress, if set, is called about ten times a second during the window,
	// and at its end.
	Progress func(Progress)
}

// Progress of a window.
type Progress struct {
	Elapsed, Window time.Duration
	Ops, Errors     uint64
}

// keyDigits is how many digits tell the keys apart.
func (o *Options) keyDigits() int { return len(fmt.Sprint(o.Keys - 1)) }

func (o *Options) check() error {
	known := false
	for _, w := range Works() {
		known = known || o.Work == w
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrOptions, fmt.Sprintf(format, args...))
	}
	switch {
	case !known:
		return bad("no work %q; there are %v", o.Work, Works())
	case len(o.Endpoints) == 0:
		return bad("no endpoint is given")
	case o.Clients < 1 || o.Conns < 1 || o.Keys < 1:
		return bad("%d clients, %d connections, %d keys; there must be one of each at least", o.Clients, o.Conns, o.Keys)
	case o.ValueBytes < 0 || o.Warm < 0 || o.RequestTimeout < 0:
		return bad("a size or a time is negative")
	case o.Window <= 0:
		return bad("a window of %v; it must be above zero", o.Window)
	case o.KeyBytes < len(o.Prefix)+o.keyDigits():
		return bad("keys of %d bytes do not hold the prefix %q and %d digits", o.KeyBytes, o.Prefix, o.keyDigits())
	}
	for _, e := range o.Endpoints {
		if _, secure := address(e); secure && o.TLS == nil {
			return bad("%s needs settings for TLS", e)
		}
	}
	return nil
}

// address is what to connect to for an endpoint, and whether with TLS.
func address(endpoint string) (addr string, secure bool) {
	if rest, ok := strings.CutPrefix(endpoint, "https://"); ok {
		return strings.TrimSuffix(rest, "/"), true
	}
	return strings.TrimSuffix(strings.TrimPrefix(endpoint, "http://"), "/"), false
}

// key writes the key of number i over dst, which is KeyBytes long: the prefix,
// then the number, with zeros before it.
func (o *Options) key(dst []byte, i int) {
	for at := len(dst) - 1; at >= len(o.Prefix); at-- {
		dst[at] = byte('0' + i%10)
		i /= 10
	}
	copy(dst, o.Prefix)
}
