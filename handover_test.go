// Presence when a node shuts down whose users the other nodes do not know, because messages were
// lost.

package realtime_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// shutDown shuts a node down, within 20 seconds.
func shutDown(t *testing.T, srv *realtimetest.Server) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return srv.Realtime.Shutdown(ctx)
}

// A user comes to a node while it is cut off, and does not come back when the node shuts down.
func TestShutdown_HandsOverUsersOfAGap(t *testing.T) {
	for name, cut := range map[string]func(link *realtimetest.HubNode){ // before Shutdown
		"that is just over": func(link *realtimetest.HubNode) { link.Heal() },
		"that ends soon":    func(link *realtimetest.HubNode) { time.AfterFunc(3*time.Second, link.Heal) },
		"that lasts":        func(*realtimetest.HubNode) {},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				n := newPresenceCluster(t, 3)
				n.links[0].Cut()
				n.nodes[0].Driver(t, "d1")
				back := n.nodes[0].Driver(t, "d2")
				time.Sleep(time.Second)
				require.Len(t, n.heard.take(t), 2)
				back.Close()
				cut(n.links[0])
				require.NoError(t, shutDown(t, n.nodes[0]))
				gone := []string{"-/drivers d1 server shutting down"}
				if name == "that lasts" {
					gone = append(gone, "-/drivers d2 server shutting down") // no grace time: nobody else knows that they were here
				} else {
					n.nodes[1].Driver(t, "d2")
					require.Equal(t, []string{"+/drivers d2"}, slices.Compact(n.heard.take(t)))
				}
				time.Sleep(grace + 11*time.Second)
				again := func(e string) bool { return e == "+/drivers d2" } // a node whose question was not answered, here or above
				require.ElementsMatch(t, gone, slices.DeleteFunc(n.heard.take(t), again))
				time.Sleep(30 * time.Minute)
				require.Empty(t, n.heard.take(t))
			})
		})
	}
}

// Another node that asks a node for its users while that one shuts down is told those who have
// left since then, too.
func TestShutdown_AnswersWithThoseWhoHaveLeft(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newPresenceCluster(t, 3)
		n.nodes[0].Driver(t, "d1")
		n.nodes[0].Driver(t, "d2").Close() // the grace time runs
		n.nodes[0].Realtime.Drivers().OnDisconnect(func(context.Context, *realtime.Socket, realtime.DisconnectReason) {
			time.Sleep(1500 * time.Millisecond) // so that Shutdown takes as long
		})
		time.Sleep(time.Second)
		require.Len(t, n.heard.take(t), 2)
		n.links[2].Cut()
		time.AfterFunc(100*time.Millisecond, n.links[2].Heal) // it asks the others
		require.NoError(t, shutDown(t, n.nodes[0]))
		time.Sleep(grace + time.Second)
		require.ElementsMatch(t, []string{"-/drivers d1 server shutting down", "-/drivers d2 server shutting down"}, n.heard.take(t))
		time.Sleep(30 * time.Minute)
		require.Empty(t, n.heard.take(t))
	})
}

// Nobody else is there to publish that the users of the last node are disconnected.
func TestShutdown_OfTheOnlyNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newPresenceCluster(t, 1)
		n.nodes[0].Driver(t, "d1")
		n.nodes[0].Driver(t, "d2").Close()
		require.Len(t, n.heard.take(t), 2)
		began := time.Now()
		require.NoError(t, shutDown(t, n.nodes[0]))
		require.Less(t, time.Since(began), 5*time.Second, "it waits for nobody")
		require.ElementsMatch(t, []string{"-/drivers d1 server shutting down", "-/drivers d2 server shutting down"}, n.heard.take(t))
	})
}

// Nodes that shut down together do not rely on each other.
func TestShutdown_OfAllNodesAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newPresenceCluster(t, 3)
		n.nodes[0].Driver(t, "d1")
		n.nodes[1].Driver(t, "d2")
		n.nodes[2].Driver(t, "d3")
		for _, srv := range n.nodes {
			srv.Driver(t, "d4")
		}
		time.Sleep(time.Second)
		require.Len(t, n.heard.take(t), 6)
		ended := make(chan error)
		for _, srv := range n.nodes {
			go func() { ended <- shutDown(t, srv) }()
		}
		for range n.nodes {
			require.NoError(t, <-ended)
		}
		events := n.heard.take(t)
		slices.Sort(events)
		require.Equal(t, []string{
			"-/drivers d1 server shutting down", "-/drivers d2 server shutting down", "-/drivers d3 server shutting down", "-/drivers d4 server shutting down",
		}, slices.Compact(events))
	})
}

