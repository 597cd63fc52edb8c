// What the view shows of one node and of several.

package realtimeadmin_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimeadmin"
	"github.com/rodando/realtime/realtimetest"
)

func TestNew_Mistakes(t *testing.T) {
	t.Parallel()
	_, err := realtimeadmin.New(realtimeadmin.Options{Memory: -1, Timeout: -1})
	require.ErrorContains(t, err, "realtimeadmin: set Token or Operator")
	require.ErrorContains(t, err, "negative Memory")
	require.ErrorContains(t, err, "negative Timeout")
	for _, short := range []string{"secret", strings.Repeat("x", 257)} {
		_, err = realtimeadmin.New(realtimeadmin.Options{Token: short})
		require.ErrorContains(t, err, "it must have 32 to 256")
		require.NotContains(t, err.Error(), short)
	}
	_, err = realtimeadmin.New(realtimeadmin.Options{Token: token, Operator: anybody})
	require.ErrorContains(t, err, "either")
}

func TestView_WatchIsCalledOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := start(t, 1, realtimeadmin.Options{})[0]
		require.PanicsWithValue(t, "realtimeadmin: Watch was called before", func() { n.view.Watch(n.Realtime) })
		require.PanicsWithValue(t, "realtimeadmin: Watch: the server is nil", func() { n.view.Watch(nil) })
	})
}

func TestView_Overview(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := start(t, 2, realtimeadmin.Options{}, func(o *realtime.Options) { o.Limits.OutboxMessages = 20 })
		nodes[0].Driver(t, "d1")
		nodes[0].Driver(t, "d2", realtimetest.Polling())
		slow := nodes[1].Passenger(t, "p1")
		_, err := nodes[1].Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token("bad"))
		require.Error(t, err)
		slow.Stall()
		for range 2000 {
			require.NoError(t, note.Emit(nodes[0].Realtime.Passengers().To(realtime.PassengerRoom("p1")), strings.Repeat("x", 10_000)))
		}
		settle(t, nodes...)
		slow.Resume()
		slow.Disconnected(t)
		time.Sleep(2 * time.Second) // an earlier sample is too old
		settle(t, nodes...)

		got := nodes[0].ask(t, "/api/overview")
		require.Equal(t, "node-1 node-2", ids(got.Nodes))
		require.Empty(t, got.Silent)
		require.Len(t, got.Reports, 2)
		first, second := got.Reports[0], got.Reports[1]
		require.True(t, first.Ready)
		require.Equal(t, 2, first.Connections)
		require.Len(t, first.Namespaces, 3)
		require.Equal(t, "/drivers 1 1", fmt.Sprint(first.Namespaces[1].Name, " ", first.Namespaces[1].Polling, " ", first.Namespaces[1].WebSocket))
		require.Zero(t, second.Namespaces[1].WebSocket)
		require.Len(t, second.Slow, 1)
		require.Equal(t, "p1", second.Slow[0].User)
		require.Greater(t, second.Slow[0].Messages, 20)
		require.Positive(t, second.Slow[0].Bytes)
		var reasons []string
		for _, r := range second.Refusals {
			reasons = append(reasons, fmt.Sprintf("%s %s%s %d %d", r.Kind, r.Reason, r.Namespace, r.Total, r.Recent))
		}
		require.ElementsMatch(t, []string{"connect invalid_token/drivers 1 1", "limit Outbox 1 1"}, reasons)
		require.Empty(t, first.Refusals)

		time.Sleep(11 * time.Minute)
		got = nodes[1].ask(t, "/api/overview")
		require.Equal(t, "node-2 node-1", ids(got.Nodes), "the node that was asked comes first")
		require.Equal(t, 1, got.Reports[0].Refusals[0].Total)
		require.Zero(t, got.Reports[0].Refusals[0].Recent)
	})
}

