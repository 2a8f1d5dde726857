package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/host"
	"github.com/quorate/quorate/smr"
)

// fullWorld is a cluster of whole hosts in one seed's world: host.Runtime with
// its log on a crashable file system, its codecs, workers and forwarding, and a
// network of connections that carry frames.
//
// Every Turn of every host is an occurrence of its own; the seed draws how long
// each lets wait, so the order of turns is the seed's.
type fullWorld struct {
	common
	features features
	full     fullFeatures
	without  host.Protections
	// byHand: a script restarts the hosts whose power it has taken.
	byHand bool
	// beyond: more disks do harm than the promises allow.
	beyond bool

	groups  []*simGroup
	hosts   []*simHost
	net     wires
	clients []*fullClient
	clockR  source
	turnR   source
	diskR   source
	fuseR   source
	faultR  source
	loadR   source
	tellR   source
	frameR  source
	newerR  source
	briefR  source
	aimR    source
	frames  frameReader
	local   localReads
	backups backups
}

// fullFeatures are what a seed draws beside features.
type fullFeatures struct {
	groups, shards int
	segmentBytes   int64
	// breakPermille of the frames break their connection instead of arriving.
	breakPermille, corruptPermille int
	// garblePermille of the frames arrive garbled; newerPermille of the lives of hosts
	// are of a newer version.
	garblePermille, newerPermille int
	// noticePermille of the broken connections are noticed at once.
	noticePermille int
	// patientPermille of the connections outlive a cut.
	patientPermille int
	// keepPercent of the unsynced sectors survive a loss of power; killPermille
	// of the crashes end the process alone.
	keepPercent, killPermille int
	// crashOpPermille of the restarts are cut off at one of the next operations
	// of the file system, drawn below crashOpMax.
	crashOpPermille, crashOpMax int
	syncFailPermille            int
	diskFull                    bool
	pebble                      bool
	// lateWord: a shard hears of a sync a while after it, and writes in between.
	lateWord bool
	// brief: leaders reach few others, and fall soon.
	brief     bool
	snapshots snapshotFeatures
	damage    damageFeatures
	slow      slowFeatures
	backups   backupFeatures
	load      loadFeatures
}

// simGroup is a group of the cluster, with a ledger of its own.
type simGroup struct {
	*ledger
	id      smr.GroupID
	history history
	// refused are the commands of which a client was told that they are not
	// done and never will be.
	refused []uint64
	// handedTo was asked last to take over as leader, until somebody leads.
	handedTo smr.ReplicaID
	halves   struct{ writes, reads int }
	// spoken is what the newest leader has told of its log, by index. maxCommit is
	// the highest commit index of any replica so far, all of which was on disk on a
	// quorum.
	spoken    []spoken
	maxCommit uint64
}

func drawFull(seed uint64) fullFeatures {
	rng := fork(seed, 7)
	s := &rng
	f := fullFeatures{
		groups:          pick(s, 1, 1, 1, 2),
		shards:          pick(s, 1, 1, 2),
		segmentBytes:    pick[int64](s, 16<<10, 16<<10, 64<<10, 1<<20),
		noticePermille:  pick(s, 0, 500, 1000),
		patientPermille: pick(s, 0, 0, 500, 1000),
		keepPercent:     pick(s, 0, 30, 50, 90),
		killPermille:    pick(s, 0, 300, 800),
		crashOpPermille: pick(s, 0, 0, 300, 800),
		crashOpMax:      pick(s, 5, 40, 300),
		pebble:          s.permille(150),
	}
	if s.permille(400) {
		f.breakPermille = pick(s, 1, 10, 50)
		f.corruptPermille = pick(s, 0, 5)
	}
	if s.permille(200) {
		f.syncFailPermille = pick(s, 1, 5)
	}
	f.diskFull = s.permille(150)
	f.snapshots = drawSnapshots(seed)
	f.slow = drawSlow(seed)
	f.load = drawLoad(seed)
	f.backups = drawBackups(seed)
	own := fork(seed, 41)
	f.lateWord = own.permille(500)
	own = fork(seed, 30)
	if own.permille(250) {
		f.garblePermille = pick(&own, 2, 10, 30)
	}
	if own.permille(400) {
		f.newerPermille = pick(&own, 300, 700)
	}
	own = fork(seed, 35)
	f.brief = own.permille(80)
	return f
}

// fit makes features of the core world those of whole hosts, which take longer to
// run. A star needs logs that reach back (see drawStar), so those that are
// compacted go first.
func (x *fullFeatures) fit(f *features) {
	f.learners = 0
	f.chaos = 20 + f.chaos/2
	if f.every {
		x.everyFault()
	}
	f.star = f.star && !x.snapshots.on
	if x.brief = x.brief && !f.every; x.brief {
		x.briefLeaders(f)
	}
	if x.pebble {
		x.load.largePermille, x.load.burst = 0, 0 // its commands are others
	}
	if f.oneByOne() {
		x.load.burst = 0 // entries that go one by one pile up for longer than a run lasts
	}
	// What only the core world has.
	f.lossPermille, f.dupPermille, f.syncCutPermille, f.keepPermille, f.batchMax = 0, 0, 0, 0, 1
	if !x.snapshots.on {
		f.dropAction(actCompact)
	}
	if x.diskFull {
		f.actions = append(f.actions, actDiskFull)
	}
}

