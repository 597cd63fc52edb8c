// Trip rooms: which sockets are in trip:{id}. Domain events move the sockets of the driver
// and the passenger, on every node. A socket that connects later joins the rooms of its
// user's trips.

package realtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rodando/realtime/internal/triptable"
)

// maxActiveTrips is the maximum number of trips that a lookup may return for one user. A
// longer result is probably a query that lacks its condition.
const maxActiveTrips = 1000

var (
	errManyTrips = fmt.Errorf("the lookup returned more than %d trips of one user", maxActiveTrips)
	errBadID     = errors.New("the lookup returned an id that is empty, too long, or contains NUL or invalid UTF-8")
)

// changeOf returns what the trip table learns from an event. An invalid id of the event is left
// out: other nodes would refuse it.
func (p *publisher) changeOf(r *received, found TripParties) triptable.Event {
	about := r.about
	e := triptable.Event{
		Kind: about.does, Trip: about.tripID, At: p.trips.Time(r.at),
		Passenger: cmp.Or(about.parties.PassengerID, found.PassengerID), Assignment: about.assignment,
	}
	switch about.does { //nolint:exhaustive // the others name no driver
	case triptable.Assigns:
		e.Driver = cmp.Or(about.parties.DriverID, found.DriverID)
	case triptable.Releases:
		e.Driver = about.offeredTo
	case triptable.Opens:
		e.Driver = about.parties.DriverID
	}
	for _, id := range [...]*string{&e.Passenger, &e.Driver, &e.Assignment} {
		if !validID(*id) {
			*id = ""
		}
	}
	return e
}

// share sends an event of a trip to the other nodes, unless the bus delivers every event to
// every node. Each node applies it to its own trip table and moves its own sockets.
//
// The event is sent once in each namespace whose sockets may join or leave the room. These
// messages may arrive in any order, also relative to those of other nodes about the trip:
// the table orders events by the time at which they happened.
func (p *publisher) share(e triptable.Event) {
	if !p.rt.clustered || p.rt.opts.Cluster.BusFanOut {
		return
	}
	p.exchange.handled(e.Trip)
	if e.Kind >= triptable.Assigns {
		p.rt.shareState(NamespaceDrivers, stateContent{Trip: &e})
	}
	p.rt.shareState(NamespacePassengers, stateContent{Trip: &e})
	if e.Kind == triptable.Ends { // admins leave only when the trip ends
		p.rt.shareState(NamespaceAdmin, stateContent{Trip: &e})
	}
}

// shareAll sends everything that this node knows of a trip to the other nodes, once in each
// namespace. With last, they do not answer.
func (p *publisher) shareAll(tripID string, last bool) {
	if !p.rt.clustered || p.rt.opts.Cluster.BusFanOut {
		return
	}
	state, ok := p.trips.State(tripID)
	if !ok {
		return
	}
	for _, ns := range builtinNamespaces {
		p.rt.shareState(ns.name, stateContent{Known: &state, Last: last})
	}
}

// everyShareNamespace is the namespace in which share and shareAll always send. What a node
// does once for each event or state, and not once for each namespace, it does for this one.
const everyShareNamespace = NamespacePassengers

// applyEvent applies an event that another node has shared in a namespace, and moves this
// node's sockets there. It reports whether the event is valid. If this node knows something
// newer it sends everything that it knows of the trip: the other node has missed an event.
func (p *publisher) applyEvent(namespace string, e triptable.Event) bool {
	if !validID(e.Trip) || !validIDs(e.Passenger, e.Driver, e.Assignment) {
		return false
	}
	res := p.trips.Learn(e)
	// Also for an outdated event: newer events may have moved only the sockets of other people.
	p.move(e.Trip, res, namespace)
	if res.Outdated {
		if namespace == everyShareNamespace {
			p.exchange.share(e.Trip, false)
		}
		return true
	}
	if namespace == NamespaceDrivers {
		p.rt.offers.learned(e) // behind the offers that came before, in their namespace
	}
	if namespace != everyShareNamespace {
		return true
	}
	p.parties.learned(e.Trip)
	if e.Kind == triptable.Assigns {
		p.positions.tripLearned(e.Trip)
	}
	return true
}

// applyTripState applies everything that another node knows of a trip, as applyEvent does
// for one event. If this node knows more, it answers with its own state, unless last is
// set. The answer has last set, so the exchange ends.
func (p *publisher) applyTripState(namespace string, s triptable.State, last bool) bool {
	if !validState(s) {
		return false
	}
	res, _ := p.exchange.trips.Merge(s, true)
	p.stateLearned(s, res, namespace)
	if namespace != everyShareNamespace {
		return true
	}
	p.positions.tripLearned(s.Trip)
	p.parties.learned(s.Trip)
	if res.Outdated && !last {
		p.exchange.share(s.Trip, true)
	}
	return true
}