func TestView_User(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := start(t, 2, realtimeadmin.Options{}, func(o *realtime.Options) {
			o.Namespaces = map[string]realtime.NamespaceOptions{"/chat": {}, "/open": {Anonymous: true}}
		})
		nodes[0].Driver(t, "d1")
		nodes[1].Driver(t, "d1", realtimetest.Session("tablet"))
		nodes[1].Driver(t, "d2")
		chat, err := nodes[1].Dial(t.Context(), "/chat", realtimetest.Token(nodes[1].Login("d1", realtime.UserDriver)))
		require.NoError(t, err)
		nodes[0].Realtime.Drivers().To(realtime.DriverRoom("d1")).Join(realtime.NewRoom("cell", "23.1136,-82.3666"), realtime.TripRoom("t1"))
		settle(t, nodes...)
		for _, n := range nodes {
			got := n.ask(t, "/api/user?id=d1")
			require.Empty(t, got.Silent)
			require.False(t, got.Partial)
			var sockets []string
			for _, s := range got.Sockets {
				sockets = append(sockets, fmt.Sprint(s.Node, " ", s.Namespace, " ", s.Session, " ", s.Rooms, " ", s.OtherRooms))
			}
			require.ElementsMatch(t, []string{
				"node-1 /drivers session-of-d1 [driver:d1 session:session-of-d1 trip:t1] 1",
				"node-2 /drivers tablet [driver:d1 session:tablet trip:t1] 1",
				"node-2 /chat session-of-d1 [session:session-of-d1 user:d1] 0",
			}, sockets)
		}
		chat.Close()
		settle(t, nodes...)
		got := nodes[0].ask(t, "/api/user?id=d1")
		require.Len(t, got.Sockets, 2)
		require.Equal(t, "node-2 disconnected d1 client namespace disconnect", lines(got.Entries)[len(got.Entries)-1])
		got = nodes[0].ask(t, "/api/user?id=nobody")
		require.Empty(t, got.Sockets)
		require.Empty(t, got.Entries)
	})
}

// A host that asks for it sees the rooms of its own.
func TestOptions_HostRooms(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := start(t, 1, realtimeadmin.Options{HostRooms: true})[0]
		n.Driver(t, "d1")
		n.Realtime.Drivers().To(realtime.DriverRoom("d1")).Join(realtime.NewRoom("zone", "havana"))
		got := n.ask(t, "/api/user?id=d1")
		require.Equal(t, []string{"driver:d1", "host:zone:havana", "session:session-of-d1"}, got.Sockets[0].Rooms)
		require.Zero(t, got.Sockets[0].OtherRooms)
	})
}

type offers struct{ err error }

func (o offers) AcceptOffer(context.Context, string, string) (string, error) { return "t1", o.err }
func (o offers) RejectOffer(context.Context, string, string, string) error   { return o.err }

// The driver of a trip is on another node than the one that handles its events: the timeline has what
// each node did.
func TestView_Timeline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := start(t, 2, realtimeadmin.Options{}, func(o *realtime.Options) { o.Offers = offers{} })
		passenger, driver := nodes[0].Passenger(t, "p1"), nodes[1].Driver(t, "d1")
		nodes[1].Driver(t, "d2")
		settle(t, nodes...)
		time.Sleep(10 * time.Minute)
		publish := func(e realtime.DomainEvent) {
			nodes[0].Publish(t, e)
			settle(t, nodes...)
			time.Sleep(time.Second)
		}
		publish(realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
		publish(realtime.AssignmentOffered{TripID: "t1", AssignmentID: "a1", DriverID: "d1", TTLSec: 20})
		_, err := realtimetest.Call(t.Context(), driver, realtime.DriverOfferAccept, realtime.OfferAccept{AssignmentID: "a1"})
		require.NoError(t, err)
		require.NoError(t, driver.Emit(realtime.DriverLocationPing.Name(), realtime.Position{Lat: 1, Lng: 2}))
		time.Sleep(time.Second)
		publish(realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		publish(realtime.TripRequested{TripID: "t2", PassengerID: "p2"})
		passenger.Drop()
		settle(t, nodes...)
		time.Sleep(time.Second)
		publish(realtime.TripCancelled{TripID: "t1", PassengerID: "p1", DriverID: "d1", CancelledBy: realtime.CancelledByAdmin})
		publish(realtime.TripStarted{TripID: "t1", PassengerID: "p1", DriverID: "d1", At: time.Now().Add(-time.Minute)})
		for i, n := range nodes {
			got := n.ask(t, "/api/timeline?id=t1")
			require.Equal(t, []string{
				"node-1 delivered trip.requested trip:requested /passengers passenger:p1 * + trip:requested /admin admin:all trip:t1 +",
				"node-1 delivered trip.assignment.offered trip:assignment:offered /drivers driver:d1 + trip:assignment:offered /admin admin:all trip:t1 +",
				"node-1 delivered trip.assignment.delivered trip:assignment:delivered /admin admin:all trip:t1 +", // at the same moment as the next one
				"node-2 emitted trip:assignment:offered trip:assignment:offered /drivers driver:d1 *",
				"node-2 call driver:offer:accept d1 ok",
				"node-1 delivered trip.driver.assigned trip:driver_assigned /passengers passenger:p1 * + trip:driver_assigned /drivers driver:d1 + trip:driver_assigned /admin admin:all trip:t1 +",
				"node-2 emitted trip:driver_assigned trip:driver_assigned /drivers driver:d1 *",
				"node-1 disconnected p1 transport close",
				"node-1 delivered trip.cancelled trip:cancelled /passengers passenger:p1 + trip:cancelled /drivers driver:d1 + trip:cancelled /admin admin:all trip:t1 +",
				"node-2 emitted trip:cancelled trip:cancelled /drivers driver:d1 *",
				"node-1 outdated trip.started",
			}, lines(got.Entries), "node %d", i)
			require.NotEmpty(t, got.Entries[0].EventID)
			require.False(t, got.More)
		}
		require.Empty(t, nodes[0].ask(t, "/api/timeline?id=t3").Entries)
	})
}

