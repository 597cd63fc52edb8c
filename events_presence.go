// Domain events of presence, which the server publishes on the bus and sends to
// no client.

package realtime

import "time"

// presenceEvents are the domain events of this file. No client receives them.
var presenceEvents = []DomainEventType{
	domainType[PresenceConnected]("A user's first socket in a namespace connected."),
	domainType[PresenceDisconnected]("A user has had no socket in a namespace for a while."),
}

// PresenceConnected says that a user's first socket in a namespace is there, on
// the node that publishes it: with several nodes it may come again, so a host
// treats it as idempotent. A host that subscribes to its bus reads it off an
// Envelope of this name, with json.Unmarshal.
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

// PresenceDisconnected says that a user has had no socket in a namespace, on any
// node that could be asked, for Timeouts.PresenceGrace. A host may mark a driver
// offline then. It may be published twice when the user's sockets were on two nodes. A node that shuts
// down says nothing of its users, who are about to connect to another one, and
// neither does one that crashes: who never comes back after that is the host's to
// find, for instance by the time of the driver's last position.
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

// Presence is whether a user is there.
type Presence struct {
	UserID    string           `json:"userId"`
	UserType  UserType         `json:"userType"`
	Namespace string           `json:"nsp"`
	Sockets   int              `json:"sockets"`          // the user's in the namespace: 1 or 0
	Reason    DisconnectReason `json:"reason,omitempty"` // why the last socket ended
	At        time.Time        `json:"at,omitzero"`      // when the socket came or went
}
