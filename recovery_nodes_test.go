// Recovery across nodes: a client comes back to another node than the one that it was on.

package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// nodes is a cluster with recovery on.
type nodes struct {
	t        *testing.T
	hub      *realtimetest.Hub
	adapters []*realtimetest.HubNode
	servers  []*realtimetest.Server
	gone     map[int]bool // the nodes that are no longer in the cluster
}

// kill removes a node from the cluster.
func (c *nodes) kill(node int) {
	c.adapters[node].Kill()
	c.gone[node] = true
}

func newNodes(t *testing.T, n int, change ...func(o *realtime.Options)) *nodes {
	t.Helper()
	c := &nodes{t: t, hub: realtimetest.NewHub(), gone: map[int]bool{}}
	for range n {
		c.start(change...)
	}
	c.settle()
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(c.servers, func(s *realtimetest.Server) bool { return realtime.HeardNodes(s.Realtime) < n-1 })
	}, realtimetest.Timeout, time.Millisecond)
	return c
}

// start starts one more node.
func (c *nodes) start(change ...func(o *realtime.Options)) *realtimetest.Server {
	c.t.Helper()
	a := c.hub.Node()
	s := c.site(a, change...)
	c.adapters, c.servers = append(c.adapters, a), append(c.servers, s)
	return s
}

// site starts a server with an adapter, and the users of the others.
func (c *nodes) site(a realtime.Adapter, change ...func(o *realtime.Options)) *realtimetest.Server {
	c.t.Helper()
	return recoverySite(c.t, append([]func(o *realtime.Options){func(o *realtime.Options) {
		o.Cluster.Adapter = a
		if len(c.servers) > 0 {
			first := c.servers[0]
			o.Tokens, o.Users, o.Sessions, o.Trips, o.Parties = first.Tokens, first.Users, first.Sessions, first.Trips, first.Parties
		}
	}}, change...)...)
}

// settle waits until the nodes have told each other of their sockets, or of the one with that id.
func (c *nodes) settle(only ...string) {
	c.t.Helper()
	require.NoError(c.t, c.hub.Wait(c.t.Context()))
	require.Eventually(c.t, func() bool {
		found := len(only) == 0
		for i, from := range c.servers {
			for id, record := range realtime.SharedSockets(from.Realtime) {
				for k, to := range c.servers {
					if len(only) > 0 && !strings.Contains(record, only[0]) {
						continue
					}
					found = true
					if k != i && !c.gone[i] && !c.gone[k] && realtime.KnownSockets(to.Realtime)[id] != record {
						return false
					}
				}
			}
		}
		return found
	}, realtimetest.Timeout, time.Millisecond)
	require.NoError(c.t, c.hub.Wait(c.t.Context()))
}

// emit emits numbers on a node to a room of /drivers, and waits until they have arrived.
func (c *nodes) emit(node int, room realtime.Room, numbers ...int) {
	c.t.Helper()
	notes(c.t, c.servers[node], room, numbers...)
	require.NoError(c.t, c.hub.Wait(c.t.Context()))
}

// cut drops a driver's connection to a node.
func (c *nodes) cut(node int, client *realtimetest.Client) {
	c.t.Helper()
	cut(c.t, c.servers[node], client)
	c.settle()
}

