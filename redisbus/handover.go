// Handing over: what is done when a partition's last event was handled, before another node gets the
// next one.

package redisbus

import (
	"context"
	"slices"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/hostcall"
)

var (
	_ realtime.HandoverBus = (*Bus)(nil)
	_ realtime.LeavingBus  = (*Bus)(nil)
)

// handover is a function of BeforeHandover.
type handover struct {
	f     func(ctx context.Context)
	calls *hostcall.Kind // bounds the calls; a source is the index of a partition
}

// BeforeHandover implements realtime.HandoverBus: f is called when this node gives a partition back of
// which it has handled an event, and ctx ends after 5 s. It is not called for the partitions of events
// about a user's access (realtime.AccessKey), which wait for nothing, nor when the node has lost the
// partition. cancel does not wait for running calls.
func (b *Bus) BeforeHandover(f func(ctx context.Context)) (cancel func()) {
	h := &handover{f: f, calls: hostcall.NewKind(hostcall.Limits{
		Timeout: b.timing.handover + b.timing.grace,
		Running: len(b.keys.all), Abandoned: len(b.keys.all), PerSource: 1,
	})}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handovers = append(b.handovers, h)
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.handovers = slices.DeleteFunc(b.handovers, func(other *handover) bool { return other == h })
	}
}

// handOver calls the functions of BeforeHandover. The session renews its lease meanwhile.
func (s *session) handOver() {
	if !s.handledAny || s.part.access || !s.owns() {
		return
	}
	s.b.mu.Lock()
	all := slices.Clone(s.b.handovers)
	s.b.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.handling, s.b.timing.handover)
	defer cancel()
	for _, h := range all {
		_, err := hostcall.Do(context.Background(), h.calls, s.part.index, func(context.Context) (struct{}, error) {
			h.f(ctx)
			return struct{}{}, nil
		})
		if err != nil {
			s.b.log.Error("redisbus: a function of BeforeHandover failed", "partition", s.part.name, "error", err)
		}
	}
}
