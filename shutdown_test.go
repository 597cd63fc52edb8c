// Shutdown, a clause of its promise at a time, and then ten thousand sockets.

package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// Who comes while the server shuts down is sent away with 503 and Retry-After,
// over either transport; who is there is told to go, and when to come back.
func TestShutdownSendsClientsAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Timeouts.DrainDelay = 7 * time.Second; o.Limits.DrainRate = 50 })
		clients := []*realtimetest.Client{
			srv.Driver(t, "d1"), srv.Driver(t, "d2", realtimetest.Polling()), srv.Passenger(t, "p1", realtimetest.Upgrade()), srv.Admin(t, "a1"),
		}
		release := make(chan struct{})
		srv.Realtime.Drivers().HandleRaw("work", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			<-release
			return realtime.Raw{}, nil
		})
		require.NoError(t, clients[0].Emit("work"))
		synctest.Wait()
		done := make(chan error, 2)
		for range 2 { // the second call waits for the first
			go func() { done <- srv.Realtime.Shutdown(t.Context()) }()
		}
		for _, c := range clients {
			wait := realtimetest.Expect(t, c, realtime.EventServerDrain).ReconnectAfterMS
			require.GreaterOrEqual(t, wait, int64(0))
			require.LessOrEqual(t, wait, int64(7000))
			require.Equal(t, realtimetest.ReasonTransportClose, c.Disconnected(t))
		}
		for _, transport := range []string{"polling", "websocket"} {
			status, wait := knock(t, srv, transport)
			require.Equal(t, http.StatusServiceUnavailable, status)
			require.Equal(t, 7, wait)
		}
		synctest.Wait()
		require.Empty(t, done, "a handler is in flight")
		close(release)
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		require.NoError(t, srv.Realtime.Shutdown(t.Context()), "idempotent")
	})
}

// Clients are told to come back at different times, and are closed in batches.
func TestShutdownSpreadsClients(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const n = 60
		var mu sync.Mutex
		var closed []time.Time
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Limits.DrainRate = 500 // ten in each batch
			o.Trace = &realtime.Trace{Disconnected: func(_ context.Context, i realtime.DisconnectedInfo) {
				mu.Lock()
				defer mu.Unlock()
				if i.Reason == realtime.DisconnectShutdown {
					closed = append(closed, time.Now())
				}
			}}
		})
		var clients []*realtimetest.Client
		for i := range n {
			clients = append(clients, srv.Driver(t, fmt.Sprint("d", i)))
		}
		require.NoError(t, srv.Realtime.Shutdown(t.Context()))
		waits, moments := map[int64]bool{}, map[time.Time]int{}
		for _, c := range clients {
			waits[realtimetest.Expect(t, c, realtime.EventServerDrain).ReconnectAfterMS] = true
		}
		require.Greater(t, len(waits), n/2)
		require.Len(t, closed, n)
		for _, at := range closed {
			moments[at]++
		}
		require.Len(t, moments, n/10)
	})
}

// TestShutdownLetsHandlersFinish: what a handler has begun it may end, though its
// client is gone.
func TestShutdownLetsHandlersFinish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		var ended atomic.Value
		srv.Realtime.Drivers().HandleRaw("work", func(ctx context.Context, _ *realtime.Socket, _ realtime.Raw) (realtime.Raw, error) {
			select {
			case <-time.After(1500 * time.Millisecond):
				ended.Store("finished")
			case <-ctx.Done():
				ended.Store(ctx.Err().Error())
			}
			return realtime.Raw{}, nil
		})
		require.NoError(t, srv.Driver(t, "d1").Emit("work"))
		synctest.Wait()
		require.NoError(t, srv.Realtime.Shutdown(t.Context()))
		require.Equal(t, "finished", ended.Load())
	})
}

