// Package socketio is the server side of Socket.IO protocol 5 on one node: connections,
// namespaces, sockets, rooms, events and acks. It does not know who connects or what an
// event means; the layer above decides, through Hooks. It also serves clients of
// Engine.IO 3 (EIO3), whose Socket.IO protocol is an older one; eio3.go holds the
// differences.
//
// The protocol: https://socket.io/docs/v4/socket-io-protocol/
//
// One way in: engineio -> Conn.Message -> Socket's queue -> Hooks.Event. One way out:
// Namespace.Emit -> rooms -> Socket.Send -> engineio.Session.
//
// Locks are taken in this order: Socket.mu, then Conn.mu or the lock of a shard, then
// those of the layer below. No lock is held while a hook is called.
package socketio

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/eventlog"
	"github.com/rodando/realtime/internal/timingwheel"
)

// Config configures a Server. All fields are required, except those whose comment gives
// a default.
type Config struct {
	Limits          Limits
	AttachmentBytes int           // maximum bytes of all attachments of one packet
	ConnectTimeout  time.Duration // until a connection is in a namespace, and after it has left all of them
	// FirstTimeout returns how long a new connection may be in no namespace. It must not block.
	// Defaults to ConnectTimeout.
	FirstTimeout func(data any) time.Duration
	QueuedEvents int // events of a connection that wait for handlers; above it reading pauses
	QueuedBytes  int // likewise, bytes of memory
	Namespaces   int // maximum sockets of a connection at the same time
	PendingAcks  int // maximum awaited acks of a socket
	EIO3Query    int // maximum bytes of the query in an EIO3 client's CONNECT, in addition to Limits.Namespace
	Wheel        *timingwheel.Wheel
	Engine       EngineConfig // New sets its Wheel, Accept, Limited, UpgradeFailed and Heartbeat

	// Accept returns the data that the layer above keeps for a new connection, or the
	// reason to refuse it; protocol is the Engine.IO protocol of the client, 4 or 3.
	// Closed is called once for each connection that Accept accepted, when it has
	// ended. Neither may block.
	Accept func(r *http.Request, protocol int) (data any, busy *Busy)
	Closed func(data any)
	// Opened passes a function that closes an accepted connection, which the layer
	// above may call at any time. It must not block. If nil, it is not called.
	Opened func(data any, end func())
	// Left is called after a socket for which Admit returned true has been removed from a
	// connection that stays open, once. It must not block. If nil, it is not called.
	Left func(s *Socket)
	// Refused is called when a CONNECT was refused before Hooks.Connect, and reports
	// whether the connection may stay open. unknown says that there is no namespace of that
	// name; otherwise the connection has too many. It must not block. If nil, the
	// connection stays open.
	Refused func(c *Conn, namespace string, unknown bool) bool
	// Failed is called when a connection is closed because its client has sent no CONNECT
	// in time, or with an error because it has broken the protocol and no limit was
	// reported. It must not block. If nil, it is not called.
	Failed func(c *Conn, broken error)
	// Limited is called when a connection exceeds a limit, its own or one of the engine,
	// with the socket if it is the limit of a socket. It must not block. If nil, limits
	// are not reported.
	Limited func(c *Conn, s *Socket, e Exceeded)
	// UpgradeFailed is called when the upgrade of a connection was begun and not
	// completed. It must not block. If nil, it is not called.
	UpgradeFailed func(c *Conn)
	// Recovery bounds what is kept for clients that have lost their connection. If nil, such a
	// client gets a new socket, and no event that it has missed.
	Recovery *RecoveryConfig
	// Heartbeat is called when a client has answered a ping, with the time that passed between.
	// It must not block. If nil, it is not called and nothing is measured.
	Heartbeat func(c *Conn, roundTrip time.Duration)
}

