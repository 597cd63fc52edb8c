// The REST of the NestJS system's dashboard and drivers' app.

package main

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// data makes a request that must succeed, and returns the data in its envelope.
func (s *server) data(t *testing.T, method, path, token string, body any) any {
	t.Helper()
	status, answer := s.do(t, method, path, token, body)
	require.Equal(t, http.StatusOK, status, "%s %s: %v", method, path, answer)
	require.Equal(t, true, answer["success"])
	require.NotEmpty(t, answer["message"])
	return answer["data"]
}

func TestDashboard_Trips(t *testing.T) {
	t.Parallel()
	s := start(t)
	passenger, other, admin := s.login(t, "passenger-1"), s.login(t, "passenger-2"), s.login(t, "admin-1")
	const list = "/api/admin/trips"
	trip := s.post(t, "/api/trips", passenger, map[string]any{"pickup": capitol, "dropoff": plaza})["tripId"].(string)
	second := s.post(t, "/api/trips", other, map[string]any{"pickup": plaza})["tripId"].(string)
	require.Eventually(t, func() bool { // no driver is available
		return s.data(t, "GET", list+"/"+second, admin, nil).(map[string]any)["currentStatus"] == "no_drivers_found"
	}, patience, 10*time.Millisecond)

	_, page := s.do(t, "GET", list+"?limit=1", admin, nil)
	require.Len(t, page["data"], 1)
	require.Equal(t, second, page["data"].([]any)[0].(map[string]any)["id"], "the newest first")
	require.Equal(t, map[string]any{
		"total": 2.0, "page": 1.0, "limit": 1.0, "pageCount": 2.0, "hasNext": true, "hasPrev": false, "nextPage": 2.0, "prevPage": nil,
	}, page["meta"])
	for query, want := range map[string][]string{
		"page=2&limit=1":                     {trip},
		"passengerId=passenger-1":            {trip},
		"q=PEDRO":                            {second},
		"status=no_drivers_found":            {second, trip},
		"status=completed":                   {},
		"onlyActive=true":                    {},
		"onlyStuck=true":                     {},
		"driverId=driver-1":                  {},
		"paymentMode=card":                   {},
		"requestedFrom=2020-01-01":           {second, trip},
		"requestedTo=2020-01-01T00:00:00Z":   {},
		"q=" + trip + "&paymentMode=cash":    {trip},
		"page=9":                             {},
		"vehicleId=vehicle-driver-1&limit=5": {},
	} {
		got := []string{}
		for _, v := range s.data(t, "GET", list+"?"+query, admin, nil).([]any) {
			got = append(got, v.(map[string]any)["id"].(string))
		}
		require.Equal(t, want, got, query)
	}
	for _, query := range []string{"page=0", "limit=101", "limit=x", "onlyActive=maybe", "requestedFrom=yesterday"} {
		status, code := s.refused(t, "GET", list+"?"+query, admin, nil)
		require.Equal(t, http.StatusBadRequest, status, query)
		require.Equal(t, "invalid_payload", code)
	}
	v := s.data(t, "GET", list+"/"+trip, admin, nil).(map[string]any)
	require.Equal(t, map[string]any{"lat": capitol.Lat, "lng": capitol.Lng}, v["pickupPoint"])
	require.Equal(t, "Paula", v["passengerName"])
	var kinds []string
	for _, e := range s.data(t, "GET", list+"/"+trip+"/events", admin, nil).([]any) {
		e := e.(map[string]any)
		require.Equal(t, trip, e["metadata"].(map[string]any)["tripId"])
		require.NotEmpty(t, e["occurredAt"])
		kinds = append(kinds, e["eventType"].(string))
	}
	require.Equal(t, []string{"trip_requested", "assigning_started", "no_drivers_found"}, kinds)
	for _, path := range []string{"/none", "/none/events"} {
		status, answer := s.do(t, "GET", list+path, admin, nil)
		require.Equal(t, http.StatusNotFound, status)
		require.Equal(t, false, answer["success"])
		require.Equal(t, "no such trip", answer["message"])
	}
	status, _ := s.refused(t, "GET", list+"/"+trip, passenger, nil)
	require.Equal(t, http.StatusForbidden, status)
}

