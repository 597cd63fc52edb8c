// Broadcasts on one node and on two: the sockets that they select, the operations, and the acks.

package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// onNodes runs a test on one node and on two; there is nodes[1] in any case.
func onNodes(t *testing.T, f func(t *testing.T, nodes []*realtimetest.Server), configure ...func(o *realtime.Options)) {
	t.Helper()
	t.Parallel()
	for n := range 2 {
		t.Run(fmt.Sprint(n+1), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				if n == 0 {
					srv := realtimetest.NewServer(t, configure...)
					f(t, []*realtimetest.Server{srv, srv})
				} else {
					f(t, realtimetest.NewCluster(t, 2, configure...))
				}
			})
		})
	}
}

var zone = realtime.NewRoom("zone", "havana")

// sockets are those of a namespace, by id.
type sockets struct {
	mu   sync.Mutex // guards the fields below
	byID map[string]*realtime.Socket
}

// remember makes a namespace keep its sockets.
func remember(ns *realtime.Namespace) *sockets {
	k := &sockets{byID: map[string]*realtime.Socket{}}
	ns.OnConnect(func(_ context.Context, s *realtime.Socket) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.byID[s.ID()] = s
		return nil
	})
	return k
}

// of finds a client's socket.
func (k *sockets) of(t *testing.T, c *realtimetest.Client) *realtime.Socket {
	t.Helper()
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	require.Contains(t, k.byID, c.ID())
	return k.byID[c.ID()]
}

func TestBroadcast_Selects(t *testing.T) {
	onNodes(t, func(t *testing.T, nodes []*realtimetest.Server) {
		ns := nodes[0].Realtime.Drivers()
		known := remember(ns)
		clients := map[string]*realtimetest.Client{
			"d1": nodes[0].Driver(t, "d1", realtimetest.Session("s1")), "d1 there": nodes[1].Driver(t, "d1", realtimetest.Session("s2")),
			"d2": nodes[0].Driver(t, "d2"), "d3 there": nodes[1].Driver(t, "d3"),
		}
		d1, d2, d3 := realtime.DriverRoom("d1"), realtime.DriverRoom("d2"), realtime.DriverRoom("d3")
		one := known.of(t, clients["d1"])
		base := ns.To(d1)
		withTwo, withThree := base.To(d2), base.To(d3)

		here := "d1"
		if nodes[0] == nodes[1] {
			here = "d1, d1 there"
		}
		for name, c := range map[string]struct {
			to   realtime.Broadcast
			want string
		}{
			"one room":                  {base, "d1, d1 there"},
			"two rooms":                 {withTwo, "d1, d1 there, d2"},
			"two other rooms":           {withThree, "d1, d1 there, d3 there"},
			"once for each socket":      {ns.To(d1, realtime.SessionRoom("s1"), realtime.SessionRoom("s2"), d1), "d1, d1 there"},
			"Except a room":             {ns.To(d1, d2, d3).Except(d2, realtime.SessionRoom("s2")), "d1, d3 there"},
			"Except all":                {ns.To(d1).Except(d1), ""},
			"ExceptSocket":              {ns.To(d1, d2).ExceptSocket(one), "d1 there, d2"},
			"ExceptSocket of a far one": {nodes[1].Realtime.Drivers().To(d1, d2).ExceptSocket(one), "d1 there, d2"},
			"Local":                     {ns.To(d1).Local(), here},
			"Volatile, to who reads":    {ns.To(d1).Volatile(), "d1, d1 there"},
			"Latest, to who reads":      {ns.To(d1).Latest("k"), "d1, d1 there"},
			"an empty room":             {ns.To(zone), ""},
			"a room of another's":       {nodes[0].Realtime.Passengers().To(d1), ""},
			"no room":                   {ns.To(), ""},
			"no room, but for one":      {ns.To().Except(d1), ""},
			"no room that ever existed": {ns.To(realtime.Room{}), ""},
		} {
			require.NoError(t, wireNote.Emit(c.to, name))
			synctest.Wait()
			var got []string
			for who, client := range clients {
				for _, r := range client.Received()[1:] {
					if string(r.Args[0]) == fmt.Sprintf("%q", name) {
						got = append(got, who)
					}
				}
			}
			slices.Sort(got)
			require.Equal(t, c.want, strings.Join(got, ", "), name)
		}
	})
}

