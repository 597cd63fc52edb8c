// Trip rooms: who is in trip:{id}. Domain events put the driver and the
// passenger in and take them out, on every node, wherever and whenever their
// sockets connect.

package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// tripChange is what a domain event changes about the people of a trip: it
// ended, or a driver is not its own any more, or else it has these people now.
type tripChange struct {
	TripID      string `json:"tripId"`
	PassengerID string `json:"passengerId,omitempty"`
	DriverID    string `json:"driverId,omitempty"`
	Unassigned  string `json:"unassigned,omitempty"`
	Ended       bool   `json:"ended,omitempty"`
}

// tripSync is how a node tells the others of a change, so that each knows the
// running trips when a socket connects.
const tripSync = "realtime:trip"

// change applies a change, here and on the other nodes.
func (p *publisher) change(c tripChange) {
	if c.TripID == "" {
		return // an event that was not valid
	}
	p.trips.apply(c)
	if p.rt.clustered && !p.rt.opts.BusFanOut {
		if err := p.rt.Admin().ServerEmit(context.Background(), tripSync, c); err != nil {
			p.rt.log.Error("realtime: adapter failed", "op", OpServerEmit, "error", err)
		}
	}
	c.move(p.to)
}

// unassign takes a driver off a trip, if it was his.
func (p *publisher) unassign(tripID, driverID string) {
	if driverID != "" {
		p.change(tripChange{TripID: tripID, Unassigned: driverID})
	}
}

// synced applies a change that another node has told. That node moves sockets
// here too; but one that connects may have come between that and this.
func (p *publisher) synced(args Raw) {
	var c tripChange
	if len(args.Args) != 1 || json.Unmarshal(args.Args[0], &c) != nil || c.TripID == "" {
		return
	}
	p.trips.apply(c)
	c.move(func(namespace string, rooms ...Room) Broadcast { return p.rt.to(namespace, rooms...).Local() })
}

// move puts sockets into the trip's room and takes them out.
func (c tripChange) move(to func(namespace string, rooms ...Room) Broadcast) {
	trip := TripRoom(c.TripID)
	switch {
	case c.Ended:
		for _, ns := range builtinNamespaces {
			to(ns.name, trip).Leave(trip)
		}
		return
	case c.Unassigned != "":
		to(NamespaceDrivers, DriverRoom(c.Unassigned)).Leave(trip)
		return
	}
	if c.DriverID != "" {
		to(NamespaceDrivers, trip).Except(DriverRoom(c.DriverID)).Leave(trip) // a driver before him
		to(NamespaceDrivers, DriverRoom(c.DriverID)).Join(trip)
	}
	if c.PassengerID != "" {
		to(NamespacePassengers, PassengerRoom(c.PassengerID)).Join(trip)
	}
}

// maxActiveTrips is how many trips one user may take part in: more are a query
// that has lost its condition.
const maxActiveTrips = 1000

var errManyTrips = errors.New("the lookup returned more trips than anybody takes part in")

// joinTrips puts a connecting socket into the rooms of the trips that its user
// takes part in. Each room is joined before its trip is looked at again, so that
// one that is over meanwhile is left, by this or by the event that says so.
func (ns *Namespace) joinTrips(s *Socket, h *handshake) error {
	if ns.name != NamespaceDrivers && ns.name != NamespacePassengers {
		return nil
	}
	user := s.identity.UserID
	table := &ns.rt.publisher.trips
	trips := table.of(ownRoom(ns.name, user))
	if ns.rt.opts.Trips != nil {
		found, err := ask(ns.rt, ns.rt.ctx, h, askTrips, func(ctx context.Context) ([]string, error) {
			return ns.rt.opts.Trips.ActiveTrips(ctx, user)
		})
		if err != nil {
			return err
		}
		if len(found) > maxActiveTrips {
			return errManyTrips
		}
		trips = append(trips, found...)
	}
	for _, id := range trips {
		s.Join(TripRoom(id))
		if table.over(id, user) {
			s.Leave(TripRoom(id))
		}
	}
	return nil
}

