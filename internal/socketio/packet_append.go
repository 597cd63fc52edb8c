// Encoding packets. The Append functions encode what a server sends, and trust their caller:
// namespaces and payloads are the server's own.

package socketio

import (
	"strconv"
	"unicode/utf8"
)

// AppendConnect appends the answer to a CONNECT, with the id of the socket, and its pid unless it is
// empty.
func AppendConnect(dst []byte, nsp, sid, pid string) []byte {
	dst = appendHeader(dst, PacketConnect, nsp, NoID, 0)
	dst = append(dst, `{"sid":`...)
	dst = appendString(dst, sid)
	if pid != "" {
		dst = append(dst, `,"pid":`...)
		dst = appendString(dst, pid)
	}
	return append(dst, '}')
}

// AppendConnectError appends the refusal of a CONNECT. payload is a JSON object, by
// convention with a member "message".
func AppendConnectError(dst []byte, nsp string, payload []byte) []byte {
	dst = appendHeader(dst, PacketConnectError, nsp, NoID, 0)
	return append(dst, payload...)
}

// AppendDisconnect appends a DISCONNECT from a namespace.
func AppendDisconnect(dst []byte, nsp string) []byte {
	return appendHeader(dst, PacketDisconnect, nsp, NoID, 0)
}

// appendEvent appends an event, a binary one if attachments is not 0. args are JSON
// values; an empty one becomes null.
func appendEvent[A ~[]byte](dst []byte, nsp string, id int64, attachments int, name string, args []A) []byte {
	dst = appendHeader(dst, PacketEvent, nsp, id, attachments)
	dst = append(dst, '[')
	dst = appendString(dst, name)
	for _, arg := range args {
		dst = append(dst, ',')
		dst = appendArg(dst, arg)
	}
	return append(dst, ']')
}

// AppendAck appends the ack of the event with an id, a binary one if attachments is not
// 0.
func AppendAck(dst []byte, nsp string, id int64, attachments int, args ...[]byte) []byte {
	dst = appendHeader(dst, PacketAck, nsp, id, attachments)
	dst = append(dst, '[')
	for i, arg := range args {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendArg(dst, arg)
	}
	return append(dst, ']')
}

// appendHeader appends everything before the JSON. With attachments it uses the binary
// variant of t.
func appendHeader(dst []byte, t PacketType, nsp string, id int64, attachments int) []byte {
	if attachments > 0 {
		dst = append(dst, '0'+byte(t+PacketBinaryEvent-PacketEvent))
		dst = strconv.AppendInt(dst, int64(attachments), 10)
		dst = append(dst, '-')
	} else {
		dst = append(dst, '0'+byte(t))
	}
	if nsp != "/" && nsp != "" {
		dst = append(dst, nsp...)
		dst = append(dst, ',')
	}
	if id >= 0 {
		dst = strconv.AppendInt(dst, id, 10)
	}
	return dst
}

func appendArg(dst, arg []byte) []byte {
	if len(arg) == 0 {
		return append(dst, "null"...)
	}
	return append(dst, arg...)
}

// JSONString returns s as a JSON string.
func JSONString(s string) []byte { return appendString(make([]byte, 0, len(s)+2), s) }

// appendString appends s as a JSON string. Control characters are escaped, which also
// keeps the separator of polling payloads out of the text.
func appendString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0 // start of what has not been appended yet
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && n == 1 {
				dst = append(dst, s[start:i]...)
				dst = append(dst, "\ufffd"...)
				start = i + n
			}
			i += n
			continue
		}
		if c < ' ' || c == '"' || c == '\\' {
			dst = append(dst, s[start:i]...)
			if c < ' ' {
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			} else {
				dst = append(dst, '\\', c)
			}
			start = i + 1
		}
		i++
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
