// Package wheel is a timing wheel: one runtime timer for any number of
// timeouts, so that a hundred thousand idle connections cost no timer each.
package wheel

import (
	"math"
	"math/bits"
	"sync"
	"time"
)

const (
	slots = 512
	words = slots / 64

	// isDue is the tick of a timer that stands in Wheel.due.
	isDue = -1
)

// Wheel fires Timers with the resolution of its tick: up to one tick early and,
// short of a starved machine, not late. It runs nothing while no timer is armed.
//
// Wheel.mu guards the slots and every Timer's links; callbacks run without it,
// one after another, on a goroutine of the runtime's timer, and must not block.
type Wheel struct {
	tick  time.Duration
	start time.Time

	mu     sync.Mutex
	closed bool
	done   int64 // last tick whose slot was run
	next   int64 // tick that the runtime timer is set for; 0 when it is not set
	timer  *time.Timer
	armed  [words]uint64 // which slots hold timers
	slot   [slots]*Timer
	due    *Timer // taken out of their slot, to be fired one by one
	looked int    // timers that runSlot has looked at, for the tests
	fire   func()
}

// Timer is one timeout. It is embedded in what it times, so that arming it
// allocates nothing; F must be set before the first Arm.
type Timer struct {
	F          func()
	prev, next *Timer
	at         int64 // tick it fires in; 0 when it is not armed, isDue in Wheel.due
}

// New returns a wheel. Tick must be positive.
func New(tick time.Duration) *Wheel {
	w := &Wheel{tick: tick, start: time.Now().Add(-tick)}
	w.fire = w.run
	return w
}

// Arm schedules t to fire in d, instead of when it was scheduled before.
func (w *Wheel) Arm(t *Timer, d time.Duration) {
	now := time.Since(w.start)
	at := int64(now+min(d, math.MaxInt64-now)) / int64(w.tick)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.unlink(t)
	t.at = max(at, w.done+1)
	i := t.at % slots
	t.next = w.slot[i]
	if t.next != nil {
		t.next.prev = t
	}
	w.slot[i] = t
	w.armed[i/64] |= 1 << (i % 64)
	if w.next == 0 || t.at < w.next {
		w.set(t.at)
	}
}

// Stop disarms t and reports whether it was armed. A callback that has begun is
// not waited for.
func (w *Wheel) Stop(t *Timer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.unlink(t)
}

// Armed reports whether t is waiting to fire. A callback that finds its timer
// armed was overtaken by another Arm while it began.
func (w *Wheel) Armed(t *Timer) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return t.at != 0 && !w.closed
}

// Close disarms everything; nothing fires afterwards but a callback that has
// begun.
func (w *Wheel) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.slot, w.armed, w.due = [slots]*Timer{}, [words]uint64{}, nil
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *Wheel) unlink(t *Timer) bool {
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
			w.armed[i/64] &^= 1 << (i % 64)
		}
	}
	t.prev, t.next, t.at = nil, nil, 0
	return true
}

// set points the runtime timer at a tick.
func (w *Wheel) set(at int64) {
	w.next = at
	d := time.Duration(at)*w.tick - time.Since(w.start)
	if w.timer == nil {
		w.timer = time.AfterFunc(d, w.fire)
	} else {
		w.timer.Reset(d)
	}
}

// run fires what is due and points the runtime timer at the next occupied slot.
func (w *Wheel) run() {
	now := int64(time.Since(w.start) / w.tick)
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.done < now && !w.closed {
		// After a long sleep one round covers every slot.
		w.done = max(w.done, now-slots) + 1
		w.runSlot(w.done%slots, now)
	}
	w.next = 0
	if d, ok := w.distance((w.done + 1) % slots); ok && !w.closed {
		w.set(w.done + 1 + d)
	}
}

// runSlot fires the timers of a slot that are due. They are all taken out of it
// first: the lock is let go for each callback, and whoever has it meanwhile may
// change the slot, or stop or move a timer that is due.
func (w *Wheel) runSlot(i, now int64) {
	var last *Timer
	for t := w.slot[i]; t != nil; {
		w.looked++
		next := t.next
		if t.at <= now {
			w.unlink(t)
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
		w.unlink(t)
		f := t.F
		w.mu.Unlock()
		f()
		w.mu.Lock()
	}
}

// distance returns how many slots after i the next occupied one is.
func (w *Wheel) distance(i int64) (int64, bool) {
	for n := range int64(words + 1) {
		k := (i/64 + n) % words
		set := w.armed[k]
		if n == 0 {
			set &= ^uint64(0) << (i % 64)
		}
		if set != 0 {
			return (k*64 + int64(bits.TrailingZeros64(set)) - i + slots) % slots, true
		}
	}
	return 0, false
}
