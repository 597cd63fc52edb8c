// State: everything that a table knows of a trip, as the tables of different nodes exchange
// it.

package triptable

import (
	"slices"
	"time"
)

// State is everything that a table knows of a trip. Nodes exchange it as JSON. Times are in
// microseconds since 1970; 0 means unknown.
type State struct {
	Trip        string `json:"tripId"`
	Ended       bool   `json:"ended,omitempty"`
	Passenger   string `json:"passengerId,omitempty"`
	PassengerAt int64  `json:"passengerAt,omitempty"`
	Opened      int64  `json:"opened,omitempty"`
	Suspended   int64  `json:"suspended,omitempty"`
	Assigns     []Fact `json:"assigns,omitempty"`
	Releases    []Fact `json:"releases,omitempty"`
}

// State returns everything that is known of a trip. ok is false if the trip is unknown.
func (t *Table) State(id string) (s State, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	closedUntil := t.closedLocked(id)
	r := t.trips[id]
	switch {
	case closedUntil == ended:
		return State{Trip: id, Ended: true}, true
	case r != nil:
		return State{
			Trip: id, Passenger: r.passenger, PassengerAt: r.passengerAt, Opened: r.opened, Suspended: r.suspended,
			Assigns: slices.Clone(r.assigns), Releases: slices.Clone(r.releases),
		}, true
	case closedUntil != 0:
		return State{Trip: id, Suspended: closedUntil}, true
	}
	return State{}, false
}

// Merge adds the state of another table to this one. It adds no trip to a table with MaxLearned
// trips. The result is outdated if this table
// knows more than the state. Its Moves bring the trip's people to where they belong in any
// case.
func (t *Table) Merge(s State) Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	closedUntil := t.closedLocked(s.Trip)
	switch {
	case s.Ended:
		return t.endLocked(s.Trip, closedUntil == ended)
	case closedUntil == ended:
		return Result{Outdated: true, Version: endedVersion, Moves: Moves{Everybody: true}}
	}
	limit := now.Add(MaxSkew).UnixMicro()
	clamp := func(at int64) int64 {
		if at > limit {
			return now.UnixMicro()
		}
		return at
	}
	// Tables hardly keep more. Of a longer list, which may be forged, the newest facts count.
	s.Assigns, s.Releases = last(s.Assigns, maxAssigns), last(s.Releases, maxReleases)
	s.PassengerAt, s.Opened, s.Suspended = clamp(s.PassengerAt), clamp(s.Opened), clamp(s.Suspended)
	r := t.trips[s.Trip]
	if r == nil {
		if t.fullLocked(now) {
			return Result{}
		}
		r = t.addLocked(s.Trip, closedUntil, now)
	}
	r.dropAside(now)
	t.unlistLocked(s.Trip, r)
	defer func() { t.listLocked(s.Trip, r) }()
	before, suspended := r.view(), r.suspended
	changed := r.setPassenger(s.Passenger, s.PassengerAt)
	r.opened, r.suspended = max(r.opened, s.Opened), max(r.suspended, s.Suspended)
	for _, f := range s.Assigns {
		f.At = clamp(f.At)
		changed = r.record(&r.assigns, f) || changed
	}
	left := false
	for _, f := range s.Releases {
		f.At = clamp(f.At)
		left = r.record(&r.releases, f) || left
	}
	r.derive()
	if r.suspended > suspended {
		t.closeLocked(s.Trip, r.suspended, now)
	}
	at, old := now, false
	if newest := s.newest(); newest > 0 && newest < now.Add(-Settle).UnixMicro() {
		at, old = time.UnixMicro(newest), true
		if r.changed.After(at) {
			at = r.changed
		}
	}
	r.setChanged(before, left && r.driver == "", at)
	res := Result{Old: old, Outdated: r.knowsMoreThan(s), Changed: changed || left || r.suspended > suspended || r.view() != before, Parties: r.parties(now)}
	res.Version = t.versionLocked(r, res.Changed)
	if res.Changed {
		r.seen = now
	}
	res.Moves = r.allMoves()
	return res
}

// newest returns when the newest fact happened, 0 if that is unknown.
func (s *State) newest() int64 {
	newest := max(s.PassengerAt, s.Opened, s.Suspended)
	for _, f := range slices.Concat(s.Assigns, s.Releases) {
		newest = max(newest, f.At)
	}
	return newest
}

// last returns the last n facts, or all if there are fewer.
func last(fs []Fact, n int) []Fact { return fs[max(0, len(fs)-n):] }

// knowsMoreThan reports whether a state that was just merged lacks something: alone it leads
// to other people, or it has no fact as new as the trip's.
func (r *trip) knowsMoreThan(s State) bool {
	other := trip{
		passenger: s.Passenger, passengerAt: s.PassengerAt, opened: s.Opened, suspended: s.Suspended,
		assigns: slices.Clone(s.Assigns), releases: slices.Clone(s.Releases),
	}
	other.derive()
	last := r.lastNamed()
	return r.suspended > other.suspended || r.view() != other.view() || r.assignment != other.assignment ||
		r.passengerAt > other.passengerAt || r.assigns.newest() > other.assigns.newest() || last != other.lastNamed() ||
		slices.ContainsFunc(r.releases, func(f Fact) bool { return f.At >= last.At && !other.releases.cover(facts{f}) })
}
