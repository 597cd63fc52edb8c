// Positions that come over the bus to a node that has not seen the driver's trip, and
// trip rooms that the sweep puts right.

package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// position is a driver's position as a domain event.
func position(driver string, lat float64) realtime.DriverLocationChanged {
	p := realtime.Position{Lat: lat, Lng: -82.4}
	return realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{DriverID: driver, LastLocation: p}}
}

// countedTrips is a TripLookup that counts its questions.
type countedTrips struct {
	realtimetest.Trips
	mu    sync.Mutex // guards the fields below
	asked map[string]int
}

func (c *countedTrips) ActiveTrips(ctx context.Context, id string) ([]string, error) {
	c.mu.Lock()
	if c.asked == nil {
		c.asked = map[string]int{}
	}
	c.asked[id]++
	c.mu.Unlock()
	return c.Trips.ActiveTrips(ctx, id)
}

func (c *countedTrips) count(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[id]
}

func TestPositions_TripThatTheNodeHasNotSeen(t *testing.T) {
	t.Run("the lookup knows", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			trips := &countedTrips{}
			nodes := realtimetest.NewCluster(t, 2, func(o *realtime.Options) { o.Trips = trips })
			trips.Set("p1", "t1")
			trips.Set("d1", "t1")
			passenger, unrelated := nodes[0].Passenger(t, "p1"), nodes[0].Passenger(t, "p2")
			for n := range 3 {
				nodes[1].Publish(t, position("d1", float64(n)))
				require.InDelta(t, n, realtimetest.Expect(t, passenger, realtime.EventTripDriverLocation).LastLocation.Lat, 0)
			}
			realtimetest.ExpectNone(t, unrelated)
			require.Equal(t, 1, trips.count("d1"))
			for range 100 { // a driver without a trip is not asked for each time
				nodes[1].Publish(t, position("d2", 1))
			}
			synctest.Wait()
			require.Equal(t, 1, trips.count("d2"))
			// The trip's end counts at once, a new trip in a while.
			nodes[0].Publish(t, realtime.TripCompleted{TripID: "t1", Currency: "CUP"})
			nodes[1].Publish(t, position("d1", 9))
			realtimetest.ExpectNone(t, passenger, realtime.EventTripDriverLocation)
		})
	})
	t.Run("another node knows", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			hub := realtimetest.NewHub()
			node := func() *realtimetest.Server {
				return realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
			}
			a := node()
			passenger := a.Passenger(t, "p1")
			a.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
			b := node() // started since
			for n := range 3 {
				b.Publish(t, position("d1", float64(n)))
				require.InDelta(t, n, realtimetest.Expect(t, passenger, realtime.EventTripDriverLocation).LastLocation.Lat, 0)
			}
			later := b.Passenger(t, "p1")
			b.Publish(t, position("d1", 5))
			realtimetest.Expect(t, later, realtime.EventTripDriverLocation)
		})
	})
	t.Run("another node knows, and Publish waits for Deliver", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			hub := realtimetest.NewHub()
			a := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
			passenger := a.Passenger(t, "p1")
			a.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
			adapter := oneAtATime{hub.Node(), make(chan struct{}, 1), &atomic.Int64{}}
			b := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = adapter })
			b.Publish(t, position("d1", 1))
			realtimetest.Expect(t, passenger, realtime.EventTripDriverLocation)
			require.Zero(t, time.Duration(adapter.delivered.Load()), "Deliver does not block")
		})
	})
	t.Run("the lookup hangs", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			srv := realtimetest.NewServer(t)
			admin, passenger := srv.Admin(t, "a1"), srv.Passenger(t, "p1")
			srv.Trips.Set("p1", "t1")
			srv.Trips.Set("d1", "t1")
			passenger.Close()
			passenger = srv.Passenger(t, "p1")
			entered, release := srv.Trips.Block()
			for n := range 3 {
				srv.Publish(t, position("d1", float64(n)))
				realtimetest.Expect(t, admin, realtime.EventAdminDriverLocation)
			}
			<-entered
			release()
			require.InDelta(t, 2, realtimetest.Expect(t, passenger, realtime.EventTripDriverLocation).LastLocation.Lat, 0, "the newest")
			realtimetest.ExpectNone(t, passenger, realtime.EventTripDriverLocation)
		})
	})
}

// oneAtATime is an adapter whose Publish waits until Deliver has returned.
type oneAtATime struct {
	realtime.Adapter
	turn      chan struct{}
	delivered *atomic.Int64 // the time that all calls of Deliver took
}

func (o oneAtATime) Start(ctx context.Context, n realtime.Node) error {
	return o.Adapter.Start(ctx, oneAtATimeNode{n, o})
}

func (o oneAtATime) Publish(ctx context.Context, m realtime.ClusterMessage) error {
	o.turn <- struct{}{}
	defer func() { <-o.turn }()
	return o.Adapter.Publish(ctx, m)
}

type oneAtATimeNode struct {
	realtime.Node
	of oneAtATime
}

func (n oneAtATimeNode) Deliver(m realtime.ClusterMessage) {
	n.of.turn <- struct{}{}
	began := time.Now()
	n.Node.Deliver(m)
	n.of.delivered.Add(int64(time.Since(began)))
	<-n.of.turn
}

