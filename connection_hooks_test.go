// OnConnect and OnDisconnect: the order of their functions, and when they are called.

package realtime_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// callRecorder records the names of calls, in order.
type callRecorder struct {
	mu   sync.Mutex // guards the fields below
	list []string
}

func (s *callRecorder) add(step string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, step)
}

func (s *callRecorder) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.list
	s.list = nil
	return list
}

func TestNamespace_OnConnectStopsAtTheFirstError(t *testing.T) {
	t.Parallel()
	for name, second := range map[string]func() error{
		"none":   nil,
		"error":  func() error { return errors.New("no") },
		"panic":  func() error { panic("no") },
		"goexit": func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var log logBuffer
				var did callRecorder
				srv := realtimetest.NewServer(t, logTo(&log))
				ns := srv.Realtime.Passengers()
				hook := func(name string, f func() error) {
					ns.OnConnect(func(context.Context, *realtime.Socket) error {
						did.add(name)
						if f == nil {
							return nil
						}
						return f()
					})
				}
				hook("first", nil)
				hook("second", second)
				hook("third", nil)
				c, err := srv.Dial(t.Context(), realtime.NamespacePassengers, realtimetest.Token(srv.Login("p1", realtime.UserPassenger)))
				require.NoError(t, err)
				synctest.Wait()
				if second == nil {
					require.Equal(t, []string{"first", "second", "third"}, did.take())
					require.True(t, c.Connected())
					return
				}
				require.Equal(t, []string{"first", "second"}, did.take())
				require.Equal(t, realtimetest.ReasonServer, c.Disconnected(t))
			})
		})
	}
}

// No further function is called after one that closes the socket or is abandoned.
func TestNamespace_OnConnectStopsWhenTheSocketHasClosed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		var did callRecorder
		srv := realtimetest.NewServer(t, logTo(&log))
		drivers, passengers := srv.Realtime.Drivers(), srv.Realtime.Passengers()
		passengers.OnConnect(func(_ context.Context, s *realtime.Socket) error { s.Disconnect(); return nil })
		passengers.OnConnect(func(context.Context, *realtime.Socket) error { did.add("after Disconnect"); return nil })
		drivers.OnConnect(func(context.Context, *realtime.Socket) error { time.Sleep(time.Minute); return nil })
		drivers.OnConnect(func(context.Context, *realtime.Socket) error { did.add("after a minute"); return nil })
		srv.Passenger(t, "p1")
		srv.Driver(t, "d1")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		require.Empty(t, did.take())
	})
}

func TestNamespace_OnDisconnectRunsAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		var did callRecorder
		release := make(chan struct{})
		srv := realtimetest.NewServer(t, logTo(&log))
		ns := srv.Realtime.Drivers()
		hook := func(name string, f func(ctx context.Context)) {
			ns.OnDisconnect(func(ctx context.Context, _ *realtime.Socket, reason realtime.DisconnectReason) {
				did.add(name + " " + string(reason))
				f(ctx)
			})
		}
		hook("panics", func(context.Context) { panic("no") })
		hook("exits", func(context.Context) { runtime.Goexit() })
		hook("waits", func(ctx context.Context) {
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, 20*time.Second, time.Until(deadline))
			<-ctx.Done()
		})
		hook("hangs", func(context.Context) { <-release })
		hook("returns", func(context.Context) {})
		srv.Driver(t, "d1").Close()
		time.Sleep(time.Minute)
		const why = " client namespace disconnect"
		require.Equal(t, []string{"panics" + why, "exits" + why, "waits" + why, "hangs" + why, "returns" + why}, did.take())
		close(release)
	})
}

// OnDisconnect sees the rooms in which the socket was, although it has left them.
func TestSocket_RoomsInOnDisconnect(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(s *realtime.Socket, c *realtimetest.Client){
		"left":         func(_ *realtime.Socket, c *realtimetest.Client) { c.Close() },
		"dropped":      func(_ *realtime.Socket, c *realtimetest.Client) { c.Drop() },
		"disconnected": func(s *realtime.Socket, _ *realtimetest.Client) { s.Disconnect() },
		"closed":       func(s *realtime.Socket, _ *realtimetest.Client) { s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t)
				ns := srv.Realtime.Drivers()
				sockets := make(chan *realtime.Socket, 1)
				var rooms [][]realtime.Room
				ns.OnConnect(func(_ context.Context, s *realtime.Socket) error {
					s.Join(realtime.NewRoom("zone", "north"), realtime.NewRoom("zone", "south"))
					s.Leave(realtime.NewRoom("zone", "south"))
					sockets <- s
					return nil
				})
				for range 2 {
					ns.OnDisconnect(func(_ context.Context, s *realtime.Socket, _ realtime.DisconnectReason) {
						s.Leave(realtime.NewRoom("zone", "north")) // does nothing
						rooms = append(rooms, s.Rooms())
						require.NoError(t, wireNote.Emit(ns.To(realtime.NewRoom("zone", "north")), "to nobody"))
					})
				}
				c := srv.Driver(t, "d1")
				s := <-sockets
				end(s, c)
				time.Sleep(time.Minute)
				synctest.Wait()
				require.Len(t, rooms, 2)
				for _, r := range rooms {
					require.ElementsMatch(t, []realtime.Room{
						realtime.DriverRoom("d1"), realtime.SessionRoom(s.Identity().SessionID), realtime.NewRoom("zone", "north"),
					}, r)
				}
				require.Empty(t, s.Rooms(), "they are forgotten with the last function")
				require.False(t, s.Join(realtime.NewRoom("zone", "west")))
				require.Empty(t, s.Rooms())
			})
		})
	}
}

// The texts are those of the Node.js server. Dashboards group by them, so they must not change.
func TestDisconnectReason_Texts(t *testing.T) {
	t.Parallel()
	require.Equal(t, []realtime.DisconnectReason{
		"server namespace disconnect", "client namespace disconnect", "forced close", "server shutting down",
		"transport close", "transport error", "ping timeout", "parse error", "slow consumer", "node lost",
	}, []realtime.DisconnectReason{
		realtime.DisconnectByServer, realtime.DisconnectByClient, realtime.DisconnectForcedClose, realtime.DisconnectShutdown,
		realtime.DisconnectTransportClose, realtime.DisconnectTransportError, realtime.DisconnectPingTimeout,
		realtime.DisconnectParseError, realtime.DisconnectSlowConsumer, realtime.DisconnectNodeLost,
	})
}
