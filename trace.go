// Trace: the functions and info structs with which a host collects metrics and traces, in
// the style of net/http/httptrace.

package realtime

import (
	"context"
	"net/netip"
	"time"
)

// Trace is a set of functions that the server calls after something has happened. A nil
// function costs nothing. The functions only observe: to change or refuse a call, or to
// put a span around it, use an Interceptor.
//
// The functions are called one at a time, in the order of what happened, on a goroutine of
// their own, so they cannot delay the server, and a panic cannot end it. Shutdown waits
// for the calls that are queued. The queue holds 65,536 calls; when it is full, further
// calls are dropped. A call that has not returned after one to two seconds is abandoned,
// and the next one runs concurrently with it. If 16 calls are abandoned and the next one
// does not return either, further calls are dropped until one of them returns. Dropped
// calls are logged and reported to TraceDropped.
//
// Each ctx has the values of the context that the function's comment names, but neither its
// deadline nor its cancellation. Where the comment names none, what happened concerns a
// socket or a connection, and the values are those of Options.ConnContext. Later versions
// may add fields to the info structs. A Time is when something began, as the start of a
// span.
type Trace struct {
	// RequestFailed is called when an HTTP request was refused, or its websocket or upgrade
	// failed. The ctx is the request's. It is also called when a connection was closed because
	// its client sent no CONNECT, or broke the protocol.
	RequestFailed func(ctx context.Context, i RequestFailedInfo)
	// Connected is called when a socket has connected: its handshake succeeded.
	Connected func(ctx context.Context, i ConnectedInfo)
	// Refused is called when a CONNECT was refused, or its handshake could not be decided.
	Refused func(ctx context.Context, i RefusedInfo)
	// Disconnected is called when a connected socket has disconnected.
	Disconnected func(ctx context.Context, i DisconnectedInfo)
	// Heartbeat is called when a client has answered a ping, about once per
	// Timeouts.PingInterval and connection. Clients with Compat.AllowEIO3 send the pings
	// themselves, so it is not called for them.
	Heartbeat func(ctx context.Context, i HeartbeatInfo)
	// Handled is called when an inbound event has been answered: by its handler, or by the
	// server if the event was refused or its handler was abandoned.
	Handled func(ctx context.Context, i HandledInfo)
	// Abandoned is called when the server stops waiting for a handler, or a function of
	// OnConnect or OnDisconnect, that has not returned in time. The function still runs.
	// For an event, Handled is called too.
	Abandoned func(ctx context.Context, i AbandonedInfo)
	// Emitted is called when an event has been queued for a socket, or for the sockets of a
	// broadcast on this node. It is called once for each emission, and not for one without
	// a receiver on this node. The ctx has no values for a broadcast.
	Emitted func(ctx context.Context, i EmittedInfo)
	// Limited is called when something was refused or closed because of a limit.
	Limited func(ctx context.Context, i LimitInfo)

	// Delivered is called when a domain event from the bus has been emitted to its
	// audiences. The ctx is the bus's: on a MemoryBus that of Publish.
	Delivered func(ctx context.Context, i DeliveredInfo)
	// Unknown is called when the server ignored an event from the bus because its name is
	// neither that of a library event nor in Options.Events. The ctx is the bus's.
	Unknown func(ctx context.Context, i UnknownInfo)
	// Outdated is called when a domain event of a trip was not emitted, or only to admins,
	// because the server knows something newer: the trip has ended, its driver has left,
	// or another driver was assigned later. The ctx is the bus's.
	Outdated func(ctx context.Context, i OutdatedInfo)
	// Unaddressed is called when a domain event of a trip was not emitted to the trip's
	// passenger or driver, because the server does not know who that is. The ctx is the
	// bus's.
	Unaddressed func(ctx context.Context, i UnaddressedInfo)

	// ClusterDropped is called when this node dropped a message of another node that it does
	// not understand. The ctx has no values.
	ClusterDropped func(ctx context.Context, i ClusterDroppedInfo)

	// AdapterChanged is called when the adapter has stopped receiving messages from the
	// other nodes, and when it receives them again. The ctx has no values.
	AdapterChanged func(ctx context.Context, i AdapterChangedInfo)
	// Gap is called when messages of other nodes may have been lost. The server repairs its
	// own state: trip rooms, revocations and presence; not while it shuts down. Lost events for
	// clients and for OnServerEmit are not sent again: a host that keeps state from ServerEmit
	// must load it again. The ctx has no values.
	Gap func(ctx context.Context, i GapInfo)
	// PeerJoined is called when another node was found. The ctx has no values.
	PeerJoined func(ctx context.Context, i PeerInfo)
	// PeerLost is called when another node has left or died. The ctx has no values.
	PeerLost func(ctx context.Context, i PeerLostInfo)

	// TraceDropped is called when calls of the functions above were dropped, as soon as the
	// queue has room for it. The ctx has no values.
	TraceDropped func(ctx context.Context, i TraceDroppedInfo)
}

// SocketInfo says which socket a call of Trace is about.
type SocketInfo struct {
	Namespace string
	SocketID  string
	UserID    string    // empty if unknown, and in an anonymous namespace
	Transport Transport // at that time: a client may upgrade it later
	// RemoteAddr is the client's address, as Socket.RemoteAddr returns it.
	RemoteAddr netip.Addr
}

// ConnectedInfo describes a handshake that succeeded.
type ConnectedInfo struct {
	SocketInfo
	Time     time.Time     // when the CONNECT arrived
	Duration time.Duration // until the socket's hello was sent
}

