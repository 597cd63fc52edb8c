// From the bus to the clients: who is in a trip's room and when, the order of
// events, events that come twice, damaged or half filled in, and receivers that
// do not keep up.

package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// at is a driver's position, distinguished by its latitude.
func at(lat float64) realtime.LocationPing {
	return realtime.LocationPing{Position: &realtime.Position{Lat: lat, Lng: -82.4}}
}

// move makes a driver report a position.
func move(t *testing.T, driver *realtimetest.Client, lat float64) {
	t.Helper()
	_, err := realtimetest.Call(t.Context(), driver, realtime.DriverLocationPing, at(lat))
	require.NoError(t, err)
	synctest.Wait()
}

// requireFollows checks that a driver's position reaches these clients under
// the trip's name, and none of the others.
func requireFollows(t *testing.T, driver *realtimetest.Client, trip string, lat float64, who []*realtimetest.Client, not ...*realtimetest.Client) {
	t.Helper()
	move(t, driver, lat)
	for _, c := range who {
		got := realtimetest.Expect(t, c, realtime.EventTripDriverLocation)
		require.Equal(t, trip, got.TripID, c)
		require.InDelta(t, lat, got.LastLocation.Lat, 0, c)
	}
	for _, c := range append(who, not...) {
		realtimetest.ExpectNone(t, c, realtime.EventTripDriverLocation)
	}
}

// inTripRoom counts the sockets of a namespace in a trip's room.
func inTripRoom(t *testing.T, ns *realtime.Namespace, trip string) int {
	t.Helper()
	sockets, err := ns.To(realtime.TripRoom(trip)).Sockets(t.Context())
	require.NoError(t, err)
	return len(sockets)
}

func all(clients ...*realtimetest.Client) []*realtimetest.Client { return clients }

func TestTripRooms_LastAsLongAsTheTrip(t *testing.T) {
	t.Parallel()
	for begin, first := range map[string]realtime.DomainEvent{
		"assigned": realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"},
		"accepted": realtime.AssignmentAccepted{TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1"},
	} {
		for end, last := range map[string]realtime.DomainEvent{
			"completed": realtime.TripCompleted{TripID: "t1", Currency: "CUP"},
			"cancelled": realtime.TripCancelled{TripID: "t1", CancelledBy: realtime.CancelledByDriver},
		} {
			t.Run(begin+" and "+end, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.AdminTripsByRoom = true })
					driver, phone := srv.Driver(t, "d1"), srv.Driver(t, "d1")
					passenger, unrelated := srv.Passenger(t, "p1"), srv.Passenger(t, "p2")
					admin, bystander := srv.Admin(t, "a1"), srv.Admin(t, "a2")
					require.NoError(t, admin.Emit("admin:trip:join", realtime.TripRef{TripID: "t1"}))
					synctest.Wait()

					srv.Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
					requireFollows(t, driver, "", 1, nil, passenger, unrelated, admin, bystander)
					srv.Publish(t, first)
					requireFollows(t, driver, "t1", 2, all(passenger, admin), unrelated, bystander)
					requireFollows(t, phone, "t1", 3, all(passenger, admin), unrelated, bystander)

					srv.Publish(t, last)
					for _, c := range all(driver, phone, passenger, admin) { // the admin by the room alone
						_, err := c.NextRaw(t.Context(), last.EventName()[:4]+":"+end)
						require.NoError(t, err)
					}
					requireFollows(t, driver, "", 4, nil, passenger, unrelated, admin, bystander)
					for _, ns := range []*realtime.Namespace{srv.Realtime.Drivers(), srv.Realtime.Passengers(), srv.Realtime.Admin()} {
						require.Zero(t, inTripRoom(t, ns, "t1"), ns.Name())
					}
				})
			})
		}
	}
}

