package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// capacity is how many events a MemoryBus holds.
const capacity = 65536

// recorder is a handler that remembers what it was called with.
type recorder struct {
	mu     sync.Mutex // guards the fields below
	events []realtime.Envelope
}

func (r *recorder) handle(_ context.Context, e realtime.Envelope) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	return nil
}

func (r *recorder) ids() (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		ids = append(ids, e.ID)
	}
	return ids
}

func subscribe(t *testing.T, b *realtime.MemoryBus, handler func(context.Context, realtime.Envelope) error) (cancel func()) {
	t.Helper()
	cancel, err := b.Subscribe(handler)
	require.NoError(t, err)
	return cancel
}

func TestMemoryBus_DeliversToEachSubscriber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := realtime.NewMemoryBus()
		require.NoError(t, b.Publish(t.Context(), realtime.Envelope{ID: "before"}))
		var one, two, late recorder
		subscribe(t, b, one.handle)
		subscribe(t, b, two.handle)
		e := realtime.Envelope{ID: "1", Name: "trip.requested", Key: "t", At: time.Now(), Data: []byte(`{}`)}
		require.NoError(t, b.Publish(t.Context(), e))
		subscribe(t, b, late.handle)
		synctest.Wait()
		require.Equal(t, []realtime.Envelope{e}, one.events)
		require.Equal(t, []realtime.Envelope{e}, two.events)
		require.Empty(t, late.events, "only events published afterwards")
	})
}

// For each of many keys: in order, and one at a time; not one key at a time.
func TestMemoryBus_Order(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const keys, each = 100, 50
		b := realtime.NewMemoryBus()
		var running [keys]atomic.Int32
		var got [keys]int
		var atOnce, most atomic.Int32
		subscribe(t, b, func(_ context.Context, e realtime.Envelope) error {
			var key, n int
			_, err := fmt.Sscanf(e.ID, "%d/%d", &key, &n)
			if err != nil || !running[key].CompareAndSwap(0, 1) || got[key] != n {
				t.Errorf("%s after %d: %v", e.ID, got[key], err)
			}
			if now := atOnce.Add(1); now > most.Load() {
				most.Store(now)
			}
			time.Sleep(time.Millisecond)
			atOnce.Add(-1)
			got[key] = n + 1
			running[key].Store(0)
			return nil
		})
		var wg sync.WaitGroup
		for key := range keys {
			wg.Go(func() {
				for n := range each {
					if err := b.Publish(t.Context(), realtime.Envelope{ID: fmt.Sprintf("%d/%d", key, n), Key: fmt.Sprint(key)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		require.NoError(t, b.Close(t.Context()))
		for key := range got {
			require.Equal(t, each, got[key])
		}
		require.Greater(t, most.Load(), int32(1))
	})
}

// A bubble whose test returns while goroutines of it still wait fails, and this
// bus is never closed.
func TestMemoryBus_Idle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := realtime.NewMemoryBus()
		var handled atomic.Int32
		subscribe(t, b, func(context.Context, realtime.Envelope) error {
			handled.Add(1)
			return nil
		})
		for i := range 3 {
			for n := range 200 {
				require.NoError(t, b.Publish(t.Context(), realtime.Envelope{Key: fmt.Sprint(n)}))
			}
			synctest.Wait()
			require.EqualValues(t, 200*(i+1), handled.Load(), "a queue starts again after it was idle")
		}
	})
}

func TestMemoryBus_Context(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		b := realtime.NewMemoryBus()
		var calls int
		subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
			calls++
			require.Equal(t, "v", ctx.Value(key{}))
			_, deadline := ctx.Deadline()
			require.False(t, deadline)
			require.NoError(t, ctx.Err())
			if e.ID == "first" {
				time.Sleep(time.Hour)
				require.NoError(t, ctx.Err())
				return b.Publish(ctx, realtime.Envelope{ID: "second"})
			}
			return nil
		})
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "v"), time.Minute)
		require.NoError(t, b.Publish(ctx, realtime.Envelope{ID: "first"}))
		cancel()
		require.ErrorIs(t, b.Publish(ctx, realtime.Envelope{}), context.Canceled)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		require.Equal(t, 2, calls)
	})
}

