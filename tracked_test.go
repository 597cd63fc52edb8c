// Tracked events of a host: receipts by ack and heartbeat, on one node and several.

package realtime_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

var recall = realtime.NewTracked[string]("vehicle:recall")

// got is what a client receives of recall.
var got = realtime.NewEvent[string]("vehicle:recall")

func socketsOf(receipts []realtime.Receipt) (ids []string) {
	for _, r := range receipts {
		ids = append(ids, r.SocketID)
	}
	return ids
}

func TestTracked_Send(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		phone, polling, silent, other := srv.Driver(t, "d1"), srv.Driver(t, "d1", realtimetest.Polling()), srv.Driver(t, "d1"), srv.Driver(t, "d2")
		silent.Stall()
		receipts, err := recall.Send(srv.Realtime.Drivers().To(realtime.DriverRoom("d1")), "v1")
		require.NoError(t, err)
		require.Equal(t, 3, receipts.Sockets())
		first, err := receipts.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, "d1", first.UserID)
		require.Equal(t, realtime.ReceivedByHeartbeat, first.By)
		for _, c := range []*realtimetest.Client{phone, polling} {
			require.Equal(t, "v1", realtimetest.Expect(t, c, got))
		}
		realtimetest.ExpectNone(t, other, got)
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		two := slices.Collect(receipts.All(ctx))
		require.ElementsMatch(t, []string{phone.ID(), polling.ID()}, socketsOf(two))
		silent.Resume()
		all := slices.Collect(receipts.All(t.Context())) // ends, because all have received it
		require.Equal(t, silent.ID(), all[2].SocketID)
		require.InDelta(t, 2, all[2].After.Seconds(), 0.1)
		require.Len(t, all, 3)
		realtimetest.ExpectNone(t, phone, got)
	})
}

func TestTracked_NotReceived(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Compat.AllowEIO3 = true })
		to := srv.Realtime.Drivers().To(realtime.DriverRoom("d1"))
		nobody, err := recall.Send(to, "v1")
		require.NoError(t, err)
		_, err = nobody.Wait(t.Context())
		require.ErrorIs(t, err, realtime.ErrNotReceived)

		// A device that closes before it has received the event.
		d := srv.Driver(t, "d1")
		d.Stall()
		receipts, err := recall.Send(to, "v1")
		require.NoError(t, err)
		time.Sleep(time.Second)
		d.Drop()
		_, err = receipts.Wait(t.Context())
		require.ErrorIs(t, err, realtime.ErrNotReceived)
		require.NotErrorIs(t, err, context.DeadlineExceeded)

		// ctx ends.
		old := dialOldDriver(t, srv)
		receipts, err = recall.Send(to, "v1")
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = receipts.Wait(ctx)
		require.ErrorIs(t, err, realtime.ErrNotReceived)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		// An ack of an old client, and the end of Timeouts.Ack.
		packet := old.poll()
		_, id, _ := strings.Cut(packet, ":42/drivers,")
		id, _, _ = strings.Cut(id, "[")
		old.send("43/drivers," + id + "[]")
		one, err := receipts.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, realtime.ReceivedByAck, one.By)
		receipts, err = recall.Send(to, "v2")
		require.NoError(t, err)
		began := time.Now()
		require.Empty(t, slices.Collect(receipts.All(t.Context())))
		require.InDelta(t, 30, time.Since(began).Seconds(), 1)
	})
}

func TestTracked_Errors(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		var s *realtime.Socket
		srv.Realtime.Drivers().OnConnect(func(_ context.Context, connected *realtime.Socket) error { s = connected; return nil })
		d := srv.Driver(t, "d1")
		synctest.Wait()
		receipts, err := recall.Send(s, "v1")
		require.NoError(t, err)
		one, err := receipts.Wait(t.Context())
		require.NoError(t, err)
		require.Equal(t, d.ID(), one.SocketID)
		d.Close()
		synctest.Wait()
		_, err = recall.Send(s, "v1")
		require.ErrorIs(t, err, realtime.ErrClosed)
		_, err = recall.Send(&realtime.Socket{}, "v1")
		require.ErrorIs(t, err, realtime.ErrClosed)
		_, err = recall.Send(srv.Realtime.Drivers().All(), strings.Repeat("x", 5<<20))
		require.ErrorContains(t, err, "OutboxBytes")
		_, err = (realtime.Tracked[int]{}).Send(s, 1)
		require.ErrorContains(t, err, "NewEvent")
		require.Panics(t, func() { _, _ = recall.Send(nil, "v1") })
		require.Panics(t, func() { _, _ = recall.Send((*realtime.Socket)(nil), "v1") })
		require.Panics(t, func() { realtime.NewTracked[int]("connect") })
		receipts, err = recall.Send(realtime.Broadcast{}, "v1")
		require.NoError(t, err)
		require.Empty(t, slices.Collect(receipts.All(t.Context())))
	})
}

