// Encoded packets: each is encoded once for all receivers.

package socketio

import "github.com/rodando/realtime/internal/engineio"

// EventMessage returns an event without attachments. args are JSON texts. id is NoID if
// no ack is wanted.
func EventMessage(namespace string, id int64, name string, args ...[]byte) *Message {
	return eventMessage(namespace, id, 0, name, args)
}

// EventMessages returns an event whose args may refer to attachments.
func EventMessages[A ~[]byte](namespace string, id int64, name string, args []A, attachments [][]byte) []*Message {
	return AppendEventMessages(make([]*Message, 0, 1+len(attachments)), namespace, id, name, args, attachments)
}

// AppendEventMessages is EventMessages that appends to dst. For an event without
// attachments the memory of dst may be on the caller's stack.
func AppendEventMessages[A ~[]byte](dst []*Message, namespace string, id int64, name string, args []A, attachments [][]byte) []*Message {
	dst = append(dst, eventMessage(namespace, id, len(attachments), name, args))
	for _, a := range attachments {
		dst = append(dst, engineio.BinaryMessage(a))
	}
	return dst
}

func eventMessage[A ~[]byte](namespace string, id int64, attachments int, name string, args []A) *Message {
	size := sizeHint(namespace, name, args)
	return engineio.TextMessage(appendEvent(engineio.TextBuffer(size), namespace, id, attachments, name, args))
}

// sizeHint returns about the length of an event.
func sizeHint[A ~[]byte](namespace, name string, args []A) int {
	size := len(namespace) + len(name) + 40
	for _, a := range args {
		size += len(a) + 1
	}
	return size
}

func ackMessage(namespace string, id int64, attachments int, args [][]byte) *Message {
	size := len(namespace) + 30
	for _, a := range args {
		size += len(a) + 1
	}
	return engineio.TextMessage(AppendAck(engineio.TextBuffer(size), namespace, id, attachments, args...))
}

func withAttachments(m *Message, attachments [][]byte) []*Message {
	ms := make([]*Message, 1, 1+len(attachments))
	ms[0] = m
	for _, a := range attachments {
		ms = append(ms, engineio.BinaryMessage(a))
	}
	return ms
}

// connectMessage returns the answer to a CONNECT. EIO3 clients get no socket id: they
// use the id of the engine's session, which is secret here.
func (c *Conn) connectMessage(s *Socket) *Message {
	if c.isEIO3() {
		return connectMessageEIO3(s.ns.name)
	}
	namespace, id, pid := s.ns.name, s.id, ""
	if s.mem != nil {
		pid = s.pid()
	}
	return engineio.TextMessage(AppendConnect(engineio.TextBuffer(len(namespace)+len(id)+len(pid)+24), namespace, id, pid))
}

func connectErrorMessage(namespace string, payload []byte) *Message {
	return engineio.TextMessage(AppendConnectError(engineio.TextBuffer(len(namespace)+len(payload)+4), namespace, payload))
}

func disconnectMessage(namespace string) *Message {
	return engineio.TextMessage(AppendDisconnect(engineio.TextBuffer(len(namespace)+4), namespace))
}
