// Incoming frames: from bytes in arbitrary pieces to messages.

package engineio

import (
	"bytes"
	"encoding/binary"
	"sync"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// maxFragments limits the fragments of one message. Stock clients use far fewer.
const maxFragments = 1 << 12

// unfinishedMessage is the part of a message that has arrived so far.
type unfinishedMessage struct {
	raw     []byte    // bytes of an incomplete frame
	message []byte    // payloads of the fragments so far
	op      ws.OpCode // of the first fragment
	frames  int       // number of fragments so far; 0 means that no fragmented message is open
}

// frameReader holds the buffers of one burst of reading. It is pooled.
type frameReader struct {
	src    bytes.Reader
	header [ws.MaxHeaderSize]byte
	buf    [16 << 10]byte
}

var frameReaders = sync.Pool{New: func() any { return new(frameReader) }}

func getFrameReader() *frameReader {
	return frameReaders.Get().(*frameReader) //nolint:errcheck,forcetypeassert // the pool holds nothing else
}

// inputResult says what the reader of a connection does next.
type inputResult struct {
	more  bool // of readInput: false if further input is to be discarded; of epollLink.feed: false if the reader must stop
	serve bool // call Handler.Serve: messages were handed to the handler
}

// readInput handles bytes as they arrive.
func (c *wsConn) readInput(r *frameReader, b []byte) (res inputResult) {
	c.s.recv.Lock()
	defer c.s.unlockRecv()
	if res.more = c.parseLocked(r, b); !res.more {
		c.unfinished = nil
	}
	if c.unfinished != nil || c.reserved > 0 {
		res.more = c.reserveLocked() && res.more
	}
	res.serve, c.s.needsServe = c.s.needsServe, false
	return res
}

// parseLocked handles the frames in b and reports whether more may follow. It keeps no
// part of b; of an incomplete frame it copies the bytes that have arrived. Session.recv
// is held.
func (c *wsConn) parseLocked(r *frameReader, b []byte) bool {
	if c.unfinished != nil && len(c.unfinished.raw) > 0 {
		c.unfinished.raw = append(c.unfinished.raw, b...)
		b = c.unfinished.raw
	}
	for len(b) > 0 {
		h, n, err := readHeader(r, b)
		if err != nil {
			return c.fail(ws.StatusProtocolError)
		}
		if n == 0 {
			break
		}
		if status := c.checkHeaderLocked(h); status != 0 {
			if status == ws.StatusMessageTooBig {
				c.s.reportLimit(LimitPayload)
			}
			return c.fail(status)
		}
		if len(b)-n < int(h.Length) {
			break
		}
		payload := b[n : n+int(h.Length)]
		b = b[n+int(h.Length):]
		ws.Cipher(payload, h.Mask, 0)
		if !c.handleFrameLocked(h, payload) {
			return false
		}
	}
	c.keepLocked(b)
	return true
}

// keepLocked stores the beginning of a frame until the rest arrives. Session.recv is
// held.
func (c *wsConn) keepLocked(b []byte) {
	switch p := c.unfinished; {
	case len(b) == 0 && (p == nil || p.frames == 0):
		c.unfinished = nil
	case len(b) == 0:
		p.raw = nil
	case p == nil:
		c.unfinished = &unfinishedMessage{raw: bytes.Clone(b)}
	case len(b) != len(p.raw): // otherwise b is p.raw itself
		p.raw = bytes.Clone(b)
	}
}

// readHeader parses the frame header at the start of b. n is 0 if the header is
// incomplete.
func readHeader(r *frameReader, b []byte) (h ws.Header, n int, err error) {
	if len(b) < 2 {
		return h, 0, nil
	}
	n = 2
	switch length := b[1] & 0x7f; {
	case length > ws.MaxControlFramePayloadSize && ws.OpCode(b[0]&0xf).IsControl(): // or a length of two or eight bytes
		return h, n, ws.ErrProtocolControlPayloadOverflow
	case length == 126:
		n += 2
	case length == 127:
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

// checkHeaderLocked checks a frame by its header, before any of its payload is stored.
// It returns the status to close with, or 0. Session.recv is held.
func (c *wsConn) checkHeaderLocked(h ws.Header) ws.StatusCode {
	state := ws.StateServerSide
	have, frames := 0, 0
	if c.unfinished != nil && c.unfinished.frames > 0 {
		state |= ws.StateFragmented
		have, frames = len(c.unfinished.message), c.unfinished.frames
	}
	if ws.CheckHeader(h, state) != nil {
		return ws.StatusProtocolError
	}
	if h.Length > int64(c.s.srv.cfg.MaxPayload) || !h.OpCode.IsControl() && have+int(h.Length) > c.s.srv.cfg.MaxPayload || frames >= maxFragments {
		return ws.StatusMessageTooBig
	}
	return 0
}

// handleFrameLocked handles one frame and reports whether more may follow. Session.recv
// is held.
func (c *wsConn) handleFrameLocked(h ws.Header, payload []byte) bool {
	switch {
	case h.OpCode == ws.OpClose:
		return c.handleCloseFrame(payload)
	case h.OpCode == ws.OpPing:
		return c.answerPingFrame(payload)
	case h.OpCode == ws.OpPong:
		return true
	case h.OpCode == ws.OpContinuation:
		c.unfinished.message = append(c.unfinished.message, payload...)
		c.unfinished.frames++
		if !h.Fin {
			return true
		}
		payload, h.OpCode = c.unfinished.message, c.unfinished.op
		c.unfinished.message, c.unfinished.frames = nil, 0
	case !h.Fin:
		if c.unfinished == nil {
			c.unfinished = &unfinishedMessage{}
		}
		c.unfinished.message, c.unfinished.op, c.unfinished.frames = bytes.Clone(payload), h.OpCode, 1
		return true
	}
	isBinary := h.OpCode == ws.OpBinary
	if !isBinary && !utf8.Valid(payload) {
		return c.fail(ws.StatusInvalidFramePayloadData)
	}
	if c.isProbe() {
		if isBinary {
			c.dropProbe()
			return false
		}
		return c.handleUpgradePacket(payload)
	}
	return c.s.receiveLocked(payload, isBinary)
}

// handleCloseFrame handles a close frame, which must be as RFC 6455, sections 5.5.1 and 7.4,
// says: empty, or a status and text. It always returns false.
func (c *wsConn) handleCloseFrame(payload []byte) bool {
	answer, reason := ws.StatusNormalClosure, ReasonTransportClose
	switch {
	case len(payload) == 0:
	case len(payload) == 1 || !sentStatus(binary.BigEndian.Uint16(payload)):
		answer, reason = ws.StatusProtocolError, ReasonParseError
	case !utf8.Valid(payload[2:]):
		answer, reason = ws.StatusInvalidFramePayloadData, ReasonParseError
	}
	if !c.dropProbe() {
		c.s.closeByClient(reason, answer, true)
	}
	return false
}

// sentStatus reports whether a close frame may have a status. 1004 to 1006 and 1015 are
// reserved, and others below 3000 have no meaning yet.
func sentStatus(status uint16) bool {
	switch {
	case status < 1000, status >= 1004 && status <= 1006, status >= 1015 && status < 3000, status >= 5000:
		return false
	}
	return true
}

// answerPingFrame answers a websocket ping. The pong is sent after the messages that are
// already queued; during an upgrade it is written at once.
func (c *wsConn) answerPingFrame(data []byte) bool {
	b := append(make([]byte, headroom, headroom+len(data)), data...)
	n := putHeader(b[:headroom], byte(ws.OpPong), len(data))
	if c.isProbe() {
		return c.answerProbe(b[headroom-n:])
	}
	// If the client does not read, only the newest pong stays in the outbox, as RFC
	// 6455, section 5.5.3, allows.
	c.s.Send(&Message{frame: b[headroom-n:], head: n, Key: keyPongFrame})
	return !c.s.isClosed() // a closing session does not answer, but reads
}
