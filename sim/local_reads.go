package sim

import "github.com/quorate/quorate/smr"

// localReads is what is known of reads that a host answers from its own state,
// without asking anybody (host.Group.ReadLocal). They may be old, and a client that
// goes from one host to another may see time run backwards. What they show is
// still bounded: nothing but what is committed, as it once was, and on one host
// time runs forwards as long as the host runs.
type localReads struct {
	rng source
	// keys are the registers that the commands write to, by their ids.
	keys []byte
	seen map[localSeat]localSeen
}

type localSeat struct {
	host  smr.ReplicaID
	group smr.GroupID
}

// localSeen is up to where a host had applied when it was last asked, in which life.
type localSeen struct {
	life    uint32
	applied uint64
}

// newLocalReads draws from a fork of its own.
func newLocalReads(seed uint64) localReads {
	return localReads{rng: fork(seed, 42), seen: map[localSeat]localSeen{}}
}

// wrote notes which register a command writes to.
func (l *localReads) wrote(id uint64, key byte) {
	for uint64(len(l.keys)) <= id {
		l.keys = append(l.keys, keysMax)
	}
	l.keys[id] = key
}

// readsLocally lets a client ask some host for its own state now and then.
func (w *fullWorld) readsLocally() {
	s := &w.local.rng
	if !s.permille(100) {
		return
	}
	h, group, key := w.hosts[s.n(len(w.hosts))], s.n(len(w.groups)), byte(s.n(w.features.keys))
	if h.rt == nil || w.now < h.pausedUntil {
		return
	}
	w.readLocally(h, h.at[group], key)
	w.marks.hit(MarkLocalRead)
}

// readLocally reads a register on a host, and checks what it is told.
func (w *fullWorld) readLocally(h *simHost, st *seat, key byte) uint64 {
	value := uint64(0)
	if w.full.pebble {
		value = st.machine.read(key)
	} else if b, err := st.handle.ReadLocal([]byte{key}); err != nil || len(b) != 8 {
		w.fail(Contract, ids(h.id), "a local read is answered with %d bytes, %v", len(b), err)
		return 0
	} else {
		value = registerValue(b)
	}
	applied, _ := st.machine.position()
	w.checkLocalRead(h, st, key, value, applied)
	return value
}

// newest is the command that wrote to a register last, up to an index; zero: none.
func (l *localReads) newest(g *simGroup, key byte, index uint64) (newest uint64) {
	for id, k := range l.keys {
		if at := g.place(uint64(id)); k == key && at > 0 && at <= index && at > g.place(newest) {
			newest = uint64(id)
		}
	}
	return newest
}

// checkLocalRead: the value is what the newest write to the register left that is
// not above the applied index, and that index does not go back in one life.
func (w *fullWorld) checkLocalRead(h *simHost, st *seat, key byte, value, applied uint64) {
	l, g := &w.local, st.group
	newest := l.newest(g, key, applied)
	switch {
	case value == newest:
	case value >= uint64(len(l.keys)) || l.keys[value] != key || g.place(value) == 0:
		w.fail(WrongAnswer, ids(h.id), "a local read of register %d shows command %d, which is not committed", key, value)
	default:
		w.fail(WrongAnswer, ids(h.id), "a local read of register %d at index %d shows command %d of index %d, the newest there is %d of index %d", key, applied, value, g.place(value), newest, g.place(newest))
	}
	who := localSeat{h.id, g.id}
	if was := l.seen[who]; was.life == h.life && was.applied > applied {
		w.fail(Monotonic, ids(h.id), "a local read sees the state at index %d, an earlier one saw %d", applied, was.applied)
	}
	l.seen[who] = localSeen{h.life, applied}
}
