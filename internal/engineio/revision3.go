// Revision 3 of the protocol, which clients older than Socket.IO 3 speak, where it
// differs from revision 4:
//
//   - The client sends the pings, and the server the pongs.
//   - A binary message names its type: by a first byte 4, or as base64 behind "b4"
//     in text.
//   - A polling payload gives the length of each packet. As text that is
//     "<length>:<packet>", counted in UTF-16 code units. As octets it is a byte 0
//     for text or 1 for binary, the length in bytes, one byte for each decimal
//     digit, then 255 and the packet.
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
	// binaryMessage is what a message's type is among binary packets.
	binaryMessage = packetMessage - '0'
	// maxLengthDigits is what a packet's length may have.
	maxLengthDigits = 10
	// endOfLength stands behind a length among octets.
	endOfLength = 255
)

// revisionOf returns the revision that a client asks for, 0 for one that is not
// spoken here.
func (s *Server) revisionOf(q url.Values) int {
	switch eio := only(q["EIO"]); {
	case eio == "4":
		return 4
	case eio == "3" && s.cfg.Revision3:
		return 3
	}
	return 0
}

// pong3 answers the client's ping. One that waits makes another superfluous.
var pong3 = func() *Message {
	m := control(string(packetPong))
	m.Key = "\x00pong"
	return m
}()

// pingedByClient takes a ping of a client of revision 3.
func (s *Session) pingedByClient() {
	s.mu.Lock()
	if s.state == stateOpen {
		s.armLocked(s.srv.cfg.PingInterval + s.srv.cfg.PingTimeout)
	}
	s.mu.Unlock()
	s.Send(pong3)
}

// typed returns messages as they are in revision 3. Only binary ones differ.
func (s *Session) typed(ms []*Message) []*Message {
	if !s.rev3 {
		return ms
	}
	shared := true
	for i, m := range ms {
		if !m.binary {
			continue
		}
		if shared {
			ms = slices.Clone(ms)
			shared = false
		}
		ms[i] = m.typed(s.b64)
	}
	return ms
}

// typed returns a binary message with its type, as base64 if the client asked for
// that.
func (m *Message) typed(b64 bool) *Message {
	data := m.payload()
	var t *Message
	if b64 {
		b := append(make([]byte, headroom, headroom+2+base64.StdEncoding.EncodedLen(len(data))), 'b', packetMessage)
		t = newMessage(base64.StdEncoding.AppendEncode(b, data), false)
	} else {
		b := append(make([]byte, headroom, headroom+1+len(data)), binaryMessage)
		t = newMessage(append(b, data...), true)
	}
	t.Volatile, t.Key = m.Volatile, m.Key
	return t
}

// untyped undoes typed for what a client sent.
func untyped(packet []byte, binary bool) (data []byte, isBinary, ok bool) {
	switch {
	case binary:
		if len(packet) == 0 || packet[0] != binaryMessage {
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

// cut3 takes the first packet off a payload. More reports whether another one
// follows.
func (s *Session) cut3(body []byte, octets bool) (packet []byte, binary bool, rest []byte, more, ok bool) {
	if octets {
		packet, binary, rest, ok = cutOctets(body)
	} else {
		packet, rest, ok = cutText(body)
		if s.srv.cfg.Twice {
			packet = encodedOnce(packet)
		}
	}
	return packet, binary, rest, len(rest) > 0, ok
}

// cutText takes the first packet off a text payload.
func cutText(b []byte) (packet, rest []byte, ok bool) {
	n, width := int64(0), 0
	for ; width < len(b) && b[width] != ':'; width++ {
		digit := b[width] - '0'
		if digit > 9 || width == maxLengthDigits {
			return nil, nil, false
		}
		n = n*10 + int64(digit)
	}
	if width == 0 || width == len(b) {
		return nil, nil, false
	}
	b = b[width+1:]
	end := 0
	for n > 0 && end < len(b) {
		r, size := utf8.DecodeRune(b[end:])
		if r == utf8.RuneError && size == 1 {
			return nil, nil, false
		}
		n -= int64(utf16.RuneLen(r))
		end += size
	}
	return b[:end], b[end:], n == 0
}

// cutOctets takes the first packet off a payload of octets.
func cutOctets(b []byte) (packet []byte, binary bool, rest []byte, ok bool) {
	if len(b) == 0 || b[0] > 1 {
		return nil, false, nil, false
	}
	binary, b = b[0] == 1, b[1:]
	n, width := int64(0), 0
	for ; width < len(b) && b[width] != endOfLength; width++ {
		if b[width] > 9 || width == maxLengthDigits {
			return nil, binary, nil, false
		}
		n = n*10 + int64(b[width])
	}
	if width == 0 || width == len(b) || n > int64(len(b)-width-1) {
		return nil, binary, nil, false
	}
	b = b[width+1:]
	packet, rest = b[:n], b[n:]
	return packet, binary, rest, binary || utf8.Valid(packet)
}

// payload3Locked is payloadLocked for revision 3. Text and binary packets go into
// payloads of their own, each in the form that is made for it.
func (s *Session) payload3Locked() answer {
	var a answer
	first := s.out.first()
	a.octets = first.binary
	for m := first; m != nil && m.binary == a.octets; m = s.out.first() {
		b := m.append3(a.body, s.srv.cfg.Twice)
		if len(a.body) > 0 && len(b) > s.srv.cfg.MaxPayload {
			break
		}
		a.body = b
		s.out.shift()
	}
	return a
}

// append3 appends the packet as it stands in a payload of revision 3.
func (m *Message) append3(dst []byte, ascii bool) []byte {
	packet := m.payload()
	if m.binary {
		dst = append(dst, 1)
		start := len(dst)
		dst = strconv.AppendInt(dst, int64(len(packet)), 10)
		for i := start; i < len(dst); i++ {
			dst[i] -= '0'
		}
		dst = append(dst, endOfLength)
		return append(dst, packet...)
	}
	if ascii {
		packet = escaped(packet)
	}
	return appendText3(dst, packet)
}

// appendText3 appends a text packet as it stands in a payload of revision 3.
func appendText3(dst, packet []byte) []byte {
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

// escaped returns a JSON text with what is beyond ASCII escaped.
func escaped(text []byte) []byte {
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

// encodedOnce undoes one of two UTF-8 encodings: text all of whose characters are
// bytes, and these valid UTF-8, is returned as that. Other text is left as it is.
func encodedOnce(text []byte) []byte {
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
