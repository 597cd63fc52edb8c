// The rules of trips and their domain events, without a server.

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
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

// quiet drops the log.
var quiet = slog.New(slog.DiscardHandler)

// demoStore is a store in memory with the demo's users.
func demoStore(t *testing.T) *store {
	t.Helper()
	s := newStore(newMemory(quiet), time.Hour)
	require.NoError(t, s.createSeed(t.Context(), demoSeed()))
	return s
}

// onEach runs a test on a store in memory, and on one in Redis.
func onEach(t *testing.T, body func(t *testing.T, s *store)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) { t.Parallel(); body(t, demoStore(t)) })
	t.Run("redis", func(t *testing.T) { t.Parallel(); body(t, redisStores(t, 1)[0]) })
}

// happened returns the names of the events since the last call.
func (s *store) happened(t *testing.T) (names []string) {
	t.Helper()
	if m, ok := s.db.(*memory); ok {
		for _, e := range m.events.take() {
			names = append(names, e.EventName())
		}
		return names
	}
	for _, e := range s.db.(*redisDatabase).take(t) {
		names = append(names, e.Name)
	}
	return names
}

func requireCode(t *testing.T, code realtime.Code, err error) {
	t.Helper()
	var e *realtime.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, code, e.Code)
}

// assigning starts the search for a driver.
func assigning(t *testing.T, s *store, tripID string) {
	t.Helper()
	trip, err := s.assigning(t.Context(), tripID, time.Now())
	require.NoError(t, err)
	require.NotNil(t, trip)
}

// offered returns a trip that is offered to driver-1.
func offered(t *testing.T, s *store) (tripID string, o *offerRow) {
	t.Helper()
	v, err := s.request(t.Context(), paula.ID, capitol, plaza, "")
	require.NoError(t, err)
	assigning(t, s, v.TripID)
	o, err = s.offerTo(t.Context(), v.TripID, []string{diego.ID, "driver-2"}, time.Minute)
	require.NoError(t, err)
	require.NotNil(t, o)
	require.Equal(t, diego.ID, o.DriverID)
	return v.TripID, o
}

// currentOf returns a user's running trip and open offer.
func currentOf(t *testing.T, s *store, userID string) (*tripView, *offerView) {
	t.Helper()
	trip, o, err := s.current(t.Context(), userID)
	require.NoError(t, err)
	return trip, o
}

func TestStore_WholeTrip(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s *store) {
		trip, o := offered(t, s)
		require.Equal(t, []string{"trip.requested", "trip.assigning.started", "trip.assignment.offered"}, s.happened(t))

		_, err := s.accept(t.Context(), "driver-2", o.ID, "")
		requireCode(t, realtime.CodeNotFound, err)
		_, err = s.advance(t.Context(), diego.ID, trip, stepArriving, 0)
		requireCode(t, realtime.CodeForbidden, err)
		for range 2 {
			accepted, err := s.accept(t.Context(), diego.ID, "", trip)
			require.NoError(t, err)
			require.Equal(t, realtime.OfferAccepted{AssignmentID: o.ID, TripID: trip}, accepted)
		}
		require.Equal(t, []string{"trip.assignment.accepted", "trip.driver.assigned", "driver_availability.trip_updated"}, s.happened(t))
		_, err = s.reject(t.Context(), diego.ID, o.ID, "", "")
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
					_, err := s.advance(t.Context(), diego.ID, trip, other, 0)
					requireCode(t, realtime.CodeConflict, err)
				}
			}
			_, err := s.advance(t.Context(), "driver-2", trip, now, 0)
			requireCode(t, realtime.CodeForbidden, err)
			_, err = s.advance(t.Context(), diego.ID, trip, now, 0)
			require.NoError(t, err)
			require.Equal(t, events[i], s.happened(t))
		}
		_, err = s.cancel(t.Context(), paula, trip, "")
		requireCode(t, realtime.CodeConflict, err)
		running, open := currentOf(t, s, diego.ID)
		require.Nil(t, running)
		require.Nil(t, open)
		_, err = s.request(t.Context(), paula.ID, nil, nil, "")
		require.NoError(t, err, "the next trip")
	})
}

