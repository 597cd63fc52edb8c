// Trip rooms: who is in trip:{id}. Domain events put the driver and the
// passenger in and take them out, on every node, wherever and whenever their
// sockets connect.

package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/rodando/realtime/internal/triptable"
)

const (
	// tripSync is how a node tells the others what it has learnt of a trip. Each
	// moves its own sockets by what it knows itself.
	tripSync = "realtime:trip"
	// maxActiveTrips is how many trips one user may take part in: more are a query
	// that has lost its condition.
	maxActiveTrips = 1000
)

var (
	errManyTrips = errors.New("the lookup returned more trips than anybody takes part in")
	errBadID     = errors.New("the lookup returned an id that is empty, too long, or contains NUL")
)

// share tells the other nodes, unless each hears the bus itself.
func (p *publisher) share(e triptable.Event) {
	if !p.rt.clustered || p.rt.opts.Cluster.BusFanOut {
		return
	}
	if err := p.rt.Admin().ServerEmit(context.Background(), tripSync, e); err != nil {
		p.rt.adapterFailed(err, "op", OpServerEmit)
	}
}

// synced applies what another node has learnt. When more is known here that node
// is told: it has missed something.
func (p *publisher) synced(args Raw) {
	var e triptable.Event
	if len(args.Args) != 1 || json.Unmarshal(args.Args[0], &e) != nil || !validID(e.Trip) {
		return
	}
	res := p.trips.Apply(e)
	if res.Outdated {
		if state, ok := p.trips.State(e.Trip); ok {
			go p.share(state) // the adapter is delivering
		}
		return
	}
	p.move(e.Trip, res.Moves)
	p.positions.learnt(e)
}

// move puts this node's sockets into the trip's room and takes them out.
func (p *publisher) move(tripID string, m triptable.Moves) {
	trip := TripRoom(tripID)
	to := func(namespace string, rooms ...Room) Broadcast { return p.rt.to(namespace, rooms...).Local() }
	if m.Everybody {
		for _, ns := range builtinNamespaces {
			to(ns.name, trip).Leave(trip)
		}
		return
	}
	if m.People {
		to(NamespaceDrivers, trip).Leave(trip)
		to(NamespacePassengers, trip).Leave(trip)
	}
	if m.Leaves != "" {
		to(NamespaceDrivers, DriverRoom(m.Leaves)).Leave(trip)
	}
	if m.Driver != "" {
		to(NamespaceDrivers, trip).Except(DriverRoom(m.Driver)).Leave(trip)
		to(NamespaceDrivers, DriverRoom(m.Driver)).Join(trip)
	}
	if m.Passenger != "" {
		to(NamespacePassengers, trip).Except(PassengerRoom(m.Passenger)).Leave(trip)
		to(NamespacePassengers, PassengerRoom(m.Passenger)).Join(trip)
	}
}

// rider is the user as one of a trip's people; ok is false in namespaces where
// nobody is.
func rider(namespace, userID string) (who triptable.Person, ok bool) {
	switch namespace {
	case NamespaceDrivers:
		return triptable.Person{Driver: true, ID: userID}, true
	case NamespacePassengers:
		return triptable.Person{ID: userID}, true
	}
	return who, false
}

// activeTrips asks Options.Trips.
func (rt *Server) activeTrips(ctx context.Context, userID string) ([]string, error) {
	found, err := rt.opts.Trips.ActiveTrips(ctx, userID)
	if err == nil {
		err = checkTripIDs(found)
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}

// checkTripIDs reports what is wrong with the answer of a TripLookup.
func checkTripIDs(ids []string) error {
	if len(ids) > maxActiveTrips {
		return errManyTrips
	}
	for _, id := range ids {
		if !validID(id) {
			return errBadID
		}
	}
	return nil
}

// joinTrips puts a connecting socket into the rooms of the trips that its user
// takes part in: those that Options.Trips answers and those of which the bus has
// said so since shortly before; without a lookup, all of which the bus has said so.
// Each room is joined before its trip is looked at again, so that one that is over
// meanwhile is left, by this or by the event that says so.
func (ns *Namespace) joinTrips(ctx context.Context, s *Socket, h *handshake) error {
	who, ok := rider(ns.name, s.identity.UserID)
	if !ok {
		return nil
	}
	var since time.Time
	var trips []string
	if ns.rt.opts.Trips != nil {
		since = time.Now().Add(-triptable.Settle)
		found, err := ask(ctx, ns.rt.host.trips, h, func(ctx context.Context) ([]string, error) {
			return ns.rt.activeTrips(ctx, who.ID)
		})
		if err != nil {
			return err
		}
		trips = found
	}
	table := ns.rt.publisher.trips
	for _, id := range trips {
		table.Confirm(id, who, since)
	}
	for _, id := range append(trips, table.Of(who, since)...) {
		ns.rt.enterTrip(s, id, who, since)
	}
	return nil
}

// enterTrip puts a socket into a trip's room, unless its user is known to have left
// the trip at since or later, and reports whether it is in there.
func (rt *Server) enterTrip(s *Socket, id string, who triptable.Person, since time.Time) bool {
	if rt.publisher.trips.Left(id, who, since) {
		return false
	}
	s.Join(TripRoom(id))
	if rt.publisher.trips.Left(id, who, since) { // meanwhile
		s.Leave(TripRoom(id))
		return false
	}
	return true
}
