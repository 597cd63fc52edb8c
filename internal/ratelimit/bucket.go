// A token bucket in eight bytes.

package ratelimit

import (
	"math"
	"time"
)

// Rate is what a bucket allows: so many a second in the long run, Burst at once.
// A negative PerSecond is no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Unlimited reports whether the rate allows everything.
func (r Rate) Unlimited() bool { return r.PerSecond < 0 }

// Quota is a Rate as Bucket wants it.
type Quota struct {
	each  time.Duration // what one token takes to come back
	burst time.Duration // what a whole burst takes; 0: no limit
}

// Quota returns the rate, made ready.
func (r Rate) Quota() Quota {
	if r.Unlimited() {
		return Quota{}
	}
	// A burst must fit into a Duration beside a time since the start.
	const most = math.MaxInt64 / 4
	burst := max(1, float64(r.Burst))
	each := math.Ceil(min(float64(time.Second)/r.PerSecond, most/burst))
	return Quota{time.Duration(each), time.Duration(each * burst)}
}

// Refill is how long an empty bucket takes to be full.
func (q Quota) Refill() time.Duration { return q.burst }

// Bucket is what is left of a rate. The zero Bucket is full. It is not safe for
// concurrent use.
//
// It is the generic cell rate algorithm: a bucket is known by when it is full again.
type Bucket struct {
	full time.Duration // a time, since the clock's start
}

// Allow takes a token at a time that is given since some start, always the same,
// and reports whether there was one.
func (b *Bucket) Allow(q Quota, now time.Duration) bool {
	if q.burst == 0 {
		return true
	}
	full := max(b.full, now) + q.each
	if full-now > q.burst {
		return false
	}
	b.full = full
	return true
}

// Full reports whether there is nothing to remember.
func (b *Bucket) Full(now time.Duration) bool { return b.full <= now }
