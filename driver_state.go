// The rules of a driver's availability and position, as pure functions of a driver's row.
// MemoryDrivers uses them, and a DriverService with a database can.

package realtime

import (
	"errors"
	"fmt"
	"time"
)

// DriverState is the row of a driver that a DriverService stores. The zero value is a driver
// who is not known: offline, without a trip and a position.
//
// The methods are the rules. They return the row to store, and change neither their receiver
// nor what its pointers point to. They may be called concurrently.
type DriverState struct {
	Online    bool               `json:"online"`
	Available bool               `json:"available"` // for trips; never if offline or on a trip
	Reason    AvailabilityReason `json:"reason"`    // why the driver is not available; empty if offline means ReasonOffline
	TripID    string             `json:"tripId"`    // the current trip; empty: none
	VehicleID string             `json:"vehicleId"` // the current vehicle; empty: none
	// AvailableAfterTrip is true for a driver on a trip who is available when it ends: one who
	// was when it began, and has not said otherwise since.
	AvailableAfterTrip bool `json:"availableAfterTrip"`

	Location   *Position `json:"location"`   // nil: not known
	LocatedAt  time.Time `json:"locatedAt"`  // when the position was taken; zero: not known
	LastOnline time.Time `json:"lastOnline"` // when the driver was last online; zero: never
	Updated    time.Time `json:"updated"`    // when the row last changed; zero: never
}

// WithStatus returns the row after a status change at the time now. The error is an *Error:
// CodeInvalidPayload means that the fields contradict each other in every state. CodeConflict
// means that they contradict the present state: available while on a trip, OFFLINE for a driver
// who stays online, or another reason for one who stays offline or available.
//
// IsOnline and IsAvailableForTrips keep their values if they are not given, except that
// offline implies not available, available implies online, and online without a reason implies
// available: on a trip, available when it ends. The reason does not keep its value. If it is
// not given it is OFFLINE for a driver who is offline, none for a driver who is available, and
// otherwise ON_TRIP with a trip and UNAVAILABLE without.
func (s DriverState) WithStatus(in StatusUpdate, now time.Time) (DriverState, error) {
	if err := in.Validate(); err != nil {
		return s, err
	}
	next, reason := s, in.reason()
	online, available := in.IsOnline, in.IsAvailableForTrips
	onTrip := s.TripID != ""
	// What the driver wants to be, and is unless a trip prevents it.
	wants := s.Available || s.AvailableAfterTrip && onTrip
	switch {
	case available != nil:
		wants = *available
		next.Online = s.Online || wants
	case is(online, true) && reason == "":
		wants = true
	}
	if online != nil {
		next.Online = *online
	}
	wants = wants && next.Online
	switch {
	case onTrip && is(available, true):
		return s, Errorf(CodeConflict, "not available while on a trip")
	case reason == "":
		next.Available, next.AvailableAfterTrip = wants && !onTrip, wants && onTrip
	case next.Online == (reason == ReasonOffline) || wants && !onTrip:
		return s, Errorf(CodeConflict, "the reason does not fit the driver's status")
	default:
		next.Available = false
		// The app may say ON_TRIP before it sets the trip.
		next.AvailableAfterTrip = reason == ReasonOnTrip && s.Online && (s.Available || s.AvailableAfterTrip)
	}
	if next.Reason = reason; reason == "" {
		next.Reason = next.impliedReason()
	}
	if s.Online || next.Online {
		next.LastOnline = now
	}
	next.Updated = now
	return next, nil
}

// WithTrip returns the row after the driver's current trip was set at the time now, or cleared
// if tripID is empty. A driver with a trip is not available, with the reason ON_TRIP. A driver
// who was available when the trip began is available again when it is cleared; another one who
// is online is UNAVAILABLE. A driver who is offline stays OFFLINE.
func (s DriverState) WithTrip(tripID string, now time.Time) DriverState {
	next := s
	wants := s.Online && (s.Available || s.AvailableAfterTrip)
	next.TripID = tripID
	next.Available = wants && tripID == ""
	next.AvailableAfterTrip = wants && tripID != ""
	next.Reason = next.impliedReason()
	next.Updated = now
	return next
}

