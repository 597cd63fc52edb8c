// Trace: what a host's metrics and tracing hang on, in the manner of
// net/http/httptrace.

package realtime

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/admission"
	"github.com/rodando/realtime/internal/socketio"
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
	// Limited is called when a limit has refused or ended something.
	Limited func(ctx context.Context, i LimitInfo)

	// Delivered is called when a domain event of the bus was emitted to all of its
	// audience. The ctx is the bus's: on a MemoryBus that of Publish.
	Delivered func(ctx context.Context, i DeliveredInfo)
	// Unknown is called when the bus delivered an event of a name that is neither the
	// library's nor in Options.Events. It is ignored.
	Unknown func(ctx context.Context, i UnknownInfo)
	// Outdated is called when a domain event of a trip was not emitted because
	// something newer is known: the trip is over, or another driver was assigned
	// later.
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
	Bytes    int           // of its arguments and attachments
	AckBytes int           // likewise, of the ack; 0 when the client asked for none
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

// tracing hands a call of a function of Trace, which is not nil, to the queue of those.
func tracing[Info any](rt *Server, ctx context.Context, f func(context.Context, Info), i Info) {
	if ctx.Done() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	rt.host.trace.Add(func() { f(ctx, i) })
}

// traceQueue is how many calls of the functions of Trace wait.
const traceQueue = 1 << 16

// droppedTrace is what TraceDropped has not been told yet.
type droppedTrace struct {
	mu     sync.Mutex // guards what follows
	calls  int
	failed bool // there was no room for the call of TraceDropped itself
}

// traceDropped tells the host how many calls of Trace were not made. The queue calls
// it again while there is no room for that.
func (rt *Server) traceDropped(calls int) {
	f := rt.opts.Trace.TraceDropped
	if f == nil {
		return
	}
	d := &rt.host.dropped
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls += calls
	if d.failed {
		d.calls-- // calls counts the call of TraceDropped too
	}
	i := TraceDroppedInfo{Calls: d.calls}
	d.failed = !rt.host.trace.Add(func() { f(context.Background(), i) })
	if !d.failed {
		d.calls = 0
	}
}

// traceContext is the context of what happens to a socket.
func (s *Socket) traceContext() context.Context { return s.conn().with(context.Background()) }

// connTraceContext is the context of what happens to a connection.
func connTraceContext(c *socketio.Conn) context.Context {
	return c.Data.(*connState).with(context.Background())
}

func connTraceInfo(c *socketio.Conn) SocketInfo {
	return SocketInfo{Transport: Transport(c.Transport()), RemoteAddr: c.Data.(*connState).Addr()}
}

func (s *Socket) traceInfo() SocketInfo {
	i := connTraceInfo(s.inner.Conn())
	i.Namespace, i.SocketID, i.UserID = s.ns.name, s.ID(), s.Identity().UserID
	return i
}

func (r *received) traceInfo() DomainInfo {
	return DomainInfo{Event: r.env.Name, ID: r.env.ID, Key: r.env.Key}
}

func (ns *Namespace) traceConnected(s *Socket, start time.Time) {
	if f := ns.rt.opts.Trace.Connected; f != nil {
		tracing(ns.rt, s.traceContext(), f, ConnectedInfo{SocketInfo: s.traceInfo(), Time: start, Duration: time.Since(start)})
	}
}

func (ns *Namespace) traceRefused(h *handshake, code Code) {
	f := ns.rt.opts.Trace.Refused
	if f == nil {
		return
	}
	i := h.s.traceInfo()
	i.UserID = ns.rt.pending.user(h)
	tracing(ns.rt, h.s.traceContext(), f, RefusedInfo{SocketInfo: i, Time: h.start, Duration: time.Since(h.start), Code: code})
}

// connectRefused is socketio's Config.Refused: a CONNECT that did not come to a
// handshake.
func (rt *Server) connectRefused(c *socketio.Conn, unknown bool) bool {
	if f := rt.opts.Trace.Refused; f != nil {
		code := CodeRateLimited
		if unknown {
			code = CodeNotFound
		}
		tracing(rt, connTraceContext(c), f, RefusedInfo{SocketInfo: connTraceInfo(c), Time: time.Now(), Code: code})
	}
	v := rt.admission.Charge(&c.Data.(*connState).Conn)
	if v != admission.Pass {
		rt.connLimited(c, LimitInfo{Limit: LimitRateConnect})
	}
	return v != admission.End
}

// traceHandled reports an event that has been answered.
func (s *Socket) traceHandled(event string, took time.Duration, code Code, bytes, ackBytes int) {
	if f := s.ns.rt.opts.Trace.Handled; f != nil {
		tracing(s.ns.rt, s.traceContext(), f, HandledInfo{
			SocketInfo: s.traceInfo(), Event: event, Time: time.Now().Add(-took), Duration: took, Code: code, Bytes: bytes, AckBytes: ackBytes,
		})
	}
}

// tracedBytes is the size of an event, 0 when no function of Trace wants to know.
func (rt *Server) tracedBytes(args, attachments [][]byte) (n int) {
	if rt.opts.Trace.Handled == nil {
		return 0
	}
	for _, b := range args {
		n += len(b)
	}
	for _, b := range attachments {
		n += len(b)
	}
	return n
}

func (ns *Namespace) traceDisconnected(s *Socket, reason DisconnectReason) {
	if f := ns.rt.opts.Trace.Disconnected; f != nil {
		tracing(ns.rt, s.traceContext(), f, DisconnectedInfo{SocketInfo: s.traceInfo(), Reason: reason})
	}
}

func (p *publisher) traceDelivered(r *received) {
	if f := p.rt.opts.Trace.Delivered; f != nil {
		tracing(p.rt, r.ctx, f, DeliveredInfo{DomainInfo: r.traceInfo(), Age: time.Since(r.env.At)})
	}
}
