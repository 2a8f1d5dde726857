package snapshot

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// Listing is what a directory of images holds, by name. Each list ascends by index,
// then id.
type Listing struct {
	Exists bool
	// Whole are whole, Parts have been received in part, and Unfinished were being
	// written when their host ended.
	Whole, Parts, Unfinished []File
}

// List reads the names in a directory, which may be missing, and changes nothing.
func List(fsys vfs.FS, path string) (l Listing, err error) {
	names, err := fsys.List(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	if err != nil {
		return l, fmt.Errorf("snapshots in %s: %w", path, err)
	}
	l.Exists = true
	for _, name := range names {
		f, suffix, ok := parse(name)
		switch {
		case !ok:
		case suffix == suffixWhole:
			l.Whole = append(l.Whole, f)
		case suffix == suffixPart:
			l.Parts = append(l.Parts, f)
		case suffix == suffixNew:
			l.Unfinished = append(l.Unfinished, f)
		}
	}
	for _, files := range [][]File{l.Whole, l.Parts, l.Unfinished} {
		sortFiles(files)
	}
	return l, nil
}

// Verify reads the whole image f of the directory at path and verifies it: its
// blocks, that they are those of its name, and the digest of all. state, if not nil,
// is given the bytes of the state; they are certain only if there is no error. It
// changes nothing.
func Verify(fsys vfs.FS, path string, f File, state io.Writer) (h *Head, bytes int64, err error) {
	b, err := openBlocks(fsys, fsys.PathJoin(path, f.String()+suffixWhole), f)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	wrong := func(err error) (*Head, int64, error) { return nil, b.Bytes(), fmt.Errorf("snapshot %v: %w", f, err) }
	dec := Decoder{ID: f.ID}
	for n := range b.Count() {
		block, err := b.Block(n)
		if err != nil {
			return nil, b.Bytes(), err
		}
		pieces, err := dec.Next(block)
		if err != nil {
			return wrong(err)
		}
		for _, p := range pieces {
			if state == nil || len(p) == 0 {
				continue
			}
			if _, err := state.Write(p); err != nil {
				return wrong(err)
			}
		}
	}
	if !dec.Done() {
		return wrong(fmt.Errorf("it ends in block %d: %w", dec.Blocks(), smr.ErrCorrupt))
	}
	if h = dec.Head(); h.Index != f.Index {
		return wrong(fmt.Errorf("it is of index %d: %w", h.Index, smr.ErrCorrupt))
	}
	return h, b.Bytes(), nil
}
