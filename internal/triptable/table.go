// Package triptable is the table of running trips: the driver and the passenger of each,
// derived from the trips' events. It is pure: it knows no sockets, rooms or bus, and its
// clock is a parameter.
//
// The table orders events by the times at which they happened, not by their arrival, because
// a bus may deliver events repeatedly and in any order. A trip that has ended does not run
// again.
package triptable

import (
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// Memory is how long a trip without events is kept, and at least how long an end is
	// remembered, unless more than 2 x maxClosed trips end meanwhile. An event that
	// happened longer ago assigns no driver, so redelivery is safe at any time.
	Memory = 24 * time.Hour
	// IdleMemory is how long the passenger of a trip that found no driver is kept, in
	// case the search starts again.
	IdleMemory = 10 * time.Minute
	// Settle is how long the host's database may lag behind the bus.
	Settle = 5 * time.Second
	// MaxSkew is how far ahead of this node's clock an event's time may be. A later
	// time is replaced by the node's: it would outdate every following event.
	MaxSkew = 5 * time.Minute
	// HintMemory is how long a driver whom the host's lookup named is used.
	HintMemory = 30 * time.Second
	// AsideMemory is how long a driver who is set aside still receives the trip's events:
	// earlier events of the host may arrive later.
	AsideMemory = 10 * time.Minute

	maxClosed = 1 << 19 // ends per generation; each takes 16 bytes and the map's overhead
	// MaxLearned is the number of trips from which the table adds none that only other tables know.
	MaxLearned = 1 << 18
	// maxPerPerson is the maximum number of trips of a person that are found by the person. Nobody has
	// as many: the bound is for forged ones, because each change of a trip searches the list.
	maxPerPerson = 4096
	sweepFrom    = 1024      // number of trips from which each addition may sweep
	sweepEvery   = time.Hour // with fewer trips, an addition sweeps so often
	// fullSweepEvery is how often a table with MaxLearned trips sweeps.
	fullSweepEvery = time.Minute
)

// Kind says what an event does to a trip.
type Kind uint8

// The kinds of events.
const (
	Notes    Kind = iota // changes nothing but may name the passenger
	Opens                // shows that the trip waits for a driver or runs
	Assigns              // gives the trip its driver
	Releases             // ends an assignment: its driver leaves the trip
	Suspends             // says that no driver was found; a later event may open the trip again
	Ends                 // ends the trip for good
)

// Event is the part of a domain event that concerns the people of a trip. Nodes
// exchange it as JSON.
type Event struct {
	Kind       Kind      `json:"kind"`
	Trip       string    `json:"tripId"`
	At         time.Time `json:"at"` // the time at which it happened
	Passenger  string    `json:"passengerId,omitempty"`
	Driver     string    `json:"driverId,omitempty"`
	Assignment string    `json:"assignmentId,omitempty"`
}

// Parties are the people of a trip. An id that is not known is empty.
type Parties struct{ Passenger, Driver string }

// Person is a driver or a passenger.
type Person struct {
	Driver bool // otherwise a passenger
	ID     string
}

// Moves lists who joins and leaves the room of a trip.
type Moves struct {
	Everybody bool     // all sockets leave: the trip ended
	People    bool     // the driver and the passenger leave: no driver was found
	Driver    string   // this driver joins, and all other drivers leave
	Passenger string   // this passenger joins, and all other passengers leave
	Leaves    []string // these drivers leave
}

// Result is the effect of an event on the table.
type Result struct {
	// Outdated says that the table knows something newer: the event must not be sent to
	// clients. It may change the table all the same.
	Outdated bool
	// Former says that the event shows the trip running with a driver who is known to
	// have left it later: it would mislead the trip's people.
	Former bool
	// Changed says that the event changed the table.
	Changed bool
	// Old says of a state of another table that everything in it happened more than Settle ago: the
	// host's lookup knows it.
	Old bool
	// Version is the trip's version, or 0 for an outdated event that changed nothing. If
	// Current returns another version after the caller has made Moves, the caller must make
	// the moves of Current too.
	Version uint64
	// Parties are the people of the trip; for its end, the people until then.
	Parties Parties
	Moves   Moves
}

// Table is a table of trips. Its methods may be called concurrently.
type Table struct {
	now        func() time.Time
	seed       maphash.Seed
	maxLearned int // MaxLearned, or less in a test

	mu       sync.Mutex // guards the fields below and all trips
	trips    map[string]*trip
	byPerson map[Person][]string // the assigned trips of each person
	version  uint64              // the newest version of a trip
	sweepAt  int                 // number of trips at which old ones are dropped
	swept    time.Time           // the last time that was done
	// closed holds, by a hash of its id, the time up to which a trip is closed: events
	// that happened before it are outdated.
	closed   map[uint64]int64 // microseconds since 1970
	previous map[uint64]int64 // the previous generation of closed
	rotateAt time.Time        // when closed becomes the previous generation
}

