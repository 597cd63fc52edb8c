// Domain events of a trip's life, and what an admin does to a trip.

package realtime

import (
	"fmt"
	"time"

	"github.com/rodando/realtime/internal/triptable"
)

// TripRequested says that a passenger asked for a ride; At is when. The passenger
// and the admins are told.
type TripRequested struct {
	TripID             string    `json:"tripId"`
	PassengerID        string    `json:"passengerId,omitempty"`
	Pickup             *Place    `json:"pickup,omitempty"`
	FareEstimatedTotal *float64  `json:"fareEstimatedTotal,omitempty"` // in units of FareFinalCurrency
	FareFinalCurrency  string    `json:"fareFinalCurrency,omitempty"`  // ISO 4217
	At                 time.Time `json:"at,omitzero"`
}

func (TripRequested) EventName() string  { return "trip.requested" }
func (e TripRequested) EventKey() string { return e.TripID }
func (e TripRequested) check() error     { return missing(e, "tripId", e.TripID) }
func (e TripRequested) about() subject {
	return aboutTrip(triptable.Opens, e.TripID, e.PassengerID, "", e.At, itsPassenger)
}

// TripAssigningStarted says that the search for a driver began. The passenger and
// the admins are told.
type TripAssigningStarted struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	At          time.Time `json:"at,omitzero"`
}

func (TripAssigningStarted) EventName() string  { return "trip.assigning.started" }
func (e TripAssigningStarted) EventKey() string { return e.TripID }
func (e TripAssigningStarted) check() error     { return missing(e, "tripId", e.TripID) }
func (e TripAssigningStarted) about() subject {
	return aboutTrip(triptable.Opens, e.TripID, e.PassengerID, "", e.At, itsPassenger)
}

// DriverAssigned says that the trip has its driver. The passenger is told with the
// cards of driver and vehicle, the driver with the card of the passenger, the
// admins with the latter too; the sockets of both people enter the trip's room.
type DriverAssigned struct {
	TripID       string         `json:"tripId"`
	AssignmentID string         `json:"assignmentId,omitempty"` // empty: that of AssignmentAccepted
	PassengerID  string         `json:"passengerId,omitempty"`
	DriverID     string         `json:"driverId,omitempty"`
	VehicleID    string         `json:"vehicleId,omitempty"`
	Driver       *DriverCard    `json:"driver,omitempty"`
	Vehicle      *VehicleCard   `json:"vehicle,omitempty"`
	Passenger    *PassengerCard `json:"passenger,omitempty"`
	At           time.Time      `json:"at,omitzero"`
}

func (DriverAssigned) EventName() string  { return "trip.driver.assigned" }
func (e DriverAssigned) EventKey() string { return e.TripID }
func (e DriverAssigned) check() error     { return missing(e, "tripId", e.TripID) }
func (e DriverAssigned) about() subject {
	return aboutTrip(triptable.Assigns, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver).offer(e.AssignmentID, "")
}

// NoDriversFound says that nobody took the trip. The passenger and the admins are
// told. The trip is over until an event that happened later opens it again.
type NoDriversFound struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	At          time.Time `json:"at,omitzero"`
}

func (NoDriversFound) EventName() string  { return "trip.no_drivers_found" }
func (e NoDriversFound) EventKey() string { return e.TripID }
func (e NoDriversFound) check() error     { return missing(e, "tripId", e.TripID) }
func (e NoDriversFound) about() subject {
	return aboutTrip(triptable.Suspends, e.TripID, e.PassengerID, "", e.At, itsPassenger)
}

// ArrivingStarted says that the accepted driver set out. Passenger, driver and
// admins are told.
type ArrivingStarted struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	DriverID    string    `json:"driverId,omitempty"`
	At          time.Time `json:"at,omitzero"`
}

func (ArrivingStarted) EventName() string  { return "trip.arriving.started" }
func (e ArrivingStarted) EventKey() string { return e.TripID }
func (e ArrivingStarted) check() error     { return missing(e, "tripId", e.TripID) }
func (e ArrivingStarted) about() subject {
	return aboutTrip(triptable.Opens, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver)
}

