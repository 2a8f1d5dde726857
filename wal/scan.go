package wal

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"sort"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

// logFile is a file of the directory, read only.
type logFile struct {
	number uint64
	name   string
	f      vfs.File
	size   int64
	header segmentHeader
	headed bool // header is a valid one, perhaps of an earlier life
	begun  bool // its header is its own, and its first batch is valid
	salt   uint32
}

// survey is what a directory holds, before its records are looked at.
type survey struct {
	identity Identity
	shard    uint32
	files    []*logFile // ascending by number
	last     int        // of files, the last one that has begun; -1: none
	first    int        // of files, the oldest one needed

	// The end of the log: the position in files[last] and what comes next.
	end      int64
	sequence uint64
	former   uint32
	tail     []byte // the last batch, or with the segment's header if its first
	empty    bool   // it holds no record
	torn     bool   // a batch after it was being written
	// corrupt is what is damaged; what comes before it is good.
	corrupt error
}

func (s *survey) close() {
	for _, f := range s.files {
		f.f.Close()
	}
}

// surveyDir looks at a log. want is whose it must be; nil: anybody's. proof: what
// comes behind the end is looked at too, and not taken for a torn tail unseen.
func surveyDir(fs vfs.FS, dir string, want *Identity, shard uint32, proof bool) (*survey, error) {
	s := &survey{last: -1, shard: shard}
	if want != nil {
		s.identity = *want
	}
	err := s.list(fs, dir)
	if err == nil {
		err = s.identify(dir, want)
	}
	for i := len(s.files) - 1; err == nil && i >= 0; i-- {
		err = s.files[i].check(s)
		if s.last < 0 && s.files[i].begun {
			s.last = i
		}
	}
	if err == nil && s.last >= 0 {
		err = s.findEnd()
	}
	if err == nil && s.corrupt == nil && proof {
		err = s.findProof()
	}
	if err == nil && s.last >= 0 {
		s.checkPresent(dir)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *survey) list(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, name := range names {
		number, ok := parseSegmentName(name)
		if !ok {
			continue
		}
		f := &logFile{number: number, name: fs.PathJoin(dir, name)}
		if f.f, err = fs.Open(f.name); err != nil {
			return fmt.Errorf("open segment %s: %w", f.name, err)
		}
		s.files = append(s.files, f)
		info, err := f.f.Stat()
		if err != nil {
			return fmt.Errorf("size of segment %s: %w", f.name, err)
		}
		f.size = info.Size()
		b := make([]byte, segmentHead)
		if f.size >= segmentHead {
			if _, err := f.f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read segment %s: %w", f.name, err)
			}
		}
		f.header, f.headed = decodeSegmentHeader(b)
	}
	sort.Slice(s.files, func(i, j int) bool { return s.files[i].number < s.files[j].number })
	return nil
}

// identify finds out whose log it is, and refuses another replica's.
func (s *survey) identify(dir string, want *Identity) error {
	found := false
	for _, f := range s.files {
		if !f.headed {
			continue
		}
		if want == nil && !found {
			s.identity, s.shard = f.header.identity, f.header.shard
		}
		found = true
		if s.identity.Incarnation == 0 {
			s.identity.Incarnation = f.header.identity.Incarnation
		}
		if f.header.identity != s.identity || f.header.shard != s.shard {
			return fmt.Errorf("%w: %s is of %v, shard %d; expected is %v, shard %d", ErrForeign, f.name,
				f.header.identity, f.header.shard, s.identity, s.shard)
		}
	}
	for _, f := range s.files {
		f.salt = salt(s.identity, s.shard, f.number)
	}
	return nil
}

// check finds out whether the segment has begun: its header and its first batch
// were written together, so if one of them is not there, nothing is.
func (f *logFile) check(s *survey) error {
	if !f.headed || f.header.number != f.number {
		return nil
	}
	c := f.scan()
	h, _, ok, err := c.next()
	f.begun = ok && h.flags&flagCheckpoint != 0
	return err
}

