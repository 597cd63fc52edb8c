// Concurrent events of one trip: a node receives them from its bus and from another node.
// Another event may be applied between a change of the trip table and the moves of sockets.

package realtime_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// stoppingAdapter is an adapter that stops a node once: when a room of trip t1 begins or ends
// in a namespace, or before it publishes a message with op. From then on it drops OpState
// messages, so that no other node answers with its own state.
type stoppingAdapter struct {
	realtime.Adapter
	namespace string
	op        realtime.ClusterOp

	mu      sync.Mutex // guards the fields below
	stopped chan struct{}
	mute    bool
}

// arm makes the adapter stop the node the next time, until resume is called.
func (g *stoppingAdapter) arm() (resume func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	stopped := make(chan struct{})
	g.stopped, g.mute = stopped, true
	return sync.OnceFunc(func() { close(stopped) })
}

// stop waits until resume is called, once.
func (g *stoppingAdapter) stop() {
	g.mu.Lock()
	stopped := g.stopped
	g.stopped = nil
	g.mu.Unlock()
	if stopped != nil {
		<-stopped
	}
}

// isArmed reports whether the adapter has not stopped the node yet.
func (g *stoppingAdapter) isArmed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.stopped != nil
}

func (g *stoppingAdapter) RoomChanged(namespace, room string) {
	if namespace == g.namespace && room == realtime.TripRoom("t1").String() {
		g.stop()
	}
}

func (g *stoppingAdapter) Publish(ctx context.Context, m realtime.ClusterMessage) error {
	if g.op != "" && m.Op == g.op {
		g.stop()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.mute && m.Op == realtime.OpState {
		return nil
	}
	return g.Adapter.Publish(ctx, m)
}

func TestPublisher_EventBetweenTableAndRooms(t *testing.T) {
	t.Parallel()
	// The start of the clock in a synctest bubble.
	begun := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return begun.Add(time.Duration(seconds) * time.Second) }
	assigned := func(driver, passenger string, second int) realtime.DomainEvent {
		return realtime.DriverAssigned{TripID: "t1", PassengerID: passenger, DriverID: driver, At: at(second)}
	}
	accepted := func(assignment, driver string, second int) realtime.DomainEvent {
		return realtime.AssignmentAccepted{TripID: "t1", AssignmentID: assignment, PassengerID: "p1", DriverID: driver, At: at(second)}
	}
	released := realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as1", DriverID: "d1", At: at(4)}
	over := realtime.TripCompleted{TripID: "t1", Currency: "CUP", At: at(5)}
	none := realtime.NoDriversFound{TripID: "t1", PassengerID: "p1", At: at(5)}
	type events []realtime.DomainEvent
	for name, c := range map[string]struct {
		before    events // published on the bus of the node first
		namespace string // where the node stops
		op        realtime.ClusterOp
		stops     realtime.DomainEvent // while the node handles it, the adapter stops the node
		meanwhile events               // received from the other node while the node is stopped
		in        []string             // the users in the trip's room at the end
	}{
		"a newer driver": {
			before: events{assigned("d0", "p1", 1)}, namespace: realtime.NamespaceDrivers, stops: assigned("d1", "p1", 2),
			meanwhile: events{assigned("d2", "p1", 3)}, in: []string{"d2", "p1"},
		},
		"a newer passenger": {
			before: events{assigned("d1", "p0", 1)}, namespace: realtime.NamespacePassengers, stops: assigned("d1", "p1", 2),
			meanwhile: events{assigned("d1", "p2", 3)}, in: []string{"d1", "p2"},
		},
		"the driver released": {
			before: events{assigned("d0", "p1", 1)}, namespace: realtime.NamespaceDrivers, stops: accepted("as1", "d1", 2),
			meanwhile: events{released}, in: []string{"p1"},
		},
		"the end": {
			namespace: realtime.NamespaceDrivers, stops: assigned("d1", "p1", 2),
			meanwhile: events{over},
		},
		"no driver found": {
			namespace: realtime.NamespaceDrivers, stops: assigned("d1", "p1", 2),
			meanwhile: events{none},
		},
		"no driver found, and a new search": {
			namespace: realtime.NamespaceDrivers, stops: assigned("d1", "p1", 2),
			meanwhile: events{none, realtime.TripAssigningStarted{TripID: "t1", PassengerID: "p1", At: at(6)}},
		},
		"assigned again, after a release": {
			before: events{accepted("as1", "d1", 1)}, op: realtime.OpBroadcast, stops: released,
			meanwhile: events{accepted("as2", "d1", 5)}, in: []string{"d1", "p1"},
		},
		"assigned again, after no driver was found": {
			before: events{accepted("as1", "d1", 1)}, op: realtime.OpBroadcast, stops: none,
			meanwhile: events{accepted("as2", "d2", 6)}, in: []string{"d2", "p1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				time.Sleep(time.Until(at(10)))
				hub := realtimetest.NewHub()
				gate := &stoppingAdapter{Adapter: hub.Node(), namespace: c.namespace, op: c.op}
				node := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = gate })
				other := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
				for _, id := range []string{"d0", "d1", "d2"} {
					node.Driver(t, id)
				}
				for _, id := range []string{"p0", "p1", "p2"} {
					node.Passenger(t, id)
				}
				for _, e := range c.before {
					node.Publish(t, e)
				}
				synctest.Wait()
				resume := gate.arm()
				go node.Publish(t, c.stops)
				synctest.Wait()
				require.False(t, gate.isArmed(), "the adapter must have stopped the node")
				for _, e := range c.meanwhile {
					other.Publish(t, e)
					synctest.Wait()
				}
				resume()
				synctest.Wait()
				require.Equal(t, c.in, inRoomOf(t, node, "t1"))
			})
		})
	}
}

