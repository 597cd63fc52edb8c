// Presence: the events that the server publishes when users connect and disconnect.

package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

const grace = 15 * time.Second

// withPresence turns presence on, which is off in tests.
func withPresence(o *realtime.Options) { o.Timeouts.PresenceGrace = 0 }

// presenceReader reads the presence events that the servers have published on their
// buses.
type presenceReader struct {
	servers []*realtimetest.Server
	seen    map[string]bool // ids of envelopes
}

// take returns the events since the last call, as "+" or "-", namespace, user and
// reason.
func (h *presenceReader) take(t *testing.T) (all []string) {
	t.Helper()
	synctest.Wait()
	if h.seen == nil {
		h.seen = map[string]bool{}
	}
	for _, srv := range h.servers {
		for _, env := range srv.Bus.Published() {
			var p realtime.Presence
			switch {
			case h.seen[env.ID]:
				continue
			case env.Name == "presence.connected":
				require.NoError(t, json.Unmarshal(env.Data, &p))
				require.Equal(t, 1, p.Sockets)
				all = append(all, fmt.Sprint("+", p.Namespace, " ", p.UserID))
			case env.Name == "presence.disconnected":
				require.NoError(t, json.Unmarshal(env.Data, &p))
				require.Zero(t, p.Sockets)
				all = append(all, fmt.Sprint("-", p.Namespace, " ", p.UserID, " ", p.Reason))
			}
			if p.UserID != "" {
				require.Equal(t, p.UserID, env.Key)
			}
			h.seen[env.ID] = true
		}
	}
	return all
}

// waitFor waits for d and one tick of the server's clock.
func waitFor(d time.Duration) {
	time.Sleep(d + 100*time.Millisecond)
	synctest.Wait()
}

func TestPresence(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withPresence)
		h := &presenceReader{servers: []*realtimetest.Server{srv}}
		came := time.Now().UTC()
		phone := srv.Driver(t, "d1")
		require.Equal(t, []string{"+/drivers d1"}, h.take(t))
		tablet := srv.Driver(t, "d1", realtimetest.Polling())
		phone.Close()
		waitFor(2 * grace)
		require.Empty(t, h.take(t), "a second device, and one of two that leaves")
		left := time.Now().UTC()
		tablet.Close()
		time.Sleep(grace - time.Millisecond)
		require.Empty(t, h.take(t))
		waitFor(time.Millisecond)
		require.Equal(t, []string{"-/drivers d1 client namespace disconnect"}, h.take(t))
		waitFor(time.Hour)
		require.Empty(t, h.take(t))

		events := srv.Bus.Published()
		require.Len(t, events, 2)
		at := func(when time.Time) string {
			b, err := json.Marshal(when)
			require.NoError(t, err)
			return string(b)
		}
		require.JSONEq(t, `{"userId":"d1","userType":"driver","nsp":"/drivers","sockets":1,"at":`+at(came)+`}`, string(events[0].Data))
		require.JSONEq(t, `{"userId":"d1","userType":"driver","nsp":"/drivers","sockets":0,
			"reason":"client namespace disconnect","at":`+at(left)+`}`, string(events[1].Data))
	})
}

// A phone that changes networks is not published as disconnected, however often it does so.
func TestPresence_BackWithinTheGrace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withPresence, func(o *realtime.Options) { o.Timeouts.PresenceGrace = 5 * time.Second })
		h := &presenceReader{servers: []*realtimetest.Server{srv}}
		phone := srv.Driver(t, "d1")
		require.Equal(t, []string{"+/drivers d1"}, h.take(t))
		for range 10 {
			phone.Close()
			time.Sleep(4 * time.Second)
			phone = srv.Driver(t, "d1")
			waitFor(10 * time.Second)
		}
		require.Empty(t, h.take(t))
		phone.Close()
		waitFor(5 * time.Second)
		require.Len(t, h.take(t), 1)
		srv.Driver(t, "d1")
		require.Equal(t, []string{"+/drivers d1"}, h.take(t), "a user who was published as disconnected is published again")
	})
}

