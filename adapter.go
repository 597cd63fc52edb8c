// Adapter: the interfaces between a server and its adapter, which connects the nodes of a
// cluster, and the messages that it carries. Types only: cluster.go and broadcast.go use them.

package realtime

import (
	"context"
	"time"
)

// Adapter connects a node to the other nodes of its cluster. Server applies
// every operation locally before it calls the adapter, so an adapter never
// delivers a node's own messages back to it. realtimetest.TestAdapter is the test suite
// for adapters.
//
// An adapter carries each ClusterMessage as a whole to every other node, whatever its Op
// and Namespace; a node drops a message that it does not understand. There are two
// exceptions. An adapter may leave out After and Limit of a request, which only save work.
// It need not deliver an OpBroadcast to a node that has none of the message's Rooms, if
// All is not set. It must deliver every other Op: OpRevoke and OpDisconnect also apply to
// handshakes, which are in no room yet, and OpState is for every node.
//
// If some of the nodes belong to another system, the adapter sends them the operations
// that they know. It never sends them OpState, which is only for nodes of this library. It
// sets Version to ClusterVersion in messages from them.
//
// An adapter keeps the order of messages from one node to another about one namespace,
// whatever their Op and Rooms. While a node is disconnected from the cluster, messages to
// it may be lost (pub/sub) or arrive later (a log).
//
// All methods may be called concurrently. If an adapter implements RoomWatcher, the server
// calls it when a room begins or ends on its node. If it implements AdapterChecker,
// Server.Check calls it, and if it implements AdapterReporter, Server.Stats does. If it implements DirectPublisher, an emit costs less.
// With a CatchUpAdapter a trip keeps its order on a node that was stopped. With a Claimer clients recover on all nodes, and with a CallKeeper an event with an idempotencyKey is handled once on all of them.
type Adapter interface {
	// Start begins receiving: from now on the adapter calls node. A further call returns an error and
	// changes nothing: two servers were given one adapter. If Start returns an error, it has released
	// what it had taken, and the server does not call Close.
	Start(ctx context.Context, node Node) error
	// Publish hands a message to all other nodes. It must not wait for the
	// network: the caller is on a hot path. The server logs an error and does not publish the
	// message again. The adapter must not change the slices of m: the server still uses them.
	Publish(ctx context.Context, m ClusterMessage) error
	// Request hands OpFetchSockets, OpCount, OpAsk or OpServerAsk to all other nodes and calls answer
	// for each answer, one at a time. It returns when all have answered, or
	// with an error when ctx ends or a node is known not to answer. If a node that OpServerAsk has
	// reached leaves without an answer, Request returns an error that names it; what a node that
	// leaves does not answer to the others is left out.
	Request(ctx context.Context, m ClusterMessage, answer func(ClusterAnswer)) error
	// Close stops receiving and releases the resources of Start. The ctx of each Node.Answer ends,
	// at once or a moment later, and the node's answer to OpServerAsk, null then, still reaches the
	// node that waits for it. Close is idempotent.
	Close(ctx context.Context) error
}

// DirectPublisher is implemented by adapters whose Publish always returns at once, whatever the
// network does: it encodes the message and queues it. The server calls their Publish on the
// goroutine that emits. It calls that of other adapters on a goroutine of its own, and waits at most
// a few seconds for it. A type that embeds such an adapter is one too, also with a Publish of its own.
type DirectPublisher interface {
	Adapter
	// PublishesDirectly is never called.
	PublishesDirectly()
}

// RoomWatcher is implemented by adapters that subscribe to rooms one by one.
type RoomWatcher interface {
	// RoomChanged says that a room may have begun or ended on this node. Node.HasRoom
	// reports whether it exists. RoomChanged must not block. If too many earlier calls have
	// not returned, the server calls it later, once for all earlier changes of the room.
	RoomChanged(namespace, room string)
}

// Claimer is implemented by adapters with which the clients of Options.Recovery come back to any
// node. Such an adapter delivers each OpBroadcast to a node for which Node.HasRoom reports any of its
// Rooms, whether RoomChanged was called or not, and carries Mark.
type Claimer interface {
	// Claim reports whether this call is the first one with that key in the cluster. The key is
	// forgotten after d, or by Unclaim. Claim may block, within ctx.
	Claim(ctx context.Context, key string, d time.Duration) (first bool, err error)
	// Unclaim forgets a key. It may block, within ctx.
	Unclaim(ctx context.Context, key string) error
}

