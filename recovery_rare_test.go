// Recovery across nodes, in cases that are rare: whoever recovers gets every event that was for them, and no other.

package realtime_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// recoversOrIsNew requires that a client has got all of these events, or that it knows that it has not.
func recoversOrIsNew(t *testing.T, c *realtimetest.Client, hello realtime.HelloPayload, former *realtimetest.Client, missed ...int) {
	t.Helper()
	if *hello.Recovered {
		recovers(t, c, hello, former, missed...)
	} else {
		require.Empty(t, receivedNotes(t, c))
	}
}

// fastBeat makes connections notice within a second that they are dead.
func fastBeat(o *realtime.Options) {
	o.Timeouts.PingInterval, o.Timeouts.PingTimeout = 500*time.Millisecond, time.Second
}

// A client that was away for longer than ping interval + timeout + 5 s, within the window, recovers on another
// node whose log has been trimmed since.
func TestRecoveryNodes_TrimmedLogLongAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2, fastBeat, func(o *realtime.Options) { o.Recovery.Events = 4 })
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		c.cut(0, former)
		c.emit(0, room, 1, 2, 3, 4, 5, 6, 7, 8)
		time.Sleep(8 * time.Second)
		client, hello := back(t, c.servers[1], former, "d1")
		require.False(t, *hello.Recovered, "got only %v of 1..8", receivedNotes(t, client))
	})
}

// A node that had a gap asks another one.
func TestRecoveryNodes_GapLongAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 3, fastBeat)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		c.cut(0, former)
		time.Sleep(150 * time.Millisecond) // the others know that it is away
		c.adapters[1].Cut()
		notes(t, c.servers[2], room, 1)
		time.Sleep(50 * time.Millisecond)
		c.adapters[1].Heal()
		c.settle()
		time.Sleep(9 * time.Second)
		client, hello := back(t, c.servers[1], former, "d1")
		recovers(t, client, hello, former, 1)
	})
}

// A node that has started later asks another one.
func TestRecoveryNodes_LateNodeLongAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 3, fastBeat)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		former.Stall() // its node notices it when the heartbeat fails
		c.emit(2, room, 1)
		c.start(fastBeat)
		c.settle()
		time.Sleep(9 * time.Second)
		client, hello := back(t, c.servers[3], former, "d1")
		recovers(t, client, hello, former, 1)
	})
}

// Events to one socket (and Local) are lost if the client comes back twice without having received anything
// the first time.
func TestRecoveryNodes_LocalTwice(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 3)
		room := realtime.DriverRoom("d1")
		sockets := make(chan *realtime.Socket, 9)
		c.servers[0].Realtime.Drivers().OnConnect(func(_ context.Context, s *realtime.Socket) error { sockets <- s; return nil })
		former := c.servers[0].Driver(t, "d1")
		socket := <-sockets
		c.settle()
		former.Stall()
		require.NoError(t, note.Emit(socket, 1))
		require.NoError(t, note.Emit(c.servers[0].Realtime.Drivers().To(room).Local(), 2))
		c.emit(0, room, 3)
		former.Drop()
		c.settle()
		// This connection breaks before the client has read anything.
		first, hello := back(t, c.servers[1], former, "d1")
		recovers(t, first, hello, former, 1, 2, 3)
		c.settle()
		c.cut(1, first)
		second, hello := back(t, c.servers[2], former, "d1")
		recoversOrIsNew(t, second, hello, former, 1, 2, 3)
	})
}

// Local events of a node that a client has left come to it after it is back there.
func TestRecoveryNodes_LocalOfOtherTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		c.cut(0, former)
		first, hello := back(t, c.servers[1], former, "d1")
		recovers(t, first, hello, former)
		c.settle()
		require.NoError(t, note.Emit(c.servers[0].Realtime.Drivers().To(room).Local(), 7)) // not for it: it is on another node
		require.NoError(t, c.hub.Wait(t.Context()))
		c.cut(1, first)
		second, hello := back(t, c.servers[0], former, "d1")
		recoversOrIsNew(t, second, hello, former)
		if !*hello.Recovered {
			return
		}
		c.settle()
		c.cut(0, second)
		third, hello := back(t, c.servers[0], former, "d1")
		recoversOrIsNew(t, third, hello, former)
	})
}

