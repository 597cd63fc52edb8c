// The limit on the memory of messages and bodies that have not arrived completely.

package engineio

import (
	"container/list"
	"errors"
	"sync"
)

const (
	// countThreshold is the size up to which the buffer of an incomplete message is not
	// counted. Nearly all messages are smaller, and take no lock that all sessions
	// share.
	countThreshold = 4 << 10
	// defaultIncoming is the default of Config.MaxIncomingBytes.
	defaultIncoming = 64 << 20
)

// errIncoming is the error of a POST whose session was ended by the limit.
var errIncoming = errors.New("too much of unfinished messages")

// incoming limits the memory that all sessions together hold for websocket messages,
// polling bodies and packets of the layer above that have not arrived completely,
// because a client may take as long as it likes to send one. Unknown sessions, whose user
// the layer above does not know (see SetKnown), have at most half of it, and are ended before
// known ones.
type incoming struct {
	limit int

	mu             sync.Mutex                 // guards the fields below, and Session.known; taken before Session.mu
	sessions       map[*Session]*list.Element // the elements in unknown.order and known.order
	unknown, known reservations
}

// reservations holds the reservations of the unknown or of the known sessions.
type reservations struct {
	bytes int       // their sum
	order list.List // of *reservation, the oldest first
}

// reservation is the number of bytes that one session holds.
type reservation struct {
	s     *Session
	bytes int
}

// reserve adds n bytes to the reservation of a session, or subtracts them, and reports
// whether the session may hold them. Above the limit it ends the unknown sessions whose
// incomplete messages are the oldest, and known ones if no unknown one holds any. It does
// not refuse the newest: otherwise clients that send slowly on purpose would lock out the
// others. If it returns false, the caller ends s, unless s is closed already.
func (in *incoming) reserve(s *Session, n int) bool {
	ok, ended := in.reserveOrEvict(s, n)
	for _, s := range ended {
		s.reportLimit(LimitIncomingBytes)
	}
	return ok
}

// reserveOrEvict is reserve without the reports. It also returns the sessions that were
// chosen to end; s is among them if it was the oldest.
func (in *incoming) reserveOrEvict(s *Session, n int) (ok bool, ended []*Session) {
	in.mu.Lock()
	defer in.mu.Unlock()
	e := in.sessions[s]
	switch {
	case n > 0 && s.isClosed(): // its reservation has been released, or is about to be
		return false, nil
	case e != nil:
	case n <= 0:
		return true, nil
	default:
		if in.sessions == nil {
			in.sessions = map[*Session]*list.Element{}
		}
		e = in.groupOf(s).order.PushBack(&reservation{s: s})
		in.sessions[s] = e
	}
	h := e.Value.(*reservation) //nolint:errcheck,forcetypeassert // order holds nothing else
	h.bytes += n
	in.groupOf(s).bytes += n
	if h.bytes <= 0 {
		in.releaseLocked(e)
	}
	for {
		oldest := in.excessLocked()
		if oldest == nil {
			return true, ended
		}
		in.releaseLocked(oldest)
		over := oldest.Value.(*reservation).s //nolint:errcheck,forcetypeassert // order holds nothing else
		ended = append(ended, over)
		if over == s {
			return false, ended
		}
		over.abortSoon(ReasonTransportError)
	}
}

// groupOf returns the reservations that the session's own belongs to. in.mu is held.
func (in *incoming) groupOf(s *Session) *reservations {
	if s.known {
		return &in.known
	}
	return &in.unknown
}

// excessLocked returns the reservation of the session to end, or nil if both limits hold.
func (in *incoming) excessLocked() *list.Element {
	switch {
	case in.unknown.bytes > in.limit/2:
		return in.unknown.order.Front()
	case in.unknown.bytes+in.known.bytes <= in.limit:
		return nil
	case in.unknown.bytes > 0:
		return in.unknown.order.Front()
	}
	return in.known.order.Front()
}

// SetKnown says whether the layer above knows the user of the session. Unknown sessions are
// ended before known ones when the memory for incomplete messages is full. The session's
// incomplete message becomes the newest of its new group.
func (s *Session) SetKnown(known bool) {
	in := &s.srv.incoming
	in.mu.Lock()
	defer in.mu.Unlock()
	if s.known == known {
		return
	}
	e := in.sessions[s]
	held := 0
	if e != nil {
		held = e.Value.(*reservation).bytes //nolint:errcheck,forcetypeassert // the orders hold nothing else
		in.releaseLocked(e)
	}
	s.known = known
	s.mu.Lock()
	s.wasKnown = s.wasKnown || known
	s.mu.Unlock()
	if e != nil {
		to := in.groupOf(s)
		in.sessions[s] = to.order.PushBack(&reservation{s, held})
		to.bytes += held
	}
}

// Reserve adds n bytes to the session's reservation for incomplete messages, or subtracts
// them if n is negative. It is for a packet of the layer above that consists of several
// messages. It reports whether the session may hold them; if not, the caller ends the
// session, unless it is closed already. Sizes up to a few kilobytes need not be counted:
// see CountedSize.
func (s *Session) Reserve(n int) bool { return s.srv.incoming.reserve(s, n) }

// release removes the reservation of a session that has ended.
func (in *incoming) release(s *Session) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if e := in.sessions[s]; e != nil {
		in.releaseLocked(e)
	}
}

func (in *incoming) releaseLocked(e *list.Element) {
	h := e.Value.(*reservation) //nolint:errcheck,forcetypeassert // the orders hold nothing else
	group := in.groupOf(h.s)
	group.order.Remove(e)
	group.bytes -= h.bytes
	delete(in.sessions, h.s)
}

// CountedSize returns the number of bytes to count for a buffer of the given capacity.
func CountedSize(capacity int) int {
	if capacity <= countThreshold {
		return 0
	}
	return capacity
}

// reserveLocked reserves the memory of the unfinished message and reports whether it
// may be kept. Session.recv is held.
func (c *wsConn) reserveLocked() bool {
	n, filled := 0, 0
	if p := c.unfinished; p != nil {
		n, filled = CountedSize(cap(p.raw)+cap(p.message)), CountedSize(len(p.raw)+len(p.message))
	}
	switch {
	case filled > 0 && c.isProbe(): // no packet of an upgrade is that large, whatever room its pieces take
		c.dropProbe()
	case n == c.reserved:
		return true
	case c.s.srv.incoming.reserve(c.s, n-c.reserved):
		c.reserved = n
		return true
	default:
		c.s.abort(ReasonTransportError)
	}
	c.unfinished, c.reserved = nil, 0
	return false
}

// dropUnfinished drops the unfinished message of a closed connection. If a reader holds
// s.recv, that reader drops it.
func (c *wsConn) dropUnfinished() {
	if c.s.recv.TryLock() {
		c.unfinished, c.reserved = nil, 0
		c.s.recv.Unlock()
	}
}
