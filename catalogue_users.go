// The catalogue of what the server sends about drivers' availability, about
// login sessions, and about the connection itself. How to read it is said in
// catalogue.go.

package realtime

// Events of drivers' availability. The admins are those in AdminDriversRoom.
var (
	// EventDriverAvailability tells the driver his snapshot.
	EventDriverAvailability = NewEvent[AvailabilityPayload]("driver:availability:update")
	// EventAdminDriverAvailability tells the admins the snapshot.
	EventAdminDriverAvailability = NewEvent[AvailabilityPayload]("admin:driver:availability:update")
	// EventDriverLocation tells the driver; volatile.
	EventDriverLocation = NewEvent[LocationPayload]("driver:location:update")
	// EventAdminDriverLocation tells the admins; volatile.
	EventAdminDriverLocation = NewEvent[LocationPayload]("admin:driver:location:update")
	// EventTripDriverLocation tells the passengers and admins in the room of
	// the trip that the driver is on; volatile.
	EventTripDriverLocation = NewEvent[TripLocationPayload]("trip:driver_location")
	// EventDriverTrip tells the driver.
	EventDriverTrip = NewEvent[DriverTripPayload]("driver:trip:update")
	// EventAdminDriverTrip tells the admins.
	EventAdminDriverTrip = NewEvent[DriverTripPayload]("admin:driver:trip:update")
)

// Events of login sessions. A user's sockets are those in his own room.
var (
	// EventUserLoggedIn tells every admin who logged in.
	EventUserLoggedIn = NewEvent[UserLoggedInPayload]("admin:auth:user_logged_in")
	// EventLoggedIn tells the user's other sockets in his own namespace.
	EventLoggedIn = NewEvent[LoggedInPayload]("auth:logged_in")
	// EventSessionRefreshed tells the user's sockets in every namespace to
	// renew.
	EventSessionRefreshed = NewEvent[SessionRefreshedPayload]("auth:session_refreshed")
	// EventSessionRevoked tells the session's and the user's sockets in every
	// namespace; a DISCONNECT follows for those that it concerns.
	EventSessionRevoked = NewEvent[SessionRevokedPayload]("auth:session_revoked")
)

// Events of the connection, to one socket at a time. They belong to no domain
// event and carry no eventId.
var (
	// EventHello is the first event after a successful connect.
	EventHello = NewEvent[HelloPayload]("hello")
	// EventAuthExpired says that the token or session ran out; the transport is
	// closed next.
	EventAuthExpired = NewEvent[AuthExpiredPayload]("auth:expired")
	// EventServerDrain says that this node is going away; the transport is
	// closed next.
	EventServerDrain = NewEvent[ServerDrainPayload]("server:drain")
)

// AvailabilityPayload is a driver's snapshot.
type AvailabilityPayload struct {
	EventID string `json:"eventId"`
	Availability
}

// LocationPayload is a driver's position.
type LocationPayload struct {
	EventID string `json:"eventId"`
	LocationUpdate
}

// TripLocationPayload is the position of a trip's driver.
type TripLocationPayload struct {
	LocationPayload
	TripID string `json:"tripId"`
}

// DriverTripPayload is a driver's current trip.
type DriverTripPayload struct {
	EventID string `json:"eventId"`
	DriverTrip
}

// UserLoggedInPayload is what EventUserLoggedIn carries.
type UserLoggedInPayload struct {
	EventID     string         `json:"eventId"`
	UserID      string         `json:"userId"`
	UserType    *UserType      `json:"userType"`
	SID         string         `json:"sid"`
	SessionType *string        `json:"sessionType"`
	At          Time           `json:"at"`
	DeviceInfo  map[string]any `json:"deviceInfo"` // as the host supplied it
}

// LoggedInPayload is what EventLoggedIn carries.
type LoggedInPayload struct {
	EventID string `json:"eventId"`
	SID     string `json:"sid"` // the new session's
	At      Time   `json:"at"`
}

// SessionRefreshedPayload is what EventSessionRefreshed carries.
type SessionRefreshedPayload struct {
	EventID string `json:"eventId"`
	OldSID  string `json:"oldSid"`
	NewSID  string `json:"newSid"`
	At      Time   `json:"at"`
}

// SessionRevokedPayload is what EventSessionRevoked carries.
type SessionRevokedPayload struct {
	EventID string  `json:"eventId"`
	SID     *string `json:"sid"` // null: every session of the user
	Reason  *string `json:"reason"`
	At      Time    `json:"at"`
}

// HelloPayload is what EventHello carries.
type HelloPayload struct {
	OK         bool   `json:"ok"` // always true
	Namespace  string `json:"nsp"`
	SID        string `json:"sid"` // the login session's id
	UserID     string `json:"userId"`
	ServerTime Time   `json:"serverTime"`
}

// AuthExpiredPayload is what EventAuthExpired carries.
type AuthExpiredPayload struct {
	At Time `json:"at"`
}

// ServerDrainPayload is what EventServerDrain carries.
type ServerDrainPayload struct {
	ReconnectAfterMS int64 `json:"reconnectAfterMs"` // milliseconds
}
