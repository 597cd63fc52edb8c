// Evictable connections: those without a user, in the queues that decide the order of
// eviction.

package admission

import "time"

// evictable is the part of a connection that it has while it has no user.
type evictable struct {
	from    *address // nil if the address is unknown
	site    *site
	end     func()        // closes the connection; nil until Opened or Left
	since   time.Duration // when it was queued; negative: its handshake was refused
	state   uint8
	evicted bool
	charged bool // the connection is new, and was charged to Config.UnauthenticatedRate of its address
	links   [levels]struct{ prev, next *evictable }
}

// States of an evictable connection. Its site has a queue for each of them.
const (
	stateNone      = iota // it is in no queue
	stateWaiting          // unauthenticated, without a handshake in progress; in the queues of all three levels
	stateDeciding         // unauthenticated, with a handshake in progress
	stateAnonymous        // anonymous
	states
)

// Kinds of evictable connections.
const (
	unauthenticated = iota
	anonymous
	kinds
)

// noKind is the kind of a connection with stateNone.
const noKind = -1

// Indexes of the queues that an evictable connection is in.
const (
	inSite = iota
	inAll
	inAddress
	levels
)

// queue is a queue of evictable connections; the first is evicted first.
type queue struct{ first, last *evictable }

// group is a set of unauthenticated connections that share a limit.
type group struct {
	n     int // all of them
	queue     // those in stateWaiting
}

// site holds the evictable connections of one site (see Network.Site), or those whose
// address is unknown.
type site struct {
	key    Network
	queues [states]queue
	ranks  [kinds]rank
}

// siteLocked returns the site of an address, which may be nil.
func (a *Control) siteLocked(from *address) *site {
	if from == nil {
		return &a.unknown
	}
	key := from.key.Site()
	if at := a.sites[key]; at != nil {
		return at
	}
	return &site{key: key} // added to the table when it gets an evictable connection
}

// kind returns the kind of an evictable connection, from its state.
func (s *evictable) kind() int {
	switch s.state {
	case stateWaiting, stateDeciding:
		return unauthenticated
	case stateAnonymous:
		return anonymous
	}
	return noKind
}

// stateOf returns the state that the connection's sockets and handshakes imply.
func (c *Conn) stateOf() uint8 {
	switch {
	case c.users > 0 || c.overRate == released:
		return stateNone
	case c.anonymous > 0:
		return stateAnonymous
	case c.deciding > 0:
		return stateDeciding
	}
	return stateWaiting
}

// updateLocked moves an evictable connection to the queues of its state, if that has changed.
// decided says that a handshake has ended: an unauthenticated connection is then the first to
// be evicted.
func (a *Control) updateLocked(c *Conn, decided bool, now time.Duration) {
	s := c.evictable
	if s == nil || s.evicted {
		return
	}
	state := c.stateOf()
	if state == s.state {
		return
	}
	a.moveLocked(s, stateNone, false)
	if state == stateNone {
		if s.charged && s.from != nil && c.users > 0 {
			s.from.withoutLogin.Return(a.withoutLogin)
		}
		c.evictable = nil
		return
	}
	s.since = now
	first := decided && state == stateWaiting
	if first {
		s.since = -timeToConnect
	}
	a.moveLocked(s, state, first)
}

// evictLocked evicts a connection, unless s is nil, and returns the function that closes it, or
// nil.
func (a *Control) evictLocked(s *evictable) (closeEvicted func()) {
	if s == nil {
		return nil
	}
	a.moveLocked(s, stateNone, false)
	s.evicted = true
	return s.end
}

// moveLocked moves a connection to the end of the queues of a state, or to their beginning if
// first is true.
func (a *Control) moveLocked(s *evictable, to uint8, first bool) {
	before := s.kind()
	for level, q := range a.queues(s) {
		if q != nil {
			q.remove(s, level)
		}
	}
	s.state = to
	for level, q := range a.queues(s) {
		if q != nil {
			q.add(s, level, first)
		}
	}
	if after := s.kind(); after != before {
		a.countLocked(s, before, -1)
		a.countLocked(s, after, 1)
	}
}

// queues returns the queues of a connection's state.
func (a *Control) queues(s *evictable) (all [levels]*queue) {
	if s.state == stateNone {
		return all
	}
	all[inSite] = &s.site.queues[s.state]
	if s.state == stateWaiting {
		all[inAll] = &a.unauthenticated.queue
		if s.from != nil {
			all[inAddress] = &s.from.unauthenticated.queue
		}
	}
	return all
}

// countLocked adds n to the number of connections of a kind.
func (a *Control) countLocked(s *evictable, kind, n int) {
	if kind == noKind {
		return
	}
	if kind == unauthenticated {
		a.unauthenticated.n += n
		if s.from != nil {
			s.from.unauthenticated.n += n
		}
	}
	at := s.site
	a.busiest[kind].change(at, n)
	switch {
	case s.from == nil:
	case at.ranks[unauthenticated].n+at.ranks[anonymous].n > 0:
		a.sites[at.key] = at
	default:
		delete(a.sites, at.key)
	}
}

func (q *queue) add(s *evictable, level int, first bool) {
	l := &s.links[level]
	switch {
	case q.first == nil:
		q.first, q.last = s, s
	case first:
		l.next, q.first.links[level].prev = q.first, s
		q.first = s
	default:
		l.prev, q.last.links[level].next = q.last, s
		q.last = s
	}
}

func (q *queue) remove(s *evictable, level int) {
	l := &s.links[level]
	if l.prev != nil {
		l.prev.links[level].next = l.next
	} else {
		q.first = l.next
	}
	if l.next != nil {
		l.next.links[level].prev = l.prev
	} else {
		q.last = l.prev
	}
	l.prev, l.next = nil, nil
}