// WithPosition returns the row after a position that was received at the time now; in is valid.
// A ping is accepted in every status and does not change the status. One without a time was
// taken now. fresh is false if the row has a newer position: next is then the row as it was.
//
// A stored time that is more than a minute ahead of now came from a wrong clock, and any ping
// replaces it. Otherwise the driver's position would not change on any map until that time,
// for up to a day.
func (s DriverState) WithPosition(in LocationPing, now time.Time) (next DriverState, fresh bool) {
	at := in.LastLocationTimestamp.Time
	if at.IsZero() {
		at = now
	}
	if at.Before(s.LocatedAt) && s.LocatedAt.Before(now.Add(maxClockSkew)) {
		return s, false
	}
	next = s
	next.Location, next.LocatedAt, next.Updated = new(*in.Position), at, now
	return next, true
}

// maxClockSkew is how far ahead of the server's clock the time of a stored position may be and
// still outdate a new ping. A later time comes from a phone with a wrong clock.
const maxClockSkew = time.Minute

// AvailabilityChanged reports whether the driver's availability differs from that of before,
// so that a DriverStatusChanged is to be published beside a DriverTripChanged.
func (s DriverState) AvailabilityChanged(before DriverState) bool {
	return s.Online != before.Online || s.Available != before.Available || s.reason() != before.reason()
}

// Availability returns the row as clients receive it.
func (s DriverState) Availability(driverID string) Availability {
	a := Availability{
		DriverID: driverID, IsOnline: s.Online, IsAvailableForTrips: s.Available, AvailabilityReason: s.reason(),
		LastLocationTimestamp: Time{s.LocatedAt}, LastOnlineTimestamp: Time{s.LastOnline}, UpdatedAt: Time{s.Updated},
	}
	if s.TripID != "" {
		a.CurrentTripID = new(s.TripID)
	}
	if s.VehicleID != "" {
		a.CurrentVehicleID = new(s.VehicleID)
	}
	if s.Location != nil {
		a.LastLocation = new(*s.Location)
	}
	return a
}

// Trip returns what DriverTripChanged publishes of the row.
func (s DriverState) Trip(driverID string) DriverTrip {
	a := s.Availability(driverID)
	return DriverTrip{DriverID: driverID, CurrentTripID: a.CurrentTripID, AvailabilityReason: a.AvailabilityReason, IsAvailableForTrips: a.IsAvailableForTrips}
}

// Validate returns an error if the fields contradict each other or the position is none.
func (s DriverState) Validate() error {
	reason := s.reason()
	switch {
	case s.Available && (!s.Online || s.TripID != ""):
		return errors.New("realtime: the driver is available, but offline or on a trip")
	case s.AvailableAfterTrip && (!s.Online || s.Available):
		return errors.New("realtime: the driver is to be available after a trip, but is available now or offline")
	case s.Online == (reason == ReasonOffline) || s.Available != (reason == ""):
		return fmt.Errorf("realtime: the reason %q does not fit the driver's status", reason)
	case reason != "" && reason != ReasonOffline && reason != ReasonOnTrip && reason != ReasonUnavailable:
		return errors.New("realtime: the reason is not OFFLINE, ON_TRIP, UNAVAILABLE or empty")
	case s.Location != nil && !s.Location.valid():
		return errors.New("realtime: the position is not on earth")
	case (s.Location != nil) != !s.LocatedAt.IsZero():
		return errors.New("realtime: the position has no time, or the time no position")
	case s.TripID != "" && !validID(s.TripID) || s.VehicleID != "" && !validID(s.VehicleID):
		return fmt.Errorf("realtime: an id is longer than %d bytes, or contains NUL or invalid UTF-8", maxID)
	}
	return nil
}

// reason returns the reason, also for the zero value.
func (s DriverState) reason() AvailabilityReason {
	if !s.Online {
		return ReasonOffline
	}
	return s.Reason
}

// impliedReason returns the reason that follows from the other fields.
func (s DriverState) impliedReason() AvailabilityReason {
	switch {
	case !s.Online:
		return ReasonOffline
	case s.Available:
		return ""
	case s.TripID != "":
		return ReasonOnTrip
	}
	return ReasonUnavailable
}
