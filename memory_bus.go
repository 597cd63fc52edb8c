// MemoryBus: an EventBus within one process. It calls the handlers of subscribers and OnError.

package realtime

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/rodando/realtime/internal/hostcall"
)

// MemoryBus is an EventBus for a host whose services and server share a process. Events that
// are not handled when the process ends are lost.
//
// Each subscription has 80 queues: 16 for events whose key AccessKey returned, and 64 for all
// other events. Events of one key are in the same queue. A queue handles its events one at a
// time, in the order of publishing; different queues run concurrently. So a slow handler
// delays the later events of its queue, but no other subscriber, and a slow handler of other
// events does not delay revocations. A queue has a goroutine only while it has events.
//
// NewMemoryBus returns one; the zero value is not usable. All methods may be called
// concurrently.
type MemoryBus struct {
	// OnError is called for each event for which a handler returns an error or panics. The
	// event is not retried; the other subscribers still receive it. Set OnError before the
	// first use of the bus. It is called concurrently; a panic in it is dropped. Defaults to
	// none.
	OnError func(e Envelope, err error)

	seed maphash.Seed
	// slots bounds the pending events: each holds a slot in it. access does the same for
	// events whose key AccessKey returned. Revocations and events that handlers publish hold
	// no slot.
	slots, access chan struct{}
	closing       chan struct{} // closed by Close
	drained       chan struct{} // closed when no event is pending after Close

	mu            sync.Mutex // guards the fields below, ended and queues of every subscription, and left of every busEvent
	subscriptions []*subscription
	pending       int // events that some subscriber has not handled yet
}

var _ EventBus = (*MemoryBus)(nil)

// NewMemoryBus returns a MemoryBus without subscribers. It holds up to 65,536 pending events,
// and as many more whose key AccessKey returned; revocations and events that handlers publish
// are not counted. It costs nothing while idle and need not be closed.
func NewMemoryBus() *MemoryBus {
	return &MemoryBus{
		seed:    maphash.MakeSeed(),
		slots:   make(chan struct{}, maxPendingEvents),
		access:  make(chan struct{}, maxPendingEvents),
		closing: make(chan struct{}),
		drained: make(chan struct{}),
	}
}

// Publish implements EventBus: it queues the event and returns. Do not change e.Data after
// that. It returns an error if ctx has ended.
//
// If the bus is full, Publish waits for space, within ctx. It does not wait if ctx is, or is
// derived from, the ctx of a handler of this bus: handlers that wait for each other would
// block the bus forever. SessionRevoked and UserAccessChanged do not wait either, so a
// subscriber that hangs does not delay a revocation. After Close, Publish returns ErrClosed.
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