func TestBroadcast_OfBinary(t *testing.T) {
	onNodes(t, func(t *testing.T, nodes []*realtimetest.Server) {
		clients := all(nodes[0].Driver(t, "d1"), nodes[1].Driver(t, "d1"), nodes[1].Driver(t, "d1", realtimetest.Polling()))
		to := nodes[0].Realtime.Drivers().To(realtime.DriverRoom("d1"))
		photo := realtime.Raw{
			Args: []json.RawMessage{
				[]byte(`{"photo":{"_placeholder":true,"num":1},"n":[{"_placeholder":true,"num":0}]}`), []byte(`"ñ 🚕"`),
			},
			Attachments: [][]byte{{0, 1, 0xff}, {}},
		}
		require.NoError(t, to.EmitRaw("test:photo", photo))
		require.NoError(t, to.Volatile().EmitRaw("test:photo", photo))
		require.NoError(t, to.Latest("k").EmitRaw("test:photo", photo))
		require.NoError(t, to.EmitRaw("test:nothing", realtime.Raw{}))
		for _, c := range clients {
			for range 3 {
				got, err := c.NextRaw(t.Context(), "test:photo")
				require.NoError(t, err)
				require.Equal(t, photo.Args, got.Args)
				require.Len(t, got.Attachments, 2)
				require.Equal(t, photo.Attachments[0], got.Attachments[0])
				require.Empty(t, got.Attachments[1])
			}
			got, err := c.NextRaw(t.Context(), "test:nothing")
			require.NoError(t, err)
			require.Empty(t, got.Args)
		}
	})
}

func TestBroadcast_JoinAndLeave(t *testing.T) {
	onNodes(t, func(t *testing.T, nodes []*realtimetest.Server) {
		ns := nodes[0].Realtime.Drivers()
		one, two, other := nodes[0].Driver(t, "d1"), nodes[1].Driver(t, "d1"), nodes[1].Driver(t, "d2")
		own := ns.To(realtime.DriverRoom("d1"))
		in := func(to realtime.Broadcast) (ids []string) {
			sockets, err := to.Sockets(t.Context())
			require.NoError(t, err)
			for _, s := range sockets {
				ids = append(ids, s.ID)
				require.Equal(t, realtime.NamespaceDrivers, s.Namespace)
				require.Equal(t, realtime.UserDriver, s.Identity.UserType)
				require.Equal(t, realtimetest.SessionID(s.Identity.UserID), s.Identity.SessionID)
				require.Contains(t, s.Rooms, realtime.DriverRoom(s.Identity.UserID))
			}
			return ids
		}
		own.Join(zone, realtime.NewRoom("zone", "vedado"))
		own.Join(zone)
		synctest.Wait()
		require.ElementsMatch(t, []string{one.ID(), two.ID()}, in(ns.To(zone)))
		require.ElementsMatch(t, []string{one.ID(), two.ID()}, in(ns.To(zone, realtime.DriverRoom("d1"))))
		require.Equal(t, []string{other.ID()}, in(ns.To(zone, realtime.DriverRoom("d2")).Except(zone)))
		require.Empty(t, in(ns.To()))
		require.Empty(t, in(nodes[1].Realtime.Drivers().To(realtime.DriverRoom("d9"))))

		own.Leave(zone, realtime.DriverRoom("nobody"))
		synctest.Wait()
		require.Empty(t, in(ns.To(zone)))
		require.Len(t, in(ns.To(realtime.NewRoom("zone", "vedado"))), 2)
		ns.To().Join(zone)
		ns.To().Leave(realtime.DriverRoom("d1"))
		synctest.Wait()
		require.Empty(t, in(ns.To(zone)))
		require.Len(t, in(own), 2)
	})
}

func TestBroadcast_DisconnectAndClose(t *testing.T) {
	onNodes(t, func(t *testing.T, nodes []*realtimetest.Server) {
		ns := nodes[0].Realtime.Drivers()
		d1, d2, d3, d4 := nodes[0].Driver(t, "d1"), nodes[1].Driver(t, "d1"), nodes[1].Driver(t, "d2"), nodes[0].Driver(t, "d3")
		// d2's connection carries another namespace.
		second, err := d2.Join(t.Context(), realtime.NamespacePassengers, realtimetest.Token(nodes[1].Login("p1", realtime.UserPassenger)))
		require.NoError(t, err)

		ns.To().Disconnect()
		ns.To().Close()
		room := ns.To(realtime.DriverRoom("d1"))
		require.NoError(t, wireNote.Emit(room, "last words"))
		room.Disconnect()
		for _, c := range all(d1, d2) {
			require.Equal(t, realtimetest.ReasonServer, c.Disconnected(t))
			require.Equal(t, "last words", realtimetest.Expect(t, c, wireNote))
		}
		synctest.Wait()
		require.True(t, second.Connected(), "a connection with another socket on it stays")
		require.True(t, d3.Connected())

		ns.To(realtime.DriverRoom("d2")).Close()
		require.Equal(t, realtimetest.ReasonTransportClose, d3.Disconnected(t))
		require.True(t, d4.Connected())
		require.True(t, second.Connected())
		nodes[0].Realtime.Passengers().To(realtime.PassengerRoom("p1")).Disconnect()
		require.Equal(t, realtimetest.ReasonServer, second.Disconnected(t))
	})
}

