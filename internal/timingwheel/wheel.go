// Package timingwheel is a timing wheel: one runtime timer serves any number of
// timeouts, so that 100,000 idle connections need one timer and not 100,000.
package timingwheel

import (
	"math"
	"math/bits"
	"sync"
	"time"
)

const (
	slots = 512
	words = slots / 64

	// isDue is the value of Timer.at for a timer in Wheel.due.
	isDue = -1
)

// Wheel fires Timers with the resolution of its tick: at most one tick early, and not
// late unless the machine is overloaded. It has no goroutine, and while no Timer is
// armed it has no running timer either.
//
// All methods may be called concurrently. Callbacks run without a lock, one after
// another, on the goroutine of the runtime timer, and must not block.
type Wheel struct {
	tick  time.Duration
	start time.Time

	mu          sync.Mutex // guards the fields below, and prev, next and at of every Timer
	closed      bool
	lastRun     int64 // last tick whose slot was run
	timerSetFor int64 // tick that the runtime timer is set for; 0 while it is not set
	timer       *time.Timer
	occupied    [words]uint64 // bitmap of the slots that hold timers
	slot        [slots]*Timer
	due         *Timer // timers taken out of their slots, to be fired one by one
	visited     int    // number of timers that runSlotLocked visited, for the tests
	fire        func() // the method run; made once, so that setLocked does not allocate
}

// Timer is one timeout. A struct that needs a timeout embeds a Timer, so that arming it
// allocates nothing. F must be set before the first Arm.
type Timer struct {
	F          func()
	prev, next *Timer
	at         int64 // tick in which it fires; 0 while it is not armed, isDue while it is in Wheel.due
}

// New returns a wheel. Tick must be positive.
func New(tick time.Duration) *Wheel {
	w := &Wheel{tick: tick, start: time.Now().Add(-tick)}
	w.fire = w.run
	return w
}

// Arm schedules t to fire after d. If t was armed already, its earlier deadline is
// replaced.
func (w *Wheel) Arm(t *Timer, d time.Duration) {
	now := time.Since(w.start)
	at := int64(now+min(d, math.MaxInt64-now)) / int64(w.tick)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.unlinkLocked(t)
	t.at = max(at, w.lastRun+1)
	i := t.at % slots
	t.next = w.slot[i]
	if t.next != nil {
		t.next.prev = t
	}
	w.slot[i] = t
	w.occupied[i/64] |= 1 << (i % 64)
	if w.timerSetFor == 0 || t.at < w.timerSetFor {
		w.setLocked(t.at)
	}
}

// Stop disarms t and reports whether it was armed. It does not wait for a callback that
// has begun.
func (w *Wheel) Stop(t *Timer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unlinkLocked(t)
}

// Armed reports whether t is waiting to fire. A callback that finds its timer armed
// knows that another goroutine armed it again while the callback began.
func (w *Wheel) Armed(t *Timer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return t.at != 0 && !w.closed
}

// Close disarms all timers. After it only callbacks that have begun still run.
func (w *Wheel) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.slot, w.occupied, w.due = [slots]*Timer{}, [words]uint64{}, nil
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *Wheel) unlinkLocked(t *Timer) bool {
	if t.at == 0 || w.closed {
		return false
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	switch i := t.at % slots; {
	case t.prev != nil:
		t.prev.next = t.next
	case t.at == isDue:
		w.due = t.next
	default:
		if w.slot[i] = t.next; t.next == nil {
			w.occupied[i/64] &^= 1 << (i % 64)
		}
	}
	t.prev, t.next, t.at = nil, nil, 0
	return true
}

// setLocked points the runtime timer at a tick.
func (w *Wheel) setLocked(at int64) {
	w.timerSetFor = at
	d := time.Duration(at)*w.tick - time.Since(w.start)
	if w.timer == nil {
		w.timer = time.AfterFunc(d, w.fire)
	} else {
		w.timer.Reset(d)
	}
}

// run fires the timers that are due and points the runtime timer at the next occupied
// slot.
func (w *Wheel) run() {
	now := int64(time.Since(w.start) / w.tick)
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.lastRun < now && !w.closed {
		// After a long sleep one round covers every slot.
		w.lastRun = max(w.lastRun, now-slots) + 1
		w.runSlotLocked(w.lastRun%slots, now)
	}
	w.timerSetFor = 0
	if d, ok := w.occupiedDistanceLocked((w.lastRun + 1) % slots); ok && !w.closed {
		w.setLocked(w.lastRun + 1 + d)
	}
}

// runSlotLocked fires the timers of slot i that are due. It first moves them all to
// w.due, because it unlocks for each callback: meanwhile other goroutines may change
// the slot, or stop or re-arm a timer that is due.
func (w *Wheel) runSlotLocked(i, now int64) {
	var last *Timer
	for t := w.slot[i]; t != nil; {
		w.visited++
		next := t.next
		if t.at <= now {
			w.unlinkLocked(t)
			if t.at, t.prev = isDue, last; last == nil {
				w.due = t
			} else {
				last.next = t
			}
			last = t
		}
		t = next
	}
	for w.due != nil {
		t := w.due
		w.unlinkLocked(t)
		f := t.F
		w.mu.Unlock()
		f()
		w.mu.Lock()
	}
}

// occupiedDistanceLocked returns the distance from slot i to the next occupied slot.
func (w *Wheel) occupiedDistanceLocked(i int64) (int64, bool) {
	for n := range int64(words + 1) {
		k := (i/64 + n) % words
		set := w.occupied[k]
		if n == 0 {
			set &= ^uint64(0) << (i % 64)
		}
		if set != 0 {
			return (k*64 + int64(bits.TrailingZeros64(set)) - i + slots) % slots, true
		}
	}
	return 0, false
}