// CatchUpAdapter is implemented by adapters that know when their node has handled what other nodes have
// sent. A node that was stopped for a while, or is busy, then handles no events of a trip that another
// node had before what that one has emitted (HandoverBus).
type CatchUpAdapter interface {
	Adapter
	// CatchUp returns when everything that other nodes have sent before this call was delivered to the node.
	// If the node is disconnected from the cluster, it waits until it is connected again. It returns an error
	// when ctx ends.
	CatchUp(ctx context.Context) error
}

// CallKeeper is implemented by adapters with which an event that has an idempotencyKey is handled once in
// the cluster, and not once on each node. They keep a value for a key, which every node sees: that a node
// handles the event, and later the ack. A key has 43 letters, digits, - and _, and says nothing of the user. A
// value has at most 8 KiB. The server does not use a slice that it gives or gets again. Every method may block,
// within ctx; the client waits for ClaimCall, FindCall and ForgetCall.
type CallKeeper interface {
	// ClaimCall stores a value for a key, for d, and returns nil if the key had none. Otherwise it changes
	// nothing and returns the value of the key. Of several nodes one stores its value.
	ClaimCall(ctx context.Context, key string, value []byte, d time.Duration) (held []byte, err error)
	// FindCall returns the value of a key, or nil if it has none.
	FindCall(ctx context.Context, key string) (value []byte, err error)
	// KeepCall stores a value for a key, for d, whether the key had one or not.
	KeepCall(ctx context.Context, key string, value []byte, d time.Duration) error
	// ForgetCall removes the value of a key.
	ForgetCall(ctx context.Context, key string) error
}

// Node is the server of this node, as an adapter uses it. Its methods may be
// called concurrently; the order of Deliver calls is the order of delivery.
type Node interface {
	// Deliver applies a message from another node. It does not block.
	Deliver(m ClusterMessage)
	// Answer handles a request from another node and calls answer for each answer, one at a
	// time. It blocks until it has called answer for all of them, or until ctx ends.
	Answer(ctx context.Context, m ClusterMessage, answer func(ClusterAnswer))
	// HasRoom reports whether a room has a socket on this node, or events to it are kept for
	// Options.Recovery. With a Claimer the latter is so for every room.
	HasRoom(namespace, room string) bool

	// The methods below report changes of the cluster. An adapter that cannot detect a change
	// does not call its method. They do not block.

	// Receiving reports with an error that the adapter no longer receives messages from the
	// other nodes, and with nil that it receives them again. Repeated reports are ignored.
	Receiving(err error)
	// Gap reports that messages from other nodes may have been lost. The adapter calls it
	// once messages arrive again. The node then compares its state with that of the other
	// nodes and of the host's repositories.
	Gap(g Gap)
	// PeerJoined reports another node. It is called again if the node was lost and is found
	// again. An adapter that calls it must also call PeerLost and set ClusterMessage.From.
	PeerJoined(p Peer)
	// PeerLost reports that another node has left or, with died, that it no longer answers.
	PeerLost(p Peer, died bool)
	// OnlyPeers reports with true that every node that receives messages of this one is a Peer
	// that PeerJoined has reported, and with false that there may be others, such as those of
	// another system. The node then publishes events that may be lost, drivers' positions and
	// volatile broadcasts, only if a peer has announced one of their rooms. Before the first call
	// there may be others.
	OnlyPeers(only bool)
}

// Gap is a period in which messages from other nodes may have been lost.
type Gap struct {
	Since, Until time.Time
	// Peer is the id of the node whose messages may have been lost; empty means all nodes.
	Peer string
	// Reason says why, for the log.
	Reason string
}

// Peer is another node of the cluster.
type Peer struct {
	ID   string // new with each start of the node
	Name string // for the log, such as a host name; may be empty
}