func TestDashboard_Actions(t *testing.T) {
	t.Parallel()
	s := start(t)
	passengerToken, driverToken, adminToken := s.login(t, "passenger-1"), s.login(t, "driver-1"), s.login(t, "admin-1")
	passenger, admin := s.connect(t, "/passengers", passengerToken), s.connect(t, "/admin", adminToken)
	trip := s.post(t, "/api/trips", passengerToken, map[string]any{"pickup": capitol, "dropoff": plaza})["tripId"].(string)
	passenger.expect("trip:no_drivers_found")
	act := func(do string, body map[string]any) map[string]any {
		t.Helper()
		v := s.data(t, "POST", "/api/admin/trips/"+trip+"/actions/"+do, adminToken, body)
		return v.(map[string]any)
	}
	conflict := func(do string, body map[string]any) {
		t.Helper()
		_, code := s.refused(t, "POST", "/api/admin/trips/"+trip+"/actions/"+do, adminToken, body)
		require.Equal(t, "conflict", code, "%s %v", do, body)
	}
	override := func(status string) map[string]any {
		return map[string]any{"targetStatus": status, "reason": "the app hangs", "internalNote": nil, "fareTotal": nil}
	}
	conflict("override-status", override("no_drivers_found"))
	conflict("override-status", override("completed"))
	conflict("mark-no-drivers", map[string]any{"reason": "again"})

	// A driver comes online over REST, and the matching is tried again.
	driver := s.connect(t, "/drivers", driverToken)
	snapshot := s.data(t, "PATCH", "/api/driver-availability/status-by-driver", driverToken, map[string]any{"isOnline": true}).(map[string]any)
	require.Equal(t, true, snapshot["isAvailableForTrips"])
	require.Equal(t, true, driver.expect("driver:availability:update")["isAvailableForTrips"])
	at := time.Now().Add(-time.Second).UTC().Format("2006-01-02T15:04:05.000Z")
	snapshot = s.data(t, "POST", "/api/driver-availability/ping-location", driverToken, map[string]any{
		"lat": capitol.Lat, "lng": capitol.Lng, "accuracyMeters": -1, "reportedAt": at,
	}).(map[string]any)
	require.Equal(t, at, snapshot["lastLocationTimestamp"])
	require.Equal(t, at, driver.expect("driver:location:update")["lastLocationTimestamp"])
	retry := map[string]any{"reason": "once more", "searchRadiusMeters": 5000, "maxCandidates": 10, "offerTtlSeconds": 30}
	require.Contains(t, []any{"assigning"}, act("retry-matching", retry)["currentStatus"])
	offer := driver.expect("trip:assignment:offered")
	require.EqualValues(t, 30, offer["ttlSec"])
	require.Equal(t, "retry_matching", admin.expect("admin:trip:action_issued")["action"])
	s.post(t, "/api/offers/"+offer["assignmentId"].(string)+"/accept", driverToken, nil)
	passenger.expect("trip:driver_assigned")
	conflict("retry-matching", retry)
	conflict("mark-no-drivers", map[string]any{"reason": "x"})

	require.Equal(t, "arriving", act("override-status", override("arriving"))["currentStatus"])
	passenger.expect("trip:arriving_started")
	require.Equal(t, "in_progress", act("override-status", override("in_progress"))["currentStatus"])
	passenger.expect("trip:started")
	s.data(t, "POST", "/api/admin/trips/"+trip+"/actions/send-message", adminToken, map[string]any{"target": "driver", "message": "hello"})
	require.Equal(t, "hello", driver.expect("admin:trip:message_sent")["message"])
	done := override("completed")
	done["fareTotal"] = 321.5
	v := act("override-status", done)
	require.Equal(t, []any{"completed", 321.5}, []any{v["currentStatus"], v["fareTotal"]})
	require.Equal(t, 321.5, passenger.expect("trip:completed")["fareTotal"])
	driver.expect("driver:trip:update")
	require.Equal(t, true, s.data(t, "GET", "/api/driver-availability/driver-auth", driverToken, nil).(map[string]any)["isAvailableForTrips"])
	conflict("override-status", override("assigning"))
	conflict("cancel", map[string]any{"reason": "too late"})

	// The driver is released, and never gets the trip again.
	trip = s.post(t, "/api/trips", passengerToken, map[string]any{"pickup": capitol})["tripId"].(string)
	require.Equal(t, trip, driver.expect("trip:assignment:offered")["tripId"])
	s.post(t, "/api/trips/"+trip+"/accept", driverToken, nil)
	act("override-status", override("assigning"))
	require.Equal(t, trip, driver.expect("trip:assignment:cancelled")["tripId"])
	require.Equal(t, trip, passenger.expect("trip:no_drivers_found")["tripId"])
	act("override-status", override("assigning"))
	require.Equal(t, trip, passenger.expect("trip:no_drivers_found")["tripId"])

	// A message reaches those who are there.
	_, code := s.refused(t, "POST", "/api/admin/trips/"+trip+"/actions/send-message", adminToken, map[string]any{"target": "driver", "message": "hello"})
	require.Equal(t, "conflict", code, "the trip has no driver now")
	s.data(t, "POST", "/api/admin/trips/"+trip+"/actions/send-message", adminToken, map[string]any{"target": "both", "message": "hello"})
	require.Equal(t, "hello", passenger.expect("admin:trip:message_sent")["message"])

	// A driver who logs out goes offline; nobody else may say that.
	_, code = s.refused(t, "PATCH", "/api/driver-availability/driver-2/status", driverToken, map[string]any{"isOnline": true})
	require.Equal(t, "forbidden", code)
	s.post(t, "/api/logout", driverToken, nil)
	v = s.data(t, "GET", "/api/driver-availability/by-driver/driver-1", adminToken, nil).(map[string]any)
	require.Equal(t, []any{false, false, "OFFLINE"}, []any{v["isOnline"], v["isAvailableForTrips"], v["availabilityReason"]})
	published := ""
	for published != "OFFLINE" {
		published, _ = admin.expect("admin:driver:availability:update")["availabilityReason"].(string)
	}
	for path, body := range map[string]map[string]any{
		"override-status": {"targetStatus": "lost"}, "retry-matching": {"searchRadiusMeters": -5}, "send-message": {"target": "all", "message": "x"},
	} {
		_, code := s.refused(t, "POST", "/api/admin/trips/"+trip+"/actions/"+path, adminToken, body)
		require.Equal(t, "invalid_payload", code, path)
	}
}

