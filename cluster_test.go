// Several nodes: trips, requests and messages between them. broadcast_test.go and
// wire_audience_test.go also run on two nodes.

package realtime_test

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

func withoutLookup(o *realtime.Options) { o.Trips = nil }

func TestCluster_Trip(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 2, withoutLookup)
		a, b := nodes[0], nodes[1]
		driver, phone := b.Driver(t, "d1"), a.Driver(t, "d1")
		passenger, unrelated := a.Passenger(t, "p1"), b.Passenger(t, "p2")
		admin := b.Admin(t, "a1")
		require.NoError(t, admin.Emit("admin:trip:join", realtime.TripRef{TripID: "t1"}))
		synctest.Wait()

		a.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		requireFollows(t, driver, "t1", 1, all(passenger, admin), unrelated)
		requireFollows(t, phone, "t1", 2, all(passenger, admin), unrelated)

		// Its own node knows the trip and puts a socket that connects later into the room.
		late, lateDriver := b.Passenger(t, "p1"), b.Driver(t, "d1")
		requireFollows(t, lateDriver, "t1", 3, all(passenger, late, admin), unrelated)

		// The other node handles the next event and knows the passenger and the driver too.
		b.Publish(t, realtime.TripStarted{TripID: "t1"})
		for _, c := range all(passenger, late, driver, phone, lateDriver) {
			realtimetest.Expect(t, c, realtime.EventTripStarted)
		}
		// A position from the bus finds the trip on any node.
		b.Publish(t, realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{DriverID: "d1"}})
		for _, c := range all(passenger, late, admin) {
			require.Equal(t, "t1", realtimetest.Expect(t, c, realtime.EventTripDriverLocation).TripID)
		}
		realtimetest.ExpectNone(t, unrelated, realtime.EventTripDriverLocation)

		b.Publish(t, realtime.TripCompleted{TripID: "t1", Currency: "CUP"})
		for _, c := range all(passenger, late, driver, phone, lateDriver, admin) {
			realtimetest.Expect(t, c, realtime.EventTripCompleted)
		}
		after := a.Passenger(t, "p1")
		for n, d := range all(driver, phone, lateDriver, a.Driver(t, "d1"), b.Driver(t, "d1")) {
			requireFollows(t, d, "", float64(10+n), nil, passenger, late, after, unrelated, admin)
		}
	})
}

func TestCluster_DriverChanges(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 2, withoutLookup)
		a, b := nodes[0], nodes[1]
		first, second, passenger := b.Driver(t, "d1"), a.Driver(t, "d2"), b.Passenger(t, "p1")
		a.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		requireFollows(t, first, "t1", 1, all(passenger))
		b.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d2"})
		requireFollows(t, first, "", 2, nil, passenger)
		requireFollows(t, second, "t1", 3, all(passenger))
		requireFollows(t, a.Driver(t, "d1"), "", 4, nil, passenger)
		a.Publish(t, realtime.AssignmentExpired{TripID: "t1", AssignmentID: "as1", DriverID: "d2"})
		requireFollows(t, second, "", 5, nil, passenger)
		requireFollows(t, b.Driver(t, "d2"), "", 6, nil, passenger)
	})
}

// holdingAdapter holds some messages back until they are released: by default those
// about the nodes' own state.
type holdingAdapter struct {
	realtime.Adapter
	mu   sync.Mutex // guards the fields below
	hold bool
	some func(m realtime.ClusterMessage) bool
	held []realtime.ClusterMessage
}

func (h *holdingAdapter) Publish(ctx context.Context, m realtime.ClusterMessage) error {
	if err := ctx.Err(); err != nil {
		return err // as one does that talks to a network
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	some := h.some
	if some == nil {
		some = func(m realtime.ClusterMessage) bool { return m.Op == realtime.OpState }
	}
	if h.hold && some(m) {
		h.held = append(h.held, m)
		return nil
	}
	return h.Adapter.Publish(ctx, m)
}

// begin holds messages back from now on; those of the time before are dropped.
func (h *holdingAdapter) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hold, h.held = true, nil
}

// only says which messages begin holds back.
func (h *holdingAdapter) only(some func(m realtime.ClusterMessage) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.some = some
}

// drop ends begin without its messages.
func (h *holdingAdapter) drop() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hold, h.held = false, nil
}

