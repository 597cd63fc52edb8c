// Trip rooms: who is in trip:{id}. Domain events put the driver and the
// passenger in and take them out, on every node, wherever and whenever their
// sockets connect.

package realtime

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rodando/realtime/internal/triptable"
)

// maxActiveTrips is how many trips one user may take part in: more are a query that
// has lost its condition.
const maxActiveTrips = 1000

var (
	errManyTrips = errors.New("the lookup returned more trips than anybody takes part in")
	errBadID     = errors.New("the lookup returned an id that is empty, too long, or contains NUL")
)

// share tells the other nodes of a trip, unless each hears the bus itself. Each moves
// its own sockets by what it knows itself.
//
// It is told in each namespace whose sockets may enter or leave the room. These
// messages may overtake each other, and those of other nodes about the same trip: what
// decides is when an event happened, and the same event always moves the same people.
func (p *publisher) share(e triptable.Event) {
	if !p.rt.clustered || p.rt.opts.Cluster.BusFanOut {
		return
	}
	if e.Kind >= triptable.Assigns {
		p.rt.shareState(NamespaceDrivers, NodeState{trip: &e})
	}
	p.rt.shareState(NamespacePassengers, NodeState{trip: &e})
	if e.Kind == triptable.Ends { // admins leave then only
		p.rt.shareState(NamespaceAdmin, NodeState{trip: &e})
	}
}

// tell tells the other nodes all that is known of a trip. It is told in each namespace,
// as the people of the trip may be anywhere.
func (p *publisher) tell(tripID string, last bool) {
	if !p.rt.clustered || p.rt.opts.Cluster.BusFanOut {
		return
	}
	state, ok := p.trips.State(tripID)
	if !ok {
		return
	}
	for _, ns := range builtinNamespaces {
		p.rt.shareState(ns.name, NodeState{known: &state, last: last})
	}
}

// saidOnce is, of the namespaces in which a node tells of a trip, the one in which it
// does always.
const saidOnce = NamespacePassengers

// learnt applies what another node has learnt of a trip to the sockets of a namespace,
// and reports whether it makes sense. When more is known here that node is told: it has
// missed something.
func (p *publisher) learnt(namespace string, e triptable.Event) bool {
	if !validID(e.Trip) || !validIDs(e.Passenger, e.Driver, e.Assignment) {
		return false
	}
	res := p.trips.Apply(e)
	if res.Outdated {
		if namespace == saidOnce {
			go p.tell(e.Trip, false) // the adapter is delivering
		}
		return true
	}
	p.moveIn(namespace, e.Trip, res.Moves)
	if namespace == saidOnce && e.Kind == triptable.Assigns {
		p.positions.learnt(e.Trip)
	}
	return true
}

// answered is learnt for all that another node knows. When still more is known here the
// nodes are told once again, and that is not answered: whatever they make of each
// other's answers, they come to rest.
func (p *publisher) answered(namespace string, s triptable.State, last bool) bool {
	if !validID(s.Trip) || !validIDs(s.Passenger) {
		return false
	}
	for _, f := range slices.Concat(s.Assigns, s.Releases) {
		if !validIDs(f.Driver, f.Assignment) {
			return false
		}
	}
	res := p.trips.Merge(s)
	p.moveIn(namespace, s.Trip, res.Moves)
	if namespace != saidOnce {
		return true
	}
	p.positions.learnt(s.Trip)
	if res.Outdated && !last {
		go p.tell(s.Trip, true) // the adapter is delivering
	}
	return true
}

// validIDs reports whether ids are valid or empty.
func validIDs(ids ...string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { return id != "" && !validID(id) })
}

// move puts this node's sockets into the trip's room and takes them out.
func (p *publisher) move(tripID string, m triptable.Moves) {
	for _, ns := range builtinNamespaces {
		p.moveIn(ns.name, tripID, m)
	}
}

// moveIn is move for one namespace.
func (p *publisher) moveIn(namespace, tripID string, m triptable.Moves) {
	trip := TripRoom(tripID)
	in := func(room Room) Broadcast { return p.rt.lookup(namespace).To(room).Local() }
	enter := func(room Room) {
		in(trip).Except(room).Leave(trip)
		in(room).Join(trip)
	}
	switch {
	case m.Everybody || m.People && namespace != NamespaceAdmin:
		in(trip).Leave(trip)
	case namespace == NamespaceDrivers:
		for _, id := range m.Leaves {
			in(DriverRoom(id)).Leave(trip)
		}
		if m.Driver != "" {
			enter(DriverRoom(m.Driver))
		}
	case namespace == NamespacePassengers && m.Passenger != "":
		enter(PassengerRoom(m.Passenger))
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
