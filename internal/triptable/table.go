// Package triptable is the table of running trips: who takes part in each, by
// what the events of the trips say. It is pure: it knows no sockets, no rooms and
// no bus, and its clock is handed in.
//
// What decides is when an event happened, not when it arrives: a bus delivers
// again, and out of order. What is over stays over.
package triptable

import (
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// Memory is how long a trip of which nothing is heard is kept, and at least how
	// long an end is remembered, unless more than 2 x maxClosed trips end meanwhile.
	// An event that happened longer ago assigns nobody, so a bus may deliver again
	// whenever it likes.
	Memory = 24 * time.Hour
	// IdleMemory is how long the passenger of a trip that found no driver is kept,
	// for a search that begins again.
	IdleMemory = 10 * time.Minute
	// Settle is how long a change may be missing from a database that is read by
	// another way than the bus.
	Settle = 5 * time.Second
	// MaxSkew is how far ahead of this node's clock an event's time may be. One
	// further ahead counts as of now: it would outlast every later event.
	MaxSkew = 5 * time.Minute
	// HintMemory is how long a driver whom the host's lookup named is believed.
	HintMemory = 30 * time.Second
	// AsideMemory is for how long a driver whom Forget took off is sent the trip's
	// events: those that the host had published before may still be on their way.
	AsideMemory = 10 * time.Minute

	maxClosed   = 1 << 19 // ends in one generation, of 16 bytes each and the map's slack
	maxReleased = 8       // assignments of one trip known to be over
	sweepFrom   = 1024    // trips
)

// Kind is what an event does to a trip.
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

// Event is what an event says about the people of a trip. Nodes exchange it as
// JSON.
type Event struct {
	Kind       Kind      `json:"kind"`
	Trip       string    `json:"tripId"`
	At         time.Time `json:"at"` // when it happened
	Passenger  string    `json:"passengerId,omitempty"`
	Driver     string    `json:"driverId,omitempty"`
	Assignment string    `json:"assignmentId,omitempty"`
}

// Parties are the people of a trip; who is unknown is empty.
type Parties struct{ Passenger, Driver string }

// Person is a driver or a passenger.
type Person struct {
	Driver bool // else a passenger
	ID     string
}

// Moves says who enters and leaves the room of a trip.
type Moves struct {
	Everybody bool   // leaves: the trip ended
	People    bool   // its driver and passenger leave: it found no driver
	Driver    string // enters; a driver before them leaves
	Passenger string // likewise
	Leaves    string // a driver who leaves
}

// Result is what came of an event.
type Result struct {
	// Outdated says that something newer is known: the event has changed nothing,
	// and would mislead whoever is shown it.
	Outdated bool
	// Changed says that the table knows more now than before.
	Changed bool
	// Parties are those of the trip, before its end.
	Parties Parties
	Moves   Moves
}

// Table is a table of trips. All methods may be called concurrently.
type Table struct {
	now  func() time.Time
	seed maphash.Seed

	mu       sync.Mutex // guards everything below
	trips    map[string]*trip
	byPerson map[Person][]string // the assigned trips of each
	sweepAt  int                 // number of trips at which old ones are dropped
	// closed holds, by a hash of its id, the time up to which a trip is over.
	closed   map[uint64]int64 // microseconds since 1970
	before   map[uint64]int64 // the generation before
	rotateAt time.Time
}

// forGood is the time in Table.closed of a trip that has ended.
const forGood = 1<<63 - 1

type trip struct {
	passenger       string
	driver          string
	assignment      string // the one that put the driver on the trip; empty: not known
	formerDriver    string // the last one from whom the trip was taken
	formerPassenger string
	assigned        bool // its people are in its room
	idle            bool // it found no driver
	released        []release

	passengerAt time.Time // when the event happened that named the passenger
	assignedAt  time.Time // ... that assigned a driver last
	releasedAt  time.Time // ... that took the former driver off
	vacatedAt   time.Time // ... that found no driver and took the people out of the room

	changed time.Time // when the people changed, by our clock
	seen    time.Time // when something was heard of the trip

	aside time.Time // since when the host's lookup has not had the driver on the trip; zero: it has

	hint   string    // a driver whom the host's lookup named
	hinted time.Time // when
}

