// Events of a trip's life, from the request to the end.
//
// In the payloads, here and in the other events_*.go, a pointer that is nil is null
// on the wire, not left out, unless the field says omitempty. EventID is the domain
// event's id, a UUID: a client that sees it twice drops the second. Where two
// audiences get different payloads under one name there are two descriptors,
// ToDriver and ToAdmin.

package realtime

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

func (f facts) trip() TripPayload { return TripPayload{f.eventID, f.tripID, Time{f.at}} }

func (f facts) status(s TripStatus) TripStatusPayload { return TripStatusPayload{f.trip(), s} }

func (f facts) statusToAdmin(s TripStatus) TripStatusToAdminPayload {
	return TripStatusToAdminPayload{f.status(s), orNull(f.driverID)}
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

// EventTripAssigningStarted is sent to the passenger and the admins.
var EventTripAssigningStarted = NewEvent[TripTransitionPayload]("trip:assigning_started")

func (e TripAssigningStarted) deliver(f facts) []Delivery {
	v := TripTransitionPayload{f.trip(), TripStatusPending, TripStatusAssigning}
	return []Delivery{EventTripAssigningStarted.Deliver(v, f.passenger(), f.admins())}
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

// EventArrivingStarted is sent to passenger, driver and admins.
var EventArrivingStarted = NewEvent[TripTransitionPayload]("trip:arriving_started")

func (e ArrivingStarted) deliver(f facts) []Delivery {
	v := TripTransitionPayload{f.trip(), TripStatusAccepted, TripStatusArriving}
	return []Delivery{EventArrivingStarted.Deliver(v, f.passenger(), f.driver(), f.admins())}
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

func (e DriverEnRoute) deliver(f facts) []Delivery {
	v := DriverEnRoutePayload{f.trip(), e.ETAMinutes, e.DriverPosition}
	return []Delivery{
		EventDriverEnRoute.Deliver(v, f.passenger(), f.driver()),
		EventDriverEnRouteToAdmin.Deliver(DriverEnRouteToAdminPayload{v, orNull(f.driverID)}, f.admins()),
	}
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
