package realtime
const (
	NamespaceDrivers = "/drivers"
	NamespacePassengers = "/passengers"
	NamespaceAdmin = "/admin"
)
// Identity is who a socket belongs to; it never changes while the socket lives,
// but for the session id, which auth:refresh may move.
type Identity struct {
	UserID    string
	UserType  UserType
	SessionID string
}
