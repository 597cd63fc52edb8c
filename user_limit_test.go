// Limits.SocketsPerUser, counted on all nodes.

package realtime_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

func withUserLimit(limit int, refuse bool) func(o *realtime.Options) {
	return func(o *realtime.Options) {
		o.Unlimited, o.Limits.SocketsPerUser, o.Limits.RefuseExtraSockets = false, limit, refuse
	}
}

// The oldest socket of the user is disconnected, on whatever node it is.
func TestLimits_SocketsPerUserOnAllNodes(t *testing.T) {
	for _, n := range []int{2, 3} {
		t.Run(fmt.Sprint(n, " nodes"), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				const limit = 4
				nodes := realtimetest.NewCluster(t, n, withUserLimit(limit, false))
				other := nodes[0].Driver(t, "d2")
				var clients []*realtimetest.Client
				for i := range 3 * limit {
					clients = append(clients, nodes[i%n].Driver(t, "d1"))
					time.Sleep(time.Second)
					synctest.Wait()
					for j, c := range clients {
						require.Equal(t, j > i-limit, c.Connected(), "socket %d after %d", j, i)
					}
				}
				require.Equal(t, realtimetest.ReasonServer, clients[0].Disconnected(t), "it stays away")
				require.True(t, other.Connected())
			})
		})
	}
}

// Sockets that connect to all nodes at once, before these know of each other's, are counted
// too.
func TestLimits_SocketsPerUserAtOnce(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		t.Run(fmt.Sprint("refuse ", refuse), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				const limit = 3
				nodes := realtimetest.NewCluster(t, 3, withUserLimit(limit, refuse))
				var clients []*realtimetest.Client
				for i := range 3 * limit {
					clients = append(clients, nodes[i/limit].Driver(t, "d1"))
				}
				soon()
				connected := 0
				for _, c := range clients {
					if c.Connected() {
						connected++
					}
				}
				require.Equal(t, limit, connected)
			})
		})
	}
}

func TestLimits_RefuseExtraSocketsOnAllNodes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 3, withUserLimit(2, true))
		first := nodes[0].Driver(t, "d1")
		time.Sleep(time.Second)
		second := nodes[1].Driver(t, "d1")
		time.Sleep(time.Second)
		for _, srv := range nodes {
			_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(srv.Login("d1", realtime.UserDriver)))
			requireRefused(t, err, realtime.CodeRateLimited, "Too many, try again later")
		}
		first.Close()
		time.Sleep(time.Second)
		third := nodes[2].Driver(t, "d1")
		soon()
		require.True(t, second.Connected())
		require.True(t, third.Connected())
	})
}

// A socket whose handshake takes long is not refused with a code that logs its user out. Once it
// has connected it ends as any other, if it is beyond the limit.
func TestLimits_SocketsPerUserDuringAHandshake(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		t.Run(fmt.Sprint("refuse ", refuse), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				slow := &realtimetest.Trips{}
				started := 0
				nodes := realtimetest.NewCluster(t, 3, withUserLimit(2, refuse), func(o *realtime.Options) {
					o.Trips = nil
					if started++; started == 1 {
						o.Trips = slow
					}
				})
				token := realtimetest.Token(nodes[0].Login("d1", realtime.UserDriver))
				entered, release := slow.Block()
				client, result := (*realtimetest.Client)(nil), make(chan error)
				connect := func() {
					go func() {
						var err error
						client, err = nodes[0].Dial(t.Context(), realtime.NamespaceDrivers, token)
						result <- err
					}()
					<-entered
				}
				if !refuse { // the oldest is disconnected
					connect()
					time.Sleep(time.Millisecond)
				}
				others := all(nodes[1].Driver(t, "d1"), nodes[2].Driver(t, "d1"))
				if refuse { // the connection of the newest is closed
					time.Sleep(time.Millisecond)
					connect()
				}
				time.Sleep(500 * time.Millisecond) // the other nodes learn of each other's sockets, and count
				release()
				require.NoError(t, <-result)
				soon()
				if refuse { // its client tries again
					require.Contains(t, endOfTransport, client.Disconnected(t))
				} else {
					require.Equal(t, realtimetest.ReasonServer, client.Disconnected(t))
				}
				for _, c := range others {
					require.True(t, c.Connected())
				}
			})
		})
	}
}

// The other nodes are asked only about users whom one of them has too.
func TestLimits_SocketsPerUserAsksSeldom(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var requests atomic.Int64
		nodes := realtimetest.NewCluster(t, 2, withUserLimit(3, false), func(o *realtime.Options) {
			o.Cluster.Adapter = countingAdapter{o.Cluster.Adapter, &requests}
		})
		for i := range 50 {
			nodes[i%2].Driver(t, fmt.Sprint("d", i))
			nodes[i%2].Driver(t, fmt.Sprint("d", i))
		}
		soon()
		require.Zero(t, requests.Load())
		for i := range 50 {
			nodes[(i+1)%2].Driver(t, fmt.Sprint("d", i))
		}
		soon()
		require.NotZero(t, requests.Load())
		require.Less(t, requests.Load(), int64(10), "many users in one request")
	})
}

// A node that does not answer keeps nobody from connecting.
func TestLimits_SocketsPerUserWithoutANode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newGapSite(t, withUserLimit(1, true))
		s.b.Driver(t, "d1")
		time.Sleep(time.Second)
		s.cut.Cut()
		s.a.Driver(t, "d1")
		synctest.Wait()
	})
}
