// A socket: the place of one connection in one namespace.

package socketio

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"unique"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/stackroom"
)

// States of a socket. It is pending while the layer above decides. When admitted, it is
// in rooms, but messages to it are held back. When open, it takes part. A closed socket
// is in no room and in no namespace.
const (
	socketPending = iota
	socketAdmitted
	socketOpen
	socketClosed
)

var (
	// ErrClosed means that the socket is closed.
	ErrClosed = errors.New("socket is closed")
	// ErrTooManyAcks means that Config.PendingAcks acks are awaited already.
	ErrTooManyAcks = errors.New("too many pending acks")
)

// Socket is one client in one namespace. Its methods may be called concurrently, and
// after it is closed, when they have no effect.
//
// state changes under Socket.mu but may be read without it. One goroutine at a time
// runs the queue: the one that set running, or that took the socket from the ready list
// of the connection.
type Socket struct {
	// Data belongs to the layer above; it is set before Admit.
	Data any

	conn  *Conn
	ns    *Namespace
	id    string
	order uint64  // order of admission to the namespace; guarded by mu
	next  *Socket // next socket on the ready list of the connection; guarded by Conn.mu until Serve takes the list
	state atomic.Int32
	// abandoned says that the goroutine that ran the queue was abandoned in a hook. It
	// changes under mu but may be read without it.
	abandoned atomic.Bool
	gate      engineio.Gate
	mem       *memory // nil if its client cannot recover; set before Admit

	mu            sync.Mutex // guards the fields below, and changes of state
	rooms         []*member
	first, last   *Event // the event queue
	acks          map[int64]pendingAck
	running       bool                  // a goroutine runs the queue, or the socket is on the ready list
	disconnectDue bool                  // the Disconnect hook must be called after the queued events
	wakeDue       bool                  // the Wake hook must be called after the queued events
	reason        unique.Handle[string] // of the end; it takes half the space of a string
}

func newSocket(c *Conn, n *Namespace) *Socket {
	var b [15]byte
	_, _ = rand.Read(b[:]) // never fails: if it could not read, it would end the program
	return &Socket{conn: c, ns: n, id: base64.RawURLEncoding.EncodeToString(b[:])}
}

// ID returns the public id of the socket.
func (s *Socket) ID() string { return s.id }

// Order returns a number that is lower for older sockets of the namespace: about when the
// socket was admitted, in microseconds since 1970. It is 0 before Admit.
func (s *Socket) Order() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.order
}

// Conn returns the connection.
func (s *Socket) Conn() *Conn { return s.conn }

// Namespace returns the namespace.
func (s *Socket) Namespace() *Namespace { return s.ns }

func (s *Socket) handshaking() bool { return s.state.Load() < socketOpen }

// Opened reports whether the socket is open.
func (s *Socket) Opened() bool { return s.state.Load() == socketOpen }

// Closed reports whether the socket is closed.
func (s *Socket) Closed() bool { return s.state.Load() == socketClosed }

// connect calls the Connect hook.
func (s *Socket) connect(payload []byte) {
	defer s.conn.srv.running.Done()
	defer s.ns.recoverPanic(s)
	stackroom.Reserve()
	s.ns.hooks.Connect(s, payload)
}

// Admit adds a pending socket to the namespace and to rooms. Messages to it are held
// back until Open. It returns false if the socket is not pending, because the client
// has disconnected.
func (s *Socket) Admit(rooms ...string) bool {
	s.mu.Lock()
	if s.state.Load() != socketPending {
		s.mu.Unlock()
		return false
	}
	s.state.Store(socketAdmitted)
	s.order = s.ns.nextOrder()
	if !s.ns.hooks.Anonymous {
		s.conn.countKnown(1)
	}
	s.ns.add(s)
	filled := s.joinLocked(rooms)
	s.mu.Unlock()
	s.ns.notifyRooms(filled)
	return true
}

