// The rules of trips and their domain events, without a server.

package main

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

var (
	capitol = &realtime.Place{Lat: 23.1352, Lng: -82.3599}
	plaza   = &realtime.Place{Lat: 23.1131, Lng: -82.4103}
	admin   = userRow{ID: "admin-1", Type: realtime.UserAdmin}
	paula   = userRow{ID: "passenger-1", Type: realtime.UserPassenger}
	pedro   = userRow{ID: "passenger-2", Type: realtime.UserPassenger}
	diego   = userRow{ID: "driver-1", Type: realtime.UserDriver}
)

func demoStore() *store { return newStore(demoSeed(), newOutbox(slog.New(slog.DiscardHandler))) }

// happened returns the names of the events since the last call.
func (s *store) happened() (names []string) {
	for _, e := range s.events.take() {
		names = append(names, e.EventName())
	}
	return names
}

func requireCode(t *testing.T, code realtime.Code, err error) {
	t.Helper()
	var e *realtime.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code)
}

// offered returns a trip that is offered to driver-1.
func offered(t *testing.T, s *store) (tripID string, o *offer) {
	t.Helper()
	v, err := s.request(paula.ID, capitol, plaza)
	require.NoError(t, err)
	_, ok := s.assigning(v.TripID)
	require.True(t, ok)
	o = s.offerTo(v.TripID, []string{diego.ID, "driver-2"}, time.Second)
	require.NotNil(t, o)
	require.Equal(t, diego.ID, o.driverID)
	return v.TripID, o
}

func TestStore_WholeTrip(t *testing.T) {
	t.Parallel()
	s := demoStore()
	trip, o := offered(t, s)
	require.Equal(t, []string{"trip.requested", "trip.assigning.started", "trip.assignment.offered"}, s.happened())

	_, err := s.accept("driver-2", o.id, "")
	requireCode(t, realtime.CodeNotFound, err)
	_, err = s.advance(diego.ID, trip, stepArriving)
	requireCode(t, realtime.CodeForbidden, err)
	for range 2 {
		accepted, err := s.accept(diego.ID, "", trip)
		require.NoError(t, err)
		require.Equal(t, realtime.OfferAccepted{AssignmentID: o.id, TripID: trip}, accepted)
	}
	require.Equal(t, []string{"trip.assignment.accepted", "trip.driver.assigned", "driver_availability.trip_updated"}, s.happened())
	_, err = s.reject(diego.ID, o.id, "", "")
	requireCode(t, realtime.CodeConflict, err)
	trips, err := s.ActiveTrips(t.Context(), paula.ID)
	require.NoError(t, err)
	require.Equal(t, []string{trip}, trips)
	parties, err := s.FindParties(t.Context(), trip)
	require.NoError(t, err)
	require.Equal(t, realtime.TripParties{PassengerID: paula.ID, DriverID: diego.ID}, parties)

	all := []step{stepArriving, stepArrived, stepStart, stepComplete}
	events := [][]string{
		{"trip.arriving.started", "trip.driver.en_route"},
		{"trip.driver.arrived_pickup"},
		{"trip.started"},
		{"trip.completed", "driver_availability.trip_updated"},
	}
	for i, now := range all {
		for _, other := range all {
			if other != now {
				_, err := s.advance(diego.ID, trip, other)
				requireCode(t, realtime.CodeConflict, err)
			}
		}
		_, err := s.advance("driver-2", trip, now)
		requireCode(t, realtime.CodeForbidden, err)
		_, err = s.advance(diego.ID, trip, now)
		require.NoError(t, err)
		require.Equal(t, events[i], s.happened())
	}
	_, err = s.cancel(paula, trip, "")
	requireCode(t, realtime.CodeConflict, err)
	running, open := s.current(diego.ID)
	require.Nil(t, running)
	require.Nil(t, open)
	_, err = s.request(paula.ID, nil, nil)
	require.NoError(t, err, "the next trip")
}

