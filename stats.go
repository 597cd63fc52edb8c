// Stats: numbers about a server at one time, for metrics that are sampled. Trace reports what
// happens between.

package realtime

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
)

// Stats describes a server at one time: this node alone, not the cluster. Its parts are read one
// after another.
type Stats struct {
	Namespaces []NamespaceStats // by name

	// Connections has the number of connections by their transport. One that is being closed counts
	// until it has closed.
	Connections map[Transport]int
	// Unauthenticated is the number of connections without a socket: before their first CONNECT
	// has succeeded, or after they have left all namespaces. See Limits.Unauthenticated.
	Unauthenticated int
	// Handshakes is the number of CONNECTs that are being decided.
	Handshakes int

	Outbox OutboxStats
	// IncomingBytes is the size of the messages and bodies that have not arrived completely, as
	// far as it is counted: those of up to 4 KiB are not. See LimitIncomingBytes.
	IncomingBytes int

	// Abandoned has, for each HostCall, the number of calls that are abandoned: they have exceeded
	// their time and still run.
	Abandoned map[HostCall]int
	// Adapter is what the adapter reports; nil without an AdapterReporter, and if it did not answer.
	Adapter *AdapterStats
	// TraceQueue is the number of calls of Trace that wait. At 65,536 further ones are dropped.
	TraceQueue int
}

// NamespaceStats describes a namespace.
type NamespaceStats struct {
	Name string
	// Sockets has the number of connected sockets by the transport of their connection.
	Sockets map[Transport]int
	Rooms   int // those with a socket of this node
}

// OutboxStats describes the messages that wait to be sent to clients.
type OutboxStats struct {
	Messages, Bytes int // of all connections
	Largest         int // the bytes of the connection with the most of them; see Limits.OutboxBytes

	// Dropped is the number of volatile messages, and of those of a Latest, that were dropped
	// since New because the client was not writable or had too many unsent messages.
	Dropped uint64
	// Replaced is the number of unsent messages that a newer one has replaced since New; see
	// Broadcast.Latest.
	Replaced uint64
}

// AdapterReporter may be implemented by an Adapter that knows how far its node is behind the
// others.
type AdapterReporter interface {
	// AdapterStats returns numbers about the adapter. It must not wait for the network. It is
	// called concurrently.
	AdapterStats() AdapterStats
}

// AdapterStats describes an adapter at one time.
type AdapterStats struct {
	// Node is this node as the others know it; zero if the adapter does not call Node.PeerJoined.
	Node Peer
	// Peers are the other nodes that the adapter knows, sorted by id: those of Node.PeerJoined that
	// Node.PeerLost has not reported.
	Peers []Peer

	// ProbeAge is how long ago the newest message was published that has certainly arrived, with
	// all before it. In health it is at most the interval of the adapter's probes, one second with
	// redisadapter.
	ProbeAge time.Duration
	// Wait is about how long a received message waits until the server handles it.
	Wait time.Duration
	// Incoming messages were received and wait for the server; outgoing ones wait until they are
	// sent.
	Incoming, IncomingBytes int
	Outgoing, OutgoingBytes int
	// Lost is the number of messages of this node, since the adapter was created, that were not
	// sent to the other nodes.
	Lost uint64
}

// HostCall names a kind of calls of the host's code.
type HostCall string

// The kinds of calls of the host's code.
const (
	HostCallHandler    HostCall = "handler"    // handlers, their interceptors, and OnConnect
	HostCallDisconnect HostCall = "disconnect" // OnDisconnect
	HostCallAuthorize  HostCall = "authorize"  // NamespaceOptions.Authorize
	HostCallListener   HostCall = "listener"   // OnServerEmit and OnServerAsk
	HostCallTokens     HostCall = "tokens"     // TokenVerifier
	HostCallUsers      HostCall = "users"      // UserRepo
	HostCallSessions   HostCall = "sessions"   // SessionRepo
	HostCallTrips      HostCall = "trips"      // TripLookup
	HostCallParties    HostCall = "parties"    // PartyLookup
	HostCallEvents     HostCall = "events"     // the methods of domain events in Options.Events
	HostCallBus        HostCall = "bus"        // EventBus
	HostCallAdapter    HostCall = "adapter"    // Adapter, RoomWatcher, AdapterChecker and AdapterReporter
	HostCallRequest    HostCall = "request"    // Options.ConnContext
	HostCallTrace      HostCall = "trace"      // Trace
)

