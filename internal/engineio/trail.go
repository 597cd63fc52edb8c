// A trail remembers in which order messages with a position were queued through a gate.

package engineio

import "slices"

const (
	// trailLength is how many positions a trail remembers.
	trailLength = 16
	// maxLates is how many late messages a trail remembers.
	maxLates = 64
)

// Trail remembers the positions of messages that a gate has let through: see Gate.Follow.
// Session.mu guards its fields.
type Trail struct {
	start uint64       // the position of the first message; 0: none yet
	more  *trailedMore // nil while there was one message at most
}

// trailedMore is the part of a trail that a gate without traffic does not have.
type trailedMore struct {
	refused uint64              // messages up to this position are dropped: they were queued in another way
	highest uint64              // the highest position so far
	ring    [trailLength]uint64 // the newest positions
	n       int                 // how many there were in all
	lates   []Late              // the newest ones, in order
	dropped uint64              // Late.After of the last one that is not in lates any more
}

// Late is a message that was queued after one with a higher position: when After was the highest
// position so far.
type Late struct{ At, After uint64 }

// NewTrail returns a trail that goes on where another one has ended. A gate that follows it drops
// messages up to the position refused, unless they are passed to OpenGate.
func NewTrail(start, refused uint64, recent []uint64) Trail {
	m := &trailedMore{refused: refused}
	for _, at := range recent {
		m.push(at)
	}
	return Trail{start: start, more: m}
}

func (m *trailedMore) push(at uint64) {
	if at < m.highest {
		if len(m.lates) == maxLates {
			m.dropped = m.lates[0].After
			m.lates = slices.Delete(m.lates, 0, 1)
		}
		m.lates = append(m.lates, Late{at, m.highest})
	}
	m.highest = max(m.highest, at)
	m.ring[m.n%trailLength] = at
	m.n++
}

// passed records that a message at a position was queued.
func (t *Trail) passed(at uint64) {
	switch {
	case t.start == 0:
		t.start = at
		return
	case t.more == nil:
		t.more = &trailedMore{}
		t.more.push(t.start)
	}
	t.more.push(at)
}

// refuses reports whether a message at a position is to be dropped.
func (t *Trail) refuses(at uint64) bool { return t.more != nil && at <= t.more.refused }

// passedAll records messages. Those of an event have the same position.
func (t *Trail) passedAll(ms []*Message) {
	last := uint64(0)
	for _, m := range ms {
		if m.At != 0 && m.At != last {
			t.passed(m.At)
			last = m.At
		}
	}
}

// admitted returns the messages without those that the trail refuses.
func (t *Trail) admitted(ms []*Message) []*Message {
	return slices.DeleteFunc(slices.Clone(ms), func(m *Message) bool { return m.At != 0 && t.refuses(m.At) })
}

// Trailed is what a trail remembers.
type Trailed struct {
	Start   uint64   // the position of the first message; 0: none yet
	Recent  []uint64 // the newest positions, in the order in which their messages were queued
	Lates   []Late   // the newest late messages, in order
	Dropped uint64   // Late.After of the last one that is not in Lates; 0: all are
}

// TrailOf returns what the trail of a gate remembers.
func (s *Session) TrailOf(g *Gate) Trailed {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := g.trail
	m := t.more
	switch {
	case t.start == 0:
		return Trailed{}
	case m == nil:
		return Trailed{Start: t.start, Recent: []uint64{t.start}}
	}
	n := min(m.n, trailLength)
	recent := make([]uint64, 0, n)
	for i := m.n - n; i < m.n; i++ {
		recent = append(recent, m.ring[i%trailLength])
	}
	return Trailed{Start: t.start, Recent: recent, Lates: slices.Clone(m.lates), Dropped: m.dropped}
}
