// A Redis that fails, forgets, or answers to nobody.

package redisbus_test

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/redisbus"
)

// setRefuse makes Redis answer some commands with an error; nil: none.
func (r *fakeRedis) setRefuse(f func(command string, args ...string) string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refuse = f
}

// publishing publishes an event until that succeeds.
func publishing(t *testing.T, b *redisbus.Bus, e realtime.Envelope) {
	t.Helper()
	eventually(t, "Publish succeeds", func() bool { return b.Publish(t.Context(), e) == nil })
}

// A deleted stream or group is created again, and handled events are not handled again.
func TestBus_StreamOrGroupDeleted(t *testing.T) {
	t.Parallel()
	for name, wreck := range map[string]func(t *testing.T, r *fakeRedis, b *redisbus.Bus){
		"stream": func(_ *testing.T, r *fakeRedis, b *redisbus.Bus) { r.Del(b.StreamOf("a")) },
		"group": func(t *testing.T, r *fakeRedis, b *redisbus.Bus) {
			c := client(t, r.Addr())
			require.NoError(t, c.Do(t.Context(), c.B().XgroupDestroy().Key(b.StreamOf("a")).Group("realtime").Build()).Error())
		},
		"all":     func(_ *testing.T, r *fakeRedis, _ *redisbus.Bus) { r.FlushAll() },
		"scripts": func(t *testing.T, r *fakeRedis, _ *redisbus.Bus) { forgetScripts(t, r.Addr()) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRedis(t)
			var host hostRecorder
			b := newBus(t, r.url(), host.listen)
			var got recorder
			subscribe(t, b, got.handle)
			for n := range 5 {
				require.NoError(t, b.Publish(t.Context(), event("a", n)))
			}
			eventually(t, "the events are handled", func() bool { return len(got.all()) == 5 })
			wreck(t, r, b)
			for n := 5; n < 10; n++ {
				publishing(t, b, event("a", n))
			}
			eventually(t, "the next are, too", func() bool { return len(got.all()) == 10 })
			for n, id := range got.ids() {
				require.Equal(t, event("a", n).ID, id)
			}
			eventually(t, "the gap is reported", func() bool { return name == "scripts" || host.gapCount() > 0 })
			eventually(t, "the bus is well", func() bool { return b.Check(t.Context()) == nil })
		})
	}
}

// Only the group knows which events were read and not handled. If it is deleted, they are handled
// all the same.
func TestBus_GroupDeleted_WhatWasReadIsHandled(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	b := newBus(t, r.url(), nil)
	leaveWaiting(t, b, "a", 10)
	entered, release := make(chan struct{}), make(chan struct{})
	var got recorder
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		if e.ID == "a/3" && len(got.all()) == 3 {
			close(entered)
			<-release
		}
		return got.handle(ctx, e)
	})
	<-entered
	c := client(t, r.Addr())
	require.NoError(t, c.Do(t.Context(), c.B().XgroupDestroy().Key(b.StreamOf("a")).Group("realtime").Build()).Error())
	close(release)
	eventually(t, "the rest is handled", func() bool { return len(got.all()) >= 10 })
	require.NoError(t, b.Publish(t.Context(), event("a", 10)))
	eventually(t, "and what follows", func() bool { return slices.Contains(got.ids(), "a/10") })
	require.Len(t, got.all(), 11)
	for n, id := range got.ids() {
		require.Equal(t, event("a", n).ID, id)
	}
}

func forgetScripts(t *testing.T, addr string) {
	t.Helper()
	c := client(t, addr)
	require.NoError(t, c.Do(t.Context(), c.B().ScriptFlush().Build()).Error())
}

