// The outbox: domain events in the order in which they happened.

package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/rodando/realtime"
)

// outbox stands between the store and the bus, as an outbox table does beside a
// database: what changes a row adds the event within the same lock, or
// transaction, so that events are in the order of the changes, and publishing,
// which may block, happens later and elsewhere.
//
// outbox.mu guards queue; it is taken while the store's lock is held, never
// the other way round.
type outbox struct {
	log *slog.Logger

	mu    sync.Mutex
	queue []realtime.DomainEvent
	wake  chan struct{} // holds one when there may be something
}

func newOutbox(log *slog.Logger) *outbox {
	return &outbox{log: log, wake: make(chan struct{}, 1)}
}

// add never blocks.
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
			if err := publish(context.WithoutCancel(ctx), e); err != nil {
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