func TestRecoveryNodes_MissedEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 3)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		other := c.servers[1].Driver(t, "d2")
		for node := range c.servers {
			c.emit(node, room, node)
			require.Equal(t, node, realtimetest.Expect(t, former, note))
		}
		c.settle()
		c.cut(0, former)
		c.emit(0, room, 10)
		c.emit(2, room, 12)
		c.emit(1, room, 11)
		c.emit(2, realtime.DriverRoom("d2"), 99)
		client, hello := back(t, c.servers[1], former, "d1")
		recovers(t, client, hello, former, 10, 12, 11)
		require.Equal(t, 99, realtimetest.Expect(t, other, note))
		for node := range c.servers {
			c.emit(node, room, 20+node)
		}
		require.Eventually(t, func() bool { return len(receivedNotes(t, client)) == 6 }, realtimetest.Timeout, time.Millisecond)
		require.Equal(t, []int{10, 12, 11, 20, 21, 22}, receivedNotes(t, client))

		// To a third node without an event in between, and home.
		c.settle()
		c.cut(1, client)
		third, hello := back(t, c.servers[2], client, "d1")
		recovers(t, third, hello, former)
		c.settle()
		c.cut(2, third)
		c.emit(0, room, 30)
		home, hello := back(t, c.servers[0], third, "d1")
		recovers(t, home, hello, former, 30)
		realtimetest.ExpectNone(t, other, note)
		all, err := c.servers[1].Realtime.Drivers().To(room).Sockets(t.Context())
		require.NoError(t, err)
		require.Len(t, all, 1)

		// The first ones are used up.
		for _, old := range []*realtimetest.Client{former, client, third} {
			again, hello := back(t, c.servers[1], old, "d1")
			isNew(t, again, hello, former)
			again.Close()
		}
		require.True(t, home.Connected())
	})
}

// A node that was killed is not asked, and one that does not answer is not waited for.
func TestRecoveryNodes_DeadNode(t *testing.T) {
	t.Parallel()
	for name, kill := range map[string]func(c *nodes){
		"known":   func(c *nodes) { c.kill(0) },
		"unknown": func(c *nodes) { c.adapters[0].Cut() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newNodes(t, 3)
				room := realtime.DriverRoom("d1")
				former := c.servers[0].Driver(t, "d1")
				quiet := c.servers[0].Driver(t, "d2")
				c.emit(1, room, 1)
				c.emit(0, room, 2)
				require.Equal(t, 1, realtimetest.Expect(t, former, note))
				require.Equal(t, 2, realtimetest.Expect(t, former, note))
				c.settle()
				former.Stall()
				c.emit(0, room, 3)
				c.emit(1, room, 4)
				kill(c)
				quiet.Drop()
				former.Drop()
				notes(t, c.servers[2], room, 5)
				notes(t, c.servers[2], realtime.DriverRoom("d2"), 6)
				time.Sleep(50 * time.Millisecond)
				client, hello := back(t, c.servers[1], former, "d1")
				recovers(t, client, hello, former, 3, 4, 5)
				client, hello = back(t, c.servers[1], quiet, "d2")
				recovers(t, client, hello, quiet, 6)
				again, hello := back(t, c.servers[2], former, "d1")
				isNew(t, again, hello, former)
			})
		})
	}
}

// A node that dies while it waits whether the former connection still answers is not waited for any longer.
func TestRecoveryNodes_DiesWhileAsked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		former.Stall()
		c.emit(1, room, 1)
		asked := time.AfterFunc(300*time.Millisecond, func() { c.adapters[0].Cut() })
		defer asked.Stop()
		client, hello := back(t, c.servers[1], former, "d1")
		recovers(t, client, hello, former, 1)
	})
}

// A node that shuts down leaves its clients to the others.
func TestRecoveryNodes_Shutdown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.emit(0, room, 1)
		require.Equal(t, 1, realtimetest.Expect(t, former, note))
		c.settle()
		require.NoError(t, c.servers[0].Realtime.Shutdown(t.Context()))
		former.Disconnected(t)
		c.emit(1, room, 2)
		client, hello := back(t, c.servers[1], former, "d1")
		recovers(t, client, hello, former, 2)
	})
}

// A client whose former connection is dead, which its node has not noticed, takes its place. One that
// still answers keeps it.
func TestRecoveryNodes_DeadConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.emit(0, room, 1)
		require.Equal(t, 1, realtimetest.Expect(t, former, note))
		c.settle()
		stolen, hello := back(t, c.servers[1], former, "d1")
		isNew(t, stolen, hello, former)
		stolen.Close()
		former.Stall()
		c.emit(1, room, 2)
		client, hello := back(t, c.servers[1], former, "d1")
		recovers(t, client, hello, former, 2)
		c.settle()
		for _, s := range c.servers {
			sockets, err := s.Realtime.Drivers().To(room).Sockets(t.Context())
			require.NoError(t, err)
			require.Len(t, sockets, 1)
		}
	})
}

