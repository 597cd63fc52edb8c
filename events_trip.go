// Trip events: the events of a trip until it has a driver, and the types that the events of
// trips share.
//
// In the payloads of all events_*.go, a nil pointer is null on the wire, unless the field has
// omitempty. EventID is the domain event's id, a UUID, with which a client can drop repeats.
// If two audiences receive different payloads under one name, there is a descriptor for
// each, with the suffix ToDriver or ToAdmin.

package realtime

import (
	"cmp"
	"time"

	"github.com/rodando/realtime/internal/triptable"
)

// tripEvents are the domain events of this file.
var tripEvents = []DomainEventType{
	domainType("A passenger asked for a ride.", TripRequested{
		TripID: exampleTrip, PassengerID: examplePassenger, Pickup: examplePlace, FareEstimatedTotal: new(350.5), FareFinalCurrency: "CUP", At: exampleTime,
	}),
	domainType("The search for a driver began.",
		TripAssigningStarted{TripID: exampleTrip, PassengerID: examplePassenger, At: exampleTime}),
	domainType("The trip has a driver.", DriverAssigned{
		TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, VehicleID: exampleVehicle,
		Driver: exampleDriverCard, Vehicle: exampleVehicleCard, Passenger: examplePassengerCard, At: exampleTime,
	}),
	domainType("No driver took the trip.",
		NoDriversFound{TripID: exampleTrip, PassengerID: examplePassenger, Reason: "nobody near", At: exampleTime}),
}

// TripStatus is the state of a trip.
type TripStatus string

// The statuses that payloads carry.
const (
	TripStatusPending    TripStatus = "pending"
	TripStatusAssigning  TripStatus = "assigning"
	TripStatusAccepted   TripStatus = "accepted"
	TripStatusArriving   TripStatus = "arriving"
	TripStatusInProgress TripStatus = "in_progress"
	TripStatusCompleted  TripStatus = "completed"
	TripStatusCancelled  TripStatus = "cancelled"
)

// Values returns every status.
func (TripStatus) Values() []string {
	return values(TripStatusPending, TripStatusAssigning, TripStatusAccepted, TripStatusArriving, TripStatusInProgress, TripStatusCompleted, TripStatusCancelled)
}

// TripPayload has the fields that most payloads of trip events share.
type TripPayload struct {
	EventID string `json:"eventId" doc:"a UUID, the same in every repeat of the event"`
	TripID  string `json:"tripId"`
	At      Time   `json:"at" doc:"when it happened"`
}

// TripTransitionPayload is a change of a trip's status.
type TripTransitionPayload struct {
	TripPayload
	PreviousStatus TripStatus `json:"previousStatus"`
	CurrentStatus  TripStatus `json:"currentStatus"`
}

// TripStatusPayload is a trip's status.
type TripStatusPayload struct {
	TripPayload
	CurrentStatus TripStatus `json:"currentStatus"`
}

// TripStatusToAdminPayload is a trip's status and its driver, for admins.
type TripStatusToAdminPayload struct {
	TripStatusPayload
	DriverID *string `json:"driverId" null:"not known"`
}

func (f facts) trip() TripPayload { return TripPayload{f.eventID, f.tripID, Time{f.at}} }

func (f facts) status(s TripStatus) TripStatusPayload { return TripStatusPayload{f.trip(), s} }

func (f facts) statusToAdmin(s TripStatus) TripStatusToAdminPayload {
	return TripStatusToAdminPayload{f.status(s), orNull(f.driverID)}
}

