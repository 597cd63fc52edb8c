//go:build e2e

// One cluster of Go and Node servers, over a real Redis.

package redisadapter_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
)

var protocols = []string{"classic", "sharded"}

func TestRealRedis_Conforms(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			r := redistest.StartProcess(t)
			n := 0
			realtimetest.TestAdapter(t, func(t *testing.T, nodes int) []realtime.Adapter {
				n++
				o := redisadapter.Options{URL: r.URL(), Key: "test-" + string(rune('a'+n)), Sharded: protocol == "sharded"}
				return newCluster(t, nodes, o)
			})
		})
	}
}

// TestRealCluster_Conforms: a cluster of three masters. With the sharded protocol each slot
// has a connection. With the classic one all servers deliver a message, and each counts
// its own subscribers.
func TestRealCluster_Conforms(t *testing.T) {
	t.Parallel()
	url := redistest.StartCluster(t).URL()
	for _, protocol := range protocols {
		n := 0
		t.Run(protocol, func(t *testing.T) {
			realtimetest.TestAdapter(t, func(t *testing.T, nodes int) []realtime.Adapter {
				n++
				return newCluster(t, nodes, redisadapter.Options{URL: url, Key: protocol + "-" + string(rune('a'+n)), Sharded: protocol == "sharded"})
			})
		})
	}
}

// TestRealCluster_WithNode: the same cluster, and a Node server in it.
func TestRealCluster_WithNode(t *testing.T) {
	t.Parallel()
	url := redistest.StartCluster(t).URL()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			n := startNode(t, url, protocol, "CLUSTER=1")
			one, two := goServer(t, url, protocol), goServer(t, url, protocol)
			d1, d1b := one.Driver(t, "1"), two.Driver(t, "1")
			n.do("client", fields{"name": "n1", "rooms": []string{"driver:1"}, "data": fields{"userId": "1"}})
			testkit.Eventually(t, "the Node server counts three", func() bool { return string(n.do("servers", nil)) == "3" })
			require.NoError(t, one.Realtime.Drivers().To(driver1).EmitRaw("by:go", raw(`1`)))
			n.wants("n1", `["by:go",1]`)
			n.do("emit", fields{"rooms": []string{"driver:1"}, "args": []any{"by:node", 2}})
			for _, c := range []*realtimetest.Client{d1, d1b} {
				require.Equal(t, "[1]", nextEvent(t, c, "by:go"))
				require.Equal(t, "[2]", nextEvent(t, c, "by:node"))
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			sockets, err := one.Realtime.Drivers().To(driver1).Sockets(ctx)
			require.NoError(t, err)
			require.Len(t, sockets, 3)
			var seen []any
			require.NoError(t, json.Unmarshal(n.do("fetch", fields{"rooms": []string{"driver:1"}}), &seen))
			require.Len(t, seen, 3)
		})
	}
}

// mixed is a cluster of two Go servers and one Node server, each with clients of the
// drivers 1 and 2.
type mixed struct {
	one, two *realtimetest.Server
	node     *nodeServer
	redis    *redistest.Process
	// Clients: d1 and d2 are on the first Go server, d1b on the second.
	d1, d2, d1b *realtimetest.Client
}

func goServer(t *testing.T, url, protocol string) *realtimetest.Server {
	return realtimetest.NewServer(t, func(o *realtime.Options) {
		o.Cluster.Adapter = newAdapter(t, redisadapter.Options{URL: url, Sharded: protocol == "sharded"})
	})
}

func startMixed(t *testing.T, protocol string) *mixed {
	t.Helper()
	m := &mixed{redis: redistest.StartProcess(t)}
	m.node = startNode(t, m.redis.URL(), protocol)
	m.one, m.two = goServer(t, m.redis.URL(), protocol), goServer(t, m.redis.URL(), protocol)
	m.d1, m.d2, m.d1b = m.one.Driver(t, "1"), m.one.Driver(t, "2"), m.two.Driver(t, "1")
	m.node.do("client", fields{"name": "n1", "rooms": []string{"driver:1"}, "data": fields{"userId": "1", "sid": "s-n1", "phone": "+5355555555", "token": "secret-token"}})
	m.node.do("client", fields{"name": "n2", "rooms": []string{"driver:2"}})
	testkit.Eventually(t, "the Node server counts three", func() bool { return string(m.node.do("servers", nil)) == "3" })
	return m
}

// nextEvent returns the next event of that name, as JSON.
func nextEvent(t *testing.T, c *realtimetest.Client, event string) string {
	t.Helper()
	got, err := c.NextRaw(t.Context(), event)
	require.NoError(t, err, "%s, %s", c, event)
	b, err := json.Marshal(got.Args)
	require.NoError(t, err)
	return string(b)
}

