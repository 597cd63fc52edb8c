// Driver events: a driver's availability and current trip. The driver's app sends the
// calls; the driver and the admins receive the changes.

package realtime

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/rodando/realtime/internal/jsonscan"
)

// driverEvents are the domain events of this file.
var driverEvents = []DomainEventType{
	domainType("The driver's availability changed.", DriverStatusChanged{exampleAvailability}),
	domainType("The driver's current trip was set or cleared.", DriverTripChanged{DriverTrip{
		DriverID: exampleDriver, CurrentTripID: new(exampleTrip), AvailabilityReason: ReasonOnTrip,
	}}),
}

// Availability is the state of a driver, as clients receive it. Nil pointers and zero times
// are null in JSON.
type Availability struct {
	DriverID              string             `json:"driverId"`
	IsOnline              bool               `json:"isOnline"`
	IsAvailableForTrips   bool               `json:"isAvailableForTrips"`
	AvailabilityReason    AvailabilityReason `json:"availabilityReason" doc:"why the driver is not available" null:"the driver is available"`
	CurrentTripID         *string            `json:"currentTripId" null:"no trip"`
	CurrentVehicleID      *string            `json:"currentVehicleId" null:"none"`
	LastLocation          *Position          `json:"lastLocation" null:"not known"`
	LastLocationTimestamp Time               `json:"lastLocationTimestamp" doc:"when the position was taken" null:"not known"`
	LastOnlineTimestamp   Time               `json:"lastOnlineTimestamp" doc:"when the driver was last online" null:"never"`
	UpdatedAt             Time               `json:"updatedAt" doc:"when the snapshot last changed" null:"never"`
}

// AvailabilityReason says why a driver is not available for trips. The zero value, which is
// null in JSON, means that there is no reason.
type AvailabilityReason string

// The reasons for which a driver is not available.
const (
	ReasonOffline     AvailabilityReason = "OFFLINE"
	ReasonOnTrip      AvailabilityReason = "ON_TRIP"
	ReasonUnavailable AvailabilityReason = "UNAVAILABLE"
)

// Values returns every reason.
func (AvailabilityReason) Values() []string {
	return values(ReasonOffline, ReasonOnTrip, ReasonUnavailable)
}

// MarshalJSON implements json.Marshaler.
func (r AvailabilityReason) MarshalJSON() ([]byte, error) {
	if r == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(r))
}

// DriverStatusChanged says that a driver's availability changed in the host's services, for
// instance through a REST API. For driver:status:update the server sends the change itself.
// The driver and the admins who watch drivers receive it.
type DriverStatusChanged struct{ Availability }

// EventName implements DomainEvent.
func (DriverStatusChanged) EventName() string { return "driver_availability.status_updated" }

// EventKey implements DomainEvent.
func (e DriverStatusChanged) EventKey() string { return e.DriverID }

func (e DriverStatusChanged) check() error {
	return cmp.Or(missing(e.EventName(), "driverId", e.DriverID), finite(e.EventName(), e.LastLocation.number("lastLocation")))
}
func (e DriverStatusChanged) about() subject { return subject{userID: e.DriverID} }

// EventDriverAvailability sends a driver's state to the driver.
var EventDriverAvailability = NewEvent[AvailabilityPayload]("driver:availability:update")

// EventAdminDriverAvailability sends a driver's state to the admins who watch drivers.
var EventAdminDriverAvailability = NewEvent[AvailabilityPayload]("admin:driver:availability:update")

// AvailabilityPayload is a driver's state.
type AvailabilityPayload struct {
	EventID string `json:"eventId" doc:"a UUID, the same in every repeat of the event"`
	Availability
}

func (e DriverStatusChanged) deliver(f facts) []Delivery {
	return statusDeliveries(e.Availability, f.eventID)
}

// statusDeliveries returns the deliveries of a driver's state, for a change from a socket or
// from the bus.
func statusDeliveries(v Availability, eventID string) []Delivery {
	return deliverTwice(AvailabilityPayload{eventID, v}, EventDriverAvailability, ToDriver(v.DriverID), EventAdminDriverAvailability, ToDriverWatchers())
}

// DriverStatusUpdate sets whether the driver is online and available, in /drivers.
var DriverStatusUpdate = NewCall[StatusUpdate, Availability]("driver:status:update").Documented(CallDoc[StatusUpdate, Availability]{
	Does:  "Sets whether the driver is online, and available for trips. At least one field is required. Online alone, without a reason, makes the driver available: at once, or when the trip ends. The ack's data is the state after the change.",
	Codes: []Code{CodeConflict, CodeForbidden},
	In:    StatusUpdate{IsOnline: new(true)},
	Out:   exampleAvailability,
})