func TestMemoryBus_Cancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := realtime.NewMemoryBus()
		var ended, other recorder
		cancel := subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
			time.Sleep(time.Second)
			return ended.handle(ctx, e)
		})
		subscribe(t, b, other.handle)
		for _, id := range []string{"1", "2", "3"} {
			require.NoError(t, b.Publish(t.Context(), realtime.Envelope{ID: id}))
		}
		synctest.Wait()

		start := time.Now()
		go cancel()
		cancel()
		require.Equal(t, time.Second, time.Since(start), "waits for the running call")
		require.Equal(t, []string{"1"}, ended.ids())
		require.NoError(t, b.Publish(t.Context(), realtime.Envelope{ID: "4"}))
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"1"}, ended.ids(), "not called again")
		require.Equal(t, []string{"1", "2", "3", "4"}, other.ids(), "others go on")
		cancel()
	})
}

func TestMemoryBus_CancelFromHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := realtime.NewMemoryBus()
		var cancel func()
		calls := 0
		cancel = subscribe(t, b, func(context.Context, realtime.Envelope) error {
			calls++
			go cancel()
			time.Sleep(time.Second)
			return nil
		})
		for range 3 {
			require.NoError(t, b.Publish(t.Context(), realtime.Envelope{}))
		}
		require.NoError(t, b.Close(t.Context()))
		require.Equal(t, 1, calls)
	})
}

func TestMemoryBus_Close(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := realtime.NewMemoryBus()
		var handled atomic.Int32
		var followUp atomic.Value
		subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
			time.Sleep(time.Second)
			if handled.Add(1) == 10 {
				followUp.Store(b.Publish(ctx, e))
			}
			return nil
		})
		for range 10 {
			require.NoError(t, b.Publish(t.Context(), realtime.Envelope{Key: "k"}))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, b.Close(ctx), context.DeadlineExceeded)
		require.EqualValues(t, 2, handled.Load())
		require.ErrorIs(t, b.Publish(t.Context(), realtime.Envelope{}), realtime.ErrClosed)
		_, err := b.Subscribe(func(context.Context, realtime.Envelope) error { return nil })
		require.ErrorIs(t, err, realtime.ErrClosed)

		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				if err := b.Close(t.Context()); err != nil || handled.Load() != 10 {
					t.Errorf("%d handled: %v", handled.Load(), err)
				}
			})
		}
		wg.Wait()
		require.ErrorIs(t, followUp.Load().(error), realtime.ErrClosed)
		require.NoError(t, b.Close(ctx), "drained, whatever the context")
	})
	require.NoError(t, realtime.NewMemoryBus().Close(t.Context()))
}

func TestMemoryBus_Full(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := realtime.NewMemoryBus()
		proceed := make(chan struct{})
		var handled atomic.Int32
		subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
			<-proceed
			handled.Add(1)
			if e.ID == "first" {
				return b.Publish(ctx, realtime.Envelope{Key: "other"}) // full, and yet must not wait
			}
			return nil
		})
		publish := func(ctx context.Context, id string) error { return b.Publish(ctx, realtime.Envelope{ID: id, Key: "k"}) }
		require.NoError(t, publish(t.Context(), "first"))
		for range capacity - 1 {
			require.NoError(t, publish(t.Context(), ""))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, publish(ctx, "no room"), context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(start))

		waited := make(chan error)
		go func() { waited <- publish(t.Context(), "waits for room") }()
		synctest.Wait()
		close(proceed)
		require.NoError(t, <-waited)
		require.NoError(t, b.Close(t.Context()))
		require.EqualValues(t, capacity+2, handled.Load())
	})
}

// A subscriber that hangs, and whose events fill the bus, does not delay a revocation.
func TestMemoryBus_FullForNoBan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := realtime.NewMemoryBus()
		proceed := make(chan struct{})
		subscribe(t, b, func(context.Context, realtime.Envelope) error { <-proceed; return nil })
		var bans atomic.Int32
		subscribe(t, b, func(_ context.Context, e realtime.Envelope) error {
			if e.Name != "" && e.Name != "auth.session.refreshed" {
				bans.Add(1)
			}
			return nil
		})
		fill := func(e realtime.Envelope) {
			for range capacity {
				require.NoError(t, b.Publish(t.Context(), e))
			}
			full, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			require.ErrorIs(t, b.Publish(full, e), context.DeadlineExceeded)
		}
		fill(realtime.Envelope{Key: "k"})
		fill(realtime.Envelope{Key: realtime.AccessKey("u1"), Name: "auth.session.refreshed"}) // has room of its own
		start := time.Now()
		for _, name := range []string{"auth.session.revoked", "auth.user.access_changed"} {
			require.NoError(t, b.Publish(t.Context(), realtime.Envelope{Key: realtime.AccessKey("u1"), Name: name}))
		}
		synctest.Wait()
		require.EqualValues(t, 2, bans.Load())
		require.Zero(t, time.Since(start))
		close(proceed)
		require.NoError(t, b.Close(t.Context()))
	})
}

