// What happens before a node gives a partition to another one, and before that handles its events.

package redisbus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/redisbus"
)

// published publishes an event for each of many keys, and waits until they are handled.
func published(t *testing.T, b *redisbus.Bus, got *recorder, key func(name string) string) {
	t.Helper()
	for n := range 20 {
		require.NoError(t, b.Publish(t.Context(), event(key(fmt.Sprint("k", n)), 0)))
	}
	eventually(t, "the events are handled", func() bool { return len(got.all()) >= 20 })
}

func plain(name string) string { return name }

// ownedBy returns how many ordinary partitions a node has whose name begins so.
func (r *fakeRedis) ownedBy(name string) (n int) {
	for _, key := range r.Keys() {
		if owner, _ := r.Get(key); strings.Contains(key, ":owner:") && !strings.Contains(key, ":access") && strings.HasPrefix(owner, name) {
			n++
		}
	}
	return n
}

// A node that joins gets partitions when the functions have returned. Meanwhile the lease is renewed, and
// nobody handles the events.
func TestBus_BeforeHandover_TheNextNodeWaits(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	first, second := newBus(t, r.url(), func(o *redisbus.Options) { o.Name = "first" }), newBus(t, r.url(), func(o *redisbus.Options) { o.Name = "second" })
	first.HandoverTimeout(time.Minute)
	calls, pass := make(chan context.Context, 10), make(chan struct{})
	first.BeforeHandover(func(ctx context.Context) {
		calls <- ctx
		<-pass
	})
	var got recorder
	subscribe(t, first, got.handle)
	published(t, first, &got, plain)
	subscribe(t, second, got.handle)
	eventually(t, "two of four partitions are handed over", func() bool { return len(calls) == 2 })
	time.Sleep(5 * quick)
	require.NoError(t, (<-calls).Err())
	require.Zero(t, r.ownedBy("second"), "they still belong to the first node")
	close(pass)
	eventually(t, "the second node has its share", func() bool { return r.ownedBy("second") == 2 })
	require.Len(t, calls, 1)
}

// troublesome returns functions of a host that do not do what they should.
func troublesome(t *testing.T) map[string]func(ctx context.Context) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	return map[string]func(ctx context.Context){
		"waits for ctx": func(ctx context.Context) { <-ctx.Done() },
		"hangs":         func(context.Context) { <-hang },
		"panics":        func(context.Context) { panic("a planned panic") },
	}
}

// Functions that do not return, or panic, hold nobody up for long.
func TestBus_BeforeHandover_EndsInTime(t *testing.T) {
	t.Parallel()
	for name, f := range troublesome(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRedis(t)
			first, second := newBus(t, r.url(), func(o *redisbus.Options) { o.Name = "first" }), newBus(t, r.url(), func(o *redisbus.Options) { o.Name = "second" })
			first.HandoverTimeout(short)
			var called atomic.Int64
			first.BeforeHandover(func(ctx context.Context) {
				called.Add(1)
				f(ctx)
			})
			var got recorder
			subscribe(t, first, got.handle)
			published(t, first, &got, plain)
			subscribe(t, second, got.handle)
			eventually(t, "the second node has its share", func() bool { return r.ownedBy("second") == 2 })
			require.EqualValues(t, 2, called.Load())
		})
	}
}

// A function that takes all of the time takes nothing from another one, such as the server's.
func TestBus_BeforeHandover_EachHasItsTime(t *testing.T) {
	t.Parallel()
	for name, f := range troublesome(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRedis(t)
			first, second := newBus(t, r.url(), func(o *redisbus.Options) { o.Name = "first" }), newBus(t, r.url(), func(o *redisbus.Options) { o.Name = "second" })
			first.HandoverTimeout(2 * short) // a busy machine does not call a function at once
			errs := make(chan error, 100)
			for _, register := range []func(func(context.Context)) func(){first.BeforeTakeover, first.BeforeHandover} {
				register(f)
				register(func(ctx context.Context) { errs <- ctx.Err() })
			}
			var got recorder
			subscribe(t, first, got.handle)
			published(t, first, &got, plain)
			subscribe(t, second, got.handle)
			eventually(t, "the second node has its share", func() bool { return r.ownedBy("second") == 2 })
			require.Len(t, errs, 4+2, "it has acquired four, and given back two")
			for range len(errs) {
				require.NoError(t, <-errs)
			}
		})
	}
}

// A handler that was called may have emitted, whatever else became of the event.
func TestBus_BeforeHandover_AnotherHandlerFails(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	first, second := newBus(t, r.url(), func(o *redisbus.Options) { o.Name = "first" }), newBus(t, r.url(), func(o *redisbus.Options) { o.Name = "second" })
	var called atomic.Int64
	first.BeforeHandover(func(context.Context) { called.Add(1) })
	var server, got recorder
	fail := make(chan struct{})
	subscribe(t, first, server.handle)
	subscribe(t, first, func(context.Context, realtime.Envelope) error {
		<-fail
		return errors.New("a planned error")
	})
	eventually(t, "it owns all partitions", func() bool { return r.ownedBy("first") == 4 })
	for n := range 20 {
		require.NoError(t, first.Publish(t.Context(), event(fmt.Sprint("k", n), 0)))
	}
	eventually(t, "one handler has handled the first event of each partition", func() bool { return len(server.all()) == 4 })
	subscribe(t, second, got.handle)
	testkit.Pass(6 * quick) // two partitions are to be given back
	close(fail)
	eventually(t, "the second node has its share", func() bool { return r.ownedBy("second") == 2 })
	require.EqualValues(t, 2, called.Load())
}

