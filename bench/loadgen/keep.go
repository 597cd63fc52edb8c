// What a client keeps from one connection to the next, so that it can ask for what it missed:
// as socket.io-client does from 4.6 on, and as the clients of centrifuge do.

package main

import (
	"bytes"
	"encoding/json"
	"maps"
)

// A kept is what one user's client keeps. Its connections have it one after the other.
type kept struct {
	// Socket.IO: the private id of the session and the offset of the last event.
	pid, offset string
	early       [][]byte // events that came before the CONNECT reply
	asked       int      // the ack id of the event that is being handled, -1 if it has none

	subs map[string]position // centrifuge, by channel

	recovered bool // the server says that the last connection recovered
}

// A position is where a client is in a channel of centrifuge.
type position struct {
	Recover bool   `json:"recover"`
	Epoch   string `json:"epoch"`
	Offset  uint64 `json:"offset"`
}

// auth is the payload of CONNECT: {pid, offset}, if there is a pid, and the token.
func (k *kept) auth(token string) string {
	if k.pid == "" {
		return `{"token":"` + token + `"}`
	}
	m := map[string]string{"pid": k.pid, "token": token}
	if k.offset != "" {
		m["offset"] = k.offset
	}
	b, _ := json.Marshal(m) // strings only
	return string(b)
}

// connected reads the CONNECT reply. The pid is a new one unless the server recovered the session.
func (k *kept) connected(reply []byte) {
	var r struct{ Pid string }
	_ = json.Unmarshal(reply, &r) // a reply without payload has no pid
	k.recovered = r.Pid != "" && r.Pid == k.pid
	k.pid = r.Pid
}

// passed notes an event that the client has handled: of one without ack the last argument, if
// that is a string, is the offset, whatever the server meant by it.
func (k *kept) passed(args []json.RawMessage, acked bool) {
	if k.pid == "" || acked || len(args) == 0 {
		return
	}
	var s string
	if json.Unmarshal(args[len(args)-1], &s) == nil {
		k.offset = s
	}
}

// eventOf is an event of a client that keeps its position.
func (d *sio) eventOf(l *loop, c *conn, p []byte) {
	if c.state == stNSP {
		c.kept.early = append(c.kept.early, bytes.Clone(p))
		return
	}
	id, list := number(p)
	c.kept.asked = -1
	if len(list) < len(p) {
		c.kept.asked = id
	}
	var args []json.RawMessage
	var name string
	if json.Unmarshal(list, &args) != nil || len(args) == 0 || json.Unmarshal(args[0], &name) != nil {
		l.drop(c, "bad event")
		return
	}
	var data []byte
	if len(args) > 1 {
		data = args[1]
	}
	switch {
	case name != "hello":
		l.h.event(c, name, data)
	case c.state == stHello && bytes.Contains(data, []byte(`"ok":true`)):
		c.state = stReady
		l.h.ready(c)
	}
	c.kept.passed(args, c.kept.asked >= 0)
}

// connectedOf takes the CONNECT reply and what came before it.
func (d *sio) connectedOf(l *loop, c *conn, reply []byte) {
	c.kept.connected(reply)
	early := c.kept.early
	c.kept.early = nil
	for _, p := range early {
		d.eventOf(l, c, p)
	}
}

// resume is what the connect command has of the channels.
func (k *kept) resume() string {
	if len(k.subs) == 0 {
		return ""
	}
	b, _ := json.Marshal(k.subs) // strings and numbers only
	return `,"subs":` + string(b)
}

// A publication is one event of a channel.
type publication struct {
	Data   json.RawMessage
	Offset uint64
}

// connectedTo takes the reply to connect: where the client is in each channel, and what it missed.
func (d *centrifuge) connectedTo(l *loop, c *conn, p []byte) {
	var r struct {
		Connect struct {
			Subs map[string]struct {
				Recoverable, Recovered bool
				Epoch                  string
				Offset                 uint64
				Publications           []publication
			}
		}
	}
	if err := json.Unmarshal(p, &r); err != nil {
		l.drop(c, "bad reply to connect: "+err.Error())
		return
	}
	before := maps.Clone(c.kept.subs)
	c.kept.recovered = len(before) > 0
	c.kept.subs = map[string]position{}
	for channel, s := range r.Connect.Subs {
		if _, ok := before[channel]; ok && !s.Recovered {
			c.kept.recovered = false
		}
		if s.Recoverable {
			c.kept.subs[channel] = position{true, s.Epoch, s.Offset}
		}
		for _, pub := range s.Publications {
			d.publication(l, c, channel, pub)
		}
	}
}

// pushed takes a publication of a client that keeps its position.
func (d *centrifuge) pushed(l *loop, c *conn, p []byte) {
	var r struct {
		Push struct {
			Channel string
			Pub     publication
		}
	}
	if err := json.Unmarshal(p, &r); err != nil {
		l.drop(c, "bad publication: "+err.Error())
		return
	}
	d.publication(l, c, r.Push.Channel, r.Push.Pub)
}

func (d *centrifuge) publication(l *loop, c *conn, channel string, pub publication) {
	l.h.event(c, evTrip, pub.Data)
	if at, ok := c.kept.subs[channel]; ok && pub.Offset > 0 {
		at.Offset = pub.Offset
		c.kept.subs[channel] = at
	}
}
