// The buckets of users, which their sockets share.

package ratelimit

import (
	"hash/maphash"
	"sync"
	"time"
)

// sameBreach is how long after a user's breach another one has the same cause: the user's other
// sockets have sent too much too.
const sameBreach = time.Second

// users is one shard of the users' buckets. A full bucket equals a new one and can be
// dropped: whenever a bucket is added, two others are checked in turn. So at most about
// twice the number of buckets in use exist, and no call takes long.
type users struct {
	mu      sync.Mutex // guards buckets, next and every userBucket
	buckets map[string]*userBucket
	next    *userBucket // the next one to check, in a ring of all
}

type userBucket struct {
	events, backlog Bucket
	breach          time.Duration // when the last breach that was not a repeated one began, plus Limiter.repeat
	id              string
	left, right     *userBucket // the neighbors in the ring
}

// full reports whether the bucket equals a new one.
func (b *userBucket) full(now time.Duration) bool {
	return b.events.Full(now) && b.backlog.Full(now) && b.breach <= now
}

func (l *Limiter) shard(id string) *users {
	return &l.users[maphash.String(l.seed, id)%uint64(len(l.users))]
}

func (l *Limiter) allowUser(id string, now time.Duration) bool {
	if l.user.burst == 0 {
		return true
	}
	u := l.shard(id)
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.bucketLocked(id, now).events.Allow(l.user.Quota, now)
}

func (l *Limiter) takeBacklog(id string, now time.Duration) bool {
	u := l.shard(id)
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.bucketLocked(id, now).backlog.Allow(l.backlog, now)
}

// Repeated records that a socket of a user is abusive. It reports whether another one was, within
// Config.Repeat. Without a user it is false.
func (l *Limiter) Repeated(user string) bool {
	if user == "" {
		return false
	}
	now := time.Since(l.start)
	u := l.shard(user)
	u.mu.Lock()
	defer u.mu.Unlock()
	b := u.bucketLocked(user, now)
	if b.breach <= now {
		b.breach = now + l.repeat
		return false
	}
	return now-(b.breach-l.repeat) > sameBreach
}

func (u *users) bucketLocked(id string, now time.Duration) *userBucket {
	b := u.buckets[id]
	if b == nil {
		u.forgetLocked(now)
		b = u.addLocked(id)
	}
	return b
}

func (u *users) addLocked(id string) *userBucket {
	b := &userBucket{id: id}
	b.left, b.right = b, b
	if u.next != nil { // at the end of the ring: just before next
		b.left, b.right = u.next.left, u.next
		b.left.right, b.right.left = b, b
	} else {
		u.next = b
	}
	if u.buckets == nil {
		u.buckets = map[string]*userBucket{}
	}
	u.buckets[id] = b
	return b
}

// forgetLocked checks the next two buckets of the ring and drops those that are full.
func (u *users) forgetLocked(now time.Duration) {
	for range 2 {
		b := u.next
		if b == nil {
			return
		}
		u.next = b.right
		if !b.full(now) {
			continue
		}
		b.left.right, b.right.left = b.right, b.left
		if u.next == b {
			u.next = nil
		}
		delete(u.buckets, b.id)
	}
}
