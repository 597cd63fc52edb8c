// The websocket transport: frames in both directions, and the upgrade of a polling
// session. A link moves the bytes from and to the kernel.

package engineio

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/gobwas/ws"

	"github.com/rodando/realtime/internal/timingwheel"
)

const (
	opText   = byte(ws.OpText)
	opBinary = byte(ws.OpBinary)

	// chunk is the maximum number of bytes of one write, unless a single message is
	// larger.
	chunk = 64 << 10
)

// link connects a wsConn to a network connection. On Linux a plain TCP connection is
// read when epoll reports it readable, and has no goroutine; every other connection has
// a goroutine that reads.
type link interface {
	// start starts reading. early holds the bytes after the handshake that were already
	// read.
	start(early []byte)
	// wake arranges a call of wsConn.flush.
	wake()
	// flush calls wsConn.flush now if writing cannot block; otherwise it arranges a
	// call.
	flush()
	// write writes as much as it can. If it returns n < len(b) without an error, a
	// write would block.
	write(b []byte) (int, error)
	// notifyWritable arranges a call of wsConn.flush for when a write no longer blocks.
	// progress says that the client has read something since the last call.
	notifyWritable(progress bool)
	// stalled reports whether a write has been blocked for some time.
	stalled() bool
	// resume continues reading after a pause.
	resume()
	// finish closes the write direction and discards input until the client closes.
	finish()
	// close closes the connection, whether it was started or not. It does not block.
	close()
}

// wsConn is one websocket. One goroutine at a time reads it, on behalf of the link, and
// one at a time writes it: the goroutine that set writing.
type wsConn struct {
	s    *Session
	link link

	// Guarded by Session.recv.
	unfinished *unfinishedMessage
	reserved   int // bytes of unfinished that are reserved in Server.incoming

	// Guarded by Session.mu.
	upgradeTimer  *timingwheel.Timer
	probeAnswered bool   // the upgrade probe of the client was answered; only the reader sets it, and reads it without the lock
	b64           bool   // of an upgrade: see Session.b64
	writing       bool   // a goroutine writes; remains set after an error
	blocked       bool   // the last write would have blocked
	eof           bool   // the client has closed, while what is queued was still being sent
	unwritten     []byte // bytes that the last write did not write; before the first one, the response to the handshake
}

// hijacked is the connection of a websocket handshake that has been accepted.
type hijacked struct {
	conn     net.Conn
	early    []byte // what the client sent after the handshake
	response []byte // the response to the handshake, unless it has been written
}

// hijack takes over the connection of a websocket handshake and, if the handshake is
// malformed, refuses it. Otherwise it writes the response with atOnce; without that it leaves
// the response to the caller, so that it leaves together with the first packet. If a method of
// the connection panics after the takeover, hijack closes the connection. An earlier panic is
// left to net/http.
func (s *Server) hijack(w http.ResponseWriter, r *http.Request, atOnce bool) (got hijacked, ok bool) {
	h, returned := &hijacker{ResponseWriter: w}, false
	defer func() {
		if returned {
			return
		}
		if h.conn != nil {
			s.connPanicked(recover())
			got, ok = hijacked{}, false
			s.guardedConn(h.conn.Close)
		}
		s.handshakeFailed(r, nil, h.conn != nil, errConn)
	}()
	got, ok = s.tryHijack(h, r, atOnce)
	returned = true
	return got, ok
}

func (s *Server) tryHijack(h *hijacker, r *http.Request, atOnce bool) (hijacked, bool) {
	up := ws.HTTPUpgrader{Protocol: func(string) bool { return true }}
	if !h.take() {
		up.Timeout = s.cfg.WriteTimeout
	}
	if header := h.Header(); len(header) > 0 {
		up.Header = header
	}
	conn, rw, _, err := up.Upgrade(plainHandshake(r, len(h.Header()[headerProtocol]) > 0), h)
	if atOnce || err != nil {
		if failed := s.writeResponse(conn, h.response); err == nil {
			err = failed
		}
		h.response = nil
	}
	if err != nil {
		if conn != nil {
			s.guardedConn(conn.Close)
		}
		s.handshakeFailed(r, h.ResponseWriter, conn != nil, err)
		return hijacked{}, false
	}
	early, _ := rw.Peek(rw.Reader.Buffered()) // cannot fail: the bytes are buffered
	return hijacked{conn: conn, early: bytes.Clone(early), response: h.response}, true
}

