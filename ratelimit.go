// Rate limits: how often clients may send, and how many sockets a user has.

package realtime

import (
	"cmp"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rodando/realtime/internal/socketio"
)

// rates holds what is shared: the limits, and the buckets of users.
type rates struct {
	rt     *Server
	events map[string]Rate
	off    bool // nothing is limited
	seed   maphash.Seed
	users  [16]userBuckets
}

// userBuckets are the buckets of the users that fall to it. A bucket that is full
// again is as good as none, and dropped.
//
// userBuckets.mu guards all of it.
type userBuckets struct {
	mu      sync.Mutex
	buckets map[string]*rate.Limiter
	sweepAt int
}

// buckets are what is left of a socket's rates. They belong to the goroutine that
// handles the socket's events.
type buckets struct {
	events []eventBucket
	breach *rate.Limiter
}

type eventBucket struct {
	event string // empty: all that have no handler
	limit *rate.Limiter
	which string
}

// refreshRate is how often a socket may renew its authorisation, which asks the
// host's database, unless Rates.Events says otherwise.
var refreshRate = Rate{0.1, 5}

func (r *rates) init(rt *Server) {
	o := &rt.opts.Rates
	r.rt = rt
	r.off = rt.opts.Unlimited
	r.seed = maphash.MakeSeed()
	r.events = map[string]Rate{DriverLocationPing.name: o.Location, AuthRefresh.name: refreshRate}
	for event, limit := range o.Events {
		r.events[event] = limit
	}
}

// take takes what an event costs and reports whether it may be handled, and
// whether the socket has gone too far.
func (r *rates) take(s *Socket, event string) (pass, abuse bool) {
	if r.off {
		return true, false
	}
	now := time.Now()
	if s.buckets == nil {
		s.buckets = &buckets{}
	}
	b := s.buckets.of(r, event)
	which := ""
	switch user := s.Identity().UserID; {
	case !b.limit.AllowN(now, 1):
		which = b.which
	case user != "" && !r.user(user, now):
		which = "Rates.User"
	default:
		return true, false
	}
	r.rt.limited(which)
	if s.buckets.breach == nil {
		s.buckets.breach = r.rt.opts.Rates.Breach.limiter()
	}
	return false, !s.buckets.breach.AllowN(now, 1)
}

// of returns the bucket of an event. There are few: those of events without a
// handler count as one.
func (b *buckets) of(r *rates, event string) *eventBucket {
	for i := range b.events {
		if b.events[i].event == event {
			return &b.events[i]
		}
	}
	limit, ok := r.events[event]
	which := "Rates.Events"
	switch {
	case event == DriverLocationPing.name && limit == r.rt.opts.Rates.Location:
		which = "Rates.Location"
	case !ok:
		limit, which = r.rt.opts.Rates.Event, "Rates.Event"
	}
	b.events = append(b.events, eventBucket{event, limit.limiter(), which})
	return &b.events[len(b.events)-1]
}

// user takes one from a user's bucket.
func (r *rates) user(id string, now time.Time) bool {
	limit := r.rt.opts.Rates.User
	if limit.PerSecond < 0 {
		return true
	}
	u := &r.users[maphash.String(r.seed, id)%uint64(len(r.users))]
	u.mu.Lock()
	b := u.buckets[id]
	if b == nil {
		if u.buckets == nil {
			u.buckets = map[string]*rate.Limiter{}
		}
		if len(u.buckets) >= max(u.sweepAt, 256) {
			u.sweepLocked(now)
		}
		b = limit.limiter()
		u.buckets[id] = b
	}
	u.mu.Unlock()
	return b.AllowN(now, 1)
}

func (u *userBuckets) sweepLocked(now time.Time) {
	for id, b := range u.buckets {
		if b.TokensAt(now) >= float64(b.Burst()) {
			delete(u.buckets, id)
		}
	}
	u.sweepAt = 2 * len(u.buckets)
}

// makeRoom sees that a user who connects once more has no more sockets in the
// namespace than Limits.SocketsPerUser: the oldest ones go, or the new one does
// not come. Of several that connect at once each sees those that were admitted
// before it.
func (ns *Namespace) makeRoom(s *Socket) error {
	limit, user := ns.rt.opts.Limits.SocketsPerUser, s.identity.UserID
	if limit < 0 || user == "" {
		return nil
	}
	own := ownRoom(ns.name, user).name
	if ns.inner.RoomLen(own) <= limit {
		return nil
	}
	sockets := ns.inner.Select(socketio.Target{Rooms: []string{own}})
	slices.SortFunc(sockets, func(a, b *socketio.Socket) int { return cmp.Compare(a.Order(), b.Order()) })
	extra := len(sockets) - limit
	switch {
	case extra <= 0:
		return nil
	case ns.rt.opts.RefuseExtraSockets && slices.Index(sockets, s.inner) < limit:
		return nil // another one is too many
	}
	ns.rt.limited("SocketsPerUser")
	if ns.rt.opts.RefuseExtraSockets {
		return refuse(CodeRateLimited)
	}
	for _, old := range sockets[:extra] {
		if !old.Refuse(ns.rt.refusal(CodeRateLimited), ns.rt.opts.DisconnectRefused) {
			old.Disconnect()
		}
	}
	return nil
}