func TestStore_Cancel(t *testing.T) {
	t.Parallel()
	for _, by := range []userRow{paula, diego, admin} {
		s := demoStore(t)
		trip, o := offered(t, s)
		_, err := s.accept(t.Context(), diego.ID, o.ID, "")
		require.NoError(t, err)
		s.happened(t)
		_, err = s.cancel(t.Context(), pedro, trip, "")
		requireCode(t, realtime.CodeForbidden, err)
		v, err := s.cancel(t.Context(), by, trip, "changed my mind")
		require.NoError(t, err)
		require.Equal(t, realtime.TripStatusCancelled, v.Status)
		events := s.db.(*memory).events.take()
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
	onEach(t, func(t *testing.T, s *store) {
		trip, o := offered(t, s)
		s.happened(t)
		_, err := s.cancel(t.Context(), diego, trip, "")
		requireCode(t, realtime.CodeForbidden, err)
		_, err = s.cancel(t.Context(), paula, trip, "")
		require.NoError(t, err)
		require.Equal(t, []string{"trip.assignment.cancelled", "trip.cancelled"}, s.happened(t))
		_, err = s.accept(t.Context(), diego.ID, o.ID, "")
		requireCode(t, realtime.CodeConflict, err)
		another, err := s.offerTo(t.Context(), trip, []string{"driver-2"}, time.Second)
		require.NoError(t, err)
		require.Nil(t, another)
		require.Empty(t, s.happened(t))
	})
}

func TestStore_DriverRules(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s *store) {
		available := realtime.StatusUpdate{IsAvailableForTrips: new(true)}
		_, err := s.UpdateStatus(t.Context(), diego.ID, available)
		require.NoError(t, err)
		trip, o := offered(t, s)
		_, err = s.SetTrip(t.Context(), diego.ID, trip)
		requireCode(t, realtime.CodeForbidden, err)
		_, err = s.AcceptOffer(t.Context(), diego.ID, o.ID)
		require.NoError(t, err)
		a, err := s.SetTrip(t.Context(), diego.ID, trip)
		require.NoError(t, err)
		require.Equal(t, realtime.ReasonOnTrip, a.AvailabilityReason)
		_, err = s.SetTrip(t.Context(), diego.ID, "another")
		requireCode(t, realtime.CodeForbidden, err)
		a, err = s.SetTrip(t.Context(), diego.ID, "")
		require.NoError(t, err, "the snapshot is the driver's")
		require.Nil(t, a.CurrentTripID)
		require.Equal(t, realtime.ReasonOnTrip, a.AvailabilityReason, "the trip runs on")
		_, err = s.UpdateStatus(t.Context(), diego.ID, available)
		requireCode(t, realtime.CodeConflict, err)
		a, err = s.UpdateStatus(t.Context(), diego.ID, realtime.StatusUpdate{IsOnline: new(true)})
		require.NoError(t, err)
		require.False(t, a.IsAvailableForTrips)
		require.Equal(t, &trip, a.CurrentTripID, "a phone that starts again")
	})
}

// matching runs a matcher in fake time over drivers at the given distances from
// the pickup, in thousandths of a degree.
func matching(t *testing.T, distances map[string]float64, connected func(string) bool, body func(s *store, tripID string)) {
	synctest.Test(t, func(t *testing.T) {
		s := demoStore(t)
		for id, d := range distances {
			addDriver(t, s, id, active)
			_, err := s.UpdateStatus(t.Context(), id, realtime.StatusUpdate{IsAvailableForTrips: new(true)})
			require.NoError(t, err)
			_, _, err = s.UpdateLocation(t.Context(), id, realtime.LocationPing{
				Position: &realtime.Position{Lat: capitol.Lat + d/1000, Lng: capitol.Lng},
			})
			require.NoError(t, err)
		}
		m := newMatcher(s, config{offerTTL: 5 * time.Second, radius: defaultRadius, maxAge: defaultMaxAge}, quiet, connectedIf(connected))
		defer m.close()
		v, err := s.request(t.Context(), paula.ID, capitol, plaza, "")
		require.NoError(t, err)
		m.match()
		synctest.Wait()
		body(s, v.TripID)
	})
}

