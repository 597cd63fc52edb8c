// Trips whose events come late, twice, out of order, on another node or not at all:
// nobody sees a driver who is not theirs, and nobody is forgotten.

package realtime_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// deliver publishes an event on the bus, with an id and a time.
func deliver(t *testing.T, srv *realtimetest.Server, id string, at time.Time, e realtime.DomainEvent) {
	t.Helper()
	env, err := realtime.NewEnvelope(e)
	require.NoError(t, err)
	env.ID, env.At = id, at
	require.NoError(t, srv.Bus.Publish(t.Context(), env))
	synctest.Wait()
}

// dropCounter counts what Trace.Outdated and Trace.Unaddressed report.
type dropCounter struct {
	mu sync.Mutex
	of map[string]int
}

func (c *dropCounter) trace(o *realtime.Options) {
	c.of = map[string]int{}
	add := func(key string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.of[key]++
	}
	o.Trace = &realtime.Trace{
		Outdated:    func(_ context.Context, i realtime.OutdatedInfo) { add("outdated " + i.Event) },
		Unaddressed: func(_ context.Context, i realtime.UnaddressedInfo) { add("unaddressed " + i.Event + " " + i.Who) },
	}
}

func (c *dropCounter) get(key string) int { return c.all()[key] }

func (c *dropCounter) all() map[string]int {
	synctest.Wait() // the functions of a Trace are called beside the rest
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.of)
}

func received(c *realtimetest.Client) (events []string) {
	synctest.Wait()
	for _, r := range c.Received() {
		events = append(events, r.Event)
	}
	return events
}

func TestTripRooms_LateEventDoesNotReopen(t *testing.T) {
	t.Parallel()
	assigned := realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"}
	late := map[string]realtime.DomainEvent{
		"assigned":  assigned,
		"accepted":  realtime.AssignmentAccepted{TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1"},
		"offered":   realtime.AssignmentOffered{TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1", TTLSec: 20},
		"requested": realtime.TripRequested{TripID: "t1", PassengerID: "p1"},
		"searching": realtime.TripAssigningStarted{TripID: "t1", PassengerID: "p1"},
		"none":      realtime.NoDriversFound{TripID: "t1", PassengerID: "p1"},
		"arriving":  realtime.ArrivingStarted{TripID: "t1", PassengerID: "p1", DriverID: "d1"},
		"en route":  realtime.DriverEnRoute{TripID: "t1", PassengerID: "p1", DriverID: "d1"},
		"arrived":   realtime.DriverArrivedPickup{TripID: "t1", PassengerID: "p1", DriverID: "d1"},
		"started":   realtime.TripStarted{TripID: "t1", PassengerID: "p1", DriverID: "d1"},
	}
	for end, last := range map[string]realtime.DomainEvent{
		"completed": realtime.TripCompleted{TripID: "t1", Currency: "CUP"},
		"cancelled": realtime.TripCancelled{TripID: "t1", CancelledBy: realtime.CancelledByDriver},
	} {
		for name, again := range late {
			t.Run(end+" then "+name, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					var log logBuffer
					var count dropCounter
					nodes := realtimetest.NewCluster(t, 2, withoutLookup, logTo(&log), count.trace)
					begun := time.Now()
					driver, passenger := nodes[0].Driver(t, "d1"), nodes[1].Passenger(t, "p1")
					deliver(t, nodes[0], "e1", begun, assigned)
					requireFollows(t, driver, "t1", 1, all(passenger))
					deliver(t, nodes[0], "e2", time.Now(), last)

					for n, wait := range []time.Duration{0, 2 * time.Minute, 20 * time.Hour} {
						time.Sleep(wait)
						clients := all(nodes[0].Driver(t, "d1"), nodes[0].Passenger(t, "p1"), nodes[1].Passenger(t, "p1"), nodes[0].Admin(t, "a1"))
						deliver(t, nodes[1], fmt.Sprint("again", n), begun, again) // on another node
						deliver(t, nodes[0], fmt.Sprint("again", n), begun, again)
						require.Equal(t, 2*n+2, count.get("outdated "+again.EventName()))
						for _, c := range clients {
							require.Equal(t, []string{"hello"}, received(c), "%v would see a ride again", c)
						}
						clients = append(clients, nodes[1].Passenger(t, "p1"))
						requireFollows(t, clients[0], "", 2, nil, clients[1:]...)
						for _, c := range clients {
							c.Close()
						}
					}
					require.Contains(t, log.String(), "outdated event of a trip not sent")
				})
			})
		}
	}
}