func eachProtocol(t *testing.T, test func(t *testing.T, m *mixed)) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			test(t, startMixed(t, protocol))
		})
	}
}

var driver1, driver2 = realtime.DriverRoom("1"), realtime.DriverRoom("2")

func TestInterop_BroadcastsOfNode(t *testing.T) {
	eachProtocol(t, func(t *testing.T, m *mixed) {
		for _, emitter := range []bool{false, true} {
			if emitter && m.sharded() {
				return // the emitter speaks the classic protocol only
			}
			emit := func(f fields, args ...any) {
				f["args"], f["emitter"] = args, emitter
				m.node.do("emit", f)
			}
			emit(fields{}, "to:all", 1)
			emit(fields{"rooms": []string{"driver:1"}}, "to:one", map[string]any{"ñ": []any{1.5, nil, true}})
			emit(fields{"rooms": []string{"driver:1", "driver:2"}}, "to:two")
			emit(fields{"rooms": []string{"driver:1", "driver:2"}, "except": []string{"driver:2"}}, "to:two:but")
			emit(fields{"except": []string{"driver:1"}}, "to:all:but")
			emit(fields{"rooms": []string{"driver:1"}, "volatile": true}, "volatile")
			emit(fields{"rooms": []string{"driver:3"}}, "to:nobody")
			emit(fields{"rooms": []string{m.d1.ID()}}, "to:socket")
			emit(fields{"rooms": []string{"driver:1", "driver:2"}}, "photo", fields{"$binary": "AAH/"}, fields{"deep": []any{fields{"$binary": ""}}})
			emit(fields{}, "last")
			want := map[*realtimetest.Client][]string{
				m.d1:  {"to:all", "to:one", "to:two", "to:two:but", "volatile", "to:socket", "photo", "last"},
				m.d1b: {"to:all", "to:one", "to:two", "to:two:but", "volatile", "photo", "last"},
				m.d2:  {"to:all", "to:two", "to:all:but", "photo", "last"},
			}
			for c, events := range want {
				for _, e := range events {
					switch got := nextEvent(t, c, e); e {
					case "to:all":
						require.Equal(t, "[1]", got)
					case "to:one":
						require.Equal(t, `[{"ñ":[1.5,null,true]}]`, got)
					case "photo":
						require.JSONEq(t, `[{"_placeholder":true,"num":0},{"deep":[{"_placeholder":true,"num":1}]}]`, got)
					}
				}
				var received []string
				for _, r := range c.Received() {
					if slices.Contains([]string{"to:all", "to:one", "to:two", "to:two:but", "to:all:but", "volatile", "to:nobody", "to:socket", "photo", "last"}, r.Event) {
						received = append(received, r.Event)
						if r.Event == "photo" {
							require.Equal(t, [][]byte{{0, 1, 0xff}, {}}, r.Attachments)
						}
					}
				}
				require.Equal(t, events, received[len(received)-len(events):], "%s", c)
				if !emitter {
					require.Len(t, received, len(events), "%s receives each once", c)
				}
			}
		}
	})
}

// sharded reports whether the protocol is the sharded one, which the emitter does not
// speak.
func (m *mixed) sharded() bool {
	return strings.HasSuffix(m.node.cmd.Args[len(m.node.cmd.Args)-2], "sharded")
}

// receivedAfterHello returns the names of what a client has received since it connected.
func receivedAfterHello(c *realtimetest.Client) (names []string) {
	for _, r := range c.Received() {
		if r.Event != realtime.EventHello.Name() {
			names = append(names, r.Event)
		}
	}
	return names
}

// inRoom returns how many sockets of the cluster are in a room, as Node sees it.
func (m *mixed) inRoom(t *testing.T, room string) int {
	t.Helper()
	var found []any
	require.NoError(t, json.Unmarshal(m.node.do("fetch", fields{"rooms": []string{room}}), &found))
	return len(found)
}

