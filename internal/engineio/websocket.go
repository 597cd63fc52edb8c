// The websocket transport: frames in, frames out, and the upgrade of a polling
// session. How bytes get to and from the kernel is the link's business.

package engineio

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"

	"github.com/gobwas/ws"

	"github.com/rodando/realtime/internal/timingwheel"
)

const (
	opText   = byte(ws.OpText)
	opBinary = byte(ws.OpBinary)

	// chunk is how much one write takes along, unless one message is larger.
	chunk = 64 << 10
)

// link connects a wsConn to a network connection. On Linux, plain TCP waits for
// readiness without a goroutine; everything else has a goroutine that reads.
type link interface {
	// start begins reading; early is what the handshake read too much.
	start(early []byte)
	// wake arranges a call of wsConn.flush.
	wake()
	// flush calls wsConn.flush now if writing cannot block, else arranges it.
	flush()
	// write writes what it can; less than all and no error means that a write
	// would block.
	write(b []byte) (int, error)
	// notify arranges a call of wsConn.flush for when a write that would have
	// blocked no longer does. Progress says that the client has taken something
	// since the last time.
	notify(progress bool)
	// stalled reports whether a write has been under way for long.
	stalled() bool
	// resume reads on after a pause.
	resume()
	// finish sends the end of the stream and discards input until the client
	// has seen it.
	finish()
	// close cuts the connection, started or not. It does not block.
	close()
}

// wsConn is one websocket.
//
// Reading belongs to the link's reader, one goroutine at a time; writing to
// whoever set writing. The session's mutex guards the fields below held.
type wsConn struct {
	s    *Session
	link link

	// Guarded by the session's recv.
	pend *partial
	held int // what pend counts for

	expiry  *timingwheel.Timer
	probed  bool // the client's probe was answered
	writing bool
	blocked bool   // the last write would have blocked
	ended   bool   // the close frame is sent
	rest    []byte // what a write did not take
}

// isUpgrade reports whether r asks for a websocket.
func isUpgrade(r *http.Request) bool {
	h := r.Header.Get("Upgrade")
	// As long, in bytes: the Kelvin sign folds to a k, and is none.
	return len(h) == len("websocket") && strings.EqualFold(h, "websocket")
}

// hijack answers the websocket handshake and takes the connection over.
func (s *Server) hijack(w http.ResponseWriter, r *http.Request) (net.Conn, []byte, bool) {
	up := ws.HTTPUpgrader{Timeout: s.cfg.WriteTimeout}
	if h := w.Header(); len(h) > 0 {
		up.Header = h
	}
	conn, rw, _, err := up.Upgrade(r, w)
	if err != nil {
		if conn != nil {
			_ = conn.Close()
		}
		return nil, nil, false
	}
	early, _ := rw.Reader.Peek(rw.Reader.Buffered()) // cannot fail: it is there
	return conn, bytes.Clone(early), true
}

// newConn puts a websocket on a connection; nil when the server is closed.
func (s *Server) newConn(conn net.Conn, ss *Session) *wsConn {
	if !s.enter() {
		_ = conn.Close()
		return nil
	}
	c := &wsConn{s: ss}
	c.link = s.newLink(conn, c)
	return c
}

// serveUpgrade lets a websocket try to take over a polling session.
func (s *Server) serveUpgrade(ss *Session, w http.ResponseWriter, r *http.Request) {
	conn, early, ok := s.hijack(w, r)
	if !ok {
		return
	}
	c := s.newConn(conn, ss)
	if c == nil {
		return
	}
	ss.mu.Lock()
	if ss.ws != nil || ss.probe != nil || ss.state != stateOpen {
		ss.mu.Unlock()
		c.link.close()
		return
	}
	ss.probe = c
	c.expiry = &timingwheel.Timer{F: func() { go c.dropProbe() }}
	s.cfg.Wheel.Arm(c.expiry, s.cfg.UpgradeTimeout)
	ss.mu.Unlock()
	c.link.start(early)
}

// dropProbe ends an upgrade that did not come to its end; the session goes on
// polling. It reports whether c was such a probe.
func (c *wsConn) dropProbe() bool {
	c.s.mu.Lock()
	ok := c.s.probe == c
	if ok {
		c.s.takeProbeLocked()
	}
	c.s.mu.Unlock()
	if ok {
		c.link.close()
	}
	return ok
}

// takeProbeLocked ends the time in which a websocket is about to take over and
// returns the websocket, if there is one.
func (s *Session) takeProbeLocked() *wsConn {
	c := s.probe
	if c != nil {
		s.srv.cfg.Wheel.Stop(c.expiry)
		s.probe, c.expiry = nil, nil
	}
	return c
}