// TestShutdownSaysWhatItCouldNotFinish: and does what it could.
func TestShutdownSaysWhatItCouldNotFinish(t *testing.T) {
	bubble(t, func(t *testing.T) {
		release := make(chan struct{})
		bus, adapter := &stuckBus{EventBus: realtimetest.NewBus(), release: release}, &stuckAdapter{}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus, o.Cluster.Adapter = bus, adapter })
		srv.Realtime.Drivers().HandleRaw("work", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			<-release
			return realtime.Raw{}, nil
		})
		driver, stalled := srv.Driver(t, "d1"), srv.Driver(t, "d2", realtimetest.Polling())
		require.NoError(t, driver.Emit("work"))
		synctest.Wait()
		stalled.Stall()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begun := time.Now()
		err := srv.Realtime.Shutdown(ctx)
		require.LessOrEqual(t, time.Since(begun), 10*time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, errStuckAdapter)
		for _, what := range []string{"a domain event is being handled", "handlers still run", "adapter not closed"} {
			require.ErrorContains(t, err, what)
		}
		// The bus did not take the time of those who had to be told.
		realtimetest.Expect(t, driver, realtime.EventServerDrain)
		require.Equal(t, realtimetest.ReasonTransportClose, driver.Disconnected(t))
		require.True(t, adapter.closed)

		// A further call does not wait for longer than it may.
		srv2 := realtimetest.NewServer(t)
		blocked := make(chan struct{})
		srv2.Realtime.Drivers().HandleRaw("work", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			<-blocked
			return realtime.Raw{}, nil
		})
		require.NoError(t, srv2.Driver(t, "d1").Emit("work"))
		synctest.Wait()
		first := make(chan error, 1)
		go func() { first <- srv2.Realtime.Shutdown(context.Background()) }()
		synctest.Wait()
		short, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		require.ErrorIs(t, srv2.Realtime.Shutdown(short), context.DeadlineExceeded)
		close(blocked)
		require.NoError(t, <-first)
		close(release)
	})
}

// stuckBus is a bus whose subscription does not end.
type stuckBus struct {
	realtime.EventBus
	release chan struct{}
}

func (b *stuckBus) Subscribe(handler func(ctx context.Context, e realtime.Envelope) error) (func(), error) {
	cancel, err := b.EventBus.Subscribe(handler)
	return func() { <-b.release; cancel() }, err
}

var errStuckAdapter = errors.New("the network is gone")

// stuckAdapter is an adapter that cannot be closed.
type stuckAdapter struct{ closed bool }

func (*stuckAdapter) Start(context.Context, realtime.Node) error             { return nil }
func (*stuckAdapter) Publish(context.Context, realtime.ClusterMessage) error { return nil }
func (*stuckAdapter) Request(context.Context, realtime.ClusterMessage, func(realtime.ClusterAnswer)) error {
	return nil
}
func (a *stuckAdapter) Close(context.Context) error { a.closed = true; return errStuckAdapter }

// What handlers and listeners come upon that return after Shutdown, or because of it, is
// no fault of the host's.
func TestShutdown_HandlersThatReturnLateAreNoErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var log logBuffer
		node := realtimetest.NewCluster(t, 2, logTo(&log))[0]
		drivers := node.Realtime.Drivers()
		release := make(chan struct{})
		returned := make(chan struct{}, 2)
		drivers.HandleRaw("late", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			<-release
			_ = drivers.To(realtime.NewRoom("a", "b")).EmitRaw("x", realtime.Raw{}) // the adapter's error is the log's
			returned <- struct{}{}
			return realtime.Raw{}, nil
		})
		drivers.HandleRaw("ended", func(ctx context.Context, s *realtime.Socket, _ realtime.Raw) (realtime.Raw, error) {
			<-ctx.Done()
			returned <- struct{}{}
			return realtime.Raw{}, fmt.Errorf("query: %w", ctx.Err())
		})
		require.NoError(t, node.Driver(t, "d1").Emit("late"))
		require.NoError(t, node.Driver(t, "d2").Emit("ended"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		require.ErrorContains(t, node.Realtime.Shutdown(ctx), "handlers still run")
		close(release)
		<-returned
		<-returned
		synctest.Wait()
		require.NotContains(t, log.String(), "level=ERROR")
	})
}

// Sockets whose handshake ends while the others are sent away are sent away too.
func TestShutdownFindsLateSockets(t *testing.T) {
	bubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Limits.DrainRate = 50 }) // one at a time
		for i := range 20 {
			srv.Driver(t, fmt.Sprint("d", i))
		}
		token := srv.Login("late", realtime.UserDriver)
		late := openRaw(t, srv)
		entered, release := srv.Users.Block()
		require.Empty(t, late.say(t, connectPacket(realtime.NamespaceDrivers, token)))
		<-entered
		done := make(chan error, 1)
		go func() { done <- srv.Realtime.Shutdown(t.Context()) }()
		synctest.Wait()
		release()
		require.NoError(t, <-done)
		got := late.heard()
		require.Len(t, got, 3)
		require.Contains(t, got[2], `["server:drain",{"reconnectAfterMs":`)
		require.True(t, late.closed())
	})
}

