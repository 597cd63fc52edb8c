// A session: one client, whichever transport it currently uses.

package engineio

import (
	"runtime/debug"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/timingwheel"
)

// pollGap is how long a polling client may stay without an open poll before it counts
// as not writable.
const pollGap = time.Second

// Session is the connection of one client. Its methods may be called concurrently.
//
// Session.recv is held while messages are passed to the handler. It makes them one at a
// time across transports. Session.mu is never held while writing to a network or
// calling the handler. Where both are taken, recv comes first.
type Session struct {
	srv     *Server
	id      string
	handler Handler

	recv       sync.Mutex // guards needsServe, and fields of wsConn
	needsServe bool       // messages were passed to the handler since the last Serve
	eio3       bool       // the client speaks EIO3; set before the session is shared
	b64        bool       // the client wants binary messages as base64; guarded by mu
	known      bool       // see SetKnown; guarded by incoming.mu
	wasKnown   bool       // known has been true; guarded by mu

	mu           sync.Mutex // guards the fields below
	out          outbox
	state        uint8
	phase        uint8             // of a close
	ending       uint8             // what the client is to do after a close
	flushPending bool              // a flush of the outbox has been arranged, or Uncork will flush it
	pinged       bool              // a ping is unanswered
	paused       bool              // the handler wants no more messages for now
	unread       bool              // reading was paused since the timer was armed
	clientClosed bool              // the client sent a close packet
	limited      bool              // it has reached a limit, which was reported
	unanswered   uint8             // pings that were queued and not answered, at most maxPings; unused if there are receipts
	pingedAt     uint32            // see heartbeat.go; 0: no pong is to be measured
	pollSeen     time.Time         // when the last poll was answered; first, when the session was added
	resume       chan struct{}     // closed when the pause ends or the session closes; nil unless a goroutine waits for that
	ws           *wsConn           // nil while polling is the transport
	probe        *wsConn           // the websocket of an upgrade that is not complete
	poll         chan struct{}     // wakes the open poll; nil when none is open
	pollArrived  chan struct{}     // closed when a poll arrives; nil unless a close waits for one
	post         *post             // the POST that is being read
	receipts     *receipts         // nil if none is awaited
	timer        timingwheel.Timer // heartbeat; in stateClosing the end of the phase
}

// Protocol returns the protocol that the client speaks, 4 or 3.
func (s *Session) Protocol() int {
	if s.eio3 {
		return 3
	}
	return 4
}

// Transport returns the name of the current transport, "polling" or "websocket".
func (s *Session) Transport() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ws != nil {
		return "websocket"
	}
	return "polling"
}

// openMessage returns the open packet, the first packet that a client gets.
func (s *Session) openMessage(upgrades bool) *Message {
	tail := s.srv.open[0]
	if upgrades {
		tail = s.srv.open[1]
	}
	b := make([]byte, headroom, headroom+len(tail)+len(s.id)+12)
	b = append(b, packetOpen)
	b = append(b, `{"sid":"`...)
	b = append(b, s.id...)
	b = append(b, `",`...)
	return newMessage(append(b, tail...), false)
}

// start starts the heartbeat of a session that was just added to the server.
func (s *Session) start() {
	s.mu.Lock()
	s.pollSeen = time.Now()
	switch {
	case s.state != stateOpen:
	case s.eio3: // the client sends the pings: the first one is awaited like a pong
		s.pinged = true
		s.srv.cfg.Wheel.Arm(&s.timer, s.srv.cfg.PingInterval+s.srv.cfg.PingTimeout)
	default:
		s.srv.cfg.Wheel.Arm(&s.timer, s.srv.cfg.PingInterval)
	}
	over := s.state == stateClosed // closed before it was added, so remove found nothing
	s.mu.Unlock()
	if over {
		s.srv.remove(s)
	}
}

// onTimer is the callback of the session's timer: a ping is due, a pong is overdue, or a
// phase of a close ends. The other timers of the wheel wait until it returns, so it neither
// calls the layer above nor waits for the network.
func (s *Session) onTimer() {
	s.mu.Lock()
	ping := false
	switch {
	case s.srv.cfg.Wheel.Armed(&s.timer): // a pong or a close armed it again meanwhile
	case s.state == stateOpen && !s.pinged:
		s.pinged, ping, s.pingedAt = true, true, s.srv.pingTime()
		s.armLocked(s.srv.cfg.PingTimeout)
	case s.state == stateOpen && s.unread: // the pong may have arrived without being read
		s.armLocked(s.srv.cfg.PingTimeout)
	case s.state == stateOpen:
		s.abortSoonLocked(ReasonPingTimeout)
	default:
		s.phaseEndedAndUnlock()
		return
	}
	if ping {
		s.pingAndUnlock()
		return
	}
	s.mu.Unlock()
}