// upgrading handles a packet of a websocket that has not taken over yet and
// reports whether more may follow.
func (c *wsConn) upgrading(packet []byte) bool {
	s := c.s
	switch {
	case !c.probed && string(packet) == "2probe":
		s.mu.Lock()
		if s.probe != c { // given up: a client that had its answer would poll no more
			s.mu.Unlock()
			return false
		}
		c.probed = true // before the client knows, who may count on it at once
		s.mu.Unlock()
		if !c.answer(probeAnswer.frame) {
			return false
		}
		s.mu.Lock()
		s.wakePollLocked() // so that the client can stop polling
		s.mu.Unlock()
		return true
	case c.probed && string(packet) == "5":
		s.mu.Lock()
		if s.probe != c {
			s.mu.Unlock()
			return false
		}
		s.takeProbeLocked()
		s.ws, s.woken = c, false
		if s.state == stateClosing {
			s.out.push(closeFrame(ws.StatusNormalClosure))
		}
		s.wakePollLocked()
		s.wakeLocked()
		return true
	}
	c.dropProbe()
	return false
}

var probeAnswer = control("3probe")

// answer writes to a websocket that has not taken over yet, from its reader,
// who has it to himself. One that can't take so little is given up.
func (c *wsConn) answer(frame []byte) bool {
	if n, err := c.link.write(frame); err != nil || n < len(frame) {
		c.dropProbe()
		return false
	}
	return true
}

func (c *wsConn) isProbe() bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.s.ws != c
}

// fail ends the websocket because of what the client sent: with a status for a
// breach of the protocol, with 0 when it asked to close.
func (c *wsConn) fail(status ws.StatusCode) bool {
	switch {
	case c.dropProbe():
	case status == 0:
		c.s.end(ReasonTransportClose, ws.StatusNormalClosure, true)
	default:
		c.s.end(ReasonParseError, status, false)
	}
	return false
}

// gone is called by the link when the connection ended by itself.
func (c *wsConn) gone(reason Reason) {
	if !c.dropProbe() {
		c.s.mu.Lock()
		current := c.s.ws == c
		c.s.mu.Unlock()
		if current {
			c.s.abort(reason)
		}
	}
	c.link.close()
}

var buffers = sync.Pool{New: func() any { return new([chunk]byte) }}

// flush writes what is queued, in as few system calls as chunk allows. Only one
// goroutine does so at a time; another one's call finds the work taken.
func (c *wsConn) flush() {
	s := c.s
	s.mu.Lock()
	if c.writing || s.ws != c || s.state == stateClosed {
		s.mu.Unlock()
		return
	}
	c.writing = true
	for {
		b, free := c.gather()
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
		if err != nil { // and nobody else ever writes
			reason := ReasonTransportError
			if errors.Is(err, os.ErrDeadlineExceeded) {
				reason = ReasonSlowConsumer
			}
			c.gone(reason)
			return
		}
		s.mu.Lock()
		if rest != nil {
			// woken stays set: the link calls again when it can write.
			progress := n > 0 || !c.blocked
			c.rest, c.blocked, c.writing = rest, true, false
			s.mu.Unlock()
			c.link.notify(progress)
			return
		}
		c.blocked = false
	}
	c.writing, s.woken = false, false
	finish := s.state == stateClosing && !c.ended
	if finish {
		c.ended = true
		s.srv.cfg.Wheel.Arm(&s.timer, s.srv.cfg.CloseTimeout)
	}
	s.mu.Unlock()
	if finish {
		c.link.finish()
	}
}

// gather returns what the next write takes: the rest of the last one, a single
// message as it stands, or several joined in a buffer, which is then to be
// freed. Nil means that nothing is queued. The session's mutex is held.
func (c *wsConn) gather() (b []byte, free *[chunk]byte) {
	out := &c.s.out
	if c.rest != nil {
		b, c.rest = c.rest, nil
		return b, nil
	}
	m := out.first()
	if m == nil {
		return nil, nil
	}
	if out.len() == 1 || len(m.frame) >= chunk {
		out.shift()
		return m.frame, nil
	}
	free = buffers.Get().(*[chunk]byte)
	b = free[:0]
	for ; m != nil && len(b)+len(m.frame) <= chunk; m = out.first() {
		b = append(b, m.frame...)
		out.shift()
	}
	return b, free
}

// closeFrame is the last thing said on a websocket.
func closeFrame(status ws.StatusCode) *Message {
	return &Message{frame: []byte{0x80 | byte(ws.OpClose), 2, byte(status >> 8), byte(status)}, head: 2}
}
