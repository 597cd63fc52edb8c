// What waits to be sent to one client.

package engineio

import "sync"

// outbox is a session's queue of unsent messages. It belongs to the session's
// mutex. An empty outbox holds no memory.
type outbox struct {
	q     *queue
	bytes int
}

type queue struct {
	ms   []*Message
	head int // messages before it are taken
}

var queues = sync.Pool{New: func() any { return new(queue) }}

// keepQueue is the capacity up to which an emptied queue is kept for others.
const keepQueue = 256

func (o *outbox) len() int {
	if o.q == nil {
		return 0
	}
	return len(o.q.ms) - o.q.head
}

func (o *outbox) push(m *Message) {
	if o.q == nil {
		o.q = queues.Get().(*queue)
	}
	q := o.q
	// A queue that is never quite empty would grow by what it has delivered.
	if len(q.ms) == cap(q.ms) && q.head > len(q.ms)/2 {
		n := copy(q.ms, q.ms[q.head:])
		clear(q.ms[n:])
		q.ms, q.head = q.ms[:n], 0
	}
	q.ms = append(q.ms, m)
	o.bytes += len(m.frame)
}

// first returns the oldest message, nil when there is none.
func (o *outbox) first() *Message {
	if o.q == nil {
		return nil
	}
	return o.q.ms[o.q.head]
}

// shift takes the oldest message out.
func (o *outbox) shift() {
	q := o.q
	o.bytes -= len(q.ms[q.head].frame)
	q.ms[q.head] = nil
	if q.head++; q.head == len(q.ms) {
		o.release()
	}
}

// replace puts m where an unsent message of its key stands.
func (o *outbox) replace(m *Message) bool {
	if o.q == nil || m.Key == "" {
		return false
	}
	for i := len(o.q.ms) - 1; i >= o.q.head; i-- {
		if old := o.q.ms[i]; old.Key == m.Key {
			o.q.ms[i] = m
			o.bytes += len(m.frame) - len(old.frame)
			return true
		}
	}
	return false
}

func (o *outbox) over(c *Config) bool {
	return o.bytes > c.MaxOutboxBytes || o.len() > c.MaxOutboxMessages
}

// full reports whether m would put the outbox over its limit.
func (o *outbox) full(c *Config, m *Message) bool {
	return o.bytes+len(m.frame) > c.MaxOutboxBytes || o.len() >= c.MaxOutboxMessages
}

func (o *outbox) clear() {
	if o.q != nil {
		clear(o.q.ms[o.q.head:])
		o.release()
	}
}

func (o *outbox) release() {
	q := o.q
	o.q, o.bytes = nil, 0
	if cap(q.ms) <= keepQueue {
		q.ms, q.head = q.ms[:0], 0
		queues.Put(q)
	}
}