// Events of a room from before the socket has joined it come with the second recovery.
func TestRecoveryNodes_RoomSinceLost(t *testing.T) {
	t.Parallel()
	vip := realtime.NewRoom("vip", "1")
	for name, to := range map[string]int{"same node": 0, "other node": 1} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newNodes(t, 3, func(o *realtime.Options) {
					o.Recovery.Rooms = func(context.Context, *realtime.Socket, []realtime.Room) ([]realtime.Room, error) {
						return []realtime.Room{vip}, nil
					}
				})
				former := c.servers[0].Driver(t, "d1")
				c.emit(0, realtime.DriverRoom("d1"), 0)
				c.emit(0, vip, 1) // the socket is not there
				c.servers[0].Realtime.Drivers().To(realtime.DriverRoom("d1")).Join(vip)
				c.emit(0, vip, 2)
				require.Equal(t, 0, realtimetest.Expect(t, former, note))
				require.Equal(t, 2, realtimetest.Expect(t, former, note))
				c.settle()
				// The client has a newer offset; take that of hello by pretending that 2 was not received.
				c.cut(0, former)
				auth := map[string]any{"token": c.servers[0].Login("d1", realtime.UserDriver), "pid": former.PID(), "offset": helloOffset(t, former)}
				first, err := c.servers[to].Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Auth(auth))
				require.NoError(t, err)
				hello := realtimetest.Expect(t, first, realtime.EventHello)
				recovers(t, first, hello, former, 0, 2)
				c.settle()
				c.cut(to, first)
				second, err := c.servers[2*to].Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Auth(auth))
				require.NoError(t, err)
				hello = realtimetest.Expect(t, second, realtime.EventHello)
				recovers(t, second, hello, former, 0, 2)
			})
		})
	}
}

func helloOffset(t *testing.T, c *realtimetest.Client) (offset string) {
	t.Helper()
	for _, r := range c.Received() {
		if r.Event == realtime.EventHello.Name() {
			last := r.Args[len(r.Args)-1]
			return string(last[1 : len(last)-1])
		}
	}
	t.Fatal("no hello")
	return ""
}

// Except is compared with the rooms of the end, not with those of then.
func TestRecoveryNodes_ExceptLater(t *testing.T) {
	t.Parallel()
	quiet := realtime.NewRoom("quiet", "1")
	for name, to := range map[string]int{"same node": 0, "other node": 1} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newNodes(t, 2)
				room := realtime.DriverRoom("d1")
				d := c.servers[0].Realtime.Drivers()
				former := c.servers[0].Driver(t, "d1")
				c.settle()
				former.Stall()
				require.NoError(t, note.Emit(d.To(room).Except(quiet), 1)) // it is not in quiet: this is for it
				d.To(room).Join(quiet)
				require.NoError(t, note.Emit(d.To(room).Except(quiet), 2)) // this is not
				d.To(room).Leave(quiet)
				d.To(room).Join(quiet)
				c.settle()
				former.Drop()
				client, hello := back(t, c.servers[to], former, "d1")
				recoversOrIsNew(t, client, hello, former, 1)
			})
		})
	}
}

// The other way round: it has left the room before the end.
func TestRecoveryNodes_ExceptLeft(t *testing.T) {
	t.Parallel()
	quiet := realtime.NewRoom("quiet", "1")
	for name, to := range map[string]int{"same node": 0, "other node": 1} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newNodes(t, 2)
				room := realtime.DriverRoom("d1")
				d := c.servers[0].Realtime.Drivers()
				former := c.servers[0].Driver(t, "d1")
				d.To(room).Join(quiet)
				c.settle()
				former.Stall()
				c.emit(0, realtime.SessionRoom(realtimetest.SessionID("d1")), 0)
				require.NoError(t, note.Emit(d.To(room).Except(quiet), 2)) // not for it
				d.To(room).Leave(quiet)
				require.NoError(t, note.Emit(d.To(room).Except(quiet), 3)) // for it
				c.settle()
				former.Drop()
				client, hello := back(t, c.servers[to], former, "d1")
				recoversOrIsNew(t, client, hello, former, 0, 3)
			})
		})
	}
}

