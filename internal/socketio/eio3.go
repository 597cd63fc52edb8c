// Clients of Engine.IO 3, which are older than Socket.IO 3: what differs for them.
//
//   - They are connected to the namespace "/" without asking, and wait for the answer.
//   - A CONNECT has no payload, but may have a query behind the namespace:
//     "0/drivers?token=abc,". The answer has no payload either.
//   - The packet that refuses a CONNECT is called ERROR; it looks the same.
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

// Opened implements engineio.Handler. It connects an older client to "/": where
// there is no such namespace it is told so all the same, since some wait for that
// before they connect to others. It is in none then, and the connect timeout runs.
func (c *Conn) Opened() {
	if f := c.srv.cfg.Opened; f != nil {
		f(c.Data, c.end)
	}
	switch {
	case !c.isEIO3():
	case c.srv.Lookup("/") == nil:
		c.session.Send(connectMessageEIO3("/"))
	default:
		_ = c.connect("/", nil) // cannot be there already
	}
}

// connectOlder begins the handshake of a namespace, unless it is "/", which has
// begun by itself.
func (c *Conn) connectEIO3(p *Packet) error {
	if isRoot(p.Namespace) {
		return nil
	}
	return c.connect(string(p.Namespace), queryPayload(p.Query))
}

// payloadOf returns a query as the object that a newer client would send: of a key
// that is repeated, the first value. A query that is malformed is none.
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
