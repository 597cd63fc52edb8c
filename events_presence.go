// Presence events: the domain events with which the server tells the host which users are
// connected. It publishes them on the bus; no client receives them.

package realtime

import "time"

// presenceEvents are the domain events of this file. No client receives them.
var presenceEvents = []DomainEventType{
	domainType[PresenceConnected]("A user's first socket in a namespace connected."),
	domainType[PresenceDisconnected]("A user has had no socket in a namespace for `Options.Timeouts.PresenceGrace`."),
}

// PresenceConnected says that a user's first socket in a namespace has connected, on the node
// that publishes it. Other nodes may publish it too, so handle it idempotently. A host
// receives it as an Envelope from its bus and decodes Envelope.Data with json.Unmarshal.
type PresenceConnected struct{ Presence }

const (
	presenceConnected    = "presence.connected"
	presenceDisconnected = "presence.disconnected"
)

func isPresence(event string) bool {
	return event == presenceConnected || event == presenceDisconnected
}

// EventName implements DomainEvent.
func (PresenceConnected) EventName() string { return presenceConnected }

// EventKey implements DomainEvent.
func (e PresenceConnected) EventKey() string { return e.UserID }

func (e PresenceConnected) check() error {
	return missing(e.EventName(), "userId", e.UserID, "nsp", e.Namespace)
}
func (e PresenceConnected) about() subject { return subject{at: e.At} }

func (PresenceConnected) deliver(facts) []Delivery { return nil }

// PresenceDisconnected says that a user has had no socket in a namespace for
// Timeouts.PresenceGrace, on this node and on the other nodes that answered. A host may then
// set a driver offline. It may be published twice if the user's sockets were on two nodes.
//
// A node publishes none for its users when it shuts down, because they are about to connect
// to another node, nor when it crashes. A host must detect by itself a user who does not
// reconnect then, for instance by the time of a driver's last position.
type PresenceDisconnected struct{ Presence }

// EventName implements DomainEvent.
func (PresenceDisconnected) EventName() string { return presenceDisconnected }

// EventKey implements DomainEvent.
func (e PresenceDisconnected) EventKey() string { return e.UserID }

func (e PresenceDisconnected) check() error {
	return missing(e.EventName(), "userId", e.UserID, "nsp", e.Namespace)
}
func (e PresenceDisconnected) about() subject { return subject{at: e.At} }

func (PresenceDisconnected) deliver(facts) []Delivery { return nil }

// Presence says whether a user has a socket in a namespace.
type Presence struct {
	UserID    string           `json:"userId"`
	UserType  UserType         `json:"userType"`
	Namespace string           `json:"nsp"`
	Sockets   int              `json:"sockets"`          // 1 in PresenceConnected, 0 in PresenceDisconnected
	Reason    DisconnectReason `json:"reason,omitempty"` // why the last socket disconnected
	At        time.Time        `json:"at,omitzero"`      // when the socket connected or disconnected
}
