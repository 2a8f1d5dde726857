package snapshot

import (
	"errors"
	"fmt"
	"slices"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// ErrBlock: a block came in damaged. What was received is as it was: ask again.
var ErrBlock = errors.New("a block of a snapshot came in damaged")

// Receiving is an image that comes in from another host, block by block.
//
// Invariants: (1) blocks [0, have) are in the file, verified. (2) what is behind
// them in the file is worthless.
type Receiving struct {
	dir  *Dir
	f    vfs.File
	name File
	dec  Decoder
	// scanned: the file of a former life has been read to its end, or to its
	// first bad block.
	scanned bool
	old     *Blocks
	whole   bool
	bytes   int64 // of the blocks that are there
	// unsynced bytes since the last sync.
	unsynced int
}

// Receive begins to receive an image, or goes on with what there is of it. Call
// Scan until it says that it is done, then Take.
func (d *Dir) Receive(f File) (*Receiving, error) {
	if err := d.make(); err != nil {
		return nil, err
	}
	r := &Receiving{dir: d, name: f, dec: Decoder{ID: f.ID}}
	var err error
	d.mu.Lock()
	known := slices.Contains(d.parts, f)
	d.mu.Unlock()
	if known {
		// What cannot be read is received again from the start.
		r.old, _ = openBlocks(d.fs, d.name(f, suffixPart), f)
	}
	r.scanned = r.old == nil
	if r.f, err = d.fs.OpenReadWrite(d.name(f, suffixPart), vfs.CategorySnapshot); err != nil {
		if r.old != nil {
			err = errors.Join(err, r.old.Close())
		}
		return nil, fmt.Errorf("receiving snapshot %v: %w", f, err)
	}
	if !known {
		d.mu.Lock()
		d.parts = append(d.parts, f)
		d.sort()
		d.mu.Unlock()
	}
	return r, nil
}

// Scan verifies one more block of what an earlier life has received, and reports
// whether there is no more.
func (r *Receiving) Scan() (done bool) {
	if r.scanned {
		return true
	}
	next := r.dec.Blocks()
	b, err := r.old.Block(next)
	if err == nil {
		// The last block comes again, so that there is one way to the end.
		if _, last, bad := open(b, next, r.name.ID); bad == nil && !last {
			if _, err = r.dec.Next(b); err == nil {
				r.bytes += int64(len(b))
				return false
			}
			r.dec = Decoder{ID: r.name.ID}
		}
	}
	r.scanned = true
	_ = r.old.Close()
	r.old = nil
	return true
}

// Have is the number of blocks that are there: the next one that is wanted.
func (r *Receiving) Have() uint32 { return r.dec.Blocks() }

// Head is what the image is of, once there is a block.
func (r *Receiving) Head() *Head { return r.dec.Head() }

// Take takes block n, which is Have; others are ignored. It reports whether the
// image is whole now: verified, synced, and under its name.
func (r *Receiving) Take(n uint32, b []byte) (whole bool, err error) {
	if n != r.dec.Blocks() || r.whole {
		return r.whole, nil
	}
	if _, _, err := open(b, n, r.name.ID); err != nil {
		return false, fmt.Errorf("%w: %w", ErrBlock, err)
	}
	if _, err := r.dec.Next(b); err != nil {
		return false, fmt.Errorf("receiving snapshot %v: %w", r.name, err)
	}
	if h := r.dec.Head(); h.Index != r.name.Index {
		return false, fmt.Errorf("receiving snapshot %v: it is of index %d: %w", r.name, h.Index, smr.ErrCorrupt)
	}
	if _, err := r.f.WriteAt(b, int64(n)*int64(r.dec.size)); err != nil {
		return false, fmt.Errorf("receiving snapshot %v: %w", r.name, err)
	}
	r.bytes = int64(n)*int64(r.dec.size) + int64(len(b))
	if r.dec.Done() {
		return true, r.finish()
	}
	if r.unsynced += len(b); r.unsynced >= syncEvery {
		r.unsynced = 0
		if err := r.f.SyncData(); err != nil {
			return false, fmt.Errorf("receiving snapshot %v: %w", r.name, err)
		}
	}
	return false, nil
}

func (r *Receiving) finish() error {
	err := r.dir.sync(r.f)
	if e := r.f.Close(); err == nil {
		err = e
	}
	r.f = nil
	if err == nil {
		err = r.dir.finish(r.name, suffixPart)
	}
	if err != nil {
		return fmt.Errorf("receiving snapshot %v: %w", r.name, err)
	}
	r.whole = true
	return nil
}

// Close ends the receiving; what there is stays.
func (r *Receiving) Close() error {
	var errs []error
	if r.f != nil {
		errs = append(errs, r.f.Close())
		r.f = nil
	}
	if r.old != nil {
		errs = append(errs, r.old.Close())
		r.old = nil
	}
	return errors.Join(errs...)
}

// Bytes is the size of what is there.
func (r *Receiving) Bytes() int64 { return r.bytes }

// File names the image.
func (r *Receiving) File() File { return r.name }