// TripRequested says that a passenger asked for a ride. The passenger and the admins receive
// it.
type TripRequested struct {
	TripID             string    `json:"tripId"`
	PassengerID        string    `json:"passengerId,omitempty"`
	Pickup             *Place    `json:"pickup,omitempty"`
	FareEstimatedTotal *float64  `json:"fareEstimatedTotal,omitempty"` // in units of FareFinalCurrency
	FareFinalCurrency  string    `json:"fareFinalCurrency,omitempty"`  // ISO 4217
	At                 time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (TripRequested) EventName() string { return "trip.requested" }

// EventKey implements DomainEvent.
func (e TripRequested) EventKey() string { return e.TripID }

func (e TripRequested) check() error {
	return cmp.Or(missing(e.EventName(), "tripId", e.TripID), finite(e.EventName(), e.Pickup.number("pickup"), optional("fareEstimatedTotal", e.FareEstimatedTotal)))
}
func (e TripRequested) about() subject {
	return aboutTrip(triptable.Opens, e.TripID, e.PassengerID, "", e.At, itsPassenger)
}

// EventTripRequested is sent to the passenger and the admins.
var EventTripRequested = NewEvent[TripRequestedPayload]("trip:requested")

// TripRequestedPayload is what EventTripRequested carries.
type TripRequestedPayload struct {
	EventID            string     `json:"eventId" doc:"a UUID, the same in every repeat of the event"`
	TripID             string     `json:"tripId"`
	PassengerID        *string    `json:"passengerId" null:"not known"`
	RequestedAt        Time       `json:"requestedAt"`
	Pickup             *Place     `json:"pickup" null:"not supplied"`
	FareEstimatedTotal *float64   `json:"fareEstimatedTotal" doc:"in units of fareFinalCurrency" null:"not supplied"`
	FareFinalCurrency  *string    `json:"fareFinalCurrency" doc:"ISO 4217" null:"not supplied"`
	Status             TripStatus `json:"status" doc:"always pending"`
}

func (e TripRequested) deliver(f facts) []Delivery {
	return []Delivery{EventTripRequested.Deliver(TripRequestedPayload{
		EventID:            f.eventID,
		TripID:             f.tripID,
		PassengerID:        orNull(f.passengerID),
		RequestedAt:        Time{f.at},
		Pickup:             e.Pickup,
		FareEstimatedTotal: e.FareEstimatedTotal,
		FareFinalCurrency:  orNull(e.FareFinalCurrency),
		Status:             TripStatusPending,
	}, f.passenger(), f.admins())}
}

// TripAssigningStarted says that the search for a driver began. The passenger and
// the admins receive it.
type TripAssigningStarted struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	At          time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (TripAssigningStarted) EventName() string { return "trip.assigning.started" }

// EventKey implements DomainEvent.
func (e TripAssigningStarted) EventKey() string { return e.TripID }

func (e TripAssigningStarted) check() error { return missing(e.EventName(), "tripId", e.TripID) }
func (e TripAssigningStarted) about() subject {
	return aboutTrip(triptable.Opens, e.TripID, e.PassengerID, "", e.At, itsPassenger)
}

// EventTripAssigningStarted is sent to the passenger and the admins.
var EventTripAssigningStarted = NewEvent[TripTransitionPayload]("trip:assigning_started")

func (e TripAssigningStarted) deliver(f facts) []Delivery {
	v := TripTransitionPayload{f.trip(), TripStatusPending, TripStatusAssigning}
	return []Delivery{EventTripAssigningStarted.Deliver(v, f.passenger(), f.admins())}
}

// DriverAssigned says that the trip has a driver. The passenger receives the cards of the
// driver and the vehicle; the driver and the admins receive the card of the passenger. The
// sockets of the driver and the passenger join the trip's room before that.
type DriverAssigned struct {
	TripID       string         `json:"tripId"`
	AssignmentID string         `json:"assignmentId,omitempty"` // empty: the one of AssignmentAccepted
	PassengerID  string         `json:"passengerId,omitempty"`
	DriverID     string         `json:"driverId,omitempty"`
	VehicleID    string         `json:"vehicleId,omitempty"`
	Driver       *DriverCard    `json:"driver,omitempty"`
	Vehicle      *VehicleCard   `json:"vehicle,omitempty"`
	Passenger    *PassengerCard `json:"passenger,omitempty"`
	At           time.Time      `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (DriverAssigned) EventName() string { return "trip.driver.assigned" }

// EventKey implements DomainEvent.
func (e DriverAssigned) EventKey() string { return e.TripID }

func (e DriverAssigned) check() error {
	return cmp.Or(missing(e.EventName(), "tripId", e.TripID), finite(e.EventName(), e.Driver.number()))
}
func (e DriverAssigned) about() subject {
	return aboutTrip(triptable.Assigns, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver).offer(e.AssignmentID, "")
}

// EventDriverAssigned is sent to the passenger.
var EventDriverAssigned = NewEvent[DriverAssignedPayload]("trip:driver_assigned")

// EventDriverAssignedToDriver is sent to the driver.
var EventDriverAssignedToDriver = NewEvent[DriverAssignedToDriverPayload]("trip:driver_assigned")

// EventDriverAssignedToAdmin is sent to the admins.
var EventDriverAssignedToAdmin = NewEvent[DriverAssignedToAdminPayload]("trip:driver_assigned")

// DriverAssignedPayload shows the passenger the trip's driver.
type DriverAssignedPayload struct {
	DriverAcceptedPayload
	DriverID  *string `json:"driverId" null:"not known"`
	VehicleID *string `json:"vehicleId" null:"not known"`
}

// DriverAssignedToDriverPayload shows the driver the trip's passenger.
type DriverAssignedToDriverPayload struct {
	TripStatusPayload
	DriverID  *string        `json:"driverId" null:"not known"`
	VehicleID *string        `json:"vehicleId" null:"not known"`
	Passenger *PassengerCard `json:"passenger" null:"not supplied"`
}

// DriverAssignedToAdminPayload is the payload for the driver with the passenger's id.
type DriverAssignedToAdminPayload struct {
	DriverAssignedToDriverPayload
	PassengerID *string `json:"passengerId" null:"not known"`
}

func (e DriverAssigned) deliver(f facts) []Delivery {
	status, driver, vehicle := f.status(TripStatusAccepted), orNull(f.driverID), orNull(e.VehicleID)
	toDriver := DriverAssignedToDriverPayload{status, driver, vehicle, e.Passenger.masked()}
	return []Delivery{
		EventDriverAssigned.Deliver(DriverAssignedPayload{
			DriverAcceptedPayload{status, e.Driver.masked(), e.Vehicle}, driver, vehicle,
		}, f.passenger()),
		EventDriverAssignedToDriver.Deliver(toDriver, f.driver()),
		EventDriverAssignedToAdmin.Deliver(DriverAssignedToAdminPayload{toDriver, orNull(f.passengerID)}, f.admins()),
	}
}

// NoDriversFound says that no driver accepted the trip. The passenger and the admins receive
// it. The driver and the passenger then leave the trip's room. A later event can start the
// trip again.
type NoDriversFound struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	At          time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (NoDriversFound) EventName() string { return "trip.no_drivers_found" }

// EventKey implements DomainEvent.
func (e NoDriversFound) EventKey() string { return e.TripID }

func (e NoDriversFound) check() error { return missing(e.EventName(), "tripId", e.TripID) }
func (e NoDriversFound) about() subject {
	return aboutTrip(triptable.Suspends, e.TripID, e.PassengerID, "", e.At, itsPassenger)
}

// EventNoDriversFound is sent to the passenger and the admins.
var EventNoDriversFound = NewEvent[NoDriversFoundPayload]("trip:no_drivers_found")

// NoDriversFoundPayload is what EventNoDriversFound carries.
type NoDriversFoundPayload struct {
	TripPayload
	Reason *string `json:"reason" doc:"for people" null:"none was given"`
}

func (e NoDriversFound) deliver(f facts) []Delivery {
	return []Delivery{EventNoDriversFound.Deliver(NoDriversFoundPayload{f.trip(), orNull(e.Reason)}, f.passenger(), f.admins())}
}
