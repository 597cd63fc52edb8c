// The publisher: sends this node's messages in order, over one connection, in batches.

package redisadapter

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/redis/rueidis"

	"github.com/rodando/realtime/internal/stackroom"
)

// batchMessages is the maximum number of messages in a batch.
const batchMessages = 512

var (
	errQueueFull    = errors.New("redisadapter: the queue of messages to publish is full")
	errNotConnected = errors.New("redisadapter: not connected to Redis")
)

// outgoing is one PUBLISH.
type outgoing struct {
	channel string
	payload []byte // of this message alone: see reuse
	// count is a channel whose subscribers are counted before the PUBLISH; empty: none.
	count string
	// done, if not nil, receives the numbers of subscribers. It must not block.
	done func(receivers, counted int, err error)
}

// publisher sends one batch at a time, when Redis has answered the previous one. So
// messages keep their order, whichever connection the client uses. It never sends a batch
// again: one without an answer may have been delivered.
type publisher struct {
	client  func() rueidis.Client // returns nil while there is none
	sharded bool
	failed  func(lost int, err error)       // called when Redis does not take the first messages
	healed  func(lost int, since time.Time) // called at the first success after a loss

	maxMessages, maxBytes int

	address string    // of the cluster's server that is published on; only run uses it
	failing bool      // that server has failed; only run uses it
	pushed  time.Time // when the first message of the batch was pushed; only run uses it

	mu      sync.Mutex // guards the rest
	queue   []outgoing
	oldest  time.Time  // when the first message was pushed into the empty queue
	spare   []outgoing // the storage of a batch that was sent, empty
	buffers [][]byte   // of payloads that were sent, empty
	bytes   int
	running bool
	lost    int           // messages lost since the last success
	lostAll uint64        // messages lost ever
	since   time.Time     // when the first of them was pushed
	idle    chan struct{} // closed when all messages have been sent; nil: nobody waits
}

// Bounds of the buffers that wait for the next payloads.
const (
	maxBuffers     = 64
	maxBufferBytes = 4 << 10
)

// buffer returns an empty buffer for a payload, or nil.
func (p *publisher) buffer() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.buffers) - 1
	if last < 0 {
		return nil
	}
	b := p.buffers[last]
	p.buffers[last] = nil
	p.buffers = p.buffers[:last]
	return b
}

// reuse keeps the buffers of a batch that Redis has taken, all of it: the client does not read
// them any more.
func (p *publisher) reuse(batch []outgoing) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range batch {
		if len(p.buffers) < maxBuffers && cap(o.payload) <= maxBufferBytes {
			p.buffers = append(p.buffers, o.payload[:0])
		}
	}
}

// push queues a message. It does not wait.
func (p *publisher) push(o outgoing) error {
	connected := p.client() != nil
	p.mu.Lock()
	defer p.mu.Unlock()
	if !connected {
		p.loseLocked(1, time.Now())
		return errNotConnected
	}
	if len(p.queue) >= p.maxMessages || p.bytes+len(o.payload) > p.maxBytes && len(p.queue) > 0 {
		p.loseLocked(1, time.Now())
		return errQueueFull
	}
	if len(p.queue) == 0 {
		p.oldest = time.Now()
	}
	p.queue = append(p.queue, o)
	p.bytes += len(o.payload)
	if !p.running {
		p.running = true
		go p.run()
	}
	return nil
}

// run sends until the queue is empty.
func (p *publisher) run() {
	stackroom.Reserve() // the client's calls are deep
	// A goroutine that has just pushed often pushes more: one write then carries all of it, and
	// each receiver, which Redis writes to as often, wakes once.
	runtime.Gosched()
	for batch := p.take(nil); batch != nil; batch = p.take(batch) {
		p.send(batch)
	}
}

