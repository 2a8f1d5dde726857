package host

import (
	"time"

	"github.com/quorate/quorate/smr"
)

// groupClock is the time that a shard's groups see. It is the host's, but for one
// thing: while the shard goes through its work once, it moves on by a heartbeat
// interval at most, and no more than that beyond the instant at which an idle
// shard wanted its next turn. So each group gets a turn within each interval that
// it can notice, however many have work; and a host that was paused finds that no
// time has passed.
//
// The reason: thousands of groups may have more work than fits into an election
// timeout, when they start or when a host has died. By the host's own time their
// timers then run out for no other reason than that, each candidate makes more
// work, and it never ends. What is late by this clock is nobody's safety: no lease
// rests on it. What clients are promised, their deadlines, goes by the host's time.
//
// Invariant: now <= limit; now never goes back.
type groupClock struct {
	lag   time.Duration // what the host's time is ahead
	now   smr.Instant
	limit smr.Instant
	// left is how many of the groups that had work when the pass began still wait
	// for their turn.
	left int
}

// read returns the groups' time at the host's instant real.
func (c *groupClock) read(real smr.Instant) smr.Instant {
	now := real - smr.Instant(c.lag)
	if now > c.limit {
		c.lag += now.Sub(c.limit)
		now = c.limit
	}
	c.now = max(c.now, now)
	return c.now
}

// host returns the host's time at which the clock will show now.
func (c *groupClock) host(now smr.Instant) smr.Instant {
	if now == smr.Never {
		return now
	}
	return now + smr.Instant(c.lag)
}

// groups returns what the clock will show at the host's instant real.
func (c *groupClock) groups(real smr.Instant) smr.Instant {
	if real == smr.Never {
		return real
	}
	return real - smr.Instant(c.lag)
}

// endTurn notes that taken groups have had a turn, and begins another pass when
// this one is over: active groups wait now. next is when the shard wants a
// turn, if none waits.
func (c *groupClock) endTurn(taken, active int, framesLeft bool, next smr.Instant, interval time.Duration) {
	if c.left -= taken; c.left > 0 || framesLeft {
		return
	}
	c.left = active
	from := c.now
	if active == 0 {
		from = next
	}
	if c.limit = smr.Never; from != smr.Never {
		c.limit = max(c.now, from).Add(interval)
	}
}
