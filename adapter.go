// Adapter: how several nodes act as one. What a node does to its own sockets it
// does itself, first; the adapter carries it to the others.

package realtime

import (
	"context"
	"encoding/json"
)

// Adapter connects a node to the other nodes of its cluster. Server applies
// every operation locally before it calls the adapter, so an adapter never
// delivers a node's own messages back to it. realtimetest.TestAdapter is what
// every adapter passes.
//
// Order is kept for messages from one node to another about one namespace. A
// message may be lost when a node is cut off (pub/sub) or arrive later (a log);
// an adapter that reads from a log sets ClusterMessage.Offset.
//
// All methods may be called concurrently. An adapter that implements
// RoomWatcher is told which rooms exist on its node.
type Adapter interface {
	// Start begins receiving: from now on node is called. It is called once.
	Start(ctx context.Context, node Node) error
	// Publish hands a message to all other nodes. It must not wait for the
	// network: the caller is on a hot path. An error is logged by the caller.
	Publish(ctx context.Context, m ClusterMessage) error
	// Request hands OpFetchSockets or OpAsk to all other nodes and calls answer
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
	OpDisconnect   ClusterOp = "disconnect"    // end the selected sockets, their transport too with Close; for every node, whichever rooms it has: it refuses pending handshakes too
	OpServerEmit   ClusterOp = "server_emit"   // hand Event to the nodes' own listeners
	OpFetchSockets ClusterOp = "fetch_sockets" // a request: describe the selected sockets
	OpAsk          ClusterOp = "ask"           // a request: emit Event with ack to the selected sockets
)

// ClusterMessage is one operation, for the sockets of a namespace that are in
// any of Rooms (all, when there are none) but in none of Except. A room may
// also be a socket's id.
type ClusterMessage struct {
	Op        ClusterOp `json:"op"`
	Namespace string    `json:"nsp"`
	Rooms     []string  `json:"rooms,omitempty"`
	Except    []string  `json:"except,omitempty"`

	Event    *Raw     `json:"event,omitempty"`    // the event's name, as first argument, and its arguments
	Volatile bool     `json:"volatile,omitempty"` // drop it for sockets that are not writable
	Key      string   `json:"key,omitempty"`      // replace an unsent one of this key there
	Targets  []string `json:"targets,omitempty"`
	Close    bool     `json:"close,omitempty"`

	// Offset is the message's place in the adapter's log, if it keeps one.
	Offset string `json:"-"`
}

// ClusterAnswer is one answer to a request: a socket, or a client's ack.
type ClusterAnswer struct {
	Socket *RemoteSocket `json:"socket,omitempty"`
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
	Rooms     []string `json:"rooms"`
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

// eventArgs is the arguments of an event behind its name.
func eventArgs(e *Raw) (name string, args [][]byte, ok bool) {
	if e == nil || len(e.Args) == 0 || json.Unmarshal(e.Args[0], &name) != nil {
		return "", nil, false
	}
	for _, a := range e.Args[1:] {
		args = append(args, a)
	}
	return name, args, true
}