// StatusUpdate is the body of driver:status:update. A nil field keeps its value.
type StatusUpdate struct {
	IsOnline            *bool `json:"isOnline,omitempty"`
	IsAvailableForTrips *bool `json:"isAvailableForTrips,omitempty"`
	// AvailabilityReason points to "" if the client sent null: the DriverService then sets
	// the reason that follows from the other fields.
	AvailabilityReason *AvailabilityReason `json:"availabilityReason,omitempty" null:"set the reason that follows from the other fields"`
}

// UnmarshalJSON implements json.Unmarshaler. As for all bodies that clients send, names are
// case-sensitive, unknown names are ignored, and null counts as absent.
func (u *StatusUpdate) UnmarshalJSON(b []byte) error {
	*u = StatusUpdate{}
	return jsonscan.Decode(b, jsonscan.Field{Name: "isOnline", To: &u.IsOnline}, jsonscan.Field{Name: "isAvailableForTrips", To: &u.IsAvailableForTrips},
		jsonscan.Field{Name: "availabilityReason", To: reasonField{&u.AvailabilityReason}})
}

// Validate returns an *Error, which names the fields, if no field is set or if the fields
// contradict each other in every state of the driver.
func (u StatusUpdate) Validate() error {
	var p problems
	reason, online, available := u.reason(), u.IsOnline, u.IsAvailableForTrips
	switch {
	case online == nil && available == nil && u.AvailabilityReason == nil:
		p.add("at least one of them is required", "isOnline", "isAvailableForTrips", "availabilityReason")
	case reason != "" && reason != ReasonOffline && reason != ReasonOnTrip && reason != ReasonUnavailable:
		p.add("must be OFFLINE, ON_TRIP, UNAVAILABLE or null", "availabilityReason")
	case is(online, false) && is(available, true):
		p.add("a driver who is offline is not available", "isOnline", "isAvailableForTrips")
	case reason != "" && is(available, true):
		p.add("a driver who is available has no reason not to be", "isAvailableForTrips", "availabilityReason")
	case reason != "" && online != nil && *online == (reason == ReasonOffline):
		p.add("a driver who is offline has the reason OFFLINE, and no other driver has it", "isOnline", "availabilityReason")
	}
	return p.err()
}

// reasonField decodes a reason. Unlike other fields it can be set to null.
type reasonField struct{ to **AvailabilityReason }

func (f reasonField) SetNull() { *f.to = new(AvailabilityReason("")) }

func (f reasonField) SetJSON(value []byte) bool {
	text, ok := jsonscan.String(value)
	*f.to = new(AvailabilityReason(text))
	return ok && len(text) > 0 // "" would mean null
}

func (u StatusUpdate) reason() AvailabilityReason {
	if u.AvailabilityReason == nil {
		return ""
	}
	return *u.AvailabilityReason
}

// updateStatus handles driver:status:update.
func (rt *Server) updateStatus(ctx context.Context, r *CallRequest, in StatusUpdate) (Availability, error) {
	driver := r.socket.Identity().UserID
	a, err := rt.opts.Drivers.UpdateStatus(ctx, driver, in)
	if err = checkDriverID(driver, a.DriverID, err); err != nil {
		return a, err
	}
	r.emissions = statusDeliveries(a, newEventID())
	return a, nil
}

// DriverTrip is a driver's current trip, set or cleared.
type DriverTrip struct {
	DriverID            string             `json:"driverId"`
	CurrentTripID       *string            `json:"currentTripId" null:"no trip"`
	AvailabilityReason  AvailabilityReason `json:"availabilityReason" doc:"why the driver is not available" null:"the driver is available"`
	IsAvailableForTrips bool               `json:"isAvailableForTrips"`
}

// DriverTripChanged says that a driver's current trip was set or cleared in the host's
// services. For driver:trip:set the server sends the change itself. The driver and the
// admins who watch drivers receive it. It does not move sockets into the trip's room;
// AssignmentAccepted and DriverAssigned do.
type DriverTripChanged struct{ DriverTrip }

// EventName implements DomainEvent.
func (DriverTripChanged) EventName() string { return "driver_availability.trip_updated" }

// EventKey implements DomainEvent.
func (e DriverTripChanged) EventKey() string { return e.DriverID }

func (e DriverTripChanged) check() error   { return missing(e.EventName(), "driverId", e.DriverID) }
func (e DriverTripChanged) about() subject { return subject{userID: e.DriverID} }

// EventDriverTrip sends a driver's current trip to the driver.
var EventDriverTrip = NewEvent[DriverTripPayload]("driver:trip:update")

