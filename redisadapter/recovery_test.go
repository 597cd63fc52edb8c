// Options.Recovery over Redis: what other nodes emit while a client is away, and clients that come back to
// another node.

package redisadapter_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
)

// told is longer than nodes take to tell each other of a socket.
const told = time.Second

// note is an event with a number.
var note = realtime.NewEvent[int]("note")

// recovering starts a server with recovery on a node of a cluster. It has the users of another server, if that is not nil.
func recovering(t *testing.T, o redisadapter.Options, first *realtimetest.Server, change ...func(o *realtime.Options)) *realtimetest.Server {
	t.Helper()
	a := newAdapter(t, o)
	return realtimetest.NewServer(t, append([]func(o *realtime.Options){func(o *realtime.Options) {
		o.Cluster.Adapter, o.Logger, o.Recovery.Enabled = a, quiet, true
		if first != nil {
			o.Tokens, o.Users, o.Sessions, o.Trips, o.Parties = first.Tokens, first.Users, first.Sessions, first.Trips, first.Parties
		}
	}}, change...)...)
}

// emit emits a number on a server to the rooms of drivers.
func emit(t *testing.T, s *realtimetest.Server, n int, drivers ...string) {
	t.Helper()
	for _, d := range drivers {
		require.NoError(t, note.Emit(s.Realtime.Drivers().To(realtime.DriverRoom(d)), n))
	}
}

// expect requires that a client receives these numbers next.
func expect(t *testing.T, c *realtimetest.Client, numbers ...int) {
	t.Helper()
	for _, want := range numbers {
		n, err := realtimetest.Next(t.Context(), c.Within(patience), note)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
}

// leave drops a driver's connection, and waits until the server has noticed it.
func leave(t *testing.T, s *realtimetest.Server, c *realtimetest.Client) {
	t.Helper()
	id := c.ID()
	c.Drop()
	testkit.Eventually(t, "the server notices that the client has left", func() bool {
		sockets, err := s.Realtime.Drivers().All().Local().Sockets(t.Context())
		require.NoError(t, err)
		return !slices.ContainsFunc(sockets, func(r realtime.RemoteSocket) bool { return r.ID == id })
	})
}

// comeBack connects a driver again who had another client. It returns the numbers that the client has missed if it
// recovers; otherwise it must have received none.
func comeBack(t *testing.T, s *realtimetest.Server, former *realtimetest.Client, driver string) (recovered bool, missed []int) {
	t.Helper()
	c, err := s.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(s.Login(driver, realtime.UserDriver)), realtimetest.Recover(former))
	require.NoError(t, err)
	hello, err := realtimetest.Next(t.Context(), c.Within(patience), realtime.EventHello)
	require.NoError(t, err)
	for _, r := range c.Received() {
		if r.Event == note.Name() {
			var n int
			require.NoError(t, json.Unmarshal(r.Args[0], &n))
			missed = append(missed, n)
		}
	}
	require.NotNil(t, hello.Recovered)
	require.Equal(t, c.Recovered(), *hello.Recovered)
	if !c.Recovered() {
		require.Nil(t, hello.Missed)
		require.Empty(t, missed)
		return false, nil
	}
	require.Equal(t, former.ID(), c.ID())
	require.Equal(t, len(missed), *hello.Missed)
	return true, missed
}

// A node reads the events for a client that is away, although it has no socket in the room.
func TestServers_Recovery(t *testing.T) {
	t.Parallel()
	for _, sharded := range []bool{false, true} {
		t.Run(fmt.Sprint("sharded ", sharded), func(t *testing.T) {
			t.Parallel()
			redis := startRedis(t)
			var servers []*realtimetest.Server
			for range 2 {
				servers = append(servers, recovering(t, redisadapter.Options{URL: redis.URL(), Sharded: sharded}, nil))
			}
			former := servers[0].Driver(t, "d1")
			far := servers[1].Realtime.Drivers().To(realtime.DriverRoom("d1"))
			received := func(c *realtimetest.Client, want int) {
				t.Helper()
				require.Eventually(t, func() bool {
					require.NoError(t, note.Emit(far, 0)) // until the nodes know each other
					ctx := t.Context()
					n, err := realtimetest.Next(ctx, c.Within(100*time.Millisecond), note)
					return err == nil && n == want
				}, 20*time.Second, time.Millisecond)
			}
			received(former, 0)
			former.Drop()
			count := func() int { n, _ := servers[0].Realtime.Drivers().All().Local().Count(t.Context()); return n }
			require.Eventually(t, func() bool { return count() == 0 }, 20*time.Second, time.Millisecond)
			for n := range 3 {
				require.NoError(t, note.Emit(far, n+1))
			}
			testkit.Pass(200 * time.Millisecond) // the events arrive while the client is away; later ones would come too
			token := servers[0].Login("d1", realtime.UserDriver)
			c, err := servers[0].Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token), realtimetest.Recover(former))
			require.NoError(t, err)
			require.True(t, c.Recovered())
			for want := 1; want <= 3; {
				n, err := realtimetest.Next(t.Context(), c.Within(20*time.Second), note)
				require.NoError(t, err)
				if n != 0 {
					require.Equal(t, want, n)
					want++
				}
			}
		})
	}
}