func TestSocket_Emit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		known := remember(srv.Realtime.Drivers())
		client := srv.Driver(t, "d1")
		s := known.of(t, client)
		require.NoError(t, wireNote.Emit(s, "hello"))
		require.Equal(t, "hello", realtimetest.Expect(t, client, wireNote))
		require.NoError(t, s.EmitRaw("test:pair", realtime.Raw{Args: []json.RawMessage{[]byte(`1`), []byte(`2`)}}))
		got, err := client.NextRaw(t.Context(), "test:pair")
		require.NoError(t, err)
		require.Len(t, got.Args, 2)

		bad := realtime.NewEvent[func()]("test:bad")
		require.ErrorContains(t, bad.Emit(s, func() {}), "test:bad")
		require.ErrorContains(t, bad.Emit(srv.Realtime.Drivers().To(realtime.DriverRoom("d1")), func() {}), "test:bad")

		require.True(t, s.Connected())
		require.Equal(t, srv.Realtime.Drivers(), s.Namespace())
		require.Equal(t, realtime.Identity{UserID: "d1", UserType: realtime.UserDriver, SessionID: realtimetest.SessionID("d1")}, s.Identity())
		require.ElementsMatch(t, []realtime.Room{realtime.DriverRoom("d1"), realtime.SessionRoom(realtimetest.SessionID("d1"))}, s.Rooms())
		require.True(t, s.Join(zone))
		require.Contains(t, s.Rooms(), zone)
		s.Leave(zone)
		require.NotContains(t, s.Rooms(), zone)

		s.Disconnect()
		require.Equal(t, realtimetest.ReasonServer, client.Disconnected(t))
		require.ErrorIs(t, wireNote.Emit(s, "too late"), realtime.ErrClosed)
		require.False(t, s.Join(zone))
		require.False(t, s.Connected())
		synctest.Wait() // the socket leaves its rooms after the client has received DISCONNECT
		require.Empty(t, s.Rooms())
		s.Leave(zone)
		s.Disconnect()
		s.Close()
		_, err = whereAreYou.Ask(t.Context(), s, "")
		require.ErrorIs(t, err, realtime.ErrClosed)
		require.Equal(t, "d1", s.Identity().UserID)
	})
}

func TestSocket_Close(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		known := remember(srv.Realtime.Drivers())
		client := srv.Driver(t, "d1")
		second, err := client.Join(t.Context(), realtime.NamespacePassengers, realtimetest.Token(srv.Login("p1", realtime.UserPassenger)))
		require.NoError(t, err)
		s := known.of(t, client)
		require.NoError(t, wireNote.Emit(s, "last words"))
		s.Close()
		require.Equal(t, realtimetest.ReasonTransportClose, client.Disconnected(t))
		require.Equal(t, realtimetest.ReasonTransportClose, second.Disconnected(t))
		require.Equal(t, "last words", realtimetest.Expect(t, client, wireNote))
	})
}

// whereAreYou asks a client.
var whereAreYou = realtime.NewQuery[string, string]("test:where")

