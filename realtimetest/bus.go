// An event bus that records what is published.

package realtimetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/rodando/realtime"
)

// Bus is an in-process EventBus that records what is published. Each key has a queue of
// its own, so that a slow key delays no other. A queue has a goroutine only while it is
// not empty, so a Bus needs no Close. A handler's error is recorded, and the event is
// not delivered again; a panic of a handler ends the test process. Fail and Block apply to
// Publish. All methods may be called concurrently.
//
// It shares no code with realtime's MemoryBus. Both pass the same suite, so a mistake in one
// shows. A Bus needs neither the bounds nor the fixed number of queues that make up most of
// MemoryBus.
type Bus struct {
	Faults

	lock      sync.Mutex // guards the fields below, and ended of each subscription
	published []realtime.Envelope
	subs      []*subscription
	queues    map[string][]delivery // of keys with a goroutine
	pending   int
	idle      chan struct{} // closed when nothing is pending; nil while nobody waits
	errs      []error
}

type subscription struct {
	handle  func(ctx context.Context, e realtime.Envelope) error
	ended   bool
	running sync.WaitGroup
}

type delivery struct {
	ctx   context.Context
	event realtime.Envelope
	subs  []*subscription
}

// NewBus returns a Bus without subscribers.
func NewBus() *Bus { return &Bus{queues: map[string][]delivery{}} }

// Publish implements realtime.EventBus. It copies the event's data.
func (b *Bus) Publish(ctx context.Context, e realtime.Envelope) error {
	if err := b.pass(ctx); err != nil {
		return err
	}
	e.Data = bytes.Clone(e.Data)
	b.lock.Lock()
	defer b.lock.Unlock()
	b.published = append(b.published, e)
	b.pending++
	queue, running := b.queues[e.Key]
	b.queues[e.Key] = append(queue, delivery{context.WithoutCancel(ctx), e, b.subs})
	if !running {
		go b.run(e.Key)
	}
	return nil
}

// Subscribe implements realtime.EventBus. cancel waits for running handlers, so a
// handler that ends its own subscription must do so with `go cancel()`.
func (b *Bus) Subscribe(handler func(ctx context.Context, e realtime.Envelope) error) (cancel func(), err error) {
	if handler == nil {
		return nil, errors.New("realtimetest: Subscribe: the handler is nil")
	}
	s := &subscription{handle: handler}
	b.lock.Lock()
	defer b.lock.Unlock()
	b.subs = append(slices.Clip(b.subs), s)
	return func() {
		b.lock.Lock()
		s.ended = true
		b.subs = slices.DeleteFunc(slices.Clone(b.subs), func(o *subscription) bool { return o == s })
		b.lock.Unlock()
		s.running.Wait()
	}, nil
}

// Published returns the events published so far, in order.
func (b *Bus) Published() []realtime.Envelope {
	b.lock.Lock()
	defer b.lock.Unlock()
	return slices.Clone(b.published)
}

// Err returns an error with the number of handlers that failed and the first of their
// errors, or nil if none failed.
func (b *Bus) Err() error {
	b.lock.Lock()
	defer b.lock.Unlock()
	if len(b.errs) == 0 {
		return nil
	}
	return fmt.Errorf("%d handlers failed, first: %w", len(b.errs), b.errs[0])
}

// Wait waits until every published event has been handled. It returns an error that
// wraps ctx's if ctx ends first.
func (b *Bus) Wait(ctx context.Context) error {
	b.lock.Lock()
	if b.pending == 0 {
		b.lock.Unlock()
		return nil
	}
	if b.idle == nil {
		b.idle = make(chan struct{})
	}
	idle := b.idle
	b.lock.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("events are still being handled: %w", ctx.Err())
	}
}

// run delivers the events of a key until there are none.
func (b *Bus) run(key string) {
	for {
		b.lock.Lock()
		if len(b.queues[key]) == 0 {
			delete(b.queues, key)
			b.lock.Unlock()
			return
		}
		d := b.queues[key][0]
		b.queues[key] = b.queues[key][1:]
		b.lock.Unlock()
		for _, s := range d.subs {
			b.call(s, d)
		}
		b.lock.Lock()
		if b.pending--; b.pending == 0 && b.idle != nil {
			close(b.idle)
			b.idle = nil
		}
		b.lock.Unlock()
	}
}

func (b *Bus) call(s *subscription, d delivery) {
	b.lock.Lock()
	ended := s.ended
	if !ended {
		s.running.Add(1)
	}
	b.lock.Unlock()
	if ended {
		return
	}
	defer s.running.Done()
	e := d.event
	e.Data = bytes.Clone(e.Data) // each subscriber has its own copy
	if err := s.handle(d.ctx, e); err != nil {
		b.lock.Lock()
		defer b.lock.Unlock()
		b.errs = append(b.errs, fmt.Errorf("%s: %w", e.Name, err))
	}
}
