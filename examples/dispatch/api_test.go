// The REST API and the sockets together, over a real connection.

package main

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

func TestTripOverRESTAndSockets(t *testing.T) {
	t.Parallel()
	s := start(t)
	driverToken, passengerToken, adminToken := s.login(t, "driver-1"), s.login(t, "passenger-1"), s.login(t, "admin-1")
	driver := s.connect(t, "/drivers", driverToken)
	passenger := s.connect(t, "/passengers", passengerToken)
	admin := s.connect(t, "/admin", adminToken)
	driver.goOnline(capitol.Lat, capitol.Lng)

	trip := s.post(t, "/api/trips", passengerToken, map[string]any{"pickup": capitol, "dropoff": plaza})["tripId"].(string)
	status, code := s.refused(t, "POST", "/api/trips", passengerToken, nil)
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "conflict", code)

	offer := driver.expect("trip:assignment:offered")
	require.Equal(t, trip, offer["tripId"])
	require.EqualValues(t, 20, offer["ttlSec"])
	_, current := s.do(t, "GET", "/api/trips/current", driverToken, nil)
	require.Nil(t, current["trip"])
	require.Equal(t, offer["assignmentId"], current["offer"].(map[string]any)["assignmentId"])

	accepted := s.post(t, "/api/offers/"+offer["assignmentId"].(string)+"/accept", driverToken, nil)
	require.Equal(t, map[string]any{"assignmentId": offer["assignmentId"], "tripId": trip}, accepted)
	require.Equal(t, accepted, s.post(t, "/api/trips/"+trip+"/accept", driverToken, nil), "again")
	for _, step := range []string{"arriving", "arrived", "start"} {
		s.post(t, "/api/trips/"+trip+"/"+step, driverToken, nil)
	}
	_, current = s.do(t, "GET", "/api/trips/current", passengerToken, nil)
	require.Equal(t, "in_progress", current["trip"].(map[string]any)["status"])
	s.post(t, "/api/admin/trips/"+trip+"/message", adminToken, map[string]any{"to": "both", "message": "hello"})
	require.Equal(t, "completed", s.post(t, "/api/trips/"+trip+"/complete", driverToken, nil)["status"])

	for _, name := range []string{
		"trip:requested", "trip:assigning_started", "trip:driver_accepted", "trip:driver_assigned", "trip:arriving_started",
		"trip:driver_en_route", "trip:driver_arrived_pickup", "trip:started", "admin:trip:message_sent", "trip:completed",
	} {
		require.Equal(t, trip, passenger.expect(name)["tripId"])
	}
	for _, name := range []string{
		"trip:assignment:accepted", "trip:driver_assigned", "trip:arriving_started", "trip:driver_en_route",
		"trip:driver_arrived_pickup", "trip:started", "admin:trip:message_sent", "trip:completed",
	} {
		require.Equal(t, trip, driver.expect(name)["tripId"])
	}
	for _, name := range []string{
		"trip:requested", "trip:assigning_started", "trip:assignment:offered", "trip:assignment:accepted", "trip:driver_assigned",
		"trip:arriving_started", "trip:driver_en_route", "trip:driver_arrived_pickup", "trip:started", "admin:trip:message_sent", "trip:completed",
	} {
		require.Equal(t, trip, admin.expect(name)["tripId"])
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := start(t)
	driver, passenger, admin := s.login(t, "driver-1"), s.login(t, "passenger-1"), s.login(t, "admin-1")
	for _, c := range []struct {
		method, path, token string
		body                any
		status              int
		code                string
	}{
		{"POST", "/api/login", "", map[string]any{"userId": "nobody"}, 404, "not_found"},
		{"POST", "/api/login", "", nil, 400, "invalid_payload"},
		{"POST", "/api/login", "", map[string]any{"userId": 7}, 400, "invalid_payload"},
		{"POST", "/api/login", "", []int{1}, 400, "invalid_payload"},
		{"POST", "/api/logout", "", nil, 401, "missing_token"},
		{"GET", "/api/trips/current", "nonsense", nil, 401, "invalid_token"},
		{"GET", "/api/trips/current", admin, nil, 403, "forbidden"},
		{"POST", "/api/trips", driver, nil, 403, "forbidden"},
		{"POST", "/api/trips", passenger, map[string]any{"pickup": map[string]any{"lat": 91, "lng": 0}}, 400, "invalid_payload"},
		{"POST", "/api/trips", passenger, map[string]any{"dropoff": map[string]any{"lat": 1}}, 400, "invalid_payload"},
		{"POST", "/api/trips/none/arriving", driver, nil, 404, "not_found"},
		{"POST", "/api/trips/none/accept", driver, nil, 404, "not_found"},
		{"POST", "/api/trips/none/cancel", passenger, map[string]any{"reason": strings.Repeat("x", 201)}, 400, "invalid_payload"},
		{"POST", "/api/offers/none/reject", driver, nil, 404, "not_found"},
		{"POST", "/api/offers/none/reject", passenger, nil, 403, "forbidden"},
		{"GET", "/api/trips/none", passenger, nil, 404, "not_found"},
		{"GET", "/api/admin/trips", passenger, nil, 403, "forbidden"},
		{"GET", "/api/admin/trips?status=lost", admin, nil, 400, "invalid_payload"},
		{"GET", "/api/driver-availability/by-driver/nobody", admin, nil, 404, "not_found"},
		{"GET", "/api/driver-availability/by-driver/passenger-1", admin, nil, 404, "not_found"},
		{"PATCH", "/api/driver-availability/passenger-1/status", admin, map[string]any{"isOnline": true}, 404, "not_found"},
		{"POST", "/api/admin/trips/none/message", admin, map[string]any{"to": "both", "message": "x"}, 404, "not_found"},
		{"POST", "/api/admin/trips/none/message", admin, map[string]any{"to": "all", "message": "x"}, 400, "invalid_payload"},
		{"POST", "/api/admin/users/nobody/ban", admin, nil, 404, "not_found"},
		{"POST", "/api/admin/sessions/none/revoke", admin, nil, 404, "not_found"},
		{"GET", "/api/what", admin, nil, 404, "not_found"},
		{"DELETE", "/api/trips", passenger, nil, 404, "not_found"},
	} {
		status, code := s.refused(t, c.method, c.path, c.token, c.body)
		require.Equal(t, c.code, code, "%s %s", c.method, c.path)
		require.Equal(t, c.status, status, "%s %s", c.method, c.path)
	}
}

