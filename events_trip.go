// Events of a trip's life, from the request to the end.
//
// In the payloads, here and in the other events_*.go, a pointer that is nil is null
// on the wire, not left out, unless the field says omitempty. EventID is the domain
// event's id, a UUID: a client that sees it twice drops the second. Where two
// audiences get different payloads under one name there are two descriptors,
// ToDriver and ToAdmin.

package realtime

import "slices"

// tripEvents are the domain events of this file.
var tripEvents = []DomainEventType{
	domainType("A passenger asked for a ride.", TripRequested{
		TripID: exampleTrip, PassengerID: examplePassenger, Pickup: examplePlace, FareEstimatedTotal: new(350.5), FareFinalCurrency: "CUP", At: exampleTime,
	}),
	domainType("The search for a driver began.",
		TripAssigningStarted{TripID: exampleTrip, PassengerID: examplePassenger, At: exampleTime}),
	domainType("The trip has its driver.", DriverAssigned{
		TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, VehicleID: exampleVehicle,
		Driver: exampleDriverCard, Vehicle: exampleVehicleCard, Passenger: examplePassengerCard, At: exampleTime,
	}),
	domainType("No driver took the trip.",
		NoDriversFound{TripID: exampleTrip, PassengerID: examplePassenger, Reason: "nobody near", At: exampleTime}),
	domainType("The driver set out for the pickup.",
		ArrivingStarted{TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, At: exampleTime}),
	domainType("Where the driver is on the way to the pickup, and how long it will take.", DriverEnRoute{
		TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, ETAMinutes: new(4.5), DriverPosition: examplePosition, At: exampleTime,
	}),
	domainType("The driver waits at the pickup.",
		DriverArrivedPickup{TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, At: exampleTime}),
	domainType("The ride began.",
		TripStarted{TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, At: exampleTime}),
	domainType("The ride ended. Nothing more is sent about the driver's position.", TripCompleted{
		TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, FareTotal: 410.25, Currency: "CUP", At: exampleTime,
	}),
	domainType("The trip will not take place, or ended early.", TripCancelled{
		TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, CancelledBy: CancelledByPassenger, Reason: "too late", At: exampleTime,
	}),
	domainType("A waiting surcharge was added to the fare.", WaitingSurchargeApplied{
		TripID: exampleTrip, PassengerID: examplePassenger, DriverID: exampleDriver, WaitingMinutes: 7, Amount: 50, Currency: "CUP", At: exampleTime,
	}),
}

// TripStatus is where a trip stands.
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

// TripPayload is the part that most events of a trip share.
type TripPayload struct {
	EventID string `json:"eventId" doc:"a UUID, the same in every repeat of the event"`
	TripID  string `json:"tripId"`
	At      Time   `json:"at" doc:"when it happened"`
}

// TripTransitionPayload says from which status a trip came to which.
type TripTransitionPayload struct {
	TripPayload
	PreviousStatus TripStatus `json:"previousStatus"`
	CurrentStatus  TripStatus `json:"currentStatus"`
}

// TripStatusPayload says which status a trip has, to its passenger and driver.
type TripStatusPayload struct {
	TripPayload
	CurrentStatus TripStatus `json:"currentStatus"`
}

// TripStatusToAdminPayload says so to the admins.
type TripStatusToAdminPayload struct {
	TripStatusPayload
	DriverID *string `json:"driverId" null:"not known"`
}

func (a audience) trip() TripPayload { return TripPayload{a.eventID, a.tripID, Time{a.at}} }

func (a audience) status(s TripStatus) TripStatusPayload { return TripStatusPayload{a.trip(), s} }

