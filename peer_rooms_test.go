// What is published to other nodes, and what only if one of them has a receiver for it.

package realtime_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// sentCounter counts the broadcasts that a node publishes, by event, and may lose messages about
// the nodes' own state without a trace.
type sentCounter struct {
	realtime.Adapter
	mu    sync.Mutex // guards the fields below
	sent  map[string]int
	rooms int // messages about rooms
	loses bool
}

func (c *sentCounter) Publish(ctx context.Context, m realtime.ClusterMessage) error {
	c.mu.Lock()
	loses := false
	switch m.Op {
	case realtime.OpBroadcast:
		c.sent[string(m.Event.Args[0])]++
	case realtime.OpState:
		if b, err := json.Marshal(m.State); err == nil && bytes.Contains(b, []byte(`"rooms`)) {
			c.rooms++
		}
		loses = c.loses
	}
	c.mu.Unlock()
	if loses {
		return nil
	}
	return c.Adapter.Publish(ctx, m)
}

// take returns the number of broadcasts by event since the last call.
func (c *sentCounter) take() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	sent := c.sent
	c.sent = map[string]int{}
	return sent
}

// announcements returns how often the node has sent its rooms, or asked for those of others.
func (c *sentCounter) announcements() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rooms
}

func (c *sentCounter) lose(state bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.loses = state
}

// roomsSite is a cluster of two nodes that know that there are no others.
type roomsSite struct {
	hub    *realtimetest.Hub
	a, b   *realtimetest.Server
	sent   [2]*sentCounter // of a and b
	link   [2]*realtimetest.HubNode
	driver *realtimetest.Client // d1, on a
}

func newRoomsSite(t *testing.T, configure ...func(o *realtime.Options)) *roomsSite {
	t.Helper()
	s := &roomsSite{hub: realtimetest.NewHub()}
	s.hub.SetOnlyPeers(true)
	for i := range s.link {
		s.link[i] = s.hub.Node()
		s.sent[i] = &sentCounter{Adapter: s.link[i], sent: map[string]int{}}
	}
	use := func(i int) func(o *realtime.Options) {
		return func(o *realtime.Options) { o.Cluster.Adapter = s.sent[i] }
	}
	s.a = realtimetest.NewServer(t, append(configure, withoutLookup, use(0))...)
	s.b = realtimetest.NewServer(t, append(configure, withoutLookup, use(1))...)
	s.driver = s.a.Driver(t, "d1")
	announce()
	s.sent[0].take()
	return s
}

// announce waits until the nodes have announced their rooms to each other.
func announce() {
	time.Sleep(150 * time.Millisecond)
	synctest.Wait()
}

// ping reports positions of the driver, checks that the driver receives each, and returns which
// events the driver's node publishes.
func (s *roomsSite) ping(t *testing.T, positions int) map[string]int {
	t.Helper()
	s.sent[0].take()
	for n := range positions {
		move(t, s.driver, float64(n))
		realtimetest.Expect(t, s.driver, realtime.EventDriverLocation)
	}
	synctest.Wait()
	return s.sent[0].take()
}

const (
	toDriver  = `"driver:location:update"`
	toAdmins  = `"admin:driver:location:update"`
	toTheTrip = `"trip:driver_location"`
)

var (
	nothing    = map[string]int{}
	everything = map[string]int{toDriver: 1, toAdmins: 1}
)

// expectOnce checks that a client has received that many of an event, and no more.
func expectOnce[T any](t *testing.T, c *realtimetest.Client, e realtime.Event[T], n int) {
	t.Helper()
	for range n {
		realtimetest.Expect(t, c, e)
	}
	realtimetest.ExpectNone(t, c, e)
}

