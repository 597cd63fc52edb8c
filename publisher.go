// The publisher: from a domain event on the bus to the rooms that hear of it.

package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/rodando/realtime/internal/wheel"
)

// publisher handles the bus's events, one at a time for each key, and keeps
// what it has to know about running trips.
type publisher struct {
	rt    *Server
	trips tripTable
	seen  recentIDs
}

func newPublisher(rt *Server) *publisher {
	p := &publisher{rt: rt}
	p.seen.size = rt.opts.Limits.RememberedEvents
	rt.Admin().OnServerEmit(tripSync, p.synced)
	return p
}

// handle is the subscription: one event, from the bus to the sockets.
func (p *publisher) handle(ctx context.Context, env Envelope) error {
	if !p.seen.add(env.ID) {
		return nil
	}
	e, err := decodeDomain(env.Name, env.Data)
	if err == nil && e != nil {
		err = checkDomain(e)
	}
	if err != nil {
		// Trying again would not help, so the bus is not told.
		p.rt.log.Error("realtime: domain event not delivered", "event", env.Name, "id", env.ID, "error", err)
	}
	if e == nil {
		return nil
	}
	about := subjectOf(e)
	parties := p.learn(ctx, e, about)
	if err == nil {
		p.before(e, about, parties)
		p.emit(e, env, parties)
	}
	p.after(e, about, parties)
	if f := p.rt.opts.Trace.Delivered; f != nil && err == nil {
		f(env.Name, time.Since(env.At))
	}
	return nil
}

// learn returns the people of the event's trip: those whom the event names,
// else those known from earlier events, else those of Options.Parties.
func (p *publisher) learn(ctx context.Context, e DomainEvent, about subject) TripParties {
	if about.tripID == "" {
		return TripParties{}
	}
	parties := p.trips.learn(about.tripID, about.parties)
	if parties.PassengerID != "" && parties.DriverID != "" || p.rt.opts.Parties == nil {
		return parties
	}
	found, err := ask(p.rt, ctx, nil, func(ctx context.Context) (found TripParties, err error) {
		defer func() {
			if p := recover(); p != nil {
				err = panicked{p, debug.Stack()}
			}
		}()
		return p.rt.opts.Parties.FindParties(ctx, about.tripID)
	})
	if err != nil {
		if !errors.Is(err, ErrNotFound) {
			p.rt.log.Error("realtime: trip's parties not found; those known are told", "event", e.EventName(), "trip", about.tripID, "error", err)
		}
		return parties
	}
	found.PassengerID = or(parties.PassengerID, found.PassengerID)
	found.DriverID = or(parties.DriverID, found.DriverID)
	return found
}

// before puts the people of a trip into its room, so that they hear the event
// that assigns it.
func (p *publisher) before(e DomainEvent, about subject, parties TripParties) {
	switch e.(type) {
	case DriverAssigned, AssignmentAccepted:
	default:
		return
	}
	t := tripChange{TripID: about.tripID, PassengerID: parties.PassengerID, DriverID: parties.DriverID}
	former := p.trips.assign(t)
	p.sync(t)
	if former != "" {
		p.to(NamespaceDrivers, DriverRoom(former)).Leave(TripRoom(t.TripID))
	}
	if t.DriverID != "" {
		p.to(NamespaceDrivers, DriverRoom(t.DriverID)).Join(TripRoom(t.TripID))
	}
	if t.PassengerID != "" {
		p.to(NamespacePassengers, PassengerRoom(t.PassengerID)).Join(TripRoom(t.TripID))
	}
}

func (p *publisher) emit(e DomainEvent, env Envelope, parties TripParties) {
	if l, ok := e.(DriverLocationChanged); ok {
		p.emitLocation(l.LocationUpdate, env.ID, p.trips.drivenBy(l.DriverID))
		return
	}
	var namespaces []string
	p.rt.each(func(ns *Namespace) {
		if !ns.opts.Anonymous {
			namespaces = append(namespaces, ns.name)
		}
	})
	for _, d := range deliveries(e, env.ID, env.At, parties, p.rt.opts.AdminTripsByRoom, namespaces) {
		p.deliver(d, p.to(d.namespace, d.rooms...))
	}
}

// emitLocation emits a driver's position, of which only the newest matters.
func (p *publisher) emitLocation(u LocationUpdate, id string, trips []string) {
	for _, d := range locationDeliveries(u, id, trips) {
		p.deliver(d, p.rt.lookup(d.namespace).To(d.rooms...).Latest(d.event+u.DriverID))
	}
}