// DriverEnRoute says where the driver is on his way to the pickup and how long it
// will take. Passenger, driver and admins are told.
type DriverEnRoute struct {
	TripID         string    `json:"tripId"`
	PassengerID    string    `json:"passengerId,omitempty"`
	DriverID       string    `json:"driverId,omitempty"`
	ETAMinutes     *float64  `json:"etaMinutes,omitempty"`
	DriverPosition *Position `json:"driverPosition,omitempty"`
	At             time.Time `json:"at,omitzero"`
}

func (DriverEnRoute) EventName() string  { return "trip.driver.en_route" }
func (e DriverEnRoute) EventKey() string { return e.TripID }
func (e DriverEnRoute) check() error     { return missing(e, "tripId", e.TripID) }
func (e DriverEnRoute) about() subject {
	return aboutTrip(triptable.Opens, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver)
}

// DriverArrivedPickup says that the driver waits at the pickup. Passenger, driver
// and admins are told.
type DriverArrivedPickup struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	DriverID    string    `json:"driverId,omitempty"`
	At          time.Time `json:"at,omitzero"`
}

func (DriverArrivedPickup) EventName() string  { return "trip.driver.arrived_pickup" }
func (e DriverArrivedPickup) EventKey() string { return e.TripID }
func (e DriverArrivedPickup) check() error     { return missing(e, "tripId", e.TripID) }
func (e DriverArrivedPickup) about() subject {
	return aboutTrip(triptable.Opens, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver)
}

// TripStarted says that the ride began. Passenger, driver and admins are told.
type TripStarted struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	DriverID    string    `json:"driverId,omitempty"`
	At          time.Time `json:"at,omitzero"`
}

func (TripStarted) EventName() string  { return "trip.started" }
func (e TripStarted) EventKey() string { return e.TripID }
func (e TripStarted) check() error     { return missing(e, "tripId", e.TripID) }
func (e TripStarted) about() subject {
	return aboutTrip(triptable.Opens, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver)
}

// TripCompleted says that the ride ended. Passenger, driver and admins are told;
// then the trip's room is emptied.
type TripCompleted struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	DriverID    string    `json:"driverId,omitempty"`
	FareTotal   float64   `json:"fareTotal"` // in units of Currency; 0 for a free ride
	Currency    string    `json:"currency"`  // ISO 4217
	At          time.Time `json:"at,omitzero"`
}

func (TripCompleted) EventName() string  { return "trip.completed" }
func (e TripCompleted) EventKey() string { return e.TripID }
func (e TripCompleted) check() error     { return missing(e, "tripId", e.TripID) }
func (e TripCompleted) about() subject {
	return aboutTrip(triptable.Ends, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver)
}

// CancelledBy says who cancelled a trip.
type CancelledBy string

// Who may cancel a trip.
const (
	CancelledByPassenger CancelledBy = "passenger"
	CancelledByDriver    CancelledBy = "driver"
	CancelledBySystem    CancelledBy = "system"
	CancelledByAdmin     CancelledBy = "admin"
)

// Values returns every value.
func (CancelledBy) Values() []string {
	return values(CancelledByPassenger, CancelledByDriver, CancelledBySystem, CancelledByAdmin)
}

// TripCancelled says that the trip will not take place, or ended early. Passenger,
// driver (when there is one) and admins are told; then the trip's room is emptied.
type TripCancelled struct {
	TripID      string      `json:"tripId"`
	PassengerID string      `json:"passengerId,omitempty"`
	DriverID    string      `json:"driverId,omitempty"`
	CancelledBy CancelledBy `json:"cancelledBy"` // required
	Reason      string      `json:"reason,omitempty"`
	At          time.Time   `json:"at,omitzero"`
}

func (TripCancelled) EventName() string  { return "trip.cancelled" }
func (e TripCancelled) EventKey() string { return e.TripID }
func (e TripCancelled) about() subject {
	return aboutTrip(triptable.Ends, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriverIfAny)
}

