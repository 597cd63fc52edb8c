package realtimetest_test

import (
	"testing"
	"testing/synctest"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
	"github.com/stretchr/testify/require"
)

func TestSmoke(t *testing.T) {
	for name, opts := range map[string][]realtimetest.Option{"ws": nil, "polling": {realtimetest.Polling()}, "upgrade": {realtimetest.Upgrade()}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t)
				d := srv.Driver(t, "d1", opts...)
				a := srv.Admin(t, "a1", opts...)
				snap, err := realtimetest.Call(t.Context(), d, realtime.DriverStatusUpdate, realtime.StatusUpdate{IsOnline: new(true)})
				require.NoError(t, err)
				require.True(t, snap.IsOnline)
				got := realtimetest.Expect(t, a, realtime.EventAdminDriverAvailability)
				require.Equal(t, "d1", got.DriverID)
				srv.Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
				realtimetest.Expect(t, a, realtime.EventTripRequested)
				realtimetest.ExpectNone(t, d, realtime.EventTripRequested)
			})
		})
	}
}
