// Node state: what nodes send each other about running trips, presence, offers, replaced sessions and
// their rooms. Each node applies it to its own sockets and users. The contents are in
// trip_rooms.go, trip_exchange.go, offers_cluster.go, peer_users.go, peer_disconnects.go and peer_rooms.go.

package realtime

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/rodando/realtime/internal/triptable"
)

// NodeState is the content of an OpState message between nodes of this library. It is
// opaque: an adapter carries its JSON.
type NodeState struct{ content stateContent }

// stateContent is the content of a NodeState. One of its fields is set, and Last may be set
// with it. A node drops a state that has no field that it knows.
type stateContent struct {
	Trip        *triptable.Event   `json:"trip,omitempty"`        // an event of a trip that the sender knows
	Known       *triptable.State   `json:"known,omitempty"`       // everything that the sender knows of a trip
	Trips       []triptable.State  `json:"trips,omitempty"`       // the same of several trips, as an answer to Compare
	Last        bool               `json:"last,omitempty"`        // with Known and Trips: the receiver does not answer
	Compare     *triptable.Page    `json:"compare,omitempty"`     // digests of what the sender knows of trips: nodes that know something else answer with Trips
	TripsOf     string             `json:"tripsOf,omitempty"`     // a driver's id: nodes that know trips of the driver answer with Known
	Disconnects *sharedDisconnects `json:"disconnects,omitempty"` // the sender has published that these users are disconnected
	Users       *sharedUsers       `json:"users,omitempty"`       // users of the sender
	UsersOf     *usersRequest      `json:"usersOf,omitempty"`     // nodes answer with Users and Disconnects
	Rooms       *sharedRooms       `json:"rooms,omitempty"`       // rooms of the sender
	RoomsOf     *roomsRequest      `json:"roomsOf,omitempty"`     // nodes answer with Rooms
	Offer       *sharedOffer       `json:"offer,omitempty"`       // what the sender has learned of an offer
	OffersOf    bool               `json:"offersOf,omitempty"`    // nodes answer with Offer
	Tracked     *sharedTracked     `json:"tracked,omitempty"`     // an event of the host's with receipts
	TrackedBy   *trackedReceipt    `json:"trackedBy,omitempty"`   // a receipt of one
	Sockets     *sharedSockets     `json:"sockets,omitempty"`     // sockets of the sender in the message's namespace, whose clients may come to another node
	SocketsOf   bool               `json:"socketsOf,omitempty"`   // nodes answer with Sockets
	Claim       *socketClaim       `json:"claim,omitempty"`       // the client of a socket has come to the sender
	Claimed     *socketClaimed     `json:"claimed,omitempty"`     // the answer to Claim
	Find        *socketFind        `json:"find,omitempty"`        // nodes that know the socket answer with Found
	Found       *socketFound       `json:"found,omitempty"`       // the answer to Find
	PartOf      *partRequest       `json:"partOf,omitempty"`      // one node answers with Part
	Part        *partAnswer        `json:"part,omitempty"`        // events that a client has missed
	LogOf       *logRequest        `json:"logOf,omitempty"`       // one node answers with LogPage, or stops doing so
	LogPage     *logPage           `json:"logPage,omitempty"`     // events that the sender keeps
	Kept        *ClusterMessage    `json:"kept,omitempty"`        // an event for sockets of the sender alone: nodes keep it for clients that come to them
	// Replaced is the id of a login session that was replaced: each node closes its sockets
	// that are still in it after Timeouts.RefreshGrace. ReplacedBy is the new one, if it is known.
	Replaced   string `json:"replaced,omitempty"`
	ReplacedBy string `json:"replacedBy,omitempty"`
	// Carried is a login session that was replaced: each node carries its sockets in the message's
	// namespace over to the new one.
	Carried *carriedSession `json:"carried,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (s NodeState) MarshalJSON() ([]byte, error) { return json.Marshal(s.content) } //nolint:musttag // a kept ClusterMessage has Go's names, and only Go reads it

// UnmarshalJSON implements json.Unmarshaler.
func (s *NodeState) UnmarshalJSON(data []byte) error {
	var content stateContent
	if err := json.Unmarshal(data, &content); err != nil { //nolint:musttag // as above
		return fmt.Errorf("realtime: node state: %w", err)
	}
	s.content = content
	return nil
}

// subjectOf returns the name of the first field that is set, or an empty text.
func subjectOf(s *NodeState) string {
	if s == nil {
		return ""
	}
	content := reflect.ValueOf(s.content)
	for i := range content.NumField() {
		if !content.Field(i).IsZero() {
			name, _, _ := strings.Cut(content.Type().Field(i).Tag.Get("json"), ",")
			return name
		}
	}
	return ""
}

// shareState sends a state to the other nodes. A state that moves sockets is sent in the
// namespace of these sockets. The adapter keeps the order within a namespace, so on every node
// sockets join and leave a room in the same order with the emits to that room as here.
func (rt *Server) shareState(namespace string, content stateContent) {
	_ = rt.clusterPublish(ClusterMessage{Op: OpState, Namespace: namespace, State: &NodeState{content}}) // logged
}

// applyState applies a state from another node, and reports whether it is valid. It is
// called in the order of all messages about the namespace. from is the id of the Peer that
// sent it, or empty.
func (ns *Namespace) applyState(state *NodeState, from string) bool {
	if state == nil {
		return false
	}
	p, s := ns.rt.publisher, &state.content
	switch {
	case s.Trip != nil:
		return p.applyEvent(ns.name, *s.Trip)
	case s.Known != nil:
		return p.applyTripState(ns.name, *s.Known, s.Last)
	case s.Trips != nil:
		return p.exchange.applyStates(ns.name, s.Trips, s.Last)
	case s.Compare != nil:
		return p.exchange.applyPage(*s.Compare)
	case s.TripsOf != "":
		p.positions.answer(s.TripsOf)
	case s.Disconnects != nil:
		return ns.rt.peerUsers.disconnects.apply(ns, from, s.Disconnects)
	case s.Users != nil:
		return ns.rt.peerUsers.apply(ns, from, s.Users)
	case s.UsersOf != nil:
		return ns.rt.peerUsers.answer(ns, s.UsersOf)
	case s.Rooms != nil:
		return ns.rt.peerRooms.apply(from, s.Rooms)
	case s.RoomsOf != nil:
		return ns.rt.peerRooms.asksFor(s.RoomsOf)
	case s.Offer != nil:
		return ns.rt.offers.apply(ns, from, s.Offer)
	case s.Tracked != nil:
		return ns.rt.tracking.apply(ns, s.Tracked)
	case s.TrackedBy != nil:
		return ns.rt.tracking.applyReceipt(s.TrackedBy)
	case s.OffersOf:
		ns.rt.offers.shareAll()
	case s.Sockets != nil:
		return ns.rt.peerSockets.apply(ns, from, s.Sockets)
	case s.SocketsOf:
		ns.rt.peerSockets.shareAll()
	case s.Claim != nil:
		return ns.rt.peerSockets.claimed(ns, s.Claim)
	case s.Claimed != nil:
		return ns.rt.peerSockets.claims.answered(s.Claimed.Claim, s.Claimed)
	case s.Find != nil:
		return ns.rt.peerSockets.finding(ns, s.Find)
	case s.Found != nil:
		return ns.rt.peerSockets.finds.answered(s.Found.Find, s.Found)
	case s.PartOf != nil:
		return ns.rt.peerSockets.partOf(ns, s.PartOf)
	case s.Part != nil:
		return ns.rt.peerSockets.parts.answered(s.Part.Part, s.Part)
	case s.LogOf != nil:
		return ns.rt.peerSockets.logOf(ns, from, s.LogOf)
	case s.LogPage != nil:
		return ns.rt.peerSockets.logs.answered(s.LogPage.Log, s.LogPage)
	case s.Kept != nil:
		return ns.keep(s.Kept)
	case validID(s.Replaced):
		if validID(s.ReplacedBy) {
			ns.rt.recovery.replace(s.Replaced, s.ReplacedBy)
		}
		ns.rt.replaced.expireHereLater(s.Replaced)
	case s.Carried != nil && s.Carried.valid():
		ns.rt.recovery.replace(s.Carried.Old, s.Carried.New)
		ns.rt.replaced.carryHere(ns, *s.Carried)
	default:
		return false
	}
	return true
}
