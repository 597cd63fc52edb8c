// What is due for an event, and when: to send it again, to report it, to end it.

package receipts

import "time"

// reportLocked has a report made, unless there was one of that kind.
func (t *Table[K, V]) reportLocked(e *entry[K, V], k Kind) {
	if e.told[k] {
		return
	}
	e.told[k] = true
	r := Report{Kind: k, At: time.Now(), Devices: e.sent}
	if k == Delivered {
		r.Receipt, r.At, r.Latency = e.first, e.received, max(0, e.received.Sub(e.begun))
	}
	e.reports = append(e.reports, r)
	if !e.reporting {
		e.reporting = true
		go t.report(e)
	}
}

func (t *Table[K, V]) report(e *entry[K, V]) {
	for {
		t.mu.Lock()
		if len(e.reports) == 0 {
			e.reporting = false
			t.mu.Unlock()
			return
		}
		r := e.reports[0]
		e.reports = e.reports[1:]
		t.mu.Unlock()
		t.cfg.Report(e.Value, r)
	}
}

// Hold says that this node hears nothing from the others, or is asking them what it has missed, until that time.
// It may not know that an event has ended or was received. So it reports none as expired until then; and none that
// another node is to report first as undelivered.
func (t *Table[K, V]) Hold(until time.Time) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.held = until
	for _, e := range t.entries {
		t.armLocked(e, now)
	}
}

// undeliveredAt is when an event is reported as undelivered: at the latest when it expires.
func (t *Table[K, V]) undeliveredAt(e *entry[K, V]) time.Time {
	at := earlier(e.begun.Add(t.cfg.Within), e.expires)
	if e.Delay > 0 {
		at = later(at, t.held).Add(e.Delay)
	}
	return at
}

// expiredAt is when an event is reported as expired. If this node is the first to report it, nobody else
// may be there to do so, and it holds it for maxHold only.
func (t *Table[K, V]) expiredAt(e *entry[K, V]) time.Time {
	at := later(e.expires, t.held)
	if e.Delay == 0 {
		at = earlier(at, e.expires.Add(maxHold))
	}
	return at.Add(e.Delay)
}

// removedAt is when an event that has ended is forgotten. A report may be due until then.
func (e *entry[K, V]) removedAt() time.Time {
	return earlier(e.ended.Add(keepEnded), later(e.expires, e.ended).Add(keepExpired))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// pending returns when each report of an event is due, and whether it is.
func (t *Table[K, V]) pending(e *entry[K, V], k Kind) (at time.Time, ok bool) {
	switch {
	case e.told[k]:
	case k == Delivered:
		return e.received.Add(e.Delay), !e.received.IsZero()
	case k == Undelivered:
		return t.undeliveredAt(e), e.received.IsZero() && !e.told[Delivered] && (e.ended.IsZero() || e.ranOut)
	case k == Expired:
		return t.expiredAt(e), e.ranOut
	}
	return at, false
}

// armLocked sets the timer for what is due next.
func (t *Table[K, V]) armLocked(e *entry[K, V], now time.Time) {
	next := e.expires
	if !e.ended.IsZero() {
		next = e.removedAt()
	} else {
		for _, d := range e.devices {
			if !d.received && !d.again {
				next = earlier(next, d.sent.Add(t.cfg.Again))
			}
		}
	}
	for k := range kinds {
		if at, ok := t.pending(e, k); ok {
			next = earlier(next, at)
		}
	}
	t.cfg.Wheel.Arm(&e.timer, max(0, next.Sub(now)))
}

// due does what is due for an event. The timer may fire a little early.
func (t *Table[K, V]) due(e *entry[K, V]) {
	now := time.Now()
	t.mu.Lock()
	if t.entries[e.ID] != e {
		t.mu.Unlock()
		return
	}
	var again, devices []K
	expires := e.ended.IsZero() && !now.Before(e.expires)
	if expires {
		e.ranOut = true
		devices = t.endLocked(e, now)
	}
	for k, d := range e.devices {
		if !d.received && !d.again && !now.Before(d.sent.Add(t.cfg.Again)) {
			d.again = true
			again = append(again, k)
		}
	}
	for k := range kinds {
		if at, ok := t.pending(e, k); ok && !now.Before(at) {
			t.reportLocked(e, k)
		}
	}
	if !e.ended.IsZero() && !now.Before(e.removedAt()) {
		t.removeLocked(e)
	} else {
		t.armLocked(e, now)
	}
	if len(again) > 0 {
		e.sending++ // End waits
	}
	idle := e.idle
	t.mu.Unlock()
	if expires {
		if idle != nil {
			<-idle
		}
		t.cfg.Ended(e.Value, devices)
	}
	if len(again) > 0 {
		t.cfg.SendAgain(e.Value, again)
		t.mu.Lock()
		t.sentLocked(e)
		t.mu.Unlock()
	}
}

// State is what this node knows of an event, for nodes that have missed it.
type State[V any] struct {
	Ref
	Local     bool // it knows something first hand: it reports the event without a delay, one of its devices has received it, or it has ended it
	Value     V
	Ago, Left time.Duration // as in Event
	Received  bool
	First     Receipt // with Received
	Ended     bool    // it was ended, perhaps a little after it had expired
	Told      []Kind
}

// States returns the events that run, and those of which this node knows something first hand. One that has expired is
// among them only if it was ended after that.
func (t *Table[K, V]) States() []State[V] {
	now := time.Now() // an event may begin while this waits for the lock
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []State[V]
	for _, e := range t.entries {
		if e.ranOut && !e.late || !e.local && !e.ended.IsZero() {
			continue
		}
		s := State[V]{
			Ref: e.ref(), Local: e.local, Value: e.Value, Ago: max(0, now.Sub(e.begun)), Left: e.expires.Sub(now),
			Received: !e.received.IsZero(), First: e.first, Ended: !e.ended.IsZero(),
		}
		for k := range kinds {
			if e.told[k] {
				s.Told = append(s.Told, k)
			}
		}
		all = append(all, s)
	}
	return all
}
