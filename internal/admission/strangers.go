// Strangers: connections that have passed no handshake, in the order in which they
// make room for others.

package admission

import "net/http"

// stranger is a connection's part that is dropped when it has logged in.
type stranger struct {
	from     *address // nil when it is not known, as at
	at       *site
	end      func() // nil until it is opened
	deciding int    // handshakes under way
	queued   bool   // in the groups' queues
	ended    bool   // it had to make room
	links    [levels]struct{ prev, next *stranger }
}

// The groups that a stranger is in.
const (
	inAll = iota
	inSite
	inAddress
	levels
)

// group is strangers that share a limit: all, those of a site, those of an address.
type group struct {
	n           int       // with those whose handshake is under way
	first, last *stranger // the others, the first to make room first
}

// site is addresses that one customer may have, by Network.site.
type site struct {
	key Network
	group
}

func (a *Control) siteLocked(addr Network) *site {
	key := addr.site()
	if at := a.sites[key]; at != nil {
		return at
	}
	return &site{key: key}
}

func (a *Control) groups(s *stranger) [levels]*group {
	if s.from == nil {
		return [levels]*group{inAll: &a.strangers}
	}
	return [levels]*group{&a.strangers, &s.at.group, &s.from.strangers}
}

// makeWayLocked has the stranger who has waited longest make room for one more of
// an address, where a limit is reached: of the address, of its site, or of all.
// There is a status when all of them are about to log in.
func (a *Control) makeWayLocked(from *address, at *site) (reached Limit, status int, ended func()) {
	var full *group
	switch {
	case from != nil && above(from.strangers.n, a.cfg.UnauthenticatedPerIP):
		reached, status, full = LimitUnauthenticatedPerIP, http.StatusTooManyRequests, &from.strangers
	case at != nil && above(at.n, a.perSite):
		reached, status, full = LimitUnauthenticated, http.StatusTooManyRequests, &at.group
	case above(a.strangers.n, a.cfg.Unauthenticated):
		reached, status, full = LimitUnauthenticated, http.StatusServiceUnavailable, &a.strangers
	default:
		return NoLimit, 0, nil
	}
	s := full.first
	if s == nil {
		return reached, status, nil
	}
	a.unqueueLocked(s)
	a.countLocked(s, -1)
	s.ended = true
	return reached, 0, s.end
}

// countLocked counts a stranger in or out of its groups.
func (a *Control) countLocked(s *stranger, n int) {
	for _, g := range a.groups(s) {
		if g != nil {
			g.n += n
		}
	}
	if s.at != nil && s.at.n == 0 {
		delete(a.sites, s.at.key)
	}
}

// queueLocked makes a stranger the last, or the next, to make room.
func (a *Control) queueLocked(s *stranger, next bool) {
	if s.ended || s.queued {
		return
	}
	s.queued = true
	for i, g := range a.groups(s) {
		switch {
		case g == nil:
		case g.first == nil:
			g.first, g.last = s, s
		case next:
			s.links[i].next, g.first.links[i].prev = g.first, s
			g.first = s
		default:
			s.links[i].prev, g.last.links[i].next = g.last, s
			g.last = s
		}
	}
}

func (a *Control) unqueueLocked(s *stranger) {
	if !s.queued {
		return
	}
	s.queued = false
	for i, g := range a.groups(s) {
		if g == nil {
			continue
		}
		l := &s.links[i]
		if l.prev != nil {
			l.prev.links[i].next = l.next
		} else {
			g.first = l.next
		}
		if l.next != nil {
			l.next.links[i].prev = l.prev
		} else {
			g.last = l.prev
		}
		l.prev, l.next = nil, nil
	}
}