// An event that the server cannot address is in the timeline.
func TestView_TimelineOfAnUnknownPassenger(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := start(t, 1, realtimeadmin.Options{})[0]
		n.Publish(t, realtime.TripRequested{TripID: "t1"})
		settle(t, n)
		require.Contains(t, lines(n.ask(t, "/api/timeline?id=t1").Entries), "this node unaddressed trip.requested passenger")
	})
}

// Timelines of many trips forget the oldest, and a long one shows its end.
func TestView_TimelineIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := start(t, 1, realtimeadmin.Options{Memory: 1 << 20})[0]
		publish := func(trip string) {
			require.NoError(t, n.Realtime.Publish(t.Context(), realtime.TripRequested{TripID: trip, PassengerID: "p1"}))
		}
		publish("first")
		for range 600 {
			publish("long")
		}
		settle(t, n)
		require.Len(t, n.ask(t, "/api/timeline?id=first").Entries, 1)
		got := n.ask(t, "/api/timeline?id=long")
		require.Len(t, got.Entries, 500)
		require.True(t, got.More)
		for i := range 3000 {
			publish(fmt.Sprint("trip ", i))
		}
		settle(t, n)
		publish("the last") // the others were handled concurrently
		settle(t, n)
		require.Empty(t, n.ask(t, "/api/timeline?id=first").Entries)
		require.Len(t, n.ask(t, "/api/timeline?id=the+last").Entries, 1)
	})
}

// A node that is cut off, or whose listeners hang, is named; the others answer.
func TestView_SilentNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := start(t, 3, realtimeadmin.Options{Timeout: time.Second})
		nodes[0].Driver(t, "d1")
		nodes[1].Driver(t, "d1")
		nodes[2].Driver(t, "d1")
		stuck := make(chan struct{})
		nodes[1].Realtime.Admin().OnServerEmit("hangs", func(realtime.Raw) { <-stuck })
		require.NoError(t, nodes[0].Realtime.Admin().ServerEmit(t.Context(), "hangs"))
		settle(t, nodes...)
		for _, path := range []string{"/api/overview", "/api/timeline?id=t1"} {
			got := nodes[0].ask(t, path)
			require.Equal(t, "node-1 node-3", ids(got.Nodes), path)
			require.Equal(t, "node-2", ids(got.Silent), path)
		}
		got := nodes[0].ask(t, "/api/user?id=d1")
		require.Equal(t, "node-2", ids(got.Silent))
		require.Len(t, got.Sockets, 3, "the server of the node answers all the same")
		require.False(t, got.Partial)
		close(stuck)
		settle(t, nodes...)
		require.Empty(t, nodes[0].ask(t, "/api/overview").Silent)
		require.Empty(t, nodes[0].log.String())
	})
}

// faulty is an adapter that hangs, fails or panics.
type faulty struct {
	*realtimetest.HubNode
	request func(ctx context.Context) error
	stats   func()
}

func (f *faulty) Request(ctx context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) error {
	if f.request != nil {
		return f.request(ctx)
	}
	return f.HubNode.Request(ctx, m, answer)
}

func (f *faulty) AdapterStats() realtime.AdapterStats {
	if f.stats != nil {
		f.stats()
	}
	return f.HubNode.AdapterStats()
}

