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
	// Breach is the rate of events beyond their rates above which a socket is abusive.
	Breach Rate
	// Repeat is how long a user's breach is remembered.
	Repeat time.Duration
	// Burst is how long after its first event a socket may send what the client has kept while
	// it was offline. Each such event extends that to Pause after it, up to LongBurst. Backlog is
	// the rate of such events of one user that are no breach.
	Burst, Pause, LongBurst time.Duration
	Backlog                 Rate
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
	events  map[string]*quota
	others  quota // of an event that is not in events
	user    quota
	breach  Quota
	backlog Quota
	repeat  time.Duration
	burst   time.Duration
	pause   time.Duration
	long    time.Duration
	start   time.Time
	seed    maphash.Seed
	users   [16]users
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
	began  time.Duration // its first event, since the start
	kept   time.Duration // until when it may send what its client has kept, if that is later than Config.Burst after began; likewise
}

type eventBucket struct {
	event string
	quota *quota
	Bucket
}

// New returns a Limiter.
func New(c Config) *Limiter {
	l := &Limiter{
		events: make(map[string]*quota, len(c.Events)), others: c.Default.quota(), user: c.User.quota(), breach: c.Breach.Quota(),
		backlog: c.Backlog.Quota(), repeat: c.Repeat, burst: c.Burst, pause: c.Pause, long: c.LongBurst, start: time.Now(), seed: maphash.MakeSeed(),
	}
	for event, limit := range c.Events {
		q := limit.quota()
		l.events[event] = &q
	}
	return l
}

func (l Limit) quota() quota { return quota{l.Quota(), l.Name, l.Own} }

// Allow charges an event to the socket's bucket of that name and, if that allows it, user is
// not empty and the event counts for Config.User, to the user's bucket. If it does not allow the
// event, limit is the name of the limit. The caller passes one name for all events that the host
// does not handle, because each name costs memory.
func (l *Limiter) Allow(s *Socket, user, event string) (ok bool, limit string) {
	now := time.Since(l.start)
	b := s.use(now).bucket(l, event)
	switch {
	case !b.Allow(b.quota.Quota, now):
		return false, b.quota.name
	case user != "" && !b.quota.own && !l.allowUser(user, now):
		return false, l.user.name
	}
	return true, ""
}

// Wait returns the time until the socket's bucket of the event's name has a token.
func (l *Limiter) Wait(s *Socket, event string) time.Duration {
	now := time.Since(l.start)
	b := s.use(now).bucket(l, event)
	return b.Wait(b.quota.Quota, now)
}

// Limits returns the limit of the event's name, and whether there is any.
func (l *Limiter) Limits(event string) (limit string, ok bool) {
	q := l.quotaOf(event)
	return q.name, q.burst > 0
}

// Begins reports whether the socket may still send what its client has kept: its first event came less
// than Config.Burst ago, or comes now, or Kept has extended that.
func (l *Limiter) Begins(s *Socket) bool {
	now := time.Since(l.start)
	state := s.use(now)
	return now-state.began < l.burst || now < state.kept
}

// Kept reports whether an event of the socket that Allow has not allowed may have been kept while
// the client was offline: Begins is true, and Config.Backlog of the user allows it. Without a user
// it is false.
func (l *Limiter) Kept(s *Socket, user string) bool {
	now := time.Since(l.start)
	if user == "" || !l.Begins(s) || !l.takeBacklog(user, now) {
		return false
	}
	s.state.kept = min(now+l.pause, s.state.began+l.long)
	return true
}

// Breach charges an event that Allow has not allowed, and that was not Kept. It reports whether
// the socket is abusive.
func (l *Limiter) Breach(s *Socket) bool {
	now := time.Since(l.start)
	return !s.use(now).breach.Allow(l.breach, now)
}

// use returns the state of the socket, which it creates for the first event.
func (s *Socket) use(now time.Duration) *socketState {
	if s.state == nil {
		s.state = &socketState{began: now}
	}
	return s.state
}

func (l *Limiter) quotaOf(event string) *quota {
	if q := l.events[event]; q != nil {
		return q
	}
	return &l.others
}

func (s *socketState) bucket(l *Limiter, event string) *eventBucket {
	for i := range s.events {
		if s.events[i].event == event {
			return &s.events[i]
		}
	}
	s.events = append(s.events, eventBucket{event: event, quota: l.quotaOf(event)})
	return &s.events[len(s.events)-1]
}
