// The catalogue of what the server sends about trips: each event's name and
// payload. Drivers, logins and connections are in catalogue_users.go; who
// receives what, and when, is in audience.go.
//
// A pointer that is nil is null on the wire, not left out, unless the field
// says omitempty. EventID is the domain event's id, a UUID: a client that sees
// it twice drops the second. Where two audiences get different payloads under
// one name there are two descriptors, ToDriver and ToAdmin.

package realtime

// Events of a trip's life. "The admins" are all of /admin, or only those who
// joined the trip when the options narrow it.
var (
	// EventTripRequested tells the passenger and the admins.
	EventTripRequested = NewEvent[TripRequestedPayload]("trip:requested")
	// EventTripAssigningStarted tells the passenger and the admins.
	EventTripAssigningStarted = NewEvent[TripTransitionPayload]("trip:assigning_started")
	// EventDriverAccepted tells the passenger that a driver took the offer.
	EventDriverAccepted = NewEvent[DriverAcceptedPayload]("trip:driver_accepted")
	// EventDriverAssigned tells the passenger.
	EventDriverAssigned = NewEvent[DriverAssignedPayload]("trip:driver_assigned")
	// EventDriverAssignedToDriver tells the driver.
	EventDriverAssignedToDriver = NewEvent[DriverAssignedToDriverPayload]("trip:driver_assigned")
	// EventDriverAssignedToAdmin tells the admins.
	EventDriverAssignedToAdmin = NewEvent[DriverAssignedToAdminPayload]("trip:driver_assigned")
	// EventNoDriversFound tells the passenger and the admins.
	EventNoDriversFound = NewEvent[NoDriversFoundPayload]("trip:no_drivers_found")
	// EventArrivingStarted tells passenger, driver and admins.
	EventArrivingStarted = NewEvent[TripTransitionPayload]("trip:arriving_started")
	// EventDriverEnRoute tells passenger and driver.
	EventDriverEnRoute = NewEvent[DriverEnRoutePayload]("trip:driver_en_route")
	// EventDriverEnRouteToAdmin tells the admins.
	EventDriverEnRouteToAdmin = NewEvent[DriverEnRouteToAdminPayload]("trip:driver_en_route")
	// EventDriverArrivedPickup tells passenger and driver.
	EventDriverArrivedPickup = NewEvent[TripStatusPayload]("trip:driver_arrived_pickup")
	// EventDriverArrivedPickupToAdmin tells the admins.
	EventDriverArrivedPickupToAdmin = NewEvent[TripStatusToAdminPayload]("trip:driver_arrived_pickup")
	// EventTripStarted tells passenger and driver.
	EventTripStarted = NewEvent[TripStatusPayload]("trip:started")
	// EventTripStartedToAdmin tells the admins.
	EventTripStartedToAdmin = NewEvent[TripStatusToAdminPayload]("trip:started")
	// EventTripCompleted tells passenger, driver and admins.
	EventTripCompleted = NewEvent[TripCompletedPayload]("trip:completed")
	// EventTripCancelled tells passenger, driver and admins.
	EventTripCancelled = NewEvent[TripCancelledPayload]("trip:cancelled")
	// EventWaitingSurchargeApplied tells passenger, driver and admins.
	EventWaitingSurchargeApplied = NewEvent[WaitingSurchargePayload]("trip:waiting_surcharge_applied")
	// EventAdminTripAction tells the admins.
	EventAdminTripAction = NewEvent[AdminTripActionPayload]("admin:trip:action_issued")
	// EventAdminTripMessage tells the admins, and the driver, the passenger or
	// both, as the message says.
	EventAdminTripMessage = NewEvent[AdminTripMessagePayload]("admin:trip:message_sent")
)

// Events of an offer to one driver.
var (
	// EventAssignmentOffered tells the driver.
	EventAssignmentOffered = NewEvent[AssignmentOfferedPayload]("trip:assignment:offered")
	// EventAssignmentOfferedToAdmin tells the admins.
	EventAssignmentOfferedToAdmin = NewEvent[AssignmentOfferedToAdminPayload]("trip:assignment:offered")
	// EventAssignmentAccepted tells the driver and the admins.
	EventAssignmentAccepted = NewEvent[AssignmentPayload]("trip:assignment:accepted")
	// EventAssignmentRejected tells the admins.
	EventAssignmentRejected = NewEvent[AssignmentEndedPayload]("trip:assignment:rejected")
	// EventAssignmentExpired tells the driver and the admins.
	EventAssignmentExpired = NewEvent[AssignmentPayload]("trip:assignment:expired")
	// EventAssignmentCancelled tells the driver and the admins.
	EventAssignmentCancelled = NewEvent[AssignmentEndedPayload]("trip:assignment:cancelled")
)

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

// TripPayload is the part that most events of a trip share.
type TripPayload struct {
	EventID string `json:"eventId"`
	TripID  string `json:"tripId"`
	At      Time   `json:"at"` // when it happened
}

