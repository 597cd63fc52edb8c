// What tables tell each other of a trip: all that they know.

package triptable

import "slices"

// State is what a table knows of a trip. Nodes exchange it as JSON. Times are
// microseconds since 1970; 0: unknown.
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

// State returns what is known of a trip; ok is false when that is nothing.
func (t *Table) State(id string) (s State, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	over := t.closedLocked(id)
	r := t.trips[id]
	switch {
	case over == ended:
		return State{Trip: id, Ended: true}, true
	case r != nil:
		return State{
			Trip: id, Passenger: r.passenger, PassengerAt: r.passengerAt, Opened: r.opened, Suspended: r.suspended,
			Assigns: slices.Clone(r.assigns), Releases: slices.Clone(r.releases),
		}, true
	case over != 0:
		return State{Trip: id, Suspended: over}, true
	}
	return State{}, false
}

// Merge records what another table knows of a trip. The result is outdated when this
// one knows more; its people are moved to where they belong all the same.
func (t *Table) Merge(s State) Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	over := t.closedLocked(s.Trip)
	switch {
	case s.Ended:
		return t.endLocked(s.Trip, over == ended)
	case over == ended:
		return Result{Outdated: true, Version: endedVersion, Moves: Moves{Everybody: true}}
	}
	limit := now.Add(MaxSkew).UnixMicro()
	clamp := func(at int64) int64 {
		if at > limit {
			return now.UnixMicro()
		}
		return at
	}
	s.PassengerAt, s.Opened, s.Suspended = clamp(s.PassengerAt), clamp(s.Opened), clamp(s.Suspended)
	r := t.trips[s.Trip]
	if r == nil {
		r = t.addLocked(s.Trip, over, now)
	}
	r.dropAside(now)
	t.unlistLocked(s.Trip, r)
	defer func() { t.listLocked(s.Trip, r) }()
	was, suspended := r.view(), r.suspended
	changed := r.ride(s.Passenger, s.PassengerAt)
	r.opened, r.suspended = max(r.opened, s.Opened), max(r.suspended, s.Suspended)
	for _, f := range s.Assigns[:min(len(s.Assigns), maxAssigns)] {
		f.At = clamp(f.At)
		changed = r.know(&r.assigns, f) || changed
	}
	left := false
	for _, f := range s.Releases[:min(len(s.Releases), maxReleases)] {
		f.At = clamp(f.At)
		left = r.know(&r.releases, f) || left
	}
	r.derive()
	if r.suspended > suspended {
		t.closeLocked(s.Trip, r.suspended, now)
	}
	r.moved(was, left && r.driver == "", now)
	res := Result{Outdated: r.more(s), Changed: changed || left || r.suspended > suspended || r.view() != was, Parties: r.parties(now)}
	res.Version = t.versionLocked(r, res.Changed)
	if res.Changed {
		r.seen = now
	}
	res.Moves = r.allMoves()
	return res
}

// more reports whether what is known makes more of a trip than a state that has been
// merged: other people, or something newer.
func (r *trip) more(s State) bool {
	came := trip{
		passenger: s.Passenger, passengerAt: s.PassengerAt, opened: s.Opened, suspended: s.Suspended,
		assigns: slices.Clone(s.Assigns), releases: slices.Clone(s.Releases),
	}
	came.derive()
	last := r.lastDriver()
	return r.suspended > came.suspended || r.view() != came.view() || r.assignment != came.assignment ||
		r.passengerAt > came.passengerAt || r.assigns.newest() > came.assigns.newest() || last != came.lastDriver() ||
		slices.ContainsFunc(r.releases, func(f Fact) bool { return f.At >= last.At && !came.releases.include(facts{f}) })
}