// stateLearned moves this node's sockets of a namespace after another node has told what it knows of a trip, and ends the offers
// of one that has ended.
func (p *publisher) stateLearned(s triptable.State, res triptable.Result, namespace string) {
	p.moveLearned(s.Trip, res, namespace)
	if s.Ended && namespace == NamespaceDrivers {
		p.rt.offers.void(s.Trip)
	}
}

// validState reports whether every id of a state is valid.
func validState(s triptable.State) bool {
	if !validID(s.Trip) || !validIDs(s.Passenger) {
		return false
	}
	invalid := func(f triptable.Fact) bool { return !validIDs(f.Driver, f.Assignment) }
	return !slices.ContainsFunc(s.Assigns, invalid) && !slices.ContainsFunc(s.Releases, invalid)
}

// validIDs reports whether every id is valid or empty.
func validIDs(ids ...string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { return id != "" && !validID(id) })
}

// move makes this node's sockets in the namespaces join and leave the trip's room, as res
// says. Several goroutines may call it at once, each after its own change of the table, so the
// moves of a newer change may have come before these. Therefore, if the trip has changed
// since res, or if messages with earlier moves were lost, move also makes the moves for the current
// state.
func (p *publisher) move(tripID string, res triptable.Result, namespaces ...string) {
	p.moveAll(tripID, res, true, namespaces)
}

// moveAll is move. Without joins the sockets only leave.
func (p *publisher) moveAll(tripID string, res triptable.Result, joins bool, namespaces []string) {
	all := p.late.made(tripID, res, namespaces)
	for m, version := res.Moves, res.Version; ; {
		for _, ns := range namespaces {
			p.moveIn(ns, tripID, m, joins)
		}
		now, latest := p.trips.Current(tripID, m)
		if latest == version && !all {
			return
		}
		m, version, all = now, latest, false
	}
}

// moveIn moves the sockets of one namespace.
func (p *publisher) moveIn(namespace, tripID string, m triptable.Moves, joins bool) {
	trip := TripRoom(tripID)
	in := func(room Room) Broadcast { return p.rt.lookup(namespace).To(room).Local() }
	replaceWith := func(room Room) {
		in(trip).Except(room).Leave(trip)
		if !joins {
			return
		}
		in(room).joinLocal([]string{trip.name}, maxRemoteRooms) // the trip may be an invention of another node
	}
	switch {
	case m.Everybody || m.People && namespace != NamespaceAdmin:
		in(trip).Leave(trip)
	case namespace == NamespaceDrivers:
		for _, id := range m.Leaves {
			in(DriverRoom(id)).Leave(trip)
		}
		if m.Driver != "" {
			replaceWith(DriverRoom(m.Driver))
		}
	case namespace == NamespacePassengers && m.Passenger != "":
		replaceWith(PassengerRoom(m.Passenger))
	}
}

// personOf returns a user of a namespace as the trip table names them. ok is false in a
// namespace whose users take part in no trips.
func personOf(namespace, userID string) (who triptable.Person, ok bool) {
	switch namespace {
	case NamespaceDrivers:
		return triptable.Person{Driver: true, ID: userID}, true
	case NamespacePassengers:
		return triptable.Person{ID: userID}, true
	}
	return who, false
}

// activeTrips calls Options.Trips and checks the result.
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

// checkTripIDs returns an error if the result of a TripLookup is too long or has an invalid
// id.
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

// joinTrips puts a connecting socket into the rooms of its user's trips: those that
// Options.Trips returns, and those that the trip table has learned since shortly before.
// Without Options.Trips it uses all trips of the table.
func (ns *Namespace) joinTrips(ctx context.Context, s *Socket, h *handshake) error {
	who, ok := personOf(ns.name, s.identity.UserID)
	if !ok {
		return nil
	}
	var since time.Time
	var trips []string
	if ns.rt.opts.Trips != nil {
		since = time.Now().Add(-triptable.Settle)
		found, err := callHost(ctx, ns.rt.host.trips, who.ID, h, func(ctx context.Context) ([]string, error) {
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
	for _, id := range append(trips, table.TripsOf(who, since)...) {
		ns.rt.joinTripRoom(s, id, who, since)
	}
	return nil
}

// joinTripRoom puts a socket into a trip's room, unless its user has left the trip according
// to what the trip table has learned at since or later. It reports whether the socket is in
// the room. It checks again after each step: an event that was applied between the check and
// the step may have found the socket in the wrong place.
func (rt *Server) joinTripRoom(s *Socket, id string, who triptable.Person, since time.Time) (in bool) {
	left := func() bool { return rt.publisher.trips.HasLeft(id, who, since) }
	for in = !left(); ; in = !in {
		if in {
			s.Join(TripRoom(id))
		} else {
			s.Leave(TripRoom(id))
		}
		if left() != in {
			return in
		}
	}
}
