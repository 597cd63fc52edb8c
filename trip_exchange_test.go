// Trips after a gap: nobody is missing from a trip's room, or left in it.

package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
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

// usersInTripRoom returns the users of this node's sockets in a trip's room.
func usersInTripRoom(t *testing.T, ns *realtime.Namespace, trip string) (users []string) {
	t.Helper()
	sockets, err := ns.To(realtime.TripRoom(trip)).Local().Sockets(t.Context())
	require.NoError(t, err)
	for _, s := range sockets {
		users = append(users, s.Identity.UserID)
	}
	return users
}

// requireInTripRoom requires which of the two users of a trip have their socket of this node in the
// trip's room.
func requireInTripRoom(t *testing.T, srv *realtimetest.Server, trip string, driver, passenger bool) {
	t.Helper()
	count := map[bool]int{true: 1}
	require.Len(t, usersInTripRoom(t, srv.Realtime.Drivers(), trip), count[driver], "driver in %s", trip)
	require.Len(t, usersInTripRoom(t, srv.Realtime.Passengers(), trip), count[passenger], "passenger in %s", trip)
}

func TestGap_TripsThatChanged(t *testing.T) {
	assigned := func(trip string) realtime.DomainEvent {
		return realtime.DriverAssigned{TripID: trip, PassengerID: "p1", DriverID: "d1"}
	}
	for name, c := range map[string]struct {
		before, during    []realtime.DomainEvent
		driver, passenger bool // d1 and p1 are in the room in the end
	}{
		"assigned": {nil, []realtime.DomainEvent{assigned("t1")}, true, true},
		"ended": {
			[]realtime.DomainEvent{assigned("t1")}, []realtime.DomainEvent{realtime.TripCompleted{TripID: "t1", Currency: "CUP"}}, false, false,
		},
		"assigned and ended": {nil, []realtime.DomainEvent{assigned("t1"), realtime.TripCompleted{TripID: "t1", Currency: "CUP"}}, false, false},
		"of another driver": {
			[]realtime.DomainEvent{assigned("t1")}, []realtime.DomainEvent{realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d2"}}, false, true,
		},
		"released": {
			[]realtime.DomainEvent{assigned("t1")}, []realtime.DomainEvent{realtime.AssignmentExpired{TripID: "t1", AssignmentID: "as1", DriverID: "d1"}}, false, true,
		},
		"no driver found": {
			[]realtime.DomainEvent{assigned("t1")}, []realtime.DomainEvent{realtime.NoDriversFound{TripID: "t1"}}, false, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newGapSite(t, withoutLookup)
				s.b.Driver(t, "d1")
				s.b.Passenger(t, "p1")
				for _, e := range c.before {
					time.Sleep(time.Second)
					s.a.Publish(t, e)
				}
				synctest.Wait()
				requireInTripRoom(t, s.b, "t1", len(c.before) > 0, len(c.before) > 0)
				s.cut.Cut()
				for _, e := range c.during {
					time.Sleep(time.Second)
					s.a.Publish(t, e)
				}
				synctest.Wait()
				requireInTripRoom(t, s.b, "t1", len(c.before) > 0, len(c.before) > 0)
				s.cut.Heal()
				soon()
				requireInTripRoom(t, s.b, "t1", c.driver, c.passenger)
				// Sockets that connect later follow too.
				drivers, passengers := s.b.Realtime.Drivers(), s.b.Realtime.Passengers()
				d, p := len(usersInTripRoom(t, drivers, "t1")), len(usersInTripRoom(t, passengers, "t1"))
				s.b.Driver(t, "d1")
				s.b.Passenger(t, "p1")
				require.Len(t, usersInTripRoom(t, drivers, "t1"), 2*d)
				require.Len(t, usersInTripRoom(t, passengers, "t1"), 2*p)
			})
		})
	}
}

