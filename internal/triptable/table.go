// Package triptable is the table of running trips: the driver and the passenger of each,
// derived from the trips' events. It is pure: it knows no sockets, rooms or bus, and its
// clock is a parameter.
//
// The order of events is that of the times at which they happened, not of their
// arrival, because a bus may deliver events again and out of order. A trip that has
// ended never runs again.
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
	// AsideMemory is how long a driver whom Forget took off still receives the trip's
	// events: events that the host published before may still be on their way.
	AsideMemory = 10 * time.Minute

	maxClosed   = 1 << 19 // ends per generation; each takes 16 bytes and the map's overhead
	maxReleased = 8       // released assignments that are remembered per trip
	sweepFrom   = 1024    // number of trips below which nothing is swept
)

// Kind says what an event does to a trip.
type Kind uint8

// The kinds of events.
const (
	Notes    Kind = iota // says something about a trip, running or over
	Opens                // shows the trip as wanted or running
	Assigns              // gives the trip its driver
	Releases             // says that an assignment is over: its driver leaves the trip
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
	Everybody bool   // all sockets leave: the trip ended
	People    bool   // the driver and the passenger leave: no driver was found
	Driver    string // this driver joins, and a previous driver leaves
	Passenger string // this passenger joins, and a previous passenger leaves
	Leaves    string // this driver leaves
}

// Result is the effect of an event on the table.
type Result struct {
	// Outdated says that the table knows something newer: the event changed nothing
	// and must not be sent to clients.
	Outdated bool
	// Changed says that the event changed the table.
	Changed bool
	// Parties are the people of the trip; for its end, the people until then.
	Parties Parties
	Moves   Moves
}

// Table is a table of trips. Its methods may be called concurrently.
type Table struct {
	now  func() time.Time
	seed maphash.Seed

	mu       sync.Mutex // guards the fields below and all trips
	trips    map[string]*trip
	byPerson map[Person][]string // the assigned trips of each person
	sweepAt  int                 // number of trips at which old ones are dropped
	// closed holds, by a hash of its id, the time up to which a trip is closed: events
	// that happened before it are outdated.
	closed   map[uint64]int64 // microseconds since 1970
	before   map[uint64]int64 // the previous generation
	rotateAt time.Time        // when closed becomes the previous generation
}

// ended is the value in Table.closed of a trip that has ended: all events are before it.
const ended = 1<<63 - 1

// trip is what the table knows of one trip.
type trip struct {
	passenger       string
	driver          string
	assignment      string // the assignment of driver; empty if not known
	formerDriver    string // the last driver who was taken off
	formerPassenger string
	assigned        bool // the people are in the trip's room
	idle            bool // no driver was found
	released        []release

	// The times at which events happened:
	passengerAt time.Time // the one that named the passenger
	assignedAt  time.Time // the last one that assigned a driver
	releasedAt  time.Time // the one that took the former driver off
	vacatedAt   time.Time // the one that found no driver and took the people out of the room

	// Times by this node's clock:
	changed time.Time // the last change of the people
	seen    time.Time // the last event of the trip
	aside   time.Time // when the host's lookup said that the driver is not on the trip (see Forget); zero: it has not

	hint   string    // a driver whom the host's lookup named
	hinted time.Time // when it did
}

// release is an assignment that is over.
type release struct {
	assignment uint64 // hash of its id
	at         time.Time
}

