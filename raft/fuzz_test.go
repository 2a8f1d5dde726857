package raft

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/quorate/quorate/smr"
)

// FuzzStep feeds a core any messages and calls, with its disk at any pace. It
// may ignore them or, if a leader contradicts itself or another, stop with
// invariants 1 or 2; nothing else may happen.
func FuzzStep(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
	f.Add([]byte{20, 21, 22, 5, 1, 0, 0, 0, 2, 30, 31, 5, 2, 1, 1, 3})
	rng := rand.New(rand.NewPCG(1, 1))
	for range 300 { // so that a run as a plain test goes somewhere too
		b := make([]byte, 600)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 4000 {
			return
		}
		d := smr.Decoder{B: b}
		small := func(n byte) uint64 { return uint64(d.Byte() % n) }
		r, err := New(Config{Group: test, ID: 1, Seed: 3, TailBytesMax: 300}, Start{LogState: func() smr.LogState {
			s := stateOf(2, []uint64{1, 1, 2})
			s.Snapshot.Configuration = voters(1, 2, 3)
			return s
		}()}, 0, Poison(), Paranoid())
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if p := recover(); p != nil {
				if e, ok := p.(*InvariantError); !ok || e.Number > 2 {
					panic(p)
				}
			}
		}()
		var now smr.Instant
		var out Output
		for !d.Failed && len(d.B) > 0 {
			now += smr.Instant(small(50)) * smr.Instant(time.Millisecond)
			switch small(12) {
			case 0:
				r.Take(&out)
			case 1:
				r.Persisted(min(r.log.seq, r.log.seqPersisted+small(3)))
			case 2:
				r.Applied(min(r.apply.handed, r.apply.applied+small(4)))
			case 3:
				r.Tick(now)
			case 4:
				_ = r.Propose(now, make([]smr.Entry, small(4)))
				_ = r.ReadIndex(now, 1)
			case 5:
				r.Campaign(now)
			case 6:
				_ = r.Compact(small(12))
				r.SnapshotDone(smr.ReplicaID(small(4)), small(12), small(2) == 0)
				r.Restored(now, smr.SnapshotMeta{Index: small(12), Term: small(4), Configuration: voters(1, 2, 3)})
			case 7:
				_ = r.ProposeConfiguration(now, voters(1, smr.ReplicaID(2+small(3))))
				_ = r.Transfer(now, smr.ReplicaID(small(4)))
			default:
				m := Message{
					Type: MessageType(small(14)), Group: test, From: smr.ReplicaID(small(5)), To: 1,
					Term: max(1, r.hard.Term+small(3)) - 1, Index: small(12), LogTerm: small(8), Commit: small(12), Round: small(5),
					Reject: small(2) == 1, ConflictIndex: small(12), ConflictTerm: small(8), Force: small(2) == 1,
				}
				for i := range small(4) {
					e := smr.Entry{Index: m.Index + 1 + i, Term: min(m.Term, small(8)), Kind: smr.EntryKind(small(4))}
					if small(4) == 0 {
						e.Data = smr.AppendConfiguration(nil, &smr.Configuration{Members: voters(1, 3).Members})
					}
					m.Entries = append(m.Entries, e)
				}
				r.Step(now, &m)
			}
		}
	})
}