// A node that has lost a partition, and has got it again, may still have to wait for what it has emitted before.
func TestBus_BeforeHandover_LostMeanwhile(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	first, second := newBus(t, r.url(), func(o *redisbus.Options) { o.Name = "first" }), newBus(t, r.url(), func(o *redisbus.Options) { o.Name = "second" })
	var called atomic.Int64
	first.BeforeHandover(func(context.Context) { called.Add(1) })
	var got recorder
	subscribe(t, first, got.handle)
	published(t, first, &got, plain)
	r.takeLeases(t, func() { time.Sleep(5 * quick) }) // it finds out
	eventually(t, "it owns all partitions again", func() bool { return r.ownedBy("first") == 4 })
	require.Zero(t, called.Load())
	subscribe(t, second, got.handle)
	eventually(t, "the second node has its share", func() bool { return r.ownedBy("second") == 2 })
	require.EqualValues(t, 2, called.Load())
}

// takeLeases makes another node the owner of all partitions, until wait has returned.
func (r *fakeRedis) takeLeases(t *testing.T, wait func()) {
	t.Helper()
	var keys []string
	for _, key := range r.Keys() {
		if strings.Contains(key, ":owner:") {
			keys = append(keys, key)
			require.NoError(t, r.Set(key, "another"))
		}
	}
	wait()
	for _, key := range keys {
		r.Del(key)
	}
}

// The same, if it loses the partition while the functions are called.
func TestBus_BeforeHandover_LostDuringIt(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	named := func(name string) *redisbus.Bus {
		return newBus(t, r.url(), func(o *redisbus.Options) { o.Name = name })
	}
	first, second, third := named("first"), named("second"), named("third")
	first.HandoverTimeout(time.Minute)
	var called, ended atomic.Int64
	first.BeforeHandover(func(ctx context.Context) {
		if called.Add(1) <= 2 {
			<-ctx.Done()
			ended.Add(1)
		}
	})
	var got recorder
	subscribe(t, first, got.handle)
	published(t, first, &got, plain)
	leave := subscribe(t, second, got.handle)
	eventually(t, "two of four partitions are handed over", func() bool { return called.Load() == 2 })
	leave()
	r.takeLeases(t, func() { eventually(t, "it has lost them", func() bool { return ended.Load() == 2 }) })
	eventually(t, "it owns all partitions again", func() bool { return r.ownedBy("first") == 4 })
	subscribe(t, third, got.handle)
	eventually(t, "the third node has its share", func() bool { return r.ownedBy("third") == 2 })
	require.EqualValues(t, 4, called.Load())
}

// Where nothing can be out of order, or nothing may wait, the functions are not called.
func TestBus_BeforeHandover_NotCalled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		key    func(name string) string // of the events; nil: there are none
		cancel bool
	}{
		"no event was handled":         {nil, false},
		"events about a user's access": {realtime.AccessKey, false},
		"it was canceled":              {plain, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRedis(t)
			b := newBus(t, r.url(), nil)
			var called atomic.Int64
			cancel := b.BeforeHandover(func(context.Context) { called.Add(1) })
			if c.cancel {
				cancel()
			}
			var got recorder
			leave := subscribe(t, b, got.handle)
			eventually(t, "it owns all partitions", func() bool { return r.ownedBy("test") == 4 })
			if c.key != nil {
				published(t, b, &got, c.key)
			}
			leave()
			eventually(t, "it owns none", func() bool { return r.ownedBy("test") == 0 })
			closeBus(t, b)
			require.Zero(t, called.Load())
		})
	}
}

// A node that has acquired a partition handles its events when the functions have returned, and renews the
// lease meanwhile.
func TestBus_BeforeTakeover_TheEventsWait(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	b := newBus(t, r.url(), nil)
	b.HandoverTimeout(time.Minute)
	calls, pass := make(chan context.Context, 10), make(chan struct{})
	b.BeforeTakeover(func(ctx context.Context) {
		calls <- ctx
		<-pass
	})
	var got recorder
	subscribe(t, b, got.handle)
	for n := range 20 {
		require.NoError(t, b.Publish(t.Context(), event(fmt.Sprint("k", n), 0)))
		require.NoError(t, b.Publish(t.Context(), event(realtime.AccessKey(fmt.Sprint("u", n)), 0)))
	}
	eventually(t, "what is about a user's access does not wait", func() bool { return len(got.all()) == 20 })
	eventually(t, "all partitions are acquired", func() bool { return len(calls) == 4 && r.ownedBy("test") == 4 })
	time.Sleep(2 * quick)
	require.NoError(t, (<-calls).Err())
	require.Equal(t, 4, r.ownedBy("test"))
	require.Len(t, got.all(), 20)
	close(pass)
	eventually(t, "all are handled", func() bool { return len(got.all()) == 40 })
}

// Functions that do not return, or panic, hold nothing up for long, and a node that leaves waits for none
// that minds its ctx.
func TestBus_BeforeTakeover_EndsInTime(t *testing.T) {
	t.Parallel()
	for name, f := range troublesome(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBus(t, startRedis(t).url(), nil)
			b.HandoverTimeout(quick)
			b.BeforeTakeover(f)
			var got recorder
			subscribe(t, b, got.handle)
			published(t, b, &got, plain)
		})
	}
	t.Run("the node leaves", func(t *testing.T) {
		t.Parallel()
		b := newBus(t, startRedis(t).url(), nil)
		b.HandoverTimeout(time.Hour)
		called := make(chan struct{}, 10)
		b.BeforeTakeover(func(ctx context.Context) {
			called <- struct{}{}
			<-ctx.Done()
		})
		var got recorder
		subscribe(t, b, got.handle)
		<-called
		require.NoError(t, b.Leave(t.Context()))
		require.Empty(t, got.all())
	})
}
