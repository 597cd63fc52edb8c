// Frames as they come in: from bytes in arbitrary pieces to messages.

package engineio

import (
	"bytes"
	"sync"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// maxFragments bounds the frames of one message: no client splits further.
const maxFragments = 1 << 12

// partial is what is known of a message that has not arrived whole.
type partial struct {
	raw     []byte // bytes of an unfinished frame
	message []byte // payloads of the fragments so far
	op      ws.OpCode
	frames  int // fragments so far; 0: no fragmented message is open
}

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
	defer c.s.handedOn()
	if more = c.parse(r, b); !more {
		c.pend = nil
	}
	if c.pend != nil || c.held > 0 {
		more = c.count() && more
	}
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
			if status == ws.StatusMessageTooBig {
				c.s.srv.limited("Payload")
			}
			return c.fail(status)
		}
		if len(b)-n < int(h.Length) {
			break
		}
		payload := b[n : n+int(h.Length)]
		b = b[n+int(h.Length):]
		ws.Cipher(payload, h.Mask, 0)
		if !c.frame(h, payload) {
			return false
		}
	}
	c.keep(b)
	return true
}

// keep stores the beginning of a frame until the rest arrives.
func (c *wsConn) keep(b []byte) {
	switch p := c.pend; {
	case len(b) == 0 && (p == nil || p.frames == 0):
		c.pend = nil
	case len(b) == 0:
		p.raw = nil
	case p == nil:
		c.pend = &partial{raw: bytes.Clone(b)}
	case len(b) != len(p.raw): // else it is p.raw itself
		p.raw = bytes.Clone(b)
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

// pongFrame answers a websocket ping. The answer keeps its place behind what
// was queued before.
func (c *wsConn) pongFrame(data []byte) bool {
	b := append(make([]byte, headroom, headroom+len(data)), data...)
	n := putHeader(b[:headroom], byte(ws.OpPong), len(data))
	if c.isProbe() {
		return c.answer(b[headroom-n:])
	}
	// For a client that has stopped reading the last answer waits, as it may do for
	// those before (RFC 6455, section 5.5.3).
	return c.s.Send(&Message{frame: b[headroom-n:], head: n, Key: "\x00pong"})
}
