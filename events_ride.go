// Ride events: the events of a trip that has a driver, from the way to the pickup until the
// end of the ride.

package realtime

import (
	"cmp"
	"fmt"
	"time"

	"github.com/rodando/realtime/internal/triptable"
)

// rideEvents are the domain events of this file.
var rideEvents = []DomainEventType{
	domainType("The driver started towards the pickup.",
		ArrivingStarted{TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, At: exampleTime}),
	domainType("The driver is on the way to the pickup: the position, and the time that the way will take.", DriverEnRoute{
		TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, ETAMinutes: new(4.5), DriverPosition: examplePosition, At: exampleTime,
	}),
	domainType("The driver arrived at the pickup.",
		DriverArrivedPickup{TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, At: exampleTime}),
	domainType("The ride began.",
		TripStarted{TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, At: exampleTime}),
	domainType("The ride ended. The driver's position is no longer sent to the passenger.", TripCompleted{
		TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, FareTotal: 410.25, Currency: "CUP", At: exampleTime,
	}),
	domainType("The trip will not take place, or ended early.", TripCancelled{
		TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, CancelledBy: CancelledByPassenger, Reason: "too late", At: exampleTime,
	}),
	domainType("A waiting surcharge was added to the fare.", WaitingSurchargeApplied{
		TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, WaitingMinutes: 7, Amount: 50, Currency: "CUP", At: exampleTime,
	}),
}

// ArrivingStarted says that the assigned driver started towards the pickup. Passenger, driver
// and admins receive it.
type ArrivingStarted struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	DriverID    string    `json:"driverId,omitempty"`
	At          time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (ArrivingStarted) EventName() string { return "trip.arriving.started" }

// EventKey implements DomainEvent.
func (e ArrivingStarted) EventKey() string { return e.TripID }

func (e ArrivingStarted) check() error { return missing(e.EventName(), "tripId", e.TripID) }
func (e ArrivingStarted) about() subject {
	return aboutTrip(triptable.Opens, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver)
}

// EventArrivingStarted is sent to passenger, driver and admins.
var EventArrivingStarted = NewEvent[TripTransitionPayload]("trip:arriving_started")

func (e ArrivingStarted) deliver(f facts) []Delivery {
	v := TripTransitionPayload{f.trip(), TripStatusAccepted, TripStatusArriving}
	return []Delivery{EventArrivingStarted.Deliver(v, f.passenger(), f.driver(), f.admins())}
}

