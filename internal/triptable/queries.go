// Queries: what the server asks the table, and how it records results of the host's lookups.

package triptable

import (
	"slices"
	"time"
)

// Known returns the known people of a trip, without a driver whom SetAside has set aside: the
// host's lookup may name another driver.
func (t *Table) Known(id string) Parties {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trips[id].known(t.now())
}

// Current returns the moves that bring the people of a trip to where they belong, and the
// trip's version. made are the moves that the caller has made; they may be outdated. If the
// trip has ended, only its driver and passenger leave: admins leave with the moves of the
// event that ended it, because they must receive that event first.
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
	if m = r.allMoves(); m.Driver == "" { // also drivers of made whose facts the table has dropped
		for _, driver := range append([]string{made.Driver}, made.Leaves...) {
			if driver != "" && !slices.Contains(m.Leaves, driver) {
				m.Leaves = append(m.Leaves, driver)
			}
		}
	}
	return m, r.version
}

// Hint records a result of the host's lookup. Its passenger becomes the trip's if none is
// known. Its driver receives the trip's events for HintMemory, but does not join the trip's
// room. changed says that the passenger was not known before.
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

// TripsOf returns the assigned trips of a person. If since is not zero, it returns only those
// whose people have changed since then, by this node's clock.
func (t *Table) TripsOf(who Person, since time.Time) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	trips := slices.Clone(t.byPerson[who])
	if since.IsZero() {
		return trips
	}
	return slices.DeleteFunc(trips, func(id string) bool { return t.trips[id].changed.Before(since) })
}

// Ended reports whether the table knows that a trip has ended for good.
func (t *Table) Ended(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closedLocked(id) == ended
}

// HasLeft reports whether a person is not on a trip, according to what the table has learned
// at since or later, by this node's clock: the trip has ended, has found no driver, has
// another driver or passenger, or its driver was released.
func (t *Table) HasLeft(id string, who Person, since time.Time) bool {
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
	return r.driver == "" && slices.Contains(r.otherDrivers(""), who.ID)
}

// Interrupted reports whether a driver has not had a trip all the time since then, according to when the events of
// the trip happened: another driver was assigned, this one was released, or no driver was found.
func (t *Table) Interrupted(id, driver string, since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, after := t.trips[id], since.UnixMicro()
	if r == nil {
		return false
	}
	other := func(f Fact) bool { return f.At > after && f.Driver != driver }
	released := func(f Fact) bool { return f.At > after && (f.Driver == driver || f.Driver == "") }
	return r.suspended > after || slices.ContainsFunc(r.assigns, other) || slices.ContainsFunc(r.releases, released)
}

// SetAside sets a trip's driver aside, because the host's lookup, called shortly after since,
// does not return the trip for that driver. It does nothing if the trip's people have changed
// since then. A driver who is set aside does not belong in the trip's room. The driver still
// receives the trip's events, because earlier events of the host may arrive later: until the
// trip ends, another driver is named, or AsideMemory has passed.
func (t *Table) SetAside(id, driver string, since time.Time) {
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

// Confirm records that the host's lookup, called shortly after since, returns a trip for a
// person. If the trip has a driver who is set aside, that driver is restored if it is the
// same person, otherwise removed.
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
		r.removeAside()
	} else {
		r.aside = time.Time{}
	}
	t.listLocked(id, r)
}
