// Trips whose events come late, in another order or not at all, and lookups that are
// late too: whoever has left a trip is not shown to its people.

package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// countedAdapter counts the messages that a node publishes, and drops them while dropping is set.
type countedAdapter struct {
	realtime.Adapter
	sent     *atomic.Int64
	dropping *atomic.Bool
}

func (c countedAdapter) Publish(ctx context.Context, m realtime.ClusterMessage) error {
	if c.dropping.Load() || c.sent.Add(1) > 10_000 {
		return nil
	}
	return c.Adapter.Publish(ctx, m)
}

func moved(driver string, lat float64) realtime.DriverLocationChanged {
	return realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{
		DriverID: driver, LastLocation: realtime.Position{Lat: lat, Lng: 1}, LastLocationTimestamp: realtime.Time{Time: time.Now()},
	}}
}

// Nodes that know different things of a trip exchange a limited number of messages about it, and
// then agree.
func TestNodeState_ComesToRest(t *testing.T) {
	old := func(t *testing.T, join func() *realtimetest.Server, _ *atomic.Bool) *realtimetest.Server {
		a := join()
		join()
		a.Publish(t, realtime.DriverAssigned{TripID: "t1", DriverID: "d1", PassengerID: "p1"})
		time.Sleep(25 * time.Hour) // a rental, or one whose end was lost
		return a
	}
	lost := func(t *testing.T, join func() *realtimetest.Server, dropping *atomic.Bool) *realtimetest.Server {
		a, b := join(), join()
		for _, e := range []realtime.DomainEvent{
			realtime.TripRequested{TripID: "t1", PassengerID: "p1"},
			realtime.NoDriversFound{TripID: "t1", PassengerID: "p1"},
			realtime.AssignmentAccepted{TripID: "t1", AssignmentID: "as1", DriverID: "d1", PassengerID: "p1"},
		} {
			a.Publish(t, e)
			time.Sleep(time.Second)
		}
		b.Driver(t, "d1")
		dropping.Store(true)
		a.Publish(t, realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as1", DriverID: "d1", PassengerID: "p1"})
		time.Sleep(time.Second)
		dropping.Store(false)
		require.Equal(t, 1, inTripRoom(t, b.Realtime.Drivers(), "t1"), "the message was lost")
		return b
	}
	for name, begin := range map[string]func(*testing.T, func() *realtimetest.Server, *atomic.Bool) *realtimetest.Server{"an old trip": old, "a lost release": lost} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var sent atomic.Int64
				var dropping atomic.Bool
				hub := realtimetest.NewHub()
				join := func() *realtimetest.Server {
					return realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) {
						o.Cluster.Adapter = countedAdapter{hub.Node(), &sent, &dropping}
					})
				}
				one := begin(t, join, &dropping)
				late := join()
				before := sent.Load()
				late.Publish(t, moved("d1", 1)) // it asks
				time.Sleep(time.Second)
				require.Less(t, sent.Load()-before, int64(50), "messages because of one position")
				if name == "a lost release" {
					require.Zero(t, inTripRoom(t, one.Realtime.Drivers(), "t1"), "it has received what it had missed")
					return
				}
				p1 := one.Passenger(t, "p1")
				late.Publish(t, moved("d1", 2))
				require.InDelta(t, 2, realtimetest.Expect(t, p1, realtime.EventTripDriverLocation).LastLocation.Lat, 0, "the trip runs on")
			})
		})
	}
}

func TestPublisher_ReleaseBeforeItsAssignment(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withoutLookup)
		d1, p1 := srv.Driver(t, "d1"), srv.Passenger(t, "p1")
		now := time.Now()
		srv.Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1", At: now})
		srv.Publish(t, realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as1", DriverID: "d1", PassengerID: "p1", At: now.Add(3 * time.Second)})
		srv.Publish(t, realtime.DriverAssigned{TripID: "t1", DriverID: "d1", PassengerID: "p1", At: now.Add(2 * time.Second)})
		requireFollows(t, d1, "", 1, nil, p1)
	})
}

func TestPublisher_OldNoDriversFound(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withoutLookup)
		p1 := srv.Passenger(t, "p1")
		begin := time.Now()
		at := func(seconds int) time.Time { return begin.Add(time.Duration(seconds) * time.Second) }
		srv.Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1", At: at(0)})
		srv.Publish(t, realtime.NoDriversFound{TripID: "t1", PassengerID: "p1", At: at(1)})
		realtimetest.Expect(t, p1, realtime.EventNoDriversFound)
		srv.Publish(t, realtime.TripAssigningStarted{TripID: "t1", PassengerID: "p1", At: at(2)})
		srv.Publish(t, realtime.AssignmentAccepted{TripID: "t1", AssignmentID: "as1", DriverID: "d1", PassengerID: "p1", At: at(3)})
		srv.Publish(t, realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as1", DriverID: "d1", PassengerID: "p1", At: at(4)})
		srv.Publish(t, realtime.NoDriversFound{TripID: "t1", PassengerID: "p1", At: at(1)})
		realtimetest.ExpectNone(t, p1, realtime.EventNoDriversFound)
	})
}

