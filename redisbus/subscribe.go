// Subscriptions: registering handlers, and which of them an entry is for.

package redisbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/hostcall"
)

// subscription is a handler of this node.
type subscription struct {
	handler func(ctx context.Context, e realtime.Envelope) error
	after   []entryID // by partition: the last entry before Subscribe; nil: it receives all entries
	ended   bool
	running sync.WaitGroup // calls that are not abandoned; grows only while not ended, so that cancel can wait for it
	calls   *hostcall.Kind // bounds the calls; a source is the index of a partition
}

// errNobody says that an event was not handled, because every subscription has ended.
var errNobody = errors.New("there is no subscription any more")

// Subscribe implements realtime.EventBus. While a Bus has a subscription, its node is a member
// of its group: it owns partitions, and calls every handler with each of their events. The
// first handler of a Bus receives all events since the group's first Subscribe on any node, even
// those that were published while no node was running. A further handler on the same Bus
// receives the events that are published after its Subscribe.
//
// The bus calls handler concurrently for events of different partitions. If handler returns an
// error or panics, the bus calls it again for the same event, up to Options.Attempts times in
// all, while the other events of the partition wait. Its ctx ends when the node loses the
// partition, when the ctx of Close ends, and after Options.HandlerTimeout; a call that does not
// return then is abandoned. It must not change e.Data.
//
// The next event of a partition waits for all handlers of the Bus. A handler that may be slow
// delays no other one if it has a Bus with an Options.Group of its own.
//
// An event is handled when the handlers that the Bus then has have returned nil. So one that is the only
// one for a moment, as beside a server before realtime.New, takes events from the other. Subscribe it after
// New, or give it a Bus with an Options.Group of its own.
//
// Subscribe blocks while it connects to Redis, a few seconds at most. After Close it returns
// realtime.ErrClosed. cancel waits for running calls of the handler, but not for abandoned ones,
// so a handler that ends its own subscription must do it with `go cancel()`.
func (b *Bus) Subscribe(handler func(ctx context.Context, e realtime.Envelope) error) (cancel func(), err error) {
	if handler == nil {
		return nil, errors.New("redisbus: Subscribe: the handler is nil")
	}
	asked := time.Now()
	ends, err := b.enter(b.handling, "$")
	switch {
	case err == nil:
	case errors.Is(err, realtime.ErrClosed):
		return nil, err
	case errors.Is(err, errPartitions) || !b.opts.StartAlone:
		return nil, fmt.Errorf("redisbus: %w", err)
	}
	if err != nil {
		b.log.Error("redisbus: starting alone", "error", err)
	}
	s := &subscription{handler: handler, calls: hostcall.NewKind(hostcall.Limits{
		Timeout: b.opts.HandlerTimeout + b.timing.grace,
		Running: len(b.keys.all), Abandoned: len(b.keys.all), PerSource: 1,
	})}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing != nil {
		return nil, realtime.ErrClosed
	}
	b.subscriptions = append(b.subscriptions, s)
	if b.member != nil {
		s.after = ends
	} else {
		b.member = newMember(b, ends, asked)
		b.running.Go(b.member.run)
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

// Leave implements realtime.LeavingBus: the node leaves its group, although it has subscriptions. Their handlers
// get no more events, unless somebody subscribes again. This holds for all subscriptions of the Bus: a second server that uses it,
// in the same process, gets none either, so give each server a Bus of its own.
//
// Leave returns nil when no handler runs, but for abandoned ones (Options.HandlerTimeout), and the functions of BeforeHandover and BeforeTakeover
// have returned, also if that was begun by an earlier call. It does not wait until Redis has confirmed it. If ctx ends first, it
// returns an error, and the node leaves all the same. It must not be called from a handler, which it would wait for.
func (b *Bus) Leave(ctx context.Context) error {
	b.mu.Lock()
	b.leaveLocked()
	left := slices.Clone(b.left)
	b.mu.Unlock()
	for _, m := range left {
		select {
		case <-m.quiet:
		case <-ctx.Done():
			if !m.isQuiet() {
				return fmt.Errorf("redisbus: events are still handled, or handed over: %w", ctx.Err())
			}
		}
	}
	return nil
}

// leaveLocked makes the node leave its group.
func (b *Bus) leaveLocked() {
	b.left = slices.DeleteFunc(b.left, (*member).isQuiet)
	if b.member != nil {
		b.member.leave()
		b.left = append(b.left, b.member)
		b.member = nil
	}
}

// enter creates the streams and the group where they do not exist, at a position of the script,
// and returns the id of each partition's last entry.
func (b *Bus) enter(ctx context.Context, position ...string) (ends []entryID, err error) {
	ctx, cancel := within(ctx, 2*b.timing.call)
	defer cancel()
	client, err := b.connections.get(ctx)
	if err != nil {
		return nil, err
	}
	ends = make([]entryID, len(b.keys.all))
	errs := make([]error, len(b.keys.all))
	var calls sync.WaitGroup
	for i, p := range b.keys.all {
		calls.Go(func() {
			last, err := enterScript.Exec(ctx, client, []string{p.stream}, append([]string{b.opts.Group}, position...)).ToString()
			if err == nil {
				ends[i], err = parseID(last)
			}
			errs[i] = err
		})
	}
	calls.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return ends, nil
}

// recipients returns the subscriptions that receive an entry, or errNobody if the node has no
// subscription.
func (b *Bus) recipients(m *member, p *partition, id entryID) (to []*subscription, err error) {
	waited := m.waited(p, id)
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.subscriptions) == 0 {
		return nil, errNobody
	}
	for _, s := range b.subscriptions {
		if waited || s.after == nil || id.after(s.after[p.index]) {
			to = append(to, s)
		}
	}
	return to, nil
}
