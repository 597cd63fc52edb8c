// The events of the main namespace in the suite of socket.io-client: what a client sends, and
// what it waits for.

package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"github.com/rodando/realtime/internal/socketio"
)

const timeFormat = "2006-01-02T15:04:05.000Z"

var placeholder = []byte(`{"_placeholder":true,"num":0}`)

// clientEvent answers an event.
func clientEvent(s *socketio.Socket, e *socketio.Event) {
	c, _ := s.Data.(*clientSocket)
	emit := func(name string, args ...[]byte) { s.Send(message(s, name, args...)) }
	now := toJSON(time.Now().UTC().Format(timeFormat))
	switch e.Name {
	case "hi":
		emit("hi")
	case "echo":
		e.Ack(e.Attachments, e.Args...)
	case "ack":
		askForAck(s)
	case "getAckDate":
		e.Ack(nil, now)
	case "getDate":
		emit("takeDate", now)
	case "getDateObj":
		emit("takeDateObj", toJSON(map[string]json.RawMessage{"date": now}))
	case "getUtf8":
		for _, text := range []string{"てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"} {
			emit("takeUtf8", toJSON(text))
		}
	case "false":
		emit("false", []byte("false"))
	case "doge":
		sendBinary(s, "doge")
	case "getbin":
		sendBinary(s, "takebin")
	case "getHandshake":
		e.Ack(nil, toJSON(c.handshake))
	case "getId":
		e.Ack(nil, toJSON(s.ID()))
	default:
		if answer := c.confirm(e); answer != "" {
			emit(answer)
		}
	}
}

// askForAck emits an event whose ack must be 5 and an object.
func askForAck(s *socketio.Socket) {
	id := s.Namespace().NextID()
	err := s.Expect(id, func(r socketio.Reply) {
		var second struct{ Test bool }
		if len(r.Args) == 2 && string(r.Args[0]) == "5" && json.Unmarshal(r.Args[1], &second) == nil && second.Test {
			s.Send(message(s, "got it"))
		}
	})
	if err == nil {
		s.Send(socketio.EventMessage(s.Namespace().Name(), id, "ack"))
	}
}

func sendBinary(s *socketio.Socket, name string) {
	s.Send(socketio.EventMessages(s.Namespace().Name(), socketio.NoID, name, [][]byte{placeholder}, [][]byte{[]byte("asdfasdf")})...)
}

// confirm returns the event that says that binary data came as it must, alone, within an
// object, or after other events; or "".
func (c *clientSocket) confirm(e *socketio.Event) string {
	isBuffer := len(e.Args) == 1 && len(e.Attachments) == 1 && bytes.Equal(e.Args[0], placeholder)
	switch e.Name {
	case "buffa", "blob":
		if isBuffer {
			return map[string]string{"buffa": "buffack", "blob": "back"}[e.Name]
		}
	case "jsonbuff", "jsonblob":
		var object struct {
			Hello, Goodbye string
			Message        json.RawMessage
		}
		if len(e.Args) == 1 && len(e.Attachments) == 1 && json.Unmarshal(e.Args[0], &object) == nil &&
			object.Hello == "lol" && object.Goodbye == "gotcha" && bytes.Equal(object.Message, placeholder) {
			return e.Name + "-ack"
		}
	case "abuff1", "blob1", "abuff2", "blob2", "blob3":
		// Those whose names end in 2 are text, "second" where it is one of three.
		isText := len(e.Args) == 1 && len(e.Attachments) == 0
		if !isBuffer && !isText {
			return ""
		}
		c.seen = append(c.seen, e.Name)
		switch {
		case e.Name == "abuff2" && slices.Contains(c.seen, "abuff1"), e.Name == "blob3" && slices.Equal(c.seen, []string{"blob1", "blob2", "blob3"}):
			return e.Name + "-ack"
		}
	}
	return ""
}