// Sockets of other nodes give receipts too; the sequence then ends with the time.
func TestTracked_Cluster(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 3)
		here, there, silent := nodes[0].Driver(t, "d1"), nodes[1].Driver(t, "d1"), nodes[2].Driver(t, "d1")
		out := nodes[1].Driver(t, "d2")
		silent.Stall()
		synctest.Wait()
		receipts, err := recall.Send(nodes[0].Realtime.Drivers().All().Except(realtime.DriverRoom("d2")), "v1")
		require.NoError(t, err)
		time.Sleep(5 * time.Second)
		silent.Resume()
		began := time.Now()
		all := slices.Collect(receipts.All(t.Context()))
		require.ElementsMatch(t, []string{here.ID(), there.ID(), silent.ID()}, socketsOf(all))
		require.Equal(t, "d1", all[2].UserID)
		require.InDelta(t, 25, time.Since(began).Seconds(), 1)
		for _, c := range []*realtimetest.Client{here, there, silent} {
			require.Equal(t, "v1", realtimetest.Expect(t, c, got))
			realtimetest.ExpectNone(t, c, got)
		}
		realtimetest.ExpectNone(t, out, got)
		receipts, err = recall.Send(nodes[0].Realtime.Drivers().All(), "v2")
		require.NoError(t, err)
		go nodes[0].Close()
		time.Sleep(time.Minute)
		_ = slices.Collect(receipts.All(context.Background())) // the server has ended
	})
}

func TestTracked_HostileStates(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		dropped := make(chan realtime.DropReason, 100)
		c := newOfferCluster(t, 1, func(o *realtime.Options) {
			o.Trace = &realtime.Trace{ClusterDropped: func(_ context.Context, i realtime.ClusterDroppedInfo) { dropped <- i.Reason }}
		})
		phone := c.nodes[0].Driver(t, "d1")
		other := c.hub.Node()
		require.NoError(t, other.Start(t.Context(), idleNode{}))
		defer func() { require.NoError(t, other.Close(t.Context())) }()
		send := func(state string) int {
			s := &realtime.NodeState{}
			require.NoError(t, s.UnmarshalJSON([]byte(state)), state)
			require.NoError(t, other.Publish(t.Context(), realtime.ClusterMessage{
				Version: realtime.ClusterVersion, Op: realtime.OpState, Namespace: "/drivers", State: s,
			}))
			synctest.Wait()
			n := len(dropped)
			for len(dropped) > 0 {
				<-dropped
			}
			return n
		}
		const valid = `{"tracked":{"id":"x","node":"n","event":"vehicle:recall","arg":"v1","all":true,"leftMs":9223372036854775807}}`
		for from, to := range map[string]string{
			`"x"`: `""`, `"n"`: `""`, `"vehicle:recall"`: `"connect"`, `:9223372036854775807`: `:0`,
		} {
			require.Equal(t, 1, send(strings.Replace(valid, from, to, 1)), from)
		}
		require.Zero(t, send(strings.Replace(valid, `"v1"`, `"`+strings.Repeat("x", 5<<20)+`"`, 1)), "it is logged, and not sent")
		for _, bad := range []string{`{"id":"x","for":"n","socket":"","by":"ack"}`, `{"id":"x","for":"n","socket":"s","by":"magic"}`, `{"socket":"s","by":"ack"}`} {
			require.Equal(t, 1, send(`{"trackedBy":`+bad+`}`), bad)
		}
		require.Zero(t, send(`{"trackedBy":{"id":"x","for":"n","socket":"s","by":"ack"}}`))
		realtimetest.ExpectNone(t, phone, got)
		phone.Stall()
		require.Zero(t, send(valid))
		require.Zero(t, send(valid))
		phone.Resume()
		require.Equal(t, "v1", realtimetest.Expect(t, phone, got))
		realtimetest.ExpectNone(t, phone, got)
	})
}

