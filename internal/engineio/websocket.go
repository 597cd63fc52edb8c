// The websocket transport: frames in, frames out, and the upgrade of a polling
// session. How bytes get to and from the kernel is the link's business.

package engineio

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/rodando/realtime/internal/wheel"
)

const (
	opText   = byte(ws.OpText)
	opBinary = byte(ws.OpBinary)

	// maxFragments bounds the frames of one message: no client splits further.
	maxFragments = 1 << 12
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
	// blocked no longer does.
	notify()
	// stalled reports whether a write has been under way for long.
	stalled() bool
	// resume reads on after a pause.
	resume()
	// finish sends the end of the stream and discards input until the client
	// has seen it.
	finish()
	// close cuts the connection.
	close()
}

// wsConn is one websocket.
//
// Reading belongs to the link's reader, one goroutine at a time; writing to
// whoever set writing. The session's mutex guards the fields below pend.
type wsConn struct {
	s    *Session
	link link

	// The reader's own.
	pend *partial

	probed bool // the client's probe was answered
	expiry *wheel.Timer

	writing bool
	rest    []byte // what a write did not take
	ended   bool   // the close frame is sent
}

// partial is what is known of a message that has not arrived whole.
type partial struct {
	raw     []byte // bytes of an unfinished frame
	message []byte // payloads of the fragments so far
	op      ws.OpCode
	frames  int // fragments so far; 0: no fragmented message is open
}

// isUpgrade reports whether r asks for a websocket.
func isUpgrade(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
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
	c.expiry = &wheel.Timer{F: func() { c.dropProbe() }}
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
		c.s.probe = nil
		c.s.srv.cfg.Wheel.Stop(c.expiry)
	}
	c.s.mu.Unlock()
	if ok {
		c.link.close()
	}
	return ok
}

// upgrading handles a packet of a websocket that has not taken over yet and
// reports whether more may follow.
func (c *wsConn) upgrading(packet []byte) bool {
	s := c.s
	switch {
	case !c.probed && string(packet) == "2probe":
		// The probe's answer is alone on this connection: it can't block.
		if n, err := c.link.write(probeAnswer.frame); err != nil || n < len(probeAnswer.frame) {
			c.dropProbe()
			return false
		}
		s.mu.Lock()
		c.probed = true
		s.wakePollLocked() // so that the client can stop polling
		s.mu.Unlock()
		return true
	case c.probed && string(packet) == "5":
		s.mu.Lock()
		if s.probe != c {
			s.mu.Unlock()
			return false
		}
		s.srv.cfg.Wheel.Stop(c.expiry)
		s.probe, s.ws, s.woken = nil, c, false
		c.expiry = nil
		s.wakePollLocked()
		s.wakeLocked()
		return true
	}
	c.dropProbe()
	return false
}

var probeAnswer = control("3probe")

// reader is what one burst of reading needs; pooled.
type reader struct {
	src    bytes.Reader
	header [ws.MaxHeaderSize]byte
	buf    [16 << 10]byte
}

var readers = sync.Pool{New: func() any { return new(reader) }}

// feed takes bytes as they arrive. It reports whether to read on, and whether
// the handler has something to serve.
func (c *wsConn) feed(r *reader, b []byte) (more, work bool) {
	c.s.recv.Lock()
	defer c.s.recv.Unlock()
	more = c.parse(r, b)
	work, c.s.work = c.s.work, false
	return more, work
}

// parse handles the frames in b. It keeps no part of b, and of an unfinished
// frame no more than has arrived.
func (c *wsConn) parse(r *reader, b []byte) bool {
	if c.pend != nil && len(c.pend.raw) > 0 {
		c.pend.raw = append(c.pend.raw, b...)
		b = c.pend.raw
	}
	for len(b) > 0 {
		h, n, err := readHeader(r, b)
		if err != nil {
			return c.fail(ws.StatusProtocolError)
		}
		if n == 0 {
			break
		}
		if status := c.checkHeader(h); status != 0 {
			return c.fail(status)
		}
		if len(b)-n < int(h.Length) {
			break
		}
		payload := b[n : n+int(h.Length)]
		b = b[n+int(h.Length):]
		ws.Cipher(payload, h.Mask, 0)
		if !c.frame(h, payload) {
			c.pend = nil
			return false
		}
	}
	c.keep(b)
	return true
}

// keep stores the beginning of a frame until the rest arrives.
func (c *wsConn) keep(b []byte) {
	switch {
	case len(b) > 0 && c.pend == nil:
		c.pend = &partial{raw: bytes.Clone(b)}
	case len(b) > 0 && len(b) < len(c.pend.raw):
		c.pend.raw = append(c.pend.raw[:0], b...)
	case len(b) > 0 && len(c.pend.raw) == 0:
		c.pend.raw = bytes.Clone(b)
	case len(b) == 0 && c.pend != nil && c.pend.frames == 0:
		c.pend = nil
	case len(b) == 0 && c.pend != nil:
		c.pend.raw = nil
	}
}

