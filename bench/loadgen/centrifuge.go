// Centrifuge's own JSON protocol, with rooms as server-side subscriptions named
// NAMESPACE#ROOM and the ping as an RPC.

package main

import (
	"bytes"
	"fmt"
	"strconv"
	"unsafe"
)

type centrifuge struct {
	toks *tokens
	buf  []byte // reused for each ping
}

func (d *centrifuge) name() string { return "centrifuge-json" }

func (d *centrifuge) upgrade(l *loop, c *conn) []byte {
	return fmt.Appendf(nil, "GET /connection/websocket HTTP/1.1\r\nHost: %s\r\n%s", l.target(c).host, upgradeHeader)
}

func (d *centrifuge) upgraded(l *loop, c *conn) {
	c.state = stNSP
	c.ackID = 1
	resume := ""
	if c.kept != nil {
		resume = c.kept.resume()
	}
	l.text(c, `{"id":1,"connect":{"token":"`+d.toks.of(c)+`","name":"`+c.role.nsp+`"`+resume+`}}`)
}

func (d *centrifuge) message(l *loop, c *conn, p []byte) {
	for more := true; more && c.state != stClosed; {
		var one []byte
		one, p, more = bytes.Cut(p, []byte{'\n'})
		switch len(one) {
		case 0:
		case 2: // {}
			l.beats++
			l.text(c, "{}")
		default:
			d.one(l, c, one)
		}
	}
}

func (d *centrifuge) one(l *loop, c *conn, p []byte) {
	reply, isReply := bytes.CutPrefix(p, []byte(`{"id":`))
	switch {
	case isReply:
		id, rest := number(reply)
		switch {
		case bytes.Contains(p, []byte(`"error":{`)):
			l.drop(c, "error reply: "+string(p))
		case id == 1: // the reply to connect may come after the hello
			if c.state == stNSP {
				c.state = stHello
			}
			if c.kept != nil {
				d.connectedTo(l, c, p)
			}
		case l.h.ack != nil:
			l.h.ack(c, id, rest)
		}
	case bytes.Contains(p, []byte(`"pub":{`)) && c.kept != nil:
		d.pushed(l, c, p)
	case bytes.Contains(p, []byte(`"pub":{`)):
		name := evTrip
		if bytes.Contains(p, []byte(`"lastLocation"`)) {
			name = evUpdate
		}
		if _, data, ok := bytes.Cut(p, []byte(`"data":`)); ok && l.h.event != nil {
			l.h.event(c, name, data)
		}
	case (c.state == stHello || c.state == stNSP) && bytes.Contains(p, []byte(`"message":{`)) && bytes.Contains(p, []byte(`"hello"`)):
		c.state = stReady
		l.h.ready(c)
	}
}

func (d *centrifuge) ping(l *loop, c *conn) {
	c.ackID++
	b := append(d.buf[:0], `{"id":`...)
	b = strconv.AppendInt(b, int64(c.ackID), 10)
	b = append(b, `,"rpc":{"method":"driver:location:ping","data":`...)
	b = appendPosition(b, c)
	d.buf = append(b, "}}"...)
	l.text(c, unsafe.String(&d.buf[0], len(d.buf)))
}

func (d *centrifuge) bye(l *loop, c *conn) { l.goodbye(c) }
