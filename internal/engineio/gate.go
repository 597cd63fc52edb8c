// A gate holds back the messages of one of several senders on a session until that sender
// may begin, and refuses them after its end.

package engineio

import "slices"

// Gate stands between a session and one of several senders on it. Messages sent through
// it are held back until OpenGate, and refused after CloseGate. The zero Gate is ready
// for use. Session.mu guards its fields.
type Gate struct {
	held  *heldMessages
	state uint8
}

// heldMessages are the messages that OpenGate sends after its own. If CloseGate came
// first, these are last, and messages is empty.
type heldMessages struct {
	messages []*Message
	last     []*Message // the last messages of a CloseGate before OpenGate
	then     func()     // what CloseGate is to call after them
}

const (
	gateHolds = iota
	gateOpen
	gateClosing // CloseGate was called before OpenGate
	gateClosed
)

// SendThrough is Send through a gate. It returns false if the gate is closed.
func (s *Session) SendThrough(g *Gate, ms ...*Message) bool {
	ms = s.encodeBinary(ms)
	s.mu.Lock()
	switch g.state {
	case gateOpen:
		return s.sendAndUnlock(ms)
	case gateHolds:
		if g.held == nil {
			g.held = &heldMessages{}
		}
		g.held.messages = append(g.held.messages, ms...)
		s.mu.Unlock()
		return true
	}
	s.mu.Unlock()
	return false
}

// OpenGate sends messages, and after them the messages that were held back. If CloseGate
// came first, the held messages were dropped: OpenGate sends its own messages, then those
// of CloseGate, and calls its then. It does nothing if the gate is open or closed.
func (s *Session) OpenGate(g *Gate, ms ...*Message) {
	ms = s.encodeBinary(ms)
	s.mu.Lock()
	h := g.held
	g.held = nil
	switch {
	case g.state == gateClosing:
		g.state = gateClosed
		s.sendAndUnlock(slices.Concat(ms, h.last))
		h.then()
	case g.state != gateHolds:
		s.mu.Unlock()
	default:
		g.state = gateOpen
		if h != nil {
			ms = slices.Concat(ms, h.messages)
		}
		s.sendAndUnlock(ms)
	}
}

// CloseGate sends messages as the last ones through the gate, and then calls then. opens says that OpenGate has been
// called or will be: its messages are then sent first. Held messages are dropped.
func (s *Session) CloseGate(g *Gate, opens bool, then func(), last ...*Message) {
	last = s.encodeBinary(last)
	s.mu.Lock()
	if g.state == gateHolds && opens {
		g.state, g.held = gateClosing, &heldMessages{last: last, then: then}
		s.mu.Unlock()
		return
	}
	g.state, g.held = gateClosed, nil
	s.sendAndUnlock(last)
	then()
}