// armLocked starts the next heartbeat timeout. It sets unread during a pause, so that a
// client does not time out because of a pong that the server did not read.
func (s *Session) armLocked(d time.Duration) {
	s.unread = s.paused
	s.srv.cfg.Wheel.Arm(&s.timer, d)
}

// Send queues messages, together and in order, and reports whether the session accepted
// them. A volatile message that is dropped counts as accepted. Send does not block and
// does not call the handler: the caller may hold locks that the handler takes. A session
// whose outbox is full is ended with ReasonSlowConsumer, so that no message is lost
// silently; Handler.Closed is then called on another goroutine.
func (s *Session) Send(ms ...*Message) bool {
	ms = s.encodeBinary(ms)
	s.mu.Lock()
	return s.sendAndUnlock(ms)
}

// sendAndUnlock is Send for messages that are already encoded for the client's
// protocol. It unlocks s.mu.
func (s *Session) sendAndUnlock(ms []*Message) bool {
	if s.state != stateOpen {
		s.mu.Unlock()
		return false
	}
	if s.dropOrReplaceLocked(ms) {
		s.mu.Unlock()
		return true
	}
	for _, m := range ms {
		s.out.push(m)
	}
	if s.out.overLimit(&s.srv.cfg) && !ms[0].isPong() {
		s.abortSoonLocked(ReasonSlowConsumer)
		s.mu.Unlock()
		return false
	}
	s.unlockAndWake()
	return true
}

// dropOrReplaceLocked drops volatile messages, or replaces an unsent message of the same
// key, if the client is not writable, and reports whether it did. It also drops such
// messages if they would overfill the outbox, but not a pong: one of each kind may exceed the
// limit, because a client without an answer to its ping closes the connection. The first of ms
// decides for all of them.
func (s *Session) dropOrReplaceLocked(ms []*Message) bool {
	if len(ms) == 0 {
		return true
	}
	m := ms[0]
	keyed := m.Key != "" && len(ms) == 1
	switch {
	case !m.Volatile && !keyed:
		return false
	case s.blockedLocked() && m.Volatile:
		s.srv.dropped.Add(uint64(len(ms)))
		return true
	case s.blockedLocked() && s.out.replace(m):
		if !m.isPong() {
			s.srv.replaced.Add(1)
		}
		return true
	case !s.out.wouldExceed(&s.srv.cfg, ms):
		return false
	case m.isPong():
		return s.out.replace(m)
	}
	s.srv.dropped.Add(uint64(len(ms)))
	return true
}

// unlockAndWake arranges a flush of the outbox, or wakes the open poll, unless a flush is
// pending or there is nothing to send. It unlocks s.mu.
func (s *Session) unlockAndWake() {
	if s.flushPending || s.out.len() == 0 && s.state == stateOpen {
		s.mu.Unlock()
		return
	}
	if s.ws != nil {
		s.flushPending = true
		link := s.ws.link
		s.mu.Unlock()
		link.wake()
		return
	}
	s.wakePollLocked()
	s.mu.Unlock()
}

// wakePollLocked makes the open poll check again whether it can be answered.
func (s *Session) wakePollLocked() {
	if s.poll != nil {
		select {
		case s.poll <- struct{}{}:
		default:
		}
	}
}

// Cork makes messages gather in the outbox until the caller calls Uncork. The time
// between the two must be short, without calls to the host.
func (s *Session) Cork() {
	s.mu.Lock()
	s.flushPending = true
	s.mu.Unlock()
}

// Uncork flushes the gathered messages, on the caller's goroutine if writing cannot
// block.
func (s *Session) Uncork() {
	s.mu.Lock()
	c := s.ws
	if c == nil || s.out.len() == 0 && !c.blocked && s.state == stateOpen {
		s.flushPending = false
		s.unlockAndWake()
		return
	}
	s.mu.Unlock()
	c.link.flush()
}