// String returns the name, if it is not empty, and the id.
func (p Peer) String() string {
	if p.Name == "" {
		return p.ID
	}
	return p.Name + " (" + p.ID + ")"
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
	OpState        ClusterOp = "state"         // apply State: for every node of this library; clients and OnServerEmit listeners do not receive it
	OpServerEmit   ClusterOp = "server_emit"   // hand Event to the host's listeners
	OpFetchSockets ClusterOp = "fetch_sockets" // a request: describe the selected sockets, or with Limit the first of them after After
	OpCount        ClusterOp = "count"         // a request: how many sockets are selected
	OpAsk          ClusterOp = "ask"           // a request: emit Event with ack to the selected sockets
	OpServerAsk    ClusterOp = "server_ask"    // a request: hand Event to the host's listeners and its OnServerAsk handler, which answers
)

// ClusterVersion is the version of the messages that this server sends, and the only
// one that it understands.
const ClusterVersion = 1

// ClusterMessage is one operation. It selects the sockets of a namespace that are in any
// of Rooms, or every socket if All is set, except those that are in any of Except. Without
// All and Rooms it selects no socket. An entry of Rooms or Except is the name of a Room or
// a socket's id.
type ClusterMessage struct {
	// Version is ClusterVersion. A node drops messages with another version or an unknown
	// Op, and reports them to Trace.
	Version   int       `json:"v"`
	Op        ClusterOp `json:"op"`
	Namespace string    `json:"nsp"`
	// From is the id of the Peer that sent an OpState message. The adapter of the receiver
	// sets it if it calls Node.PeerJoined. It is not encoded.
	From string `json:"-"`

	All    bool     `json:"all,omitempty"`
	Rooms  []string `json:"rooms,omitempty"`
	Except []string `json:"except,omitempty"`

	Event    *Raw        `json:"event,omitempty"`    // the event's name, as first argument, and its arguments
	Volatile bool        `json:"volatile,omitempty"` // drop it for sockets that are not writable
	Key      string      `json:"key,omitempty"`      // for such sockets, replace an unsent event with this key
	Mark     string      `json:"mark,omitempty"`     // which event of its node it is, for Options.Recovery: opaque, of at most 24 letters
	Targets  []string    `json:"targets,omitempty"`
	Close    bool        `json:"close,omitempty"`
	Revoke   *Revocation `json:"revoke,omitempty"`
	State    *NodeState  `json:"state,omitempty"`
	After    string      `json:"after,omitempty"` // a socket's id: only those whose ids are greater
	Limit    int         `json:"limit,omitempty"` // the maximum number of sockets, those with the lowest ids; 0: all
}

// Revocation names the user or the login session whose access has ended.
type Revocation struct {
	UserID    string `json:"userId,omitempty"`
	SessionID string `json:"sid,omitempty"`
}

// ClusterAnswer is one answer to a request: a socket, a number of them, a client's ack, or a
// node's reply.
type ClusterAnswer struct {
	Socket *RemoteSocket `json:"socket,omitempty"`
	// Count is a node's answer to OpCount.
	Count int `json:"count,omitempty"`
	// Ack is a client's answer to OpAsk. It is nil in the answer that has Asked.
	Ack *Raw `json:"ack,omitempty"`
	// Asked is the number of sockets that a node has selected for OpAsk. The node sends this
	// answer first, then the acks; one is missing for each socket that does not answer.
	Asked int `json:"asked,omitempty"`
	// Reply is a node's answer to OpServerAsk, one argument. An adapter may leave it out for a node
	// of another system that does not answer.
	Reply *Raw `json:"reply,omitempty"`
}

// RemoteSocket describes a socket on any node. It carries no token or header.
type RemoteSocket struct {
	ID        string   `json:"id"`
	Namespace string   `json:"nsp"`
	Identity  Identity `json:"identity"`
	Rooms     []Room   `json:"rooms"`
	// Connecting says that the handshake is in progress: the socket is in its rooms and
	// events for it are held, but it may still be refused.
	Connecting bool `json:"connecting,omitempty"`
	// ConnectedAt is when the handshake passed its checks, in microseconds since 1970 by
	// the clock of the socket's node. 0: unknown, as of a Node server's socket.
	ConnectedAt int64 `json:"connectedAt,omitempty"`
}

// noAdapter is the adapter of a server that has no other nodes.
type noAdapter struct{}

func (noAdapter) Start(context.Context, Node) error                                  { return nil }
func (noAdapter) Publish(context.Context, ClusterMessage) error                      { return nil }
func (noAdapter) Request(context.Context, ClusterMessage, func(ClusterAnswer)) error { return nil }
func (noAdapter) Close(context.Context) error                                        { return nil }