func TestInterop_BroadcastsOfGo(t *testing.T) {
	eachProtocol(t, func(t *testing.T, m *mixed) {
		drivers := m.one.Realtime.Drivers()
		photo := raw(`{"_placeholder":true,"num":0}`, `{"deep":[{"_placeholder":true,"num":1}]}`)
		photo.Attachments = [][]byte{{0, 1, 0xff}, {}}
		for _, e := range []struct {
			event string
			to    realtime.Broadcast
			args  realtime.Raw
		}{
			{"one", drivers.To(driver1), raw(`{"ñ":[1.5,null,true,-1,"🚕"]}`)},
			{"two", drivers.To(driver1, driver2), raw(`1e3`, `"x"`)},
			{"but", drivers.To(driver1, driver2).Except(driver2), raw()},
			{"latest", drivers.To(driver1).Latest("k"), raw()},
			{"local", drivers.To(driver1).Local(), raw()},
			{"nobody", drivers.To(realtime.DriverRoom("3")), raw()},
			{"photo", drivers.To(driver1), photo},
			{"all", drivers.All(), raw(`1`)},
			{"all:but:2", drivers.All().Except(driver2), raw()},
			{"all:but:1", drivers.All().Except(driver1), raw()},
			{"all:but:both", drivers.All().Except(driver1, driver2), raw()},
			{"all:local", drivers.All().Local(), raw()},
			{"last", drivers.To(driver1, driver2), raw()},
		} {
			require.NoError(t, e.to.EmitRaw(e.event, e.args))
		}
		m.node.wants("n1", `["one",{"ñ":[1.5,null,true,-1,"🚕"]}]`, `["two",1000,"x"]`, `["but"]`, `["latest"]`,
			`["photo",{"$binary":"AAH/"},{"deep":[{"$binary":""}]}]`, `["all",1]`, `["all:but:2"]`, `["last"]`)
		m.node.wants("n2", `["two",1000,"x"]`, `["all",1]`, `["all:but:1"]`, `["last"]`)
		for c, want := range map[*realtimetest.Client]string{
			m.d1:  "one two but latest local photo all all:but:2 all:local last",
			m.d1b: "one two but latest photo all all:but:2 last",
			m.d2:  "two all all:but:1 all:local last",
		} {
			require.Equal(t, "[]", nextEvent(t, c, "last"))
			require.Equal(t, want, strings.Join(receivedAfterHello(c), " "), "%s", c)
		}
		// Node drops a volatile event while it writes to the client.
		testkit.Eventually(t, "one of many that are volatile arrives", func() bool {
			require.NoError(t, drivers.To(driver1).Volatile().EmitRaw("volatile", raw()))
			return slices.Contains(m.node.receivedBy("n1"), `["volatile"]`)
		})
	})
}

func TestInterop_RoomsAndDisconnects(t *testing.T) {
	eachProtocol(t, func(t *testing.T, m *mixed) {
		drivers := m.one.Realtime.Drivers()
		zone := realtime.NewRoom("zone", "havana")
		// A join, and an emit right after it: the room is new on every node.
		drivers.To(driver1).Join(zone)
		require.NoError(t, drivers.To(zone).EmitRaw("by:go", raw()))
		m.node.wants("n1", `["by:go"]`)
		for _, c := range []*realtimetest.Client{m.d1, m.d1b} {
			require.Equal(t, "[]", nextEvent(t, c, "by:go"))
		}
		require.Equal(t, 3, m.inRoom(t, zone.String()))
		drivers.To(driver1).Leave(zone)
		require.NoError(t, drivers.To(zone).EmitRaw("left", raw()))
		testkit.Eventually(t, "all have left, Node's socket too", func() bool { return m.inRoom(t, zone.String()) == 0 })

		m.node.do("join", fields{"rooms": []string{"driver:1"}, "targets": []string{"fresh"}})
		m.node.do("emit", fields{"rooms": []string{"fresh"}, "args": []any{"by:node"}})
		for _, c := range []*realtimetest.Client{m.d1, m.d1b} {
			require.Equal(t, "[]", nextEvent(t, c, "by:node"))
			require.NotContains(t, receivedAfterHello(c), "left")
		}
		if m.sharded() {
			m.node.wants("n1", `["by:go"]`, `["by:node"]`)
		} // otherwise Node's own sockets join when the message has arrived from Redis
		m.node.do("leave", fields{"rooms": []string{"driver:1"}, "targets": []string{"fresh"}})
		m.node.do("emit", fields{"rooms": []string{"fresh"}, "args": []any{"after"}})

		drivers.To(driver2).Disconnect()
		require.Equal(t, realtimetest.ReasonServer, m.d2.Disconnected(t))
		m.node.wants("n2", `["disconnect","io server disconnect"]`)
		m.node.do("disconnect", fields{"rooms": []string{"driver:1"}, "close": true})
		for _, c := range []*realtimetest.Client{m.d1, m.d1b} {
			require.Equal(t, realtimetest.ReasonTransportClose, c.Disconnected(t))
			require.NotContains(t, receivedAfterHello(c), "after")
		}
		testkit.Eventually(t, "Node's socket ends", func() bool { return strings.Contains(strings.Join(m.node.receivedBy("n1"), " "), `"disconnect"`) })
		require.NotContains(t, m.node.receivedBy("n1"), `["left"]`)
	})
}

