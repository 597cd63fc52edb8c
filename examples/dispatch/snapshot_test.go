// What a client that was away receives when it connects.

package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// connected connects a client, and returns the snapshot that it receives behind hello.
func (s *server) connected(t *testing.T, namespace, token string) (socket, map[string]any) {
	t.Helper()
	c, err := dial(t.Context(), s.url, namespace, token)
	require.NoError(t, err)
	c.silence = 10 * time.Second
	t.Cleanup(func() { _ = c.close() })
	sock := socket{t, c}
	name, _, err := sock.next()
	require.NoError(t, err)
	require.Equal(t, "hello", name)
	return sock, sock.expect("trip:sync")
}

// A driver and a passenger who were away know of their offer and their trip at once, and an offer
// that was answered is not in the snapshot.
func TestSnapshot_OfThoseWhoWereAway(t *testing.T) {
	t.Parallel()
	s := start(t)
	paula, diego := s.login(t, "passenger-1"), s.login(t, "driver-1")
	driver := s.connect(t, "/drivers", diego)
	driver.goOnline(23.135, -82.36)
	passenger, sync := s.connected(t, "/passengers", paula)
	require.Empty(t, sync["trips"])
	require.NoError(t, passenger.close())

	trip := s.post(t, "/api/trips", paula, map[string]any{"pickup": capitol, "dropoff": plaza})["tripId"]
	offer := driver.expect("trip:assignment:offered")
	require.NoError(t, driver.close())

	driver, sync = s.connected(t, "/drivers", diego)
	require.Empty(t, sync["trips"])
	require.Len(t, sync["offers"], 1)
	open := sync["offers"].([]any)[0].(map[string]any)
	delete(offer, "eventId")
	require.Equal(t, offer, open, "as it was offered")
	require.Equal(t, true, driver.expect("driver:availability:update")["isAvailableForTrips"])
	_, sync = s.connected(t, "/passengers", paula)
	waits := sync["trips"].([]any)[0].(map[string]any)
	require.Equal(t, trip, waits["tripId"])
	require.Equal(t, "assigning", waits["currentStatus"])
	require.Nil(t, waits["driver"])

	s.post(t, "/api/offers/"+open["assignmentId"].(string)+"/accept", diego, nil)
	s.post(t, "/api/trips/"+trip.(string)+"/arriving", diego, nil)
	driver, sync = s.connected(t, "/drivers", diego)
	require.Empty(t, sync["offers"])
	runs := sync["trips"].([]any)[0].(map[string]any)
	require.Equal(t, "arriving", runs["currentStatus"])
	require.Equal(t, "passenger-1", runs["passenger"].(map[string]any)["id"])
	require.Equal(t, trip, driver.expect("driver:availability:update")["currentTripId"])
	_, sync = s.connected(t, "/passengers", paula)
	runs = sync["trips"].([]any)[0].(map[string]any)
	require.Equal(t, "driver-1", runs["driver"].(map[string]any)["id"])
	require.Equal(t, "vehicle-driver-1", runs["vehicle"].(map[string]any)["id"])
	require.NotNil(t, runs["driverPosition"])
	require.Nil(t, runs["passenger"])
}
