// A client that loses its connection: what it gets when it comes back, with recovery and without.

package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// phone connects a stock client. former is the client that has lost its connection, or nil.
func (s *server) phone(t *testing.T, namespace, token string, former *realtimetest.Client) (*realtimetest.Client, realtime.HelloPayload) {
	t.Helper()
	opts := []realtimetest.Option{realtimetest.Token(token)}
	if former != nil {
		opts = append(opts, realtimetest.Recover(former))
	}
	c, err := realtimetest.Dial(t.Context(), s.url, namespace, opts...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	c = c.Within(patience)
	return c, realtimetest.Expect(t, c, realtime.EventHello)
}

// lose cuts a client's connection, and waits until the server knows.
func (s *server) lose(t *testing.T, c *realtimetest.Client) {
	t.Helper()
	c.Drop()
	require.Eventually(t, func() bool {
		all, err := s.rt.Passengers().All().Sockets(t.Context())
		require.NoError(t, err)
		return !slices.ContainsFunc(all, func(r realtime.RemoteSocket) bool { return r.ID == c.ID() })
	}, patience, 5*time.Millisecond)
}

// ofTrip returns the names of the events of a trip that a client has received, with hello and the
// snapshot, in order.
func ofTrip(c *realtimetest.Client) (names []string) {
	for _, r := range c.Received() {
		if strings.HasPrefix(r.Event, "trip:") || r.Event == "hello" {
			names = append(names, r.Event)
		}
	}
	return names
}

// Nothing has to be set: a passenger who loses the network in the middle of a trip gets what they
// missed, and not the snapshot. A client that does not take part gets the snapshot, and so does each
// one with -recovery=false.
func TestRecovery(t *testing.T) {
	t.Parallel()
	for name, off := range map[string]bool{"by default": false, "-recovery=false": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(c *config) {
				if off {
					c.recovery = false
				}
			})
			paula, diego := s.login(t, "passenger-1"), s.login(t, "driver-1")
			driver := s.connect(t, "/drivers", diego)
			driver.goOnline(23.135, -82.36)
			first, hello := s.phone(t, "/passengers", paula, nil)
			require.Empty(t, realtimetest.Expect(t, first, realtime.EventTripSync).Trips)
			require.Equal(t, off, first.PID() == "")
			require.Equal(t, off, hello.Recovered == nil)

			trip := s.post(t, "/api/trips", paula, map[string]any{"pickup": capitol, "dropoff": plaza})["tripId"].(string)
			s.post(t, "/api/offers/"+driver.expect("trip:assignment:offered")["assignmentId"].(string)+"/accept", diego, nil)
			realtimetest.Expect(t, first, realtime.EventDriverAssigned)
			s.lose(t, first)
			s.post(t, "/api/trips/"+trip+"/arriving", diego, nil)
			s.post(t, "/api/trips/"+trip+"/arrived", diego, nil)
			driver.expect("trip:driver_arrived_pickup")

			back, hello := s.phone(t, "/passengers", paula, first)
			if off {
				require.Nil(t, hello.Recovered)
				require.Nil(t, hello.Missed)
				require.Equal(t, trip, realtimetest.Expect(t, back, realtime.EventTripSync).Trips[0].TripID)
				return
			}
			require.True(t, *hello.Recovered)
			require.GreaterOrEqual(t, *hello.Missed, 2)
			require.Equal(t, first.ID(), back.ID())
			realtimetest.Expect(t, back, realtime.EventDriverArrivedPickup)
			names := ofTrip(back)
			require.Equal(t, []string{"trip:arriving_started", "trip:driver_en_route"}, names[:2], "before hello")
			require.ElementsMatch(t, []string{"trip:arriving_started", "trip:driver_en_route", "trip:driver_arrived_pickup", "hello"}, names, "each once, and no trip:sync")

			other, hello := s.phone(t, "/passengers", paula, nil)
			require.False(t, *hello.Recovered)
			require.Nil(t, hello.Missed)
			require.Equal(t, trip, realtimetest.Expect(t, other, realtime.EventTripSync).Trips[0].TripID)
			require.Equal(t, []string{"hello", "trip:sync"}, ofTrip(other))
		})
	}
}
