// Domain events: the interface of the events that the host's services publish, and the
// checks that they share. The events themselves are in events_*.go.

package realtime

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/rodando/realtime/internal/triptable"
)

// DomainEvent is something that happened in the host's services. The library's own domain
// events are structs such as TripRequested; a host's own implement HostEvent. They are
// published as values or pointers. The bus carries them as JSON in Envelope.Data. The methods
// of an event may be called concurrently and must not block.
//
// In the library's events an empty string, a nil pointer and a zero time mean "absent".
// PassengerID and DriverID of a trip event may be absent: the server fills them in from
// earlier events of the trip or from PartyLookup. A zero At means the envelope's time.
// Events may arrive in any order: the one with the latest At decides who takes part in a
// trip, and a trip that has ended does not begin again.
type DomainEvent interface {
	// EventName is the event's name on the bus, such as "trip.requested".
	EventName() string
	// EventKey returns the event's key: events with the same key are handled in order. It
	// is the id of the trip, the driver or the user. For an event that changes a user's
	// access it is AccessKey of the user, or of the session if the user is not known.
	EventKey() string
}

// accessPrefix marks the keys of AccessKey.
const accessPrefix = "access:"

// AccessKey returns the EventKey of events about a user's access: bans, revocations and
// refreshed sessions. Events of other kinds never have this key, so a ban does not wait for
// them.
func AccessKey(id string) string { return accessPrefix + id }

// builtin is the interface of the library's own domain events.
type builtin interface {
	DomainEvent
	// check returns an error that names the required fields that are missing or out of
	// range, without their values.
	check() error
	// about returns what the publisher needs to know of the event.
	about() subject
	// deliver returns the deliveries of the event.
	deliver(f facts) []Delivery
}

// subject has what the publisher needs to know of an event before it is delivered.
type subject struct {
	at        time.Time       // zero: the envelope's time
	userID    string          // the user or the driver; empty if the event has none
	moved     *LocationUpdate // a driver's position, which is also sent to the driver's trip rooms
	sessionID string          // the login session; empty if the event has none
	access    access          // the event's effect on the sockets of the user or session
	change    AccessChange    // how the user's access changed; empty if the event does not say
	reason    string          // why the access changed, for people

	tripID     string         // empty when the event is not of a trip
	parties    TripParties    // the ones named by the event itself
	does       triptable.Kind // the event's effect on the trip
	needs      people         // the people that the event must reach
	assignment string         // the assignment's id
	hosts      bool           // the event is the host's own; if its key is a trip's id, it keeps the order of that trip
	offeredTo  string         // the driver of an assignment, who need not be the trip's
}

// aboutTrip returns the subject of an event of a trip.
func aboutTrip(does triptable.Kind, tripID, passengerID, driverID string, at time.Time, needs people) subject {
	return subject{at: at, tripID: tripID, parties: TripParties{passengerID, driverID}, does: does, needs: needs}
}

// offer returns the subject with an assignment and the driver of it, who need not be the
// trip's driver.
func (s subject) offer(assignmentID, driverID string) subject {
	s.assignment, s.offeredTo = assignmentID, driverID
	return s
}

// access is what an event does to the sockets of a session or user, once they have
// received it.
type access uint8

const (
	leavesAccess    access = iota
	revokesSession         // the sockets of sessionID are disconnected
	revokesUser            // the sockets of userID are disconnected
	replacesSession        // the sockets of sessionID are carried over, or closed unless they refresh in time
)

// people is the set of people that an event of a trip must reach.
type people uint8

const (
	itsPassenger people = 1 << iota
	itsDriver
	itsDriverIfAny // the trip may have no driver
	offered        // subject.offeredTo
)

var errInvalidEvent = errors.New("invalid domain event")

// errNilEvent says that there is no event to publish or to encode.
var errNilEvent = errors.New("realtime: the domain event is nil")

// missing returns an error that names the required fields that are empty, and
// nil when there is none. Fields are pairs of name and value.
func missing(event string, fields ...string) error {
	var names []string
	for i := 0; i < len(fields); i += 2 {
		if fields[i+1] == "" { //nolint:gosec // fields are pairs
			names = append(names, fields[i])
		}
	}
	if names == nil {
		return nil
	}
	return fmt.Errorf("%s: %w: missing %s", event, errInvalidEvent, strings.Join(names, ", "))
}

// number is a field to check with finite: a number, or a point on earth.
type number struct {
	field string
	value float64
	wrong string // what is wrong with it; empty: only what finite finds
}

func optional(field string, n *float64) number {
	if n == nil {
		return number{field: field}
	}
	return number{field: field, value: *n}
}

func (p *Place) number(field string) number {
	if p == nil {
		return number{field: field}
	}
	return (&Position{p.Lat, p.Lng}).number(field)
}

func (p *Position) number(field string) number {
	n := number{field: field}
	if p != nil {
		n.value = p.Lat + p.Lng // finite only if both are
		if !p.valid() {
			n.wrong = "is not on earth: a latitude is from -90 to 90, a longitude from -180 to 180"
		}
	}
	return n
}

// finite returns an error for the first number that is NaN or infinite, because JSON cannot
// encode it, or wrong otherwise. The error does not have the number.
func finite(event string, numbers ...number) error {
	for _, n := range numbers {
		wrong := n.wrong
		if math.IsNaN(n.value) || math.IsInf(n.value, 0) {
			wrong = "is not a finite number"
		}
		if wrong != "" {
			return fmt.Errorf("%s: %w: %s %s", event, errInvalidEvent, n.field, wrong)
		}
	}
	return nil
}

// checkDomain returns an error for missing required fields of an event, and for invalid
// ids.
func checkDomain(e builtin) error {
	if err := e.check(); err != nil {
		return err
	}
	s := e.about()
	for _, id := range [...]string{s.userID, s.sessionID, s.tripID, s.parties.PassengerID, s.parties.DriverID, s.assignment, s.offeredTo} {
		if id != "" && !validID(id) {
			return fmt.Errorf("%s: %w: an id is longer than %d bytes, or contains NUL or invalid UTF-8", e.EventName(), errInvalidEvent, maxID)
		}
	}
	return nil
}
