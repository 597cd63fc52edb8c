// Deliveries: who receives what. Everything here is pure: no I/O, no clock, no
// state. What each event delivers stands in its own file, events_*.go.

package realtime

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// delivery is one emission: one payload under one name to one namespace, to the
// union of rooms (each socket once).
type delivery struct {
	target
	event   string
	payload any
	encoded *[]byte // the payload's JSON, for all deliveries of it; nil inside until needed
}

// json returns the payload's JSON, encoded once.
func (d delivery) json() ([]byte, error) {
	if *d.encoded == nil {
		b, err := json.Marshal(d.payload)
		if err != nil {
			return nil, err
		}
		*d.encoded = b
	}
	return *d.encoded, nil
}

// deliveries maps a domain event to its emissions, in the order in which they
// are to be sent. id is the bus event's, at the envelope's time, which an
// event's own At overrides; p are the trip's people as far as known, overridden
// by those whom the event names, and who is unknown is left out. narrow keeps
// trip events from admins who did not join the trip. namespaces are all that
// the server has, for what concerns a user wherever the user is connected.
//
// An event of the host's own has no deliveries. A DriverLocationChanged gets
// those that need no trip; locationDeliveries makes them all.
func deliveries(e DomainEvent, id string, at time.Time, p TripParties, narrow bool, namespaces []string) []delivery {
	b, ok := e.(builtin)
	if !ok {
		return nil
	}
	s := b.about()
	a := audience{
		eventID:     id,
		tripID:      s.tripID,
		passengerID: cmp.Or(s.parties.PassengerID, p.PassengerID),
		driverID:    cmp.Or(s.parties.DriverID, p.DriverID),
		at:          at,
		narrow:      narrow,
	}
	if !s.at.IsZero() {
		a.at = s.at
	}
	return expand(b.deliver(a), namespaces)
}

// audience is what a mapping knows besides the event itself.
type audience struct {
	eventID     string
	tripID      string
	passengerID string // empty: unknown
	driverID    string // empty: unknown
	at          time.Time
	narrow      bool
	trips       []string // those that the driver is on
}

// target is some rooms of one namespace; without rooms it is nobody. Without a
// namespace it is the sockets of a login session and of a user, in every namespace.
type target struct {
	namespace       string
	rooms           []Room
	session, userID string
}

func in(namespace string, rooms ...Room) target { return target{namespace: namespace, rooms: rooms} }

// everywhere is the sockets of a login session and of a user in every namespace;
// either may be empty.
func everywhere(session, userID string) target { return target{session: session, userID: userID} }

func (t target) nobody() bool { return len(t.rooms) == 0 && t.session == "" && t.userID == "" }

// expand puts one delivery for each of the namespaces in the place of those that
// are for all of them.
func expand(ds []delivery, namespaces []string) []delivery {
	if !slices.ContainsFunc(ds, func(d delivery) bool { return d.namespace == "" }) {
		return ds
	}
	var out []delivery
	for _, d := range ds {
		if d.namespace != "" {
			out = append(out, d)
			continue
		}
		for _, ns := range namespaces {
			one := d
			one.target = target{namespace: ns}
			if d.session != "" {
				one.rooms = append(one.rooms, SessionRoom(d.session))
			}
			if d.userID != "" {
				one.rooms = append(one.rooms, ownRoom(ns, d.userID))
			}
			out = append(out, one)
		}
	}
	return out
}

// send is the deliveries of one payload. That the payload fits the event is
// checked by the compiler.
func send[T any](e Event[T], payload T, to ...target) []delivery {
	out := make([]delivery, 0, len(to))
	boxed, encoded := any(payload), new([]byte)
	for _, t := range to {
		if !t.nobody() {
			out = append(out, delivery{t, e.name, boxed, encoded})
		}
	}
	return out
}

// own is the sockets of one user in one namespace.
func own(namespace, userID string) target {
	if userID == "" {
		return target{}
	}
	return in(namespace, ownRoom(namespace, userID))
}

func (a audience) passenger() target { return own(NamespacePassengers, a.passengerID) }

func (a audience) driver() target { return own(NamespaceDrivers, a.driverID) }

// admins is "admin T" of the contract.
func (a audience) admins() target {
	if a.narrow {
		return in(NamespaceAdmin, TripRoom(a.tripID))
	}
	return in(NamespaceAdmin, AdminAllRoom, TripRoom(a.tripID))
}

// orNull turns an absent value into JSON's null.
func orNull[S ~string](s S) *S {
	if s == "" {
		return nil
	}
	return &s
}
