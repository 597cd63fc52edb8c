// Handling one event: handlers that fail, entries that cannot be read, and events that are set
// aside.

package redisbus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/redisbus"
)

// hostRecorder records the calls of OnSetAside and OnGap, and the log.
type hostRecorder struct {
	log testkit.Log

	mu    sync.Mutex // guards the rest
	aside []redisbus.SetAside
	gaps  []redisbus.Gap
}

// listen makes a bus report to h.
func (h *hostRecorder) listen(o *redisbus.Options) {
	o.Logger = slog.New(slog.NewTextHandler(&h.log, nil))
	o.OnSetAside = func(s redisbus.SetAside) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.aside = append(h.aside, s)
	}
	o.OnGap = func(g redisbus.Gap) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.gaps = append(h.gaps, g)
	}
}

func (h *hostRecorder) setAside() []redisbus.SetAside {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]redisbus.SetAside(nil), h.aside...)
}

func (h *hostRecorder) gapCount() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.gaps)
}

// fields returns the fields of an entry.
func fields(e miniredis.StreamEntry) map[string]string {
	all := map[string]string{}
	for i := 0; i+1 < len(e.Values); i += 2 {
		all[e.Values[i]] = e.Values[i+1]
	}
	return all
}

// pending returns how often each entry of a key's stream was begun that is handed out and
// not acknowledged.
func (r *fakeRedis) pending(t *testing.T, b *redisbus.Bus, key string) (begun []int) {
	t.Helper()
	c := client(t, r.Addr())
	all, err := c.Do(t.Context(), c.B().Xpending().Key(b.StreamOf(key)).Group("realtime").Start("-").End("+").Count(1000).Build()).ToArray()
	require.NoError(t, err)
	for _, m := range all {
		parts, err := m.ToArray()
		require.NoError(t, err)
		n, err := parts[3].AsInt64()
		require.NoError(t, err)
		begun = append(begun, int(n))
	}
	return begun
}

func TestBus_HandlerFails_IsCalledAgain(t *testing.T) {
	t.Parallel()
	b := newBus(t, startRedis(t).url(), nil)
	var failing, other recorder
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		_ = failing.handle(ctx, e)
		if len(failing.all()) < 3 {
			return errors.New("a planned failure")
		}
		return nil
	})
	subscribe(t, b, other.handle)
	require.NoError(t, b.Publish(t.Context(), event("a", 1)))
	require.NoError(t, b.Publish(t.Context(), event("a", 2)))
	eventually(t, "both are handled", func() bool { return len(failing.all()) == 4 && len(other.all()) == 2 })
	require.Equal(t, []string{"a/1", "a/1", "a/1", "a/2"}, failing.ids(), "the next event waits")
	require.Equal(t, []string{"a/1", "a/2"}, other.ids(), "who has handled it is not called again")
}

// hostError is an error of the host's whose methods may panic.
type hostError struct{ text string }

func (e *hostError) Error() string { return e.text }

func (e *hostError) Is(error) bool { panic("a planned panic of Is") }

func TestBus_HandlerKeepsFailing_EventIsSetAside(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]struct {
		handle func() error
		reason string
	}{
		"error":                   {func() error { return errors.New("a planned failure") }, "a planned failure"},
		"panic":                   {func() error { panic("a planned panic") }, "the handler panicked: a planned panic"},
		"goexit":                  {func() error { runtime.Goexit(); return nil }, "the handler has ended its goroutine"},
		"error whose text panics": {func() error { var e *hostError; return e }, "the handler panicked: runtime error: invalid memory address"},
		"error whose Is panics":   {func() error { return &hostError{"a planned failure"} }, "a planned failure"},
		"value that panics":       {func() error { panic((*hostError)(nil)) }, "the handler panicked: <nil>"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRedis(t)
			var host hostRecorder
			b := newBus(t, r.url(), func(o *redisbus.Options) { o.Attempts = 3; host.listen(o) })
			var got recorder
			subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
				_ = got.handle(ctx, e)
				if e.ID == "a/1" {
					return fail.handle()
				}
				return nil
			})
			require.NoError(t, b.Publish(t.Context(), event("a", 1)))
			require.NoError(t, b.Publish(t.Context(), event("a", 2)))
			eventually(t, "the next event is handled", func() bool { return len(got.all()) == 4 })
			require.Equal(t, []string{"a/1", "a/1", "a/1", "a/2"}, got.ids())
			require.Len(t, host.setAside(), 1)
			aside := host.setAside()[0]
			require.Equal(t, event("a", 1), aside.Event)
			require.ErrorContains(t, aside.Reason, fail.reason)
			require.Equal(t, 1, host.log.Times("redisbus: event set aside"))
			stored, err := r.Stream(b.AsideKey())
			require.NoError(t, err)
			require.Len(t, stored, 1)
			f := fields(stored[0])
			require.Contains(t, f["reason"], fail.reason)
			delete(f, "reason")
			require.Equal(t, map[string]string{
				"id": "a/1", "name": "test.happened", "key": "a", "at": "2026-05-04T10:20:30Z", "data": `{"n":1}`,
				"partition": aside.Partition, "entry": aside.Entry,
			}, f)
			eventually(t, "nothing is left", func() bool { return len(r.pending(t, b, "a")) == 0 })
		})
	}
}