// An event that shows the trip with a driver who has left it is sent only to admins.
func TestPublisher_LateEventOfAFormerDriver(t *testing.T) {
	now := func(seconds int) time.Time { return time.Now().Add(time.Duration(seconds) * time.Second) }
	for name, left := range map[string]func() realtime.DomainEvent{
		"another was assigned": func() realtime.DomainEvent {
			return realtime.AssignmentAccepted{TripID: "t1", AssignmentID: "as2", DriverID: "d2", PassengerID: "p1", At: now(5)}
		},
		"the assignment ended": func() realtime.DomainEvent {
			return realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as1", DriverID: "d1", PassengerID: "p1", At: now(5)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var outdated atomic.Int64
				srv := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) {
					o.Trace = &realtime.Trace{Outdated: func(context.Context, realtime.OutdatedInfo) { outdated.Add(1) }}
				})
				d1, p1, admin := srv.Driver(t, "d1"), srv.Passenger(t, "p1"), srv.Admin(t, "a1")
				srv.Publish(t, realtime.AssignmentAccepted{TripID: "t1", AssignmentID: "as1", DriverID: "d1", PassengerID: "p1", At: now(0)})
				srv.Publish(t, left())
				srv.Publish(t, realtime.DriverEnRoute{TripID: "t1", DriverID: "d1", DriverPosition: &realtime.Position{Lat: 1, Lng: 2}, At: now(2)})
				srv.Publish(t, realtime.DriverArrivedPickup{TripID: "t1", DriverID: "d1", At: now(2)})
				require.Equal(t, "d1", *realtimetest.Expect(t, admin, realtime.EventDriverEnRouteToAdmin).DriverID)
				realtimetest.Expect(t, admin, realtime.EventDriverArrivedPickupToAdmin)
				for _, c := range []*realtimetest.Client{d1, p1} {
					realtimetest.ExpectNone(t, c, realtime.EventDriverEnRoute)
					realtimetest.ExpectNone(t, c, realtime.EventDriverArrivedPickup)
				}
				require.EqualValues(t, 2, outdated.Load())
				srv.Publish(t, realtime.TripStarted{TripID: "t1", DriverID: "d1", At: now(9)})
				realtimetest.Expect(t, p1, realtime.EventTripStarted) // nothing newer says otherwise
			})
		})
	}
}

// A driver whom only the lookup has put into the room leaves it when the bus says so.
func TestTripRooms_DriverKnownByLookupLeaves(t *testing.T) {
	for name, end := range map[string]realtime.DomainEvent{
		"released":  realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as1", DriverID: "d1", PassengerID: "p1"},
		"no driver": realtime.NoDriversFound{TripID: "t1", PassengerID: "p1"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				nodes := realtimetest.NewCluster(t, 2)
				d1, p1 := connectOn(t, nodes, "d1", "p1")
				requireFollows(t, d1, "t1", 1, all(p1))
				time.Sleep(10 * time.Second)
				nodes[0].Trips.Set("d1")
				nodes[1].Trips.Set("d1")
				nodes[1].Publish(t, end)
				require.NoError(t, nodes[0].Settle(t.Context()))
				time.Sleep(time.Second)
				require.Zero(t, inTripRoom(t, nodes[0].Realtime.Drivers(), "t1"))
				requireFollows(t, d1, "", 2, nil, p1)
			})
		})
	}
}

func connectOn(t *testing.T, nodes []*realtimetest.Server, driver, passenger string) (d, p *realtimetest.Client) {
	for _, n := range nodes {
		n.Trips.Set(driver, "t1")
		n.Trips.Set(passenger, "t1")
	}
	return nodes[0].Driver(t, driver), nodes[0].Passenger(t, passenger)
}

