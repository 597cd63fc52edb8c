// MemoryBus: the EventBus inside one process.

package realtime

import (
	"context"
	"fmt"
	"hash/maphash"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
)

// MemoryBus is an EventBus for a host whose services and server share a
// process; what has not been delivered when it ends is lost.
//
// Each subscription has 64 queues, each with a part of the keys, and 16 for the keys
// of AccessKey: in the order of publishing within a queue, and so for each key,
// concurrently across queues. A slow handler holds up the keys that share its queue,
// but no other subscriber, and no ban. A queue has a goroutine only while it has
// work.
//
// All methods may be called concurrently.
type MemoryBus struct {
	// OnError is called for every event that a handler fails on, by an error or by a
	// panic, which is recovered. The event is not retried, and the other subscribers still
	// get it. Set OnError before the first use. It is called like a handler, and must not
	// panic. Defaults to none.
	OnError func(e Envelope, err error)

	seed maphash.Seed
	// slots hold one for each event under way, but for those published by handlers and
	// for bans; access is likewise for the keys of AccessKey.
	slots, access chan struct{}

	mu            sync.Mutex // guards the rest, every subscription's ended and queues, and every busEvent's left
	subscriptions []*subscription
	pending       int           // events taken and not handled by all
	closing       chan struct{} // closed by Close
	drained       chan struct{} // closed when nothing is pending after that
}

var _ EventBus = (*MemoryBus)(nil)

// NewMemoryBus returns a MemoryBus without subscribers, that holds up to 65536
// events, as many of the keys of AccessKey besides, and any number of bans. It costs nothing while idle, and need not be closed.
func NewMemoryBus() *MemoryBus {
	return &MemoryBus{
		seed:    maphash.MakeSeed(),
		slots:   make(chan struct{}, maxPendingEvents),
		access:  make(chan struct{}, maxPendingEvents),
		closing: make(chan struct{}),
		drained: make(chan struct{}),
	}
}

// Publish implements EventBus: it queues the event and returns. e.Data belongs
// to the bus and its handlers from then on, and nobody may change it.
//
// When the bus is full Publish waits for room, within ctx, unless ctx is the
// one that a handler was called with, or derived from it: were handlers to wait
// for each other, the bus would stand still. SessionRevoked and UserAccessChanged
// never wait for room: a subscriber that hangs holds up no ban. After Close it
// returns ErrClosed.
//
// Handlers get the values of ctx, but neither its deadline nor its cancellation.
func (b *MemoryBus) Publish(ctx context.Context, e Envelope) error {
	if err := ctx.Err(); err != nil {
		return errorf("publishing %s: %w", e.Name, err)
	}
	ev := &busEvent{Envelope: e, ctx: ctx}
	if ctx.Done() != nil { // skipped for events published by handlers, whose ctx is already detached
		ev.ctx = context.WithoutCancel(ctx)
	}
	if ctx.Value(handlerOf{b}) == nil {
		ev.ctx = context.WithValue(ev.ctx, handlerOf{b}, true)
		if ev.slots = b.slotsOf(e); ev.slots != nil {
			select {
			case ev.slots <- struct{}{}:
			default:
				select {
				case ev.slots <- struct{}{}:
				case <-b.closing:
					return ErrClosed
				case <-ctx.Done():
					return errorf("publishing %s: %w", e.Name, ctx.Err())
				}
			}
		}
	}
	if !b.enqueue(ev) {
		b.release(ev)
		return ErrClosed
	}
	return nil
}

// Subscribe implements EventBus. After Close it returns ErrClosed.
//
// Once cancel has returned the handler is not called again, not for events that
// were published before either. It waits for running calls of the handler, so a
// handler that ends its own subscription must do it with `go cancel()`.
func (b *MemoryBus) Subscribe(handler func(ctx context.Context, e Envelope) error) (cancel func(), err error) {
	return b.subscribe(&subscription{handler: handler})
}

func (b *MemoryBus) subscribe(s *subscription) (cancel func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isClosing() {
		return nil, ErrClosed
	}
	b.subscriptions = append(b.subscriptions, s)
	return func() {
		b.mu.Lock()
		s.ended = true
		b.subscriptions = slices.DeleteFunc(b.subscriptions, func(other *subscription) bool { return other == s })
		b.mu.Unlock()
		s.running.Wait()
	}, nil
}

// Close makes Publish and Subscribe return ErrClosed and waits, within ctx,
// until everything that was published has been handled. Handlers go on when ctx
// ends; another call waits for them again. Not to be called from a handler.
func (b *MemoryBus) Close(ctx context.Context) error {
	b.mu.Lock()
	if !b.isClosing() {
		close(b.closing)
		if b.pending == 0 {
			close(b.drained)
		}
	}
	b.mu.Unlock()
	select {
	case <-b.drained:
		return nil
	default:
	}
	select {
	case <-b.drained:
		return nil
	case <-ctx.Done():
		return errorf("event bus not drained: %w", ctx.Err())
	}
}

