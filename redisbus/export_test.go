// What the external tests need of the inside.

package redisbus

import "time"

// Hurry makes a bus beat every d, and retry as often.
func (b *Bus) Hurry(d time.Duration) {
	b.timing.lease, b.timing.beat, b.timing.block = 5*d, d, 10*d
	b.timing.trim, b.timing.retry = 20*d, min(d, 10*time.Millisecond)
}

// StreamOf returns the stream that events of a key are in.
func (b *Bus) StreamOf(key string) string { return b.keys.of(key).stream }

// AsideKey returns the stream of events that were set aside.
func (b *Bus) AsideKey() string { return b.keys.aside }
