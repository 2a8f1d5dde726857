package kv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/quorate/quorate/smr"
)

var ctx = context.Background()

func testConfig(fs vfs.FS) Config {
	return Config{
		FS: fs, Dir: "kv", Group: 7, MemTableBytes: 4 << 20, BlockCacheBytes: 4 << 20, CacheBytes: 1 << 20,
		Logger: slog.New(slog.DiscardHandler),
	}
}

func openStore(t testing.TB, cfg Config) (*Store, uint64) {
	t.Helper()
	s := New(cfg)
	applied, err := s.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, applied
}

// do applies one command and returns its result.
func do(t testing.TB, s *Store, c Command) Result {
	t.Helper()
	batch := []smr.Committed{{Entry: smr.Entry{Index: s.Applied() + 1, Kind: smr.KindCommand, Data: AppendCommand(nil, &c)}, Wanted: true}}
	if err := s.Apply(batch); err != nil {
		t.Fatal(err)
	}
	var r Result
	if err := DecodeResult(batch[0].Result.Data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func putCmd(key, value string) Command {
	return Command{Kind: CommandPut, Put: PutRequest{Key: []byte(key), Value: []byte(value)}}
}

func deleteCmd(key, end string) Command {
	return Command{Kind: CommandDeleteRange, DeleteRange: DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}
}

func compactCmd(rev int64) Command {
	return Command{Kind: CommandCompact, Compact: CompactRequest{Revision: rev}}
}

func txnCmd(t TxnRequest) Command { return Command{Kind: CommandTxn, Txn: t} }

func put(key, value string) Op {
	return Op{Put: &PutRequest{Key: []byte(key), Value: []byte(value)}}
}

func rangeOp(key, end string) Op {
	return Op{Range: &RangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}
}

func deleteOp(key, end string) Op {
	return Op{DeleteRange: &DeleteRangeRequest{Key: []byte(key), RangeEnd: []byte(end)}}
}

// gen draws commands and requests over few keys, so that they meet.
type gen struct{ *rand.Rand }

var testKeys = []string{"a", "a\x00", "a\x00\x01", "a\x00\xff", "ab", "b", "b\xff", "c", "\x00", "\x00\x00", "\xff", "\xff\xff"}

func (g gen) key() []byte { return []byte(testKeys[g.IntN(len(testKeys))]) }

func (g gen) end() []byte {
	switch g.IntN(4) {
	case 0:
		return g.key()
	case 1:
		return []byte{0}
	}
	return nil
}

func (g gen) value() []byte {
	switch g.IntN(5) {
	case 0:
		return nil
	case 1:
		return bytes.Repeat([]byte{byte('a' + g.IntN(26))}, g.IntN(400))
	}
	return fmt.Appendf(nil, "v%d", g.IntN(20))
}

func (g gen) putRequest() *PutRequest {
	p := &PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.IntN(3) == 0}
	if g.IntN(6) == 0 {
		p.IgnoreValue, p.Value = true, nil
	}
	p.IgnoreLease = g.IntN(8) == 0
	if g.IntN(40) == 0 && !p.IgnoreLease {
		p.Lease = 9
	}
	return p
}

func (g gen) rangeRequest(rev int64) *RangeRequest {
	r := &RangeRequest{Key: g.key(), RangeEnd: g.end()}
	if g.IntN(2) == 0 {
		r.Revision = g.Int64N(rev+4) - 1
	}
	if g.IntN(3) == 0 {
		r.Limit = g.Int64N(6)
	}
	if g.IntN(3) == 0 {
		r.SortOrder, r.SortTarget = SortOrder(g.IntN(3)), SortTarget(g.IntN(5))
	}
	r.KeysOnly, r.CountOnly = g.IntN(6) == 0, g.IntN(8) == 0
	for _, f := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision} {
		if g.IntN(10) == 0 {
			*f = g.Int64N(rev + 2)
		}
	}
	return r
}

func (g gen) compare(rev int64) Compare {
	c := Compare{Result: CompareResult(g.IntN(4)), Target: CompareTarget(g.IntN(5)), Key: g.key(), RangeEnd: g.end()}
	switch c.Target {
	case CompareValue:
		c.Value = g.value()
	case CompareVersion, CompareLease:
		c.Number = g.Int64N(4)
	default:
		c.Number = max(0, rev-g.Int64N(15))
	}
	return c
}