// An event that is not about a running trip is sent after the trip's end too.
func TestTripRooms_WhatIsSentAfterTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver, passenger, admin := srv.Driver(t, "d1"), srv.Passenger(t, "p1"), srv.Admin(t, "a1")
		srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		srv.Publish(t, realtime.TripCompleted{TripID: "t1", Currency: "CUP"})
		srv.Publish(t, realtime.AdminTripMessage{TripID: "t1", PassengerID: "p1", DriverID: "d1", AdminID: "a1", To: realtime.MessageToBoth, Message: "you left your hat"})
		srv.Publish(t, realtime.WaitingSurchargeApplied{TripID: "t1", PassengerID: "p1", DriverID: "d1", Currency: "CUP"})
		srv.Publish(t, realtime.TripCancelled{TripID: "t1", PassengerID: "p1", DriverID: "d1", CancelledBy: realtime.CancelledByAdmin})
		srv.Publish(t, realtime.AssignmentExpired{TripID: "t1", AssignmentID: "as9", DriverID: "d1"})
		for _, c := range all(driver, passenger, admin) {
			realtimetest.Expect(t, c, realtime.EventAdminTripMessage)
			realtimetest.Expect(t, c, realtime.EventWaitingSurchargeApplied)
			realtimetest.Expect(t, c, realtime.EventTripCancelled)
		}
		realtimetest.Expect(t, driver, realtime.EventAssignmentExpired)
	})
}

func TestTripRooms_OlderAssignmentDoesNotReplaceNewer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var count dropCounter
		nodes := realtimetest.NewCluster(t, 2, withoutLookup, count.trace)
		first, second, passenger := nodes[0].Driver(t, "d1"), nodes[1].Driver(t, "d2"), nodes[0].Passenger(t, "p1")
		one := realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1", At: time.Now()}
		two := realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d2", At: time.Now().Add(time.Second)}
		time.Sleep(time.Minute)
		nodes[0].Publish(t, two)
		for n, node := range nodes {
			deliver(t, node, "again", time.Now(), one)
			requireFollows(t, first, "", float64(1+n), nil, passenger)
			requireFollows(t, second, "t1", float64(10+n), all(passenger))
		}
		require.Equal(t, 2, count.get("outdated trip.driver.assigned"))
		require.Equal(t, "d2", *realtimetest.Expect(t, passenger, realtime.EventDriverAssigned).DriverID)
		realtimetest.ExpectNone(t, passenger, realtime.EventDriverAssigned)
	})
}

// A node that missed an event and applies an older one receives the newer state from the node
// that knows it.
func TestTripRooms_NodeThatMissedTheNews(t *testing.T) {
	t.Parallel()
	began := realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"}
	for name, news := range map[string]realtime.DomainEvent{
		"another driver": realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d2"},
		"over":           realtime.TripCancelled{TripID: "t1", CancelledBy: realtime.CancelledBySystem},
		"taken off":      realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as1", DriverID: "d1"},
		"none found":     realtime.NoDriversFound{TripID: "t1"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				hub := realtimetest.NewHub()
				cut := &holdingAdapter{Adapter: hub.Node()}
				knows := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = cut })
				missed := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
				driver, passenger := missed.Driver(t, "d1"), missed.Passenger(t, "p1")
				passengerThere := knows.Passenger(t, "p1")
				begun := time.Now()
				cut.begin() // forever
				deliver(t, knows, "e1", begun, began)
				deliver(t, knows, "e2", begun.Add(time.Second), news)
				synctest.Wait()
				cut.drop()
				deliver(t, missed, "e3", begun, began)
				requireFollows(t, driver, "", 1, nil, passenger, passengerThere)
			})
		})
	}
}

func TestTripRooms_ExpiryOlderThanTheAcceptance(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver, passenger := srv.Driver(t, "d1"), srv.Passenger(t, "p1")
		begun := time.Now()
		srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1", At: begun.Add(time.Second)})
		srv.Publish(t, realtime.AssignmentExpired{TripID: "t1", AssignmentID: "as1", DriverID: "d1", At: begun})
		requireFollows(t, driver, "t1", 1, all(passenger))
	})
}