func TestInterop_FetchedSockets(t *testing.T) {
	eachProtocol(t, func(t *testing.T, m *mixed) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		sockets, err := m.one.Realtime.Drivers().To(driver1).Sockets(ctx)
		require.NoError(t, err, "it has not waited until its time was over")
		require.Len(t, sockets, 3)
		for _, s := range sockets {
			require.Equal(t, "1", s.Identity.UserID)
			require.Contains(t, s.Rooms, driver1)
		}
		n, err := m.one.Realtime.Drivers().To(driver1).Count(ctx)
		require.NoError(t, err)
		require.Equal(t, 3, n, "the sockets of the Node server are counted")
		page, err := m.one.Realtime.Drivers().To(driver1).SocketsPage(ctx, "", 2)
		require.NoError(t, err)
		require.Len(t, page, 2)

		var seen []struct {
			ID            string
			Rooms         []string
			Data          map[string]any
			Auth, Headers map[string]any
		}
		require.NoError(t, json.Unmarshal(m.node.do("fetch", fields{"rooms": []string{"driver:1"}}), &seen))
		require.Len(t, seen, 3)
		for _, s := range seen {
			if s.ID == m.d1.ID() {
				require.ElementsMatch(t, []string{"driver:1", "session:" + realtimetest.SessionID("1")}, s.Rooms)
				require.NotEmpty(t, s.Data["at"], "when it connected")
				delete(s.Data, "at")
				require.Equal(t, map[string]any{"userId": "1", "userType": "driver", "sid": realtimetest.SessionID("1")}, s.Data)
				require.Empty(t, s.Auth)
				require.Empty(t, s.Headers)
			}
		}
		if m.sharded() {
			return // the sharded adapter has no such request
		}
		var rooms []string
		require.NoError(t, json.Unmarshal(m.node.do("allRooms", nil), &rooms))
		for _, want := range []string{"driver:1", "driver:2", m.d1.ID(), "session:" + realtimetest.SessionID("2")} {
			require.Contains(t, rooms, want)
		}
	})
}

func TestInterop_ServerSideEmits(t *testing.T) {
	eachProtocol(t, func(t *testing.T, m *mixed) {
		received := make(chan string, 10)
		for _, s := range []*realtimetest.Server{m.one, m.two} {
			s.Realtime.Drivers().OnServerEmit("hello", func(r realtime.Raw) {
				b, _ := json.Marshal(r.Args)
				received <- string(b)
			})
		}
		next := func() string {
			select {
			case h := <-received:
				return h
			case <-time.After(patience):
				t.Fatal("no server-side emit arrives")
				return ""
			}
		}
		m.node.do("serverEmit", fields{"args": []any{"hello", fields{"n": 1}}})
		require.Equal(t, []string{`[{"n":1}]`, `[{"n":1}]`}, []string{next(), next()})
		require.JSONEq(t, `[null,null]`, string(m.node.do("serverEmitWithAck", fields{"args": []any{"hello", 2}})))
		require.Equal(t, []string{`[2]`, `[2]`}, []string{next(), next()})
		if !m.sharded() {
			m.node.do("serverEmit", fields{"emitter": true, "args": []any{"hello", "emitter"}})
			require.Equal(t, []string{`["emitter"]`, `["emitter"]`}, []string{next(), next()})
			testkit.Eventually(t, "Node receives it", func() bool { return slices.Contains(m.node.receivedBy("server"), `["hello","emitter"]`) })
		}
		require.NoError(t, m.one.Realtime.Drivers().ServerEmit(t.Context(), "hello", 3))
		require.Equal(t, `[3]`, next())
		testkit.Eventually(t, "Node receives it", func() bool { return slices.Contains(m.node.receivedBy("server"), `["hello",3]`) })
		// Node does not receive the Go nodes' state.
		m.one.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "1"})
		require.NoError(t, m.one.Realtime.Drivers().ServerEmit(t.Context(), "hello", 4))
		testkit.Eventually(t, "Node receives it", func() bool { return slices.Contains(m.node.receivedBy("server"), `["hello",4]`) })
		for _, e := range m.node.receivedBy("server") {
			require.Contains(t, e, "hello")
		}
	})
}