func TestLogout(t *testing.T) {
	t.Parallel()
	s := start(t)
	token, other := s.login(t, "driver-1"), s.login(t, "driver-1")
	leaving, staying := s.connect(t, "/drivers", token), s.connect(t, "/drivers", other)
	sid := s.post(t, "/api/logout", token, nil)["sid"]

	for _, c := range []socket{leaving, staying} {
		received := c.expect("auth:session_revoked")
		require.Equal(t, sid, received["sid"])
		require.Equal(t, "logout", received["reason"])
	}
	require.ErrorIs(t, leaving.end(), errDisconnected)
	staying.goOnline(0, 0)
	_, code := s.refused(t, "POST", "/api/logout", token, nil)
	require.Equal(t, "invalid_session", code)
	_, err := dial(t.Context(), s.url, "/drivers", token)
	require.ErrorContains(t, err, "invalid_session")
}

func TestBan(t *testing.T) {
	t.Parallel()
	s := start(t)
	token, admin := s.login(t, "passenger-1"), s.login(t, "admin-1")
	passenger := s.connect(t, "/passengers", token)
	require.Equal(t, map[string]any{"userId": "passenger-1", "status": "banned"},
		s.post(t, "/api/admin/users/passenger-1/ban", admin, map[string]any{"reason": "fraud"}))
	received := passenger.expect("auth:session_revoked")
	require.Equal(t, "fraud", received["reason"])
	require.ErrorIs(t, passenger.end(), errDisconnected)
	status, code := s.refused(t, "POST", "/api/login", "", map[string]any{"userId": "passenger-1"})
	require.Equal(t, http.StatusForbidden, status)
	require.Equal(t, "user_inactive", code)
	s.post(t, "/api/admin/users/passenger-1/activate", admin, nil)
	s.connect(t, "/passengers", token)
}

