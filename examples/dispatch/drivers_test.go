// The rules of drivers, compared with the library's.

package main

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// A random sequence of changes has the same results here and in MemoryDrivers.
func TestStore_DriversLikeMemoryDrivers(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s *store) {
		want := realtime.NewMemoryDrivers()
		random := rand.New(rand.NewPCG(1, 2))
		maybe := func() *bool {
			return []*bool{nil, new(true), new(false)}[random.IntN(3)]
		}
		reasons := []*realtime.AvailabilityReason{
			nil, nil, new(realtime.AvailabilityReason("")), new(realtime.ReasonOffline), new(realtime.ReasonOnTrip), new(realtime.ReasonUnavailable),
		}
		var trip string
		refused := 0
		for range 500 {
			var a, b realtime.Availability
			var errA, errB error
			switch random.IntN(4) {
			case 0, 1:
				in := realtime.StatusUpdate{IsOnline: maybe(), IsAvailableForTrips: maybe(), AvailabilityReason: reasons[random.IntN(len(reasons))]}
				a, errA = s.UpdateStatus(t.Context(), diego.ID, in)
				b, errB = want.UpdateStatus(t.Context(), diego.ID, in)
			case 2:
				if trip == "" {
					var o *offerRow
					trip, o = offered(t, s)
					_, errA = s.accept(t.Context(), diego.ID, o.ID, "")
				} else {
					_, errA = s.cancel(t.Context(), diego, trip, "")
					trip = ""
				}
				require.NoError(t, errA)
				b, errB = want.SetTrip(t.Context(), diego.ID, trip)
				a, errA = s.snapshot(t.Context(), diego.ID)
			default:
				at := time.Now().Add(time.Duration(random.IntN(5)-2) * time.Second)
				in := realtime.LocationPing{
					Position:              &realtime.Position{Lat: random.Float64(), Lng: random.Float64()},
					LastLocationTimestamp: realtime.Time{Time: at},
				}
				outA, freshA, err := s.UpdateLocation(t.Context(), diego.ID, in)
				require.NoError(t, err)
				outB, freshB, err := want.UpdateLocation(t.Context(), diego.ID, in)
				require.NoError(t, err)
				require.Equal(t, freshB, freshA)
				require.Equal(t, outB, outA)
				a, errA = s.snapshot(t.Context(), diego.ID)
				b, _ = want.Snapshot(diego.ID)
			}
			require.Equal(t, realtime.CodeOf(errB), realtime.CodeOf(errA))
			if errB != nil {
				refused++
				continue
			}
			for _, x := range []*realtime.Availability{&a, &b} { // the clocks differ by moments
				require.WithinDuration(t, b.UpdatedAt.Time, x.UpdatedAt.Time, patience)
				x.UpdatedAt, x.LastOnlineTimestamp, x.LastLocationTimestamp = realtime.Time{}, realtime.Time{Time: x.LastOnlineTimestamp.Truncate(time.Hour)}, realtime.Time{Time: x.LastLocationTimestamp.Truncate(time.Millisecond)}
			}
			require.Equal(t, b.LastLocationTimestamp.UnixMilli(), a.LastLocationTimestamp.UnixMilli())
			require.Equal(t, b.LastOnlineTimestamp.IsZero(), a.LastOnlineTimestamp.IsZero())
			a.LastLocationTimestamp, a.LastOnlineTimestamp = b.LastLocationTimestamp, b.LastOnlineTimestamp
			require.Equal(t, b, a)
		}
		require.Positive(t, refused)
	})
}

// A driver who was available before a trip is available after it, and that is published.
func TestStore_DriverIsAvailableAfterATrip(t *testing.T) {
	t.Parallel()
	both := []string{"driver_availability.trip_updated", "driver_availability.status_updated"}
	onEach(t, func(t *testing.T, s *store) {
		_, err := s.UpdateStatus(t.Context(), diego.ID, realtime.StatusUpdate{IsOnline: new(true)})
		require.NoError(t, err)
		for _, end := range []func(trip string) error{
			func(trip string) error {
				for _, do := range []step{stepArriving, stepArrived, stepStart, stepComplete} {
					if _, err := s.advance(t.Context(), diego.ID, trip, do, 0); err != nil {
						return err
					}
				}
				return nil
			},
			func(trip string) error { _, err := s.cancel(t.Context(), paula, trip, ""); return err },
			func(trip string) error { // the app clears its trip too early
				_, err := s.SetTrip(t.Context(), diego.ID, "")
				require.NoError(t, err)
				_, err = s.cancel(t.Context(), diego, trip, "")
				return err
			},
		} {
			trip, o := offered(t, s)
			_, err = s.AcceptOffer(t.Context(), diego.ID, o.ID)
			require.NoError(t, err)
			a, err := s.snapshot(t.Context(), diego.ID)
			require.NoError(t, err)
			require.Equal(t, realtime.ReasonOnTrip, a.AvailabilityReason)
			happened := s.happened(t)
			require.Equal(t, both, happened[len(happened)-2:])

			require.NoError(t, end(trip))
			a, err = s.snapshot(t.Context(), diego.ID)
			require.NoError(t, err)
			require.True(t, a.IsAvailableForTrips)
			require.Empty(t, a.AvailabilityReason)
			happened = s.happened(t)
			require.Equal(t, both, happened[len(happened)-2:])
			members, err := s.db.lowest(t.Context(), available, 10)
			require.NoError(t, err)
			require.Equal(t, []string{diego.ID}, ids(members), "the matcher finds the driver")
		}
	})
}