func TestStore_Cancel(t *testing.T) {
	t.Parallel()
	for _, by := range []userRow{paula, diego, admin} {
		s := demoStore()
		trip, o := offered(t, s)
		_, err := s.accept(diego.ID, o.id, "")
		require.NoError(t, err)
		s.happened()
		_, err = s.cancel(pedro, trip, "")
		requireCode(t, realtime.CodeForbidden, err)
		v, err := s.cancel(by, trip, "changed my mind")
		require.NoError(t, err)
		require.Equal(t, realtime.TripStatusCancelled, v.Status)
		events := s.events.take()
		if by.Type == realtime.UserAdmin {
			require.Equal(t, "admin.trip.action_issued", events[0].EventName())
			events = events[1:]
		}
		require.Equal(t, realtime.TripCancelled{
			TripID: trip, PassengerID: paula.ID, DriverID: diego.ID, CancelledBy: realtime.CancelledBy(by.Type), Reason: "changed my mind",
		}, events[0])
		require.Equal(t, "driver_availability.trip_updated", events[1].EventName())
	}
}

func TestStore_CancelWithdrawsTheOffer(t *testing.T) {
	t.Parallel()
	s := demoStore()
	trip, o := offered(t, s)
	s.happened()
	_, err := s.cancel(diego, trip, "")
	requireCode(t, realtime.CodeForbidden, err)
	_, err = s.cancel(paula, trip, "")
	require.NoError(t, err)
	require.Equal(t, []string{"trip.assignment.cancelled", "trip.cancelled"}, s.happened())
	_, err = s.accept(diego.ID, o.id, "")
	requireCode(t, realtime.CodeConflict, err)
	require.Nil(t, s.offerTo(trip, []string{"driver-2"}, time.Second))
	require.Empty(t, s.happened())
}

func TestStore_DriverRules(t *testing.T) {
	t.Parallel()
	s := demoStore()
	available := realtime.StatusUpdate{IsAvailableForTrips: new(true)}
	_, err := s.UpdateStatus(t.Context(), diego.ID, available)
	require.NoError(t, err)
	trip, o := offered(t, s)
	_, err = s.SetTrip(t.Context(), diego.ID, trip)
	requireCode(t, realtime.CodeForbidden, err)
	_, err = s.AcceptOffer(t.Context(), diego.ID, o.id)
	require.NoError(t, err)
	a, err := s.SetTrip(t.Context(), diego.ID, trip)
	require.NoError(t, err)
	require.Equal(t, realtime.ReasonOnTrip, a.AvailabilityReason)
	_, err = s.SetTrip(t.Context(), diego.ID, "another")
	requireCode(t, realtime.CodeForbidden, err)
	_, err = s.SetTrip(t.Context(), diego.ID, "")
	require.NoError(t, err, "the snapshot is the driver's")
	_, err = s.UpdateStatus(t.Context(), diego.ID, available)
	requireCode(t, realtime.CodeConflict, err)
}

// matching runs a matcher in fake time over drivers at the given distances from
// the pickup, in thousandths of a degree.
func matching(t *testing.T, distances map[string]float64, connected func(string) bool, body func(s *store, tripID string)) {
	synctest.Test(t, func(t *testing.T) {
		s := demoStore()
		for id, d := range distances {
			s.addUser(userRow{ID: id, Type: realtime.UserDriver, Status: active})
			_, err := s.UpdateStatus(t.Context(), id, realtime.StatusUpdate{IsAvailableForTrips: new(true)})
			require.NoError(t, err)
			_, _, err = s.UpdateLocation(t.Context(), id, realtime.LocationPing{
				Position: &realtime.Position{Lat: capitol.Lat + d/1000, Lng: capitol.Lng},
			})
			require.NoError(t, err)
		}
		m := newMatcher(s, 5*time.Second, slog.New(slog.DiscardHandler), func(_ context.Context, id string) bool { return connected(id) })
		defer m.close()
		v, err := s.request(paula.ID, capitol, plaza)
		require.NoError(t, err)
		m.match(v.TripID)
		synctest.Wait()
		body(s, v.TripID)
	})
}

func everybody(string) bool { return true }

// openOffer returns the driver who has the open offer.
func openOffer(t *testing.T, s *store, drivers ...string) *offerView {
	t.Helper()
	var found *offerView
	for _, id := range drivers {
		if _, o := s.current(id); o != nil {
			require.Nil(t, found, "one at a time")
			found = o
		}
	}
	return found
}

