// Package engineio is the server side of Engine.IO protocol 4, and of protocol 3 (EIO3)
// if Config.AllowEIO3 is set: sessions over HTTP long-polling and WebSocket, the
// upgrade from polling to WebSocket, and the heartbeat. It carries messages and does
// not look at their content.
//
// The protocol: https://socket.io/docs/v4/engine-io-protocol/
//
// One way in: ServeHTTP -> polling or wsConn -> Session.receiveLocked -> Handler. One
// way out: Session.Send -> outbox -> poll response, or wsConn.flush.
package engineio

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/stackroom"
	"github.com/rodando/realtime/internal/timingwheel"
)

// Config configures a Server. All fields are required, except those whose comment gives
// a default, and the booleans.
type Config struct {
	PingInterval   time.Duration // from a pong to the next ping
	PingTimeout    time.Duration // from a ping to the next packet of the client
	UpgradeTimeout time.Duration // from the WebSocket handshake of an upgrade to its upgrade packet
	CloseTimeout   time.Duration // for messages queued before a close to reach the client
	WriteTimeout   time.Duration // for one write to a client

	MaxPayload        int // maximum bytes of a WebSocket message or a polling body
	MaxPackets        int // maximum packets in a polling body
	MaxIncomingBytes  int // maximum bytes of incomplete messages and bodies, over all sessions; defaults to 64 MiB
	MaxOutboxBytes    int // maximum unsent bytes of a session; above it the client is a slow consumer
	MaxOutboxMessages int // maximum unsent messages of a session, likewise

	NoPolling   bool
	NoWebSocket bool

	AllowEIO3 bool // admits clients of protocol 3
	// DoubleUTF8 is for polling EIO3 clients of Socket.IO 1. Those encode text as UTF-8
	// twice, and clients of Socket.IO 2 once. With it the server escapes non-ASCII
	// characters in text for polling EIO3 clients, which must be JSON then, and decodes
	// received text twice if that yields valid UTF-8.
	DoubleUTF8 bool

	RetryAfter time.Duration // Retry-After of a refusal because of Shutdown or MaxIncomingBytes

	Wheel *timingwheel.Wheel
	// Accept returns the handler of a new session, or the reason why the session is
	// refused. It is called before the request is answered. It must not keep r, and
	// must not use s before the first call of a Handler method. Handler.Closed is
	// called for every handler that Accept returned, also if the session never opens.
	Accept func(s *Session, r *http.Request) (Handler, *Busy)
	// Limited is called when the session of a handler exceeds a limit, on a goroutine of
	// its own or before Handler.Closed. If nil, limits are not reported.
	Limited func(h Handler, e Exceeded)
	// Failed is called when a request was answered with an error, or its websocket was
	// not established. It must not keep r, and must not block. If nil, it is not called.
	Failed func(r *http.Request, f Failure)
	// UpgradeFailed is called on a goroutine of its own when an upgrade of the session of
	// a handler was begun and not completed. If nil, it is not called.
	UpgradeFailed func(h Handler)
	// Heartbeat is called when the client of a handler has answered a ping, with the time that
	// passed between. It must not block. If nil, it is not called and nothing is measured.
	Heartbeat func(h Handler, roundTrip time.Duration)
	// Logger logs panics of Handler.Message and of the methods of connections. Defaults
	// to slog.Default().
	Logger *slog.Logger
}

// Limit is a limit that a session exceeded.
type Limit uint8

// The limits.
const (
	LimitPayload       Limit = iota + 1 // MaxPayload
	LimitPackets                        // MaxPackets
	LimitIncomingBytes                  // MaxIncomingBytes; the session was closed to make room
	LimitOutbox                         // MaxOutboxBytes, MaxOutboxMessages or WriteTimeout; the session ends with ReasonSlowConsumer

	NextLimit // the first number that is free for limits of the layer above
)

// Exceeded is a limit that was exceeded.
type Exceeded struct {
	Limit Limit
	// For LimitOutbox: the messages that wait, and their bytes.
	OutboxMessages, OutboxBytes int
}

// Busy refuses a client that cannot be admitted now.
type Busy struct {
	Status     int           // HTTP status: 429, 500 or 503
	RetryAfter time.Duration // rounded up to whole seconds, at least one
}

// Handler is implemented by the layer above, which gives the messages of a session
// their meaning.
type Handler interface {
	// Opened is called at most once, when the open packet was sent or is about to be.
	// Message may be called at the same time, and Closed even earlier. It must not block.
	Opened()
	// Message handles one message. Calls for one session come one at a time and in
	// order. It must not keep data or block. An error ends the session with
	// ReasonParseError; ErrTooBig also tells a websocket client what was wrong.
	Message(data []byte, binary bool) error
	// Serve runs the work that the messages since the last Serve asked for. It may
	// block, and may run concurrently with Message and with itself.
	Serve()
	// Closed is called once, when the session ends. A call of Message may still be
	// running. It must not block.
	Closed(reason Reason)
}