// New returns an empty table.
func New(now func() time.Time) *Table {
	return &Table{now: now, seed: maphash.MakeSeed(), trips: map[string]*trip{}, byPerson: map[Person][]string{}, sweepAt: sweepFrom}
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
func (t *Table) Apply(e Event) Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	e.At = t.Time(e.At)
	over := t.closedLocked(e.Trip)
	if e.Kind == Ends {
		return t.endLocked(e, over == ended)
	}
	r := t.trips[e.Trip]
	switch {
	case over == ended:
		return Result{Outdated: e.Kind != Notes && e.Kind != Releases}
	case (e.Kind == Opens || e.Kind == Assigns) && e.At.UnixMicro() < over,
		e.Kind == Assigns && e.At.Before(now.Add(-Memory)),
		r != nil && r.outdates(e, t.hash(e.Assignment)):
		return Result{Outdated: true, Parties: r.parties(now)}
	case r == nil && e.Passenger == "" && e.Kind < Assigns:
		return Result{}
	}
	if r == nil {
		r = t.addLocked(e.Trip, now)
	}
	r.seen = now
	r.dropAside(now)
	t.unlistLocked(e.Trip, r)
	defer func() { t.listLocked(e.Trip, r) }()
	res := Result{}
	if e.Passenger != "" && e.Passenger != r.passenger && !e.At.Before(r.passengerAt) {
		r.formerPassenger, r.passenger = r.passenger, e.Passenger
		r.passengerAt, r.changed = e.At, now
		res.Changed = true
	}
	if r.assigned && e.Passenger != "" && e.Passenger == r.passenger && e.At.Equal(r.passengerAt) {
		res.Moves.Passenger = r.passenger
	}
	switch e.Kind { //nolint:exhaustive // Notes changes nothing more, Ends has returned
	case Opens:
		r.idle = false
	case Assigns:
		t.assign(r, e, now, &res)
	case Releases:
		t.release(r, e, now, &res)
	case Suspends:
		res.Changed = !r.idle || e.At.UnixMicro() > over
		if r.assigned {
			r.vacatedAt = e.At
		}
		res.Moves = Moves{People: r.vacatedAt.Equal(e.At)}
		r.takeOff(e.At, now)
		r.idle, r.assigned = true, false
		t.closeLocked(e.Trip, max(over, e.At.UnixMicro()), now)
	}
	res.Parties = r.parties(now)
	return res
}

// outdates reports whether the trip's people are known from a newer event.
func (r *trip) outdates(e Event, assignment uint64) bool {
	switch e.Kind { //nolint:exhaustive // the other kinds are never outdated by people
	case Suspends:
		return r.driver != "" && e.At.Before(r.assignedAt)
	case Assigns:
		for _, ended := range r.released {
			if e.Assignment != "" && ended.assignment == assignment && !e.At.After(ended.at) {
				return true
			}
		}
		switch {
		case r.driver == "" && e.Driver != "" && e.Driver == r.formerDriver && e.At.Before(r.releasedAt):
			return true
		case r.driver != "" && e.Driver == r.driver && (r.assignment == "" || e.Assignment == "" || e.Assignment == r.assignment):
			return false // the same assignment, by another event
		}
		return e.At.Before(r.assignedAt)
	}
	return false
}

// assign makes the event's driver the trip's driver.
func (t *Table) assign(r *trip, e Event, now time.Time, res *Result) {
	was := *r
	if e.Driver == "" && e.Assignment != "" && r.assignment != "" && e.Assignment != r.assignment {
		res.Moves.Leaves = r.driver // the assignment is another driver's, whose id is not known
		r.takeOff(e.At, now)
	} else if e.Driver == "" {
		res.Moves.Leaves = r.tookOff(e)
	}
	if e.Driver != "" && e.Driver != r.driver {
		if r.driver != "" {
			r.formerDriver, r.releasedAt = r.driver, e.At
		}
		r.driver, r.assignment = e.Driver, ""
	}
	if e.Assignment != "" {
		r.assignment = e.Assignment
	}
	if r.driver != was.driver || !e.At.Before(r.aside) {
		r.aside = time.Time{}
	}
	if r.driver == r.formerDriver {
		r.formerDriver = ""
	}
	if e.At.After(r.assignedAt) {
		r.assignedAt = e.At
	}
	r.assigned, r.idle, r.hint = true, false, ""
	if !was.assigned || was.driver != r.driver || was.aside != r.aside {
		r.changed = now
	}
	res.Changed = res.Changed || !was.assigned || was.driver != r.driver || was.assignment != r.assignment || was.assignedAt != r.assignedAt
	res.Moves.Passenger = r.passenger
	if r.aside.IsZero() {
		res.Moves.Driver = r.driver
	}
}

// release ends an assignment. It takes the driver off the trip if the assignment is
// theirs; where the trip's assignment is not known, if the event names the same driver.
func (t *Table) release(r *trip, e Event, now time.Time, res *Result) {
	if e.Assignment != "" {
		res.Changed = r.remember(release{t.hash(e.Assignment), e.At}) || res.Changed
	}
	same := e.Driver == r.driver
	if e.Assignment != "" && r.assignment != "" {
		same = e.Assignment == r.assignment
	}
	if r.driver == "" || !same || e.At.Before(r.assignedAt) {
		res.Moves.Leaves = r.tookOff(e)
		return
	}
	res.Moves.Leaves = r.driver
	res.Changed = true
	r.takeOff(e.At, now)
}