func TestTripRooms_SocketsThatConnectDuringTheTrip(t *testing.T) {
	t.Parallel()
	assigned := realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"}
	for name, c := range map[string]struct {
		begin func(t *testing.T, srv *realtimetest.Server)
		set   func(o *realtime.Options)
	}{
		"known from the bus alone": {
			func(t *testing.T, srv *realtimetest.Server) { srv.Publish(t, assigned) },
			func(o *realtime.Options) { o.Trips = nil },
		},
		"known from the lookup alone": {
			func(_ *testing.T, srv *realtimetest.Server) {
				srv.Trips.Set("d1", "t1")
				srv.Trips.Set("p1", "t1")
			},
			func(*realtime.Options) {},
		},
		"known from both": {
			func(t *testing.T, srv *realtimetest.Server) {
				srv.Publish(t, assigned)
				srv.Trips.Set("d1", "t1")
				srv.Trips.Set("p1", "t1")
			},
			func(*realtime.Options) {},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, c.set)
				c.begin(t, srv)
				driver, other := srv.Driver(t, "d1"), srv.Driver(t, "d2")
				passenger, unrelated := srv.Passenger(t, "p1"), srv.Passenger(t, "p2")
				requireFollows(t, driver, "t1", 1, all(passenger), unrelated)
				requireFollows(t, other, "", 2, nil, passenger, unrelated)

				srv.Publish(t, realtime.TripCompleted{TripID: "t1", PassengerID: "p1", DriverID: "d1", Currency: "CUP"})
				srv.Trips.Set("p1")
				again := srv.Passenger(t, "p1")
				requireFollows(t, driver, "", 3, nil, passenger, again)
			})
		})
	}
}

// The lookup has read its answer before the trip changed. The event that came from the bus
// meanwhile is newer and decides.
func TestTripRooms_ChangesDuringTheHandshake(t *testing.T) {
	t.Parallel()
	for name, changed := range map[string]realtime.DomainEvent{
		"completed":         realtime.TripCompleted{TripID: "t1", Currency: "CUP"},
		"cancelled":         realtime.TripCancelled{TripID: "t1", CancelledBy: realtime.CancelledBySystem},
		"another's":         realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d2"},
		"offer cancelled":   realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as1", DriverID: "d1"},
		"offer expired":     realtime.AssignmentExpired{TripID: "t1", AssignmentID: "as1", DriverID: "d1"},
		"theirs, as it was": realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"},
		"someone's offer":   realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as2", DriverID: "d2"},
		"of no importance":  realtime.ArrivingStarted{TripID: "t1"},
	} {
		stays := map[string]bool{"theirs, as it was": true, "someone's offer": true, "of no importance": true}[name]
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t)
				srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
				srv.Trips.Set("d1", "t1")
				entered, release := srv.Trips.Block()
				connected := make(chan *realtimetest.Client)
				go func() { connected <- srv.Driver(t, "d1") }()
				<-entered
				srv.Publish(t, changed)
				release()
				driver := <-connected
				require.Equal(t, stays, inTripRoom(t, srv.Realtime.Drivers(), "t1") == 1)
				srv.Trips.Set("p1", "t1")
				passenger := srv.Passenger(t, "p1")
				if stays {
					requireFollows(t, driver, "t1", 1, all(passenger))
				} else {
					requireFollows(t, driver, "", 1, nil, passenger)
				}
			})
		})
	}
}

// A socket receives, after hello, the events that were published after it had passed the
// checks of its handshake. It does not receive earlier ones.
func TestHandshake_EventsDuringIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		checked, passCheck := srv.Sessions.Block()
		connected := make(chan *realtimetest.Client)
		go func() { connected <- srv.Passenger(t, "p1") }()
		<-checked
		srv.Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
		asked, goOn := srv.Trips.Block()
		passCheck()
		<-asked
		srv.Publish(t, realtime.TripAssigningStarted{TripID: "t1"})
		srv.Publish(t, realtime.DriverAssigned{TripID: "t1", DriverID: "d1"})
		srv.Publish(t, realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{DriverID: "d1"}})
		goOn()
		client := <-connected
		synctest.Wait()
		var events []string
		for _, r := range client.Received() {
			events = append(events, r.Event)
		}
		require.Equal(t, []string{"hello", "trip:assigning_started", "trip:driver_assigned", "trip:driver_location"}, events)
	})
}

