// AudienceOf, in a bubble and in real time.

package realtimetest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
)

func TestAudienceOf(t *testing.T) {
	check := func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		clients := map[string]*realtimetest.Client{
			"phone": srv.Passenger(t, "p1"), "tablet": srv.Passenger(t, "p1", realtimetest.Session("s2")), "other": srv.Passenger(t, "p2"), "admin": srv.Admin(t, "a1"),
		}
		srv.Publish(t, realtime.TripRequested{TripID: "t0", PassengerID: "p1"}) // before
		got := realtimetest.AudienceOf(t, clients, func() {
			srv.Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
			srv.Publish(t, realtime.NoDriversFound{TripID: "t1", PassengerID: "p1"})
		})
		events := []string{"trip:requested", "trip:no_drivers_found"}
		require.Equal(t, map[string][]string{"phone": events, "tablet": events, "admin": events}, got.Events())
		require.Contains(t, string(got["phone"][0].Args[0]), `"tripId":"t1"`)
		realtimetest.Expect(t, clients["phone"], realtime.EventNoDriversFound)
		require.Empty(t, realtimetest.AudienceOf(t, clients, func() {}))
	}
	t.Run("in a bubble", func(t *testing.T) { testkit.Bubble(t, check) })
	t.Run("in real time", check)
}
