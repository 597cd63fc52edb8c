// Package ratelimit says how often a client may send: token buckets of a socket,
// one for each event, and of a user, whose sockets share one.
package ratelimit

import (
	"hash/maphash"
	"time"
)

// Config sets a Limiter up.
type Config struct {
	Default Limit            // of an event that Events does not name
	Events  map[string]Limit // by the name of the event
	User    Limit            // of all events of one user
	// Breach is how often a socket's events may be refused before it counts as
	// abusive.
	Breach Rate
}

// Limit is a rate and the name that Allow returns when it refuses.
type Limit struct {
	Rate
	Name string
}

// Limiter decides over events. Its methods may be called concurrently, though not
// for the same Socket.
type Limiter struct {
	events map[string]*quota
	others quota
	user   quota
	breach Quota
	start  time.Time
	seed   maphash.Seed
	users  [16]users
}

type quota struct {
	Quota
	name string
}

// Socket is what is left of a socket's rates. The zero Socket has all of them.
type Socket struct{ state *socketState }

type socketState struct {
	events []eventBucket // few: all events that nobody handles share one
	breach Bucket
}

type eventBucket struct {
	event string
	quota *quota
	Bucket
}

// Verdict is what becomes of an event.
type Verdict uint8

// The verdicts.
const (
	Pass   Verdict = iota // it is handled
	Refuse                // it is not
	Abuse                 // nor is it, and the socket is to be disconnected
)

// New returns a limiter.
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

func (l Limit) quota() quota { return quota{l.Quota(), l.Name} }

// Allow charges an event to the bucket of its name and to its user's, if there is
// a user, and returns the name of the limit that refuses it. Events that the host does
// not handle all come under one name.
func (l *Limiter) Allow(s *Socket, user, event string) (v Verdict, limit string) {
	now := time.Since(l.start)
	if s.state == nil {
		s.state = &socketState{}
	}
	b := s.state.bucket(l, event)
	switch {
	case !b.Allow(b.quota.Quota, now):
		limit = b.quota.name
	case user != "" && !l.allowUser(user, now):
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