func TestTripRooms_DriverChanges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		first, second := srv.Driver(t, "d1"), srv.Driver(t, "d2")
		passenger := srv.Passenger(t, "p1")
		assign := func(driver string) {
			time.Sleep(time.Millisecond) // of two at the same time the ids decide
			srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: driver})
		}
		assign("d1")
		requireFollows(t, first, "t1", 1, all(passenger))

		// Another driver's offer of the same trip is withdrawn: that is not theirs.
		srv.Publish(t, realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as2", DriverID: "d2"})
		realtimetest.Expect(t, second, realtime.EventAssignmentCancelled)
		requireFollows(t, first, "t1", 2, all(passenger))

		assign("d2")
		requireFollows(t, first, "", 3, nil, passenger)
		requireFollows(t, second, "t1", 4, all(passenger))

		srv.Publish(t, realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as2", DriverID: "d2"})
		requireFollows(t, second, "", 5, nil, passenger)
		require.Equal(t, 1, inTripRoom(t, srv.Realtime.Passengers(), "t1"), "the trip runs on")

		assign("d1")
		requireFollows(t, first, "t1", 6, all(passenger))
		later := srv.Driver(t, "d1")
		requireFollows(t, later, "t1", 7, all(passenger))
		requireFollows(t, srv.Driver(t, "d2"), "", 8, nil, passenger)
	})
}

// The domain events decide who sees whose position, and nothing that a client sends.
func TestDriverTripSet_ShowsNobodyAnything(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver, impostor, passenger := srv.Driver(t, "d1"), srv.Driver(t, "d2"), srv.Passenger(t, "p1")
		srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})

		snapshot, err := realtimetest.Call(t.Context(), impostor, realtime.DriverTripSet, realtime.SetTrip{CurrentTripID: new("t1")})
		require.NoError(t, err)
		require.Equal(t, new("t1"), snapshot.CurrentTripID)
		requireFollows(t, impostor, "", 1, nil, passenger)
		srv.Publish(t, realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{DriverID: "d2"}})
		realtimetest.ExpectNone(t, passenger, realtime.EventTripDriverLocation)

		_, err = realtimetest.Call(t.Context(), driver, realtime.DriverTripSet, realtime.SetTrip{})
		require.NoError(t, err)
		requireFollows(t, driver, "t1", 2, all(passenger))
		// Not even a host that says so on the bus moves anybody: the trip's own
		// events do.
		srv.Publish(t, realtime.DriverTripChanged{DriverTrip: realtime.DriverTrip{DriverID: "d2", CurrentTripID: new("t1")}})
		requireFollows(t, impostor, "", 3, nil, passenger)
	})
}

func TestTripRooms_PooledTrips(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver := srv.Driver(t, "d1")
		one, two := srv.Passenger(t, "p1"), srv.Passenger(t, "p2")
		srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		srv.Publish(t, realtime.DriverAssigned{TripID: "t2", PassengerID: "p2", DriverID: "d1"})
		move(t, driver, 1)
		require.Equal(t, "t1", realtimetest.Expect(t, one, realtime.EventTripDriverLocation).TripID)
		require.Equal(t, "t2", realtimetest.Expect(t, two, realtime.EventTripDriverLocation).TripID)
		srv.Publish(t, realtime.TripCompleted{TripID: "t1", Currency: "CUP"})
		requireFollows(t, driver, "t2", 2, all(two), one)
	})
}

