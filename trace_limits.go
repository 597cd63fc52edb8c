// Trace limits: the names of all limits for Trace.Limited, and the calls of it.

package realtime

import (
	"net/http"

	"github.com/rodando/realtime/internal/admission"
	"github.com/rodando/realtime/internal/socketio"
)

// Limit names a limit. Its text is the name of the field of Options.Limits that sets it or,
// after "Rates.", of the field of Options.Rates, unless the constant's comment says
// otherwise.
type Limit string

// The limits.
const (
	LimitMaxPayload       Limit = "MaxPayload"
	LimitPacketsPerBody   Limit = "PacketsPerBody"
	LimitAttachments      Limit = "Attachments"
	LimitAttachmentBytes  Limit = "AttachmentBytes"
	LimitEventName        Limit = "EventName"
	LimitDepth            Limit = "Depth"
	LimitValues           Limit = "Values"
	LimitQueuedEvents     Limit = "QueuedEvents"
	LimitRoomsPerSocket   Limit = "RoomsPerSocket"
	LimitNamespaces       Limit = "Namespaces"
	LimitPendingAcks      Limit = "PendingAcks"
	LimitHandlers         Limit = "Handlers"
	LimitHandlersPerEvent Limit = "HandlersPerEvent"

	LimitConnections          Limit = "Connections"
	LimitConnectionsPerIP     Limit = "ConnectionsPerIP"
	LimitUnauthenticated      Limit = "Unauthenticated"
	LimitUnauthenticatedPerIP Limit = "UnauthenticatedPerIP"
	LimitSocketsPerUser       Limit = "SocketsPerUser"

	LimitRateLocation  Limit = "Rates.Location"
	LimitRateEvent     Limit = "Rates.Event"
	LimitRateEvents    Limit = "Rates.Events"
	LimitRateUser      Limit = "Rates.User"
	LimitRateBreach    Limit = "Rates.Breach"
	LimitRateConnect   Limit = "Rates.Connect"
	LimitRateHandshake Limit = "Rates.Handshake"

	LimitRateUnauthenticated Limit = "Rates.Unauthenticated"

	// LimitOutbox is the limit of a slow consumer: OutboxBytes, OutboxMessages or
	// Timeouts.Write.
	LimitOutbox Limit = "Outbox"
	// LimitNamespaceName is the maximum length of a namespace's name in a packet: 256 bytes.
	LimitNamespaceName Limit = "NamespaceName"
	// LimitIncomingBytes is the maximum size of the incomplete messages of all connections
	// together: 64 MiB, or eight times MaxPayload or AttachmentBytes if that is more. The connection with the
	// oldest incomplete message was closed.
	LimitIncomingBytes Limit = "IncomingBytes"
)

// LimitInfo describes a limit that was reached. Fields that do not apply are empty: a limit
// of a connection has no SocketID, and as UserID that of its oldest socket with a user.
type LimitInfo struct {
	SocketInfo
	Limit Limit
	Event string // the name of the event; empty if the event has no handler

	// For LimitOutbox: the unsent messages when the connection was closed.
	OutboxMessages int
	OutboxBytes    int
}

// protocolLimits maps the limits of package socketio to their names.
var protocolLimits = map[socketio.Limit]Limit{
	socketio.LimitPayload:         LimitMaxPayload,
	socketio.LimitPackets:         LimitPacketsPerBody,
	socketio.LimitIncomingBytes:   LimitIncomingBytes,
	socketio.LimitOutbox:          LimitOutbox,
	socketio.LimitNamespaces:      LimitNamespaces,
	socketio.LimitPendingAcks:     LimitPendingAcks,
	socketio.LimitQueuedEvents:    LimitQueuedEvents,
	socketio.LimitAttachments:     LimitAttachments,
	socketio.LimitAttachmentBytes: LimitAttachmentBytes,
	socketio.LimitDepth:           LimitDepth,
	socketio.LimitValues:          LimitValues,
	socketio.LimitEventName:       LimitEventName,
	socketio.LimitNamespaceName:   LimitNamespaceName,
}

// admissionLimits maps the limits of package admission to their names.
var admissionLimits = map[admission.Limit]Limit{
	admission.LimitConnections:          LimitConnections,
	admission.LimitConnectionsPerIP:     LimitConnectionsPerIP,
	admission.LimitUnauthenticated:      LimitUnauthenticated,
	admission.LimitUnauthenticatedPerIP: LimitUnauthenticatedPerIP,
	admission.LimitHandshake:            LimitRateHandshake,
	admission.LimitUnauthenticatedRate:  LimitRateUnauthenticated,
}

// exceeded is socketio's Config.Limited: a connection has reached a limit of package
// socketio. inner is the socket, or nil.
func (rt *Server) exceeded(c *socketio.Conn, inner *socketio.Socket, e socketio.Exceeded) {
	i := LimitInfo{Limit: protocolLimits[e.Limit], OutboxMessages: e.OutboxMessages, OutboxBytes: e.OutboxBytes}
	if inner != nil {
		if s, ok := socketOf(inner); ok {
			i.SocketInfo = s.traceInfo()
		}
	}
	rt.connLimited(c, i)
}

// connLimited logs a limit of a connection, and calls Trace.Limited.
func (rt *Server) connLimited(c *socketio.Conn, i LimitInfo) {
	if i.SocketID == "" {
		i.SocketInfo = connTraceInfo(c)
		for _, inner := range c.Sockets() {
			if s, ok := socketOf(inner); ok && i.UserID == "" {
				i.UserID = s.Identity().UserID
			}
		}
	}
	rt.logLimit(i)
	if f := rt.opts.Trace.Limited; f != nil {
		callTrace(rt, connTraceContext(c), f, i)
	}
}

// limited logs a limit of a socket, and calls Trace.Limited. event is the name of an event that
// has a handler, or empty.
func (s *Socket) limited(l Limit, event string) {
	i := LimitInfo{SocketInfo: s.traceInfo(), Limit: l, Event: event}
	s.ns.rt.logLimit(i)
	if f := s.ns.rt.opts.Trace.Limited; f != nil {
		callTrace(s.ns.rt, s.traceContext(), f, i)
	}
}

// requestLimited logs a limit that a request for a new connection has reached, and calls
// Trace.Limited.
func (rt *Server) requestLimited(r *http.Request, c *connState, l Limit) {
	i := LimitInfo{SocketInfo: SocketInfo{Transport: requestedTransport(r), RemoteAddr: c.Addr()}, Limit: l}
	rt.logLimit(i)
	if f := rt.opts.Trace.Limited; f != nil {
		callTrace(rt, r.Context(), f, i)
	}
}