// Whatever the adapter does, the view answers with what there is.
func TestView_AdapterFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		adapter := &faulty{HubNode: hub.Node()}
		n := start(t, 1, realtimeadmin.Options{}, func(o *realtime.Options) { o.Cluster.Adapter = adapter })[0]
		other := start(t, 1, realtimeadmin.Options{}, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })[0]
		n.Driver(t, "d1")
		other.Driver(t, "d1")
		settle(t, other)
		for _, request := range []func(ctx context.Context) error{
			func(context.Context) error { return errors.New("no") },
			func(context.Context) error { panic("no") },
			func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		} {
			adapter.request = request
			got := n.ask(t, "/api/user?id=d1")
			require.True(t, got.Partial)
			require.Len(t, got.Sockets, 2, "the view of the other node has answered")
			require.Empty(t, got.Silent)
		}
		adapter.stats = func() { panic("no") }
		time.Sleep(2 * time.Second)
		got := n.ask(t, "/api/overview")
		require.Equal(t, "node-1 node-2", ids(got.Nodes), "it knew the other node before")
		adapter.Cut()
		got = n.ask(t, "/api/overview")
		require.Equal(t, "node-1", ids(got.Nodes))
		require.Equal(t, "node-2", ids(got.Silent))
		require.False(t, got.Reports[0].Ready)
		adapter.Heal()
		settle(t, other)
	})
}

// Messages of other nodes that no view sends change nothing, and a flood of questions is answered in
// part.
func TestView_HostileNodes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := start(t, 3, realtimeadmin.Options{Timeout: time.Second})
		stranger := nodes[2].Realtime.Admin()
		var answers atomic.Int32
		stranger.OnServerEmit("realtimeadmin:answer", func(realtime.Raw) { answers.Add(1) })
		var harmless atomic.Bool
		nodes[1].Realtime.Admin().OnServerEmit("realtimeadmin:question", func(args realtime.Raw) {
			if harmless.Load() {
				return
			}
			var q struct{ Request string }
			require.NoError(t, json.Unmarshal(args.Args[0], &q))
			for _, a := range []string{
				`7`, `{"v":1,"request":"` + q.Request + `","node":7}`,
				`{"v":2,"request":"` + q.Request + `","node":{"id":"node-2"}}`,
				`{"v":1,"request":"` + q.Request + `","node":{"id":"nobody"},"sockets":[{"id":"x"}]}`,
				`{"v":1,"request":"another","node":{"id":"node-2"},"sockets":[{"id":"x"}]}`,
				`{"v":1,"request":"` + q.Request + `","node":{"id":"node-3","name":"invented"},"entries":[{"kind":"emitted"},{"kind":"call","event":"` + strings.Repeat("x", 2<<20) + `"}]}`,
			} {
				require.NoError(t, stranger.ServerEmit(t.Context(), "realtimeadmin:answer", json.RawMessage(a)))
			}
			require.NoError(t, stranger.ServerEmit(t.Context(), "realtimeadmin:answer"))
			require.NoError(t, stranger.ServerEmit(t.Context(), "realtimeadmin:answer", json.RawMessage(
				`{"v":1,"request":"`+q.Request+`","node":{"id":"node-2","name":"invented"},"entries":[{"kind":"emitted"}]}`)))
		})
		nodes[0].Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
		settle(t, nodes...)
		got := nodes[0].ask(t, "/api/timeline?id=t1")
		require.Equal(t, "node-1 node-2 node-3", ids(got.Nodes))
		for _, n := range got.Nodes {
			require.Empty(t, n.Name, "a node has the name that the adapter reports")
		}
		require.Len(t, got.Entries, 1)
		settle(t, nodes...)

		harmless.Store(true)
		answers.Store(0)
		for i := range 1000 {
			require.NoError(t, stranger.ServerEmit(t.Context(), "realtimeadmin:question", map[string]any{"v": 1, "request": fmt.Sprint(i), "kind": "overview"}))
		}
		for _, bad := range []any{nil, 7, map[string]any{"v": 2, "request": "x"}, map[string]any{"v": 1, "users": make([]string, 1000)}, strings.Repeat("x", 100_000)} {
			require.NoError(t, stranger.ServerEmit(t.Context(), "realtimeadmin:question", bad))
		}
		settle(t, nodes...)
		require.Positive(t, answers.Load())
		require.LessOrEqual(t, int(answers.Load()), 2*1000)
		require.Empty(t, nodes[0].ask(t, "/api/overview").Silent)
		synctest.Wait()
	})
}