// remember records a release among the newest ones, and reports whether that changed
// anything.
func (r *trip) remember(one release) bool {
	for i, old := range r.released {
		if old.assignment == one.assignment {
			news := one.at.After(old.at)
			if news {
				r.released[i].at = one.at
			}
			return news
		}
	}
	if len(r.released) == maxReleased {
		r.released = slices.Delete(r.released, 0, 1)
	}
	r.released = append(r.released, one)
	return true
}

// takeOff removes the driver from the trip.
func (r *trip) takeOff(at, now time.Time) {
	if r.driver != "" {
		r.formerDriver, r.releasedAt = r.driver, at
	}
	r.driver, r.assignment, r.hint, r.aside = "", "", "", time.Time{}
	r.changed = now
}

// dropAside takes off a driver whom Forget set aside more than AsideMemory ago.
func (r *trip) dropAside(now time.Time) {
	if !r.aside.IsZero() && now.Sub(r.aside) >= AsideMemory {
		r.takeOff(r.aside, r.changed) // this does not count as a change
	}
}

// tookOff returns the driver whom an earlier delivery of the same event took off.
func (r *trip) tookOff(e Event) string {
	if r.driver == "" && r.releasedAt.Equal(e.At) {
		return r.formerDriver
	}
	return ""
}

// parties returns the people who receive the trip's events.
func (r *trip) parties(now time.Time) Parties {
	known := r.known(now)
	if known.Driver == "" && r != nil {
		known.Driver = r.driver
	}
	return known
}

// known returns parties without a driver whom Forget set aside.
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

func (t *Table) endLocked(e Event, again bool) Result {
	now := t.now()
	r := t.trips[e.Trip]
	if r != nil {
		r.dropAside(now)
	}
	res := Result{Changed: !again, Parties: r.parties(now), Moves: Moves{Everybody: true}}
	if r != nil {
		t.unlistLocked(e.Trip, r)
		delete(t.trips, e.Trip)
	}
	t.closeLocked(e.Trip, ended, now)
	return res
}

func (t *Table) hash(id string) uint64 { return maphash.String(t.seed, id) }

func (t *Table) closedLocked(id string) int64 {
	h := t.hash(id)
	return max(t.closed[h], t.before[h])
}

// closeLocked remembers that a trip is closed up to a time. When the older generation is
// dropped, each entry in it is at least Memory old, or maxClosed was reached.
func (t *Table) closeLocked(id string, at int64, now time.Time) {
	if t.closed == nil || now.After(t.rotateAt) || len(t.closed) >= maxClosed {
		t.before, t.closed = t.closed, map[uint64]int64{}
		t.rotateAt = now.Add(Memory)
	}
	t.closed[t.hash(id)] = at
}

func (t *Table) addLocked(id string, now time.Time) *trip {
	if len(t.trips) >= t.sweepAt {
		t.sweepLocked(now)
	}
	r := &trip{seen: now}
	t.trips[id] = r
	return r
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
	t.sweepAt = max(sweepFrom, 2*len(t.trips))
}

// listLocked enters an assigned trip in byPerson.
func (t *Table) listLocked(id string, r *trip) {
	for _, who := range r.people() {
		t.byPerson[who] = append(t.byPerson[who], id)
	}
}

func (t *Table) unlistLocked(id string, r *trip) {
	for _, who := range r.people() {
		rest := slices.DeleteFunc(t.byPerson[who], func(other string) bool { return other == id })
		if t.byPerson[who] = rest; len(rest) == 0 {
			delete(t.byPerson, who)
		}
	}
}

// people returns those who belong in the trip's room.
func (r *trip) people() (who []Person) {
	if r.assigned && r.driver != "" && r.aside.IsZero() {
		who = append(who, Person{true, r.driver})
	}
	if r.assigned && r.passenger != "" {
		who = append(who, Person{false, r.passenger})
	}
	return who
}