// Subscribe implements EventBus. It returns an error if handler is nil, and ErrClosed after
// Close.
//
// cancel ends the subscription and waits for running calls of the handler. After it has
// returned, the handler is not called again, not even for events that were published before.
// A handler that ends its own subscription must call `go cancel()`.
func (b *MemoryBus) Subscribe(handler func(ctx context.Context, e Envelope) error) (cancel func(), err error) {
	if handler == nil {
		return nil, errors.New("realtime: Subscribe: the handler is nil")
	}
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

// Close makes Publish and Subscribe return ErrClosed and waits, within ctx, until all
// published events have been handled. If ctx ends first, handling continues, and another call
// of Close waits for it again. Do not call Close from a handler.
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

// handlerOf is the context key that marks the ctx of the handlers of a bus.
type handlerOf struct{ bus *MemoryBus }

const (
	maxPendingEvents = 65536

	busQueues    = 64
	accessQueues = 16
)

// subscription is one handler and its queues. MemoryBus.mu guards ended and queues.
type subscription struct {
	handler func(ctx context.Context, e Envelope) error
	server  bool // the handler accepts an Envelope with event in place of Data
	ended   bool
	queues  [busQueues + accessQueues]busQueue
	running sync.WaitGroup // counts calls of handler; grows only while ended is false
}

// busEvent is a published event, which all subscriptions share. MemoryBus.mu guards left.
type busEvent struct {
	Envelope
	passed chan<- struct{} // of flush, which is no event: receives in its turn
	ctx    context.Context
	left   int           // the number of subscribers that have not handled it yet
	slots  chan struct{} // the channel in which it holds a slot; nil: none

	encoding sync.Once
	encoded  Envelope // set by encoding, as is err
	err      error
}

var errNotEncoded = errors.New("the event's MarshalJSON panicked")

// withData returns the envelope with its Data, for a handler of the host's. It encodes the
// event once for all of them.
func (ev *busEvent) withData() (Envelope, error) {
	ev.encoding.Do(func() {
		ev.encoded, ev.err = ev.Envelope, errNotEncoded // remains if encoded panics
		ev.encoded, ev.err = ev.Envelope.encoded()
	})
	return ev.encoded, ev.err
}

// busQueue is a queue of a subscription. MemoryBus.mu guards it.
type busQueue struct {
	events []*busEvent
	active bool // a goroutine handles its events
}

// isClosing reports whether Close was called.
func (b *MemoryBus) isClosing() bool {
	select {
	case <-b.closing:
		return true
	default:
		return false
	}
}

// queueOf returns the index of the queue of a key.
func (b *MemoryBus) queueOf(key string) uint64 {
	n := maphash.String(b.seed, key)
	if strings.HasPrefix(key, accessPrefix) {
		return busQueues + n%accessQueues
	}
	return n % busQueues
}

// slotsOf returns the channel in which an event holds a slot, or nil for a revocation.
func (b *MemoryBus) slotsOf(e Envelope) chan struct{} {
	switch {
	case e.Name == (SessionRevoked{}).EventName(), e.Name == (UserAccessChanged{}).EventName():
		return nil
	case strings.HasPrefix(e.Key, accessPrefix):
		return b.access
	}
	return b.slots
}

// enqueue adds an event to a queue of each subscription. It reports false if the bus is
// closed.
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

// flush waits, within ctx, until a subscription has handled the events that were published before.
func (b *MemoryBus) flush(ctx context.Context, s *subscription) error {
	passed, n := make(chan struct{}, len(s.queues)), 0
	b.mu.Lock()
	for i := range s.queues {
		if q := &s.queues[i]; q.active {
			q.events = append(q.events, &busEvent{passed: passed})
			n++
		}
	}
	b.mu.Unlock()
	for range n {
		select {
		case <-passed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// run handles the events of a queue, and ends when the queue is empty.
func (b *MemoryBus) run(s *subscription, q *busQueue) {
	empty := false
	defer func() {
		if !empty { // a handler called runtime.Goexit, as t.FailNow does
			go b.run(s, q)
		}
	}()
	for {
		ev, ok := b.next(q)
		switch {
		case !ok:
			empty = true
			return
		case ev.passed != nil:
			ev.passed <- struct{}{} // has space
		default:
			b.deliver(s, ev)
		}
	}
}

// next takes the next event from a queue.
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

// deliver calls one subscriber's handler, and OnError if it fails.
func (b *MemoryBus) deliver(s *subscription, ev *busEvent) {
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if ev.left--; ev.left == 0 {
			b.handledLocked(ev)
		}
	}()
	if err := b.call(s, ev); err != nil && b.OnError != nil {
		defer func() { _ = recover() }() // a panic of OnError itself has no caller to report it to
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

// call calls one subscriber's handler, unless the subscription has ended. It returns a panic as
// an error.
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
			err = fmt.Errorf("handler of %s panicked: %s\n%s", ev.Name, hostcall.PanicText(r), debug.Stack())
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

// release frees the event's slot.
func (b *MemoryBus) release(ev *busEvent) {
	if ev.slots != nil {
		<-ev.slots
	}
}