func (g gen) txnRequest(rev int64, depth int) *TxnRequest {
	t := new(TxnRequest)
	for range g.IntN(3) {
		t.Compare = append(t.Compare, g.compare(rev))
	}
	for _, ops := range []*[]Op{&t.Success, &t.Failure} {
		for range g.IntN(5) {
			var op Op
			switch g.IntN(8) {
			case 0, 1, 2:
				op.Put = g.putRequest()
			case 3, 4:
				op.Range = g.rangeRequest(rev)
			case 5, 6:
				op.DeleteRange = &DeleteRangeRequest{Key: g.key(), RangeEnd: g.end(), PrevKv: g.IntN(2) == 0}
			default:
				if depth == 0 {
					op.Put = g.putRequest()
				} else {
					op.Txn = g.txnRequest(rev, depth-1)
				}
			}
			*ops = append(*ops, op)
		}
	}
	return t
}

func (g gen) command(rev, compact int64) Command {
	for {
		switch n := g.IntN(40); {
		case n < 18:
			return Command{Kind: CommandPut, Put: *g.putRequest()}
		case n < 24:
			return Command{Kind: CommandDeleteRange, DeleteRange: DeleteRangeRequest{Key: g.key(), RangeEnd: g.end(), PrevKv: g.IntN(2) == 0}}
		case n < 39:
			if t := g.txnRequest(rev, 2); t.Check(Limits{}) == nil {
				return txnCmd(*t)
			}
		case g.IntN(2) == 0:
			return compactCmd(compact + g.Int64N(rev-compact+3))
		}
	}
}

// world is a store beside the model and the log that both were fed from.
type world struct {
	*testing.T
	g       gen
	fs      *vfs.MemFS
	cfg     Config
	s       *Store
	m       *model
	log     []smr.Entry
	digests map[uint64][16]byte
}

func newWorld(t *testing.T, seed uint64, deterministic bool) *world {
	w := &world{T: t, g: gen{rand.New(rand.NewPCG(seed, 1))}, fs: vfs.NewCrashableMem(), m: newModel(), digests: map[uint64][16]byte{}}
	w.cfg = testConfig(w.fs)
	w.cfg.Deterministic = deterministic
	w.cfg.CacheBytes = 2 * latestOverhead * int64(1+w.g.IntN(20)) // small: so that keys fall out
	w.cfg.SweepEntries = 1 + w.g.IntN(3)
	w.s, _ = openStore(t, w.cfg)
	return w
}

// step applies a batch of commands and compares the results.
func (w *world) step() {
	w.Helper()
	var batch []smr.Committed
	var want []Result
	for range 1 + w.g.IntN(12) {
		e := smr.Entry{Index: uint64(len(w.log) + 1), Term: 1, Kind: smr.KindCommand}
		var r Result
		switch w.g.IntN(30) {
		case 0:
			e.Kind = smr.KindEmpty
		case 1:
			e.Data = []byte{1, byte(5 * (1 + w.g.IntN(9))), byte(w.g.IntN(256))}
			var c Command
			if DecodeCommand(e.Data, &c) == nil {
				w.Fatalf("%x is a command", e.Data)
			}
			r.Err = ErrBadCommand
		default:
			c := w.g.command(w.m.rev(), w.m.compact)
			e.Data = AppendCommand(nil, &c)
			r = w.m.apply(&c)
		}
		w.log = append(w.log, e)
		batch = append(batch, smr.Committed{Entry: e, Wanted: w.g.IntN(3) > 0})
		want = append(want, r)
	}
	if err := w.s.Apply(batch); err != nil {
		w.Fatal(err)
	}
	for i := range batch {
		if !batch[i].Wanted || batch[i].Kind != smr.KindCommand {
			continue
		}
		var got, normal Result
		if err := DecodeResult(batch[i].Result.Data, &got); err != nil {
			w.Fatal(err)
		}
		if err := DecodeResult(AppendResult(nil, &want[i]), &normal); err != nil {
			w.Fatal(err)
		}
		if !reflect.DeepEqual(got, normal) {
			var c Command
			DecodeCommand(batch[i].Data, &c)
			w.Fatalf("entry %d, %+v:\n got %+v\nwant %+v", batch[i].Index, c, got, normal)
		}
	}
	applied, digest := w.s.Digest()
	w.digests[applied] = digest
}