// RefusedInfo describes a CONNECT that was refused or could not be decided. Code is
// CodeNotFound for a namespace that does not exist, and CodeRateLimited for one beyond
// Limits.Namespaces; in both cases SocketID and Namespace are empty, because the client can
// invent any name.
type RefusedInfo struct {
	SocketInfo
	Time     time.Time     // when the CONNECT arrived
	Duration time.Duration // until the refusal
	Code     Code
}

// DisconnectedInfo describes a socket that has disconnected.
type DisconnectedInfo struct {
	SocketInfo
	Time     time.Time     // when it connected
	Duration time.Duration // for how long it was connected
	Reason   DisconnectReason
}

// HeartbeatInfo describes a ping that the client has answered. It concerns a connection: Namespace,
// SocketID and UserID are empty.
type HeartbeatInfo struct {
	SocketInfo
	// RoundTrip is the time from the ping to the client's pong. It includes the time that they
	// wait behind other messages, in both directions.
	RoundTrip time.Duration
}

// HandledInfo describes an inbound event that has been answered.
type HandledInfo struct {
	SocketInfo
	// Event is empty if the event has no handler, because the client can invent any name.
	Event    string
	Time     time.Time     // when the server began to handle it, after the socket's earlier events
	Duration time.Duration // until it was answered
	Code     Code          // the code of the ack; empty on success
	Bytes    int           // the size of its arguments and attachments; 0 if its handler was abandoned
	AckBytes int           // the size of the ack's arguments and attachments; 0 if the client asked for no ack
}

// AbandonedInfo describes an abandoned call of a handler or hook.
type AbandonedInfo struct {
	SocketInfo
	Event    string        // "connect" for OnConnect, "disconnect" for OnDisconnect
	Duration time.Duration // from the call until it was abandoned
}

// EmittedInfo describes an emission. For a broadcast, only Namespace is set in SocketInfo.
type EmittedInfo struct {
	SocketInfo
	Event string
	// Audience is what a broadcast selects, without what it leaves out (Except); empty for an
	// emission to one socket. Its text is that of AudienceInfo, also on the other nodes.
	Audience Audience
	// Receivers is the number of sockets of this node that the event was queued for. It
	// includes sockets for which a volatile event was dropped or an older one replaced.
	Receivers int
	Bytes     int // the size of its packets, which all receivers share
}

// DomainInfo says which domain event a call of Trace is about.
type DomainInfo struct {
	Event string // its name
	ID    string // the eventId that clients receive
	Key   string // events of one key are in order
}

// DeliveredInfo describes a domain event that was emitted.
type DeliveredInfo struct {
	DomainInfo
	Age      time.Duration // since it was published
	Time     time.Time     // when the server received it from the bus
	Duration time.Duration // from then until it was emitted, with the wait for PartyLookup
	// Audiences has the audiences in the order of the deliveries, also those in which nobody
	// was. The trips of a position that are found later are not among them.
	Audiences []AudienceInfo
}

// AudienceInfo says how many sockets a domain event was emitted to in one audience.
type AudienceInfo struct {
	Event    string // the name of the event that clients receive
	Audience string // as Audience.String returns it; audiences that overlap are one
	// Receivers is the number of sockets of this node, as in EmittedInfo.
	Receivers int
	// OtherNodes says that the event was also sent to the other nodes, whose Trace.Emitted
	// reports their receivers.
	OtherNodes bool
}

// UnknownInfo describes an event on the bus that is not declared.
type UnknownInfo struct{ DomainInfo }

// OutdatedInfo describes a domain event that was not emitted, or only to admins.
type OutdatedInfo struct {
	DomainInfo
	TripID string
}

// UnaddressedInfo describes a domain event that was not emitted to one of its receivers.
type UnaddressedInfo struct {
	DomainInfo
	TripID string
	Who    string // "passenger" or "driver"
}

// ClusterDroppedInfo describes a message of another node that was dropped.
type ClusterDroppedInfo struct {
	Op        ClusterOp
	Version   int
	Namespace string
	State     string // with OpState: what the state is of, such as "sockets" or "trip"; it may be empty
	Reason    DropReason
}

// DropReason says why a message of another node was dropped.
type DropReason string

// The reasons to drop a message of another node.
const (
	DropVersion          DropReason = "version"           // its version is not ClusterVersion
	DropUnknownOp        DropReason = "unknown op"        // its Op is unknown
	DropUnknownNamespace DropReason = "unknown namespace" // this node has no such namespace
	DropMalformed        DropReason = "malformed"         // a field that its Op needs is missing or invalid
	DropLimit            DropReason = "limit"             // a part of it: a socket is in as many rooms as other nodes may put it into
)

// AdapterChangedInfo describes a change of the adapter's connection to the other nodes.
type AdapterChangedInfo struct {
	Err      error         // why it receives no messages; nil if it receives them again
	Duration time.Duration // with a nil Err: how long it received none
}

// GapInfo describes a period in which messages of other nodes may have been lost.
type GapInfo struct{ Gap }

// PeerInfo describes another node.
type PeerInfo struct{ Peer }

// PeerLostInfo describes another node that has left or died.
type PeerLostInfo struct {
	Peer
	Died bool // it did not announce that it leaves
}

// TraceDroppedInfo counts dropped calls of Trace.
type TraceDroppedInfo struct {
	Calls int // since the last call of TraceDropped
}
