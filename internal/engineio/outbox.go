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
	ms    []*Message
	head  int            // messages before it are taken
	moved int            // messages taken that are not in ms any more
	keys  map[string]int // where the newest message of a key is, counting those taken; nil until asked
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
		q.moved += q.head
		q.ms, q.head = q.ms[:n], 0
	}
	if q.keys != nil && m.Key != "" {
		q.keys[m.Key] = q.moved + len(q.ms)
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
	m := q.ms[q.head]
	o.bytes -= len(m.frame)
	if q.keys != nil && m.Key != "" && q.keys[m.Key] == q.moved+q.head {
		delete(q.keys, m.Key)
	}
	q.ms[q.head] = nil
	if q.head++; q.head == len(q.ms) {
		o.release()
	}
}

// replace puts m where an unsent message of its key stands.
func (o *outbox) replace(m *Message) bool {
	q := o.q
	if q == nil || m.Key == "" {
		return false
	}
	if q.keys == nil {
		q.index()
	}
	at, ok := q.keys[m.Key]
	if !ok {
		return false
	}
	old := &q.ms[at-q.moved]
	o.bytes += len(m.frame) - len((*old).frame)
	*old = m
	return true
}

// index is made for a client that has stopped taking messages, which is when
// replacing begins, and lasts until the queue is empty.
func (q *queue) index() {
	q.keys = map[string]int{}
	for i := q.head; i < len(q.ms); i++ {
		if key := q.ms[i].Key; key != "" {
			q.keys[key] = q.moved + i
		}
	}
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
	q.keys, q.moved = nil, 0
	if cap(q.ms) <= keepQueue {
		q.ms, q.head = q.ms[:0], 0
		queues.Put(q)
	}
}