func (e TripCancelled) check() error {
	if err := missing(e, "tripId", e.TripID, "cancelledBy", string(e.CancelledBy)); err != nil {
		return err
	}
	switch e.CancelledBy {
	case CancelledByPassenger, CancelledByDriver, CancelledBySystem, CancelledByAdmin:
		return nil
	}
	return fmt.Errorf("%s: %w: cancelledBy must be passenger, driver, system or admin", e.EventName(), errInvalidEvent)
}

// WaitingSurchargeApplied says that waiting at the pickup made the ride dearer.
// Passenger, driver and admins are told.
type WaitingSurchargeApplied struct {
	TripID         string    `json:"tripId"`
	PassengerID    string    `json:"passengerId,omitempty"`
	DriverID       string    `json:"driverId,omitempty"`
	WaitingMinutes float64   `json:"waitingMinutes"`
	Amount         float64   `json:"amount"`   // in units of Currency
	Currency       string    `json:"currency"` // ISO 4217
	At             time.Time `json:"at,omitzero"`
}

func (WaitingSurchargeApplied) EventName() string  { return "trip.waiting_surcharge.applied" }
func (e WaitingSurchargeApplied) EventKey() string { return e.TripID }
func (e WaitingSurchargeApplied) check() error     { return missing(e, "tripId", e.TripID) }
func (e WaitingSurchargeApplied) about() subject {
	return aboutTrip(triptable.Notes, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver)
}

// AdminTripAction says that an admin intervened in a trip; Action is the host's own
// word for it. Only admins are told.
type AdminTripAction struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	DriverID    string    `json:"driverId,omitempty"`
	AdminID     string    `json:"adminId"`
	Action      string    `json:"action"`
	Reason      string    `json:"reason,omitempty"`
	At          time.Time `json:"at,omitzero"`
}

func (AdminTripAction) EventName() string  { return "admin.trip.action_issued" }
func (e AdminTripAction) EventKey() string { return e.TripID }
func (e AdminTripAction) check() error {
	return missing(e, "tripId", e.TripID, "adminId", e.AdminID, "action", e.Action)
}
func (e AdminTripAction) about() subject {
	return aboutTrip(triptable.Notes, e.TripID, e.PassengerID, e.DriverID, e.At, 0)
}

// MessageTo says which people of a trip an admin's message is for.
type MessageTo string

// Receivers of an admin's message.
const (
	MessageToDriver    MessageTo = "driver"
	MessageToPassenger MessageTo = "passenger"
	MessageToBoth      MessageTo = "both"
)

// Values returns every value.
func (MessageTo) Values() []string {
	return values(MessageToDriver, MessageToPassenger, MessageToBoth)
}

// AdminTripMessage says that an admin wrote to the people of a trip. The admins are
// told, and those named by To.
type AdminTripMessage struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	DriverID    string    `json:"driverId,omitempty"`
	AdminID     string    `json:"adminId"`
	To          MessageTo `json:"to"` // required
	Message     string    `json:"message"`
	At          time.Time `json:"at,omitzero"`
}

func (AdminTripMessage) EventName() string  { return "admin.trip.message_sent" }
func (e AdminTripMessage) EventKey() string { return e.TripID }
func (e AdminTripMessage) about() subject {
	s := aboutTrip(triptable.Notes, e.TripID, e.PassengerID, e.DriverID, e.At, 0)
	if e.To == MessageToDriver || e.To == MessageToBoth {
		s.needs |= itsDriver
	}
	if e.To == MessageToPassenger || e.To == MessageToBoth {
		s.needs |= itsPassenger
	}
	return s
}

func (e AdminTripMessage) check() error {
	if err := missing(e, "tripId", e.TripID, "adminId", e.AdminID, "to", string(e.To)); err != nil {
		return err
	}
	switch e.To {
	case MessageToDriver, MessageToPassenger, MessageToBoth:
		return nil
	}
	return fmt.Errorf("%s: %w: to must be driver, passenger or both", e.EventName(), errInvalidEvent)
}