// Entries that no Bus has written may have any fields.
func TestBus_Garbage_IsSetAside(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	var host hostRecorder
	b := newBus(t, r.url(), func(o *redisbus.Options) { o.MaxEvent = 1000; host.listen(o) })
	var got recorder
	subscribe(t, b, got.handle)
	garbage := [][]string{
		{"\x00", "\xff"},
		{"name", "test.happened"},
		{"name", "test.happened", "at", "yesterday"},
		{"at", "2026-05-04T10:20:30Z"},
		{"name", "", "at", "2026-05-04T10:20:30Z"},
		{"name", "test.happened", "at", "2026-05-04T10:20:30Z", "data", strings.Repeat("x", 1000)},
		{"id", strings.Repeat("x", 1000)},
	}
	for _, values := range garbage {
		_, err := r.XAdd(b.StreamOf("a"), "*", values)
		require.NoError(t, err)
	}
	_, err := r.XAdd(b.StreamOf("a"), "*", []string{"name", "test.happened", "at", "2026-05-04T10:20:30+02:00", "unknown", "field", "key", "a"})
	require.NoError(t, err)
	eventually(t, "what can be read is handled", func() bool { return len(got.all()) == 1 })
	require.Len(t, host.setAside(), len(garbage))
	stored, err := r.Stream(b.AsideKey())
	require.NoError(t, err)
	require.Len(t, stored, len(garbage))
	for i, e := range stored {
		size := 0
		for _, v := range e.Values {
			size += len(v)
		}
		require.Less(t, size, 500, "%v", garbage[i])
		require.NotEmpty(t, fields(e)["reason"])
	}
	require.Equal(t, "the event is larger than Options.MaxEvent", fields(stored[5])["reason"])
	require.Equal(t, "yesterday", fields(stored[2])["at"])
}

// handOut lets a consumer read n events of a key, which it does not acknowledge.
func (r *fakeRedis) handOut(t *testing.T, b *redisbus.Bus, key string, n int) {
	t.Helper()
	c := client(t, r.Addr())
	require.NoError(t, c.Do(t.Context(), c.B().Xreadgroup().Group("realtime", "dead").Count(int64(n)).Streams().Key(b.StreamOf(key)).Id(">").Build()).Error())
}

// leaveWaiting makes a group that has no node, and publishes events.
func leaveWaiting(t *testing.T, b *redisbus.Bus, key string, n int) {
	t.Helper()
	subscribe(t, b, new(recorder).handle)()
	for i := range n {
		require.NoError(t, b.Publish(t.Context(), event(key, i)))
	}
}

func TestBus_DeadConsumer_ItsEventsComeFirst(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	b := newBus(t, r.url(), nil)
	leaveWaiting(t, b, "a", 100)
	r.handOut(t, b, "a", 50)
	var got recorder
	subscribe(t, b, got.handle)
	eventually(t, "all are handled", func() bool { return len(got.all()) == 100 })
	for i, id := range got.ids() {
		require.Equal(t, event("a", i).ID, id)
	}
	eventually(t, "nothing is left", func() bool { return len(r.pending(t, b, "a")) == 0 })
	c := client(t, r.Addr())
	eventually(t, "the dead consumer is forgotten", func() bool {
		all, err := c.Do(t.Context(), c.B().XinfoConsumers().Key(b.StreamOf("a")).Group("realtime").Build()).ToArray()
		return err == nil && len(all) == 1
	})
}

// An event that ends the process would end all of them, one after the other.
func TestBus_EventEndsItsProcesses_IsSetAside(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	var host hostRecorder
	b := newBus(t, r.url(), func(o *redisbus.Options) { o.Attempts = 2; host.listen(o) })
	leaveWaiting(t, b, "a", 3)
	r.handOut(t, b, "a", 2)
	// A bus begins the first event and is closed while it runs, as if its process ended.
	for n := 2; n <= 3; n++ {
		other := newBus(t, r.url(), nil)
		entered, release := make(chan struct{}, 1), make(chan struct{})
		_, err := other.Subscribe(func(context.Context, realtime.Envelope) error {
			entered <- struct{}{}
			<-release
			return errors.New("the process ends")
		})
		require.NoError(t, err)
		<-entered
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.Error(t, other.Close(ended))
		require.Equal(t, []int{n, 1}, r.pending(t, b, "a"), "what was read and not begun does not count")
		close(release)
		closeBus(t, other)
	}
	var got recorder
	subscribe(t, b, got.handle)
	eventually(t, "the others are handled", func() bool { return len(got.all()) == 2 })
	require.Equal(t, []string{"a/1", "a/2"}, got.ids())
	require.Len(t, host.setAside(), 1)
	require.Equal(t, "a/0", host.setAside()[0].Event.ID)
	require.EqualError(t, host.setAside()[0].Reason, "it was begun 3 times, and its process ended each time")
}

