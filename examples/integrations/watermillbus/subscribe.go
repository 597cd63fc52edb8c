// Subscriptions: registering handlers, reading the topics, and calling the handlers for one
// message after the other of each key.

package watermillbus

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/rodando/realtime"
)

// subscription is a handler. Bus.mu guards ended.
type subscription struct {
	handler func(ctx context.Context, e realtime.Envelope) error
	after   uint64 // it receives what this Bus published later; 0: everything
	ended   bool
	running sync.WaitGroup // calls of handler; grows only while not ended, so that cancel can wait for it
}

// reader reads the topics while the Bus has a subscription.
type reader struct {
	leaving chan struct{} // closed with the last subscription
	ready   chan struct{} // closed when the topics are subscribed to, or err says why not
	err     error
}

// keyQueue has the messages of a key that wait. Bus.mu guards it.
type keyQueue struct{ waiting []received }

// received is a message and what to do when it was handled.
type received struct {
	*message.Message

	done func()
}

// Subscribe implements realtime.EventBus. The handlers of a Bus share one subscription of its
// consumer group: each of them is called, one after the other, for each event that this process
// receives. Give a handler that may be slow a Bus and a consumer group of its own.
//
// The first handler also receives the events that the Pub/Sub has kept for the consumer group. A
// further one receives what is published after its Subscribe, and possibly what another process
// has published shortly before.
//
// An event that this process has handled, and that comes again because the Pub/Sub could not store that,
// is not handled again: the last 4,096 are remembered.
//
// The ctx of a call ends when the Pub/Sub gives the message up. If the handler returns an error
// or panics, the event is delivered again, to all handlers. It must not change e.Data. cancel
// waits for running calls of the handler, so a handler that ends its own subscription must do it
// with `go cancel()`.
func (b *Bus) Subscribe(handler func(ctx context.Context, e realtime.Envelope) error) (cancel func(), err error) {
	if handler == nil {
		return nil, errors.New("watermillbus: Subscribe: the handler is nil")
	}
	if b.cfg.Subscriber == nil {
		return nil, errors.New("watermillbus: Subscribe: Config.Subscriber is nil")
	}
	s := &subscription{handler: handler}
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, realtime.ErrClosed
	}
	r, first := b.reader, b.reader == nil
	if first {
		r = &reader{leaving: make(chan struct{}), ready: make(chan struct{})}
		b.reader = r
	} else {
		s.after = b.published
	}
	b.subscriptions = append(b.subscriptions, s)
	b.running.Add(1) // for start, or for this call
	b.mu.Unlock()
	if first {
		b.start(r)
	}
	<-r.ready
	b.running.Done()
	if r.err != nil {
		b.unsubscribe(s)
		return nil, fmt.Errorf("watermillbus: %w", r.err)
	}
	return func() { b.unsubscribe(s) }, nil
}

func (b *Bus) unsubscribe(s *subscription) {
	b.mu.Lock()
	s.ended = true
	b.subscriptions = slices.DeleteFunc(b.subscriptions, func(other *subscription) bool { return other == s })
	if len(b.subscriptions) == 0 {
		b.leaveLocked()
	}
	b.mu.Unlock()
	s.running.Wait()
}

// leaveLocked ends reading.
func (b *Bus) leaveLocked() {
	if b.reader != nil {
		close(b.reader.leaving)
		b.reader = nil
	}
}

// start subscribes to the topics.
func (b *Bus) start(r *reader) {
	defer close(r.ready)
	for partition := range b.cfg.Partitions {
		ctx, cancel := context.WithCancel(b.ctx)
		messages, err := b.cfg.Subscriber.Subscribe(ctx, b.topic(partition))
		if err != nil {
			cancel()
			r.err = fmt.Errorf("subscribing to %s: %w", b.topic(partition), err)
			return
		}
		b.running.Add(1)
		go b.read(r, messages, cancel)
	}
}

// read distributes the messages of a topic to the queues of their keys. When the reader leaves,
// read waits until they are handled, and ends the subscription to the topic with cancel.
func (b *Bus) read(r *reader, messages <-chan *message.Message, cancel context.CancelFunc) {
	defer b.running.Done()
	slots := make(chan struct{}, b.cfg.MaxHandling)
	b.distribute(r, messages, slots)
	for range cap(slots) {
		slots <- struct{}{}
	}
	cancel()
	for msg := range messages { // the Pub/Sub closes the channel
		msg.Nack()
	}
}

func (b *Bus) distribute(r *reader, messages <-chan *message.Message, slots chan struct{}) {
	for {
		select {
		case slots <- struct{}{}:
		case <-r.leaving:
			return
		}
		select {
		case msg, ok := <-messages:
			if !ok {
				<-slots
				return
			}
			b.add(received{msg, func() { <-slots }})
		case <-r.leaving:
			<-slots
			return
		}
	}
}

