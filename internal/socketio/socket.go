// A socket: one connection's place in one namespace.

package socketio

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rodando/realtime/internal/engineio"
)

// A socket is pending while the layer above decides; admitted, it is in rooms
// but what is sent to it is held back; open, it takes part; closed, it is gone.
const (
	socketPending = iota
	socketAdmitted
	socketOpen
	socketClosed
)

// ErrClosed says that a socket is gone.
var ErrClosed = errors.New("socket is closed")

// Socket is one client in one namespace.
//
// Socket.mu guards the fields below it and is never held while calling a hook.
// A room's lock may be taken while holding it, not the other way round. One
// goroutine at a time runs the queue: the one that set running.
type Socket struct {
	// Data is the layer above's own; set before Open.
	Data any

	conn *Conn
	ns   *Namespace
	id   string

	state atomic.Int32
	hold  atomic.Pointer[hold]

	mu      sync.Mutex
	rooms   []*member
	running bool
	reason  string
	gone    bool // the Disconnect hook is due behind the queue
	queue   []*Event
	acks    map[int64]func(Reply)
}

// hold keeps what is sent to an admitted socket until it is open.
type hold struct {
	mu       sync.Mutex
	released bool
	ms       []*engineio.Message
}

// Reply is a client's answer to an emit with ack. Err is ErrClosed when the
// socket ended first.
type Reply struct {
	Args        [][]byte
	Attachments [][]byte
	Err         error
}

func newSocket(c *Conn, n *Namespace) *Socket {
	var b [15]byte
	_, _ = rand.Read(b[:]) // never fails, the program ends instead
	return &Socket{conn: c, ns: n, id: base64.RawURLEncoding.EncodeToString(b[:])}
}

// ID returns the socket's public id.
func (s *Socket) ID() string { return s.id }

// Conn returns the connection.
func (s *Socket) Conn() *Conn { return s.conn }

// Namespace returns the namespace.
func (s *Socket) Namespace() *Namespace { return s.ns }

func (s *Socket) opened() bool { return s.state.Load() == socketOpen }

// Closed reports whether the socket is gone.
func (s *Socket) Closed() bool { return s.state.Load() == socketClosed }

// Admit puts a pending socket into the namespace and into rooms. Until Open,
// what is sent to it is held back. It reports false when the client is gone.
func (s *Socket) Admit(rooms ...string) bool {
	s.hold.Store(&hold{})
	if !s.state.CompareAndSwap(socketPending, socketAdmitted) {
		return false
	}
	s.ns.add(s)
	if s.Closed() { // in between; close did not see it in the namespace
		s.ns.remove(s)
		return false
	}
	return s.Join(rooms...)
}

// Open tells the client that it is connected, followed by ms and by what was
// held back. It reports false when the client is gone.
func (s *Socket) Open(ms ...*engineio.Message) bool {
	h := s.hold.Load()
	h.mu.Lock()
	defer h.mu.Unlock()
	if !s.state.CompareAndSwap(socketAdmitted, socketOpen) {
		return false
	}
	all := make([]*engineio.Message, 0, 1+len(ms)+len(h.ms))
	all = append(append(append(all, connected(s.ns.name, s.id)), ms...), h.ms...)
	ok := s.conn.send(all...)
	h.released, h.ms = true, nil
	s.hold.Store(nil)
	return ok
}

// Refuse ends a pending or admitted socket with CONNECT_ERROR, payload being
// its JSON object. The connection stays, for another try.
func (s *Socket) Refuse(payload []byte) {
	if s.Drop() {
		s.conn.send(connectError(s.ns.name, payload))
	}
}

// Drop ends a pending or admitted socket without a word and reports whether it
// was one.
func (s *Socket) Drop() bool {
	for _, from := range []int32{socketPending, socketAdmitted} {
		if s.state.CompareAndSwap(from, socketClosed) {
			s.leaveAll()
			s.conn.forget(s, false)
			s.conn.waitForConnect()
			return true
		}
	}
	return false
}

// Disconnect takes the socket out of the namespace and tells the client. The
// connection is closed too when no other socket is left on it.
func (s *Socket) Disconnect() {
	if others, ok := s.leave(ReasonServer, disconnected(s.ns.name)); ok && others == 0 {
		s.conn.session.Close(engineio.ReasonForcedClose)
	}
}

// leave ends the socket while the connection lives on.
func (s *Socket) leave(reason string, last ...*engineio.Message) (others int, ok bool) {
	if s.Drop() {
		s.conn.send(last...)
		return len(s.conn.Sockets()), true
	}
	if !s.close(reason) {
		return 0, false
	}
	s.conn.send(last...)
	others = s.conn.forget(s, true)
	s.conn.waitForConnect()
	return others, true
}

// close ends the socket: out of its rooms, acks failed, the Disconnect hook
// called behind what was queued, if it was open.
func (s *Socket) close(reason string) bool {
	was := s.state.Swap(socketClosed)
	if was == socketClosed {
		return false
	}
	s.leaveAll()
	s.mu.Lock()
	acks := s.acks
	s.acks = nil
	s.mu.Unlock()
	for _, f := range acks {
		f(Reply{Err: ErrClosed})
	}
	if was != socketOpen {
		return true
	}
	s.mu.Lock()
	s.gone, s.reason = true, reason
	run := !s.running
	s.running = true
	if reason == ReasonServer { // nothing of a socket that was thrown out counts any more
		s.discardLocked()
	}
	s.mu.Unlock()
	if run {
		go s.run()
	}
	return true
}

