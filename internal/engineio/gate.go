// A gate: what one of several senders says on a session has a beginning and an end.

package engineio

import "slices"

// Gate stands between a session and one of several that send on it. Until OpenGate
// what is sent through it is held back; after CloseGate nothing passes. The zero
// Gate is ready for use. Session.mu guards it.
type Gate struct {
	held  *heldBack
	state uint8
}

// heldBack is what OpenGate is to send.
type heldBack struct {
	ms   []*Message
	last []*Message // of a CloseGate that came first
	end  Reason     // of the session, behind them
}

const (
	gateHolds = iota
	gateOpen
	gateClosing // as soon as it is open
	gateClosed
)

// SendThrough is Send, through a gate.
func (s *Session) SendThrough(g *Gate, ms ...*Message) bool {
	ms = s.typed(ms)
	s.mu.Lock()
	switch g.state {
	case gateOpen:
		return s.sendLocked(ms)
	case gateHolds:
		if g.held == nil {
			g.held = &heldBack{}
		}
		g.held.ms = append(g.held.ms, ms...)
		s.mu.Unlock()
		return true
	}
	s.mu.Unlock()
	return false
}

// OpenGate sends messages, and behind them what was held back. It does nothing when
// the gate is closed.
func (s *Session) OpenGate(g *Gate, ms ...*Message) {
	ms = s.typed(ms)
	s.mu.Lock()
	h := g.held
	g.held = nil
	switch {
	case g.state == gateClosing:
		g.state = gateClosed
		s.sendLocked(slices.Concat(ms, h.last))
		if h.end != "" {
			s.Close(h.end)
		}
	case g.state != gateHolds:
		s.mu.Unlock()
	default:
		g.state = gateOpen
		if h != nil {
			ms = slices.Concat(ms, h.ms)
		}
		s.sendLocked(ms)
	}
}

// CloseGate sends messages as the last ones, and then ends the session if end says
// why. Opens says that OpenGate is called, perhaps at this moment: what it sends comes
// first then.
func (s *Session) CloseGate(g *Gate, opens bool, end Reason, last ...*Message) {
	last = s.typed(last)
	s.mu.Lock()
	if g.state == gateHolds && opens {
		g.state, g.held = gateClosing, &heldBack{last: last, end: end}
		s.mu.Unlock()
		return
	}
	g.state, g.held = gateClosed, nil
	s.sendLocked(last)
	if end != "" {
		s.Close(end)
	}
}