// ErrTooBig is the error of Handler.Message for a message that exceeds a limit.
var ErrTooBig = errors.New("message too big")

// Reason says why a session ended.
type Reason string

// Reasons. Where the Node reference implementation has a reason, its text is the same.
const (
	ReasonTransportClose Reason = "transport close"
	ReasonTransportError Reason = "transport error"
	ReasonPingTimeout    Reason = "ping timeout"
	ReasonParseError     Reason = "parse error"
	ReasonForcedClose    Reason = "forced close"
	ReasonSlowConsumer   Reason = "slow consumer"
	ReasonShuttingDown   Reason = "server shutting down"
)

// Server is an http.Handler that speaks Engine.IO. All its methods may be called
// concurrently.
type Server struct {
	cfg  Config
	open [2][]byte // last part of the open packet, without and with a possible upgrade
	loop eventLoop

	incoming incoming
	started  time.Time // see Session.pingedAt
	dropped  atomic.Uint64
	replaced atomic.Uint64 // these two: see Stats
	cut      atomic.Int64  // sessions that were ended before the messages queued for them were sent

	mu         sync.Mutex // guards sessions and closed
	sessions   map[string]*Session
	closed     bool
	drained    chan struct{}  // closed when a closed server has no session left
	running    sync.WaitGroup // websockets, and calls of Config.Limited and Config.UpgradeFailed
	finishOnce sync.Once      // starts finish
	finished   chan struct{}  // closed when nothing of a closed server is left
}

// NewServer returns a server. It starts no goroutine; goroutines exist only while there
// are sessions.
func NewServer(cfg Config) *Server {
	s := &Server{cfg: cfg, started: time.Now(), sessions: map[string]*Session{}, drained: make(chan struct{}), finished: make(chan struct{})}
	s.incoming.limit = cmp.Or(cfg.MaxIncomingBytes, defaultIncoming)
	for i, upgrades := range [][]string{{}, {"websocket"}} {
		b, _ := json.Marshal(struct { //nolint:errchkjson // cannot fail: strings and numbers
			Upgrades     []string `json:"upgrades"`
			PingInterval int64    `json:"pingInterval"`
			PingTimeout  int64    `json:"pingTimeout"`
			MaxPayload   int      `json:"maxPayload"`
		}{upgrades, cfg.PingInterval.Milliseconds(), cfg.PingTimeout.Milliseconds(), cfg.MaxPayload})
		s.open[i] = b[1:]
	}
	return s
}

// ServeHTTP implements http.Handler. It makes its checks in the order of the reference
// implementation. A repeated query key is ambiguous and counts as absent.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	stackroom.Reserve()
	q := r.URL.Query()
	transport := singleValue(q["transport"])
	if (transport != "polling" || s.cfg.NoPolling) && (transport != "websocket" || s.cfg.NoWebSocket) {
		s.refuse(w, r, errTransport, FailedTransport)
		return
	}
	websocket := transport == "websocket"
	if sid := q["sid"]; len(sid) > 1 || len(sid) == 1 && sid[0] != "" { // an empty one counts as none
		ss := s.session(singleValue(sid))
		switch {
		case ss == nil:
			s.refuse(w, r, errSession, FailedSession)
		case websocket != isUpgrade(r):
			s.refuse(w, r, errRequest, FailedUpgradeHeader)
		case websocket:
			s.serveUpgrade(ss, w, r, q.Get("b64") != "")
		default:
			ss.servePolling(w, r)
		}
		return
	}
	switch {
	case r.Method != http.MethodGet:
		s.refuse(w, r, errMethod, FailedMethod)
	case websocket != isUpgrade(r):
		s.refuse(w, r, errRequest, FailedUpgradeHeader)
	case s.protocolOf(q) == 0:
		s.refuse(w, r, errProtocol, FailedProtocol)
	case s.protocolOf(q) == 3 && q.Has("j"): // JSONP, for browsers without CORS, is not supported
		s.refuse(w, r, errRequest, FailedRequest)
	case s.isClosed():
		s.refuseClosed(w, r)
	default:
		ss, busy := s.newSession(r, s.protocolOf(q) == 3, q.Get("b64") != "")
		switch {
		case busy != nil:
			s.refuseBusy(w, r, busy, FailedBusy)
		case websocket:
			s.openWebSocket(ss, w, r)
		default:
			s.openPolling(ss, w, r)
		}
	}
}

// singleValue returns the value of a query key that occurs once, and "" otherwise.
func singleValue(values []string) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