func TestBus_MaxWaiting_RemovesTheOldestAndReportsIt(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	var host hostRecorder
	b := newBus(t, r.url(), func(o *redisbus.Options) { o.MaxWaiting = 5; host.listen(o) })
	var got recorder
	cancel := subscribe(t, b, got.handle)
	require.NoError(t, b.Publish(t.Context(), event("a", 0)))
	eventually(t, "it is handled", func() bool { return len(got.all()) == 1 })
	cancel()
	for n := 1; n < 4; n++ {
		require.NoError(t, b.Publish(t.Context(), event("a", n)))
	}
	cancel = subscribe(t, b, got.handle)
	eventually(t, "nothing is missing yet", func() bool { return len(got.all()) == 4 })
	require.Zero(t, host.gapCount())
	cancel()
	for n := 4; n < 20; n++ {
		require.NoError(t, b.Publish(t.Context(), event("a", n)))
	}
	subscribe(t, b, got.handle)
	eventually(t, "the newest are handled", func() bool { return len(got.all()) == 9 })
	require.Equal(t, []string{"a/15", "a/16", "a/17", "a/18", "a/19"}, got.ids()[4:])
	require.Equal(t, 1, host.gapCount())
	require.Equal(t, 1, host.log.Times("redisbus: events may have been lost"))
}

// An event that was read and removed before it was handled cannot be handled.
func TestBus_PendingEventRemoved_IsReportedAsGap(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	var host hostRecorder
	b := newBus(t, r.url(), host.listen)
	leaveWaiting(t, b, "a", 3)
	r.handOut(t, b, "a", 2)
	entries, err := r.Stream(b.StreamOf("a"))
	require.NoError(t, err)
	c := client(t, r.Addr())
	require.NoError(t, c.Do(t.Context(), c.B().Xdel().Key(b.StreamOf("a")).Id(entries[0].ID).Build()).Error())
	var got recorder
	subscribe(t, b, got.handle)
	eventually(t, "the others are handled", func() bool { return len(got.all()) == 2 })
	require.Equal(t, []string{"a/1", "a/2"}, got.ids())
	require.Equal(t, 1, host.gapCount())
	eventually(t, "nothing is left", func() bool { return len(r.pending(t, b, "a")) == 0 })
}

// Events that every group has handled are removed from Redis.
func TestBus_Trim_RemovesWhatAllGroupsHaveHandled(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	b := newBus(t, r.url(), nil)
	slow := newBus(t, r.url(), func(o *redisbus.Options) { o.Group = "slow" })
	b.Hurry(quick/10, long)
	slow.Hurry(quick/10, long)
	var got, late recorder
	subscribe(t, b, got.handle)
	subscribe(t, slow, late.handle)()
	for n := range 20 {
		require.NoError(t, b.Publish(t.Context(), event("a", n)))
	}
	eventually(t, "one group has handled them", func() bool { return len(got.all()) == 20 && len(r.pending(t, b, "a")) == 0 })
	length := func() int {
		entries, err := r.Stream(b.StreamOf("a"))
		require.NoError(t, err)
		return len(entries)
	}
	time.Sleep(10 * quick)
	require.Equal(t, 20, length(), "the other group has not")
	subscribe(t, slow, late.handle)
	eventually(t, "the other group handles them", func() bool { return len(late.all()) == 20 })
	eventually(t, "they are removed, but for the last", func() bool { return length() == 1 })
}

func TestBus_MemoryFull(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	b := newBus(t, r.url(), nil)
	var got recorder
	subscribe(t, b, got.handle)
	require.NoError(t, b.Publish(t.Context(), event("a", 1)))
	eventually(t, "it is handled", func() bool { return len(got.all()) == 1 })
	r.setRefuse(func(command string, _ ...string) string {
		if command == "XADD" {
			return "OOM command not allowed when used memory > 'maxmemory'."
		}
		return ""
	})
	err := b.Publish(t.Context(), event("a", 2))
	require.ErrorContains(t, err, "redisbus: publishing test.happened: OOM")
	require.NoError(t, b.Check(t.Context()))
	r.setRefuse(nil)
	require.NoError(t, b.Publish(t.Context(), event("a", 2)))
	eventually(t, "it is handled", func() bool { return len(got.all()) == 2 })
}