// Whoever may not connect gets nothing, on whichever node, and of several only one recovers.
func TestRecoveryNodes_WhoMayNot(t *testing.T) {
	t.Parallel()
	room := realtime.DriverRoom("d1")
	away := func(t *testing.T) (*nodes, *realtimetest.Client) {
		t.Helper()
		c := newNodes(t, 3)
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		c.cut(0, former)
		c.emit(0, room, 1)
		return c, former
	}
	t.Run("a banned user", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			c, former := away(t)
			token := c.servers[0].Login("d1", realtime.UserDriver)
			c.servers[0].Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver, Active: false})
			for _, s := range c.servers {
				_, err := s.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token), realtimetest.Recover(former))
				require.ErrorContains(t, err, string(realtime.CodeUserInactive))
			}
		})
	})
	t.Run("another user, session and namespace", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			c, former := away(t)
			s := c.servers[1]
			client, hello := back(t, s, former, "d2")
			isNew(t, client, hello, former)
			s.Sessions.Set(realtime.Session{ID: "other", UserID: "d1"})
			client, hello = back(t, s, former, "d1", realtimetest.Token(s.Tokens.Mint("d1", "other", time.Hour)))
			isNew(t, client, hello, former)
			s.Users.Set(realtime.User{ID: "d1", Type: realtime.UserPassenger, Active: true})
			p, err := s.Dial(t.Context(), realtime.NamespacePassengers, realtimetest.Token(s.Login("d1", realtime.UserPassenger)), realtimetest.Recover(former))
			require.NoError(t, err)
			isNew(t, p, realtimetest.Expect(t, p, realtime.EventHello), former)
			s.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver, Active: true})
			client, hello = back(t, s, former, "d1")
			recovers(t, client, hello, former, 1)
		})
	})
	for _, dead := range []bool{false, true} {
		t.Run(fmt.Sprint("several at once, node dead: ", dead), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c, former := away(t)
				servers := c.servers
				if dead {
					c.kill(0)
					servers = servers[1:]
				}
				token := c.servers[0].Login("d1", realtime.UserDriver)
				var won atomic.Int32
				var all sync.WaitGroup
				for i := range 9 {
					all.Go(func() {
						client, err := servers[i%len(servers)].Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token), realtimetest.Recover(former))
						if err == nil && client.Recovered() {
							won.Add(1)
						}
					})
				}
				all.Wait()
				require.EqualValues(t, 1, won.Load())
			})
		})
	}
}

// What is emitted on one node alone, to a socket or to the local ones, comes too.
func TestRecoveryNodes_LocalEvents(t *testing.T) {
	t.Parallel()
	for _, dead := range []bool{false, true} {
		t.Run(fmt.Sprint("node dead: ", dead), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newNodes(t, 2)
				room := realtime.DriverRoom("d1")
				var socket atomic.Pointer[realtime.Socket]
				c.servers[0].Realtime.Drivers().OnConnect(func(_ context.Context, s *realtime.Socket) error {
					socket.Store(s)
					return nil
				})
				former := c.servers[0].Driver(t, "d1")
				require.Eventually(t, func() bool { return socket.Load() != nil }, realtimetest.Timeout, time.Millisecond)
				c.settle()
				former.Stall()
				require.NoError(t, note.Emit(socket.Load(), 1))
				require.NoError(t, note.Emit(c.servers[0].Realtime.Drivers().To(room).Local(), 2))
				require.NoError(t, c.hub.Wait(t.Context()))
				require.NoError(t, note.Emit(c.servers[1].Realtime.Drivers().To(room).Local(), 3))
				c.emit(1, room, 4)
				if dead {
					c.kill(0)
				}
				former.Drop()
				client, hello := back(t, c.servers[1], former, "d1")
				recovers(t, client, hello, former, 1, 2, 4)
			})
		})
	}
}

