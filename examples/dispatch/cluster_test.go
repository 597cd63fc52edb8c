// Several instances of the whole program, and what a load balancer asks them.

package main

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// status asks a route of a load balancer.
func (s *server) status(t *testing.T, path string) int {
	t.Helper()
	resp, err := s.client.Get(s.url + path)
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode
}

// Driver, passenger and admin are at one instance each, and REST requests at another one.
func TestCluster_TripOverThreeInstances(t *testing.T) {
	t.Parallel()
	redis := startRedis(t)
	var s [3]*server
	for i := range s {
		s[i] = start(t, func(c *config) { c.redisURL = "redis://" + redis.Addr() })
	}
	driverToken, passengerToken, adminToken := s[0].login(t, "driver-1"), s[1].login(t, "passenger-1"), s[2].login(t, "admin-1")
	driver := s[1].connect(t, "/drivers", driverToken)
	passenger := s[2].connect(t, "/passengers", passengerToken)
	admin := s[0].connect(t, "/admin", adminToken)
	driver.goOnline(capitol.Lat, capitol.Lng)

	trip := s[0].post(t, "/api/trips", passengerToken, map[string]any{"pickup": capitol, "dropoff": plaza})["tripId"].(string)
	offer := driver.expect("trip:assignment:offered")
	require.Equal(t, trip, offer["tripId"])
	s[2].post(t, "/api/offers/"+offer["assignmentId"].(string)+"/accept", driverToken, nil)
	for i, step := range []string{"arriving", "arrived", "start", "complete"} {
		s[i%3].post(t, "/api/trips/"+trip+"/"+step, driverToken, nil)
	}
	for _, c := range []socket{driver, passenger, admin} {
		for _, name := range []string{"trip:driver_assigned", "trip:arriving_started", "trip:driver_arrived_pickup", "trip:started", "trip:completed"} {
			require.Equal(t, trip, c.expect(name)["tripId"])
		}
	}
	s[0].post(t, "/api/logout", passengerToken, nil) // the socket is at another instance
	passenger.expect("auth:session_revoked")
	require.ErrorIs(t, passenger.end(), errDisconnected)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	s := start(t)
	require.Equal(t, http.StatusOK, s.status(t, "/healthz"))
	require.Equal(t, http.StatusOK, s.status(t, "/readyz"))
	s.draining.Store(true)
	require.Equal(t, http.StatusServiceUnavailable, s.status(t, "/readyz"))
	s.draining.Store(false)
	require.NoError(t, s.rt.Shutdown(t.Context()))
	require.Equal(t, http.StatusServiceUnavailable, s.status(t, "/readyz"), "the library's own check")
	require.Equal(t, http.StatusOK, s.status(t, "/healthz"), "the process runs")
}

// While Redis is away a request is answered in a moment, with what makes an app try again: with 401
// it would log the user out.
func TestCluster_RedisIsAway(t *testing.T) {
	t.Parallel()
	redis := startRedis(t)
	s := start(t, func(c *config) { c.redisURL = "redis://" + redis.Addr() })
	token := s.login(t, "driver-1")
	redis.Close()
	s.client.Timeout = patience
	for _, r := range []struct{ method, path, token string }{
		{"GET", "/api/trips/current", token}, {"POST", "/api/login", ""}, {"POST", "/api/logout", token},
	} {
		status, code := s.refused(t, r.method, r.path, r.token, map[string]any{"userId": "driver-1"})
		require.Equal(t, http.StatusServiceUnavailable, status, r.path)
		require.Equal(t, "unavailable", code, r.path)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_, err := s.store.UpdateStatus(ctx, "driver-1", realtime.StatusUpdate{IsOnline: new(true)})
	require.ErrorIs(t, err, realtime.ErrUnavailable, "the ack of the socket")
	require.NoError(t, redis.Restart())
	likeRedis(redis)
}

// An instance that cannot reach Redis does not start, and says why without the password.
func TestNewApp_NoRedis(t *testing.T) {
	t.Parallel()
	redis := startRedis(t)
	url := "redis://:hunter2@" + redis.Addr()
	redis.Close()
	_, err := newApp(config{secret: secret, redisURL: url}, quiet)
	require.ErrorContains(t, err, "REDIS_URL")
	require.NotContains(t, err.Error(), "hunter2")
}