// oneByOne: entries go to a follower a few at a time, and wait for its answer.
func (f *features) oneByOne() bool {
	return f.inflightMessages > 0 && f.appendEntriesMax+f.appendBytesMax > 0
}

// newFullWorld builds the world of a seed.
func newFullWorld(seed uint64, o *Options) (*fullWorld, error) {
	w := &fullWorld{
		common: newCommon(seed, o), features: drawFeatures(seed, o), full: drawFull(seed),
		clockR: fork(seed, 4), diskR: fork(seed, 5), turnR: fork(seed, 6),
		beyond: o.Beyond, fuseR: fork(seed, 10), faultR: fork(seed, 20), loadR: fork(seed, 27), tellR: fork(seed, 40), frameR: fork(seed, 31), newerR: fork(seed, 32), aimR: fork(seed, 34), briefR: fork(seed, 36), local: newLocalReads(seed),
		backups: backups{rng: fork(seed, 33), torn: o.tornBackups},
	}
	f := &w.features
	w.full.damage = drawDamage(seed, o.Beyond)
	w.full.fit(f)
	f.electionTimeout = max(f.electionTimeout, 150*time.Millisecond)
	if f.turnDelayMax == 0 {
		f.turnDelayMax = f.electionTimeout / 1000
	}
	if o.Quiet {
		f.quieten()
		w.full.snapshots.quieten()
		w.full = fullFeatures{groups: w.full.groups, shards: w.full.shards, segmentBytes: w.full.segmentBytes, snapshots: w.full.snapshots}
	}
	if f.star {
		// The middle of the star fetches what it lacks from the logs of the others
		// (election catch-up): they must reach back to it. A snapshot reaches a
		// replica through a leader alone.
		w.full.snapshots.on = false
	}
	err := o.limit(f, &w.full)
	if err != nil {
		return nil, err
	}
	if w.without, err = protections(o.Without); err != nil {
		return nil, err
	}
	w.net = wires{w: w, rng: fork(seed, 3), unchecked: slices.Contains(o.Without, "frame-checksum")}
	var members smr.Configuration
	for i := range f.replicas {
		members.Members = append(members.Members, smr.Member{ID: smr.ReplicaID(i + 1), Role: smr.Voter})
	}
	for i := range w.full.groups {
		g := &simGroup{ledger: w.ledger, id: smr.GroupID(i + 1)}
		if i > 0 {
			g.ledger = newLedger(o.Skip)
			w.marks.hit(MarkSecondGroup)
		}
		if w.full.pebble {
			g.identify = identifyPut
		}
		g.made = &w.commandIDs
		w.groups = append(w.groups, g)
	}
	for i := range f.replicas {
		h := newSimHost(w, i, members)
		w.hosts = append(w.hosts, h)
		w.queue.push(occurrence{at: smr.Instant(w.nemesis.between(0, f.delayMax)), what: whatRestart, who: uint8(i)})
	}
	w.drawAtlas()
	w.drawSlowOnes()
	for i := range f.clients {
		w.clients = append(w.clients, &fullClient{client: *newClient(seed, i, f.electionTimeout)})
		w.queue.push(occurrence{at: smr.Instant(f.electionTimeout), what: whatClient, ref: int32(i)})
	}
	w.nextNemesis()
	w.nextBackup()
	w.queue.push(occurrence{at: smr.Instant(f.electionTimeout) * smr.Instant(f.chaos), what: whatPhase})
	return w, nil
}

func runFull(seed uint64, o *Options) (Result, error) {
	w, err := newFullWorld(seed, o)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	w.happen(w.dispatch)
	if w.found == nil && !w.concluded {
		w.guarded(w.checkEnd)
	}
	for _, h := range w.hosts {
		h.close()
	}
	res := Result{Seed: seed, Mode: Full, Virtual: time.Duration(w.now), Messages: w.sent, Recovery: w.recovery(w.features.electionTimeout)}
	for _, g := range w.groups {
		res.Applied += uint64(len(g.commits))
		res.Operations += len(g.history.ops)
		w.note(0xff, uint64(len(g.commits)), g.floor, w.steps)
	}
	if w.found != nil {
		w.trace(Event{Kind: EventViolation, Text: w.found.Error()})
	}
	res.Violation, res.Digest, res.Marks = w.found, w.digest, w.marks
	return res, nil
}

func (w *fullWorld) dispatch(o *occurrence) {
	for _, g := range w.groups {
		g.now = w.now
	}
	w.act(o)
	for _, g := range w.groups {
		if w.found == nil && g.found != nil {
			w.found = g.found
			w.found.Detail = fmt.Sprintf("group %d: %s", g.id, g.found.Detail)
		}
	}
}

func (w *fullWorld) act(o *occurrence) {
	switch o.what {
	case whatDeliver:
		w.net.deliver(o)
	case whatNemesis:
		w.nemesisActs()
	case whatHeal, whatFlap:
		w.heal(o)
	case whatClient, whatDeadline:
		w.clientActs(o)
	case whatPhase:
		w.nextPhase()
	case whatBackup:
		w.backupActs(o)
	default:
		w.hostActs(w.hosts[o.who], o)
	}
}

func (w *fullWorld) timeouts(n int) time.Duration {
	return w.features.electionTimeout * time.Duration(n)
}
