// The buckets of users, which their sockets share.

package ratelimit

import (
	"sync"
	"time"
)

// users is one shard of the users' buckets. A full bucket equals a new one and can be
// dropped: whenever a bucket is added, two others are checked in turn. So at most about
// twice the number of buckets in use exist, and no call takes long.
type users struct {
	mu      sync.Mutex // guards buckets, next and every userBucket
	buckets map[string]*userBucket
	next    *userBucket // the next one to check, in a ring of all
}

type userBucket struct {
	Bucket
	id          string
	left, right *userBucket // the neighbors in the ring
}

func (u *users) allow(q Quota, id string, now time.Duration) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	b := u.buckets[id]
	if b == nil {
		u.forgetLocked(now)
		b = u.addLocked(id)
	}
	return b.Allow(q, now)
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
		if !b.Full(now) {
			continue
		}
		b.left.right, b.right.left = b.right, b.left
		if u.next == b {
			u.next = nil
		}
		delete(u.buckets, b.id)
	}
}
