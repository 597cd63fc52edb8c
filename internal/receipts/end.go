// The end of an event, and what is known of it after that.

package receipts

import (
	"slices"
	"time"
)

// End ends the tracking of an event, and returns when no Send of it is running. It is not reported then. here says that this
// node has learned of the end first. End reports whether that is news: the event was tracked and had not ended, or it has expired
// here, nobody has reported that, and the end comes a little late.
func (t *Table[K, V]) End(r Ref, here bool) bool {
	t.mu.Lock()
	e := t.findLocked(r)
	if e == nil || !e.ended.IsZero() {
		defer t.mu.Unlock()
		if e == nil {
			t.over.put(r, time.Now())
			return false
		}
		return e.endLate(here)
	}
	e.local = e.local || here
	devices := t.endLocked(e, time.Now())
	idle := e.idle
	t.mu.Unlock()
	if idle != nil {
		<-idle
	}
	t.cfg.Ended(e.Value, devices)
	return true
}

// endLate is End for an event that has ended. Table.mu is held.
func (e *entry[K, V]) endLate(here bool) (news bool) {
	news = e.expiresSoon()
	e.told[Expired] = true
	e.late, e.local = e.late || news, e.local || news && here
	return news
}

// expiresSoon reports whether the event has expired and nobody has reported that yet. Table.mu is held.
func (e *entry[K, V]) expiresSoon() bool { return e.ranOut && !e.told[Expired] }

// EndedEarly reports whether End was called for an event a moment ago, when it was not known.
func (t *Table[K, V]) EndedEarly(e Event[V]) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range e.refs() {
		if at, ok := t.over.get(r); ok && time.Since(at) < keepEarlyEnd {
			return true
		}
	}
	return false
}

// endLocked ends an event and returns the devices to which it was sent.
func (t *Table[K, V]) endLocked(e *entry[K, V], now time.Time) (devices []K) {
	if !e.ended.IsZero() {
		return nil
	}
	t.markEndedLocked(e, now)
	for d := range e.devices {
		devices = append(devices, d)
	}
	e.devices = nil
	if e.sending > 0 {
		e.idle = make(chan struct{})
	}
	forget(t.users, e.User, e)
	t.armLocked(e, now)
	return devices
}

func (t *Table[K, V]) markEndedLocked(e *entry[K, V], now time.Time) {
	e.ended, e.inEnded.Value = now, e
	t.ended.Push(&e.inEnded)
}

func forget[E comparable](index map[string][]E, key string, e E) {
	if left := slices.DeleteFunc(index[key], func(o E) bool { return o == e }); len(left) > 0 {
		index[key] = left
	} else {
		delete(index, key)
	}
}

// removeLocked removes an event that has ended.
func (t *Table[K, V]) removeLocked(e *entry[K, V]) {
	t.cfg.Wheel.Stop(&e.timer)
	forget(t.groups, e.Group, e)
	t.ended.Remove(&e.inEnded)
	delete(t.entries, e.ID)
	t.gone.put(e.ref(), struct{}{})
}