func TestPublisher_OrderOfATrip(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus = nil }) // the library's own bus
		const trips, events = 20, 50
		admin := srv.Admin(t, "a1")
		var passengers []*realtimetest.Client
		for n := range trips {
			passengers = append(passengers, srv.Passenger(t, fmt.Sprint("p", n)))
		}
		var publishing sync.WaitGroup
		for n := range trips {
			publishing.Go(func() {
				for k := range events {
					err := srv.Realtime.Publish(t.Context(), realtime.NoDriversFound{
						TripID: fmt.Sprint("t", n), PassengerID: fmt.Sprint("p", n), Reason: fmt.Sprint(k),
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		publishing.Wait()
		synctest.Wait()
		for n, p := range passengers {
			for k := range events {
				got := realtimetest.Expect(t, p, realtime.EventNoDriversFound)
				require.Equal(t, fmt.Sprint("t", n), got.TripID)
				require.Equal(t, fmt.Sprint(k), *got.Reason)
			}
			realtimetest.ExpectNone(t, p)
		}
		next := map[string]int{}
		for range trips * events {
			got := realtimetest.Expect(t, admin, realtime.EventNoDriversFound)
			require.Equal(t, fmt.Sprint(next[got.TripID]), *got.Reason, got.TripID)
			next[got.TripID]++
		}
		require.Len(t, next, trips)
	})
}

func TestPublisher_EventsThatComeTwice(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Limits.RememberedEvents = 3 })
		admin := srv.Admin(t, "a1")
		event, err := realtime.NewEnvelope(realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
		require.NoError(t, err)
		publish := func(id string) {
			event.ID = id
			require.NoError(t, srv.Bus.Publish(t.Context(), event))
			synctest.Wait()
		}
		received := func() (ids []string) {
			for _, r := range admin.Received() {
				if r.Event == realtime.EventTripRequested.Name() {
					ids = append(ids, realtimetest.Expect(t, admin, realtime.EventTripRequested).EventID)
				}
			}
			return ids
		}
		for _, id := range []string{"a", "a", "b", "a", "c", "b", "a"} {
			publish(id)
		}
		require.Equal(t, []string{"a", "b", "c"}, received())
		publish("d") // the oldest is forgotten
		publish("b")
		publish("a")
		admin = srv.Admin(t, "a1")
		publish("")
		publish("")
		ids := received()
		require.Len(t, ids, 2, "without an id nothing tells a repeat")
		require.Len(t, ids[0], 36, "clients get one all the same")
		require.NotEqual(t, ids[0], ids[1])
	})
}

func TestOptions_DedupeOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Limits.RememberedEvents = -1 })
		admin := srv.Admin(t, "a1")
		event, err := realtime.NewEnvelope(realtime.TripRequested{TripID: "t1"})
		require.NoError(t, err)
		for range 2 {
			require.NoError(t, srv.Bus.Publish(t.Context(), event))
			realtimetest.Expect(t, admin, realtime.EventTripRequested)
		}
	})
}

func TestPublisher_UndeliverableEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		srv := realtimetest.NewServer(t, logTo(&log))
		clients := all(srv.Driver(t, "d1"), srv.Passenger(t, "p1"), srv.Admin(t, "a1"))
		quiet := func() {
			t.Helper()
			synctest.Wait()
			for _, c := range clients {
				realtimetest.ExpectNone(t, c)
			}
		}
		onBus := func(name, data string) {
			require.NoError(t, srv.Bus.Publish(t.Context(), realtime.Envelope{ID: fmt.Sprint("e", len(srv.Bus.Published())), Name: name, Key: "t1", Data: []byte(data)}))
			quiet()
		}
		for n, e := range []struct{ name, data, problem string }{
			{"trip.requested", `{"passengerId":"p1"}`, "missing tripId"},
			{"trip.requested", `{"tripId":7,"passengerId":"p1"}`, "tripId"},
			{"trip.requested", `{"tripId":`, "unexpected end"},
			{"trip.requested", ``, "unexpected end"},
			{"trip.assignment.offered", `{"tripId":"t1"}`, "missing assignmentId"},
			{"trip.assignment.offered", `{"tripId":"t1","assignmentId":"as1","driverId":"d1"}`, "missing ttlSec or expiresAt"},
			{"admin.trip.message_sent", `{"tripId":"t1","adminId":"a1","to":"everybody"}`, "to must be"},
			{"auth.session.revoked", `{"userId":"d1"}`, "missing sid"},
			{"auth.session.refreshed", `{"userId":"d1","oldSid":"secret-sid"}`, "missing newSid"},
			{"driver_availability.status_updated", `{}`, "missing driverId"},
		} {
			onBus(e.name, e.data)
			require.Equal(t, n+1, strings.Count(log.String(), "domain event not delivered"), e.data)
			require.Contains(t, log.String(), e.problem)
		}
		require.NotContains(t, log.String(), "secret-sid")

		logged := log.String()
		onBus("trip.reviewed", `{"tripId":"t1"}`)
		onBus("", `null`)
		require.Equal(t, logged, log.String(), "what the library does not know is the host's own")

		require.NoError(t, srv.Bus.Err())
		published := len(srv.Bus.Published())
		require.ErrorContains(t, srv.Realtime.Publish(t.Context(), realtime.TripRequested{PassengerID: "p1"}), "missing tripId")
		require.Len(t, srv.Bus.Published(), published)
		require.NoError(t, srv.Realtime.Publish(t.Context(), &realtime.TripRequested{TripID: "t1", PassengerID: "p1"}))
		realtimetest.Expect(t, clients[1], realtime.EventTripRequested)
	})
}

