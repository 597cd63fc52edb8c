// The outbox: domain events that wait to be published, in the order of the changes.

package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/rodando/realtime"
)

// outbox is what an outbox table is in a database. A method that changes a row adds the
// event under the same lock (there: in the same transaction), so events are in the order
// of the changes. They are published later on another goroutine, because that may block.
type outbox struct {
	log *slog.Logger

	mu    sync.Mutex // guards queue; taken while the store's lock is held, never the other way round
	queue []realtime.DomainEvent
	wake  chan struct{} // holds one element when queue may not be empty
}

func newOutbox(log *slog.Logger) *outbox {
	return &outbox{log: log, wake: make(chan struct{}, 1)}
}

// add appends events. It never blocks.
func (o *outbox) add(events ...realtime.DomainEvent) {
	o.mu.Lock()
	o.queue = append(o.queue, events...)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// run publishes one event after the other until ctx ends and the outbox is
// empty.
func (o *outbox) run(ctx context.Context, publish func(context.Context, realtime.DomainEvent) error) {
	for ended := false; !ended; {
		select {
		case <-o.wake:
		case <-ctx.Done():
			ended = true
		}
		for _, e := range o.take() {
			// When the server has ended, nobody is connected who would receive it.
			if err := publish(context.WithoutCancel(ctx), e); err != nil && !errors.Is(err, realtime.ErrClosed) {
				o.log.Error("domain event not published", "event", e.EventName(), "error", err)
			}
		}
	}
}

func (o *outbox) take() []realtime.DomainEvent {
	o.mu.Lock()
	defer o.mu.Unlock()
	events := o.queue
	o.queue = nil
	return events
}
