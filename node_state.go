// Node state: the messages about running trips and presence between the nodes. With them
// each node moves its own sockets and corrects the presence of its own users.

package realtime

import (
	"encoding/json"
	"fmt"

	"github.com/rodando/realtime/internal/triptable"
)

// NodeState is the content of an OpState message between nodes of this library. It is
// opaque: an adapter carries its JSON.
type NodeState struct {
	trip    *triptable.Event // an event of a trip that the sender knows
	known   *triptable.State // everything that the sender knows of a trip, as an answer
	last    bool             // with known: the receiver does not answer
	tripsOf string           // a driver's id: nodes that know the driver's trips send them
	left    *Presence        // the sender has published that this user is disconnected
}

type nodeStateJSON struct {
	Trip    *triptable.Event `json:"trip,omitempty"`
	Known   *triptable.State `json:"known,omitempty"`
	Last    bool             `json:"last,omitempty"`
	TripsOf string           `json:"tripsOf,omitempty"`
	Left    *Presence        `json:"left,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (s NodeState) MarshalJSON() ([]byte, error) {
	return json.Marshal(nodeStateJSON{s.trip, s.known, s.last, s.tripsOf, s.left})
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *NodeState) UnmarshalJSON(data []byte) error {
	var v nodeStateJSON
	if err := json.Unmarshal(data, &v); err != nil {
		return fmt.Errorf("realtime: node state: %w", err)
	}
	*s = NodeState{v.Trip, v.Known, v.Last, v.TripsOf, v.Left}
	return nil
}

// shareState sends a state to the other nodes. A state that moves sockets is sent in the
// namespace of these sockets. The adapter keeps the order within a namespace, so a socket
// joins a room before the next emit to it and leaves it after the last one.
func (rt *Server) shareState(namespace string, s NodeState) {
	_ = rt.clusterPublish(ClusterMessage{Op: OpState, Namespace: namespace, State: &s}) // logged
}

// applyState applies a state from another node, and reports whether it is valid. It is
// called in the order of all messages about the namespace.
func (ns *Namespace) applyState(s *NodeState) bool {
	p := ns.rt.publisher
	switch {
	case s == nil:
		return false
	case s.trip != nil:
		return p.applyEvent(ns.name, *s.trip)
	case s.known != nil:
		return p.applyTripState(ns.name, *s.known, s.last)
	case s.tripsOf != "":
		p.positions.answer(s.tripsOf)
	case s.left != nil:
		ns.rt.presence.onPeerDisconnected(ns, *s.left)
	default:
		return false
	}
	return true
}