// openPolling opens a session whose first transport is polling.
func (s *Server) openPolling(ss *Session, w http.ResponseWriter, r *http.Request) {
	if !s.add(ss) {
		ss.abort(ReasonShuttingDown)
		s.refuseClosed(w, r)
		return
	}
	answered := false
	defer func() { ss.abortUnless(answered) }()
	ss.handler.Opened()
	if err := ss.writePayload(w, pollAnswer{body: ss.singlePacketPayload(ss.openMessage(!s.cfg.NoWebSocket).payload())}); err != nil {
		ss.abort(ReasonTransportError)
	}
	answered = true
}

// openWebSocket opens a session whose first transport is a websocket.
func (s *Server) openWebSocket(ss *Session, w http.ResponseWriter, r *http.Request) {
	opened := false
	defer func() { ss.abortUnless(opened) }()
	h, ok := s.hijack(w, r, false)
	if !ok {
		ss.abort(ReasonTransportError)
		return
	}
	c := s.newConn(h, ss)
	if c == nil || !s.addWebSocket(c) {
		ss.abort(ReasonShuttingDown)
		s.failed(r, FailedShutdown, http.StatusSwitchingProtocols, "")
		return
	}
	opened = true
	c.link.start(h.early)
	ss.handler.Opened()
	c.link.flush()
}

// addWebSocket registers a session whose first transport is c, and queues its open packet. It
// returns false if the server is closed; then the response to the handshake is written.
func (s *Server) addWebSocket(c *wsConn) bool {
	ss := c.s
	ss.mu.Lock()
	ss.ws = c
	ss.out.push(ss.openMessage(false))
	ss.mu.Unlock()
	if s.add(ss) {
		return true
	}
	_, _ = c.link.write(c.unwritten) // nothing else writes: nobody knows the session
	return false
}

func (s *Server) newSession(r *http.Request, eio3, b64 bool) (*Session, *Busy) {
	ss := &Session{srv: s, id: newID(), eio3: eio3, b64: b64}
	ss.timer.F = ss.onTimer
	var busy *Busy
	ss.handler, busy = s.cfg.Accept(ss, r)
	return ss, busy
}

// newID returns a session id: 128 bits of crypto/rand.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: if it could not read, it would end the program
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func (s *Server) session(id string) *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

func (s *Server) log() *slog.Logger {
	if s.cfg.Logger != nil {
		return s.cfg.Logger
	}
	return slog.Default()
}

// addRunning counts a connection or callback as running, until running.Done is called for
// it. It returns false if the server is closed.
func (s *Server) addRunning() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Add(1)
	return true
}

// add registers a session and starts its heartbeat. It returns false if the server is
// closed.
func (s *Server) add(ss *Session) bool {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return false
	}
	s.sessions[ss.id] = ss
	s.mu.Unlock()
	ss.start()
	return true
}

func (s *Server) remove(ss *Session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[ss.id] != ss {
		return
	}
	delete(s.sessions, ss.id)
	if s.closed && len(s.sessions) == 0 {
		close(s.drained)
	}
}

// Stop makes the server refuse new sessions. It is the first step of Shutdown, and
// idempotent.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if len(s.sessions) == 0 {
		close(s.drained)
	}
}

// unwindTime is the time that aborted connections and running callbacks have to end
// after the ctx of Shutdown has ended.
const unwindTime = 100 * time.Millisecond

// Shutdown closes every session and waits until all are removed and no connection is
// left. When ctx ends first, it aborts the remaining sessions. If some of their clients cannot have
// read the end, it returns an error with their number. It returns soon after ctx ends even if a connection of
// the host or a callback blocks. It does not wait for Handler.Serve. It is idempotent.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Stop()
	s.finishOnce.Do(func() { go s.finish() })
	// On a goroutine of its own, because it calls other layers.
	go func() {
		for _, ss := range s.allSessions() {
			ss.Close(ReasonShuttingDown)
		}
	}()
	select {
	case <-s.finished:
		return nil
	case <-ctx.Done():
	}
	var err error
	if left := s.allSessions(); len(left) > 0 {
		cut := 0
		for _, ss := range left {
			if !ss.canReadEnd() {
				cut++
			}
		}
		if cut > 0 {
			err = fmt.Errorf("%d connections were cut off: %w", cut, ctx.Err())
		}
		go func() {
			for _, ss := range left {
				ss.cutOff()
			}
		}()
	}
	select {
	case <-s.finished: // sessions that were already closing have called their handlers
	case <-time.After(unwindTime):
		err = errors.Join(err, fmt.Errorf("connections or callbacks do not end: %w", ctx.Err()))
	}
	return err
}

// Cut returns how many sessions were ended before the messages queued for them were sent,
// because the close timeout had passed or the ctx of Shutdown had ended.
func (s *Server) Cut() int { return int(s.cut.Load()) }

// finish waits until nothing is left, and closes s.finished.
func (s *Server) finish() {
	<-s.drained
	s.running.Wait()
	s.loop.close()
	close(s.finished)
}

func (s *Server) allSessions() []*Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Session, 0, len(s.sessions))
	for _, ss := range s.sessions {
		all = append(all, ss)
	}
	return all
}