func TestPeerRooms_PositionWithoutReceiverElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newRoomsSite(t)
		// On the other node are a passenger, another driver, and an admin who does not watch.
		passenger, other, admin := s.b.Passenger(t, "p1"), s.b.Driver(t, "d2"), s.b.Admin(t, "a1")
		_, err := realtimetest.Call(t.Context(), admin, realtime.AdminDriversLeave, realtime.None{})
		require.NoError(t, err)
		watching := s.a.Admin(t, "a2")
		announce()
		require.Equal(t, nothing, s.ping(t, 3))
		expectOnce(t, watching, realtime.EventAdminDriverLocation, 3)
		for _, c := range all(passenger, other, admin) {
			realtimetest.ExpectNone(t, c)
		}
		// Everything else crosses as before.
		s.a.Publish(t, realtime.DriverStatusChanged{Availability: realtime.Availability{DriverID: "d1"}})
		synctest.Wait()
		require.Equal(t, map[string]int{`"driver:availability:update"`: 1, `"admin:driver:availability:update"`: 1}, s.sent[0].take())
	})
}

func TestPeerRooms_PositionWithReceiverElsewhere(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newRoomsSite(t)
		admin, other := s.b.Admin(t, "a1"), s.b.Driver(t, "d2")
		announce()
		require.Equal(t, map[string]int{toAdmins: 3}, s.ping(t, 3))
		expectOnce(t, admin, realtime.EventAdminDriverLocation, 3)

		phone := s.b.Driver(t, "d1")
		announce()
		require.Equal(t, everything, s.ping(t, 1))
		expectOnce(t, phone, realtime.EventDriverLocation, 1)
		expectOnce(t, admin, realtime.EventAdminDriverLocation, 1)

		admin.Close()
		phone.Close()
		announce()
		require.Equal(t, nothing, s.ping(t, 2))
		realtimetest.ExpectNone(t, other)
	})
}

// A trip that begins puts sockets of several nodes into its room at the same time: the next
// position does not wait for an announcement.
func TestPeerRooms_PositionOfATrip(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newRoomsSite(t)
		passenger, other := s.b.Passenger(t, "p1"), s.b.Passenger(t, "p2")
		announce()
		s.b.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		synctest.Wait()
		require.Equal(t, 1, s.ping(t, 1)[toTheTrip])
		expectOnce(t, passenger, realtime.EventTripDriverLocation, 1)
		time.Sleep(5 * time.Second)
		require.Equal(t, map[string]int{toTheTrip: 2}, s.ping(t, 2))
		expectOnce(t, passenger, realtime.EventTripDriverLocation, 2)
		realtimetest.ExpectNone(t, other, realtime.EventTripDriverLocation)

		passenger.Close()
		announce()
		require.Equal(t, nothing, s.ping(t, 1))
		again := s.b.Passenger(t, "p1", realtimetest.Session("again"))
		announce()
		require.Equal(t, map[string]int{toTheTrip: 1}, s.ping(t, 1))
		expectOnce(t, again, realtime.EventTripDriverLocation, 1)

		s.b.Publish(t, realtime.TripCompleted{TripID: "t1", PassengerID: "p1", DriverID: "d1", Currency: "CUP"})
		time.Sleep(5 * time.Second)
		require.Equal(t, nothing, s.ping(t, 1))
	})
}

func TestPeerRooms_VolatileBroadcasts(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newRoomsSite(t)
		there := s.b.Driver(t, "d2")
		announce()
		drivers, zone := s.a.Realtime.Drivers(), realtime.NewRoom("zone", "1")
		for _, c := range []struct {
			name string
			to   realtime.Broadcast
			sent bool
		}{
			{"a room that nobody has", drivers.To(realtime.DriverRoom("d9")).Volatile(), false},
			{"a room of the host's that nobody has", drivers.To(zone).Volatile(), false},
			{"a room of this node", drivers.To(realtime.DriverRoom("d1")).Volatile(), false},
			{"the same room in another namespace", s.a.Realtime.Passengers().To(realtime.DriverRoom("d2")).Volatile(), false},
			{"a room of the other node", drivers.To(realtime.DriverRoom("d2")).Volatile(), true},
			{"one of several rooms", drivers.To(zone, realtime.DriverRoom("d9"), realtime.DriverRoom("d2")).Volatile(), true},
			{"all", drivers.All().Volatile(), true},
			{"a session", drivers.To(realtime.SessionRoom("s9")).Volatile(), true},
			{"not volatile", drivers.To(zone), true},
			{"the latest, which must arrive", drivers.To(zone).Latest("k"), true},
		} {
			require.NoError(t, c.to.EmitRaw("test", realtime.Raw{}))
			synctest.Wait()
			require.Equal(t, map[bool]int{true: 1}[c.sent], s.sent[0].take()[`"test"`], c.name)
		}
		there.Close()

		// A room that this node makes on all nodes is expected there at once.
		joins := s.b.Driver(t, "d3")
		drivers.To(realtime.DriverRoom("d3")).Join(zone)
		require.NoError(t, drivers.To(zone).Volatile().EmitRaw("test", realtime.Raw{}))
		_, err := joins.NextRaw(t.Context(), "test")
		require.NoError(t, err)
	})
}

