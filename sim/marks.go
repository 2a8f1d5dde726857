package sim

import (
	"fmt"
	"strings"
)

// Mark is a branch that the faults of a sweep should reach.
type Mark uint8

const (
	MarkElection Mark = iota
	MarkLeaderStepDown
	MarkTermRaised
	MarkTruncation
	MarkAppendRejected
	MarkVoteRefused
	MarkBatchAppend
	MarkLost
	MarkDuplicated
	MarkReordered
	MarkCutFull
	MarkCutPartial
	MarkCutOneWay
	MarkCutFlapping
	MarkCutLeader
	MarkCutShape
	MarkCrash
	MarkCrashLostWrite
	MarkCrashKeptWrite
	MarkCrashAll
	MarkHunted
	MarkPause
	MarkClockJump
	MarkStall
	MarkFetchFollower
	MarkFetchSelf
	MarkSnapshotNeeded
	MarkRestored
	MarkCompacted
	MarkReplay
	MarkDurableMachine
	MarkBusy
	MarkNotLeader
	MarkWrite
	MarkWriteReplaced
	MarkUnknown
	MarkRead
	MarkReadFailed
	MarkHealedCore
	MarkOutsiderSpeaks
	MarkOutsiderHears
	MarkFrame
	MarkBrokenConnection
	MarkCorruptFrame
	MarkTornFrame
	MarkHeld
	MarkForwarded
	MarkReproposed
	MarkFollowerRead
	MarkCrashMidSync
	MarkSyncFailed
	MarkDiskFull
	MarkStateFull
	MarkSegment
	MarkSecondGroup
	MarkPebble
	MarkOffer
	MarkSuffix
	MarkSuffixTaken
	MarkHealedStar
	MarkSnapshotTaken
	MarkSnapshotInstalled
	MarkSnapshotResumed
	MarkSnapshotAsked
	MarkCrashTaking
	MarkCrashReceiving
	MarkCrashAfterImage
	MarkCrashStore
	MarkApplyStall
	MarkOutsiderCrashes
	MarkOutsiderPauses
	MarkOutsiderFlaps
	MarkOutsiderSyncsFail
	MarkOutsiderFull
	MarkOutsiderSlowDisk
	MarkOutsiderDrifts
	MarkLargeCommand
	MarkBurst
	MarkFrameDropped
	MarkRetried
	MarkSlowHost
	MarkSlowLink
	MarkBitFlip
	MarkLostBatch
	MarkStrayBatch
	MarkDiskThrownAway
	MarkDamageRefused
	MarkDamageRead
	MarkDamageStopped
	MarkDiskFullLeader
	MarkDiskFullQuorum
	MarkTransferAsked
	MarkTransferCutOff
	MarkTransferred
	MarkRest
	MarkWoken
	MarkWokenByClient
	MarkWokenByForward
	MarkWokenByMessage
	MarkWokenByHost
	MarkPulseLost
	MarkPulseBack
	MarkPulseNewLife
	MarkDeathAtRest
	MarkDurableAck
	MarkDurableCommit
	MarkDurableReturn
	MarkLateWord
	MarkSearched
	MarkSearchUndecided
	MarkLocalRead
	MarkLeaseRead
	MarkGarbledFrame
	MarkBadFrame
	MarkNewer
	MarkNews
	MarkShardCompacted
	// Crashes at an operation on an image that is taken, and on one that is received,
	// in the order of imageOperations.
	MarkCrashTakingWrite
	MarkCrashTakingSync
	MarkCrashTakingRename
	MarkCrashTakingDirSync
	MarkCrashSending
	MarkCrashReceivingWrite
	MarkCrashReceivingSync
	MarkCrashReceivingRename
	MarkCrashReceivingDirSync
	MarkCrashReceived
	MarkBackup
	MarkBackupFollower
	MarkBackupBesideApply
	MarkBackupCompacted
	MarkBackupOvertaken
	MarkBackupCrash
	MarkBackupCut
	MarkBackupRefused
	markCount
)

var markNames = [markCount]string{
	"election", "leader-step-down", "term-raised", "truncation", "append-rejected", "vote-refused", "batch-append",
	"lost", "duplicated", "reordered", "cut-full", "cut-partial", "cut-one-way", "cut-flapping", "cut-leader", "cut-shape",
	"crash", "crash-lost-write", "crash-kept-write", "crash-all", "hunted", "pause", "clock-jump", "stall",
	"fetch-follower", "fetch-self", "snapshot-needed", "restored", "compacted", "replay", "durable-machine",
	"busy", "not-leader", "write", "write-replaced", "unknown", "read", "read-failed",
	"healed-core", "outsider-speaks", "outsider-hears",
	"frame", "broken-connection", "corrupt-frame", "torn-frame", "held-frame", "forwarded", "reproposed", "follower-read",
	"crash-mid-sync", "sync-failed", "disk-full", "state-full", "segment-recycled", "second-group", "pebble",
	"offer", "suffix", "suffix-taken", "healed-star",
	"snapshot-taken", "snapshot-installed", "snapshot-resumed", "snapshot-asked", "crash-taking", "crash-receiving",
	"crash-after-image", "crash-store", "apply-stall",
	"outsider-crashes", "outsider-pauses", "outsider-flaps", "outsider-syncs-fail", "outsider-full", "outsider-slow-disk", "outsider-drifts",
	"large-command", "burst", "frame-dropped", "retried", "slow-host", "slow-link", "bit-flip", "lost-batch", "stray-batch", "disk-thrown-away", "damage-refused", "damage-read", "damage-stopped", "disk-full-leader", "disk-full-quorum", "transfer-asked", "transfer-cut-off", "transferred",
	"rest", "woken", "woken-by-client", "woken-by-forward", "woken-by-message", "woken-by-host", "pulse-lost", "pulse-back", "pulse-new-life",
	"death-at-rest",
	"durable-ack", "durable-commit", "durable-return", "late-word", "searched", "search-undecided", "local-read", "lease-read",
	"garbled-frame", "bad-frame", "newer-version", "news",
	"compacted-for-shard",
	"crash-taking-write", "crash-taking-sync", "crash-taking-rename", "crash-taking-dir-sync", "crash-sending",
	"crash-receiving-write", "crash-receiving-sync", "crash-receiving-rename", "crash-receiving-dir-sync", "crash-received",
	"backup", "backup-follower", "backup-beside-apply", "backup-compacted", "backup-overtaken", "backup-crash", "backup-cut", "backup-refused",
}

// MarkNamed returns the mark of that name.
func MarkNamed(name string) (Mark, bool) {
	for m, n := range markNames {
		if n == name {
			return Mark(m), true
		}
	}
	return 0, false
}

func (m Mark) String() string { return markNames[m] }

// Marks counts how often each mark was hit.
type Marks [markCount]uint64

func (m *Marks) hit(k Mark) { m[k]++ }

func (m *Marks) add(o *Marks) {
	for i, n := range o {
		m[i] += n
	}
}

// Missed returns those of the wanted marks that were never hit.
func (m *Marks) Missed(wanted ...Mark) []Mark {
	var missed []Mark
	for _, k := range wanted {
		if m[k] == 0 {
			missed = append(missed, k)
		}
	}
	return missed
}

// String lists the marks that were hit.
func (m *Marks) String() string {
	var b strings.Builder
	for k, n := range m {
		if n > 0 {
			fmt.Fprintf(&b, "%s %d  ", markNames[k], n)
		}
	}
	return strings.TrimSpace(b.String())
}
