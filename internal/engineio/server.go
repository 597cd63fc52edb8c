// Package engineio is the server side of Engine.IO protocol 4, and of 3 where that
// is asked for: sessions over HTTP long-polling and WebSocket, the upgrade from one
// to the other, and the heartbeat. It carries messages and knows nothing of what is
// in them.
//
// The protocol: https://socket.io/docs/v4/engine-io-protocol/
//
// One way in: ServeHTTP -> polling or wsConn -> Session.receive -> Handler.
// One way out: Session.Send -> outbox -> poll response, or wsConn.flush.
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
	"math"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/timingwheel"
)

// Config sets a Server up. All fields but MaxIncomingBytes, Logger and
// Limited are required.
type Config struct {
	PingInterval   time.Duration // between a pong and the next ping
	PingTimeout    time.Duration // for the pong to a ping
	UpgradeTimeout time.Duration // for an upgrade, from websocket handshake to upgrade packet
	CloseTimeout   time.Duration // for what was queued before a close to reach the client
	WriteTimeout   time.Duration // for one write to a client

	MaxPayload        int // bytes of a websocket message or a polling body
	MaxPackets        int // packets in a polling body
	MaxIncomingBytes  int // of messages and bodies that have not arrived whole, of all sessions; 0: 64 MiB
	MaxOutboxBytes    int // unsent bytes of a session before it counts as a slow consumer
	MaxOutboxMessages int // likewise, messages

	NoPolling   bool
	NoWebSocket bool

	Revision3 bool // admits clients of protocol 3
	// Twice is for clients of Socket.IO 1 that poll: they encode text as UTF-8 twice,
	// those of Socket.IO 2 once. With it, text for polling clients of protocol 3 is
	// JSON as far as it is not ASCII, and escaped; and what such a client sends is
	// decoded twice if it can be.
	Twice bool

	RetryAfter time.Duration // what a client that comes during Shutdown is told to wait

	Wheel *timingwheel.Wheel
	// Accept makes the handler of a new session, before anything is answered, or
	// says why there is none. It must not keep r, and nobody may use s before the
	// first Message. The handler's Closed is called whatever comes of the session.
	Accept func(s *Session, r *http.Request) (Handler, *Busy)
	// Limited is told which limit, "Payload" or "Packets", a client has run into, and
	// "IncomingBytes" for each session that was ended because of that one.
	// A session that ends with ReasonSlowConsumer has run into that of its outbox.
	Limited func(which string)
	// Logger is told of a panic in a handler's Message; nil: slog.Default().
	Logger *slog.Logger
}

// Busy is the answer to a client that can't be taken now.
type Busy struct {
	Status     int           // 429 or 503
	RetryAfter time.Duration // rounded up to seconds
}

func (b *Busy) refuse(w http.ResponseWriter) {
	w.Header().Set("Retry-After", strconv.FormatInt(int64(max(1, math.Ceil(b.RetryAfter.Seconds()))), 10))
	http.Error(w, http.StatusText(b.Status), b.Status)
}

// Handler is the layer above: what a session's messages are for.
type Handler interface {
	// Opened is called once, when the client has got, or is about to get, the open
	// packet. A Message may come at the same time, and Closed before. It must not
	// block.
	Opened()
	// Message takes one message. Calls come one at a time and in order; data is
	// the caller's again afterwards. It must not block. An error ends the
	// session with ReasonParseError.
	Message(data []byte, binary bool) error
	// Serve runs what the messages since the last Serve asked for. It may block
	// and may run beside Message and itself.
	Serve()
	// Closed is called once, when the session ends; a Message may still be
	// running then. It must not block.
	Closed(reason Reason)
}

// Reason says why a session ended.
type Reason string

// Reasons, in the words of the reference implementation where it has them.
const (
	ReasonTransportClose Reason = "transport close"
	ReasonTransportError Reason = "transport error"
	ReasonPingTimeout    Reason = "ping timeout"
	ReasonParseError     Reason = "parse error"
	ReasonForcedClose    Reason = "forced close"
	ReasonSlowConsumer   Reason = "slow consumer"
	ReasonShuttingDown   Reason = "server shutting down"
)

