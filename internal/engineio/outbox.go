// The queue of messages that wait to be sent to one client.

package engineio

import (
	"slices"
	"sync"
)

// outbox is a session's queue of unsent messages. Session.mu guards it. An empty outbox
// holds no memory.
type outbox struct {
	q     *queue
	bytes int
}

type queue struct {
	ms      []*Message
	head    int            // number of messages in ms that were taken
	removed int            // number of taken messages that were removed from ms
	pings   int            // number of messages that are a receiptPing
	keys    map[string]int // position of the newest message of a key, counted from the first message ever pushed; nil until replace needs it
}

var queues = sync.Pool{New: func() any { return new(queue) }}

// maxPooledQueue is the capacity up to which an empty queue goes back to the pool.
const maxPooledQueue = 256

func (o *outbox) len() int {
	if o.q == nil {
		return 0
	}
	return len(o.q.ms) - o.q.head
}

func (o *outbox) push(m *Message) {
	if o.q == nil {
		o.q = queues.Get().(*queue) //nolint:errcheck,forcetypeassert // the pool holds nothing else
	}
	q := o.q
	// A queue that is never quite empty would grow by the messages that it has
	// delivered.
	if len(q.ms) == cap(q.ms) && q.head > len(q.ms)/2 {
		n := copy(q.ms, q.ms[q.head:])
		clear(q.ms[n:])
		q.removed += q.head
		q.ms, q.head = q.ms[:n], 0
	}
	if q.keys != nil && m.Key != "" {
		q.keys[m.Key] = q.removed + len(q.ms)
	}
	q.ms = append(q.ms, m)
	o.bytes += m.Queued()
	if m.receipt {
		q.pings++
	}
}

// receipts returns the number of pings that are receipts.
func (o *outbox) receipts() int {
	if o.q == nil {
		return 0
	}
	return o.q.pings
}

// pushFirst adds a message without a key in front of the others.
func (o *outbox) pushFirst(m *Message) {
	if o.len() == 0 {
		o.push(m)
		return
	}
	q := o.q
	if q.head == 0 {
		q.ms = slices.Insert(q.ms, 0, nil)
		q.head, q.removed = 1, q.removed-1
	}
	q.head--
	q.ms[q.head] = m
	o.bytes += m.Queued()
}

// first returns the oldest message, or nil.
func (o *outbox) first() *Message {
	if o.q == nil {
		return nil
	}
	return o.q.ms[o.q.head]
}

// shift removes the oldest message.
func (o *outbox) shift() {
	q := o.q
	m := q.ms[q.head]
	o.bytes -= m.Queued()
	if m.receipt {
		q.pings--
	}
	if q.keys != nil && m.Key != "" && q.keys[m.Key] == q.removed+q.head {
		delete(q.keys, m.Key)
	}
	q.ms[q.head] = nil
	if q.head++; q.head == len(q.ms) {
		o.release()
	}
}

// replace puts m in the place of an unsent message of the same key, and reports whether
// there was one.
func (o *outbox) replace(m *Message) bool {
	q := o.q
	if q == nil || m.Key == "" {
		return false
	}
	if q.keys == nil {
		q.buildIndex()
	}
	at, ok := q.keys[m.Key]
	if !ok {
		return false
	}
	old := &q.ms[at-q.removed]
	o.bytes += m.Queued() - (*old).Queued()
	*old = m
	return true
}

// buildIndex fills q.keys. It is called when the client does not read and replacing
// begins; the index exists until the queue is empty.
func (q *queue) buildIndex() {
	q.keys = map[string]int{}
	for i := q.head; i < len(q.ms); i++ {
		if key := q.ms[i].Key; key != "" {
			q.keys[key] = q.removed + i
		}
	}
}

func (o *outbox) overLimit(c *Config) bool {
	return o.bytes > c.MaxOutboxBytes || o.len() > c.MaxOutboxMessages
}

// wouldExceed reports whether ms would put the outbox over its limit.
func (o *outbox) wouldExceed(c *Config, ms []*Message) bool {
	bytes := o.bytes
	for _, m := range ms {
		bytes += m.Queued()
	}
	return bytes > c.MaxOutboxBytes || o.len()+len(ms) > c.MaxOutboxMessages
}

func (o *outbox) clear() {
	if o.q != nil {
		o.release()
	}
}

func (o *outbox) release() {
	q := o.q
	o.q, o.bytes = nil, 0
	if cap(q.ms) <= maxPooledQueue {
		q.reset()
		queues.Put(q)
	}
}

// reset empties the queue, which then refers to no message.
func (q *queue) reset() {
	clear(q.ms[q.head:])
	q.ms, q.head, q.keys, q.removed, q.pings = q.ms[:0], 0, nil, 0, 0
}