// Each namespace counts for itself, those of the host's too; who has no user is
// not counted.
func TestPresence_OfNamespaces(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withPresence)
		addNamespace(t, srv, "/support", realtime.NamespaceOptions{})
		addNamespace(t, srv, "/news", realtime.NamespaceOptions{Anonymous: true})
		h := &presenceReader{servers: []*realtimetest.Server{srv}}
		phone := srv.Driver(t, "d1")
		token := realtimetest.Token(srv.Login("d1", realtime.UserDriver))
		support, err := phone.Join(t.Context(), "/support", token)
		require.NoError(t, err)
		_, err = phone.Join(t.Context(), "/news")
		require.NoError(t, err)
		srv.Admin(t, "a1")
		require.ElementsMatch(t, []string{"+/drivers d1", "+/support d1", "+/admin a1"}, h.take(t))
		support.Close()
		waitFor(grace)
		require.Equal(t, []string{"-/support d1 client namespace disconnect"}, h.take(t))
		require.True(t, phone.Connected())
	})
}

// No presence is published of a client that the handshake refuses, at whatever check.
func TestPresence_OfTheRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withPresence, func(o *realtime.Options) {
			o.Unlimited, o.Limits.SocketsPerUser, o.Limits.RefuseExtraSockets = false, 1, true
		})
		h := &presenceReader{servers: []*realtimetest.Server{srv}}
		dial := func(token string) error {
			_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token))
			return err
		}
		require.Error(t, dial("bad"))
		require.Error(t, dial(srv.Login("p1", realtime.UserPassenger)))
		srv.Trips.Fail(errors.New("gone"))
		require.Error(t, dial(srv.Login("d1", realtime.UserDriver)), "it had been admitted already")
		srv.Trips.Fail(nil)
		require.Empty(t, h.take(t))
		phone := srv.Driver(t, "d2")
		require.Error(t, dial(srv.Login("d2", realtime.UserDriver)))
		waitFor(grace)
		require.Equal(t, []string{"+/drivers d2"}, h.take(t))
		phone.Close()
		waitFor(grace)
		require.Equal(t, []string{"-/drivers d2 client namespace disconnect"}, h.take(t))
	})
}

// A user whose client disconnects during the handshake does not stay counted as connected.
func TestPresence_OfTheHasty(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withPresence)
		h := &presenceReader{servers: []*realtimetest.Server{srv}}
		srv.Realtime.Drivers().OnConnect(func(_ context.Context, _ *realtime.Socket) error {
			time.Sleep(time.Minute) // the client disconnects before this ends
			return nil
		})
		connect := connectPacket(realtime.NamespaceDrivers, srv.Login("d1", realtime.UserDriver))
		for range 3 {
			conn := openRaw(t, srv)
			conn.send(t, connect)
			require.NoError(t, conn.body.Close())
		}
		waitFor(grace)
		require.Equal(t, []string{"+/drivers d1"}, h.take(t))
		waitFor(time.Minute)
		require.Equal(t, []string{"-/drivers d1 transport close"}, h.take(t))
	})
}

// The presence of a user whose session was revoked is published as any other, with the reason.
func TestPresence_OfTheRevoked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withPresence)
		h := &presenceReader{servers: []*realtimetest.Server{srv}}
		revoked, banned, silent := srv.Driver(t, "d1"), srv.Driver(t, "d2"), srv.Driver(t, "d3")
		require.Len(t, h.take(t), 3)
		publish(t, srv, realtime.SessionRevoked{SessionID: realtimetest.SessionID("d1"), UserID: "d1"})
		require.NoError(t, srv.Realtime.DisconnectUser(t.Context(), "d2", "banned"))
		revoked.Disconnected(t)
		banned.Disconnected(t)
		require.Empty(t, h.take(t))
		waitFor(grace)
		require.ElementsMatch(t, []string{"-/drivers d1 server namespace disconnect", "-/drivers d2 server namespace disconnect"}, h.take(t))
		silent.Stall()
		waitFor(time.Minute + grace)
		require.Equal(t, []string{"-/drivers d3 ping timeout"}, h.take(t))
	})
}

// Presence is published on the bus and is not sent to clients.
func TestPresence_IsNotForClients(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withPresence)
		admin, other := srv.Admin(t, "a1"), srv.Driver(t, "d2")
		driver := srv.Driver(t, "d1")
		synctest.Wait()
		realtimetest.ExpectNone(t, driver)
		driver.Close()
		waitFor(grace)
		realtimetest.ExpectNone(t, admin)
		realtimetest.ExpectNone(t, other)
	})
}

func TestPresence_Off(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Timeouts.PresenceGrace = -1 })
		srv.Driver(t, "d1").Close()
		waitFor(time.Hour)
		require.Empty(t, srv.Bus.Published())
	})
}

