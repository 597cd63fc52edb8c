// Whether a node knows all others, and what it publishes then.

package redisadapter_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
)

// nodeSubscribes subscribes to a namespace's requests, as a Node server does.
func nodeSubscribes(t *testing.T, s *redistest.Server, channel string, sharded bool) (end func()) {
	t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Addr()}, DisableCache: true, ForceSingleClient: true})
	require.NoError(t, err)
	conn, cancel := client.Dedicate()
	conn.SetPubSubHooks(rueidis.PubSubHooks{OnMessage: func(rueidis.PubSubMessage) {}})
	cmd := conn.B().Subscribe().Channel(channel).Build()
	if sharded {
		cmd = conn.B().Ssubscribe().Channel(channel).Build()
	}
	require.NoError(t, conn.Do(t.Context(), cmd).Error())
	return func() {
		conn.Close()
		cancel()
		client.Close()
	}
}

func TestAdapter_OnlyPeers(t *testing.T) {
	t.Parallel()
	for protocol, change := range bothProtocol {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			channel := "socket.io-request#" + ns + "#"
			if protocol == "sharded" {
				channel = "socket.io#" + ns + "#"
			}
			a := startAt(t, s, quick, change)
			eventually := func(what string, only bool, of ...*peer) {
				t.Helper()
				for _, p := range of {
					testkit.Eventually(t, what, func() bool { return p.node.onlyPeers() == only })
				}
			}
			eventually("a node that is alone", true, a)
			b := startAt(t, s, quick, change)
			eventually("two nodes", true, a, b)
			require.Len(t, b.Peers(), 1, "it says so when it knows the other")
			end := nodeSubscribes(t, s, channel, protocol == "sharded")
			eventually("a Node server", false, a, b)
			end()
			eventually("the Node server has left", true, a, b)
			// A process that has the state channel but sends no heartbeat, like a node of an incompatible version.
			one := nodeSubscribes(t, s, channel, protocol == "sharded")
			two := nodeSubscribes(t, s, redisadapter.StateChannel("socket.io", ns), protocol == "sharded")
			eventually("an unknown Go node", false, a, b)
			one()
			two()
			eventually("it has left", true, a, b)
			b.close(t)
			eventually("a is alone again", true, a)
			s.Freeze(true)
			eventually("Redis does not answer", false, a)
			s.Freeze(false)
			eventually("it answers again", true, a)
		})
	}
}

// TestServers_PositionsCrossOnlyToReceivers: servers with clients over Redis. What is published is read
// from Redis.
func TestServers_PositionsCrossOnlyToReceivers(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"classic", "sharded"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			server := func() *realtimetest.Server {
				return realtimetest.NewServer(t, func(o *realtime.Options) {
					a := newAdapter(t, redisadapter.Options{URL: s.URL(), Sharded: protocol == "sharded"})
					a.Hurry(quick)
					o.Cluster.Adapter = a
					o.Logger = slog.New(slog.DiscardHandler)
				})
			}
			one, two := server(), server()
			driver := one.Driver(t, "1")
			ping := func() {
				t.Helper()
				in := realtime.LocationPing{Position: &realtime.Position{Lat: 23.1, Lng: -82.4}}
				_, err := realtimetest.Call(t.Context(), driver, realtime.DriverLocationPing, in)
				require.NoError(t, err)
				realtimetest.Expect(t, driver, realtime.EventDriverLocation)
			}
			// published returns how many messages of positions cross Redis for a ping. A message that
			// always crosses is sent after the ping and awaited, because the nodes publish in order.
			published := func() (toDriver, toAdmins int) {
				t.Helper()
				before := len(s.Published())
				ping()
				require.NoError(t, one.Realtime.Admin().To(realtime.AdminAllRoom).EmitRaw("test:after", realtime.Raw{}))
				arrived := false
				testkit.Eventually(t, "the next message", func() bool {
					toDriver, toAdmins = 0, 0
					for _, m := range s.Published()[before:] {
						switch {
						case strings.Contains(m.Text, "admin:driver:location:update"):
							toAdmins++
						case strings.Contains(m.Text, "driver:location:update"):
							toDriver++
						case strings.Contains(m.Text, "test:after"):
							arrived = true
						}
					}
					return arrived
				})
				return toDriver, toAdmins
			}
			until := func(what string, toDriver, toAdmins int) {
				t.Helper()
				testkit.Eventually(t, what, func() bool {
					d, a := published()
					time.Sleep(20 * time.Millisecond)
					return d == toDriver && a == toAdmins
				})
			}
			until("no receiver elsewhere", 0, 0)
			admin := two.Admin(t, "a1")
			until("an admin on the other node", 0, 1)
			received := func(event string) (n int) {
				for _, r := range admin.Received() {
					if r.Event == event {
						n++
					}
				}
				return n
			}
			positions, markers := received("admin:driver:location:update"), received("test:after")
			published()
			testkit.Eventually(t, "the next message arrives", func() bool { return received("test:after") > markers })
			require.Equal(t, positions+1, received("admin:driver:location:update"))
			phone := two.Driver(t, "1")
			until("the driver's phone on the other node", 1, 1)
			realtimetest.Expect(t, phone, realtime.EventDriverLocation)
			phone.Close()
			admin.Close()
			until("they have left", 0, 0)
		})
	}
}