func TestMemoryBus_CloseWakesPublishers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := realtime.NewMemoryBus()
		proceed := make(chan struct{})
		subscribe(t, b, func(context.Context, realtime.Envelope) error {
			<-proceed
			return nil
		})
		for range capacity {
			require.NoError(t, b.Publish(t.Context(), realtime.Envelope{}))
		}
		waited := make(chan error)
		go func() { waited <- b.Publish(t.Context(), realtime.Envelope{}) }()
		synctest.Wait()
		go func() { waited <- b.Close(t.Context()) }()
		require.ErrorIs(t, <-waited, realtime.ErrClosed)
		close(proceed)
		require.NoError(t, <-waited)
	})
}

func TestMemoryBus_HandlerFaults(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		var faults []string
		b := realtime.NewMemoryBus()
		b.OnError = func(e realtime.Envelope, err error) {
			faults = append(faults, e.ID)
			if e.ID == "error" {
				require.ErrorIs(t, err, broken)
				return
			}
			require.ErrorContains(t, err, "trip.requested panicked: oh")
		}
		subscribe(t, b, func(_ context.Context, e realtime.Envelope) error {
			switch e.ID {
			case "panic":
				panic("oh")
			case "exit":
				runtime.Goexit()
			case "error":
				return broken
			}
			return nil
		})
		var other recorder
		subscribe(t, b, other.handle)
		for _, id := range []string{"panic", "error", "fine", "exit", "last"} {
			require.NoError(t, b.Publish(t.Context(), realtime.Envelope{ID: id, Name: "trip.requested"}))
		}
		require.NoError(t, b.Close(t.Context()))
		require.Equal(t, []string{"panic", "error"}, faults)
		require.Equal(t, []string{"panic", "error", "fine", "exit", "last"}, other.ids())
	})
	b := realtime.NewMemoryBus()
	subscribe(t, b, func(context.Context, realtime.Envelope) error { panic("nobody listens") })
	require.NoError(t, b.Publish(t.Context(), realtime.Envelope{}))
	require.NoError(t, b.Close(t.Context()))
}

// badValue is a panic value, and an event, whose methods are worse than the panic.
type badValue struct{ do func() }

func (v badValue) String() string               { v.do(); return "" }
func (v badValue) MarshalJSON() ([]byte, error) { v.do(); return []byte("{}"), nil }
func (badValue) EventName() string              { return "bad" }
func (badValue) EventKey() string               { return "k" }

// A queue continues after a panic whose value has a faulty method, and after a fault of OnError.
func TestMemoryBus_FaultsOfAFault(t *testing.T) {
	t.Parallel()
	for name, do := range hostFaults() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				hold := make(chan struct{})
				b := realtime.NewMemoryBus()
				var faults []string
				b.OnError = func(_ realtime.Envelope, err error) {
					faults = append(faults, err.Error())
					panic("OnError")
				}
				var own recorder
				subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
					if e.ID == "panic" {
						panic(badValue{func() { do(hold) }})
					}
					return own.handle(ctx, e)
				})
				require.NoError(t, b.Publish(t.Context(), realtime.Envelope{ID: "panic", Name: "a"}))
				require.NoError(t, b.Publish(t.Context(), realtime.Envelope{ID: "fine", Name: "a"}))
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Equal(t, []string{"fine"}, own.ids())
				require.Len(t, faults, 1)
				require.Contains(t, faults[0], "handler of a panicked")
				close(hold)
				require.NoError(t, b.Close(t.Context()))
			})
		})
	}
}

// hostFaults are what a method of a value of the host's may do.
func hostFaults() map[string]func(hold chan struct{}) {
	return map[string]func(chan struct{}){
		"panic": func(chan struct{}) { panic("again") },
		"exit":  func(chan struct{}) { runtime.Goexit() },
		"hang":  func(hold chan struct{}) { <-hold },
	}
}

// unencodable is a host's event that cannot be encoded.
type unencodable struct{ ID string }