func TestPeerRooms_UnknownNodes(t *testing.T) {
	t.Run("of another system", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			s := newRoomsSite(t)
			require.Equal(t, nothing, s.ping(t, 1))
			s.hub.SetOnlyPeers(false)
			synctest.Wait()
			require.Equal(t, everything, s.ping(t, 1))
			s.hub.SetOnlyPeers(true)
			synctest.Wait()
			require.Equal(t, nothing, s.ping(t, 1))
		})
	})
	t.Run("of a version that announces nothing", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			s := newRoomsSite(t)
			require.Equal(t, nothing, s.ping(t, 1))
			old := s.hub.Node()
			require.NoError(t, old.Start(t.Context(), idleNode{}))
			synctest.Wait()
			require.Equal(t, everything, s.ping(t, 1))
			time.Sleep(10 * time.Minute)
			require.Equal(t, everything, s.ping(t, 1))
			before := s.sent[0].announcements()
			time.Sleep(10 * time.Minute)
			require.Equal(t, before, s.sent[0].announcements(), "it is not asked for ever")
			require.NoError(t, old.Close(t.Context()))
			synctest.Wait()
			require.Equal(t, nothing, s.ping(t, 1))
		})
	})
	t.Run("an adapter that does not report nodes", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			hub := realtimetest.NewHub()
			sent := &sentCounter{Adapter: hub.Node(), sent: map[string]int{}}
			a := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = sent })
			driver := a.Driver(t, "d1")
			move(t, driver, 1)
			synctest.Wait()
			require.Equal(t, everything, sent.take())
		})
	})
}

// While announcements may be missing, everything is sent.
func TestPeerRooms_Gaps(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newRoomsSite(t)
		require.Equal(t, nothing, s.ping(t, 1))
		s.link[0].Cut()
		synctest.Wait()
		require.Equal(t, everything, s.ping(t, 1), "it does not receive")
		admin := s.b.Admin(t, "a1") // a has missed this
		announce()
		s.sent[1].lose(true)
		s.link[0].Heal()
		announce()
		require.Equal(t, everything, s.ping(t, 1), "the announcement is lost")
		s.sent[1].lose(false)
		time.Sleep(5 * time.Second)
		require.Equal(t, map[string]int{toAdmins: 1}, s.ping(t, 1))
		expectOnce(t, admin, realtime.EventAdminDriverLocation, 2) // and none of the time of the gap

		// The other node's messages are lost, of which a has no other sign than the next one.
		s.sent[1].lose(true)
		phone := s.b.Driver(t, "d1")
		announce()
		require.Equal(t, map[string]int{toAdmins: 1}, s.ping(t, 1), "nobody knows")
		s.sent[1].lose(false)
		s.b.Driver(t, "d2")
		synctest.Wait()
		require.Equal(t, everything, s.ping(t, 1), "a message is missing")
		time.Sleep(5 * time.Second)
		require.Equal(t, everything, s.ping(t, 1), "the driver's phone is announced")
		expectOnce(t, phone, realtime.EventDriverLocation, 2)
		phone.Close()
		admin.Close()
		announce()
		require.Equal(t, nothing, s.ping(t, 1))
	})
}