// findEnd follows the chain in the last segment.
func (s *survey) findEnd() error {
	f := s.files[s.last]
	c := f.scan()
	var first uint64
	for {
		h, raw, ok, err := c.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		first, s.empty = h.first, h.records == 0
		s.tail = append(s.tail[:0], raw...)
		if h.offset == sectorBytes {
			s.tail = append(f.header.encode(), raw...)
		}
	}
	s.end, s.sequence, s.former = c.at, c.sequence, c.former
	s.torn = c.torn()
	s.first = sort.Search(len(s.files), func(i int) bool { return s.files[i].number >= first })
	if s.first > s.last || s.files[s.first].number != first {
		s.corrupt = &CorruptionError{File: f.name, Offset: s.end, Reason: fmt.Sprintf("the log says that segment %d is needed, which is missing", first)}
		s.first = s.last
	}
	return nil
}

// findProof looks for a batch behind the end that proves that something at the
// end had been synced.
func (s *survey) findProof() error {
	next := s.sequence
	if s.last < 0 {
		next = 1
	}
	for i, f := range s.files {
		if i < s.last {
			continue
		}
		c := f.scan()
		if i == s.last {
			c.at, c.sequence, c.former = s.end, s.sequence, s.former
		} else if f.headed && f.header.number == f.number && f.header.sequence > next {
			return s.broken(f, 0, fmt.Sprintf("its header is of batch %d", f.header.sequence))
		}
		at, sequence, err := c.proof(next)
		if err != nil {
			return err
		}
		if sequence != 0 {
			return s.broken(f, at, fmt.Sprintf("batch %d at offset %d", sequence, at))
		}
	}
	if s.last < 0 && len(s.files) > 0 && s.files[len(s.files)-1].number > 1 {
		s.corrupt = &CorruptionError{File: s.files[len(s.files)-1].name, Reason: "there are segments, and none has a valid beginning"}
	}
	return nil
}

// broken sets what is damaged: what should come next in the log, which evidence
// in f proves to have been synced. That is the batch at the end of the last
// segment, or the beginning of f if it is a later one.
func (s *survey) broken(f *logFile, at int64, evidence string) error {
	c := f.scan()
	e := &CorruptionError{File: f.name, Reason: "the segment's header is damaged although it was synced, as is proved by " + evidence}
	s.corrupt = e
	if s.last >= 0 && f == s.files[s.last] {
		c.at, c.sequence, c.former = s.end, s.sequence, s.former
	} else if !f.headed || f.header.number != f.number {
		return nil
	}
	e.Offset = c.at
	e.Reason = fmt.Sprintf("batch %d is damaged although it was synced, as is proved by %s", c.sequence, evidence)
	var err error
	e.Lost, err = c.lost()
	return err
}

// checkPresent makes sure that no segment is missing between the first and the
// last.
func (s *survey) checkPresent(dir string) {
	for i := s.first; i <= s.last && s.corrupt == nil; i++ {
		f := s.files[i]
		if f.number != s.files[s.first].number+uint64(i-s.first) {
			s.corrupt = &CorruptionError{File: f.name, Reason: "the segment before it is missing from " + dir}
		} else if !f.begun {
			s.corrupt = &CorruptionError{File: f.name, Reason: "header or first batch is damaged although there are later segments"}
		}
	}
}

// walk calls visit for each batch from the first segment on, and begin before
// the batches of each segment.
func (s *survey) walk(begin func(*logFile) error, visit func(*logFile, *batchHeader, []byte) error) error {
	var buf []byte
	for i := s.first; i <= s.last; i++ {
		f := s.files[i]
		if !f.begun {
			return s.corrupt
		}
		if err := begin(f); err != nil {
			return err
		}
		c := f.scan()
		c.buf = buf[:0]
		for {
			h, raw, ok, err := c.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if err := visit(f, &h, raw); err != nil {
				return err
			}
		}
		buf = c.buf
		if i == s.last {
			break
		}
		next := &s.files[i+1].header
		if next.formerEnd != c.at || next.formerSum != c.former || next.sequence != c.sequence {
			lost, err := c.lost()
			if err != nil {
				return err
			}
			return &CorruptionError{File: f.name, Offset: c.at, Lost: lost, Reason: fmt.Sprintf(
				"batch %d is damaged although it was synced, as is proved by the header of segment %d", c.sequence, next.number)}
		}
	}
	return s.corrupt
}

