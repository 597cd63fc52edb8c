// Connection events: the events of a socket's own connection. The server sends each of them
// to one socket, without a domain event, so they have no eventId.

package realtime

// EventHello is the first event after a successful connect.
var EventHello = NewEvent[HelloPayload]("hello")

// HelloPayload is what EventHello carries.
type HelloPayload struct {
	OK         bool   `json:"ok" doc:"always true"`
	Namespace  string `json:"nsp" doc:"the namespace's name"`
	SessionID  string `json:"sid" doc:"the login session's id"`
	UserID     string `json:"userId"`
	ServerTime Time   `json:"serverTime" doc:"the server's clock"`
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
