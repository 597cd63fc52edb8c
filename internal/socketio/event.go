// An event that a client sent.

package socketio

// Event is an event that a client sent. Ack may be called on any goroutine.
type Event struct {
	Name        string
	Args        [][]byte // raw JSON
	Attachments [][]byte // the binary data that placeholders in Args stand for
	Over        Limit    // the limit that the event exceeds, or 0; then it has neither, and may have no name

	socket  *Socket
	id      int64     // ack id, or NoID
	size    int       // bytes that it counts for in the backlog
	next    *Event    // in the queue of the socket
	argsBuf [3][]byte // backing array of Args for up to three arguments
}

// WantsAck reports whether the client waits for an ack.
func (e *Event) WantsAck() bool { return e.id != NoID }

// Ack acknowledges the event. It does nothing if the client does not want an ack. It
// must not be called twice.
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