// Redis may refuse everything for a while, as it does while it loads its data.
func TestBus_Refused_GoesOnAfterwards(t *testing.T) {
	t.Parallel()
	for name, refusal := range map[string]string{
		"loading":  "LOADING Redis is loading the dataset in memory",
		"replica":  "READONLY You can't write against a read only replica.",
		"no right": "NOPERM this user has no permissions to run this command",
		"script":   "ERR Error running script",
		"type":     "WRONGTYPE Operation against a key holding the wrong kind of value",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRedis(t)
			var host hostRecorder
			b := newBus(t, r.url(), host.listen)
			b.Hurry(quick, short)
			var got recorder
			subscribe(t, b, got.handle)
			publisher := newBus(t, r.url(), nil)
			require.NoError(t, publisher.Publish(t.Context(), event("a", 1)))
			eventually(t, "it is handled", func() bool { return len(got.all()) == 1 })
			r.setRefuse(func(command string, _ ...string) string {
				if strings.HasPrefix(command, "EVAL") || strings.HasPrefix(command, "XREAD") {
					return refusal
				}
				return ""
			})
			require.NoError(t, publisher.Publish(t.Context(), event("a", 2)))
			eventually(t, "the bus is red", func() bool { return b.Check(t.Context()) != nil })
			require.ErrorContains(t, b.Check(t.Context()), refusal[len(refusal)-10:])
			time.Sleep(short + 5*quick) // beyond the lease
			r.setRefuse(nil)
			eventually(t, "it is handled", func() bool { return len(got.all()) == 2 })
			eventually(t, "the bus is green", func() bool { return b.Check(t.Context()) == nil })
			require.Equal(t, []string{"a/1", "a/2"}, got.ids())
			require.Equal(t, 1, host.log.Times("not all events of this node's share are handled"), "it is logged once")
			eventually(t, "it is logged once", func() bool { return host.log.Times("are handled again") == 1 })
		})
	}
}

// While connections break all the time, no event is lost, repeated or overtaken.
func TestBus_ConnectionsBreak_NothingIsLostOrOvertaken(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	path := redistest.StartPath(t, r.Addr())
	publisher, b := newBus(t, r.url(), nil), newBus(t, path.URL(), nil)
	var got recorder
	subscribe(t, b, got.handle)
	const all = 300
	var published atomic.Bool
	go func() {
		defer published.Store(true)
		for n := range all {
			if err := publisher.Publish(t.Context(), event("a", n)); err != nil {
				t.Errorf("Publish: %v", err)
			}
			time.Sleep(2 * time.Millisecond)
		}
	}()
	for !published.Load() {
		path.Reset()
		time.Sleep(30 * time.Millisecond)
	}
	eventually(t, "all are handled", func() bool { return slices.Contains(got.ids(), event("a", all-1).ID) })
	require.Len(t, got.ids(), all, "nothing is lost, and what this node has handled it does not handle again")
	for n, id := range got.ids() {
		require.Equal(t, event("a", n).ID, id)
	}
}

// A node whose lease another one has got cancels its handlers' ctx and calls no further handler.
func TestSession_LeaseLost_BeginsNothingMore(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	b := newBus(t, r.url(), nil)
	entered, release := make(chan context.Context, 1), make(chan struct{})
	var got recorder
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		if e.ID == "a/1" && len(got.all()) == 0 {
			entered <- ctx
			<-release
		}
		return got.handle(ctx, e)
	})
	require.NoError(t, b.Publish(t.Context(), event("a", 1)))
	handling := <-entered
	require.NoError(t, b.Publish(t.Context(), event("a", 2)))
	lease := strings.TrimSuffix(b.StreamOf("a"), "events") + "owner:realtime"
	require.NoError(t, r.Set(lease, "another"))
	r.SetTTL(lease, long)
	select {
	case <-handling.Done():
	case <-time.After(patience):
		t.Fatal("the handler's ctx does not end")
	}
	close(release)
	eventually(t, "what runs ends", func() bool { return len(got.all()) == 1 })
	time.Sleep(10 * quick)
	require.Equal(t, []string{"a/1"}, got.ids(), "nothing is begun while another has the lease")
	r.Del(lease)
	eventually(t, "the rest follows when the partition is free", func() bool { return slices.Contains(got.ids(), "a/2") })
}