// An event of another node is awaited until the sockets of this node have received it or closed, and sent as any other
// where too many are.
func TestTracked_TooManyOnAnotherNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		const line = `level=WARN msg="realtime: event sent without receipts: those of too many are awaited" namespace=/drivers event=vehicle:recall`
		nodes := realtimetest.NewCluster(t, 2, logTo(&log))
		silent, phone := nodes[1].Driver(t, "d1"), nodes[1].Driver(t, "d2")
		silent.Stall()
		synctest.Wait()
		realtime.LimitTracked(nodes[1].Realtime, 2)
		send := func(driver string) *realtime.Receipts {
			t.Helper()
			receipts, err := recall.Send(nodes[0].Realtime.Drivers().To(realtime.DriverRoom(driver)), "to "+driver)
			require.NoError(t, err)
			synctest.Wait()
			return receipts
		}
		send("d1")
		require.Equal(t, 1, realtime.TrackedEvents(nodes[1].Realtime))
		for range 5 {
			_, err := send("d2").Wait(t.Context())
			require.NoError(t, err)
			require.Equal(t, "to d2", realtimetest.Expect(t, phone, got))
			require.Equal(t, 1, realtime.TrackedEvents(nodes[1].Realtime), "phone has received it")
		}
		send("d1")
		require.NotContains(t, log.String(), line)
		plain := send("d2")
		require.Equal(t, "to d2", realtimetest.Expect(t, phone, got))
		realtimetest.ExpectNone(t, phone, got)
		require.Contains(t, log.String(), line)
		require.Empty(t, slices.Collect(plain.All(t.Context())))
		silent.Drop()
		synctest.Wait()
		require.Zero(t, realtime.TrackedEvents(nodes[1].Realtime))
	})
}

// A node of another system gets the event as any other, and each client of this library's nodes gets it once.
func TestTracked_NodesOfAnotherSystem(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 3)
		other := otherSystem{got: make(chan realtime.ClusterMessage, 8)}
		link := c.hub.Node()
		require.NoError(t, link.Start(t.Context(), other))
		defer func() { require.NoError(t, link.Close(t.Context())) }()
		var clients []*realtimetest.Client
		for _, n := range c.nodes {
			clients = append(clients, n.Driver(t, "d1"), n.Driver(t, "d2"))
		}
		out, passenger := c.nodes[1].Driver(t, "d3"), c.nodes[1].Passenger(t, "p1")
		synctest.Wait()
		for len(other.got) > 0 {
			<-other.got // their connects
		}
		drivers := c.nodes[0].Realtime.Drivers()
		receipts, err := recall.Send(drivers.To(realtime.DriverRoom("d1"), realtime.DriverRoom("d2"), realtime.DriverRoom("d3")).
			Except(realtime.DriverRoom("d3")).Volatile().Latest("key"), "v1")
		require.NoError(t, err)
		synctest.Wait()
		require.Len(t, other.got, 1)
		m := <-other.got
		require.JSONEq(t, `["vehicle:recall","v1"]`, "["+string(m.Event.Args[0])+","+string(m.Event.Args[1])+"]")
		m.Event = nil
		require.Equal(t, realtime.ClusterMessage{
			Version: realtime.ClusterVersion, Op: realtime.OpBroadcast, Namespace: realtime.NamespaceDrivers, From: m.From,
			Rooms: []string{"driver:d1", "driver:d2", "driver:d3"}, Except: []string{"driver:d3", "realtime:tracked"},
		}, m)
		for _, d := range clients {
			require.Equal(t, "v1", realtimetest.Expect(t, d, got))
		}
		require.Len(t, slices.Collect(receipts.All(t.Context())), len(clients))
		for _, d := range append(clients, out, passenger) {
			realtimetest.ExpectNone(t, d, got)
		}

		_, err = recall.Send(drivers.All(), "v2")
		require.NoError(t, err)
		synctest.Wait()
		require.Len(t, other.got, 1)
		m = <-other.got
		require.True(t, m.All)
		require.Equal(t, []string{"realtime:tracked"}, m.Except)
		_, err = recall.Send(drivers.All().Local(), "v3")
		require.NoError(t, err)
		synctest.Wait()
		require.Empty(t, other.got)
	})
}

// A socket that has proved that it has received the events has no acks pending for them.
func TestTracked_ReceivedGivesAckBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		nodes := realtimetest.NewCluster(t, 2, func(o *realtime.Options) { o.Limits.PendingAcks = 10 })
		query := realtime.NewQuery[string, string]("are:you:there")
		for _, n := range nodes {
			var s *realtime.Socket
			n.Realtime.Drivers().OnConnect(func(_ context.Context, connected *realtime.Socket) error { s = connected; return nil })
			n.Driver(t, "d1")
			synctest.Wait()
			for range 10 {
				receipts, err := recall.Send(nodes[0].Realtime.Drivers().All(), "v1")
				require.NoError(t, err)
				_, err = receipts.Wait(t.Context())
				require.NoError(t, err)
				synctest.Wait()
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			_, err := query.Ask(ctx, s, "x")
			require.ErrorIs(t, err, realtime.ErrAckTimeout)
		}
	})
}