func (h *holdingAdapter) release(t *testing.T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hold = false
	for _, m := range h.held {
		require.NoError(t, h.Adapter.Publish(t.Context(), m))
	}
}

// Messages of different namespaces may overtake each other: a socket that
// connects between them ends up in the right rooms all the same.
func TestCluster_SocketConnectsBetweenTwoMessages(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		slow := &holdingAdapter{Adapter: hub.Node()}
		a := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = slow })
		b := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })

		slow.begin()
		a.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		synctest.Wait()
		driver, passenger := b.Driver(t, "d1"), b.Passenger(t, "p1")
		slow.release(t)
		synctest.Wait()
		requireFollows(t, driver, "t1", 1, all(passenger))

		slow.begin()
		a.Publish(t, realtime.TripCompleted{TripID: "t1", Currency: "CUP"})
		synctest.Wait()
		late, watcher := b.Driver(t, "d1"), b.Passenger(t, "p1")
		slow.release(t)
		synctest.Wait()
		requireFollows(t, late, "", 2, nil, passenger, watcher)
	})
}

// An adapter keeps the order of a namespace only. Whoever enters the room of a trip does
// so before what is emitted to it next, and whoever leaves it after what was emitted,
// however late the other namespaces are.
func TestTripRooms_InTheOrderOfTheirNamespace(t *testing.T) {
	t.Parallel()
	for _, name := range []string{realtime.NamespaceDrivers, realtime.NamespacePassengers, realtime.NamespaceAdmin} {
		t.Run(name[1:], func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				hub := realtimetest.NewHub()
				slow := &holdingAdapter{Adapter: hub.Node()}
				a := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = slow })
				b := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
				clients := map[string]*realtimetest.Client{
					realtime.NamespaceDrivers: b.Driver(t, "d1"), realtime.NamespacePassengers: b.Passenger(t, "p1"), realtime.NamespaceAdmin: b.Admin(t, "a1"),
				}
				_, err := realtimetest.Call(t.Context(), clients[realtime.NamespaceAdmin], realtime.AdminTripJoin, realtime.TripRef{TripID: "t1"})
				require.NoError(t, err)
				room := a.Realtime.Of(name).To(realtime.TripRoom("t1"))

				slow.only(func(m realtime.ClusterMessage) bool { return m.Namespace != name })
				slow.begin()
				a.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
				require.NoError(t, wireNote.Emit(room, "first"))
				synctest.Wait()
				require.Equal(t, "first", realtimetest.Expect(t, clients[name], wireNote))
				slow.release(t)
				synctest.Wait()

				slow.only(func(m realtime.ClusterMessage) bool { return m.Namespace == name })
				slow.begin()
				require.NoError(t, wireNote.Emit(room, "last"))
				a.Publish(t, realtime.TripCompleted{TripID: "t1", Currency: "CUP"})
				synctest.Wait()
				slow.release(t)
				synctest.Wait()
				require.Equal(t, "last", realtimetest.Expect(t, clients[name], wireNote))
				for ns := range clients {
					require.Zero(t, inTripRoom(t, b.Realtime.Of(ns), "t1"), ns)
				}
			})
		})
	}
}

func TestCluster_HandshakeRevokedByAnotherNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 2)
		a, b := nodes[0], nodes[1]
		token := b.Login("d1", realtime.UserDriver)
		entered, release := b.Trips.Block() // after the session has been read
		refused := make(chan error)
		go func() {
			_, err := b.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token))
			refused <- err
		}()
		<-entered
		a.Publish(t, realtime.SessionRevoked{SessionID: realtimetest.SessionID("d1"), UserID: "d1"})
		synctest.Wait()
		release()
		var refusal *realtimetest.ConnectError
		require.ErrorAs(t, <-refused, &refusal)
		require.Equal(t, realtime.CodeInvalidSession, refusal.Code)
	})
}

// consumerGroupBus is a bus that the nodes share. It delivers each event to one of them,
// and all events of a key to the same one.
type consumerGroupBus struct {
	*realtimetest.Bus
	mu       sync.Mutex // guards the fields below
	handlers []func(context.Context, realtime.Envelope) error
}

