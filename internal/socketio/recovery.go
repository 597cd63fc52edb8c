// Recovery: a client that has lost its connection gets its socket back, with the events that it
// missed. The client proves with the pid of its CONNECT reply that it had the socket, and the
// offset of the newest event says what it has received. Whether it may return is decided by the
// layer above.
//
// The protocol: https://socket.io/docs/v4/connection-state-recovery. How stock clients of 4.6 and
// later take part: they store the last argument of each event if it is a string, and send it with
// the pid in the next CONNECT.

package socketio

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"time"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/eventlog"
)

// RecoveryConfig bounds what a server keeps for recovery. Every field is required.
type RecoveryConfig struct {
	Window  time.Duration // how long a client can be away
	Events  int           // the maximum number of events that are kept
	Bytes   int           // the maximum size of these events
	Sockets int           // the maximum number of sockets whose clients are away
}

// Offsets is how a client gets the offsets of events.
type Offsets uint8

// Ways to get offsets.
const (
	// NoOffsets: the client gets none, and cannot recover.
	NoOffsets Offsets = iota
	// OffsetsBehind sends the offset in an event of its own behind each event, so that a client
	// that does not know offsets gets no argument that it does not expect.
	OffsetsBehind
	// OffsetsInside sends the offset as the last argument of each event.
	OffsetsInside
)

// OffsetEvent is the event with OffsetsBehind.
const OffsetEvent = "realtime:offset"

// Away is a socket whose client is away.
type Away = eventlog.Away

// memory is what a socket remembers for recovery. The first two fields do not change after Admit;
// Socket.mu guards the others, but for trail, which the session guards.
type memory struct {
	secret  eventlog.ID
	offsets Offsets
	joined  uint64 // see eventlog.Trail
	least   uint64 // likewise
	trail   engineio.Trail
	passing *passing // nil unless the socket begins or ends
}

// passing is the part of a memory at the beginning and at the end of a socket.
type passing struct {
	resumed *Away    // the socket that this one is, until Catch
	offset  uint64   // the position of its client's offset
	own     *Away    // after the end
	missed  []uint64 // before that: events that could not be queued, because the session had ended
}

// recoveryLog is the log of a server, with the text that its offsets begin with.
type recoveryLog struct {
	*eventlog.Log[[]*Message]
	epoch string
}

// findTimeout is how long a handshake waits for the end of the socket that it takes the place of.
const findTimeout = 2 * time.Second

func newRecoveryLog(c *RecoveryConfig, e *EngineConfig) *recoveryLog {
	if c == nil {
		return nil
	}
	return &recoveryLog{eventlog.New[[]*Message](eventlog.Config{
		Window: c.Window, Events: c.Events, Bytes: c.Bytes, Sockets: c.Sockets,
		CatchEvents: e.MaxOutboxMessages / 2, CatchBytes: e.MaxOutboxBytes / 2,
	}), rand.Text()[:epochLength]}
}

// moves returns a number that changes when a socket leaves its rooms, or returns to them.
func (l *recoveryLog) moves() uint64 {
	if l == nil {
		return 0
	}
	return l.Moves()
}

// awaits reports whether a client that is away may receive an event.
func (l *recoveryLog) awaits(to eventlog.Target) bool {
	return l != nil && len(to.Rooms) > 0 && l.Awaited(to)
}

// An offset is an epoch, which is of one start of a server, and a position with a fixed number of
// digits.
const (
	epochLength  = 8
	offsetLength = epochLength + eventlog.Digits
)

// offset returns the offset of a position.
func (l *recoveryLog) offset(at uint64) string {
	var b [offsetLength]byte
	copy(b[:], l.epoch)
	eventlog.PutPosition(b[epochLength:], at)
	return string(b[:])
}

// position returns the position of an offset, 0 for one of an earlier server. ok is false if the
// text is no offset.
func (l *recoveryLog) position(offset string) (at uint64, ok bool) {
	if len(offset) != offsetLength {
		return 0, false
	}
	if at, ok = eventlog.Position(offset[epochLength:]); !ok {
		return 0, false
	}
	if offset[:epochLength] != l.epoch {
		return 0, true
	}
	return at, true
}

// Recovers reports whether the server has recovery.
func (n *Namespace) Recovers() bool { return n.log != nil }

// Gap says that events of other nodes were lost: no client that is away can recover.
func (s *Server) Gap() {
	if s.log != nil {
		s.log.Gap()
	}
}

// Recoverable gives a pending socket a pid, and says how its client gets offsets. It is called
// before Admit, if the namespace recovers.
func (s *Socket) Recoverable(o Offsets) {
	if o == NoOffsets {
		return
	}
	s.mem = &memory{offsets: o}
	_, _ = rand.Read(s.mem.secret[:]) // never fails
	s.conn.session.Follow(&s.gate, &s.mem.trail)
}

// pid returns the secret of the CONNECT reply: the id of the socket and 160 random bits.
func (s *Socket) pid() string {
	return s.id + base64.RawURLEncoding.EncodeToString(s.mem.secret[:])
}

// PID is the pid of a CONNECT.
type PID struct {
	socket string
	secret eventlog.ID
}

// socketIDLength is the length of Socket.ID.
const socketIDLength = 20

// ParsePID returns the pid that a client has sent. ok is false if the text is none.
func ParsePID(text string) (p PID, ok bool) {
	if len(text) != socketIDLength+27 {
		return p, false
	}
	b, err := base64.RawURLEncoding.DecodeString(text[socketIDLength:])
	if err != nil || len(b) != len(p.secret) {
		return p, false
	}
	p.socket = text[:socketIDLength]
	copy(p.secret[:], b)
	return p, true
}

