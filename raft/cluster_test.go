package raft

import (
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/quorate/quorate/smr"
)

// cluster is a small simulated group for the tests of this package: cores,
// disks that lose what is not synced, a network that loses, doubles and
// reorders. A seed decides everything. The first violation of a property ends a
// run.
type cluster struct {
	rng    *rand.Rand
	now    smr.Instant
	queue  events
	seq    int
	nodes  []*node
	faults faults
	opts   []Option
	config Config
	// violation is what the checks found first.
	violation string

	// The ghost: what has been true, whatever the replicas know.
	leaders   map[uint64]smr.ReplicaID // term -> leader
	committed []smr.Entry              // by index-1
	stats     stats
	request   uint64
	block     map[[2]smr.ReplicaID]bool
}

type stats struct {
	elections, commits, crashes, snapshots, fetches, reads, truncations, changes, restarts int
}

// faults are the features of a run, as chances out of 1000 for each message or
// action.
type faults struct {
	loss, duplicate, slow  int
	crash, partition       int
	compact, change, admin int
	propose, read          int
	// hunter crashes leaders soon after their election, voteHunter voters soon
	// after their vote; rivals lets several replicas stand at once.
	hunter, voteHunter bool
	rivals             int
	diskMillis         int
	restartMillis      int
}

const (
	ms   = smr.Instant(time.Millisecond)
	test = smr.GroupID(7)
)

type node struct {
	id       smr.ReplicaID
	core     *Raft
	out      Output
	disk     disk
	machine  []smr.Entry // what has been applied, by index-1
	up       bool
	takeAt   bool
	boot     int
	voted    uint64
	wasLead  uint64
	leadLast uint64
	// leadCommit is the commit index that it was elected with.
	leadCommit uint64
	reads      map[uint64]uint64 // ticket -> least index that is linearizable
}

// disk holds what is synced, and writes on their way.
type disk struct {
	hard     smr.HardState
	snapshot smr.SnapshotMeta
	entries  []smr.Entry
	pending  []diskWrite
}

type diskWrite struct {
	Append
	restore *smr.SnapshotMeta
}

func (d *disk) last() uint64 { return d.snapshot.Index + uint64(len(d.entries)) }

func (d *disk) sync(n int) (seq uint64) {
	for _, w := range d.pending[:n] {
		seq = w.Seq
		if w.restore != nil {
			d.snapshot, d.entries = *w.restore, nil
		}
		if w.HardStateSet {
			d.hard = w.HardState
		}
		if len(w.Entries) > 0 {
			first := w.Entries[0].Index
			if first > d.last()+1 || first <= d.snapshot.Index {
				panic(fmt.Sprintf("write at %d on a disk with (%d, %d]", first, d.snapshot.Index, d.last()))
			}
			d.entries = append(d.entries[:first-d.snapshot.Index-1:first-d.snapshot.Index-1], w.Entries...)
		}
	}
	d.pending = append([]diskWrite(nil), d.pending[n:]...)
	return seq
}

func (d *disk) compact(meta smr.SnapshotMeta) {
	d.entries = append([]smr.Entry(nil), d.entries[meta.Index-d.snapshot.Index:]...)
	d.snapshot = meta
}

// state is what a log would report when it is opened.
func (d *disk) state(tail int) smr.LogState {
	s := smr.LogState{HardState: d.hard, Snapshot: d.snapshot, Last: d.last()}
	for _, e := range d.entries {
		if n := len(s.Terms); n == 0 || s.Terms[n-1].Term != e.Term {
			s.Terms = append(s.Terms, smr.TermRun{First: e.Index, Term: e.Term})
		}
		if e.Kind == smr.KindConfiguration {
			s.Configurations = append(s.Configurations, e)
		}
	}
	s.Tail = append(s.Tail, d.entries[len(d.entries)-min(tail, len(d.entries)):]...)
	return s
}

type event struct {
	at  smr.Instant
	seq int
	do  func()
}

type events []event

func (q events) Len() int { return len(q) }
func (q events) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q events) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *events) Push(x any)   { *q = append(*q, x.(event)) }
func (q *events) Pop() any     { e := (*q)[len(*q)-1]; *q = (*q)[:len(*q)-1]; return e }

func voters(ids ...smr.ReplicaID) smr.Configuration {
	var c smr.Configuration
	for _, id := range ids {
		c.Members = append(c.Members, smr.Member{ID: id, Role: smr.Voter})
	}
	return c
}