// add queues a message. A key has a goroutine while it has messages.
func (b *Bus) add(msg received) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := Key(msg.Message)
	if q := b.queues[key]; q != nil {
		q.waiting = append(q.waiting, msg)
		return
	}
	q := &keyQueue{waiting: []received{msg}}
	b.queues[key] = q
	b.running.Add(1)
	go b.run(key, q)
}

// run handles the messages of a key until none waits.
func (b *Bus) run(key string, q *keyQueue) {
	defer b.running.Done()
	for {
		b.mu.Lock()
		if len(q.waiting) == 0 {
			delete(b.queues, key)
			b.mu.Unlock()
			return
		}
		msg := q.waiting[0]
		q.waiting = q.waiting[1:]
		b.mu.Unlock()
		if b.handle(msg.Message) {
			msg.Ack()
		} else {
			msg.Nack()
		}
		msg.done()
	}
}

// handle calls the handlers for a message, and reports whether it need not be delivered again.
func (b *Bus) handle(msg *message.Message) bool {
	if msg.Context().Err() != nil { // the Pub/Sub has given it up, and delivers it again
		return false
	}
	e, err := decode(msg)
	if err != nil {
		return b.poison(msg, e, err)
	}
	if b.knows(e.ID) { // the Pub/Sub could not store that it was handled
		return true
	}
	handled := false
	for _, s := range b.recipients(msg) {
		called, failure := b.call(msg.Context(), s, e)
		handled, err = handled || called, errors.Join(err, failure)
	}
	switch {
	case !handled:
		return false
	case err == nil:
		b.remember(e.ID)
		return true
	case b.failed(e.ID) < b.cfg.Attempts:
		b.cfg.Logger.Warn("watermillbus: event is delivered again", "event", e.Name, "id", e.ID, "error", err)
		return false
	default:
		return b.poison(msg, e, err)
	}
}

// recipients returns the subscriptions that receive a message.
func (b *Bus) recipients(msg *message.Message) []*subscription {
	n := numberOf(msg, b.id)
	b.mu.Lock()
	defer b.mu.Unlock()
	to := slices.DeleteFunc(slices.Clone(b.subscriptions), func(s *subscription) bool { return n > 0 && n <= s.after })
	if len(to) == 0 { // the subscription that it was for has ended: better too many than none
		to = slices.Clone(b.subscriptions)
	}
	return to
}

// call calls a handler, unless its subscription has ended, and reports whether it did. A panic is
// an error.
func (b *Bus) call(ctx context.Context, s *subscription, e realtime.Envelope) (called bool, err error) {
	b.mu.Lock()
	ended := s.ended
	if !ended {
		s.running.Add(1)
	}
	b.mu.Unlock()
	if ended {
		return false, nil
	}
	defer s.running.Done()
	defer func() {
		if p := recover(); p != nil {
			called, err = true, fmt.Errorf("the handler panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return true, s.handler(ctx, e)
}

// maxFailures is how many events with failures are remembered.
const maxFailures = 4096

// failed remembers that a handler has failed for an event, and returns how often one has.
func (b *Bus) failed(id string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.failures) >= maxFailures { // of events that other processes have handled since
		clear(b.failures)
	}
	b.failures[id]++
	return b.failures[id]
}

// maxHandled is how many events that were handled are remembered.
const maxHandled = 4096

// remember records that an event was handled.
func (b *Bus) remember(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.failures, id)
	if id == "" || b.handled[id] {
		return
	}
	if len(b.handledOrder) == maxHandled {
		delete(b.handled, b.handledOrder[0])
		b.handledOrder = b.handledOrder[1:]
	}
	b.handled[id] = true
	b.handledOrder = append(b.handledOrder, id)
}

// knows reports whether an event was handled in this process.
func (b *Bus) knows(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.handled[id]
}

func (b *Bus) forget(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.failures, id)
}

// poison passes a message to Config.Poison, and reports whether it need not be delivered again.
func (b *Bus) poison(msg *message.Message, e realtime.Envelope, reason error) bool {
	b.cfg.Logger.Error("watermillbus: event is not delivered again", "event", e.Name, "id", e.ID, "error", reason)
	if b.cfg.Poison != nil {
		if err := b.cfg.Poison(msg, reason); err != nil {
			b.cfg.Logger.Error("watermillbus: Config.Poison failed", "event", e.Name, "id", e.ID, "error", err)
			return false
		}
	}
	b.forget(e.ID)
	return true
}