// A trip that ended has ended, even if the event that says so lacks what makes
// it worth telling: nobody must go on watching the driver.
func TestPublisher_IncompleteEndsEndTheTrip(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver, passenger := srv.Driver(t, "d1"), srv.Passenger(t, "p1")
		srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		require.NoError(t, srv.Bus.Publish(t.Context(), realtime.Envelope{
			ID: "e1", Name: "trip.cancelled", Key: "t1", Data: []byte(`{"tripId":"t1"}`),
		}))
		synctest.Wait()
		realtimetest.ExpectNone(t, passenger, realtime.EventTripCancelled)
		requireFollows(t, driver, "", 1, nil, passenger)
	})
}

func TestTripParties(t *testing.T) {
	t.Parallel()
	started := realtime.TripStarted{TripID: "t1"} // names nobody

	t.Run("known from earlier events", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Parties = nil })
			driver, passenger, admin := srv.Driver(t, "d1"), srv.Passenger(t, "p1"), srv.Admin(t, "a1")
			srv.Publish(t, realtime.AssignmentOffered{TripID: "t1", AssignmentID: "as2", DriverID: "d2", TTLSec: 20})
			srv.Publish(t, realtime.TripAssigningStarted{TripID: "t1"})
			realtimetest.ExpectNone(t, passenger)
			srv.Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
			srv.Publish(t, realtime.TripAssigningStarted{TripID: "t1"})
			realtimetest.Expect(t, passenger, realtime.EventTripAssigningStarted)
			srv.Publish(t, realtime.DriverAssigned{TripID: "t1", DriverID: "d1"})
			srv.Publish(t, started)
			realtimetest.Expect(t, passenger, realtime.EventTripStarted)
			realtimetest.Expect(t, driver, realtime.EventTripStarted)
			require.Equal(t, new("d1"), realtimetest.Expect(t, admin, realtime.EventTripStartedToAdmin).DriverID)
		})
	})
	t.Run("looked up", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			srv := realtimetest.NewServer(t)
			driver, passenger := srv.Driver(t, "d1"), srv.Passenger(t, "p1")
			srv.Parties.Set("t1", realtime.TripParties{PassengerID: "p1", DriverID: "d1"})
			srv.Publish(t, started)
			realtimetest.Expect(t, passenger, realtime.EventTripStarted)
			realtimetest.Expect(t, driver, realtime.EventTripStarted)
			srv.Publish(t, realtime.DriverAssigned{TripID: "t1"})
			requireFollows(t, driver, "t1", 1, all(passenger))
		})
	})
	t.Run("the event's own come first", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			srv := realtimetest.NewServer(t)
			right, wrong := srv.Passenger(t, "p1"), srv.Passenger(t, "p2")
			srv.Parties.Set("t1", realtime.TripParties{PassengerID: "p2", DriverID: "d1"})
			srv.Publish(t, realtime.TripStarted{TripID: "t1", PassengerID: "p1"})
			realtimetest.Expect(t, right, realtime.EventTripStarted)
			realtimetest.ExpectNone(t, wrong)
		})
	})
	t.Run("unknown", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			var log logBuffer
			srv := realtimetest.NewServer(t, logTo(&log))
			admin := srv.Admin(t, "a1")
			srv.Publish(t, started)
			require.Nil(t, realtimetest.Expect(t, admin, realtime.EventTripStartedToAdmin).DriverID)
			require.NotContains(t, log.String(), "ERROR")
		})
	})
	t.Run("the lookup fails", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			var log logBuffer
			srv := realtimetest.NewServer(t, logTo(&log))
			admin, passenger := srv.Admin(t, "a1"), srv.Passenger(t, "p1")
			srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
			srv.Parties.Fail(errors.New("database down"))
			srv.Publish(t, started)
			require.Empty(t, log.String(), "nobody was asked")
			srv.Publish(t, realtime.TripStarted{TripID: "t2", PassengerID: "p1"})
			realtimetest.Expect(t, passenger, realtime.EventTripStarted)
			require.Equal(t, "t2", realtimetest.Expect(t, passenger, realtime.EventTripStarted).TripID)
			realtimetest.Expect(t, admin, realtime.EventTripStarted)
			realtimetest.Expect(t, admin, realtime.EventTripStarted)
			require.Equal(t, 1, strings.Count(log.String(), "database down"))
		})
	})
	t.Run("the lookup panics", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			var log logBuffer
			srv := realtimetest.NewServer(t, logTo(&log), func(o *realtime.Options) { o.Parties = panickingParties{} })
			admin := srv.Admin(t, "a1")
			srv.Publish(t, started)
			realtimetest.Expect(t, admin, realtime.EventTripStarted)
			require.Contains(t, log.String(), "panic: lookup")
			require.NoError(t, srv.Bus.Err())
		})
	})
	t.Run("the lookup hangs", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			srv := realtimetest.NewServer(t)
			admin := srv.Admin(t, "a1")
			entered, release := srv.Parties.Block()
			defer release()
			begun := time.Now()
			require.NoError(t, srv.Realtime.Publish(t.Context(), started))
			<-entered
			require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.TripCompleted{TripID: "t1", PassengerID: "p1", DriverID: "d1", Currency: "CUP"}))
			require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.TripStarted{TripID: "t2", PassengerID: "p2", DriverID: "d2"}))
			synctest.Wait()
			require.Equal(t, "t2", realtimetest.Expect(t, admin, realtime.EventTripStarted).TripID, "other trips go on")
			realtimetest.ExpectNone(t, admin)
			realtimetest.Expect(t, admin.Within(time.Minute), realtime.EventTripCompleted)
			require.Equal(t, 5*time.Second, time.Since(begun), "Options.Timeouts.Repo")
			require.Equal(t, "t1", realtimetest.Expect(t, admin, realtime.EventTripStarted).TripID)
			names := ""
			for _, r := range admin.Received()[1:] {
				names += r.Event + " "
			}
			require.Equal(t, "trip:started trip:started trip:completed ", names, "in order")
		})
	})
}