func (b *consumerGroupBus) Subscribe(handler func(context.Context, realtime.Envelope) error) (func(), error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.handlers)
	b.handlers = append(b.handlers, handler)
	return b.Bus.Subscribe(func(ctx context.Context, e realtime.Envelope) error {
		key := fnv.New32a()
		_, _ = key.Write([]byte(e.Key))
		b.mu.Lock()
		mine := int(key.Sum32())%len(b.handlers) == n
		b.mu.Unlock()
		if !mine {
			return nil
		}
		return handler(ctx, e)
	})
}

func TestCluster_SharedBus(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		bus := &consumerGroupBus{Bus: realtimetest.NewBus()}
		nodes := realtimetest.NewCluster(t, 2, func(o *realtime.Options) { o.Bus = bus })
		passengers := map[string]*realtimetest.Client{}
		admin := nodes[1].Admin(t, "a1")
		trips := []string{"t1", "t2", "t3", "t4", "t5", "t6"}
		for n, trip := range trips {
			passengers[trip] = nodes[n%2].Passenger(t, "of-"+trip)
		}
		for n, trip := range trips {
			for _, e := range []realtime.DomainEvent{
				realtime.TripRequested{TripID: trip, PassengerID: "of-" + trip},
				realtime.TripAssigningStarted{TripID: trip},
				realtime.NoDriversFound{TripID: trip},
				realtime.TripCancelled{TripID: trip, CancelledBy: realtime.CancelledBySystem},
			} {
				require.NoError(t, nodes[n/2%2].Realtime.Publish(t.Context(), e))
			}
		}
		synctest.Wait()
		want := []string{"trip:requested", "trip:assigning_started", "trip:no_drivers_found", "trip:cancelled"}
		for trip, p := range passengers {
			var got []string
			for _, r := range p.Received()[1:] {
				got = append(got, r.Event)
			}
			require.Equal(t, want, got, trip)
		}
		require.Len(t, admin.Received(), 1+len(trips)*len(want), "once each")
	})
}

// The node that receives a driver's event over a socket emits it once, whether the bus delivers
// to one node or to all.
func TestCluster_InboundEvents(t *testing.T) {
	t.Parallel()
	for _, fanOut := range []bool{false, true} {
		t.Run(map[bool]string{false: "one hears the bus", true: "all hear the bus"}[fanOut], func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				nodes := realtimetest.NewCluster(t, 2, func(o *realtime.Options) { o.Cluster.BusFanOut = fanOut })
				driver, phone, admin := nodes[0].Driver(t, "d1"), nodes[1].Driver(t, "d1"), nodes[1].Admin(t, "a1")
				_, err := realtimetest.Call(t.Context(), driver, realtime.DriverStatusUpdate, realtime.StatusUpdate{IsOnline: new(true)})
				require.NoError(t, err)
				move(t, driver, 1)
				_, err = realtimetest.Call(t.Context(), driver, realtime.DriverTripSet, realtime.SetTrip{CurrentTripID: new("t1")})
				require.NoError(t, err)
				for _, c := range all(driver, phone) {
					realtimetest.Expect(t, c, realtime.EventDriverAvailability)
					realtimetest.Expect(t, c, realtime.EventDriverLocation)
					realtimetest.Expect(t, c, realtime.EventDriverTrip)
					realtimetest.Expect(t, c, realtime.EventDriverAvailability)
					realtimetest.ExpectNone(t, c)
				}
				realtimetest.Expect(t, admin, realtime.EventAdminDriverAvailability)
				realtimetest.Expect(t, admin, realtime.EventAdminDriverAvailability)
				realtimetest.Expect(t, admin, realtime.EventAdminDriverLocation)
				realtimetest.Expect(t, admin, realtime.EventAdminDriverTrip)
				realtimetest.ExpectNone(t, admin)
				require.Empty(t, nodes[0].Bus.Published(), "it does not travel over the bus")
				require.Empty(t, nodes[1].Bus.Published())
			})
		})
	}
}

