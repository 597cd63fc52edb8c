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
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/eventlog"
)

// RecoveryConfig bounds what is kept for recovery. Every field is required.
type RecoveryConfig struct {
	Window  time.Duration // how long a client can be away
	Events  int           // the maximum number of events that are kept in all namespaces
	Bytes   int           // the maximum size of these events
	Sockets int           // the maximum number of sockets of a namespace whose clients are away
	// Everything keeps the events for which nobody of this node waits too, because clients of other
	// nodes may come.
	Everything bool
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

// recoveryLog is the log of a namespace.
type recoveryLog struct {
	*eventlog.Log[[]*Message]
	everything bool
}

// unnoticedSlack is how much later than its heartbeat times out the end of a connection may be noticed.
const unnoticedSlack = 5 * time.Second

// firstPosition is eventlog.Config.First, if a node may get the log of another one. A log has fewer events.
const firstPosition = 1 << 31

// findTimeout is how long a handshake waits for the end of the socket that it takes the place of.
const findTimeout = 2 * time.Second

func newRecoveryLog(c *RecoveryConfig, e *EngineConfig, b *eventlog.Budget[[]*Message]) *recoveryLog {
	cfg := eventlog.Config[[]*Message]{
		Window: c.Window, Everything: c.Everything, Unnoticed: e.PingInterval + e.PingTimeout + unnoticedSlack, Budget: b, Sockets: c.Sockets,
		Catch: eventlog.Load{Messages: e.MaxOutboxMessages / 2, Bytes: e.MaxOutboxBytes / 2},
	}
	copy(cfg.Emitter[:], rand.Text())
	if c.Everything {
		cfg.First = firstPosition
	}
	return &recoveryLog{eventlog.New[[]*Message](cfg), c.Everything}
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

// Recovers reports whether the server has recovery.
func (n *Namespace) Recovers() bool { return n.log != nil }

// Keeps reports whether the log keeps all events that are neither volatile nor have a key.
func (n *Namespace) Keeps() bool { return n.log != nil && n.log.everything }

// Recoverable gives a pending socket a pid, and says how its client gets offsets. It is called
// before Admit, if the namespace recovers.
func (s *Socket) Recoverable(o Offsets) {
	if o == NoOffsets {
		return
	}
	m := &memory{offsets: o}
	_, _ = rand.Read(m.secret[:]) // never fails
	at, label := s.ns.log.Reserve()
	m.start = at
	m.trail.Begin(at)
	if s.ns.Keeps() {
		m.more = &memories{label: label}
	}
	s.mu.Lock() // the client may disconnect meanwhile
	defer s.mu.Unlock()
	s.mem = m
}

// pid returns the secret of the CONNECT reply: the id of the socket and 160 random bits.
func (s *Socket) pid() string {
	return s.id + base64.RawURLEncoding.EncodeToString(s.mem.secret[:])
}

// PID is the pid of a CONNECT.
type PID struct {
	socket string
	secret [20]byte
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

// Socket returns the id of the socket.
func (p PID) Socket() string { return p.socket }

// ID returns the name under which the nodes know the socket.
func (p PID) ID() eventlog.ID { return idOf(p.secret) }

func idOf(secret [20]byte) (id eventlog.ID) {
	sum := sha256.Sum256(secret[:])
	copy(id[:], sum[:])
	return id
}

// Connected returns the socket of a pid if the server has not noticed that the client has left it,
// or nil.
func (n *Namespace) Connected(p PID) *Socket {
	s := n.Socket(p.socket)
	if s == nil || s.mem == nil {
		return nil
	}
	secret := s.secret()
	if subtle.ConstantTimeCompare(secret[:], p.secret[:]) == 0 {
		return nil
	}
	return s
}

// secret returns the secret of the socket's pid, which changes if Catch fails.
func (s *Socket) secret() [20]byte {
	s.ns.log.Pause()
	defer s.ns.log.End()
	return s.mem.secret
}

// ConnectedAs is Connected for the id of a pid.
func (n *Namespace) ConnectedAs(id eventlog.ID, socket string) *Socket {
	s := n.Socket(socket)
	if s == nil || s.mem == nil || idOf(s.secret()) != id {
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

// Away returns the socket whose client is away from this node, or nil.
func (n *Namespace) Away(ctx context.Context, id eventlog.ID, socket string) *Away {
	ctx, cancel := context.WithTimeout(ctx, findTimeout)
	defer cancel()
	a := n.log.Find(ctx, id)
	if a == nil || a.Socket != socket {
		return nil
	}
	return a
}

// Resume makes a pending socket the one that is away, and reports whether it did, or whether another
// one has taken it. offset is what the client has sent; nil for none. It is called after
// Recoverable and before Admit. If the socket ends before Open, its client may try again.
func (s *Socket) Resume(a *Away, p PID, offset *string) (ok, taken bool) {
	if ok, taken = s.ns.log.Take(a, offset); !ok {
		return false, taken
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Load() != socketPending {
		s.ns.log.Pause()
		defer s.ns.log.End()
		s.ns.log.Return(a)
		return false, false
	}
	s.id, s.mem.secret = a.Socket, p.secret
	s.mem.further().resumed, s.mem.unusual = a, true
	return true, false
}

// Catch returns the messages that a resumed socket has missed, and the number of events. It is called
// when the socket has joined its rooms, before Open. After false the socket is a new one, although
// with the former id: events are not kept any more, or they are too many, or the caller does not
// want it to recover. p is what another node has, if the socket lacks it, otherwise nil.
func (s *Socket) Catch(wanted bool, p *Part) (missed []*Message, events int, ok bool) {
	s.mu.Lock()
	a := s.mem.more.resumed
	rooms := s.roomsLocked()
	s.mu.Unlock()
	s.ns.log.Pause()
	defer s.ns.log.End()
	c, ok := s.ns.log.Catch(a, rooms, p)
	m := s.mem
	more := &memories{label: m.more.label}
	m.start, m.more, m.unusual = c.Head, more, false
	m.trail.Begin(c.Head)
	if ok = ok && wanted; !ok {
		_, _ = rand.Read(m.secret[:]) // never fails
		return nil, 0, false
	}
	more.turn, more.since, more.ahead = a.Turn+1, c.Seen, c.Ahead
	more.beyond, more.after = c.Beyond, c.After
	m.unusual = len(c.Ahead) > 0
	if s.ns.Keeps() {
		more.label = c.Label
	}
	more.former = a.Former
	s.rejoins(rooms, a, c.Head)
	return slices.Concat(c.Missed...), len(c.Missed), true
}

// rejoins records the rooms of a resumed socket: it has joined some at a position, and was in the others before.
func (s *Socket) rejoins(rooms []string, a *Away, at uint64) {
	then := make(map[string]eventlog.Room, len(a.Rooms))
	for _, r := range a.Rooms {
		then[r.Name] = r
	}
	for _, name := range rooms {
		switch r, ok := then[name]; {
		case !ok:
			s.joins(name, at)
		case !r.Since.Zero():
			s.keepsRoom(r)
		}
	}
}

// MaxRooms is the maximum number of rooms of a socket whose client can come to another node.
const MaxRooms = eventlog.MaxRooms

// shareable reports whether other nodes understand the record of a socket. With too many nodes or rooms they do
// not.
func shareable(a *Away) bool {
	whole := func(label string) bool { return label != "" && !strings.HasSuffix(label, eventlog.Incomplete) }
	return len(a.Rooms) <= MaxRooms && whole(a.Label) && !slices.ContainsFunc(a.Rooms, func(r eventlog.Room) bool { return r.Label != "" && !whole(r.Label) })
}

// Record describes an open socket for other nodes. ok is false if its client cannot recover there.
func (s *Socket) Record() (r eventlog.Record, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mem == nil || !s.ns.Keeps() || !s.Opened() {
		return r, false
	}
	rooms := s.roomsLocked()
	s.ns.log.Pause()
	defer s.ns.log.End()
	a := s.away(rooms)
	return s.ns.log.Record(a), shareable(a)
}

// RecoveryID returns the id of the socket for other nodes. ok is false if its client cannot recover.
func (s *Socket) RecoveryID() (id eventlog.ID, ok bool) {
	if s.mem == nil {
		return id, false
	}
	return idOf(s.secret()), true
}

// leaveLocked records in the log that the socket is away, before it leaves its rooms, unless it
// was ended on purpose.
func (s *Socket) leaveLocked(wasOpen bool, reason string) {
	m := s.mem
	if m == nil {
		return
	}
	s.ns.log.Pause()
	defer s.ns.log.End()
	switch {
	case !wasOpen && m.more != nil && m.more.resumed != nil:
		s.ns.log.Return(m.more.resumed)
	case wasOpen && reason != ReasonServer && reason != ReasonClient:
		m.further().left = s.away(s.roomsLocked())
		s.ns.log.Leave(m.more.left)
	}
}

// Settle allows the client of a closed socket to return, with what Away.Owner is to be. It returns nil
// if the client may not return at all. Only the Disconnect hook calls it, as the last thing.
func (s *Socket) Settle(owner any) *Away {
	if s.mem == nil {
		return nil
	}
	s.ns.log.Pause()
	var left *Away
	if s.mem.more != nil {
		left = s.mem.more.left
	}
	s.ns.log.End()
	if left != nil {
		s.ns.log.Settle(left, owner)
	}
	return left
}