func everybody(string) bool { return true }

func connectedIf(connected func(string) bool) func(context.Context, []string) map[string]bool {
	return func(_ context.Context, ids []string) map[string]bool {
		found := map[string]bool{}
		for _, id := range ids {
			found[id] = connected(id)
		}
		return found
	}
}

func addDriver(t *testing.T, s *store, id string, status userStatus) {
	t.Helper()
	require.NoError(t, s.createSeed(t.Context(), seed{Users: []userRow{{ID: id, Type: realtime.UserDriver, Status: status}}}))
}

// openOffer returns the driver who has the open offer.
func openOffer(t *testing.T, s *store, drivers ...string) *offerView {
	t.Helper()
	var found *offerView
	for _, id := range drivers {
		if _, o := currentOf(t, s, id); o != nil {
			require.Nil(t, found, "one at a time")
			found = o
		}
	}
	return found
}

func TestMatcher_OffersToOneDriverAfterAnother(t *testing.T) {
	t.Parallel()
	matching(t, map[string]float64{"far": 9, "near": 1, "middle": 4}, everybody, func(s *store, trip string) {
		_, o := currentOf(t, s, "near")
		require.NotNil(t, o)
		require.Equal(t, o, openOffer(t, s, "far", "near", "middle"))
		require.NoError(t, s.RejectOffer(t.Context(), "near", o.AssignmentID, "no"))
		synctest.Wait()

		_, o = currentOf(t, s, "middle")
		require.Equal(t, o, openOffer(t, s, "far", "near", "middle"))
		require.Equal(t, 5*time.Second, time.Until(o.ExpiresAt.Time))
		time.Sleep(5*time.Second - time.Nanosecond)
		require.NotNil(t, openOffer(t, s, "middle"))
		time.Sleep(time.Nanosecond)
		_, err := s.AcceptOffer(t.Context(), "middle", o.AssignmentID)
		requireCode(t, realtime.CodeConflict, err)
		synctest.Wait()

		_, o = currentOf(t, s, "far")
		got, err := s.AcceptOffer(t.Context(), "far", o.AssignmentID)
		require.NoError(t, err)
		require.Equal(t, trip, got)
		synctest.Wait()
		require.Equal(t, []string{
			"trip.requested", "trip.assigning.started",
			"trip.assignment.offered", "trip.assignment.rejected",
			"trip.assignment.offered", "trip.assignment.expired",
			"trip.assignment.offered", "trip.assignment.accepted", "trip.driver.assigned",
			"driver_availability.trip_updated", "driver_availability.status_updated",
		}, s.happened(t))
	})
}

// The next driver gets the trip as soon as the first one's devices are known not to have the offer.
func TestMatcher_DriverWhoIsNotReached(t *testing.T) {
	t.Parallel()
	matching(t, map[string]float64{"near": 1, "middle": 4}, everybody, func(s *store, _ string) {
		_, o := currentOf(t, s, "near")
		require.NotNil(t, o)
		missed := func(driver string, reason realtime.UndeliveredReason) {
			payload, err := json.Marshal(realtime.AssignmentOfferedPayload{Offer: realtime.Offer{AssignmentID: o.AssignmentID}})
			require.NoError(t, err)
			a := &app{cfg: config{allowEIO3: true}, store: s, log: quiet}
			a.unreachable(t.Context(), driver, realtime.MissedEvent{Reason: reason, Payload: payload})
			synctest.Wait()
		}
		missed("middle", realtime.UndeliveredNoDevice) // it is not theirs
		missed("near", realtime.UndeliveredNoReceipt)  // it may have an old client
		require.NotNil(t, openOffer(t, s, "near"))
		missed("near", realtime.UndeliveredNoDevice)
		_, err := s.AcceptOffer(t.Context(), "near", o.AssignmentID)
		requireCode(t, realtime.CodeConflict, err)
		_, next := currentOf(t, s, "middle")
		require.Equal(t, next, openOffer(t, s, "near", "middle"))
		require.Equal(t, 5*time.Second, time.Until(next.ExpiresAt.Time))
		missed("near", realtime.UndeliveredNoDevice)
		require.Equal(t, next, openOffer(t, s, "near", "middle"))
	})
}

