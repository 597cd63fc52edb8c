// Package sift drops messages of pattern subscriptions from what Redis sends, before the
// client parses them. In a cluster most messages of pub/sub are for other nodes, and a client
// allocates for each of them.
//
// It reads RESP3. What it does not understand it passes on, from there to the connection's end.
package sift

import (
	"bytes"
	"net"
	"strconv"
)

// Drops reports whether a message is to be dropped. head is the beginning of its payload, up to
// HeadBytes. It is called by the connection's reader, when the client has handled everything that
// came before, and must not keep its arguments.
type Drops func(pattern, channel, head []byte) bool

// HeadBytes is how much of a payload Drops sees.
const HeadBytes = 64

const (
	// maxHeader is the maximum length of a pattern or channel whose messages may be dropped, and
	// of a line.
	maxHeader = 1 << 10
	// maxLine is the maximum length of a line with a string's length.
	maxLine = 16
	// minRead is the minimum length of a read that drops: it has room for all that may have to be
	// held. The client reads that much where a message may begin, and less only within one.
	minRead = 4 * maxHeader
	// maxElements bounds a message's elements, and what is added up for nested ones.
	maxElements = 1 << 30
)

// Conn is a connection whose Read leaves out messages. It is not for concurrent readers.
type Conn struct {
	net.Conn
	drops Drops

	held     []byte // the beginning of a message that cannot be judged yet
	dropping int    // bytes that are left of a message that is dropped
	failed   error  // of the connection; the next read returns it

	// Where in the stream the next byte is.
	elements int    // that the message lacks; 0: a message begins
	skip     int    // bytes of the string
	line     []byte // the beginning of a line
	opaque   bool   // it was not understood
}

// New returns c with a filter.
func New(c net.Conn, drops Drops) *Conn { return &Conn{Conn: c, drops: drops} }

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	for {
		n := copy(p, c.held)
		c.held = c.held[n:]
		if err := c.failed; err != nil && n == 0 {
			c.failed = nil
			return 0, err
		}
		if n < len(p) && c.failed == nil {
			var m int
			m, c.failed = c.Conn.Read(p[n:])
			n += m
		}
		if n = c.filter(p[:n], len(p) >= minRead && c.failed == nil); n > 0 {
			return n, nil // an error is for the next read
		}
	}
}

// filter moves what is to be passed on to the beginning of p, and returns how much that is.
// Messages are dropped only before the first that is passed on: the client has handled all
// before p, and nothing else.
func (c *Conn) filter(p []byte, dropping bool) (out int) {
	i := 0
	for i < len(p) && out == 0 && !c.opaque {
		if c.dropping > 0 {
			n := min(c.dropping, len(p)-i)
			c.dropping -= n
			i += n
			continue
		}
		if !dropping || c.elements > 0 || c.skip > 0 || len(c.line) > 0 {
			break
		}
		size, verdict := c.judge(p[i:])
		if verdict == hold {
			c.held = append(c.held[:0], p[i:]...)
			return 0
		}
		if verdict == pass {
			break
		}
		n := min(size, len(p)-i)
		c.dropping = size - n
		i += n
	}
	out = copy(p, p[i:])
	c.follow(p[:out])
	return out
}

type verdict uint8

const (
	pass verdict = iota
	hold         // more must be read
	drop
)

const start = ">4\r\n$8\r\npmessage\r\n"

// judge says what to do with a message that begins with b, and how long one is that is dropped.
func (c *Conn) judge(b []byte) (size int, v verdict) {
	if n := min(len(b), len(start)); string(b[:n]) != start[:n] {
		return 0, pass
	} else if n < len(start) {
		return 0, hold
	}
	pattern, i, v := bulk(b, len(start))
	if v != drop {
		return 0, v
	}
	channel, i, v := bulk(b, i)
	if v != drop {
		return 0, v
	}
	n, i, v := bulkLength(b, i)
	switch {
	case v != drop:
		return 0, v
	case len(b)-i < min(n, HeadBytes):
		return 0, hold
	case !c.drops(pattern, channel, b[i:i+min(n, HeadBytes)]):
		return 0, pass
	}
	return i + n + len("\r\n"), drop
}

// bulk reads a string and returns where the next element begins. The verdict is drop if it is
// complete.
func bulk(b []byte, at int) (s []byte, next int, v verdict) {
	n, at, v := bulkLength(b, at)
	switch {
	case v != drop:
		return nil, 0, v
	case n > maxHeader:
		return nil, 0, pass
	case len(b)-at < n+len("\r\n"):
		return nil, 0, hold
	}
	return b[at : at+n], at + n + len("\r\n"), drop
}

// bulkLength reads the line before a string.
func bulkLength(b []byte, at int) (n, next int, v verdict) {
	line := b[at:min(len(b), at+maxLine)]
	end := bytes.IndexByte(line, '\n')
	switch {
	case len(line) > 0 && line[0] != '$', end < 0 && len(line) == maxLine:
		return 0, 0, pass
	case end < 0:
		return 0, 0, hold
	case end < 2 || line[end-1] != '\r':
		return 0, 0, pass
	}
	if n, ok := number(line[1 : end-1]); ok && n >= 0 {
		return n, at + end + 1, drop
	}
	return 0, 0, pass
}

// number reads a length.
func number(b []byte) (int, bool) {
	n, err := strconv.Atoi(string(b))
	return n, err == nil && n >= -1 && n <= maxElements
}

// follow keeps track of where messages begin in what is passed on.
func (c *Conn) follow(p []byte) {
	for len(p) > 0 && !c.opaque {
		if c.skip > 0 {
			n := min(c.skip, len(p))
			c.skip -= n
			p = p[n:]
			continue
		}
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			c.line = append(c.line, p...)
			c.opaque = len(c.line) > maxHeader
			return
		}
		line := p[:end+1]
		if len(c.line) > 0 {
			line = append(c.line, line...)
		}
		c.element(line)
		c.line = c.line[:0]
		p = p[end+1:]
	}
}

// element counts the element that begins with a line.
func (c *Conn) element(line []byte) {
	n := len(line) - 2
	if n < 1 || line[n] != '\r' {
		c.opaque = true
		return
	}
	if c.elements == 0 {
		c.elements = 1
	}
	switch line[0] {
	case '+', '-', ':', '_', '#', ',', '(':
		c.elements--
		return
	}
	count, ok := number(line[1:n])
	if !ok {
		c.opaque = true
		return
	}
	switch line[0] {
	case '$', '=', '!':
		c.elements--
		if count >= 0 {
			c.skip = count + len("\r\n")
		}
	case '*', '~', '>':
		c.elements += max(count, 0) - 1
	case '%':
		c.elements += 2*max(count, 0) - 1
	case '|': // attributes of the element that follows
		c.elements += 2 * max(count, 0)
	default:
		c.opaque = true
	}
	if c.elements > maxElements {
		c.opaque = true
	}
}