// After a gap the result of Options.Trips decides, also about changes of which no node has
// received the event.
func TestGap_TripsOfTheLookup(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newGapSite(t)
		s.a.Trips.Set("d1", "old")
		s.b.Driver(t, "d1")
		requireInTripRoom(t, s.b, "old", true, false)
		s.cut.Cut()
		time.Sleep(time.Minute)
		s.a.Trips.Set("d1", "new")
		s.cut.Heal()
		soon()
		requireInTripRoom(t, s.b, "old", false, false)
		requireInTripRoom(t, s.b, "new", true, false)
	})
}

// A node that starts while trips run learns of them from the others.
func TestTripExchange_OfANewNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		node := func() *realtimetest.Server {
			return realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
		}
		a := node()
		for n := range 1000 {
			a.Publish(t, realtime.DriverAssigned{TripID: fmt.Sprint("t", n), PassengerID: fmt.Sprint("p", n), DriverID: fmt.Sprint("d", n)})
		}
		b := node()
		b.Driver(t, "d1") // before the trips have arrived
		soon()
		b.Passenger(t, "p1")
		requireInTripRoom(t, b, "t1", true, true)
		b.Passenger(t, "p999")
		requireInTripRoom(t, b, "t999", false, true)
	})
}

// stateCounter counts what a node publishes of its state.
type stateCounter struct {
	realtime.Adapter
	n *atomic.Int64
}

func (c stateCounter) Publish(ctx context.Context, m realtime.ClusterMessage) error {
	if m.Op == realtime.OpState {
		c.n.Add(1)
	}
	return c.Adapter.Publish(ctx, m)
}

// All nodes lose the others at once, as when Redis restarts, and trips go on meanwhile:
// afterwards each socket is where it belongs, and the nodes come to rest after few messages.
func TestGap_OfAllNodesAtOnce(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				const trips = 30
				rnd := rand.New(rand.NewPCG(seed, 20))
				hub := realtimetest.NewHub()
				var sent atomic.Int64
				var nodes []*realtimetest.Server
				var links []*realtimetest.HubNode
				for range 4 {
					link := hub.Node()
					links = append(links, link)
					nodes = append(nodes, realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) {
						o.Cluster.Adapter = stateCounter{link, &sent}
					}))
				}
				at := make([]*realtimetest.Server, trips) // the node of both people of a trip
				driver := make([]int, trips)              // who it is; 0: nobody
				ended := make([]bool, trips)
				for n := range trips {
					at[n] = nodes[rnd.IntN(len(nodes))]
					for d := 1; d <= 2; d++ {
						at[n].Driver(t, fmt.Sprintf("d%d-%d", n, d))
					}
					at[n].Passenger(t, fmt.Sprint("p", n))
				}
				step := func() {
					for n := range trips {
						if ended[n] || rnd.IntN(3) == 0 {
							continue
						}
						time.Sleep(10 * time.Millisecond)
						trip, now := fmt.Sprint("t", n), time.Now()
						var e realtime.DomainEvent
						if driver[n] > 0 && rnd.IntN(3) == 0 {
							ended[n] = true
							e = realtime.TripCompleted{TripID: trip, Currency: "CUP", At: now}
						} else {
							driver[n] = 1 + driver[n]%2
							e = realtime.DriverAssigned{TripID: trip, PassengerID: fmt.Sprint("p", n), DriverID: fmt.Sprintf("d%d-%d", n, driver[n]), At: now}
						}
						nodes[rnd.IntN(len(nodes))].Publish(t, e)
					}
				}
				step()
				synctest.Wait()
				for _, l := range links {
					l.Cut()
				}
				for range 3 {
					step()
				}
				synctest.Wait()
				for _, l := range links {
					l.Heal()
				}
				sent.Store(0)
				time.Sleep(5 * time.Second)
				synctest.Wait()
				for n := range trips {
					trip, drivers, passengers := fmt.Sprint("t", n), []string(nil), []string(nil)
					if driver[n] > 0 && !ended[n] {
						drivers, passengers = []string{fmt.Sprintf("d%d-%d", n, driver[n])}, []string{fmt.Sprint("p", n)}
					}
					require.Equal(t, drivers, usersInTripRoom(t, at[n].Realtime.Drivers(), trip), trip)
					require.Equal(t, passengers, usersInTripRoom(t, at[n].Realtime.Passengers(), trip), trip)
				}
				require.LessOrEqual(t, sent.Load(), int64(110), "messages, of %d trips on %d nodes", trips, len(nodes))
				sent.Store(0)
				time.Sleep(5 * time.Minute)
				synctest.Wait()
				require.Zero(t, sent.Load(), "they are at rest")
			})
		})
	}
}

