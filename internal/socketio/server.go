// Package socketio is the server side of Socket.IO protocol 5 on one node:
// connections, namespaces, sockets, rooms, events and acks. It knows nothing of
// who connects or what an event means; the layer above decides through Hooks.
// Clients of Engine.IO 3, whose protocol is an older one, are let in beside the
// others; eio3.go has what differs.
//
// The protocol: https://socket.io/docs/v4/socket-io-protocol/
//
// One way in: engineio -> Conn.Message -> Socket's queue -> Hooks.Event.
// One way out: Namespace.Emit -> rooms -> Socket.deliver -> engineio.Session.Send.
//
// Locks are taken in this order: Socket.mu, Conn.mu or a room's, then what is
// below. None is held while calling a hook.
package socketio

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/timingwheel"
)

// What the layer above uses of the engine.
type (
	// Message is one outgoing packet, encoded once for any number of receivers.
	Message = engineio.Message
	// Busy refuses a client that cannot be admitted now.
	Busy = engineio.Busy
	// EngineConfig configures the engine.
	EngineConfig = engineio.Config
	// Reason says why a connection ended.
	Reason = engineio.Reason
)

// Reasons why a connection ends. Only the first two are passed to Conn.Close.
const (
	ReasonForcedClose    = engineio.ReasonForcedClose
	ReasonShuttingDown   = engineio.ReasonShuttingDown
	ReasonTransportClose = engineio.ReasonTransportClose
	ReasonTransportError = engineio.ReasonTransportError
	ReasonPingTimeout    = engineio.ReasonPingTimeout
	ReasonParseError     = engineio.ReasonParseError
	ReasonSlowConsumer   = engineio.ReasonSlowConsumer
)

// Forbidden answers a request that the host does not admit, such as one from a
// foreign origin.
func Forbidden(w http.ResponseWriter) { engineio.Forbidden(w) }

// Config sets a Server up. All fields but Opened, Refused and Limited are required.
type Config struct {
	Limits          Limits
	AttachmentBytes int           // all attachments of one packet together
	ConnectTimeout  time.Duration // until a connection is in a namespace, and for one that has left all
	QueuedEvents    int           // events of a connection that wait for handlers before reading pauses
	QueuedBytes     int           // likewise, bytes of memory
	Namespaces      int           // sockets of a connection at once
	PendingAcks     int           // of a socket
	EIO3Query       int           // bytes that an older client's CONNECT may have behind the namespace, above Limits.Namespace
	Wheel           *timingwheel.Wheel
	Engine          EngineConfig // of the engine below; New sets its Wheel and Accept

	// Accept returns what the layer above keeps of a new connection's request, or
	// why it does not take it; revision is that of its Engine.IO, 4 or 3. Closed is called once for each that it took, when
	// that is over. They must not block.
	Accept func(r *http.Request, revision int) (data any, busy *Busy)
	Closed func(data any)
	// Opened says how to end a connection that was taken, which a function of the
	// layer above may call at any time. It must not block; nil: nobody wants to know.
	Opened func(data any, end func())
	// Refused is called when a CONNECT was refused before Hooks.Connect, and reports
	// whether the connection may go on. It must not block; nil: it may.
	Refused func(data any) bool
	// Limited is told which limit a client has run into: "Namespaces",
	// "PendingAcks", "QueuedEvents" (an event was refused), "Outbox", "Payload" (its attachments), or the name of a field of
	// Limits.
	Limited func(which string)
}

// Hooks is the layer above, for one namespace.
type Hooks struct {
	// Connect decides over a CONNECT, by calling the socket's Admit and Open, or
	// Refuse. Payload is a JSON object or nil; an older client's is made of the query
	// behind the namespace. It runs on a goroutine of its own.
	Connect func(s *Socket, payload []byte)
	// Event handles an event. One socket's events come one at a time, in order,
	// on a goroutine that may block.
	Event func(s *Socket, e *Event)
	// Overflow, if set, gets an event that is one too many and will not be handled:
	// more than Config.QueuedBytes wait, and the client is read on only because an
	// ack of it is awaited. It may answer the event, and must not block. Calls come
	// one at a time, beside those of Event.
	Overflow func(s *Socket, e *Event)
	// Disconnect is called once for each socket that was opened, after its last
	// Event. The socket's Rooms are still those that it was in.
	Disconnect func(s *Socket, reason string)
	// Room is called when a room gets its first socket or loses its last one.
	// Calls may be late and out of order: HasRoom tells how it is. It must not
	// block.
	Room func(room string)
	// Panic is told of a panic in one of the others, or in a function given to
	// Expect, with the stack still there. The connection is closed: nobody knows
	// how far it came. Room has no socket, s is nil then. Without Panic the
	// program ends.
	Panic func(s *Socket, v any)
}

// Disconnect reasons of a single namespace; the others are engineio's.
const (
	ReasonServer = "server namespace disconnect"
	ReasonClient = "client namespace disconnect"
)

// Server routes connections to namespaces.
//
// Server.mu guards namespaces, which are few and normally all made before the
// first connection.
type Server struct {
	cfg     Config
	engine  *engineio.Server
	running sync.WaitGroup // handshakes, open sockets, and closing connections

	mu         sync.RWMutex
	namespaces map[string]*Namespace
}

// New returns a server without namespaces. It starts no goroutine.
func New(cfg Config) *Server {
	s := newServer(cfg)
	ec := cfg.Engine
	ec.Wheel, ec.Accept = cfg.Wheel, s.accept
	s.engine = engineio.NewServer(ec)
	return s
}

// newServer returns a server without an engine.
func newServer(cfg Config) *Server {
	return &Server{cfg: cfg, namespaces: map[string]*Namespace{}}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.engine.ServeHTTP(w, r) }

// Stop makes the server refuse new connections. It is the first step of Shutdown, and
// idempotent.
func (s *Server) Stop() { s.engine.Stop() }

// Shutdown closes every connection and waits until none is left. When ctx ends first,
// it aborts those that remain and returns an error that counts them. It does not wait
// for hooks; Wait does.
func (s *Server) Shutdown(ctx context.Context) error { return s.engine.Shutdown(ctx) }

// Namespace makes a namespace; its name begins with a slash and is new.
func (s *Server) Namespace(name string, h Hooks) *Namespace {
	n := newNamespace(name, h)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.namespaces[name] = n
	return n
}

// Lookup returns a namespace, nil when there is none of that name.
func (s *Server) Lookup(name string) *Namespace {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.namespaces[name]
}

// Wait returns when every hook has. It is called after the engine's Shutdown.
func (s *Server) Wait() { s.running.Wait() }

// accept is the Accept of the engine's Config.
func (s *Server) accept(es *engineio.Session, r *http.Request) (engineio.Handler, *Busy) {
	data, busy := s.cfg.Accept(r, es.Protocol())
	if busy != nil {
		return nil, busy
	}
	c := &Conn{srv: s, session: es, Data: data}
	c.timer.F = c.onConnectTimeout
	s.cfg.Wheel.Arm(&c.timer, s.cfg.ConnectTimeout)
	return c, nil
}
