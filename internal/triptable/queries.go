// What a table answers, and what the host's lookups tell it.

package triptable

import (
	"slices"
	"time"
)

// Known returns the people of a trip, as far as known. A driver whom Forget took off
// is not: the host's lookup may know of another one.
func (t *Table) Known(id string) Parties {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.trips[id].known(t.now())
}

// Hint records what the host's lookup answered. The passenger it names is the
// trip's if none is known; the driver is one to tell of the trip for a while, not
// one to put into its room. Changed says that the passenger was news.
func (t *Table) Hint(id string, p Parties) (changed bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p == (Parties{}) || t.closedLocked(id) == forGood {
		return false
	}
	now := t.now()
	r := t.trips[id]
	if r == nil {
		r = t.addLocked(id, now)
	}
	if r.passenger == "" && p.Passenger != "" {
		t.unlistLocked(id, r)
		r.passenger, changed = p.Passenger, true
		t.listLocked(id, r)
	}
	r.hint, r.hinted = p.Driver, now
	return changed
}

// Of returns the assigned trips of a person whose people changed at since, by this
// node's clock, or later.
func (t *Table) Of(who Person, since time.Time) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	trips := slices.Clone(t.byPerson[who])
	if since.IsZero() {
		return trips
	}
	return slices.DeleteFunc(trips, func(id string) bool { return t.trips[id].changed.Before(since) })
}

// Left reports whether a trip is over, or was taken from that person, or found no
// driver, at since or later.
func (t *Table) Left(id string, who Person, since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closedLocked(id) == forGood {
		return true
	}
	r := t.trips[id]
	if r == nil || r.changed.Before(since) {
		return false
	}
	former := r.formerPassenger
	if who.Driver {
		former = r.formerDriver
	}
	return r.idle || who.ID == former
}

// Forget takes a driver off a trip that is not theirs, says the host's lookup,
// unless its people changed at since or later. What the host has published before
// may come yet: the driver is still one of those whom the trip's events concern,
// until it ends, another driver is named, or AsideMemory is over.
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

// Confirm says that the host's lookup, asked shortly after since, has somebody on a
// trip. A driver whom Forget took off is on it again if it is them, and off it for good
// if it is another driver.
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
	if r.driver != who.ID {
		r.takeOff(r.aside, r.changed)
		return
	}
	t.unlistLocked(id, r)
	r.aside = time.Time{}
	t.listLocked(id, r)
}

// State returns the event from which another table learns what this one knows of
// a trip's driver, or of its end; none when that is nothing.
func (t *Table) State(id string) (e Event, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	over := t.closedLocked(id)
	r := t.trips[id]
	switch {
	case over == forGood:
		return Event{Kind: Ends, Trip: id, At: t.now()}, true
	case r != nil && r.driver != "":
		return Event{Assigns, id, r.assignedAt, r.passenger, r.driver, r.assignment}, true
	case over != 0:
		return Event{Kind: Suspends, Trip: id, At: time.UnixMicro(over)}, true
	case r != nil && r.formerDriver != "":
		return Event{Kind: Releases, Trip: id, At: r.releasedAt, Passenger: r.passenger, Driver: r.formerDriver}, true
	}
	return Event{}, false
}
