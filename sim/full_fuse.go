package sim

import (
	"context"
	"strings"

	"github.com/quorate/quorate/vfs"
)

// DiskPart is a part of what a host has on its disk.
type DiskPart uint8

// The parts.
const (
	DiskAll DiskPart = iota
	DiskLog
	DiskImages // snapshots, taken and received
	DiskStore  // of the key-value store
)

// Fuse is an operation on a host's disk. At it the power goes: before it is done,
// and what is not synced is lost.
type Fuse struct {
	Part DiskPart
	// Kind of the operation; zero: any that changes the disk.
	Kind vfs.OpKind
	// Nth such operation from now on; the next one is 1.
	Nth int
	// only counts operations on such names, and after lets the counting begin when
	// an image of such a name gets its final one.
	only, after string
}

func partOf(path string) DiskPart {
	switch {
	case !strings.Contains(path, logDir):
		return DiskStore
	case strings.Contains(path, imageDir):
		return DiskImages
	}
	return DiskLog
}

// imageDir is where the snapshots are, below logDir.
const imageDir = "snapshots"

// receivedName ends the names of images that come in, takenName those of images that
// are taken.
const (
	receivedName = ".part"
	takenName    = ".new"
)

// burns reports whether the power goes at op.
func (h *simHost) burns(op vfs.Op) bool {
	f := h.fuse
	if op.Kind == vfs.OpRename && partOf(op.Path) == DiskImages {
		h.named = op.Path
	}
	if f == nil {
		return false
	}
	if f.after != "" {
		if op.Kind == vfs.OpRename && strings.Contains(op.Path, f.after) {
			f.after = ""
		}
		return false
	}
	if !strings.Contains(op.Path, f.only) || f.Kind != 0 && f.Kind != op.Kind || f.Part != DiskAll && f.Part != partOf(op.Path) {
		return false
	}
	if f.Nth--; f.Nth > 0 {
		return false
	}
	h.fuse, h.burnt = nil, op
	h.loseDisk()
	h.markFuse(op)
	return true
}

// loseDisk keeps what a loss of power leaves of the disk at this moment; the host
// ends with the turn that it is in.
func (h *simHost) loseDisk() {
	h.frozen, h.dead = h.mem.Crash(h.rng, h.w.full.keepPercent), true
	h.w.marks.hit(MarkCrashMidSync)
}

// storeFS is the file system of the key-value store. Pebble is spared failing
// operations, which it answers with a panic: what it does in the turn in which the
// power goes is lost with the disk.
func (h *simHost) storeFS() vfs.FS {
	if !h.w.byHand && !h.w.full.snapshots.on {
		return h.mem
	}
	return vfs.NewFault(h.mem, vfs.PolicyFunc(func(op vfs.Op) vfs.Verdict {
		// Files that are obsolete are removed by a goroutine of pebble's own.
		if op.Kind.Mutates() && op.Kind != vfs.OpRemove && !h.dead {
			h.burns(op)
		}
		return vfs.Verdict{}
	}), nil)
}

// drawFuse draws at which operation on an image, or after one, a life of a host
// ends, if it is to end so.
func (w *fullWorld) drawFuse() *Fuse {
	f, s := &w.full.snapshots, &w.fuseR
	if !f.on || !s.permille(f.opCrashPermille) {
		return nil
	}
	nth := 1 + s.n(f.opCrashMax)
	if w.features.every && w.aimR.permille(750) {
		return w.aimFuse()
	}
	switch s.n(6) {
	case 0:
		kinds := [...]vfs.OpKind{vfs.OpCreate, vfs.OpSync, vfs.OpRename, vfs.OpSyncDir, vfs.OpRemove}
		return &Fuse{Part: DiskImages, Kind: kinds[s.n(len(kinds))], Nth: 1 + s.n(3)}
	case 1:
		return &Fuse{Nth: 1 + s.n(6), after: imageDir}
	case 2:
		return &Fuse{Nth: nth, only: receivedName}
	case 3:
		return &Fuse{Nth: 1 + s.n(6), after: receivedName}
	case 4:
		if w.full.pebble {
			return &Fuse{Part: DiskStore, Nth: 1 + s.n(100), after: receivedName}
		}
	}
	return &Fuse{Part: DiskImages, Nth: nth}
}

// aimFuse draws an operation on an image that is taken or received, each kind of them
// as often as the others. Few lives receive one.
func (w *fullWorld) aimFuse() *Fuse {
	s := &w.aimR
	side := pick(s, takenName, receivedName, receivedName, receivedName)
	f := &Fuse{Part: DiskImages, Kind: pick(s, vfs.OpWrite, vfs.OpSync, vfs.OpRename, vfs.OpSyncDir), Nth: 1, only: side}
	switch f.Kind {
	case vfs.OpWrite:
		f.Nth += s.n(w.full.snapshots.opCrashMax)
	case vfs.OpSyncDir:
		f.only, f.after = "", side
	default:
		f.Nth += s.n(2)
	}
	return f
}

// imageOperations are where the power may go while an image is written, in the order
// of the marks from MarkCrashTakingWrite on, and from MarkCrashReceivingWrite on.
var imageOperations = map[vfs.OpKind]Mark{vfs.OpCreate: 0, vfs.OpWrite: 0, vfs.OpReserve: 0, vfs.OpSync: 1, vfs.OpRename: 2, vfs.OpSyncDir: 3}

// markFuse notes at what kind of operation the power has gone.
func (h *simHost) markFuse(op vfs.Op) {
	m, path := &h.w.marks, op.Path
	switch partOf(path) {
	case DiskStore:
		m.hit(MarkCrashStore)
	case DiskLog:
		m.hit(MarkCrashAfterImage)
	}
	if op.Kind == vfs.OpSyncDir {
		path = h.named
	}
	nth, ok := imageOperations[op.Kind]
	switch taken := strings.HasSuffix(path, takenName); {
	case partOf(op.Path) != DiskImages || !ok || !taken && !strings.HasSuffix(path, receivedName):
	case taken:
		m.hit(MarkCrashTaking)
		m.hit(MarkCrashTakingWrite + nth)
	default:
		m.hit(MarkCrashReceiving)
		m.hit(MarkCrashReceivingWrite + nth)
	}
}

// compactNow lets an operator ask a host to compact its logs.
func (w *fullWorld) compactNow(h *simHost) {
	if h.rt == nil || !w.full.snapshots.on {
		return
	}
	w.marks.hit(MarkSnapshotAsked)
	ended, end := context.WithCancel(context.Background())
	end()
	for _, st := range h.at {
		_ = st.handle.Compact(ended) // it does not wait
	}
}