func (a audience) statusToAdmin(s TripStatus) TripStatusToAdminPayload {
	return TripStatusToAdminPayload{a.status(s), orNull(a.driverID)}
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

func (e TripRequested) deliver(a audience) []delivery {
	return send(EventTripRequested, TripRequestedPayload{
		EventID:            a.eventID,
		TripID:             a.tripID,
		PassengerID:        orNull(a.passengerID),
		RequestedAt:        Time{a.at},
		Pickup:             e.Pickup,
		FareEstimatedTotal: e.FareEstimatedTotal,
		FareFinalCurrency:  orNull(e.FareFinalCurrency),
		Status:             TripStatusPending,
	}, a.passenger(), a.admins())
}

// EventTripAssigningStarted is sent to the passenger and the admins.
var EventTripAssigningStarted = NewEvent[TripTransitionPayload]("trip:assigning_started")

func (e TripAssigningStarted) deliver(a audience) []delivery {
	v := TripTransitionPayload{a.trip(), TripStatusPending, TripStatusAssigning}
	return send(EventTripAssigningStarted, v, a.passenger(), a.admins())
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

// DriverAssignedToAdminPayload is the driver's, with the passenger's id.
type DriverAssignedToAdminPayload struct {
	DriverAssignedToDriverPayload
	PassengerID *string `json:"passengerId" null:"not known"`
}

func (e DriverAssigned) deliver(a audience) []delivery {
	status, driver, vehicle := a.status(TripStatusAccepted), orNull(a.driverID), orNull(e.VehicleID)
	toDriver := DriverAssignedToDriverPayload{status, driver, vehicle, e.Passenger.masked()}
	return slices.Concat(
		send(EventDriverAssigned, DriverAssignedPayload{
			DriverAcceptedPayload{status, e.Driver.masked(), e.Vehicle}, driver, vehicle,
		}, a.passenger()),
		send(EventDriverAssignedToDriver, toDriver, a.driver()),
		send(EventDriverAssignedToAdmin,
			DriverAssignedToAdminPayload{toDriver, orNull(a.passengerID)}, a.admins()),
	)
}

// EventNoDriversFound is sent to the passenger and the admins.
var EventNoDriversFound = NewEvent[NoDriversFoundPayload]("trip:no_drivers_found")

// NoDriversFoundPayload is what EventNoDriversFound carries.
type NoDriversFoundPayload struct {
	TripPayload
	Reason *string `json:"reason" doc:"for people" null:"none was given"`
}

func (e NoDriversFound) deliver(a audience) []delivery {
	return send(EventNoDriversFound, NoDriversFoundPayload{a.trip(), orNull(e.Reason)}, a.passenger(), a.admins())
}

// EventArrivingStarted is sent to passenger, driver and admins.
var EventArrivingStarted = NewEvent[TripTransitionPayload]("trip:arriving_started")

func (e ArrivingStarted) deliver(a audience) []delivery {
	v := TripTransitionPayload{a.trip(), TripStatusAccepted, TripStatusArriving}
	return send(EventArrivingStarted, v, a.passenger(), a.driver(), a.admins())
}

// EventDriverEnRoute is sent to passenger and driver.
var EventDriverEnRoute = NewEvent[DriverEnRoutePayload]("trip:driver_en_route")

// EventDriverEnRouteToAdmin is sent to the admins.
var EventDriverEnRouteToAdmin = NewEvent[DriverEnRouteToAdminPayload]("trip:driver_en_route")

// DriverEnRoutePayload is where the driver is on the way to the pickup.
type DriverEnRoutePayload struct {
	TripPayload
	ETAMinutes     *float64  `json:"etaMinutes" doc:"minutes to the pickup" null:"not known"`
	DriverPosition *Position `json:"driverPosition" null:"not known"`
}

// DriverEnRouteToAdminPayload adds who the driver is.
type DriverEnRouteToAdminPayload struct {
	DriverEnRoutePayload
	DriverID *string `json:"driverId" null:"not known"`
}

func (e DriverEnRoute) deliver(a audience) []delivery {
	v := DriverEnRoutePayload{a.trip(), e.ETAMinutes, e.DriverPosition}
	return slices.Concat(
		send(EventDriverEnRoute, v, a.passenger(), a.driver()),
		send(EventDriverEnRouteToAdmin, DriverEnRouteToAdminPayload{v, orNull(a.driverID)}, a.admins()),
	)
}

// EventDriverArrivedPickup is sent to passenger and driver.
var EventDriverArrivedPickup = NewEvent[TripStatusPayload]("trip:driver_arrived_pickup")

// EventDriverArrivedPickupToAdmin is sent to the admins.
var EventDriverArrivedPickupToAdmin = NewEvent[TripStatusToAdminPayload]("trip:driver_arrived_pickup")

func (e DriverArrivedPickup) deliver(a audience) []delivery {
	return slices.Concat(
		send(EventDriverArrivedPickup, a.status(TripStatusArriving), a.passenger(), a.driver()),
		send(EventDriverArrivedPickupToAdmin, a.statusToAdmin(TripStatusArriving), a.admins()),
	)
}

// EventTripStarted is sent to passenger and driver.
var EventTripStarted = NewEvent[TripStatusPayload]("trip:started")

// EventTripStartedToAdmin is sent to the admins.
var EventTripStartedToAdmin = NewEvent[TripStatusToAdminPayload]("trip:started")

func (e TripStarted) deliver(a audience) []delivery {
	return slices.Concat(
		send(EventTripStarted, a.status(TripStatusInProgress), a.passenger(), a.driver()),
		send(EventTripStartedToAdmin, a.statusToAdmin(TripStatusInProgress), a.admins()),
	)
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

func (e TripCompleted) deliver(a audience) []delivery {
	v := TripCompletedPayload{a.status(TripStatusCompleted), orNull(a.driverID), e.FareTotal, e.Currency}
	return send(EventTripCompleted, v, a.passenger(), a.driver(), a.admins())
}

// EventTripCancelled is sent to passenger, driver and admins.
var EventTripCancelled = NewEvent[TripCancelledPayload]("trip:cancelled")

// TripCancelledPayload is what EventTripCancelled carries.
type TripCancelledPayload struct {
	TripStatusPayload
	CancelledBy CancelledBy `json:"cancelledBy"`
	Reason      *string     `json:"reason" doc:"for people" null:"none was given"`
}

func (e TripCancelled) deliver(a audience) []delivery {
	v := TripCancelledPayload{a.status(TripStatusCancelled), e.CancelledBy, orNull(e.Reason)}
	return send(EventTripCancelled, v, a.passenger(), a.driver(), a.admins())
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

func (e WaitingSurchargeApplied) deliver(a audience) []delivery {
	v := WaitingSurchargePayload{a.trip(), e.WaitingMinutes, e.Amount, e.Currency}
	return send(EventWaitingSurchargeApplied, v, a.passenger(), a.driver(), a.admins())
}