func TestMatcher_NoDriver(t *testing.T) {
	t.Parallel()
	matching(t, nil, everybody, func(s *store, trip string) {
		require.Equal(t, []string{"trip.requested", "trip.assigning.started", "trip.no_drivers_found"}, s.happened(t))
		v, err := s.trip(t.Context(), paula, trip)
		require.NoError(t, err)
		require.Equal(t, statusNoDrivers, v.Status)
		_, err = s.request(t.Context(), paula.ID, nil, nil, "")
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
		s.happened(t)
		_, err := s.cancel(t.Context(), paula, trip, "")
		require.NoError(t, err)
		synctest.Wait()
		require.Equal(t, []string{"trip.assignment.cancelled", "trip.cancelled"}, s.happened(t))
		require.Nil(t, openOffer(t, s, "a", "b"))
	})
}

// A driver with an open offer gets no second one, and an inactive driver gets none.
func TestMatcher_SkipsBusyAndInactiveDrivers(t *testing.T) {
	t.Parallel()
	matching(t, map[string]float64{"a": 1}, everybody, func(s *store, _ string) {
		require.NotNil(t, openOffer(t, s, "a"))
		v, err := s.request(t.Context(), pedro.ID, capitol, nil, "")
		require.NoError(t, err)
		assigning(t, s, v.TripID)
		addDriver(t, s, "bad", banned)
		o, err := s.offerTo(t.Context(), v.TripID, []string{"a", "bad", "unknown"}, time.Second)
		require.NoError(t, err)
		require.Nil(t, o)
	})
}

// Concurrent answers to an offer, on several instances, have the events of one possible order.
func TestStore_ConcurrentAnswers(t *testing.T) {
	t.Parallel()
	answers := func(t *testing.T, instances []*store) {
		t.Helper()
		s := instances[0]
		trip, o := offered(t, s)
		s.happened(t)
		var done sync.WaitGroup
		for i, f := range []func(s *store){
			func(s *store) { _, _ = s.accept(t.Context(), diego.ID, o.ID, "") },
			func(s *store) { _, _ = s.accept(t.Context(), diego.ID, o.ID, "") }, // the driver's other phone
			func(s *store) { _, _ = s.reject(t.Context(), diego.ID, o.ID, "", "") },
			func(s *store) { _, _ = s.assigning(t.Context(), trip, o.ExpiresAt) },
			func(s *store) { _, _ = s.assigning(t.Context(), trip, o.ExpiresAt) },
			func(s *store) {
				_, err := s.cancel(t.Context(), paula, trip, "")
				if err != nil {
					t.Error(err)
				}
			},
		} {
			done.Go(func() { f(instances[i%len(instances)]) })
		}
		done.Wait()
		require.Contains(t, []string{
			"[trip.assignment.accepted trip.driver.assigned driver_availability.trip_updated trip.cancelled driver_availability.trip_updated]",
			"[trip.assignment.rejected trip.cancelled]",
			"[trip.assignment.expired trip.cancelled]",
			"[trip.assignment.cancelled trip.cancelled]",
		}, fmt.Sprint(s.happened(t)))
		a, err := s.snapshot(t.Context(), diego.ID)
		require.NoError(t, err)
		require.Nil(t, a.CurrentTripID)
		running, open := currentOf(t, s, diego.ID)
		require.Nil(t, running)
		require.Nil(t, open)
	}
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		for range 50 {
			answers(t, []*store{demoStore(t)})
		}
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		instances := redisStores(t, 3)
		for range 20 { // one trip after another, on the same rows
			answers(t, instances)
		}
	})
}