// manyTrips is a TripLookup that is asked for many users at once.
type manyTrips struct {
	countedTrips
	batches int
	err     error
}

func (m *manyTrips) ActiveTripsOf(ctx context.Context, ids []string) (map[string][]string, error) {
	m.mu.Lock()
	m.batches++
	err := m.err
	m.mu.Unlock()
	found := map[string][]string{}
	for _, id := range ids {
		if trips, _ := m.Trips.ActiveTrips(ctx, id); trips != nil {
			found[id] = trips
		}
	}
	return found, err
}

func TestSweep_CorrectsTripRooms(t *testing.T) {
	t.Parallel()
	for name, lookup := range map[string]interface {
		realtime.TripLookup
		Set(user string, trips ...string)
	}{"one by one": &countedTrips{}, "many at once": &manyTrips{}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Trips = lookup })
				driver, passenger, admin := srv.Driver(t, "d1"), srv.Passenger(t, "p1"), srv.Admin(t, "a1")
				require.NoError(t, admin.Emit("admin:trip:join", realtime.TripRef{TripID: "t1"}))
				synctest.Wait()
				lookup.Set("d1", "t1")
				lookup.Set("p1", "t1")
				srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
				time.Sleep(3 * time.Minute)
				requireFollows(t, driver, "t1", 1, all(passenger, admin))

				// The messages that t1 ended and t2 began are lost.
				lookup.Set("d1", "t2")
				lookup.Set("p1")
				time.Sleep(3 * time.Minute)
				requireFollows(t, driver, "", 2, nil, passenger)
				require.Equal(t, 1, inTripRoom(t, srv.Realtime.Drivers(), "t2"))
				require.Zero(t, inTripRoom(t, srv.Realtime.Drivers(), "t1"))
				require.Zero(t, inTripRoom(t, srv.Realtime.Passengers(), "t1"))
				require.Equal(t, 1, inTripRoom(t, srv.Realtime.Admin(), "t1"), "an admin follows what they like")
				srv.Publish(t, position("d1", 3))
				realtimetest.ExpectNone(t, admin, realtime.EventTripDriverLocation)

				// A sweep does not undo a recent event, nor the end of a trip.
				srv.Publish(t, realtime.TripCompleted{TripID: "t2", Currency: "CUP"})
				for range 40 { // a sweep may come at any time
					trip := fmt.Sprint("n", time.Now().Unix())
					srv.Publish(t, realtime.DriverAssigned{TripID: trip, PassengerID: "p1", DriverID: "d1"})
					time.Sleep(3 * time.Second)
					require.Equal(t, 1, inTripRoom(t, srv.Realtime.Passengers(), trip))
					require.Zero(t, inTripRoom(t, srv.Realtime.Drivers(), "t2"))
				}
			})
		})
	}
}

// With a TripBatchLookup, a sweep finds sockets that are missing in the room of their trip.
func TestSweep_FindsTripsOfEverybody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lookup := &manyTrips{}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Trips = lookup })
		driver, passenger, unrelated := srv.Driver(t, "d1"), srv.Passenger(t, "p1"), srv.Passenger(t, "p2")
		lookup.Set("d1", "t1")
		lookup.Set("p1", "t1")
		time.Sleep(3 * time.Minute)
		requireFollows(t, driver, "t1", 1, all(passenger), unrelated)
		require.LessOrEqual(t, lookup.batches, 4)
		require.Equal(t, 1, lookup.count("d1"), "at connect")
	})
}

func TestSweep_LookupThatFails(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(m *manyTrips){
		"an error":    func(m *manyTrips) { m.err = errors.New("database down") },
		"an empty id": func(m *manyTrips) { m.Set("d1", "") },
		"a long id":   func(m *manyTrips) { m.Set("d1", strings.Repeat("x", 300)) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var log logBuffer
				lookup := &manyTrips{}
				srv := realtimetest.NewServer(t, logTo(&log), func(o *realtime.Options) { o.Trips = lookup })
				lookup.Set("d1", "t1")
				lookup.Set("p1", "t1")
				driver, passenger := srv.Driver(t, "d1"), srv.Passenger(t, "p1")
				lookup.mu.Lock()
				fail(lookup)
				lookup.mu.Unlock()
				time.Sleep(3 * time.Minute)
				requireFollows(t, driver, "t1", 1, all(passenger))
				require.Contains(t, log.String(), "sweep could not read all rows")
			})
		})
	}
}

// With a TripLookup of one user per call, a sweep calls it only for users in a trip's room.
func TestSweep_AsksNoMoreThanItMust(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		lookup := &countedTrips{}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Trips = lookup })
		lookup.Set("d1", "t1")
		srv.Driver(t, "d1")
		srv.Driver(t, "d2")
		srv.Admin(t, "a1")
		time.Sleep(10 * time.Minute)
		require.InDelta(t, 7, lookup.count("d1"), 2) // at connect, and in rounds that begin 48 to 72 s after the last one's end
		require.Equal(t, 1, lookup.count("d2"))
		require.Zero(t, lookup.count("a1"))
	})
}
