// Environments that share a Redis: each has a Key of its own.

package redisadapter_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
)

// environment is two servers with one Key, each with a client of the same driver.
type environment struct {
	servers  [2]*realtimetest.Server
	adapters [2]*redisadapter.Adapter
	clients  [2]*realtimetest.Client
}

// startEnvironment starts two servers with those URLs of Redis.
func startEnvironment(t *testing.T, urls [2]string, key string, sharded bool) *environment {
	t.Helper()
	e := &environment{}
	for i, url := range urls {
		e.adapters[i] = newAdapter(t, redisadapter.Options{URL: url, Key: key, Sharded: sharded})
		e.servers[i] = realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Cluster.Adapter = e.adapters[i]
			if i > 0 {
				o.Tokens, o.Users, o.Sessions = e.servers[0].Tokens, e.servers[0].Users, e.servers[0].Sessions
			}
		})
		e.clients[i] = e.servers[i].Driver(t, "1").Within(patience)
	}
	testkit.Eventually(t, "the servers know each other", func() bool { return len(e.adapters[0].Peers()) > 0 && len(e.adapters[1].Peers()) > 0 })
	return e
}

// crosses emits from each server, and waits until both clients have received it.
func (e *environment) crosses(t *testing.T, event string) {
	t.Helper()
	for _, s := range e.servers {
		require.NoError(t, s.Realtime.Drivers().To(realtime.DriverRoom("1")).EmitRaw(event, raw()))
		require.NoError(t, s.Realtime.Drivers().All().EmitRaw(event+":all", raw()))
		for _, c := range e.clients {
			for _, name := range []string{event, event + ":all"} {
				_, err := c.NextRaw(t.Context(), name)
				require.NoError(t, err, name)
			}
		}
	}
}

// twoKeysExchangeNothing starts two environments, the Key of one of which begins with that of the
// other, and checks that neither hears, counts or changes what the other one has.
func twoKeysExchangeNothing(t *testing.T, url string, sharded bool) {
	t.Helper()
	shop := startEnvironment(t, [2]string{url, url}, "shop", sharded)
	shop2 := startEnvironment(t, [2]string{url, url}, "shop2", sharded)
	// What the other environment emits first would arrive before what the own one emits then.
	shop.crosses(t, "shop")
	shop2.crosses(t, "shop2")
	shop.crosses(t, "shop:again")
	for e, events := range map[*environment][]string{shop: {"shop", "shop:all", "shop:again", "shop:again:all"}, shop2: {"shop2", "shop2:all"}} {
		for i, c := range e.clients {
			for _, r := range c.Received() {
				require.Contains(t, append(events, realtime.EventHello.Name()), r.Event)
			}
			require.Len(t, e.adapters[i].Peers(), 1)
			sockets, err := e.servers[i].Realtime.Drivers().All().Sockets(t.Context())
			require.NoError(t, err)
			require.Len(t, sockets, 2)
		}
	}
	shop.servers[0].Sessions.Revoke(realtimetest.SessionID("1"))
	shop.servers[0].Publish(t, realtime.SessionRevoked{SessionID: realtimetest.SessionID("1"), UserID: "1"})
	for _, c := range shop.clients {
		require.Equal(t, realtimetest.ReasonServer, c.Disconnected(t))
	}
	shop2.crosses(t, "shop2:again")
}

// TestServers_TwoKeys: staging does not hear production on the same Redis.
func TestServers_TwoKeys(t *testing.T) {
	t.Parallel()
	for protocol := range bothProtocol {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			twoKeysExchangeNothing(t, startRedis(t).URL(), protocol == "sharded")
		})
	}
}