type release struct {
	assignment uint64 // its hash
	at         time.Time
}

// New returns an empty table.
func New(now func() time.Time) *Table {
	return &Table{now: now, seed: maphash.MakeSeed(), trips: map[string]*trip{}, byPerson: map[Person][]string{}, sweepAt: sweepFrom}
}

// Time returns when an event happened that says so: no later than MaxSkew from now.
func (t *Table) Time(at time.Time) time.Time {
	if now := t.now(); at.IsZero() || at.After(now.Add(MaxSkew)) {
		return now
	}
	return at
}

// Len returns the number of trips that are kept.
func (t *Table) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.trips)
}

// Apply records an event, unless it is outdated. The same event again changes nothing
// but moves the same people, unless something newer is known.
func (t *Table) Apply(e Event) Result {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	e.At = t.Time(e.At)
	over := t.closedLocked(e.Trip)
	if e.Kind == Ends {
		return t.endLocked(e, over == forGood)
	}
	r := t.trips[e.Trip]
	switch {
	case over == forGood:
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
	switch e.Kind {
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

// outdates reports whether what is known of the people is newer than the event.
func (r *trip) outdates(e Event, assignment uint64) bool {
	switch e.Kind {
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
			return false // the same, said in another way
		}
		return e.At.Before(r.assignedAt)
	}
	return false
}

func (t *Table) assign(r *trip, e Event, now time.Time, res *Result) {
	was := *r
	if e.Driver == "" && e.Assignment != "" && r.assignment != "" && e.Assignment != r.assignment {
		res.Moves.Leaves = r.driver // another driver's, of whom nothing is known
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

// release ends an assignment. It takes the driver off the trip if it is the one
// that put them on; where that is not known, if it is of the same driver.
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

// remember keeps the newest releases, and reports whether this one is news.
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

// takeOff takes the driver off the trip.
func (r *trip) takeOff(at, now time.Time) {
	if r.driver != "" {
		r.formerDriver, r.releasedAt = r.driver, at
	}
	r.driver, r.assignment, r.hint, r.aside = "", "", "", time.Time{}
	r.changed = now
}

// dropAside takes a driver off the trip who was set aside long ago.
func (r *trip) dropAside(now time.Time) {
	if !r.aside.IsZero() && now.Sub(r.aside) >= AsideMemory {
		r.takeOff(r.aside, r.changed) // to the bus that is no news
	}
}

// tookOff returns the driver whom the same event has taken off the trip before.
func (r *trip) tookOff(e Event) string {
	if r.driver == "" && r.releasedAt.Equal(e.At) {
		return r.formerDriver
	}
	return ""
}

// parties are those whom the trip's events concern.
func (r *trip) parties(now time.Time) Parties {
	known := r.known(now)
	if known.Driver == "" && r != nil {
		known.Driver = r.driver
	}
	return known
}

// known is parties without a driver who is set aside.
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
	t.closeLocked(e.Trip, forGood, now)
	return res
}

func (t *Table) hash(id string) uint64 { return maphash.String(t.seed, id) }

func (t *Table) closedLocked(id string) int64 {
	h := t.hash(id)
	return max(t.closed[h], t.before[h])
}

// closeLocked remembers that a trip is over. When the older generation is
// dropped each of its ends is at least Memory old, or there are too many.
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

// sweepLocked drops trips of which nothing was heard for long.
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

// listLocked enters a trip under its people, once it is assigned.
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

func (r *trip) people() (who []Person) {
	if r.assigned && r.driver != "" && r.aside.IsZero() {
		who = append(who, Person{true, r.driver})
	}
	if r.assigned && r.passenger != "" {
		who = append(who, Person{false, r.passenger})
	}
	return who
}
