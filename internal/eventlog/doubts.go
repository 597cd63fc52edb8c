// Doubts: when a node did not get every event, nobody knows what the clients that were connected to it have received.

package eventlog

import (
	"slices"
	"time"
)

// Doubt says that nobody knows what a client has received from a time on, unless it has received an event.
type Doubt struct {
	Until Mark
	Since time.Time // zero: nor what it has received before
}

// never is a position that no event has.
const never = unsure - 1

// maxDoubts is the maximum number of doubts of a socket.
const maxDoubts = 4

// doubtsLocked returns the doubts of any socket. A gap may be known only when the socket has left.
func (l *Log[M]) doubtsLocked(a *Away) (all []Doubt) {
	if !a.Here() {
		return a.Doubts
	}
	if a.Turn > 0 {
		all = append(all, Doubt{Until: l.Mark(a.Base)})
	}
	gaps := l.gaps
	if !l.silence.IsZero() {
		gaps = append(slices.Clip(gaps), gap{never, l.silence})
	}
	for _, g := range gaps {
		switch n := len(all); {
		case g.at <= a.Base, !a.until.IsZero() && g.at > a.at && !g.since.Before(l.leftLocked(a)):
		case n < maxDoubts:
			all = append(all, Doubt{l.Mark(g.at), g.since})
		default:
			all[n-1] = Doubt{l.Mark(g.at), earlier(all[n-1].Since, g.since)}
		}
	}
	return all
}

// received returns a time: what came to the node of a socket before it, the client has received. Otherwise that
// node would have noticed that the connection was broken.
func (l *Log[M]) received(a *Away) time.Time {
	until := a.Lost
	if a.Here() {
		until = l.leftLocked(a)
	}
	for _, d := range l.doubtsLocked(a) {
		if !l.reached(a.seen, d.Until) {
			until = earlier(until, d.Since)
		}
	}
	return until.Add(-l.cfg.Unnoticed)
}

// leftLocked returns when a socket of this node has left.
func (l *Log[M]) leftLocked(a *Away) time.Time { return a.until.Add(-l.cfg.Window) }

// RecordedDoubt is a Doubt in a Record.
type RecordedDoubt struct {
	Until string `json:"until"`           // a mark
	AgoMS int64  `json:"agoMs,omitempty"` // how long before the record, in milliseconds; 0: nothing is known
}

// Ages says that a record was made so long ago.
func (r *Record) Ages(ago time.Duration) {
	r.Doubts = slices.Clone(r.Doubts)
	for i := range r.Doubts {
		if d := &r.Doubts[i]; d.AgoMS > 0 {
			d.AgoMS += max(0, ago.Milliseconds())
		}
	}
}

// maxAgo is the maximum age of a doubt whose age counts.
const maxAgo = 24 * time.Hour

// doubtsOf reads the doubts of a record.
func (l *Log[M]) doubtsOf(recorded []RecordedDoubt) (all []Doubt, ok bool) {
	if len(recorded) > maxDoubts {
		return nil, false
	}
	for _, r := range recorded {
		d := Doubt{}
		if d.Until, ok = ParseMark(r.Until); !ok || r.AgoMS < 0 {
			return nil, false
		}
		if r.AgoMS > 0 && r.AgoMS < maxAgo.Milliseconds() {
			d.Since = l.cfg.Now().Add(-time.Duration(r.AgoMS) * time.Millisecond)
		}
		all = append(all, d)
	}
	return all, true
}