// deliver emits one delivery, which is not encoded where nobody hears it.
func (p *publisher) deliver(d delivery, to Broadcast) {
	if to.nobody() {
		return
	}
	arg, err := d.json()
	if err == nil {
		err = to.emit(d.event, arg)
	}
	if err != nil {
		p.rt.log.Error("realtime: event not emitted", "namespace", d.namespace, "event", d.event, "error", err)
	}
}

// after does what follows the event for those who were told of it.
func (p *publisher) after(e DomainEvent, about subject, parties TripParties) {
	switch e := e.(type) {
	case TripCompleted, TripCancelled:
		t := tripChange{TripID: about.tripID, Ended: true}
		p.trips.end(t.TripID)
		p.sync(t)
		for _, ns := range builtinNamespaces {
			p.to(ns, TripRoom(t.TripID)).Leave(TripRoom(t.TripID))
		}
	case AssignmentCancelled:
		p.unassign(e.TripID, e.DriverID)
	case AssignmentExpired:
		p.unassign(e.TripID, e.DriverID)
	case SessionRevoked:
		p.everywhere(func(*Namespace) Room { return SessionRoom(e.SID) }, Broadcast.Disconnect)
	case UserAccessChanged:
		p.everywhere(func(ns *Namespace) Room { return ownRoom(ns.name, e.UserID) }, Broadcast.Disconnect)
	case SessionRefreshed:
		if e.OldSID != e.NewSID {
			p.expireLater(e.OldSID)
		}
	}
}

// unassign takes a driver out of a trip that was his.
func (p *publisher) unassign(tripID, driverID string) {
	if driverID != "" && p.trips.unassign(tripID, driverID) {
		p.sync(tripChange{TripID: tripID, Unassigned: driverID})
		p.to(NamespaceDrivers, DriverRoom(driverID)).Leave(TripRoom(tripID))
	}
}

// expireLater closes the sockets of a session that was refreshed and that have
// not renewed themselves by then.
func (p *publisher) expireLater(sid string) {
	expire := func() {
		p.everywhere(func(*Namespace) Room { return SessionRoom(sid) }, func(b Broadcast) {
			_ = EventAuthExpired.Emit(b, AuthExpiredPayload{At: Time{time.Now()}}) // marshals
			b.Close()
		})
	}
	p.rt.wheel.Arm(&wheel.Timer{F: func() { go expire() }}, p.rt.opts.RefreshGrace)
}

// everywhere does something to one room of each namespace.
func (p *publisher) everywhere(room func(ns *Namespace) Room, do func(Broadcast)) {
	p.rt.each(func(ns *Namespace) { do(p.to(ns.name, room(ns))) })
}

// to selects sockets of all nodes, or of this one when each hears the bus.
func (p *publisher) to(namespace string, rooms ...Room) Broadcast {
	b := p.rt.lookup(namespace).To(rooms...)
	b.local = p.rt.opts.BusFanOut
	return b
}

// joinTrips puts a connecting socket into the rooms of the trips that its user
// takes part in. Each room is joined before its trip is looked at again, so that
// a trip that ends meanwhile is left, by this or by the event that ends it.
func (ns *Namespace) joinTrips(s *Socket, h *handshake) error {
	if ns.name != NamespaceDrivers && ns.name != NamespacePassengers {
		return nil
	}
	table := &ns.rt.publisher.trips
	trips := table.of(ns.name, s.identity.UserID)
	if ns.rt.opts.Trips != nil {
		found, err := ask(ns.rt, ns.rt.ctx, h, func(ctx context.Context) ([]string, error) {
			return ns.rt.opts.Trips.ActiveTrips(ctx, s.identity.UserID)
		})
		if err != nil {
			return err
		}
		trips = append(trips, found...)
	}
	for _, id := range trips {
		s.Join(TripRoom(id))
		if table.hasEnded(id) {
			s.Leave(TripRoom(id))
		}
	}
	return nil
}

// tripSync is how a node tells the others about a trip, so that each knows the
// running ones when a socket connects.
const tripSync = "realtime:trip"

// tripChange is what it tells.
type tripChange struct {
	TripID      string `json:"tripId"`
	PassengerID string `json:"passengerId,omitempty"`
	DriverID    string `json:"driverId,omitempty"`
	Unassigned  string `json:"unassigned,omitempty"` // a driver who is not the trip's any more
	Ended       bool   `json:"ended,omitempty"`
}

func (p *publisher) sync(t tripChange) {
	if !p.rt.clustered || p.rt.opts.BusFanOut {
		return
	}
	if err := p.rt.Admin().ServerEmit(p.rt.ctx, tripSync, t); err != nil {
		p.rt.log.Error("realtime: adapter failed", "op", OpServerEmit, "error", err)
	}
}