// blockedLocked reports whether a write to the client would block. For a polling client
// it reports whether no poll has been open for pollGap.
func (s *Session) blockedLocked() bool {
	if s.ws != nil {
		return s.ws.blocked || s.ws.link.stalled()
	}
	return s.poll == nil && time.Since(s.pollSeen) > pollGap
}

// receiveLocked handles one packet of the client. Text must be valid UTF-8. While the
// session is closing it drops all packets but the close packet. It reports whether the
// session accepts more packets. Its caller holds s.recv.
func (s *Session) receiveLocked(packet []byte, binary bool) bool {
	switch s.arrived() {
	case stateClosed:
		return false
	case stateClosing:
		if !binary && len(packet) == 1 && packet[0] == packetClose {
			s.closeFromClient()
			return false
		}
		return true
	}
	ok := true
	switch {
	case s.eio3:
		packet, binary, ok = decodeBinaryEIO3(packet, binary)
	case !binary && len(packet) > 0 && packet[0] == 'b': // on a websocket, with the option forceBase64
		packet, binary, ok = decodeBase64(packet[1:])
	}
	switch {
	case !ok:
		return s.malformed()
	case binary:
		return s.handleMessageLocked(packet, true)
	case len(packet) == 0:
		return s.malformed()
	}
	switch kind := packet[0]; {
	case kind == packetMessage:
		return s.handleMessageLocked(packet[1:], false)
	case kind == packetPong && !s.eio3:
		s.ponged()
		return true
	case kind == packetNoop:
		return true
	case kind == packetPing && s.eio3:
		s.Send(pongEIO3)
		return true
	case kind == packetClose:
		s.closeFromClient()
		return false
	}
	return s.malformed() // a packet type that is not valid here or in this direction
}

func (s *Session) handleMessageLocked(data []byte, binary bool) bool {
	s.needsServe = true
	switch err := s.handler.Message(data, binary); err {
	case nil:
		return true
	case ErrTooBig: //nolint:errorlint // the layer above wraps none
		return s.invalid(ws.StatusMessageTooBig)
	}
	return s.malformed()
}

// malformed ends the session because of malformed input. It always returns false.
func (s *Session) malformed() bool { return s.invalid(ws.StatusProtocolError) }

// invalid ends the session because of invalid input, over a websocket with this status. It
// always returns false. The open poll of a polling client finds its session unknown, and its
// POST gets an error.
func (s *Session) invalid(status ws.StatusCode) bool {
	if s.Transport() == "polling" {
		s.abort(ReasonParseError)
	} else {
		s.closeByClient(ReasonParseError, status, false)
	}
	return false
}

// unlockRecv is deferred by the callers of receiveLocked. It unlocks s.recv, and turns
// a panic of the handler into the end of the session.
func (s *Session) unlockRecv() {
	v := recover()
	s.recv.Unlock()
	if v != nil {
		s.srv.log().Error("engineio: panic while handling a message", "panic", hostcall.PanicText(v), "stack", string(debug.Stack()))
		s.abort(ReasonParseError)
	}
}

// arrived is called for each packet, and returns the state. Any packet proves that the
// client lives, whatever it sent first: on a slow line the pong may stand behind events.
func (s *Session) arrived() uint8 {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.state != stateOpen || !s.pinged:
	case s.eio3: // a ping of the client is always awaited
		s.armLocked(s.srv.cfg.PingInterval + s.srv.cfg.PingTimeout)
	default:
		s.pinged = false
		s.armLocked(s.srv.cfg.PingInterval)
	}
	return s.state
}

func (s *Session) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == stateClosed
}

// Pause makes the transports stop reading messages until Resume, because too many wait
// in the handler. Pongs are not read either; a client whose pong is due during a pause
// gets another PingTimeout.
func (s *Session) Pause() {
	s.mu.Lock()
	s.paused, s.unread = true, true
	s.mu.Unlock()
}

// Resume ends a pause.
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

// resume makes websockets read again; entries may be nil.
func resume(conns []*wsConn) {
	for _, c := range conns {
		if c != nil {
			c.link.resume()
		}
	}
}

// isPaused reports whether reading must stop. It is for transports that wait for
// link.resume.
func (s *Session) isPaused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.paused && s.state == stateOpen
}

// waitResumed blocks until the pause ends or the session closes. It is for transports whose
// reader has a goroutine of its own.
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