// Open sends the answer to CONNECT, then ms, then the messages that were held back. It
// returns false if the socket is not admitted, because the client has disconnected.
// After true the Disconnect hook will be called.
func (s *Socket) Open(ms ...*Message) bool { return s.open(false, ms) }

// OpenThen is Open, and then calls first, before any event of the socket is handled.
func (s *Socket) OpenThen(first func(), ms ...*Message) bool {
	ok := s.open(true, ms)
	if ok {
		defer func() {
			if !s.rest() {
				go s.runGuarded(false)
			}
		}()
		first()
	}
	return ok
}

// open opens an admitted socket; running says that the caller runs its queue.
func (s *Socket) open(running bool, ms []*Message) bool {
	s.mu.Lock()
	if s.state.Load() != socketAdmitted {
		s.mu.Unlock()
		return false
	}
	s.state.Store(socketOpen)
	s.conn.past.Or(pastEntered)
	s.running = running
	s.conn.srv.running.Add(1) // until the Disconnect hook returns
	s.mu.Unlock()
	// If the client has disconnected, Conn.Closed is about to end the socket.
	s.conn.Cork() // so that Uncork writes on this goroutine and starts none
	s.conn.session.OpenGate(&s.gate, append([]*Message{s.conn.connectMessage(s)}, ms...)...)
	s.conn.Uncork()
	return true
}

// Refuse ends a pending or admitted socket with CONNECT_ERROR, and with DISCONNECT
// after it if disconnect is set. payload is the JSON object of CONNECT_ERROR. The
// connection stays open for another CONNECT. Refuse returns false if the socket was
// neither pending nor admitted.
func (s *Socket) Refuse(payload []byte, disconnect bool) bool {
	ms := []*Message{connectErrorMessage(s.ns.name, payload)}
	if disconnect {
		ms = append(ms, disconnectMessage(s.ns.name))
	}
	return s.refuse(ms)
}

// Drop ends a pending or admitted socket without an answer. It returns false if the
// socket was neither.
func (s *Socket) Drop() bool { return s.refuse(nil) }

// RefuseOpened ends a pending socket with the answer to CONNECT and a DISCONNECT after it,
// as if it had been open for a moment. It is never in the namespace, so that it receives
// nothing that is emitted meanwhile. If no other socket is left on the connection, the
// connection is closed too. RefuseOpened returns false if the socket is not pending.
func (s *Socket) RefuseOpened() bool {
	s.mu.Lock()
	if s.state.Load() != socketPending {
		s.mu.Unlock()
		return false
	}
	s.conn.leave(s.ns) // the client may send packets until it has read the DISCONNECT
	c := s.closeLocked("")
	s.mu.Unlock()
	s.finishClose(c, c.others == 0, s.conn.connectMessage(s), disconnectMessage(s.ns.name))
	return true
}

// refuse closes a pending or admitted socket and sends the last messages.
func (s *Socket) refuse(last []*Message) bool {
	s.mu.Lock()
	if !s.handshaking() {
		s.mu.Unlock()
		return false
	}
	c := s.closeLocked("")
	s.mu.Unlock()
	s.finishClose(c, false, last...)
	return true
}

// Disconnect removes the socket from the namespace and sends DISCONNECT. If no other
// socket is left on the connection, the connection is closed too. Disconnect does
// nothing if the socket is closed.
func (s *Socket) Disconnect() {
	s.mu.Lock()
	if s.Closed() {
		s.mu.Unlock()
		return
	}
	c := s.closeLocked(ReasonServer)
	s.mu.Unlock()
	s.finishClose(c, c.others == 0, disconnectMessage(s.ns.name))
}

// end ends the socket in any state, after the client has sent DISCONNECT or the
// connection has ended.
func (s *Socket) end(reason string) {
	s.mu.Lock()
	if s.Closed() {
		s.mu.Unlock()
		return
	}
	c := s.closeLocked(reason)
	s.mu.Unlock()
	s.finishClose(c, false)
}

