// An event that a client sent.

package socketio

// Event is an event that a client sent.
type Event struct {
	Name        string
	Args        [][]byte // raw JSON
	Attachments [][]byte // what the placeholders in Args stand for

	socket  *Socket
	id      int64
	size    int
	next    *Event    // in the socket's queue
	argsBuf [3][]byte // for the usual number of arguments
}

// WantsAck reports whether the client waits for an answer.
func (e *Event) WantsAck() bool { return e.id != NoID }

// Ack answers the event. It does nothing when no answer is wanted; calling it
// twice is a mistake.
func (e *Event) Ack(attachments [][]byte, args ...[]byte) {
	if e.id == NoID {
		return
	}
	m := ackMessage(e.socket.ns.name, e.id, len(attachments), args)
	if len(attachments) == 0 {
		e.socket.Send(m)
		return
	}
	e.socket.Send(withAttachments(m, attachments)...)
}