func newCluster(seed uint64, replicas, members int, cfg Config, f faults, opts ...Option) *cluster {
	c := &cluster{
		rng: rand.New(rand.NewPCG(seed, 99)), faults: f, opts: opts, config: cfg,
		leaders: map[uint64]smr.ReplicaID{}, block: map[[2]smr.ReplicaID]bool{},
	}
	if cfg.ElectionTimeout == 0 {
		c.config.ElectionTimeout = 150 * time.Millisecond
	}
	var ids []smr.ReplicaID
	for i := range members {
		ids = append(ids, smr.ReplicaID(i+1))
	}
	for i := range replicas {
		n := &node{id: smr.ReplicaID(i + 1)}
		n.disk.snapshot.Configuration = voters(ids...)
		c.nodes = append(c.nodes, n)
		c.start(n)
	}
	return c
}

func (c *cluster) chance(perMille int) bool { return c.rng.IntN(1000) < perMille }

func (c *cluster) after(d smr.Instant, do func()) {
	c.seq++
	heap.Push(&c.queue, event{c.now + d, c.seq, do})
}

func (c *cluster) violate(format string, args ...any) {
	if c.violation == "" {
		c.violation = fmt.Sprintf("at %v: ", time.Duration(c.now)) + fmt.Sprintf(format, args...)
	}
}

func (c *cluster) start(n *node) {
	cfg := c.config
	cfg.Group, cfg.ID, cfg.Seed = test, n.id, c.rng.Uint64()
	state := n.disk.state(c.rng.IntN(20))
	applied := n.disk.snapshot.Index
	n.machine = n.machine[:applied]
	core, err := New(cfg, Start{LogState: state, Applied: applied}, c.now, c.opts...)
	if err != nil {
		c.violate("replica %d cannot start: %v", n.id, err)
		n.up = false
		return
	}
	n.core, n.up, n.out = core, true, Output{}
	n.reads = map[uint64]uint64{}
	n.boot++
}

func (c *cluster) crash(n *node) {
	c.stats.crashes++
	n.up, n.takeAt, n.wasLead = false, false, 0
	n.disk.sync(c.rng.IntN(len(n.disk.pending) + 1)) // a prefix survives
	n.disk.pending = nil
	c.after(smr.Instant(c.rng.IntN(max(1, c.faults.restartMillis)))*ms, func() {
		if !n.up {
			c.stats.restarts++
			c.start(n)
		}
	})
}

// caught turns a broken invariant into a violation.
func (c *cluster) caught(n *node) {
	p := recover()
	if e, ok := p.(*InvariantError); ok {
		c.violate("replica %d: %v", n.id, e)
	} else if p != nil {
		panic(p)
	}
}

// with runs do on a replica, if it is up, and lets it Take a little later.
func (c *cluster) with(n *node, do func(r *Raft)) {
	if !n.up {
		return
	}
	defer c.caught(n)
	last := n.core.log.last
	do(n.core)
	if n.core.log.last < last {
		c.stats.truncations++
	}
	c.observe(n)
	if !n.takeAt {
		n.takeAt = true
		boot := n.boot
		c.after(smr.Instant(c.rng.IntN(1000))*ms/1000, func() {
			if n.up && n.boot == boot {
				n.takeAt = false
				c.take(n)
			}
		})
	}
}

// observe checks the properties that concern a leader (Raft Figure 3).
func (c *cluster) observe(n *node) {
	s := n.core.State()
	if v := n.core.hard.Vote; c.faults.voteHunter && v != 0 && n.voted != s.Term {
		n.voted = s.Term
		if c.chance(300) {
			c.after(smr.Instant(c.rng.IntN(8))*ms, func() {
				if n.up {
					c.crash(n)
				}
			})
		}
	}
	if s.Role != Leader {
		n.wasLead = 0
		return
	}
	if other, ok := c.leaders[s.Term]; ok && other != n.id {
		c.violate("election safety: replicas %d and %d both lead term %d", other, n.id, s.Term)
	}
	if n.wasLead == s.Term {
		if s.Last < n.leadLast {
			c.violate("leader append-only: replica %d lost entries in term %d", n.id, s.Term)
		}
		n.leadLast = s.Last
		if c.faults.hunter && s.Commit > n.leadCommit && n.leadCommit > 0 {
			// It has committed something for the first time: a bad moment.
			n.leadCommit = 0
			if c.chance(500) {
				c.after(0, func() {
					if n.up {
						c.crash(n)
					}
				})
			}
		}
		return
	}
	n.leadCommit = s.Commit
	c.leaders[s.Term] = n.id
	c.stats.elections++
	n.wasLead, n.leadLast = s.Term, s.Last
	for i := range c.committed {
		e := &c.committed[i]
		if t, ok := n.core.log.term(e.Index); e.Index > s.First && e.Term < s.Term && (!ok || t != e.Term) {
			c.violate("leader completeness: replica %d leads term %d without the committed entry (%d, %d)", n.id, s.Term, e.Index, e.Term)
		}
	}
	if c.faults.hunter && c.chance(700) {
		c.hunt(n)
	}
}