// compareReads compares ranges, transactions that read, and history.
func (w *world) compareReads(n int) {
	w.Helper()
	if got, want := w.s.Revision(), w.m.rev(); got != want {
		w.Fatalf("revision %d, want %d", got, want)
	}
	if got, want := w.s.CompactRevision(), w.m.compact; got != want {
		w.Fatalf("compact revision %d, want %d", got, want)
	}
	for range n {
		req := w.g.rangeRequest(w.m.rev())
		want, wantErr := w.m.begin().rangeKeys(req)
		got, err := w.s.Range(ctx, req)
		if !errors.Is(err, wantErr) {
			w.Fatalf("range %+v: error %v, want %v", req, err, wantErr)
		}
		if err == nil && !bytes.Equal(appendRangeResponse(nil, got), appendRangeResponse(nil, want)) {
			w.Fatalf("range %+v:\n got %+v\nwant %+v", req, got, want)
		}
	}
	req := w.g.txnRequest(w.m.rev(), 0)
	if req.ReadOnly() {
		branches := w.m.branches(req)
		wantErr := w.m.checkTxn(req, branches)
		got, err := w.s.ReadTxn(ctx, req)
		if !errors.Is(err, wantErr) {
			w.Fatalf("read %+v: error %v, want %v", req, err, wantErr)
		}
		if err == nil {
			want := w.m.begin().txn(req, &branches)
			want.Revision = w.m.rev()
			if !bytes.Equal(appendTxnResponse(nil, got), appendTxnResponse(nil, want)) {
				w.Fatalf("read %+v:\n got %+v\nwant %+v", req, got, want)
			}
		}
	}
	w.compareHistory()
}

// compareHistory replays history from a revision on over the model's state
// before it, and must come out at the model's state after.
func (w *world) compareHistory() {
	from := max(w.m.compact, 1) + w.g.Int64N(w.m.rev()-max(w.m.compact, 1)+1)
	to := from + w.g.Int64N(w.m.rev()-from+1)
	st := map[string]KeyValue{}
	for k, v := range w.m.states[from-1] {
		st[k] = v
	}
	last := int64(0)
	through, err := w.s.History(ctx, HistoryRequest{From: from, To: to, PrevKv: true}, func(e *Event) bool {
		if e.Kv.ModRevision < last || e.Kv.ModRevision < from || e.Kv.ModRevision > to {
			w.Fatalf("history %d to %d: revision %d after %d", from, to, e.Kv.ModRevision, last)
		}
		last = e.Kv.ModRevision
		if old, had := st[string(e.Kv.Key)]; last > w.m.compact {
			if had != (e.PrevKv != nil) || had && !bytes.Equal(appendKeyValue(nil, e.PrevKv), appendKeyValue(nil, &old)) {
				w.Fatalf("history %d to %d: revision %d superseded %+v, want %+v", from, to, last, e.PrevKv, old)
			}
		} else if e.PrevKv != nil {
			w.Fatalf("history at the compact revision %d has a previous version", last)
		}
		if e.Deleted {
			delete(st, string(e.Kv.Key))
			return true
		}
		kv := e.Kv
		kv.Key, kv.Value = bytes.Clone(kv.Key), bytes.Clone(kv.Value)
		st[string(kv.Key)] = kv
		return true
	})
	if err != nil || through != to {
		w.Fatalf("history %d to %d: through %d, %v", from, to, through, err)
	}
	want := w.m.states[to]
	if len(st) != len(want) {
		w.Fatalf("history %d to %d ends with %d keys, want %d", from, to, len(st), len(want))
	}
	for k, v := range want {
		if got := st[k]; !bytes.Equal(appendKeyValue(nil, &got), appendKeyValue(nil, &v)) {
			w.Fatalf("history %d to %d: %q is %+v, want %+v", from, to, k, got, v)
		}
	}
}

// reopen opens the store on fs, and applies the log from where it stands, in
// other batches than before.
func (w *world) reopen(fs *vfs.MemFS, durable uint64) {
	w.Helper()
	_, before := w.s.Digest()
	hash, err := w.s.HashKV(ctx, 0)
	if err != nil {
		w.Fatal(err)
	}
	if fs == w.fs {
		if err := w.s.Close(); err != nil {
			w.Fatal(err)
		}
	}
	w.fs = fs
	w.cfg.FS = fs
	s, applied := openStore(w.T, w.cfg)
	if applied < durable {
		w.Fatalf("open at %d, durable to %d", applied, durable)
	}
	if fs != w.s.cfg.FS {
		w.s.Close()
	} else if applied != uint64(len(w.log)) {
		w.Fatalf("closed at %d, open at %d", len(w.log), applied)
	}
	w.s = s
	if want, ok := w.digests[applied]; ok {
		if _, got := s.Digest(); got != want {
			w.Fatalf("open at %d with digest %x, want %x", applied, got, want)
		}
	}
	for applied < uint64(len(w.log)) {
		n := min(1+w.g.IntN(40), len(w.log)-int(applied))
		batch := make([]smr.Committed, n)
		for i := range batch {
			batch[i].Entry = w.log[int(applied)+i]
		}
		if err := s.Apply(batch); err != nil {
			w.Fatal(err)
		}
		applied += uint64(n)
	}
	if _, after := s.Digest(); after != before {
		w.Fatalf("digest %x after the replay to %d, want %x", after, applied, before)
	}
	if again, err := s.HashKV(ctx, 0); err != nil || again != hash {
		w.Fatalf("hash %+v (%v) after the replay, want %+v", again, err, hash)
	}
}

