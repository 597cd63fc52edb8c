// Socket: one authenticated client in one namespace, as handlers see it.

package realtime

import (
	"encoding/json"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/ratelimit"
	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/timingwheel"
)

// Socket is one client in one namespace, from hello until it disconnects or its connection
// closes. A client that reconnects gets a new Socket; if it recovers (Options.Recovery), with the id of
// the former one. A socket's events are handled one at a time, in the order in which the client sent
// them, and OnDisconnect runs after the last of them.
//
// All methods may be called concurrently. After the socket has closed, methods that change
// or send something have no effect: Join reports false, and emits return ErrClosed. The
// server makes the sockets; the zero Socket, for a test, is a closed one of no namespace.
type Socket struct {
	inner *socketio.Socket // nil only in a zero Socket, as is ns
	ns    *Namespace
	shard uint8 // the watchdog's shard for this socket's calls

	recovered bool // see Recovered; set before the socket is open

	// The state for the rate limits, see bursts.go. Only the goroutine that runs the socket's
	// queue uses it, but for holds.
	settled bool          // positions do not wait for newer ones any more, as they do after the connect
	ended   bool          // the socket was ended by Rates.Breach
	holds   atomic.Bool   // a position is held
	held    *heldPosition // nil until a position was held
	rates   ratelimit.Socket

	mu       sync.Mutex // guards the fields below
	identity Identity
	expires  int64 // microseconds since 1970, smaller than a time.Time; 0: never
	expiry   timingwheel.Timer
	data     map[any]any // the values of SocketKeys; nil while there are none
}

// ID returns the socket's id. It is public: do not use it as a secret.
func (s *Socket) ID() string {
	if s.inner == nil {
		return ""
	}
	return s.inner.ID()
}

// Namespace returns the namespace that the socket is in.
func (s *Socket) Namespace() *Namespace { return s.ns }

// Identity returns the user and the login session that the socket belongs to.
func (s *Socket) Identity() Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity
}

// ExpiresAt returns when the socket's authorization expires: the server then sends
// auth:expired and closes the connection. It is zero, which means never, in an anonymous
// namespace.
func (s *Socket) ExpiresAt() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expiresAtLocked()
}

func (s *Socket) expiresAtLocked() time.Time {
	if s.expires == 0 {
		return time.Time{}
	}
	return time.UnixMicro(s.expires)
}

// RemoteAddr returns the client's address: the one that a proxy of Options.TrustedProxies
// forwards, otherwise the address that the connection comes from, which may be that of
// another proxy. It is the zero netip.Addr if the connection has no IP address, as in
// memory or over a Unix socket.
func (s *Socket) RemoteAddr() netip.Addr {
	if s.inner == nil {
		return netip.Addr{}
	}
	return s.conn().Addr()
}

// Transport returns the connection's present transport. A client may begin with
// TransportPolling and upgrade to TransportWebSocket.
func (s *Socket) Transport() Transport {
	if s.inner == nil {
		return ""
	}
	return Transport(s.inner.Conn().Transport())
}

// Recovered reports whether the client has got this socket back with Options.Recovery: it has the id
// of a former socket, and the events that it had missed. It is set before OnConnect. The values of
// SocketKeys are not those of the former socket.
func (s *Socket) Recovered() bool { return s.recovered }

// since returns when the socket was admitted to its namespace, which is about when it connected.
func (s *Socket) since() time.Time { return time.UnixMicro(int64(s.inner.Order())) }

func (s *Socket) conn() *connState { return connOf(s.inner.Conn()) }

// socketOf returns the Socket of a socket of package socketio. ok is false until the handshake
// has created it.
func socketOf(inner *socketio.Socket) (s *Socket, ok bool) {
	s, ok = inner.Data.(*Socket)
	return s, ok
}

// Join puts the socket into rooms. It reports whether the socket is still connected.
func (s *Socket) Join(rooms ...Room) bool { return s.inner != nil && s.inner.Join(names(rooms)...) }

// Leave takes the socket out of rooms.
func (s *Socket) Leave(rooms ...Room) {
	if s.inner != nil {
		s.inner.Leave(names(rooms)...)
	}
}

// Rooms returns the rooms that the socket is in. After the socket has closed it still
// returns the rooms that it was in, until the last function of OnDisconnect has returned.
func (s *Socket) Rooms() []Room {
	if s.inner == nil {
		return nil
	}
	return roomsNamed(s.inner.Rooms())
}

// Connected reports whether the socket has not closed. It may close at any time.
func (s *Socket) Connected() bool { return s.inner != nil && !s.inner.Closed() }

// Disconnect takes the socket out of its namespace. What was emitted to it before is sent
// first. A stock client does not reconnect by itself. The connection is closed when no
// other socket is left on it.
func (s *Socket) Disconnect() {
	if s.inner != nil {
		s.inner.Disconnect()
	}
}

// Close closes the socket's connection, and with it the client's sockets in other
// namespaces. What was emitted to them before is sent first. A stock client reconnects by
// itself.
func (s *Socket) Close() {
	if s.inner != nil {
		s.inner.Conn().Close(socketio.ReasonForcedClose)
	}
}

// EmitRaw emits an event with its arguments in wire format, without waiting for the
// network. It returns ErrClosed if the socket has closed, and an error for a name for which
// NewEvent panics, if an argument is not JSON or has a placeholder without attachment, and if the
// event exceeds Limits.OutboxBytes by itself. A nil error does not mean that the client receives the event.
func (s *Socket) EmitRaw(event string, args Raw) error {
	if err := checkRaw(event, args); err != nil {
		return err
	}
	if s.inner == nil {
		return ErrClosed
	}
	if err := sendable(s.ns.rt, event, args.Args, args.Attachments); err != nil {
		return err
	}
	return s.sendEvent(&socketio.Outgoing{Name: event, Attachments: args.Attachments}, args.Args)
}

