// Trips that other nodes remember: with Options.Trips nobody joins the room of a trip that is over.

package realtime_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// The end of t1 is known to no node any more, and t2 runs. A node that has missed both learns of them from another one.
func TestLearnedTrips(t *testing.T) {
	t.Parallel()
	for name, batched := range map[string]bool{"one lookup for many": true, "a lookup for each": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				lookup := runningTrips{"p2": {"t2"}, "d2": {"t2"}}
				hub := realtimetest.NewHub()
				adapter := hub.Node()
				configure := func(a *realtimetest.HubNode, o *realtime.Options) {
					o.Cluster.Adapter, o.Trips = a, lookup
					if batched {
						o.Trips = manyRunningTrips{lookup}
					}
				}
				knows := realtimetest.NewServer(t, func(o *realtime.Options) { configure(hub.Node(), o) })
				missed := realtimetest.NewServer(t, func(o *realtime.Options) {
					configure(adapter, o)
					o.Tokens, o.Users, o.Sessions = knows.Tokens, knows.Users, knows.Sessions
				})
				former, rider := missed.Passenger(t, "p1"), missed.Passenger(t, "p2")
				missed.Driver(t, "d1")
				missed.Passenger(t, "p4")
				missed.Driver(t, "d2")
				adapter.Cut()
				at := time.Now().Add(-time.Minute)
				knows.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1", At: at})
				knows.Publish(t, realtime.DriverAssigned{TripID: "t2", PassengerID: "p2", DriverID: "d2", At: at})
				knows.Publish(t, realtime.DriverAssigned{TripID: "t4", PassengerID: "p4", DriverID: "d4", At: time.Now()}) // the lookup may not know it yet
				adapter.Heal()
				require.Eventually(t, func() bool { return len(usersInTripRoom(t, missed.Realtime.Passengers(), "t4")) == 1 }, realtimetest.Timeout, time.Millisecond)
				require.NoError(t, hub.Wait(t.Context())) // the other node has answered
				require.Eventually(t, func() bool {
					return len(usersInTripRoom(t, missed.Realtime.Drivers(), "t2")) == 1 && len(usersInTripRoom(t, missed.Realtime.Passengers(), "t2")) == 1
				}, realtimetest.Timeout, time.Millisecond)
				knows.Publish(t, realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{DriverID: "d1", LastLocation: realtime.Position{Lat: 1, Lng: 2}, LastLocationTimestamp: realtime.Time{Time: time.Now()}}})
				knows.Publish(t, realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{DriverID: "d2", LastLocation: realtime.Position{Lat: 1, Lng: 2}, LastLocationTimestamp: realtime.Time{Time: time.Now()}}})
				realtimetest.Expect(t, rider, realtime.EventTripDriverLocation)
				requireInTripRoom(t, missed, "t1", false, false)
				// One who connects now does not join it either.
				later := missed.Passenger(t, "p1")
				requireInTripRoom(t, missed, "t1", false, false)
				for _, c := range []*realtimetest.Client{former, later} {
					realtimetest.ExpectNone(t, c, realtime.EventTripDriverLocation)
				}
				// An event that happens now counts at once.
				knows.Publish(t, realtime.DriverAssigned{TripID: "t3", PassengerID: "p1", DriverID: "d1", At: time.Now()})
				require.Eventually(t, func() bool { return len(usersInTripRoom(t, missed.Realtime.Passengers(), "t3")) == 2 }, realtimetest.Timeout, time.Millisecond)
			})
		})
	}
}

// runningTrips has the trips of each user.
type runningTrips map[string][]string

func (r runningTrips) ActiveTrips(_ context.Context, userID string) ([]string, error) {
	return r[userID], nil
}

type manyRunningTrips struct{ runningTrips }

func (m manyRunningTrips) ActiveTripsOf(context.Context, []string) (map[string][]string, error) {
	return m.runningTrips, nil
}
