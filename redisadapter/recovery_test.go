// Options.Recovery over Redis: what other nodes emit while a client is away, and clients that come back to
// another node.

package redisadapter_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
)

// A node reads the events for a client that is away, although it has no socket in the room.
func TestServers_Recovery(t *testing.T) {
	t.Parallel()
	for _, sharded := range []bool{false, true} {
		t.Run(fmt.Sprint("sharded ", sharded), func(t *testing.T) {
			t.Parallel()
			redis := startRedis(t)
			var servers []*realtimetest.Server
			for range 2 {
				a := newAdapter(t, redisadapter.Options{URL: redis.URL(), Sharded: sharded})
				servers = append(servers, realtimetest.NewServer(t, func(o *realtime.Options) {
					o.Cluster.Adapter, o.Logger, o.Recovery.Enabled = a, quiet, true
				}))
			}
			note := realtime.NewEvent[int]("note")
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
			time.Sleep(200 * time.Millisecond) // the events arrive while the client is away; later ones would come too
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

// told is longer than nodes take to tell each other of a socket.
const told = time.Second

// A client comes back to another node, to its first one, and away from a node that nobody reaches any more.
func TestServers_RecoveryOnAnotherNode(t *testing.T) {
	t.Parallel()
	for _, sharded := range []bool{false, true} {
		t.Run(fmt.Sprint("sharded ", sharded), func(t *testing.T) {
			t.Parallel()
			redis := startRedis(t)
			path := redistest.StartPath(t, redis.Addr())
			var servers []*realtimetest.Server
			for _, url := range []string{redis.URL(), redis.URL(), path.URL()} {
				a := newAdapter(t, redisadapter.Options{URL: url, Sharded: sharded})
				servers = append(servers, realtimetest.NewServer(t, func(o *realtime.Options) {
					o.Cluster.Adapter, o.Logger, o.Recovery.Enabled = a, quiet, true
					if len(servers) > 0 {
						first := servers[0]
						o.Tokens, o.Users, o.Sessions, o.Trips, o.Parties = first.Tokens, first.Users, first.Sessions, first.Trips, first.Parties
					}
				}))
			}
			note := realtime.NewEvent[int]("note")
			emit := func(node, n int) {
				require.NoError(t, note.Emit(servers[node].Realtime.Drivers().To(realtime.DriverRoom("d1")), n))
			}
			expect := func(c *realtimetest.Client, numbers ...int) {
				t.Helper()
				for _, want := range numbers {
					n, err := realtimetest.Next(t.Context(), c.Within(patience), note)
					require.NoError(t, err)
					require.Equal(t, want, n)
				}
			}
			back := func(node int, former *realtimetest.Client) *realtimetest.Client {
				t.Helper()
				time.Sleep(told)
				c, err := servers[node].Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(servers[0].Login("d1", realtime.UserDriver)), realtimetest.Recover(former))
				require.NoError(t, err)
				require.True(t, c.Recovered())
				require.Equal(t, former.ID(), c.ID())
				return c
			}
			time.Sleep(told) // the nodes know each other
			former := servers[2].Driver(t, "d1")
			for node := range servers {
				emit(node, node)
				expect(former, node)
			}
			former.Drop()
			emit(1, 11)
			time.Sleep(told)
			emit(2, 12)
			c := back(0, former)
			emit(2, 13)
			expect(c, 11, 12, 13)

			c.Drop()
			c = back(2, c)
			emit(0, 14)
			expect(c, 14)
			time.Sleep(told)

			t.Cleanup(func() { path.Silence(false) })
			path.Silence(true) // as if the node had been killed, which nobody knows yet
			c.Drop()
			emit(0, 15)
			time.Sleep(told) // until it has arrived
			emit(1, 16)
			c = back(1, c)
			emit(0, 17)
			expect(c, 15, 16, 17)
			again, err := servers[0].Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(servers[0].Login("d1", realtime.UserDriver)), realtimetest.Recover(former))
			require.NoError(t, err)
			require.False(t, again.Recovered())
		})
	}
}