type panickingParties struct{}

func (panickingParties) FindParties(context.Context, string) (realtime.TripParties, error) {
	panic("lookup")
}

// A host whose lookup hangs does not keep the server from shutting down.
func TestServer_ShutdownDoesNotWaitForALookup(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		client := srv.Passenger(t, "p1")
		entered, release := srv.Parties.Block()
		require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.TripStarted{TripID: "t1"}))
		<-entered
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		require.ErrorIs(t, srv.Realtime.Shutdown(ctx), context.DeadlineExceeded)
		require.LessOrEqual(t, time.Since(begun), time.Second)
		require.Equal(t, realtimetest.ReasonTransportClose, client.Disconnected(t))
		release()
	})
}

func TestServer_PublishAfterShutdown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus = nil })
		require.NoError(t, srv.Realtime.Shutdown(t.Context()))
		require.ErrorIs(t, srv.Realtime.Publish(t.Context(), realtime.TripRequested{TripID: "t1"}), realtime.ErrClosed)
	})
}

func TestTrace_Delivered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var events []string
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Trace = &realtime.Trace{Delivered: func(_ context.Context, i realtime.DeliveredInfo) {
				events = append(events, fmt.Sprint(i.Event, " ", i.Age))
			}}
		})
		env, err := realtime.NewEnvelope(realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
		require.NoError(t, err)
		time.Sleep(3 * time.Second)
		require.NoError(t, srv.Bus.Publish(t.Context(), env))
		env.ID, env.Data = "another", []byte(`{}`)
		require.NoError(t, srv.Bus.Publish(t.Context(), env))
		synctest.Wait()
		require.Equal(t, []string{"trip.requested 3s"}, events)
	})
}

