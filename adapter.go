// Adapter: how several nodes act as one. What a node does to its own sockets it
// does itself, first; the adapter carries it to the others.

package realtime

import "context"

// Adapter connects a node to the other nodes of its cluster. Server applies
// every operation locally before it calls the adapter, so an adapter never
// delivers a node's own messages back to it. realtimetest.TestAdapter is what
// every adapter passes.
//
// What it must carry is each ClusterMessage as a whole, to every other node, whatever
// its Op and Namespace: what a node does not understand is the node's to drop. After and
// Limit spare work; a node may be asked, and may answer, without them. It may spare a node an OpBroadcast, and nothing else, when All is not set and the node
// has none of Rooms: OpRevoke and OpDisconnect concern handshakes that are in no room
// yet, OpState concerns every node. Where some of the nodes are another system's, these
// get what they know of, and of OpState nothing: it is between this library's nodes. What
// comes from these is of ClusterVersion.
//
// Order is kept for messages from one node to another about one namespace, whatever
// their Op and Rooms. A message may be lost when a node is cut off (pub/sub) or arrive
// later (a log).
//
// All methods may be called concurrently. An adapter that implements
// RoomWatcher is told which rooms exist on its node.
type Adapter interface {
	// Start begins receiving: from now on node is called. It is called once.
	Start(ctx context.Context, node Node) error
	// Publish hands a message to all other nodes. It must not wait for the
	// network: the caller is on a hot path. An error is logged by the caller.
	Publish(ctx context.Context, m ClusterMessage) error
	// Request hands OpFetchSockets, OpCount or OpAsk to all other nodes and calls answer
	// for each answer, one at a time. It returns when all have answered, or
	// with an error when ctx ends or a node is known not to answer.
	Request(ctx context.Context, m ClusterMessage, answer func(ClusterAnswer)) error
	// Close stops receiving and gives up what Start took. It is idempotent.
	Close(ctx context.Context) error
}

// RoomWatcher is implemented by adapters that subscribe to rooms one by one.
type RoomWatcher interface {
	// RoomChanged says that a room may have begun or ceased to exist on this
	// node; Node.HasRoom tells which. It must not block.
	RoomChanged(namespace, room string)
}

// Node is what an adapter sees of the server it works for. Its methods may be
// called concurrently; the order of Deliver calls is the order of delivery.
type Node interface {
	// Deliver applies a message from another node. It does not block.
	Deliver(m ClusterMessage)
	// Answer applies a request from another node and calls answer for each
	// answer, one at a time. It blocks until all are given or ctx ends.
	Answer(ctx context.Context, m ClusterMessage, answer func(ClusterAnswer))
	// HasRoom reports whether a room has a socket on this node.
	HasRoom(namespace, room string) bool
}

// ClusterOp says what a ClusterMessage asks for.
type ClusterOp string

// The operations between nodes.
const (
	OpBroadcast    ClusterOp = "broadcast"     // emit Event to the selected sockets
	OpJoin         ClusterOp = "join"          // put the selected sockets into Targets
	OpLeave        ClusterOp = "leave"         // take the selected sockets out of Targets
	OpDisconnect   ClusterOp = "disconnect"    // end the selected sockets, with Close their connections
	OpRevoke       ClusterOp = "revoke"        // end the sockets of Revoke, refuse its handshakes, forget cached rows; Rooms has the room of those sockets, for nodes that know OpDisconnect only
	OpState        ClusterOp = "state"         // what a node has learnt, for every node of this library and nobody else: neither clients nor the host's listeners hear of it
	OpServerEmit   ClusterOp = "server_emit"   // hand Event to the host's listeners
	OpFetchSockets ClusterOp = "fetch_sockets" // a request: describe the selected sockets, or with Limit the first of them behind After
	OpCount        ClusterOp = "count"         // a request: how many sockets are selected
	OpAsk          ClusterOp = "ask"           // a request: emit Event with ack to the selected sockets
)

// ClusterVersion is the version of the messages that this server sends, and the only
// one that it understands.
const ClusterVersion = 1

// ClusterMessage is one operation, for the sockets of a namespace that are in any of
// Rooms, or with All for every one, but for none that is in any of Except. Without
// both it is for nobody. A name in Rooms or Except is a Room's or a socket's id.
type ClusterMessage struct {
	// Version is ClusterVersion. A node drops messages of another one, and such of an
	// unknown Op, and says so to Trace.
	Version   int       `json:"v"`
	Op        ClusterOp `json:"op"`
	Namespace string    `json:"nsp"`
	All       bool      `json:"all,omitempty"`
	Rooms     []string  `json:"rooms,omitempty"`
	Except    []string  `json:"except,omitempty"`

	Event    *Raw        `json:"event,omitempty"`    // the event's name, as first argument, and its arguments
	Volatile bool        `json:"volatile,omitempty"` // drop it for sockets that are not writable
	Key      string      `json:"key,omitempty"`      // replace an unsent one of this key there
	Targets  []string    `json:"targets,omitempty"`
	Close    bool        `json:"close,omitempty"`
	Revoke   *Revocation `json:"revoke,omitempty"`
	State    *NodeState  `json:"state,omitempty"`
	After    string      `json:"after,omitempty"` // a socket's id: only those whose ids are greater
	Limit    int         `json:"limit,omitempty"` // at most so many, the lowest ids; 0: all
}

// Revocation says whose rights have ended: one user's, or one login session's.
type Revocation struct {
	UserID    string `json:"userId,omitempty"`
	SessionID string `json:"sid,omitempty"`
}

// ClusterAnswer is one answer to a request: a socket, a number of them, or a client's
// ack.
type ClusterAnswer struct {
	Socket *RemoteSocket `json:"socket,omitempty"`
	// Count is a node's answer to OpCount.
	Count int `json:"count,omitempty"`
	// Ack is a client's answer to OpAsk; nil with Asked set.
	Ack *Raw `json:"ack,omitempty"`
	// Asked is how many sockets a node asked, told before their acks.
	Asked int `json:"asked,omitempty"`
}

// RemoteSocket describes a socket on any node. It carries no token or header.
type RemoteSocket struct {
	ID        string   `json:"id"`
	Namespace string   `json:"nsp"`
	Identity  Identity `json:"identity"`
	Rooms     []Room   `json:"rooms"`
	// Connecting says that the handshake is not over: the socket is in its rooms,
	// where what is sent to it waits, but may still be refused.
	Connecting bool `json:"connecting,omitempty"`
}

// alone is the adapter of a server that has no other nodes.
type alone struct{}

func (alone) Start(context.Context, Node) error                                  { return nil }
func (alone) Publish(context.Context, ClusterMessage) error                      { return nil }
func (alone) Request(context.Context, ClusterMessage, func(ClusterAnswer)) error { return nil }
func (alone) Close(context.Context) error                                        { return nil }
