// EIO3: protocol 3, which clients older than Socket.IO 3 speak, where it differs from
// protocol 4:
//
//   - The client sends the pings, and the server the pongs.
//   - A binary message begins with its type: a byte 4, or "b4" before base64 in
//     text.
//   - A polling payload gives the length of each packet. In a text payload that is
//     "<length>:<packet>", counted in UTF-16 code units. In a binary payload it is
//     a byte 0 for text or 1 for binary, the length in bytes, one byte for each
//     decimal digit, then 255 and the packet.
//
// The protocol: https://github.com/socketio/engine.io-protocol/tree/v3

package engineio

import (
	"bytes"
	"encoding/base64"
	"net/url"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// binaryMessageType is the type of a message in a binary packet.
	binaryMessageType = packetMessage - '0'
	// maxLengthDigits is the maximum number of digits of a packet length.
	maxLengthDigits = 10
	// lengthEnd ends a length in a binary payload.
	lengthEnd = 255
)

// protocolOf returns the protocol that a request asks for, or 0 if the server does not
// speak it.
func (s *Server) protocolOf(q url.Values) int {
	switch eio := singleValue(q["EIO"]); {
	case eio == "4":
		return 4
	case eio == "3" && s.cfg.AllowEIO3:
		return 3
	}
	return 0
}

// pongEIO3 answers a ping of the client. If the client does not read, a new pong replaces
// the unsent one in the outbox.
var pongEIO3 = func() *Message {
	m := control(string(packetPong))
	m.Key = keyPong
	return m
}()

// encodeBinary returns messages in the form that the client reads. Only binary messages may
// differ, for EIO3 and for clients that want base64.
func (s *Session) encodeBinary(ms []*Message) []*Message {
	if !slices.ContainsFunc(ms, isBinary) {
		return ms
	}
	s.mu.Lock()
	b64 := s.b64
	s.mu.Unlock()
	if !s.eio3 && !b64 {
		return ms
	}
	ms = slices.Clone(ms)
	for i, m := range ms {
		if m.binary {
			ms[i] = m.encodeBinary(s.eio3, b64)
		}
	}
	return ms
}

func isBinary(m *Message) bool { return m.binary }

// encodeBinary returns a binary message with its type for EIO3, as base64 if the client asked
// for that. On polling, base64 is the form of any binary message of EIO4: see appendPolled.
func (m *Message) encodeBinary(eio3, b64 bool) *Message {
	data := m.payload()
	b := make([]byte, headroom, headroom+2+base64.StdEncoding.EncodedLen(len(data)))
	switch {
	case !b64:
		b = append(append(b, binaryMessageType), data...)
	case eio3:
		b = base64.StdEncoding.AppendEncode(append(b, 'b', packetMessage), data)
	default:
		b = base64.StdEncoding.AppendEncode(append(b, 'b'), data)
	}
	t := newMessage(b, !b64)
	t.Volatile, t.Key = m.Volatile, m.Key
	return t
}

// decodeBinaryEIO3 is the inverse of encodeBinary, for a packet of a client. It
// returns other packets unchanged. ok is false for a malformed binary message.
func decodeBinaryEIO3(packet []byte, binary bool) (data []byte, isBinary, ok bool) {
	switch {
	case binary:
		if len(packet) == 0 || packet[0] != binaryMessageType {
			return nil, true, false
		}
		return packet[1:], true, true
	case len(packet) == 0 || packet[0] != 'b':
		return packet, false, true
	case len(packet) == 1 || packet[1] != packetMessage:
		return nil, true, false
	}
	return decodeBase64(packet[2:])
}

// payloadPacket is the first packet of a polling payload.
type payloadPacket struct {
	data   []byte
	binary bool
	rest   []byte // the packets after the first
	ok     bool   // false for a malformed payload
}

// splitPayloadEIO3 splits the first packet off a payload.
func (s *Session) splitPayloadEIO3(body []byte, binaryBody bool) payloadPacket {
	if binaryBody {
		return splitBinaryPayload(body)
	}
	p := splitTextPayload(body)
	if s.srv.cfg.DoubleUTF8 {
		p.data = undoDoubleUTF8(p.data)
	}
	return p
}

// splitTextPayload splits the first packet off a text payload.
func splitTextPayload(b []byte) payloadPacket {
	n, width := int64(0), 0
	for ; width < len(b) && b[width] != ':'; width++ {
		digit := b[width] - '0'
		if digit > 9 || width == maxLengthDigits {
			return payloadPacket{}
		}
		n = n*10 + int64(digit)
	}
	if width == 0 || width == len(b) {
		return payloadPacket{}
	}
	b = b[width+1:]
	end := 0
	for n > 0 && end < len(b) {
		r, size := utf8.DecodeRune(b[end:])
		if r == utf8.RuneError && size == 1 {
			return payloadPacket{}
		}
		n -= int64(utf16.RuneLen(r))
		end += size
	}
	return payloadPacket{data: b[:end], rest: b[end:], ok: n == 0}
}