// A page or states that no node makes are dropped.
func TestTripExchange_OfMalformedStates(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var calls traced
		drops := func(o *realtime.Options) {
			o.Trace = &realtime.Trace{ClusterDropped: func(_ context.Context, i realtime.ClusterDroppedInfo) { calls.addf("%s", i.Reason) }}
		}
		hub := realtimetest.NewHub()
		realtimetest.NewServer(t, withoutLookup, drops, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
		other := hub.Node()
		require.NoError(t, other.Start(t.Context(), idleNode{}))
		defer func() { require.NoError(t, other.Close(t.Context())) }()
		for n, text := range []string{
			`{"compare":{"after":"a\u0000"}}`, `{"compare":{"trips":[{"t":"","d":1}]}}`, `{"compare":{"trips":[` + repeated(513, `{"t":"t%d","d":1}`) + `]}}`,
			`{"trips":[{"tripId":""}]}`, `{"trips":[{"tripId":"t1","assigns":[{"at":1,"driverId":"a\u0000"}]}]}`, `{"trips":[` + repeated(513, `{"tripId":"t%d"}`) + `]}`,
		} {
			s := &realtime.NodeState{}
			require.NoError(t, s.UnmarshalJSON([]byte(text)))
			require.NoError(t, other.Publish(t.Context(), realtime.ClusterMessage{
				Version: realtime.ClusterVersion, Op: realtime.OpState, Namespace: realtime.NamespacePassengers, State: s,
			}))
			synctest.Wait()
			require.Equal(t, []string{string(realtime.DropMalformed)}, calls.take(), n)
		}
	})
}

// Of states and pages, those that are valid count, whatever stands beside them.
func TestTripExchange_SkipsWhatIsInvalid(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		srv := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
		other := hub.Node()
		var answers statesSeen
		require.NoError(t, other.Start(t.Context(), &answers))
		defer func() { require.NoError(t, other.Close(t.Context())) }()
		send := func(text string) {
			s := &realtime.NodeState{}
			require.NoError(t, s.UnmarshalJSON([]byte(text)))
			for _, ns := range []string{realtime.NamespaceDrivers, realtime.NamespacePassengers} {
				require.NoError(t, other.Publish(t.Context(), realtime.ClusterMessage{Version: realtime.ClusterVersion, Op: realtime.OpState, Namespace: ns, State: s}))
			}
			soon()
		}
		srv.Driver(t, "d1")
		srv.Passenger(t, "p1")
		long := strings.Repeat("x", 257)
		for n, invalid := range []string{
			`{"tripId":""}`, `{"tripId":"` + long + `"}`, `{"tripId":"t9","passengerId":"` + long + `"}`,
			`{"tripId":"t9","assigns":[{"at":1,"assignmentId":"` + long + `"}]}`, `{"tripId":"t9","releases":[{"at":1,"driverId":"` + long + `"}]}`,
		} {
			trip := fmt.Sprint("t", n)
			valid := fmt.Sprintf(`{"tripId":%q,"passengerId":"p1","passengerAt":1,"assigns":[{"at":%d,"driverId":"d1"}]}`, trip, time.Now().UnixMicro())
			send(`{"trips":[` + invalid + `,` + valid + `]}`)
			requireInTripRoom(t, srv, trip, true, true)
		}
		answers.take()
		send(`{"compare":{"after":"t1","upto":"t3","trips":[{"t":"` + long + `","d":1}]}}`)
		got := answers.take()
		require.Contains(t, got, `"t2"`)
		require.Contains(t, got, `"t3"`)
		require.NotContains(t, got, `"t1"`)
	})
}

