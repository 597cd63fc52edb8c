// Outgoing packets: encoded once, and shared by all receivers.

package engineio

import (
	"encoding/base64"
	"encoding/binary"
)

// Packet types: the first byte of a packet in text form.
const (
	packetOpen    = '0'
	packetClose   = '1'
	packetPing    = '2'
	packetPong    = '3'
	packetMessage = '4'
	packetUpgrade = '5'
	packetNoop    = '6'
)

// separator separates the packets of a polling payload.
const separator = '\x1e'

// Keys of the engine's own messages: see Message.Key. Those of the layer above begin with no
// NUL.
const (
	keyPong      = "\x00pong" // the packet, for EIO3
	keyPongFrame = "\x00pong frame"
)

// headroom is the maximum size of an unmasked websocket frame header.
const headroom = 10

// Message is one outgoing packet. Its bytes never change after it was made, so one
// Message may be queued on any number of sessions concurrently.
type Message struct {
	frame  []byte // the websocket frame: header and payload
	head   int    // length of the frame header
	binary bool
	// receipt says that it is a receiptPing.
	receipt bool

	// Volatile messages are dropped if the session is not writable.
	Volatile bool
	// Key makes the message replace an unsent message of the same key if the session is
	// not writable. Empty: it replaces none. A message that others belong to, as an event
	// with attachments, has none: it would be replaced without them.
	Key string
}

// TextBuffer returns a buffer for TextMessage. The caller appends the data of the
// message; size is a hint for its length.
func TextBuffer(size int) []byte {
	b := make([]byte, headroom+1, headroom+1+size)
	b[headroom] = packetMessage
	return b
}

// TextMessage makes a message from a buffer of TextBuffer. It keeps b.
func TextMessage(b []byte) *Message { return newMessage(b, false) }

// BinaryMessage makes a binary message. It copies data.
func BinaryMessage(data []byte) *Message {
	b := make([]byte, headroom, headroom+len(data))
	return newMessage(append(b, data...), true)
}

// control makes a packet of a type other than message.
func control(packet string) *Message {
	return newMessage(append(make([]byte, headroom), packet...), false)
}

// newMessage writes the frame header into the headroom, right before the payload. A
// frame of a server is single and unmasked (RFC 6455, section 5.2).
func newMessage(b []byte, binary bool) *Message {
	n := len(b) - headroom
	op := opText
	if binary {
		op = opBinary
	}
	head := putHeader(b[:headroom], op, n)
	return &Message{frame: b[headroom-head:], head: head, binary: binary}
}

// putHeader writes a frame header at the end of b and returns its length.
func putHeader(b []byte, op byte, n int) int {
	switch end := len(b); {
	case n < 126:
		b[end-2], b[end-1] = 0x80|op, byte(n)
		return 2
	case n <= 0xffff:
		b[end-4], b[end-3] = 0x80|op, 126
		binary.BigEndian.PutUint16(b[end-2:], uint16(n))
		return 4
	default:
		b[end-10], b[end-9] = 0x80|op, 127
		binary.BigEndian.PutUint64(b[end-8:], uint64(n))
		return 10
	}
}

// isPong reports whether the message answers a ping of the client.
func (m *Message) isPong() bool { return m.Key == keyPong || m.Key == keyPongFrame }

// Size returns the number of bytes of the content.
func (m *Message) Size() int { return len(m.frame) - m.head }

// Queued returns the number of bytes that the message counts while it is unsent: those of its frame.
func (m *Message) Queued() int { return len(m.frame) }

// Data returns the data of the message, without the packet's type. The caller must not change it.
func (m *Message) Data() []byte {
	if m.binary {
		return m.payload()
	}
	return m.payload()[1:]
}

// payload returns the content of the frame: the packet in text form, or the data of a
// binary message.
func (m *Message) payload() []byte { return m.frame[m.head:] }

// appendPolled appends the packet in the form of a polling payload.
func (m *Message) appendPolled(dst []byte) []byte {
	if m.binary {
		return base64.StdEncoding.AppendEncode(append(dst, 'b'), m.payload())
	}
	return append(dst, m.payload()...)
}

// polledLen returns the number of bytes that appendPolled appends.
func (m *Message) polledLen() int {
	if m.binary {
		return 1 + base64.StdEncoding.EncodedLen(len(m.payload()))
	}
	return len(m.payload())
}