func (p *publisher) synced(args Raw) {
	var t tripChange
	if len(args.Args) != 1 || json.Unmarshal(args.Args[0], &t) != nil || t.TripID == "" {
		return
	}
	switch {
	case t.Ended:
		p.trips.end(t.TripID)
	case t.Unassigned != "":
		p.trips.unassign(t.TripID, t.Unassigned)
	default:
		p.trips.assign(t)
	}
}

// tripTable is what the server has seen of running trips.
//
// tripTable.mu guards all of it.
type tripTable struct {
	mu       sync.Mutex
	trips    map[string]*runningTrip
	sweepAt  int // number of trips at which those whose end was missed are dropped
	ended    map[string]struct{}
	before   map[string]struct{} // the generation of ended before
	rotateAt time.Time
}

type runningTrip struct {
	parties  TripParties
	assigned bool
	seen     time.Time
}

const (
	// tripMemory is how long a trip of which nothing is heard is remembered.
	tripMemory = 24 * time.Hour
	// endedMemory is at least how long a trip is known to have ended.
	endedMemory = time.Minute
)

// learn adds what an event says about a trip's people and returns all that is
// known. An offered driver is not the trip's, and not in there.
func (t *tripTable) learn(id string, p TripParties) TripParties {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p == (TripParties{}) && t.trips[id] == nil {
		return p
	}
	trip := t.tripLocked(id)
	trip.parties.PassengerID = or(p.PassengerID, trip.parties.PassengerID)
	return TripParties{PassengerID: trip.parties.PassengerID, DriverID: or(p.DriverID, trip.parties.DriverID)}
}

func (t *tripTable) tripLocked(id string) *runningTrip {
	if t.trips == nil {
		t.trips = map[string]*runningTrip{}
	}
	trip := t.trips[id]
	if trip == nil {
		if len(t.trips) >= max(t.sweepAt, 1024) {
			maps.DeleteFunc(t.trips, func(_ string, r *runningTrip) bool { return time.Since(r.seen) > tripMemory })
			t.sweepAt = 2 * len(t.trips)
		}
		trip = &runningTrip{}
		t.trips[id] = trip
	}
	trip.seen = time.Now()
	return trip
}

// assign records a trip's driver and returns the one it had before, if it is
// another.
func (t *tripTable) assign(c tripChange) (former string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	trip := t.tripLocked(c.TripID)
	if had := trip.parties.DriverID; had != "" && c.DriverID != "" && had != c.DriverID {
		former = had
	}
	trip.parties.PassengerID = or(c.PassengerID, trip.parties.PassengerID)
	trip.parties.DriverID = or(c.DriverID, trip.parties.DriverID)
	trip.assigned = true
	return former
}

// unassign reports whether the driver was the trip's.
func (t *tripTable) unassign(id, driverID string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	trip := t.trips[id]
	if trip == nil || trip.parties.DriverID != driverID {
		return false
	}
	trip.parties.DriverID = ""
	return true
}

// end forgets a trip but for the fact that it is over.
func (t *tripTable) end(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.trips, id)
	if now := time.Now(); t.ended == nil || now.After(t.rotateAt) {
		t.before, t.ended = t.ended, map[string]struct{}{}
		t.rotateAt = now.Add(endedMemory)
	}
	t.ended[id] = struct{}{}
}

func (t *tripTable) hasEnded(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, now := t.ended[id]
	_, before := t.before[id]
	return now || before
}

// of returns the assigned trips of a driver or a passenger.
func (t *tripTable) of(namespace, userID string) (ids []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, trip := range t.trips {
		who := trip.parties.PassengerID
		if namespace == NamespaceDrivers {
			who = trip.parties.DriverID
		}
		if trip.assigned && who == userID {
			ids = append(ids, id)
		}
	}
	return ids
}

func (t *tripTable) drivenBy(driverID string) []string { return t.of(NamespaceDrivers, driverID) }

// recentIDs remembers the last size ids, so that an event that a bus delivers
// twice is emitted once.
//
// recentIDs.mu guards all of it.
type recentIDs struct {
	mu   sync.Mutex
	size int // negative: remember none
	ids  map[string]struct{}
	ring []string
	next int
}

// add reports whether the id is new. An event without an id always is.
func (r *recentIDs) add(id string) bool {
	if id == "" || r.size < 0 {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.ids[id]; ok {
		return false
	}
	if r.ids == nil {
		r.ids = make(map[string]struct{})
	}
	if len(r.ring) < r.size {
		r.ring = append(r.ring, id)
	} else {
		delete(r.ids, r.ring[r.next])
		r.ring[r.next] = id
		r.next = (r.next + 1) % r.size
	}
	r.ids[id] = struct{}{}
	return true
}

// newEventID names an event that did not come from the bus.
func newEventID() string { return uuid.NewString() }
