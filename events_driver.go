// A driver's availability and current trip: what the driver's app sends, and who
// receives what follows from it.

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

// Availability is the snapshot of a driver that clients see. Nil and zero
// values are null in JSON.
type Availability struct {
	DriverID              string             `json:"driverId"`
	IsOnline              bool               `json:"isOnline"`
	IsAvailableForTrips   bool               `json:"isAvailableForTrips"`
	AvailabilityReason    AvailabilityReason `json:"availabilityReason" doc:"why the driver takes no trips" null:"the driver does"`
	CurrentTripID         *string            `json:"currentTripId" null:"on no trip"`
	CurrentVehicleID      *string            `json:"currentVehicleId" null:"none"`
	LastLocation          *Position          `json:"lastLocation" null:"not known"`
	LastLocationTimestamp Time               `json:"lastLocationTimestamp" doc:"when the position was taken" null:"not known"`
	LastOnlineTimestamp   Time               `json:"lastOnlineTimestamp" doc:"when the driver was last known to be online" null:"never"`
	UpdatedAt             Time               `json:"updatedAt" doc:"when the snapshot last changed" null:"never"`
}

// AvailabilityReason says why a driver takes no trips. The zero value is none,
// null in JSON.
type AvailabilityReason string

// The reasons.
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

// DriverStatusChanged says that a driver's availability changed other than by an
// event of the driver's own sockets: through the host's REST API, by a sweeper. The
// driver and the admins who watch drivers receive it.
type DriverStatusChanged struct{ Availability }

// EventName implements DomainEvent.
func (DriverStatusChanged) EventName() string { return "driver_availability.status_updated" }

// EventKey implements DomainEvent.
func (e DriverStatusChanged) EventKey() string { return e.DriverID }

func (e DriverStatusChanged) check() error {
	return cmp.Or(missing(e.EventName(), "driverId", e.DriverID), finite(e.EventName(), e.LastLocation.number("lastLocation")))
}
func (e DriverStatusChanged) about() subject { return subject{userID: e.DriverID} }

// EventDriverAvailability is sent to the driver: their snapshot.
var EventDriverAvailability = NewEvent[AvailabilityPayload]("driver:availability:update")

// EventAdminDriverAvailability is sent to the admins who watch drivers: the driver's snapshot.
var EventAdminDriverAvailability = NewEvent[AvailabilityPayload]("admin:driver:availability:update")

// AvailabilityPayload is a driver's snapshot.
type AvailabilityPayload struct {
	EventID string `json:"eventId" doc:"a UUID, the same in every repeat of the event"`
	Availability
}

func (e DriverStatusChanged) deliver(f facts) []Delivery {
	return statusDeliveries(e.Availability, f.eventID)
}

// statusDeliveries sends a driver's snapshot to its audience, whether it came in over
// a socket or from the bus.
func statusDeliveries(v Availability, eventID string) []Delivery {
	return deliverTwice(AvailabilityPayload{eventID, v}, EventDriverAvailability, ToDriver(v.DriverID), EventAdminDriverAvailability, ToDriverWatchers())
}

// DriverStatusUpdate goes online or offline, free or busy, in /drivers.
var DriverStatusUpdate = NewCall[StatusUpdate, Availability]("driver:status:update").Documented(CallDoc[StatusUpdate, Availability]{
	Does:  "Goes online or offline, available or not; at least one field is required. The data is the snapshot after it.",
	Codes: []Code{CodeConflict, CodeForbidden},
	In:    StatusUpdate{IsOnline: new(true)},
	Out:   exampleAvailability,
})

// StatusUpdate is the body of driver:status:update. Nil means not given.
type StatusUpdate struct {
	IsOnline            *bool `json:"isOnline,omitempty"`
	IsAvailableForTrips *bool `json:"isAvailableForTrips,omitempty"`
	// AvailabilityReason points to "" when the client sent null: no reason of
	// its own, the server finds the one that the rules imply.
	AvailabilityReason *AvailabilityReason `json:"availabilityReason,omitempty" null:"the reason that follows from the other two"`
}

// UnmarshalJSON implements json.Unmarshaler. Like that of all bodies that clients
// send it matches names exactly, ignores unknown ones and takes null for absent.
func (u *StatusUpdate) UnmarshalJSON(b []byte) error {
	*u = StatusUpdate{}
	return jsonscan.Decode(b, jsonscan.Field{Name: "isOnline", To: &u.IsOnline}, jsonscan.Field{Name: "isAvailableForTrips", To: &u.IsAvailableForTrips},
		jsonscan.Field{Name: "availabilityReason", To: reasonField{&u.AvailabilityReason}})
}

// Validate refuses a body that says nothing, or that contradicts itself
// whatever the driver's present state. The *Error names the fields.
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

// reasonField reads a reason, for which null is a value.
type reasonField struct{ to **AvailabilityReason }

func (f reasonField) SetNull() { *f.to = new(AvailabilityReason("")) }

