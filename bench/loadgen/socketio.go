// Socket.IO 5 over Engine.IO 4, and Socket.IO 2 over Engine.IO 3.

package main

import (
	"bytes"
	"fmt"
	"strconv"
	"unsafe"
)

// A dialect says how to open, authenticate, ping and read one protocol.
type dialect interface {
	name() string
	upgrade(l *loop, c *conn) []byte    // the request that opens a websocket
	upgraded(l *loop, c *conn)          // it is open
	message(l *loop, c *conn, p []byte) // a message of the server
	ping(l *loop, c *conn)              // send one driver:location:ping with ack
	bye(l *loop, c *conn)               // say goodbye politely
}

// The events that the modes count.
const (
	evUpdate = "driver:location:update"
	evTrip   = "trip:started"
)

type sio struct {
	eio  int
	toks *tokens
	buf  []byte // reused for each ping
}

func (d *sio) name() string { return "sio-eio" + strconv.Itoa(d.eio) }

const upgradeHeader = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

func (d *sio) upgrade(l *loop, c *conn) []byte {
	token := ""
	if d.eio == 3 {
		token = "&token=" + d.toks.of(c)
	}
	return fmt.Appendf(nil, "GET %s?EIO=%d&transport=websocket%s HTTP/1.1\r\nHost: %s\r\n%s", socketPath, d.eio, token, l.target(c).host, upgradeHeader)
}

func (d *sio) upgraded(*loop, *conn) {}

func (d *sio) connect(l *loop, c *conn) {
	c.state = stNSP
	switch {
	case c.kept != nil:
		l.text(c, "40"+c.role.nsp+","+c.kept.auth(d.toks.of(c)))
	case d.eio == 4:
		l.text(c, "40"+c.role.nsp+`,{"token":"`+d.toks.of(c)+`"}`)
	default:
		l.text(c, "40"+c.role.nsp)
	}
}

func (d *sio) message(l *loop, c *conn, p []byte) {
	if len(p) == 0 {
		return
	}
	switch p[0] {
	case '0': // open; in Engine.IO 3 the server connects / by itself first
		if c.state == stOpen && d.eio == 4 {
			d.connect(l, c)
		}
	case '1':
		l.drop(c, "engine.io close")
	case '2':
		l.beats++
		l.text(c, "3")
	case '4':
		if len(p) > 1 {
			d.packet(l, c, p[1], p[2:])
		}
	}
}

// packet handles one Socket.IO packet.
func (d *sio) packet(l *loop, c *conn, typ byte, p []byte) {
	nsp := []byte("/")
	if len(p) > 0 && p[0] == '/' {
		nsp, p, _ = bytes.Cut(p, []byte{','})
	}
	switch typ {
	case '0':
		if d.eio == 3 && len(nsp) == 1 && c.state == stOpen {
			d.connect(l, c)
		} else if string(nsp) == c.role.nsp && c.state == stNSP {
			c.state = stHello
			if c.kept != nil {
				d.connectedOf(l, c, p)
			}
		}
	case '1':
		l.drop(c, "namespace disconnect")
	case '2':
		if c.kept != nil {
			d.eventOf(l, c, p)
		} else {
			d.event(l, c, p)
		}
	case '3':
		id, rest := number(p)
		if len(rest) < len(p) && l.h.ack != nil {
			l.h.ack(c, id, rest)
		}
	case '4':
		l.drop(c, "connect error: "+string(p))
	}
}

func (d *sio) event(l *loop, c *conn, p []byte) {
	i := bytes.Index(p, []byte(`["`))
	if i < 0 {
		return
	}
	name, data, ok := bytes.Cut(p[i+2:], []byte{'"'})
	if !ok {
		return
	}
	data = bytes.TrimPrefix(data, []byte{','})
	if c.state == stHello || c.state == stNSP {
		if string(name) == "hello" && bytes.Contains(data, []byte(`"ok":true`)) {
			c.state = stReady
			l.h.ready(c)
		}
		return
	}
	if l.h.event != nil {
		l.h.event(c, eventName(name), data)
	}
}

// eventName makes a string without allocating for the events that modes count.
func eventName(b []byte) string {
	switch string(b) {
	case evUpdate, "admin:" + evUpdate: // an admin may receive it under either name
		return evUpdate
	case evTrip:
		return evTrip
	}
	return string(b)
}

// number splits the digits at the start of p off.
func number(p []byte) (n int, rest []byte) {
	k := 0
	for ; k < len(p) && p[k] >= '0' && p[k] <= '9'; k++ {
		n = n*10 + int(p[k]-'0')
	}
	return n, p[k:]
}

func (d *sio) ping(l *loop, c *conn) {
	c.ackID++
	b := append(d.buf[:0], "42"...)
	b = append(b, c.role.nsp...)
	b = append(b, ',')
	b = strconv.AppendInt(b, int64(c.ackID), 10)
	b = append(b, `["driver:location:ping",`...)
	b = appendPosition(b, c)
	d.buf = append(b, ']')
	l.text(c, unsafe.String(&d.buf[0], len(d.buf)))
}

// appendPosition appends a position that differs from driver to driver and from
// ping to ping, and always has the same length.
func appendPosition(b []byte, c *conn) []byte {
	b = append(b, `{"lat":13.6`...)
	b = strconv.AppendInt(b, int64(10000+c.user%80000), 10)
	b = append(b, `,"lng":-89.2`...)
	b = strconv.AppendInt(b, int64(10000+c.ackID%80000), 10)
	return append(b, '}')
}

func (d *sio) bye(l *loop, c *conn) {
	l.text(c, "41"+c.role.nsp+",")
	l.goodbye(c)
}
