// Shutdown, a clause of its promise at a time.

package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// While the server shuts down, new connections are refused with 503 and Retry-After over
// either transport; connected clients get server:drain, which says when to reconnect.
func TestServer_ShutdownSendsClientsAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
			require.Contains(t, endOfTransport, c.Disconnected(t))
		}
		for _, transport := range []string{"polling", "websocket"} {
			status, wait := openSession(t, srv, transport)
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

// Clients are asked to reconnect at different times, and are closed in batches.
func TestServer_ShutdownSpreadsClients(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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

// A call that is in flight at a drain, or waits behind another, gets its ack before
// server:drain; one that arrives later is not handled.
func TestServer_ShutdownAcksCallsInFlight(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		handled := 0
		srv.Realtime.Drivers().HandleRaw("work", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			time.Sleep(500 * time.Millisecond)
			handled++
			return realtime.Raw{Args: []json.RawMessage{json.RawMessage("1")}}, nil
		})
		conn := openRaw(t, srv)
		requireEntered(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, srv.Login("d1", realtime.UserDriver))),
			realtime.NamespaceDrivers, "d1", realtimetest.SessionID("d1"))
		conn.send(t, `42/drivers,1["work"]`, `42/drivers,2["work"]`)
		done := make(chan error, 1)
		go func() { done <- srv.Realtime.Shutdown(t.Context()) }()
		synctest.Wait()
		late := conn.send(t, `42/drivers,3["work"]`)
		require.Len(t, late, 1)
		require.Contains(t, late[0], "unavailable")
		conn.closedAfter(t, time.Minute)
		require.NoError(t, <-done)
		got := conn.received()
		require.Contains(t, got[len(got)-3], "43/drivers,1[")
		require.Contains(t, got[len(got)-2], "43/drivers,2[")
		require.Contains(t, got[len(got)-1], "server:drain")
		require.Equal(t, 2, handled)
	})
}

// Shutdown lets running handlers finish, even after their client has disconnected.
func TestServer_ShutdownLetsHandlersFinish(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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

// TestServer_ShutdownSaysWhatItCouldNotFinish: and does what it could.
func TestServer_ShutdownSaysWhatItCouldNotFinish(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
		require.LessOrEqual(t, time.Since(begun), 11*time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, errStuckAdapter)
		for _, what := range []string{"a domain event is being handled", "handlers still run", "adapter not closed"} {
			require.ErrorContains(t, err, what)
		}
		// A bus that hangs left enough time for server:drain.
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

// An error that a handler or listener returns because of Shutdown, or after it, is not logged
// as an error of the host.
func TestShutdown_HandlersThatReturnLateAreNoErrors(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
		drivers.HandleRaw("ended", func(ctx context.Context, _ *realtime.Socket, _ realtime.Raw) (realtime.Raw, error) {
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
func TestServer_ShutdownFindsLateSockets(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Limits.DrainRate = 50 }) // one at a time
		for i := range 20 {
			srv.Driver(t, fmt.Sprint("d", i))
		}
		token := srv.Login("late", realtime.UserDriver)
		late := openRaw(t, srv)
		entered, release := srv.Users.Block()
		require.Empty(t, late.send(t, connectPacket(realtime.NamespaceDrivers, token)))
		<-entered
		done := make(chan error, 1)
		go func() { done <- srv.Realtime.Shutdown(t.Context()) }()
		synctest.Wait()
		release()
		require.NoError(t, <-done)
		got := late.received()
		require.Len(t, got, 3)
		require.Contains(t, got[2], `["server:drain",{"reconnectAfterMs":`)
		require.True(t, late.closedSoon())
	})
}

// A connection whose client reads nothing for Timeouts.Close is cut off, and counted in the log.
func TestServer_ShutdownCountsConnectionsCutOff(t *testing.T) {
	for name, stalled := range map[string]bool{"stalled": true, "reading": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var log logBuffer
				srv := realtimetest.NewServer(t, logTo(&log))
				for i := range 3 {
					d := srv.Driver(t, fmt.Sprint("d", i))
					if stalled && i < 2 {
						fillConnection(t, d, srv.Realtime.Drivers().To(realtime.DriverRoom(fmt.Sprint("d", i))))
					}
				}
				require.NoError(t, srv.Realtime.Shutdown(t.Context()))
				const line = `msg="realtime: connections were cut off before server:drain was sent" connections=2`
				require.Equal(t, stalled, strings.Contains(log.String(), line), log.String())
				require.Equal(t, stalled, strings.Contains(log.String(), "cut off"))
			})
		})
	}
}