func (s *Socket) leaveAll() {
	s.ns.remove(s)
	s.mu.Lock()
	rooms := s.rooms
	s.rooms = nil
	s.mu.Unlock()
	for _, m := range rooms {
		s.ns.part(m)
	}
}

// Join puts the socket into rooms. It reports false when the socket is gone.
func (s *Socket) Join(rooms ...string) bool {
	var fresh []string
	s.mu.Lock()
	for _, name := range rooms {
		if s.roomLocked(name) >= 0 {
			continue
		}
		m, first := s.ns.join(s, name)
		s.rooms = append(s.rooms, m)
		if first {
			fresh = append(fresh, name)
		}
	}
	s.mu.Unlock()
	for _, name := range fresh {
		s.ns.hooks.Room(name)
	}
	if s.Closed() { // leaveAll may have come before
		s.leaveAll()
		return false
	}
	return true
}

// Leave takes the socket out of rooms.
func (s *Socket) Leave(rooms ...string) {
	var left []*member
	s.mu.Lock()
	for _, name := range rooms {
		if i := s.roomLocked(name); i >= 0 {
			left = append(left, s.rooms[i])
			s.rooms = slices.Delete(s.rooms, i, i+1)
		}
	}
	s.mu.Unlock()
	for _, m := range left {
		s.ns.part(m)
	}
}

// Rooms returns the names of the rooms that the socket is in.
func (s *Socket) Rooms() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make([]string, len(s.rooms))
	for i, m := range s.rooms {
		names[i] = m.room.name
	}
	return names
}

// EachRoom calls f with the names of the socket's rooms until it returns false.
// f must not call the socket.
func (s *Socket) EachRoom(f func(name string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.rooms {
		if !f(m.room.name) {
			return
		}
	}
}

// In reports whether the socket is in a room.
func (s *Socket) In(room string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.roomLocked(room) >= 0
}

func (s *Socket) roomLocked(name string) int {
	return slices.IndexFunc(s.rooms, func(m *member) bool { return m.room.name == name })
}

// Send sends messages to the client, together.
func (s *Socket) Send(ms ...*engineio.Message) bool { return s.deliver(ms) }

func (s *Socket) deliver(ms []*engineio.Message) bool {
	if h := s.hold.Load(); h != nil {
		h.mu.Lock()
		if !h.released {
			h.ms = append(h.ms, ms...)
			h.mu.Unlock()
			return true
		}
		h.mu.Unlock()
	}
	return s.opened() && s.conn.send(ms...)
}

// Expect registers f for the ack with an id of Namespace.NextID. It is called
// once, on any goroutine, and must not block; Forget takes it back.
func (s *Socket) Expect(id int64, f func(Reply)) {
	s.mu.Lock()
	if !s.Closed() {
		if s.acks == nil {
			s.acks = map[int64]func(Reply){}
		}
		s.acks[id] = f
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	f(Reply{Err: ErrClosed})
}

// Forget gives up waiting for an ack.
func (s *Socket) Forget(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.acks, id)
}

func (s *Socket) acknowledged(id int64, args, attachments [][]byte) {
	s.mu.Lock()
	f := s.acks[id]
	delete(s.acks, id)
	s.mu.Unlock()
	if f != nil { // else too late, or an invention of the client's
		f(Reply{Args: args, Attachments: attachments})
	}
}

// Ask emits an event with an ack and waits for it, until ctx ends.
func (s *Socket) Ask(ctx context.Context, event func(id int64) []*engineio.Message) (Reply, error) {
	id := s.ns.NextID()
	answer := make(chan Reply, 1)
	s.Expect(id, func(r Reply) { answer <- r })
	if !s.deliver(event(id)) {
		s.Forget(id)
		return Reply{}, ErrClosed
	}
	select {
	case r := <-answer:
		return r, r.Err
	case <-ctx.Done():
		s.Forget(id)
		return Reply{}, ctx.Err()
	}
}

// enqueue puts an event behind those that wait.
func (s *Socket) enqueue(e *Event) {
	s.mu.Lock()
	if s.gone || s.Closed() {
		s.mu.Unlock()
		return
	}
	s.queue = append(s.queue, e)
	idle := !s.running
	s.running = true
	s.mu.Unlock()
	s.conn.queued(s, e.size, idle)
}

// run handles events until none waits.
func (s *Socket) run() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.queue = nil
			gone := s.gone
			s.gone = false
			s.running = gone // once gone, nothing runs any more
			s.mu.Unlock()
			if gone {
				s.ns.hooks.Disconnect(s, s.reason)
			}
			return
		}
		e := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		s.mu.Unlock()
		s.conn.taken(1, e.size)
		s.ns.hooks.Event(s, e)
	}
}

func (s *Socket) discardLocked() {
	events, size := len(s.queue), 0
	for _, e := range s.queue {
		size += e.size
	}
	s.queue = nil
	if events > 0 {
		go s.conn.taken(events, size) // takes the connection's lock, which comes first
	}
}

// Event is an event that a client sent.
type Event struct {
	Name        string
	Args        [][]byte // raw JSON
	Attachments [][]byte // what the placeholders in Args stand for

	socket *Socket
	id     int64
	size   int
}

// WantsAck reports whether the client waits for an answer.
func (e *Event) WantsAck() bool { return e.id != NoID }

// Ack answers the event. It does nothing when no answer is wanted; calling it
// twice is a mistake.
func (e *Event) Ack(attachments [][]byte, args ...[]byte) {
	if e.id != NoID {
		e.socket.deliver(withAttachments(ackMessage(e.socket.ns.name, e.id, len(attachments), args), attachments))
	}
}
