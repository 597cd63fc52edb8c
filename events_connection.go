// Events of the connection itself, to one socket at a time. They belong to no domain
// event and carry no eventId.

package realtime

// EventHello is the first event after a successful connect.
var EventHello = NewEvent[HelloPayload]("hello")

// HelloPayload is what EventHello carries.
type HelloPayload struct {
	OK         bool   `json:"ok" doc:"always true"`
	Namespace  string `json:"nsp" doc:"the namespace's name"`
	SID        string `json:"sid" doc:"the login session's id"`
	UserID     string `json:"userId"`
	ServerTime Time   `json:"serverTime" doc:"the server's clock"`
}

// EventAuthExpired says that the token or session ran out; the transport is
// closed next.
var EventAuthExpired = NewEvent[AuthExpiredPayload]("auth:expired")

// AuthExpiredPayload is what EventAuthExpired carries.
type AuthExpiredPayload struct {
	At Time `json:"at" doc:"when it expired"`
}

// EventServerDrain says that this node is going away; the transport is
// closed next.
var EventServerDrain = NewEvent[ServerDrainPayload]("server:drain")

// ServerDrainPayload is what EventServerDrain carries.
type ServerDrainPayload struct {
	ReconnectAfterMS int64 `json:"reconnectAfterMs" doc:"milliseconds to wait before connecting again"`
}

// Exception is the payload of EventException.
type Exception struct {
	Status  string `json:"status" doc:"always error"`
	Message string `json:"message" doc:"as in the ack"`
}

// EventException says that an event which the client sent has failed. It is sent
// with Compat.EmitExceptions only, beside the ack.
var EventException = NewEvent[Exception]("exception")