// Connected returns the socket of a pid if the server has not noticed that the client has left it,
// or nil.
func (n *Namespace) Connected(p PID) *Socket {
	s := n.Socket(p.socket)
	if s == nil || s.mem == nil || subtle.ConstantTimeCompare(s.mem.secret[:], p.secret[:]) == 0 {
		return nil
	}
	return s
}

// probeTime is how long a client has to answer before Supersede takes it for gone.
const probeTime = time.Second

// Supersede ends an open socket in favor of one of the same client, and reports whether it has. It
// first waits whether the client of this socket still answers: then it ends nothing.
func (s *Socket) Supersede(ctx context.Context) bool {
	if !s.Opened() || s.conn.session.Answers(ctx, probeTime) {
		return false
	}
	s.conn.session.Abort(engineio.ReasonTransportClose)
	s.end(string(engineio.ReasonTransportClose))
	return true
}

// Away returns the socket of a pid whose client is away, or nil.
func (n *Namespace) Away(ctx context.Context, p PID) *Away {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	a := n.log.Find(ctx, p.secret)
	if a == nil || a.Socket != p.socket || a.Namespace != n.name {
		return nil
	}
	return a
}

// Resume makes a pending socket the one that is away, and reports whether it did, or whether another
// one has taken it. offset is what the client has sent; nil for none. It is called after
// Recoverable and before Admit. If the socket ends before Open, its client may try again.
func (s *Socket) Resume(a *Away, offset *string) (ok, taken bool) {
	at := uint64(0)
	if offset != nil {
		if at, ok = s.ns.log.position(*offset); !ok {
			return false, false
		}
	}
	if ok, taken = s.ns.log.Take(a, at); !ok {
		return false, taken
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Load() != socketPending {
		s.ns.log.Return(a)
		return false, false
	}
	s.id, s.mem.secret, s.mem.passing = a.Socket, a.ID, &passing{resumed: a, offset: at}
	return true, false
}

// Catch returns the messages that a resumed socket has missed, and the number of events. It is called
// when the socket has joined its rooms, before Open. After false the socket is a new one, although
// with the former id: events are not kept any more, or they are too many, or the caller does not
// want it to recover.
func (s *Socket) Catch(wanted bool) (missed []*Message, events int, ok bool) {
	s.mu.Lock()
	a, offset := s.mem.passing.resumed, s.mem.passing.offset
	rooms := s.roomsLocked()
	s.mu.Unlock()
	c, ok := s.ns.log.Catch(a, offset, rooms)
	ok = ok && wanted
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mem.passing, s.mem.joined, s.mem.least = nil, a.Trail.Joined, a.Trail.Least
	if slices.ContainsFunc(rooms, func(name string) bool { return !slices.Contains(a.Rooms, name) }) {
		s.mem.joined = c.Head
	}
	if !ok {
		_, _ = rand.Read(s.mem.secret[:]) // never fails
		s.mem.joined, s.mem.least = 0, 0
		return nil, 0, false
	}
	for _, e := range c.Missed {
		for _, m := range e.Event {
			missed = append(missed, m.Placed(e.At))
		}
	}
	s.conn.session.SetTrail(&s.gate, engineio.NewTrail(a.Trail.Start, c.Head, c.Recent))
	return missed, len(c.Missed), true
}

// roomsLocked returns the names of the rooms, and the socket's id.
func (s *Socket) roomsLocked() []string {
	names := make([]string, 0, len(s.rooms)+1)
	for _, m := range s.rooms {
		names = append(names, m.room.name)
	}
	return append(names, s.id)
}

// leaveLocked records in the log that the socket is away, before it leaves its rooms, unless it
// was ended on purpose.
func (s *Socket) leaveLocked(wasOpen bool, reason string) {
	m := s.mem
	switch {
	case m == nil:
	case !wasOpen && m.passing != nil:
		s.ns.log.Return(m.passing.resumed)
	case wasOpen && reason != ReasonServer && reason != ReasonClient:
		if m.passing == nil {
			m.passing = &passing{}
		}
		m.passing.own = &Away{ID: m.secret, Namespace: s.ns.name, Socket: s.id, Rooms: s.roomsLocked()}
		s.ns.log.Leave(m.passing.own)
		for _, at := range m.passing.missed {
			s.ns.log.Missed(m.passing.own, at)
		}
		m.passing.missed = nil
	}
}

// missed records an event that could not be queued, although the socket was selected for it.
func (s *Socket) missed(at uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.mem
	switch {
	case m == nil:
	case m.passing != nil && m.passing.own != nil:
		s.ns.log.Missed(m.passing.own, at)
	case s.Opened():
		if m.passing == nil {
			m.passing = &passing{}
		}
		m.passing.missed = append(m.passing.missed, at)
	}
}

// Settle allows the client of a closed socket to return, with what Away.Owner is to be. Only the
// Disconnect hook calls it, as the last thing.
func (s *Socket) Settle(owner any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mem == nil || s.mem.passing == nil || s.mem.passing.own == nil {
		return
	}
	t := s.conn.session.TrailOf(&s.gate)
	trail := eventlog.Trail{Start: t.Start, Recent: t.Recent, Dropped: t.Dropped, Joined: s.mem.joined, Least: s.mem.least}
	for _, late := range t.Lates {
		trail.Lates = append(trail.Lates, eventlog.Late(late))
	}
	s.ns.log.Settle(s.mem.passing.own, trail, owner)
}
