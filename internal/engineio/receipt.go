// Receipts by heartbeat: a ping that is queued behind messages, and whose pong proves that the
// client's engine has read them.

package engineio

import "slices"

const (
	// maxReceipts is the maximum number of receipts of a session that are awaited.
	maxReceipts = 64
	// maxPings is the maximum number of pings of a session that are counted as unanswered.
	maxPings = 255
)

// receiptPing is a ping that does not overtake the messages that wait.
var receiptPing = func() *Message {
	m := control(string(packetPing))
	m.receipt = true
	return m
}()

// receipts are the pings of a session that were queued and not answered, while a receipt is among
// them. A pong has no id: it answers the first of those that were sent. Session.mu guards the fields.
type receipts struct {
	pings  []func() // in the order in which they are sent; nil for a ping of the heartbeat
	awaits int      // the number of functions in pings
}

// SendReceipted is SendThrough for an open gate, and calls received once the client's pong proves
// that its engine has read the messages: on the goroutine that reads, which received must not block.
// It is not called if the session ends first. receipts is false if there can be no such proof, and
// received is then never called: a client of EIO3 sends the pings itself, and at most 64 receipts of
// a session are awaited. sent is false, and nothing is sent, if the gate is not open or the session
// is not.
func (s *Session) SendReceipted(g *Gate, received func(), ms ...*Message) (sent, receipts bool) {
	ms = s.encodeBinary(ms)
	s.mu.Lock()
	if g.state != gateOpen {
		s.mu.Unlock()
		return false, false
	}
	if receipts = s.state == stateOpen && s.awaitLocked(received); receipts {
		ms = append(slices.Clip(ms), receiptPing)
	}
	return s.sendAndUnlock(ms), receipts
}

// awaitLocked adds a ping that is about to be queued last, unless there are too many.
func (s *Session) awaitLocked(received func()) bool {
	if s.eio3 || s.unanswered == maxPings {
		return false
	}
	r := s.receipts
	switch {
	case r == nil:
		r = &receipts{pings: make([]func(), s.unanswered, s.unanswered+2)}
		s.receipts = r
	case r.awaits == maxReceipts || len(r.pings) >= maxPings:
		return false
	}
	r.pings = append(r.pings, received)
	r.awaits++
	return true
}

// pingQueuedLocked counts a ping of the heartbeat, which was queued in front of the messages that
// wait and of the receipts among them. Of a client that answers no ping for hours nothing is known
// any more.
func (s *Session) pingQueuedLocked() {
	switch r := s.receipts; {
	case r == nil:
		if s.unanswered < maxPings {
			s.unanswered++
		}
	case len(r.pings) < 2*maxPings:
		r.pings = slices.Insert(r.pings, len(r.pings)-s.out.receipts(), nil)
	default:
		s.receipts, s.unanswered = nil, maxPings
	}
}

// pongLocked counts a pong. ofHeartbeat says that it answers no receipt; otherwise received is the
// function to call, or nil if no ping was sent that it can answer.
func (s *Session) pongLocked() (received func(), ofHeartbeat bool) {
	waiting := 0 // pings that are still in the outbox
	if s.out.first() == pingMessage {
		waiting = 1
	}
	r := s.receipts
	if r == nil {
		if n := int(s.unanswered); n > waiting && n < maxPings {
			s.unanswered--
		}
		return nil, true
	}
	if len(r.pings) <= waiting+s.out.receipts() {
		return nil, false
	}
	received = r.pings[0]
	r.pings = slices.Delete(r.pings, 0, 1)
	if received == nil {
		return nil, true
	}
	if r.awaits--; r.awaits == 0 {
		s.receipts, s.unanswered = nil, uint8(min(len(r.pings), maxPings))
	}
	return received, false
}
