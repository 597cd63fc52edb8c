// The buckets of users.

package ratelimit

import (
	"sync"
	"time"
)

// users are the buckets of a part of the users. A bucket that is full is as good
// as none: each new one has the two that were looked at longest ago looked at
// again, so that no more are kept than twice those in use, and no call is long.
type users struct {
	mu sync.Mutex
	// mu guards what follows.
	buckets map[string]*userBucket
	next    *userBucket // of a ring; the one to be looked at next
}

type userBucket struct {
	Bucket
	id          string
	left, right *userBucket
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
	if u.next != nil { // behind all others
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