// A node that shuts down before it has published the users of a node that has died hands them over
// with its own: no other node may know them.
func TestShutdown_HandsOverUsersOfADeadNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newPresenceCluster(t, 3)
		n.links[2].Cut()
		n.nodes[0].Driver(t, "d1")
		time.Sleep(time.Second)
		n.links[0].Kill()
		time.Sleep(time.Second)
		n.links[2].Heal()
		require.Len(t, n.heard.take(t), 1)
		require.NoError(t, shutDown(t, n.nodes[1]))
		time.Sleep(grace + 11*time.Second)
		require.Equal(t, []string{"-/drivers d1 server shutting down"}, n.heard.take(t))
		time.Sleep(30 * time.Minute)
		require.Empty(t, n.heard.take(t))
	})
}

// What a node that is cut off publishes of a user who has moved is corrected by the node that has
// the user.
func TestShutdown_OfUsersWhoHaveMoved(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		bus := realtimetest.NewBus()
		hub := realtimetest.NewHub()
		var links []*realtimetest.HubNode
		var nodes []*realtimetest.Server
		for range 2 {
			link := hub.Node()
			links = append(links, link)
			nodes = append(nodes, realtimetest.NewServer(t, withPresence, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter, o.Bus = link, bus }))
		}
		last := func() (name string) {
			for _, env := range bus.Published() {
				name = env.Name
			}
			return name
		}
		links[0].Cut()
		phone := nodes[0].Driver(t, "d1")
		time.Sleep(time.Second)
		phone.Close()
		nodes[1].Driver(t, "d1")
		require.NoError(t, shutDown(t, nodes[0]))
		soon()
		require.Equal(t, "presence.connected", last())
		time.Sleep(30 * time.Minute)
		require.Equal(t, "presence.connected", last())
	})
}

// A node that can reach neither another node nor the bus says so, in time.
func TestShutdown_PresenceThatCannotBePublished(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newPresenceCluster(t, 2)
		n.links[0].Cut()
		n.nodes[0].Driver(t, "d1")
		require.Len(t, n.heard.take(t), 1)
		n.nodes[0].Bus.Block()
		require.ErrorContains(t, shutDown(t, n.nodes[0]), "presence not published")
		n.nodes[0].Bus.Fail(errors.New("away"))
	})
}

// A node handles an event of a trip while it is cut off, and shuts down when that is just over, or
// before.
func TestShutdown_HandsOverTrips(t *testing.T) {
	assigned := realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"}
	completed := realtime.TripCompleted{TripID: "t1", Currency: "CUP"}
	for name, heal := range map[string]func(link *realtimetest.HubNode){
		"at once": func(link *realtimetest.HubNode) { link.Heal() },
		"later":   func(link *realtimetest.HubNode) { time.AfterFunc(3*time.Second, link.Heal) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newGapSite(t, withoutLookup)
				s.b.Publish(t, realtime.DriverAssigned{TripID: "t2", PassengerID: "p2", DriverID: "d2"})
				s.a.Driver(t, "d1")
				s.a.Passenger(t, "p1")
				s.a.Driver(t, "d2")
				time.Sleep(time.Second)
				requireInTripRoom(t, s.a, "t2", true, false)
				s.cut.Cut()
				s.b.Publish(t, assigned)
				s.b.Publish(t, realtime.TripCompleted{TripID: "t2", Currency: "CUP"})
				time.Sleep(time.Second)
				requireInTripRoom(t, s.a, "t1", false, false)
				heal(s.cut)
				require.NoError(t, shutDown(t, s.b))
				time.Sleep(time.Second)
				requireInTripRoom(t, s.a, "t1", true, true)
				requireInTripRoom(t, s.a, "t2", false, false)
				s.a.Publish(t, completed)
				time.Sleep(time.Second)
				requireInTripRoom(t, s.a, "t1", false, false)
			})
		})
	}
}
