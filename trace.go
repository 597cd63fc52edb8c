// Trace: what a host's metrics and tracing hang on, in the manner of
// net/http/httptrace.

package realtime

import "time"

// Trace is a set of functions called at certain moments; any of them may be nil. They
// are called one at a time, in the order of what happened, on a goroutine of their
// own, so that they can neither hold up the server nor end it. When they do not keep
// up calls are dropped, which is logged.
type Trace struct {
	// Connected is called when a socket has passed the handshake.
	Connected func(namespace string, took time.Duration)
	// Refused is called when a handshake did not pass.
	Refused func(namespace string, code Code)
	// Disconnected is called when a connected socket is gone. Reason is one of
	// the reference implementation's, such as "transport close", or "slow
	// consumer".
	Disconnected func(namespace, reason string)
	// Handled is called when an inbound event was handled. Code is empty on
	// success. An event that has no handler is not named: its name is the
	// client's invention.
	Handled func(namespace, event string, took time.Duration, code Code)
	// Limited is called when a limit refused something. Which is the name of the
	// field of Options.Limits, or of Options.Rates behind "Rates."; it is "Outbox"
	// for a slow consumer, "Namespace" for a namespace's name that is too long,
	// "AllowedOrigins" for a page that may not connect.
	Limited func(which string)
	// Delivered is called when a domain event of the bus was emitted, with the
	// time since it was published.
	Delivered func(event string, age time.Duration)
	// Unknown is called when the bus delivered an event of a name that is neither the
	// library's nor in Options.Events. It is ignored.
	Unknown func(event string)
	// Outdated is called when a domain event of a trip was not emitted because
	// something newer is known: the trip is over, or another driver was assigned
	// later.
	Outdated func(event string)
	// Unaddressed is called when a domain event of a trip did not reach one of the
	// people whom it must reach, because nothing has said who that is. Who is
	// "passenger" or "driver".
	Unaddressed func(event, who string)
	// ClusterDropped is called when a message of another node was dropped, because this
	// one does not understand it.
	ClusterDropped func(ClusterDropped)
}

// ClusterDropped is a message of another node that was dropped.
type ClusterDropped struct {
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

func (rt *Server) limited(which string) {
	if f := rt.opts.Trace.Limited; f != nil {
		rt.host.trace.Add(func() { f(which) })
	}
}

func (rt *Server) traceConnected(namespace string, took time.Duration) {
	if f := rt.opts.Trace.Connected; f != nil {
		rt.host.trace.Add(func() { f(namespace, took) })
	}
}

func (rt *Server) traceRefused(namespace string, code Code) {
	if f := rt.opts.Trace.Refused; f != nil {
		rt.host.trace.Add(func() { f(namespace, code) })
	}
}

func (rt *Server) traceDisconnected(namespace, reason string) {
	if f := rt.opts.Trace.Disconnected; f != nil {
		rt.host.trace.Add(func() { f(namespace, reason) })
	}
}

func (rt *Server) traceHandled(namespace, event string, took time.Duration, code Code) {
	if f := rt.opts.Trace.Handled; f != nil {
		rt.host.trace.Add(func() { f(namespace, event, took, code) })
	}
}

func (rt *Server) traceUnknown(event string) {
	if f := rt.opts.Trace.Unknown; f != nil {
		rt.host.trace.Add(func() { f(event) })
	}
}

func (rt *Server) traceDelivered(event string, age time.Duration) {
	if f := rt.opts.Trace.Delivered; f != nil {
		rt.host.trace.Add(func() { f(event, age) })
	}
}

func (rt *Server) traceOutdated(event string) {
	if f := rt.opts.Trace.Outdated; f != nil {
		rt.host.trace.Add(func() { f(event) })
	}
}

func (rt *Server) traceUnaddressed(event, who string) {
	if f := rt.opts.Trace.Unaddressed; f != nil {
		rt.host.trace.Add(func() { f(event, who) })
	}
}

func (rt *Server) traceClusterDropped(d ClusterDropped) {
	if f := rt.opts.Trace.ClusterDropped; f != nil {
		rt.host.trace.Add(func() { f(d) })
	}
}

// reached is limited for the layers below, whose names it translates.
func (rt *Server) reached(which string) {
	switch which {
	case "Payload":
		which = "MaxPayload"
	case "Packets":
		which = "PacketsPerBody"
	}
	rt.limited(which)
}