// Server is an http.Handler that speaks Engine.IO.
//
// Server.mu guards sessions and closed; a session removes itself. Running counts
// websockets and calls of Limited.
type Server struct {
	cfg  Config
	open [2][]byte // tail of the open packet, without and with an upgrade
	loop eventLoop

	incoming incoming

	mu       sync.Mutex
	sessions map[string]*Session
	closed   bool
	empty    chan struct{} // closed when the last session of a closed server is removed
	running  sync.WaitGroup
	await    sync.Once     // starts finish
	finished chan struct{} // closed when nothing of a closed server is left
}

// NewServer returns a server. It starts nothing; goroutines exist only while
// there are sessions.
func NewServer(cfg Config) *Server {
	s := &Server{cfg: cfg, sessions: map[string]*Session{}, empty: make(chan struct{}), finished: make(chan struct{})}
	s.incoming.limit = cmp.Or(cfg.MaxIncomingBytes, defaultIncoming)
	for i, upgrades := range [][]string{{}, {"websocket"}} {
		b, _ := json.Marshal(struct { // cannot fail: strings and numbers
			Upgrades     []string `json:"upgrades"`
			PingInterval int64    `json:"pingInterval"`
			PingTimeout  int64    `json:"pingTimeout"`
			MaxPayload   int      `json:"maxPayload"`
		}{upgrades, cfg.PingInterval.Milliseconds(), cfg.PingTimeout.Milliseconds(), cfg.MaxPayload})
		s.open[i] = b[1:]
	}
	return s
}

// problem is an error of the handshake, as the reference numbers them.
type problem struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

var (
	errTransport = problem{0, "Transport unknown"}
	errSession   = problem{1, "Session ID unknown"}
	errMethod    = problem{2, "Bad handshake method"}
	errRequest   = problem{3, "Bad request"}
	errForbidden = problem{4, "Forbidden"}
	errProtocol  = problem{5, "Unsupported protocol version"}
)

// Forbidden answers a request that the host does not admit, such as one from a
// foreign origin.
func Forbidden(w http.ResponseWriter) { errForbidden.write(w, http.StatusForbidden) }

func (p problem) write(w http.ResponseWriter, status int) {
	b, _ := json.Marshal(p) // cannot fail: a number and a string
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client is gone if this fails
}

func (p problem) refuse(w http.ResponseWriter) { p.write(w, http.StatusBadRequest) }

// ServeHTTP implements http.Handler. The checks run in the reference's order.
// A key that is repeated has no value that anybody could mean.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	transport := only(q["transport"])
	if (transport != "polling" || s.cfg.NoPolling) && (transport != "websocket" || s.cfg.NoWebSocket) {
		errTransport.refuse(w)
		return
	}
	websocket := transport == "websocket"
	if sid, ok := q["sid"]; ok {
		ss := s.session(only(sid))
		switch {
		case ss == nil:
			errSession.refuse(w)
		case websocket != isUpgrade(r):
			errRequest.refuse(w)
		case websocket:
			s.serveUpgrade(ss, w, r)
		default:
			ss.servePolling(w, r)
		}
		return
	}
	switch {
	case r.Method != http.MethodGet:
		errMethod.refuse(w)
	case websocket != isUpgrade(r):
		errRequest.refuse(w)
	case s.revisionOf(q) == 0:
		errProtocol.refuse(w)
	case s.revisionOf(q) == 3 && q.Has("j"): // JSONP, for browsers without CORS
		errRequest.refuse(w)
	case s.isClosed():
		s.refuseClosed(w)
	default:
		ss, busy := s.newSession(r, s.revisionOf(q) == 3, q.Get("b64") != "")
		switch {
		case busy != nil:
			busy.refuse(w)
		case websocket:
			s.openWebSocket(ss, w, r)
		default:
			s.openPolling(ss, w)
		}
	}
}

// only returns the value of a query key that stands there once.
func only(values []string) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}

