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

// PresenceDisconnected says that a user has had no socket in a namespace, on any node that
// could be asked, for Timeouts.PresenceGrace. A host may mark a driver offline then. It may
// be published twice when the user's sockets were on two nodes, and a node that was cut off
// from the others publishes PresenceConnected again for a user whom another one has published
// wrongly.
//
// A node that shuts down or dies says nothing of its users. Another node publishes those who
// have not connected to another one within Timeouts.PresenceGrace after it, with the reason
// DisconnectShutdown or DisconnectNodeLost, if the adapter reports its peers. Users of a node
// that was the only one, or of nodes that die together, are the host's to find, for instance
// by the time of the driver's last position.
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
