// Limits.SocketsPerUser over Redis.

package redisadapter_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
)

// limitedServers starts three servers with a limit. Between Redis and the third is a path.
func limitedServers(t *testing.T, sharded, refuse bool, limit int) (servers []*realtimetest.Server, path *redistest.Path) {
	t.Helper()
	s := startRedis(t)
	path = redistest.StartPath(t, s.Addr())
	for i := range 3 {
		url := s.URL()
		if i == 2 {
			url = path.URL()
		}
		a := newAdapter(t, redisadapter.Options{URL: url, Sharded: sharded})
		a.Hurry(steady)
		servers = append(servers, realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Unlimited, o.Limits.SocketsPerUser, o.Limits.RefuseExtraSockets = false, limit, refuse
			o.Cluster.Adapter, o.Logger = a, quiet
			if i > 0 {
				first := servers[0]
				o.Tokens, o.Users, o.Sessions, o.Trips, o.Parties = first.Tokens, first.Users, first.Sessions, first.Trips, first.Parties
			}
		}))
	}
	return servers, path
}

func connected(clients []*realtimetest.Client) (n int) {
	for _, c := range clients {
		if c.Connected() {
			n++
		}
	}
	return n
}

// TestServers_SocketsPerUser: sockets that connect one after the other, sockets that connect at the
// same time, and a node that is no longer there.
func TestServers_SocketsPerUser(t *testing.T) {
	t.Parallel()
	for _, sharded := range []bool{false, true} {
		for _, refuse := range []bool{false, true} {
			t.Run(fmt.Sprint("sharded ", sharded, ", refuse ", refuse), func(t *testing.T) {
				t.Parallel()
				const limit = 3
				servers, path := limitedServers(t, sharded, refuse, limit)
				dial := func(node int, user string) *realtimetest.Client {
					c, err := servers[node].Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(servers[0].Login(user, realtime.UserDriver)))
					if err != nil {
						require.True(t, refuse, "a socket is refused: %v", err)
						return nil
					}
					return c
				}
				var clients []*realtimetest.Client
				for i := range 2 * limit { // the nodes need not know of each other's sockets yet
					if c := dial(i%3, "d1"); c != nil {
						clients = append(clients, c)
					}
				}
				stay := clients[len(clients)-limit:]
				if refuse {
					stay = clients[:limit]
				}
				testkit.Eventually(t, "the oldest end, or the newest", func() bool { return connected(stay) == limit && connected(clients) == limit })

				var mu sync.Mutex
				var atOnce [3][]*realtimetest.Client
				var dialing sync.WaitGroup
				for i := range 3 * limit {
					dialing.Go(func() {
						if c := dial(i%3, "d2"); c != nil {
							mu.Lock()
							defer mu.Unlock()
							atOnce[i%3] = append(atOnce[i%3], c)
						}
					})
				}
				dialing.Wait()
				all := slices.Concat(atOnce[:]...)
				testkit.Eventually(t, "as many as the limit remain", func() bool { return connected(all) == limit })
				time.Sleep(300 * time.Millisecond) // nobody counts any more
				require.Equal(t, limit, connected(all))

				path.Refuse(true) // of the third node nothing arrives any more, as if it had died
				others := func() []*realtimetest.Client { return slices.Concat(atOnce[:2]...) }
				for try := range limit { // the sockets of the third node do not count
					var c *realtimetest.Client
					testkit.Eventually(t, "a socket is admitted", func() bool {
						if connected(others()) == limit && refuse {
							return true
						}
						c = dial(try%2, "d2")
						return c != nil
					})
					if c != nil {
						atOnce[try%2] = append(atOnce[try%2], c)
					}
				}
				testkit.Eventually(t, "the limit holds on the nodes that are left", func() bool { return connected(others()) == limit })
				path.Refuse(false)
				all = slices.Concat(atOnce[:]...)
				testkit.Eventually(t, "the limit holds when the node is back", func() bool { return connected(all) == limit })
			})
		}
	}
}
