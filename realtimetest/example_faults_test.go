// Tests of a host, as docs/testing.md shows them: who receives an event, services that fail, and
// several nodes.

package realtimetest_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// Who receives an event, and that nobody else does.
func TestExample_Audience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		clients := map[string]*realtimetest.Client{
			"driver": srv.Driver(t, "d1"), "passenger": srv.Passenger(t, "p1"), "somebody": srv.Passenger(t, "p2"), "admin": srv.Admin(t, "a1"),
		}
		got := realtimetest.AudienceOf(t, clients, func() {
			srv.Publish(t, realtime.TripStarted{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		})
		require.Equal(t, map[string][]string{
			"driver": {"trip:started"}, "passenger": {"trip:started"}, "admin": {"trip:started"},
		}, got.Events())
	})
}

// While the database is away nobody connects and nobody is logged out.
func TestExample_DatabaseIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver := srv.Driver(t, "d1")
		srv.Users.Fail(errors.New("connection refused"))

		_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(srv.Login("d2", realtime.UserDriver)))
		require.Error(t, err)        // the connection was closed: the app tries again by itself
		time.Sleep(10 * time.Minute) // in synctest, that takes no time
		require.True(t, driver.Connected())

		srv.Users.Fail(nil)
		srv.Driver(t, "d2")
	})
}

// An event that one node publishes reaches a client of another one.
func TestExample_TwoNodes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 2)
		driver := nodes[1].Driver(t, "d1")
		nodes[0].Publish(t, realtime.TripStarted{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		started := realtimetest.Expect(t, driver, realtime.EventTripStarted)
		require.Equal(t, "t1", started.TripID)
	})
}