// take returns the next batch, or nil when the queue is empty: then run ends. sent is the
// batch before.
func (p *publisher) take(sent []outgoing) []outgoing {
	p.mu.Lock()
	defer p.mu.Unlock()
	if cap(sent) <= batchMessages {
		clear(sent)
		p.spare = sent[:0]
	}
	n := min(len(p.queue), batchMessages)
	if n == 0 {
		p.running = false
		if p.idle != nil {
			close(p.idle)
			p.idle = nil
		}
		return nil
	}
	p.pushed = p.oldest // later batches may be younger: a gap that begins too early costs little
	batch := p.queue[:n:n]
	if n == len(p.queue) {
		batch = p.queue // with its storage, which becomes the spare
		p.queue, p.spare = p.spare, nil
	} else {
		p.queue = p.queue[n:]
	}
	for _, o := range batch {
		p.bytes -= len(o.payload)
	}
	return batch
}

func (p *publisher) send(batch []outgoing) {
	client := p.node()
	if client == nil {
		p.fail(batch, errNotConnected)
		return
	}
	cmds := make(rueidis.Commands, 0, len(batch)+1)
	for _, o := range batch {
		if o.count != "" {
			cmds = append(cmds, p.numsub(client, o.count))
		}
		payload := rueidis.BinaryString(o.payload)
		if p.sharded {
			cmds = append(cmds, client.B().Spublish().Channel(o.channel).Message(payload).Build())
		} else {
			cmds = append(cmds, client.B().Publish().Channel(o.channel).Message(payload).Build())
		}
	}
	// No deadline: a later command could overtake one whose context ended in flight.
	// The connection has one.
	results := client.DoMulti(context.Background(), cmds...)
	lost, sent := 0, false
	var failure error
	for _, o := range batch {
		counted := 0
		var err error
		if o.count != "" {
			counted, err = subscribers(results[0])
			results = results[1:]
		}
		receivers, publishing := results[0].AsInt64()
		results = results[1:]
		if publishing != nil {
			lost++
			failure = publishing
		} else {
			sent = true
		}
		if o.done != nil {
			o.done(int(receivers), counted, errors.Join(err, publishing))
		}
	}
	p.failing = !sent
	if lost == 0 {
		p.reuse(batch)
	}
	p.account(lost, p.pushed, sent, failure)
}

// numsub counts a channel's subscribers.
func (p *publisher) numsub(client rueidis.Client, channel string) rueidis.Completed {
	if p.sharded { // Keys, so that the command goes to the server of that slot
		return client.B().Arbitrary("PUBSUB", "SHARDNUMSUB").Keys(channel).Build()
	}
	return client.B().PubsubNumsub().Channel(channel).Build()
}

// subscribers reads the answer to numsub, a list of channels and numbers.
func subscribers(r rueidis.RedisResult) (int, error) {
	list, err := r.ToArray()
	if err != nil {
		return 0, err
	}
	if len(list) != 2 {
		return 0, errors.New("PUBSUB NUMSUB: not a channel and its number")
	}
	n, err := list[1].AsInt64()
	return int(n), err
}

func (p *publisher) fail(batch []outgoing, err error) {
	for _, o := range batch {
		if o.done != nil {
			o.done(0, 0, err)
		}
	}
	p.account(len(batch), p.pushed, false, err)
}

// loseLocked counts lost messages, the first of which was pushed at that time.
func (p *publisher) loseLocked(lost int, pushed time.Time) {
	if p.lost == 0 && lost > 0 {
		p.since = pushed
	}
	p.lost += lost
	p.lostAll += uint64(lost)
}

// account calls failed when sending loses a message and none was lost before, not even by
// push, whose caller has the error. It calls healed at the next success. pushed is when the
// first message of the batch was.
func (p *publisher) account(lost int, pushed time.Time, sent bool, err error) {
	p.mu.Lock()
	before := p.lost
	p.loseLocked(lost, pushed)
	since := p.since
	healed := sent && lost == 0 && p.lost > 0
	if healed {
		p.lost = 0
	}
	p.mu.Unlock()
	switch {
	case lost > 0 && before == 0:
		p.failed(lost, err)
	case healed:
		p.healed(before, since)
	}
}

// flush waits until all messages have been sent, or ctx ends.
func (p *publisher) flush(ctx context.Context) error {
	p.mu.Lock()
	if !p.running {
		p.mu.Unlock()
		return nil
	}
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	idle := p.idle
	p.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(writeTimeout + time.Second): // the connection is dead
		return errNotConnected
	}
}