const (
	// ended is the value in Table.closed of a trip that has ended: all events are before
	// it.
	ended = 1<<63 - 1
	// endedVersion is the version of a trip that has ended.
	endedVersion = 1<<64 - 1
)

// trip is what is known of a trip: facts, and the fields that follow from them.
type trip struct {
	passenger   string
	passengerAt int64 // when the event happened that named the passenger; 0: a lookup did
	opened      int64 // when the last event of kind Opens happened
	suspended   int64 // when the last event of kind Suspends happened
	assigns     facts // events of kind Assigns after suspended
	releases    facts // events of kind Releases after suspended

	// derive computes these from the fields above:
	driver     string
	assignment string // the assignment of the driver; empty: not known
	assigned   bool   // a driver was assigned since suspended: its people belong in its room
	idle       bool   // no driver was found, and nothing newer is known

	version uint64 // changes with each change of the trip

	// Times by this node's clock:
	changed time.Time // the last change of the people
	seen    time.Time // the last event of the trip
	aside   time.Time // when the driver was set aside (see SetAside); zero: not

	hint   string    // a driver whom the host's lookup named
	hinted time.Time // the time of that lookup
}

// New returns an empty table.
func New(now func() time.Time) *Table {
	return &Table{now: now, seed: maphash.MakeSeed(), maxLearned: MaxLearned, trips: map[string]*trip{}, byPerson: map[Person][]string{}, sweepAt: sweepFrom, swept: now()}
}

// Time returns the time that counts for an event that happened at at: the current time
// if at is zero or more than MaxSkew ahead.
func (t *Table) Time(at time.Time) time.Time {
	if now := t.now(); at.IsZero() || at.After(now.Add(MaxSkew)) {
		return now
	}
	return at
}

// Len returns the number of trips in the table.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.trips)
}

// Apply records an event, unless it is outdated. Applying the same event again changes
// nothing and returns the same Moves, as long as nothing newer is known.
func (t *Table) Apply(e Event) Result { return t.apply(e, false) }

// Learn is Apply for an event that another table has received. It adds no trip to a table with
// MaxLearned trips: the event may be forged.
func (t *Table) Learn(e Event) Result { return t.apply(e, true) }

func (t *Table) apply(e Event, learned bool) Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	e.At = t.Time(e.At)
	at, closedUntil := e.At.UnixMicro(), t.closedLocked(e.Trip)
	f := Fact{at, e.Driver, e.Assignment}
	if e.Kind == Ends {
		return t.endLocked(e.Trip, closedUntil == ended)
	}
	r := t.trips[e.Trip]
	switch {
	case closedUntil == ended:
		return Result{Outdated: e.Kind != Notes && e.Kind != Releases, Version: endedVersion}
	case e.Kind == Assigns && e.At.Before(now.Add(-Memory)) && (r == nil || !r.assigns.contain(f)):
		return Result{Outdated: true, Parties: r.parties(now)}
	case r == nil && e.Passenger == "" && e.Kind < Assigns && closedUntil == 0:
		return Result{}
	case r == nil && learned && t.fullLocked(now):
		return Result{}
	}
	if r == nil {
		r = t.addLocked(e.Trip, closedUntil, now)
	}
	r.dropAside(now)
	t.unlistLocked(e.Trip, r)
	defer func() { t.listLocked(e.Trip, r) }()
	before := r.view()
	changed := r.setPassenger(e.Passenger, at)
	switch e.Kind { //nolint:exhaustive // Notes only names people, Ends has returned
	case Opens:
		r.opened = max(r.opened, at)
	case Assigns:
		changed = r.record(&r.assigns, f) || changed
	case Releases:
		changed = r.record(&r.releases, f) || changed
	case Suspends:
		changed = at > r.suspended || changed
		r.suspended = max(r.suspended, at)
		t.closeLocked(e.Trip, max(closedUntil, at), now)
	}
	r.derive()
	r.setChanged(before, changed && e.Kind >= Releases && r.driver == "", now)
	if e.Kind == Assigns && (r.driver != before.driver || !e.At.Before(r.aside)) && !r.aside.IsZero() {
		r.aside, r.changed = time.Time{}, now
	}
	res := Result{Outdated: r.isNewerThan(e.Kind, f), Former: e.Kind == Opens && r.leftAfter(f), Changed: changed || r.view() != before, Parties: r.parties(now)}
	version := t.versionLocked(r, res.Changed)
	switch {
	case !res.Outdated:
		res.Version = version
	case res.Changed:
		res.Version, res.Moves = version, r.allMoves()
		return res
	default:
		return res
	}
	r.seen = now
	switch e.Kind { //nolint:exhaustive // the other kinds need nothing more
	case Suspends:
		r.hint = ""
		res.Moves.People = true
	case Assigns:
		r.hint = ""
		res.Moves = r.moves()
	case Releases:
		if r.hint == e.Driver {
			r.hint = ""
		}
		res.Moves.Leaves = r.otherDrivers(e.Driver)
	}
	if r.assigned && e.Passenger != "" && e.Passenger == r.passenger && at == r.passengerAt && e.Kind != Suspends {
		res.Moves.Passenger = r.passenger
	}
	return res
}

