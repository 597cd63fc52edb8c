// WebSocket frames, both ways: only as much of RFC 6455 as a generator needs.

package main

import "strconv"

const (
	opText  = 1
	opBin   = 2
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// A frame is one frame of the server; its payload aliases what was read.
type frame struct {
	op      byte
	fin     bool
	bad     bool // masked, or with reserved bits: no server sends that
	payload []byte
}

// parseFrame returns the first frame of b and its length, 0 when it is not
// complete.
func parseFrame(b []byte) (f frame, size int) {
	if len(b) < 2 {
		return f, 0
	}
	head, n := 2, int(b[1]&0x7f)
	switch n {
	case 126:
		head = 4
	case 127:
		head = 10
	}
	if len(b) < head {
		return f, 0
	}
	if head > 2 {
		n = 0
		for _, x := range b[2:head] {
			n = n<<8 | int(x)
		}
	}
	if len(b)-head < n {
		return f, 0
	}
	return frame{op: b[0] & 0xf, fin: b[0]&0x80 != 0, bad: b[0]&0x70 != 0 || b[1]&0x80 != 0, payload: b[head : head+n]}, head + n
}

// appendFrame appends a masked frame. The mask is zero, which is a legal mask
// and leaves the payload as it is; the server still unmasks it.
func appendFrame(b []byte, op byte, p string) []byte {
	b = append(b, 0x80|op)
	switch n := len(p); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = append(b, 0x80|126, byte(n>>8), byte(n))
	default:
		b = append(b, 0x80|127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	b = append(b, 0, 0, 0, 0)
	return append(b, p...)
}

// frame handles one frame of the server.
func (l *loop) frame(c *conn, f frame) {
	p := f.payload
	switch {
	case f.bad:
		l.drop(c, "bad frame")
	case f.op == opClose:
		why := "close frame"
		if len(p) >= 2 {
			why = "close " + strconv.Itoa(int(p[0])<<8|int(p[1])) + " " + string(p[2:])
		}
		l.drop(c, why)
	case f.op == opPing:
		l.send(c, opPong, string(p))
	case f.op == 0 || (f.op == opText || f.op == opBin) && !f.fin:
		c.frag = append(c.frag, p...)
		if f.fin {
			whole := c.frag
			c.frag = nil
			l.dial.message(l, c, whole)
		}
	case f.op == opText || f.op == opBin:
		l.dial.message(l, c, p)
	}
}

func (l *loop) send(c *conn, op byte, p string) {
	l.frames = appendFrame(l.frames[:0], op, p)
	l.write(c, l.frames)
}

// text sends one message, over either transport.
func (l *loop) text(c *conn, p string) {
	if c.polling != nil {
		l.post(c, p)
		return
	}
	l.send(c, opText, p)
}

// goodbye closes the transport politely; the server ends it.
func (l *loop) goodbye(c *conn) {
	if c.polling != nil {
		c.polling.leaving = true
		l.post(c, "1")
		return
	}
	l.send(c, opClose, "\x03\xe8")
}
