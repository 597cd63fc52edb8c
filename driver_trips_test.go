// A driver is available again after a trip, and the driver's phone knows.

package realtime_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// onTrip makes a driver available and sets the trip, as the driver's app does, and skips the
// events of that.
func onTrip(t *testing.T, driver, admin *realtimetest.Client, trip string) {
	t.Helper()
	require.Contains(t, ackOf(t, driver, "driver:status:update", `{"isOnline":true}`), `"ok":true`)
	require.Contains(t, ackOf(t, driver, "driver:trip:set", `{"currentTripId":"`+trip+`"}`), `"ok":true`)
	for range 2 {
		realtimetest.Expect(t, driver, realtime.EventDriverAvailability)
		realtimetest.Expect(t, admin, realtime.EventAdminDriverAvailability)
	}
	realtimetest.Expect(t, driver, realtime.EventDriverTrip)
	realtimetest.Expect(t, admin, realtime.EventAdminDriverTrip)
}

func TestMemoryDrivers_DomainEventEndsTheTrip(t *testing.T) {
	const own, watched = "driver:trip:update driver:availability:update", "admin:driver:trip:update admin:driver:availability:update"
	tests := []struct {
		name, event string
		end         realtime.DomainEvent
	}{
		{"completed", "trip:completed", realtime.TripCompleted{TripID: "t1", FareTotal: 1, Currency: "CUP"}},
		{"completed, driver named", "trip:completed", realtime.TripCompleted{TripID: "t1", DriverID: "d1", FareTotal: 1, Currency: "CUP"}},
		{"cancelled", "trip:cancelled", realtime.TripCancelled{TripID: "t1", CancelledBy: realtime.CancelledByPassenger}},
		{"assignment cancelled", "trip:assignment:cancelled", realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "a1", DriverID: "d1"}},
		{"assignment expired", "trip:assignment:expired", realtime.AssignmentExpired{TripID: "t1", AssignmentID: "a1", DriverID: "d1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				// A type that embeds MemoryDrivers has its rules too.
				srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Drivers = struct{ *realtime.MemoryDrivers }{realtime.NewMemoryDrivers()} })
				driver, phone, other := srv.Driver(t, "d1"), srv.Driver(t, "d1"), srv.Driver(t, "d2")
				passenger, admin := srv.Passenger(t, "p1"), srv.Admin(t, "a1")
				srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1", AssignmentID: "a1"})
				onTrip(t, driver, admin, "t1")
				clients := map[string]*realtimetest.Client{"driver": driver, "phone": phone, "other": other, "passenger": passenger, "admin": admin}
				got := realtimetest.AudienceOf(t, clients, func() { srv.Publish(t, tt.end) }).Events()
				require.Equal(t, tt.event+" "+own, strings.Join(got["driver"], " "))
				require.Equal(t, got["driver"], got["phone"])
				require.Equal(t, tt.event+" "+watched, strings.Join(got["admin"], " "))
				require.Empty(t, got["other"])
				require.LessOrEqual(t, len(got["passenger"]), 1)

				trip := realtimetest.Expect(t, driver, realtime.EventDriverTrip)
				require.Equal(t, realtime.DriverTrip{DriverID: "d1", IsAvailableForTrips: true}, trip.DriverTrip)
				require.Equal(t, trip, realtimetest.Expect(t, admin, realtime.EventAdminDriverTrip))
				free := realtimetest.Expect(t, driver, realtime.EventDriverAvailability)
				require.Equal(t, "online=true available=true reason=", status(free.Availability))
				require.NotEqual(t, trip.EventID, free.EventID)
				require.Equal(t, free, realtimetest.Expect(t, admin, realtime.EventAdminDriverAvailability))

				// The next trip is the driver's own: an event of the former one, late or again, ends nothing.
				onTrip(t, driver, admin, "t2")
				srv.Publish(t, tt.end)
				realtimetest.ExpectNone(t, driver, realtime.EventDriverTrip, realtime.EventDriverAvailability)
			})
		})
	}
}

// Events that end no trip of the driver's change nothing.
func TestMemoryDrivers_DomainEventsOfOthers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver, admin := srv.Driver(t, "d1"), srv.Admin(t, "a1")
		assigned := realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1", AssignmentID: "a2"}
		srv.Publish(t, assigned)
		onTrip(t, driver, admin, "t1")
		for _, e := range []realtime.DomainEvent{
			realtime.AssignmentExpired{TripID: "t1", AssignmentID: "a1", DriverID: "d1", At: assigned.At}, // an earlier offer of the same trip
			realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "a3", DriverID: "d2"},                // another driver's
			realtime.TripCompleted{TripID: "t9", PassengerID: "p9", DriverID: "d1", FareTotal: 1, Currency: "CUP"},
		} {
			srv.Publish(t, e)
			realtimetest.ExpectNone(t, driver, realtime.EventDriverTrip, realtime.EventDriverAvailability)
		}
		srv.Publish(t, realtime.TripCompleted{TripID: "t1", FareTotal: 1, Currency: "CUP"})
		require.True(t, realtimetest.Expect(t, driver, realtime.EventDriverAvailability).IsAvailableForTrips)
	})
}

// ownDrivers is a DriverService of the host's: the server knows none of its rows.
type ownDrivers struct {
	realtime.DriverService
	calls *atomic.Int32
}

func (d ownDrivers) SetTrip(_ context.Context, driverID, tripID string) (realtime.Availability, error) {
	d.calls.Add(1)
	return realtime.Availability{DriverID: driverID, CurrentTripID: &tripID, IsOnline: true, AvailabilityReason: realtime.ReasonOnTrip}, nil
}

func TestDriverTripSet_OfAHost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		own := ownDrivers{realtime.NewMemoryDrivers(), new(atomic.Int32)}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Drivers = own })
		driver := srv.Driver(t, "d1")
		for range 2 { // whether it has changed is not known
			require.Contains(t, ackOf(t, driver, "driver:trip:set", `{"currentTripId":"t1"}`), `"ok":true`)
			require.Equal(t, "online=true available=false reason=ON_TRIP trip=t1", status(realtimetest.Expect(t, driver, realtime.EventDriverAvailability).Availability))
			realtimetest.Expect(t, driver, realtime.EventDriverTrip)
		}
		srv.Publish(t, realtime.TripCompleted{TripID: "t1", PassengerID: "p1", DriverID: "d1", FareTotal: 1, Currency: "CUP"})
		realtimetest.Expect(t, driver, realtime.EventTripCompleted)
		realtimetest.ExpectNone(t, driver)
		require.EqualValues(t, 2, own.calls.Load(), "the host ends its trips itself")
	})
}
