// Labels: the text that says which events a client has received. It is sent with each event, and
// comes back when the client reconnects, to this node or to another one.

package eventlog

import (
	"slices"
	"strings"
	"time"
)

// Emitter names one start of a node.
type Emitter [6]byte

// Mark is the position of an event on the node that has emitted it.
type Mark struct {
	Emitter Emitter
	At      uint64
}

const (
	digits     = 7 // of a position; a digit has 6 bits
	markLength = len(Emitter{}) + digits
	// maxMarks is the maximum number of nodes in a label. In a larger cluster only the node of a label
	// knows what it means, which Incomplete says.
	maxMarks = 32
	// unsure is added to a node's position in a label if events of that node may have been lost before: a client
	// with a later event has not received them, and would get them in the wrong order.
	unsure = 1 << (6*digits - 1)
	// Incomplete is the end of a label that lacks nodes.
	Incomplete = "*"
	alphabet   = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"
)

// Append appends the text of the mark, which has a fixed length.
func (m Mark) Append(b []byte) []byte {
	return appendPosition(append(b, m.Emitter[:]...), m.At)
}

func appendPosition(b []byte, at uint64) []byte {
	for i := digits - 1; i >= 0; i-- {
		b = append(b, alphabet[at>>(6*i)&63])
	}
	return b
}

func parsePosition(text string) (at uint64, ok bool) {
	for i := range len(text) {
		d := strings.IndexByte(alphabet, text[i])
		if d < 0 {
			return 0, false
		}
		at = at<<6 | uint64(d)
	}
	return at, true
}

// String returns the text of the mark.
func (m Mark) String() string { return string(m.Append(nil)) }

// ParseMark reads the text of a mark.
func ParseMark(text string) (m Mark, ok bool) {
	if len(text) != markLength {
		return m, false
	}
	if _, ok = parsePosition(text[:len(m.Emitter)]); !ok { // it has the same letters
		return m, false
	}
	copy(m.Emitter[:], text)
	m.At, ok = parsePosition(text[len(m.Emitter):])
	return m, ok
}

// Step is the mark of an event, and says which one its node has emitted before it.
type Step struct {
	Mark
	Before uint64 // a position; 0: there is none
}

// String returns the text of the step.
func (s Step) String() string {
	return string(appendPosition(s.Append(nil), s.Before))
}

// ParseStep reads the text of a step.
func ParseStep(text string) (s Step, ok bool) {
	if len(text) != markLength+digits {
		return s, false
	}
	s.Mark, ok = ParseMark(text[:markLength])
	before, valid := parsePosition(text[markLength:])
	s.Before = before
	return s, ok && valid && s.Before < s.At
}

// Seen says which events a client has received.
type Seen struct {
	At      uint64    // all that have a position up to this one on this node
	From    []Mark    // and those that another node has emitted, up to its position
	partial bool      // there are more nodes than are in From
	unsure  []Emitter // those of From of which it has later ones too, or what other nodes have emitted later
}

// Seen reads a label of any node. ok is false if the text is none.
func (l *Log[M]) Seen(label string) (s Seen, ok bool) { return l.parse(label) }

func (l *Log[M]) parse(label string) (s Seen, ok bool) {
	label, s.partial = strings.CutSuffix(label, Incomplete)
	if len(label) == 0 || len(label)%markLength != 0 || len(label) > (maxMarks+1)*markLength {
		return s, false
	}
	for i := 0; i < len(label); i += markLength {
		m, ok := ParseMark(label[i : i+markLength])
		switch {
		case !ok:
			return s, false
		case i == 0 && m.Emitter == l.cfg.Emitter:
			s.At, s.partial = m.At, false
		default:
			if m.At&unsure != 0 {
				m.At &^= unsure
				s.unsure = append(s.unsure, m.Emitter)
			}
			s.From = append(s.From, m)
		}
	}
	return s, true
}

// append appends the marks of From, as they are in a label.
func (s Seen) append(b []byte) []byte {
	for _, m := range s.From {
		if slices.Contains(s.unsure, m.Emitter) {
			m.At |= unsure
		}
		b = m.Append(b)
	}
	return b
}

// Zero reports whether nothing was received.
func (s Seen) Zero() bool { return s.At == 0 && len(s.From) == 0 }

// from returns the position up to which the events of a node were received, 0 for none. From may have
// several marks of a node.
func (s Seen) from(e Emitter) (at uint64) {
	for _, m := range s.From {
		if m.Emitter == e {
			at = max(at, m.At)
		}
	}
	return at
}

// maxCrossing is how much earlier an event may come to one node than another event, if they come to another one in the other order.
const maxCrossing = 2 * time.Second

// lacked reports whether the node of a client lacked an event of another node when it sent a later one to the client. If the
// later one came soon after, the two may just have crossed each other.
func (s Seen) lacked(of Emitter, later time.Duration) bool {
	return later > maxCrossing || !slices.ContainsFunc(s.From, func(m Mark) bool { return m.Emitter == of })
}

// and returns what a client has seen that has seen both.
func (s Seen) and(o Seen) Seen {
	both := Seen{At: max(s.At, o.At), partial: s.partial || o.partial}
	for _, m := range s.From {
		m.At = max(m.At, o.from(m.Emitter))
		both.From = append(both.From, m)
	}
	for _, m := range o.From {
		if !slices.ContainsFunc(s.From, func(k Mark) bool { return k.Emitter == m.Emitter }) {
			both.From = append(both.From, m)
		}
	}
	both.unsure = append(s.unsureBeside(o), o.unsureBeside(s)...)
	return both
}

// unsureBeside returns unsure of what a client has received that has also received what the other one says.
func (s Seen) unsureBeside(o Seen) (still []Emitter) {
	for _, e := range s.unsure {
		if o.from(e) <= s.from(e) || slices.Contains(o.unsure, e) {
			still = append(still, e)
		}
	}
	return still
}

// covers reports whether the event at a position of this log, which is m, was received.
func (s Seen) covers(at uint64, m Mark) bool { return at <= s.At || m.At <= s.from(m.Emitter) }