// wireNote is an event without a meaning, as large as the test needs.
var wireNote = realtime.NewEvent[string]("test:note")

// fillConnection stops a client's reading and fills its connection, so that the next
// write blocks. requireFilled reads the notes that it has sent.
func fillConnection(t *testing.T, c *realtimetest.Client, to realtime.Broadcast) {
	t.Helper()
	c.Stall()
	require.NoError(t, wireNote.Emit(to, "read before it noticed"))
	synctest.Wait()
	require.NoError(t, wireNote.Emit(to, strings.Repeat("x", 200_000)))
	time.Sleep(20 * time.Millisecond) // since when a write counts as blocked
	synctest.Wait()
}

func requireFilled(t *testing.T, c *realtimetest.Client) {
	t.Helper()
	require.Equal(t, "read before it noticed", realtimetest.Expect(t, c, wireNote))
	require.Len(t, realtimetest.Expect(t, c, wireNote), 200_000)
}

func TestBroadcast_LatestForASlowReceiver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		admin, other := srv.Admin(t, "a1"), srv.Admin(t, "a2")
		one, two := srv.Driver(t, "d1"), srv.Driver(t, "d2")
		for trip, driver := range map[string]string{"t1": "d1", "t2": "d1", "t3": "d2"} {
			srv.Publish(t, realtime.DriverAssigned{TripID: trip, PassengerID: "p1", DriverID: driver})
			_, err := realtimetest.Call(t.Context(), admin, realtime.AdminTripJoin, realtime.TripRef{TripID: trip})
			require.NoError(t, err)
		}
		room := srv.Realtime.Admin().To(realtime.AdminUserRoom("a1"))
		fillConnection(t, admin, room)

		const n = 10
		for k := 1; k <= n; k++ {
			move(t, one, float64(k))
			move(t, two, float64(-k))
			srv.Publish(t, realtime.NoDriversFound{TripID: "t9", Reason: fmt.Sprint(k)})
			require.NoError(t, wireNote.Emit(room.Volatile(), "lost"))
			require.NoError(t, wireNote.Emit(room.Latest("a key of the host's"), fmt.Sprint("latest ", k)))
		}
		admin.Resume()
		synctest.Wait()

		for k := 1; k <= n; k++ {
			require.Equal(t, fmt.Sprint(k), *realtimetest.Expect(t, admin, realtime.EventNoDriversFound).Reason)
		}
		realtimetest.ExpectNone(t, admin, realtime.EventNoDriversFound)
		last := map[string]float64{}
		for range 2 {
			got := realtimetest.Expect(t, admin, realtime.EventAdminDriverLocation)
			last[got.DriverID] = got.LastLocation.Lat
		}
		require.Equal(t, map[string]float64{"d1": n, "d2": -n}, last)
		realtimetest.ExpectNone(t, admin, realtime.EventAdminDriverLocation)
		for range 3 {
			got := realtimetest.Expect(t, admin, realtime.EventTripDriverLocation)
			last[got.TripID] = got.LastLocation.Lat
		}
		require.Equal(t, map[string]float64{"d1": n, "d2": -n, "t1": n, "t2": n, "t3": -n}, last)
		realtimetest.ExpectNone(t, admin, realtime.EventTripDriverLocation)
		requireFilled(t, admin)
		require.Equal(t, fmt.Sprint("latest ", n), realtimetest.Expect(t, admin, wireNote))
		realtimetest.ExpectNone(t, admin, wireNote)

		// A client that reads has received every event.
		for k := 1; k <= n; k++ {
			require.InDelta(t, k, realtimetest.Expect(t, other, realtime.EventAdminDriverLocation).LastLocation.Lat, 0)
			require.InDelta(t, -k, realtimetest.Expect(t, other, realtime.EventAdminDriverLocation).LastLocation.Lat, 0)
		}
	})
}