// A node drops a message that it does not understand, and reports it.
func TestNode_DropsWhatItDoesNotUnderstand(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var mu sync.Mutex
		var dropped []realtime.ClusterDroppedInfo
		hub := realtimetest.NewHub()
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Cluster.Adapter = hub.Node()
			o.Trace = &realtime.Trace{ClusterDropped: func(_ context.Context, d realtime.ClusterDroppedInfo) {
				mu.Lock()
				defer mu.Unlock()
				dropped = append(dropped, d)
			}}
		})
		srv.Realtime.Admin().OnServerEmit("realtime:trip", func(realtime.Raw) {}) // a name like any other
		driver := srv.Driver(t, "d1")
		other := hub.Node()
		require.NoError(t, other.Start(t.Context(), idleNode{}))
		defer func() { require.NoError(t, other.Close(t.Context())) }()
		event := func(args ...string) *realtime.Raw {
			r := &realtime.Raw{}
			for _, a := range args {
				r.Args = append(r.Args, []byte(a))
			}
			return r
		}
		state := func(text string) *realtime.NodeState {
			s := &realtime.NodeState{}
			require.NoError(t, s.UnmarshalJSON([]byte(text)))
			return s
		}
		const v = realtime.ClusterVersion
		d1 := []string{"driver:d1"}
		send := func(request bool, m realtime.ClusterMessage) {
			if request {
				require.NoError(t, other.Request(t.Context(), m, func(a realtime.ClusterAnswer) { t.Errorf("answered %+v", a) }))
			} else {
				require.NoError(t, other.Publish(t.Context(), m))
			}
			synctest.Wait()
		}
		for _, c := range []struct {
			request bool
			m       realtime.ClusterMessage
			want    realtime.DropReason // empty: not dropped
		}{
			{false, realtime.ClusterMessage{Op: realtime.OpBroadcast, Namespace: "/drivers", Rooms: d1, Event: event(`"x"`)}, realtime.DropVersion},
			{false, realtime.ClusterMessage{Version: v + 1, Op: realtime.OpBroadcast, Namespace: "/drivers", Rooms: d1, Event: event(`"x"`)}, realtime.DropVersion},
			{false, realtime.ClusterMessage{Version: v + 1, Op: realtime.OpDisconnect, Namespace: "/drivers", All: true}, realtime.DropVersion},
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpBroadcast, Namespace: "/unknown", Rooms: d1, Event: event(`"x"`)}, realtime.DropUnknownNamespace},
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpBroadcast, Namespace: "/drivers", Rooms: d1}, realtime.DropMalformed},
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpBroadcast, Namespace: "/drivers", Rooms: d1, Event: event(`7`)}, realtime.DropMalformed},
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpJoin, Namespace: "/drivers", Rooms: d1, Targets: []string{""}}, realtime.DropMalformed},
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpServerEmit, Namespace: "/drivers"}, realtime.DropMalformed},
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpRevoke, Namespace: "/drivers"}, realtime.DropMalformed},
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpRevoke, Namespace: "/drivers", Rooms: d1, Revoke: &realtime.Revocation{}}, realtime.DropMalformed},
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpState, Namespace: "/admin"}, realtime.DropMalformed},
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpState, Namespace: "/admin", State: state(`{}`)}, realtime.DropMalformed},
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpState, Namespace: "/admin", State: state(`{"trip":{"kind":5}}`)}, realtime.DropMalformed},
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpState, Namespace: "/admin", State: state(`{"known":{}}`)}, realtime.DropMalformed},
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpState, Namespace: "/admin", State: state(`{"known":{"tripId":"t1","assigns":[{"at":1,"driverId":"a\u0000"}]}}`)}, realtime.DropMalformed},
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpState, Namespace: "/admin", State: state(`{"trip":{"kind":2,"tripId":"t1","driverId":"a\u0000"}}`)}, realtime.DropMalformed},
			{false, realtime.ClusterMessage{Version: v, Op: "of a later version", Namespace: "/drivers"}, realtime.DropUnknownOp},
			{true, realtime.ClusterMessage{Version: v + 1, Op: realtime.OpFetchSockets, Namespace: "/drivers", All: true}, realtime.DropVersion},
			{true, realtime.ClusterMessage{Version: v, Op: realtime.OpFetchSockets, Namespace: "/unknown", All: true}, realtime.DropUnknownNamespace},
			{true, realtime.ClusterMessage{Version: v, Op: realtime.OpAsk, Namespace: "/drivers", Rooms: d1}, realtime.DropMalformed},
			{true, realtime.ClusterMessage{Version: v, Op: "of a later version", Namespace: "/drivers"}, realtime.DropUnknownOp},
			// Without rooms it selects no socket.
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpBroadcast, Namespace: "/drivers", Event: event(`"to nobody"`)}, ""},
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpDisconnect, Namespace: "/drivers"}, ""},
			{true, realtime.ClusterMessage{Version: v, Op: realtime.OpFetchSockets, Namespace: "/drivers"}, ""},
			// An event name that once carried the nodes' state is now an event of the host.
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpServerEmit, Namespace: "/admin", Event: event(`"realtime:trip"`, `{"ended":true}`)}, ""},
			{false, realtime.ClusterMessage{Version: v, Op: realtime.OpBroadcast, Namespace: "/drivers", Rooms: d1, Event: event(`"fine"`)}, ""},
		} {
			dropped = nil
			send(c.request, c.m)
			var want []realtime.ClusterDroppedInfo
			if c.want != "" {
				what := ""
				if c.m.State != nil {
					b, err := json.Marshal(c.m.State)
					require.NoError(t, err)
					what = strings.Trim(strings.Split(string(b), ":")[0], `{}"`)
				}
				want = []realtime.ClusterDroppedInfo{{Op: c.m.Op, Version: c.m.Version, Namespace: c.m.Namespace, State: what, Reason: c.want}}
			}
			require.Equal(t, want, dropped, "%+v", c.m)
		}
		require.NoError(t, hub.Err())
		require.Len(t, driver.Received(), 2, "hello and fine")
	})
}