// readHeader parses a frame header at the start of b; n is 0 when it is not
// there whole.
func readHeader(r *reader, b []byte) (h ws.Header, n int, err error) {
	if len(b) < 2 {
		return h, 0, nil
	}
	n = 2
	switch b[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if b[1]&0x80 != 0 {
		n += 4
	}
	if len(b) < n {
		return h, 0, nil
	}
	r.src.Reset(b[:n])
	h, err = ws.ReadHeaderBuffer(&r.src, r.header[:])
	return h, n, err
}

// checkHeader judges a frame by its header alone, before any of it is kept. It
// returns the status to close with, 0 when all is well.
func (c *wsConn) checkHeader(h ws.Header) ws.StatusCode {
	state := ws.StateServerSide
	have, frames := 0, 0
	if c.pend != nil && c.pend.frames > 0 {
		state |= ws.StateFragmented
		have, frames = len(c.pend.message), c.pend.frames
	}
	if ws.CheckHeader(h, state) != nil {
		return ws.StatusProtocolError
	}
	if h.Length > int64(c.s.srv.cfg.MaxPayload) || !h.OpCode.IsControl() && have+int(h.Length) > c.s.srv.cfg.MaxPayload {
		return ws.StatusMessageTooBig
	}
	if frames >= maxFragments {
		return ws.StatusPolicyViolation
	}
	return 0
}

// frame handles one frame and reports whether more may follow.
func (c *wsConn) frame(h ws.Header, payload []byte) bool {
	switch {
	case h.OpCode == ws.OpClose:
		return c.fail(0)
	case h.OpCode == ws.OpPing:
		return c.pongFrame(payload)
	case h.OpCode == ws.OpPong:
		return true
	case h.OpCode == ws.OpContinuation:
		c.pend.message = append(c.pend.message, payload...)
		c.pend.frames++
		if !h.Fin {
			return true
		}
		payload, h.OpCode = c.pend.message, c.pend.op
		c.pend.message, c.pend.frames = nil, 0
	case !h.Fin:
		if c.pend == nil {
			c.pend = &partial{}
		}
		c.pend.message, c.pend.op, c.pend.frames = bytes.Clone(payload), h.OpCode, 1
		return true
	}
	binary := h.OpCode == ws.OpBinary
	if !binary && !utf8.Valid(payload) {
		return c.fail(ws.StatusInvalidFramePayloadData)
	}
	if c.isProbe() {
		if binary {
			c.dropProbe()
			return false
		}
		return c.upgrading(payload)
	}
	return c.s.receive(payload, binary)
}

func (c *wsConn) isProbe() bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.s.ws != c
}

// pongFrame answers a websocket ping. The answer keeps its place behind what
// was queued before.
func (c *wsConn) pongFrame(data []byte) bool {
	b := append(make([]byte, headroom, headroom+len(data)), data...)
	n := putHeader(b[:headroom], byte(ws.OpPong), len(data))
	if c.isProbe() {
		_, err := c.link.write(b[headroom-n:])
		return err == nil
	}
	// A client that has stopped reading gets no answers piled up for it.
	return c.s.Send(&Message{frame: b[headroom-n:], head: n, Volatile: true})
}

// fail ends the websocket because of what the client sent: with a status for a
// breach of the protocol, with 0 when it asked to close.
func (c *wsConn) fail(status ws.StatusCode) bool {
	switch {
	case c.dropProbe():
	case status == 0:
		c.s.abortAfterClose()
	default:
		c.s.Close(ReasonParseError)
	}
	return false
}

// abortAfterClose ends the session on the client's close frame, which is
// answered with one.
func (s *Session) abortAfterClose() {
	s.mu.Lock()
	s.out.clear()
	s.mu.Unlock()
	s.Close(ReasonTransportClose)
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
		s.mu.Lock()
		if err != nil {
			c.writing = false
			s.mu.Unlock()
			c.gone(ReasonTransportError)
			return
		}
		if rest != nil {
			// woken stays set: the link calls again when it can write.
			c.rest, c.writing = rest, false
			s.mu.Unlock()
			c.link.notify()
			return
		}
	}
	c.writing, s.woken = false, false
	finish := s.state == stateClosing && !c.ended
	if finish {
		c.ended = true
		s.srv.cfg.Wheel.Arm(&s.timer, s.srv.cfg.CloseTimeout)
	}
	s.mu.Unlock()
	if finish {
		_, _ = c.link.write(closeFrame) // best effort: it is the last thing said
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

// closeFrame says a normal end.
var closeFrame = func() []byte {
	b := []byte{0x80 | byte(ws.OpClose), 2, 0, 0}
	binary.BigEndian.PutUint16(b[2:], uint16(ws.StatusNormalClosure))
	return b
}()

// deadline is when a write that starts now has to be done.
func (c *wsConn) deadline() time.Time { return time.Now().Add(c.s.srv.cfg.WriteTimeout) }
