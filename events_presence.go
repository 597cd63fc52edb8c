// Presence events: the domain events that say which users are connected. The server itself
// publishes them on the bus, for the host; no client receives them. presence.go decides when.

package realtime

import "time"

// presenceEvents are the domain events of this file. No client receives them.
var presenceEvents = []DomainEventType{
	domainType[PresenceConnected]("A user's first socket in a namespace connected."),
	domainType[PresenceDisconnected]("A user has had no socket in a namespace for `Options.Timeouts.PresenceGrace`."),
}

// PresenceConnected says that a user, who had no socket in a namespace on a node, has connected
// there. If the user connects to several nodes, each of them publishes it, so handle it
// idempotently. A host receives it as an Envelope from its bus and decodes Envelope.Data with
// json.Unmarshal.
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
// answered, for Timeouts.PresenceGrace. A host may mark a driver offline then. If the user's
// sockets were on two nodes, or messages between nodes were lost, it may be published twice. If it was published although the user
// still had a socket on a node that did not answer, that node publishes PresenceConnected again
// once it receives messages from the others, or, if the others cannot be asked any more, for all
// of its users. The same holds if the bus hands PresenceDisconnected out after the user's next
// event, provided that it hands it to one of the servers too.
//
// If the adapter reports its peers, another node publishes it for those users of a node that shuts
// down or dies who do not connect to another node within Timeouts.PresenceGrace, with the reason
// DisconnectShutdown or DisconnectNodeLost. A node of a cluster that shuts down while no other one
// answers publishes it itself, without that time, for all users who are not known to be elsewhere;
// another node may publish it again. No node publishes it for the users of a server without
// Cluster.Adapter, or of nodes that die together: the host must find them itself, for instance by
// the time of the driver's last position.
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
