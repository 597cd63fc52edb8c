// Handing over and taking over: what is done when a partition's last event was handled, before another
// node gets the next one, and on that node before it handles it.

package redisbus

import (
	"context"
	"slices"
	"sync"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/hostcall"
)

var (
	_ realtime.HandoverBus = (*Bus)(nil)
	_ realtime.LeavingBus  = (*Bus)(nil)
)

// handover is a function of BeforeHandover or BeforeTakeover.
type handover struct {
	f     func(ctx context.Context)
	calls *hostcall.Kind // bounds the calls; a source is the index of a partition
}

// handovers are the functions of one kind. Bus.mu guards them.
type handovers []*handover

// BeforeHandover implements realtime.HandoverBus: f is called when this node gives a partition back and a
// handler was called with an event of it, and ctx ends after 5 s. It is not called for the partitions of
// events about a user's access (realtime.AccessKey), which wait for nothing, nor when the node has lost the
// partition. Several functions are called at once. cancel does not wait for running calls.
func (b *Bus) BeforeHandover(f func(ctx context.Context)) (cancel func()) {
	return b.register(&b.handovers, f)
}

// BeforeTakeover implements realtime.HandoverBus: f is called when this node has acquired a partition, also
// one that had no owner before. The rest is as for BeforeHandover.
func (b *Bus) BeforeTakeover(f func(ctx context.Context)) (cancel func()) {
	return b.register(&b.takeovers, f)
}

func (b *Bus) register(to *handovers, f func(ctx context.Context)) (cancel func()) {
	h := &handover{f: f, calls: hostcall.NewKind(hostcall.Limits{
		Timeout: b.timing.handover + b.timing.grace,
		Running: len(b.keys.all), Abandoned: len(b.keys.all), PerSource: 1,
	})}
	b.mu.Lock()
	defer b.mu.Unlock()
	*to = append(*to, h)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		*to = slices.DeleteFunc(*to, func(other *handover) bool { return other == h })
	}
}

// handOver calls the functions of BeforeHandover. The session renews its lease meanwhile.
func (s *session) handOver() {
	if !s.owns() || !s.m.hasBegun(s.part) {
		return
	}
	s.callAll(s.handling, &s.b.handovers)
	if s.owns() { // otherwise nobody has waited for long enough
		s.m.handedOver(s.part)
	}
}

// takeOver calls the functions of BeforeTakeover, likewise. A session that ends waits for them no longer.
func (s *session) takeOver() { s.callAll(s.going, &s.b.takeovers) }

// callAll calls functions, at once and within ctx, unless the partition's events wait for nothing.
func (s *session) callAll(ctx context.Context, functions *handovers) {
	if s.part.access {
		return
	}
	s.b.mu.Lock()
	all := slices.Clone(*functions)
	s.b.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, s.b.timing.handover)
	defer cancel()
	var calls sync.WaitGroup
	for _, h := range all {
		calls.Go(func() {
			_, err := hostcall.Do(context.Background(), h.calls, s.part.index, func(context.Context) (struct{}, error) {
				h.f(ctx)
				return struct{}{}, nil
			})
			if err != nil {
				s.b.log.Error("redisbus: a function of BeforeHandover or BeforeTakeover failed", "partition", s.part.name, "error", err)
			}
		})
	}
	calls.Wait()
}