// openPolling starts a session whose first transport is polling.
func (s *Server) openPolling(ss *Session, w http.ResponseWriter) {
	if !s.add(ss) {
		ss.abort(ReasonShuttingDown)
		s.refuseClosed(w)
		return
	}
	ss.handler.Opened()
	if err := ss.writePayload(w, answer{body: ss.lone(ss.openPacket(!s.cfg.NoWebSocket))}); err != nil {
		ss.abort(ReasonTransportError)
	}
}

// openWebSocket starts a session on a websocket.
func (s *Server) openWebSocket(ss *Session, w http.ResponseWriter, r *http.Request) {
	conn, early, ok := s.hijack(w, r)
	if !ok {
		ss.abort(ReasonTransportError)
		return
	}
	c := s.newConn(conn, ss)
	if c == nil {
		ss.abort(ReasonShuttingDown)
		return
	}
	ss.mu.Lock()
	ss.ws = c
	ss.out.push(control(string(ss.openPacket(false))))
	ss.mu.Unlock()
	if !s.add(ss) {
		ss.abort(ReasonShuttingDown)
		return
	}
	c.link.start(early)
	ss.handler.Opened()
	ss.mu.Lock()
	ss.wakeLocked()
}

func (s *Server) newSession(r *http.Request, rev3, b64 bool) (*Session, *Busy) {
	ss := &Session{srv: s, id: newID(), rev3: rev3, b64: b64}
	ss.timer.F = ss.timedOut
	var busy *Busy
	ss.handler, busy = s.cfg.Accept(ss, r)
	return ss, busy
}

func (s *Server) refuseClosed(w http.ResponseWriter) {
	busy := Busy{Status: http.StatusServiceUnavailable, RetryAfter: s.cfg.RetryAfter}
	busy.refuse(w)
}

// limited reports on a goroutine of its own, as the caller has locks.
func (s *Server) limited(which string) {
	if s.cfg.Limited != nil && s.enter() {
		go func() {
			defer s.running.Done()
			s.cfg.Limited(which)
		}()
	}
}

// newID returns a session id: 128 bits from the system's generator.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, the program ends instead
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

// enter counts one more connection, which calls running.Done when it is gone.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Add(1)
	return true
}

// add makes a session known and starts its heartbeat; false when the server is
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
		close(s.empty)
	}
}

// Len returns the number of sessions.
func (s *Server) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Stop refuses new sessions from now on. It is the first step of Shutdown.
func (s *Server) Stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if len(s.sessions) == 0 {
		close(s.empty)
	}
}

// unwindTime is what connections that were cut off have to unwind, and callbacks to
// return, once the ctx of Shutdown has ended.
const unwindTime = 100 * time.Millisecond

// Shutdown ends every session and waits until each is removed and no connection is
// left, or until ctx ends; then what remains is cut off, and the error says how
// much that was. Neither a connection of the host's that blocks nor a callback
// that does not return keeps it longer. It is idempotent. What handlers do in
// Serve is theirs to end.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Stop()
	s.await.Do(func() { go s.finish() })
	// Apart, as this calls other layers.
	go func() {
		for _, ss := range s.all() {
			ss.Close(ReasonShuttingDown)
		}
	}()
	select {
	case <-s.finished:
		return nil
	case <-ctx.Done():
	}
	var err error
	if left := s.all(); len(left) > 0 {
		err = fmt.Errorf("%d connections were cut off: %w", len(left), ctx.Err())
		go func() {
			for _, ss := range left {
				ss.abort(ReasonShuttingDown)
			}
		}()
	}
	select {
	case <-s.finished: // those that were ending already called their handler
	case <-time.After(unwindTime):
		err = errors.Join(err, fmt.Errorf("connections or callbacks do not end: %w", ctx.Err()))
	}
	return err
}

// finish waits for the end of everything.
func (s *Server) finish() {
	<-s.empty
	s.running.Wait()
	s.loop.close()
	close(s.finished)
}

func (s *Server) all() []*Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*Session, 0, len(s.sessions))
	for _, ss := range s.sessions {
		all = append(all, ss)
	}
	return all
}