// Events of a room that the client has joined later, or is not in any more, are not replayed.
func TestRecoveryNodes_Rooms(t *testing.T) {
	t.Parallel()
	for _, dead := range []bool{false, true} {
		t.Run(fmt.Sprint("node dead: ", dead), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				vip, gone := realtime.NewRoom("vip", "1"), realtime.NewRoom("gone", "1")
				c := newNodes(t, 2, func(o *realtime.Options) {
					o.Recovery.Rooms = func(context.Context, *realtime.Socket, []realtime.Room) ([]realtime.Room, error) {
						return []realtime.Room{vip}, nil
					}
				})
				d := c.servers[1].Realtime.Drivers()
				former := c.servers[0].Driver(t, "d1")
				former.Stall()
				c.emit(1, vip, 1) // it is not there yet
				d.To(realtime.DriverRoom("d1")).Join(vip, gone)
				require.NoError(t, c.hub.Wait(t.Context()))
				c.emit(1, vip, 2)
				c.emit(0, vip, 3)
				c.emit(0, gone, 4)
				c.settle()
				if dead {
					c.kill(0)
				}
				former.Drop()
				client, hello := back(t, c.servers[1], former, "d1")
				recovers(t, client, hello, former, 2, 3)
			})
		})
	}
}

// Without all events there is no recovery.
func TestRecoveryNodes_Incomplete(t *testing.T) {
	t.Parallel()
	room := realtime.DriverRoom("d1")
	for name, during := range map[string]func(t *testing.T, c *nodes) (node int){
		"all nodes lost something": func(t *testing.T, c *nodes) int {
			t.Helper()
			c.gapOfAll(0, 2)
			notes(t, c.servers[2], room, 1)
			return 1
		},
		"the others lost something before this node began": func(t *testing.T, c *nodes) int {
			t.Helper()
			c.gapOfAll(0, 2)
			c.start()
			c.settle()
			return 3
		},
		"a node of another system": func(t *testing.T, c *nodes) int {
			t.Helper()
			foreign := c.hub.Node()
			require.NoError(t, foreign.Start(t.Context(), nobody{}))
			t.Cleanup(func() { _ = foreign.Close(context.Background()) })
			require.NoError(t, foreign.Publish(t.Context(), realtime.ClusterMessage{
				Version: realtime.ClusterVersion, Op: realtime.OpBroadcast, Namespace: realtime.NamespaceDrivers, Rooms: []string{room.String()},
				Event: &realtime.Raw{Args: []json.RawMessage{json.RawMessage(`"note"`), json.RawMessage(`1`)}},
			}))
			require.NoError(t, c.hub.Wait(t.Context()))
			return 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newNodes(t, 3)
				former := c.servers[0].Driver(t, "d1")
				c.settle()
				c.cut(0, former)
				node := during(t, c)
				client, hello := back(t, c.servers[node], former, "d1")
				isNewAfterAll(t, client, hello)
				c.emit(2, room, 77)
				require.Equal(t, 77, realtimetest.Expect(t, client, note))
			})
		})
	}
}

// gapIn cuts nodes off for a moment.
func (c *nodes) gapIn(which ...int) {
	for _, i := range which {
		c.adapters[i].Cut()
	}
	time.Sleep(50 * time.Millisecond)
	for _, i := range which {
		c.adapters[i].Heal()
	}
	c.settle()
}

// gapOfAll makes all nodes lose what some of them emit to d1 meanwhile.
func (c *nodes) gapOfAll(emit ...int) {
	c.t.Helper()
	for _, a := range c.adapters {
		a.Cut()
	}
	for _, i := range emit {
		notes(c.t, c.servers[i], realtime.DriverRoom("d1"), 10+i)
	}
	require.NoError(c.t, c.hub.Wait(c.t.Context()))
	for _, a := range c.adapters {
		a.Heal()
	}
	c.settle()
}

