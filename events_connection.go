// Connection events: the events of a socket's own connection. The server sends each of them
// to one socket, without a domain event, so they have no eventId.

package realtime

// EventHello is the first event after a successful connect. Only the events that a recovered client had
// missed come before it.
var EventHello = NewEvent[HelloPayload]("hello")

// HelloPayload is what EventHello carries.
type HelloPayload struct {
	OK         bool   `json:"ok" doc:"always true"`
	Namespace  string `json:"nsp" doc:"the namespace's name"`
	SessionID  string `json:"sid" doc:"the login session's id"`
	UserID     string `json:"userId"`
	ServerTime Time   `json:"serverTime" doc:"the server's clock"`
	Recovered  *bool  `json:"recovered,omitempty" doc:"with Options.Recovery: whether the client has its former socket, and what it had missed came before this event, with the exceptions in docs/clients.md; without it absent"`
	Missed     *int   `json:"missed,omitempty" doc:"if recovered: how many events it had missed"`
}

// EventTripSync is sent to a socket that connected, behind EventHello, if there is an
// Options.Snapshots.
var EventTripSync = NewEvent[TripSyncPayload]("trip:sync")

// TripSyncPayload is what EventTripSync carries.
type TripSyncPayload struct {
	Trips      []SyncedTrip `json:"trips" doc:"the user's running trips" null:"-"`
	Offers     []Offer      `json:"offers" doc:"the driver's open offers; none in /passengers" null:"-"`
	ServerTime Time         `json:"serverTime" doc:"the server's clock"`
}

// SyncedTrip is the state of a trip in TripSyncPayload.
type SyncedTrip struct {
	TripID             string         `json:"tripId"`
	CurrentStatus      TripStatus     `json:"currentStatus"`
	At                 Time           `json:"at" doc:"since when it has the status" null:"not known"`
	PassengerID        *string        `json:"passengerId" null:"not supplied"`
	DriverID           *string        `json:"driverId" null:"none yet"`
	VehicleID          *string        `json:"vehicleId" null:"none yet"`
	RequestedAt        Time           `json:"requestedAt" null:"not supplied"`
	ArrivedAt          Time           `json:"arrivedAt" doc:"when the driver arrived at the pickup" null:"not yet"`
	Pickup             *Place         `json:"pickup" null:"not supplied"`
	Destination        *Place         `json:"destination" null:"not supplied"`
	FareEstimatedTotal *float64       `json:"fareEstimatedTotal" doc:"in units of currency" null:"not supplied"`
	Currency           *string        `json:"currency" doc:"ISO 4217" null:"not supplied"`
	ETAMinutes         *float64       `json:"etaMinutes" doc:"minutes until the driver arrives" null:"not known"`
	DriverPosition     *Position      `json:"driverPosition" null:"not known"`
	Driver             *DriverCard    `json:"driver" null:"none yet, and for the driver"`
	Vehicle            *VehicleCard   `json:"vehicle" null:"none yet, and for the driver"`
	Passenger          *PassengerCard `json:"passenger" null:"for the passenger"`
	Details            map[string]any `json:"details" doc:"what the host supplied, unchanged" null:"not supplied"`
}

// EventAuthExpired says that the token or the login session of the socket has expired. The
// server then closes the connection, with its sockets in other namespaces.
var EventAuthExpired = NewEvent[AuthExpiredPayload]("auth:expired")

// AuthExpiredPayload is what EventAuthExpired carries.
type AuthExpiredPayload struct {
	At Time `json:"at" doc:"when it expired"`
}

// EventServerDrain says that this node shuts down. The server then closes the connection.
var EventServerDrain = NewEvent[ServerDrainPayload]("server:drain")

// ServerDrainPayload is what EventServerDrain carries.
type ServerDrainPayload struct {
	ReconnectAfterMS int64 `json:"reconnectAfterMs" doc:"milliseconds to wait before the client reconnects"`
}

// Exception is the payload of EventException.
type Exception struct {
	Status  string `json:"status" doc:"always error"`
	Message string `json:"message" doc:"as in the ack"`
}

// EventException says that an event of the client has failed. The server sends it in addition
// to the ack, only if Compat.EmitExceptions is set.
var EventException = NewEvent[Exception]("exception")