// DriverEnRoute has the position of a driver on the way to the pickup, and the time until
// the arrival. Passenger, driver and admins receive it.
type DriverEnRoute struct {
	TripID         string    `json:"tripId"`
	PassengerID    string    `json:"passengerId,omitempty"`
	DriverID       string    `json:"driverId,omitempty"`
	ETAMinutes     *float64  `json:"etaMinutes,omitempty"` // minutes until the arrival
	DriverPosition *Position `json:"driverPosition,omitempty"`
	At             time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (DriverEnRoute) EventName() string { return "trip.driver.en_route" }

// EventKey implements DomainEvent.
func (e DriverEnRoute) EventKey() string { return e.TripID }

func (e DriverEnRoute) check() error {
	return cmp.Or(missing(e.EventName(), "tripId", e.TripID), finite(e.EventName(), optional("etaMinutes", e.ETAMinutes), e.DriverPosition.number("driverPosition")))
}
func (e DriverEnRoute) about() subject {
	return aboutTrip(triptable.Opens, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver)
}

// EventDriverEnRoute is sent to passenger and driver.
var EventDriverEnRoute = NewEvent[DriverEnRoutePayload]("trip:driver_en_route")

// EventDriverEnRouteToAdmin is sent to the admins.
var EventDriverEnRouteToAdmin = NewEvent[DriverEnRouteToAdminPayload]("trip:driver_en_route")

// DriverEnRoutePayload is what EventDriverEnRoute carries.
type DriverEnRoutePayload struct {
	TripPayload
	ETAMinutes     *float64  `json:"etaMinutes" doc:"minutes until the arrival at the pickup" null:"not known"`
	DriverPosition *Position `json:"driverPosition" null:"not known"`
}

// DriverEnRouteToAdminPayload is what EventDriverEnRouteToAdmin carries: it also has the
// driver's id.
type DriverEnRouteToAdminPayload struct {
	DriverEnRoutePayload
	DriverID *string `json:"driverId" null:"not known"`
}

func (e DriverEnRoute) deliver(f facts) []Delivery {
	v := DriverEnRoutePayload{f.trip(), e.ETAMinutes, e.DriverPosition}
	return []Delivery{
		EventDriverEnRoute.Deliver(v, f.passenger(), f.driver()),
		EventDriverEnRouteToAdmin.Deliver(DriverEnRouteToAdminPayload{v, orNull(f.driverID)}, f.admins()),
	}
}

// DriverArrivedPickup says that the driver arrived at the pickup. Passenger, driver and
// admins receive it.
type DriverArrivedPickup struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	DriverID    string    `json:"driverId,omitempty"`
	At          time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (DriverArrivedPickup) EventName() string { return "trip.driver.arrived_pickup" }

// EventKey implements DomainEvent.
func (e DriverArrivedPickup) EventKey() string { return e.TripID }

func (e DriverArrivedPickup) check() error { return missing(e.EventName(), "tripId", e.TripID) }
func (e DriverArrivedPickup) about() subject {
	return aboutTrip(triptable.Opens, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver)
}

// EventDriverArrivedPickup is sent to passenger and driver.
var EventDriverArrivedPickup = NewEvent[TripStatusPayload]("trip:driver_arrived_pickup")

// EventDriverArrivedPickupToAdmin is sent to the admins.
var EventDriverArrivedPickupToAdmin = NewEvent[TripStatusToAdminPayload]("trip:driver_arrived_pickup")

func (e DriverArrivedPickup) deliver(f facts) []Delivery {
	return []Delivery{
		EventDriverArrivedPickup.Deliver(f.status(TripStatusArriving), f.passenger(), f.driver()),
		EventDriverArrivedPickupToAdmin.Deliver(f.statusToAdmin(TripStatusArriving), f.admins()),
	}
}

// TripStarted says that the ride began. Passenger, driver and admins receive it.
type TripStarted struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	DriverID    string    `json:"driverId,omitempty"`
	At          time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (TripStarted) EventName() string { return "trip.started" }

// EventKey implements DomainEvent.
func (e TripStarted) EventKey() string { return e.TripID }

func (e TripStarted) check() error { return missing(e.EventName(), "tripId", e.TripID) }
func (e TripStarted) about() subject {
	return aboutTrip(triptable.Opens, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver)
}

// EventTripStarted is sent to passenger and driver.
var EventTripStarted = NewEvent[TripStatusPayload]("trip:started")

// EventTripStartedToAdmin is sent to the admins.
var EventTripStartedToAdmin = NewEvent[TripStatusToAdminPayload]("trip:started")

func (e TripStarted) deliver(f facts) []Delivery {
	return []Delivery{
		EventTripStarted.Deliver(f.status(TripStatusInProgress), f.passenger(), f.driver()),
		EventTripStartedToAdmin.Deliver(f.statusToAdmin(TripStatusInProgress), f.admins()),
	}
}

// TripCompleted says that the ride ended. Passenger, driver and admins receive it. Then all
// sockets leave the trip's room.
type TripCompleted struct {
	TripID      string    `json:"tripId"`
	PassengerID string    `json:"passengerId,omitempty"`
	DriverID    string    `json:"driverId,omitempty"`
	FareTotal   float64   `json:"fareTotal"` // in units of Currency; 0 for a free ride
	Currency    string    `json:"currency"`  // ISO 4217
	At          time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (TripCompleted) EventName() string { return "trip.completed" }

// EventKey implements DomainEvent.
func (e TripCompleted) EventKey() string { return e.TripID }

func (e TripCompleted) check() error {
	return cmp.Or(missing(e.EventName(), "tripId", e.TripID, "currency", e.Currency), finite(e.EventName(), number{field: "fareTotal", value: e.FareTotal}))
}
func (e TripCompleted) about() subject {
	return aboutTrip(triptable.Ends, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver)
}

// EventTripCompleted is sent to passenger, driver and admins.
var EventTripCompleted = NewEvent[TripCompletedPayload]("trip:completed")

// TripCompletedPayload is what EventTripCompleted carries.
type TripCompletedPayload struct {
	TripStatusPayload
	DriverID  *string `json:"driverId" null:"not known"`
	FareTotal float64 `json:"fareTotal" doc:"in units of currency; 0 for a free ride"`
	Currency  string  `json:"currency" doc:"ISO 4217"`
}

func (e TripCompleted) deliver(f facts) []Delivery {
	v := TripCompletedPayload{f.status(TripStatusCompleted), orNull(f.driverID), e.FareTotal, e.Currency}
	return []Delivery{EventTripCompleted.Deliver(v, f.passenger(), f.driver(), f.admins())}
}

// CancelledBy says who canceled a trip.
type CancelledBy string

// The people and systems that can cancel a trip.
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

// TripCancelled says that the trip will not take place, or ended early. The passenger, the
// driver, if the trip has one, and the admins receive it. Then all sockets leave the trip's
// room.
type TripCancelled struct {
	TripID      string      `json:"tripId"`
	PassengerID string      `json:"passengerId,omitempty"`
	DriverID    string      `json:"driverId,omitempty"`
	CancelledBy CancelledBy `json:"cancelledBy"` // required
	Reason      string      `json:"reason,omitempty"`
	At          time.Time   `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (TripCancelled) EventName() string { return "trip.cancelled" }

// EventKey implements DomainEvent.
func (e TripCancelled) EventKey() string { return e.TripID }

func (e TripCancelled) about() subject {
	return aboutTrip(triptable.Ends, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriverIfAny)
}

func (e TripCancelled) check() error {
	if err := missing(e.EventName(), "tripId", e.TripID, "cancelledBy", string(e.CancelledBy)); err != nil {
		return err
	}
	switch e.CancelledBy {
	case CancelledByPassenger, CancelledByDriver, CancelledBySystem, CancelledByAdmin:
		return nil
	}
	return fmt.Errorf("%s: %w: cancelledBy must be passenger, driver, system or admin", e.EventName(), errInvalidEvent)
}

// EventTripCancelled is sent to passenger, driver and admins.
var EventTripCancelled = NewEvent[TripCancelledPayload]("trip:cancelled")

// TripCancelledPayload is what EventTripCancelled carries.
type TripCancelledPayload struct {
	TripStatusPayload
	CancelledBy CancelledBy `json:"cancelledBy"`
	Reason      *string     `json:"reason" doc:"for people" null:"none was given"`
}

func (e TripCancelled) deliver(f facts) []Delivery {
	v := TripCancelledPayload{f.status(TripStatusCancelled), e.CancelledBy, orNull(e.Reason)}
	return []Delivery{EventTripCancelled.Deliver(v, f.passenger(), f.driver(), f.admins())}
}

// WaitingSurchargeApplied says that a waiting surcharge was added to the fare.
// Passenger, driver and admins receive it.
type WaitingSurchargeApplied struct {
	TripID         string    `json:"tripId"`
	PassengerID    string    `json:"passengerId,omitempty"`
	DriverID       string    `json:"driverId,omitempty"`
	WaitingMinutes float64   `json:"waitingMinutes"`
	Amount         float64   `json:"amount"`   // in units of Currency
	Currency       string    `json:"currency"` // ISO 4217
	At             time.Time `json:"at,omitzero"`
}

// EventName implements DomainEvent.
func (WaitingSurchargeApplied) EventName() string { return "trip.waiting_surcharge.applied" }

// EventKey implements DomainEvent.
func (e WaitingSurchargeApplied) EventKey() string { return e.TripID }

func (e WaitingSurchargeApplied) check() error {
	return cmp.Or(missing(e.EventName(), "tripId", e.TripID, "currency", e.Currency),
		finite(e.EventName(), number{field: "waitingMinutes", value: e.WaitingMinutes}, number{field: "amount", value: e.Amount}))
}
func (e WaitingSurchargeApplied) about() subject {
	return aboutTrip(triptable.Notes, e.TripID, e.PassengerID, e.DriverID, e.At, itsPassenger|itsDriver)
}

// EventWaitingSurchargeApplied is sent to passenger, driver and admins.
var EventWaitingSurchargeApplied = NewEvent[WaitingSurchargePayload]("trip:waiting_surcharge_applied")

// WaitingSurchargePayload is what EventWaitingSurchargeApplied carries.
type WaitingSurchargePayload struct {
	TripPayload
	WaitingMinutes float64 `json:"waitingMinutes" doc:"minutes"`
	Amount         float64 `json:"amount" doc:"in units of currency"`
	Currency       string  `json:"currency" doc:"ISO 4217"`
}

func (e WaitingSurchargeApplied) deliver(f facts) []Delivery {
	v := WaitingSurchargePayload{f.trip(), e.WaitingMinutes, e.Amount, e.Currency}
	return []Delivery{EventWaitingSurchargeApplied.Deliver(v, f.passenger(), f.driver(), f.admins())}
}
