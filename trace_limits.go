// The limits as Trace.Limited names them, those of the lower layers among them.

package realtime

import (
	"net/http"

	"github.com/rodando/realtime/internal/admission"
	"github.com/rodando/realtime/internal/socketio"
)

// Limit is the name of a limit: of the field of Options.Limits or, after "Rates.", of
// Options.Rates that sets it, unless the comment of the constant says otherwise.
type Limit string

// The limits.
const (
	LimitMaxPayload       Limit = "MaxPayload"
	LimitPacketsPerBody   Limit = "PacketsPerBody"
	LimitAttachments      Limit = "Attachments"
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

	// LimitOutbox is of a slow consumer: OutboxBytes, OutboxMessages, or Timeouts.Write.
	LimitOutbox Limit = "Outbox"
	// LimitNamespaceName is the longest name of a namespace in a packet, 256 bytes.
	LimitNamespaceName Limit = "NamespaceName"
	// LimitIncomingBytes is of the incomplete messages of all connections together, 64
	// MiB or eight times MaxPayload: a connection with an old one was closed.
	LimitIncomingBytes Limit = "IncomingBytes"
)

// LimitInfo is about a limit that has refused or ended something. What the limit is not
// about is empty: a limit of a connection has no socket.
type LimitInfo struct {
	SocketInfo
	Limit Limit
	Event string // for an event that has a handler

	// For LimitOutbox, what waited when the connection was ended.
	OutboxMessages int
	OutboxBytes    int
}

// protocolLimits names the limits of package socketio.
var protocolLimits = map[socketio.Limit]Limit{
	socketio.LimitPayload:       LimitMaxPayload,
	socketio.LimitPackets:       LimitPacketsPerBody,
	socketio.LimitIncomingBytes: LimitIncomingBytes,
	socketio.LimitOutbox:        LimitOutbox,
	socketio.LimitNamespaces:    LimitNamespaces,
	socketio.LimitPendingAcks:   LimitPendingAcks,
	socketio.LimitQueuedEvents:  LimitQueuedEvents,
	socketio.LimitAttachments:   LimitAttachments,
	socketio.LimitDepth:         LimitDepth,
	socketio.LimitValues:        LimitValues,
	socketio.LimitEventName:     LimitEventName,
	socketio.LimitNamespaceName: LimitNamespaceName,
}

// admissionLimits names the limits of package admission.
var admissionLimits = map[admission.Limit]Limit{
	admission.LimitConnections:          LimitConnections,
	admission.LimitConnectionsPerIP:     LimitConnectionsPerIP,
	admission.LimitUnauthenticated:      LimitUnauthenticated,
	admission.LimitUnauthenticatedPerIP: LimitUnauthenticatedPerIP,
	admission.LimitHandshake:            LimitRateHandshake,
}

// exceeded is socketio's Config.Limited.
func (rt *Server) exceeded(c *socketio.Conn, inner *socketio.Socket, e socketio.Exceeded) {
	i := LimitInfo{Limit: protocolLimits[e.Limit], OutboxMessages: e.OutboxMessages, OutboxBytes: e.OutboxBytes}
	if inner != nil {
		if s, ok := inner.Data.(*Socket); ok {
			i.SocketInfo = s.traceInfo()
		}
	}
	rt.connLimited(c, i)
}

// connLimited reports a limit of a connection.
func (rt *Server) connLimited(c *socketio.Conn, i LimitInfo) {
	if f := rt.opts.Trace.Limited; f != nil {
		if i.SocketID == "" {
			i.SocketInfo = connTraceInfo(c)
		}
		tracing(rt, connTraceContext(c), f, i)
	}
}

// limited reports a limit of a socket. event is empty unless it is about an event that
// has a handler.
func (s *Socket) limited(l Limit, event string) {
	if f := s.ns.rt.opts.Trace.Limited; f != nil {
		tracing(s.ns.rt, s.traceContext(), f, LimitInfo{SocketInfo: s.traceInfo(), Limit: l, Event: event})
	}
}

// requestLimited reports a limit that a request for a new connection has reached.
func (rt *Server) requestLimited(r *http.Request, c *connState, l Limit) {
	if f := rt.opts.Trace.Limited; f != nil {
		i := SocketInfo{Transport: requestedTransport(r), RemoteAddr: c.Addr()}
		tracing(rt, r.Context(), f, LimitInfo{SocketInfo: i, Limit: l})
	}
}