// newConn makes a websocket of a connection. Its first write begins with the response. newConn
// returns nil if the server is closed.
func (s *Server) newConn(h hijacked, ss *Session) *wsConn {
	if !s.addRunning() {
		s.guardedConn(func() error {
			defer s.guardedConn(h.conn.Close)
			return s.writeResponse(h.conn, h.response)
		})
		return nil
	}
	c := &wsConn{s: ss, unwritten: h.response}
	c.link = s.newLink(h.conn, c)
	return c
}

// serveUpgrade starts the upgrade of a polling session to a websocket, whose client wants
// binary messages as base64 if b64 is set.
func (s *Server) serveUpgrade(ss *Session, w http.ResponseWriter, r *http.Request, b64 bool) {
	h, ok := s.hijack(w, r, true)
	if !ok {
		return
	}
	c := s.newConn(h, ss)
	if c == nil {
		s.failed(r, FailedShutdown, http.StatusSwitchingProtocols, "")
		return
	}
	ss.mu.Lock()
	if ss.ws != nil || ss.probe != nil || ss.state != stateOpen {
		ss.mu.Unlock()
		c.link.close()
		s.failed(r, FailedUpgrade, http.StatusSwitchingProtocols, "it has a websocket already, or is closing")
		return
	}
	ss.probe, c.b64 = c, b64
	c.upgradeTimer = &timingwheel.Timer{F: func() { go c.dropProbe() }}
	s.cfg.Wheel.Arm(c.upgradeTimer, s.cfg.UpgradeTimeout)
	ss.mu.Unlock()
	c.link.start(h.early)
}

// dropProbe ends an upgrade that is not complete; the session continues on polling. It
// returns false if c is not the websocket of such an upgrade.
func (c *wsConn) dropProbe() bool {
	c.s.mu.Lock()
	ok := c.s.probe == c
	if ok {
		c.s.takeProbeLocked()
	}
	c.s.mu.Unlock()
	if ok {
		c.link.close()
		c.s.reportUpgrade()
	}
	return ok
}

// takeProbeLocked ends the state of an incomplete upgrade. It returns its websocket, or
// nil.
func (s *Session) takeProbeLocked() *wsConn {
	c := s.probe
	if c != nil {
		s.srv.cfg.Wheel.Stop(c.upgradeTimer)
		s.probe, c.upgradeTimer = nil, nil
	}
	return c
}

// handleUpgradePacket handles a packet of a websocket whose upgrade is not complete. It
// reports whether more packets may follow.
func (c *wsConn) handleUpgradePacket(packet []byte) bool {
	s := c.s
	switch {
	case !c.probeAnswered && string(packet) == "2probe":
		s.mu.Lock()
		if s.probe != c { // the upgrade has ended: a client whose probe is answered would stop polling
			s.mu.Unlock()
			return false
		}
		c.probeAnswered = true // set before the answer is written: the client may act on it at once
		s.mu.Unlock()
		if !c.answerProbe(probeAnswer.frame) {
			return false
		}
		s.mu.Lock()
		s.wakePollLocked() // the answered poll lets the client stop polling
		s.mu.Unlock()
		return true
	case string(packet) == "5": // also without a probe, as .NET's client does by default
		s.mu.Lock()
		if s.probe != c {
			s.mu.Unlock()
			return false
		}
		s.takeProbeLocked()
		s.ws, s.b64, s.flushPending = c, c.b64, false
		if s.state == stateClosing {
			s.srv.cfg.Wheel.Arm(&s.timer, s.srv.cfg.CloseTimeout)
		}
		s.wakePollLocked()
		s.unlockAndWake()
		return true
	}
	c.dropProbe()
	return false
}

var probeAnswer = control("3probe")

// answerProbe writes a reply on a websocket whose upgrade is not complete. It runs on the
// reader, which is the only writer then. If the write would block, the upgrade ends.
func (c *wsConn) answerProbe(frame []byte) bool {
	if n, err := c.link.write(frame); err != nil || n < len(frame) {
		c.dropProbe()
		return false
	}
	return true
}

