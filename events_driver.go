// A driver's availability, position and current trip: what the driver's app sends,
// and who receives what follows from it.

package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/rodando/realtime/internal/jsonscan"
)

// driverEvents are the domain events of this file.
var driverEvents = []DomainEventType{
	domainType("The driver's availability changed.", DriverStatusChanged{exampleAvailability}),
	domainType("The driver moved.", DriverLocationChanged{LocationUpdate{
		DriverID: exampleDriver, LastLocation: *examplePosition, LastLocationTimestamp: Time{exampleTime}, Heading: new(90.0), Speed: new(12.5),
	}}),
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
	return alike(AvailabilityPayload{eventID, v}, EventDriverAvailability, ToDriver(v.DriverID), EventAdminDriverAvailability, ToDriverWatchers())
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

func (rt *Server) updateStatus(ctx context.Context, s *Socket, in StatusUpdate) (Availability, error) {
	driver := s.Identity().UserID
	a, err := rt.opts.Drivers.UpdateStatus(ctx, driver, in)
	if err = ofDriver(driver, a.DriverID, err); err != nil {
		return a, err
	}
	rt.emitFrom(s, statusDeliveries(a, newEventID()))
	return a, nil
}

// Position is a point on earth, in degrees.
type Position struct {
	Lat float64 `json:"lat" doc:"degrees, -90 to 90"`
	Lng float64 `json:"lng" doc:"degrees, -180 to 180"`
}

// LocationUpdate is a driver's new position.
type LocationUpdate struct {
	DriverID              string   `json:"driverId"`
	LastLocation          Position `json:"lastLocation"`
	LastLocationTimestamp Time     `json:"lastLocationTimestamp" doc:"when the position was taken"`
	Heading               *float64 `json:"heading,omitempty" doc:"degrees clockwise from north, 0 to 360"`
	Speed                 *float64 `json:"speed,omitempty" doc:"meters per second"`
}

// EventDriverLocation is sent to the driver; a slow receiver gets the newest only.
var EventDriverLocation = NewEvent[LocationPayload]("driver:location:update")

// EventAdminDriverLocation is sent to the admins who watch drivers; a slow receiver
// gets the newest of each driver only.
var EventAdminDriverLocation = NewEvent[LocationPayload]("admin:driver:location:update")

// EventTripDriverLocation is sent to the passengers and admins in the room of the
// trip that the driver is on; a slow receiver gets the newest only.
var EventTripDriverLocation = NewEvent[TripLocationPayload]("trip:driver_location")

// LocationPayload is a driver's position.
type LocationPayload struct {
	EventID string `json:"eventId" doc:"a UUID, the same in every repeat of the event"`
	LocationUpdate
}

// TripLocationPayload is the position of a trip's driver.
type TripLocationPayload struct {
	LocationPayload
	TripID string `json:"tripId"`
}

func (e DriverLocationChanged) deliver(f facts) []Delivery {
	return locationDeliveries(e.LocationUpdate, f.eventID, f.trips)
}

// locationDeliveries sends a driver's position to its audience. trips are those that
// the driver is on now: only who follows one of them sees where the driver is.
func locationDeliveries(v LocationUpdate, eventID string, trips []string) []Delivery {
	p := LocationPayload{eventID, v}
	out := alike(p, EventDriverLocation, ToDriver(v.DriverID), EventAdminDriverLocation, ToDriverWatchers())
	for i := range out {
		out[i].latest = v.DriverID
	}
	return append(out, tripPositions(v, eventID, trips)...)
}

// tripPositions are those of locationDeliveries that go to who follows a trip.
func tripPositions(v LocationUpdate, eventID string, trips []string) (out []Delivery) {
	for _, trip := range trips {
		out = append(out, EventTripDriverLocation.Deliver(TripLocationPayload{LocationPayload{eventID, v}, trip},
			ToRoom(NamespacePassengers, TripRoom(trip)), ToRoom(NamespaceAdmin, TripRoom(trip))).Latest(v.DriverID))
	}
	return out
}

// DriverLocationPing reports a position, in /drivers.
var DriverLocationPing = NewCall[LocationPing, None]("driver:location:ping").Documented(CallDoc[LocationPing, None]{
	Does: "Reports the driver's position, with any status. One that is older than the last is acknowledged and sent to nobody.",
	In: LocationPing{
		Position: examplePosition, LastLocationTimestamp: Time{exampleTime}, Heading: new(90.0), Speed: new(12.5), AccuracyMeters: new(5.0),
	},
})

// LocationPing is the body of driver:location:ping. After Validate, Position is
// never nil, so that ping.Lat and ping.Lng can be read as they stand.
type LocationPing struct {
	*Position                      // required
	LastLocationTimestamp Time     `json:"lastLocationTimestamp,omitzero" doc:"when the position was taken; absent: now"`
	Heading               *float64 `json:"heading,omitempty" doc:"degrees clockwise from north, 0 to 360"`
	Speed                 *float64 `json:"speed,omitempty" doc:"meters per second"`
	AccuracyMeters        *float64 `json:"accuracyMeters,omitempty" doc:"meters"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *LocationPing) UnmarshalJSON(b []byte) error {
	// No JSON number is NaN, so that it can stand for a missing one.
	*p = LocationPing{Position: &Position{math.NaN(), math.NaN()}}
	return jsonscan.Decode(b, jsonscan.Field{Name: "lat", To: &p.Lat}, jsonscan.Field{Name: "lng", To: &p.Lng}, jsonscan.Field{Name: "lastLocationTimestamp", To: timeField{&p.LastLocationTimestamp}},
		jsonscan.Field{Name: "heading", To: &p.Heading}, jsonscan.Field{Name: "speed", To: &p.Speed}, jsonscan.Field{Name: "accuracyMeters", To: &p.AccuracyMeters})
}

// timeField reads a time.
type timeField struct{ to *Time }

func (f timeField) SetJSON(value []byte) bool {
	text, ok := jsonscan.String(value)
	at, err := time.Parse(time.RFC3339, string(text))
	*f.to = Time{at}
	return ok && err == nil
}

// Validate refuses a position that is missing or not on earth, and a time more
// than 24 hours off. The *Error names the fields.
func (p LocationPing) Validate() error {
	var bad problems
	if p.Position == nil || !within(p.Lat, -90, 90) {
		bad.add("must be a number from -90 to 90", "lat")
	}
	if p.Position == nil || !within(p.Lng, -180, 180) {
		bad.add("must be a number from -180 to 180", "lng")
	}
	if !p.LastLocationTimestamp.IsZero() && time.Since(p.LastLocationTimestamp.Time).Abs() > maxClockError {
		bad.add("must be within 24 hours of now", "lastLocationTimestamp")
	}
	if p.Heading != nil && !within(*p.Heading, 0, 360) {
		bad.add("must be a number from 0 to 360", "heading")
	}
	if p.Speed != nil && !within(*p.Speed, 0, math.MaxFloat64) {
		bad.add("must not be negative", "speed")
	}
	if p.AccuracyMeters != nil && !within(*p.AccuracyMeters, 0, math.MaxFloat64) {
		bad.add("must not be negative", "accuracyMeters")
	}
	return bad.err()
}

func (rt *Server) updateLocation(ctx context.Context, s *Socket, in LocationPing) (None, error) {
	driver := s.Identity().UserID
	u, fresh, err := rt.opts.Drivers.UpdateLocation(ctx, driver, in)
	if err != nil || !fresh {
		return None{}, err
	}
	if err := ofDriver(driver, u.DriverID, nil); err != nil {
		return None{}, err
	}
	trips := s.trips() // those that the domain events put it in
	rt.emitFrom(s, locationDeliveries(u, newEventID(), trips))
	return None{}, nil
}

// DriverTrip is a driver's current trip, set or cleared.
type DriverTrip struct {
	DriverID            string             `json:"driverId"`
	CurrentTripID       *string            `json:"currentTripId" null:"on no trip"`
	AvailabilityReason  AvailabilityReason `json:"availabilityReason" doc:"why the driver takes no trips" null:"the driver does"`
	IsAvailableForTrips bool               `json:"isAvailableForTrips"`
}

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
	return alike(DriverTripPayload{eventID, v}, EventDriverTrip, ToDriver(v.DriverID), EventAdminDriverTrip, ToDriverWatchers())
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

func (rt *Server) setTrip(ctx context.Context, s *Socket, in SetTrip) (Availability, error) {
	trip := ""
	if in.CurrentTripID != nil {
		trip = *in.CurrentTripID
	}
	driver := s.Identity().UserID
	a, err := rt.opts.Drivers.SetTrip(ctx, driver, trip)
	if err = ofDriver(driver, a.DriverID, err); err != nil {
		return a, err
	}
	rt.emitFrom(s, tripUpdateDeliveries(DriverTrip{
		DriverID: a.DriverID, CurrentTripID: a.CurrentTripID,
		AvailabilityReason: a.AvailabilityReason, IsAvailableForTrips: a.IsAvailableForTrips,
	}, newEventID()))
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