// idleNode is a node without sockets, which answers no request.
type idleNode struct{}

func (idleNode) Deliver(realtime.ClusterMessage)                                               {}
func (idleNode) HasRoom(string, string) bool                                                   { return false }
func (idleNode) Receiving(error)                                                               {}
func (idleNode) Gap(realtime.Gap)                                                              {}
func (idleNode) PeerJoined(realtime.Peer)                                                      {}
func (idleNode) PeerLost(realtime.Peer, bool)                                                  {}
func (idleNode) OnlyPeers(bool)                                                                {}
func (idleNode) Answer(context.Context, realtime.ClusterMessage, func(realtime.ClusterAnswer)) {}

func TestCluster_NodeCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		far := hub.Node()
		var log logBuffer
		a := realtimetest.NewServer(t, logTo(&log), func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
		b := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = far })
		here, there := a.Driver(t, "d1"), b.Driver(t, "d1")
		realtimetest.Answer(here, whereAreYou, func(string) string { return "here" })
		realtimetest.Answer(there, whereAreYou, func(string) string { return "there" })
		room := a.Realtime.Drivers().To(realtime.DriverRoom("d1"))

		far.Cut()
		sockets, err := room.Sockets(t.Context())
		require.Error(t, err)
		require.Len(t, sockets, 1, "those it knows of")
		answers, err := whereAreYou.AskAll(t.Context(), room, "")
		require.Error(t, err)
		require.Equal(t, []string{"here"}, answers)
		require.NoError(t, wireNote.Emit(room, "news"))
		realtimetest.Expect(t, here, wireNote)
		realtimetest.ExpectNone(t, there)

		far.Heal()
		sockets, err = room.Sockets(t.Context())
		require.NoError(t, err)
		require.Len(t, sockets, 2)
		require.NoError(t, wireNote.Emit(room, "news"))
		realtimetest.Expect(t, there, wireNote)
	})
}

// An event that OnDisconnect emits while the node shuts down reaches the other nodes.
func TestCluster_BroadcastsDuringShutdown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		nodes := realtimetest.NewCluster(t, 2, logTo(&log), func(o *realtime.Options) { o.Cluster.Adapter = &holdingAdapter{Adapter: o.Cluster.Adapter} })
		admin := nodes[1].Admin(t, "a1")
		rt := nodes[0].Realtime
		rt.Drivers().OnDisconnect(func(_ context.Context, s *realtime.Socket, reason realtime.DisconnectReason) {
			time.Sleep(time.Second)
			_ = wireNote.Emit(rt.Admin().To(realtime.AdminAllRoom), s.Identity().UserID+": "+string(reason)) // marshals
		})
		nodes[0].Driver(t, "d1")
		require.NoError(t, rt.Shutdown(t.Context()))
		require.Equal(t, "d1: server shutting down", realtimetest.Expect(t, admin, wireNote))
		require.NotContains(t, log.String(), "adapter failed")
	})
}
