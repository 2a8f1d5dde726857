package sim

import (
	"fmt"
	"io"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"github.com/quorate/quorate/vfs"
)

// Disks that change or lose in silence what was synced.
//
// Raft's promises rest on this: what a replica has acknowledged is there after a
// crash, or the replica does not come back. So these faults are kept within bounds,
// which together are the fault atlas of a seed:
//
//  1. They befall the disk of one host, and only if a majority is left without it.
//     That host is never of the core that must work in the end. A run that is
//     "beyond" gives this up: then nothing is demanded but that no answer is wrong.
//  2. They befall what a later batch, synced and whole, proves to have been synced
//     (package wal, recovery). Damage to the very last batch cannot be told from a
//     batch that was being written when the power went: no log can. A host that
//     crashes when its last batch is bad therefore stays down: its operator throws
//     the disk away.
type damage struct {
	// may: the atlas names this host. done is how many silent faults it has had.
	may  bool
	done int
	// gone: the host never comes back.
	gone bool
	tail map[string]*tail // by directory of a shard
}

// tail is what is known of the end of a log: where the newest batches went.
type tail struct {
	// A batch that is written and not yet synced, and the newest one that is: all
	// before it in the log is proved by it.
	dirty, proof place
	// bad: a batch was lost or strayed, and none is synced that proves it. cure: one
	// that will is written.
	bad, cure bool
}

type place struct {
	file string
	at   int64
}

// afflicted says that the disk of the host has done what a host may not survive.
func (d *damage) afflicted() bool { return d.done > 0 }

const segmentSuffix = ".wal"

// damageFeatures are the silent faults that a seed draws.
type damageFeatures struct {
	// flipPermille of the nemesis' acts and of the crashes flip a bit of the log;
	// lostPermille of the batches are acknowledged and not written, strayPermille
	// written elsewhere.
	flipPermille, lostPermille, strayPermille int
}

func drawDamage(seed uint64, beyond bool) (f damageFeatures) {
	s := fork(seed, 25)
	if !s.permille(200) && !beyond {
		return f
	}
	if s.permille(600) {
		f.flipPermille = pick(&s, 100, 500)
	}
	if s.permille(600) {
		f.lostPermille = pick(&s, 2, 10, 50)
	}
	if s.permille(600) {
		f.strayPermille = pick(&s, 2, 10, 50)
	}
	return f
}

func (f *damageFeatures) any() bool { return f.flipPermille+f.lostPermille+f.strayPermille > 0 }

// drawAtlas chooses the hosts whose disks may do harm in silence.
func (w *fullWorld) drawAtlas() {
	n := len(w.hosts)
	if !w.full.damage.any() {
		return
	}
	s := fork(w.seed, 22)
	spoilt := uint(1) << s.n(n)
	if w.beyond {
		for bits.OnesCount(spoilt) < n/2+1 {
			spoilt |= 1 << s.n(n)
		}
	} else if n < 3 {
		return
	}
	for i, h := range w.hosts {
		h.may = spoilt>>i&1 == 1
	}
}

// spoil decides about a write to or a sync of the log on a disk that may do harm
// in silence, and keeps track of what is proved.
func (h *simHost) spoil(op vfs.Op) vfs.Verdict {
	w := h.w
	if !strings.HasSuffix(op.Path, segmentSuffix) {
		return vfs.Verdict{}
	}
	if h.tail == nil {
		h.tail = map[string]*tail{}
	}
	dir := h.mem.PathDir(op.Path)
	t := h.tail[dir]
	if t == nil {
		t = &tail{}
		h.tail[dir] = t
	}
	switch op.Kind {
	case vfs.OpWrite:
		if info, err := h.mem.Stat(op.Path); err != nil || op.Offset+op.Length > info.Size() {
			return vfs.Verdict{} // the zeros of a new segment
		}
		if w.phase != phaseChaos {
			break
		}
		f := &w.full.damage
		switch {
		case w.faultR.permille(f.lostPermille):
			w.marks.hit(MarkLostBatch)
			t.bad, t.cure = true, false
			h.done++
			return vfs.Verdict{Lose: true}
		case w.faultR.permille(f.strayPermille):
			w.marks.hit(MarkStrayBatch)
			t.bad, t.cure = true, false
			h.done++
			return vfs.Verdict{Shift: vfs.SectorBytes * int64(pick(&w.faultR, -8, -3, -1, 1, 2, 9))}
		}
	case vfs.OpSync:
		if t.dirty.file == op.Path {
			t.proof, t.dirty = t.dirty, place{}
			t.bad = t.bad && !t.cure
			t.cure = false
		}
		return vfs.Verdict{}
	default:
		return vfs.Verdict{}
	}
	t.dirty, t.cure = place{op.Path, op.Offset}, t.bad
	return vfs.Verdict{}
}

// flipBit flips a bit of what the log has proved to be synced.
func (h *simHost) flipBit(disk *vfs.Mem) {
	s := &h.w.faultR
	for _, n := range slices.Sorted(maps.Keys(h.tail)) {
		t := h.tail[n]
		if t.proof.at == 0 || t.bad || !s.flip() {
			continue
		}
		to := place{t.proof.file, t.proof.at}
		if older := h.segments(); s.permille(200) {
			for _, f := range older {
				if info, err := disk.Stat(f); err == nil && h.mem.PathDir(f) == n && f < t.proof.file && s.flip() {
					to = place{f, info.Size()}
				}
			}
		}
		if disk.FlipBit(to.file, int64(s.next()%uint64(to.at*8))) == nil {
			h.done++
			h.hurt = true
			h.w.marks.hit(MarkBitFlip)
		}
	}
}

// spoilCrash is what a crash finds on a disk that may do harm.
func (h *simHost) spoilCrash(disk *vfs.Mem) {
	if !h.may {
		return
	}
	if h.w.phase == phaseChaos && h.w.faultR.permille(h.w.full.damage.flipPermille) {
		h.flipBit(disk)
	}
	for _, t := range h.tail {
		if t.bad {
			h.gone = true
		}
		t.dirty, t.cure = place{}, false
	}
	if h.gone {
		h.w.marks.hit(MarkDiskThrownAway)
	}
}

// segments lists the files of the host's logs, oldest first.
func (h *simHost) segments() (paths []string) {
	for n := range h.w.full.shards {
		dir := h.mem.PathJoin(logDir, fmt.Sprintf("shard-%03d", n))
		names, _ := h.mem.List(dir)
		slices.Sort(names)
		for _, name := range names {
			if strings.HasSuffix(name, segmentSuffix) {
				paths = append(paths, h.mem.PathJoin(dir, name))
			}
		}
	}
	return paths
}

func (h *simHost) content(path string) []byte {
	f, err := h.mem.Open(path)
	if err != nil {
		return nil
	}
	b, _ := io.ReadAll(f)
	_ = f.Close()
	return b
}

// damageDisks flips bits under hosts that run.
func (w *fullWorld) damageDisks() {
	for _, h := range w.hosts {
		if h.may && h.rt != nil && !h.dead && w.faultR.permille(w.full.damage.flipPermille/4) {
			h.flipBit(h.mem)
		}
	}
}

// healthyCore draws about size hosts, a majority, without those whose disks have
// done harm.
func (w *fullWorld) healthyCore(size int) (core uint) {
	n, whole := len(w.hosts), 0
	for _, h := range w.hosts {
		if !h.may {
			whole++
		}
	}
	for bits.OnesCount(core) < min(size, whole) {
		if i := w.nemesis.n(n); !w.hosts[i].may {
			core |= 1 << i
		}
	}
	return core
}
