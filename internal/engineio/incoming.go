// What is held of messages that have not arrived whole.

package engineio

import (
	"container/list"
	"errors"
	"sync"
)

const (
	// uncounted is up to how many bytes of a message in the making are not counted:
	// nearly all messages are smaller, and cost no lock that all sessions share.
	uncounted = 4 << 10
	// defaultIncoming is Config.MaxIncomingBytes when that is 0.
	defaultIncoming = 64 << 20
)

// errIncoming says that a session has been ended because of what it was sending.
var errIncoming = errors.New("too much of unfinished messages")

// incoming bounds what all sessions together hold of websocket messages and polling
// bodies whose end has not arrived: a client may take as long as it likes over one.
//
// incoming.mu guards everything below it, and is taken before a session's.
type incoming struct {
	limit int

	mu       sync.Mutex
	held     int
	sessions map[*Session]*list.Element // in order
	order    list.List                  // of *holding, the oldest first
}

// holding is what one session holds.
type holding struct {
	s     *Session
	bytes int
}

// hold counts n more bytes for a session, or fewer, and reports whether it may hold
// them. Beyond the limit those are ended who have been at a message for the longest:
// not the newest, who would else be kept out by clients that send slowly on purpose.
func (in *incoming) hold(s *Session, n int) bool {
	ok, ended := in.count(s, n)
	for range ended {
		s.srv.limited("IncomingBytes")
	}
	return ok
}

func (in *incoming) count(s *Session, n int) (ok bool, ended int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	e := in.sessions[s]
	switch {
	case n > 0 && s.isClosed(): // has been dropped, or will be at once
		return false, 0
	case e != nil:
	case n <= 0:
		return true, 0
	default:
		if in.sessions == nil {
			in.sessions = map[*Session]*list.Element{}
		}
		e = in.order.PushBack(&holding{s: s})
		in.sessions[s] = e
	}
	h := e.Value.(*holding)
	h.bytes += n
	in.held += n
	if h.bytes <= 0 {
		in.dropLocked(e)
	}
	for ; in.held > in.limit; ended++ {
		oldest := in.order.Front()
		in.dropLocked(oldest)
		over := oldest.Value.(*holding).s
		if over == s {
			return false, ended + 1
		}
		over.abortSoon(ReasonTransportError)
	}
	return true, ended
}

// drop forgets a session that has ended.
func (in *incoming) drop(s *Session) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if e := in.sessions[s]; e != nil {
		in.dropLocked(e)
	}
}

func (in *incoming) dropLocked(e *list.Element) {
	h := in.order.Remove(e).(*holding)
	delete(in.sessions, h.s)
	in.held -= h.bytes
}

// countedSize returns what a buffer of a capacity counts for.
func countedSize(capacity int) int {
	if capacity <= uncounted {
		return 0
	}
	return capacity
}

// count has what is kept of an unfinished message counted and reports whether it may
// be kept. s.recv is held.
func (c *wsConn) count() bool {
	n := 0
	if p := c.pend; p != nil {
		n = countedSize(cap(p.raw) + cap(p.message))
	}
	switch {
	case n == c.held:
		return true
	case n > c.held && c.isProbe(): // which has nothing of that size to say
		c.dropProbe()
	case c.s.srv.incoming.hold(c.s, n-c.held):
		c.held = n
		return true
	default:
		c.s.abort(ReasonTransportError)
	}
	c.pend, c.held = nil, 0
	return false
}

// forget lets go of what is kept of an unfinished message, whose connection has ended
// without its reader. One that is at work does so itself.
func (c *wsConn) forget() {
	if c.s.recv.TryLock() {
		c.pend, c.held = nil, 0
		c.s.recv.Unlock()
	}
}