// The server tries again when the bus fails. An event that the bus does not accept is logged
// once, does not delay other events, and is published later.
func TestPresence_OnABusThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs, withPresence)
		h := &presenceReader{servers: []*realtimetest.Server{srv}}
		srv.Bus.Fail(errors.New("full"))
		one := srv.Driver(t, "d1")
		time.Sleep(100 * time.Millisecond)
		srv.Bus.Fail(nil)
		time.Sleep(time.Second)
		require.Equal(t, []string{"+/drivers d1"}, h.take(t))
		require.Empty(t, logs.lines(t, "realtime: presence not published"))

		srv.Bus.Fail(errors.New("full"))
		two := srv.Driver(t, "d2")
		time.Sleep(time.Second)
		srv.Bus.Fail(nil)
		srv.Driver(t, "d3")
		time.Sleep(100 * time.Millisecond)
		require.Equal(t, []string{"+/drivers d3"}, h.take(t))
		lines := logs.lines(t, "realtime: presence not published")
		require.Len(t, lines, 1)
		require.Equal(t, "presence.connected", lines[0]["event"])
		require.Equal(t, "full", lines[0]["error"])

		entered, release := srv.Bus.Block()
		srv.Driver(t, "d4")
		<-entered
		require.True(t, one.Connected())
		require.Equal(t, `{"ok":true}`, ackOf(t, two, "driver:location:ping", `{"lat":1,"lng":2}`))
		release()
		time.Sleep(2 * time.Second)
		require.ElementsMatch(t, []string{"+/drivers d2", "+/drivers d4"}, h.take(t))
	})
}

// After the bus was away for long, the events say who is connected, and each user's last event is
// published once.
func TestPresence_AfterTheBusWasAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs, withPresence)
		h := &presenceReader{servers: []*realtimetest.Server{srv}}
		gone, back := srv.Driver(t, "gone"), srv.Driver(t, "back")
		srv.Passenger(t, "stays")
		time.Sleep(time.Second)
		require.Len(t, h.take(t), 3)
		srv.Bus.Fail(errors.New("away"))
		srv.Driver(t, "came")
		srv.Driver(t, "came and left").Close()
		gone.Close()
		back.Close()
		waitFor(2 * grace)
		srv.Driver(t, "back")
		time.Sleep(10 * time.Minute)
		require.Empty(t, h.take(t))
		require.Len(t, logs.lines(t, "realtime: presence not published"), 4, "one for each user")
		srv.Bus.Fail(nil)
		time.Sleep(time.Minute)
		require.ElementsMatch(t, []string{
			"+/drivers came", "-/drivers came and left client namespace disconnect", "-/drivers gone client namespace disconnect", "+/drivers back",
		}, h.take(t))
		time.Sleep(30 * time.Minute)
		require.Empty(t, h.take(t))
		srv.Bus.Fail(errors.New("away again"))
		srv.Driver(t, "last")
		time.Sleep(time.Minute)
		require.NoError(t, srv.Realtime.Shutdown(t.Context()))
	})
}

// Shutdown does not publish users as disconnected who are about to connect to another node. It
// publishes the events that were queued before.
func TestPresence_AtShutdown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withPresence)
		h := &presenceReader{servers: []*realtimetest.Server{srv}}
		srv.Driver(t, "d1").Close()
		waitFor(grace - time.Second)
		srv.Driver(t, "d2").Close() // within their grace time when the server ends
		srv.Driver(t, "d3")
		require.Len(t, h.take(t), 3)
		entered, release := srv.Bus.Block()
		waitFor(time.Second)
		<-entered // the presence of d1 is being published
		for i := range 5 {
			srv.Driver(t, fmt.Sprint("late", i))
		}
		done := make(chan error)
		go func() { done <- srv.Realtime.Shutdown(t.Context()) }()
		synctest.Wait()
		release()
		require.NoError(t, <-done)
		waitFor(time.Minute)
		require.ElementsMatch(t, []string{
			"-/drivers d1 client namespace disconnect",
			"+/drivers late0", "+/drivers late1", "+/drivers late2", "+/drivers late3", "+/drivers late4",
		}, h.take(t))
	})
}