// inRoomOf returns the ids of the users in the room of a trip on one node, drivers first.
func inRoomOf(t *testing.T, node *realtimetest.Server, trip string) (users []string) {
	t.Helper()
	for _, ns := range []*realtime.Namespace{node.Realtime.Drivers(), node.Realtime.Passengers()} {
		sockets, err := ns.To(realtime.TripRoom(trip)).Local().Sockets(t.Context())
		require.NoError(t, err)
		for _, s := range sockets {
			users = append(users, s.Identity.UserID)
		}
	}
	return users
}

// A node receives an event from another node once per namespace. If the bus delivers a newer
// event in between, the sockets of the later namespace must still move.
func TestPublisher_EventBetweenTwoNamespaces(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		begun := time.Now()
		time.Sleep(time.Minute)
		hub := realtimetest.NewHub()
		slow := &holdingAdapter{Adapter: hub.Node(), hold: true}
		slow.only(func(m realtime.ClusterMessage) bool { return m.Namespace == realtime.NamespacePassengers })
		other := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = slow })
		node := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
		node.Driver(t, "d1")
		node.Passenger(t, "p1")
		other.Publish(t, realtime.AssignmentAccepted{TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1", At: begun})
		synctest.Wait()
		node.Publish(t, realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as1", DriverID: "d1", At: begun.Add(time.Second)})
		synctest.Wait()
		slow.release(t)
		synctest.Wait()
		require.Equal(t, []string{"p1"}, inRoomOf(t, node, "t1"))
	})
}

// An assignment that arrives after its own release is not sent, but it still ends the
// assignment before it, on every node.
func TestPublisher_OutdatedAssignmentEndsTheOneBefore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		begun := time.Now()
		time.Sleep(time.Minute)
		var count dropCounter
		nodes := realtimetest.NewCluster(t, 2, withoutLookup, count.trace)
		for _, node := range nodes {
			node.Driver(t, "d1")
			node.Driver(t, "d2")
			node.Passenger(t, "p1")
		}
		nodes[0].Publish(t, realtime.AssignmentAccepted{TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1", At: begun})
		synctest.Wait()
		for _, node := range nodes {
			require.Equal(t, []string{"d1", "p1"}, inRoomOf(t, node, "t1"))
		}
		nodes[0].Publish(t, realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "as2", DriverID: "d2", At: begun.Add(2 * time.Second)})
		nodes[0].Publish(t, realtime.AssignmentAccepted{TripID: "t1", AssignmentID: "as2", PassengerID: "p1", DriverID: "d2", At: begun.Add(time.Second)})
		require.Equal(t, 1, count.get("outdated trip.assignment.accepted"))
		for n, node := range nodes {
			require.Equal(t, []string{"p1"}, inRoomOf(t, node, "t1"), "node %d", n)
		}
	})
}