func (c *cluster) take(n *node) {
	defer c.caught(n)
	out := &n.out
	n.core.Take(out)
	c.observe(n)
	if out.Append.Seq > 0 {
		w := diskWrite{Append: out.Append, restore: out.Restore}
		w.Entries = cloned(out.Append.Entries)
		n.disk.pending = append(n.disk.pending, w)
		boot, seq := n.boot, out.Append.Seq
		c.after(smr.Instant(1+c.rng.IntN(1+c.faults.diskMillis*1000))*ms/1000, func() { c.synced(n, boot, seq) })
	}
	if out.Restore != nil {
		n.machine = append(n.machine[:0], c.committed[:out.Restore.Index]...)
	}
	for i := range out.Messages {
		c.send(&out.Messages[i])
	}
	c.apply(n, out.Committed)
	for _, r := range out.Reads {
		c.stats.reads++
		if r.Index < n.reads[r.Ticket] {
			c.violate("stale read: replica %d answers index %d, %d was committed before", n.id, r.Index, n.reads[r.Ticket])
		}
		delete(n.reads, r.Ticket)
	}
	for _, t := range out.ReadsFailed {
		delete(n.reads, t)
	}
	for _, f := range out.Fetches {
		c.fetch(n, f)
	}
	for _, id := range out.Snapshots {
		c.snapshot(n, id)
	}
	if out.More {
		c.with(n, func(*Raft) {})
	}
}

func (c *cluster) synced(n *node, boot int, seq uint64) {
	if !n.up || n.boot != boot {
		return
	}
	k := 0
	for k < len(n.disk.pending) && n.disk.pending[k].Seq <= seq {
		k++
	}
	if k > 0 {
		n.disk.sync(k)
		c.with(n, func(r *Raft) { r.Persisted(seq) })
	}
}

// cloned returns copies of entries, their Data included: a core uses the memory
// of both again.
func cloned(entries []smr.Entry) []smr.Entry {
	all := append([]smr.Entry(nil), entries...)
	for i := range all {
		all[i].Data = append([]byte(nil), all[i].Data...)
	}
	return all
}

// apply checks state machine safety against the ghost, and that what is
// committed is on the disks of a quorum.
func (c *cluster) apply(n *node, entries []smr.Entry) {
	for i := range entries {
		e := entries[i]
		if e.Index != uint64(len(n.machine))+1 {
			c.violate("replica %d is to apply %d after %d", n.id, e.Index, len(n.machine))
			return
		}
		if e.Index > uint64(len(c.committed)) {
			c.committed = append(c.committed, cloned(entries[i:i+1])...)
			c.stats.commits++
		} else if g := &c.committed[e.Index-1]; g.Term != e.Term || g.Kind != e.Kind || string(g.Data) != string(e.Data) {
			c.violate("state machine safety: replica %d applies (%d, %d) where (%d, %d) was committed", n.id, e.Index, e.Term, g.Index, g.Term)
		}
		n.machine = append(n.machine, e)
	}
	if len(entries) == 0 {
		return
	}
	boot, last := n.boot, entries[len(entries)-1].Index
	c.after(smr.Instant(c.rng.IntN(3))*ms, func() {
		if n.up && n.boot == boot && last > n.core.apply.applied {
			c.with(n, func(r *Raft) { r.Applied(last) })
		}
	})
}

func (c *cluster) fetch(n *node, f Fetch) {
	c.stats.fetches++
	boot := n.boot
	c.after(smr.Instant(c.rng.IntN(5))*ms, func() {
		if !n.up || n.boot != boot {
			return
		}
		var got []smr.Entry
		bytes := 0
		for i := f.First; i <= min(f.Last, n.disk.last()) && i > n.disk.snapshot.Index; i++ {
			e := n.disk.entries[i-n.disk.snapshot.Index-1]
			if bytes += e.Size(); len(got) > 0 && bytes > f.BytesMax {
				break
			}
			got = append(got, e)
		}
		var err error
		if c.chance(100) || len(got) == 0 {
			got, err = nil, errors.New("the disk is slow today")
		}
		c.with(n, func(r *Raft) { r.Fetched(f.To, got, err) })
	})
}

// snapshot sends the state that replica n has applied.
func (c *cluster) snapshot(n *node, to smr.ReplicaID) {
	c.stats.snapshots++
	boot := n.boot
	meta, err := n.core.SnapshotMeta(uint64(len(n.machine)))
	c.after(smr.Instant(c.rng.IntN(50))*ms, func() {
		target := c.nodes[to-1]
		ok := err == nil && target.up && !c.blocked(n.id, to) && !c.chance(c.faults.loss)
		if ok {
			c.with(target, func(r *Raft) { r.Restored(c.now, meta) })
		}
		if n.up && n.boot == boot {
			c.with(n, func(r *Raft) { r.SnapshotDone(to, meta.Index, ok) })
		}
	})
}

