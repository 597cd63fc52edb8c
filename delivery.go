// Deliveries: who receives what. Everything here is pure: no I/O, no clock, no
// state. What each event delivers stands in its own file, events_*.go.

package realtime

import (
	"cmp"
	"encoding/json"
	"time"
)

// delivery is one emission: one payload under one name to one namespace, to the
// union of rooms (each socket once).
type delivery struct {
	namespace string
	rooms     []Room
	event     string
	payload   any
	encoded   *[]byte // the payload's JSON, for all deliveries of it; nil inside until needed
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
		namespaces:  namespaces,
	}
	if !s.at.IsZero() {
		a.at = s.at
	}
	return b.deliver(a)
}

// audience is what a mapping knows besides the event itself.
type audience struct {
	eventID     string
	tripID      string
	passengerID string // empty: unknown
	driverID    string // empty: unknown
	at          time.Time
	narrow      bool
	namespaces  []string
}

// target is some rooms of one namespace; without rooms it is nobody.
type target struct {
	namespace string
	rooms     []Room
}

// send is the deliveries of one payload. That the payload fits the event is
// checked by the compiler.
func send[T any](e Event[T], payload T, to ...target) []delivery {
	out := make([]delivery, 0, len(to))
	boxed, encoded := any(payload), new([]byte)
	for _, t := range to {
		if len(t.rooms) > 0 {
			out = append(out, delivery{t.namespace, t.rooms, e.name, boxed, encoded})
		}
	}
	return out
}

// own is the sockets of one user in one namespace.
func own(namespace, userID string) target {
	if userID == "" {
		return target{}
	}
	return target{namespace, []Room{ownRoom(namespace, userID)}}
}

func (a audience) passenger() target { return own(NamespacePassengers, a.passengerID) }

func (a audience) driver() target { return own(NamespaceDrivers, a.driverID) }

// admins is "admin T" of the contract.
func (a audience) admins() target {
	if a.narrow {
		return target{NamespaceAdmin, []Room{TripRoom(a.tripID)}}
	}
	return target{NamespaceAdmin, []Room{AdminAllRoom, TripRoom(a.tripID)}}
}

// everywhere is the sockets of one user in every namespace.
func (a audience) everywhere(userID string) []target {
	out := make([]target, len(a.namespaces))
	for i, ns := range a.namespaces {
		out[i] = own(ns, userID)
	}
	return out
}

// orNull turns an absent value into JSON's null.
func orNull[S ~string](s S) *S {
	if s == "" {
		return nil
	}
	return &s
}