func TestMatcher_OffersToOneDriverAfterAnother(t *testing.T) {
	t.Parallel()
	matching(t, map[string]float64{"far": 9, "near": 1, "middle": 4}, everybody, func(s *store, trip string) {
		_, o := s.current("near")
		require.NotNil(t, o)
		require.Equal(t, o, openOffer(t, s, "far", "near", "middle"))
		require.NoError(t, s.RejectOffer(t.Context(), "near", o.AssignmentID, "no"))
		synctest.Wait()

		_, o = s.current("middle")
		require.Equal(t, o, openOffer(t, s, "far", "near", "middle"))
		require.Equal(t, 5*time.Second, time.Until(o.ExpiresAt.Time))
		time.Sleep(5*time.Second - time.Nanosecond)
		require.NotNil(t, openOffer(t, s, "middle"))
		time.Sleep(time.Nanosecond)
		_, err := s.AcceptOffer(t.Context(), "middle", o.AssignmentID)
		requireCode(t, realtime.CodeConflict, err)
		synctest.Wait()

		_, o = s.current("far")
		got, err := s.AcceptOffer(t.Context(), "far", o.AssignmentID)
		require.NoError(t, err)
		require.Equal(t, trip, got)
		synctest.Wait()
		require.Equal(t, []string{
			"trip.requested", "trip.assigning.started",
			"trip.assignment.offered", "trip.assignment.rejected",
			"trip.assignment.offered", "trip.assignment.expired",
			"trip.assignment.offered", "trip.assignment.accepted", "trip.driver.assigned", "driver_availability.trip_updated",
		}, s.happened())
	})
}

func TestMatcher_NoDriver(t *testing.T) {
	t.Parallel()
	matching(t, nil, everybody, func(s *store, trip string) {
		require.Equal(t, []string{"trip.requested", "trip.assigning.started", "trip.no_drivers_found"}, s.happened())
		v, err := s.trip(paula, trip)
		require.NoError(t, err)
		require.Equal(t, statusNoDrivers, v.Status)
		_, err = s.request(paula.ID, nil, nil)
		require.NoError(t, err, "the passenger may try again")
	})
}

func TestMatcher_PrefersConnectedDrivers(t *testing.T) {
	t.Parallel()
	matching(t, map[string]float64{"gone": 1, "here": 8}, func(id string) bool { return id == "here" }, func(s *store, _ string) {
		require.Equal(t, openOffer(t, s, "gone", "here"), openOffer(t, s, "here"))
		time.Sleep(6 * time.Second)
		require.NotNil(t, openOffer(t, s, "gone"), "better than nobody")
	})
}

func TestMatcher_StopsWhenTheTripEnds(t *testing.T) {
	t.Parallel()
	matching(t, map[string]float64{"a": 1, "b": 2}, everybody, func(s *store, trip string) {
		s.happened()
		_, err := s.cancel(paula, trip, "")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, []string{"trip.assignment.cancelled", "trip.cancelled"}, s.happened())
		require.Nil(t, openOffer(t, s, "a", "b"))
	})
}

// A driver with an open offer gets no second one, and an inactive driver gets none.
func TestMatcher_SkipsBusyAndInactiveDrivers(t *testing.T) {
	t.Parallel()
	matching(t, map[string]float64{"a": 1}, everybody, func(s *store, _ string) {
		require.NotNil(t, openOffer(t, s, "a"))
		v, err := s.request(pedro.ID, capitol, nil)
		require.NoError(t, err)
		_, ok := s.assigning(v.TripID)
		require.True(t, ok)
		s.addUser(userRow{ID: "bad", Type: realtime.UserDriver, Status: banned})
		require.Nil(t, s.offerTo(v.TripID, []string{"a", "bad", "unknown"}, time.Second))
	})
}

// Concurrent answers to an offer have the events of one possible order.
func TestStore_ConcurrentAnswers(t *testing.T) {
	t.Parallel()
	for range 50 {
		s := demoStore()
		trip, o := offered(t, s)
		s.happened()
		done := make(chan struct{})
		for _, f := range []func(){
			func() { _, _ = s.accept(diego.ID, o.id, "") },
			func() { _, _ = s.reject(diego.ID, o.id, "", "") },
			func() { s.expire(o) },
			func() { _, _ = s.cancel(paula, trip, "") },
		} {
			go func() { f(); done <- struct{}{} }()
		}
		for range 4 {
			<-done
		}
		got := fmt.Sprint(s.happened())
		require.Contains(t, []string{
			"[trip.assignment.accepted trip.driver.assigned driver_availability.trip_updated trip.cancelled driver_availability.trip_updated]",
			"[trip.assignment.rejected trip.cancelled]",
			"[trip.assignment.expired trip.cancelled]",
			"[trip.assignment.cancelled trip.cancelled]",
		}, got)
		a, _ := s.drivers.Snapshot(diego.ID)
		require.Nil(t, a.CurrentTripID)
	}
}
