package sim

import (
	"slices"
	"time"

	"github.com/quorate/quorate/raft"
)

// features are what a seed drew: which faults take part at all, and the sizes
// of everything. Leaving a feature out for a whole seed finds what a mixture of
// everything hides (Groce et al. 2012, "Swarm testing").
type features struct {
	replicas, learners int
	electionTimeout    time.Duration
	heartbeats         int // intervals in an election timeout
	chaos              int // length of the first phase, in election timeouts

	delayMin, delayMax         time.Duration
	lossPermille, dupPermille  int
	slowPermille               int // messages that take up to slowMax instead
	slowMax                    time.Duration
	nemesisMin, nemesisMax     time.Duration
	actions                    []action
	hunter                     bool
	syncCutPermille            int // syncs that a crash cuts off
	clockDriftPPM              int
	syncMin, syncMax, stallMax time.Duration
	stallPermille              int
	keepPermille               int
	turnDelayMax               time.Duration
	applyDelayMax              time.Duration
	durableMachine             bool
	compaction                 bool

	lease bool // leaders answer reads by a lease

	clients, keys    int
	batchMax         int
	thinkMax         time.Duration
	valueBytes       int
	strayPermille    int // requests that go to any replica, not the leader
	appendEntriesMax int
	appendBytesMax   int
	inflightMessages int
	tailBytes        int
	backlogBytes     int
	committedBytes   int
	uncommittedBytes int
	tailOnRestart    int
	quiet            bool // no faults at all
	eager            bool // replicas that begin stand soon
	// rest: groups rest; renewed that often. In the first calmFor of each calmEvery
	// no client asks for anything.
	rest               bool
	restRenewal        time.Duration
	calmFor, calmEvery time.Duration
	// star: the core is healed as a star alone. The others see its middle, which
	// is the only one that can lead, and whose log may be an old one
	// (constrained election).
	star bool
	// every: all faults take part (Options.EveryFault).
	every bool
}

// drawFeatures draws a seed's features for the core world.
func drawFeatures(seed uint64, o *Options) features {
	rng := fork(seed, 1)
	s := &rng
	et := pick(s, 100*time.Millisecond, 150*time.Millisecond, 300*time.Millisecond, time.Second)
	f := features{
		replicas:        pick(s, 3, 3, 3, 5, 5),
		electionTimeout: et,
		heartbeats:      pick(s, 3, 5, 5, 10),
		chaos:           30 + s.n(50),
		delayMin:        et / 400,
		delayMax:        et / time.Duration(pick(s, 100, 40, 15, 8)),
		keepPermille:    pick(s, 0, 300, 500, 900),
		nemesisMin:      et / 2,
		nemesisMax:      et * time.Duration(pick(s, 3, 6, 12)),
		hunter:          s.permille(400),
		syncCutPermille: pick(s, 0, 0, 1, 10, 30),
		durableMachine:  s.permille(300),
		compaction:      s.permille(400),
		clients:         2 + s.n(4),
		keys:            1 + s.n(4),
		batchMax:        pick(s, 1, 1, 3, 12),
		thinkMax:        et / time.Duration(pick(s, 1, 3, 10)),
		valueBytes:      pick(s, commandBytesMin, commandBytesMin, 40, 400),
		strayPermille:   pick(s, 20, 100, 400),
		tailOnRestart:   pick(s, 0, 1, 10, 1<<30),
	}
	if s.permille(100) {
		f.replicas = pick(s, 1, 2, 4)
	}
	if s.permille(150) {
		f.learners = 1
	}
	f.drawNetwork(s)
	f.drawDisk(s)
	f.drawLimits(s)
	f.drawActions(s)
	if s.permille(120) {
		f.chaseLeaders(s)
	}
	if own := fork(seed, 9); own.permille(250) {
		f.drawStar(&own)
	}
	own := fork(seed, 11)
	f.drawRest(&own)
	own = fork(seed, 12)
	f.eager = own.permille(300)
	own = fork(seed, 37)
	if f.lease = own.permille(400); f.lease {
		f.dropAction(actClockJump) // no drift bound holds for it
	}
	if o.EveryFault {
		f.everyFault()
	}
	if o.Quiet {
		f.quieten()
	}
	return f
}

func (f *features) drawNetwork(s *source) {
	if s.permille(500) {
		f.lossPermille = pick(s, 5, 50, 200)
	}
	if s.permille(500) {
		f.dupPermille = pick(s, 5, 50, 200)
	}
	if s.permille(500) {
		f.slowPermille = pick(s, 5, 30, 100)
		f.slowMax = f.electionTimeout * time.Duration(pick(s, 1, 3, 8))
	}
	if s.permille(400) {
		f.clockDriftPPM = pick(s, 1000, 100_000, 300_000, 300_000)
	}
	if s.permille(500) {
		f.turnDelayMax = f.delayMax * time.Duration(pick(s, 1, 2))
	}
	if s.permille(400) {
		f.applyDelayMax = f.electionTimeout / time.Duration(pick(s, 1, 5, 20))
	}
}

