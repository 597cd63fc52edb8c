// Package ratelimit limits how often clients send events. Each socket has a token
// bucket per event, and all sockets of a user share one more bucket.
package ratelimit

import (
	"hash/maphash"
	"time"
)

// Config configures a Limiter.
type Config struct {
	Default Limit            // of an event that is not in Events
	Events  map[string]Limit // by event name
	User    Limit            // of all events of one user, but for those with Limit.Own
	// Breach is the rate of refused events above which a socket is abusive.
	Breach Rate
}

// Limit is a rate and the name that Allow returns when it refuses.
type Limit struct {
	Rate
	Name string
	Own  bool // its events do not count for Config.User
}

// Limiter limits events. Its methods may be called concurrently, but not for the same
// Socket.
type Limiter struct {
	events map[string]*quota
	others quota // of an event that is not in events
	user   quota
	breach Quota
	start  time.Time
	seed   maphash.Seed
	users  [16]users
}

type quota struct {
	Quota
	name string
	own  bool
}

// Socket holds the buckets of one socket. Its zero value has full buckets. It is not
// safe for concurrent use.
type Socket struct{ state *socketState }

type socketState struct {
	events []eventBucket // one per handled event that the socket has sent; unknown events share one
	breach Bucket
}

type eventBucket struct {
	event string
	quota *quota
	Bucket
}

// Verdict says what to do with an event.
type Verdict uint8

// The verdicts.
const (
	Pass   Verdict = iota // handle it
	Refuse                // refuse it
	Abuse                 // refuse it and disconnect the socket
)

// New returns a Limiter.
func New(c Config) *Limiter {
	l := &Limiter{
		events: make(map[string]*quota, len(c.Events)), others: c.Default.quota(), user: c.User.quota(), breach: c.Breach.Quota(),
		start: time.Now(), seed: maphash.MakeSeed(),
	}
	for event, limit := range c.Events {
		q := limit.quota()
		l.events[event] = &q
	}
	return l
}

func (l Limit) quota() quota { return quota{l.Quota(), l.Name, l.Own} }

// Allow charges an event to the socket's bucket of that name and, if that allows it, user is
// not empty and the event counts for Config.User, to the user's bucket. limit is the name of the limit that refused it. The
// caller passes one name for all events that the host does not handle, because each name costs
// memory.
func (l *Limiter) Allow(s *Socket, user, event string) (v Verdict, limit string) {
	now := time.Since(l.start)
	if s.state == nil {
		s.state = &socketState{}
	}
	b := s.state.bucket(l, event)
	switch {
	case !b.Allow(b.quota.Quota, now):
		limit = b.quota.name
	case user != "" && !b.quota.own && !l.allowUser(user, now):
		limit = l.user.name
	default:
		return Pass, ""
	}
	if s.state.breach.Allow(l.breach, now) {
		return Refuse, limit
	}
	return Abuse, limit
}

func (s *socketState) bucket(l *Limiter, event string) *eventBucket {
	for i := range s.events {
		if s.events[i].event == event {
			return &s.events[i]
		}
	}
	q := l.events[event]
	if q == nil {
		q = &l.others
	}
	s.events = append(s.events, eventBucket{event: event, quota: q})
	return &s.events[len(s.events)-1]
}

func (l *Limiter) allowUser(id string, now time.Duration) bool {
	if l.user.burst == 0 {
		return true
	}
	return l.users[maphash.String(l.seed, id)%uint64(len(l.users))].allow(l.user.Quota, id, now)
}
