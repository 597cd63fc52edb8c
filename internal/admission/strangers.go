// Strangers: connections that have not passed a handshake, in the order in which they
// are evicted.

package admission

import "net/http"

// stranger is the part of a connection that is dropped when it is authenticated.
type stranger struct {
	from     *address // nil when the address is unknown; then site is nil too
	site     *site
	end      func() // nil until Opened
	deciding int    // handshakes under way
	queued   bool   // it is in the queues of its groups
	ended    bool   // it was evicted
	links    [levels]struct{ prev, next *stranger }
}

// Indexes of the groups that a stranger is in.
const (
	inAll = iota
	inSite
	inAddress
	levels
)

// group is a set of strangers that share a limit: all, those of a site, or those of an
// address.
type group struct {
	n           int       // all of them
	first, last *stranger // queue of those without a handshake under way; the first is evicted first
}

// site holds the strangers of one site, see Network.Site.
type site struct {
	key Network
	group
}

func (a *Control) siteLocked(addr Network) *site {
	key := addr.Site()
	if at := a.sites[key]; at != nil {
		return at
	}
	return &site{key: key}
}

func (a *Control) groups(s *stranger) [levels]*group {
	if s.from == nil {
		return [levels]*group{inAll: &a.strangers}
	}
	return [levels]*group{&a.strangers, &s.site.group, &s.from.strangers}
}

// evictLocked evicts the oldest stranger of the address, of its site, or of all,
// depending on which limit one more would exceed. Status is not 0 when none can be
// evicted, because all have a handshake under way.
func (a *Control) evictLocked(from *address, at *site) (reached Limit, status int, ended func()) {
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
	a.addLocked(s, -1)
	s.ended = true
	return reached, 0, s.end
}

// addLocked adds n to the size of a stranger's groups.
func (a *Control) addLocked(s *stranger, n int) {
	for _, g := range a.groups(s) {
		if g != nil {
			g.n += n
		}
	}
	if s.site != nil && s.site.n == 0 {
		delete(a.sites, s.site.key)
	}
}

// queueLocked queues a stranger for eviction, last or next.
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