// Stats returns numbers about the server. It visits every connection and every socket, which
// takes some tens of milliseconds for 100,000 of them: call it every few seconds, not for each
// event. It waits for nothing but an AdapterReporter, at most one second, and may be called
// concurrently.
func (rt *Server) Stats() Stats {
	engine := rt.sio.Stats()
	st := Stats{
		Connections:     byTransport(engine.Polling, engine.WebSocket),
		Unauthenticated: rt.admission.Unauthenticated(),
		Handshakes:      rt.pending.count(),
		Outbox: OutboxStats{
			Messages: engine.OutboxMessages, Bytes: engine.OutboxBytes, Largest: engine.LargestOutbox,
			Dropped: engine.Dropped, Replaced: engine.Replaced,
		},
		IncomingBytes: engine.IncomingBytes,
		Abandoned:     rt.host.abandoned(),
		TraceQueue:    rt.host.trace.Len(),
	}
	st.Abandoned[HostCallHandler] = rt.watchdog.Abandoned()
	st.Abandoned[HostCallUsers] += rt.users.Abandoned()
	st.Abandoned[HostCallSessions] += rt.sessions.Abandoned()
	rt.each(func(ns *Namespace) {
		st.Namespaces = append(st.Namespaces, NamespaceStats{
			Name: ns.name, Sockets: byTransport(ns.inner.Count()), Rooms: ns.inner.Rooms(),
		})
		st.Abandoned[HostCallAuthorize] += ns.authorizes.Abandoned()
		st.Abandoned[HostCallListener] += ns.listening.Abandoned() + ns.answering.Abandoned()
		for _, h := range ns.disconnectHooks() {
			st.Abandoned[HostCallDisconnect] += h.calls.Abandoned()
		}
	})
	if reporter, ok := rt.adapter.(AdapterReporter); ok {
		report, err := hostcall.Do(context.Background(), rt.host.check, nil, func(context.Context) (AdapterStats, error) {
			return reporter.AdapterStats(), nil
		})
		if err == nil {
			st.Adapter = &report
		} else {
			rt.hostFailed("Adapter.AdapterStats", err)
		}
	}
	slices.SortFunc(st.Namespaces, func(a, b NamespaceStats) int { return strings.Compare(a.Name, b.Name) })
	return st
}

func byTransport(polling, websocket int) map[Transport]int {
	return map[Transport]int{TransportPolling: polling, TransportWebSocket: websocket}
}

// abandoned returns how many calls of h are abandoned. Each HostCall has an entry.
func (h *hostCalls) abandoned() map[HostCall]int {
	n := map[HostCall]int{
		HostCallHandler: 0, HostCallDisconnect: 0, HostCallAuthorize: 0, HostCallListener: 0,
		HostCallTokens:   h.verify.Abandoned(),
		HostCallUsers:    h.sweep.users.abandoned(),
		HostCallSessions: h.sweep.sessions.abandoned(),
		HostCallTrips:    h.trips.Abandoned() + h.positions.Abandoned() + h.sweep.trips.abandoned(),
		HostCallParties:  h.parties.Abandoned(),
		HostCallEvents:   h.events.Abandoned(),
		HostCallBus:      h.bus.Abandoned() + h.presence.Abandoned(),
		HostCallAdapter:  h.request.Abandoned() + h.roomChanged.Abandoned() + h.claims.Abandoned() + h.check.Abandoned() + h.cluster.Abandoned(),
		HostCallRequest:  h.connContext.Abandoned(),
		HostCallTrace:    h.trace.Abandoned(),
	}
	return n
}

func (c *sweepCall) abandoned() int { return c.batch.Abandoned() + c.row.Abandoned() }

// count returns the number of handshakes of connecting sockets.
func (p *pendingHandshakes) count() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.byConn {
		for ; h != nil; h = h.next[ofConn] {
			n++
		}
	}
	return n
}
