package snapshot

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/quorate/quorate/smr"
	"github.com/quorate/quorate/vfs"
)

func head(index uint64) *Head {
	return &Head{
		Group: 3,
		SnapshotMeta: smr.SnapshotMeta{Index: index, Term: 2, Configuration: smr.Configuration{Members: []smr.Member{
			{ID: 1, Role: smr.Voter}, {ID: 2, Role: smr.Voter}, {ID: 9, Role: smr.Learner},
		}}},
		Digest: [16]byte{1, 2, 3},
	}
}

func state(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// takeAll writes an image and returns its name.
func takeAll(t testing.TB, d *Dir, index, id uint64, data []byte) File {
	t.Helper()
	w, err := d.Take(head(index), id, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	for {
		done, err := w.Step()
		if err != nil {
			t.Fatal(err)
		}
		if done {
			return w.File()
		}
	}
}

func readAll(d *Dir, f File) (*Head, []byte, error) {
	b, err := d.Open(f)
	if err != nil {
		return nil, nil, err
	}
	defer b.Close()
	dec := Decoder{ID: f.ID}
	var all []byte
	for n := uint32(0); n < b.Count(); n++ {
		block, err := b.Block(n)
		if err != nil {
			return nil, nil, err
		}
		pieces, err := dec.Next(block)
		if err != nil {
			return nil, nil, err
		}
		all = append(append(all, pieces[0]...), pieces[1]...)
	}
	if !dec.Done() {
		return nil, nil, io.ErrUnexpectedEOF
	}
	return dec.Head(), all, nil
}

const payloadMax = BlockBytes - blockHead

// Sizes around every edge: of the head, of the trailer, of a block.
func TestRoundTrip(t *testing.T) {
	edge := payloadMax - headFixed
	for _, n := range []int{0, 1, 39, 40, 41, 511, 512, 5000, edge - 200, edge - 80, edge - 60, edge - 41, edge - 40, edge - 30, edge - 1, edge, edge + 1, payloadMax, 2*BlockBytes + 7, 3 * payloadMax} {
		fs := vfs.NewMem()
		d, err := OpenDir(fs, "a/b")
		if err != nil {
			t.Fatal(err)
		}
		if n < 5000 {
			d.BlockBytes = 512
		}
		want := state(uint64(n), n)
		f := takeAll(t, d, 77, 5, want)
		h, got, err := readAll(d, f)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if !bytes.Equal(got, want) || h.Index != 77 || h.Term != 2 || len(h.Configuration.Members) != 3 || h.Digest != head(77).Digest || h.Group != 3 {
			t.Fatalf("%d bytes: read back something else", n)
		}
	}
}

// idleReader returns nothing and no error so many times before each byte.
type idleReader struct {
	io.Reader
	idle, left int
}

func (r *idleReader) Read(p []byte) (int, error) {
	if r.left > 0 {
		r.left--
		return 0, nil
	}
	r.left = r.idle
	return r.Reader.Read(p[:1])
}

// "Implementations of Read are discouraged from returning a zero byte count with a
// nil error"; a view that does so for ever must not hold up the others.
func TestViewWithoutProgress(t *testing.T) {
	want := state(1, 700)
	for idle, stuck := range map[int]bool{0: false, 1: false, 99: false, 100: true, 1 << 60: true} {
		d, _ := OpenDir(vfs.NewMem(), "d")
		w, err := d.Take(head(1), 5, &idleReader{bytes.NewReader(want), idle, idle})
		if err != nil {
			t.Fatal(err)
		}
		for done := false; err == nil && !done; {
			done, err = w.Step()
		}
		if errors.Is(err, io.ErrNoProgress) != stuck || !stuck && err != nil {
			t.Errorf("%d empty reads: %v", idle, err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A change of any byte is found, and so is a file that was cut.
func TestDamage(t *testing.T) {
	fs := vfs.NewMem()
	d, _ := OpenDir(fs, "d")
	f := takeAll(t, d, 1, 5, state(1, BlockBytes+3000))
	b, err := d.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	var blocks [][]byte
	for n := range b.Count() {
		block, err := b.Append(nil, n)
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, block)
	}
	decode := func(blocks [][]byte) error {
		var d Decoder
		for _, b := range blocks {
			if _, err := d.Next(b); err != nil {
				return err
			}
		}
		if !d.Done() {
			return io.ErrUnexpectedEOF
		}
		return nil
	}
	if err := decode(blocks); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(4, 4))
	for i := range 300 {
		k := i % len(blocks)
		at := rng.IntN(len(blocks[k]))
		if i < 40 {
			at = i
		}
		blocks[k][at] ^= 1 << rng.IntN(8)
		if err := decode(blocks); !errors.Is(err, smr.ErrCorrupt) && !errors.Is(err, ErrFormat) {
			t.Fatalf("byte %d of block %d changed: %v", at, k, err)
		}
		clear(blocks[k][at : at+1])
		reread, _ := b.Append(nil, uint32(k))
		blocks[k] = reread
	}
	if decode(blocks[:1]) == nil || decode(blocks[1:]) == nil || decode([][]byte{blocks[0], blocks[1][:512]}) == nil {
		t.Fatal("a file that was cut passes")
	}
}

// What is on the disk is said as it is, and stays as it is.
func TestVerify(t *testing.T) {
	fs := vfs.NewMem()
	if l, err := List(fs, "nowhere"); err != nil || l.Exists {
		t.Fatalf("%+v, %v", l, err)
	}
	d, _ := OpenDir(fs, "d")
	want := state(1, BlockBytes+3000)
	f := takeAll(t, d, 1, 5, want)
	taking, err := d.Take(head(2), 6, bytes.NewReader(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer taking.Close()
	r, err := d.Receive(File{3, 7})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if l, err := List(fs, "d"); err != nil || !reflect.DeepEqual(l, Listing{true, []File{f}, []File{{3, 7}}, []File{{2, 6}}}) {
		t.Fatalf("%+v, %v", l, err)
	}
	var got bytes.Buffer
	if h, n, err := Verify(fs, "d", f, &got); err != nil || h.Index != 1 || n < int64(len(want)) || !bytes.Equal(got.Bytes(), want) {
		t.Fatalf("%v, %d bytes, %v", h, n, err)
	}
	rng := rand.New(rand.NewPCG(4, 4))
	name := "d/" + f.String() + ".snap"
	for range 50 {
		bit := 8*rng.Int64N(BlockBytes) + 3
		if err := fs.FlipBit(name, bit); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Verify(fs, "d", f, nil); !errors.Is(err, smr.ErrCorrupt) && !errors.Is(err, ErrFormat) {
			t.Fatalf("bit %d: %v", bit, err)
		}
		if err := fs.FlipBit(name, bit); err != nil {
			t.Fatal(err)
		}
	}
	for _, other := range []File{{1, 6}, {2, 5}} {
		if err := fs.Rename(name, "d/"+other.String()+".snap"); err != nil {
			t.Fatal(err)
		}
		if _, _, err := Verify(fs, "d", other, nil); !errors.Is(err, smr.ErrCorrupt) {
			t.Fatalf("under the name %v: %v", other, err)
		}
		name = "d/" + other.String() + ".snap"
	}
}

// storage-and-faults.md: "acknowledged by chunk, resumed where it stopped after
// either side restarts". And a crash leaves the whole image or none of it.
func TestReceiveResumes(t *testing.T) {
	src, _ := OpenDir(vfs.NewMem(), "src")
	want := state(9, 5*BlockBytes+100)
	f := takeAll(t, src, 40, 11, want)
	b, err := src.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	for cut := uint32(0); cut <= b.Count(); cut++ {
		for keep := 0; keep <= 100; keep += 50 {
			fs := vfs.NewMem()
			d, _ := OpenDir(fs, "x")
			r, err := d.Receive(f)
			if err != nil {
				t.Fatal(err)
			}
			feed(t, r, b, cut)
			fs = fs.Crash(rand.New(rand.NewPCG(uint64(cut), 1)), keep)
			if d, err = OpenDir(fs, "x"); err != nil {
				t.Fatal(err)
			}
			if cut == b.Count() {
				if len(d.Whole()) != 1 {
					t.Fatalf("kept %d%%: the whole image is gone", keep)
				}
			} else if r, err = d.Receive(f); err != nil {
				t.Fatal(err)
			} else {
				for !r.Scan() {
				}
				if keep == 100 && r.Have() != cut {
					t.Fatalf("resumes at %d of %d", r.Have(), cut)
				}
				feed(t, r, b, b.Count())
			}
			if _, got, err := readAll(d, f); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("cut at %d, kept %d%%: %v", cut, keep, err)
			}
		}
	}
}

// feed gives r the blocks up to n.
func feed(t *testing.T, r *Receiving, b *Blocks, n uint32) {
	t.Helper()
	for k := r.Have(); k < n; k++ {
		block, err := b.Block(k)
		if err != nil {
			t.Fatal(err)
		}
		bad := append([]byte(nil), block...)
		bad[len(bad)/2] ^= 1
		if _, err := r.Take(k, bad); !errors.Is(err, ErrBlock) {
			t.Fatalf("a damaged block: %v", err)
		}
		whole, err := r.Take(k, block)
		if err != nil || whole != (k+1 == b.Count()) {
			t.Fatalf("block %d: whole %v, %v", k, whole, err)
		}
	}
}

// raft.md 15: "a crash at any step leaves the old or the new one, never half of
// one".
func TestTakeCrashes(t *testing.T) {
	old, data := state(1, 3000), state(2, 2*BlockBytes)
	for at := 1; ; at++ {
		mem := vfs.NewMem()
		d, _ := OpenDir(mem, "s")
		takeAll(t, d, 5, 1, old)
		n := 0
		var frozen *vfs.Mem
		fs := vfs.NewFault(mem, vfs.PolicyFunc(func(op vfs.Op) vfs.Verdict {
			if op.Kind.Mutates() {
				if n++; n == at {
					frozen = mem.Crash(rand.New(rand.NewPCG(uint64(at), 3)), 50)
				}
			}
			if frozen != nil {
				return vfs.Verdict{Err: io.ErrClosedPipe}
			}
			return vfs.Verdict{}
		}), nil)
		if d2, err := OpenDir(fs, "s"); err == nil {
			if w, err := d2.Take(head(6), 2, bytes.NewReader(data)); err == nil {
				for done := false; err == nil && !done; {
					done, err = w.Step()
				}
			}
		}
		if frozen == nil {
			if n < 5 {
				t.Fatalf("only %d operations", n)
			}
			return
		}
		d3, err := OpenDir(frozen, "s")
		if err != nil {
			t.Fatal(err)
		}
		if _, got, err := readAll(d3, File{5, 1}); err != nil || !bytes.Equal(got, old) {
			t.Fatalf("crash at operation %d: the old image is gone: %v", at, err)
		}
		for _, f := range d3.Whole() {
			if f.Index == 6 {
				if _, got, err := readAll(d3, f); err != nil || !bytes.Equal(got, data) {
					t.Fatalf("crash at operation %d: half of an image has its name: %v", at, err)
				}
			}
		}
	}
}

func FuzzDecoder(f *testing.F) {
	e := NewEncoder(head(3), 7, bytes.NewReader(state(1, 900)), 0)
	b, err := e.Next()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var d Decoder
		for k := 0; k < len(b); k += BlockBytes {
			if _, err := d.Next(b[k:min(len(b), k+BlockBytes)]); err != nil {
				return
			}
		}
	})
}

func FuzzVerifier(f *testing.F) {
	e := NewEncoder(head(3), 7, bytes.NewReader(state(1, 900)), BlockBytesMin)
	var all []byte
	for b, err := e.Next(); err == nil; b, err = e.Next() {
		all = append(all, b...)
	}
	f.Add(all, uint16(100))
	f.Add(append(make([]byte, 16), boltMagic+"12345678901234567890"...), uint16(1))
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) {
		v := Verifier{NoSum: piece%2 == 0}
		for p := range slices.Chunk(b, int(piece)+1) {
			if _, err := v.Write(p); err != nil {
				if !errors.Is(err, smr.ErrCorrupt) && !errors.Is(err, ErrFormat) {
					t.Fatal(err)
				}
				return
			}
		}
		_ = v.Finish()
	})
}

func FuzzHead(f *testing.F) {
	f.Add(appendHead(nil, head(3)))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, rest, err := decodeHead(b)
		if err == nil && !bytes.Equal(append(appendHead(nil, &h), rest...), b) {
			t.Fatal("a head has two encodings")
		}
	})
}

