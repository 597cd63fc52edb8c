// Options.Recovery over Redis: what other nodes emit while a client is away.

package redisadapter_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
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