// A gap of all nodes costs nothing if one of them has everything that was emitted.
func TestRecoveryNodes_GapOfAll(t *testing.T) {
	t.Parallel()
	for name, emit := range map[string][]int{"nothing was lost": {}, "the former node has it": {0}, "this one has it": {1}, "another one has it": {2}} {
		for _, to := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s, to node %d", name, to), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					c := newNodes(t, 3)
					room := realtime.DriverRoom("d1")
					former := c.servers[0].Driver(t, "d1")
					c.emit(1, room, 1)
					require.Equal(t, 1, realtimetest.Expect(t, former, note))
					c.settle()
					c.cut(0, former)
					c.emit(1, room, 2)
					c.gapOfAll(emit...)
					time.Sleep(2 * time.Second) // each has told what it has emitted
					c.emit(2, room, 3)
					missed := []int{2}
					for _, i := range emit {
						missed = append(missed, 10+i)
					}
					client, hello := back(t, c.servers[to], former, "d1")
					recovers(t, client, hello, former, append(missed, 3)...)
				})
			})
		}
	}
}

type nobody struct{ realtime.Node }

func (nobody) Deliver(realtime.ClusterMessage) {}
func (nobody) PeerJoined(realtime.Peer)        {}
func (nobody) PeerLost(realtime.Peer, bool)    {}
func (nobody) HasRoom(string, string) bool     { return false }
func (nobody) OnlyPeers(bool)                  {}
func (nobody) Gap(realtime.Gap)                {}
func (nobody) Receiving(error)                 {}
func (nobody) Answer(context.Context, realtime.ClusterMessage, func(realtime.ClusterAnswer)) {
}

// A node that has started later takes the clients that were connected then and had nothing to miss before.
func TestRecoveryNodes_LateNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.emit(1, room, 1)
		require.Equal(t, 1, realtimetest.Expect(t, former, note))
		c.start()
		c.settle()
		c.emit(1, room, 2)
		require.Equal(t, 2, realtimetest.Expect(t, former, note))
		former.Stall()
		c.emit(0, room, 3)
		client, hello := back(t, c.servers[2], former, "d1")
		recovers(t, client, hello, former, 3)
	})
}

// A node that has started later knows from the others what nodes that have died before had emitted.
func TestRecoveryNodes_FormerNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.emit(1, room, 1)
		require.Equal(t, 1, realtimetest.Expect(t, former, note))
		c.kill(1)
		c.start()
		c.settle()
		c.cut(0, former)
		c.emit(0, room, 2)
		client, hello := back(t, c.servers[2], former, "d1")
		recovers(t, client, hello, former, 2)
	})
}

// A session that was replaced on another node may have the socket.
func TestRecoveryNodes_ReplacedSession(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		c.cut(0, former)
		s := c.servers[0]
		s.Sessions.Set(realtime.Session{ID: "second", UserID: "d1"})
		s.Publish(t, realtime.SessionRefreshed{UserID: "d1", OldSessionID: realtimetest.SessionID("d1"), NewSessionID: "second"})
		require.NoError(t, c.hub.Wait(t.Context()))
		client, hello := back(t, c.servers[1], former, "d1", realtimetest.Token(s.Tokens.Mint("d1", "second", time.Hour)))
		require.True(t, *hello.Recovered)
		require.Equal(t, former.ID(), client.ID())
	})
}

// An admin keeps the trips that they watch.
func TestRecoveryNodes_Admin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		former := c.servers[0].Admin(t, "a1")
		_, err := realtimetest.Call(t.Context(), former, realtime.AdminTripJoin, realtime.TripRef{TripID: "t1"})
		require.NoError(t, err)
		c.settle()
		former.Stall()
		trip := c.servers[1].Realtime.Admin().To(realtime.TripRoom("t1"))
		require.NoError(t, note.Emit(trip, 1))
		require.NoError(t, c.hub.Wait(t.Context()))
		c.kill(0)
		former.Drop()
		client, err := c.servers[1].Dial(t.Context(), realtime.NamespaceAdmin, realtimetest.Token(c.servers[0].Login("a1", realtime.UserAdmin)), realtimetest.Recover(former))
		require.NoError(t, err)
		require.True(t, client.Recovered())
		require.NoError(t, note.Emit(trip, 2))
		require.Equal(t, 1, realtimetest.Expect(t, client, note))
		require.Equal(t, 2, realtimetest.Expect(t, client, note))
	})
}