// versionLocked returns the version of a trip, a new one if the trip has changed.
func (t *Table) versionLocked(r *trip, changed bool) uint64 {
	if changed {
		t.version++
		r.version = t.version
	}
	return r.version
}

// removeAside removes the driver who is set aside: it adds a release.
func (r *trip) removeAside() {
	f := Fact{r.aside.UnixMicro(), r.driver, r.assignment}
	f.At = max(f.At, r.assigns.newest())
	r.releases.put(f)
	r.hint, r.aside = "", time.Time{}
	r.derive()
}

// dropAside removes a driver who was set aside more than AsideMemory ago. It sets no version,
// because the driver has left the room already.
func (r *trip) dropAside(now time.Time) {
	if !r.aside.IsZero() && now.Sub(r.aside) >= AsideMemory {
		r.removeAside()
	}
}

// parties returns the people who receive the trip's events.
func (r *trip) parties(now time.Time) Parties {
	known := r.known(now)
	if known.Driver == "" && r != nil {
		known.Driver = r.driver
	}
	return known
}

// known returns parties without a driver who is set aside.
func (r *trip) known(now time.Time) Parties {
	switch {
	case r == nil:
		return Parties{}
	case r.driver != "" && r.aside.IsZero():
		return Parties{r.passenger, r.driver}
	case r.hint != "" && now.Sub(r.hinted) < HintMemory:
		return Parties{r.passenger, r.hint}
	}
	return Parties{Passenger: r.passenger}
}

// endLocked ends a trip. again says that it has ended before.
func (t *Table) endLocked(id string, again bool) Result {
	now := t.now()
	r := t.trips[id]
	if r != nil {
		r.dropAside(now)
	}
	res := Result{Changed: !again, Version: endedVersion, Parties: r.parties(now), Moves: Moves{Everybody: true}}
	if r != nil {
		t.unlistLocked(id, r)
		delete(t.trips, id)
	}
	t.closeLocked(id, ended, now)
	return res
}

func (t *Table) hash(id string) uint64 { return maphash.String(t.seed, id) }

// closedLocked returns the time up to which a trip is closed, or 0.
func (t *Table) closedLocked(id string) int64 {
	h := t.hash(id)
	return max(t.closed[h], t.previous[h])
}

// closeLocked remembers that a trip is closed up to a time. When the older generation is
// dropped, each entry in it is at least Memory old, or maxClosed was reached.
func (t *Table) closeLocked(id string, at int64, now time.Time) {
	if t.closed == nil || now.After(t.rotateAt) || len(t.closed) >= maxClosed {
		t.previous, t.closed = t.closed, map[uint64]int64{}
		t.rotateAt = now.Add(Memory)
	}
	t.closed[t.hash(id)] = at
}

// addLocked adds a trip. suspended is when it found no driver, 0 for never; nothing else is
// known of it.
func (t *Table) addLocked(id string, suspended int64, now time.Time) *trip {
	if len(t.trips) >= t.sweepAt || now.Sub(t.swept) >= sweepEvery {
		t.sweepLocked(now)
	}
	r := &trip{suspended: suspended, idle: suspended > 0, seen: now}
	t.trips[id] = r
	return r
}

// fullLocked reports whether there is no space for a trip that only other tables know.
func (t *Table) fullLocked(now time.Time) bool {
	if len(t.trips) >= t.maxLearned && now.Sub(t.swept) >= fullSweepEvery {
		t.sweepLocked(now)
	}
	return len(t.trips) >= t.maxLearned
}

// sweepLocked drops trips that had no event for Memory, or IdleMemory without a driver.
func (t *Table) sweepLocked(now time.Time) {
	maps.DeleteFunc(t.trips, func(id string, r *trip) bool {
		age := now.Sub(r.seen)
		old := age > Memory || r.idle && age > IdleMemory
		if old {
			t.unlistLocked(id, r)
		}
		return old
	})
	t.sweepAt, t.swept = max(sweepFrom, 2*len(t.trips)), now
}

// listLocked enters an assigned trip in byPerson.
func (t *Table) listLocked(id string, r *trip) {
	for _, who := range r.people() {
		if len(t.byPerson[who]) < maxPerPerson {
			t.byPerson[who] = append(t.byPerson[who], id)
		}
	}
}

// unlistLocked removes an assigned trip from byPerson.
func (t *Table) unlistLocked(id string, r *trip) {
	for _, who := range r.people() {
		rest := slices.DeleteFunc(t.byPerson[who], func(other string) bool { return other == id })
		if t.byPerson[who] = rest; len(rest) == 0 {
			delete(t.byPerson, who)
		}
	}
}

// people returns the persons who belong in the trip's room.
func (r *trip) people() (who []Person) {
	if r.assigned && r.driver != "" && r.aside.IsZero() {
		who = append(who, Person{true, r.driver})
	}
	if r.assigned && r.passenger != "" {
		who = append(who, Person{false, r.passenger})
	}
	return who
}
