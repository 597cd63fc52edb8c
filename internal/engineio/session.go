// A session: one client, whatever transport carries it at the moment.

package engineio

import (
	"runtime/debug"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/rodando/realtime/internal/timingwheel"
)

// pollGap is how long a polling client may stay away between two polls before
// it counts as not writable.
const pollGap = time.Second

// Session is one client's connection.
//
// Session.recv is held while messages are handed to the handler, which makes
// them one at a time across transports, and guards work. Session.mu guards
// everything below it and is never held while writing to a network or calling
// the handler; where both are taken, recv comes first.
type Session struct {
	srv     *Server
	id      string
	handler Handler

	recv sync.Mutex
	work bool // messages were handed on since the last Serve
	rev3 bool // the client speaks revision 3; set before the session is shared, as is b64
	b64  bool // and wants binary messages as base64

	mu       sync.Mutex
	out      outbox
	state    uint8
	woken    bool // somebody has arranged to flush the outbox
	pinged   bool // a ping is unanswered
	paused   bool // the handler wants no more messages for now
	unread   bool // it has been paused since the timer was armed
	left     bool // the client itself said that it closes
	pollSeen time.Time
	resume   chan struct{}     // closed by Resume; made when somebody waits for it
	ws       *wsConn           // nil while polling is the transport
	probe    *wsConn           // a websocket that is about to take over
	poll     chan struct{}     // wakes the open poll; nil when none is open
	polled   chan struct{}     // closed when a poll arrives; nil unless a close waits for it
	post     *post             // a POST under way
	timer    timingwheel.Timer // heartbeat; once closing, the close timeout
}

// ID returns the session's id, which is a secret between client and server.
func (s *Session) ID() string { return s.id }

// Revision returns the revision of the protocol that the client speaks, 4 or 3.
func (s *Session) Revision() int {
	if s.rev3 {
		return 3
	}
	return 4
}

// Transport returns the name of the current transport.
func (s *Session) Transport() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ws != nil {
		return "websocket"
	}
	return "polling"
}

// openPacket is the first packet a client gets.
func (s *Session) openPacket(upgrades bool) []byte {
	tail := s.srv.open[0]
	if upgrades {
		tail = s.srv.open[1]
	}
	b := make([]byte, 0, len(tail)+len(s.id)+12)
	b = append(b, packetOpen)
	b = append(b, `{"sid":"`...)
	b = append(b, s.id...)
	b = append(b, `",`...)
	return append(b, tail...)
}

// start begins the heartbeat of a session that the server has just added.
func (s *Session) start() {
	s.mu.Lock()
	s.pollSeen = time.Now()
	switch {
	case s.state != stateOpen:
	case s.rev3: // as if a ping were unanswered: the client's is awaited
		s.pinged = true
		s.srv.cfg.Wheel.Arm(&s.timer, s.srv.cfg.PingInterval+s.srv.cfg.PingTimeout)
	default:
		s.srv.cfg.Wheel.Arm(&s.timer, s.srv.cfg.PingInterval)
	}
	over := s.state == stateClosed // so soon that there was nothing to remove
	s.mu.Unlock()
	if over {
		s.srv.remove(s)
	}
}

// timedOut runs when the session's timer fires: a ping is due, a pong is
// overdue, or a close took too long. Everybody's timeouts wait for it, so it
// neither enters the layer above nor waits for the network.
func (s *Session) timedOut() {
	s.mu.Lock()
	ping := false
	switch {
	case s.srv.cfg.Wheel.Armed(&s.timer): // a pong or a close came first
	case s.state == stateOpen && !s.pinged:
		s.pinged, ping = true, true
		s.armLocked(s.srv.cfg.PingTimeout)
	case s.state == stateOpen && s.unread: // the answer may be there
		s.armLocked(s.srv.cfg.PingTimeout)
	case s.state == stateOpen:
		s.abortSoonLocked(ReasonPingTimeout)
	default:
		s.abortSoonLocked(ReasonForcedClose)
	}
	s.mu.Unlock()
	if ping {
		s.Send(pingMessage)
	}
}

// armLocked begins another stretch of the heartbeat. What is not read meanwhile
// because of Pause is not held against the client.
func (s *Session) armLocked(d time.Duration) {
	s.unread = s.paused
	s.srv.cfg.Wheel.Arm(&s.timer, d)
}

var pingMessage = control(string(packetPing))

// Send queues messages, together and in order, and reports whether the session
// took them. It does not block, and calls nobody: the caller may hold locks that
// the handler takes. A session that is full is ended with ReasonSlowConsumer,
// rather than losing a message silently; the handler's Closed is called on another
// goroutine then.
func (s *Session) Send(ms ...*Message) bool {
	ms = s.typed(ms)
	s.mu.Lock()
	return s.sendLocked(ms)
}

// sendLocked is Send for messages that are typed, and unlocks s.mu.
func (s *Session) sendLocked(ms []*Message) bool {
	if s.state != stateOpen {
		s.mu.Unlock()
		return false
	}
	if s.dispensable(ms) {
		s.mu.Unlock()
		return true
	}
	for _, m := range ms {
		s.out.push(m)
	}
	if s.out.over(&s.srv.cfg) {
		s.abortSoonLocked(ReasonSlowConsumer)
		s.mu.Unlock()
		return false
	}
	s.wakeLocked()
	return true
}

