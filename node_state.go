// Node state: what the nodes tell each other of running trips and of presence, so that
// each can move its own sockets and answer for its own users.

package realtime

import (
	"encoding/json"
	"fmt"

	"github.com/rodando/realtime/internal/triptable"
)

// NodeState is what one node of this library tells the others with OpState. Its
// contents are theirs alone; an adapter carries its JSON.
type NodeState struct {
	trip    *triptable.Event // what the sender has learnt of a trip
	known   *triptable.State // all that the sender knows of a trip: an answer
	last    bool             // with known: it is not answered
	tripsOf string           // a driver: whoever knows of a trip of theirs says so
	left    *Presence        // the bus has been told that the user has no socket there
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

// shareState tells the other nodes. What moves sockets is told in the namespace of
// these sockets: an adapter keeps the order of a namespace, so that who enters a room
// does so before what is emitted to it next, and who leaves it after what was emitted.
func (rt *Server) shareState(namespace string, s NodeState) {
	_ = rt.clusterPublish(ClusterMessage{Op: OpState, Namespace: namespace, State: &s}) // logged
}

// applyState applies what another node has told in a namespace, and reports whether it
// makes sense. It is called in the order of all messages about the namespace.
func (ns *Namespace) applyState(s *NodeState) bool {
	p := ns.rt.publisher
	switch {
	case s == nil:
		return false
	case s.trip != nil:
		return p.learnt(ns.name, *s.trip)
	case s.known != nil:
		return p.answered(ns.name, *s.known, s.last)
	case s.tripsOf != "":
		p.positions.answer(s.tripsOf)
	case s.left != nil:
		ns.rt.presence.contradict(ns, *s.left)
	default:
		return false
	}
	return true
}