// TripRequestedPayload is what EventTripRequested carries.
type TripRequestedPayload struct {
	EventID            string     `json:"eventId"`
	TripID             string     `json:"tripId"`
	PassengerID        *string    `json:"passengerId"`
	RequestedAt        Time       `json:"requestedAt"`
	Pickup             *Place     `json:"pickup"`
	FareEstimatedTotal *float64   `json:"fareEstimatedTotal"` // in units of FareFinalCurrency
	FareFinalCurrency  *string    `json:"fareFinalCurrency"`  // ISO 4217
	Status             TripStatus `json:"status"`             // pending
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
	DriverID *string `json:"driverId"`
}

// AssignmentOfferedPayload is what a driver decides by. What follows ExpiresAt
// is there when the host supplied it.
type AssignmentOfferedPayload struct {
	EventID         string   `json:"eventId"`
	AssignmentID    string   `json:"assignmentId"`
	TripID          string   `json:"tripId"`
	TTLSec          int      `json:"ttlSec"` // seconds from the offer to ExpiresAt
	ExpiresAt       Time     `json:"expiresAt"`
	Pickup          *Place   `json:"pickup,omitempty"`
	DestinationHint *Place   `json:"destinationHint,omitempty"`
	StopsCount      *int     `json:"stopsCount,omitempty"`
	PriceEstimate   *float64 `json:"priceEstimate,omitempty"` // in units of Currency
	Currency        string   `json:"currency,omitempty"`      // ISO 4217
}

// AssignmentOfferedToAdminPayload adds to whom.
type AssignmentOfferedToAdminPayload struct {
	AssignmentOfferedPayload
	DriverID  *string `json:"driverId"`
	VehicleID *string `json:"vehicleId"`
}

// AssignmentPayload says which offer to whom was accepted or expired.
type AssignmentPayload struct {
	TripPayload
	AssignmentID string  `json:"assignmentId"`
	DriverID     *string `json:"driverId"`
	VehicleID    *string `json:"vehicleId"`
}

// AssignmentEndedPayload says which offer to whom was rejected or cancelled,
// and why.
type AssignmentEndedPayload struct {
	AssignmentPayload
	Reason *string `json:"reason"`
}

// DriverAcceptedPayload is what EventDriverAccepted carries.
type DriverAcceptedPayload struct {
	TripStatusPayload
	Driver  *DriverCard  `json:"driver"`
	Vehicle *VehicleCard `json:"vehicle"`
}

// DriverAssignedPayload shows the passenger his driver.
type DriverAssignedPayload struct {
	DriverAcceptedPayload
	DriverID  *string `json:"driverId"`
	VehicleID *string `json:"vehicleId"`
}

// DriverAssignedToDriverPayload shows the driver his passenger.
type DriverAssignedToDriverPayload struct {
	TripStatusPayload
	DriverID  *string        `json:"driverId"`
	VehicleID *string        `json:"vehicleId"`
	Passenger *PassengerCard `json:"passenger"`
}

// DriverAssignedToAdminPayload is the driver's, with the passenger's id.
type DriverAssignedToAdminPayload struct {
	DriverAssignedToDriverPayload
	PassengerID *string `json:"passengerId"`
}

// NoDriversFoundPayload is what EventNoDriversFound carries.
type NoDriversFoundPayload struct {
	TripPayload
	Reason *string `json:"reason"`
}

// DriverEnRoutePayload is where the driver is on his way to the pickup.
type DriverEnRoutePayload struct {
	TripPayload
	ETAMinutes     *float64  `json:"etaMinutes"`
	DriverPosition *Position `json:"driverPosition"`
}

// DriverEnRouteToAdminPayload adds who the driver is.
type DriverEnRouteToAdminPayload struct {
	DriverEnRoutePayload
	DriverID *string `json:"driverId"`
}

// TripCompletedPayload is what EventTripCompleted carries.
type TripCompletedPayload struct {
	TripStatusPayload
	DriverID  *string `json:"driverId"`
	FareTotal float64 `json:"fareTotal"` // in units of Currency
	Currency  string  `json:"currency"`  // ISO 4217
}

// TripCancelledPayload is what EventTripCancelled carries.
type TripCancelledPayload struct {
	TripStatusPayload
	CancelledBy CancelledBy `json:"cancelledBy"`
	Reason      *string     `json:"reason"`
}

// WaitingSurchargePayload is what EventWaitingSurchargeApplied carries.
type WaitingSurchargePayload struct {
	TripPayload
	WaitingMinutes float64 `json:"waitingMinutes"`
	Amount         float64 `json:"amount"`   // in units of Currency
	Currency       string  `json:"currency"` // ISO 4217
}

// AdminTripActionPayload is what EventAdminTripAction carries.
type AdminTripActionPayload struct {
	TripPayload
	AdminID string  `json:"adminId"`
	Action  string  `json:"action"` // the host's own word
	Reason  *string `json:"reason"`
}

// AdminTripMessagePayload is what EventAdminTripMessage carries.
type AdminTripMessagePayload struct {
	TripPayload
	AdminID string    `json:"adminId"`
	To      MessageTo `json:"to"`
	Message string    `json:"message"`
}