func runWorld(t *testing.T, seed uint64, steps int) {
	w := newWorld(t, seed, seed%2 == 0)
	for range steps {
		w.step()
		w.compareReads(3)
		switch w.g.IntN(25) {
		case 0:
			if err := w.s.Flush(); err != nil {
				t.Fatal(err)
			}
			if n, err := w.s.Durable(); err != nil || n != uint64(len(w.log)) {
				t.Fatalf("durable to %d after a flush at %d (%v)", n, len(w.log), err)
			}
		case 1:
			w.reopen(w.fs, uint64(len(w.log)))
		case 2:
			durable, err := w.s.Durable()
			if err != nil {
				t.Fatal(err)
			}
			fs := w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: w.g.IntN(101), RNG: w.g.Rand})
			w.reopen(fs, durable)
		case 3:
			for more := true; more; {
				var err error
				if more, err = w.s.CompactStep(1 + w.g.IntN(5)); err != nil {
					t.Fatal(err)
				}
			}
			w.checkSwept()
		case 4:
			if err := w.s.Verify(ctx); err != nil {
				t.Fatal(err)
			}
		case 5:
			if err := w.s.Defragment(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.compareReads(200)
	if err := w.s.Verify(ctx); err != nil {
		t.Fatal(err)
	}
}

// checkSwept looks into pebble: nothing superfluous is left once a compaction is
// complete.
func (w *world) checkSwept() {
	w.Helper()
	compact := w.m.compact
	if w.s.SweptRevision() != compact {
		w.Fatalf("swept to %d, compacted to %d", w.s.SweptRevision(), compact)
	}
	it, err := w.s.db.NewIter(&pebble.IterOptions{})
	if err != nil {
		w.Fatal(err)
	}
	defer it.Close()
	var last string
	for ok := it.First(); ok; ok = it.Next() {
		switch it.Key()[0] {
		case tagRevision:
			if at, _ := decodeRevisionKey(it.Key()); at.main < compact {
				w.Fatalf("index still has %d, compacted to %d", at.main, compact)
			}
		case tagVersion:
			prefix, at, kind, err := splitVersion(it.Key())
			if err != nil {
				w.Fatal(err)
			}
			if at.main > compact {
				continue
			}
			// A deletion at the compact revision stays for watches that start
			// there, even if its transaction puts the key again.
			spared := kind == kindDelete && at.main == compact
			if string(prefix) == last && !spared {
				w.Fatalf("%q still has version %d, compacted to %d", prefix, at.main, compact)
			}
			last = string(prefix)
			if kind == kindDelete && at.main < compact {
				w.Fatalf("%q still has its deletion %d, compacted to %d", prefix, at.main, compact)
			}
		}
	}
}

// TestModel compares random commands, restarts and crashes with the model.
func TestModel(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 4
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { runWorld(t, seed, 120) })
	}
}

// TestDeterministicFiles: two deterministic stores that do the same touch their
// files in the same order, through flushes, large batches and reopening.
func TestDeterministicFiles(t *testing.T) {
	run := func() []string {
		var ops []string
		cfg := testConfig(vfs.WithLogging(vfs.NewMem(), func(format string, args ...any) {
			ops = append(ops, fmt.Sprintf(format, args...)) // one goroutine at a time
		}))
		cfg.Deterministic = true
		s, _ := openStore(t, cfg)
		g := gen{rand.New(rand.NewPCG(1, 1))}
		for i := range 120 {
			size := 10
			if i%40 == 39 {
				size = 2000
			}
			batch := make([]smr.Committed, size)
			for j := range batch {
				c := putCmd(fmt.Sprint(g.IntN(5000)), fmt.Sprintf("%0200d", i))
				batch[j].Entry = smr.Entry{Index: s.Applied() + uint64(j) + 1, Kind: smr.KindCommand, Data: AppendCommand(nil, &c)}
			}
			if err := s.Apply(batch); err != nil {
				t.Fatal(err)
			}
			if i%50 == 49 {
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Open(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if s.Close() != nil {
			t.Fatal("close")
		}
		return ops
	}
	a, b := run(), run()
	if len(a) < 50 {
		t.Fatalf("only %d operations", len(a))
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Fatalf("operation %d: %s\nthen %s\nafter %q\nnext %q\nthen %q", i, a[i], b[i], a[max(0, i-4):i], a[i:min(i+8, len(a))], b[i:min(i+8, len(b))])
		}
	}
	if len(a) != len(b) {
		t.Fatalf("%d operations, then %d", len(a), len(b))
	}
}
