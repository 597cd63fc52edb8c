// The long-polling transport: a connection whose polls bring messages, and a
// second one that posts them, as a browser has it.

package main

import (
	"bytes"
	"fmt"
)

const (
	socketPath = "/socket.io/"
	separator  = '\x1e'
)

// polling is what a conn of kindPoll has beside itself.
type polling struct {
	path    string // with the session's id
	get     []byte // the request of each poll
	posts   *conn
	queue   []byte // packets for the next POST
	posting bool
	posted  func(status int, body []byte)
	leaving bool // the close packet is queued or sent
}

func (l *loop) startPolling(c *conn) {
	p := &polling{path: socketPath + "?EIO=4&transport=polling"}
	p.posted = func(status int, _ []byte) {
		p.posting = false
		switch {
		case c.state == stClosed:
		case status != 200:
			l.drop(c, fmt.Sprintf("POST answered %d", status))
		case len(p.queue) > 0:
			l.flushPosts(c)
		case p.leaving:
			l.drop(c, "goodbye")
		}
	}
	c.polling = p
	l.get(c)
}

func (l *loop) get(c *conn) {
	p := c.polling
	if p.get == nil {
		p.get = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", p.path, l.target(c).host)
	}
	l.write(c, p.get)
}

// polled hands on what a poll brought, and polls again.
func (l *loop) polled(c *conn, status int, body []byte) {
	if status != 200 {
		l.drop(c, fmt.Sprintf("GET answered %d %s", status, body))
		return
	}
	p := c.polling
	for more := true; more && c.state != stClosed; {
		var packet []byte
		packet, body, more = bytes.Cut(body, []byte{separator})
		if c.state == stOpen {
			sid := field(packet, `"sid":"`)
			if sid == "" {
				l.drop(c, "no session id in the open packet")
				return
			}
			p.path += "&sid=" + sid
			p.get = nil
		}
		l.dial.message(l, c, packet)
	}
	if c.state != stClosed && !p.leaving {
		l.get(c)
	}
}

// post queues one packet and sends what is queued unless a POST is under way.
func (l *loop) post(c *conn, packet string) {
	p := c.polling
	if len(p.queue) > 0 {
		p.queue = append(p.queue, separator)
	}
	p.queue = append(p.queue, packet...)
	if !p.posting {
		l.flushPosts(c)
	}
}

func (l *loop) flushPosts(c *conn) {
	p := c.polling
	l.frames = appendPost(l.frames[:0], l.target(c), p.path, p.queue)
	p.queue = p.queue[:0]
	p.posting = true
	if err := l.request(&p.posts, c.to, l.frames, p.posted); err != nil {
		l.drop(c, "POST: "+err.Error())
	}
}

// field returns what stands between start and the next quotation mark.
func field(p []byte, start string) string {
	_, rest, _ := bytes.Cut(p, []byte(start))
	value, _, _ := bytes.Cut(rest, []byte{'"'})
	return string(value)
}