func (s *Socket) emit(event string, arg []byte) error {
	if s.inner == nil {
		return ErrClosed
	}
	if err := sendable(s.ns.rt, event, [][]byte{arg}, nil); err != nil {
		return err
	}
	return s.sendEvent(&socketio.Outgoing{Name: event}, []json.RawMessage{arg})
}

func (s *Socket) sendEvent(e *socketio.Outgoing, args []json.RawMessage) error {
	var then func()
	if s.ns.inner.Keeps() { // the client may come back to another node
		e.Here = true
		e.Share = func(mark string) {
			m := ClusterMessage{Op: OpBroadcast, Namespace: s.ns.name, Rooms: []string{s.ID()}, Event: packEvent(e.Name, args, e.Attachments), Mark: mark}
			then = s.ns.rt.clusterHand(m.kept())
		}
	}
	took, size := s.inner.EmitEvent(e, args)
	if then != nil {
		then()
	}
	if !took {
		return ErrClosed
	}
	s.traceEmitted(e.Name, size)
	return nil
}

// last is an Emitter for what tells a socket that its connection or its authorization ends: a
// client that recovers does not get it later.
type last struct{ s *Socket }

func (l last) emit(event string, arg []byte) error {
	return l.s.send(event, socketio.EventMessage(l.s.ns.name, socketio.NoID, event, arg))
}

func (s *Socket) send(event string, ms ...*socketio.Message) error {
	if !s.inner.Send(ms...) {
		return ErrClosed
	}
	s.traceEmitted(event, socketio.SizeOf(ms))
	return nil
}

// trips returns the trips whose rooms the socket is in.
func (s *Socket) trips() (ids []string) {
	var few [8]string
	for _, name := range s.inner.AppendRooms(few[:0]) {
		if id, ok := tripOf(name); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// opened arms the expiry timer of a socket that has just been opened.
func (s *Socket) opened() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewLocked(s.identity, s.expiresAtLocked())
}

// renew stores the identity and arms the expiry timer.
func (s *Socket) renew(id Identity, expiresAt time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewLocked(id, expiresAt)
}

func (s *Socket) renewLocked(id Identity, expiresAt time.Time) {
	s.setIdentityLocked(id, expiresAt)
	if expiresAt.IsZero() || s.inner.Closed() {
		return
	}
	s.expiry.F = s.expired
	s.ns.rt.wheel.Arm(&s.expiry, time.Until(expiresAt))
}

// setIdentity stores the identity and the expiry time of a socket that is not open yet. It
// does not arm the expiry timer.
func (s *Socket) setIdentity(id Identity, expiresAt time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setIdentityLocked(id, expiresAt)
}

func (s *Socket) setIdentityLocked(id Identity, expiresAt time.Time) {
	s.identity, s.expires = id, 0
	if !expiresAt.IsZero() {
		s.expires = expiresAt.Add(time.Microsecond - 1).UnixMicro() // rounded up
	}
}

// expired sends auth:expired and closes the connection, so that the client reconnects with
// a new token.
func (s *Socket) expired() {
	at, due := s.expiryDue()
	if !due {
		return
	}
	s.expire(at)
}

// expire sends auth:expired and closes the connection. It reports whether the socket had not
// closed before.
func (s *Socket) expire(at time.Time) bool {
	if err := EventAuthExpired.Emit(last{s}, AuthExpiredPayload{At: Time{at}}); err != nil {
		return false // the socket has closed; its connection may carry other namespaces
	}
	s.Close()
	return true
}

// expireMissing expires a socket whose session does not exist, if it is still in that session. It
// reports whether it did. A handshake in progress ends with the connection too.
func (s *Socket) expireMissing(sessionID string) bool {
	return !s.inner.Closed() && s.Identity().SessionID == sessionID && s.expire(time.Now())
}

// expiryDue reports whether the socket has expired, and when. If the timer fired a tick too early,
// as timers of the wheel do, it arms it again: before its expiry the old token still admits the
// client that would come back.
func (s *Socket) expiryDue() (at time.Time, due bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at = s.expiresAtLocked()
	if s.ns.rt.wheel.Armed(&s.expiry) {
		return at, false // renewed after the timer had fired
	}
	if early := time.Until(at); early > 0 {
		if !s.inner.Closed() {
			s.ns.rt.wheel.Arm(&s.expiry, early)
		}
		return at, false
	}
	return at, true
}

// revoke sends auth:session_revoked and disconnects the socket, or refuses it if its
// handshake is in progress. If sessionID is not nil, it does so only if the socket is still in
// that session. It reports whether it did.
func (s *Socket) revoke(why Code, sessionID *string) bool {
	if s.inner.Closed() || sessionID != nil && s.Identity().SessionID != *sessionID {
		return false
	}
	if s.ns.refuse(s.inner, why) {
		return true
	}
	reason := string(why)
	_ = EventSessionRevoked.Emit(last{s}, SessionRevokedPayload{EventID: newEventID(), SessionID: sessionID, Reason: &reason, At: Time{time.Now()}}) // it fails if the socket has closed
	s.Disconnect()
	return true
}

// expireBy sets the socket's expiry to at, the expiry of its session, if at is earlier. It
// reports whether the socket has expired now. It changes nothing if the socket has another
// session now, or if it was renewed: its expiry is no longer expiresAt.
func (s *Socket) expireBy(sessionID string, expiresAt, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity.SessionID != sessionID || !s.expiresAtLocked().Equal(expiresAt) || !expiresAt.IsZero() && !at.Before(expiresAt) {
		return false
	}
	s.renewLocked(s.identity, at)
	return !at.After(time.Now())
}