func (f *features) drawDisk(s *source) {
	f.syncMin = f.electionTimeout / 1000
	f.syncMax = f.electionTimeout / time.Duration(pick(s, 400, 50, 10))
	if s.permille(300) {
		f.stallPermille = pick(s, 2, 20)
		f.stallMax = f.electionTimeout * time.Duration(pick(s, 1, 4))
	}
}

func (f *features) drawLimits(s *source) {
	if s.permille(450) {
		f.appendEntriesMax = pick(s, 1, 1, 1, 2, 5)
	}
	if s.permille(200) {
		f.appendBytesMax = pick(s, 1, 300, 2000)
	}
	if s.permille(300) {
		f.inflightMessages = pick(s, 1, 2, 8)
	}
	if s.permille(300) {
		f.tailBytes = pick(s, 1, 500, 5000)
	}
	if s.permille(200) {
		f.committedBytes = pick(s, 1, 400)
		f.backlogBytes = pick(s, 400, 4000)
	}
	if s.permille(150) {
		f.uncommittedBytes = pick(s, 400, 3000)
	}
}

// action is one thing that the nemesis can do.
type action uint8

const (
	actCrash action = iota
	actCrashLeader
	actCrashAll
	actCutFull
	actCutPartial
	actCutOneWay
	actCutFlapping
	actCutLeader
	actCutShape
	actPause
	actClockJump
	actCompact
	actTransfer
	actionCount

	// actDiskFull is of whole hosts alone (full-disks).
	actDiskFull = actionCount
)

func (f *features) drawActions(s *source) {
	for a := actCrash; a < actionCount; a++ {
		switch a {
		case actCompact:
			if f.compaction {
				f.actions = append(f.actions, a, a)
			}
		case actTransfer, actCrashAll:
			if s.permille(150) {
				f.actions = append(f.actions, a)
			}
		default:
			if s.permille(450) {
				f.actions = append(f.actions, a)
			}
		}
	}
}

// chaseLeaders is the world of Raft's Figure 8: five replicas, one entry in a
// message and few under way, and leaders that do not last. Entries then stay
// behind on few replicas, under several terms.
func (f *features) chaseLeaders(s *source) {
	f.oneEntryEach(pick(s, 1, 1, 2))
	f.batchMax, f.lossPermille = pick(s, 1, 3), pick(s, 0, 0, 100)
	f.actions = append(f.actions[:0], actCrashLeader, actCutLeader)
	if s.flip() {
		f.actions = append(f.actions, actCrash)
	}
}

// oneEntryEach lets each message carry one entry, and so many be under way to a
// replica. What else holds entries up, or brings many at once, is left out.
func (f *features) oneEntryEach(window int) {
	f.replicas, f.learners, f.hunter = 5, 0, true
	f.appendEntriesMax, f.inflightMessages = 1, window
	f.slowPermille, f.dupPermille = 0, 0
	f.stallPermille, f.compaction, f.applyDelayMax, f.turnDelayMax = 0, false, 0, 0
	f.nemesisMin, f.nemesisMax = f.electionTimeout/4, 3*f.electionTimeout
	f.thinkMax, f.strayPermille = f.electionTimeout/10, 100
}

// drawStar leaves a star of the core. Of three replicas each could lead then, and
// one at an end would keep the other for good from what it commits; so there are
// more. A log that is compacted cannot be caught up with by an election, it takes
// a leader and its snapshot.
func (f *features) drawStar(s *source) {
	f.star, f.compaction, f.durableMachine = true, false, false
	f.replicas = pick(s, 4, 5, 5, 5)
	f.dropAction(actCompact)
	f.actions = append(f.actions, actCutShape)
}

func (f *features) dropAction(a action) {
	f.actions = slices.DeleteFunc(f.actions, func(other action) bool { return other == a })
}

// quieten takes every fault out: what is left must simply work.
func (f *features) quieten() {
	f.lossPermille, f.dupPermille, f.slowPermille, f.stallPermille = 0, 0, 0, 0
	f.quiet, f.star = true, false
	f.clockDriftPPM, f.hunter, f.actions, f.syncCutPermille = 0, false, nil, 0
}

// config is the core's configuration for this seed.
func (f *features) config() raft.Config {
	return raft.Config{
		Group:                1,
		ElectionTimeout:      f.electionTimeout,
		HeartbeatInterval:    f.electionTimeout / time.Duration(f.heartbeats),
		AppendEntriesMax:     f.appendEntriesMax,
		AppendBytesMax:       f.appendBytesMax,
		InflightMessagesMax:  f.inflightMessages,
		TailBytesMax:         f.tailBytes,
		CommittedBytesMax:    f.committedBytes,
		ApplyBacklogBytesMax: f.backlogBytes,
		UncommittedBytesMax:  f.uncommittedBytes,
		Rest:                 f.rest,
		RestRenewal:          f.restRenewal,
		EagerStart:           f.eager,
		LeaderLease:          f.lease,
		ClockDriftMax:        max(1, f.clockDriftPPM),
	}
}
