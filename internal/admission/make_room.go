// Make room: which connection is evicted when a limit is reached.

package admission

import (
	"net/http"
	"time"
)

// makeRoomLocked returns the connection to evict for one more unauthenticated connection of an
// address and its site, if a limit is reached. added says that it is also a new connection.
// The status is not 0 if none can be evicted: 429 for a limit of the address or the site, 503
// for a limit of the server.
func (a *Control) makeRoomLocked(from *address, at *site, added bool, now time.Duration) (reached Limit, status int, evicted *evictable) {
	switch {
	case from != nil && above(from.unauthenticated.n, a.cfg.UnauthenticatedPerIP):
		reached, status, evicted = LimitUnauthenticatedPerIP, http.StatusTooManyRequests, from.unauthenticated.first
	case from != nil && above(at.ranks[unauthenticated].n, a.perSite):
		reached, status, evicted = LimitUnauthenticated, http.StatusTooManyRequests, at.queues[stateWaiting].first
	case above(a.unauthenticated.n, a.cfg.Unauthenticated):
		reached, status, evicted = LimitUnauthenticated, http.StatusServiceUnavailable, a.unauthenticatedLocked(at, now)
	case added && above(a.connections, a.cfg.Connections):
		reached, status, evicted = LimitConnections, http.StatusServiceUnavailable, a.evictableLocked(at, now)
	}
	if evicted != nil {
		status = 0
	}
	return reached, status, evicted
}

// unauthenticatedLocked returns the unauthenticated connection to evict for one more of a site.
//
// That is the one that has waited longest or whose handshake was refused. But if an attacker
// keeps the handshakes of all others in progress, with tokens for which the verifier is slow,
// the queue may contain only connections that had no time to send a CONNECT. Then it is one of
// the busiest site, or else the first in the queue, unless its site has fewer connections
// than the site that needs room: then the first one of that site.
func (a *Control) unauthenticatedLocked(at *site, now time.Duration) *evictable {
	if s := a.longestWaitingLocked(now); s != nil {
		return s
	}
	if s := a.busiestLocked(at); s != nil {
		return s
	}
	if s := a.unauthenticated.first; s != nil && s.site.ranks[unauthenticated].n >= at.ranks[unauthenticated].n {
		return s
	}
	return at.queues[stateWaiting].first
}

// evictableLocked returns the connection to evict when Config.Connections is reached: an
// unauthenticated one that had the time to send a CONNECT, else the oldest anonymous one of
// the site with the most of them, else an unauthenticated one of the busiest site. If only
// connections with a user and new ones are left, it returns nil and the new connection is
// refused: otherwise new connections would evict each other, and none could authenticate.
func (a *Control) evictableLocked(at *site, now time.Duration) *evictable {
	if s := a.longestWaitingLocked(now); s != nil {
		return s
	}
	if most := a.busiest[anonymous].first(); most != nil {
		return most.queues[stateAnonymous].first
	}
	return a.busiestLocked(at)
}

// longestWaitingLocked returns the first unauthenticated connection in the queue, if it had the
// time to send a CONNECT or if its handshake was refused.
func (a *Control) longestWaitingLocked(now time.Duration) *evictable {
	if s := a.unauthenticated.first; s != nil && s.since+timeToConnect <= now {
		return s
	}
	return nil
}

// busiestLocked returns an unauthenticated connection of the site with the most of them: the
// oldest without a handshake in progress, or else the oldest. That site must have at least two
// more than the site that needs room, so that it keeps more than that: otherwise clients of
// many sites that connect at the same time would end each other's handshakes.
func (a *Control) busiestLocked(at *site) *evictable {
	busiest := a.busiest[unauthenticated].first()
	if busiest == nil || busiest.ranks[unauthenticated].n < at.ranks[unauthenticated].n+2 {
		return nil
	}
	if s := busiest.queues[stateWaiting].first; s != nil {
		return s
	}
	return busiest.queues[stateDeciding].first
}

// ranking orders sites by their number of evictable connections of one kind.
type ranking struct {
	kind int
	of   []struct{ first, last *site } // by number: the list of the sites with that number
	top  int                           // the highest number of a site
}

// rank is a site's position in a ranking.
type rank struct {
	n          int // the number of connections
	prev, next *site
}

// first returns a site with the highest number, or nil if there is none.
func (r *ranking) first() *site {
	if r.top == 0 {
		return nil
	}
	return r.of[r.top].first
}

// change adds by, which is 1 or -1, to the number of a site.
func (r *ranking) change(s *site, by int) {
	k := &s.ranks[r.kind]
	if k.n > 0 {
		r.remove(s)
	}
	if k.n += by; k.n > 0 {
		r.add(s)
	}
	if r.top > 0 && r.of[r.top].first == nil {
		r.top-- // the site has the next lower number now, or top becomes 0
	}
}

func (r *ranking) add(s *site) {
	k := &s.ranks[r.kind]
	for len(r.of) <= k.n {
		r.of = append(r.of, struct{ first, last *site }{})
	}
	with := &r.of[k.n]
	if k.prev = with.last; k.prev != nil {
		k.prev.ranks[r.kind].next = s
	} else {
		with.first = s
	}
	with.last = s
	r.top = max(r.top, k.n)
}

func (r *ranking) remove(s *site) {
	k := &s.ranks[r.kind]
	with := &r.of[k.n]
	if k.prev != nil {
		k.prev.ranks[r.kind].next = k.next
	} else {
		with.first = k.next
	}
	if k.next != nil {
		k.next.ranks[r.kind].prev = k.prev
	} else {
		with.last = k.prev
	}
	k.prev, k.next = nil, nil
}
