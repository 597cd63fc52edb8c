// Trace: what a host's metrics and tracing hang on, in the manner of
// net/http/httptrace.

package realtime

import (
	"context"
	"net/netip"
	"time"
)

// Trace is a set of functions, each of which is called after something has happened,
// with what is known about it; any of them may be nil, and costs nothing then. They
// observe: to change or refuse a call, or to have a span around it, use an interceptor.
//
// The functions are called one at a time, in the order of what happened, on a goroutine
// of their own: none of them can hold up the server, or end it by a panic. Shutdown
// waits for those that are due. At most 65,536 calls wait; further ones are not made.
// A call that has not returned after a second or two is abandoned, and the next one is
// made beside it; when 16 calls are abandoned none is made until one of them returns.
// Calls that were not made are logged and told to TraceDropped.
//
// Each ctx has the values of the context of what happened, as the comment of the
// function says, but neither its deadline nor its cancellation. For what happened to a
// connection or a socket it has those that the connection came with. An info may get
// more fields; a Time is when something began, so that a span can be made of it.
type Trace struct {
	// RequestFailed is called when an HTTP request was refused or its websocket did not
	// come about. The ctx is the request's.
	RequestFailed func(ctx context.Context, i RequestFailedInfo)
	// Connected is called when a socket has passed the handshake.
	Connected func(ctx context.Context, i ConnectedInfo)
	// Refused is called when a CONNECT did not pass.
	Refused func(ctx context.Context, i RefusedInfo)
	// Disconnected is called when a connected socket has ended.
	Disconnected func(ctx context.Context, i DisconnectedInfo)
	// Handled is called when an inbound event has been answered: by its handler, or in
	// its place.
	Handled func(ctx context.Context, i HandledInfo)
	// Abandoned is called when a handler, or a function of OnConnect or OnDisconnect, has
	// not returned in time and is waited for no longer. It may still run. Handled is
	// called for the event too.
	Abandoned func(ctx context.Context, i AbandonedInfo)
	// Emitted is called once for each emission of an event to a socket or a broadcast,
	// when it has been queued for its receivers, on each node for its own sockets, and not
	// where it has none. The ctx of an emission to a broadcast has no values.
	Emitted func(ctx context.Context, i EmittedInfo)
	// Limited is called when a limit has refused or ended something.
	Limited func(ctx context.Context, i LimitInfo)

	// Delivered is called when a domain event of the bus was emitted to all of its
	// audience. The ctx is the bus's: on a MemoryBus that of Publish.
	Delivered func(ctx context.Context, i DeliveredInfo)
	// Unknown is called when the bus delivered an event of a name that is neither the
	// library's nor in Options.Events. It is ignored.
	Unknown func(ctx context.Context, i UnknownInfo)
	// Outdated is called when a domain event of a trip was not emitted, or to admins
	// only, because something newer is known: the trip is over, or its driver has left
	// it, or another one was assigned later.
	Outdated func(ctx context.Context, i OutdatedInfo)
	// Unaddressed is called when a domain event of a trip did not reach one of the
	// people whom it must reach, because nothing has said who that is.
	Unaddressed func(ctx context.Context, i UnaddressedInfo)

	// ClusterDropped is called when a message of another node was dropped, because this
	// one does not understand it.
	ClusterDropped func(ctx context.Context, i ClusterDroppedInfo)

	// TraceDropped is called when calls of the functions above were not made, as soon
	// as there is room for it.
	TraceDropped func(ctx context.Context, i TraceDroppedInfo)
}

// SocketInfo says which socket a call of Trace is about.
type SocketInfo struct {
	Namespace string
	SocketID  string
	UserID    string    // empty when it is not known, and in an anonymous namespace
	Transport Transport // when it happened: clients upgrade
	// RemoteAddr is the client's address, as Socket.RemoteAddr returns it.
	RemoteAddr netip.Addr
}

// ConnectedInfo is about a handshake that passed.
type ConnectedInfo struct {
	SocketInfo
	Time     time.Time     // when the CONNECT arrived
	Duration time.Duration // until the socket's hello was sent
}

// RefusedInfo is about a CONNECT that did not pass. One for a namespace that is not
// there has CodeNotFound, one beyond Limits.Namespaces CodeRateLimited, neither of them
// a socket or a namespace: its name is the client's invention.
type RefusedInfo struct {
	SocketInfo
	Time     time.Time     // when the CONNECT arrived
	Duration time.Duration // until it was decided
	Code     Code
}

// DisconnectedInfo is about a socket that has ended.
type DisconnectedInfo struct {
	SocketInfo
	Reason DisconnectReason
}

// HandledInfo is about an inbound event that has been answered.
type HandledInfo struct {
	SocketInfo
	// Event is empty when the event has no handler: its name is the client's invention.
	Event    string
	Time     time.Time     // when its turn came
	Duration time.Duration // until it was answered
	Code     Code          // what the client was told; empty on success
	Bytes    int           // of its arguments and attachments; 0 when its handler was abandoned
	AckBytes int           // likewise, of the ack; 0 when the client asked for none
}

// AbandonedInfo is about a call of the host's code that does not return.
type AbandonedInfo struct {
	SocketInfo
	Event    string        // "connect" for OnConnect, "disconnect" for OnDisconnect
	Duration time.Duration // since it was called
}

// EmittedInfo is about an emission. For a broadcast it has a namespace and no socket.
type EmittedInfo struct {
	SocketInfo
	Event string
	// Receivers are the sockets of this node that it was queued for. Those where a
	// volatile event was dropped, or replaced an older one, count.
	Receivers int
	Bytes     int // of its packets, once for all receivers
}

// DomainInfo says which domain event a call of Trace is about.
type DomainInfo struct {
	Event string // its name
	ID    string // the eventId that clients receive
	Key   string // those of one key are in order
}

// DeliveredInfo is about a domain event that was emitted.
type DeliveredInfo struct {
	DomainInfo
	Age time.Duration // since it was published
}

// UnknownInfo is about an event that nobody declared.
type UnknownInfo struct{ DomainInfo }

// OutdatedInfo is about a domain event that was not emitted.
type OutdatedInfo struct {
	DomainInfo
	TripID string
}

// UnaddressedInfo is about somebody whom a domain event did not reach.
type UnaddressedInfo struct {
	DomainInfo
	TripID string
	Who    string // "passenger" or "driver"
}

// ClusterDroppedInfo is about a message of another node that was dropped.
type ClusterDroppedInfo struct {
	Op        ClusterOp
	Version   int
	Namespace string
	Reason    DropReason
}

// DropReason says why a message of another node was dropped.
type DropReason string

// The reasons to drop a message of another node.
const (
	DropVersion          DropReason = "version"           // its version is not ClusterVersion
	DropUnknownOp        DropReason = "unknown op"        // a message or request of an unknown Op
	DropUnknownNamespace DropReason = "unknown namespace" // this node has no such namespace
	DropMalformed        DropReason = "malformed"         // it lacks what its Op needs
)

// TraceDroppedInfo is about calls of Trace that were not made.
type TraceDroppedInfo struct {
	Calls int // since TraceDropped was called last
}
