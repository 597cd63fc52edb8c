// Socket: one authenticated client in one namespace, as handlers see it.

package realtime

import (
	"net/netip"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/ratelimit"
	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/timingwheel"
)

// Socket is one client in one namespace, from hello to the end of its connection or its
// DISCONNECT; a client that comes back is a new Socket. Its events are handled one at a
// time, in the order in which they were sent, and OnDisconnect comes after the last of
// them. All methods may be called concurrently. Those that change or send something do
// nothing once the socket has closed: Join then reports false, and what emits returns
// ErrClosed.
type Socket struct {
	inner *socketio.Socket
	ns    *Namespace
	shard uint8 // of the watchdog
	// admitted is written by the handshake, which ends before any event; false is a
	// socket that is refused by Compat.RefuseAfterConnect.
	admitted bool
	rates    ratelimit.Socket // used by dispatch alone, whose calls come one at a time

	mu       sync.Mutex // guards what follows
	identity Identity
	expires  int64 // in microseconds since 1970, as a time.Time has three times the bytes; 0: never
	expiry   timingwheel.Timer
	data     map[any]any // of SocketKeys; nil while there are none
}

// ID returns the socket's id, which is public: it is no secret and no proof.
func (s *Socket) ID() string { return s.inner.ID() }

// Namespace returns the namespace that the socket is in.
func (s *Socket) Namespace() *Namespace { return s.ns }

// Identity returns who the socket belongs to, as the handshake found it.
func (s *Socket) Identity() Identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.identity
}

// ExpiresAt returns when the socket's authorisation ends; zero: never.
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

// RemoteAddr returns the address of the client: behind Options.TrustedProxies the one
// that they forward, else that of whoever has connected, which is a proxy when it is not
// among them. It is not valid when that has none, as in memory or on a unix socket.
func (s *Socket) RemoteAddr() netip.Addr { return s.conn().Addr() }

// Transport returns what carries the connection now: a client may begin with
// TransportPolling and go on with TransportWebSocket.
func (s *Socket) Transport() Transport { return Transport(s.inner.Conn().Transport()) }

func (s *Socket) conn() *connState { return s.inner.Conn().Data.(*connState) }

// Join puts the socket into rooms and reports whether it is still connected.
func (s *Socket) Join(rooms ...Room) bool { return s.inner.Join(names(rooms)...) }

// Leave takes the socket out of rooms.
func (s *Socket) Leave(rooms ...Room) { s.inner.Leave(names(rooms)...) }

// Rooms returns the rooms that the socket is in. Once it has closed they are those that
// it was in, until the last function of OnDisconnect has returned.
func (s *Socket) Rooms() []Room { return roomsNamed(s.inner.Rooms()) }

// Connected reports whether the socket has not closed. It may close at any time.
func (s *Socket) Connected() bool { return !s.inner.Closed() }

// Disconnect takes the socket out of its namespace; a stock client does not
// come back by itself. What was emitted to it before arrives first. The
// connection is closed when no other socket is left on it.
func (s *Socket) Disconnect() { s.inner.Disconnect() }

// Close closes the connection under the socket, and with it the client's
// sockets in other namespaces; a stock client reconnects. What was emitted
// before arrives first.
func (s *Socket) Close() { s.inner.Conn().Close(socketio.ReasonForcedClose) }

// EmitRaw emits an event by its arguments as they go on the wire, without waiting for
// the network. The error is ErrClosed for a socket that has closed. That it is nil does
// not say that the client has received the event, or will.
func (s *Socket) EmitRaw(event string, args Raw) error {
	return s.send(event, socketio.EventMessages(s.ns.name, socketio.NoID, event, args.Args, args.Attachments)...)
}

func (s *Socket) emit(event string, arg []byte) error {
	return s.send(event, socketio.EventMessage(s.ns.name, socketio.NoID, event, arg))
}

func (s *Socket) send(event string, ms ...*socketio.Message) error {
	if !s.inner.Send(ms...) {
		return ErrClosed
	}
	s.traceEmitted(event, ms)
	return nil
}

// trips are those whose rooms the socket is in.
func (s *Socket) trips() (ids []string) {
	var few [8]string
	for _, name := range s.inner.AppendRooms(few[:0]) {
		if id, ok := tripOf(name); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// renew sets whose the socket is and when that ends.
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

// setIdentity is renew without the timer, for a socket that is not open yet.
func (s *Socket) setIdentity(id Identity, expiresAt time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setIdentityLocked(id, expiresAt)
}

func (s *Socket) setIdentityLocked(id Identity, expiresAt time.Time) {
	s.identity, s.expires = id, 0
	if !expiresAt.IsZero() {
		s.expires = expiresAt.Add(time.Microsecond - 1).UnixMicro() // not before it
	}
}

// expired tells the client that its authorisation has ended and closes the
// transport, so that it comes back with a fresh token.
func (s *Socket) expired() {
	s.mu.Lock()
	at, renewed := s.expiresAtLocked(), s.ns.rt.wheel.Armed(&s.expiry)
	s.mu.Unlock()
	if renewed {
		return // while this began
	}
	if err := EventAuthExpired.Emit(s, AuthExpiredPayload{At: Time{at}}); err == nil {
		s.Close() // else it is gone, and the connection others'
	}
}

// revoke tells the client that its rights are gone, and disconnects the socket:
// with a session, only if it is still in that one.
func (s *Socket) revoke(why Code, sid *string) bool {
	if s.inner.Closed() || sid != nil && s.Identity().SessionID != *sid {
		return false
	}
	reason := string(why)
	_ = EventSessionRevoked.Emit(s, SessionRevokedPayload{EventID: newEventID(), SID: sid, Reason: &reason, At: Time{time.Now()}}) // gone, if this fails
	s.Disconnect()
	return true
}

// expireBy brings the socket's end forward to that of its session, and reports
// whether that is now. A socket that has been renewed since its end was until, or has
// moved to another session, is left as it is.
func (s *Socket) expireBy(sid string, until, at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.identity.SessionID != sid || !s.expiresAtLocked().Equal(until) || !until.IsZero() && !at.Before(until) {
		return false
	}
	s.renewLocked(s.identity, at)
	return !at.After(time.Now())
}
