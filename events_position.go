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

// valid reports whether the point is on earth.
func (p *Position) valid() bool { return within(p.Lat, -90, 90) && within(p.Lng, -180, 180) }

// LocationUpdate is a driver's new position.
type LocationUpdate struct {
	DriverID              string   `json:"driverId"`
	LastLocation          Position `json:"lastLocation"`
	LastLocationTimestamp Time     `json:"lastLocationTimestamp" doc:"when the position was taken"`
	Heading               *float64 `json:"heading,omitempty" doc:"degrees clockwise from north, 0 to 360; absent: not known"`
	Speed                 *float64 `json:"speed,omitempty" doc:"meters per second; absent: not known"`
}

// known returns the update without the numbers that a phone does not know, as they reach it
// through a host's own API, and with its heading within a full turn. It does not change what
// the pointers of v point to: that is the host's.
func (v LocationUpdate) known() LocationUpdate {
	if v.Heading != nil {
		v.Heading = knownHeading(new(*v.Heading))
	}
	if v.Speed != nil {
		v.Speed = known(new(*v.Speed))
	}
	return v
}

// unknown is what a phone sends for a heading, a speed or an accuracy that it does not know:
// iOS reports -1 while it stands still.
const unknown = -1

// known returns nil for a number that is not known. It may change *n.
func known(n *float64) *float64 {
	switch {
	case n == nil || *n == unknown:
		return nil
	case *n == 0:
		*n = 0 // it may be -0
	}
	return n
}

// knownHeading is known for a heading. What a rounding error has moved past a full turn begins
// the next one.
func knownHeading(n *float64) *float64 {
	if n = known(n); n != nil && *n > 360 && *n < 361 {
		*n -= 360
	}
	return n
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
	heading, speed := optional("heading", e.Heading), optional("speed", e.Speed)
	if !isHeading(e.Heading) {
		heading.wrong = "is not from 0 to 360, or -1"
	}
	if !isPositive(e.Speed) {
		speed.wrong = "is negative"
	}
	return cmp.Or(missing(e.EventName(), "driverId", e.DriverID), finite(e.EventName(), e.LastLocation.number("lastLocation"), heading, speed))
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
	v = v.known()
	p := LocationPayload{eventID, v}
	out := deliverTwice(p, EventDriverLocation, ToDriver(v.DriverID), EventAdminDriverLocation, ToDriverWatchers())
	for i := range out {
		out[i].latest, out[i].momentary = v.DriverID, true
	}
	return append(out, tripPositions(v, eventID, trips)...)
}

// tripPositions returns the deliveries of a driver's position to the rooms of trips.
func tripPositions(v LocationUpdate, eventID string, trips []string) (out []Delivery) {
	v = v.known()
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
	Does: "Reports the driver's position, also while the driver is offline. A position that is older than the last one is acknowledged, but not sent to anybody. So are the older ones of those that an app sends at once after it was offline.",
	In: LocationPing{
		Position: examplePosition, LastLocationTimestamp: Time{exampleTime}, Heading: new(90.0), Speed: new(12.5), AccuracyMeters: new(5.0),
	},
})

// LocationPing is the body of driver:location:ping. If Validate returns no error, Position is
// not nil, so ping.Lat and ping.Lng can be read.
type LocationPing struct {
	*Position                      // required
	LastLocationTimestamp Time     `json:"lastLocationTimestamp,omitzero" doc:"when the position was taken, in ISO 8601 with any zone, or none for UTC, or as a number of milliseconds since 1970; absent: now"`
	Heading               *float64 `json:"heading,omitempty" doc:"degrees clockwise from north, 0 to 360; absent or -1: not known"`
	Speed                 *float64 `json:"speed,omitempty" doc:"meters per second; absent or -1: not known"`
	AccuracyMeters        *float64 `json:"accuracyMeters,omitempty" doc:"meters; absent or -1: not known"`
}

// UnmarshalJSON implements json.Unmarshaler. It sets to nil what is -1, which is how phones say
// that they do not know a heading, a speed or an accuracy; and a heading of less than a degree
// past 360 begins a new turn.
func (p *LocationPing) UnmarshalJSON(b []byte) error {
	// NaN stands for a missing number: no JSON number is NaN, and Validate refuses it.
	*p = LocationPing{Position: &Position{math.NaN(), math.NaN()}}
	err := jsonscan.Decode(b, jsonscan.Field{Name: "lat", To: &p.Lat}, jsonscan.Field{Name: "lng", To: &p.Lng}, jsonscan.Field{Name: "lastLocationTimestamp", To: timeField{&p.LastLocationTimestamp}},
		jsonscan.Field{Name: "heading", To: &p.Heading}, jsonscan.Field{Name: "speed", To: &p.Speed}, jsonscan.Field{Name: "accuracyMeters", To: &p.AccuracyMeters})
	p.Heading, p.Speed, p.AccuracyMeters = knownHeading(p.Heading), known(p.Speed), known(p.AccuracyMeters)
	return err
}

// Validate returns an *Error, which names the fields, if the position is missing or a number
// is out of range, or if the time is more than 24 hours from now. -1 is in the range of a
// heading, a speed and an accuracy.
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
	if !isHeading(p.Heading) {
		bad.add("must be a number from 0 to 360, or -1", "heading")
	}
	if !isPositive(p.Speed) {
		bad.add("must not be negative, except -1", "speed")
	}
	if !isPositive(p.AccuracyMeters) {
		bad.add("must not be negative, except -1", "accuracyMeters")
	}
	return bad.err()
}

// isHeading reports whether n is a heading, or absent or not known.
func isHeading(n *float64) bool {
	return n == nil || *n == unknown || *n >= 0 && *n < 361
}

// isPositive reports whether n is finite and not negative, or absent or not known.
func isPositive(n *float64) bool {
	return n == nil || *n == unknown || within(*n, 0, math.MaxFloat64)
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
