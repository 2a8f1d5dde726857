package snapshot

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// ErrGone: the image is not in the directory, or no longer.
var ErrGone = errors.New("the snapshot is not there")

// File names an image in a directory.
type File struct{ Index, ID uint64 }

func (f File) String() string { return fmt.Sprintf("%016x-%016x", f.Index, f.ID) }

const (
	suffixWhole = ".snap"
	suffixPart  = ".part"
	suffixNew   = ".new"
	nameBytes   = 16 + 1 + 16
)

// parse reads a name. ok is false for what is not of this package.
func parse(name string) (f File, suffix string, ok bool) {
	if len(name) <= nameBytes || name[16] != '-' {
		return f, "", false
	}
	index, err1 := strconv.ParseUint(name[:16], 16, 64)
	id, err2 := strconv.ParseUint(name[17:nameBytes], 16, 64)
	suffix = name[nameBytes:]
	f = File{index, id}
	return f, suffix, err1 == nil && err2 == nil && name[:nameBytes] == f.String()
}

// Dir is the directory of one group's images. Its methods may be called by any
// goroutine; what it has opened, each by one at a time.
type Dir struct {
	fs   vfs.FS
	path string
	// BlockBytes of the images that are written here; zero: BlockBytes.
	BlockBytes int
	// NoSync lets files have their names before they are synced: only for a
	// simulation that shows what the sync is for.
	NoSync bool

	mu sync.Mutex // guards what follows
	// whole are ascending by index, then id.
	whole []File
	parts []File
	made  bool
}

// OpenDir reads what a directory holds, and removes what was being written when
// the host ended. A directory that is missing is empty; it is made when the
// first file is.
func OpenDir(fsys vfs.FS, path string) (*Dir, error) {
	d := &Dir{fs: fsys, path: path}
	l, err := List(fsys, path)
	if err != nil {
		return nil, err
	}
	d.made, d.whole, d.parts = l.Exists, l.Whole, l.Parts
	for _, f := range l.Unfinished {
		if err := fsys.Remove(d.name(f, suffixNew)); err != nil {
			return nil, fmt.Errorf("removing an unfinished snapshot: %w", err)
		}
	}
	return d, nil
}

func sortFiles(files []File) {
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.String(), b.String()) })
}

func (d *Dir) sort() {
	sortFiles(d.whole)
	sortFiles(d.parts)
}

// Whole returns the whole images, those of the highest index last.
func (d *Dir) Whole() []File {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.whole)
}

// Parts returns the images that have been received in part.
func (d *Dir) Parts() []File {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.parts)
}

func (d *Dir) name(f File, suffix string) string { return d.fs.PathJoin(d.path, f.String()+suffix) }

func (d *Dir) make() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.made {
		return nil
	}
	if err := vfs.MkdirAll(d.fs, d.path); err != nil {
		return err
	}
	d.made = true
	return nil
}

// Remove removes an image, whole or in part.
func (d *Dir) Remove(f File) error {
	return errors.Join(d.remove(&d.whole, f, suffixWhole), d.RemovePart(f))
}

// RemovePart removes what was received of an image that is not whole.
func (d *Dir) RemovePart(f File) error { return d.remove(&d.parts, f, suffixPart) }

func (d *Dir) remove(all *[]File, f File, suffix string) error {
	d.mu.Lock()
	i := slices.Index(*all, f)
	if i >= 0 {
		*all = slices.Delete(*all, i, i+1)
	}
	d.mu.Unlock()
	if i < 0 {
		return nil
	}
	return d.fs.Remove(d.name(f, suffix))
}

// Bytes is the size of a whole image's file.
func (d *Dir) Bytes(f File) (int64, error) {
	info, err := d.fs.Stat(d.name(f, suffixWhole))
	if err != nil {
		return 0, fmt.Errorf("snapshot %v: %w", f, err)
	}
	return info.Size(), nil
}