func TestQuery_Ask(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		known := remember(srv.Realtime.Drivers())
		client := srv.Driver(t, "d1")
		s := known.of(t, client)
		ask := func(d time.Duration) (string, error) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			return whereAreYou.Ask(ctx, s, "where?")
		}
		begun := time.Now()
		_, err := ask(time.Second)
		require.ErrorIs(t, err, realtime.ErrAckTimeout)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(begun))

		realtimetest.Answer(client, whereAreYou, func(in string) string { return in + " here" })
		answer, err := ask(time.Second)
		require.NoError(t, err)
		require.Equal(t, "where? here", answer)

		client.AnswerRaw("test:where", func(realtime.Raw) realtime.Raw {
			return realtime.Raw{Args: []json.RawMessage{[]byte(`{"not":"a string"}`)}}
		})
		_, err = ask(time.Second)
		require.ErrorContains(t, err, "ack of test:where")

		client.AnswerRaw("test:where", func(realtime.Raw) realtime.Raw { return realtime.Raw{} })
		answer, err = ask(time.Second)
		require.NoError(t, err)
		require.Empty(t, answer, "an ack without an argument is the zero answer")

		// An answer after the timeout is ignored.
		client.AnswerRaw("test:where", func(realtime.Raw) realtime.Raw {
			time.Sleep(2 * time.Second)
			return realtime.Raw{Args: []json.RawMessage{[]byte(`"late"`)}}
		})
		_, err = ask(time.Second)
		require.ErrorIs(t, err, realtime.ErrAckTimeout)
		time.Sleep(2 * time.Second)
		require.True(t, client.Connected())

		// A client that disconnects does not answer.
		client.AnswerRaw("test:where", nil)
		gone := make(chan error)
		go func() {
			_, err := ask(time.Minute)
			gone <- err
		}()
		synctest.Wait()
		client.Drop()
		require.ErrorIs(t, <-gone, realtime.ErrClosed)

		bad := realtime.NewQuery[func(), string]("test:bad")
		_, err = bad.Ask(t.Context(), s, func() {})
		require.ErrorContains(t, err, "test:bad")
		_, err = bad.AskAll(t.Context(), srv.Realtime.Drivers().To(realtime.DriverRoom("d1")), func() {})
		require.ErrorContains(t, err, "test:bad")
	})
}

// A handler may ask the very client whose event it handles.
func TestQuery_AskWithinAHandler(t *testing.T) {
	onNodes(t, func(t *testing.T, nodes []*realtimetest.Server) {
		ns := nodes[0].Realtime.Drivers()
		check := realtime.NewCall[realtime.None, []string]("test:check")
		check.Handle(ns, func(ctx context.Context, s *realtime.Socket, _ realtime.None) ([]string, error) {
			mine, err := whereAreYou.Ask(ctx, s, "you")
			if err != nil {
				return nil, err
			}
			everyone, err := whereAreYou.AskAll(ctx, s.Namespace().To(realtime.DriverRoom(s.Identity().UserID)), "all")
			slices.Sort(everyone)
			return append([]string{mine}, everyone...), err
		})
		one, two := nodes[0].Driver(t, "d1"), nodes[1].Driver(t, "d1")
		realtimetest.Answer(one, whereAreYou, func(in string) string { return in + " one" })
		realtimetest.Answer(two, whereAreYou, func(in string) string { return in + " two" })
		got, err := realtimetest.Call(t.Context(), one, check, realtime.None{})
		require.NoError(t, err)
		require.Equal(t, []string{"you one", "all one", "all two"}, got)

		silent := nodes[0].Driver(t, "d2")
		_, err = realtimetest.Call(t.Context(), silent.Within(time.Minute), check, realtime.None{})
		var refusal *realtime.Error
		require.ErrorAs(t, err, &refusal)
		require.Equal(t, realtime.CodeUnavailable, refusal.Code, "Options.Timeouts.Handler ended the question")
	})
}

func TestQuery_AskAll(t *testing.T) {
	onNodes(t, func(t *testing.T, nodes []*realtimetest.Server) {
		ns := nodes[0].Realtime.Drivers()
		one, two, three := nodes[0].Driver(t, "d1"), nodes[1].Driver(t, "d1"), nodes[1].Driver(t, "d1", realtimetest.Session("s3"))
		answer := func(c *realtimetest.Client, with string) {
			realtimetest.Answer(c, whereAreYou, func(string) string { return with })
		}
		ask := func(to realtime.Broadcast) ([]string, error) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			got, err := whereAreYou.AskAll(ctx, to, "")
			slices.Sort(got)
			return got, err
		}
		room := ns.To(realtime.DriverRoom("d1"))
		answer(one, "one")
		answer(two, "two")
		answer(three, "three")
		begun := time.Now()
		got, err := ask(room)
		require.NoError(t, err)
		require.Equal(t, []string{"one", "three", "two"}, got)
		got, err = ask(room.Except(realtime.SessionRoom("s3")))
		require.NoError(t, err)
		require.Equal(t, []string{"one", "two"}, got)
		got, err = ask(ns.To())
		require.NoError(t, err)
		require.Empty(t, got)
		got, err = ask(ns.To(zone))
		require.NoError(t, err)
		require.Empty(t, got)
		require.Zero(t, time.Since(begun), "nobody was waited for")

		three.AnswerRaw("test:where", func(realtime.Raw) realtime.Raw {
			return realtime.Raw{Args: []json.RawMessage{[]byte(`7`)}}
		})
		got, err = ask(room)
		require.ErrorContains(t, err, "ack of test:where")
		require.NotErrorIs(t, err, realtime.ErrAckTimeout)
		require.Equal(t, []string{"one", "two"}, got, "one client's nonsense does not cost the others' answers")

		three.AnswerRaw("test:where", nil)
		got, err = ask(room)
		require.ErrorIs(t, err, realtime.ErrAckTimeout)
		require.Equal(t, []string{"one", "two"}, got)

		// AskAll does not wait for a socket that has closed.
		begun = time.Now()
		go func() {
			time.Sleep(100 * time.Millisecond)
			three.Drop()
		}()
		got, err = ask(room)
		require.NoError(t, err)
		require.Equal(t, []string{"one", "two"}, got)
		require.Equal(t, 100*time.Millisecond, time.Since(begun))
	})
}