// herd is many minimal clients, that only listen.
type herd struct {
	mu     sync.Mutex
	waits  map[int64]int
	told   int
	closed int
	failed []error
	ready  sync.WaitGroup
	over   sync.WaitGroup
}

// TestTenThousandSocketsDrain: within ten seconds, each told before its end, and
// without a goroutine left. Real descriptors would take two for each socket, more
// than a process may have, so most of them are connections in memory.
func TestTenThousandSocketsDrain(t *testing.T) {
	const inMemory, overTCP = 8500, 1500
	before := runtime.NumGoroutine()
	k := &realtimetest.Tokens{}
	users, sessions := &realtimetest.Users{}, &realtimetest.Sessions{}
	rt, err := realtime.New(realtime.Options{
		Tokens: k, Users: users, Sessions: sessions, Unlimited: true,
		Timeouts: realtime.Timeouts{PresenceGrace: -1, PingInterval: 5 * time.Minute, Connect: 5 * time.Minute, Repo: time.Minute},
	})
	require.NoError(t, err)
	memory := realtimetest.NewListener()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	srv := &http.Server{Handler: rt, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	for _, l := range []net.Listener{memory, tcp} {
		serving.Go(func() { _ = srv.Serve(l) })
	}

	h := &herd{waits: map[int64]int{}}
	starting := make(chan struct{}, 64)
	for i := range inMemory + overTCP {
		user := strconv.Itoa(i)
		users.Set(realtime.User{ID: user, Type: realtime.UserDriver, Active: true})
		sessions.Set(realtime.Session{ID: "s" + user, UserID: user})
		token := k.Mint(user, "s"+user, time.Hour)
		dial := func() (net.Conn, error) { return memory.DialContext(t.Context(), "", "") }
		if i >= inMemory {
			dial = func() (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(t.Context(), "tcp", tcp.Addr().String())
			}
		}
		starting <- struct{}{}
		h.ready.Add(1)
		h.over.Go(func() {
			ready := sync.OnceFunc(func() { <-starting; h.ready.Done() })
			defer ready()
			h.listen(dial, token, ready)
		})
	}
	h.ready.Wait()
	h.mu.Lock()
	require.Empty(t, h.failed)
	h.mu.Unlock()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	require.NoError(t, rt.Shutdown(ctx))
	h.over.Wait()
	require.Empty(t, h.failed)
	require.Equal(t, inMemory+overTCP, h.told, "told server:drain, and then closed")
	require.Equal(t, inMemory+overTCP, h.closed)
	require.Greater(t, len(h.waits), 4000, "of 5001 times to come back")
	require.NoError(t, srv.Close())
	serving.Wait()
	require.True(t, within(patience, func() bool { return runtime.NumGoroutine() <= before }), "goroutines are left")
}

// listen is the life of one client.
func (h *herd) listen(dial func() (net.Conn, error), token string, ready func()) {
	fail := func(err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.failed = append(h.failed, err)
	}
	conn, err := dial()
	if err != nil {
		fail(err)
		return
	}
	defer func() { _ = conn.Close() }()
	if _, err = conn.Write(append(upgrade(overWebSocket), text(connectPacket(realtime.NamespaceDrivers, token))...)); err != nil {
		fail(err)
		return
	}
	var head [1]byte
	for last := uint32(0); last != 0x0d0a0d0a; { // the end of the answer; nothing behind it may be read
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			fail(err)
			return
		}
		last = last<<8 | uint32(head[0])
	}
	told := false
	for {
		b, err := wsutil.ReadServerText(conn)
		var closed wsutil.ClosedError
		switch packet := string(b); {
		case errors.As(err, &closed):
			h.mu.Lock()
			h.closed++
			h.mu.Unlock()
			return
		case err != nil:
			fail(fmt.Errorf("told: %v: %w", told, err))
			return
		case strings.HasPrefix(packet, `42/drivers,["hello"`):
			ready()
		case strings.HasPrefix(packet, `42/drivers,["server:drain",`):
			var args []json.RawMessage
			var drain realtime.ServerDrainPayload
			if err := errors.Join(json.Unmarshal(b[len("42/drivers,"):], &args), json.Unmarshal(args[1], &drain)); err != nil {
				fail(err)
				return
			}
			told = true
			h.mu.Lock()
			h.told++
			h.waits[drain.ReconnectAfterMS]++
			h.mu.Unlock()
		case strings.HasPrefix(packet, "44"):
			fail(errors.New(packet))
			return
		}
	}
}