func (c *cluster) blocked(a, b smr.ReplicaID) bool { return c.block[[2]smr.ReplicaID{a, b}] }

func (c *cluster) send(m *Message) {
	if m.Term > 1<<32 || c.blocked(m.From, m.To) || c.chance(c.faults.loss) || int(m.To) > len(c.nodes) {
		return
	}
	copies := 1
	if c.chance(c.faults.duplicate) {
		copies = 2
	}
	for range copies {
		delay := 200 + c.rng.IntN(2000) // µs
		if c.chance(c.faults.slow) {
			delay += c.rng.IntN(300_000)
		}
		k := *m
		k.Entries = cloned(m.Entries)
		from := c.nodes[m.From-1]
		boot := from.boot
		c.after(smr.Instant(delay)*ms/1000, func() {
			n := c.nodes[k.To-1]
			if (!from.up || from.boot != boot) && c.chance(700) {
				return // the connection broke with the sender
			}
			c.with(n, func(r *Raft) {
				r.Step(c.now, &k)
				for i := range k.Entries { // nobody may keep the slice, or the Data
					for j := range k.Entries[i].Data {
						k.Entries[i].Data[j] = poisonByte
					}
					k.Entries[i] = smr.Entry{Index: poisonIndex}
				}
			})
		})
	}
}

// run lets the cluster go on until the given instant, or a violation.
func (c *cluster) run(until smr.Instant) {
	for c.violation == "" {
		next := until
		if len(c.queue) > 0 {
			next = min(next, c.queue[0].at)
		}
		var due *node
		for _, n := range c.nodes {
			if n.up && n.core.Deadline() < next {
				next, due = n.core.Deadline(), n
			}
		}
		c.now = max(c.now, next)
		switch {
		case due != nil:
			c.with(due, func(r *Raft) { r.Tick(c.now) })
		case len(c.queue) > 0 && c.queue[0].at <= until:
			heap.Pop(&c.queue).(event).do()
		default:
			return
		}
	}
}

func (c *cluster) leader() *node {
	var found *node
	for _, n := range c.nodes {
		if n.up && n.core.role == Leader && (found == nil || n.core.hard.Term > found.core.hard.Term) {
			found = n
		}
	}
	return found
}

func (c *cluster) propose(n *node, count int) (accepted bool) {
	entries := make([]smr.Entry, count)
	for i := range entries {
		c.request++
		entries[i] = smr.Entry{Kind: smr.KindCommand, Data: binary.BigEndian.AppendUint64(nil, c.request)}
	}
	c.with(n, func(r *Raft) { accepted = r.Propose(c.now, entries) == nil })
	return accepted
}

// checkLogs checks log matching (Raft Figure 3): "if two logs contain an entry
// with the same index and term, then the logs are identical in all entries up
// through the given index."
func (c *cluster) checkLogs() {
	for i, a := range c.nodes {
		for _, b := range c.nodes[:i] {
			if !a.up || !b.up {
				continue
			}
			la, lb := &a.core.log, &b.core.log
			same := false
			for k := min(la.last, lb.last); k > max(la.snapshot.Index, lb.snapshot.Index); k-- {
				ta, _ := la.term(k)
				tb, _ := lb.term(k)
				same = same || ta == tb
				if same && ta != tb {
					c.violate("log matching: replicas %d and %d differ at %d", a.id, b.id, k)
				}
				if same && k >= la.first && k >= lb.first && string(la.at(k).Data) != string(lb.at(k).Data) {
					c.violate("log matching: replicas %d and %d have different commands at %d", a.id, b.id, k)
				}
			}
		}
	}
}

// heal ends all faults and demands progress: a leader, a new commit, and equal
// state on all members.
func (c *cluster) heal() {
	clear(c.block)
	c.faults = faults{diskMillis: 1}
	for _, n := range c.nodes {
		if !n.up {
			c.start(n)
		}
	}
	c.run(c.now + 2000*ms)
	l := c.leader()
	if l == nil {
		c.violate("liveness: no leader two seconds after healing")
		return
	}
	if !c.propose(l, 1) {
		c.violate("liveness: the leader takes no proposal")
		return
	}
	want := l.core.log.last
	c.run(c.now + 1000*ms)
	if c.violation != "" {
		return
	}
	for _, p := range l.core.members.peers {
		if n := c.nodes[p.id-1]; uint64(len(n.machine)) < want {
			c.violate("liveness: replica %d has applied %d of %d after healing (leader %d: %+v)", n.id, len(n.machine), want, l.id, l.core.Status())
		}
	}
	c.checkLogs()
}