// Every operation on All: emit, count, list, ask, join, leave, disconnect and close.
func TestBroadcast_All(t *testing.T) {
	onNodes(t, func(t *testing.T, nodes []*realtimetest.Server) {
		ns := nodes[0].Realtime.Drivers()
		known := remember(ns)
		one, two, three := nodes[0].Driver(t, "d1"), nodes[1].Driver(t, "d2"), nodes[1].Driver(t, "d3")
		passenger := nodes[1].Passenger(t, "p1")
		d1 := realtime.DriverRoom("d1")
		here := 1
		if nodes[0] == nodes[1] {
			here = 3
		}
		count := func(b realtime.Broadcast) int {
			n, err := b.Count(t.Context())
			require.NoError(t, err)
			found, err := b.Sockets(t.Context())
			require.NoError(t, err)
			require.Len(t, found, n)
			return n
		}
		require.Equal(t, 3, count(ns.All()))
		require.Equal(t, here, count(ns.All().Local()))
		require.Equal(t, 2, count(ns.All().Except(d1)))
		require.Equal(t, 2, count(ns.All().ExceptSocket(known.of(t, one))))
		require.Equal(t, 1, count(ns.All().To(d1)), "To leaves those in the room")
		require.Equal(t, 0, count(ns.All().To()))
		require.Equal(t, 0, count(ns.To()))
		require.Equal(t, 1, count(ns.To(d1)))
		require.Equal(t, 2, count(ns.To(d1, realtime.DriverRoom("d3"))))
		require.Equal(t, 0, count(ns.To(zone)))
		require.Equal(t, 0, count(realtime.Broadcast{}))
		require.Equal(t, 0, count(realtime.Broadcast{}.To(d1)))

		require.NoError(t, wireNote.Emit(ns.All(), "everybody"))
		require.NoError(t, wireNote.Emit(ns.All().Except(d1), "but one"))
		require.NoError(t, wireNote.Emit(ns.All().To(), "nobody"))
		require.NoError(t, wireNote.Emit(realtime.Broadcast{}, "nobody"))
		require.NoError(t, wireNote.Emit(realtime.Broadcast{}.To(d1), "nobody"))
		require.NoError(t, wireNote.Emit(nodes[0].Realtime.Passengers().All(), "passengers"))
		for c, want := range map[*realtimetest.Client][]string{
			one: {"everybody"}, two: {"everybody", "but one"}, three: {"everybody", "but one"}, passenger: {"passengers"},
		} {
			for _, text := range want {
				require.Equal(t, text, realtimetest.Expect(t, c, wireNote))
			}
			realtimetest.ExpectNone(t, c)
		}

		for _, c := range all(one, two, three) {
			realtimetest.Answer(c, whereAreYou, func(string) string { return c.ID() })
		}
		answers, err := whereAreYou.AskAll(t.Context(), ns.All(), "")
		require.NoError(t, err)
		require.ElementsMatch(t, []string{one.ID(), two.ID(), three.ID()}, answers)
		answers, err = whereAreYou.AskAll(t.Context(), realtime.Broadcast{}, "")
		require.NoError(t, err)
		require.Empty(t, answers)

		ns.All().Join(zone)
		synctest.Wait()
		require.Equal(t, 3, count(ns.To(zone)))
		ns.All().Except(d1).Leave(zone)
		synctest.Wait()
		require.Equal(t, 1, count(ns.To(zone)))
		realtime.Broadcast{}.Join(zone)
		realtime.Broadcast{}.To(d1).Join(zone)
		realtime.Broadcast{}.Disconnect()
		realtime.Broadcast{}.Close()
		ns.All().Except(d1).Disconnect()
		require.Equal(t, realtimetest.ReasonServer, two.Disconnected(t))
		require.Equal(t, realtimetest.ReasonServer, three.Disconnected(t))
		require.Equal(t, 1, count(ns.All()))
		ns.All().Close()
		require.Equal(t, realtimetest.ReasonTransportClose, one.Disconnected(t))
		require.True(t, passenger.Connected())
	})
}

