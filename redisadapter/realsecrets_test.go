//go:build e2e

// What nodes send to Redis during a trip: no token, header or phone number.

package redisadapter_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
	"github.com/rodando/realtime/redisbus"
)

// What the host and its clients have, and nobody may find in Redis.
const (
	secretToken  = "SecretToken4711"
	secondToken  = "SecretSecondToken4711"
	secretHeader = "SecretHeader4711"
	fullPhone    = "+5355512345"
	nodesToken   = "secret-token" // redispeer.js has it too
	nodesPhone   = "+5355555555"
)

// revealing returns the commands that contain a secret, each after the secret.
func revealing(commands []string) (found []string) {
	for _, secret := range []string{secretToken, secondToken, secretHeader, fullPhone, nodesToken, nodesPhone} {
		for _, command := range commands {
			if strings.Contains(command, secret) {
				found = append(found, fmt.Sprintf("%s in %.500s", secret, command))
			}
		}
	}
	return found
}

// tripServers starts two servers on that URL, with everything that makes them send more to Redis.
func tripServers(t *testing.T, url, protocol string, change func(o *realtime.Options)) (servers [2]*realtimetest.Server) {
	t.Helper()
	for i := range servers {
		adapter := newAdapter(t, redisadapter.Options{URL: url, Sharded: protocol == "sharded"})
		servers[i] = realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Cluster.Adapter, o.Recovery.Enabled, o.Timeouts.PresenceGrace = adapter, true, 50*time.Millisecond
			if i > 0 {
				first := servers[0]
				o.Tokens, o.Users, o.Sessions, o.Trips, o.Parties = first.Tokens, first.Users, first.Sessions, first.Trips, first.Parties
			}
			if change != nil {
				change(o)
			}
		})
	}
	return servers
}

// wholeTrip has a passenger on the first server and a driver on the second one, and the events of a
// trip with cards that have full phone numbers. It returns the driver.
func wholeTrip(t *testing.T, servers [2]*realtimetest.Server) (driver *realtimetest.Client) {
	t.Helper()
	first, second := servers[0], servers[1]
	passengersToken, driversToken := secretToken+"-p1", secretToken+"-d1"
	first.Tokens.Set(passengersToken, realtime.Claims{Subject: "p1", SessionID: realtimetest.SessionID("p1"), ExpiresAt: time.Now().Add(time.Hour)})
	for _, token := range []string{driversToken, secondToken} {
		first.Tokens.Set(token, realtime.Claims{Subject: "d1", SessionID: realtimetest.SessionID("d1"), ExpiresAt: time.Now().Add(time.Hour)})
	}
	header := realtimetest.Header("X-Device-Key", secretHeader)
	passenger := first.Passenger(t, "p1", realtimetest.Token(passengersToken), header).Within(patience)
	driver = second.Driver(t, "d1", realtimetest.Token(driversToken), header).Within(patience)
	second.Admin(t, "a1", header)
	_, err := realtimetest.Call(t.Context(), driver, realtime.AuthRefresh, realtime.TokenRefresh{Token: secondToken})
	require.NoError(t, err)
	_, err = driver.CallRaw(t.Context(), realtime.DriverStatusUpdate.Name(), raw(`{"isOnline":true,"idempotencyKey":"k1"}`))
	require.NoError(t, err)

	publish := func(events ...realtime.DomainEvent) {
		t.Helper()
		for _, e := range events {
			require.NoError(t, first.Realtime.Publish(t.Context(), e))
		}
	}
	const trip, offer = "trip-1", "offer-1"
	driversCard := &realtime.DriverCard{ID: "d1", Name: new("Bob of the trip"), PhoneMasked: new(fullPhone)}
	passengersCard := &realtime.PassengerCard{ID: "p1", Name: new("Ana of the trip"), PhoneMasked: new(fullPhone)}
	car := &realtime.VehicleCard{ID: "v1", Make: new("Lada")}
	publish(
		realtime.TripRequested{TripID: trip, PassengerID: "p1", Pickup: &realtime.Place{Lat: 23.1, Lng: -82.4}},
		realtime.TripAssigningStarted{TripID: trip, PassengerID: "p1"},
		realtime.AssignmentOffered{TripID: trip, AssignmentID: offer, PassengerID: "p1", DriverID: "d1", TTLSec: 60},
		realtime.AssignmentAccepted{TripID: trip, AssignmentID: offer, PassengerID: "p1", DriverID: "d1", Driver: driversCard, Vehicle: car},
		realtime.DriverAssigned{TripID: trip, AssignmentID: offer, PassengerID: "p1", DriverID: "d1", Driver: driversCard, Vehicle: car, Passenger: passengersCard},
		realtime.ArrivingStarted{TripID: trip},
		realtime.DriverEnRoute{TripID: trip, ETAMinutes: new(3.0)},
	)
	require.Nil(t, realtimetest.Expect(t, passenger, realtime.EventDriverAssigned).Driver.PhoneMasked)
	require.Nil(t, realtimetest.Expect(t, driver, realtime.EventDriverAssignedToDriver).Passenger.PhoneMasked)
	realtimetest.Expect(t, driver, realtime.EventDriverEnRoute)
	_, err = realtimetest.Call(t.Context(), driver, realtime.DriverLocationPing, realtime.LocationPing{Position: &realtime.Position{Lat: 23.1, Lng: -82.4}})
	require.NoError(t, err)

	passenger.Drop()
	testkit.Pass(told)
	passenger, err = second.Dial(t.Context(), realtime.NamespacePassengers, realtimetest.Token(passengersToken), header, realtimetest.Recover(passenger))
	require.NoError(t, err)
	publish(
		realtime.DriverArrivedPickup{TripID: trip},
		realtime.TripStarted{TripID: trip},
		realtime.WaitingSurchargeApplied{TripID: trip, WaitingMinutes: 2, Amount: 50, Currency: "CUP"},
		realtime.TripCompleted{TripID: trip, FareTotal: 500, Currency: "CUP"},
	)
	realtimetest.Expect(t, passenger.Within(patience), realtime.EventTripCompleted)
	realtimetest.Expect(t, driver, realtime.EventTripCompleted)
	for _, s := range servers {
		_, err := s.Realtime.Drivers().All().Sockets(t.Context())
		require.NoError(t, err)
	}
	return driver
}