// A backup lacks nothing of its sum, and an image has none: "an image followed by
// the SHA-256 of its bytes".
func TestVerifierSum(t *testing.T) {
	e := NewEncoder(head(3), 7, bytes.NewReader(state(1, 900)), BlockBytesMin)
	var image []byte
	for {
		b, err := e.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		image = append(image, b...)
	}
	sum := sha256.Sum256(image)
	backup := append(bytes.Clone(image), sum[:]...)
	wrong := bytes.Clone(backup)
	wrong[len(wrong)-1] ^= 1
	bolt := append(make([]byte, 16), "\xed\xda\x0c\xed\x02\x00\x00\x00 and so on"...)
	for name, c := range map[string]struct {
		b     []byte
		noSum bool
		want  error
	}{
		"backup":           {backup, false, nil},
		"its image":        {image, false, ErrNoSum},
		"cut in the sum":   {backup[:len(backup)-5], false, smr.ErrCorrupt},
		"another sum":      {wrong, false, smr.ErrCorrupt},
		"image as such":    {image, true, nil},
		"backup as image":  {backup, true, nil},
		"cut image":        {image[:len(image)-512], true, smr.ErrCorrupt},
		"longer":           {append(bytes.Clone(backup), 0), true, smr.ErrCorrupt},
		"of etcd":          {bolt, false, ErrBolt},
		"of etcd, skipped": {bolt, true, ErrBolt},
	} {
		for _, piece := range []int{1, 100, 1 << 20} {
			v := Verifier{NoSum: c.noSum}
			var err error
			for p := range slices.Chunk(c.b, piece) {
				if _, err = v.Write(p); err != nil {
					break
				}
			}
			if err == nil {
				err = v.Finish()
			}
			if !errors.Is(err, c.want) {
				t.Errorf("%s, in pieces of %d: %v", name, piece, err)
			}
		}
	}
	if !errors.Is(ErrNoSum, smr.ErrCorrupt) || !errors.Is(ErrBolt, ErrFormat) {
		t.Error("the kinds of errors")
	}
}