func (f reasonField) SetJSON(value []byte) bool {
	text, ok := jsonscan.String(value)
	*f.to = new(AvailabilityReason(text))
	return ok && len(text) > 0 // "" would read as null
}

func (u StatusUpdate) reason() AvailabilityReason {
	if u.AvailabilityReason == nil {
		return ""
	}
	return *u.AvailabilityReason
}

func (rt *Server) updateStatus(ctx context.Context, r *CallRequest, in StatusUpdate) (Availability, error) {
	driver := r.socket.Identity().UserID
	a, err := rt.opts.Drivers.UpdateStatus(ctx, driver, in)
	if err = ofDriver(driver, a.DriverID, err); err != nil {
		return a, err
	}
	r.emissions = statusDeliveries(a, newEventID())
	return a, nil
}

// DriverTrip is a driver's current trip, set or cleared.
type DriverTrip struct {
	DriverID            string             `json:"driverId"`
	CurrentTripID       *string            `json:"currentTripId" null:"on no trip"`
	AvailabilityReason  AvailabilityReason `json:"availabilityReason" doc:"why the driver takes no trips" null:"the driver does"`
	IsAvailableForTrips bool               `json:"isAvailableForTrips"`
}

// DriverTripChanged says that a driver's current trip was set or cleared, when
// that did not come in over a socket. The driver and the admins who watch drivers
// receive it. It does not decide who follows the trip: DriverAssigned does.
type DriverTripChanged struct{ DriverTrip }

// EventName implements DomainEvent.
func (DriverTripChanged) EventName() string { return "driver_availability.trip_updated" }

// EventKey implements DomainEvent.
func (e DriverTripChanged) EventKey() string { return e.DriverID }

func (e DriverTripChanged) check() error   { return missing(e.EventName(), "driverId", e.DriverID) }
func (e DriverTripChanged) about() subject { return subject{userID: e.DriverID} }

// EventDriverTrip is sent to the driver.
var EventDriverTrip = NewEvent[DriverTripPayload]("driver:trip:update")

// EventAdminDriverTrip is sent to the admins who watch drivers.
var EventAdminDriverTrip = NewEvent[DriverTripPayload]("admin:driver:trip:update")

// DriverTripPayload is a driver's current trip.
type DriverTripPayload struct {
	EventID string `json:"eventId" doc:"a UUID, the same in every repeat of the event"`
	DriverTrip
}

func (e DriverTripChanged) deliver(f facts) []Delivery {
	return tripUpdateDeliveries(e.DriverTrip, f.eventID)
}

// tripUpdateDeliveries sends a driver's current trip to its audience.
func tripUpdateDeliveries(v DriverTrip, eventID string) []Delivery {
	return deliverTwice(DriverTripPayload{eventID, v}, EventDriverTrip, ToDriver(v.DriverID), EventAdminDriverTrip, ToDriverWatchers())
}

// DriverTripSet sets or clears the snapshot's trip, in /drivers.
var DriverTripSet = NewCall[SetTrip, Availability]("driver:trip:set").Documented(CallDoc[SetTrip, Availability]{
	Does:  "Sets or clears the trip in the driver's snapshot. It does not decide who follows the trip.",
	Codes: []Code{CodeForbidden, CodeConflict},
	In:    SetTrip{CurrentTripID: new(exampleTrip)},
	Out:   exampleOnTrip,
})

// SetTrip is the body of driver:trip:set.
type SetTrip struct {
	CurrentTripID *string `json:"currentTripId" null:"no trip"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *SetTrip) UnmarshalJSON(b []byte) error {
	*s = SetTrip{}
	return jsonscan.Decode(b, jsonscan.Field{Name: "currentTripId", To: &s.CurrentTripID})
}

// Validate refuses an empty or overlong id.
func (s SetTrip) Validate() error {
	var p problems
	if s.CurrentTripID != nil {
		p.checkID("currentTripId", *s.CurrentTripID)
	}
	return p.err()
}

func (rt *Server) setTrip(ctx context.Context, r *CallRequest, in SetTrip) (Availability, error) {
	trip := ""
	if in.CurrentTripID != nil {
		trip = *in.CurrentTripID
	}
	driver := r.socket.Identity().UserID
	a, err := rt.opts.Drivers.SetTrip(ctx, driver, trip)
	if err = ofDriver(driver, a.DriverID, err); err != nil {
		return a, err
	}
	r.emissions = tripUpdateDeliveries(DriverTrip{
		DriverID: a.DriverID, CurrentTripID: a.CurrentTripID,
		AvailabilityReason: a.AvailabilityReason, IsAvailableForTrips: a.IsAvailableForTrips,
	}, newEventID())
	return a, nil
}

// ofDriver refuses what a DriverService returned of another driver: it would be
// shown to this one.
func ofDriver(asked, got string, err error) error {
	if err == nil && got != asked {
		return fmt.Errorf("driver service: %w", errAnotherRow)
	}
	return err
}