// TestRealRedis_NothingSecretIsPublished: neither between Go nodes nor to a Node server, which sends
// its own clients' secrets to everybody who asks.
func TestRealRedis_NothingSecretIsPublished(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			const ofNode, ofGo = 0, 1 // database numbers, by which the monitor tells the servers apart
			r := redistest.StartProcess(t)
			monitor := r.Monitor(t)
			node := startNode(t, r.URL(), protocol)
			node.do("client", fields{"name": "n1", "rooms": []string{"driver:d1"}, "data": fields{"userId": "d1", "phone": nodesPhone, "token": nodesToken}})
			servers := tripServers(t, fmt.Sprintf("%s/%d", r.URL(), ofGo), protocol, nil)
			testkit.Eventually(t, "the Node server counts three", func() bool { return string(node.do("servers", nil)) == "3" })
			driver := wholeTrip(t, servers)
			require.Contains(t, string(node.do("fetch", nil)), driver.ID())
			if protocol == "classic" {
				require.Contains(t, string(node.do("allRooms", nil)), driver.ID())
			}
			servers[0].Sessions.Revoke(realtimetest.SessionID("d1"))
			require.NoError(t, servers[0].Realtime.Publish(t.Context(), realtime.SessionRevoked{SessionID: realtimetest.SessionID("d1"), UserID: "d1"}))
			require.Equal(t, realtimetest.ReasonServer, driver.Disconnected(t))

			require.NotEmpty(t, revealing(monitor.Commands(t, ofNode)), "the monitor would show a secret")
			commands := monitor.Commands(t, ofGo)
			for _, crossed := range []string{driver.ID(), "Ana of the trip", "trip:completed"} {
				require.Contains(t, strings.Join(commands, ""), crossed)
			}
			require.Empty(t, revealing(commands))
		})
	}
}

// TestRealRedis_NothingSecretIsStored: nor is there a secret in what the bus stores. The monitor shows
// what XRANGE would, and also what was handled and removed meanwhile.
func TestRealRedis_NothingSecretIsStored(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	monitor := r.Monitor(t)
	wholeTrip(t, tripServers(t, r.URL(), "classic", func(o *realtime.Options) {
		bus, err := redisbus.New(redisbus.Options{URL: r.URL(), Logger: quiet})
		require.NoError(t, err)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			require.NoError(t, bus.Close(ctx))
		})
		o.Bus = bus
	}))
	var stored []string
	for _, command := range monitor.Commands(t, 0) {
		if strings.Contains(command, `"XADD" "{realtime:`) {
			stored = append(stored, command)
		}
	}
	for _, event := range []string{"trip.driver.assigned", "Ana of the trip", "trip.completed", "presence.connected"} {
		require.Contains(t, strings.Join(stored, ""), event)
	}
	require.Empty(t, revealing(stored))
}