// sync makes the content of a file durable.
func (d *Dir) sync(f vfs.File) error {
	if d.NoSync {
		return nil
	}
	return f.Sync()
}

// finish gives a file that is complete and synced its name.
func (d *Dir) finish(f File, suffix string) error {
	if err := d.fs.Rename(d.name(f, suffix), d.name(f, suffixWhole)); err != nil {
		return err
	}
	if err := vfs.SyncDir(d.fs, d.path); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(d.parts, f); i >= 0 {
		d.parts = slices.Delete(d.parts, i, i+1)
	}
	if !slices.Contains(d.whole, f) {
		d.whole = append(d.whole, f)
		d.sort()
	}
	return nil
}

// syncEvery is after how many bytes a file is synced on the way. The log's syncs
// wait behind it on the disk: measured with 192 MiB of state and a full load, 1.4 to
// 2 ms at the median from one batch to the next while an image is written, and 7 to
// 8 ms with 16 MiB here, for which the image takes a third more time.
const syncEvery = 1 << 20

// Taking is an image that is being written.
type Taking struct {
	dir  *Dir
	f    vfs.File
	enc  *Encoder
	name File
	n    int64
	done bool
	// unsynced bytes since the last sync.
	unsynced int
}

// Take begins to write an image of what view yields.
func (d *Dir) Take(h *Head, id uint64, view io.Reader) (*Taking, error) {
	if err := d.make(); err != nil {
		return nil, err
	}
	name := File{h.Index, id}
	f, err := d.fs.Create(d.name(name, suffixNew), vfs.CategorySnapshot)
	if err != nil {
		return nil, fmt.Errorf("snapshot %v: %w", name, err)
	}
	return &Taking{dir: d, f: f, enc: NewEncoder(h, id, view, d.BlockBytes), name: name}, nil
}

// Step writes the next block, and makes the file whole after the last one. It
// reports whether that is done.
func (t *Taking) Step() (done bool, err error) {
	b, err := t.enc.Next()
	if errors.Is(err, io.EOF) {
		return true, t.finish()
	}
	if err != nil {
		return false, err
	}
	if _, err := t.f.Write(b); err != nil {
		return false, fmt.Errorf("snapshot %v: %w", t.name, err)
	}
	t.n += int64(len(b))
	if t.unsynced += len(b); t.unsynced >= syncEvery {
		t.unsynced = 0
		if err := t.f.SyncData(); err != nil {
			return false, fmt.Errorf("snapshot %v: %w", t.name, err)
		}
	}
	return false, nil
}

func (t *Taking) finish() error {
	err := t.dir.sync(t.f)
	if e := t.f.Close(); err == nil {
		err = e
	}
	t.f = nil
	if err == nil {
		err = t.dir.finish(t.name, suffixNew)
	}
	if err != nil {
		return fmt.Errorf("snapshot %v: %w", t.name, err)
	}
	t.done = true
	return nil
}

// File names the image. It is in the directory once Step has said so.
func (t *Taking) File() File { return t.name }

// Bytes is how much was written.
func (t *Taking) Bytes() int64 { return t.n }

// Close ends the writing. What is not whole is removed.
func (t *Taking) Close() error {
	if t.done {
		return nil
	}
	var err error
	if t.f != nil {
		err = t.f.Close()
		t.f = nil
	}
	t.done = true
	return errors.Join(err, t.dir.fs.Remove(t.dir.name(t.name, suffixNew)))
}

// Blocks is an open image, for reading blocks of it.
type Blocks struct {
	f      vfs.File
	name   File
	size   int64 // of the file
	block  int64 // of its blocks but the last
	buffer []byte
}

// Open opens a whole image. ErrGone if it is not there.
func (d *Dir) Open(f File) (*Blocks, error) {
	d.mu.Lock()
	there := slices.Contains(d.whole, f)
	d.mu.Unlock()
	if !there {
		return nil, fmt.Errorf("%w: %v", ErrGone, f)
	}
	return openBlocks(d.fs, d.name(f, suffixWhole), f)
}

