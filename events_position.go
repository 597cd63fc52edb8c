// Position events: a driver's position. The driver's app sends it; the driver, the admins
// who watch drivers, and the passenger and the admins in the trip's room receive it.

package realtime

import (
	"cmp"
	"context"
	"math"
	"time"

	"github.com/rodando/realtime/internal/jsonscan"
)

// positionEvents are the domain events of this file.
var positionEvents = []DomainEventType{
	domainType("The driver moved.", DriverLocationChanged{LocationUpdate{
		DriverID: exampleDriver, LastLocation: *examplePosition, LastLocationTimestamp: Time{exampleTime}, Heading: new(90.0), Speed: new(12.5),
	}}),
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

// DriverLocationChanged says that a driver moved, according to the host's services. For
// driver:location:ping the server sends the position itself. The driver, the admins who
// watch drivers, and the passengers and admins in the rooms of the driver's trips receive
// it.
type DriverLocationChanged struct{ LocationUpdate }

// EventName implements DomainEvent.
func (DriverLocationChanged) EventName() string { return "driver_availability.location_updated" }

// EventKey implements DomainEvent.
func (e DriverLocationChanged) EventKey() string { return e.DriverID }

func (e DriverLocationChanged) check() error {
	return cmp.Or(missing(e.EventName(), "driverId", e.DriverID), finite(e.EventName(), e.LastLocation.number("lastLocation"), optional("heading", e.Heading), optional("speed", e.Speed)))
}
func (e DriverLocationChanged) about() subject {
	return subject{userID: e.DriverID, moved: &e.LocationUpdate}
}

// EventDriverLocation sends a driver's position to the driver. A slow receiver gets only the
// newest one.
var EventDriverLocation = NewEvent[LocationPayload]("driver:location:update")

// EventAdminDriverLocation sends a driver's position to the admins who watch drivers. A slow
// receiver gets only the newest one of each driver.
var EventAdminDriverLocation = NewEvent[LocationPayload]("admin:driver:location:update")

// EventTripDriverLocation sends a driver's position to the passengers and admins in the room
// of the driver's trip. A slow receiver gets only the newest one.
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

// locationDeliveries returns the deliveries of a driver's position. trips has the ids of the
// driver's running trips: the passengers and admins in their rooms receive the position.
func locationDeliveries(v LocationUpdate, eventID string, trips []string) []Delivery {
	p := LocationPayload{eventID, v}
	out := deliverTwice(p, EventDriverLocation, ToDriver(v.DriverID), EventAdminDriverLocation, ToDriverWatchers())
	for i := range out {
		out[i].latest, out[i].momentary = v.DriverID, true
	}
	return append(out, tripPositions(v, eventID, trips)...)
}

// tripPositions returns the deliveries of a driver's position to the rooms of trips.
func tripPositions(v LocationUpdate, eventID string, trips []string) (out []Delivery) {
	for _, trip := range trips {
		d := EventTripDriverLocation.Deliver(TripLocationPayload{LocationPayload{eventID, v}, trip},
			ToRoom(NamespacePassengers, TripRoom(trip)), ToRoom(NamespaceAdmin, TripRoom(trip))).Latest(v.DriverID)
		d.momentary = true
		out = append(out, d)
	}
	return out
}

// DriverLocationPing reports a position, in /drivers.
var DriverLocationPing = NewCall[LocationPing, None]("driver:location:ping").Documented(CallDoc[LocationPing, None]{
	Does: "Reports the driver's position, also while the driver is offline. A position that is older than the last one is acknowledged, but not sent to anybody.",
	In: LocationPing{
		Position: examplePosition, LastLocationTimestamp: Time{exampleTime}, Heading: new(90.0), Speed: new(12.5), AccuracyMeters: new(5.0),
	},
})

// LocationPing is the body of driver:location:ping. If Validate returns no error, Position is
// not nil, so ping.Lat and ping.Lng can be read.
type LocationPing struct {
	*Position                      // required
	LastLocationTimestamp Time     `json:"lastLocationTimestamp,omitzero" doc:"when the position was taken; absent: now"`
	Heading               *float64 `json:"heading,omitempty" doc:"degrees clockwise from north, 0 to 360"`
	Speed                 *float64 `json:"speed,omitempty" doc:"meters per second"`
	AccuracyMeters        *float64 `json:"accuracyMeters,omitempty" doc:"meters"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *LocationPing) UnmarshalJSON(b []byte) error {
	// NaN stands for a missing number: no JSON number is NaN, and Validate refuses it.
	*p = LocationPing{Position: &Position{math.NaN(), math.NaN()}}
	return jsonscan.Decode(b, jsonscan.Field{Name: "lat", To: &p.Lat}, jsonscan.Field{Name: "lng", To: &p.Lng}, jsonscan.Field{Name: "lastLocationTimestamp", To: timeField{&p.LastLocationTimestamp}},
		jsonscan.Field{Name: "heading", To: &p.Heading}, jsonscan.Field{Name: "speed", To: &p.Speed}, jsonscan.Field{Name: "accuracyMeters", To: &p.AccuracyMeters})
}

// timeField decodes a time.
type timeField struct{ to *Time }

func (f timeField) SetJSON(value []byte) bool {
	text, ok := jsonscan.String(value)
	at, err := time.Parse(time.RFC3339, string(text))
	*f.to = Time{at}
	return ok && err == nil
}

// Validate returns an *Error, which names the fields, if the position is missing or a number
// is out of range, or if the time is more than 24 hours from now.
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

// updateLocation handles driver:location:ping.
func (rt *Server) updateLocation(ctx context.Context, r *CallRequest, in LocationPing) (None, error) {
	driver := r.socket.Identity().UserID
	u, fresh, err := rt.opts.Drivers.UpdateLocation(ctx, driver, in)
	if err != nil || !fresh {
		return None{}, err
	}
	if err := checkDriverID(driver, u.DriverID, nil); err != nil {
		return None{}, err
	}
	trips := r.socket.trips() // the trip rooms that the domain events have put the socket into
	r.emissions = locationDeliveries(u, newEventID(), trips)
	return None{}, nil
}