func TestBroadcast_SocketsPage(t *testing.T) {
	onNodes(t, func(t *testing.T, nodes []*realtimetest.Server) {
		ns := nodes[0].Realtime.Drivers()
		var want []string
		for n := range 23 {
			want = append(want, nodes[n%2].Driver(t, fmt.Sprint("d", n)).ID())
		}
		slices.Sort(want)
		pages := func(b realtime.Broadcast, n int) (ids []string) {
			after := ""
			for {
				found, err := b.SocketsPage(t.Context(), after, n)
				require.NoError(t, err)
				require.LessOrEqual(t, len(found), n)
				for _, s := range found {
					require.Equal(t, realtimetest.SessionID(s.Identity.UserID), s.Identity.SessionID)
					ids = append(ids, s.ID)
				}
				if len(found) < n {
					return ids
				}
				after = found[n-1].ID
			}
		}
		for _, n := range []int{1, 2, 7, 22, 23, 24, 100} {
			require.Equal(t, want, pages(ns.All(), n), n)
		}
		require.Len(t, pages(ns.To(realtime.DriverRoom("d1"), realtime.DriverRoom("d2")), 1), 2)
		require.Len(t, pages(ns.All().Except(realtime.DriverRoom("d1")), 5), 22)
		require.Empty(t, pages(ns.To(), 5))
		for _, n := range []int{0, -1} {
			found, err := ns.All().SocketsPage(t.Context(), "", n)
			require.NoError(t, err)
			require.Empty(t, found)
		}
	})
}

func TestBroadcast_CountOfANodeThatIsSilent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		far := hub.Node()
		a := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
		b := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = far })
		a.Driver(t, "d1")
		b.Driver(t, "d2")
		far.Cut()
		n, err := a.Realtime.Drivers().All().Count(t.Context())
		require.Error(t, err)
		require.Equal(t, 1, n)
		found, err := a.Realtime.Drivers().All().SocketsPage(t.Context(), "", 10)
		require.Error(t, err)
		require.Len(t, found, 1)
	})
}

// countedUsers counts how often it is asked.
type countedUsers struct {
	realtime.UserRepo
	asked *atomic.Int64
}

func (c countedUsers) FindUser(ctx context.Context, id string) (realtime.User, error) {
	c.asked.Add(1)
	return c.UserRepo.FindUser(ctx, id)
}

// Only a revocation forgets cached rows and refuses pending handshakes. Disconnecting a room does
// neither.
func TestBroadcast_DisconnectIsNoRevocation(t *testing.T) {
	t.Parallel()
	for from, name := range []string{"other node", "same node"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var asked atomic.Int64
				nodes := realtimetest.NewCluster(t, 2, func(o *realtime.Options) {
					o.Users, o.Timeouts.RepoCache = countedUsers{o.Users, &asked}, time.Hour
				})
				near, far := nodes[from], nodes[1]
				token := nodes[0].Login("d1", realtime.UserDriver)
				connect := func() (*realtimetest.Client, error) {
					return far.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token))
				}
				first, err := connect()
				require.NoError(t, err)
				entered, release := far.Tokens.Block() // in no room yet
				connected := make(chan error)
				go func() {
					_, err := connect()
					connected <- err
				}()
				<-entered
				before := asked.Load()
				near.Realtime.Drivers().To(realtime.DriverRoom("d1"), realtime.SessionRoom(realtimetest.SessionID("d1"))).Disconnect()
				require.Equal(t, realtimetest.ReasonServer, first.Disconnected(t))
				synctest.Wait()
				release()
				require.NoError(t, <-connected)
				_, err = connect()
				require.NoError(t, err)
				require.Equal(t, before, asked.Load(), "the row is remembered")

				near.Publish(t, realtime.SessionRevoked{SessionID: "of nobody"})
				synctest.Wait()
				_, err = connect()
				require.NoError(t, err)
				require.Equal(t, before+1, asked.Load(), "a revocation forgets it")
			})
		})
	}
}
