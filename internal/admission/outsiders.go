// Outsiders: connections without a user, in the queues in which they are evicted.

package admission

import "time"

// outsider is the part of a connection that it has while it has no user.
type outsider struct {
	from  *address // nil when the address is unknown
	site  *site
	end   func()        // nil until Opened
	since time.Duration // when it was queued; negative: it has had its chance
	place uint8
	ended bool // it was evicted
	links [levels]struct{ prev, next *outsider }
}

// Places of an outsider: the queue of its site that it is in.
const (
	nowhere  = iota
	waiting  // a stranger without a handshake under way; it is in the queues of all and of its address too
	deciding // a stranger with one
	guest
	places
)

// Kinds of outsiders.
const (
	strangers = iota
	guests
	kinds
)

// neither is the kind of an outsider that is nowhere.
const neither = -1

// Indexes of the queues that an outsider is in.
const (
	inSite = iota
	inAll
	inAddress
	levels
)

// queue is a queue of outsiders; the first is evicted first.
type queue struct{ first, last *outsider }

// group is a set of strangers that share a limit.
type group struct {
	n     int // all of them
	queue     // those that wait
}

// site holds the outsiders of one site, see Network.Site, or those whose address is
// unknown.
type site struct {
	key    Network
	queues [places]queue
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
	return &site{key: key} // entered into the table when it gets an outsider
}

func (s *outsider) kind() int {
	switch s.place {
	case waiting, deciding:
		return strangers
	case guest:
		return guests
	}
	return neither
}

// placeOf returns the place that is due to an outsider.
func (c *Conn) placeOf() uint8 {
	switch {
	case c.users > 0 || c.flags&isReleased != 0:
		return nowhere
	case c.guests > 0:
		return guest
	case c.deciding > 0:
		return deciding
	}
	return waiting
}

// settleLocked puts a connection's outsider into its place, if it was not there. decided
// says that a handshake has ended: then a stranger is the next to be evicted.
func (a *Control) settleLocked(c *Conn, decided bool, now time.Duration) {
	s := c.outsider
	if s == nil || s.ended {
		return
	}
	place := c.placeOf()
	if place == s.place {
		return
	}
	a.moveLocked(s, nowhere, false)
	if place == nowhere {
		c.outsider = nil
		return
	}
	s.since = now
	next := decided && place == waiting
	if next {
		s.since = -timeToConnect
	}
	a.moveLocked(s, place, next)
}

// evictLocked evicts an outsider, unless it is nil, and returns the function that closes
// its connection.
func (a *Control) evictLocked(s *outsider) (ended func()) {
	if s == nil {
		return nil
	}
	a.moveLocked(s, nowhere, false)
	s.ended = true
	return s.end
}

// moveLocked moves an outsider to the end of the queues of a place, or to their beginning.
func (a *Control) moveLocked(s *outsider, to uint8, first bool) {
	before := s.kind()
	for level, q := range a.queues(s) {
		if q != nil {
			q.remove(s, level)
		}
	}
	s.place = to
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

// queues returns the queues of an outsider's place.
func (a *Control) queues(s *outsider) (all [levels]*queue) {
	if s.place == nowhere {
		return all
	}
	all[inSite] = &s.site.queues[s.place]
	if s.place == waiting {
		all[inAll] = &a.strangers.queue
		if s.from != nil {
			all[inAddress] = &s.from.strangers.queue
		}
	}
	return all
}

// countLocked counts an outsider of a kind.
func (a *Control) countLocked(s *outsider, kind, n int) {
	if kind == neither {
		return
	}
	if kind == strangers {
		a.strangers.n += n
		if s.from != nil {
			s.from.strangers.n += n
		}
	}
	at := s.site
	a.busiest[kind].change(at, n)
	switch {
	case s.from == nil:
	case at.ranks[strangers].n+at.ranks[guests].n > 0:
		a.sites[at.key] = at
	default:
		delete(a.sites, at.key)
	}
}

func (q *queue) add(s *outsider, level int, first bool) {
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

func (q *queue) remove(s *outsider, level int) {
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