// dispensable reports whether messages that may be dropped or replaced were, or
// are, because the client does not keep up. s.mu is held.
func (s *Session) dispensable(ms []*Message) bool {
	if len(ms) == 0 {
		return true
	}
	m := ms[0]
	if !m.Volatile && m.Key == "" {
		return false
	}
	return s.blocked() && (m.Volatile || s.out.replace(m)) || s.out.full(&s.srv.cfg, m)
}

// wakeLocked arranges a flush, if nobody has, and unlocks s.mu.
func (s *Session) wakeLocked() {
	if s.woken || s.out.len() == 0 && s.state == stateOpen {
		s.mu.Unlock()
		return
	}
	if s.ws != nil {
		s.woken = true
		link := s.ws.link
		s.mu.Unlock()
		link.wake()
		return
	}
	s.wakePollLocked()
	s.mu.Unlock()
}

// wakePollLocked makes the open poll look again for what there is to say.
func (s *Session) wakePollLocked() {
	if s.poll != nil {
		select {
		case s.poll <- struct{}{}:
		default:
		}
	}
}

// Cork makes the caller the one who flushes: until Uncork, messages gather. The
// time between the two must be short and free of calls to the host.
func (s *Session) Cork() {
	s.mu.Lock()
	s.woken = true
	s.mu.Unlock()
}

// Uncork flushes what gathered, on the caller's goroutine where writing cannot
// block.
func (s *Session) Uncork() {
	s.mu.Lock()
	c := s.ws
	if c == nil || s.out.len() == 0 && !c.blocked && s.state == stateOpen {
		s.woken = false
		s.wakeLocked()
		return
	}
	s.mu.Unlock()
	c.link.flush()
}

// blocked reports whether a write to the client would block. s.mu is held.
func (s *Session) blocked() bool {
	if s.ws != nil {
		return s.ws.blocked || s.ws.link.stalled()
	}
	return s.poll == nil && time.Since(s.pollSeen) > pollGap
}

// Writable reports whether what is sent now goes out now.
func (s *Session) Writable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == stateOpen && !s.blocked()
}

// receive hands one packet, text being valid UTF-8, to whom it is for and
// reports whether more may follow. s.recv is held.
func (s *Session) receive(packet []byte, binary bool) bool {
	if !s.isOpen() {
		return false
	}
	ok := true
	if s.rev3 {
		packet, binary, ok = untyped(packet, binary)
	}
	switch {
	case !ok:
		return s.malformed()
	case binary:
		return s.message(packet, true)
	case len(packet) == 0:
		return s.malformed()
	}
	switch kind := packet[0]; {
	case kind == packetMessage:
		return s.message(packet[1:], false)
	case kind == packetPong && !s.rev3:
		s.pong()
		return true
	case kind == packetPing && s.rev3:
		s.pingedByClient()
		return true
	case kind == packetNoop:
		return true
	case kind == packetClose:
		s.closedByClient()
		return false
	}
	return s.malformed() // the others have no place here, or not in this direction
}

func (s *Session) message(data []byte, binary bool) bool {
	s.work = true
	if err := s.handler.Message(data, binary); err != nil {
		return s.malformed()
	}
	return true
}

// malformed ends the session because of what the client sent. A polling client
// gets no further answer but to a poll that is open.
func (s *Session) malformed() bool {
	if s.Transport() == "polling" {
		s.abort(ReasonParseError)
	} else {
		s.end(ReasonParseError, ws.StatusProtocolError, false)
	}
	return false
}

// handedOn is deferred by who hands messages on, to let go of s.recv. A panic
// costs the session and not the process.
func (s *Session) handedOn() {
	v := recover()
	s.recv.Unlock()
	if v != nil {
		s.srv.log().Error("engineio: panic while handling a message", "panic", v, "stack", string(debug.Stack()))
		s.abort(ReasonParseError)
	}
}

func (s *Session) isOpen() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == stateOpen
}

func (s *Session) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == stateClosed
}

func (s *Session) pong() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == stateOpen && s.pinged {
		s.pinged = false
		s.armLocked(s.srv.cfg.PingInterval)
	}
}

// Pause asks the transports to read no more messages until Resume, because the
// handler has enough of them waiting. Pongs are not read either, so a client has
// another ping timeout for its answer when reading was paused while it had one.
func (s *Session) Pause() {
	s.mu.Lock()
	s.paused, s.unread = true, true
	s.mu.Unlock()
}

// Resume ends a Pause.
func (s *Session) Resume() {
	s.mu.Lock()
	if !s.paused {
		s.mu.Unlock()
		return
	}
	s.paused = false
	s.unblockLocked()
	conns := [...]*wsConn{s.ws, s.probe}
	s.mu.Unlock()
	resume(conns[:])
}

// resume lets websockets read on; some may be nil.
func resume(conns []*wsConn) {
	for _, c := range conns {
		if c != nil {
			c.link.resume()
		}
	}
}

// isPaused reports whether reading is to stop, for a transport that is told
// when it may go on.
func (s *Session) isPaused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused && s.state == stateOpen
}

// waitResumed blocks a transport that has a goroutine of its own to spare.
func (s *Session) waitResumed() {
	s.mu.Lock()
	for s.paused && s.state == stateOpen {
		if s.resume == nil {
			s.resume = make(chan struct{})
		}
		resume := s.resume
		s.mu.Unlock()
		<-resume
		s.mu.Lock()
	}
	s.mu.Unlock()
}