// A lookup that is seconds behind the bus puts nobody into a room whom the bus has just
// said not to be on the trip.
func TestTripRooms_StaleLookup(t *testing.T) {
	for name, c := range map[string]struct {
		drivers   []string // one after the other
		passenger string   // of the trip
		comes     string   // the one for whom the lookup is late
	}{
		"a driver, after a restart":    {[]string{"d2"}, "p1", "d1"},
		"the former driver":            {[]string{"d1", "d2"}, "p1", "d1"},
		"the one before":               {[]string{"d1", "d2", "d3"}, "p1", "d1"},
		"a passenger, after a restart": {[]string{"d2"}, "p2", "p1"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t)
				srv.Trips.Set(c.comes, "t1") // late
				for _, d := range c.drivers {
					srv.Publish(t, realtime.DriverAssigned{TripID: "t1", DriverID: d, PassengerID: c.passenger})
					time.Sleep(time.Second)
				}
				ns := srv.Realtime.Drivers()
				if c.comes == "p1" {
					ns = srv.Realtime.Passengers()
					srv.Passenger(t, c.comes)
				} else {
					srv.Driver(t, c.comes)
				}
				require.Zero(t, inTripRoom(t, ns, "t1"))
				time.Sleep(10 * time.Second)
				if c.comes != "p1" {
					srv.Driver(t, c.comes)
					require.NotZero(t, inTripRoom(t, ns, "t1"), "later the lookup knows better: a message was lost")
				}
			})
		})
	}
}

// The answer about a driver's trips is not used against what the bus has said since.
func TestTripPositions_OfAFormerDriver(t *testing.T) {
	t.Run("by a lookup", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			srv := realtimetest.NewServer(t)
			srv.Trips.Set("d1", "t1")
			srv.Trips.Set("p1", "t1")
			p1 := srv.Passenger(t, "p1")
			srv.Publish(t, moved("d1", 1))
			require.InDelta(t, 1, realtimetest.Expect(t, p1, realtime.EventTripDriverLocation).LastLocation.Lat, 0)
			time.Sleep(time.Second)
			srv.Publish(t, realtime.DriverAssigned{TripID: "t1", DriverID: "d2", PassengerID: "p1"})
			srv.Publish(t, moved("d1", 2)) // the answer is known, and the lookup is late
			realtimetest.ExpectNone(t, p1, realtime.EventTripDriverLocation)
			srv.Publish(t, realtime.DriverAssigned{TripID: "t1", DriverID: "d3", PassengerID: "p1", At: time.Now().Add(time.Second)})
			srv.Publish(t, moved("d1", 3))
			realtimetest.ExpectNone(t, p1, realtime.EventTripDriverLocation)
		})
	})
	t.Run("by other nodes", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			nodes := realtimetest.NewCluster(t, 2, withoutLookup)
			a, b := nodes[0], nodes[1]
			p1 := a.Passenger(t, "p1")
			b.Publish(t, moved("d1", 0)) // b asks
			a.Publish(t, realtime.DriverAssigned{TripID: "t1", DriverID: "d1", PassengerID: "p1"})
			synctest.Wait() // b knows it, and has sent what waited
			b.Publish(t, moved("d1", 1))
			for lat := range 2 {
				require.InDelta(t, lat, realtimetest.Expect(t, p1, realtime.EventTripDriverLocation).LastLocation.Lat, 0)
			}
			for _, d := range []string{"d2", "d3"} {
				time.Sleep(time.Second)
				a.Publish(t, realtime.DriverAssigned{TripID: "t1", DriverID: d, PassengerID: "p1"})
			}
			time.Sleep(time.Second)
			b.Publish(t, moved("d1", 2))
			realtimetest.ExpectNone(t, p1, realtime.EventTripDriverLocation)
		})
	})
}

// A position that has waited until another node said which trip the driver is on is not sent after
// a newer one.
func TestTripPositions_KeepTheirOrder(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 2, withoutLookup)
		for i := range 100 { // the two are sent on different goroutines
			trip, d, p := fmt.Sprint("t", i), fmt.Sprint("d", i), nodes[0].Passenger(t, fmt.Sprint("p", i))
			nodes[1].Publish(t, moved(d, 0)) // it asks
			nodes[0].Publish(t, realtime.DriverAssigned{TripID: trip, DriverID: d, PassengerID: fmt.Sprint("p", i)})
			for lat := range 3 {
				nodes[1].Publish(t, moved(d, float64(lat+1)))
			}
			synctest.Wait()
			last := -1.0
			for _, r := range p.Received() {
				if r.Event == realtime.EventTripDriverLocation.Name() {
					var at realtime.TripLocationPayload
					require.NoError(t, json.Unmarshal(r.Args[0], &at))
					require.Greater(t, at.LastLocation.Lat, last)
					last = at.LastLocation.Lat
				}
			}
			require.InDelta(t, 3, last, 0)
		}
	})
}
