package kv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/quorate/quorate/smr"
)

var _ smr.Durable = (*Store)(nil)

// The bytes of a state are all that pebble holds but the format record, in the
// order of keys:
//
//	state = version byte 1 | { key bytes uvarint | key | value bytes uvarint | value } ...
//
// They need not be the same on two replicas, for compacted versions are removed
// at different times; the digest is.
const streamVersion = 1

const (
	// A view makes a new iterator after so many times ViewBytes: an iterator keeps
	// files and memtables that pebble would give up, a snapshot keeps versions alone.
	refreshViews = 256
	// pairBytesMax bounds a key with its value in a stream.
	pairBytesMax = 1 << 30
)

// views are the open views of a store. They are closed when the store is, or
// when it takes another state.
type views struct {
	mu   sync.Mutex
	open map[*stateView]struct{}
}

func (vs *views) add(v *stateView) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if vs.open == nil {
		vs.open = map[*stateView]struct{}{}
	}
	vs.open[v] = struct{}{}
}

func (vs *views) remove(v *stateView) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	delete(vs.open, v)
}

// closeAll closes what is open; reading from it returns ErrClosed.
func (vs *views) closeAll() error {
	vs.mu.Lock()
	open := vs.open
	vs.open = nil
	vs.mu.Unlock()
	var errs []error
	for v := range open {
		errs = append(errs, v.release())
	}
	return errors.Join(errs...)
}

// stateView is a state to be read whole: a pebble snapshot, which costs nothing
// but that the versions in it are kept.
type stateView struct {
	s  *Store
	st state

	mu   sync.Mutex
	snap *pebble.Snapshot // nil: released
	it   *pebble.Iterator // nil: to be made, from from on
	from []byte
	held int    // bytes since it was made
	out  []byte // encoded, from at on not read yet
	at   int
	end  bool
}

// View implements smr.Snapshotter. It may be called by any goroutine. It takes
// the same time whatever the size of the store.
func (s *Store) View() (smr.View, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(); err != nil {
		return nil, err
	}
	v := &stateView{s: s, st: s.w.st, snap: s.db.NewSnapshot(), out: []byte{streamVersion}}
	s.views.add(v)
	return v, nil
}

// Applied implements smr.View.
func (v *stateView) Applied() uint64 { return v.st.applied }

// Digest implements smr.View.
func (v *stateView) Digest() [16]byte { return v.st.digest() }

// Read implements smr.View.
func (v *stateView) Read(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := 0
	for n < len(p) {
		if v.at == len(v.out) {
			if v.end {
				break
			}
			if err := v.fill(); err != nil {
				return n, asCorrupt(err)
			}
			continue
		}
		k := copy(p[n:], v.out[v.at:])
		n, v.at = n+k, v.at+k
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// fill encodes the next pairs.
func (v *stateView) fill() error {
	if v.snap == nil {
		return ErrClosed
	}
	v.out, v.at = v.out[:0], 0
	if v.it == nil {
		it, err := v.snap.NewIter(nil)
		if err != nil {
			return err
		}
		v.it, v.held = it, 0
		it.SeekGE(v.from)
	}
	for len(v.out) < v.s.cfg.ViewBytes && v.it.Valid() {
		key := v.it.Key()
		value, err := v.it.ValueAndErr()
		if err != nil {
			return err
		}
		if string(key) != string(keyFormat) {
			v.out = append(binary.AppendUvarint(v.out, uint64(len(key))), key...)
			v.out = append(binary.AppendUvarint(v.out, uint64(len(value))), value...)
		}
		v.it.Next()
	}
	v.held += len(v.out)
	if !v.it.Valid() {
		v.end = true
		return v.it.Error()
	}
	if v.held > refreshViews*v.s.cfg.ViewBytes {
		v.from = append(v.from[:0], v.it.Key()...)
		it := v.it
		v.it = nil
		return it.Close()
	}
	return nil
}

// Close implements smr.View.
func (v *stateView) Close() error {
	v.s.views.remove(v)
	return v.release()
}

func (v *stateView) release() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	var err error
	if v.it != nil {
		err = v.it.Close()
		v.it = nil
	}
	if v.snap != nil {
		err = errors.Join(err, v.snap.Close())
		v.snap = nil
	}
	return err
}

// StreamDecoder takes the bytes of a state in pieces and calls Pair with each
// key and value of it, which are valid during the call.
type StreamDecoder struct {
	Pair    func(key, value []byte) error
	rest    []byte
	version bool
}

// Write takes the next bytes.
func (d *StreamDecoder) Write(p []byte) (int, error) {
	b := p
	if len(d.rest) > 0 {
		d.rest = append(d.rest, p...)
		b = d.rest
	}
	if !d.version && len(b) > 0 {
		if b[0] != streamVersion {
			return 0, fmt.Errorf("state of version %d, this program reads %d: %w", b[0], streamVersion, ErrFormatVersion)
		}
		d.version = true
		b = b[1:]
	}
	for {
		key, value, n := cutPair(b)
		if n < 0 {
			return 0, fmt.Errorf("a pair of a state is malformed: %w", smr.ErrCorrupt)
		}
		if n == 0 {
			break
		}
		if err := d.Pair(key, value); err != nil {
			return 0, err
		}
		b = b[n:]
	}
	d.rest = append(d.rest[:0], b...)
	return len(p), nil
}

// Finish returns an error that wraps smr.ErrCorrupt if bytes are left over.
func (d *StreamDecoder) Finish() error {
	if !d.version || len(d.rest) > 0 {
		return fmt.Errorf("state ends with %d bytes of a pair: %w", len(d.rest), smr.ErrCorrupt)
	}
	return nil
}

// cutPair reads a pair from the front of b, and how long it is: zero if it is
// not whole, negative if it is none.
func cutPair(b []byte) (key, value []byte, n int) {
	for _, part := range [2]*[]byte{&key, &value} {
		size, k := binary.Uvarint(b[n:])
		if k < 0 || size > pairBytesMax {
			return nil, nil, -1
		}
		if k == 0 || uint64(len(b)-n-k) < size {
			return nil, nil, 0
		}
		n += k
		*part = b[n : n+int(size) : n+int(size)]
		n += int(size)
	}
	return key, value, n
}
