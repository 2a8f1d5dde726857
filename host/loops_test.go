package host

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/smr"
)

// "The alarm is left as it is while it goes off no later than it should": a loop
// that sleeps until an instant is awake by then, whatever was wanted before, and
// the timer is not touched for an instant after the one that it is set for.
func TestAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		epoch := time.Now()
		now := func() smr.Instant { return smr.Instant(time.Since(epoch)) + 1 }
		wake := make(chan struct{}, 1)
		a := newAlarm(wake)
		defer a.timer.Stop()
		sleep := func(until smr.Instant) (woken int) {
			for now() < until {
				a.wakeAt(until, now())
				<-wake
				woken++
			}
			return woken
		}
		start := now()
		a.wakeAt(start.Add(10*time.Millisecond), start)
		if woken := sleep(start.Add(30 * time.Millisecond)); woken != 2 || now() != start.Add(30*time.Millisecond) {
			t.Errorf("after an alarm at 10 ms it slept until 30 ms: awake at %v, woken %d times and not twice", now().Sub(start), woken)
		}
		start = now()
		a.wakeAt(start.Add(time.Hour), start)
		if woken := sleep(start.Add(5 * time.Millisecond)); woken != 1 || now() != start.Add(5*time.Millisecond) {
			t.Errorf("an alarm in an hour held up one in 5 ms: awake at %v, woken %d times", now().Sub(start), woken)
		}
		start = now()
		a.wakeAt(smr.Never, start)
		time.Sleep(24 * time.Hour)
		if len(wake) != 0 {
			t.Error("woken although nothing was to happen")
		}
	})
}
