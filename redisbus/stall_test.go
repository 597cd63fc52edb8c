// The host's functions that hang: what else goes on.

package redisbus_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/redisbus"
)

// hasty makes a bus abandon calls soon, but not those of a handler that returns at once, on a busy machine either.
func hasty(o *redisbus.Options) { o.HandlerTimeout = 2 * time.Second }

// A subscriber that hangs delays the others once, also those of bans, and they get their
// events in order. What it misses is set aside.
func TestBus_HandlerHangs_OthersGoOn(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	var host hostRecorder
	b := newBus(t, r.url(), func(o *redisbus.Options) { hasty(o); host.listen(o) })
	release := make(chan struct{})
	defer close(release)
	var server, hanging recorder
	subscribe(t, b, server.handle)
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		_ = hanging.handle(ctx, e)
		<-release
		return nil
	})
	key := realtime.AccessKey("u1")
	var want []string
	for n := range 50 {
		require.NoError(t, b.Publish(t.Context(), event(key, n)))
		want = append(want, event(key, n).ID)
	}
	eventually(t, "the others get all", func() bool { return len(server.all()) == 50 })
	require.Equal(t, want, server.ids())
	require.Equal(t, want[:1], hanging.ids(), "no second call begins while the first runs")
	eventually(t, "the events are set aside", func() bool { return len(host.setAside()) == 50 })
	require.EqualError(t, host.setAside()[0].Reason, "the handler has not returned within Options.HandlerTimeout")
	require.EqualError(t, host.setAside()[1].Reason, "the handler was not called: an earlier call for this partition was abandoned and still runs")
	eventually(t, "nothing is left", func() bool { return len(r.pending(t, b, key)) == 0 })
}

// The number of calls that hang is bounded by the partitions: 4, and 2 of access events.
func TestBus_HandlerHangs_FewCallsAreAbandoned(t *testing.T) {
	t.Parallel()
	b := newBus(t, startRedis(t).url(), hasty)
	release := make(chan struct{})
	defer close(release)
	var server, hanging recorder
	subscribe(t, b, server.handle)
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		_ = hanging.handle(ctx, e)
		<-release
		return nil
	})
	for n := range 200 {
		key := string(rune('a' + n%20))
		if n%2 == 0 {
			key = realtime.AccessKey(key)
		}
		require.NoError(t, b.Publish(t.Context(), event(key, n)))
	}
	eventually(t, "the others get all", func() bool { return len(server.all()) == 200 })
	require.LessOrEqual(t, len(hanging.all()), 6)
}

// A handler whose call was abandoned is called again when that has returned.
func TestBus_AbandonedHandlerReturns_IsCalledAgain(t *testing.T) {
	t.Parallel()
	var host hostRecorder
	b := newBus(t, startRedis(t).url(), func(o *redisbus.Options) { hasty(o); host.listen(o) })
	release := make(chan struct{})
	var got recorder
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		if e.ID == "a/0" {
			<-release
			return nil
		}
		return got.handle(ctx, e)
	})
	require.NoError(t, b.Publish(t.Context(), event("a", 0)))
	eventually(t, "it is set aside", func() bool { return len(host.setAside()) == 1 })
	close(release)
	n := 0
	eventually(t, "the handler is called", func() bool {
		n++
		require.NoError(t, b.Publish(t.Context(), event("a", n)))
		return len(got.all()) > 0
	})
}

// A handler that returns when its ctx ends is not abandoned, and one that is slow for an
// event is not given that event again.
func TestBus_HandlerTimeout_EndsItsContext(t *testing.T) {
	t.Parallel()
	var host hostRecorder
	b := newBus(t, startRedis(t).url(), func(o *redisbus.Options) { hasty(o); host.listen(o) })
	var server, slow recorder
	subscribe(t, b, server.handle)
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		_ = slow.handle(ctx, e)
		<-ctx.Done()
		return ctx.Err()
	})
	for n := range 3 {
		require.NoError(t, b.Publish(t.Context(), event("a", n)))
	}
	eventually(t, "all are set aside", func() bool { return len(host.setAside()) == 3 })
	require.Equal(t, []string{"a/0", "a/1", "a/2"}, slow.ids())
	require.Equal(t, []string{"a/0", "a/1", "a/2"}, server.ids())
	require.ErrorIs(t, host.setAside()[0].Reason, context.DeadlineExceeded)
}

// A handler that fails is called again as often as ever, though another one hangs.
func TestBus_HandlerHangs_OthersHaveTheirAttempts(t *testing.T) {
	t.Parallel()
	var host hostRecorder
	b := newBus(t, startRedis(t).url(), func(o *redisbus.Options) { hasty(o); host.listen(o) })
	release := make(chan struct{})
	defer close(release)
	var failing recorder
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		_ = failing.handle(ctx, e)
		if len(failing.all()) < 4 {
			return errors.New("a planned failure")
		}
		return nil
	})
	subscribe(t, b, func(context.Context, realtime.Envelope) error { <-release; return nil })
	require.NoError(t, b.Publish(t.Context(), event("a", 0)))
	eventually(t, "it is set aside for the other", func() bool { return len(host.setAside()) == 1 })
	require.Len(t, failing.all(), 4)
	require.EqualError(t, host.setAside()[0].Reason, "the handler has not returned within Options.HandlerTimeout")
}

// Neither Close nor the end of a subscription waits for a call that is abandoned.
func TestBus_HandlerHangs_CloseReturns(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	b := newBus(t, r.url(), hasty)
	release, entered := make(chan struct{}), make(chan struct{})
	defer close(release)
	cancel := subscribe(t, b, func(context.Context, realtime.Envelope) error {
		close(entered)
		<-release
		return nil
	})
	require.NoError(t, b.Publish(t.Context(), event("a", 0)))
	<-entered
	cancel()
	closeBus(t, b)
	for _, key := range r.Keys() {
		require.NotContains(t, key, ":owner:", "the partitions are free")
	}
}

// OnSetAside and OnGap may hang: that delays a partition once.
func TestBus_NoticesHang_EventsGoOn(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	release := make(chan struct{})
	defer close(release)
	var host hostRecorder
	var calls sync.Map
	b := newBus(t, r.url(), func(o *redisbus.Options) {
		hasty(o)
		host.listen(o)
		o.OnSetAside = func(s redisbus.SetAside) { calls.Store(s.Entry, true); <-release }
		o.OnGap = func(redisbus.Gap) { calls.Store("gap", true); <-release }
	})
	var got recorder
	subscribe(t, b, got.handle)
	require.NoError(t, b.Publish(t.Context(), event("a", 0)))
	eventually(t, "it is handled", func() bool { return len(got.all()) == 1 })
	r.Del(b.StreamOf("a"))
	for n := 1; n < 20; n++ {
		if n > 1 {
			_, err := r.XAdd(b.StreamOf("a"), "*", []string{"no", "event"})
			require.NoError(t, err)
		}
		publishing(t, b, event("a", n))
	}
	eventually(t, "the events are handled", func() bool { return slices.Contains(got.ids(), "a/19") })
	eventually(t, "what is not called is logged", func() bool {
		_, err := r.XAdd(b.StreamOf("a"), "*", []string{"no", "event"})
		require.NoError(t, err)
		return host.log.Times("not called, as earlier calls take too long") > 0
	})
	n := 0
	calls.Range(func(any, any) bool { n++; return true })
	require.LessOrEqual(t, n, 5, "the running one and the abandoned ones")
	_, gap := calls.Load("gap")
	require.True(t, gap)
}