// Left and joined again: what was queued before is lost.
func TestRecoveryNodes_LeftAndJoined(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		vip := realtime.NewRoom("vip", "1")
		c := newNodes(t, 2, func(o *realtime.Options) {
			o.Recovery.Rooms = func(context.Context, *realtime.Socket, []realtime.Room) ([]realtime.Room, error) {
				return []realtime.Room{vip}, nil
			}
		})
		d := c.servers[0].Realtime.Drivers()
		former := c.servers[0].Driver(t, "d1")
		d.To(realtime.DriverRoom("d1")).Join(vip)
		c.settle()
		former.Stall()
		c.emit(0, vip, 1)
		d.To(realtime.DriverRoom("d1")).Leave(vip)
		d.To(realtime.DriverRoom("d1")).Join(vip)
		c.emit(0, vip, 2)
		c.settle()
		former.Drop()
		client, hello := back(t, c.servers[1], former, "d1")
		recoversOrIsNew(t, client, hello, former, 1, 2)
	})
}

// A quiet cluster: events from before the socket has begun are replayed on another node.
func TestRecoveryNodes_QuietCluster(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 3, fastBeat, func(o *realtime.Options) { o.Recovery.Window = time.Second })
		room := realtime.DriverRoom("d1")
		earlier := c.servers[0].Driver(t, "d1")
		c.settle()
		c.emit(2, room, 1)
		require.Equal(t, 1, realtimetest.Expect(t, earlier, note))
		c.kill(2) // or it is stopped, or just has no sockets
		earlier.Close()
		time.Sleep(15 * time.Second) // Window + 2 * (interval + timeout + 5 s)
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		c.cut(0, former)
		client, hello := back(t, c.servers[1], former, "d1")
		recovers(t, client, hello, former)
	})
}

// A handshake that fails after its checks of the user leaves the claim to the next one, on each node.
func TestRecoveryNodes_TriesAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		fail := make(chan bool, 1)
		fail <- false
		c := newNodes(t, 2, func(o *realtime.Options) {
			o.Trips = tripsFunc(func() error {
				f := <-fail
				fail <- f
				if f {
					return context.DeadlineExceeded
				}
				return nil
			})
			o.Compat.RefuseUnavailable = true
		})
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		c.cut(0, former)
		c.emit(0, realtime.DriverRoom("d1"), 1)
		<-fail
		fail <- true
		token := realtimetest.Token(c.servers[0].Login("d1", realtime.UserDriver))
		for _, s := range c.servers {
			_, err := s.Dial(t.Context(), realtime.NamespaceDrivers, token, realtimetest.Recover(former))
			require.Error(t, err)
		}
		<-fail
		fail <- false
		client, hello := back(t, c.servers[1], former, "d1")
		recovers(t, client, hello, former, 1)
	})
}

// claimedAdapter says that every socket was claimed before.
type claimedAdapter struct{ *realtimetest.HubNode }

func (claimedAdapter) Claim(context.Context, string, time.Duration) (bool, error) { return false, nil }

// The claim of a handshake whose node has died blocks nobody for long.
func TestRecoveryNodes_ClaimedByNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 1)
		s := c.site(claimedAdapter{c.hub.Node()})
		former := s.Driver(t, "d1")
		cut(t, s, former)
		began := time.Now()
		client, hello := back(t, s, former, "d1")
		isNew(t, client, hello, former)
		require.Less(t, time.Since(began), 2*time.Second)
	})
}