// With -carry-sessions a socket need not send auth:refresh.
func TestRefresh_CarriesSockets(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config) { c.carrySessions = true })
	old := s.post(t, "/api/login", "", map[string]any{"userId": "driver-1"})
	driver := s.connect(t, "/drivers", old["token"].(string))
	fresh := s.post(t, "/api/refresh", old["token"].(string), nil)
	driver.expect("auth:session_refreshed")
	driver.goOnline(23.1, -82.3) // the socket has moved meanwhile

	s.post(t, "/api/logout", fresh["token"].(string), nil)
	require.Equal(t, fresh["sid"], driver.expect("auth:session_revoked")["sid"])
	require.ErrorIs(t, driver.end(), errDisconnected)
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	s := start(t)
	old := s.post(t, "/api/login", "", map[string]any{"userId": "driver-1"})
	driver := s.connect(t, "/drivers", old["token"].(string))
	fresh := s.post(t, "/api/refresh", old["token"].(string), nil)
	require.NotEqual(t, old["sid"], fresh["sid"])
	require.Equal(t, "driver-1", fresh["userId"])
	require.Equal(t, "driver", fresh["type"])
	received := driver.expect("auth:session_refreshed")
	require.Equal(t, []any{old["sid"], fresh["sid"]}, []any{received["oldSid"], received["newSid"]})
	require.NoError(t, driver.emit("auth:refresh", map[string]any{"token": fresh["token"]}))
	driver.goOnline(23.1, -82.3) // a socket's events are handled in order: the session is the new one from here on

	row, err := s.store.session(t.Context(), old["sid"].(string))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now().Add(refreshGrace), *row.AccessTokenExpiresAt, 5*time.Second)
	s.connect(t, "/drivers", old["token"].(string)) // valid during refreshGrace

	// The socket is in the new session now: revoking that disconnects it.
	s.post(t, "/api/logout", fresh["token"].(string), nil)
	driver.expect("auth:session_revoked")
	require.ErrorIs(t, driver.end(), errDisconnected)
}

func TestRefreshOfAnExpiredToken(t *testing.T) {
	t.Parallel()
	s := start(t)
	sid := s.post(t, "/api/login", "", map[string]any{"userId": "driver-1"})["sid"]
	ago := func(d time.Duration) string {
		return mint(t, jwt.MapClaims{"sub": "driver-1", "sid": sid, "exp": time.Now().Add(-d).Unix()})
	}
	_, code := s.refused(t, "POST", "/api/refresh", ago(refreshWindow+time.Minute), nil)
	require.Equal(t, "token_expired", code)
	_, code = s.refused(t, "POST", "/api/logout", ago(time.Minute), nil)
	require.Equal(t, "token_expired", code)
	s.post(t, "/api/refresh", ago(time.Minute), nil)

	forged, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"sub": "driver-1", "sid": sid, "exp": 1}).SignedString([]byte("another secret"))
	require.NoError(t, err)
	_, code = s.refused(t, "POST", "/api/refresh", forged, nil)
	require.Equal(t, "invalid_token", code)
}

// answer returns the text of the next packet that is neither an event nor a ping: the login may be told meanwhile.
func (s socket) answer(t *testing.T) string {
	t.Helper()
	for {
		text, op, err := wsutil.ReadServerData(s.in)
		require.NoError(t, err)
		require.Equal(t, ws.OpText, op)
		if !strings.HasPrefix(string(text), "42") && string(text) != "2" {
			return string(text)
		}
	}
}