// With little time clients are closed faster than Limits.DrainRate, and early enough: those that
// do not close by themselves take a second more.
func TestShutdown_LeavesTimeToClose(t *testing.T) {
	for _, limit := range []time.Duration{3 * time.Second, 4 * time.Second, 6 * time.Second} {
		t.Run(limit.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Limits.DrainRate = 1 })
				var conns []*rawConn
				for i := range 300 {
					id := fmt.Sprint("d", i)
					c := openRaw(t, srv)
					requireEntered(t, c.send(t, connectPacket(realtime.NamespaceDrivers, srv.Login(id, realtime.UserDriver))),
						realtime.NamespaceDrivers, id, realtimetest.SessionID(id))
					conns = append(conns, c)
				}
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				begun := time.Now()
				require.NoError(t, srv.Realtime.Shutdown(ctx))
				require.GreaterOrEqual(t, time.Since(begun), limit/2, "spread")
				for _, c := range conns {
					got := c.received()
					require.Contains(t, got[len(got)-1], "server:drain")
				}
			})
		})
	}
}

// A client whose handler hangs gets server:drain all the same, however short the time is.
func TestShutdown_HandlerThatHangsKeepsNoDrain(t *testing.T) {
	for _, limit := range []time.Duration{time.Second, 2 * time.Second, 10 * time.Second} {
		t.Run(limit.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				adapter := &stuckAdapter{}
				srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = adapter })
				release := make(chan struct{})
				srv.Realtime.Drivers().HandleRaw("work", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
					<-release
					return realtime.Raw{}, nil
				})
				driver := srv.Driver(t, "d1")
				require.NoError(t, driver.Emit("work"))
				synctest.Wait()
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				err := srv.Realtime.Shutdown(ctx)
				require.EqualError(t, err, "realtime: shutdown: handlers still run (1 of /drivers work): context deadline exceeded\n"+
					"realtime: shutdown: adapter not closed: "+errStuckAdapter.Error())
				realtimetest.Expect(t, driver, realtime.EventServerDrain)
				close(release)
			})
		})
	}
}

// The error names the events whose handlers still run, those with the most calls first, and not
// more of them than fit into a line.
func TestShutdown_NamesTheHandlersThatRun(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		release := make(chan struct{})
		hang := func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			<-release
			return realtime.Raw{}, nil
		}
		for n := range 12 {
			event := fmt.Sprintf("pay%02d", n)
			srv.Realtime.Passengers().HandleRaw(event, hang)
			require.NoError(t, srv.Passenger(t, fmt.Sprint("p", n)).Emit(event))
		}
		srv.Realtime.Drivers().HandleRaw("work", hang)
		for _, id := range []string{"d1", "d2"} {
			require.NoError(t, srv.Driver(t, id).Emit("work"))
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		require.EqualError(t, srv.Realtime.Shutdown(ctx), "realtime: shutdown: handlers still run (2 of /drivers work, 1 of /passengers pay00, "+
			"1 of /passengers pay01, 1 of /passengers pay02, 1 of /passengers pay03, 1 of /passengers pay04, 1 of /passengers pay05, "+
			"1 of /passengers pay06, 1 of /passengers pay07, 1 of /passengers pay08, ...): context deadline exceeded")
		close(release)
	})
}

// Polling clients, whose requests are open, are drained before the others.
func TestShutdown_PollingClientsFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var closed []string
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Limits.DrainRate = 50 // one at a time
			o.Trace = &realtime.Trace{Disconnected: func(_ context.Context, i realtime.DisconnectedInfo) {
				mu.Lock()
				defer mu.Unlock()
				closed = append(closed, i.UserID)
			}}
		})
		for i := range 30 {
			srv.Driver(t, fmt.Sprint("d", i))
		}
		srv.Driver(t, "polling", realtimetest.Polling())
		require.NoError(t, srv.Realtime.Shutdown(t.Context()))
		require.Equal(t, "polling", closed[0])
		require.Len(t, closed, 31)
	})
}
