// Deliveries: which audience receives which event with which payload. Everything here is
// pure: no I/O, no clock, no state. The deliveries of each domain event are in its file,
// events_*.go.

package realtime

import (
	"cmp"
	"strings"
	"time"
)

// Delivery is an event, its payload, and its audiences. Event.Deliver returns one.
type Delivery struct {
	event   string
	payload any
	to      []Audience
	latest  string // the key of Latest; empty: none
	again   bool   // the payload is the same as in the previous delivery
	// momentary says that a socket of another node that has joined a moment ago may miss the event.
	momentary bool
	// tracked makes the delivery to a driver an offer that is tracked; nil: it is an event like others.
	tracked *offerFacts
}

// Deliver returns a delivery of the event to audiences. Each of their sockets receives it
// once, also one that is in several audiences; the payload is encoded once for all. An empty
// audience, such as ToDriver(""), is left out.
func (e Event[T]) Deliver(payload T, to ...Audience) Delivery {
	return Delivery{event: e.name, payload: payload, to: to}
}

// deliverTwice returns deliveries of one payload as two events. The payload is encoded
// once.
func deliverTwice[T any](payload T, one Event[T], to Audience, other Event[T], toOther Audience) []Delivery {
	first := one.Deliver(payload, to)
	return []Delivery{first, {event: other.name, payload: first.payload, to: []Audience{toOther}, again: true}}
}

// Latest returns the delivery with a key, for values of which only the newest matters: if
// a receiver's connection is not writable, a newer delivery of the same event and key
// replaces an unsent older one.
func (d Delivery) Latest(key string) Delivery {
	d.latest = key
	return d
}

// Event returns the event's name on the wire.
func (d Delivery) Event() string { return d.event }

// Payload returns what the event carries.
func (d Delivery) Payload() any { return d.payload }

// Audiences returns the audiences that receive the event, without empty ones.
func (d Delivery) Audiences() []Audience {
	var to []Audience
	for _, a := range d.to {
		if !a.nobody() {
			to = append(to, a)
		}
	}
	return to
}

// Audience selects sockets: those that are in any of some rooms of one namespace, all of a
// namespace, or those of a user or a login session in every namespace. It is an immutable value. A namespace with
// NamespaceOptions.Anonymous has no users, so "every namespace" does not include it.
type Audience struct {
	namespace string // empty: every namespace that is not anonymous
	room      Room
	more      []Room // further rooms
	all       bool   // every socket of the namespace
	// Only if namespace is empty:
	session, user string
}

// ToDriver is every socket of a driver in /drivers.
func ToDriver(driverID string) Audience {
	return Audience{namespace: NamespaceDrivers, room: DriverRoom(driverID)}
}

// ToPassenger is every socket of a passenger in /passengers.
func ToPassenger(passengerID string) Audience {
	return Audience{namespace: NamespacePassengers, room: PassengerRoom(passengerID)}
}

// ToAdmins is every socket in /admin.
func ToAdmins() Audience { return Audience{namespace: NamespaceAdmin, room: AdminAllRoom} }

// ToDriverWatchers is every socket in /admin that watches the drivers: each one, unless it has
// sent admin:drivers:leave.
func ToDriverWatchers() Audience { return Audience{namespace: NamespaceAdmin, room: AdminDriversRoom} }

// ToUser is every socket of a user, in every namespace.
func ToUser(userID string) Audience { return Audience{user: userID} }

// ToSession is every socket of a login session, in every namespace.
func ToSession(sessionID string) Audience { return Audience{session: sessionID} }

// ToRoom is every socket in any of the rooms of a namespace, each once. For instance,
// TripRoom in /passengers has the sockets of the passenger of a running trip.
func ToRoom(namespace string, room Room, more ...Room) Audience {
	return Audience{namespace: namespace, room: room, more: more}
}

// ToAll is every socket of a namespace. In /drivers and /passengers use it only for what every user
// may know.
func ToAll(namespace string) Audience { return Audience{namespace: namespace, all: true} }

// String returns the namespace and the rooms, such as "/drivers driver:42", or "/drivers
// everybody". It returns "nobody" for an empty audience.
func (a Audience) String() string {
	if a.nobody() {
		return "nobody"
	}
	if a.namespace == "" {
		a.namespace, a.room, a.more = "every namespace", SessionRoom(a.session), []Room{UserRoom(a.user)}
	}
	if a.all {
		return a.namespace + " everybody"
	}
	words := []string{a.namespace}
	for _, r := range append([]Room{a.room}, a.more...) {
		if r != (Room{}) {
			words = append(words, r.name)
		}
	}
	return strings.Join(words, " ")
}

// nobody reports whether the audience can contain no socket at all.
func (a Audience) nobody() bool {
	if a.namespace == "" {
		return a.session == "" && a.user == ""
	}
	return !a.all && a.room == Room{} && len(names(a.more)) == 0
}

// in returns the audience of those sockets of a that are in one namespace. a must be an
// audience in every namespace.
func (a Audience) in(namespace string) Audience {
	b := Audience{namespace: namespace, room: SessionRoom(a.session)}
	if own := ownRoom(namespace, a.user); b.room == (Room{}) {
		b.room = own
	} else if own != (Room{}) {
		b.more = []Room{own}
	}
	return b
}

// overlap reports whether a socket may be in two of the audiences.
func overlap(all []Audience) bool {
	for i, a := range all {
		for _, b := range all[:i] {
			if a.namespace == b.namespace || a.namespace == "" || b.namespace == "" {
				return true
			}
		}
	}
	return false
}

// own returns the audience of one user's sockets in one namespace.
func own(namespace, userID string) Audience {
	return Audience{namespace: namespace, room: ownRoom(namespace, userID)}
}

// facts has what the deliver method of an event needs but may not find in the event itself.
type facts struct {
	eventID     string
	at          time.Time // when it happened
	tripID      string
	passengerID string   // empty: unknown
	driverID    string   // empty: unknown
	narrow      bool     // Options.AdminTripsByRoom
	trips       []string // for a driver's position: the ids of the driver's running trips
}

// factsOf returns the facts of an event. id and at come from the envelope. The event's own
// time, passenger and driver are used if it has them, otherwise at and the known ones.
func factsOf(s subject, id string, at time.Time, known TripParties, narrow bool) facts {
	return facts{
		eventID:     id,
		at:          cmp.Or(s.at, at),
		tripID:      s.tripID,
		passengerID: cmp.Or(s.parties.PassengerID, known.PassengerID),
		driverID:    cmp.Or(s.parties.DriverID, known.DriverID),
		narrow:      narrow,
	}
}

func (f facts) passenger() Audience { return ToPassenger(f.passengerID) }
func (f facts) driver() Audience    { return ToDriver(f.driverID) }

// admins returns the admins that receive a trip's events: all, or with AdminTripsByRoom only
// those in the trip's room.
func (f facts) admins() Audience {
	if f.narrow {
		return ToRoom(NamespaceAdmin, TripRoom(f.tripID))
	}
	return ToRoom(NamespaceAdmin, AdminAllRoom, TripRoom(f.tripID))
}

// orNull returns nil, which is null in JSON, for an empty string.
func orNull[S ~string](s S) *S {
	if s == "" {
		return nil
	}
	return &s
}