func TestTripRooms_OnlyTheAssignmentsOwnEndTakesTheDriverOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver, passenger := srv.Driver(t, "d1"), srv.Passenger(t, "p1")
		accept := func(assignment string) {
			srv.Publish(t, realtime.AssignmentAccepted{TripID: "t1", AssignmentID: assignment, PassengerID: "p1", DriverID: "d1"})
			srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		}
		srv.Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
		accept("as2")
		srv.Publish(t, realtime.AssignmentExpired{TripID: "t1", AssignmentID: "as1", DriverID: "d1"})
		srv.Publish(t, realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as1", DriverID: "d1"})
		realtimetest.Expect(t, driver, realtime.EventAssignmentExpired)
		realtimetest.Expect(t, driver, realtime.EventAssignmentCancelled)
		requireFollows(t, driver, "t1", 1, all(passenger, srv.Passenger(t, "p1")))
		srv.Publish(t, realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as2", DriverID: "d1"})
		requireFollows(t, driver, "", 2, nil, passenger)
		time.Sleep(time.Second)
		srv.Publish(t, realtime.DriverAssigned{TripID: "t1", AssignmentID: "as3", PassengerID: "p1", DriverID: "d1"})
		srv.Publish(t, realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as1", DriverID: "d1"})
		requireFollows(t, driver, "t1", 3, all(passenger))
	})
}

func TestTripRooms_ReplacedPassengerLeaves(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]realtime.DomainEvent{
		"assigned": realtime.DriverAssigned{TripID: "t1", PassengerID: "p2", DriverID: "d1"},
		"started":  realtime.TripStarted{TripID: "t1", PassengerID: "p2", DriverID: "d1"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				nodes := realtimetest.NewCluster(t, 2, withoutLookup)
				driver, before, after := nodes[0].Driver(t, "d1"), nodes[1].Passenger(t, "p1"), nodes[1].Passenger(t, "p2")
				nodes[0].Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
				requireFollows(t, driver, "t1", 1, all(before), after)
				nodes[1].Publish(t, e)
				requireFollows(t, driver, "t1", 2, all(after), before, nodes[0].Passenger(t, "p1"))
			})
		})
	}
}

// A search may begin again after nobody was found; until then nobody is on the trip.
func TestTripRooms_SearchThatBeginsAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withoutLookup)
		driver, passenger, admin := srv.Driver(t, "d1"), srv.Passenger(t, "p1"), srv.Admin(t, "a1")
		require.NoError(t, admin.Emit("admin:trip:join", realtime.TripRef{TripID: "t1"}))
		synctest.Wait()
		begun := time.Now()
		srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		requireFollows(t, driver, "t1", 1, all(passenger, admin))
		srv.Publish(t, realtime.NoDriversFound{TripID: "t1"})
		realtimetest.Expect(t, passenger, realtime.EventNoDriversFound)
		requireFollows(t, driver, "", 2, nil, passenger, srv.Passenger(t, "p1"))
		deliver(t, srv, "late", begun.Add(-time.Second), realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		requireFollows(t, driver, "", 3, nil, passenger)
		time.Sleep(time.Second)
		srv.Publish(t, realtime.TripAssigningStarted{TripID: "t1"})
		realtimetest.Expect(t, passenger, realtime.EventTripAssigningStarted)
		srv.Publish(t, realtime.DriverAssigned{TripID: "t1", DriverID: "d1"})
		requireFollows(t, driver, "t1", 4, all(passenger, admin))
	})
}

func TestTripRooms_PeopleLearntByAnotherNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var count dropCounter
		nodes := realtimetest.NewCluster(t, 2, withoutLookup, count.trace, func(o *realtime.Options) { o.Parties = nil })
		passenger, driver := nodes[1].Passenger(t, "p1"), nodes[0].Driver(t, "d1")
		nodes[0].Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
		nodes[1].Publish(t, realtime.DriverArrivedPickup{TripID: "t1", DriverID: "d1"})
		realtimetest.Expect(t, passenger, realtime.EventDriverArrivedPickup)
		nodes[1].Publish(t, realtime.DriverAssigned{TripID: "t1", DriverID: "d1"})
		nodes[0].Publish(t, realtime.TripStarted{TripID: "t1"})
		realtimetest.Expect(t, driver, realtime.EventTripStarted)
		require.Empty(t, count.all())
	})
}