func TestInterop_BroadcastAcks(t *testing.T) {
	eachProtocol(t, func(t *testing.T, m *mixed) {
		where := realtime.NewQuery[string, string]("where")
		for name, c := range map[string]*realtimetest.Client{"go 1": m.d1, "go 2": m.d1b} {
			realtimetest.Answer(c, where, func(in string) string { return in + " of " + name })
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		got, err := where.AskAll(ctx, m.one.Realtime.Drivers().To(driver1), "ack")
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"ack of go 1", "ack of go 2", "ack of n1"}, got)
		require.NoError(t, ctx.Err())

		var acks []string
		require.NoError(t, json.Unmarshal(m.node.do("ask", fields{"rooms": []string{"driver:1"}, "timeout": 10000, "args": []any{"where", "ack"}}), &acks))
		require.ElementsMatch(t, []string{"ack of go 1", "ack of go 2", "ack of n1"}, acks)
	})
}

// TestInterop_NodeAnswersOnItsChannel: Node's option publishOnSpecificResponseChannel.
func TestInterop_NodeAnswersOnItsChannel(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	n := startNode(t, r.URL(), "classic", "SPECIFIC=1")
	n.do("client", fields{"name": "n1", "rooms": []string{"driver:1"}})
	s := goServer(t, r.URL(), "classic")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	sockets, err := s.Realtime.Drivers().To(driver1).Sockets(ctx)
	require.NoError(t, err)
	require.Len(t, sockets, 1)
}

// TestInterop_Revocation: a Node server disconnects the sockets, and receives none of the
// Go servers' further messages.
func TestInterop_Revocation(t *testing.T) {
	eachProtocol(t, func(t *testing.T, m *mixed) {
		m.node.do("client", fields{"name": "revoked", "rooms": []string{"session:" + realtimetest.SessionID("1")}})
		m.one.Sessions.Revoke(realtimetest.SessionID("1"))
		m.one.Publish(t, realtime.SessionRevoked{SessionID: realtimetest.SessionID("1"), UserID: "1", Reason: "stolen"})
		for _, c := range []*realtimetest.Client{m.d1, m.d1b} {
			require.Equal(t, realtimetest.ReasonServer, c.Disconnected(t))
		}
		testkit.Eventually(t, "the socket on the Node server ends", func() bool {
			return slices.Contains(m.node.receivedBy("revoked"), `["disconnect","io server disconnect"]`)
		})
		require.True(t, m.d2.Connected())
		require.Empty(t, m.node.receivedBy("server"))
		require.NotContains(t, strings.Join(m.node.receivedBy("n1"), " "), "io server disconnect")
	})
}

// TestInterop_GoServerLeaves: Node does not wait for a Go server that has closed or was
// killed.
func TestInterop_GoServerLeaves(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			r := redistest.StartProcess(t)
			n := startNode(t, r.URL(), protocol)
			n.do("client", fields{"name": "n1", "rooms": []string{"driver:1"}})
			s := goServer(t, r.URL(), protocol)
			testkit.Eventually(t, "the Node server counts two", func() bool { return string(n.do("servers", nil)) == "2" })
			s.Close()
			for range 20 {
				result, err := n.try("fetch", fields{"rooms": []string{"driver:1"}})
				require.NoError(t, err)
				require.Contains(t, string(result), "driver:1")
			}
		})
	}
}

// TestInterop_PositionsCross: while a Node server is in the cluster, positions cross, whatever the
// Go nodes have announced. Without one they cross only to receivers.
func TestInterop_PositionsCross(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			r := redistest.StartProcess(t)
			watcher := &recorder{} // a Go node that says whether there are others
			w := newAdapter(t, redisadapter.Options{URL: r.URL(), Sharded: protocol == "sharded", Namespaces: []string{ns}})
			require.NoError(t, w.Start(t.Context(), watcher))
			t.Cleanup(func() { require.NoError(t, w.Close(context.Background())) })
			s := goServer(t, r.URL(), protocol)
			driver := s.Driver(t, "1")
			testkit.Eventually(t, "the Go nodes are alone", watcher.onlyPeers)
			n := startNode(t, r.URL(), protocol)
			n.do("client", fields{"name": "n1", "rooms": []string{"driver:1"}})
			testkit.Eventually(t, "there is a Node server", func() bool { return !watcher.onlyPeers() })
			testkit.Eventually(t, "its client receives a position", func() bool {
				in := realtime.LocationPing{Position: &realtime.Position{Lat: 23.1, Lng: -82.4}}
				_, err := realtimetest.Call(t.Context(), driver, realtime.DriverLocationPing, in)
				require.NoError(t, err)
				time.Sleep(100 * time.Millisecond)
				return len(n.receivedBy("n1")) > 0
			})
			require.Contains(t, n.receivedBy("n1")[0], "driver:location:update")
			n.end()
			testkit.Eventually(t, "the Node server has ended", watcher.onlyPeers)
		})
	}
}
