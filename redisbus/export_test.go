// Exports for the external tests.

package redisbus

import (
	"time"

	"github.com/rodando/realtime"
)

// FieldsOf exports fieldsOf.
var FieldsOf = fieldsOf

// EventOf returns the event of an entry's fields.
func EventOf(fields []string) (realtime.Envelope, error) { return entry{fields: fields}.event() }

// Hurry makes a bus beat so often, and keep a partition so long without a beat.
func (b *Bus) Hurry(beat, lease time.Duration) {
	b.timing.beat, b.timing.lease, b.timing.block = beat, lease, 10*beat
	b.timing.trim, b.timing.retry, b.timing.grace = 20*beat, min(beat, 10*time.Millisecond), 4*beat
}

// CallTimeout sets the timeout of calls to Redis.
func (b *Bus) CallTimeout(d time.Duration) { b.timing.call = d }

// SetName gives a bus the name of another one, as a copy of its process has.
func (b *Bus) SetName(name string) { b.name = name }

// StreamOf returns the stream that events of a key are in.
func (b *Bus) StreamOf(key string) string { return b.keys.of(key).stream }

// AsideKey returns the stream of events that were set aside.
func (b *Bus) AsideKey() string { return b.keys.aside }

// HandoverTimeout sets how long the functions of BeforeHandover and BeforeTakeover may take.
func (b *Bus) HandoverTimeout(d time.Duration) { b.timing.handover = d }