func TestTripRooms_UnknownPeopleAreCounted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		var count dropCounter
		srv := realtimetest.NewServer(t, logTo(&log), count.trace)
		srv.Publish(t, realtime.TripStarted{TripID: "t1"})
		srv.Publish(t, realtime.AssignmentExpired{TripID: "t1", AssignmentID: "as1"})
		srv.Publish(t, realtime.TripCancelled{TripID: "t1", PassengerID: "p1", CancelledBy: realtime.CancelledBySystem})
		require.Equal(t, map[string]int{
			"unaddressed trip.started passenger": 1, "unaddressed trip.started driver": 1,
			"unaddressed trip.assignment.expired driver": 1,
		}, count.all())
		require.Equal(t, 2, strings.Count(log.String(), "of the trip: not known"))
	})
}

// fixedTrips is a TripLookup that gives every user the same answer.
type fixedTrips []string

func (a fixedTrips) ActiveTrips(context.Context, string) ([]string, error) { return a, nil }

func TestTripRooms_LookupThatAnswersNonsense(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]fixedTrips{
		"empty": {""}, "one of many": {"t1", ""}, "long": {strings.Repeat("x", 257)}, "NUL": {"t1\x00t2"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Trips, o.Compat.RefuseUnavailable = answer, true })
				for ns, typ := range map[string]realtime.UserType{
					realtime.NamespaceDrivers: realtime.UserDriver, realtime.NamespacePassengers: realtime.UserPassenger,
				} {
					_, err := srv.Dial(t.Context(), ns, realtimetest.Token(srv.Login("a "+string(typ), typ)))
					var refused *realtimetest.ConnectError
					require.ErrorAs(t, err, &refused)
					require.Equal(t, realtime.CodeUnavailable, refused.Code)
				}
			})
		})
	}
}

func TestTripRooms_LookupDecides(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		early := srv.Passenger(t, "p1")
		require.Equal(t, 1, inTripRoom(t, srv.Realtime.Passengers(), "t1"), "too new for the lookup to know")
		early.Close()
		time.Sleep(10 * time.Second) // and the message that the trip ended is lost
		srv.Driver(t, "d1")
		srv.Passenger(t, "p1")
		require.Zero(t, inTripRoom(t, srv.Realtime.Drivers(), "t1"))
		require.Zero(t, inTripRoom(t, srv.Realtime.Passengers(), "t1"))
		// A trip that has ended does not run again, even if the lookup returns it.
		srv.Publish(t, realtime.TripCompleted{TripID: "t2", Currency: "CUP"})
		srv.Trips.Set("p2", "t2", "t3")
		time.Sleep(time.Hour)
		srv.Passenger(t, "p2")
		require.Zero(t, inTripRoom(t, srv.Realtime.Passengers(), "t2"))
		require.Equal(t, 1, inTripRoom(t, srv.Realtime.Passengers(), "t3"))
	})
}

// An empty or invalid id makes no room in which sockets of different users meet.
// A host's database is ahead of its bus: the lookup says that the trip is over while
// what happened to it before is still on its way, and names nobody.
func TestTripRooms_DatabaseAheadOfTheBus(t *testing.T) {
	t.Parallel()
	for name, parties := range map[string]realtime.PartyLookup{"without a PartyLookup": nil, "with one that knows nothing": &realtimetest.Parties{}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Parties = parties })
				driver, passenger, other := srv.Driver(t, "d1"), srv.Passenger(t, "p1"), srv.Driver(t, "d2")
				srv.Trips.Set("d1", "t1")
				srv.Trips.Set("p1", "t1")
				srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
				requireFollows(t, driver, "t1", 1, all(passenger))
				srv.Trips.Set("d1")
				srv.Trips.Set("p1")
				time.Sleep(3 * time.Minute)
				requireFollows(t, driver, "", 2, nil, passenger)
				srv.Publish(t, position("d1", 3))
				realtimetest.ExpectNone(t, passenger, realtime.EventTripDriverLocation)

				srv.Publish(t, realtime.ArrivingStarted{TripID: "t1"})
				realtimetest.Expect(t, driver, realtime.EventArrivingStarted)
				srv.Publish(t, realtime.TripStarted{TripID: "t1"})
				realtimetest.Expect(t, driver, realtime.EventTripStarted)
				require.Zero(t, inTripRoom(t, srv.Realtime.Drivers(), "t1"))
				srv.Publish(t, realtime.TripCompleted{TripID: "t1", Currency: "CUP"})
				realtimetest.Expect(t, driver, realtime.EventTripCompleted)
				realtimetest.Expect(t, passenger, realtime.EventTripCompleted)
				require.NotContains(t, received(other), "trip:completed")

				// Another driver has the trip, and the message that said so is lost.
				srv.Trips.Set("d1", "t2")
				srv.Publish(t, realtime.DriverAssigned{TripID: "t2", PassengerID: "p1", DriverID: "d1"})
				time.Sleep(3 * time.Minute)
				srv.Trips.Set("d1")
				srv.Trips.Set("d2", "t2")
				other.Close()
				time.Sleep(3 * time.Minute)
				srv.Driver(t, "d2")
				srv.Publish(t, realtime.TripStarted{TripID: "t2"})
				realtimetest.ExpectNone(t, driver, realtime.EventTripStarted)
				require.Equal(t, 1, inTripRoom(t, srv.Realtime.Drivers(), "t2"))
			})
		})
	}
}