// statesSeen is a node that records the states that it receives.
type statesSeen struct {
	idleNode
	mu  sync.Mutex // guards all
	all string
}

func (s *statesSeen) Deliver(m realtime.ClusterMessage) {
	if m.State == nil {
		return
	}
	data, err := m.State.MarshalJSON()
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all += string(data)
}

func (s *statesSeen) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { s.all = "" }()
	return s.all
}

// An invalid id in an event of the bus, in whatever field and of whatever kind of event, does not
// reach the other nodes: they would refuse all that is known of the trip, and of trips that are
// sent with it. Where the event ends something, that takes place on every node.
func TestTripExchange_OfEventsWithInvalidIDs(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 257)
	for name, c := range map[string]struct {
		event             realtime.DomainEvent
		driver, passenger bool // they are still in the room
	}{
		"release, assignment": {realtime.AssignmentExpired{TripID: "t1", AssignmentID: long, DriverID: "d1"}, false, true},
		"release, driver":     {realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as1", DriverID: long}, false, true},
		"release, both":       {realtime.AssignmentRejected{TripID: "t1", AssignmentID: long, DriverID: long}, true, true},
		"end, passenger":      {realtime.TripCompleted{TripID: "t1", PassengerID: long, Currency: "CUP"}, false, false},
		"end, driver":         {realtime.TripCompleted{TripID: "t1", DriverID: long, Currency: "CUP"}, false, false},
		"assignment, driver":  {realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: long}, true, true},
		"opens, passenger":    {realtime.TripStarted{TripID: "t1", PassengerID: long}, true, true},
		"opens, driver":       {realtime.TripStarted{TripID: "t1", DriverID: long}, true, true},
		"suspends, passenger": {realtime.NoDriversFound{TripID: "t1", PassengerID: long}, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var calls traced
				s := newGapSite(t, withoutLookup, func(o *realtime.Options) {
					o.Logger = discarded()
					o.Trace = &realtime.Trace{ClusterDropped: func(_ context.Context, i realtime.ClusterDroppedInfo) { calls.addf("%s", i.Reason) }}
				})
				s.b.Driver(t, "d1")
				s.b.Passenger(t, "p1")
				s.a.Publish(t, realtime.AssignmentAccepted{TripID: "t1", PassengerID: "p1", AssignmentID: "as1", DriverID: "d1"})
				synctest.Wait()
				requireInTripRoom(t, s.b, "t1", true, true)
				time.Sleep(time.Second)
				data, err := json.Marshal(c.event)
				require.NoError(t, err)
				require.NoError(t, s.a.Bus.Publish(t.Context(), realtime.Envelope{ID: "invalid", Name: c.event.EventName(), Key: "t1", At: time.Now(), Data: data}))
				synctest.Wait()
				requireInTripRoom(t, s.b, "t1", c.driver, c.passenger)
				s.cut.Cut()
				s.a.Publish(t, realtime.DriverAssigned{TripID: "t2", PassengerID: "p1", DriverID: "d1"})
				s.cut.Heal()
				soon()
				requireInTripRoom(t, s.b, "t1", c.driver, c.passenger)
				requireInTripRoom(t, s.b, "t2", true, true)
				require.Empty(t, calls.take())
			})
		})
	}
}

// repeated returns n elements of a JSON array.
func repeated(n int, element string) (all string) {
	for i := range n {
		if i > 0 {
			all += ","
		}
		all += fmt.Sprintf(element, i)
	}
	return all
}