// A host's function that panics or ends its goroutine ends nothing else.
func TestBus_OnSetAside_MayPanic(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(redisbus.SetAside){
		"panic":  func(redisbus.SetAside) { panic("a planned panic") },
		"goexit": func(redisbus.SetAside) { runtime.Goexit() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startRedis(t)
			b := newBus(t, r.url(), func(o *redisbus.Options) { o.OnSetAside = f })
			var got recorder
			subscribe(t, b, got.handle)
			_, err := r.XAdd(b.StreamOf("a"), "*", []string{"no", "event"})
			require.NoError(t, err)
			require.NoError(t, b.Publish(t.Context(), event("a", 1)))
			eventually(t, "the next event is handled", func() bool { return len(got.all()) == 1 })
		})
	}
}

// Each group gets every event.
func TestBus_Groups_AreApart(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	var got [2]recorder
	var buses []*redisbus.Bus
	for i := range got {
		b := newBus(t, r.url(), func(o *redisbus.Options) { o.Group = fmt.Sprint("group ", i) })
		subscribe(t, b, got[i].handle)
		buses = append(buses, b)
	}
	for n := range 10 {
		require.NoError(t, buses[n%2].Publish(t.Context(), event(fmt.Sprint(n), 1)))
	}
	eventually(t, "both get all", func() bool { return len(got[0].all()) == 10 && len(got[1].all()) == 10 })
}

// A node that begins again has several subscriptions, one after the other: what has
// waited for it is for all of them.
func TestBus_Subscribe_WhatHasWaitedIsForAll(t *testing.T) {
	t.Parallel()
	b := newBus(t, startRedis(t).url(), nil)
	leaveWaiting(t, b, "a", 2)
	entered, release := make(chan struct{}), make(chan struct{})
	enter := sync.OnceFunc(func() { close(entered) })
	var first, second recorder
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		enter()
		<-release
		return first.handle(ctx, e)
	})
	<-entered
	require.NoError(t, b.Publish(t.Context(), event("a", 2)))
	subscribe(t, b, second.handle)
	require.NoError(t, b.Publish(t.Context(), event("a", 3)))
	close(release)
	eventually(t, "the last is handled", func() bool { return len(first.all()) == 4 && len(second.all()) == 2 })
	require.Equal(t, []string{"a/0", "a/1", "a/2", "a/3"}, first.ids())
	require.Equal(t, []string{"a/1", "a/3"}, second.ids(), "a/2 was published before, while the first was there")
}

// Lua passes no more than about 8000 values to a command. An entry with more fields stopped its
// partition for good.
func TestBus_EntryWithManyFields_IsSetAside(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	entryWithManyFieldsIsSetAside(t, r.Addr())
}

// entryWithManyFieldsIsSetAside is a test on any Redis.
func entryWithManyFieldsIsSetAside(t *testing.T, addr string) {
	t.Helper()
	var host hostRecorder
	b := newBus(t, "redis://"+addr, host.listen)
	var got recorder
	subscribe(t, b, got.handle)
	var garbage []string
	for n := range 10000 {
		garbage = append(garbage, fmt.Sprint("field ", n), "")
	}
	c := client(t, addr)
	require.NoError(t, c.Do(t.Context(), c.B().Arbitrary("XADD").Keys(b.StreamOf("a")).Args("*").Args(garbage...).Build()).Error())
	require.NoError(t, b.Publish(t.Context(), event("a", 1)))
	eventually(t, "the next event is handled", func() bool { return len(got.all()) == 1 })
	require.Len(t, host.setAside(), 1)
	stored, err := c.Do(t.Context(), c.B().Xrange().Key(b.AsideKey()).Start("-").End("+").Build()).AsXRange()
	require.NoError(t, err)
	require.Len(t, stored, 1)
	require.Equal(t, "the event has no name", stored[0].FieldValues["reason"])
	require.Len(t, stored[0].FieldValues, 1003, "its first fields, and the three of the bus")
}

// While an event cannot be set aside, the events of its partition wait, and Check says so.
func TestBus_CannotSetAside_CheckFails(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	var host hostRecorder
	b := newBus(t, r.url(), func(o *redisbus.Options) { o.Attempts = 1; host.listen(o) })
	require.NoError(t, r.Set(b.AsideKey(), "not a stream"))
	var got recorder
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		_ = got.handle(ctx, e)
		if e.ID == "a/1" {
			return errors.New("a planned failure")
		}
		return nil
	})
	require.NoError(t, b.Publish(t.Context(), event("a", 1)))
	require.NoError(t, b.Publish(t.Context(), event("a", 2)))
	eventually(t, "Check fails", func() bool { return b.Check(t.Context()) != nil })
	require.ErrorContains(t, b.Check(t.Context()), "setting event")
	eventually(t, "it is logged", func() bool {
		return host.log.Times("redisbus: not all events of this node's share are handled") == 1
	})
	r.Del(b.AsideKey())
	eventually(t, "the next event is handled", func() bool { return len(got.all()) == 2 })
	eventually(t, "the bus is well", func() bool { return b.Check(t.Context()) == nil })
	require.Len(t, host.setAside(), 1)
}