// Emitters on all nodes, clients that come back to any of them, nodes that are killed, and nothing is lost, doubled or
// out of order. On a busy machine a node may not answer in time, and the client connects as a new one; most recover.
func TestRecoveryNodes_UnderLoad(t *testing.T) {
	t.Parallel()
	allClients := func(o *realtime.Options) { o.Recovery.AllClients = true }
	c := newNodes(t, 3, allClients)
	for node := range c.servers {
		c.inherits(node)
	}
	const emitters, events = 4, 800
	var rolling sync.RWMutex // held by an emitter, by a client that comes back, and while a node gives way to a new one
	running := []int{0, 1, 2}
	roll := func() {
		rolling.Lock()
		defer rolling.Unlock()
		c.settle()
		c.start(allClients)
		c.kill(running[0]) // it has begun to tell the new one of its sockets, or not
		running = append(running[1:], len(c.servers)-1)
	}
	var rolls sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() { stop(); rolls.Wait() })
	begin := sync.OnceFunc(func() {
		rolls.Go(func() {
			for ctx.Err() == nil {
				time.Sleep(300 * time.Millisecond)
				roll()
				c.inherits(running[2])
			}
		})
	})
	for i, opts := range [][]realtimetest.Option{nil, {realtimetest.Polling()}, {realtimetest.Upgrade()}, nil} {
		user := fmt.Sprintf("d%d", i)
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(2, uint64(i)))
			begin()
			rolling.RLock()
			client := c.servers[running[i%3]].Driver(t, user, opts...)
			c.settle(client.ID())
			rolling.RUnlock()
			var emitting sync.WaitGroup
			done := make(chan struct{})
			for e := range emitters {
				emitting.Go(func() {
					rooms := []realtime.Room{realtime.DriverRoom(user), realtime.SessionRoom(realtimetest.SessionID(user))}
					for n := range events {
						rolling.RLock()
						_ = note.Emit(c.servers[running[e%3]].Realtime.Drivers().To(rooms[:1+n%2]...), e*events+n)
						rolling.RUnlock()
						if n%8 == 0 {
							time.Sleep(20 * time.Millisecond)
						}
					}
				})
			}
			go func() { emitting.Wait(); close(done) }()
			const asNew = -1
			var got []int
			recovered, times := 0, 0
			comesBack := func() {
				rolling.RLock()
				defer rolling.RUnlock()
				former := client
				former.Drop()
				next, hello := back(t, c.servers[running[random.IntN(3)]], former, user, opts...)
				got = append(got, receivedNotes(t, former)...)
				if times++; *hello.Recovered {
					recovered++
				} else {
					got = append(got, asNew)
				}
				client = next
			}
			for over := false; !over; {
				select {
				case <-done:
					over = true
				case <-time.After(time.Duration(100+random.IntN(100)) * time.Millisecond):
				}
				comesBack()
			}
			rolling.RLock()
			defer rolling.RUnlock()
			comesBack()
			require.NoError(t, c.hub.Wait(t.Context()))
			require.NoError(t, note.Emit(c.servers[running[0]].Realtime.Drivers().To(realtime.DriverRoom(user)), emitters*events))
			require.Eventually(t, func() bool {
				last := receivedNotes(t, client)
				return len(last) > 0 && last[len(last)-1] == emitters*events
			}, 4*realtimetest.Timeout, time.Millisecond)
			got = append(got, receivedNotes(t, client)...)
			require.Greater(t, recovered, times/2, "of %d", times)
			next, may := map[int]int{}, map[int]bool{} // may: the next one of an emitter may come later
			for at, n := range got {
				if n == asNew {
					for e := range emitters {
						may[e] = true
					}
					continue
				}
				e, k := n/events, n%events
				if may[e] && k > next[e] {
					next[e] = k
				}
				require.Equal(t, next[e], k, "lost, doubled or out of order, after %d recoveries, in %v", recovered, got[max(0, at-20):min(at+20, len(got))])
				next[e], may[e] = k+1, false
			}
			for e := range emitters {
				require.True(t, next[e] == events || may[e], "lost")
			}
		})
	}
}