// A bus that hangs keeps Shutdown no longer than its ctx, and Shutdown's error alone says what was not
// published.
func TestPresence_HoldsUpNoShutdown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs, withPresence, func(o *realtime.Options) { o.Timeouts.Repo = time.Hour })
		entered, release := srv.Bus.Block()
		defer release()
		srv.Driver(t, "d1")
		<-entered
		srv.Driver(t, "d2")
		srv.Driver(t, "d3")
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		start := time.Now()
		require.ErrorContains(t, srv.Realtime.Shutdown(ctx), "presence not published")
		require.LessOrEqual(t, time.Since(start), 4*time.Second)
		synctest.Wait()
		require.Empty(t, logs.lines(t, "realtime: presence not published"))
	})
}

// With several nodes a user is disconnected when no node has had them for the grace time.
func TestPresence_AcrossNodes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 2, withPresence)
		h := &presenceReader{servers: nodes}
		first := nodes[0].Driver(t, "d1")
		require.Equal(t, []string{"+/drivers d1"}, h.take(t))
		first.Close()
		time.Sleep(5 * time.Second)
		second := nodes[1].Driver(t, "d1")
		require.Equal(t, []string{"+/drivers d1"}, h.take(t), "the other node's own")
		waitFor(time.Minute)
		require.Empty(t, h.take(t), "the user is connected")
		second.Close()
		waitFor(grace)
		require.Equal(t, []string{"-/drivers d1 client namespace disconnect"}, h.take(t))
	})
}

// However a phone moves between two nodes, the last event on the bus is correct.
func TestPresence_OfAFlappingPhone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 2, withPresence)
		h := &presenceReader{servers: nodes}
		nodes[0].Driver(t, "d1").Close()
		time.Sleep(time.Second)
		nodes[1].Driver(t, "d1").Close()
		require.Len(t, h.take(t), 2)
		waitFor(grace - time.Second)
		require.Equal(t, []string{"-/drivers d1 client namespace disconnect"}, h.take(t), "by the first node")
		back := nodes[1].Driver(t, "d1") // within the grace time of the second
		require.Equal(t, []string{"+/drivers d1"}, h.take(t))
		waitFor(time.Minute)
		require.Empty(t, h.take(t))
		back.Close()
		waitFor(grace)
		require.Len(t, h.take(t), 1, "once")
		waitFor(time.Minute)
		require.Empty(t, h.take(t))
	})
}

// slowBus is a bus whose events of one name take their time.
type slowBus struct {
	*realtimetest.Bus
	name string
	hold chan struct{}
}

func (b slowBus) Publish(ctx context.Context, e realtime.Envelope) error {
	if e.Name == b.name {
		<-b.hold
	}
	return b.Bus.Publish(ctx, e)
}

// lateBus is a bus that fails for events of one name, and accepts them later all the same.
type lateBus struct {
	*realtimetest.Bus
	name string
	late chan realtime.Envelope
}

func (b lateBus) Publish(ctx context.Context, e realtime.Envelope) error {
	if e.Name == b.name {
		select {
		case b.late <- e:
		default:
		}
		return errors.New("no answer")
	}
	return b.Bus.Publish(ctx, e)
}

// An event whose publishing failed may be on the bus all the same, and after the user has
// connected to another node. That node then publishes them as connected again.
func TestPresence_AcceptedAfterItFailed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		bus, late := realtimetest.NewBus(), make(chan realtime.Envelope, 1)
		nodes := realtimetest.NewCluster(t, 2, withPresence, func(o *realtime.Options) { o.Bus = lateBus{bus, "presence.disconnected", late} })
		nodes[0].Driver(t, "d1").Close()
		time.Sleep(grace + 200*time.Millisecond)
		nodes[1].Driver(t, "d1")
		synctest.Wait()
		require.NoError(t, bus.Publish(t.Context(), <-late))
		time.Sleep(time.Minute)
		published := bus.Published()
		require.Equal(t, "presence.connected", published[len(published)-1].Name)
		require.Len(t, published, 4)
	})
}

// If a user connects to another node while the first node publishes that they are
// disconnected, the other node publishes them as connected after that.
func TestPresence_Contradicted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		bus, hold := realtimetest.NewBus(), make(chan struct{})
		nodes := realtimetest.NewCluster(t, 2, withPresence, func(o *realtime.Options) {
			o.Bus, o.Timeouts.Repo = slowBus{bus, "presence.disconnected", hold}, time.Hour
		})
		names := func() (all []string) {
			synctest.Wait()
			for _, e := range bus.Published() {
				all = append(all, e.Name)
			}
			return all
		}
		nodes[0].Driver(t, "d1").Close()
		waitFor(grace)
		nodes[1].Driver(t, "d1")
		require.Equal(t, []string{"presence.connected", "presence.connected"}, names())
		close(hold)
		require.Equal(t, []string{"presence.connected", "presence.connected", "presence.disconnected", "presence.connected"}, names())
	})
}

