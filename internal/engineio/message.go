// Outgoing packets: encoded once, shared by all receivers.

package engineio

import (
	"encoding/base64"
	"encoding/binary"
)

// Packet types, the first byte of a packet's text form.
const (
	packetOpen    = '0'
	packetClose   = '1'
	packetPing    = '2'
	packetPong    = '3'
	packetMessage = '4'
	packetUpgrade = '5'
	packetNoop    = '6'
)

// separator joins the packets of a polling payload.
const separator = '\x1e'

// headroom is what a websocket frame header takes at most, unmasked.
const headroom = 10

// Message is one outgoing packet. Its bytes never change once it was made, so
// one Message may be queued on any number of sessions.
type Message struct {
	frame  []byte // the websocket frame, header and payload
	head   int    // length of the frame's header
	binary bool

	// Volatile messages are dropped for a session that is not writable.
	Volatile bool
	// Key, when set, makes the message replace an unsent one of the same key
	// on a session that is not writable.
	Key string
}

// TextBuffer returns a buffer to which a text message's data is appended, to be
// handed to TextMessage. Size is a hint for the data's length.
func TextBuffer(size int) []byte {
	b := make([]byte, headroom+1, headroom+1+size)
	b[headroom] = packetMessage
	return b
}

// TextMessage makes a message from a buffer that TextBuffer began. It keeps b.
func TextMessage(b []byte) *Message { return newMessage(b, false) }

// BinaryMessage makes a binary message. It copies data.
func BinaryMessage(data []byte) *Message {
	b := make([]byte, headroom, headroom+len(data))
	return newMessage(append(b, data...), true)
}

// control makes a packet other than a message.
func control(packet string) *Message {
	return newMessage(append(make([]byte, headroom), packet...), false)
}

// newMessage writes the frame header into the headroom, right before the
// payload. A server's frames are single and unmasked (RFC 6455, section 5.2).
func newMessage(b []byte, binary bool) *Message {
	n := len(b) - headroom
	op := byte(opText)
	if binary {
		op = opBinary
	}
	head := putHeader(b[:headroom], op, n)
	return &Message{frame: b[headroom-head:], head: head, binary: binary}
}

// putHeader writes a header at the end of b and returns its length.
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

// payload is what the frame carries: the packet's text form, or the data of a
// binary message.
func (m *Message) payload() []byte { return m.frame[m.head:] }

// appendPolled appends the packet as it stands in a polling payload.
func (m *Message) appendPolled(dst []byte) []byte {
	if m.binary {
		return base64.StdEncoding.AppendEncode(append(dst, 'b'), m.payload())
	}
	return append(dst, m.payload()...)
}

// polledLen is the length that appendPolled adds.
func (m *Message) polledLen() int {
	if m.binary {
		return 1 + base64.StdEncoding.EncodedLen(len(m.payload()))
	}
	return len(m.payload())
}