func TestEcho(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config) { c.echo = true })
	c := s.connect(t, "/drivers", s.login(t, "driver-1"))
	const args = `[1,"é 🚕",{"a":[null,{"_placeholder":true,"num":0}]}]`
	require.NoError(t, c.write(`451-/drivers,7["conformance:echo",`+args[1:]))
	require.NoError(t, wsutil.WriteClientBinary(c.conn, []byte{0, 1, 255}))
	require.Equal(t, `461-/drivers,7`+args, c.answer(t))
	binary, op, err := wsutil.ReadServerData(c.in)
	require.NoError(t, err)
	require.Equal(t, ws.OpBinary, op)
	require.Equal(t, []byte{0, 1, 255}, binary)

	require.NoError(t, c.write(`42/drivers,8["conformance:echo"]`))
	require.Equal(t, `43/drivers,8[]`, c.answer(t))
}

func TestEcho_OffByDefault(t *testing.T) {
	t.Parallel()
	s := start(t)
	c := s.connect(t, "/drivers", s.login(t, "driver-1"))
	require.NoError(t, c.write(`42/drivers,8["conformance:echo"]`))
	require.Contains(t, c.answer(t), `"not_found"`)
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ configured, origin, allowed, credentials string }{
		{"https://app.test", "https://app.test", "https://app.test", "true"},
		{"https://app.test", "https://evil.test", "", ""},
		{"*", "https://any.test", "*", ""},
		{"capacitor://localhost", "capacitor://localhost", "capacitor://localhost", "true"},
		{"null", "null", "null", ""},
	} {
		s := start(t, func(cfg *config) { cfg.origins = []string{c.configured} })
		req, err := http.NewRequest(http.MethodOptions, s.url+"/socket.io/?EIO=4&transport=polling", nil)
		require.NoError(t, err)
		req.Header.Set("Origin", c.origin)
		resp, err := s.client.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, c.allowed, resp.Header.Get("Access-Control-Allow-Origin"))
		require.Equal(t, c.credentials, resp.Header.Get("Access-Control-Allow-Credentials"))
	}
}

// A simulated driver accepts a trip and completes it.
func TestCars(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config) { c.cars, c.noRateLimit = 1, true }) // so that the car may act often
	cars, err := s.createCars(t.Context())
	require.NoError(t, err)
	stop := startCars(cars, s.url, 10*time.Millisecond, quiet)
	defer stop()
	token := s.login(t, "passenger-1")
	passenger := s.connect(t, "/passengers", token)
	require.Eventually(t, func() bool {
		a, err := s.store.snapshot(t.Context(), "car-1")
		require.NoError(t, err)
		return a.IsAvailableForTrips && a.LastLocation != nil
	}, 10*time.Second, 10*time.Millisecond)
	for range 2 { // the driver is free again after the first
		s.post(t, "/api/trips", token, map[string]any{"pickup": capitol, "dropoff": plaza})
		require.Equal(t, "car-1", passenger.expect("trip:driver_assigned")["driverId"])
		passenger.expect("trip:driver_location")
		passenger.expect("trip:driver_arrived_pickup")
		passenger.expect("trip:completed")
		require.Eventually(t, func() bool {
			a, err := s.store.snapshot(t.Context(), "car-1")
			require.NoError(t, err)
			return a.IsAvailableForTrips
		}, 10*time.Second, 10*time.Millisecond)
	}
}

// Events that were added before run's ctx ended are published in order.
func TestOutbox(t *testing.T) {
	t.Parallel()
	o := newOutbox(quiet)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	for _, id := range []string{"a", "b", "c"} {
		o.add(realtime.SessionRevoked{SessionID: id})
	}
	var got []string
	o.run(ctx, func(ctx context.Context, e realtime.DomainEvent) error {
		require.NoError(t, ctx.Err())
		data, err := json.Marshal(e)
		require.NoError(t, err)
		got = append(got, string(data))
		return nil
	})
	require.Equal(t, []string{`{"sid":"a"}`, `{"sid":"b"}`, `{"sid":"c"}`}, got)
}