// closing is the work that remains for a socket that closeLocked has closed.
type closing struct {
	wasOpen   bool
	left      bool     // Config.Left must be called, unless the connection is closed
	others    int      // sockets left on the connection
	emptied   []string // rooms without a socket now
	acks      map[int64]pendingAck
	unsettled bool // Conn.settle must be called
	run       bool // the queue must be run, up to the Disconnect hook
}

// closeLocked closes the socket: it leaves its rooms, its acks are no longer awaited,
// and if it was open the Disconnect hook is due after the queued events.
func (s *Socket) closeLocked(reason string) closing {
	c := closing{wasOpen: s.Opened(), acks: s.acks}
	// First, so that the client's next packet for the namespace is ignored.
	var closed bool
	c.others, closed = s.conn.removeSocket(s, c.wasOpen)
	s.leaveLocked(c.wasOpen, reason)
	wasAdmitted := s.state.Swap(socketClosed) != socketPending
	c.left = wasAdmitted && !closed
	if wasAdmitted && !s.ns.hooks.Anonymous {
		s.conn.countKnown(-1)
	}
	s.ns.remove(s)
	c.emptied = s.leaveRoomsLocked(s.rooms)
	s.acks = nil
	if !c.wasOpen {
		s.rooms = nil // otherwise the Disconnect hook reads them, and forgetRooms drops them
	}
	c.unsettled = s.conn.countAwaited(-waited(c.acks))
	if c.wasOpen {
		if reason == ReasonServer || reason == string(ReasonForcedClose) {
			// The server disconnects this client: its queued events are dropped.
			c.unsettled = s.dropLocked() || c.unsettled
		} else {
			s.wakeDue = s.ns.hooks.Wake != nil && !s.abandoned.Load()
		}
		s.disconnectDue, s.reason = true, unique.Make(reason)
		c.run = !s.running || s.abandoned.Load()
		s.running = true
	}
	return c
}

// finishClose does the work that remains after closeLocked: it sends the last messages, dismisses the client if dismiss is
// true, and fails the awaited acks.
func (s *Socket) finishClose(c closing, dismiss bool, last ...*Message) {
	s.conn.session.CloseGate(&s.gate, c.wasOpen, func() { s.conn.saidLast(dismiss) }, last...)
	if f := s.conn.srv.cfg.Left; f != nil && c.left && !dismiss {
		f(s)
	}
	if c.unsettled {
		s.conn.settle()
	}
	s.ns.notifyRooms(c.emptied)
	for _, a := range c.acks {
		s.callReply(a.f, Reply{Err: ErrClosed})
	}
	if c.run {
		go s.run()
	}
}

// leaveRoomsLocked ends memberships. If the namespace is watched, it returns the rooms that have no
// socket now.
func (s *Socket) leaveRoomsLocked(ms []*member) (emptied []string) {
	for _, m := range ms {
		if s.ns.leave(m) && s.ns.watched() {
			emptied = append(emptied, m.room.name)
		}
	}
	return emptied
}

// Rooms returns the names of the rooms that the socket is in. For a closed socket these
// are the rooms that it was in, until its Disconnect hook has returned.
func (s *Socket) Rooms() []string { return s.AppendRooms(nil) }

// AppendRooms appends the names of the rooms to a slice; it is Rooms without an
// allocation.
func (s *Socket) AppendRooms(to []string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	to = slices.Grow(to, len(s.rooms))
	for _, m := range s.rooms {
		to = append(to, m.room.name)
	}
	return to
}

// In reports whether the socket is in a room.
func (s *Socket) In(room string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.Closed() && s.roomLocked(room) >= 0
}

func (s *Socket) roomLocked(name string) int {
	return slices.IndexFunc(s.rooms, func(m *member) bool { return m.room.name == name })
}

// Send queues messages for the client, together and in order. It returns false if the
// socket is pending or closed.
func (s *Socket) Send(ms ...*Message) bool {
	switch s.state.Load() {
	case socketAdmitted, socketOpen:
		return s.conn.session.SendThrough(&s.gate, ms...)
	}
	return false
}
