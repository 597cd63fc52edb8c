// Limits.SocketsPerUser with sockets that connect to several nodes at the same time, messages
// that take time, and nodes that die.

package realtime_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// slowAdapter delays what its node sends by up to max. It keeps the order.
type slowAdapter struct {
	*realtimetest.HubNode
	max time.Duration

	mu   sync.Mutex // guards the fields below
	rand *rand.Rand
	last chan struct{} // closed when the last message has been sent
}

func newSlowAdapter(n *realtimetest.HubNode, longest time.Duration, seed uint64) *slowAdapter {
	sent := make(chan struct{})
	close(sent)
	return &slowAdapter{HubNode: n, max: longest, rand: rand.New(rand.NewPCG(seed, 2)), last: sent}
}

// send calls f after a delay and what was sent before, and returns a channel that is closed then.
func (a *slowAdapter) send(f func()) (sent chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delay := time.Duration(a.rand.Int64N(int64(a.max)))
	before := a.last
	sent = make(chan struct{})
	a.last = sent
	go func() {
		defer close(sent)
		time.Sleep(delay)
		<-before
		f()
	}()
	return sent
}

func (a *slowAdapter) Publish(ctx context.Context, m realtime.ClusterMessage) error {
	ctx = context.WithoutCancel(ctx)
	a.send(func() { _ = a.HubNode.Publish(ctx, m) })
	return nil
}

func (a *slowAdapter) Request(ctx context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) error {
	<-a.send(func() {})
	return a.HubNode.Request(ctx, m, answer)
}

// Sockets of a few users connect to three nodes at random moments. When all is quiet each user
// has as many sockets as the limit allows, and never more; also if a node dies meanwhile, of the
// sockets on the other nodes.
func TestLimits_SocketsPerUserAtRandom(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		for _, dies := range []bool{false, true} {
			for seed := range uint64(8) {
				t.Run(fmt.Sprint("refuse ", refuse, ", a node dies ", dies, ", ", seed), func(t *testing.T) {
					inBubble(t, func(t *testing.T) { testUserLimitAtRandom(t, refuse, dies, seed) })
				})
			}
		}
	}
}

func testUserLimitAtRandom(t *testing.T, refuse, dies bool, seed uint64) {
	t.Cleanup(func() { time.Sleep(time.Second) }) // the servers are closed: what slowAdapters still hold is sent
	r := rand.New(rand.NewPCG(seed, 1))
	limit := 1 + r.IntN(3)
	hub := realtimetest.NewHub()
	var nodes []*realtimetest.Server
	var adapters []*realtimetest.HubNode
	for i := range 3 {
		node := hub.Node()
		adapters = append(adapters, node)
		nodes = append(nodes, realtimetest.NewServer(t, withUserLimit(limit, refuse), func(o *realtime.Options) {
			o.Cluster.Adapter = newSlowAdapter(node, 40*time.Millisecond, 3*seed+uint64(i))
			if i > 0 {
				first := nodes[0]
				o.Tokens, o.Users, o.Sessions, o.Trips, o.Parties = first.Tokens, first.Users, first.Sessions, first.Trips, first.Parties
			}
		}))
	}
	soon()
	const users = 3
	var mu sync.Mutex
	var clients [users][3][]*realtimetest.Client // by user and node
	var dialing sync.WaitGroup
	window := []time.Duration{time.Millisecond, 100 * time.Millisecond, 3 * time.Second}[r.IntN(3)]
	attempts := limit + 1 + r.IntN(2*limit+2)
	for user := range users {
		token := realtimetest.Token(nodes[0].Login(fmt.Sprint("d", user), realtime.UserDriver))
		for range attempts {
			at, node := time.Duration(r.Int64N(int64(window))), r.IntN(3)
			dialing.Go(func() {
				time.Sleep(at)
				c, err := nodes[node].Dial(t.Context(), realtime.NamespaceDrivers, token)
				if err != nil {
					return // refused
				}
				mu.Lock()
				defer mu.Unlock()
				clients[user][node] = append(clients[user][node], c)
			})
		}
	}
	alive := 3
	if dies {
		time.Sleep(time.Duration(r.Int64N(int64(window))))
		adapters[2].Kill()
		alive = 2
	}
	dialing.Wait()
	time.Sleep(10 * time.Second)
	for user := range users {
		connected := 0
		for _, of := range clients[user][:alive] {
			for _, c := range of {
				switch {
				case c.Connected():
					connected++
				case refuse: // it was in before the nodes knew of each other's sockets: its client tries again, and is refused
					require.Contains(t, endOfTransport, c.Disconnected(t))
				default:
					require.Equal(t, realtimetest.ReasonServer, c.Disconnected(t))
				}
			}
		}
		require.LessOrEqual(t, connected, limit, "user %d", user)
		if !dies {
			require.Equal(t, limit, connected, "user %d of %d attempts", user, attempts)
		}
	}
}

// A clock that is ahead or behind makes no new socket look old: with RefuseExtraSockets the new
// one is refused.
func TestLimits_RefuseExtraSocketsAmongConnected(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 2, withUserLimit(1, true), func(o *realtime.Options) {
			o.Cluster.Adapter = skewedAdapter{o.Cluster.Adapter, time.Hour}
		})
		first := nodes[0].Driver(t, "d1")
		time.Sleep(time.Second)
		_, err := nodes[1].Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(nodes[1].Login("d1", realtime.UserDriver)))
		requireRefused(t, err, realtime.CodeRateLimited, "Too many, try again later")
		soon()
		require.True(t, first.Connected())
	})
}

// skewedAdapter makes the sockets of the other nodes look younger, as with a clock that is ahead.
type skewedAdapter struct {
	realtime.Adapter
	by time.Duration
}

func (a skewedAdapter) Request(ctx context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) error {
	return a.Adapter.Request(ctx, m, func(r realtime.ClusterAnswer) {
		if r.Socket != nil {
			r.Socket.ConnectedAt += a.by.Microseconds()
		}
		answer(r)
	})
}