// Hooks is what the layer above does in one namespace. Connect, Event, Disconnect and
// Room are required.
type Hooks struct {
	// Anonymous says that the sockets of the namespace have no user. The engine treats a
	// connection without other sockets as one without a known user.
	Anonymous bool
	// Connect decides about a CONNECT: it calls Admit and Open of the socket, or
	// Refuse. payload is a JSON object or nil; for an EIO3 client it is made of the
	// query after the namespace. It runs on a goroutine of its own.
	Connect func(s *Socket, payload []byte)
	// Event handles an event. The events of one socket come one at a time, in order, on
	// a goroutine that may block.
	Event func(s *Socket, e *Event)
	// Overflow gets an event that will not be handled: more than Config.QueuedBytes
	// wait, but the client is still read, because an ack of it is awaited. Overflow may
	// ack the event, and must not block. Calls come one at a time, but concurrently
	// with Event. If nil, such events are dropped.
	Overflow func(s *Socket, e *Event)
	// Wake is called after Socket.Wake, and before Disconnect unless the server has
	// disconnected the socket, or abandoned it. Like Event it may block; the two are called
	// one at a time. It may be nil if Socket.Wake is not called.
	Wake func(s *Socket)
	// Disconnect is called once for each opened socket, after its last Event.
	// Socket.Rooms still returns the rooms that the socket was in.
	Disconnect func(s *Socket, reason string)
	// Room is called when a room got its first socket or lost its last one. Calls may
	// be late and out of order: HasRoom returns the current state. It must not block. It may
	// be nil.
	Room func(room string)
	// Moved is called when an open socket whose client can recover has joined or left a room. It must
	// not block. It may be nil.
	Moved func(s *Socket)
	// Panic is called with the panic of another hook, or of a function passed to
	// Expect, while its stack still exists. Then the connection is closed, because its
	// state is unknown. For a panic of Room, s is nil and no connection is closed. If
	// Panic is nil, the program ends.
	Panic func(s *Socket, v any)
}

// Reasons of Hooks.Disconnect when a single namespace ended. If the connection ended,
// the reason is a Reason.
const (
	ReasonServer = "server namespace disconnect"
	ReasonClient = "client namespace disconnect"
)

// Server passes connections to namespaces. All its methods may be called concurrently.
type Server struct {
	cfg     Config
	engine  *engineio.Server
	kept    *eventlog.Budget[[]*Message] // nil: no recovery
	running sync.WaitGroup               // handshakes, open sockets, closing connections, abandoned hooks, and calls of Config.Limited and Config.Failed

	mu         sync.RWMutex // guards namespaces
	namespaces map[string]*Namespace
}

// New returns a server without namespaces. It starts no goroutine.
func New(cfg Config) *Server {
	s := newServer(cfg)
	ec := cfg.Engine
	ec.Wheel, ec.Accept = cfg.Wheel, s.accept
	if cfg.UpgradeFailed != nil {
		ec.UpgradeFailed = func(h engineio.Handler) {
			if c, ok := h.(*Conn); ok {
				cfg.UpgradeFailed(c)
			}
		}
	}
	if cfg.Limited != nil {
		ec.Limited = func(h engineio.Handler, e Exceeded) {
			if c, ok := h.(*Conn); ok {
				cfg.Limited(c, nil, e)
			}
		}
	}
	if cfg.Heartbeat != nil {
		ec.Heartbeat = func(h engineio.Handler, roundTrip time.Duration) {
			if c, ok := h.(*Conn); ok {
				cfg.Heartbeat(c, roundTrip)
			}
		}
	}
	s.engine = engineio.NewServer(ec)
	return s
}

// newServer returns a server without an engine.
func newServer(cfg Config) *Server {
	s := &Server{cfg: cfg, namespaces: map[string]*Namespace{}}
	if c := cfg.Recovery; c != nil {
		s.kept = eventlog.NewBudget[[]*Message](c.Events, c.Bytes)
	}
	return s
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

// Cut returns how many connections were ended before the messages queued for them were
// sent, because of the close timeout or the ctx of Shutdown.
func (s *Server) Cut() int { return s.engine.Cut() }

// Stats describes the connections at one time. It visits every connection.
func (s *Server) Stats() Stats { return s.engine.Stats() }

// Namespace makes a namespace. Its name begins with a slash and must be new.
func (s *Server) Namespace(name string, h Hooks) *Namespace {
	var log *recoveryLog
	if s.cfg.Recovery != nil && !h.Anonymous {
		log = newRecoveryLog(s.cfg.Recovery, &s.cfg.Engine, s.kept)
	}
	n := newNamespace(name, h, log)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.namespaces[name] = n
	return n
}

// Lookup returns the namespace of a name, or nil.
func (s *Server) Lookup(name string) *Namespace {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.namespaces[name]
}

// Wait returns when every hook has returned. It is called after Shutdown.
func (s *Server) Wait() { s.running.Wait() }

// accept is the Accept function of the engine's Config.
func (s *Server) accept(es *engineio.Session, r *http.Request) (engineio.Handler, *Busy) {
	data, busy := s.cfg.Accept(r, es.Protocol())
	if busy != nil {
		return nil, busy
	}
	c := &Conn{srv: s, session: es, Data: data}
	c.timer.F = c.onConnectTimeout
	wait := s.cfg.ConnectTimeout
	if f := s.cfg.FirstTimeout; f != nil {
		wait = f(data)
	}
	s.cfg.Wheel.Arm(&c.timer, wait)
	return c, nil
}