// A handshake in progress does not count as a connected user: it may fail.
func TestPresence_AndAHandshakeElsewhere(t *testing.T) {
	for name, err := range map[string]error{"passes": nil, "fails": errors.New("gone")} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				nodes := realtimetest.NewCluster(t, 2, withPresence, func(o *realtime.Options) { o.Timeouts.Repo = time.Hour })
				h := &presenceReader{servers: nodes}
				nodes[0].Driver(t, "d1").Close()
				require.Len(t, h.take(t), 1)
				entered, release := nodes[0].Trips.Block() // in its rooms already
				conn := openRaw(t, nodes[1])
				require.Empty(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, nodes[0].Login("d1", realtime.UserDriver))))
				<-entered
				waitFor(grace)
				require.Equal(t, []string{"-/drivers d1 client namespace disconnect"}, h.take(t))
				nodes[0].Trips.Fail(err)
				release()
				if err == nil {
					require.Equal(t, []string{"+/drivers d1"}, h.take(t))
				} else {
					require.Empty(t, h.take(t))
				}
			})
		})
	}
}

// The users of a node that does not answer count as disconnected: an event that comes twice is
// better than one that never comes.
func TestPresence_WithANodeDown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		far := hub.Node()
		logs, withLogs := recordLogs(t)
		a := realtimetest.NewServer(t, withLogs, withPresence, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
		b := realtimetest.NewServer(t, withPresence, func(o *realtime.Options) { o.Cluster.Adapter = far })
		h := &presenceReader{servers: []*realtimetest.Server{a, b}}
		here := a.Driver(t, "d1")
		b.Driver(t, "d1")
		require.Len(t, h.take(t), 2)
		far.Cut()
		here.Close()
		waitFor(grace)
		require.Equal(t, []string{"-/drivers d1 client namespace disconnect"}, h.take(t))
		require.Len(t, logs.lines(t, "realtime: presence could not query the other nodes"), 1)
		far.Heal()
		soon()
		require.Equal(t, []string{"+/drivers d1"}, h.take(t), "the other node, which has the user, corrects it")
		a.Driver(t, "d1")
		require.Equal(t, []string{"+/drivers d1"}, h.take(t))
	})
}

// For many users who disconnect at once there is one request to the other nodes.
func TestPresence_AsksForManyAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var asked atomic.Int64
		nodes := realtimetest.NewCluster(t, 2, withPresence, func(o *realtime.Options) { o.Cluster.Adapter = countingAdapter{o.Cluster.Adapter, &asked} })
		h := &presenceReader{servers: nodes}
		var clients []*realtimetest.Client
		for i := range 100 {
			clients = append(clients, nodes[0].Driver(t, fmt.Sprint("d", i)))
		}
		nodes[1].Driver(t, "d7")
		require.Len(t, h.take(t), 101)
		for _, c := range clients {
			c.Close()
		}
		waitFor(grace)
		require.Len(t, h.take(t), 99)
		require.Less(t, asked.Load(), int64(10))
	})
}

// countingAdapter counts requests.
type countingAdapter struct {
	realtime.Adapter
	n *atomic.Int64
}

func (c countingAdapter) Request(ctx context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) error {
	c.n.Add(1)
	return c.Adapter.Request(ctx, m, answer)
}

// A host marks a driver offline when they have been disconnected for the grace time.
func TestPresence_HostMarksDriversOffline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withPresence)
		online := true
		cancel, err := srv.Bus.Subscribe(func(_ context.Context, e realtime.Envelope) error {
			if e.Name != (realtime.PresenceDisconnected{}).EventName() {
				return nil
			}
			var left realtime.PresenceDisconnected
			if err := json.Unmarshal(e.Data, &left); err != nil {
				return err
			}
			if left.Namespace == realtime.NamespaceDrivers {
				online = false // of left.UserID
			}
			return nil
		})
		require.NoError(t, err)
		defer cancel()
		srv.Driver(t, "d1").Close()
		waitFor(grace)
		require.False(t, online)
	})
}