// splitBinaryPayload splits the first packet off a binary payload.
func splitBinaryPayload(b []byte) payloadPacket {
	if len(b) == 0 || b[0] > 1 {
		return payloadPacket{}
	}
	binary, b := b[0] == 1, b[1:]
	n, width := int64(0), 0
	for ; width < len(b) && b[width] != lengthEnd; width++ {
		if b[width] > 9 || width == maxLengthDigits {
			return payloadPacket{}
		}
		n = n*10 + int64(b[width])
	}
	if width == 0 || width == len(b) || n > int64(len(b)-width-1) {
		return payloadPacket{}
	}
	b = b[width+1:]
	return payloadPacket{data: b[:n], binary: binary, rest: b[n:], ok: binary || utf8.Valid(b[:n])}
}

// payloadEIO3Locked is payloadLocked for EIO3. A payload with a binary packet is binary, its
// text included.
func (s *Session) payloadEIO3Locked() pollAnswer {
	var a pollAnswer
	var taken [maxPolled]*Message
	m := s.out.first()
	for n := 0; m != nil && n < maxPolled; n++ {
		b := a.body
		if m.binary && !a.binary { // the text before it again, in the form of a binary payload
			b = nil
			for _, t := range taken[:n] {
				b = t.appendOctetsEIO3(b)
			}
		}
		if m.binary || a.binary {
			b = m.appendOctetsEIO3(b)
		} else {
			b = m.appendTextEIO3(b, s.srv.cfg.DoubleUTF8)
		}
		if n > 0 && len(b) > s.srv.cfg.MaxPayload {
			break
		}
		a.body, a.binary, taken[n] = b, m.binary || a.binary, m
		s.out.shift()
		m = s.out.first()
	}
	return a
}

// appendOctetsEIO3 appends the packet in the form of a binary payload.
func (m *Message) appendOctetsEIO3(dst []byte) []byte {
	packet := m.payload()
	kind := byte(0)
	if m.binary {
		kind = 1
	}
	dst = append(dst, kind)
	start := len(dst)
	dst = strconv.AppendInt(dst, int64(len(packet)), 10)
	for i := start; i < len(dst); i++ {
		dst[i] -= '0'
	}
	return append(append(dst, lengthEnd), packet...)
}

// appendTextEIO3 appends the packet in the form of a text payload. ascii escapes non-ASCII
// text.
func (m *Message) appendTextEIO3(dst []byte, ascii bool) []byte {
	packet := m.payload()
	if ascii {
		packet = escapeNonASCII(packet)
	}
	return appendTextEIO3(dst, packet)
}

// appendTextEIO3 appends a text packet in the form of an EIO3 payload.
func appendTextEIO3(dst, packet []byte) []byte {
	n := 0
	for left := packet; len(left) > 0; {
		r, size := utf8.DecodeRune(left)
		n += utf16.RuneLen(r)
		left = left[size:]
	}
	dst = strconv.AppendInt(dst, int64(n), 10)
	dst = append(dst, ':')
	return append(dst, packet...)
}

// escapeNonASCII returns JSON text in which every non-ASCII character is escaped.
func escapeNonASCII(text []byte) []byte {
	if isASCII(text) {
		return text
	}
	out := make([]byte, 0, 2*len(text))
	for _, r := range string(text) {
		switch {
		case r < utf8.RuneSelf:
			out = append(out, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = appendEscape(appendEscape(out, high), low)
		default:
			out = appendEscape(out, r)
		}
	}
	return out
}

func appendEscape(dst []byte, unit rune) []byte {
	const hex = "0123456789abcdef"
	return append(dst, '\\', 'u', hex[unit>>12&15], hex[unit>>8&15], hex[unit>>4&15], hex[unit&15])
}

// undoDoubleUTF8 decodes UTF-8 that was encoded twice. It applies only if every
// character of text is below U+0100 and the bytes of those values are valid UTF-8;
// otherwise it returns text unchanged.
func undoDoubleUTF8(text []byte) []byte {
	if isASCII(text) {
		return text
	}
	once := make([]byte, 0, len(text))
	for _, r := range string(text) {
		if r > 0xff {
			return text
		}
		once = append(once, byte(r))
	}
	if !utf8.Valid(once) {
		return text
	}
	return once
}

func isASCII(b []byte) bool {
	return bytes.IndexFunc(b, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}
