// Expect and ExpectNone, also when they fail, and a hub that cuts off a node.

package realtimetest_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
)

var count = realtime.NewEvent[int]("count")

func TestExpect_Fails(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		d := srv.Driver(t, "d1")
		require.NoError(t, count.Emit(srv.Realtime.Drivers().To(realtime.DriverRoom("d1")), 7))
		start := time.Now()
		message := failure(t, func(t testing.TB) { realtimetest.Expect(t, d, realtime.EventTripStarted) })
		require.Equal(t, realtimetest.Timeout, time.Since(start))
		require.Contains(t, message, "client d1 of /drivers: trip:started: not within 5s")
		require.Contains(t, message, `+   1. `, "hello was expected")
		require.Contains(t, message, `    2. `, "count was not")
		require.Contains(t, message, `count 7`)
		start = time.Now()
		require.NotEmpty(t, failure(t, func(t testing.TB) { realtimetest.Expect(t, d.Within(time.Minute), realtime.EventTripStarted) }))
		require.Equal(t, time.Minute, time.Since(start))
		message = failure(t, func(t testing.TB) { realtimetest.Expect(t, d, realtime.NewEvent[string]("count")) })
		require.Contains(t, message, "payload 7")
		require.Contains(t, failure(t, func(t testing.TB) { d.Disconnected(t) }), "still connected")

		// When no more events can arrive it does not wait.
		d.Close()
		start = time.Now()
		message = failure(t, func(t testing.TB) { realtimetest.Expect(t, d, realtime.EventTripStarted) })
		require.Contains(t, message, "and was disconnected: io client disconnect")
		require.Zero(t, time.Since(start))
	})
}

func TestExpect_TakesEachEventOnce(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		d := srv.Driver(t, "d1")
		other := realtime.NewEvent[string]("other")
		to := srv.Realtime.Drivers().To(realtime.DriverRoom("d1"))
		require.NoError(t, count.Emit(to, 1))
		require.NoError(t, other.Emit(to, "x"))
		require.NoError(t, count.Emit(to, 2))
		require.Equal(t, "x", realtimetest.Expect(t, d, other))
		require.Equal(t, 1, realtimetest.Expect(t, d, count))
		require.Equal(t, 2, realtimetest.Expect(t, d, count))
		realtimetest.ExpectNone(t, d)
		go func() {
			time.Sleep(time.Second)
			_ = count.Emit(to, 3)
		}()
		realtimetest.ExpectNone(t, d)
		require.Equal(t, 3, realtimetest.Expect(t, d, count))
	})
}

// ExpectNone notices events that are on their way, in a bubble and in real time.
func TestExpectNone_SeesEventsOnTheirWay(t *testing.T) {
	t.Parallel()
	test := func(t *testing.T, opts ...realtimetest.Option) {
		servers := realtimetest.NewCluster(t, 2)
		a, b := servers[0], servers[1]
		admin, passenger := b.Admin(t, "a1", opts...), b.Passenger(t, "p1", opts...)
		for n := range 20 {
			require.NoError(t, a.Realtime.Publish(t.Context(), realtime.TripRequested{TripID: "t1", PassengerID: "p2"}))
			require.NoError(t, a.Settle(t.Context()))
			message := failure(t, func(t testing.TB) { realtimetest.ExpectNone(t, admin, count, realtime.EventTripRequested) })
			require.Contains(t, message, "client a1 of /admin received unexpected events: trip:requested", n)
			realtimetest.ExpectNone(t, passenger)
			realtimetest.ExpectNone(t, admin, count)
			realtimetest.Expect(t, admin, realtime.EventTripRequested)
		}
	}
	for name, opts := range transports {
		t.Run(name, func(t *testing.T) {
			testkit.Bubble(t, func(t *testing.T) { test(t, opts...) })
		})
		t.Run(name+" in real time", func(t *testing.T) {
			t.Parallel()
			test(t, opts...)
		})
	}
}

// A node that is cut off, and then connected again.
func TestHubNode_CutAndHeal(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		one, two := hub.Node(), hub.Node()
		with := func(n *realtimetest.HubNode) *realtimetest.Server {
			return realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = n })
		}
		a, b := with(one), with(two)
		here, there := a.Driver(t, "d1"), b.Driver(t, "d1")
		require.Equal(t, []string{"driver:d1", "session:session-of-d1"}, two.Rooms(realtime.NamespaceDrivers))
		to := a.Realtime.Drivers().To(realtime.DriverRoom("d1"))
		two.Cut()
		require.NoError(t, count.Emit(to, 1))
		require.Equal(t, 1, realtimetest.Expect(t, here, count))
		realtimetest.ExpectNone(t, there)
		sockets, err := to.Sockets(t.Context())
		require.Error(t, err)
		require.Len(t, sockets, 1, "the sockets of the other nodes")
		two.Heal()
		require.NoError(t, count.Emit(to, 2))
		require.Equal(t, 2, realtimetest.Expect(t, there, count))
		sockets, err = to.Sockets(t.Context())
		require.NoError(t, err)
		require.Len(t, sockets, 2)
		there.Close()
		synctest.Wait()
		require.Empty(t, two.Rooms(realtime.NamespaceDrivers))
		require.NoError(t, hub.Err())
	})
}

func TestHubNode_NotStartedAndClosed(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		n := hub.Node()
		require.Error(t, n.Publish(t.Context(), realtime.ClusterMessage{}))
		require.Error(t, n.Request(t.Context(), realtime.ClusterMessage{}, nil))
		n.RoomChanged("/drivers", "r")
		require.NoError(t, n.Close(t.Context()))
		require.NoError(t, n.Close(t.Context()))
		require.ErrorIs(t, n.Start(t.Context(), nil), realtime.ErrClosed)
		require.ErrorIs(t, n.Publish(t.Context(), realtime.ClusterMessage{}), realtime.ErrClosed)
		require.NoError(t, hub.Wait(t.Context()))
	})
}