func TestPeerRooms_NodeBeyondTheLimit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newRoomsSite(t)
		s.b.Realtime.SetMaxOwnRooms(20) // a driver is in two
		var drivers []*realtimetest.Client
		for n := range 9 {
			drivers = append(drivers, s.b.Driver(t, fmt.Sprint("x", n)))
		}
		announce()
		require.Equal(t, nothing, s.ping(t, 1))
		for n := range 3 {
			drivers = append(drivers, s.b.Driver(t, fmt.Sprint("y", n)))
		}
		announce()
		require.Equal(t, everything, s.ping(t, 1))
		before := s.sent[1].announcements()
		for n := range 5 {
			drivers = append(drivers, s.b.Driver(t, fmt.Sprint("z", n)))
			announce()
		}
		require.Equal(t, before, s.sent[1].announcements(), "there is nothing to announce any more")
		require.Equal(t, everything, s.ping(t, 1))
		for _, c := range drivers[:10] {
			c.Close()
		}
		announce()
		require.Equal(t, everything, s.ping(t, 1), "not before there are half as many")
		for _, c := range drivers[10:15] {
			c.Close()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		require.Equal(t, nothing, s.ping(t, 1))
		s.b.Driver(t, "d1")
		announce()
		require.Equal(t, map[string]int{toDriver: 1}, s.ping(t, 1))
	})
}

func TestPeerRooms_NodeThatLeavesOrDies(t *testing.T) {
	for _, dies := range []bool{false, true} {
		t.Run(map[bool]string{false: "leaves", true: "dies"}[dies], func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newRoomsSite(t)
				s.b.Admin(t, "a1")
				announce()
				require.Equal(t, map[string]int{toAdmins: 1}, s.ping(t, 1))
				if dies {
					s.link[1].Kill()
				} else {
					s.b.Close()
				}
				synctest.Wait()
				require.Equal(t, nothing, s.ping(t, 1))

				// A node that starts knows the rooms of the others, and they know its.
				c := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = s.hub.Node() })
				admin := c.Admin(t, "a2")
				announce()
				require.Equal(t, map[string]int{toAdmins: 1}, s.ping(t, 1))
				expectOnce(t, admin, realtime.EventAdminDriverLocation, 1)
			})
		})
	}
}

// A node with many rooms sends them in pieces, and at most one list in a second, whoever asks.
func TestPeerRooms_ManyRooms(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newRoomsSite(t)
		one := s.b.Driver(t, "x")
		s.b.Realtime.Drivers().To(realtime.DriverRoom("x")).Local().Join(manyRooms(9000)...)
		announce()
		far := func(n int) int {
			require.NoError(t, s.a.Realtime.Drivers().To(realtime.NewRoom("zone", fmt.Sprint(n))).Volatile().EmitRaw("test", realtime.Raw{}))
			synctest.Wait()
			return s.sent[0].take()[`"test"`]
		}
		for _, n := range []int{0, 5000, 8999} {
			require.Equal(t, 1, far(n))
		}
		require.Zero(t, far(9000))
		var nodes []*realtimetest.Server
		time.Sleep(time.Second)
		before := s.sent[1].announcements()
		for range 5 {
			nodes = append(nodes, realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = s.hub.Node() }))
			announce()
		}
		time.Sleep(3 * time.Second)
		require.Equal(t, before+10, s.sent[1].announcements(), "two lists of five messages")
		for range 100 {
			s.link[1].Cut()
			s.link[1].Heal()
		}
		time.Sleep(3 * time.Second)
		require.Equal(t, 1, far(8999))
		require.Zero(t, far(9000))
		one.Close()
		announce()
		require.Zero(t, far(0))
		require.Zero(t, far(8999))
		for _, n := range nodes {
			n.Close()
		}
	})
}

func manyRooms(n int) (rooms []realtime.Room) {
	for i := range n {
		rooms = append(rooms, realtime.NewRoom("zone", fmt.Sprint(i)))
	}
	return rooms
}