func (unencodable) EventName() string                                 { return "test.unencodable" }
func (unencodable) EventKey() string                                  { return "k" }
func (unencodable) Deliveries(realtime.EventMeta) []realtime.Delivery { return nil }

func (e unencodable) MarshalJSON() ([]byte, error) {
	if e.ID != "example" {
		panic("planned")
	}
	return []byte(`{"ID":"example"}`), nil
}

// An event whose encoding panics reaches no subscriber that reads its Data.
func TestMemoryBus_EncodingThatPanics(t *testing.T) {
	t.Parallel()
	b := realtime.NewMemoryBus()
	var mu sync.Mutex // guards faults
	var faults []error
	b.OnError = func(_ realtime.Envelope, err error) {
		mu.Lock()
		defer mu.Unlock()
		faults = append(faults, err)
	}
	srv := realtimetest.NewServer(t, func(o *realtime.Options) {
		o.Bus = b
		o.Events = []realtime.DomainEventType{realtime.NewDomainEvent("Something.", unencodable{"example"})}
	})
	var first, second recorder
	subscribe(t, b, first.handle)
	subscribe(t, b, second.handle)
	require.NoError(t, srv.Realtime.Publish(t.Context(), unencodable{"x"}))
	require.NoError(t, b.Close(t.Context()))
	require.Empty(t, first.ids())
	require.Empty(t, second.ids())
	require.Len(t, faults, 2)
}

// A subscriber that hangs holds up no other one, and what it does with a trip holds
// up no ban.
func TestMemoryBus_HandlerThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := realtime.NewMemoryBus()
		release := make(chan struct{})
		var own, other recorder
		subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
			if e.Name == "trip.started" {
				<-release
			}
			return own.handle(ctx, e)
		})
		subscribe(t, b, other.handle)
		publish := func(e realtime.DomainEvent, id string) {
			env, err := realtime.NewEnvelope(e)
			require.NoError(t, err)
			env.ID = id
			require.NoError(t, b.Publish(t.Context(), env))
		}
		for n := range 500 { // in every queue
			publish(realtime.TripStarted{TripID: fmt.Sprint("t", n)}, "trip")
		}
		publish(realtime.UserAccessChanged{UserID: "u1"}, "ban")
		publish(realtime.SessionRevoked{SessionID: "s1"}, "revoked")
		synctest.Wait()
		require.ElementsMatch(t, []string{"ban", "revoked"}, own.ids())
		require.Len(t, other.ids(), 502)
		close(release)
		require.NoError(t, b.Close(t.Context()))
		require.Len(t, own.ids(), 502)
	})
}

// Without a bubble, for the race detector: everything at once.
func TestMemoryBus_Churn(t *testing.T) {
	t.Parallel()
	b := realtime.NewMemoryBus()
	var constant recorder
	subscribe(t, b, constant.handle)
	var wg sync.WaitGroup
	var published atomic.Int32
	for i := range 4 {
		wg.Go(func() {
			for n := range 300 {
				var own recorder
				cancel, err := b.Subscribe(own.handle)
				if errors.Is(err, realtime.ErrClosed) {
					return
				}
				err = b.Publish(t.Context(), realtime.Envelope{Key: fmt.Sprint(n % 7)})
				if err == nil {
					published.Add(1)
				}
				cancel()
				seen := len(own.ids())
				if i == 0 && n == 250 {
					if err := b.Close(t.Context()); err != nil {
						t.Error(err)
					}
				}
				if len(own.ids()) != seen {
					t.Error("called after cancel")
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, b.Close(t.Context()))
	require.Len(t, constant.events, int(published.Load()))
}

func BenchmarkMemoryBusPublish(b *testing.B) {
	bus := realtime.NewMemoryBus()
	var handled atomic.Int64
	_, err := bus.Subscribe(func(context.Context, realtime.Envelope) error {
		handled.Add(1)
		return nil
	})
	require.NoError(b, err)
	e := realtime.Envelope{ID: "0197f6a0-5b5c-7d3e-9d7e-0f0f0f0f0f0f", Name: "trip.requested", Key: "t", Data: []byte(`{}`)}
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if err := bus.Publish(ctx, e); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, bus.Close(ctx))
	require.EqualValues(b, b.N, handled.Load())
}

func TestMemoryBus_SubscribeWithoutAHandler(t *testing.T) {
	t.Parallel()
	_, err := realtime.NewMemoryBus().Subscribe(nil)
	require.EqualError(t, err, "realtime: Subscribe: the handler is nil")
}
