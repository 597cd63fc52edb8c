// A token bucket in eight bytes.

package ratelimit

import (
	"math"
	"time"
)

// Rate is a token bucket's rate: PerSecond in the long run, and Burst at once. A
// negative PerSecond means no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Unlimited reports whether the rate allows everything.
func (r Rate) Unlimited() bool { return r.PerSecond < 0 }

// Quota is a Rate converted to durations, which is what Bucket needs.
type Quota struct {
	each  time.Duration // the time in which one token returns
	burst time.Duration // the time in which a whole burst returns; 0 means no limit
}

// Quota converts the rate.
func (r Rate) Quota() Quota {
	if r.Unlimited() {
		return Quota{}
	}
	// A burst added to a time since the start must not overflow a Duration.
	const most = math.MaxInt64 / 4
	burst := max(1, float64(r.Burst))
	each := math.Ceil(min(float64(time.Second)/r.PerSecond, most/burst))
	return Quota{time.Duration(each), time.Duration(each * burst)}
}

// Bucket is a token bucket. Its zero value is full. It is not safe for concurrent use.
//
// It implements the generic cell rate algorithm (GCRA): the only state is the time at
// which the bucket will be full again.
type Bucket struct {
	full time.Duration // since the clock's start
}

// Allow takes a token and reports whether there was one. now is the time since a start
// that is the same for all calls.
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

// Return gives a token back that Allow has taken.
func (b *Bucket) Return(q Quota) { b.full -= q.each }

// Wait returns the time until Allow allows again, 0 if it would now.
func (b *Bucket) Wait(q Quota, now time.Duration) time.Duration {
	if q.burst == 0 {
		return 0
	}
	return max(0, max(b.full, now)+q.each-now-q.burst)
}

// Full reports whether the bucket is full, so that it equals a new one.
func (b *Bucket) Full(now time.Duration) bool { return b.full <= now }