// scanner reads the batches of one segment in order.
type scanner struct {
	*logFile
	// What must come next, and where.
	at       int64
	sequence uint64
	former   uint32

	buf  []byte
	from int64
}

func (f *logFile) scan() *scanner {
	return &scanner{logFile: f, at: sectorBytes, sequence: f.header.sequence, former: f.header.formerSum}
}

// view returns n bytes at an offset, which the file has, until the next call.
func (c *scanner) view(at, n int64) ([]byte, error) {
	if i := at - c.from; i >= 0 && i+n <= int64(len(c.buf)) {
		return c.buf[i : i+n], nil
	}
	want := min(max(n, 64<<10, min(1<<20, 2*int64(cap(c.buf)))), c.size-at)
	if int64(cap(c.buf)) < want {
		c.buf = make([]byte, want)
	}
	c.buf, c.from = c.buf[:want], at
	if k, err := c.f.ReadAt(c.buf, at); int64(k) < want {
		c.buf = c.buf[:0]
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read segment %s at %d: %w", c.name, at, &iofs.PathError{Op: "read", Path: c.name, Err: err})
	}
	return c.buf[:n], nil
}

// head returns the head of a batch at an offset, if there is one.
func (c *scanner) head(at int64) (h batchHeader, ok bool, err error) {
	if at+batchHead > c.size {
		return h, false, nil
	}
	b, err := c.view(at, batchHead)
	if err != nil {
		return h, false, err
	}
	h, ok = decodeBatchHeader(b, c.salt, at)
	return h, ok, nil
}

// next returns the batch that comes next in the chain, until the next call, or
// false if it is not there.
func (c *scanner) next() (h batchHeader, raw []byte, ok bool, err error) {
	h, ok, err = c.head(c.at)
	if err != nil || !ok || h.sequence != c.sequence || h.former != c.former || int64(h.bodyBytes) > c.size-c.at-batchHead {
		return h, nil, false, err
	}
	raw, err = c.view(c.at, batchHead+int64(h.bodyBytes))
	if err != nil || !verifyBody(raw, &h, c.salt, nil) {
		return h, nil, false, err
	}
	c.at, c.sequence, c.former = c.at+h.size(), c.sequence+1, h.sum
	return h, raw, true, nil
}

// torn reports whether a batch was being written at the end of the chain.
func (c *scanner) torn() bool {
	h, ok, err := c.head(c.at)
	return err == nil && ok && h.sequence == c.sequence
}

// proof looks for the head of a batch with a sequence number above the given
// one. There is one only if the batch with that number had been synced.
func (c *scanner) proof(above uint64) (at int64, sequence uint64, err error) {
	for at = c.at &^ (sectorBytes - 1); at < c.size; at += sectorBytes {
		h, ok, err := c.head(at)
		if err != nil {
			return 0, 0, err
		}
		if ok && h.sequence > above {
			return at, h.sequence, nil
		}
	}
	return 0, 0, nil
}

// lost tells what is damaged in the batch that should come next, as far as that
// can be told.
func (c *scanner) lost() ([]Lost, error) {
	h, ok, err := c.head(c.at)
	if err != nil || !ok || int64(h.bodyBytes) > c.size-c.at-batchHead {
		return nil, err
	}
	raw, err := c.view(c.at, batchHead+int64(h.bodyBytes))
	if err != nil {
		return nil, err
	}
	var lost []Lost
	verifyBody(raw, &h, c.salt, func(_ int, kind recordKind, payload []byte) {
		x := Lost{}
		r, err := decodeRecord(kind, payload, func(e *smr.Entry) {
			if x.First == 0 {
				x.First = e.Index
			}
			x.Last = e.Index
		})
		if x.Group = r.group; err == nil || x.Group != 0 {
			lost = append(lost, x)
		}
	})
	return lost, nil
}