// Redis returns no events to a former owner, also if that has not detected the loss of its lease.
func TestSession_LeaseLost_IsHandedNothing(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	b, publisher := newBus(t, r.url(), nil), newBus(t, r.url(), nil)
	b.Hurry(long, 2*long) // it does not look at its lease in the time of this test
	var got recorder
	subscribe(t, b, got.handle)
	require.NoError(t, publisher.Publish(t.Context(), event("a", 1)))
	eventually(t, "it is handled", func() bool { return len(got.all()) == 1 && len(r.pending(t, b, "a")) == 0 })
	lease := strings.TrimSuffix(b.StreamOf("a"), "events") + "owner:realtime"
	require.NoError(t, r.Set(lease, "another"))
	r.SetTTL(lease, long)
	require.NoError(t, publisher.Publish(t.Context(), event("a", 2)))
	time.Sleep(5 * quick)
	require.Len(t, got.all(), 1)
	require.Empty(t, r.pending(t, b, "a"), "nor is it taken from the next owner")
}

// A node that cannot reach Redis detects by its own clock that its lease has ended: it calls no
// further handler, although it has read more events.
func TestSession_CutOff_BeginsNothingAfterItsLease(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	path := redistest.StartPath(t, r.Addr())
	b, other := newBus(t, path.URL(), nil), newBus(t, r.url(), nil)
	b.Hurry(quick, short)
	leaveWaiting(t, other, "a", 20)
	entered, release := make(chan struct{}, 1), make(chan struct{})
	var cut, rest recorder
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		if len(cut.all()) == 0 {
			entered <- struct{}{}
			<-release
		}
		return cut.handle(ctx, e)
	})
	<-entered // the first of a batch
	path.Silence(true)
	defer path.Silence(false)
	subscribe(t, other, rest.handle)
	eventually(t, "another node takes over", func() bool { return len(rest.all()) == 20 })
	close(release)
	eventually(t, "what runs ends", func() bool { return len(cut.all()) == 1 })
	time.Sleep(5 * quick)
	require.Equal(t, []string{"a/0"}, cut.ids())
	require.Equal(t, "a/0", rest.ids()[0], "with the same id")
}

// The ctx of a running handler ends with the lease, although the call that renews it still waits for
// Redis.
func TestSession_CutOff_EndsTheHandlersContextWithItsLease(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	path := redistest.StartPath(t, r.Addr())
	o, err := rueidis.ParseURL(path.URL())
	require.NoError(t, err)
	o.DisableCache, o.ConnWriteTimeout = true, time.Hour
	patient, err := rueidis.NewClient(o)
	require.NoError(t, err)
	t.Cleanup(patient.Close)
	b := newBus(t, "", func(o *redisbus.Options) { o.Client, o.HandlerTimeout = patient, time.Hour })
	b.Hurry(quick, short)
	b.CallTimeout(time.Hour)
	entered := make(chan context.Context, 1)
	subscribe(t, b, func(ctx context.Context, _ realtime.Envelope) error {
		entered <- ctx
		<-ctx.Done()
		return ctx.Err()
	})
	require.NoError(t, newBus(t, r.url(), nil).Publish(t.Context(), event("a", 1)))
	handling := <-entered
	path.Silence(true)
	defer path.Silence(false)
	select {
	case <-handling.Done():
	case <-time.After(patience):
		t.Fatal("the handler's ctx does not end")
	}
}

// Redis may be slow, as long as it is not slower than the lease.
func TestBus_Slow(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	path := redistest.StartPath(t, r.Addr())
	b := newBus(t, path.URL(), nil)
	b.Hurry(4*quick, 2*short)
	path.Delay(50 * time.Millisecond)
	var got recorder
	subscribe(t, b, got.handle)
	for n := range 5 {
		require.NoError(t, b.Publish(t.Context(), event("a", n)))
	}
	eventually(t, "all are handled", func() bool { return len(got.all()) == 5 })
	time.Sleep(3 * short) // beyond a lease
	require.NoError(t, b.Publish(t.Context(), event("a", 5)))
	eventually(t, "the next is, too", func() bool { return len(got.all()) == 6 })
	for n, id := range got.ids() {
		require.Equal(t, event("a", n).ID, id)
	}
}