// Only drivers near the pickup, whose position is known and fresh, get an offer.
func TestMatcher_RadiusAndFreshness(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := demoStore(t)
		place := func(id string, offset float64, known bool) {
			addDriver(t, s, id, active)
			_, err := s.UpdateStatus(t.Context(), id, realtime.StatusUpdate{IsOnline: new(true)})
			require.NoError(t, err)
			if known {
				_, _, err = s.UpdateLocation(t.Context(), id, realtime.LocationPing{Position: &realtime.Position{Lat: capitol.Lat + offset, Lng: capitol.Lng}})
				require.NoError(t, err)
			}
		}
		place("stale", 0.0005, true)
		time.Sleep(defaultMaxAge + time.Second)
		place("far", 0.10, true) // 11.1 km
		place("unknown", 0, false)
		place("near", 0.08, true) // 8.9 km
		m := newMatcher(s, config{offerTTL: 5 * time.Second, radius: defaultRadius, maxAge: defaultMaxAge}, quiet, connectedIf(everybody))
		defer m.close()
		v, err := s.request(t.Context(), paula.ID, capitol, plaza, "")
		require.NoError(t, err)
		m.match()
		synctest.Wait()
		require.Equal(t, openOffer(t, s, "stale", "far", "unknown", "near"), openOffer(t, s, "near"))
		require.NotNil(t, openOffer(t, s, "near"))
		time.Sleep(6 * time.Second)
		trip, err := s.trip(t.Context(), paula, v.TripID)
		require.NoError(t, err)
		require.Equal(t, statusNoDrivers, trip.Status)

		// Over a wider radius the far one is found, and the near one not a second time.
		require.NoError(t, s.retryMatching(t.Context(), admin.ID, v.TripID, action{SearchRadiusMeters: 12_000, OfferTTLSeconds: 7}))
		m.match()
		synctest.Wait()
		o := openOffer(t, s, "stale", "far", "unknown", "near")
		require.NotNil(t, o)
		require.Equal(t, openOffer(t, s, "far"), o)
		require.Equal(t, 7*time.Second, time.Until(o.ExpiresAt.Time))
	})
}

func TestStore_WaitingSurcharge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		wait   time.Duration // at the pickup
		waited float64       // according to the app
		billed float64
	}{
		"in time":  {freeWaiting, 3, 0},
		"late":     {freeWaiting + 90*time.Second, 0, 2},
		"by app":   {0, 7.5, 5},
		"not both": {freeWaiting + time.Minute, 60, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := demoStore(t)
			trip, o := offered(t, s)
			_, err := s.accept(t.Context(), diego.ID, o.ID, "")
			require.NoError(t, err)
			fare := *o.fare(t, s, trip)
			for _, do := range []step{stepArriving, stepArrived, stepStart, stepComplete} {
				if do == stepStart {
					time.Sleep(c.wait)
				}
				_, err := s.advance(t.Context(), diego.ID, trip, do, c.waited)
				require.NoError(t, err)
			}
			var surcharges []realtime.WaitingSurchargeApplied
			total := 0.0
			for _, e := range s.db.(*memory).events.take() {
				switch e := e.(type) {
				case realtime.WaitingSurchargeApplied:
					surcharges = append(surcharges, e)
				case realtime.TripCompleted:
					total = e.FareTotal
				}
			}
			require.Equal(t, fare+c.billed*waitingPrice, total, name)
			if c.billed == 0 {
				require.Empty(t, surcharges, name)
				return
			}
			require.Equal(t, []realtime.WaitingSurchargeApplied{{
				TripID: trip, PassengerID: paula.ID, DriverID: diego.ID, WaitingMinutes: c.billed, Amount: c.billed * waitingPrice, Currency: currency,
			}}, surcharges, name)
		})
	}
}

// fare returns the estimated fare of the offer's trip.
func (*offerRow) fare(t *testing.T, s *store, tripID string) *float64 {
	t.Helper()
	v, err := s.trip(context.Background(), paula, tripID)
	require.NoError(t, err)
	return v.FareEstimatedTotal
}