// A client comes back to another node, to its first one, and away from a node that nobody reaches any more.
func TestServers_RecoveryOnAnotherNode(t *testing.T) {
	t.Parallel()
	for _, sharded := range []bool{false, true} {
		t.Run(fmt.Sprint("sharded ", sharded), func(t *testing.T) {
			t.Parallel()
			redis := startRedis(t)
			path := redistest.StartPath(t, redis.Addr())
			var servers []*realtimetest.Server
			var first *realtimetest.Server
			for _, url := range []string{redis.URL(), redis.URL(), path.URL()} {
				servers = append(servers, recovering(t, redisadapter.Options{URL: url, Sharded: sharded}, first))
				first = servers[0]
			}
			back := func(node int, former *realtimetest.Client) *realtimetest.Client {
				t.Helper()
				testkit.Pass(told)
				c, err := servers[node].Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(servers[0].Login("d1", realtime.UserDriver)), realtimetest.Recover(former))
				require.NoError(t, err)
				require.True(t, c.Recovered())
				require.Equal(t, former.ID(), c.ID())
				return c
			}
			testkit.Pass(told) // the nodes know each other
			former := servers[2].Driver(t, "d1")
			for node := range servers {
				emit(t, servers[node], node, "d1")
				expect(t, former, node)
			}
			former.Drop()
			emit(t, servers[1], 11, "d1")
			testkit.Pass(told)
			emit(t, servers[2], 12, "d1")
			c := back(0, former)
			emit(t, servers[2], 13, "d1")
			expect(t, c, 11, 12, 13)

			c.Drop()
			c = back(2, c)
			emit(t, servers[0], 14, "d1")
			expect(t, c, 14)
			testkit.Pass(told)

			t.Cleanup(func() { path.Silence(false) })
			path.Silence(true) // as if the node had been killed, which nobody knows yet
			c.Drop()
			emit(t, servers[0], 15, "d1")
			testkit.Pass(told) // until it has arrived
			emit(t, servers[1], 16, "d1")
			c = back(1, c)
			emit(t, servers[0], 17, "d1")
			expect(t, c, 15, 16, 17)
			again, err := servers[0].Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(servers[0].Login("d1", realtime.UserDriver)), realtimetest.Recover(former))
			require.NoError(t, err)
			require.False(t, again.Recovered())
		})
	}
}

// A node that does not receive for a while. A client that was away then, or has received nothing since, recovers only if
// another node has what was lost; one that was there, has received something since and leaves then, recovers.
func TestServers_RecoveryAfterAGap(t *testing.T) {
	t.Parallel()
	for _, sharded := range []bool{false, true} {
		for _, helped := range []bool{false, true} {
			t.Run(fmt.Sprintf("sharded %t, another node has what was lost %t", sharded, helped), func(t *testing.T) {
				t.Parallel()
				redis := startRedis(t)
				path := redistest.StartPath(t, redis.Addr())
				var gaps atomic.Int32
				s := recovering(t, redisadapter.Options{URL: path.URL(), Sharded: sharded}, nil, func(o *realtime.Options) {
					o.Trace = &realtime.Trace{Gap: func(context.Context, realtime.GapInfo) { gaps.Add(1) }}
				})
				far := recovering(t, redisadapter.Options{URL: redis.URL(), Sharded: sharded}, s, func(o *realtime.Options) {
					o.Recovery.Enabled = helped // otherwise it only emits
				})
				away, early, still, busy := s.Driver(t, "away"), s.Driver(t, "early"), s.Driver(t, "still"), s.Driver(t, "busy")
				testkit.Pass(told)
				leave(t, s, away)
				leave(t, s, early)
				emit(t, far, 1, "away", "early", "still", "busy")
				expect(t, still, 1)
				expect(t, busy, 1)

				path.Refuse(true)
				testkit.Eventually(t, "the node does not receive", func() bool { return s.Realtime.Check(t.Context()) != nil })
				emit(t, far, 2, "away", "early", "still", "busy")
				recovered, _ := comeBack(t, s, early, "early")
				require.False(t, recovered, "nobody knows here what it has missed")
				require.Zero(t, gaps.Load())
				path.Refuse(false)
				testkit.Eventually(t, "the gap is over", func() bool { return gaps.Load() > 0 && s.Realtime.Check(t.Context()) == nil })
				testkit.Pass(told)
				emit(t, far, 3, "away", "busy")
				expect(t, busy, 3)

				leave(t, s, still)
				leave(t, s, busy)
				witness := s.Driver(t, "witness")
				emit(t, far, 4, "away", "still", "busy", "witness")
				expect(t, witness, 4)
				for driver, client := range map[string]struct {
					former *realtimetest.Client
					missed []int
					always bool
				}{
					"away":  {former: away, missed: []int{1, 2, 3, 4}},
					"still": {former: still, missed: []int{2, 4}},
					"busy":  {former: busy, missed: []int{4}, always: true},
				} {
					recovered, missed := comeBack(t, s, client.former, driver)
					require.Equal(t, helped || client.always, recovered, driver)
					if recovered {
						require.Equal(t, client.missed, missed, driver)
					}
				}
			})
		}
	}
}