// Namespaces that share a connection do not replace each other's events.
func TestBroadcast_LatestIsTheNamespacesOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver := srv.Driver(t, "d1")
		passenger, err := driver.Join(t.Context(), realtime.NamespacePassengers, realtimetest.Token(srv.Login("p1", realtime.UserPassenger)))
		require.NoError(t, err)
		drivers := srv.Realtime.Drivers().To(realtime.DriverRoom("d1"))
		fillConnection(t, driver, drivers)
		for k := range 3 {
			require.NoError(t, wireNote.Emit(drivers.Latest("k"), fmt.Sprint("driver ", k)))
			require.NoError(t, wireNote.Emit(srv.Realtime.Passengers().To(realtime.PassengerRoom("p1")).Latest("k"), fmt.Sprint("passenger ", k)))
		}
		driver.Resume()
		requireFilled(t, driver)
		require.Equal(t, "driver 2", realtimetest.Expect(t, driver, wireNote))
		require.Equal(t, "passenger 2", realtimetest.Expect(t, passenger, wireNote))
		realtimetest.ExpectNone(t, driver, wireNote)
		realtimetest.ExpectNone(t, passenger, wireNote)
	})
}

func TestSocket_SlowConsumerIsDisconnected(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		set  func(o *realtime.Options)
		fill func(t *testing.T, srv *realtimetest.Server, to realtime.Broadcast)
	}{
		"too many messages": {
			func(o *realtime.Options) { o.Limits.OutboxMessages = 20 },
			func(t *testing.T, srv *realtimetest.Server, _ realtime.Broadcast) {
				for range 21 {
					srv.Publish(t, realtime.TripRequested{TripID: "t1"})
					synctest.Wait() // who reads does not fall behind
				}
			},
		},
		"too many bytes": {
			func(o *realtime.Options) { o.Limits.OutboxBytes = 500_000 },
			func(t *testing.T, _ *realtimetest.Server, to realtime.Broadcast) {
				for range 2 {
					require.NoError(t, wireNote.Emit(to, strings.Repeat("x", 300_000)))
				}
			},
		},
		"for too long": {
			func(*realtime.Options) {},
			func(*testing.T, *realtimetest.Server, realtime.Broadcast) { time.Sleep(10 * time.Second) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				reasons := make(chan string, 10)
				srv := realtimetest.NewServer(t, c.set, func(o *realtime.Options) {
					o.Trace = &realtime.Trace{Disconnected: func(_ context.Context, i realtime.DisconnectedInfo) { reasons <- string(i.Reason) }}
				})
				admin, other := srv.Admin(t, "a1"), srv.Admin(t, "a2")
				room := srv.Realtime.Admin().To(realtime.AdminUserRoom("a1"))
				fillConnection(t, admin, room)
				synctest.Wait()
				require.Empty(t, reasons)
				c.fill(t, srv, room)
				synctest.Wait()
				require.Equal(t, "slow consumer", <-reasons)
				admin.Resume()
				require.Contains(t, []string{realtimetest.ReasonTransportClose, realtimetest.ReasonTransportError}, admin.Disconnected(t))
				require.True(t, other.Connected())
			})
		})
	}
}
