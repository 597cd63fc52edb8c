// Which connection makes room when a limit is reached.

package admission

import (
	"net/http"
	"time"
)

// makeRoomLocked returns the outsider that is to make room for one more stranger of an
// address and its site, if a limit is reached. added says that it is a new connection too.
// The status is not 0 when none can make room: 429 for a limit of the address or of the
// site, 503 for one of the server.
func (a *Control) makeRoomLocked(from *address, at *site, added bool, now time.Duration) (reached Limit, status int, evicted *outsider) {
	switch {
	case from != nil && above(from.strangers.n, a.cfg.UnauthenticatedPerIP):
		reached, status, evicted = LimitUnauthenticatedPerIP, http.StatusTooManyRequests, from.strangers.first
	case from != nil && above(at.ranks[strangers].n, a.perSite):
		reached, status, evicted = LimitUnauthenticated, http.StatusTooManyRequests, at.queues[waiting].first
	case above(a.strangers.n, a.cfg.Unauthenticated):
		reached, status, evicted = LimitUnauthenticated, http.StatusServiceUnavailable, a.strangerLocked(at, now)
	case added && above(a.connections, a.cfg.Connections):
		reached, status, evicted = LimitConnections, http.StatusServiceUnavailable, a.outsiderLocked(at, now)
	}
	if evicted != nil {
		status = 0
	}
	return reached, status, evicted
}

// strangerLocked returns the stranger that makes room for one more of a site.
//
// That is the one that has waited longest, or whose handshake was refused. But the queue
// may be so short that nobody in it had the time to connect, because an attacker keeps the
// handshakes of all others under way, with tokens for which the verifier is slow. Then it
// is one of the busiest site, and only then one that has just come, which does not make
// room for a site that has more.
func (a *Control) strangerLocked(at *site, now time.Duration) *outsider {
	if s := a.idleStrangerLocked(now); s != nil {
		return s
	}
	if s := a.busiestLocked(at); s != nil {
		return s
	}
	if s := a.strangers.first; s != nil && s.site.ranks[strangers].n >= at.ranks[strangers].n {
		return s
	}
	return at.queues[waiting].first
}

// outsiderLocked returns the outsider that makes room when Config.Connections is reached:
// a stranger that had the time to connect, else the oldest guest of the site that has most
// of them, else a stranger of the busiest site. If only users are left, and others that
// have just come, the new one is refused: otherwise they would close each other, and none
// would get in.
func (a *Control) outsiderLocked(at *site, now time.Duration) *outsider {
	if s := a.idleStrangerLocked(now); s != nil {
		return s
	}
	if most := a.busiest[guests].first(); most != nil {
		return most.queues[guest].first
	}
	return a.busiestLocked(at)
}

// idleStrangerLocked returns the first stranger in the queue, if it had the time to connect
// or was refused.
func (a *Control) idleStrangerLocked(now time.Duration) *outsider {
	if s := a.strangers.first; s != nil && s.since+timeToConnect <= now {
		return s
	}
	return nil
}

// busiestLocked returns a stranger of the site that has most of them: the oldest without a
// handshake under way, or else the oldest. That site must have two more than the one for
// which it makes room, so that it keeps as many: otherwise clients of many sites that come
// at the same time would end each other's handshakes.
func (a *Control) busiestLocked(at *site) *outsider {
	busiest := a.busiest[strangers].first()
	if busiest == nil || busiest.ranks[strangers].n < at.ranks[strangers].n+2 {
		return nil
	}
	if s := busiest.queues[waiting].first; s != nil {
		return s
	}
	return busiest.queues[deciding].first
}

// ranking orders sites by how many outsiders of one kind they have.
type ranking struct {
	kind int
	of   []struct{ first, last *site } // the sites with that many, in the order in which they came to it
	top  int                           // the highest index with a site
}

// rank is a site's place in a ranking.
type rank struct {
	n          int
	prev, next *site
}

// first returns a site that has the most, nil if none has any.
func (r *ranking) first() *site {
	if r.top == 0 {
		return nil
	}
	return r.of[r.top].first
}

// change adds 1 or -1 to the number of a site.
func (r *ranking) change(s *site, by int) {
	k := &s.ranks[r.kind]
	if k.n > 0 {
		r.remove(s)
	}
	if k.n += by; k.n > 0 {
		r.add(s)
	}
	if r.top > 0 && r.of[r.top].first == nil {
		r.top-- // where the site is now, or 0
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