// tripTable is what the server has seen of running trips.
//
// tripTable.mu guards all of it.
type tripTable struct {
	mu       sync.Mutex
	trips    map[string]*runningTrip
	byUser   map[Room][]string // the assigned trips of each driver and passenger
	sweepAt  int               // number of trips at which those whose end was missed are dropped
	ended    map[string]struct{}
	before   map[string]struct{} // the generation of ended before
	rotateAt time.Time
}

type runningTrip struct {
	parties  TripParties
	former   string // the last driver from whom it was taken
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
	if p.PassengerID != "" && p.PassengerID != trip.parties.PassengerID {
		t.unlistLocked(id, trip)
		trip.parties.PassengerID = p.PassengerID
		t.listLocked(id, trip)
	}
	return TripParties{PassengerID: trip.parties.PassengerID, DriverID: or(p.DriverID, trip.parties.DriverID)}
}

// apply records a change.
func (t *tripTable) apply(c tripChange) {
	t.mu.Lock()
	defer t.mu.Unlock()
	trip := t.tripLocked(c.TripID)
	t.unlistLocked(c.TripID, trip)
	had := trip.parties.DriverID
	switch {
	case c.Ended:
		delete(t.trips, c.TripID)
		t.endLocked(c.TripID)
		return
	case c.Unassigned == "":
		trip.parties.PassengerID = or(c.PassengerID, trip.parties.PassengerID)
		trip.parties.DriverID = or(c.DriverID, had)
		trip.assigned = true
	case c.Unassigned == had:
		trip.parties.DriverID = ""
	}
	switch now := trip.parties.DriverID; {
	case had != "" && had != now:
		trip.former = had
	case now == trip.former:
		trip.former = ""
	}
	t.listLocked(c.TripID, trip)
}

func (t *tripTable) tripLocked(id string) *runningTrip {
	if t.trips == nil {
		t.trips, t.byUser = map[string]*runningTrip{}, map[Room][]string{}
	}
	trip := t.trips[id]
	if trip == nil {
		if len(t.trips) >= max(t.sweepAt, 1024) {
			t.sweepLocked()
		}
		trip = &runningTrip{}
		t.trips[id] = trip
	}
	trip.seen = time.Now()
	return trip
}

// sweepLocked drops trips of which nothing was heard for long.
func (t *tripTable) sweepLocked() {
	maps.DeleteFunc(t.trips, func(id string, trip *runningTrip) bool {
		old := time.Since(trip.seen) > tripMemory
		if old {
			t.unlistLocked(id, trip)
		}
		return old
	})
	t.sweepAt = 2 * len(t.trips)
}

// listLocked enters a trip under its people, once it is assigned.
func (t *tripTable) listLocked(id string, trip *runningTrip) {
	for _, who := range trip.people() {
		t.byUser[who] = append(t.byUser[who], id)
	}
}

func (t *tripTable) unlistLocked(id string, trip *runningTrip) {
	for _, who := range trip.people() {
		rest := slices.DeleteFunc(t.byUser[who], func(other string) bool { return other == id })
		if t.byUser[who] = rest; len(rest) == 0 {
			delete(t.byUser, who)
		}
	}
}

func (r *runningTrip) people() (who []Room) {
	if r.assigned && r.parties.DriverID != "" {
		who = append(who, DriverRoom(r.parties.DriverID))
	}
	if r.assigned && r.parties.PassengerID != "" {
		who = append(who, PassengerRoom(r.parties.PassengerID))
	}
	return who
}

// endLocked remembers for a while that a trip is over.
func (t *tripTable) endLocked(id string) {
	if now := time.Now(); t.ended == nil || now.After(t.rotateAt) {
		t.before, t.ended = t.ended, map[string]struct{}{}
		t.rotateAt = now.Add(endedMemory)
	}
	t.ended[id] = struct{}{}
}

// over reports whether a trip has ended, or is not this driver's any more.
func (t *tripTable) over(id, userID string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, now := t.ended[id]
	_, before := t.before[id]
	trip := t.trips[id]
	return now || before || trip != nil && userID == trip.former
}

// of returns the assigned trips of the user whose own room that is.
func (t *tripTable) of(user Room) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.byUser[user])
}