func openBlocks(fsys vfs.FS, path string, f File) (*Blocks, error) {
	file, err := fsys.Open(path)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", path, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("snapshot %s: %w", path, err), file.Close())
	}
	b := &Blocks{f: file, name: f, size: info.Size()}
	if b.block, err = blockSize(file, b.size); err != nil {
		return nil, errors.Join(fmt.Errorf("snapshot %s: %w", path, err), file.Close())
	}
	return b, nil
}

// blockSize reads how large the blocks of a file are.
func blockSize(f io.ReaderAt, size int64) (int64, error) {
	if size == 0 {
		return BlockBytes, nil // nothing was received yet
	}
	var head [blockHead]byte
	if n, err := f.ReadAt(head[:], 0); n < blockHead {
		if err == nil || errors.Is(err, io.EOF) {
			err = fmt.Errorf("a file of %d bytes: %w", size, smr.ErrCorrupt)
		}
		return 0, err
	}
	block := headOfBlock(head[:])
	if block == 0 {
		block = max(size, BlockBytesMin)
	}
	if block < BlockBytesMin || block > BlockBytesMax {
		return 0, fmt.Errorf("blocks of %d bytes: %w", block, smr.ErrCorrupt)
	}
	return block, nil
}

// Count is how many blocks the file has.
func (b *Blocks) Count() uint32 { return uint32((b.size + b.block - 1) / b.block) }

// Bytes is the size of the file.
func (b *Blocks) Bytes() int64 { return b.size }

// Append appends block n, as it is, to dst.
func (b *Blocks) Append(dst []byte, n uint32) ([]byte, error) {
	off := int64(n) * b.block
	if off >= b.size {
		return dst, fmt.Errorf("snapshot %v has no block %d: %w", b.name, n, io.EOF)
	}
	size := int(min(b.block, b.size-off))
	dst = slices.Grow(dst, size)
	into := dst[len(dst) : len(dst)+size]
	if k, err := b.f.ReadAt(into, off); k < size {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return dst, fmt.Errorf("snapshot %v, block %d: %w", b.name, n, err)
	}
	return dst[:len(dst)+size], nil
}

// Block reads block n. It is valid until the next call.
func (b *Blocks) Block(n uint32) (_ []byte, err error) {
	b.buffer, err = b.Append(b.buffer[:0], n)
	return b.buffer, err
}

// Verified is Block for whoever passes the block on: the error wraps smr.ErrCorrupt
// if the disk gave something else than was written.
func (b *Blocks) Verified(n uint32) ([]byte, error) {
	block, err := b.Block(n)
	if err != nil {
		return nil, err
	}
	_, last, err := open(block, n, b.name.ID)
	if err == nil && last != (n+1 == b.Count()) {
		err = fmt.Errorf("block %d of %d, of which one is the last: %w", n, b.Count(), smr.ErrCorrupt)
	}
	if err != nil {
		return nil, fmt.Errorf("snapshot %v: %w", b.name, err)
	}
	return block, nil
}

// Close closes the file.
func (b *Blocks) Close() error { return b.f.Close() }

// ReadHead returns the head of a whole image.
func (d *Dir) ReadHead(f File) (*Head, error) {
	b, err := d.Open(f)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	block, err := b.Block(0)
	if err != nil {
		return nil, err
	}
	dec := Decoder{ID: f.ID}
	if _, err := dec.Next(block); err != nil && dec.Head() == nil {
		return nil, fmt.Errorf("snapshot %v: %w", f, err)
	}
	if dec.Head().Index != f.Index {
		return nil, fmt.Errorf("snapshot %v is of index %d: %w", f, dec.Head().Index, smr.ErrCorrupt)
	}
	return dec.Head(), nil
}