// isProbe reports whether c is not the transport of its session: its upgrade is not
// complete, or has ended without success.
func (c *wsConn) isProbe() bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.s.ws != c
}

// fail ends the websocket because of an invalid frame of the client. It always returns false.
func (c *wsConn) fail(status ws.StatusCode) bool {
	if !c.dropProbe() {
		c.s.closeByClient(ReasonParseError, status, false)
	}
	return false
}

// onConnError is called by the link when the connection failed or the client closed it. The
// link reads no more. If the client of a closing session has closed properly, what is queued is
// still sent: the client may have closed the write direction only.
func (c *wsConn) onConnError(reason Reason) {
	if !c.dropProbe() {
		s := c.s
		s.mu.Lock()
		current := s.ws == c
		if current && reason == ReasonTransportClose && s.state == stateClosing && (s.phase == phaseDeliver || s.phase == phaseEnd) {
			c.eof = true
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		if current {
			s.abort(reason)
		}
	}
	c.link.close()
}

var buffers = sync.Pool{New: func() any { return new([chunk]byte) }}

// flush writes the queued messages, in as few system calls as chunk allows. One
// goroutine at a time does so; a call during another one returns at once.
func (c *wsConn) flush() {
	s := c.s
	s.mu.Lock()
	if c.writing || s.ws != c || s.state == stateClosed {
		s.mu.Unlock()
		return
	}
	c.writing = true
	for {
		b, free := c.gatherLocked()
		if b == nil {
			break
		}
		s.mu.Unlock()
		n, err := c.link.write(b)
		var rest []byte
		if n < len(b) && err == nil {
			rest = b[n:]
			if free != nil {
				rest = bytes.Clone(rest)
			}
		}
		if free != nil {
			buffers.Put(free)
		}
		if err != nil { // writing stays set, so no other goroutine writes
			reason := ReasonTransportError
			if errors.Is(err, os.ErrDeadlineExceeded) {
				reason = ReasonSlowConsumer
			}
			c.onConnError(reason)
			return
		}
		s.mu.Lock()
		if rest != nil {
			// flushPending stays set: the link calls flush when the connection is
			// writable.
			progress := n > 0 || !c.blocked
			c.unwritten, c.blocked, c.writing = rest, true, false
			s.mu.Unlock()
			c.link.notifyWritable(progress)
			return
		}
		c.blocked = false
	}
	c.writing, s.flushPending = false, false
	finish, eof := s.flushedLocked(), c.eof
	s.mu.Unlock()
	switch {
	case eof:
		c.onConnError(ReasonTransportError) // nothing is left to send
	case finish:
		c.link.finish()
	}
}

// gatherLocked returns the bytes of the next write: the unwritten rest of the last one,
// a single message without a copy, or several messages joined in a pooled buffer, which
// it returns as free. b is nil if nothing is queued. Messages stay in the outbox while the
// client does not read; so only the response to the handshake is joined with them, not a rest.
func (c *wsConn) gatherLocked() (b []byte, free *[chunk]byte) {
	out, rest := &c.s.out, c.unwritten
	c.unwritten = nil
	m := out.first()
	switch {
	case rest != nil && (m == nil || c.blocked || len(rest)+len(m.frame) > chunk):
		return rest, nil
	case m == nil:
		return nil, nil
	case rest == nil && (out.len() == 1 || len(m.frame) >= chunk):
		out.shift()
		return m.frame, nil
	}
	free = buffers.Get().(*[chunk]byte) //nolint:errcheck,forcetypeassert // the pool holds nothing else
	b = free[:copy(free[:], rest)]
	for ; m != nil && len(b)+len(m.frame) <= chunk; m = out.first() {
		b = append(b, m.frame...)
		out.shift()
	}
	return b, free
}

// closeFrame returns the close frame, the last frame of a websocket.
func closeFrame(status ws.StatusCode) *Message {
	return &Message{frame: []byte{0x80 | byte(ws.OpClose), 2, byte(status >> 8), byte(status)}, head: 2}
}
