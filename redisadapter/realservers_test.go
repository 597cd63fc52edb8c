//go:build e2e

// Servers over a real redis-server that is killed and restarted: each finds out, and repairs
// what it has missed.

package redisadapter_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
)

// inTripRoom reports whether a server has one socket in a trip's room, in a namespace.
func inTripRoom(t *testing.T, ns *realtime.Namespace, trip string) bool {
	t.Helper()
	sockets, err := ns.To(realtime.TripRoom(trip)).Local().Sockets(t.Context())
	require.NoError(t, err)
	return len(sockets) == 1
}

func TestRealRedis_ServersRepairTheirState(t *testing.T) {
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			r := redistest.StartProcess(t)
			var servers []*realtimetest.Server
			for range 2 {
				adapter := newAdapter(t, redisadapter.Options{URL: r.URL(), Sharded: protocol == "sharded", Logger: slog.New(slog.DiscardHandler)})
				servers = append(servers, realtimetest.NewServer(t, func(o *realtime.Options) {
					o.Cluster.Adapter, o.Trips, o.Timeouts.SweepInterval = adapter, nil, -1
					if len(servers) > 0 {
						o.Tokens, o.Users, o.Sessions = servers[0].Tokens, servers[0].Users, servers[0].Sessions
					}
				}))
			}
			a, b := servers[0], servers[1]
			revoked, driver := b.Driver(t, "d1"), b.Driver(t, "d2")
			b.Passenger(t, "p2")
			b.Passenger(t, "p3")
			a.Publish(t, realtime.DriverAssigned{TripID: "ends", PassengerID: "p3", DriverID: "d2"})
			testkit.Eventually(t, "the trip's people are in its room", func() bool {
				return inTripRoom(t, b.Realtime.Drivers(), "ends") && inTripRoom(t, b.Realtime.Passengers(), "ends")
			})
			healthy := func() bool { return a.Realtime.Check(t.Context()) == nil && b.Realtime.Check(t.Context()) == nil }
			require.True(t, healthy())

			r.Kill()
			testkit.Eventually(t, "health is red", func() bool { return a.Realtime.Check(t.Context()) != nil && b.Realtime.Check(t.Context()) != nil })
			a.Sessions.Revoke(realtimetest.SessionID("d1"))
			a.Publish(t, realtime.SessionRevoked{SessionID: realtimetest.SessionID("d1"), UserID: "d1"})
			a.Publish(t, realtime.TripCompleted{TripID: "ends", Currency: "CUP"})
			a.Publish(t, realtime.DriverAssigned{TripID: "begins", PassengerID: "p2", DriverID: "d2"})
			require.True(t, revoked.Connected(), "the other node cannot know")
			require.True(t, inTripRoom(t, b.Realtime.Drivers(), "ends"))

			require.NoError(t, r.Start())
			process, restarted := redistest.StartOwnPulse(t), time.Now()
			testkit.Eventually(t, "health is green", healthy)
			realtimetest.Expect(t, revoked, realtime.EventSessionRevoked)
			testkit.Eventually(t, "everybody is where they belong", func() bool {
				return !revoked.Connected() && inTripRoom(t, b.Realtime.Drivers(), "begins") && inTripRoom(t, b.Realtime.Passengers(), "begins") &&
					!inTripRoom(t, b.Realtime.Drivers(), "ends") && !inTripRoom(t, b.Realtime.Passengers(), "ends")
			})
			process.InTime(t, restarted, 10*time.Second, "the servers repair their state")
			require.True(t, driver.Connected())
		})
	}
}
