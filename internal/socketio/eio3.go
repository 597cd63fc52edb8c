// EIO3: clients of Engine.IO 3 speak Socket.IO protocol 4. The differences:
//
//   - They are connected to the namespace "/" without a CONNECT, and wait for the
//     answer.
//   - A CONNECT has no payload, but may have a query after the namespace:
//     "0/drivers?token=abc,". The answer has no payload either.
//   - CONNECT_ERROR is called ERROR; it looks the same.
//
// The protocol: https://github.com/socketio/socket.io-protocol/tree/v4

package socketio

import (
	"encoding/json"
	"net/url"

	"github.com/rodando/realtime/internal/engineio"
)

func (c *Conn) isEIO3() bool { return c.session.Protocol() < 4 }

func isRoot(namespace []byte) bool { return string(namespace) == "/" }

// Opened implements engineio.Handler. It connects an EIO3 client to "/". If there is no
// such namespace, the client gets the answer all the same, because some clients wait
// for it before they connect to others; but it is in no namespace, and the connect
// timeout runs.
func (c *Conn) Opened() {
	if f := c.srv.cfg.Opened; f != nil {
		f(c.Data, c.end)
	}
	switch {
	case !c.isEIO3():
	case c.srv.Lookup("/") == nil:
		c.session.Send(connectMessageEIO3("/"))
	default:
		_ = c.connect("/", nil) // cannot fail: it is the first CONNECT
	}
}

// connectEIO3 starts the handshake of a namespace other than "/". That of "/" starts in
// Opened.
func (c *Conn) connectEIO3(p *Packet) error {
	if isRoot(p.Namespace) {
		return nil
	}
	return c.connect(string(p.Namespace), queryPayload(p.Query))
}

// queryPayload returns a query as the JSON object that a client of protocol 5 would
// send. Of a repeated key it takes the first value. It returns nil for a malformed
// query.
func queryPayload(query []byte) []byte {
	if len(query) == 0 {
		return nil
	}
	values, err := url.ParseQuery(string(query))
	if err != nil {
		return nil
	}
	payload := make(map[string]string, len(values))
	for key := range values {
		payload[key] = values.Get(key)
	}
	b, err := json.Marshal(payload)
	if err != nil { // cannot happen: strings
		return nil
	}
	return b
}

func connectMessageEIO3(namespace string) *Message {
	return engineio.TextMessage(appendHeader(engineio.TextBuffer(len(namespace)+2), PacketConnect, namespace, NoID, 0))
}