const maxPendingEvents = 65536

// handlerOf is the key that marks the contexts of a bus's handlers.
type handlerOf struct{ bus *MemoryBus }

const (
	busQueues    = 64
	accessQueues = 16
)

type subscription struct {
	handler func(ctx context.Context, e Envelope) error
	server  bool // takes an event as a server has published it, not encoded
	ended   bool
	queues  [busQueues + accessQueues]busQueue
	running sync.WaitGroup // grows only while not ended, so that cancel can wait for it
}

type busEvent struct {
	Envelope
	ctx  context.Context
	left int // subscribers that have not handled it

	slots chan struct{} // in which it holds one; nil: in none

	encoding sync.Once
	encoded  Envelope // once encoding is done, and err
	err      error
}

// withData returns the envelope for a subscriber that reads its Data.
func (ev *busEvent) withData() (Envelope, error) {
	ev.encoding.Do(func() { ev.encoded, ev.err = ev.Envelope.encoded() })
	return ev.encoded, ev.err
}

type busQueue struct {
	events []*busEvent
	active bool // has a goroutine
}

func (b *MemoryBus) isClosing() bool {
	select {
	case <-b.closing:
		return true
	default:
		return false
	}
}

// queueOf returns the number of the queue that a key is in.
func (b *MemoryBus) queueOf(key string) uint64 {
	n := maphash.String(b.seed, key)
	if strings.HasPrefix(key, accessPrefix) {
		return busQueues + n%accessQueues
	}
	return n % busQueues
}

// slotsOf returns the slots of which an event takes one, or nil for a ban.
func (b *MemoryBus) slotsOf(e Envelope) chan struct{} {
	switch {
	case e.Name == (SessionRevoked{}).EventName(), e.Name == (UserAccessChanged{}).EventName():
		return nil
	case strings.HasPrefix(e.Key, accessPrefix):
		return b.access
	}
	return b.slots
}

// enqueue reports false when the bus is closed.
func (b *MemoryBus) enqueue(ev *busEvent) bool {
	n := b.queueOf(ev.Key)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isClosing() {
		return false
	}
	b.pending++
	ev.left = len(b.subscriptions)
	if ev.left == 0 {
		b.handledLocked(ev)
	}
	for _, s := range b.subscriptions {
		q := &s.queues[n]
		q.events = append(q.events, ev)
		if !q.active {
			q.active = true
			go b.run(s, q)
		}
	}
	return true
}

// run handles the events of a queue until there are none.
func (b *MemoryBus) run(s *subscription, q *busQueue) {
	empty := false
	defer func() {
		if !empty { // a handler ended this goroutine, as t.FailNow does
			go b.run(s, q)
		}
	}()
	for {
		ev, ok := b.next(q)
		if !ok {
			empty = true
			return
		}
		b.deliver(s, ev)
	}
}

func (b *MemoryBus) next(q *busQueue) (ev *busEvent, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(q.events) == 0 {
		*q = busQueue{}
		return nil, false
	}
	ev = q.events[0]
	q.events[0] = nil
	q.events = q.events[1:]
	return ev, true
}

func (b *MemoryBus) deliver(s *subscription, ev *busEvent) {
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if ev.left--; ev.left == 0 {
			b.handledLocked(ev)
		}
	}()
	if err := b.call(s, ev); err != nil && b.OnError != nil {
		e, _ := ev.withData()
		b.OnError(e, err)
	}
}

// handledLocked releases an event that every subscriber has handled.
func (b *MemoryBus) handledLocked(ev *busEvent) {
	b.release(ev)
	if b.pending--; b.pending == 0 && b.isClosing() {
		close(b.drained)
	}
}

// call runs one subscriber's handler, unless the subscription has ended.
func (b *MemoryBus) call(s *subscription, ev *busEvent) (err error) {
	b.mu.Lock()
	ended := s.ended
	if !ended {
		s.running.Add(1)
	}
	b.mu.Unlock()
	if ended {
		return nil
	}
	defer s.running.Done()
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("handler of %s panicked: %v\n%s", ev.Name, r, debug.Stack())
		}
	}()
	if s.server {
		return s.handler(ev.ctx, ev.Envelope)
	}
	e, err := ev.withData()
	if err != nil {
		return err
	}
	return s.handler(ev.ctx, e)
}

func (b *MemoryBus) release(ev *busEvent) {
	if ev.slots != nil {
		<-ev.slots
	}
}
