// Receipts: how the server learns that a client has received an event.

package socketio

// Receipt says what is known of an event that was sent to a client.
type Receipt uint8

// The receipts.
const (
	ReceiptAck       Receipt = iota + 1 // the app has acknowledged it
	ReceiptHeartbeat                    // the client has answered a ping that was queued behind it
	ReceiptClosed                       // the socket has closed, and no receipt came before that
)

// Track sends an event with an ack id of Namespace.NextID, and calls f for the ack, for the answer to
// a ping that is queued right behind the event, and if the socket closes before the ack. f is called
// at most once for each, on any goroutine, and must not block; Forget ends it for the ack and the
// close. Track does not make the client be read when too many of its events wait, as Expect does,
// because nobody waits for the ack. If as many acks are pending as a socket may have, the event is
// sent all the same, and f is called for the ping only. An EIO3 client answers no pings.
//
// Track returns false, and sends nothing, if the socket is not open.
func (s *Socket) Track(id int64, f func(Receipt), ms ...*Message) bool {
	if !s.Opened() {
		return false
	}
	err := s.expect(id, pendingAck{f: func(r Reply) {
		if r.Err != nil {
			f(ReceiptClosed)
		} else {
			f(ReceiptAck)
		}
	}})
	if err == ErrClosed { //nolint:errorlint // expect wraps none
		return false
	}
	received := func() { s.callReply(func(Reply) { f(ReceiptHeartbeat) }, Reply{}) }
	if sent, _ := s.conn.session.SendReceipted(&s.gate, received, ms...); !sent {
		s.Forget(id)
		return false
	}
	return true
}
