// Changes of trips whose message a node has received in one namespace only.

package realtime_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// losingAdapter is an adapter whose node does not receive the messages of some namespaces.
type losingAdapter struct {
	realtime.Adapter
	loses atomic.Pointer[[]string]
}

func (a *losingAdapter) Start(ctx context.Context, n realtime.Node) error {
	return a.Adapter.Start(ctx, losingNode{n, a})
}

func (a *losingAdapter) lose(namespaces ...string) { a.loses.Store(&namespaces) }

type losingNode struct {
	realtime.Node
	a *losingAdapter
}

func (n losingNode) Deliver(m realtime.ClusterMessage) {
	if loses := n.a.loses.Load(); loses == nil || !slices.Contains(*loses, m.Namespace) {
		n.Node.Deliver(m)
	}
}

// A node learns of a change of a trip in one namespace, and loses the messages about it in others.
// It knows of the trip what all others know, but moves its sockets all the same: whether the change
// is lost or what the others answer after a gap, and whether or not it reports a gap.
func TestTripMoves_LostInANamespace(t *testing.T) {
	t.Parallel()
	accepted := realtime.AssignmentAccepted{TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1"}
	assigned := realtime.DriverAssigned{TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1"}
	type events []realtime.DomainEvent
	for name, c := range map[string]struct {
		before, during           events
		driver, passenger, admin bool // they are in the room in the end
	}{
		"assigned":               {events{}, events{assigned}, true, true, true},
		"assigned, then arrived": {events{}, events{assigned, realtime.ArrivingStarted{TripID: "t1"}}, true, true, true},
		"ended":                  {events{accepted}, events{realtime.TripCompleted{TripID: "t1", Currency: "CUP"}}, false, false, false},
		"assigned and ended":     {events{}, events{assigned, realtime.TripCompleted{TripID: "t1", Currency: "CUP"}}, false, false, false},
		"of another driver":      {events{accepted}, events{realtime.DriverAssigned{TripID: "t1", AssignmentID: "as2", PassengerID: "p1", DriverID: "d2"}}, false, true, true},
		"released":               {events{accepted}, events{realtime.AssignmentExpired{TripID: "t1", AssignmentID: "as1", DriverID: "d1"}}, false, true, true},
		"assigned and another released": {
			events{}, events{assigned, realtime.AssignmentExpired{TripID: "t1", AssignmentID: "as2", DriverID: "d2"}}, true, true, true,
		},
		"no driver found": {events{accepted}, events{realtime.NoDriversFound{TripID: "t1"}}, false, false, true},
		"of another passenger": {
			events{accepted}, events{realtime.DriverAssigned{TripID: "t1", AssignmentID: "as1", PassengerID: "p2", DriverID: "d1"}}, true, false, true,
		},
	} {
		for _, only := range []string{realtime.NamespaceDrivers, realtime.NamespacePassengers, realtime.NamespaceAdmin} {
			for _, way := range []string{"the event", "the answer"} {
				t.Run(fmt.Sprintf("%s, %s arrives in %s", name, way, only), func(t *testing.T) {
					inBubble(t, func(t *testing.T) {
						hub := realtimetest.NewHub()
						link := hub.Node()
						b := &losingAdapter{Adapter: link}
						configure := func(adapter realtime.Adapter) func(o *realtime.Options) {
							return func(o *realtime.Options) { o.Cluster.Adapter, o.Timeouts.SweepInterval = adapter, -1 }
						}
						from := realtimetest.NewServer(t, withoutLookup, configure(hub.Node()))
						at := realtimetest.NewServer(t, withoutLookup, configure(b))
						at.Driver(t, "d1")
						at.Passenger(t, "p1")
						admin := at.Admin(t, "a1")
						follow := func() {
							_, err := realtimetest.Call(t.Context(), admin, realtime.AdminTripJoin, realtime.TripRef{TripID: "t1"})
							require.NoError(t, err)
						}
						follow()
						publish := func(events []realtime.DomainEvent) {
							for _, e := range events {
								time.Sleep(100 * time.Millisecond)
								from.Publish(t, e)
							}
							synctest.Wait()
						}
						publish(c.before)
						requireInTripRoom(t, at, "t1", len(c.before) > 0, len(c.before) > 0)
						var others []string
						for _, ns := range []string{realtime.NamespaceDrivers, realtime.NamespacePassengers, realtime.NamespaceAdmin} {
							if ns != only {
								others = append(others, ns)
							}
						}
						if way == "the event" {
							b.lose(others...)
							publish(c.during)
							b.lose()
						} else {
							link.Cut()
							publish(c.during)
							b.lose(others...)
							link.Heal()
							soon()
							b.lose()
						}
						if only == realtime.NamespaceAdmin { // where most events are not sent: it has learned nothing until the gap
							link.Cut()
							link.Heal()
						}
						time.Sleep(10 * time.Second)
						synctest.Wait()
						requireInTripRoom(t, at, "t1", c.driver, c.passenger)
						if len(c.before) == 0 && way == "the answer" {
							return // until the gap it knew nothing of the trip whose room the admin has joined
						}
						admins := usersInTripRoom(t, at.Realtime.Admin(), "t1")
						require.Equal(t, c.admin, len(admins) > 0, "admin")
						if !c.driver && !c.passenger && !c.admin {
							_, err := realtimetest.Call(t.Context(), admin, realtime.AdminTripJoin, realtime.TripRef{TripID: "t1"})
							require.Equal(t, realtime.CodeNotFound, realtime.CodeOf(err), "the trip is over")
							return
						}
						follow()
						time.Sleep(10 * time.Second)
						synctest.Wait()
						require.Len(t, usersInTripRoom(t, at.Realtime.Admin(), "t1"), 1, "the moves are made once")
					})
				})
			}
		}
	}
}