func TestRoom_OfNobody(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"", strings.Repeat("x", 257), "a\x00b"} {
		for _, r := range []realtime.Room{
			realtime.DriverRoom(id), realtime.PassengerRoom(id), realtime.AdminUserRoom(id), realtime.SessionRoom(id),
			realtime.TripRoom(id), realtime.UserRoom(id), realtime.NewRoom("zone", id),
		} {
			require.Equal(t, realtime.Room{}, r)
		}
	}
	require.NotEqual(t, realtime.Room{}, realtime.TripRoom(strings.Repeat("x", 256)))
}

func TestRoom_NobodyEntersTheZeroRoom(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(*realtime.Options) {})
		srv.Realtime.Drivers().OnConnect(func(_ context.Context, s *realtime.Socket) error {
			s.Join(realtime.TripRoom(""), realtime.Room{})
			return nil
		})
		driver := srv.Driver(t, "d1")
		ns := srv.Realtime.Drivers()
		require.NoError(t, realtime.EventTripDriverLocation.Emit(ns.To(realtime.TripRoom(""), realtime.Room{}), realtime.TripLocationPayload{}))
		ns.To(realtime.Room{}).Disconnect()
		ns.To(realtime.DriverRoom("")).Close()
		synctest.Wait()
		realtimetest.ExpectNone(t, driver, realtime.EventTripDriverLocation)
		sockets, err := ns.To(realtime.Room{}).Sockets(t.Context())
		require.NoError(t, err)
		require.Empty(t, sockets)
		sockets, err = ns.To(realtime.DriverRoom("d1")).Except(realtime.Room{}).Sockets(t.Context())
		require.NoError(t, err)
		require.Len(t, sockets, 1)
		require.Len(t, sockets[0].Rooms, 2)
	})
}

func TestHandshake_TokenWithIDsThatCannotBe(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		for _, id := range []string{strings.Repeat("x", 257), "a\x00b"} {
			for _, token := range []string{srv.Tokens.Mint(id, "s1", time.Hour), srv.Tokens.Mint("u1", id, time.Hour)} {
				_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token))
				var refused *realtimetest.ConnectError
				require.ErrorAs(t, err, &refused)
				require.Equal(t, realtime.CodeMissingClaims, refused.Code)
			}
		}
	})
}

func TestPublish_IDsThatCannotBe(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		for _, e := range []realtime.DomainEvent{
			realtime.TripStarted{TripID: strings.Repeat("x", 257)},
			realtime.TripStarted{TripID: "t1", PassengerID: "p1\x00"},
			realtime.DriverAssigned{TripID: "t1", DriverID: strings.Repeat("x", 300)},
			realtime.AssignmentExpired{TripID: "t1", AssignmentID: "as1", DriverID: "\x00"},
			realtime.AssignmentExpired{TripID: "t1", AssignmentID: strings.Repeat("x", 300)},
			realtime.SessionRevoked{SessionID: strings.Repeat("x", 257)},
			realtime.UserAccessChanged{UserID: "u\x00"},
			realtime.SessionRefreshed{UserID: "u", OldSessionID: strings.Repeat("x", 257), NewSessionID: "s2"},
			realtime.DriverStatusChanged{Availability: realtime.Availability{DriverID: "\x00"}},
		} {
			require.ErrorContains(t, srv.Realtime.Publish(t.Context(), e), "id", e.EventName())
		}
		_, err := realtimetest.Call(t.Context(), srv.Admin(t, "a1"), realtime.AdminTripJoin, realtime.TripRef{TripID: "t\x001"})
		var refused *realtime.Error
		require.ErrorAs(t, err, &refused)
		require.Equal(t, realtime.CodeInvalidPayload, refused.Code)
	})
}
