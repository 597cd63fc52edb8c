// Queries of a table, and the answers of the host's lookups.

package triptable

import (
	"slices"
	"time"
)

// Known returns the known people of a trip, without a driver whom Forget took off: the
// host's lookup may name another driver.
func (t *Table) Known(id string) Parties {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trips[id].known(t.now())
}

// Current returns the version of a trip, and the moves that bring its people to where they
// belong after others were made, which may be older. Of a trip that has ended only its
// people leave: others leave with the moves of the event that ends it, behind what is sent
// before.
func (t *Table) Current(id string, made Moves) (m Moves, version uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.trips[id]
	switch {
	case t.closedLocked(id) == ended:
		return Moves{People: true}, endedVersion
	case r == nil:
		return Moves{}, 0
	}
	if m = r.allMoves(); m.Driver == "" { // those who were put in leave, though the table may have forgotten them
		for _, driver := range append([]string{made.Driver}, made.Leaves...) {
			if driver != "" && !slices.Contains(m.Leaves, driver) {
				m.Leaves = append(m.Leaves, driver)
			}
		}
	}
	return m, r.version
}

// Hint records an answer of the host's lookup. Its passenger becomes the trip's if none
// is known. Its driver receives the trip's events for HintMemory, but does not join its
// room. changed reports whether the passenger was not known before.
func (t *Table) Hint(id string, p Parties) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p == (Parties{}) || t.closedLocked(id) == ended {
		return false
	}
	now := t.now()
	r := t.trips[id]
	if r == nil {
		r = t.addLocked(id, t.closedLocked(id), now)
	}
	if r.passenger == "" && p.Passenger != "" {
		t.unlistLocked(id, r)
		r.passenger, r.passengerAt, changed = p.Passenger, 0, true
		t.listLocked(id, r)
	}
	r.hint, r.hinted = p.Driver, now
	return changed
}

// Of returns the assigned trips of a person. With a since that is not zero, it returns
// only those whose people have changed since then, by this node's clock.
func (t *Table) Of(who Person, since time.Time) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	trips := slices.Clone(t.byPerson[who])
	if since.IsZero() {
		return trips
	}
	return slices.DeleteFunc(trips, func(id string) bool { return t.trips[id].changed.Before(since) })
}

// Left reports whether somebody is known not to be on a trip by what was learnt at
// since or later, by this node's clock: it is over, or found no driver, or is of others,
// or was taken from them.
func (t *Table) Left(id string, who Person, since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closedLocked(id) == ended {
		return true
	}
	r := t.trips[id]
	switch {
	case r == nil || r.changed.Before(since):
		return false
	case r.idle:
		return true
	case !who.Driver:
		return r.passenger != "" && r.passenger != who.ID
	case r.driver != "" && r.aside.IsZero():
		return r.driver != who.ID
	}
	return r.driver == "" && slices.Contains(r.leavers(""), who.ID)
}

// Forget sets a driver aside because the host's lookup does not name the trip as
// theirs, unless the trip's people have changed since then. The driver leaves the room.
// Because events that the host published before may still be on their way, the driver
// still receives the trip's events until it ends, another driver is named, or
// AsideMemory has passed.
func (t *Table) Forget(id, driver string, since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.trips[id]
	if r == nil || r.driver != driver || !r.aside.IsZero() || !r.changed.Before(since) {
		return
	}
	t.unlistLocked(id, r)
	r.aside = since
	t.listLocked(id, r)
}

// Confirm records that the host's lookup, asked shortly after since, names a person as
// on a trip. A driver whom Forget set aside is restored if it is the same one, and taken
// off if it is another.
func (t *Table) Confirm(id string, who Person, since time.Time) {
	if !who.Driver {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.trips[id]
	if r == nil || r.aside.IsZero() || since.Before(r.aside) {
		return
	}
	t.unlistLocked(id, r)
	if r.driver != who.ID {
		r.takeOff()
	} else {
		r.aside = time.Time{}
	}
	t.listLocked(id, r)
}
