// A node that does not know a trip yet, and has no Options.Parties: its events wait for what the
// other nodes know.

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

// learningSite has a node a whose clients are on trip t1, and starts further nodes.
type learningSite struct {
	hub                      *realtimetest.Hub
	a                        *realtimetest.Server
	driver, passenger, admin *realtimetest.Client

	mu      sync.Mutex // guards unknown
	unknown []string   // who was unknown when an event was sent
}

func (s *learningSite) unaddressed() []string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unknown
}

func (s *learningSite) node(t *testing.T, adapter *realtimetest.HubNode) *realtimetest.Server {
	t.Helper()
	return realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) {
		o.Cluster.Adapter, o.Parties = adapter, nil
		o.Timeouts.SweepInterval = -1
		o.Trace = &realtime.Trace{Unaddressed: func(_ context.Context, i realtime.UnaddressedInfo) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.unknown = append(s.unknown, i.Who)
		}}
	})
}

func newLearningSite(t *testing.T) *learningSite {
	t.Helper()
	s := &learningSite{hub: realtimetest.NewHub()}
	s.a = s.node(t, s.hub.Node())
	s.driver, s.passenger, s.admin = s.a.Driver(t, "d1"), s.a.Passenger(t, "p1"), s.a.Admin(t, "a1")
	return s
}

func (s *learningSite) assign(t *testing.T, ids ...string) {
	t.Helper()
	for _, id := range ids {
		s.a.Publish(t, realtime.DriverAssigned{TripID: id, PassengerID: "p1", DriverID: "d1"})
	}
	synctest.Wait()
}

// requireStarted requires that everybody receives trip:started within the time.
func (s *learningSite) requireStarted(t *testing.T, within time.Duration) {
	t.Helper()
	began := time.Now()
	for _, c := range all(s.driver, s.passenger, s.admin) {
		realtimetest.Expect(t, c, realtime.EventTripStarted)
	}
	require.Less(t, time.Since(began), within)
	require.Empty(t, s.unaddressed())
}

// A node handles events as soon as it has started, before the comparison of trips has ended.
func TestPublisher_NewNode_AsksPeersForATrip(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newLearningSite(t)
		s.assign(t, "t1")
		b := s.node(t, s.hub.Node())
		b.Publish(t, realtime.TripStarted{TripID: "t1"})
		b.Publish(t, realtime.TripCompleted{TripID: "t1", Currency: "CUP"})
		s.requireStarted(t, 100*time.Millisecond)
		for _, c := range all(s.driver, s.passenger, s.admin) {
			realtimetest.Expect(t, c, realtime.EventTripCompleted)
		}
	})
}

// Nor does a node know the trips of a time in which it did not receive.
func TestPublisher_AfterAGap_AsksPeersForATrip(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newLearningSite(t)
		adapter := s.hub.Node()
		b := s.node(t, adapter)
		time.Sleep(time.Minute)
		adapter.Cut()
		s.assign(t, "t1")
		time.Sleep(time.Minute)
		adapter.Heal()
		require.NoError(t, s.hub.Wait(t.Context()))
		b.Publish(t, realtime.TripStarted{TripID: "t1"})
		s.requireStarted(t, 100*time.Millisecond)
	})
}

// A node whose adapter does not receive may still be handed events.
func TestPublisher_DisconnectedNode_WaitsForPeers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newLearningSite(t)
		adapter := s.hub.Node()
		b := s.node(t, adapter)
		passenger, admin := b.Passenger(t, "p1"), b.Admin(t, "a2")
		time.Sleep(time.Minute)
		adapter.Cut()
		s.assign(t, "t1")
		time.Sleep(time.Minute)
		b.Publish(t, realtime.TripStarted{TripID: "t1"})
		time.Sleep(time.Second)
		require.Empty(t, s.unaddressed())
		adapter.Heal()
		s.requireStarted(t, 100*time.Millisecond)
		realtimetest.Expect(t, passenger, realtime.EventTripStarted)

		adapter.Cut()
		began := time.Now()
		for range 10 {
			require.NoError(t, b.Realtime.Publish(t.Context(), realtime.TripStarted{TripID: "nobody knows"}))
		}
		for range 11 { // with that of t1
			realtimetest.Expect(t, admin, realtime.EventTripStarted)
		}
		require.InDelta(t, 2*time.Second, time.Since(began), float64(200*time.Millisecond), "all of them wait once")
		adapter.Heal()
	})
}

// An event does not wait longer than other nodes may take to answer, and only in the time in which
// a node may not know what they do.
func TestPublisher_NewNode_WaitsBrieflyForPeers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newLearningSite(t)
		s.assign(t, "t1")
		time.Sleep(time.Minute)
		b := s.node(t, s.hub.Node())
		began := time.Now()
		b.Publish(t, realtime.TripStarted{TripID: "nobody knows"})
		b.Publish(t, realtime.TripRequested{TripID: "other", PassengerID: "p1"}) // waits for nobody
		realtimetest.Expect(t, s.passenger, realtime.EventTripRequested)
		require.Less(t, time.Since(began), 200*time.Millisecond)
		realtimetest.Expect(t, s.admin, realtime.EventTripStarted)
		require.Equal(t, []string{"passenger", "driver"}, s.unaddressed())
		require.InDelta(t, 2*time.Second, time.Since(began), float64(100*time.Millisecond))

		began = time.Now()
		b.Publish(t, realtime.TripStarted{TripID: "unknown too"})
		realtimetest.Expect(t, s.admin, realtime.EventTripStarted)
		require.Less(t, time.Since(began), 20*time.Millisecond)
	})
}

// A server that shuts down does not keep the events that wait.
func TestPublisher_NewNode_ShutsDownWhileItAsks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newLearningSite(t)
		b := s.node(t, s.hub.Node())
		b.Publish(t, realtime.TripStarted{TripID: "nobody knows"})
		require.NoError(t, b.Realtime.Shutdown(t.Context()))
		realtimetest.Expect(t, s.admin, realtime.EventTripStarted)
	})
}