// EventAdminDriverTrip sends a driver's current trip to the admins who watch drivers.
var EventAdminDriverTrip = NewEvent[DriverTripPayload]("admin:driver:trip:update")

// DriverTripPayload is a driver's current trip.
type DriverTripPayload struct {
	EventID string `json:"eventId" doc:"a UUID, the same in every repeat of the event"`
	DriverTrip
}

func (e DriverTripChanged) deliver(f facts) []Delivery {
	return tripUpdateDeliveries(e.DriverTrip, f.eventID)
}

// tripUpdateDeliveries returns the deliveries of a driver's current trip.
func tripUpdateDeliveries(v DriverTrip, eventID string) []Delivery {
	return deliverTwice(DriverTripPayload{eventID, v}, EventDriverTrip, ToDriver(v.DriverID), EventAdminDriverTrip, ToDriverWatchers())
}

// DriverTripSet sets or clears the driver's current trip, in /drivers.
var DriverTripSet = NewCall[SetTrip, Availability]("driver:trip:set").Documented(CallDoc[SetTrip, Availability]{
	Does:  "Sets or clears the driver's current trip. A driver who was available before the trip is available again when it is cleared, or when the trip ends. It does not change who receives the trip's events.",
	Codes: []Code{CodeForbidden, CodeConflict},
	In:    SetTrip{CurrentTripID: new(exampleTrip)},
	Out:   exampleOnTrip,
})

// SetTrip is the body of driver:trip:set. A nil CurrentTripID clears the trip.
type SetTrip struct {
	CurrentTripID *string `json:"currentTripId" null:"no trip"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *SetTrip) UnmarshalJSON(b []byte) error {
	*s = SetTrip{}
	return jsonscan.Decode(b, jsonscan.Field{Name: "currentTripId", To: &s.CurrentTripID})
}

// Validate returns an *Error if the id is empty, too long, or contains NUL or invalid UTF-8.
func (s SetTrip) Validate() error {
	var p problems
	if s.CurrentTripID != nil {
		p.checkID("currentTripId", *s.CurrentTripID)
	}
	return p.err()
}

// setTrip handles driver:trip:set.
func (rt *Server) setTrip(ctx context.Context, r *CallRequest, in SetTrip) (Availability, error) {
	trip := ""
	if in.CurrentTripID != nil {
		trip = *in.CurrentTripID
	}
	driver := r.socket.Identity().UserID
	availability := true // has changed
	a, err := rt.opts.Drivers.SetTrip(context.WithValue(ctx, availabilityKey{}, &availability), driver, trip)
	if err = checkDriverID(driver, a.DriverID, err); err != nil {
		return a, err
	}
	r.emissions = tripUpdateDeliveries(DriverTrip{
		DriverID: a.DriverID, CurrentTripID: a.CurrentTripID,
		AvailabilityReason: a.AvailabilityReason, IsAvailableForTrips: a.IsAvailableForTrips,
	}, newEventID())
	if availability {
		r.emissions = append(r.emissions, statusDeliveries(a, newEventID())...)
	}
	return a, nil
}

// availabilityKey is the key of a *bool in the ctx of DriverService.SetTrip.
type availabilityKey struct{}

// sameAvailability says, within DriverService.SetTrip, that the driver's availability is what
// it was. A result can't say it: it is a row without its past.
func sameAvailability(ctx context.Context) {
	if changed, ok := ctx.Value(availabilityKey{}).(*bool); ok {
		*changed = false
	}
}

// tripEnder is MemoryDrivers, or a type that embeds it. A host with another DriverService
// changes its rows where it ends the trip, and publishes the change.
type tripEnder interface {
	// endTrip clears the driver's current trip, and does nothing if ok is false: tripID is not the
	// driver's current trip. availability says whether the driver's availability changed.
	endTrip(driverID, tripID string) (next DriverState, availability, ok bool)
}

// endDriverTrip clears the current trip of a driver that has ended, and sends the change.
func (rt *Server) endDriverTrip(driverID, tripID string) {
	drivers, ok := rt.opts.Drivers.(tripEnder)
	if !ok || driverID == "" {
		return
	}
	next, availability, ok := drivers.endTrip(driverID, tripID)
	if !ok {
		return
	}
	out := tripUpdateDeliveries(next.Trip(driverID), newEventID())
	if availability {
		out = append(out, statusDeliveries(next.Availability(driverID), newEventID())...)
	}
	rt.send(out, false) // other nodes do not know it, whatever bus there is
}

// checkDriverID returns an error if the result of a DriverService is about another driver:
// one driver must not see another's data.
func checkDriverID(want, got string, err error) error {
	if err == nil && got != want {
		return fmt.Errorf("driver service: %w", errAnotherRow)
	}
	return err
}
